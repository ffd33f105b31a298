"""Policies over a handful of outcomes, where every expectation is a finite sum and a theorem is an equality."""

from __future__ import annotations

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

import geomalign as ga

DIVERGENCES = [
    ga.KullbackLeibler(),
    ga.ReverseKullbackLeibler(),
    ga.PearsonChiSquare(),
    ga.NeymanChiSquare(),
    ga.CressieRead(1.5),
    ga.JensenShannon(),
    ga.SquaredHellinger(),
    ga.KullbackLeibler() + ga.PearsonChiSquare(),
]


class Problem(NamedTuple):
    """An anchor policy over `n` outcomes, strictly positive, and a drive."""

    anchor: Tensor
    drive: Tensor

    def mean(self, x: Tensor) -> Tensor:
        """E under the anchor."""
        return (self.anchor * x).sum()

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """The inner product of L²(anchor)."""
        return (self.anchor * x * y).sum()

    def centred(self, x: Tensor) -> Tensor:
        """The orthogonal projection onto the fluctuations that conserve probability."""
        return x - self.mean(x)


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """Floats of an interval, without subnormals."""
    return st.floats(low, high, allow_nan=False, allow_infinity=False, allow_subnormal=False)


def vectors(size: int, low: float = -3.0, high: float = 3.0) -> st.SearchStrategy[Tensor]:
    """float64 vectors of one length."""
    return st.lists(numbers(low, high), min_size=size, max_size=size).map(
        lambda x: torch.tensor(x, dtype=torch.float64)
    )


@st.composite
def policies(draw: st.DrawFn, size: int) -> Tensor:
    """Probabilities over `size` outcomes, none below about 1e-3."""
    return torch.softmax(draw(vectors(size, -2.5, 2.5)), 0)


@st.composite
def problems(draw: st.DrawFn, smallest: int = 2, largest: int = 6, scale: float = 3.0) -> Problem:
    """An anchor and a drive."""
    size = draw(st.integers(smallest, largest))
    return Problem(draw(policies(size)), draw(vectors(size, -scale, scale)))


def every_batch(outcomes: int, size: int) -> Tensor:
    """All `outcomes**size` batches of that size, `(batch, size)`."""
    return torch.cartesian_prod(*[torch.arange(outcomes)] * size).reshape(-1, size)


def rows(policy: Tensor, anchor: Tensor, **more: Tensor) -> ga.Batch:
    """A batch of one token per row from log-probabilities `(n,)`."""
    return ga.Batch(policy[:, None], anchor[:, None], **more)


def group_of(x: Tensor) -> ga.Groups:
    """All rows of x as one group."""
    return ga.Groups(None, torch.ones(x.shape[0], dtype=torch.bool))
