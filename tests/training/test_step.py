"""One optimiser step, and what is said of the steps on a rollout: figures by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import types
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign import tasks
from geomalign.tasks.verifiers import mathematics, sandbox
from geomalign.training import evaluation, from_pairs, pair_tokens, summary, trainer, warmstart
from geomalign.training import run as training_run
from geomalign.training.callbacks import Callback
from geomalign.training.checkpoint import read_metrics
from geomalign.training.config import override
from geomalign.training.config.settings import RLConfig, TaskConfig, TrainConfig
from geomalign.training.events import Event, Failed
from geomalign.training.generation import Rollout
from geomalign.training.policy import Placement
from geomalign.training.step import OptimizerStep, largest_log_ratio, optimizer_step, step_metrics


def outcome(policy: Tensor | None = None) -> ga.Outcome:
    old = torch.zeros(2, 3)
    return ga.recipes.opo()(ga.Batch(old if policy is None else policy, old, reward=torch.tensor([1.0, 0.0])))


@pytest.mark.parametrize("constant", [math.inf, -math.inf, math.nan])
def test_a_loss_that_is_no_number_is_skipped_though_its_gradient_is_one(constant: float) -> None:
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    done = optimizer_step([parameter.sum(), parameter.sum() + constant], optimizer, [parameter], clip_norm=1.0)
    assert done.skipped and math.isfinite(done.norm) and not math.isfinite(done.loss)
    assert parameter.tolist() == [3.0, 4.0] and parameter.grad is None and not optimizer.state


def test_a_gradient_that_is_no_number_is_skipped_though_its_loss_is_one() -> None:
    parameter = torch.nn.Parameter(torch.tensor([0.0, 4.0]))
    done = optimizer_step([parameter.sqrt().sum()], torch.optim.SGD([parameter], lr=0.1), [parameter], clip_norm=0)
    assert done.skipped and done.loss == 2.0 and parameter.tolist() == [0.0, 4.0]


@pytest.mark.parametrize("clip_norm, moved", [(0.0, 5.0), (10.0, 5.0), (1.0, 1.0)])
def test_a_gradient_is_cut_to_its_largest_norm(clip_norm: float, moved: float) -> None:
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    parts = [(parameter**2).sum() / 4, (parameter**2).sum() / 4]
    done = optimizer_step(parts, torch.optim.SGD([parameter], lr=1.0), [parameter], clip_norm)
    assert (done.loss, done.norm, done.skipped) == (12.5, 5.0, False)
    assert float((parameter.detach() - torch.tensor([3.0, 4.0])).norm()) == pytest.approx(moved, rel=1e-5)


def test_a_skipped_update_is_in_no_mean() -> None:
    steps = [
        OptimizerStep(1.0, 2.0, False),
        OptimizerStep(50.0, math.inf, True),
        OptimizerStep(4.0, 6.0, False),
        OptimizerStep(70.0, 90.0, True),
    ]
    found = step_metrics(steps, [torch.zeros(())] * 4, outcome(), outcome())
    assert (found["loss"], found["grad_norm"], found["grad_norm_max"], found["skipped"]) == (2.5, 4.0, 6.0, 2.0)
    assert found["grad_per_range"] == pytest.approx(4.0 / found["drive_range"])


def test_of_skipped_updates_alone_what_is_finite_is_said() -> None:
    steps = [OptimizerStep(3.0, math.inf, True), OptimizerStep(5.0, math.inf, True)]
    found = step_metrics(steps, [torch.zeros(())], outcome(), outcome())
    assert found["loss"] == 4.0 and found["skipped"] == 2.0 and "grad_norm" not in found


def test_the_figures_of_a_rollout_by_hand() -> None:
    policy = torch.tensor([[0.1, 0.2, 0.0], [-0.3, 0.0, 0.1]])
    data = ga.Batch(policy, torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    moved = outcome(policy)
    assert float(largest_log_ratio(moved)) == pytest.approx(0.3)
    found = step_metrics([OptimizerStep(1.0, 2.0, False)], [largest_log_ratio(moved)], outcome(), moved, data)
    total, drive = torch.tensor([0.3, -0.2]), ga.Escort(0.4).drive(data)
    expected = {
        "drive_range": drive.max() - drive.min(),
        "drive_std": drive.std(correction=0),
        "stiffness": 1 / drive.std(correction=0),
        "log_ratio_max": torch.tensor(0.3),
        "inactive": torch.tensor(0.0),
        "kl": (total.exp() * total - total.exp() + 1).mean(),
        "chi2": ((total.exp() - 1) ** 2).mean(),
        "ess": total.exp().sum() ** 2 / (2 * (2 * total).exp().sum()),
        "token_kl": (policy.exp() * policy - policy.exp() + 1).mean(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-9), name


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_a_pair_that_is_tied_is_not_ranked_rightly(margin: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The margins of the responses decide, whatever margin the objective asks for."""
    zero, chosen = torch.zeros(3, 1), torch.tensor([[0.7], [0.0], [-0.4]])
    objective = ga.Objective(unit=ga.Pair(margin=margin), sampling=ga.Label(0.1), optimization=ga.Logistic(0.1))
    anything: Any = types.SimpleNamespace(offline=None)
    run: Any = types.SimpleNamespace(objective=objective, policy=None, config=anything, stiffen=lambda drive: drive)
    monkeypatch.setattr(from_pairs, "_scored", lambda *given: (chosen, zero))
    batch = ga.PreferenceBatch(zero, zero, zero, zero)
    found = from_pairs._validate(run, chosen, batch, objective.drive(batch))  # type: ignore[arg-type]
    assert found["preference_accuracy_held_out"] == pytest.approx(1 / 3)
    assert found["margin_held_out"] == pytest.approx(0.1)
    softplus = torch.nn.functional.softplus(-0.1 * (chosen - margin)).mean()
    assert found["loss_held_out"] == pytest.approx(float(softplus), rel=1e-6)
    assert from_pairs._ahead(torch.tensor([0.1, 0.0, -0.1])).tolist() == [True, False, False]


