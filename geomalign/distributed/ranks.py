"""The processes of a run: their number, what they exchange, and what happens when one of them ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = [
    "RankLost",
    "everyone",
    "joined",
    "largest",
    "launched",
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


class RankLost(RuntimeError):
    """A collective call failed: another process of this run has ended or cannot be reached.

    >>> issubclass(RankLost, RuntimeError)
    True
    """


@contextlib.contextmanager
def together() -> Iterator[None]:
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
    with together():
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
    with together():
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
    with together():
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


def _reduced(x: Tensor, operation: Any, process_group: Any) -> Tensor:
    if world_size(process_group) == 1:
        return x
    x = x.detach().clone()
    with together():
        dist.all_reduce(x, operation, group=process_group)
    return x
