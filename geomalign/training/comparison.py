"""Objectives × step sizes × seeds from one base, one run per process at a time."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from geomalign import recipes
from geomalign._util.importing import imported
from geomalign.control import controller_of
from geomalign.distributed import launched
from geomalign.tasks import build as build_task
from geomalign.training import checkpoint
from geomalign.training.callbacks import callbacks_of
from geomalign.training.config import to_dict
from geomalign.training.config.comparison import CompareConfig
from geomalign.training.directory import acquire, release
from geomalign.training.environment import environment
from geomalign.training.events import WARM_START, Event, Failed, Interrupted, Progress, silent
from geomalign.training.fit import refuse_unfit
from geomalign.training.policy import Placement, require_peft
from geomalign.training.tracking import tracker_of
from geomalign.training.warmstart import base_name
from geomalign.training.workers import Pool, terminable

__all__ = ["compare", "environment", "summarise", "worker_count"]


#: Settings of which no result depends, so that a comparison may be resumed with others.
FREE = ("workers", "run.report_to", "run.callbacks", "run.bases")


def compare(
    config: CompareConfig, directory: str | Path, *, resume: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Train every objective at every step size with every seed, and write all of it into a directory.

    A run that raises or whose process dies is noted, and the others go on.

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

    >>> from geomalign.training import Choice
    >>> compare(CompareConfig(objectives=(Choice("opoo"),)), "runs/compare")
    Traceback (most recent call last):
    ...
    ValueError: ...Did you mean 'opo'...
    """
    directory = Path(directory)
    _check(config)
    acquire(directory, config, resume=resume, free=FREE)
    checkpoint.write_json(directory / "environment.json", environment())
    clock = _Clock(directory / "seconds.json")
    jobs = {name: to_dict(run) for name, run in config.runs().items()}
    base = directory / base_name(config.run)
    count = worker_count(config, len(jobs))
    progress(Event("plan", "", total=len(jobs), metrics={"workers": count}, message=json.dumps(list(jobs))))
    failed: dict[str, str] = {}
    with terminable(), Pool(count, directory, progress) as pool:
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


def _check(config: CompareConfig) -> None:
    """Refuse what cannot work before anything is written."""
    if launched()[1] > 1:
        raise ValueError(
            "a comparison deals its runs to processes itself: start it without torchrun or accelerate launch, or train "
            "one objective with them."
        )
    for choice in config.objectives:
        objective = recipes.get(choice.name, **choice.options)
        if choice.control:
            controller_of(choice.control).check(objective)
        if ":" not in choice.name:  # code of the user's runs in the workers alone, which it may kill
            refuse_unfit(
                dataclasses.replace(config.run, objective=choice.name, options=dict(choice.options)), objective
            )
    build_task(config.run.task)
    if config.run.lora.rank:
        require_peft(f"run.lora.rank = {config.run.lora.rank}")
    callbacks_of(config.run.callbacks)
    for name in config.run.report_to:
        imported(name) if ":" in name else tracker_of(name)  # of the user's, it is made in the workers alone
    Placement(config.run.device)


def worker_count(config: CompareConfig, jobs: int) -> int:
    """Processes that work at once: as configured, else one per core that this process may use, or one per accelerator.

    >>> worker_count(CompareConfig(workers=8), jobs=3)
    3
    """
    if config.workers:
        return min(config.workers, jobs)
    if config.run.device == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(cores // config.run.threads, jobs))
    return max(1, min(torch.cuda.device_count(), jobs)) if config.run.device == "cuda" else 1


def summarise(config: CompareConfig, directory: Path, failed: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """The comparison in one dictionary, read from the directories of its runs.

    Args:
        failed: the error of every run that failed, by name.
        seconds: wall time of the comparison, over all its resumptions.
    """
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
        "levels": {str(level): kind for level, kind in config.run.kinds().items()},
        "base": checkpoint.read_json(directory / base_name(config.run) / "warmstart.json"),
        "runs": runs,
        "failed": dict(failed),
        "seconds": seconds,
        "warnings": sorted({f"{run['name']}: {warning}" for run in runs for warning in run["warnings"]}),
    }


class _Clock:
    """Wall seconds of a comparison, over all its resumptions."""

    def __init__(self, path: Path) -> None:
        self._path, self._began = path, time.perf_counter()
        self._before = checkpoint.read_json(path) if path.exists() else 0.0
        self.seconds = self._before

    def stop(self) -> None:
        self.seconds = self._before + time.perf_counter() - self._began
        checkpoint.write_json(self._path, self.seconds)
