"""Target policies: where a drive and a divergence balance, subject to probability being conserved.

max over t ≥ 0 of E_{π_k}[g·t − ψ(t)] such that E_{π_k}[t] = 1 has the solution ψ'(t*) = g − λ. Only the multiplier
λ, the chemical potential, has to be found. KL gives the Gibbs distribution in closed form. Pearson's χ² gives the
weighted simplex projection and the powers between them entmax, which `simplex` solves; every other divergence is solved
by a safeguarded Newton iteration.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.groups import Axis, Groups, Pool
from geomalign.divergences.base import Divergence, Scaled
from geomalign.divergences.power import PowerDivergence
from geomalign.divergences.simplex import power_density

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


Solver = Callable[[Tensor, "Tensor | None", Pool, Divergence], tuple[Tensor, Tensor]]


class _Balance(torch.autograd.Function):
    """t(g, w) and λ(g, w) with ψ'(t) = g − λ and Σ w t = 1, differentiated by the implicit-function rule.

    With κ = w/ψ''(t) the response of the outcomes, dt = (dg − dλ)/ψ''(t) and dλ = (Σ κ dg + Σ t dw)/Σ κ. Equal weights
    are no tensor, and cancel.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(drive: Tensor, weight: Tensor | None, solver: Solver, pool: Pool, of: Divergence):  # type: ignore[no-untyped-def]
        return solver(drive, weight, pool, of)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        _, weight, _, ctx.pool, ctx.of = inputs
        ctx.save_for_backward(output[0], weight)

    @staticmethod
    def backward(ctx, grad_t: Tensor, grad_multiplier: Tensor):  # type: ignore[no-untyped-def]
        t, weight = ctx.saved_tensors
        pool = ctx.pool
        free = t.sign()  # t = 0 is held by the bound
        softness = free / ctx.of.curvature(t + (1 - free))
        direct, response = softness * pool.keep(grad_t), softness if weight is None else softness * weight
        through = (pool.collect(grad_multiplier) - pool.total(direct)) / _positive(pool.total(response))
        grad_weight = None if weight is None else pool.keep(through * t)
        return direct + through * response, grad_weight, None, None, None


def _positive(x: Tensor) -> Tensor:
    """`x`, or 1 where nothing was summed, so that it can be divided by."""
    return torch.where(x > 0, x, 1)


def _gibbs(drive: Tensor, weight: Tensor | None, pool: Pool, of: Divergence) -> tuple[Tensor, Tensor]:
    top = pool.max(drive.detach())
    boltzmann = torch.exp(pool.keep(drive - top))
    total = pool.mean(boltzmann) if weight is None else pool.sum(weight * boltzmann)
    total = _positive(total)
    return boltzmann / total, top + total.log()


def _power(drive: Tensor, weight: Tensor | None, pool: Pool, of: Divergence) -> tuple[Tensor, Tensor]:
    assert isinstance(of, PowerDivergence)
    return power_density(drive, of.exponent - 1.0, weight, pool)


def _newton(drive: Tensor, weight: Tensor | None, pool: Pool, of: Divergence) -> tuple[Tensor, Tensor]:
    if weight is None:
        weight = pool.keep((1 / pool.count(drive.dtype)).expand_as(drive))
    top = pool.max(drive)
    below = pool.keep(drive - top)
    best, exists = pool.valid & (below == 0), pool.total(weight) > 0
    heaviest = pool.max(torch.where(best, weight, 0))

    # y = log t of the best outcome is the unknown: 1/t of it is lost in g − λ where ψ' is bounded above.
    def ratio(y: Tensor) -> Tensor:
        return torch.where(best, y.exp(), of.inverse_mirror(below + of.coordinate(y)))

    def log_mass(y: Tensor) -> tuple[Tensor, Tensor]:
        t = ratio(y)
        mass = torch.where(exists, pool.sum(weight * t), 1)
        free = t.sign()
        return mass.log(), of.slope(y) * pool.sum(weight * free / of.curvature(t + (1 - free))) / mass

    highest = -_positive(heaviest).log()
    y = numerics.solve_newton(log_mass, torch.zeros_like(top), -1e-9, highest + 1e-9, start=highest)
    t = pool.keep(ratio(y))
    return t / _positive(pool.sum(weight * t)), top - of.coordinate(y)


