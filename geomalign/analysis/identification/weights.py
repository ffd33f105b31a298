"""Losses sg[w]·E: a weight without gradient times an energy. Value and force share the weight, so that their ratio is
E/E' and knows nothing of it; what is left is the weight.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.analysis.identification import recognise
from geomalign.analysis.identification.curve import resolve
from geomalign.analysis.identification.law import Law
from geomalign.batch import Batch, PreferenceBatch
from geomalign.chart import Chart, LogRatio, Ratio
from geomalign.optimization import BregmanGeometry
from geomalign.sampling import (
    Advantage,
    ClippedImportance,
    DivergenceMask,
    GammaImportance,
    Label,
    PolicyWeight,
    SamplingGeometry,
    TaperedImportance,
)

_REACH = 6.0
_GOLDEN = (5**0.5 - 1) / 2


@dataclasses.dataclass(frozen=True)
class WeightMatch:
    """ℓ = sg[w]·(φ(u) − g·u): the parts, and the largest relative error of the force.

    Args:
        chart: u.
        optimization: φ; None where nothing resists.
        drive: g of a pair's label at the anchor, where w = 1; nan of an advantage.
        weight: the sampling geometry whose reweighting is w.
        residual: at points that no fit has seen.
    """

    chart: Chart
    optimization: BregmanGeometry | None
    drive: float
    weight: SamplingGeometry
    residual: float


def _within(domain: Interval, count: int = 481) -> Tensor:
    return torch.linspace(max(domain.low, -_REACH), min(domain.high, _REACH), count, dtype=torch.float64)


def _fresh(domain: Interval) -> Tensor:
    low, high = max(domain.low, -_REACH), min(domain.high, _REACH)
    return low + (high - low) * ((torch.arange(1, 257, dtype=torch.float64) * _GOLDEN) % 1.0)


def of_drive(
    law: Law, advantage: Tensor, domain: Interval, kinks: tuple[float, ...], tolerance: float
) -> WeightMatch | None:
    """A weighted pull −sg[w(Δ, A)]·A·u(Δ): the chart from value/force = u/u', then w by the sign of A."""
    x = _within(domain)
    ends = (float(advantage[0]), float(advantage[-1]))
    if not ends[0] < 0 < ends[1]:
        return None
    forces = [law.force(x, torch.full_like(x, a))[0].double() for a in ends]
    values = [law.value(x, torch.full_like(x, a)) for a in ends]
    for chart in (LogRatio(), Ratio()):
        u, slope = chart(x), chart.slope(x)
        gap = max(
            float(((v * slope - f * u).abs() / (v * slope).abs().clamp(min=1e-12)).max())
            for v, f in zip(values, forces)
        )
        if gap > 100 * tolerance:
            continue
        negative, positive = (-f / (a * slope) for f, a in zip(forces, ends))
        for member in _members(x, positive, negative, kinks, tolerance):
            residual = _residual(law, member, chart, advantage, domain)
            if residual <= 10 * tolerance:
                return WeightMatch(chart, None, math.nan, member, residual)
    return None


def _residual(law: Law, member: SamplingGeometry, chart: Chart, advantage: Tensor, domain: Interval) -> float:
    """Of the force that a member of the library predicts with its own `reweight`, at an anchor of log-probability 0."""
    x = _fresh(domain)
    zero, worst = torch.zeros_like(x)[:, None], 0.0
    for a in advantage[advantage != 0]:
        drive = torch.full_like(x, float(a))
        weighted = member.reweight(drive, x, Batch(x[:, None], zero, advantage=drive, behavior=zero))
        force = law.force(x, drive)[0].double()
        predicted = -weighted * chart.slope(x)
        worst = max(worst, float(((force - predicted).abs() / (force.abs() + 1e-6 * a.abs())).max()))
    return worst


def _members(
    x: Tensor, positive: Tensor, negative: Tensor, kinks: tuple[float, ...], tolerance: float
) -> Iterator[SamplingGeometry]:
    (low, high), (low_n, high_n) = (_plateaus(x, w, tolerance) for w in (positive, negative))
    if bool(torch.isclose(positive, negative, rtol=1e-9, atol=1e-15).all()):
        if low < (math.inf if high is None else high):
            yield ClippedImportance(Advantage(), low or None, high)
    elif high is not None and high_n is not None and low <= high and low_n <= high_n:
        yield TaperedImportance(Advantage(), (low, high), (low_n, high_n))
    walls = (
        [k for k in kinks if k > 0 and float(_next(x, positive, k)) == 0],
        [k for k in kinks if k < 0 and float(_next(x.flip(0), negative.flip(0), k)) == 0],
    )
    if walls[0] and walls[1]:
        low, high = (recognise.tidy(abs(math.expm1(k)), 1e-9) for k in (max(walls[1]), min(walls[0])))
        yield DivergenceMask(Advantage(), "tv", low, high, cap=high_n)
    gamma = [_gamma(x, w, tolerance) for w in (positive, negative)]
    if gamma[0] is not None and gamma[1] is not None:
        yield GammaImportance(Advantage(), gamma[0], gamma[1])


