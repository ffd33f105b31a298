"""How the tokens of a batch fall into tiles, and the objective's gradient at the tokens of one tile."""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import Tensor

from geomalign._util.types import Locality
from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.objective import BaseObjective, TermDrives

__all__ = ["Layout", "TileGradients"]


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of a batch lie among the rows of hidden states, and how they fall into responses or pairs.

    Args:
        batch: the batch.
        support: `(row, token)` of `batch.rows`, the tokens that exist.
        kept: positions of these tokens, flat, the responses of a pair beside each other; None: all, in order.
    """

    batch: Batch | PreferenceBatch
    support: Tensor
    kept: Tensor | None

    @classmethod
    def of(cls, batch: Batch | PreferenceBatch, hidden: Tensor, targets: Tensor, observations: bool) -> Layout:
        if not isinstance(batch, (Batch, PreferenceBatch)):
            raise TypeError(f"fused_objective takes a Batch or a PreferenceBatch, not {type(batch).__name__}.")
        if batch.summed:
            raise ValueError(
                "this batch holds sums over responses, `(row,)`; fused_objective makes log-probabilities of tokens: "
                "pass (row, token) log-probabilities with a mask."
            )
        rows = batch.rows
        if hidden.ndim != 3 or targets.shape != rows.policy.shape:
            hint = " Of pairs: first the chosen, then the rejected responses, padded to one length."
            raise ValueError(
                f"`hidden` is {tuple(hidden.shape)} and `targets` {tuple(targets.shape)}, but the batch has "
                f"{tuple(rows.policy.shape)} tokens (row, token): expected (row, token, hidden) and (row, token)."
                + hint
                * batch.paired
            )
        support = rows.support | rows.observed if observations else rows.support
        if rows.mask is None and not batch.paired:
            return cls(batch, support, None)
        # Row-major positions, of pairs with the two responses of each beside each other.
        positions = torch.arange(support.numel(), device=support.device).view(support.shape)
        return cls(batch, support, cls.beside(positions, batch)[cls.beside(support, batch)])

    @staticmethod
    def beside(rows: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        """`(row, token)` with the two responses of each pair beside each other."""
        return torch.stack(rows.chunk(2), 1).flatten(0, 1) if batch.paired else rows

    def parts(self, objective: BaseObjective, most: int) -> list[slice] | None:
        """Slices of the kept tokens, each at most so long, at each of whose tokens the gradient follows from the slice
        alone; None if there are none.
        """
        count = self.support.numel() if self.kept is None else len(self.kept)
        if count <= most:
            return [slice(0, count)] if count else None
        if not all(term.measure.rowwise for _, term in objective.terms):
            return None
        locality = objective.locality
        if locality <= Locality.TOKEN:
            return [slice(start, min(start + most, count)) for start in range(0, count, most)]
        if locality > Locality.GROUP or (locality == Locality.GROUP and not self.batch.paired):
            return None
        ends = self.ends()
        if max(stop - start for start, stop in itertools.pairwise(ends)) > most:
            return None
        edges = [0]
        for stop, following in itertools.pairwise([*ends[1:], count + most + 1]):
            if following - edges[-1] > most:
                edges.append(stop)
        return [slice(*edge) for edge in itertools.pairwise(edges)]

    def ends(self) -> list[int]:
        """0, and how many tokens are kept up to the end of each response or pair."""
        lengths = self.beside(self.support, self.batch).sum(1).view(self.batch.size, -1).sum(1)
        return [0, *lengths.cumsum(0).tolist()]

    def batch_with(self, policy: Tensor) -> Batch | PreferenceBatch:
        """The batch with these log-probabilities of `batch.rows`."""
        if isinstance(self.batch, Batch):
            return dataclasses.replace(self.batch, policy=policy)
        chosen, rejected = policy.chunk(2)
        chosen, rejected = chosen[:, : self.batch.chosen.shape[1]], rejected[:, : self.batch.rejected.shape[1]]
        return dataclasses.replace(self.batch, chosen=chosen, rejected=rejected)


class TileGradients:
    """∂L/∂log π at the tokens of one tile, from the rows or pairs that they belong to."""

    def __init__(
        self,
        objective: BaseObjective,
        layout: Layout,
        drive: Tensor | TermDrives | None,
        counts: Counts,
        dtype: torch.dtype,
    ) -> None:
        self.objective, self.layout, self.counts = objective, layout, counts
        self.ends = torch.tensor(layout.ends()[1:])
        self.policy = torch.zeros_like(layout.support, dtype=dtype)
        self.drive = drive

    def __call__(self, rows: slice, log_prob: Tensor) -> Tensor:
        layout, batch = self.layout, self.layout.batch
        kept = slice(rows.start, rows.stop) if layout.kept is None else layout.kept[rows]
        self.policy.view(-1)[kept] = log_prob
        if log_prob.numel() == self.ends[-1]:
            here = slice(0, batch.size)
            now = layout.batch_with(self.policy)
        else:
            first, last = torch.searchsorted(self.ends, torch.tensor([rows.start, rows.stop - 1]), right=True).tolist()
            here = slice(first, last + 1)
            if self.drive is None:
                self.drive = self.objective.drive(batch)
            now = layout.batch_with(self.policy)
            # The drive has taken from the groups what it needs, and parts of groups may have no valid size.
            now = (dataclasses.replace(now, group=None) if isinstance(now, Batch) else now)[here]
        drive = None if self.drive is None else self.drive[here]
        found = self.objective.gradient(now, drive=drive, counts=self.counts)
        gradient = torch.zeros_like(self.policy)
        if isinstance(found, Tensor):
            gradient[here] = found.to(gradient.dtype)
        else:
            for side, part in zip(gradient.chunk(2), found):
                side[here, : part.shape[1]] = part.to(gradient.dtype)
        return gradient.view(-1)[kept]
