"""What decides at an edge, by kind: where a wall itself lies, what is used where nothing was given, up to which
rounding a drive is possible, and what a potential is without a drive. Values by hand, in tables."""

from __future__ import annotations

import math

import pytest
import torch
from test_slot_values import close
from torch import Tensor

import geomalign as ga
from geomalign import optimization, sampling
from geomalign._util.types import Interval
from geomalign.optimization.roots import limit
from geomalign.sampling.balance import _steps

EPS = torch.finfo(torch.float64).eps
NO_BATCH = ga.Batch(torch.zeros(1, 1), torch.zeros(1, 1))


def column(*x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


# ---- what is used where nothing is given

DEFAULTS = [
    (ga.Linear, "slope=1.0"),
    (ga.ChiSquare, "mu=1.0"),
    (ga.KL, "beta=1.0"),
    (ga.ReverseKL, "beta=1.0"),
    (ga.Logistic, "beta=1.0"),
    (ga.Hinge, "beta=1.0"),
    (optimization.SquaredHinge, "beta=1.0"),
    (ga.Indicator, "low=0.0, high=1.0"),
    (ga.Clip, "low=0.2, high=0.2, dual=None"),
    (optimization.SigmoidClip, "positive=1.0, negative=1.05"),
    (optimization.LogRatioModulated, "beta=0.1, tau=0.05"),
    (ga.GroupPotential, "divergence=KullbackLeibler(), temperature=1.0"),
    (optimization.GroupReverseKL, "temperature=1.0"),
    (optimization.GroupContrast, "temperature=1.0"),
    (optimization.GroupVariance, "mu=1.0"),
    (optimization.GroupPairs, "beta=1.0, margin=0.0"),
    (optimization.GroupDiscrimination, "temperature=None"),
    (optimization.ImplicitNegative, "floor=1.0, standardised=False"),
    (sampling.GradientPreservingClip, "of=Advantage(), low=0.2, high=0.2, beta_low=1.0, beta_high=1.0"),
    (sampling.FlippedImportance, "of=Advantage(), low=0.2, high=0.2, cap=3.0"),
    (sampling.RingMask, "of=Advantage(), low=0.2, high=0.2, outer_low=0.6, outer_high=2.0, importance=False"),
    (sampling.FutureKL, "of=Advantage(), halflife=32.0, bounds=(1.0, 1.2), cap=10.0, safety=4.0"),
    (sampling.BalancedClip, "of=Advantage(), low=(0.6, 0.9), high=(1.2, 3.0), step=0.05, target=0.5"),
    (sampling.GroupExpectation, "of=Advantage(), low=0.2, high=0.2"),
    (sampling.RelativeAdvantage, "epsilon=1e-06"),
    (sampling.ShiftedBaseline, f"of={ga.GroupAdvantage()!r}, shift=0.0"),
    (sampling.DecoupledAdvantage, "weights=None, ddof=1, epsilon=1e-06"),
    (sampling.DeviationScaled, f"of={ga.GroupAdvantage()!r}, ddof=1, epsilon=1e-06"),
    (sampling.ProbabilityWeighted, f"of={ga.Label()!r}, power=1.0, complement=0.0"),
    (sampling.ProbabilityGated, "of=Advantage(), scale=2.0, steepness=9.0, offset=0.25, low=1.0, high=1.4"),
]


@pytest.mark.parametrize("kind, fields", DEFAULTS, ids=lambda x: getattr(x, "__name__", ""))
def test_what_a_class_has_where_nothing_is_given(kind: type, fields: str) -> None:
    assert repr(kind()) == f"{kind.__name__}({fields})"


def test_defaults_beside_an_argument() -> None:
    assert ga.AlphaDivergence(0.5).mu == ga.FDivergence(ga.JensenShannon()).mu == 1.0
    assert ga.ImportanceWeighted(ga.ReverseKL()).differentiate_weight is True
    assert ga.measure.LengthPreference(2.0).spread == pytest.approx(1 / 9)


# ---- at a wall itself

WALLED = (0.5, 1.0)  # low and high: the ratios ½ and 2, which are numbers in binary

AT_WALLS: list[tuple[str, ga.Reweighting, list[float], list[float], list[float]]] = [
    # name, sampling, ratios, weights of a good token, weights of a poor one
    (
        "kept share",
        sampling.GradientPreservingClip(ga.Advantage(), *WALLED, beta_low=0.25, beta_high=0.125),
        [0.25, 0.5, 2.0, 4.0],
        [0.25, 0.5, 2.0, 0.25],
        [0.125, 0.5, 2.0, 4.0],
    ),
    (
        "flipped",
        sampling.FlippedImportance(ga.Advantage(), *WALLED, cap=8.0),
        [1 / 16, 0.5, 2.0, 4.0, 16.0],
        [8.0, 2.0, 0.5, 0.0, 0.0],
        [0.0, 0.5, 2.0, 4.0, 8.0],
    ),
    (
        "ring",
        sampling.RingMask(ga.Advantage(), *WALLED, outer_low=0.75, outer_high=3.0),
        [0.25, 0.375, 0.5, 2.0, 3.0, 4.0],
        [1.0, 0.0, 1.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 1.0, 0.0, 1.0],
    ),
    (
        "balanced",
        sampling.BalancedClip(ga.Advantage(), low=(0.5, 0.5), high=(2.0, 2.0)),
        [0.25, 0.5, 2.0, 4.0],
        [0.25, 0.5, 2.0, 0.0],
        [0.0, 0.5, 2.0, 4.0],
    ),
    (
        "expectation",
        sampling.GroupExpectation(ga.Advantage(), *WALLED),
        [0.25, 0.5, 2.0, 4.0],
        [0.25, 0.5, 2.0, 0.0],
        [0.0, 0.5, 2.0, 4.0],
    ),
]


@pytest.mark.parametrize("name, of, ratio, good, poor", AT_WALLS, ids=[name for name, *_ in AT_WALLS])
def test_a_ratio_at_a_wall_is_inside(
    name: str, of: ga.Reweighting, ratio: list[float], good: list[float], poor: list[float]
) -> None:
    """Every response is alone in its group, so that the group's expectation is its own probability."""
    steps = column(*map(math.log, ratio))
    assert all(math.exp(math.log(x)) == x == column(math.log(x)).exp() for x in (0.25, 0.5, 2.0, 4.0)), "exact walls"
    old = torch.zeros(len(ratio), 1)
    rows = ga.Batch(old, old, advantage=torch.ones(len(ratio)), group=torch.arange(len(ratio)))
    for sign, expected in ((1.0, good), (-1.0, poor)):
        close(of.weight(torch.full_like(steps, sign), steps, rows), expected)


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


def test_a_margin_of_pairs_must_be_exceeded() -> None:
    """Of drives 1, ½, 0 one pair differs by more than ½; all three differ by more than 0, and equal ones never."""
    zero, drive = torch.zeros(3), column(1.0, 0.5, 0.0)
    close(optimization.GroupPairs(margin=0.5).force(zero, drive), [-1.5, 0, 1.5])
    close(optimization.GroupPairs(0.2).force(zero, drive), [-0.2, 0, 0.2])
    close(optimization.GroupPairs().force(zero, column(1, 1, 1)), [0, 0, 0])


def test_a_response_without_a_drive_is_of_neither_kind() -> None:
    zero, drive, good = torch.zeros(3), column(2.0, 0.0, -0.5), column(1.0, 0.0, 1.0)
    close(optimization.GroupContrast().force(zero, drive), [-1.5, 0, 1.5])
    for temperature in (None, 0.5):
        of = optimization.GroupDiscrimination(temperature)
        close(of.force(zero, drive), [-3, 0, 3])
        assert of.conjugate(drive).tolist() == [math.inf] * 3 and of.conjugate(good).tolist() == [0.0] * 3
        assert of.equilibrium(drive).tolist() == [math.inf, 0.0, -math.inf]
        assert of.equilibrium(good).tolist() == [0.0] * 3


def test_equal_drives_are_ranked_in_the_order_of_the_rows() -> None:
    for u, energy in (((2.0, 0.0), math.log1p(math.exp(-2))), ((0.0, 2.0), math.log1p(math.exp(2)))):
        close(optimization.PlackettLuce().energy(column(*u), column(1.0, 1.0)), [energy] * 2)


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


# ---- groups


def test_a_variance_by_hand_and_of_one_response() -> None:
    """Of 3, 0, 0 the unbiased variance is 3; a response alone has none and is never pushed."""
    of, u = optimization.GroupVariance(2.0), column(3.0, 0.0, 0.0)
    close(of.value(u), [3.0] * 3)
    close(of.mirror(u), [6.0, -3.0, -3.0])
    close(of.curvature(u), [2.0] * 3)
    close(of.conjugate(column(3.0, 0.0, -3.0)), [2 / (2 * 2 * 3) * 6] * 3)
    close(of.equilibrium(column(3.0, 0.0, -3.0)), [1.0, 0.0, -1.0])
    alone = column(5.0)
    for found in (of.value(alone), of.mirror(alone), of.curvature(alone), of.conjugate(0 * alone)):
        close(found, [0.0])
    assert of.equilibrium(alone).tolist() == [math.inf]


@pytest.mark.parametrize(
    "of, slack, finite", [(optimization.GroupVariance(), 64, 0.25), (ga.GroupPotential(), 128, math.log(2))], ids=str
)
def test_drives_of_a_group_sum_to_zero_up_to_rounding(of: ga.GroupGeometry, slack: int, finite: float) -> None:
    """Drives of ±1 whose mean is off by 0.9 and by 1.1 of the slack."""
    inside, outside = (column(1 + x * slack * EPS, -1 + x * slack * EPS) for x in (0.9, 1.1))
    close(of.conjugate(inside), [finite] * 2)
    assert bool(torch.isfinite(of.equilibrium(inside)).any())
    assert of.conjugate(outside).tolist() == [math.inf] * 2
    assert of.equilibrium(outside).tolist() == [math.inf, -math.inf]


def test_a_density_is_not_negative_up_to_rounding() -> None:
    for share, finite in ((0.9, True), (1.1, False)):
        x = 1 + share * 128 * EPS
        assert bool(torch.isfinite(ga.GroupPotential().conjugate(column(x, -x))).all()) is finite


def test_an_impossible_target_has_the_probability_of_rounding() -> None:
    """At u = 0 under the densities 2 and 0: d = −log w, and w = 2, ε, whose mean is one up to rounding."""
    d = [-math.log(2), -math.log(EPS)]
    mean = sum(d) / 2
    of, zero, drive = optimization.GroupReverseKL(0.5), torch.zeros(2), column(1.0, -1.0)
    close(of.energy(zero, drive), [0.5 * mean] * 2)
    close(of.force(zero, drive), [x - mean for x in d])
    close(of.curvature(zero, drive), [((x - mean + 1) - (x - mean)) / 2 / 0.5 for x in d])
    close(of.equilibrium(drive), [0.5 * (mean - x) for x in d])


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


# ---- weights that look at the whole response or at the whole batch


def test_which_tokens_have_a_part_in_what_follows() -> None:
    """Ratios up to the cap have one; at the ratio `safety` itself a poor token is still amplified."""
    two, four = math.log(2.0), math.log(4.0)
    of = sampling.FutureKL(halflife=1.0, bounds=(0.5, 3.0), cap=2.0, safety=4.0)
    up, step = torch.ones(1, 2), torch.tensor([[0.0, two]])
    close(of.weight(up, step, NO_BATCH), [[math.sqrt(2), 2.0]])
    close(of.weight(up, step + 1e-9 * step, NO_BATCH), [[1.0, 1.0]])
    of = sampling.FutureKL(halflife=1.0, bounds=(0.5, 3.0), cap=1e9, safety=4.0)
    for first, last, weight in ((four, 0.0, 3.0), (four + 1e-9, 0.0, 1.0), (four + 1e-9, -20.0, 0.8)):
        close(of.weight(-up, torch.tensor([[first, last]]), NO_BATCH)[:, 0], [weight])
        close(of.weight(up, torch.tensor([[first, last]]), NO_BATCH)[:, 0], [0.5 if last else 3.0])


@pytest.mark.parametrize(
    "ends, walls",
    [
        ((0.6, 0.9, 0.05), [0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9]),
        ((0.0, 1.0, 0.3), [0.0, 0.3, 0.6, 0.9, 1.0]),
        ((1.0, 1.0, 0.1), [1.0]),
        ((1.0, 1.5, 9.0), [1.0, 1.5]),
    ],
)
def test_the_walls_that_are_tried(ends: tuple[float, float, float], walls: list[float]) -> None:
    assert _steps(*ends) == pytest.approx(walls)


@pytest.mark.parametrize(
    "good, poor, target, walls",
    [
        (1.0, -1.0, 0.5, (0.6, 1.2)),  # the target is met exactly
        (1.0, -1.0, 0.6, (0.9, 3.0)),  # and never: no wall can move a ratio of 1
        (0.0, 0.0, 0.5, (0.6, 1.2)),
    ],
)
def test_walls_move_until_the_target_is_met(
    good: float, poor: float, target: float, walls: tuple[float, float]
) -> None:
    rows = ga.Batch(torch.full((2, 1), -1.0), torch.full((2, 1), -1.0), advantage=torch.tensor([good, poor]))
    found = sampling.BalancedClip(target=target).walls(torch.tensor([good, poor]), torch.zeros(2), rows)
    assert [float(wall) for wall in found] == pytest.approx(walls)


def test_a_probability_is_at_most_one_and_weighs_between_its_bounds() -> None:
    log_p = torch.tensor([[0.1, 0.0, math.log(0.25), math.log(0.05)]])
    rows, drive = ga.Batch(log_p, None), torch.ones(1, 4)
    close(sampling.ProbabilityWeighted().weight(drive, log_p, rows), [[1.0, 1.0, 0.25, 0.05]])
    of = sampling.ProbabilityWeighted(power=0.5, complement=2.0)
    close(of.weight(drive, log_p, rows), [[0.0, 0.0, 0.5 * 0.75**2, 0.05**0.5 * 0.95**2]])
    gate = 2 * (1 / (1 + math.exp(-2.25)) - 0.25)
    close(sampling.ProbabilityGated().weight(drive, log_p, rows), [[1.4, 1.4, gate, 1.0]])
    assert sampling.ProbabilityWeighted(ga.Label(2.0)).drive_range == Interval(0.0, 2.0)
    assert sampling.ProbabilityWeighted(ga.Label(-2.0)).drive_range == Interval(-2.0, 0.0)


def test_baselines_by_hand() -> None:
    def rows(*reward: float) -> ga.Batch:
        return ga.Batch(torch.zeros(4, 1), torch.zeros(4, 1), reward=column(*reward), group=torch.tensor([0, 0, 1, 1]))

    close(sampling.RelativeAdvantage(0.5).drive(rows(1, 0, 1, -1)), [0.5, -0.5, 0, 0])
    close(sampling.ShiftedBaseline(shift=-0.25).drive(rows(1, 0, 2, 2)), [0.75, -0.25, 0.25, 0.25])
    for ddof, variance in ((0, 0.125), (1, 1 / 6)):
        close(
            sampling.DeviationScaled(ddof=ddof, epsilon=0.1).drive(rows(1, 0, 2, 2)),
            [x / (math.sqrt(variance) + 0.1) for x in (0.5, -0.5, 0, 0)],
        )
        spread = math.sqrt(0.5) if ddof else 0.5
        found = sampling.DecoupledAdvantage((2.0,), ddof, 0.1).drive(rows(1, 0, 2, 2))
        close(found, [x / (spread + 0.1) for x in (1, -1, 0, 0)])


@pytest.mark.parametrize("preference", [2.0, -0.05])
def test_a_length_far_below_the_mean_counts_a_millionth(preference: float) -> None:
    """Lengths 1 and 3 stand one deviation from their mean: h = 1 ± 2, and what is negative becomes 1e-6."""
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]]).bool()
    rows = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), mask, group=torch.zeros(2, dtype=torch.long))
    h = [1e-6**preference, 3.0**preference]
    share = 1 / (1 + math.exp(h[1] - h[0]))
    of = ga.measure.LengthPreference(preference, spread=2.0).among(rows, rows.counts())
    found = of.weights(mask, torch.tensor(4.0), torch.tensor(2.0))
    close(found[:, 0], [2 * share / 4, 2 * (1 - share) / 4])
