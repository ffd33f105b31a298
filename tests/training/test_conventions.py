"""What a model brings along: end tokens, what its tokenizer adds, positions, its chat template, where it lies."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig

from geomalign.tasks import Chain, Dataset, Preference, Problem, held_out
from geomalign.training import policy as policies
from geomalign.training.config import override
from geomalign.training.config.settings import TrainConfig
from geomalign.training.evaluation import count_solved
from geomalign.training.generation import log_probs, sample
from geomalign.training.pair_tokens import tokenise_pairs
from geomalign.training.policy import Placement, Policy, PromptWarning, load
from geomalign.training.prompts import fitting
from geomalign.training.warmstart import imitation_loss, warm_start

pytestmark = pytest.mark.float32


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pair(prompt: str, chosen: str, rejected: str) -> Preference:
    return Preference(Problem(prompt, chosen, 1), chosen, rejected)


def always(policy: Policy, token: int) -> None:
    def says(module: Any, args: Any, out: Any) -> Any:
        out.logits[:] = -30.0
        out.logits[..., token] = 30.0
        return out

    policy.model.register_forward_hook(says)


# ---------------------------------------------------------------------- end tokens


@pytest.mark.parametrize(
    ("listed", "ends"),
    [(None, [1]), (1, [1]), (5, [1, 5]), ([5, 1], [1, 5]), ([5, 6], [1, 5, 6]), ([2, 5], [1, 5]), ([10**6, -1], [1])],
    ids=["none", "its own", "another", "two", "three", "the unknown token", "no token"],
)
def test_every_end_token_of_the_model_ends_a_response(listed: Any, ends: list[int], policy: Policy) -> None:
    policy.model.generation_config = GenerationConfig(eos_token_id=listed)
    assert policy.ends == ends
    always(policy, ends[-1])
    out = sample(policy, ["1+2;"], max_new_tokens=5, generator=noise())
    assert out.ended.tolist() == [True] and out.mask.sum() == 1 and out.texts(policy) == [""]


def test_what_ends_no_response_does_not(policy: Policy) -> None:
    policy.model.generation_config = GenerationConfig(eos_token_id=[1, 5])
    always(policy, 6)
    out = sample(policy, ["1+2;"], max_new_tokens=5, generator=noise())
    assert out.ended.tolist() == [False] and out.mask.sum() == 5


def test_a_response_that_ends_its_turn_has_ended(policy: Policy) -> None:
    """Of pairs that a chat template wrote."""
    policy.tokenizer.chat_template = "{% for m in messages %}{{ m.content }};{% endfor %}"
    policy.model.generation_config = GenerationConfig(eos_token_id=policy.tokenizer.convert_tokens_to_ids(";"))
    said = [({"role": "assistant", "content": text},) for text in ("3", "12")]
    problem = Problem("1+2", "3", 1, ({"role": "user", "content": "1+2"},))
    (chosen, _), _ = tokenise_pairs(policy, [Preference(problem, "3", "12", *said)], 99)
    assert chosen.ended.tolist() == [True] and chosen.texts(policy) == ["3"]


def test_a_tokenizer_of_another_model_is_refused(policy: Policy, tmp_path: Path) -> None:
    policies.write(policy, tmp_path)
    policy.tokenizer.add_tokens(["<more>"])
    policy.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"tokenizer of .* has (\d+) tokens and the model embeddings for \d+"):
        load(tmp_path, Placement())


# ---------------------------------------------------------------------- what a tokenizer adds


def marked(policy: Policy, before: str, after: str) -> Policy:
    """The policy with a tokenizer that writes these tokens before and behind every text."""
    names = policy.tokenizer.pad_token, policy.tokenizer.eos_token
    policy.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=" ".join(f"{before} $A {after}".split()),
        pair=" ".join(f"{before} $A {after} $B {after}".split()),
        special_tokens=[(name, policy.tokenizer.convert_tokens_to_ids(name)) for name in names],
    )
    return policy


@pytest.mark.parametrize("after", ["", "<end>", "<end> <pad>"])
@pytest.mark.parametrize("before", ["", "<pad>"])
def test_what_a_tokenizer_appends_is_no_part_of_a_prompt(before: str, after: str, policy: Policy) -> None:
    plain = policy.tokenizer("1+2;")["input_ids"]
    expected = [policy.pad] * bool(before) + plain
    marked(policy, before, after)
    assert policy.prompt_tokens(["1+2;", "1+2;"]) == [expected] * 2
    assert sample(policy, ["1+2;"], max_new_tokens=2, generator=noise()).prompt.tolist() == [expected]
    (chosen, rejected), _ = tokenise_pairs(policy, [pair("1+2;", "3", "4")], 99)
    assert chosen.prompt.tolist() == rejected.prompt.tolist() == [expected]
    assert chosen.response.tolist() == [[*policy.tokenizer("3", add_special_tokens=False)["input_ids"], policy.end]]


def test_the_warm_start_teaches_no_end_token_before_the_response(policy: Policy) -> None:
    before = imitation_loss(policy, ["1+2;"], ["3"])
    assert torch.equal(imitation_loss(marked(policy, "", "<end>"), ["1+2;"], ["3"]), before)


# ---------------------------------------------------------------------- empty prompts


@pytest.mark.filterwarnings("ignore::geomalign.training.policy.PromptWarning")
def test_an_empty_prompt_depends_on_nothing_beside_it(policy: Policy) -> None:
    def first(beside: str, ending: str) -> float:
        (chosen, _), _ = tokenise_pairs(policy, [pair(p, "1" + ending, "2") for p in (beside, "")], 99)
        return float(log_probs(policy, chosen)[1, 0].detach())

    with torch.no_grad():
        expected = float(policy.logits(torch.tensor([[policy.end]]), None, 1).log_softmax(-1)[0, 0, 4])
    assert policy.tokenizer("1")["input_ids"] == [4]
    for beside, ending in (("1+", ""), ("1+2+3+4+5;", "23"), ("1+2+3+4+5;", "45")):
        assert first(beside, ending) == pytest.approx(expected, abs=1e-5)
    out = sample(policy, ["", "1+2;"], samples=2, max_new_tokens=3, generator=noise())
    torch.testing.assert_close(log_probs(policy, out), out.log_prob, atol=1e-5, rtol=0)


@pytest.mark.parametrize("begin", ["<pad>", None])
def test_an_empty_prompt_begins_as_texts_of_the_model_do(begin: str | None, policy: Policy) -> None:
    policy.tokenizer.bos_token = begin
    with pytest.warns(PromptWarning, match="without a token: 1 of 2; the token"):
        assert policy.prompt_tokens(["", "1"]) == [[policy.pad if begin else policy.end], [4]]


def test_prompts_that_are_all_empty_are_refused(policy: Policy) -> None:
    with pytest.raises(ValueError, match="prompts of all 2 pairs are empty"):
        tokenise_pairs(policy, [pair("", "1", "2")] * 2, 99)


# ---------------------------------------------------------------------- positions


def test_the_last_position_is_used_and_none_behind_it(other_policy: Policy) -> None:
    """A GPT-2 of 64 positions; the last token of a response is not read again."""
    assert other_policy.positions == 64
    out = sample(other_policy, ["1" * 61], max_new_tokens=4, generator=noise())
    assert log_probs(other_policy, out).shape == (1, out.response.shape[1])
    for length, new in ((62, 4), (61, 5), (80, 1)):
        with pytest.raises(
            ValueError, match=rf"1 of 2 prompts .* longest has {length} tokens, .* up to {new}, .* 64 pos"
        ):
            sample(other_policy, ["1", "1" * length], max_new_tokens=new, generator=noise())


def test_pairs_are_cut_to_the_positions(other_policy: Policy) -> None:
    (chosen, rejected), kept = tokenise_pairs(
        other_policy, [pair("1" * 60, "2" * 30, "3"), pair("1" * 70, "2", "3")], max_length=1024
    )
    assert len(kept) == 1 and chosen.mask.sum() == 4 and rejected.mask.sum() == 2
    assert log_probs(other_policy, chosen).isfinite().all()
    with pytest.raises(ValueError, match=r"all 1 pairs have prompts of 64 tokens or more.*max_length = 1024 .* 64 pos"):
        tokenise_pairs(other_policy, [pair("1" * 70, "2", "3")], max_length=1024)
    with pytest.raises(ValueError, match=r"all 1 pairs are the same tokens.* 8 tokens that they are cut to"):
        tokenise_pairs(other_policy, [pair("1+2", "45678", "45678;9")], max_length=8)


def test_a_demonstration_beyond_the_positions_is_refused(other_policy: Policy) -> None:
    with pytest.raises(ValueError, match="have 70 tokens, and the model 64 positions"):
        imitation_loss(other_policy, ["1" * 40], ["2" * 30])


class Patient(Chain):
    """Wants long responses: the reward is 1 from 40 characters on."""

    def max_response_length(self, level: int) -> int:
        return 50

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        return float(len(response) >= 40)


def test_a_long_prompt_shortens_no_other_response_of_an_evaluation(other_policy: Policy) -> None:
    always(other_policy, 5)
    problems = [Problem("1" * length, "", 1) for length in (3, 60, 15)]
    assert count_solved(other_policy, Patient(), problems) == 2


LENGTHS = (10, 30, 50, 70)


def table(judge: Callable[[str, Problem], float] = lambda response, problem: 1.0) -> Dataset:
    """Prompts of these lengths that are trained on, and of the same that are held out."""
    rng, found = random.Random(0), {True: dict[int, Problem](), False: dict[int, Problem]()}
    while any(len(part) < len(LENGTHS) for part in found.values()):
        for length in LENGTHS:
            problem = Problem("".join(rng.choices("123", k=length)), "1", 1)
            found[held_out(problem)].setdefault(length, problem)
    return Dataset({1: tuple(problem for part in found.values() for problem in part.values())}, {}, judge)  # type: ignore[arg-type]


@pytest.mark.parametrize(("response", "kept"), [(20, 2), (4, 3), (0, 4)])
def test_prompts_without_room_are_counted_refused_and_dropped(
    response: int, kept: int, other_policy: Policy, tiny: TrainConfig
) -> None:
    """64 positions: of those that are trained on, `kept` of four have room; of the held-out ones three."""
    said: list[tuple[str, str]] = []
    number = 8 - kept - 3 if response else 2
    seen = rf"{number} of 8 prompts are too long: the longest has 70 tokens, and of the model's 64 positions"
    with pytest.raises(ValueError, match=seen):
        fitting(table(), other_policy, tiny, response, lambda *what: said.append(what))
    dropping = override(tiny, {"rl.long_prompts": "drop"})
    found = fitting(table(), other_policy, dropping, response, lambda *what: said.append(what))
    assert isinstance(found, Dataset) and len(found.levels[1]) == 8 - number
    ((kind, text),) = said
    assert kind == "long" and "they are left out" in text
    long = replace(table(), levels={1: tuple(p for p in table().levels[1] if len(p.prompt) == 70)})
    with pytest.raises(ValueError, match="without them level 1 has none left"):
        fitting(long, other_policy, dropping, 4, print)


def test_prompts_that_are_drawn_are_drawn_again(other_policy: Policy, tiny: TrainConfig) -> None:
    class Growing(Chain):
        def problem(self, level: int, rng: random.Random) -> Problem:
            return Problem("1" * rng.choice((10, 70)), "1", level)

    dropping = override(tiny, {"rl.long_prompts": "drop"})
    task = fitting(Growing(), other_policy, dropping, 8, print)
    assert {len(task.problem(1, random.Random(seed)).prompt) for seed in range(20)} == {10}
    assert task.reward(Problem("1+1;", "2", 1), "1+1=2#2", True) == 1.0 and task.alphabet == Chain().alphabet
    with pytest.raises(ValueError, match="none of 1000 prompts of level 1 leaves the model room"):
        fitting(Growing(), other_policy, dropping, 60, print).problem(1, random.Random(0))


def test_a_run_says_before_it_begins_that_prompts_are_too_long(
    tiny: TrainConfig, policy: Policy, tmp_path: Path
) -> None:
    rows = [{"prompt": "1" * (300 if k == 5 else 4) + str(k), "answer": "1"} for k in range(40)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {"task.name": str(tmp_path / "sums.jsonl"), "task.options": {}, "task.eval_levels": [1]}
    policies.save(policy, tmp_path / "model")
    config = override(tiny, settings | {"model.path": str(tmp_path / "model")})
    with pytest.raises(ValueError, match="1 of 40 prompts are too long: the longest has 301 tokens"):
        warm_start(config, tmp_path / "base")


# ---------------------------------------------------------------------- logits, templates, places


def test_a_token_that_cannot_come_leaves_the_entropy_finite(policy: Policy) -> None:
    def forbid(module: Any, args: Any, out: Any) -> Any:
        out.logits[..., 5:] = -torch.inf
        return out

    policy.model.register_forward_hook(forbid)
    out = sample(policy, ["1+2;"], samples=2, max_new_tokens=3, generator=noise())
    p = out.log_prob.exp()
    assert out.entropy.isfinite().all() and (out.response < 5).all() and (p[out.mask] > 0).all()
    assert (out.entropy[out.mask] > 0).all() and (out.entropy <= torch.log(torch.tensor(5.0)) + 1e-5).all()


def test_a_chat_without_a_template_is_refused(policy: Policy, tiny: TrainConfig) -> None:
    asked = override(tiny, {"task.options": {"chat": True}, "task.name": "sums.jsonl"})
    with pytest.raises(ValueError, match="chat=true, but the model has no chat template"):
        fitting(table(), policy, asked, 4, print)
    policy.tokenizer.chat_template = "{% for m in messages %}{{ m.content }};{% endfor %}"
    assert fitting(table(), policy, asked, 4, print)


def test_conversations_without_a_template_are_told(policy: Policy, tiny: TrainConfig) -> None:
    spoken = {1: tuple(replace(p, messages=({"role": "user", "content": p.prompt},)) for p in table().levels[1])}
    said: list[str] = []
    fitting(replace(table(), levels=spoken), policy, tiny, 4, lambda kind, text: said.append(kind))
    fitting(table(), policy, tiny, 4, lambda kind, text: said.append(kind))
    policy.tokenizer.chat_template = "{% for m in messages %}{{ m.content }};{% endfor %}"
    fitting(replace(table(), levels=spoken), policy, tiny, 4, lambda kind, text: said.append(kind))
    assert said == ["chat"]


def test_what_a_template_does_not_take_is_shown(policy: Policy) -> None:
    policy.tokenizer.chat_template = "{{ raise_exception('no system message') }}"
    with pytest.raises(ValueError, match=r"does not take the messages .*'Be brief.*no system message"):
        policy.chat([{"role": "system", "content": "Be brief."}])


def test_a_template_reads_what_a_row_hands_to_it(policy: Policy) -> None:
    policy.tokenizer.chat_template = "{{ messages[0].content }}{% for tool in tools %}[{{ tool.name }}]{% endfor %}"
    problem = Problem("1+2", "3", 1, ({"role": "user", "content": "1+2"},), template={"tools": [{"name": "sum"}]})
    assert policy.ask(problem) == "1+2[sum]"


def test_a_name_that_is_no_directory_asks_the_hub_once_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def silent(name: str, timeout: float) -> None:
        asked.append(timeout)
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "model_info", silent)
    for name, times in (("opo-checkpoint", 0), ("a/b/c", 0), ("owner/ model?", 1), ("owner/model", 2)):
        began = time.monotonic()
        with pytest.raises(ValueError, match=r"is no directory.*As a directory it would be /"):
            load(name, Placement())
        assert len(asked) == times and all(timeout <= 5 for timeout in asked)
        assert time.monotonic() - began < 5
    with pytest.raises(ValueError, match=r"the hub does not give it \(ConnectionError: no route\)"):
        load("owner/model", Placement())
