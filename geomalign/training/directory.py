"""A results directory belongs to one configuration: acquired as a run begins, released if nothing was made in it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path

from geomalign.tasks.rows import fingerprint
from geomalign.training import checkpoint
from geomalign.training.config import flat, to_dict
from geomalign.training.config.comparison import CompareConfig
from geomalign.training.config.settings import TrainConfig

#: Settings that may grow on resuming, as nothing before the last step depends on them; of a comparison, below `run`.
GROWING = ("rl.iterations", "offline.epochs")
#: What a run or a comparison replaces; without its `config.json` it is somebody else's.
_REPLACED = ("model", "metrics.jsonl", "checkpoint.pt", "summary.json", "runs")


def acquire(directory: Path, config: TrainConfig | CompareConfig, *, resume: bool, free: Collection[str] = ()) -> None:
    """Make the directory this configuration's, or make sure that it is, and that its data are what they were.

    Where the configuration asks for more iterations than the one that is there, the directory becomes unfinished again.

    Args:
        directory: made if there is none.
        resume: whether the configuration may be there already.
        free: settings that may differ on resuming.

    Raises:
        ValueError: the directory holds another configuration, or one of other data, or this one and `resume` is false;
            or it holds files that a run would replace, and no configuration; or it would become a shorter run, or a
            longer one without the checkpoint of its last step.

    >>> import tempfile
    >>> from geomalign.training import TrainConfig
    >>> place = Path(tempfile.mkdtemp()) / "run"
    >>> acquire(place, TrainConfig(), resume=False)
    >>> [file.name for file in place.iterdir()]
    ['config.json']
    >>> acquire(place, TrainConfig(rate=1.0), resume=True)
    Traceback (most recent call last):
    ...
    ValueError: ...holds a run with other settings (rate: 5e-05 there, 1.0 now); resume with the same ones, or ...
    """
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file; the results go into a directory. Choose another name.")
    known, data = directory / "config.json", directory / "data.json"
    fingerprints = data_fingerprints(config if isinstance(config, TrainConfig) else config.run)
    if known.exists():
        if not resume:
            raise ValueError(
                f"{directory} holds a run already; continue it with --resume (in Python resume=True), or choose "
                "another directory."
            )
        extended = _extended(directory, config, checkpoint.read_json(known), free)
        before = checkpoint.read_json(data) if data.exists() else {}
        _refuse_changed(directory, before, fingerprints)
        fingerprints = {**before, **fingerprints}  # a file that is no longer there is not missed
        if extended:
            (directory / "summary.json").unlink(missing_ok=True)
    elif directory.exists() and not resume and any(_foreign(file) for file in directory.iterdir()):
        raise ValueError(f"{directory} is not empty and holds no run of this library; choose another directory.")
    elif theirs := [name for name in _REPLACED if (directory / name).exists()]:
        raise ValueError(
            f"{directory} holds {', '.join(theirs)} without the config.json of a run, so nothing can be resumed, and "
            "these would be replaced; choose another directory."
        )
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(known, to_dict(config))
    if fingerprints:
        checkpoint.write_json(data, fingerprints)


def data_fingerprints(config: TrainConfig) -> dict[str, str]:
    """The files that a run reads its data from, each with a text that changes when the file does.

    >>> from geomalign.training import TrainConfig
    >>> data_fingerprints(TrainConfig())  # chains are generated, not read
    {}
    """
    names = {config.offline.data or "", config.task.name, config.task.name.partition(":")[2]}
    return {name: found for name in sorted(names) if (found := fingerprint(name))}


def release(directory: Path) -> None:
    """Release an acquired directory if nothing was made in it, so that another run may begin there.

    >>> import tempfile
    >>> from geomalign.training import TrainConfig
    >>> place = Path(tempfile.mkdtemp()) / "run"
    >>> acquire(place, TrainConfig(), resume=False)
    >>> release(place)
    >>> place.exists()
    False
    """
    ours = {"config.json", "data.json", "environment.json", "seconds.json", "error.txt"}
    for partial in directory.glob(".base-*.partial"):
        with contextlib.suppress(OSError):
            partial.rmdir()  # if it is empty
    if {file.name for file in directory.iterdir()} <= ours:
        for name in ours - {"error.txt"}:
            (directory / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            directory.rmdir()


def _foreign(file: Path) -> bool:
    return file.name[0] != "." and file.name != "error.txt"


def _extended(
    directory: Path, config: TrainConfig | CompareConfig, before: Mapping[str, object], free: Collection[str]
) -> bool:
    """Whether the configuration goes on where the one that is there ends; it must be the same otherwise."""
    # What a directory of an earlier release does not name has its default.
    there, now = {**dict(flat(to_dict(type(config)()))), **dict(flat(before))}, dict(flat(to_dict(config)))
    differing = sorted(key for key in {*there, *now} - set(free) if there.get(key) != now.get(key))
    growing = [key for key in differing if key.removeprefix("run.") in GROWING]
    if differing != growing:
        seen = "; ".join(f"{key}: {there.get(key)} there, {now.get(key)} now" for key in differing)
        raise ValueError(
            f"{directory} holds a run with other settings ({seen}); resume with the same ones, or choose another "
            "directory."
        )
    for key in growing:
        if now[key] < there[key]:
            raise ValueError(
                f"{directory} holds a run of {key} = {there[key]}, and now it is {now[key]}: a run can be extended, "
                "and not shortened. Choose another directory."
            )
    finished = "runs/*/summary.json" if isinstance(config, CompareConfig) else "summary.json"
    for summary in directory.glob(finished) if growing else ():
        if not (summary.parent / "checkpoint.pt").exists():
            raise ValueError(
                f"{summary.parent} has no checkpoint.pt, the state of the optimiser after its last step, so the run "
                "cannot be extended. It was deleted, or the run was made by a release that did not keep it. Train "
                f"anew in another directory, or from the model: --model {summary.parent / 'model'}."
            )
    return bool(growing)


def _refuse_changed(directory: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    changed = [name for name in now if before.get(name, now[name]) != now[name]]
    if changed:
        raise ValueError(
            f"{', '.join(changed)} changed since the run in {directory} began, so resuming would not give the result "
            "of an uninterrupted run; put the file back, or choose another directory."
        )
