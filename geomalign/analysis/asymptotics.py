"""How a function behaves far out: the orders of growth or decay, computed from values alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

_NEGLIGIBLE = 1e-6
_UNSETTLED = 0.1


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
        """In words."""
        if self.onset is not None:
            return "zero"
        if math.isnan(self.rate):
            return "undetermined"
        if math.isinf(self.rate):
            return "decays faster than exponentially" if self.rate < 0 else "grows faster than exponentially"
        if self.rate:
            return "decays exponentially" if self.rate < 0 else "grows exponentially"
        if self.power:
            return "decays as a power" if self.power < 0 else "grows as a power"
        return "constant"

    @property
    def saturates(self) -> bool:
        """Whether f vanishes there."""
        return self.onset is not None or self.rate < 0 or (self.rate == 0 and self.power < 0)

    def __str__(self) -> str:
        if self.onset is not None:
            return (
                "identically zero"
                if self.coefficient == 0 and self.onset == 0
                else f"exactly zero beyond {self.onset:.6g}"
            )
        if not math.isfinite(self.rate):
            return self.kind
        settled = self.uncertainty < 1e-3
        terms = [f"{self.coefficient:{'.4g' if settled else '.2g'}}"]
        if self.rate:
            rate = f"{self.rate:{'.6g' if settled else '.2g'}}"
            terms.append("e^{" + {"1": "", "-1": "-"}.get(rate, rate) + "|x|}")
        if self.power:
            terms.append(f"|x|^{self.power:{'.6g' if settled else '.2g'}}")
        return ("~ " if settled else "≈ ") + " ".join(terms)


def asymptote(function: Callable[[Tensor], Tensor], side: int, *, scale: float | None = None) -> Tail:
    """The leading behaviour of an elementwise function at +∞ (`side` = 1) or −∞ (`side` = −1).

    log|f| = c + rate·|x| + power·log|x| + d/|x| is solved through the points |x|, |x|/2, |x|/4, |x|/8 up to |x| = 10⁶;
    of the fits the one that differs least from those before it, for the square of its distance, is kept: underflow and
    rounding at large |x|, and lower orders at small |x|, both lose. No sample is drawn and nothing is differentiated.
    What has no such law is reported as undetermined; a logarithm reads as a small power.

    Args:
        function: `(points,)` → `(points,)` in float64.
        side: 1 or −1.
        scale: size of f near the origin, below a 10⁻¹⁰th of which it cannot be told from rounding; measured if None.
    """
    x = 2.0 ** torch.arange(0.0, 20.25, 0.25, dtype=torch.float64)
    f = function(side * x)
    size = float(function(torch.linspace(-1, 1, 33, dtype=torch.float64)).abs().amax()) if scale is None else scale
    overflow = (~torch.isfinite(f)).nonzero()
    if len(overflow):
        x, f = x[: int(overflow[0])], f[: int(overflow[0])]
    nonzero = f != 0
    if len(x) < 12:
        return Tail(math.nan, math.nan, math.nan)
    if not bool(nonzero.any()):
        return Tail(0.0, 0.0, 0.0, onset=_onset(function, side, 0.0, 1.0))
    last = int(nonzero.nonzero()[-1])
    beyond = f[last + 1 :]
    if beyond.numel() and bool((beyond == 0).all()):
        onset = _onset(function, side, float(x[last]), float(x[last + 1]))
        before = torch.tensor([side * (abs(onset) - 0.01)], dtype=torch.float64)
        if float(function(before).abs()) > 1e-6 * size:
            return Tail(0.0, 0.0, float(f[last]), onset=onset)
    usable = nonzero & (f.abs() > 1e-290) & (f.abs() < 1e290)
    near = _fit(x[:33], f[:33], usable[:33])
    # Nearer than 256 is enough for most, and keeps out the linear continuation of saturating exponentials.
    return near if near.uncertainty < 1e-3 or math.isinf(near.rate) else _fit(x, f, usable)


def _onset(function: Callable[[Tensor], Tensor], side: int, low: float, high: float) -> float:
    """The end of f's support between |x| = low, where it is not zero, and |x| = high, from which on it is."""
    if low == 0 and float(function(torch.zeros(1, dtype=torch.float64)).abs()) == 0:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(function(torch.tensor([side * middle], dtype=torch.float64))) == 0:
            high = middle
        else:
            low = middle
    return side * (low + high) / 2


