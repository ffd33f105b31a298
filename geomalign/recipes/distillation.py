"""Recipes that bring the policy to a teacher: divergences of sampled tokens."""

from __future__ import annotations

from geomalign.chart import Ratio
from geomalign.divergences import SkewJensenShannon
from geomalign.measure import PooledMean
from geomalign.objective import Objective
from geomalign.optimization import FDivergence
from geomalign.sampling import Label
from geomalign.unit import Token

__all__ = ["generalized_jsd"]


def generalized_jsd(beta: float = 0.5) -> Objective:
    """The generalised Jensen–Shannon divergence from a teacher T: E_{y_t ~ T}[ψ_β(S/T)] = β KL(T‖M) + (1−β) KL(S‖M),
    with the mixture M = βT + (1−β)S.

    The teacher's log-probabilities are the batch's `reference`, and its samples the batch's tokens. Summed over the
    vocabulary instead, as GKD does, it is a function of logits and not of sampled tokens; so is its on-policy variant.

    Args:
        beta: share of the teacher in the mixture M, in (0, 1).

    Source: Agarwal et al. 2023 (GKD, arXiv 2306.13649) eq. 1.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.generalized_jsd(beta=0.5)(ga.laws.sample_batch())
    >>> round(outcome.loss.item(), 3)  # in nats per token; 0 where the student is the teacher
    0.009
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=Label(0.0),
        optimization=FDivergence(SkewJensenShannon(beta)),
        measure=PooledMean(),
        anchor="reference",
    )
