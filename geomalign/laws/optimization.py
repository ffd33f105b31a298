"""Laws of optimization geometries."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomalign.laws.checking import POINTS, check, equal, gradient_of, holds, law
from geomalign.optimization import BregmanGeometry, OptimizationGeometry

_DRIVES = torch.tensor([-1.7321, -0.8415, -0.2419, -0.0312, 0.0271, 0.3679, 0.9093, 1.4142], dtype=torch.float64)


def _coordinates(geometry: OptimizationGeometry) -> Tensor:
    points = torch.cat([POINTS, torch.tensor([-0.9511, -0.5403], dtype=torch.float64)]).sort().values
    low, high = geometry.domain.low, geometry.domain.high
    return points[(points > low) & (points < high)]


def _admissible(geometry: OptimizationGeometry) -> Tensor:
    """Drives inside the conjugate's domain, and its finite ends."""
    low, high = geometry.conjugate_domain.low, geometry.conjugate_domain.high
    drives = _DRIVES
    if math.isfinite(low) and math.isfinite(high):
        return torch.linspace(low, high, 9, dtype=torch.float64)
    if math.isfinite(high):
        return high - (drives - drives.max()).abs() - 0.01
    return drives[drives > low]


def _cross(u: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    return u[:, None].expand(-1, len(g)).contiguous(), g[None].expand(len(u), -1).contiguous()


def check_optimization(geometry: OptimizationGeometry) -> None:
    """All laws of an `OptimizationGeometry`. Raises `LawViolation`."""
    check("optimization", geometry)


@law("optimization")
def energy_is_potential_less_work(geometry: OptimizationGeometry) -> None:
    """energy(u, g) = φ(u, g) − g·u, and force = mirror − g."""
    u, g = _cross(_coordinates(geometry), _DRIVES)
    equal(geometry.energy(u, g), geometry.potential(u, g) - g * u, f"{geometry!r}: energy is not potential − drive·u")
    equal(geometry.force(u, g), geometry.mirror(u, g) - g, f"{geometry!r}: force is not mirror − drive")


@law("optimization")
def force_is_the_derivative_of_energy(geometry: OptimizationGeometry) -> None:
    """force = ∂energy/∂u, by autograd."""
    u, g = _cross(_coordinates(geometry), _DRIVES)
    by_autograd = gradient_of(lambda x: geometry.energy(x, g), u)
    equal(geometry.force(u, g), by_autograd, f"{geometry!r}: force is not the derivative of energy")


@law("optimization")
def curvature_is_the_derivative_of_mirror(geometry: OptimizationGeometry) -> None:
    """curvature = ∂mirror/∂u, by autograd."""
    u, g = _cross(_coordinates(geometry), _DRIVES)
    by_autograd = gradient_of(lambda x: geometry.mirror(x, g), u)
    equal(geometry.curvature(u, g), by_autograd, f"{geometry!r}: curvature is not the derivative of mirror")


@law("optimization")
def a_bregman_potential_ignores_the_drive(geometry: OptimizationGeometry) -> None:
    """φ, φ' and φ'' of a `BregmanGeometry` are the same at every drive: decoupling."""
    if not isinstance(geometry, BregmanGeometry):
        return
    u, g = _cross(_coordinates(geometry), _DRIVES)
    name = f"{geometry!r} is a BregmanGeometry, but the drive changes its"
    equal(geometry.potential(u, g), geometry.value(u), f"{name} potential")
    equal(geometry.mirror(u, g), geometry.mirror(u), f"{name} mirror")
    equal(geometry.curvature(u, g), geometry.curvature(u), f"{name} curvature")


@law("optimization")
def the_potential_is_convex(geometry: OptimizationGeometry) -> None:
    """The mirror of a `BregmanGeometry` increases with u, and its curvature is not negative."""
    if not isinstance(geometry, BregmanGeometry):
        return
    u = _coordinates(geometry)
    holds(geometry.mirror(u).diff() >= -1e-12, f"{geometry!r}: the mirror decreases somewhere, so φ is not convex")
    holds(geometry.curvature(u) >= -1e-12, f"{geometry!r}: negative curvature")


@law("optimization")
def the_gap_is_a_fenchel_young_loss(geometry: OptimizationGeometry) -> None:
    """φ(u) + φ*(g) − g·u ≥ 0, and zero at the equilibrium where that is finite."""
    u, g = _cross(_coordinates(geometry), _admissible(geometry))
    holds(geometry.gap(u, g) >= -1e-9, f"{geometry!r}: a negative Fenchel–Young gap")
    drive = _admissible(geometry)
    equilibrium = geometry.equilibrium(drive)
    finite = torch.isfinite(equilibrium)
    gap = geometry.gap(equilibrium[finite], drive[finite])
    equal(gap, torch.zeros_like(gap), f"{geometry!r}: the gap at equilibrium is not zero", atol=1e-8)


@law("optimization")
def the_force_changes_sign_at_equilibrium(geometry: OptimizationGeometry) -> None:
    """force ≤ 0 just below u* and ≥ 0 just above: energy has its minimum there."""
    drive = _admissible(geometry)
    u = geometry.equilibrium(drive)
    inside = torch.isfinite(u) & (u > geometry.domain.low) & (u < geometry.domain.high)
    u, drive = u[inside], drive[inside]
    step = 1e-6 * (1 + u.abs())
    holds(geometry.force(u - step, drive) <= 1e-12, f"{geometry!r}: below its equilibrium the force pushes down")
    holds(geometry.force(u + step, drive) >= -1e-12, f"{geometry!r}: above its equilibrium the force pushes up")


@law("optimization")
def equilibrium_inverts_the_mirror(geometry: OptimizationGeometry) -> None:
    """u*(φ'(u)) = u wherever the curvature is positive."""
    if not isinstance(geometry, BregmanGeometry):
        return
    u = _coordinates(geometry)
    u = u[geometry.curvature(u) > 1e-6]
    if len(u):
        equal(geometry.equilibrium(geometry.mirror(u)), u, f"{geometry!r}: equilibrium ∘ mirror", rtol=1e-6, atol=1e-7)


@law("optimization")
def nothing_overflows(geometry: OptimizationGeometry) -> None:
    """Energy, force and curvature are finite in float32 at coordinates up to 1e4, and at those of a ratio of 1e4
    nats.
    """
    largest = math.exp(30.0) * 1e4
    u = torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4, largest], dtype=torch.float32)
    u = u[u >= geometry.domain.low] if geometry.domain.low > -math.inf else u
    u, g = _cross(u, torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float32))
    for name, value in (
        ("energy", geometry.energy(u, g)),
        ("force", geometry.force(u, g)),
        ("gradient", gradient_of(lambda x: geometry.energy(x, g), u)),
        ("curvature", geometry.curvature(u, g)),
    ):
        holds(torch.isfinite(value), f"{geometry!r}: {name} is not finite at coordinates {u[~torch.isfinite(value)]}")
