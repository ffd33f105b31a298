"""The rows of a dump as one batch: checked, masked where a number is missing, and counted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geomalign.audit.columns import ALIASES, LOG_PROBS, number, refuse_padding, scalar
from geomalign.batch import Batch

__all__ = ["Rows", "as_batch"]


class Rows(NamedTuple):
    """All rows of a dump as one batch.

    Args:
        batch: of all rows, in float64.
        rollout: `(row,)` integers, the number of each row's rollout.
        columns: those of our columns that all rows have.
        unknown: counts of what was left out: `rewards`, rows whose reward is missing or not finite; `tokens`, tokens of
            which a log-probability is.

    >>> as_batch([{"reward": 1.0, "rollout": "a"}, {"reward": 0.0, "rollout": "b"}]).rollout
    tensor([0, 1])
    """

    batch: Batch
    rollout: Tensor
    columns: frozenset[str]
    unknown: dict[str, int]


def as_batch(rows: Sequence[Mapping[str, Any]], places: Sequence[str] = ()) -> Rows:
    """Rows that `read` gave, as tensors.

    Rewards and log-probabilities that are missing or not finite are masked and counted.

    Args:
        places: what to call each row in an error; its number from 1 without them.

    Raises:
        ValueError: `old` without `policy`; a column that only some rows have; log-probabilities or a mask of different
            lengths in one row; log-probabilities that are all above zero, or no numbers; a mask that is not of 0 and 1.

    >>> dump = [{"policy": [-0.5, -1.5], "old": [-0.5, -1.0], "reward": 1.0, "group": "a", "rollout": 0}]
    >>> as_batch(dump).batch.policy
    tensor([[-0.5000, -1.5000]], dtype=torch.float64)
    """
    places = places or [f"row {index}" for index in range(1, len(rows) + 1)]
    columns = frozenset(name for name in ALIASES if any(row.get(name) is not None for row in rows))
    for row, where in zip(rows, places, strict=True):
        lacking = [name for name in sorted(columns - {"reward"}) if row.get(name) is None]
        if lacking:
            raise ValueError(
                f"{where} has no {' and no '.join(lacking)}, and other rows have (under {_known(lacking)}): "
                "record it for all of them."
            )
    tokens = [name for name in LOG_PROBS if name in columns]
    if "policy" not in columns and "old" in columns:
        raise ValueError(
            "the rows have `old` but no `policy`: how far a step went is measured between the two. Record the policy's "
            "log-probabilities at the step as well."
        )
    widths = [len(_list(row[tokens[0]])) if tokens else 1 for row in rows]
    values = {name: torch.zeros(len(rows), max(1, *widths), dtype=torch.float64) for name in tokens}
    mask = torch.zeros(len(rows), max(1, *widths), dtype=torch.bool)
    for k, (row, width, where) in enumerate(zip(rows, widths, places, strict=True)):
        for name in tokens:
            values[name][k, :width] = _log_probs(row[name], width, tokens[0], where, name)
        mask[k, :width] = _mask(row["mask"], width, where) if tokens and "mask" in columns else True
    if tokens and "mask" not in columns and len(set(widths)) == 1:
        refuse_padding(values, places)
    known = torch.ones_like(mask)
    for name, value in values.items():
        if bool((value >= 0).all()) and bool((value[mask] > 0).any()):
            raise ValueError(
                f"`{name}` holds no number below 0 and some above, up to {float(value[mask].max()):.3g}: a "
                "log-probability is at most 0. Are these probabilities, or negative log-probabilities?"
            )
        known &= value.isfinite()
        values[name] = torch.where(value.isfinite(), value, 0)
    unknown = {"tokens": int((mask & ~known).sum())}
    mask &= known
    rollouts = {key: k for k, key in enumerate(dict.fromkeys(str(row.get("rollout")) for row in rows))}
    rollout = torch.tensor([rollouts[str(row.get("rollout"))] for row in rows])
    prompts: dict[tuple[int, str], int] = {}
    group = None
    if "group" in columns:
        keys = [(rollouts[str(row.get("rollout"))], json.dumps(row["group"], default=str)) for row in rows]
        group = torch.tensor([prompts.setdefault(key, len(prompts)) for key in keys])
    reward = None
    if "reward" in columns:
        found = [number(row.get("reward"), where) for row, where in zip(rows, places)]
        reward = torch.tensor(found, dtype=torch.float64)
        scored = reward.isfinite()
        unknown["rewards"] = int((~scored).sum())
        reward = torch.where(scored, reward, 0) if bool(scored.any()) else None
        mask &= scored[:, None] | (reward is None and bool(tokens))
    unscored = torch.zeros_like(mask, dtype=torch.float64)  # rewards alone can be audited too
    return Rows(
        Batch(
            values.get("policy", unscored),
            values.get("old"),
            mask,
            reward,
            reference=values.get("reference"),
            group=group,
            behavior=values.get("behavior"),
        ),
        rollout,
        columns,
        unknown,
    )


def _log_probs(value: Any, width: int, first: str, where: str, name: str) -> Tensor:
    """One row's log-probabilities; NaN where there is none."""
    entries = _list(value)
    if len(entries) != width:
        raise ValueError(
            f"{where} has {width} tokens in `{first}` but {len(entries)} in `{name}`: all of a row's log-probabilities "
            "cover the same tokens."
        )
    place = f"{where}, column {name!r}"
    return torch.tensor([scalar(x, place) for x in entries], dtype=torch.float64)


def _mask(value: Any, width: int, where: str) -> Tensor:
    entries = _list(value)
    if len(entries) != width:
        raise ValueError(
            f"{where} has {width} tokens but {len(entries)} entries in its mask: there is one for each token."
        )
    wrong = [x for x in entries if not isinstance(x, (bool, int, float)) or x not in (0, 1)]
    if wrong:
        raise ValueError(f"{where}, column 'mask' holds {wrong[0]!r}: a mask is of 0 and 1.")
    return torch.tensor([bool(x) for x in entries], dtype=torch.bool)


def _known(names: Sequence[str]) -> str:
    return ", ".join(alias for name in names for alias in ALIASES[name])


def _list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]
