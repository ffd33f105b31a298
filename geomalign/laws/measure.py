"""Laws of measures."""

from __future__ import annotations

import torch
from torch import Tensor

from geomalign.batch import Batch, Counts
from geomalign.laws.cases import MASKS, Drawn
from geomalign.laws.checking import EXAMPLES, check, equal, holds, law
from geomalign.measure import FixedBudget, Measure


def check_measure(measure: Measure, examples: int = EXAMPLES) -> None:
    """Check all laws of a `Measure`; arguments and `LawViolation` as of `check_optimization`.

    >>> import geomalign as ga
    >>> ga.laws.check_measure(ga.NestedMean())
    """
    check("measure", measure, examples)


def _weigh(measure: Measure, batch: Batch, counts: Counts, tokens: bool) -> Tensor:
    """The weights of the tokens of a part of the batch that was counted, or of its whole responses."""
    support = batch.support if tokens else batch.support.any(-1)
    rows = counts.sequences.double()
    return measure.among(batch, counts).weights(support, counts.tokens.double() if tokens else rows, rows)


def _whole(case: Drawn) -> tuple[Batch, Counts]:
    """Responses to two prompts at a time, in mixed order."""
    mask = case()
    group = torch.arange(len(mask)) % max(len(mask) // 2, 1)
    batch = Batch(torch.zeros(mask.shape, dtype=torch.float64), None, mask, group=group)
    return batch, batch.counts()


@law("measure", MASKS)
def weights_live_on_the_support(measure: Measure, case: Drawn) -> None:
    """Weights are positive on the support and exactly zero outside it."""
    batch, counts = _whole(case)
    for tokens in (True, False):
        support, weights = batch.support if tokens else batch.support.any(-1), _weigh(measure, batch, counts, tokens)
        outside, inside = weights[~support], weights[support]
        holds(outside == 0, "there is a weight outside the support", "Multiply by the support.", weight=outside)
        holds(inside > 0, "an event has no weight", "Every event counts with a positive weight.", weight=inside)


@law("measure", MASKS)
def weights_sum_to_one(measure: Measure, case: Drawn) -> None:
    """An average: the weights of a whole batch sum to one (of a `FixedBudget`, if every row used its budget).

    Not of a measure that says that it is not `normalised`.
    """
    batch, counts = _whole(case)
    for tokens in (True, False):
        weights = _weigh(measure, batch, counts, tokens)
        if isinstance(measure, FixedBudget):
            used = (counts.tokens if tokens else counts.sequences) / (counts.sequences.double() * measure.length)
        elif measure.normalised:
            used = torch.ones(())
        else:
            return
        equal(weights.sum(), used, "the weights do not sum to one", "Divide by the number of what is averaged over.")


@law("measure", MASKS)
def weights_of_parts_are_those_of_the_whole(measure: Measure, case: Drawn) -> None:
    """Splitting the rows changes no weight, given the counts of the whole."""
    batch, counts = _whole(case)
    for tokens in (True, False):
        whole = _weigh(measure, batch, counts, tokens)
        rows = torch.arange(batch.size).tensor_split((1, 4))
        parts = torch.cat([_weigh(measure, batch[part], counts, tokens) for part in rows])
        remedy = "Use the counts that are passed in, not those of the support at hand."
        equal(parts, whole, "a weight changes when the batch is split", remedy)


@law("measure", MASKS)
def an_empty_batch_has_no_weight(measure: Measure, case: Drawn) -> None:
    """Without events every weight is zero, and nothing is divided by zero."""
    none, zero = torch.zeros_like(case()), torch.zeros((), dtype=torch.float64)
    weights = measure.weights(none, zero, zero)
    remedy = "Clamp the counts at 1 before dividing by them."
    holds(weights == 0, "an empty batch has a weight", remedy, weight=weights)
