"""From what was read to a report: potential, convention of the drive, saturation, and names for all of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.analysis.asymptotics import Tail, asymptote
from geomalign.analysis.identification import recognise
from geomalign.analysis.identification.coupled import of_sign
from geomalign.analysis.identification.curve import Curve, Resolved
from geomalign.analysis.identification.law import Law
from geomalign.analysis.identification.parts import parts_of
from geomalign.analysis.identification.reading import Reading, core_size, last_coefficients
from geomalign.analysis.identification.report import Identification, Kink, Recognised, TabulatedChart
from geomalign.analysis.identification.weights import of_drive, of_pair
from geomalign.chart import Chart, LogRatio, Ratio
from geomalign.optimization import Clip, Flat, OptimizationGeometry


def _determined(resolved: Resolved, slope: Tensor) -> tuple[int, int]:
    """The run of panels around the anchor on which the chart moves: beyond it no drive can be felt."""
    alive = (slope.abs() > 1e-280).all(-1)
    home = int(
        (torch.searchsorted(resolved.edges, torch.zeros(1, dtype=torch.float64), right=True) - 1).clamp(
            0, len(alive) - 1
        )
    )
    if not bool(alive[home]):
        home = int(torch.where(alive, resolved.nodes.abs().amin(-1), math.inf).argmin())
    dead_below, dead_above = (~alive[:home]).nonzero(), (~alive[home:]).nonzero()
    low = int(dead_below[-1]) + 1 if len(dead_below) else 0
    high = home + int(dead_above[0]) if len(dead_above) else len(alive)
    return low, high


def report_of(law: Law, reading: Reading) -> Identification:
    low, high = _determined(reading.resolved, reading.slope)
    part = Resolved(reading.resolved.edges[low : high + 1], reading.resolved.values[low:high], reading.resolved.kinks)
    slope, force = reading.slope[low:high], reading.force[low:high]
    x = part.nodes
    advantage, drive = reading.advantage, reading.drive
    by_sign = of_sign(reading, reading.tolerance) if reading.driven and reading.coupling.by_sign else None
    if by_sign is None:
        chart_match, window = _name_chart(part, slope, reading.tolerance, scaled=reading.kind == "pair")
    else:
        chart_match, window = by_sign[0], _reach(reading)
        slope = chart_match.chart.slope(x)
    if reading.kind == "pair" and reading.coupling.coupled:
        chart_match = None
    # A factor that the name does not have belongs to the drive; of a pair, whose slope is known up to a factor, to the
    # name.
    scale = chart_match.scale if chart_match is not None and (reading.driven or reading.kind == "pair") else 1.0
    slope, drive = slope / scale, drive * scale
    chart = TabulatedChart(part.curve(slope))
    columns = range(len(drive)) if reading.coupling.coupled and reading.driven else [reading.base]
    mirrors = [force[..., j] / slope + drive[j] for j in columns]
    base = columns.index(reading.base) if not isinstance(columns, range) else reading.base
    match, in_chart, window = _named_potential(x, slope, mirrors[base], window, chart, chart_match, reading)
    rate = recognise.exponential_rate(x.reshape(-1), mirrors[base].reshape(-1)) if match is None else None
    if rate is not None and chart_match is not None and chart_match.chart == LogRatio():
        # An exponential of ku is the reverse KL of the scaled log-ratio.
        rate = recognise.tidy(rate, reading.tolerance)
        scaled = dataclasses.replace(chart_match, chart=LogRatio(rate))
        match, in_chart, window = _named_potential(
            x, rate * slope, mirrors[base] / rate, window, chart, scaled, reading
        )
        if match is not None:
            chart_match, scale, slope, drive = scaled, scale * rate, rate * slope, drive / rate
            chart, mirrors = TabulatedChart(part.curve(slope)), [m / rate for m in mirrors]
    offset = match.offset if match is not None else _convention(law, reading, part.curve(mirrors[base]))
    if not reading.driven:
        drive = torch.full((1,), 0.0 - offset, dtype=torch.float64)
        mirrors = [mirrors[0] - offset]
    else:
        drive = drive - offset
        mirrors = [m - offset for m in mirrors]
    mirror_curves = tuple(part.curve(m) for m in mirrors)
    potential_curves = tuple(part.curve(m * slope).integral() for m in mirrors)
    near = float(torch.where(x.abs() <= 1.0, mirrors[base].abs(), 0.0).max())
    absolute = reading.tolerance * max(near, float(drive.abs().max()))
    convex = _convex(part, mirrors, slope, absolute, reading.tolerance)
    label = advantage if reading.driven else drive
    conservative = _conservative(law, reading)
    recognised = _recognised(
        law, reading, match, in_chart, chart_match, chart, window, label, drive, scale, by_sign and by_sign[1]
    )
    if not conservative:
        recognised = _weighted(law, reading, recognised)
    if reading.kind == "pair" and recognised.optimization is None:
        recognised = dataclasses.replace(recognised, parts=parts_of(law, _reach(reading), reading.tolerance))
    return Identification(
        kind=reading.kind,
        chart=chart,
        advantage=label,
        drive=drive,
        drive_formula=_drive_formula(reading, scale, offset),
        log_ratio=reading.resolved.nodes.reshape(-1),
        force=reading.force.reshape(-1, reading.force.shape[-1]),
        kinks=kinks_of(reading),
        coupling=reading.coupling,
        convex=convex,
        conservative=conservative,
        saturation=_saturation(law, reading, label),
        recognised=recognised,
        tolerance=reading.tolerance,
        _base=reading.base,
        _rounding=reading.rounding,
        _forces=tuple(reading.resolved.curve(reading.force[..., j]) for j in range(reading.force.shape[-1])),
        _mirrors=mirror_curves,
        _potentials=potential_curves,
    )


def _within(x: Tensor, window: Interval) -> Tensor:
    return (x > window.low) & (x < window.high)


def _name_chart(
    part: Resolved, slope: Tensor, tolerance: float, *, scaled: bool
) -> tuple[recognise.ChartMatch | None, Interval]:
    """A name for the whole chart, or else for its smooth part around the anchor."""
    x = part.nodes
    whole = Interval(float(part.edges[0]), float(part.edges[-1]))
    if bool((slope <= 0).any()):
        return None, whole
    # A kink of the force is one of the chart only if the slope does not carry on across it.
    left, right = part.curve(slope).sides()
    breaks = [
        float(edge)
        for edge, a, b in zip(part.edges[1:-1], left, right)
        if abs(float(a - b)) > 1e-6 * max(abs(float(a)), abs(float(b)))
        and any(abs(float(edge) - k) < 1e-9 for k in part.kinks)
    ]
    bends = part.curve(slope).derivative().sides()
    breaks += [
        float(edge)
        for edge, a, b in zip(part.edges[1:-1], *bends)
        if abs(float(a - b)) > 1e-4 * (abs(float(a)) + abs(float(b)) + 1e-9)
        and any(abs(float(edge) - k) < 1e-9 for k in part.kinks)
    ]
    smooth = Interval(max([whole.low, *(b for b in breaks if b < 0)]), min([whole.high, *(b for b in breaks if b > 0)]))
    reach = Interval(max(smooth.low, -_REACH), min(smooth.high, _REACH))
    for window in (whole, smooth, reach):
        if window.high - window.low < _NARROW:
            continue
        inside = _within(x, window)
        match = recognise.chart(x[inside], slope[inside], tolerance, scaled=scaled)
        if match is not None:
            return match, window
    return None, whole


_NARROW = 0.1
"""Nats on which nothing is named: any curve is a straight line there."""


_REACH = 12.0
"""Nats within which potentials are named: further down, 1 + u of the ratio chart has fewer digits than the tolerance
asks for."""


def _named_potential(
    x: Tensor,
    slope: Tensor,
    mirror: Tensor,
    window: Interval,
    chart: TabulatedChart,
    chart_match: recognise.ChartMatch | None,
    reading: Reading,
) -> tuple[recognise.PotentialMatch | None, Chart | None, Interval]:
    """A name for φ' in the chart found, or else in the log-ratio or the ratio; and where it holds."""
    if reading.kind == "pair" and reading.coupling.coupled:
        return None, None, window
    kinks = torch.tensor(reading.resolved.kinks, dtype=torch.float64)
    own: Chart = chart_match.chart if chart_match is not None else chart
    within_reach = Interval(max(window.low, -_REACH), min(window.high, _REACH))

    def attempt(chart: Chart, by: Tensor, window: Interval) -> recognise.PotentialMatch | None:
        near = _within(x, window) & torch.isfinite(by)
        at = tuple(float(k) for k in chart(kinks) if math.isfinite(float(k))) if len(kinks) else ()
        values, order = chart(x[near]).sort()
        size = float(reading.drive.abs().max()) if reading.driven else 0.0
        core = (x.abs() <= 1.0)[near][order]
        return recognise.potential(values, by[near][order], reading.tolerance, core=core, kinks=at, drive_size=size)

    charts: list[Chart | None] = [None, *((c for c in (LogRatio(), Ratio()) if c != own) if reading.driven else ())]
    for other in charts:
        read_in = own if other is None else other
        by = mirror if other is None else mirror * slope / other.slope(x)
        for where in (window, within_reach) if read_in == LogRatio() else (within_reach,):
            match = attempt(read_in, by, where)
            if match is not None and (other is None or (match.offset == 0 and match.shift == 0)):
                return match, other, where
    return None, None, window


