"""Potentials of single events at their edges, by hand: walls and kinks, where a potential goes on as a line, where its
drives end, and what it is without a drive."""

from __future__ import annotations

import math
from collections.abc import Callable

import members
import pytest
import torch
from test_slot_values import close, column
from torch import Tensor

import geomalign as ga
from geomalign import optimization
from geomalign._util import numerics
from geomalign._util.types import Interval, Locality
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
    one, two = of.value(column(-1.0, -2.0)).tolist()
    assert one == pytest.approx(2.0, rel=1e-12) and two == pytest.approx(2.0 - floor, rel=1e-12)
    near, far = of.value(column(math.exp(bend + 5), 2 * math.exp(bend + 5))).tolist()
    assert far - near == pytest.approx(mirror * math.exp(bend + 5), rel=1e-9)


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


# ---- what each potential is, by hand

INF = math.inf
VALUES: list[tuple[ga.BregmanGeometry, float, float, tuple[float, float, float, float, float]]] = [
    # geometry, u and g; the value, mirror and curvature at u, the conjugate and the equilibrium of g
    (ga.Flat(), 0.5, 0.0, (0.0, 0.0, 0.0, 0.0, 0.0)),
    (ga.Linear(0.25), 2.0, 0.25, (0.5, 0.25, 0.0, 0.0, 0.0)),
    (ga.ChiSquare(3.0), 2.0, 1.5, (6.0, 6.0, 3.0, 0.375, 0.5)),
    (
        ga.KL(2.0),
        1.0,
        2.0,
        (2 * (2 * math.log(2) - 1), 2 * math.log(2), 1.0, 2 * (math.e - 1) - 2, math.e - 1),
    ),
    (
        ga.ReverseKL(2.0),
        1.0,
        1.0,
        (2 / math.e, 2 * (1 - 1 / math.e), 2 / math.e, 2 * (0.5 * math.log(0.5) + 0.5), math.log(2)),
    ),
    (
        ga.AlphaDivergence(3.0, 2.0),
        1.0,
        3.0,
        (2 * (8 - 6 + 2) / 6, 2 * 3 / 2, 2 * 2.0, 2 * (4.0**1.5 - 1) / 3 - 3, 1.0),
    ),
    (
        ga.FDivergence(ga.ReverseKullbackLeibler(), 2.0),
        1.0,
        1.0,
        (2 * (1 - math.log(2)), 1.0, 0.5, 2 * math.log(2) - 1, 1.0),
    ),
    (
        ga.Logistic(2.0),
        0.5,
        0.5,
        (
            math.log1p(math.e),
            2 / (1 + 1 / math.e),
            4 * math.e / (1 + math.e) ** 2,
            0.25 * math.log(0.25) + 0.75 * math.log(0.75),
            -math.log(3) / 2,
        ),
    ),
    (ga.Hinge(0.5), 4.0, 0.25, (2.0, 0.5, 0.0, -0.5, 2.0)),
    (ga.Hinge(0.5), 1.0, 0.25, (1.0, 0.0, 0.0, -0.5, 2.0)),
    (optimization.SquaredHinge(0.5), 1.0, 0.25, (1.25, 0.5, 0.5, 0.0625 - 1, 0.5)),
    (optimization.SquaredHinge(0.5), 4.0, 0.25, (4.0, 1.0, 0.0, 0.0625 - 1, 0.5)),
    (
        ga.NegativeEntropy(),
        0.25,
        math.log(3),
        (0.25 * math.log(0.25) + 0.75 * math.log(0.75), -math.log(3), 16 / 3, math.log(4), 0.75),
    ),
    (ga.Indicator(-1.0, 2.0), 0.5, 3.0, (0.0, 0.0, 0.0, 6.0, 2.0)),
    (ga.Indicator(-1.0, 2.0), 0.5, -3.0, (0.0, 0.0, 0.0, 3.0, -1.0)),
    (3.0 * ga.ChiSquare(2.0), 2.0, 3.0, (12.0, 12.0, 6.0, 0.75, 0.5)),  # type: ignore[list-item]
    (ga.StraightThrough(ga.ReverseKL(2.0), ga.ChiSquare(3.0)), 1.0, 1.5, (2 / math.e, 3.0, 3.0, 0.375, 0.5)),
    (ga.ConvexPotential(lambda u: u**4 / 4), 2.0, 8.0, (4.0, 8.0, 12.0, 12.0, 2.0)),
    (ga.ConvexPotential(torch.exp), 0.0, 2.0, (1.0, 1.0, 1.0, 2 * math.log(2) - 2, math.log(2))),
    (ga.ConvexPotential(lambda u: torch.exp(-u)), 0.0, -2.0, (1.0, -1.0, 1.0, 2 * math.log(2) - 2, -math.log(2))),
]  # fmt: skip


