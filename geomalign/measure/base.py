"""What every measure is, and those whose weights follow from a row's own tokens and the counts of the whole batch."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from geomalign._util.check import positive
from geomalign.batch import Batch, Counts

__all__ = ["FixedBudget", "Measure", "NestedMean", "PooledMean"]


class Measure(ABC):
    """The weights of events in one average over a whole batch.

    The weights are divided by counts of the *whole* batch, so that the losses and gradients of its parts
    (micro-batches, accumulation steps, ranks) add up to those of the whole: add them, do not average them.

    A measure of one's own states `weights` alone:

    >>> import geomalign as ga
    >>> class Halfway(ga.Measure):
    ...     def weights(self, support, events, rows):
    ...         return sum(0.5 * m.weights(support, events, rows) for m in (ga.PooledMean(), ga.NestedMean()))
    >>> ga.laws.check_measure(Halfway())
    """

    rowwise: bool = True
    """Whether the weights of a row follow from its own support and the counts, so that rows can be taken in parts."""
    needs_lengths: bool = False
    """Whether the weights depend on the lengths of other rows, which the counts must then hold (`Counts.lengths`)."""
    normalised: bool = True
    """Whether the weights of a whole batch sum to one."""

    def among(self, rows: Batch, counts: Counts) -> Measure:
        """The measure as it weighs these rows of the batch that `counts` counts: in most cases itself."""
        return self

    @abstractmethod
    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        """Weights in the shape of `support`, zero outside it.

        Args:
            support: booleans, `(row, token)` or `(row,)`: the events of this part of the batch.
            events: the number of events in the whole batch, 0-dim.
            rows: the number of rows of the whole batch that have an event, 0-dim.
        """

    def latex(self, tokens: bool) -> str:
        """The average as a prefix of what is averaged, by default the name of the class; `tokens`: of token events."""
        return rf"\operatorname{{{type(self).__name__}}}_{{{'i,t' if tokens else 'i'}}}\,"


def _reciprocal(count: Tensor) -> Tensor:
    return 1 / count.clamp(min=1)


@dataclasses.dataclass(frozen=True)
class PooledMean(Measure):
    """Every event counts the same: (1/Σ_i|y_i|) Σ_i Σ_t for tokens (DAPO), the plain mean for responses and pairs.

    >>> import torch, geomalign as ga
    >>> support = torch.tensor([[True, True, True], [True, False, False]])
    >>> ga.PooledMean().weights(support, torch.tensor(4.0), torch.tensor(2.0))
    tensor([[0.2500, 0.2500, 0.2500],
            [0.2500, 0.0000, 0.0000]])
    """

    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        return torch.where(support, _reciprocal(events), 0)

    def latex(self, tokens: bool) -> str:
        return r"\frac{1}{\sum_i|y_i|}\sum_i\sum_t" if tokens else r"\frac{1}{N}\sum_i"


@dataclasses.dataclass(frozen=True)
class NestedMean(Measure):
    """Every row counts the same, and every event within its row: (1/N) Σ_i (1/|y_i|) Σ_t (GRPO as published).

    Rows without an event are not counted. For events that are whole responses it is the plain mean.

    >>> import torch, geomalign as ga
    >>> support = torch.tensor([[True, True], [True, False]])
    >>> ga.NestedMean().weights(support, torch.tensor(3.0), torch.tensor(2.0))
    tensor([[0.2500, 0.2500],
            [0.5000, 0.0000]])
    """

    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        within = support.sum(-1, keepdim=True) if support.ndim == 2 else torch.ones_like(rows)
        return torch.where(support, _reciprocal(within.to(rows.dtype)) * _reciprocal(rows), 0)

    def latex(self, tokens: bool) -> str:
        return r"\frac{1}{N}\sum_i\frac{1}{|y_i|}\sum_t" if tokens else r"\frac{1}{N}\sum_i"


@dataclasses.dataclass(frozen=True)
class FixedBudget(Measure):
    """Every event counts the same, divided by a fixed number of events per row: (1/N) Σ_i (1/length) Σ_t (Dr. GRPO).

    The weights sum to one only if every row has `length` events. `FixedBudget(1)` is the mean over rows of sums over
    tokens.

    Args:
        length: events per row, positive; Dr. GRPO takes the length limit of generation in tokens.

    Raises:
        ValueError: a length that is not positive.

    >>> import torch, geomalign as ga
    >>> support = torch.tensor([[True, True], [True, False]])
    >>> ga.FixedBudget(2).weights(support, torch.tensor(3.0), torch.tensor(2.0))
    tensor([[0.2500, 0.2500],
            [0.2500, 0.0000]])
    """

    length: float
    normalised = False

    def __post_init__(self) -> None:
        positive(self, "usually the length limit of generation in tokens", length=self.length)

    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        return torch.where(support, _reciprocal(rows) / self.length, 0)

    def latex(self, tokens: bool) -> str:
        inner = "" if self.length == 1 else rf"\frac{{1}}{{{self.length:g}}}"
        return rf"\frac{{1}}{{N}}\sum_i{inner}" + (r"\sum_t" if tokens else "")
