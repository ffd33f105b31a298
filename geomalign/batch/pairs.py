"""Pairs of responses: what an objective of preferences is evaluated on."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from geomalign._util.tensors import are_log_probs, are_numbers, has_rows, is_like
from geomalign.batch.counts import Counts
from geomalign.batch.fields import as_mask, given, select
from geomalign.batch.responses import Batch

__all__ = ["PreferenceBatch"]


@dataclasses.dataclass(frozen=True, eq=False)
class PreferenceBatch:
    """Pairs of responses to one prompt, of which one is preferred.

    Args:
        chosen: `(pair, token)` log π_θ of the preferred response's tokens in nats, with gradient; `(pair,)` for sums.
        rejected: the same of the other response; its padded length may differ.
        reference_chosen: as `chosen`, under the reference policy. None for methods without a reference.
        reference_rejected: as `rejected`, under the reference policy.
        chosen_mask: `(pair, token)`, true (non-zero) at tokens of the response; None: all of them.
        rejected_mask: the same of the other response.
        margin: `(pair,)`, by how much the chosen response's reward exceeds the other's, where it is known.

    The reference policy is both the `reference` and the `old` of the rows. Indexing selects pairs.

    Raises:
        TypeError: something is no tensor.
        ValueError: shapes or dtypes do not fit, or only one of the two references is given.

    >>> import torch, geomalign as ga
    >>> pairs = ga.PreferenceBatch(torch.zeros(2, 3), torch.zeros(2, 5))
    >>> pairs.size, tuple(pairs.rows.policy.shape)
    (2, (4, 5))
    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None
    chosen_mask: Tensor | None = None
    rejected_mask: Tensor | None = None
    margin: Tensor | None = None

    def __post_init__(self) -> None:
        owner = "PreferenceBatch"
        for name, value in (("chosen", self.chosen), ("rejected", self.rejected)):
            are_log_probs(owner, name, value)
            for other in given(self, f"reference_{name}", f"{name}_mask"):
                is_like(owner, other, getattr(self, other), name, value)
        if self.chosen.ndim != self.rejected.ndim or self.chosen.shape[0] != self.rejected.shape[0]:
            raise ValueError(
                f"`chosen` is {tuple(self.chosen.shape)} but `rejected` is {tuple(self.rejected.shape)}; row i of both "
                "answers prompt i. If the two were concatenated, split them first."
            )
        if (self.reference_chosen is None) != (self.reference_rejected is None):
            raise ValueError(
                "Only one of `reference_chosen` and `reference_rejected` is given; a margin needs both, a "
                "reference-free method neither."
            )
        if self.margin is not None:
            has_rows(owner, "margin", self.margin, self.chosen, tokens=False)
            are_numbers(owner, "margin", self.margin)

    paired = True

    @property
    def size(self) -> int:
        """Number of pairs."""
        return self.chosen.shape[0]

    @property
    def summed(self) -> bool:
        """Whether only sums over responses are known, not the single tokens."""
        return self.chosen.ndim == 1

    @property
    def rows(self) -> Batch:
        """All responses, one per row: the chosen ones, then the rejected ones, padded to one length.

        `reward` is +1 for a chosen and -1 for a rejected response; `group` is the pair.
        """
        mask = reference = None
        if not (self.chosen_mask is None and self.rejected_mask is None and self.chosen.shape == self.rejected.shape):
            sides = ((self.chosen, self.chosen_mask), (self.rejected, self.rejected_mask))
            mask = _stack(*(as_mask(torch.ones_like(x) if kept is None else kept) for x, kept in sides))
        if self.reference_chosen is not None and self.reference_rejected is not None:
            reference = _stack(self.reference_chosen, self.reference_rejected)
        pair = torch.arange(self.size, device=self.chosen.device)
        sign = torch.ones(self.size, dtype=torch.promote_types(self.chosen.dtype, torch.float32), device=pair.device)
        return Batch(
            _stack(self.chosen, self.rejected),
            reference,
            mask,
            reward=torch.cat([sign, -sign]),
            reference=reference,
            group=torch.cat([pair, pair]),
        )

    def require(self, name: str, asked_by: str) -> Tensor:
        """The `margin`; pairs carry no rewards, advantages or groups of their own, and an error says so."""
        if name == "margin" and self.margin is not None:
            return self.margin
        remedy = (
            "Pass the difference of the two responses' rewards as `margin`."
            if name == "margin"
            else "Use sampling=Label(), or pass a Batch with a unit of single responses."
        )
        raise ValueError(
            f"{asked_by} needs `{name}`, but this PreferenceBatch has only log-probabilities of pairs. {remedy}"
        )

    def counts(self) -> Counts:
        """How much this batch holds. Give the sum over all micro-batches and ranks as `counts=` to each of them."""
        rows = self.rows
        chosen, rejected = rows.support.any(-1).chunk(2)
        return dataclasses.replace(rows.counts(), pairs=(chosen & rejected).sum(), lengths=None, prompts=None)

    def __getitem__(self, index: Any) -> PreferenceBatch:
        return select(self, index)


def _stack(chosen: Tensor, rejected: Tensor) -> Tensor:
    """The chosen responses and behind them the rejected ones, padded to one length."""
    if chosen.ndim == 2:
        width = max(chosen.shape[1], rejected.shape[1])
        chosen, rejected = (torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in (chosen, rejected))
    return torch.cat([chosen, rejected])
