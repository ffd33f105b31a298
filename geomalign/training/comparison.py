"""Objectives x step sizes x seeds from one base, one run a process at a time; what one run does cannot harm another."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import platform
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from importlib import metadata
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from geomalign.training.config import from_dict, to_dict
from geomalign.training.config.settings import CompareConfig, TrainConfig
from geomalign.training.events import Event, Failed, Interrupted, Progress, silent

WARM_START = "warm start"
#: Seconds that workers get to save after Ctrl-C.
PATIENCE = 120.0


def compare(
    config: CompareConfig, directory: str | Path, *, resume: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Train every objective at every step size with every seed, and write all of it into a directory.

    A run that fails is noted and the others go on; so is one whose process dies.

    Args:
        config: what to compare.
        directory: of the comparison; every run has its own below `runs/`.
        resume: finished runs are kept, unfinished ones continue from their checkpoints, failed ones are tried again;
            an empty directory begins.
        progress: called with an `Event` from this thread, for every step of every run.

    Returns:
        the summary, as written to `summary.json`.

    Raises:
        ValueError: it was started by a launcher, the directory holds another comparison, or an objective or task of
            the configuration cannot be built.
        Failed: the base could not be made.
        Interrupted: after Ctrl-C or SIGTERM, when every worker has saved.
    """
    from geomalign import recipes
    from geomalign.control import controller_of
    from geomalign.tasks import build
    from geomalign.training import checkpoint
    from geomalign.training.policy import Placement
    from geomalign.training.trainer import claim, release, tables
    from geomalign.training.warmstart import base_name

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "a comparison deals its runs to processes itself: start it without torchrun or accelerate launch, or train "
            "one objective with them."
        )
    directory = Path(directory)
    for choice in config.objectives:
        recipes.get(choice.name, **choice.options)
        if choice.control:
            controller_of(choice.control)
    build(config.run.task)
    Placement(config.run.device)
    claim(directory, to_dict(config), resume, free=("workers",), tables=tables(config.run))
    checkpoint.write_json(directory / "environment.json", environment())
    clock = _Clock(directory / "seconds.json")
    jobs = {name: to_dict(run) for name, run in config.runs().items()}
    base = directory / base_name(config.run)
    count = worker_count(config, len(jobs))
    progress(Event("plan", "", total=len(jobs), metrics={"workers": count}, message=json.dumps(list(jobs))))
    failed: dict[str, str] = {}
    with _terminable(), _Pool(count, directory, progress) as pool:
        try:
            if failure := pool.work({WARM_START: to_dict(config.run)}, base).get(WARM_START):
                raise Failed(f"the base could not be made: {failure} (see {directory / 'error.txt'})")
            failed = pool.work(jobs, base)
        except KeyboardInterrupt:
            pool.interrupt()
            raise Interrupted from None
        finally:
            clock.stop()
            release(directory)
    result = summarise(config, directory, failed, clock.seconds)
    checkpoint.write_json(directory / "summary.json", result)
    return result


