"""Charts that identification reports: one that is known by its values, and one that is moved along the log-ratio."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.analysis.identification.curve import Curve
from geomalign.chart import Chart

__all__ = ["Moved", "TabulatedChart"]


class TabulatedChart(Chart):
    """A chart known from its measured slope; NaN outside the interval on which it was measured.

    Args:
        curve: the slope u'(Δ).

    >>> import torch, geomalign as ga
    >>> chart = ga.identify(lambda log_ratio, advantage: -advantage * log_ratio.exp()).chart
    >>> chart.domain, chart.increasing, round(float(chart(torch.tensor(1.0))), 6)
    (Interval(low=-30.0, high=30.0), True, 1.718282)
    """

    def __init__(self, curve: Curve):
        self._slope = curve
        self._value = curve.integral()

    @property
    def domain(self) -> Interval:
        """The log-ratios on which it was measured."""
        return self._slope.domain

    @property
    def range(self) -> Interval:
        """The coordinates reached there."""
        ends = self._value(torch.tensor([self.domain.low, self.domain.high], dtype=torch.float64))
        return Interval(*sorted(ends.tolist()))

    @property
    def increasing(self) -> bool:
        """Whether the slope has one sign: otherwise two log-ratios share a value, and the chart is no coordinate."""
        return bool((self._slope(torch.linspace(self.domain.low, self.domain.high, 4001)) > 0).all())

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return self._value(log_ratio)

    def slope(self, log_ratio: Tensor) -> Tensor:
        return self._slope(log_ratio)

    def inverse(self, u: Tensor) -> Tensor:
        return self._value.inverse(u)

    def latex(self, log_ratio: str) -> str:
        return rf"u\left({log_ratio}\right)"


@dataclasses.dataclass(frozen=True)
class Moved(Chart):
    """A chart of log-probabilities, read as one of log-ratios from an anchor: u(Δ + origin) − u(origin).

    Args:
        of: the chart, such as `LogOdds()`.
        origin: the anchor's log-probability.

    >>> import torch, geomalign as ga
    >>> Moved(ga.LogRatio(2.0), -4.0)(torch.tensor([0.0, 1.0]))
    tensor([0., 2.])
    """

    of: Chart
    origin: float

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return self.of(log_ratio + self.origin) - self.of(torch.full_like(log_ratio, self.origin))

    def slope(self, log_ratio: Tensor) -> Tensor:
        return self.of.slope(log_ratio + self.origin)

    def inverse(self, u: Tensor) -> Tensor:
        return self.of.inverse(u + self.of(torch.full_like(u, self.origin))) - self.origin

    def latex(self, log_ratio: str) -> str:
        return self.of.latex(rf"{log_ratio}{self.origin:+g}")