@pytest.mark.parametrize("of, at, drive, expected", VALUES, ids=[members.ident(of) for of, *_ in VALUES])
def test_a_potential_by_hand(
    of: ga.BregmanGeometry, at: float, drive: float, expected: tuple[float, float, float, float, float]
) -> None:
    u, g = column(at), column(drive)
    found = (of.value(u), of.mirror(u), of.curvature(u), of.conjugate(g), of.equilibrium(g))
    torch.testing.assert_close(torch.cat(found), column(*expected), rtol=1e-9, atol=1e-12)
    value, mirror = expected[:2]
    close(of.energy(u, g), [value - drive * at])
    close(of.force(u, g), [mirror - drive])
    close(of.potential(u), [value])
    energy, force = of.energy_and_force(u, g)
    close(torch.cat([energy, force]), [value - drive * at, mirror - drive])
    assert float(of.gap(u, g)) == pytest.approx(
        (value if not isinstance(of, ga.StraightThrough) else 1.5) - drive * at + expected[3], abs=1e-12
    )


ENDS: list[tuple[ga.OptimizationGeometry, tuple[float, float], tuple[float, float]]] = [
    # geometry, coordinates at which the potential is finite, drives for which the energy is bounded below
    (ga.Flat(), (-INF, INF), (0.0, 0.0)),
    (ga.Linear(0.25), (-INF, INF), (0.25, 0.25)),
    (ga.ChiSquare(3.0), (-INF, INF), (-INF, INF)),
    (ga.KL(2.0), (-1.0, INF), (-INF, INF)),
    (ga.ReverseKL(2.0), (-INF, INF), (-INF, 2.0)),
    (ga.AlphaDivergence(3.0, 2.0), (-1.0, INF), (-INF, INF)),
    (ga.AlphaDivergence(0.5, 2.0), (-1.0, INF), (-INF, 4.0)),
    (ga.FDivergence(ga.ReverseKullbackLeibler(), 2.0), (-1.0, INF), (-INF, 2.0)),
    (ga.Logistic(2.0), (-INF, INF), (0.0, 2.0)),
    (ga.Hinge(2.0), (-INF, INF), (0.0, 2.0)),
    (optimization.SquaredHinge(2.0), (-INF, INF), (-INF, 4.0)),
    (ga.NegativeEntropy(), (0.0, 1.0), (-INF, INF)),
    (ga.Indicator(-1.0, 2.0), (-1.0, 2.0), (-INF, INF)),
    (ga.Indicator(-1.0, INF), (-1.0, INF), (-INF, 0.0)),
    (ga.Indicator(-INF, 2.0), (-INF, 2.0), (0.0, INF)),
    (ga.ConvexPotential(lambda u: u**2, low=-0.5, high=0.25), (-0.5, 0.25), (-INF, INF)),
    (ga.Clip(0.1, 0.2), (-INF, INF), (-INF, INF)),
    (ga.AdvantageScaled(ga.KL()), (-1.0, INF), (-INF, INF)),
    (ga.AdvantageScaled(ga.Logistic(0.5)), (-INF, INF), (0.0, 0.0)),
    (ga.AdvantageScaled(1.5 * ga.ConvexPotential(members.pseudo_huber)), (-INF, INF), (-INF, INF)),
    (ga.AdvantageScaled(0.75 * ga.ConvexPotential(members.pseudo_huber)), (-INF, INF), (0.0, 0.0)),
    (optimization.SigmoidClip(), (-INF, INF), (-INF, INF)),
    (optimization.LogRatioModulated(), (-INF, INF), (0.0, 0.0)),
    (ga.ImportanceWeighted(ga.KL()), (-1.0, INF), (0.0, INF)),
    (optimization.ImplicitNegative(), (-INF, INF), (-INF, 0.0)),
    (ga.StraightThrough(ga.KL(), ga.Logistic(2.0)), (-1.0, INF), (0.0, 2.0)),
    (3.0 * ga.Logistic(2.0), (-INF, INF), (0.0, 6.0)),
    (ga.KL() + ga.Logistic(2.0), (-1.0, INF), (-INF, INF)),
    (ga.Clip() + ga.KL(), (-1.0, INF), (-INF, INF)),
    *[
        (optimization.VariationalBound(name), (-INF, INF), drives)
        for name, drives in (
            ("kl", (-INF, 0.0)),
            ("reverse_kl", (0.0, INF)),
            ("pearson", (-INF, 0.0)),
            ("hellinger", (-INF, INF)),
            ("jensen_shannon", (-INF, INF)),
            ("total_variation", (-INF, INF)),
        )
    ],
    (ga.GroupPotential(), (-INF, INF), (-1.0, INF)),
    (optimization.GroupReverseKL(), (-INF, INF), (-INF, INF)),
    (optimization.GroupContrast(), (-INF, INF), (-INF, INF)),
    (optimization.PlackettLuce(), (-INF, INF), (-INF, INF)),
    (optimization.GroupVariance(), (-INF, INF), (-INF, INF)),
    (optimization.GroupPairs(), (-INF, INF), (-INF, INF)),
    (optimization.GroupDiscrimination(), (-INF, INF), (0.0, 0.0)),
]


