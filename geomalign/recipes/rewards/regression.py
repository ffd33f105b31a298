"""recipes.rewards.regression"""

from __future__ import annotations

from geomalign.chart import LogRatio
from geomalign.objective import BaseObjective, FenchelYoung, Objective
from geomalign.optimization import ChiSquare
from geomalign.sampling import Advantage, LogMeanExpBaseline
from geomalign.unit import Sequence

__all__ = ["a2po", "dro"]


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
        offset=FenchelYoung(),
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
        sampling=Advantage() if beta1 is None else LogMeanExpBaseline(beta1),
        optimization=ChiSquare(1.0),
        anchor="reference",
        offset=FenchelYoung(),
    )
