"""How a law is stated and checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Law = Callable[[Any], None]
Kind = TypeVar("Kind", bound=Law)

LAWS: dict[str, list[Law]] = {
    slot: [] for slot in ("optimization", "chart", "unit", "measure", "sampling", "divergence", "objective")
}
"""The laws of each slot, in the order in which they are checked."""


class LawViolation(AssertionError):
    """A member breaks a law of its slot."""


def law(slot: str) -> Callable[[Kind], Kind]:
    """Enters the function that it decorates among the laws of a slot."""

    def register(stated: Kind) -> Kind:
        LAWS[slot].append(stated)
        return stated

    return register


def check(slot: str, member: Any) -> None:
    """All laws of the slot."""
    for stated in LAWS[slot]:
        stated(member)


def equal(left: Tensor, right: Tensor, what: str, *, rtol: float = 1e-9, atol: float = 1e-10) -> None:
    """A violation where the two differ, with the first numbers that do; equal infinities are equal, NaN never is."""
    left, right = torch.broadcast_tensors(left.detach().double(), right.detach().double())
    wrong = ~torch.isclose(left, right, rtol=rtol, atol=atol, equal_nan=False) & ~((left == right) & torch.isinf(left))
    if wrong.any():
        k = tuple(int(i) for i in wrong.nonzero()[0])
        raise LawViolation(f"{what}: {left[k].item():.12g} is not {right[k].item():.12g} at index {k}.")


def holds(condition: Tensor | bool, what: str) -> None:
    """A violation where the condition is false anywhere."""
    if not bool(torch.as_tensor(condition).all()):
        raise LawViolation(f"{what}.")


def gradient_of(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """∂Σ function(x)/∂x by autograd; zero where the function does not depend on x."""
    x = x.detach().clone().requires_grad_()
    y = function(x).sum()
    if not y.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(y, x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


# Irregular numbers, so that no kink of a published geometry is hit by accident.
POINTS = torch.tensor(
    [-3.1415, -1.2821, -0.7389, -0.3103, -0.0517, 0.0433, 0.2718, 0.6931, 1.6449, 2.7183], dtype=torch.float64
)


def ragged(rows: int, tokens: int, generator: torch.Generator) -> Tensor:
    """Masks with gaps, of all lengths, one row empty."""
    mask = torch.rand(rows, tokens, generator=generator) < 0.7
    mask[:, 0] = True
    mask[-1] = False
    return mask
