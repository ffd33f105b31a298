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


# ---- values by hand, for a group of two or three

LOG_2, LOG_3 = math.log(2), math.log(3)


def test_a_softmax_of_a_group_by_hand() -> None:
    """u = τ(log 3, 0) has the shares ¾ and ¼ and the densities 3/2 and 1/2."""
    of, u = ga.GroupPotential(temperature=2.0), column(2 * LOG_3, 0.0)
    close(of.mirror(u), [0.5, -0.5])
    close(of.value(u), [2 * math.log(2) - LOG_3] * 2)  # τ log mean e^{u/τ} − ū
    close(of.curvature(u), [0.75 * 0.25 * 2 / 2] * 2)
    close(of.curvature_along(u, u, column(1.0, 0.0)), [0.1875, -0.1875])
    close(of.curvature_along(u, u, column(3.0, 3.0)), [0.0, 0.0])
    drive = column(0.5, -0.5)
    close(of.equilibrium(drive), [LOG_3, -LOG_3])
    psi = 1.5 * math.log(1.5) + 0.5 * math.log(0.5)
    close(of.conjugate(drive), [2 * psi / 2] * 2)
    close(of.force(u, drive), [0.0, 0.0])
    close(of.gap(u, drive), [0.0, 0.0])
    close(of.gap(column(0.0, 0.0), drive), [psi] * 2)
    close(of.energy(u, drive), [2 * LOG_2 - LOG_3 - 0.5 * 2 * LOG_3, 2 * LOG_2 - LOG_3])


def test_a_sparse_policy_of_a_group_by_hand() -> None:
    """The projection of 2, 0, −2 onto densities is 5/2, 1/2, 0: the last is below the support."""
    of, u = ga.GroupPotential(ga.PearsonChiSquare()), column(2.0, 0.0, -2.0)
    close(of.mirror(u), [1.5, -0.5, -1.0])
    close(of.value(u), [(1.5 * 2 + 1.0 * 2) / 3 - (1.5**2 + 0.5**2 + 1) / 6] * 3)
    close(of.curvature(u), [0.5, 0.5, 0.0])
    close(of.curvature_along(u, u, column(1.0, 0.0, 5.0)), [0.5, -0.5, 0.0])
    close(of.equilibrium(column(1.5, -0.5, -1.0)), [1.5, -0.5, -1.0])


def test_a_reverse_divergence_of_a_group_by_hand() -> None:
    """The densities 3/2 and 1/2 against the uniform target: d = log t, and its mean under t."""
    of, u, zero = optimization.GroupReverseKL(2.0), column(2 * LOG_3, 0.0), torch.zeros(2)
    d = [math.log(1.5), math.log(0.5)]
    mean = (1.5 * d[0] + 0.5 * d[1]) / 2
    close(of.energy(u, zero), [2 * mean] * 2)
    close(of.force(u, zero), [1.5 * (d[0] - mean), 0.5 * (d[1] - mean)])
    step = 1e-6
    for at, direction in enumerate((column(1.0, 0.0), column(0.0, 1.0))):
        slope = (of.force(u + step * direction, zero) - of.force(u - step * direction, zero)) / (2 * step)
        torch.testing.assert_close(of.curvature_along(u, zero, direction), slope, rtol=1e-8, atol=1e-9)
        assert float(of.curvature(u, zero)[at]) == pytest.approx(float(slope[at]), rel=1e-8)
    close(of.equilibrium(column(0.5, -0.5)), [LOG_3, -LOG_3])
    close(of.conjugate(column(0.5, -0.5)), [0.0, 0.0])


def test_right_and_wrong_of_a_group_by_hand() -> None:
    """Two right ones at log 2 and 0, a wrong one at log 3: 1 + ½ + 1 = 5/2 and 1 + 3 = 4 at τ = 1."""
    of, u, drive = optimization.GroupContrast(), column(LOG_2, 0.0, LOG_3), column(5.0, 0.1, -2.0)
    close(of.energy(u, drive), [math.log(2.5) + math.log(4)] * 3)
    close(of.force(u, drive), [-3 * 0.2, -3 * 0.4, 3 * 0.75])
    close(of.curvature(u, drive), [3 * 0.16, 3 * 0.24, 3 * 0.1875])
    close(of.curvature_along(u, drive, column(1.0, 0.0, 1.0)), [3 * 0.16, -3 * 0.08, 3 * 0.1875])
    warm = optimization.GroupContrast(2.0)
    close(warm.energy(2 * u, drive), [math.log(2.5) + math.log(4)] * 3)
    close(warm.force(2 * u, drive), [-0.3, -0.6, 1.125])
    close(warm.curvature(2 * u, drive), [0.12, 0.18, 0.140625])
    far = of.energy(column(-1000.0, 0.0, 1000.0), drive)
    close(far, [2000.0] * 3)
    assert of.equilibrium(column(2.0, 0.0, -0.1)).tolist() == [math.inf, 0.0, -math.inf]
    close(of.conjugate(drive), [0.0] * 3)


