"""Bases shared between output directories: kept by everything that they depend on, and found again by it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from geomalign.tasks.rows import fingerprint
from geomalign.training import checkpoint
from geomalign.training.config import digest, to_dict
from geomalign.training.config.settings import TrainConfig
from geomalign.training.environment import environment

#: What a kept base depends on lies beside it in this file.
KEY = "key.json"
#: The code that makes a base.
_CODE = ("tasks", "training")


def dependencies(config: TrainConfig) -> dict[str, Any]:
    """Everything that the base of a run depends on: settings, files, code and versions.

    Raises:
        ValueError: it depends on something that cannot be compared, such as code of the user's; the message says what.

    >>> sorted(dependencies(TrainConfig()))
    ['code', 'files', 'settings', 'versions']
    >>> dependencies(TrainConfig("dpo", rate=1.0)) == dependencies(TrainConfig())
    True
    """
    name, path = config.task.name, config.model.path
    kind, _, rest = name.partition(":")
    files = {file: found for file in (name, rest) if (found := fingerprint(file))}
    named = any(":" in str(value) for value in config.task.options.values())
    if named or not (files or kind in ("chain", "reasoning_gym")):
        raise ValueError(
            f"the task {name} with options {config.task.options} is code, or data that is in no file here."
        )
    if not config.warm_started:
        raise ValueError("it begins with a given model and has no warm start, so there is nothing to save.")
    if path is not None:
        if not Path(path).is_dir():
            raise ValueError(f"the model {path} is no directory, so it may change.")
        files |= {f"model/{file.name}": _checksum([file]) for file in sorted(Path(path).iterdir()) if file.is_file()}
    parts = to_dict(config)
    settings = {key: parts[key] for key in ("model", "warm_start", "dtype", "device")}
    chosen = ("name", "options", "eval_levels", "train_levels", "eval_prompts")
    lengths = [getattr(loop, key) for loop in (config.rl, config.offline) for key in ("max_new_tokens", "long_prompts")]
    package = Path(__file__).parents[1]
    versions = {key: value for key, value in environment().items() if key not in ("platform", "cores")}
    with contextlib.suppress(metadata.PackageNotFoundError):
        versions["reasoning_gym"] = metadata.version("reasoning_gym")
    return {
        "settings": {**settings, "task": {key: parts["task"][key] for key in chosen}, "lengths": lengths},
        "files": files,
        "code": _checksum([file for part in _CODE for file in sorted((package / part).rglob("*.py"))]),
        "versions": versions,
    }


def _checksum(files: list[Path]) -> str:
    found = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while part := opened.read(1 << 20):
                found.update(part)
    return found.hexdigest()[:16]


def fetch(config: TrainConfig, target: Path) -> bool:
    """Copy the kept base that this run would make to `target`; whether there was one.

    >>> import tempfile
    >>> fetch(TrainConfig(bases=tempfile.mkdtemp()), Path("base"))
    False
    """
    place = _place(config)
    if not (place / KEY).exists() or checkpoint.read_json(place / KEY) != dependencies(config):
        return False
    with _partial(target) as partial:
        shutil.copytree(place, partial, ignore=shutil.ignore_patterns(KEY))
    return True


def keep(config: TrainConfig, base: Path) -> None:
    """Copy a base to where other runs find it."""
    place = _place(config)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _partial(place) as partial:
        shutil.copytree(base, partial)
        checkpoint.write_json(partial / KEY, dependencies(config))


def _place(config: TrainConfig) -> Path:
    return Path(config.bases).expanduser() / f"base-{digest(dependencies(config))}"


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A directory that becomes `target` when it is complete; where another process was faster, its stays."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        with contextlib.suppress(OSError):
            os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
