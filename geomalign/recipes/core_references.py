"""The publications of the first recipes, those of `policy`, `preference` and `solved`."""

from __future__ import annotations

from geomalign.recipes import policy, preference, solved
from geomalign.recipes.reference import published

__all__: list[str] = []

published(
    title="Simple statistical gradient-following algorithms for connectionist reinforcement learning",
    authors="Williams, Ronald J.",
    year=1992,
    arxiv=None,
    venue="Machine Learning 8",
    equation="Theorem 1",
    loss="−(1/N) Σ_i A_i log π(y_i)",
    conventions=("sum over the response's tokens",),
    departures={"verl 0.9": "a token mean by default, so that a response counts by its length"},
)(policy.reinforce)

published(
    title="Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
    authors="Ahmadian, Arash and others",
    year=2024,
    arxiv="2402.14740",
    equation="6",
    loss="−(1/N) Σ_i (r_i − mean of the others' rewards) log π(y_i)",
    conventions=("whole responses are the actions", "the KL is in the reward; here it is left to `LeashedReward`"),
    departures={
        "verl 0.9": "a group of one keeps its reward as advantage; here its drive is zero",
        "TRL 1.16": "its RLOOTrainer adds PPO's clip of the ratio of whole responses",
    },
)(policy.rloo)

published(
    title="Proximal Policy Optimization Algorithms",
    authors="Schulman, John and others",
    year=2017,
    arxiv="1707.06347",
    equation="7 and 8",
    loss="−E_t[ min(t A, clip(t, 1−ε, 1+ε) A) ], or −E_t[ t A ] + β KL",
    conventions=("mean over all tokens", "dual clip: −max(min(·), cA) where A < 0 (1912.09729)"),
    departures={
        "verl 0.9": "the dual clip is always on, c = 3; Δ clamped to ±20",
        "OpenRLHF 0.11": "dual clip off by default; Δ clamped to ±20",
        "TRL 1.16": "`delta` bounds t from above for both signs (INTELLECT-2), the same where A < 0",
        "torchrl 0.14": "clamps the log-ratio: the same objective",
    },
)(policy.ppo)

published(
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
    departures={
        "TRL 1.16": "the default `loss_type` is `dapo`, not this; 1e-4 added to the standard deviation; β = 0; "
        "`scale_rewards='batch'` divides by the deviation of the raw rewards, here of the centred ones",
        "verl 0.9": "token mean by default; 1e-6 added to the standard deviation; a group of one keeps its reward; "
        "k3 clamped to ±10",
        "OpenRLHF 0.11": "token mean by default; 1e-9 added to the standard deviation",
        "Liger 0.8": "`dapo` by default, β = 0.04",
    },
)(policy.grpo)

published(
    title="Understanding R1-Zero-Like Training: A Critical Perspective",
    authors="Liu, Zichen and others",
    year=2025,
    arxiv="2503.20783",
    equation="§3.2",
    loss="−(1/G) Σ_i (1/L) Σ_t min(t A, clip(t) A), A = r − mean",
    conventions=("L is the generation limit, a constant",),
    departures={
        "TRL 1.16": "as published, L = `max_completion_length`; set `scale_rewards=False` as well",
        "verl 0.9": "`seq-mean-token-sum-norm` divides by the padded width of the micro-batch unless a factor is given",
    },
)(policy.dr_grpo)

published(
    title="DAPO: An Open-Source LLM Reinforcement Learning System at Scale",
    authors="Yu, Qiying and others",
    year=2025,
    arxiv="2503.14476",
    equation="8–9, 12",
    loss="−(1/Σ|y_i|) Σ_i Σ_t min(t A, clip(t, 1−ε_low, 1+ε_high) A), A = (r − mean)/std",
    conventions=("ε_low = 0.2, ε_high = 0.28", "mean over all tokens of the batch"),
    departures={"TRL 1.16": "`loss_type='dapo'` keeps ε_high = ε unless set"},
)(policy.dapo)

published(
    title="Group Sequence Policy Optimization",
    authors="Zheng, Chujie and others",
    year=2025,
    arxiv="2507.18071",
    equation="5–7",
    loss="−(1/G) Σ_i min(s_i A_i, clip(s_i) A_i), s_i = (π(y_i)/π_old(y_i))^{1/|y_i|}",
    conventions=("ε = 3e-4 and 4e-4: of a length-normalised ratio",),
    departures={
        "verl 0.9": "token mean of s_i π/sg[π] by default, so that a response counts by its length; log s clamped "
        "at 10",
        "TRL 1.16": "`importance_sampling_level='sequence'` with `loss_type='grpo'`; with the default `dapo` a "
        "response "
        "counts by its length",
    },
)(policy.gspo)

