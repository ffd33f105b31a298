"""The root and the limits of the mirror of a convex potential, from its values alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval

_FAR = 1e9
"""Up to here u⁴ is a number in float32 too; farther out a mirror is evaluated only where the root must lie there."""


def root(mirror: Callable[[Tensor], Tensor], target: Tensor, domain: Interval, drives: Interval) -> Tensor:
    """The coordinate of the domain at which an increasing mirror reaches the target, elementwise and without gradient.

    Args:
        mirror: the increasing function.
        target: within its range.
        domain: where the mirror is defined.
        drives: its range, infinite on the sides where the mirror is not bounded.

    >>> import torch, geomalign as ga
    >>> root(lambda u: u**3, torch.tensor([8.0]), ga.Interval(), ga.Interval())
    tensor([2.])
    """

    def slope(u: Tensor) -> Tensor:
        found = mirror(u)
        # A formula that overflows to NaN (log cosh u at u = 800) does so beyond every drive.
        return torch.where(found.isnan(), torch.sign(u) * math.inf, found)

    with torch.no_grad():
        low, high = (torch.full_like(target, end) for end in (max(domain.low, -_FAR), min(domain.high, _FAR)))
        # Only a mirror that grows as slowly as a logarithm reaches its target farther out. A bounded one is not
        # evaluated there: u/√(1 + u²) falls back to 0 where u² overflows.
        if domain.low < -_FAR and math.isinf(drives.low):
            low = torch.where(slope(low) > target, domain.low, low)
        if domain.high > _FAR and math.isinf(drives.high):
            high = torch.where(slope(high) < target, domain.high, high)
    return numerics.solve_increasing(slope, target, low, high)


def limit(mirror: Callable[[Tensor], Tensor], domain: Interval, sign: float) -> float:
    """What a mirror tends to for u → sign·∞, wider by its rounding error; ±inf where the mirror does not settle, or
    where the domain ends.

    It settles where the last decade in which it is a finite number, up to |u| = 1e9, adds a thousandth to it at most:
    the slowest growth in use, the logarithm's, adds a tenth.

    >>> limit(torch.tanh, Interval(), 1.0), limit(torch.asinh, Interval(), 1.0)
    (1.0000000000000009, inf)
    """
    if math.isfinite(domain.high if sign > 0 else domain.low):
        return sign * math.inf
    decades = torch.tensor([0.0, *(10.0**k for k in range(10))], dtype=torch.float64)
    slopes = mirror(domain.clamp(torch.zeros_like(decades)) + sign * decades).tolist()
    # A formula may overflow farther out (log cosh u at u = 800); only the numbers before that count.
    finite = list(itertools.takewhile(math.isfinite, itertools.dropwhile(lambda x: not math.isfinite(x), slopes)))
    if len(finite) < 3 or abs(finite[-1] - finite[-2]) > 1e-3 * abs(finite[-2] - finite[0]):
        return sign * math.inf
    rounding = 0.0 if finite[-1] == finite[0] else 4 * torch.finfo(torch.float64).eps * abs(finite[-1])
    return finite[-1] + sign * rounding
