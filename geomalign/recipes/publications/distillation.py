"""The publications of the recipes of `recipes/distillation.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
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
    "on_policy_distillation": Reference(
        title="On-Policy Distillation",
        authors="Lu, Kevin and {Thinking Machines Lab}",
        year=2025,
        arxiv=None,
        equation="the reverse KL of every token as its advantage",
        loss="−Σ_t log(π_T/π_old) π/π_old",
        conventions=("a mean over tokens", "the teacher's log-probabilities are the reference"),
        departures=(
            ("Trinity-RFT", "as published, `on_policy_distill`, with a factor `kl_coef` = 1"),
            ("prime-rl", "see `opd`"),
        ),
        venue="https://thinkingmachines.ai/blog/on-policy-distillation/",
    ),
    "opd": Reference(
        title="On-policy distillation in prime-rl",
        authors="{Prime Intellect}",
        year=2026,
        arxiv=None,
        equation="`ref_kl_loss_fn` of src/prime_rl/trainer/rl/loss.py",
        loss="(1/Σ|y_i|) Σ_i Σ_t [−1[π − π_old ≥ −0.2] sg[log(π_T/π)] π/π_old + 1e-3 Δ²]",
        conventions=("π_old is the inference engine's policy", "divided by the tokens of the loss in the whole batch"),
        venue="https://github.com/PrimeIntellect-ai/prime-rl",
    ),
}
"""Each recipe of that file has its entry, by its name."""
