"""Separates a force into the slope of the chart and the drive, and says where the two are not independent."""

from __future__ import annotations

import dataclasses
import itertools
import math

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.analysis.identification.curve import Resolved, resolve
from geomalign.analysis.identification.probing import Probe, finite_domain, rounding_error
from geomalign.analysis.identification.report import Coupling, Region

_REJECTED = torch.tensor([-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0], dtype=torch.float64)
_ZERO, _FAR = torch.zeros(1, dtype=torch.float64), (-1e20, 1e20)


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """What all three kinds of loss are read into; without an advantage, the drive is found when the potential is named.

    >>> read(Probe(lambda m: m**2, 1), "margin", _ZERO, Interval(-3.0, 3.0), 1e-8).driven
    False
    """

    kind: str
    resolved: Resolved
    tolerance: float
    rounding: float  # relative, of the force
    force: Tensor  # (panel, node, drive)
    slope: Tensor  # (panel, node)
    coupling: Coupling = Coupling()
    advantage: Tensor = _ZERO
    drive: Tensor = _ZERO
    base: int = 0  # the column of the advantage nearest to zero
    driven: bool = False
    affine: bool = True  # of the drive in the advantage


def read(probe: Probe, kind: str, advantage: Tensor, domain: Interval, tolerance: float) -> Reading:
    """The force of a loss on panels, and, of it, chart, drive and coupling.

    >>> probe, advantage = Probe(lambda x, a: x**2 - a * x, 2), torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    >>> read(probe, "advantage", advantage, Interval(-3.0, 3.0), 1e-8).affine
    True
    """

    def forces(x: Tensor) -> Tensor:
        if kind == "margin":
            return probe.force(x)[:, None]
        if kind == "advantage":
            return probe.grid(x, advantage)
        diagonal = probe.force(x, x), probe.force(x, x, of=1)
        return torch.cat([torch.stack(diagonal, -1), probe.grid(x, _REJECTED)], -1)

    domain = finite_domain(probe, domain, forces)
    rounding = rounding_error(forces, domain)
    resolution = max(1e-12, 100 * rounding)
    resolved, tolerance = resolve(forces, domain, tolerance=resolution), max(tolerance, 1e4 * rounding)
    flat = torch.ones_like(resolved.values[..., 0])
    reading = Reading(kind, resolved, tolerance, 0.02 * resolution, resolved.values, flat)
    # The anchor, or, if the force has a kink there, a point beside it.
    home = torch.tensor([1e-3 if any(abs(k) < 1e-6 for k in resolved.kinks) else 0.0], dtype=torch.float64)
    if kind == "advantage":
        return _read_driven(probe, reading, advantage, forces(home)[0])
    return _read_pair(reading, forces(home)[0, 0]) if kind == "pair" else reading


