"""The publications of the recipes of `recipes/rewards/ppo.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
    "bnpo": Reference(
        title="TRL: Transformer Reinforcement Learning, `loss_type='bnpo'`",
        authors="von Werra, Leandro and others",
        year=2025,
        arxiv=None,
        equation="documentation of GRPOConfig",
        loss="−(1/Σ|y_i|) Σ_i Σ_t min(t_it A_i, clip(t_it, 1−ε, 1+ε) A_i)",
        conventions=("mean over all tokens of the batch, symmetric clip",),
        departures=(
            (
                "TRL 1.16",
                "the mean is over the tokens of each micro-batch and averaged over accumulation steps, so that the "
                "loss depends on how the batch was split",
            ),
        ),
        venue="https://github.com/huggingface/trl",
    ),
    "cfpo": Reference(
        title="Clipping-Free Policy Optimization for Large Language Models",
        authors='{\\c{C}}a{\\u{g}}atan, {\\"O}mer Veysel and others',
        year=2026,
        arxiv="2601.22801",
        equation="7–8 by their numbers in implementations; Simple Policy Optimization (2401.16025) has the same square",
        loss="−(1/N) Σ_i (1/|y_i|) Σ_t [ t_it A_i − (|A_i|/2ε)(t_it − 1)² ], less β times a k3 KL penalty",
        conventions=(
            "ε is PPO's: the square has its minimum where PPO has its wall",
            'without the KL penalty here: add `beta * kl_penalty("k3")`',
            "checked against two implementations that cite its equations, not against the paper's text",
        ),
    ),
    "dapo": Reference(
        title="DAPO: An Open-Source LLM Reinforcement Learning System at Scale",
        authors="Yu, Qiying and others",
        year=2025,
        arxiv="2503.14476",
        equation="8–9, 12",
        loss="−(1/Σ|y_i|) Σ_i Σ_t min(t A, clip(t, 1−ε_low, 1+ε_high) A), A = (r − mean)/std",
        conventions=(
            "ε_low = 0.2, ε_high = 0.28",
            "mean over all tokens of the batch",
        ),
        departures=(("TRL 1.16", "`loss_type='dapo'` keeps ε_high = ε unless set"),),
    ),
    "dr_grpo": Reference(
        title="Understanding R1-Zero-Like Training: A Critical Perspective",
        authors="Liu, Zichen and others",
        year=2025,
        arxiv="2503.20783",
        equation="§3.2",
        loss="−(1/G) Σ_i (1/L) Σ_t min(t A, clip(t) A), A = r − mean",
        conventions=("L is the generation limit, a constant",),
        departures=(
            ("TRL 1.16", "as published, L = `max_completion_length`; set `scale_rewards=False` as well"),
            (
                "verl 0.9",
                "`seq-mean-token-sum-norm` divides by the padded width of the micro-batch unless a factor is given",
            ),
        ),
    ),
    "gmpo": Reference(
        title="Geometric-Mean Policy Optimization",
        authors="Zhao, Yuzhong and others",
        year=2025,
        arxiv="2507.20673",
        equation="the GMPO objective",
        loss=(
            "−(1/N) Σ_i A_i exp( (1/|y_i|) Σ_t clip_A(Δ_it) ), clip_A = min(Δ, ε_high) where A > 0, max(Δ, −ε_low) "
            "where A < 0"
        ),
        conventions=(
            "ε is in nats of log t: the ratio is kept within (e^−0.4, e^0.4)",
            "clips tokens, before the mean",
        ),
        departures=(("verl 0.9", "averages the advantage over the masked tokens and adds 1e-8 to the length"),),
    ),
    "grpo": Reference(
        title="DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        authors="Shao, Zhihong and others",
        year=2024,
        arxiv="2402.03300",
        equation="3–4",
        loss="−(1/G) Σ_i (1/|y_i|) Σ_t [ min(t A, clip(t) A) − β (e^{−Δ_ref} + Δ_ref − 1) ], A = (r − mean)/std",
        conventions=(
            "ddof 1 in trainers; the paper does not say",
            "mean over tokens within responses first",
            "k3 in the loss",
        ),
        departures=(
            (
                "TRL 1.16",
                "the default `loss_type` is `dapo`, not this; 1e-4 added to the standard deviation; β = 0; "
                "`scale_rewards='batch'` divides by the deviation of the raw rewards, here of the centred ones",
            ),
            (
                "verl 0.9",
                "token mean by default; 1e-6 added to the standard deviation; a group of one keeps its reward; k3 "
                "clamped to ±10",
            ),
            ("OpenRLHF 0.11", "token mean by default; 1e-9 added to the standard deviation"),
            ("Liger 0.8", "`dapo` by default, β = 0.04"),
        ),
    ),
    "gspo": Reference(
        title="Group Sequence Policy Optimization",
        authors="Zheng, Chujie and others",
        year=2025,
        arxiv="2507.18071",
        equation="5–7",
        loss="−(1/G) Σ_i min(s_i A_i, clip(s_i) A_i), s_i = (π(y_i)/π_old(y_i))^{1/|y_i|}",
        conventions=("ε = 3e-4 and 4e-4: of a length-normalised ratio",),
        departures=(
            (
                "verl 0.9",
                "token mean of s_i π/sg[π] by default, so that a response counts by its length; log s clamped at 10",
            ),
            (
                "TRL 1.16",
                "`importance_sampling_level='sequence'` with `loss_type='grpo'`; with the default `dapo` a "
                "response counts by its length",
            ),
        ),
    ),
    "luspo": Reference(
        title=(
            "Length-Unbiased Sequence Policy Optimization: Revealing and Controlling Response Length Variation in RLVR"
        ),
        authors="Liu, Fanfan and others",
        year=2026,
        arxiv="2602.05261",
        equation="the LUSPO objective, clip ranges of §5.1",
        loss="−(1/N) Σ_i |y_i| min(s_i A_i, clip(s_i, 1−ε, 1+ε_high) A_i), s_i = (π(y_i)/π_old(y_i))^{1/|y_i|}",
        conventions=("GSPO's loss of every response times its length",),
        departures=(
            (
                "TRL 1.16",
                "sums the loss over tokens; with `importance_sampling_level='token'`, the configuration's default, "
                "it warns and computes another objective",
            ),
            ("Liger 0.8", "as TRL"),
        ),
    ),
    "pass_at_k": Reference(
        title="Pass@k Training for Adaptively Balancing Exploration and Exploitation of Large Reasoning Models",
        authors="Chen, Zhipeng and others",
        year=2025,
        arxiv="2508.10751",
        equation="the analytical derivation",
        loss=(
            "GRPO with A(success) = (1 − R̄)/σ, A(failure) = (1 − R̄ − C(N⁻−1, k−1)/C(N−1, k−1))/σ, R̄ = 1 − C(N⁻, "
            "k)/C(N, k)"
        ),
        conventions=(
            "binary rewards",
            "σ = √(R̄(1−R̄)), the biased one; k = 1 is GRPO with ddof 0",
        ),
    ),
    "ppo": Reference(
        title="Proximal Policy Optimization Algorithms",
        authors="Schulman, John and others",
        year=2017,
        arxiv="1707.06347",
        equation="7 and 8",
        loss="−E_t[ min(t A, clip(t, 1−ε, 1+ε) A) ], or −E_t[ t A ] + β KL",
        conventions=(
            "mean over all tokens",
            "dual clip: −max(min(·), cA) where A < 0 (1912.09729)",
        ),
        departures=(
            ("verl 0.9", "the dual clip is always on, c = 3; Δ clamped to ±20"),
            ("OpenRLHF 0.11", "dual clip off by default; Δ clamped to ±20"),
            ("TRL 1.16", "`delta` bounds t from above for both signs (INTELLECT-2), the same where A < 0"),
            ("torchrl 0.14", "clamps the log-ratio: the same objective"),
        ),
    ),
    "sapo": Reference(
        title="Soft Adaptive Policy Optimization",
        authors="Gao, Chang and others",
        year=2025,
        arxiv="2511.20347",
        equation="the soft gate and the objective",
        loss="−(1/N) Σ_i (1/|y_i|) Σ_t (4/τ_i) σ(τ_i (t_it − 1)) A_i, τ by the sign of A",
        conventions=(
            "τ_neg where A ≤ 0",
            "the factor 4/τ makes the gradient at t = 1 that of t·A",
        ),
        departures=(
            ("verl 0.9", "always averages over responses first, whatever `loss_agg_mode` says; Δ clamped to ±20"),
            (
                "Trinity-RFT 0.6",
                "has the gate (4/τ) σ(τ(t − 1)) as the weight of ∇log π, 2/τ at t = 1 and rising with t, where the "
                "published gradient is its derivative; a mean over tokens by default",
            ),
        ),
    ),
}
"""Each recipe of that file has its entry, by its name."""
