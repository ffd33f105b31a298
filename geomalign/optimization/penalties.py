"""Divergences as potentials: what pulls a coordinate back to the anchor."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.divergences import CressieRead, Divergence
from geomalign.numerics import Interval
from geomalign.optimization.geometry import BregmanGeometry, factor_latex, positive, within


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
        return within(self.drives, drive, self.beta * numerics.log1p_remainder((-drive / self.beta).clamp(min=-1)))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return -torch.log1p((-drive / self.beta).clamp(min=-1))

    @property
    def drives(self) -> Interval:
        return Interval(-math.inf, self.beta)

    def latex(self, u: str, drive: str) -> str:
        return rf"{factor_latex(self.beta)}\left(e^{{-{u}}}+{u}-1\right)"


class DivergenceGeometry(BregmanGeometry):
    """φ(u) = strength · ψ(1 + u): in the ratio chart an f-divergence from the anchor, with all of the divergence's
    theory.

    ψ is used from the rounding error of 1 + u up to t = e^{L/2}, L = `numerics.limit(dtype)` nats, and goes on as its
    tangent line beyond, so that gradients stay finite and point back into the domain.
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
        return u.clamp(min=math.exp(-_floor(u.dtype)) - 1, max=math.exp(numerics.limit(u.dtype) / 2) - 1)

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
    def drives(self) -> Interval:
        slopes = self.divergence.mirror_range
        return Interval(-math.inf, self.strength * slopes.high)

    def latex(self, u: str, drive: str) -> str:
        return rf"{self.strength:g}\,\psi_{{\mathrm{{{type(self.divergence).__name__}}}}}\left(1+{u}\right)"


@dataclasses.dataclass(frozen=True)
class FDivergence(DivergenceGeometry):
    """φ(u) = μψ(1 + u) for any `Divergence`: the f-divergence penalty read in the ratio.

    Args:
        of: the divergence with generator ψ, such as JensenShannon().
        mu: strength, positive.
    """

    of: Divergence
    mu: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.of, Divergence):
            raise ValueError(f"FDivergence(of={self.of!r}): expected a Divergence instance such as JensenShannon().")
        positive(self, "mu")

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
    """

    order: float
    mu: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.order):
            raise ValueError(f"AlphaDivergence(order={self.order!r}): an exponent is a finite number.")
        positive(self, "mu")

    @property
    def divergence(self) -> Divergence:
        return CressieRead(self.order)

    @property
    def strength(self) -> float:
        return self.mu
