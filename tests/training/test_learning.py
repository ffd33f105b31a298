"""What the loops hand from one part to the next: which rows, whose log-probabilities, in which order; by hand."""

from __future__ import annotations

import math
import random
import types
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign.tasks import Chain, Dataset, Problem, held_out
from geomalign.training import evaluation, fit, from_pairs, from_rewards, generation, prompts, warmstart
from geomalign.training.checkpoint import read_metrics
from geomalign.training.config import override
from geomalign.training.config.settings import ModelConfig, OfflineConfig, RLConfig, TrainConfig, WarmStartConfig
from geomalign.training.events import Event
from geomalign.training.from_pairs import Pairs
from geomalign.training.generation import Rollout, sample, score_rows
from geomalign.training.policy import Placement, Policy, build

#: A verifier that nothing here asks.
ANY: Any = lambda response, problem: 1.0  # noqa: E731
SMALL = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)


def noted(kept: list[Any], value: Any, answer: Any) -> Any:
    """The answer of a stand-in, which keeps what it was asked."""
    kept.append(value)
    return answer


def small(seed: int = 0) -> Policy:
    policy = build(SMALL, "0123456789+=;", seed, Placement(dtype="float64"))
    torch.nn.init.normal_(policy.model.get_output_embeddings().weight, std=0.3)
    return policy


def rollout_of(mask: Tensor, ended: Tensor | None = None, entropy: Tensor | None = None) -> Rollout:
    tokens, zeros = torch.zeros(mask.shape, dtype=torch.long), torch.zeros(mask.shape)
    ended = torch.ones(len(mask), dtype=torch.bool) if ended is None else ended
    return Rollout(tokens, mask, tokens, mask, ended, zeros, zeros if entropy is None else entropy)


# ---- pairs


def pairs_of(policy: Policy, count: int = 4) -> Pairs:
    """Chosen responses of up to five tokens, rejected ones of up to eight."""
    asked = ["1+2=", "13+4=", "5=", "7+7="][:count]
    noise = torch.Generator().manual_seed(1)
    sides = (sample(policy, asked, max_new_tokens=width, generator=noise).padded(width) for width in (5, 8))
    return Pairs(*sides)


def run_on_pairs(policy: Policy, **settings: Any) -> Any:
    return types.SimpleNamespace(
        config=TrainConfig("dpo", offline=OfflineConfig(**settings)),
        policy=policy,
        objective=ga.recipes.dpo(beta=0.5),
        placement=policy.placement,
        optimizer=torch.optim.SGD(policy.parameters, lr=0.0),
        stiffen=lambda drive: drive,
        observe=lambda outcome: None,
        timed=lambda part: nullcontext(),
        end_rollout=lambda: {"controller": 2.0},
    )


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_step_on_pairs_is_measured_before_it_is_taken(accumulation: int) -> None:
    """Of the pairs in these rows and in this order, against the reference; whatever the micro-batches."""
    reference, policy = small(), small()
    pairs = pairs_of(reference)
    with torch.no_grad():
        for parameter in policy.parameters:
            parameter.add_(0.05 * torch.randn_like(parameter))
    run = run_on_pairs(policy, accumulation=accumulation, temperature=0.7, clip_norm=0.0, batch=3)
    batch, drive = from_pairs._with_reference(run, reference, pairs)
    assert torch.equal(batch.chosen, score_rows(reference, pairs.chosen, 0.7, 99))
    assert batch.reference_chosen is batch.chosen and batch.reference_rejected is batch.rejected
    rows = torch.tensor([2, 0, 3])
    row = from_pairs._step(run, pairs, batch, drive, rows)
    now = [score_rows(policy, side, 0.7, 99).sum(-1) for side in (pairs.chosen, pairs.rejected)]
    margin = ((now[0] - batch.chosen.sum(-1)) - (now[1] - batch.rejected.sum(-1)))[rows]
    assert row["margin"] == pytest.approx(float(margin.mean()))
    assert row["preference_accuracy"] == pytest.approx(float((margin > 0).double().mean()))
    assert row["loss"] == pytest.approx(float(torch.nn.functional.softplus(-0.5 * margin).mean()))
    assert row["controller"] == 2.0 and row["inactive"] == 0.0
    assert from_pairs._margins(run.objective(batch, drive=drive)).abs().max() < 1e-12


def test_a_process_without_pairs_takes_part_in_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = small()
    pairs, run = pairs_of(policy), run_on_pairs(policy)
    batch, drive = from_pairs._with_reference(run, policy, pairs)
    whole = from_pairs._validate(run, pairs, batch, drive)
    assert whole == pytest.approx(
        {"loss_held_out": math.log(2), "margin_held_out": 0.0, "preference_accuracy_held_out": 0.0}, abs=1e-6
    )
    monkeypatch.setattr(from_pairs.distributed, "share", lambda count: slice(count, count))
    monkeypatch.setattr(from_pairs, "_scored", lambda *given: pytest.fail("there is nothing to score"))
    monkeypatch.setattr(from_pairs.distributed, "summed", lambda sums: sums + torch.tensor([0.5, 6.0, 3.0, 4.0]))
    of_others = from_pairs._validate(run, pairs, batch, drive)
    assert of_others == {"loss_held_out": 0.5, "margin_held_out": 1.5, "preference_accuracy_held_out": 0.75}
    run.objective = ga.recipes.get("kto")
    assert from_pairs._validate(run, pairs, batch, drive) == {"loss_held_out": 0.5}, "its events are no pairs"


