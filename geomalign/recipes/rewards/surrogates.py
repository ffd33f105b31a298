"""Recipes whose weight of the ratio takes the place of PPO's clip, or accompanies it."""

from __future__ import annotations

from geomalign.chart import Ratio
from geomalign.measure import PooledMean
from geomalign.objective import Objective, Surrogate
from geomalign.optimization import Clip
from geomalign.recipes.shared import score_function
from geomalign.sampling import (
    BalancedClip,
    FlippedImportance,
    FutureKL,
    GradientPreservingClip,
    GroupAdvantage,
    GroupExpectation,
)
from geomalign.unit import MeanSequence, Token

__all__ = ["aspo", "bapo", "ce_gppo", "fipo", "gepo", "gppo"]


def gppo(epsilon: float = 0.2, epsilon_high: float = 0.28, std_epsilon: float = 1e-6) -> Objective:
    """GPPO, PPO's clip whose clipped tokens keep their gradient: −(1/Σ|y_i|) Σ_i Σ_t sg[w] A log π, w = 1 + ε_high
    above the wall under a positive advantage, 1 − ε below it under a negative one, t elsewhere.

    Args:
        epsilon: distance of the lower wall from the ratio 1, in [0, 1).
        epsilon_high: distance of the upper wall, ≥ 0.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Su et al. 2025 (Klear-Reasoner, arXiv 2508.07629), read in the authors' code.

    >>> import geomalign as ga
    >>> ga.recipes.gppo(0.2, 0.28) == ga.recipes.ce_gppo(0.2, 0.28, beta_low=1.0, beta_high=1.0)
    True
    """
    return ce_gppo(epsilon, epsilon_high, beta_low=1.0, beta_high=1.0, std_epsilon=std_epsilon)


def ce_gppo(
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    *,
    beta_low: float = 0.5,
    beta_high: float = 1.0,
    std_epsilon: float = 1e-6,
) -> Objective:
    """CE-GPPO, GPPO with a share of the gradient for each side: w = β_high (1 + ε_high) above the wall, β_low (1 − ε)
    below it.

    More of the poor and rare tokens (β_low) makes the policy's entropy fall, more of the good and rare ones (β_high)
    keeps it up.

    Args:
        epsilon: distance of the lower wall from the ratio 1, in [0, 1).
        epsilon_high: distance of the upper wall, ≥ 0; `epsilon` where None.
        beta_low: share of the gradient below the lower wall, ≥ 0; β₁ of the paper, 0.5 or 0.75 in its runs.
        beta_high: share above the upper wall, ≥ 0; β₂, 1 in its runs. Both 0: the gradient of PPO's clip.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Su et al. 2025 (arXiv 2509.20712), read in the authors' code.

    >>> import geomalign as ga
    >>> batch = ga.laws.sample_batch()
    >>> clipped = ga.recipes.ce_gppo(beta_low=0.0, beta_high=0.0).gradient(batch)
    >>> bool((clipped - ga.recipes.dapo(0.2, 0.2).gradient(batch)).abs().max() < 1e-12)
    True
    """
    advantage = GroupAdvantage(scale="group", epsilon=std_epsilon)
    above = epsilon if epsilon_high is None else epsilon_high
    return score_function(GradientPreservingClip(advantage, epsilon, above, beta_low, beta_high), Token())


def bapo(
    low: tuple[float, float] = (0.6, 0.9),
    high: tuple[float, float] = (1.2, 3.0),
    target: float = 0.5,
    *,
    step: float = 0.05,
    std_epsilon: float = 1e-6,
) -> Objective:
    """BAPO, PPO's clip at walls that are solved from the batch: −(1/Σ|y_i|) Σ_i Σ_t sg[t M] A log π, M = 0 where
    t > c_high under a positive advantage or t < c_low under a negative one.

    The walls rise from their first to their last place, c_low first, until the good tokens make up the share ρ₀ of the
    surrogate. This is done at every evaluation, so that the locality is the batch's: a micro-batch has walls of its
    own.

    Args:
        low: (first, last) place of the lower wall, as ratios, 0 ≤ first ≤ last ≤ 1.
        high: (first, last) place of the upper wall, as ratios, 1 ≤ first ≤ last.
        target: ρ₀, in [0, 1].
        step: by how much a wall moves at once, positive.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Xi et al. 2025 (arXiv 2510.18927); the walls and ρ₀ of its runs.

    >>> import geomalign as ga
    >>> objective, batch = ga.recipes.bapo(), ga.laws.sample_batch()
    >>> drive = objective.drive(batch)[:, None].expand(batch.policy.shape)
    >>> objective.sampling.walls(drive, (batch.policy - batch.old).detach(), batch)  # the share is met at once
    (tensor(0.6000, dtype=torch.float64), tensor(1.2000, dtype=torch.float64))
    """
    return score_function(
        BalancedClip(GroupAdvantage(scale="group", epsilon=std_epsilon), low, high, step, target), Token()
    )