def test_a_prompt_with_just_enough_room_is_answered_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 positions, prompts of 11, 12 and 14 tokens leave room for 10, 9 and 7: at most 9 are asked for, of two."""
    policy: Any = types.SimpleNamespace(
        positions=20, ask=lambda problem: problem.text, prompt_tokens=lambda texts: texts
    )
    problems: Any = [types.SimpleNamespace(level=1, text="x" * size) for size in (11, 12, 14)]
    task: Any = types.SimpleNamespace(max_response_length=lambda level: 9)
    asked = []

    def sample(policy: Any, texts: list[str], temperature: float, max_new_tokens: int) -> Any:
        asked.append((len(texts), max_new_tokens))
        return types.SimpleNamespace(texts=lambda policy: texts, ended=torch.ones(len(texts)))

    monkeypatch.setattr(evaluation, "sample", sample)
    monkeypatch.setattr(evaluation, "score", lambda task, problems, *rest: [1.0, 0.999][: len(problems)])
    assert evaluation.count_solved(policy, task, problems) == 2
    assert asked == [(2, 9), (1, 7)]


def test_what_is_said_of_the_pairs_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six tokens at most, of which two are the prompt's. A response that ends with the last of them is not cut."""

    def side(*rows: tuple[list[int], bool]) -> Any:
        response = torch.tensor([tokens + [0] * (4 - len(tokens)) for tokens, _ in rows])
        mask = torch.tensor([[k < len(tokens) for k in range(4)] for tokens, _ in rows])
        return Rollout(
            prompt=torch.ones(len(rows), 2, dtype=torch.long),
            prompt_mask=torch.ones(len(rows), 2, dtype=torch.bool),
            response=response,
            mask=mask,
            ended=torch.tensor([ended for _, ended in rows]),
            log_prob=torch.zeros(mask.shape),
            entropy=torch.zeros(mask.shape),
        )

    chosen = side(([5, 6, 7, 2], True), ([5, 6, 7, 8], False), ([5, 2], True))
    rejected = side(([5, 2], True), ([6, 6, 6, 6], False), ([5, 2], True))
    pair: Any = types.SimpleNamespace(problem=types.SimpleNamespace(messages=()), chosen_messages=())
    monkeypatch.setattr(from_pairs, "preferences", lambda data, split: [pair] * 5)
    monkeypatch.setattr(from_pairs, "held_out", lambda problem: False)
    monkeypatch.setattr(from_pairs, "tokenise_pairs", lambda base, pairs, most: ((chosen, rejected), pairs[:3]))
    offline = types.SimpleNamespace(data="pairs.jsonl", split="train", max_length=6)
    told: dict[str, str] = {}
    config = types.SimpleNamespace(offline=offline, task=types.SimpleNamespace(eval_prompts=4))
    run: Any = types.SimpleNamespace(config=config, say=told.__setitem__)
    base: Any = types.SimpleNamespace(positions=64, tokenizer=types.SimpleNamespace(chat_template=None))
    trained, validation = from_pairs.table_pairs(run, base)
    assert len(trained) == 3 and validation is None
    assert told == {
        "long": "2 of 5 pairs left out: their prompts fill offline.max_length, 6 tokens.",
        "cut": "2 of 6 responses lose their end: they pass offline.max_length, 6 tokens.",
        "alike": "1 of 3 pairs have two equal responses, which nothing can be learnt from.",
    }