def test_epochs_go_over_all_pairs_in_orders_that_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_on_pairs(small(), epochs=2, batch=3)
    run.config, run.step = replace(run.config, seed=3), 0
    run.reference, asked = lambda: "reference", list[Any]()
    trained, apart = [0] * 7, [0] * 2
    monkeypatch.setattr(from_pairs, "_pairs", lambda run: (trained, apart))
    monkeypatch.setattr(from_pairs, "_with_reference", lambda run, reference, pairs: (reference, len(pairs)))
    monkeypatch.setattr(from_pairs, "_step", lambda *given: noted(asked, given, {}))
    monkeypatch.setattr(from_pairs, "_validate", lambda *given: {"given": given[1:]})

    def loop(total: int, advance: Any, validate: Any) -> None:
        assert total == 6
        for run.step in range(total):
            advance()
        assert validate() == {"given": (apart, "reference", 2)}

    run.loop = loop
    from_pairs.learn_from_pairs(run)
    assert all(given[1:4] == (trained, "reference", 7) for given in asked)
    orders = [given[4].tolist() for given in asked]
    assert [len(order) for order in orders] == [3, 3, 1, 3, 3, 1]
    for epoch in (0, 1):
        known = torch.randperm(7, generator=torch.Generator().manual_seed(3000 + epoch)).tolist()
        assert [*chain(*orders[3 * epoch : 3 * epoch + 3])] == known, "those that a run of this seed has always had"
    apart = []
    run.loop = lambda total, advance, validate: asked.append(validate())
    monkeypatch.setattr(from_pairs, "_pairs", lambda run: (trained, None))
    from_pairs.learn_from_pairs(run)
    assert asked[-1] == {}


