"""Worker processes that take one run at a time; the failure of one does not affect the others.

The pools of `pebble` and `concurrent.futures` do not suffice: on SIGTERM every worker must be asked to save at
once and be waited for, as long as writing its checkpoint takes; every step of every run is reported to the parent, by a
pipe of its own, because a worker that is killed while it holds the lock of a shared queue would block the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from geomalign.training.config import from_dict
from geomalign.training.config.settings import TrainConfig
from geomalign.training.events import WARM_START, Event, Interrupted, Progress

#: Seconds that workers get to save after Ctrl-C.
PATIENCE = 120.0

#: The environment of a worker. One thread; and an allocator that keeps its memory: these settings are glibc's, and
#: without them every tensor above 128 KiB may cost a system call and its page faults.
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclasses.dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: str = ""


class Pool:
    """Processes that train one configuration each; a process that dies loses its run only, and is replaced.

    Args:
        count: of the processes. ≥ 1.
        directory: of the comparison.
        progress: called in this process with the events of all workers.
    """

    def __init__(self, count: int, directory: Path, progress: Progress) -> None:
        self._count, self._directory, self._progress = count, directory, progress
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._started = 0

    def __enter__(self) -> Pool:
        self._workers = [self._start() for _ in range(self._count)]
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.pipe.send(None)
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._directory, self._started), daemon=True)
        self._started += 1
        with _child_environment():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def work(self, jobs: Mapping[str, dict[str, Any]], base: Path) -> dict[str, str]:
        """Train all configurations.

        Args:
            jobs: configurations as `to_dict` gives them, by the names of their runs; `"warm start"` makes the base.
            base: directory of the base of all runs.

        Returns:
            the last line of the error of every run that failed, by name.
        """
        waiting, failed = deque(jobs), {}
        while waiting or any(worker.job for worker in self._workers):
            for worker in self._workers:
                if not worker.job and waiting:
                    worker.job = waiting.popleft()
                    worker.pipe.send((worker.job, jobs[worker.job], base))
            ready = wait([worker.pipe for worker in self._workers if worker.job])
            for index, worker in enumerate(self._workers):
                if worker.pipe in ready:
                    message = self._receive(worker)
                    if isinstance(message, Event):
                        self._progress(message)
                        continue
                    if message:
                        failed[worker.job] = message
                        self._progress(Event("failed", worker.job, message=message))
                    worker.job = ""
                    if worker.process.exitcode is not None:
                        self._workers[index] = self._start()
        return failed

    def _receive(self, worker: _Worker) -> Event | str:
        """What the worker says: an event, or at the end of its job the error, which is empty if there was none."""
        try:
            message: Event | str = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            message = f"its process died with exit code {worker.process.exitcode}"
            _note(self._directory, worker.job, message)
        return message

    def interrupt(self) -> None:
        """Ask the workers to save and stop, and wait until they have; a second Ctrl-C stops waiting."""
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + PATIENCE
        for worker in self._workers:
            # Reading keeps a worker from blocking on a full pipe.
            while worker.process.is_alive() and time.monotonic() < deadline:
                with contextlib.suppress(EOFError, OSError):
                    if worker.pipe.poll(0.05):
                        worker.pipe.recv()
                worker.process.join(0.01)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM, which a batch system sends, becomes a KeyboardInterrupt inside.

    >>> with terminable():
    ...     signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    False
    """

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _child_environment() -> Iterator[None]:
    """What a process inherits that is started inside: `ENVIRONMENT`, and that it ignores Ctrl-C, which the parent
    handles.
    """
    settings = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), **ENVIRONMENT}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    here = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if here else None
    try:
        yield
    finally:
        if here:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _note(directory: Path, name: str, text: str) -> None:
    """Keep an error beside the run it belongs to."""
    place = directory if name == WARM_START else directory / "runs" / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "error.txt").write_text(text + "\n", encoding="utf-8")


def _serve(pipe: Connection, directory: Path, number: int) -> None:
    """A worker: take jobs from the pipe until it says None, and report to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch  # the slow imports, while the parent goes on

    from geomalign.training.trainer import train
    from geomalign.training.warmstart import warm_start

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, Interrupted):  # the parent is gone
        while job := pipe.recv():
            name, mapping, base = job
            config = _on_device(from_dict(TrainConfig, mapping), number)
            failure = ""
            try:
                if name == WARM_START:
                    torch.set_num_threads(config.threads)
                    warm_start(config, directory, pipe.send)
                else:
                    train(config, directory / "runs" / name, resume=True, progress=pipe.send, base=base, name=name)
            except (BrokenPipeError, ConnectionResetError):
                raise
            except (Exception, SystemExit) as error:
                _note(directory, name, traceback.format_exc())
                failure = f"{type(error).__name__}: {error}".splitlines()[0]
            pipe.send(failure)


def _on_device(config: TrainConfig, number: int) -> TrainConfig:
    """With several accelerators, the worker's own."""
    if config.device != "cuda":
        return config
    import torch

    return dataclasses.replace(config, device=f"cuda:{number % max(torch.cuda.device_count(), 1)}")