@pytest.mark.parametrize("of, domain, drives", ENDS, ids=[members.ident(of) for of, *_ in ENDS])
def test_where_a_potential_and_its_drives_end(
    of: ga.OptimizationGeometry, domain: tuple[float, float], drives: tuple[float, float]
) -> None:
    assert of.domain == Interval(*domain)
    assert of.conjugate_domain == Interval(*drives)
    assert of.constant_force is isinstance(of, (ga.Flat, ga.Linear, ga.Indicator))
    assert of.locality is (Locality.GROUP if isinstance(of, ga.GroupGeometry) else Locality.ROLLOUT)
    assert (of.section is of) is not isinstance(of, ga.GroupGeometry) or isinstance(of, optimization.Scaled)
    assert isinstance(of, ga.GroupGeometry) or of.among(ga.Batch(torch.zeros(1, 1), None)) == of


@pytest.mark.parametrize("of, domain, drives", ENDS, ids=[members.ident(of) for of, *_ in ENDS])
def test_beyond_its_drives_nothing_holds_and_nothing_is_no_number(
    of: ga.OptimizationGeometry, domain: tuple[float, float], drives: tuple[float, float]
) -> None:
    """The conjugate is infinite, with a gradient that is a number, and the equilibrium of a potential that ignores the
    drive lies where the drive pushes."""
    if isinstance(of, ga.GroupGeometry):
        return
    for g, rest in ((drives[0] - 0.5, -INF), (drives[1] + 0.5, INF)):
        if math.isfinite(g):
            drive = column(g).requires_grad_()
            conjugate = of.conjugate(drive)
            assert conjugate.tolist() == [INF]
            if conjugate.requires_grad:
                (slope,) = torch.autograd.grad(conjugate.sum(), drive)
                assert not slope.isnan().any()
            if isinstance(of, ga.BregmanGeometry):
                assert of.equilibrium(drive.detach()).tolist() == [rest]


# ---- who is named in a refusal

