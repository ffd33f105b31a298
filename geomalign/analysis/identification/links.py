"""Names for forces of a margin that are no convex potential of it: potentials of the preference probability, and a
blend of two links."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from geomalign.analysis.identification.recognise import least_squares, levenberg_marquardt, tidy
from geomalign.optimization import ChiSquare, Flat, LogRatioModulated, NegativeEntropy, OptimizationGeometry


@dataclasses.dataclass(frozen=True)
class LinkMatch:
    """h'(m) = (φ'(p) − g)·dp/dm with p = σ(beta·m); without a beta, φ'(m) − g.

    Args:
        beta: of the preference probability, or None.
        optimization: φ.
        drive: g.
        residual: largest error relative to |h'| + size, size the largest |h'| near m = 0.
    """

    beta: float | None
    optimization: OptimizationGeometry
    drive: float
    residual: float


def link(margin: Tensor, force: Tensor, tolerance: float) -> LinkMatch | None:
    """The first of Flat, ChiSquare and Entropy in a preference probability, then Blend, whose force is that sampled.

    Args:
        margin: `(samples,)`, increasing.
        force: `(samples,)`, h' there.
        tolerance: largest residual accepted.
    """
    size = force[margin.abs() <= 1.0].abs().max()
    if not float(size) > 0:
        return None
    weight = 1 / (force.abs() + 1e-3 * size)
    for beta, optimization, drive in (*_preferences(margin, force, weight, tolerance), *_blends(margin, force, weight)):
        predicted = _predict(beta, optimization, drive, margin)
        residual = float(((predicted - force).abs() / (force.abs() + size)).max())
        if residual <= tolerance:
            return LinkMatch(beta, optimization, drive, residual)
    return None


def _predict(beta: float | None, optimization: OptimizationGeometry, drive: float, margin: Tensor) -> Tensor:
    if beta is None:
        return optimization.force(margin, torch.full_like(margin, drive))
    p = torch.sigmoid(beta * margin)
    return optimization.force(p, torch.full_like(p, drive)) * beta * p * torch.sigmoid(-beta * margin)


def _few(x: Tensor) -> Tensor:
    return torch.linspace(0, len(x) - 1, min(len(x), 240)).long().unique()


def _preferences(
    m: Tensor, f: Tensor, weight: Tensor, tolerance: float
) -> Iterator[tuple[float, OptimizationGeometry, float]]:
    """f/(β p p̄) = φ'(p) − g is constant (Flat), affine in p (ChiSquare) or in βm (Entropy): β by least squares."""
    keep = _few(m)
    few, target, by = m[keep], f[keep], weight[keep]
    shapes: tuple[tuple[Callable[[Tensor], Tensor] | None, Callable[[float], OptimizationGeometry]], ...] = (
        (None, lambda _: Flat()),
        (torch.sigmoid, ChiSquare),
        (lambda z: z, lambda factor: NegativeEntropy() if factor == 1 else factor * NegativeEntropy()),
    )
    for shape, member in shapes:

        def columns(beta: Tensor | float, x: Tensor, shape: Callable[[Tensor], Tensor] | None = shape) -> list[Tensor]:
            z = beta * x
            one = beta * torch.sigmoid(z) * torch.sigmoid(-z)
            return [one] if shape is None else [one, shape(z) * one]

        def rest(p: Tensor, columns: Callable[[Tensor | float, Tensor], list[Tensor]] = columns) -> Tensor:
            basis = torch.stack(columns(p[0].exp(), few), -1) * by[:, None]
            orthogonal = torch.linalg.qr(basis / basis.norm(dim=0).clamp(min=1e-300)).Q
            weighted = target * by
            return weighted - orthogonal @ (orthogonal.T @ weighted)

        found = [levenberg_marquardt(rest, torch.tensor([start], dtype=m.dtype)) for start in (-2.3, -3.5, -1.0, 0.5)]
        beta = tidy(math.exp(float(min(found, key=lambda each: each[0])[1][0])), tolerance)
        amplitudes = least_squares(columns(beta, m), f, weight).tolist()
        factor = tidy(amplitudes[1], tolerance) if len(amplitudes) > 1 else 1.0
        if factor > 0:
            yield beta, member(factor), 0.0 if amplitudes[0] == 0 else tidy(-amplitudes[0], tolerance)


def _blends(m: Tensor, f: Tensor, weight: Tensor) -> Iterator[tuple[None, OptimizationGeometry, float]]:
    """LogRatioModulated(β, τ) under no drive: the best of a grid, then Levenberg–Marquardt in (log β, log τ)."""
    keep = _few(m)
    few, target, by = m[keep], f[keep], weight[keep]

    def rest(p: Tensor) -> Tensor:
        beta, tau = (float(x.exp().clamp(1e-4, 1e4)) for x in p)
        return (LogRatioModulated(beta, tau).force(few, torch.zeros_like(few)) - target) * by

    grid = torch.cartesian_prod(torch.linspace(-5.0, 1.0, 25), torch.linspace(-5.0, 1.0, 25)).to(m.dtype)
    starts = sorted(grid, key=lambda p: float(rest(p).square().sum()))[:4]
    cost, best = min((levenberg_marquardt(rest, start) for start in starts), key=lambda each: each[0])
    if cost < 1e-6 * len(keep):
        beta, tau = (tidy(float(x.exp()), 1e-9) for x in best)
        yield None, LogRatioModulated(beta, tau), 0.0