def aspo(
    epsilon: float = 0.2, epsilon_high: float | None = None, *, cap: float = 3.0, std_epsilon: float = 1e-6
) -> Objective:
    """ASPO, whose ratio is flipped under a positive advantage: −(1/Σ|y_i|) Σ_i Σ_t sg[w] A log π, w = min(1/t, cap) for
    A > 0 and min(t, cap) for A < 0, and 0 where PPO clips.

    Args:
        epsilon: distance of the lower wall from the ratio 1, in [0, 1).
        epsilon_high: distance of the upper wall, ≥ 0; `epsilon` where None.
        cap: bound of the weight, > 0, beyond which the gradient is kept ("soft dual clip").
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Wang et al. 2025 (arXiv 2510.06062), read in the authors' code (Archer2.0). There the walls are 0.2 or 0.4
    by the entropy of a step, which sampled log-probabilities do not hold.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.aspo()(ga.laws.sample_batch())
    >>> outcome.drive[6]  # A = 0.69; where the policy has moved away from a good token it pulls harder
    tensor([0.0000, 0.6451, 0.7949, 0.7439, 0.6362, 0.7775], dtype=torch.float64)
    """
    advantage = GroupAdvantage(scale="group", epsilon=std_epsilon)
    above = epsilon if epsilon_high is None else epsilon_high
    return score_function(FlippedImportance(advantage, epsilon, above, cap), Token())


def gepo(epsilon: float = 0.2, epsilon_high: float | None = None) -> Objective:
    """GEPO, whose weight has the group's expectation in its denominator: −(1/N) Σ_i sg[w_i M_i] A_i (1/|y_i|) log
    π(y_i), w_i = π(y_i)^{1/|y_i|} / E_q[q], q_j = π_old(y_j)^{1/|y_j|}, E_q[q] = Σ_j q_j²/Σ_j q_j.

    M is 0 where PPO would clip w. The weights of a group need all its responses.

    Args:
        epsilon: distance of the lower wall from the weight 1, in [0, 1).
        epsilon_high: distance of the upper wall, ≥ 0; `epsilon` where None.

    Source: Zhang et al. 2025 (arXiv 2508.17850), read in the authors' code.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.gepo()(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # A = 0.47, −1.18 and 0.71: the weight of the rarest response is 0.58
    tensor([ 0.2740, -1.4563,  0.6905], dtype=torch.float64)
    """
    above = epsilon if epsilon_high is None else epsilon_high
    return score_function(GroupExpectation(GroupAdvantage(), epsilon, above), MeanSequence())


def fipo(
    epsilon: float = 0.2,
    epsilon_high: float = 0.28,
    *,
    halflife: float = 32.0,
    bounds: tuple[float, float] = (1.0, 1.2),
    dual_clip: float = 10.0,
    safety: float = 4.0,
    std_epsilon: float = 1e-6,
) -> Objective:
    """FIPO, DAPO whose advantage is weighted by what follows a token: −(1/Σ|y_i|) Σ_i Σ_t min(t Ã, clip(t) Ã) with the
    dual clip, Ã = sg[clip(e^F, low, high)] A, F_t = Σ_{k≥t} 2^{−(k−t)/halflife} log t_k.

    Args:
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0.
        halflife: of the sum over later tokens, in tokens, > 0.
        bounds: (low, high) of the weight, 0 ≤ low ≤ high. (1, 1.2) only amplifies, (0.8, 1.2) weakens too.
        dual_clip: bound of the ratio under a negative advantage, > 1 + ε_high; tokens beyond it have no part in F.
        safety: ratio above which the weight of a poor token is clipped to [0.8, 1], > 0.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Ma et al. 2026 (arXiv 2603.19835), read in the authors' code and ms-swift's; the settings of the 32B run.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.fipo()(ga.laws.sample_batch())
    >>> outcome.drive[6] / outcome.drive[6, -1]  # the log-ratios of a token and of those after it add up to 0.046
    tensor([1.0466, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000], dtype=torch.float64)
    """
    advantage = GroupAdvantage(scale="group", epsilon=std_epsilon)
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=FutureKL(advantage, halflife, bounds, dual_clip, safety),
        optimization=Clip(epsilon, epsilon_high, dual_clip),
        measure=PooledMean(),
        offset=Surrogate(),
    )
