"""Weights of the ratio t = π/π_old of a token that take the place of PPO's clip, by the sign of the drive."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import boolean, non_negative, numbers, positive, refuse, within
from geomalign._util.types import Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.advantage import Advantage
from geomalign.sampling.base import Reweighting, SamplingGeometry, is_sampling

__all__ = ["FlippedImportance", "FutureKL", "GradientPreservingClip", "RingMask"]

_WALL = "the distance of a wall from the ratio 1; low < 1"


def _walls(owner: object, low: float, high: float) -> None:
    non_negative(owner, _WALL, high=high)
    within(owner, 0, 1, _WALL, ends="[)", low=low)


@dataclasses.dataclass(frozen=True)
class GradientPreservingClip(Reweighting):
    """g · sg[w], w = t inside PPO's walls and a constant beyond them: a share of the pull that t = 1 ± ε has there.

    w = beta_high(1 + high) where g > 0 and t > 1 + high;  w = beta_low(1 − low) where g < 0 and t < 1 − low;
    w = t elsewhere. With both shares 0 the score function −sg[w] g log π has the gradient of PPO's clip.

    Args:
        of: the geometry whose drive is weighted.
        low: distance of the lower wall from the ratio 1, in [0, 1).
        high: distance of the upper wall, ≥ 0.
        beta_low: share of the pull that is kept below the lower wall, ≥ 0.
        beta_high: share that is kept above the upper wall, ≥ 0.

    Raises:
        ValueError: an argument out of its range.

    Source: GPPO (arXiv 2508.07629), both shares 1; CE-GPPO (arXiv 2509.20712), their β₁ and β₂.

    >>> import torch, geomalign as ga
    >>> sampling = ga.sampling.GradientPreservingClip(beta_low=0.5)
    >>> batch = ga.Batch(torch.tensor([-2.0, -2.0]), torch.tensor([-1.0, -3.0]), advantage=torch.tensor([-1.0, 1.0]))
    >>> sampling.reweight(sampling.drive(batch), batch.policy - batch.old, batch)
    tensor([-0.4000,  1.2000])
    """

    of: SamplingGeometry = Advantage()
    low: float = 0.2
    high: float = 0.2
    beta_low: float = 1.0
    beta_high: float = 1.0

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        _walls(self, self.low, self.high)
        non_negative(self, "a share of the pull", beta_low=self.beta_low, beta_high=self.beta_high)

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        ratio = numerics.exp(log_ratio)
        below, above = 1 - self.low, 1 + self.high
        weight = torch.where((drive < 0) & (ratio < below), self.beta_low * below, ratio)
        return torch.where((drive > 0) & (ratio > above), self.beta_high * above, weight)

    def latex(self) -> str:
        walls = (
            rf"{self.beta_low:g}({1 - self.low:g})_{{g<0,\,t<{1 - self.low:g}}},\ "
            rf"{self.beta_high:g}({1 + self.high:g})_{{g>0,\,t>{1 + self.high:g}}}"
        )
        return rf"\operatorname{{sg}}\left[t;\ {walls}\right]\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class FlippedImportance(Reweighting):
    """g · sg[min(1/t, cap)] where the drive is positive and g · sg[min(t, cap)] where it is negative; 0 beyond a wall.

    Under t a good token pulls the more, the likelier it has become; under 1/t the less, as a poor one does under t. The
    walls are PPO's: a good token with t > 1 + high and a poor one with t < 1 − low have no weight.

    Args:
        of: the geometry whose drive is weighted.
        low: distance of the lower wall from the ratio 1, in [0, 1).
        high: distance of the upper wall, ≥ 0.
        cap: upper bound of the weight, positive, at which the gradient is kept ("soft dual clip").

    Raises:
        ValueError: an argument out of its range.

    Source: ASPO (arXiv 2510.06062).

    >>> import torch, geomalign as ga
    >>> sampling = ga.sampling.FlippedImportance()
    >>> batch = ga.Batch(torch.tensor([-2.0, -2.0]), torch.tensor([-1.5, -1.5]), advantage=torch.tensor([1.0, -1.0]))
    >>> sampling.reweight(sampling.drive(batch), batch.policy - batch.old, batch)  # t = 0.61 for both
    tensor([1.6487, -0.0000])
    """

    of: SamplingGeometry = Advantage()
    low: float = 0.2
    high: float = 0.2
    cap: float = 3.0

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        _walls(self, self.low, self.high)
        positive(self, "the bound of a weight", cap=self.cap)

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        good = drive > 0
        kept = torch.where(good, log_ratio <= math.log1p(self.high), log_ratio >= math.log1p(-self.low))
        weight = torch.exp(torch.where(good, -log_ratio, log_ratio).clamp(max=math.log(self.cap)))
        return torch.where(kept, weight, 0)

    def latex(self) -> str:
        mask = rf"1\left[t\leq {1 + self.high:g}\ (g>0),\ t\geq {1 - self.low:g}\ (g<0)\right]"
        weight = rf"\min\left(t^{{-\operatorname{{sgn}}g}},{self.cap:g}\right)"
        return rf"\operatorname{{sg}}\left[{weight}\,{mask}\right]\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class RingMask(Reweighting):
    """g · sg[w] near the old policy and far from it on the side from which the drive pulls back; 0 on the ring between.

    A token is kept where 1 − low ≤ t ≤ 1 + high, where g > 0 and t ≤ 1 − outer_low, and where g < 0 and
    t ≥ 1 + outer_high.

    Args:
        of: the geometry whose drive is masked.
        low: distance of the inner wall below the ratio 1, in [0, 1).
        high: distance of the inner wall above, ≥ 0.
        outer_low: distance of the outer wall below, from `low` to 1.
        outer_high: distance of the outer wall above, ≥ `high`.
        importance: whether a kept token has the weight w = t; else w = 1.

    Raises:
        ValueError: an argument out of its range.

    Source: REC-Ring (arXiv 2509.24203).

    >>> import torch, geomalign as ga
    >>> old = torch.full((4,), -3.0)
    >>> batch = ga.Batch(old + torch.tensor([0.1, -0.4, -1.5, 1.5]), old, advantage=torch.ones(4))
    >>> sampling = ga.sampling.RingMask()  # the ratios are 1.11, 0.67, 0.22 and 4.48
    >>> sampling.reweight(sampling.drive(batch), batch.policy - batch.old, batch)
    tensor([1., 0., 1., 0.])
    """

    of: SamplingGeometry = Advantage()
    low: float = 0.2
    high: float = 0.2
    outer_low: float = 0.6
    outer_high: float = 2.0
    importance: bool = False

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        _walls(self, self.low, self.high)
        within(self, 0, 1, "the distance of the outer wall below", outer_low=self.outer_low)
        non_negative(self, "the distance of the outer wall above", outer_high=self.outer_high)
        if self.outer_low < self.low or self.outer_high < self.high:
            refuse(
                self,
                "the outer walls lie beyond the inner ones: outer_low ≥ low and outer_high ≥ high.",
                low=self.low,
                high=self.high,
                outer_low=self.outer_low,
                outer_high=self.outer_high,
            )
        boolean(self, importance=self.importance)

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        ratio = numerics.exp(log_ratio)
        near = (ratio >= 1 - self.low) & (ratio <= 1 + self.high)
        back = ((drive > 0) & (ratio <= 1 - self.outer_low)) | ((drive < 0) & (ratio >= 1 + self.outer_high))
        return torch.where(near | back, ratio if self.importance else torch.ones_like(ratio), 0)

    def latex(self) -> str:
        near = rf"{1 - self.low:g}\leq t\leq {1 + self.high:g}"
        back = rf"t\leq {1 - self.outer_low:g}\ (g>0),\ t\geq {1 + self.outer_high:g}\ (g<0)"
        weight = "t\\," if self.importance else ""
        mask = rf"1\left[{near}\ \text{{or}}\ {back}\right]"
        return rf"\operatorname{{sg}}\left[{weight}{mask}\right]\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class FutureKL(Reweighting):
    """g · sg[clip(e^F, low, high)], F_t = Σ_{k≥t} γ^{k−t} Δ_k, γ = 2^{−1/halflife}: a weight by what follows a token.

    F is the discounted sum of the log-ratios of the token and of all later tokens of its response: positive where the
    policy has come to like what followed. Tokens whose ratio is above `cap` have no part in it. Where g < 0 and the
    token's own ratio is above `safety`, the weight is clipped to [0.8, 1].

    Args:
        of: the geometry whose drive is weighted.
        halflife: in tokens, > 0.
        bounds: (low, high) of the weight, 0 ≤ low ≤ high < ∞.
        cap: largest ratio of a token that has a part in F, > 0.
        safety: ratio above which a token with a negative drive is not amplified, > 0.

    Raises:
        ValueError: an argument out of its range; in `reweight`, events that are responses.

    Source: FIPO (arXiv 2603.19835), as its authors' code and ms-swift have it.

    >>> import torch, geomalign as ga
    >>> old = torch.full((1, 3), -1.0)
    >>> batch = ga.Batch(old + torch.tensor([[0.0, 0.0, 0.1]]), old, advantage=torch.ones(1, 3))
    >>> sampling = ga.sampling.FutureKL(halflife=1.0)  # F = 0.025, 0.05, 0.1
    >>> sampling.reweight(sampling.drive(batch), batch.policy - batch.old, batch)
    tensor([[1.0253, 1.0513, 1.1052]])
    """

    of: SamplingGeometry = Advantage()
    halflife: float = 32.0
    bounds: tuple[float, float] = (1.0, 1.2)
    cap: float = 10.0
    safety: float = 4.0
    reach: ClassVar[Locality] = Locality.SEQUENCE

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        positive(self, "a number of tokens", halflife=self.halflife)
        positive(self, "a ratio", cap=self.cap, safety=self.safety)
        numbers(self, "the bounds of a weight", bounds=self.bounds)
        if not 0 <= self.bounds[0] <= self.bounds[1] < math.inf:
            refuse(self, "bounds of a weight, 0 ≤ low ≤ high < ∞.", bounds=self.bounds)

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        if log_ratio.ndim != 2:
            raise ValueError(
                f"{type(self).__name__} weighs tokens by the later tokens of their response, but the events are "
                "responses. Use unit=Token()."
            )
        future = torch.where(log_ratio > math.log(self.cap), 0, log_ratio)
        # A suffix sum by doubling: after the step of width d it reaches over 2d tokens, and no power γ^{−t} overflows.
        # Beyond 64 halflives nothing counts in float64. A traced size does not end the loop: it would be recorded.
        tokens = future.shape[1]
        for k in range(math.ceil(math.log2(64 * self.halflife))):
            width = 2**k
            if type(tokens) is int and width >= tokens:
                break
            later = torch.nn.functional.pad(future, (0, width))[:, width:]
            future = future + 2 ** (-width / self.halflife) * later
        low, high = self.bounds
        weight = torch.exp(future.clamp(max=math.log(high) if high else -math.inf)).clamp(min=low)
        unsafe = (drive < 0) & (log_ratio > math.log(self.safety))
        return torch.where(unsafe, weight.clamp(0.8, 1.0), weight)

    def latex(self) -> str:
        low, high = self.bounds
        future = rf"e^{{\sum_{{k\geq t,\,t_k\leq {self.cap:g}}}2^{{-(k-t)/{self.halflife:g}}}\Delta_k}}"
        unsafe = rf"[0.8,1]_{{g<0,\,t>{self.safety:g}}}"
        return (
            rf"\operatorname{{sg}}\left[\operatorname{{clip}}\left({future},[{low:g},{high:g}],{unsafe}\right)\right]"
            rf"\left({self.of.latex()}\right)"
        )
