"""Target policies of groups: the bounded projection against GOPO's bisection, α-entmax against its package."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import geomalign as ga
from tests.bench.measure import Case, Methods

MU = 0.5
SHAPES = ((64, 8), (1024, 16), (4096, 64))
"""Groups and their size."""


def cases(preset: str) -> list[Case]:
    if preset == "quick":
        shapes: Any = ((8, 4),)
        sizes: Any = (4, 8)
        seconds, outcomes = 0.05, 32
    else:
        shapes, sizes, outcomes = SHAPES, (4, 8, 16, 32, 64, 128, 256, 1024), 16384
        seconds = 1.0 if preset == "short" else 4.0
    found = []
    for groups, size in shapes:
        where = {"groups": groups, "size": size}
        many: Any = {"seconds": seconds, "rounds": (5, 61), "per": groups * size}
        found += [
            Case("bounded projection", where, projection, agree=1e-3, both=(groups, size) == shapes[-1], **many),
            Case("bounded projection and its gradient", where, derivative, agree=1e-2, **many),
            Case("entmax 1.5", where, partial(entmax, 1.5), agree=1e-3, **many),
            Case("entmax 1.3", where, partial(entmax, 1.3), agree=1e-3, **many),
        ]
    for size in sizes:
        where = {"groups": max(outcomes // size, 1), "size": size}
        few: Any = {"seconds": seconds / 3, "rounds": (5, 31), "per": outcomes}
        found += [
            Case("bounded projection in group size", where, projection, **few),
            Case("entmax 1.5 in group size", where, partial(entmax, 1.5), **few),
        ]
    for groups, size in shapes[-1:]:
        found.append(
            Case("sum of the projection", {"groups": groups, "size": size}, sums, 0.0, (1, 1), agree=float("inf"))
        )
    return found


def bisection(drive: Tensor, mu: float = MU, steps: int = 40) -> Tensor:
    """λ by 40 halvings of an interval that contains it, as GOPO (arXiv 2602.21269) finds it."""
    low = drive.amin(-1, keepdim=True) - mu * drive.shape[-1]
    high = drive.amax(-1, keepdim=True) + mu
    for _ in range(steps):
        level = (low + high) / 2
        above = ((drive - level) / mu).clamp(min=-1).sum(-1, keepdim=True) > 0
        low, high = torch.where(above, level, low), torch.where(above, high, level)
    return ((drive - (low + high) / 2) / mu).clamp(min=-1)


def projection(groups: int, size: int) -> Methods:
    drive = _drives(groups, size)
    return {"geomalign": lambda: (ga.ops.project_bounded(drive, MU),), "bisection": lambda: (bisection(drive),)}


def derivative(groups: int, size: int) -> Methods:
    """The derivative along one direction; the bisection's is that of its last step, where λ is a constant."""
    drive, pull = _drives(groups, size), _drives(groups, size, seed=1)

    def call(project: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        leaf = drive.clone().requires_grad_()
        return torch.autograd.grad(project(leaf), leaf, pull)

    return {"geomalign": partial(call, lambda x: ga.ops.project_bounded(x, MU)), "bisection": partial(call, _implicit)}


def _implicit(drive: Tensor) -> Tensor:
    """The bisection without a graph, and one Newton step on λ with one: what makes its derivative right."""
    with torch.no_grad():
        free = bisection(drive) > -1
    level = (torch.where(free, drive, 0).sum(-1, keepdim=True) - MU * (~free).sum(-1, keepdim=True)) / free.sum(
        -1, keepdim=True
    )
    return ((drive - level) / MU).clamp(min=-1)


def entmax(alpha: float, groups: int, size: int) -> Methods:
    import entmax as peer

    scores = _drives(groups, size)
    found: dict[str, Callable[[], tuple[Tensor, ...]]] = {
        "geomalign": lambda: (ga.ops.entmax(scores, alpha),),
        "entmax_bisect": lambda: (peer.entmax_bisect(scores, alpha),),
    }
    if alpha == 1.5:
        found["entmax15"] = lambda: (peer.entmax15(scores, -1),)
    return found


def sums(groups: int, size: int) -> Methods:
    """|Σ v| of the worst group above 1, so that the difference from the first method, which is 1, is |Σ v|."""
    drive = _drives(groups, size)

    def worst(v: Tensor) -> tuple[Tensor, ...]:
        return (1 + v.double().sum(-1).abs().max(),)

    return {
        "zero": lambda: (torch.ones((), dtype=torch.float64),),
        "geomalign, float32": lambda: worst(ga.ops.project_bounded(drive, MU)),
        "geomalign, float64": lambda: worst(ga.ops.project_bounded(drive.double(), MU)),
        "bisection, float32": lambda: worst(bisection(drive)),
    }


def _drives(groups: int, size: int, seed: int = 0) -> Tensor:
    drives = torch.randn(groups, size, generator=torch.Generator().manual_seed(seed), device="cpu")
    return drives.to(torch.get_default_device())
