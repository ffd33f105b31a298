"""Laws of optimization geometries."""

from __future__ import annotations

import inspect
import math

import torch
from torch import Tensor

from geomalign._util.types import Interval, Locality
from geomalign.laws.cases import DRIVES, POINTS, Points, lists_in, points
from geomalign.laws.checking import EXAMPLES, Cases, check, equal, gradient_of, holds, law
from geomalign.optimization import BregmanGeometry, OptimizationGeometry


def check_optimization(geometry: OptimizationGeometry, examples: int = EXAMPLES) -> None:
    """Check all laws of an `OptimizationGeometry`; of a `GroupGeometry` those of its `section`, and those of groups.

    Args:
        geometry: the member.
        examples: how many cases Hypothesis draws for each law, besides the fixed ones.

    Raises:
        LawViolation: it breaks one.

    >>> import torch, geomalign as ga
    >>> ga.laws.check_optimization(ga.ConvexPotential(lambda u: torch.cosh(u) - 1))
    """
    check("optimization", geometry.section, examples)
    if geometry.locality > Locality.ROLLOUT:
        check("group", geometry, examples)


def _within(geometry: OptimizationGeometry) -> tuple[float, ...]:
    return tuple(u for u in POINTS if geometry.domain.low < u < geometry.domain.high)


def _admissible(geometry: OptimizationGeometry) -> tuple[float, ...]:
    """Drives inside the conjugate's domain, and its ends where both are finite."""
    low, high = geometry.conjugate_domain.low, geometry.conjugate_domain.high
    if math.isfinite(low) and math.isfinite(high):
        return tuple(torch.linspace(low, high, 9, dtype=torch.float64).tolist())
    if math.isfinite(high):
        return tuple(high - (max(DRIVES) - g) - 0.01 for g in DRIVES)
    return tuple(g for g in DRIVES if g > low)


_CROSSED = Cases(
    lambda geometry: [Points(_within(geometry), DRIVES)], lambda geometry: points(geometry.domain, Interval())
)


def _balanced(geometry: OptimizationGeometry):  # type: ignore[no-untyped-def]
    """Strategy: coordinates of the domain with drives that have a finite conjugate."""
    from hypothesis import strategies

    drives = geometry.conjugate_domain
    if drives.low == drives.high:
        return points(geometry.domain).map(lambda case: Points(case.u, (drives.low,)))
    around = Interval(max(drives.low, min(drives.high, 2.0) - 4.0), min(drives.high, max(drives.low, -2.0) + 4.0))
    shift = max(around.low, min(0.0, around.high))
    moved = lists_in(Interval(around.low - shift, around.high - shift), 4.0)
    numbers = moved.map(lambda gs: tuple(g + shift for g in gs))
    return strategies.builds(Points, lists_in(geometry.domain, 4.0), numbers)


_BALANCED = Cases(lambda geometry: [Points(_within(geometry), _admissible(geometry))], _balanced)


@law("optimization", Cases(lambda geometry: [Points(_within(geometry)[:1])]))
def mirror_and_curvature_take_a_drive_and_return_tensors(geometry: OptimizationGeometry, case: Points) -> None:
    """mirror(u, drive) and curvature(u, drive) can be called and return tensors."""
    u, g = case.grid()
    remedy = "mirror and curvature take (u, drive=None) and return tensors."
    for name in ("mirror", "curvature"):
        method = getattr(geometry, name)
        signature = inspect.signature(method)
        try:
            signature.bind(u, g)
        except TypeError:
            holds(False, f"{name}({', '.join(signature.parameters)}) takes no drive", remedy)
        value = method(u, g)
        holds(isinstance(value, Tensor), f"{name} returned {value!r}, which is no tensor", remedy)


