"""Recipes that differ in how rewards become drives: baselines, normalisation, selection."""

from __future__ import annotations

from geomalign.advantages import (
    ActiveScale,
    Asymmetric,
    BestMargin,
    BestOfN,
    Boltzmann,
    Excited,
    LengthBaseline,
    PassAtK,
    Whitened,
)
from geomalign.chart import LogRatio, Ratio
from geomalign.constant import Completed, Surrogate
from geomalign.importance import LeashedReward
from geomalign.measure import NestedMean, PooledMean
from geomalign.objective import Objective
from geomalign.optimization import ChiSquare, Clip, Flat, Linear
from geomalign.recipes.reference import published
from geomalign.recipes.shared import check_positive
from geomalign.sampling import Advantage, BoundedProjection, GroupAdvantage, SamplingGeometry
from geomalign.unit import Sequence, Token

__all__ = [
    "awr",
    "best_of_k",
    "gpg",
    "optimal_baseline",
    "pass_at_k",
    "raft",
    "reinforce_plus_plus",
    "remax",
    "w_gopo",
]


def _likelihood(sampling: SamplingGeometry) -> Objective:
    return Objective(unit=Sequence(), chart=LogRatio(), sampling=sampling, optimization=Flat(), anchor=None)


@published(
    title="GPG: A Simple and Strong Reinforcement Learning Baseline for Model Reasoning",
    authors="Chu, Xiangxiang and others",
    year=2025,
    arxiv="2504.02546",
    equation="the objective and its debiased advantage",
    loss="−(1/Σ|y_i|) Σ_i Σ_t α A_i log π(y_it), A = (r − mean)/F_norm, α = B/(B − M)",
    conventions=("F_norm = 1", "M responses stand in groups that were solved or failed throughout"),
    departures={"verl 0.9": "α = B/(number of non-zero rewards): another quantity, equal only by chance"},
)
def gpg() -> Objective:
    """−(1/Σ|y_i|) Σ_i Σ_t αA log π: the policy gradient alone, scaled for the groups that teach nothing.

    Source: Chu et al. 2025 (arXiv 2504.02546) with F_norm = 1.
    """
    return Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=ActiveScale(GroupAdvantage()),
        optimization=Flat(),
        measure=PooledMean(),
        anchor=None,
    )


@published(
    title="REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Advantage Normalization",
    authors="Hu, Jian and others",
    year=2025,
    arxiv="2501.03262",
    equation="the normalised advantage",
    loss="−(1/Σ|y_i|) Σ_i Σ_t min(t A, clip(t) A), A = (A⁰ − mean)/std over the batch's tokens, A⁰_t = r − β "
    "Σ_{s≥t} Δ^ref_s",
    conventions=("normalised over the whole batch, in which a response counts by its length", "k1 in the reward"),
    departures={
        "verl 0.9": "1e-8 added to the variance; the return skips observation tokens",
        "OpenRLHF 0.11": "`reinforce` and `reinforce_baseline`: the biased variance, clamped from below at 1e-8",
    },
)
def reinforce_plus_plus(
    epsilon: float = 0.2, epsilon_high: float | None = None, beta: float = 0.0, baseline: str = "none"
) -> Objective:
    """PPO's clip with an advantage that is normalised over the batch instead of the group.

    Args:
        epsilon: clip range below.
        epsilon_high: clip range above; `epsilon` where None.
        beta: strength of the k1 leash in the reward, for every token the sum over itself and later ones; 0 needs no
            reference.
        baseline: "none", or "group" for REINFORCE++-baseline, which subtracts the group's mean first.

    Source: Hu et al. 2025 (arXiv 2501.03262).
    """
    reward: SamplingGeometry = GroupAdvantage(baseline=baseline)
    if beta:
        reward = LeashedReward(reward, Linear(), beta, unit="return")
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=Whitened(reward),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=PooledMean(),
        constant=Surrogate(),
    )


@published(
    title="ReMax: A Simple, Effective, and Efficient Reinforcement Learning Method for Aligning Large Language Models",
    authors="Li, Ziniu and others",
    year=2023,
    arxiv="2310.10505",
    equation="the ReMax gradient estimator",
    loss="−(1/N) Σ_i (r(y_i) − r(ȳ_i)) log π(y_i), ȳ the greedy response to the same prompt",
    conventions=("the baseline is the reward of a response that is not in the batch: pass r − r(ȳ) as `advantage`",),
)
def remax() -> Objective:
    """−(r − r_greedy) log π(y): REINFORCE whose baseline is the reward of the greedy response.

    Drive: the batch's `advantage`, which the caller makes from two rewards.

    Source: Li et al. 2023 (arXiv 2310.10505).
    """
    return _likelihood(Advantage())


@published(
    title="On-Policy RL with Optimal Reward Baseline",
    authors="Hao, Yaru and others",
    year=2025,
    arxiv="2505.23585",
    equation="the optimal baseline and its length-weighted form",
    loss="−(1/N) Σ_i (r_i − b*) log π(y_i), b* = Σ_j |y_j| r_j / Σ_j |y_j| in the group",
    conventions=("exactly on policy: no ratio, no clip, no KL",),
    departures={"verl 0.9": "called `opo`; a group of one keeps its reward as advantage"},
)
def optimal_baseline() -> Objective:
    """−(r − b*) log π(y) with the length-weighted mean reward b* of the group: the *other* method called OPO.

    Source: Hao et al. 2025 (arXiv 2505.23585).
    """
    return _likelihood(LengthBaseline())


