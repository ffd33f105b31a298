"""What a long job says while it works: one `Event` at a time, to one callable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["plan", "start", "step", "done", "skipped", "failed", "warning"]


@dataclass(frozen=True)
class Event:
    """Something happened in a run.

    Args:
        kind: `"plan"` once and first; `"start"`, `"step"`, `"done"` of a run; `"skipped"`: it was finished before;
            `"failed"`, `"warning"`.
        run: the run's name, or `"warm start"`.
        step: steps done.
        total: steps this run will take.
        metrics: numbers of this step, named as in `metrics.jsonl`.
        message: for people: the warning, the last line of the error.
    """

    kind: Kind
    run: str
    step: int = 0
    total: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """A `Progress` that says nothing."""


class Failed(RuntimeError):
    """Code of the user's raised, or a process died: the message says what and where, its file has the traceback."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C arrived, everything was saved, and `resume=True` continues from there."""
