"""Exactness across processes: group statistics, drives and normalisers of the batch that all ranks hold together.

An optimiser step over many ranks equals that of one process over all their rows, also with groups split over ranks:

```python
drive = distributed.drive(objective, rollout)                   # once per rollout: statistics of all ranks' groups
counts = distributed.counts(rollout)                            # what the whole batch holds
for rows in micro_batches:
    outcome = objective(score(rows), drive=drive[rows], counts=counts)
    (outcome.loss * distributed.world_size()).backward()        # DDP and FSDP average over ranks, but parts must add up
```

Without an initialised process group every function here is the identity, so one code path serves one process and many.
All ranks must call in the same order; a rank may hold no row or no valid token. A rank that dies ends the others: their
next call raises `RankLost`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.objective import BaseObjective, TermDrives

__all__ = [
    "Gathered",
    "RankLost",
    "drive",
    "everyone",
    "gather",
    "joined",
    "launched",
    "largest",
    "on_first",
    "rank",
    "share",
    "sum_gradients",
    "summed",
    "counts",
    "world_size",
]

T = TypeVar("T")

#: How long a rank waits for another one that is alive: as long as the first one may take for the warm start.
PATIENCE = timedelta(hours=2)

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_DTYPES = (*_FLOATS, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Gathered(NamedTuple):
    """All ranks' rows in rank order, and which of them are this rank's: `drive = objective.drive(batch)[rows]`."""

    batch: Any
    rows: slice


class RankLost(RuntimeError):
    """A collective failed: another process of this run has ended or cannot be reached."""


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """A collective runs inside: what the backend says when a peer is gone becomes `RankLost`."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(
            f"rank {rank()} of {world_size()}: another process of this run has ended or cannot be reached (its own "
            f"message says why), so this one ends too. What was checkpointed is safe: start all again with --resume. "
            f"[{str(error).splitlines()[0]}]"
        ) from error


def world_size(process_group: Any = None) -> int:
    """Number of ranks that share the batch; 1 where no process group is initialised."""
    return dist.get_world_size(process_group) if dist.is_available() and dist.is_initialized() else 1


def rank(process_group: Any = None) -> int:
    """Number of this rank among them; 0 where no process group is initialised."""
    return dist.get_rank(process_group) if dist.is_available() and dist.is_initialized() else 0


def summed(x: Tensor, process_group: Any = None) -> Tensor:
    """The sum of a tensor over ranks, without gradient: the `reduce` of estimators and controllers."""
    if world_size(process_group) == 1:
        return x
    x = x.detach().clone()
    with _together():
        dist.all_reduce(x, group=process_group)
    return x


def largest(x: Tensor, process_group: Any = None) -> Tensor:
    """The elementwise maximum of a tensor over ranks, without gradient."""
    if world_size(process_group) == 1:
        return x
    x = x.detach().clone()
    with _together():
        dist.all_reduce(x, dist.ReduceOp.MAX, group=process_group)
    return x


def sum_gradients(parameters: Iterable[Tensor], process_group: Any = None) -> None:
    """Replace every parameter's gradient by its sum over ranks; a rank that has none adds zero.

    What DDP does, without its demand that every rank makes the same number of backward passes: a rank without rows
    makes none. Summed, not averaged, so the loss is not multiplied by the world size.
    """
    if world_size(process_group) == 1:
        return
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    with _together():
        works = [dist.all_reduce(p.grad, group=process_group, async_op=True) for p in parameters]
        for work in works:
            work.wait()


