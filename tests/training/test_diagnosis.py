"""Code of the user's that misbehaves, objectives that cannot learn from what a run has, and what a run says of both."""

import asyncio
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch

import geomalign as ga
from geomalign.tasks import Chain, Problem, score
from geomalign.training import from_rewards
from geomalign.training.checkpoint import read_metrics
from geomalign.training.config import override
from geomalign.training.config.settings import OfflineConfig, RLConfig, TrainConfig
from geomalign.training.events import Event, Failed
from geomalign.training.fit import idle_settings, refuse_unfit, unfit
from geomalign.training.from_rewards import _rollout_metrics
from geomalign.training.generation import Rollout
from geomalign.training.summary import diagnosis
from geomalign.training.trainer import train

pytestmark = pytest.mark.float32

# ---------------------------------------------------------------------- what a verifier may do


class Outcome(BaseException):
    """As test frameworks raise it."""


class Verifier(Chain):
    """Does what it is told."""

    act: Callable[[], Any]

    def reward(self, problem: Problem, response: str, ended: bool) -> Any:
        return type(self).act()


def judged(act: Callable[[], Any], **more: Any) -> tuple[float, list[str]]:
    told: list[str] = []
    task = type("Told", (Verifier,), {"act": staticmethod(act)})()
    (first, again) = score(task, [Problem("1+1;", "2", 1)] * 2, ["1+1=2#2"] * 2, [True] * 2, failed=told.append, **more)
    assert first == again or (math.isnan(first) and math.isnan(again))
    return first, told


def raises(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "seen"),
    [
        (lambda: exit(0), "raised SystemExit: 0 ("),
        (raises(SystemExit()), "raised SystemExit"),
        (raises(Outcome("skipped")), "raised Outcome: skipped ("),
        (raises(asyncio.CancelledError()), "raised CancelledError"),
        (raises(RecursionError("deep")), "raised RecursionError: deep"),
        (raises(ValueError("no JSON")), "raised ValueError: no JSON ("),
        (lambda: math.sqrt(1, 2), "raised TypeError: "),  # type: ignore[call-arg]
        (lambda: None, "returned None, which is no finite number"),
        (lambda: "1.0", "returned '1.0', which is no finite number"),
        (lambda: "yes", "returned 'yes', which is no finite number"),
        (lambda: b"1", "returned b'1', which is no finite number"),
        (lambda: (1.0, "right"), "returned (1.0, 'right'), which is no finite number"),
        (lambda: {"score": 1.0}, "returned {'score': 1.0}, which is no finite number"),
        (lambda: [1.0, 2.0], "returned [1.0, 2.0], which is no finite number"),
        (lambda: 1j, "returned 1j, which is no finite number"),
        (lambda: math.inf, "returned inf, which is no finite number"),
        (lambda: 10**400, "which is no finite number"),
        (lambda: torch.ones(2), "which is no finite number"),
    ],
)
@pytest.mark.parametrize("timeout", [0.0, 5.0])
def test_what_is_no_reward_costs_its_response_and_is_shown_with_its_row(
    act: Callable[[], Any], seen: str, timeout: float
) -> None:
    reward, told = judged(act, timeout=timeout)
    assert math.isnan(reward) and len(told) == 1
    assert seen in told[0] and "'1+1=2#2' to '1+1;', whose answer is '2'" in told[0]


@pytest.mark.parametrize(
    ("value", "reward"),
    [
        (1, 1.0),
        (True, 1.0),
        (Decimal("0.5"), 0.5),
        (torch.tensor([0.25]), 0.25),
        (torch.tensor(2), 2.0),
        (math.nan, None),
    ],
)
def test_what_is_a_reward_is_one(value: Any, reward: float | None) -> None:
    """NaN is a verdict: the response cannot be judged."""
    found, told = judged(lambda: value)
    assert told == [] and (found == reward or (reward is None and math.isnan(found)))


def test_what_a_verifier_raises_in_a_thread_is_shown_too() -> None:
    found: list[tuple[float, list[str]]] = []
    thread = threading.Thread(target=lambda: found.append(judged(lambda: exit(3), timeout=5.0)))
    thread.start()
    thread.join(20)
    assert math.isnan(found[0][0]) and "raised SystemExit: 3" in found[0][1][0]


def test_ctrl_c_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        judged(raises(KeyboardInterrupt()))


# ---------------------------------------------------------------------- what a run says of it

