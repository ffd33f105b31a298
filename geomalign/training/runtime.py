"""The clock of a run, its memory, and the signals that stop it."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch

from geomalign import distributed
from geomalign.training.events import Interrupted
from geomalign.training.policy import Placement


class Clock:
    """Seconds of the parts of a step; parts may be nested.

    On a CUDA device a part begins and ends with events in its stream, which are read at the end of the step. So the
    host waits for the device no more often than without a clock.

    >>> clock = Clock(Placement())
    >>> with clock.timed("loss"):
    ...     pass
    >>> list(clock.read())
    ['loss']
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._device = torch.device(placement.device)
        self._spans: list[tuple[str, Any, Any]] = []

    def restart(self) -> None:
        """Begin a step."""
        self._spans = []
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the time of a block as `part` of the step."""
        began = self._now()
        yield
        self._spans.append((part, began, self._now()))

    def read(self) -> dict[str, float]:
        """Seconds of every part since `restart`."""
        self._placement.synchronize()
        seconds: dict[str, float] = {}
        for part, began, ended in self._spans:
            took = ended - began if isinstance(began, float) else began.elapsed_time(ended) / 1e3
            seconds[part] = seconds.get(part, 0.0) + took
        return seconds

    def memory(self) -> float:
        """MiB: the most that tensors took on the CUDA device since `restart`; else the most the process ever took (0
        on Windows, which does not say).
        """
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        if sys.platform == "win32":
            return 0.0
        import resource

        unit = 1 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


class Stop:
    """Inside its block the first SIGINT or SIGTERM is remembered; a second SIGINT raises `KeyboardInterrupt` at once.

    Signals are caught in the main thread only; elsewhere the block changes nothing.

    >>> with Stop() as stop:
    ...     bool(stop)
    False
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # A process told to ignore Ctrl-C, as a worker is, keeps ignoring it.
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True

    def __bool__(self) -> bool:
        return self._asked

    def anywhere(self) -> bool:
        """Whether a signal came to any process; all get the same answer, so that they stop after the same step."""
        return bool(distributed.largest(torch.tensor(int(self._asked))))

    def check(self) -> None:
        """Raise `Interrupted` if a signal came; call it after everything is saved."""
        if self._asked:
            raise Interrupted
