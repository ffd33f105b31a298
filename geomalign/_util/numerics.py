"""Numerical primitives: exponentials that do not overflow, forms that are accurate near 0, roots of monotone functions.

The saturation rule of the library is stated here: beyond `limit(dtype)` nats an exponential is continued as its tangent
line, so that a log-ratio of ±1e4 keeps a finite value and a finite, non-zero slope.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.symbol import Symbol

Map = Callable[[Tensor], Tensor]

_KEY = {torch.float64: torch.int64, torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}
_SERIES_TERMS, _SERIES_RADIUS = {torch.float64: 15}, 0.3
"""Within |x| ≤ 0.3 the sixteenth term of the exponential series is below the rounding error of float64, the tenth below
that of float32."""


def latex(x: float) -> str:
    r"""A number in LaTeX.

    >>> latex(0.5), latex(1e-6), latex(2.5e7), latex(-math.inf)
    ('0.5', '10^{-6}', '2.5\\cdot 10^{7}', '-\\infty')
    """
    if math.isinf(x):
        return r"\infty" if x > 0 else r"-\infty"
    digits, _, power = f"{x:g}".partition("e")
    if not power or isinstance(x, Symbol):
        return f"{x:g}"
    size = f"10^{{{int(power)}}}"
    return size if digits == "1" else rf"{digits}\cdot {size}"


def limit(dtype: torch.dtype) -> float:
    """Nats beyond which exponentials are continued linearly: 300 in float64, 10 in float16, 30 otherwise.

    The square of the continued exponential at 1e4 nats is still finite: 1e268 in float64, 1e34 in float32. float16
    holds exp only up to 11 nats and gets no such guarantee.

    >>> limit(torch.float32)
    30.0
    """
    return {torch.float64: 300.0, torch.float16: 10.0}.get(dtype, 30.0)


def exp(x: Tensor) -> Tensor:
    """e^x up to L = `limit(x.dtype)`, and beyond it the tangent e^L (1 + x − L), whose slope is e^L.

    >>> bool(torch.isfinite(exp(torch.tensor(1e4))))
    True
    """
    bound = limit(x.dtype)
    e = torch.exp(x.clamp(max=bound))
    return e + e * torch.relu(x - bound)


def expm1(x: Tensor) -> Tensor:
    """e^x − 1 without cancellation near 0, continued linearly as `exp` is.

    >>> expm1(torch.tensor([1e-10]))
    tensor([1.0000e-10])
    """
    bound = limit(x.dtype)
    x_c = x.clamp(max=bound)
    e = torch.exp(x_c)
    # The derivatives are those of e^x. torch's own of expm1, the result + 1, are 0 far below 0.
    return torch.expm1(x_c.detach()) + (e - e.detach()) + e * torch.relu(x - bound)


def expm1_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """`expm1` and its derivative `exp_slope`, without gradient.

    On a CPU compiled code evaluates expm1 as exp − 1, whose error is one rounding of 1.

    >>> expm1_and_slope(torch.tensor([0.0]))
    (tensor([0.]), tensor([1.]))
    """
    bound = limit(x.dtype)
    inside = x.clamp(max=bound)
    value = torch.expm1(inside)
    slope = torch.exp(inside)
    return value + slope * (x - inside), slope


def exp_slope(x: Tensor) -> Tensor:
    """The derivative of `exp` and `expm1`, e^min(x, limit).

    >>> exp_slope(torch.tensor([0.0]))
    tensor([1.])
    """
    return torch.exp(x.clamp(max=limit(x.dtype)))


def box_cox(x: Tensor, power: float) -> Tensor:
    """(e^{power·x} − 1)/power, saturating, and x itself at power 0: the Box–Cox transform of e^x.

    >>> box_cox(torch.tensor([2.0]), 0.0), box_cox(torch.tensor([0.0]), 3.0)
    (tensor([2.]), tensor([0.]))
    """
    return x if power == 0.0 else expm1(power * x) / power


def power_remainder(x: Tensor, order: float) -> Tensor:
    """(e^{ax} − a e^x + a − 1)/(a(a−1)) of order a, for small x by its series Σ_k (1 + a + … + a^{k−2}) x^k/k!.

    The closed form subtracts numbers of order 1 to get one of order x²: in float32 it returns 0 at x = 1e-4. The series
    is regular at a = 0 and a = 1, and exact to rounding for |x|·max(1, |a|) ≤ 0.3.

    >>> power_remainder(torch.tensor([1e-4]), 2.0)  # x²/2
    tensor([5.0005e-09])
    """
    coefficients, total = [], 0.0
    for k in range(2, _SERIES_TERMS.get(x.dtype, 9) + 1):
        total = total * order + 1.0
        coefficients.append(total / math.factorial(k))
    out = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        out = (out * x).add_(c)
    return out * (x * x)


def is_small(x: Tensor, order: float = 1.0) -> Tensor:
    """Where `power_remainder` of this order is accurate.

    >>> is_small(torch.tensor([0.1, 1.0]))
    tensor([ True, False])
    """
    return x.abs() * max(1.0, abs(order)) < _SERIES_RADIUS


def expm1_remainder(x: Tensor) -> Tensor:
    """e^x − 1 − x ≥ 0, saturating; near 0, where its two halves cancel, by a series.

    >>> expm1_remainder(torch.tensor([1e-4]))
    tensor([5.0002e-09])
    """
    small = is_small(x)
    return torch.where(small, power_remainder(torch.where(small, x, 0), 0.0), expm1(x) - x)


def log1p_remainder(v: Tensor) -> Tensor:
    """(1 + v) log(1 + v) − v ≥ 0 for v ≥ −1; near 0, where its two halves cancel, by a series.

    >>> log1p_remainder(torch.tensor([-1.0, 0.0]))
    tensor([1., 0.])
    """
    x = torch.log1p(torch.where(v > -1, v, 0))
    small = is_small(x) & (v > -1)
    return torch.where(small, power_remainder(torch.where(small, x, 0), 1.0), torch.special.xlog1py(1 + v, v) - v)


def _to_key(x: Tensor) -> Tensor:
    """Floats as integers in the same order: halving a bracket of integers halves the floats between its ends."""
    bits = x.view(_KEY[x.dtype])
    return torch.where(bits >= 0, bits, torch.iinfo(bits.dtype).min - bits)


def _from_key(key: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.where(key >= 0, key, torch.iinfo(key.dtype).min - key).view(dtype)


def may_wait(x: Tensor) -> bool:
    """Whether values of `x` can be looked at for nothing: on the host, and not while a graph is traced or mapped.

    >>> may_wait(torch.zeros(2)), may_wait(torch.zeros(2, device="meta"))
    (True, False)
    """
    if torch.compiler.is_compiling() or type(x) is not Tensor or x.device.type != "cpu":
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(x)


def equal(x: Tensor, y: Tensor) -> Tensor:
    """1 where x = y and 0 elsewhere, numbers of x's dtype, without gradient.

    >>> equal(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]))
    tensor([1., 0.])
    """
    # A comparison that writes numbers is four times faster than one that writes booleans which are then multiplied.
    return torch.eq(x, y, out=torch.empty_like(x)) if may_wait(x) else (x == y).to(x.dtype)


def solve_increasing(
    function: Map,
    target: Tensor,
    low: Tensor | float = -math.inf,
    high: Tensor | float = math.inf,
    *,
    derivative: Map | None = None,
    start: Tensor | None = None,
) -> Tensor:
    """The x in [low, high] at which an increasing function reaches a target, elementwise and without gradient.

    Without a derivative it bisects over the *representable numbers* of the bracket, whose midpoint is the middle float,
    so that an infinite bracket costs as little as a finite one; the result is exact to the last float. With a
    derivative it takes two Newton steps from the best point so far, each where it stays inside the bracket, then one
    bisection, and so on. An accelerator always makes as many evaluations as the dtype has bits, so that the host never
    waits; a CPU stops when nothing moves any more.

    Args:
        function: increasing, and of the shape of `target`; may return ±∞, never NaN.
        target: `(...)`.
        low: lower end of the bracket, a number or a tensor broadcastable to `target`; evaluated only
            where a root lies at it, to the last digit, and others are still sought.
        high: upper end of the bracket, the same.
        derivative: of `function`.
        start: first point evaluated, where it lies inside the bracket.

    Returns:
        `(...)`, the evaluated point of least residual. A target outside the function's range gives a point next to that
        end of the bracket.

    >>> solve_increasing(lambda x: x**3, torch.tensor([8.0, -27.0]))
    tensor([ 2., -3.])
    """
    evaluate = (lambda x: (function(x), None)) if derivative is None else (lambda x: (function(x), derivative(x)))
    return solve_newton(evaluate, target, low, high, start=start)


def solve_newton(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor | None]],
    target: Tensor,
    low: Tensor | float = -math.inf,
    high: Tensor | float = math.inf,
    *,
    start: Tensor | None = None,
) -> Tensor:
    """`solve_increasing` for a function that returns its value and its derivative (or None) together.

    >>> solve_newton(lambda x: (x**3, 3 * x**2), torch.tensor([8.0]), 0.0)
    tensor([2.])
    """
    with torch.no_grad():
        target = target.detach()
        dtype, eps = target.dtype, torch.finfo(target.dtype).eps
        lo, hi = _bound(low, target), _bound(high, target)
        best = _from_key(_middle(lo, hi), dtype)
        miss, guess = torch.full_like(target, math.inf), best if start is None else start.expand_as(target).contiguous()
        settled = torch.zeros_like(target, dtype=torch.bool)
        smooth, early = True, may_wait(target)
        for step in range(torch.finfo(dtype).bits):
            newton = step == 0 or (smooth and step % 3 != 0)
            key = _next(lo, hi, guess) if newton else _middle(lo, hi)
            x = _from_key(key, dtype)
            value, slope = evaluate(x)
            smooth, residual = slope is not None, value - target
            lo, hi = torch.where(residual <= 0, key, lo), torch.where(residual >= 0, key, hi)
            # A Newton step that is small and does not help is rounding.
            if newton and step:
                settled = settled | ((residual.abs() >= miss) & ((x - best).abs() <= math.sqrt(eps) * best.abs()))
            better = residual.abs() <= miss
            best, miss = torch.where(better, x, best), torch.where(better, residual.abs(), miss)
            settled = settled | (miss == 0) | (_middle(lo, hi) == lo)
            if slope is not None:
                guess = torch.where(better, x - residual / slope, guess)
                settled = settled | ((guess - best).abs() <= eps * best.abs())
            if early and bool(settled.all()):
                break
        return torch.where(torch.isfinite(miss), best, _from_key(_middle(lo, hi), dtype))


def _bound(x: Tensor | float, target: Tensor) -> Tensor:
    """The key of an end of the bracket, in the shape of the target."""
    return _to_key(torch.as_tensor(x, dtype=target.dtype, device=target.device).expand_as(target).contiguous())


def _next(lo: Tensor, hi: Tensor, guess: Tensor) -> Tensor:
    """The key of the guess where it lies inside the bracket, else the middle of the bracket."""
    ahead = _to_key(guess)
    return torch.where((ahead > lo) & (ahead < hi) & torch.isfinite(guess), ahead, _middle(lo, hi))


def _middle(lo: Tensor, hi: Tensor) -> Tensor:
    """(lo + hi)/2 of integers, rounded down, without the overflow of the sum."""
    return (lo & hi) + ((lo ^ hi) >> 1)


class _Inverse(torch.autograd.Function):
    """x(s) with f(x) = s, differentiated by the implicit-function rule dx/ds = 1/f'(x), to any order.

    Where f jumps across s, x does not move with s, so that the derivative is 0.
    """

    @staticmethod
    def forward(ctx, s: Tensor, function: Map, derivative: Map, low: float, high: float) -> Tensor:  # type: ignore[no-untyped-def]
        x = solve_increasing(function, s, low, high, derivative=derivative)
        jump = (function(x) - s).abs() > math.sqrt(torch.finfo(s.dtype).eps) * (1.0 + s.abs())
        ctx.save_for_backward(x, jump)
        ctx.derivative = derivative
        return x

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        x, jump = ctx.saved_tensors
        return torch.where(jump, 0.0, grad / ctx.derivative(x)), None, None, None, None


def invert_increasing(
    function: Map, derivative: Map, s: Tensor, low: float = -math.inf, high: float = math.inf
) -> Tensor:
    """`solve_increasing` for one target `s`, differentiable in it, once and twice.

    >>> s = torch.tensor([8.0], requires_grad=True)
    >>> x = invert_increasing(lambda x: x**3, lambda x: 3 * x**2, s)
    >>> torch.autograd.grad(x.sum(), s)[0] * 12  # 1/f'(2)
    tensor([1.])
    """
    return _Inverse.apply(s, function, derivative, low, high)
