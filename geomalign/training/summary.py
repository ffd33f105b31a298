"""The summary of a run, from its metrics alone, so that it is the same however often the run was interrupted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from geomalign.objective import SLOTS, BaseObjective, Objective
from geomalign.training.config.settings import TrainConfig
from geomalign.training.evaluation import MEASURED, SOLVED

#: Steps whose mean is reported as the final value of a metric.
LAST = 10
#: Share of a run's responses or groups from which on they are called all.
MOST = 0.95

SKIPPED = (
    "updates were left out because the loss or its gradient was not finite; the weights stay as they were. Look for an "
    "overflow or a division by zero in the objective, or take a smaller step size."
)
INACTIVE = (
    "geometry inactive: every update of this run is made at log-ratio 0, where the gradient of each objective is "
    "−c·E[g ∇log π], c the slope of its chart there (1 of Δ and of t − 1), and no potential can act. Use more epochs "
    "or minibatches per rollout to compare geometries."
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
        "base": {key: value for key, value in rows[0].items() if key.startswith(MEASURED)},
        "solved_at": SOLVED,
        "final": _final(work),
        **_cost(work),
        "masked": _sum(work, "masked"),
        "skipped": _sum(work, "skipped"),
        "warnings": [text for kind, text in diagnosis(config, work, offline).items() if kind != "skipped"],
    }


def diagnosis(config: TrainConfig, rows: Sequence[Row], offline: bool = False) -> dict[str, str]:
    """Why these steps moved nothing that they should have moved, by kind, with the figures that show it.

    Args:
        rows: of the steps taken, without that of step 0.
        offline: whether they were taken on pairs.

    >>> rows = [{"masked": 128.0, "zero_groups": 1.0, "truncated": 0.2, "drive_range": 0.0, "inactive": 1.0}] * 2
    >>> diagnosis(TrainConfig(), rows)["masked"][:18]
    'masked 256 of 256:'
    """
    found: dict[str, str] = {}
    if _sum(rows, "skipped"):
        found["skipped"] = SKIPPED
    if not rows:
        return found
    masked, zero, truncated = _sum(rows, "masked"), _mean(rows, "zero_groups"), _mean(rows, "truncated")
    rl, total = config.rl, config.rl.prompts * config.rl.samples * len(rows)
    unpulled = sum(row.get("drive_range", 1.0) == 0 for row in rows) / len(rows)
    equal = f"zero groups {zero:.2f}: the rewards of all responses to a prompt are equal"
    if not offline and masked == total:
        found["masked"] = (
            f"masked {masked:.0f} of {total}: no response has a reward, so nothing pulls. For each of them the "
            "verifier raised, took too long or returned no number; a warning shows the first with its row."
        )
    elif truncated >= MOST and zero >= MOST:
        found["truncated"] = (
            f"truncated {truncated:.2f}: responses are cut off at rl.max_new_tokens = {rl.max_new_tokens} before their "
            f"end token, and a cut-off response earns 0 in most tasks ({equal}, {_mean(rows, 'reward'):.2f} in the "
            "mean). Raise rl.max_new_tokens, or check that the model ends its responses."
        )
    elif zero >= MOST and unpulled >= MOST:
        found["equal"] = (
            f"{equal}, {_mean(rows, 'reward'):.2f} in the mean, so nothing pulls. Take prompts that the model solves "
            f"now and then, more samples (rl.samples = {rl.samples}), or check the verifier."
        )
    if masked and masked < total and masked >= MOST * total and not offline:
        found["masked"] = f"masked {masked:.0f} of {total}: nearly no response has a reward."
    if found or min(row.get("inactive", 0.0) for row in rows) < 1 or not all(row.get("grad_norm", 1.0) for row in rows):
        return found
    steps = 1 if offline else rl.epochs * rl.minibatches
    if steps == 1:
        found["inactive"] = INACTIVE
    else:
        found["inactive"] = (
            f"geometry inactive: {steps} steps are taken on every rollout, and none moves the log-probability of a "
            f"token by more than 1e-4 nats, so no potential can act. The gradient's norm is "
            f"{_mean(rows, 'grad_norm'):.2g} and the step size {config.rate:g}: raise the rate."
        )
    return found


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
    evaluated = {key for key in keys if key.startswith(MEASURED) or key.endswith("_held_out")}
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


def _mean(rows: Sequence[Row], key: str) -> float:
    """The mean over the rows that have it; 0 where none has."""
    values = [row[key] for row in rows if key in row]
    return sum(values) / len(values) if values else 0.0
