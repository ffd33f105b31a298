"""Dumps of a run, with one response per row: JSON lines or parquet, under the names that trainers use.

| column | what it holds |
|---|---|
| `policy` | log-probabilities of the response's tokens at the optimiser's step, a list of numbers |
| `old` | the same under the policy that sampled it |
| `reference` | the same under the reference policy |
| `behavior` | the same as the rollout engine reported it |
| `mask` | which tokens count |
| `reward` | a number, or one per token; of TRL's table the sum of its reward functions |
| `group` | what the response answers, within one `rollout` (or `step`) |

`geomalign._util.columns.COLUMN_ALIASES` has the other names of these columns, `geomalign.audit.columns` the choice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geomalign._util.files import json_lines, parquet_rows
from geomalign.audit.columns import (
    ALIASES,
    LOG_PROBS,
    METRICS,
    choose,
    is_trl,
    logged,
    number,
    refuse_padding,
    rewards_of_trl,
    scalar,
    total,
)
from geomalign.batch import Batch

__all__ = ["Dump", "Rows", "as_batch", "load", "names", "read", "record"]


class Dump(NamedTuple):
    """The rows of a dump and where they come from.

    Args:
        rows: with our names for the columns that are known under another.
        places: file and number of each row.
        chosen: our name → the column that it was read from, of all files.
        columns: the names in the first file.

    >>> Dump([{"reward": 1.0}], ["row 1 of a.jsonl"], {"reward": "score"}, ["score"]).chosen
    {'reward': 'score'}
    """

    rows: list[dict[str, Any]]
    places: list[str]
    chosen: dict[str, str]
    columns: list[str]


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


def names() -> list[str]:
    """Every column name that is understood.

    >>> {"policy", "old_log_probs", "completion_mask"} <= set(names())
    True
    """
    return [alias for aliases in ALIASES.values() for alias in aliases]


def read(*paths: str | Path, rewards: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """The rows of the files, with our names for the columns that are known under another.

    A table of TRL's that repeats the one before it, as it does where several steps share a rollout, is left out.

    Args:
        paths: files, or folders of `.jsonl` and `.parquet` files, in the order of the numbers in their names.
        rewards: columns that the reward is the weighted sum of, as TRL's `reward_weights`, which its tables lack; one
            that is empty in a row counts nothing, and a row without any has no reward.

    Raises:
        ValueError: no file, no row, a line that is no JSON object, a file that is no parquet, the metrics file of a
            run, no column of rewards under a name that was given, several columns of TRL's of which not all need be
            rewards, or files with different columns.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "1.jsonl").write_text('{"score": 1.0, "uid": "a", "step": 7}')
    ...     print(read(folder))
    [{'reward': 1.0, 'group': 'a', 'rollout': 7}]
    """
    return load(*paths, rewards=rewards).rows


def load(*paths: str | Path, rewards: Mapping[str, float] | None = None) -> Dump:
    """As `read`, with the places of the rows and the columns that were chosen.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "1.jsonl").write_text('{"score": 1.0, "uid": "a", "step": 7}')
    ...     print(load(folder).chosen)
    {'reward': 'score', 'group': 'uid', 'rollout': 'step'}
    """
    files: list[Path] = []
    for path in map(Path, paths):
        inside = (p for p in path.rglob("*") if p.suffix in (".jsonl", ".parquet"))
        files += sorted(inside, key=_numbered) if path.is_dir() else [path]
    tables: list[tuple[Path, list[dict[str, Any]]]] = []
    for file in files:
        table = _rows(file)
        if any("time/step" in row for row in table):
            raise ValueError(
                f"{file} is a metrics file of `geomalign train` (one row per step), not a dump of responses; record "
                "one with geomalign.audit.record, or name the file of a dump."
            )
        if logged(table):
            raise ValueError(
                f"{file} holds metrics of steps ({', '.join(sorted(METRICS & table[0].keys()))}), one row for each, "
                "and no responses. Name the file of a dump, or record one with geomalign.audit.record."
            )
        if table and not (is_trl(table) and tables and _repeats(tables[-1][1], table)):
            tables.append((file, table))
    of_trl = [row for _, table in tables if is_trl(table) for row in table]
    functions = rewards_of_trl(of_trl, _listed(paths)) if of_trl and rewards is None else None
    dump = Dump([], [], {}, sorted(tables[0][1][0]) if tables else [])
    kinds: dict[frozenset[str], Path] = {}
    for file, table in tables:
        columns = choose(table, str(file), functions if is_trl(table) and rewards is None else rewards)
        kinds.setdefault(frozenset(columns) - {"reward"}, file)
        for name, of in columns.items():
            dump.chosen[name] = " + ".join(dict.fromkeys([*dump.chosen.get(name, "").split(" + "), *of])).lstrip(" +")
        for index, row in enumerate(table, 1):
            dump.places.append(f"row {index} of {file}")
            dump.rows.append(_renamed(row, columns, file, rewards, dump.places[-1]))
    if not dump.rows:
        raise ValueError(f"no rows in {_listed(paths)}: expected .jsonl or .parquet files, or folders of them.")
    if len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        raise ValueError(
            f"{first} and {second} are no parts of one dump: only one of them has {', '.join(sorted(one ^ other))}. "
            "Audit them apart."
        )
    return dump


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
    for name in LOG_PROBS:
        value = getattr(batch, name)
        if value is not None:
            tokens = batch.tokens(value.detach().float())
            columns[name] = [
                [round(x, 6) for x in row[keep].tolist()] for row, keep in zip(tokens, support, strict=True)
            ]
    if batch.reward is not None:
        columns["reward"] = batch.per_response(batch.reward).tolist()
    if batch.prompt is not None:
        columns["group"] = batch.prompt.tolist()
    with path.open("a", encoding="utf-8") as file:
        for values in zip(*columns.values(), strict=True):
            file.write(json.dumps(dict(zip(columns, values, strict=True))) + "\n")


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


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        raise ValueError(f"there is no file or folder {path}.")
    if path.suffix == ".parquet":
        return parquet_rows(path)
    return json_lines(path, "A run that was killed leaves half a line.")


def _renamed(
    row: Mapping[str, Any],
    columns: Mapping[str, Sequence[str]],
    path: Path,
    rewards: Mapping[str, float] | None,
    where: str,
) -> dict[str, Any]:
    """A row under our names; its reward is one number, NaN where it is not known."""
    result = {
        name: total(row, of, rewards or {}, where) if name == "reward" else row.get(of[0])
        for name, of in columns.items()
    }
    result.setdefault("rollout", path.name)
    return result


def _repeats(before: Sequence[Mapping[str, Any]], table: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a table of TRL's is that of the step before it: both are of one rollout."""

    def content(rows: Sequence[Mapping[str, Any]]) -> str:
        return json.dumps([{k: v for k, v in row.items() if k != "step"} for row in rows], default=str)

    return len(before) == len(table) and content(before) == content(table)


def _numbered(path: Path) -> list[tuple[int, str]]:
    """Sorts `2.jsonl` before `10.jsonl`."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def _listed(paths: Sequence[str | Path]) -> str:
    return ", ".join(str(path) for path in paths) or "nothing"
