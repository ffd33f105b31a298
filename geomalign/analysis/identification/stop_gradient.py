"""Losses sg[w]·E, a weight without gradient times an energy: value/force is E/E' and knows nothing of the weight."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from geomalign import sampling
from geomalign._util.types import Interval
from geomalign.analysis.identification import families
from geomalign.analysis.identification.curve import Resolved, resolve
from geomalign.analysis.identification.fitting import amplitudes, tidy
from geomalign.analysis.identification.probing import Probe, fresh
from geomalign.analysis.identification.report import Recognised
from geomalign.batch import Batch, PreferenceBatch
from geomalign.chart import Chart, LogRatio, Ratio
from geomalign.optimization import Flat, OptimizationGeometry
from geomalign.sampling import Advantage, Label, PolicyWeight, SamplingGeometry

_REACH, _PAIR_REACH = Interval(-6.0, 6.0), Interval(-12.0, 12.0)


def _within(domain: Interval, reach: Interval) -> Interval:
    return Interval(max(domain.low, reach.low), min(domain.high, reach.high))


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
    near, ends = _within(resolved.domain, _REACH), advantage[[0, -1]].tolist()
    x = torch.linspace(near.low, near.high, 481, dtype=torch.float64)
    if not ends[0] < 0 < ends[1]:
        return None
    forces = torch.stack([probe.force_at(x, a) for a in ends])
    values = torch.stack([probe.value(x, torch.full_like(x, a)) for a in ends])
    for chart in (LogRatio(), Ratio()):
        u, slope = chart(x), chart.slope(x)
        gap = (values * slope - forces * u).abs() / (values * slope).abs().clamp(min=1e-12)
        if float(gap.max()) <= 100 * tolerance:
            negative, positive = -forces / (advantage[[0, -1], None] * slope)
            for member in _members(x, positive, negative, resolved.kinks, tolerance):
                residual = _residual(probe, member, chart, advantage, near)
                if residual <= 10 * tolerance:
                    return _recognised(chart, Flat(), member, residual, _within(resolved.domain, _PAIR_REACH))
    return None


def _recognised(
    chart: Chart, potential: OptimizationGeometry, weight: SamplingGeometry, residual: float, window: Interval
) -> Recognised:
    names = {"chart": chart, "optimization": potential, "weight": weight, "offset": "none", "window": window}
    return Recognised(**names, chart_residual=residual, residual=residual)  # type: ignore[arg-type]


def _residual(probe: Probe, member: SamplingGeometry, chart: Chart, advantage: Tensor, domain: Interval) -> float:
    """Of the force that a member of the library predicts with its own `reweight`, at an anchor of log-probability 0."""
    x, worst = fresh(domain), 0.0
    zero = torch.zeros_like(x)[:, None]
    for a in advantage[advantage != 0].tolist():
        drive = torch.full_like(x, a)
        weighted = member.reweight(drive, x, Batch(x[:, None], zero, advantage=drive, behavior=zero))
        force = probe.force_at(x, a)
        worst = max(worst, float(((force + weighted * chart.slope(x)).abs() / (force.abs() + 1e-6 * abs(a))).max()))
    return worst


def _members(
    x: Tensor, positive: Tensor, negative: Tensor, kinks: tuple[float, ...], tolerance: float
) -> Iterator[SamplingGeometry]:
    """Candidates for a weight, from its values under either sign of the advantage."""
    (low, high), (low_n, high_n) = (_plateaus(w, tolerance) for w in (positive, negative))
    if bool(torch.isclose(positive, negative, rtol=1e-9, atol=1e-15).all()):
        if low < (math.inf if high is None else high):
            yield sampling.ClippedImportance(Advantage(), low or None, high)
    elif high is not None and high_n is not None and low <= high and low_n <= high_n:
        yield sampling.TaperedImportance(Advantage(), (low, high), (low_n, high_n))
    # A mask ends a weight: it is zero at the first sample beyond the wall.
    above = [k for k in kinks if k > 0 and bool((positive[x > k][:1] == 0).any())]
    below = [k for k in kinks if k < 0 and bool((negative[x < k][-1:] == 0).any())]
    if above and below:
        low, high = (tidy(abs(math.expm1(k)), 1e-9) for k in (max(below), min(above)))
        yield sampling.DivergenceMask(Advantage(), "tv", low, high, cap=high_n)
    gamma = [_gamma(x, w, tolerance) for w in (positive, negative)]
    if gamma[0] is not None and gamma[1] is not None:
        yield sampling.GammaImportance(Advantage(), gamma[0], gamma[1])


def _plateaus(w: Tensor, tolerance: float) -> tuple[float, float | None]:
    """The bounds at which a clipped ratio stands still: its values at both ends where they are constant there."""
    low, high = (
        tidy(float(end[0]), tolerance) if float((end - end[0]).abs().max()) <= 1e-12 * float(end.abs().max()) else None
        for end in (w[:5], w[-5:])
    )
    return low or 0.0, high


def _gamma(x: Tensor, w: Tensor, tolerance: float) -> tuple[float, float] | None:
    """(k, λ) of w = e^{kΔ − λ(t − 1)}: log w is linear in both."""
    near = (x.abs() <= 2.0) & (w > 0)
    if int(near.sum()) < 10:
        return None
    at = x[near]
    k, rate = (tidy(c, tolerance) for c in amplitudes([at, -torch.expm1(at)], w[near].log(), torch.ones_like(at)))
    return (k, rate) if k >= 0 and rate > 0 else None


def weighted_pair(probe: Probe, domain: Interval, tolerance: float) -> Recognised | None:
    """A weighted potential of a margin, sg[w(Δ⁺, Δ⁻)]·E(u⁺ − u⁻): −F⁺/F⁻ is u'⁺/u'⁻, and value/force is E/E'.

    >>> from geomalign.analysis.identification import as_loss
    >>> from geomalign.recipes import wpo
    >>> weighted_pair(Probe(as_loss(wpo(beta=0.5)), 2), Interval(-6.0, 6.0), 1e-8).optimization
    Logistic(beta=0.5)
    """
    home = torch.zeros(1, dtype=torch.float64)

    def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return probe.value(x, y), probe.force(x, y), probe.force(x, y, of=1)

    if not all(float(each.abs()) > 1e-12 for each in both(home, home)):
        return None

    def ratios(x: Tensor) -> Tensor:
        value, chosen, rejected = both(x, torch.zeros_like(x))
        return torch.stack([-chosen / rejected, value / chosen], -1)

    resolved = resolve(ratios, _within(domain, _PAIR_REACH), tolerance=1e-10)
    x, (slope, energy_ratio) = resolved.nodes.reshape(-1), resolved.values.reshape(-1, 2).unbind(-1)
    match = families.chart(x, slope, tolerance, scaled=True) if bool((slope > 0).all()) else None
    # Where E passes through zero, E'/E cannot be integrated along Δ.
    if match is None or bool((energy_ratio.sign() != energy_ratio[0].sign()).any()):
        return None
    chart = match.member
    energy = probe.value(home, home) * resolved.curve(1 / resolved.values[..., 1]).integral()(x).exp()
    margin = chart(x) - chart(home)
    force = energy / (energy_ratio * chart.slope(x))
    found = families.potential(margin, force, tolerance, core=x.abs() <= 1.0)
    if found is None or found.shift != 0:
        return None
    drive = -found.offset
    member, chosen = PolicyWeight(Label(drive)), fresh(_within(domain, _REACH))
    rejected, zero, label = chosen.flip(0), torch.zeros_like(chosen)[:, None], torch.full_like(chosen, drive)
    batch = PreferenceBatch(chosen[:, None], rejected[:, None], zero, zero)
    weight = member.reweight(label, chosen - rejected, batch) / drive
    predicted = weight * found.member.force(chart(chosen) - chart(rejected), label) * chart.slope(chosen)
    measured = probe.force(chosen, rejected)
    residual = float(((measured - predicted).abs() / (measured.abs() + 1e-9)).max())
    window = _within(domain, _PAIR_REACH)
    return _recognised(chart, found.member, member, residual, window) if residual <= 10 * tolerance else None
