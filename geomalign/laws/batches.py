"""Random ragged batches on which objectives are compared with other implementations of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch

__all__ = ["FAMILIES", "GROUP_FAMILIES", "PAIR_FAMILIES", "as_text", "pairs", "rollouts"]

SIZES = (5, 4, 3)
WIDTH = 7

_SURE = -0.05
"""The largest log-probability: nearer to zero, a softmax in float32 rounds 1 − p to a few digits."""


def _log_probs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Log-probabilities of sampled tokens: most below a nat, a few of several."""
    return _SURE - torch.empty(shape, dtype=torch.float64).exponential_(0.8, generator=generator)


def _moved(base: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    """`base` moved by about `spread` nats per token, still a log-probability."""
    step = spread * torch.randn(base.shape, dtype=base.dtype, generator=generator)
    return (base + step).clamp(max=_SURE)


def rollouts(seed: int = 0, spread: float = 0.35, dtype: torch.dtype = torch.float64) -> Batch:
    """Twelve responses of one to seven tokens to three prompts, in random order, padded on the right with arbitrary
    numbers.

    Args:
        seed: of the generator.
        spread: standard deviation of the log-ratio of a token, in nats; 0.35 puts about half of the ratios outside
            1 ± 0.2.
        dtype: of every floating field.

    >>> batch = rollouts()
    >>> batch.size, batch.group.bincount().tolist()
    (12, [5, 4, 3])
    """
    generator = torch.Generator().manual_seed(seed)
    rows = sum(SIZES)
    group = torch.cat([torch.full((n,), i) for i, n in enumerate(SIZES)])[torch.randperm(rows, generator=generator)]
    length = torch.randint(1, WIDTH + 1, (rows,), generator=generator)
    length[int(torch.randint(rows, (1,), generator=generator))] = WIDTH
    old = _log_probs((rows, WIDTH), generator)
    batch = Batch(
        policy=_moved(old, spread, generator),
        old=old,
        mask=torch.arange(WIDTH) < length[:, None],
        reward=torch.randn(rows, dtype=torch.float64, generator=generator),
        reference=_moved(old, 0.5, generator),
        group=group,
        behavior=_moved(old, 0.1, generator),
    )
    return _cast(batch, dtype)


def pairs(seed: int = 0, spread: float = 0.35, dtype: torch.dtype = torch.float64) -> PreferenceBatch:
    """Six pairs of responses of one to seven tokens, padded on the right with arbitrary numbers. Arguments as of
    `rollouts`.

    >>> pairs().chosen_mask.sum(-1).tolist(), pairs().rejected_mask.sum(-1).tolist()
    ([5, 7, 1, 3, 2, 3], [7, 2, 3, 7, 7, 5])
    """
    generator = torch.Generator().manual_seed(seed)
    count = 6
    sides: dict[str, Tensor] = {}
    for name in ("chosen", "rejected"):
        length = torch.randint(1, WIDTH + 1, (count,), generator=generator)
        length[int(torch.randint(count, (1,), generator=generator))] = WIDTH
        reference = _log_probs((count, WIDTH), generator)
        sides[name] = _moved(reference, spread, generator)
        sides[f"reference_{name}"] = reference
        sides[f"{name}_mask"] = torch.arange(WIDTH) < length[:, None]
    return _cast(PreferenceBatch(**sides), dtype)


def _cast(batch: Batch | PreferenceBatch, dtype: torch.dtype):  # type: ignore[no-untyped-def]
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor) and value.is_floating_point():
            changed[field.name] = value.to(dtype)
    return dataclasses.replace(batch, **changed)


def _holes(batch: Batch) -> Batch:
    """Tokens masked inside a response, as the output of tools is."""
    mask = batch.support.clone()
    mask[::2, 1] = False
    return dataclasses.replace(batch, mask=mask)


def _empty(batch: Batch) -> Batch:
    """One response without a token, as a truncated one under overlong filtering."""
    mask = batch.support.clone()
    mask[1] = False
    return dataclasses.replace(batch, mask=mask)


