"""CISPO, DPPO, TOPR, VESPO: equal to their published formulas, written out."""

import pytest
import torch
from literal import BATCH, advantages, agree, delta, log_probs, mean, rows, token_mean

import geomalign as ga


@pytest.mark.parametrize(("low", "high"), [(None, 1.1), (0.8, 1.2), (0.9, None)])
def test_cispo(low: float | None, high: float | None) -> None:
    a = advantages(std=True)

    def literal() -> torch.Tensor:
        weight = {i: torch.exp(delta(i)).clamp(min=low, max=high).detach() for i in rows()}
        return token_mean({i: -weight[i] * a[i] * log_probs(i) for i in rows()})

    agree(ga.recipes.cispo(high=high, low=low), literal, BATCH)


def test_cispo_without_bounds_has_the_gradient_of_the_importance_weighted_surrogate() -> None:
    unbounded, surrogate = ga.recipes.cispo(high=None), ga.recipes.dapo(epsilon=1e6, epsilon_high=1e6)
    torch.testing.assert_close(unbounded.gradient(BATCH), surrogate.gradient(BATCH))


@pytest.mark.parametrize("threshold", [0.02, 0.05, 0.2])
def test_dppo_tv(threshold: float) -> None:
    a = advantages()

    def literal() -> torch.Tensor:
        values = {}
        for i in rows():
            pi, old = log_probs(i).exp(), log_probs(i, "old").exp()
            outside = (pi - old > threshold) if a[i] > 0 else (pi - old < -threshold)
            weight = torch.where(outside, 0.0, (pi / old).clamp(max=20.0)).detach()
            values[i] = -weight * a[i] * log_probs(i)
        return token_mean(values)

    agree(ga.recipes.dppo(delta=threshold), literal, BATCH)


@pytest.mark.parametrize("threshold", [0.001, 0.01])
def test_dppo_kl(threshold: float) -> None:
    a = advantages()

    def literal() -> torch.Tensor:
        values = {}
        for i in rows():
            p, q = log_probs(i).exp(), log_probs(i, "old").exp()
            kl = q * torch.log(q / p) + (1 - q) * torch.log((1 - q) / (1 - p))
            outside = (kl > threshold) & ((p > q) if a[i] > 0 else (p < q))
            weight = torch.where(outside, 0.0, p / q).detach()
            values[i] = -weight * a[i] * log_probs(i)
        return token_mean(values)

    agree(ga.recipes.dppo("kl", threshold, cap=None), literal, BATCH)


def test_dppo_masks_something_and_not_everything() -> None:
    for divergence, threshold in (("tv", 0.05), ("kl", 0.01)):
        gradient = ga.recipes.dppo(divergence, threshold).gradient(BATCH)
        stopped = (gradient == 0)[BATCH.mask & (ga.GroupAdvantage().drive(BATCH) != 0)[:, None]]
        assert stopped.any() and not stopped.all()


def test_topr() -> None:
    def literal() -> torch.Tensor:
        values = []
        for i in rows():
            r = BATCH.advantage[i]
            weight = torch.exp(delta(i).sum()).clamp(0, 1).detach() if r < 0 else 1.0
            values.append(-weight * r * log_probs(i).sum())
        return mean(values)

    agree(ga.recipes.topr(), literal, BATCH)


@pytest.mark.parametrize(("positive", "negative"), [((2.0, 3.0), (3.0, 2.0)), ((0.5, 1.0), (1.0, 4.0))])
def test_vespo(positive: tuple[float, float], negative: tuple[float, float]) -> None:
    a = advantages(std=True)

    def literal() -> torch.Tensor:
        values = {}
        for i in rows():
            k, rate = positive if a[i] >= 0 else negative
            w = torch.exp(delta(i).sum()).detach()
            values[i] = -(w**k) * torch.exp(rate * (1 - w)) * a[i] * log_probs(i)
        return token_mean(values)

    agree(ga.recipes.vespo(positive, negative), literal, BATCH)


def test_vespo_weighs_by_one_on_policy() -> None:
    on_policy = ga.Batch(BATCH.policy, BATCH.policy.detach(), BATCH.mask, reward=BATCH.reward, group=BATCH.group)
    reinforce = ga.recipes.cispo(high=None)
    torch.testing.assert_close(ga.recipes.vespo().gradient(on_policy), reinforce.gradient(on_policy))
