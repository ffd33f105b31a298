"""Helpers that several recipes share: how a response is measured, and the logistic link of a labelled pair."""

from __future__ import annotations

import math

from geomalign._util import check
from geomalign._util.symbol import Symbol
from geomalign.chart import Chart, LogRatio
from geomalign.objective import Objective
from geomalign.optimization import Logistic
from geomalign.sampling import Label
from geomalign.unit import MeanSequence, ResponseUnit, Sequence, Unit

__all__ = ["LENGTHS", "check_smoothing", "log_odds", "logistic"]

LENGTHS: dict[str, ResponseUnit] = {"mean": MeanSequence(), "sum": Sequence()}
"""What `normalize` means: a response's log-ratio averaged or summed over its tokens."""


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
