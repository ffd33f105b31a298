"""Learning from pairs of the base's own samples."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from geomalign import recipes
from geomalign.tasks import Problem, held_out
from geomalign.training.checkpoint import read_metrics
from geomalign.training.config import override
from geomalign.training.config.settings import TrainConfig
from geomalign.training.events import Event
from geomalign.training.from_pairs import sample_pairs
from geomalign.training.run import Run
from geomalign.training.trainer import train

pytestmark = pytest.mark.float32


@pytest.fixture
def offline(tiny: TrainConfig) -> TrainConfig:
    return replace(tiny, objective="dpo", rate=1e-3)


def run_of(config: TrainConfig, base: Path, directory: Path) -> Run:
    directory.mkdir(parents=True, exist_ok=True)
    return Run(config, recipes.get(config.objective), directory, base, "run", offline=True)


def test_pairs_are_better_and_worse_responses_to_one_prompt(offline: TrainConfig, base: Path, tmp_path: Path) -> None:
    run = run_of(offline, base, tmp_path)
    pairs, held = sample_pairs(run, run.reference())
    assert len(pairs) > 0
    assert torch.equal(pairs.chosen.prompt, pairs.rejected.prompt)
    texts = [side.texts(run.policy) for side in (pairs.chosen, pairs.rejected)]
    prompts = run.policy.tokenizer.batch_decode(
        [row[m] for row, m in zip(pairs.chosen.prompt, pairs.chosen.prompt_mask)]
    )
    for prompt, better, worse, e1, e2 in zip(
        prompts, *texts, pairs.chosen.ended.tolist(), pairs.rejected.ended.tolist()
    ):
        problem = Problem(prompt, str(eval(prompt.rstrip(";"))), 1)
        assert run.task.reward(problem, better, e1) == 1.0 > run.task.reward(problem, worse, e2)
    assert len(pairs) <= offline.offline.prompts * offline.offline.pairs_per_prompt
    assert not any(held_out(Problem(prompt, "", 1)) for prompt in prompts)
    assert held is not None
    apart = run.policy.tokenizer.batch_decode([row[m] for row, m in zip(held.chosen.prompt, held.chosen.prompt_mask)])
    assert all(held_out(Problem(prompt, "", 1)) for prompt in apart)
    again, _ = sample_pairs(run, run.reference())
    assert torch.equal(again.chosen.response, pairs.chosen.response)


def test_updates_that_are_left_out_are_warned_of_once(offline: TrainConfig, base: Path, tmp_path: Path) -> None:
    run = run_of(offline, base, tmp_path)
    events: list[Event] = []
    run.progress = events.append
    run.step = 2
    for row in ({"skipped": 3.0, "inactive": 1.0}, {"skipped": 1.0}, {"skipped": 0.0, "inactive": 1.0}):
        run._warn(row)
    assert [event.kind for event in events] == ["warning", "warning"]
    assert "not finite" in events[0].message and "geometry inactive" in events[1].message


@pytest.mark.parametrize("name", ["dpo", "ipo", "simpo", "slic", "opo"])
def test_preference_objectives_raise_the_margin(name: str, offline: TrainConfig, base: Path, tmp_path: Path) -> None:
    """Also one of single responses, on the rows of the pairs."""
    config = override(
        replace(offline, objective=name, mode="offline"),
        {"offline.epochs": 6, "offline.batch": 8, "offline.prompts": 32},
    )
    summary = train(config, tmp_path / "run", base=base)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")[1:]
    assert summary["mode"] == "offline"
    late = {key: sum(line.get(key, 0.0) for line in lines[-3:]) / 3 for key in lines[0]}  # the last epoch
    assert late["loss"] < lines[0]["loss"]
    # Pairs are picked, or come from a table: no sample of the reference, to estimate a divergence from it on.
    assert not {"kl", "chi2", "ess", "token_kl"} & set(lines[0])
    if name != "opo":
        assert lines[0]["inactive"] == 1.0 or name == "simpo"
        assert late["margin"] > lines[0]["margin"] and late["preference_accuracy"] > 0.6


def test_a_pair_is_ranked_without_the_margin_that_the_objective_asks_for(
    offline: TrainConfig, base: Path, tmp_path: Path
) -> None:
    """A SimPO that asks for more than any pair has ranks the same pairs rightly as one that asks for nothing."""
    lines = []
    for gamma in (0.0, 1e3):
        config = override(replace(offline, objective="simpo", options={"gamma": gamma}), {"offline.epochs": 1})
        train(config, tmp_path / str(gamma), base=base)
        lines.append(read_metrics(tmp_path / str(gamma) / "metrics.jsonl")[1])
    assert lines[0]["preference_accuracy"] == lines[1]["preference_accuracy"] > 0
    assert lines[0]["margin"] == pytest.approx(lines[1]["margin"], abs=1e-3)


def test_accumulation_takes_the_same_step(offline: TrainConfig, base: Path, tmp_path: Path) -> None:
    lines = []
    for parts in (1, 3):
        config = override(offline, {"offline.accumulation": parts, "offline.epochs": 1})
        train(config, tmp_path / str(parts), base=base)
        lines.append(read_metrics(tmp_path / str(parts) / "metrics.jsonl")[1])
    assert lines[0]["loss"] == pytest.approx(lines[1]["loss"], rel=1e-5)
    assert lines[0]["grad_norm"] == pytest.approx(lines[1]["grad_norm"], rel=1e-4)


def test_no_pairs_is_an_error_with_a_remedy(offline: TrainConfig, base: Path, tmp_path: Path) -> None:
    config = override(offline, {"offline.max_new_tokens": 1})
    with pytest.raises(ValueError, match=r"none of 16 prompts had both.*more samples"):
        train(config, tmp_path / "run", base=base)
