"""The loop: gradients of micro-batches, on-policy steps, what misbehaves, and runs that are killed."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import geomalign as ga
from geomalign.training import from_rewards, trainer
from geomalign.training.checkpoint import read_json, read_metrics, write_json
from geomalign.training.config import CompareConfig, override, to_dict
from geomalign.training.config.settings import TrainConfig
from geomalign.training.directory import acquire
from geomalign.training.events import Event, Interrupted
from geomalign.training.from_rewards import batch_of
from geomalign.training.generation import log_probs, sample
from geomalign.training.policy import Placement, Policy, load
from geomalign.training.step import optimizer_step
from geomalign.training.trainer import train

pytestmark = pytest.mark.float32
OBJECTIVES = ["opo", "grpo", "gspo", "dapo", "dr_grpo", "reinforce", "gopo"]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load(directory / "model", Placement()).model.state_dict()
    return found


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def timeless(directory: Path) -> list[dict[str, float]]:
    """The metrics that a clock has no part in."""
    rows = read_metrics(directory / "metrics.jsonl")
    clocks = ("time/", "memory/", "tokens_per_second")
    return [{k: v for k, v in row.items() if not k.startswith(clocks)} for row in rows]


# ---------------------------------------------------------------------- one step


@pytest.mark.parametrize("name", OBJECTIVES)
def test_micro_batches_add_up_to_the_gradient_of_the_whole(name: str, policy: Policy) -> None:
    """Responses of many lengths, a masked one, rows in random order: five uneven micro-batches against one batch."""
    objective = ga.recipes.get(name)
    rollout = sample(
        policy, ["3+8;", "1-2;", "9+9;"], samples=8, max_new_tokens=12, generator=torch.Generator().manual_seed(0)
    )
    assert len(rollout.mask.sum(-1).unique()) > 3
    rewards = torch.rand(rollout.rows)
    rewards[4] = math.nan
    with torch.no_grad():
        anchor = log_probs(policy, rollout) + 0.1 * torch.randn(rollout.mask.shape) * rollout.mask
    batch = batch_of(rollout, rewards, 8, anchor)
    drive = objective.drive(batch)
    order = torch.randperm(rollout.rows)

    def gradient(parts: list[torch.Tensor]) -> torch.Tensor:
        before = torch.cat([parameter.detach().flatten().clone() for parameter in policy.parameters])
        optimizer = torch.optim.SGD(policy.parameters, lr=1.0)

        def losses() -> Any:
            for rows in parts:
                micro = replace(batch[rows], policy=log_probs(policy, rollout[rows]))
                yield objective(micro, drive=drive[rows], counts=batch.counts()).loss

        done = optimizer_step(losses(), optimizer, policy.parameters, clip_norm=0)
        after = torch.cat([parameter.detach().flatten() for parameter in policy.parameters])
        step = before - after
        assert done.norm == pytest.approx(float(step.norm()), rel=1e-3)
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(before, policy.parameters)
        return step

    whole = gradient([order])
    assert float(whole.norm()) > 0
    parts = gradient(list(order.split([1, 9, 2, 7, 5])))
    torch.testing.assert_close(parts, whole, atol=2e-6 * max(1.0, float(whole.abs().max()) * 10), rtol=1e-3)


def test_clipping_and_the_guard(policy: Policy) -> None:
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    done = optimizer_step(iter([(parameter**2).sum() / 2]), optimizer, [parameter], clip_norm=1.0)
    assert done.norm == pytest.approx(5.0) and not done.skipped
    value, state = parameter.detach().clone(), str(optimizer.state_dict())
    for bad in (parameter.sum() * math.inf, parameter.sum() * math.nan, (parameter * 0).sqrt().sum()):
        done = optimizer_step(iter([bad]), optimizer, [parameter], clip_norm=1.0)
        assert done.skipped
        assert torch.equal(parameter.detach(), value) and str(optimizer.state_dict()) == state
    assert not optimizer_step(iter([parameter.sum()]), optimizer, [parameter], clip_norm=1.0).skipped


# ---------------------------------------------------------------------- a run

PROMISED = [
    *[
        "reward",
        "reward_std",
        "loss",
        "grad_norm",
        "grad_norm_max",
        "drive_range",
        "drive_std",
        "entropy",
        "kl",
        "chi2",
    ],
    *["ess", "clip_fraction", "inactive", "zero_groups", "response_length", "truncated", "masked", "skipped", "tokens"],
    *[
        "tokens_per_second",
        "rate",
        "log_ratio_max",
        "time/generation",
        "time/scoring",
        "time/update",
        "time/loss",
        "time/backward",
    ],
    *["time/step", "memory/peak"],
]


@pytest.fixture(scope="module")
def finished(tiny: TrainConfig, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, with which interrupted ones are compared."""
    directory = tmp_path_factory.mktemp("run") / "whole"
    train(tiny, directory, base=base)
    return directory