def _far(batch: Batch) -> Batch:
    """First tokens 25 nats from π_old, up in even rows and down in odd ones."""
    policy, old = batch.policy.clone(), batch.require("old", "far").clone()
    policy[::2, 0], old[::2, 0] = -0.25, -25.25
    policy[1::2, 0], old[1::2, 0] = -25.25, -0.25
    return dataclasses.replace(batch, policy=policy, old=old)


def _alone(batch: Batch) -> Batch:
    """One prompt with a single response."""
    group = batch.require("group", "alone").clone()
    group[0] = 99
    return dataclasses.replace(batch, group=group)


def _tied(batch: Batch) -> Batch:
    """One prompt whose responses have equal rewards."""
    group, reward = batch.require("group", "tied"), batch.require("reward", "tied")
    return dataclasses.replace(batch, reward=torch.where(group == 0, torch.full_like(reward, 0.7), reward))


def _empty_pair(batch: PreferenceBatch) -> PreferenceBatch:
    """One pair whose rejected response has no token."""
    mask = batch.rejected_mask
    assert mask is not None
    return dataclasses.replace(batch, rejected_mask=mask & (torch.arange(batch.size) != 1)[:, None])


def _far_pairs(batch: PreferenceBatch) -> PreferenceBatch:
    """First tokens of the chosen response 25 nats from the reference, up in even pairs and down in odd ones."""
    chosen, reference = batch.chosen.clone(), batch.reference_chosen
    assert reference is not None
    reference = reference.clone()
    chosen[::2, 0], reference[::2, 0] = -0.25, -25.25
    chosen[1::2, 0], reference[1::2, 0] = -25.25, -0.25
    return dataclasses.replace(batch, chosen=chosen, reference_chosen=reference)


FAMILIES: dict[str, Callable[[torch.dtype], list[Batch]]] = {
    "ragged": lambda dtype: [rollouts(seed, dtype=dtype) for seed in (0, 1)],
    "wide": lambda dtype: [rollouts(7, 1.5, dtype)],
    "holes": lambda dtype: [_holes(rollouts(2, dtype=dtype))],
    "empty": lambda dtype: [_empty(rollouts(3, dtype=dtype))],
    "far": lambda dtype: [_far(rollouts(4, dtype=dtype))],
}
"""Families of rollouts: `ragged` decides whether two objectives are the same, the others are where implementations
differ.

`wide`: log-ratios of one or two nats; `holes`: masked tokens inside responses; `empty`: a response without tokens;
`far`: tokens 25 nats from π_old.
"""

PAIR_FAMILIES: dict[str, Callable[[torch.dtype], list[PreferenceBatch]]] = {
    "ragged": lambda dtype: [pairs(seed, dtype=dtype) for seed in (0, 1)],
    "wide": lambda dtype: [pairs(7, 1.5, dtype)],
    "empty": lambda dtype: [_empty_pair(pairs(3, dtype=dtype))],
    "far": lambda dtype: [_far_pairs(pairs(4, dtype=dtype))],
}
"""The same for pairs."""

GROUP_FAMILIES: dict[str, Callable[[torch.dtype], list[Batch]]] = {
    "ragged": FAMILIES["ragged"],
    "alone": lambda dtype: [_alone(rollouts(5, dtype=dtype))],
    "tied": lambda dtype: [_tied(rollouts(6, dtype=dtype))],
    "empty": FAMILIES["empty"],
}
"""Families for advantage estimators."""


def as_text(batch: Batch | PreferenceBatch) -> str:
    """A batch as Python literals, one field per line, without the fields that are None.

    >>> import torch, geomalign as ga
    >>> print(as_text(ga.Batch(torch.tensor([[-1.0, -2.0]]), None, reward=torch.tensor([0.25]))))
    policy               [[-1.0, -2.0]]
    reward               [0.25]
    """
    lines = []
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            numbers = value.int().tolist() if value.dtype == torch.bool else _rounded(value.tolist())
            lines.append(f"{field.name:20s} {numbers}")
    return "\n".join(lines)


def _rounded(numbers: Any) -> Any:
    if isinstance(numbers, list):
        return [_rounded(x) for x in numbers]
    return float(f"{numbers:.4g}") if isinstance(numbers, float) else numbers