def _convention(law: Law, reading: Reading, mirror: Curve) -> float:
    """The constant force that is counted as drive where nothing names the potential.

    Driven: none, if the force is affine in A, else what makes φ'(0) = 0. Undriven: what makes φ'(−∞) = 0 where that is
    finite (logistic, hinge and their kin), else φ'(0) = 0.
    """
    if reading.driven and reading.affine:
        return 0.0
    if not reading.driven and reading.kind != "advantage":
        tail = asymptote(_force_at(law, reading, 0.0), -1)
        if tail.kind == "constant":
            return tail.coefficient
    return float(mirror(torch.zeros(1, dtype=torch.float64)).nan_to_num())


def _force_at(law: Law, reading: Reading, advantage: float) -> Callable[[Tensor], Tensor]:
    def force(x: Tensor) -> Tensor:
        others = [] if reading.kind == "margin" else [torch.full_like(x, advantage)]
        return law.force(x, *others)[0].double()

    return force


def _convex(part: Resolved, mirrors: list[Tensor], slope: Tensor, absolute: float, relative: float) -> bool | None:
    """φ' never falls along u, beyond what rounding explains; None where u itself turns back."""
    if bool((slope <= 0).any()):
        return None
    for mirror in mirrors:
        noise = 1e3 * (last_coefficients(part, mirror * slope) + mirror.abs() * last_coefficients(part, slope)) / slope
        m, noise = mirror.reshape(-1), noise.reshape(-1)
        allowed = relative * torch.maximum(m[1:].abs(), m[:-1].abs()) + noise[1:] + noise[:-1] + absolute
        if bool((m.diff() < -allowed).any()):
            return False
    return True


