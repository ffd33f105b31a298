"""Preference data in TRL's formats: read, as tokens, as a task, and trained on offline."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from geomalign.tasks import Preferences, build, held_out
from geomalign.tasks.config import TaskConfig
from geomalign.tasks.preferences import preferences
from geomalign.tasks.rows import DataWarning
from geomalign.training.checkpoint import read_metrics
from geomalign.training.config import override
from geomalign.training.config.settings import TrainConfig, WarmStartConfig
from geomalign.training.generation import log_probs
from geomalign.training.pair_tokens import tokenise_pairs
from geomalign.training.policy import Placement, Policy, load
from geomalign.training.trainer import train

pytestmark = pytest.mark.float32


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


FORMATS: dict[str, list[dict[str, Any]]] = {
    "explicit": [{"prompt": "1+1 is", "chosen": " 2.", "rejected": " 3."}],
    "implicit": [{"chosen": "1+1 is 2.", "rejected": "1+1 is 3."}],
    "unpaired": [
        {"prompt": "1+1 is", "completion": " 2.", "label": True},
        {"prompt": "2+2 is", "completion": " 4.", "label": True},
        {"prompt": "1+1 is", "completion": " 3.", "label": False},
        {"prompt": "1+1 is", "completion": " 5.", "label": "false"},
    ],
    "conversational": [{"prompt": [user("1+1 is")], "chosen": [assistant(" 2.")], "rejected": [assistant(" 3.")]}],
    "implicit-conversational": [
        {"chosen": [user("1+1 is"), assistant(" 2.")], "rejected": [user("1+1 is"), assistant(" 3.")]}
    ],
    "unpaired-conversational": [
        {"prompt": [user("1+1 is")], "completion": [assistant(" 2.")], "label": True},
        {"prompt": [user("1+1 is")], "completion": [assistant(" 3.")], "label": False},
    ],
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_pair(kind: str, tmp_path: Path) -> None:
    left_out = pytest.warns(DataWarning, match="2 of 4 rows .* are left out") if kind == "unpaired" else nullcontext()
    with left_out:
        (pair,) = preferences(write(tmp_path / "a.jsonl", FORMATS[kind]))
    assert (pair.problem.prompt, pair.chosen, pair.rejected) == ("1+1 is", " 2.", " 3.")
    if "conversational" in kind:
        assert pair.problem.messages == (user("1+1 is"),) and pair.chosen_messages == (assistant(" 2."),)
    else:
        assert pair.problem.messages == pair.chosen_messages == ()


@pytest.mark.parametrize(
    "chosen, rejected, prompt",
    [
        ("Is it so? Yes", "Is it so? No", "Is it so?"),
        ("a b\nyes", "a b\nno", "a b\n"),
        ("yes", "no", ""),
        ("yes", "yeah", "ye"),
    ],
)
def test_an_implicit_prompt_is_what_trl_takes_for_it(chosen: str, rejected: str, prompt: str, tmp_path: Path) -> None:
    (pair,) = preferences(write(tmp_path / "a.jsonl", [{"chosen": chosen, "rejected": rejected}]))
    assert (pair.problem.prompt, prompt + pair.chosen, prompt + pair.rejected) == (prompt, chosen, rejected)


def test_other_tables_are_refused(tmp_path: Path) -> None:
    for rows, message in [
        ([{"prompt": "a", "completion": "b"}], "preferences have prompt, chosen, rejected"),
        ([{"prompt": "a", "chosen": "b", "rejected": "b"}], "no prompt with both"),
        ([{"prompt": "a", "completion": "b", "label": True}], "no prompt with both"),
    ]:
        with pytest.raises(ValueError, match=message):
            preferences(write(tmp_path / "a.jsonl", rows))


# ---------------------------------------------------------------------- as tokens

TEMPLATE = (
    "{% for m in messages %}{{ '3' if m['role'] == 'user' else '4' }}{{ m['content'] }};{% endfor %}"
    "{% if add_generation_prompt %}4{% endif %}"
)


def tokens(policy: Policy, rows: list[dict[str, Any]], path: Path, longest: int = 99) -> list[list[str]]:
    """Prompt and response of the chosen, then of the rejected side, without padding."""
    sides, _ = tokenise_pairs(policy, preferences(write(path, rows)), longest)
    found = []
    for side in sides:
        for ids, mask in ((side.prompt, side.prompt_mask), (side.response, side.mask)):
            found.append([policy.tokenizer.decode(row[keep]) for row, keep in zip(ids, mask)])
    return found


def test_texts_end_with_the_end_token_and_are_padded_on_their_own_sides(policy: Policy, tmp_path: Path) -> None:
    rows = [{"prompt": "1+1", "chosen": "=2", "rejected": "=11"}, {"prompt": "1", "chosen": "2;", "rejected": "3"}]
    assert tokens(policy, rows, tmp_path / "a.jsonl") == [
        ["1+1", "1"],
        ["=2<end>", "2;<end>"],
        ["1+1", "1"],
        ["=11<end>", "3<end>"],
    ]
    (chosen, rejected), _ = tokenise_pairs(policy, preferences(str(tmp_path / "a.jsonl")), 99)
    assert torch.equal(chosen.prompt, rejected.prompt) and chosen.prompt_mask[1].tolist() == [False, False, True]
    assert rejected.mask[1].tolist() == [True, True, False, False] and bool(chosen.ended.all())
    # a row beside a longer one has the log-probabilities that it has alone
    alone, _ = tokenise_pairs(policy, preferences(str(tmp_path / "a.jsonl"))[1:], 99)
    with torch.no_grad():
        together, single = log_probs(policy, rejected)[1, :2], log_probs(policy, alone[1])[0]
    torch.testing.assert_close(together, single)


def test_chats_go_through_the_template(policy: Policy, tmp_path: Path) -> None:
    policy.tokenizer.chat_template = TEMPLATE
    rows = [{"prompt": [user("1+1")], "chosen": [assistant("2")], "rejected": [assistant("0")]}]
    assert tokens(policy, rows, tmp_path / "a.jsonl") == [["31+1;4"], ["2;"], ["31+1;4"], ["0;"]]
    policy.tokenizer.chat_template = "{{ messages | length }}{{ messages[-1]['content'] }}"
    with pytest.raises(ValueError, match="writes a prompt otherwise"):
        tokens(policy, rows, tmp_path / "a.jsonl")


def test_what_is_too_long_is_cut_or_left_out(policy: Policy, tmp_path: Path) -> None:
    rows = [
        {"prompt": "1+1", "chosen": "=2", "rejected": "=11"},
        {"prompt": "1+1+1+1", "chosen": "=4", "rejected": "=0"},
    ]
    assert tokens(policy, rows, tmp_path / "a.jsonl", 6) == [["1+1"], ["=2<end>"], ["1+1"], ["=11"]]
    with pytest.raises(ValueError, match="all 2 pairs have prompts of 2 tokens"):
        tokens(policy, rows, tmp_path / "a.jsonl", 2)


# ---------------------------------------------------------------------- trained on


@pytest.fixture
def config(tiny: TrainConfig, tmp_path: Path) -> TrainConfig:
    rows = [{"prompt": f"{i}+1=", "chosen": "yes", "rejected": "no"} for i in range(60)]
    rows += [{"prompt": f"{i}-1=", "chosen": "yes", "rejected": "maybe"} for i in range(30)]
    name = write(tmp_path / "pairs.jsonl", rows)
    found = replace(
        tiny,
        objective="dpo",
        task=TaskConfig(f"preferences:{name}", eval_prompts=8, eval_interim_prompts=4),
        warm_start=WarmStartConfig(steps=5, batch=8, rate=1e-2, noisy_steps=0),
    )
    return override(found, {"offline.data": name, "offline.batch": 16, "offline.epochs": 3, "rate": 1e-2})


def test_dpo_learns_the_preferences_of_a_file(config: TrainConfig, tmp_path: Path) -> None:
    summary = train(config, tmp_path / "run")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")[1:]
    assert summary["mode"] == "offline" and lines[0]["inactive"] == 1.0
    assert lines[-1]["margin"] > lines[0]["margin"] and lines[-1]["preference_accuracy"] > 0.9
    assert lines[-1]["loss"] < lines[0]["loss"]
    evaluated = [line for line in lines if "accuracy_in" in line]
    assert [line["step"] for line in evaluated] == [line["step"] for line in lines if "loss_held_out" in line]
    assert evaluated[-1]["preference_accuracy_held_out"] > 0.9 and evaluated[-1]["margin_held_out"] > 0


def test_what_the_held_out_pairs_are_told_by(config: TrainConfig, tmp_path: Path) -> None:
    """Margin, share and loss are those of the saved model on the pairs of held-out prompts."""
    summary = train(config, tmp_path / "run")
    model = load(tmp_path / "run" / "model", Placement("cpu", "float32"))
    reference = load(next((tmp_path / "run").glob("base-*")), Placement("cpu", "float32"))
    apart = [pair for pair in preferences(str(config.offline.data)) if held_out(pair.problem)]
    sides, _ = tokenise_pairs(model, apart[: config.task.eval_prompts], config.offline.max_length)
    with torch.no_grad():
        chosen, rejected = ((log_probs(model, side) - log_probs(reference, side)).sum(-1) for side in sides)
    margin = chosen - rejected
    final = summary["final"]
    assert final["margin_held_out"] == pytest.approx(float(margin.mean()), rel=1e-4)
    assert final["preference_accuracy_held_out"] == pytest.approx(float((margin > 0).float().mean()))
    assert final["loss_held_out"] == pytest.approx(float(torch.nn.functional.softplus(-0.1 * margin).mean()), rel=1e-4)


def test_other_data_in_the_file_are_noticed_on_resuming(config: TrainConfig, tmp_path: Path) -> None:
    file = Path(str(config.offline.data))
    train(config, tmp_path / "run")
    whole = file.read_text()
    file.write_text(whole.replace("maybe", "perhaps"))
    with pytest.raises(ValueError, match=r"pairs\.jsonl changed since the run"):
        train(config, tmp_path / "run", resume=True)
    for content in (whole, None):
        file.write_text(content) if content else file.unlink()
        assert train(config, tmp_path / "run", resume=True)["mode"] == "offline"


def test_held_out_prompts_are_not_trained_on_and_the_pairs_are_kept(config: TrainConfig, tmp_path: Path) -> None:
    train(config, tmp_path / "run")
    kept = torch.load(tmp_path / "run" / "pairs.pt", weights_only=True)
    task = build(config.task)
    assert isinstance(task, Preferences)
    apart = sum(held_out(pair.problem) for pair in task.pairs)
    assert len(kept["trained"]["chosen"]["response"]) == 90 - apart < 90
    assert len(kept["held_out"]["chosen"]["response"]) == min(apart, config.task.eval_prompts)
    Path(str(config.offline.data)).unlink()
    with pytest.raises(ValueError, match="no file"):
        train(config, tmp_path / "other")


def test_an_objective_of_single_responses_takes_them_too(config: TrainConfig, tmp_path: Path) -> None:
    single = override(replace(config, objective="opo", mode="offline"), {"offline.epochs": 2})
    assert train(single, tmp_path / "run")["mode"] == "offline"
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert lines[-1]["loss"] < lines[1]["loss"]


def test_the_pairs_of_a_file_and_another_task(
    config: TrainConfig, tiny: TrainConfig, base: Path, tmp_path: Path
) -> None:
    """Trained on the file, evaluated on the chains."""
    rows = [{"prompt": f"{i}+1;", "chosen": f"{i}+1#{i + 1}", "rejected": "#0"} for i in range(1, 9)]
    mixed = override(replace(tiny, objective="ipo"), {"offline.data": write(tmp_path / "b.jsonl", rows)})
    summary = train(mixed, tmp_path / "run", base=base)
    assert set(summary["final"]) >= {"accuracy/1", "accuracy/2", "margin"}


def test_the_command_line_takes_a_file_of_pairs_and_a_task_with_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from geomalign import cli
    from geomalign.cli import runs

    asked: list[TrainConfig] = []
    monkeypatch.setattr(runs, "_train", lambda config, *rest: asked.append(config))
    task = "pairs.jsonl answer=chosen case=true"
    assert cli.main(["train", "-O", "dpo", "--data", "pairs.jsonl"]) == 0
    assert cli.main(["train", "-O", "dpo", "--data", "pairs.jsonl", "--task", "chain"]) == 0
    assert cli.main(["train", "-O", "grpo", "--task", task]) == 0
    assert cli.main(["train", "-O", "grpo", "--task", "reasoning_gym:chain_sum", "-s", "task.train_levels=[2]"]) == 0
    assert [config.task.name for config in asked] == [
        "preferences:pairs.jsonl",
        "chain",
        "pairs.jsonl",
        "reasoning_gym:chain_sum",
    ]
    assert [config.offline.data for config in asked] == ["pairs.jsonl", "pairs.jsonl", None, None]
    assert asked[2].task.options == {"answer": "chosen", "case": True}
    assert [config.task.train_levels for config in asked] == [(1,), (3,), (1,), (2,)]
    assert [config.warm_start.levels for config in asked] == [(1,), (1, 2, 3, 4, 5), (1,), (2,)]
    for words, message in [
        (["-O", "grpo", "--data", "pairs.jsonl"], "trained on rewards"),
        (["--task", "chain largest"], "is not key=value"),
        (["--task", ""], "--task is empty"),
    ]:
        assert cli.main(["train", *words]) == 2
        assert message in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "p", "chosen": "a"}, "row 2 .* has no rejected"),
        ({"prompt": "p", "chosen": None, "rejected": "b"}, "row 2 .* has no chosen"),
        ({"prompt": "p", "chosen": 5, "rejected": "b"}, "row 2 .* of type int and str"),
        ({"prompt": "p", "chosen": [{"role": "assistant"}], "rejected": [assistant("b")]}, "no list of messages"),
    ],
)
def test_a_bad_row_is_named(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b"}, row]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=said):
        preferences(str(tmp_path / "pairs.jsonl"))
