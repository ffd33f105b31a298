"""Potentials that penalise a distance from the anchor: none, linear, χ², and the two KL divergences."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import check, numerics
from geomalign._util.types import Interval
from geomalign.optimization.base import STIFFNESS, BregmanGeometry, factor_latex, finite_on

__all__ = ["ChiSquare", "Flat", "KL", "Linear", "ReverseKL"]


@dataclasses.dataclass(frozen=True)
class Flat(BregmanGeometry):
    """φ(u) = 0: no resistance, as in REINFORCE. A drive other than 0 pushes without end: φ*(0) = 0, inf elsewhere.

    >>> import torch, geomalign as ga
    >>> ga.Flat().equilibrium(torch.tensor([0.0, 1.0]))
    tensor([0., inf])
    """

    constant_force = True

    def value(self, u: Tensor) -> Tensor:
        return torch.zeros_like(u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return -drive * u

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, torch.zeros_like(drive), torch.sign(drive) * math.inf)

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(0.0, 0.0)

    def latex(self, u: str, drive: str) -> str:
        return "0"


@dataclasses.dataclass(frozen=True)
class Linear(BregmanGeometry):
    """φ(u) = slope·u: a constant push back. In the log-ratio it is the "k1" penalty, whose value estimates KL(π‖π_ref).

    φ*(g) = 0 at g = slope, inf elsewhere.

    Args:
        slope: positive.

    >>> import torch, geomalign as ga
    >>> ga.Linear(0.5).force(torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 0.0]))
    tensor([0.5000, 0.5000])

    Source: Schulman 2020, "Approximating KL divergence" (k1).
    """

    slope: float = 1.0
    constant_force = True

    def __post_init__(self) -> None:
        check.positive(self, STIFFNESS, slope=self.slope)

    def value(self, u: Tensor) -> Tensor:
        return self.slope * u

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.full_like(u, self.slope)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == self.slope, torch.zeros_like(drive), torch.sign(drive - self.slope) * math.inf)

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(self.slope, self.slope)

    def latex(self, u: str, drive: str) -> str:
        return u if self.slope == 1 else rf"{self.slope:g}\,{u}"


@dataclasses.dataclass(frozen=True)
class ChiSquare(BregmanGeometry):
    """φ(u) = μu²/2: constant curvature μ. In the ratio chart Pearson's χ², in the log-ratio what OPO trains.

    u* = g/μ, φ*(g) = g²/2μ.

    Args:
        mu: stiffness, positive. In the literature's u² (IPO, SPPO) it is 2.

    >>> import torch, geomalign as ga
    >>> ga.ChiSquare(2.0).equilibrium(torch.tensor([1.0])), ga.ChiSquare(2.0).conjugate(torch.tensor([1.0]))
    (tensor([0.5000]), tensor([0.2500]))

    Source: OPO (arXiv 2601.12415).
    """

    mu: float = 1.0

    def __post_init__(self) -> None:
        check.positive(self, STIFFNESS, mu=self.mu)

    def value(self, u: Tensor) -> Tensor:
        return 0.5 * self.mu * u**2

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.mu * u

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.full_like(u, self.mu)

    def conjugate(self, drive: Tensor) -> Tensor:
        return drive**2 / (2 * self.mu)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return drive / self.mu

    def latex(self, u: str, drive: str) -> str:
        return f"{u}^2" if self.mu == 2 else rf"\frac{{{self.mu:g}}}{{2}}{u}^2"


@dataclasses.dataclass(frozen=True)
class KL(BregmanGeometry):
    """φ(u) = β((1+u) log(1+u) − u), u ≥ −1: in the ratio chart β·KL(π‖π_k).

    u* = e^{g/β} − 1, φ*(g) = β(e^{g/β} − 1) − g. Below 1 + u = ε, the dtype's rounding error, it is continued by its
    tangent line.

    `AlphaDivergence(1, β)` and `FDivergence(KullbackLeibler(), β)` are the same potential: `KL` is its closed form,
    `AlphaDivergence` the family in which it has order 1, `FDivergence` the way from any `Divergence` to a potential.
    The three agree up to t = e^{L/2}, L = `numerics.limit(dtype)`, where the other two are continued by a line.

    Args:
        beta: strength, positive.

    >>> import torch, geomalign as ga
    >>> u = torch.tensor([-0.5, 1.0])
    >>> [geometry.mirror(u) for geometry in (ga.KL(), ga.AlphaDivergence(1.0), ga.FDivergence(ga.KullbackLeibler()))]
    [tensor([-0.6931,  0.6931]), tensor([-0.6931,  0.6931]), tensor([-0.6931,  0.6931])]

    Source: the penalty of Schulman et al. 2017 (PPO, arXiv 1707.06347) §4 in its non-negative, sampled form.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        check.positive(self, STIFFNESS, beta=self.beta)

    def _inside(self, u: Tensor) -> Tensor:
        return u.clamp(min=math.exp(-rounding_floor(u.dtype)) - 1, max=math.exp(numerics.limit(u.dtype)))

    def value(self, u: Tensor) -> Tensor:
        x = self._inside(u)
        log = torch.log1p(x)
        return self.beta * (numerics.log1p_remainder(x) + log * (u - x))

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.beta * torch.log1p(self._inside(u))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        x = self._inside(u)
        return torch.where(x == u, self.beta / (1 + x), 0)

    def conjugate(self, drive: Tensor) -> Tensor:
        return self.beta * numerics.expm1_remainder(drive / self.beta)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return numerics.expm1(drive / self.beta)

    @property
    def domain(self) -> Interval:
        return Interval(-1.0, math.inf)

    def latex(self, u: str, drive: str) -> str:
        return rf"{factor_latex(self.beta)}\left((1+{u})\log(1+{u})-{u}\right)"


