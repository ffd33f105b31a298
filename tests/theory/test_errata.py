"""Claims of the OPO, GOPO and W-GOPO papers that do not hold as stated, each with its smallest counterexample.

Versions attacked: OPO arXiv 2601.12415 v1 to v5 and `opo3.tex` of 28 February 2026; GOPO arXiv 2602.21269 v1 and
`gopo.tex` of that date; W-GOPO in `wgopo.tex` of that date. The three LaTeX files are in the author's public
repository. Numbers of theorems, equations and figures are those of the LaTeX, and words in quotation marks are its own.
`docs/errata.md` is made from the docstrings.
"""

import math

import pytest
import torch
from finite import every_batch, group_of, policies, problems, rows, vectors
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import geomalign as ga


def slope(loss: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, x)
    return gradient


def escort(advantage: Tensor, alpha: float) -> Tensor:
    """W-GOPO's interpolated escort weight, eq. (11): (1 − α)A + αA e^A."""
    return (1 - alpha) * advantage + alpha * advantage * advantage.exp()


def bounded(target: Tensor) -> Tensor:
    """The bounded projection of one group."""
    return ga.target_policy(target, ga.PearsonChiSquare(), groups=group_of(target)).fluctuation


# --- gradients, curvature, saturation ------------------------------------------------------------------------------


def binary(z: Tensor) -> Tensor:
    """Log-probabilities of (chosen, rejected) of a binary policy with one logit."""
    return torch.stack([torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)])


def logit_gradient(z: float, chart: ga.Chart, *, anchor: float = 0.0, outcomes: int = 2) -> float:
    """|∂L/∂z| of OPO's toy model, π = σ(z), anchored at σ(anchor), summed over the first `outcomes` outcomes."""
    logit = torch.tensor(z, requires_grad=True)
    before = binary(torch.tensor(anchor))
    energy = ga.ChiSquare(0.5).energy(chart(binary(logit) - before), torch.tensor([1.0, -1.0]))
    return abs(float(slope((before.exp() * energy)[:outcomes].sum(), logit)))


def doubt(z: float) -> float:
    return float(torch.sigmoid(-torch.tensor(z)))


@pytest.mark.parametrize(
    "gradient",
    [
        lambda z: logit_gradient(z, ga.Ratio()),
        lambda z: logit_gradient(z, ga.LogRatio(), outcomes=1),
        lambda z: logit_gradient(z, ga.LogRatio(), anchor=z),
        lambda z: abs(float(ga.Logistic(1.0).force(torch.tensor(z), torch.tensor(1.0)))),
    ],
    ids=["ratio", "log, rewarded response only", "log, on-policy anchor", "DPO"],
)
def test_gradients_in_the_logit_vanish(gradient):
    """Claim: "OPO is the only objective whose gradient magnitude remains O(1) throughout", of |∂L/∂z|.

    Holds instead: in the logit, OPO's χ² form vanishes like 1 − σ(z), exactly as DPO does at β = 1; so do the log
    form on the rewarded response, and any form once the anchor follows the policy. What is linear is the gradient
    in the chart.
    Source: OPO, Figure 4 and §6.3
    Verdict: refuted
    Notebook: 08 §1
    """
    for z in (8.0, 12.0, 16.0):
        assert 0 < gradient(z) < 3 * doubt(z)
    assert gradient(12.0) / gradient(8.0) == pytest.approx(math.exp(-4), rel=0.02)


def test_dpos_gradient_in_the_logit_depends_on_beta():
    """Claim: DPO's gradient in the logit vanishes like 1 − σ(z).

    Holds instead: it is βσ(−βz), which tends to β(1 − σ(z))^β for an anchor at z = 0: as 1 − σ(z) at β = 1, and
    slower below. At β = 0.1 and z = 12 it is 0.023, which is 3,767 times 1 − σ(z).
    Source: earlier versions of this page and of docs/theory.md
    Verdict: refuted for β ≠ 1
    Notebook: 08 §1
    """
    for beta in (1.0, 0.1):
        dpo = ga.Logistic(beta)
        force = lambda z: abs(float(dpo.force(torch.tensor(z), torch.tensor(beta))))  # noqa: B023, E731
        assert force(60 / beta) == pytest.approx(beta * doubt(60 / beta) ** beta, rel=1e-9)
        assert force(12.0) / doubt(12.0) == pytest.approx(1.0 if beta == 1 else 3767, rel=1e-3)


def test_the_log_form_keeps_its_gradient_through_the_response_it_gives_up():
    """Claim: the gradient of OPO grows linearly with confidence.

    Holds instead: of the log form, as long as the anchor still samples the other response: its log-ratio is
    unbounded, so it pulls back with (μ|Δ| − g)/2. That is restoring force away from the target, and the only
    thing that Figure 4 can show.
    Source: OPO, Figure 4 and §6.3
    Verdict: confirmed for the log form under a fixed, unsure anchor
    Notebook: 08 §1
    """
    for z in (8.0, 12.0, 16.0):
        assert logit_gradient(z, ga.LogRatio()) == pytest.approx(0.5 * (0.5 * (z - math.log(2)) - 1), rel=0.01)


def test_the_gradient_in_an_unbounded_margin_does_not_vanish():
    """Claim: the gradient is linear in the distance from equilibrium. It is, for the log-ratio margin of two
    responses.

    Holds instead: of the quadratic in the margin m = Δ⁺ − Δ⁻ (IPO's), |∂L/∂z| = μ|z − z*| in the logit too;
    DPO's decays.
    Source: OPO, Figure 4 and §6.3, read as a margin
    Verdict: confirmed in this reading
    Notebook: 08 §1
    """
    z = torch.tensor(12.0, requires_grad=True)
    margin = (binary(z) - binary(torch.tensor(0.0))).diff().neg()[0]
    assert float(slope(ga.ChiSquare(0.5).energy(margin, torch.tensor(1.0)), z)) == pytest.approx(0.5 * 12 - 1)
    assert abs(float(slope(ga.Logistic(1.0).energy(z, torch.tensor(1.0)), z))) < 1e-5


