"""Charts and measures by hand: at their defaults and away from them, at their ends, and of batches with nothing in."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from test_slot_values import close, column
from torch import Tensor

import geomalign as ga
from geomalign._util.groups import Groups
from geomalign.chart.base import exponential

LN2 = math.log(2.0)
BIG = 300.0
"""Nats up to which float64 has an exponential; beyond them it is its tangent."""
E300 = math.exp(300.0)

# chart, log-ratios, coordinates, slopes
CHARTED: list[tuple[ga.Chart, list[float], list[float], list[float]]] = [
    (ga.LogRatio(), [-1.0, 0.0, 2.0], [-1, 0, 2], [1, 1, 1]),
    (ga.LogRatio(2.5), [-1.0, 0.0, 2.0], [-2.5, 0, 5], [2.5] * 3),
    (ga.Ratio(), [-LN2, 0.0, LN2, BIG + 1], [-0.5, 0, 1, 2 * E300], [0.5, 1, 2, E300]),
    (ga.Power(2.0), [-LN2, 0.0, LN2, BIG / 2 + 1], [-0.375, 0, 1.5, 1.5 * E300], [0.25, 1, 4, E300]),
    (ga.Power(-1.0), [-LN2, 0.0, LN2, -BIG - 1], [-1, 0, 0.5, -2 * E300], [2, 1, 0.5, E300]),
    (ga.Power(0.5), [-2 * LN2, 0.0, 2 * LN2], [-1, 0, 2], [0.5, 1, 2]),
    (ga.Dual(ga.PearsonChiSquare()), [-LN2, 0.0, LN2], [-0.5, 0, 1], [0.5, 1, 2]),
    (ga.Dual(ga.KullbackLeibler() + ga.PearsonChiSquare()), [0.0, LN2], [0, 1 + LN2], [2, 3]),
    (ga.Sigmoid(), [-LN2, 0.0, LN2], [1 / 3 - 0.5, 0, 2 / 3 - 0.5], [2 / 9, 0.25, 2 / 9]),
    (
        ga.Sigmoid(2.0, 0.5 * LN2),  # σ(2Δ − log 2): 1/3 at the anchor
        [0.0, LN2, 0.5 * LN2],
        [0, 1 / 3, 0.5 - 1 / 3],
        [4 / 9, 4 / 9, 0.5],
    ),
    (ga.chart.Probability(), [-LN2, 0.0, LN2, 3 * LN2], [-0.25, 0, 0.5, 3.5], [0.25, 0.5, 1, 4]),
    (ga.chart.Probability(0.125), [-LN2, 0.0, 3 * LN2], [-0.0625, 0, 0.875], [0.0625, 0.125, 1]),
]


@pytest.mark.parametrize("chart, log_ratio, u, slope", CHARTED, ids=[repr(chart) for chart, *_ in CHARTED])
def test_a_chart_by_hand(chart: ga.Chart, log_ratio: list[float], u: list[float], slope: list[float]) -> None:
    x = column(*log_ratio)
    close(chart(x), u), close(chart.slope(x), slope)
    together = chart.value_and_slope(x)
    close(together[0], u), close(together[1], slope)
    close(ga.Chart.slope(chart, x), slope)
    inside = x.abs() < 100
    close(chart.inverse(column(*u)[inside]), x[inside])
    assert chart.linear is isinstance(chart, ga.LogRatio)
    assert chart.needs_anchor is isinstance(chart, ga.chart.Probability)
    assert chart.needs_anchor or chart.among(x) is chart


def test_a_chart_of_ones_own_has_a_slope_and_an_inverse() -> None:
    class Cubic(ga.Chart):
        def __call__(self, log_ratio: Tensor) -> Tensor:
            return log_ratio + log_ratio**3

    chart, x = Cubic(), column(-1.0, 0.0, 2.0)
    assert not chart.linear and not chart.needs_anchor
    close(chart.slope(x), [4, 1, 13]), close(chart.inverse(column(-2.0, 0.0, 10.0)), x)
    value, slope = chart.value_and_slope(x)
    close(value, [-2, 0, 10]), close(slope, [4, 1, 13])
    assert chart.latex("x") == r"\operatorname{Cubic}\left(x\right)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_log_odds_have_a_tangent_where_the_probability_rounds_to_one(dtype: torch.dtype) -> None:
    chart, eps = ga.chart.LogOdds(), torch.finfo(dtype).eps
    x = torch.tensor([-LN2, -2 * LN2], dtype=dtype)
    torch.testing.assert_close(chart(x), torch.tensor([0.0, -math.log(3)], dtype=dtype), rtol=0, atol=8 * eps)
    torch.testing.assert_close(chart.slope(x), torch.tensor([2.0, 4 / 3], dtype=dtype))
    torch.testing.assert_close(chart.inverse(torch.tensor([0.0, -math.log(3)], dtype=dtype)), x)
    last = torch.tensor([-2 * eps, -eps, -eps / 2, 0.0, 0.5], dtype=dtype)
    end = -eps - math.log(eps)  # to the last digit, as 1 − e^{−ε} is ε(1 − ε/2)
    expected = [end - LN2, end, end + 0.5, end + 1, end + 1 + 0.5 / eps]
    torch.testing.assert_close(chart(last), torch.tensor(expected, dtype=dtype), rtol=4 * eps, atol=8 * eps)
    slopes = torch.tensor([0.5 / eps, *[1 / eps] * 4], dtype=dtype)
    torch.testing.assert_close(chart.slope(last), slopes, rtol=4 * eps, atol=0)
    moving = last.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(chart(moving).sum(), moving)[0], slopes, rtol=8 * eps, atol=0)


def test_the_range_of_a_sigmoid() -> None:
    for shift, low in ((0.0, -0.5), (0.5 * LN2, -1 / 3), (1e4, 0.0), (-1e4, -1.0)):
        found = ga.Sigmoid(2.0, shift).range
        assert [found.low, found.high] == pytest.approx([low, 1 + low], abs=1e-15)


def test_a_bound_probability_reads_its_anchor_and_leaves_the_chart_alone() -> None:
    chart = ga.chart.Probability(0.25)
    bound = chart.among(column(-LN2, -2 * LN2, 0.0))
    close(bound(column(LN2, LN2, -LN2)), [0.5, 0.25, -0.5])
    close(bound.slope(column(LN2, LN2, -LN2)), [1, 0.5, 0.5])
    close(bound.inverse(column(0.5, 0.25, -0.5)), [LN2, LN2, -LN2])
    assert bound == chart == ga.chart.Probability(0.25) and chart(column(LN2)).item() == pytest.approx(0.25)
    with pytest.raises(ValueError, match=r"Probability\(prior=0\): a number in \(0, 1\], the anchor's"):
        ga.chart.Probability(0)
    assert ga.chart.Probability(1.0)(column(LN2)).item() == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"^Power\(power=0\): the limit is the logarithm; use LogRatio\(\)\.$"):
        ga.Power(0)
    with pytest.raises(ValueError, match=r"^Dual\(divergence='kl'\): expected a Divergence instance such as Kull"):
        ga.Dual("kl")  # type: ignore[arg-type]


RATIO, MEAN = r"\log\frac{p(y)}{q(y)}", r"\frac{1}{|y_i|}\log\frac{p(y)}{q(y)}"


def test_the_formulas_of_charts() -> None:
    for chart, formula in (
        (ga.LogRatio(), "x"),
        (ga.LogRatio(0.1), r"0.1\,x"),
        (ga.Ratio(), "e^{x}-1"),
        (ga.Power(2.0), r"\frac{e^{2\,x}-1}{2}"),
        (ga.Sigmoid(), r"\sigma\left(1\left(x\right)\right)-0.5"),
        (ga.Sigmoid(2.0, 0.5 * LN2), r"\sigma\left(2\left(x-0.346574\right)\right)-0.333"),
        (ga.chart.LogOdds(), r"\operatorname{logit}\left(e^{x}\right)"),
        (ga.chart.Probability(), r"\pi_k\left(e^{x}-1\right)"),
    ):
        assert chart.latex("x") == formula
    assert ga.chart.Probability().latex(RATIO) == "p(y)-q(y)"
    assert ga.chart.Probability().latex(MEAN) == "p(y)^{1/|y_i|}-q(y)^{1/|y_i|}"
    assert exponential(RATIO) == r"\frac{p(y)}{q(y)}" and exponential("x", "2") == r"e^{2\,x}"
    assert exponential(RATIO, "2") == r"\left(\frac{p(y)}{q(y)}\right)^{2}"
    assert exponential(MEAN) == r"\left(\frac{p(y)}{q(y)}\right)^{1/|y_i|}"


# ---- measures

SUPPORT = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0]]).bool()
PROMPTS = torch.tensor([3, 3, 3, 8])
FOUR = torch.tensor(7.0, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)


def per_token(*row: float) -> Tensor:
    return torch.where(SUPPORT, column(*row)[:, None], 0)


def preference(power: float, spread: float) -> list[float]:
    """G softmax(h^λ) of lengths 4 and 2, which stand one deviation from their mean; 1 of the response by itself."""
    h = [(1 + spread) ** power, (1 - spread) ** power]
    share = 1 / (1 + math.exp(h[1] - h[0]))
    return [2 * share / 7, 0, 2 * (1 - share) / 7, 1 / 7]


MEASURED: list[tuple[ga.Measure, list[float], list[float], tuple[bool, bool, bool]]] = [
    (ga.PooledMean(), [1 / 7, 0, 1 / 7, 1 / 7], [1 / 3, 0, 1 / 3, 1 / 3], (True, False, True)),
    (ga.NestedMean(), [1 / 12, 0, 1 / 6, 1 / 3], [1 / 3, 0, 1 / 3, 1 / 3], (True, False, True)),
    (ga.FixedBudget(5), [1 / 15, 0, 1 / 15, 1 / 15], [1 / 15, 0, 1 / 15, 1 / 15], (True, False, False)),
    (ga.PromptMean(), [1 / 12, 0, 1 / 12, 1 / 2], [1 / 4, 0, 1 / 4, 1 / 2], (False, True, True)),
    (
        ga.measure.LengthPower(1.0, 5),
        [x / 5 / 1.75 for x in (0.25, 0, 0.5, 1)],
        [1 / 15, 0, 1 / 15, 1 / 15],
        (False, True, False),
    ),
    (
        ga.measure.LengthPower(-2.0, 10),
        [x / 10 / 21 for x in (16, 0, 4, 1)],
        [1 / 30, 0, 1 / 30, 1 / 30],
        (False, True, False),
    ),
    (ga.measure.LengthPreference(-5.0), preference(-5.0, 1 / 9), [1 / 3, 0, 1 / 3, 1 / 3], (False, True, False)),
    (ga.measure.LengthPreference(2.0, 0.5), preference(2.0, 0.5), [1 / 3, 0, 1 / 3, 1 / 3], (False, True, False)),
]


@pytest.mark.parametrize("measure, token, whole, facts", MEASURED, ids=[repr(m) for m, *_ in MEASURED])
def test_a_measure_by_hand(
    measure: ga.Measure, token: list[float], whole: list[float], facts: tuple[bool, bool, bool]
) -> None:
    """Of tokens and of whole responses, of all rows and of each alone, whose weights are the same."""
    batch = ga.Batch(torch.zeros(4, 4), mask=SUPPORT, group=PROMPTS)
    counts = batch.counts()
    events, rows = FOUR
    for part in (slice(0, 4), slice(3, 4), slice(0, 2), torch.tensor([2, 0])):
        of = measure.among(batch[part], counts)
        close(of.weights(SUPPORT[part], events, rows), per_token(*token)[part])
        close(of.weights(SUPPORT[part].any(-1), rows, rows), column(*whole)[part])
    assert (measure.rowwise, measure.needs_lengths, measure.normalised) == facts
    assert measure == of


@pytest.mark.parametrize("measure", [m for m, *_ in MEASURED], ids=repr)
def test_the_weights_of_nothing_are_finite(measure: ga.Measure) -> None:
    none = torch.zeros((), dtype=torch.float64)
    batch = ga.Batch(torch.zeros(2, 3), mask=torch.zeros(2, 3))
    of = measure.among(batch, batch.counts())
    assert torch.equal(of.weights(batch.support, none, none), torch.zeros(2, 3))
    if isinstance(measure, ga.measure.LengthWeights):
        length, counted = torch.zeros(2), torch.zeros(2, dtype=torch.bool)
        found = measure.weigh(length, counted, Groups(None, ~counted), none)
        assert torch.isfinite(found).all() and (found > 0).all()


@pytest.mark.parametrize("measure", [m for m, *_ in MEASURED], ids=repr)
def test_one_event_alone_has_the_whole_weight(measure: ga.Measure) -> None:
    own = ga.FixedBudget(1) if isinstance(measure, ga.FixedBudget) else measure
    own = ga.measure.LengthPower(measure.alpha, 1.0) if isinstance(measure, ga.measure.LengthPower) else own
    batch = ga.Batch(torch.zeros(2, 2), mask=torch.tensor([[0, 1], [0, 0]]))
    counts = batch.counts()
    found = own.among(batch, counts).weights(batch.support, counts.tokens.double(), counts.sequences.double())
    close(found, [[0, 1], [0, 0]])


def test_lengths_less_than_one_apart_are_measured_in_their_deviation() -> None:
    """Lengths 1 and 2 stand one deviation of ½ from their mean: h = 1 ∓ ½."""
    batch = ga.Batch(torch.zeros(2, 2), mask=torch.tensor([[1, 0], [1, 1]]))
    measure = ga.measure.LengthPreference(2.0, 0.5).among(batch, batch.counts())
    share = 1 / (1 + math.exp(1.5**2 - 0.5**2))
    found = measure.weights(batch.support, column(3.0)[0], column(2.0)[0])
    close(found[:, 0], [2 * share / 3, 2 * (1 - share) / 3])


def test_lengths_are_those_of_the_rows_where_no_batch_is_given() -> None:
    for measure, expected in (
        (ga.PromptMean(), [1 / 7, 0, 1 / 7, 1 / 7]),
        (ga.measure.LengthPower(1.0, 5), [x / 5 / 1.75 for x in (0.25, 0, 0.5, 1)]),
    ):
        close(measure.weights(SUPPORT, *FOUR), per_token(*expected))
        responses = measure.weights(SUPPORT.any(-1), FOUR[1], FOUR[1])
        close(responses, [x / 3 / (5 if isinstance(measure, ga.measure.LengthPower) else 1) for x in (1, 0, 1, 1)])


@pytest.mark.parametrize("alpha", [10.0, -11.0])
def test_a_high_power_of_a_length_stays_within_float32(alpha: float) -> None:
    """They are taken over their mean, 1337, whose tenth power is a float32; 12033¹⁰ and 4000¹¹ are none."""
    mask = torch.arange(4000) < torch.tensor([1, 10, 4000])[:, None]
    batch = ga.Batch(torch.zeros(3, 4000, dtype=torch.float32), mask=mask)
    counts, measure = batch.counts(), ga.measure.LengthPower(alpha, 1.0)
    events, rows = counts.tokens.float(), counts.sequences.float()
    parts = [measure.among(batch[i], counts).weights(mask[i : i + 1], events, rows)[0, 0] for i in range(3)]
    expected = torch.softmax(-alpha * torch.tensor([1.0, 10.0, 4000.0]).log(), 0)
    torch.testing.assert_close(torch.stack(parts), expected.float(), rtol=1e-4, atol=1e-37)


def test_the_formulas_of_measures() -> None:
    formulas: list[tuple[ga.Measure, str, str]] = [
        (ga.PooledMean(), r"\frac{1}{\sum_i|y_i|}\sum_i\sum_t", r"\frac{1}{N}\sum_i"),
        (ga.NestedMean(), r"\frac{1}{N}\sum_i\frac{1}{|y_i|}\sum_t", r"\frac{1}{N}\sum_i"),
        (ga.FixedBudget(1), r"\frac{1}{N}\sum_i\sum_t", r"\frac{1}{N}\sum_i"),
        (ga.FixedBudget(2), r"\frac{1}{N}\sum_i\frac{1}{2}\sum_t", r"\frac{1}{N}\sum_i\frac{1}{2}"),
    ]
    for measure, tokens, responses in formulas:
        assert measure.latex(True) == tokens and measure.latex(False) == responses

    class Own(ga.Measure):
        weights: Any = None

    Own.__abstractmethods__ = frozenset()
    assert Own().latex(True) == r"\operatorname{Own}_{i,t}\," and Own().latex(False) == r"\operatorname{Own}_{i}\,"
    assert Own().rowwise and Own().normalised and not Own().needs_lengths
