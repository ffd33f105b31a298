"""Recipes whose drive is an importance weight that is bounded, masked or shaped: log π is the coordinate, nothing
resists.
"""

from __future__ import annotations

from geomalign.chart import LogRatio
from geomalign.importance import DivergenceMask, GammaImportance, TaperedImportance
from geomalign.measure import PooledMean
from geomalign.objective import Objective
from geomalign.optimization import Flat
from geomalign.recipes.reference import published
from geomalign.sampling import Advantage, ClippedImportance, GroupAdvantage, SamplingGeometry
from geomalign.unit import Sequence, Token

__all__ = ["cispo", "dppo", "topr", "vespo"]


def _score_function(sampling: SamplingGeometry) -> Objective:
    return Objective(
        unit=Token(), chart=LogRatio(), sampling=sampling, optimization=Flat(), measure=PooledMean(), anchor=None
    )


@published(
    title="MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention",
    authors="MiniMax",
    year=2025,
    arxiv="2506.13585",
    equation="4–5",
    loss="−(1/Σ|y_i|) Σ_i Σ_t sg[clip(t_it, 1−ε_low, 1+ε_high)] A_i log π(y_it)",
    conventions=(
        "bounds are of the ratio itself: high=5 is ε_high = 4 in the paper's notation",
        "the paper uses no lower bound in practice",
        "mean over all tokens of the batch; A = (r − mean)/std, ddof 1",
    ),
    departures={
        "TRL 1.16": "clamps at `epsilon_high` itself, not 1 + ε; with the default 0.2 every weight becomes 0.2 or less",
        "verl 0.9": "both bounds, 1 ± ε with ε = 0.2 by default; Δ clamped to ±20",
        "torchrl 0.14": "no stop-gradient and no log π: −clip(t)·A, so zero gradient outside the band",
        "Liger 0.8": "as TRL; refuses sequence-level ratios",
    },
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


@published(
    title="Rethinking the Trust Region in LLM Reinforcement Learning",
    authors="Qi, Penghui and others",
    year=2026,
    arxiv="2602.04879",
    equation="the masked surrogate, binary approximation",
    loss="−(1/Σ|y_i|) Σ_i Σ_t sg[M_it min(t_it, cap)] A_i log π(y_it), "
    "M = 0 where (t−1)A > 0 and D(π_old‖π) > δ of the event {this token, any other}",
    conventions=(
        "δ is a probability (TV) or nats (KL), not a distance of the ratio",
        "the mask stops only a token that moves further out",
        "A = r − mean: the paper's runs do not divide by the standard deviation",
    ),
    departures={
        "verl 0.9": "δ is the `clip_ratio`, so the default is 0.2; the cap is `clip_ratio_c`, 3 in its configuration; "
        "1e-8 inside the KL's logarithms; Δ clamped to ±20",
    },
)
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


@published(
    title="Tapered Off-Policy REINFORCE: Stable and efficient reinforcement learning for LLMs",
    authors="Le Roux, Nicolas and Bellemare, Marc G. and others",
    year=2025,
    arxiv="2503.14286",
    equation="the TOPR gradient",
    loss="−(1/N) Σ_i sg[w_i] R_i log π(y_i), w = 1 where R_i ≥ 0, clip(π(y_i)/μ(y_i), 0, 1) where R_i < 0",
    conventions=("the ratio is of the whole response, without length normalisation", "R = ±1, a baseline shifts it"),
    departures={"ROLL": "weighs the positive and the negative part with coefficients of their own, 1 and 1 by default"},
)
def topr() -> Objective:
    """−sg[w] R log π(y): good responses by supervised learning, poor ones by truncated importance sampling.

    Drive: the batch's `advantage`, or its `reward`; its sign decides the side.

    Source: Le Roux et al. 2025 (arXiv 2503.14286).
    """
    return Objective(
        unit=Sequence(), chart=LogRatio(), sampling=TaperedImportance(Advantage()), optimization=Flat(), anchor=None
    )


@published(
    title="VESPO: Variational Sequence-Level Soft Policy Optimization for Stable Off-Policy LLM Training",
    authors="Shen, Guobin and others",
    year=2026,
    arxiv="2602.10693",
    equation="the reshaping kernel",
    loss="−(1/Σ|y_i|) Σ_i Σ_t sg[w_i^k e^{λ(1−w_i)}] A_i log π(y_it), w_i = π(y_i)/π_old(y_i)",
    conventions=(
        "the ratio is of the whole response, without length normalisation",
        "(k, λ) by the sign of A; A = 0 counts as positive, without effect",
    ),
    departures={
        "TRL 1.16": "clamps Δ of tokens to ±20 and log w to [log 1e-8, 20]; λ at least 1e-4",
        "Liger 0.8": "as TRL",
    },
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