def _drive_formula(reading: Reading, scale: float, offset: float) -> str | None:
    """g(A), where it is affine or exponential in A."""
    if not reading.driven:
        return f"{0.0 - offset:.6g}"
    tail = "" if offset == 0 else f" {'-' if offset > 0 else '+'} {abs(offset):.6g}"
    if reading.affine:
        return ("A" if scale == 1 else f"{scale:.6g} A") + tail
    a, g = reading.advantage, reading.drive * scale
    near = a[reading.base]
    rise, fall = g[-1] - g[reading.base], g[reading.base] - g[0]
    reach_up, reach_down = float(a[-1] - near), float(near - a[0])
    if abs(reach_up - reach_down) < 1e-12 and float(rise) * float(fall) > 0:
        rate = math.log(float(rise / fall)) / reach_up  # e^{k r} − 1 over 1 − e^{−k r}
        rate = recognise.tidy(rate, reading.tolerance)
        if rate:
            unit = torch.expm1(rate * (a - near))
            factor = recognise.tidy(float(rise / unit[-1]), reading.tolerance)
            constant = float(g[reading.base]) - factor - offset
            if float((factor * unit + g[reading.base] - g).abs().max()) <= reading.tolerance * float(g.abs().max()):
                constant = 0.0 if abs(constant) < reading.tolerance * abs(factor) else constant
                rest = "" if constant == 0 else f" {'-' if constant < 0 else '+'} {abs(constant):.6g}"
                return ("" if factor == 1 else f"{factor:.6g} ") + f"exp({rate:.6g} A)" + rest
    return None


