"""The batch that all processes hold together: its rows, its counts and its drive."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.distributed.ranks import everyone, rank, summed, together, world_size
from geomalign.objective import BaseObjective, TermDrives

__all__ = ["Gathered", "counts", "drive", "gather"]


class Gathered(NamedTuple):
    """All ranks' rows in rank order, and which of them are this rank's: `drive = objective.drive(batch)[rows]`.

    >>> gather(Batch(torch.zeros(2, 3), None)).rows
    slice(0, 2, None)
    """

    batch: Any
    rows: slice


def counts(batch: Batch | PreferenceBatch, process_group: Any = None, *, lengths: bool = False) -> Counts:
    """What the batches of all ranks hold together: `batch.counts()`, summed in one all-reduce of four integers.

    Args:
        batch: this rank's rows.
        process_group: as of `gather`.
        lengths: whether to gather the length and the prompt of every row as well, which measures such as `PromptMean`
            need (`measure.needs_lengths`). Equal ids of different ranks are then one prompt.

    >>> int(counts(Batch(torch.zeros(2, 3), None)).tokens)
    6
    """
    own = batch.counts()
    if world_size(process_group) == 1:
        return own
    total = Counts(*summed(torch.stack(own.astuple()), process_group).unbind())
    if not lengths or own.lengths is None:
        return total
    whole = gather(Batch(own.lengths.double(), group=own.prompts), process_group).batch
    return dataclasses.replace(total, lengths=whole.policy.long(), prompts=whole.group)


def gather(batch: Batch | PreferenceBatch, process_group: Any = None, *, local_groups: bool = False) -> Gathered:
    """The batch that all ranks hold together, padded to the longest response.

    This rank's rows keep their gradient, the others' have none. A loss evaluated on the result therefore has the exact
    gradient in this rank's rows, whatever the objective's locality (even one that sorts the batch), without a
    collective call in the backward pass. Summed over ranks, the parameters' gradients are those of the whole batch.

    Args:
        batch: this rank's rows; any number of them, none included.
        process_group: the ranks that share the batch; all by default. With tensor or sequence parallelism, the
            data-parallel group.
        local_groups: whether every rank numbers its groups anew, so that equal ids of different ranks are two prompts.

    Raises:
        ValueError: on every rank, where the ranks' batches differ in which tensors they hold, or in their dtypes.

    >>> gather(Batch(torch.zeros(2, 3), None)).batch.size
    2
    """
    batch = _with_masks(batch)
    if world_size(process_group) == 1:
        return Gathered(batch, slice(0, batch.size))
    values: dict[str, Tensor | None] = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    if isinstance(batch, Batch):
        values["group"] = batch.prompt
    widths = {name: x.shape[1] if x is not None and x.ndim == 2 else 0 for name, x in values.items()}
    told = everyone((batch.size, widths, {name: _kind(x) for name, x in values.items()}), process_group)
    _check_kinds([kinds for _, _, kinds in told])
    sizes, me = [rows for rows, _, _ in told], rank(process_group)
    start = sum(sizes[:me])
    whole: dict[str, Any] = dict.fromkeys(values)
    for name, local in values.items():
        if local is None:
            continue
        padded = _pad(local, max(sizes), max(width[name] for _, width, _ in told))
        parts = _all_gather(padded.detach(), process_group)
        rows = [part[:count] for part, count in zip(parts, sizes, strict=True)]
        rows[me] = padded[: sizes[me]]
        if name == "group" and local_groups:
            rows = _disjoint(rows)
        whole[name] = torch.cat(rows)
    return Gathered(type(batch)(**whole), slice(start, start + sizes[me]))


def drive(
    objective: BaseObjective, batch: Batch | PreferenceBatch, process_group: Any = None, *, local_groups: bool = False
) -> Tensor | TermDrives:
    """The drive of this rank's rows, with the group statistics of all ranks: `objective.drive` of the gathered batch.

    It gathers the batch, so call it once per rollout. Arguments as of `gather`.

    >>> import geomalign as ga
    >>> drive(ga.recipes.rloo(), ga.Batch(torch.zeros(2, 3), None, reward=torch.tensor([1.0, 0.0])))
    tensor([ 1., -1.])
    """
    whole, rows = gather(batch, process_group, local_groups=local_groups)
    return objective.drive(whole)[rows]


def _with_masks(batch: Batch | PreferenceBatch) -> Batch | PreferenceBatch:
    """The batch with explicit masks, so that padding to one length adds no tokens."""
    if isinstance(batch, Batch):
        support = batch.support
        return dataclasses.replace(batch, mask=support[:, 0] if batch.summed else support)
    sides = (("chosen_mask", batch.chosen, batch.chosen_mask), ("rejected_mask", batch.rejected, batch.rejected_mask))
    masks = {name: torch.ones_like(x, dtype=torch.bool) if mask is None else mask != 0 for name, x, mask in sides}
    return dataclasses.replace(batch, **masks)


def _kind(x: Tensor | None) -> str:
    return "absent" if x is None else f"{x.ndim}-dimensional {x.dtype}"


def _check_kinds(kinds: list[dict[str, str]]) -> None:
    """Refuse batches of which one rank has another kind of tensor than the others."""
    for name in kinds[0]:
        if len({kind[name] for kind in kinds}) > 1:
            described = ", ".join(f"rank {r}: {kind[name]}" for r, kind in enumerate(kinds))
            raise ValueError(
                f"`{name}` differs between ranks ({described}). A rank without rows passes empty tensors of the same "
                "kind, such as torch.zeros(0, 1), not None."
            )


def _pad(x: Tensor, rows: int, width: int) -> Tensor:
    wider = (0, width - x.shape[1]) if x.ndim == 2 else ()
    return torch.nn.functional.pad(x, (*wider, 0, rows - x.shape[0]))


def _all_gather(x: Tensor, process_group: Any) -> Tensor:
    """`(rank, …)` of tensors of one shape."""
    sent = x.contiguous().view(torch.uint8) if x.dtype is torch.bool else x.contiguous()
    parts = [torch.empty_like(sent) for _ in range(world_size(process_group))]
    with together():
        dist.all_gather(parts, sent, group=process_group)
    return torch.stack(parts).view(x.dtype)


def _disjoint(groups: list[Tensor]) -> list[Tensor]:
    result, offset = [], 0
    for ids in groups:
        if ids.numel():
            ids = ids - ids.min() + offset
            offset = int(ids.max()) + 1
        result.append(ids)
    return result
