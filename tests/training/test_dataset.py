"""Tables and reasoning_gym as tasks: formats, columns, levels, split, chats, and small models trained on each."""

import csv
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from geomalign.tasks import Dataset, Problem, build, draw, evaluation_set, held_out
from geomalign.tasks.config import TaskConfig
from geomalign.tasks.rows import column, read
from geomalign.training.checkpoint import read_metrics
from geomalign.training.config import override
from geomalign.training.config.settings import TrainConfig, WarmStartConfig
from geomalign.training.policy import Policy, load
from geomalign.training.trainer import train

Table = Callable[[str, list[dict[str, Any]]], str]
SUMS = [{"question": f"{a}+{b}=", "answer": str(a + b)} for a in range(10) for b in range(10)]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Writes rows into a file, in the format its name says, and returns the name."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, rows: list[dict[str, Any]]) -> str:
        path = tmp_path / name
        if path.suffix == ".jsonl":
            path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
        elif path.suffix == ".json":
            path.write_text(json.dumps(rows))
        elif path.suffix == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        else:
            datasets = pytest.importorskip("datasets")
            found = datasets.Dataset.from_list(rows)
            if path.suffix == ".parquet":
                found.to_parquet(path)
            elif path.suffix == ".splits":
                datasets.DatasetDict({"train": found, "test": found.select([0])}).save_to_disk(path)
            else:
                found.save_to_disk(path)
        return name

    return write


def task(name: str, **options: Any) -> Any:
    return build(TaskConfig(name=name, options=options))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a", "a.splits"])
def test_every_format_gives_the_same_rows(name: str, table: Table, capfd: pytest.CaptureFixture[str]) -> None:
    assert read(table(name, SUMS)) == SUMS
    for full in (name, f"dataset:{name}", str(Path(name).resolve())):
        assert len(task(full).levels[1]) == 100
    if name == "a.splits":
        assert read(name, "test") == SUMS[:1]
        with pytest.raises(ValueError, match="no split 'dev'; it has train, test"):
            read(name, "dev")


