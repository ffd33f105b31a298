"""Curvature at work: contraction, trust regions, the log-ratio surrogate, and gradients of gradients."""

import math

import pytest
import torch
from finite import group_of, numbers, problems, rows, vectors
from hypothesis import assume, given
from hypothesis import strategies as st

import geomalign as ga
from geomalign.divergences import target_policy


@given(problem=problems(), mu=st.sampled_from([0.5, 1.0, 3.0]), rate=numbers(0.05, 1.95), steps=st.integers(1, 6))
def test_contraction_rate(problem, mu, rate, steps):
    """Descent along the L²(π_k) gradient obeys v⁺ − v* = (1 − ημ)(v − v*): rate |1 − ημ|, for every drive, iff 0
    < η < 2/μ.

    Source: OPO, Corollary 6.2; GOPO, Corollary 5.4
    Notebook: 03 §1
    """
    eta, geometry = rate / mu, ga.ChiSquare(mu)
    g = problem.centred(problem.drive)
    target = geometry.equilibrium(g)
    v = torch.softmax(problem.drive.flip(0), 0) / problem.anchor - 1
    start = v
    for _ in range(steps):
        v = v - eta * geometry.force(v, g)
    torch.testing.assert_close(v - target, (1 - eta * mu) ** steps * (start - target), rtol=1e-9, atol=1e-9)
    diverges = v - 2.2 / mu * geometry.force(v, g)
    assert problem.dot(diverges - target, diverges - target) >= problem.dot(v - target, v - target)


@given(problem=problems(), mu=st.sampled_from([0.5, 1.0, 3.0]))
def test_no_other_potential_contracts_uniformly(problem, mu):
    """The rate of one step does not depend on where it starts if and only if φ'' is constant: it does for KL,
    not for χ².

    Source: OPO, §6.3, as a characterisation
    Notebook: 03 §1
    """
    g = torch.zeros_like(problem.drive)
    v = torch.tensor([-0.5, 1.0])

    def rates(geometry):
        x = v.requires_grad_()
        return torch.autograd.grad((x - 0.1 * geometry.force(x, g[:1].expand(2))).sum(), x)[0]

    constant, varying = rates(ga.ChiSquare(mu)), rates(ga.KL(mu))
    torch.testing.assert_close(constant, torch.full((2,), 1 - 0.1 * mu))
    assert abs(float(varying[0] - varying[1])) > 0.1 * mu


@given(problem=problems(), radius=numbers(1e-3, 2.0), other=st.integers(0, 2**16))
def test_chi_square_trust_region_duality(problem, radius, other):
    """max ⟨g, v⟩ subject to E v = 0, E v² ≤ ε is solved by v* = (g − E g)/μ with μ = ‖g − E g‖/√ε; its value is
    √ε‖g − E g‖.

    Source: OPO, Proposition 6.3 and Appendix A.2, with the multiplier solved for
    Notebook: 05 §2
    """
    g = problem.centred(problem.drive)
    norm = problem.dot(g, g).sqrt()
    assume(norm >= 1e-6)
    mu = norm / math.sqrt(radius)
    best = ga.ChiSquare(float(mu)).equilibrium(g)
    torch.testing.assert_close(problem.dot(best, best), torch.tensor(radius), rtol=1e-9, atol=0)
    torch.testing.assert_close(problem.dot(problem.drive, best), math.sqrt(radius) * norm, rtol=1e-9, atol=1e-12)
    rival = problem.centred(torch.sin(other * torch.arange(1.0, problem.drive.shape[0] + 1)))
    rival = rival * math.sqrt(radius) / problem.dot(rival, rival).sqrt().clamp(min=1e-9)
    assert problem.dot(problem.drive, rival) <= problem.dot(problem.drive, best) + 1e-9


