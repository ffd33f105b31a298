"""Recipes in the ratio chart whose potential depends on the drive, or whose unit gathers a response in its own way."""

from __future__ import annotations

from geomalign.chart import LogRatio, Ratio
from geomalign.measure import FixedBudget, NestedMean, PooledMean
from geomalign.objective import BaseObjective, Objective, Surrogate, WeightedSum
from geomalign.optimization import KL, AdvantageScaled, ChiSquare, Clip, Flat, ReverseKL, SigmoidClip
from geomalign.recipes.shared import check_positive, check_weight
from geomalign.sampling import (
    Advantage,
    GroupAdvantage,
    Label,
    PassAtK,
    SignWeighted,
)
from geomalign.unit import BroadcastSequence, ClampedTokens, MeanSequence, Token

__all__ = ["bnpo", "cfpo", "dapo", "dr_grpo", "gmpo", "grpo", "gspo", "luspo", "pass_at_k", "ppo", "sapo"]


def _kl_penalty() -> Objective:
    """The k3 estimate of KL(π‖π_ref) a token, to be weighted by β."""
    return Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=Label(0.0),
        optimization=ReverseKL(1.0),
        measure=NestedMean(),
        anchor="reference",
    )


def ppo(
    epsilon: float | None = 0.2, epsilon_high: float | None = None, beta: float = 0.0, dual_clip: float | None = None
) -> Objective:
    """−min(tA, clip(t, 1−ε, 1+ε_high)A) + β (t log t − t + 1), a token, averaged over all tokens.

    Args:
        epsilon: clip range below; None: no clip.
        epsilon_high: clip range above; `epsilon` where None.
        beta: strength of the KL penalty to the rollout policy, 0 for none. With epsilon=None the KL-penalty form
            of the paper.
        dual_clip: bound of the ratio under a negative advantage, such as 3.

    Drive: the batch's `advantage` `(row,)` or `(row, token)`, or its `reward`. The paper's penalty is the exact
        KL at every state; here it is
    the sampled, non-negative form t log t − t + 1, whose expectation under the rollout policy is KL(π‖π_old).

    Source: Schulman et al. 2017 (arXiv 1707.06347) eq. 7 and 8; dual clip: Ye et al. 2020 (arXiv 1912.09729) eq. 5.
    """
    if epsilon is None and (epsilon_high is not None or dual_clip is not None):
        raise ValueError(
            f"ppo(epsilon=None, epsilon_high={epsilon_high!r}, dual_clip={dual_clip!r}): epsilon=None is no clip at "
            "all, on neither side; give the three together."
        )
    optimization = (
        Flat() if epsilon is None else Clip(epsilon, epsilon if epsilon_high is None else epsilon_high, dual_clip)
    )
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=Advantage(),
        optimization=optimization + KL(beta) if beta else optimization,
        measure=PooledMean(),
        offset=Surrogate(),
    )


def grpo(
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    beta: float = 0.0,
    scale_rewards: str = "group",
    std_epsilon: float = 1e-6,
) -> BaseObjective:
    """(1/N) Σ_i (1/|y_i|) Σ_t [ −min(tA, clip(t)A) + β (e^{−Δ_ref} + Δ_ref − 1) ],  A = (r − mean)/std in the group.

    Args:
        epsilon: clip range below.
        epsilon_high: clip range above; `epsilon` where None.
        beta: strength of the k3 KL penalty to the reference, ≥ 0; 0 (not the paper's 0.04, as trainers do today)
        needs no
            reference.
        scale_rewards: "group", "batch" or "none".
        std_epsilon: added to the standard deviation; 0 in the paper, 1e-4 in TRL.

    Source: Shao et al. 2024 (DeepSeekMath, arXiv 2402.03300) eq. 3–4.
    """
    check_weight("grpo", beta=beta)
    surrogate = Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale=scale_rewards, epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=NestedMean(),
        offset=Surrogate(),
    )
    return surrogate + beta * _kl_penalty() if beta else surrogate


def dr_grpo(epsilon: float = 0.2, epsilon_high: float | None = None, length: float = 256) -> Objective:
    """GRPO without its length and difficulty biases: a constant divisor a response, and A = r − mean.

    Args:
        epsilon: clip range below.
        epsilon_high: clip range above; `epsilon` where None.
        length: the generation limit in tokens, by which every response's sum is divided (256 is TRL's default limit).

    Source: Liu et al. 2025 (arXiv 2503.20783) §3.2.
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=FixedBudget(length),
        offset=Surrogate(),
    )


def dapo(epsilon: float = 0.2, epsilon_high: float = 0.28, std_epsilon: float = 1e-6) -> Objective:
    """(1/Σ|y_i|) Σ_i Σ_t −min(tA, clip(t, 1−ε, 1+ε_high)A),  A = (r − mean)/std: the loss of DAPO.

    Its dynamic sampling and overlong reward shaping act on the batch, not on the loss.

    Args:
        epsilon: clip range below.
        epsilon_high: clip range above.
        std_epsilon: added to the standard deviation; 0 in the paper.

    Source: Yu et al. 2025 (arXiv 2503.14476) eq. 8–9 and 12.
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon_high),
        measure=PooledMean(),
        offset=Surrogate(),
    )


def gspo(epsilon: float = 3e-4, epsilon_high: float = 4e-4, std_epsilon: float = 1e-6) -> Objective:
    """(1/N) Σ_i −min(s_i A_i, clip(s_i) A_i),  s_i = (π(y_i)/π_old(y_i))^{1/|y_i|}.

    Args:
        epsilon: clip range below, of the length-normalised ratio; the paper's 3e-4.
        epsilon_high: clip range above; the paper's 4e-4.
        std_epsilon: added to the standard deviation; 0 in the paper.

    Source: Zheng et al. 2025 (arXiv 2507.18071) eq. 5–7.
    """
    return Objective(
        unit=MeanSequence(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon_high),
        measure=PooledMean(),
        offset=Surrogate(),
    )


def pass_at_k(k: int = 4, epsilon: float = 0.2, epsilon_high: float | None = None) -> Objective:
    """GRPO's surrogate with the advantage of the best of k, in closed form.

    Args:
        k: how many responses are drawn from the group.
        epsilon: clip range below.
        epsilon_high: clip range above; `epsilon` where None.

    Source: Chen et al. 2025 (arXiv 2508.10751), analytical derivation.
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=PassAtK(k),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=NestedMean(),
        offset=Surrogate(),
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
        offset=Surrogate(),
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
        optimization=SigmoidClip(tau_positive, tau_negative),
        measure=NestedMean(),
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
        optimization=AdvantageScaled(ChiSquare(1 / epsilon)),
        measure=NestedMean(),
        offset=Surrogate(),
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
        unit=BroadcastSequence(MeanSequence()),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon_high),
        measure=FixedBudget(1),
        offset=Surrogate(),
    )


def gmpo(epsilon: float = 0.4, epsilon_high: float | None = None, std_epsilon: float = 1e-6) -> WeightedSum:
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
        unit=ClampedTokens(MeanSequence(), high=above),
        chart=Ratio(),
        sampling=SignWeighted(advantage, negative=0.0),
        optimization=Flat(),
        offset=Surrogate(),
    )
    poor = Objective(
        unit=ClampedTokens(MeanSequence(), low=-epsilon),
        chart=Ratio(),
        sampling=SignWeighted(advantage, positive=0.0),
        optimization=Flat(),
        offset=Surrogate(),
    )
    return good + poor
