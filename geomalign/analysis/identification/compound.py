"""Losses that are more than one potential of one coordinate: sums over a pair, and weights without gradient.

Of ℓ(Δ⁺, Δ⁻) = a(Δ⁺) + b(Δ⁻) + h(u(Δ⁺) − u(Δ⁻)), ∂²ℓ/∂Δ⁺∂Δ⁻ = −h''(u⁺ − u⁻) u'⁺ u'⁻ does not depend on a and b, and
on the diagonal it is u'² up to a factor; F⁺/u'⁺ + F⁻/u'⁻ = a'/u'⁺ + b'/u'⁻ does not depend on h. A term linear in u
may belong to h, or with opposite signs to a and b: it is assigned where a term disappears. Of sg[w]·E, the weight
cancels in value/force = E/E'.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from geomalign import sampling
from geomalign._util.types import Interval
from geomalign.analysis.identification import families
from geomalign.analysis.identification.charts import Moved
from geomalign.analysis.identification.curve import Resolved, resolve
from geomalign.analysis.identification.families import Match, amplitudes, first, separable, solve, tidy
from geomalign.analysis.identification.probing import Probe, finite_domain, fresh, within
from geomalign.analysis.identification.report import Part, Recognised
from geomalign.batch import Batch, PreferenceBatch
from geomalign.chart import Chart, LogOdds, LogRatio, Ratio
from geomalign.optimization import ChiSquare, Flat, LogRatioModulated, NegativeEntropy, OptimizationGeometry
from geomalign.sampling import Advantage, Label, PolicyWeight, SamplingGeometry
from geomalign.unit import Chosen, Pair, PreferenceProbability, Rejected, Unit

_REACH, _NEAR = 12.0, 6.0
_HOME = torch.zeros(1, dtype=torch.float64)


# ---------------------------------------------------------------------------------------- sums over both responses


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

    domain = finite_domain(probe, within(domain, _REACH), along)
    resolved = resolve(along, domain, tolerance=1e-11)
    x, columns = resolved.nodes.reshape(-1), resolved.values.reshape(-1, 6)
    f_x, g_x, _, f_y, g_y, mixed = columns.unbind(-1)
    zero, unseen = torch.zeros_like(x), (fresh(domain), fresh(domain, 7))
    *measured, across = field(*unseen)
    forces = torch.stack(measured)
    size = float(forces.abs().max())

    def confirmed(found: Sequence[Part | None]) -> tuple[Part, ...]:
        """The parts if all have names and together predict both forces at pairs that no fit has seen."""
        parts = tuple(part for part in found if part is not None)
        if len(parts) < len(found):
            return ()
        gap = torch.stack([torch.stack(part.forces(*unseen)) for part in parts]).sum(0) - forces
        error = gap.abs() / (forces.abs().amax(0) + 1e-3 * size)
        return parts if float(error.max()) <= 100 * tolerance else ()

    if float(across.abs().max()) <= 1e-12 * size:
        sides: tuple[tuple[Unit, Tensor], ...] = ((Chosen(), f_x), (Rejected(), g_y))
        return confirmed([_side(unit, x, force, tolerance) for unit, force in sides if bool((force != 0).any())])
    for chart in _charts(x, mixed, tolerance):
        slope, at_home = chart.slope(x), float(chart.slope(_HOME))
        constant = float(sum(field(_HOME, _HOME)[:2])) / at_home
        chosen, link = f_x / slope + g_x / at_home, -g_x / at_home
        rejected = f_y / at_home + g_y / slope - constant

        def felt(along_u: Tensor, slope: Tensor = slope) -> bool:
            return bool((along_u.abs() * slope > 10 * tolerance * size).any())

        if felt(rejected) and not felt(chosen - constant):
            chosen, rejected, link = zero, rejected + constant, link + constant
        terms = [(unit, u) for unit, u in ((Chosen(), chosen), (Rejected(), rejected)) if felt(u)]
        found = [_between(chart, x, link, tolerance), *(_side(unit, x, u * slope, tolerance) for unit, u in terms)]
        if parts := confirmed(found):
            return parts
    return ()


def _charts(x: Tensor, diagonal: Tensor, tolerance: float) -> list[Chart]:
    """Named charts whose squared slope is the mixed derivative on the diagonal; all that may be, where that is zero."""
    if float(diagonal.abs().max()) <= 1e-12:
        return [LogRatio(), Ratio()]
    square = diagonal / diagonal[int(x.abs().argmin())]
    if not bool((square > 0).all()):
        return []
    match = families.chart(x, square.sqrt(), 10 * tolerance)
    if match is not None:
        return [match.member]
    # 1/(1 − c e^Δ), the slope of log-odds at an anchor of probability c, up to a factor: linear in (c, factor).
    inverse = 1 / square.sqrt()
    factor, falling = amplitudes([torch.ones_like(x), x.exp()], inverse, 1 / inverse)
    if not factor > 0 > falling:
        return []
    log_odds = Moved(LogOdds(), tidy(math.log(-falling / factor), tolerance))
    gap = (log_odds.slope(x) * inverse / factor - 1).abs().max()
    return [log_odds] if float(gap) <= 100 * tolerance else []


def _side(unit: Unit, x: Tensor, force: Tensor, tolerance: float) -> Part | None:
    """A term of one response: a potential of its log-ratio, or else a named chart that nothing resists in."""
    match = families.potential(x, force, tolerance, core=x.abs() <= 1.0, drive_size=0.0)
    if match is not None and match.shift == 0:
        return Part(unit, LogRatio(), match.member, 0.0 - match.offset, match.residual)
    sign = 1.0 if float(force.sum()) > 0 else -1.0
    chart = families.chart(x, sign * force, tolerance) if bool((sign * force > 0).all()) else None
    return None if chart is None else Part(unit, chart.member, Flat(), -sign * chart.scale, chart.residual)


def _between(chart: Chart, x: Tensor, force: Tensor, tolerance: float) -> Part | None:
    """The term of both responses: a convex potential of their margin, or of the preference probability, or a blend."""
    margin = chart(x) - chart(torch.zeros_like(x))
    match = families.potential(margin, force, tolerance, core=x.abs() <= 1.0)
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

    match = first(_links(chart, margin, force, 1 / (force.abs() + 1e-3 * size), tolerance), error, tolerance)
    return None if match is None else dataclasses.replace(match.member, residual=match.residual)


_SHAPES: tuple[tuple[Callable[[Tensor], Tensor], Callable[[float], OptimizationGeometry]], ...] = (
    (torch.sigmoid, ChiSquare),
    (lambda z: z, lambda factor: NegativeEntropy() if factor == 1 else factor * NegativeEntropy()),
)
"""φ'(p) as a function of log-odds z of p, and φ of a strength."""


