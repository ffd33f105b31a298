"""Recipes with a clip or what takes its place: PPO, GRPO and their relatives, whose potential depends on the drive."""

from __future__ import annotations

from geomalign._util import check
from geomalign.chart import Ratio
from geomalign.measure import FixedBudget, NestedMean, PooledMean
from geomalign.objective import BaseObjective, Objective, Surrogate, WeightedSum, kl_penalty
from geomalign.optimization import KL, AdvantageScaled, ChiSquare, Clip, Flat, SigmoidClip
from geomalign.sampling import (
    Advantage,
    GroupAdvantage,
    PassAtK,
    SignWeighted,
)
from geomalign.unit import BroadcastSequence, ClampedTokens, MeanSequence, Token

__all__ = ["bnpo", "cfpo", "dapo", "dr_grpo", "gmpo", "grpo", "gspo", "luspo", "pass_at_k", "ppo", "sapo"]


def ppo(
    epsilon: float | None = 0.2, epsilon_high: float | None = None, *, beta: float = 0.0, dual_clip: float | None = None
) -> Objective:
    """PPO's clipped surrogate with a KL penalty: −min(tA, clip(t, 1−ε, 1+ε_high)A) + β (t log t − t + 1), averaged over
    all tokens.

    Args:
        epsilon: clip range below, ≥ 0; None: no clip.
        epsilon_high: clip range above, ≥ 0; `epsilon` where None.
        beta: strength of the KL penalty to the old policy, ≥ 0. With epsilon=None it is the KL-penalty form of the
            paper.
        dual_clip: bound of the ratio under a negative advantage, > 1 + ε_high, such as 3; None for none.

    The drive is the batch's `advantage`, `(row,)` or `(row, token)`, or its `reward`. The paper's penalty is the exact
    KL at every state. Here it is the sampled, non-negative form t log t − t + 1, whose expectation under the old policy
    is KL(π‖π_old).

    Raises:
        ValueError: a clip range above or a dual clip is given without a clip.

    Source: Schulman et al. 2017 (arXiv 1707.06347) eq. 7 and 8; dual clip: Ye et al. 2020 (arXiv 1912.09729) eq. 5.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.ppo(epsilon=0.2)(ga.laws.sample_batch())
    >>> round(ga.metrics(outcome)["clip_fraction"].item(), 2)  # the share of tokens without a gradient
    0.19
    """
    if epsilon is None and (epsilon_high is not None or dual_clip is not None):
        why = "epsilon=None is no clip at all, on neither side; give the three together."
        check.refuse("ppo", why, epsilon=None, epsilon_high=epsilon_high, dual_clip=dual_clip)
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
    *,
    beta: float = 0.0,
    scale_rewards: str = "group",
    std_epsilon: float = 1e-6,
) -> BaseObjective:
    """GRPO: (1/N) Σ_i (1/|y_i|) Σ_t [ −min(tA, clip(t)A) + β (e^{−Δ_ref} + Δ_ref − 1) ],  A = (r − mean)/std in the
    group.

    Args:
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0; `epsilon` where None.
        beta: strength of the k3 KL penalty to the reference, ≥ 0; the paper has 0.04. 0, as trainers do today, needs no
            reference.
        scale_rewards: what rewards are divided by: the standard deviation of the "group" or of the "batch", or "none".
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper, 1e-4 in TRL.

    Source: Shao et al. 2024 (DeepSeekMath, arXiv 2402.03300) eq. 3–4.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.grpo(epsilon=0.2)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6], 0]  # the first tokens of responses with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.4586, -1.1470,  0.6885], dtype=torch.float64)
    """
    check.non_negative("grpo", beta=beta)
    surrogate = Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale=scale_rewards, epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=NestedMean(),
        offset=Surrogate(),
    )
    return surrogate + beta * kl_penalty("k3") if beta else surrogate