def test_a_pair_of_which_one_response_is_empty_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the chat template writes nothing for it."""
    responses = {
        ("a", True): [5],
        ("a", False): [],
        ("b", True): [],
        ("b", False): [6],
        ("c", True): [7],
        ("c", False): [8],
    }
    pairs: Any = [types.SimpleNamespace(name=name, problem=types.SimpleNamespace(prompt="?")) for name in "abc"]
    policy: Any = types.SimpleNamespace(
        positions=9, ask=lambda problem: "?", prompt_tokens=lambda texts: [[1]] * len(texts)
    )
    monkeypatch.setattr(pair_tokens, "_response", lambda policy, pair, prompt, chosen: responses[pair.name, chosen])
    monkeypatch.setattr(pair_tokens, "_rollout", lambda policy, rows: rows)
    sides, kept = pair_tokens.tokenise_pairs(policy, pairs, 4)
    assert [pair.name for pair in kept] == ["c"]  # type: ignore[attr-defined]
    assert [[tokens for _, tokens in side] for side in sides] == [[[7]], [[8]]]  # type: ignore[misc]


# ---- a deadline is of the whole, not of each piece that arrives before it

DRIP = (
    "import sys, time\nfor _ in range(100):\n    sys.stdout.write('x')\n    sys.stdout.flush()\n    time.sleep(0.05)\n"
)


def test_a_program_that_speaks_all_the_time_is_ended_in_time() -> None:
    began = time.monotonic()
    assert sandbox.run(DRIP, ("pass",), limits=sandbox.Limits(seconds=0.6)).end == "timeout"
    assert time.monotonic() - began < 5


def test_an_answer_that_drips_is_not_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", DRIP], stdout=subprocess.PIPE, text=True)
    try:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.6 s"):
            mathematics._line(process, 0.6)
        assert time.monotonic() - began < 5
    finally:
        process.kill()
        process.communicate()


# ---- what is said of a whole run, and the rate of the warm start


def steps(**columns: float) -> list[dict[str, float]]:
    return [{"step": k + 1.0, **columns} for k in range(4)]


@pytest.mark.parametrize(
    ("columns", "kinds"),
    [
        ({"truncated": 0.95, "zero_groups": 0.95}, ["truncated"]),
        ({"truncated": 0.94, "zero_groups": 0.95}, []),
        ({"truncated": 0.95, "zero_groups": 0.94}, []),
        ({"truncated": 0.94, "zero_groups": 0.95, "drive_range": 0.0}, ["equal"]),
        ({"truncated": 0.94, "zero_groups": 0.94, "drive_range": 0.0}, []),
        ({"zero_groups": 0.95, "drive_range": 1e-9}, []),
        ({"masked": 128.0}, ["masked"]),
        ({"masked": 121.0}, []),
        ({"masked": 122.0}, ["masked"]),
        ({"masked": 128.0, "truncated": 1.0, "zero_groups": 1.0}, ["masked"]),
        ({"inactive": 1.0}, ["inactive"]),
        ({"inactive": 0.99}, []),
        ({"inactive": 1.0, "grad_norm": 0.0}, []),
        ({"inactive": 1.0, "masked": 128.0}, ["masked"]),
        ({"skipped": 1.0}, ["skipped"]),
    ],
)
def test_the_causes_for_which_a_run_stands_still_and_their_thresholds(
    columns: dict[str, float], kinds: list[str]
) -> None:
    """128 responses to a step; from 95 % on they are called all."""
    config = TrainConfig()
    assert config.rl.prompts * config.rl.samples == 128
    assert list(summary.diagnosis(config, steps(**columns))) == kinds


def test_one_step_with_another_cause_is_not_all_of_them() -> None:
    rows = steps(inactive=1.0)
    assert "inactive" in summary.diagnosis(TrainConfig(), rows)
    assert summary.diagnosis(TrainConfig(), [*rows, {"step": 5.0, "inactive": 0.5}]) == {}
    assert summary.diagnosis(TrainConfig(), [*rows, {"step": 5.0}]) == {}
    assert summary.diagnosis(TrainConfig(), []) == {}
    assert summary.diagnosis(TrainConfig(), steps(masked=128.0), offline=True) == {}


def test_the_final_figures_are_means_of_the_last_ten_steps_and_the_last_evaluation() -> None:
    rows: list[dict[str, float]] = [{"step": float(k), "reward": float(k), "rate": 1.0} for k in range(1, 15)]
    rows[3] |= {"accuracy_in": 0.3, "kl_held_out": 7.0}
    rows[12] |= {"accuracy_in": 0.5, "time/step": 2.0, "entropy": 4.0}
    rows[13] |= {"entropy": math.inf, "tokens": 5.0, "memory/peak": 3.0}
    assert summary._final(rows) == {"reward": 9.5, "entropy": 4.0, "accuracy_in": 0.5}
    assert summary._final(rows[:4]) == {"reward": 2.5, "accuracy_in": 0.3, "kl_held_out": 7.0}


def test_the_cost_of_a_run_by_hand() -> None:
    rows = [
        {"step": 1.0, "time/step": 2.0, "time/generation": 1.5, "time/cpu": 0.5, "tokens": 30.0, "memory/peak": 9.0},
        {"step": 2.0, "time/step": 3.0, "time/evaluation": 4.0, "tokens": 20.0, "memory/peak": 7.0},
    ]
    found = summary._cost(rows)
    assert found["time"]["total"] == 9.0 and found["time"]["generation"] == 1.5 and found["time"]["evaluation"] == 4.0
    assert (found["memory_peak"], found["cpu_seconds"], found["tokens"]) == (9.0, 0.5, 50.0)
    assert found["tokens_per_second"] == 10.0
    assert summary._cost([])["tokens_per_second"] is None and summary._cost([])["memory_peak"] == 0.0


def test_a_mean_is_over_the_steps_that_have_the_figure() -> None:
    assert summary._mean([{"a": 1.0}, {}, {"a": 4.0}], "a") == 2.5 and summary._mean([{}], "a") == 0.0
    assert summary._sum([{"a": 1.0}, {}, {"a": 4.0}], "a") == 5.0


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.5), (3, 2.0), (4, 2.0), (14, 1.1), (9, 0.2 + 0.9 * (1 + math.sqrt(0.5))), (24, 0.2)]
)
def test_the_rate_of_the_warm_start_rises_and_falls_by_half_a_cosine_to_a_tenth(step: int, rate: float) -> None:
    assert warmstart._cosine(step, 24, 4, 2.0) == pytest.approx(rate)


def test_the_longest_pieces_are_packed_first_each_where_it_fits_first() -> None:
    assert warmstart.pack([3, 5, 2, 4, 1], 7) == [[1, 2], [3, 0], [4]]
    assert warmstart.pack([2, 2, 2], 4) == [[0, 1], [2]] and warmstart.pack([4], 4) == [[0]]


# ---- what a step, an evaluation and a run decide, by kind


@pytest.mark.parametrize(
    ("behind", "pull", "inactive"), [(0.9e-4, 1.0, 1.0), (1.1e-4, 1.0, 0.0), (3.9e-4, 4.0, 1.0), (4.1e-4, 4.0, 0.0)]
)
def test_a_geometry_acts_at_the_anchor_from_a_ten_thousandth_of_the_drive_on(
    behind: float, pull: float, inactive: float
) -> None:
    """Measured from a reference that lies behind by `behind`: of u − g with g = ±`pull` the first is its own force."""
    old = torch.full((2, 1), -1.0)
    rows = ga.Batch(old, old, advantage=torch.tensor([pull, -pull]), reference=old - behind)
    objective = ga.Objective(
        unit=ga.Sequence(), sampling=ga.Advantage(), optimization=ga.ChiSquare(), anchor="reference"
    )
    found = step_metrics([OptimizerStep(1.0, 2.0, False)], [torch.zeros(())], objective(rows), objective(rows))
    assert found["inactive"] == inactive


def test_of_a_sum_the_first_term_is_described_and_without_events_nothing_is() -> None:
    rows = ga.Batch(torch.full((2, 1), 0.1), torch.zeros(2, 1), advantage=torch.tensor([1.0, -3.0]))

    def term(mu: float, sampling: ga.SamplingGeometry) -> ga.Objective:
        return ga.Objective(unit=ga.Sequence(), sampling=sampling, optimization=ga.ChiSquare(mu))

    both = (term(3.0, ga.Advantage()) + 0.5 * term(7.0, ga.SignWeighted(ga.Advantage(), 5.0, 5.0)))(rows)
    found = step_metrics([OptimizerStep(1.0, 2.0, False)], [torch.zeros(())], both, both)
    assert (found["drive_range"], found["drive_std"], found["stiffness"]) == (4.0, 2.0, 1.5)
    assert found["gap"] == pytest.approx(((0.3 - 1) ** 2 + (0.3 + 3) ** 2) / (2 * 2 * 3))
    empty = term(3.0, ga.Advantage())(
        ga.Batch(rows.policy, rows.old, torch.zeros(2, 1, dtype=torch.bool), advantage=rows.advantage)
    )
    found = step_metrics([OptimizerStep(1.0, 2.0, False)], [torch.tensor(math.inf)], empty, empty)
    assert found["drive_range"] == 0.0 and not {"grad_per_range", "log_ratio_max"} & found.keys()


def test_masked_tokens_are_in_no_largest_log_ratio_and_without_an_old_policy_it_is_not_known() -> None:
    mask = torch.tensor([[True, False]])
    rows = ga.Batch(torch.tensor([[-0.25, 9.0]]), torch.zeros(1, 2), mask, advantage=torch.ones(1))
    objective = ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), optimization=ga.ChiSquare())
    assert float(largest_log_ratio(objective(rows))) == 0.25
    free = ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), optimization=ga.Flat(), anchor=None)
    assert float(largest_log_ratio(free(ga.Batch(rows.policy, None, advantage=torch.ones(1))))) == math.inf


def test_accuracies_and_greedy_rewards_of_levels_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four prompts: what is not verified is wrong and has no reward; a level that nothing is known of has none."""
    nan, config = math.nan, TrainConfig()
    rewards = {3: [1.0, 0.999, 1.5, nan], 4: [0.0, 2.0, nan, nan], 6: [nan] * 4}
    assert config.kinds() == {3: "in", 4: "harder", 6: "unseen"}

    def greedy(policy: Any, task: Any, problems: Any, timeout: float, failed: Any) -> list[float]:
        assert len(problems) == 4 and timeout == config.rl.reward_timeout
        found = rewards[problems[0].level]
        for reward in found:
            if math.isnan(reward):
                failed("broken")
        return found

    told: list[str] = []
    monkeypatch.setattr(evaluation, "greedy_rewards", greedy)
    policy: Any = None
    found = evaluation.evaluate(config, policy, tasks.Chain(), 4, failed=told.append)
    assert told == ["broken"], "once"
    assert found == pytest.approx(
        {
            "accuracy/3": 0.5,
            "accuracy/4": 0.25,
            "accuracy/6": 0.0,
            "accuracy_in": 0.5,
            "accuracy_out": 0.25,
            "accuracy_unseen": 0.0,
            "greedy_reward/3": 3.499 / 3,
            "greedy_reward/4": 1.0,
            "greedy_reward_in": 3.499 / 3,
            "greedy_reward_out": 1.0,
        }
    )


