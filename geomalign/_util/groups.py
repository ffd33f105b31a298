"""Sums, means and maxima over the responses of a prompt: ragged groups of rows, or the last axis of a tensor."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.numerics import may_wait
from geomalign._util.types import Reduce

__all__ = ["Axis", "Groups", "PaddedGroups", "Pool", "mean_within"]


class Pool(ABC):
    """What an expectation is taken over: `Groups` of rows, or an `Axis`. Results broadcast against what was summed.

    >>> Groups(None, torch.tensor([True, True, False])).centred(torch.tensor([1.0, 3.0, 9.0]))
    tensor([-1.,  1.,  0.])
    """

    _valid: Tensor

    @property
    def valid(self) -> Tensor:
        """Booleans, the outcomes that exist; the others contribute nothing."""
        return self._valid

    @property
    def full(self) -> bool:
        """Whether all outcomes are known to exist, so that nothing needs to be masked."""
        return False

    def keep(self, x: Tensor, other: float = 0.0) -> Tensor:
        """`x` at the outcomes that exist, and `other` at those that do not."""
        return x if self.full else torch.where(self.valid, x, other)

    @abstractmethod
    def total(self, x: Tensor) -> Tensor:
        """`sum` of an `x` that is zero wherever there is no outcome: a mask less."""

    @abstractmethod
    def among(self, possible: Tensor) -> Pool:
        """The pool of those outcomes only that are `possible`."""

    def padded(self) -> PaddedGroups | None:
        """The groups as rows of a dense tensor; None where they are that, and where the device would be waited for."""
        return None

    @abstractmethod
    def sum(self, x: Tensor) -> Tensor:
        """The sum of `x` over the valid outcomes of the same group."""

    @abstractmethod
    def max(self, x: Tensor) -> Tensor:
        """The largest `x` over the valid outcomes of the same group; zero where there is none."""

    @abstractmethod
    def collect(self, gradient: Tensor) -> Tensor:
        """The adjoint of broadcasting one number per group: the total gradient of that number."""

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
    """Groups of rows: ragged, in any order, without a loop, and on an accelerator without a host synchronisation.

    Args:
        ids: `(row,)` integers; rows with equal ids answer the same prompt. A number: the size of every group, of rows
            in order. None puts all rows in one group.
        valid: `(row,)` booleans; the other rows are in no group: they contribute nothing and read zero.

    >>> import torch, geomalign as ga
    >>> groups = ga.Groups(torch.tensor([7, 2, 7]), torch.ones(3, dtype=torch.bool))
    >>> groups.mean(torch.tensor([1.0, 5.0, 2.0]))
    tensor([1.5000, 5.0000, 1.5000])
    """

    def __init__(self, ids: Tensor | int | None, valid: Tensor):
        self._valid = valid
        self.size = ids if isinstance(ids, int) else None
        """The size of every group, where rows come in whole groups."""
        self.order: Tensor | None = None
        """The rows sorted by group; None where they already are."""
        self._padded: tuple[()] | tuple[PaddedGroups | None] = ()
        if ids is None or isinstance(ids, int):
            self.segment = torch.arange(valid.shape[0], device=valid.device) // (ids or max(valid.shape[0], 1))
            return
        if not (may_wait(ids) and bool((ids[1:] >= ids[:-1]).all())):
            ids, self.order = torch.sort(ids, stable=True)
        first = torch.zeros_like(ids, dtype=torch.long)
        first[1:] = ids[1:] != ids[:-1]
        segment = torch.cumsum(first, 0)
        self.segment = segment if self.order is None else torch.empty_like(segment).scatter(0, self.order, segment)

    @property
    def full(self) -> bool:
        padded = self.padded()
        return padded is not None and padded.axis.full

    def count(self, dtype: torch.dtype) -> Tensor:
        padded = self.padded()
        return super().count(dtype) if padded is None else padded.rows(padded.axis.count(dtype))

    def among(self, possible: Tensor) -> Groups:
        part = copy.copy(self)
        part._valid, part._padded = possible & self.valid, ()
        return part

    def padded(self) -> PaddedGroups | None:
        if self.size is not None:
            every = may_wait(self.valid) and bool(self.valid.all())
            return PaddedGroups(Axis((self.segment if every else self.valid).view(-1, self.size)), None, None)
        if not may_wait(self.segment):
            return None
        if not self._padded:
            self._padded = (PaddedGroups.of(self),)
        return self._padded[0]

    def total(self, x: Tensor) -> Tensor:
        padded = self.padded()
        if padded is not None:
            return padded.rows(padded.axis.sum(padded.dense(x)))
        return torch.zeros_like(x).index_add(0, self.segment, x).index_select(0, self.segment)

    def sum(self, x: Tensor) -> Tensor:
        return self.keep(self.total(self.keep(x)))

    def max(self, x: Tensor) -> Tensor:
        padded = self.padded()
        if padded is not None:
            return self.keep(padded.rows(padded.axis.max(padded.dense(x))))
        x = torch.where(self.valid, x, -math.inf)
        top = torch.full_like(x, -math.inf).scatter_reduce(0, self.segment, x, "amax")
        return torch.where(self.valid, top[self.segment], 0)

    def collect(self, gradient: Tensor) -> Tensor:
        return self.sum(gradient)


class Axis(Pool):
    """The outcomes along the last axis of a tensor, each slice one group; results have size one along it.

    Args:
        valid: `(..., outcome)` booleans; or `(..., outcome)` numbers, of which every one is an outcome.

    >>> Axis(torch.tensor([[True, True], [True, False]])).sum(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3.],
            [3.]])
    """

    def __init__(self, valid: Tensor):
        self._valid = valid

    @property
    def shape(self) -> torch.Size:
        return self._valid.shape

    @property
    def full(self) -> bool:
        return self._valid.dtype != torch.bool

    @property
    def valid(self) -> Tensor:
        return torch.ones_like(self._valid, dtype=torch.bool) if self.full else self._valid

    def among(self, possible: Tensor) -> Axis:
        return Axis(possible if self.full else possible & self.valid)

    def count(self, dtype: torch.dtype) -> Tensor:
        if self.full:
            return torch.full((), max(self._valid.shape[-1], 1), dtype=dtype, device=self._valid.device)
        return super().count(dtype)

    def total(self, x: Tensor) -> Tensor:
        return x.sum(-1, keepdim=True)

    def sum(self, x: Tensor) -> Tensor:
        return self.keep(x).sum(-1, keepdim=True)

    def max(self, x: Tensor) -> Tensor:
        if self.full and x.shape[-1]:
            return x.amax(-1, keepdim=True)
        top = torch.where(self.valid, x, -math.inf).amax(-1, keepdim=True)
        return torch.where(self.valid.any(-1, keepdim=True), top, 0)

    def collect(self, gradient: Tensor) -> Tensor:
        return gradient


class PaddedGroups:
    """Ragged groups as the rows of one dense tensor, padded to the largest of them: `axis` is what they then lie along.

    >>> padded = PaddedGroups.of(Groups(torch.tensor([7, 2, 7]), torch.ones(3, dtype=torch.bool)))
    >>> padded.dense(torch.tensor([1.0, 5.0, 2.0])), padded.axis.valid
    (tensor([[5., 5.],
            [1., 2.]]), tensor([[ True, False],
            [ True,  True]]))
    >>> padded.rows(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    tensor([2., 0., 3.])
    """

    def __init__(self, axis: Axis, source: Tensor | None, slot: Tensor | None):
        self.axis, self.source, self.slot = axis, source, slot

    @staticmethod
    def of(groups: Groups) -> PaddedGroups | None:
        """The layout, which reads two sizes from the device; None where one large group would pad many small ones."""
        rows = groups.segment.shape[0]
        size = torch.bincount(groups.segment)
        number, width = size.shape[0], int(size.max()) if rows else 0
        if not rows or number * width > 4 * rows + 1024:
            return None
        if number * width == rows and groups.order is None:
            valid = groups.valid.view(number, width)
            return PaddedGroups(Axis(groups.segment.view(number, width) if bool(valid.all()) else valid), None, None)
        start = torch.cumsum(size, 0) - size
        slot = torch.arange(rows, device=size.device)
        if groups.order is not None:
            slot = torch.empty_like(slot).scatter(0, groups.order, slot)  # the place of a row among the sorted ones
        slot = groups.segment * width + slot - start[groups.segment]
        # A slot without a row shows the first row of its group, which keeps what is finite finite.
        first = torch.arange(rows, device=size.device) if groups.order is None else groups.order
        source = first[start][:, None].expand(number, width).flatten().scatter(0, slot, torch.arange(rows))
        valid = torch.zeros_like(source, dtype=torch.bool).scatter(0, slot, groups.valid).view(number, width)
        return PaddedGroups(Axis(source.view(number, width) if bool(valid.all()) else valid), source, slot)

    def dense(self, x: Tensor) -> Tensor:
        """`(group, outcome)` from `(row,)`."""
        x = x if self.source is None else x.index_select(0, self.source)
        return x.view(self.axis.shape)

    def rows(self, x: Tensor) -> Tensor:
        """`(row,)` from `(group, outcome)` or `(group, 1)`."""
        x = x.expand(self.axis.shape).reshape(-1)
        return x if self.slot is None else x.index_select(0, self.slot)


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
