"""Any f-divergence from the anchor as a potential, read in the ratio."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod

import torch
from torch import Tensor

from geomalign._util import check, numerics
from geomalign._util.types import Interval
from geomalign.divergences import CressieRead, Divergence
from geomalign.optimization.base import STIFFNESS, BregmanGeometry, factor_latex
from geomalign.optimization.penalties import rounding_floor

__all__ = ["AlphaDivergence", "DivergenceGeometry", "FDivergence"]


class DivergenceGeometry(BregmanGeometry):
    """φ(u) = strength · ψ(1 + u): in the ratio chart an f-divergence from the anchor, with all of the divergence's
    theory.

    ψ is used from the rounding error of 1 + u up to t = e^{L/2}, L = `numerics.limit(dtype)` nats, and continued by its
    tangent line outside, so that gradients stay finite and point back into the domain. A member states `divergence`
    and `strength`.

    >>> import torch, geomalign as ga
    >>> isinstance(ga.FDivergence(ga.JensenShannon()), DivergenceGeometry)
    True
    """

    @property
    @abstractmethod
    def divergence(self) -> Divergence:
        """The divergence whose generator is ψ."""

    @property
    @abstractmethod
    def strength(self) -> float:
        """What ψ is multiplied by."""

    def _inside(self, u: Tensor) -> Tensor:
        return u.clamp(min=math.exp(-rounding_floor(u.dtype)) - 1, max=math.exp(numerics.limit(u.dtype) / 2) - 1)

    def value(self, u: Tensor) -> Tensor:
        x = self._inside(u)
        log_ratio = torch.log1p(x)
        return self.strength * (self.divergence.penalty(log_ratio) + self.divergence.coordinate(log_ratio) * (u - x))

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.strength * self.divergence.coordinate(torch.log1p(self._inside(u)))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        x = self._inside(u)
        return torch.where(x == u, self.strength * self.divergence.curvature(1 + x), 0)

    def conjugate(self, drive: Tensor) -> Tensor:
        return self.strength * self.divergence.conjugate(drive / self.strength) - drive

    def equilibrium(self, drive: Tensor) -> Tensor:
        return self.divergence.inverse_mirror(drive / self.strength) - 1

    @property
    def domain(self) -> Interval:
        return Interval(-1.0, math.inf)

    @property
    def conjugate_domain(self) -> Interval:
        slopes = self.divergence.mirror_range
        return Interval(-math.inf, self.strength * slopes.high)

    def latex(self, u: str, drive: str) -> str:
        return rf"{factor_latex(self.strength)}\psi\left(1+{u}\right)\ \left[\psi(t)={self.divergence.latex()}\right]"


@dataclasses.dataclass(frozen=True)
class FDivergence(DivergenceGeometry):
    """φ(u) = μψ(1 + u) for any `Divergence`: the f-divergence penalty read in the ratio.

    With `CressieRead(a)` it is `AlphaDivergence(a)`, with `KullbackLeibler()` also `KL()`, which has the closed form.

    Args:
        of: the divergence with generator ψ, such as JensenShannon().
        mu: strength, positive.

    >>> import torch, geomalign as ga
    >>> ga.FDivergence(ga.SquaredHellinger(), 2.0).mirror(torch.tensor([0.0, 3.0]))
    tensor([-0., 2.])
    """

    of: Divergence
    mu: float = 1.0

    def __post_init__(self) -> None:
        check.instance(self, "of", self.of, Divergence, "JensenShannon()")
        check.positive(self, STIFFNESS, mu=self.mu)

    @property
    def divergence(self) -> Divergence:
        return self.of

    @property
    def strength(self) -> float:
        return self.mu


@dataclasses.dataclass(frozen=True)
class AlphaDivergence(DivergenceGeometry):
    """φ(u) = μ (t^a − at + a − 1)/(a(a−1)), t = 1 + u, a = order: Amari's α, the Cressie–Read family.

    Order 2 is Pearson's χ² on t ≥ 0, orders 1 and 0 (as limits) the two KLs, 1/2 Hellinger, −1 Neyman's χ².

    Args:
        order: the exponent a, any finite number.
        mu: strength, positive; the curvature at the anchor.

    >>> import torch, geomalign as ga
    >>> ga.AlphaDivergence(2.0, 0.5).mirror(torch.tensor([0.0, 3.0]))
    tensor([0.0000, 1.5000])
    """

    order: float
    mu: float = 1.0

    def __post_init__(self) -> None:
        check.finite(self, "the exponent a", order=self.order)
        check.positive(self, STIFFNESS, mu=self.mu)

    @property
    def divergence(self) -> Divergence:
        return CressieRead(self.order)

    @property
    def strength(self) -> float:
        return self.mu
