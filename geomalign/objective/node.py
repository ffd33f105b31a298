"""The node: a loss whose gradient was computed with it, in closed form, hung on the policy's log-probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from geomalign._util.types import Locality
from geomalign.batch import Batch, Counts, PreferenceBatch

TILE = 2**17
"""Log-probabilities per part of a batch on a CPU: a dozen temporaries of this size stay in a core's cache."""


def policies(batch: Batch | PreferenceBatch) -> tuple[Tensor, ...]:
    """The log-probabilities that a gradient is taken in: the policy's, or those of both responses of every pair.

    >>> len(policies(Batch(torch.zeros(2, 3))))
    1
    """
    return (batch.policy,) if isinstance(batch, Batch) else (batch.chosen, batch.rejected)


def detached(batch: Any) -> Any:
    """The batch with log-probabilities that carry no gradient, and with masks of booleans.

    >>> detached(Batch(torch.zeros(2, 3, requires_grad=True))).policy.requires_grad
    False
    """
    if not isinstance(batch, Batch):
        return dataclasses.replace(batch, chosen=batch.chosen.detach(), rejected=batch.rejected.detach())
    mask = None if batch.mask is None else batch.support.view(batch.mask.shape)
    return dataclasses.replace(batch, policy=batch.policy.detach(), mask=mask)


def tiles(batch: Batch | PreferenceBatch, terms: Sequence[tuple[float, Any]]) -> list[slice]:
    """Rows (or pairs) to evaluate at a time: parts that fit the cache of a CPU, where no event reaches beyond them.

    >>> import geomalign as ga
    >>> tiles(Batch(torch.zeros(2, 3)), ga.recipes.grpo().terms)
    [slice(0, 2, None)]
    """
    first = policies(batch)[0]
    own = Locality.GROUP if batch.paired else Locality.SEQUENCE
    alone = all(t.reach <= own and t.measure.rowwise for _, t in terms)
    if not alone or type(batch.size) is not int:  # a traced size makes one tile, whatever the width is
        return [slice(0, batch.size)]
    return slices(first, batch.size, sum(x[0].numel() for x in policies(batch) if len(x)))


def slices(like: Tensor, rows: int, width: int) -> list[slice]:
    """So many rows of this width in parts that fit the cache of a CPU; whole on other devices and while compiled.

    >>> slices(torch.zeros(1), 3, TILE * torch.get_num_threads())
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    if like.device.type != "cpu" or torch.compiler.is_compiling() or type(rows) is not int:
        return [slice(0, rows)]
    step = max(1, TILE * torch.get_num_threads() // max(1, width))
    return [slice(i, min(i + step, rows)) for i in range(0, rows, step)] or [slice(0, rows)]


def evaluate(
    terms: Sequence[tuple[float, Any]],
    batch: Batch | PreferenceBatch,
    drives: Sequence[Tensor],
    counts: Counts,
    with_gradient: bool = True,
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """The loss of every term, and the gradient of their weighted sum in each of `policies(batch)`, if asked for.

    >>> import geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 1), torch.zeros(2, 1), reward=torch.tensor([1.0, 0.0]))
    >>> objective = ga.recipes.rloo()
    >>> evaluate(objective.terms, batch, [objective.drive(batch)], batch.counts())[1]
    (tensor([[-0.5000],
            [ 0.5000]]),)
    """
    parts = tiles(batch, terms)
    if len(parts) == 1:
        return _evaluate(terms, batch, drives, counts, with_gradient)
    losses: list[Any] = [0.0] * len(terms)
    gradients = tuple(torch.empty_like(x, dtype=batch[:0].rows.dtype) for x in policies(batch) if with_gradient)
    for rows in parts:
        found, gradient = _evaluate(terms, batch[rows], [drive[rows] for drive in drives], counts, with_gradient)
        losses = [a + b for a, b in zip(losses, found, strict=True)]
        for whole, part in zip(gradients, gradient, strict=True):
            whole[rows] = part
    return losses, gradients


def _evaluate(
    terms: Sequence[tuple[float, Any]],
    batch: Batch | PreferenceBatch,
    drives: Sequence[Tensor],
    counts: Counts,
    with_gradient: bool,
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    losses, total = [], None
    for (coefficient, term), drive in zip(terms, drives, strict=True):
        loss, gradient = term.closed_form(batch, drive, counts, with_gradient)
        losses.append(loss)
        if gradient is not None:
            gradient = gradient if coefficient == 1 else coefficient * gradient
            total = gradient if total is None else total + gradient
    return losses, () if total is None else _in_shape(total, batch)


def _in_shape(tokens: Tensor, batch: Batch | PreferenceBatch) -> tuple[Tensor, ...]:
    """The gradient per token of `batch.rows` in the shapes of the batch's own log-probabilities."""
    if isinstance(batch, Batch):
        return (tokens[:, 0] if batch.summed else tokens,)
    chosen, rejected = tokens.chunk(2)
    if batch.summed:
        return chosen[:, 0], rejected[:, 0]
    return chosen[:, : batch.chosen.shape[1]], rejected[:, : batch.rejected.shape[1]]


def counted(batch: Batch | PreferenceBatch, counts: Any) -> Counts:
    """The counts of the batch of which this one is a part; its own where none are given.

    >>> int(counted(Batch(torch.zeros(2, 3)), None).tokens)
    6
    """
    if counts is None:
        return batch.counts()
    if not isinstance(counts, Counts):
        raise TypeError(
            f"`counts` is {type(counts).__name__}, not geomalign Counts: pass whole_batch.counts(), or the sum of its "
            "parts' counts."
        )
    return counts


class _Node(torch.autograd.Function):
    """A value whose gradient in each of n inputs is known; it keeps these gradients and nothing else."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, *inputs_and_gradients: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        both = inputs[1:]
        ctx.dtypes = [x.dtype for x in both[: len(both) // 2]]
        ctx.save_for_backward(*both[len(both) // 2 :])

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError(
                "the gradient of an objective was asked for with create_graph=True, or by torch.func: an objective "
                "computes its gradient in closed form, and that has no graph to differentiate again. Differentiate "
                "objective.plain(batch).loss, the same formula under autograd."
            )
        # Multiplied in float32 before the cast, so that a scaled loss (GradScaler) does not lose small weights.
        found = [(outer * g).to(dtype) for g, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)]
        return None, *found, *[None] * len(found)


def attach(value: Tensor, inputs: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> Tensor:
    """The value as a function of the inputs in which its gradients were computed.

    >>> x = torch.zeros(2, requires_grad=True)
    >>> attach(torch.tensor(5.0), (x,), (torch.tensor([1.0, 2.0]),)).backward()
    >>> x.grad
    tensor([1., 2.])
    """
    loss: Tensor = _Node.apply(value, *inputs, *gradients)
    return loss


def differentiable(batch: Batch | PreferenceBatch) -> bool:
    """Whether a gradient in the policy is wanted.

    >>> differentiable(Batch(torch.zeros(2, 3)))
    False
    """
    return torch.is_grad_enabled() and any(x.requires_grad or _mapped(x) for x in policies(batch))


def _mapped(x: Tensor) -> bool:
    """Whether `torch.func.vmap` maps over the tensor, which then does not say whether it requires a gradient."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_batchedtensor(x)
