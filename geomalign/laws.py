"""What every member of a slot obeys, as executable laws. Ours are tested with them, and so should yours be.

    ga.laws.check_optimization(MyGeometry(mu=0.5))

A law is a function of a member; it raises `LawViolation` with the numbers that break it. All of it is computed in
float64,
except where a law speaks of float32.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch
from geomalign.chart import Chart
from geomalign.divergences import Divergence, TotalVariation
from geomalign.locality import Locality
from geomalign.measure import FixedBudget, Measure
from geomalign.objective import BaseObjective, PairLaw
from geomalign.optimization import BregmanGeometry, OptimizationGeometry
from geomalign.sampling import SamplingGeometry
from geomalign.unit import Unit

__all__ = [
    "LAWS",
    "LawViolation",
    "check_chart",
    "check_divergence",
    "check_geometry",
    "check_measure",
    "check_objective",
    "check_optimization",
    "check_sampling",
    "check_unit",
    "sample_batch",
    "sample_pairs",
]

Law = Callable[[Any], None]
Kind = TypeVar("Kind", bound=Law)

LAWS: dict[str, list[Law]] = {
    slot: [] for slot in ("optimization", "chart", "unit", "measure", "sampling", "divergence", "objective")
}
"""The laws of each slot, in the order in which they are checked."""


class LawViolation(AssertionError):
    """A member breaks a law of its slot."""


def _law(slot: str) -> Callable[[Kind], Kind]:
    def register(law: Kind) -> Kind:
        LAWS[slot].append(law)
        return law

    return register


def _check(slot: str, member: Any) -> None:
    for law in LAWS[slot]:
        law(member)


def check_geometry(member: Any) -> None:
    """All laws of whatever slot `member` fills: the test of a package that offers geometries. Raises `LawViolation`.

    Raises:
        TypeError: it fills no slot.
    """
    slot = next((slot for kind, slot in _SLOT_OF.items() if isinstance(member, kind)), None)
    if slot is None:
        kinds = ", ".join(kind.__name__ for kind in _SLOT_OF)
        raise TypeError(f"{member!r} fills no slot: it is an instance of none of {kinds}.")
    _check(slot, member)


_SLOT_OF: dict[type, str] = {
    OptimizationGeometry: "optimization",
    SamplingGeometry: "sampling",
    Chart: "chart",
    Unit: "unit",
    Measure: "measure",
    Divergence: "divergence",
    BaseObjective: "objective",
}


def _equal(left: Tensor, right: Tensor, what: str, *, rtol: float = 1e-9, atol: float = 1e-10) -> None:
    left, right = torch.broadcast_tensors(left.detach().double(), right.detach().double())
    wrong = ~torch.isclose(left, right, rtol=rtol, atol=atol, equal_nan=False) & ~((left == right) & torch.isinf(left))
    if wrong.any():
        k = tuple(int(i) for i in wrong.nonzero()[0])
        raise LawViolation(f"{what}: {left[k].item():.12g} is not {right[k].item():.12g} at index {k}.")


def _holds(condition: Tensor | bool, what: str) -> None:
    if not bool(torch.as_tensor(condition).all()):
        raise LawViolation(f"{what}.")


def _gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    y = function(x).sum()
    if not y.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(y, x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


# Irregular numbers, so that no kink of a published geometry is hit by accident.
_POINTS = torch.tensor(
    [-3.1415, -1.2821, -0.7389, -0.3103, -0.0517, 0.0433, 0.2718, 0.6931, 1.6449, 2.7183], dtype=torch.float64
)
_DRIVES = torch.tensor([-1.7321, -0.8415, -0.2419, -0.0312, 0.0271, 0.3679, 0.9093, 1.4142], dtype=torch.float64)


def _coordinates(geometry: OptimizationGeometry) -> Tensor:
    points = torch.cat([_POINTS, torch.tensor([-0.9511, -0.5403], dtype=torch.float64)]).sort().values
    low, high = geometry.domain.low, geometry.domain.high
    return points[(points > low) & (points < high)]


def _admissible(geometry: OptimizationGeometry) -> Tensor:
    """Drives inside the conjugate's domain, and its finite ends."""
    low, high = geometry.drives.low, geometry.drives.high
    drives = _DRIVES
    if math.isfinite(low) and math.isfinite(high):
        return torch.linspace(low, high, 9, dtype=torch.float64)
    if math.isfinite(high):
        return high - (drives - drives.max()).abs() - 0.01
    return drives[drives > low]


