"""Recipes without a reference that add the likelihood of the chosen response to a loss of the margin."""

from __future__ import annotations

import math

from geomalign._util import check
from geomalign.chart import LogOdds, LogRatio
from geomalign.objective import Objective, WeightedSum
from geomalign.optimization import Indicator, Logistic
from geomalign.recipes.shared import LENGTHS
from geomalign.sampling import Label
from geomalign.unit import Chosen, MeanSequence, Pair, ResponseUnit

__all__ = ["cpo", "orpo"]


def _likelihood(of: ResponseUnit) -> Objective:
    """−log π(y⁺): a log-probability is never positive, which bounds the loss."""
    return Objective(
        unit=Chosen(of), chart=LogRatio(), sampling=Label(1.0), optimization=Indicator(-math.inf, 0.0), anchor=None
    )


def orpo(lambda_: float = 0.1) -> WeightedSum:
    """ORPO, the likelihood of the chosen response and an odds ratio, without a reference: −log π(y⁺)/|y⁺| − λ log σ(u),
    u the log odds ratio of the two responses' mean token probabilities.

    Args:
        lambda_: λ, weight of the odds-ratio term, ≥ 0.

    Source: Hong et al. 2024 (arXiv 2403.07691) eq. 4–7.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.orpo(lambda_=0.1)(ga.laws.sample_pairs())
    >>> [round(term.loss.item(), 3) for term in outcome.terms]  # the likelihood in nats per token, and −log σ(u)
    [1.126, 0.924]
    """
    check.non_negative("orpo", lambda_=lambda_)
    odds = Objective(
        unit=Pair(of=MeanSequence()),
        chart=LogOdds(),
        sampling=Label(1.0),
        optimization=Logistic(1.0),
        anchor=None,
    )
    return _likelihood(MeanSequence()) + lambda_ * odds


def cpo(beta: float = 0.1, alpha: float = 1.0, normalize: str = "sum") -> WeightedSum:
    """Contrastive preference optimisation, without a reference: −log σ(βu) − α log π(y⁺),  u = log π(y⁺) − log π(y⁻).

    Args:
        beta: inverse temperature, > 0, per nat.
        alpha: weight of the likelihood, ≥ 0; 1 in the paper.
        normalize: "sum" (published) or "mean": whether the likelihood is of the response or of its average token.

    Source: Xu et al. 2024 (arXiv 2401.08417) eq. 3.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.cpo(beta=0.1, normalize="mean")(ga.laws.sample_pairs())
    >>> [round(term.loss.item(), 3) for term in outcome.terms]  # −log σ(βu), and the likelihood in nats per token
    [0.622, 1.126]
    """
    check.non_negative("cpo", alpha=alpha)
    margin = Objective(unit=Pair(), chart=LogRatio(), sampling=Label(beta), optimization=Logistic(beta), anchor=None)
    return margin + alpha * _likelihood(check.choose("cpo", "normalize", normalize, LENGTHS))
