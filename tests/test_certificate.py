"""The lower bound on improvement: coverage on trees whose gain is known, and how often it says nothing."""

import dataclasses
import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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


# step in logits, its gain, responses, share of bounds that are not positive: what is vacuous is said, not hidden
CASES = [(0.3, 0.07, 256, 1.0), (1.0, 0.23, 256, 0.0), (0.3, 0.07, 2048, 0.0), (3.0, 0.55, 256, 0.0)]


@pytest.mark.parametrize(("step", "gained", "rows", "vacuous"), CASES)
def test_it_covers_and_says_how_often_it_is_vacuous(step: float, gained: float, rows: int, vacuous: float) -> None:
    """The figures stand in docs/three_policies.md."""
    generator = torch.Generator().manual_seed(0)
    reward = (torch.rand(27, generator=generator, dtype=torch.float64) < 0.4).double()
    tree = Tree(reward, actions=3)
    sampler = 0.5 * torch.randn(tree.nodes, 3, generator=generator, dtype=torch.float64)
    ascent = -tree.gradient(ga.recipes.reinforce(), sampler, sampler)
    policy = sampler + step * tree.natural(sampler, ascent)
    true = gain(tree, policy, sampler)
    found = [float(ga.improvement_bound(sampled(tree, policy, sampler, rows, seed)).lower) for seed in range(100)]
    assert true == pytest.approx(gained, abs=0.005) and all(lower <= true for lower in found)
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


def test_what_256_responses_cost_by_their_range_alone() -> None:
    """The figure stands in docs/three_policies.md."""
    same = torch.zeros(256, 1)
    bound = ga.improvement_bound(ga.Batch(same, behavior=same, reward=torch.tensor([1.0, 0.0]).repeat(128)))
    assert float(bound.range) == pytest.approx(0.068, abs=0.0005)


@pytest.mark.parametrize("options", [{"confidence": 1.0}, {"cap": 0.5}, {"lowest": 1.0}])
def test_arguments_out_of_range_are_refused(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=rf"improvement_bound.*{name}"):
        ga.improvement_bound(ga.Batch(torch.zeros(2, 1), behavior=torch.zeros(2, 1), reward=torch.ones(2)), **options)


# ---- bounds on the error of the surrogate