STIFF = "a positive number, a stiffness; for no resistance at all use Flat()."
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: ga.Linear(0.0), f"Linear(slope=0.0): {STIFF}"),
    (lambda: ga.ChiSquare(0.0), f"ChiSquare(mu=0.0): {STIFF}"),
    (lambda: ga.KL(-1.0), f"KL(beta=-1.0): {STIFF}"),
    (lambda: ga.ReverseKL(0.0), f"ReverseKL(beta=0.0): {STIFF}"),
    (lambda: ga.AlphaDivergence(INF), "AlphaDivergence(order=inf): a finite number, the exponent a."),
    (lambda: ga.AlphaDivergence(1.0, 0.0), f"AlphaDivergence(mu=0.0): {STIFF}"),
    (lambda: ga.FDivergence(ga.JensenShannon(), 0.0), f"FDivergence(mu=0.0): {STIFF}"),
    (lambda: ga.FDivergence("kl"), "FDivergence(of='kl'): expected a Divergence instance such as JensenShannon()."),  # type: ignore[arg-type]
    (lambda: ga.Logistic(0.0), f"Logistic(beta=0.0): {STIFF}"),
    (lambda: ga.Hinge(0.0), f"Hinge(beta=0.0): {STIFF}"),
    (lambda: optimization.SquaredHinge(0.0), f"SquaredHinge(beta=0.0): {STIFF}"),
    (lambda: ga.Indicator(1.0, 0.0), "Indicator(low=1.0, high=0.0): an interval needs low < high, one of them finite;"),
    (lambda: ga.Indicator(-INF, INF), "Indicator(low=-inf, high=inf): an interval needs low < high, one of them"),
    (lambda: ga.Clip(-0.1, 0.2), "Clip(low=-0.1, high=0.2): distances from the anchor must be ≥ 0; low=0.2 bounds the"),
    (lambda: ga.Clip(0.1, -0.2), "Clip(low=0.1, high=-0.2): distances from the anchor must be ≥ 0"),
    (lambda: ga.Clip(0.1, 0.5, dual=1.0), "Clip(dual=1.0): a bound of the ratio must exceed 1 + high = 1.5; published"),
    (lambda: ga.Clip(dual=math.nan), "Clip(dual=nan): a number."),
    (lambda: ga.AdvantageScaled(ga.Clip()), "AdvantageScaled(of=Clip(low=0.2, high=0.2, dual=None)): expected a Breg"),  # type: ignore[arg-type]
    (lambda: optimization.SigmoidClip(positive=0.0), "SigmoidClip(positive=0.0): a positive number, an inverse width."),
    (lambda: optimization.SigmoidClip(negative=0.0), "SigmoidClip(negative=0.0): a positive number, an inverse width."),
    (lambda: optimization.LogRatioModulated(beta=0.0), "LogRatioModulated(beta=0.0): a positive number."),
    (lambda: optimization.LogRatioModulated(tau=0.0), "LogRatioModulated(tau=0.0): a positive number."),
    (lambda: ga.ImportanceWeighted(ga.Clip()), "ImportanceWeighted(of=Clip(low=0.2, high=0.2, dual=None)): expected a"),  # type: ignore[arg-type]
    (lambda: ga.ImportanceWeighted(ga.KL(), 1), "ImportanceWeighted(differentiate_weight=1): True or False."),  # type: ignore[arg-type]
    (lambda: ga.ConvexPotential(1.0), "ConvexPotential(function=1.0): expected a function of a tensor, such as lambda"),  # type: ignore[arg-type]
    (lambda: ga.ConvexPotential(torch.sum), "ConvexPotential(function=<built-in method sum of type object at"),
    (lambda: ga.ConvexPotential(torch.exp, low=math.nan), "ConvexPotential(low=nan): a number, an end of the domain."),
    (lambda: ga.StraightThrough(ga.Clip(), ga.KL()), "StraightThrough(reported=Clip(low=0.2, high=0.2, dual=None)): e"),  # type: ignore[arg-type]
    (lambda: ga.StraightThrough(ga.KL(), ga.Clip()), "StraightThrough(gradient=Clip(low=0.2, high=0.2, dual=None)): e"),  # type: ignore[arg-type]
    (lambda: 0.0 * ga.KL(), f"Scaled(factor=0.0): {STIFF}"),
    (lambda: -1 * ga.KL(), f"Scaled(factor=-1.0): {STIFF}"),
    (lambda: 2 * ga.Clip(), "2 * Clip(low=0.2, high=0.2, dual=None): a geometry whose potential depends on the drive"),
    (lambda: ga.KL() + ga.GroupPotential(), "KL(beta=1.0) + GroupPotential(divergence=KullbackLeibler(), temperature="),
    (lambda: optimization.ImplicitNegative(0.0), "ImplicitNegative(floor=0.0): a number in (0, 1], the least share of"),
    (lambda: optimization.ImplicitNegative(1.0, 1), "ImplicitNegative(standardised=1): True or False."),  # type: ignore[arg-type]
    (lambda: optimization.VariationalBound("js"), "VariationalBound(divergence='js'): choose one of 'kl', 'reverse"),
    (lambda: optimization.VariationalBound(beta=0.0), "VariationalBound(beta=0.0): a positive number, the scale of"),
    (lambda: ga.GroupPotential("kl"), "GroupPotential(divergence='kl'): expected a Divergence instance such as Kullb"),  # type: ignore[arg-type]
    *[
        (lambda kind=kind: kind(temperature=0.0), f"{kind.__name__}(temperature=0.0): a positive number, in units of t")  # type: ignore[misc]
        for kind in (
            ga.GroupPotential,
            optimization.GroupReverseKL,
            optimization.GroupContrast,
            optimization.GroupDiscrimination,
        )
    ],
    (lambda: optimization.GroupVariance(0.0), f"GroupVariance(mu=0.0): {STIFF}"),
    (lambda: optimization.GroupPairs(0.0), "GroupPairs(beta=0.0): a positive number, an inverse temperature."),
    (lambda: optimization.GroupPairs(margin=-0.1), "GroupPairs(margin=-0.1): a number ≥ 0, a difference of drives."),
]  # fmt: skip


