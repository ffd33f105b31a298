"""Recipes that bring the policy to a teacher: divergences of sampled tokens."""

from __future__ import annotations

from geomalign._util import check
from geomalign.chart import Ratio
from geomalign.divergences import SkewJensenShannon
from geomalign.measure import PooledMean
from geomalign.objective import BaseObjective, Objective
from geomalign.optimization import FDivergence
from geomalign.recipes.shared import DRIFT, policy_gradient
from geomalign.sampling import Label, MaskedImportance, TeacherRatio
from geomalign.unit import Token

__all__ = ["generalized_jsd", "on_policy_distillation", "opd"]


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


def on_policy_distillation() -> Objective:
    """On-policy distillation, the policy gradient whose reward of a token is minus its log-ratio from a teacher:
    −(1/Σ|y_i|) Σ_i Σ_t log(π_T/π_old)·t.

    On policy its mean gradient is that of KL(π‖π_T) of the next token, averaged over the policy's own states; what a
    token changes for later ones is left out. The teacher's log-probabilities are the batch's `reference`.

    Source: Lu and Thinking Machines Lab 2025, "On-Policy Distillation", with Tinker's importance-sampling loss.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.on_policy_distillation()(ga.laws.sample_batch())
    >>> outcome.drive[0, :3]  # log(π_T/π_old) of three tokens
    tensor([-0.2056,  0.0000,  0.0000], dtype=torch.float64)
    """
    return policy_gradient(TeacherRatio())


def opd(delta: float = 0.2, tau: float = 1e-3) -> BaseObjective:
    """On-policy distillation as in prime-rl: (1/Σ|y_i|) Σ_i Σ_t [−1[π − π_old ≥ −δ] sg[log(π_T/π)]·t + τΔ²].

    The log-ratio from the teacher is that of the policy in training, and a token whose probability fell by more than δ
    has no gradient in the first term. The teacher's log-probabilities are the batch's `reference`.

    Args:
        delta: δ, in (0, 1].
        tau: strength of the square, ≥ 0.

    Source: prime-rl's `ref_kl` loss of August 2026, with its constants; π_old is there the inference engine's.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.opd()(ga.laws.sample_batch())
    >>> [round(term.loss.item(), 3) for term in outcome.terms]  # −log(π_T/π)·t where it is kept, and Δ²
    [-0.025, 0.074]
    """
    check.within("opd", 0, 1, "a fall of a probability", ends="(]", delta=delta)
    check.non_negative("opd", tau=tau)
    kept = MaskedImportance(
        TeacherRatio(current=True),
        low=-delta,
        metric="tv",
        importance="none",
        numerator="policy",
        denominator="old",
    )
    return policy_gradient(kept) + tau * DRIFT
