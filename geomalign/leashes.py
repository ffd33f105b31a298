"""Leashes: the estimators k1, k2, k3 of a divergence from the reference, and whose gradient each of their uses has.

An estimator's value says what is reported; what the policy is pulled by is the expectation of its gradient, which is
that of another divergence, or of none, more often than not. With Δ = log π − log π_ref and the score s = ∇log π, and
under samples of π,

    E[s] = 0,   E[Δ s] = ∇KL(π‖π_ref),   E[e^{−Δ} s] = −∇KL(π_ref‖π),   E[½Δ² s] = ∇½E[Δ²] − ∇KL(π‖π_ref),

and everything below is one of these: a leash in the loss has E[φ'(Δ) s], one in the reward E[φ(Δ) s], one weighted by
π/π_old with the gradient through the weight E[(φ + φ') s].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from geomalign.chart import LogRatio
from geomalign.importance import ImportanceRatio
from geomalign.measure import Measure, NestedMean
from geomalign.objective import Objective
from geomalign.optimization import (
    BregmanGeometry,
    ChiSquare,
    Linear,
    OptimizationGeometry,
    ReverseKL,
    Reweighted,
    StraightThrough,
)
from geomalign.sampling import Label, SamplingGeometry
from geomalign.unit import Token, Unit

__all__ = ["ESTIMATORS", "LEASHES", "Leash", "leash"]

ESTIMATORS: dict[str, BregmanGeometry] = {"k1": Linear(), "k2": ChiSquare(), "k3": ReverseKL()}
"""Schulman's estimators as potentials of Δ: Δ, ½Δ², e^{−Δ} + Δ − 1."""

_Slots = tuple[SamplingGeometry, OptimizationGeometry]
_USES: dict[str, Callable[[BregmanGeometry, float | None], _Slots]] = {
    "plain": lambda phi, cap: (Label(0.0), phi),
    "straight_through": lambda phi, cap: (Label(0.0), StraightThrough(phi, ChiSquare())),
    "weighted": lambda phi, cap: (ImportanceRatio(cap), Reweighted(phi, through=False)),
    "corrected": lambda phi, cap: (ImportanceRatio(cap), Reweighted(phi)),
    "unbiased": lambda phi, cap: (ImportanceRatio(cap), Reweighted(StraightThrough(phi, ChiSquare()), through=False)),
}


def leash(
    estimator: str = "k3",
    use: str = "plain",
    *,
    cap: float | None = None,
    unit: Unit | None = None,
    measure: Measure | None = None,
) -> Objective:
    """A leash to the reference as a term of the loss, to be added with its strength: `surrogate + 0.04 * leash("k3")`.

    Args:
        estimator: "k1", "k2" or "k3": what its value is.
        use: "plain": as it is. "straight_through": the value of the estimator with the gradient of k2 (verl's "k3+").
            For samples of an older policy, weighted by π/π_old: "weighted", without gradient through the weight;
            "corrected", with it (TRL's `use_bias_correction_kl`); "unbiased", straight-through and weighted (OpenRLHF's
            `unbiased_gradient`).
        cap: upper bound of the weight; None for none.
        unit: `Token()` by default. A sum over tokens of a token's leash misses how a token changes what comes after it:
            the gradient of the divergence of whole responses needs `Sequence()`, or the leash in the reward
            (`LeashedReward`).
        measure: `NestedMean()` by default, as GRPO has it.

    `LEASHES` says whose gradient each has. k1 as a plain loss warns: its gradient is nobody's.

    Source: Schulman 2020, "Approximating KL divergence"; Tang & Munos 2025 (arXiv 2506.09477).
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"leash(estimator={estimator!r}): choose one of {', '.join(map(repr, ESTIMATORS))}.")
    if use not in _USES:
        raise ValueError(f"leash(use={use!r}): choose one of {', '.join(map(repr, _USES))}.")
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
class Leash:
    """One use of one estimator, and the divergences whose gradient it has in expectation.

    Args:
        estimator: "k1", "k2" or "k3".
        use: of `leash`, or "reward".
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
LEASHES: tuple[Leash, ...] = (
    Leash("k1", "plain", "policy", ()),
    Leash("k2", "plain", "policy", _REVERSE),
    Leash("k3", "plain", "policy", _FORWARD),
    Leash("k1", "straight_through", "policy", _REVERSE),
    Leash("k2", "straight_through", "policy", _REVERSE),
    Leash("k3", "straight_through", "policy", _REVERSE),
    Leash("k1", "reward", "policy", _REVERSE),
    Leash("k2", "reward", "policy", ((1.0, "square"), (-1.0, "reverse"))),
    Leash("k3", "reward", "policy", ((1.0, "reverse"), (-1.0, "forward"))),
    Leash("k1", "plain", "rollout", ((-1.0, "rollout"),)),
    Leash("k2", "plain", "rollout", ((1.0, "rollout_square"),)),
    Leash("k3", "plain", "rollout", ((1.0, "rollout_k3"),)),
    Leash("k1", "weighted", "rollout", ()),
    Leash("k2", "weighted", "rollout", _REVERSE),
    Leash("k3", "weighted", "rollout", _FORWARD),
    Leash("k1", "corrected", "rollout", _REVERSE),
    Leash("k2", "corrected", "rollout", ((1.0, "square"),)),
    Leash("k3", "corrected", "rollout", _REVERSE),
    Leash("k1", "unbiased", "rollout", _REVERSE),
    Leash("k2", "unbiased", "rollout", _REVERSE),
    Leash("k3", "unbiased", "rollout", _REVERSE),
)
"""Whose gradient each use has, for one step. Tested by exact enumeration of a finite support."""
