"""The publications of the recipes of `recipes/preferences/dpo.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
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
"""Each recipe of that file has its entry, by its name."""
