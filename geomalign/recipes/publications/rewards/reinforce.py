"""The publications of the recipes of `recipes/rewards/reinforce.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
    "awr": Reference(
        title="Advantage-Weighted Regression: Simple and Scalable Off-Policy Reinforcement Learning",
        authors="Peng, Xue Bin and others",
        year=2019,
        arxiv="1910.00177",
        equation="the weighted regression",
        loss="−(1/N) Σ_i min(exp(A_i/β), ω_max) log π(y_i)",
        conventions=(
            "weights are neither normalised nor centred",
            "ω_max = 20 in its code",
        ),
    ),
    "best_of_k": Reference(
        title="Optimizing Language Models for Inference Time Objectives using Reinforcement Learning",
        authors="Tang, Yunhao and others",
        year=2025,
        arxiv="2503.19595",
        equation="the leave-one-out estimate of §4",
        loss="−(1/N) Σ_i (max_j r_j − max_{j≠i} r_j) log π(y_i)",
        conventions=(
            "not divided by the standard deviation",
            "the group is the k of pass@k",
            "the mean over the N responses is 1/k of ∇E[max of k], whose estimate is the sum over the group",
        ),
        departures=(
            (
                "verl 0.9",
                "`grpo_passk`: PPO's clip around it, divided by the group's standard deviation by default; of "
                "equal best rewards the first has the difference 0 anyway",
            ),
        ),
    ),
    "gpg": Reference(
        title="GPG: A Simple and Strong Reinforcement Learning Baseline for Model Reasoning",
        authors="Chu, Xiangxiang and others",
        year=2025,
        arxiv="2504.02546",
        equation="the objective and its debiased advantage",
        loss="−(1/Σ|y_i|) Σ_i Σ_t α A_i log π(y_it), A = (r − mean)/F_norm, α = B/(B − M)",
        conventions=(
            "F_norm = 1",
            "M responses stand in groups that were solved or failed throughout",
        ),
        departures=(("verl 0.9", "α = B/(number of non-zero rewards): another quantity, equal only by chance"),),
    ),
    "optimal_baseline": Reference(
        title="On-Policy RL with Optimal Reward Baseline",
        authors="Hao, Yaru and others",
        year=2025,
        arxiv="2505.23585",
        equation="the optimal baseline and its length-weighted form",
        loss="−(1/N) Σ_i (r_i − b*) log π(y_i), b* = Σ_j |y_j| r_j / Σ_j |y_j| in the group",
        conventions=("exactly on policy: no ratio, no clip, no KL",),
        departures=(("verl 0.9", "called `opo`; a group of one keeps its reward as advantage"),),
    ),
    "raft": Reference(
        title="RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment",
        authors="Dong, Hanze and others",
        year=2023,
        arxiv="2304.06767",
        equation="Algorithm 1",
        loss="−(1/#prompts) Σ_x log π(y*(x)), y* the best of the responses to x",
        conventions=(
            "sums over a response's tokens; trainers' SFT averages over tokens",
            "of equals the first",
        ),
    ),
    "reinforce": Reference(
        title="Simple statistical gradient-following algorithms for connectionist reinforcement learning",
        authors="Williams, Ronald J.",
        year=1992,
        arxiv=None,
        equation="Theorem 1",
        loss="−(1/N) Σ_i A_i log π(y_i)",
        conventions=("sum over the response's tokens",),
        departures=(("verl 0.9", "a token mean by default, so that a response counts by its length"),),
        venue="Machine Learning 8",
    ),
    "reinforce_plus_plus": Reference(
        title="REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Advantage Normalization",
        authors="Hu, Jian and others",
        year=2025,
        arxiv="2501.03262",
        equation="the normalised advantage",
        loss=(
            "−(1/Σ|y_i|) Σ_i Σ_t min(t A, clip(t) A), A = (A⁰ − mean)/std over the batch's tokens, A⁰_t = r − β "
            "Σ_{s≥t} Δ^ref_s"
        ),
        conventions=(
            "normalised over the whole batch, in which a response counts by its length",
            "k1 in the reward",
        ),
        departures=(
            ("verl 0.9", "1e-8 added to the variance; the return skips observation tokens"),
            ("OpenRLHF 0.11", "`reinforce` and `reinforce_baseline`: the biased variance, clamped from below at 1e-8"),
        ),
    ),
    "remax": Reference(
        title=(
            "ReMax: A Simple, Effective, and Efficient Reinforcement Learning Method for Aligning Large Language Models"
        ),
        authors="Li, Ziniu and others",
        year=2023,
        arxiv="2310.10505",
        equation="the ReMax gradient estimator",
        loss="−(1/N) Σ_i (r(y_i) − r(ȳ_i)) log π(y_i), ȳ the greedy response to the same prompt",
        conventions=(
            "the baseline is the reward of a response that is not in the batch: pass r − r(ȳ) as `advantage`",
        ),
        departures=(
            (
                "the authors' code",
                "a mean over the response's tokens, so that a token of a response counts by 1/|y|; PPO's clip of the "
                "ratio; and a KL penalty in the reward of every token",
            ),
        ),
    ),
    "rloo": Reference(
        title="Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
        authors="Ahmadian, Arash and others",
        year=2024,
        arxiv="2402.14740",
        equation="6",
        loss="−(1/N) Σ_i (r_i − mean of the others' rewards) log π(y_i)",
        conventions=(
            "whole responses are the actions",
            "the KL is in the reward; here it is left to `KLReward`",
        ),
        departures=(
            ("verl 0.9", "a group of one keeps its reward as advantage; here its drive is zero"),
            ("TRL 1.16", "its RLOOTrainer adds PPO's clip of the ratio of whole responses"),
        ),
    ),
}
"""Each recipe of that file has its entry, by its name."""
