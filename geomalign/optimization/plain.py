"""Nothing that resists, a constant push, and the user's own function."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.numerics import Interval
from geomalign.optimization.geometry import BregmanGeometry, positive, within


@dataclasses.dataclass(frozen=True)
class Flat(BregmanGeometry):
    """φ(u) = 0: nothing resists. REINFORCE. Any non-zero drive pushes for ever: φ*(0) = 0, inf elsewhere."""

    constant_force = True

    def value(self, u: Tensor) -> Tensor:
        return torch.zeros_like(u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return -drive * u

    def conjugate(self, drive: Tensor) -> Tensor:
        return within(self.drives, drive, torch.zeros_like(drive))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, torch.zeros_like(drive), torch.sign(drive) * math.inf)

    @property
    def drives(self) -> Interval:
        return Interval(0.0, 0.0)

    def latex(self, u: str, drive: str) -> str:
        return "0"


@dataclasses.dataclass(frozen=True)
class Linear(BregmanGeometry):
    """φ(u) = slope·u: a constant push back, the "k1" leash. Its value estimates a divergence; its force knows nothing
    of u.

    φ*(g) = 0 at g = slope, inf elsewhere.

    Args:
        slope: positive.
    """

    slope: float = 1.0
    constant_force = True

    def __post_init__(self) -> None:
        positive(self, "slope")

    def value(self, u: Tensor) -> Tensor:
        return self.slope * u

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.full_like(u, self.slope)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return within(self.drives, drive, torch.zeros_like(drive))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == self.slope, torch.zeros_like(drive), torch.sign(drive - self.slope) * math.inf)

    @property
    def drives(self) -> Interval:
        return Interval(self.slope, self.slope)

    def latex(self, u: str, drive: str) -> str:
        return u if self.slope == 1 else rf"{self.slope:g}\,{u}"


_FAR = 1e9
"""Beyond which a user's function is not evaluated: its square and cube must still be numbers."""


@dataclasses.dataclass(frozen=True)
class Generator(BregmanGeometry):
    """φ given as a plain function: its mirror and curvature come from autograd, its equilibrium from a root, its
    conjugate from both.

    Args:
        function: convex φ, elementwise on tensors, made of differentiable torch operations.
        low, high: the domain of φ. Coordinates outside are the user's responsibility: nothing is continued there.

    >>> import torch, geomalign as ga
    >>> quartic = ga.Generator(lambda u: u**4 / 4)
    >>> quartic.mirror(torch.tensor(2.0)), quartic.equilibrium(torch.tensor(8.0))
    (tensor(8.), tensor(2.))
    """

    function: Callable[[Tensor], Tensor]
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(
                f"Generator(function={self.function!r}): expected a function of a tensor, such as lambda u: u**4 / 4."
            )
        probe = torch.tensor([max(self.low, -0.5), min(self.high, 0.5)], dtype=torch.float64)
        value = self.function(probe)
        if not isinstance(value, Tensor) or value.shape != probe.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"Generator(function=…): φ of a tensor of shape (2,) gave {got}; it must act elementwise.")

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
    def drives(self) -> Interval:
        """The range of the mirror, told by whether it still moves a long way out."""
        ends = []
        for end, sign in ((self.low, -1.0), (self.high, 1.0)):
            probe = torch.tensor([_FAR, _FAR**0.5], dtype=torch.float64) * sign
            near, far = self.mirror(probe).flip(0).tolist()
            ends.append(near if math.isinf(end) and abs(far - near) < 1e-3 * (1 + abs(near)) else sign * math.inf)
        return Interval(ends[0], ends[1])

    def latex(self, u: str, drive: str) -> str:
        return rf"\varphi\left({u}\right)"
