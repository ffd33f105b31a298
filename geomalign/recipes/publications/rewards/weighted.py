"""The publications of the recipes of `recipes/rewards/weighted.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
    "asymre": Reference(
        title="Asymmetric REINFORCE for off-Policy Reinforcement Learning: Balancing positive and negative rewards",
        authors="Arnal, Charles and others",
        year=2025,
        arxiv="2506.20520",
        equation="the off-policy objective E_μ[log π(y) (r(y) − V)] with V = V̂ + δV",
        loss="−(1/N) Σ_i (r_i − r̄ − δV) log π(y_i), y_i of an older policy",
        conventions=(
            "r̄ is the mean reward of the group",
            "no importance weight",
            "a group of one response has the drive −δV",
        ),
        departures=(
            ("Trinity-RFT", "`asymre`: a group of one response keeps its whole reward, for a baseline of 0; δV = −0.1"),
        ),
    ),
    "chord_phi": Reference(
        title=(
            "On-Policy RL Meets Off-Policy Experts: Harmonizing Supervised Fine-Tuning and Reinforcement Learning via "
            "Dynamic Weighting"
        ),
        authors="Zhang, Wenhao and others",
        year=2025,
        arxiv="2508.11408",
        equation="the supervised term of CHORD-φ, read in the authors' code",
        loss="−(1/Σ|y_i|) Σ_i Σ_t sg[π(1 − π)] log π(y_it)",
        conventions=(
            "the supervised term alone; CHORD is (1 − μ)·GRPO of the policy's responses + μ·this of the expert's",
            "an average over all tokens",
        ),
        departures=(
            ("Trinity-RFT", "`sft_phi` can clamp log π from above at a cut-off probability, which is off by default"),
        ),
    ),
    "dft": Reference(
        title="On the Generalization of SFT: A Reinforcement Learning Perspective with Reward Rectification",
        authors="Wu, Yongliang and others",
        year=2025,
        arxiv="2508.05629",
        equation="the token-level DFT loss, read in TRL's code",
        loss="−(1/Σ|y_i|) Σ_i Σ_t sg[π(y_it)] log π(y_it)",
        conventions=("an average over all tokens", "no gradient through the weight"),
        departures=(("Trinity-RFT", "the same loss is called `sft_is`"),),
    ),
    "echo": Reference(
        title="ECHO: Terminal Agents Learn World Models for Free",
        authors="Shrivastava, Vaishnavi and others",
        year=2026,
        arxiv="2605.24517",
        equation="the hybrid objective L_GRPO + λ L_Env",
        loss="L_GRPO − λ (1/N) Σ_i (1/|o_i|) Σ_t log π(o_it), o_i the tokens of the environment in rollout i",
        conventions=(
            "unchecked: the abstract calls L_Env a cross-entropy normalised by length, which is taken as a mean over "
            "the observation tokens of a rollout",
            "N counts the responses; one without an observation contributes zero",
            "the paper leaves out tokens of warnings: so does an `observation_mask` that is false there",
        ),
        departures=(
            (
                "prime-rl",
                "`echo`: divides by all observation tokens of the step, and λ = 0.1; its policy loss is DPPO's",
            ),
            ("rLLM, verl-recipe", "λ = 0.05; verl-recipe averages observations as the policy loss averages actions"),
        ),
    ),
    "gdpo": Reference(
        title="GDPO: Group reward-Decoupled Normalization Policy Optimization for Multi-reward RL Optimization",
        authors="Liu, Shih-Yang and others",
        year=2026,
        arxiv="2601.05242",
        equation="the decoupled advantage and its normalisation over the batch, read in the authors' code",
        loss=(
            "−(1/N) Σ_i (1/|y_i|) Σ_t min(t A_i, clip(t) A_i), A = S/(std(S) + ε), S_i = Σ_k w_k (r_ik − "
            "mean_G(r_k))/(std_G(r_k) + ε)"
        ),
        conventions=(
            "unbiased deviations",
            "the mean of S over the batch is zero, and is not subtracted",
            "a response of which one reward is not finite is in no group",
            "unchecked: the average over tokens is GRPO's",
        ),
        departures=(
            (
                "verl 0.9",
                '`gdpo`: normalises over the batch\'s tokens, so that a response counts by its length: `over="tokens"`',
            ),
            (
                "TRL 1.16",
                '`multi_objective_aggregation="normalize_then_sum"`: ε = 1e-4 in both normalisations; a reward '
                "that is None leaves the response its other rewards",
            ),
        ),
    ),
    "maxrl": Reference(
        title="Maximum Likelihood Reinforcement Learning",
        authors="Tajwar, Fahim and others",
        year=2026,
        arxiv="2602.02710",
        equation="the estimator with K successes and its control variate, read in the authors' code",
        loss="−(1/N) Σ_i (r_i − r̄)/(r̄ + ε) log π(y_i)",
        conventions=(
            "rewards of 0 or 1, or at least ≥ 0",
            "a group without a success has no gradient, so that the series of log p ends after n − 1 terms",
        ),
        departures=(
            (
                "the authors' code",
                "`p_normalization`: a group of one response gets r/ε as advantage; PPO's clip of the ratio and an "
                "average over tokens",
            ),
            ("prime-rl", "`max_rl`: no ε; groups whose mean reward is not positive get 0, as here"),
        ),
    ),
    "tr_grpo": Reference(
        title=(
            "Token-Regulated Group Relative Policy Optimization for Stable Reinforcement Learning in Large Language "
            "Models"
        ),
        authors="Le, Tue and others",
        year=2025,
        arxiv="2511.00066",
        equation="the token weight",
        loss=(
            "−(1/N) Σ_i (1/|y_i|) Σ_t w_it min(tA, clip(t)A), w = sg[clip(α(σ(τπ) − μ), L, U)] with α = 2, τ = 9, "
            "μ = 0.25, L = 1, U = 1.4"
        ),
        conventions=(
            "unchecked: the weight and its figures were read in grpo-composer, an independent implementation, not in "
            "the paper",
            "without the KL penalty, which that implementation weighs by w as well",
        ),
        departures=(
            (
                "grpo-composer",
                "writes σ(π/τ): at τ = 9 it lies in [0.5, 0.53], and every weight is clipped to L = 1. Here τ "
                "multiplies, at which the bounds are reached at π = 0.12 and 0.33",
            ),
        ),
    ),
    "w_reinforce": Reference(
        title="The Surprising Effectiveness of Negative Reinforcement in LLM Reasoning",
        authors="Zhu, Xinyu and others",
        year=2025,
        arxiv="2506.01347",
        equation="the objectives PSR and NSR and their weighted sum W-REINFORCE",
        loss="−(1/N) Σ_i (λ 1[r_i > 0] − 1[r_i ≤ 0]) log π(y_i)",
        conventions=("a reward above 0 is a success", "no baseline", "λ = 0.1"),
        departures=(
            (
                "the authors' code",
                "PPO's clip of the ratio and an average over tokens; for PSR and NSR alone it drops the responses "
                "without a weight, so that the average is over the others",
            ),
        ),
    ),
}
"""Each recipe of that file has its entry, by its name."""