def _cross(u: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    return u[:, None].expand(-1, len(g)).contiguous(), g[None].expand(len(u), -1).contiguous()


# ------------------------------------------------------------------------------------------------ optimization


def check_optimization(geometry: OptimizationGeometry) -> None:
    """All laws of an `OptimizationGeometry`. Raises `LawViolation`."""
    _check("optimization", geometry)


@_law("optimization")
def energy_is_potential_less_work(geometry: OptimizationGeometry) -> None:
    """energy(u, g) = φ(u, g) − g·u, and force = mirror − g."""
    u, g = _cross(_coordinates(geometry), _DRIVES)
    _equal(geometry.energy(u, g), geometry.potential(u, g) - g * u, f"{geometry!r}: energy is not potential − drive·u")
    _equal(geometry.force(u, g), geometry.mirror(u, g) - g, f"{geometry!r}: force is not mirror − drive")


@_law("optimization")
def force_is_the_derivative_of_energy(geometry: OptimizationGeometry) -> None:
    """force = ∂energy/∂u, by autograd."""
    u, g = _cross(_coordinates(geometry), _DRIVES)
    by_autograd = _gradient(lambda x: geometry.energy(x, g), u)
    _equal(geometry.force(u, g), by_autograd, f"{geometry!r}: force is not the derivative of energy")


@_law("optimization")
def curvature_is_the_derivative_of_mirror(geometry: OptimizationGeometry) -> None:
    """curvature = ∂mirror/∂u, by autograd."""
    u, g = _cross(_coordinates(geometry), _DRIVES)
    by_autograd = _gradient(lambda x: geometry.mirror(x, g), u)
    _equal(geometry.curvature(u, g), by_autograd, f"{geometry!r}: curvature is not the derivative of mirror")


@_law("optimization")
def a_bregman_potential_ignores_the_drive(geometry: OptimizationGeometry) -> None:
    """φ, φ' and φ'' of a `BregmanGeometry` are the same at every drive: decoupling."""
    if not isinstance(geometry, BregmanGeometry):
        return
    u, g = _cross(_coordinates(geometry), _DRIVES)
    name = f"{geometry!r} is a BregmanGeometry, but the drive changes its"
    _equal(geometry.potential(u, g), geometry.value(u), f"{name} potential")
    _equal(geometry.mirror(u, g), geometry.mirror(u), f"{name} mirror")
    _equal(geometry.curvature(u, g), geometry.curvature(u), f"{name} curvature")


@_law("optimization")
def the_potential_is_convex(geometry: OptimizationGeometry) -> None:
    """The mirror of a `BregmanGeometry` increases with u, and its curvature is not negative."""
    if not isinstance(geometry, BregmanGeometry):
        return
    u = _coordinates(geometry)
    _holds(geometry.mirror(u).diff() >= -1e-12, f"{geometry!r}: the mirror decreases somewhere, so φ is not convex")
    _holds(geometry.curvature(u) >= -1e-12, f"{geometry!r}: negative curvature")


@_law("optimization")
def the_gap_is_a_fenchel_young_loss(geometry: OptimizationGeometry) -> None:
    """φ(u) + φ*(g) − g·u ≥ 0, and zero at the equilibrium where that is finite."""
    u, g = _cross(_coordinates(geometry), _admissible(geometry))
    _holds(geometry.gap(u, g) >= -1e-9, f"{geometry!r}: a negative Fenchel–Young gap")
    drive = _admissible(geometry)
    equilibrium = geometry.equilibrium(drive)
    finite = torch.isfinite(equilibrium)
    gap = geometry.gap(equilibrium[finite], drive[finite])
    _equal(gap, torch.zeros_like(gap), f"{geometry!r}: the gap at equilibrium is not zero", atol=1e-8)


@_law("optimization")
def the_force_changes_sign_at_equilibrium(geometry: OptimizationGeometry) -> None:
    """force ≤ 0 just below u* and ≥ 0 just above: energy has its minimum there."""
    drive = _admissible(geometry)
    u = geometry.equilibrium(drive)
    inside = torch.isfinite(u) & (u > geometry.domain.low) & (u < geometry.domain.high)
    u, drive = u[inside], drive[inside]
    step = 1e-6 * (1 + u.abs())
    _holds(geometry.force(u - step, drive) <= 1e-12, f"{geometry!r}: below its equilibrium the force pushes down")
    _holds(geometry.force(u + step, drive) >= -1e-12, f"{geometry!r}: above its equilibrium the force pushes up")


@_law("optimization")
def equilibrium_inverts_the_mirror(geometry: OptimizationGeometry) -> None:
    """u*(φ'(u)) = u wherever the curvature is positive."""
    if not isinstance(geometry, BregmanGeometry):
        return
    u = _coordinates(geometry)
    u = u[geometry.curvature(u) > 1e-6]
    if len(u):
        _equal(geometry.equilibrium(geometry.mirror(u)), u, f"{geometry!r}: equilibrium ∘ mirror", rtol=1e-6, atol=1e-7)


@_law("optimization")
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
        ("gradient", _gradient(lambda x: geometry.energy(x, g), u)),
        ("curvature", geometry.curvature(u, g)),
    ):
        _holds(torch.isfinite(value), f"{geometry!r}: {name} is not finite at coordinates {u[~torch.isfinite(value)]}")