@given(reward=vectors(6, -3.0, 3.0), radius=numbers(1e-3, 0.5))
def test_the_stiffness_is_solved_by_the_trust_region(reward, radius):
    """`TrustRegion(chi2=ε)` puts the equilibrium exactly on E[v²] = ε, whatever the scale of the rewards; so
    does kl=ε on the KL sphere, as far as that reaches: to the greedy policy.

    Source: OPO, Proposition 6.3, solved for μ; Peters et al. 2010 for KL
    Notebook: 05 §2
    """
    reward = reward.round(decimals=2)
    assume(reward.std() >= 1e-3)
    greedy = math.log(6 / int((reward == reward.max()).sum()))
    for scale in (1.0, 100.0):
        batch = rows(torch.zeros(6), torch.zeros(6), reward=scale * reward)
        v = ga.TrustRegion(chi2=radius).drive(batch)
        torch.testing.assert_close((v**2).mean(), torch.tensor(radius), rtol=1e-9, atol=0)
        stiffness = ga.chi_square_stiffness(scale * reward, group_of(reward), radius)
        torch.testing.assert_close(v, (reward - reward.mean()) * scale / stiffness, rtol=1e-7, atol=1e-9)
        t = ga.TrustRegion(kl=radius).drive(batch).exp()
        torch.testing.assert_close(t.mean(), torch.tensor(1.0), rtol=0, atol=1e-9)
        kl = ga.KullbackLeibler().generator(t).mean()
        torch.testing.assert_close(kl, torch.tensor(min(radius, greedy)), rtol=1e-6, atol=0)


@given(delta=numbers(1e-6, 4.0), fraction=vectors(8, -1.0, 1.0))
def test_log_ratio_surrogate_bounds(delta, fraction):
    """For |Δ| ≤ δ: |v − Δ| ≤ ½δ²e^δ and |v² − Δ²| ≤ δ³e^{2δ}. For every δ, not only δ < 1.

    Source: OPO, Lemma A.1, without its condition
    Notebook: 03 §4
    """
    log_ratio = delta * fraction
    v = ga.Ratio()(log_ratio)
    assert ((v - log_ratio).abs() <= 0.5 * delta**2 * math.exp(delta) * (1 + 1e-12)).all()
    assert ((v**2 - log_ratio**2).abs() <= delta**3 * math.exp(2 * delta) * (1 + 1e-12) + 1e-15).all()


@given(problem=problems(scale=2.0))
def test_every_chart_and_every_divergence_is_the_same_to_second_order(problem):
    """D_ψ(π‖π_k) = ½E[Δ²] + O(|Δ|³) for every generator with ψ''(1) = 1: near the anchor there is one geometry,
    Fisher's.

    Source: Amari 2016, §3.5
    Notebook: 02 §2
    """
    for scale in (1e-2, 1e-3):
        log_policy = torch.log_softmax(problem.anchor.log() + scale * problem.drive, 0)
        half = 0.5 * problem.mean((log_policy - problem.anchor.log()) ** 2)
        for divergence in (ga.KullbackLeibler(), ga.PearsonChiSquare(), ga.JensenShannon(), ga.SquaredHellinger()):
            value = divergence.value(log_policy, problem.anchor.log()) * _per_unit(divergence)
            assert abs(float(value - half)) <= 40 * scale**3


def _per_unit(divergence: ga.Divergence) -> float:
    return 1 / float(divergence.curvature(torch.tensor(1.0)))


@given(log_ratio=vectors(4, -2.0, 2.0), reward=vectors(4, -2.0, 2.0))
def test_the_gradient_is_force_times_slope(log_ratio, reward):
    """∂L/∂log π = weight · (φ'(u) − g) · u'(Δ): the gradient in closed form equals autograd.

    Source: geomalign, *The gradient is part of the object*
    Notebook: 01 §3
    """
    anchor = torch.full((4,), -1.5)
    policy = (anchor + log_ratio).requires_grad_()
    batch = rows(policy, anchor, reward=reward)
    objective = ga.recipes.opo(alpha=0.4, mu=0.7, form="ratio")
    (gradient,) = torch.autograd.grad(objective.plain(batch).loss, policy)
    drive = objective.drive(batch)
    expected = (0.7 * log_ratio.expm1() - drive) * log_ratio.exp() / 4
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(objective.gradient(batch)[:, 0], expected)


