"""Sampling with a cache agrees with the full forward pass, and with transformers' own generation."""

import math

import pytest
import torch

from geomalign.tasks import Chain, evaluation_set
from geomalign.training import TrainConfig, evaluation
from geomalign.training.evaluation import count_solved
from geomalign.training.generation import log_probs, sample
from geomalign.training.policy import Placement, Policy

pytestmark = pytest.mark.float32
PROMPTS = ["3+8-4+7;", "1+2;", "9-9-9;"]


@pytest.fixture(params=["policy", "other_policy"])
def each(request: pytest.FixtureRequest) -> Policy:
    found: Policy = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def restless(each: Policy) -> Policy:
    """The same with far larger logits, so that a wrong position or a stale cache would show."""
    with torch.no_grad():
        for parameter in each.model.parameters():
            parameter.mul_(3.0)
    return each


@pytest.mark.parametrize("prompts", [PROMPTS, ["1+2;", "3-4;"]], ids=["padded", "even"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_sampler_reports_the_log_probabilities_of_the_step(
    restless: Policy, prompts: list[str], temperature: float
) -> None:
    out = sample(
        restless,
        prompts,
        samples=16,
        temperature=temperature,
        max_new_tokens=12,
        generator=torch.Generator().manual_seed(0),
    )
    again = log_probs(restless, out, temperature)
    torch.testing.assert_close(again, out.log_prob, atol=2e-4, rtol=1e-4)
    part = torch.tensor([5, 0, 17])
    torch.testing.assert_close(log_probs(restless, out[part], temperature), again[part], atol=2e-4, rtol=1e-4)


def test_rows_that_end_leave_the_batch_and_nothing_else_changes(restless: Policy) -> None:
    """With the end token made likely, rows end at many places, so the cache is cut down several times."""
    with torch.no_grad():
        restless.model.get_output_embeddings().weight[restless.end] *= 2
    out = sample(restless, PROMPTS, samples=32, max_new_tokens=20, generator=torch.Generator().manual_seed(1))
    lengths = out.mask.sum(-1)
    assert len(lengths.unique()) > 4
    assert torch.equal(out.ended, (out.response == restless.end).any(-1))
    for row in range(out.rows):
        length = int(lengths[row])
        assert out.mask[row, :length].all() and not out.mask[row, length:].any()
        assert (out.response[row, length:] == restless.pad).all()
        assert not (out.response[row, : length - 1] == restless.end).any()
    torch.testing.assert_close(log_probs(restless, out), out.log_prob, atol=2e-4, rtol=1e-4)


def test_greedy_is_what_generate_does(restless: Policy) -> None:
    out = sample(restless, PROMPTS, temperature=0.0, max_new_tokens=12)
    tokens = restless.tokenizer(PROMPTS, padding=True, return_tensors="pt")
    theirs = restless.model.generate(
        **{key: tokens[key] for key in ("input_ids", "attention_mask")},
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=restless.pad,
        eos_token_id=restless.end,
    )[:, tokens["input_ids"].shape[1] :]
    assert torch.equal(theirs, out.response[:, : theirs.shape[1]])
    assert out.texts(restless) == restless.tokenizer.batch_decode(
        [row[mask & (row != restless.end)] for row, mask in zip(out.response, out.mask)]
    )


def test_only_the_generator_is_random(policy: Policy) -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.rand(1)
        return sample(
            policy, PROMPTS, samples=4, max_new_tokens=8, generator=torch.Generator().manual_seed(seed)
        ).response

    before = torch.get_rng_state()
    one = draw(0)
    assert torch.equal(one, draw(0))
    assert one.shape != draw(1).shape or not torch.equal(one, draw(1))
    torch.set_rng_state(before)
    sample(policy, PROMPTS, samples=4, max_new_tokens=8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_follow_the_policy(restless: Policy) -> None:
    """First tokens of 4,000 samples against the probabilities: every frequency within five standard errors."""
    out = sample(restless, ["1+2;"], samples=4000, max_new_tokens=1, generator=torch.Generator().manual_seed(2))
    tokens = restless.tokenizer(["1+2;"], return_tensors="pt")["input_ids"]
    p = restless.logits(tokens, None, keep=1)[0, 0].softmax(-1).detach()
    seen = torch.bincount(out.response[:, 0], minlength=len(p)) / out.rows
    assert ((seen - p).abs() <= 5 * (p * (1 - p) / out.rows).sqrt() + 1e-4).all()
    assert float(out.entropy[0, 0]) == pytest.approx(float(-(p * p.log()).sum()), rel=1e-4)


def test_log_probs_have_the_gradient_of_a_padding_free_forward(restless: Policy) -> None:
    out = sample(restless, PROMPTS, samples=2, max_new_tokens=6, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(out.mask.shape)
    (log_probs(restless, out) * weights).sum().backward()
    together = [parameter.grad.clone() for parameter in restless.parameters if parameter.grad is not None]
    restless.model.zero_grad()
    for row in range(out.rows):
        prompt, response = out.prompt[row][out.prompt_mask[row]], out.response[row][out.mask[row]]
        tokens = torch.cat([prompt, response])
        log_p = restless.model(tokens[None, :-1]).logits[0].log_softmax(-1)[len(prompt) - 1 :]
        (log_p.gather(-1, response[:, None])[:, 0] * weights[row][out.mask[row]]).sum().backward()
    alone = [parameter.grad for parameter in restless.parameters if parameter.grad is not None]
    assert len(together) == len(alone) > 0
    for a, b in zip(together, alone):
        torch.testing.assert_close(a, b, atol=1e-3 * float(b.abs().max()) + 1e-6, rtol=1e-3)


def test_accuracy_counts_what_the_verifier_rewards(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that always writes the same: right where that happens to be the answer. Checked against one problem at
    a time.
    """
    problems = evaluation_set(Chain(), 1, 30)
    whole = count_solved(policy, Chain(), problems, rows=7)
    assert whole == sum(count_solved(policy, Chain(), [problem]) for problem in problems)

    class Generous(Chain):
        def reward(self, problem: object, response: str, ended: bool) -> float:
            return math.nan if response == "" else 1.0

    assert count_solved(policy, Generous(), problems) > 0.9 * len(problems)


def test_held_out_rewards_are_averaged_and_those_of_at_least_1_are_right(
    policy: Policy, tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Level 1 has rewards of 1.5, 1, 0.5 and none; no response of level 2 can be verified, so it has no mean reward."""
    given = {1: [1.5, 1.0, 0.5, math.nan], 2: [math.nan] * 4}
    monkeypatch.setattr(evaluation, "greedy_rewards", lambda p, t, problems, *r, **k: given[problems[0].level])
    found = evaluation.evaluate(tiny, policy, Chain(), prompts=4)
    assert (found["accuracy/1"], found["accuracy/2"], found["accuracy_in"]) == (0.5, 0.0, 0.5)
    assert found["greedy_reward/1"] == found["greedy_reward_in"] == 1.0
    assert "greedy_reward/2" not in found and "greedy_reward_out" not in found


def test_bfloat16_autocast_gives_float32_log_probabilities(policy: Policy) -> None:
    half = Policy(policy.model, policy.tokenizer, Placement("cpu", "bfloat16"))
    out = sample(half, PROMPTS, samples=2, max_new_tokens=6, generator=torch.Generator().manual_seed(0))
    assert out.log_prob.dtype == torch.float32 and log_probs(half, out).dtype == torch.float32
    torch.testing.assert_close(log_probs(half, out), log_probs(policy, out), atol=0.1, rtol=0.05)
    assert not torch.equal(log_probs(half, out), log_probs(policy, out))