def test_a_zero_target_is_approached_with_a_vanishing_force():
    """Claim: at a target ratio of 0 "the gradient provides a strong suppressive force driving ρ_θ(y_i) → 0", and
    |∇_GOPO| ≥ μδ at a distance δ from the target.

    Holds instead: that is the gradient in ρ. In log π it is μρ², so under gradient flow ρ decays only like
    1/√(2μτ). A positive target is not called back either: ∂L/∂log π ∝ ρ as ρ → 0.
    Source: GOPO, §5.3 and eq. (28)
    Verdict: refuted
    Notebook: 08 §2
    """
    mu = 0.5
    for log_ratio in (-1.0, -3.0, -6.0):
        x = torch.tensor(log_ratio, requires_grad=True)
        energy = ga.ChiSquare(mu).energy(ga.Ratio()(x), torch.tensor(-mu))  # equilibrium v* = −1
        assert float(slope(energy, x)) == pytest.approx(mu * math.exp(2 * log_ratio))
        recover = ga.ChiSquare(mu).energy(ga.Ratio()(x), torch.tensor(mu))  # equilibrium v* = +1
        assert abs(float(slope(recover, x))) <= 2 * mu * math.exp(log_ratio)
    rho, step, steps = torch.tensor(1.0), 0.01, 20_000
    for _ in range(steps):
        rho = rho * torch.exp(-step * mu * rho**2)
    assert float(rho) == pytest.approx(1 / math.sqrt(1 + 2 * mu * step * steps), rel=0.01)


CHARTS = {
    ga.LogRatio(): 1.0,
    ga.Ratio(): 1.0,
    ga.LogRatio(2.0): 2.0,
    ga.Sigmoid(): 0.25,
    ga.Dual(ga.JensenShannon()): 0.5,
    ga.Dual(ga.KullbackLeibler() + ga.PearsonChiSquare()): 2.0,
}


@pytest.mark.parametrize("chart", CHARTS, ids=repr)
@given(advantage=vectors(4, -2.0, 2.0), log_prob=vectors(4, -3.0, -0.1))
def test_one_gradient_step_per_anchor_never_sees_the_potential(chart, advantage, log_prob):
    """Claim: constant curvature and the χ² trust region govern the update of Algorithm 1, whose loop sets the anchor
    before its one step.

    Holds instead: at π = π_k every potential with φ'(0) = 0 is flat, so that step is −u'(0)·g∇log π whatever μ and φ
    are. Of the chart it has the slope at the anchor: 1 for Δ and t − 1, 2 for `LogRatio(2)`, ¼ for `Sigmoid()`, ½
    for the Jensen–Shannon coordinate. GOPO's first step is REINFORCE with a mean baseline while no target is cut.
    The potential acts from the second update under one anchor on, as under the mini-batch anchoring of OPO's §8,
    where all mini-batches of an iteration share one anchor.
    Source: OPO, Algorithm 1 and §8 (Implementation Notes); GOPO, its algorithm in §6
    Verdict: refuted for one update per anchor
    Notebook: 08 §3
    """
    batch = rows(log_prob.requires_grad_(), log_prob.detach(), reward=advantage)

    def gradient(chart, optimization):
        parts = {"unit": ga.Sequence(), "sampling": ga.GroupAdvantage(), "optimization": optimization}
        return ga.Objective(**parts, chart=chart).gradient(batch)

    plain = gradient(ga.LogRatio(), ga.Flat())
    for optimization in (ga.Flat(), ga.ChiSquare(0.01), ga.ChiSquare(100.0), ga.KL(5.0), ga.ReverseKL(0.3)):
        torch.testing.assert_close(gradient(chart, optimization), CHARTS[chart] * plain)


def test_the_first_step_of_bounded_gopo_depends_on_mu():
    """Claim: the first step from an anchor does not depend on μ.

    Holds instead: not where the stiffness is part of the drive. The bounded projection cuts targets at −1, and
    μ·v* = max(−μ, A − λ) then moves with μ; where nothing is cut it is the centred advantage for every μ.
    Source: GOPO, Theorem 4.3 with eq. (24); earlier versions of this page
    Verdict: refuted where a target is cut
    Notebook: 08 §3
    """
    log_prob = torch.tensor([-1.0, -2.0, -0.5, -3.0])
    batch = rows(log_prob, log_prob, reward=torch.tensor([1.0, 0.0, 0.5, -1.0]))
    soft, stiff, stiffer = (ga.recipes.gopo(mu=mu).gradient(batch) for mu in (0.25, 2.0, 4.0))
    torch.testing.assert_close(stiff, stiffer)
    assert (soft - stiff).abs().max() > 0.1 * stiff.abs().max()


def test_the_logistic_curvature_is_the_links_and_not_the_kl_divergences():
    """Claim: of D_KL(π_θ‖π_ref), "its Hessian in log-ratio coordinates scales as σ(m)(1−σ(m))".

    Holds instead: that is the curvature of DPO's logistic likelihood. The KL penalty E_{π_k}[t log t − t + 1]
    has the curvature 1/t in v and t(1 + Δ) in Δ, which grows where the policy gains. In the logit of a binary
    policy, anchored at z = 0, the gradients of KL and χ² both vanish: zσ'(z) and 2(2σ(z) − 1)σ'(z).
    Source: GOPO, §1; OPO, Remark 3.8 and §6.3
    Verdict: refuted
    Notebook: 08 §4
    """
    link, penalty = ga.Logistic(1.0), ga.KullbackLeibler()
    for m in (2.0, 6.0, 12.0):
        x = torch.tensor(m)
        torch.testing.assert_close(link.curvature(x), torch.sigmoid(x) * torch.sigmoid(-x))
        second = torch.func.grad(torch.func.grad(penalty.penalty))(x)
        assert float(second) == pytest.approx(math.exp(m) * (1 + m))
        anchor, sure = torch.tensor([0.5, 0.5]), torch.sigmoid(x)
        slopes = {penalty: m, ga.PearsonChiSquare(): 2 * (2 * float(sure) - 1)}
        for divergence, factor in slopes.items():
            logit = torch.tensor(m, requires_grad=True)
            gradient = slope(divergence.value(binary(logit), anchor.log()), logit)
            assert float(gradient) == pytest.approx(factor * float(sure * torch.sigmoid(-x)), rel=1e-6)


def test_dpo_saturates_on_one_side_only():
    """Claim: |∇_m ℓ_DPO| = |βσ(m)(1 − σ(m))| ≤ β/4, and it tends to 0 "exponentially as |m| → ∞".

    Holds instead: ∇_m ℓ = −βσ(−βm), of size up to β and → β as m → −∞: a wrongly ordered pair is pushed at full
    strength. The expression of the claim is a curvature without its β's: β²σ(βm)σ(−βm).
    Source: GOPO, §5.2
    Verdict: refuted
    Notebook: 08 §4
    """
    beta, dpo = 0.5, ga.Logistic(0.5)
    wrong = float(dpo.force(torch.tensor(-40.0), torch.tensor(beta)))
    assert wrong == pytest.approx(-beta) and abs(wrong) > beta / 4
    m = torch.linspace(-10, 10, 41)
    torch.testing.assert_close(dpo.force(m, torch.full_like(m, beta)), -beta * torch.sigmoid(-beta * m))
    torch.testing.assert_close(dpo.curvature(m), beta**2 * torch.sigmoid(beta * m) * torch.sigmoid(-beta * m))