def test_what_load_dataset_takes_is_a_table(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of files, as a name of the hub would be; with its splits."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    Path("folder").mkdir()
    table("folder/train.jsonl", SUMS)
    table("folder/test.jsonl", SUMS[:7])
    assert read("folder") == SUMS and read("folder", "test") == SUMS[:7]
    assert len(task("dataset:folder", split="test").levels[1]) == 7


def test_tables_that_cannot_be_read(table: Table) -> None:
    Path("half.jsonl").write_text('{"a": 1}\n{"a"')
    Path("list.jsonl").write_text("[1]\n")
    Path("object.json").write_text("{}")
    Path("empty.jsonl").write_text("\n")
    for name, message in [
        ("half.jsonl", "line 2 of half.jsonl is no JSON"),
        ("list.jsonl", "line 1 of list.jsonl is a list"),
        ("object.json", "a JSON dict"),
        ("empty.jsonl", "no rows"),
        ("none.csv", "no file none.csv"),
    ]:
        with pytest.raises(ValueError, match=message):
            read(name)
    pytest.importorskip("datasets")
    with pytest.raises(ValueError, match=r"load_dataset.*failed"):
        read("./nowhere")


def test_columns_are_found_named_and_looked_into(table: Table) -> None:
    row = {
        "prompt": [{"role": "user", "content": "2+2?"}],
        "reward_model": {"ground_truth": "4"},
        "extra_info": '{"level": "2"}',
        "my prompt": "3+3?",
    }
    name = table("verl.jsonl", [row])
    found = task(name, level="extra_info.level")
    assert found.levels[2] == (Problem("2+2?", "4", 2, ({"role": "user", "content": "2+2?"},), row),)
    assert task(name, prompt="my prompt").levels[1][0].prompt == "3+3?"
    assert column({"a.b": 1}, "a.b") == 1 and column({"a": 3}, "a.b") is None
    for options, message in [
        ({"prompt": "ask"}, "no column ask; it has prompt"),
        ({"answer": "gold"}, "no column gold"),
        ({"level": "my prompt"}, "is not an integer"),
        ({"answers": "x"}, "could not be built"),
        ({"verifier": "code", "tests": "extra_info"}, "holds no tests"),
        ({"verifier": "instructions"}, "0 instructions"),
    ]:
        with pytest.raises(ValueError, match=message):
            task(name, **options)
    with pytest.raises(ValueError, match="needs the true answer"):
        task(table("b.jsonl", [{"prompt": "a"}]))


def test_levels_split_and_draws(table: Table) -> None:
    name = table("a.jsonl", [{**row, "level": 1 + (index >= 50)} for index, row in enumerate(SUMS)])
    found = task(name, level="level")
    assert {len(part) for part in found.levels.values()} == {50}
    with pytest.raises(ValueError, match="no level 3; it has 1, 2"):
        draw(found, 3, random.Random(0))
    asked = evaluation_set(found, 2, 20)
    assert all(held_out(problem) and problem.level == 2 for problem in asked) and asked == evaluation_set(found, 2, 20)
    rng = random.Random(0)
    trained = {draw(found, level, rng).prompt for level in (1, 2) for _ in range(300)}
    assert not trained & {problem.prompt for problem in asked}
    assert draw(found, 1, random.Random(5)) == draw(task(name, level="level"), 1, random.Random(5))


def test_demonstrations_and_their_absence(table: Table) -> None:
    worked = task(table("a.jsonl", [{"prompt": "2+2", "solution": "2+2=4 #### 4", "answer": "4"}]), after="####")
    problem = worked.levels[1][0]
    assert worked.demonstration(problem, random.Random(0), noisy=False) == "2+2=4 #### 4"
    assert worked.demonstration(problem, random.Random(0), noisy=True) == "4"
    assert worked.max_response_length(1) == 13 and worked.alphabet == " #+24="
    assert worked.reward(problem, "2+2=4 #### 4", True) == 1.0
    assert worked.reward(problem, "2+2=4 #### 4", False) == 0.0
    assert task("a.jsonl", after="####", unfinished=True, max_response_length=5).reward(problem, "#### 4", False) == 1.0
    assert task("a.jsonl", max_response_length=5).max_response_length(1) == 5
    row = {"prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    bare = task(table("b.jsonl", [row]), verifier="instructions")
    assert bare.max_response_length(1) == 256
    with pytest.raises(ValueError, match=r"neither a demonstration nor an answer.*--model PATH"):
        bare.demonstration(bare.levels[1][0], random.Random(0), noisy=True)


# ---------------------------------------------------------------------- chats

TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% if m['role'] == 'assistant' %}<end>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def with_template(policy: Policy, template: str = TEMPLATE) -> Policy:
    policy.tokenizer.chat_template = template
    return policy


def test_a_chat_goes_through_the_template_and_a_text_does_not(policy: Policy, table: Table) -> None:
    name = table("a.jsonl", SUMS[:3])
    plain, chat = (task(name, chat=chat, system="Sum.").levels[1][0] for chat in (False, True))
    assert policy.ask(chat) == policy.ask(plain) == "0+0="
    with_template(policy)
    assert policy.ask(plain) == "0+0="
    assert policy.ask(chat) == "[system]Sum.[user]0+0=[assistant]"


def test_the_begin_token_is_written_once(policy: Policy) -> None:
    from tokenizers import processors

    policy.tokenizer.add_special_tokens({"bos_token": "<bos>"})
    with_template(policy, "{{ bos_token }}" + TEMPLATE)
    chat = Problem("1+1", "2", 1, ({"role": "user", "content": "1+1"},))
    assert policy.ask(chat).startswith("<bos>[user]")  # this tokenizer does not write it
    begin = policy.tokenizer.bos_token_id
    policy.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", begin)]
    )
    assert policy.tokenizer("1")["input_ids"][0] == begin
    assert policy.tokenizer(policy.ask(chat))["input_ids"].count(begin) == 1


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A checkpoint with a byte-pair tokenizer, a begin token and a chat template, as instruction models have."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<end>", "[user]", "[assistant]"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["What is the sum of 3 and 4?"] * 9, trainer)
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<end>")
    whole.chat_template = "{{ bos_token }}" + TEMPLATE
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(whole), bos_token_id=0, eos_token_id=1, **shape))
    model.save_pretrained(tmp_path / "chat-model")
    whole.save_pretrained(tmp_path / "chat-model")
    return tmp_path / "chat-model"


