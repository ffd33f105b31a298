"""How a figure is measured: methods alternate in one process, and each has its peak of memory in a fresh one."""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._dynamo import config as dynamo
from torch._inductor.compile_fx import compile_fx

Methods = Mapping[str, Callable[[], Any]]
"""Name → one evaluation; what it returns lives until the clock has been read."""

ALL = ("all methods",)


@dataclass(frozen=True)
class Case:
    """Methods that compute the same on the same data.

    Args:
        name: what is computed.
        size: of the data, by name; `make(**size)` makes the methods.
        make: size → methods. Nothing heavy happens before a method is called.
        seconds: after which no further round begins.
        rounds: at least and at most. An even number gives each method each place in a round equally often.
        per: what a time is divided by in the page, such as tokens.
        memory: methods whose peak is measured too, each in a process of its own; `ALL` of them.
        warm: the size of the call before the first round, where one of the full size takes long. None: the full size.
        both: whether it is also run on all threads.
        agree: the largest relative difference between the results of two methods; infinite where they compute different
            things.
        timed: size → the seconds that `alternate` returns, where the methods cannot be called one by one.
    """

    name: str
    size: Mapping[str, int]
    make: Callable[..., Methods]
    seconds: float
    rounds: tuple[int, int] = (5, 41)
    per: int = 1
    memory: Sequence[str] = ()
    warm: Mapping[str, int] | None = None
    both: bool = False
    agree: float = 1e-3
    timed: Callable[..., dict[str, dict[str, list[float]]]] | None = None

    @property
    def key(self) -> str:
        return " ".join([self.name, *(f"{name}={value}" for name, value in self.size.items())])


def alternate(methods: Methods, seconds: float, rounds: tuple[int, int]) -> dict[str, dict[str, list[float]]]:
    """Seconds of every method in every round, on the wall clock and of the process on all its threads.

    A round calls every method, forwards or backwards in turn, and short ones so often that the clock's resolution does
    not matter.

    Args:
        methods: warm already.
        seconds: after which no further round begins.
        rounds: at least and at most.
    """
    inner = {name: _repeats(call) for name, call in methods.items()}
    found: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "wall": []} for name in methods}
    names, began = list(methods), time.perf_counter()
    for number in range(rounds[1]):
        if number >= rounds[0] and time.perf_counter() - began > seconds:
            break
        for name in names if number % 2 == 0 else reversed(names):
            call, repeats = methods[name], inner[name]
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                kept = call()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            del kept
            found[name]["cpu"].append(cpu / repeats)
            found[name]["wall"].append(wall / repeats)
    return found


def _repeats(call: Callable[[], Any], enough: float = 5e-3) -> int:
    """How many calls take five milliseconds; one where a call takes longer."""
    began = time.perf_counter()
    call()
    return max(1, round(enough / max(time.perf_counter() - began, 1e-7)))


def status(key: str) -> float:
    """A size in MiB of /proc/self/status, such as `VmHWM`, the largest resident set."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key + ":")) / 1024


def peak(call: Callable[[], Any]) -> float:
    """MiB that the resident set grows by at most during one call, the results included.

    The kernel's high-water mark is set back before. In a process whose allocator returns what is freed
    (`MALLOC_MMAP_THRESHOLD_`, see `FRESH`) it counts everything: tensors, scratch space of libraries, the heap.
    """
    gc.collect()
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    before = status("VmRSS")
    kept = call()
    found = status("VmHWM") - before
    del kept
    return max(found, 0.0)


FRESH = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}
"""The environment of a process whose memory is measured. glibc otherwise keeps freed blocks of up to 32 MiB, and a
call that takes them again would seem to need nothing."""


class Compiled:
    """A compiled function that fails where Dynamo gives up, or compiles more often than there are shapes.

    torch.compile runs uncompiled, with a log line, what it has recompiled eight times; a benchmark would not notice.
    """

    def __init__(self, function: Callable[..., Any], name: str, compiler: Callable[..., Any] = compile_fx):
        self.name, self.compiler, self.graphs, self.shapes = name, compiler, 0, set[Any]()
        dynamo.fail_on_recompile_limit_hit = True
        self.call = torch.compile(function, backend=self._backend, fullgraph=True, dynamic=False)

    def _backend(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return self.compiler(graph, inputs)

    def __call__(self, *tensors: Tensor) -> Any:
        self.shapes.add(tuple((x.shape, x.dtype, x.requires_grad) for x in tensors))
        result = self.call(*tensors)
        if self.graphs != len(self.shapes):
            raise RuntimeError(
                f"{self.name} was compiled {self.graphs} times for {len(self.shapes)} shapes: Dynamo recompiles "
                "what it has, or has given up. A time of it would not be that of compiled code."
            )
        return result


def installed(*packages: str) -> bool:
    """Whether all of these can be imported. Peers that cannot are left out, which only `--preset quick` allows."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


def disagreement(methods: Methods) -> dict[str, float]:
    """The relative difference of every method's gradients from those of the first, in the Euclidean norm; a method may
    return fewer of them.
    """
    found: dict[str, float] = {}
    first: list[Tensor] = []
    for name, call in methods.items():
        result = [x.detach().double() for x in call()]
        first = first or result
        found[name] = max(float((x - y).norm() / max(float(y.norm()), 1e-30)) for x, y in zip(result, first))
    return found