@pytest.mark.parametrize("made, said", REFUSED, ids=[said.split(":")[0] for _, said in REFUSED])
def test_an_argument_out_of_its_range_is_refused(made: Callable[[], object], said: str) -> None:
    members.refuses(made, said)


# ---- bounds of divergences, and the loss that a search found


def test_a_variational_bound_writes_its_critic_out() -> None:
    bound = optimization.VariationalBound
    assert bound("hellinger").latex("u", "g") == r"g\,u+(g)_+\left(e^{-u}-1\right)+(-g)_+\left(e^{u}-1\right)"
    square = r"g\,u+(g)_+\left(-0.5\,u\right)+(-g)_+\left(0.5\,u+\tfrac14\left(0.5\,u\right)^2\right)"
    assert bound("pearson", 0.5).latex("u", "g") == square
    halves = r"(g)_+\left(\tfrac12\tanh\left(-u\right)\right)+(-g)_+\left(\tfrac12\tanh\left(u\right)\right)"
    assert bound("total_variation").latex("u", "g").endswith(halves)
    logs = r"(g)_+\left(\log\tfrac12\left(1+e^{-u}\right)\right)+(-g)_+\left(\log\tfrac12\left(1+e^{u}\right)\right)"
    assert bound("jensen_shannon").latex("u", "g").endswith(logs)
    assert bound("kl").latex("u", "g").endswith(r"(g)_+\left(-u\right)+(-g)_+\left(e^{u-1}\right)")
    assert bound("reverse_kl").latex("u", "g").endswith(r"(g)_+\left(e^{-u}-1\right)+(-g)_+\left(u\right)")


def test_a_variational_bound_by_hand() -> None:
    """−g₊T(v) + g₋ψ*(T(v)), v = βu, at the two signs of a drive."""
    beta, u, drive = 0.5, 1.5, 2.0
    v = beta * u
    sigma = 1 / (1 + math.exp(-v))
    table = {  # T, T', T'', ψ*, ψ*', ψ*''
        "kl": (v, 1, 0, math.exp(v - 1), math.exp(v - 1), math.exp(v - 1)),
        "reverse_kl": (1 - math.exp(-v), math.exp(-v), -math.exp(-v), v, 1, 0),
        "pearson": (v, 1, 0, v + v * v / 4, 1 + v / 2, 0.5),
        "hellinger": (1 - math.exp(-v), math.exp(-v), -math.exp(-v), math.expm1(v), math.exp(v), math.exp(v)),
        "jensen_shannon": (
            math.log(2) - math.log1p(math.exp(-v)),
            1 - sigma,
            -sigma * (1 - sigma),
            math.log1p(math.exp(v)) - math.log(2),
            sigma,
            sigma * (1 - sigma),
        ),
        "total_variation": (
            math.tanh(v) / 2,
            1 / math.cosh(v) ** 2 / 2,
            -math.tanh(v) / math.cosh(v) ** 2,
            math.tanh(v) / 2,
            1 / math.cosh(v) ** 2 / 2,
            -math.tanh(v) / math.cosh(v) ** 2,
        ),
    }
    for name, (t, slope, bend, dual, dual_slope, dual_bend) in table.items():
        of, at, g = optimization.VariationalBound(name, beta), column(u, u, u), column(drive, -drive, 0.0)
        close(of.energy(at, g), [-drive * t, drive * dual, 0.0])
        close(of.force(at, g), [-drive * beta * slope, drive * beta * dual_slope, 0.0])
        close(of.curvature(at, g), [-drive * beta**2 * bend, drive * beta**2 * dual_bend, 0.0])
        close(of.curvature(at), [0.0] * 3)
    least = {
        "kl": ((INF, INF), (0.0, -INF)),
        "reverse_kl": ((2.0, INF), (INF, -INF)),
        "pearson": ((INF, INF), (2.0, -4.0)),
        "hellinger": ((2.0, INF), (2.0, -INF)),
        "jensen_shannon": ((2 * math.log(2), INF), (2 * math.log(2), -INF)),
        "total_variation": ((1.0, INF), (1.0, -INF)),
    }
    for name, ((up, up_at), (down, down_at)) in least.items():
        of, g = optimization.VariationalBound(name, beta), column(drive, -drive, 0.0)
        close(of.conjugate(g), [up, down, 0.0])
        assert of.equilibrium(g).tolist() == [up_at, down_at, 0.0]


