"""Names for losses that the sign of the advantage couples: F = |A|·f_sgn(A)(Δ)."""

from __future__ import annotations

import torch
from torch import Tensor

from geomalign.analysis.identification import recognise
from geomalign.analysis.identification.reading import Reading
from geomalign.chart import Chart, LogRatio, Ratio
from geomalign.optimization import AdvantageScaled, OptimizationGeometry, SigmoidClip

_REACH = 3.0


def of_sign(reading: Reading, tolerance: float) -> tuple[recognise.ChartMatch, OptimizationGeometry] | None:
    """`Proportional`: the odd part in A is the pull −u', the even part |A|φ'(u)u'. `SigmoidClip`: each sign has the
    slope
    of a sigmoid, of a ratio or a log-ratio.
    """
    a = reading.advantage
    if not (float(a[0]) < 0 < float(a[-1])):
        return None
    x = reading.resolved.nodes.reshape(-1)
    near = x.abs() <= _REACH
    force = reading.force.reshape(len(x), -1)[near]
    up, down = force[:, -1] / a[-1], force[:, 0] / -a[0]
    x = x[near]
    return _proportional(x, up, down, tolerance) or _gated(x, up, down, tolerance)


def _proportional(
    x: Tensor, up: Tensor, down: Tensor, tolerance: float
) -> tuple[recognise.ChartMatch, OptimizationGeometry] | None:
    pull = (down - up) / 2
    if bool((pull <= 0).any()):
        return None
    chart = recognise.chart(x, pull, tolerance)
    if chart is None or chart.scale != 1:
        return None
    u = chart.chart(x)
    found = recognise.potential(u, (up + down) / 2 / chart.chart.slope(x), tolerance, core=x.abs() <= 1.0)
    if found is None or found.offset != 0 or found.shift != 0:
        return None
    return chart, AdvantageScaled(found.potential)


def _gated(
    x: Tensor, up: Tensor, down: Tensor, tolerance: float
) -> tuple[recognise.ChartMatch, OptimizationGeometry] | None:
    charts: tuple[Chart, ...] = (Ratio(), LogRatio())
    for chart in charts:
        u, slope = chart(x), chart.slope(x)
        pulls = -up / slope, down / slope
        if any(bool((pull <= 0).any()) for pull in pulls):
            continue
        found = [list(recognise.sigmoids(u, pull, tolerance)) for pull in pulls]
        if not all(found) or any(each[0].shift != 0 for each in found):
            continue
        gate = SigmoidClip(found[0][0].scale, found[1][0].scale)
        one = torch.ones_like(u)
        size = max(float(pull.max()) for pull in pulls)
        gaps = (gate.force(u, one) + pulls[0]).abs(), (gate.force(u, -one) - pulls[1]).abs()
        residual = max(float(gap.max()) for gap in gaps) / size
        if residual <= tolerance:
            return recognise.ChartMatch(chart, 1.0, residual), gate
    return None