@pytest.mark.float32
@pytest.mark.parametrize("objective", ["grpo", "dpo"])
def test_a_chat_model_trains_on_prompts_of_many_lengths(
    objective: str, tiny: TrainConfig, pretrained: Path, table: Table, tmp_path: Path
) -> None:
    policy = load(pretrained, _cpu())
    asked = [f"What is the sum of {a} and {a * a * a}{'?' * a}" for a in range(40)]
    rows = [
        {
            "prompt": [{"role": "user", "content": text}],
            "chosen": [{"role": "assistant", "content": "sum"}],
            "rejected": [{"role": "assistant", "content": "What is it"}],
        }
        for text in asked
    ]
    Path("my_even.py").write_text("def verify(response, problem): return float(len(response) % 2)\n")
    name = table("chats.jsonl", rows)
    options = {"verifier": "my_even:verify", "unfinished": True, "max_response_length": 4}
    config = override(
        on(tiny, name, **options),
        {"objective": objective, "model.path": str(pretrained), "offline.data": name if objective == "dpo" else None},
    )
    problem = build(config.task).problem(1, random.Random(0))
    assert policy.ask(problem) == f"<s>[user]{problem.prompt}[assistant]"
    assert len({len(policy.tokenizer(policy.ask(p))["input_ids"]) for p in build(config.task).levels[1]}) > 9  # type: ignore[attr-defined]
    summary = train(config, tmp_path / "run")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")[1:]
    # every first log-ratio of a rollout is 0: padding and template are the same in sampling, scoring and update
    assert lines[0]["inactive"] > 0 and any(line["grad_norm"] > 0 for line in lines)
    assert not config.warm_started and summary["final"]["accuracy_in"] >= 0
    if objective == "dpo":
        assert lines[0]["inactive"] == 1.0 and lines[0]["loss"] == pytest.approx(0.6931, abs=1e-3)


# ---------------------------------------------------------------------- reasoning_gym


def test_any_task_of_reasoning_gym_and_its_options() -> None:
    pytest.importorskip("reasoning_gym")
    sums = task("reasoning_gym:chain_sum", max_terms=2, max_digits=1, after="=")
    problem = draw(sums, 1, random.Random(3))
    assert problem == draw(task("reasoning_gym:chain_sum", max_terms=2, max_digits=1), 1, random.Random(3))
    expression = problem.prompt.split(": ")[1].removesuffix(" =")
    assert expression.count(" ") == 2 and problem.answer == str(eval(expression))
    assert sums.reward(problem, f"well = {problem.answer}", True) == 1.0
    assert sums.reward(problem, problem.answer, True) == 0.0 == sums.reward(problem, f"= {problem.answer}", False)
    assert sums.reward(problem, f"<answer>{problem.answer}.0</answer>", True) == 1.0  # its own scorer's tolerance
    assert set(problem.prompt) <= set(sums.alphabet)
    hard = [draw(task("reasoning_gym:chain_sum"), 6, random.Random(i)).prompt for i in range(20)]
    assert max(prompt.count(" + ") + prompt.count(" - ") for prompt in hard) > 4
    assert build(TaskConfig(name="reasoning_gym:basic_arithmetic")).problem(1, random.Random(0)).answer


