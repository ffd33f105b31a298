"""A lower bound of an f-divergence between what is rewarded and what is not, as a potential."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from geomalign._util import check, numerics
from geomalign._util.types import Interval
from geomalign.optimization.base import OptimizationGeometry, finite_on

__all__ = ["VariationalBound"]

LOG_2 = math.log(2)


@dataclasses.dataclass(frozen=True)
class _Side:
    """A function of v = βu that a drive lowers: value, first and second derivative, its infimum and where, formula."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    bend: Callable[[Tensor], Tensor]
    least: float
    least_at: float
    latex: Callable[[str], str]

    def reflected(self) -> _Side:
        """The same function of −v."""
        return _Side(
            value=lambda v: self.value(-v),
            slope=lambda v: -self.slope(-v),
            bend=lambda v: self.bend(-v),
            least=self.least,
            least_at=-self.least_at,
            latex=lambda v: self.latex(f"-{v}"),
        )


def _exp_bend(v: Tensor) -> Tensor:
    """The second derivative of e^v, which is continued as a straight line beyond the limit."""
    return torch.where(v <= numerics.limit(v.dtype), numerics.exp_slope(v), 0)


def _sech_squared(v: Tensor) -> Tensor:
    return 4 * torch.sigmoid(2 * v) * torch.sigmoid(-2 * v)


_LINEAR = _Side(lambda v: v, torch.ones_like, torch.zeros_like, -math.inf, -math.inf, lambda v: v)
_EXPM1 = _Side(numerics.expm1, numerics.exp_slope, _exp_bend, -1.0, -math.inf, lambda v: rf"e^{{{v}}}-1")
_SHIFTED = _Side(
    value=lambda v: numerics.exp(v - 1),
    slope=lambda v: numerics.exp_slope(v - 1),
    bend=lambda v: _exp_bend(v - 1),
    least=0.0,
    least_at=-math.inf,
    latex=lambda v: rf"e^{{{v}-1}}",
)
_SQUARE = _Side(
    value=lambda v: v + v**2 / 4,
    slope=lambda v: 1 + v / 2,
    bend=lambda v: torch.full_like(v, 0.5),
    least=-1.0,
    least_at=-2.0,
    latex=lambda v: rf"{v}+\tfrac14\left({v}\right)^2",
)
_SOFTPLUS = _Side(
    value=lambda v: softplus(v) - LOG_2,
    slope=torch.sigmoid,
    bend=lambda v: torch.sigmoid(v) * torch.sigmoid(-v),
    least=-LOG_2,
    least_at=-math.inf,
    latex=lambda v: rf"\log\tfrac12\left(1+e^{{{v}}}\right)",
)
_TANH = _Side(
    value=lambda v: torch.tanh(v) / 2,
    slope=lambda v: _sech_squared(v) / 2,
    bend=lambda v: -torch.tanh(v) * _sech_squared(v),
    least=-0.5,
    least_at=-math.inf,
    latex=lambda v: rf"\tfrac12\tanh\left({v}\right)",
)

_BOUNDS: dict[str, tuple[_Side, _Side]] = {
    "kl": (_LINEAR.reflected(), _SHIFTED),
    "reverse_kl": (_EXPM1.reflected(), _LINEAR),
    "pearson": (_LINEAR.reflected(), _SQUARE),
    "hellinger": (_EXPM1.reflected(), _EXPM1),
    "jensen_shannon": (_SOFTPLUS.reflected(), _SOFTPLUS),
    "total_variation": (_TANH.reflected(), _TANH),
}
"""A divergence -> what is lowered under a positive drive, −T, and under a negative one, ψ*(T). Of a symmetric one
each is the other's reflection."""


