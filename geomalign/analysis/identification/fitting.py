"""Least squares in amplitudes and a few parameters, and the shortest numbers that a fit allows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from scipy import optimize
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Match:
    """A member of the library for a sampled function, to the stated residual.

    Args:
        member: a chart with u' = scale·slope(Δ), or a potential with φ' = scale·(mirror(scale·u − shift) + offset).
        residual: largest relative error over the samples.
        scale: of a chart it belongs to the drive, of a potential to the chart.
        offset: constant force beside it: the drive with the opposite sign where that was not separated.
        shift: displacement of the coordinate (SimPO's margin).

    >>> import geomalign as ga
    >>> Match(ga.Ratio(), scale=2.0).member
    Ratio()
    """

    member: Any
    residual: float = math.nan
    scale: float = 1.0
    offset: float = 0.0
    shift: float = 0.0


def first(candidates: Iterable[Match], error: Callable[[Match], float], tolerance: float) -> Match | None:
    """The first candidate whose error over all samples, hundreds for a few parameters, is within the tolerance.

    >>> first([Match(1.0), Match(2.0)], lambda match: abs(match.member - 1.9), 0.2).member
    2.0
    """
    for candidate in candidates:
        residual = error(candidate)
        if residual <= tolerance:
            return dataclasses.replace(candidate, residual=residual)
    return None


def tidy(value: float, relative: float, *, beside: float = 0.0) -> float:
    """The number with the fewest digits within a relative distance; 0 where it is nothing beside another size.

    >>> tidy(0.70000000001, 1e-8), tidy(1e-12, 1e-8, beside=1.0)
    (0.7, 0.0)
    """
    if abs(value) <= relative * beside:
        return 0.0
    shorter = (float(f"{value:.{digits}g}") for digits in range(1, 16))
    return next((short for short in shorter if abs(short - value) <= relative * abs(value)), value)


def exp(x: float) -> float:
    """e^x within the range of floats: parameters are searched by their logarithm.

    >>> exp(1e3) < math.inf
    True
    """
    return math.exp(min(max(x, -700.0), 700.0))


def some(x: Tensor) -> Tensor:
    """Places of at most 240 of the samples, evenly spread.

    >>> len(some(torch.zeros(1000)))
    240
    """
    return torch.linspace(0, len(x) - 1, min(len(x), 240)).long().unique()


def amplitudes(columns: Sequence[Tensor], target: Tensor, weight: Tensor) -> list[float]:
    """The c of least Σ weight²(Σ_k c_k·column_k − target)².

    >>> x = torch.linspace(0.0, 1.0, 9)
    >>> [round(c, 5) for c in amplitudes([x, x**2], 3 * x - x**2, torch.ones(9))]
    [3.0, -1.0]
    """
    matrix = torch.stack(tuple(columns), -1) * weight[:, None]
    size = matrix.norm(dim=0).clamp(min=1e-300)
    solved: list[float] = (torch.linalg.lstsq(matrix / size, (target * weight)[:, None]).solution[:, 0] / size).tolist()
    return solved


def solve(residual: Callable[..., Tensor], starts: Iterable[Sequence[float]]) -> tuple[float, list[float]]:
    """Mean square and place of the least residual(*p) that Levenberg–Marquardt reaches from any of the starts.

    >>> mean_square, [root] = solve(lambda p: torch.tensor([p**2 - 4.0]), [[1.0]])
    >>> round(root, 6)
    2.0
    """
    best = (math.inf, [math.nan])

    def finite(p: Any) -> Any:
        return residual(*p.tolist()).nan_to_num(1e10, 1e10, -1e10).numpy()

    for start in starts:
        found = optimize.least_squares(finite, start, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)
        best = min(best, (2 * float(found.cost) / len(found.fun), found.x.tolist()))
        if best[0] < 1e-22:
            break
    return best


def separable(
    columns: Callable[..., Sequence[Tensor]], x: Tensor, target: Tensor, weight: Tensor, *starts: Sequence[float]
) -> tuple[list[float], list[float]]:
    """(p, c) of target ≈ Σ_k c_k·column_k(x, *p), c by linear least squares at every p (variable projection).

    >>> x = torch.linspace(0.0, 1.0, 50, dtype=torch.float64)
    >>> (rate,), (factor,) = separable(lambda x, k: [(k * x).exp()], x, 2 * (3 * x).exp(), torch.ones_like(x), (1.0,))
    >>> round(rate, 9), round(factor, 9)
    (3.0, 2.0)
    """
    few = some(x)
    aim = target[few] * weight[few]

    def rest(*p: float) -> Tensor:
        basis = torch.stack(tuple(columns(x[few], *p)), -1) * weight[few, None]
        orthogonal = torch.linalg.qr((basis / basis.norm(dim=0).clamp(min=1e-300)).nan_to_num()).Q
        return aim - orthogonal @ (orthogonal.T @ aim)

    _, p = solve(rest, starts)
    return p, amplitudes(columns(x, *p), target, weight)