def test_responses_are_scored_as_many_at_once_as_a_step_has(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, seen = small(), list[int]()
    monkeypatch.setattr(
        from_pairs, "score_rows", lambda policy, side, temperature, rows: noted(seen, rows, side.log_prob)
    )
    pairs = pairs_of(policy)
    sides = from_pairs._scored(policy, pairs, OfflineConfig(batch=5), slice(1, 3))
    assert seen == [10, 10] and [side.shape for side in sides] == [(2, 5), (2, 8)]


@pytest.mark.parametrize(
    ("rewards", "most", "chosen", "rejected"),
    [
        ([3.0, 1.0, 2.0, 0.0], 2, [0, 2], [3, 1]),
        ([3.0, 1.0, 2.0, 0.0], 1, [0], [3]),
        ([0.0, 1.0, math.nan, 0.5], 3, [1], [0]),
        ([1.0, 1.0, math.nan, 1.0], 2, [], []),
        ([math.nan] * 4, 2, [], []),
    ],
)
def test_the_best_of_a_group_is_paired_with_its_worst(
    rewards: list[float], most: int, chosen: list[int], rejected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two prompts with four samples each; of the second one all are alike."""
    asked: dict[str, Any] = {}
    run = run_on_pairs(small(), samples=4, pairs_per_prompt=most, max_new_tokens=9, temperature=0.5)
    run.task, run.say = Chain(), lambda kind, message: asked.update({kind: message})
    mask = torch.ones(8, 3, dtype=torch.bool)
    rollout = replace(rollout_of(mask), response=torch.arange(8)[:, None].expand(8, 3))

    def sampled(policy: Any, texts: list[str], **named: Any) -> Rollout:
        asked.update(named, prompts=texts)
        return rollout

    def score(task: Any, problems: list[Problem], *given: Any) -> list[float]:
        given[-1]("broken")
        asked["groups"] = [problem.prompt for problem in problems]
        return [*rewards, 7.0, 7.0, 7.0, 7.0]

    monkeypatch.setattr(from_pairs, "sample", sampled)
    monkeypatch.setattr(from_pairs, "score", score)
    generator = torch.Generator()
    for held in (False, True):
        found = from_pairs._sampled(run, run.policy, random.Random(0), generator, 2, held)
        assert (asked["samples"], asked["max_new_tokens"], asked["temperature"]) == (4, 9, 0.5)
        assert asked["generator"] is generator and asked["unverified"] == "broken"
        first, second = asked["prompts"]
        assert asked["groups"] == [first] * 4 + [second] * 4
        assert all(held_out(Problem(prompt, "", 3)) is held for prompt in asked["prompts"])
        if not chosen:
            assert found is None
        else:
            assert found is not None
            assert found.chosen.response[:, 0].tolist() == chosen and found.rejected.response[:, 0].tolist() == rejected


@pytest.mark.parametrize(("count", "apart"), [(512, 64), (9, 2), (8, 1), (1, 1)])
def test_an_eighth_as_many_prompts_are_held_out(count: int, apart: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run, asked = run_on_pairs(small(), prompts=count), list[Any]()
    monkeypatch.setattr(from_pairs, "_sampled", lambda *given: noted(asked, given[2:], f"{given[-1]}"))
    found: Any = from_pairs.sample_pairs(run, run.policy)
    assert found == ("False", "True")
    assert [given[2:] for given in asked] == [(count, False), (apart, True)]
    assert asked[0][0] is asked[1][0] and asked[0][1] is asked[1][1], "one source of numbers after the other"
    monkeypatch.setattr(from_pairs, "_sampled", lambda *given: None)
    with pytest.raises(ValueError, match=f"none of {count} prompts had both a better and a worse response among 16"):
        from_pairs.sample_pairs(run, run.policy)


def test_what_is_said_of_a_table_of_which_all_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its prompts are conversations in one row alone; three pairs of four are held out, of which two are used."""
    mask = torch.tensor([[True, True, False]])
    chosen = replace(rollout_of(mask), response=torch.tensor([[5, 6, 0]]))
    rejected = replace(rollout_of(mask[:, :2]), response=torch.tensor([[5, 7]]))
    said: dict[str, str] = {}
    run: Any = types.SimpleNamespace(
        config=override(TrainConfig("dpo"), {"offline.data": "pairs.jsonl", "task.eval_prompts": 2}),
        say=said.__setitem__,
    )
    base: Any = types.SimpleNamespace(positions=4, tokenizer=types.SimpleNamespace(chat_template=None))

    def table(*apart: bool, messages: Any = (), answer: Any = ()) -> None:
        rows = [
            types.SimpleNamespace(problem=types.SimpleNamespace(messages=() if k else messages, apart=held),
                                  chosen_messages=() if k else answer)
            for k, held in enumerate(apart)
        ]  # fmt: skip
        monkeypatch.setattr(from_pairs, "preferences", lambda data, split: rows)
        monkeypatch.setattr(from_pairs, "held_out", lambda problem: problem.apart)

    cut: list[int] = []

    def tokenise(base: Any, pairs: list[Any], most: int) -> Any:
        cut.append(len(pairs))
        assert most == 1024
        if len(pairs) == 3:
            raise ValueError("no held-out prompt fits")
        return (chosen, rejected), pairs

    monkeypatch.setattr(from_pairs, "tokenise_pairs", tokenise)
    for messages, answer in ((("m",), ()), ((), ("m",))):
        table(False, False, True, True, True, messages=messages, answer=answer)
        trained, validation = from_pairs.table_pairs(run, base)
        assert validation is not None and len(trained) == 1 and cut[-2:] == [2, 2]
        assert said == {"chat": prompts.UNTEMPLATED}
        said.clear()
    base.tokenizer.chat_template = "{{ messages }}"
    table(False, False, messages=("m",))
    assert from_pairs.table_pairs(run, base)[1] is None and said == {}
    run.config = override(run.config, {"task.eval_prompts": 3})
    table(False, False, True, True, True)
    assert from_pairs.table_pairs(run, base)[1] is None, "where none fits there is none"
    base.positions = 5  # the prompt has two of them as well
    long = replace(chosen, mask=torch.ones(1, 3, dtype=torch.bool), ended=torch.tensor([False]))
    long = replace(long, prompt_mask=mask)
    monkeypatch.setattr(from_pairs, "tokenise_pairs", lambda base, pairs, most: ((long, rejected), pairs[:1]))
    from_pairs.table_pairs(run, base)
    assert said["long"] == "1 of 2 pairs left out: their prompts fill the model's positions, 5 tokens."
    assert said["cut"] == "1 of 2 responses lose their end: they pass the model's positions, 5 tokens."
    table(True, True)
    with pytest.raises(ValueError, match=r"all 2 pairs of pairs\.jsonl are held out .* one prompt in 8 is"):
        from_pairs.table_pairs(run, base)


# ---- rewards


def test_a_rollout_goes_through_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process that has the prompts 2 and 3 of six, with four samples each."""
    config = TrainConfig("grpo", seed=5, rl=RLConfig(prompts=6, samples=4, minibatches=2, temperature=0.5))
    told: dict[str, Any] = {}
    mask = torch.ones(8, 3, dtype=torch.bool)
    rollout = rollout_of(mask)
    run: Any = types.SimpleNamespace(
        config=config,
        step=3,
        task=Chain(),
        policy=types.SimpleNamespace(ask=lambda problem: problem.prompt, tokenizer=None),
        placement=Placement(),
        objective=ga.recipes.grpo(),
        timed=lambda part: nullcontext(),
        stiffen=lambda drive: drive * 2,
        unverified=lambda failed: told.update(failed=list(failed)),
        say=lambda kind, message: told.update({kind: message}),
        end_rollout=lambda: {"controller": 1.0},
    )

    def sampled(run: Any, texts: list[str], rows: slice) -> Rollout:
        told.update(prompts=texts, rows=rows)
        return rollout

    def score(task: Any, problems: Any, texts: Any, ended: Any, timeout: float, failed: Any) -> list[float]:
        told.update(asked=[problem.prompt for problem in problems], timeout=timeout)
        failed("first")
        return [1.0, 0.0, math.nan, 1.0, 0.0, 0.0, 0.0, 0.5]

    def scored(policy: Any, rollout: Any, temperature: float, rows: int) -> Tensor:
        told.setdefault("scored", []).append((policy, temperature, rows))
        return torch.full((8, 3), -1.0 if policy is run.policy else -2.0)

    def steps(run: Any, rollout: Any, whole: Any, rows: slice, drive: Tensor) -> dict[str, float]:
        told.update(whole=whole, drive=drive)
        assert rows == told["rows"]
        return {"loss": 0.5, "reward": 99.0}

    monkeypatch.setattr(Rollout, "texts", lambda self, policy: ["…"] * 8)
    monkeypatch.setattr(from_rewards.distributed, "share", lambda count: slice(2, 4))
    monkeypatch.setattr(
        from_rewards.distributed,
        "gather",
        lambda batch, local_groups: local_groups and types.SimpleNamespace(batch=batch),
    )
    for name, stand_in in (
        ("_rollout", sampled),
        ("score", score),
        ("score_rows", scored),
        ("_optimizer_steps", steps),
    ):
        monkeypatch.setattr(from_rewards, name, stand_in)
    monkeypatch.setattr(from_rewards, "_rollout_metrics", lambda *given: {"reward": 0.25, "given": given[2:]})
    reference: Any = "reference"
    row = from_rewards.iteration(run, reference)
    assert row == {"reward": 99.0, "given": (slice(8, 16), 6, 4), "loss": 0.5, "controller": 1.0}
    rng = random.Random("5/prompts/3")
    drawn = [from_rewards.draw(Chain(), rng.choice([3]), rng).prompt for _ in range(6)]
    assert told["prompts"] == drawn[2:4] and told["asked"] == [p for p in drawn[2:4] for _ in range(4)]
    assert told["rows"] == slice(8, 16) and told["timeout"] == 5.0 and told["failed"] == ["first"]
    assert told["scored"] == [(run.policy, 0.5, 12), ("reference", 0.5, 12)]
    batch = told["whole"]
    assert batch.old.unique().tolist() == [-1.0] and batch.reference.unique().tolist() == [-2.0]
    assert batch.group.tolist() == [0] * 4 + [1] * 4
    assert batch.reward.tolist() == [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.5]
    assert batch.support.any(-1).tolist() == [True, True, False, *[True] * 5]
    torch.testing.assert_close(told["drive"], 2 * run.objective.drive(batch))
    assert "nonfinite" not in told and "nonfinite_tokens" not in row
    run.config = replace(config, rl=RLConfig(prompts=6, samples=4, epochs=1, minibatches=1))
    told["scored"] = []
    from_rewards.iteration(run, None)
    assert told["scored"] == [] and told["whole"].reference is None, "the sampler's own, where there is one step"
    assert told["whole"].old.unique().tolist() == [0.0]


@pytest.mark.parametrize(
    ("settings", "ranks", "rows"),
    [
        ({"prompts": 16, "samples": 8, "minibatches": 4}, 1, 32),
        ({"prompts": 16, "samples": 8, "minibatches": 4, "accumulation": 2}, 1, 16),
        ({"prompts": 16, "samples": 8, "minibatches": 4, "accumulation": 2}, 4, 4),
        ({"prompts": 5, "samples": 3, "minibatches": 2, "accumulation": 2}, 1, 4),
        ({"prompts": 2, "samples": 2, "minibatches": 4}, 1, 1),
        ({"prompts": 2, "samples": 2, "minibatches": 4}, 2, 1),
    ],
)
def test_passes_without_gradients_take_as_many_rows_as_those_with(
    settings: dict[str, Any], ranks: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Any = types.SimpleNamespace(config=TrainConfig(rl=RLConfig(**settings)))
    monkeypatch.setattr(from_rewards.distributed, "world_size", lambda: ranks)
    assert from_rewards._rows_at_once(run) == rows


@pytest.mark.parametrize(("epochs", "minibatches", "one"), [(1, 1, True), (2, 1, False), (1, 2, False), (2, 2, False)])
def test_one_step_is_one_epoch_of_one_minibatch(epochs: int, minibatches: int, one: bool) -> None:
    run: Any = types.SimpleNamespace(config=TrainConfig(rl=RLConfig(epochs=epochs, minibatches=minibatches)))
    assert from_rewards._one_step(run) is one


def test_a_process_draws_the_noise_of_all_and_takes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(rl=RLConfig(prompts=3, samples=2, max_new_tokens=7, temperature=0.5, minibatches=1))
    policy = small()
    run: Any = types.SimpleNamespace(config=config, policy=policy, placement=policy.placement)
    run.generator = torch.Generator().manual_seed(4)
    seen: dict[str, Any] = {}

    def sampled(policy: Any, texts: Any, **named: Any) -> Rollout:
        seen.update(named, texts=texts)
        return rollout_of(torch.ones(4, 5, dtype=torch.bool))

    monkeypatch.setattr(from_rewards, "sample", sampled)
    monkeypatch.setattr(from_rewards.distributed, "largest", lambda width: width + 1)
    found = from_rewards._rollout(run, ["1", "2"], slice(2, 6))
    expected = torch.rand(6, 7, generator=torch.Generator().manual_seed(4))[2:6]
    assert torch.equal(seen.pop("noise"), expected) and found.response.shape == (4, 6), "the longest of all"
    assert seen == {"texts": ["1", "2"], "samples": 2, "temperature": 0.5, "max_new_tokens": 7}


def test_every_row_of_a_process_is_in_one_minibatch_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twelve rows those from 4 on to 8; every step has the counts of its whole minibatch."""
    settings = RLConfig(epochs=3, minibatches=3, prompts=6, samples=2, clip_norm=0.25)
    own, norms = list[list[int]](), list[float]()
    rows = ga.Batch(torch.zeros(12, 2), torch.zeros(12, 2), advantage=torch.arange(12.0))
    run: Any = types.SimpleNamespace(
        config=TrainConfig("ppo", rl=settings),
        objective=ga.recipes.ppo(),
        placement=Placement(),
        order=torch.Generator().manual_seed(0),
        optimizer="optimizer",
        policy=types.SimpleNamespace(parameters=[]),
        timed=None,
    )
    moves = iter([0.5, 0.25] * 9)

    def losses(self: Any, mine: Tensor, counts: Any, moved: list[Tensor]) -> str:
        own.append(mine.tolist())
        assert float(counts.responses) == 4 if hasattr(counts, "responses") else True
        moved += [torch.tensor(next(moves)), torch.tensor(next(moves))]
        return "losses"

    def step(given: Any, optimizer: Any, parameters: Any, clip_norm: float, timed: Any) -> Any:
        assert (given, optimizer) == ("losses", "optimizer")
        norms.append(clip_norm)
        return from_rewards.OptimizerStep(0.0, 1.0, False)

    monkeypatch.setattr(from_rewards._Mine, "losses", losses)
    monkeypatch.setattr(from_rewards, "optimizer_step", step)
    seen: list[Any] = []
    monkeypatch.setattr(from_rewards, "step_metrics", lambda *given: noted(seen, given, {"done": 1.0}))
    drive = run.objective.drive(rows)
    whole = types.SimpleNamespace(batch=rows)
    monkeypatch.setattr(from_rewards.distributed, "gather", lambda batch, local_groups: local_groups and whole)
    mask = torch.ones(4, 2, dtype=torch.bool)
    assert from_rewards._optimizer_steps(run, rollout_of(mask), rows, slice(4, 8), drive) == {"done": 1.0}
    assert norms == [0.25] * 9 and len(seen[0][0]) == 9
    for epoch in range(3):
        assert sorted(chain(*own[3 * epoch : 3 * epoch + 3])) == [0, 1, 2, 3]
    assert own[:3] != own[3:6], "in another order"
    assert [float(x) for x in seen[0][1]] == [0.5] * 9, "the largest of a step"


def test_rows_that_a_term_couples_stay_together() -> None:
    rows, samples = torch.arange(12), 3
    for name, whole in (("grpo", False), ("gvpo", True), ("amir_grpo", True)):  # the last one is a sum with grpo
        objective = ga.recipes.get(name)
        config = TrainConfig(rl=RLConfig(samples=samples, minibatches=2))
        run: Any = types.SimpleNamespace(config=config, objective=objective)
        plain = list(from_rewards._parts(run, rows, 2))
        assert [part.tolist() for part in plain] == [[*range(6)], [*range(6, 12)]], "as they are"
        mixed = list(from_rewards._parts(run, rows, 4, torch.Generator().manual_seed(0)))
        assert sorted(torch.cat(mixed).tolist()) == rows.tolist() and [len(part) for part in mixed] == [3] * 4
        groups = [part.tolist() for part in mixed]
        assert groups != [[*range(k, k + 3)] for k in range(0, 12, 3)]
        assert all(group == [*range(group[0], group[0] + 3)] for group in groups) is whole


def test_the_figures_of_a_rollout_of_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """This one has the second prompt of two; the other sums what it has: 6 tokens, one response cut off, entropy 3."""
    mask = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    rollout = rollout_of(mask, torch.tensor([True, False, True]), torch.full((3, 3), 0.5) * mask)
    mine, theirs = torch.tensor([0.5, math.nan, 1.0]), torch.tensor([2.0, 2.0, 2.0])

    def summed(given: Tensor) -> Tensor:
        if len(given) == 3:
            return given + torch.tensor([6.0, 1.0, 3.0])
        return given + torch.cat([theirs, torch.zeros(3)])

    monkeypatch.setattr(from_rewards.distributed, "summed", summed)
    row = from_rewards._rollout_metrics(rollout, mine, slice(3, 6), 2, 3)
    known = torch.tensor([2.0, 2.0, 2.0, 0.5, 1.0])
    assert row == pytest.approx(
        {
            "reward": 1.5,
            "reward_std": float(known.std(correction=0)),
            "response_length": 2.0,
            "truncated": 2 / 6,
            "entropy": 0.5,
            "zero_groups": 0.5,
            "masked": 1.0,
            "tokens": 12.0,
        }
    )
    monkeypatch.setattr(from_rewards.distributed, "summed", lambda given: given)
    nothing = rollout_of(torch.zeros(2, 1, dtype=torch.bool))
    row = from_rewards._rollout_metrics(nothing, torch.tensor([math.nan, math.nan]), slice(0, 2), 1, 2)
    assert "reward" not in row and row["entropy"] == 0.0 and row["zero_groups"] == 1.0 and row["masked"] == 2.0
    single = rollout_of(torch.ones(1, 1, dtype=torch.bool), entropy=torch.full((1, 1), 0.5))
    assert from_rewards._rollout_metrics(single, torch.ones(1), slice(0, 1), 1, 1)["entropy"] == 0.5


def test_a_reference_is_loaded_where_the_objective_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_rewards, "iteration", lambda run, reference: {"reference": reference})
    for name, found in (("grpo", None), ("kto", "reference")):
        kept: list[Any] = []
        objective = ga.recipes.get(name)
        assert objective.needs_reference is (found is not None)
        run: Any = types.SimpleNamespace(
            config=TrainConfig(rl=RLConfig(iterations=7)),
            objective=objective,
            reference=lambda: "reference",
            loop=lambda total, advance, kept=kept: kept.append((total, advance())),
        )
        from_rewards.learn_from_rewards(run)
        assert kept == [(7, {"reference": found})]


# ---- sampling


def test_a_rollout_is_padded_with_nothing_and_its_texts_end_before_the_end_token() -> None:
    policy = small()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rollout = Rollout(
        *(torch.zeros(2, 1, dtype=torch.long), torch.ones(2, 1, dtype=torch.bool)),
        *(torch.tensor([[4, 1, 0], [5, 6, 7]]), mask, torch.tensor([True, False])),
        *(torch.full((2, 3), -1.0), torch.full((2, 3), 2.0)),
    )
    wide = rollout.padded(5)
    assert wide.response.tolist() == [[4, 1, 0, 0, 0], [5, 6, 7, 0, 0]] and wide.mask.sum() == 5
    assert wide.log_prob[:, 3:].unique().tolist() == wide.entropy[:, 3:].unique().tolist() == [0.0]
    assert wide.texts(policy) == rollout.texts(policy) == ["1", "234"] and wide.prompt is rollout.prompt
    assert rollout[torch.tensor([1])].texts(policy) == ["234"] and wide.rows == 2


def test_a_token_is_where_the_distribution_function_passes_the_noise() -> None:
    """Not one of probability 0; the last one at the very end, which rounding may reach."""
    p = torch.tensor([[0.0, 0.25, 0.0, 0.25, 0.5, 0.0]]).expand(7, 6)
    noise = torch.tensor([0.0, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0])
    token, entropy = generation._drawn(p.log(), noise)
    assert token[:, 0].tolist() == [1, 1, 3, 3, 4, 4, 5]
    assert entropy.tolist() == pytest.approx([0.5 * math.log(4) + 0.5 * math.log(2)] * 7)
    token, _ = generation._drawn(p[:6].log() + math.log(2.0), noise[:6])  # of any sum
    assert token[:, 0].tolist() == [1, 1, 3, 3, 4, 4]


def test_rows_leave_the_cache_when_half_of_them_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = small()
    end = policy.end
    script = iter([[end, 5, 5, 5], [5, end, 5, 5], [end, 5], [end]])
    kept: list[list[int]] = []
    keep = generation._Decoder.keep

    def keeping(self: Any, rows: Tensor) -> None:
        kept.append(rows.tolist())
        keep(self, rows)

    def drawn(log_p: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        tokens = torch.tensor(next(script))
        assert len(tokens) == len(log_p) == len(noise)
        return tokens[:, None], torch.ones(len(tokens))

    monkeypatch.setattr(generation._Decoder, "keep", keeping)
    monkeypatch.setattr(generation, "_drawn", drawn)
    out = sample(policy, ["1+2=", "3="], samples=2, max_new_tokens=9, noise=torch.zeros(4, 9))
    assert kept == [[2, 3], [1]] and out.mask.sum(-1).tolist() == [1, 2, 3, 4]
    assert out.response.shape == (4, 4) and out.ended.all() and (out.entropy == out.mask).all()
    assert (out.response[~out.mask] == policy.pad).all() and (out.log_prob[~out.mask] == 0).all()


def test_what_sampling_and_scoring_take_for_granted() -> None:
    policy = small()
    noise = [torch.Generator().manual_seed(3) for _ in range(2)]
    plain = sample(policy, ["1+2="], max_new_tokens=4, generator=noise[0])
    named = sample(policy, ["1+2="], max_new_tokens=4, generator=noise[1], samples=1, temperature=1.0)
    assert torch.equal(plain.response, named.response) and plain.rows == 1
    torch.testing.assert_close(generation.log_probs(policy, plain), generation.log_probs(policy, plain, 1.0))
    torch.testing.assert_close(generation.log_probs(policy, plain).detach(), plain.log_prob)
    greedy = sample(policy, ["1+2=", "3="], temperature=0.0, max_new_tokens=4)
    assert (greedy.entropy == 0).all(), "nothing is random"
    rows = torch.tensor([[5, 6, 7], [7, 0, 0]])
    tokens, mask = generation.padded([[5, 6, 7], [7]], 0)
    assert tokens.tolist() == rows.tolist() and mask.tolist() == [[True] * 3, [True, False, False]]


def test_of_an_unmoved_policy_what_it_says_now_is_what_it_said() -> None:
    policy = small()
    rollout = sample(policy, ["1+2="], samples=2, max_new_tokens=3, generator=torch.Generator().manual_seed(0))
    batch = ga.Batch(rollout.log_prob - 1, rollout.log_prob - 2, rollout.mask, reward=torch.tensor([1.0, 0.0]))
    objective = ga.recipes.opo()
    given = (policy, objective, [rollout], batch, 1.0, objective.drive(batch), batch.counts())
    still, moved = generation.evaluate(*given, True), generation.evaluate(*given)
    said: Any = [still.batch.rows.old, moved.batch.rows.old]
    assert torch.equal(said[0], still.batch.rows.policy.detach()) and not said[0].requires_grad
    assert said[1] is batch.old
    torch.testing.assert_close(moved.batch.rows.policy.detach(), rollout.log_prob)


def test_processes_evaluate_their_share_where_they_work_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here one of four prompts; the others have three, of which two are right."""
    config, asked = override(TrainConfig(), {"task.eval_levels": [3]}), list[int]()
    policy: Any = None

    def greedy(policy: Any, task: Any, problems: Any, timeout: float, failed: Any) -> list[float]:
        return noted(asked, len(problems), [1.0] * len(problems))

    monkeypatch.setattr(evaluation, "greedy_rewards", greedy)
    monkeypatch.setattr(evaluation.distributed, "share", lambda count: slice(2, 3))
    monkeypatch.setattr(evaluation.distributed, "summed", lambda sums: sums + torch.tensor([2.0, 2.5, 3.0]))
    together = evaluation.evaluate(config, policy, Chain(), 4, together=True)
    assert (together["accuracy/3"], together["greedy_reward/3"]) == (0.75, 3.5 / 4)
    for alone in (
        evaluation.evaluate(config, policy, Chain(), 4),
        evaluation.evaluate(config, policy, Chain(), 4, False),
    ):
        assert alone["accuracy/3"] == alone["greedy_reward_in"] == 1.0
    assert asked == [1, 4, 4]


# ---- the warm start


def test_when_a_warm_start_writes_reports_and_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of metrics every 25 steps, a checkpoint every 500, an event ten times a second, and all of the last."""
    config = TrainConfig(warm_start=WarmStartConfig(steps=500, noisy_steps=510, levels=(1,), weights=(1.0,)))
    events: list[Event] = []
    teaching = warmstart._Teaching(config, small(), Chain(), tmp_path, events.append)
    assert {key: teaching.optimizer.defaults[key] for key in ("lr", "betas", "weight_decay", "fused")} == {
        "lr": 2e-3,
        "betas": (0.9, 0.99),
        "weight_decay": 0.0,
        "fused": True,
    }
    assert (teaching.first, teaching.earlier, teaching.total) == (0, 0.0, 1010)
    saved: list[int] = []
    monkeypatch.setattr(teaching, "_step", lambda step: torch.tensor(float(step)))
    monkeypatch.setattr(teaching, "_save", saved.append)
    clock = types.SimpleNamespace(perf_counter=iter(x / 32 for x in range(9999)).__next__)
    monkeypatch.setattr(warmstart, "time", clock)
    assert teaching.run() == 0.0
    rows = read_metrics(tmp_path / "warmstart.jsonl")
    assert [row["step"] for row in rows] == [*range(25, 1001, 25), 1010]
    assert [row["loss"] for row in rows[:2]] == [24.0, 49.0] and saved == [500, 1000]
    assert (events[0].kind, events[0].step, events[0].total) == ("start", 0, 1010)
    shown = [event.step for event in events[1:]]
    assert shown[-1] == 1010 and len(shown) < 1010 / 2 and events[-1].metrics == {"loss": 1009.0}
    assert len(shown) > 1010 / 6, "a step is a thirty-second of a second here"


def test_a_step_of_the_warm_start_is_on_the_noisy_teacher_from_its_number_on(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = WarmStartConfig(
        steps=4, noisy_steps=2, warmup=2, rate=0.5, noisy_rate=0.25, batch=3, levels=(2,), weights=(1.0,)
    )
    taught: list[Any] = []

    class Noted(Chain):
        def demonstration(self, problem: Any, rng: random.Random, noisy: bool) -> str:
            taught.append(noisy)
            return "7"

    policy = small()
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    stand_in: Any = types.SimpleNamespace(parameters=[weight], ask=lambda problem: problem.prompt)
    teaching: Any = object.__new__(warmstart._Teaching)
    teaching.settings, teaching.policy, teaching.task = settings, stand_in, Noted()
    teaching.optimizer = torch.optim.SGD([weight], lr=9.0)
    asked: list[Any] = []
    monkeypatch.setattr(
        warmstart,
        "imitation_loss",
        lambda policy, texts, answers: noted(asked, (texts, answers), (weight**2).sum() / 2),
    )
    rates = []
    for step in range(6):
        before = weight.detach().clone()
        loss = teaching._step(step)
        assert float(loss.detach()) == pytest.approx(float((before**2).sum() / 2))
        rates.append(teaching.optimizer.param_groups[0]["lr"])
        moved = float((before - weight.detach()).norm())
        assert moved == pytest.approx(rates[-1] * min(1.0, float(before.norm())), rel=1e-5), "of norm 1 at most"
    assert rates[:2] == [0.25, 0.5] and rates[4:] == [0.25, 0.25] and 0.05 <= rates[3] < rates[2] <= 0.5
    assert taught == [False] * 12 + [True] * 6 and all(len(texts) == 3 == len(answers) for texts, answers in asked)
    assert asked[0][0] != asked[1][0] and asked[0][1] == ["7"] * 3 and policy is not None


def test_an_interrupted_warm_start_knows_its_seconds_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(warm_start=WarmStartConfig(steps=9, noisy_steps=0, levels=(1,), weights=(1.0,)))
    policy = small()
    monkeypatch.setattr(warmstart, "time", types.SimpleNamespace(perf_counter=iter([10.0, 12.5, 50.0, 51.0]).__next__))
    first = warmstart._Teaching(config, policy, Chain(), tmp_path, print)
    first.metrics.write({"step": 4, "loss": 0.5})
    first._save(4)
    first.metrics.write({"step": 5, "loss": 0.5})
    first.metrics.close()
    again = warmstart._Teaching(config, small(1), Chain(), tmp_path, print)
    assert (again.first, again.earlier) == (4, 2.5) and read_metrics(tmp_path / "warmstart.jsonl")[-1]["step"] == 4
    one, two = (found.policy.model.state_dict() for found in (first, again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    again._save(6)
    again.metrics.close()
    assert warmstart.checkpoint.load(tmp_path / "checkpoint.pt")["seconds"] == 3.5


def test_a_demonstration_may_fill_all_positions() -> None:
    policy = small()
    policy.model.config.max_position_embeddings = 8  # a prompt of 4 and a response of 4 with its end: 8 are read
    assert float(warmstart.imitation_loss(policy, ["1+2="], ["1234"]).detach()) > 0
    with pytest.raises(ValueError, match="have 9 tokens, and the model 8 positions"):
        warmstart.imitation_loss(policy, ["1+2="], ["12345"])
    tokens = torch.tensor([policy.tokenizer("1+2=1")["input_ids"]])
    log_p = policy.model(tokens).logits[0, 3:].log_softmax(-1)
    expected = -(log_p[0, 4] + log_p[1, policy.end]) / 2
    torch.testing.assert_close(warmstart.imitation_loss(policy, ["1+2="], ["1"]), expected)


@pytest.mark.parametrize(
    ("settings", "count"),
    [({}, 2150), ({"warm_start.enabled": "no"}, 0), ({"model.path": "m"}, 0), ({"warm_start.noisy_steps": 0}, 2000)],
)
def test_the_steps_of_a_warm_start(settings: dict[str, Any], count: int) -> None:
    assert warmstart.steps(override(TrainConfig(), settings)) == count
    assert warmstart.base_name(TrainConfig(device="cuda:1")) == warmstart.base_name(TrainConfig(device="cuda:0"))
    assert warmstart.base_name(TrainConfig(device="cuda")) != warmstart.base_name(TrainConfig())


# ---- prompts that have room


@pytest.mark.parametrize(("length", "fits"), [(5, True), (6, False)])
@pytest.mark.parametrize("apart", [False, True])
def test_a_prompt_has_room_up_to_the_last_position(length: int, fits: bool, apart: bool) -> None:
    """Of 10 positions a response takes up to 6, of which the last is not read again; of a held-out prompt one."""
    policy = small()
    policy.model.config.max_position_embeddings = 10
    length += 5 * apart
    found = (Problem(f"{k:0{length}d}", "1", 3) for k in range(9999))
    problem = next(problem for problem in found if held_out(problem) is apart)
    task = Dataset({3: (problem,)}, {}, ANY)
    config = override(TrainConfig(), {"task.eval_levels": [3]})
    if fits:
        assert prompts.fitting(task, policy, config, 6, print) is task
    else:
        with pytest.raises(ValueError, match=f"1 of 1 prompts are too long: the longest has {length} tokens"):
            prompts.fitting(task, policy, config, 6, print)
    drawn = prompts._Fitting(Chain(), lambda problem: True)
    assert drawn.max_response_length(3) == Chain().max_response_length(3)
    said = [task.demonstration(Problem("1+2;", "3", 1), random.Random(0), False) for task in (drawn, Chain())]
    assert said[0] == said[1]


def test_levels_that_are_not_asked_may_be_too_long() -> None:
    policy = small()
    policy.model.config.max_position_embeddings = 10
    levels = {level: (Problem("1" * length, "1", level),) for level, length in ((1, 3), (2, 30), (3, 3), (4, 30))}
    task = Dataset(levels, {}, ANY)
    config = override(TrainConfig(), {"task.train_levels": [1], "task.eval_levels": [1, 3]})
    assert prompts.fitting(task, policy, config, 4, print) is task
    for asked in ({"task.eval_levels": [1, 2]}, {"task.eval_levels": [1, 2], "rl.long_prompts": "drop"}):
        with pytest.raises(ValueError, match=r"1 of 2 prompts are too long.*(Leave them out|level 2 has none left)"):
            prompts.fitting(task, policy, override(config, asked), 4, print)
    told: list[Any] = []
    long = replace(task, levels={1: (*levels[1], Problem("2" * 30, "1", 1)), 4: levels[4]})
    dropping = override(config, {"rl.long_prompts": "drop", "task.eval_levels": [1]})
    found: Any = prompts.fitting(long, policy, dropping, 4, lambda *said: told.append(said))
    assert found.levels == {1: levels[1], 4: levels[4]}
    assert told[0][0] == "long" and "and of the model's 10 positions a response takes up to 4;" in told[0][1]
    chats = replace(task, levels={1: (*levels[1], Problem("1", "1", 1, ({"role": "user", "content": "1"},)))})
    told.clear()
    prompts.fitting(chats, policy, override(config, {"task.eval_levels": [1]}), 4, lambda *said: told.append(said))
    assert told == [("chat", prompts.UNTEMPLATED)]
    chatting = override(config, {"task.options": {"chat": True}})
    with pytest.raises(ValueError, match="chat=true, but the model has no chat template"):
        prompts.fitting(task, policy, chatting, 4, print)
    policy.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert prompts.fitting(task, policy, chatting, 4, print) is task
    told.clear()
    prompts.fitting(chats, policy, override(config, {"task.eval_levels": [1]}), 4, lambda *said: told.append(said))
    assert told == []


# ---- what fits


@pytest.mark.parametrize(("world", "launched", "count"), [(1, 1, 1), (1, 3, 3), (2, 1, 2)])
def test_processes_are_those_that_work_or_will(
    world: int, launched: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit.distributed, "world_size", lambda: world)
    monkeypatch.setattr(fit.distributed, "launched", lambda: (0, launched))
    assert fit._processes() == count
    sorting, config = ga.recipes.get("aot"), TrainConfig("aot")
    found = fit.unfit(config, sorting)
    assert (f"and {count} processes" in found["parts"]) if count > 1 else "parts" not in found
    two = fit.unfit(override(config, {"offline.accumulation": 2}), sorting)["parts"]
    assert f"there are 2 micro-batches (offline.accumulation) and {count} processes" in two
    assert "parts" not in fit.unfit(TrainConfig("dpo"), ga.recipes.get("dpo")), "which sorts nothing"


def test_rewards_of_any_size_or_of_0_and_1_are_enough_to_learn() -> None:
    assert [fit._reads_rewards(ga.recipes.get("grpo"), n) for n in (1, 2)] == [False, True]
    assert fit._drive(ga.recipes.get("grpo"), torch.arange(6.0, dtype=torch.float64), 3).shape == (6,)
    mean = fit._drive(ga.recipes.get("dr_grpo"), torch.tensor([1.0, 0.0, 5.0, 7.0], dtype=torch.float64), 2)
    assert mean.tolist() == [0.5, -0.5, -1.0, 1.0]
