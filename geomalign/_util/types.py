"""Small types that several layers share."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Interval", "Locality", "Reduce"]

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over processes."""


@dataclass(frozen=True)
class Interval:
    """A closed interval of the extended real line.

    >>> import torch
    >>> Interval(-1.0).clamp(torch.tensor([-2.0, 3.0]))
    tensor([-1.,  3.])
    """

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"an interval needs low <= high, got low={self.low}, high={self.high}.")

    def clamp(self, x: Tensor) -> Tensor:
        """The nearest point of the interval."""
        return x.clamp(min=self.low, max=self.high)


class Locality(enum.IntEnum):
    """What must be known before ∂L/∂log π at one token is: the schedule of a fused evaluation follows from it.

    Ordered, so that the locality of a composition is the maximum of its parts.
    """

    ROLLOUT = 0
    """Nothing of the current forward pass: the law depends on the rollout alone (REINFORCE)."""
    TOKEN = 1
    """The token's own log-probability (PPO, GRPO, CISPO)."""
    SEQUENCE = 2
    """The log-probabilities of its response (GSPO, OPO)."""
    GROUP = 3
    """Those of the responses it is compared with (DPO: its pair)."""
    BATCH = 4
    """Those of the whole batch (AOT sorts it)."""
