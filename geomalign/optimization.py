"""Optimization geometries: what resists. A potential φ of the event's coordinate, whose second derivative is the
curvature.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.divergences import CressieRead, Divergence
from geomalign.numerics import Interval

__all__ = [
    "AlphaDivergence",
    "BregmanGeometry",
    "ChiSquare",
    "Clip",
    "FDivergence",
    "Flat",
    "Generator",
    "Hinge",
    "KL",
    "Logistic",
    "OptimizationGeometry",
    "ReverseKL",
]

_REALS = Interval(-math.inf, math.inf)


class OptimizationGeometry(ABC):
    """How deviation from the anchor is penalised: the potential φ(u, g) of an event's coordinate u under its drive g.

    An event's energy is φ(u, g) − g·u. The base contract lets the potential know the drive (clipping does: its walls
    stand
    where the drive's sign says). Potentials that do not are `BregmanGeometry`: being one *is* the statement that
    sampling and optimization are orthogonal.

    All methods are elementwise and differentiable. Geometries of one kind add (`ChiSquare(1.0) + KL(0.1)`) and take
    positive multiples (`0.5 * Logistic(0.1)`).
    """

    constant_force: bool = False
    """Whether the force depends on the drive alone, so that the gradient needs no current coordinate."""

    @abstractmethod
    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        """φ(u, g) − g·u, in the form that does not cancel."""

    @abstractmethod
    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        """∂energy/∂u = ∂φ/∂u − g, in the form that does not cancel."""

    @abstractmethod
    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        """∂²φ/∂u²."""

    @abstractmethod
    def conjugate(self, drive: Tensor) -> Tensor:
        """φ*(g) = sup_u g·u − φ(u, g); inf where the energy is unbounded below."""

    @abstractmethod
    def equilibrium(self, drive: Tensor) -> Tensor:
        """A coordinate u* at which the force vanishes; ±inf where it only does in the limit."""

    @property
    @abstractmethod
    def domain(self) -> Interval:
        """Coordinates u at which the potential is finite. Beyond them it goes on as its tangent line, so that
        gradients point back.
        """

    @property
    @abstractmethod
    def drives(self) -> Interval:
        """Drives for which the energy is bounded below: the domain of the conjugate."""

    @abstractmethod
    def latex(self, u: str, drive: str) -> str:
        """The potential as a formula."""

    def potential(self, u: Tensor, drive: Tensor) -> Tensor:
        """φ(u, g)."""
        return self.energy(u, drive) + drive * u

    def mirror(self, u: Tensor, drive: Tensor) -> Tensor:
        """∂φ/∂u."""
        return self.force(u, drive) + drive

    def gap(self, u: Tensor, drive: Tensor) -> Tensor:
        """φ(u, g) + φ*(g) − g·u ≥ 0: the Fenchel–Young loss, zero exactly at equilibrium."""
        return self.energy(u, drive) + self.conjugate(drive)

    def __add__(self, other: OptimizationGeometry) -> OptimizationGeometry:
        if not isinstance(other, OptimizationGeometry):
            return NotImplemented
        parts = (*_parts(self), *_parts(other))
        if all(isinstance(p, BregmanGeometry) for p in parts):
            return BregmanSum(parts)  # type: ignore[arg-type]
        return CoupledSum(parts)

    def __mul__(self, factor: float) -> OptimizationGeometry:
        if not isinstance(factor, (int, float)):
            return NotImplemented
        if isinstance(self, BregmanGeometry):
            return Multiple(self, float(factor))
        raise ValueError(
            f"{factor} * {self!r}: the walls of a coupled geometry stand where the drive says; scale the drive or "
            "the objective instead."
        )

    __rmul__ = __mul__


def _parts(geometry: OptimizationGeometry) -> tuple[OptimizationGeometry, ...]:
    return geometry.of if isinstance(geometry, (BregmanSum, CoupledSum)) else (geometry,)


class BregmanGeometry(OptimizationGeometry):
    """A potential that ignores the drive: sampling and optimization are decoupled.

    The energy is then a Fenchel–Young loss of a fixed convex φ (Blondel, Martins & Niculae, JMLR 2020): the force is
    mirror(u) − drive, the curvature is free of the drive, and up to a constant the energy is the Bregman divergence
    of u from
    u* = (φ')⁻¹(g). A new member states `value`, `mirror`, `curvature`, `conjugate`, `equilibrium`, `domain`, `drives`
    and `latex`;
    `Generator` derives them from a plain function. Methods take the drive of the base contract and ignore it.
    """

    @abstractmethod
    def value(self, u: Tensor) -> Tensor:
        """φ(u)."""

    @abstractmethod
    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        """φ'(u)."""

    @abstractmethod
    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        """φ''(u)."""

    def potential(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.value(u)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return self.value(u) - drive * u

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return self.mirror(u) - drive


def _positive(geometry: OptimizationGeometry, name: str) -> None:
    value = getattr(geometry, name)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(
            f"{type(geometry).__name__}({name}={value!r}): a stiffness is a positive number; for no resistance at "
            "all use Flat()."
        )


def _within(drives: Interval, drive: Tensor, value: Tensor) -> Tensor:
    """`value` where the drive is in the conjugate's domain, inf elsewhere."""
    return torch.where((drive >= drives.low) & (drive <= drives.high), value, float("inf"))


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
        _positive(self, "mu")

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

    @property
    def domain(self) -> Interval:
        return _REALS

    @property
    def drives(self) -> Interval:
        return _REALS

    def latex(self, u: str, drive: str) -> str:
        return rf"\frac{{{self.mu:g}}}{{2}}{u}^2"


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
        _positive(self, "beta")

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

    @property
    def drives(self) -> Interval:
        return _REALS

    def latex(self, u: str, drive: str) -> str:
        return rf"{self.beta:g}\left((1+{u})\log(1+{u})-{u}\right)"


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
        _positive(self, "beta")

    def value(self, u: Tensor) -> Tensor:
        return self.beta * numerics.expm1_remainder(-u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return -self.beta * torch.expm1((-u).clamp(max=numerics.limit(u.dtype)))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.where(-u <= numerics.limit(u.dtype), self.beta * numerics.exp_slope(-u), 0)

    def conjugate(self, drive: Tensor) -> Tensor:
        return _within(self.drives, drive, self.beta * numerics.log1p_remainder((-drive / self.beta).clamp(min=-1)))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return -torch.log1p((-drive / self.beta).clamp(min=-1))

    @property
    def domain(self) -> Interval:
        return _REALS

    @property
    def drives(self) -> Interval:
        return Interval(-math.inf, self.beta)

    def latex(self, u: str, drive: str) -> str:
        return rf"{self.beta:g}\left(e^{{-{u}}}+{u}-1\right)"


class DivergenceGeometry(BregmanGeometry):
    """φ(u) = strength · ψ(1 + u): in the ratio chart an f-divergence from the anchor, with all of the divergence's
    theory.

    ψ is used from the rounding error of 1 + u up to t = e^{L/2}, L = `numerics.limit(dtype)` nats, and goes on as its
    tangent
    line beyond, so that gradients stay finite and point back into the domain.
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
        _positive(self, "mu")

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
        order: the exponent a.
        mu: strength, positive; the curvature at the anchor.
    """

    order: float
    mu: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, "mu")

    @property
    def divergence(self) -> Divergence:
        return CressieRead(self.order)

    @property
    def strength(self) -> float:
        return self.mu


@dataclasses.dataclass(frozen=True)
class Logistic(BregmanGeometry):
    """φ(u) = softplus(βu): the link of DPO. With the drive β it is −log σ(βu).

    φ*(g) = −H(g/β), the negative entropy of a Bernoulli; u* = logit(g/β)/β, infinite for a sure label: it never stops
    pushing,
    at an exponentially vanishing rate. β sets drive and curvature (β²σσ̄) at once.

    Args:
        beta: inverse temperature, positive.

    Source: Rafailov et al. 2023 (DPO, arXiv 2305.18290) eq. 7.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, "beta")

    def value(self, u: Tensor) -> Tensor:
        return torch.nn.functional.softplus(self.beta * u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.beta * torch.sigmoid(self.beta * u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        x = self.beta * u
        return self.beta**2 * torch.sigmoid(x) * torch.sigmoid(-x)

    # softplus(x) − p x with p = g/β is −[p log σ(x) + (1−p) log σ(−x)]: no cancellation where the label is satisfied.
    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        x, p = self.beta * u, drive / self.beta
        logsigmoid = torch.nn.functional.logsigmoid
        return -p * logsigmoid(x) - (1 - p) * logsigmoid(-x)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        x = self.beta * u
        return (self.beta - drive) * torch.sigmoid(x) - drive * torch.sigmoid(-x)

    def conjugate(self, drive: Tensor) -> Tensor:
        p = (drive / self.beta).clamp(0, 1)
        return _within(self.drives, drive, torch.xlogy(p, p) + torch.special.xlog1py(1 - p, -p))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.logit(drive / self.beta) / self.beta

    @property
    def domain(self) -> Interval:
        return _REALS

    @property
    def drives(self) -> Interval:
        return Interval(0.0, self.beta)

    def latex(self, u: str, drive: str) -> str:
        return rf"\log\left(1+e^{{{self.beta:g}{u}}}\right)"


@dataclasses.dataclass(frozen=True)
class Hinge(BregmanGeometry):
    """φ(u) = max(1, βu): with the drive β the hinge loss max(0, 1 − βu). Convex, not strictly; flat on either side of
    u* = 1/β.

    φ*(g) = g/β − 1 on [0, β].

    Args:
        beta: reciprocal of the margin, positive.

    Source: Zhao et al. 2023 (SLiC-HF, arXiv 2305.10425) eq. 2 with δ = 1/β.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, "beta")

    def value(self, u: Tensor) -> Tensor:
        return 1 + torch.relu(self.beta * u - 1)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.where(self.beta * u > 1, self.beta, torch.zeros_like(u))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        x, p = self.beta * u, drive / self.beta
        return p * torch.relu(1 - x) + (1 - p) * (1 + torch.relu(x - 1))

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        x = self.beta * u
        return torch.where(x > 1, self.beta - drive, torch.where(x < 1, -drive, 0))

    def conjugate(self, drive: Tensor) -> Tensor:
        return _within(self.drives, drive, drive / self.beta - 1)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.full_like(drive, 1 / self.beta)

    @property
    def domain(self) -> Interval:
        return _REALS

    @property
    def drives(self) -> Interval:
        return Interval(0.0, self.beta)

    def latex(self, u: str, drive: str) -> str:
        return rf"\max\left(1,{self.beta:g}{u}\right)"


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
        return _within(self.drives, drive, torch.zeros_like(drive))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, torch.zeros_like(drive), torch.sign(drive) * math.inf)

    @property
    def domain(self) -> Interval:
        return _REALS

    @property
    def drives(self) -> Interval:
        return Interval(0.0, 0.0)

    def latex(self, u: str, drive: str) -> str:
        return "0"