@law("optimization", _CROSSED)
def energy_is_potential_less_work(geometry: OptimizationGeometry, case: Points) -> None:
    """energy(u, g) = φ(u, g) − g·u, and force = mirror − g."""
    u, g = case.grid()
    remedy = "Leave energy and force to the base class, or give them the same sign of the drive."
    energy, force = geometry.potential(u, g) - g * u, geometry.mirror(u, g) - g
    equal(geometry.energy(u, g), energy, "energy is not potential − drive·u", remedy, u=u, drive=g)
    equal(geometry.force(u, g), force, "force is not mirror − drive", remedy, u=u, drive=g)


@law("optimization", _CROSSED)
def force_is_the_derivative_of_energy(geometry: OptimizationGeometry, case: Points) -> None:
    """force = ∂energy/∂u, by autograd."""
    u, g = case.grid()
    by_autograd = gradient_of(lambda x: geometry.energy(x, g), u)
    remedy = "mirror(u) must be the derivative of value(u)."
    equal(geometry.force(u, g), by_autograd, "force is not the derivative of energy", remedy, u=u, drive=g)


@law("optimization", _CROSSED)
def curvature_is_the_derivative_of_mirror(geometry: OptimizationGeometry, case: Points) -> None:
    """curvature = ∂mirror/∂u, by autograd."""
    u, g = case.grid()
    by_autograd = gradient_of(lambda x: geometry.mirror(x, g), u)
    remedy = "curvature(u) must be the derivative of mirror(u)."
    equal(geometry.curvature(u, g), by_autograd, "curvature is not the derivative of mirror", remedy, u=u, drive=g)


@law("optimization", _CROSSED)
def a_bregman_potential_ignores_the_drive(geometry: OptimizationGeometry, case: Points) -> None:
    """φ, φ' and φ'' of a `BregmanGeometry` are the same at every drive: decoupling."""
    if not isinstance(geometry, BregmanGeometry):
        return
    u, g = case.grid()
    what, remedy = "the drive changes the", "A potential that depends on the drive is an OptimizationGeometry only."
    equal(geometry.potential(u, g), geometry.value(u), f"{what} potential", remedy, u=u, drive=g)
    equal(geometry.mirror(u, g), geometry.mirror(u), f"{what} mirror", remedy, u=u, drive=g)
    equal(geometry.curvature(u, g), geometry.curvature(u), f"{what} curvature", remedy, u=u, drive=g)


@law("optimization", _CROSSED)
def the_potential_is_convex(geometry: OptimizationGeometry, case: Points) -> None:
    """The mirror of a `BregmanGeometry` increases with u, and its curvature is not negative."""
    if not isinstance(geometry, BregmanGeometry):
        return
    u = case.line()
    mirror, curvature = geometry.mirror(u), geometry.curvature(u)
    remedy = "State a domain on which φ is convex, or derive from OptimizationGeometry."
    holds(curvature >= -1e-12, "the curvature is negative, so φ is not convex", remedy, curvature=curvature, u=u)
    holds(mirror.diff() >= -1e-12, "the mirror decreases, so φ is not convex", remedy, change=mirror.diff(), u=u[1:])


@law("optimization", _BALANCED)
def the_gap_is_a_fenchel_young_loss(geometry: OptimizationGeometry, case: Points) -> None:
    """φ(u) + φ*(g) − g·u ≥ 0, and zero at the equilibrium where that is finite."""
    u, g = case.grid()
    gap = geometry.gap(u, g)
    remedy = "conjugate(g) must be the largest value of g·u − φ(u); leave it out to have it solved for."
    holds(gap >= -1e-9, "the Fenchel–Young gap φ(u) + φ*(g) − g·u is negative", remedy, gap=gap, u=u, drive=g)
    equilibrium = geometry.equilibrium(g[0])
    finite = torch.isfinite(equilibrium)
    u, g = equilibrium[finite], g[0][finite]
    gap = geometry.gap(u, g)
    remedy = "conjugate(g) must be g·u − φ(u) at u = equilibrium(g), where mirror(u) = g."
    equal(gap, torch.zeros_like(gap), "the gap at equilibrium is not zero", remedy, atol=1e-8, u=u, drive=g)


