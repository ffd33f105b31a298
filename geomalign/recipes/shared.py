"""Helpers that several recipes share: how a response is measured, policy gradients, the logistic link of a pair."""

from __future__ import annotations

import math

from geomalign._util import check
from geomalign._util.symbol import Symbol
from geomalign.chart import Chart, LogRatio, Ratio
from geomalign.objective import Objective, Surrogate
from geomalign.optimization import ChiSquare, Flat, Logistic
from geomalign.sampling import Label, SamplingGeometry
from geomalign.unit import MeanSequence, ResponseUnit, Sequence, Token, Unit

__all__ = ["DRIFT", "LENGTHS", "check_smoothing", "log_odds", "logistic", "policy_gradient", "score_function"]

LENGTHS: dict[str, ResponseUnit] = {"mean": MeanSequence(), "sum": Sequence()}
"""What `normalize` means: a response's log-ratio averaged or summed over its tokens."""

DRIFT = Objective(unit=Token(), chart=LogRatio(), sampling=Label(0.0), optimization=ChiSquare(2.0))
"""(1/Σ|y_i|) Σ_i Σ_t Δ², the square of a token's log-ratio from the policy that sampled."""


def score_function(sampling: SamplingGeometry, unit: ResponseUnit | None = None) -> Objective:
    """−E[g log π], the mean over the events of a unit; of whole responses where none is given.

    >>> import geomalign as ga
    >>> score_function(ga.Advantage()) == ga.recipes.reinforce()
    True
    """
    return Objective(unit=unit or Sequence(), chart=LogRatio(), sampling=sampling, optimization=Flat(), anchor=None)


def policy_gradient(sampling: SamplingGeometry) -> Objective:
    """−(1/Σ|y_i|) Σ_i Σ_t g·t, with the ratio t of a token.

    >>> import geomalign as ga
    >>> policy_gradient(ga.Advantage()).offset
    Surrogate()
    """
    return Objective(unit=Token(), chart=Ratio(), sampling=sampling, optimization=Flat(), offset=Surrogate())


def check_smoothing(recipe: str, label_smoothing: float) -> None:
    """Raise a ValueError unless ε lies in [0, 0.5).

    >>> check_smoothing("dpo", 0.1)
    """
    check.within(recipe, 0, 0.5, "the probability that a label is wrong", ends="[)", label_smoothing=label_smoothing)


def log_odds(epsilon: float) -> float:
    """log((1 − ε)/ε), which is written so where ε is a symbol.

    >>> round(log_odds(1e-3), 4)
    6.9068
    """
    value = math.log1p(-epsilon) - math.log(epsilon)
    return Symbol(value, rf"\log\frac{{1-{epsilon:g}}}{{{epsilon:g}}}") if isinstance(epsilon, Symbol) else value


def logistic(
    recipe: str, unit: Unit, beta: float, label_smoothing: float = 0.0, chart: Chart | None = None
) -> Objective:
    """−(1−ε) log σ(βu) − ε log σ(−βu), measured from the reference.

    >>> logistic("dpo", MeanSequence(), beta=0.1, label_smoothing=0.2).sampling
    Label(strength=0.08000000000000002)
    """
    check.number(recipe, beta=beta)
    check_smoothing(recipe, label_smoothing)
    return Objective(
        unit=unit,
        chart=chart or LogRatio(),
        sampling=Label(beta * (1 - label_smoothing)),
        optimization=Logistic(beta),
        anchor="reference",
    )
