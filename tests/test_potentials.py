"""Potentials of single events at their edges, by hand: walls and kinks, where a potential goes on as a line, where its
drives end, and what it is without a drive."""

from __future__ import annotations

import math

import pytest
import torch
from test_slot_values import close, column
from torch import Tensor

import geomalign as ga
from geomalign import optimization
from geomalign._util.types import Interval
from geomalign.optimization.roots import limit

EPS = torch.finfo(torch.float64).eps


# ---- at a wall or a kink itself


def test_a_clip_holds_from_its_wall_on() -> None:
    clip = ga.Clip(0.25, 0.5, dual=4.0)
    u, drive = column(0.5, 0.5 + 1e-12, -0.25, -0.25 - 1e-12, 3.0, 3.0 + 1e-12, 7.0), column(1, 1, -1, -1, -1, -1, 0)
    expected = [-1, 0, 1, 0, 1, 0, 0]
    close(clip.force(u, drive), expected)
    close(clip.energy_and_force(u, drive)[1], expected)


def test_kinks_of_hinges() -> None:
    """At βu = 1 the potentials of hinges have the slopes and curvatures of the flat side, and no force."""
    kink, hinge, square = column(2.0 - 1e-12, 2.0, 2.0 + 1e-12), ga.Hinge(0.5), optimization.SquaredHinge(0.5)
    close(hinge.mirror(kink), [0, 0, 0.5])
    close(hinge.force(kink, torch.full_like(kink, 0.2)), [-0.2, 0, 0.3])
    close(square.curvature(kink), [0.5, 0, 0])


@pytest.mark.parametrize(
    "low, high, rest", [(-3.0, -1.0, -1.0), (1.0, 2.0, 1.0), (-1.0, 2.0, 0.0), (-math.inf, 2.0, 0.0)]
)
def test_without_a_drive_an_interval_rests_where_it_is_nearest_to_the_anchor(
    low: float, high: float, rest: float
) -> None:
    of = ga.Indicator(low, high)
    close(of.equilibrium(column(0.0, 1.0)), [rest, high])
    close(of.conjugate(column(0.0, 1.0)), [0.0, high])
    assert of.conjugate_domain.low == (0.0 if math.isinf(low) else -math.inf) and of.conjugate_domain.high == math.inf


def test_an_interval_is_no_point_and_a_dual_clip_lies_beyond_the_clip() -> None:
    for low, high in ((1.0, 1.0), (0.0, -0.0)):
        with pytest.raises(ValueError, match="low < high"):
            ga.Indicator(low, high)
    assert ga.Clip(0.2, 0.5, dual=1.5 + 1e-9).dual
    with pytest.raises(ValueError, match="must exceed 1"):
        ga.Clip(0.2, 0.5, dual=1.5)
    for floor in (0.0, 1.0 + 1e-9):
        with pytest.raises(ValueError, match="floor="):
            optimization.ImplicitNegative(floor)


def test_a_constant_push_rests_where_it_meets_its_equal() -> None:
    assert ga.Linear(0.5).equilibrium(column(0.4, 0.5, 0.6)).tolist() == [-math.inf, 0.0, math.inf]
    assert ga.Linear(0.5).conjugate(column(0.4, 0.5, 0.6)).tolist() == [math.inf, 0.0, math.inf]


@pytest.mark.parametrize(
    "of, low, high",
    [
        (ga.Logistic(1.0), 0.0, math.inf),  # finite at drives of 0 and 1 alone, its own ends included
        (ga.ReverseKL(1.0), -math.inf, math.inf),
        (ga.ReverseKL(1 - 1e-9), -math.inf, 0.0),
        (ga.Indicator(-math.inf, 0.0), 0.0, math.inf),
        (ga.Indicator(0.0, math.inf), -math.inf, 0.0),
    ],
)
def test_of_a_scaled_potential_the_ends_of_its_drives_are_signs(
    of: ga.BregmanGeometry, low: float, high: float
) -> None:
    assert ga.AdvantageScaled(of).conjugate_domain == Interval(low, high)


# ---- the implicit policy of failures


