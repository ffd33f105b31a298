"""Potentials from what the user gives: a plain function, or one geometry's value with another's gradient."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomalign._util import check
from geomalign._util.types import Interval
from geomalign.optimization.algebra import intersection
from geomalign.optimization.base import BregmanGeometry

__all__ = ["ConvexPotential", "StraightThrough"]


@dataclasses.dataclass(frozen=True, repr=False)
class ConvexPotential(BregmanGeometry):
    """φ given as a plain function: its mirror and curvature come from autograd, its conjugate and equilibrium as those
    of any `BregmanGeometry`.

    Args:
        function: convex φ, elementwise on tensors, made of differentiable torch operations. Write it so that no
            intermediate number overflows (`u.abs() + softplus(-2 * u.abs())`, not `log(cosh(u))`). For rewards choose
            φ'(0) = 0, by subtracting the tangent at 0: otherwise a response without drive is pushed from the anchor.
        low, high: the domain of φ. Outside it the function is evaluated as it is, without a tangent line.

    >>> import torch, geomalign as ga
    >>> quartic = ga.ConvexPotential(lambda u: u**4 / 4)
    >>> quartic.mirror(torch.tensor(2.0)), quartic.equilibrium(torch.tensor(8.0))
    (tensor(8.), tensor(2.))
    """

    function: Callable[[Tensor], Tensor]
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not callable(self.function):
            why = "expected a function of a tensor, such as lambda u: u**4 / 4."
            check.refuse(self, why, function=self.function)
        check.number(self, "an end of the domain", low=self.low, high=self.high)
        probe = torch.tensor([max(self.low, -0.5), min(self.high, 0.5)], dtype=torch.float64)
        value = self.function(probe)
        if not isinstance(value, Tensor) or value.shape != probe.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            check.refuse(
                self, f"φ of a tensor of shape (2,) gave {got}; it must act elementwise.", function=self.function
            )

    def __repr__(self) -> str:
        named: Any = self.function if hasattr(self.function, "__qualname__") else type(self.function)
        ends = "".join(
            f", {field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)[1:]
            if getattr(self, field.name) != field.default
        )
        return f"{type(self).__name__}({named.__module__}.{named.__qualname__}{ends})"

    def value(self, u: Tensor) -> Tensor:
        return self.function(u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.func.grad(lambda x: self.function(x).sum())(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.func.grad(lambda x: self.mirror(x).sum())(u)

    @property
    def domain(self) -> Interval:
        return Interval(self.low, self.high)

    def latex(self, u: str, drive: str) -> str:
        return rf"\varphi\left({u}\right)"


@dataclasses.dataclass(frozen=True)
class StraightThrough(BregmanGeometry):
    """Straight-through: the loss reports φ_reported and is differentiated as φ_gradient.

    The gradient of a KL penalty decides which divergence it penalises; its value is only reported. Everything but
    `value` and `energy` is that of `gradient`, the gap too: with the reported value it could be negative.

    Args:
        reported: the geometry that is reported, such as ReverseKL() (k3).
        gradient: the geometry that is differentiated, such as ChiSquare() (k2).

    >>> import torch, geomalign as ga
    >>> penalty = ga.StraightThrough(ga.ReverseKL(), ga.ChiSquare())
    >>> penalty.value(torch.tensor([1.0])), penalty.mirror(torch.tensor([1.0]))
    (tensor([0.3679]), tensor([1.]))

    Source: the "k3+" option of trainers (verl `kl_penalty`), after Tang & Munos 2025 (arXiv 2506.09477).
    """

    reported: BregmanGeometry
    gradient: BregmanGeometry

    def __post_init__(self) -> None:
        for name in ("reported", "gradient"):
            check.instance(self, name, getattr(self, name), BregmanGeometry, "ReverseKL()")

    def value(self, u: Tensor) -> Tensor:
        acting = self.gradient.value(u)
        return self.reported.value(u).detach() + acting - acting.detach()

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.gradient.mirror(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.gradient.curvature(u)

    def gap(self, u: Tensor, drive: Tensor) -> Tensor:
        return self.gradient.gap(u, drive)

    def conjugate(self, drive: Tensor) -> Tensor:
        return self.gradient.conjugate(drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return self.gradient.equilibrium(drive)

    @property
    def domain(self) -> Interval:
        return intersection((self.reported, self.gradient))

    @property
    def conjugate_domain(self) -> Interval:
        return self.gradient.conjugate_domain

    def latex(self, u: str, drive: str) -> str:
        return rf"{self.reported.latex(u, drive)}\ \left[\nabla: {self.gradient.latex(u, drive)}\right]"
