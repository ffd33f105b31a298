"""Assembles the report: fits library members to the measured curves, tests them, and describes the tails."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.analysis.asymptotics import Tail, asymptote
from geomalign.analysis.identification import families
from geomalign.analysis.identification.charts import TabulatedChart
from geomalign.analysis.identification.compound import named_parts, weighted_drive, weighted_pair
from geomalign.analysis.identification.curve import Curve, Resolved
from geomalign.analysis.identification.families import Match, amplitudes, separable, tidy
from geomalign.analysis.identification.probing import Probe, around, fresh, within
from geomalign.analysis.identification.report import Identification, Kink, Recognised
from geomalign.analysis.identification.separation import Reading
from geomalign.chart import Chart, LogRatio, Ratio
from geomalign.optimization import Clip, Flat, OptimizationGeometry

_NARROW = 0.1
"""Nats on which nothing is named: any curve is a straight line there."""
_REACH = 12.0
"""Nats within which potentials are named: further down, 1 + u of the ratio chart has fewer digits than the tolerance
asks for."""
_HOME = torch.zeros(1, dtype=torch.float64)


def assemble(probe: Probe, reading: Reading) -> Identification:
    """The report made of a reading.

    >>> from geomalign.analysis.identification.separation import read
    >>> probe = Probe(lambda m: (m - 3) ** 2, 1)
    >>> assemble(probe, read(probe, "margin", torch.zeros(1), Interval(-9.0, 9.0), 1e-8)).drive_formula
    '6'
    """
    low, high = _determined(reading)
    resolved, coupled = reading.resolved, reading.coupling.coupled
    part = Resolved(resolved.edges[low : high + 1], resolved.values[low:high], resolved.kinks)
    x, slope, force = part.nodes, reading.slope[low:high], reading.force[low:high]
    kinks, conservative = _kinks(reading), _conservative(probe, reading)
    nameless, signed = reading.kind == "pair" and coupled, _by_sign(reading)
    named, window = (None, part.domain) if nameless else _named_chart(part, slope, reading.tolerance)
    if signed is not None:
        named, window, slope = signed[0], within(resolved.domain, _REACH), signed[0].member.slope(x)
    # A factor that the name does not have belongs to the drive; of a pair, whose slope is known up to a factor, to the
    # name.
    scale = 1.0 if named is None else named.scale
    slope, drive = slope / scale, reading.drive * scale
    columns, base = (..., reading.base) if coupled and reading.driven else ([reading.base], 0)
    mirrors = force[..., columns] / slope[..., None] + drive[columns]
    match, penalty_chart = None, None
    if not nameless:
        match, penalty_chart, window = _named_potential(part, slope, mirrors[..., base], window, named, reading)
    if named is not None and match is not None and match.scale != 1:
        named, scale = dataclasses.replace(named, member=LogRatio(match.scale)), scale * match.scale
        slope, drive, mirrors = match.scale * slope, drive / match.scale, mirrors / match.scale
    offset = match.offset if match is not None else _convention(probe, reading, part.curve(mirrors[..., base]))
    drive, mirrors = drive - offset, mirrors - offset
    chart, named, match = TabulatedChart(part.curve(slope)), named or Match(None), match or Match(None)
    found = Recognised(
        chart=named.member,
        optimization=match.member if penalty_chart is None else Flat(),
        penalty=None if penalty_chart is None else match.member,
        penalty_chart=penalty_chart,
        shift=match.shift,
        chart_residual=named.residual,
        window=window,
    )
    if coupled and reading.driven:
        resisting = signed[1].member if signed is not None else _clip(reading, kinks, found)
        found = dataclasses.replace(found, optimization=resisting)
    found = _tested(probe, reading, found, chart, drive)
    if not conservative and reading.driven:
        found = weighted_drive(probe, reading.advantage, resolved, reading.tolerance) or found
    if not conservative and reading.kind == "pair":
        found = weighted_pair(probe, resolved.domain, reading.tolerance) or found
    if reading.kind == "pair" and found.optimization is None:
        found = dataclasses.replace(found, parts=named_parts(probe, resolved.domain, reading.tolerance))
    near = float(torch.where(x.abs() <= 1.0, mirrors[..., base].abs(), 0.0).max())
    label = reading.advantage if reading.driven else drive
    return Identification(
        kind=reading.kind,
        chart=chart,
        advantage=label,
        drive=drive,
        drive_formula=_drive_formula(reading, scale, offset),
        log_ratio=resolved.nodes.reshape(-1),
        force=reading.force.reshape(-1, reading.force.shape[-1]),
        kinks=kinks,
        coupling=reading.coupling,
        convex=_convex(part, mirrors, slope, max(near, float(drive.abs().max())), reading.tolerance),
        conservative=conservative,
        saturation=_saturation(probe, reading, label),
        recognised=found,
        tolerance=reading.tolerance,
        _base=reading.base,
        _rounding=reading.rounding,
        _forces=resolved.curves(reading.force),
        _mirrors=part.curves(mirrors),
        _potentials=tuple(curve.integral() for curve in part.curves(mirrors * slope[..., None])),
    )


def _determined(reading: Reading) -> tuple[int, int]:
    """The run of panels around the anchor on which the chart moves: beyond it no drive has an effect."""
    alive = (reading.slope.abs() > 1e-280).all(-1)
    # The panel of the anchor lies at distance zero: its nodes surround it.
    distance = reading.resolved.nodes.abs().amin(-1)
    return around(alive, int(torch.where(alive, distance, math.inf).argmin()))


def _by_sign(reading: Reading) -> tuple[Match, Match] | None:
    """Chart and potential of a loss that the sign of the advantage couples, from both signs within three nats."""
    a, x = reading.advantage, reading.resolved.nodes
    if not (reading.driven and reading.coupling.by_sign and float(a[0]) < 0 < float(a[-1])):
        return None
    force, near = reading.force, x.abs() <= 3.0
    return families.by_sign(x[near], force[..., -1][near] / a[-1], force[..., 0][near] / -a[0], reading.tolerance)


def _named_chart(part: Resolved, slope: Tensor, tolerance: float) -> tuple[Match | None, Interval]:
    """A name for the whole chart, or else for its smooth part around the anchor."""
    x, whole, curve = part.nodes, part.domain, part.curve(slope)
    # A kink of the force is one of the chart only if the slope, or its derivative, does not carry on across it.
    (left, right), (before, after) = curve.sides(), curve.derivative().sides()
    broken = (left - right).abs() > 1e-6 * torch.maximum(left.abs(), right.abs())
    broken |= (before - after).abs() > 1e-4 * (before.abs() + after.abs() + 1e-9)
    at = part.edges[1:-1][broken]
    kinks = [k for k in part.kinks if bool(((at - k).abs() < 1e-9).any())]
    smooth = Interval(max([whole.low, *(k for k in kinks if k < 0)]), min([whole.high, *(k for k in kinks if k > 0)]))
    for window in (whole, smooth, within(smooth, _REACH)) if bool((slope > 0).all()) else ():
        near = (x > window.low) & (x < window.high)
        match = families.chart(x[near], slope[near], tolerance) if window.high - window.low >= _NARROW else None
        if match is not None:
            return match, window
    return None, whole


def _named_potential(
    part: Resolved, slope: Tensor, mirror: Tensor, window: Interval, named: Match | None, reading: Reading
) -> tuple[Match | None, Chart | None, Interval]:
    """A name for φ' in the chart found, or else in the log-ratio or the ratio, which is then given; where it holds."""
    x, kinks = part.nodes, torch.tensor(reading.resolved.kinks, dtype=torch.float64)
    own: Chart = TabulatedChart(part.curve(slope)) if named is None else named.member
    others = [chart for chart in (LogRatio(), Ratio()) if chart != own] if reading.driven else []
    for chart in (own, *others):
        by = mirror if chart is own else mirror * slope / chart.slope(x)
        for where in (window, within(window, _REACH))[chart != LogRatio() :]:
            near = (x > where.low) & (x < where.high) & torch.isfinite(by)
            u, order = chart(x[near]).sort()
            match = families.potential(
                u,
                by[near][order],
                reading.tolerance,
                core=(x.abs() <= 1.0)[near][order],
                kinks=[k for k in chart(kinks).tolist() if math.isfinite(k)],
                drive_size=float(reading.drive.abs().max()),
                scalable=chart is own and chart == LogRatio(),
            )
            if match is not None and (chart is own or match.offset == match.shift == 0):
                return match, None if chart is own else chart, where
    return None, None, window


