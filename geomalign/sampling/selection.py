"""sampling.selection"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.base import SamplingGeometry, _rewards

__all__ = ["MaxAtK", "BestOfN", "PassAtK"]


@dataclasses.dataclass(frozen=True)
class PassAtK(SamplingGeometry):
    """The advantage of the best of k responses drawn from the group, in closed form for binary rewards.

    With N responses of which N⁻ fail, R̄ = 1 − C(N⁻, k)/C(N, k) is the chance that k of them hold a success and σ² =
    R̄(1 − R̄): g = (1 − R̄)/σ for a success, (1 − R̄ − C(N⁻−1, k−1)/C(N−1, k−1))/σ for a failure. k = 1 is the group's
    z-score (ddof=0).

    Args:
        k: how many responses are drawn, ≥ 1. A group smaller than k has zero drive, as has one without both outcomes
            among its draws.
        threshold: a reward above it is a success.

    Source: Pass@k Training (arXiv 2508.10751), analytical derivation.
    """

    k: int = 4
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"PassAtK(k={self.k!r}): a number of responses, an integer ≥ 1.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = _rewards(batch, type(self).__name__)
        groups = batch.groups()
        success = reward > self.threshold
        size = groups.sum(torch.ones_like(reward))
        failures = groups.sum((~success).to(reward.dtype))
        missed = _choose_ratio(failures, size, self.k)
        missed_with_me = _choose_ratio(failures - 1, size - 1, self.k - 1)
        sigma = torch.sqrt((missed * (1 - missed)).clamp(min=0))
        # missed = 1 − R̄, so both advantages are differences of two chances of drawing failures only.
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
    """g = r_best − r_second for the best response of the group and 0 for the others: what the maximum would lose
    without it.

    The leave-one-out advantage of the objective max_i r_i. A best reward reached twice has zero drive.

    Args:
        scale: "group" divides by the group's standard deviation (verl), "none" does not (the paper).
        epsilon: added to the standard deviation, ≥ 0.

    Source: Tang et al. 2025 (arXiv 2503.19595) §4; verl `grpo_passk`.
    """

    scale: str = "none"
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if self.scale not in ("none", "group"):
            raise ValueError(f"MaxAtK(scale={self.scale!r}): choose one of 'none', 'group'.")
        if not self.epsilon >= 0:
            raise ValueError(f"MaxAtK(epsilon={self.epsilon!r}): added to a standard deviation, so not negative.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = _rewards(batch, type(self).__name__)
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
        return (
            drive
            if self.scale == "none"
            else rf"{drive}/\left(\operatorname{{std}}_G(r)+{numerics.latex(self.epsilon)}\right)"
        )


@dataclasses.dataclass(frozen=True)
class BestOfN(SamplingGeometry):
    """g = N/(number selected) for the best response of every group, 0 for the others: the density of the selected
    responses among all.

    Its mean is one, so that an average over all responses is the average over the selected ones. The first of equals is
    taken.

    Source: RAFT (arXiv 2304.06767) Algorithm 1, best of K.
    """

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = _rewards(batch, type(self).__name__)
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
