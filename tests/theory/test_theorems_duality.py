"""One formula: what follows from L = E[φ(u) − g·u] with φ convex."""

import math

import pytest
import torch
from finite import DIVERGENCES, Problem, numbers, problems, vectors
from hypothesis import given, settings
from hypothesis import strategies as st

import geomalign as ga

GEOMETRIES = [
    ga.ChiSquare(0.7),
    ga.KL(1.3),
    ga.ReverseKL(2.0),
    ga.AlphaDivergence(1.5, 0.8),
    ga.FDivergence(ga.JensenShannon(), 1.1),
    ga.Logistic(0.6),
    ga.ChiSquare(0.5) + ga.KL(0.4),
    0.3 * ga.Logistic(2.0),
]


def inside(geometry: ga.BregmanGeometry, fraction: torch.Tensor) -> torch.Tensor:
    """A drive that the geometry can balance: fractions of (0, 1) mapped well into `drives`."""
    low, high = max(geometry.conjugate_domain.low, -2.0), min(geometry.conjugate_domain.high, 2.0)
    return low + (0.02 + 0.96 * fraction) * (high - low)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=repr)
@settings(max_examples=25)
@given(u=vectors(4, -0.9, 2.0), g=vectors(4, -2.0, 2.0))
def test_decoupling(geometry, u, g):
    """The drive enters the force linearly, with slope −1, and the curvature not at all.

    Source: OPO, Theorem 6.1; GOPO, Corollary 5.2
    Notebook: 01 §4
    """
    u, g = u.requires_grad_(), g.requires_grad_()
    (force,) = torch.autograd.grad(geometry.energy(u, g).sum(), u, create_graph=True)
    (mixed,) = torch.autograd.grad(force.sum(), g, retain_graph=True)
    torch.testing.assert_close(mixed, -torch.ones_like(g))
    torch.testing.assert_close(force, geometry.mirror(u) - g)
    torch.testing.assert_close(geometry.curvature(u, g), geometry.curvature(u, -3 * g), rtol=0, atol=0)


@given(u=vectors(6, -0.9, 2.0), g=vectors(6, 0.1, 2.0))
def test_clipping_is_not_decoupled(u, g):
    """PPO's potential stands where the drive's sign says: its mirror differs for g and −g, and it is no Bregman
    geometry.

    Source: OPO, introduction (the coupling it objects to), made a property of the type
    Notebook: 01 §4
    """
    clip = ga.Clip(0.2, 0.2)
    assert not isinstance(clip, ga.BregmanGeometry)
    far = u.abs() + 0.3
    assert (clip.mirror(far, g) != clip.mirror(far, -g)).all()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=repr)
@settings(max_examples=25)
@given(u=vectors(5, -0.95, 3.0), fraction=vectors(5, 0.0, 1.0))
def test_fenchel_young_losses_are_never_negative_and_zero_at_equilibrium(geometry, u, fraction):
    """φ(u) + φ*(g) − g·u ≥ 0, with equality at u* = (φ')⁻¹(g), where the force vanishes; at the wall u* = −1 it
    points out.

    Source: Blondel, Martins and Niculae, JMLR 2020, Proposition 2
    Notebook: 01 §2
    """
    g = inside(geometry, fraction)
    assert (geometry.gap(u, g) >= -1e-9).all()
    target = geometry.equilibrium(g)
    torch.testing.assert_close(geometry.gap(target, g), torch.zeros_like(g), rtol=0, atol=1e-8)
    force = geometry.force(target, g)
    at_the_wall = target <= geometry.domain.low + 1e-12
    assert torch.where(at_the_wall, force >= -1e-8, force.abs() <= 1e-8).all()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=repr)
