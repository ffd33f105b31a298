"""Baselines, normalisation and selection: equal to their published formulas, written out."""

import dataclasses
import math

import pytest
import torch
from literal import BATCH, BINARY, advantages, agree, delta, groups, log_probs, mean, nested_mean, rows, token_mean

import geomalign as ga


def clipped(t: torch.Tensor, a: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return torch.minimum(t * a, t.clamp(1 - low, 1 + high) * a)


def test_gpg() -> None:
    solved = dataclasses.replace(BATCH, reward=torch.where(BATCH.group == 2, 1.0, BATCH.reward))
    a = advantages(solved)
    silent = [i for members in groups(solved) if len({float(solved.reward[j]) for j in members}) == 1 for i in members]
    assert len(silent) > 2
    alpha = len(rows()) / (len(rows()) - len(silent))
    agree(ga.recipes.gpg(), lambda: token_mean({i: -alpha * a[i] * log_probs(i) for i in rows()}), solved)


@pytest.mark.parametrize(("beta", "baseline"), [(0.0, "none"), (0.1, "none"), (0.1, "group")])
def test_reinforce_plus_plus(beta: float, baseline: str) -> None:
    centred = advantages()
    raw = {}
    for i in rows():
        k1 = log_probs(i, "old") - log_probs(i, "reference")
        r = centred[i] if baseline == "group" else BATCH.reward[i]
        raw[i] = torch.stack([r - beta * k1[t:].sum() for t in range(len(k1))])
    pool = torch.cat(list(raw.values()))
    white = {i: (x - pool.mean()) * torch.rsqrt(pool.var() + 1e-8) for i, x in raw.items()}
    agree(
        ga.recipes.reinforce_plus_plus(epsilon=0.1, beta=beta, baseline=baseline),
        lambda: token_mean({i: -clipped(torch.exp(delta(i)), white[i], 0.1, 0.1) for i in rows()}),
        BATCH,
    )


def test_remax() -> None:
    greedy = torch.linspace(-1, 1, BATCH.size)
    batch = dataclasses.replace(BATCH, advantage=BATCH.reward - greedy)
    agree(
        ga.recipes.remax(),
        lambda: mean([-(BATCH.reward[i] - greedy[i]) * log_probs(i).sum() for i in rows()]),
        batch,
    )


def test_optimal_baseline() -> None:
    def literal() -> torch.Tensor:
        values = []
        for members in groups():
            lengths = torch.tensor([float(len(log_probs(i))) for i in members])
            baseline = (lengths * BATCH.reward[members]).sum() / lengths.sum()
            values += [-(BATCH.reward[i] - baseline) * log_probs(i).sum() for i in members]
        return mean(values)

    agree(ga.recipes.optimal_baseline(), literal, BATCH)


def test_the_optimal_baseline_minimises_the_variance_when_squared_scores_grow_with_length() -> None:
    """E[|y|(r − b)²] is least at b = E[|y| r]/E[|y|]."""
    length, reward = torch.tensor([1.0, 5.0, 20.0, 3.0]), torch.tensor([1.0, 0.0, 0.3, 2.0])
    batch = ga.Batch(torch.zeros(4, 20), None, torch.arange(20) < length[:, None], reward=reward)
    b = reward - ga.sampling.LengthWeightedBaseline().drive(batch)
    moments = [(length * (reward - x) ** 2).mean() for x in (b[0] - 0.01, b[0], b[0] + 0.01)]
    assert moments[1] < moments[0] and moments[1] < moments[2]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_pass_at_k(k: int) -> None:
    a = {}
    for members in groups(BINARY):
        n, failed = len(members), sum(1 for i in members if BINARY.reward[i] == 0)
        mean_reward = 1 - math.comb(failed, k) / math.comb(n, k) if n >= k else 0.0
        sigma = math.sqrt(mean_reward * (1 - mean_reward))
        for i in members:
            if sigma == 0:
                a[i] = 0.0
            elif BINARY.reward[i] == 1:
                a[i] = (1 - mean_reward) / sigma
            else:
                a[i] = (1 - mean_reward - math.comb(failed - 1, k - 1) / math.comb(n - 1, k - 1)) / sigma
    agree(
        ga.recipes.pass_at_k(k, epsilon=0.1),
        lambda: nested_mean({i: -clipped(torch.exp(delta(i)), torch.tensor(a[i]), 0.1, 0.1) for i in rows()}),
        BINARY,
    )


def test_pass_at_k_is_the_mean_over_all_draws() -> None:
    """The closed form averages the z-score of the best reward over every draw of k that holds the response."""
    from itertools import combinations

    reward, k = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]), 3
    batch = ga.Batch(torch.zeros(6, 1), None, reward=reward)
    draws = list(combinations(range(6), k))
    best = torch.tensor([max(float(reward[i]) for i in draw) for draw in draws])
    z = (best - best.mean()) / best.std(correction=0)
    expected = torch.stack([torch.stack([z[d] for d, draw in enumerate(draws) if i in draw]).mean() for i in range(6)])
    torch.testing.assert_close(ga.sampling.PassAtK(k).drive(batch), expected)


