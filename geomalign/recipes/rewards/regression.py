"""Recipes that regress a log-ratio from the reference on an advantage."""

from __future__ import annotations

from collections.abc import Callable

from geomalign._util import check
from geomalign.chart import LogRatio
from geomalign.objective import BaseObjective, FenchelYoung, Objective
from geomalign.optimization import ChiSquare, GroupVariance
from geomalign.sampling import Advantage, GroupAdvantage, LogMeanExpBaseline, SamplingGeometry
from geomalign.unit import Sequence

__all__ = ["a2po", "dro", "gvpo", "pmd"]


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


def gvpo(beta: float = 0.1, *, anchor: str = "old") -> Objective:
    """Group Variance Policy Optimisation, a regression that no common shift of a group enters: (1/N) Σ_i n/(n−1)·½[(r_i
    − r̄) − (βΔ_i − mean βΔ)]².

    That is (1/P) Σ_G ½ s²_G(r − βΔ) over P prompts, s² the unbiased variance, where all groups have one size n. The
    normaliser of the optimal policy is a common shift, so that it needs no estimate. The weight of ∇log π(y_i) is that
    of RLOO on policy.

    Args:
        beta: strength of the regularisation, > 0.
        anchor: the policy that Δ is measured from, "old" or "reference".

    Source: Zhang et al. 2025 (GVPO, arXiv 2504.19599), with the β and the constants of its code for verl. The sum of
    squares [(r_i − r_j) − β(Δ_i − Δ_j)]² over the pairs of a group is n(n−1) s²_G: pairwise OPMD is this regression.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.gvpo(beta=0.1)(ga.laws.sample_batch())
    >>> outcome.force[[0, 2, 6]]  # of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([-0.6741,  1.7514, -1.0772], dtype=torch.float64)
    """
    return Objective(
        unit=Sequence(),
        chart=LogRatio(scale=beta),
        sampling=GroupAdvantage(baseline="leave_one_out"),
        optimization=GroupVariance(),
        anchor=check.choose("gvpo", "anchor", anchor, {"old": "old", "reference": "reference"}),
        offset=FenchelYoung(),
    )


_NORMALISERS: dict[str, Callable[[float], SamplingGeometry]] = {
    "log_mean_exp": LogMeanExpBaseline,
    "mean": lambda tau: GroupAdvantage(),
}


def pmd(tau: float = 1.0, *, normalizer: str = "log_mean_exp") -> Objective:
    """Policy mirror descent, the squared residual of the optimal policy's equation: (1/N) Σ_i (r_i − V − τΔ_i)²/2τ,  V
    the group's estimate of τ log Z.

    Args:
        tau: strength of the regularisation, > 0, in units of the reward per nat.
        normalizer: V: "log_mean_exp", τ log mean e^{r/τ}; "mean", the mean reward, to which it tends for large τ and
            with which Kimi k1.5 was trained; `mirror_descent` is that without a constant.

    Source: Kimi k1.5 (arXiv 2501.12599) §2.3.2, the surrogate divided by 2τ as its gradient is there. Also called
    OPMD, and PMD-mean with the mean (arXiv 2602.05933).

    >>> import geomalign as ga
    >>> outcome = ga.recipes.pmd(tau=0.5)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # r − V of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.0638, -1.5844,  0.2999], dtype=torch.float64)
    """
    check.positive("pmd", tau=tau)
    return Objective(
        unit=Sequence(),
        chart=LogRatio(),
        sampling=check.choose("pmd", "normalizer", normalizer, _NORMALISERS)(tau),
        optimization=ChiSquare(tau),
        offset=FenchelYoung(),
    )