# ------------------------------------------------------------------------------------------------------- chart


def check_chart(chart: Chart) -> None:
    """All laws of a `Chart`. Raises `LawViolation`."""
    _check("chart", chart)


@_law("chart")
def the_anchor_is_the_origin(chart: Chart) -> None:
    """u(0) = 0."""
    _equal(chart(torch.zeros(1, dtype=torch.float64)), torch.zeros(1), f"{chart!r}: the anchor is not at zero")


@_law("chart")
def slope_is_the_derivative(chart: Chart) -> None:
    """slope = u', by autograd."""
    x = _POINTS
    _equal(chart.slope(x), _gradient(chart, x), f"{chart!r}: slope is not the derivative")


@_law("chart")
def a_chart_increases(chart: Chart) -> None:
    """u' > 0."""
    _holds(chart.slope(_POINTS) > 0, f"{chart!r}: the slope is not positive")


@_law("chart")
def inverse_inverts(chart: Chart) -> None:
    """inverse(u(Δ)) = Δ."""
    x = _POINTS
    _equal(chart.inverse(chart(x)), x, f"{chart!r}: inverse ∘ chart", rtol=1e-8, atol=1e-8)


@_law("chart")
def a_chart_never_overflows(chart: Chart) -> None:
    """u and u' are finite in float32 at Δ = ±1e4, with slope ≥ 0, and by autograd too."""
    x = torch.tensor([-1e4, -80.0, 80.0, 1e4], dtype=torch.float32)
    _holds(torch.isfinite(chart(x)), f"{chart!r}: not finite at ±1e4 nats")
    _holds(torch.isfinite(chart.slope(x)) & (chart.slope(x) >= 0), f"{chart!r}: no finite slope at ±1e4 nats")
    _equal(_gradient(chart, x), chart.slope(x), f"{chart!r}: slope is not the derivative where it saturates", rtol=1e-5)