def test_clipping_is_flat_on_one_side_only():
    """Claim: clipping has "zero-gradient plateaus wherever |ρ_θ − 1| > ε".

    Holds instead: only beyond the wall that the advantage pushes towards. A policy that moved the wrong way
    feels the full −A.
    Source: GOPO, §4.5
    Verdict: refuted
    Notebook: 08 §4
    """
    clip = ga.Clip(0.2, 0.2)
    for sign in (1.0, -1.0):
        advantage = torch.tensor(sign)
        assert float(clip.force(torch.tensor(-sign * 0.5), advantage)) == -sign
        assert float(clip.force(torch.tensor(sign * 0.5), advantage)) == 0


# --- decoupling ----------------------------------------------------------------------------------------------------


@given(problem=problems())
def test_kl_penalised_objectives_are_decoupled_too(problem):
    """Claim: the separation of sampling from optimization geometry is "not attainable under KL-based
    objectives".

    Holds instead: ⟨g, v⟩ − β KL has the Hessian −β/(1 + v) per outcome, free of g, and its gradient in g is the
    identity: decoupled in the same sense as χ². What χ² adds is a curvature that does not move with v. What
    couples is the clip, and DPO's use of one β twice.
    Source: OPO, abstract and introduction
    Verdict: refuted
    Notebook: 08 §5
    """
    kl = ga.KL(0.7)
    assert isinstance(kl, ga.BregmanGeometry)
    v = torch.softmax(problem.drive, 0) / problem.anchor - 1
    for drive in (problem.drive, -2 * problem.drive):
        torch.testing.assert_close(kl.force(v, drive), kl.mirror(v) - drive)
        torch.testing.assert_close(kl.curvature(v, drive), 0.7 / (1 + v), rtol=1e-6, atol=1e-9)


def test_mu_moves_the_target():
    """Claim: "Changing μ alters curvature without reshaping the target"; "α purely shapes the objective (alignment
    direction), while μ purely enforces the feasibility radius".

    Holds instead: the *drive* does not contain μ and the curvature does not contain α. The target v* = g/μ
    contains both, its radius ‖g_α‖/μ depends on α at fixed μ, and at fixed radius ε the multiplier μ = ‖g_α‖/√ε
    depends on α. Once t ≥ 0 binds, even the direction depends on μ.
    Source: OPO, §6.1 and Appendix A.2; GOPO, Corollary 5.2
    Verdict: refuted
    Notebook: 08 §5
    """
    reward = torch.tensor([2.0, 0.0, -1.0])
    batch = rows(torch.zeros(3), torch.zeros(3), reward=reward)
    drives = {alpha: ga.Escort(alpha).drive(batch) for alpha in (0.2, 0.8)}
    assert not torch.equal(ga.ChiSquare(1.0).equilibrium(drives[0.2]), ga.ChiSquare(2.0).equilibrium(drives[0.2]))
    radius = {alpha: float((drives[alpha] ** 2).mean()) for alpha in drives}
    assert radius[0.2] > 4 * radius[0.8]
    stiff, soft = bounded(reward / 4.0), bounded(reward / 0.5)
    cosine = torch.nn.functional.cosine_similarity(stiff, soft, 0)
    assert float(cosine) < 0.99


def test_alpha_enters_the_curvature_in_the_parameters():
    """Claim: "changing the advantage weighting (sampling geometry) does not alter the optimization landscape
    curvature".

    Holds instead: in the chart. In Δ, in logits or in θ the Hessian also has −g·∇²u: of the ratio form at the
    anchor it is μ − g.
    Source: GOPO, Corollary 5.2; OPO, Theorem 6.1
    Verdict: refuted outside the chart
    Notebook: 08 §5
    """
    mu = 1.0
    for drive in (-0.5, 0.0, 0.5):
        x = torch.tensor(0.0, requires_grad=True)
        energy = ga.ChiSquare(mu).energy(ga.Ratio()(x), torch.tensor(drive))
        second = slope(torch.autograd.grad(energy, x, create_graph=True)[0], x)
        assert float(second) == pytest.approx(mu - drive)


def test_gradient_descent_in_probabilities_contracts_at_the_rate_of_the_rarest_outcome():
    """Claim: the contraction rate |1 − ημ| "depends only on μ".

    Holds instead: for descent along the gradient of L²(π_k), where it is a theorem (`test_contraction_rate`). Along
    the ordinary gradient in v each outcome contracts at 1 − ημπ_k(y), so an outcome of probability 1e-4 hardly
    moves. That the Hessian is μI likewise is a statement in the metric of L²(π_k).
    Source: OPO, Corollary 6.2; GOPO, Corollary 5.4
    Verdict: refuted outside the metric of L²(π_k)
    Notebook: 08 §6
    """
    anchor, drive, mu, eta = torch.tensor([0.9999, 1e-4]), torch.tensor([-1e-4, 0.9999]), 1.0, 0.5
    target = drive / mu
    v = torch.zeros(2, requires_grad=True)
    gradient = slope((anchor * ga.ChiSquare(mu).energy(v, drive)).sum(), v)
    ordinary = (v - eta * gradient - target) / (v - target)
    torch.testing.assert_close(ordinary.detach(), 1 - eta * mu * anchor)
    hilbert = (v - eta * gradient / anchor - target) / (v - target)
    torch.testing.assert_close(hilbert.detach(), torch.full((2,), 1 - eta * mu))


# --- drive: scale, shift, sampling ---------------------------------------------------------------------------------


def test_the_scale_of_the_escort_weight_does_not_cancel():
    """Claim: "Any overall scale factor in ω̃_α cancels in the centered field g", so that v* = g/μ depends on the
    relative weights, "not on their absolute magnitude".

    Holds instead: a shift of ω̃ cancels; a factor c multiplies v*. As P* ∝ exp(A), adding 1 to every advantage
    multiplies OPO's step by e^{1−α}. Weights of mean one in the group, as `Escort` makes them, do not depend on
    the factor.
    Source: OPO, Definition 3.1 and §3.1
    Verdict: refuted
    Notebook: 08 §7
    """
    advantage, alpha = torch.tensor([1.0, 0.0, -1.0]), 0.4
    unnormalised = lambda a: ((1 - alpha) * a).exp() - ((1 - alpha) * a).exp().mean()  # noqa: E731
    torch.testing.assert_close(unnormalised(advantage + 1), math.exp(1 - alpha) * unnormalised(advantage))
    batches = [rows(torch.zeros(3), torch.zeros(3), reward=a) for a in (advantage, advantage + 1)]
    torch.testing.assert_close(ga.Escort(alpha).drive(batches[0]), ga.Escort(alpha).drive(batches[1]))


