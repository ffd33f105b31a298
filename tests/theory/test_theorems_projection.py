"""Closed forms: the target policy of a drive, over every outcome of a finite support."""

import math

import pytest
import scipy.optimize
import torch
from finite import DIVERGENCES, group_of, numbers, problems
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import geomalign as ga
from geomalign.divergences import free_energy, target_policy

STIFFNESS = st.sampled_from([0.3, 1.0, 4.0])
EXACT = {"rtol": 1e-9, "atol": 1e-10}


def solved(problem, divergence):
    return target_policy(problem.drive, divergence, log_prior=problem.anchor.log())


def positive(problem, mu):
    """Whether (g − E g)/μ leaves every probability positive, with room for rounding."""
    return bool((problem.centred(problem.drive) / mu > -1 + 1e-9).all())


@given(problem=problems(), mu=STIFFNESS, other=st.integers(0, 2**16))
def test_closed_form_by_projection(problem, mu, other):
    """v* = (g − E g)/μ maximises ⟨g, v⟩ − (μ/2)‖v‖² over {E v = 0}: every other v falls short by (μ/2)‖v − v*‖²
    exactly.

    Source: OPO, Theorem 3.5; GOPO, Theorem 4.1
    Notebook: 04 §1
    """

    def work(v):
        return problem.dot(problem.drive, v) - mu / 2 * problem.dot(v, v)

    best = problem.centred(problem.drive) / mu
    v = problem.centred(torch.sin(other * torch.arange(1.0, problem.drive.shape[0] + 1)) * 3)
    off = v - best
    torch.testing.assert_close(work(best) - work(v), mu / 2 * problem.dot(off, off), rtol=1e-9, atol=1e-9)
    if positive(problem, mu):
        torch.testing.assert_close(solved(problem, mu * ga.PearsonChiSquare()).fluctuation, best, **EXACT)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=repr)
@given(problem=problems())
def test_the_multiplier_is_unique_on_a_finite_support(divergence, problem):
    """For a strictly convex and differentiable ψ, E[(ψ')⁻¹(g − λ)] decreases strictly in λ wherever it is positive,
    and passes one: there is one λ.

    Source: geomalign, *The multiplier*
    Notebook: 04 §3
    """
    found = solved(problem, divergence).multiplier

    def mass(multiplier):
        return problem.mean(divergence.inverse_mirror(problem.drive - multiplier).clamp(min=0))

    torch.testing.assert_close(mass(found), torch.ones(()), rtol=1e-8, atol=1e-8)
    for step in (1e-3, 0.1, 1.0):
        assert float(mass(found + step)) < 1 < float(mass(found - step))


def test_a_kink_leaves_the_multiplier_open():
    """ψ = (t − 1)²/2 + |t − 1|/2 is strictly convex with a kink at t = 1: the target policy is unique and λ is not. For
    g = (0.2, 0, −0.2) every λ in [−0.3, 0.3] gives t = 1, and none outside.

    Source: geomalign, *The multiplier*
    Notebook: 04 §3
    """
    divergence, drive = ga.PearsonChiSquare() + ga.TotalVariation(), torch.tensor([0.2, 0.0, -0.2])
    for multiplier in torch.linspace(-0.2999, 0.2999, 13):
        torch.testing.assert_close(divergence.inverse_mirror(drive - multiplier), torch.ones(3), rtol=0, atol=1e-12)
    for multiplier in (-0.301, 0.301):
        assert (divergence.inverse_mirror(drive - multiplier) - 1).abs().max() > 5e-4
    found = target_policy(drive, divergence)
    torch.testing.assert_close(found.ratio, torch.ones(3))
    assert -0.3 <= float(found.multiplier) <= 0.3


def test_without_a_best_outcome_there_may_be_no_multiplier():
    """g = x on [0, 1] under π_k = 4(1 − x)³ and the reverse KL of stiffness ¼: E[μ/(μ + λ − g)] is ⅓ at its last λ, and
    no target policy exists.

    Source: geomalign, *The multiplier*
    Notebook: 04 §3
    """
    x = (torch.arange(200_000) + 0.5) / 200_000
    density = 4 * (1 - x) ** 3
    mu = 0.25
    last = 1.0 - mu  # λ ≥ max g − μ, where the inverse mirror of g = 1 becomes infinite
    mass = (density * (mu * ga.ReverseKullbackLeibler()).inverse_mirror(x - last)).mean()
    assert float(mass) == pytest.approx(mu * 4 / 3, rel=1e-6)
    assert float(mass) < 1


