"""recipes.preferences.transport"""

from __future__ import annotations

from geomalign.objective import Objective
from geomalign.recipes.shared import logistic
from geomalign.unit import QuantileMargin, QuantilePair

__all__ = ["aot", "aot_unpaired"]


def aot(beta: float = 0.1, label_smoothing: float = 0.0) -> Objective:
    """−log σ(βu_k),  u_k the k-th largest margin of the policy less the k-th largest of the reference.

    Args:
        beta: inverse temperature, positive.
        label_smoothing: ε in [0, 0.5).

    Micro-batches do not add up to the whole batch, since ranks belong to one batch.

    Source: Melnyk et al. 2024 (arXiv 2406.05882), paired.
    """
    return logistic("aot", QuantileMargin(), beta, label_smoothing)


def aot_unpaired(beta: float = 0.1, label_smoothing: float = 0.0) -> Objective:
    """−log σ(βu_k),  u_k the k-th largest Δ of the chosen responses less the k-th largest of the rejected ones.

    Args:
        beta: inverse temperature, positive.
        label_smoothing: ε in [0, 0.5).

    Micro-batches do not add up to the whole batch, since ranks belong to one batch.

    Source: Melnyk et al. 2024 (arXiv 2406.05882), unpaired.
    """
    return logistic("aot_unpaired", QuantilePair(), beta, label_smoothing)