def test_so_many_rows_are_answered_at_once_and_at_least_one_token_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5 positions a prompt of 5 leaves room for one token, and what has outgrown them is asked for one too."""
    policy: Any = types.SimpleNamespace(
        positions=5, ask=lambda problem: problem.text, prompt_tokens=lambda texts: texts
    )
    problems = [types.SimpleNamespace(level=level, text="x" * size) for level, size in ((1, 5), (1, 7), (2, 1))]
    task: Any = types.SimpleNamespace(max_response_length=lambda level: 2 * level)
    asked, scored = [], []

    def sample(policy: Any, texts: list[Any], temperature: float, max_new_tokens: int) -> Any:
        asked.append((len(texts), temperature, max_new_tokens))
        return types.SimpleNamespace(texts=lambda policy: texts, ended=torch.ones(len(texts)))

    def score(task: Any, problems: Any, texts: Any, ended: Any, timeout: float, failed: Any) -> list[float]:
        scored.append(timeout)
        return [1.0] * len(problems)

    monkeypatch.setattr(evaluation, "sample", sample)
    monkeypatch.setattr(evaluation, "score", score)
    some: Any = problems
    assert evaluation.greedy_rewards(policy, task, some, rows=2) == [1.0] * 3
    assert asked == [(2, 0.0, 1), (1, 0.0, 4)] and scored == [0.0, 0.0]
    assert evaluation.count_solved(policy, task, some, 3.0, 1) == 3
    assert asked[2:] == [(1, 0.0, 1), (1, 0.0, 1), (1, 0.0, 4)] and scored[2:] == [3.0] * 3
    del asked[:]
    assert len(evaluation.greedy_rewards(policy, task, some[2:] * 513)) == 513
    assert evaluation.count_solved(policy, task, some[2:] * 513) == 513
    assert [count for count, *_ in asked] == [512, 1, 512, 1]


def test_a_summary_by_hand() -> None:
    rows: list[dict[str, float]] = [
        {"step": 0.0, "accuracy_in": 0.1, "greedy_reward_in": 0.2, "reward": 9.0},
        {"step": 1.0, "reward": 0.5, "skipped": 2.0, "masked": 3.0},
        {"step": 2.0, "reward": 1.5, "skipped": 1.0},
    ]
    config = TrainConfig("opo mu=3.0", rate=0.25, seed=7)
    objective = ga.recipes.opo(mu=3.0)
    found = summary.summarise(config, objective, rows, name="mine")
    expected = {
        "name": "mine",
        "options": {"mu": 3.0},
        "rate": 0.25,
        "seed": 7,
        "mode": "rl",
        "controller": "",
        "decoupled": True,
        "iterations": 2,
        "base": {"accuracy_in": 0.1, "greedy_reward_in": 0.2},
        "solved_at": 1.0,
        "final": {"reward": 1.0, "skipped": 1.5, "masked": 3.0},
        "masked": 3.0,
        "skipped": 3.0,
        "warnings": [],
    }
    assert {name: found[name] for name in expected} == expected
    still = [rows[0], *steps(inactive=1.0, skipped=1.0)]
    found = summary.summarise(config, objective, still, name="mine", offline=True, controller=1.5)
    assert (found["mode"], found["controller"]) == ("offline", "1.5")
    assert found["skipped"] == 4.0 and found["warnings"] == []  # said in the course of the run
    still = [rows[0], *steps(inactive=1.0)]
    assert summary.summarise(config, objective, still, name="", offline=True)["warnings"] == [summary.INACTIVE]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"masked": 128.0}, ["masked 512 of 512: no response"]),
        ({"masked": 122.0}, ["masked 488 of 512: nearly no"]),
        (
            {"truncated": 0.96, "zero_groups": 1.0, "reward": 0.25},
            ["truncated 0.96", "= 32 ", "groups 1.00", "0.25 in"],
        ),
        ({"drive_range": 0.0, "zero_groups": 0.97, "reward": 0.5}, ["zero groups 0.97", "0.50 in", "rl.samples = 8"]),
        ({"inactive": 1.0, "grad_norm": 0.125}, ["16 steps are taken", "is 0.12 ", f"size {TrainConfig().rate:g}:"]),
    ],
)
def test_a_cause_is_said_with_its_figures(columns: dict[str, float], words: list[str]) -> None:
    (text,) = summary.diagnosis(TrainConfig(), steps(**columns)).values()
    assert all(word in text for word in words), text


def test_a_drive_that_is_absent_in_some_steps_only_is_no_cause() -> None:
    rows = [*steps(zero_groups=1.0, drive_range=0.0), *({"step": 9.0, "zero_groups": 1.0} for _ in range(4))]
    assert summary.diagnosis(TrainConfig(), rows) == {}
    rows = [*steps(zero_groups=1.0, drive_range=0.0) * 5, {"step": 9.0, "zero_groups": 1.0}]  # 20 of 21
    assert list(summary.diagnosis(TrainConfig(), rows)) == ["equal"]
    still = [*steps(inactive=1.0, grad_norm=0.5), {"step": 9.0, "inactive": 1.0, "grad_norm": 0.0}]
    assert summary.diagnosis(TrainConfig(), still) == {}


class Bare(training_run.Run):
    """A run without model and files, whose decisions alone are looked at."""

    def __init__(self, config: TrainConfig, directory: Any = None) -> None:
        self.config, self.offline, self.objective, self.name = config, False, ga.recipes.opo(), "mine"
        self.controller, self.callbacks, self._stopped = None, (), False
        self._warned, self._rows, self.step, self._kept = set(), [], 0, 0
        self.events: list[Event] = []
        self.progress = self.events.append
        self.directory = self.base = directory
        self.placement = types.SimpleNamespace(synchronize=lambda: None)  # type: ignore[assignment]
        self._clock = types.SimpleNamespace(  # type: ignore[assignment]
            restart=lambda: None, read=lambda: {"update": 2.0}, memory=lambda: 3.0, timed=lambda part: nullcontext()
        )
        self.evaluated: list[tuple[int, int]] = []
        self.saved: list[int] = []

    def _evaluate(self, prompts: int) -> dict[str, float]:
        self.evaluated.append((self.step, prompts))
        return {"accuracy_in": 0.5}

    def save(self, position: int) -> None:
        self.saved.append(self.step)


def test_when_a_run_evaluates_saves_and_reports(tmp_path: Path) -> None:
    """Every second step and the last one; the last and the first evaluation are of more prompts."""
    config = TrainConfig(
        rl=RLConfig(eval_every=2, checkpoint_every=3), task=TaskConfig(eval_prompts=9, eval_interim_prompts=4)
    )
    run = Bare(config, tmp_path)
    validated = []
    run.loop(5, lambda: {"tokens": 12.0}, lambda: validated.append(run.step) or {"more": 1.0})  # type: ignore[func-returns-value]
    assert run.evaluated == [(0, 9), (2, 4), (4, 4), (5, 9)] and validated == [2, 4, 5] and run.saved == [3, 5]
    assert [event.kind for event in run.events if event.kind != "warning"] == ["start"] + ["step"] * 5
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5] and rows[0] == {"step": 0, "accuracy_in": 0.5}
    assert ["more" in row for row in rows] == [False, False, True, False, True, True]
    assert rows[1]["time/update"] == 2.0 and rows[1]["memory/peak"] == 3.0 and rows[1]["rate"] == config.rate
    assert rows[1]["tokens_per_second"] == pytest.approx(12.0 / rows[1]["time/step"])
    again = Bare(config, tmp_path)  # a run that goes on is not evaluated at its beginning
    again.step, again._kept = 5, (tmp_path / "metrics.jsonl").stat().st_size
    again.loop(6, lambda: {"tokens": 12.0})
    assert again.evaluated == [(6, 9)] and [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")][-1] == 6


@pytest.mark.parametrize(
    ("rows", "kinds"),
    [
        ([(1, {"skipped": 1.0})], ["not finite"]),
        ([(1, {"masked": 128.0})], ["masked 128"]),
        ([(1, {"inactive": 1.0})], []),  # the first step of pairs is at log-ratio 0
        ([(1, {"inactive": 1.0}), (2, {"inactive": 1.0})], ["geometry inactive"]),
        ([(1, {}), (2, {"inactive": 1.0})], ["geometry inactive"]),
        ([(1, {"zero_groups": 1.0, "drive_range": 0.0})], []),
        ([(k, {"zero_groups": 1.0, "drive_range": 0.0}) for k in (1, 2, 3)], ["zero groups"]),
        ([(1, {"zero_groups": 0.0}), (2, {"zero_groups": 1.0, "drive_range": 0.0})], []),  # by chance
    ],
)
def test_what_a_step_is_warned_of(rows: list[tuple[int, dict[str, float]]], kinds: list[str]) -> None:
    run = Bare(TrainConfig())
    for run.step, row in rows:
        run._warn(row)
    assert len(run.events) == len(kinds) and all(kind in e.message for kind, e in zip(kinds, run.events))


@pytest.mark.parametrize("norms", [[], [0.0, 0.0]])
def test_a_run_without_a_gradient_fails_with_its_cause(norms: list[float], tmp_path: Path) -> None:
    rows = [
        {"step": 0, "masked": 1.0},
        *({"step": k + 1, "grad_norm": x, "masked": 128.0} for k, x in enumerate(norms)),
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cause = f"masked {128 * len(norms)} of" if norms else "The gradient of the objective is zero at every step"
    with pytest.raises(Failed, match=cause):
        Bare(TrainConfig(), tmp_path)._finish()


def test_a_base_is_measured_once(tmp_path: Path) -> None:
    run = Bare(TrainConfig(task=TaskConfig(eval_prompts=9)), tmp_path)
    assert run._base_measured() == {"accuracy_in": 0.5} and run.evaluated == [(0, 9)]
    (tmp_path / "warmstart.json").write_text(json.dumps({"accuracy_in": 0.25, "greedy_reward_in": 0.1, "loss": 2.0}))
    assert run._base_measured() == {"accuracy_in": 0.25, "greedy_reward_in": 0.1} and len(run.evaluated) == 1


@pytest.mark.parametrize(("offline", "ranks", "refused"), [(False, 16, False), (False, 17, True), (True, 17, False)])
def test_every_process_needs_a_prompt(
    offline: bool, ranks: int, refused: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(trainer.distributed, "world_size", lambda: ranks)
    monkeypatch.setattr(trainer, "acquire", lambda *given, **named: taken.append(named["resume"]))
    with pytest.raises(ValueError, match=r"rl\.prompts is 16, but 17") if refused else nullcontext():
        trainer._begin(TrainConfig(), offline, tmp_path, True)
    assert taken == ([] if refused else [True])


# ---- what a run does with its settings, its checkpoint and its callbacks


@pytest.mark.parametrize(
    ("settings", "offline", "response", "base_of_adapter"),
    [
        ({}, False, 32, "base"),
        ({"rl.max_new_tokens": 5, "offline.data": "pairs.jsonl"}, False, 5, "base"),
        ({"rl.max_new_tokens": 5, "offline.max_new_tokens": 7}, True, 7, "base"),
        ({"offline.data": "pairs.jsonl"}, True, 0, "base"),
        ({"model.path": "owner/model"}, False, 32, "owner/model"),
        ({"model.path": "owner/model", "warm_start.enabled": "yes"}, False, 32, "base"),
    ],
)
def test_what_a_run_begins_with(
    settings: dict[str, Any], offline: bool, response: int, base_of_adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Responses of pairs of a table are not sampled; the files of an adapter name the model that the user gave."""
    common = {"lora.rank": 4, "dtype": "float64", "gradient_checkpointing": True, "seed": 7, "rate": 0.5}
    loop = {"betas": [0.5, 0.75], "weight_decay": 0.25}
    both = {f"{name}.{key}": value for name in ("rl", "offline") for key, value in loop.items()}
    config = override(TrainConfig(), common | both | settings)
    parameters, seen = [torch.nn.Parameter(torch.zeros(2))], dict[str, Any]()
    policy: Any = types.SimpleNamespace(parameters=parameters)

    def adapted(policy: Any, lora: Any, seed: int, base: str) -> Any:
        seen["adapted"] = (lora.rank, seed, Path(base).name if base.startswith("/") else base)
        return policy

    def fitting(task: Any, given: Any, config: Any, response: int, say: Any) -> Any:
        seen["response"] = response
        return task

    monkeypatch.setattr(training_run, "load", lambda base, placement: policy)
    monkeypatch.setattr(training_run, "adapted", adapted)
    monkeypatch.setattr(training_run, "fitting", fitting)
    run = training_run.Run(config, ga.recipes.opo(), Path("nowhere"), Path("/runs/base"), "mine", offline=offline)
    assert seen == {"adapted": (4, 7, base_of_adapter), "response": response}
    assert run.settings is (config.offline if offline else config.rl)
    assert run.placement == Placement("cpu", "float64", True)
    options = {"lr": 0.5, "betas": (0.5, 0.75), "weight_decay": 0.25, "fused": True}
    assert {key: run.optimizer.defaults[key] for key in options} == options
    assert (run.step, run._stopped, run.callbacks, run._kept) == (0, False, (), 0)
    assert run.generator.initial_seed() == run.order.initial_seed() == 7
    assert training_run.Run.__init__.__defaults__[2:] == (False, ())  # type: ignore[index]


