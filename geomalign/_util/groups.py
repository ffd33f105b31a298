"""Sums, means and maxima over the responses of a prompt: ragged groups of rows, or the last axis of a tensor."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.types import Reduce

__all__ = ["Axis", "Groups", "Pool", "mean_within"]


class Pool(ABC):
    """What an expectation is taken over: `Groups` of rows, or an `Axis`. Results broadcast against what was summed.

    >>> Groups(None, torch.tensor([True, True, False])).centred(torch.tensor([1.0, 3.0, 9.0]))
    tensor([-1.,  1.,  0.])
    """

    valid: Tensor
    """Booleans, the outcomes that exist; the others contribute nothing."""

    @abstractmethod
    def sum(self, x: Tensor) -> Tensor:
        """The sum of `x` over the valid outcomes of the same group."""

    @abstractmethod
    def max(self, x: Tensor) -> Tensor:
        """The largest `x` over the valid outcomes of the same group; zero where there is none."""

    @abstractmethod
    def collect(self, gradient: Tensor) -> Tensor:
        """The adjoint of broadcasting one number per group: the total gradient of that number."""

    @abstractmethod
    def running(self, key: Tensor, *values: Tensor) -> list[Tensor]:
        """At each outcome, the sums of `values` over the outcomes of its group that sort no lower by `key`."""

    def count(self, dtype: torch.dtype) -> Tensor:
        """The number of valid outcomes in the group, at least one so that it can be divided by."""
        return self.sum(self.valid.to(dtype)).clamp(min=1)

    def mean(self, x: Tensor) -> Tensor:
        """The mean of `x` over the valid outcomes of the same group."""
        return self.sum(x) / self.count(x.dtype)

    def centred(self, x: Tensor) -> Tensor:
        """`x` less its group's mean, the projection onto the fluctuations that conserve probability.

        Exactly zero where a group's values are equal: their mean alone would be off by rounding.
        """
        below = x - self.max(x)
        return torch.where(self.valid, below - self.mean(below), 0)


class Groups(Pool):
    """Groups of rows: ragged, in any order, without a loop and without a host synchronisation.

    Args:
        ids: `(row,)` integers; rows with equal ids answer the same prompt. None puts all rows in one group.
        valid: `(row,)` booleans; the other rows are in no group: they contribute nothing and read zero.

    >>> import torch, geomalign as ga
    >>> groups = ga.Groups(torch.tensor([7, 2, 7]), torch.ones(3, dtype=torch.bool))
    >>> groups.mean(torch.tensor([1.0, 5.0, 2.0]))
    tensor([1.5000, 5.0000, 1.5000])
    """

    def __init__(self, ids: Tensor | None, valid: Tensor):
        segment = torch.zeros(valid.shape[0], dtype=torch.long, device=valid.device)
        if ids is not None:
            sorted_ids, order = torch.sort(ids, stable=True)
            first = torch.ones_like(sorted_ids)
            first[1:] = (sorted_ids[1:] != sorted_ids[:-1]).to(first.dtype)
            segment = segment.scatter(0, order, torch.cumsum(first, 0).long() - 1)
        self.segment = segment
        self.valid = valid

    def sum(self, x: Tensor) -> Tensor:
        x = torch.where(self.valid, x, 0)
        total = torch.zeros_like(x).index_add(0, self.segment, x)
        return torch.where(self.valid, total[self.segment], 0)

    def max(self, x: Tensor) -> Tensor:
        x = torch.where(self.valid, x, -math.inf)
        top = torch.full_like(x, -math.inf).scatter_reduce(0, self.segment, x, "amax")
        return torch.where(self.valid, top[self.segment], 0)

    def collect(self, gradient: Tensor) -> Tensor:
        return self.sum(gradient)

    def running(self, key: Tensor, *values: Tensor) -> list[Tensor]:
        order = torch.where(self.valid, key, -math.inf).argsort(descending=True)
        order = order[self.segment[order].argsort(stable=True)]
        back, segment = order.argsort(), self.segment[order]
        first = torch.searchsorted(segment, segment)
        sums = []
        for x in values:
            x = torch.where(self.valid, x, 0)[order]
            total = x.cumsum(0)
            sums.append((total - (total - x)[first])[back])
        return sums


class Axis(Pool):
    """The outcomes along the last axis of a tensor, each slice one group; results have size one along it.

    Args:
        valid: `(..., outcome)` booleans.

    >>> Axis(torch.tensor([[True, True], [True, False]])).sum(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3.],
            [3.]])
    """

    def __init__(self, valid: Tensor):
        self.valid = valid

    def sum(self, x: Tensor) -> Tensor:
        return torch.where(self.valid, x, 0).sum(-1, keepdim=True)

    def max(self, x: Tensor) -> Tensor:
        top = torch.where(self.valid, x, -math.inf).amax(-1, keepdim=True)
        return torch.where(torch.isfinite(top), top, 0)

    def collect(self, gradient: Tensor) -> Tensor:
        return gradient

    def running(self, key: Tensor, *values: Tensor) -> list[Tensor]:
        order = torch.where(self.valid, key, -math.inf).argsort(-1, descending=True)
        back = order.argsort(-1)
        return [torch.where(self.valid, x, 0).gather(-1, order).cumsum(-1).gather(-1, back) for x in values]


def mean_within(groups: Groups, within: str, reduce: Reduce | None = None) -> Callable[[Tensor], Tensor]:
    """The mean over the valid rows of the whole batch, `()`, or of each row's group, `(row,)`.

    Args:
        groups: the rows' groups.
        within: "batch" or "group".
        reduce: sums a tensor over processes, for the mean of a batch that several hold.

    >>> groups = Groups(torch.tensor([0, 0, 1]), torch.ones(3, dtype=torch.bool))
    >>> mean_within(groups, "batch")(torch.tensor([1.0, 2.0, 6.0]))
    tensor(3.)
    """
    if within == "group":
        return groups.mean

    def mean(x: Tensor) -> Tensor:
        total = torch.stack([torch.where(groups.valid, x, 0).sum(), groups.valid.sum().to(x.dtype)])
        total = total if reduce is None else reduce(total)
        return total[0] / total[1].clamp(min=1)

    return mean
