"""From forces to the slope of the chart, the drive, and where the two are not independent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.analysis.identification.curve import Resolved, resolve
from geomalign.analysis.identification.law import Law, finite, noise
from geomalign.analysis.identification.report import Coupling, Region

_REJECTED = (-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """What all three kinds of loss come to: forces on resolved panels, the slope of the chart, the drive of each
    column."""

    kind: str
    resolved: Resolved
    force: Tensor  # (panel, node, drive)
    slope: Tensor  # (panel, node)
    advantage: Tensor
    drive: Tensor
    base: int
    coupling: Coupling
    driven: bool
    affine: bool
    tolerance: float
    rounding: float  # relative, of the force


def _accuracy(force: Callable[[Tensor], Tensor], domain: Interval, tolerance: float) -> tuple[float, float]:
    """How well panels can resolve the force, and how well names can fit it, given how it is rounded."""
    rounding = noise(force, domain)
    return max(1e-12, 100 * rounding), max(tolerance, 1e4 * rounding)


def _rounding(resolution: float) -> float:
    return 0.02 * resolution


def read_advantage(law: Law, advantage: Tensor, domain: Interval, tolerance: float) -> Reading:
    if len(advantage) < 3:
        raise ValueError(
            f"identify(advantages={advantage.tolist()}): with fewer than three, a dependence on the "
            "advantage cannot be told from a product."
        )
    drives = len(advantage)

    def forces(x: Tensor) -> Tensor:
        return torch.cat([t for t in law.grid(x, advantage, mixed=True) if t is not None], -1)

    domain = finite(law, domain, forces)
    resolution, tolerance = _accuracy(lambda x: law.grid(x, advantage)[0], domain, tolerance)
    resolved = resolve(forces, domain, tolerance=resolution)
    force, mixed = resolved.values[..., :drives], resolved.values[..., drives:]
    x0 = _home(resolved)
    force_0, mixed_0 = forces(x0).split(drives, -1)
    step = advantage.diff()
    base = int(advantage.abs().argmin())
    rates = -force_0[0].diff() / step
    size = force_0.abs().max().clamp(min=1e-300)
    if float((force.diff(dim=-1).abs() / force.abs().amax(-1, keepdim=True).clamp(min=1e-300)).max()) < 1e-9:
        flat = torch.ones_like(force[..., 0])
        coupling = _no_coupling(resolved, flat)
        return _without_drive("advantage", resolved, force[..., :1], flat, coupling, tolerance, resolution)
    if float(rates.abs().max()) < 1e-9 * float(size):
        raise ValueError(
            "the advantage does not move the loss at the anchor: no drive can be read there. Shift the "
            "log-ratio so that it does."
        )
    affine = float((rates - rates.mean()).abs().max()) <= tolerance * float(rates.abs().max()) + 1e-14 * float(size)
    drive = advantage.clone() if affine else force_0[0, base] - force_0[0]
    growth = torch.ones_like(advantage) if affine else -mixed_0[0]

    # What differences of rounded forces can show: a force is rounded as its terms are, and the last Legendre
    # coefficients tell.
    def last(values: Tensor) -> Tensor:
        return torch.stack([last_coefficients(resolved, column) for column in values.unbind(-1)]).amax(0)[..., None]

    noise = 1e3 * last(force) + 1e-13 * force.abs().amax(-1, keepdim=True)
    rounding = noise / drive.diff().abs().min().clamp(min=1e-300) + 1e3 * last(mixed) / growth.abs().max()
    slope, cells, derivative = _slopes(force, mixed, drive, growth, rounding)
    if affine and bool(derivative.isnan().all()):
        slope = _refined(law, resolved, slope, rounding)
    coupling = _coupling(resolved, slope, cells, derivative, advantage, rounding, 10 * tolerance)
    reading = Reading(
        "advantage",
        resolved,
        force,
        slope,
        advantage,
        drive,
        base,
        coupling,
        True,
        affine,
        tolerance,
        _rounding(resolution),
    )
    return reading


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
    below, above = torch.cat([cells[..., :1], cells], -1), torch.cat([cells, cells[..., -1:]], -1)
    size = torch.maximum(derivative.abs(), torch.maximum(below.abs(), above.abs()))
    apart = torch.minimum((derivative - below).abs(), (derivative - above).abs())
    between = (derivative - below) * (
        derivative - above
    ) <= 0  # a drive that is not affine has a slope between its neighbours'
    affine = bool((growth == growth[0]).all())
    agrees = (apart <= 1e-3 * size + rounding) | (between if not affine else torch.zeros_like(between))
    derivative = torch.where(agrees.all(1, keepdim=True).all(0, keepdim=True), derivative, math.nan)
    chosen = cells if bool(derivative.isnan().all()) else derivative.nan_to_num(0.0)
    slope = chosen[torch.arange(len(chosen)), :, chosen.abs().sum(1).argmax(-1)]
    return slope, cells, derivative


def _refined(law: Law, resolved: Resolved, slope: Tensor, rounding: Tensor) -> Tensor:
    """u' from differences at advantages so large that the drive outweighs the mirror, where those do not contradict it.

    For losses that are affine in the advantage and through which no derivative by it passes.
    """
    x = resolved.nodes.reshape(-1)
    sizes = 10.0 ** torch.arange(0, 21, dtype=torch.float64)
    still = law.force(x, torch.zeros_like(x))[0]
    best = torch.zeros_like(x)
    for sign in (-1.0, 1.0):
        change = law.grid(x, sign * sizes)[0] - still[:, None]
        felt = change.abs() >= still.abs()[:, None]
        first = torch.where(felt.any(-1), felt.to(torch.int8).argmax(-1), len(sizes) - 1)[:, None]
        found = (-change.gather(-1, first) / (sign * sizes[first]))[:, 0]
        best = torch.where(found.abs() > best.abs(), found, best)
    best = best.reshape(slope.shape)
    return torch.where((best - slope).abs() <= 1e-6 * slope.abs() + rounding[..., 0], best, slope)


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
    ends = torch.fmin(off[..., 1:], off[..., :-1])
    gross = ends.nan_to_num(0.0) * (rounding > tolerance * size)
    deviation = torch.maximum(deviation, gross)
    flagged = (deviation > tolerance).double().mean(1) > 0.5
    regions: list[Region] = []
    for rows, columns in _rectangles(flagged):
        log_ratio = Interval(float(resolved.edges[rows[0]]), float(resolved.edges[rows[1]]))
        regions.append(Region(log_ratio, Interval(float(advantage[columns[0]]), float(advantage[columns[1]]))))
    signs = torch.sign(advantage[1:] + advantage[:-1])
    by_sign = bool(regions)
    for sign in (-1.0, 1.0):
        group = cells[..., signs == sign]
        if group.shape[-1] > 1:
            spread = group.amax(-1) - group.amin(-1) - 2 * rounding[..., 0]
            by_sign = by_sign and bool((spread <= tolerance * size[..., 0]).double().mean() > 0.99)
    x = resolved.nodes.reshape(-1)
    return Coupling(x, advantage, cells.reshape(len(x), -1), deviation.reshape(len(x), -1), tuple(regions), by_sign)


def core_size(resolved: Resolved, force: Tensor) -> Tensor:
    near = (resolved.nodes.abs() <= 1.0)[..., None]
    return torch.where(near, force.abs(), 0.0).amax()


def _rectangles(flagged: Tensor) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The flagged cells as rectangles: runs of columns with equal runs of rows."""
    runs: list[tuple[tuple[int, int], int]] = []
    for column in range(flagged.shape[1]):
        edge = torch.cat([torch.zeros(1), flagged[:, column].double(), torch.zeros(1)]).diff()
        starts, stops = (edge > 0).nonzero()[:, 0].tolist(), (edge < 0).nonzero()[:, 0].tolist()
        runs += [((a, b), column) for a, b in zip(starts, stops)]
    rectangles: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for rows in sorted({r for r, _ in runs}):
        columns = sorted(c for r, c in runs if r == rows)
        first = previous = columns[0]
        for c in [*columns[1:], math.inf]:
            if c != previous + 1:
                rectangles.append((rows, (first, previous + 1)))
                first = int(c) if c != math.inf else 0
            previous = int(c) if c != math.inf else 0
    return rectangles


