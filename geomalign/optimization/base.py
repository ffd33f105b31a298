"""The contract of an optimization geometry, and of one that is decoupled from the drive."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from geomalign._util.types import Interval, Locality
from geomalign.batch import Batch
from geomalign.optimization.roots import limit, root

__all__ = ["BregmanGeometry", "OptimizationGeometry"]

REALS = Interval(-math.inf, math.inf)
STIFFNESS = "a stiffness; for no resistance at all use Flat()"


class OptimizationGeometry(ABC):
    """How deviation from the anchor is penalised: the potential φ(u, g) of an event's coordinate u under its drive g.

    An event's energy is φ(u, g) − g·u. The base contract lets the potential depend on the drive, as clipping does: it
    puts its wall on the side to which the drive pushes. Potentials that do not are `BregmanGeometry`: being one *is*
    the statement that sampling and optimization are orthogonal.

    All methods are elementwise and differentiable, but those of a `GroupGeometry`, whose potential couples the
    responses to one prompt. Geometries of one kind add (`ChiSquare(1.0) + KL(0.1)`) and take
    positive multiples (`0.5 * Logistic(0.1)`).

    >>> import torch, geomalign as ga
    >>> u, drive = torch.tensor([0.1, 0.5]), torch.tensor([1.0, 1.0])
    >>> ga.Clip(0.2, 0.2).force(u, drive), ga.ChiSquare(2.0).force(u, drive)
    (tensor([-1.,  0.]), tensor([-0.8000,  0.0000]))
    """

    constant_force: bool = False
    """Whether the force depends on the drive alone, so that the gradient needs no current coordinate."""

    @property
    def locality(self) -> Locality:
        """What the force on one event needs to know beyond its own coordinate: nothing, but of a `GroupGeometry`."""
        return Locality.ROLLOUT

    def among(self, rows: Batch) -> OptimizationGeometry:
        """The geometry as it acts on the events of these rows; itself, but of a `GroupGeometry`."""
        return self

    @property
    def section(self) -> OptimizationGeometry:
        """The geometry as a function of one coordinate and one drive; itself, but of a `GroupGeometry`."""
        return self

    def curvature_along(self, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
        """The product of the matrix of second derivatives, which is diagonal here, with a direction."""
        return self.curvature(u, drive) * direction

    @abstractmethod
    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        """φ(u, g) − g·u, in the form that does not cancel."""

    @abstractmethod
    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        """∂energy/∂u = ∂φ/∂u − g, in the form that does not cancel."""

    def energy_and_force(self, u: Tensor, drive: Tensor) -> tuple[Tensor, Tensor]:
        """Both together, without gradient; a geometry whose two have a part in common computes it once here.

        The drive has the shape of u, or is one column where all tokens of a row have one drive.
        """
        return self.energy(u, drive), self.force(u, drive)

    @abstractmethod
    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        """∂²φ/∂u²."""

    @abstractmethod
    def conjugate(self, drive: Tensor) -> Tensor:
        """φ*(g) = sup_u g·u − φ(u, g); inf where the energy is unbounded below."""

    @abstractmethod
    def equilibrium(self, drive: Tensor) -> Tensor:
        """A coordinate u* at which the force vanishes; ±inf where it only does in the limit, or never does."""

    @property
    def domain(self) -> Interval:
        """Coordinates u at which the potential is finite; all of them by default. Outside it a potential is continued
        by its tangent line, so that gradients point back.
        """
        return REALS

    @property
    def conjugate_domain(self) -> Interval:
        """Drives for which the energy is bounded below: the domain of the conjugate; all of them by default."""
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
        from geomalign.optimization.algebra import added

        return added(self, other) if isinstance(other, OptimizationGeometry) else NotImplemented

    def __mul__(self, factor: float) -> OptimizationGeometry:
        from geomalign.optimization.algebra import multiplied

        return multiplied(self, factor) if isinstance(factor, (int, float)) else NotImplemented

    __rmul__ = __mul__


class BregmanGeometry(OptimizationGeometry):
    """A potential that ignores the drive: sampling and optimization are decoupled.

    The energy is then a Fenchel–Young loss of a fixed convex φ (Blondel, Martins & Niculae, JMLR 2020): the force is
    φ'(u) − g, the curvature is free of the drive, and up to a constant the energy is the Bregman divergence of u from
    u* = (φ')⁻¹(g).

    Four methods make a geometry: `value`, `mirror`, `curvature` and `latex`. The rest follows, also for a potential
    whose mirror is bounded (log cosh, Huber, softplus): `equilibrium` by a root of the mirror, `conjugate` from the
    equilibrium, `conjugate_domain` from the mirror far out. A member with closed forms overrides these three, and one
    whose φ is infinite somewhere states its `domain`. `ConvexPotential` derives the four from a plain function.
    Methods take the drive of the base contract and ignore it.

    >>> import torch, geomalign as ga
    >>> class PseudoHuber(ga.BregmanGeometry):
    ...     def value(self, u):
    ...         return torch.sqrt(1 + u**2) - 1
    ...     def mirror(self, u, drive=None):
    ...         return u / torch.sqrt(1 + u**2)
    ...     def curvature(self, u, drive=None):
    ...         return (1 + u**2) ** -1.5
    ...     def latex(self, u, drive):
    ...         return f"(1+{u}^2)^{{1/2}}-1"
    >>> drive = torch.tensor([0.0, 0.6, 2.0])
    >>> PseudoHuber().equilibrium(drive), PseudoHuber().conjugate(drive)
    (tensor([0.0000, 0.7500,    inf]), tensor([0.0000, 0.2000,    inf]))
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
        # Where u* is infinite, `finite_on` states the value; a number in place of u* keeps NaN out of the gradient.
        u = torch.where(torch.isfinite(u), u, 0)
        return finite_on(self.conjugate_domain, drive, drive * u - self.value(u))

    def equilibrium(self, drive: Tensor) -> Tensor:
        drives = self.conjugate_domain
        # A bounded mirror approaches its bound and equals it, in floats, from some coordinate on. A few rounding errors
        # inside the bound lies the nearest of these coordinates, where g·u and φ(u) cancel least.
        margin = 8 * torch.finfo(drive.dtype).eps if drives.low < drives.high else 0.0
        low = drives.low + margin * abs(drives.low) if math.isfinite(drives.low) else -math.inf
        high = drives.high - margin * abs(drives.high) if math.isfinite(drives.high) else math.inf
        u = root(self.mirror, drive.clamp(low, high), self.domain, drives)
        return torch.where(drive > drives.high, math.inf, torch.where(drive < drives.low, -math.inf, u))

    @property
    def conjugate_domain(self) -> Interval:
        """The range of the mirror, read off its values up to |u| = 1e9; the whole line where a member is not bounded
        there. Drives outside it have an energy that is unbounded below.
        """
        return Interval(limit(self.mirror, self.domain, -1.0), limit(self.mirror, self.domain, 1.0))


def factor_latex(value: float) -> str:
    """A factor in front of a formula; nothing for 1."""
    return "" if value == 1 else rf"{value:g}\,"


def finite_on(drives: Interval, drive: Tensor, value: Tensor) -> Tensor:
    """`value` where the drive is in the conjugate's domain, inf elsewhere."""
    return torch.where((drive >= drives.low) & (drive <= drives.high), value, float("inf"))
