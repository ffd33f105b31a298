"""Recipes in the ratio chart whose potential depends on the drive, or whose unit gathers a response in its own way."""

from __future__ import annotations

from geomalign.advantages import Asymmetric
from geomalign.chart import Ratio
from geomalign.constant import Surrogate
from geomalign.measure import FixedBudget, NestedMean, PooledMean
from geomalign.objective import Combination, Objective
from geomalign.optimization import ChiSquare, Clip, Flat, Proportional, SoftGate
from geomalign.recipes.reference import published
from geomalign.recipes.shared import check_positive
from geomalign.sampling import GroupAdvantage
from geomalign.unit import Clamped, MeanSequence, Shared, Token

__all__ = ["bnpo", "cfpo", "gmpo", "luspo", "sapo"]


@published(
    title="TRL: Transformer Reinforcement Learning, `loss_type='bnpo'`",
    authors="von Werra, Leandro and others",
    year=2025,
    arxiv=None,
    venue="https://github.com/huggingface/trl",
    equation="documentation of GRPOConfig",
    loss="−(1/Σ|y_i|) Σ_i Σ_t min(t_it A_i, clip(t_it, 1−ε, 1+ε) A_i)",
    conventions=("mean over all tokens of the batch, symmetric clip",),
    departures={
        "TRL 1.16": "the mean is over the tokens of each micro-batch and averaged over accumulation steps, "
        "so that the loss depends on how the batch was split",
    },
)
def bnpo(epsilon: float = 0.2, epsilon_high: float | None = None, std_epsilon: float = 1e-4) -> Objective:
    """GRPO averaged over tokens instead of over responses, before DAPO gave that average its asymmetric clip.

    Args:
        epsilon: clip range below.
        epsilon_high: clip range above; `epsilon` where None.
        std_epsilon: added to the standard deviation; TRL's.
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=PooledMean(),
        constant=Surrogate(),
    )


@published(
    title="Soft Adaptive Policy Optimization",
    authors="Gao, Chang and others",
    year=2025,
    arxiv="2511.20347",
    equation="the soft gate and the objective",
    loss="−(1/N) Σ_i (1/|y_i|) Σ_t (4/τ_i) σ(τ_i (t_it − 1)) A_i, τ by the sign of A",
    conventions=("τ_neg where A ≤ 0", "the factor 4/τ makes the gradient at t = 1 that of t·A"),
    departures={
        "verl 0.9": "always averages over responses first, whatever `loss_agg_mode` says; Δ clamped to ±20",
    },
)
def sapo(tau_positive: float = 1.0, tau_negative: float = 1.05, std_epsilon: float = 1e-6) -> Objective:
    """(1/N) Σ_i (1/|y_i|) Σ_t −(4/τ)σ(τ(t−1)) A: a clip with soft shoulders.

    Args:
        tau_positive: sharpness under a positive advantage.
        tau_negative: sharpness under an advantage that is not positive; sharper, as such tokens spread instability.
        std_epsilon: added to the standard deviation; 0 in the paper.

    Source: Gao et al. 2025 (arXiv 2511.20347), its defaults.
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=SoftGate(tau_positive, tau_negative),
        measure=NestedMean(),
    )


@published(
    title="Clipping-Free Policy Optimization for Large Language Models",
    authors='{\\c{C}}a{\\u{g}}atan, {\\"O}mer Veysel and others',
    year=2026,
    arxiv="2601.22801",
    equation="7–8 by their numbers in implementations; Simple Policy Optimization (2401.16025) has the same square",
    loss="−(1/N) Σ_i (1/|y_i|) Σ_t [ t_it A_i − (|A_i|/2ε)(t_it − 1)² ], less β times a k3 leash",
    conventions=(
        "ε is PPO's: the square has its minimum where PPO has its wall",
        'without the leash here: add `beta * leash("k3")`',
        "checked against two implementations that cite its equations, not against the paper's text",
    ),
)
def cfpo(epsilon: float = 0.2, std_epsilon: float = 1e-6) -> Objective:
    """(1/N) Σ_i (1/|y_i|) Σ_t −tA + (|A|/2ε)(t−1)²: a square whose minimum stands at PPO's wall, u* = ±ε.

    Args:
        epsilon: distance of the minimum from the anchor, positive.
        std_epsilon: added to the standard deviation; 0 in the paper.

    The stiffness is |A|/ε, so it is coupled: χ² with a stiffness that follows the drive.

    Source: Çağatan et al. 2026 (CFPO, arXiv 2601.22801), read in implementations of it; the same square: Xie et al.
    2024 (SPO, arXiv 2401.16025).
    """
    check_positive("cfpo", epsilon=epsilon)
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=Proportional(ChiSquare(1 / epsilon)),
        measure=NestedMean(),
        constant=Surrogate(),
    )