class Counter(Callback):
    """Adds up; stops the run where it is told to."""

    def __init__(self, add: int = 1, stop_at: int = 0) -> None:
        self.add, self.total, self.stop_at, self.seen = add, 0, stop_at, list[Any]()

    def on_start(self, run: training_run.Run) -> None:
        self.seen.append(("start", run.step))

    def on_step(self, run: training_run.Run, metrics: dict[str, float]) -> None:
        self.total += self.add
        if run.step == self.stop_at:
            run.stop()

    def on_evaluation(self, run: training_run.Run, metrics: Any) -> None:
        self.seen.append(("evaluation", run.step, metrics["accuracy_in"]))

    def on_end(self, run: training_run.Run, summary: Any) -> None:
        if summary is None:
            raise OSError("no more")
        self.seen.append(("end", summary["final"]))

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: Any) -> None:
        self.total = state["total"]


class Other(Counter):
    pass


class Stateful:
    """Stands for what a run saves and restores."""

    def __init__(self, state: Any = None) -> None:
        self.kept = state

    def state(self) -> Any:
        return self.kept

    def load(self, state: Any) -> None:
        self.kept = state

    get_state = state_dict = state
    set_state = load_state = load_state_dict = load


def test_a_checkpoint_holds_every_part_and_gives_each_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("policy", "optimizer", "generator", "order")

    def made(controller: Any, *callbacks: Callback) -> Any:
        run: Any = Bare(TrainConfig(), tmp_path)
        for name in names:
            setattr(run, name, Stateful())
        run.controller, run.callbacks, run._saved = controller, callbacks, tmp_path / "checkpoint.pt"
        return run

    first, second, third = Counter(), Counter(), Other()
    run = made(Stateful(2.5), first, third, second)
    for name in names:
        getattr(run, name).kept = name
    first.total, second.total, third.total, run.step = 3, 4, 5, 11
    training_run.Run.save(run, 77)
    one, two, three = Counter(), Counter(), Other()
    again = made(Stateful(), Callback(), three, one, two)
    assert training_run.Run._restore(again) == 77 and again.step == 11 and again.controller.kept == 2.5
    assert [getattr(again, name).kept for name in names] == list(names)
    assert (one.total, two.total, three.total) == (3, 4, 5)
    plain = made(None)
    assert training_run.Run._restore(plain) == 77
    training_run.Run.save(plain, 5)
    assert training_run.Run._restore(made(None, Counter())) == 5
    monkeypatch.setattr(training_run.distributed, "rank", lambda: 1)
    training_run.Run.save(plain, 6)
    assert training_run.Run._restore(plain) == 5, "rank 0 writes"
    monkeypatch.setattr(training_run.distributed, "rank", lambda: 0)

    def full(path: Path, state: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(training_run.checkpoint, "save", full)
    plain.step = 9
    training_run.Run.save(plain, 6)
    assert [e.message for e in plain.events] == [
        "the checkpoint of step 9 could not be written (no space); the last one is kept."
    ]


def test_a_callback_ends_a_run_as_if_its_step_had_been_the_last(tmp_path: Path) -> None:
    config = TrainConfig(rl=RLConfig(eval_every=2, checkpoint_every=100), task=TaskConfig(eval_prompts=9))
    run = Bare(config, tmp_path)
    counter = Counter(stop_at=3)
    run.callbacks, run._clock.read = (counter,), lambda: {"evaluation": 2.0}  # type: ignore[method-assign]
    run.loop(8, lambda: {"tokens": 12.0}, lambda: {"more": 1.0})
    assert run.step == 3 and run.evaluated == [(0, 9), (2, 128), (3, 9)] and run.saved == [3]
    assert counter.seen == [("start", 0), *(("evaluation", k, 0.5) for k in (0, 2, 3))]
    (last,) = read_metrics(tmp_path / "metrics.jsonl")[3:]
    assert last["more"] == 1.0 and last["time/evaluation"] == 2.0
    stopped = Bare(config, tmp_path)  # at a step that is evaluated anyway, it is evaluated once
    stopped.callbacks = (Counter(stop_at=2),)
    stopped.loop(8, dict)
    assert stopped.evaluated == [(0, 9), (2, 128)] and stopped.saved == [2]
    free = Bare(config, tmp_path)
    free.stop()
    assert not free._stops(), "who has no callback is not asked"
    run.progress = lambda event: run.events.append(event)
    run.abandon()
    assert "Counter.on_end raised OSError" in run.events[-1].message


def test_what_does_not_fit_is_said_at_the_beginning_and_steps_cost_what_they_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Bare(TrainConfig("ppo"), tmp_path)
    run.objective = ga.recipes.ppo()
    times = types.SimpleNamespace(perf_counter=iter([100.0, 104.0]).__next__, process_time=iter([7.0, 10.0]).__next__)
    monkeypatch.setattr(training_run, "time", times)
    run.loop(1, lambda: {"tokens": 12.0})
    assert [event.kind for event in run.events] == ["start", "warning", "step"]
    assert run.events[1].message.startswith("ppo reads advantages, and this run has rewards alone")
    row = read_metrics(tmp_path / "metrics.jsonl")[1]
    assert (row["time/step"], row["time/cpu"], row["tokens_per_second"]) == (4.0, 3.0, 3.0)
    monkeypatch.undo()
    monkeypatch.setattr(training_run.distributed, "rank", lambda: 1)
    other = Bare(TrainConfig(), tmp_path / "nowhere")
    other.loop(1, dict)
    assert not (tmp_path / "nowhere").exists(), "rank 0 writes"


def test_all_processes_take_part_in_an_evaluation_and_the_first_failure_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Any = Bare(TrainConfig(), tmp_path)
    run.policy, run.task = "policy", "task"

    def evaluate(*given: Any, together: bool, failed: Any) -> dict[str, float]:
        assert given == (run.config, "policy", "task", 3) and together is True
        failed("first")
        failed("second")
        return {"accuracy_in": 0.25}

    monkeypatch.setattr(training_run, "evaluate", evaluate)
    assert training_run.Run._evaluate(run, 3) == {"accuracy_in": 0.25}
    run.unverified([])
    assert [event.message for event in run.events] == ["first"]
    run.say("other", "more")
    run.say("other", "again")
    assert [event.message for event in run.events] == ["first", "more"]


def test_a_controller_stiffens_observes_and_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = Bare(TrainConfig())
    drive = torch.ones(2)
    assert run.stiffen(drive) is drive and run.end_rollout() == {}
    run.observe(None)
    told: list[Any] = []
    run.controller = types.SimpleNamespace(
        stiffen=lambda objective, drive: (objective, drive),
        observe=told.append,
        step=lambda: told.append("step"),
        readings=lambda: {"stiffness": torch.tensor(2.0)},
    )
    assert run.stiffen(drive) == (run.objective, drive)
    run.observe("outcome")
    assert run.end_rollout() == {"controller_stiffness": 2.0} and told == ["outcome", "step"]
    frozen = types.SimpleNamespace(adapter=object(), frozen=lambda: "frozen")
    monkeypatch.setattr(training_run, "load", lambda base, placement: ("loaded", base, placement))
    run.policy = frozen
    assert run.reference() == "frozen"
    run.policy = types.SimpleNamespace(adapter=None, frozen=lambda: pytest.fail("of no adapter"))
    assert run.reference() == ("loaded", run.base, run.placement)


def test_one_step_with_a_gradient_is_enough_to_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"step": 0, "accuracy_in": 0.1}, {"step": 1, "grad_norm": 0.0}, {"step": 2, "grad_norm": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run: Any = Bare(TrainConfig(), tmp_path)
    run.step, counter = 2, Counter()
    run.callbacks = (counter,)
    weights = [torch.nn.Parameter(torch.zeros(n), requires_grad=n < 4) for n in (3, 4)]
    run.policy = types.SimpleNamespace(model=torch.nn.ParameterList(weights), parameters=weights[:1])
    written: list[Any] = []
    monkeypatch.setattr(training_run, "save", lambda policy, directory, text: written.append((directory, text[:3])))
    result = run.finish()
    assert (result["parameters"], result["trained_parameters"]) == (7, 3)
    assert written == [(tmp_path / "model", "---")] and json.loads((tmp_path / "summary.json").read_text()) == result
    assert counter.seen == [("end", result["final"])]
    assert (run.events[-1].kind, run.events[-1].step, run.events[-1].total) == ("done", 2, 2)


def test_what_callbacks_add_to_a_row_becomes_a_number() -> None:
    row: dict[str, Any] = {"a": 1, "b": 0.5, "c": torch.tensor(0.25), "d": "3"}
    training_run._as_numbers(row)
    assert row == {"a": 1, "b": 0.5, "c": 0.25, "d": 3.0} and type(row["a"]) is int and type(row["c"]) is float
    with pytest.raises(Failed, match="a callback added e = None to the metrics of a step; it is no number"):
        training_run._as_numbers({"e": None})  # type: ignore[dict-item]
