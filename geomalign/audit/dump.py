"""Dumps of a run, with one response per row: JSON lines or parquet, under the names that trainers use.

| column | what it holds |
|---|---|
| `policy` | log-probabilities of the response's tokens at the optimiser's step, a list of numbers |
| `old` | the same under the policy that sampled it |
| `reference` | the same under the reference policy |
| `behavior` | the same as the rollout engine reported it |
| `mask` | which tokens count |
| `reward` | a number, or one per token; of TRL's table every numeric column, by reward function |
| `group` | what the response answers, within one `rollout` (or `step`) |

`geomalign._util.columns.COLUMN_ALIASES` has the other names of these columns.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geomalign._util.columns import COLUMN_ALIASES
from geomalign._util.files import json_lines, parquet_rows
from geomalign.batch import Batch

__all__ = ["Rows", "as_batch", "names", "read", "record"]

_LOG_PROBS = ("policy", "old", "reference", "behavior")
_ALIASES = {name: COLUMN_ALIASES[name] for name in (*_LOG_PROBS, "mask", "reward", "group", "rollout")}
_NOT_REWARDS = {"step", "advantage", "rollout", "rank", "index", "group", "gts"}
_TRL = {"step", "prompt", "completion", "advantage"}  # what its completions tables have besides the reward functions


class Rows(NamedTuple):
    """All rows of a dump as one batch.

    Args:
        batch: of all rows, in float64.
        rollout: `(row,)` integers, the number of each row's rollout.
        columns: those of our columns that all rows have.

    >>> as_batch([{"reward": 1.0, "rollout": "a"}, {"reward": 0.0, "rollout": "b"}]).rollout
    tensor([0, 1])
    """

    batch: Batch
    rollout: Tensor
    columns: frozenset[str]


def names() -> list[str]:
    """Every column name that is understood.

    >>> {"policy", "old_log_probs", "completion_mask"} <= set(names())
    True
    """
    return [alias for aliases in _ALIASES.values() for alias in aliases]


def read(*paths: str | Path, rewards: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """The rows of the files, with our names for the columns that are known under another.

    A table of TRL's that repeats the one before it, as it does where several steps share a rollout, is left out.

    Args:
        paths: files, or folders of `.jsonl` and `.parquet` files, in the order of the numbers in their names.
        rewards: columns that the reward is the weighted sum of, as TRL's `reward_weights`, which its tables lack; one
            that is empty in a row counts nothing, and a row without any has no reward.

    Raises:
        ValueError: no file, no row, a line that is no JSON object, a file that is no parquet, the metrics file of a
            run, or no column of rewards under the name that was given.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "1.jsonl").write_text('{"score": 1.0, "uid": "a", "step": 7}')
    ...     print(read(folder))
    [{'reward': 1.0, 'group': 'a', 'rollout': 7}]
    """
    files: list[Path] = []
    for path in map(Path, paths):
        inside = (p for p in path.rglob("*") if p.suffix in (".jsonl", ".parquet"))
        files += sorted(inside, key=_numbered) if path.is_dir() else [path]
    rows: list[dict[str, Any]] = []
    before = ""
    for file in files:
        table = _rows(file)
        if any("time/step" in row for row in table):
            raise ValueError(
                f"{file} is a metrics file of `geomalign train` (one row per step), not a dump of responses; record "
                "one with geomalign.audit.record, or name the file of a dump."
            )
        if table and table[0].keys() >= _TRL:
            seen = json.dumps([{k: v for k, v in row.items() if k != "step"} for row in table], default=str)
            if seen == before:
                continue
            before = seen
        rows += [_renamed(row, file, rewards) for row in table]
    if not rows:
        raise ValueError(f"no rows in {_listed(paths)}: expected .jsonl or .parquet files, or folders of them.")
    if rewards and all(math.isnan(row["reward"]) for row in rows):
        raise ValueError(f"no rewards in the columns {', '.join(rewards)}; there are {', '.join(sorted(rows[0]))}.")
    return rows


def record(path: str | Path, batch: Batch, *, rollout: int = 0, step: int = 0, rank: int = 0) -> None:
    """Append the rows of a batch as JSON lines that `read` and `audit` understand, one file per process.

    Args:
        path: a file; with a suffix of the rank for ranks above zero.
        batch: with what is to be recorded; masked tokens are left out.
        rollout: number of the rollout, in which equal `group` ids are one prompt.
        step: number of the optimiser step.
        rank: of this process.

    >>> import tempfile
    >>> rows = Batch(torch.tensor([[-0.5, -1.5]]), torch.tensor([[-0.5, -1.0]]), reward=torch.tensor([1.0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record(folder, rows, rollout=3, step=12)
    ...     print(Path(folder, "rollouts.jsonl").read_text().strip())
    {"rollout": 3, "step": 12, "policy": [-0.5, -1.5], "old": [-0.5, -1.0], "reward": 1.0}
    """
    path = Path(path)
    path = path if path.suffix else path / "rollouts.jsonl"
    path = path.with_suffix(f".{rank}{path.suffix}") if rank else path
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[Any]] = {"rollout": [rollout] * batch.size, "step": [step] * batch.size}
    support = batch.support
    for name in _LOG_PROBS:
        value = getattr(batch, name)
        if value is not None:
            tokens = batch.tokens(value.detach().float())
            columns[name] = [
                [round(x, 6) for x in row[keep].tolist()] for row, keep in zip(tokens, support, strict=True)
            ]
    if batch.reward is not None:
        columns["reward"] = batch.per_response(batch.reward).tolist()
    if batch.group is not None:
        columns["group"] = batch.group.tolist()
    with path.open("a", encoding="utf-8") as file:
        for values in zip(*columns.values(), strict=True):
            file.write(json.dumps(dict(zip(columns, values, strict=True))) + "\n")


def as_batch(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows that `read` gave, as tensors. NaN rewards and NaN log-probabilities are masked.

    Raises:
        ValueError: `old` without `policy`, or log-probabilities of different lengths in one row.

    >>> dump = [{"policy": [-0.5, -1.5], "old": [-0.5, -1.0], "reward": 1.0, "group": "a", "rollout": 0}]
    >>> as_batch(dump).batch.policy
    tensor([[-0.5000, -1.5000]], dtype=torch.float64)
    """
    columns = frozenset(name for name in _ALIASES if all(name in row for row in rows))
    tokens = [name for name in _LOG_PROBS if name in columns]
    if "policy" not in columns and "old" in columns:
        raise ValueError(
            "the rows have `old` but no `policy`: how far a step went is measured between the two. Record the policy's "
            "log-probabilities at the step as well."
        )
    widths = [len(_list(row[tokens[0]])) if tokens else 1 for row in rows]
    values = {name: torch.zeros(len(rows), max(1, *widths), dtype=torch.float64) for name in tokens}
    mask = torch.zeros(len(rows), max(1, *widths), dtype=torch.bool)
    for k, (row, width) in enumerate(zip(rows, widths, strict=True)):
        for name in tokens:
            entries = _list(row[name])
            if len(entries) != width:
                raise ValueError(
                    f"row {k} has {width} tokens in `{tokens[0]}` but {len(entries)} in `{name}`: all of a row's "
                    "log-probabilities cover the same tokens."
                )
            values[name][k, :width] = torch.tensor([_number(x) for x in entries], dtype=torch.float64)
        keep = [bool(x) for x in _list(row["mask"])] if "mask" in columns else [True] * width
        mask[k, :width] = torch.tensor(keep)
    for value in values.values():
        mask &= ~value.isnan()
    rollouts = {key: k for k, key in enumerate(dict.fromkeys(str(row["rollout"]) for row in rows))}
    rollout = torch.tensor([rollouts[str(row["rollout"])] for row in rows])
    prompts: dict[tuple[int, str], int] = {}
    group = None
    if "group" in columns:
        keys = [(rollouts[str(row["rollout"])], json.dumps(row["group"], default=str)) for row in rows]
        group = torch.tensor([prompts.setdefault(key, len(prompts)) for key in keys])
    reward = None
    if "reward" in columns:
        reward = torch.tensor([sum(map(_number, _list(row["reward"]))) for row in rows], dtype=torch.float64)
        mask &= ~reward.isnan()[:, None]
    if not tokens:
        mask[:, 0] = True if reward is None else ~reward.isnan()
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
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        raise ValueError(f"there is no file or folder {path}.")
    if path.suffix == ".parquet":
        return parquet_rows(path)
    return json_lines(path, "A run that was killed leaves half a line.")


def _renamed(row: Mapping[str, Any], path: Path, rewards: Mapping[str, float] | None) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, aliases in _ALIASES.items():
        found = next((alias for alias in aliases if row.get(alias) is not None), None)
        if found is not None:
            result[name] = row[found]
    numbers = {k: v for k, v in row.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    if rewards is not None:
        numbers = {name: weight * numbers[name] for name, weight in rewards.items() if name in numbers}
        result["reward"] = _total(numbers.values())
    elif row.keys() >= _TRL or ("reward" not in result and not row.keys() & set(_ALIASES["reward"])):
        numbers = {k: v for k, v in numbers.items() if k not in _NOT_REWARDS}
        if numbers or row.keys() >= _TRL:
            result["reward"] = _total(numbers.values())
    else:
        result.setdefault("reward", math.nan)
    result.setdefault("rollout", path.name)
    return result


def _total(numbers: Any) -> float:
    """The sum of what is there, as TRL takes it of its reward functions; NaN where nothing is."""
    there = [float(x) for x in numbers if not math.isnan(x)]
    return sum(there) if there else math.nan


def _numbered(path: Path) -> list[tuple[int, str]]:
    """Sorts `2.jsonl` before `10.jsonl`."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _number(x: Any) -> float:
    return math.nan if x is None else float(x)


def _list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def _listed(paths: Sequence[str | Path]) -> str:
    return ", ".join(str(path) for path in paths) or "nothing"
