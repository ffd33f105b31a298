"""Recipes whose events are single responses, labelled good or bad, instead of pairs."""

from __future__ import annotations

import math

from geomalign._util import check
from geomalign.chart import LogRatio, Sigmoid
from geomalign.objective import BaseObjective, FenchelYoung, Objective, WeightedSum
from geomalign.optimization import ChiSquare, Indicator, Logistic
from geomalign.sampling import Advantage, Label, SignWeighted
from geomalign.unit import Chosen, PreferenceProbability, Rejected, Sequence, Shifted

__all__ = ["apo_down", "apo_zero", "bco", "kto", "nca", "sppo"]


def nca(beta: float = 0.1) -> WeightedSum:
    """Noise contrastive alignment, each response against the reference: −log σ(βΔ⁺) − ½ log σ(−βΔ⁺) − ½ log σ(−βΔ⁻),
    with the finite equilibrium βΔ⁺ = log 2.

    Args:
        beta: inverse temperature, > 0, per nat.

    Source: Chen et al. 2024 (arXiv 2402.05369), pairs.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.nca(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # 2 log 2 = 1.386 where the policy is the reference
    1.37
    """
    check.number("nca", beta=beta)
    good = Objective(
        unit=Chosen(),
        chart=LogRatio(),
        sampling=Label(2 * beta / 3),
        optimization=Logistic(beta),
        anchor="reference",
    )
    poor = Objective(
        unit=Rejected(), chart=LogRatio(), sampling=Label(0.0), optimization=Logistic(beta), anchor="reference"
    )
    return 1.5 * good + 0.5 * poor


def bco(beta: float = 0.1, delta: float = 0.0) -> BaseObjective:
    """Binary classifier optimisation, a classifier of good and poor responses: −log σ(βΔ⁺ − δ) − log σ(δ − βΔ⁻).

    It is evaluated on a `PreferenceBatch`, or on a `Batch` with rewards +1 (good) and −1 (poor): then it is twice the
    mean over responses.

    Args:
        beta: inverse temperature, > 0, per nat.
        delta: reward shift δ, the running mean of the two sides' mean rewards βΔ.

    Source: Jung et al. 2024 (arXiv 2404.04656).

    >>> import geomalign as ga
    >>> outcome = ga.recipes.bco(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # 2 log 2 = 1.386 where the policy is the reference
    1.347
    """
    check.positive("bco", beta=beta)
    check.finite("bco", delta=delta)
    return 2.0 * Objective(
        unit=Shifted(Sequence(), delta / beta),
        chart=LogRatio(),
        sampling=SignWeighted(Advantage(), positive=beta, negative=0.0),
        optimization=Logistic(beta),
        anchor="reference",
    )


def sppo(beta: float = 1e-3) -> BaseObjective:
    """Self-play preference optimisation, each log-ratio regressed on (win rate − ½)/β: (Δ⁺ − 1/2β)² + (Δ⁻ + 1/2β)².

    It is evaluated on a `PreferenceBatch`, or on a `Batch` with rewards ±1; rewards 2P − 1 give the soft form.

    Args:
        beta: 1/η of the paper, > 0.

    Source: Wu et al. 2024 (arXiv 2405.00675) eq. 4.7. The authors' code has half of this loss.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.sppo(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 1)  # 2 (1/(2β))² = 50 where the policy is the reference
    43.2
    """
    check.positive("sppo", beta=beta)
    return 2.0 * Objective(
        unit=Sequence(),
        chart=LogRatio(),
        sampling=SignWeighted(Advantage(), positive=1 / beta, negative=1 / beta),
        optimization=ChiSquare(2.0),
        anchor="reference",
        offset=FenchelYoung(),
    )


def apo_zero(beta: float = 0.1) -> BaseObjective:
    """Anchored preference optimisation, the chosen response up and the rejected one down: 1 − σ(βΔ⁺) + σ(βΔ⁻). It is
    linear in the coordinate σ(βΔ), where only the ends of the interval resist.

    It is evaluated on a `PreferenceBatch`, or on a `Batch` with rewards ±1.

    Args:
        beta: inverse temperature, > 0, per nat.

    Source: D'Oosterlinck et al. 2024 (arXiv 2408.06266) eq. 7.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.apo_zero(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # 1 where the policy is the reference
    0.98
    """
    return 2.0 * Objective(
        unit=Sequence(),
        chart=Sigmoid(beta),
        sampling=Advantage(),
        optimization=Indicator(-0.5, 0.5),
        anchor="reference",
        offset=FenchelYoung(),
    )


def apo_down(beta: float = 0.1) -> WeightedSum:
    """Anchored preference optimisation, both responses down and the rejected one further: σ(βΔ⁺) + 1 − σ(β(Δ⁺ − Δ⁻)).

    Args:
        beta: inverse temperature, > 0, per nat.

    Source: D'Oosterlinck et al. 2024 (arXiv 2408.06266) eq. 8.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.apo_down(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # 1 where the policy is the reference
    0.994
    """
    down = Objective(
        unit=Chosen(),
        chart=Sigmoid(beta),
        sampling=Label(-1.0),
        optimization=Indicator(-0.5, 0.5),
        anchor="reference",
        offset=FenchelYoung(),
    )
    apart = Objective(
        unit=PreferenceProbability(beta=beta),
        chart=LogRatio(),
        sampling=Label(1.0),
        optimization=Indicator(0.0, 1.0),
        anchor="reference",
        offset=FenchelYoung(),
    )
    return down + apart


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def kto(beta: float = 0.1, desirable: float = 1.0, undesirable: float = 1.0, reference_point: float = 0.0) -> Objective:
    """Kahneman–Tversky optimisation, a value function with diminishing sensitivity on both sides of z₀: λ(1 − σ(±β(Δ −
    z₀))).

    Args:
        beta: risk aversion, > 0, per nat.
        desirable: λ_D, ≥ 0.
        undesirable: λ_U, ≥ 0.
        reference_point: z₀ ≥ 0, an estimate of KL(π‖π_ref) from mismatched prompts and responses. The batch's own
            log-probabilities do not hold it: make a new objective for every step, as with `dataclasses.replace`.

    The drive is the sign of the batch's `reward`, +1 for desirable and −1 for undesirable responses; a
    `PreferenceBatch` has both.

    Source: Ethayarajh et al. 2024 (arXiv 2402.01306).

    >>> import geomalign as ga
    >>> outcome = ga.recipes.kto(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # 0.5 where the policy is the reference
    0.49
    """
    check.number("kto", beta=beta)
    check.non_negative("kto", "an estimate of a KL divergence", reference_point=reference_point)
    at_anchor = _sigmoid(-beta * reference_point)
    return Objective(
        unit=Sequence(),
        chart=Sigmoid(beta, reference_point),
        sampling=SignWeighted(Advantage(), positive=desirable, negative=undesirable),
        optimization=Indicator(-at_anchor, 1 - at_anchor),
        anchor="reference",
        offset=FenchelYoung(),
    )
