"""One run: claim a directory, find or make the base, learn from rewards or from pairs, write the result."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import torch

from geomalign import distributed, recipes
from geomalign.control import Controller, controller_of
from geomalign.objective import BaseObjective
from geomalign.tasks import build as build_task
from geomalign.tasks.preferences import preferences
from geomalign.tasks.rows import fingerprint
from geomalign.training import checkpoint
from geomalign.training.config import to_dict
from geomalign.training.config.settings import TrainConfig
from geomalign.training.events import Event, Progress, silent
from geomalign.training.from_pairs import learn_from_pairs
from geomalign.training.from_rewards import learn_from_rewards
from geomalign.training.policy import Placement
from geomalign.training.run import Session
from geomalign.training.warmstart import warm_start


def train(
    config: TrainConfig,
    directory: str | Path,
    *,
    resume: bool = False,
    progress: Progress = silent,
    base: Path | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Train one objective and write everything about it into a directory.

    Started by `torchrun` or `accelerate launch` in several processes, they work on one run together, to the weights
    that one process would have reached but for rounding. All of them must see the directory.

    Args:
        config: what to do.
        directory: of the run: `config.json`, `metrics.jsonl`, `model/`, `summary.json`, `data.json` where data are read
            from files, and the base unless `base` is given.
        resume: continue what is there: from the last checkpoint, to the same result as without the interruption; a
            finished run is returned as it is, and an empty directory begins.
        progress: called with an `Event` at every step, in every process.
        base: directory of a base that is there already; None makes or finds it in `directory`.
        name: of the run in events and summary.

    Returns:
        the summary, as written to `summary.json`.

    Raises:
        ValueError: the directory holds another run, or the configuration does not fit its objective, model or task.
        Interrupted: after Ctrl-C, when everything is saved.
        RankLost: another process of the run has ended.
    """
    torch.set_num_threads(config.threads)
    chosen = recipes.get(config.objective, **config.options)
    controller = controller_of(config.control) if config.control else None
    offline = _offline(config, chosen)
    Placement(config.device)
    with distributed.joined(config.device) as device:
        return _train(
            config,
            chosen,
            controller,
            offline,
            Path(directory),
            device,
            resume,
            progress,
            base,
            name or run_name(config),
        )


def _train(
    config: TrainConfig,
    chosen: BaseObjective,
    controller: Controller | None,
    offline: bool,
    directory: Path,
    device: str,
    resume: bool,
    progress: Progress,
    base: Path | None,
    name: str,
) -> dict[str, Any]:
    ranks = distributed.world_size()
    if not offline and ranks > config.rl.prompts:
        raise ValueError(
            f"rl.prompts is {config.rl.prompts}, but {ranks} processes work on the run; each takes at least one prompt."
        )
    free = ("device", "threads", "gradient_checkpointing")

    def begin() -> None:
        if not (directory / "config.json").exists():  # what the data have wrong is said before the directory is taken
            build_task(config.task)
            if offline and config.offline.data is not None:
                preferences(config.offline.data, config.offline.split)
        claim(directory, to_dict(config), resume, free, tables(config))

    distributed.on_first(begin)
    summary = directory / "summary.json"
    if distributed.on_first(summary.exists):
        done: dict[str, Any] = checkpoint.read_json(summary)
        progress(Event("skipped", name, done["iterations"], done["iterations"], done["final"]))
        return done
    config = dataclasses.replace(config, device=device)
    try:
        if base is None:
            base = distributed.on_first(lambda: warm_start(config, directory, progress))
        session = Session(config, chosen, directory, base, name, progress, offline, controller)
        if offline:
            learn_from_pairs(session)
        else:
            learn_from_rewards(session)
    except BaseException:
        if not distributed.rank():
            release(directory)
        raise
    return session.finish(offline)


def run_name(config: TrainConfig) -> str:
    return f"{config.objective.replace(':', '.')}-r{config.rate:g}-s{config.seed}"


def _offline(config: TrainConfig, chosen: BaseObjective) -> bool:
    paired = chosen.paired
    if paired and config.mode == "rl":
        raise ValueError(
            f"{config.objective} compares pairs of responses, so it trains offline; mode is 'rl'. Leave it at 'auto'."
        )
    return paired or config.mode == "offline"


def tables(config: TrainConfig) -> dict[str, str]:
    """The files that a run reads its data from, each with what changes when it does."""
    names = {config.offline.data or "", config.task.name, config.task.name.partition(":")[2]}
    return {name: found for name in sorted(names) if (found := fingerprint(name))}


def claim(
    directory: Path,
    config: Mapping[str, Any],
    resume: bool,
    free: Seq[str] = (),
    tables: Mapping[str, str] | None = None,
) -> None:
    """Make the directory this configuration's, or make sure that it is.

    Args:
        free: settings that may differ on resuming.
        tables: the files that the data are read from; one that is no longer there is not missed.

    Raises:
        ValueError: it holds another configuration or one of other data, or this one and `resume` is false.
    """
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file; the results go into a directory. Choose another name.")
    path, data = directory / "config.json", directory / "data.json"
    tables = dict(tables or {})
    if path.exists():
        if not resume:
            raise ValueError(
                f"{directory} holds a run already; pass resume=True (--resume) to continue it, or choose another one."
            )
        there = checkpoint.read_json(path)
        differing = sorted(key for key in {*there, *config} - set(free) if there.get(key) != config.get(key))
        if differing:
            seen = "; ".join(f"{key}: {there.get(key)} there, {config.get(key)} now" for key in differing)
            raise ValueError(
                f"{directory} holds a run with other settings ({seen}); resume with the same ones, or choose "
                "another directory."
            )
        before = checkpoint.read_json(data) if data.exists() else {}
        changed = [name for name in tables if before.get(name, tables[name]) != tables[name]]
        if changed:
            raise ValueError(
                f"{', '.join(changed)} changed since the run in {directory} began, so it cannot end as it would have; "
                "put the file back, or choose another directory."
            )
        tables = {**before, **tables}
    elif (
        directory.exists()
        and not resume
        and any(file.name[0] != "." and file.name != "error.txt" for file in directory.iterdir())
    ):
        raise ValueError(f"{directory} is not empty and holds no run of this library; choose another directory.")
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(path, config)
    if tables:
        checkpoint.write_json(data, tables)


def release(directory: Path) -> None:
    """Give a claimed directory up if nothing was made in it: another run may begin there."""
    ours = {"config.json", "data.json", "environment.json", "seconds.json", "error.txt"}
    for partial in directory.glob(".base-*.partial"):
        with contextlib.suppress(OSError):
            partial.rmdir()  # if it is empty
    if {file.name for file in directory.iterdir()} <= ours:
        for name in ours - {"error.txt"}:
            (directory / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            directory.rmdir()
