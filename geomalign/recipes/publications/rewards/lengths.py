"""The publications of the recipes of `recipes/rewards/lengths.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
    "delta_l": Reference(
        title="VL Norm: Rethink Loss Aggregation in RLVR",
        authors="He, Zhiyuan and others",
        year=2025,
        arxiv="2509.07558",
        equation="by the authors' code, core_algos.py; the first version of the paper calls it ΔL normalisation",
        loss="−(1/L) Σ_i x_i Σ_t min(t A, clip(t) A), x_i = |y_i|^{−α}/Σ_j |y_j|^{−α}",
        conventions=(
            "the sum over j is over the whole rollout batch, not over a group",
            "α = 1 on CountDown and 0.75 on mathematics; ε = 0.2 and 0.3; L is the padded length, 8192",
            "the power is of the number of unmasked tokens",
        ),
        departures=(
            (
                "the authors' verl",
                "multiplies advantages by |y_i|^{−α} over its mean, which is the same for a surrogate; the weights are "
                "those of the rollout, whose minibatches then do not sum to one each; dual clip at 3",
            ),
        ),
    ),
    "lambda_grpo": Reference(
        title="lambda-GRPO: Unifying the GRPO Frameworks with Learnable Token Preferences",
        authors="Wang, Yining and others",
        year=2025,
        arxiv="2510.06870",
        equation="by summaries of the paper, whose text was not read",
        loss="−(1/Σ|y_i|) Σ_i f_i Σ_t min(t A, clip(t) A), f = G softmax(h^λ), h = 1 + r z",
        conventions=(
            "z is the standardised length in the group",
            "λ is a number or a tensor; the paper learns it with the policy",
            "unchecked: r = 1/9 and the population's standard deviation are those of another's implementation",
        ),
        departures=(("grpo-composer", "adds nothing to the deviation but clamps it and h away from zero"),),
    ),
}
