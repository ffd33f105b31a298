"""What a long job reports while it works: one `Event` at a time, to one callable."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from geomalign._util.importing import called

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
    """The code of the user raised or called `exit()`, a process died, or a run could not make a single update. The
    message says what and where.
    """


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """Code of the user's that calls `exit()` inside fails; it would end the process as if all were well.

    >>> with no_exit():
    ...     exit(0)
    Traceback (most recent call last):
    geomalign.training.events.Failed: exit(0) was called in <doctest ...>, line 2.
    """
    try:
        yield
    except SystemExit as error:
        raise Failed(f"exit({error.code!r}) was called in {called(error)}.") from error


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM arrived, everything was saved, and `resume=True` continues from there.

    >>> from geomalign.training import Interrupted
    >>> issubclass(Interrupted, KeyboardInterrupt)
    True
    """
