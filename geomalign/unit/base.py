"""The contract of a unit, of one that sees responses alone, and of one that compares two."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from geomalign._util.types import Locality
from geomalign.batch import Batch, Counts

__all__ = ["PairUnit", "ResponseUnit", "Unit"]


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

        `tokens` are the log-ratios that were reduced; only a unit that is not linear in them (`ClampedTokens`) looks
        at them.
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
    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        """How many events `counts` holds, and how many rows they stand in."""

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

    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        return counts.pairs, counts.pairs

    def latex(self, anchor: str | None) -> str:
        return self.of.latex(anchor)


def latex_ratio(events: str, anchor: str | None) -> str:
    return (
        rf"\log\pi_\theta({events})" if anchor is None else rf"\log\frac{{\pi_\theta({events})}}{{{anchor}({events})}}"
    )
