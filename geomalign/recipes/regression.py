"""Recipes that are squares: a scaled log-ratio is regressed on a reward, an advantage or a difference of rewards."""

from __future__ import annotations

from geomalign.advantages import Margin, SoftBaseline, SoftLabel
from geomalign.chart import LogRatio
from geomalign.constant import Completed
from geomalign.objective import BaseObjective, Objective
from geomalign.optimization import ChiSquare, Entropy, Logistic
from geomalign.recipes.reference import published
from geomalign.recipes.shared import check_positive, choose
from geomalign.sampling import Advantage
from geomalign.unit import Pair, Preference, Sequence

__all__ = ["a2po", "dro", "rebel", "rpo"]


@published(
    title="Offline Regularised Reinforcement Learning for Large Language Models Alignment",
    authors="Richemond, Pierre Harvey and others",
    year=2024,
    arxiv="2405.19107",
    equation="the DRO-V loss",
    loss="(1/N) Σ_i ½ (r_i − V(x_i) − τ log(π(y_i)/π_ref(y_i)))²",
    conventions=("V is learnt beside the policy: pass r − V as `advantage`", "sum over the response's tokens"),
    departures={"verl 0.9": "a square a token without V: −(log π · A − ½β Δ²), measured from the rollout policy"},
)
def dro(tau: float = 1.0) -> Objective:
    """½ (A − τΔ_ref)², A = r − V(x): the residual of the optimal policy's equation.

    Args:
        tau: regularisation, positive.

    Drive: the batch's `advantage`, or its `reward`.

    Source: Richemond et al. 2024 (arXiv 2405.19107).
    """
    return Objective(
        unit=Sequence(),
        chart=LogRatio(scale=tau),
        sampling=Advantage(),
        optimization=ChiSquare(1.0),
        anchor="reference",
        constant=Completed(),
    )


@published(
    title="Accelerating RL for LLM Reasoning with Optimal Advantage Regression",
    authors="Brantley, Kiant{\\'e} and others",
    year=2025,
    arxiv="2505.20686",
    equation="the regression of its second stage",
    loss="(1/N) Σ_i (β₂ log(π(y_i)/π_ref(y_i)) − (r_i − V*(x_i)))², V* = β₁ log mean exp(r/β₁) over responses of π_ref",
    conventions=("V* is estimated before training from other samples: pass r − V* as `advantage`",),
    departures={"TRL 1.16": "as published; β₂ = 1e-3, β₁ = 0.5"},
)
def a2po(beta2: float = 1e-3, beta1: float | None = None) -> BaseObjective:
    """(β₂Δ_ref − (r − V*))²: regression on the optimal advantage (A*-PO).

    Args:
        beta2: scale of the log-ratio, positive.
        beta1: temperature of V*, which is then estimated from the batch's own groups; None: the batch's `advantage` is
            r − V*.

    Source: Brantley et al. 2025 (arXiv 2505.20686), TRL's defaults.
    """
    return 2.0 * Objective(
        unit=Sequence(),
        chart=LogRatio(scale=beta2),
        sampling=Advantage() if beta1 is None else SoftBaseline(beta1),
        optimization=ChiSquare(1.0),
        anchor="reference",
        constant=Completed(),
    )


@published(
    title="REBEL: Reinforcement Learning via Regressing Relative Rewards",
    authors="Gao, Zhaolin and others",
    year=2024,
    arxiv="2404.16767",
    equation="the relative-reward regression",
    loss="(1/P) Σ ((1/η)(log(π(y)/π_t(y)) − log(π(y')/π_t(y'))) − (r(y) − r(y')))²",
    conventions=("measured from the rollout policy: pass its log-probabilities as the pairs' reference",),
)
def rebel(eta: float = 1.0) -> Objective:
    """(u/η − (r − r'))²,  u = Δ − Δ': differences of rewards regressed on differences of log-ratios.

    Args:
        eta: step size, positive.

    Drive: the `margin` of the pairs, r(y) − r(y').

    Source: Gao et al. 2024 (arXiv 2404.16767).
    """
    check_positive("rebel", eta=eta)
    return Objective(
        unit=Pair(),
        chart=LogRatio(scale=1 / eta),
        sampling=Margin(2.0),
        optimization=ChiSquare(2.0),
        anchor="reference",
        constant=Completed(),
    )


def _squared(beta: float, eta: float) -> Objective:
    return Objective(
        unit=Pair(),
        chart=LogRatio(scale=beta),
        sampling=Margin(2 * eta),
        optimization=ChiSquare(2.0),
        anchor="reference",
        constant=Completed(),
    )


def _backward(beta: float, eta: float) -> Objective:
    return Objective(
        unit=Pair(),
        chart=LogRatio(),
        sampling=SoftLabel(beta, eta),
        optimization=Logistic(beta),
        anchor="reference",
        constant=Completed(),
    )


def _forward(beta: float, eta: float) -> Objective:
    return Objective(
        unit=Preference(beta=beta),
        chart=LogRatio(),
        sampling=Margin(eta),
        optimization=Entropy(),
        anchor="reference",
        constant=Completed(),
    )


_DISTANCES = {"squared": _squared, "backward_kl": _backward, "forward_kl": _forward}


@published(
    title="Reward-aware Preference Optimization: A Unified Mathematical Framework for Model Alignment",
    authors="Sun, Shengyang and others",
    year=2025,
    arxiv="2502.00203",
    equation="the distances of §3",
    loss="squared: (βm − ηδ)²; backward: KL(σ(ηδ)‖σ(βm)); forward: KL(σ(βm)‖σ(ηδ)); m the margin of log-ratios, δ "
    "of rewards",
    conventions=("the names are those of NeMo-Aligner: backward has the label first",),
    departures={"NeMo-Aligner": "`rpo_sq`, `rpo_bwd_kl`, `rpo_fwd_kl`: these formulas, η = `gt_reward_scale`"},
)
def rpo(beta: float = 0.1, eta: float = 1.0, distance: str = "backward_kl") -> Objective:
    """D(βu, η(r⁺ − r⁻)),  u = Δ_chosen − Δ_rejected: the implicit margin brought to the explicit one.

    Args:
        beta: inverse temperature, positive.
        eta: scale of the rewards, positive.
        distance: "squared"; "backward_kl", the Bernoulli KL(σ(ηδ)‖σ(βu)), DPO with a soft label; "forward_kl",
            KL(σ(βu)‖σ(ηδ)).

    Drive: the `margin` of the pairs.

    Source: Sun et al. 2025 (arXiv 2502.00203); Nemotron-4 (arXiv 2406.11704) §3.3.
    """
    check_positive("rpo", beta=beta, eta=eta)
    return choose("rpo", "distance", distance, _DISTANCES)(beta, eta)
