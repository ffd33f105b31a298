"""Units by hand: events, their adjoints and their counts, of rows with and without tokens; ties; what a unit says."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign._util.types import Locality
from geomalign.unit.base import latex_ratio

MASK = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1]]).bool()
TOKENS = torch.tensor([[1.0, -3.0, 0.0], [0.0, 0.0, 0.0], [2.0, 0.5, -1.0]], dtype=torch.float64)
COUNTS = ga.Counts(*(torch.tensor(n) for n in (5, 2, 7, 3)))
CLAMPED = ga.unit.ClampedTokens(low=-2.0, high=1.0)
BROADCAST = ga.unit.BroadcastSequence()

# unit, events, the gradient of rows or tokens [1, 2, 3] carried back to tokens
REDUCED: list[tuple[ga.Unit, list[Any], list[list[float]]]] = [
    (ga.Token(), TOKENS.tolist(), [[1, 1, 0], [0, 0, 0], [3, 3, 3]]),
    (ga.Sequence(), [-2, 0, 1.5], [[1, 1, 0], [0, 0, 0], [3, 3, 3]]),
    (ga.MeanSequence(), [-1, 0, 0.5], [[0.5, 0.5, 0], [0, 0, 0], [1, 1, 1]]),
    (CLAMPED, [-0.5, 0, 0.5 / 3], [[0.5, 0, 0], [0, 0, 0], [0, 1, 1]]),
    (BROADCAST, [[-1, -1, 0], [0, 0, 0], [0.5, 0.5, 0.5]], [[1, 1, 0], [0, 0, 0], [3, 3, 3]]),
    (
        ga.unit.BroadcastSequence(ga.Sequence()),
        [[-2, -2, 0], [0, 0, 0], [1.5, 1.5, 1.5]],
        [[2, 2, 0], [0, 0, 0], [9, 9, 9]],
    ),
    (ga.unit.Shifted(ga.Token(), 0.5), TOKENS.tolist(), [[1, 1, 0], [0, 0, 0], [3, 3, 3]]),
    (ga.unit.Observation(ga.Sequence()), [-2, 0, 1.5], [[1, 1, 0], [0, 0, 0], [3, 3, 3]]),
]


@pytest.mark.parametrize("unit, events, spread", REDUCED, ids=[repr(unit) for unit, *_ in REDUCED])
def test_events_of_responses_by_hand(unit: ga.Unit, events: list[Any], spread: list[list[float]]) -> None:
    found = unit.reduce(TOKENS, MASK)
    torch.testing.assert_close(found, torch.tensor(events, dtype=torch.float64))
    gradient, back = G[:, None].expand(3, 3) if unit.per_token else G, torch.tensor(spread, dtype=torch.float64)
    torch.testing.assert_close(unit.spread(gradient, MASK, TOKENS), back)
    by_autograd = ga.Unit.spread(unit, gradient, MASK, TOKENS)
    torch.testing.assert_close(by_autograd, back)
    if unit.linear:
        torch.testing.assert_close(unit.spread(gradient, MASK), by_autograd)
        torch.testing.assert_close(ga.Unit.spread(unit, gradient, MASK), by_autograd)
    else:
        for spreads in (unit.spread, lambda g, m: ga.Unit.spread(unit, g, m)):
            with pytest.raises(AssertionError, match="linear"):
                spreads(gradient, MASK)
    support = unit.support(MASK)
    assert support.dtype == torch.bool
    assert torch.equal(support, MASK if unit.per_token else torch.tensor([True, False, True]))
    assert [int(n) for n in unit.events(COUNTS)] == ([5, 2] if unit.per_token else [2, 2])
    assert unit.combine(found) is found and unit.split(gradient, found) is gradient


# unit: needs_tokens, per_token, linear, observes, locality
FACTS: list[tuple[ga.Unit, tuple[bool, bool, bool, bool, Locality]]] = [
    (ga.Token(), (True, True, True, False, Locality.TOKEN)),
    (ga.Sequence(), (False, False, True, False, Locality.SEQUENCE)),
    (ga.MeanSequence(), (True, False, True, False, Locality.SEQUENCE)),
    (CLAMPED, (True, False, False, False, Locality.SEQUENCE)),
    (ga.unit.ClampedTokens(ga.Sequence()), (True, False, False, False, Locality.SEQUENCE)),
    (ga.unit.BroadcastSequence(ga.Sequence()), (True, True, True, False, Locality.SEQUENCE)),
    (ga.unit.BroadcastSequence(CLAMPED), (True, True, False, False, Locality.SEQUENCE)),
    (ga.unit.Shifted(), (False, False, True, False, Locality.SEQUENCE)),
    (ga.unit.Shifted(ga.Token()), (True, True, True, False, Locality.TOKEN)),
    (ga.unit.Observation(), (True, True, True, True, Locality.TOKEN)),
    (ga.unit.Observation(ga.Sequence()), (True, False, True, True, Locality.SEQUENCE)),
    (ga.Pair(), (False, False, True, False, Locality.GROUP)),
    (ga.Pair(CLAMPED), (True, False, False, False, Locality.GROUP)),
    (ga.Chosen(), (False, False, True, False, Locality.SEQUENCE)),
    (ga.Rejected(ga.MeanSequence()), (True, False, True, False, Locality.SEQUENCE)),
    (ga.PreferenceProbability(), (False, False, True, False, Locality.GROUP)),
    (ga.unit.QuantilePair(), (False, False, True, False, Locality.BATCH)),
    (ga.unit.QuantileMargin(), (False, False, True, False, Locality.BATCH)),
]


@pytest.mark.parametrize("unit, facts", FACTS, ids=[repr(unit) for unit, _ in FACTS])
def test_what_a_unit_says_of_itself(unit: ga.Unit, facts: tuple[object, ...]) -> None:
    assert (unit.needs_tokens, unit.per_token, unit.linear, unit.observes, unit.locality) == facts
    assert unit.paired is isinstance(unit, ga.PairUnit) and unit.margin == 0


def test_a_unit_of_ones_own_has_the_most_demanding_answers() -> None:
    class Own(ga.ResponseUnit):
        def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
            return tokens.amax(-1)

    class Anything(ga.Unit):
        def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
            return tokens[:, 0]

        def combine(self, u: Tensor) -> Tensor:
            return u**2

        support = events = latex = latex_event = None  # type: ignore[assignment]

    Anything.__abstractmethods__ = frozenset()
    own, anything = Own(), Anything()
    for unit in (own, anything):
        facts = unit.needs_tokens, unit.per_token, unit.linear, unit.observes, unit.paired
        assert facts == (True, False, True, False, False)
        assert unit.margin == 0 and unit.shift(ga.Batch(TOKENS)) == 0 and unit.view(MASK) is MASK
    assert (own.locality, anything.locality) == (Locality.SEQUENCE, Locality.BATCH)
    assert anything.split(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])).tolist() == [6, 20]
    assert (
        own.latex(r"\pi") == r"\operatorname{Own}_t\left(" + latex_ratio(r"y_{i,t}\mid y_{i,<t}", r"\pi") + r"\right)"
    )
    assert own.latex_event("u", "w") == "u=w"
    assert latex_ratio("y", "q") == r"\log\frac{\pi_\theta(y)}{q(y)}"


def test_clamped_tokens_have_a_bound_on_one_side_on_both_or_none() -> None:
    x, all_ = torch.tensor([[-5.0, 0.25, 5.0]]), torch.ones(1, 3, dtype=torch.bool)
    g = torch.ones(1)
    for low, high, total, moved in (
        (None, None, 0.25, [1, 1, 1]),
        (-1.0, None, 4.25, [0, 1, 1]),
        (None, 1.0, -3.75, [1, 1, 0]),
        (-1.0, 2.0, 1.25, [0, 1, 0]),
        (0.0, 0.0, 0.0, [0, 0, 0]),
        (-5.0, 5.0, 0.25, [1, 1, 1]),
        (-math.inf, math.inf, 0.25, [1, 1, 1]),
    ):
        unit = ga.unit.ClampedTokens(ga.Sequence(), low, high)
        assert unit.reduce(x, all_).tolist() == [total] and unit.spread(g, all_, x).tolist() == [moved]
    for low, high in ((0.1, 1.0), (-1.0, -0.1), (0.1, None), (None, -0.1)):
        message = f"ClampedTokens(low={low}, high={high}): bounds of Δ, low ≤ 0 ≤ high, such as ±0.4."
        with pytest.raises(ValueError, match=re.escape(message)):
            ga.unit.ClampedTokens(low=low, high=high)
    with pytest.raises(ValueError, match=r"ClampedTokens\(low=nan\): a number, or None\."):
        ga.unit.ClampedTokens(low=math.nan)
    assert (unit.of, CLAMPED.of, ga.unit.ClampedTokens().low) == (ga.Sequence(), ga.MeanSequence(), None)
    for unit, range_ in (
        (ga.unit.ClampedTokens(ga.Sequence()), r"[-\infty,\infty]"),
        (ga.unit.ClampedTokens(ga.Sequence(), -0.4, 0.25), "[-0.4,0.25]"),
    ):
        assert unit.latex(None) == rf"\log\pi_\theta(y_i)\Big|_{{\Delta_{{i,t}}\in{range_}}}"


def test_the_shift_is_that_of_the_unit() -> None:
    moved, still = ga.unit.Shifted(origin=0.5), ga.unit.Shifted()
    assert moved.shift(ga.Batch(TOKENS)) == 0.5 and still.shift(ga.Batch(TOKENS)) == 0
    assert moved.latex_event("u", "w") == "u=w-0.5" and still.latex_event("u", "w") == "u=w"
    assert ga.unit.Shifted(ga.Token()).latex(None) == ga.Token().latex(None)


# ---- pairs

U = torch.tensor([3.0, 2.0, -1.0, 1.0, 0.5, 4.0], dtype=torch.float64)  # three chosen, then three rejected responses
G = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
PAIRED: list[tuple[ga.PairUnit, list[float], list[float]]] = [
    (ga.Pair(), [2, 1.5, -5], [1, 2, 3, -1, -2, -3]),
    (ga.Pair(margin=0.5), [1.5, 1, -5.5], [1, 2, 3, -1, -2, -3]),
    (ga.Chosen(), [3, 2, -1], [1, 2, 3, 0, 0, 0]),
    (ga.Rejected(), [1, 0.5, 4], [0, 0, 0, 1, 2, 3]),
    (ga.unit.QuantilePair(), [-1, 1, -1.5], [1, 2, 3, -2, -3, -1]),
    (ga.unit.QuantileMargin(), [2, 1.5, -5], [1, 2, 3, -1, -2, -3]),
]


@pytest.mark.parametrize("unit, events, split", PAIRED, ids=[repr(unit) for unit, *_ in PAIRED])
def test_events_of_pairs_by_hand(unit: ga.PairUnit, events: list[float], split: list[float]) -> None:
    assert unit.combine(U).tolist() == events and unit.split(G, U).tolist() == split
    torch.testing.assert_close(ga.Unit.split(unit, G, U), unit.split(G, U))
    assert [int(n) for n in unit.events(COUNTS)] == [7, 7]
    mask = torch.tensor([[1, 0], [0, 0], [1, 1], [0, 1], [1, 1], [0, 0]]).bool()
    assert unit.support(mask).tolist() == [True, False, False]


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_probability_of_a_preference_by_hand(beta: float) -> None:
    unit = ga.PreferenceProbability(beta=beta)
    expected = [1 / (1 + math.exp(-beta * x)) for x in (2, 1.5, -5)]
    torch.testing.assert_close(unit.combine(U), torch.tensor(expected))
    slopes = [g * beta * p * (1 - p) for g, p in zip(G.tolist(), expected, strict=True)]
    torch.testing.assert_close(unit.split(G, U), torch.tensor([*slopes, *(-x for x in slopes)]))
    assert ga.PreferenceProbability().beta == 1
    assert unit.latex_event("u", "w") == rf"u=\sigma\left({beta:g}\left(w(y_i^+)-w(y_i^-)\right)\right),\quad w(y_i)=w"


def test_the_formulas_of_pairs() -> None:
    for unit, formula in (
        (ga.Pair(), "u=w(y_i^+)-w(y_i^-)"),
        (ga.Pair(margin=0.5), "u=w(y_i^+)-w(y_i^-)-0.5"),
        (ga.Chosen(), "u=w(y_i^+)"),
        (ga.Rejected(), "u=w(y_i^-)"),
        (ga.unit.QuantilePair(), "u=w(y^+)_{(i)}-w(y^-)_{(i)}"),
    ):
        assert unit.latex_event("u", "x") == formula + r",\quad w(y_i)=x"
    assert ga.unit.QuantileMargin().latex_event("u", "x").startswith("u=w(y_i^+)-w(y_i^-)-")


TIES = (torch.arange(60) % 3).double()  # more than a sort that does not keep the order leaves alone


def test_responses_of_equal_coordinates_keep_the_order_of_their_rows() -> None:
    """Of ties among the chosen the earlier row meets the earlier of the rejected, which a gradient then reaches."""
    order = sorted(range(60), key=lambda i: float(TIES[i]))
    rising = torch.arange(60.0)
    for chosen, rejected in ((TIES, rising), (rising, TIES), (TIES, TIES)):
        of_chosen, of_rejected = (order if x is TIES else list(range(60)) for x in (chosen, rejected))
        partner = dict(zip(of_chosen, of_rejected, strict=True))
        u = torch.cat([chosen, rejected])
        expected = [float(chosen[i] - rejected[partner[i]]) for i in range(60)]
        assert ga.unit.QuantilePair().combine(u).tolist() == expected
        gradient = torch.arange(1.0, 61.0)
        back = ga.unit.QuantilePair().split(gradient, u)
        assert torch.equal(back[:60], gradient)
        assert [float(-back[60 + partner[i]]) for i in range(60)] == gradient.tolist()


def test_margins_that_are_equal_keep_the_order_of_their_pairs() -> None:
    order = sorted(range(60), key=lambda i: float(TIES[i]))
    zero, reference = torch.zeros(60), torch.arange(60.0).flip(0)
    shift = ga.unit.QuantileMargin().shift(ga.PreferenceBatch(TIES, zero, reference, zero).rows)
    expected = [0.0] * 60
    for rank, i in enumerate(order):
        expected[i] = rank - float(reference[i])
    assert shift.tolist() == expected


def test_a_pair_without_a_response_stands_behind_the_last() -> None:
    mask = torch.tensor([[1], [1], [0], [1], [0], [1]]).bool()
    unit = ga.unit.QuantilePair()
    tokens = torch.tensor([[3.0], [2.0], [0.0], [7.0], [0.0], [5.0]])
    reduced = unit.reduce(tokens, mask)
    assert reduced.tolist() == [3, math.inf, math.inf, 7, math.inf, math.inf]
    assert unit.spread(torch.arange(1.0, 7.0), mask).tolist() == [[1], [0], [0], [4], [0], [0]]
    assert ga.unit.QuantilePair(ga.MeanSequence()).spread(torch.ones(6), mask).flatten().tolist() == [1, 0, 0, 1, 0, 0]
    pairs = ga.PreferenceBatch(
        *(torch.tensor([[3.0], [2.0], [9.0]]), torch.tensor([[7.0], [8.0], [5.0]])),
        *(torch.tensor([[1.0], [4.0], [4.0]]), torch.tensor([[0.5], [1.0], [1.0]])),
        chosen_mask=mask[:3],
        rejected_mask=mask[3:],
    )
    shift = ga.unit.QuantileMargin().shift(pairs.rows)
    assert shift[0] == 0 and not shift.requires_grad  # it is alone, and meets its own reference


def test_the_margin_of_equal_rank_by_hand() -> None:
    """Margins 1, −2, 3 of the policy against 5, 0, −1 of the reference: sorted −1, 0, 5 for −2, 1, 3."""
    zero = torch.zeros(3, 1)
    policy, reference = (torch.tensor(x)[:, None] for x in ([1.0, -2.0, 3.0], [5.0, 0.0, -1.0]))
    pairs = ga.PreferenceBatch(policy, zero, reference, zero)
    assert ga.unit.QuantileMargin().shift(pairs.rows).tolist() == [0.0 - 5.0, -1.0 - 0.0, 5.0 + 1.0]
    with pytest.raises(ValueError, match="QuantileMargin needs `reference`"):
        ga.unit.QuantileMargin().shift(ga.PreferenceBatch(policy, zero).rows)


@pytest.mark.parametrize("kind", [ga.Pair, ga.Chosen, ga.Rejected, ga.PreferenceProbability, ga.unit.QuantilePair])
def test_a_pair_is_of_whole_responses(kind: type[ga.PairUnit]) -> None:
    for of in (ga.Token(), ga.unit.BroadcastSequence(), ga.Pair(), "sequence"):
        message = f"{kind.__name__}(of={of!r}): a pair compares whole responses; use Sequence() or MeanSequence()."
        with pytest.raises(ValueError, match=re.escape(message)):
            kind(of=of)  # type: ignore[call-arg]
    assert kind().of == ga.Sequence()


def test_observations_are_events_of_responses() -> None:
    for of in (ga.Pair(), ga.unit.Observation(), "token"):
        message = f"Observation(of={of!r}): a unit of responses or of their tokens, such as Token()."
        with pytest.raises(ValueError, match=re.escape(message)):
            ga.unit.Observation(of)  # type: ignore[arg-type]
    batch = ga.Batch(TOKENS, mask=MASK, observation_mask=torch.ones_like(MASK))
    seen = ga.unit.Observation().view(batch)
    assert seen.support.int().tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]] and seen.observation_mask is None
    assert ga.unit.Observation().latex(None) == r"\log\pi_\theta(o_{i,t}\mid y_{i,<t})"
    objective = ga.Objective(unit=ga.unit.Observation(), sampling=ga.Label(0.0), optimization=ga.Flat(), anchor=None)
    with pytest.raises(ValueError, match="Observation needs `observation_mask`"):
        objective(dataclasses.replace(batch, observation_mask=None))
