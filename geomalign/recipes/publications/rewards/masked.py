"""The publications of the recipes of `recipes/rewards/masked.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
    "decoupled_ppo": Reference(
        title="Batch size-invariance for policy optimization",
        authors="Hilton, Jacob and Cobbe, Karl and Schulman, John",
        year=2021,
        arxiv="2110.00641",
        equation="the decoupled policy objectives of §3",
        loss=("−(1/Σ|y_i|) Σ_i Σ_t sg[π_prox/π_behav] min(t A, clip(t, 1−ε, 1+ε) A), t = π/π_prox"),
        conventions=(
            "read in AReaL's code; the papers' form has no bound of π_prox/π_behav",
            "π_prox is `old` and π_behav is `behavior`; PPO-EWMA takes a moving average of the policy as π_prox",
        ),
        departures=(
            (
                "AReaL",
                "dropped tokens with π_prox/π_behav > 5 by a former default, drops none by the present one; can clamp "
                "the weight instead",
            ),
        ),
    ),
    "opmd": Reference(
        title=(
            "Trinity-RFT: A General-Purpose and Unified Framework for Reinforcement Fine-Tuning of Large Language "
            "Models"
        ),
        authors="Pan, Xuchen and others",
        year=2025,
        arxiv="2505.17826",
        equation="the simplified variant of OPMD",
        loss="−(1/(1+τ)) (1/Σ|y_i|) Σ_i Σ_t (r_i − V) log π(y_it)",
        conventions=("read in Trinity-RFT 0.6; unchecked against the report", "V is the mean or τ log mean e^{r/τ}"),
        departures=(("Trinity-RFT 0.6", "adds a KL penalty k2 of 1e-3 by default; a baseline of 0 in a group of one"),),
    ),
    "prime_ipo": Reference(
        title="prime-rl, loss type `ipo`",
        authors="{Prime Intellect}",
        year=2026,
        arxiv=None,
        equation="`ipo_loss_fn`",
        loss="(1/Σ|y_i|) Σ_i Σ_t [ −1[|π − π_old| ≤ threshold] t A_i + β log²t ]",
        conventions=(
            "read in prime-rl of August 2026",
            "β log²t is `kl_tau`, without the factor ½ of k2, and acts on masked tokens too",
            "A = r − mean, made by its orchestrator",
            "its default loss has the mask in the direction of the advantage alone, at 0.2: `dppo` with that square",
        ),
        departures=(("prime-rl", "divides by the trainable tokens of the step, over all processes"),),
        venue="https://github.com/PrimeIntellect-ai/prime-rl",
    ),
    "rec": Reference(
        title=(
            "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some Myths About GRPO and Its "
            "Friends"
        ),
        authors="Yao, Chaorui and others",
        year=2025,
        arxiv="2509.24203",
        equation="the REC family",
        loss=(
            "−(1/Σ|y_i|) Σ_i Σ_t sg[M_it w_it] A_i log π(y_it), w = 1 or t; M by the one-sided, the two-sided or the "
            "ring-shaped range of t"
        ),
        conventions=(
            "read in Trinity-RFT 0.6; A = r − mean",
            "bounds 0.2 and 0.2, outer ones 0.6 and 2",
            "OneSide-IS has the gradient of GRPO's clip",
        ),
        departures=(
            ("Trinity-RFT 0.6", "a baseline of zero for a single response to a prompt"),
            (
                "SkyRL 0.4",
                "`rollout_is`: TwoSide-IS with open bounds and the engine's log-probabilities; Δ clamped to ±20",
            ),
        ),
    ),
    "softmax_ppo": Reference(
        title="A general class of surrogate functions for stable and efficient reinforcement learning",
        authors="Vaswani, Sharan and others",
        year=2021,
        arxiv="2108.05828",
        equation="sPPO",
        loss="−(1/Σ|y_i|) Σ_i Σ_t A_i log clip(t_it, 1/(1+ε), 1+ε)",
        conventions=(
            "read in Trinity-RFT 0.6, which cites the paper; unchecked against its equations",
            "a token out of bounds has no gradient, whatever the sign of A, and the value 0, not that of the bound",
        ),
    ),
}
"""Each recipe of that file has its entry, by its name."""
