"""The Amari / Cressie–Read family of power divergences, from KL to χ², and Rényi's transform of it."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import finite, non_negative
from geomalign._util.types import Interval
from geomalign.divergences.base import Divergence

__all__ = [
    "CressieRead",
    "KullbackLeibler",
    "NeymanChiSquare",
    "PearsonChiSquare",
    "PowerDivergence",
    "Renyi",
    "ReverseKullbackLeibler",
    "SquaredHellinger",
    "power_divergence",
]


class PowerDivergence(Divergence):
    """The Amari / Cressie–Read family, indexed by an exponent α; a member states its `exponent` alone.

    ψ(t) = (t^α − αt + α − 1)/(α(α−1)),   ψ'(t) = (t^(α−1) − 1)/(α−1),   ψ*(s) = ((1 + (α−1)s)^(α/(α−1)) − 1)/α

    The limits KL(p‖q) at α = 1 and KL(q‖p) at α = 0 are taken exactly. ψ''(1) = 1. Exchanging the arguments maps α to
    1 − α.

    >>> import geomalign as ga
    >>> [d.exponent for d in (ga.KullbackLeibler(), ga.PearsonChiSquare(), ga.CressieRead(1.5))]
    [1.0, 2.0, 1.5]
    """

    @property
    @abstractmethod
    def exponent(self) -> float:
        """α, any finite real number."""

    def generator(self, t: Tensor) -> Tensor:
        a, log_t = self.exponent, t.clamp(min=torch.finfo(t.dtype).tiny).log()
        power = lambda p: log_t if p == 0.0 else torch.expm1(p * log_t) / p  # noqa: E731
        direct = ((t - 1.0) - power(a)) / (1.0 - a) if a < 0.5 else (t * power(a - 1.0) - (t - 1.0)) / a
        small = numerics.is_small(log_t, a)
        inside = torch.where(small, numerics.power_remainder(torch.where(small, log_t, 0.0), a), direct)
        at_zero = 1.0 / a if a > 0 else math.inf
        return torch.where(t > 0, inside, torch.where(t == 0, torch.full_like(t, at_zero), math.inf))

    def mirror(self, t: Tensor) -> Tensor:
        p = self.exponent - 1.0
        if p == 1.0:
            return t - 1.0
        return t.log() if p == 0.0 else torch.expm1(p * t.log()) / p

    def curvature(self, t: Tensor) -> Tensor:
        return t.pow(self.exponent - 2.0)

    def inverse_mirror(self, s: Tensor) -> Tensor:
        p = self.exponent - 1.0
        if p == 0.0:
            return s.exp()
        inside = p * s > -1.0
        return torch.where(inside, (torch.where(inside, p * s, 0.0).log1p() / p).exp(), 0.0 if p > 0 else math.inf)

    def conjugate(self, s: Tensor) -> Tensor:
        a, p = self.exponent, self.exponent - 1.0
        if p == 0.0:
            return s.expm1()
        inside = p * s > -1.0
        log_t = torch.where(inside, p * s, 0.0).log1p() / p
        # At ψ'(∞) itself s·t − ψ(t) tends to −1/a for a negative order, and grows without bound for the others below 1.
        edge = -1.0 / a if a < 0 or p > 0 else math.inf
        value = torch.where(inside, log_t if a == 0.0 else torch.expm1(a * log_t) / a, edge)
        return torch.where(s <= self.mirror_range.high, value, math.inf)

    def penalty(self, log_ratio: Tensor) -> Tensor:
        a, t_1 = self.exponent, numerics.expm1(log_ratio)
        if a < 0.5:
            direct = (t_1 - numerics.box_cox(log_ratio, a)) / (1.0 - a)
        else:
            direct = (numerics.exp(log_ratio) * numerics.box_cox(log_ratio, a - 1.0) - t_1) / a
        small = numerics.is_small(log_ratio, a)
        return torch.where(small, numerics.power_remainder(torch.where(small, log_ratio, 0.0), a), direct)

    def coordinate(self, log_ratio: Tensor) -> Tensor:
        return numerics.box_cox(log_ratio, self.exponent - 1.0)

    def slope(self, log_ratio: Tensor) -> Tensor:
        return numerics.exp_slope((self.exponent - 1.0) * log_ratio)

    def latex_mirror(self, t: str) -> str:
        p = self.exponent - 1.0
        if p == 0.0:
            return rf"\log {t}"
        if p == 1.0:
            return f"{t}-1"
        size = "" if abs(p) == 1 else rf"\frac{{1}}{{{abs(p):g}}}"
        power = rf"\left({t}\right)^{{{p:g}}}"
        inside = f"{power}-1" if p > 0 else f"1-{power}"
        return rf"{size}\left({inside}\right)" if size else inside

    @property
    def mirror_range(self) -> Interval:
        p = self.exponent - 1.0
        return Interval(-1.0 / p if p > 0 else -math.inf, -1.0 / p if p < 0 else math.inf)

    @property
    def reverse(self) -> Divergence:
        return power_divergence(1.0 - self.exponent)


@dataclass(frozen=True)
class CressieRead(PowerDivergence):
    """The power divergence of order α: order 2 is Pearson's χ², 1/2 squared Hellinger, −1 Neyman's χ².

    Orders 1 and 0 are the two KL divergences, exactly. The literature's other conventions are affine in this order:
    Amari's own index is 2α − 1, Cressie and Read's λ is α − 1 (theirs carries a further factor of 2).

    Args:
        order: α, any finite real number.

    Raises:
        ValueError: the order is not finite.

    >>> float(CressieRead(2.0).mirror(torch.tensor(3.0)))
    2.0

    Source: Cressie and Read, *Multinomial goodness-of-fit tests*, JRSS B 1984; Amari, *Information geometry*, 2016.
    """

    order: float

    def __post_init__(self) -> None:
        finite(self, "since its limits are no f-divergences", order=self.order)

    @property
    def exponent(self) -> float:
        return self.order

    def latex(self) -> str:
        return rf"\frac{{t^\alpha - \alpha t + \alpha - 1}}{{\alpha(\alpha-1)}},\ \alpha = {self.order:g}"


@dataclass(frozen=True)
class KullbackLeibler(PowerDivergence):
    """KL(p‖q), ψ(t) = t log t − t + 1. Its dual coordinate is the log-ratio, its target policy the Gibbs distribution.

    >>> float(KullbackLeibler().value(torch.tensor([0.5, 0.5]).log(), torch.tensor([0.5, 0.5]).log()))
    0.0
    """

    @property
    def exponent(self) -> float:
        return 1.0

    def latex(self) -> str:
        return r"t \log t - t + 1"


@dataclass(frozen=True)
class ReverseKullbackLeibler(PowerDivergence):
    """KL(q‖p), ψ(t) = −log t + t − 1. Its coordinate is 1 − 1/t < 1, so a drive of μ or more has no equilibrium.

    Spectral theory calls this ψ the Itakura–Saito divergence of t from 1. GRPO's "k3" penalty e^{−Δ} + Δ − 1 is the
    same function of 1/t.

    >>> ReverseKullbackLeibler().mirror(torch.tensor([0.5, 1.0, 2.0]))
    tensor([-1.0000,  0.0000,  0.5000])
    """

    @property
    def exponent(self) -> float:
        return 0.0

    def latex(self) -> str:
        return r"-\log t + t - 1"


@dataclass(frozen=True)
class PearsonChiSquare(PowerDivergence):
    """χ²(p‖q)/2, ψ(t) = (t − 1)²/2. Its coordinate is the fluctuation t − 1, its target policy a simplex projection.

    The factor 1/2 makes ψ''(1) = 1, as in the whole power family; statistics' χ² is twice this value.

    >>> PearsonChiSquare().generator(torch.tensor([0.0, 1.0, 3.0]))
    tensor([0.5000, 0.0000, 2.0000])
    """

    @property
    def exponent(self) -> float:
        return 2.0

    def latex(self) -> str:
        return r"\tfrac12 (t - 1)^2"


@dataclass(frozen=True)
class NeymanChiSquare(PowerDivergence):
    """χ²(q‖p)/2, ψ(t) = (t − 1)²/(2t).

    >>> NeymanChiSquare().generator(torch.tensor([0.5, 1.0, 2.0]))
    tensor([0.2500, 0.0000, 0.2500])
    """

    @property
    def exponent(self) -> float:
        return -1.0

    def latex(self) -> str:
        return r"\frac{(t - 1)^2}{2t}"


@dataclass(frozen=True)
class SquaredHellinger(PowerDivergence):
    """ψ(t) = 2(√t − 1)²: four times the squared Hellinger distance 1 − Σ√(pq), so that ψ''(1) = 1. Its own reverse.

    >>> SquaredHellinger().generator(torch.tensor([0.0, 1.0, 4.0]))
    tensor([2., 0., 2.])
    """

    @property
    def exponent(self) -> float:
        return 0.5

    def latex(self) -> str:
        return r"2 (\sqrt{t} - 1)^2"


def power_divergence(order: float) -> PowerDivergence:
    """The member of the power family of an order, under its own name where it has one.

    >>> power_divergence(2.0), power_divergence(3.0)
    (PearsonChiSquare(), CressieRead(order=3.0))
    """
    named: dict[float, PowerDivergence] = {
        1.0: KullbackLeibler(),
        0.0: ReverseKullbackLeibler(),
        2.0: PearsonChiSquare(),
        -1.0: NeymanChiSquare(),
        0.5: SquaredHellinger(),
    }
    return named.get(order, CressieRead(order))


@dataclass(frozen=True)
class Renyi:
    """Rényi's divergence of order α, a monotone transform of `CressieRead(order)`, whose value is D_α.

    R_α(p‖q) = log E_q[t^α]/(α−1) = log(1 + α(α−1) D_α(p‖q))/(α−1)

    It is a function of an expectation and not an expectation of a function, so it has no generator, mirror or target
    policy of its own: the targets of its penalty are those of `CressieRead(order)` at another stiffness. Order 1 is
    KL(p‖q). At order 0, R = −log q(p > 0): zero wherever the supports are equal.

    Args:
        order: α ≥ 0, finite.

    Raises:
        ValueError: the order is negative or not finite.

    >>> p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    >>> round(float(Renyi(2.0).value(p, q)), 6)
    0.287682

    Source: van Erven and Harremoës, *Rényi divergence and Kullback–Leibler divergence*, IEEE Trans. Inf. Theory 2014.
    """

    order: float

    def __post_init__(self) -> None:
        non_negative(self, "a finite order", order=self.order)

    def value(self, log_p: Tensor, log_q: Tensor, *, dim: int = -1) -> Tensor:
        """R_α(p‖q) over a finite support in nats, as a log-sum-exp, so that nothing overflows; arguments as of
        `Divergence.value`.
        """
        if self.order == 1.0:
            return KullbackLeibler().value(log_p, log_q, dim=dim)
        possible = torch.isfinite(log_p)
        log_ratio = torch.where(possible, log_p, 0.0) - torch.where(possible, log_q, 0.0)
        exponent = torch.where(possible, log_p + (self.order - 1.0) * log_ratio, -math.inf)
        return torch.logsumexp(exponent, dim) / (self.order - 1.0)

    def latex(self) -> str:
        return rf"\frac{{1}}{{\alpha-1}} \log E_q[t^\alpha],\ \alpha = {self.order:g}"
