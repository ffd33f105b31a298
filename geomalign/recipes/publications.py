"""The publications of the recipes: one table of data, by the name of the recipe."""

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
    "adpo": Reference(
        title="Anchored Direct Preference Optimization",
        authors="Zixian, Wang",
        year=2025,
        arxiv="2510.18913",
        equation="the listwise cross-entropy",
        loss="−(1/P) Σ_G Σ_i q_i log p_i, p = softmax(Δ/τ), q = softmax(z/β_r), z = (r − r̄)/(std + 1e-8)",
        conventions=(
            "a prompt counts by its responses where groups differ in size",
            "the value is KL(q‖p)",
        ),
        departures=(
            ("the author's code for verl", "divides by the standard deviation twice; τ grows with entropy by default"),
        ),
    ),
    "alpha_po": Reference(
        title="AlphaPO: Reward Shape Matters for LLM Alignment",
        authors="Gupta, Aman and others",
        year=2025,
        arxiv="2501.03884",
        equation="the AlphaPO reward and loss",
        loss="−log σ(β(r⁺ − r⁻) − γ), r = (1 − p^{−α})/α, p = π(y)^{1/|y|}",
        conventions=("length-normalised, as SimPO; α → 0 is SimPO",),
        departures=(
            (
                "TRL 1.16",
                "`CPOConfig(alpha=…)`: the transformation before any CPO loss; normalised only where the loss is "
                "`simpo` or `ipo`",
            ),
        ),
    ),
    "aot": Reference(
        title="Distributional Preference Alignment of LLMs via Optimal Transport",
        authors="Melnyk, Igor and others",
        year=2024,
        arxiv="2406.05882",
        equation="the paired loss",
        loss="−(1/P) Σ_k log σ(β(m_(k) − m^ref_(k))), m = log π(y⁺) − log π(y⁻), both sorted over the batch",
        conventions=("the batch is the sample: ranks are taken within it",),
        departures=(
            ("TRL 1.16", "`aot`, as published, with label smoothing; sorts within a process, not over all of them"),
        ),
    ),
    "aot_unpaired": Reference(
        title="Distributional Preference Alignment of LLMs via Optimal Transport",
        authors="Melnyk, Igor and others",
        year=2024,
        arxiv="2406.05882",
        equation="the unpaired loss",
        loss="−(1/P) Σ_k log σ(β(Δ⁺_(k) − Δ⁻_(k))), chosen and rejected log-ratios each sorted over the batch",
        conventions=("chosen and rejected need not belong to one prompt",),
        departures=(("TRL 1.16", "`aot_unpaired`, as published, with label smoothing"),),
    ),
    "apo_down": Reference(
        title="Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification in Alignment",
        authors="D'Oosterlinck, Karel and others",
        year=2024,
        arxiv="2408.06266",
        equation="8",
        loss="σ(βΔ⁺) − σ(β(Δ⁺ − Δ⁻)), up to the constant 1",
        conventions=("the value has the constant 1, as in trainers",),
        departures=(("TRL 1.16", "`apo_down`, as published"),),
    ),
    "apo_zero": Reference(
        title="Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification in Alignment",
        authors="D'Oosterlinck, Karel and others",
        year=2024,
        arxiv="2408.06266",
        equation="7",
        loss="−σ(βΔ⁺) + σ(βΔ⁻), up to the constant 1",
        conventions=(
            "the value has the constant 1, as in trainers",
            "summed over the two responses of a pair",
        ),
        departures=(("TRL 1.16", "`apo_zero`; `apo_zero_unpaired` in its KTO trainer averages over responses"),),
    ),
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
    "bco": Reference(
        title="Binary Classifier Optimization for Large Language Model Alignment",
        authors="Jung, Seungjae and others",
        year=2024,
        arxiv="2404.04656",
        equation="the BCO loss and its reward shift",
        loss="−log σ(βΔ⁺ − δ) − log σ(−(βΔ⁻ − δ)), δ = ½(E[βΔ⁺] + E[βΔ⁻])",
        conventions=(
            "δ is a running mean, given as a number",
            "summed over the two responses of a pair",
        ),
        departures=(
            ("TRL 1.16", "`bco_pair` leaves δ out"),
            (
                "the paper",
                "weights rejected responses by a density ratio of prompts where the two sets differ: not here, it "
                "needs a classifier",
            ),
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
    "cdpo": Reference(
        title="A note on DPO with noisy preferences and relationship to IPO",
        authors="Mitchell, Eric",
        year=2023,
        arxiv=None,
        equation="3",
        loss="−(1−ε) log σ(βu) − ε log σ(−βu), u = Δ_chosen − Δ_rejected",
        departures=(
            (
                "TRL 1.16",
                "`label_smoothing` of the sigmoid loss is no longer used there; it is in `exo_pair`, `robust`, `aot`",
            ),
        ),
        venue="https://ericmitchell.ai/cdpo.pdf",
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
    "chi_po": Reference(
        title=(
            "Correcting the Mythos of KL-Regularization: Direct Alignment without Overoptimization via Chi-Squared "
            "Preference Optimization"
        ),
        authors="Huang, Audrey and others",
        year=2024,
        arxiv="2407.13399",
        equation="Algorithm 1",
        loss="−log σ(clip_{2R}(β(φ(t⁺) − φ(t⁻)))), φ(t) = t + log t",
        conventions=("without the clip to ±2R_max",),
    ),
    "cispo": Reference(
        title="MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention",
        authors="MiniMax",
        year=2025,
        arxiv="2506.13585",
        equation="4–5",
        loss="−(1/Σ|y_i|) Σ_i Σ_t sg[clip(t_it, 1−ε_low, 1+ε_high)] A_i log π(y_it)",
        conventions=(
            "bounds are of the ratio itself: high=5 is ε_high = 4 in the paper's notation",
            "the paper uses no lower bound in practice",
            "mean over all tokens of the batch; A = (r − mean)/std, ddof 1",
        ),
        departures=(
            (
                "TRL 1.16",
                "clamps at `epsilon_high` itself, not 1 + ε; with the default 0.2 every weight becomes 0.2 or less",
            ),
            ("verl 0.9", "both bounds, 1 ± ε with ε = 0.2 by default; Δ clamped to ±20"),
            ("torchrl 0.14", "no stop-gradient and no log π: −clip(t)·A, so zero gradient outside the band"),
            ("Liger 0.8", "as TRL; refuses sequence-level ratios"),
        ),
    ),
    "cpo": Reference(
        title="Contrastive Preference Optimization: Pushing the Boundaries of LLM Performance in Machine Translation",
        authors="Xu, Haoran and others",
        year=2024,
        arxiv="2401.08417",
        equation="3",
        loss="−log σ(β log π(y⁺) − β log π(y⁻)) − log π(y⁺)",
        conventions=("sums over tokens in both terms",),
        departures=(
            ("TRL 1.16", "the likelihood is averaged over all tokens of the micro-batch, and weighted by `cpo_alpha`"),
            ("Liger 0.8", "as TRL"),
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
    "discopop": Reference(
        title="Discovering Preference Optimization Algorithms with and for Large Language Models",
        authors="Lu, Chris and others",
        year=2024,
        arxiv="2406.08414",
        equation="5",
        loss="(1−s)·(−log σ(βu)) + s·e^{−βu}, s = σ(βu/τ)",
        conventions=(
            "β = 0.05 in the paper's runs",
            "neither convex nor monotone in u",
        ),
        departures=(("TRL 1.16", "`discopop`, as published, with β = 0.1 by default"),),
    ),
    "dpo": Reference(
        title="Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        authors="Rafailov, Rafael and others",
        year=2023,
        arxiv="2305.18290",
        equation="7",
        loss="−log σ(β(Δ_chosen − Δ_rejected))",
        conventions=(
            "sums over tokens",
            "label smoothing is cDPO's",
        ),
        departures=(("TRL 1.16", "as published"),),
    ),
    "dpo_norm": Reference(
        title="Tulu 3: Pushing Frontiers in Open Language Model Post-Training",
        authors="Lambert, Nathan and others",
        year=2024,
        arxiv="2411.15124",
        equation="length-normalised DPO",
        loss="−log σ(β(Δ_chosen/|y⁺| − Δ_rejected/|y⁻|))",
        conventions=("β is about 5, not 0.1: the margin is a difference of averages",),
        departures=(
            ("TRL 1.16", "`sigmoid_norm`, with β = 0.1 by default"),
            ("open-instruct", "`dpo_norm`, the origin"),
        ),
    ),
    "dppo": Reference(
        title="Rethinking the Trust Region in LLM Reinforcement Learning",
        authors="Qi, Penghui and others",
        year=2026,
        arxiv="2602.04879",
        equation="the masked surrogate, binary approximation",
        loss=(
            "−(1/Σ|y_i|) Σ_i Σ_t sg[M_it min(t_it, cap)] A_i log π(y_it), M = 0 where (t−1)A > 0 and D(π_old‖π) > δ of "
            "the event {this token, any other}"
        ),
        conventions=(
            "δ is a probability (TV) or nats (KL), not a distance of the ratio",
            "the mask stops only a token that moves further out",
            "A = r − mean: the paper's runs do not divide by the standard deviation",
            "cap = 20 is the default of verl's function",
        ),
        departures=(
            ("the authors' code", "a cap of 10: the weight of a token whose ratio exceeds 20 is half of this one's"),
            (
                "verl 0.9",
                "δ is the `clip_ratio`, so the default is 0.2; the cap is `clip_ratio_c`, 3 in its configuration; "
                "1e-8 inside the KL's logarithms; Δ clamped to ±20",
            ),
        ),
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
    "exo": Reference(
        title="Towards Efficient Exact Optimization of Language Model Alignment",
        authors="Ji, Haozhe and others",
        year=2024,
        arxiv="2402.00856",
        equation="16",
        loss="σ(βu) log(σ(βu)/(1−ε)) + σ(−βu) log(σ(−βu)/ε), u = Δ_chosen − Δ_rejected",
        conventions=(
            "ε > 0: a sure label has infinite reverse KL",
            "β here is the paper's β_π with β_r = 1",
        ),
        departures=(
            (
                "the authors' code",
                "log-probabilities 0 and −10 of the two labels, not normalised: a drive of 10, where ε = 1e-3 gives "
                "log(0.999/0.001) = 6.9, so that this gradient is 0.69 of theirs at the reference",
            ),
            ("TRL 1.16", "`exo_pair`, as published"),
            ("Liger 0.8", "as published; refuses ε = 0"),
        ),
    ),
    "f_dpo": Reference(
        title="Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence Constraints",
        authors="Wang, Chaoqi and others",
        year=2023,
        arxiv="2309.16240",
        equation="table 1",
        loss="−log σ(β(f'(t_chosen) − f'(t_rejected))), t = π/π_ref of a response",
        conventions=(
            "forward KL: f' = −1/t, mass-covering; JS: f' = log(2t/(1+t)); α: f' = (1 − t^−α)/α, α in (0, 1)",
            "scales of f do not matter beyond β; Hellinger here is 2(√t − 1)², χ² is (t − 1)²/2",
        ),
        departures=(
            (
                "TRL 1.16",
                "`f_alpha_divergence_coef` is the order 1 − α: α = 1 there is reverse KL, here α → 0; clamps the "
                "exponent at 80",
            ),
        ),
    ),
    "generalized_jsd": Reference(
        title="On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
        authors="Agarwal, Rishabh and others",
        year=2023,
        arxiv="2306.13649",
        equation="1",
        loss="β KL(T‖M) + (1−β) KL(S‖M), M = βT + (1−β)S, at every step over the vocabulary",
        conventions=(
            "here the unbiased estimate from tokens that the teacher sampled, ψ(S/T) per token",
            "β is the teacher's share of the mixture",
        ),
        departures=(
            ("TRL 1.16", "over the vocabulary; β = 0 and 1 are KL(T‖S) and KL(S‖T), not the limits 0 of the formula"),
            ("Liger 0.8", "as TRL"),
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
    "gopo": Reference(
        title=(
            "Group Orthogonalized Policy Optimization: Group Policy Optimization as Orthogonal Projection in Hilbert "
            "Space"
        ),
        authors="Wang, Zixian",
        year=2026,
        arxiv="2602.21269",
        equation="§4.5, eq. 23–24 of the author's LaTeX (28 February 2026)",
        loss="(1/N) Σ_i [ (μ/2) v_i² − μ v*_i v_i ], v* = max(−1, (A − λ)/μ), Σ v* = 0 in the group",
        conventions=(
            "the projection is exact here; by bisection in the paper",
            "without the constant (μ/2) v*_i² of eq. 24",
        ),
        departures=(
            (
                "the author's code",
                "the ratio is e^x with x the log-ratio averaged over the response's tokens and clamped at ±5, beyond "
                "which it has no gradient; here it is the response's. Advantages are divided by the group's standard "
                "deviation by default",
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
    "gpo_exponential": Reference(
        title="Generalized Preference Optimization: A Unified Approach to Offline Alignment",
        authors="Tang, Yunhao and others",
        year=2024,
        arxiv="2402.05749",
        equation="table 1",
        loss="e^{−βu}, u = Δ_chosen − Δ_rejected",
        conventions=("f(x) = e^{−x} at x = βu",),
    ),
    "gpo_savage": Reference(
        title="Generalized Preference Optimization: A Unified Approach to Offline Alignment",
        authors="Tang, Yunhao and others",
        year=2024,
        arxiv="2402.05749",
        equation="table 1",
        loss="1/(1 + e^{βu})², u = Δ_chosen − Δ_rejected",
        conventions=("f(x) = 1/(1+e^x)² at x = βu",),
    ),
    "gpo_truncated_quadratic": Reference(
        title="Generalized Preference Optimization: A Unified Approach to Offline Alignment",
        authors="Tang, Yunhao and others",
        year=2024,
        arxiv="2402.05749",
        equation="table 1",
        loss="max(0, 1 − βu)², u = Δ_chosen − Δ_rejected",
        conventions=("f(x) = max(0, 1−x)² at x = βu",),
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
    "info_nca": Reference(
        title="Noise Contrastive Alignment of Language Models with Explicit Rewards",
        authors="Chen, Huayu and He, Guande and Yuan, Lifan and Cui, Ganqu and Su, Hang and Zhu, Jun",
        year=2024,
        arxiv="2402.05369",
        equation="the InfoNCA loss",
        loss="−(1/P) Σ_G Σ_i q_i log p_i, p = softmax(βΔ_ref), q = softmax(r/α)",
        conventions=("the value is KL(q‖p)", "α's default is unchecked"),
    ),
    "ipo": Reference(
        title="A General Theoretical Paradigm to Understand Learning from Human Preferences",
        authors="Azar, Mohammad Gheshlaghi and others",
        year=2023,
        arxiv="2310.12036",
        equation="17",
        loss="(Δ_chosen − Δ_rejected − 1/(2τ))²",
        conventions=("the paper sums over tokens; practice averages, which its authors confirm",),
        departures=(
            ("TRL 1.16", "averages over tokens: 1/(2τ) is in nats per token"),
            ("OpenRLHF 0.11", "sums over tokens, as published"),
            ("TRL 1.16, CPOTrainer", "`ipo` without a reference, averaged over tokens"),
        ),
    ),
    "kto": Reference(
        title="KTO: Model Alignment as Prospect Theoretic Optimization",
        authors="Ethayarajh, Kawin and others",
        year=2024,
        arxiv="2402.01306",
        equation="7, as trainers count",
        loss="λ_D (1 − σ(β(Δ − z₀))) for desirable, λ_U (1 − σ(β(z₀ − Δ))) for undesirable responses",
        conventions=(
            "z₀ = max(0, mean Δ of mismatched prompts and responses), without gradient, given as a number",
            "the mean over all responses, desirable or not",
        ),
        departures=(
            ("TRL 1.16", "estimates z₀ from each batch's mismatched completions, over all processes, ≥ 0"),
            ("Liger 0.8", "without λ; z₀ is handed in, as here"),
        ),
    ),
    "lpo": Reference(
        title="Listwise Policy Optimization: Group-based RLVR as Target-Projection on the LLM Response Simplex",
        authors="Qu, Yun and others",
        year=2026,
        arxiv="2605.06139",
        equation="the listwise Gibbs target, with its forward and its reverse projection",
        loss="(1/P) Σ_G KL(w‖p) or KL(p‖w), p = softmax(Δ), w = softmax(A/τ) on policy",
        conventions=(
            "the temperatures that are the target of Dr. GRPO (1), GRPO (the group's standard deviation) or MaxRL (the "
            "group's mean)",
            "read from a summary; whether its code sums or averages Δ over tokens is unchecked",
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
    "mirror_descent": Reference(
        title="Kimi k1.5: Scaling Reinforcement Learning with LLMs",
        authors="Kimi Team",
        year=2025,
        arxiv="2501.12599",
        equation="§2.3.2",
        loss="(1/N) Σ_i [ (τ/2) Δ_i² − (r_i − r̄) Δ_i ]",
        conventions=("the gradient of the squared form divided by 2τ; its constant is not part of the value",),
        departures=(
            (
                "verl 0.9",
                "`dro`: the same square per token, with log π in the linear term: another value, equal gradient",
            ),
        ),
    ),
    "nca": Reference(
        title="Noise Contrastive Alignment of Language Models with Explicit Rewards",
        authors="Chen, Huayu and others",
        year=2024,
        arxiv="2402.05369",
        equation="the pairwise NCA loss of §4",
        loss="−log σ(βΔ⁺) − ½ log σ(−βΔ⁺) − ½ log σ(−βΔ⁻)",
        conventions=("two responses, hard labels: the limit of a low reward temperature",),
        departures=(
            ("TRL 1.16", "`nca_pair`, as published"),
            ("Liger 0.8", "as published"),
        ),
    ),
    "opo": Reference(
        title="Orthogonalized Policy Optimization: Policy Optimization as Orthogonal Projection in Hilbert Space",
        authors="Wang, Zixian",
        year=2026,
        arxiv="2601.12415",
        equation="the surrogate, eq. 19 of §5.1 in the author's LaTeX (28 February 2026)",
        loss="(1/N) Σ_i [ (μ/2) Δ_i² − (ω̃_i − mean ω̃) Δ_i ], ω̃ = exp((1−α)A) · sg π_k^{−(1−α)} (Algorithm 1)",
        conventions=(
            "α = 1 is uniform, 0 target-driven",
            "log form: Δ averaged over tokens; ratio form: of the response",
            "ω̃ is divided by its mean in the group, and the factor sg π_k^{−(1−α)} is left out",
        ),
        departures=(
            (
                "Algorithm 1",
                "as printed ω̃ is not normalised and has the factor, and Δ is of the whole response: on responses of "
                "1 to 7 tokens this recipe's first step is 0.03 of its size. With ω̃/mean ω̃ in the place of ω̃ it is "
                "`Escort(α, inverse_probability=True)` on `Sequence()`, exactly",
            ),
            (
                "the author's code",
                "α reversed; weights softmax(A/β)^α · softmax(u)^{1−α}; the drive summed over the group and scaled "
                "by 1/α while the penalty is averaged; Δ clamped to ±5",
            ),
        ),
    ),
    "opo_ess": Reference(
        title="Orthogonalized Policy Optimization: Policy Optimization as Orthogonal Projection in Hilbert Space",
        authors="Wang, Zixian",
        year=2026,
        arxiv="2601.12415",
        equation="this library's, from the duality of its constraint",
        loss="OPO with α from the effective sample size of the escort weights",
    ),
    "opo_trust_region": Reference(
        title="Orthogonalized Policy Optimization: Policy Optimization as Orthogonal Projection in Hilbert Space",
        authors="Wang, Zixian",
        year=2026,
        arxiv="2601.12415",
        equation="this library's, from the duality of its constraint",
        loss="OPO with μ from a radius ε of the step",
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
    "orpo": Reference(
        title="ORPO: Monolithic Preference Optimization without Reference Model",
        authors="Hong, Jiwoo and Lee, Noah and Thorne, James",
        year=2024,
        arxiv="2403.07691",
        equation="4–7",
        loss="−(1/|y⁺|) log π(y⁺) − λ log σ( logit p⁺ − logit p⁻ ), p = π(y)^{1/|y|}",
        conventions=(
            "λ is TRL's `beta`",
            "both terms use the average log-probability per token",
        ),
        departures=(
            (
                "TRL 1.16",
                "the likelihood covers prompt and response, and is averaged over all tokens of the micro-batch",
            ),
            ("Liger 0.8", "the likelihood is averaged over all tokens of the batch"),
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
    "plackett_luce": Reference(
        title="Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        authors="Rafailov, Rafael and others",
        year=2023,
        arxiv="2305.18290",
        equation="appendix A.3, from memory and unchecked",
        loss="−(1/P) Σ_G log Π_k e^{βΔ_(k)}/Σ_{j ≥ k} e^{βΔ_(j)}",
        conventions=("equal rewards keep the order of the rows",),
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
    "real": Reference(
        title="Rewards as Labels: Revisiting RLVR from a Classification Perspective",
        authors="Zhai and others",
        year=2026,
        arxiv="2602.05630",
        equation="the REAL loss",
        loss="(1/P) Σ_G [log(1 + Σ₊ e^{−s̄/τ}) + log(1 + Σ₋ e^{s̄/τ})], s̄ the mean log-ratio",
        conventions=("a response is right where its reward is positive",),
        departures=(("ms-swift 4", "labels by the sign of the advantage, and leaves out groups of one kind; τ = 0.5"),),
    ),
    "rebel": Reference(
        title="REBEL: Reinforcement Learning via Regressing Relative Rewards",
        authors="Gao, Zhaolin and others",
        year=2024,
        arxiv="2404.16767",
        equation="the relative-reward regression",
        loss="(1/P) Σ ((1/η)(log(π(y)/π_t(y)) − log(π(y')/π_t(y'))) − (r(y) − r(y')))²",
        conventions=("measured from the old policy: pass its log-probabilities as the pairs' reference",),
        departures=(("the authors' code", "(Δ − Δ' − η(r − r'))²: η² times this loss, the same minimiser"),),
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
    "robust_dpo": Reference(
        title="Provably Robust DPO: Aligning Language Models with Noisy Feedback",
        authors="Chowdhury, Sayak Ray and Kini, Anush and Natarajan, Nagarajan",
        year=2024,
        arxiv="2403.00409",
        equation="the robust loss",
        loss="[−(1−ε) log σ(βu) + ε log σ(−βu)]/(1−2ε)",
        conventions=("unbiased for the loss without noise, and therefore not bounded below: the drive exceeds β",),
        departures=(("TRL 1.16", "as published; unbounded below there too, without a warning"),),
    ),
    "rpo": Reference(
        title="Reward-aware Preference Optimization: A Unified Mathematical Framework for Model Alignment",
        authors="Sun, Shengyang and others",
        year=2025,
        arxiv="2502.00203",
        equation="the distances of §3",
        loss=(
            "squared: (βm − ηδ)²; backward: KL(σ(ηδ)‖σ(βm)); forward: KL(σ(βm)‖σ(ηδ)); m the margin of log-ratios, δ "
            "of rewards"
        ),
        conventions=("the names are those of NeMo-Aligner: backward has the label first",),
        departures=(("NeMo-Aligner", "`rpo_sq`, `rpo_bwd_kl`, `rpo_fwd_kl`: these formulas, η = `gt_reward_scale`"),),
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
        ),
    ),
    "simpo": Reference(
        title="SimPO: Simple Preference Optimization with a Reference-Free Reward",
        authors="Meng, Yu and Xia, Mengzhou and Chen, Danqi",
        year=2024,
        arxiv="2405.14734",
        equation="6",
        loss="−log σ(β log π(y⁺)/|y⁺| − β log π(y⁻)/|y⁻| − γ)",
        conventions=("γ is a margin of rewards; γ/β of log-probabilities",),
        departures=(
            ("TRL 1.16", "in its CPOTrainer, which adds CPO's likelihood unless `cpo_alpha=0`"),
            ("Liger 0.8", "as published"),
        ),
    ),
    "slic": Reference(
        title="SLiC-HF: Sequence Likelihood Calibration with Human Feedback",
        authors="Zhao, Yao and others",
        year=2023,
        arxiv="2305.10425",
        equation="2",
        loss="max(0, δ − log π(y⁺) + log π(y⁻)); with a reference and normalised: max(0, 1 − β(Δ⁺ − Δ⁻))",
        conventions=("the reference is that of RSO (2309.06657) and of trainers",),
        departures=(("TRL 1.16", "`hinge`, with the reference"),),
    ),
    "sparse_lpo": Reference(
        title="Learning with Fenchel-Young Losses",
        authors="Blondel, Mathieu and Martins, Andr{\\'e} F. T. and Niculae, Vlad",
        year=2020,
        arxiv=None,
        equation="this library's: LPO with its losses of sparsemax and entmax",
        loss="(1/P) Σ_G μ[Ω(q) + Ω*(Δ/μ)] − ⟨q, Δ⟩, q the sparsemax or entmax of (r − r̄)/τ",
        venue="Journal of Machine Learning Research 21",
    ),
    "sppo": Reference(
        title="Self-Play Preference Optimization for Language Model Alignment",
        authors="Wu, Yue and others",
        year=2024,
        arxiv="2405.00675",
        equation="4.7 with hard probabilities",
        loss="(Δ⁺ − 1/(2β))² + (Δ⁻ + 1/(2β))²",
        conventions=(
            "β = 1/η; the winner's probability is 1, the loser's 0",
            "summed over the two responses of a pair",
        ),
        departures=(
            ("the authors' code", "halves the loss: the mean of the two squares"),
            ("TRL 1.16", "`sppo_hard`, this form; soft probabilities need a preference model"),
        ),
    ),
    "topr": Reference(
        title="Tapered Off-Policy REINFORCE: Stable and efficient reinforcement learning for LLMs",
        authors="Le Roux, Nicolas and Bellemare, Marc G. and others",
        year=2025,
        arxiv="2503.14286",
        equation="the TOPR gradient",
        loss="−(1/N) Σ_i sg[w_i] R_i log π(y_i), w = 1 where R_i ≥ 0, clip(π(y_i)/μ(y_i), 0, 1) where R_i < 0",
        conventions=(
            "the ratio is of the whole response, without length normalisation",
            "R = ±1, a baseline shifts it",
        ),
        departures=(
            (
                "ROLL",
                "clips the ratio of every token, not that of the response; weighs the positive and the negative part "
                "with coefficients of their own, 1 and 1 by default",
            ),
        ),
    ),
    "tpo": Reference(
        title="Target Policy Optimization",
        authors="Kaddour, Jean",
        year=2026,
        arxiv="2604.06159",
        equation="1 to 3, appendix A",
        loss="−(1/P) Σ_G Σ_i q_i log p_i, p = softmax(log π), q ∝ π_old e^{z/η}, z = (r − r̄)/σ",
        conventions=("σ is the population's", "log π of whole responses", "the value is KL(q‖p)"),
    ),
    "vespo": Reference(
        title="VESPO: Variational Sequence-Level Soft Policy Optimization for Stable Off-Policy LLM Training",
        authors="Shen, Guobin and others",
        year=2026,
        arxiv="2602.10693",
        equation="the reshaping kernel",
        loss="−(1/Σ|y_i|) Σ_i Σ_t sg[w_i^k e^{λ(1−w_i)}] A_i log π(y_it), w_i = π(y_i)/π_old(y_i)",
        conventions=(
            "the ratio is of the whole response, without length normalisation",
            "(k, λ) by the sign of A; A = 0 counts as positive, without effect",
        ),
        departures=(
            ("TRL 1.16", "clamps Δ of tokens to ±20 and log w to [log 1e-8, 20]; λ at least 1e-4"),
            ("Liger 0.8", "as TRL"),
        ),
    ),
    "w_gopo": Reference(
        title=(
            "Group Orthogonalized Policy Optimization: Group Policy Optimization as Orthogonal Projection in Hilbert "
            "Space"
        ),
        authors="Wang, Zixian",
        year=2026,
        arxiv="2602.21269",
        equation="W-GOPO in the author's LaTeX (28 February 2026), eq. 11, 17–19 and Proposition 4.4",
        loss=(
            "(1/N) Σ_i (v_i − v*_i)², v* the bounded projection of centred [(1−α)Ā + αĀe^Ā]/μ, Ā = centred tanh(r − "
            "mean)"
        ),
        conventions=(
            "μ is not the stiffness, which is 2: it divides the target alone",
            "2/μ times GOPO's loss, with its constant: at α = 0 and without the tanh the same minimiser",
            "not divided by the standard deviation",
        ),
        departures=(
            (
                "the author's code",
                "½μ(v − v*)²: μ/2 of the paper's loss; the ratio is e^x with x the log-ratio averaged over tokens and "
                "clamped at ±5; squashes advantages divided by the standard deviation by default",
            ),
            (
                "the paper's claim",
                "that the drive is of second order for poor responses: it is Ā + αĀ² + …, of first order",
            ),
        ),
    ),
    "wpo": Reference(
        title="WPO: Enhancing RLHF with Weighted Preference Optimization",
        authors="Zhou, Wenxuan and others",
        year=2024,
        arxiv="2406.11827",
        equation="2",
        loss="−(1/P) Σ sg[w(y⁺) w(y⁻)] log σ(βu), w(y) = π(y)^{1/|y|}",
        conventions=("without weight alignment, which needs Σ_v π(v)² of every step",),
        departures=(
            ("TRL 1.16", "with sampled alignment, from the logits; of a pair, the product of the two weights"),
            (
                "open-instruct",
                "exp of the two *sums* of log-probabilities, clamped at 1, with a gradient; sums (pair,) meet a "
                "mask (pair, token) where averages are meant, which fits one pair at a time",
            ),
        ),
    ),
}
"""Every recipe has its entry."""
