"""Pair losses that are sums: ℓ(Δ⁺, Δ⁻) = a(Δ⁺) + b(Δ⁻) + h(u(Δ⁺) − u(Δ⁻)), taken apart.

∂²ℓ/∂Δ⁺∂Δ⁻ = −h''(u⁺ − u⁻) u'⁺ u'⁻ knows nothing of a and b, and on the diagonal it is u'² up to a factor. With u'
known, S = F⁺/u'⁺ + F⁻/u'⁻ = a'/u'⁺ + b'/u'⁻ knows nothing of h. What is left open is one number: a term linear in u
may stand in h, or with opposite signs in a and b. It is put where a term disappears: in h.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.analysis.identification import families
from geomalign.analysis.identification.curve import resolve
from geomalign.analysis.identification.fitting import Match, amplitudes, exp, first, separable, solve, some, tidy
from geomalign.analysis.identification.probing import Probe, finite_domain, fresh
from geomalign.analysis.identification.report import Moved, Part
from geomalign.chart import Chart, LogOdds, LogRatio, Ratio
from geomalign.optimization import ChiSquare, Flat, LogRatioModulated, NegativeEntropy, OptimizationGeometry
from geomalign.unit import Chosen, Pair, Preference, Rejected, Unit

_PROBES = (-2.0, -0.7, 0.0, 0.4, 1.3)


def named_parts(probe: Probe, domain: Interval, tolerance: float) -> tuple[Part, ...]:
    """The named terms of a pair loss; empty where one of them has no name, or where it is no such sum.

    >>> parts = named_parts(Probe(lambda c, r: (c - 1) ** 2 + r**2, 2), Interval(-3.0, 3.0), 1e-8)
    >>> [(type(part.unit).__name__, part.optimization, round(part.drive, 9)) for part in parts]
    [('Chosen', ChiSquare(mu=2.0), 2.0), ('Rejected', ChiSquare(mu=2.0), 0.0)]
    """
    field = probe.forces

    def along(x: Tensor) -> Tensor:
        zero = torch.zeros_like(x)
        return torch.stack([*field(x, zero), *field(zero, x)[:2], field(x, x)[2]], -1)

    domain = finite_domain(probe, domain, along)
    x = resolve(along, domain, tolerance=1e-11).nodes.reshape(-1)
    probes = torch.tensor([y for y in _PROBES if domain.low < y < domain.high], dtype=torch.float64)
    gx, gy = (z.reshape(-1) for z in torch.meshgrid(x[:: max(1, len(x) // 60)], probes, indexing="ij"))
    f_x, f_y, mixed = field(gx, gy)
    size, zero = float(torch.maximum(f_x.abs(), f_y.abs()).max()), torch.zeros_like(x)
    if float(mixed.abs().max()) <= 1e-12 * size:
        sides: tuple[tuple[Unit, Tensor], ...] = ((Chosen(), field(x, zero)[0]), (Rejected(), field(zero, x)[1]))
        named = [_side(unit, x, force, tolerance) for unit, force in sides if bool((force.abs() > 0).any())]
        return _confirmed(probe, named, domain, tolerance)
    for chart in _charts(x, field(x, x)[2], tolerance):
        if not _additive(probe, chart, gx, gy, size, tolerance):
            continue
        slope, at_home = chart.slope(x), float(chart.slope(torch.zeros(1, dtype=torch.float64)))
        (f_x, g_x, _), (f_y, g_y, _) = field(x, zero), field(zero, x)
        constant = float(sum(force[0] for force in field(zero[:1], zero[:1])[:2])) / at_home
        chosen, link = f_x / slope + g_x / at_home, -g_x / at_home
        rejected = f_y / at_home + g_y / slope - constant

        def felt(along_u: Tensor, slope: Tensor = slope) -> bool:
            return bool((along_u.abs() * slope > 10 * tolerance * size).any())

        if felt(rejected) and not felt(chosen - constant):
            chosen, rejected, link = zero, rejected + constant, link + constant
        found = [_between(chart, x, link, tolerance)]
        for unit, along_u in ((Chosen(), chosen), (Rejected(), rejected)):
            if felt(along_u):
                found.append(_side(unit, x, along_u * slope, tolerance))
        parts = _confirmed(probe, found, domain, tolerance)
        if parts:
            return parts
    return ()


def _confirmed(probe: Probe, found: Sequence[Part | None], domain: Interval, tolerance: float) -> tuple[Part, ...]:
    """The parts if all have names and together predict both forces at pairs that no fit has seen."""
    parts = tuple(part for part in found if part is not None)
    if len(parts) < len(found):
        return ()
    x, y = fresh(domain), fresh(domain, 7)
    measured = torch.stack(probe.forces(x, y)[:2])
    predicted = torch.stack([torch.stack(part.forces(x, y)) for part in parts]).sum(0)
    size = measured.abs().amax(0) + 1e-3 * measured.abs().max()
    return parts if float(((predicted - measured).abs() / size).max()) <= 100 * tolerance else ()


def _charts(x: Tensor, diagonal: Tensor, tolerance: float) -> list[Chart]:
    """Named charts whose squared slope is the mixed derivative on the diagonal; all that may be, where that is zero."""
    if float(diagonal.abs().max()) <= 1e-12:
        return [LogRatio(), Ratio()]
    square = diagonal / diagonal[int(x.abs().argmin())]
    if not bool((square > 0).all()):
        return []
    match = families.chart(x, square.sqrt(), 10 * tolerance, scaled=True)
    if match is not None:
        return [match.member]
    # 1/(1 − c e^Δ), the slope of log-odds at an anchor of probability c, up to a factor: linear in (c, factor).
    inverse = 1 / square.sqrt()
    factor, falling = amplitudes([torch.ones_like(x), x.exp()], inverse, 1 / inverse)
    if not (factor > 0 and -falling / factor > 0):
        return []
    log_odds = Moved(LogOdds(), tidy(float(torch.tensor(-falling / factor).log()), tolerance))
    gap = (log_odds.slope(x) * inverse / factor - 1).abs().max()
    return [log_odds] if float(gap) <= 100 * tolerance else []


def _additive(probe: Probe, chart: Chart, x: Tensor, y: Tensor, size: float, tolerance: float) -> bool:
    """Whether S(x, y) = S(x, 0) + S(0, y) − S(0, 0), and the mixed derivative is a function of u(x) − u(y)."""
    zero = torch.zeros_like(x)

    def rest(a: Tensor, b: Tensor) -> Tensor:
        f_a, f_b, _ = probe.forces(a, b)
        return f_a / chart.slope(a) + f_b / chart.slope(b)

    def mixed(a: Tensor, b: Tensor) -> Tensor:
        return probe.forces(a, b)[2] / (chart.slope(a) * chart.slope(b))

    excess = rest(x, y) - rest(x, zero) - rest(zero, y) + rest(zero, zero)
    if float((excess.abs() * torch.minimum(chart.slope(x), chart.slope(y))).max()) > 100 * tolerance * size:
        return False
    same = chart.inverse(chart(x) - chart(y) + chart(zero))
    known = torch.isfinite(same) & (same.abs() < 12)
    here, there = mixed(x, y), mixed(torch.where(known, same, 0), zero)
    return bool(((here - there).abs() <= 1e-6 * (here.abs() + there.abs()) + 1e-9 * size)[known].all())


def _side(unit: Unit, x: Tensor, force: Tensor, tolerance: float) -> Part | None:
    """A term of one response: a potential of its log-ratio, or else a named chart that nothing resists in."""
    match = families.potential(x, force, tolerance, core=x.abs() <= 1.0, drive_size=0.0)
    if match is not None and match.shift == 0:
        return Part(unit, LogRatio(), match.member, 0.0 - match.offset, match.residual)
    sign = 1.0 if float(force.sum()) > 0 else -1.0
    if bool((sign * force <= 0).any()):
        return None
    chart = families.chart(x, sign * force, tolerance)
    return None if chart is None else Part(unit, chart.member, Flat(), -sign * chart.scale, chart.residual)


def _between(chart: Chart, x: Tensor, force: Tensor, tolerance: float) -> Part | None:
    """The term of both responses: a convex potential of their margin, or of the preference probability, or a blend."""
    margin, core = chart(x) - chart(torch.zeros_like(x)), x.abs() <= 1.0
    match = families.potential(margin, force, tolerance, core=core)
    if match is not None:
        return Part(Pair(margin=match.shift), chart, match.member, 0.0 - match.offset, match.residual)
    size = force[margin.abs() <= 1.0].abs().max()
    if not float(size) > 0:
        return None

    def error(match: Match) -> float:
        part, both = match.member, torch.cat([margin, torch.zeros_like(margin)])
        u = part.unit.combine(both)
        found = part.unit.split(part.optimization.force(u, torch.full_like(u, part.drive)), both)[: len(x)]
        return float(((found - force).abs() / (force.abs() + size)).max())

    weight = 1 / (force.abs() + 1e-3 * size)
    match = first(_links(chart, margin, force, weight, tolerance), error, tolerance)
    return None if match is None else dataclasses.replace(match.member, residual=match.residual)


_SHAPES: tuple[tuple[Callable[[Tensor], Tensor] | None, Callable[[float], OptimizationGeometry]], ...] = (
    (None, lambda _: Flat()),
    (torch.sigmoid, ChiSquare),
    (lambda z: z, lambda factor: NegativeEntropy() if factor == 1 else factor * NegativeEntropy()),
)
"""φ'(p) as a function of log-odds z of p, and φ of a strength."""


