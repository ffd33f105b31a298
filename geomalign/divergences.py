"""Divergences: one convex function each, and everything that follows from it.

A separable Bregman divergence taken in the ratio t = p/q is an f-divergence, D(p || q) = E_q[psi(t)], with
psi(1) = psi'(1) = 0. Every member gives its generator psi, the mirror psi' (its dual coordinate), the curvature psi'',
the conjugate psi* and the inverse mirror (psi*)', both over t >= 0, and the same read in the log-ratio, where they stay
finite at +-1e4 nats (the saturation law of ``numerics``). Positive multiples and sums are divergences again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.numerics import Interval


class Divergence(ABC):
    r"""An f-divergence D(p‖q) = E_q[ψ(p/q)] with ψ convex on t ≥ 0 and ψ(1) = ψ'(1) = 0.

    To add one, implement the abstract methods; :class:`Solved` asks for less and finds the inverse mirror and the
    conjugate numerically. Arguments named ``t`` are ratios ≥ 0, ``log_ratio`` is log t, ``s`` a dual coordinate. All
    methods are elementwise.
    """

    @abstractmethod
    def generator(self, t: Tensor) -> Tensor:
        """ψ(t); its limit at t = 0."""

    @abstractmethod
    def mirror(self, t: Tensor) -> Tensor:
        """ψ'(t), the dual coordinate; increasing, 0 at t = 1."""

    @abstractmethod
    def curvature(self, t: Tensor) -> Tensor:
        """ψ''(t)."""

    @abstractmethod
    def inverse_mirror(self, s: Tensor) -> Tensor:
        """(ψ*)'(s): the t ≥ 0 with ψ'(t) = s; 0 below ``mirror_range``, inf above it."""

    @abstractmethod
    def conjugate(self, s: Tensor) -> Tensor:
        """ψ*(s) = max over t ≥ 0 of s·t − ψ(t); inf above ``mirror_range``."""

    @abstractmethod
    def penalty(self, log_ratio: Tensor) -> Tensor:
        """ψ(e^Δ), accurate for small Δ and finite for large."""

    @abstractmethod
    def coordinate(self, log_ratio: Tensor) -> Tensor:
        """ψ'(e^Δ): the chart that makes the divergence's prox a linear step."""

    @abstractmethod
    def slope(self, log_ratio: Tensor) -> Tensor:
        """∂coordinate/∂Δ = t ψ''(t)."""

    @property
    @abstractmethod
    def mirror_range(self) -> Interval:
        """The values that ψ' takes on t > 0, closed: [ψ'(0), ψ'(∞)]."""

    @property
    @abstractmethod
    def reverse(self) -> Divergence:
        """The divergence with the arguments exchanged, t·ψ(1/t)."""

    @abstractmethod
    def latex(self) -> str:
        """ψ(t) in LaTeX."""

    def value(self, log_p: Tensor, log_q: Tensor, *, dim: int = -1) -> Tensor:
        r"""D(p‖q) of two distributions over a finite support, exactly, from log-probabilities.

        .. math:: D(p\|q) = \sum_y q(y)\, \psi\!\left(p(y)/q(y)\right)

        Where p > q the term is taken as p·ψ◇(q/p) with ψ◇ = ``reverse``, so a ratio of e^{700} is exact too. Where
        q = 0 < p it is p·ψ'(∞), where p = 0 < q it is q·ψ(0); both may be inf. Unnormalised inputs give the same sum.

        Args:
            log_p, log_q: (..., support) log-probabilities; -inf for an impossible outcome.
            dim: the axis of the support.

        Returns:
            (...), the divergence in nats where it is a KL, without unit otherwise.

        >>> p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
        >>> round(float(PearsonChiSquare().value(p, q)), 6)
        0.166667
        """
        p, q = log_p.exp(), log_q.exp()
        no_p, no_q = torch.isneginf(log_p), torch.isneginf(log_q)
        log_ratio = torch.where(no_p | no_q, 0.0, log_p) - torch.where(no_p | no_q, 0.0, log_q)
        below = q * self.penalty(log_ratio.clamp(max=0.0))
        above = p * self.reverse.penalty(-log_ratio.clamp(min=0.0))
        at_zero = float(self.generator(torch.zeros((), dtype=torch.float64)))
        missed = torch.where(no_p & ~no_q, _product(q, at_zero), 0.0)
        invented = torch.where(no_q & ~no_p, _product(p, self.mirror_range.high), 0.0)
        common = torch.where(no_p | no_q, 0.0, torch.where(log_ratio > 0, above, below))
        return (common + missed + invented).sum(dim)

    def __add__(self, other: Divergence) -> Divergence:
        if not isinstance(other, Divergence):
            return NotImplemented
        weights: dict[Divergence, float] = {}
        for weight, of in (*_terms(self), *_terms(other)):
            weights[of] = weights.get(of, 0.0) + weight
        terms = tuple((weight, of) for of, weight in weights.items())
        return terms[0][0] * terms[0][1] if len(terms) == 1 else Sum(terms)

    def __mul__(self, weight: float) -> Divergence:
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            return NotImplemented
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"a multiple of a divergence needs a finite weight > 0 to stay convex, got {weight}.")
        terms = tuple((weight * w, of) for w, of in _terms(self))
        if len(terms) > 1:
            return Sum(terms)
        return terms[0][1] if terms[0][0] == 1.0 else Scaled(*terms[0])

    __rmul__ = __mul__


