"""KL penalties: the estimators k1, k2, k3 of a divergence from the reference, and the gradient of each of their uses.

An estimator's value says what is reported. The policy is pulled by the expectation of its gradient, which is often that
of another divergence, or of none. With Δ = log π − log π_ref and the score s = ∇log π, under samples of π,

    E[s] = 0,   E[Δ s] = ∇KL(π‖π_ref),   E[e^{−Δ} s] = −∇KL(π_ref‖π),   E[½Δ² s] = ∇½E[Δ²] − ∇KL(π‖π_ref),

and every use is made of these: a KL penalty in the loss has the gradient E[φ'(Δ) s], one in the reward E[φ(Δ) s], one
weighted by π/π_old with the gradient through the weight E[(φ + φ') s].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.check import choose, instance, one_of, positive
from geomalign.batch import Batch, PreferenceBatch
from geomalign.chart import LogRatio
from geomalign.measure import Measure, NestedMean
from geomalign.objective.formula import Objective
from geomalign.optimization import (
    BregmanGeometry,
    ChiSquare,
    ImportanceWeighted,
    Linear,
    OptimizationGeometry,
    ReverseKL,
    StraightThrough,
)
from geomalign.sampling import ImportanceRatio, Label, SamplingGeometry
from geomalign.sampling.base import Transformed
from geomalign.unit import Token, Unit

__all__ = ["ESTIMATORS", "KL_PENALTIES", "KLPenalty", "KLReward", "kl_penalty"]


@dataclasses.dataclass(frozen=True)
class KLReward(Transformed):
    """g = g₀ − beta·φ(Δ_ref): the KL penalty in the reward instead of in the loss, per token or per response.

    Δ_ref = log π_old − log π_ref is the log-ratio of the policy that sampled, computed once per rollout. Under the
    score function the gradient of E_π[φ(Δ_ref)] is then exact for φ = Δ (k1) and, with unit="return", for any φ.

    Args:
        of: the geometry whose drive g₀ is penalised.
        penalty: φ, such as `Linear()` (k1), `ChiSquare()` (k2), `ReverseKL()` (k3).
        beta: strength, positive.
        unit: "response": φ of the response's summed Δ_ref; "token": φ of every token's; "return": the sum of φ over
            this and all later tokens.

    Raises:
        ValueError: an argument is out of its range, or the batch has no `old` or no `reference`.

    >>> import torch, geomalign as ga
    >>> old, reference = torch.tensor([[-1.0], [-1.0]]), torch.tensor([[-1.0], [-3.0]])
    >>> batch = ga.Batch(old, old, advantage=torch.tensor([1.0, 1.0]), reference=reference)
    >>> ga.KLReward(ga.Advantage(), ga.Linear(), beta=0.1).drive(batch)
    tensor([1.0000, 0.8000])

    Source: Ziegler et al. 2019 (arXiv 1909.08593) eq. 2; Tang & Munos 2025 (arXiv 2506.09477) §4 for the sum over later
        tokens.
    """

    of: SamplingGeometry
    penalty: BregmanGeometry
    beta: float = 0.05
    unit: str = "response"

    def __post_init__(self) -> None:
        super().__post_init__()
        instance(self, "penalty", self.penalty, BregmanGeometry, "Linear()")
        positive(self, "a strength; without a KL penalty use its `of` alone", beta=self.beta)
        one_of(self, "unit", self.unit, ("response", "token", "return"))

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        rows = batch.rows
        judged = rows.judged  # a row without a reward is left alone: without one, a penalty would be all that drives it
        delta = rows.log_probs("old", type(self).__name__) - rows.log_probs("reference", type(self).__name__)
        if self.unit == "response":
            penalty = torch.where(judged, self.penalty.value(delta.sum(-1)), 0)
            return drive - self.beta * (penalty if drive.ndim == 1 else penalty[:, None])
        penalty = torch.where(rows.support & judged[:, None], self.penalty.value(delta), 0)
        if self.unit == "return":
            penalty = penalty.flip(-1).cumsum(-1).flip(-1)
        return torch.where(rows.support, (drive if drive.ndim == 2 else drive[:, None]) - self.beta * penalty, 0)

    @property
    def needs_reference(self) -> bool:
        return True

    def latex(self) -> str:
        return rf"{self.of.latex()}-{self.beta:g}\,\varphi\left(\Delta^{{\mathrm{{ref}}}}\right)"


ESTIMATORS: dict[str, BregmanGeometry] = {"k1": Linear(), "k2": ChiSquare(), "k3": ReverseKL()}
"""Schulman's estimators as potentials of Δ: Δ, ½Δ², e^{−Δ} + Δ − 1."""

_Slots = tuple[SamplingGeometry, OptimizationGeometry]

_USES: dict[str, Callable[[BregmanGeometry, float | None], _Slots]] = {
    "plain": lambda phi, cap: (Label(0.0), phi),
    "straight_through": lambda phi, cap: (Label(0.0), StraightThrough(phi, ChiSquare())),
    "weighted": lambda phi, cap: (ImportanceRatio(cap), ImportanceWeighted(phi, differentiate_weight=False)),
    "corrected": lambda phi, cap: (ImportanceRatio(cap), ImportanceWeighted(phi)),
    "unbiased": lambda phi, cap: (
        ImportanceRatio(cap),
        ImportanceWeighted(StraightThrough(phi, ChiSquare()), differentiate_weight=False),
    ),
}