def test_dividing_by_the_standard_deviation_is_not_a_projection():
    """Claim: the interpretation "reveals advantage z-score normalization as a conservation-law projection".

    Holds instead: centring alone is the projection onto {E[v] = 0}, and suffices for conservation. The z-score
    is not linear, so it is no projection: it maps g and 2g to the same point and moves vectors that conserve
    already. The author's later text says so.
    Source: OPO, abstract of v3 to v5
    Verdict: refuted; corrected by the author
    Notebook: 08 §7
    """

    def standardised(reward):
        return ga.GroupAdvantage(scale="group", epsilon=0.0).drive(rows(torch.zeros(3), torch.zeros(3), reward=reward))

    reward = torch.tensor([1.0, 0.0, -1.0])
    centred = ga.GroupAdvantage().drive(rows(torch.zeros(3), torch.zeros(3), reward=reward))
    torch.testing.assert_close(centred, reward, rtol=0, atol=0)
    assert float(centred.sum()) == 0
    torch.testing.assert_close(standardised(2 * reward), standardised(reward))
    assert not torch.equal(standardised(3 * reward), 3 * reward)


@given(anchor=policies(3), advantage=vectors(3, -2.0, 2.0), size=st.integers(2, 3))
def test_the_batch_mean_biases_the_drive(anchor, advantage, size):
    """Claim: "the batch itself provides an unbiased estimate" of E_{π_k}, centring included; E_{π_k}[g] = 0 "by
    construction".

    Holds instead: for a drive that is linear in the reward, as GOPO's, subtracting the batch's own mean shrinks the
    expected drive by (N − 1)/N and leaves the penalty alone: with six rollouts it is trained at 6/5 of the μ that is
    written. Leave-one-out is unbiased. Shown by enumerating every batch.
    Source: OPO, §3.1 and §8 (Implementation Notes)
    Verdict: refuted; by the factor (N − 1)/N for a linear drive
    Notebook: 08 §7
    """
    exact = anchor * (advantage - (anchor * advantage).sum())  # −E[(A − E A) ∂Δ] against each outcome's log-probability
    for baseline, factor in (("group", (size - 1) / size), ("leave_one_out", 1.0)):
        torch.testing.assert_close(
            expected_drive(ga.GroupAdvantage(baseline), anchor, advantage, size), factor * exact, rtol=1e-9, atol=1e-12
        )


def expected_drive(sampling: ga.SamplingGeometry, anchor: Tensor, reward: Tensor, size: int) -> Tensor:
    """E[g/N] that each outcome gets, over all batches of a size under the anchor."""
    batches = every_batch(len(anchor), size)
    group = torch.arange(len(batches)).repeat_interleave(size)
    zeros = torch.zeros(batches.numel())
    drive = sampling.drive(rows(zeros, zeros, reward=reward[batches].flatten(), group=group))
    chance = anchor[batches].prod(1).repeat_interleave(size)
    return torch.zeros(len(anchor)).index_add(0, batches.flatten(), chance * drive / size)


def test_the_batch_mean_biases_opos_drive_by_no_single_factor():
    """Claim: with six rollouts OPO is trained at 6/5 of the μ that is written.

    Holds instead: that is the factor of a linear drive. The escort weight is not linear in the reward, and the
    bias is another one for each outcome: over (0.5, 0.3, 0.2) with the rewards 1, 0.2 and −1, α = 0.4 and six
    rollouts, the 729 batches give 1.17, 1.34 and 1.10 times μ.
    Source: OPO, §3.1; earlier versions of this page
    Verdict: refuted
    Notebook: 08 §7
    """
    anchor, reward, alpha = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, 0.2, -1.0]), 0.4
    weight = ((1 - alpha) * reward).exp()
    exact = anchor * (weight / (anchor * weight).sum() - 1)
    stiffness = exact / expected_drive(ga.Escort(alpha), anchor, reward, 6)
    torch.testing.assert_close(stiffness, torch.tensor([1.166, 1.340, 1.104]), rtol=0, atol=1e-3)
    plain = anchor * (reward - (anchor * reward).sum()) / expected_drive(ga.GroupAdvantage(), anchor, reward, 6)
    torch.testing.assert_close(plain, torch.full((3,), 6 / 5))


@given(anchor=policies(3), advantage=vectors(3, -2.0, 2.0), logits=vectors(3))
def test_for_a_normalised_policy_centring_the_ratio_form_changes_nothing_but_the_variance(anchor, advantage, logits):
    """Claim: centring is "the unique conservation-law projection rather than a variance-reduction heuristic".

    Holds instead: both, for the ratio form. Under exact expectations a policy that is normalised by a softmax
    already has E[v] = 0, so the centred and the raw drive give the same loss and gradient (the paper's own shift
    invariance); what is left to change is the variance of samples.
    Source: OPO, abstract and Remark 3.7
    Verdict: refuted as an alternative; the projection is confirmed
    Notebook: 08 §7
    """
    gradients = []
    for drive in (advantage, advantage - (anchor * advantage).sum()):
        z = logits.clone().requires_grad_()
        v = torch.softmax(z, 0) / anchor - 1
        gradients.append(slope((anchor * ga.ChiSquare(1.0).energy(v, drive)).sum(), z))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)


def test_centring_the_log_form_changes_its_loss_and_gradient():
    """Claim: for a normalised policy centring changes nothing but the variance.

    Holds instead: not in the log form, which is the one that is trained: there a constant c in the drive adds
    c·KL(π_k‖π) to the loss and c(π − π_k) to its gradient in the logits. An even anchor, rewards 0 and 1, a policy
    at 0.7: centring changes the loss by 0.044 and the gradient by 0.1.
    Source: OPO, eq. (19); earlier versions of this page
    Verdict: refuted for the log form
    Notebook: 08 §7
    """
    anchor, reward = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])
    losses, gradients = [], []
    for drive in (reward, reward - 0.5):
        z = torch.tensor([math.log(0.7 / 0.3), 0.0], requires_grad=True)
        log_ratio = torch.log_softmax(z, 0) - anchor.log()
        losses.append((anchor * ga.ChiSquare(1.0).energy(log_ratio, drive)).sum())
        gradients.append(slope(losses[-1], z))
    assert float((losses[0] - losses[1]).detach()) == pytest.approx(0.0436, abs=1e-4)
    torch.testing.assert_close(gradients[0] - gradients[1], torch.tensor([0.1, -0.1]))


def test_the_baseline_does_reduce_variance():
    """Claim: centring is not variance reduction. On an even two-armed bandit with rewards 10 and 11 it removes all
    of the variance.

    Holds instead: the score-function estimate has the mean ¼ with and without the baseline. Its variance is 27.6
    without; with it both arms give the same estimate, and the variance is zero.
    Source: OPO, abstract and Remark 3.7
    Verdict: refuted as an alternative
    Notebook: 08 §7
    """
    anchor, reward = torch.tensor([0.5, 0.5]), torch.tensor([10.0, 11.0])
    score = torch.tensor([-0.5, 0.5])  # ∂ log π / ∂z of the two arms

    def moments(drive):
        mean = (anchor * drive * score).sum()
        return mean, (anchor * (drive * score) ** 2).sum() - mean**2

    raw, centred = moments(reward), moments(reward - 10.5)
    torch.testing.assert_close(raw[0], centred[0])
    assert float(raw[0]) == pytest.approx(0.25) and float(raw[1]) == pytest.approx(27.5625)
    assert float(centred[1]) == pytest.approx(0, abs=1e-12)