@_law("chart")
def linear_says_whether_the_slope_is_constant(chart: Chart) -> None:
    """`linear` is the truth."""
    slope = chart.slope(_POINTS)
    constant = bool((slope - slope[0]).abs().max() < 1e-12)
    _holds(constant == chart.linear, f"{chart!r}: linear={chart.linear}, but the slope runs over {slope}")


# -------------------------------------------------------------------------------------------------------- unit


def check_unit(unit: Unit) -> None:
    """All laws of a `Unit`. Raises `LawViolation`."""
    _check("unit", unit)


def _ragged(rows: int, tokens: int, generator: torch.Generator) -> Tensor:
    """Masks with gaps, of all lengths, one row empty."""
    mask = torch.rand(rows, tokens, generator=generator) < 0.7
    mask[:, 0] = True
    mask[-1] = False
    return mask


@_law("unit")
def spread_is_the_adjoint_of_reduce(unit: Unit) -> None:
    """spread is the transposed derivative of reduce on ragged masks, and masked tokens get exactly nothing."""
    generator = torch.Generator().manual_seed(0)
    mask = _ragged(6, 5, generator)
    x = torch.where(mask, torch.randn(6, 5, generator=generator, dtype=torch.float64), 0)
    y = torch.randn(unit.reduce(x, mask).shape, generator=generator, dtype=torch.float64)
    spread = unit.spread(y, mask, x)
    by_autograd = torch.where(mask, _gradient(lambda tokens: unit.reduce(tokens, mask) * y, x), 0)
    _equal(spread, by_autograd, f"{unit!r}: spread is not the adjoint of reduce")
    _holds(spread[~mask] == 0, f"{unit!r}: spread reaches masked tokens")


@_law("unit")
def split_is_the_adjoint_of_combine(unit: Unit) -> None:
    """split is the transposed derivative of combine."""
    generator = torch.Generator().manual_seed(1)
    mask = _ragged(6, 5, generator)
    shape = unit.reduce(torch.zeros(6, 5, dtype=torch.float64), mask).shape
    u = torch.randn(shape, generator=generator, dtype=torch.float64)
    e = torch.randn(unit.combine(u).shape, generator=generator, dtype=torch.float64)
    _equal(
        unit.split(e, u), _gradient(lambda x: unit.combine(x) * e, u), f"{unit!r}: split is not the adjoint of combine"
    )


@_law("unit")
def events_are_counted_as_they_are_supported(unit: Unit) -> None:
    """`events(total)` counts the true entries of `support`, and the rows that hold one."""
    batch = sample_pairs() if unit.paired else sample_batch()
    support = unit.support(batch.rows.support)
    events, rows = unit.events(batch.total())
    _equal(events.double(), support.sum().double(), f"{unit!r}: events(total) does not count the support")
    holding = support.any(-1).sum() if support.ndim == 2 else support.sum()
    _equal(rows.double(), holding.double(), f"{unit!r}: events(total) does not count the rows of the support")


# ----------------------------------------------------------------------------------------------------- measure


def check_measure(measure: Measure) -> None:
    """All laws of a `Measure`. Raises `LawViolation`."""
    _check("measure", measure)


def _supports() -> list[tuple[Tensor, Tensor, Tensor]]:
    tokens = _ragged(6, 5, torch.Generator().manual_seed(2))
    rows = tokens.any(-1)
    return [
        (tokens, tokens.sum().double(), rows.sum().double()),
        (rows, rows.sum().double(), rows.sum().double()),
    ]


@_law("measure")
def weights_live_on_the_support(measure: Measure) -> None:
    """Weights are positive on the support and exactly zero outside it."""
    for support, events, rows in _supports():
        weights = measure.weights(support, events, rows)
        _holds(weights[~support] == 0, f"{measure!r}: weight outside the support")
        _holds(weights[support] > 0, f"{measure!r}: no weight on an event")