def _solve(log: Tensor, basis: Tensor) -> Tensor:
    """Coefficients of log|f| on a basis of s = |x|/X at s = …, 1/4, 1/2, 1, for every X: (windows, coefficients)."""
    count = len(basis)
    windows = len(log) - 4 * (count - 1)
    points = torch.stack([log[4 * k : 4 * k + windows] for k in range(count)], -1)
    return points @ torch.linalg.inv(basis).T


def _fit(x: Tensor, f: Tensor, usable: Tensor) -> Tail:
    log = torch.where(usable, f.abs(), 1.0).log()
    s = 2.0 ** torch.arange(-3, 1, dtype=torch.float64)
    one, t = torch.ones(4, dtype=torch.float64), s[1:]
    found = _settled(x, _solve(log, torch.stack([one, s, s.log(), 1 / s], -1)), usable, 4)
    if found is None or found[2] > _UNSETTLED:
        # Rounding leaves too short a stretch: without the next order.
        fits = _solve(log, torch.stack([one[1:], t, t.log()], -1))
        found = _settled(x, torch.nn.functional.pad(fits, (0, 1)), usable, 3)
    if found is not None and abs(found[1][1]) < max(1e-3, 100 * found[2]):
        fits = _solve(log, torch.stack([one[1:], t.log(), 1 / t], -1))
        fits = torch.stack([fits[:, 0], torch.zeros(len(fits)).double(), fits[:, 1], fits[:, 2]], -1)
        found = _settled(x, fits, usable, 3)
    if found is None or found[2] > _UNSETTLED:
        return _superexponential(x, log, usable, math.inf if found is None else found[2])
    at, (constant, rate, power, _), error = found
    rate, power = _tidy(rate / at, error / at), _tidy(power, error)
    size = math.exp(min(constant - power * math.log(at), 700.0))
    return Tail(rate, power, math.copysign(size, float(f[x == at][0])), uncertainty=error)


def _settled(x: Tensor, fits: Tensor, usable: Tensor, points: int) -> tuple[float, list[float], float] | None:
    """The fit that differs least from its two predecessors for the square of its distance; where, what, by how much."""
    good = torch.stack([usable[4 * k : 4 * k + len(fits)] for k in range(points)]).all(0)
    reach = x[4 * (points - 1) :]
    step = (fits[:, 1] / reach).diff().abs() * reach[1:] + fits[:, 2].diff().abs()
    change = torch.maximum(step[1:], step[:-1]).where(
        good[2:] & good[1:-1] & good[:-2], torch.tensor(math.inf).double()
    )
    if not bool(torch.isfinite(change).any()):
        return None
    far = reach[2:]
    best = int(((change + 1e-13) / far**2).argmin())
    return float(far[best]), fits[best + 2].tolist(), float(change[best])


def _superexponential(x: Tensor, log: Tensor, usable: Tensor, error: float) -> Tail:
    """Rates that keep growing are infinite; anything else is not settled."""
    rate = ((log[4:] - log[:-4]) / (x[4:] - x[:-4]))[usable[4:] & usable[:-4]]
    if len(rate) >= 6:
        growth = rate[-5:] / rate[-6:-1]
        if bool((growth > 1.05).all()):
            return Tail(math.copysign(math.inf, float(rate[-1])), 0.0, math.nan, uncertainty=error)
    return Tail(math.nan, math.nan, math.nan, uncertainty=error)


def _tidy(value: float, error: float) -> float:
    """The number with the fewest decimals that the error cannot tell from the value; 0 for what is below 1e-6."""
    if abs(value) < _NEGLIGIBLE:
        return 0.0
    for digits in range(7):
        if abs(round(value, digits) - value) <= min(max(10 * error, 1e-9), 0.05):
            return round(value, digits)
    return value
