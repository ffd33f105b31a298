"""Importance weights whose walls or whose denominator are those of the whole batch, or of a group of responses."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import non_negative, numbers, positive, refuse, within
from geomalign._util.types import Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.advantage import Advantage
from geomalign.sampling.base import Reweighting, SamplingGeometry, is_sampling

__all__ = ["BalancedClip", "GroupExpectation"]


def _steps(start: float, stop: float, step: float) -> list[float]:
    """The walls that are tried: from start in steps, the last one at stop."""
    count = math.ceil((stop - start) / step - 1e-9)
    return [start + k * step for k in range(count)] + [stop]


@dataclasses.dataclass(frozen=True)
class BalancedClip(Reweighting):
    """g · sg[t] inside walls that are moved until good tokens make up the share `target` of the surrogate; 0 beyond.

    share = P/(P + N),   P = Σ_{g>0} g·min(t, c_high),   N = Σ_{g<0} |g|·max(t, c_low)

    Both walls begin at their first bound. As long as the share is below the target, c_low rises in steps to its second
    bound, and after it c_high. A good token has no weight where t > c_high, nor has a poor one where t < c_low.

    The walls are solved at every evaluation, from all tokens of the batch that is evaluated: those of a micro-batch are
    its own.

    Args:
        of: the geometry whose drive is weighted.
        low: (first, last) of the lower wall, as ratios, 0 ≤ first ≤ last ≤ 1.
        high: (first, last) of the upper wall, as ratios, 1 ≤ first ≤ last.
        step: by how much a wall moves at once, positive.
        target: ρ₀, the share of the good tokens, in [0, 1].

    Raises:
        ValueError: an argument out of its range.

    Source: BAPO (arXiv 2510.18927), in the order of its authors' code: the lower wall first.

    >>> import torch, geomalign as ga
    >>> old = torch.full((2, 1), -3.0)
    >>> batch = ga.Batch(old + torch.tensor([[1.5]]), old, advantage=torch.tensor([[1.0], [-0.4]]))
    >>> sampling = ga.sampling.BalancedClip()  # both ratios are 4.48, the surrogate is 1.2 against 1.79
    >>> [round(wall.item(), 2) for wall in sampling.walls(sampling.drive(batch), batch.policy - batch.old, batch)]
    [0.9, 1.8]
    """

    of: SamplingGeometry = Advantage()
    low: tuple[float, float] = (0.6, 0.9)
    high: tuple[float, float] = (1.2, 3.0)
    step: float = 0.05
    target: float = 0.5
    reach: ClassVar[Locality] = Locality.BATCH

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        numbers(self, "the first and the last place of a wall", low=self.low, high=self.high)
        if not 0 <= self.low[0] <= self.low[1] <= 1 <= self.high[0] <= self.high[1] < math.inf:
            refuse(self, "ratios, 0 ≤ low ≤ 1 ≤ high, the first not above the last.", low=self.low, high=self.high)
        positive(self, "the step of a wall", step=self.step)
        within(self, 0, 1, "a share of the surrogate", target=self.target)

    def walls(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> tuple[Tensor, Tensor]:
        """c_low and c_high, 0-dim tensors; the arguments are those of `reweight`."""
        support = batch.rows.support
        g = torch.where(support if drive.ndim == 2 else support.any(-1), drive, 0)
        ratio = numerics.exp(log_ratio)
        lows, highs = _steps(*self.low, self.step), _steps(*self.high, self.step)
        positive = torch.stack([(torch.relu(g) * ratio.clamp(max=wall)).sum() for wall in highs])
        negative = torch.stack([(torch.relu(-g) * ratio.clamp(min=wall)).sum() for wall in lows])
        positive = torch.cat([positive[:1].expand(len(lows)), positive[1:]])
        negative = torch.cat([negative, negative[-1:].expand(len(highs) - 1)])
        met = positive >= self.target * (positive + negative)
        first = (met.cumsum(0) == 0).sum().clamp(max=len(met) - 1)
        raised = (first - (len(lows) - 1)).clamp(min=0)
        c_low = (self.low[0] + self.step * first.to(g.dtype)).clamp(max=self.low[1])
        c_high = (self.high[0] + self.step * raised.to(g.dtype)).clamp(max=self.high[1])
        return c_low, c_high

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        low, high = self.walls(drive, log_ratio, batch)
        ratio = numerics.exp(log_ratio)
        return torch.where(torch.where(drive > 0, ratio <= high, ratio >= low), ratio, 0)

    def latex(self) -> str:
        mask = r"1\left[t\leq c_+\ (g>0),\ t\geq c_-\ (g<0)\right]"
        share = rf"c_\pm\text{{ in steps of }}{self.step:g}\text{{ until }}\tfrac{{P}}{{P+N}}\geq {self.target:g}"
        return rf"\operatorname{{sg}}\left[t\,{mask}\right]\left({self.of.latex()}\right),\ {share}"


@dataclasses.dataclass(frozen=True)
class GroupExpectation(Reweighting):
    """g · sg[w] inside PPO's walls, w = p_i/E_q[q]: the group's expectation in the place of the response's own q_i.

    p_i = π(y_i)^{1/|y_i|} and q_i = π_old(y_i)^{1/|y_i|} are the geometric means of the tokens' probabilities, and
    E_q[q] = Σ_j q_j²/Σ_j q_j over the responses to the prompt. So a response that was rare under π_old has no large
    weight. A good response has no weight where w > 1 + high, nor has a poor one where w < 1 − low. The walls act on
    policy too, where w = q_i/E_q[q].

    Args:
        of: the geometry whose drive is weighted.
        low: distance of the lower wall from the weight 1, in [0, 1).
        high: distance of the upper wall, ≥ 0.

    Raises:
        ValueError: an argument out of its range; in `reweight`, pairs, or a batch without `old`.

    Source: GEPO (arXiv 2508.17850) and its authors' code.

    >>> import torch, geomalign as ga
    >>> old = torch.tensor([[-1.0], [-3.0]])
    >>> batch = ga.Batch(old, old, advantage=torch.tensor([1.0, -1.0]))
    >>> sampling = ga.sampling.GroupExpectation()  # E_q[q] is 0.33, q is 0.37 and 0.05
    >>> sampling.reweight(sampling.drive(batch), torch.zeros(2), batch)
    tensor([1.1149, -0.0000])
    """

    of: SamplingGeometry = Advantage()
    low: float = 0.2
    high: float = 0.2
    reach: ClassVar[Locality] = Locality.GROUP

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        within(self, 0, 1, "the distance of a wall below the weight 1", ends="[)", low=self.low)
        non_negative(self, "the distance of a wall above the weight 1", high=self.high)

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        if not isinstance(batch, Batch):
            raise ValueError(f"{type(self).__name__} needs groups of single responses: pass a Batch, not pairs.")
        groups = batch.groups()
        log_q = batch.log_probs("old", type(self).__name__).detach().sum(-1) / batch.support.sum(-1).clamp(min=1)
        q = groups.keep(torch.exp(groups.keep(log_q - groups.max(log_q))))  # the largest of a group is 1
        total, square = groups.sum(q), groups.sum(q * q)
        share = q * total / torch.where(square > 0, square, 1)
        weight = numerics.exp(log_ratio) * (share if drive.ndim == 1 else share[:, None])
        return torch.where(torch.where(drive > 0, weight <= 1 + self.high, weight >= 1 - self.low), weight, 0)

    def latex(self) -> str:
        mask = rf"1\left[w\leq {1 + self.high:g}\ (g>0),\ w\geq {1 - self.low:g}\ (g<0)\right]"
        weight = r"w=\frac{p_i}{\sum_{j\in G}q_j^2/\sum_{j\in G}q_j}"
        return rf"\operatorname{{sg}}\left[w\,{mask}\right]\left({self.of.latex()}\right),\ {weight}"
