"""Units: what one event is. A unit is a linear map from the log-ratios of tokens to those of events."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from geomalign.batch import Total
from geomalign.locality import Locality

__all__ = ["MeanSequence", "Pair", "ResponseUnit", "Sequence", "Token", "Unit"]


class Unit(ABC):
    """What one event is: a token, a response, a pair of responses.

    Two linear steps, with the chart between them: `reduce` gathers the tokens of a response into events,
    `combine` compares events across responses. `spread` and `split` are their adjoints, which carry a gradient back.
    """

    needs_tokens: bool = False
    """Whether it needs the single tokens' log-probabilities, not only their sums."""
    paired: bool = False
    """Whether its events are pairs, which only a `PreferenceBatch` has."""

    @property
    @abstractmethod
    def locality(self) -> Locality:
        """How far one event reaches: what must be known before the gradient at one token is."""

    @abstractmethod
    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """`(row, token)` log-ratios (zero where masked) → log-ratios `(row, token)` or `(row,)`."""

    @abstractmethod
    def spread(self, gradient: Tensor, mask: Tensor) -> Tensor:
        """Adjoint of `reduce`: gradient in the reduced log-ratios → gradient in `(row, token)`, zero where masked."""

    @abstractmethod
    def combine(self, u: Tensor) -> Tensor:
        """Coordinates of the responses → coordinates of the events."""

    @abstractmethod
    def split(self, gradient: Tensor, u: Tensor) -> Tensor:
        """Adjoint of `combine` at `u`."""

    @abstractmethod
    def support(self, mask: Tensor) -> Tensor:
        """Booleans in the shape of the events: those that exist."""

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

    @property
    def locality(self) -> Locality:
        return Locality.TOKEN

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens

    def spread(self, gradient: Tensor, mask: Tensor) -> Tensor:
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

    def spread(self, gradient: Tensor, mask: Tensor) -> Tensor:
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

    def spread(self, gradient: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, (gradient / mask.sum(-1).clamp(min=1))[:, None], 0)

    def support(self, mask: Tensor) -> Tensor:
        return mask.any(-1)

    def events(self, total: Total) -> tuple[Tensor, Tensor]:
        return total.sequences, total.sequences

    def latex(self, anchor: str | None) -> str:
        return r"\frac{1}{|y_i|}" + _latex_ratio("y_i", anchor)


@dataclasses.dataclass(frozen=True)
class Pair(Unit):
    """A preferred response against another: u = chart(Δ_chosen) − chart(Δ_rejected) − margin.

    Args:
        of: the unit of one response, `Sequence()` or `MeanSequence()`.
        margin: what the difference must exceed, in units of the chart (SimPO's γ/β).

    Raises:
        ValueError: `of` is not a unit of whole responses.
    """

    of: ResponseUnit = Sequence()
    margin: float = 0.0
    paired = True

    def __post_init__(self) -> None:
        if not isinstance(self.of, ResponseUnit) or self.of.locality is Locality.TOKEN:
            raise ValueError(
                f"Pair compares whole responses, but of={self.of!r}; use Pair(of=Sequence()) or "
                "Pair(of=MeanSequence())."
            )

    @property
    def needs_tokens(self) -> bool:  # type: ignore[override]
        return self.of.needs_tokens

    @property
    def locality(self) -> Locality:
        return Locality.GROUP

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.of.reduce(tokens, mask)

    def spread(self, gradient: Tensor, mask: Tensor) -> Tensor:
        return self.of.spread(gradient, mask)

    def combine(self, u: Tensor) -> Tensor:
        chosen, rejected = u.chunk(2)
        return chosen - rejected - self.margin

    def split(self, gradient: Tensor, u: Tensor) -> Tensor:
        return torch.cat([gradient, -gradient])

    def support(self, mask: Tensor) -> Tensor:
        chosen, rejected = self.of.support(mask).chunk(2)
        return chosen & rejected

    def events(self, total: Total) -> tuple[Tensor, Tensor]:
        return total.pairs, total.pairs

    def latex(self, anchor: str | None) -> str:
        return self.of.latex(anchor)

    def latex_event(self, u: str, coordinate: str) -> str:
        margin = f"-{self.margin:g}" if self.margin else ""
        return rf"{u}=w(y_i^+)-w(y_i^-){margin},\quad w(y_i)={coordinate}"