def _links(chart: Chart, m: Tensor, f: Tensor, weight: Tensor, tolerance: float) -> Iterator[Match]:
    """In p = σ(βm), f/(β p p̄) = φ'(p) − g is constant (Flat), affine in p (ChiSquare) or in βm (NegativeEntropy)."""
    for shape, member in _SHAPES:

        def columns(x: Tensor, log_beta: float, shape: Callable[[Tensor], Tensor] = shape) -> list[Tensor]:
            z = math.exp(log_beta) * x
            slope = math.exp(log_beta) * torch.sigmoid(z) * torch.sigmoid(-z)
            return [slope, shape(z) * slope]

        (log_beta,), (pull, factor) = separable(columns, m, f, weight, (-2.3,), (-3.5,), (-1.0,), (0.5,))
        factor = tidy(factor, tolerance, beside=abs(pull))
        if factor >= 0:
            unit, optimization = (
                PreferenceProbability(beta=tidy(math.exp(log_beta), tolerance)),
                member(factor) if factor else Flat(),
            )
            yield Match(Part(unit, chart, optimization, tidy(0.0 - pull, tolerance), 0.0))
    # DiscoPOP's blend of two links under no drive, in (log β, log τ) from the best of a grid.
    few = slice(None, None, max(1, len(m) // 240))

    def rest(*p: float) -> Tensor:
        beta, tau = (min(max(math.exp(each), 1e-4), 1e4) for each in p)
        force = LogRatioModulated(beta, tau).force(m[few], torch.zeros_like(m[few]))
        return (force - f[few]) * weight[few]

    grid = torch.cartesian_prod(*[torch.linspace(-5.0, 1.0, 25, dtype=m.dtype)] * 2).tolist()
    cost, place = solve(rest, sorted(grid, key=lambda p: float(rest(*p).square().sum()))[:4])
    if cost < 1e-6:
        beta, tau = (tidy(math.exp(each), 1e-9) for each in place)
        yield Match(Part(Pair(), chart, LogRatioModulated(beta, tau), 0.0, 0.0))


# ------------------------------------------------------------------------------------------ weights without gradient


def weighted_drive(probe: Probe, advantage: Tensor, resolved: Resolved, tolerance: float) -> Recognised | None:
    """A weighted pull −sg[w(Δ, A)]·A·u(Δ): the chart from value/force = u/u', then w by the sign of A.

    Args:
        probe: of the loss.
        advantage: `(drives,)` that were probed.
        resolved: with the kinks of the force.
        tolerance: largest residual accepted; ten times that of a force that no fit has seen.

    >>> loss = lambda x, a: -a * x.exp().clamp(max=5.0).detach() * x
    >>> resolved = Resolved(torch.tensor([-6.0, 6.0]), torch.zeros(1), ())
    >>> weighted_drive(Probe(loss, 2), torch.tensor([-1.0, 1.0]), resolved, 1e-8).weight
    ClippedImportance(of=Advantage(), low=None, high=5.0)
    """
    near, ends = within(resolved.domain, _NEAR), advantage[[0, -1]].tolist()
    x = torch.linspace(near.low, near.high, 481, dtype=torch.float64)
    if not ends[0] < 0 < ends[1]:
        return None
    forces = torch.stack([probe.force_at(x, a) for a in ends])
    values = torch.stack([probe.value(x, torch.full_like(x, a)) for a in ends])

    def error(match: Match) -> float:
        """Of the force that a weight of the library predicts, at an anchor of log-probability 0."""
        at, worst = fresh(near), 0.0
        zero = torch.zeros_like(at)[:, None]
        for a in advantage[advantage != 0].tolist():
            drive, force = torch.full_like(at, a), probe.force_at(at, a)
            weighted = match.member.reweight(drive, at, Batch(at[:, None], zero, advantage=drive, behavior=zero))
            gap = force + weighted * chart.slope(at)
            worst = max(worst, float((gap.abs() / (force.abs() + 1e-6 * abs(a))).max()))
        return worst

    for chart in (LogRatio(), Ratio()):
        u, slope = chart(x), chart.slope(x)
        gap = (values * slope - forces * u).abs() / (values * slope).abs().clamp(min=1e-12)
        if float(gap.max()) <= 100 * tolerance:
            weights = -forces / (advantage[[0, -1], None] * slope)
            members = map(Match, _weights(x, weights, resolved.kinks, tolerance))
            match = first(members, error, 10 * tolerance)
            if match is not None:
                return _weighted(chart, Flat(), match, resolved.domain)
    return None


def _weighted(chart: Chart, potential: OptimizationGeometry, weight: Match, domain: Interval) -> Recognised:
    return Recognised(
        chart=chart,
        optimization=potential,
        weight=weight.member,
        offset="none",
        window=within(domain, _REACH),
        chart_residual=weight.residual,
        residual=weight.residual,
    )


def _weights(x: Tensor, weights: Tensor, kinks: tuple[float, ...], tolerance: float) -> Iterator[SamplingGeometry]:
    """Candidates for a weight, from its values under either sign of the advantage."""
    negative, positive = weights
    # The bounds at which a clipped ratio stands still: its values at both ends where they are constant there.
    (low, high), (low_n, high_n) = (
        [
            tidy(float(end[0]), tolerance)
            if float((end - end[0]).abs().max()) <= 1e-12 * float(end.abs().max())
            else None
            for end in (w[:5], w[-5:])
        ]
        for w in (positive, negative)
    )
    if bool(torch.isclose(positive, negative, rtol=1e-9, atol=1e-15).all()):
        if (low or 0.0) < (math.inf if high is None else high):
            yield sampling.ClippedImportance(Advantage(), low or None, high)
    elif high is not None and high_n is not None and (low or 0.0) <= high and (low_n or 0.0) <= high_n:
        yield sampling.TaperedImportance(Advantage(), (low or 0.0, high), (low_n or 0.0, high_n))
    # A mask ends a weight: it is zero at the first sample beyond the wall.
    above = [k for k in kinks if k > 0 and bool((positive[x > k][:1] == 0).any())]
    below = [k for k in kinks if k < 0 and bool((negative[x < k][-1:] == 0).any())]
    if above and below:
        down, up = (tidy(abs(math.expm1(k)), 1e-9) for k in (max(below), min(above)))
        yield sampling.DivergenceMask(Advantage(), "tv", down, up, cap=high_n or None)
    # w = e^{kΔ − λ(t − 1)}: log w is linear in both.
    near, shapes = x.abs() <= 2.0, []
    for w in (positive, negative):
        if int((near & (w > 0)).sum()) > 9:
            at = x[near & (w > 0)]
            columns = [at, -torch.expm1(at)]
            k, rate = amplitudes(columns, w[near & (w > 0)].log(), torch.ones_like(at))
            k, rate = tidy(k, tolerance, beside=abs(rate)), tidy(rate, tolerance)
            shapes += [(k, rate)] if k >= 0 and rate > 0 else []
    if len(shapes) == 2:
        yield sampling.GammaImportance(Advantage(), *shapes)


def weighted_pair(probe: Probe, domain: Interval, tolerance: float) -> Recognised | None:
    """A weighted potential of a margin, sg[w(Δ⁺, Δ⁻)]·E(u⁺ − u⁻): −F⁺/F⁻ is u'⁺/u'⁻, and value/force is E/E'.

    >>> from geomalign.analysis.identification import as_loss
    >>> from geomalign.recipes import wpo
    >>> weighted_pair(Probe(as_loss(wpo(beta=0.5)), 2), Interval(-6.0, 6.0), 1e-8).optimization
    Logistic(beta=0.5)
    """

    def ratios(x: Tensor) -> Tensor:
        zero = torch.zeros_like(x)
        value, chosen, rejected = probe.value(x, zero), probe.force(x, zero), probe.force(x, zero, of=1)
        return torch.stack([-chosen / rejected, value / chosen], -1)

    at_home = ratios(_HOME)
    if not bool(torch.isfinite(at_home / at_home).all()):
        return None
    resolved = resolve(ratios, within(domain, _REACH), tolerance=1e-10)
    x, (slope, energy_ratio) = resolved.nodes.reshape(-1), resolved.values.reshape(-1, 2).unbind(-1)
    match = families.chart(x, slope, tolerance) if bool((slope > 0).all()) else None
    # Where E passes through zero, E'/E cannot be integrated along Δ.
    if match is None or bool((energy_ratio.sign() != energy_ratio[0].sign()).any()):
        return None
    chart = match.member
    energy = probe.value(_HOME, _HOME) * resolved.curve(1 / resolved.values[..., 1]).integral()(x).exp()
    force = energy / (energy_ratio * chart.slope(x))
    found = families.potential(chart(x) - chart(_HOME), force, tolerance, core=x.abs() <= 1.0)
    if found is None or found.shift != 0:
        return None
    drive = -found.offset
    member, chosen = PolicyWeight(Label(drive)), fresh(within(domain, _NEAR))
    rejected, zero, label = chosen.flip(0), torch.zeros_like(chosen)[:, None], torch.full_like(chosen, drive)
    batch = PreferenceBatch(chosen[:, None], rejected[:, None], zero, zero)
    weight = member.reweight(label, chosen - rejected, batch) / drive
    predicted = weight * found.member.force(chart(chosen) - chart(rejected), label) * chart.slope(chosen)
    measured = probe.force(chosen, rejected)
    residual = float(((measured - predicted).abs() / (measured.abs() + 1e-9)).max())
    return _weighted(chart, found.member, Match(member, residual), domain) if residual <= 10 * tolerance else None
