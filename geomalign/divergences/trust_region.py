"""divergences.trust_region"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.groups import Groups
from geomalign._util.types import Reduce
from geomalign.divergences.base import Divergence
from geomalign.divergences.target import target_policy

__all__ = ["chi_square_stiffness", "trust_region_target"]


_STEEPEST = 50.0


class Mean:
    """A mean over the valid rows of the batch, `()`, or of each row's group, `(row,)`; over ranks with `reduce`."""

    def __init__(self, groups: Groups, within: str, reduce: Reduce | None):
        self.groups, self.pooled, self.reduce = groups, within == "batch", reduce or (lambda x: x)

    def __call__(self, x: Tensor) -> Tensor:
        if not self.pooled:
            return self.groups.mean(x)
        valid = self.groups.valid
        total = self.reduce(torch.stack([torch.where(valid, x, 0).sum(), valid.sum().to(x.dtype)]))
        return total[0] / total[1].clamp(min=1)


def chi_square_stiffness(
    drive: Tensor, groups: Groups, radius: float, *, within: str = "batch", reduce: Reduce | None = None
) -> Tensor:
    r"""μ = ‖g − E g‖/√ε, at which the step v* = (g − E g)/μ has exactly E[v*²] = ε.

    The multiplier of max ⟨g, v⟩ s.t. E[v] = 0, E[v²] ≤ ε. v* ≥ −1, so that it is a policy, iff μ ≥ E g − min g.

    Args:
        drive: `(row,)`.
        groups: over which E is taken: g is centred in every group.
        radius: ε, positive.
        within: "batch": one μ, with E[v²] = ε on average over all rows. "group": one μ a group.
        reduce: sums a tensor over processes (groups whole on each); one call, for within="batch".

    Returns:
        `()` or `(row,)`; 0 where the drive has no spread.
    """
    centred = groups.centred(drive)
    return (Mean(groups, within, reduce)(centred**2) / radius).sqrt()


def trust_region_target(
    drive: Tensor,
    groups: Groups,
    divergence: Divergence,
    radius: float,
    *,
    within: str = "batch",
    reduce: Reduce | None = None,
) -> Tensor:
    r"""ψ'(t*) of the best policy within D_ψ(π‖π_k) ≤ radius: (g − λ)/μ at the μ where the bound is met.

    .. math:: \max_\pi\ \langle g, \pi\rangle \quad\text{s.t.}\quad D_\psi(\pi\|\pi_k) \le \varepsilon

    D falls monotonically with μ; log D is nearly linear in log μ, so that a safeguarded Newton needs a few steps.
    Groups of n samples reach only D ≤ ψ(n)/n + (1 − 1/n)ψ(0) (KL: log n). A radius beyond that is met as far as a
    difference of 50 between the best and the worst dual coordinate goes.

    Args:
        drive: `(row,)`.
        groups: over which E_{π_k} is taken, each with its λ.
        divergence: strictly convex.
        radius: ε, positive.
        within: "batch": one μ, D = ε on average over rows. "group": one μ a group, D = ε in every group with a spread.
        reduce: sums a tensor over processes, for within="batch"; a few calls, the same number on every process.

    Returns:
        `(row,)` dual coordinates, zero where a group's drive has no spread; ψ'(0) where t* = 0.
    """
    wide = torch.where(groups.valid, drive, 0).double()
    below = torch.where(groups.valid, wide - groups.max(wide), 0)
    mean = Mean(groups, within, reduce)
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
    widest = torch.cat([-below, -below.new_ones(1)]).amax() if mean.pooled else groups.max(-below)
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
