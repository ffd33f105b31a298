"""The summary of a run, from its metrics alone, so that it is the same however often the run was interrupted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from geomalign.objective import SLOTS, BaseObjective, Objective
from geomalign.training.config.settings import TrainConfig

#: Steps whose mean is reported as the final value of a metric.
LAST = 10

SKIPPED = (
    "updates were left out because the loss or its gradient was not finite; the weights stay as they were. Look for an "
    "overflow or a division by zero in the objective, or take a smaller step size."
)
INACTIVE = (
    "geometry inactive: every update of this run is made at log-ratio 0, where the gradient of each objective is "
    "−E[g ∇log π] and no geometry can act. Use more epochs or minibatches per rollout to compare geometries."
)

Row = Mapping[str, float]
"""One line of `metrics.jsonl`."""


def summarise(
    config: TrainConfig,
    objective: BaseObjective,
    rows: Sequence[Row],
    *,
    name: str,
    offline: bool = False,
    controller: object = None,
) -> dict[str, Any]:
    """A run in one dictionary.

    Args:
        rows: of `metrics.jsonl`; the first one, of step 0, is the accuracy of the base.
        name: of the run.
        offline: whether it was trained on pairs.
        controller: what set the stiffness, if anything did.

    >>> from geomalign.recipes import opo
    >>> rows = [{"step": 0, "accuracy_in": 0.1}, {"step": 1, "reward": 0.5, "accuracy_in": 0.2, "time/step": 2.0}]
    >>> found = summarise(TrainConfig(), opo(), rows, name="opo-r5e-05-s0")
    >>> found["base"], found["final"], found["slots"]["optimization"]
    ({'accuracy_in': 0.1}, {'reward': 0.5, 'accuracy_in': 0.2}, 'ChiSquare(mu=1.0)')
    """
    work = [row for row in rows if row["step"] > 0]
    inactive = [row["inactive"] for row in work if "inactive" in row]
    skipped = _sum(work, "skipped")
    terms = [{"coefficient": coefficient, **slots(term)} for coefficient, term in objective.terms]
    return {
        "name": name,
        "objective": config.objective,
        "options": dict(config.options),
        "rate": config.rate,
        "seed": config.seed,
        "mode": "offline" if offline else "rl",
        "slots": terms[0],
        "terms": terms,
        "controller": repr(controller) if controller is not None else "",
        "latex": objective.latex(),
        "decoupled": objective.decoupled,
        "locality": objective.locality.name.lower(),
        "levels": {str(level): kind for level, kind in config.kinds().items()},
        "iterations": int(work[-1]["step"]),
        "base": {key: value for key, value in rows[0].items() if key.startswith("accuracy")},
        "final": _final(work),
        **_cost(work),
        "masked": _sum(work, "masked"),
        "skipped": skipped,
        "warnings": [INACTIVE] if inactive and min(inactive) == 1.0 and not skipped else [],
    }


def slots(term: Objective) -> dict[str, str]:
    """What fills each slot of an objective, as text.

    >>> from geomalign.recipes import opo
    >>> slots(opo())["optimization"]
    'ChiSquare(mu=1.0)'
    """
    return {name: repr(getattr(term, name)) for name in SLOTS} | {"anchor": str(term.anchor)}


def _final(work: Sequence[Row]) -> dict[str, float]:
    """The means of the last steps, and what the last evaluation measured."""
    keys = dict.fromkeys(key for row in work for key in row)
    skip = ("time/", "memory/", "step", "rate", "tokens")
    evaluated = {key for key in keys if key.startswith("accuracy") or key.endswith("_held_out")}
    final = {}
    for key in keys:
        values = [row[key] for row in work[-LAST:] if key in row and math.isfinite(row[key])]
        if values and key not in evaluated and not key.startswith(skip):
            final[key] = sum(values) / len(values)
    last = next((row for row in reversed(work) if "accuracy_in" in row), {})
    return final | {key: value for key, value in last.items() if key in evaluated}


def _cost(work: Sequence[Row]) -> dict[str, Any]:
    """Seconds by part of a step, memory in MiB, and sampled tokens."""
    parts = ("generation", "scoring", "update", "loss", "backward", "evaluation")
    seconds = {part: _sum(work, f"time/{part}") for part in parts}
    whole, tokens = _sum(work, "time/step"), _sum(work, "tokens")
    return {
        "time": {**seconds, "total": whole + seconds["evaluation"]},
        "memory_peak": max((row.get("memory/peak", 0.0) for row in work), default=0.0),
        "cpu_seconds": _sum(work, "time/cpu"),
        "tokens": tokens,
        "tokens_per_second": tokens / whole if tokens else None,
    }


def _sum(rows: Sequence[Row], key: str) -> float:
    return sum(row.get(key, 0.0) for row in rows)
