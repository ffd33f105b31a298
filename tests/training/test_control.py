"""Controllers of a run: logged, checkpointed, one per run, and answering what the run measures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import geomalign as ga
from geomalign.training import compare
from geomalign.training.checkpoint import load, read_json, read_metrics
from geomalign.training.config import Choice, CompareConfig, TrainConfig, override
from geomalign.training.events import Event
from geomalign.training.trainer import train

pytestmark = pytest.mark.float32
CONTROL = "kl=0.01 initial=1 rate=0.5"


class Crash(Exception):
    pass


def crash_at(step: int):
    def progress(event: Event) -> None:
        if event.kind == "step" and event.step == step:
            raise Crash

    return progress


def timeless(directory: Path) -> list[dict[str, float]]:
    clocks = ("time/", "memory/", "tokens_per_second")
    rows = read_metrics(directory / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith(clocks)} for row in rows]


def series(directory: Path, name: str) -> list[float]:
    return [row[f"controller_{name}"] for row in read_metrics(directory / "metrics.jsonl") if row["step"] > 0]


@pytest.fixture(scope="module")
def controlled(tiny: TrainConfig) -> TrainConfig:
    return replace(tiny, objective="mirror_descent", control=CONTROL)


@pytest.fixture(scope="module")
def whole(controlled: TrainConfig, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    directory = tmp_path_factory.mktemp("controlled") / "whole"
    train(controlled, directory, base=base)
    return directory


def test_the_stiffness_answers_the_measured_divergence(whole: Path) -> None:
    """μ rises after a rollout whose divergence was above the target and falls below it, by the published rule."""
    stiffness, over, divergence = (series(whole, name) for name in ("stiffness", "over_target", "divergence"))
    assert len(stiffness) == 7 and len(set(stiffness)) > 3 and stiffness[0] == 1.0
    assert over == pytest.approx([value / 0.01 for value in divergence])
    for before, after, share in zip(stiffness, stiffness[1:], over):
        assert (after > before) == (share > 1)
        assert math.log(after / before) == pytest.approx(0.5 * min(max(share - 1, -1), 1))
    assert read_json(whole / "summary.json")["controller"] == repr(ga.AdaptiveStiffness(0.01, rate=0.5, initial=1))


def test_a_controlled_run_resumes_to_the_same_bits(
    controlled: TrainConfig, whole: Path, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(Crash):
        train(controlled, tmp_path, base=base, progress=crash_at(5))
    state = load(tmp_path / "checkpoint.pt")
    assert state["step"] == 4
    assert float(state["controller"]["log_mu"].exp()) == pytest.approx(series(whole, "stiffness")[4])
    train(controlled, tmp_path, base=base, resume=True)
    assert timeless(tmp_path) == timeless(whole)
    bits = [(path / "model" / "model.safetensors").read_bytes() for path in (whole, tmp_path)]
    assert bits[0] == bits[1]


def test_every_run_has_a_controller_of_its_own(
    controlled: TrainConfig, whole: Path, base: Path, tmp_path: Path
) -> None:
    """A second run in the same process begins at the initial stiffness, and the objective remembers nothing."""
    train(override(controlled, {"rl.iterations": 2}), tmp_path, base=base)
    assert series(tmp_path, "stiffness") == series(whole, "stiffness")[:2]
    objective = ga.recipes.get("mirror_descent")
    assert objective == ga.recipes.get("mirror_descent") and hash(objective) == hash(ga.recipes.get("mirror_descent"))


def test_a_stiffness_divides_the_drive(controlled: TrainConfig, base: Path, tmp_path: Path) -> None:
    """A constant μ reached by a controller is the drive divided by it: the first rollout is the same otherwise."""
    rows = []
    for mu in (1, 4):
        config = override(controlled, {"control": f"kl=0.01 initial={mu}", "rl.iterations": 1})
        train(config, tmp_path / str(mu), base=base)
        rows.append(read_metrics(tmp_path / str(mu) / "metrics.jsonl")[1])
    assert rows[0]["reward"] == rows[1]["reward"] and rows[0]["drive_range"] > 0
    assert rows[1]["drive_range"] == pytest.approx(rows[0]["drive_range"] / 4)
    assert rows[1]["controller_divergence"] != rows[0]["controller_divergence"]


def test_a_schedule_is_followed_from_rollout_to_rollout(controlled: TrainConfig, base: Path, tmp_path: Path) -> None:
    train(override(controlled, {"control": "anneal=1:8 rollouts=4"}), tmp_path, base=base)
    assert series(tmp_path, "stiffness") == pytest.approx([1, 2, 4, 8, 8, 8, 8])


def test_a_controller_of_pairs_counts_optimiser_steps(tiny: TrainConfig, base: Path, tmp_path: Path) -> None:
    config = replace(tiny, objective="ipo", control="kl=0.01 initial=2 rate=0.1 low=1")
    train(override(config, {"offline.epochs": 1, "offline.accumulation": 2}), tmp_path, base=base)
    stiffness, over = series(tmp_path, "stiffness"), series(tmp_path, "over_target")
    assert stiffness[0] == 2.0 and over[0] < 1e-9, "the first step is at the reference"
    assert stiffness[1] == pytest.approx(2 * math.exp(-0.1))
    for before, after, share in zip(stiffness, stiffness[1:], over):
        assert (after > before) == (share > 1)


def test_an_objective_that_cannot_be_measured_is_refused_before_anything_is_made(
    controlled: TrainConfig, tmp_path: Path
) -> None:
    place = tmp_path / "run"
    with pytest.raises(ValueError, match="no distance"):
        train(replace(controlled, objective="reinforce"), place)
    with pytest.raises(ValueError, match="no distance"):
        compare(CompareConfig((Choice("reinforce", control=CONTROL),), run=controlled), place)
    assert not place.exists()


def test_a_comparison_sets_a_controller_beside_none(tiny: TrainConfig, base: Path, tmp_path: Path) -> None:
    choices = (Choice("mirror_descent", label="free"), Choice("mirror_descent", label="adaptive", control=CONTROL))
    config = CompareConfig(choices, rates=(1e-3,), seeds=(0,), run=override(tiny, {"rl.iterations": 1}))
    assert [run.control for run in config.runs().values()] == ["", CONTROL]
    wrong = replace(config, objectives=(Choice("mirror_descent", control="kl"),))
    with pytest.raises(ValueError, match="'kl' is not key=value"):
        compare(wrong, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_a_control_that_cannot_be_is_refused_before_the_run(tiny: TrainConfig, base: Path, tmp_path: Path) -> None:
    for control, words in (
        ("kl=-1", "target=-1"),
        ("chi3=0.1", "'chi3' is no controller; there are kl, chi2 and anneal"),
        ("kl=0.1 speed=2", "speed"),
    ):
        with pytest.raises(ValueError, match=words):
            train(replace(tiny, control=control), tmp_path / "run", base=base)
    assert not (tmp_path / "run").exists()
    assert torch.equal(ga.AdaptiveStiffness(0.01).stiffness, torch.ones((), dtype=torch.float64))
