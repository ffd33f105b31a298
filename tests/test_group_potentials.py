"""Potentials of a whole group at their edges, by hand: ties, responses without a drive, and up to which rounding a
drive is possible."""

from __future__ import annotations

import math

import pytest
import torch
from test_slot_values import close, column

import geomalign as ga
from geomalign import optimization

EPS = torch.finfo(torch.float64).eps


# ---- ties, and responses without a drive


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


# ---- a variance, and rounding


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