@law("optimization", _BALANCED)
def the_force_changes_sign_at_equilibrium(geometry: OptimizationGeometry, case: Points) -> None:
    """force ≤ 0 just below u* and ≥ 0 just above: energy has its minimum there."""
    drive = torch.tensor(case.drive, dtype=torch.float64)
    u = geometry.equilibrium(drive)
    inside = torch.isfinite(u) & (u > geometry.domain.low) & (u < geometry.domain.high)
    u, drive = u[inside], drive[inside]
    step = 1e-6 * (1 + u.abs())
    below, above = geometry.force(u - step, drive), geometry.force(u + step, drive)
    remedy = "equilibrium(g) must solve mirror(u) = g; leave it out to have it solved for."
    what = "the energy has no minimum at equilibrium: the force just"
    holds(below <= 1e-12, f"{what} below is positive", remedy, force=below, equilibrium=u, drive=drive)
    holds(above >= -1e-12, f"{what} above is negative", remedy, force=above, equilibrium=u, drive=drive)


@law("optimization", _CROSSED)
def equilibrium_inverts_the_mirror(geometry: OptimizationGeometry, case: Points) -> None:
    """u*(φ'(u)) = u wherever the curvature is positive."""
    if not isinstance(geometry, BregmanGeometry):
        return
    u = case.line()
    u = u[geometry.curvature(u) > 1e-6]
    if len(u):
        what, remedy = "equilibrium(mirror(u)) is not u", "equilibrium must be the inverse function of mirror."
        equal(geometry.equilibrium(geometry.mirror(u)), u, what, remedy, rtol=1e-6, atol=1e-7, u=u)


def _far(geometry: OptimizationGeometry) -> list[Points]:
    ratio = math.exp(30.0) * 1e4  # the largest that the ratio's chart gives in float32, at 1e4 nats
    far = (-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4, ratio)
    return [Points(tuple(u for u in far if geometry.domain.low <= u <= geometry.domain.high), (-1.0, 0.0, 1.0))]


@law("optimization", Cases(_far))
def far_from_the_anchor_everything_is_a_number(geometry: OptimizationGeometry, case: Points) -> None:
    """At coordinates up to 1e4, and of a ratio at 1e4 nats, nothing is NaN in float32, the force of a
    `BregmanGeometry` does not decrease, and what float32 can hold is finite.

    A potential that grows like u⁴ or cosh u leaves the range of float32 there; it may be infinite where it does so in
    float64 too. The members of this package grow slowly enough to stay finite.
    """
    exact = _measured(geometry, *case.grid())
    u, g = (x.float() for x in case.grid())
    found = _measured(geometry, u, g)
    remedy = (
        "Write it so that no intermediate number overflows, such as |u| + softplus(−2|u|) − log 2 for log cosh u, or "
        "clamp u and continue by the tangent line."
    )
    for name, value in found.items():
        holds(~value.isnan(), f"{name} is NaN in float32", remedy, u=u, drive=g)
        finite = exact[name].abs() < torch.finfo(torch.float32).max
        what = f"{name} is infinite in float32, which can hold it"
        holds(torch.isfinite(value) | ~finite, what, remedy, exact=exact[name], u=u, drive=g)
    if isinstance(geometry, BregmanGeometry):
        before, force = found["force"][:-1], found["force"][1:]
        increases = (force >= before) | (before - force <= 1e-5 * before.abs())  # up to rounding
        holds(increases, "the force decreases far from the anchor", remedy, force=force, before=before, u=u[1:])


def _measured(geometry: OptimizationGeometry, u: Tensor, g: Tensor) -> dict[str, Tensor]:
    return {
        "energy": geometry.energy(u, g),
        "force": geometry.force(u, g),
        "the gradient of energy": gradient_of(lambda x: geometry.energy(x, g), u),
        "curvature": geometry.curvature(u, g),
    }
