"""Recipes of trainers that mask tokens by a ratio, or weigh them by one, between two of three policies."""

from __future__ import annotations

from collections.abc import Callable

from geomalign._util import check
from geomalign.chart import LogRatio, Ratio
from geomalign.measure import PooledMean
from geomalign.objective import BaseObjective, Objective, Surrogate
from geomalign.optimization import Clip, Flat
from geomalign.recipes.shared import DRIFT, policy_gradient, score_function
from geomalign.sampling import (
    Advantage,
    GroupAdvantage,
    LogMeanExpBaseline,
    MaskedImportance,
    RingMask,
    SamplingGeometry,
)
from geomalign.unit import Token

__all__ = ["decoupled_ppo", "opmd", "prime_ipo", "rec", "softmax_ppo"]


def decoupled_ppo(epsilon: float = 0.2, epsilon_high: float | None = None, *, cap: float | None = None) -> Objective:
    """Decoupled PPO, which clips against a recent policy and corrects for an older one that sampled: −(1/Σ|y_i|) Σ_i
    Σ_t sg[π_old/π_behavior] min(tA, clip(t)A), t = π/π_old.

    `Batch.behavior` is the policy that sampled, `Batch.old` the proximal one, such as the policy at the beginning of
    the step. The drive is the batch's `advantage`, or its `reward`.

    Args:
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0; `epsilon` where None.
        cap: tokens with π_old/π_behavior above it are dropped, > 0; None: none, as in the papers. AReaL recommends 5.

    Source: Hilton et al. 2021 (arXiv 2110.00641) §3; AReaL, Fu et al. 2025 (arXiv 2505.24298).

    >>> import dataclasses, geomalign as ga
    >>> batch = ga.laws.sample_batch()
    >>> fresh = dataclasses.replace(batch, behavior=batch.old)  # the proximal policy sampled: this is PPO
    >>> bool((ga.recipes.decoupled_ppo().gradient(fresh) - ga.recipes.ppo().gradient(fresh)).abs().max() < 1e-12)
    True
    """
    if cap is not None:
        check.positive("decoupled_ppo", "a bound of π_old/π_behavior, or None", cap=cap)
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=MaskedImportance(Advantage(), low=0.0, high=cap),  # a ratio is never below 0
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=PooledMean(),
        offset=Surrogate(),
    )


_BASELINES: dict[str, Callable[[float], SamplingGeometry]] = {
    "mean": lambda tau: GroupAdvantage(),
    "log_mean_exp": LogMeanExpBaseline,
}


def opmd(tau: float = 1.0, *, baseline: str = "mean") -> BaseObjective:
    """OPMD as Trinity-RFT has it, the policy gradient with its step divided by 1 + τ: −(1/(1+τ)) (1/Σ|y_i|) Σ_i Σ_t
    (r − V) log π.

    No importance weight corrects for an older policy. The square of which it is the first order is `pmd`.

    Args:
        tau: strength of the regularisation, > 0, in units of the reward.
        baseline: V of the group: "mean", or "log_mean_exp", τ log mean e^{r/τ}.

    Source: Pan et al. 2025 (Trinity-RFT, arXiv 2505.17826), read in its code.

    >>> import geomalign as ga
    >>> ga.recipes.opmd(tau=3.0).terms[0][0]
    0.25
    """
    check.positive("opmd", "a strength of regularisation", tau=tau)
    return (1 / (1 + tau)) * score_function(check.choose("opmd", "baseline", baseline, _BASELINES)(tau), Token())


def prime_ipo(threshold: float = 0.1, beta: float = 1e-3) -> BaseObjective:
    """The loss called IPO in prime-rl: (1/Σ|y_i|) Σ_i Σ_t [ −sg[M] t A + β log²t ], M = 0 where |π − π_old| >
    threshold.

    A token whose probability has moved too far in either direction has no policy gradient, and all tokens are drawn
    back. `Batch.old` are the log-probabilities of the engine that sampled.

    Args:
        threshold: of the change of a token's probability, > 0.
        beta: strength of the square of the log-ratio, ≥ 0.

    Source: prime-rl, `ipo_loss_fn` (2026). It is not Identity Preference Optimization, `ipo`.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.prime_ipo(threshold=0.05)(ga.laws.sample_batch())
    >>> outcome.terms[0].drive[6]  # the first and the last token have moved by more
    tensor([0.0000, 0.7068, 0.7068, 0.7068, 0.7068, 0.0000], dtype=torch.float64)
    """
    check.positive("prime_ipo", "of a probability", threshold=threshold)
    check.non_negative("prime_ipo", beta=beta)
    pull = policy_gradient(
        MaskedImportance(
            GroupAdvantage(),
            low=-threshold,
            high=threshold,
            metric="tv",
            importance="none",
            numerator="policy",
            denominator="old",
        )
    )
    return pull + beta * DRIFT if beta else pull


