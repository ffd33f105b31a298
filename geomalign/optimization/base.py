"""The contract of an optimization geometry, and its algebra: sums and multiples."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval

__all__ = ["BregmanGeometry", "WeightedSum", "CoupledSum", "Scaled", "OptimizationGeometry"]

REALS = Interval(-math.inf, math.inf)


class OptimizationGeometry(ABC):
    """How deviation from the anchor is penalised: the potential φ(u, g) of an event's coordinate u under its drive g.

    An event's energy is φ(u, g) − g·u. The base contract lets the potential know the drive (clipping does: its walls
    stand where the drive's sign says). Potentials that do not are `BregmanGeometry`: being one *is* the statement
    that sampling and optimization are orthogonal.

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
    def domain(self) -> Interval:
        """Coordinates u at which the potential is finite; all, unless a member says otherwise. Beyond them it goes on
        as its tangent line, so that gradients point back.
        """
        return REALS

    @property
    def conjugate_domain(self) -> Interval:
        """Drives for which the energy is bounded below, the domain of the conjugate; all, unless a member says
        otherwise.
        """
        return REALS

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
            return WeightedSum(parts)  # type: ignore[arg-type]
        return CoupledSum(parts)

    def __mul__(self, factor: float) -> OptimizationGeometry:
        if not isinstance(factor, (int, float)):
            return NotImplemented
        if isinstance(self, BregmanGeometry):
            return Scaled(self, float(factor))
        raise ValueError(
            f"{factor} * {self!r}: the walls of a coupled geometry stand where the drive says; scale the drive or "
            "the objective instead."
        )

    __rmul__ = __mul__


def _parts(geometry: OptimizationGeometry) -> tuple[OptimizationGeometry, ...]:
    return geometry.of if isinstance(geometry, (WeightedSum, CoupledSum)) else (geometry,)


class BregmanGeometry(OptimizationGeometry):
    """A potential that ignores the drive: sampling and optimization are decoupled.

    The energy is then a Fenchel–Young loss of a fixed convex φ (Blondel, Martins & Niculae, JMLR 2020): the force is
    mirror(u) − drive, the curvature is free of the drive, and up to a constant the energy is the Bregman divergence
    of u from u* = (φ')⁻¹(g). A new member states `value`, `mirror`, `curvature` and `latex`; `conjugate` and
    `equilibrium` where it has closed forms, or else they are solved for; `domain` and `drives` where these are not the
    whole line. `ConvexPotential` derives all of it from a plain function. Methods take the drive of the base contract
    and
    ignore it.
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

    def conjugate(self, drive: Tensor) -> Tensor:
        u = self.equilibrium(drive)
        return within(self.conjugate_domain, drive, drive * u - self.value(u))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return numerics.solve_increasing(self.mirror, drive, self.domain.low, self.domain.high)


def positive(geometry: OptimizationGeometry, name: str) -> None:
    value = getattr(geometry, name)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(
            f"{type(geometry).__name__}({name}={value!r}): a stiffness is a positive number; for no resistance at "
            "all use Flat()."
        )


def factor_latex(value: float) -> str:
    return "" if value == 1 else rf"{value:g}\,"


def within(drives: Interval, drive: Tensor, value: Tensor) -> Tensor:
    """`value` where the drive is in the conjugate's domain, inf elsewhere."""
    return torch.where((drive >= drives.low) & (drive <= drives.high), value, float("inf"))


@dataclasses.dataclass(frozen=True, repr=False)
class Scaled(BregmanGeometry):
    """φ(u) = factor · φ_of(u). Written `factor * geometry`.

    Args:
        of: the geometry.
        factor: positive.
    """

    of: BregmanGeometry
    factor: float

    def __post_init__(self) -> None:
        positive(self, "factor")

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
    def conjugate_domain(self) -> Interval:
        return Interval(self.factor * self.of.conjugate_domain.low, self.factor * self.of.conjugate_domain.high)

    def __repr__(self) -> str:
        of = f"({self.of!r})" if isinstance(self.of, _Sum) else repr(self.of)
        return f"{self.factor!r} * {of}"

    def latex(self, u: str, drive: str) -> str:
        return rf"{self.factor:g}\left[{self.of.latex(u, drive)}\right]"


def intersection(parts: tuple[OptimizationGeometry, ...]) -> Interval:
    return Interval(max(p.domain.low for p in parts), min(p.domain.high for p in parts))


class _Sum(OptimizationGeometry):
    """What sums of decoupled and of coupled geometries share."""

    of: tuple[OptimizationGeometry, ...]

    @property
    def domain(self) -> Interval:
        return intersection(self.of)

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(sum(p.conjugate_domain.low for p in self.of), sum(p.conjugate_domain.high for p in self.of))

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.of))

    def latex(self, u: str, drive: str) -> str:
        return "+".join(p.latex(u, drive) for p in self.of if p.latex(u, drive) != "0") or "0"


@dataclasses.dataclass(frozen=True, repr=False)
class WeightedSum(_Sum, BregmanGeometry):
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


@dataclasses.dataclass(frozen=True, repr=False)
class CoupledSum(_Sum):
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
