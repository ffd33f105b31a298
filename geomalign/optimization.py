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
    "Blend",
    "Box",
    "BregmanGeometry",
    "ChiSquare",
    "Clip",
    "Entropy",
    "FDivergence",
    "Flat",
    "Generator",
    "Hinge",
    "KL",
    "Linear",
    "Logistic",
    "OptimizationGeometry",
    "Proportional",
    "ReverseKL",
    "Reweighted",
    "SoftGate",
    "SquaredHinge",
    "StraightThrough",
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


def _factor(value: float) -> str:
    return "" if value == 1 else rf"{value:g}\,"


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
        return rf"{_factor(self.beta)}\left((1+{u})\log(1+{u})-{u}\right)"


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
        return rf"{_factor(self.beta)}\left(e^{{-{u}}}+{u}-1\right)"


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
        return rf"\log\left(1+e^{{{_factor(self.beta)}{u}}}\right)"


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
        return rf"\max\left(1,{_factor(self.beta)}{u}\right)"


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


_FAR = 1e9
"""Beyond which a user's function is not evaluated: its square and cube must still be numbers."""


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
        # φ' increases: where a plain function overflows to NaN (log cosh u at u = 800) it is beyond every drive.
        def mirror(u: Tensor) -> Tensor:
            slope = self.mirror(u)
            return torch.where(slope.isnan(), torch.sign(u) * math.inf, slope)

        return numerics.solve_increasing(mirror, drive, max(self.low, -_FAR), min(self.high, _FAR))

    @property
    def domain(self) -> Interval:
        return Interval(self.low, self.high)

    @property
    def drives(self) -> Interval:
        """The range of the mirror, told by whether it still moves a long way out."""
        ends = []
        for end, sign in ((self.low, -1.0), (self.high, 1.0)):
            probe = torch.tensor([_FAR, _FAR**0.5], dtype=torch.float64) * sign
            near, far = self.mirror(probe).flip(0).tolist()
            ends.append(near if math.isinf(end) and abs(far - near) < 1e-3 * (1 + abs(near)) else sign * math.inf)
        return Interval(ends[0], ends[1])

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
        return self.high * torch.relu(drive) + self.low * torch.relu(-drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return self.high * (drive > 0).to(drive.dtype) - self.low * (drive < 0).to(drive.dtype)

    @property
    def domain(self) -> Interval:
        return _REALS

    @property
    def drives(self) -> Interval:
        return _REALS

    def latex(self, u: str, drive: str) -> str:
        if self.low == self.high and self.dual is None:
            return rf"|{drive}|\left(\operatorname{{sgn}}({drive})\,{u}-{self.high:g}\right)_+"
        up, down = rf"({drive})_+\left({u}-{self.high:g}\right)_+", rf"(-{drive})_+\left(-{u}-{self.low:g}\right)_+"
        far = "" if self.dual is None else rf"-(-{drive})_+\left({u}-{self.dual - 1:g}\right)_+"
        return f"{up}+{down}{far}"


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


@dataclasses.dataclass(frozen=True)
class Box(BregmanGeometry):
    """φ(u) = 0 on [low, high], infinite outside: nothing resists inside a coordinate that cannot leave the box.

    For the charts and units that are bounded (`Sigmoid`, `Preference`, a log-probability), where it makes the conjugate
    finite: φ*(g) = max(g·low, g·high). A loss that is linear in a bounded coordinate is then a Fenchel–Young loss, and
    the published value of APO and KTO its completed form.

    Args:
        low: infimum of the coordinate; -inf if only the other side is bounded.
        high: supremum.
    """

    low: float = 0.0
    high: float = 1.0
    constant_force = True

    def __post_init__(self) -> None:
        if not self.low < self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise ValueError(
                f"Box(low={self.low!r}, high={self.high!r}): an interval, low < high; for the whole line use Flat()."
            )

    def value(self, u: Tensor) -> Tensor:
        return torch.zeros_like(u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        bound = torch.where(drive > 0, self.high, torch.full_like(drive, self.low))
        return torch.where(drive == 0, 0, drive * bound)

    def equilibrium(self, drive: Tensor) -> Tensor:
        inside = min(max(0.0, self.low), self.high)
        return torch.where(drive > 0, self.high, torch.where(drive < 0, self.low, torch.full_like(drive, inside)))

    @property
    def domain(self) -> Interval:
        return Interval(self.low, self.high)

    @property
    def drives(self) -> Interval:
        return Interval(0.0 if math.isinf(self.low) else -math.inf, 0.0 if math.isinf(self.high) else math.inf)

    def latex(self, u: str, drive: str) -> str:
        return rf"\iota_{{[{self.low:.3g},{self.high:.3g}]}}\left({u}\right)"


@dataclasses.dataclass(frozen=True)
class Entropy(BregmanGeometry):
    """φ(u) = u log u + (1−u) log(1−u), u in [0, 1]: the negative entropy of a preference probability.

    u* = σ(g), φ*(g) = softplus(g); the completed energy is KL(u ‖ σ(g)), the reverse Bernoulli KL of EXO. It is the
    mirror image of `Logistic`: coordinate and drive exchange their parts. Within ε (the dtype's rounding error) of 0
    and 1 it goes on as its tangent line.

    Source: EXO (arXiv 2402.00856) eq. 16; RPO (arXiv 2502.00203).
    """

    def _inside(self, u: Tensor) -> Tensor:
        margin = torch.finfo(u.dtype).eps
        return u.clamp(min=margin, max=1 - margin)

    def value(self, u: Tensor) -> Tensor:
        p = self._inside(u)
        return torch.xlogy(p, p) + torch.special.xlog1py(1 - p, -p) + torch.logit(p) * (u - p)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.logit(self._inside(u))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        p = self._inside(u)
        return torch.where(p == u, 1 / (p * (1 - p)), 0)

    def conjugate(self, drive: Tensor) -> Tensor:
        return torch.nn.functional.softplus(drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.sigmoid(drive)

    @property
    def domain(self) -> Interval:
        return Interval(0.0, 1.0)

    @property
    def drives(self) -> Interval:
        return _REALS

    def latex(self, u: str, drive: str) -> str:
        return rf"{u}\log {u}+(1-{u})\log(1-{u})"


@dataclasses.dataclass(frozen=True)
class SquaredHinge(BregmanGeometry):
    """φ(u) = max(0, 1 − βu)² + 2βu: with the drive 2β the truncated quadratic max(0, 1 − βu)². Curvature 2β² up to u =
    1/β, then none.

    u* = (g/2β)/β for g < 2β; φ*(g) = (g/2β)² − 1 for g ≤ 2β.

    Args:
        beta: reciprocal of the margin, positive.

    Source: GPO (arXiv 2402.05749) table 1.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, "beta")

    def value(self, u: Tensor) -> Tensor:
        return torch.relu(1 - self.beta * u) ** 2 + 2 * self.beta * u

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return 2 * self.beta * (self.beta * u).clamp(max=1)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.where(self.beta * u < 1, 2 * self.beta**2, torch.zeros_like(u))

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return torch.relu(1 - self.beta * u) ** 2 + (2 * self.beta - drive) * u

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return 2 * self.beta - drive - 2 * self.beta * torch.relu(1 - self.beta * u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return _within(self.drives, drive, (drive / (2 * self.beta)) ** 2 - 1)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return drive / (2 * self.beta**2)

    @property
    def domain(self) -> Interval:
        return _REALS

    @property
    def drives(self) -> Interval:
        return Interval(-math.inf, 2 * self.beta)

    def latex(self, u: str, drive: str) -> str:
        return rf"\left(1-{self.beta:g}{u}\right)_+^2+{2 * self.beta:g}{u}"


@dataclasses.dataclass(frozen=True)
class Proportional(OptimizationGeometry):
    """φ(u, g) = |g|·φ_of(u), pulled by g: the resistance grows with the drive, so the drive's size moves no
    equilibrium, only its sign does.

    A per-event weight is the same thing: an energy that is multiplied as a whole (WPO). With ChiSquare(1/ε) in the
    ratio chart it puts the equilibrium at u* = ±ε, where PPO has its walls (CFPO, SPO). Coupled: no `BregmanGeometry`.

    Args:
        of: a decoupled geometry, met with the drive ±1.

    Source: SPO (arXiv 2401.16025); CFPO (arXiv 2601.22801).
    """

    of: BregmanGeometry

    def __post_init__(self) -> None:
        if not isinstance(self.of, BregmanGeometry):
            raise ValueError(
                f"Proportional(of={self.of!r}): expected a BregmanGeometry instance such as ChiSquare(5.0)."
            )

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return drive.abs() * self.of.energy(u, torch.sign(drive))

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return drive.abs() * self.of.force(u, torch.sign(drive))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.of.curvature(u) * (0 if drive is None else drive.abs())

    def conjugate(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, 0, drive.abs() * self.of.conjugate(torch.sign(drive)))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return self.of.equilibrium(torch.sign(drive))

    @property
    def domain(self) -> Interval:
        return self.of.domain

    @property
    def drives(self) -> Interval:
        signs = self.of.drives
        return Interval(-math.inf if signs.low <= -1 else 0.0, math.inf if signs.high >= 1 else 0.0)

    def latex(self, u: str, drive: str) -> str:
        return rf"|{drive}|\left[{self.of.latex(u, drive)}\right]"


@dataclasses.dataclass(frozen=True)
class SoftGate(OptimizationGeometry):
    """φ(u, g) = g·u − g·(4/τ)σ(τu) with τ by the sign of g: the drive fades as a sigmoid's slope where a clip would cut
    it.

    The force is −4gσ(τu)σ(−τu): −g at the anchor, vanishing on both sides; so u never settles, and φ is convex on one
    side only. Coupled.

    Args:
        positive: τ under a positive drive, > 0; the larger, the narrower the gate.
        negative: τ under a drive that is not positive.

    Source: SAPO (arXiv 2511.20347).
    """

    positive: float = 1.0
    negative: float = 1.05

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            _positive(self, name)

    def _temperature(self, drive: Tensor) -> Tensor:
        return torch.where(drive > 0, self.positive, torch.full_like(drive, self.negative))

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        tau = self._temperature(drive)
        return -drive * 4 / tau * torch.sigmoid(tau * u)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        x = self._temperature(drive) * u
        return -4 * drive * torch.sigmoid(x) * torch.sigmoid(-x)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        if drive is None:
            return torch.zeros_like(u)
        tau = self._temperature(drive)
        x = tau * u
        return 4 * drive * tau * torch.sigmoid(x) * torch.sigmoid(-x) * torch.tanh(x / 2)

    def conjugate(self, drive: Tensor) -> Tensor:
        return torch.relu(drive) * 4 / self.positive

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, torch.zeros_like(drive), torch.sign(drive) * math.inf)

    @property
    def domain(self) -> Interval:
        return _REALS

    @property
    def drives(self) -> Interval:
        return _REALS

    def latex(self, u: str, drive: str) -> str:
        return rf"{drive}\left({u}-\frac{{4}}{{\tau}}\sigma\left(\tau {u}\right)\right)"


@dataclasses.dataclass(frozen=True)
class Blend(OptimizationGeometry):
    """φ(u) = (1−s)·softplus(−βu) + s·e^{−βu} with s = σ(βu/τ): logistic on the wrong side of the margin, exponential on
    the right one.

    Found by search over programs. It ignores the drive and is still no `BregmanGeometry`, because it is not convex: for
    τ = 0.05 it has a local minimum at βu = −0.119 and a local maximum at 0.072, between which a pair is pushed the
    wrong way; from τ = 0.2 on it falls everywhere. It is met with the drive 0, where its infimum is 0 at u → ∞; no
    other drive is balanced.

    Args:
        beta: inverse temperature, positive.
        tau: width of the transition, positive.

    Source: DiscoPOP (arXiv 2406.08414) eq. 5.
    """

    beta: float = 0.1
    tau: float = 0.05

    def __post_init__(self) -> None:
        for name in ("beta", "tau"):
            _positive(self, name)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        x = self.beta * u
        exponential = torch.exp((-x).clamp(max=numerics.limit(u.dtype)))
        weight = torch.nn.functional.softplus
        return torch.sigmoid(-x / self.tau) * weight(-x) + torch.sigmoid(x / self.tau) * exponential - drive * u

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        x = self.beta * u
        right, wrong = torch.sigmoid(x / self.tau), torch.sigmoid(-x / self.tau)
        exponential = torch.exp((-x).clamp(max=numerics.limit(u.dtype)))
        inside = torch.where(-x <= numerics.limit(u.dtype), exponential, 0)
        exchange = right * wrong / self.tau * (exponential - torch.nn.functional.softplus(-x))
        return self.beta * (exchange - wrong * torch.sigmoid(-x) - right * inside) - drive

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.func.grad(lambda at: self.force(at, torch.zeros_like(at)).sum())(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return _within(self.drives, drive, torch.zeros_like(drive))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.full_like(drive, math.inf)

    @property
    def domain(self) -> Interval:
        return _REALS

    @property
    def drives(self) -> Interval:
        return Interval(0.0, 0.0)

    def latex(self, u: str, drive: str) -> str:
        x = rf"{self.beta:g}{u}"
        return rf"(1-s)\log\left(1+e^{{-{x}}}\right)+s\,e^{{-{x}}},\ s=\sigma\left({x}/{self.tau:g}\right)"


@dataclasses.dataclass(frozen=True)
class StraightThrough(BregmanGeometry):
    """The value of one potential with the gradient of another: φ_value in the loss, φ'_gradient in the law.

    Which divergence a leash pulls by is decided by its gradient; its value is only reported. Everything but `value` and
    `energy` is `gradient`'s.

    Args:
        shown: the geometry that is reported, such as ReverseKL() (k3).
        gradient: the geometry that acts, such as ChiSquare() (k2).

    Source: the "k3+" option of trainers (verl `kl_penalty`), after Tang & Munos 2025 (arXiv 2506.09477).
    """

    shown: BregmanGeometry
    gradient: BregmanGeometry

    def __post_init__(self) -> None:
        for name in ("shown", "gradient"):
            if not isinstance(getattr(self, name), BregmanGeometry):
                raise ValueError(f"StraightThrough({name}=…): expected a BregmanGeometry instance such as ReverseKL().")

    def value(self, u: Tensor) -> Tensor:
        acting = self.gradient.value(u)
        return self.shown.value(u).detach() + acting - acting.detach()

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.gradient.mirror(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.gradient.curvature(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return self.gradient.conjugate(drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return self.gradient.equilibrium(drive)

    @property
    def domain(self) -> Interval:
        return _intersection((self.shown, self.gradient))

    @property
    def drives(self) -> Interval:
        return self.gradient.drives

    def latex(self, u: str, drive: str) -> str:
        return rf"{self.shown.latex(u, drive)}\ \left[\nabla: {self.gradient.latex(u, drive)}\right]"


@dataclasses.dataclass(frozen=True)
class Reweighted(OptimizationGeometry):
    """energy = w·φ_of(u) whose weight w is the drive and moves with u: ∂energy/∂u = w(φ_of + φ_of').

    An importance-weighted estimate of E_π[φ_of(Δ)] from samples of another policy. The weight w = π/π_old depends on
    the policy as much as Δ does (∂w/∂Δ = w for the log-ratio of a token), and the product rule is what makes the
    gradient that of the expectation. Coupled: the drive is a weight here and not a pull.

    Args:
        of: the geometry whose value is averaged.
        through: whether the gradient passes through the weight. Without, ∂energy/∂u = w·φ_of'.

    Source: DeepSeek-V3.2 (arXiv 2512.02556), "unbiased KL estimate".
    """

    of: BregmanGeometry
    through: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.of, BregmanGeometry):
            raise ValueError(f"Reweighted(of={self.of!r}): expected a BregmanGeometry instance such as ReverseKL().")

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        value = self.of.value(u)
        return drive * (value + self.through * value.detach() * (u - u.detach()))

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return drive * (self.of.mirror(u) + self.through * self.of.value(u))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return (self.of.curvature(u) + self.through * self.of.mirror(u)) * (0 if drive is None else drive)

    def conjugate(self, drive: Tensor) -> Tensor:
        return drive * self.of.conjugate(torch.zeros_like(drive))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return self.of.equilibrium(torch.zeros_like(drive))

    @property
    def domain(self) -> Interval:
        return self.of.domain

    @property
    def drives(self) -> Interval:
        return Interval(0.0, math.inf)

    def latex(self, u: str, drive: str) -> str:
        return rf"{drive}\left[{self.of.latex(u, drive)}+{u}\right]"


@dataclasses.dataclass(frozen=True)
class Linear(BregmanGeometry):
    """φ(u) = slope·u: a constant push back, the "k1" leash. Its value estimates a divergence; its force knows nothing
    of u.

    φ*(g) = 0 at g = slope, inf elsewhere.

    Args:
        slope: positive.
    """

    slope: float = 1.0
    constant_force = True

    def __post_init__(self) -> None:
        _positive(self, "slope")

    def value(self, u: Tensor) -> Tensor:
        return self.slope * u

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.full_like(u, self.slope)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return _within(self.drives, drive, torch.zeros_like(drive))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == self.slope, torch.zeros_like(drive), torch.sign(drive - self.slope) * math.inf)

    @property
    def domain(self) -> Interval:
        return _REALS

    @property
    def drives(self) -> Interval:
        return Interval(self.slope, self.slope)

    def latex(self, u: str, drive: str) -> str:
        return u if self.slope == 1 else rf"{self.slope:g}\,{u}"