def kinks_of(reading: Reading) -> tuple[Kink, ...]:
    """Those of the forces reported: a jump, or a bend, beyond rounding."""
    found = []
    edges, near = reading.resolved.edges, core_size(reading.resolved, reading.force)
    curves = [Curve.through(edges, reading.force[..., j]) for j in range(reading.force.shape[-1])]
    sides = [(*curve.sides(), *curve.derivative().sides()) for curve in curves]
    for k in reading.resolved.kinks:
        edge = int((edges[1:-1] - k).abs().argmin())
        jumps, bent = [], False
        for side in sides:
            left, right, slope_left, slope_right = (float(x[edge]) for x in side)
            size = max(abs(left), abs(right), 1e-3 * float(near))
            jumps.append(right - left if abs(right - left) > 1e-7 * size else 0.0)
            bent = bent or abs(slope_right - slope_left) > 1e-5 * max(size, abs(slope_left), abs(slope_right))
        if bent or any(jumps):
            found.append(Kink(k, tuple(jumps)))
    return tuple(found)


def _conservative(law: Law, reading: Reading) -> bool:
    """Whether values differ by the integral of the force, for the smallest and the largest advantage."""
    ends = torch.tensor([-1.7, -0.6, 0.0, 0.45, 1.4], dtype=torch.float64)
    for j in {0, reading.force.shape[-1] - 1}:
        integral = reading.resolved.curve(reading.force[..., j]).integral()
        others = [] if reading.kind == "margin" else [torch.full_like(ends, float(reading.advantage[j]))]
        value = law.value(ends, *others)
        work = integral(ends)
        gap = ((value - value[2]) - (work - work[2])).abs().max()
        if float(gap) > max(1e-6, reading.tolerance) * (float(value.abs().max()) + float(work.abs().max())):
            return False
    return True


def _saturation(law: Law, reading: Reading, label: Tensor) -> dict[float, tuple[Tail, Tail]]:
    """The force's law at both ends, for a positive and a negative unit of advantage."""
    if reading.driven:
        probes = {a: a for a in (-1.0, 1.0) if float(reading.advantage[0]) <= a <= float(reading.advantage[-1])}
        probes = probes or {float(reading.advantage[-1]): float(reading.advantage[-1])}
    else:
        probes = {float(label[0]): 0.0}
    return {
        k: (asymptote(_force_at(law, reading, a), -1), asymptote(_force_at(law, reading, a), 1))
        for k, a in probes.items()
    }


def _recognised(
    law: Law,
    reading: Reading,
    match: recognise.PotentialMatch | None,
    in_chart: Chart | None,
    chart_match: recognise.ChartMatch | None,
    chart: TabulatedChart,
    window: Interval,
    label: Tensor,
    drive: Tensor,
    scale: float,
    by_sign: OptimizationGeometry | None,
) -> Recognised:
    named: Chart | None = (
        chart_match.chart if chart_match is not None and (reading.driven or reading.kind == "pair") else None
    )
    if named is None and not reading.driven and reading.kind != "pair":
        named = LogRatio()
    optimization: OptimizationGeometry | None = match.potential if match is not None else None
    penalty: OptimizationGeometry | None = None
    if in_chart is not None:
        optimization, penalty = Flat(), optimization
    shift = match.shift if match is not None else 0.0
    if reading.coupling.coupled and reading.driven:
        optimization = by_sign or _clip(reading, named, optimization)
    residual, constant = math.nan, None
    known: Chart = named if named is not None else chart
    if optimization is not None:
        residual = _check(law, reading, known, optimization, (penalty, in_chart), shift, drive, window)
        if residual > 10 * reading.tolerance:
            optimization, penalty, in_chart, residual = None, None, None, math.nan
        elif penalty is None:
            constant = _constant(law, reading, known, optimization, shift, label, drive)
    chart_residual = chart_match.residual if chart_match is not None else (0.0 if named is not None else math.nan)
    return Recognised(
        named,
        optimization,
        penalty,
        in_chart if penalty is not None else None,
        shift,
        constant,
        chart_residual,
        residual,
        window,
    )


def _reach(reading: Reading) -> Interval:
    edges = reading.resolved.edges
    return Interval(max(float(edges[0]), -_REACH), min(float(edges[-1]), _REACH))


def _weighted(law: Law, reading: Reading, found: Recognised) -> Recognised:
    """The names of what is left of a loss without a weight that has no gradient, and of the weight."""
    domain, tolerance = _reach(reading), reading.tolerance
    match = None
    if reading.driven:
        match = of_drive(law, reading.advantage, domain, reading.resolved.kinks, tolerance)
    elif reading.kind == "pair":
        match = of_pair(law, domain, tolerance)
    if match is None:
        return found
    return Recognised(
        chart=match.chart,
        optimization=Flat() if match.optimization is None else match.optimization,
        penalty=None,
        penalty_chart=None,
        shift=0.0,
        constant="energy",
        chart_residual=match.residual,
        residual=match.residual,
        window=domain,
        weight=match.weight,
    )


