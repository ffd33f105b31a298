"""Divergences, their estimates, target policies and trust regions against numbers worked out by hand, at their edges
and with every option."""

from __future__ import annotations

import math

import pytest
import torch
from test_slot_values import close, column
from torch import Tensor

import geomalign as ga
from geomalign._util.types import Interval
from geomalign.divergences import SkewJensenShannon

INF, LOG_2 = math.inf, math.log(2)
JS_OF_4 = 4 * math.log(4) - 5 * math.log(2.5)
SKEW_OF_4 = 0.75 * 4 * math.log(4 / 3.25) - 0.25 * math.log(3.25)
SKEW_RANGE = -0.75 * math.log(0.75)

VALUES: list[tuple[ga.Divergence, tuple[float, float, float], float, tuple[float, float]]] = [
    # divergence; ψ, ψ' and ψ'' at t = 4; ψ(0); the range of ψ'
    (ga.KullbackLeibler(), (4 * math.log(4) - 3, math.log(4), 0.25), 1.0, (-INF, INF)),
    (ga.ReverseKullbackLeibler(), (3 - math.log(4), 0.75, 1 / 16), INF, (-INF, 1.0)),
    (ga.PearsonChiSquare(), (4.5, 3.0, 1.0), 0.5, (-1.0, INF)),
    (ga.NeymanChiSquare(), (9 / 8, 15 / 32, 1 / 64), INF, (-INF, 0.5)),
    (ga.SquaredHellinger(), (2.0, 1.0, 1 / 8), 2.0, (-INF, 2.0)),
    (ga.CressieRead(3.0), (9.0, 7.5, 4.0), 1 / 3, (-0.5, INF)),
    (ga.CressieRead(1.5), ((8 - 6 + 0.5) / 0.75, 2.0, 0.5), 2 / 3, (-2.0, INF)),
    (ga.CressieRead(2.5), ((32 - 10 + 1.5) / 3.75, 7 / 1.5, 2.0), 0.4, (-2 / 3, INF)),
    (ga.CressieRead(-0.5), ((0.5 + 2 - 1.5) / 0.75, (1 - 1 / 8) / 1.5, 1 / 32), INF, (-INF, 2 / 3)),
    (ga.JensenShannon(), (JS_OF_4, math.log(8 / 5), 1 / 20), LOG_2, (-INF, LOG_2)),
    (
        SkewJensenShannon(0.25),
        (SKEW_OF_4, 0.75 * math.log(4 / 3.25), 0.1875 / 13),
        -0.25 * math.log(0.25),
        (-INF, SKEW_RANGE),
    ),
    (ga.TotalVariation(), (1.5, 0.5, 0.0), 0.5, (-0.5, 0.5)),
    (3.0 * ga.JensenShannon(), (3 * JS_OF_4, 3 * math.log(8 / 5), 3 / 20), 3 * LOG_2, (-INF, 3 * LOG_2)),
    (
        ga.KullbackLeibler() + 0.5 * ga.PearsonChiSquare(),
        (4 * math.log(4) - 0.75, math.log(4) + 1.5, 0.75),
        1.25,
        (-INF, INF),
    ),
    (
        ga.ReverseKullbackLeibler() + 2.0 * ga.JensenShannon(),
        (3 - math.log(4) + 2 * JS_OF_4, 0.75 + 2 * math.log(8 / 5), 1 / 16 + 0.1),
        INF,
        (-INF, 1 + 2 * LOG_2),
    ),
]
values = pytest.mark.parametrize("of, at, zero, ends", VALUES, ids=[repr(of) for of, *_ in VALUES])


@values
def test_a_divergence_by_hand(
    of: ga.Divergence, at: tuple[float, float, float], zero: float, ends: tuple[float, float]
) -> None:
    t, log_t = column(4.0), column(math.log(4))
    close(torch.cat([of.generator(t), of.mirror(t), of.curvature(t)]), list(at))
    slope = 4 * at[2]
    close(torch.cat([of.penalty(log_t), of.coordinate(log_t), of.slope(log_t)]), [at[0], at[1], slope])
    assert of.generator(column(0.0)).tolist() == [pytest.approx(zero)]
    assert float(of.generator(column(1.0))) == float(of.coordinate(column(0.0))) == 0.0
    found = of.mirror_range
    assert (found.low, found.high) == (pytest.approx(ends[0]), pytest.approx(ends[1]))
    close(of.reverse.generator(column(0.25)), [0.25 * at[0]])
    close(of.reverse.penalty(-log_t), [0.25 * at[0]])
    assert of.reverse.reverse == of
    if not isinstance(of, ga.TotalVariation):
        s = column(at[1])
        close(torch.cat([of.inverse_mirror(s), of.conjugate(s)]), [4.0, 4 * at[1] - at[0]])
        assert of.generator(column(-0.5)).tolist() == [INF] or isinstance(of, ga.divergences.WeightedSum)