def _no_coupling(resolved: Resolved, slope: Tensor) -> Coupling:
    x = resolved.nodes.reshape(-1)
    return Coupling(
        x,
        torch.zeros(2, dtype=torch.float64),
        slope.reshape(-1, 1),
        torch.zeros(len(x), 1, dtype=torch.float64),
        (),
        False,
    )


def _without_drive(
    kind: str, resolved: Resolved, force: Tensor, slope: Tensor, coupling: Coupling, tolerance: float, resolution: float
) -> Reading:
    """Of a loss without an advantage: what drives it is told apart from its potential when that is named."""
    zero = torch.zeros(1, dtype=torch.float64)
    return Reading(
        kind=kind,
        resolved=resolved,
        force=force,
        slope=slope,
        advantage=zero,
        drive=zero,
        base=0,
        coupling=coupling,
        driven=False,
        affine=True,
        tolerance=tolerance,
        rounding=_rounding(resolution),
    )


def read_margin(law: Law, advantage: Tensor, domain: Interval, tolerance: float) -> Reading:
    def forces(x: Tensor) -> Tensor:
        return law.force(x)[0][:, None]

    domain = finite(law, domain, forces)
    resolution, tolerance = _accuracy(forces, domain, tolerance)
    resolved = resolve(forces, domain, tolerance=resolution)
    slope = torch.ones_like(resolved.values[..., 0])
    coupling = _no_coupling(resolved, slope)
    return _without_drive("margin", resolved, resolved.values, slope, coupling, tolerance, resolution)


