"""Measures: what the loss is an average over. A measure is a set of weights."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

__all__ = ["FixedBudget", "Measure", "NestedMean", "PooledMean"]


class Measure(ABC):
    """Weights of events that describe one average over a whole batch.

    The weights are divided by counts of the *whole* batch, so the losses and gradients of its parts (micro-batches,
    accumulation steps, ranks) add up to exactly those of the whole: add them, do not average them.
    """

    @abstractmethod
    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        """Weights in the shape of `support`, zero outside it.

        Args:
            support: booleans, `(row, token)` or `(row,)`: the events here.
            events: 0-dim count of the events of the whole batch.
            rows: 0-dim count of the rows of the whole batch that hold an event.
        """

    @abstractmethod
    def latex(self, tokens: bool) -> str:
        """The average written as a prefix of what is averaged; `tokens`: whether events are tokens."""


def _reciprocal(count: Tensor) -> Tensor:
    return 1 / count.clamp(min=1)


@dataclasses.dataclass(frozen=True)
class PooledMean(Measure):
    """Every event counts the same: (1/Σ_i|y_i|) Σ_i Σ_t for tokens (DAPO), the plain mean for responses and pairs."""

    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        return torch.where(support, _reciprocal(events), 0)

    def latex(self, tokens: bool) -> str:
        return r"\frac{1}{\sum_i|y_i|}\sum_i\sum_t" if tokens else r"\frac{1}{N}\sum_i"


@dataclasses.dataclass(frozen=True)
class NestedMean(Measure):
    """Every row counts the same, and in it every event: (1/N) Σ_i (1/|y_i|) Σ_t (GRPO as published).

    Rows without an event are not counted. Of events that are whole responses it is the plain mean.
    """

    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        within = support.sum(-1, keepdim=True) if support.ndim == 2 else torch.ones_like(rows)
        return torch.where(support, _reciprocal(within.to(rows.dtype)) * _reciprocal(rows), 0)

    def latex(self, tokens: bool) -> str:
        return r"\frac{1}{N}\sum_i\frac{1}{|y_i|}\sum_t" if tokens else r"\frac{1}{N}\sum_i"


@dataclasses.dataclass(frozen=True)
class FixedBudget(Measure):
    """Every event counts the same, by a fixed budget a row: (1/N) Σ_i (1/length) Σ_t (Dr. GRPO).

    The weights sum to one only if every row uses its budget. `FixedBudget(1)` is the mean over rows of sums over
    tokens.

    Args:
        length: events a row, positive; Dr. GRPO takes the longest response that may be generated.
    """

    length: float

    def __post_init__(self) -> None:
        if not 0 < self.length < math.inf:
            raise ValueError(
                f"FixedBudget(length={self.length!r}): the budget of a row is positive, usually the generation "
                "limit in tokens."
            )

    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        return torch.where(support, _reciprocal(rows) / self.length, 0)

    def latex(self, tokens: bool) -> str:
        inner = "" if self.length == 1 else rf"\frac{{1}}{{{self.length:g}}}"
        return rf"\frac{{1}}{{N}}\sum_i{inner}" + (r"\sum_t" if tokens else "")