TASKS = """
import os, sys
from geomalign.tasks import Chain
class Alike(Chain):
    def reward(self, problem, response, ended): return 0.25
class Exits(Chain):
    def reward(self, problem, response, ended): exit(0)
class Other(Chain):
    def reward(self, response): return 1.0
class Texts(Chain):
    def reward(self, problem, response, ended): return "1"
class Ended(Chain):
    def reward(self, problem, response, ended): return float(ended and "1" in response)
class Varied(Chain):
    def reward(self, problem, response, ended): return float(len(set(response)))
class Moves(Varied):
    def reward(self, problem, response, ended):
        os.chdir("/")
        return super().reward(problem, response, ended)
class Once(Varied):
    def reward(self, problem, response, ended):
        return None if not response or response[0] == "1" else super().reward(problem, response, ended)
class Leaves(Chain):
    def problem(self, level, rng): sys.exit(0)
"""


@pytest.fixture
def small(tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd_tasks.py").write_text(TASKS)
    return override(tiny, {"task.options": {}, "warm_start.enabled": "no", "rl.iterations": 3, "task.eval_prompts": 2})


def ran(config: TrainConfig, directory: str = "run") -> tuple[str, list[Event]]:
    """The error of a run, and what it reported."""
    events: list[Event] = []
    try:
        train(config, directory, progress=events.append)
    except Failed as error:
        return str(error), events
    return "", events


def warned(events: list[Event]) -> list[str]:
    return [event.message for event in events if event.kind == "warning"]


@pytest.mark.parametrize(
    ("task", "settings", "shown", "cause"),
    [
        ("Exits", {}, "raised SystemExit: 0", "masked 48 of 48: no response has a reward"),
        ("Other", {}, "takes 2 positional arguments but 4 were given", "masked 48 of 48"),
        ("Texts", {}, "returned '1', which is no finite number", "masked 48 of 48"),
        ("Alike", {}, "", "zero groups 1.00: the rewards of all responses to a prompt are equal, 0.25 in the mean"),
        ("Ended", {"rl.max_new_tokens": 1}, "", "responses are cut off at rl.max_new_tokens = 1 before"),
        ("Varied", {"objective": "my_blank:made"}, "", "updates were left out because the loss"),
    ],
)
def test_a_run_that_cannot_move_names_the_cause_and_fails(
    task: str, settings: dict[str, Any], shown: str, cause: str, small: TrainConfig, policy: Any
) -> None:
    Path("my_blank.py").write_text(
        "import geomalign as ga, torch\n"
        "def made():\n"
        "    return ga.Objective(unit=ga.Sequence(), chart=ga.LogRatio(), sampling=ga.GroupAdvantage(),\n"
        "                        optimization=ga.Flat(), measure=Blank())\n"
        "class Blank(ga.PooledMean):\n"
        "    def weights(self, support, events, rows): return super().weights(support, events, rows) * torch.nan\n"
    )
    error, events = ran(override(small, {"task.name": f"odd_tasks:{task}"} | settings))
    assert error.startswith("no update could be made in 3 steps") and cause in error
    said = warned(events)
    assert "epochs" not in error and not any("epochs" in text for text in said)
    first_step = next(i for i, event in enumerate(events) if event.kind == "step")
    if shown:
        place = next(i for i, event in enumerate(events) if shown in event.message)
        assert place < first_step, "at once"
        assert sum(shown in text for text in said) <= 2, "of the base, and of the run"
    assert not Path("run/summary.json").exists() and not Path("run/model").exists()
    assert ran_again(small, task, settings).startswith("no update could be made in 3 steps")


def ran_again(small: TrainConfig, task: str, settings: dict[str, Any]) -> str:
    with pytest.raises(Failed) as caught:
        train(override(small, {"task.name": f"odd_tasks:{task}"} | settings), "run", resume=True)
    return str(caught.value)


def test_equal_rewards_that_still_pull_are_no_failure(small: TrainConfig) -> None:
    """REINFORCE without a baseline raises the probability of everything that it samples."""
    error, _ = ran(override(small, {"task.name": "odd_tasks:Alike", "objective": "reinforce"}))
    assert not error and Path("run/summary.json").exists()


def test_some_responses_without_a_reward_are_no_failure(small: TrainConfig) -> None:
    error, events = ran(override(small, {"task.name": "odd_tasks:Once"}))
    assert not error and any("returned None" in text for text in warned(events))
    assert not any(text.startswith(("masked", "zero", "truncated")) for text in warned(events))


def test_log_probabilities_that_are_not_finite_are_dropped_counted_and_said(
    small: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(*args: Any) -> Rollout:
        rollout = whole(*args)
        log_prob = rollout.log_prob.clone()
        log_prob[0] = math.nan
        return replace(rollout, log_prob=log_prob)

    whole = from_rewards._rollout
    monkeypatch.setattr(from_rewards, "_rollout", spoiled)
    error, events = ran(override(small, {"task.name": "odd_tasks:Varied"}))
    (said,) = (text for text in warned(events) if text.startswith("not finite"))
    assert not error and "(`behavior` of row 0)" in said
    rows = read_metrics(Path("run/metrics.jsonl"))[1:]
    assert all(row["nonfinite_tokens"] > 0 and row["skipped"] == 0 for row in rows)


def test_code_that_calls_exit_fails_the_run(small: TrainConfig) -> None:
    with pytest.raises(Failed, match=r"exit\(0\) was called in .*odd_tasks\.py, line \d+"):
        train(override(small, {"task.name": "odd_tasks:Leaves"}), "run")


def test_a_verifier_that_changes_the_directory_loses_nothing(small: TrainConfig, tmp_path: Path) -> None:
    error, _ = ran(override(small, {"task.name": "odd_tasks:Moves"}))
    assert not error and len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 4


def test_a_step_too_small_is_told_from_a_step_at_the_anchor(small: TrainConfig) -> None:
    tiny_steps = override(small, {"task.name": "odd_tasks:Varied", "rate": 1e-9})
    error, events = ran(tiny_steps)
    (said,) = warned(events)
    assert not error and said.startswith("geometry inactive: 4 steps are taken on every rollout")
    assert "step size 1e-09: raise the rate" in said


# ---------------------------------------------------------------------- by its figures

MOVING = {"zero_groups": 0.25, "truncated": 0.1, "masked": 0.0, "drive_range": 1.0, "grad_norm": 1.0, "inactive": 0.25}


@pytest.mark.parametrize(
    ("row", "kinds"),
    [
        ({}, {}),
        ({"masked": 128.0, "zero_groups": 1.0, "drive_range": 0.0}, {"masked": "masked 256 of 256"}),
        ({"masked": 124.0}, {"masked": "masked 248 of 256: nearly no response has a reward"}),
        ({"truncated": 0.99, "zero_groups": 1.0, "drive_range": 0.0}, {"truncated": "truncated 0.99"}),
        ({"truncated": 0.99}, {}),
        ({"zero_groups": 1.0, "drive_range": 0.0}, {"equal": "zero groups 1.00"}),
        ({"zero_groups": 1.0}, {}),
        ({"inactive": 1.0}, {"inactive": "geometry inactive: 16 steps"}),
        ({"inactive": 1.0, "zero_groups": 1.0, "drive_range": 0.0}, {"equal": "zero groups 1.00"}),
        ({"inactive": 1.0, "grad_norm": 0.0}, {}),
        ({"skipped": 2.0}, {"skipped": "updates were left out"}),
    ],
)
def test_the_cause_is_read_off_the_figures(row: dict[str, float], kinds: dict[str, str]) -> None:
    found = diagnosis(TrainConfig(), [MOVING | row] * 2)
    assert {kind: found[kind][: len(text)] for kind, text in kinds.items()} == kinds and found.keys() == kinds.keys()


def test_more_epochs_are_advised_where_they_help_alone() -> None:
    row = MOVING | {"inactive": 1.0}
    once = TrainConfig(rl=RLConfig(epochs=1, minibatches=1))
    assert "more epochs" in diagnosis(once, [row])["inactive"]
    assert "epochs" not in diagnosis(TrainConfig(), [row])["inactive"]
    assert "more epochs" in diagnosis(TrainConfig("dpo"), [row], offline=True)["inactive"]


def test_a_response_without_a_reward_makes_no_difference_in_its_group() -> None:
    nan = math.nan
    rewards = torch.tensor([[1, nan, 1], [0, nan, 1], [nan, nan, nan], [0, 0, 0], [-1, nan, -1]]).flatten()
    tokens, mask = torch.zeros(15, 2, dtype=torch.long), torch.ones(15, 2, dtype=torch.bool)
    rollout = Rollout(tokens, mask, tokens, mask, mask[:, 0], torch.zeros(15, 2), torch.zeros(15, 2))
    row = _rollout_metrics(rollout, rewards, slice(0, 15), 5, 3)
    assert row["zero_groups"] == pytest.approx(4 / 5) and row["masked"] == 6


# ---------------------------------------------------------------------- objectives that do not fit

ADVANTAGES = {"awr", "decoupled_ppo", "ppo", "reinforce", "remax", "topr"}
#: Learn what they are given, whatever its reward.
UNDRIVEN = {"chord_phi", "dft", "generalized_jsd", "on_policy_distillation", "opd"}
#: Compared with the whole batch, or with nothing.
ALONE = ADVANTAGES | {"a2po", "apo_zero", "bco", "dro", "kto", "reinforce_plus_plus", "sppo", "w_reinforce"}


@pytest.mark.filterwarnings("ignore::geomalign.objective.UnboundedLossWarning")
@pytest.mark.parametrize("name", ga.recipes.names())
def test_every_recipe_is_refused_or_warned_of_where_it_cannot_learn(name: str) -> None:
    objective = ga.recipes.get(name)
    config = TrainConfig(name)
    if objective.needs_observations:
        with pytest.raises(ValueError, match="predicts what an environment answers"):
            refuse_unfit(config, objective)
        return
    if name in UNDRIVEN:
        for mode in ("rl", "offline"):
            with pytest.raises(ValueError, match=r"driven neither by rewards nor by labels .* nothing to learn"):
                refuse_unfit(replace(config, mode=mode), objective)
        return
    refuse_unfit(config, objective)
    assert unfit(config, objective).keys() == ({"advantage"} if name in ADVANTAGES else set())
    if objective.paired:
        assert TrainConfig(name, rl=RLConfig(samples=1)).rl.samples == 1
        return
    if name in ALONE:
        assert TrainConfig(name, rl=RLConfig(samples=1)).rl.samples == 1
    elif name != "opo":
        with pytest.raises(ValueError, match=rf"rl.samples is 1, .* the drive of {name} is the same for all rewards"):
            TrainConfig(name, rl=RLConfig(samples=1))
    offline = unfit(replace(config, mode="offline"), objective)
    assert offline.keys() == (set() if objective.needs_reference else {"pairs"})


def test_one_sample_is_refused_in_every_way_to_say_it(small: TrainConfig) -> None:
    with pytest.raises(ValueError, match=r"rl\.samples is 1"):
        override(TrainConfig("grpo"), {"rl.samples": 1})
    with pytest.raises(ValueError, match=r"rl\.samples is 1"):
        train(override(replace(small, objective="opo", options={}), {"rl.samples": 1}), "run")
    Path("my_group.py").write_text("import geomalign as ga\nmine = ga.recipes.rloo() + ga.recipes.gpg()\n")
    with pytest.raises(ValueError, match="drive of my_group:mine is the same"):
        TrainConfig("my_group:mine", rl=RLConfig(samples=1))
    assert TrainConfig("nothing", rl=RLConfig(samples=1)), "refused where it is used"


def test_an_objective_that_needs_what_a_run_has_not_is_refused_before_it(small: TrainConfig) -> None:
    Path("my_critic.py").write_text(
        "import dataclasses, geomalign as ga\n"
        "class Critic(ga.SamplingGeometry):\n"
        "    def drive(self, batch): return batch.require('advantage', 'Critic')\n"
        "mine = dataclasses.replace(ga.recipes.ppo(), sampling=Critic())\n"
    )
    with pytest.raises(ValueError, match="my_critic:mine cannot be trained on rewards here: Critic needs `advantage`"):
        train(replace(small, objective="my_critic:mine"), "run")
    assert not Path("run").exists()


def test_pairs_that_are_sorted_in_parts_are_warned_of() -> None:
    config = TrainConfig("aot", offline=OfflineConfig(accumulation=2))
    assert "2 micro-batches" in unfit(config, ga.recipes.aot())["parts"]
    assert "parts" not in unfit(TrainConfig("aot"), ga.recipes.aot())
    assert "parts" not in unfit(replace(config, objective="dpo"), ga.recipes.dpo())


@pytest.mark.parametrize(
    ("config", "offline", "idle"),
    [
        (TrainConfig("dpo", rl=RLConfig(iterations=3)), True, ["rl.iterations"]),
        (TrainConfig("dpo", rl=RLConfig(iterations=3), offline=OfflineConfig(batch=8)), True, []),
        (TrainConfig("grpo", offline=OfflineConfig(data="pairs.jsonl")), False, ["offline.data"]),
        (TrainConfig("grpo", rl=RLConfig(iterations=3)), False, []),
        (replace(ga.training.train_preset("ci"), objective="dpo"), True, []),
    ],
)
def test_settings_without_effect_are_named(config: TrainConfig, offline: bool, idle: list[str]) -> None:
    assert idle_settings(config, offline) == idle