@_law("measure")
def weights_sum_to_one(measure: Measure) -> None:
    """An average: the weights of a whole batch sum to one (of a `FixedBudget`, if every row used it)."""
    for support, events, rows in _supports():
        weights = measure.weights(support, events, rows)
        used = events / (rows * measure.length) if isinstance(measure, FixedBudget) else torch.ones(())
        _equal(weights.sum(), used, f"{measure!r}: the weights do not sum to one")


@_law("measure")
def weights_of_parts_are_those_of_the_whole(measure: Measure) -> None:
    """Splitting the rows changes no weight, given the counts of the whole."""
    for support, events, rows in _supports():
        whole = measure.weights(support, events, rows)
        parts = torch.cat([measure.weights(part, events, rows) for part in support.split([1, 3, 2])])
        _equal(whole, parts, f"{measure!r}: weights change when the batch is split")


@_law("measure")
def an_empty_batch_has_no_weight(measure: Measure) -> None:
    """No event, no division by zero."""
    none = torch.zeros(3, 4, dtype=torch.bool)
    zero = torch.zeros((), dtype=torch.float64)
    _holds(measure.weights(none, zero, zero) == 0, f"{measure!r}: weight in an empty batch")


# ---------------------------------------------------------------------------------------------------- sampling


def sample_batch(rows: int = 8, tokens: int = 6, seed: int = 0, *, dtype: torch.dtype = torch.float64) -> Batch:
    """A ragged batch that tries everything: groups of different sizes in mixed order, one of a single row, a row
    without tokens.

    It has a policy with gradient, anchor, reference, behavior, mask, reward, advantage and group.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    policy = -noise(rows, tokens).abs()
    mask = _ragged(rows, tokens, generator)
    group = torch.tensor([5, 2, 5, 2, 2, 9, 5, 5]).repeat(math.ceil(rows / 8))[:rows]
    anchor, reference, behavior = (policy - 0.3 * noise(rows, tokens) for _ in range(3))
    return Batch(
        policy.clone().requires_grad_(),
        anchor,
        mask,
        reward=noise(rows),
        advantage=noise(rows),
        reference=reference,
        group=group,
        behavior=behavior,
    )


def sample_pairs(
    pairs: int = 6, tokens: int = 5, seed: int = 0, *, dtype: torch.dtype = torch.float64
) -> PreferenceBatch:
    """Ragged preference pairs with references and margins, padded to different widths; one pair lacks its rejected
    response.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    chosen, rejected = -noise(pairs, tokens).abs(), -noise(pairs, tokens + 2).abs()
    chosen_mask, rejected_mask = _ragged(pairs, tokens, generator), _ragged(pairs, tokens + 2, generator)
    chosen_mask[-1] = True
    return PreferenceBatch(
        chosen.clone().requires_grad_(),
        rejected.clone().requires_grad_(),
        chosen - 0.3 * noise(*chosen.shape),
        rejected - 0.3 * noise(*rejected.shape),
        chosen_mask,
        rejected_mask,
        margin=noise(pairs),
    )


def check_sampling(sampling: SamplingGeometry) -> None:
    """All laws of a `SamplingGeometry`. Raises `LawViolation`."""
    _check("sampling", sampling)


def _drive(sampling: SamplingGeometry, batch: Batch) -> Tensor:
    return sampling.drive(batch).detach()


@_law("sampling")
def a_drive_is_finite_and_has_a_row_each(sampling: SamplingGeometry) -> None:
    """One drive a row (or a token), finite."""
    batch = sample_batch()
    drive = _drive(sampling, batch)
    _holds(drive.shape[0] == batch.size, f"{sampling!r}: {tuple(drive.shape)} for {batch.size} rows")
    _holds(torch.isfinite(drive), f"{sampling!r}: a drive is not finite")


@_law("sampling")
def the_order_of_rows_does_not_matter(sampling: SamplingGeometry) -> None:
    """Permuting the rows permutes the drive."""
    batch = sample_batch()
    order = torch.randperm(batch.size, generator=torch.Generator().manual_seed(3))
    _equal(
        _drive(sampling, batch[order]), _drive(sampling, batch)[order], f"{sampling!r}: the drive depends on the order"
    )


