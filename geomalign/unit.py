"""Units: what one event is. A unit is a map, linear in most cases, from the log-ratios of tokens to those of events."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from geomalign.batch import Batch, Total
from geomalign.locality import Locality

__all__ = [
    "Chosen",
    "Clamped",
    "MeanSequence",
    "Offset",
    "Pair",
    "PairUnit",
    "Preference",
    "Rejected",
    "ResponseUnit",
    "Sequence",
    "Shared",
    "SortedPair",
    "Token",
    "TransportedPair",
    "Unit",
]


class Unit(ABC):
    """What one event is: a token, a response, a pair of responses.

    Two linear steps, with the chart between them: `reduce` gathers the tokens of a response into events,
    `combine` compares events across responses. `spread` and `split` are their adjoints, which carry a gradient back.
    """

    needs_tokens: bool = False
    """Whether it needs the single tokens' log-probabilities, not only their sums."""
    paired: bool = False
    """Whether its events are pairs, which only a `PreferenceBatch` has."""
    per_token: bool = False
    """Whether its events are tokens."""
    linear: bool = True
    """Whether `reduce` is linear, so that the way from an event's gradient to its tokens needs no log-probability."""

    @property
    @abstractmethod
    def locality(self) -> Locality:
        """How far one event reaches: what must be known before the gradient at one token is."""

    @abstractmethod
    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """`(row, token)` log-ratios (zero where masked) → log-ratios `(row, token)` or `(row,)`."""

    @abstractmethod
    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Adjoint of `reduce`: gradient in the reduced log-ratios → gradient in `(row, token)`, zero where masked.

        `tokens` are the log-ratios that were reduced; only a unit that is not linear in them (`Clamped`) looks at them.
        """

    @abstractmethod
    def combine(self, u: Tensor) -> Tensor:
        """Coordinates of the responses → coordinates of the events."""

    @abstractmethod
    def split(self, gradient: Tensor, u: Tensor) -> Tensor:
        """Adjoint of `combine` at `u`."""

    @abstractmethod
    def support(self, mask: Tensor) -> Tensor:
        """Booleans in the shape of the events: those that exist."""

    def shift(self, rows: Batch) -> Tensor | float:
        """What is subtracted from the coordinate of every event, without gradient: nothing in most units."""
        return 0.0

    @abstractmethod
    def events(self, total: Total) -> tuple[Tensor, Tensor]:
        """How many events `total` holds, and how many rows they stand in."""

    @abstractmethod
    def latex(self, anchor: str | None) -> str:
        """The log-ratio of one event against the policy written `anchor` (None: no reference)."""

    @abstractmethod
    def latex_event(self, u: str, coordinate: str) -> str:
        """The definition of the event's coordinate `u` from the formula of one response's or token's coordinate."""


class ResponseUnit(Unit):
    """A unit whose events are parts of single responses: nothing is compared across rows."""

    def combine(self, u: Tensor) -> Tensor:
        return u

    def split(self, gradient: Tensor, u: Tensor) -> Tensor:
        return gradient

    def latex_event(self, u: str, coordinate: str) -> str:
        return f"{u}={coordinate}"


def _latex_ratio(events: str, anchor: str | None) -> str:
    return (
        rf"\log\pi_\theta({events})" if anchor is None else rf"\log\frac{{\pi_\theta({events})}}{{{anchor}({events})}}"
    )


@dataclasses.dataclass(frozen=True)
class Token(ResponseUnit):
    """One token: Δ_it = log π(y_it | y_i,<t) − log π_k(y_it | y_i,<t). PPO, GRPO, DAPO."""

    needs_tokens = True
    per_token = True

    @property
    def locality(self) -> Locality:
        return Locality.TOKEN

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return torch.where(mask, gradient, 0)

    def support(self, mask: Tensor) -> Tensor:
        return mask

    def events(self, total: Total) -> tuple[Tensor, Tensor]:
        return total.tokens, total.sequences

    def latex(self, anchor: str | None) -> str:
        return _latex_ratio(r"y_{i,t}\mid y_{i,<t}", anchor)


@dataclasses.dataclass(frozen=True)
class Sequence(ResponseUnit):
    """One response: Δ_i = Σ_t Δ_it, the log-ratio of the whole response's probability."""

    @property
    def locality(self) -> Locality:
        return Locality.SEQUENCE

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens.sum(-1)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return torch.where(mask, gradient[:, None], 0)

    def support(self, mask: Tensor) -> Tensor:
        return mask.any(-1)

    def events(self, total: Total) -> tuple[Tensor, Tensor]:
        return total.sequences, total.sequences

    def latex(self, anchor: str | None) -> str:
        return _latex_ratio("y_i", anchor)


@dataclasses.dataclass(frozen=True)
class MeanSequence(ResponseUnit):
    """One response, length-normalised: Δ_i = (1/|y_i|) Σ_t Δ_it, the log of the geometric mean of its tokens' ratios
    (GSPO).
    """

    needs_tokens = True

    @property
    def locality(self) -> Locality:
        return Locality.SEQUENCE

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens.sum(-1) / mask.sum(-1).clamp(min=1)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return torch.where(mask, (gradient / mask.sum(-1).clamp(min=1))[:, None], 0)

    def support(self, mask: Tensor) -> Tensor:
        return mask.any(-1)

    def events(self, total: Total) -> tuple[Tensor, Tensor]:
        return total.sequences, total.sequences

    def latex(self, anchor: str | None) -> str:
        return r"\frac{1}{|y_i|}" + _latex_ratio("y_i", anchor)


