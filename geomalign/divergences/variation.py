"""Total variation, the one divergence here that is not strictly convex."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval
from geomalign.divergences.base import Divergence

__all__ = ["TotalVariation"]


@dataclass(frozen=True)
class TotalVariation(Divergence):
    """ψ(t) = |t − 1|/2. Convex, not strictly: its mirror is a subgradient, ±1/2 (0 at t = 1), without a unique inverse.

    It can be measured, estimated and used as a penalty. It has no target policy and cannot be a chart.

    >>> float(TotalVariation().value(torch.tensor([0.75, 0.25]).log(), torch.tensor([0.5, 0.5]).log()))
    0.25
    """

    def generator(self, t: Tensor) -> Tensor:
        return 0.5 * (t - 1.0).abs()

    def mirror(self, t: Tensor) -> Tensor:
        return 0.5 * (t - 1.0).sign()

    def curvature(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def inverse_mirror(self, s: Tensor) -> Tensor:
        raise ValueError(
            "TotalVariation is not strictly convex: ψ'(t) = ±1/2 takes one value on a whole interval, so a drive "
            "does not determine the ratio. Add a strictly convex divergence, for instance "
            "TotalVariation() + 0.1 * PearsonChiSquare(), or solve under another divergence."
        )

    def conjugate(self, s: Tensor) -> Tensor:
        return torch.where(s <= 0.5, s.clamp(min=-0.5), math.inf)

    def penalty(self, log_ratio: Tensor) -> Tensor:
        return 0.5 * numerics.expm1(log_ratio).abs()

    def coordinate(self, log_ratio: Tensor) -> Tensor:
        return 0.5 * log_ratio.sign()

    def slope(self, log_ratio: Tensor) -> Tensor:
        return torch.zeros_like(log_ratio)

    @property
    def mirror_range(self) -> Interval:
        return Interval(-0.5, 0.5)

    @property
    def reverse(self) -> Divergence:
        return self

    def latex(self) -> str:
        return r"\tfrac12 |t - 1|"
