"""Tables as lists of rows: JSON lines, JSON, CSV, parquet, and whatever `datasets` loads."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from geomalign._util.files import json_lines, json_object, parquet_rows, parsed, utf8

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


class DataWarning(UserWarning):
    """What was chosen where a table leaves it open, and which rows were left out.

    >>> issubclass(DataWarning, UserWarning)
    True
    """


def say(message: str) -> None:
    """Warn of what was chosen or left out.

    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     say("3 of 8 rows were left out.")
    >>> str(said[0].message)
    '3 of 8 rows were left out.'
    """
    warnings.warn(message, DataWarning, stacklevel=4)


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
        ValueError: there is no such table, it has no rows, it is broken or in another encoding than UTF-8, or it needs
            a package that is not installed. What is wrong in a file is said with its line or row.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "sums.csv")
    ...     _ = file.write_text("prompt,answer\\n3+8,11")
    ...     read(str(file))
    [{'prompt': '3+8', 'answer': '11'}]
    """
    path = Path(name)
    if name.endswith(SUFFIXES):
        if not path.is_file():
            raise ValueError(f"there is no file {name} (looked for from {Path.cwd()}).")
        rows = {".jsonl": _lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}[path.suffix](path)
    elif path.is_file():
        raise ValueError(f"{name} is none of {', '.join(SUFFIXES)}; save the table as one of them.")
    elif "/" not in name and not path.is_dir():  # the hub is not asked, which takes half a minute where there is none
        raise ValueError(
            f"there is no directory {name} (looked for from {Path.cwd()}), and data sets of the hub are named "
            "OWNER/NAME."
        )
    else:
        rows = _dataset(name, split, subset)
    if not rows:
        raise ValueError(f"{name} has no rows.")
    return rows


def _lines(path: Path) -> list[dict[str, Any]]:
    return json_lines(path, "One object per line is expected.")


def _json(path: Path) -> list[dict[str, Any]]:
    try:
        rows = parsed(utf8(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}. If it has one object per line, call it .jsonl.") from None
    if not isinstance(rows, list):
        raise ValueError(f"{path} is a JSON {type(rows).__name__}; it must be a list of objects, one per row.")
    return [json_object(row, f"item {number} of {path}") for number, row in enumerate(rows, 1)]


def _csv(path: Path) -> list[dict[str, Any]]:
    """Rows of a comma-separated file: as many cells as the header has, and None for an empty one."""
    # Without `strict` a quotation mark that is never closed swallows the rest of the file.
    reader = csv.reader(io.StringIO(utf8(path), newline=""), strict=True)
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    rows: list[dict[str, Any]] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
            raise ValueError(
                f"{path} has one column, {header[0]!r}: it is not separated by commas. Save it with commas."
            )
        if len(set(header)) < len(header):
            raise ValueError(f"{path} has columns of the same name in its header: {', '.join(header)}.")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"row {len(rows) + 1} of {path} (line {reader.line_num}) has {len(cells)} cells, and the header "
                    f"{len(header)}: {', '.join(header)}. A cell with a comma stands in quotation marks."
                )
            rows.append({name: cell or None for name, cell in zip(header, cells)})
    except csv.Error as error:
        raise ValueError(
            f"line {reader.line_num} of {path} is no CSV: {error}. Are its quotation marks doubled?"
        ) from None
    finally:
        csv.field_size_limit(limit)
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    return [_filled(row) for row in parquet_rows(path)]


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of Arrow without the nulls that it writes into objects for the keys that only other objects have."""
    return {name: _without_nulls(value) for name, value in row.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


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
    return [_filled(row) for row in found]


def column(row: Mapping[str, Any], name: str) -> Any:
    """The value of a column; `a.b` looks into the column `a`, also where that is JSON text. None if it is missing.

    Raises:
        ValueError: a cell that is looked into begins as a JSON object does, and is none.

    >>> column({"reward_model": {"ground_truth": "7"}}, "reward_model.ground_truth")
    '7'
    """
    value: Any = row
    for part in [name] if name in row else name.split("."):
        if isinstance(value, str) and value.lstrip()[:1] == "{":
            try:
                value = parsed(value)
            except ValueError as error:
                raise ValueError(
                    f"the column {name!r} looks into {value[:60]!r}, which is no JSON object: {error}. Python's own "
                    "notation, with single quotation marks, is not JSON."
                ) from None
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def first(row: Mapping[str, Any], names: Iterable[str]) -> str:
    """The first of the columns that a row has; empty if it has none of them.

    >>> first({"question": "3+8"}, ("prompt", "question"))
    'question'
    """
    return next((name for name in names if column(row, name) is not None), "")
