"""The publications of the recipes of `recipes/preferences/unpaired.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
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
}
"""Each recipe of that file has its entry, by its name."""
