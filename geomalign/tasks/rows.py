"""Tables as lists of rows: JSON lines, JSON, CSV, parquet, and whatever `datasets` loads."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from geomalign._util.files import json_lines, json_object, parquet_rows

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def is_table(name: str) -> bool:
    """Whether a name is that of a table on disk: of a file, which need not exist, or of a directory of `datasets`.

    >>> is_table("pairs.jsonl"), is_table("chain")
    (True, False)
    """
    return (
        name.endswith(SUFFIXES) or Path(name, "dataset_info.json").exists() or Path(name, "dataset_dict.json").exists()
    )


def fingerprint(name: str) -> str | None:
    """A checksum of a table's file, 16 hexadecimal digits; None of a name that is no file.

    >>> fingerprint("chain") is None
    True
    """
    path = Path(name)
    if not (name.endswith(SUFFIXES) and path.is_file()):
        return None
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()[:16]


def read(name: str, split: str = "train", subset: str | None = None) -> list[dict[str, Any]]:
    """The rows of a table.

    Args:
        name: a .jsonl, .json (a list of objects), .csv or .parquet file; a directory that `datasets` saved; or anything
            that `datasets.load_dataset` takes, such as a name of the hub.
        split: of a dataset that has several.
        subset: of a dataset of the hub, which calls it a configuration.

    Raises:
        ValueError: there is no such table, it has no rows, or it needs a package that is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "sums.csv")
    ...     _ = file.write_text("prompt,answer\\n3+8,11")
    ...     read(str(file))
    [{'prompt': '3+8', 'answer': '11'}]
    """
    path = Path(name)
    if name.endswith(SUFFIXES):
        if not path.exists():
            raise ValueError(f"there is no file {name} (looked for from {Path.cwd()}).")
        rows = {".jsonl": _lines, ".json": _json, ".csv": _csv, ".parquet": parquet_rows}[path.suffix](path)
    else:
        rows = _dataset(name, split, subset)
    if not rows:
        raise ValueError(f"{name} has no rows.")
    return rows


def _lines(path: Path) -> list[dict[str, Any]]:
    return json_lines(path, "One object per line is expected.")


def _json(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}. If it has one object per line, call it .jsonl.") from None
    if not isinstance(rows, list):
        raise ValueError(f"{path} is a JSON {type(rows).__name__}; it must be a list of objects, one per row.")
    return [json_object(row, f"item {number} of {path}") for number, row in enumerate(rows, 1)]


def _csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def _dataset(name: str, split: str, subset: str | None) -> list[dict[str, Any]]:
    try:
        import datasets
    except ImportError:
        raise ValueError(f"{name} is loaded by datasets, which is missing: pip install 'geomalign[tasks]'.") from None
    if is_table(name):
        found = datasets.load_from_disk(name)
    else:
        try:
            found = datasets.load_dataset(name, subset, split=split)
        except Exception as error:  # the hub's errors are of many libraries' types
            raise ValueError(
                f"datasets.load_dataset({name!r}, {subset!r}, split={split!r}) failed: {type(error).__name__}: {error}"
            ) from error
    if isinstance(found, Mapping):
        if split not in found:
            raise ValueError(f"{name} has no split {split!r}; it has {', '.join(found)}. Say split=….")
        found = found[split]
    return [dict(row) for row in found]


def column(row: Mapping[str, Any], name: str) -> Any:
    """The value of a column; `a.b` looks into the column `a`, also where that is JSON text. None if it is missing.

    >>> column({"reward_model": {"ground_truth": "7"}}, "reward_model.ground_truth")
    '7'
    """
    value: Any = row
    for part in [name] if name in row else name.split("."):
        if isinstance(value, str) and value[:1] == "{":
            value = json.loads(value)
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def first(row: Mapping[str, Any], names: Iterable[str]) -> str:
    """The first of the columns that a row has; empty if it has none of them.

    >>> first({"question": "3+8"}, ("prompt", "question"))
    'question'
    """
    return next((name for name in names if column(row, name) is not None), "")
