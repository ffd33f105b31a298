"""Recipes of the score-function gradient: they differ in the baseline, and nothing resists."""

from __future__ import annotations

from geomalign.chart import LogRatio, Ratio
from geomalign.measure import PooledMean
from geomalign.objective import KLReward, Objective, Surrogate
from geomalign.optimization import Clip, Flat, Linear
from geomalign.recipes.shared import score_function
from geomalign.sampling import (
    Advantage,
    BestOfN,
    ExponentiatedAdvantage,
    GroupAdvantage,
    LengthWeightedBaseline,
    MaxAtK,
    SamplingGeometry,
    SignalScale,
    Whitened,
)
from geomalign.unit import Sequence, Token

__all__ = ["awr", "best_of_k", "gpg", "optimal_baseline", "raft", "reinforce", "reinforce_plus_plus", "remax", "rloo"]


def reinforce() -> Objective:
    """The score-function estimator, in which nothing resists: −(1/N) Σ_i A_i log π(y_i).

    The drive is the batch's `advantage`, or its `reward`.

    Source: Williams 1992.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.reinforce()(ga.laws.sample_batch())
    >>> outcome.drive[:3]  # the batch's advantages
    tensor([-0.7430, -0.9989, -0.0268], dtype=torch.float64)
    """
    return Objective(unit=Sequence(), chart=LogRatio(), sampling=Advantage(), optimization=Flat(), anchor=None)


def rloo() -> Objective:
    """REINFORCE with the mean reward of the *other* responses to the prompt as baseline: −(1/N) Σ_i (r_i − r̄_{−i}) log
    π(y_i).

    Source: Ahmadian et al. 2024 (arXiv 2402.14740) eq. 6, the sequence form without its KL reward.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.rloo()(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.7061, -1.7663,  1.0602], dtype=torch.float64)
    """
    return score_function(GroupAdvantage(baseline="leave_one_out"))


def gpg() -> Objective:
    """Group Policy Gradient: −(1/Σ|y_i|) Σ_i Σ_t αA_i log π(y_t), α = N/(responses in groups with unequal rewards).

    Source: Chu et al. 2025 (arXiv 2504.02546) with F_norm = 1.

    >>> import geomalign as ga
    >>> batch = ga.laws.sample_batch()  # α = 7/6: the rewards are unequal in the groups of six of the seven responses
    >>> round((ga.recipes.gpg().drive(batch)[0] / ga.GroupAdvantage().drive(batch)[0]).item(), 3)
    1.167
    """
    return Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=SignalScale(GroupAdvantage()),
        optimization=Flat(),
        measure=PooledMean(),
        anchor=None,
    )


def reinforce_plus_plus(
    epsilon: float = 0.2, epsilon_high: float | None = None, *, beta: float = 0.0, baseline: str = "none"
) -> Objective:
    """REINFORCE++: PPO's clip with an advantage that is normalised over the batch: −(1/Σ|y_i|) Σ_i Σ_t min(tA,
    clip(t)A).

    Args:
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0; `epsilon` where None.
        beta: strength of the k1 KL penalty in the reward, which every token gets as the sum over itself and later
            tokens. 0 needs no reference.
        baseline: "none", or "group" for REINFORCE++-baseline, which subtracts the group's mean first.

    Source: Hu et al. 2025 (arXiv 2501.03262).

    >>> import geomalign as ga
    >>> outcome = ga.recipes.reinforce_plus_plus(beta=0.01)(ga.laws.sample_batch())
    >>> round(ga.metrics(outcome)["clip_fraction"].item(), 2)  # the share of tokens without a gradient
    0.12
    """
    reward: SamplingGeometry = GroupAdvantage(baseline=baseline)
    if beta:
        reward = KLReward(reward, Linear(), beta, unit="return")
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=Whitened(reward),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=PooledMean(),
        offset=Surrogate(),
    )


def remax() -> Objective:
    """ReMax, REINFORCE whose baseline is the reward of the greedy response: −(1/N) Σ_i (r_i − r_greedy) log π(y_i).

    The drive is the batch's `advantage`, which the caller makes from two rewards.

    Source: Li et al. 2023 (arXiv 2310.10505). The authors' code averages over a response's tokens, clips the ratio and
    puts a KL penalty into the reward.

    >>> import dataclasses, geomalign as ga
    >>> batch = ga.laws.sample_batch()
    >>> batch = dataclasses.replace(batch, advantage=batch.reward - 0.5)  # the greedy response has the reward 0.5
    >>> ga.recipes.remax()(batch).drive[:3]
    tensor([ 0.1985,  0.8983, -1.4498], dtype=torch.float64)
    """
    return score_function(Advantage())


def optimal_baseline() -> Objective:
    """On-Policy RL with Optimal reward baseline, the *other* method called OPO: −(1/N) Σ_i (r_i − b*) log π(y_i), b*
    the mean reward of the group, weighted by length.

    Source: Hao et al. 2025 (arXiv 2505.23585).

    >>> import geomalign as ga
    >>> outcome = ga.recipes.optimal_baseline()(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # of 3, 5 and 6 tokens, with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.4875, -1.1608,  0.7236], dtype=torch.float64)
    """
    return score_function(LengthWeightedBaseline())


def best_of_k() -> Objective:
    """The policy gradient of the group's best reward, with its leave-one-out baseline: −(1/N) (r_best − r_second) log
    π(y_best).

    As a mean over the N responses it is 1/k of ∇E[max of k], in groups of k.

    Source: Tang et al. 2025 (arXiv 2503.19595) §4.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.best_of_k()(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([0.0000, 0.0000, 0.2361], dtype=torch.float64)
    """
    return score_function(MaxAtK())


def raft() -> Objective:
    """RAFT, selection and then supervised learning: −(1/N) Σ log π(y_best) over the best response to every prompt.

    Source: Dong et al. 2023 (arXiv 2304.06767) Algorithm 1.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.raft()(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([0.0000, 0.0000, 2.3333], dtype=torch.float64)
    """
    return score_function(BestOfN())


def awr(beta: float = 1.0, cap: float | None = 20.0) -> Objective:
    """Advantage-weighted regression onto the responses: −(1/N) Σ_i min(e^{A_i/β}, cap) log π(y_i).

    Args:
        beta: temperature, > 0, in units of the advantage.
        cap: bound of the weight, > 0; None for none.

    The drive comes from the batch's `advantage`, or its `reward`.

    Source: Peng et al. 2019 (arXiv 1910.00177).

    >>> import geomalign as ga
    >>> outcome = ga.recipes.awr(beta=0.5, cap=20.0)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 3, 6]]  # the advantages are −0.74, 0.09 and 0.81
    tensor([0.2263, 1.2035, 5.0153], dtype=torch.float64)
    """
    return score_function(ExponentiatedAdvantage(Advantage(), beta, cap))