published(
    title="Orthogonalized Policy Optimization: Policy Optimization as Orthogonal Projection in Hilbert Space",
    authors="Wang, Zixian",
    year=2026,
    arxiv="2601.12415",
    equation="the surrogate of §4",
    loss="(1/N) Σ_i [ (μ/2) u_i² − (ω̃_α − 1) u_i ], ω̃_α ∝ exp((1−α)A/β) of mean one in the group",
    conventions=("α = 1 is uniform, 0 target-driven", "log form: Δ averaged over tokens; ratio form: of the response"),
    departures={
        "the author's code": "α reversed; weights softmax(A/β)^α · softmax(u)^{1−α}; the drive summed over the "
        "group and scaled by "
        "1/α while the penalty is averaged; Δ clamped to ±5",
    },
)(policy.opo)

published(
    title="Group Orthogonalized Policy Optimization: "
    "Group Policy Optimization as Orthogonal Projection in Hilbert Space",
    authors="Wang, Zixian",
    year=2026,
    arxiv="2602.21269",
    equation="the empirical objective of §4",
    loss="(1/N) Σ_i [ (μ/2) v_i² − μ v*_i v_i ], v* = max(−1, (A − λ)/μ), Σ v* = 0 in the group",
    conventions=("the projection is exact here, by sorting; bisection in the paper",),
)(policy.gopo)

published(
    title="Kimi k1.5: Scaling Reinforcement Learning with LLMs",
    authors="Kimi Team",
    year=2025,
    arxiv="2501.12599",
    equation="§2.3.2",
    loss="(1/N) Σ_i [ (τ/2) Δ_i² − (r_i − r̄) Δ_i ]",
    conventions=("the gradient of the squared form divided by 2τ; its constant is not part of the value",),
    departures={
        "verl 0.9": "`dro`: the same square a token, with log π in the linear term: another value, equal gradient"
    },
)(policy.mirror_descent)

published(
    title="Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
    authors="Rafailov, Rafael and others",
    year=2023,
    arxiv="2305.18290",
    equation="7",
    loss="−log σ(β(Δ_chosen − Δ_rejected))",
    conventions=("sums over tokens", "label smoothing is cDPO's"),
    departures={"TRL 1.16": "as published"},
)(preference.dpo)

published(
    title="A General Theoretical Paradigm to Understand Learning from Human Preferences",
    authors="Azar, Mohammad Gheshlaghi and others",
    year=2023,
    arxiv="2310.12036",
    equation="17",
    loss="(Δ_chosen − Δ_rejected − 1/(2τ))²",
    conventions=("the paper sums over tokens; practice averages, which its authors confirm",),
    departures={
        "TRL 1.16": "averages over tokens: 1/(2τ) is nats a token",
        "OpenRLHF 0.11": "sums over tokens, as published",
        "TRL 1.16, CPOTrainer": "`ipo` without a reference, averaged over tokens",
    },
)(preference.ipo)

published(
    title="SLiC-HF: Sequence Likelihood Calibration with Human Feedback",
    authors="Zhao, Yao and others",
    year=2023,
    arxiv="2305.10425",
    equation="2",
    loss="max(0, δ − log π(y⁺) + log π(y⁻)); with a reference and normalised: max(0, 1 − β(Δ⁺ − Δ⁻))",
    conventions=("the reference is that of RSO (2309.06657) and of trainers",),
    departures={"TRL 1.16": "`hinge`, with the reference"},
)(preference.slic)

published(
    title="SimPO: Simple Preference Optimization with a Reference-Free Reward",
    authors="Meng, Yu and Xia, Mengzhou and Chen, Danqi",
    year=2024,
    arxiv="2405.14734",
    equation="6",
    loss="−log σ(β log π(y⁺)/|y⁺| − β log π(y⁻)/|y⁻| − γ)",
    conventions=("γ is a margin of rewards; γ/β of log-probabilities",),
    departures={
        "TRL 1.16": "in its CPOTrainer, which adds CPO's likelihood unless `cpo_alpha=0`",
        "Liger 0.8": "as published",
    },
)(preference.simpo)

published(
    title="Correcting the Mythos of KL-Regularization: Direct Alignment without Overoptimization via Chi-Squared "
    "Preference Optimization",
    authors="Huang, Audrey and others",
    year=2024,
    arxiv="2407.13399",
    equation="Algorithm 1",
    loss="−log σ(clip_{2R}(β(φ(t⁺) − φ(t⁻)))), φ(t) = t + log t",
    conventions=("without the clip to ±2R_max",),
)(preference.chi_po)

for _solved, _rule in (
    (solved.opo_trust_region, "μ from a radius ε of the step"),
    (solved.opo_ess, "α from the effective sample size of the escort weights"),
    (solved.opo_held, "μ from the stiffness that holds a divergence at its target"),
    (solved.opo_annealed, "μ from a schedule"),
):
    published(
        title="Orthogonalized Policy Optimization: Policy Optimization as Orthogonal Projection in Hilbert Space",
        authors="Wang, Zixian",
        year=2026,
        arxiv="2601.12415",
        equation="this library's, from the duality of its constraint",
        loss=f"OPO with {_rule}",
    )(_solved)
