"""The language-model head and an objective in one evaluation that never holds all logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomalign._util.check import one_of, positive, typed
from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.objective import BaseObjective, Outcome, TermDrives
from geomalign.ops.backends import BACKENDS, tiled
from geomalign.ops.layout import Layout, TileGradients
from geomalign.ops.nodes import Known, exact
from geomalign.ops.products import accumulation_dtype
from geomalign.ops.tiles import Head, fold_and_keep, kept_rows

__all__ = ["fused_log_probs", "fused_objective"]


def fused_log_probs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    entropy: bool = False,
    mask: Tensor | None = None,
    backend: str = "auto",
) -> Any:
    """log-probabilities of the targets under a language-model head, tile by tile, without a tensor of all logits.

    z = softcap·tanh((h Wᵀ + b)/softcap)/temperature,   log p = z[target] − log Σ_v exp z[v]

    It costs four matrix products of tokens × hidden × vocabulary, forward and backward together; two where weight and
    bias need no gradient, because the forward pass then keeps ∂ log p/∂h; one without gradients. The sums are
    float32, whatever the type of the arguments (float64 of float64). Masked positions are dropped first. The gradient
    cannot be differentiated again.

    Args:
        hidden: `(..., hidden)` floating point, the last hidden states.
        weight: `(vocabulary, hidden)`; tied to the embedding or not.
        targets: `(...)` integers in [0, vocabulary), the tokens whose log-probabilities are wanted; any value where
            masked.
        bias: `(vocabulary,)`.
        temperature: what the logits are divided by. > 0.
        softcap: bound of the logits' absolute value before the temperature, as Gemma 2 has it. > 0; None: no bound.
        entropy: also return −Σ p log p in nats, which has a gradient too.
        mask: `(...)`, true (non-zero) where a log-probability is wanted. Elsewhere the results are 0 and hidden states
            may be NaN; they get no gradient.
        backend: "torch" (the tiles here, any device), "linear_cross_entropy" (of torch ≥ 2.13), "trl", "liger" (of
            these packages), or "auto": the fastest measured, which are the tiles here.

    Returns:
        `(...)` log-probabilities in nats, float32 or float64; with `entropy` a pair of these and the entropies.

    Raises:
        ValueError: shapes, types or values do not fit, or the backend cannot compute this.
        ImportError: the backend's package is not installed.
        RuntimeError: the gradient is differentiated again.

    Source: the running log-sum-exp and the backward pass that computes logits again, FlashAttention (arXiv
    2205.14135) and Cut Cross-Entropy (arXiv 2411.09009); neither keeps ∂ log p/∂h for a frozen head.

    >>> import torch, geomalign as ga
    >>> hidden, weight = torch.zeros(2, 3, 8, requires_grad=True), torch.zeros(10, 8)
    >>> log_probs = ga.ops.fused_log_probs(hidden, weight, torch.ones(2, 3, dtype=torch.long))
    >>> log_probs.shape, round(log_probs.exp().mean().item(), 6)
    (torch.Size([2, 3]), 0.1)
    """
    head = _head("fused_log_probs", hidden, weight, targets, bias, temperature, softcap)
    if mask is not None and mask.shape != targets.shape:
        raise ValueError(
            f"`mask` is {tuple(mask.shape)} but `targets` is {tuple(targets.shape)}; both are (row, token)."
        )
    one_of("fused_log_probs", "backend", backend, ("auto", *BACKENDS))
    kept = None if mask is None else (mask != 0).flatten().nonzero()[:, 0]
    h, y = _kept(hidden.flatten(0, -2), kept), _kept(targets.flatten(), kept).long()
    _in_vocabulary("fused_log_probs", y, weight)
    found = BACKENDS["torch" if backend == "auto" else backend](h, y, head, entropy)
    placed = tuple(_placed(x, kept, targets.shape) for x in found)
    return placed if entropy else placed[0]


def fused_objective(
    objective: BaseObjective,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    batch: Batch | PreferenceBatch,
    *,
    drive: Tensor | TermDrives | None = None,
    counts: Counts | None = None,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> Outcome:
    """An objective of the log-probabilities of a language-model head, hung on hidden states and weight.

    The result is that of `objective(batch)` with the policy's log-probabilities in place. The schedule follows from
    what the gradient ∂L/∂log π at a token needs to know, `objective.locality`:

    * weight and bias need no gradient: two matrix products, whatever the objective;
    * it needs the token, its response or its pair, and so many tokens fit in one tile: three, because the logits of a
      tile are kept until the gradient at its log-probabilities is known, which a peer's fused head never knows;
    * else four: all log-probabilities come first, and the logits are computed again.

    Args:
        objective: any objective.
        hidden: `(row, token, hidden)`, the last hidden states, at the positions that predict the tokens of the batch;
            of pairs the chosen responses and behind them the rejected ones, padded to one length.
        weight: `(vocabulary, hidden)`.
        targets: `(row, token)` integers, the tokens; any value where masked.
        batch: everything but the policy's log-probabilities. Its `policy` (`chosen` and `rejected`) gives shapes and
            is otherwise not read: pass for example those of the policy that sampled.
        drive: as in `objective(…)`.
        counts: as in `objective(…)`.
        bias: `(vocabulary,)`.
        temperature: what the logits are divided by. > 0.
        softcap: bound of the logits' absolute value before the temperature. > 0; None: no bound.

    Returns:
        `Outcome` of all rows. `loss` has the gradient; with three products its terms are values, and the gradient can
        be taken once.

    Raises:
        ValueError: shapes, types or values do not fit, or the batch holds sums over responses.
        RuntimeError: the gradient is taken twice, or differentiated again.

    >>> import torch, geomalign as ga
    >>> hidden, weight = torch.randn(4, 3, 8, requires_grad=True), torch.randn(10, 8, requires_grad=True)
    >>> targets, old = torch.ones(4, 3, dtype=torch.long), torch.full((4, 3), -2.3)
    >>> batch = ga.Batch(old, old, reward=torch.tensor([1.0, 0.0, 0.0, 1.0]))
    >>> outcome = ga.ops.fused_objective(ga.recipes.opo(), hidden, weight, targets, batch)
    >>> outcome.loss.backward()
    >>> weight.grad.shape
    torch.Size([10, 8])
    """
    typed("fused_objective", "objective", objective, BaseObjective, "A name becomes one by ga.recipes.get(name).")
    head = _head("fused_objective", hidden, weight, targets, bias, temperature, softcap)
    layout = Layout.of(batch, hidden, targets, objective.needs_observations)
    h, y = _kept(hidden.flatten(0, -2), layout.kept), _kept(targets.flatten(), layout.kept).long()
    _in_vocabulary("fused_objective", y, weight)
    parts = None
    if torch.is_grad_enabled() and (_needs(weight) or _needs(bias)) and h.dtype != torch.float16:
        # In float16 a gradient that no GradScaler has scaled yet would vanish; four products are scaled in time.
        parts = layout.parts(objective, kept_rows(head, h))
    if parts is None:
        (log_probs,) = tiled(h, y, head, False)
        return objective(layout.batch_with(_placed(log_probs, layout.kept, targets.shape)), drive=drive, counts=counts)
    counts = batch.counts() if counts is None else counts
    known = TileGradients(objective, layout, drive, counts, accumulation_dtype(h, weight))
    needs = (_needs(h), _needs(weight), _needs(bias))
    with torch.no_grad(), exact(h):
        log_probs, gradients = fold_and_keep(head, h, y, parts, known, needs)
        policy = layout.batch_with(_placed(log_probs, layout.kept, targets.shape))
        outcome = objective(policy, drive=known.drive, counts=known.counts)
    outcome.loss = Known.apply(outcome.loss, h, weight, bias, gradients)
    return outcome


def _head(
    owner: str,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    temperature: float,
    softcap: float | None,
) -> Head:
    """The head, once all shapes and types have been checked."""
    for name, x in (("hidden", hidden), ("weight", weight), ("targets", targets)):
        typed(owner, name, x, Tensor, "The order is hidden, weight, targets.")
    for name, given in (("hidden", hidden), ("weight", weight), ("bias", bias)):
        if given is not None and not given.is_floating_point():
            raise ValueError(
                f"`{name}` of {owner} has dtype {given.dtype}; it is floating point. Tokens are the third argument."
            )
    if weight.ndim != 2 or hidden.ndim < 2 or hidden.shape[-1] != weight.shape[-1] or not weight.shape[0]:
        raise ValueError(
            f"`hidden` of {owner} is {tuple(hidden.shape)} and `weight` {tuple(weight.shape)}; expected (…, hidden) "
            "and (vocabulary, hidden). Pass the last hidden states, not logits, and the weight as nn.Linear holds it."
        )
    if targets.shape != hidden.shape[:-1]:
        raise ValueError(
            f"`targets` of {owner} is {tuple(targets.shape)} but `hidden` is {tuple(hidden.shape)}; every hidden state "
            "has one target. Usually one of the two was not shifted by one token."
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise ValueError(f"`targets` of {owner} has dtype {targets.dtype}; it holds integer token ids.")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"`bias` of {owner} is {tuple(bias.shape)}, but the vocabulary of `weight` has {weight.shape[0]} tokens: "
            f"expected {tuple(weight.shape[:1])}."
        )
    positive(owner, "what the logits are divided by", temperature=temperature)
    if softcap is not None:
        positive(owner, "or None for no bound", softcap=softcap)
    return Head(weight, bias, float(temperature), softcap)


def _in_vocabulary(owner: str, targets: Tensor, weight: Tensor) -> None:
    if targets.numel():
        low, high = torch.stack(targets.aminmax()).tolist()
        if low < 0 or high >= weight.shape[0]:
            raise ValueError(
                f"`targets` of {owner} lie in [{low}, {high}], but the vocabulary is [0, {weight.shape[0] - 1}]. "
                "Labels of −100 mark positions that do not count: leave them out with a mask."
            )


def _needs(x: Tensor | None) -> bool:
    return x is not None and x.requires_grad


def _kept(x: Tensor, kept: Tensor | None) -> Tensor:
    return x if kept is None else x.index_select(0, kept)


def _placed(x: Tensor, kept: Tensor | None, shape: torch.Size) -> Tensor:
    """The values of the positions that were kept, in the shape of all, zero elsewhere."""
    return x.view(shape) if kept is None else x.new_zeros(shape.numel()).index_copy(0, kept, x).view(shape)