def test_the_inverse_probability_factor_is_not_absorbed_by_the_sampling_measure():
    """Claim: ω̃ ∝ (exp(A)/p̃)^{1−α}, p̃ = π_old, "simplifies to exp((1−α)A) when the p̃ correction is absorbed by the
    sampling measure".

    Holds instead: ω̃ = ρ_α/π_k has used the sampling measure already. Dropping the factor changes the target
    from P* ∝ exp(A) to P* ∝ π_k exp(A), the Gibbs target that DPO and RLHF share; that is what is trained, and a
    sensible choice, but another geodesic.
    Source: OPO, Appendix A.3, Step 2
    Verdict: refuted
    Notebook: 08 §8
    """
    anchor, advantage, alpha = torch.tensor([0.8, 0.2]), torch.tensor([0.0, 1.0]), 0.4

    def sampled(weight):  # the distribution that anchor samples with these weights represent
        return anchor * weight / (anchor * weight).sum()

    def geodesic(target):
        rho = anchor**alpha * target ** (1 - alpha)
        return rho / rho.sum()

    full, dropped = (advantage.exp() / anchor) ** (1 - alpha), ((1 - alpha) * advantage).exp()
    torch.testing.assert_close(sampled(full), geodesic(advantage.exp()))
    torch.testing.assert_close(sampled(dropped), geodesic(anchor * advantage.exp()))
    assert (sampled(full) - sampled(dropped)).abs().max() > 0.19


def test_the_inverse_probability_factor_leaves_one_response():
    """Claim: ω̃_α is bounded, and Algorithm 1 multiplies by sg(π_ref(y)^{−(1−α)}).

    Holds instead: over whole responses that factor is e^{(1−α)·hundreds of nats}. Six responses of 80 to 120
    nats, α = 0.4, rewards of 0 and 1: the longest one has all the weight, effective sample size 1. It takes a
    reward of 60 to give the weight to another. `Escort` leaves the factor out unless asked.
    Source: OPO, Algorithm 1 and Lemma 3.3
    Verdict: refuted in practice
    Notebook: 08 §8
    """
    log_prob = -torch.tensor([80.0, 88.0, 95.0, 100.0, 108.0, 120.0])
    reward = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])

    def ess(escort):
        weight = 1 + escort.drive(rows(log_prob, log_prob, reward=reward))
        return float(weight.sum() ** 2 / (weight**2).sum()), int(weight.argmax())

    size, longest = ess(ga.Escort(0.4, inverse_probability=True))
    assert size < 1.01 and longest == 5
    reward[0] = 60.0
    assert ess(ga.Escort(0.4, inverse_probability=True)) == (pytest.approx(1, abs=0.01), 0)
    reward[0] = 1.0
    assert ess(ga.Escort(0.4))[0] > 5.5


def test_alpha_to_one_is_no_training_and_not_supervised_fine_tuning():
    """Claim: at α → 1 the weight tends to a constant, "recovering supervised fine-tuning–like uniform weighting".

    Holds instead: a constant weight is centred away. The drive vanishes like 1 − α, the loss is the penalty
    alone and its minimum is π_k. Divided by 1 − α the drive tends to the centred advantage instead: the policy
    gradient (with the inverse-probability factor, of A − log π_k).
    Source: OPO, §8 (Relation to Existing Methods)
    Verdict: refuted
    Notebook: 08 §8
    """
    reward = torch.tensor([1.0, 0.0, -2.0])
    batch = rows(torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([-1.0, -2.0, -0.5]), reward=reward)
    assert ga.Escort(1.0).drive(batch).abs().max() == 0
    assert ga.Escort(1 - 1e-6).drive(batch).abs().max() < 3e-6
    torch.testing.assert_close(
        ga.Escort(1 - 1e-7, scaled=True).drive(batch), reward - reward.mean(), rtol=1e-5, atol=1e-5
    )


def test_the_three_papers_define_three_escort_drives():
    """Claim: "setting g = A (equivalently α = 0)" in OPO's escort field E_α = (π/π_k)^α.

    Holds instead: OPO's field is (P*/π_k)^{1−α}; at α = 0 it is P*/π_k, the most aggressive member, and its
    plain-advantage member is α → 1 (scaled). W-GOPO's (1−α)A + αA e^A is a third. No two of the three α can be
    compared.
    Source: GOPO, Remark 3.2; W-GOPO, eq. (11)
    Verdict: refuted
    Notebook: 08 §8
    """
    reward = torch.tensor([1.0, 0.0, -1.0])
    batch = rows(torch.zeros(3), torch.zeros(3), reward=reward)
    opo_zero = ga.Escort(0.0).drive(batch)
    assert (opo_zero - reward).abs().max() > 0.25
    torch.testing.assert_close(ga.Escort(1.0, scaled=True).drive(batch), reward)
    torch.testing.assert_close(escort(reward, 0.0), reward)


# --- the log-ratio surrogate ---------------------------------------------------------------------------------------


def test_the_surrogates_error_is_second_order():
    """Claim: "the difference between the exact ratio loss and the log-approximate loss scales as O(E[Δ_θ³])".

    Holds instead: the linear term differs by −g(v − Δ) = −gΔ²/2 + O(Δ³), as large as the penalty itself, for a
    drive that does not shrink with Δ. It is third order for every drive that does, g = cμΔ: ½μ(1 − c)Δ³; and fourth
    order at equilibrium, c = 1: μΔ⁴/8. The curvatures at the anchor are μ (log) and μ − g (ratio).
    Source: OPO, Lemma A.1; GOPO, Lemma A.1
    Verdict: refuted for a fixed drive
    Notebook: 08 §9
    """
    mu, drive = 1.5, torch.tensor(0.5)
    geometry = ga.ChiSquare(mu)

    def difference(x, g):
        return float(geometry.energy(ga.Ratio()(x), g) - geometry.energy(x, g))

    for delta in (1e-2, 1e-3):
        x = torch.tensor(delta)
        assert difference(x, drive) / delta**2 == pytest.approx(-0.25, rel=0.05)
        for c in (-1.0, 0.0, 0.5, 2.0):
            assert difference(x, c * mu * x) / delta**3 == pytest.approx(0.5 * mu * (1 - c), rel=0.05)
    x = torch.tensor(1e-2)
    assert difference(x, mu * x) / 1e-8 == pytest.approx(mu / 8, rel=0.05)


