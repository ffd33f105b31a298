"""Gradient descent in the chart: its contraction, its largest step, and the stiffness for positive probabilities."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign.divergences import Divergence
from geomalign.optimization import OptimizationGeometry


@dataclasses.dataclass(frozen=True)
class Contraction:
    """How gradient descent u ← u − η(φ'(u) − g) brings two starting points together.

    Args:
        rate: η.
        at_equilibrium: |1 − ηφ''(u*)|, the factor of the last steps; NaN where there is no finite equilibrium.
        worst: the largest |1 − ηφ''| between `low` and `high`: a bound of every step's factor there. Below 1 the steps
            contract.
        largest_rate: 2/max φ'' there, beyond which some pair of points is driven apart.
        conditioning: max φ''/min φ'' there, 1 for χ²; inf where the curvature vanishes.

    >>> Contraction(0.4, at_equilibrium=0.8, worst=0.8, largest_rate=4.0, conditioning=1.0).worst
    0.8
    """

    rate: float
    at_equilibrium: float
    worst: float
    largest_rate: float
    conditioning: float


def contraction(
    optimization: OptimizationGeometry,
    rate: float,
    *,
    drive: float = 0.0,
    low: float = -1.0,
    high: float = 1.0,
    points: int = 4097,
) -> Contraction:
    """The contraction of gradient descent on one coordinate, from the curvature between two bounds.

    For χ² it is |1 − ημ| everywhere and for every drive. For other potentials it depends on u, and through u* on the
    drive.

    Args:
        optimization: the potential; its kinks are not seen (a step across one contracts more).
        rate: η > 0.
        drive: g.
        low, high: coordinates between which the curvature is taken.
        points: how many coordinates are tried there; u* is added if it lies between them.

    Raises:
        ValueError: the rate is not positive.

    >>> import geomalign as ga
    >>> from geomalign import analysis
    >>> analysis.contraction(ga.ChiSquare(0.5), 0.4).worst
    0.8
    """
    if not rate > 0:
        raise ValueError(f"contraction(rate={rate!r}): the step size of descent must be positive, such as 0.1.")
    g = torch.tensor(drive, dtype=torch.float64)
    target = optimization.equilibrium(g)
    finite = bool(torch.isfinite(target))
    u = torch.linspace(low, high, points, dtype=torch.float64)
    if finite and low <= float(target) <= high:
        u = torch.cat([u, target[None]])
    k = optimization.curvature(u, g.expand_as(u))
    stiff, soft = float(k.max()), float(k.min())
    last = float((1 - rate * optimization.curvature(target, g)).abs()) if finite else math.nan
    return Contraction(
        rate,
        last,
        float((1 - rate * k).abs().max()),
        2 / stiff if stiff > 0 else math.inf,
        stiff / soft if soft > 0 else math.inf,
    )


def descend(
    optimization: OptimizationGeometry, start: Tensor, rate: float, steps: int, *, drive: float = 0.0
) -> Tensor:
    """The iterates of u ← u − η(φ'(u) − g): `(steps + 1, …)`, the first of which is `start`.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> analysis.descend(ga.ChiSquare(1.0), torch.tensor(4.0), 0.5, 3)
    tensor([4.0000, 2.0000, 1.0000, 0.5000])
    """
    g = torch.full_like(start, drive)
    path = [start]
    for _ in range(steps):
        path.append(path[-1] - rate * optimization.force(path[-1], g))
    return torch.stack(path)


def positivity(drive: Tensor, divergence: Divergence, *, log_prior: Tensor | None = None) -> Tensor:
    """The smallest stiffness μ whose unconstrained target policy is nowhere zero: above it t* > 0 everywhere.

    It solves E_{π_k}[(ψ*)'(ψ'(0) + (g − min g)/μ)] = 1: at the threshold the worst outcome has t* = 0, which fixes the
    multiplier. For Pearson's χ² it is E g − min g. Where ψ'(0) = −∞ (both KLs, all orders α ≤ 1) it is 0, since no
    stiffness is too small.

    Args:
        drive: g, `(..., support)`.
        divergence: strictly convex.
        log_prior: log π_k, in the shape of the drive, −inf for an impossible outcome; None: uniform.

    Returns:
        `(...,)`, 0 for a constant drive.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> round(float(analysis.positivity(torch.tensor([2.0, 1.0, -3.0]), ga.PearsonChiSquare())), 4)
    3.0
    """
    log_weight = torch.log_softmax(torch.zeros_like(drive) if log_prior is None else log_prior, -1)
    weight = log_weight.exp()
    possible = weight > 0
    lowest = torch.where(possible, drive, math.inf).amin(-1, keepdim=True)
    above = torch.where(possible, drive - lowest, 0)
    floor = divergence.mirror_range.low
    if math.isinf(floor):
        return torch.zeros_like(lowest[..., 0])

    def mass(softness: Tensor) -> Tensor:
        t = divergence.inverse_mirror(floor + above * softness[..., None])
        return torch.where(possible, weight * t, 0).sum(-1)

    constant = above.amax(-1) == 0
    softness = numerics.solve_increasing(mass, torch.ones_like(lowest[..., 0]), 0.0, math.inf)
    return torch.where(constant, 0, 1 / softness)