@_law("sampling")
def rows_without_tokens_do_not_matter(sampling: SamplingGeometry) -> None:
    """What a row without tokens says (even NaN) changes no other row's drive."""
    batch = sample_batch()
    assert batch.reward is not None and batch.advantage is not None
    empty = ~batch.support.any(-1)
    spoiled = dataclasses.replace(
        batch,
        reward=torch.where(empty, float("nan"), batch.reward),
        advantage=torch.where(empty, float("nan"), batch.advantage),
    )
    _equal(_drive(sampling, spoiled)[~empty], _drive(sampling, batch)[~empty], f"{sampling!r}: an empty row matters")


@_law("sampling")
def a_constant_shift_of_rewards_in_equal_groups_is_finite(sampling: SamplingGeometry) -> None:
    """Equal rewards and groups of one have a finite drive."""
    batch = sample_batch()
    equal = torch.full((batch.size,), 0.7, dtype=torch.float64)
    alone = torch.arange(batch.size)
    for case in (
        dataclasses.replace(batch, reward=equal, advantage=equal),
        dataclasses.replace(batch, group=alone),
        dataclasses.replace(batch, reward=1e4 * batch.require("reward", "a law"), advantage=1e4 * equal),
    ):
        _holds(torch.isfinite(_drive(sampling, case)), f"{sampling!r}: a drive is not finite")


@_law("sampling")
def reweighting_keeps_the_shape(sampling: SamplingGeometry) -> None:
    """`reweight` maps drives to finite drives, and is the identity where its locality says that it needs nothing."""
    batch = sample_batch()
    drive = _drive(sampling, batch)
    extremes = torch.tensor([-1e4, -0.5, 0.0, 0.5, 1e4], dtype=torch.float64)
    log_ratio = extremes[torch.arange(drive.numel()) % 5].view(drive.shape)
    new = sampling.reweight(drive, log_ratio, batch)
    _holds(new.shape[0] == drive.shape[0], f"{sampling!r}: reweight gave {tuple(new.shape)} for {tuple(drive.shape)}")
    _holds(torch.isfinite(new), f"{sampling!r}: reweight is not finite at ±1e4 nats")
    if sampling.locality is Locality.KNOWN:
        _equal(new, drive, f"{sampling!r}: reweight uses the log-ratio, so its locality is not KNOWN")


# -------------------------------------------------------------------------------------------------- divergence


def check_divergence(divergence: Divergence) -> None:
    """All laws of a `Divergence`. Raises `LawViolation`."""
    _check("divergence", divergence)


_RATIOS = torch.exp(_POINTS)


@_law("divergence")
def a_divergence_vanishes_at_one(divergence: Divergence) -> None:
    """ψ(1) = ψ'(1) = 0 and ψ ≥ 0."""
    one = torch.ones(1, dtype=torch.float64)
    _equal(divergence.generator(one), torch.zeros(1), f"{divergence!r}: ψ(1)")
    _equal(divergence.mirror(one), torch.zeros(1), f"{divergence!r}: ψ'(1)")
    _holds(divergence.generator(_RATIOS) >= 0, f"{divergence!r}: ψ is negative somewhere")


@_law("divergence")
def mirror_and_curvature_are_derivatives(divergence: Divergence) -> None:
    """ψ' and ψ'' by autograd."""
    _equal(divergence.mirror(_RATIOS), _gradient(divergence.generator, _RATIOS), f"{divergence!r}: mirror", atol=1e-8)
    _equal(
        divergence.curvature(_RATIOS), _gradient(divergence.mirror, _RATIOS), f"{divergence!r}: curvature", atol=1e-8
    )


