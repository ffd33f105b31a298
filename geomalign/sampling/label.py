"""Drives of pairs: a constant label, the difference of two rewards, or the probability that they imply."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util.check import finite, positive
from geomalign._util.types import Interval
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.base import SamplingGeometry

__all__ = ["Label", "Margin", "SoftLabel"]


@dataclasses.dataclass(frozen=True)
class Label(SamplingGeometry):
    """g = strength, the same for every event: a preference label, or 0 for a term that only pulls back.

    Args:
        strength: a finite number: DPO's β (or β(1−ε) under label noise), IPO's 1/τ.

    Raises:
        ValueError: a strength that is not finite.

    >>> import torch, geomalign as ga
    >>> ga.Label(0.1).drive(ga.PreferenceBatch(torch.zeros(2, 3), torch.zeros(2, 3)))
    tensor([0.1000, 0.1000])
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        finite(self, strength=self.strength)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        rows = batch.rows
        return torch.full((batch.size,), self.strength, dtype=rows.dtype, device=rows.policy.device)

    @property
    def drive_range(self) -> Interval:
        return Interval(self.strength, self.strength)

    def latex(self) -> str:
        return f"{self.strength:g}"


@dataclasses.dataclass(frozen=True)
class Margin(SamplingGeometry):
    """g = scale·(r_chosen − r_rejected), from the `margin` of a `PreferenceBatch`.

    Args:
        scale: a finite number, in drives per reward.

    Raises:
        ValueError: a scale that is not finite; in `drive`, a batch without `margin`.

    >>> import torch, geomalign as ga
    >>> zero = torch.zeros(2, 3)
    >>> ga.Margin(0.5).drive(ga.PreferenceBatch(zero, zero, margin=torch.tensor([1.0, 3.0])))
    tensor([0.5000, 1.5000])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        finite(self, "in drives per reward", scale=self.scale)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.scale * batch.require("margin", type(self).__name__).to(batch.rows.dtype)

    def latex(self) -> str:
        return rf"{self.scale:g}\left(r(y_i^+)-r(y_i^-)\right)"


@dataclasses.dataclass(frozen=True)
class SoftLabel(SamplingGeometry):
    """g = strength·σ(scale·(r_chosen − r_rejected)): the probability, by reward, that the chosen response is better.

    The rewards' difference is the `margin` of a `PreferenceBatch`.

    Args:
        strength: a finite number: the drive of a label that is certain, DPO's β.
        scale: positive, in log-odds per reward.

    Raises:
        ValueError: an argument out of its range; in `drive`, a batch without `margin`.

    >>> import torch, geomalign as ga
    >>> zero = torch.zeros(2, 3)
    >>> ga.SoftLabel(0.1).drive(ga.PreferenceBatch(zero, zero, margin=torch.tensor([0.0, 9.0])))
    tensor([0.0500, 0.1000])
    """

    strength: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        finite(self, strength=self.strength)
        positive(self, "in log-odds per reward", scale=self.scale)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        margin = batch.require("margin", type(self).__name__).to(batch.rows.dtype)
        return self.strength * torch.sigmoid(self.scale * margin)

    @property
    def drive_range(self) -> Interval:
        return Interval(min(0.0, self.strength), max(0.0, self.strength))

    def latex(self) -> str:
        return rf"{self.strength:g}\,\sigma\left({self.scale:g}\left(r(y_i^+)-r(y_i^-)\right)\right)"