def test_a_ranking_of_three_by_hand() -> None:
    """Of the weights 2, 1, 3 in the order 3, 2, 1 the choices have the shares ½ of 6, ⅓ of 3 and 1."""
    of, u, drive = optimization.PlackettLuce(), column(LOG_2, 0.0, LOG_3), column(0.0, 1.0, 2.0)
    close(of.energy(u, drive), [LOG_2 + LOG_3] * 3)
    close(of.force(u, drive), [3 * (2 / 6 + 2 / 3), 3 * (1 / 6 + 1 / 3 - 1), 3 * (3 / 6 - 1)])
    close(of.curvature(u, drive), [3 * (2 / 9 + 2 / 9), 3 * (5 / 36 + 2 / 9), 3 * 0.25])
    along = of.curvature_along(u, drive, column(0.0, 0.0, 1.0))
    close(along, [-3 / 6, -3 / 12, 3 / 4])
    assert of.equilibrium(column(2.0, 0.0, -0.1)).tolist() == [math.inf, 0.0, -math.inf]
    close(of.conjugate(drive), [0.0] * 3)
    close(of.energy(torch.zeros(2, 2), torch.ones(2, 2)), torch.full((2, 2), LOG_2))
    close(of.energy(torch.tensor(3.0), torch.tensor(1.0))[None].flatten(), [0.0])


def test_ordered_pairs_by_hand() -> None:
    """Of the drives 1, 0, 0 two pairs, whose differences of u are log 3 and −log 3 at β = 1."""
    of, u, drive = optimization.GroupPairs(), column(0.0, -LOG_3, LOG_3), column(1.0, 0.0, 0.0)
    close(of.energy(u, drive), [(math.log(4 / 3) + math.log(4)) / 2] * 3)
    close(of.force(u, drive), [-1.5, 1.5 * 0.25, 1.5 * 0.75])
    close(of.curvature(u, drive), [1.5 * 0.375, 1.5 * 0.1875, 1.5 * 0.1875])
    close(of.curvature_along(u, drive, column(0.0, 1.0, 0.0)), [-0.28125, 0.28125, 0.0])
    sharp = optimization.GroupPairs(2.0)
    close(sharp.energy(u / 2, drive), [(math.log(4 / 3) + math.log(4)) / 2] * 3)
    close(sharp.force(u / 2, drive), [-3.0, 0.75, 2.25])
    close(sharp.curvature(u / 2, drive), [2.25, 1.125, 1.125])
    assert of.equilibrium(column(2.0, 0.0, -0.1)).tolist() == [math.inf, 0.0, -math.inf]
    close(of.conjugate(drive), [0.0] * 3)


def test_scores_of_right_and_wrong_by_hand() -> None:
    """τ log mean₋ e^{u/τ} − mean₊ u with the weights 1 and 3 of two wrong ones, and one right one."""
    of, u, drive = optimization.GroupDiscrimination(1.0), column(2.0, 0.0, LOG_3), column(0.5, -1.0, -9.0)
    close(of.energy(u, drive), [LOG_2 - 2.0] * 3)
    close(of.force(u, drive), [-3.0, 0.75, 2.25])
    close(of.curvature(u, drive), [0.0, 3 * 0.1875, 3 * 0.1875])
    close(of.curvature_along(u, drive, column(7.0, 1.0, 0.0)), [0.0, 0.5625, -0.5625])
    warm = optimization.GroupDiscrimination(2.0)
    close(warm.energy(2 * u, drive), [2 * LOG_2 - 4.0] * 3)
    close(warm.force(2 * u, drive), [-3.0, 0.75, 2.25])
    close(warm.curvature(2 * u, drive), [0.0, 0.28125, 0.28125])
    plain = optimization.GroupDiscrimination()
    close(plain.energy(u, drive), [LOG_3 / 2 - 2.0] * 3)
    close(plain.force(u, drive), [-3.0, 1.5, 1.5])
    close(plain.curvature(u, drive), [0.0] * 3)
    for kind in (of, warm, plain):
        for alone in (column(1.0, 1.0, 0.0), column(-1.0, -1.0, 0.0)):
            close(torch.cat([kind.energy(u, alone), kind.force(u, alone), kind.curvature(u, alone)]), [0.0] * 9)
            assert kind.conjugate(alone).tolist() == [0.0] * 3 and kind.equilibrium(alone).tolist() == [0.0] * 3
    far = optimization.GroupDiscrimination(1.0).energy(column(0.0, 1000.0, 1000.0), drive)
    close(far, [1000.0] * 3)


