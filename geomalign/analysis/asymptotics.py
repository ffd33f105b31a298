"""The order of growth or decay of a function towards ±∞, computed from its values alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from geomalign._util import numerics

_NEGLIGIBLE, _UNSETTLED = 1e-6, 0.1


@dataclasses.dataclass(frozen=True)
class Tail:
    """f(x) ~ coefficient · e^{rate·|x|} · |x|^power as |x| → ∞ on one side.

    Args:
        rate: exponential order in |x|: negative where f decays, positive where it grows, 0 where neither.
        power: algebraic order.
        coefficient: of the leading term, with its sign.
        onset: where f becomes exactly zero (clipped) and stays so; None where it does not.
        uncertainty: difference of the orders between the last two fits, a bound in practice of the error of `rate` and
            `power`.

    >>> import torch
    >>> asymptote(lambda x: torch.sigmoid(-2.0 * x), 1).kind
    'decays exponentially'
    """

    rate: float
    power: float
    coefficient: float
    onset: float | None = None
    uncertainty: float = 0.0

    @property
    def kind(self) -> str:
        """The behaviour in words."""
        if self.onset is not None:
            return "zero"
        if math.isnan(self.rate):
            return "undetermined"
        order = self.rate or self.power
        manner = "faster than exponentially" if math.isinf(order) else "exponentially" if self.rate else "as a power"
        return f"{'decays' if order < 0 else 'grows'} {manner}" if order else "constant"

    @property
    def saturates(self) -> bool:
        """Whether f vanishes towards this end."""
        return self.onset is not None or self.rate < 0 or (self.rate == 0 and self.power < 0)

    def __str__(self) -> str:
        if self.onset is not None:
            everywhere = self.coefficient == 0 and self.onset == 0
            return "identically zero" if everywhere else f"exactly zero beyond {self.onset:.6g}"
        if not math.isfinite(self.rate):
            return self.kind
        short, digits = (".4g", ".6g") if self.uncertainty < 1e-3 else (".2g", ".2g")
        rate = {1.0: "", -1.0: "-"}.get(self.rate, f"{self.rate:{digits}}")
        exponential = f" e^{{{rate}|x|}}" if self.rate else ""
        power = f" |x|^{self.power:{digits}}" if self.power else ""
        return f"{'~' if self.uncertainty < 1e-3 else '≈'} {self.coefficient:{short}}{exponential}{power}"


def asymptote(function: Callable[[Tensor], Tensor], side: int, *, scale: float | None = None) -> Tail:
    """The leading behaviour of an elementwise function at +∞ (`side` = 1) or −∞ (`side` = −1).

    log|f| = c + rate·|x| + power·log|x| + d/|x| is solved through the points |x|, |x|/2, |x|/4, |x|/8 up to |x| = 10⁶;
    the fit is kept whose change from those before it, divided by x², is least: underflow and rounding spoil the fits at
    large |x|, lower orders those at small |x|. No sample is drawn and nothing is differentiated.
    What has no such order is reported as undetermined; a logarithm reads as a small power.

    Args:
        function: `(points,)` → `(points,)` in float64.
        side: 1 or −1.
        scale: size of f near the origin, below a 10⁻¹⁰th of which it cannot be told from rounding; measured if None.

    >>> import torch
    >>> print(asymptote(lambda x: 3 * x**2 * torch.exp(-x), 1), "and", asymptote(lambda x: torch.relu(1 - x), 1))
    ~ 3 e^{-|x|} |x|^2 and exactly zero beyond 1
    """
    x = 2.0 ** torch.arange(0.0, 20.25, 0.25, dtype=torch.float64)
    f = function(side * x)
    size = float(function(torch.linspace(-1, 1, 33, dtype=torch.float64)).abs().amax()) if scale is None else scale
    overflow = (~torch.isfinite(f)).nonzero()
    if len(overflow):
        x, f = x[: int(overflow[0])], f[: int(overflow[0])]
    if len(x) < 12:
        return Tail(math.nan, math.nan, math.nan)
    nonzero = f != 0
    last = int(nonzero.nonzero()[-1]) if bool(nonzero.any()) else -1
    if last + 1 < len(f):
        low, half = x[last] if last >= 0 else 0.0, x.new_tensor([0.5])
        at = numerics.solve_increasing(lambda y: (function(side * y) == 0).double(), half, low, x[last + 1])
        onset = side * float(at) if float(at) > 1e-300 else 0.0
        before = function(torch.tensor([side * (abs(onset) - 0.01)], dtype=torch.float64)).abs()
        if last < 0 or float(before) > 1e-6 * size:
            return Tail(0.0, 0.0, float(f[last]) if last >= 0 else 0.0, onset=onset)
    usable = nonzero & (f.abs() > 1e-290) & (f.abs() < 1e290)
    # Nearer than 256 is enough for most, and keeps out the linear continuation of saturating exponentials.
    near = _fit(x[:33], f[:33], usable[:33])
    return near if near.uncertainty < 1e-3 or math.isinf(near.rate) else _fit(x, f, usable)


def _fit(x: Tensor, f: Tensor, usable: Tensor) -> Tail:
    log = torch.where(usable, f.abs(), 1.0).log()
    found = _settled(x, log, usable, (0, 1, 2, 3))
    if found is None or found[2] > _UNSETTLED:  # rounding leaves too short a stretch: without the next order
        found = _settled(x, log, usable, (0, 1, 2))
    if found is not None and abs(found[1][1]) < max(1e-3, 100 * found[2]):
        found = _settled(x, log, usable, (0, 2, 3))
    if found is not None and found[2] <= _UNSETTLED:
        at, (constant, rate, power, _), error = found
        rate, power = _rounded(rate / at, error / at), _rounded(power, error)
        size = math.exp(min(constant - power * math.log(at), 700.0))
        return Tail(rate, power, math.copysign(size, float(f[x == at][0])), uncertainty=error)
    # Rates that keep growing are infinite; anything else is not settled.
    slope = ((log[4:] - log[:-4]) / (x[4:] - x[:-4]))[usable[4:] & usable[:-4]][-6:]
    grows = len(slope) == 6 and bool((slope[1:] / slope[:-1] > 1.05).all())
    rate = math.copysign(math.inf, float(slope[-1])) if grows else math.nan
    return Tail(rate, 0.0 if grows else math.nan, math.nan, uncertainty=math.inf if found is None else found[2])


def _settled(x: Tensor, log: Tensor, usable: Tensor, columns: Sequence[int]) -> tuple[float, list[float], float] | None:
    """The most settled fit of log|f|: its distance X, its coefficients, and its change from the fits before it.

    Every fit takes the points s = |x|/X = …, 1/4, 1/2, 1 and `columns` of the functions 1, s, log s and 1/s. The most
    settled one has the least change from its two predecessors, divided by X².
    """
    count = len(columns)
    windows, s = len(log) - 4 * (count - 1), 2.0 ** torch.arange(1 - count, 1, dtype=torch.float64)
    basis = torch.stack([torch.ones_like(s), s, s.log(), 1 / s], -1)[:, columns]
    points, good = (torch.stack([each[4 * k : 4 * k + windows] for k in range(count)], -1) for each in (log, usable))
    fits, good, reach = log.new_zeros(windows, 4), good.all(-1), x[4 * (count - 1) :]
    fits[:, columns] = points @ torch.linalg.inv(basis).T
    step = (fits[:, 1] / reach).diff().abs() * reach[1:] + fits[:, 2].diff().abs()
    change = torch.where(good[2:] & good[1:-1] & good[:-2], torch.maximum(step[1:], step[:-1]), math.inf)
    if not bool(torch.isfinite(change).any()):
        return None
    best = int(((change + 1e-13) / reach[2:] ** 2).argmin())
    return float(reach[best + 2]), fits[best + 2].tolist(), float(change[best])


def _rounded(value: float, error: float) -> float:
    """The number with the fewest decimals that the error cannot tell from the value; 0 for what is below 1e-6."""
    if abs(value) < _NEGLIGIBLE:
        return 0.0
    shorter = (round(value, digits) for digits in range(7))
    return next((short for short in shorter if abs(short - value) <= min(max(10 * error, 1e-9), 0.05)), value)