@given(problem=problems(), mu=STIFFNESS)
def test_projection_mirror_step_and_linear_response_agree(problem, mu):
    """Three derivations of one update: projection, Euclidean mirror step, derivative of the Gibbs response.

    The projection is least squares against the constant; the mirror step is the χ² inverse mirror at the
    multiplier; the linear response is d/dh of the Gibbs ratio e^{hg}/E[e^{hg}] at h = 0, over μ.

    Source: OPO, §4 and Corollary 4.1
    Notebook: 04 §2
    """
    root = problem.anchor.sqrt()
    ones, target = root[:, None], (root * problem.drive / mu)[:, None]
    projection = ((target - ones @ torch.linalg.lstsq(ones, target).solution)[:, 0]) / root
    multiplier = problem.mean(problem.drive)
    mirror_step = (problem.drive - multiplier) / mu  # inverse of ψ' = v, before t ≥ 0 binds

    def gibbs(h):
        return torch.softmax(problem.anchor.log() + h * problem.drive, 0) / problem.anchor

    response = torch.func.jacfwd(gibbs)(torch.zeros(())) / mu
    torch.testing.assert_close(projection, mirror_step, **EXACT)
    torch.testing.assert_close(response, mirror_step, **EXACT)
    inverse = ga.PearsonChiSquare().inverse_mirror(mirror_step) - 1
    torch.testing.assert_close(inverse, mirror_step.clamp(min=-1), **EXACT)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=repr)