# ---- groups of a batch, and sections

OF_GROUPS: list[ga.GroupGeometry] = [
    ga.GroupPotential(temperature=0.5),
    ga.GroupPotential(ga.PearsonChiSquare()),
    optimization.GroupReverseKL(0.5),
    optimization.GroupContrast(0.5),
    optimization.PlackettLuce(),
    optimization.GroupVariance(2.0),
    optimization.GroupPairs(2.0, 0.1),
    optimization.GroupDiscrimination(0.5),
    optimization.GroupDiscrimination(),
]
of_groups = pytest.mark.parametrize("of", OF_GROUPS, ids=str)


@of_groups
def test_groups_of_a_batch_are_those_of_their_rows(of: ga.GroupGeometry) -> None:
    """Rows 0, 2, 5 and 1, 4 are groups; row 3 has no token and is in none of them, whatever it holds."""
    group, mask = torch.tensor([7, 2, 7, 7, 2, 7]), torch.tensor([1, 1, 1, 0, 1, 1])[:, None]
    bound = of.among(ga.Batch(torch.zeros(6, 1), None, mask, group=group))
    assert bound == of and bound is not of and bound.locality is ga.Locality.GROUP
    u, drive = column(0.3, -1.0, 0.7, 9.0, 0.2, -0.4), column(0.9, -0.5, -0.3, 99.0, 0.5, -0.6)
    along = column(1.0, 2.0, -1.0, 50.0, 0.5, 0.25)
    for name, given in (
        ("energy", (u, drive)),
        ("force", (u, drive)),
        ("curvature", (u, drive)),
        ("curvature_along", (u, drive, along)),
        ("conjugate", (drive,)),
        ("equilibrium", (drive,)),
        ("gap", (u, drive)),
    ):
        found = getattr(bound, name)(*given)
        for rows in ([0, 2, 5], [1, 4]):
            torch.testing.assert_close(found[rows], getattr(of, name)(*(x[rows] for x in given)), rtol=1e-9, atol=1e-11)


@of_groups
def test_a_section_is_of_two_responses_that_stand_opposite_each_other(of: ga.GroupGeometry) -> None:
    """At u and −u under g and −g, as a function of one number: half the difference of what both feel."""
    section, u, g = of.section, column(0.3, -0.8), column(0.6, -0.25)
    for at in range(2):
        both, drives = column(float(u[at]), -float(u[at])), column(float(g[at]), -float(g[at]))
        one, drive = u[at : at + 1], g[at : at + 1]
        close(section.energy(one, drive), of.energy(both, drives).mean()[None])
        close(section.conjugate(drive), of.conjugate(drives)[:1])
        force = of.force(both, drives)
        close(section.force(one, drive), ((force[0] - force[1]) / 2)[None])
        rest = of.equilibrium(drives)
        close(section.equilibrium(drive), ((rest[0] - rest[1]) / 2)[None])
        step = 1e-5
        slope = (section.force(one + step, drive) - section.force(one - step, drive)) / (2 * step)
        torch.testing.assert_close(section.curvature(one, drive), slope, rtol=1e-6, atol=1e-8)
        if isinstance(section, ga.BregmanGeometry) and isinstance(of, ga.BregmanGeometry):
            close(section.value(one), of.value(both)[:1])
            close(section.mirror(one), of.mirror(both)[:1])
    assert section.conjugate_domain.low == max(of.conjugate_domain.low, -of.conjugate_domain.high)
    assert section.conjugate_domain.high == -section.conjugate_domain.low
    assert isinstance(section, ga.BregmanGeometry) is isinstance(of, ga.BregmanGeometry)
    assert repr(section) == f"{of!r} of two opposite responses"
    close(section.curvature(column(0.3)), section.curvature(column(0.3), column(0.0)))
