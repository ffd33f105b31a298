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

from geomalign._util.files import json_lines, parquet_rows
from geomalign.audit.columns import ALIASES, METRICS, choose, is_trl, logged, rewards_of_trl, total

__all__ = ["Dump", "load", "names", "read"]


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


def _listed(paths: Sequence[str | Path]) -> str:
    return ", ".join(str(path) for path in paths) or "nothing"
