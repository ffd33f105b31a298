"""recipes.preferences.likelihood"""

from __future__ import annotations

import math

from geomalign.chart import LogOdds, LogRatio
from geomalign.objective import Objective, WeightedSum
from geomalign.optimization import Indicator, Logistic
from geomalign.recipes.shared import LENGTHS, check_weight, choose
from geomalign.sampling import Label
from geomalign.unit import Chosen, MeanSequence, Pair, ResponseUnit

__all__ = ["cpo", "orpo"]


def _likelihood(of: ResponseUnit) -> Objective:
    """−log π(y⁺): a log-probability is never positive, which bounds the loss."""
    return Objective(
        unit=Chosen(of), chart=LogRatio(), sampling=Label(1.0), optimization=Indicator(-math.inf, 0.0), anchor=None
    )


def orpo(lambda_: float = 0.1) -> WeightedSum:
    """−log π(y⁺)/|y⁺| − λ log σ(u),  u the log odds ratio of the two responses' mean token probabilities.

    Args:
        lambda_: weight of the odds-ratio term, ≥ 0.

    Source: Hong et al. 2024 (arXiv 2403.07691) eq. 4–7.
    """
    check_weight("orpo", lambda_=lambda_)
    odds = Objective(
        unit=Pair(of=MeanSequence()),
        chart=LogOdds(),
        sampling=Label(1.0),
        optimization=Logistic(1.0),
        anchor=None,
    )
    return _likelihood(MeanSequence()) + lambda_ * odds


def cpo(beta: float = 0.1, alpha: float = 1.0, normalize: str = "sum") -> WeightedSum:
    """−log σ(βu) − α log π(y⁺),  u = log π(y⁺) − log π(y⁻), without a reference.

    Args:
        beta: inverse temperature, positive.
        alpha: weight of the likelihood, ≥ 0; 1 in the paper.
        normalize: "sum" (published) or "mean": whether the likelihood is of the response or of its average token.

    Source: Xu et al. 2024 (arXiv 2401.08417) eq. 3.
    """
    check_weight("cpo", alpha=alpha)
    margin = Objective(unit=Pair(), chart=LogRatio(), sampling=Label(beta), optimization=Logistic(beta), anchor=None)
    return margin + alpha * _likelihood(choose("cpo", "normalize", normalize, LENGTHS))
