"""What every chart is, and those that are functions of the log-ratio without a bound of their own."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import finite, instance, positive, refuse
from geomalign.divergences import Divergence

__all__ = ["Chart", "Dual", "LogRatio", "Power", "Ratio"]


class Chart(ABC):
    """An increasing coordinate u of the log-ratio Δ = log π − log π_k, with u = 0 at the anchor.

    Charts are the dual coordinates ψ'(t) of divergences, t = e^Δ. Where e^Δ would overflow, all of them follow one
    rule: beyond `numerics.limit(dtype)` nats (30 in float32, 300 in float64) the exponential continues as its tangent
    line, so that a log-ratio of 1e4 has a finite value and a finite, non-zero slope.

    A chart of one's own states `__call__` alone. Its slope is then computed by autograd and its inverse by root
    finding; closed forms of them are faster.

    >>> import torch, geomalign as ga
    >>> class Asinh(ga.Chart):
    ...     def __call__(self, log_ratio):
    ...         return torch.asinh(log_ratio)
    >>> ga.laws.check_chart(Asinh())
    """

    linear: bool = False
    """Whether the slope is constant, so that the gradient needs no current log-probability."""
    needs_anchor: bool = False
    """Whether u depends on the anchor's log-probability beside the log-ratio."""

    def among(self, anchor: Tensor) -> Chart:
        """The chart at events whose log-probability under the anchor is this: in most cases itself."""
        return self

    @abstractmethod
    def __call__(self, log_ratio: Tensor) -> Tensor:
        """u(Δ), elementwise."""

    def slope(self, log_ratio: Tensor) -> Tensor:
        """u'(Δ), positive (zero only by underflow)."""
        slope: Tensor = torch.func.vjp(self, log_ratio)[1](torch.ones_like(log_ratio))[0]
        return slope

    def value_and_slope(self, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        """u(Δ) and u'(Δ) together, without gradient; a chart whose two share an exponential saves one here."""
        return self(log_ratio), self.slope(log_ratio)

    def inverse(self, u: Tensor) -> Tensor:
        """Δ(u) for u in the range of the chart; differentiable, once and twice."""
        return numerics.invert_increasing(self, self.slope, u)

    def latex(self, log_ratio: str) -> str:
        """u as a formula of the log-ratio's formula; by default with the name of the class as the function."""
        return rf"\operatorname{{{type(self).__name__}}}\left({log_ratio}\right)"


@dataclasses.dataclass(frozen=True)
class LogRatio(Chart):
    """u = scale · Δ: the dual coordinate of KL(π‖π_k), in which DPO's implicit reward is read.

    Args:
        scale: positive.

    Raises:
        ValueError: a scale that is not positive.

    >>> import torch, geomalign as ga
    >>> ga.LogRatio(2.0)(torch.tensor([0.0, 0.5]))
    tensor([0., 1.])
    """

    scale: float = 1.0
    linear = True

    def __post_init__(self) -> None:
        positive(self, "so that the chart increases", scale=self.scale)

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return self.scale * log_ratio

    def slope(self, log_ratio: Tensor) -> Tensor:
        return torch.full_like(log_ratio, self.scale)

    def inverse(self, u: Tensor) -> Tensor:
        return u / self.scale

    def latex(self, log_ratio: str) -> str:
        return log_ratio if self.scale == 1 else rf"{self.scale:g}\,{log_ratio}"


@dataclasses.dataclass(frozen=True)
class Ratio(Chart):
    """u = t − 1 = e^Δ − 1: the fluctuation v of the density, the dual coordinate of Pearson's χ².

    >>> import torch, geomalign as ga
    >>> ga.Ratio()(torch.tensor([0.0, 2.0]).log())  # the ratios 0 and 2
    tensor([-1.,  1.])
    """

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return numerics.expm1(log_ratio)

    def slope(self, log_ratio: Tensor) -> Tensor:
        return numerics.exp_slope(log_ratio)

    def value_and_slope(self, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        return numerics.expm1_and_slope(log_ratio)

    def inverse(self, u: Tensor) -> Tensor:
        return torch.log1p(u)

    def latex(self, log_ratio: str) -> str:
        return f"{exponential(log_ratio)}-1"


@dataclasses.dataclass(frozen=True)
class Power(Chart):
    """u = (t^power − 1)/power: the Box–Cox family between Δ (power → 0) and v (power 1).

    It is the dual coordinate of the Cressie–Read divergence of order power + 1.

    Args:
        power: a finite number, not 0, whose chart is `LogRatio()`. A negative one bounds the chart from above by
            −1/power.

    Raises:
        ValueError: a power that is 0 or not finite.

    >>> import torch, geomalign as ga
    >>> ga.Power(-1.0)(torch.tensor([2.0, 4.0]).log())  # 1 − 1/t
    tensor([0.5000, 0.7500])
    """

    power: float

    def __post_init__(self) -> None:
        finite(self, "the exponent of the ratio", power=self.power)
        if self.power == 0:
            refuse(self, "the limit is the logarithm; use LogRatio().", power=self.power)

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return numerics.expm1(self.power * log_ratio) / self.power

    def slope(self, log_ratio: Tensor) -> Tensor:
        return numerics.exp_slope(self.power * log_ratio)

    def value_and_slope(self, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = numerics.expm1_and_slope(self.power * log_ratio)
        return value / self.power, slope

    def inverse(self, u: Tensor) -> Tensor:
        return torch.log1p(self.power * u) / self.power

    def latex(self, log_ratio: str) -> str:
        return rf"\frac{{{exponential(log_ratio, f'{self.power:g}')}-1}}{{{self.power:g}}}"


@dataclasses.dataclass(frozen=True)
class Dual(Chart):
    """u = ψ'(t) − ψ'(1): the dual coordinate of a divergence with generator ψ.

    `Dual(KullbackLeibler())` is Δ, `Dual(PearsonChiSquare())` is v, and `Dual(KullbackLeibler() + PearsonChiSquare())`
    is the chart of χPO.

    Args:
        divergence: a `Divergence`.

    Raises:
        ValueError: it is no `Divergence`.

    >>> import torch, geomalign as ga
    >>> ga.Dual(ga.PearsonChiSquare())(torch.tensor([1.0, 2.0]).log())
    tensor([0., 1.])
    """

    divergence: Divergence

    def __post_init__(self) -> None:
        instance(self, "divergence", self.divergence, Divergence, "KullbackLeibler()")

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return self.divergence.coordinate(log_ratio)

    def slope(self, log_ratio: Tensor) -> Tensor:
        return self.divergence.slope(log_ratio)

    def inverse(self, u: Tensor) -> Tensor:
        return torch.log(self.divergence.inverse_mirror(u))

    def latex(self, log_ratio: str) -> str:
        return self.divergence.latex_mirror(exponential(log_ratio))


_LOGARITHM = re.compile(r"(\\frac\{1\}\{\|y_i\|\})?\\log(.+)")
"""How a unit writes a log-ratio or a log-probability, of a response's average token with 1/|y_i| in front."""


def exponential(log_ratio: str, power: str = "1") -> str:
    r"""The formula of e^{power·x}, from that of a log-ratio x: the ratio itself where x is written as a logarithm.

    >>> exponential(r"\frac{1}{|y_i|}\log\frac{p}{q}", "-2"), exponential(r"\Delta")
    ('\\left(\\frac{p}{q}\\right)^{-2/|y_i|}', 'e^{\\Delta}')
    """
    found = _LOGARITHM.fullmatch(log_ratio)
    if found is None:
        return f"e^{{{log_ratio}}}" if power == "1" else rf"e^{{{power}\,{log_ratio}}}"
    exponent = power + ("/|y_i|" if found[1] else "")
    return found[2] if exponent == "1" else rf"\left({found[2]}\right)^{{{exponent}}}"