@published(
    title="Pass@k Training for Adaptively Balancing Exploration and Exploitation of Large Reasoning Models",
    authors="Chen, Zhipeng and others",
    year=2025,
    arxiv="2508.10751",
    equation="the analytical derivation",
    loss="GRPO with A(success) = (1 − R̄)/σ, A(failure) = (1 − R̄ − C(N⁻−1, k−1)/C(N−1, k−1))/σ, R̄ = 1 − C(N⁻, "
    "k)/C(N, k)",
    conventions=("binary rewards", "σ = √(R̄(1−R̄)), the biased one; k = 1 is GRPO with ddof 0"),
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
        constant=Surrogate(),
    )


@published(
    title="Optimizing Language Models for Inference Time Objectives using Reinforcement Learning",
    authors="Tang, Yunhao and others",
    year=2025,
    arxiv="2503.19595",
    equation="the leave-one-out estimate of §4",
    loss="−(1/N) Σ_i (max_j r_j − max_{j≠i} r_j) log π(y_i)",
    conventions=("not divided by the standard deviation", "the group is the k of pass@k"),
    departures={
        "verl 0.9": "`grpo_passk`: PPO's clip around it, divided by the group's standard deviation by default; "
        "of equal best rewards the first has the difference 0 anyway",
    },
)
def best_of_k() -> Objective:
    """−(r_best − r_second) log π(y_best): the policy gradient of the group's best reward, with its leave-one-out
    baseline.

    Source: Tang et al. 2025 (arXiv 2503.19595) §4.
    """
    return _likelihood(BestMargin())


@published(
    title="RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment",
    authors="Dong, Hanze and others",
    year=2023,
    arxiv="2304.06767",
    equation="Algorithm 1",
    loss="−(1/#prompts) Σ_x log π(y*(x)), y* the best of the responses to x",
    conventions=("sums over a response's tokens; trainers' SFT averages over tokens", "of equals the first"),
)
def raft() -> Objective:
    """−log π of the best response to every prompt: selection, then supervised learning.

    Source: Dong et al. 2023 (arXiv 2304.06767) Algorithm 1.
    """
    return _likelihood(BestOfN())


@published(
    title="Advantage-Weighted Regression: Simple and Scalable Off-Policy Reinforcement Learning",
    authors="Peng, Xue Bin and others",
    year=2019,
    arxiv="1910.00177",
    equation="the weighted regression",
    loss="−(1/N) Σ_i min(exp(A_i/β), ω_max) log π(y_i)",
    conventions=("weights are neither normalised nor centred", "ω_max = 20 in its code"),
)
def awr(beta: float = 1.0, cap: float | None = 20.0) -> Objective:
    """−min(e^{A/β}, cap) log π(y): regression onto the responses, weighted by their advantage.

    Args:
        beta: temperature, positive.
        cap: bound of the weight; None for none.

    Drive: from the batch's `advantage`, or its `reward`.

    Source: Peng et al. 2019 (arXiv 1910.00177).
    """
    return _likelihood(Boltzmann(Advantage(), beta, cap))


@published(
    title="Group Orthogonalized Policy Optimization: "
    "Group Policy Optimization as Orthogonal Projection in Hilbert Space",
    authors="Wang, Zixian",
    year=2026,
    arxiv="2602.21269",
    equation="W-GOPO, eq. 9, 18 and Proposition 4.5 of its later form",
    loss="(1/N) Σ_i (v_i − v*_i)², v* the bounded projection of centred [(1−α)Ā + αĀe^Ā]/μ, Ā = centred tanh(r − mean)",
    conventions=(
        "μ is not the stiffness, which is 2: it divides the target alone",
        "2/μ times GOPO's loss, with its constant: at α = 0 and without the tanh the same minimiser",
        "not divided by the standard deviation",
    ),
    departures={
        "the author's code": "½μ(v − v*)², by its published description: μ/2 of the paper's loss",
        "the paper's claim": "that the drive is of second order for poor responses: it is Ā + αĀ² + …, of first order",
    },
)
def w_gopo(alpha: float = 0.5, mu: float = 0.5, scale: float = 1.0, bounded: bool = True) -> Objective:
    """(1/N) Σ_i (v_i − v*_i)²: the squared distance from a target that (1−α)Ā + αĀe^Ā sets, Ā a squashed advantage.

    v* = max(−1, (g − λ)/μ) with Σ v* = 0 in the group, g = (1−α)Ā + αĀe^Ā centred. The curvature is 2 whatever μ is.

    Args:
        alpha: in [0, 1].
        mu: divides the target, positive.
        scale: at which the advantage is squashed, scale·tanh((r − mean)/scale), positive.
        bounded: whether the target is kept at v* ≥ −1.

    Source: W-GOPO, eq. 9 and 18, the later form of GOPO (arXiv 2602.21269).
    """
    check_positive("w_gopo", mu=mu)
    doubled = Asymmetric(Excited(alpha, scale=scale), positive=2 / mu, negative=2 / mu)
    return Objective(
        unit=Sequence(),
        chart=Ratio(),
        sampling=BoundedProjection(doubled, 2.0) if bounded else doubled,
        optimization=ChiSquare(2.0),
        constant=Completed(),
    )