@given(problem=problems())
def test_the_log_form_conserves_neither_the_shift_nor_the_probability(problem):
    """Claim: the functional with ω̃ and the implementable loss with g are "identical on the feasible set"; Δ
    replaces v.

    Holds instead: for v, whose mean is zero. A normalised policy has E[Δ] = −KL(π_k‖π) < 0, so a constant c
    added to the drive changes the log form by c·KL(π_k‖π): its centring is a choice. And its pointwise target Δ
    = g/μ has E[e^{g/μ}] > 1 by Jensen: it is not a policy.
    Source: OPO, Remark 3.4 with eq. (19)
    Verdict: refuted for the log form
    Notebook: 08 §9
    """
    policy = torch.softmax(problem.drive, 0)
    log_ratio = policy.log() - problem.anchor.log()
    geometry, g, c = ga.ChiSquare(1.0), problem.centred(problem.drive), 0.7

    def loss(u, drive):
        return problem.mean(geometry.energy(u, drive))

    torch.testing.assert_close(loss(log_ratio.expm1(), g + c), loss(log_ratio.expm1(), g), rtol=1e-9, atol=1e-12)
    kl = ga.ReverseKullbackLeibler().value(policy.log(), problem.anchor.log())
    torch.testing.assert_close(loss(log_ratio, g + c) - loss(log_ratio, g), c * kl, rtol=1e-7, atol=1e-10)
    mass = problem.mean(geometry.equilibrium(g).exp())
    assert mass >= 1 - 1e-12
    if g.abs().max() > 0.1:
        assert mass > 1


# --- constraints, projections, entropy -----------------------------------------------------------------------------


def test_clamping_after_the_projection_breaks_conservation():
    """Claim: positivity is maintained by "clipping v* to [−1+ε, +∞)".

    Holds instead: clamping adds Σ_i π_k(y_i)·(−1 − v_i)₊ of probability. The bounded projection has another λ.
    Projecting a second time onto the densities, in the metric of L²(π_k), is exact: P_K(P_{H₀}u) = P_K(u). That is
    what GOPO's Figure 1 draws, whose truncation runs along the plane H₀ onto K.
    Source: OPO, §6.5 (ii); GOPO v1, abstract (unscoped vanishing of λ)
    Verdict: refuted
    Notebook: 08 §10
    """
    target = torch.tensor([1.5, 0.5, -2.0])
    clamped = target.clamp(min=-1)
    assert float(clamped.sum()) == pytest.approx(1.0)
    exact = bounded(target)
    torch.testing.assert_close(exact, torch.tensor([1.0, 0.0, -1.0]))
    torch.testing.assert_close(bounded(target + 5), exact)


def test_a_group_that_gains_probability_is_not_impossible():
    """Claim: Σ_i v_i > 0 over the group is "more total probability than available—a physically impossible
    target".

    Holds instead: Σ_i v_i = 0 over a group is neither necessary nor sufficient for Σ_y π(y) = 1: the mean is
    over samples, and responses outside the group can pay. From (0.4, 0.3, 0.3) to (0.5, 0.4, 0.1) both of the first
    two responses gain; and v = (0.6, −0.6) of responses of probability 0.9 and 0.05 is no policy's.
    Source: W-GOPO, Remark 3.4; GOPO, §4.5 ("naturally relaxed")
    Verdict: refuted
    Notebook: 08 §10
    """
    anchor, group = torch.tensor([0.4, 0.3, 0.3]), [0, 1]
    policy = torch.tensor([0.5, 0.4, 0.1])
    v = policy / anchor - 1
    assert float(policy.sum()) == pytest.approx(1) and float(v[group].sum()) > 0.5
    # Zero-mean over the group {0, 1}, and more probability than there is: the two outcomes differ in size.
    uneven, target = torch.tensor([0.9, 0.05]), torch.tensor([0.6, -0.6])
    assert float(target.sum()) == 0 and float((uneven * (1 + target)).sum()) > 1


def test_chi_square_does_not_keep_entropy():
    """Claim: the χ² cost "remains finite even when π(y) ≪ π_k(y)", which "thus helps maintain entropy"; KL's
    −log π(y) removes unlikely tokens.

    Holds instead: a finite cost of finite slope at t = 0 is what allows exact zeros, the papers' own exact
    sparsity. A cost that diverges there, as KL(π_k‖π), or is infinitely steep, as KL(π‖π_k), keeps all outcomes.
    Two arms, g = ±1, μ = 1: entropy 0 for χ², 0.37 nats for KL.
    Source: OPO, §8 (Geometric Interpretation of Entropy Preservation)
    Verdict: refuted
    Notebook: 08 §10
    """
    drive, anchor = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5])
    chi2 = anchor * (1 + bounded(drive))
    kl = torch.softmax(anchor.log() + drive, 0)
    entropy = lambda p: float(-torch.xlogy(p, p).sum())  # noqa: E731
    assert entropy(chi2) == 0
    assert entropy(kl) == pytest.approx(0.3655, abs=1e-3)
    zero = torch.tensor(0.0)
    assert float(ga.PearsonChiSquare().generator(zero)) == 0.5
    assert float(ga.ReverseKullbackLeibler().generator(zero)) == math.inf
    assert float(ga.KullbackLeibler().mirror(zero)) == -math.inf


def test_another_metric_gives_another_quadratic_response():
    """Claim: projection, mirror step and linear response agree, which "confirms that OPO is the unique quadratic
    proximal response under ratio geometry".

    Holds instead: they agree because they are one problem in one metric. In the paper's own reweighted inner
    product ⟨f, h⟩_α = E[ω̃fh] the same construction gives (g' = ω̃): v = (1 − λ/ω̃)/μ, quadratic, conserving,
    and different.
    Source: OPO, Corollary 4.1 with Lemma 3.3
    Verdict: refuted without the metric
    Notebook: 08 §6
    """
    anchor, weight, mu = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([2.0, 1.0, 0.5]), 1.0
    euclidean = (weight - (anchor * weight).sum()) / mu
    lam = 1 / (anchor / weight).sum()
    reweighted = (1 - lam / weight) / mu
    for v in (euclidean, reweighted):
        assert float((anchor * v).sum()) == pytest.approx(0, abs=1e-12)
    stationary = anchor * (weight - mu * weight * reweighted)  # ∇ of E[ω̃v] − μ/2 E[ω̃v²] must be λ·anchor
    torch.testing.assert_close(stationary / anchor, lam.expand(3))
    assert (euclidean - reweighted).abs().max() > 0.3