@pytest.mark.parametrize(
    "standardised, drive, odds", [(False, -0.25, 1 / 3), (False, -0.99, 49.0), (True, -0.5, 0.25), (True, -10.0, 49.0)]
)
@pytest.mark.parametrize("floor", [1.0, 0.3])
def test_a_failure_by_hand(standardised: bool, drive: float, odds: float, floor: float) -> None:
    """−ω log of the left share, ω = |g|/odds, with the tangent below the floor. A success rate is at most 0.98."""
    of, steps = optimization.ImplicitNegative(floor, standardised), [-1.0, -0.01, 0.0, 0.004, 0.015, 1.5]
    left = [1 - odds * math.expm1(u) for u in steps]
    energy = [math.log(max(x, floor)) + min(x - floor, 0) / floor for x in left]
    ratio = [math.exp(u) / max(x, floor) for u, x in zip(steps, left)]
    bent = [odds * r * r * (x > floor) for r, x in zip(ratio, left)]
    u, g = column(*steps), torch.full((len(steps),), drive, dtype=torch.float64)
    close(of.energy(u, g), [drive / odds * x for x in energy])
    close(of.force(u, g), [-drive * r for r in ratio])
    close(of.curvature(u, g), [-drive * (r + x) for r, x in zip(ratio, bent)])
    assert of.conjugate(g[:1]).tolist() == [pytest.approx(-drive / odds * math.log1p(odds))]


@pytest.mark.parametrize("floor", [1.0, 0.5])
def test_a_failure_at_its_floor_pulls_once_under_autograd(floor: float) -> None:
    """At ε = 1 the floor is reached at the anchor, where every rollout begins."""
    of, g = optimization.ImplicitNegative(floor), column(-0.5)
    u = column(0.0 if floor == 1.0 else math.log(1.5)).requires_grad_()
    assert of._left(u.detach(), of._failure(g)[1]).item() == pytest.approx(floor)
    (found,) = torch.autograd.grad(of.energy(u, g).sum(), u)
    torch.testing.assert_close(found, of.force(u, g).detach())


def test_a_success_of_the_implicit_policy_is_a_linear_push() -> None:
    of, u = optimization.ImplicitNegative(), column(-1.0, 0.0, 2.0)
    for g in (0.0, 0.7):
        drive = torch.full_like(u, g)
        close(of.force(u, drive), [-g] * 3)
        close(of.energy(u, drive), [g, 0.0, -2 * g])
        close(of.curvature(u, drive), [0.0] * 3)
    drive = column(-0.5, 0.0, 0.5)
    assert of.conjugate(drive).tolist() == [pytest.approx(0.5 * math.log(2)), 0.0, math.inf]
    assert of.equilibrium(drive).tolist() == [-math.inf, 0.0, math.inf]


# ---- curvature


@pytest.mark.parametrize(
    "of, curvature",
    [
        (ga.ChiSquare(3.0), 3.0),
        (ga.Clip(), 0.0),
        (ga.AdvantageScaled(ga.ChiSquare(3.0)), 0.0),
        (ga.ImportanceWeighted(ga.ChiSquare(3.0)), 0.0),
        (optimization.SigmoidClip(), 0.0),
        (optimization.ImplicitNegative(), 0.0),
        (optimization.GroupPairs(), 0.0),
        (optimization.GroupContrast(), 0.0),
        (optimization.GroupDiscrimination(0.5), 0.0),
        (optimization.GroupReverseKL(0.5), 1.0),  # t(1 − 1/n)/τ
        (optimization.PlackettLuce(), 0.5),  # n·p(1 − p)
    ],
    ids=str,
)
def test_the_curvature_without_a_drive_is_that_of_a_drive_of_zero(
    of: ga.OptimizationGeometry, curvature: float
) -> None:
    u = torch.zeros(2)
    close(of.curvature(u), [curvature] * 2)
    close(of.curvature(u, torch.zeros(2)), [curvature] * 2)


def test_weights_by_which_a_coupled_curvature_grows() -> None:
    u, drive = column(0.5, 0.5), column(2.0, -2.0)
    close(ga.AdvantageScaled(ga.ChiSquare(3.0)).curvature(u, drive), [6.0, 6.0])
    of = ga.ReverseKL(2.0)  # φ' = 2(1 − e^{−u}), φ'' = 2e^{−u}
    for differentiated, expected in ((True, 2.0), (False, 2 * math.exp(-0.5))):
        weighed = ga.ImportanceWeighted(of, differentiate_weight=differentiated)
        close(weighed.curvature(u, drive), [2 * expected, -2 * expected])
    assert weighed.conjugate(drive).tolist() == [0.0, math.inf]  # a weight is never negative


# ---- where a potential goes on as a line, and where drives end