def share(count: int, process_group: Any = None) -> slice:
    """This rank's part of `count` things, in rank order; sizes differ by one at most, and may be zero."""
    me, size = rank(process_group), world_size(process_group)
    return slice(count * me // size, count * (me + 1) // size)


def everyone(value: T, process_group: Any = None) -> list[T]:
    """The values of all ranks in rank order, on every rank: any that can be pickled."""
    size = world_size(process_group)
    if size == 1:
        return [value]
    values: list[Any] = [None] * size
    with _together():
        dist.all_gather_object(values, value, group=process_group)
    return values


def on_first(act: Callable[[], T]) -> T:
    """What `act` returns on rank 0, on every rank; the others wait, and what it raises there is raised everywhere.

    For what only one process may do (write a file) or needs to (look for one).
    """
    if world_size() == 1:
        return act()
    told: list[Any] = [(None, None)]
    if rank() == 0:
        try:
            told = [(act(), None)]
        except (Exception, KeyboardInterrupt) as error:
            told = [(None, error)]
    with _together():
        dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    value, failure = told[0]
    if failure is not None:
        raise failure
    returned: T = value
    return returned


def launched() -> tuple[int, int]:
    """Rank and world size that a launcher (`torchrun`, `accelerate launch`) gave this process; `(0, 1)` without one."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the process group that a launcher describes, and leave it at the end; yields this process's device.

    gloo for tensors on the CPU, NCCL for those on CUDA devices, where `"cuda"` becomes the device of the local rank.
    Nothing happens without a launcher, with one process, or in a process group that there is already.

    Args:
        device: a torch device.
    """
    kind = torch.device(device)
    if launched()[1] > 1 and kind.type == "cuda" and kind.index is None:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if launched()[1] == 1 or world_size() > 1:
        yield device
        return
    if kind.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def counts(batch: Batch | PreferenceBatch, process_group: Any = None) -> Counts:
    """What the batches of all ranks hold together: `batch.counts()` summed with one all-reduce of four integers."""
    return Counts(*summed(torch.stack(batch.counts().astuple()), process_group).unbind())


def gather(batch: Batch | PreferenceBatch, process_group: Any = None, *, local_groups: bool = False) -> Gathered:
    """The batch that all ranks hold together, padded to the longest response.

    This rank's rows keep their gradient, the others' have none. Of a loss evaluated on the result, every rank therefore
    has the exact gradient in its own rows whatever the objective's locality (even one that sorts the batch), without a
    collective in the backward pass; summed over ranks, the parameters' gradients are the whole batch's.

    Args:
        batch: this rank's rows; any number of them, none included.
        process_group: the ranks that share the batch; all by default. With tensor or sequence parallelism, the
            data-parallel group.
        local_groups: whether every rank numbers its groups anew, so that equal ids of different ranks are two prompts.

    Raises:
        ValueError: on every rank, where the ranks' batches differ in which tensors they hold, or in their dtypes.
    """
    batch = _with_masks(batch)
    size = world_size(process_group)
    if size == 1:
        return Gathered(batch, slice(0, batch.size))
    values = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    device = next(x.device for x in values.values() if x is not None)
    headers = _all_gather(_header(batch.size, values).to(device), process_group).cpu().tolist()
    _check_headers(headers, list(values))
    counts = [header[0] for header in headers]
    me = rank(process_group)
    start = sum(counts[:me])
    whole: dict[str, Any] = {}
    for k, (name, local) in enumerate(values.items()):
        if local is None:
            whole[name] = None
            continue
        width = max(header[2 + 3 * k] for header in headers)
        padded = _pad(local, max(counts), width)
        parts = _all_gather(padded.detach(), process_group)
        rows = [part[:count] for part, count in zip(parts, counts, strict=True)]
        rows[me] = padded[: counts[me]]
        if name == "group" and local_groups:
            rows = _disjoint(rows)
        whole[name] = torch.cat(rows)
    return Gathered(type(batch)(**whole), slice(start, start + counts[me]))


def drive(
    objective: BaseObjective, batch: Batch | PreferenceBatch, process_group: Any = None, *, local_groups: bool = False
) -> Tensor | TermDrives:
    """The drive of this rank's rows, with the group statistics of all ranks: `objective.drive` of the gathered batch.

    Once per rollout: it gathers the batch. Arguments as of `gather`.
    """
    whole, rows = gather(batch, process_group, local_groups=local_groups)
    return objective.drive(whole)[rows]


def _with_masks(batch: Batch | PreferenceBatch) -> Batch | PreferenceBatch:
    """The batch with explicit masks, so that what ranks pad to one length stays absent."""
    if isinstance(batch, Batch):
        support = batch.support
        return dataclasses.replace(batch, mask=support[:, 0] if batch.summed else support)
    sides = (("chosen_mask", batch.chosen, batch.chosen_mask), ("rejected_mask", batch.rejected, batch.rejected_mask))
    masks = {name: torch.ones_like(x, dtype=torch.bool) if mask is None else mask != 0 for name, x, mask in sides}
    return dataclasses.replace(batch, **masks)


def _header(rows: int, values: dict[str, Tensor | None]) -> Tensor:
    """`(1 + 3·fields,)`: the number of rows; of each tensor its ndim (0: absent), its width and its dtype."""
    entries = [rows]
    for x in values.values():
        entries += [0, 0, 0] if x is None else [x.ndim, x.shape[1] if x.ndim == 2 else 0, _DTYPES.index(x.dtype)]
    return torch.tensor(entries)


def _check_headers(headers: list[list[int]], names: list[str]) -> None:
    for k, name in enumerate(names):
        seen = [(header[1 + 3 * k], header[3 + 3 * k]) for header in headers]
        if len(set(seen)) > 1:
            kinds = (f"{ndim}-dimensional {_DTYPES[dtype]}" if ndim else "absent" for ndim, dtype in seen)
            described = ", ".join(f"rank {r}: {kind}" for r, kind in enumerate(kinds))
            raise ValueError(
                f"`{name}` differs between ranks ({described}). A rank without rows passes empty tensors of the same "
                "kind, such as torch.zeros(0, 1), not None."
            )


def _pad(x: Tensor, rows: int, width: int) -> Tensor:
    if x.ndim == 2:
        return torch.nn.functional.pad(x, (0, width - x.shape[1], 0, rows - x.shape[0]))
    return torch.nn.functional.pad(x, (0, rows - x.shape[0]))


def _all_gather(x: Tensor, process_group: Any) -> Tensor:
    """`(rank, …)` of tensors of one shape."""
    sent = x.contiguous().view(torch.uint8) if x.dtype is torch.bool else x.contiguous()
    parts = [torch.empty_like(sent) for _ in range(world_size(process_group))]
    with _together():
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
