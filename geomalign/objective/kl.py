"""KL penalties: the estimators k1, k2, k3 of a divergence from the reference, and whose gradient each of their uses
has.

An estimator's value says what is reported; what the policy is pulled by is the expectation of its gradient, which is
that of another divergence, or of none, more often than not. With Δ = log π − log π_ref and the score s = ∇log π, and
under samples of π,

    E[s] = 0,   E[Δ s] = ∇KL(π‖π_ref),   E[e^{−Δ} s] = −∇KL(π_ref‖π),   E[½Δ² s] = ∇½E[Δ²] − ∇KL(π‖π_ref),

and everything below is one of these: a KL penalty in the loss has E[φ'(Δ) s], one in the reward E[φ(Δ) s], one
weighted by
π/π_old with the gradient through the weight E[(φ + φ') s].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.types import Locality
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
from geomalign.sampling.base import _is_sampling
from geomalign.unit import Token, Unit

__all__ = ["ESTIMATORS", "KL_PENALTIES", "KLPenalty", "KLReward", "kl_penalty"]


@dataclasses.dataclass(frozen=True)
class KLReward(SamplingGeometry):
    """g = g₀ − beta·φ(Δ_ref): the KL penalty in the reward instead of in the loss, a token or a response.

    The rollout policy's own log-ratio to the reference is used, once for a rollout. Under the score function the
    gradient of E_π[φ(Δ_ref)] is then exact for φ = Δ (k1) and, with the reward-to-go, for any φ.

    Args:
        of: the geometry whose drive g₀ is penalised.
        KL penalty: φ, such as Linear() (k1), ChiSquare() (k2), ReverseKL() (k3).
        beta: strength, positive.
        unit: "response": φ of the response's summed Δ_ref; "token": φ of every token's; "return": the sum of φ over
            this and all later tokens.

    Source: Ziegler et al. 2019 (arXiv 1909.08593) eq. 2; Tang & Munos 2025 (arXiv 2506.09477) §4 for the sum over later
    tokens.
    """

    of: SamplingGeometry
    penalty: BregmanGeometry
    beta: float = 0.05
    unit: str = "response"

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        if not isinstance(self.penalty, BregmanGeometry):
            raise ValueError(
                f"KLReward(penalty={self.penalty!r}): expected a BregmanGeometry instance such as Linear()."
            )
        if not self.beta > 0:
            raise ValueError(
                f"KLReward(beta={self.beta!r}): a strength is positive; without a KL penalty use its `of` alone."
            )
        if self.unit not in ("response", "token", "return"):
            raise ValueError(f"KLReward(unit={self.unit!r}): choose one of 'response', 'token', 'return'.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        rows = batch.rows
        delta = rows.log_probs("old", type(self).__name__) - rows.log_probs("reference", type(self).__name__)
        if self.unit == "response":
            penalty = torch.where(rows.support.any(-1), self.penalty.value(delta.sum(-1)), 0)
            return drive - self.beta * (penalty if drive.ndim == 1 else penalty[:, None])
        penalty = torch.where(rows.support, self.penalty.value(delta), 0)
        if self.unit == "return":
            penalty = penalty.flip(-1).cumsum(-1).flip(-1)
        return torch.where(rows.support, (drive if drive.ndim == 2 else drive[:, None]) - self.beta * penalty, 0)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.reweight(drive, log_ratio, batch)

    @property
    def locality(self) -> Locality:
        return self.of.locality

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
    """A KL penalty to the reference as a term of the loss, to be added with its strength: `surrogate + 0.04 *
    kl_penalty("k3")`.

    Args:
        estimator: "k1", "k2" or "k3": what its value is.
        use: "plain": as it is. "straight_through": the value of the estimator with the gradient of k2 (verl's "k3+").
            For samples of an older policy, weighted by π/π_old: "weighted", without gradient through the weight;
            "corrected", with it (TRL's `use_bias_correction_kl`); "unbiased", straight-through and weighted (OpenRLHF's
            `unbiased_gradient`).
        cap: upper bound of the weight; None for none.
        unit: `Token()` by default. A sum over tokens of a token's KL penalty misses how a token changes what comes
        after it:
            the gradient of the divergence of whole responses needs `Sequence()`, or the KL penalty in the reward
            (`KLReward`).
        measure: `NestedMean()` by default, as GRPO has it.

    `KL_PENALTIES` says whose gradient each has. k1 as a plain loss warns: its gradient is nobody's.

    Source: Schulman 2020, "Approximating KL divergence"; Tang & Munos 2025 (arXiv 2506.09477).
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"kl_penalty(estimator={estimator!r}): choose one of {', '.join(map(repr, ESTIMATORS))}.")
    if use not in _USES:
        raise ValueError(f"kl_penalty(use={use!r}): choose one of {', '.join(map(repr, _USES))}.")
    sampling, optimization = _USES[use](ESTIMATORS[estimator], cap)
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
