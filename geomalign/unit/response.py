"""Units of tokens and of responses."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util.check import finite, number, refuse
from geomalign._util.types import Locality
from geomalign.batch import Batch, Counts
from geomalign.unit.base import Gathered, ResponseUnit, latex_ratio

__all__ = ["BroadcastSequence", "ClampedTokens", "MeanSequence", "Sequence", "Shifted", "Token"]


@dataclasses.dataclass(frozen=True)
class Token(ResponseUnit):
    """One token: Δ_it = log π(y_it | y_i,<t) − log π_k(y_it | y_i,<t). PPO, GRPO, DAPO.

    Shape: events are `(row, token)`.

    >>> import torch, geomalign as ga
    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> ga.Token().spread(torch.ones(2, 2), mask)
    tensor([[1., 1.],
            [1., 0.]])
    """

    per_token = True

    @property
    def locality(self) -> Locality:
        return Locality.TOKEN

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return torch.where(mask, gradient, 0)

    def latex(self, anchor: str | None) -> str:
        return latex_ratio(r"y_{i,t}\mid y_{i,<t}", anchor)


@dataclasses.dataclass(frozen=True)
class Sequence(ResponseUnit):
    """One response: Δ_i = Σ_t Δ_it, the log-ratio of the whole response's probability.

    Shape: events are `(row,)`.

    >>> import torch, geomalign as ga
    >>> ga.Sequence().reduce(torch.tensor([[1.0, 2.0]]), torch.tensor([[True, True]]))
    tensor([3.])
    """

    needs_tokens = False

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens.sum(-1)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return torch.where(mask, gradient[:, None], 0)

    def latex(self, anchor: str | None) -> str:
        return latex_ratio("y_i", anchor)


@dataclasses.dataclass(frozen=True)
class MeanSequence(ResponseUnit):
    """One response, length-normalised: Δ_i = (1/|y_i|) Σ_t Δ_it, the log of the geometric mean of its tokens' ratios.

    Shape: events are `(row,)`. Source: GSPO (arXiv 2507.18071).

    >>> import torch, geomalign as ga
    >>> ga.MeanSequence().reduce(torch.tensor([[1.0, 2.0]]), torch.tensor([[True, True]]))
    tensor([1.5000])
    """

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens.sum(-1) / mask.sum(-1).clamp(min=1)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return torch.where(mask, (gradient / mask.sum(-1).clamp(min=1))[:, None], 0)

    def latex(self, anchor: str | None) -> str:
        return r"\frac{1}{|y_i|}" + latex_ratio("y_i", anchor)


@dataclasses.dataclass(frozen=True)
class ClampedTokens(Gathered, ResponseUnit):
    """A response whose tokens' log-ratios are clamped before they are gathered: Δ_i = of(clamp(Δ_it, low, high)).

    A clamped token keeps its part in the coordinate and has no gradient.

    Args:
        of: the unit of one response.
        low: bound from below in nats, ≤ 0; None for no bound.
        high: bound from above in nats, ≥ 0; None for no bound.

    Raises:
        ValueError: bounds that are not low ≤ 0 ≤ high.

    Source: GMPO (arXiv 2507.20673).

    >>> import torch, geomalign as ga
    >>> unit = ga.unit.ClampedTokens(low=-0.4, high=0.4)
    >>> unit.reduce(torch.tensor([[0.2, 2.0]]), torch.tensor([[True, True]]))
    tensor([0.3000])
    """

    of: ResponseUnit = MeanSequence()
    low: float | None = None
    high: float | None = None
    needs_tokens = True
    linear = False

    def __post_init__(self) -> None:
        number(self, "or None", low=self.low or 0.0, high=self.high or 0.0)
        if not (self.low is None or self.low <= 0) or not (self.high is None or self.high >= 0):
            refuse(self, "bounds of Δ, low ≤ 0 ≤ high, such as ±0.4.", low=self.low, high=self.high)

    def _clamp(self, tokens: Tensor) -> Tensor:
        return tokens if self.low is None and self.high is None else tokens.clamp(self.low, self.high)

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.of.reduce(self._clamp(tokens), mask)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        assert tokens is not None, "ClampedTokens is not linear: its adjoint needs the log-ratios"
        clamped = self._clamp(tokens)
        return torch.where(clamped == tokens, self.of.spread(gradient, mask, clamped), 0)

    def latex(self, anchor: str | None) -> str:
        low = r"-\infty" if self.low is None else f"{self.low:g}"
        high = r"\infty" if self.high is None else f"{self.high:g}"
        return self.of.latex(anchor) + rf"\Big|_{{\Delta_{{i,t}}\in[{low},{high}]}}"


@dataclasses.dataclass(frozen=True)
class BroadcastSequence(Gathered, ResponseUnit):
    """Every token is an event and has the log-ratio of its whole response: Δ_it = Δ_i (LUSPO, GSPO-token).

    Under a measure over tokens a response then counts by its length, which it does not under a mean over responses.
    Trainers call this sequence-level importance sampling with a token average.

    Shape: events are `(row, token)`.

    Args:
        of: the unit of the response whose log-ratio its tokens get.

    >>> import torch, geomalign as ga
    >>> ga.unit.BroadcastSequence().reduce(torch.tensor([[1.0, 2.0]]), torch.tensor([[True, True]]))
    tensor([[1.5000, 1.5000]])
    """

    of: ResponseUnit = MeanSequence()
    needs_tokens = True
    per_token = True

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, self.of.reduce(tokens, mask)[:, None], 0)

    def spread(self, gradient: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
        return self.of.spread(torch.where(mask, gradient, 0).sum(-1), mask, tokens)

    def support(self, mask: Tensor) -> Tensor:
        return mask

    def events(self, counts: Counts) -> tuple[Tensor, Tensor]:
        return counts.tokens, counts.sequences


@dataclasses.dataclass(frozen=True)
class Shifted(Gathered, ResponseUnit):
    """A unit measured from a fixed level: u = chart(Δ) − origin.

    Args:
        of: the unit that is shifted.
        origin: a finite number in units of the chart, such as BCO's reward shift δ/β.

    Raises:
        ValueError: an origin that is not finite.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), reward=torch.ones(2))
    >>> shifted = ga.Objective(unit=ga.unit.Shifted(origin=0.5), sampling=ga.Advantage(), optimization=ga.ChiSquare())
    >>> shifted(batch).u
    tensor([-0.5000, -0.5000])
    """

    of: ResponseUnit = Sequence()
    origin: float = 0.0

    def __post_init__(self) -> None:
        finite(self, "in units of the chart", origin=self.origin)

    @property
    def per_token(self) -> bool:  # type: ignore[override]
        return self.of.per_token

    def shift(self, rows: Batch) -> Tensor | float:
        return self.origin

    def latex_event(self, u: str, coordinate: str) -> str:
        return f"{u}={coordinate}-{self.origin:g}" if self.origin else f"{u}={coordinate}"
