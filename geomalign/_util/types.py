"""Small types that several layers share: intervals, localities, and reductions over processes."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from geomalign._util.check import refuse

__all__ = ["Interval", "Locality", "Reduce"]

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over processes."""


@dataclass(frozen=True)
class Interval:
    """A closed interval of the extended real line.

    Raises:
        ValueError: low is not ≤ high.

    >>> import torch, geomalign as ga
    >>> ga.Interval(-1.0).clamp(torch.tensor([-2.0, 3.0]))
    tensor([-1.,  3.])
    """

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            refuse(self, "the lower end must be ≤ the upper one.", low=self.low, high=self.high)

    def clamp(self, x: Tensor) -> Tensor:
        """The nearest point of the interval."""
        return x.clamp(min=self.low, max=self.high)


class Locality(enum.IntEnum):
    """What must be known before ∂L/∂log π at one token can be computed; it sets the schedule of a fused evaluation.

    The values are ordered: the locality of a composition is the maximum of its parts.

    >>> import geomalign as ga
    >>> max(ga.Sequence().locality, ga.Pair().locality).name
    'GROUP'
    """

    ROLLOUT = 0
    """Nothing of the current forward pass: the gradient depends on the rollout alone (REINFORCE)."""
    TOKEN = 1
    """The token's own log-probability (PPO, GRPO, CISPO)."""
    SEQUENCE = 2
    """The log-probabilities of its response (GSPO, OPO)."""
    GROUP = 3
    """The log-probabilities of the responses that it is compared with (DPO: its pair)."""
    BATCH = 4
    """The log-probabilities of the whole batch (AOT sorts it)."""