def _links(chart: Chart, m: Tensor, f: Tensor, weight: Tensor, tolerance: float) -> Iterator[Match]:
    """In p = σ(βm), f/(β p p̄) = φ'(p) − g is constant (Flat), affine in p (ChiSquare) or in βm (NegativeEntropy)."""
    for shape, member in _SHAPES:

        def columns(x: Tensor, log_beta: float, shape: Callable[[Tensor], Tensor] | None = shape) -> list[Tensor]:
            z = exp(log_beta) * x
            slope = exp(log_beta) * torch.sigmoid(z) * torch.sigmoid(-z)
            return [slope] if shape is None else [slope, shape(z) * slope]

        (log_beta,), (pull, *factors) = separable(columns, m, f, weight, (-2.3,), (-3.5,), (-1.0,), (0.5,))
        factor = tidy(factors[0], tolerance) if factors else 1.0
        if factor > 0:
            unit = Preference(beta=tidy(exp(log_beta), tolerance))
            yield Match(Part(unit, chart, member(factor), tidy(0.0 - pull, tolerance), 0.0))
    # DiscoPOP's blend of two links under no drive, in (log β, log τ) from the best of a grid.
    few = some(m)

    def rest(*p: float) -> Tensor:
        beta, tau = (min(max(exp(each), 1e-4), 1e4) for each in p)
        force = LogRatioModulated(beta, tau).force(m[few], torch.zeros_like(m[few]))
        return (force - f[few]) * weight[few]

    grid = torch.cartesian_prod(*[torch.linspace(-5.0, 1.0, 25, dtype=m.dtype)] * 2).tolist()
    cost, place = solve(rest, sorted(grid, key=lambda p: float(rest(*p).square().sum()))[:4])
    if cost < 1e-6:
        beta, tau = (tidy(exp(each), 1e-9) for each in place)
        yield Match(Part(Pair(), chart, LogRatioModulated(beta, tau), 0.0, 0.0))
