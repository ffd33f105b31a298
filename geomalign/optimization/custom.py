"""optimization.custom"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval
from geomalign.optimization.base import BregmanGeometry, intersection

__all__ = ["ConvexPotential", "StraightThrough"]

_FAR = 1e9
"""Beyond which a user's function is not evaluated: its square and cube must still be numbers."""


@dataclasses.dataclass(frozen=True)
class ConvexPotential(BregmanGeometry):
    """φ given as a plain function: its mirror and curvature come from autograd, its equilibrium from a root, its
    conjugate from both.

    Args:
        function: convex φ, elementwise on tensors, made of differentiable torch operations.
        low, high: the domain of φ. Coordinates outside are the user's responsibility: nothing is continued there.

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
            raise ValueError(
                f"ConvexPotential(function={self.function!r}): expected a function of a tensor, such as "
                "lambda u: u**4 / 4."
            )
        probe = torch.tensor([max(self.low, -0.5), min(self.high, 0.5)], dtype=torch.float64)
        value = self.function(probe)
        if not isinstance(value, Tensor) or value.shape != probe.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"ConvexPotential(function=…): φ of a tensor of shape (2,) gave {got}; it must act elementwise."
            )

    def value(self, u: Tensor) -> Tensor:
        return self.function(u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.func.grad(lambda x: self.function(x).sum())(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.func.grad(lambda x: self.mirror(x).sum())(u)

    def equilibrium(self, drive: Tensor) -> Tensor:
        # φ' increases: where a plain function overflows to NaN (log cosh u at u = 800) it is beyond every drive.
        def mirror(u: Tensor) -> Tensor:
            slope = self.mirror(u)
            return torch.where(slope.isnan(), torch.sign(u) * math.inf, slope)

        return numerics.solve_increasing(mirror, drive, max(self.low, -_FAR), min(self.high, _FAR))

    @property
    def domain(self) -> Interval:
        return Interval(self.low, self.high)

    @property
    def conjugate_domain(self) -> Interval:
        """The range of the mirror, told by whether it still moves a long way out."""
        ends = []
        for end, sign in ((self.low, -1.0), (self.high, 1.0)):
            probe = torch.tensor([_FAR, _FAR**0.5], dtype=torch.float64) * sign
            near, far = self.mirror(probe).flip(0).tolist()
            ends.append(near if math.isinf(end) and abs(far - near) < 1e-3 * (1 + abs(near)) else sign * math.inf)
        return Interval(ends[0], ends[1])

    def latex(self, u: str, drive: str) -> str:
        return rf"\varphi\left({u}\right)"


@dataclasses.dataclass(frozen=True)
class StraightThrough(BregmanGeometry):
    """The value of one potential with the gradient of another: φ_value in the loss, φ'_gradient in the law.

    Which divergence a KL penalty pulls by is decided by its gradient; its value is only reported. Everything but
    `value` and
    `energy` is `gradient`'s.

    Args:
        reported: the geometry that is reported, such as ReverseKL() (k3).
        gradient: the geometry that acts, such as ChiSquare() (k2).

    Source: the "k3+" option of trainers (verl `kl_penalty`), after Tang & Munos 2025 (arXiv 2506.09477).
    """

    reported: BregmanGeometry
    gradient: BregmanGeometry

    def __post_init__(self) -> None:
        for name in ("reported", "gradient"):
            if not isinstance(getattr(self, name), BregmanGeometry):
                raise ValueError(f"StraightThrough({name}=…): expected a BregmanGeometry instance such as ReverseKL().")

    def value(self, u: Tensor) -> Tensor:
        acting = self.gradient.value(u)
        return self.reported.value(u).detach() + acting - acting.detach()

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.gradient.mirror(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.gradient.curvature(u)

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