def _convention(probe: Probe, reading: Reading, mirror: Curve) -> float:
    """The constant force that is counted as drive where nothing names the potential.

    Driven: none, if the force is affine in A, else what makes φ'(0) = 0. Undriven: what makes φ'(−∞) = 0 where that is
    finite (logistic, hinge and their kin), else φ'(0) = 0.
    """
    if reading.driven and reading.affine:
        return 0.0
    if reading.kind != "advantage":
        tail = asymptote(lambda x: probe.force_at(x, 0.0), -1)
        if tail.kind == "constant":
            return tail.coefficient
    return float(mirror(_HOME).nan_to_num())


def _convex(part: Resolved, mirrors: Tensor, slope: Tensor, size: float, tolerance: float) -> bool | None:
    """φ' never falls along u, beyond what rounding explains; None where u itself turns back."""
    if bool((slope <= 0).any()):
        return None
    for mirror in mirrors.unbind(-1):
        noise = (1e3 * (part.last(mirror * slope) + mirror.abs() * part.last(slope)) / slope).reshape(-1)
        m = mirror.reshape(-1)
        allowed = tolerance * (torch.maximum(m[1:].abs(), m[:-1].abs()) + size) + noise[1:] + noise[:-1]
        if bool((m.diff() < -allowed).any()):
            return False
    return True


