"""Which columns of a dump hold rewards, log-probabilities and prompts: chosen once for each file, and said.

A column is never taken for a reward because it holds numbers. Its name is one of the usual ones or was given; or the
table is one of TRL's, whose reward functions have names of their own, and then its advantages tell.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from geomalign._util.columns import COLUMN_ALIASES

__all__ = [
    "ALIASES",
    "LOG_PROBS",
    "METRICS",
    "choose",
    "is_trl",
    "logged",
    "number",
    "refuse_padding",
    "rewards_of_trl",
    "scalar",
    "total",
]

LOG_PROBS = ("policy", "old", "reference", "behavior")
ALIASES = {name: COLUMN_ALIASES[name] for name in (*LOG_PROBS, "mask", "reward", "group", "rollout")}
#: Columns of a trainer's log.
METRICS = {"loss", "learning_rate", "grad_norm", "reward_std", "epoch"}
_PROMPTS = ("prompt", "input")  # of the names of a group, those that hold what was asked
_TRL = {"step", "prompt", "completion", "advantage"}  # what its completions tables have besides the reward functions
_Table = Sequence[Mapping[str, Any]]


def is_trl(table: _Table) -> bool:
    """Whether a table is one of TRL's completions.

    >>> is_trl([{"step": 1, "prompt": "3+8", "completion": "11", "accuracy": 1.0, "advantage": 0.0}])
    True
    """
    return bool(table) and table[0].keys() >= _TRL


def logged(table: _Table) -> bool:
    """Whether a table is a trainer's log, which has a row per step and neither responses nor log-probabilities.

    >>> logged([{"step": 1, "reward": 0.5, "loss": 0.1}, {"step": 2, "reward": 0.5, "loss": 0.1}])
    True
    """
    of_responses = {alias for name in (*LOG_PROBS, "group", "mask") for alias in ALIASES[name]} | {"completion"}
    steps = [row.get("step") for row in table]
    return (
        any(METRICS & row.keys() for row in table)
        and not any(of_responses & row.keys() for row in table)
        and None not in steps
        and len(set(map(str, steps))) == len(steps)
    )


def refuse_padding(values: Mapping[str, Tensor], places: Sequence[str]) -> None:
    """Refuse rows of one length that end with zeros, some with more than others: log-probabilities of padding.

    >>> refuse_padding({"policy": torch.tensor([[-1.0, 0.0], [-1.0, -1.0]])}, ["row 1", "row 2"])
    """
    zero = torch.stack([value == 0 for value in values.values()]).all(0)
    ends = zero.flip(-1).long().cumprod(-1).sum(-1)
    if int(ends.max()) > 1 and int(ends.min()) < int(ends.max()):
        row = int(ends.argmax())
        raise ValueError(
            f"{places[row]} ends with {int(ends[row])} log-probabilities of 0 in every column, all rows have the same "
            "length, and there is no mask: these are probably of padding. Record the mask, or leave the padding out."
        )


def choose(table: _Table, file: str, rewards: Iterable[str] | None) -> dict[str, tuple[str, ...]]:
    """The columns of a file under our names: one each, and of rewards all that are summed.

    Args:
        table: the rows of the file.
        file: its name, for errors.
        rewards: the columns of rewards, where they are known; None for those with a usual name.

    Raises:
        ValueError: `rewards` are not there.

    >>> choose([{"uid": "a", "score": 1.0, "length": 7}, {"uid": "a", "score": 0.0, "length": 9}], "a.jsonl", None)
    {'reward': ('score',), 'group': ('uid',)}
    """
    present = {name for row in table for name, value in row.items() if value is not None}
    found: dict[str, tuple[str, ...]] = {
        name: (next(alias for alias in aliases if alias in present),)
        for name, aliases in ALIASES.items()
        if present & set(aliases)
    }
    if rewards is not None:
        missing = [name for name in rewards if not any(name in row for row in table)]
        if missing:
            raise ValueError(
                f"no rewards in the columns {', '.join(missing)}; there are {', '.join(sorted(table[0]))} in {file}."
            )
        found["reward"] = tuple(rewards)
    if "group" in found:
        found["group"] = (_group(table, [alias for alias in ALIASES["group"] if alias in present], found),)
    return {name: columns for name, columns in found.items() if columns}


def total(row: Mapping[str, Any], columns: Iterable[str], weights: Mapping[str, float], where: str) -> float:
    """The weighted sum of the rewards that a row has, as TRL takes it of its functions; NaN where it has none.

    >>> total({"accuracy": 1.0, "format": None}, ("accuracy", "format"), {}, "row 1 of a.jsonl")
    1.0
    """
    values = {name: number(row.get(name), f"{where}, column {name!r}") for name in columns}
    there = [weights.get(name, 1.0) * value for name, value in values.items() if not math.isnan(value)]
    return sum(there) if there else math.nan


def number(value: Any, where: str) -> float:
    """A number, or the sum of numbers per token; NaN where there is nothing.

    Raises:
        ValueError: it is something else, such as a text or an object.

    >>> number([0.0, 0.0, 1.0], ""), number(True, "")
    (1.0, 1.0)
    """
    if isinstance(value, (list, tuple)):
        parts = [scalar(part, where) for part in value]
        return sum(parts) if parts else math.nan
    return scalar(value, where)


def scalar(value: Any, where: str) -> float:
    """One number; NaN where there is nothing. Raises as `number` does.

    >>> scalar(None, ""), scalar(10**400, "")
    (nan, inf)
    """
    if isinstance(value, (bool, int, float, Decimal)):
        try:
            return float(value)
        except OverflowError:  # a whole number beyond the largest float
            return math.inf
    if value is None:
        return math.nan
    raise ValueError(
        f"{where} holds the {type(value).__name__} {str(value)[:80]!r}, and a number is expected. Where rewards are in "
        "a column of another name, say which: --reward NAME, or rewards={'NAME': 1.0}."
    )


def rewards_of_trl(table: _Table, source: str) -> tuple[str, ...]:
    """The reward functions among the columns of TRL's tables, which hold what they return as floats.

    Columns that a user logs beside them look the same if they hold floats. Of several, those are taken whose sum, as
    TRL centres and scales it, gives the advantages of the table.

    Args:
        table: the rows of all tables of a run.
        source: their name, for errors.

    Raises:
        ValueError: no columns explain the advantages, or several choices of them do.

    >>> rows = [{"step": 1, "prompt": "3+8", "completion": "11", "right": float(x), "short": x / 2} for x in (0, 1)]
    >>> rewards_of_trl([row | {"advantage": 1.4 * row["right"] - 0.7, "short": 0.3} for row in rows], "1.parquet")
    Traceback (most recent call last):
    ValueError: 1.parquet has the columns right, short, and its advantages do not tell which of them are rewards...
    """
    names = dict.fromkeys(name for row in table for name in row if name not in _TRL)
    floats = [name for name in names if _all_floats(row.get(name) for row in table)]
    if len(floats) < 2:
        return tuple(floats)
    parts = (
        [part for size in range(1, len(floats) + 1) for part in combinations(floats, size)] if len(floats) < 9 else []
    )
    fits = {}
    for part in parts:
        sums = [total(row, part, {}, source) for row in table]
        zeros = [0.0 if math.isnan(x) else x for x in sums]  # what older versions take for a response without a reward
        if _explains(table, sums) or _explains(table, zeros):
            fits[tuple(zeros)] = part  # a column of zeros belongs to them or not
    if len(fits) != 1:
        raise ValueError(
            f"{source} has the columns {', '.join(floats)}, and its advantages do not tell which of them are rewards. "
            f"Say which, and their weights: {' '.join(f'--reward {name}=1' for name in floats)}, or rewards=…."
        )
    return next(iter(fits.values()))


def _all_floats(values: Iterable[Any]) -> bool:
    there = [value for value in values if value is not None]
    return bool(there) and all(isinstance(value, float) for value in there)


def _explains(table: _Table, sums: Sequence[float]) -> bool:
    """Whether the advantages are these sums, centred in their group and divided by nothing, by the group's standard
    deviation or by that of the step, to which TRL adds 1e-4; by that small number the scale of the rewards is known.
    """
    groups: dict[str, list[int]] = {}
    steps: dict[str, list[float]] = {}
    for index, row in enumerate(table):
        if not math.isnan(sums[index]):
            groups.setdefault(_key(row["step"], row["prompt"]), []).append(index)
            steps.setdefault(_key(row["step"]), []).append(sums[index])
    spreads = {step: _deviation(parts) for step, parts in steps.items()}
    possible, pulled = [True] * 3, False
    for rows in groups.values():
        mean = math.fsum(sums[index] for index in rows) / len(rows)
        of_group, of_step = _deviation([sums[index] for index in rows]), spreads[_key(table[rows[0]]["step"])]
        for index in rows:
            advantage = number(table[index]["advantage"], "")
            pulled |= abs(advantage) > 1e-6
            for kind, scale in enumerate((1.0, of_group + 1e-4, of_step + 1e-4)):
                rounding = 1e-6 * (1 + (abs(sums[index]) + abs(mean)) / scale)  # TRL computes in float32
                possible[kind] &= abs((sums[index] - mean) / scale - advantage) <= rounding
        if not any(possible):
            return False
    return pulled


def _deviation(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in values) / max(len(values) - 1, 1))


def _group(table: _Table, names: Sequence[str], found: Mapping[str, tuple[str, ...]]) -> str:
    """The column that says which responses answer one prompt: the first that is not the row's own name or number, and
    does not gather rows of different prompts; the first of all where none is better.
    """
    steps = [_key(row.get(found["rollout"][0])) if "rollout" in found else "" for row in table]
    asked = next((name for name in names if name in _PROMPTS), None)
    for name in names:
        prompts: dict[str, set[str]] = {}
        for step, row in zip(steps, table):
            prompts.setdefault(_key(step, row.get(name)), set()).add(_key(row.get(asked)) if asked else "")
        if len(prompts) < len(table) and all(len(part) == 1 for part in prompts.values()):
            return name
    return names[0]


def _key(*values: Any) -> str:
    return json.dumps(values, default=str)