@settings(max_examples=25)
@given(u=vectors(5, -0.95, 2.0), target=vectors(5, -0.95, 2.0))
def test_the_gap_is_the_bregman_divergence_of_policy_from_target(geometry, u, target):
    """φ(u) + φ*(g) − g·u = B_φ(u ‖ u*) where g = φ'(u*): alignment minimises a Bregman divergence of policy from
    target.

    Source: OPO, §1 (v1), made exact; Blondel et al. 2020, Proposition 3
    Notebook: 01 §2
    """
    g = geometry.mirror(target)
    torch.testing.assert_close(geometry.equilibrium(g), target, rtol=1e-6, atol=1e-8)
    bregman = geometry.value(u) - geometry.value(target) - geometry.mirror(target) * (u - target)
    torch.testing.assert_close(geometry.gap(u, g), bregman, rtol=1e-6, atol=1e-8)


@given(u=vectors(6, -1.0, 3.0), drive=numbers(-9.0, -1.0))
def test_at_a_wall_the_gap_exceeds_the_bregman_divergence(u, drive):
    """Where the drive pushes beyond the domain's end u*, φ(u) + φ*(g) − g·u = B_φ(u ‖ u*) + (φ'(u*) − g)(u − u*): χ² on
    t ≥ 0 under g = −3 has the gap 2.5 at the anchor, and B_φ(0 ‖ −1) = ½.

    Source: the optimality condition at a boundary; geomalign
    Notebook: 01 §2
    """
    geometry, wall = ga.AlphaDivergence(2.0), torch.tensor(-1.0)
    g = torch.full_like(u, drive)
    assert (geometry.equilibrium(g) == wall).all()
    excess = (geometry.mirror(wall) - g) * (u - wall)
    bregman = geometry.value(u) - geometry.value(wall) - geometry.mirror(wall) * (u - wall)
    torch.testing.assert_close(geometry.gap(u, g), bregman + excess, rtol=1e-9, atol=1e-12)
    assert float(geometry.gap(torch.tensor(0.0), torch.tensor(-3.0))) == 2.5


def test_a_value_that_is_only_reported_has_the_gap_of_what_acts():
    """φ(u) + φ*(g) − g·u ≥ 0 with equality at u*, for a potential that reports one value and is differentiated as
    another: the gap is that of the one that acts. With the reported value it would be −0.13 at u = 1.

    Source: geomalign (`StraightThrough`)
    Notebook: 01 §2
    """
    penalty = ga.StraightThrough(ga.ReverseKL(), ga.ChiSquare())
    u, g = torch.linspace(-3, 3, 25), torch.linspace(-2, 2, 9)[:, None]
    torch.testing.assert_close(penalty.gap(u, g), ga.ChiSquare().gap(u, g))
    assert (penalty.gap(u, g) >= 0).all()
    at_rest = penalty.gap(penalty.equilibrium(g), g)
    torch.testing.assert_close(at_rest, torch.zeros_like(at_rest), rtol=0, atol=1e-12)
    reported = float(penalty.energy(torch.tensor(1.0), torch.tensor(1.0)) + penalty.conjugate(torch.tensor(1.0)))
    assert abs(reported + 0.132) < 1e-3


@given(problem=problems())
def test_the_reverse_chi_square_is_a_function_of_log_margins(problem):
    """χ²(π_k‖π) = E[cosh(Δ − Δ') − 1] over independent pairs of the anchor: a function of the margin of Δ alone, as
    Pearson's χ² is of the margin of v.

    Source: geomalign, *Where a trust region is defined*
    Notebook: 02 §1
    """
    log_ratio = torch.log_softmax(problem.drive, 0) - problem.anchor.log()
    margin = log_ratio[:, None] - log_ratio[None, :]
    pairs = problem.anchor[:, None] * problem.anchor[None, :]
    chi_square = 2 * ga.NeymanChiSquare().value(torch.log_softmax(problem.drive, 0), problem.anchor.log())
    torch.testing.assert_close((pairs * (margin.cosh() - 1)).sum(), chi_square, rtol=1e-9, atol=1e-12)