def test_a_run_writes_what_it_promises(finished: Path, tiny: TrainConfig) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    files = {"config.json", "metrics.jsonl", "model", "summary.json", "checkpoint.pt"}
    assert {path.name for path in finished.iterdir()} == files
    AutoModelForCausalLM.from_pretrained(finished / "model")
    AutoTokenizer.from_pretrained(finished / "model")
    rows = read_metrics(finished / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(8))
    assert [row["step"] for row in rows if "accuracy_in" in row] == [0, 3, 6, 7]
    for row in rows[1:]:
        for key in PROMISED:
            assert math.isfinite(row[key]), key
        parts = row["time/generation"] + row["time/scoring"] + row["time/update"]
        assert 0.8 * row["time/step"] < parts <= row["time/step"]
        assert 0 < row["ess"] <= 1 + 1e-6 and row["kl"] >= 0 and row["chi2"] >= 0
    summary = read_json(finished / "summary.json")
    assert summary["slots"]["optimization"] == "Clip(low=0.2, high=0.2, dual=None)"
    assert summary["iterations"] == 7 and summary["mode"] == "rl" and summary["decoupled"] is False
    assert summary["final"]["accuracy_in"] == rows[-1]["accuracy_in"]
    assert summary["base"] == {key: value for key, value in rows[0].items() if key != "step"}
    assert summary["final"]["reward"] == pytest.approx(sum(row["reward"] for row in rows[1:]) / 7)
    assert read_json(finished / "config.json") == to_dict(tiny)


