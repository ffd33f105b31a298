"""The contract of a divergence, its algebra (multiples and sums), and members solved numerically."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval

__all__ = ["Divergence", "Scaled", "Solved", "Sum"]


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

        >>> from geomalign import PearsonChiSquare
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
