"""Target policies: where a drive and a divergence balance, subject to probability being conserved.

max over t ≥ 0 of E_{π_k}[g·t − ψ(t)] such that E_{π_k}[t] = 1 has the solution ψ'(t*) = g − λ. Only the multiplier
λ, the chemical potential, has to be found. KL gives the Gibbs distribution and Pearson's χ² the weighted simplex
projection, both in closed form; for every other divergence λ is found by Newton's iteration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.groups import Axis, Groups, Pool
from geomalign.divergences.base import Divergence, Scaled
from geomalign.divergences.power import PowerDivergence

__all__ = ["TargetPolicy", "free_energy", "target_policy"]


@dataclass(frozen=True, eq=False)
class TargetPolicy:
    """The policy π* = π_k t* at which drive and divergence balance.

    Args:
        ratio: t* ≥ 0 of every outcome, in the shape of the drive; 0 where π_k = 0.
        multiplier: λ*: `(...)` over a support, `(row,)` with groups.
        log_prior: log π_k, normalised, in the shape of the drive; −inf where π_k = 0.

    >>> import torch, geomalign as ga
    >>> target = ga.target_policy(torch.tensor([1.0, 0.0, -3.0]), ga.PearsonChiSquare())
    >>> target.fluctuation, target.multiplier
    (tensor([ 1.,  0., -1.]), tensor(0.))
    """

    ratio: Tensor
    multiplier: Tensor
    log_prior: Tensor

    @property
    def fluctuation(self) -> Tensor:
        """v* = t* − 1, of mean zero under π_k; 0 where π_k = 0."""
        return torch.where(self.log_prior.isneginf(), 0, self.ratio - 1.0)

    @property
    def probability(self) -> Tensor:
        """π* = π_k t*, which sums to one."""
        return self.log_prior.exp() * self.ratio


class _Newton(torch.autograd.Function):
    """t(g, w) and λ(g, w) with ψ'(t) = g − λ and Σ w t = 1, differentiated by the implicit-function rule.

    With κ = w/ψ''(t) the response of the outcomes, dt = (dg − dλ)/ψ''(t) and dλ = (Σ κ dg + Σ t dw)/Σ κ.
    """

    @staticmethod
    def forward(ctx, drive: Tensor, weight: Tensor, pool: Pool, of: Divergence) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        top = pool.max(drive)
        below = torch.where(pool.valid, drive - top, 0)
        best, exists = pool.valid & (below == 0), pool.sum(weight) > 0
        heaviest = pool.max(torch.where(best, weight, 0))

        # y = log t of the best outcome is the unknown: 1/t of it is lost in g − λ where ψ' is bounded above.
        def ratio(y: Tensor) -> Tensor:
            return torch.where(best, y.exp(), of.inverse_mirror(below + of.coordinate(y)))

        def log_mass(y: Tensor) -> tuple[Tensor, Tensor]:
            t = ratio(y)
            mass = torch.where(exists, pool.sum(weight * t), 1)
            return mass.log(), of.slope(y) * pool.sum(_response(t, weight, of)) / mass

        highest = -_positive(heaviest).log()
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
        through = (pool.collect(grad_multiplier) - pool.sum(direct)) / _positive(pool.sum(response))
        return direct + through * response, torch.where(pool.valid, through * t, 0), None, None


def _positive(x: Tensor) -> Tensor:
    """`x`, or 1 where nothing was summed, so that it can be divided by."""
    return torch.where(x > 0, x, 1)


def _response(t: Tensor, weight: Tensor, of: Divergence) -> Tensor:
    """w/ψ''(t), zero where t = 0 is held by the bound."""
    alive = t > 0
    return torch.where(alive, weight / of.curvature(torch.where(alive, t, 1)), 0)


def _gibbs(drive: Tensor, weight: Tensor, pool: Pool, of: Divergence) -> tuple[Tensor, Tensor]:
    top = pool.max(drive.detach())
    boltzmann = torch.exp(torch.where(pool.valid, drive - top, 0))
    total = _positive(pool.sum(weight * boltzmann))
    return boltzmann / total, top + total.log()


def _projection(drive: Tensor, weight: Tensor, pool: Pool, of: Divergence) -> tuple[Tensor, Tensor]:
    """t = (g − ν)₊ with Σ w t = 1, ν = λ − 1: i is free iff Σ_j w_j (g_j − g_i)₊ < 1, a sum over those above it."""
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


def _solve(drive: Tensor, weight: Tensor, pool: Pool, of: Divergence) -> tuple[Tensor, Tensor]:
    if isinstance(of, Scaled):
        ratio, multiplier = _solve(drive / of.weight, weight, pool, of.of)
        return ratio, of.weight * multiplier
    closed = {1.0: _gibbs, 2.0: _projection}
    solver = closed.get(of.exponent, _Newton.apply) if isinstance(of, PowerDivergence) else _Newton.apply
    ratio, multiplier = solver(drive, weight, pool, of)
    ratio = torch.where(pool.valid, ratio, 0)
    return ratio / _positive(pool.sum(weight * ratio)), multiplier


def target_policy(
    drive: Tensor, divergence: Divergence, *, log_prior: Tensor | None = None, groups: Groups | None = None
) -> TargetPolicy:
    """The policy that maximises ⟨g, π⟩ − D_ψ(π‖π_k), over a finite support or over groups of samples of π_k.

    ψ'(t*) = g − λ,   t* = 0 where g − λ ≤ ψ'(0),   E_{π_k}[t*] = 1

    A stiffness μ is a multiple of the divergence, `mu * divergence`, or where it is a tensor `drive / mu`.
    KL(π‖π_k): π* ∝ π_k e^g. Pearson's χ²: the weighted projection onto the simplex, exact, by sorting. The power
    family: entmax with a prior. Any other: a safeguarded Newton iteration. Differentiable in `drive` and `log_prior`,
    once and twice, by the implicit-function rule; for χ² the derivative is that of the free set. Solved in the drive's
    dtype; Σ π_k t* = 1 to rounding.

    Args:
        drive: g. `(..., support)`, any batch of supports; or `(row,)` with `groups`. Finite, except where π_k = 0.
        divergence: strictly convex, such as `0.5 * PearsonChiSquare()`.
        log_prior: log π_k in the shape of the drive, −inf for an impossible outcome, normalised here. None: uniform.
            With groups, the weights of the samples in the average that stands for E_{π_k}.
        groups: the rows' groups, ragged and in any order; rows in no group read 0.

    Returns:
        `TargetPolicy` with the ratio t*, the multiplier λ* and log π_k.

    Raises:
        ValueError: the divergence is `TotalVariation` alone, which no drive determines.

    >>> import torch, geomalign as ga
    >>> ga.target_policy(torch.tensor([1.0, 0.0, -3.0]), ga.PearsonChiSquare()).ratio
    tensor([2., 1., 0.])

    With groups and `mu * PearsonChiSquare()`, `fluctuation` is the bounded projection of GOPO, max(−1, (g − λ)/μ):

    >>> groups = ga.Groups(torch.tensor([5, 8, 5, 8]), torch.ones(4, dtype=torch.bool))
    >>> ga.target_policy(torch.tensor([1.0, 4.0, 0.0, 0.0]), 2 * ga.PearsonChiSquare(), groups=groups).fluctuation
    tensor([ 0.2500,  1.0000, -0.2500, -1.0000])

    Source: Blondel, Martins and Niculae, JMLR 2020 (regularised prediction maps); GOPO (arXiv 2602.21269), which
        bisects on λ what is here exact (sorting: Held, Wolfe and Crowder 1974).
    """
    if log_prior is None:
        log_prior = torch.zeros_like(drive)
    possible = ~torch.isneginf(log_prior.detach())
    pool: Pool = Axis(possible) if groups is None else Groups(groups.segment, possible & groups.valid)
    log_prior = torch.where(pool.valid, log_prior, 0)
    shift = pool.max(log_prior.detach())
    weight = torch.where(pool.valid, torch.exp(log_prior - shift), 0)
    total = _positive(pool.sum(weight))
    weight = weight / total
    log_weight = torch.where(pool.valid, log_prior - shift - total.log(), -math.inf)
    ratio, multiplier = _solve(torch.where(pool.valid, drive, 0), weight, pool, divergence)
    multiplier = multiplier.squeeze(-1) if groups is None else torch.where(pool.valid, multiplier, 0)
    return TargetPolicy(ratio, multiplier, log_weight)


def free_energy(drive: Tensor, divergence: Divergence, *, log_prior: Tensor | None = None) -> Tensor:
    """max over policies of ⟨g, π⟩ − D_ψ(π‖π_k), the conjugate of the divergence: a soft maximum of the drive.

    F(g) = λ* + E_{π_k}[ψ*(g − λ*)],   ∂F/∂g = π*

    For KL it is log E_{π_k}[e^g]. Its gradient in the drive is the target policy (Danskin's theorem), and is what
    autograd gives.

    Args:
        drive, divergence, log_prior: as for `target_policy` over a support.

    Returns:
        `(...)`, one number per support.

    >>> import torch, geomalign as ga
    >>> drive = torch.tensor([1.0, 0.0])
    >>> ga.free_energy(drive, ga.KullbackLeibler()), drive.exp().mean().log()
    (tensor(0.6201), tensor(0.6201))
    """
    target = target_policy(drive, divergence, log_prior=log_prior)
    possible = ~torch.isneginf(target.log_prior)
    s = torch.where(possible, drive - target.multiplier.unsqueeze(-1), 0)
    weight = torch.where(possible, target.log_prior, -math.inf).exp()
    return target.multiplier + (weight * divergence.conjugate(s)).sum(-1)
