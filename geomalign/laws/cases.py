"""The cases that laws are tried on: coordinates with drives, and batches and masks of drawn sizes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.laws.checking import Cases
from geomalign.laws.samples import sample_batch, sample_mask, sample_pairs

# Irregular numbers, so that no kink of a published geometry is hit by accident.
POINTS = (-3.1415, -1.2821, -0.9511, -0.7389, -0.5403, -0.3103, -0.0517, 0.0433, 0.2718, 0.6931, 1.6449, 2.7183)
DRIVES = (-1.7321, -0.8415, -0.2419, -0.0312, 0.0271, 0.3679, 0.9093, 1.4142)


@dataclasses.dataclass(frozen=True)
class Points:
    """Coordinates, and drives each of which is combined with each of them."""

    u: tuple[float, ...]
    drive: tuple[float, ...] = (0.0,)

    def grid(self) -> tuple[Tensor, Tensor]:
        """Coordinates and drives, `(coordinate, drive)`, in float64."""
        u, drive = torch.tensor(self.u, dtype=torch.float64), torch.tensor(self.drive, dtype=torch.float64)
        shape = (len(u), len(drive))
        return u[:, None].expand(shape).contiguous(), drive.expand(shape).contiguous()

    def line(self) -> Tensor:
        """The coordinates alone, `(coordinate,)`, increasing."""
        return torch.tensor(self.u, dtype=torch.float64).sort().values

    def __str__(self) -> str:
        u = f"u = {[round(x, 10) for x in self.u]}"
        return u if self.drive == (0.0,) else f"{u}, drive = {[round(x, 10) for x in self.drive]}"


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A call of `sample_batch`, `sample_pairs` or `sample_mask`, which makes the batch or mask of a case."""

    make: Callable[..., Any]
    rows: int
    tokens: int
    seed: int = 0

    def __call__(self, **options: Any) -> Any:
        return self.make(self.rows, self.tokens, self.seed, **options)

    def __str__(self) -> str:
        return f"ga.laws.{self.make.__name__}({self.rows}, {self.tokens}, seed={self.seed})"


def lists_in(interval: Interval, size: float) -> Any:
    """Strategy: one to five irregular numbers inside an interval, at most `size` in magnitude."""
    from hypothesis import strategies

    low, high = max(interval.low, -size), min(interval.high, size)
    step = 0.01 if high - low > 1 else (high - low) / 100
    # The numbers end in 31, as 0.0031: kinks, where autograd takes a side, lie at rounder ones.
    shift = 0.31 * step
    whole = strategies.integers(math.floor((low - shift) / step) + 1, math.ceil((high - shift) / step) - 1)
    numbers = strategies.lists(whole, min_size=1, max_size=5, unique=True)
    return numbers.map(lambda ks: tuple(k * step + shift for k in ks))


def points(domain: Interval, drives: Interval | None = None) -> Any:
    """Strategy: `Points` in a domain, with drives of an interval, or without."""
    from hypothesis import strategies

    u = lists_in(domain, 4.0)
    return u.map(Points) if drives is None else strategies.builds(Points, u, lists_in(drives, 2.0))


def drawn(make: Callable[..., Any], paired: bool = False) -> Any:
    """Strategy: calls of `make` with two to ten rows, an even number of them for masks of pairs."""
    from hypothesis import strategies

    rows = strategies.integers(1, 5).map(lambda pairs: 2 * pairs) if paired else strategies.integers(2, 10)
    return strategies.builds(Drawn, strategies.just(make), rows, strategies.integers(1, 6), strategies.integers(0, 99))


LINE = Cases(lambda member: [Points(POINTS)], lambda member: points(Interval()))
"""Log-ratios."""
MASKS = Cases(
    lambda member: [Drawn(sample_mask, 6, 5)],
    lambda member: drawn(sample_mask, paired=getattr(member, "paired", False)),
)
"""Ragged masks; for a unit of pairs the rows are the chosen responses, then the rejected ones."""
BATCHES = Cases(
    lambda member: [Drawn(sample_pairs, 6, 5) if member.paired else Drawn(sample_batch, 8, 6)],
    lambda member: drawn(sample_pairs if member.paired else sample_batch),
)
"""Batches for a member that is `paired` or is not."""
ROWS = Cases(lambda member: [Drawn(sample_batch, 8, 6)], lambda member: drawn(sample_batch))
"""Batches of single responses."""
