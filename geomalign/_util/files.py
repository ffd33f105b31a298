"""Reading rows from JSON lines and from parquet files, with errors that say where a file is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Python reads no longer integers from text; longer ones stay texts, which is what they are compared as.
_LONGEST_INTEGER = 4000


def utf8(path: Path) -> str:
    """The text of a file in UTF-8, without the byte order mark that some programs begin it with.

    Raises:
        ValueError: the file is in another encoding; the line is named.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "rows.csv"
    ...     _ = path.write_bytes(b"\\xef\\xbb\\xbfprompt")
    ...     utf8(path)
    'prompt'
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise ValueError(
            f"line {error.object.count(10, 0, error.start) + 1} of {path} is not UTF-8: byte "
            f"{error.object[error.start]:#04x}. The file is probably in "
            f"{'UTF-16' if wide else 'Latin-1 or Windows-1252'}; save it as UTF-8."
        ) from None


def parsed(text: str) -> Any:
    """The value of a JSON text, in which an integer of more than 4,000 digits stays a text.

    Raises:
        ValueError: the text is no JSON, or an object in it has two values under one name.

    >>> parsed("[1, " + "9" * 5000 + "]")[1][:3]
    '999'
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer that is too long for Python
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=lambda digits: int(digits) if len(digits) < _LONGEST_INTEGER else digits,
        )


class _Twice(json.JSONDecodeError):
    """An object has two values under one name."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Twice(f"an object has two values under the name {twice!r}", "", 0)
    return found


def json_lines(path: Path, hint: str) -> list[dict[str, Any]]:
    """The objects of a file with one object per line; empty lines are skipped.

    Args:
        path: the file, in UTF-8.
        hint: the likely cause or the remedy, for the error about a line that is no JSON.

    Raises:
        ValueError: a line is no JSON, or no object; its number is named.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "rows.jsonl"
    ...     _ = path.write_text('{"prompt": "1+1"}')
    ...     json_lines(path, "")
    [{'prompt': '1+1'}]
    """
    rows = []
    for number, line in enumerate(utf8(path).split("\n"), 1):
        if line.strip():
            try:
                row = parsed(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} of {path} is no JSON: {error}. {hint}") from None
            rows.append(json_object(row, f"line {number} of {path}"))
    return rows


def json_object(row: Any, where: str) -> dict[str, Any]:
    """The row itself, if it is an object.

    Args:
        row: what was read.
        where: the place of the row, which begins the error.

    Raises:
        ValueError: it is something else.

    >>> json_object({"a": 1}, "line 1")
    {'a': 1}
    """
    if not isinstance(row, dict):
        raise ValueError(f"{where} is a {type(row).__name__}, not an object with named columns.")
    return row


def parquet_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a parquet file.

    Raises:
        ValueError: pyarrow is missing, or the file is no parquet.

    >>> import tempfile, pyarrow, pyarrow.parquet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "rows.parquet"
    ...     pyarrow.parquet.write_table(pyarrow.table({"score": [1, 0]}), path)
    ...     parquet_rows(path)
    [{'score': 1}, {'score': 0}]
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{path} is parquet, which needs `pip install pyarrow`; JSON lines need nothing.") from None
    try:
        table = parquet.read_table(path)
        for index, field in enumerate(table.schema):
            if field.type == pyarrow.float32():  # 0.1, not the nearest double, 0.10000000149011612
                table = table.set_column(index, field.name, table[index].cast("string").cast("double"))
        rows: list[dict[str, Any]] = table.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(
            f"{path} is no parquet file: {error}. A writer that was killed leaves the file without its end."
        ) from None
    return rows
