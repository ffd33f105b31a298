"""Sampling geometries at their edges, by hand: where a wall itself lies, which walls are tried, bounds of a weight,
and baselines."""

from __future__ import annotations

import math

import pytest
import torch
from test_slot_values import close, column

import geomalign as ga
from geomalign import sampling
from geomalign._util.types import Interval
from geomalign.sampling.balance import _steps

NO_BATCH = ga.Batch(torch.zeros(1, 1), torch.zeros(1, 1))


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


# ---- baselines


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
