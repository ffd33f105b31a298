"""Drives that select: of the best response in a group, or of the best among k draws from it."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import integer, non_negative, number, one_of
from geomalign._util.types import Interval
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.base import SamplingGeometry, rewards

__all__ = ["BestOfN", "MaxAtK", "PassAtK"]


@dataclasses.dataclass(frozen=True)
class PassAtK(SamplingGeometry):
    """The advantage of the best of k responses drawn from the group, in closed form for binary rewards.

    With N responses of which N⁻ fail, R̄ = 1 − C(N⁻, k)/C(N, k) is the probability that k of them hold a success, and
    σ² = R̄(1 − R̄). Then g = (1 − R̄)/σ for a success and g = (1 − R̄ − C(N⁻−1, k−1)/C(N−1, k−1))/σ for a failure.
    k = 1 is the group's z-score (ddof=0).

    Args:
        k: the number of responses that are drawn, ≥ 1. The drive is zero in a group of fewer than k rows, and in one
            whose draws of k all succeed or all fail.
        threshold: a reward above it is a success.

    Raises:
        ValueError: k is no integer ≥ 1.

    Source: Pass@k Training (arXiv 2508.10751), analytical derivation.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(4, 1), None, reward=torch.tensor([1.0, 0.0, 0.0, 0.0]))
    >>> ga.sampling.PassAtK(k=2).drive(batch)
    tensor([ 1.0000, -0.3333, -0.3333, -0.3333])
    """

    k: int = 4
    threshold: float = 0.5

    def __post_init__(self) -> None:
        integer(self, 1, "a number of responses", k=self.k)
        number(self, "of a reward", threshold=self.threshold)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = rewards(self, batch)
        groups = batch.groups()
        success = reward > self.threshold
        size = groups.sum(torch.ones_like(reward))
        failures = groups.sum((~success).to(reward.dtype))
        missed = _choose_ratio(failures, size, self.k)
        missed_with_me = _choose_ratio(failures - 1, size - 1, self.k - 1)
        sigma = torch.sqrt((missed * (1 - missed)).clamp(min=0))
        # missed = 1 − R̄: both advantages are differences of probabilities that only failures are drawn.
        drive = torch.where(success, missed, missed - missed_with_me) / torch.where(sigma > 0, sigma, 1)
        return torch.where(groups.valid & (sigma > 0) & (size >= self.k), drive, 0)

    def latex(self) -> str:
        return rf"A_i^{{\mathrm{{pass@}}{self.k}}}"


def _choose_ratio(n: Tensor, total: Tensor, k: int) -> Tensor:
    """C(n, k)/C(total, k), as a product."""
    ratio = torch.ones_like(n)
    for j in range(k):
        ratio = ratio * (n - j).clamp(min=0) / (total - j).clamp(min=1)
    return ratio


@dataclasses.dataclass(frozen=True)
class MaxAtK(SamplingGeometry):
    """g = r_best − r_second for the best response of the group, 0 for the others.

    This is the leave-one-out advantage of the objective max_i r_i: what the maximum would lose without the response. A
    best reward that is reached twice has zero drive.

    Args:
        scale: "group" divides by the group's standard deviation (verl), "none" does not (the paper).
        epsilon: ≥ 0, added to the standard deviation.

    Raises:
        ValueError: an unknown scale, or a negative epsilon.

    Source: Tang et al. 2025 (arXiv 2503.19595) §4; verl `grpo_passk`.

    >>> import torch, geomalign as ga
    >>> ga.sampling.MaxAtK().drive(ga.Batch(torch.zeros(3, 1), None, reward=torch.tensor([5.0, 3.0, 1.0])))
    tensor([2., 0., 0.])
    """

    scale: str = "none"
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        one_of(self, "scale", self.scale, ("none", "group"))
        non_negative(self, "added to a standard deviation", epsilon=self.epsilon)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = rewards(self, batch)
        groups = batch.groups()
        best = groups.valid & (reward == groups.max(reward))
        alone = groups.sum(best.to(reward.dtype)) == 1
        below = torch.where(best, -math.inf, torch.where(groups.valid, reward, -math.inf))
        second = groups.max(below)
        drive = torch.where(best & alone & torch.isfinite(second), reward - second, 0)
        if self.scale == "none":
            return drive
        variance = groups.sum(groups.centred(reward) ** 2) / (groups.count(reward.dtype) - 1).clamp(min=1)
        scale = torch.sqrt(variance) + self.epsilon
        return drive / torch.where(scale > 0, scale, 1)

    def latex(self) -> str:
        drive = r"\left(r_i-\max_{j\neq i}r_j\right)_+"
        if self.scale == "none":
            return drive
        return rf"{drive}/\left(\operatorname{{std}}_G(r)+{numerics.latex(self.epsilon)}\right)"


@dataclasses.dataclass(frozen=True)
class BestOfN(SamplingGeometry):
    """g = N/(number selected) for the best response of every group, 0 for the others.

    This is the density of the selected responses among all. Its mean is one, so that an average over all responses is
    the average over the selected ones. Of several best responses the first is taken.

    Source: RAFT (arXiv 2304.06767) Algorithm 1, best of K.

    >>> import torch, geomalign as ga
    >>> ga.BestOfN().drive(ga.Batch(torch.zeros(3, 1), None, reward=torch.tensor([1.0, 5.0, 3.0])))
    tensor([0., 3., 0.])
    """

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = rewards(self, batch)
        groups = batch.groups()
        best = groups.valid & (reward == groups.max(reward))
        position = torch.arange(reward.shape[0], device=reward.device, dtype=reward.dtype)
        first = best & (position == -groups.max(torch.where(best, -position, -math.inf)))
        return first * (groups.valid.sum() / first.sum().clamp(min=1)).to(reward.dtype)

    @property
    def drive_range(self) -> Interval:
        return Interval(0.0, math.inf)

    def latex(self) -> str:
        return r"\frac{N}{|\mathrm{selected}|}\,1\left[i=\arg\max_{G} r\right]"