def test_pass_at_one_is_the_z_score() -> None:
    biased = ga.GroupAdvantage(scale="group", ddof=0, epsilon=0.0)
    torch.testing.assert_close(ga.sampling.PassAtK(1).drive(BINARY), biased.drive(BINARY))


def test_best_of_k() -> None:
    def literal() -> torch.Tensor:
        values = []
        for members in groups():
            for i in members:
                others = [float(BATCH.reward[j]) for j in members if j != i]
                best = max(float(BATCH.reward[j]) for j in members)
                values.append(-(best - max(others) if others else 0.0) * log_probs(i).sum())
        return mean(values)

    agree(ga.recipes.best_of_k(), literal, BATCH)


def test_raft() -> None:
    def literal() -> torch.Tensor:
        best = [max(members, key=lambda i: float(BATCH.reward[i])) for members in groups()]
        return mean([-log_probs(i).sum() for i in best])

    agree(ga.recipes.raft(), literal, BATCH)


@pytest.mark.parametrize(("beta", "cap"), [(1.0, 20.0), (0.3, 2.0), (0.5, None)])
def test_awr(beta: float, cap: float | None) -> None:
    def literal() -> torch.Tensor:
        weight = torch.exp(BATCH.advantage / beta)
        weight = weight if cap is None else weight.clamp(max=cap)
        return mean([-weight[i] * log_probs(i).sum() for i in rows()])

    agree(ga.recipes.awr(beta, cap), literal, BATCH)


def projected(g: torch.Tensor, mu: float) -> torch.Tensor:
    """max(−1, (g − λ)/mu) of zero sum, λ by bisection as in the paper."""
    low, high = g.min() - mu * len(g) - 1, g.max() + 1
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if ((g - middle) / mu).clamp(min=-1).sum() > 0 else (low, middle)
    return ((g - low) / mu).clamp(min=-1)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("mu", [0.2, 2.0])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_w_gopo(alpha: float, mu: float, bounded: bool) -> None:
    a = advantages()

    def literal() -> torch.Tensor:
        values = []
        for members in groups():
            squashed = torch.tanh(torch.stack([a[i] for i in members]))
            squashed = squashed - squashed.mean()
            drive = (1 - alpha) * squashed + alpha * squashed * torch.exp(squashed)
            drive = drive - drive.mean()
            target = projected(drive, mu) if bounded else drive / mu
            values += [(torch.exp(delta(i).sum()) - 1 - v) ** 2 for v, i in zip(target, members, strict=True)]
        return mean(values)

    agree(ga.recipes.w_gopo(alpha, mu, bounded=bounded), literal, BATCH)


def test_w_gopo_keeps_its_target_a_probability() -> None:
    objective = ga.recipes.w_gopo(0.5, mu=0.2)
    target = objective.optimization.equilibrium(objective.drive(BATCH))
    assert target.min() == -1
    for members in groups():
        torch.testing.assert_close(target[members].sum(), torch.zeros(()), atol=1e-12, rtol=0)


def test_the_best_of_n_weights_have_mean_one() -> None:
    drive = ga.BestOfN().drive(BATCH)
    torch.testing.assert_close(drive[rows()].mean(), torch.ones(()))
    assert sum(1 for x in drive if x > 0) == len(groups())


def test_verl_counts_rewards_where_gpg_counts_groups() -> None:
    """α of GPG: 4/(4 − 2) for a group that was solved throughout; verl's bs/nonzero(rewards) says 4/3."""
    batch = ga.Batch(
        torch.zeros(4, 1), None, reward=torch.tensor([1.0, 1.0, 1.0, 0.0]), group=torch.tensor([0, 0, 1, 1])
    )
    torch.testing.assert_close(ga.sampling.SignalScale().drive(batch), 2.0 * ga.GroupAdvantage().drive(batch))
