"""What a mean over a whole batch is divided by."""

from __future__ import annotations

import dataclasses

from torch import Tensor

__all__ = ["Counts"]


@dataclasses.dataclass(frozen=True)
class Counts:
    """How much a whole batch holds: what a mean is divided by, so that its parts add up to the whole.

    `batch.counts()` counts one batch, and `+` adds the counts of micro-batches or ranks. Each number is a 0-dim tensor:
    a distributed run sums all of them with one all-reduce and does not synchronise with the host.

    Args:
        tokens: number of unmasked tokens.
        sequences: number of rows with at least one unmasked token.
        pairs: number of pairs whose two responses both have at least one unmasked token; zero for a `Batch`.
        rows: number of all rows, counting those without a token.
        lengths: `(row,)` numbers of tokens of all rows, for measures that compare them (`PromptMean`). None of pairs,
            and in a sum of counts, of which nobody knows whether equal ids are one prompt.
        prompts: `(row,)` integers, the prompt that each of these rows answers; None: all the same one.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(4, 3), None)
    >>> int((batch[:1].counts() + batch[1:].counts()).tokens)
    12
    """

    tokens: Tensor
    sequences: Tensor
    pairs: Tensor
    rows: Tensor
    lengths: Tensor | None = None
    prompts: Tensor | None = None

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(*(a + b for a, b in zip(self.astuple(), other.astuple(), strict=True)))

    def __radd__(self, other: int) -> Counts:
        return self if other == 0 else NotImplemented

    def astuple(self) -> tuple[Tensor, ...]:
        """The four numbers in field order, to stack for an all-reduce; `Counts(*counts)` is the way back."""
        return (self.tokens, self.sequences, self.pairs, self.rows)