@dataclasses.dataclass(frozen=True)
class Generator(BregmanGeometry):
    """φ given as a plain function: its mirror and curvature come from autograd, its equilibrium from a root, its
    conjugate from both.

    Args:
        function: convex φ, elementwise on tensors, made of differentiable torch operations.
        low, high: the domain of φ. Coordinates outside are the user's responsibility: nothing is continued there.

    >>> import torch, geomalign as ga
    >>> quartic = ga.Generator(lambda u: u**4 / 4)
    >>> quartic.mirror(torch.tensor(2.0)), quartic.equilibrium(torch.tensor(8.0))
    (tensor(8.), tensor(2.))
    """

    function: Callable[[Tensor], Tensor]
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(
                f"Generator(function={self.function!r}): expected a function of a tensor, such as lambda u: u**4 / 4."
            )
        probe = torch.tensor([max(self.low, -0.5), min(self.high, 0.5)], dtype=torch.float64)
        value = self.function(probe)
        if not isinstance(value, Tensor) or value.shape != probe.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"Generator(function=…): φ of a tensor of shape (2,) gave {got}; it must act elementwise.")

    def value(self, u: Tensor) -> Tensor:
        return self.function(u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.func.grad(lambda x: self.function(x).sum())(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.func.grad(lambda x: self.mirror(x).sum())(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        u = self.equilibrium(drive)
        return drive * u - self.value(u)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return numerics.solve_increasing(self.mirror, drive, self.low, self.high)

    @property
    def domain(self) -> Interval:
        return Interval(self.low, self.high)

    @property
    def drives(self) -> Interval:
        return _REALS

    def latex(self, u: str, drive: str) -> str:
        return rf"\varphi\left({u}\right)"


@dataclasses.dataclass(frozen=True)
class Multiple(BregmanGeometry):
    """φ(u) = factor · φ_of(u). Written `factor * geometry`.

    Args:
        of: the geometry.
        factor: positive.
    """

    of: BregmanGeometry
    factor: float

    def __post_init__(self) -> None:
        _positive(self, "factor")

    def value(self, u: Tensor) -> Tensor:
        return self.factor * self.of.value(u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.factor * self.of.mirror(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.factor * self.of.curvature(u)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return self.factor * self.of.energy(u, drive / self.factor)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return self.factor * self.of.force(u, drive / self.factor)

    def conjugate(self, drive: Tensor) -> Tensor:
        return self.factor * self.of.conjugate(drive / self.factor)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return self.of.equilibrium(drive / self.factor)

    @property
    def domain(self) -> Interval:
        return self.of.domain

    @property
    def drives(self) -> Interval:
        return Interval(self.factor * self.of.drives.low, self.factor * self.of.drives.high)

    def latex(self, u: str, drive: str) -> str:
        return rf"{self.factor:g}\left[{self.of.latex(u, drive)}\right]"


def _intersection(parts: tuple[OptimizationGeometry, ...]) -> Interval:
    return Interval(max(p.domain.low for p in parts), min(p.domain.high for p in parts))


@dataclasses.dataclass(frozen=True)
class BregmanSum(BregmanGeometry):
    """φ(u) = Σ φ_k(u), the sum of decoupled geometries, itself decoupled. Written `a + b`. Its equilibrium is a
    scalar root.

    Args:
        of: the geometries added.
    """

    of: tuple[BregmanGeometry, ...]

    def value(self, u: Tensor) -> Tensor:
        return sum((p.value(u) for p in self.of[1:]), self.of[0].value(u))

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return sum((p.mirror(u) for p in self.of[1:]), self.of[0].mirror(u))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return sum((p.curvature(u) for p in self.of[1:]), self.of[0].curvature(u))

    def conjugate(self, drive: Tensor) -> Tensor:
        u = self.equilibrium(drive)
        return _within(self.drives, drive, drive * u - self.value(u))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return numerics.solve_increasing(self.mirror, drive, self.domain.low, self.domain.high)

    @property
    def domain(self) -> Interval:
        return _intersection(self.of)

    @property
    def drives(self) -> Interval:
        return Interval(sum(p.drives.low for p in self.of), sum(p.drives.high for p in self.of))

    def latex(self, u: str, drive: str) -> str:
        return "+".join(p.latex(u, drive) for p in self.of if not isinstance(p, Flat)) or "0"


@dataclasses.dataclass(frozen=True)
class Clip(OptimizationGeometry):
    """φ(u, g) = |g|·relu(sgn(g)·u − ε_sgn(g)): free until the drive has moved u by ε, then exactly as strong as the
    drive.

    In the ratio chart −min(tA, clip(t, 1−low, 1+high)·A) up to the constant −A. It needs the drive's sign and size:
    coupled, and
    no `BregmanGeometry`. Its energy is −g·clip(u) with the bound on the side that g pushes to; the force is −g
    inside, 0 beyond.

    Args:
        low: how far u may fall under a negative drive, ≥ 0.
        high: how far u may rise under a positive drive, ≥ 0.
        dual: bound t ≤ dual of the *ratio* (u ≤ dual − 1) under a negative drive as well, beyond which the loss
            is constant:
            the dual clip, also called two-sided. None: none.

    Source: Schulman et al. 2017 (PPO, arXiv 1707.06347) eq. 7; `low` ≠ `high`: DAPO (arXiv 2503.14476); dual: Ye
        et al. 2020 (arXiv 1912.09729) eq. 5.
    """

    low: float = 0.2
    high: float = 0.2
    dual: float | None = None

    def __post_init__(self) -> None:
        if not (self.low >= 0 and self.high >= 0):
            raise ValueError(
                f"Clip(low={self.low!r}, high={self.high!r}): distances from the anchor, so not negative; low=0.2 "
                "bounds the ratio by 0.8."
            )
        if self.dual is not None and not self.dual > 1 + self.high:
            raise ValueError(
                f"Clip(dual={self.dual!r}): a bound of the ratio beyond 1 + high = {1 + self.high:g}; published "
                "values are 2 to 10."
            )

    def _clipped(self, u: Tensor, drive: Tensor) -> Tensor:
        far = math.inf if self.dual is None else self.dual - 1
        return torch.where(drive >= 0, u.clamp(max=self.high), u.clamp(min=-self.low, max=far))

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return -drive * self._clipped(u, drive)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return torch.where(self._clipped(u, drive) == u, -drive, 0)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return drive * torch.where(drive >= 0, self.high, -self.low)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive > 0, self.high, torch.where(drive < 0, -self.low, torch.zeros_like(drive)))

    @property
    def domain(self) -> Interval:
        return _REALS

    @property
    def drives(self) -> Interval:
        return _REALS

    def latex(self, u: str, drive: str) -> str:
        wall = f"{self.high:g}" if self.low == self.high else rf"\epsilon_{{\operatorname{{sgn}}{drive}}}"
        return rf"|{drive}|\left(\operatorname{{sgn}}({drive})\,{u}-{wall}\right)_+"


@dataclasses.dataclass(frozen=True)
class CoupledSum(OptimizationGeometry):
    """φ(u, g) = Σ φ_k(u, g) where one of the parts is coupled to the drive. Written `a + b`: `Clip() + KL(0.1)`.

    The drive pulls once. The equilibrium is found for convex potentials only, by a scalar root of the increasing
    mirror.

    Args:
        of: the geometries added.
    """

    of: tuple[OptimizationGeometry, ...]

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        # The first part carries −g·u; the others resist without being driven.
        return sum((p.potential(u, drive) for p in self.of[1:]), self.of[0].energy(u, drive))

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return sum((p.mirror(u, drive) for p in self.of[1:]), self.of[0].force(u, drive))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return sum((p.curvature(u, drive) for p in self.of[1:]), self.of[0].curvature(u, drive))

    def conjugate(self, drive: Tensor) -> Tensor:
        return -self.energy(self.equilibrium(drive), drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return numerics.solve_increasing(
            lambda u: self.force(u, drive), torch.zeros_like(drive), self.domain.low, self.domain.high
        )

    @property
    def domain(self) -> Interval:
        return _intersection(self.of)

    @property
    def drives(self) -> Interval:
        return Interval(sum(p.drives.low for p in self.of), sum(p.drives.high for p in self.of))

    def latex(self, u: str, drive: str) -> str:
        return "+".join(p.latex(u, drive) for p in self.of if not isinstance(p, Flat)) or "0"
