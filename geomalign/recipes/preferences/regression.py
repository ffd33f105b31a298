"""Recipes that are squares: a scaled log-ratio is regressed on a reward, an advantage or a difference of rewards."""

from __future__ import annotations

from geomalign._util import check
from geomalign.chart import LogRatio
from geomalign.objective import FenchelYoung, Objective
from geomalign.optimization import ChiSquare, Logistic, NegativeEntropy
from geomalign.sampling import Margin, SoftLabel
from geomalign.unit import Pair, PreferenceProbability

__all__ = ["rebel", "rpo"]


def rebel(eta: float = 1.0) -> Objective:
    """REBEL, differences of rewards regressed on differences of log-ratios: (u/η − (r − r'))²,  u = Δ − Δ'.

    Args:
        eta: step size, > 0, in nats per reward.

    The drive is made from the `margin` of the pairs, r(y) − r(y').

    Source: Gao et al. 2024 (arXiv 2404.16767). The authors' code has η² times this loss.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.rebel(eta=1.0)(ga.laws.sample_pairs())
    >>> [round(x[0].item(), 3) for x in (outcome.u, outcome.drive / 2, outcome.gap)]  # u/η, r − r', (u/η − (r − r'))²
    [-0.566, 1.121, 2.846]
    """
    check.positive("rebel", eta=eta)
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
        unit=PreferenceProbability(beta=beta),
        chart=LogRatio(),
        sampling=Margin(eta),
        optimization=NegativeEntropy(),
        anchor="reference",
        offset=FenchelYoung(),
    )


_DISTANCES = {"squared": _squared, "backward_kl": _backward, "forward_kl": _forward}


def rpo(beta: float = 0.1, eta: float = 1.0, distance: str = "backward_kl") -> Objective:
    """Reward-aware preference optimisation, the implicit margin brought to the explicit one: D(βu, η(r⁺ − r⁻)), u =
    Δ_chosen − Δ_rejected.

    Args:
        beta: inverse temperature, > 0, per nat.
        eta: scale of the rewards, > 0.
        distance: D: "squared"; "backward_kl", the Bernoulli KL(σ(ηδ)‖σ(βu)), DPO with a soft label; "forward_kl",
            KL(σ(βu)‖σ(ηδ)).

    The drive is made from the `margin` of the pairs, δ = r⁺ − r⁻.

    Source: Sun et al. 2025 (arXiv 2502.00203); Nemotron-4 (arXiv 2406.11704) §3.3.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.rpo(beta=0.1, distance="squared")(ga.laws.sample_pairs())
    >>> [round(x[0].item(), 3) for x in (outcome.u, outcome.drive / 2, outcome.gap)]  # βu, ηδ, (βu − ηδ)²
    [-0.057, 1.121, 1.387]
    """
    check.positive("rpo", beta=beta, eta=eta)
    return check.choose("rpo", "distance", distance, _DISTANCES)(beta, eta)
