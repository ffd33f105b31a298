"""Laws of measures."""

from __future__ import annotations

import torch
from torch import Tensor

from geomalign.laws.cases import MASKS, Drawn
from geomalign.laws.checking import EXAMPLES, check, equal, holds, law
from geomalign.measure import FixedBudget, Measure


def check_measure(measure: Measure, examples: int = EXAMPLES) -> None:
    """Check all laws of a `Measure`; arguments and `LawViolation` as of `check_optimization`.

    >>> import geomalign as ga
    >>> ga.laws.check_measure(ga.NestedMean())
    """
    check("measure", measure, examples)


def _supports(case: Drawn) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Support, number of events and number of rows: of tokens, and of whole responses."""
    tokens = case()
    rows = tokens.any(-1)
    count = rows.sum().double()
    return [(tokens, tokens.sum().double(), count), (rows, count, count)]


@law("measure", MASKS)
def weights_live_on_the_support(measure: Measure, case: Drawn) -> None:
    """Weights are positive on the support and exactly zero outside it."""
    for support, events, rows in _supports(case):
        weights = measure.weights(support, events, rows)
        outside, inside = weights[~support], weights[support]
        holds(outside == 0, "there is a weight outside the support", "Multiply by the support.", weight=outside)
        holds(inside > 0, "an event has no weight", "Every event counts with a positive weight.", weight=inside)


@law("measure", MASKS)
def weights_sum_to_one(measure: Measure, case: Drawn) -> None:
    """An average: the weights of a whole batch sum to one (of a `FixedBudget`, if every row used its budget)."""
    for support, events, rows in _supports(case):
        weights = measure.weights(support, events, rows)
        used = events / (rows * measure.length) if isinstance(measure, FixedBudget) else torch.ones(())
        equal(weights.sum(), used, "the weights do not sum to one", "Divide by the number of what is averaged over.")


@law("measure", MASKS)
def weights_of_parts_are_those_of_the_whole(measure: Measure, case: Drawn) -> None:
    """Splitting the rows changes no weight, given the counts of the whole."""
    for support, events, rows in _supports(case):
        whole = measure.weights(support, events, rows)
        parts = torch.cat([measure.weights(part, events, rows) for part in support.tensor_split((1, 4))])
        remedy = "Use the counts that are passed in, not those of the support at hand."
        equal(parts, whole, "a weight changes when the batch is split", remedy)


@law("measure", MASKS)
def an_empty_batch_has_no_weight(measure: Measure, case: Drawn) -> None:
    """Without events every weight is zero, and nothing is divided by zero."""
    none, zero = torch.zeros_like(case()), torch.zeros((), dtype=torch.float64)
    weights = measure.weights(none, zero, zero)
    remedy = "Clamp the counts at 1 before dividing by them."
    holds(weights == 0, "an empty batch has a weight", remedy, weight=weights)
