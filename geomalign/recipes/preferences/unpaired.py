"""recipes.preferences.unpaired"""

from __future__ import annotations

import math

from geomalign.chart import LogRatio, Sigmoid
from geomalign.objective import BaseObjective, FenchelYoung, Objective, WeightedSum
from geomalign.optimization import ChiSquare, Indicator, Logistic
from geomalign.recipes.shared import check_positive
from geomalign.sampling import Advantage, Label, SignWeighted
from geomalign.unit import Chosen, Preference, Rejected, Sequence, Shifted

__all__ = ["apo_down", "apo_zero", "bco", "kto", "nca", "sppo"]


def nca(beta: float = 0.1) -> WeightedSum:
    """−log σ(βΔ⁺) − ½ log σ(−βΔ⁺) − ½ log σ(−βΔ⁻): each response against the reference, with finite equilibrium βΔ⁺ =
    log 2.

    Args:
        beta: inverse temperature, positive.

    Source: Chen et al. 2024 (arXiv 2402.05369), pairs.
    """
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
    """−log σ(βΔ⁺ − δ) − log σ(δ − βΔ⁻): a classifier of good and poor responses.

    Args:
        beta: inverse temperature, positive.
        delta: reward shift δ, the running mean of the two sides' mean rewards βΔ.

    Evaluated on a `PreferenceBatch`, or on a `Batch` with rewards +1 (good) and −1 (poor): then twice the mean over
    responses.

    Source: Jung et al. 2024 (arXiv 2404.04656).
    """
    check_positive("bco", beta=beta)
    return 2.0 * Objective(
        unit=Shifted(Sequence(), delta / beta),
        chart=LogRatio(),
        sampling=SignWeighted(Advantage(), positive=beta, negative=0.0),
        optimization=Logistic(beta),
        anchor="reference",
    )


def sppo(beta: float = 1e-3) -> BaseObjective:
    """(Δ⁺ − 1/2β)² + (Δ⁻ + 1/2β)²: every response regressed on half its win rate's excess.

    Args:
        beta: 1/η of the paper, positive.

    Evaluated on a `PreferenceBatch`, or on a `Batch` with rewards ±1; rewards 2P − 1 give the soft form.

    Source: Wu et al. 2024 (arXiv 2405.00675) eq. 4.7.
    """
    check_positive("sppo", beta=beta)
    return 2.0 * Objective(
        unit=Sequence(),
        chart=LogRatio(),
        sampling=SignWeighted(Advantage(), positive=1 / beta, negative=1 / beta),
        optimization=ChiSquare(2.0),
        anchor="reference",
        offset=FenchelYoung(),
    )


def apo_zero(beta: float = 0.1) -> BaseObjective:
    """1 − σ(βΔ⁺) + σ(βΔ⁻): the chosen response up, the rejected one down. Linear in the coordinate σ(βΔ): nothing
    resists but its end.

    Args:
        beta: inverse temperature, positive.

    Evaluated on a `PreferenceBatch`, or on a `Batch` with rewards ±1.

    Source: D'Oosterlinck et al. 2024 (arXiv 2408.06266) eq. 7.
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
    """σ(βΔ⁺) + 1 − σ(β(Δ⁺ − Δ⁻)): both responses down, the rejected one further.

    Args:
        beta: inverse temperature, positive.

    Source: D'Oosterlinck et al. 2024 (arXiv 2408.06266) eq. 8.
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
        unit=Preference(beta=beta),
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
    """λ(1 − σ(±β(Δ − z₀))): a value function with diminishing sensitivity on both sides of z₀.

    Args:
        beta: risk aversion, positive.
        desirable: λ_D, ≥ 0.
        undesirable: λ_U, ≥ 0.
        reference_point: z₀ ≥ 0, an estimate of KL(π‖π_ref) from mismatched prompts and responses. It is a number of the
            batch that the batch's own log-probabilities do not hold: `dataclasses.replace` or a new recipe a step.

    Drive: the sign of the batch's `reward`, +1 for desirable and −1 for undesirable responses (a `PreferenceBatch` has
    them).

    Source: Ethayarajh et al. 2024 (arXiv 2402.01306).
    """
    if not 0 <= reference_point < math.inf:
        raise ValueError(f"kto(reference_point={reference_point!r}): an estimate of a KL divergence, so not negative.")
    at_anchor = _sigmoid(-beta * reference_point)
    return Objective(
        unit=Sequence(),
        chart=Sigmoid(beta, reference_point),
        sampling=SignWeighted(Advantage(), positive=desirable, negative=undesirable),
        optimization=Indicator(-at_anchor, 1 - at_anchor),
        anchor="reference",
        offset=FenchelYoung(),
    )