@values
def test_beyond_the_range_of_a_mirror(
    of: ga.Divergence, at: tuple[float, float, float], zero: float, ends: tuple[float, float]
) -> None:
    """Below it the best ratio is 0, whose conjugate is −ψ(0); above it there is none."""
    if isinstance(of, ga.TotalVariation):
        return
    if math.isfinite(ends[0]):
        below = column(ends[0] - 1.0, ends[0])
        close(of.inverse_mirror(below), [0.0, 0.0])
        close(of.conjugate(below), [-zero, -zero])
    if math.isfinite(ends[1]):
        above = column(ends[1] + 1.0)
        assert of.inverse_mirror(above).tolist() == of.conjugate(above).tolist() == [INF]


def test_conjugates_at_the_end_of_a_range() -> None:
    """ψ* of a negative order is −1/α there; of the orders from 0 to 1 it grows without bound."""
    assert ga.NeymanChiSquare().conjugate(column(0.5)).tolist() == [1.0]
    assert ga.CressieRead(-2.0).conjugate(column(1 / 3)).tolist() == [0.5]
    assert ga.ReverseKullbackLeibler().conjugate(column(1.0)).tolist() == [INF]
    assert ga.SquaredHellinger().conjugate(column(2.0)).tolist() == [INF]
    assert ga.NeymanChiSquare().inverse_mirror(column(0.5, 0.6)).tolist() == [INF, INF]
    close(ga.ReverseKullbackLeibler().conjugate(column(0.5, -1.0)), [LOG_2, -LOG_2])
    close(ga.JensenShannon().conjugate(column(-1.0, 0.0)), [-math.log(2 - math.exp(-1)), 0.0])
    close(ga.JensenShannon().inverse_mirror(column(-1.0, 0.0)), [math.exp(-1) / (2 - math.exp(-1)), 1.0])
    r = math.exp(-1 / 0.75)
    close(SkewJensenShannon(0.25).inverse_mirror(column(-1.0, 0.0)), [0.25 * r / (1 - 0.75 * r), 1.0])
    close(SkewJensenShannon(0.25).conjugate(column(-1.0, 0.0)), [0.25 * math.log(0.25 / (1 - 0.75 * r)), 0.0])


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("delta", [-8.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 8.0])
def test_the_jensen_shannon_divergences_by_hand(weight: float, delta: float) -> None:
    """β·KL(q‖m) + (1−β)·KL(p‖m) of one outcome, on both sides of the nats where a series takes over."""
    t = math.exp(delta)
    m = weight + (1 - weight) * t
    psi, mirror = (1 - weight) * t * math.log(t / m) - weight * math.log(m), (1 - weight) * math.log(t / m)
    skew, at = SkewJensenShannon(weight), column(delta)
    torch.testing.assert_close(skew.penalty(at), column(psi), rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(skew.coordinate(at), column(mirror), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(skew.slope(at), column(weight * (1 - weight) / m))
    if weight == 0.5:
        js = ga.JensenShannon()
        torch.testing.assert_close(js.penalty(at), column(2 * psi), rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(js.coordinate(at), column(2 * mirror), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(js.slope(at), column(1 / (1 + t)))
    assert skew.reverse == SkewJensenShannon(1 - weight)


def test_named_orders_and_refusals() -> None:
    named = ga.divergences.power_divergence
    assert [named(a) for a in (1.0, 0.0, 2.0, -1.0, 0.5, 3.0)] == [
        ga.KullbackLeibler(), ga.ReverseKullbackLeibler(), ga.PearsonChiSquare(), ga.NeymanChiSquare(),
        ga.SquaredHellinger(), ga.CressieRead(3.0),
    ]  # fmt: skip
    assert ga.KullbackLeibler().reverse == ga.ReverseKullbackLeibler()
    assert ga.PearsonChiSquare().reverse == ga.NeymanChiSquare() and ga.CressieRead(3.0).reverse == ga.CressieRead(-2.0)
    assert (2.0 * ga.KullbackLeibler()).reverse == 2.0 * ga.ReverseKullbackLeibler()
    for made, said in (
        (
            lambda: ga.CressieRead(INF),
            "CressieRead(order=inf): a finite number, since its limits are no f-divergences.",
        ),
        (lambda: ga.Renyi(-0.1), "Renyi(order=-0.1): a number ≥ 0, a finite order."),
        (lambda: ga.Renyi(INF), "Renyi(order=inf): a number ≥ 0, a finite order."),
        (lambda: SkewJensenShannon(0.0), "SkewJensenShannon(weight=0.0): a share in (0, 1); the ends are KL(q‖p) and"),
        (lambda: SkewJensenShannon(1.0), "SkewJensenShannon(weight=1.0): a share in (0, 1); the ends are"),
        (lambda: SkewJensenShannon("x"), "SkewJensenShannon(weight='x'): a number, a share in (0, 1)."),  # type: ignore[arg-type]
        (
            lambda: -1.0 * ga.JensenShannon(),
            "a multiple of a divergence needs a finite weight > 0 to stay convex, got -",
        ),
    ):
        with pytest.raises(ValueError) as refused:
            made()
        assert str(refused.value).startswith(said)
    assert ga.Renyi(0.0).order == 0.0
    for wrong in (True, "2"):
        with pytest.raises(TypeError):
            ga.KullbackLeibler() * wrong  # type: ignore[operator]


def test_values_over_a_support_by_hand() -> None:
    p, q = column(0.5, 0.5).log(), column(0.25, 0.75).log()
    for of, expected in (
        (ga.KullbackLeibler(), 0.5 * LOG_2 + 0.5 * math.log(2 / 3)),
        (ga.ReverseKullbackLeibler(), 0.25 * math.log(0.5) + 0.75 * math.log(1.5)),
        (ga.PearsonChiSquare(), (0.25 + 1 / 12) / 2),
        (ga.NeymanChiSquare(), 0.125),
        (ga.TotalVariation(), 0.25),
    ):
        close(of.value(p, q)[None], [expected])
        close(of.value(torch.stack([p, p], 1), torch.stack([q, q], 1), dim=0), [expected] * 2)
    for order, expected in (
        (2.0, math.log(4 / 3)),
        (0.5, -2 * math.log(math.sqrt(0.125) + math.sqrt(0.375))),
        (1.0, 0.5 * LOG_2 + 0.5 * math.log(2 / 3)),
        (0.0, 0.0),
    ):
        close(ga.Renyi(order).value(p, q)[None], [expected])
        close(ga.Renyi(order).value(torch.stack([p, p], 1), torch.stack([q, q], 1), dim=0), [expected] * 2)
    never = column(1.0, 0.0).log()
    close(ga.Renyi(0.0).value(never, q)[None], [math.log(4)])
    close(ga.Renyi(2.0).value(never, q)[None], [math.log(4)])
    close(ga.PearsonChiSquare().value(never, q)[None], [(0.25 * 9 + 0.75) / 2])
    assert float(ga.KullbackLeibler().value(q, never)) == INF and float(ga.JensenShannon().value(q, never)) < 1
    close(ga.JensenShannon().value(q, never)[None], [0.25 * math.log(0.4) + math.log(1.6) + 0.75 * LOG_2])


# ---- estimates

T = (2.0, 0.5, 1.0, 0.5)
SAMPLES = column(*T).log()


def mean_and_error(x: list[float]) -> list[float]:
    mean = sum(x) / len(x)
    return [mean, math.sqrt(sum((y - mean) ** 2 for y in x) / (len(x) - 1) / len(x))]


@pytest.mark.parametrize("control", [0.0, -1.0, 0.5])
def test_an_estimate_with_a_control_variate_by_hand(control: float) -> None:
    expected = mean_and_error([t * math.log(t) - t + 1 + control * (t - 1) for t in T])
    found = ga.divergence_estimate(SAMPLES, ga.KullbackLeibler(), control=control)
    close(torch.stack([found.value, found.standard_error]), expected)
    padded = torch.cat([SAMPLES, column(math.nan, 9.0)])
    masked = ga.divergence_estimate(
        padded, ga.KullbackLeibler(), control=control, mask=torch.tensor([1, 1, 1, 1, 0, 0])
    )
    close(torch.stack([masked.value, masked.standard_error]), expected)


def test_a_self_normalised_estimate_by_hand() -> None:
    """t over its mean, 1, is t; and its error is that of ψ(t) − E[tψ'(t)](t − 1)."""
    expected = mean_and_error([(t - 1) ** 2 / 2 for t in T])[0]
    pull = sum(t * (t - 1) for t in T) / 4
    error = mean_and_error([(t - 1) ** 2 / 2 - pull * (t - 1) for t in T])[1]
    for shift, control in ((0.0, 0.0), (3.0, 0.0), (-2.0, 5.0)):
        found = ga.divergence_estimate(SAMPLES + shift, ga.PearsonChiSquare(), self_normalised=True, control=control)
        close(torch.stack([found.value, found.standard_error]), [expected, error])


def test_a_sample_that_the_policy_never_gives() -> None:
    """At t = 0 the generator counts, ψ(0) = ½, and its slope does not."""
    found = ga.divergence_estimate(column(-INF, LOG_2), ga.PearsonChiSquare(), self_normalised=True)
    close(found.value[None], [0.5])
    assert math.isfinite(float(found.standard_error))


@pytest.mark.parametrize("order", [0.5, 2.0, 3.0])
def test_renyis_estimate_by_hand(order: float) -> None:
    """The mean of t is 1, so that normalising changes the error alone."""
    moment = sum(t**order for t in T) / 4
    value = math.log(moment) / (order - 1)
    for normalised in (False, True):
        influence = [t**order / moment - (order * t if normalised else 0) for t in T]
        error = mean_and_error(influence)[1] / abs(order - 1)
        found = ga.renyi_estimate(SAMPLES, ga.Renyi(order), self_normalised=normalised)
        close(torch.stack([found.value, found.standard_error]), [value, error])
    shifted = ga.renyi_estimate(SAMPLES + 2.0, ga.Renyi(order))
    close(shifted.value[None], [value + 2 * order / (order - 1)])
    close(ga.renyi_estimate(SAMPLES + 2.0, ga.Renyi(order), self_normalised=True).value[None], [value])


def test_moments_and_sizes_by_hand() -> None:
    mask = torch.tensor([1, 1, 0, 1])
    for power in (-1.0, 0.0, 2.0):
        found = ga.log_power_moment(SAMPLES, power, mask=mask)
        close(found[None], [math.log(sum(t**power for t in (2.0, 0.5, 0.5)) / 3)])
    close(ga.effective_sample_size(SAMPLES)[None], [16 / (4 * 5.5)])
    close(ga.effective_sample_size(SAMPLES, mask=mask)[None], [9 / (3 * 4.5)])
    one = ga.renyi_estimate(SAMPLES, ga.Renyi(1.0), self_normalised=True, mask=mask)
    kl = ga.divergence_estimate(SAMPLES, ga.KullbackLeibler(), self_normalised=True, mask=mask)
    assert torch.equal(one.value, kl.value) and torch.equal(one.standard_error, kl.standard_error)
    plain = ga.renyi_estimate(SAMPLES, ga.Renyi(1.0), mask=mask)
    close(plain.value[None], mean_and_error([t * math.log(t) - t + 1 for t in (2.0, 0.5, 0.5)])[:1])


def test_equal_samples_have_no_error_and_one_has_none() -> None:
    found = ga.divergence_estimate(torch.full((3,), 0.5), ga.KullbackLeibler())
    assert found.standard_error == 0.0
    lone = ga.divergence_estimate(SAMPLES, ga.KullbackLeibler(), mask=torch.tensor([1, 0, 0, 0]))
    close(lone.value[None], [2 * LOG_2 - 1])
    assert lone.standard_error.isnan()


# ---- target policies

TWO = [  # divergence, a drive of the first of two outcomes, the fluctuation x of the densities 1 ± x, λ
    (ga.KullbackLeibler(), math.log(3), 0.5, math.log(2)),
    (ga.PearsonChiSquare(), 1.0, 0.5, 0.5),
    (2.0 * ga.PearsonChiSquare(), 1.0, 0.25, 0.5),
    (ga.PearsonChiSquare(), 2.0, 1.0, 1.0),
    (ga.PearsonChiSquare(), 4.0, 1.0, 3.0),
    (ga.CressieRead(3.0), 1.0, 0.5, 0.375),
    (ga.ReverseKullbackLeibler(), 4 / 3, 0.5, 1.0),
    (ga.CressieRead(1.5), 2 * (math.sqrt(1.75) - 0.5), 0.75, 1.0),
    (ga.CressieRead(1.2), (1.5**0.2 - 0.5**0.2) / 0.2, 0.5, (1 - 0.5**0.2) / 0.2),
    (ga.JensenShannon(), math.log(1.8), 0.5, math.log(1.5)),
    (0.5 * ga.CressieRead(3.0), 0.5, 0.5, 0.1875),
]


@pytest.mark.parametrize("of, drive, x, multiplier", TWO, ids=[f"{of!r}-{drive:.3g}" for of, drive, *_ in TWO])
def test_a_target_of_two_outcomes_by_hand(of: ga.Divergence, drive: float, x: float, multiplier: float) -> None:
    expected, prior = column(1 + x, 1 - x), column(0.5, 0.5).log()

    def near(actual: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)

    for shift in (0.0, 3.0):
        g = column(drive + shift, shift)
        found = ga.target_policy(g, of)
        near(found.ratio, expected)
        near(found.multiplier, torch.tensor(multiplier + shift))
        near(found.fluctuation, expected - 1)
        near(found.probability, expected / 2)
        near(found.log_prior, prior)
        given = ga.target_policy(g, of, log_prior=prior + 7.0)
        near(given.ratio, expected)
        near(given.multiplier, torch.tensor(multiplier + shift))
    # A third outcome that is impossible, and the same as groups of rows, one of which is of one row.
    third = torch.cat([column(drive, 0.0), column(50.0)])
    found = ga.target_policy(third, of, log_prior=torch.cat([prior, column(-INF)]))
    near(found.ratio, torch.cat([expected, column(0.0)]))
    near(found.fluctuation, torch.cat([expected - 1, column(0.0)]))
    near(found.probability, torch.cat([expected / 2, column(0.0)]))
    assert found.log_prior[2] == -INF
    groups = ga.Groups(torch.tensor([4, 2, 4, 2, 4]), torch.tensor([True, True, True, False, False]))
    rows = ga.target_policy(column(drive, 1.5, 0.0, 9.0, 9.0), of, groups=groups)
    near(rows.ratio, torch.stack([expected[0], torch.tensor(1.0), expected[1], torch.tensor(0.0), torch.tensor(0.0)]))
    near(rows.multiplier, column(multiplier, 1.5, multiplier, 0.0, 0.0))
    weighed = ga.target_policy(
        column(drive, 1.5, 0.0, 9.0, 9.0), of, groups=groups, log_prior=column(-5.0, 1.0, -5.0, 2.0, 3.0)
    )
    near(weighed.ratio, rows.ratio)
    near(weighed.probability, column((1 + x) / 2, 1.0, (1 - x) / 2, 0.0, 0.0))


def test_a_target_with_a_prior_by_hand() -> None:
    """Σ wt = 1: λ is the weighted mean of the drives for χ², and log of the weighted mean of e^g for KL."""
    prior, drive = column(0.25, 0.75), column(1.0, 0.0)
    found = ga.target_policy(drive, ga.PearsonChiSquare(), log_prior=prior.log())
    close(found.ratio, [1.75, 0.75])
    close(found.multiplier[None], [0.25])
    close(found.probability, [0.4375, 0.5625])
    z = 0.25 * math.e + 0.75
    found = ga.target_policy(drive, ga.KullbackLeibler(), log_prior=prior.log())
    close(found.ratio, [math.e / z, 1 / z])
    close(found.multiplier[None], [math.log(z)])
    # t = 1 + 2x and 1 − (2/3)x with the weights ¼ and ¾, for the order 3: (t² − 1)/2.
    for x in (0.25, 0.5):
        g = column(((1 + 3 * x) ** 2 - (1 - x) ** 2) / 2, 0.0)
        found = ga.target_policy(g, ga.CressieRead(3.0), log_prior=prior.log())
        torch.testing.assert_close(found.ratio, column(1 + 3 * x, 1 - x), rtol=1e-9, atol=1e-9)
    for x in (0.25, 0.5):
        g = column(2 * (math.sqrt(1 + 3 * x) - math.sqrt(1 - x)), 0.0)
        found = ga.target_policy(g, ga.CressieRead(1.5), log_prior=prior.log())
        torch.testing.assert_close(found.ratio, column(1 + 3 * x, 1 - x), rtol=1e-9, atol=1e-9)


def test_a_free_energy_by_hand() -> None:
    """⟨g, π⟩ − D at the best policy; an outcome that is impossible changes nothing, whatever its drive."""
    z = 0.25 * math.e + 0.75
    for of, uniform, weighted in (
        (ga.KullbackLeibler(), math.log((math.e + 1) / 2), math.log(z)),
        (ga.PearsonChiSquare(), 0.75 - 0.125, 0.4375 - (0.25 * 0.75**2 + 0.75 * 0.25**2) / 2),
        (2.0 * ga.KullbackLeibler(), 2 * math.log((math.exp(0.5) + 1) / 2), 2 * math.log((math.exp(0.5) + 3) / 4)),
    ):
        drive = column(1.0, 0.0).requires_grad_()
        free = ga.free_energy(drive, of)
        close(free.detach()[None], [uniform])
        (slope,) = torch.autograd.grad(free, drive)
        close(slope, ga.target_policy(drive.detach(), of).probability)
        prior = column(0.25, 0.75).log()
        close(ga.free_energy(column(1.0, 0.0), of, log_prior=prior)[None], [weighted])
        impossible = torch.cat([prior, column(-INF)])
        for other in (-3.0, 0.0, 50.0):
            g = column(1.0, 0.0, other).requires_grad_()
            free = ga.free_energy(g, of, log_prior=impossible)
            close(free.detach()[None], [weighted])
            (slope,) = torch.autograd.grad(free, g)
            close(slope, ga.target_policy(g.detach(), of, log_prior=impossible).probability)


# ---- trust regions


def test_a_stiffness_by_hand() -> None:
    """Deviations ±2 and ±1 in two groups: mean squares 4 and 1, 2½ over all rows; a row in no group counts in none."""
    groups = ga.Groups(torch.tensor([0, 0, 1, 1, 1]), torch.tensor([True, True, True, True, False]))
    drive = column(5.0, 1.0, 1.0, -1.0, 99.0)
    close(ga.chi_square_stiffness(drive, groups, 0.1)[None], [5.0])
    close(ga.chi_square_stiffness(drive, groups, 0.25, within="group"), [4.0, 4.0, 2.0, 2.0, 0.0])
    alone = ga.Groups(None, torch.ones(1, dtype=torch.bool))
    assert ga.chi_square_stiffness(column(3.0), alone, 0.1) == 0.0


@pytest.mark.parametrize("within", ["batch", "group"])
def test_a_trust_region_target_by_hand(within: str) -> None:
    """Of two responses with densities 1 ± x; the divergence is that of x = ½, in both groups."""
    groups = ga.Groups(torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool))
    x = 0.5
    for of, radius, ends in (
        (ga.PearsonChiSquare(), x * x / 2, (x, -x)),
        (
            ga.KullbackLeibler(),
            ((1 + x) * math.log(1 + x) + (1 - x) * math.log(1 - x)) / 2,
            (math.log(1 + x), math.log(1 - x)),
        ),
        (
            ga.ReverseKullbackLeibler(),
            -(math.log(1 + x) + math.log(1 - x)) / 2,
            (x / (1 + x), -x / (1 - x)),
        ),
    ):
        for scale in (1.0, 1e-3, 1e3):
            found = ga.trust_region_target(scale * column(1, 0, 3, 2), groups, of, radius, within=within)
            torch.testing.assert_close(found, column(*ends, *ends), rtol=1e-6, atol=1e-8)
    drive = column(1.0, 0.0, 2.0, 2.0)
    found = ga.trust_region_target(drive, groups, ga.PearsonChiSquare(), 0.08, within=within)
    step = 0.4 if within == "group" else math.sqrt(0.32)
    torch.testing.assert_close(found, column(step, -step, 0.0, 0.0), rtol=1e-6, atol=1e-8)


def test_a_radius_that_cannot_be_reached_goes_as_far_as_fifty() -> None:
    groups = ga.Groups(None, torch.ones(2, dtype=torch.bool))
    for within in ("batch", "group"):
        found = ga.trust_region_target(column(1.0, 0.0), groups, ga.KullbackLeibler(), 5.0, within=within)
        assert float(found[0] - found[1]) == pytest.approx(50.0, rel=1e-6) and float(found[0]) == pytest.approx(LOG_2)
    valid = torch.tensor([True, True, False])
    part = ga.Groups(None, valid)
    found = ga.trust_region_target(column(1.0, 0.0, 9.0), part, ga.PearsonChiSquare(), 0.5)
    torch.testing.assert_close(found, column(1.0, -1.0, 0.0), rtol=1e-6, atol=1e-6)


def test_the_range_of_a_mirror_of_ones_own() -> None:
    """An end is finite where ψ' moves by a thousandth at most between 150 and 300 nats."""

    class Bounded(ga.Divergence):
        def generator(self, t: Tensor) -> Tensor:
            return (t - 1) ** 2 / (t + 1)

    class Open(ga.Divergence):
        def generator(self, t: Tensor) -> Tensor:
            return t * t.log() - t + 1

    assert (Bounded().mirror_range.low, Bounded().mirror_range.high) == (pytest.approx(-3.0), pytest.approx(1.0))
    assert Open().mirror_range == Interval()
    mine = Bounded()
    assert repr(mine.reverse) == f"{mine!r}.reverse" and mine.reverse.reverse is mine
    close(mine.reverse.generator(column(0.25, 0.0)), [0.25 * 9 / 5, 1.0])
    low, high = mine.mirror_range.low, mine.mirror_range.high
    assert mine.inverse_mirror(column(low, low - 1.0)).tolist() == [0.0, 0.0]
    assert mine.inverse_mirror(column(high, high + 1.0)).tolist() == [INF, INF]
    s = 1.0 - 4 / 25  # ψ'(t) = 1 − 4/(1 + t)² at t = 4, where ψ is 9/5
    close(mine.inverse_mirror(column(s)), [4.0])
    close(mine.conjugate(column(s)), [4 * s - 1.8])
    assert mine.conjugate(column(high, low - 1.0)).tolist() == [INF, -1.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_jensen_shannon_divergences_far_from_the_anchor(dtype: torch.dtype) -> None:
    """Far below, ψ' falls by one for every nat and ψ tends to ψ(0); far above, ψ' tends to its end and ψ grows with t.
    Near the anchor both keep their digits: ψ is Δ²/4 and ψ' is Δ/2, to first order."""
    far = 25.0 if dtype is torch.float32 else 500.0
    below, above = torch.tensor([-far], dtype=dtype), torch.tensor([far], dtype=dtype)
    rtol = 1e-6 if dtype is torch.float32 else 1e-12
    for of, share, end, zero, slope in (
        (ga.JensenShannon(), 1.0, LOG_2, LOG_2, 0.25),
        (SkewJensenShannon(0.25), 0.75, SKEW_RANGE, 0.25 * math.log(4), 0.1875 / 2),
    ):
        low = share * (-far) - share * (math.log(0.25) if share < 1 else math.log(0.5))
        torch.testing.assert_close(of.coordinate(below), torch.tensor([low], dtype=dtype), rtol=rtol, atol=0)
        torch.testing.assert_close(of.coordinate(above), torch.tensor([end], dtype=dtype), rtol=rtol, atol=0)
        torch.testing.assert_close(of.penalty(below), torch.tensor([zero], dtype=dtype), rtol=rtol, atol=0)
        if dtype is torch.float32:
            grown = of.penalty(above) / above.exp()
            torch.testing.assert_close(grown, torch.tensor([end], dtype=dtype), rtol=1e-5, atol=0)
        near = torch.tensor([1e-4, -1e-4], dtype=dtype)
        torch.testing.assert_close(of.penalty(near), slope * near**2, rtol=1e-3, atol=0)
        torch.testing.assert_close(of.coordinate(near), 2 * slope * near, rtol=1e-3, atol=0)


FORMULAS = [
    (ga.KullbackLeibler(), r"t \log t - t + 1", r"\log t"),
    (ga.ReverseKullbackLeibler(), r"-\log t + t - 1", r"1-\left(t\right)^{-1}"),
    (ga.PearsonChiSquare(), r"\tfrac12 (t - 1)^2", "t-1"),
    (ga.NeymanChiSquare(), r"\frac{(t - 1)^2}{2t}", r"\frac{1}{2}\left(1-\left(t\right)^{-2}\right)"),
    (ga.SquaredHellinger(), r"2 (\sqrt{t} - 1)^2", r"\frac{1}{0.5}\left(1-\left(t\right)^{-0.5}\right)"),
    (ga.JensenShannon(), r"t \log t - (1 + t) \log\frac{1 + t}{2}", r"\log\frac{2\,t}{1+t}"),
    (ga.TotalVariation(), r"\tfrac12 |t - 1|", r"\psi_{\mathrm{TotalVariation}}'\left(t\right)"),
    (2.0 * ga.PearsonChiSquare(), r"2 \left( \tfrac12 (t - 1)^2 \right)", r"2\left(t-1\right)"),
    (
        ga.KullbackLeibler() + 0.5 * ga.PearsonChiSquare(),
        r"t \log t - t + 1 + 0.5 \left( \tfrac12 (t - 1)^2 \right)",
        r"\log t+0.5\left(t-1\right)",
    ),
]


@pytest.mark.parametrize("of, formula, mirror", FORMULAS, ids=[repr(of) for of, *_ in FORMULAS])
def test_constants_and_signs_of_a_formula(of: ga.Divergence, formula: str, mirror: str) -> None:
    assert of.latex() == formula and of.latex_mirror("t") == mirror
    assert SkewJensenShannon(0.25).latex_mirror("t") == r"0.75\log\frac{t}{0.25+0.75\,t}"


# ---- how many steps a solution takes: each is a communication, or an evaluation of every ratio


@pytest.mark.parametrize(
    "of, radius, most",
    [
        (ga.PearsonChiSquare(), 1e-4, 5),  # where nothing is at its bound the start is the solution
        (ga.PearsonChiSquare(), 1e-2, 5),
        *[
            (of, radius, 21)
            for of in (ga.KullbackLeibler(), ga.ReverseKullbackLeibler(), ga.JensenShannon(), ga.PearsonChiSquare())
            for radius in (1e-4, 1e-2, 0.1, 0.3)
        ],
    ],
    ids=str,
)
def test_a_trust_region_is_solved_in_few_calls(of: ga.Divergence, radius: float, most: int) -> None:
    """One for the spread and two for every step of Newton's iteration."""
    groups, drive = ga.Groups(torch.arange(8) // 4, torch.ones(8, dtype=torch.bool)), torch.randn(8)
    count = 0

    def reduce(x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return x

    ga.trust_region_target(drive, groups, of, radius, reduce=reduce)
    assert 3 <= count <= most


@pytest.mark.parametrize("order, most", [(3.0, (8, 13, 16)), (-1.0, (10, 11, 10)), (0.0, (8, 9, 8)), (0.5, (8, 10, 9))])
def test_a_target_policy_is_solved_in_few_steps(order: float, most: tuple[int, ...]) -> None:
    class Counted(ga.CressieRead):
        count = 0

        def inverse_mirror(self, s: Tensor) -> Tensor:
            Counted.count += 1
            return super().inverse_mirror(s)

    drive = torch.randn(16)
    for scale, bound in zip((0.01, 1.0, 30.0), most):
        Counted.count = 0
        ga.target_policy(scale * drive, Counted(order))
        assert 3 <= Counted.count <= bound, scale


@pytest.mark.parametrize("rise, settled", [(0.9e-3, True), (1.1e-3, False)])
def test_a_mirror_settles_that_moves_by_a_thousandth(rise: float, settled: bool) -> None:
    class Late(ga.Divergence):
        def generator(self, t: Tensor) -> Tensor:
            return (t - 1) ** 2 / (t + 1)

        def coordinate(self, log_ratio: Tensor) -> Tensor:
            return log_ratio.sign() * (2 + 2 * rise * (log_ratio.abs() > 200))

    found = Late().mirror_range
    assert (found.low, found.high) == ((-2 - 2 * rise, 2 + 2 * rise) if settled else (-INF, INF))
