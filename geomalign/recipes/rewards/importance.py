"""Recipes whose drive is an importance weight that is bounded, masked or shaped; nothing resists."""

from __future__ import annotations

from geomalign.objective import Objective
from geomalign.recipes.shared import score_function
from geomalign.sampling import (
    Advantage,
    ClippedImportance,
    DivergenceMask,
    GammaImportance,
    GroupAdvantage,
    TaperedImportance,
)
from geomalign.unit import Token

__all__ = ["cispo", "dppo", "topr", "vespo"]


def cispo(high: float | None = 5.0, low: float | None = None, std_epsilon: float = 1e-6) -> Objective:
    """CISPO, whose weight is clipped while the gradient never is: −(1/Σ|y_i|) Σ_i Σ_t sg[clip(t, low, high)] A log π.

    Args:
        high: upper bound of the ratio itself, > low; None for none. The paper states none; 5 is ScaleRL's.
        low: lower bound of the ratio, ≥ 0; None for none, as practised.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: MiniMax-M1 (arXiv 2506.13585) eq. 4–5; ScaleRL (arXiv 2510.13786) for the bound.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.cispo(high=1.2)(ga.laws.sample_batch())
    >>> outcome.drive[2]  # the advantage −1.15 times min(t, 1.2) of each token; zero where a token is masked
    tensor([-1.0054, -1.3765, -0.7395,  0.0000, -0.9781, -1.1018],
           dtype=torch.float64)
    """
    return score_function(
        ClippedImportance(GroupAdvantage(scale="group", epsilon=std_epsilon), low=low, high=high), Token()
    )


def dppo(divergence: str = "tv", delta: float = 0.15, *, cap: float | None = 20.0) -> Objective:
    """Divergence PPO, PPO's score function under a mask by how much probability moved: −(1/Σ|y_i|) Σ_i Σ_t sg[min(t,
    cap) M] A log π.

    Args:
        divergence: "tv", |π − π_old|, or "kl", KL(π_old‖π) of the binary event.
        delta: threshold of the mask M on both sides, > 0; the authors take 0.15 for "tv" and 0.05 for "kl".
        cap: upper bound of the importance weight, > 0; None for none. 20 is the default of verl's function; 10 is that
            of the authors' code, which differs where a ratio is above it.

    Source: Qi et al. 2026 (arXiv 2602.04879), the binary approximation. Its top-K form needs K log-probabilities per
    token.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.dppo(delta=0.05)(ga.laws.sample_batch())
    >>> outcome.drive[6]  # zero at the first token, whose probability has grown by 0.058 already
    tensor([0.0000, 0.7543, 0.6122, 0.6542, 0.7649, 0.6259], dtype=torch.float64)
    """
    return score_function(
        DivergenceMask(GroupAdvantage(), divergence=divergence, low=delta, high=delta, cap=cap), Token()
    )


def topr() -> Objective:
    """Tapered off-policy REINFORCE: −(1/N) Σ_i sg[w_i] R_i log π(y_i), w = 1 for good responses, the ratio cut to [0,
    1] for poor ones.

    The drive is the batch's `advantage`, or its `reward`; its sign decides the side.

    Source: Le Roux et al. 2025 (arXiv 2503.14286). ROLL clips the ratio of every token instead.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.topr()(ga.laws.sample_batch())
    >>> outcome.drive[[1, 3]]  # the advantages are −1.00 and 0.09
    tensor([-0.6160,  0.0926], dtype=torch.float64)
    """
    return score_function(TaperedImportance(Advantage()))


def vespo(
    positive: tuple[float, float] = (2.0, 3.0), negative: tuple[float, float] = (3.0, 2.0), std_epsilon: float = 1e-6
) -> Objective:
    """VESPO: −(1/Σ|y_i|) Σ_i Σ_t sg[w_i^k e^{λ(1−w_i)}] A_i log π, w the ratio of the whole response.

    Args:
        positive: (k, λ) under a positive advantage, k ≥ 0 and λ > 0.
        negative: (k, λ) under a negative one.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Shen et al. 2026 (arXiv 2602.10693).

    >>> import geomalign as ga
    >>> outcome = ga.recipes.vespo(positive=(2.0, 3.0))(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6], 0]  # the first tokens of responses with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.2586, -1.1962,  0.6672], dtype=torch.float64)
    """
    advantage = GroupAdvantage(scale="group", epsilon=std_epsilon)
    return score_function(GammaImportance(advantage, positive, negative), Token())