def rounding_floor(dtype: torch.dtype) -> float:
    """Nats below which ratios cannot be told apart, because 1 + u is only known to rounding."""
    return -math.log(torch.finfo(dtype).eps)


@dataclasses.dataclass(frozen=True)
class ReverseKL(BregmanGeometry):
    """φ(u) = β(e^{−u} + u − 1): in the log-ratio the "k3" penalty of GRPO, the Itakura–Saito divergence of π_ref/π
    from 1.

    It grows exponentially where the policy loses probability, linearly where it gains. u* = −log q and
    φ*(g) = β(q log q − q + 1) with q = 1 − g/β, for g ≤ β. Its value estimates KL(π‖π_ref) under samples from the
    policy, but its gradient as a loss is that of the other KL, KL(π_ref‖π).

    Args:
        beta: strength, positive.

    >>> import torch, geomalign as ga
    >>> ga.ReverseKL(1.0).conjugate(torch.tensor([0.5, 2.0]))
    tensor([0.1534,    inf])

    Source: Schulman 2020 ("k3"); Shao et al. 2024 (DeepSeekMath, arXiv 2402.03300) eq. 4.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        check.positive(self, STIFFNESS, beta=self.beta)

    def value(self, u: Tensor) -> Tensor:
        return self.beta * numerics.expm1_remainder(-u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return -self.beta * torch.expm1((-u).clamp(max=numerics.limit(u.dtype)))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.where(-u <= numerics.limit(u.dtype), self.beta * numerics.exp_slope(-u), 0)

    def conjugate(self, drive: Tensor) -> Tensor:
        return finite_on(
            self.conjugate_domain, drive, self.beta * numerics.log1p_remainder((-drive / self.beta).clamp(min=-1))
        )

    def equilibrium(self, drive: Tensor) -> Tensor:
        return -torch.log1p((-drive / self.beta).clamp(min=-1))

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(-math.inf, self.beta)

    def latex(self, u: str, drive: str) -> str:
        return rf"{factor_latex(self.beta)}\left(e^{{-{u}}}+{u}-1\right)"
