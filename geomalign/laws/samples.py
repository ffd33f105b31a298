"""Batches that contain every irregularity at once, on which laws are checked."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch


def sample_mask(rows: int = 6, tokens: int = 5, seed: int = 0) -> Tensor:
    """`(row, token)` booleans with gaps inside rows; every row has its first token but the last, which has none.

    >>> import geomalign as ga
    >>> ga.laws.sample_mask(3, 4).int().tolist()
    [[1, 0, 1, 0], [1, 0, 1, 1], [0, 0, 0, 0]]
    """
    return _ragged(rows, tokens, torch.Generator().manual_seed(seed))


def _ragged(rows: int, tokens: int, generator: torch.Generator) -> Tensor:
    mask = torch.rand(rows, tokens, generator=generator, dtype=torch.float64) < 0.7
    mask[:, 0] = True
    mask[-1] = False
    return mask


def sample_batch(rows: int = 8, tokens: int = 6, seed: int = 0, *, dtype: torch.dtype = torch.float64) -> Batch:
    """A ragged batch with every field but `rewards`: groups of different sizes in mixed order, one of a single row, and
    a last row without tokens. The policy has a gradient.

    Args:
        rows: number of responses.
        tokens: width of the batch.
        seed: of the generator.
        dtype: of the floating fields, which are the same numbers in every dtype up to rounding.

    >>> import geomalign as ga
    >>> batch = ga.laws.sample_batch()
    >>> batch.size, batch.group.tolist(), batch.support.sum(-1).tolist()
    (8, [5, 2, 5, 2, 2, 9, 5, 5], [3, 5, 5, 2, 5, 6, 6, 0])
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    policy = -noise(rows, tokens).abs()
    mask = _ragged(rows, tokens, generator)
    group = torch.tensor([5, 2, 5, 2, 2, 9, 5, 5]).repeat(math.ceil(rows / 8))[:rows]
    old, reference, behavior = (policy - 0.3 * noise(rows, tokens) for _ in range(3))
    reward, advantage = noise(rows), noise(rows)
    return Batch(
        policy.clone().requires_grad_(),
        old,
        mask,
        reward=reward,
        advantage=advantage,
        reference=reference,
        group=group,
        behavior=behavior,
        observation_mask=~mask & (torch.rand(rows, tokens, generator=generator) < 0.5),
    )


def sample_pairs(
    pairs: int = 6, tokens: int = 5, seed: int = 0, *, dtype: torch.dtype = torch.float64
) -> PreferenceBatch:
    """Ragged preference pairs with references and margins, padded to different widths; the last pair lacks its
    rejected response. The policy's fields have gradients. Arguments as of `sample_batch`; the rejected responses are
    two tokens wider.

    >>> import geomalign as ga
    >>> batch = ga.laws.sample_pairs()
    >>> batch.size, batch.chosen.shape, batch.rejected.shape, batch.rejected_mask.any(-1).tolist()
    (6, torch.Size([6, 5]), torch.Size([6, 7]), [True, True, True, True, True, False])
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    chosen, rejected = -noise(pairs, tokens).abs(), -noise(pairs, tokens + 2).abs()
    chosen_mask, rejected_mask = _ragged(pairs, tokens, generator), _ragged(pairs, tokens + 2, generator)
    chosen_mask[-1] = True
    return PreferenceBatch(
        chosen.clone().requires_grad_(),
        rejected.clone().requires_grad_(),
        chosen - 0.3 * noise(*chosen.shape),
        rejected - 0.3 * noise(*rejected.shape),
        chosen_mask,
        rejected_mask,
        margin=noise(pairs),
    )