def _drive_formula(reading: Reading, scale: float, offset: float) -> str | None:
    """g(A), where it is affine or exponential in A."""

    def plus(constant: float) -> str:
        return "" if constant == 0 else f" {'-' if constant < 0 else '+'} {abs(constant):.6g}"

    if not reading.driven:
        return f"{0.0 - offset:.6g}"
    if reading.affine:
        return ("A" if scale == 1 else f"{scale:.6g} A") + plus(-offset)
    a, g, one = reading.advantage, reading.drive * scale, torch.ones_like(reading.drive)
    (rate,), _ = separable(lambda a, k: [torch.exp(k * a), torch.ones_like(a)], a, g, one, (0.5,), (-0.5,))
    rate = tidy(rate, reading.tolerance)
    factor, constant = amplitudes([torch.exp(rate * a), one], g, one)
    factor = tidy(factor, reading.tolerance)
    if not float((factor * torch.exp(rate * a) + constant - g).abs().max()) <= reading.tolerance * float(g.abs().max()):
        return None
    constant = 0.0 if abs(constant - offset) < reading.tolerance * abs(factor) else constant - offset
    return ("" if factor == 1 else f"{factor:.6g} ") + f"exp({rate:.6g} A)" + plus(constant)


def _kinks(reading: Reading) -> tuple[Kink, ...]:
    """Those of the forces reported: a jump, or a bend, beyond rounding."""
    resolved, force = reading.resolved, reading.force
    curves = resolved.curves(force)
    left, right = (torch.stack(each, -1) for each in zip(*(curve.sides() for curve in curves)))
    before, after = (torch.stack(each, -1) for each in zip(*(curve.derivative().sides() for curve in curves)))
    near = torch.where((resolved.nodes.abs() <= 1.0)[..., None], force.abs(), 0.0).amax()
    size = torch.maximum(torch.maximum(left.abs(), right.abs()), 1e-3 * near)
    jumps = torch.where((right - left).abs() > 1e-7 * size, right - left, 0.0)
    bent = (after - before).abs() > 1e-5 * torch.stack([size, before.abs(), after.abs()]).amax(0)
    places = [(k, int((resolved.edges[1:-1] - k).abs().argmin())) for k in resolved.kinks]
    return tuple(Kink(k, tuple(jumps[i].tolist())) for k, i in places if bool((bent[i] | (jumps[i] != 0)).any()))


def _conservative(probe: Probe, reading: Reading) -> bool:
    """Whether values differ by the integral of the force, for the smallest and the largest advantage."""
    ends = torch.tensor([-1.7, -0.6, 0.0, 0.45, 1.4], dtype=torch.float64)
    for j in {0, reading.force.shape[-1] - 1}:
        others = [torch.full_like(ends, float(reading.advantage[j]))] * (probe.arity - 1)
        value, work = probe.value(ends, *others), reading.resolved.curve(reading.force[..., j]).integral()(ends)
        gap = float(((value - value[2]) - (work - work[2])).abs().max())
        if gap > max(1e-6, reading.tolerance) * (float(value.abs().max()) + float(work.abs().max())):
            return False
    return True


