"""The publications of the recipes of `recipes/rewards/surrogates.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

_VALUE = (
    "the value is −sg[w] A log π, whose gradient is the published one; the authors' code shows −w A, so that its "
    "logged loss is another number"
)

PUBLICATIONS: dict[str, Reference] = {
    "aspo": Reference(
        title="ASPO: Asymmetric Importance Sampling Policy Optimization",
        authors="Wang, Jiakang and others",
        year=2025,
        arxiv="2510.06062",
        equation="the flipped ratio and the soft dual clip",
        loss=(
            "−(1/Σ|y_i|) Σ_i Σ_t sg[w_it] A_i log π(y_it), w = min(1/t, cap) where A > 0 and t ≤ 1+ε_high, min(t, cap) "
            "where A < 0 and t ≥ 1−ε, else 0"
        ),
        conventions=(
            "read in the authors' code; unchecked against the equations of the paper",
            "a token beyond PPO's wall has no gradient, one beyond the cap keeps that of the cap",
            _VALUE,
        ),
        departures=(
            (
                "the authors' code (Archer2.0)",
                "walls of 0.2 where the entropy of the step is high and 0.4 where it is not; Δ clamped to ±20; a KL "
                "penalty k3 of 1e-3 to the reference",
            ),
        ),
    ),
    "bapo": Reference(
        title=(
            "BAPO: Stabilizing Off-Policy Reinforcement Learning for LLMs via Balanced Policy Optimization with "
            "Adaptive Clipping"
        ),
        authors="Xi, Zhiheng and others",
        year=2025,
        arxiv="2510.18927",
        equation="the adaptive clipping",
        loss=(
            "−(1/Σ|y_i|) Σ_i Σ_t sg[t M] A_i log π(y_it), M = 0 where A > 0 and t > c_high or A < 0 and t < c_low; the "
            "walls are the first for which Σ_{A>0} A min(t, c_high) ≥ ρ₀ (Σ_{A>0} A min(t, c_high) + Σ_{A<0} |A| "
            "max(t, c_low))"
        ),
        conventions=(
            "read in the authors' code and its description; unchecked: the order in which the paper moves the walls",
            "once per evaluation: a micro-batch has walls of its own",
            "raising c_low stops more poor tokens but adds to the surrogate |A| max(t, c_low), so that it lowers the "
            "share; the search then ends with c_high",
            _VALUE,
        ),
        departures=(
            (
                "the authors' code",
                "asks for P/N ≥ target, 1 by default, which is ρ₀ = 0.5; its example has target 0.5, ρ₀ = 1/3, and a "
                "step of 0.1 above; sums P and N over ranks; a dual clip at 3",
            ),
        ),
    ),
    "ce_gppo": Reference(
        title=(
            "CE-GPPO: Coordinating Entropy via Gradient-Preserving Clipping Policy Optimization in Reinforcement "
            "Learning"
        ),
        authors="Su, Zhenpeng and others",
        year=2025,
        arxiv="2509.20712",
        equation="the gradient-preserving loss",
        loss=(
            "−(1/Σ|y_i|) Σ_i Σ_t sg[w_it] A_i log π(y_it), w = β₁(1−ε) where A < 0 and t < 1−ε, β₂(1+ε_high) where "
            "A > 0 and t > 1+ε_high, t elsewhere"
        ),
        conventions=(
            "read in the authors' code",
            "β₁ = 0.5 with 1.5B parameters and 0.75 with 7B, β₂ = 1; ε = ε_high = 0.2",
            _VALUE,
        ),
        departures=(("the authors' code", "a dual clip at 10 (3 by default): a poor token with t > 10 has none"),),
    ),
    "fipo": Reference(
        title="FIPO: Eliciting Deep Reasoning with Future-KL Influenced Policy Optimization",
        authors="Ma, Chiyu and others",
        year=2026,
        arxiv="2603.19835",
        equation="Future-KL and the influence weight",
        loss=(
            "−(1/Σ|y_i|) Σ_i Σ_t min(t f A, clip(t, 1−ε, 1+ε_high) f A), at least c f A where A < 0; f = sg[clip(exp "
            "Σ_{k≥t} γ^{k−t} Δ_k [t_k ≤ c], low, high)], γ = 2^{−1/halflife}"
        ),
        conventions=(
            "read in a fork of the authors' code and in ms-swift",
            "the sum begins with the token itself; distances count all positions, also masked ones",
            "f ∈ [0.8, 1] where A < 0 and t > 4; at 10, as some runs have it, the dual clip leaves nothing to weigh",
        ),
        departures=(
            (
                "the authors' code",
                "drops a response with more than one token beyond the dual clip, also from the mean; Δ clamped to ±20; "
                "halflife 128 and no bounds where the configuration has none",
            ),
            ("ms-swift 4.6", "`delta`, c, is off by default: then neither the dual clip nor the filter of F acts"),
        ),
    ),
    "gepo": Reference(
        title="Group Expectation Policy Optimization for Heterogeneous Reinforcement Learning",
        authors="Zhang, Han and others",
        year=2025,
        arxiv="2508.17850",
        equation="group expectation importance weights",
        loss=(
            "−(1/N) Σ_i min(w_i A_i, clip(w_i, 1−ε, 1+ε) A_i), w_i = p_i/E_q[q], p = π(y)^{1/|y|}, q = "
            "π_old(y)^{1/|y|}, E_q[q] = Σ_j q_j²/Σ_j q_j"
        ),
        conventions=(
            "read in the authors' code, where p and q are length-normalised; its description writes p(y|x) alone",
            "A = r − mean, `scale_rewards False` in its scripts",
            _VALUE,
        ),
        departures=(
            (
                "the authors' code",
                "takes E_q[q] over the responses of a process, not of a prompt; the two are one where a process holds "
                "one group",
            ),
        ),
    ),
    "gppo": Reference(
        title=("Klear-Reasoner: Advancing Reasoning Capability via Gradient-Preserving Clipping Policy Optimization"),
        authors="Su, Zhenpeng and others",
        year=2025,
        arxiv="2508.07629",
        equation="GPPO",
        loss=(
            "−(1/Σ|y_i|) Σ_i Σ_t sg[w_it] A_i log π(y_it), w = 1−ε where A < 0 and t < 1−ε, 1+ε_high where A > 0 and "
            "t > 1+ε_high, t elsewhere"
        ),
        conventions=(
            "read in the authors' code; the walls 0.2 and 0.28 are DAPO's, unchecked for the paper's own runs",
            _VALUE,
        ),
        departures=(("the authors' code", "a dual clip at 3 by default: a poor token with t > 3 has none"),),
    ),
}
"""Each recipe of that file has its entry, by its name."""