def dr_grpo(epsilon: float = 0.2, epsilon_high: float | None = None, length: float = 256) -> Objective:
    """GRPO without its length and difficulty biases: (1/N) Σ_i (1/L) Σ_t −min(tA, clip(t)A),  A = r − mean.

    Args:
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0; `epsilon` where None.
        length: L, the generation limit in tokens, > 0 (256 is TRL's default limit).

    Source: Liu et al. 2025 (arXiv 2503.20783) §3.2.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.dr_grpo(length=6)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6], 0]  # the first tokens of responses with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.4707, -1.1775,  0.7068], dtype=torch.float64)
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
    """The loss of DAPO: (1/Σ|y_i|) Σ_i Σ_t −min(tA, clip(t, 1−ε, 1+ε_high)A),  A = (r − mean)/std.

    Its dynamic sampling and overlong reward shaping act on the batch, not on the loss.

    Args:
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Yu et al. 2025 (arXiv 2503.14476) eq. 8–9 and 12.

    >>> import geomalign as ga
    >>> narrow, wide = (ga.recipes.dapo(0.2, high)(ga.laws.sample_batch()) for high in (0.2, 0.28))
    >>> [round(ga.metrics(outcome)["clip_fraction"].item(), 2) for outcome in (narrow, wide)]  # no gradient
    [0.09, 0.06]
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
    """GSPO, GRPO's clip of whole responses: (1/N) Σ_i −min(s_i A_i, clip(s_i) A_i),  s_i =
    (π(y_i)/π_old(y_i))^{1/|y_i|}.

    Args:
        epsilon: clip range below of the length-normalised ratio, ≥ 0; the paper's 3e-4.
        epsilon_high: clip range above, ≥ 0; the paper's 4e-4.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Zheng et al. 2025 (arXiv 2507.18071) eq. 5–7.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.gspo()(ga.laws.sample_batch())
    >>> outcome.u.shape, round(ga.metrics(outcome)["clip_fraction"].item(), 2)  # one event per response
    (torch.Size([8]), 0.29)
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
    """GRPO's surrogate with the advantage of the best of k drawn responses, in closed form: (1/N) Σ_i (1/|y_i|) Σ_t
    −min(tA, clip(t)A).

    Args:
        k: how many responses are drawn from the group, an integer ≥ 1.
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0; `epsilon` where None.

    Source: Chen et al. 2025 (arXiv 2508.10751), analytical derivation.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.pass_at_k(k=2)(ga.laws.sample_batch(seed=3))
    >>> outcome.drive[[0, 2, 6], 0]  # the first tokens of responses with the rewards −0.75, 1.13 and 0.27
    tensor([-0.3536,  0.7071, -0.3536], dtype=torch.float64)
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
    """GRPO averaged over tokens instead of over responses: (1/Σ|y_i|) Σ_i Σ_t −min(tA, clip(t)A),  A = (r − mean)/std.

    Args:
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0; `epsilon` where None.
        std_epsilon: added to the standard deviation, ≥ 0; TRL's.

    Source: TRL's `loss_type="bnpo"`; DAPO has the same average with an asymmetric clip.

    >>> import geomalign as ga
    >>> ga.recipes.bnpo(0.2, 0.28, std_epsilon=1e-6) == ga.recipes.dapo()
    True
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
    """SAPO, a clip with soft shoulders: (1/N) Σ_i (1/|y_i|) Σ_t −(4/τ) σ(τ(t−1)) A.

    Args:
        tau_positive: τ under a positive advantage, > 0.
        tau_negative: τ under an advantage that is not positive, > 0; larger, since such tokens spread instability.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Gao et al. 2025 (arXiv 2511.20347), its defaults.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.sapo()(ga.laws.sample_batch())
    >>> ga.metrics(outcome)["clip_fraction"].item()  # no token is without a gradient
    0.0
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=SigmoidClip(tau_positive, tau_negative),
        measure=NestedMean(),
    )


def cfpo(epsilon: float = 0.2, std_epsilon: float = 1e-6) -> Objective:
    """Clipping-free PPO, a square with its minimum at PPO's clip bound, u* = ±ε: (1/N) Σ_i (1/|y_i|) Σ_t −tA +
    (|A|/2ε)(t−1)².

    The stiffness |A|/ε follows the drive, so the objective is coupled.

    Args:
        epsilon: distance of the minimum from the old policy, > 0.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Çağatan et al. 2026 (CFPO, arXiv 2601.22801), read in implementations of it; the same square: Xie et al.
    2024 (SPO, arXiv 2401.16025).

    >>> import geomalign as ga
    >>> objective = ga.recipes.cfpo(epsilon=0.2)
    >>> objective.optimization.equilibrium(objective.drive(ga.laws.sample_batch())[[0, 2]])  # A > 0, A < 0
    tensor([ 0.2000, -0.2000], dtype=torch.float64)
    """
    check.positive("cfpo", epsilon=epsilon)
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=AdvantageScaled(ChiSquare(1 / epsilon)),
        measure=NestedMean(),
        offset=Surrogate(),
    )


def luspo(epsilon: float = 2e-3, epsilon_high: float = 2.5e-3, std_epsilon: float = 1e-6) -> Objective:
    """LUSPO, GSPO without the advantage of short responses: (1/N) Σ_i |y_i|·(−min(s_i A_i, clip(s_i) A_i)).

    Args:
        epsilon: clip range below of the length-normalised ratio, ≥ 0.
        epsilon_high: clip range above, ≥ 0.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Liu et al. 2026 (arXiv 2602.05261), clip ranges of §5.1.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.luspo()(ga.laws.sample_batch())
    >>> outcome.u.detach()[0]  # every token of a response has the response's ratio, less 1; zero where it is masked
    tensor([0.1263, 0.0000, 0.0000, 0.1263, 0.1263, 0.0000], dtype=torch.float64)
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
    """GMPO: −(1/N) Σ_i A_i × the geometric mean of the response's ratios, each clipped on the side that A_i pushes to.

    It is a sum of two objectives, one for each sign of the advantage: each has its own clamp and its part of the drive.

    Args:
        epsilon: bound of a token's Δ below under a negative advantage, in nats, ≥ 0.
        epsilon_high: bound above under a positive advantage, in nats, ≥ 0; `epsilon` where None.
        std_epsilon: added to the standard deviation, ≥ 0; 0 in the paper.

    Source: Zhao et al. 2025 (arXiv 2507.20673).

    >>> import geomalign as ga
    >>> outcome = ga.recipes.gmpo(epsilon=0.4)(ga.laws.sample_batch())
    >>> [round(term.drive[6].item(), 2) for term in outcome.terms]  # a good response has no part in the second term
    [0.69, 0.0]
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
