"""Recipes that are squares: a scaled log-ratio is regressed on a reward, an advantage or a difference of rewards."""

from __future__ import annotations

from geomalign.chart import LogRatio
from geomalign.objective import FenchelYoung, Objective
from geomalign.optimization import ChiSquare, Logistic, NegativeEntropy
from geomalign.recipes.shared import check_positive, choose
from geomalign.sampling import Margin, SoftLabel
from geomalign.unit import Pair, Preference

__all__ = ["rebel", "rpo"]


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
        offset=FenchelYoung(),
    )


def _squared(beta: float, eta: float) -> Objective:
    return Objective(
        unit=Pair(),
        chart=LogRatio(scale=beta),
        sampling=Margin(2 * eta),
        optimization=ChiSquare(2.0),
        anchor="reference",
        offset=FenchelYoung(),
    )


def _backward(beta: float, eta: float) -> Objective:
    return Objective(
        unit=Pair(),
        chart=LogRatio(),
        sampling=SoftLabel(beta, eta),
        optimization=Logistic(beta),
        anchor="reference",
        offset=FenchelYoung(),
    )


def _forward(beta: float, eta: float) -> Objective:
    return Objective(
        unit=Preference(beta=beta),
        chart=LogRatio(),
        sampling=Margin(eta),
        optimization=NegativeEntropy(),
        anchor="reference",
        offset=FenchelYoung(),
    )


_DISTANCES = {"squared": _squared, "backward_kl": _backward, "forward_kl": _forward}


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
