"""Laws of measures."""

from __future__ import annotations

import torch
from torch import Tensor

from geomalign.laws.checking import check, equal, holds, law, ragged
from geomalign.measure import FixedBudget, Measure


def check_measure(measure: Measure) -> None:
    """All laws of a `Measure`. Raises `LawViolation`."""
    check("measure", measure)


def _supports() -> list[tuple[Tensor, Tensor, Tensor]]:
    tokens = ragged(6, 5, torch.Generator().manual_seed(2))
    rows = tokens.any(-1)
    return [
        (tokens, tokens.sum().double(), rows.sum().double()),
        (rows, rows.sum().double(), rows.sum().double()),
    ]


@law("measure")
def weights_live_on_the_support(measure: Measure) -> None:
    """Weights are positive on the support and exactly zero outside it."""
    for support, events, rows in _supports():
        weights = measure.weights(support, events, rows)
        holds(weights[~support] == 0, f"{measure!r}: weight outside the support")
        holds(weights[support] > 0, f"{measure!r}: no weight on an event")


@law("measure")
def weights_sum_to_one(measure: Measure) -> None:
    """An average: the weights of a whole batch sum to one (of a `FixedBudget`, if every row used it)."""
    for support, events, rows in _supports():
        weights = measure.weights(support, events, rows)
        used = events / (rows * measure.length) if isinstance(measure, FixedBudget) else torch.ones(())
        equal(weights.sum(), used, f"{measure!r}: the weights do not sum to one")


@law("measure")
def weights_of_parts_are_those_of_the_whole(measure: Measure) -> None:
    """Splitting the rows changes no weight, given the counts of the whole."""
    for support, events, rows in _supports():
        whole = measure.weights(support, events, rows)
        parts = torch.cat([measure.weights(part, events, rows) for part in support.split([1, 3, 2])])
        equal(whole, parts, f"{measure!r}: weights change when the batch is split")


@law("measure")
def an_empty_batch_has_no_weight(measure: Measure) -> None:
    """No event, no division by zero."""
    none = torch.zeros(3, 4, dtype=torch.bool)
    zero = torch.zeros((), dtype=torch.float64)
    holds(measure.weights(none, zero, zero) == 0, f"{measure!r}: weight in an empty batch")