def balance(drive: Tensor, weight: Tensor | None, pool: Pool, of: Divergence) -> tuple[Tensor, Tensor]:
    """t ≥ 0 and λ with ψ'(t) = g − λ and E[t] = 1 in every group, differentiable.

    Args:
        drive: g, finite.
        weight: of the mean E: sums to one in every group, 0 where `pool` has no outcome. None: equal weights.
        pool: the groups.
        of: the divergence.

    >>> import geomalign as ga
    >>> balance(torch.tensor([1.0, 0.0]), None, Axis(torch.tensor([True, True])), ga.PearsonChiSquare())
    (tensor([1.5000, 0.5000]), tensor([0.5000]))
    """
    if isinstance(of, Scaled):
        ratio, multiplier = balance(drive / of.weight, weight, pool, of.of)
        return ratio, of.weight * multiplier
    exponent = of.exponent if isinstance(of, PowerDivergence) else math.inf
    if exponent == 1.0:
        ratio, multiplier = _gibbs(drive, weight, pool, of)
        return pool.keep(ratio), multiplier
    solver = _power if 1.0 < exponent <= 2.0 else _newton
    learnt = drive.requires_grad or (weight is not None and weight.requires_grad)
    if not (learnt and torch.is_grad_enabled()):
        return solver(drive, weight, pool, of)
    ratio, multiplier = _Balance.apply(drive, weight, solver, pool, of)
    return ratio, multiplier


def _target(
    drive: Tensor, divergence: Divergence, log_prior: Tensor | None, pool: Pool
) -> tuple[Tensor, Tensor, Tensor]:
    """The ratio, the multiplier and the normalised log π_k; of a group by itself only where it is not empty."""
    drive, weight = pool.keep(drive), None
    if log_prior is None:
        log_weight = pool.keep(-pool.count(drive.dtype).log().expand_as(drive), -math.inf)
    else:
        log_prior = pool.keep(log_prior)
        shift = pool.max(log_prior.detach())
        weight = pool.keep(torch.exp(log_prior - shift))
        total = _positive(pool.total(weight))
        weight = weight / total
        log_weight = pool.keep(log_prior - shift - total.log(), -math.inf)
    ratio, multiplier = balance(drive, weight, pool, divergence)
    return ratio, multiplier, log_weight


def target_policy(
    drive: Tensor, divergence: Divergence, *, log_prior: Tensor | None = None, groups: Groups | None = None
) -> TargetPolicy:
    """The policy that maximises ⟨g, π⟩ − D_ψ(π‖π_k), over a finite support or over groups of samples of π_k.

    ψ'(t*) = g − λ,   t* = 0 where g − λ ≤ ψ'(0),   E_{π_k}[t*] = 1

    A stiffness μ is a multiple of the divergence, `mu * divergence`, or where it is a tensor `drive / mu`.
    KL(π‖π_k): π* ∝ π_k e^g. Pearson's χ²: the weighted projection onto the simplex, exact. The powers
    between: entmax with a prior. Any other: a safeguarded Newton iteration. Differentiable in `drive` and `log_prior`,
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
        bisects on λ what is here exact (by sorting: Held, Wolfe and Crowder 1974; by iteration: Michelot 1986).
    """
    pool: Pool = Axis(drive.detach()) if groups is None else groups
    if log_prior is not None:
        pool = pool.among(~torch.isneginf(log_prior.detach()))
    padded = pool.padded()
    if padded is None:
        ratio, multiplier, log_weight = _target(drive, divergence, log_prior, pool)
        multiplier = multiplier.squeeze(-1) if groups is None else pool.keep(multiplier)
        return TargetPolicy(ratio, multiplier, log_weight)
    prior = None if log_prior is None else padded.dense(log_prior)
    dense = _target(padded.dense(drive), divergence, prior, padded.axis)
    ratio, multiplier, log_weight = (padded.rows(x) for x in dense)
    return TargetPolicy(ratio, pool.keep(multiplier), log_weight)


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