@published(
    title="Length-Unbiased Sequence Policy Optimization: Revealing and Controlling Response Length Variation in RLVR",
    authors="Liu, Fanfan and others",
    year=2026,
    arxiv="2602.05261",
    equation="the LUSPO objective, clip ranges of §5.1",
    loss="−(1/N) Σ_i |y_i| min(s_i A_i, clip(s_i, 1−ε, 1+ε_high) A_i), s_i = (π(y_i)/π_old(y_i))^{1/|y_i|}",
    conventions=("GSPO's loss of every response times its length",),
    departures={
        "TRL 1.16": "sums the loss over tokens; with `importance_sampling_level='token'`, the configuration's default, "
        "it warns and computes another objective",
        "Liger 0.8": "as TRL",
    },
)
def luspo(epsilon: float = 2e-3, epsilon_high: float = 2.5e-3, std_epsilon: float = 1e-6) -> Objective:
    """(1/N) Σ_i |y_i|·(−min(s_i A_i, clip(s_i) A_i)): GSPO without the advantage of short responses.

    Args:
        epsilon: clip range below, of the length-normalised ratio.
        epsilon_high: clip range above.
        std_epsilon: added to the standard deviation; 0 in the paper.

    Source: Liu et al. 2026 (arXiv 2602.05261), clip ranges of §5.1.
    """
    return Objective(
        unit=Shared(MeanSequence()),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon_high),
        measure=FixedBudget(1),
        constant=Surrogate(),
    )


@published(
    title="Geometric-Mean Policy Optimization",
    authors="Zhao, Yuzhong and others",
    year=2025,
    arxiv="2507.20673",
    equation="the GMPO objective",
    loss="−(1/N) Σ_i A_i exp( (1/|y_i|) Σ_t clip_A(Δ_it) ), clip_A = min(Δ, ε_high) where A > 0, max(Δ, −ε_low) "
    "where A < 0",
    conventions=("ε is in nats of log t: the ratio is kept within (e^−0.4, e^0.4)", "clips tokens, before the mean"),
    departures={"verl 0.9": "averages the advantage over the masked tokens and adds 1e-8 to the length"},
)
def gmpo(epsilon: float = 0.4, epsilon_high: float | None = None, std_epsilon: float = 1e-6) -> Combination:
    """−(1/N) Σ_i A_i × the geometric mean of the response's ratios, each clipped on the side that A pushes to.

    Args:
        epsilon: bound of a token's Δ below under a negative advantage, in nats.
        epsilon_high: bound above under a positive advantage; `epsilon` where None.
        std_epsilon: added to the standard deviation; 0 in the paper.

    A sum of two objectives, one for each sign of the advantage: each has its own clamp and sees its part of the drive.

    Source: Zhao et al. 2025 (arXiv 2507.20673).
    """
    advantage = GroupAdvantage(scale="group", epsilon=std_epsilon)
    above = epsilon if epsilon_high is None else epsilon_high
    good = Objective(
        unit=Clamped(MeanSequence(), high=above),
        chart=Ratio(),
        sampling=Asymmetric(advantage, negative=0.0),
        optimization=Flat(),
        constant=Surrogate(),
    )
    poor = Objective(
        unit=Clamped(MeanSequence(), low=-epsilon),
        chart=Ratio(),
        sampling=Asymmetric(advantage, positive=0.0),
        optimization=Flat(),
        constant=Surrogate(),
    )
    return good + poor
