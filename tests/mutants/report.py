"""The page of a mutation run: the share of mutants that a fast test notices, and the survivors with a reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

EQUIVALENT = Path(__file__).with_name("equivalent.json")
"""Mutants that change nothing that can be observed, and survivors that are explained, each with its reason."""


def read(files: list[Path]) -> list[dict[str, Any]]:
    """The records of several runs, each mutant once, the later record counting."""
    records = {}
    for file in files:
        for record in json.loads(file.read_text(encoding="utf-8")):
            records[(*key(record), record["line"], record["column"])] = record
    return [record for record in records.values() if record["verdict"] != "gone"]


def key(record: dict[str, Any]) -> tuple[str, ...]:
    return record["path"], record["context"], record["before"], record["after"]


def reasons() -> dict[tuple[str, ...], dict[str, Any]]:
    return {key(e): e for e in json.loads(EQUIVALENT.read_text(encoding="utf-8"))}


def page(records: list[dict[str, Any]]) -> str:
    known = reasons()
    rows, survivors = [], []
    for package in dict.fromkeys(record["package"] for record in records):
        of = [record for record in records if record["package"] == package]
        counts: Counter[str] = Counter()
        for record in of:
            said = known.get(key(record), {})
            equivalent = record["verdict"] == "survived" and bool(said.get("equivalent"))
            counts["equivalent" if equivalent else record["verdict"]] += 1
            if record["verdict"] == "survived" and not equivalent:
                survivors.append((record, said.get("reason", "not yet looked into")))
        counted = counts["killed"] + counts["survived"]
        first = sum(record["verdict"] == "killed" and not record.get("again") for record in of)
        rows.append(
            f"| {package} | {len(of)} | {counts['equivalent']} | {counts['killed']} | {counts['survived']} | "
            f"{_share(first, counted)} | {_share(counts['killed'], counted)} |"
        )
    listed = [
        f"| `{record['path']}:{record['line']}` | {record['kind']} | `{_cell(record['before'])}` | "
        f"`{_cell(record['after'])}` | {_cell(reason)} |"
        for record, reason in survivors
    ]
    return "\n".join([INTRODUCTION, *rows, "", SURVIVORS, *listed, ""])


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


INTRODUCTION = """# Mutants

A wrong line of code should fail a test. `make mutants` changes one place of the code at a time (a comparison, a sign,
an operator, a constant, a default, two arguments, a clamp that is left out), in a copy of the tree, and runs the fast
tests that cover the module until one fails. Tests of generated pages are not among them. The mutants are drawn at
random, as many of every package. Those that change nothing that can be observed are listed with their reasons in
`tests/mutants/equivalent.json`, and do not count.

Survivors of the first pass got a test, and were run again (`python -m tests.mutants again`). The last column is
therefore of a sample that the tests have seen; the one before is what they noticed at first, before the tests that they
led to.

| package | mutants | equivalent | noticed | survived | noticed at first | noticed, of those that count |
|---|---|---|---|---|---|---|"""

SURVIVORS = """## Survivors

| place | kind | the code | the mutant | why no fast test notices it |
|---|---|---|---|---|"""
