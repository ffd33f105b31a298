"""Importance weights: drives corrected for the difference between the policy in training and the one that sampled."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import boolean, number, numbers, positive, refuse
from geomalign._util.types import Interval, Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.advantage import Advantage
from geomalign.sampling.base import Reweighting, SamplingGeometry, Transformed, is_cap, is_sampling
from geomalign.sampling.label import Label

__all__ = [
    "ClippedImportance",
    "GammaImportance",
    "ImportanceRatio",
    "PolicyWeight",
    "TaperedImportance",
    "TruncatedImportance",
]


@dataclasses.dataclass(frozen=True)
class TruncatedImportance(Transformed):
    """g · min(π_old/π_behavior, cap): corrects for a rollout engine whose probabilities differ from the trainer's.

    Args:
        of: the geometry whose drive is weighted.
        cap: upper bound of the importance weight, positive.
        sequence: one weight per response, of the product of its tokens' ratios, instead of one per token.

    Raises:
        ValueError: a cap that is not positive; in `drive`, a batch without `old` or `behavior`.

    Source: truncated importance sampling, Ionides 2008; for rollout engines Yao et al. 2025. TRL and verl use cap = 2.

    >>> import torch, geomalign as ga
    >>> old, behavior = torch.tensor([[-1.0], [-1.0]]), torch.tensor([[-1.0], [-9.0]])
    >>> batch = ga.Batch(old, old, advantage=torch.ones(2), behavior=behavior)
    >>> ga.TruncatedImportance(ga.Advantage(), sequence=True).drive(batch)
    tensor([1., 2.])
    """

    of: SamplingGeometry
    cap: float = 2.0
    sequence: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "the bound of an importance weight", cap=self.cap)
        boolean(self, sequence=self.sequence)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        rows = batch.rows
        log_weight = rows.log_probs("old", "TruncatedImportance") - rows.log_probs("behavior", "TruncatedImportance")
        if self.sequence or rows.summed:
            log_weight = log_weight.sum(-1)
        elif drive.ndim == 1:
            drive = drive[:, None]
        return drive * torch.exp(log_weight.clamp(max=math.log(self.cap)))

    def latex(self) -> str:
        return rf"\min\left(\frac{{\pi_k}}{{\pi_b}},{self.cap:g}\right)\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class ClippedImportance(Reweighting):
    """g · sg[clip(t, low, high)]: an importance weight that is clipped where PPO would drop the gradient (CISPO).

    Args:
        of: the geometry whose drive is weighted.
        low: lower bound of the ratio t, ≥ 0; None for 0.
        high: upper bound of the ratio t, greater than `low`; None for no bound.

    Raises:
        ValueError: bounds that are not 0 ≤ low < high.

    Source: MiniMax-M1 (arXiv 2506.13585) eq. 4–5.

    >>> import torch, geomalign as ga
    >>> sampling = ga.ClippedImportance(ga.Advantage(), high=1.2)
    >>> batch = ga.Batch(torch.tensor([-1.0, -0.5]), torch.tensor([-1.0, -1.0]), advantage=torch.ones(2))
    >>> sampling.reweight(sampling.drive(batch), batch.policy - batch.old, batch)
    tensor([1.0000, 1.2000])
    """

    of: SamplingGeometry
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        number(self, "or None", low=self.low or 0.0, high=self.high or 0.0)
        if not 0 <= (self.low or 0.0) < (math.inf if self.high is None else self.high):
            refuse(self, "bounds of a ratio, 0 ≤ low < high.", low=self.low, high=self.high)

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        low = math.log(self.low) if self.low else -math.inf
        high = math.inf if self.high is None else math.log(self.high)
        # 60 nats keep the weight finite in float32.
        return torch.exp(log_ratio.clamp(max=min(high, 60.0)).clamp(min=low))

    def latex(self) -> str:
        low = "0" if self.low is None else f"{self.low:g}"
        high = r"\infty" if self.high is None else f"{self.high:g}"
        return rf"\operatorname{{sg}}\left[\operatorname{{clip}}(t,{low},{high})\right]\left({self.of.latex()}\right)"


def _total_log_ratio(drive: Tensor, batch: Batch | PreferenceBatch, owner: object) -> Tensor:
    """log π − log π_old of whole responses, ready to weigh drives of responses or of their tokens."""
    rows, asked_by = batch.rows, type(owner).__name__
    total = (rows.log_probs("policy", asked_by) - rows.log_probs("old", asked_by)).detach().sum(-1)
    return total if drive.ndim == 1 else total[:, None]


def policy_and_old(drive: Tensor, batch: Batch | PreferenceBatch, owner: object) -> tuple[Tensor, Tensor]:
    """log π and log π_old in the shape of the drives, of tokens or summed over responses; detached.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.full((1, 2), -1.0), torch.full((1, 2), -2.0))
    >>> policy_and_old(torch.ones(1), batch, ImportanceRatio())
    (tensor([-2.]), tensor([-4.]))
    """
    tokens = [batch.rows.log_probs(name, type(owner).__name__).detach() for name in ("policy", "old")]
    policy, old = tokens if drive.ndim == 2 else (x.sum(-1) for x in tokens)
    return policy, old


@dataclasses.dataclass(frozen=True)
class TaperedImportance(Reweighting):
    """g · sg[clip(π(y)/π_old(y), low, high)]: the ratio of whole responses, clipped by bounds for each sign of g.

    Args:
        of: the geometry whose drive is weighted.
        positive: (low, high) where the drive is positive; (1, 1) gives every good response the weight one, as
            supervised learning does.
        negative: (low, high) where the drive is negative; (0, 1) lets the weight vanish once the policy has abandoned
            a bad response.

    Raises:
        ValueError: bounds that are not 0 ≤ low ≤ high < ∞.

    Source: TOPR (arXiv 2503.14286), these defaults. (0, 1) twice is truncated importance sampling.

    >>> import torch, geomalign as ga
    >>> sampling = ga.sampling.TaperedImportance()
    >>> batch = ga.Batch(torch.tensor([-5.0, -5.0]), torch.tensor([-1.0, -1.0]), advantage=torch.tensor([1.0, -1.0]))
    >>> sampling.reweight(sampling.drive(batch), batch.policy - batch.old, batch)
    tensor([ 1.0000, -0.0183])
    """

    of: SamplingGeometry = Advantage()
    positive: tuple[float, float] = (1.0, 1.0)
    negative: tuple[float, float] = (0.0, 1.0)
    reach: ClassVar[Locality] = Locality.SEQUENCE

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        numbers(self, "the bounds of a ratio", positive=self.positive, negative=self.negative)
        for name, (low, high) in (("positive", self.positive), ("negative", self.negative)):
            if not 0 <= low <= high < math.inf:
                refuse(self, "bounds of a ratio, 0 ≤ low ≤ high < ∞.", **{name: (low, high)})

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        ratio = numerics.exp(_total_log_ratio(drive, batch, self))
        return torch.where(drive > 0, ratio.clamp(*self.positive), ratio.clamp(*self.negative))

    def latex(self) -> str:
        (a, b), (c, d) = self.positive, self.negative
        taper = (
            rf"\operatorname{{clip}}\left(\frac{{\pi}}{{\pi_k}}(y_i),[{a:g},{b:g}]_{{g>0}},[{c:g},{d:g}]_{{g<0}}\right)"
        )
        return rf"\operatorname{{sg}}\left[{taper}\right]\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class GammaImportance(Reweighting):
    """g · sg[W(w)], W(w) = w^k e^{λ(1−w)} with w = π(y)/π_old(y) of the whole response, and k, λ by the sign of g.

    W has the shape of a gamma density and is one at w = 1: it grows like w^k below and falls exponentially above, with
    no bound at which the gradient stops.

    Args:
        of: the geometry whose drive is weighted.
        positive: (k, λ) where the drive is not negative, k ≥ 0 and λ > 0.
        negative: (k, λ) where the drive is negative, k ≥ 0 and λ > 0.

    Raises:
        ValueError: k < 0 or λ ≤ 0.

    Source: VESPO (arXiv 2602.10693). Trainers clamp Δ of tokens to ±20 and log w to [log 1e-8, 20]; here only e^w is
    kept from overflowing.

    >>> import torch, geomalign as ga
    >>> sampling = ga.sampling.GammaImportance()
    >>> batch = ga.Batch(torch.tensor([-1.0, -3.0]), torch.tensor([-1.0, -1.0]), advantage=torch.ones(2))
    >>> sampling.reweight(sampling.drive(batch), batch.policy - batch.old, batch)
    tensor([1.0000, 0.2451])
    """

    of: SamplingGeometry = Advantage()
    positive: tuple[float, float] = (2.0, 3.0)
    negative: tuple[float, float] = (3.0, 2.0)
    reach: ClassVar[Locality] = Locality.SEQUENCE

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        numbers(self, "a shape k and a rate λ", positive=self.positive, negative=self.negative)
        for name, (k, rate) in (("positive", self.positive), ("negative", self.negative)):
            if not (k >= 0 and rate > 0):
                refuse(self, "a shape k ≥ 0 and a rate λ > 0.", **{name: (k, rate)})

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        log_w = _total_log_ratio(drive, batch, self)

        def density(k: float, rate: float) -> Tensor:
            return torch.exp(k * log_w - rate * torch.expm1(log_w.clamp(max=numerics.limit(log_w.dtype))))

        return torch.where(drive >= 0, density(*self.positive), density(*self.negative))

    def latex(self) -> str:
        return rf"\operatorname{{sg}}\left[w_i^{{k}}e^{{\lambda(1-w_i)}}\right]\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class PolicyWeight(Reweighting):
    """g · sg[w(y⁺)·w(y⁻)], w(y) = π(y)^{1/|y|}: a pair weighs as much as both its responses are likely at present.

    Args:
        of: the geometry whose drive is weighted, of pairs.

    Source: WPO (arXiv 2406.11827) eq. 2, without its alignment, which divides each token's probability by Σ_v π(v)².
    Sampled log-probabilities do not hold that sum; TRL takes it from the logits.

    >>> import torch, geomalign as ga
    >>> pairs = ga.PreferenceBatch(torch.tensor([[-1.0, -1.0]]), torch.tensor([[-2.0, -2.0]]))
    >>> ga.sampling.PolicyWeight().reweight(torch.ones(1), torch.zeros(1), pairs)  # exp(−1) · exp(−2)
    tensor([0.0498])
    """

    of: SamplingGeometry = Label()
    reach: ClassVar[Locality] = Locality.GROUP
    reads_ratio: ClassVar[bool] = False

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        if not batch.paired or drive.shape != (batch.size,):
            raise ValueError(
                f"{type(self).__name__} weighs pairs, but the drive is {tuple(drive.shape)} for the {batch.size} rows "
                f"of a {type(batch).__name__}: pass a PreferenceBatch with a unit of pairs such as Pair()."
            )
        rows = batch.rows
        mean = rows.log_probs("policy", type(self).__name__).detach().sum(-1) / rows.support.sum(-1).clamp(min=1)
        chosen, rejected = mean.chunk(2)
        return torch.exp((chosen + rejected).clamp(max=0))

    def latex(self) -> str:
        return rf"\operatorname{{sg}}\left[\pi(y^+)^{{1/|y^+|}}\pi(y^-)^{{1/|y^-|}}\right]{self.of.latex()}"


@dataclasses.dataclass(frozen=True)
class ImportanceRatio(SamplingGeometry):
    """g = sg[π/π_old] of every token: the weight that turns an average over the rollout into one over the policy.

    It is a weight, not an advantage: use it with `ImportanceWeighted`.

    Args:
        cap: upper bound of the weight, positive; None for no bound.

    Raises:
        ValueError: a cap that is not positive.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.tensor([-1.0, -0.5]), torch.tensor([-1.0, -1.0]))
    >>> ga.ImportanceRatio(cap=1.5).reweight(torch.ones(2), batch.policy - batch.old, batch)
    tensor([1.0000, 1.5000])
    """

    cap: float | None = None

    def __post_init__(self) -> None:
        is_cap(self, self.cap)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return torch.ones(batch.size, dtype=batch.rows.dtype, device=batch.rows.policy.device)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        log_p, log_q = policy_and_old(drive, batch, self)
        ratio = numerics.exp(log_p - log_q)
        return drive * (ratio if self.cap is None else ratio.clamp(max=self.cap))

    @property
    def locality(self) -> Locality:
        return Locality.TOKEN

    @property
    def drive_range(self) -> Interval:
        return Interval(0.0, math.inf if self.cap is None else self.cap)

    def latex(self) -> str:
        return r"\operatorname{sg}\left[\pi_\theta/\pi_k\right]"