def test_a_card_lies_beside_every_model(finished: Path, base: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    """Its numbers are those of the run; a citation can be copied; pairs are named with their checksum."""
    card, final = (finished / "model" / "README.md").read_text(), read_json(finished / "summary.json")["final"]
    assert card.startswith("---\nlibrary_name: transformers\n") and ga.recipes.grpo().latex() in card
    assert "eprint = {2402.03300}" in card and "@software{geomalign" in card
    assert f"| {final['accuracy/1']:.4g} |" in card and "its reward is at least 1" in card
    for setting in ("rl.iterations = 7", "rate = 0.001", "seed = 0", "warm_start.steps = 150"):
        assert setting in card
    assert "offline." not in card, "the settings of a loop that the run did not go through"
    first = (base / "README.md").read_text()
    assert "taught by imitation for 150 steps" in first and "rl.iterations" not in first
    rows = [{"prompt": f"{n}+1;", "chosen": f"{n + 1}", "rejected": "0"} for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = {"objective": "dpo", "offline.data": str(tmp_path / "pairs.jsonl"), "offline.epochs": 1}
    train(override(tiny, pairs), tmp_path / "run", base=base)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    (checksum,) = read_json(tmp_path / "run" / "data.json").values()
    assert checksum in card and "it learnt from pairs of" in card and "rl.iterations" not in card


def test_the_first_step_is_on_policy_and_the_others_are_not(finished: Path) -> None:
    """2 epochs × 2 minibatches: one of the four steps sees the policy that sampled, to rounding."""
    rows = [row for row in read_metrics(finished / "metrics.jsonl")[1:] if row["drive_range"] > 0]
    assert len(rows) > 3
    assert all(row["inactive"] == 0.25 for row in rows)
    assert all(row["log_ratio_max"] > 1e-3 for row in rows)


def test_a_geometry_that_measures_from_the_reference_acts_on_the_first_step_too(
    tiny: TrainConfig, base: Path, tmp_path: Path
) -> None:
    """Only in the first rollout is the reference the policy that samples, and one of four steps on it."""
    train(override(tiny, {"objective": "dro", "rl.iterations": 3}), tmp_path / "dro", base=base)
    rows = read_metrics(tmp_path / "dro" / "metrics.jsonl")[1:]
    assert [row["inactive"] for row in rows] == [0.25, 0.0, 0.0]


def test_a_single_step_per_rollout_is_reported_as_geometry_inactive(
    tiny: TrainConfig, base: Path, tmp_path: Path
) -> None:
    """There every objective takes the same step, up to the scale of its drive: the warning says so once."""
    config = override(tiny, {"rl.epochs": 1, "rl.minibatches": 1, "rl.iterations": 3})
    events: list[Event] = []
    summary = train(config, tmp_path / "grpo", base=base, progress=events.append)
    assert summary["final"]["inactive"] == 1.0
    assert [event.message[:17] for event in events if event.kind == "warning"] == ["geometry inactive"]
    assert summary["warnings"][0].startswith("geometry inactive")
    distances = {}
    for steps in (1, 2):
        moved = []
        for tau in (0.1, 7.0):
            options = {
                "objective": "mirror_descent",
                "options": {"normalize": "mean", "tau": tau},
                "rl.epochs": steps,
            }
            train(override(config, options), tmp_path / f"{steps} {tau}", base=base)
            moved.append(torch.cat([value.flatten() for value in weights(tmp_path / f"{steps} {tau}").values()]))
        start = torch.cat([value.flatten() for value in load(base, Placement()).model.state_dict().values()])
        distances[steps] = float((moved[0] - moved[1]).norm() / (moved[0] - start).norm())
    assert distances[1] < 0.02, "one step per rollout: seventy times the stiffness, the same steps"
    assert distances[2] > 0.1, "two: geometry acts"


@pytest.mark.parametrize(("mode", "killed_at"), [("rl", 1), ("rl", 5), ("offline", 5)])
def test_a_killed_run_resumes_to_the_same_bits(
    mode: str, killed_at: int, tiny: TrainConfig, base: Path, finished: Path, tmp_path: Path
) -> None:
    """SIGKILL between two checkpoints, of which there is one every second step: weights and metrics end the same."""
    config = tiny if mode == "rl" else override(tiny, {"objective": "dpo"})
    whole = finished
    if mode == "offline":
        whole = tmp_path / "whole"
        train(config, whole, base=base)
    directory = tmp_path / "killed"
    program = (
        "import os, signal, sys, json\nfrom pathlib import Path\n"
        "from geomalign.training.config import TrainConfig, from_dict\nfrom geomalign.training.trainer import train\n"
        "config, directory, base, at = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])\n"
        "def kill(event):\n"
        "    if event.kind == 'step' and event.step == at: os.kill(os.getpid(), signal.SIGKILL)\n"
        "train(from_dict(TrainConfig, config), directory, base=Path(base), progress=kill)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, json.dumps(to_dict(config)), str(directory), str(base), str(killed_at)],
        capture_output=True,
        text=True,
    )
    assert out.returncode == -signal.SIGKILL, out.stderr
    assert not (directory / "summary.json").exists()
    events: list[Event] = []
    train(config, directory, base=base, resume=True, progress=events.append)
    assert events[0].kind == "start" and events[0].step == killed_at - killed_at % 2
    assert same(weights(directory), weights(whole))
    assert timeless(directory) == timeless(whole)


@pytest.mark.parametrize("mode", ["rl", "controlled", "offline"])
def test_a_finished_run_is_extended_to_the_longer_run_made_at_once(
    mode: str, tiny: TrainConfig, base: Path, tmp_path: Path
) -> None:
    """Its metrics are those of the longer run, and the evaluation at the earlier end besides."""
    chosen = {"controlled": {"objective": "opo", "control": "kl=0.02"}, "offline": {"objective": "dpo"}}
    name, short, long = ("offline.epochs", 1, 2) if mode == "offline" else ("rl.iterations", 4, 7)
    config = override(tiny, chosen.get(mode, {}))
    whole = train(override(config, {name: long}), tmp_path / "whole", base=base)
    first = train(override(config, {name: short}), tmp_path / "parts", base=base)
    assert first["iterations"] < whole["iterations"]
    second = train(override(config, {name: long}), tmp_path / "parts", base=base, resume=True)
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    assert second["final"] == whole["final"] and second["iterations"] == whole["iterations"]
    rows, expected = timeless(tmp_path / "parts"), timeless(tmp_path / "whole")
    assert "accuracy_in" in rows[first["iterations"]]
    rows[first["iterations"]] = expected[first["iterations"]]
    assert rows == expected
    with pytest.raises(ValueError, match=f"{name} = {long}, and now it is {short}: a run can be extended"):
        train(override(config, {name: short}), tmp_path / "parts", base=base, resume=True)


def test_a_run_without_its_last_checkpoint_cannot_be_extended(
    finished: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "checkpoint.pt").unlink()
    longer = override(tiny, {"rl.iterations": 9})
    with pytest.raises(ValueError, match=r"has no checkpoint\.pt.*cannot be extended"):
        train(longer, copy, resume=True)
    assert (copy / "summary.json").exists() and read_json(copy / "config.json") == to_dict(tiny)
    with pytest.raises(ValueError, match="other settings"):
        train(override(longer, {"rl.epochs": 3}), finished, resume=True)


def test_a_comparison_is_extended_as_a_whole(tiny: TrainConfig, tmp_path: Path) -> None:
    """Its own summary goes, and each run goes on by itself; one that cannot is refused before anything changes."""
    config, run = CompareConfig(run=tiny), tmp_path / "runs" / "opo-r5e-05-s0"
    acquire(tmp_path, config, resume=False)
    run.mkdir(parents=True)
    for file in (tmp_path / "summary.json", run / "summary.json"):
        file.touch()
    longer = override(config, {"run.rl.iterations": 9})
    with pytest.raises(ValueError, match=r"opo-r5e-05-s0 has no checkpoint\.pt"):
        acquire(tmp_path, longer, resume=True)
    (run / "checkpoint.pt").touch()
    acquire(tmp_path, longer, resume=True)
    assert (run / "summary.json").exists() and not (tmp_path / "summary.json").exists()


def test_a_directory_of_a_release_with_fewer_settings_is_resumed(
    finished: Path, tiny: TrainConfig, base: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    config = read_json(copy / "config.json")
    del config["rl"]["long_prompts"]
    write_json(copy / "config.json", config)
    assert train(tiny, copy, base=base, resume=True)["iterations"] == 7


def test_ctrl_c_saves_and_the_rest_is_the_same(tiny: TrainConfig, base: Path, finished: Path, tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if event.kind == "step" and event.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        train(tiny, tmp_path / "run", base=base, progress=interrupt)
    assert signal.getsignal(signal.SIGINT) == handler
    events: list[Event] = []
    train(tiny, tmp_path / "run", base=base, resume=True, progress=events.append)
    assert events[0].step == 3, "nothing is lost: the step that was under way counts"
    assert same(weights(tmp_path / "run"), weights(finished)) and timeless(tmp_path / "run") == timeless(finished)
    assert [
        event.kind for event in _events(lambda see: train(tiny, tmp_path / "run", base=base, resume=True, progress=see))
    ] == ["skipped"]


def _events(act: Callable[[Callable[[Event], None]], object]) -> list[Event]:
    seen: list[Event] = []
    act(seen.append)
    return seen


def test_a_second_ctrl_c_acts_at_once(tiny: TrainConfig, base: Path, tmp_path: Path) -> None:
    def insist(event: Event) -> None:
        if event.kind == "step" and event.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        train(tiny, tmp_path / "run", base=base, progress=insist)
    assert not isinstance(caught.value, Interrupted)


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(
    tiny: TrainConfig, base: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = trainer.checkpoint.save, []

    def sometimes(path: Path, state: dict[str, Any]) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(path, state)

    monkeypatch.setattr(trainer.checkpoint, "save", sometimes)
    events = _events(lambda see: train(tiny, tmp_path / "run", base=base, progress=see))
    assert [event.step for event in events if event.kind == "warning"] == [4]
    assert "No space left" in next(event.message for event in events if event.kind == "warning")
    assert same(weights(tmp_path / "run"), weights(finished))


def test_a_directory_belongs_to_one_run(tiny: TrainConfig, finished: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds a run already"):
        train(tiny, finished, base=base)
    with pytest.raises(ValueError, match=r"other settings \(rate: 0\.001 there, 0\.1 now\)"):
        train(replace(tiny, rate=0.1), finished, base=base, resume=True)
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(ValueError, match="is not empty"):
        train(tiny, tmp_path, base=base)
    (tmp_path / "theirs" / "model").mkdir(parents=True)
    (tmp_path / "theirs" / "model" / "weights").write_text("…")
    with pytest.raises(ValueError, match=r"holds model without the config\.json of a run"):
        train(tiny, tmp_path / "theirs", base=base, resume=True)
    assert (tmp_path / "theirs" / "model" / "weights").exists()
    with pytest.raises(ValueError, match=r"pairs of responses, so it trains offline"):
        train(override(tiny, {"objective": "dpo", "mode": "rl"}), tmp_path / "new", base=base)
    assert not (tmp_path / "new").exists()


def test_a_kl_penalty_to_the_reference_needs_no_setting(tiny: TrainConfig, base: Path, tmp_path: Path) -> None:
    """A strong KL penalty keeps the policy near the base, which therefore is the reference."""
    start = load(base, Placement())
    rollout = sample(start, ["0+1;", "1-1;"], samples=64, max_new_tokens=10, generator=torch.Generator().manual_seed(0))
    far = {}
    for beta in (1e-9, 30.0):
        config = override(tiny, {"options": {"beta": beta}, "rl.iterations": 6})
        train(config, tmp_path / str(beta), base=base)
        now = load(tmp_path / str(beta) / "model", Placement())
        with torch.no_grad():
            far[beta] = float((log_probs(now, rollout) - log_probs(start, rollout)).abs().mean())
    assert 0 < far[30.0] < 0.5 * far[1e-9]


def test_any_causal_model_can_be_trained(other_policy: Policy, letters: TrainConfig, tmp_path: Path) -> None:
    """A GPT-2 from disk: no warm start, so what begins is what was given; what ends is a GPT-2 that has moved."""
    from transformers import AutoModelForCausalLM

    settings = {"model.path": str(tmp_path / "gpt2"), "task.name": "letters_task:Varied", "objective": "reinforce"}
    settings |= {"rl.iterations": 2, "rl.max_new_tokens": 8}
    config = override(letters, settings)
    train(config, tmp_path / "run")
    before, after = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("gpt2", "run/model"))
    assert type(after).__name__ == "GPT2LMHeadModel"
    (start,) = tmp_path.glob("run/base-*")
    given, begun = before.state_dict(), load(start, Placement()).model.state_dict()
    assert all(torch.equal(given[name], begun[name]) for name in given)


def test_bfloat16_runs(tiny: TrainConfig, base: Path, tmp_path: Path) -> None:
    summary = train(override(tiny, {"dtype": "bfloat16", "rl.iterations": 2}), tmp_path / "run", base=base)
    assert summary["skipped"] == 0 and math.isfinite(summary["final"]["loss"])
    assert all(value.dtype == torch.float32 for value in weights(tmp_path / "run").values())
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[1]["inactive"] == 0.25


# ---------------------------------------------------------------------- does it learn

LETTERS = """
import math, random
from geomalign.tasks import Problem
class Letters:
    '''Begin the response with an a: learnt from nothing in a few dozen rollouts.'''
    alphabet = "abcdef;"
    def problem(self, level, rng): return Problem("".join(rng.choice("abcdef") for _ in range(4)) + ";", "a", level)
    def demonstration(self, problem, rng, noisy): return problem.answer
    def reward(self, problem, response, ended): return float(response[:1] == problem.answer)
    def max_response_length(self, level): return 4
class Broken(Letters):
    def reward(self, problem, response, ended):
        if response[:1] == "b": raise RuntimeError("no")
        if response[:1] == "c": return math.nan
        return super().reward(problem, response, ended)
class Varied(Letters):
    def reward(self, problem, response, ended): return float(len(set(response)))
"""


@pytest.fixture
def letters(tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters_task.py").write_text(LETTERS)
    settings = {
        "task.name": "letters_task:Letters",
        "task.options": {},
        "task.eval_levels": [1],
        "warm_start.enabled": "no",
        "rl.iterations": 25,
        "rl.prompts": 8,
        "rl.max_new_tokens": 4,
        "rl.eval_every": 100,
        "rate": 1e-2,
    }
    return override(tiny, settings)


@pytest.mark.parametrize("name", ["opo", "gspo", "grpo", "dapo"])
def test_every_objective_of_the_comparison_learns(name: str, letters: TrainConfig, tmp_path: Path) -> None:
    """From a random model: one letter in seven to nearly always."""
    options = {"epsilon": 0.2, "epsilon_high": 0.2} if name == "gspo" else {}
    train(replace(letters, objective=name, options=options), tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[1]["reward"] < 0.4
    assert sum(row["reward"] for row in rows[-5:]) / 5 > 0.9
    assert rows[-1]["accuracy_in"] > 0.8


def test_samples_whose_reward_fails_are_masked_and_counted(letters: TrainConfig, tmp_path: Path) -> None:
    summary = train(override(letters, {"task.name": "letters_task:Broken"}), tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[1]["masked"] > 0 and summary["masked"] == sum(row.get("masked", 0) for row in rows)
    assert all(math.isfinite(row["loss"]) for row in rows[1:]) and summary["skipped"] == 0
    assert sum(row["reward"] for row in rows[-5:]) / 5 > 0.8


def test_a_masked_sample_is_in_no_group(policy: Policy) -> None:
    """The drive of the others is that of a smaller group, and its own gradient is zero."""
    rollout = sample(policy, ["1+2;"], samples=4, max_new_tokens=5, generator=torch.Generator().manual_seed(0))
    anchor = log_probs(policy, rollout).detach()
    batch = batch_of(rollout, torch.tensor([1.0, math.nan, 0.0, 0.0]), 4, anchor)
    smaller = batch_of(rollout[torch.tensor([0, 2, 3])], torch.tensor([1.0, 0.0, 0.0]), 3, anchor[[0, 2, 3]])
    for name in ("grpo", "opo"):
        objective = ga.recipes.get(name)
        drive = objective.drive(batch)
        torch.testing.assert_close(drive[[0, 2, 3]], objective.drive(smaller))
        law = objective.gradient(batch)
        assert isinstance(law, torch.Tensor) and not law[1].any() and law[0].any()
        torch.testing.assert_close(objective(batch).loss, objective(smaller).loss)


def test_one_step_per_rollout_needs_no_scoring_pass_and_takes_the_same_step(
    letters: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy that is updated is the one that sampled: its log-probabilities of that pass are the anchor too."""
    once = override(letters, {"rl.epochs": 1, "rl.minibatches": 1, "rl.iterations": 2})
    scored: list[int] = []
    real = from_rewards.score_rows
    monkeypatch.setattr(from_rewards, "score_rows", lambda *given: scored.append(1) or real(*given))
    train(once, tmp_path / "once")
    assert not scored
    monkeypatch.setattr(from_rewards, "_one_step", lambda run: False)
    train(once, tmp_path / "scored")
    assert len(scored) == 2
    for one, other in zip(weights(tmp_path / "once").values(), weights(tmp_path / "scored").values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    row = read_metrics(tmp_path / "once" / "metrics.jsonl")[-1]
    assert row["kl"] == 0.0 and row["ess"] == 1.0 and row["inactive"] == 1.0
