"""The publications of the recipes of `recipes/rewards/groups.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
    "adpo": Reference(
        title="ADPO: Anchored Direct Preference Optimization",
        authors="Wang, Zixian",
        year=2025,
        arxiv="2510.18913",
        equation="the anchored listwise cross-entropy, as in the author's code for verl",
        loss="−(1/P) Σ_G Σ_i q_i log p_i, p = softmax(Δ/τ), q = softmax(z/β_r), z = (r − r̄)/(std + 1e-8)",
        conventions=(
            "a prompt counts by its responses where groups differ in size",
            "the value is KL(q‖p)",
        ),
        departures=(
            ("the author's code for verl", "divides by the standard deviation twice; τ grows with entropy by default"),
        ),
    ),
    "info_nca": Reference(
        title="Noise Contrastive Alignment of Language Models with Explicit Rewards",
        authors="Chen, Huayu and He, Guande and Yuan, Lifan and Cui, Ganqu and Su, Hang and Zhu, Jun",
        year=2024,
        arxiv="2402.05369",
        equation="the InfoNCA loss",
        loss="−(1/P) Σ_G Σ_i q_i log p_i, p = softmax(βΔ_ref), q = softmax(r/α)",
        conventions=(
            "the value is KL(q‖p)",
            "Δ_ref of whole responses",
            "β = 0.01 and α = 1e-4, the figures of the authors' code, where α is the reciprocal of the paper's",
        ),
        departures=(("the authors' code", "adds 0.01 to the first response's reward, which breaks ties"),),
    ),
    "lpo": Reference(
        title="Listwise Policy Optimization: Group-based RLVR as Target-Projection on the LLM Response Simplex",
        authors="Qu, Yun and others",
        year=2026,
        arxiv="2605.06139",
        equation="3, 4, 8, 10 and 11",
        loss="(1/P) Σ_G KL(w‖p) or KL(p‖w), p = softmax(Δ), w = softmax(A/τ) on policy",
        conventions=(
            "the temperatures that are the target of Dr. GRPO (1), GRPO (the group's standard deviation) or MaxRL (the "
            "group's mean)",
            "log π(y) is the mean over the response's tokens (eq. 3)",
            "later epochs of one rollout keep the target, that of π_old",
        ),
    ),
    "plackett_luce": Reference(
        title="Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        authors="Rafailov, Rafael and others",
        year=2023,
        arxiv="2305.18290",
        equation="appendix A.3",
        loss="−(1/P) Σ_G log Π_k e^{βΔ_(k)}/Σ_{j ≥ k} e^{βΔ_(j)}",
        conventions=("equal rewards keep the order of the rows",),
    ),
    "real": Reference(
        title="Rewards as Labels: Revisiting RLVR from a Classification Perspective",
        authors="Zhai, Zepeng and Chen, Meilin and Zhao, Jiaxuan and Qian, Junlang and Shen, Lei and Lu, Yuan",
        year=2026,
        arxiv="2602.05630",
        equation="the REAL loss, as in the authors' code",
        loss="(1/P) Σ_G [log(1 + Σ₊ e^{−s̄/τ}) + log(1 + Σ₋ e^{s̄/τ})], s̄ the mean log-ratio",
        conventions=(
            "a response is right where its reward is positive",
            "a group of one kind is left out, and counts in the mean over prompts",
        ),
        departures=(
            ("the authors' code", "right and wrong are rewards of 1 and 0; τ = 0.5"),
            ("ms-swift 4", "labels by the sign of the advantage; τ = 0.5"),
        ),
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
    "tpo": Reference(
        title="Target Policy Optimization",
        authors="Kaddour, Jean",
        year=2026,
        arxiv="2604.06159",
        equation="1 to 3, appendix A",
        loss="−(1/P) Σ_G Σ_i q_i log p_i, p = softmax(log π), q ∝ π_old e^{z/η}, z = (r − r̄)/σ",
        conventions=("σ is the population's", "log π of whole responses", "the value is KL(q‖p)"),
    ),
}
"""Each recipe of that file has its entry, by its name."""
