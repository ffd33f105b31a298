"""Code of the user's in a run: when it is called, how it stops the run, what a tracker is sent."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from geomalign.training.callbacks import Callback, callbacks_of, check_callback
from geomalign.training.checkpoint import read_json, read_metrics
from geomalign.training.config import override
from geomalign.training.config.settings import TrainConfig
from geomalign.training.events import Event, Failed
from geomalign.training.run import Run
from geomalign.training.tracking import Tracking, tracker_of
from geomalign.training.trainer import train

pytestmark = pytest.mark.float32


class Recorder(Callback):
    """Notes what it is told; its count of steps is kept by checkpoints; stops or fails where it is asked to."""

    def __init__(self, stop_at: int = 0, fail_at: int = 0) -> None:
        self.stop_at, self.fail_at, self.steps, self.seen = stop_at, fail_at, 0, list[tuple[str, int]]()

    def on_start(self, run: Run) -> None:
        self.seen.append(("start", run.step))

    def on_step(self, run: Run, metrics: dict[str, float]) -> None:
        self.steps += 1
        metrics["mine"] = float(self.steps)
        self.seen.append(("step", run.step))
        if run.step == self.fail_at:
            raise RuntimeError("of the user's")
        if run.step == self.stop_at:
            run.stop()

    def on_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        assert "accuracy_in" in metrics and "greedy_reward_in" in metrics
        self.seen.append(("evaluation", run.step))

    def on_end(self, run: Run, summary: Mapping[str, Any] | None) -> None:
        self.seen.append(("end" if summary else "abandoned", run.step))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]


class Kept:
    """A tracker that writes down what it is sent, and fails where the environment says."""

    sent: ClassVar[list[tuple[Any, ...]]] = []

    def start(self, run: str, directory: Path, config: Mapping[str, Any], step: int) -> None:
        self.sent.append(("start", run, config["rate"], step))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if os.environ.get("KEPT_FAILS") == str(step):
            raise ConnectionError("no network")
        self.sent.append(("log", step, "step" in metrics, "reward" in metrics))

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        self.sent.append(("finish", summary and summary["iterations"]))


@pytest.fixture
def short(tiny: TrainConfig) -> TrainConfig:
    return override(tiny, {"rl.iterations": 4})


def test_callbacks_are_called_in_order_and_add_metrics(short: TrainConfig, base: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    train(short, tmp_path / "run", base=base, callbacks=[recorder])
    steps = [("step", 1), ("step", 2), ("step", 3), ("evaluation", 3), ("step", 4), ("evaluation", 4)]
    assert recorder.seen == [("start", 0), ("evaluation", 0), *steps, ("end", 4)]
    assert [row.get("mine") for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [None, 1, 2, 3, 4]


def test_a_callback_stops_the_run_and_more_iterations_extend_it(short: TrainConfig, base: Path, tmp_path: Path) -> None:
    recorder = Recorder(stop_at=2)
    summary = train(short, tmp_path / "run", base=base, callbacks=[recorder])
    assert summary["iterations"] == 2 and recorder.seen[-1] == ("end", 2)
    assert (tmp_path / "run" / "model").is_dir()
    assert "accuracy_in" in read_metrics(tmp_path / "run" / "metrics.jsonl")[-1], "the last step is evaluated"
    assert ("evaluation", 2) in recorder.seen
    more = Recorder()
    assert train(override(short, {"rl.iterations": 5}), tmp_path / "run", base=base, resume=True, callbacks=[more])
    assert more.seen[0] == ("start", 2) and more.steps == 5, "its state was kept by the checkpoint"
    assert [row.get("mine") for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [None, 1, 2, 3, 4, 5]


def test_a_callback_finds_its_state_behind_others(short: TrainConfig, base: Path, tmp_path: Path) -> None:
    train(short, tmp_path / "run", base=base, callbacks=[Recorder()])
    more = Recorder()
    longer = override(short, {"rl.iterations": 5})
    train(longer, tmp_path / "run", base=base, resume=True, callbacks=[Callback(), more])
    assert more.steps == 5


def test_what_a_callback_adds_to_the_metrics_is_a_number(short: TrainConfig, base: Path, tmp_path: Path) -> None:
    class Adds(Callback):
        def __init__(self, value: Any) -> None:
            self.value = value

        def on_step(self, run: Run, metrics: dict[str, float]) -> None:
            metrics["mine"] = self.value

    once = override(short, {"rl.iterations": 1})
    train(once, tmp_path / "run", base=base, callbacks=[Adds(torch.tensor(0.5))])
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[1]["mine"] == 0.5
    with pytest.raises(Failed, match="mine = 'good'"):
        train(once, tmp_path / "text", base=base, callbacks=[Adds("good")])


def test_a_callback_that_cannot_be_called_is_refused_before_the_run(short: TrainConfig, tmp_path: Path) -> None:
    class Narrow(Callback):
        def on_step(self, run: Run) -> None: ...  # type: ignore[override]

    class Wide(Callback):
        def on_end(self, *given: Any, **more: Any) -> None: ...

    class Misspelt(Callback):
        def on_evaluate(self, run: Run, metrics: Mapping[str, float]) -> None: ...

    check_callback(Wide())
    for wrong, said in (
        (Narrow(), r"Narrow\.on_step is called with \(run, metrics\), which it does not take"),
        (Misspelt(), r"Misspelt\.on_evaluate is never called; the moments are on_start"),
        (object(), "object is no callback"),
    ):
        with pytest.raises(ValueError, match=said):
            train(short, tmp_path / "run", callbacks=[wrong])  # type: ignore[list-item]
    assert not (tmp_path / "run").exists()


def test_an_error_of_a_callback_ends_the_run_and_the_others_are_told(
    short: TrainConfig, base: Path, tmp_path: Path
) -> None:
    failing, other = Recorder(fail_at=2), Recorder()
    with pytest.raises(RuntimeError, match="of the user's"):
        train(short, tmp_path / "run", base=base, callbacks=[other, failing])
    assert other.seen[-1] == failing.seen[-1] == ("abandoned", 2)


def test_callbacks_are_named_with_their_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_callbacks.py").write_text(
        "from geomalign.training import Callback\n"
        "class Patience(Callback):\n    def __init__(self, steps=1): self.steps = steps\n"
        "patient = Patience(7)\n"
    )
    named = ["my_callbacks:Patience", "my_callbacks:Patience steps=3", "my_callbacks:patient"]
    assert [found.steps for found in callbacks_of(named)] == [1, 3, 7]  # type: ignore[attr-defined]
    for wrong, said in [
        ("Patience", "names no object"),
        ("my_callbacks:Patience stps=3", "could not be made"),
        ("my_callbacks:patient steps=3", "takes no options"),
        ("my_callbacks:Callbac", "Callbac"),
        ("nowhere:thing", "no module 'nowhere'"),
    ]:
        with pytest.raises(ValueError, match=said):
            callbacks_of([wrong])


def test_a_tracker_is_sent_every_step_and_what_it_is_called_is_no_part_of_the_run(
    short: TrainConfig, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kept, "sent", [])
    monkeypatch.setitem(sys.modules, "kept_trackers", sys.modules[__name__])
    tracked = replace(short, report_to=("kept_trackers:Kept",))
    train(tracked, tmp_path / "run", base=base)
    logs = [("log", step, False, step > 0) for step in range(5)]
    assert Kept.sent == [("start", "grpo-r0.001-s0", 1e-3, 0), *logs, ("finish", 4)]
    assert train(short, tmp_path / "run", base=base, resume=True)["iterations"] == 4


def test_a_tracker_that_fails_costs_a_warning(
    short: TrainConfig, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kept, "sent", [])
    monkeypatch.setenv("KEPT_FAILS", "2")
    monkeypatch.setitem(sys.modules, "kept_trackers", sys.modules[__name__])
    events: list[Event] = []
    train(replace(short, report_to=("kept_trackers:Kept",)), tmp_path / "run", base=base, progress=events.append)
    (warning,) = [event.message for event in events if event.kind == "warning"]
    assert "failed in log (ConnectionError: no network); the run goes on" in warning
    assert [sent[:2] for sent in Kept.sent[1:]] == [("log", 0), ("log", 1)]
    assert read_json(tmp_path / "run" / "summary.json")["iterations"] == 4


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_without_its_package_is_refused_before_the_run(
    name: str, short: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == name else real(wanted))
    with pytest.raises(ValueError, match=rf"pip install 'geomalign\[{name}\]'"):
        train(replace(short, report_to=(name,)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setitem(sys.modules, "half_trackers", type(sys)("half_trackers"))
    sys.modules["half_trackers"].Half = dict  # type: ignore[attr-defined]
    sys.modules["half_trackers"].Needs = Tracking  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"could not be made: .*missing 2 required"):
        tracker_of("half_trackers:Needs")
    with pytest.raises(ValueError, match="without the methods start, log, finish"):
        tracker_of("half_trackers:Half")


def _tracked(name: str, tmp_path: Path, **environment: str) -> None:
    """Two sittings of a tracker in a process of its own: three steps, of which the last is repeated, and one more."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom geomalign.training.tracking import tracker_of\n"
        "place = Path(sys.argv[2])\n"
        "for first, steps in ((0, (0, 1, 2)), (1, (2, 3))):\n"
        "    tracker = tracker_of(sys.argv[1])\n"
        "    tracker.start('opo-r0.001-s0', place, {'rate': 0.001, 'rl': {'prompts': 4}}, first)\n"
        "    for step in steps: tracker.log(step, {'reward': step / 10 + first, 'time/step': 0.5})\n"
        "    tracker.finish({'final': {'reward': 1.3}} if first else None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, name, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install 'geomalign[{package}]'")


