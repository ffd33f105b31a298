"""Trust regions: the stiffness, and the best policy, at a given radius of divergence from the old policy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.groups import Groups, mean_within
from geomalign._util.types import Reduce
from geomalign.divergences.base import Divergence
from geomalign.divergences.target import target_policy

__all__ = ["chi_square_stiffness", "trust_region_target"]

_STEEPEST = 50.0
"""The largest difference of drive over μ within a group that is tried; e^−50 leaves nothing to a worse response."""


def chi_square_stiffness(
    drive: Tensor, groups: Groups, radius: float, *, within: str = "batch", reduce: Reduce | None = None
) -> Tensor:
    """μ = ‖g − E g‖/√ε, at which the step v* = (g − E g)/μ has exactly E[v*²] = ε.

    It is the multiplier of max ⟨g, v⟩ such that E[v] = 0 and E[v²] ≤ ε. The step leads to a policy, v* ≥ −1, if and
    only if μ ≥ E g − min g.

    Args:
        drive: g, `(row,)`.
        groups: over which E is taken: g is centred in every group.
        radius: ε, positive.
        within: "batch": one μ, with E[v²] = ε on average over all rows. "group": one μ per group.
        reduce: sums a tensor over processes that each hold whole groups; one call, for within="batch" alone.

    Returns:
        `()` or `(row,)`; 0 where the drive has no spread.

    >>> import torch, geomalign as ga
    >>> groups = ga.Groups(None, torch.ones(4, dtype=torch.bool))
    >>> ga.chi_square_stiffness(torch.tensor([1.0, 0.0, 1.0, 0.0]), groups, radius=0.01)
    tensor(5.)

    Source: χ² trust-region duality of OPO (arXiv 2601.12415).
    """
    centred = groups.centred(drive)
    return (mean_within(groups, within, reduce)(centred**2) / radius).sqrt()


def trust_region_target(
    drive: Tensor,
    groups: Groups,
    divergence: Divergence,
    radius: float,
    *,
    within: str = "batch",
    reduce: Reduce | None = None,
) -> Tensor:
    """ψ'(t*) of the best policy within D_ψ(π‖π_k) ≤ ε: (g − λ)/μ at the μ where the bound is met.

    max over π of ⟨g, π⟩ such that D_ψ(π‖π_k) ≤ ε

    D falls monotonically with μ, and log D is nearly linear in log μ, so that a safeguarded Newton iteration needs a
    few steps. A group of n samples reaches only D ≤ ψ(n)/n + (1 − 1/n)ψ(0), which is log n for KL. A larger radius is
    met as far as a difference of 50 between the best and the worst dual coordinate goes.

    Args:
        drive: g, `(row,)`.
        groups: over which E_{π_k} is taken, each with its λ.
        divergence: strictly convex.
        radius: ε, positive.
        within: "batch": one μ, D = ε on average over rows. "group": one μ per group, D = ε in every group that has a
            spread.
        reduce: sums a tensor over processes that each hold whole groups, for within="batch"; a few calls, the same
            number on every process.

    Returns:
        `(row,)` dual coordinates; zero where a group's drive has no spread, ψ'(0) where t* = 0.

    >>> import torch, geomalign as ga
    >>> groups, kl = ga.Groups(None, torch.ones(4, dtype=torch.bool)), ga.KullbackLeibler()
    >>> s = ga.trust_region_target(torch.tensor([3.0, 0.0, 1.0, 0.0]), groups, kl, radius=0.02)
    >>> kl.generator(kl.inverse_mirror(s)).mean()
    tensor(0.0200)

    Source: Peters et al. 2010 (REPS) and Abdolmaleki et al. 2018 (MPO) for KL.
    """
    wide = torch.where(groups.valid, drive, 0).double()
    below = torch.where(groups.valid, wide - groups.max(wide), 0)
    mean = mean_within(groups, within, reduce)
    # Scale-free: the spread in standard deviations of the pool.
    spread = mean(groups.centred(wide) ** 2).sqrt()
    below = below / torch.where(spread > 0, spread, 1)

    def coordinates(x: Tensor) -> tuple[Tensor, Tensor]:
        g = below * x.exp()
        target = target_policy(g, divergence, groups=groups)
        return target.ratio, torch.where(groups.valid, g - target.multiplier, 0)

    def log_divergence(x: Tensor) -> tuple[Tensor, Tensor]:
        t, _ = coordinates(x)
        alive = t > 0
        response = torch.where(alive, 1 / divergence.curvature(torch.where(alive, t, 1)), 0)
        tilted = groups.sum(response * below) / torch.where(groups.valid, groups.sum(response), 1)
        value = mean(divergence.generator(t)).clamp(min=torch.finfo(t.dtype).tiny)
        slope = mean(response * (below - tilted) ** 2) * (2 * x).exp()
        # Without a spread no stiffness changes anything: call it solved.
        return torch.where(spread > 0, value.log(), math.log(radius)), slope / value

    # ψ''(1) = 1 for a normalised divergence: D ≈ 1/(2μ²) for a small step of unit spread.
    one = torch.ones((), dtype=wide.dtype, device=wide.device)
    start = 0.5 * (2 * radius * divergence.curvature(one)).log()
    widest = torch.cat([-below, -below.new_ones(1)]).amax() if within == "batch" else groups.max(-below)
    steepest = _STEEPEST / widest.clamp(min=1.0)
    x = numerics.solve_newton(
        log_divergence,
        torch.full_like(spread, math.log(radius)),
        -60.0,
        steepest.log(),
        start=start.expand_as(spread),
    )
    _, s = coordinates(x)
    low = divergence.mirror_range.low
    return torch.where(groups.valid & (below != groups.mean(below)), s.clamp(min=low), 0).to(drive.dtype)