class PairUnit(Unit):
    """A unit with one event a pair, of responses that are gathered by `of`; by default the difference of the two."""

    paired = True
    of: ResponseUnit

    def __post_init__(self) -> None:
        if not isinstance(self.of, ResponseUnit) or self.of.support(torch.ones(1, 1, dtype=torch.bool)).ndim != 1:
            name = type(self).__name__
            raise ValueError(
                f"{name}(of={self.of!r}): a pair compares whole responses; use Sequence() or MeanSequence()."
            )

    @property
    def needs_tokens(self) -> bool:  # type: ignore[override]
        return self.of.needs_tokens

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.of.reduce(tokens, mask)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return self.of.spread(gradient, mask, tokens)

    def combine(self, u: Tensor) -> Tensor:
        chosen, rejected = u.chunk(2)
        return chosen - rejected

    def split(self, gradient: Tensor, u: Tensor) -> Tensor:
        return torch.cat([gradient, -gradient])

    def support(self, mask: Tensor) -> Tensor:
        chosen, rejected = self.of.support(mask).chunk(2)
        return chosen & rejected

    def events(self, total: Total) -> tuple[Tensor, Tensor]:
        return total.pairs, total.pairs

    def latex(self, anchor: str | None) -> str:
        return self.of.latex(anchor)


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


@dataclasses.dataclass(frozen=True)
class Clamped(ResponseUnit):
    """A response whose tokens' log-ratios are clamped before they are gathered: Δ_i = of(clamp(Δ_it, low, high)).

    A clamped token keeps its part in the coordinate and has no gradient (GMPO).

    Args:
        of: the unit of one response.
        low: bound from below, in nats; None for none.
        high: bound from above, in nats; None for none.

    Source: GMPO (arXiv 2507.20673).
    """

    of: ResponseUnit = MeanSequence()
    low: float | None = None
    high: float | None = None
    needs_tokens = True
    linear = False

    def __post_init__(self) -> None:
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        if not low <= 0 <= high:
            raise ValueError(
                f"Clamped(low={self.low!r}, high={self.high!r}): bounds of Δ on both sides of zero, such as ±0.4."
            )

    @property
    def locality(self) -> Locality:
        return self.of.locality

    def _clamp(self, tokens: Tensor) -> Tensor:
        return tokens if self.low is None and self.high is None else tokens.clamp(self.low, self.high)

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.of.reduce(self._clamp(tokens), mask)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        assert tokens is not None, "Clamped is not linear: its adjoint needs the log-ratios"
        clamped = self._clamp(tokens)
        return torch.where(clamped == tokens, self.of.spread(gradient, mask, clamped), 0)

    def support(self, mask: Tensor) -> Tensor:
        return self.of.support(mask)

    def events(self, total: Total) -> tuple[Tensor, Tensor]:
        return self.of.events(total)

    def latex(self, anchor: str | None) -> str:
        low = r"-\infty" if self.low is None else f"{self.low:g}"
        high = r"\infty" if self.high is None else f"{self.high:g}"
        return self.of.latex(anchor) + rf"\Big|_{{\Delta_{{i,t}}\in[{low},{high}]}}"


@dataclasses.dataclass(frozen=True)
class Shared(ResponseUnit):
    """Every token is an event that carries the coordinate of its whole response: Δ_it = Δ_i.

    With a measure over tokens a response then counts by its length, which a plain mean over responses does not
    (LUSPO; "sequence-level importance sampling" under a token average in trainers).

    Args:
        of: the unit of the response whose log-ratio is shared.
    """

    of: ResponseUnit = MeanSequence()
    needs_tokens = True
    per_token = True

    @property
    def locality(self) -> Locality:
        return self.of.locality

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, self.of.reduce(tokens, mask)[:, None], 0)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return self.of.spread(torch.where(mask, gradient, 0).sum(-1), mask, tokens)

    def support(self, mask: Tensor) -> Tensor:
        return mask

    def events(self, total: Total) -> tuple[Tensor, Tensor]:
        return total.tokens, total.sequences

    def latex(self, anchor: str | None) -> str:
        return self.of.latex(anchor)


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
class SortedPair(PairUnit):
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
class TransportedPair(PairUnit):
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


@dataclasses.dataclass(frozen=True)
class Offset(ResponseUnit):
    """A response measured from a fixed level: u = chart(Δ) − origin, with the chart's coordinate moved as a whole.

    Args:
        of: the unit of the response.
        origin: in units of the chart, such as BCO's reward shift δ/β.
    """

    of: ResponseUnit = Sequence()
    origin: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.origin):
            raise ValueError(f"Offset(origin={self.origin!r}): a level is a finite number.")

    @property
    def needs_tokens(self) -> bool:  # type: ignore[override]
        return self.of.needs_tokens

    @property
    def locality(self) -> Locality:
        return self.of.locality

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.of.reduce(tokens, mask)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return self.of.spread(gradient, mask, tokens)

    def support(self, mask: Tensor) -> Tensor:
        return self.of.support(mask)

    def shift(self, rows: Batch) -> Tensor | float:
        return self.origin

    def events(self, total: Total) -> tuple[Tensor, Tensor]:
        return self.of.events(total)

    def latex(self, anchor: str | None) -> str:
        return self.of.latex(anchor)

    def latex_event(self, u: str, coordinate: str) -> str:
        return f"{u}={coordinate}-{self.origin:g}" if self.origin else f"{u}={coordinate}"
