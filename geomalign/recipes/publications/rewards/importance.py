"""The publications of the recipes of `recipes/rewards/importance.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
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
            ("Trinity-RFT 0.6", "clips the ratio of every token, not that of the response; a mean over tokens"),
        ),
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
}
"""Each recipe of that file has its entry, by its name."""
