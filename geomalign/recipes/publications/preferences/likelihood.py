"""The publications of the recipes of `recipes/preferences/likelihood.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
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
}
"""Each recipe of that file has its entry, by its name."""
