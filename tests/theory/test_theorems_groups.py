"""The group as an event: a target on the simplex of the responses to one prompt."""

import math

import pytest
import torch
from finite import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

import geomalign as ga
from geomalign.optimization import GroupContrast, GroupPotential, GroupReverseKL, PlackettLuce
from geomalign.sampling import GroupTarget

DIVERGENCES = [ga.KullbackLeibler(), ga.CressieRead(1.5), ga.PearsonChiSquare(), ga.JensenShannon()]
SIZES = st.integers(2, 7)
EXACT = {"rtol": 1e-9, "atol": 1e-10}


def target(scores):
    """n·q − 1 with q the softmax of the scores."""
    return len(scores) * scores.softmax(0) - 1


def targets(size):
    return vectors(size).map(target)


def batch_of(reward, delta=None):
    """One group of responses of one token."""
    zero = torch.zeros(len(reward), 1, dtype=torch.float64)
    return ga.Batch(zero if delta is None else delta[:, None], zero, reward=reward)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=repr)
@given(data=st.data(), size=SIZES, tau=st.sampled_from([0.2, 1.0, 5.0]))
def test_the_loss_of_a_group_is_a_fenchel_young_loss(divergence, data, size, tau):
    """τ[Ω*(u/τ) + Ω(q)] − ⟨q, u⟩ ≥ 0 for every u and target q, and zero at u* = τ∇Ω(q), where the policy over the group
    is q; its gradient is n(p − q).

    Source: Blondel, Martins and Niculae, JMLR 2020, Proposition 2
    Notebook: 09 §1
    """
    u, drive = data.draw(vectors(size)), data.draw(targets(size))
    potential = GroupPotential(divergence, tau)
    assert (potential.gap(u, drive) >= -1e-9).all()
    rest = potential.equilibrium(drive)
    torch.testing.assert_close(potential.gap(rest, drive), torch.zeros_like(u), rtol=0, atol=1e-8)
    torch.testing.assert_close(potential.mirror(rest), drive, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=repr)
@given(data=st.data(), size=SIZES)
def test_the_gradient_of_a_group_sums_to_zero(divergence, data, size):
    """∇Ω*(u/τ) − q sums to zero, and a common shift of u changes nothing: no baseline is needed, and none helps.

    Source: LPO (arXiv 2605.06139), zero-sum gradients; the simplex
    Notebook: 09 §1
    """
    u, drive = data.draw(vectors(size)), data.draw(targets(size))
    potential = GroupPotential(divergence, 0.7)
    force = potential.force(u, drive)
    torch.testing.assert_close(force.sum(), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-8)
    torch.testing.assert_close(potential.force(u + 1.7, drive), force, rtol=1e-7, atol=1e-8)
    along = potential.curvature_along(u, drive, torch.ones_like(u))
    torch.testing.assert_close(along, torch.zeros_like(u), rtol=0, atol=1e-8)


@pytest.mark.parametrize("mapping, order", [("softmax", 1.0), ("entmax", 1.5), ("sparsemax", 2.0)])
@given(data=st.data(), size=SIZES)
def test_the_policies_over_a_group_are_softmax_entmax_and_sparsemax(mapping, order, data, size):
    """p is the softmax, the 1.5-entmax and the sparsemax of u for KL, the power 1.5 and χ² at the temperature
    n^{1 − α}, and q the same of the rewards.

    Source: Martins and Astudillo 2016; Peters, Niculae and Martins 2019
    Notebook: 09 §2
    """
    u, divergence = data.draw(vectors(size)), {"softmax": DIVERGENCES[0], "entmax": DIVERGENCES[1]}
    divergence, tau = divergence.get(mapping, ga.PearsonChiSquare()), size ** (1 - order)
    expected = size * ga.ops.entmax(u, order) - 1
    torch.testing.assert_close(GroupPotential(divergence, tau).mirror(u), expected, rtol=1e-6, atol=1e-7)
    given_ = GroupTarget(ga.Advantage(), divergence, tau).drive(batch_of(u))
    torch.testing.assert_close(given_, expected, rtol=1e-6, atol=1e-7)


@given(reward=SIZES.flatmap(lambda n: vectors(n, -1.0, 1.0)))
def test_at_the_anchor_a_group_is_grpo_without_its_scale(reward):
    """At u = 0 the gradient of LPO's forward projection is −(r − r̄)/(nτ) + O(τ⁻²), ten times as near where τ is ten
    times as large; that of its reverse projection is −(r − r̄)/(nτ) exactly.

    Source: LPO (arXiv 2605.06139); docs/theory.md
    Notebook: 09 §3
    """
    batch, n = batch_of(reward), len(reward)
    first = -(reward - reward.mean()) / n
    errors = []
    for tau in (10.0, 100.0):
        found = ga.recipes.lpo(tau).gradient(batch)[:, 0] * tau
        errors.append(float((found - first).abs().max()))
        assert errors[-1] <= 2 / tau
        exact = ga.recipes.lpo(tau, "reverse").gradient(batch)[:, 0] * tau
        torch.testing.assert_close(exact, first, rtol=1e-7, atol=1e-9)
    assert errors[1] <= 0.11 * errors[0] + 1e-9


