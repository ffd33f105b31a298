"""What a long job reports while it works: one `Event` at a time, to one callable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["plan", "start", "step", "done", "skipped", "failed", "warning"]

#: `Event.run` of what the making of the shared base reports.
WARM_START = "warm start"


@dataclass(frozen=True)
class Event:
    """One thing that happened in a run.

    Args:
        kind: `"plan"` once and first, of a comparison; `"start"`, `"step"`, `"done"` of a run; `"skipped"` of a run
            that was finished before; `"failed"`, `"warning"`.
        run: the run's name, or `"warm start"`.
        step: steps done. ≥ 0.
        total: steps that this run will take. ≥ 0.
        metrics: numbers of this step, named as in `metrics.jsonl`.
        message: for people: the text of the warning, the last line of the error.

    >>> Event("step", "opo-r5e-05-s0", step=3, total=24, metrics={"reward": 0.5}).metrics["reward"]
    0.5
    """

    kind: Kind
    run: str
    step: int = 0
    total: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """A `Progress` that shows nothing.

    >>> silent(Event("done", "opo-r5e-05-s0"))
    """


class Failed(RuntimeError):
    """The code of the user raised, or a process died. The message says what and where; a file has the traceback."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM arrived, everything was saved, and `resume=True` continues from there.

    >>> from geomalign.training import Interrupted
    >>> issubclass(Interrupted, KeyboardInterrupt)
    True
    """