def test_reasoning_gym_says_what_it_has() -> None:
    pytest.importorskip("reasoning_gym")
    for name, options, message in [
        ("reasoning_gym:chain_sums", {}, "no task 'chain_sums'; it has .*chain_sum"),
        ("reasoning_gym:chain_sum", {"terms": 3}, "could not be made in level 1 with"),
        ("reasoning_gym:chain_sum", {"min_terms": 9, "max_terms": 2}, "max_terms must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            task(name, **options)
    with pytest.raises(ValueError, match="level 0"):
        task("reasoning_gym:chain_sum").problem(0, random.Random(0))


# ---------------------------------------------------------------------- trained on


def on(tiny: TrainConfig, name: str, **options: Any) -> TrainConfig:
    warm = WarmStartConfig(steps=60, batch=12, rate=1e-2, noisy_steps=2)
    found = replace(
        tiny, task=TaskConfig(name, options, eval_prompts=8, eval_interim_prompts=4), warm_start=warm, rate=3e-3
    )
    return override(found, {"rl.iterations": 3, "rl.max_new_tokens": 8})


def cases(table: Table) -> dict[str, Callable[[], tuple[str, dict[str, Any]]]]:
    programs = [
        {"prompt": f"{i}:", "tests": ["assert f(1) == 1"], "solution": "f=abs", "answer": "f=1"} for i in range(40)
    ]
    said = [
        {
            "prompt": f"{i}:",
            "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
            "kwargs": [{}, {"num_words": 2, "relation": "at least"}],
            "solution": "a b",
            "answer": "a, b",
        }
        for i in range(40)
    ]
    return {
        "math-verify": lambda: (table("m.jsonl", [row for row in SUMS if len(row["answer"]) == 1]), {}),
        "code": lambda: (table("c.jsonl", programs), {}),
        "instructions": lambda: (table("i.jsonl", said), {}),
        "gym": lambda: ("reasoning_gym:chain_sum", {"max_terms": 2, "max_digits": 1, "max_response_length": 8}),
    }


@pytest.mark.float32
@pytest.mark.parametrize("kind", ["math-verify", "code", "instructions", "gym"])
def test_a_small_model_trains(kind: str, tiny: TrainConfig, table: Table, tmp_path: Path) -> None:
    pytest.importorskip({"gym": "reasoning_gym", "math-verify": "math_verify"}.get(kind, "torch"))
    name, options = cases(table)[kind]()
    if kind != "gym":
        options["verifier"] = kind
    config = on(tiny, name, **options)
    assert config.warm_start.levels == config.task.train_levels == config.task.eval_levels == (1,)
    summary = train(config, tmp_path / "run")
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if line["step"]]
    assert [line["step"] for line in lines] == [1, 2, 3] and summary["masked"] == 0
    assert max(line["reward"] for line in lines) > 0 and any(line["grad_norm"] > 0 for line in lines)
    assert 0 <= summary["final"]["accuracy_in"] <= 1


@pytest.mark.float32
def test_resuming_on_a_table_changes_nothing(tiny: TrainConfig, table: Table, tmp_path: Path) -> None:
    import os
    import signal

    from geomalign.training.events import Event, Interrupted

    config = on(tiny, table("a.jsonl", SUMS))
    whole = train(config, tmp_path / "whole")

    def interrupt(event: Event) -> None:
        if event.kind == "step" and event.run != "warm start" and event.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(config, tmp_path / "cut", progress=interrupt)
    resumed = train(config, tmp_path / "cut", resume=True)
    assert resumed["final"] == whole["final"]
    one, two = (load(tmp_path / run / "model", _cpu()).model.state_dict() for run in ("whole", "cut"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def _cpu() -> Any:
    from geomalign.training.policy import Placement

    return Placement()


@pytest.mark.float32
def test_a_verifier_that_raises_masks_its_samples_and_the_run_goes_on(
    tiny: TrainConfig, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("my_shaky.py").write_text(
        "def verify(response, problem):\n"
        "    if len(response) % 2: raise OSError('gone')\n"
        "    return float(len(response) > 2)\n"
    )
    config = on(tiny, table("a.jsonl", SUMS), verifier="my_shaky:verify")
    summary = train(config, tmp_path / "run")
    assert 0 < summary["masked"] < 3 * 16 and summary["iterations"] == 3


def test_a_table_is_a_task() -> None:
    from geomalign.tasks import Task
    from geomalign.tasks.verifiers.base import Exact

    assert isinstance(Dataset({1: (Problem("a", "b", 1),)}, {}, Exact()), Task)
