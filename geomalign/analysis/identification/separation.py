"""Separates a force into the slope of the chart and the drive, and says where the two are not independent."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.analysis.identification.curve import Resolved, resolve
from geomalign.analysis.identification.probing import Probe, finite_domain, rounding_error
from geomalign.analysis.identification.report import Coupling, Region

_REJECTED = (-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0)
_ZERO = torch.zeros(1, dtype=torch.float64)


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """What all three kinds of loss are read into; without an advantage, the drive is found when the potential is named.

    >>> read_margin(Probe(lambda m: m**2, 1), _ZERO, Interval(-3.0, 3.0), 1e-8).kind
    'margin'
    """

    kind: str
    resolved: Resolved
    force: Tensor  # (panel, node, drive)
    slope: Tensor  # (panel, node)
    coupling: Coupling
    tolerance: float
    rounding: float  # relative, of the force
    advantage: Tensor = _ZERO
    drive: Tensor = _ZERO
    base: int = 0  # the column of the advantage nearest to zero
    driven: bool = False
    affine: bool = True  # of the drive in the advantage


def _resolved(
    probe: Probe, forces: Callable[[Tensor], Tensor], columns: int | None, domain: Interval, tolerance: float
) -> tuple[Resolved, float, float]:
    """Panels, the tolerance of names on them, and the relative rounding of the forces, the first `columns`."""
    domain = finite_domain(probe, domain, forces)
    rounding = rounding_error(lambda x: forces(x)[:, :columns], domain)
    resolution = max(1e-12, 100 * rounding)
    return resolve(forces, domain, tolerance=resolution), max(tolerance, 1e4 * rounding), 0.02 * resolution


def read_advantage(probe: Probe, advantage: Tensor, domain: Interval, tolerance: float) -> Reading:
    """Of ℓ(Δ, A), where ∂F/∂A = −g'(A)·u'(Δ).

    >>> probe, advantage = Probe(lambda x, a: x**2 - a * x, 2), torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    >>> read_advantage(probe, advantage, Interval(-3.0, 3.0), 1e-8).affine
    True
    """
    if len(advantage) < 3:
        raise ValueError(
            f"identify(advantages={advantage.tolist()}): with fewer than three, a dependence on the "
            "advantage cannot be told from a product."
        )
    count = len(advantage)

    def forces(x: Tensor) -> Tensor:
        return probe.grid(x, advantage, mixed=True)

    resolved, tolerance, relative = _resolved(probe, forces, count, domain, tolerance)
    force, mixed = resolved.values.split(count, -1)
    force_0, mixed_0 = forces(_home(resolved))[0].split(count, -1)
    base, size = int(advantage.abs().argmin()), force_0.abs().max().clamp(min=1e-300)
    rates = -force_0.diff() / advantage.diff()
    largest = force.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    if float((force.diff(dim=-1).abs() / largest).max()) < 1e-9:
        flat = torch.ones_like(force[..., 0])
        return Reading("advantage", resolved, force[..., :1], flat, _uncoupled(resolved, flat), tolerance, relative)
    if float(rates.abs().max()) < 1e-9 * float(size):
        raise ValueError(
            "the advantage does not move the loss at the anchor: no drive can be read there. Shift the "
            "log-ratio so that it does."
        )
    affine = float((rates - rates.mean()).abs().max()) <= tolerance * float(rates.abs().max()) + 1e-14 * float(size)
    drive = advantage.clone() if affine else force_0[base] - force_0
    growth = torch.ones_like(advantage) if affine else -mixed_0

    # What differences of rounded forces can show: a force is rounded as its terms are, and the last Legendre
    # coefficients tell.
    def last(values: Tensor) -> Tensor:
        return torch.stack([last_coefficients(resolved, column) for column in values.unbind(-1)]).amax(0)

    noise = 1e3 * last(force) + 1e-13 * force.abs().amax(-1)
    rounding = noise / drive.diff().abs().min().clamp(min=1e-300) + 1e3 * last(mixed) / growth.abs().max()
    slope, cells, derivative = _slopes(force, mixed, drive, growth, rounding[..., None])
    if affine and bool(derivative.isnan().all()):
        slope = _refined(probe, resolved.nodes, slope, rounding)
    coupling = _coupling(resolved, slope, cells, derivative, advantage, rounding[..., None], 10 * tolerance)
    return Reading(
        "advantage", resolved, force, slope, coupling, tolerance, relative, advantage, drive, base, True, affine
    )


def _home(resolved: Resolved) -> Tensor:
    """The anchor, or, if the force has a kink there, a point beside it."""
    return torch.tensor([1e-3 if any(abs(k) < 1e-6 for k in resolved.kinks) else 0.0], dtype=torch.float64)


def _slopes(
    force: Tensor, mixed: Tensor, drive: Tensor, growth: Tensor, rounding: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """u' on every panel; across each cell of the drive −ΔF/Δg; and −∂F/∂g at each drive.

    Differences see jumps that a derivative does not, but lose digits where the mirror outweighs the drive; the
    derivative does not. A drive's derivative is used if it agrees everywhere with the difference on one side of it (at
    a tie of a minimum, or of a detached advantage, it does not). Where the loss is coupled there is a choice of u': the
    one with the most pull.

    Returns:
        `(panel, node)`, `(panel, node, cell)` and `(panel, node, drive)`, the last NaN for drives that are not used.
    """
    step = drive.diff()
    cells = -force.diff(dim=-1) / torch.where(step != 0, step, math.inf)
    usable = growth.abs() > 1e-9 * growth.abs().max()
    derivative = torch.where(usable, -mixed / torch.where(usable, growth, 1.0), math.nan)
    below = derivative - torch.cat([cells[..., :1], cells], -1)
    above = derivative - torch.cat([cells, cells[..., -1:]], -1)
    size = torch.stack([derivative, derivative - below, derivative - above]).abs().amax(0)
    agrees = torch.minimum(below.abs(), above.abs()) <= 1e-3 * size + rounding
    if not bool((growth == growth[0]).all()):  # a drive that is not affine has a slope between its neighbours'
        agrees = agrees | (below * above <= 0)
    derivative = torch.where(agrees.all(1, keepdim=True).all(0, keepdim=True), derivative, math.nan)
    chosen = cells if bool(derivative.isnan().all()) else derivative.nan_to_num(0.0)
    return chosen[torch.arange(len(chosen)), :, chosen.abs().sum(1).argmax(-1)], cells, derivative


def _refined(probe: Probe, nodes: Tensor, slope: Tensor, rounding: Tensor) -> Tensor:
    """u' from differences at advantages of ±1e20, which outweigh any mirror, where those do not contradict it.

    For losses that are affine in the advantage and through which no derivative by it passes.
    """
    x = nodes.reshape(-1)
    up, down = ((probe.force_at(x, 0.0) - probe.force_at(x, a)) / a for a in (1e20, -1e20))
    best = torch.where(up.abs() > down.abs(), up, down).reshape(slope.shape)
    return torch.where((best - slope).abs() <= 1e-6 * slope.abs() + rounding, best, slope)


def _coupling(
    resolved: Resolved,
    slope: Tensor,
    cells: Tensor,
    derivative: Tensor,
    advantage: Tensor,
    rounding: Tensor,
    tolerance: float,
) -> Coupling:
    size = torch.maximum(slope.abs()[..., None], cells.abs().amax(-1, keepdim=True)).clamp(min=1e-300)
    deviation = ((cells - slope[..., None]).abs() - rounding).clamp(min=0) / size
    # Where differences drown in rounding, a derivative that is off by a tenth still tells.
    off = torch.where(derivative.isnan(), math.nan, ((derivative - slope[..., None]).abs() > 0.1 * size).double())
    gross = torch.fmin(off[..., 1:], off[..., :-1]).nan_to_num(0.0) * (rounding > tolerance * size)
    deviation = torch.maximum(deviation, gross)
    regions = _regions(resolved, deviation > tolerance, advantage)
    signs, by_sign = torch.sign(advantage[1:] + advantage[:-1]), bool(regions)
    for sign in (-1.0, 1.0):
        group = cells[..., signs == sign]
        if group.shape[-1] > 1:
            spread = group.amax(-1) - group.amin(-1) - 2 * rounding[..., 0]
            by_sign = by_sign and bool((spread <= tolerance * size[..., 0]).double().mean() > 0.99)
    x = resolved.nodes.reshape(-1)
    return Coupling(x, advantage, cells.reshape(len(x), -1), deviation.reshape(len(x), -1), regions, by_sign)


def _uncoupled(resolved: Resolved, slope: Tensor) -> Coupling:
    column = slope.reshape(-1, 1)
    return Coupling(resolved.nodes.reshape(-1), _ZERO.expand(2), column, torch.zeros_like(column), (), False)


def _regions(resolved: Resolved, coupled: Tensor, second: Tensor) -> tuple[Region, ...]:
    """Rectangles of the panels and cells most of whose samples are coupled: runs of cells with equal runs of panels."""
    cells_of: dict[tuple[int, int], list[int]] = {}
    for cell, flags in enumerate((coupled.double().mean(1) > 0.5).T.tolist()):
        panels = [-1, *(k for k, (a, b) in enumerate(itertools.pairwise(flags)) if a != b), len(flags) - 1]
        for before, last in itertools.pairwise(panels):
            if flags[last]:
                cells_of.setdefault((before + 1, last + 1), []).append(cell)
    regions = []
    for (low, high), cells in sorted(cells_of.items()):
        for _, group in itertools.groupby(enumerate(cells), lambda each: each[1] - each[0]):
            run = [cell for _, cell in group]
            ends = second[[run[0], min(run[-1] + 1, len(second) - 1)]].tolist()
            regions.append(Region(Interval(*resolved.edges[[low, high]].tolist()), Interval(*ends)))
    return tuple(regions)


def read_margin(probe: Probe, advantage: Tensor, domain: Interval, tolerance: float) -> Reading:
    """Of ℓ(m), whose coordinate is the margin.

    >>> read_margin(Probe(lambda m: m**2, 1), _ZERO, Interval(-3.0, 3.0), 1e-8).driven
    False
    """
    resolved, tolerance, relative = _resolved(probe, lambda x: probe.force(x)[:, None], None, domain, tolerance)
    flat = torch.ones_like(resolved.values[..., 0])
    return Reading("margin", resolved, resolved.values, flat, _uncoupled(resolved, flat), tolerance, relative)


def read_pair(probe: Probe, advantage: Tensor, domain: Interval, tolerance: float) -> Reading:
    """Of ℓ(Δ⁺, Δ⁻): on the diagonal the margin is zero, so ∂ℓ/∂Δ⁺ there is h'(0)·u'(Δ).

    >>> read_pair(Probe(lambda c, r: (c - r - 1) ** 2, 2), _ZERO, Interval(-3.0, 3.0), 1e-8).coupling.coupled
    False
    """
    rejected = torch.tensor(_REJECTED, dtype=torch.float64)

    def forces(x: Tensor) -> Tensor:
        return torch.cat([probe.force(x, x)[:, None], probe.force(x, x, of=1)[:, None], probe.grid(x, rejected)], -1)

    resolved, tolerance, relative = _resolved(probe, forces, None, domain, tolerance)
    at_home = forces(_home(resolved))[0, 0]
    # Where the force vanishes at equal log-ratios there is no chart to be read along the diagonal: the log-ratio is
    # tried, and what it does not explain is a coupling.
    diagonal = resolved.values[..., 0]
    slope = torch.ones_like(diagonal) if float(at_home.abs()) < 1e-14 else diagonal / at_home
    force = resolved.values[..., 2 + _REJECTED.index(0.0), None]
    coupling = _pair_coupling(resolved, slope, force[..., 0], rejected, 100 * tolerance)
    return Reading("pair", resolved, force, slope, coupling, tolerance, relative)


def _pair_coupling(resolved: Resolved, slope: Tensor, force: Tensor, rejected: Tensor, tolerance: float) -> Coupling:
    """Whether the loss is a function of u(Δ⁺) − u(Δ⁻).

    On the diagonal the two forces must cancel; off it, the force is compared with that against an unmoved response.
    """
    diagonal, opposite, grid = resolved.values.split([1, 1, len(rejected)], -1)
    chart, link = resolved.curve(slope).integral(), resolved.curve(force / slope)
    expected = link(chart.inverse(chart(resolved.nodes)[..., None] - chart(rejected))) * slope[..., None]
    size = torch.maximum(grid.abs(), expected.abs()) + 1e-6 * grid.abs().amax()
    known = torch.isfinite(expected) & (resolved.nodes.abs() < 12)[..., None]
    unbalanced = (diagonal + opposite).abs() / torch.maximum(diagonal.abs(), opposite.abs()).clamp(min=1e-300)
    deviation = torch.maximum(torch.where(known, (grid - expected).abs() / size, 0.0), unbalanced)
    x = resolved.nodes.reshape(-1)
    cells, deviations = ((each).reshape(len(x), -1) for each in (grid / slope[..., None], deviation))
    return Coupling(x, rejected, cells, deviations, _regions(resolved, deviation > tolerance, rejected), False)


def last_coefficients(part: Resolved, values: Tensor) -> Tensor:
    """`(panel, 1)`: the last Legendre coefficients, a measure of how values at nodes are rounded.

    >>> flat = Resolved(torch.tensor([-1.0, 1.0], dtype=torch.float64), torch.zeros(1, 16, 1), ())
    >>> last_coefficients(flat, torch.ones(1, 16, dtype=torch.float64)) < 1e-15
    tensor([[True]])
    """
    return part.curve(values).coefficients[:, -3:].abs().amax(-1, keepdim=True)
