"""Laws of charts."""

from __future__ import annotations

import torch

from geomalign.chart import Chart
from geomalign.laws.cases import LINE, POINTS, Points
from geomalign.laws.checking import EXAMPLES, Cases, check, equal, gradient_of, holds, law


def check_chart(chart: Chart, examples: int = EXAMPLES) -> None:
    """Check all laws of a `Chart`; arguments and `LawViolation` as of `check_optimization`.

    >>> import geomalign as ga
    >>> ga.laws.check_chart(ga.Power(0.5))
    """
    check("chart", chart, examples)


@law("chart", LINE)
def the_anchor_is_the_origin(chart: Chart, case: Points) -> None:
    """u(0) = 0."""
    zero = torch.zeros(1, dtype=torch.float64)
    equal(chart(zero), zero, "u(0) is not 0, so the anchor is not the origin", "Subtract the value at log-ratio 0.")


@law("chart", LINE)
def slope_is_the_derivative(chart: Chart, case: Points) -> None:
    """slope = u', by autograd."""
    x = case.line()
    what, remedy = "slope is not the derivative of the chart", "slope(x) must be the derivative of __call__(x)."
    equal(chart.slope(x), gradient_of(chart, x), what, remedy, log_ratio=x)


@law("chart", LINE)
def a_chart_increases(chart: Chart, case: Points) -> None:
    """u' > 0."""
    x = case.line()
    slope = chart.slope(x)
    holds(slope > 0, "the slope is not positive", "A chart must increase with the log-ratio.", slope=slope, log_ratio=x)


@law("chart", LINE)
def inverse_inverts(chart: Chart, case: Points) -> None:
    """inverse(u(Δ)) = Δ."""
    x = case.line()
    what, remedy = "inverse(u(x)) is not x", "inverse must be the inverse function of __call__."
    equal(chart.inverse(chart(x)), x, what, remedy, rtol=1e-8, atol=1e-8, log_ratio=x)


@law("chart", Cases(lambda chart: [Points((-1e4, -80.0, 80.0, 1e4))]))
def a_chart_never_overflows(chart: Chart, case: Points) -> None:
    """u and u' are finite in float32 at Δ = ±1e4, with slope ≥ 0, and by autograd too."""
    x = case.line().float()
    u, slope = chart(x), chart.slope(x)
    remedy = "Continue an exponential by its tangent line beyond 30 nats, as Ratio does."
    holds(torch.isfinite(u), "the coordinate is not finite in float32", remedy, coordinate=u, log_ratio=x)
    holds(torch.isfinite(slope), "the slope is not finite in float32", remedy, slope=slope, log_ratio=x)
    holds(slope >= 0, "the slope is negative", "A chart must increase with the log-ratio.", slope=slope, log_ratio=x)
    what = "slope is not the derivative of the chart far from the anchor"
    equal(gradient_of(chart, x), slope, what, "slope(x) must be 0 where u is clamped.", rtol=1e-5, log_ratio=x)


@law("chart", LINE)
def linear_says_whether_the_slope_is_constant(chart: Chart, case: Points) -> None:
    """`linear` is true exactly where the slope is constant."""
    slope = chart.slope(torch.cat([case.line(), torch.tensor(POINTS, dtype=torch.float64)]))
    constant = bool((slope - slope[0]).abs().max() < 1e-12)
    what = f"linear is {chart.linear}, but the slope runs from {slope.min():.6g} to {slope.max():.6g}"
    holds(constant == chart.linear, what, f"State linear = {constant}.")
