"""Drives that the policy's own probability of the token weighs, without a gradient through the weight."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import finite, non_negative, number, positive, refuse
from geomalign._util.types import Interval
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.advantage import Advantage
from geomalign.sampling.base import Reweighting, SamplingGeometry, is_sampling
from geomalign.sampling.label import Label

__all__ = ["ProbabilityGated", "ProbabilityWeighted"]


def _log_probability(drive: Tensor, batch: Batch | PreferenceBatch, owner: object) -> Tensor:
    """log π of tokens, or summed over responses where the drive is one per response; detached and at most 0."""
    tokens = batch.rows.log_probs("policy", type(owner).__name__).detach()
    return (tokens if drive.ndim == 2 else tokens.sum(-1)).clamp(max=0)


@dataclasses.dataclass(frozen=True)
class ProbabilityWeighted(Reweighting):
    """g · sg[π^power (1 − π)^complement], with the policy's probability π of the token.

    The gradient of −log π is large at tokens that the policy finds improbable, in proportion to 1 − π in the logit of
    the token. The first factor takes weight from those, the second from tokens that are certain already.

    Args:
        of: the geometry whose drive is weighted; `Label()` is supervised learning.
        power: exponent of π, ≥ 0; 0 leaves the factor out.
        complement: exponent of 1 − π, ≥ 0; 0 leaves the factor out.

    Raises:
        ValueError: a negative exponent.

    Source: DFT (arXiv 2508.05629), power 1; CHORD (arXiv 2508.11408), both exponents 1.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.tensor([[0.5, 0.1]]).log(), None)
    >>> ga.sampling.ProbabilityWeighted(complement=1.0).reweight(torch.ones(1, 2), batch.policy, batch)
    tensor([[0.2500, 0.0900]])
    """

    of: SamplingGeometry = Label()
    power: float = 1.0
    complement: float = 0.0
    reads_ratio: ClassVar[bool] = False

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        non_negative(self, "an exponent of a probability", power=self.power, complement=self.complement)

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        log_p = _log_probability(drive, batch, self)
        weight = torch.exp(self.power * log_p) if self.power else torch.ones_like(log_p)
        # expm1 keeps the digits of 1 − π where π is near one.
        return weight * torch.pow(-torch.expm1(log_p), self.complement) if self.complement else weight

    @property
    def drive_range(self) -> Interval:
        inner = self.of.drive_range
        return Interval(min(inner.low, 0.0), max(inner.high, 0.0))

    @property
    def driven(self) -> bool:
        return self.of.driven

    def latex(self) -> str:
        factors = [
            factor if exponent == 1 else rf"{factor}^{{{exponent:g}}}"
            for factor, exponent in ((r"\pi_\theta", self.power), (r"(1-\pi_\theta)", self.complement))
            if exponent
        ]
        return rf"\operatorname{{sg}}\left[{''.join(factors) or '1'}\right]\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class ProbabilityGated(Reweighting):
    """g · sg[clip(scale·(σ(steepness·π) − offset), low, high)], with the policy's probability π of the token.

    The weight rises with π from `low` to `high`.

    Args:
        of: the geometry whose drive is weighted.
        scale: positive, of the logistic function's rise.
        steepness: positive, per unit of probability.
        offset: a finite number, what is subtracted from the logistic function, which lies in [0.5, 1) here.
        low: lower bound of the weight, ≥ 0.
        high: upper bound of the weight, ≥ `low`.

    Raises:
        ValueError: an argument is out of its range.

    Source: TR-GRPO (arXiv 2511.00066).

    >>> import torch, geomalign as ga
    >>> sampling = ga.sampling.ProbabilityGated(ga.Advantage())
    >>> batch = ga.Batch(torch.tensor([[0.05, 0.2, 0.9]]).log(), None, advantage=torch.ones(1, 3))
    >>> sampling.reweight(sampling.drive(batch), batch.policy, batch)
    tensor([[1.0000, 1.2163, 1.4000]])
    """

    of: SamplingGeometry = Advantage()
    scale: float = 2.0
    steepness: float = 9.0
    offset: float = 0.25
    low: float = 1.0
    high: float = 1.4
    reads_ratio: ClassVar[bool] = False

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        positive(self, "of the logistic function", scale=self.scale, steepness=self.steepness)
        finite(self, "subtracted from the logistic function", offset=self.offset)
        number(self, "a bound of a weight", low=self.low, high=self.high)
        if not 0 <= self.low <= self.high < float("inf"):
            refuse(self, "bounds of a weight, 0 ≤ low ≤ high < ∞.", low=self.low, high=self.high)

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        gate = torch.sigmoid(self.steepness * torch.exp(_log_probability(drive, batch, self)))
        return (self.scale * (gate - self.offset)).clamp(self.low, self.high)

    def latex(self) -> str:
        gate = rf"{numerics.latex(self.scale)}\left(\sigma({self.steepness:g}\pi_\theta)-{self.offset:g}\right)"
        clipped = rf"\operatorname{{clip}}\left({gate},{self.low:g},{self.high:g}\right)"
        return rf"\operatorname{{sg}}\left[{clipped}\right]\left({self.of.latex()}\right)"