def test_the_multiplier_of_the_trust_region_is_half_the_stiffness():
    """Claim: the relaxation of E[v²] ≤ ε is ⟨g, v⟩ − (μ/2)‖v‖² "with μ as the multiplier"; "The dissipation term in
    the GOPO functional equals ½D_χ²(π‖π_k)".

    Holds instead: the multiplier ν of E[v²] ≤ ε is μ/2, that of ½E[v²] ≤ ε/2 is μ; the dissipation is (μ/2)D_χ².
    The value of the constrained problem is √ε‖g‖, so ν = ∂/∂ε = ‖g‖/(2√ε).
    Source: OPO, Proposition 6.3; GOPO, Proposition 5.6
    Verdict: refuted by a factor of two
    Notebook: 08 §6
    """
    anchor, radius = torch.tensor([0.5, 0.3, 0.2]), torch.tensor(0.09, requires_grad=True)
    drive = torch.tensor([1.0, -0.5, 2.0])
    g = drive - (anchor * drive).sum()
    norm = (anchor * g**2).sum().sqrt()
    value = (anchor * g * (g * radius.sqrt() / norm)).sum()
    mu = norm / radius.detach().sqrt()
    torch.testing.assert_close(slope(value, radius), mu / 2)


# --- W-GOPO --------------------------------------------------------------------------------------------------------


@given(shape=vectors(5, -1.0, 1.0), alpha=st.sampled_from([0.1, 0.5, 1.0]))
def test_poor_batches_are_not_suppressed_superlinearly(shape, alpha):
    """Claim: for poor batches (mean |A| → 0) the escort drive is O(Ā²) at α > 0 instead of O(Ā).

    Holds instead: (1−α)A + αA e^A = A + αA² + O(A³). The drive is O(Ā) for every α, with slope one; the
    second-order term *adds* to the good responses. The stated bound on Σ|ω̃| is true and says O(Ā) too.
    Source: W-GOPO, Theorem 4.1, Corollary 6.2 and Remark 3.2
    Verdict: refuted
    Notebook: 08 §11
    """
    shape = shape - shape.mean()
    for scale in (1e-2, 1e-4):
        advantage = scale * shape
        drive = escort(advantage, alpha)
        assert (drive - advantage - alpha * advantage**2).abs().max() <= alpha * scale**3
        assert (drive >= advantage - 1e-18).all()
        total, mean = advantage.abs().sum(), advantage.abs().mean()
        if total > 1e-9:
            assert abs(drive.abs().sum() / total - 1) <= scale
            ratio = (advantage.abs() * advantage.abs().exp()).sum() / (total * mean.exp())
            bound = total * ((1 - alpha) + alpha * mean.exp()) * ratio
            assert drive.abs().sum() <= bound * (1 + 1e-12)