def rec(
    clip: str | None = "one_side",
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    *,
    importance: bool = False,
    outer: tuple[float, float] = (0.6, 2.0),
) -> Objective:
    """REC, group-relative REINFORCE under a mask of tokens: −(1/Σ|y_i|) Σ_i Σ_t sg[M w] A log π, w = 1, or t with
    importance sampling.

    Args:
        clip: the mask. "one_side": PPO's, t ≤ 1 + ε_high under a positive advantage and t ≥ 1 − ε under a negative one;
            "two_side": both bounds for all tokens; "ring": those within both bounds, and those that the advantage
            pulls back from beyond the outer ones; None: no mask.
        epsilon: distance of the lower bound from the ratio 1, in [0, 1).
        epsilon_high: distance of the upper bound, ≥ 0, and not 0 where ε is; `epsilon` where None.
        importance: whether w = t; the methods' names end in IS or NoIS.
        outer: distances of the outer bounds of the ring, below and above.

    Source: Yao et al. 2025 (arXiv 2509.24203), read in the authors' code (Trinity-RFT). SkyRL's `rollout_is` is
    "two_side" with importance sampling, from the engine's log-probabilities.

    >>> import geomalign as ga
    >>> batch = ga.laws.sample_batch()
    >>> same = ga.recipes.rec("one_side", importance=True).gradient(batch) - ga.recipes.dr_grpo().gradient(batch)
    >>> ga.recipes.rec("ring")(batch).drive[6]  # A = 0.71; the first token has the ratio 1.25, on the ring
    tensor([0.0000, 0.7068, 0.7068, 0.7068, 0.7068, 0.7068], dtype=torch.float64)
    """
    check.within("rec", 0, 1, "the distance of a wall from the ratio 1", ends="[)", epsilon=epsilon)
    above = epsilon if epsilon_high is None else epsilon_high
    check.non_negative("rec", "the distance of a wall from the ratio 1", epsilon_high=above)
    if clip is not None and epsilon == above == 0:
        check.refuse("rec", "no ratio lies between its walls.", epsilon=epsilon, epsilon_high=epsilon_high)
    choices = ("one_side", "two_side", "ring", None)
    check.one_of("rec", "clip", clip, choices)
    check.boolean("rec", importance=importance)
    check.numbers("rec", "the distances of the outer walls below and above", outer=outer)
    advantage = GroupAdvantage()
    if clip == "ring":
        return score_function(RingMask(advantage, epsilon, above, *outer, importance=importance), Token())
    return score_function(
        MaskedImportance(
            advantage,
            low=0.0 if clip is None else 1 - epsilon,
            high=None if clip is None else 1 + above,
            sign_aware="outward" if clip == "one_side" else "no",
            importance="token" if importance else "none",
            numerator="policy",
            denominator="old",
        ),
        Token(),
    )


def softmax_ppo(epsilon: float = 0.3) -> Objective:
    """Softmax PPO (sPPO), the policy gradient of a log-ratio that is clipped: −(1/Σ|y_i|) Σ_i Σ_t A log clip(t,
    1/(1+ε), 1+ε).

    Both bounds hold under either sign of the advantage. It is not Self-Play Preference Optimization, `sppo`.

    Args:
        epsilon: the bounds of the ratio are 1/(1 + ε) and 1 + ε, > 0; Trinity-RFT's 0.3.

    Source: Vaswani et al. 2021 (arXiv 2108.05828), sPPO; read in Trinity-RFT, from which the advantage r − mean is.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.softmax_ppo(epsilon=0.2)(ga.laws.sample_batch())
    >>> outcome.drive[6]  # the ratio of the first token is 1.25
    tensor([0.0000, 0.7068, 0.7068, 0.7068, 0.7068, 0.7068], dtype=torch.float64)
    """
    check.positive("softmax_ppo", epsilon=epsilon)
    return Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=MaskedImportance(
            GroupAdvantage(),
            low=1 / (1 + epsilon),
            high=1 + epsilon,
            importance="none",
            numerator="policy",
            denominator="old",
        ),
        optimization=Flat(),
        measure=PooledMean(),
    )
