"""Checkpoints that a power cut, a kill or a full disk cannot spoil, and a metrics file that follows them."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that `path` holds either the old content or the whole new one, whatever happens in between.

    Args:
        write: gets the open file.

    Raises:
        OSError: as the file system raises it (a full disk); what was at `path` is still there, and no partial file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "state"
    >>> write_atomically(path, lambda handle: handle.write(b"whole"))
    >>> path.read_bytes()
    b'whole'
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    # The rename itself reaches the disk with the directory; not every system can open one.
    with contextlib.suppress(OSError):
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "summary.json"
    >>> write_json(path, {"reward": 0.5})
    >>> read_json(path)
    {'reward': 0.5}
    """
    text = json.dumps(value, indent=1, sort_keys=False) + "\n"
    write_atomically(path, lambda handle: handle.write(text.encode()))


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def random_states() -> dict[str, Any]:
    """The state of every global random generator: Python's, NumPy's, torch's and its devices'."""
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Set every global random generator to the state that `random_states` returned.

    >>> states = random_states()
    >>> first = torch.rand(2)
    >>> restore_random_states(states)
    >>> torch.equal(torch.rand(2), first)
    True
    """
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Save a run's state, with every global random state, atomically.

    Raises:
        OSError: as the file system raises it (a full disk); the checkpoint before is still there.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "checkpoint.pt"
    >>> save(path, {"step": 3})
    >>> load(path)["step"]
    3
    """
    try:
        write_atomically(path, lambda handle: torch.save({**state, "random": random_states()}, handle))
    except RuntimeError as error:
        # torch closes its archive on the way out, and that fails too when the disk is full.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load(path: Path) -> dict[str, Any]:
    """Load what `save` wrote, onto the CPU, and restore the global random states.

    Load only files that this library wrote: a checkpoint holds Python objects, which can run code.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
        restore_random_states(state["random"])
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path} is not a checkpoint of this library, or is damaged ({error}); delete it to begin this run anew."
        ) from error
    return state


class MetricsFile:
    """A file of JSON lines that can be cut back to where a checkpoint was.

    Args:
        path: the file; created when missing.
        position: bytes to keep; what follows belongs to steps that will be repeated.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> metrics = MetricsFile(path)
    >>> metrics.write({"step": 1, "reward": 0.5})
    >>> metrics.close()
    >>> read_metrics(path)
    [{'step': 1, 'reward': 0.5}]
    """

    def __init__(self, path: Path, position: int = 0) -> None:
        self._handle = open(path, "ab")  # noqa: SIM115
        self._handle.truncate(position)
        self._handle.seek(position)

    def write(self, row: Mapping[str, float]) -> None:
        self._handle.write((json.dumps(row) + "\n").encode())
        self._handle.flush()

    def position(self) -> int:
        """Bytes written, all of them on the disk."""
        self._handle.flush()
        os.fsync(self._handle.fileno())
        return self._handle.tell()

    def close(self) -> None:
        self._handle.close()


class NoMetricsFile:
    """What processes that do not write have in place of a `MetricsFile`.

    >>> NoMetricsFile(Path("metrics.jsonl")).position()
    0
    """

    def __init__(self, path: Path, position: int = 0) -> None: ...

    def write(self, row: Mapping[str, float]) -> None: ...

    def position(self) -> int:
        return 0

    def close(self) -> None: ...


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The complete rows of a metrics file; a last line that was cut short by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
