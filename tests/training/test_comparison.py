"""Comparisons: processes that fail, die or are interrupted cost themselves only."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from geomalign.training import compare
from geomalign.training.checkpoint import read_json
from geomalign.training.comparison import worker_count
from geomalign.training.config import Choice, CompareConfig, TrainConfig, override
from geomalign.training.events import Event, Interrupted

pytestmark = pytest.mark.float32

MISCHIEF = """
import os, signal
import os
import signal
from dataclasses import dataclass
import geomalign as ga

@dataclass(frozen=True)
class Mischief(ga.SamplingGeometry):
    "A drive that raises, or kills its process, when it is asked for."
    fatal: bool = False
    def latex(self): return 'g'
    def drive(self, batch):
        if self.fatal: os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("the drive failed")

def make(fatal):
    return ga.Objective(unit=ga.Sequence(), sampling=Mischief(fatal), optimization=ga.ChiSquare(1.0))
"""


@pytest.fixture
def small(tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CompareConfig:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mischief.py").write_text(MISCHIEF)
    return CompareConfig(
        objectives=(Choice("grpo"), Choice("opo", {"mu": 5.0}, "stiff")),
        rates=(1e-3,),
        seeds=(0, 1),
        workers=1,
        run=override(tiny, {"rl.iterations": 4}),
    )


@pytest.mark.slow
def test_failures_stay_where_they_happen_and_resuming_repeats_only_them(small: CompareConfig, tmp_path: Path) -> None:
    """One objective raises, one kills its process; the others finish. Then nothing that is finished is done again."""
    bad = (Choice("mischief:make", {"fatal": True}, "fatal"), Choice("mischief:make", {"fatal": False}, "failing"))
    config = replace(small, objectives=(*bad, *small.objectives), seeds=(0,), workers=2)
    events: list[Event] = []
    out = tmp_path / "out"
    summary = compare(config, out, progress=events.append)
    assert sorted(run["name"] for run in summary["runs"]) == ["grpo-r0.001-s0", "stiff-r0.001-s0"]
    assert summary["failed"] == {
        "fatal-r0.001-s0": "its process died with exit code -9",
        "failing-r0.001-s0": "RuntimeError: the drive failed",
    }
    assert "in drive" in (out / "runs" / "failing-r0.001-s0" / "error.txt").read_text()
    assert (out / "runs" / "fatal-r0.001-s0" / "error.txt").exists()
    assert events[0].kind == "plan" and events[0].total == 4 and events[0].metrics["workers"] == 2
    assert next(event.run for event in events if event.kind == "done") == "warm start"
    assert {event.run for event in events if event.kind == "failed"} == set(summary["failed"])
    assert summary["levels"] == {"1": "in", "2": "harder"}
    assert summary == {**read_json(out / "summary.json")}
    runs = {run["label"]: run for run in summary["runs"]}
    assert runs["stiff"]["slots"]["optimization"] == "ChiSquare(mu=5.0)"
    assert runs["stiff"]["base"] == runs["grpo"]["base"]

    stamps = {
        path: path.stat().st_mtime_ns for path in out.glob("runs/*/metrics.jsonl") if "fa" not in path.parent.name
    }
    again: list[Event] = []
    second = compare(config, out, resume=True, progress=again.append)
    assert {event.run for event in again if event.kind == "skipped"} == {
        "warm start",
        *(run["name"] for run in summary["runs"]),
    }
    assert {event.run for event in again if event.kind == "failed"} == set(summary["failed"])
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert second["seconds"] > summary["seconds"] and second["runs"] == summary["runs"]

    with pytest.raises(ValueError, match="holds a run already"):
        compare(config, out)
    with pytest.raises(ValueError, match=r"other settings \(seeds"):
        compare(replace(config, seeds=(0, 5)), out, resume=True)


def test_an_interrupted_comparison_ends_as_an_uninterrupted_one(small: CompareConfig, tmp_path: Path) -> None:
    config = replace(small, objectives=small.objectives[:1], seeds=(0,))
    whole = compare(config, tmp_path / "whole")

    def interrupt(event: Event) -> None:
        if event.run == "grpo-r0.001-s0" and event.step == 1 and event.kind == "step":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        compare(config, tmp_path / "parts", progress=interrupt)
    assert not (tmp_path / "parts" / "summary.json").exists()
    events: list[Event] = []
    parts = compare(config, tmp_path / "parts", resume=True, progress=events.append)
    start = next(event.step for event in events if event.kind == "start" and event.run == "grpo-r0.001-s0")
    assert start > 0, "the worker saved before it stopped"
    assert [run["final"] for run in parts["runs"]] == [run["final"] for run in whole["runs"]]


def test_a_comparison_that_cannot_begin_says_so_before_it_does(small: CompareConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Did you mean 'opo'"):
        compare(replace(small, objectives=(Choice("opoo"),)), tmp_path / "out")
    with pytest.raises(ValueError, match="no task"):
        compare(override(small, {"run.task.name": "chian"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert worker_count(replace(small, workers=8), 3) == 3
    assert worker_count(replace(small, workers=0), 1) == 1