def test_half_the_mean_square_margin_needs_independent_pairs():
    """½E[m²] = E[v²] holds of two independent responses of the anchor. Of the best and the worst of three it is 1.67
    times as much.

    Source: geomalign, *Where a trust region is defined*
    Notebook: 05 §2
    """
    v = torch.tensor([-1.0, 0.0, 1.0])
    first, second, third = torch.cartesian_prod(v, v, v).unbind(1)
    square = v.square().mean()
    torch.testing.assert_close(0.5 * (first - second).square().mean(), square)
    worst, best = torch.stack([first, second, third]).aminmax(dim=0)
    ratio = 0.5 * (best - worst).square().mean() / square
    torch.testing.assert_close(ratio, torch.tensor(0.5 * 60 / 27 / (2 / 3)))


def test_the_tokens_chi_square_under_the_anchor_does_not_bound_the_responses_kl():
    """KL of a response is the sum of its tokens' conditional KLs under the states of π. Under the anchor's states the
    sum of χ² does not bound it: 1.20 against 10.4 nats over 1,000 tokens.

    The first token enters a mode with the probability 0.001 (anchor) or 0.015; in it every later token is even under
    the anchor and certain under the policy, χ² = 1 and KL = log 2. Outside of it the two policies are the same.

    Source: the chain rule; geomalign, *Where a trust region is defined*
    Notebook: 02 §1
    """
    p, q, later = 0.001, 0.015, 999
    anchor, policy = torch.tensor([1 - p, p]), torch.tensor([1 - q, q])
    sure, even = torch.tensor([0.0, -math.inf]), torch.tensor([0.5, 0.5]).log()
    token = float(2 * ga.PearsonChiSquare().value(sure, even)), float(ga.KullbackLeibler().value(sure, even))
    assert token == (1.0, pytest.approx(math.log(2)))
    first = float(2 * ga.PearsonChiSquare().value(policy.log(), anchor.log()))
    # Responses outside the mode, the one in it that the policy gives, and all others.
    anchored = torch.tensor([math.log(1 - p), math.log(p) - later * math.log(2), math.log(p)])
    given_by_policy = torch.tensor([math.log(1 - q), math.log(q), -math.inf])
    response = float(ga.KullbackLeibler().value(given_by_policy, anchored))
    chain = float(ga.KullbackLeibler().value(policy.log(), anchor.log())) + q * later * token[1]
    assert response == pytest.approx(chain) == pytest.approx(10.41, abs=0.01)
    assert first + p * later * token[0] == pytest.approx(1.195, abs=1e-3)  # under the anchor's states
    assert first + q * later * token[0] > response  # under the policy's, χ² bounds it


@given(drive=vectors(5, -0.95, 0.95))
def test_a_plain_function_has_its_equilibrium_where_its_slope_is_the_drive(drive):
    """φ = log cosh, which overflows to NaN far out: u* = artanh g all the same, and the gap there is zero.

    Source: geomalign (`ConvexPotential`); inverse of the mirror
    Notebook: 07 §1
    """
    geometry = ga.ConvexPotential(lambda u: torch.log(torch.cosh(u)))
    torch.testing.assert_close(geometry.equilibrium(drive), torch.atanh(drive), rtol=1e-9, atol=1e-12)
    gap = geometry.gap(torch.atanh(drive), drive)
    torch.testing.assert_close(gap, torch.zeros_like(drive), rtol=0, atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=repr)
@settings(max_examples=25)
@given(x=vectors(3, -0.9, 2.0), y=vectors(3, -0.9, 2.0), z=vectors(3, -0.9, 2.0))
def test_three_point_identity(geometry, x, y, z):
    """B(x‖z) = B(x‖y) + B(y‖z) + ⟨φ'(y) − φ'(z), x − y⟩, the law of cosines of mirror descent.

    Source: Chen and Teboulle, SIAM J. Optim. 1993, Lemma 3.1
    Notebook: 02 §3
    """

    def bregman(a, b):  # by the conjugate: from value and mirror alone the identity holds of any two functions
        return geometry.gap(a, geometry.mirror(b))

    right = bregman(x, y) + bregman(y, z) + (geometry.mirror(y) - geometry.mirror(z)) * (x - y)
    torch.testing.assert_close(bregman(x, z), right, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=repr)
