"""sampling.label"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.base import SamplingGeometry

__all__ = ["Label", "Margin", "SoftLabel"]


@dataclasses.dataclass(frozen=True)
class Label(SamplingGeometry):
    """g = strength, the same for every event: a preference label, or 0 for a term that only pulls back.

    Args:
        strength: DPO's β (or β(1−ε) under label noise), IPO's 1/τ.
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise ValueError(f"Label(strength={self.strength!r}): a drive is a finite number.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        rows = batch if isinstance(batch, Batch) else batch.rows
        return torch.full((batch.size,), self.strength, dtype=rows.dtype, device=rows.policy.device)

    @property
    def drive_range(self) -> Interval:
        return Interval(self.strength, self.strength)

    def latex(self) -> str:
        return f"{self.strength:g}"


@dataclasses.dataclass(frozen=True)
class Margin(SamplingGeometry):
    """g = scale·(r_chosen − r_rejected): a pair is pulled by as much as its responses differ in reward.

    Args:
        scale: in drives per reward.

    Reads the `margin` of a `PreferenceBatch`.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"Margin(scale={self.scale!r}): drives per reward, a finite number.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.scale * batch.require("margin", type(self).__name__).to(batch.rows.dtype)

    def latex(self) -> str:
        return rf"{self.scale:g}\left(r(y_i^+)-r(y_i^-)\right)"


@dataclasses.dataclass(frozen=True)
class SoftLabel(SamplingGeometry):
    """g = strength·σ(scale·(r_chosen − r_rejected)): the probability, by reward, that the chosen response is better.

    Args:
        strength: what a sure label would drive with, DPO's β.
        scale: rewards to log-odds, positive.

    Reads the `margin` of a `PreferenceBatch`.
    """

    strength: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strength) and 0 < self.scale < math.inf):
            raise ValueError(
                f"SoftLabel(strength={self.strength!r}, scale={self.scale!r}): a finite drive, and a positive scale of "
                "rewards."
            )

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.strength * torch.sigmoid(
            self.scale * batch.require("margin", type(self).__name__).to(batch.rows.dtype)
        )

    @property
    def drive_range(self) -> Interval:
        return Interval(min(0.0, self.strength), max(0.0, self.strength))

    def latex(self) -> str:
        return rf"{self.strength:g}\,\sigma\left({self.scale:g}\left(r(y_i^+)-r(y_i^-)\right)\right)"
