"""One formula: what follows from L = E[φ(u) − g·u] with φ convex."""

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

    Source: OPO, Theorem 7.1; GOPO, Corollary 4.2
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

    Source: OPO, §1 (the coupling it objects to), made a property of the type
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
    """φ(u) + φ*(g) − g·u = B_φ(u ‖ u*) with g = φ'(u*): alignment minimises a distance of policy energy from
    target energy.

    Source: OPO, §1 (v1), made exact; Blondel et al. 2020, Proposition 3
    Notebook: 01 §2
    """
    g = geometry.mirror(target)
    torch.testing.assert_close(geometry.equilibrium(g), target, rtol=1e-6, atol=1e-8)
    bregman = geometry.value(u) - geometry.value(target) - geometry.mirror(target) * (u - target)
    torch.testing.assert_close(geometry.gap(u, g), bregman, rtol=1e-6, atol=1e-8)


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

    Source: OPO, Appendix A.4; GOPO, Proposition 4.5
    Notebook: 05 §1
    """
    policy = torch.softmax(problem.drive, 0)
    v = policy / problem.anchor - 1
    tv = 0.5 * problem.mean(v.abs())
    assert tv <= 0.5 * problem.mean(v**2).sqrt() + 1e-15
    half = Problem(torch.full((2,), 0.5), torch.tensor([0.4, -0.4]))
    tight = 0.5 * half.mean(half.drive.abs()), 0.5 * half.mean(half.drive**2).sqrt()
    torch.testing.assert_close(*tight)
