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
}
"""Each recipe of that file has its entry, by its name."""