@dataclasses.dataclass(frozen=True)
class VariationalBound(OptimizationGeometry):
    """The energy −g₊ T(βu) + g₋ ψ*(T(βu)), g = g₊ − g₋: minus a lower bound of D_ψ(P⁺‖P⁻), whose critic T is π.

    For every T is D_ψ(P⁺‖P⁻) ≥ E₊ T − E₋ ψ*(T); with P⁺ what has a positive drive and P⁻ what has a negative one the
    energy is the bound's estimate. Its T and ψ*, v = βu:

    | divergence | T | ψ*(T) |
    |---|---|---|
    | "kl" | v | e^{v−1} |
    | "reverse_kl" | 1 − e^{−v} | v |
    | "pearson" | v | v + v²/4 |
    | "hellinger" | 1 − e^{−v} | e^v − 1 |
    | "jensen_shannon" | log 2 − log(1 + e^{−v}) | log(1 + e^v) − log 2 |
    | "total_variation" | ½ tanh v | ½ tanh v |

    At the anchor the force is −βg, but of "kl", which weighs negative drives by 1/e, and of "jensen_shannon" and
    "total_variation", which halve all. Coupled to the drive. "pearson" resists negative drives from v = −2 on; the
    others are least at ±∞. "total_variation" is convex on one side only.

    T and ψ*∘T are composed here, because ψ* of a saturated T has lost its digits; they are those of `ga.divergences`.

    Args:
        divergence: a name of the table.
        beta: β, the scale of the critic in the coordinate, > 0.

    Raises:
        ValueError: a divergence that is not in the table, or a beta that is not positive.

    Source: the bound is that of Nguyen, Wainwright & Jordan 2010 (arXiv 0809.0853); the critics are those of f-GAN
    (Nowozin et al. 2016, arXiv 1606.00709, Table 2), up to constants that move no gradient.

    >>> import torch, geomalign as ga
    >>> potential = ga.optimization.VariationalBound("pearson", beta=0.5)
    >>> potential.force(torch.tensor([0.0, 0.0, -4.0]), torch.tensor([1.0, -1.0, -1.0]))
    tensor([-0.5000,  0.5000,  0.0000])
    """

    divergence: str = "pearson"
    beta: float = 1.0

    def __post_init__(self) -> None:
        check.choose(self, "divergence", self.divergence, _BOUNDS)
        check.positive(self, "the scale of the critic", beta=self.beta)

    def _summed(self, drive: Tensor, raised: Tensor, lowered: Tensor) -> Tensor:
        return drive.clamp(min=0) * raised + (-drive).clamp(min=0) * lowered

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        raised, lowered = _BOUNDS[self.divergence]
        v = self.beta * u
        return self._summed(drive, raised.value(v), lowered.value(v))

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        raised, lowered = _BOUNDS[self.divergence]
        v = self.beta * u
        return self.beta * self._summed(drive, raised.slope(v), lowered.slope(v))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        if drive is None:
            return torch.zeros_like(u)
        raised, lowered = _BOUNDS[self.divergence]
        v = self.beta * u
        return self.beta**2 * self._summed(drive, raised.bend(v), lowered.bend(v))

    def conjugate(self, drive: Tensor) -> Tensor:
        raised, lowered = (-side.least if math.isfinite(side.least) else 0.0 for side in _BOUNDS[self.divergence])
        most = drive.clamp(min=0) * raised + (-drive).clamp(min=0) * lowered
        return finite_on(self.conjugate_domain, drive, most)

    def equilibrium(self, drive: Tensor) -> Tensor:
        raised, lowered = (side.least_at / self.beta for side in _BOUNDS[self.divergence])
        return torch.where(drive > 0, raised, torch.where(drive < 0, lowered, 0.0)).to(drive.dtype)

    @property
    def conjugate_domain(self) -> Interval:
        raised, lowered = _BOUNDS[self.divergence]
        return Interval(0.0 if math.isinf(lowered.least) else -math.inf, 0.0 if math.isinf(raised.least) else math.inf)

    def latex(self, u: str, drive: str) -> str:
        raised, lowered = (
            side.latex(u if self.beta == 1 else rf"{numerics.latex(self.beta)}\,{u}")
            for side in _BOUNDS[self.divergence]
        )
        return rf"{drive}\,{u}+({drive})_+\left({raised}\right)+(-{drive})_+\left({lowered}\right)"