@pytest.mark.parametrize(
    "of, bend, mirror",
    [(ga.KL(2.0), 300.0, 600.0), (ga.AlphaDivergence(1.0, 2.0), 150.0, 300.0)],
    ids=str,
)
def test_a_ratio_is_bounded_by_the_range_of_exponentials(of: ga.BregmanGeometry, bend: float, mirror: float) -> None:
    """Up to L and to L/2 nats, L = 300; and from the rounding of 1 + u on below."""
    u = column(math.exp(bend - 5), math.exp(bend + 5), -1 + EPS / 2, -3.0)
    floor = 2.0 * math.log(EPS)
    torch.testing.assert_close(of.mirror(u), column(mirror - 10, mirror, floor, floor), rtol=1e-6, atol=0)
    assert of.curvature(u)[0] > 0 and of.curvature(u)[1:].tolist() == [0.0] * 3


def test_a_probability_is_bounded_by_its_rounding() -> None:
    of, ends = ga.NegativeEntropy(), column(-1.0, 0.0, 1.0, 2.0)
    logit = math.log(EPS)
    torch.testing.assert_close(of.mirror(ends), column(logit, logit, -logit, -logit), rtol=1e-12, atol=0)
    assert of.curvature(ends).tolist() == [0.0] * 4 and of.curvature(column(0.5)).tolist() == [4.0]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("rise, settled", [(0.9e-3, True), (1.1e-3, False)])
def test_a_mirror_settles_that_rises_by_a_thousandth_in_its_last_decade(
    sign: float, rise: float, settled: bool
) -> None:
    def mirror(u: Tensor) -> Tensor:
        return u.clamp(-1, 1) + torch.where(u.abs() > 5e8, rise, 0.0) * u.sign()

    found = limit(mirror, Interval(), sign)
    assert found == (pytest.approx(sign * (1 + rise), rel=1e-14) if settled else sign * math.inf)
    assert not settled or abs(found) > 1 + rise, "wider by rounding"


def test_a_mirror_of_which_two_numbers_are_known_is_not_bounded() -> None:
    for known, bounded in ((2, False), (3, True)):
        first = 10.0 ** (known - 1.5)  # of 0, 1, 10, …

        def mirror(u: Tensor, first: float = first) -> Tensor:
            return torch.where(u < first, u.clamp(max=1), math.nan)

        assert math.isfinite(limit(mirror, Interval(), 1.0)) is bounded
    assert limit(torch.tanh, Interval(high=5.0), 1.0) == math.inf and limit(torch.tanh, Interval(low=-5.0), 1.0) < 2
    assert limit(torch.ones_like, Interval(), -1.0) == 1.0, "a constant has no rounding"


# ---- sums and multiples


def test_ends_of_sums_and_multiples() -> None:
    assert (2 * ga.Logistic(0.5)).conjugate_domain == Interval(0.0, 1.0)
    assert (ga.Logistic(0.5) + ga.Hinge(2.0)).conjugate_domain == Interval(0.0, 2.5)
    assert (ga.Indicator(-1.0, 2.0) + ga.Indicator(-3.0, 1.0)).domain == Interval(-1.0, 1.0)
    assert (ga.Clip() + ga.Indicator(-1.0, 2.0) + ga.KL()).domain == Interval(-1.0, 2.0)
    assert ga.StraightThrough(ga.Indicator(-1.0, 2.0), ga.Indicator(-3.0, 1.0)).domain == Interval(-1.0, 1.0)
    assert ga.StraightThrough(ga.KL(), ga.Logistic(0.5)).conjugate_domain == Interval(0.0, 0.5)


def test_all_parts_of_a_sum_resist_and_one_of_them_is_driven() -> None:
    u, g = column(0.1), column(1.0)
    three = ga.ChiSquare(1.0) + ga.ChiSquare(2.0) + ga.ChiSquare(4.0)
    close(three.value(u), [0.035])  # type: ignore[attr-defined]
    close(three.mirror(u, g), [0.7])
    close(three.curvature(u), [7.0])
    coupled = ga.Clip(0.2, 0.2) + ga.ChiSquare(2.0) + ga.ChiSquare(4.0)
    close(coupled.energy(u, g), [-0.1 + 0.03])
    close(coupled.force(u, g), [-1 + 0.6])
    close(coupled.curvature(u, g), [6.0])
    close(coupled.equilibrium(g), [1 / 6])
    close(coupled.conjugate(g), [1 / 12])
    scaled = 3 * ga.ChiSquare(2.0)
    assert repr(scaled) == "3.0 * ChiSquare(mu=2.0)"
    close(scaled.gap(u, g), [3 * 0.01 - 0.1 + 1 / 12])
    close(scaled.curvature_along(u, g, column(2.0)), [12.0])
