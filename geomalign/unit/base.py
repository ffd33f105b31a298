"""The contract of a unit, of a unit whose events are in single responses, and of a unit that compares two responses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomalign._util.check import refuse
from geomalign._util.types import Locality
from geomalign.batch import Batch, Counts

__all__ = ["PairUnit", "ResponseUnit", "Unit"]


class Unit(ABC):
    """What one event is: a token, a response, a pair of responses.

    A unit is two maps with the chart between them: `reduce` gathers the tokens of a response into events, `combine`
    compares events across responses. `spread` and `split` are their adjoints, which carry a gradient back; by default
    autograd computes them. Units of one's own derive from `ResponseUnit` or `PairUnit`.

    >>> import torch, geomalign as ga
    >>> isinstance(ga.Token(), ga.Unit), ga.Sequence().reduce(torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool))
    (True, tensor([3., 3.]))
    """

    needs_tokens: bool = True
    """Whether it needs the log-probabilities of the single tokens, and not only their sums."""
    paired: bool = False
    """Whether its events are pairs, which only a `PreferenceBatch` has."""
    per_token: bool = False
    """Whether its events are tokens."""
    linear: bool = True
    """Whether `reduce` is linear, so that its adjoint is the same at all log-ratios."""
    observes: bool = False
    """Whether its events are made of the tokens of the environment, `Batch.observed`, instead of the response's."""
    margin: float = 0.0
    """What is subtracted from the difference between the two responses of a pair; 0 in most units."""

    @property
    def locality(self) -> Locality:
        """How far one event reaches, that is what must be known before the gradient at one token is; at most BATCH."""
        return Locality.BATCH

    def view(self, batch: Any) -> Any:
        """The batch whose `support` is the tokens that events are made of: the batch itself in most units."""
        return batch

    @abstractmethod
    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """`(row, token)` log-ratios (zero where masked) → log-ratios `(row, token)` or `(row,)`."""

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Adjoint of `reduce`: gradient in the reduced log-ratios → gradient in `(row, token)`, zero where masked.

        `tokens` are the log-ratios that were reduced; only a unit that is not linear in them (`ClampedTokens`) needs
        them.
        """
        assert tokens is not None or self.linear, f"the adjoint of {self!r}, which is not linear, needs the log-ratios"
        at = torch.zeros(mask.shape, dtype=gradient.dtype, device=mask.device) if tokens is None else tokens
        return torch.where(mask, _adjoint(lambda x: self.reduce(x, mask), at, gradient), 0)

    @abstractmethod
    def combine(self, u: Tensor) -> Tensor:
        """Coordinates of the responses → coordinates of the events."""

    def split(self, gradient: Tensor, u: Tensor) -> Tensor:
        """Adjoint of `combine` at `u`."""
        return _adjoint(self.combine, u, gradient)

    @abstractmethod
    def support(self, mask: Tensor) -> Tensor:
        """Booleans in the shape of the events: those that exist."""

    def shift(self, rows: Batch) -> Tensor | float:
        """What is subtracted from the coordinate of every event, without gradient: nothing in most units."""
        return 0.0

    @abstractmethod
    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        """How many events `counts` holds, and how many rows have one."""

    @abstractmethod
    def latex(self, anchor: str | None) -> str:
        """The log-ratio of one event against the policy written `anchor` (None: no reference)."""

    @abstractmethod
    def latex_event(self, u: str, coordinate: str) -> str:
        """The definition of the event's coordinate `u` from the formula of one response's or token's coordinate."""