def _divergences(tree: Tree, policy: torch.Tensor, sampler: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(μ‖π) and total variation of the next token at every token of every response."""
    pi, mu = policy.log_softmax(-1), sampler.log_softmax(-1)
    kl, tv = (mu.exp() * (mu - pi)).sum(-1), 0.5 * (mu.exp() - pi.exp()).abs().sum(-1)
    responses = torch.arange(len(tree.reward))
    first = torch.tensor([sum(tree.actions**s for s in range(t)) for t in range(tree.horizon)])
    last = torch.tensor([tree.actions ** (tree.horizon - t) for t in range(tree.horizon)])
    nodes = first + responses[:, None] // last
    return kl[nodes], tv[nodes]


def _error(tree: Tree, policy: torch.Tensor, sampler: torch.Tensor) -> tuple[float, float]:
    """The surrogate L, by enumeration, and J(π) − J(μ) − L."""
    ratio = (tree.log_probs(policy) - tree.log_probs(sampler)).exp()
    surrogate = float((tree.probabilities(sampler) * tree.reward * (ratio - 1).sum(-1)).sum())
    return surrogate, gain(tree, policy, sampler) - surrogate


@given(
    seed=st.integers(0, 10_000),
    horizon=st.integers(1, 5),
    actions=st.sampled_from([2, 3]),
    step=st.floats(-3, 1),
    sharp=st.floats(0.1, 4),
)
def test_every_bound_of_the_surrogate_covers_its_error(
    seed: int, horizon: int, actions: int, step: float, sharp: float
) -> None:
    """On enumerated trees, where the largest divergences are those of all contexts."""
    generator = torch.Generator().manual_seed(seed)
    reward = torch.rand(actions**horizon, generator=generator, dtype=torch.float64).round()
    tree = Tree(reward, actions)
    sampler = sharp * torch.randn(tree.nodes, actions, generator=generator, dtype=torch.float64)
    policy = sampler + 10**step * torch.randn(tree.nodes, actions, generator=generator, dtype=torch.float64)
    bounds = ga.surrogate_error(*_divergences(tree, policy, sampler), weights=tree.probabilities(sampler))
    _, error = _error(tree, policy, sampler)
    for name, bound in bounds._asdict().items():
        assert abs(error) <= float(bound) + 1e-12, name


def test_the_bounds_of_the_surrogate_by_hand() -> None:
    kl = torch.tensor([[0.02, 0.01, 0.0], [0.0, 0.08, 0.5]], dtype=torch.float64)
    tv = torch.tensor([[0.1, 0.05, 0.0], [0.0, 0.2, 0.9]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])  # the largest of all lies outside
    found = ga.surrogate_error(kl, tv, mask, lowest=-1.0, highest=1.0)
    rest = min(2 * 0.2, math.sqrt(2 * 0.08 / 2)), min(0.2, math.sqrt(0.08 / 2))
    expected = (
        3 * 2 * 0.08,
        4 / 3 * 3**1.5 * 0.08,
        2 * 3 * math.sqrt(0.08 * (0.03 + 0.08) / 2),
        4 * 0.2 * (0.2 + 0.4),
        4 * (0.05 * rest[0] + 0.125 * rest[1]),
    )
    assert [float(x) for x in found] == pytest.approx([2 * x for x in expected], rel=1e-12)
    assert float(found.least) == pytest.approx(2 * min(expected))
    empty = ga.surrogate_error(kl, tv, torch.zeros_like(mask))
    assert all(float(x) == 0 for x in empty)


@pytest.mark.parametrize(("step", "certified", "times"), [(0.3, 1.0, 25), (1.0, 0.55, 36), (2.0, 0.0, 46)])
def test_how_often_the_bounds_of_the_surrogate_certify_an_improvement(
    step: float, certified: float, times: float
) -> None:
    """100 trees of 4 tokens, one exact natural policy-gradient step: the shorter the step, the more often L exceeds
    the least bound, which is the adaptive one. The figures stand in docs/three_policies.md."""
    found, above = [], []
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        tree = Tree((torch.rand(81, generator=generator, dtype=torch.float64) < 0.4).double(), actions=3)
        sampler = 0.5 * torch.randn(tree.nodes, 3, generator=generator, dtype=torch.float64)
        ascent = -tree.gradient(ga.recipes.reinforce(), sampler, sampler)
        policy = sampler + step * tree.natural(sampler, ascent)
        bounds = ga.surrogate_error(*_divergences(tree, policy, sampler), weights=tree.probabilities(sampler))
        surrogate, error = _error(tree, policy, sampler)
        assert abs(error) <= float(bounds.least) == float(bounds.adaptive)
        above.append(float(bounds.least) / abs(error))
        found.append(surrogate > float(bounds.least))
    assert sum(found) / 100 == pytest.approx(certified, abs=0.05)
    assert statistics.median(above) == pytest.approx(times, abs=0.5)


def test_divergences_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kl \(2, 3\), tv \(2, 4\)"):
        ga.surrogate_error(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="weights of shape"):
        ga.surrogate_error(torch.zeros(2, 3), torch.zeros(2, 3), weights=torch.ones(3))
    with pytest.raises(ValueError, match="range"):
        ga.surrogate_error(torch.zeros(2, 3), torch.zeros(2, 3), lowest=1.0)
    for key in ("kl", "tv", "mask", "weights"):
        with pytest.raises(TypeError, match=f"`{key}` of surrogate_error is list"):
            ga.surrogate_error(**{"kl": torch.zeros(1, 1), "tv": torch.zeros(1, 1), key: [[0.0]]})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lowest='0'"):
        ga.surrogate_error(torch.zeros(2, 3), torch.zeros(2, 3), lowest="0")  # type: ignore[arg-type]
