"""Recipes that regress a log-ratio from the reference on an advantage."""

from __future__ import annotations

from geomalign.chart import LogRatio
from geomalign.objective import BaseObjective, FenchelYoung, Objective
from geomalign.optimization import ChiSquare
from geomalign.sampling import Advantage, LogMeanExpBaseline
from geomalign.unit import Sequence

__all__ = ["a2po", "dro"]


def dro(tau: float = 1.0) -> Objective:
    """Direct Reward Optimisation, the residual of the optimal policy's equation: (1/N) Σ_i ½ (A_i − τΔ_ref,i)²,  A = r
    − V(x).

    Args:
        tau: strength of the regularisation, > 0.

    The drive is the batch's `advantage`, or its `reward`.

    Source: Richemond et al. 2024 (arXiv 2405.19107).

    >>> import geomalign as ga
    >>> batch = ga.laws.sample_batch()
    >>> outcome = ga.recipes.dro(tau=0.5)(batch)
    >>> [round(x[0].item(), 3) for x in (outcome.drive, outcome.u, outcome.gap)]  # A, τΔ_ref, ½(A − τΔ_ref)²
    [-0.743, -0.195, 0.15]
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
    """A*-PO, regression on the optimal advantage: (1/N) Σ_i (β₂Δ_ref,i − (r_i − V*))².

    Args:
        beta2: scale of the log-ratio, > 0.
        beta1: temperature of V*, > 0, which is then estimated from the batch's own groups; None: the batch's
            `advantage` is r − V*.

    Source: Brantley et al. 2025 (arXiv 2505.20686), TRL's defaults.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.a2po(beta1=0.5)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # r − V* of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.0638, -1.5844,  0.2999], dtype=torch.float64)
    """
    return 2.0 * Objective(
        unit=Sequence(),
        chart=LogRatio(scale=beta2),
        sampling=Advantage() if beta1 is None else LogMeanExpBaseline(beta1),
        optimization=ChiSquare(1.0),
        anchor="reference",
        offset=FenchelYoung(),
    )
