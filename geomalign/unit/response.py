"""Units of tokens and of responses."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util.types import Locality
from geomalign.batch import Batch, Counts
from geomalign.unit.base import ResponseUnit, latex_ratio

__all__ = ["ClampedTokens", "MeanSequence", "Shifted", "Sequence", "BroadcastSequence", "Token"]


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

    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        return counts.tokens, counts.sequences

    def latex(self, anchor: str | None) -> str:
        return latex_ratio(r"y_{i,t}\mid y_{i,<t}", anchor)


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

    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        return counts.sequences, counts.sequences

    def latex(self, anchor: str | None) -> str:
        return latex_ratio("y_i", anchor)


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

    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        return counts.sequences, counts.sequences

    def latex(self, anchor: str | None) -> str:
        return r"\frac{1}{|y_i|}" + latex_ratio("y_i", anchor)


@dataclasses.dataclass(frozen=True)
class ClampedTokens(ResponseUnit):
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
                f"ClampedTokens(low={self.low!r}, high={self.high!r}): bounds of Δ on both sides of zero, such as ±0.4."
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

    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        return self.of.events(counts)

    def latex(self, anchor: str | None) -> str:
        low = r"-\infty" if self.low is None else f"{self.low:g}"
        high = r"\infty" if self.high is None else f"{self.high:g}"
        return self.of.latex(anchor) + rf"\Big|_{{\Delta_{{i,t}}\in[{low},{high}]}}"


@dataclasses.dataclass(frozen=True)
class BroadcastSequence(ResponseUnit):
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

    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        return counts.tokens, counts.sequences

    def latex(self, anchor: str | None) -> str:
        return self.of.latex(anchor)


@dataclasses.dataclass(frozen=True)
class Shifted(ResponseUnit):
    """A response measured from a fixed level: u = chart(Δ) − origin, with the chart's coordinate moved as a whole.

    Args:
        of: the unit of the response.
        origin: in units of the chart, such as BCO's reward shift δ/β.
    """

    of: ResponseUnit = Sequence()
    origin: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.origin):
            raise ValueError(f"Shifted(origin={self.origin!r}): a level is a finite number.")

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

    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        return self.of.events(counts)

    def latex(self, anchor: str | None) -> str:
        return self.of.latex(anchor)

    def latex_event(self, u: str, coordinate: str) -> str:
        return f"{u}={coordinate}-{self.origin:g}" if self.origin else f"{u}={coordinate}"