def worker_count(config: CompareConfig, jobs: int) -> int:
    """Processes that work at once: as configured, else one a core this process may use, or one an accelerator."""
    if config.workers:
        return min(config.workers, jobs)
    if config.run.device == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(cores // config.run.threads, jobs))
    import torch

    return max(1, min(torch.cuda.device_count(), jobs)) if config.run.device == "cuda" else 1


def environment() -> dict[str, Any]:
    """Where the numbers come from."""
    versions = {}
    for package in ("geomalign", "torch", "transformers", "tokenizers", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {
        "python": platform.python_version(),
        **versions,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "processor": processor,
    }


def summarise(config: CompareConfig, directory: Path, failed: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """The comparison in one dictionary, read from the directories of its runs."""
    from geomalign.training import checkpoint
    from geomalign.training.warmstart import base_name

    runs = []
    for choice in config.objectives:
        for rate in config.rates:
            for seed in config.seeds:
                path = directory / "runs" / f"{choice.title}-r{rate:g}-s{seed}" / "summary.json"
                if path.exists():
                    runs.append({**checkpoint.read_json(path), "label": choice.title})
    return {
        "config": to_dict(config),
        "environment": checkpoint.read_json(directory / "environment.json"),
        "tiers": {str(tier): kind for tier, kind in config.run.kinds().items()},
        "base": checkpoint.read_json(directory / base_name(config.run) / "warmstart.json"),
        "runs": runs,
        "failed": dict(failed),
        "seconds": seconds,
        "warnings": sorted({f"{run['name']}: {warning}" for run in runs for warning in run["warnings"]}),
    }


class _Clock:
    """Wall seconds of a comparison, over all its resumptions."""

    def __init__(self, path: Path) -> None:
        from geomalign.training import checkpoint

        self._path, self._began = path, time.perf_counter()
        self._before = checkpoint.read_json(path) if path.exists() else 0.0
        self.seconds = self._before

    def stop(self) -> None:
        from geomalign.training import checkpoint

        self.seconds = self._before + time.perf_counter() - self._began
        checkpoint.write_json(self._path, self.seconds)


# ------------------------------------------------------------------------------------------------- processes


@dataclasses.dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: str | None = None


class _Pool:
    """Processes that take a job each; one that dies loses its job only, and is replaced."""

    def __init__(self, count: int, directory: Path, progress: Progress) -> None:
        self._count, self._directory, self._progress = count, directory, progress
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._started = 0

    def __enter__(self) -> _Pool:
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
        process = self._context.Process(target=_serve, args=(theirs, str(self._directory), self._started), daemon=True)
        self._started += 1
        with _child_environment():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def work(self, jobs: Mapping[str, dict[str, Any]], base: Path) -> dict[str, str]:
        """Run all jobs; returns the last line of the error of those that failed."""
        waiting, failed = deque(jobs), {}
        while waiting or any(worker.job for worker in self._workers):
            for worker in self._workers:
                if worker.job is None and waiting:
                    worker.job = waiting.popleft()
                    worker.pipe.send((worker.job, jobs[worker.job], str(base)))
            ready = wait([worker.pipe for worker in self._workers if worker.job])
            for index, worker in enumerate(self._workers):
                if worker.pipe not in ready:
                    continue
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    name = str(worker.job)
                    failed[name] = f"its process died with exit code {worker.process.exitcode}"
                    _note(self._directory, name, failed[name])
                    self._progress(Event("failed", name, message=failed[name]))
                    self._workers[index] = self._start()
                    continue
                if isinstance(message, Event):
                    self._progress(message)
                    continue
                if message:
                    failed[str(worker.job)] = message
                    self._progress(Event("failed", str(worker.job), message=message))
                worker.job = None
        return failed

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
def _terminable() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C, as a batch system sends it."""

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
    """What a new process inherits: Ctrl-C is the parent's to handle, one thread, and an allocator that keeps its
    memory.

    The allocator settings are glibc's: without them every tensor above 128 KiB may cost a system call and its page
    faults.
    """
    settings = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "TOKENIZERS_PARALLELISM": "false",
        "MALLOC_MMAP_THRESHOLD_": "1073741824",
        "MALLOC_TRIM_THRESHOLD_": "4294967296",
        "MALLOC_TOP_PAD_": "67108864",
    }
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


def _serve(pipe: Connection, directory: str, number: int) -> None:
    """A worker: take jobs from the pipe until it says None, and report to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from geomalign.training.trainer import train  # the slow import, while the parent goes on
    from geomalign.training.warmstart import warm_start

    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        if job is None:
            return
        name, mapping, base = job
        config = _on_device(from_dict(TrainConfig, mapping), number)
        try:
            if name == WARM_START:
                import torch

                torch.set_num_threads(config.threads)
                warm_start(config, Path(directory), pipe.send)
            else:
                train(
                    config, Path(directory) / "runs" / name, resume=True, progress=pipe.send, base=Path(base), name=name
                )
        except Interrupted:
            return
        except (BrokenPipeError, ConnectionResetError):
            return  # the parent is gone
        except Exception as error:
            _note(Path(directory), name, traceback.format_exc())
            pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
        else:
            pipe.send("")


def _on_device(config: TrainConfig, number: int) -> TrainConfig:
    """With several accelerators, the worker's own."""
    if config.device != "cuda":
        return config
    import torch

    return dataclasses.replace(config, device=f"cuda:{number % max(torch.cuda.device_count(), 1)}")


__all__ = ["compare", "environment", "summarise", "worker_count"]