@_law("divergence")
def the_log_ratio_forms_agree(divergence: Divergence) -> None:
    """penalty, coordinate and slope are ψ, ψ' and tψ'' read in log t."""
    x = _POINTS
    _equal(divergence.penalty(x), divergence.generator(_RATIOS), f"{divergence!r}: penalty", rtol=1e-6, atol=1e-8)
    _equal(divergence.coordinate(x), divergence.mirror(_RATIOS), f"{divergence!r}: coordinate", rtol=1e-6, atol=1e-7)
    _equal(divergence.slope(x), _RATIOS * divergence.curvature(_RATIOS), f"{divergence!r}: slope", rtol=1e-6, atol=1e-7)


@_law("divergence")
def the_conjugate_is_the_conjugate(divergence: Divergence) -> None:
    """inverse_mirror(ψ'(t)) = t and ψ*(ψ'(t)) = tψ'(t) − ψ(t), where ψ is strictly convex."""
    if isinstance(divergence, TotalVariation):
        return
    s = divergence.mirror(_RATIOS)
    _equal(divergence.inverse_mirror(s), _RATIOS, f"{divergence!r}: inverse_mirror ∘ mirror", rtol=1e-6, atol=1e-7)
    young = _RATIOS * s - divergence.generator(_RATIOS)
    _equal(divergence.conjugate(s), young, f"{divergence!r}: Young's equality", rtol=1e-6, atol=1e-7)


# --------------------------------------------------------------------------------------------------- objective


def check_objective(objective: BaseObjective) -> None:
    """All laws of an objective. Raises `LawViolation`."""
    _check("objective", objective)


def _sample(objective: BaseObjective, **options: Any) -> Batch | PreferenceBatch:
    paired = any(term.unit.paired for _, term in objective.terms)
    return sample_pairs(**options) if paired else sample_batch(**options)


def _policies(batch: Batch | PreferenceBatch) -> list[str]:
    return ["policy"] if isinstance(batch, Batch) else ["chosen", "rejected"]


def _gradients(objective: BaseObjective, batch: Batch | PreferenceBatch) -> list[Tensor]:
    inputs = [getattr(batch, name) for name in _policies(batch)]
    gradients = torch.autograd.grad(objective(batch).loss, inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, inputs, strict=True)]


def _laws(objective: BaseObjective, batch: Batch | PreferenceBatch) -> list[Tensor]:
    law = objective.law(batch)
    return list(law) if isinstance(law, PairLaw) else [law]


@_law("objective")
def the_law_is_the_gradient(objective: BaseObjective) -> None:
    """`law` in closed form = autograd of the loss."""
    batch = _sample(objective)
    for law, gradient in zip(_laws(objective, batch), _gradients(objective, batch), strict=True):
        _equal(law, gradient, f"{type(objective).__name__}: the law is not the gradient of the loss", atol=1e-12)


@_law("objective")
def parts_add_up_to_the_whole(objective: BaseObjective) -> None:
    """Losses and laws of micro-batches, given the rollout's drive and total, add up to those of the whole.

    Not of an objective whose locality is the batch: there a part is another problem.
    """
    if objective.locality is Locality.BATCH:
        return
    batch = _sample(objective)
    drive, total = objective.drive(batch), batch.total()
    splits = [torch.tensor([2]), torch.tensor([5, 0, 1]), torch.arange(6, batch.size), torch.tensor([3, 4])]
    loss = sum(objective(batch[i], drive=drive[i], total=total).loss for i in splits)
    _equal(torch.as_tensor(loss), objective(batch).loss, "the losses of micro-batches do not add up to the whole")
    whole = _laws(objective, batch)
    for i in splits:
        part = objective.law(batch[i], drive=drive[i], total=total)
        for mine, all_rows in zip(part if isinstance(part, PairLaw) else [part], whole, strict=True):
            _equal(mine, all_rows[i], "the law of a micro-batch is not that of the whole", atol=1e-12)


