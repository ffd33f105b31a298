"""The node that an objective's loss is: one pass, one gradient kept, parts of a batch, what it refuses."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import weakref

import pytest
import torch

import geomalign as ga
from geomalign.adapters.hosted import HostWeights
from geomalign.laws import sample_batch, sample_pairs
from geomalign.objective import node

NAMES = ["dapo", "grpo beta=0.04", "gspo", "opo", "cispo", "gmpo", "luspo", "vespo", "topr", "reinforce", "dro"]
PAIRS = ["dpo", "ipo", "simpo", "orpo", "kto", "exo", "cpo"]


def inputs(batch: ga.Batch | ga.PreferenceBatch) -> tuple[torch.Tensor, ...]:
    return node.policies(batch)


@pytest.mark.parametrize("name", NAMES + PAIRS)
def test_parts_that_fit_the_cache_are_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = ga.recipes.get(name)
    batch = sample_pairs(pairs=9) if objective.paired or name in PAIRS else sample_batch(rows=10, tokens=4, seed=2)
    drive = objective.drive(batch)
    whole = objective(batch, drive)
    expected = torch.autograd.grad(whole.loss, inputs(batch))
    assert len(node.tiles(batch, objective.terms)) == 1
    monkeypatch.setattr(node, "TILE", 8)
    assert len(node.tiles(batch, objective.terms)) > 4
    parts = objective(batch, drive)
    torch.testing.assert_close(parts.loss, whole.loss)
    for one, other in zip(torch.autograd.grad(parts.loss, inputs(batch)), expected, strict=True):
        torch.testing.assert_close(one, other)
    assert len(parts.terms) == len(whole.terms)
    for one, other in zip(parts.terms, whole.terms, strict=True):
        torch.testing.assert_close(one.loss, other.loss)
        torch.testing.assert_close(one.u, other.u)


def test_a_batch_is_not_taken_apart_where_events_reach_beyond_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "TILE", 4)
    pairs, batch = sample_pairs(), sample_batch()
    assert len(node.tiles(pairs, ga.recipes.get("aot_unpaired").terms)) == 1  # it sorts the batch
    weights = torch.rand(batch.policy.shape)
    hosted = dataclasses.replace(ga.recipes.grpo(), measure=HostWeights(weights))
    assert len(node.tiles(batch, hosted.terms)) == 1  # its weights are those of all rows
    (gradient,) = torch.autograd.grad(hosted(batch).loss, batch.policy)
    (expected,) = torch.autograd.grad(hosted.plain(batch).loss, batch.policy)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("name", ["grpo", "dpo"])
def test_a_second_derivative_is_refused_in_words_and_the_plain_formula_has_it(name: str) -> None:
    objective = ga.recipes.get(name)
    batch = sample_pairs() if objective.paired else sample_batch()
    with pytest.raises(RuntimeError, match=r"create_graph=True.*objective\.plain\(batch\)"):
        torch.autograd.grad(objective(batch).loss, inputs(batch), create_graph=True)
    with pytest.raises(RuntimeError, match=r"objective\.plain"):
        torch.func.grad(lambda x: objective(dataclasses.replace(batch, **{batch_field(batch): x})).loss)(
            inputs(batch)[0].detach()
        )
    torch.autograd.grad(objective.plain(batch).loss, inputs(batch), create_graph=True)


def batch_field(batch: ga.Batch | ga.PreferenceBatch) -> str:
    return "policy" if isinstance(batch, ga.Batch) else "chosen"


def test_the_backward_pass_can_be_taken_twice_where_the_graph_is_kept() -> None:
    batch = sample_batch()
    loss = ga.recipes.grpo()(batch).loss
    one = torch.autograd.grad(loss, batch.policy, retain_graph=True)[0]
    other = torch.autograd.grad(3.0 * loss, batch.policy)[0]
    torch.testing.assert_close(3.0 * one, other)


def test_without_a_wanted_gradient_none_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, seen = sample_batch(), []
    monkeypatch.setattr(ga.Token, "spread", lambda self, *x: seen.append(x) or x[0])
    with torch.no_grad():
        loss = ga.recipes.grpo()(batch).loss
    ga.recipes.grpo()(dataclasses.replace(batch, policy=batch.policy.detach()))
    assert not seen and not loss.requires_grad


def test_a_scaled_loss_keeps_small_weights_in_half_precision() -> None:
    # 2²⁰ tokens weigh 1e-6 each: below the smallest normal float16, which a loss scaled by 2¹⁶ lifts them out of.
    policy = torch.zeros(1024, 1024, dtype=torch.float16, requires_grad=True)
    batch = ga.Batch(policy, policy.detach(), advantage=torch.full((1024,), 1 / 3))
    (65536.0 * ga.recipes.dapo()(batch, batch.advantage).loss).backward()
    expected = torch.full((1024, 1024), -1 / 3 / 2**20, dtype=torch.float32)
    torch.testing.assert_close(policy.grad.float() / 65536, expected, rtol=1e-3, atol=0)


def test_an_outcome_keeps_no_tensor_per_token_until_it_is_read() -> None:
    batch = sample_batch()
    outcome = ga.recipes.grpo()(batch)
    (term,) = outcome.terms
    assert not [x for x in vars(term).values() if isinstance(x, torch.Tensor) and x.ndim]
    kept = weakref.ref(outcome.u)
    assert kept() is outcome.u and not outcome.u.requires_grad


def test_an_objective_maps_over_batches_of_batches() -> None:
    policy, old = -torch.rand(3, 4, 5), -torch.rand(3, 4, 5)
    drive = torch.randn(3, 4)
    objective = ga.recipes.grpo()
    every = torch.func.vmap(lambda p, q, g: objective.gradient(ga.Batch(p, q), g))(policy, old, drive)
    each = torch.stack([objective.gradient(ga.Batch(p, q), g) for p, q, g in zip(policy, old, drive, strict=True)])
    torch.testing.assert_close(every, each)


BUCKETS = r"""
import torch, geomalign as ga
torch.set_num_threads(1)
import torch._dynamo.testing
counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
objective = ga.recipes.get("dapo")
step = torch.compile(lambda p, q, m, g: objective(ga.Batch(p, q, m), g).loss, backend=counter, fullgraph=True)
for rows, tokens in [(4, 16), (6, 32), (8, 48), (10, 64), (12, 80), (4, 16), (14, 96)]:
    policy = (-torch.rand(rows, tokens)).requires_grad_()
    old, mask, drive = -torch.rand(rows, tokens), torch.rand(rows, tokens) > 0.2, torch.randn(rows)
    loss = step(policy, old, mask, drive)
    (found,) = torch.autograd.grad(loss, policy)
    torch.testing.assert_close(found, objective.gradient(ga.Batch(policy, old, mask), drive), rtol=1e-4, atol=1e-7)
assert counter.frame_count <= 2, counter.frame_count  # one shape, then every shape
print("compiled")
"""


def test_a_compiled_objective_is_compiled_once_for_all_shapes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUCKETS], capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert done.stdout.strip().endswith("compiled"), done.stderr[-2000:]