@needs("tensorboard")
def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    _tracked("tensorboard", tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    events = found.Scalars("reward")
    assert [event.step for event in events] == [0, 1, 2, 3], "what was logged after the checkpoint is there once"
    assert [event.value for event in events] == pytest.approx([0.0, 0.1, 1.2, 1.3])


@needs("wandb")
def test_wandb_writes_offline_runs(tmp_path: Path) -> None:
    _tracked("wandb", tmp_path, WANDB_MODE="offline", WANDB_SILENT="true")
    runs = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert runs and len({path.name.split("-")[-1] for path in runs}) == 1, "one run, whose identity is kept"
    written = b"".join(file.read_bytes() for path in runs for file in path.glob("*.wandb"))
    for expected in (b"opo-r0.001-s0", b"reward", b"time/step", b"final/reward"):
        assert expected in written, expected


@needs("trackio")
def test_trackio_keeps_runs_on_this_machine(tmp_path: Path) -> None:
    _tracked("trackio", tmp_path, TRACKIO_DIR=str(tmp_path / "kept"), HF_HUB_OFFLINE="1")
    import sqlite3

    (database,) = (tmp_path / "kept").glob("geomalign*.db")
    with sqlite3.connect(database) as opened:
        rows = opened.execute("select run_name, step, metrics from metrics order by id").fetchall()
    assert [(step, json.loads(metrics)["reward"]) for _, step, metrics in rows][-2:] == [(2, 1.2), (3, 1.3)]
    assert {name for name, *_ in rows} == {f"opo-r0.001-s0-{(tmp_path / 'tracking_id.txt').read_text().strip()}"}
