"""Pair losses that are sums: ℓ(Δ⁺, Δ⁻) = a(Δ⁺) + b(Δ⁻) + h(u(Δ⁺) − u(Δ⁻)), taken apart.

∂²ℓ/∂Δ⁺∂Δ⁻ = −h''(u⁺ − u⁻) u'⁺ u'⁻ knows nothing of a and b, and on the diagonal it is u'² up to a factor. With u'
known, S = F⁺/u'⁺ + F⁻/u'⁻ = a'/u'⁺ + b'/u'⁻ knows nothing of h. What is left open is one number: a term linear in u
may stand in h, or with opposite signs in a and b. It is put where a term disappears: in h.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.analysis.identification import recognise
from geomalign.analysis.identification.curve import resolve
from geomalign.analysis.identification.law import Law, finite
from geomalign.analysis.identification.links import link
from geomalign.analysis.identification.report import Moved, Part
from geomalign.chart import Chart, LogOdds, LogRatio, Ratio
from geomalign.optimization import Flat
from geomalign.unit import Chosen, Pair, Preference, Rejected, Unit

_PROBES = (-2.0, -0.7, 0.0, 0.4, 1.3)


@dataclasses.dataclass(frozen=True, eq=False)
class _Field:
    """Both forces and their mixed derivative at pairs `(x, y)`."""

    law: Law

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, mixed = self.law.force(x, y, mixed=True)
        assert mixed is not None
        return first.double(), self.law.force_of_second(x, y).double(), mixed.double()


def parts_of(law: Law, domain: Interval, tolerance: float) -> tuple[Part, ...]:
    """The named terms of a pair loss; empty where one of them has no name, or where it is no such sum."""
    field = _Field(law)

    def along(x: Tensor) -> Tensor:
        zero = torch.zeros_like(x)
        return torch.stack([*field(x, zero), *field(zero, x)[:2], field(x, x)[2]], -1)

    domain = finite(law, domain, along)
    resolved = resolve(along, domain, tolerance=1e-11)
    x = resolved.nodes.reshape(-1)
    grid_x, grid_y = x[:: max(1, len(x) // 60)], torch.tensor(_PROBES, dtype=torch.float64)
    grid_y = grid_y[(grid_y > domain.low) & (grid_y < domain.high)]
    gx, gy = (z.reshape(-1) for z in torch.meshgrid(grid_x, grid_y, indexing="ij"))
    first, second, mixed = field(gx, gy)
    size = float(torch.maximum(first.abs(), second.abs()).max())
    zero = torch.zeros_like(x)
    if float(mixed.abs().max()) <= 1e-12 * size:
        sides: tuple[tuple[Unit, Tensor], ...] = ((Chosen(), field(x, zero)[0]), (Rejected(), field(zero, x)[1]))
        named = [_side(unit, x, force, tolerance) for unit, force in sides if bool((force.abs() > 0).any())]
        return _confirmed(field, named, domain, tolerance)
    for chart in _charts(x, field(x, x)[2], tolerance):
        if not _additive(field, chart, gx, gy, size, tolerance):
            continue
        slope, at_home = chart.slope(x), float(chart.slope(torch.zeros(1, dtype=torch.float64)))
        (f_x, g_x, _), (f_y, g_y, _) = field(x, zero), field(zero, x)
        constant = float(sum(force[0] for force in field(zero[:1], zero[:1])[:2])) / at_home
        chosen = f_x / slope + g_x / at_home
        rejected = f_y / at_home + g_y / slope - constant
        link_force = -g_x / at_home
        absent = 10 * tolerance * size
        if bool((rejected.abs() * slope > absent).any()) and not bool(
            ((chosen - constant).abs() * slope > absent).any()
        ):
            chosen, rejected, link_force = zero, rejected + constant, link_force + constant
        found = [_pair(chart, x, link_force, tolerance)]
        for unit, along_u in ((Chosen(), chosen), (Rejected(), rejected)):
            if bool((along_u.abs() * slope > absent).any()):
                found.append(_side(unit, x, along_u * slope, tolerance))
        parts = _confirmed(field, found, domain, tolerance)
        if parts:
            return parts
    return ()


def _confirmed(field: _Field, found: list[Part | None], domain: Interval, tolerance: float) -> tuple[Part, ...]:
    """The parts if all have names and together predict both forces at pairs that no fit has seen."""
    parts = tuple(part for part in found if part is not None)
    if len(parts) < len(found):
        return ()
    golden = (torch.arange(1, 257, dtype=torch.float64) * ((5**0.5 - 1) / 2)) % 1.0
    x = domain.low + (domain.high - domain.low) * golden
    y = domain.low + (domain.high - domain.low) * (7 * golden % 1.0)
    measured = field(x, y)[:2]
    predicted = [sum(forces) for forces in zip(*(part.forces(x, y) for part in parts), strict=True)]
    size = torch.maximum(*(m.abs() for m in measured)) + 1e-3 * max(float(m.abs().max()) for m in measured)
    worst = max(float(((p - m).abs() / size).max()) for p, m in zip(predicted, measured, strict=True))
    return parts if worst <= 100 * tolerance else ()


def _charts(x: Tensor, diagonal: Tensor, tolerance: float) -> list[Chart]:
    """Named charts whose squared slope is the mixed derivative on the diagonal; all that may be, where that is zero."""
    if float(diagonal.abs().max()) <= 1e-12:
        return [LogRatio(), Ratio()]
    home = int(x.abs().argmin())
    square = diagonal / diagonal[home]
    if not bool((square > 0).all()):
        return []
    match = recognise.chart(x, square.sqrt(), 10 * tolerance, scaled=True)
    if match is not None:
        return [match.chart]
    # 1/(1 − c e^Δ), the slope of log-odds at an anchor of probability c, up to a factor: linear in (c, factor).
    inverse = 1 / square.sqrt()
    factor, falling = recognise.least_squares([torch.ones_like(x), x.exp()], inverse, 1 / inverse).tolist()
    if not (factor > 0 and -falling / factor > 0):
        return []
    log_odds = Moved(LogOdds(), recognise.tidy(float(torch.tensor(-falling / factor).log()), tolerance))
    gap = (log_odds.slope(x) * inverse / factor - 1).abs().max()
    return [log_odds] if float(gap) <= 100 * tolerance else []


def _additive(field: _Field, chart: Chart, x: Tensor, y: Tensor, size: float, tolerance: float) -> bool:
    """Whether S(x, y) = S(x, 0) + S(0, y) − S(0, 0), and the mixed derivative is a function of u(x) − u(y)."""
    zero = torch.zeros_like(x)

    def rest(a: Tensor, b: Tensor) -> Tensor:
        first, second, _ = field(a, b)
        return first / chart.slope(a) + second / chart.slope(b)

    excess = rest(x, y) - rest(x, zero) - rest(zero, y) + rest(zero, zero)
    if float((excess.abs() * torch.minimum(chart.slope(x), chart.slope(y))).max()) > 100 * tolerance * size:
        return False
    same = chart.inverse(chart(x) - chart(y) + chart(zero))
    known = torch.isfinite(same) & (same.abs() < 12)
    same = torch.where(known, same, 0)
    here = field(x, y)[2] / (chart.slope(x) * chart.slope(y))
    there = field(same, zero)[2] / (chart.slope(same) * chart.slope(zero))
    return bool(((here - there).abs() <= 1e-6 * (here.abs() + there.abs()) + 1e-9 * size)[known].all())


def _pair(chart: Chart, x: Tensor, force: Tensor, tolerance: float) -> Part | None:
    margin = chart(x) - chart(torch.zeros_like(x))
    core = x.abs() <= 1.0
    match = recognise.potential(margin, force, tolerance, core=core)
    if match is not None:
        return Part(Pair(margin=match.shift), chart, match.potential, 0.0 - match.offset, match.residual)
    found = link(margin, force, tolerance)
    if found is None:
        return None
    unit: Unit = Pair() if found.beta is None else Preference(beta=found.beta)
    return Part(unit, chart, found.optimization, found.drive, found.residual)


def _side(unit: Unit, x: Tensor, force: Tensor, tolerance: float) -> Part | None:
    """A term of one response: a potential of its log-ratio, or else a named chart that nothing resists in."""
    match = recognise.potential(x, force, tolerance, core=x.abs() <= 1.0, drive_size=0.0)
    if match is not None and match.shift == 0:
        return Part(unit, LogRatio(), match.potential, 0.0 - match.offset, match.residual)
    sign = 1.0 if float(force.sum()) > 0 else -1.0
    if bool((sign * force <= 0).any()):
        return None
    chart = recognise.chart(x, sign * force, tolerance)
    return None if chart is None else Part(unit, chart.chart, Flat(), -sign * chart.scale, chart.residual)