@settings(max_examples=15)
@given(problem=problems(), mu=STIFFNESS)
def test_conservation(divergence, problem, mu):
    """Σ_y π_k(y) t*(y) = 1 and t* ≥ 0, to 1e-12, for every divergence.

    Source: OPO, eq. (2); GOPO, §3.2; the bound is geomalign's
    Notebook: 04 §3
    """
    target = solved(problem, mu * divergence)
    assert abs(float(problem.mean(target.ratio)) - 1) <= 1e-12
    assert (target.ratio >= 0).all()
    torch.testing.assert_close(target.probability.sum(), torch.tensor(1.0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=repr)
@settings(max_examples=15)
@given(problem=problems(), mu=STIFFNESS, shift=numbers(-5.0, 5.0))
def test_shift_invariance(divergence, problem, mu, shift):
    """Adding a constant to the drive changes λ by that constant and the target policy not at all.

    Source: OPO, Remark 3.4
    Notebook: 04 §3
    """
    here, there = (solved(p, mu * divergence) for p in (problem, problem._replace(drive=problem.drive + shift)))
    torch.testing.assert_close(there.ratio, here.ratio, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(there.multiplier - here.multiplier, torch.tensor(shift), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=repr)
@settings(max_examples=15)
@given(problem=problems(), mu=STIFFNESS, other=problems())
def test_the_target_policy_is_the_best_of_all_policies(divergence, problem, mu, other):
    """ψ'(t*) = g − λ where t* > 0, ≤ where t* = 0, and no policy has a higher ⟨g, π⟩ − μD(π‖π_k).

    Source: KKT conditions; GOPO, Theorem 4.3 for χ²
    Notebook: 04 §3
    """
    scaled = mu * divergence
    target = solved(problem, scaled)
    stationary = scaled.mirror(target.ratio) - (problem.drive - target.multiplier)
    inside = target.ratio > 0
    assert torch.where(inside, stationary.abs() <= 1e-7 * (1 + problem.drive.abs()), stationary >= -1e-9).all()

    def value(policy):
        return (policy * problem.drive).sum() - scaled.value(policy.log(), problem.anchor.log())

    size = problem.drive.shape[0]
    rival = torch.softmax(torch.cat([other.drive, torch.zeros(6)])[:size], 0)
    assert value(target.probability) >= value(rival) - 1e-9


@given(problem=problems(), mu=numbers(0.05, 6.0))
def test_positivity_if_and_only_if(problem, mu):
    """π_k(1 + (g − E g)/μ) ≥ 0 everywhere if and only if μ ≥ E g − min g; then it is the target policy. Below,
    it is not.

    Source: OPO, Proposition 6.4
    Notebook: 04 §4
    """
    threshold = problem.mean(problem.drive) - problem.drive.min()
    assume(abs(float(threshold) - mu) > 1e-9)
    v = problem.centred(problem.drive) / mu
    assert bool((problem.anchor * (1 + v) >= 0).all()) == bool(mu >= threshold)
    bounded = solved(problem, mu * ga.PearsonChiSquare()).fluctuation
    assert bool(torch.allclose(v, bounded, rtol=0, atol=1e-12)) == bool(mu >= threshold)
    assert not mu >= v.abs().max() * mu or mu >= threshold  # the paper's sufficient condition is one


@given(problem=problems(), mu=STIFFNESS)
def test_exact_sparsity(problem, mu):
    """With t ≥ 0 an outcome has target probability exactly zero if and only if g ≤ λ* − μ; elsewhere v* = (g −
    λ*)/μ.

    Source: GOPO, Theorem 4.3 and Corollary 4.4
    Notebook: 04 §4
    """
    target = solved(problem, mu * ga.PearsonChiSquare())
    gap = problem.drive - target.multiplier + mu
    assume((gap.abs() > 1e-9).all())
    assert ((target.ratio == 0) == (gap < 0)).all()
    expected = ((problem.drive - target.multiplier) / mu).clamp(min=-1)
    torch.testing.assert_close(target.fluctuation, expected, **EXACT)


@given(problem=problems(), mu=STIFFNESS, step=numbers(1e-3, 5.0))
def test_the_conservation_equation_is_monotone(problem, mu, step):
    """f(λ) = E[max(−1, (g − λ)/μ)] decreases strictly while an outcome is free: one root. λ* ≥ E g, with
    equality iff none is cut.

    Source: W-GOPO, Lemma 4.2
    Notebook: 04 §4
    """

    def residual(level):
        return problem.mean(((problem.drive - level) / mu).clamp(min=-1))

    star = solved(problem, mu * ga.PearsonChiSquare()).multiplier
    assert residual(star).abs() <= 1e-10
    assert residual(star - step) > 0 > residual(star + step)
    mean = problem.mean(problem.drive)
    assert star >= mean - 1e-10
    if positive(problem, mu):
        torch.testing.assert_close(star, mean, rtol=0, atol=1e-10)
    elif bool((problem.centred(problem.drive) / mu < -1.01).any()):
        assert star > mean + 1e-9


@given(problem=problems(), mu=STIFFNESS, better=st.integers(0, 5))
def test_the_target_is_monotone_in_the_drive(problem, mu, better):
    """Raising one outcome's drive never lowers its own target, never raises another's, and moves λ by at most as
    much.

    Source: monotonicity of projections; geomalign
    Notebook: 04 §4
    """
    raised = problem.drive.clone()
    index = better % raised.shape[0]
    raised[index] += 0.5
    before, after = (
        target_policy(g, mu * ga.PearsonChiSquare(), log_prior=problem.anchor.log()) for g in (problem.drive, raised)
    )
    change = after.ratio - before.ratio
    assert change[index] >= -1e-10
    assert (torch.cat([change[:index], change[index + 1 :]]) <= 1e-10).all()
    assert -1e-10 <= after.multiplier - before.multiplier <= 0.5 + 1e-10


@given(problem=problems(), mu=STIFFNESS)
def test_two_projections_are_one(problem, mu):
    """P_K(P_{H₀} u) = P_K(u): conserving first and then projecting onto the densities, in the same metric,
    changes nothing.

    Source: OPO, §6.5 (iii), with the metric it needs; H₀ ⊃ K
    Notebook: 04 §4
    """
    divergence = mu * ga.PearsonChiSquare()
    at_once = solved(problem, divergence).fluctuation
    again = solved(problem._replace(drive=problem.centred(problem.drive)), divergence).fluctuation
    torch.testing.assert_close(at_once, again, **EXACT)


@given(problem=problems(smallest=2, largest=5), mu=st.sampled_from([0.3, 1.0]))
def test_the_bounded_projection_agrees_with_a_convex_solver(problem, mu):
    """The sorted projection of a group is what scipy's SLSQP finds for max ⟨g, v⟩ − (μ/2)‖v‖², Σv = 0, v ≥ −1.

    Source: GOPO, Theorem 4.3 with eq. (20)
    Notebook: 04 §4
    """
    g = problem.drive.numpy()
    result = scipy.optimize.minimize(
        lambda v: mu / 2 * (v @ v) - g @ v,
        jac=lambda v: mu * v - g,
        x0=0 * g,
        bounds=[(-1.0, None)] * len(g),
        constraints={"type": "eq", "fun": lambda v: v.sum(), "jac": lambda v: 0 * v + 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 300},
    )
    exact = target_policy(problem.drive, mu * ga.PearsonChiSquare(), groups=group_of(problem.drive)).fluctuation
    value = mu / 2 * (exact @ exact) - problem.drive @ exact
    assert float(value) <= result.fun + 1e-9
    torch.testing.assert_close(exact, torch.from_numpy(result.x), rtol=0, atol=1e-4)
    uniform = target_policy(problem.drive, mu * ga.PearsonChiSquare()).fluctuation
    torch.testing.assert_close(exact, uniform, **EXACT)


@given(problem=problems(), beta=st.sampled_from([0.2, 1.0, 3.0]))
def test_gibbs_solution_of_kl(problem, beta):
    """⟨g, π⟩ − β KL(π‖π_k) is maximised by π* ∝ π_k e^{g/β}, with value β log E[e^{g/β}].

    Source: Donsker and Varadhan 1975; Rafailov et al. 2023, eq. (4)
    Notebook: 04 §5
    """
    divergence = beta * ga.KullbackLeibler()
    target = solved(problem, divergence)
    gibbs = torch.softmax(problem.anchor.log() + problem.drive / beta, 0)
    torch.testing.assert_close(target.probability, gibbs, **EXACT)
    value = free_energy(problem.drive, divergence, log_prior=problem.anchor.log())
    torch.testing.assert_close(value, beta * torch.logsumexp(problem.anchor.log() + problem.drive / beta, 0), **EXACT)


@given(problem=problems(), beta=st.sampled_from([0.2, 1.0, 3.0]))
def test_dpos_implicit_reward_is_the_dual_coordinate_of_kl(problem, beta):
    """At the KL target, β times KL's chart is the reward up to a constant: β log(π*/π_k) = g − λ. For another ψ
    it is βψ'(t*).

    Source: Rafailov et al. 2023, eq. (5); Wang et al. 2023 (f-DPO, arXiv 2309.16240), Theorem 1
    Notebook: 04 §5
    """
    for divergence in (ga.KullbackLeibler(), ga.JensenShannon(), ga.KullbackLeibler() + ga.PearsonChiSquare()):
        target = solved(problem, beta * divergence)
        implicit = beta * ga.Dual(divergence)(target.ratio.log())
        torch.testing.assert_close(implicit, problem.drive - target.multiplier, rtol=1e-7, atol=1e-7)
    reward = solved(problem, beta * ga.KullbackLeibler()).ratio.log() * beta
    torch.testing.assert_close(reward.diff(), problem.drive.diff(), rtol=1e-8, atol=1e-8)


@given(tau=numbers(0.02, 2.0), margin=numbers(-5.0, 5.0))
def test_ipo_has_a_finite_target(tau, margin):
    """IPO's energy (m − 1/(2τ))² is least at the margin 1/(2τ); DPO's −log σ(βm) has no minimum at any finite
    margin.

    Source: Azar et al. 2023 (arXiv 2310.12036), eq. (17)
    Notebook: 04 §5
    """
    ipo, dpo = ga.recipes.ipo(tau), ga.recipes.dpo(0.1)
    drive = torch.tensor(1 / tau)
    torch.testing.assert_close(ipo.optimization.equilibrium(drive), torch.tensor(1 / (2 * tau)))
    m = torch.tensor(margin)
    torch.testing.assert_close(ipo.optimization.gap(m, drive), (m - 1 / (2 * tau)) ** 2, rtol=1e-9, atol=1e-9)
    assert float(dpo.optimization.equilibrium(torch.tensor(0.1))) == math.inf
    assert dpo.optimization.force(m, torch.tensor(0.1)) < 0


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=repr)
@settings(max_examples=15)
@given(problem=problems(), mu=STIFFNESS)
def test_the_free_energys_gradient_is_the_target_policy(divergence, problem, mu):
    """∂/∂g max_π [⟨g, π⟩ − μD(π‖π_k)] = π*, by autograd through the solver.

    Source: Danskin 1966; Blondel et al. 2020, Proposition 1
    Notebook: 04 §5
    """
    drive = problem.drive.clone().requires_grad_()
    value = free_energy(drive, mu * divergence, log_prior=problem.anchor.log())
    (gradient,) = torch.autograd.grad(value, drive)
    torch.testing.assert_close(gradient, solved(problem, mu * divergence).probability, rtol=1e-6, atol=1e-8)


@settings(max_examples=15)
@given(problem=problems(scale=1.0))
def test_chi_square_is_the_linearised_gibbs_response(problem):
    """For large μψ''(1) all targets agree to O(1/μ²): near the anchor every divergence is one geometry.

    Source: OPO, §4.2, made quantitative
    Notebook: 04 §2
    """
    for mu in (50.0, 500.0):
        targets = [solved(problem, mu / float(d.curvature(torch.tensor(1.0))) * d).fluctuation for d in DIVERGENCES]
        for v in targets[1:]:
            assert (v - targets[0]).abs().max() <= 10 / mu**2
