"""The head in autograd: a node that computes its gradient in the backward pass, and one whose gradient is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from geomalign.ops.tiles import Gradients, Head, Statistics, fold, recompute

__all__ = ["Known", "LogProbs", "exact"]


def exact(x: Tensor) -> torch.autocast:
    """No autocast: the precision of every product is chosen here.

    >>> with exact(torch.zeros(1)):
    ...     torch.is_autocast_enabled("cpu")
    False
    """
    return torch.autocast(x.device.type, enabled=False)


class LogProbs(torch.autograd.Function):
    """`fold`, with `recompute` as its backward pass, or a row scale where weight and bias need no gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: Head, entropy: bool
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.head, ctx.frozen = head, not any(ctx.needs_input_grad[1:3])
        direction = ctx.frozen and ctx.needs_input_grad[0]
        with exact(hidden):
            seen = fold(head, hidden, targets, entropy=entropy, direction=direction)
        ctx.save_for_backward(hidden, weight, bias, targets, *seen)
        return (seen.log_prob, seen.entropy) if seen.entropy is not None else (seen.log_prob,)

    @staticmethod
    def backward(ctx: Any, pull: Tensor | None, entropy_pull: Tensor | None = None) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        hidden, weight, bias, targets, *seen = ctx.saved_tensors
        seen = Statistics(*seen)
        found = Gradients(None, None, None)
        needs = ctx.needs_input_grad[:3]
        with exact(hidden):
            if ctx.frozen and entropy_pull is None:
                if pull is not None and seen.direction is not None:
                    found = Gradients(seen.direction * pull[:, None], None, None)
            elif pull is not None or entropy_pull is not None:
                head = dataclasses.replace(ctx.head, weight=weight, bias=bias)
                found = recompute(head, hidden, targets, seen, pull, entropy_pull, needs)
        return (*_like(found, hidden, weight, bias), None, None, None)


class Known(torch.autograd.Function):
    """A value hung on the hidden states and the head, whose gradients are known."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None, gradients: Gradients
    ) -> Tensor:
        ctx.gradients = gradients
        ctx.save_for_backward(hidden, weight, bias)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, pull: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        if ctx.gradients is None:
            raise RuntimeError(
                "the gradient of fused_objective was taken a second time: it is kept once and given away. Evaluate the "
                "objective again, or call backward once on the sum of what you need."
            )
        gradients, ctx.gradients = ctx.gradients, None
        # In place, as these are the only large tensors; in the type of the sums, so that a GradScaler's factor comes
        # before the rounding to half precision.
        scaled = Gradients(*(None if x is None else x.mul_(pull) for x in gradients))
        del gradients
        return (None, *_like(scaled, *ctx.saved_tensors), None)


def _like(found: Gradients, *tensors: Tensor | None) -> Iterator[Tensor | None]:
    """Each gradient in the type of what it belongs to."""
    return (None if g is None or x is None else g.to(x.dtype) for g, x in zip(found, tensors))


def _refuse_second_derivative() -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the gradient of a fused head cannot be differentiated again (create_graph=True): compute the logits with "
            "torch and evaluate the objective on their log_softmax where a second derivative is needed."
        )
