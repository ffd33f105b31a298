"""Target policies with a bound, t = (1 + p(g − λ))₊^{1/p}: the multiplier λ at which the mean of t is one.

p = 1 is the projection onto the simplex, 0 < p < 1 is entmax of α = 1 + p, and the limit p → 0 the softmax. The norm of
order 1/p of (1 + p(g − λ))₊ is convex in λ and nearly a line, so that Newton's iteration in it approaches the root from
below in four to eight steps, and never passes it. For p = 1 that is Michelot's algorithm.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.groups import Axis, Pool
from geomalign._util.numerics import may_wait

__all__ = ["power_density"]

Sum = Callable[[Tensor], Tensor]

_FEW = 4096
"""Up to so many drives a sort is faster than the iteration: the time is that of launching operations."""
_STEPS = 24
"""Newton steps on a device that is not to be waited for. In float64, also of geometric drives, 8 were ever needed. If
p = 1 and every step binds a share f of the outcomes that are left, each moves at most f/(1 − f) times as far as the one
before it, so that 24 steps leave nothing to do among a thousand."""


def power_density(drive: Tensor, power: float, weight: Tensor | None, pool: Pool) -> tuple[Tensor, Tensor]:
    """t = (1 + p(g − λ))₊^{1/p} of mean one in every group, and λ; without gradient.

    The last operation divides t by its mean, so that it is one to rounding in float32, too.

    Args:
        drive: g, finite wherever `pool` has an outcome.
        power: p in (0, 1].
        weight: of the mean, in the shape of the drive: sums to one in every group, and is 0 where there is no outcome.
            None: equal weights.
        pool: over what the mean is taken.

    >>> power_density(torch.tensor([1.0, 0.5, 7.0]), 1.0, None, Axis(torch.tensor([True, True, False])))
    (tensor([1.2500, 0.7500, 0.0000]), tensor([0.7500]))
    """
    top = pool.max(drive)
    x = drive - top if power == 1.0 else (drive - top).mul_(power)
    solve = _equal if weight is None and isinstance(pool, Axis) else _weighted
    x, level, total, count = solve(x, power, weight, pool)
    density = _density(x, level, power)
    density.div_(total(density).div_(count))
    return pool.keep(density), torch.sub(top, level - _zero(power), alpha=1 / power)


Problem = tuple[Tensor, Tensor, Sum, "Tensor | float"]
"""x = p(g − max g), the level at which the mean of t is one, and the mean: a sum and what it is divided by."""


def _equal(x: Tensor, power: float, weight: Tensor | None, pool: Pool) -> Problem:
    """With equal weights along an axis, whose sums need no products."""
    size = x.shape[-1]
    count: Tensor | float = float(size)
    if not pool.full:
        there = pool.valid.sum(-1, keepdim=True).to(x.dtype)
        # Nothing is free at −n^p or below. In a group of nobody that is 0, so that all stays finite.
        x = torch.maximum(pool.keep(x, -math.inf), -(there**power))
        count = there.clamp(min=1)
    host = may_wait(x)
    if power == 1.0 and not (host and x.numel() > _FEW):
        rank = (_ranks if host else _ranks.__wrapped__)(size, x.dtype, x.device)
        falling = x.sort(-1, descending=True).values
        # Of the n free sets that hold the best k outcomes, the right one has the largest λ.
        return x, (count - falling.cumsum(-1)).div_(rank).amin(-1, keepdim=True), _along, count
    highest = torch.as_tensor(count, dtype=x.dtype, device=x.device).log().mul_(power).expm1_()
    return x, _newton(x, torch.minimum(_along(x).div_(count).neg_(), highest), power, _along, count), _along, count


@functools.lru_cache(maxsize=32)
def _ranks(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """1, …, n, kept because to make them is a tenth of the time of a small projection."""
    return torch.arange(1, size + 1, dtype=dtype, device=device)


def _along(x: Tensor) -> Tensor:
    return x.sum(-1, keepdim=True)


def _weighted(x: Tensor, power: float, weight: Tensor | None, pool: Pool) -> Problem:
    """With weights, or in ragged groups."""
    x = pool.keep(x)
    if weight is None:
        weight = pool.keep(1 / pool.count(x.dtype))
    heaviest = pool.max(pool.keep(torch.where(x == 0, weight, 0)))
    # A group of nobody is given weights, so that nothing is divided by zero.
    weight = torch.where(pool.total(weight) > 0, weight, 1)
    mean = lambda y: pool.total(weight * y)  # noqa: E731
    highest = torch.expm1(-power * heaviest.log())
    return x, _newton(x, torch.minimum(-mean(x), highest), power, mean, 1.0), mean, 1.0


def _zero(power: float) -> float:
    """The level of λ = max g, at which r = (x + level)₊ is 1 for the best outcome.

    It is 1, and 0 for the powers that are computed by a logarithm: close to KL, as p goes to 0, the digits of the drive
    would be lost in the 1.
    """
    return 1.0 if power in (1.0, 0.5) else 0.0


def _slope(x: Tensor, level: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """r^{1/p − 1} and r = (1 + x + level)₊."""
    r = x + level
    log = r.clamp(min=torch.finfo(x.dtype).eps - 1).log1p_()
    r.add_(1).relu_()
    return log.mul_(1 / power - 1).exp_().mul_(r.sign()), r


def _density(x: Tensor, level: Tensor, power: float) -> Tensor:
    """t = r^{1/p}."""
    if not _zero(power):
        slope, r = _slope(x, level, power)
        return slope.mul_(r)
    r = (x + level).relu_()
    return r if power == 1.0 else r.mul_(r)


def _moments(x: Tensor, level: Tensor, power: float, total: Sum) -> tuple[Tensor, Tensor]:
    """The sums of t and of t/r."""
    if not _zero(power):
        slope, r = _slope(x, level, power)
        return total(r.mul_(slope)), total(slope)
    r = (x + level).relu_()
    if power == 1.0:
        return total(r), total(r.sign_())
    slope = total(r)
    return total(r.mul_(r)), slope


def _newton(x: Tensor, start: Tensor, power: float, total: Sum, count: Tensor | float) -> Tensor:
    """The level at which the mean of t is one, by Newton's iteration in the norm of t.

    The start is `_zero` lower than a level that is no smaller. The host stops where no free set changes, or where no
    group moves by more than rounding; other devices always make the same number of steps.
    """
    level, last = start + _zero(power), None
    early, tolerance = may_wait(x), 4 * torch.finfo(x.dtype).eps
    for step in range(64 if early else _STEPS):
        mass, slope = _moments(x, level, power, total)
        if power == 1.0:
            level = level - (mass - count) / slope
            if early and last is not None and torch.equal(slope, last):
                break
            last = slope
        else:
            change = torch.expm1(-power * (mass / count).log()).mul_(mass).div_(slope)  # −(mass − mass^{1−p})/slope
            level = level + change
            if early and step > 1 and not bool((change.abs() > tolerance * (power + level.abs())).any()):
                break
    return level