@given(alpha=st.sampled_from([0.0, 0.4, 1.0]))
def test_no_drive_of_the_three_papers_sees_the_absolute_reward(alpha):
    """Claim: escort weights "restore absolute quality awareness"; of a uniformly poor batch OPO's "escort weight
    naturally suppresses the entire update", where GOPO cannot tell it apart.

    Holds instead: all three start from r − r̄, so every drive is the same for the paper's poor and excellent
    groups. Telling them apart needs a baseline from outside the group, such as `GroupAdvantage("batch")` or a
    value function.
    Source: W-GOPO, abstract, §1, Proposition 3.1, Remark 3.2 and Corollary 6.2
    Verdict: refuted
    Notebook: 08 §11
    """
    poor = torch.tensor([0.02, 0.05, 0.08, 0.03, 0.04, 0.06])
    good = torch.tensor([0.62, 0.65, 0.68, 0.63, 0.64, 0.66])
    drives = []
    for reward in (poor, good):
        batch = rows(torch.zeros(6), torch.zeros(6), reward=reward)
        centred = rows(torch.zeros(6), torch.zeros(6), advantage=reward - reward.mean())
        drives.append(
            torch.stack([ga.sampling.ExponentialAdvantage(alpha).drive(batch), ga.Escort(alpha).drive(centred)])
        )
    torch.testing.assert_close(drives[0], drives[1], rtol=0, atol=1e-15)
    both = rows(torch.zeros(12), torch.zeros(12), reward=torch.cat([poor, good]), group=torch.arange(12) // 6)
    across = ga.GroupAdvantage("batch").drive(both)
    assert (across[:6] < 0).all() and (across[6:] > 0).all()


def test_w_gopo_is_gopo_times_two_over_mu():
    """Claim: α = 0, c → ∞ "recovers the standard GOPO loss"; the geometry is preserved.

    Holds instead: the same minimiser of a loss that is 2/μ times as large (4 times at μ = 0.5). The Hessian is
    2/G for every μ: μ no longer is the stiffness but scales the drive, −2v* at the anchor, so it acts on the
    first order only.
    Source: W-GOPO, eq. (19), Theorems 5.2 and 6.1
    Verdict: refuted by the factor 2/μ
    Notebook: 08 §11
    """
    reward, rho = torch.tensor([0.3, 0.0, -0.3]), torch.tensor([1.2, 0.9, 0.7])
    for mu in (0.5, 2.0):
        x = rho.clone().requires_grad_()
        target = bounded((reward - reward.mean()) / mu)
        w_gopo = slope(((x - 1 - target) ** 2).mean(), x)
        gopo = slope(ga.ChiSquare(mu).energy(x - 1, reward).mean(), x)
        torch.testing.assert_close(w_gopo, 2 / mu * gopo)
        batch = rows(rho.log(), torch.zeros(3), reward=reward)
        recipes = ga.recipes.w_gopo(alpha=0.0, mu=mu, scale=1e6), ga.recipes.gopo(mu=mu)
        ours, theirs = (recipe.gradient(batch)[:, 0] for recipe in recipes)
        torch.testing.assert_close(ours, w_gopo * rho)
        torch.testing.assert_close(ours, 2 / mu * theirs)


def test_w_gopos_escort_weight_reverses_the_order_of_bad_responses():
    """Claim: the weight "exponentially amplifies high-advantage responses", and the bounded projection gives
    "catastrophically poor" ones the target zero.

    Holds instead: A ↦ (1−α)A + αA e^A increases everywhere only for α ≤ 1/(1 + e⁻²) = 0.881. At α = 1 it turns
    at A = −1 and rises back to 0: with eight rewards of 1, one of −1 and one of −12, c = 1, μ = 0.64, the target
    of the −1 is zero and that of the −12 is not.
    Source: W-GOPO, eq. (11) and §4.1 ("the strongest peak-seeking in the family", α = 1); GOPO, abstract
    Verdict: refuted for α > 0.881; the default 0.5 is monotone
    Notebook: 08 §11
    """
    threshold = 1 / (1 + math.exp(-2))
    a = torch.linspace(-8, 4, 4801)
    for alpha in (0.5, threshold - 1e-6):
        assert (escort(a, alpha).diff() > 0).all()
    assert (escort(a, threshold + 1e-2).diff() < 0).any()
    reward = torch.tensor([1.0] * 8 + [-1.0, -12.0])  # the published pipeline, c = 1
    drive = ga.sampling.ExponentialAdvantage(1.0).drive(rows(torch.zeros(10), torch.zeros(10), reward=reward))
    assert drive[9] > drive[8]
    target = bounded(drive / 0.64)
    assert float(target[8]) == -1 and float(target[9]) > -1


# --- claims that survived ------------------------------------------------------------------------------------------


@given(reward=vectors(6, -20.0, 20.0), scale=st.sampled_from([0.3, 1.0, 3.0]))
def test_squashed_advantages_have_the_stated_properties(reward, scale):
    """Claim: |A_i| ≤ 2c, ΣA = 0, the map is 1-Lipschitz and locally linear. All hold.

    Holds instead: sharper, |A_i| ≤ 2c(1 − 1/G); 1-Lipschitz in the Euclidean norm of the group.
    Source: W-GOPO, Proposition 4.4
    Verdict: confirmed
    Notebook: 08 §12
    """

    def squashed(r):
        u = scale * torch.tanh((r - r.mean()) / scale)
        return u - u.mean()

    advantage = squashed(reward)
    assert advantage.abs().max() <= 2 * scale * (1 - 1 / 6) + 1e-12
    torch.testing.assert_close(advantage.sum(), torch.tensor(0.0), rtol=0, atol=1e-12)
    jacobian = torch.func.jacrev(squashed)(reward)
    assert torch.linalg.matrix_norm(jacobian, 2) <= 1 + 1e-12
    small = 1e-4 * reward
    torch.testing.assert_close(squashed(small), small - small.mean(), rtol=0, atol=1e-7)


@given(problem=problems(), mu=st.sampled_from([0.2, 0.5, 2.0]))
def test_the_bisection_of_w_gopo_converges_as_stated(problem, mu):
    """Claim: f(λ) = Σ max(−1, (g−λ)/μ) is decreasing, the bracket holds the root, T = ⌈log₂(width/ε)⌉ halvings
    reach it. All hold.

    Holds instead: sharper, λ* ∈ [ḡ, max g], and sorting gives λ* exactly, without a tolerance; v*_i ≤ G − 1
    whatever the rewards.
    Source: W-GOPO, Lemma 4.2, Proposition 4.3 and Proposition 6.3
    Verdict: confirmed
    Notebook: 08 §12
    """
    g, size = problem.drive - problem.drive.mean(), problem.drive.shape[0]
    residual = lambda lam: ((g - lam) / mu).clamp(min=-1).sum()  # noqa: E731
    low, high, tolerance = g.min() - mu * size, g.max() + mu, 1e-5
    assert residual(low) > 0 > residual(high)
    for _ in range(math.ceil(math.log2(float(high - low) / tolerance))):
        middle = (low + high) / 2
        low, high = (middle, high) if residual(middle) > 0 else (low, middle)
    assert high - low <= tolerance * (1 + 1e-9)
    assert residual((low + high) / 2).abs() <= size / mu * tolerance / 2 * (1 + 1e-9)
    exact = bounded(g / mu)
    torch.testing.assert_close(((g - (low + high) / 2) / mu).clamp(min=-1), exact, rtol=0, atol=tolerance / mu)
    lam = (g - mu * exact)[exact > -1 + 1e-9]
    assert (lam >= -1e-9).all() and (lam <= g.max() + 1e-9).all()
    assert exact.max() <= size - 1 + 1e-9


@given(problem=problems(), mu=st.sampled_from([0.2, 0.5, 2.0]))
def test_truncating_with_a_zero_potential_creates_the_stated_residual(problem, mu):
    """Claim: with λ = 0 the truncated target sums to −Σ_S (A_i/μ + 1) > 0. Holds, as an equality.

    Holds instead: —
    Source: W-GOPO, Proposition 3.3
    Verdict: confirmed
    Notebook: 08 §12
    """
    advantage = problem.drive - problem.drive.mean()
    cut = advantage / mu < -1
    residual = (advantage / mu).clamp(min=-1).sum()
    torch.testing.assert_close(residual, -(advantage / mu + 1)[cut].sum(), rtol=1e-9, atol=1e-9)
    assert residual > 0 if (advantage / mu < -1 - 1e-9).any() else residual.abs() < 1e-9


@given(problem=problems(), alpha=st.sampled_from([0.1, 0.5, 0.9]), f=st.integers(0, 1000))
def test_the_escort_weight_is_a_bounded_positive_self_adjoint_operator(problem, alpha, f):
    """Claim: multiplication by ω̃ is bounded, self-adjoint and positive, and ⟨f, h⟩_α = ω̄·E_ρ[fh]. Holds on a
    finite support.

    Holds instead: —
    Source: OPO, Lemma 3.3
    Verdict: confirmed
    Notebook: 08 §12
    """
    weight = (problem.drive.exp() / problem.anchor) ** (1 - alpha)
    rho = problem.anchor * weight / problem.mean(weight)
    f, h = torch.sin(f + problem.drive), torch.cos(2 * f + problem.anchor)
    torch.testing.assert_close(problem.dot(weight * f, h), problem.dot(f, weight * h))
    torch.testing.assert_close(problem.dot(weight * f, h), problem.mean(weight) * (rho * f * h).sum())
    assert problem.dot(weight * f, f) >= 0
    assert problem.dot(weight * f, weight * f) <= weight.max() ** 2 * problem.dot(f, f) * (1 + 1e-12)


@given(problem=problems(), mu=st.sampled_from([0.5, 3.0]))
def test_completing_the_square(problem, mu):
    """Claim: ⟨ω, v⟩ − (μ/2)‖v‖² = −(μ/2)‖v − ω/μ‖² + ‖ω‖²/(2μ), and GOPO's bounded regression is the same loss.
    Both hold.

    Holds instead: —
    Source: OPO, Theorem 3.5; GOPO, §4.2 and eq. (24)
    Verdict: confirmed
    Notebook: 08 §12
    """
    v = torch.softmax(problem.drive, 0) / problem.anchor - 1
    work = problem.dot(problem.drive, v) - mu / 2 * problem.dot(v, v)
    off = v - problem.drive / mu
    square = -mu / 2 * problem.dot(off, off) + problem.dot(problem.drive, problem.drive) / (2 * mu)
    torch.testing.assert_close(work, square, rtol=1e-9, atol=1e-9)
    log_ratio = torch.sin(problem.drive).requires_grad_()
    target = bounded((problem.drive - problem.drive.mean()) / mu)
    regression = mu / 2 * (log_ratio.expm1() - target).square().mean()
    batch = rows(log_ratio.detach(), torch.zeros_like(problem.drive), reward=problem.drive)
    torch.testing.assert_close(ga.recipes.gopo(mu=mu).gradient(batch)[:, 0], slope(regression, log_ratio))