def read_pair(law: Law, advantage: Tensor, domain: Interval, tolerance: float) -> Reading:
    """On the diagonal the margin is zero, so ∂ℓ/∂Δ_chosen there is h'(0)·u'(Δ): the chart's slope up to a factor."""
    rejected = torch.tensor(_REJECTED, dtype=torch.float64)

    def forces(x: Tensor) -> Tensor:
        return torch.cat(
            [law.force(x, x)[0][:, None], law.force_of_second(x, x)[:, None], law.grid(x, rejected)[0]], -1
        )

    domain = finite(law, domain, forces)
    resolution, tolerance = _accuracy(forces, domain, tolerance)
    resolved = resolve(forces, domain, tolerance=resolution)
    at_home = forces(_home(resolved))[0, 0]
    # Where the force vanishes at equal log-ratios there is no chart to be read along the diagonal: the log-ratio is
    # tried, and what it does not explain is a coupling.
    silent = float(at_home.abs()) < 1e-14
    slope = torch.ones_like(resolved.values[..., 0]) if silent else resolved.values[..., 0] / at_home
    zero_column = 2 + _REJECTED.index(0.0)
    force = resolved.values[..., zero_column : zero_column + 1]
    coupling = _pair_coupling(resolved, resolved.values, slope, force[..., 0], rejected, 100 * tolerance)
    return _without_drive("pair", resolved, force, slope, coupling, tolerance, resolution)


def _pair_coupling(
    resolved: Resolved, forces: Tensor, slope: Tensor, force: Tensor, rejected: Tensor, tolerance: float
) -> Coupling:
    """Whether the loss is a function of u(Δ_chosen) − u(Δ_rejected).

    On the diagonal the two forces must cancel; off it, the force is compared with that against an unmoved response.
    """
    diagonal, opposite, grid = forces[..., :1], forces[..., 1:2], forces[..., 2:]
    chart, link = resolved.curve(slope).integral(), resolved.curve(force / slope)
    u = chart(resolved.nodes)[..., None] - chart(rejected)
    expected = link(chart.inverse(u)) * slope[..., None]
    size = torch.maximum(grid.abs(), expected.abs()) + 1e-6 * grid.abs().amax()
    known = torch.isfinite(expected) & (resolved.nodes.abs() < 12)[..., None]
    deviation = torch.where(known, (grid - expected).abs() / size, 0.0)
    unbalanced = (diagonal + opposite).abs() / torch.maximum(diagonal.abs(), opposite.abs()).clamp(min=1e-300)
    deviation = torch.maximum(deviation, unbalanced)
    regions: list[Region] = []
    for rows, columns in _rectangles((deviation > tolerance).double().mean(1) > 0.5):
        log_ratio = Interval(float(resolved.edges[rows[0]]), float(resolved.edges[rows[1]]))
        regions.append(
            Region(
                log_ratio, Interval(float(rejected[columns[0]]), float(rejected[min(columns[1], len(rejected) - 1)]))
            )
        )
    x = resolved.nodes.reshape(-1)
    return Coupling(
        x, rejected, (grid / slope[..., None]).reshape(len(x), -1), deviation.reshape(len(x), -1), tuple(regions), False
    )


def last_coefficients(part: Resolved, values: Tensor) -> Tensor:
    """`(panel, 1)`: the last Legendre coefficients, a measure of how values at nodes are rounded."""
    return part.curve(values).coefficients[..., -3:].abs().amax(-1, keepdim=True)