def test_a_modulated_loss_by_hand() -> None:
    """(1−s)·log(1 + e^{−x}) + s·e^{−x}, x = βu and s = σ(x/τ), and its slope by a difference."""
    of, u = optimization.LogRatioModulated(0.5, 0.4), 0.6

    def value(u: float) -> float:
        x = 0.5 * u
        s = 1 / (1 + math.exp(-x / 0.4))
        return (1 - s) * math.log1p(math.exp(-x)) + s * math.exp(-x)

    at, g = column(u), column(0.25)
    close(of.energy(at, g), [value(u) - 0.25 * u])
    slope = (value(u + 1e-6) - value(u - 1e-6)) / 2e-6
    assert float(of.force(at, g)) == pytest.approx(slope - 0.25, rel=1e-7)
    assert of.equilibrium(column(0.0)).tolist() == [INF] and of.conjugate(column(0.0)).tolist() == [0.0]


def test_a_soft_clip_and_what_it_gains_at_most() -> None:
    of = optimization.SigmoidClip(2.0, 0.5)
    close(of.conjugate(column(3.0, -3.0, 0.0)), [6.0, 0.0, 0.0])
    assert of.equilibrium(column(3.0, -3.0, 0.0)).tolist() == [INF, -INF, 0.0]
    for g, tau in ((3.0, 2.0), (-3.0, 0.5)):
        s = 1 / (1 + math.exp(-tau * 0.7))
        close(of.energy(column(0.7), column(g)), [-4 * g / tau * s])
        close(of.force(column(0.7), column(g)), [-4 * g * s * (1 - s)])
        close(of.curvature(column(0.7), column(g)), [4 * g * tau * s * (1 - s) * (2 * s - 1)])


def test_what_a_coupled_potential_is_by_the_base_contract() -> None:
    """The potential is the energy without the drive's pull, and so its mirror; the gap is zero at the wall."""
    of, u, g = ga.Clip(0.1, 0.5), column(0.75, 0.5, -1.0), column(2.0, 2.0, -3.0)
    close(of.potential(u, g), [0.5, 0.0, 2.7])
    close(of.mirror(u, g), [2.0, 0.0, -3.0])
    close(of.gap(u, g), [0.0, 0.0, 0.0])
    close(of.curvature_along(u, g, g), [0.0] * 3)
    along = ga.AdvantageScaled(ga.ChiSquare(3.0))
    close(along.curvature_along(u, g, column(1.0, -2.0, 0.5)), [6.0, -12.0, 4.5])
    close(along.conjugate(column(2.0, -2.0, 0.0)), [1 / 3, 1 / 3, 0.0])
    close(along.equilibrium(column(2.0, -2.0, 0.0)), [1 / 3, -1 / 3, 0.0])
    weighed = ga.ImportanceWeighted(ga.ReverseKL(2.0))
    close(weighed.energy(column(1.0), column(0.5)), [1 / math.e])
    close(weighed.force(column(1.0), column(0.5)), [0.5 * (2 - 2 / math.e + 2 / math.e)])