@settings(max_examples=25)
@given(problem=problems())
def test_a_bregman_divergence_taken_in_the_ratio_is_an_f_divergence(divergence, problem):
    """E_{π_k}[ψ(t) − ψ(1) − ψ'(1)(t − 1)] = D_ψ(π‖π_k) for every generator ψ, at a normalised π.

    Source: Csiszár 1967; geomalign, *Charts are dual coordinates*
    Notebook: 02 §1
    """
    policy = torch.softmax(problem.drive, 0)
    t = policy / problem.anchor
    one = torch.ones_like(t)
    bregman = divergence.generator(t) - divergence.generator(one) - divergence.mirror(one) * (t - one)
    expected = divergence.value(policy.log(), problem.anchor.log())
    torch.testing.assert_close(problem.mean(bregman), expected, rtol=1e-9, atol=1e-12)
    assert expected >= -1e-12


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=repr)
@settings(max_examples=25)
@given(log_ratio=vectors(5, -3.0, 3.0))
def test_charts_are_dual_coordinates(divergence, log_ratio):
    """The chart of a divergence is ψ'(e^Δ): Δ for KL, t − 1 for Pearson's χ², and its inverse gives Δ back.

    Source: geomalign, *Charts are dual coordinates of divergences*
    Notebook: 02 §1
    """
    chart = ga.Dual(divergence)
    t = log_ratio.exp().requires_grad_()
    (mirror,) = torch.autograd.grad(divergence.generator(t).sum(), t)
    torch.testing.assert_close(chart(log_ratio), mirror, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(chart.inverse(chart(log_ratio)), log_ratio, rtol=1e-7, atol=1e-7)


@given(log_ratio=vectors(5, -2.0, 2.0), power=numbers(1e-6, 1e-4))
def test_box_cox_charts_join_the_log_ratio_to_the_ratio(log_ratio, power):
    """(t^p − 1)/p is t − 1 at p = 1 and tends to log t as p → 0, at rate p.

    Source: Box and Cox, JRSS B 1964; Cressie and Read, JRSS B 1984
    Notebook: 02 §2
    """
    torch.testing.assert_close(ga.Power(1.0)(log_ratio), ga.Ratio()(log_ratio))
    error = (ga.Power(power)(log_ratio) - ga.LogRatio()(log_ratio)).abs()
    assert (error <= power * log_ratio**2 + 1e-15).all()


@given(problem=problems(), other=st.integers(0, 2**31))
def test_pinsker(problem, other):
    """TV(π, π_k)² ≤ KL(π‖π_k)/2.

    Source: Pinsker 1964; Csiszár 1967
    Notebook: 05 §1
    """
    policy = torch.softmax(problem.drive, 0)
    tv = 0.5 * (policy - problem.anchor).abs().sum()
    kl = ga.KullbackLeibler().value(policy.log(), problem.anchor.log())
    assert tv**2 <= kl / 2 + 1e-15


@given(problem=problems())
def test_total_variation_is_bounded_by_chi_square(problem):
    """E[v²] ≤ ε implies TV ≤ √ε/2; equality where |v| is constant.

    Source: OPO, Appendix A.4; GOPO, Proposition 5.7
    Notebook: 05 §1
    """
    policy = torch.softmax(problem.drive, 0)
    v = policy / problem.anchor - 1
    tv = 0.5 * problem.mean(v.abs())
    assert tv <= 0.5 * problem.mean(v**2).sqrt() + 1e-15
    half = Problem(torch.full((2,), 0.5), torch.tensor([0.4, -0.4]))
    tight = 0.5 * half.mean(half.drive.abs()), 0.5 * half.mean(half.drive**2).sqrt()
    torch.testing.assert_close(*tight)
