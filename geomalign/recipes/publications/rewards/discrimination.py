"""The publications of the recipes of `recipes/rewards/discrimination.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
    "amir_grpo": Reference(
        title="AMIR-GRPO: Inducing Implicit Preference Signals into GRPO",
        authors="Yari, Amir Hossein and Koto, Fajri",
        year=2026,
        arxiv="2601.03661",
        equation="the preference regulariser, as in the authors' code",
        loss="L_GRPO − λ mean over pairs of a group with r_i − r_j > δ of log σ(β(u_i − u_j)), u = log π or Δ_ref",
        conventions=(
            "log π of whole responses, without a reference as in the authors' command",
            "the pairs of a group weigh by its responses",
        ),
        departures=(("the authors' code", "one mean over the pairs of all groups; δ = 2, λ = 0.01, β = 0.2"),),
    ),
    "disco": Reference(
        title="DisCO: Reinforcing Large Reasoning Models with Discriminative Constrained Optimization",
        authors="Li, Gang and Lin, Ming and Galanti, Tomer and Tu, Zhengzhong and Yang, Tianbao",
        year=2025,
        arxiv="2505.12366",
        equation="as in the authors' code, with the log-likelihood as the score",
        loss="(1/P) Σ_G [τ log mean₋ e^{s/τ} − mean₊ s] + (β/2) [KL − δ]₊², s = (1/|y|) log π(y)",
        conventions=(
            "right and wrong are r > 0 and r ≤ 0",
            "a group of one kind counts in the mean over prompts, with zero",
            "KL = −mean Δ over all tokens, from the policy that sampled",
        ),
        departures=(
            (
                "the authors' code",
                "the value of the constraint is β[KL − δ]₊·KL with a constant first factor, and that of the softmax is "
                "τ: equal gradients; `disco_Lratio` calls the basic form",
            ),
        ),
    ),
    "f_grpo": Reference(
        title="f-GRPO and Beyond: Divergence-Based Reinforcement Learning Algorithms for General LLM Alignment",
        authors="Haldar, Rajdeep and Mei, Lantao and Lin, Guang and Xing, Yue and Song, Qifan",
        year=2026,
        arxiv="2602.05946",
        equation="the loss of f-GRPO, as an exposition quotes it",
        loss="(1/P) Σ_p (1/Σ_i|y_i|) Σ_i Σ_t [−A₊ T(v) + A₋ ψ*(T(v))]/(1 + β⁻¹), v = β log π/π_ref",
        conventions=(
            "unchecked: read in an exposition of the paper, not in the paper",
            "unchecked: the weights w± before T and ψ*, which are 1 here",
            "unchecked: β = 0.1; T and ψ* are those of f-GAN's table",
        ),
        departures=(("the authors' code", "is said, in a review, to add γ(log π − log π_old) to v"),),
    ),
    "nft": Reference(
        title="Bridging Supervised Learning and Reinforcement Learning in Math Reasoning",
        authors=(
            "Chen, Huayu and Zheng, Kaiwen and Zhang, Qinsheng and Cui, Ganqu and Cui, Yin and Ye, Haotian and Lin, "
            "Tsung-Yi and Liu, Ming-Yu and Zhu, Jun and Wang, Haoxiang"
        ),
        year=2025,
        arxiv="2505.18116",
        equation="as in the authors' code, the ratio of tokens",
        loss="−Σ_i Σ_t ω [r_i log t + (1 − r_i) log max((1 − pt)/(1 − p), ε)], p the group's success rate",
        conventions=("the mean over tokens", "ω = 1 − p, the default of the authors' code"),
        departures=(
            (
                "the authors' code",
                "a sum over tokens; p in [0.02, 0.98]; Δ at most 10; below ε the value is constant and the gradient "
                "that of the tangent",
            ),
        ),
    ),
}
"""Each recipe of that file has its entry, by its name."""
