"""Recipes whose drive is an importance weight that is bounded, masked or shaped: log π is the coordinate, nothing
resists.
"""

from __future__ import annotations

from geomalign.chart import LogRatio
from geomalign.measure import PooledMean
from geomalign.objective import Objective
from geomalign.optimization import Flat
from geomalign.sampling import (
    Advantage,
    ClippedImportance,
    DivergenceMask,
    GammaImportance,
    GroupAdvantage,
    SamplingGeometry,
    TaperedImportance,
)
from geomalign.unit import Sequence, Token

__all__ = ["cispo", "dppo", "topr", "vespo"]


def _score_function(sampling: SamplingGeometry) -> Objective:
    return Objective(
        unit=Token(), chart=LogRatio(), sampling=sampling, optimization=Flat(), measure=PooledMean(), anchor=None
    )


def cispo(high: float | None = 5.0, low: float | None = None, std_epsilon: float = 1e-6) -> Objective:
    """−(1/Σ|y_i|) Σ_i Σ_t sg[clip(t, low, high)] A log π: the weight is clipped, the gradient never is.

    Args:
        high: upper bound of the ratio itself; None for none. 5 is not the paper's, which states none: ScaleRL's.
        low: lower bound of the ratio; None for none, as practised.
        std_epsilon: added to the standard deviation; 0 in the paper.

    Source: MiniMax-M1 (arXiv 2506.13585) eq. 4–5; ScaleRL (arXiv 2510.13786) for the bound.
    """
    return _score_function(ClippedImportance(GroupAdvantage(scale="group", epsilon=std_epsilon), low=low, high=high))


def dppo(divergence: str = "tv", delta: float = 0.15, cap: float | None = 20.0) -> Objective:
    """PPO's score function under a mask by how much probability moved, instead of by the ratio.

    Args:
        divergence: "tv", |π − π_old|, or "kl", KL(π_old‖π) of the binary event.
        delta: threshold on both sides; 0.15 is the authors' for TV, for KL they take 0.05.
        cap: upper bound of the importance weight; None for none.

    Source: Qi et al. 2026 (arXiv 2602.04879), the binary approximation. Its top-K form needs K log-probabilities a
    token.
    """
    return _score_function(DivergenceMask(GroupAdvantage(), divergence=divergence, low=delta, high=delta, cap=cap))


def topr() -> Objective:
    """−sg[w] R log π(y): good responses by supervised learning, poor ones by truncated importance sampling.

    Drive: the batch's `advantage`, or its `reward`; its sign decides the side.

    Source: Le Roux et al. 2025 (arXiv 2503.14286).
    """
    return Objective(
        unit=Sequence(), chart=LogRatio(), sampling=TaperedImportance(Advantage()), optimization=Flat(), anchor=None
    )


def vespo(
    positive: tuple[float, float] = (2.0, 3.0), negative: tuple[float, float] = (3.0, 2.0), std_epsilon: float = 1e-6
) -> Objective:
    """−(1/Σ|y_i|) Σ_i Σ_t sg[w_i^k e^{λ(1−w_i)}] A log π, w the ratio of the whole response.

    Args:
        positive: (k, λ) under a positive advantage.
        negative: (k, λ) under a negative one.
        std_epsilon: added to the standard deviation; 0 in the paper.

    Source: Shen et al. 2026 (arXiv 2602.10693).
    """
    advantage = GroupAdvantage(scale="group", epsilon=std_epsilon)
    return _score_function(GammaImportance(advantage, positive, negative))