SMOOTH = {
    "opo": ga.recipes.opo(alpha=0.4, mu=1.0),
    "opo, ratio": ga.recipes.opo(alpha=0.4, mu=1.0, form="ratio"),
    "gopo": ga.recipes.gopo(mu=0.5),
    "mirror_descent": ga.recipes.mirror_descent(tau=0.3),
    "reinforce": ga.recipes.reinforce(),
    "ppo, KL": ga.recipes.ppo(epsilon=None, beta=0.2),
    "Hellinger": ga.Objective(
        unit=ga.Sequence(),
        chart=ga.Dual(ga.SquaredHellinger()),
        sampling=ga.GroupAdvantage(),
        optimization=ga.ChiSquare(0.7),
    ),
}
SMOOTH |= {
    repr(part): ga.Objective(
        **{"unit": ga.MeanSequence(), "chart": ga.Ratio(), "sampling": ga.GroupAdvantage(), "optimization": ga.KL(0.3)}
        | {slot: part}
    )
    for slot, parts in {
        "unit": (ga.Token(), ga.unit.BroadcastSequence(), ga.unit.Shifted(ga.Sequence(), 0.1)),
        "chart": (ga.Power(0.5), ga.Power(2.0), ga.Dual(ga.KullbackLeibler() + ga.PearsonChiSquare())),
        "optimization": (
            ga.ReverseKL(0.3),
            ga.AlphaDivergence(1.5, 0.3),
            ga.FDivergence(ga.JensenShannon(), 0.3),
            ga.Logistic(0.5),
            ga.AdvantageScaled(ga.ChiSquare(5.0)),
            ga.optimization.SigmoidClip(1.0, 1.05),
            ga.ChiSquare(0.5) + ga.KL(0.2),
            2.0 * ga.Logistic(0.5),
        ),
        "measure": (ga.NestedMean(), ga.FixedBudget(5)),
    }.items()
    for part in parts
}


@pytest.mark.parametrize("objective", SMOOTH.values(), ids=SMOOTH)
def test_gradcheck_and_gradgradcheck(objective):
    """First and second derivatives of every smooth objective agree with finite differences in float64.

    Source: `torch.autograd.gradcheck`, `gradgradcheck`
    Notebook: 01 §3
    """
    policy = (-1.0 - 0.5 * torch.rand(4, 3)).requires_grad_()
    anchor = -1.0 - 0.5 * torch.rand(4, 3)
    reward = torch.tensor([1.0, 0.0, 0.5, -1.0])

    def loss(log_prob, evaluate=objective):
        return evaluate(ga.Batch(log_prob, anchor, reward=reward)).loss

    assert torch.autograd.gradcheck(loss, (policy,))
    assert torch.autograd.gradgradcheck(lambda x: loss(x, objective.plain), (policy,))


@pytest.mark.parametrize(
    "recipe",
    [
        "dpo",
        "ipo",
        "simpo",
        "chi_po",
        "f_dpo",
        "exo",
        "gpo_savage",
        "discopop",
        "nca",
        "cpo",
        "orpo",
        "apo_down",
        "kto",
    ],
)
def test_gradcheck_and_gradgradcheck_of_preferences(recipe):
    """First and second derivatives of the pairwise objectives agree with finite differences in float64.

    Source: `torch.autograd.gradcheck`, `gradgradcheck`
    Notebook: 01 §3
    """
    objective = ga.recipes.get(recipe)
    tokens = [(-1.0 - 0.5 * torch.rand(3, 2)).requires_grad_() for _ in range(2)]
    reference = [-1.0 - 0.5 * torch.rand(3, 2) for _ in range(2)]

    def loss(chosen, rejected, evaluate=objective):
        return evaluate(ga.PreferenceBatch(chosen, rejected, *reference)).loss

    assert torch.autograd.gradcheck(loss, tokens)
    assert torch.autograd.gradgradcheck(lambda *x: loss(*x, objective.plain), tokens)


@pytest.mark.parametrize(
    "divergence", [ga.KullbackLeibler(), ga.ReverseKullbackLeibler(), ga.CressieRead(1.5), ga.JensenShannon()], ids=repr
)
def test_gradcheck_and_gradgradcheck_of_the_target_policy(divergence):
    """The target policy is differentiable in the drive and the prior, once and twice, through the implicit
    function.

    Source: implicit-function theorem; `gradcheck`, `gradgradcheck`
    Notebook: 04 §5
    """
    drive = torch.tensor([0.7, -0.2, 0.1, -0.9], requires_grad=True)
    prior = torch.tensor([-1.0, -1.5, -2.0, -1.2], requires_grad=True)

    def solve(g, log_prior):
        return target_policy(g, divergence, log_prior=log_prior).ratio

    assert torch.autograd.gradcheck(solve, (drive, prior))
    assert torch.autograd.gradgradcheck(solve, (drive, prior))
