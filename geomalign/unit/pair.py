"""Units of two responses to one prompt, or of one of the two."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from geomalign._util.types import Locality
from geomalign.batch import Batch
from geomalign.unit.base import PairUnit, ResponseUnit
from geomalign.unit.response import Sequence

__all__ = ["Chosen", "Pair", "Preference", "Rejected", "QuantilePair", "QuantileMargin"]


@dataclasses.dataclass(frozen=True)
class Pair(PairUnit):
    """A preferred response against another: u = chart(Δ_chosen) − chart(Δ_rejected) − margin.

    Args:
        of: the unit of one response, `Sequence()` or `MeanSequence()`.
        margin: what the difference must exceed, in units of the chart (SimPO's γ/β).

    Raises:
        ValueError: `of` is not a unit of whole responses.
    """

    of: ResponseUnit = Sequence()
    margin: float = 0.0

    @property
    def locality(self) -> Locality:
        return Locality.GROUP

    def __post_init__(self) -> None:
        PairUnit.__post_init__(self)
        if not math.isfinite(self.margin):
            raise ValueError(f"Pair(margin={self.margin!r}): a margin is a finite number.")

    def combine(self, u: Tensor) -> Tensor:
        return super().combine(u) - self.margin

    def latex_event(self, u: str, coordinate: str) -> str:
        margin = f"-{self.margin:g}" if self.margin else ""
        return rf"{u}=w(y_i^+)-w(y_i^-){margin},\quad w(y_i)={coordinate}"


class _Side(PairUnit):
    """One response of each pair by itself, u = chart(Δ of that side); the other gets no gradient."""

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
    """The preferred response of a pair by itself: u = chart(Δ_chosen). A term on the chosen side alone (NCA, ORPO's and
    CPO's likelihood).

    Args:
        of: the unit of one response.
    """

    of: ResponseUnit = Sequence()
    _side: ClassVar[int] = 0
    _sign: ClassVar[str] = "+"


@dataclasses.dataclass(frozen=True)
class Rejected(_Side):
    """The other response of a pair by itself: u = chart(Δ_rejected).

    Args:
        of: the unit of one response.
    """

    of: ResponseUnit = Sequence()
    _side: ClassVar[int] = 1
    _sign: ClassVar[str] = "-"


@dataclasses.dataclass(frozen=True)
class Preference(PairUnit):
    """The probability that the policy prefers the chosen response: u = σ(beta · (chart(Δ_chosen) − chart(Δ_rejected)))
    in (0, 1).

    In this coordinate the losses that are not convex in the margin are: EXO is a Fenchel–Young loss of the negative
    entropy, Savage's of a square.

    Args:
        of: the unit of one response.
        beta: inverse temperature, positive.
    """

    of: ResponseUnit = Sequence()
    beta: float = 1.0

    def __post_init__(self) -> None:
        PairUnit.__post_init__(self)
        if not 0 < self.beta < math.inf:
            raise ValueError(f"Preference(beta={self.beta!r}): an inverse temperature is positive.")

    @property
    def locality(self) -> Locality:
        return Locality.GROUP

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
    """Chosen against rejected responses of equal rank in the batch, u = sort(chart(Δ_chosen)) −
    sort(chart(Δ_rejected)): optimal transport in one dimension.

    The chosen responses as a distribution are pushed above the rejected ones as a distribution, so pairing does not
    matter (AOT, unpaired). The event of row i is its chosen response against the rejected one of equal rank. Ranks
    belong to one batch: parts of it are not evaluated apart. A pair that lacks a response has no rank: it stands behind
    the last, at +inf.

    Args:
        of: the unit of one response.

    Source: AOT (arXiv 2406.05882).
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
class QuantileMargin(PairUnit):
    """The policy's margin against the reference's margin of equal rank: u_i = m_i − m^ref_(rank of m_i), m = log π(y⁺)
    − log π(y⁻).

    The policy's margins as a distribution are pushed above the reference's as a distribution, without saying which pair
    should rise by how much (AOT, paired). To be used with the chart LogRatio(). Ranks belong to one batch.

    Args:
        of: the unit of one response.

    Source: AOT (arXiv 2406.05882).
    """

    of: ResponseUnit = Sequence()

    @property
    def locality(self) -> Locality:
        return Locality.BATCH

    def shift(self, rows: Batch) -> Tensor:
        mask = rows.support
        with torch.no_grad():
            whole = self.support(mask)  # the others have no rank: they stand behind the last
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
