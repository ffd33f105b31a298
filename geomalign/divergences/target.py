r"""Target policies in closed form: where a drive and a divergence balance, subject to probability being conserved.

.. math:: \max_{t \ge 0}\ E_{\pi_k}[g\,t - \psi(t)] \quad \text{s.t.} \quad E_{\pi_k}[t] = 1
          \qquad\Rightarrow\qquad \psi'(t^*) = g - \lambda

One multiplier λ, the chemical potential, is all there is to solve: the Gibbs distribution for KL, the weighted simplex
projection for Pearson's χ², a Newton iteration on λ for everything else.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.groups import Groups
from geomalign.divergences.base import Divergence, Scaled
from geomalign.divergences.power import PowerDivergence

__all__ = ["TargetPolicy", "bounded_projection", "free_energy", "target_policy"]


@dataclass(frozen=True, eq=False)
class TargetPolicy:
    """The policy π* = π_k t* at which drive and divergence balance.

    Args:
        ratio: t* ≥ 0 of every outcome, in the shape of the drive; 0 where π_k = 0.
        multiplier: λ*, `(...,)` over a support, one a row with groups.
        log_prior: log π_k, normalised, in the shape of the drive.
    """

    ratio: Tensor
    multiplier: Tensor
    log_prior: Tensor

    @property
    def fluctuation(self) -> Tensor:
        """v* = t* − 1, of mean zero under π_k."""
        return self.ratio - 1.0

    @property
    def probability(self) -> Tensor:
        """π* = π_k t*, which sums to one."""
        return self.log_prior.exp() * self.ratio


class _Pool(ABC):
    """What is summed over: an axis, or ragged groups of rows. Results broadcast against the rows."""

    valid: Tensor

    @abstractmethod
    def sum(self, x: Tensor) -> Tensor:
        """Sum of x over the valid outcomes of the same prior."""

    @abstractmethod
    def max(self, x: Tensor) -> Tensor:
        """Largest x over the valid outcomes of the same prior."""

    @abstractmethod
    def collect(self, gradient: Tensor) -> Tensor:
        """Adjoint of broadcasting one number a prior: the total gradient of that number."""

    @abstractmethod
    def running(self, key: Tensor, *values: Tensor) -> list[Tensor]:
        """At each outcome, the sums of `values` over the outcomes of its prior that sort no lower by `key`."""


class _Axis(_Pool):
    def __init__(self, valid: Tensor):
        self.valid = valid

    def sum(self, x: Tensor) -> Tensor:
        return torch.where(self.valid, x, 0).sum(-1, keepdim=True)

    def max(self, x: Tensor) -> Tensor:
        top = torch.where(self.valid, x, -math.inf).amax(-1, keepdim=True)
        return torch.where(torch.isfinite(top), top, 0)

    def collect(self, gradient: Tensor) -> Tensor:
        return gradient

    def running(self, key: Tensor, *values: Tensor) -> list[Tensor]:
        order = torch.where(self.valid, key, -math.inf).argsort(-1, descending=True)
        back = order.argsort(-1)
        return [torch.where(self.valid, x, 0).gather(-1, order).cumsum(-1).gather(-1, back) for x in values]


class _Rows(_Pool):
    def __init__(self, groups: Groups, valid: Tensor):
        self.valid = valid
        self.groups = groups

    def sum(self, x: Tensor) -> Tensor:
        x = torch.where(self.valid, x, 0)
        return x.new_zeros(x.shape[0]).index_add(0, self.groups.segment, x)[self.groups.segment]

    def max(self, x: Tensor) -> Tensor:
        x = torch.where(self.valid, x, -math.inf)
        top = torch.full_like(x, -math.inf).scatter_reduce(0, self.groups.segment, x, "amax")[self.groups.segment]
        return torch.where(torch.isfinite(top), top, 0)

    def collect(self, gradient: Tensor) -> Tensor:
        return self.sum(gradient)

    def running(self, key: Tensor, *values: Tensor) -> list[Tensor]:
        segment = self.groups.segment
        order = torch.where(self.valid, key, -math.inf).argsort(descending=True)
        order = order[segment[order].argsort(stable=True)]
        back, sorted_segment = order.argsort(), segment[order]
        first = torch.searchsorted(sorted_segment, sorted_segment)
        sums = []
        for x in values:
            x = torch.where(self.valid, x, 0)[order]
            total = x.cumsum(0)
            sums.append((total - (total - x)[first])[back])
        return sums


class _Newton(torch.autograd.Function):
    """t(g, w) and λ(g, w) with ψ'(t) = g − λ and Σ w t = 1, differentiated by the implicit-function rule.

    With κ = w/ψ''(t) the response of the outcomes, dt = (dg − dλ)/ψ''(t) and dλ = (Σ κ dg + Σ t dw)/Σ κ.
    """

    @staticmethod
    def forward(ctx, drive: Tensor, weight: Tensor, pool: _Pool, of: Divergence) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        top = pool.max(drive)
        below = torch.where(pool.valid, drive - top, 0)
        best = pool.valid & (below == 0)
        heaviest = pool.max(torch.where(best, weight, 0))

        # y = log t of the best outcome is the unknown: 1/t of it is lost in g − λ where ψ' is bounded above.
        def ratio(y: Tensor) -> Tensor:
            return torch.where(best, y.exp(), of.inverse_mirror(below + of.coordinate(y)))

        def log_mass(y: Tensor) -> tuple[Tensor, Tensor]:
            t = ratio(y)
            mass = pool.sum(weight * t)
            return mass.log(), of.slope(y) * pool.sum(_response(t, weight, of)) / mass

        highest = -torch.where(heaviest > 0, heaviest, 1).log()
        y = numerics.solve_newton(log_mass, torch.zeros_like(top), -1e-9, highest + 1e-9, start=highest)
        t, multiplier = torch.where(pool.valid, ratio(y), 0), top - of.coordinate(y)
        ctx.save_for_backward(t, weight)
        ctx.pool, ctx.of = pool, of
        return t, multiplier

    @staticmethod
    def backward(ctx, grad_t: Tensor, grad_multiplier: Tensor):  # type: ignore[no-untyped-def]
        t, weight = ctx.saved_tensors
        pool, of = ctx.pool, ctx.of
        direct = _response(t, torch.where(pool.valid, grad_t, 0), of)
        response = _response(t, weight, of)
        through = (pool.collect(grad_multiplier) - pool.sum(direct)) / pool.sum(response)
        return direct + through * response, torch.where(pool.valid, through * t, 0), None, None


def _response(t: Tensor, weight: Tensor, of: Divergence) -> Tensor:
    """w/ψ''(t), zero where t = 0 is held by the bound."""
    alive = t > 0
    return torch.where(alive, weight / of.curvature(torch.where(alive, t, 1)), 0)


def _gibbs(drive: Tensor, weight: Tensor, pool: _Pool, of: Divergence) -> tuple[Tensor, Tensor]:
    top = pool.max(drive.detach())
    boltzmann = torch.exp(torch.where(pool.valid, drive - top, 0))
    total = pool.sum(weight * boltzmann)
    return boltzmann / total, top + total.log()


def _projection(drive: Tensor, weight: Tensor, pool: _Pool, of: Divergence) -> tuple[Tensor, Tensor]:
    r"""t = (g − ν)₊ with Σ w t = 1, ν = λ − 1: i is free iff Σ_j w_j (g_j − g_i)₊ < 1, a sum over those above it."""
    top = pool.max(drive.detach())
    below = torch.where(pool.valid, drive - top, 0)
    with torch.no_grad():
        key = below.detach()
        mass, height = pool.running(key, weight, weight * key)
        free = pool.valid & (height - key * mass < 1.0)
        # Rounding in the running sums can misplace an outcome at the threshold: two exact updates settle it.
        for _ in range(2):
            level = (pool.sum(torch.where(free, weight * key, 0)) - 1.0) / pool.sum(torch.where(free, weight, 0))
            free = pool.valid & (key > level)
    level = (pool.sum(torch.where(free, weight * below, 0)) - 1.0) / pool.sum(torch.where(free, weight, 0))
    return torch.where(free, below - level, 0), top + level + 1.0


def _newton(drive: Tensor, weight: Tensor, pool: _Pool, of: Divergence) -> tuple[Tensor, Tensor]:
    ratio, multiplier = _Newton.apply(drive, weight, pool, of)
    return ratio, multiplier


def _solve(drive: Tensor, weight: Tensor, pool: _Pool, of: Divergence) -> tuple[Tensor, Tensor]:
    if isinstance(of, Scaled):
        ratio, multiplier = _solve(drive / of.weight, weight, pool, of.of)
        return ratio, of.weight * multiplier
    closed = {1.0: _gibbs, 2.0: _projection}
    solver = closed.get(of.exponent, _newton) if isinstance(of, PowerDivergence) else _newton
    ratio, multiplier = solver(drive, weight, pool, of)
    ratio = torch.where(pool.valid, ratio, 0)
    return ratio / pool.sum(weight * ratio), multiplier


def target_policy(
    drive: Tensor, divergence: Divergence, *, log_prior: Tensor | None = None, groups: Groups | None = None
) -> TargetPolicy:
    r"""The policy that maximises ⟨g, π⟩ − D_ψ(π‖π_k), over a finite support or over groups of samples of π_k.

    .. math:: \psi'(t^*) = g - \lambda, \qquad t^* = 0 \text{ where } g - \lambda \le \psi'(0), \qquad
              E_{\pi_k}[t^*] = 1

    A stiffness μ is a multiple of the divergence, ``mu * divergence``, or where it is a tensor ``drive / mu``.
    KL(π‖π_k): π* ∝ π_k e^g. Pearson's χ²: the weighted projection onto the simplex, exact, by sorting. α: entmax with a
    prior. Any other: safeguarded Newton on λ. Differentiable in ``drive`` and ``log_prior``, once and twice, by the
    implicit-function rule; for χ² the derivative is that of the free set. Solved in the drive's dtype; Σ π_k t* = 1 to
    rounding.

    Args:
        drive: g. `(..., support)`, any batch of supports; or `(row,)` with ``groups``. Finite, except where π_k = 0.
        divergence: strictly convex, such as ``0.5 * PearsonChiSquare()``.
        log_prior: log π_k in the shape of the drive, -inf for an impossible outcome, normalised here. None: uniform.
            With groups, the weights of the samples in the average that stands for E_{π_k}.
        groups: the rows' groups, ragged and in any order; rows in no group read 0.

    Returns:
        `TargetPolicy` with the ratio t*, the multiplier λ* and log π_k.

    Raises:
        ValueError: ``TotalVariation`` alone, which no drive determines.

    >>> import torch, geomalign as ga
    >>> ga.target_policy(torch.tensor([1.0, 0.0, -3.0]), ga.PearsonChiSquare()).ratio
    tensor([2., 1., 0.])

    Source: Blondel, Martins and Niculae, JMLR 2020 (regularised prediction maps). For χ² it is the bounded Hilbert
    projection v* = t* − 1 of GOPO (arXiv 2602.21269), which its author finds by bisection.
    """
    if log_prior is None:
        log_prior = torch.zeros_like(drive)
    possible = ~torch.isneginf(log_prior.detach())
    pool: _Pool = _Axis(possible) if groups is None else _Rows(groups, possible & groups.valid)
    log_prior = torch.where(pool.valid, log_prior, 0)
    shift = pool.max(log_prior.detach())
    weight = torch.where(pool.valid, torch.exp(log_prior - shift), 0)
    total = pool.sum(weight)
    weight = weight / torch.where(total > 0, total, 1)
    log_weight = torch.where(pool.valid, log_prior - shift - torch.where(total > 0, total, 1).log(), -math.inf)
    ratio, multiplier = _solve(torch.where(pool.valid, drive, 0), weight, pool, divergence)
    if groups is None:
        return TargetPolicy(ratio, multiplier.squeeze(-1), log_weight)
    inside = pool.valid
    return TargetPolicy(torch.where(inside, ratio, 0), torch.where(inside, multiplier, 0), log_weight)


def free_energy(drive: Tensor, divergence: Divergence, *, log_prior: Tensor | None = None) -> Tensor:
    r"""max over policies of ⟨g, π⟩ − D_ψ(π‖π_k), the conjugate of the divergence: a soft maximum of the drive.

    .. math:: F(g) = \lambda^* + E_{\pi_k}[\psi^*(g - \lambda^*)], \qquad \partial F/\partial g = \pi^*

    For KL it is log E_{π_k}[e^g]. Its gradient in the drive is the target policy (Danskin), and is what autograd gives.

    Args:
        drive, divergence, log_prior: as for :func:`target_policy` over a support.

    Returns:
        (...), one number a support.
    """
    target = target_policy(drive, divergence, log_prior=log_prior)
    possible = ~torch.isneginf(target.log_prior)
    s = torch.where(possible, drive - target.multiplier.unsqueeze(-1), 0)
    weight = torch.where(possible, target.log_prior, -math.inf).exp()
    return target.multiplier + (weight * divergence.conjugate(s)).sum(-1)


def bounded_projection(target: Tensor, groups: Groups) -> Tensor:
    """The bounded Hilbert projection of GOPO, exactly: argmin_v Σ (v − target)² s.t. Σ v = 0 and v ≥ −1, in each group.

    v* = max(−1, target − λ) with the λ at which v* sums to zero: with x = v + 1 the projection onto a simplex of
    total G,
    solved by sorting in O(rows · log rows) for all groups at once (Held, Wolfe & Crowder 1974), without bisection.
    Sums are taken in float64. GOPO (arXiv 2602.21269) bisects on λ; this is the point it converges to.

    `target_policy(g, mu * PearsonChiSquare(), groups=groups)` is the same point with any prior, differentiable in g and
    with its multiplier, in the layer above the objectives. A drive has no gradient and is computed below them, which is
    what this is for; a test holds the two together.

    Args:
        target: `(row,)`, (g − E g)/μ or g/μ: a constant a group is projected out.
        groups: the rows' groups; rows in no group read zero.

    >>> import torch
    >>> from geomalign.batch import Groups
    >>> v = bounded_projection(torch.tensor([3.0, 0.0, -3.0]), Groups(None, torch.ones(3, dtype=torch.bool)))
    >>> v
    tensor([ 2., -1., -1.])
    """
    wide = groups.centred(target.double())
    rows = wide.shape[0]
    if rows == 0:
        return target
    # Rows in no group sort last in their segment: they never enter a prefix of valid rows.
    key = torch.where(groups.valid, wide, float("-inf"))
    by_value = torch.argsort(key, descending=True, stable=True)
    order = by_value[torch.argsort(groups.segment[by_value], stable=True)]
    segment, value, valid = groups.segment[order], wide[order], groups.valid[order]
    position = torch.arange(rows, device=wide.device)
    start = torch.full((rows,), rows, device=wide.device).scatter_reduce(0, segment, position, "amin")[segment]
    rank = (position - start + 1).to(wide.dtype)
    running = torch.cumsum(torch.where(valid, value, 0), 0)
    before = running[start] - torch.where(valid, value, 0)[start]
    count = groups.count(wide.dtype)[order]
    # With the k largest free: Σ_free (value − λ) = G − ... ⇒ λ_k = (Σ_free value + k − G)/k; the largest k with
    # value_k > λ_k − 1 is the answer.
    threshold = (running - before + rank - count) / rank
    free = valid & (value - threshold > -1)
    size = torch.zeros(rows, dtype=wide.dtype, device=wide.device).index_add(0, segment, free.to(wide.dtype))
    last = (start + size[segment].long().clamp(min=1) - 1).clamp(max=rows - 1)
    v = torch.where(valid, torch.clamp(value - threshold[last], min=-1.0), 0)
    return torch.zeros_like(wide).scatter(0, order, v).to(target.dtype)