def _next(x: Tensor, w: Tensor, wall: float) -> Tensor:
    """w at the first sample beyond the wall, in the order given."""
    beyond = (x - wall) * torch.sign(x[-1] - x[0]) > 0
    return w[beyond][:1].sum() if bool(beyond.any()) else torch.ones((), dtype=w.dtype)


def _plateaus(x: Tensor, w: Tensor, tolerance: float) -> tuple[float, float | None]:
    """The bounds at which a clipped ratio stands still: its values at both ends where they are constant there."""
    ends = w[:5], w[-5:]
    still = [float((e - e[0]).abs().max()) <= 1e-12 * float(e.abs().max()) for e in ends]
    low = recognise.tidy(float(w[0]), tolerance) if still[0] else 0.0
    return low, recognise.tidy(float(w[-1]), tolerance) if still[1] else None


def _gamma(x: Tensor, w: Tensor, tolerance: float) -> tuple[float, float] | None:
    """(k, λ) of w = e^{kΔ − λ(t − 1)}: log w is linear in both."""
    near = (x.abs() <= 2.0) & (w > 0)
    if int(near.sum()) < 10:
        return None
    at, log = x[near], w[near].log()
    k, rate = recognise.least_squares([at, -torch.expm1(at)], log, torch.ones_like(at)).tolist()
    k, rate = recognise.tidy(k, tolerance), recognise.tidy(rate, tolerance)
    return (k, rate) if k >= 0 and rate > 0 else None


def of_pair(law: Law, domain: Interval, tolerance: float) -> WeightMatch | None:
    """A weighted potential of a margin, sg[w(Δ⁺, Δ⁻)]·E(u⁺ − u⁻): −F⁺/F⁻ is u'⁺/u'⁻, and value/force is E/E'."""
    home = torch.zeros(1, dtype=torch.float64)
    domain = Interval(max(domain.low, -12.0), min(domain.high, 12.0))

    def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return law.value(x, y), law.force(x, y)[0].double(), law.force_of_second(x, y).double()

    if not all(float(each.abs()) > 1e-12 for each in both(home, home)):
        return None

    def ratios(x: Tensor) -> Tensor:
        value, first, second = both(x, torch.zeros_like(x))
        return torch.stack([-first / second, value / first], -1)

    resolved = resolve(ratios, domain, tolerance=1e-10)
    x = resolved.nodes.reshape(-1)
    slope = resolved.values[..., 0].reshape(-1)
    if bool((slope <= 0).any()):
        return None
    match = recognise.chart(x, slope, tolerance, scaled=True)
    if match is None:
        return None
    chart = match.chart
    # E'/E, integrated along Δ: where E passes through zero there is nothing to integrate.
    energy_ratio = resolved.values[..., 1]
    if bool((energy_ratio.reshape(-1).sign() != energy_ratio.reshape(-1)[0].sign()).any()):
        return None
    growth = resolved.curve(1 / energy_ratio).integral()
    at_home = float(law.value(home, home))

    def energy(margin: Tensor) -> Tensor:
        return at_home * growth(chart.inverse(margin + chart(home))).exp()

    force = energy(chart(x) - chart(home)) / (energy_ratio.reshape(-1) * chart.slope(x))
    found = recognise.potential(chart(x) - chart(home), force, tolerance, core=x.abs() <= 1.0)
    if found is None or found.shift != 0:
        return None
    member, drive = PolicyWeight(Label(-found.offset)), -found.offset
    fresh = _fresh(domain)
    other = fresh.flip(0)
    zero = torch.zeros_like(fresh)[:, None]
    label = torch.full_like(fresh, drive)
    weighted = (
        member.reweight(label, fresh - other, PreferenceBatch(fresh[:, None], other[:, None], zero, zero)) / drive
    )
    margin = chart(fresh) - chart(other)
    predicted = weighted * found.potential.force(margin, label) * chart.slope(fresh)
    measured = both(fresh, other)[1]
    residual = float(((measured - predicted).abs() / (measured.abs() + 1e-9)).max())
    return WeightMatch(chart, found.potential, drive, member, residual) if residual <= 10 * tolerance else None
