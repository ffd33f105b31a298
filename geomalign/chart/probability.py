"""Charts of probabilities: one that saturates, the log-odds, and the probability itself."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from typing import ClassVar

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import finite, positive, within
from geomalign._util.types import Interval
from geomalign.chart.base import Chart, exponential

__all__ = ["LogOdds", "Probability", "Sigmoid"]


@dataclasses.dataclass(frozen=True)
class Sigmoid(Chart):
    """u = σ(scale·(Δ − shift)) − σ(−scale·shift): the coordinate of a value that saturates on both sides.

    Losses that are sigmoids of a log-ratio (APO, KTO) are linear in this coordinate: their optimization geometry is
    `Flat()`.

    Args:
        scale: β, positive.
        shift: a finite number, the log-ratio at which the slope is largest; KTO's reference point z₀.

    Raises:
        ValueError: a scale that is not positive, or a shift that is not finite.

    >>> import torch, geomalign as ga
    >>> ga.Sigmoid()(torch.tensor([-1e4, 0.0, 1e4]))
    tensor([-0.5000,  0.0000,  0.5000])
    """

    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        positive(self, "so that the chart increases", scale=self.scale)
        finite(self, "a log-ratio", shift=self.shift)

    @property
    def range(self) -> Interval:
        """The values that u can have."""
        # exp overflows a Python float beyond 709.
        at_anchor = 1 / (1 + math.exp(min(self.scale * self.shift, 700.0)))
        return Interval(-at_anchor, 1 - at_anchor)

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return torch.sigmoid(self.scale * (log_ratio - self.shift)) + self.range.low

    def slope(self, log_ratio: Tensor) -> Tensor:
        x = self.scale * (log_ratio - self.shift)
        return self.scale * torch.sigmoid(x) * torch.sigmoid(-x)

    def inverse(self, u: Tensor) -> Tensor:
        return torch.logit(u - self.range.low) / self.scale + self.shift

    def latex(self, log_ratio: str) -> str:
        moved = log_ratio if self.shift == 0 else rf"{log_ratio}-{self.shift:g}"
        return rf"\sigma\left({self.scale:g}\left({moved}\right)\right)-{-self.range.low:.3g}"


@dataclasses.dataclass(frozen=True)
class LogOdds(Chart):
    """u = log(p/(1 − p)), p = e^x, of a log-probability x < 0: for objectives without a reference (anchor=None), ORPO.

    It is not zero at x = 0, as other charts are. Above x = −ε (the dtype's rounding error), where p rounds to one, it
    continues as its tangent line.

    Source: ORPO (arXiv 2403.07691) eq. 4 and 5.

    >>> import torch, geomalign as ga
    >>> ga.chart.LogOdds()(torch.tensor([0.5, 0.75]).log())
    tensor([0.0000, 1.0986])
    """

    def _inside(self, log_ratio: Tensor) -> Tensor:
        return log_ratio.clamp(max=-torch.finfo(log_ratio.dtype).eps)

    def __call__(self, log_ratio: Tensor) -> Tensor:
        x = self._inside(log_ratio)
        failure = -torch.expm1(x)
        return x - torch.log(failure) + (log_ratio - x) / failure.detach()

    def slope(self, log_ratio: Tensor) -> Tensor:
        return -1 / torch.expm1(self._inside(log_ratio))

    def inverse(self, u: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(u)

    def latex(self, log_ratio: str) -> str:
        return rf"\operatorname{{logit}}\left({exponential(log_ratio)}\right)"


@dataclasses.dataclass(frozen=True)
class Probability(Chart):
    """u = π − π_k = π_k(t − 1): the difference of the probabilities, of a token or of a whole response.

    The slope is π. A rare event therefore hardly moves u, whatever its ratio: a wall at |u| = ε, as in `Clip(ε)`,
    bounds the total variation that a sampled token brings, and μ/2 · u² is a squared error of probabilities (Brier).
    Other charts are functions of the log-ratio alone. This one is bound to the anchor's log-probabilities by the
    objective, as potentials of groups are bound to their batch.

    Of whole responses probabilities underflow, below −87 nats in float32 (−708 in float64), and u and its slope are
    zero there: take `Token()`, or `MeanSequence()`, of which π is the geometric mean of a response's tokens.

    Args:
        prior: π_k where no batch says it, in figures and analyses of one event; in (0, 1]. Seen at one π_k it is the
            chart `Ratio()` in other units, and `identify` cannot tell the two apart.

    Raises:
        ValueError: a prior that is no probability.

    >>> import math, torch, geomalign as ga
    >>> common, rare = (torch.tensor(math.log(p)) for p in (0.5, 0.001))
    >>> moved = torch.tensor(math.log(1.5))  # half as much again
    >>> ga.chart.Probability().among(common)(moved), ga.chart.Probability().among(rare)(moved)
    (tensor(0.2500), tensor(0.0005))
    """

    prior: float = 0.5
    needs_anchor = True
    _anchor: ClassVar[Tensor | None] = None

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, "the anchor's probability of an event", ends="(]", prior=self.prior)

    def among(self, anchor: Tensor) -> Probability:
        bound = copy.copy(self)
        object.__setattr__(bound, "_anchor", anchor)  # no field: what is equal stays equal
        return bound

    def _log_prior(self, log_ratio: Tensor) -> Tensor:
        return torch.full_like(log_ratio, math.log(self.prior)) if self._anchor is None else self._anchor

    def __call__(self, log_ratio: Tensor) -> Tensor:
        anchor = self._log_prior(log_ratio)
        # Near the anchor without cancellation; far above it without a ratio that overflows where π does not.
        near = torch.exp(anchor) * numerics.expm1(log_ratio)
        return torch.where(log_ratio < 1, near, numerics.exp(log_ratio + anchor) - torch.exp(anchor))

    def slope(self, log_ratio: Tensor) -> Tensor:
        return numerics.exp_slope(log_ratio + self._log_prior(log_ratio))

    def inverse(self, u: Tensor) -> Tensor:
        return torch.log1p(u * torch.exp(-self._log_prior(u)))

    def latex(self, log_ratio: str) -> str:
        found = _QUOTIENT.fullmatch(log_ratio)
        if found is None:
            return rf"\pi_k\left({exponential(log_ratio)}-1\right)"
        power = "^{1/|y_i|}" if found[1] else ""
        return f"{found[2]}{power}-{found[3]}{power}"


_QUOTIENT = re.compile(r"(\\frac\{1\}\{\|y_i\|\})?\\log\\frac\{(.+\))\}\{(.+\))\}")
"""How a unit writes a log-ratio: the two probabilities."""
