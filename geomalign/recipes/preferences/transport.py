"""Recipes that compare the sorted log-ratios of a batch: alignment via optimal transport."""

from __future__ import annotations

from geomalign.objective import Objective
from geomalign.recipes.shared import logistic
from geomalign.unit import QuantileMargin, QuantilePair

__all__ = ["aot", "aot_unpaired"]


def aot(beta: float = 0.1, label_smoothing: float = 0.0) -> Objective:
    """Alignment via optimal transport, paired: −log σ(βu_k),  u_k the k-th largest margin of the policy less the k-th
    largest of the reference.

    Micro-batches do not add up to the whole batch, since ranks belong to one batch.

    Args:
        beta: inverse temperature, > 0, per nat.
        label_smoothing: ε in [0, 0.5), as of `dpo`.

    Source: Melnyk et al. 2024 (arXiv 2406.05882), paired.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.aot(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # log 2 = 0.693 where the policy is the reference
    0.66
    """
    return logistic("aot", QuantileMargin(), beta, label_smoothing)


def aot_unpaired(beta: float = 0.1, label_smoothing: float = 0.0) -> Objective:
    """Alignment via optimal transport, unpaired: −log σ(βu_k),  u_k the k-th largest Δ of the chosen responses less the
    k-th largest of the rejected ones.

    Micro-batches do not add up to the whole batch, since ranks belong to one batch.

    Args:
        beta: inverse temperature, > 0, per nat.
        label_smoothing: ε in [0, 0.5), as of `dpo`.

    Source: Melnyk et al. 2024 (arXiv 2406.05882), unpaired.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.aot_unpaired(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # log 2 = 0.693 where the policy is the reference
    0.659
    """
    return logistic("aot_unpaired", QuantilePair(), beta, label_smoothing)