def test_a_mirror_that_rises_late_or_early_is_measured_by_its_whole_rise() -> None:
    """By the decade before the last one less the origin, wherever between them the mirror has risen."""
    for start in (0.5, 30.0, 3e5, 5e7):

        def mirror(u: Tensor, start: float = start) -> Tensor:
            return u.sign() * ((u.abs() > start) * 1.0 + (u.abs() > 5e8) * 0.9e-3)

        assert limit(mirror, Interval(), 1.0) == pytest.approx(1.0009, rel=1e-12)
        assert limit(mirror, Interval(), -1.0) == pytest.approx(-1.0009, rel=1e-12)


def test_sums_are_flat_and_of_one_kind() -> None:
    of = (ga.ChiSquare(1.0) + ga.KL(2.0)) + (ga.Logistic(1.0) + ga.ChiSquare(3.0))
    assert isinstance(of, optimization.WeightedSum) and len(of.of) == 4
    coupled = ga.KL(2.0) + (ga.Clip() + ga.ChiSquare(1.0))
    assert isinstance(coupled, optimization.CoupledSum) and [type(x) for x in coupled.of] == [
        ga.KL,
        ga.Clip,
        ga.ChiSquare,
    ]
    twice = 2 * (ga.ChiSquare(1.0) + ga.ChiSquare(2.0))
    close(twice.conjugate(column(3.0)), [0.75])
    close(twice.equilibrium(column(3.0)), [0.5])
    close(twice.energy(column(0.5), column(3.0)), [-0.75])
    close(twice.force(column(0.25), column(3.0)), [-1.5])
    assert repr(twice) == "2.0 * (ChiSquare(mu=1.0) + ChiSquare(mu=2.0))"
    group = 2 * ga.GroupPotential()
    assert group.locality is Locality.GROUP and group.section.locality is Locality.ROLLOUT
    for wrong in ("2", None):
        with pytest.raises(TypeError):
            ga.KL() * wrong  # type: ignore[operator]
        with pytest.raises(TypeError):
            ga.KL() + wrong  # type: ignore[operator]


def test_a_multiple_of_a_potential_of_groups_is_bound_like_it() -> None:
    of, u, drive = 3 * ga.GroupPotential(temperature=2.0), column(0.3, -1.0, 0.7, 0.2), column(0.5, -0.5, 0.25, -0.25)
    rows = ga.Batch(torch.zeros(4, 1), None, group=torch.tensor([0, 0, 1, 1]))
    bound, plain = of.among(rows), ga.GroupPotential(temperature=2.0).among(rows)
    assert isinstance(bound, optimization.Scaled) and bound.factor == 3.0
    for found, expected in (
        (bound.energy(u, drive), 3 * plain.energy(u, drive / 3)),
        (bound.force(u, drive), 3 * plain.force(u, drive / 3)),
        (bound.value(u), 3 * plain.value(u)),
        (bound.mirror(u), 3 * plain.mirror(u)),
        (bound.curvature(u), 3 * plain.curvature(u)),
        (bound.curvature_along(u, drive, column(1, 0, 0, 2)), 3 * plain.curvature_along(u, drive, column(1, 0, 0, 2))),
        (bound.conjugate(drive), 3 * plain.conjugate(drive / 3)),
        (bound.equilibrium(drive), plain.equilibrium(drive / 3)),
        (bound.gap(u, drive), 3 * plain.gap(u, drive / 3)),
    ):
        close(found, expected)
    for drives in (column(2.0, -2.0, 1.0, -1.0), column(3.0, -3.0, 0.0, 0.0)):  # at most one below the anchor, times 3
        assert bool(torch.isfinite(bound.conjugate(drives)).all())
    assert of.conjugate_domain == Interval(-3.0, INF)


def test_a_function_is_printed_by_its_name_and_its_ends() -> None:
    assert repr(ga.ConvexPotential(members.pseudo_huber)) == "ConvexPotential(members.pseudo_huber)"
    ends = ga.ConvexPotential(members.pseudo_huber, low=-1.0, high=2.0)
    assert repr(ends) == "ConvexPotential(members.pseudo_huber, low=-1.0, high=2.0)"
    with pytest.raises(ValueError, match=r"φ of a tensor of shape \(2,\) gave \(\); it must act elementwise"):
        ga.ConvexPotential(torch.sum)
    with pytest.raises(ValueError, match=r"φ of a tensor of shape \(2,\) gave float; it must act elementwise"):
        ga.ConvexPotential(lambda u: 1.0)  # type: ignore[arg-type, return-value]