@given(u=vectors(2), beta=st.sampled_from([0.1, 1.0]))
def test_dpo_is_the_group_of_two(u, beta):
    """Two responses under the one-hot target and τ = 1/β have DPO's gradient, and so has their ranking; with the target
    (1 − ε, ε) it is that of DPO with label smoothing.

    Source: Rafailov et al. 2023 (arXiv 2305.18290); Chen et al. 2024 (InfoNCA, arXiv 2402.05369)
    Notebook: 09 §1
    """
    margin = beta * (u[0] - u[1])
    for epsilon in (0.0, 0.2):
        drive = torch.tensor([1.0 - 2 * epsilon, 2 * epsilon - 1.0], dtype=torch.float64)
        force = GroupPotential(temperature=1 / beta).force(u, drive) / 2
        dpo = epsilon - torch.sigmoid(-margin)
        torch.testing.assert_close(force, torch.stack([dpo, -dpo]), **EXACT)
    ranking = PlackettLuce().energy(beta * u, drive)[0]
    torch.testing.assert_close(ranking, torch.nn.functional.softplus(-margin), **EXACT)


@given(data=st.data(), size=SIZES)
def test_a_separable_potential_of_a_group_is_that_of_its_events(data, size):
    """Near the anchor every potential of a group is (1/2τψ''(1)) times the squared deviation of u from its mean, to
    third order: χ² of single events, centred. Where nobody is bound, that of Pearson's χ² is exactly it.

    Source: docs/theory.md; the second derivative of a conjugate
    Notebook: 09 §3
    """
    u, drive = data.draw(vectors(size, -1.0, 1.0)), data.draw(targets(size))
    centred = u - u.mean()
    chi2 = ga.ChiSquare(0.5)
    small = 0.2 * centred
    found = GroupPotential(ga.PearsonChiSquare(), 2.0).force(small, drive)
    torch.testing.assert_close(found, chi2.force(small, drive), **EXACT)
    for divergence in DIVERGENCES:
        potential = GroupPotential(divergence, 2.0)
        expected = chi2.value(1e-2 * centred).mean() / divergence.curvature(torch.ones((), dtype=torch.float64))
        assert (potential.value(1e-2 * u) - expected).abs().max() <= 1e-6, divergence


@settings(max_examples=10)
@given(data=st.data(), size=SIZES)
def test_gradient_flow_contracts_groups(data, size):
    """Under du/dt = −force two solutions of a decoupled group approach each other, |u − w|² falls, and the policy
    over the group goes to the target: p → q.

    Source: monotone flows; LPO (arXiv 2605.06139), monotone improvement
    Notebook: 09 §4
    """
    u, w, drive = data.draw(vectors(size)), data.draw(vectors(size)), data.draw(vectors(size, -1.0, 1.0).map(target))
    potential, before = GroupPotential(), math.inf
    for _ in range(300):
        apart = float((u - w).square().sum())
        assert apart <= before * (1 + 1e-12) + 1e-24
        before = apart
        u, w = (x - 0.2 * potential.force(x, drive) for x in (u, w))
    torch.testing.assert_close(potential.mirror(u), drive, rtol=0, atol=1e-4)


def test_a_group_saturates_in_the_logits_as_its_policy_does():
    """The Hessian of the loss in u is (diag p − ppᵀ)n/τ: at u = (12, 0, 0) its norm is 4e-5 of that at the anchor,
    while χ² of single events keeps its own. A response far below its target still has the force −n·q, so that the way
    back is a line; a policy that has become one-hot on the wrong response returns with the full force.

    Source: geomalign, *Saturation in the logit*, for groups
    Notebook: 09 §5
    """
    potential, far = GroupPotential(), torch.tensor([12.0, 0.0, 0.0], dtype=torch.float64)
    drive = torch.tensor([-1.0, 2.0, -1.0], dtype=torch.float64)  # one-hot on the second
    norms = [torch.linalg.matrix_norm(torch.func.jacrev(potential.mirror)(u), 2) for u in (torch.zeros_like(far), far)]
    assert 2e-5 < float(norms[1] / norms[0]) < 6e-5
    torch.testing.assert_close(potential.force(far, drive)[:2], torch.tensor([3.0, -3.0]).double(), rtol=1e-4, atol=0)


def test_a_sparse_group_gives_no_gradient_far_below_the_target():
    """Of responses without target and outside the policy's support sparsemax has exactly no force; softmax always has
    some. The reverse projection has none where the policy has none, whatever the target.

    Source: Martins and Astudillo 2016; LPO (arXiv 2605.06139), mode seeking
    Notebook: 09 §2
    """
    u, drive = torch.tensor([3.0, 0.0, -3.0]).double(), torch.tensor([2.0, -1.0, -1.0]).double()
    assert GroupPotential(ga.PearsonChiSquare()).force(u, drive)[2] == 0
    assert GroupPotential().force(u, drive)[2] > 0
    lost = torch.tensor([40.0, 0.0, -40.0]).double()
    wanted = torch.tensor([-1.0, -1.0, 2.0]).double()
    assert GroupReverseKL().force(lost, wanted).abs()[2] < 1e-20
    assert GroupPotential().force(lost, wanted)[2] == -3


@given(data=st.data(), size=SIZES)
def test_a_group_is_decoupled_and_a_classification_is_not(data, size):
    """The curvature of a target on the simplex is the same for every target; that of REAL and of a ranking changes with
    the labels.

    Source: OPO, Theorem 6.1, for groups; REAL (arXiv 2602.05630)
    Notebook: 09 §7
    """
    u, one, other = data.draw(vectors(size)), data.draw(targets(size)), data.draw(targets(size))
    direction = torch.linspace(-1, 1, size, dtype=torch.float64)
    potential = GroupPotential(ga.CressieRead(1.5))
    found = [potential.curvature_along(u, g, direction) for g in (one, other)]
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert ga.recipes.lpo().decoupled and not ga.recipes.real().decoupled
    sign = torch.ones(size, dtype=torch.float64)
    mixed = torch.where(torch.arange(size) == 0, -sign, sign)
    classes = [GroupContrast().curvature_along(u, g, direction) for g in (sign, mixed)]
    assert (classes[0] - classes[1]).abs().max() > 1e-6
