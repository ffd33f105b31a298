"""sampling.importance"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval, Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.advantage import Advantage
from geomalign.sampling.base import SamplingGeometry, _check_inner, _is_sampling
from geomalign.sampling.label import Label

__all__ = [
    "ClippedImportance",
    "PolicyWeight",
    "GammaImportance",
    "ImportanceRatio",
    "TaperedImportance",
    "TruncatedImportance",
]


@dataclasses.dataclass(frozen=True)
class TruncatedImportance(SamplingGeometry):
    """g · min(π_anchor/π_behavior, cap): corrects for a rollout engine whose probabilities differ from the trainer's.

    Args:
        of: the geometry whose drive is weighted.
        cap: upper bound of the importance weight, positive.
        sequence: one weight a response, of the product of its tokens' ratios, instead of one a token.

    Source: truncated importance sampling, Ionides 2008; for rollout engines Yao et al. 2025. TRL and verl use cap = 2.
    """

    of: SamplingGeometry
    cap: float = 2.0
    sequence: bool = False

    def __post_init__(self) -> None:
        _check_inner(self, self.of)
        if not self.cap > 0:
            raise ValueError(f"TruncatedImportance(cap={self.cap!r}): the bound of an importance weight is positive.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        rows = batch.rows
        log_weight = rows.log_probs("old", "TruncatedImportance") - rows.log_probs("behavior", "TruncatedImportance")
        if self.sequence or rows.summed:
            log_weight = log_weight.sum(-1)
        elif drive.ndim == 1:
            drive = drive[:, None]
        return drive * torch.exp(log_weight.clamp(max=math.log(self.cap)))

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.reweight(drive, log_ratio, batch)

    @property
    def locality(self) -> Locality:
        return self.of.locality

    def latex(self) -> str:
        return rf"\min\left(\frac{{\pi_k}}{{\pi_b}},{self.cap:g}\right)\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class ClippedImportance(SamplingGeometry):
    """g · sg[clip(t, low, high)]: an importance weight that is clipped where PPO would drop the gradient (CISPO).

    Args:
        of: the geometry whose drive is weighted.
        low: lower bound of the ratio t, ≥ 0; None for none.
        high: upper bound of the ratio t; None for none.

    Source: MiniMax-M1 (arXiv 2506.13585) eq. 4–5.
    """

    of: SamplingGeometry
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        _check_inner(self, self.of)
        low, high = self.low or 0.0, math.inf if self.high is None else self.high
        if not 0 <= low < high:
            raise ValueError(
                f"ClippedImportance(low={self.low!r}, high={self.high!r}): bounds of a ratio, 0 ≤ low < high."
            )

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.drive(batch)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        low = math.log(self.low) if self.low else -math.inf
        high = math.inf if self.high is None else math.log(self.high)
        bounded = log_ratio.clamp(max=min(high, 60.0)).clamp(min=low)
        return self.of.reweight(drive, log_ratio, batch) * torch.exp(bounded)

    @property
    def locality(self) -> Locality:
        return max(Locality.TOKEN, self.of.locality)

    def latex(self) -> str:
        low = "0" if self.low is None else f"{self.low:g}"
        high = r"\infty" if self.high is None else f"{self.high:g}"
        return rf"\operatorname{{sg}}\left[\operatorname{{clip}}(t,{low},{high})\right]\left({self.of.latex()}\right)"


def _is_cap(outer: SamplingGeometry, cap: float | None) -> None:
    if cap is not None and not cap > 0:
        raise ValueError(
            f"{type(outer).__name__}(cap={cap!r}): the bound of an importance weight is positive; None for no bound."
        )


def _responses(drive: Tensor, batch: Batch | PreferenceBatch, name: str, asked_by: str) -> Tensor:
    """log π − log π_name of whole responses, ready to weigh drives of responses or of their tokens."""
    rows = batch.rows
    total = (rows.log_probs("policy", asked_by) - rows.log_probs(name, asked_by)).detach().sum(-1)
    return total if drive.ndim == 1 else total[:, None]


def _as_drive(drive: Tensor, batch: Batch | PreferenceBatch, name: str, asked_by: str) -> Tensor:
    """log π_name in the shape of the drives: of tokens, or summed over responses."""
    tokens = batch.rows.log_probs(name, asked_by).detach()
    return tokens if drive.ndim == 2 else tokens.sum(-1)


@dataclasses.dataclass(frozen=True)
class TaperedImportance(SamplingGeometry):
    """g · sg[clip(π(y)/π_k(y), low, high)] with bounds by the sign of g: the ratio of whole responses, tapered.

    Args:
        of: the geometry whose drive is weighted.
        positive: (low, high) under a positive drive; (1, 1) weighs by one, as supervised learning on good responses
            does.
        negative: (low, high) under a negative drive; (0, 1) lets a response that was unlearnt be.

    Source: TOPR (arXiv 2503.14286), these defaults. (0, 1) twice is truncated importance sampling.
    """

    of: SamplingGeometry = Advantage()
    positive: tuple[float, float] = (1.0, 1.0)
    negative: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        for name in ("positive", "negative"):
            low, high = getattr(self, name)
            if not (0 <= low <= high < math.inf):
                raise ValueError(
                    f"TaperedImportance({name}={(low, high)!r}): finite bounds of a ratio, 0 ≤ low ≤ high."
                )

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.drive(batch)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        ratio = numerics.exp(_responses(drive, batch, "old", type(self).__name__))
        weight = torch.where(drive > 0, ratio.clamp(*self.positive), ratio.clamp(*self.negative))
        return self.of.reweight(drive, log_ratio, batch) * weight

    @property
    def locality(self) -> Locality:
        return max(Locality.SEQUENCE, self.of.locality)

    def latex(self) -> str:
        (a, b), (c, d) = self.positive, self.negative
        taper = (
            rf"\operatorname{{clip}}\left(\frac{{\pi}}{{\pi_k}}(y_i),[{a:g},{b:g}]_{{g>0}},[{c:g},{d:g}]_{{g<0}}\right)"
        )
        return rf"\operatorname{{sg}}\left[{taper}\right]\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class GammaImportance(SamplingGeometry):
    """g · sg[W(w)], W(w) = w^k e^{λ(1−w)} with w = π(y)/π_k(y) of the whole response, and k, λ by the sign of g.

    A gamma density's shape, one at w = 1: it grows like w^k below and falls exponentially above, without a bound where
    the gradient stops.

    Args:
        of: the geometry whose drive is weighted.
        positive: (k, λ) under a drive that is not negative.
        negative: (k, λ) under a negative drive.

    Source: VESPO (arXiv 2602.10693). Trainers clamp Δ of tokens to ±20 and log w to [log 1e-8, 20]; here only
    e^w is kept from overflowing.
    """

    of: SamplingGeometry = Advantage()
    positive: tuple[float, float] = (2.0, 3.0)
    negative: tuple[float, float] = (3.0, 2.0)

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        for name in ("positive", "negative"):
            k, rate = getattr(self, name)
            if not (k >= 0 and rate > 0):
                raise ValueError(f"GammaImportance({name}={(k, rate)!r}): a shape k ≥ 0 and a rate λ > 0.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.drive(batch)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        log_w = _responses(drive, batch, "old", type(self).__name__)

        def weight(k: float, rate: float) -> Tensor:
            return torch.exp(k * log_w - rate * torch.expm1(log_w.clamp(max=numerics.limit(log_w.dtype))))

        return self.of.reweight(drive, log_ratio, batch) * torch.where(
            drive >= 0, weight(*self.positive), weight(*self.negative)
        )

    @property
    def locality(self) -> Locality:
        return max(Locality.SEQUENCE, self.of.locality)

    def latex(self) -> str:
        return rf"\operatorname{{sg}}\left[w_i^{{k}}e^{{\lambda(1-w_i)}}\right]\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class PolicyWeight(SamplingGeometry):
    """g · sg[w(y⁺)·w(y⁻)], w(y) = π(y)^{1/|y|}: pairs count as much as the policy would say them itself.

    Args:
        of: the geometry whose drive is weighted, of pairs.

    Source: WPO (arXiv 2406.11827) eq. 2, without its alignment: that divides each token's probability by Σ_v π(v)²,
    which sampled log-probabilities do not hold (TRL takes it from the logits).
    """

    of: SamplingGeometry = Label()

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.drive(batch)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        rows = batch.rows
        mean = rows.log_probs("policy", type(self).__name__).detach().sum(-1) / rows.support.sum(-1).clamp(min=1)
        chosen, rejected = mean.chunk(2)
        return self.of.reweight(drive, log_ratio, batch) * torch.exp((chosen + rejected).clamp(max=0))

    @property
    def locality(self) -> Locality:
        return max(Locality.GROUP, self.of.locality)

    def latex(self) -> str:
        return rf"\operatorname{{sg}}\left[\pi(y^+)^{{1/|y^+|}}\pi(y^-)^{{1/|y^-|}}\right]{self.of.latex()}"


@dataclasses.dataclass(frozen=True)
class ImportanceRatio(SamplingGeometry):
    """g = sg[π/π_k] of every token: the weight that turns an average over the rollout into one over the policy. Not a
    pull; for `ImportanceWeighted`.

    Args:
        cap: upper bound of the weight; None for none.
    """

    cap: float | None = None

    def __post_init__(self) -> None:
        _is_cap(self, self.cap)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return torch.ones(batch.size, dtype=batch.rows.dtype, device=batch.rows.policy.device)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        log_p, log_q = (_as_drive(drive, batch, name, type(self).__name__) for name in ("policy", "old"))
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
