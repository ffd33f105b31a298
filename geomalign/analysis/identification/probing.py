"""Values and derivatives of a loss at single events, however the loss reduces a batch of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.types import Interval

Loss = Callable[..., Tensor]

_TRIED = torch.tensor([(-0.7, 0.31, 0.05, -0.13, 0.9), (0.5, -1.1, 0.9, -0.6, 1.7)], dtype=torch.float64)


class Probe:
    """Elementwise values and derivatives of a loss that may also sum or average its events.

    Args:
        loss: of one or two float64 tensors `(n,)`.
        arity: how many.

    Raises:
        ValueError: one event's loss depends on the other events.

    >>> import torch
    >>> Probe(lambda x: (x**2).mean(), 1).force(torch.tensor([1.0, 2.0], dtype=torch.float64))
    tensor([2., 4.], dtype=torch.float64)
    """

    def __init__(self, loss: Loss, arity: int):
        self.loss, self.arity, self.reduction = loss, arity, ""
        single = self.value(*_TRIED[:arity])
        together = loss(*_TRIED[:arity]).detach().double()
        together = together.reshape(()) if together.numel() == 1 else together
        for name, value in {"mean": single.mean(), "sum": single.sum(), "none": single}.items():
            if value.shape == together.shape and torch.allclose(value, together, 1e-5, 1e-7, equal_nan=True):
                self.reduction = name
        if not self.reduction:
            raise ValueError(
                f"the loss gave shape {tuple(together.shape)} for inputs of shape (5,), and its value is neither "
                "elementwise, nor the sum nor the mean of the values of the single samples: it couples samples "
                "(a group baseline, sorting, normalisation). Fix what couples them inside the function that you "
                "pass, so that one event's loss is left."
            )

    def value(self, *args: Tensor) -> Tensor:
        """`(points,)`."""
        with torch.no_grad():
            if self.reduction == "none":
                return self.loss(*args).double()
            single = [self.loss(*(a[i : i + 1] for a in args)).reshape(()) for i in range(len(args[0]))]
            return torch.stack(single).double()

    def _force(self, inputs: list[Tensor], of: int, create_graph: bool = False) -> Tensor:
        with torch.enable_grad():
            total = self.loss(*inputs).sum() * (len(inputs[0]) if self.reduction == "mean" else 1)
            return _derivative(total, inputs[of], create_graph)

    def force(self, *args: Tensor, of: int = 0) -> Tensor:
        """`(points,)`: ∂ℓ/∂(the argument `of`)."""
        return self._force([a.detach().clone().requires_grad_(k == of) for k, a in enumerate(args)], of)

    def forces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(points,)` each: the forces on both arguments, and their mixed derivative."""
        inputs = [a.detach().clone().requires_grad_() for a in (x, y)]
        force = self._force(inputs, 0, True)
        return force.detach(), self.force(x, y, of=1), _derivative(force.sum(), inputs[1])

    def force_at(self, x: Tensor, second: float) -> Tensor:
        """`(points,)`: the force with one value for the second argument, if the loss has one."""
        return self.force(x, *[torch.full_like(x, second)] * (self.arity - 1))

    def grid(self, x: Tensor, second: Tensor) -> Tensor:
        """`(points, second)` forces at every combination."""
        shape = (len(x), len(second))
        return self.force(x[:, None].expand(shape).reshape(-1), second.expand(shape).reshape(-1)).reshape(shape)


def _derivative(total: Tensor, of: Tensor, create_graph: bool = False) -> Tensor:
    if not total.requires_grad:
        return torch.zeros_like(of)
    return torch.autograd.grad(total, of, create_graph=create_graph, allow_unused=True, materialize_grads=True)[0]


def rounding_error(force: Callable[[Tensor], Tensor], domain: Interval) -> float:
    """Relative rounding error of a force: its third differences within 2e-5 nats, in the median of seven places.

    >>> rounding_error(lambda x: x.float().exp()[:, None].double(), Interval(-3.0, 3.0)) > 1e-9
    True
    """
    steps, found = torch.linspace(-1e-5, 1e-5, 16, dtype=torch.float64), []
    for centre in (-2.1, -1.3, -0.61, 0.047, 0.73, 1.37, 2.2):
        if domain.low < centre < domain.high:
            f = force(centre + steps)
            found.append(float((f.diff(n=3, dim=0).abs().amax(0) / 4 / f.abs().amax(0).clamp(min=1e-300)).amax()))
    return sorted(found)[len(found) // 2] if found else 0.0


def finite_domain(probe: Probe, domain: Interval, force: Callable[[Tensor], Tensor]) -> Interval:
    """The largest part of the domain around the anchor with finite value and force, to half a hundredth.

    >>> probe = Probe(lambda margin: -torch.log(2 - margin), 1)
    >>> finite_domain(probe, Interval(-10.0, 10.0), lambda x: probe.force(x)[:, None])
    Interval(low=-10.0, high=1.9...)
    """
    x = torch.linspace(domain.low, domain.high, 201, dtype=torch.float64)
    value = probe.value(x, *([torch.ones_like(x)] * (probe.arity - 1)))
    good = torch.isfinite(force(x)).all(-1) & torch.isfinite(value)
    home = int(x.abs().argmin())
    if not bool(good[home]):
        raise ValueError(
            f"the loss or its gradient is not finite at a log-ratio of {float(x[home]):.3g}: there is no geometry "
            "around the anchor to read."
        )
    low, high = around(good, home)
    return Interval(float(x[low]), float(x[high - 1]))


def around(good: Tensor, home: int) -> tuple[int, int]:
    """The run of true entries around the place `home`, as a half-open range.

    >>> around(torch.tensor([True, False, True, True, False]), 2)
    (2, 4)
    """
    below, above = (~good[:home]).nonzero(), (~good[home:]).nonzero()
    return int(below[-1]) + 1 if len(below) else 0, home + int(above[0]) if len(above) else len(good)


def within(domain: Interval, nats: float) -> Interval:
    """The part of a domain that is no further from the anchor.

    >>> within(Interval(-30.0, 3.9), 12.0)
    Interval(low=-12.0, high=3.9)
    """
    return Interval(max(domain.low, -nats), min(domain.high, nats))


def fresh(domain: Interval, step: int = 1) -> Tensor:
    """256 points of the domain that no fit has seen: multiples of the golden ratio, times `step`, modulo one.

    >>> fresh(Interval(0.0, 1.0))[:2]
    tensor([0.6180, 0.2361], dtype=torch.float64)
    """
    golden = torch.arange(1, 257, dtype=torch.float64) * ((5**0.5 - 1) / 2)
    return domain.low + (domain.high - domain.low) * (step * (golden % 1.0) % 1.0)


def arity(loss: Loss) -> int:
    """How many positional arguments without a default the loss has.

    >>> arity(lambda margin, beta=0.1: margin)
    1
    """
    parameters = inspect.signature(loss).parameters.values()
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