def kl_penalty(
    estimator: str = "k3",
    use: str = "plain",
    *,
    cap: float | None = None,
    unit: Unit | None = None,
    measure: Measure | None = None,
) -> Objective:
    """A KL penalty to the reference, a term to be added to a loss with its strength as a factor.

    `KL_PENALTIES` says whose gradient each use has. k1 as a plain loss warns: no divergence has its gradient.

    Args:
        estimator: "k1", "k2" or "k3": what its value is.
        use: "plain": as it is. "straight_through": the value of the estimator with the gradient of k2 (verl's "k3+").
            For samples of an older policy, weighted by π/π_old: "weighted", without gradient through the weight;
            "corrected", with it (TRL's `use_bias_correction_kl`); "unbiased", straight-through and weighted (OpenRLHF's
            `unbiased_gradient`).
        cap: upper bound of the weight; None for none.
        unit: `Token()` by default. A sum of penalties of single tokens misses how a token changes what comes after it:
            the gradient of the divergence of whole responses needs `Sequence()`, or the KL penalty in the reward
            (`KLReward`).
        measure: `NestedMean()` by default, as GRPO has it.

    Raises:
        ValueError: an unknown estimator or use; the message lists those there are.

    >>> import geomalign as ga
    >>> penalised = ga.recipes.dr_grpo() + 0.04 * ga.kl_penalty("k3")
    >>> penalised.terms[1][1].optimization
    ReverseKL(beta=1.0)

    Source: Schulman 2020, "Approximating KL divergence"; Tang & Munos 2025 (arXiv 2506.09477).
    """
    potential = choose("kl_penalty", "estimator", estimator, ESTIMATORS)
    sampling, optimization = choose("kl_penalty", "use", use, _USES)(potential, cap)
    return Objective(
        unit=Token() if unit is None else unit,
        chart=LogRatio(),
        sampling=sampling,
        optimization=optimization,
        measure=NestedMean() if measure is None else measure,
        anchor="reference",
    )


@dataclasses.dataclass(frozen=True)
class KLPenalty:
    """One use of one estimator, and the divergences whose gradient it has in expectation.

    Args:
        estimator: "k1", "k2" or "k3".
        use: of `kl_penalty`, or "reward".
        samples: "policy" (exactly on policy) or "rollout" (an older policy π_old).
        gradient: pairs of a coefficient and a divergence: "reverse" KL(π‖π_ref), "forward" KL(π_ref‖π), "square"
            ½E_π[Δ²], "rollout" KL(π_old‖π), "rollout_square" ½E_old[Δ²], "rollout_k3" E_old[e^{−Δ} + Δ − 1]. Empty: no
            gradient.

    The k3 loss of GRPO has the gradient of the forward KL(π_ref‖π), not of the KL(π‖π_ref) that it estimates:

    >>> [entry.gradient for entry in KL_PENALTIES if (entry.estimator, entry.use) == ("k3", "plain")][0]
    ((1.0, 'forward'),)
    """

    estimator: str
    use: str
    samples: str
    gradient: tuple[tuple[float, str], ...]


_REVERSE, _FORWARD = ((1.0, "reverse"),), ((1.0, "forward"),)


KL_PENALTIES: tuple[KLPenalty, ...] = (
    KLPenalty("k1", "plain", "policy", ()),
    KLPenalty("k2", "plain", "policy", _REVERSE),
    KLPenalty("k3", "plain", "policy", _FORWARD),
    KLPenalty("k1", "straight_through", "policy", _REVERSE),
    KLPenalty("k2", "straight_through", "policy", _REVERSE),
    KLPenalty("k3", "straight_through", "policy", _REVERSE),
    KLPenalty("k1", "reward", "policy", _REVERSE),
    KLPenalty("k2", "reward", "policy", ((1.0, "square"), (-1.0, "reverse"))),
    KLPenalty("k3", "reward", "policy", ((1.0, "reverse"), (-1.0, "forward"))),
    KLPenalty("k1", "plain", "rollout", ((-1.0, "rollout"),)),
    KLPenalty("k2", "plain", "rollout", ((1.0, "rollout_square"),)),
    KLPenalty("k3", "plain", "rollout", ((1.0, "rollout_k3"),)),
    KLPenalty("k1", "weighted", "rollout", ()),
    KLPenalty("k2", "weighted", "rollout", _REVERSE),
    KLPenalty("k3", "weighted", "rollout", _FORWARD),
    KLPenalty("k1", "corrected", "rollout", _REVERSE),
    KLPenalty("k2", "corrected", "rollout", ((1.0, "square"),)),
    KLPenalty("k3", "corrected", "rollout", _REVERSE),
    KLPenalty("k1", "unbiased", "rollout", _REVERSE),
    KLPenalty("k2", "unbiased", "rollout", _REVERSE),
    KLPenalty("k3", "unbiased", "rollout", _REVERSE),
)
"""Whose gradient each use has, for one step. Tested by exact enumeration of a finite support."""