def _saturation(probe: Probe, reading: Reading, label: Tensor) -> dict[float, tuple[Tail, Tail]]:
    """The force's behaviour at both ends, for a positive and a negative unit of advantage."""
    low, high = reading.advantage[[0, -1]].tolist()
    probes = (
        ({a: a for a in (-1.0, 1.0) if low <= a <= high} or {high: high}) if reading.driven else {float(label): 0.0}
    )

    def tails(a: float) -> tuple[Tail, Tail]:
        low, high = (asymptote(lambda x: probe.force_at(x, a), side) for side in (-1, 1))
        return low, high

    return {label: tails(a) for label, a in probes.items()}


def _clip(reading: Reading, kinks: tuple[Kink, ...], found: Recognised) -> OptimizationGeometry | None:
    """Walls from the kinks: the first above the anchor under a positive drive, those below and above it under a
    negative one, beside what resists without a drive.
    """
    plus, minus = (int((reading.advantage - sign).abs().argmin()) for sign in (1.0, -1.0))
    high = [k.log_ratio for k in kinks if k.jumps[plus] and k.log_ratio >= 0]
    low = [k.log_ratio for k in kinks if k.jumps[minus] and k.log_ratio <= 0]
    far = [k.log_ratio for k in kinks if k.jumps[minus] and k.log_ratio > 0]
    if found.chart is None or not (high or low):
        return None
    ends = torch.tensor(
        [max(low, default=-math.inf), min(high, default=math.inf), min(far, default=math.inf)], dtype=torch.float64
    )
    below, above, dual = (tidy(u, max(reading.tolerance, 1e-9)) for u in found.chart(ends).tolist())
    if not below <= 0 <= above < dual:
        return None
    clip = Clip(-below, above, dual=tidy(dual + 1, 1e-9) if far else None)
    return clip if found.optimization in (None, Flat()) else clip + found.optimization


def _tested(probe: Probe, reading: Reading, found: Recognised, chart: Chart, drive: Tensor) -> Recognised:
    """The names with their residual and offset, without those of a potential that does not predict the force.

    The residual is that of ∂ℓ/∂Δ, relative, between samples and for drives between those probed.
    """
    potential, chart = found.optimization, found.chart or chart
    if potential is None:
        return found
    x, kinks = fresh(found.window), torch.tensor([*reading.resolved.kinks, math.inf], dtype=torch.float64)
    x = x[((x[:, None] - kinks).abs() > 1e-6).all(-1)]
    advantage, drives = reading.advantage, drive
    if reading.driven and reading.affine:
        share = torch.tensor([0.0, 0.29, 0.63, 1.0], dtype=torch.float64)
        advantage, drives = (torch.lerp(each[0], each[-1], share) for each in (advantage, drives))
    u, slope, residual = chart(x) - found.shift, chart.slope(x), 0.0
    for a, g in zip(advantage.tolist(), drives.tolist()):
        force, predicted = probe.force_at(x, a), potential.force(u, torch.full_like(u, g)) * slope
        if found.penalty is not None and found.penalty_chart is not None:
            predicted += found.penalty.force(found.penalty_chart(x), torch.zeros_like(x)) * found.penalty_chart.slope(x)
        size = force.abs() + max(abs(g), 1e-3 * float(drives.abs().max()), 1e-300) * slope
        residual = max(residual, float(((predicted - force).abs() / size).nan_to_num(math.inf).max()))
    if residual > 10 * reading.tolerance:
        return dataclasses.replace(found, optimization=None, penalty=None, penalty_chart=None)
    # What the value adds to the energy, from values at the anchor.
    x = torch.zeros_like(drive)
    value = probe.value(x, *[reading.advantage if reading.driven else x] * (probe.arity - 1))
    rest = value - potential.energy(chart(x) - found.shift, drive)
    known = {"none": x, "surrogate": -drive, "fenchel_young": potential.conjugate(drive)}
    size = max(reading.tolerance, 1e-9) * (1 + value.abs().max())
    names = [name for name, offset in known.items() if bool(((rest - offset).abs() <= size).all())]
    offset = names[0] if names and found.penalty is None else None
    return dataclasses.replace(found, residual=residual, offset=offset)