def _product(mass: Tensor, constant: float) -> Tensor:
    """mass · constant without 0 · inf."""
    return mass * constant if math.isfinite(constant) else torch.full_like(mass, constant)


def _terms(divergence: Divergence) -> tuple[tuple[float, Divergence], ...]:
    match divergence:
        case Sum(terms=terms):
            return terms
        case Scaled(weight=weight, of=of):
            return ((weight, of),)
        case _:
            return ((1.0, divergence),)


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
class JensenShannon(Divergence):
    """ψ = t log t − (1 + t) log((1 + t)/2): twice the Jensen–Shannon divergence, its own reverse; ψ''(1) = 1/2."""

    def generator(self, t: Tensor) -> Tensor:
        log_t = t.clamp(min=torch.finfo(t.dtype).tiny).log()
        return torch.where(t >= 0, self.penalty(log_t), math.inf)

    def mirror(self, t: Tensor) -> Tensor:
        return self.coordinate(t.log())

    def curvature(self, t: Tensor) -> Tensor:
        return 1.0 / (t * (1.0 + t))

    def inverse_mirror(self, s: Tensor) -> Tensor:
        inside = s < math.log(2.0)
        safe = torch.where(inside, s, 0.0)
        return torch.where(inside, safe.exp() / (1.0 - safe.expm1()), math.inf)

    def conjugate(self, s: Tensor) -> Tensor:
        inside = s < math.log(2.0)
        return torch.where(inside, -torch.log1p(-torch.where(inside, s, 0.0).expm1()), math.inf)

    def penalty(self, log_ratio: Tensor) -> Tensor:
        small = log_ratio.abs() < 1.0
        x = 0.5 * torch.where(small, log_ratio, 0.0)
        near = 2.0 * x.exp() * (x * x.sinh() - 0.5 * x.cosh() * torch.log1p(x.sinh() ** 2))
        s = self.coordinate(log_ratio)
        below = torch.where(log_ratio < 0, log_ratio, 0.0)
        low = below.exp() * s - torch.log1p(0.5 * below.expm1())
        high = numerics.expm1(log_ratio) * torch.where(log_ratio > 0, s, 0.0) + (2.0 * s - log_ratio)
        return torch.where(small, near, torch.where(log_ratio > 0, high, low))

    def coordinate(self, log_ratio: Tensor) -> Tensor:
        negative = log_ratio < 0
        below = torch.where(negative, log_ratio, 0.0)
        above = torch.where(negative, 0.0, log_ratio)
        return torch.where(negative, below - torch.log1p(0.5 * below.expm1()), -torch.log1p(0.5 * (-above).expm1()))

    def slope(self, log_ratio: Tensor) -> Tensor:
        return torch.sigmoid(-log_ratio)

    @property
    def mirror_range(self) -> Interval:
        return Interval(-math.inf, math.log(2.0))

    @property
    def reverse(self) -> Divergence:
        return self

    def latex(self) -> str:
        return r"t \log t - (1 + t) \log\frac{1 + t}{2}"


