"""What training evaluates through the head is the objective on the log-probabilities of all logits."""

import dataclasses
from typing import Any

import pytest
import torch

import geomalign as ga
from geomalign.objective.node import policies
from geomalign.training import ModelConfig
from geomalign.training.generation import Rollout, evaluate, log_probs, sample
from geomalign.training.policy import Placement, Policy, build

SMALL = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)


def policy_and_rollouts(seed: int = 0) -> tuple[Policy, list[Rollout]]:
    policy = build(SMALL, "0123456789+=", seed, Placement(dtype="float64"))
    torch.nn.init.normal_(policy.model.get_output_embeddings().weight)
    generator = torch.Generator().manual_seed(1)
    make = lambda width: sample(  # noqa: E731
        policy, ["1+2=", "13+4=", "5="], samples=2, max_new_tokens=width, generator=generator
    )
    return policy, [make(5), make(8)]


def without_head(policy: Policy) -> Policy:
    plain = dataclasses.replace(policy)
    object.__setattr__(plain, "head", None)
    return plain


def gradients(loss: torch.Tensor, policy: Policy) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, policy.parameters))


@pytest.mark.parametrize("name", ["grpo", "gspo", "dpo"])
def test_evaluate_is_the_objective_on_all_logits(name: str) -> None:
    policy, rollouts = policy_and_rollouts()
    objective = ga.recipes.get(name)
    assert policy.head is not None and policy.head.linear.weight is policy.model.get_input_embeddings().weight
    batch: Any
    if objective.paired:
        old = [x.log_prob.double() + 0.1 for x in rollouts]
        batch = ga.PreferenceBatch(*old, *old, *(x.mask for x in rollouts))
    else:
        rollouts = rollouts[:1]
        old = [rollouts[0].log_prob.double() + 0.1 * torch.randn_like(rollouts[0].log_prob)]
        group, reward = torch.arange(6) // 2, torch.randn(6)
        batch = ga.Batch(old[0], old[0], rollouts[0].mask, reward=reward, group=group)
    known = (objective, rollouts, batch, 0.7, objective.drive(batch), batch.counts())
    found, expected = evaluate(policy, *known), evaluate(without_head(policy), *known)
    torch.testing.assert_close(found.loss, expected.loss)
    for a, b in zip(gradients(found.loss, policy), gradients(expected.loss, policy), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    for side, rollout in zip(policies(found.batch), rollouts, strict=True):
        torch.testing.assert_close(side, log_probs(policy, rollout, 0.7))


def test_log_probs_without_a_head_are_the_same() -> None:
    policy, (rollout, _) = policy_and_rollouts()
    torch.testing.assert_close(log_probs(policy, rollout, 0.7), log_probs(without_head(policy), rollout, 0.7))
    policy.model.lm_head = torch.nn.Sequential(policy.model.lm_head)  # not the plain layer that a head is
    assert dataclasses.replace(policy).head is None
