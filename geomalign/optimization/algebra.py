"""The algebra of optimization geometries: sums and positive multiples, written `a + b` and `0.5 * a`."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util import check
from geomalign._util.types import Interval, Locality
from geomalign.batch import Batch
from geomalign.optimization.base import STIFFNESS, BregmanGeometry, OptimizationGeometry
from geomalign.optimization.roots import root

__all__ = ["CoupledSum", "Scaled", "WeightedSum"]


def added(one: OptimizationGeometry, other: OptimizationGeometry) -> OptimizationGeometry:
    """The sum of two geometries, decoupled where both are.

    Raises:
        ValueError: one of them couples the responses of a group.

    >>> import geomalign as ga
    >>> added(ga.ChiSquare(1.0), ga.Clip(0.2, 0.2))
    ChiSquare(mu=1.0) + Clip(low=0.2, high=0.2, dual=None)
    """
    parts = (*_parts(one), *_parts(other))
    coupling = [p for p in parts if p.locality > Locality.ROLLOUT]
    if coupling:
        raise ValueError(
            f"{one!r} + {other!r}: the equilibrium of a sum with {coupling[0]!r}, which couples the responses of "
            "a group, is no root in one number. Add two objectives instead: objective + weight * other."
        )
    if all(isinstance(p, BregmanGeometry) for p in parts):
        return WeightedSum(parts)  # type: ignore[arg-type]
    return CoupledSum(parts)


def multiplied(geometry: OptimizationGeometry, factor: float) -> OptimizationGeometry:
    """A positive multiple of a decoupled geometry.

    Raises:
        ValueError: the geometry is coupled to the drive, or the factor is not positive.

    >>> import geomalign as ga
    >>> multiplied(ga.ChiSquare(1.0), 2)
    2.0 * ChiSquare(mu=1.0)
    """
    if isinstance(geometry, BregmanGeometry):
        return Scaled(geometry, factor if isinstance(factor, float) else float(factor))
    raise ValueError(
        f"{factor} * {geometry!r}: a geometry whose potential depends on the drive has no multiples; scale the drive "
        "or the whole objective instead."
    )


def _parts(geometry: OptimizationGeometry) -> tuple[OptimizationGeometry, ...]:
    return geometry.of if isinstance(geometry, (WeightedSum, CoupledSum)) else (geometry,)


@dataclasses.dataclass(frozen=True, repr=False)
class Scaled(BregmanGeometry):
    """φ(u) = factor · φ_of(u), a positive multiple of a decoupled geometry. Written `factor * geometry`.

    Args:
        of: the geometry.
        factor: positive.

    >>> import torch, geomalign as ga
    >>> (3.0 * ga.ChiSquare(1.0)).equilibrium(torch.tensor([6.0]))
    tensor([2.])
    """

    of: BregmanGeometry
    factor: float

    def __post_init__(self) -> None:
        check.positive(self, STIFFNESS, factor=self.factor)

    @property
    def locality(self) -> Locality:
        return self.of.locality

    def among(self, rows: Batch) -> Scaled:
        return dataclasses.replace(self, of=self.of.among(rows))  # type: ignore[arg-type]

    @property
    def section(self) -> Scaled:
        return dataclasses.replace(self, of=self.of.section)  # type: ignore[arg-type]

    def curvature_along(self, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
        return self.factor * self.of.curvature_along(u, drive, direction)

    def gap(self, u: Tensor, drive: Tensor) -> Tensor:
        return self.factor * self.of.gap(u, drive / self.factor)

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
        drives = self.of.conjugate_domain
        return Interval(self.factor * drives.low, self.factor * drives.high)

    def __repr__(self) -> str:
        of = f"({self.of!r})" if isinstance(self.of, _Sum) else repr(self.of)
        return f"{self.factor!r} * {of}"

    def latex(self, u: str, drive: str) -> str:
        return rf"{self.factor:g}\left[{self.of.latex(u, drive)}\right]"


def intersection(parts: tuple[OptimizationGeometry, ...]) -> Interval:
    """The coordinates at which all of the geometries are finite."""
    return Interval(max(p.domain.low for p in parts), min(p.domain.high for p in parts))


class _Sum(OptimizationGeometry):
    """What sums of decoupled and of coupled geometries share."""

    of: tuple[OptimizationGeometry, ...]

    @property
    def domain(self) -> Interval:
        return intersection(self.of)

    @property
    def conjugate_domain(self) -> Interval:
        drives = [p.conjugate_domain for p in self.of]
        return Interval(sum(d.low for d in drives), sum(d.high for d in drives))

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

    >>> import torch, geomalign as ga
    >>> (ga.ChiSquare(1.0) + ga.ChiSquare(3.0)).equilibrium(torch.tensor([2.0]))
    tensor([0.5000])
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

    The drive pulls once. The equilibrium is a scalar root of the increasing mirror, so it is right for convex
    potentials only.

    Args:
        of: the geometries added.

    >>> import torch, geomalign as ga
    >>> (ga.Clip(0.2, 0.2) + ga.ChiSquare(2.0)).equilibrium(torch.tensor([0.1, 1.0]))
    tensor([0.0500, 0.2000])
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
        return root(lambda u: self.force(u, drive), torch.zeros_like(drive), self.domain, self.conjugate_domain)
