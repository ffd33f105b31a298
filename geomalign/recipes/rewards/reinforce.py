"""recipes.rewards.reinforce"""

from __future__ import annotations

from geomalign.chart import LogRatio, Ratio
from geomalign.measure import PooledMean
from geomalign.objective import KLReward, Objective, Surrogate
from geomalign.optimization import Clip, Flat, Linear
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
    """−A log π(y): the score-function gradient, nothing resists.

    Drive: the batch's `advantage`, or its `reward`. Source: Williams 1992.
    """
    return Objective(unit=Sequence(), chart=LogRatio(), sampling=Advantage(), optimization=Flat(), anchor=None)


def rloo() -> Objective:
    """REINFORCE with the mean reward of the *other* responses to the prompt as baseline.

    Source: Ahmadian et al. 2024 (arXiv 2402.14740) eq. 6, the sequence form without its KL reward.
    """
    return Objective(
        unit=Sequence(),
        chart=LogRatio(),
        sampling=GroupAdvantage(baseline="leave_one_out"),
        optimization=Flat(),
        anchor=None,
    )


def _likelihood(sampling: SamplingGeometry) -> Objective:
    return Objective(unit=Sequence(), chart=LogRatio(), sampling=sampling, optimization=Flat(), anchor=None)


def gpg() -> Objective:
    """−(1/Σ|y_i|) Σ_i Σ_t αA log π: the policy gradient alone, scaled for the groups that teach nothing.

    Source: Chu et al. 2025 (arXiv 2504.02546) with F_norm = 1.
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
    epsilon: float = 0.2, epsilon_high: float | None = None, beta: float = 0.0, baseline: str = "none"
) -> Objective:
    """PPO's clip with an advantage that is normalised over the batch instead of the group.

    Args:
        epsilon: clip range below.
        epsilon_high: clip range above; `epsilon` where None.
        beta: strength of the k1 KL penalty in the reward, for every token the sum over itself and later ones; 0 needs
        no
            reference.
        baseline: "none", or "group" for REINFORCE++-baseline, which subtracts the group's mean first.

    Source: Hu et al. 2025 (arXiv 2501.03262).
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
    """−(r − r_greedy) log π(y): REINFORCE whose baseline is the reward of the greedy response.

    Drive: the batch's `advantage`, which the caller makes from two rewards.

    Source: Li et al. 2023 (arXiv 2310.10505).
    """
    return _likelihood(Advantage())


def optimal_baseline() -> Objective:
    """−(r − b*) log π(y) with the length-weighted mean reward b* of the group: the *other* method called OPO.

    Source: Hao et al. 2025 (arXiv 2505.23585).
    """
    return _likelihood(LengthWeightedBaseline())


def best_of_k() -> Objective:
    """−(r_best − r_second) log π(y_best): the policy gradient of the group's best reward, with its leave-one-out
    baseline.

    Source: Tang et al. 2025 (arXiv 2503.19595) §4.
    """
    return _likelihood(MaxAtK())


def raft() -> Objective:
    """−log π of the best response to every prompt: selection, then supervised learning.

    Source: Dong et al. 2023 (arXiv 2304.06767) Algorithm 1.
    """
    return _likelihood(BestOfN())


def awr(beta: float = 1.0, cap: float | None = 20.0) -> Objective:
    """−min(e^{A/β}, cap) log π(y): regression onto the responses, weighted by their advantage.

    Args:
        beta: temperature, positive.
        cap: bound of the weight; None for none.

    Drive: from the batch's `advantage`, or its `reward`.

    Source: Peng et al. 2019 (arXiv 1910.00177).
    """
    return _likelihood(ExponentiatedAdvantage(Advantage(), beta, cap))