@dataclass(frozen=True)
class TotalVariation(Divergence):
    """ψ = |t − 1|/2. Convex, not strictly: its mirror is a subgradient, ±1/2 (0 at t = 1), which has no unique inverse.

    It can be measured, estimated and used as a penalty; it has no prox in closed form here and cannot be a chart.
    """

    def generator(self, t: Tensor) -> Tensor:
        return 0.5 * (t - 1.0).abs()

    def mirror(self, t: Tensor) -> Tensor:
        return 0.5 * (t - 1.0).sign()

    def curvature(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def inverse_mirror(self, s: Tensor) -> Tensor:
        raise ValueError(
            "TotalVariation is not strictly convex: ψ'(t) = ±1/2 takes one value on a whole interval, so a drive "
            "does not determine the ratio. Add a strictly convex divergence, for instance "
            "TotalVariation() + 0.1 * PearsonChiSquare(), or solve under another divergence."
        )

    def conjugate(self, s: Tensor) -> Tensor:
        return torch.where(s <= 0.5, s.clamp(min=-0.5), math.inf)

    def penalty(self, log_ratio: Tensor) -> Tensor:
        return 0.5 * numerics.expm1(log_ratio).abs()

    def coordinate(self, log_ratio: Tensor) -> Tensor:
        return 0.5 * log_ratio.sign()

    def slope(self, log_ratio: Tensor) -> Tensor:
        return torch.zeros_like(log_ratio)

    @property
    def mirror_range(self) -> Interval:
        return Interval(-0.5, 0.5)

    @property
    def reverse(self) -> Divergence:
        return self

    def latex(self) -> str:
        return r"\tfrac12 |t - 1|"


class _Conjugate(torch.autograd.Function):
    """ψ*(s) = s·t − ψ(t) at t = (ψ*)'(s), which by the envelope theorem is also its derivative."""

    @staticmethod
    def forward(ctx, s: Tensor, of: Divergence) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(s)
        ctx.of = of
        t = of.inverse_mirror(s)
        return torch.where(t > 0, s * t, 0.0) - of.generator(t)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        (s,) = ctx.saved_tensors
        return grad * ctx.of.inverse_mirror(s), None


class Solved(Divergence):
    """A divergence whose inverse mirror and conjugate are found numerically, from coordinate and slope.

    The root is taken in the log-ratio, where t stays positive, and is differentiable by the implicit-function rule.
    """

    def inverse_mirror(self, s: Tensor) -> Tensor:
        inside = (s > self.mirror_range.low) & (s < self.mirror_range.high)
        log_t = numerics.invert_increasing(self.coordinate, self.slope, torch.where(inside, s, 0.0))
        outside = torch.where(s <= self.mirror_range.low, torch.zeros_like(s), math.inf)
        return torch.where(inside, log_t.exp(), outside)

    def conjugate(self, s: Tensor) -> Tensor:
        inside = s < self.mirror_range.high
        return torch.where(inside, _Conjugate.apply(torch.where(inside, s, 0.0), self), math.inf)


@dataclass(frozen=True)
class Scaled(Divergence):
    """w·ψ; written ``w * divergence``."""

    weight: float
    of: Divergence

    def generator(self, t: Tensor) -> Tensor:
        return self.weight * self.of.generator(t)

    def mirror(self, t: Tensor) -> Tensor:
        return self.weight * self.of.mirror(t)

    def curvature(self, t: Tensor) -> Tensor:
        return self.weight * self.of.curvature(t)

    def inverse_mirror(self, s: Tensor) -> Tensor:
        return self.of.inverse_mirror(s / self.weight)

    def conjugate(self, s: Tensor) -> Tensor:
        return self.weight * self.of.conjugate(s / self.weight)

    def penalty(self, log_ratio: Tensor) -> Tensor:
        return self.weight * self.of.penalty(log_ratio)

    def coordinate(self, log_ratio: Tensor) -> Tensor:
        return self.weight * self.of.coordinate(log_ratio)

    def slope(self, log_ratio: Tensor) -> Tensor:
        return self.weight * self.of.slope(log_ratio)

    @property
    def mirror_range(self) -> Interval:
        return Interval(self.weight * self.of.mirror_range.low, self.weight * self.of.mirror_range.high)

    @property
    def reverse(self) -> Divergence:
        return self.weight * self.of.reverse

    def latex(self) -> str:
        return rf"{self.weight:g} \left( {self.of.latex()} \right)"

    def __repr__(self) -> str:
        return f"{self.weight!r} * {self.of!r}"


@dataclass(frozen=True)
class Sum(Solved):
    """Σ wᵢψᵢ; written with ``+`` and ``*``, flat. χPO's KL + χ² is ``KullbackLeibler() + PearsonChiSquare()``."""

    terms: tuple[tuple[float, Divergence], ...]

    def generator(self, t: Tensor) -> Tensor:
        return torch.stack([w * of.generator(t) for w, of in self.terms]).sum(0)

    def mirror(self, t: Tensor) -> Tensor:
        return torch.stack([w * of.mirror(t) for w, of in self.terms]).sum(0)

    def curvature(self, t: Tensor) -> Tensor:
        return torch.stack([w * of.curvature(t) for w, of in self.terms]).sum(0)

    def penalty(self, log_ratio: Tensor) -> Tensor:
        return torch.stack([w * of.penalty(log_ratio) for w, of in self.terms]).sum(0)

    def coordinate(self, log_ratio: Tensor) -> Tensor:
        return torch.stack([w * of.coordinate(log_ratio) for w, of in self.terms]).sum(0)

    def slope(self, log_ratio: Tensor) -> Tensor:
        return torch.stack([w * of.slope(log_ratio) for w, of in self.terms]).sum(0)

    @property
    def mirror_range(self) -> Interval:
        return Interval(
            math.fsum(w * of.mirror_range.low for w, of in self.terms),
            math.fsum(w * of.mirror_range.high for w, of in self.terms),
        )

    @property
    def reverse(self) -> Divergence:
        return Sum(tuple((w, of.reverse) for w, of in self.terms))

    def latex(self) -> str:
        return " + ".join(of.latex() if w == 1.0 else (w * of).latex() for w, of in self.terms)

    def __repr__(self) -> str:
        return " + ".join(repr(of) if w == 1.0 else repr(Scaled(w, of)) for w, of in self.terms)


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

    def from_power(self, value: Tensor) -> Tensor:
        """R_α from D_α = ``CressieRead(order)``; the value itself at order 1."""
        if self.order == 1.0:
            return value
        return torch.log1p(self.order * (self.order - 1.0) * value) / (self.order - 1.0)

    def latex(self) -> str:
        return rf"\frac{{1}}{{\alpha-1}} \log E_q[t^\alpha],\ \alpha = {self.order:g}"


@dataclass(frozen=True)
class SkewJensenShannon(Divergence):
    r"""The generalised Jensen–Shannon divergence β·KL(q‖m) + (1−β)·KL(p‖m) with the mixture m = βq + (1−β)p.

    .. math:: \psi(t) = (1-\beta)\, t \log\frac{t}{m} - \beta \log m, \quad m = \beta + (1-\beta) t, \quad
              \psi'(t) = (1-\beta) \log\frac{t}{m}

    Half of :class:`JensenShannon` at β = 1/2. Divided by β it tends to KL(q‖p) as β → 0, divided by 1 − β to KL(p‖q) as
    β → 1; itself it tends to zero at both ends. ψ''(1) = β(1−β).

    Args:
        weight: β in (0, 1), the share of q (in distillation the teacher, with p the student).

    >>> float(SkewJensenShannon(0.5).mirror(torch.tensor(1.0)))
    0.0

    Agarwal et al., *On-Policy Distillation of Language Models* (GKD, arXiv 2306.13649) eq. 1.
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.weight < 1:
            raise ValueError(
                f"SkewJensenShannon(weight={self.weight}): a share in (0, 1); the ends are KL(q‖p) and KL(p‖q), "
                "ReverseKullbackLeibler() and KullbackLeibler()."
            )

    def _excess(self, log_ratio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """m, and by how much t/m and 1/m exceed one, for log_ratio <= 0."""
        v = log_ratio.expm1()
        m = 1.0 + (1.0 - self.weight) * v
        return m, self.weight * v / m, -(1.0 - self.weight) * v / m

    def _below(self, log_ratio: Tensor) -> Tensor:
        m, of_p, of_q = self._excess(log_ratio)
        return m * ((1.0 - self.weight) * numerics.log1p_remainder(of_p) + self.weight * numerics.log1p_remainder(of_q))

    def generator(self, t: Tensor) -> Tensor:
        log_t = t.clamp(min=torch.finfo(t.dtype).tiny).log()
        return torch.where(t >= 0, self.penalty(log_t), math.inf)

    def mirror(self, t: Tensor) -> Tensor:
        return self.coordinate(t.log())

    def curvature(self, t: Tensor) -> Tensor:
        return self.weight * (1.0 - self.weight) / (t * (self.weight + (1.0 - self.weight) * t))

    def _ratio(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """e^{s/(1−β)} and 1 − (1−β)e^{s/(1−β)}, at s below the range's end."""
        r = (s / (1.0 - self.weight)).exp()
        return r, 1.0 - (1.0 - self.weight) * r

    def inverse_mirror(self, s: Tensor) -> Tensor:
        inside = s < self.mirror_range.high
        r, rest = self._ratio(torch.where(inside, s, 0.0))
        return torch.where(inside, self.weight * r / rest, math.inf)

    def conjugate(self, s: Tensor) -> Tensor:
        inside = s < self.mirror_range.high
        _, rest = self._ratio(torch.where(inside, s, 0.0))
        return torch.where(inside, self.weight * (math.log(self.weight) - rest.log()), math.inf)

    def penalty(self, log_ratio: Tensor) -> Tensor:
        down = torch.where(log_ratio > 0, 0.0, log_ratio)
        up = torch.where(log_ratio > 0, log_ratio, 0.0)
        # Above the anchor ψ(t) = t·ψ◇(1/t), with the two distributions exchanged.
        over = numerics.exp(up) * SkewJensenShannon(1.0 - self.weight)._below(-up)
        return torch.where(log_ratio > 0, over, self._below(down))

    def coordinate(self, log_ratio: Tensor) -> Tensor:
        negative = log_ratio < 0
        below = torch.where(negative, log_ratio, 0.0)
        above = torch.where(negative, 0.0, log_ratio)
        low = below - torch.log1p((1.0 - self.weight) * below.expm1())
        high = -torch.log1p(self.weight * (-above).expm1())
        return (1.0 - self.weight) * torch.where(negative, low, high)

    def slope(self, log_ratio: Tensor) -> Tensor:
        bias = math.log(self.weight) - math.log1p(-self.weight)
        return (1.0 - self.weight) * torch.sigmoid(bias - log_ratio)

    @property
    def mirror_range(self) -> Interval:
        return Interval(-math.inf, -(1.0 - self.weight) * math.log1p(-self.weight))

    @property
    def reverse(self) -> Divergence:
        return SkewJensenShannon(1.0 - self.weight)

    def latex(self) -> str:
        b = f"{self.weight:g}"
        return rf"(1-\beta)\, t \log\frac{{t}}{{m}} - \beta \log m,\ m = \beta + (1-\beta) t,\ \beta = {b}"
