"""The Amari / Cressie–Read family, from KL to χ², and Rényi's transform of it."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval
from geomalign.divergences.base import Divergence

__all__ = [
    "CressieRead",
    "ItakuraSaito",
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
    r"""The Amari / Cressie–Read family, indexed by an exponent α; a member only names its α.

    .. math:: \psi(t) = \frac{t^\alpha - \alpha t + \alpha - 1}{\alpha(\alpha-1)}, \quad
              \psi'(t) = \frac{t^{\alpha-1}-1}{\alpha-1}, \quad
              \psi^*(s) = \frac{(1+(\alpha-1)s)^{\alpha/(\alpha-1)} - 1}{\alpha}

    with the limits KL(p‖q) at α = 1 and KL(q‖p) at α = 0 taken exactly. Exchanging the arguments maps α to 1 − α.
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
        return torch.where(inside, log_t if a == 0.0 else torch.expm1(a * log_t) / a, -1.0 / a if p > 0 else math.inf)

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

    @property
    def mirror_range(self) -> Interval:
        p = self.exponent - 1.0
        return Interval(-1.0 / p if p > 0 else -math.inf, -1.0 / p if p < 0 else math.inf)

    @property
    def reverse(self) -> Divergence:
        return power_divergence(1.0 - self.exponent)


@dataclass(frozen=True)
class CressieRead(PowerDivergence):
    """The α of Amari and of Cressie and Read: order 2 is Pearson's χ², 1/2 squared Hellinger, −1 Neyman's χ².

    Orders 1 and 0 are the two KL divergences, exactly. The literature's other conventions are affine in this order:
    Amari's own index is 2α − 1, Cressie and Read's λ is α − 1 (theirs carries a further factor of 2).

    Args:
        order: α, any finite real number.

    >>> float(CressieRead(2.0).mirror(torch.tensor(3.0)))
    2.0

    Cressie and Read, *Multinomial goodness-of-fit tests*, JRSS B 1984; Amari, *Information geometry*, 2016.
    """

    order: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.order):
            raise ValueError(f"`order` must be a finite number, got {self.order}: the limits are not f-divergences.")

    @property
    def exponent(self) -> float:
        return self.order

    def latex(self) -> str:
        return rf"\frac{{t^\alpha - \alpha t + \alpha - 1}}{{\alpha(\alpha-1)}},\ \alpha = {self.order:g}"


@dataclass(frozen=True)
class KullbackLeibler(PowerDivergence):
    """KL(p‖q), ψ = t log t − t + 1. Its dual coordinate is the log-ratio, its prox the Gibbs distribution."""

    @property
    def exponent(self) -> float:
        return 1.0

    def latex(self) -> str:
        return r"t \log t - t + 1"


@dataclass(frozen=True)
class ReverseKullbackLeibler(PowerDivergence):
    """KL(q‖p), ψ = −log t + t − 1, with coordinate 1 − 1/t < 1: a drive of μ or more has no equilibrium."""

    @property
    def exponent(self) -> float:
        return 0.0

    def latex(self) -> str:
        return r"-\log t + t - 1"


@dataclass(frozen=True)
class ItakuraSaito(PowerDivergence):
    """Itakura–Saito of t from 1, t − log t − 1: the same function of t as KL(q‖p), under its name in spectral theory.

    The "k3" penalty of GRPO is this function of 1/t, e^{−Δ} + Δ − 1.
    """

    @property
    def exponent(self) -> float:
        return 0.0

    def latex(self) -> str:
        return r"t - \log t - 1"


@dataclass(frozen=True)
class PearsonChiSquare(PowerDivergence):
    """χ²(p‖q)/2, ψ = (t − 1)²/2: the coordinate is the fluctuation t − 1, the prox a simplex projection.

    The factor 1/2 makes ψ''(1) = 1, as for every member; statistics' χ² is twice this value.
    """

    @property
    def exponent(self) -> float:
        return 2.0

    def latex(self) -> str:
        return r"\tfrac12 (t - 1)^2"


@dataclass(frozen=True)
class NeymanChiSquare(PowerDivergence):
    """χ²(q‖p)/2, ψ = (t − 1)²/(2t)."""

    @property
    def exponent(self) -> float:
        return -1.0

    def latex(self) -> str:
        return r"\frac{(t - 1)^2}{2t}"


@dataclass(frozen=True)
class SquaredHellinger(PowerDivergence):
    """2(√t − 1)², four times the squared Hellinger distance 1 − Σ√(pq), so that ψ''(1) = 1; it is its own reverse."""

    @property
    def exponent(self) -> float:
        return 0.5

    def latex(self) -> str:
        return r"2 (\sqrt{t} - 1)^2"


def power_divergence(order: float) -> PowerDivergence:
    """The member of the power family under its own name where it has one."""
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
    r"""Rényi's divergence of order α, a monotone transform of :class:`CressieRead`.

    .. math:: R_\alpha(p\|q) = \frac{\log E_q[t^\alpha]}{\alpha-1}
                            = \frac{\log(1 + \alpha(\alpha-1) D_\alpha(p\|q))}{\alpha-1}

    It is a function of an expectation and not an expectation of a function, so it has no generator, mirror or prox of
    its own: the targets of its penalty are those of ``CressieRead(order)`` at another stiffness. Order 1 is KL(p‖q).
    At order 0, R = −log q(p > 0): zero wherever the supports are equal.

    Args:
        order: α ≥ 0.

    >>> p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    >>> round(float(Renyi(2.0).value(p, q)), 6)
    0.287682

    van Erven and Harremoës, *Rényi divergence and Kullback–Leibler divergence*, IEEE Trans. Inf. Theory 2014.
    """

    order: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.order) and self.order >= 0):
            raise ValueError(f"Renyi needs a finite order >= 0, got {self.order}.")

    def value(self, log_p: Tensor, log_q: Tensor, *, dim: int = -1) -> Tensor:
        """R_α(p‖q) over a finite support, exactly, as a log-sum-exp: nothing overflows."""
        if self.order == 1.0:
            return KullbackLeibler().value(log_p, log_q, dim=dim)
        possible = torch.isfinite(log_p)
        log_ratio = torch.where(possible, log_p, 0.0) - torch.where(possible, log_q, 0.0)
        exponent = torch.where(possible, log_p + (self.order - 1.0) * log_ratio, -math.inf)
        return torch.logsumexp(exponent, dim) / (self.order - 1.0)

    def latex(self) -> str:
        return rf"\frac{{1}}{{\alpha-1}} \log E_q[t^\alpha],\ \alpha = {self.order:g}"
