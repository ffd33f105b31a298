"""Rows of JSON lines and of parquet files, with errors that say where a file is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def json_lines(path: Path, hint: str) -> list[dict[str, Any]]:
    """The objects of a file that has one a line; empty lines are passed over.

    Args:
        hint: the likely cause or the remedy, for the error of a line that is no JSON.

    Raises:
        ValueError: a line is no JSON, or no object; its number is named.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} of {path} is no JSON: {error}. {hint}") from None
            rows.append(json_object(row, f"line {number} of {path}"))
    return rows


def json_object(row: Any, where: str) -> dict[str, Any]:
    """The row, which must be an object.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{where} is a {type(row).__name__}, not an object with named columns.")
    return row


def parquet_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a parquet file.

    Raises:
        ValueError: pyarrow is missing, or the file is no parquet.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{path} is parquet, which needs `pip install pyarrow`; JSON lines need nothing.") from None
    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(
            f"{path} is no parquet file: {error}. A run that was killed leaves one without its end."
        ) from None
    return rows
