"""Groups of rows: ragged sums, means and maxima without a loop."""

from __future__ import annotations

import torch
from torch import Tensor


class Groups:
    """Sums over groups of rows: ragged, in any order, without a loop and without a host synchronisation.

    Args:
        ids: `(rows,)` integers; rows with equal ids answer the same prompt. None puts all rows in one group.
        valid: `(rows,)` booleans; the other rows are in no group: they contribute nothing and read zero.
    """

    def __init__(self, ids: Tensor | None, valid: Tensor):
        rows = valid.shape[0]
        if ids is None:
            segment = torch.zeros(rows, dtype=torch.long, device=valid.device)
        else:
            sorted_ids, order = torch.sort(ids, stable=True)
            first = torch.ones_like(sorted_ids)
            first[1:] = (sorted_ids[1:] != sorted_ids[:-1]).to(first.dtype)
            segment = torch.zeros(rows, dtype=torch.long, device=valid.device)
            segment = segment.scatter(0, order, torch.cumsum(first, 0).long() - 1)
        self.segment = segment
        self.valid = valid

    def sum(self, x: Tensor) -> Tensor:
        """`(rows,)`: at each row the sum of `x` over the valid rows of its group."""
        x = torch.where(self.valid, x, 0)
        total = torch.zeros_like(x).index_add(0, self.segment, x)
        return torch.where(self.valid, total[self.segment], 0)

    def count(self, dtype: torch.dtype) -> Tensor:
        """`(rows,)`: the number of valid rows in the group, at least one so that it can be divided by."""
        return self.sum(self.valid.to(dtype)).clamp(min=1)

    def mean(self, x: Tensor) -> Tensor:
        """`(rows,)`: at each row the mean of `x` over the valid rows of its group."""
        return self.sum(x) / self.count(x.dtype)

    def centred(self, x: Tensor) -> Tensor:
        """`(rows,)`: `x` less its group's mean, the projection onto the fluctuations that conserve probability.

        Exactly zero where a group's values are equal: their mean alone would be off by rounding.
        """
        below = x - self.max(x)
        return torch.where(self.valid, below - self.mean(below), 0)

    def max(self, x: Tensor) -> Tensor:
        """`(rows,)`: at each row the largest `x` over the valid rows of its group; zero at rows in no group."""
        x = torch.where(self.valid, x, float("-inf"))
        top = torch.full_like(x, float("-inf")).scatter_reduce(0, self.segment, x, "amax")
        return torch.where(self.valid, top[self.segment], 0)
