"""What several recipes are written with: choices by name, and the logistic link of a labelled pair."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from geomalign.chart import Chart, LogRatio
from geomalign.objective import Objective
from geomalign.optimization import Logistic
from geomalign.sampling import Label
from geomalign.unit import MeanSequence, ResponseUnit, Sequence, Unit

__all__ = ["LENGTHS", "check_positive", "check_smoothing", "check_weight", "choose", "logistic"]

Option = TypeVar("Option")

LENGTHS: dict[str, ResponseUnit] = {"mean": MeanSequence(), "sum": Sequence()}
"""What `normalize` means: a response's log-ratio averaged or summed over its tokens."""


def choose(recipe: str, name: str, value: str, options: Mapping[str, Option]) -> Option:
    """The option called `value`; a ValueError that names them all if there is none."""
    if value not in options:
        raise ValueError(f"{recipe}({name}={value!r}): choose one of {', '.join(map(repr, options))}.")
    return options[value]


def check_positive(recipe: str, **values: float) -> None:
    """Raise a ValueError unless all are positive and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{recipe}({name}={value!r}): a positive number.")


def check_weight(recipe: str, **values: float) -> None:
    """Raise a ValueError unless all are finite and not negative."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{recipe}({name}={value!r}): the weight of a term, so a number that is not negative.")


def check_smoothing(recipe: str, label_smoothing: float) -> None:
    """Raise a ValueError unless it is the chance that a label is wrong, in [0, 0.5)."""
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(
            f"{recipe}(label_smoothing={label_smoothing!r}): the chance that a label is wrong lies in [0, 0.5)."
        )


def logistic(
    recipe: str, unit: Unit, beta: float, label_smoothing: float = 0.0, chart: Chart | None = None
) -> Objective:
    """−(1−ε) log σ(βu) − ε log σ(−βu), measured from the reference."""
    check_smoothing(recipe, label_smoothing)
    return Objective(
        unit=unit,
        chart=chart or LogRatio(),
        sampling=Label(beta * (1 - label_smoothing)),
        optimization=Logistic(beta),
        anchor="reference",
    )
