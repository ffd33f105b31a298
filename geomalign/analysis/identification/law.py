"""A loss as a field of forces, whatever it reduces to."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.types import Interval

Loss = Callable[..., Tensor]


class Law:
    """A loss as a force field: elementwise values and derivatives, however the loss reduces."""

    def __init__(self, loss: Loss, arity: int):
        self.loss, self.arity = loss, arity
        x = torch.tensor([-0.7, 0.31, 0.05, -0.13, 0.9], dtype=torch.float64)
        others = [torch.tensor([0.5, -1.1, 0.9, -0.6, 1.7], dtype=torch.float64)] * (arity - 1)
        out = loss(x, *others)
        single = torch.stack(
            [loss(x[i : i + 1], *(o[i : i + 1] for o in others)).detach().reshape(()) for i in range(5)]
        )
        out = out.detach()
        self.elementwise = out.shape == x.shape
        candidates = {1.0: out} if self.elementwise else {1.0: single.sum(), 0.0: single.mean()}
        expected = single if self.elementwise else out.reshape(())
        fits = [
            k
            for k, v in candidates.items()
            if torch.allclose(v.double(), expected.double(), 1e-5, 1e-7, equal_nan=True)
        ]
        if not fits or (not self.elementwise and out.numel() != 1):
            raise ValueError(
                f"the loss gave shape {tuple(out.shape)} for inputs of shape (5,), and its value is neither "
                "elementwise, nor the sum nor the mean of the values of the single samples: it couples samples "
                "(a group baseline, sorting, normalisation). Fix what couples them inside the function that you "
                "pass, so that one event's loss is left."
            )
        self.mean = fits[0] == 0.0

    def value(self, *args: Tensor) -> Tensor:
        """`(points,)`."""
        with torch.no_grad():
            if self.elementwise:
                return self.loss(*args).double()
            return torch.stack(
                [self.loss(*(a[i : i + 1] for a in args)).double().reshape(()) for i in range(len(args[0]))]
            )

    def force(self, *args: Tensor, mixed: bool = False) -> tuple[Tensor, Tensor | None]:
        """`(points,)`: ∂ℓ/∂(first argument), and if `mixed` its derivative by the second."""
        inputs = [a.detach().clone().requires_grad_(k == 0 or mixed) for k, a in enumerate(args)]
        with torch.enable_grad():
            total = self.loss(*inputs).sum() * (len(args[0]) if self.mean else 1)
            if not total.requires_grad:
                return torch.zeros_like(args[0]), torch.zeros_like(args[0]) if mixed else None
            (force,) = torch.autograd.grad(
                total, inputs[0], create_graph=mixed, allow_unused=True, materialize_grads=True
            )
            if not mixed:
                return force.detach(), None
            if not force.requires_grad:
                return force.detach(), torch.zeros_like(force)
            (cross,) = torch.autograd.grad(force.sum(), inputs[1], allow_unused=True, materialize_grads=True)
        return force.detach(), cross.detach()

    def force_of_second(self, first: Tensor, second: Tensor) -> Tensor:
        """`(points,)`: ∂ℓ/∂(second argument)."""
        y = second.detach().clone().requires_grad_()
        with torch.enable_grad():
            total = self.loss(first.detach(), y).sum() * (len(y) if self.mean else 1)
            (force,) = torch.autograd.grad(total, y, allow_unused=True, materialize_grads=True)
        return force

    def grid(self, x: Tensor, second: Tensor, *, mixed: bool = False) -> tuple[Tensor, Tensor | None]:
        """`(points, second)` of both."""
        shape = (len(x), len(second))
        force, cross = self.force(x[:, None].expand(shape).reshape(-1), second.expand(shape).reshape(-1), mixed=mixed)
        return force.reshape(shape), None if cross is None else cross.reshape(shape)


def noise(force: Callable[[Tensor], Tensor], domain: Interval) -> float:
    """Relative rounding error of the force: the wiggle left after a parabola through 2e-5 nats."""
    t = torch.linspace(-1, 1, 16, dtype=torch.float64)
    basis = torch.stack([torch.ones_like(t), t, t * t], -1)
    found = []
    for centre in (-2.1, -1.3, -0.61, 0.047, 0.73, 1.37, 2.2):
        if not domain.low < centre < domain.high:
            continue
        f = force(centre + 1e-5 * t)
        rest = f - basis @ torch.linalg.lstsq(basis, f).solution
        found.append(float((rest.abs().amax(0) / f.abs().amax(0).clamp(min=1e-300)).amax()))
    return sorted(found)[len(found) // 2] if found else 0.0


def finite(law: Law, domain: Interval, force: Callable[[Tensor], Tensor]) -> Interval:
    """The largest part of the domain around the anchor on which value and force are finite, to a hundredth of it."""
    x = torch.linspace(domain.low, domain.high, 201, dtype=torch.float64)
    value = law.value(x, *([torch.ones_like(x)] * (law.arity - 1)))
    good = torch.isfinite(force(x)).all(-1) & torch.isfinite(value)
    home = int(x.abs().argmin())
    if not bool(good[home]):
        raise ValueError(
            f"the loss or its gradient is not finite at a log-ratio of {float(x[home]):.3g}: there is no geometry "
            "around the anchor to read."
        )
    below = (~good[:home]).nonzero()
    above = (~good[home:]).nonzero()
    low = int(below[-1]) + 1 if len(below) else 0
    high = home + int(above[0]) - 1 if len(above) else len(x) - 1
    return Interval(float(x[low]), float(x[high]))


def arity(loss: Loss) -> int:
    parameters = inspect.signature(loss).parameters.values()
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
