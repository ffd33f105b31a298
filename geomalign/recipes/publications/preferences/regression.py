"""The publications of the recipes of `recipes/preferences/regression.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
    "rebel": Reference(
        title="REBEL: Reinforcement Learning via Regressing Relative Rewards",
        authors="Gao, Zhaolin and others",
        year=2024,
        arxiv="2404.16767",
        equation="the relative-reward regression",
        loss="(1/P) Σ ((1/η)(log(π(y)/π_t(y)) − log(π(y')/π_t(y'))) − (r(y) − r(y')))²",
        conventions=("measured from the old policy: pass its log-probabilities as the pairs' reference",),
        departures=(("the authors' code", "(Δ − Δ' − η(r − r'))²: η² times this loss, the same minimiser"),),
    ),
    "rpo": Reference(
        title="Reward-aware Preference Optimization: A Unified Mathematical Framework for Model Alignment",
        authors="Sun, Shengyang and others",
        year=2025,
        arxiv="2502.00203",
        equation="the distances of §3",
        loss=(
            "squared: (βm − ηδ)²; backward: KL(σ(ηδ)‖σ(βm)); forward: KL(σ(βm)‖σ(ηδ)); m the margin of log-ratios, δ "
            "of rewards"
        ),
        conventions=("the names are those of NeMo-Aligner: backward has the label first",),
        departures=(("NeMo-Aligner", "`rpo_sq`, `rpo_bwd_kl`, `rpo_fwd_kl`: these formulas, η = `gt_reward_scale`"),),
    ),
}
"""Each recipe of that file has its entry, by its name."""
