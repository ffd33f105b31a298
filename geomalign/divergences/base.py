"""The contract of a divergence, what follows from its generator alone, and the algebra of multiples and sums."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval

__all__ = ["Divergence", "Scaled", "WeightedSum"]


class Divergence(ABC):
    """An f-divergence D(p‖q) = E_q[ψ(p/q)], with ψ convex on t ≥ 0 and ψ(1) = ψ'(1) = 0.

    A member needs `generator` alone, made of differentiable torch operations: derivatives then come from autograd,
    the inverse mirror and the conjugate from a root. Override a method where there is a closed form that is faster
    or keeps more digits: ψ written out cancels near t = 1, so that its `penalty` has an absolute error of the
    dtype's rounding, which matters for |Δ| < 1e-3 in float32.

    All methods are elementwise. `t` is a ratio ≥ 0, `log_ratio` is Δ = log t in nats, `s` a dual coordinate ψ'(t).
    Divergences add and take positive multiples: `KullbackLeibler() + 0.5 * PearsonChiSquare()`.

    An own divergence takes three lines, here the triangular discrimination of Le Cam:

    >>> import torch, geomalign as ga
    >>> class Triangular(ga.Divergence):
    ...     def generator(self, t):
    ...         return (t - 1) ** 2 / (t + 1)
    >>> ga.laws.check_divergence(Triangular())
    >>> ga.target_policy(torch.tensor([1.0, 0.0, -1.0]), Triangular()).ratio
    tensor([2.0456, 0.6718, 0.2827])
    """

    @abstractmethod
    def generator(self, t: Tensor) -> Tensor:
        """ψ(t); its limit at t = 0, which may be inf."""

    def mirror(self, t: Tensor) -> Tensor:
        """ψ'(t), the dual coordinate; increasing, 0 at t = 1."""
        return torch.func.grad(lambda x: self.generator(x).sum())(t)

    def curvature(self, t: Tensor) -> Tensor:
        """ψ''(t)."""
        return torch.func.grad(lambda x: self.mirror(x).sum())(t)

    def penalty(self, log_ratio: Tensor) -> Tensor:
        """ψ(e^Δ), finite also where e^Δ is not a number of the dtype."""
        low, high = _limits(log_ratio, 0.5)
        below = low.exp() * self.mirror(low.exp()) * (log_ratio - low).clamp(max=0)
        above = self.mirror(high.exp()) * (numerics.exp(log_ratio) - high.exp()).clamp(min=0)
        return self.generator(log_ratio.clamp(low, high).exp()) + below + above

    def coordinate(self, log_ratio: Tensor) -> Tensor:
        """ψ'(e^Δ): the chart in which the divergence's proximal step is linear."""
        low, high = _limits(log_ratio)
        below = self.slope(low) * (log_ratio - low).clamp(max=0)
        above = self.slope(high) * (log_ratio - high).clamp(min=0)
        return self.mirror(log_ratio.clamp(low, high).exp()) + below + above

    def slope(self, log_ratio: Tensor) -> Tensor:
        """∂coordinate/∂Δ = t ψ''(t)."""
        t = log_ratio.clamp(*_limits(log_ratio)).exp()
        return (t * self.curvature(t)).clamp(0, torch.finfo(t.dtype).max)  # rounding far out may lose the sign

    def inverse_mirror(self, s: Tensor) -> Tensor:
        """(ψ*)'(s): the t ≥ 0 with ψ'(t) = s; 0 below `mirror_range`, inf above it.

        The root is taken in Δ, where t stays positive, and is differentiable by the implicit-function rule.
        """
        span = self.mirror_range
        inside = (s > span.low) & (s < span.high)
        log_t = numerics.invert_increasing(self._rising, self.slope, torch.where(inside, s, 0.0))
        outside = torch.where(s <= span.low, torch.zeros_like(s), math.inf)
        return torch.where(inside, log_t.exp(), outside)

    def conjugate(self, s: Tensor) -> Tensor:
        """ψ*(s) = max over t ≥ 0 of s·t − ψ(t); inf above `mirror_range`."""
        inside = s < self.mirror_range.high
        return torch.where(inside, _Conjugate.apply(torch.where(inside, s, 0.0), self), math.inf)

    @property
    def mirror_range(self) -> Interval:
        """The values of ψ' on t > 0, closed: [ψ'(0), ψ'(∞)]. An end is finite where ψ' stops changing towards it."""
        far = torch.tensor([-300.0, -150.0, 150.0, 300.0], dtype=torch.float64)
        lowest, low, high, highest = self._rising(far).tolist()
        low = lowest if abs(lowest - low) <= 1e-3 * abs(low) else -math.inf
        high = highest if abs(highest - high) <= 1e-3 * abs(high) else math.inf
        return Interval(low, high)

    @property
    def reverse(self) -> Divergence:
        """The divergence with the arguments exchanged, D(q‖p): t·ψ(1/t)."""
        return _Reversed(self)

    def latex(self) -> str:
        """ψ(t) in LaTeX."""
        return rf"\psi_{{\mathrm{{{type(self).__name__}}}}}(t)"

    def latex_mirror(self, t: str) -> str:
        """ψ'(t) in LaTeX, of the ratio that is written `t`."""
        return rf"\psi_{{\mathrm{{{type(self).__name__}}}}}'\left({t}\right)"

    def _rising(self, log_ratio: Tensor) -> Tensor:
        """The coordinate; where a plain formula overflows to NaN it lies beyond every number, as ψ' increases."""
        s = self.coordinate(log_ratio)
        return torch.where(s.isnan(), log_ratio.sign() * math.inf, s)

    def value(self, log_p: Tensor, log_q: Tensor, *, dim: int = -1) -> Tensor:
        """D(p‖q) = Σ_y q(y) ψ(p(y)/q(y)) of two distributions over a finite support, from log-probabilities.

        Where p > q the term is taken as p·ψ◇(q/p) with ψ◇ of `reverse`, so a ratio of e^700 does not overflow. Where
        q = 0 < p it is p·ψ'(∞), where p = 0 < q it is q·ψ(0); both may be inf. Inputs need not be normalised.

        Args:
            log_p, log_q: `(..., support)` log-probabilities; −inf for an impossible outcome.
            dim: the axis of the support.

        Returns:
            `(...)`, the divergence; in nats where it is a KL, without unit otherwise.

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
        return terms[0][0] * terms[0][1] if len(terms) == 1 else WeightedSum(terms)

    def __mul__(self, weight: float) -> Divergence:
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            return NotImplemented
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"a multiple of a divergence needs a finite weight > 0 to stay convex, got {weight}.")
        terms = tuple((weight * w, of) for w, of in _terms(self))
        if len(terms) > 1:
            return WeightedSum(terms)
        return terms[0][1] if terms[0][0] == 1.0 else Scaled(*terms[0])

    __rmul__ = __mul__


@dataclass(frozen=True)
class _Reversed(Divergence):
    """t·ψ(1/t), the reverse of a divergence that states none."""

    of: Divergence

    def generator(self, t: Tensor) -> Tensor:
        positive = torch.where(t > 0, t, 1)
        return torch.where(t > 0, positive * self.of.generator(1 / positive), self.of.mirror_range.high)

    @property
    def reverse(self) -> Divergence:
        return self.of

    def __repr__(self) -> str:
        return f"{self.of!r}.reverse"


@dataclass(frozen=True)
class Scaled(Divergence):
    """w·ψ(t); written `w * divergence`.

    Args:
        weight: w, positive.
        of: the divergence with generator ψ.

    >>> import geomalign as ga
    >>> 2.0 * ga.JensenShannon()
    2.0 * JensenShannon()
    """

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

    def latex_mirror(self, t: str) -> str:
        return rf"{self.weight:g}\left({self.of.latex_mirror(t)}\right)"

    def __repr__(self) -> str:
        return f"{self.weight!r} * {self.of!r}"


@dataclass(frozen=True)
class WeightedSum(Divergence):
    """Σ_k w_k ψ_k(t), flat; written with `+` and `*`. Its inverse mirror and conjugate are solved for.

    Args:
        terms: pairs of a positive weight w_k and a divergence.

    The mixed divergence of χPO (arXiv 2407.13399):

    >>> import geomalign as ga
    >>> ga.KullbackLeibler() + ga.PearsonChiSquare()
    KullbackLeibler() + PearsonChiSquare()
    """

    terms: tuple[tuple[float, Divergence], ...]

    def _total(self, part: Callable[[Divergence], Tensor]) -> Tensor:
        return torch.stack([w * part(of) for w, of in self.terms]).sum(0)

    def generator(self, t: Tensor) -> Tensor:
        return self._total(lambda of: of.generator(t))

    def mirror(self, t: Tensor) -> Tensor:
        return self._total(lambda of: of.mirror(t))

    def curvature(self, t: Tensor) -> Tensor:
        return self._total(lambda of: of.curvature(t))

    def penalty(self, log_ratio: Tensor) -> Tensor:
        return self._total(lambda of: of.penalty(log_ratio))

    def coordinate(self, log_ratio: Tensor) -> Tensor:
        return self._total(lambda of: of.coordinate(log_ratio))

    def slope(self, log_ratio: Tensor) -> Tensor:
        return self._total(lambda of: of.slope(log_ratio))

    @property
    def mirror_range(self) -> Interval:
        return Interval(
            math.fsum(w * of.mirror_range.low for w, of in self.terms),
            math.fsum(w * of.mirror_range.high for w, of in self.terms),
        )

    @property
    def reverse(self) -> Divergence:
        return WeightedSum(tuple((w, of.reverse) for w, of in self.terms))

    def latex(self) -> str:
        return " + ".join(of.latex() if w == 1.0 else (w * of).latex() for w, of in self.terms)

    def latex_mirror(self, t: str) -> str:
        return "+".join((of if w == 1.0 else w * of).latex_mirror(t) for w, of in self.terms)

    def __repr__(self) -> str:
        return " + ".join(repr(of) if w == 1.0 else repr(Scaled(w, of)) for w, of in self.terms)


def _limits(x: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """The log-ratios between which a plain ψ is evaluated; beyond them it goes on as a tangent line.

    Half of `numerics.limit` below, where derivatives may hold 1/t³; as much above for ψ itself, which may hold t³.
    """
    limit = numerics.limit(x.dtype)
    return x.new_full((), -0.5 * limit), x.new_full((), share * limit)


def _product(mass: Tensor, constant: float) -> Tensor:
    """mass · constant without 0 · inf."""
    return mass * constant if math.isfinite(constant) else torch.full_like(mass, constant)


def _terms(divergence: Divergence) -> tuple[tuple[float, Divergence], ...]:
    match divergence:
        case WeightedSum(terms=terms):
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
        value = torch.where(t > 0, s * t, 0.0) - of.generator(t)
        return torch.where(t.isinf(), math.inf, value)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        (s,) = ctx.saved_tensors
        return grad * ctx.of.inverse_mirror(s), None
