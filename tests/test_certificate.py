"""The lower bound on improvement: coverage on trees whose gain is known, and how often it says nothing."""

import dataclasses
import math

import pytest
import torch

import geomalign as ga
from geomalign.analysis import Tree


def sampled(tree: Tree, policy: torch.Tensor, sampler: torch.Tensor, rows: int, seed: int) -> ga.Batch:
    """Responses that the sampler drew, with their rewards and what both policies say of them."""
    every = tree.batch(policy, sampler)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(tree.probabilities(sampler), rows, replacement=True, generator=generator)
    return every[drawn]


def gain(tree: Tree, policy: torch.Tensor, sampler: torch.Tensor) -> float:
    return float(((tree.probabilities(policy) - tree.probabilities(sampler)) * tree.reward).sum())


# step in logits, responses, share of bounds that are not positive: what is vacuous is said, not hidden
CASES = [(0.3, 256, 1.0), (1.0, 256, 0.0), (0.3, 2048, 0.0), (3.0, 256, 0.0)]


@pytest.mark.parametrize(("step", "rows", "vacuous"), CASES)
def test_it_covers_and_says_how_often_it_is_vacuous(step: float, rows: int, vacuous: float) -> None:
    generator = torch.Generator().manual_seed(0)
    reward = (torch.rand(27, generator=generator, dtype=torch.float64) < 0.4).double()
    tree = Tree(reward, actions=3)
    sampler = 0.5 * torch.randn(tree.nodes, 3, generator=generator, dtype=torch.float64)
    ascent = -tree.gradient(ga.recipes.reinforce(), sampler, sampler)
    policy = sampler + step * tree.natural(sampler, ascent)
    true = gain(tree, policy, sampler)
    found = [float(ga.improvement_bound(sampled(tree, policy, sampler, rows, seed)).lower) for seed in range(100)]
    assert true > 0 and sum(lower <= true for lower in found) >= 95
    assert sum(lower <= 0 for lower in found) / 100 == pytest.approx(vacuous, abs=0.05)


def test_a_policy_that_lost_is_not_certified() -> None:
    tree = Tree(torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64), actions=2)
    sampler = tree.uniform()
    worse = sampler + torch.tensor([[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    assert gain(tree, worse, sampler) < 0
    bounds = [ga.improvement_bound(sampled(tree, worse, sampler, 512, seed)).lower for seed in range(50)]
    assert max(map(float, bounds)) < 0


def test_its_parts_are_those_of_the_inequality() -> None:
    reward = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)
    policy, behavior = torch.tensor([[-1.0], [-1.0], [-3.0]]).double(), torch.tensor([[-1.5], [-3.0], [-1.0]]).double()
    batch = ga.Batch(policy, behavior=behavior, reward=reward)
    bound = ga.improvement_bound(batch, lowest=1.0, highest=3.0, cap=1.6, confidence=0.9)
    x = ((policy - behavior)[:, 0].exp().clamp(max=1.6) - 1) * (reward - 1.0)
    budget = math.log(20)
    torch.testing.assert_close(bound.estimate, x.mean())
    torch.testing.assert_close(bound.deviation, torch.sqrt(2 * x.var() * budget / 3))
    assert float(bound.range) == pytest.approx(7 * 1.6 * 2 * budget / 6)
    spoiled = dataclasses.replace(
        ga.Batch(policy.repeat(2, 1), behavior=behavior.repeat(2, 1), reward=reward.repeat(2)),
        reward=torch.cat([reward, torch.full((3,), float("nan"), dtype=torch.float64)]),
    )
    again = ga.improvement_bound(spoiled, lowest=1.0, highest=3.0, cap=1.6, confidence=0.9)
    torch.testing.assert_close(tuple(again), tuple(bound))


@pytest.mark.parametrize("options", [{"confidence": 1.0}, {"cap": 0.5}, {"lowest": 1.0}])
def test_arguments_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="improvement_bound"):
        ga.improvement_bound(ga.Batch(torch.zeros(2, 1), behavior=torch.zeros(2, 1), reward=torch.ones(2)), **options)
