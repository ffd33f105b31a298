"""Recipes of the score function that weigh what REINFORCE sums: responses by their group's success rate or the sign of
their reward, tokens by the probability that the policy gives them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from geomalign._util.check import choose, non_negative
from geomalign.chart import LogRatio, Ratio
from geomalign.measure import Measure, NestedMean, PooledMean
from geomalign.objective import Objective, Surrogate, WeightedSum
from geomalign.optimization import Clip, Indicator
from geomalign.recipes.rewards.ppo import grpo
from geomalign.recipes.shared import score_function
from geomalign.sampling import (
    DecoupledAdvantage,
    DeviationScaled,
    GroupAdvantage,
    Label,
    ProbabilityGated,
    ProbabilityWeighted,
    RelativeAdvantage,
    SamplingGeometry,
    ShiftedBaseline,
    SignLabel,
    SignWeighted,
    Whitened,
)
from geomalign.unit import Observation, ResponseUnit, Token

__all__ = ["asymre", "chord_phi", "dft", "echo", "gdpo", "maxrl", "tr_grpo", "w_reinforce"]


def maxrl(epsilon: float = 1e-6) -> Objective:
    """Maximum Likelihood RL, REINFORCE whose advantage is divided by the group's mean reward: −(1/N) Σ_i (r_i − r̄)/(r̄ +
    ε) log π(y_i).

    With rewards of 0 or 1 and groups of n its mean gradient is that of −Σ_{k<n} (1 − p)^k/k, the series of log p cut
    off after n − 1 terms, p being the probability of a success. Rewards are meant to be ≥ 0: a group whose mean reward
    is not positive has no gradient.

    Args:
        epsilon: added to the mean reward, ≥ 0.

    Source: Tajwar et al. 2026 (MaxRL, arXiv 2602.02710). Their code divides so, and clips the ratio as PPO does.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.maxrl()(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 2.0672, -5.1709,  3.1037], dtype=torch.float64)
    """
    return score_function(RelativeAdvantage(epsilon))


def w_reinforce(positive: float = 0.1, negative: float = 1.0) -> Objective:
    """Weighted REINFORCE: −(1/N) Σ_i (λ⁺ 1[r_i > 0] − λ⁻ 1[r_i ≤ 0]) log π(y_i), without a baseline.

    λ⁺ = 0 and λ⁻ = 1 is negative sample reinforcement (NSR), which only penalises failures; λ⁺ = 1 and λ⁻ = 0 is
    positive sample reinforcement (PSR).

    Args:
        positive: λ⁺, weight of a success, ≥ 0.
        negative: λ⁻, weight of a failure, ≥ 0.

    Source: Zhu et al. 2025 (arXiv 2506.01347), λ = 0.1 for successes.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.w_reinforce()(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # the rewards are 0.70, −0.95 and 0.93
    tensor([ 0.1000, -1.0000,  0.1000], dtype=torch.float64)
    """
    return score_function(SignWeighted(SignLabel(), positive, negative))


def asymre(delta: float = -0.1) -> Objective:
    """Asymmetric REINFORCE for responses of an older policy: −(1/N) Σ_i (r_i − r̄ − δ) log π(y_i), without importance
    weights.

    A baseline below the mean reward (δ < 0) weighs successes more than failures, which keeps the off-policy gradient
    from pushing the probability of failures to zero. Under δ < 0 a group of equal rewards, also of zero, pulls up.

    Args:
        delta: δ (the paper's δV), what is added to the mean reward of the group, in units of the reward.

    Source: Arnal et al. 2025 (AsymRE, arXiv 2506.20520), δV = −0.1.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.asymre()(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # r − r̄ + 0.1 of three responses to one prompt
    tensor([ 0.5707, -1.0775,  0.8068], dtype=torch.float64)
    """
    return score_function(ShiftedBaseline(GroupAdvantage(), delta))


def tr_grpo(
    epsilon: float = 0.2, epsilon_high: float | None = None, *, low: float = 1.0, high: float = 1.4,
    std_epsilon: float = 1e-6,
) -> Objective:  # fmt: skip
    """Token-Regulated GRPO: −(1/N) Σ_i (1/|y_i|) Σ_t w_it min(tA, clip(t)A), w = sg[clip(2(σ(9π) − 0.25), low, high)].

    The weight rises with the token's probability π, from `low` at π < 0.12 to `high` at π > 0.33.

    Args:
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0; `epsilon` where None.
        low: weight of an improbable token, ≥ 0.
        high: weight of a probable token, ≥ `low`.
        std_epsilon: added to the group's standard deviation, ≥ 0.

    Source: Le et al. 2025 (TR-GRPO, arXiv 2511.00066), without its KL penalty.

    >>> import geomalign as ga
    >>> batch = ga.laws.sample_batch()
    >>> weight = ga.recipes.tr_grpo()(batch).drive[1] / ga.recipes.grpo()(batch).drive[1]
    >>> weight[[5, 2, 4]]  # of tokens with the probabilities 0.13, 0.27 and 0.72
    tensor([1.0358, 1.3431, 1.4000], dtype=torch.float64)
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=ProbabilityGated(GroupAdvantage(scale="group", epsilon=std_epsilon), low=low, high=high),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=NestedMean(),
        offset=Surrogate(),
    )


_NORMALISED: dict[str, Callable[[SamplingGeometry, float], SamplingGeometry]] = {
    "responses": lambda of, epsilon: DeviationScaled(of, epsilon=epsilon),
    "tokens": lambda of, epsilon: Whitened(of),
    "none": lambda of, epsilon: of,
}


def gdpo(
    weights: tuple[float, ...] | None = None,
    *,
    over: str = "responses",
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    std_epsilon: float = 1e-6,
) -> Objective:
    """Group reward-Decoupled Normalization: GRPO's −(1/N) Σ_i (1/|y_i|) Σ_t min(tA, clip(t)A), in which each of several
    rewards is normalised in the group by itself, A_i = Σ_k w_k z_ik, and A then over the batch.

    Args:
        weights: w_k, one per column of the batch's `rewards`; None for 1 each.
        over: what the deviation of A is taken over: "responses" of the batch (TRL), its "tokens", so that a response
            counts by its length (verl), or "none" for no second normalisation.
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0; `epsilon` where None.
        std_epsilon: added to standard deviations, ≥ 0.

    The rewards are the columns of `Batch.rewards`; a batch that has only `reward` has one.

    Source: Liu et al. 2026 (GDPO, arXiv 2601.05242).

    >>> import torch, geomalign as ga
    >>> right, brief = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([0.0, 0.1, 0.0, 0.1])
    >>> zero = torch.zeros(4, 3)
    >>> batch = ga.Batch(zero, zero, rewards=torch.stack([right, brief], 1))
    >>> drive = ga.recipes.gdpo()(batch).drive[:, 0]
    >>> [round(g, 3) + 0.0 for g in drive.tolist()]  # the small reward pulls as hard as the large one
    [0.0, 1.225, -1.225, 0.0]
    """
    weights = tuple(weights) if isinstance(weights, list) else weights
    sampling = DecoupledAdvantage(weights, epsilon=std_epsilon)
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=choose("gdpo", "over", over, _NORMALISED)(sampling, std_epsilon),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=NestedMean(),
        offset=Surrogate(),
    )


def _supervised(
    sampling: SamplingGeometry, unit: ResponseUnit | None = None, measure: Measure | None = None
) -> Objective:
    """−g log π of tokens: a log-probability is never positive, which bounds the loss."""
    return Objective(
        unit=unit or Token(),
        chart=LogRatio(),
        sampling=sampling,
        optimization=Indicator(-math.inf, 0.0),
        measure=measure or PooledMean(),
        anchor=None,
    )


def dft() -> Objective:
    """Dynamic Fine-Tuning, supervised learning that weighs a token by its probability: −(1/Σ|y_i|) Σ_i Σ_t sg[π(y_it)]
    log π(y_it).

    Every response of the batch is learnt; rewards are not read. Its gradient is that of −π(y_it), and so goes to zero
    at tokens that the policy finds improbable.

    Source: Wu et al. 2025 (DFT, arXiv 2508.05629).

    >>> import geomalign as ga
    >>> batch = ga.laws.sample_batch()
    >>> bool((ga.recipes.dft()(batch).drive == batch.policy.exp())[batch.support].all())
    True
    """
    return _supervised(ProbabilityWeighted())


def chord_phi() -> Objective:
    """The supervised loss of CHORD-φ: −(1/Σ|y_i|) Σ_i Σ_t φ_it log π(y_it), φ = sg[π(1 − π)].

    The weight vanishes at tokens that are improbable and at those that are certain. CHORD adds it to GRPO, in the ratio
    μ to 1 − μ: the expert's responses are this loss's batch, the policy's own are GRPO's.

    Source: Zhang et al. 2025 (CHORD, arXiv 2508.11408).

    >>> import geomalign as ga
    >>> own, expert, mu = ga.laws.sample_batch(seed=0), ga.laws.sample_batch(seed=1), 0.1
    >>> loss = (1 - mu) * ga.recipes.grpo()(own).loss + mu * ga.recipes.chord_phi()(expert).loss
    >>> round(ga.recipes.chord_phi()(expert).drive.max().item(), 3)  # a quarter at π = 1/2
    0.25
    """
    return _supervised(ProbabilityWeighted(power=1.0, complement=1.0))


def echo(lambda_: float = 0.05, *, epsilon: float = 0.2, epsilon_high: float | None = None) -> WeightedSum:
    """ECHO, GRPO of what the policy wrote and supervised learning of what the environment answered: L_GRPO − λ (1/N)
    Σ_i (1/|o_i|) Σ_t log π(o_it).

    The tokens o of the environment, such as a terminal's output, are those of the batch's `observation_mask`. They are
    learnt whatever the reward is, and are no part of GRPO's loss, its advantages or its averages.

    Args:
        lambda_: λ, weight of the prediction of observations, ≥ 0.
        epsilon: GRPO's clip range below, ≥ 0.
        epsilon_high: GRPO's clip range above, ≥ 0; `epsilon` where None.

    Source: Shrivastava et al. 2026 (ECHO, arXiv 2605.24517), λ = 0.05.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.echo()(ga.laws.sample_batch())
    >>> [round(term.loss.item(), 3) for term in outcome.terms]  # of GRPO, and of the observations
    [0.096, 0.412]
    """
    non_negative("echo", "the weight of the prediction of observations", lambda_=lambda_)
    return grpo(epsilon, epsilon_high) + lambda_ * _supervised(Label(), Observation(), NestedMean())
