"""Masks of tokens or responses on which two policies disagree too far, and the weight of those that stay."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import number, one_of, positive, refuse
from geomalign._util.types import Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.advantage import Advantage
from geomalign.sampling.base import SamplingGeometry, Transformed
from geomalign.sampling.mask import binary_kl

__all__ = ["MaskedImportance", "SecondMomentMask"]


class _Metric(NamedTuple):
    """A disagreement of log p, of the numerator, and log q: of a token, and of a response as a function of the mask.

    `rises`: +1 where the metric of tokens rises with p, −1 where it falls, 0 where it is no signed quantity; then the
    same of the metric of responses.
    """

    of_token: Callable[[Tensor, Tensor], Tensor]
    of_response: Callable[[Tensor, Tensor, Tensor], Tensor]
    rises: tuple[int, int]
    latex: str


def _mean_over_tokens(of_token: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def of_response(log_p: Tensor, log_q: Tensor, mask: Tensor) -> Tensor:
        total = torch.where(mask, of_token(log_p, log_q), 0).sum(-1, keepdim=True)
        return total / mask.sum(-1, keepdim=True).clamp(min=1)

    return of_response


def _ratio(log_p: Tensor, log_q: Tensor) -> Tensor:
    return numerics.exp(log_p - log_q)


def _product(log_p: Tensor, log_q: Tensor, mask: Tensor) -> Tensor:
    return numerics.exp((log_p - log_q).sum(-1, keepdim=True))  # masked tokens hold zeros


def _k1(log_p: Tensor, log_q: Tensor) -> Tensor:
    return log_q - log_p


def _k2(log_p: Tensor, log_q: Tensor) -> Tensor:
    return 0.5 * (log_p - log_q) ** 2


def _k3(log_p: Tensor, log_q: Tensor) -> Tensor:
    return numerics.expm1_remainder(log_p - log_q)


def _shift(log_p: Tensor, log_q: Tensor) -> Tensor:
    return torch.exp(log_p) - torch.exp(log_q)


def _both_binary_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return torch.maximum(binary_kl(log_p, log_q), binary_kl(log_q, log_p))


_METRICS = {
    "ratio": _Metric(_ratio, _product, (1, 1), "t"),
    "k1": _Metric(_k1, _mean_over_tokens(_k1), (-1, -1), r"-\log t"),
    "k2": _Metric(_k2, _mean_over_tokens(_k2), (0, 0), r"\tfrac12\log^2t"),
    "k3": _Metric(_k3, _mean_over_tokens(_k3), (0, 0), r"t-1-\log t"),
    "tv": _Metric(_shift, _mean_over_tokens(lambda p, q: _shift(p, q).abs()), (1, 0), "p-q"),
    "binary_kl": _Metric(_both_binary_kl, _mean_over_tokens(_both_binary_kl), (0, 0), r"\max\mathrm{KL}_2"),
}


class _Level(NamedTuple):
    """What is dropped at once: by the metric of the tokens or the responses, `inside` saying which values are kept."""

    kept: Callable[[_Metric, Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor]
    reach: Locality
    of_responses: bool


_LEVELS = {
    "token": _Level(lambda metric, p, q, mask, inside: inside(metric.of_token(p, q)), Locality.TOKEN, False),
    "sequence": _Level(
        lambda metric, p, q, mask, inside: inside(metric.of_response(p, q, mask)), Locality.SEQUENCE, True
    ),
    "max": _Level(
        lambda metric, p, q, mask, inside: (inside(metric.of_token(p, q)) | ~mask).all(-1, keepdim=True),
        Locality.SEQUENCE,
        False,
    ),
}

_IMPORTANCE: dict[str, tuple[Callable[[Tensor, Tensor], Tensor | float], Locality, str]] = {
    "none": (lambda log_p, log_q: 1.0, Locality.ROLLOUT, ""),
    "token": (_ratio, Locality.TOKEN, "t"),
    "sequence": (lambda log_p, log_q: _product(log_p, log_q, log_p), Locality.SEQUENCE, r"\textstyle\prod_t t"),
}

_SIGNS: dict[str, Callable[[Tensor, int], tuple[Tensor, Tensor]]] = {
    "no": lambda drive, rises: (torch.ones_like(drive, dtype=torch.bool),) * 2,
    "negative": lambda drive, rises: (drive < 0,) * 2,
    "outward": lambda drive, rises: (rises * drive > 0, rises * drive < 0),
}
"""By the sign of the drive: where the upper bound judges, and where the lower."""

_NUMERATORS, _DENOMINATORS = ("old", "policy"), ("behavior", "old")


@dataclasses.dataclass(frozen=True)
class MaskedImportance(Transformed):
    """g · sg[w] where two policies agree, low ≤ d ≤ high, and 0 where they do not.

    With the ratio t = p/q of two policies, of a token or of a whole response, d is a metric of their disagreement and w
    an importance weight. Dropping an outlier where `TruncatedImportance` caps it also drops its bias.

    | method | setting |
    |---|---|
    | IcePop | `low=0.5, high=5.0` |
    | MIS of whole responses; SkyRL's product mask | `level="sequence", importance="sequence", low=0.5, high=2.0` |
    | SkyRL's token mask, outlier mask | `level="token"` or `level="max"`, `importance="none"`, `low=…, high=…` |
    | SkyRL's geometric mask | `level="sequence", metric="k1", importance="none", low=-log 1.01, high=-log 0.99` |
    | DeepSeek-V3.2's mask* | `level="sequence", metric="k1", high=δ, sign_aware="negative", importance="none"` |
    | TRM, by its maximum and by its mean* | `level="max"` or `level="sequence"`, `metric="k3", high=δ` |
    | prime-rl's `ipo`* | `metric="tv", low=-0.1, high=0.1` |
    | prime-rl's mask of DPPO* | `metric="tv", low=-0.2, high=0.2, sign_aware="outward"` |
    | verl's KPop | `metric="binary_kl", high=φ, importance="none"` |

    *with `numerator="policy"`.

    Args:
        of: the geometry whose drive is masked and weighted.
        low: lower bound of the metric; None for none.
        high: upper bound of the metric; None for none. One of the two is given, and low < high.
        level: what is dropped at once. "token": a token out of bounds; "sequence": a response whose own metric is out
            of bounds; "max": a response of which any token is out of bounds.
        metric: d of a token. "ratio" t; "k1" −log t, "k2" ½log²t, "k3" t − 1 − log t, in nats; "tv" the signed p − q;
            "binary_kl" the larger of the two divergences of the event {this token, any other}. Of a response, "ratio"
            is that of its probability, a product; the others are means over its tokens, "tv" without its sign.
        sign_aware: whose drive is judged. "no": all; "negative": only those with a negative drive; "outward": by
            the bound towards which the drive pushes, as PPO's clip does, where the metric is signed.
        importance: w. "token": t of the token; "sequence": t of the response; "none": 1, a mask alone.
        numerator: p. "old": computed once per rollout; "policy": the policy in training, at every evaluation.
        denominator: q, "behavior" or "old".

    Raises:
        ValueError: an argument out of its range; in `drive` or `reweight`, a batch that lacks one of the two policies,
            pairs, or at every evaluation a mask of tokens for a unit of responses.

    Source: IcePop, Ring-1T (arXiv 2510.18855); MIS and the geometric mask, verl's and SkyRL's rollout corrections; the
    off-policy sequence mask of DeepSeek-V3.2 (arXiv 2512.02556); TRM (arXiv 2512.23075), of which k3 estimates the
    divergences that its guarantee takes from all logits. In all of them a dropped token still counts in the mean.

    >>> import torch, geomalign as ga
    >>> behavior = torch.tensor([[-1.0, -1.0, -1.0]])
    >>> old = behavior + torch.tensor([[0.0, 0.5, -1.0]])
    >>> batch = ga.Batch(old, old, advantage=torch.ones(1), behavior=behavior)
    >>> ga.MaskedImportance(low=0.5, high=5.0).drive(batch)
    tensor([[1.0000, 1.6487, 0.0000]])
    >>> ga.MaskedImportance(level="max", metric="k3", high=0.2, importance="none").drive(batch)
    tensor([0.])
    """

    of: SamplingGeometry = Advantage()
    low: float | None = None
    high: float | None = None
    level: str = "token"
    metric: str = "ratio"
    sign_aware: str = "no"
    importance: str = "token"
    numerator: str = "old"
    denominator: str = "behavior"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, options in (
            ("level", _LEVELS),
            ("metric", _METRICS),
            ("sign_aware", _SIGNS),
            ("importance", _IMPORTANCE),
            ("numerator", _NUMERATORS),
            ("denominator", _DENOMINATORS),
        ):
            one_of(self, name, getattr(self, name), options)
        given = {name: x for name, x in (("low", self.low), ("high", self.high)) if x is not None}
        number(self, "a bound of the metric, or None", **given)
        if not given or (len(given) == 2 and not given["low"] < given["high"]):
            refuse(self, "bounds of a metric, low < high, of which one may be None.", low=self.low, high=self.high)
        if self.numerator == self.denominator:
            refuse(self, "two different policies.", numerator=self.numerator, denominator=self.denominator)
        if self.sign_aware == "outward" and not self._rises:
            refuse(
                self,
                "the metric has no sign, so that no bound lies outward: take ratio, k1, or tv of tokens.",
                metric=self.metric,
                level=self.level,
            )

    @property
    def _rises(self) -> int:
        return _METRICS[self.metric].rises[_LEVELS[self.level].of_responses]

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        return drive if self.numerator == "policy" else self._masked(drive, batch)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.reweight(drive, log_ratio, batch)
        if self.numerator != "policy":
            return drive
        masked = self._masked(drive, batch)
        if masked.ndim != drive.ndim:
            raise ValueError(
                f'{type(self).__name__}(level="{self.level}", importance="{self.importance}") weighs tokens at every '
                "evaluation, but the events are responses. Use unit=Token(), or level and importance of responses."
            )
        return masked

    def _masked(self, drive: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        if not isinstance(batch, Batch):
            raise ValueError(
                f"{type(self).__name__} compares the policies of single responses, but this is a PreferenceBatch: "
                "pass a Batch with a unit of single responses."
            )
        owner, g = type(self).__name__, drive if drive.ndim == 2 else drive[:, None]
        log_p, log_q = (batch.log_probs(name, owner).detach() for name in (self.numerator, self.denominator))
        upper, lower = _SIGNS[self.sign_aware](g, self._rises)

        def inside(d: Tensor) -> Tensor:
            low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
            return ((d <= high) | ~upper) & ((d >= low) | ~lower)

        kept = _LEVELS[self.level].kept(_METRICS[self.metric], log_p, log_q, batch.support, inside)
        masked = torch.where(kept, g * _IMPORTANCE[self.importance][0](log_p, log_q), 0)
        per_response = drive.ndim == 1 and "token" not in (self.level, self.importance)
        return masked[:, 0] if per_response or (drive.ndim == 1 and batch.summed) else masked

    @property
    def locality(self) -> Locality:
        if self.numerator != "policy":
            return self.of.locality
        return max(_LEVELS[self.level].reach, _IMPORTANCE[self.importance][1], self.of.locality)

    def latex(self) -> str:
        low = "" if self.low is None else rf"{self.low:g}\leq "
        high = "" if self.high is None else rf"\leq {self.high:g}"
        mask = rf"1\left[{low}{_METRICS[self.metric].latex}{high}\right]"
        return (
            rf"\operatorname{{sg}}\left[{_IMPORTANCE[self.importance][2]}\,{mask}\right]\left({self.of.latex()}\right)"
        )


@dataclasses.dataclass(frozen=True)
class SecondMomentMask(Transformed):
    """g · t with the tokens of the largest log²t dropped, until the mean of log²t over those that stay is ≤ threshold.

    t = π_old/π_behavior. No bound is set in advance: where the policies agree on average nothing is dropped.

    Args:
        of: the geometry whose drive is masked.
        threshold: of the mean of log²t over the kept tokens of the whole rollout, positive, in nats².
        importance: "token" weighs by t, "sequence" by the product of a response's t, "none" only masks.

    Raises:
        ValueError: a threshold that is not positive, an unknown importance; in `drive`, pairs, or a batch without `old`
            or `behavior`.

    Source: M2PO (arXiv 2510.01161), threshold 0.04. AReaL asks for a mean < threshold and always keeps one token.

    >>> import torch, geomalign as ga
    >>> behavior = torch.tensor([[-1.0, -1.0, -1.0, -1.0]])
    >>> old = behavior + torch.tensor([[0.1, -0.1, 0.3, 2.0]])
    >>> batch = ga.Batch(old, old, advantage=torch.ones(1), behavior=behavior)
    >>> ga.sampling.SecondMomentMask(importance="none").drive(batch)  # (0.01 + 0.01 + 0.09)/3 = 0.037
    tensor([[1., 1., 1., 0.]])
    """

    of: SamplingGeometry = Advantage()
    threshold: float = 0.04
    importance: str = "token"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "of a mean squared log-ratio, in nats²", threshold=self.threshold)
        one_of(self, "importance", self.importance, _IMPORTANCE)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive, rows = self.of.drive(batch), batch.rows
        log_p, log_q = (rows.log_probs(name, type(self).__name__).detach() for name in ("old", "behavior"))
        square = torch.where(rows.support & rows.judged[:, None], (log_p - log_q) ** 2, torch.inf).flatten()
        ascending, order = square.sort()
        mean = ascending.cumsum(0) / torch.arange(1, len(square) + 1, device=square.device)  # it rises
        kept = torch.zeros_like(mean, dtype=torch.bool).scatter(0, order, mean <= self.threshold).view(log_p.shape)
        g = drive if drive.ndim == 2 else drive[:, None]
        return torch.where(kept, g * _IMPORTANCE[self.importance][0](log_p, log_q), 0)

    def latex(self) -> str:
        mask = rf"1\left[\operatorname{{mean}}_{{\mathrm{{kept}}}}\log^2t\leq {self.threshold:g}\right]"
        return (
            rf"\operatorname{{sg}}\left[{_IMPORTANCE[self.importance][2]}\,{mask}\right]\left({self.of.latex()}\right)"
        )
