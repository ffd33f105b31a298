"""Exactness across processes: the group statistics, drives and normalisers of the batch that all ranks hold together.

An optimiser step over many ranks equals that of one process over all their rows, also with groups split over ranks:

```python
drive = distributed.drive(objective, rollout)                   # once per rollout: statistics of all ranks' groups
counts = distributed.counts(rollout)                            # what the whole batch holds
for rows in micro_batches:
    outcome = objective(score(rows), drive=drive[rows], counts=counts)
    (outcome.loss * distributed.world_size()).backward()        # DDP and FSDP average over ranks, but parts must add up
```

Without an initialised process group every function here is the identity, so that one code path serves one process and
many. All ranks must call in the same order; a rank may hold no row or no valid token. When a rank dies, the next call
of the others raises `RankLost`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as dist

from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.objective import BaseObjective, TermDrives

__all__ = [
    "Gathered",
    "RankLost",
    "counts",
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
    "world_size",
]

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long a rank waits for another one that is alive: as long as the first one may take for the warm start."""


class Gathered(NamedTuple):
    """All ranks' rows in rank order, and which of them are this rank's: `drive = objective.drive(batch)[rows]`.

    >>> gather(Batch(torch.zeros(2, 3), None)).rows
    slice(0, 2, None)
    """

    batch: Any
    rows: slice


class RankLost(RuntimeError):
    """A collective call failed: another process of this run has ended or cannot be reached.

    >>> issubclass(RankLost, RuntimeError)
    True
    """


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """The context of a collective call: the backend's error when another rank is gone becomes `RankLost`."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(
            f"rank {rank()} of {world_size()}: another process of this run has ended or cannot be reached, as its own "
            f"message says, so this one ends too. Checkpoints are complete: start all processes again with --resume. "
            f"[{str(error).splitlines()[0]}]"
        ) from error


def world_size(process_group: Any = None) -> int:
    """Number of ranks that share the batch; 1 where no process group is initialised.

    >>> world_size()
    1
    """
    return dist.get_world_size(process_group) if dist.is_available() and dist.is_initialized() else 1


def rank(process_group: Any = None) -> int:
    """Number of this rank among them; 0 where no process group is initialised.

    >>> rank()
    0
    """
    return dist.get_rank(process_group) if dist.is_available() and dist.is_initialized() else 0


def summed(x: Tensor, process_group: Any = None) -> Tensor:
    """The sum of a tensor over ranks, without gradient: the `reduce=` of trust regions.

    >>> summed(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    return _reduced(x, dist.ReduceOp.SUM, process_group)


def largest(x: Tensor, process_group: Any = None) -> Tensor:
    """The elementwise maximum of a tensor over ranks, without gradient.

    >>> largest(torch.tensor(3))
    tensor(3)
    """
    return _reduced(x, dist.ReduceOp.MAX, process_group)


def sum_gradients(parameters: Iterable[Tensor], process_group: Any = None) -> None:
    """Replace every parameter's gradient by its sum over ranks; a rank that has none adds zero.

    DDP does the same, but demands that every rank makes the same number of backward passes; here a rank without rows
    makes none. Gradients are summed, not averaged, so the loss is not multiplied by the world size.

    >>> sum_gradients(torch.nn.Linear(2, 1).parameters())
    """
    if world_size(process_group) == 1:
        return
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    with _together():
        for work in [dist.all_reduce(p.grad, group=process_group, async_op=True) for p in parameters]:
            work.wait()


def share(count: int, process_group: Any = None) -> slice:
    """This rank's part of `count` things, in rank order; sizes differ by one at most, and may be zero.

    >>> share(10)
    slice(0, 10, None)
    """
    me, size = rank(process_group), world_size(process_group)
    return slice(count * me // size, count * (me + 1) // size)


def everyone(value: T, process_group: Any = None) -> list[T]:
    """The values of all ranks in rank order, on every rank; anything that can be pickled.

    >>> everyone("ready")
    ['ready']
    """
    size = world_size(process_group)
    if size == 1:
        return [value]
    values: list[Any] = [None] * size
    with _together():
        dist.all_gather_object(values, value, group=process_group)
    return values


def on_first(act: Callable[[], T]) -> T:
    """Call `act` on rank 0 alone and return its result on every rank; an exception there is raised on every rank.

    It serves what only one process may do, such as writing a file, or needs to do, such as looking for one.

    >>> on_first(lambda: "done")
    'done'
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
    return cast(T, value)


def launched() -> tuple[int, int]:
    """Rank and world size that a launcher (`torchrun`, `accelerate launch`) gave this process; `(0, 1)` without one.

    >>> launched()
    (0, 1)
    """
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the process group that a launcher describes, and leave it at the end; yields this process's device.

    Tensors on the CPU are exchanged by gloo, those on CUDA devices by NCCL; `"cuda"` becomes the device of the local
    rank. Without a launcher, with one process, or inside an existing process group, nothing is joined.

    >>> with joined("cpu") as device:
    ...     print(device, world_size())
    cpu 1
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
    """What the batches of all ranks hold together: `batch.counts()`, summed in one all-reduce of four integers.

    >>> int(counts(Batch(torch.zeros(2, 3), None)).tokens)
    6
    """
    return Counts(*summed(torch.stack(batch.counts().astuple()), process_group).unbind())


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


def _reduced(x: Tensor, operation: Any, process_group: Any) -> Tensor:
    if world_size(process_group) == 1:
        return x
    x = x.detach().clone()
    with _together():
        dist.all_reduce(x, operation, group=process_group)
    return x


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
