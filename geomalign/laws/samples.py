"""Batches that try everything, to check a law on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch
from geomalign.laws.checking import ragged


def sample_batch(rows: int = 8, tokens: int = 6, seed: int = 0, *, dtype: torch.dtype = torch.float64) -> Batch:
    """A ragged batch that tries everything: groups of different sizes in mixed order, one of a single row, a row
    without tokens.

    It has a policy with gradient, anchor, reference, behavior, mask, reward, advantage and group.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    policy = -noise(rows, tokens).abs()
    mask = ragged(rows, tokens, generator)
    group = torch.tensor([5, 2, 5, 2, 2, 9, 5, 5]).repeat(math.ceil(rows / 8))[:rows]
    anchor, reference, behavior = (policy - 0.3 * noise(rows, tokens) for _ in range(3))
    return Batch(
        policy.clone().requires_grad_(),
        anchor,
        mask,
        reward=noise(rows),
        advantage=noise(rows),
        reference=reference,
        group=group,
        behavior=behavior,
    )


def sample_pairs(
    pairs: int = 6, tokens: int = 5, seed: int = 0, *, dtype: torch.dtype = torch.float64
) -> PreferenceBatch:
    """Ragged preference pairs with references and margins, padded to different widths; one pair lacks its rejected
    response.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    chosen, rejected = -noise(pairs, tokens).abs(), -noise(pairs, tokens + 2).abs()
    chosen_mask, rejected_mask = ragged(pairs, tokens, generator), ragged(pairs, tokens + 2, generator)
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
