"""Divergences as potentials: what pulls a coordinate back to the anchor."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval
from geomalign.optimization.base import BregmanGeometry, factor_latex, positive, within

__all__ = ["ChiSquare", "Flat", "KL", "Linear", "ReverseKL"]


@dataclasses.dataclass(frozen=True)
class Flat(BregmanGeometry):
    """φ(u) = 0: nothing resists. REINFORCE. Any non-zero drive pushes for ever: φ*(0) = 0, inf elsewhere."""

    constant_force = True

    def value(self, u: Tensor) -> Tensor:
        return torch.zeros_like(u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return -drive * u

    def conjugate(self, drive: Tensor) -> Tensor:
        return within(self.conjugate_domain, drive, torch.zeros_like(drive))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, torch.zeros_like(drive), torch.sign(drive) * math.inf)

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(0.0, 0.0)

    def latex(self, u: str, drive: str) -> str:
        return "0"


@dataclasses.dataclass(frozen=True)
class Linear(BregmanGeometry):
    """φ(u) = slope·u: a constant push back, the "k1" KL penalty. Its value estimates a divergence; its force knows
    nothing
    of u.

    φ*(g) = 0 at g = slope, inf elsewhere.

    Args:
        slope: positive.
    """

    slope: float = 1.0
    constant_force = True

    def __post_init__(self) -> None:
        positive(self, "slope")

    def value(self, u: Tensor) -> Tensor:
        return self.slope * u

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.full_like(u, self.slope)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return within(self.conjugate_domain, drive, torch.zeros_like(drive))

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

    Source: OPO (arXiv 2601.12415).
    """

    mu: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "mu")

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

    u* = e^{g/β} − 1, φ*(g) = β(e^{g/β} − 1) − g. Below 1 + u = e^{−limit} it goes on as its tangent line (slope
    −β·limit).

    Args:
        beta: strength, positive.

    Source: the penalty of Schulman et al. 2017 (PPO, arXiv 1707.06347) §4 in its non-negative, sampled form.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "beta")

    def _inside(self, u: Tensor) -> Tensor:
        return u.clamp(min=math.exp(-_floor(u.dtype)) - 1, max=math.exp(numerics.limit(u.dtype)))

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


def _floor(dtype: torch.dtype) -> float:
    # 1 + u is only known to rounding, so ratios below it are not told apart.
    return -math.log(torch.finfo(dtype).eps)


@dataclasses.dataclass(frozen=True)
class ReverseKL(BregmanGeometry):
    """φ(u) = β(e^{−u} + u − 1): in the log-ratio the "k3" penalty of GRPO, the Itakura–Saito divergence of π_ref/π
    from 1.

    Exponential where the policy loses probability, linear where it gains. u* = −log q and
    φ*(g) = β(q log q − q + 1) with q = 1 − g/β, for g ≤ β.
    As a loss its gradient is that of the *other* KL, KL(π_ref‖π), under samples from the policy; its value estimates
    KL(π‖π_ref).

    Args:
        beta: strength, positive.

    Source: Schulman 2020 ("k3"); Shao et al. 2024 (DeepSeekMath, arXiv 2402.03300) eq. 4.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "beta")

    def value(self, u: Tensor) -> Tensor:
        return self.beta * numerics.expm1_remainder(-u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return -self.beta * torch.expm1((-u).clamp(max=numerics.limit(u.dtype)))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.where(-u <= numerics.limit(u.dtype), self.beta * numerics.exp_slope(-u), 0)

    def conjugate(self, drive: Tensor) -> Tensor:
        return within(
            self.conjugate_domain, drive, self.beta * numerics.log1p_remainder((-drive / self.beta).clamp(min=-1))
        )

    def equilibrium(self, drive: Tensor) -> Tensor:
        return -torch.log1p((-drive / self.beta).clamp(min=-1))

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(-math.inf, self.beta)

    def latex(self, u: str, drive: str) -> str:
        return rf"{factor_latex(self.beta)}\left(e^{{-{u}}}+{u}-1\right)"
