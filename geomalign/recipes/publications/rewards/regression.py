"""The publications of the recipes of `recipes/rewards/regression.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
    "a2po": Reference(
        title="Accelerating RL for LLM Reasoning with Optimal Advantage Regression",
        authors="Brantley, Kiant{\\'e} and others",
        year=2025,
        arxiv="2505.20686",
        equation="the regression of its second stage",
        loss=(
            "(1/N) Σ_i (β₂ log(π(y_i)/π_ref(y_i)) − (r_i − V*(x_i)))², V* = β₁ log mean exp(r/β₁) over responses of "
            "π_ref"
        ),
        conventions=("V* is estimated before training from other samples: pass r − V* as `advantage`",),
        departures=(("TRL 1.16", "as published; β₂ = 1e-3, β₁ = 0.5"),),
    ),
    "dro": Reference(
        title="Offline Regularised Reinforcement Learning for Large Language Models Alignment",
        authors="Richemond, Pierre Harvey and others",
        year=2024,
        arxiv="2405.19107",
        equation="the DRO-V loss",
        loss="(1/N) Σ_i ½ (r_i − V(x_i) − τ log(π(y_i)/π_ref(y_i)))²",
        conventions=(
            "V is learnt beside the policy: pass r − V as `advantage`",
            "sum over the response's tokens",
        ),
        departures=(("verl 0.9", "a square per token without V: −(log π · A − ½β Δ²), measured from the old policy"),),
    ),
    "gvpo": Reference(
        title="GVPO: Group Variance Policy Optimization for Large Language Model Post-Training",
        authors=(
            "Zhang, Kaichen and Hong, Yuzhong and Bao, Junwei and Jiang, Hongfei and Song, Yang and Hong, Dingqian and "
            "Xiong, Hui"
        ),
        year=2025,
        arxiv="2504.19599",
        equation="the loss as a mean squared error, as in the authors' code",
        loss="(1/P) Σ_G (1/(n−1)) Σ_i ½[(r_i − r̄) − (βΔ_i − mean βΔ)]²",
        conventions=(
            "a prompt counts by its responses where groups differ in size",
            "Δ of whole responses, from the policy that sampled or the reference",
        ),
        departures=(
            ("verl's recipe", "a sum over the responses of the micro-batch, not a mean over prompts; β = 0.1"),
            ("Trinity-RFT, `pairwise_opmd`", "the same square, divided by the number of tokens; Δ from π itself"),
        ),
    ),
    "pmd": Reference(
        title="Kimi k1.5: Scaling Reinforcement Learning with LLMs",
        authors="Kimi Team",
        year=2025,
        arxiv="2501.12599",
        equation="§2.3.2, the surrogate with both estimates of τ log Z, read in a summary with formulas",
        loss="(1/N) Σ_i (r_i − τ log mean e^{r/τ} − τΔ_i)²",
        conventions=(
            "divided by 2τ, as the published gradient is",
            "Δ of whole responses, from the policy that sampled",
        ),
        departures=(("Trinity-RFT", "see `opmd`: without the square, with either estimate as the baseline"),),
    ),
}
"""Each recipe of that file has its entry, by its name."""
