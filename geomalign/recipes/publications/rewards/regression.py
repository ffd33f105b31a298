"""The publications of the recipes of `recipes/rewards/regression.py`."""

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
}
"""Each recipe of that file has its entry, by its name."""