class ResponseUnit(Unit):
    """A unit whose events are responses, or with `per_token = True` their tokens; rows are not compared.

    A unit of one's own states `reduce` alone; a `spread` in closed form saves an evaluation:

    >>> import geomalign as ga
    >>> class Discounted(ga.ResponseUnit):
    ...     def reduce(self, tokens, mask):
    ...         return (tokens * 0.9 ** mask.cumsum(-1)).sum(-1)
    >>> ga.laws.check_unit(Discounted())
    """

    @property
    def locality(self) -> Locality:
        return Locality.SEQUENCE

    def combine(self, u: Tensor) -> Tensor:
        return u

    def split(self, gradient: Tensor, u: Tensor) -> Tensor:
        return gradient

    def support(self, mask: Tensor) -> Tensor:
        return mask if self.per_token else mask.sum(-1) > 0

    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        return counts.tokens if self.per_token else counts.sequences, counts.sequences

    def latex(self, anchor: str | None) -> str:
        ratio = latex_ratio(r"y_{i,t}\mid y_{i,<t}", anchor)
        return rf"\operatorname{{{type(self).__name__}}}_t\left({ratio}\right)"

    def latex_event(self, u: str, coordinate: str) -> str:
        return f"{u}={coordinate}"


class Gathered(Unit):
    """A unit that gathers the tokens of a response as another unit, `of`, does.

    >>> import geomalign as ga
    >>> ga.Pair(of=ga.MeanSequence()).needs_tokens, ga.Pair().needs_tokens
    (True, False)
    """

    of: ResponseUnit

    @property
    def needs_tokens(self) -> bool:  # type: ignore[override]
        return self.of.needs_tokens

    @property
    def linear(self) -> bool:  # type: ignore[override]
        return self.of.linear

    @property
    def locality(self) -> Locality:
        return self.of.locality

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.of.reduce(tokens, mask)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return self.of.spread(gradient, mask, tokens)

    def support(self, mask: Tensor) -> Tensor:
        return self.of.support(mask)

    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        return self.of.events(counts)

    def latex(self, anchor: str | None) -> str:
        return self.of.latex(anchor)


class PairUnit(Gathered):
    """A unit with one event per pair, of two whole responses that are gathered by `of`.

    A unit of one's own states `of` and `combine`, which gets the coordinates of the chosen responses and behind them
    those of the rejected ones; a `split` in closed form saves an evaluation:

    >>> import dataclasses, torch, geomalign as ga
    >>> @dataclasses.dataclass(frozen=True)
    ... class Softened(ga.PairUnit):
    ...     of: ga.ResponseUnit = ga.Sequence()
    ...     def combine(self, u):
    ...         chosen, rejected = u.chunk(2)
    ...         return torch.asinh(chosen - rejected)
    >>> ga.laws.check_unit(Softened())

    Raises:
        ValueError: `of` is missing, or its events are not whole responses.
    """

    paired = True

    def __init__(self) -> None:  # of a class that is no dataclass
        self.__post_init__()

    def __post_init__(self) -> None:
        if not hasattr(self, "of"):
            why = "a PairUnit needs a field `of`, the unit of one response: `of: ga.ResponseUnit = ga.Sequence()`."
            refuse(self, why)
        if not isinstance(self.of, ResponseUnit) or self.of.support(torch.ones(1, 1, dtype=torch.bool)).ndim != 1:
            refuse(self, "a pair compares whole responses; use Sequence() or MeanSequence().", of=self.of)

    @property
    def locality(self) -> Locality:
        return Locality.GROUP

    def support(self, mask: Tensor) -> Tensor:
        chosen, rejected = self.of.support(mask).chunk(2)
        return chosen & rejected

    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        return counts.pairs, counts.pairs

    def latex_event(self, u: str, coordinate: str) -> str:
        pair = rf"\operatorname{{{type(self).__name__}}}\left(w(y_i^+),w(y_i^-)\right)"
        return rf"{u}={pair},\quad w(y_i)={coordinate}"


def latex_ratio(events: str, anchor: str | None) -> str:
    """The log-ratio of `events` against the policy written `anchor` as a formula; their log-probability without one.

    >>> print(latex_ratio("y_i", None))
    \\log\\pi_\\theta(y_i)
    """
    if anchor is None:
        return rf"\log\pi_\theta({events})"
    return rf"\log\frac{{\pi_\theta({events})}}{{{anchor}({events})}}"


def _adjoint(function: Callable[[Tensor], Tensor], at: Tensor, gradient: Tensor) -> Tensor:
    """The transposed derivative of the function, applied to a gradient; also where autograd is switched off."""
    pulled: Tensor = torch.func.vjp(function, at)[1](gradient)[0]
    return pulled
