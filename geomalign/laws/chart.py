"""Laws of charts."""

from __future__ import annotations

import torch

from geomalign.chart import Chart
from geomalign.laws.checking import POINTS, check, equal, gradient_of, holds, law


def check_chart(chart: Chart) -> None:
    """All laws of a `Chart`. Raises `LawViolation`."""
    check("chart", chart)


@law("chart")
def the_anchor_is_the_origin(chart: Chart) -> None:
    """u(0) = 0."""
    equal(chart(torch.zeros(1, dtype=torch.float64)), torch.zeros(1), f"{chart!r}: the anchor is not at zero")


@law("chart")
def slope_is_the_derivative(chart: Chart) -> None:
    """slope = u', by autograd."""
    x = POINTS
    equal(chart.slope(x), gradient_of(chart, x), f"{chart!r}: slope is not the derivative")


@law("chart")
def a_chart_increases(chart: Chart) -> None:
    """u' > 0."""
    holds(chart.slope(POINTS) > 0, f"{chart!r}: the slope is not positive")


@law("chart")
def inverse_inverts(chart: Chart) -> None:
    """inverse(u(Δ)) = Δ."""
    x = POINTS
    equal(chart.inverse(chart(x)), x, f"{chart!r}: inverse ∘ chart", rtol=1e-8, atol=1e-8)


@law("chart")
def a_chart_never_overflows(chart: Chart) -> None:
    """u and u' are finite in float32 at Δ = ±1e4, with slope ≥ 0, and by autograd too."""
    x = torch.tensor([-1e4, -80.0, 80.0, 1e4], dtype=torch.float32)
    holds(torch.isfinite(chart(x)), f"{chart!r}: not finite at ±1e4 nats")
    holds(torch.isfinite(chart.slope(x)) & (chart.slope(x) >= 0), f"{chart!r}: no finite slope at ±1e4 nats")
    equal(
        gradient_of(chart, x), chart.slope(x), f"{chart!r}: slope is not the derivative where it saturates", rtol=1e-5
    )


@law("chart")
def linear_says_whether_the_slope_is_constant(chart: Chart) -> None:
    """`linear` is the truth."""
    slope = chart.slope(POINTS)
    constant = bool((slope - slope[0]).abs().max() < 1e-12)
    holds(constant == chart.linear, f"{chart!r}: linear={chart.linear}, but the slope runs over {slope}")