def _read_driven(probe: Probe, reading: Reading, advantage: Tensor, at_home: Tensor) -> Reading:
    """Of ℓ(Δ, A), where −ΔF/Δg across each cell of A is u'(Δ), in every cell if nothing is coupled.

    Where it is, there is a choice of u': on every panel it is that of the cell with the most pull.
    """
    if len(advantage) < 3:
        raise ValueError(
            f"identify(advantages={advantage.tolist()}): with fewer than three, a dependence on the "
            "advantage cannot be told from a product."
        )
    resolved, tolerance, force = reading.resolved, reading.tolerance, reading.force
    size, rates = float(at_home.abs().max().clamp(min=1e-300)), -at_home.diff() / advantage.diff()
    largest = force.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    if float((force.diff(dim=-1).abs() / largest).max()) < 1e-9:
        return dataclasses.replace(reading, force=force[..., :1])
    if float(rates.abs().max()) < 1e-9 * size:
        raise ValueError(
            "the advantage does not move the loss at the anchor: no drive can be read there. Shift the "
            "log-ratio so that it does."
        )
    affine = float((rates - rates.mean()).abs().max()) <= tolerance * float(rates.abs().max()) + 1e-14 * size
    base = int(advantage.abs().argmin())
    drive = advantage.clone() if affine else at_home[base] - at_home
    step, pull = drive.diff(), -force.diff(dim=-1)
    # What differences of rounded forces can show: the last Legendre coefficients tell how a force is rounded.
    last = torch.stack([resolved.last(column) for column in force.unbind(-1)]).amax(0)
    noise = (1e3 * last + 1e-13 * force.abs().amax(-1))[..., None].expand_as(pull)
    if affine:  # differences at ±1e20 outweigh any mirror; they are taken where those between the probes agree
        x = resolved.nodes.reshape(-1)
        down, up = (((probe.force_at(x, 0.0) - probe.force_at(x, a)) / a).reshape(*last.shape[:1], -1, 1) for a in _FAR)
        far = torch.where(advantage[1:] + advantage[:-1] > 0, up, down) * step
        agree = (far - pull).abs() <= 1e-6 * far.abs() + noise
        pull, noise = torch.where(agree, far, pull), torch.where(agree, 1e-20 * noise, noise)
    cells = pull / torch.where(step != 0, step, math.inf)
    slope = cells[torch.arange(len(cells)), :, cells.abs().sum(1).argmax(-1)]
    allowed = 10 * tolerance * cells.abs().amax(-1, keepdim=True)
    coupled = (pull - slope[..., None] * step).abs() > allowed * step.abs() + noise
    regions = _regions(resolved, coupled, advantage)
    signs, by_sign = torch.sign(advantage[1:] + advantage[:-1]), bool(regions)
    for sign in (-1.0, 1.0):
        group = cells[..., signs == sign]
        if group.shape[-1] > 1:
            spread = group.amax(-1) - group.amin(-1) - 2 * noise.amax(-1) / step.abs()[step != 0].min()
            by_sign = by_sign and bool((spread <= allowed[..., 0]).double().mean() > 0.99)
    separated = dataclasses.replace(reading, slope=slope, coupling=Coupling(regions, by_sign))
    return dataclasses.replace(separated, advantage=advantage, drive=drive, base=base, driven=True, affine=affine)


def _read_pair(reading: Reading, at_home: Tensor) -> Reading:
    """Of ℓ(Δ⁺, Δ⁻): on the diagonal the margin is zero, so ∂ℓ/∂Δ⁺ there is h'(0)·u'(Δ).

    If the loss is a function of u(Δ⁺) − u(Δ⁻), the two forces cancel on the diagonal, and every force off it is one
    against an unmoved response.
    """
    resolved, tolerance = reading.resolved, 100 * reading.tolerance
    diagonal, opposite, grid = resolved.values.split([1, 1, len(_REJECTED)], -1)
    # Where the force vanishes at equal log-ratios there is no chart to be read along the diagonal: the log-ratio is
    # tried, and what it does not explain is a coupling.
    slope = reading.slope if float(at_home.abs()) < 1e-14 else diagonal[..., 0] / at_home
    force = grid[..., int(_REJECTED.abs().argmin())]
    chart, link = resolved.curve(slope).integral(), resolved.curve(force / slope)
    expected = link(chart.inverse(chart(resolved.nodes)[..., None] - chart(_REJECTED))) * slope[..., None]
    size = torch.maximum(grid.abs(), expected.abs()) + 1e-6 * grid.abs().amax()
    known = torch.isfinite(expected) & (resolved.nodes.abs() < 12)[..., None]
    unbalanced = (diagonal + opposite).abs() / torch.maximum(diagonal.abs(), opposite.abs()).clamp(min=1e-300)
    excess = torch.maximum(torch.where(known, (grid - expected).abs() / size, 0.0), unbalanced)
    coupling = Coupling(_regions(resolved, excess > tolerance, _REJECTED))
    return dataclasses.replace(reading, force=force[..., None], slope=slope, coupling=coupling)


def _regions(resolved: Resolved, coupled: Tensor, second: Tensor) -> tuple[Region, ...]:
    """Rectangles of the panels and cells most of whose samples are coupled, over cells that are coupled alike."""
    columns, regions = (coupled.double().mean(1) > 0.5).T.tolist(), []
    for flags, cells in itertools.groupby(range(len(columns)), key=lambda cell: columns[cell]):
        first, *_, last = [*cells] * 2
        ends = second[[first, min(last + 1, len(second) - 1)]].tolist()
        for on, panels in itertools.groupby(range(len(flags)), key=lambda panel: flags[panel]):
            low, *_, high = [*panels] * 2
            if on:
                regions.append(Region(Interval(*resolved.edges[[low, high + 1]].tolist()), Interval(*ends)))
    return tuple(sorted(regions, key=lambda region: (region.log_ratio.low, region.advantage.low)))