FORMULAS: list[tuple[ga.OptimizationGeometry, str]] = [
    (ga.Flat(), "0"),
    (ga.Linear(), "u"),
    (ga.Linear(0.5), r"0.5\,u"),
    (ga.ChiSquare(2.0), "u^2"),
    (ga.ChiSquare(3.0), r"\frac{3}{2}u^2"),
    (ga.KL(0.5), r"0.5\,\left((1+u)\log(1+u)-u\right)"),
    (ga.ReverseKL(), r"\left(e^{-u}+u-1\right)"),
    (ga.Logistic(0.5), r"\log\left(1+e^{0.5\,u}\right)"),
    (ga.Hinge(0.5), r"\max\left(1,0.5\,u\right)"),
    (optimization.SquaredHinge(0.5), r"\left(1-0.5\,u\right)_+^2+1\,u"),
    (ga.NegativeEntropy(), r"u\log u+(1-u)\log(1-u)"),
    (ga.Clip(0.25, 0.25), r"|g|\left(\operatorname{sgn}(g)\,u-0.25\right)_+"),
    (ga.Clip(0.1, 0.5), r"(g)_+\left(u-0.5\right)_++(-g)_+\left(-u-0.1\right)_+"),
    (
        ga.Clip(0.1, 0.1, dual=3.0),
        r"(g)_+\left(u-0.1\right)_++(-g)_+\left(-u-0.1\right)_+-(-g)_+\left(u-2\right)_+",
    ),
    (2.0 * ga.ChiSquare(3.0), r"2\left[\frac{3}{2}u^2\right]"),
    (ga.Flat() + ga.Linear(), "u"),
    (ga.Flat() + ga.Flat(), "0"),
    (ga.GroupPotential(), r"\log\operatorname{mean}_G e^{u}-u"),
    (ga.GroupPotential(temperature=2.0), r"2\,\log\operatorname{mean}_G e^{u/2}-u"),
    (optimization.GroupVariance(), r"\tfrac12\,\operatorname{var}_G(u)"),
    (optimization.GroupVariance(3.0), r"\tfrac{3}{2}\,\operatorname{var}_G(u)"),
    (optimization.GroupDiscrimination(), r"\operatorname{mean}_{G_-}u-\operatorname{mean}_{G_+}u+g\,u"),
    (optimization.GroupContrast(), r"\log\left(1+\sum_{G_+}e^{-u}\right)+\log\left(1+\sum_{G_-}e^{u}\right)+g\,u"),
    (
        optimization.GroupPairs(2.0, 0.5),
        r"\operatorname{mean}_{G:\,g_j-g_k>0.5}\log\left(1+e^{-2\,(u_j-u_k)}\right)+g\,u",
    ),
]  # fmt: skip


@pytest.mark.parametrize("of, formula", FORMULAS, ids=[str(of) for of, _ in FORMULAS])
def test_constants_and_signs_of_a_formula(of: ga.OptimizationGeometry, formula: str) -> None:
    assert of.latex("u", "g") == formula


@pytest.mark.parametrize("wait", [True, False])
def test_energies_and_forces_of_a_clip_together(wait: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the shape of the drive, one number per row, as in that of the tokens; also without waiting for the device."""
    monkeypatch.setattr(numerics, "may_wait", lambda x: wait)
    of, u = ga.Clip(0.25, 0.5, dual=4.0), column(-1.0, -0.25, 0.5, 1.0, 3.0, 5.0).expand(3, 6)
    energy = [[1.0, 0.25, -0.5, -0.5, -0.5, -0.5], [-0.25, -0.25, 0.5, 1.0, 3.0, 3.0], [0.0] * 6]
    force = [[-1.0, -1.0, -1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0, 1.0, 0.0], [0.0] * 6]
    for size in (0.5, 2.0):
        drive = column(size, -size, 0.0)[:, None]
        together = of.energy_and_force(u, drive)
        for found, expected in zip((*together, of.energy(u, drive), of.force(u, drive)), (energy, force) * 2):
            close(found + 0, size * torch.tensor(expected))
    close(of.equilibrium(column(2.0, -2.0, 0.0)), [0.5, -0.25, 0.0])
    close(of.conjugate(column(2.0, -2.0, 0.0)), [1.0, 0.5, 0.0])
