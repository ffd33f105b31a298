"""The publications of the recipes of `recipes/preferences/links.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
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
}
"""Each recipe of that file has its entry, by its name."""
