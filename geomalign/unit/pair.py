"""Units of two responses to one prompt, or of one of the two."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from geomalign._util.check import finite, positive
from geomalign._util.types import Locality
from geomalign.batch import Batch
from geomalign.unit.base import PairUnit, ResponseUnit
from geomalign.unit.response import Sequence

__all__ = ["Chosen", "Pair", "PreferenceProbability", "QuantileMargin", "QuantilePair", "Rejected"]


class _Difference(PairUnit):
    """A pair as the difference of its two coordinates."""

    def combine(self, u: Tensor) -> Tensor:
        chosen, rejected = u.chunk(2)
        return chosen - rejected

    def split(self, gradient: Tensor, u: Tensor) -> Tensor:
        return torch.cat([gradient, -gradient])


@dataclasses.dataclass(frozen=True)
class Pair(_Difference):
    """A preferred response against another: u = chart(Δ_chosen) − chart(Δ_rejected) − margin.

    Shape: events are `(pair,)`.

    Args:
        of: the unit of one response, `Sequence()` or `MeanSequence()`.
        margin: a finite number that the difference must exceed, in units of the chart (SimPO's γ/β).

    Raises:
        ValueError: `of` is not a unit of whole responses, or the margin is not finite.

    >>> import torch, geomalign as ga
    >>> ga.Pair(margin=0.5).combine(torch.tensor([3.0, 2.0, 1.0, 1.0]))  # two chosen, then two rejected responses
    tensor([1.5000, 0.5000])
    """

    of: ResponseUnit = Sequence()
    margin: float = 0.0

    def __post_init__(self) -> None:
        PairUnit.__post_init__(self)
        finite(self, "in units of the chart", margin=self.margin)

    def combine(self, u: Tensor) -> Tensor:
        return super().combine(u) - self.margin

    def latex_event(self, u: str, coordinate: str) -> str:
        margin = f"-{self.margin:g}" if self.margin else ""
        return rf"{u}=w(y_i^+)-w(y_i^-){margin},\quad w(y_i)={coordinate}"


class _Side(PairUnit):
    """One response of each pair by itself, u = chart(Δ of that side); the other one gets no gradient."""

    _side: ClassVar[int]
    _sign: ClassVar[str]

    @property
    def locality(self) -> Locality:
        return self.of.locality

    def combine(self, u: Tensor) -> Tensor:
        return u.chunk(2)[self._side]

    def split(self, gradient: Tensor, u: Tensor) -> Tensor:
        sides = [torch.zeros_like(gradient), torch.zeros_like(gradient)]
        sides[self._side] = gradient
        return torch.cat(sides)

    def latex_event(self, u: str, coordinate: str) -> str:
        return rf"{u}=w(y_i^{self._sign}),\quad w(y_i)={coordinate}"


@dataclasses.dataclass(frozen=True)
class Chosen(_Side):
    """The preferred response of a pair by itself: u = chart(Δ_chosen). NCA, and the likelihood term of ORPO and CPO.

    Shape: events are `(pair,)`.

    Args:
        of: the unit of one response.

    >>> import torch, geomalign as ga
    >>> ga.Chosen().combine(torch.tensor([3.0, 2.0, 1.0, 1.0]))
    tensor([3., 2.])
    """

    of: ResponseUnit = Sequence()
    _side: ClassVar[int] = 0
    _sign: ClassVar[str] = "+"


@dataclasses.dataclass(frozen=True)
class Rejected(_Side):
    """The other response of a pair by itself: u = chart(Δ_rejected).

    Shape: events are `(pair,)`.

    Args:
        of: the unit of one response.

    >>> import torch, geomalign as ga
    >>> ga.Rejected().combine(torch.tensor([3.0, 2.0, 1.0, 1.0]))
    tensor([1., 1.])
    """

    of: ResponseUnit = Sequence()
    _side: ClassVar[int] = 1
    _sign: ClassVar[str] = "-"


@dataclasses.dataclass(frozen=True)
class PreferenceProbability(PairUnit):
    """u = σ(beta · (chart(Δ_chosen) − chart(Δ_rejected))), the probability that the policy prefers the chosen response.

    Losses that are not convex in the margin are convex in this coordinate: EXO is a Fenchel–Young loss of the negative
    entropy, Savage's loss one of a square.

    Shape: events are `(pair,)`, in (0, 1).

    Args:
        of: the unit of one response.
        beta: inverse temperature, positive.

    Raises:
        ValueError: `of` is not a unit of whole responses, or beta is not positive.

    >>> import torch, geomalign as ga
    >>> ga.PreferenceProbability(beta=1.0).combine(torch.tensor([1.0, 1.0]))
    tensor([0.5000])
    """

    of: ResponseUnit = Sequence()
    beta: float = 1.0

    def __post_init__(self) -> None:
        PairUnit.__post_init__(self)
        positive(self, "an inverse temperature", beta=self.beta)

    def combine(self, u: Tensor) -> Tensor:
        chosen, rejected = u.chunk(2)
        return torch.sigmoid(self.beta * (chosen - rejected))

    def split(self, gradient: Tensor, u: Tensor) -> Tensor:
        chosen, rejected = u.chunk(2)
        x = self.beta * (chosen - rejected)
        slope = self.beta * torch.sigmoid(x) * torch.sigmoid(-x) * gradient
        return torch.cat([slope, -slope])

    def latex_event(self, u: str, coordinate: str) -> str:
        return rf"{u}=\sigma\left({self.beta:g}\left(w(y_i^+)-w(y_i^-)\right)\right),\quad w(y_i)={coordinate}"


@dataclasses.dataclass(frozen=True)
class QuantilePair(PairUnit):
    """u = sort(chart(Δ_chosen)) − sort(chart(Δ_rejected)): responses of equal rank in the batch are compared.

    The distribution of the chosen responses is pushed above that of the rejected ones, by optimal transport in one
    dimension, so that it does not matter how they were paired. The event of row i is its chosen response against the
    rejected one of equal rank. Ranks belong to one batch: its parts cannot be evaluated apart. A pair that lacks a
    response has no rank and stands behind the last, at +∞.

    Shape: events are `(pair,)`.

    Args:
        of: the unit of one response.

    Source: AOT, unpaired (arXiv 2406.05882).

    >>> import torch, geomalign as ga
    >>> ga.unit.QuantilePair().combine(torch.tensor([3.0, 2.0, 0.0, 1.0]))  # 3 against 1, 2 against 0
    tensor([2., 2.])
    """

    of: ResponseUnit = Sequence()

    @property
    def locality(self) -> Locality:
        return Locality.BATCH

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return torch.where(self.support(mask).repeat(2), self.of.reduce(tokens, mask), math.inf)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return self.of.spread(torch.where(self.support(mask).repeat(2), gradient, 0), mask, tokens)

    @staticmethod
    def _partner(chosen: Tensor, rejected: Tensor) -> Tensor:
        """Which rejected response has the rank of each chosen one."""
        rank = torch.argsort(torch.argsort(chosen, stable=True))
        return torch.argsort(rejected, stable=True)[rank]

    def combine(self, u: Tensor) -> Tensor:
        chosen, rejected = u.chunk(2)
        return chosen - rejected[self._partner(chosen, rejected)]

    def split(self, gradient: Tensor, u: Tensor) -> Tensor:
        partner = self._partner(*u.chunk(2))
        return torch.cat([gradient, torch.zeros_like(gradient).scatter(0, partner, -gradient)])

    def latex_event(self, u: str, coordinate: str) -> str:
        return rf"{u}=w(y^+)_{{(i)}}-w(y^-)_{{(i)}},\quad w(y_i)={coordinate}"


@dataclasses.dataclass(frozen=True)
class QuantileMargin(_Difference):
    """u_i = m_i − m^ref_(rank of m_i), m = log π(y⁺) − log π(y⁻): the margin against the reference's of equal rank.

    The distribution of the policy's margins is pushed above that of the reference's, without saying which pair should
    rise by how much. It is meant for the chart `LogRatio()`. Ranks belong to one batch.

    Shape: events are `(pair,)`.

    Args:
        of: the unit of one response.

    Source: AOT, paired (arXiv 2406.05882).

    >>> import torch, geomalign as ga
    >>> zero = torch.zeros(2, 1)
    >>> pairs = ga.PreferenceBatch(torch.tensor([[1.0], [2.0]]), zero, torch.tensor([[5.0], [4.0]]), zero)
    >>> ga.unit.QuantileMargin().shift(pairs.rows)  # the reference's margins, sorted as the policy's
    tensor([-1.,  1.])
    """

    of: ResponseUnit = Sequence()

    @property
    def locality(self) -> Locality:
        return Locality.BATCH

    def shift(self, rows: Batch) -> Tensor:
        mask = rows.support
        with torch.no_grad():
            whole = self.support(mask)  # pairs that lack a response have no rank and stand behind the last
            policy, reference = (
                self.combine(self.of.reduce(rows.log_probs(name, type(self).__name__), mask)).where(whole, math.inf)
                for name in ("policy", "reference")
            )
            matched = torch.zeros_like(reference).scatter(
                0, torch.argsort(policy, stable=True), torch.sort(reference).values
            )
            return matched - reference

    def latex_event(self, u: str, coordinate: str) -> str:
        moved = r"\left(m^{\mathrm{ref}}_{(i)}-m^{\mathrm{ref}}_i\right)"
        return rf"{u}=w(y_i^+)-w(y_i^-)-{moved},\quad w(y_i)={coordinate}"