def _clip(reading: Reading, named: Chart | None, beside: OptimizationGeometry | None) -> OptimizationGeometry | None:
    """Walls from the kinks: the first above the anchor under a positive drive, those below and above it under a
    negative one.

    `beside` is what resists without a drive.
    """
    if named is None:
        return None
    plus = int((reading.advantage - 1.0).abs().argmin())
    minus = int((reading.advantage + 1.0).abs().argmin())
    kinks = kinks_of(reading)
    high = [k.log_ratio for k in kinks if k.jumps[plus] and k.log_ratio >= 0]
    low = [k.log_ratio for k in kinks if k.jumps[minus] and k.log_ratio <= 0]
    far = [k.log_ratio for k in kinks if k.jumps[minus] and k.log_ratio > 0]

    def at(x: float) -> float:
        return recognise.tidy(float(named(torch.tensor(x, dtype=torch.float64))), max(reading.tolerance, 1e-9))

    if not high and not low:
        return None
    walls = (-at(max(low)) if low else math.inf, at(min(high)) if high else math.inf)
    try:
        clip: OptimizationGeometry = Clip(
            walls[0], walls[1], dual=recognise.tidy(at(min(far)) + 1, 1e-9) if far else None
        )
    except ValueError:
        return None
    return clip if beside is None or isinstance(beside, Flat) else clip + beside


def _check(
    law: Law,
    reading: Reading,
    named: Chart,
    optimization: OptimizationGeometry,
    penalty: tuple[OptimizationGeometry | None, Chart | None],
    shift: float,
    drive: Tensor,
    window: Interval,
) -> float:
    """Largest relative error of ∂ℓ/∂Δ as the names predict it, between the samples and for drives between those
    probed."""
    golden = (5**0.5 - 1) / 2
    x = window.low + (window.high - window.low) * ((torch.arange(1, 257, dtype=torch.float64) * golden) % 1.0)
    kinks = torch.tensor([*reading.resolved.kinks, math.inf], dtype=torch.float64)
    x = x[((x[:, None] - kinks).abs() > 1e-6).all(-1)]
    advantage, drives = reading.advantage, drive
    if reading.driven and reading.affine:
        a0, a1 = reading.advantage[0], reading.advantage[-1]
        advantage = torch.stack([a0, 0.37 * a0 + 0.63 * a1, 0.71 * a0 + 0.29 * a1, a1])
        drives = drive[0] + (drive[-1] - drive[0]) / (a1 - a0) * (advantage - a0)
    potential, chart = penalty
    resisting = (
        potential.mirror(chart(x), torch.zeros_like(x)) * chart.slope(x)
        if potential is not None and chart is not None
        else 0.0
    )
    u, slope = named(x) - shift, named.slope(x)
    worst = 0.0
    for a, g in zip(advantage, drives):
        force = law.force(x, *([] if reading.kind == "margin" else [torch.full_like(x, float(a))]))[0].double()
        predicted = optimization.force(u, torch.full_like(u, float(g))) * slope + resisting
        size = force.abs() + max(abs(float(g)), 1e-3 * float(drives.abs().max()), 1e-300) * slope
        worst = max(worst, float(((predicted - force).abs() / size).max()))
    return worst


def _constant(
    law: Law,
    reading: Reading,
    named: Chart,
    optimization: OptimizationGeometry,
    shift: float,
    label: Tensor,
    drive: Tensor,
) -> str | None:
    """Which constant the published value adds, from values at the anchor."""
    x = torch.zeros_like(label)
    value = law.value(x, *([] if reading.kind == "margin" else [label if reading.driven else x]))
    rest = value - optimization.energy(named(x) - shift, drive)
    size = max(reading.tolerance, 1e-9) * (1 + float(value.abs().max()))
    if float(rest.abs().max()) <= size:
        return "energy"
    if float((rest + drive).abs().max()) <= size:
        return "surrogate"
    conjugate = optimization.conjugate(drive)
    if bool(torch.isfinite(conjugate).all()) and float((rest - conjugate).abs().max()) <= size:
        return "completed"
    return None