@_law("objective")
def masked_tokens_are_absent(objective: BaseObjective) -> None:
    """NaN at masked tokens changes neither the loss nor any gradient, and gets a gradient of exactly zero."""
    batch = _sample(objective)
    masks = {"policy": "mask", "anchor": "mask", "reference": "mask", "behavior": "mask"} | {
        name: f"{name.removeprefix('reference_')}_mask"
        for name in ("chosen", "rejected", "reference_chosen", "reference_rejected")
    }
    spoiled: dict[str, Any] = {}
    for field in dataclasses.fields(batch):
        if field.name in masks:
            value, mask = getattr(batch, field.name), getattr(batch, masks[field.name])
            spoiled[field.name] = torch.where(mask, value.detach(), float("nan")).requires_grad_(value.requires_grad)
    other = dataclasses.replace(batch, **spoiled)
    _equal(objective(other).loss, objective(batch).loss, "a masked NaN changes the loss")
    for name, mine, clean in zip(
        _policies(batch), _gradients(objective, other), _gradients(objective, batch), strict=True
    ):
        _equal(mine, clean, "a masked NaN changes the gradient", atol=1e-14)
        _holds(mine[~getattr(batch, masks[name])] == 0, "a masked token has a gradient")


@_law("objective")
def extremes_are_finite(objective: BaseObjective) -> None:
    """Log-ratios of ±1e4 in float32 and ±80 in bfloat16, an all-masked batch: value and gradient are finite."""
    for dtype, size in ((torch.float32, 1e4), (torch.bfloat16, 80.0)):
        batch = _sample(objective, dtype=dtype)
        drive = objective.drive(batch)
        signs = torch.tensor([1.0, -1.0, 0.0], dtype=dtype)
        shifted: dict[str, Any] = {}
        for name in _policies(batch):
            x = getattr(batch, name).detach()
            shifted[name] = (x + size * signs[torch.arange(x.shape[1]) % 3]).requires_grad_()
        other = dataclasses.replace(batch, **shifted)
        loss = objective(other, drive=drive).loss
        _holds(torch.isfinite(loss), f"the loss is not finite at log-ratios of {size:g} in {dtype}")
        for x, g in zip(
            shifted.values(), torch.autograd.grad(loss, list(shifted.values()), allow_unused=True), strict=True
        ):
            _holds(
                g is None or torch.isfinite(g),
                f"a gradient is not finite at log-ratios of {size:g} in {dtype}, {x.shape}",
            )
    batch = _sample(objective)
    empty: dict[str, Any] = {
        f.name: torch.zeros_like(getattr(batch, f.name)) for f in dataclasses.fields(batch) if "mask" in f.name
    }
    empty_batch = dataclasses.replace(batch, **empty)
    _equal(objective(empty_batch).loss, torch.zeros(()), "an all-masked batch has a loss")
    for gradient in _gradients(objective, empty_batch):
        _holds(gradient == 0, "an all-masked batch has a gradient")


@_law("objective")
def the_locality_is_the_truth(objective: BaseObjective) -> None:
    """The law at the first row's first token does not change with a log-probability beyond its stated reach."""
    batch = _sample(objective)
    drive = objective.drive(batch)
    name = _policies(batch)[0]

    def law_after(change: Callable[[Tensor], None]) -> Tensor:
        x = getattr(batch, name).detach().clone()
        change(x)
        law = objective.law(dataclasses.replace(batch, **{name: x}), drive=drive)
        return (law[0] if isinstance(law, PairLaw) else law)[0, 0]

    def own(x: Tensor) -> None:
        x[0, 0] -= 0.05

    def row(x: Tensor) -> None:
        x[0, 1:] -= 0.05

    def others(x: Tensor) -> None:
        x[1:] -= 0.05

    here = law_after(lambda x: None)
    if objective.locality < Locality.TOKEN:
        _equal(law_after(own), here, "the law needs its own log-probability: its locality is not KNOWN")
    if objective.locality < Locality.SEQUENCE:
        _equal(law_after(row), here, "the law needs the rest of its row: its locality is not TOKEN")
    if objective.locality < Locality.BATCH:
        _equal(law_after(others), here, "the law needs other rows: its locality is BATCH")
