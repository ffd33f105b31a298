"""Metrics of a run in TensorBoard, Weights & Biases, Trackio or a tracker of the user's: three methods each."""

from __future__ import annotations

import importlib.util
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from geomalign import distributed
from geomalign._util.importing import imported
from geomalign.training.callbacks import Callback
from geomalign.training.config import to_dict

if TYPE_CHECKING:
    from geomalign.training.run import Run


@runtime_checkable
class Tracker(Protocol):
    """Where the metrics of a run are sent, beside `metrics.jsonl`. Rank 0 alone has one.

    >>> class Printed:
    ...     def start(self, run, directory, config, step): print(run, "from step", step)
    ...     def log(self, step, metrics): print(step, dict(metrics))
    ...     def finish(self, summary): print("finished" if summary else "interrupted")
    >>> isinstance(Printed(), Tracker)
    True
    """

    def start(self, run: str, directory: Path, config: Mapping[str, Any], step: int) -> None:
        """Begin, or go on after a resumption.

        Args:
            run: its name.
            directory: of its files.
            config: its settings, as in `config.json`.
            step: steps done; what was logged of later ones will be repeated.
        """

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one step."""

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Send what is left.

        Args:
            summary: as in `summary.json`; None where the run was interrupted or failed.
        """


class TensorBoard:
    """Event files below `DIRECTORY/tensorboard`, for `tensorboard --logdir`.

    >>> isinstance(TensorBoard(), Tracker)
    True
    """

    package = "tensorboard"

    def start(self, run: str, directory: Path, config: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1)
        self._writer.add_text("config", f"```json\n{json.dumps(config, indent=1)}\n```", step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step)

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        self._writer.close()


class WandB:
    """A run of Weights & Biases, in the project of `WANDB_PROJECT` (else `geomalign`). With `WANDB_MODE=offline` its
    files stay in `DIRECTORY/wandb` until `wandb sync`.

    >>> isinstance(WandB(), Tracker)
    True
    """

    package = "wandb"

    def start(self, run: str, directory: Path, config: Mapping[str, Any], step: int) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "geomalign"),
            name=run,
            group=os.environ.get("WANDB_RUN_GROUP"),
            config=dict(config),
            dir=str(directory),
            id=identity(directory),
            resume="allow",
        )
        # Its own count of steps may not go back, as that of a resumed run does.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({**metrics, "step": step})

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        for key, value in (summary or {}).get("final", {}).items():
            self._run.summary[f"final/{key}"] = value
        self._run.finish(exit_code=0 if summary else 1)


class Trackio:
    """A run of Trackio, on this machine below `TRACKIO_DIR`, in the project of `TRACKIO_PROJECT` (else `geomalign`); a
    dashboard is opened by `trackio show`.

    >>> isinstance(Trackio(), Tracker)
    True
    """

    package = "trackio"

    def start(self, run: str, directory: Path, config: Mapping[str, Any], step: int) -> None:
        import trackio

        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "geomalign"),
            name=f"{run}-{identity(directory)}",
            config=dict(config),
            resume="allow",
            embed=False,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        self._run.finish()


TRACKERS: dict[str, type[TensorBoard | WandB | Trackio]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
}


def identity(directory: Path) -> str:
    """Eight hexadecimal digits that tell a directory's run from all others, kept in the directory.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> identity(place) == identity(place), len(identity(place))
    (True, 8)
    """
    path = directory / "tracking_id.txt"
    if not path.exists():
        path.write_text(uuid.uuid4().hex[:8] + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def tracker_of(name: str) -> Tracker:
    """The tracker of a name: one of `TRACKERS`, or `"module:object"`, a class or function that makes one.

    Raises:
        ValueError: there is none, its package is not installed, it needs arguments, or it lacks one of the three
            methods.

    >>> tracker_of("tensorbord")
    Traceback (most recent call last):
    ValueError: there is no tracker 'tensorbord'; there are tensorboard, wandb, trackio, and module:object of your own.
    """
    if ":" in name:
        found = imported(name)
        try:
            made = found()
        except TypeError as error:
            raise ValueError(f"tracker {name!r} could not be made: {error}.") from error
        if not isinstance(made, Tracker):
            raise ValueError(f"tracker {name!r} makes a {type(made).__name__} without the methods start, log, finish.")
        return made
    if name not in TRACKERS:
        known = ", ".join(TRACKERS)
        raise ValueError(f"there is no tracker {name!r}; there are {known}, and module:object of your own.")
    package = TRACKERS[name].package
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"tracker {name!r} needs the package {package}, which is not installed: pip install 'geomalign[{package}]'."
        )
    return TRACKERS[name]()


class Tracking(Callback):
    """Sends what a run measures to a tracker. A tracker that fails is warned of, and the run goes on without it.

    >>> Tracking("tensorboard", TensorBoard()).name
    'tensorboard'
    """

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name, self.tracker = name, tracker
        self._works = True

    def on_start(self, run: Run) -> None:
        self._send(run, "start", run.name, run.directory, to_dict(run.config), run.step)

    def on_step(self, run: Run, metrics: dict[str, float]) -> None:
        self._send(run, "log", run.step, {key: value for key, value in metrics.items() if key != "step"})

    def on_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        if run.step == 0:  # of the base; a later evaluation is part of its step
            self.on_step(run, dict(metrics))

    def on_end(self, run: Run, summary: Mapping[str, Any] | None) -> None:
        self._send(run, "finish", summary)

    def _send(self, run: Run, what: str, *given: Any) -> None:
        if not self._works or distributed.rank():
            return
        try:
            getattr(self.tracker, what)(*given)
        except Exception as error:  # of a network, a service or a disk, none of which may cost the run
            self._works = False
            run.say(
                f"tracker {self.name}",
                f"{self.name} failed in {what} ({type(error).__name__}: {str(error)[:200]}); the run goes on without "
                "it, and metrics.jsonl has every step.",
            )


def trackings_of(names: Iterable[str]) -> list[Callback]:
    """A callback for the tracker of every name.

    >>> trackings_of([])
    []
    """
    return [Tracking(name, tracker_of(name)) for name in names]
