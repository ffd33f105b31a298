"""The page of a mutation run: the share of mutants that a fast test notices, and the survivors with a reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

EQUIVALENT = Path(__file__).with_name("equivalent.json")
"""Mutants that change nothing that can be observed, and survivors that are explained, each with its reason."""


def read(files: list[Path]) -> list[dict[str, Any]]:
    """The records of several runs by their seeds, each mutant once: under the first seed that drew it, and of records
    of one seed as the later has it."""
    records: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in sorted((r for file in files for r in json.loads(file.read_text(encoding="utf-8"))), key=seed):
        name = (*key(record), record["line"], record["column"])
        if name not in records or seed(records[name]) == seed(record):
            records[name] = record
    return list(records.values())


def key(record: dict[str, Any]) -> tuple[str, ...]:
    return record["path"], record["context"], record["before"], record["after"]


def seed(record: dict[str, Any]) -> int:
    return int(record.get("seed", 0))


def reasons() -> dict[tuple[str, ...], dict[str, Any]]:
    return {key(e): e for e in json.loads(EQUIVALENT.read_text(encoding="utf-8"))}


def page(records: list[dict[str, Any]]) -> str:
    parts, survivors = [INTRODUCTION], []
    for number in sorted({seed(record) for record in records}):
        of = [record for record in records if seed(record) == number]
        parts += [SAMPLE.format(number), *_table(of), ""]
        survivors += [record for record in of if record["verdict"] == "survived" and not _equivalent(record)]
    listed = [
        f"| `{record['path']}:{record['line']}` | {record['kind']} | `{_cell(record['before'])}` | "
        f"`{_cell(record['after'])}` | {_cell(reasons().get(key(record), {}).get('reason', 'not yet looked into'))} |"
        for record in survivors
    ]
    return "\n".join([*parts, SURVIVORS, *listed, ""])


def _equivalent(record: dict[str, Any]) -> bool:
    return record["verdict"] == "survived" and bool(reasons().get(key(record), {}).get("equivalent"))


def _table(records: list[dict[str, Any]]) -> list[str]:
    """A row of figures for every package, and one for all of them."""
    packages = dict.fromkeys(record["package"] for record in records)
    rows = []
    for name, of in [
        *((package, [r for r in records if r["package"] == package]) for package in packages),
        ("**all**", records),
    ]:
        counts = Counter("equivalent" if _equivalent(record) else record["verdict"] for record in of)
        counted = counts["killed"] + counts["survived"]
        first = sum(record["verdict"] == "killed" and not record.get("again") for record in of)
        rows.append(
            f"| {name} | {len(of)} | {counts['equivalent']} | {counts['gone']} | {counts['killed']} | "
            f"{counts['survived']} | {_share(first, counted + counts['gone'])} | {_share(counts['killed'], counted)} |"
        )
    return rows


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

Survivors of a first pass got a test, and were run again (`python -m tests.mutants again`). The last column is therefore
of a sample that the tests have seen; the one before it, *noticed at first*, is what they noticed before the tests that
this sample led to. The samples were drawn one after the other, so that *noticed at first* of a later sample says how
far the tests that were written against the earlier ones carry to mutants that nobody had looked at. A mutant that an
earlier sample has drawn is left out of a later one. A survivor whose line has since been rewritten is *gone*: it counts
among those that were not noticed at first, and not in the last column. A share of few says little: 19 of 20 go with
anything from 75 to 99.9 % of all mutants (Clopper–Pearson, 95 %).

Between the samples of seed 4 and seed 5 tests were written for every package by reading it, module by module, with
other mutants tried on the way: of core and analysis a large part of all there are, of the other packages some hundreds.
The sample of seed 5 was drawn after that; nobody looked at it before, but some of it may have been among those. Five of
the slowest fast tests are kept for what they alone notice (`python -m tests.mutants slow`).
"""

SAMPLE = """## Sample of seed {}

| package | mutants | equivalent | gone | noticed | survived | noticed at first | noticed, of those that count |
|---|---|---|---|---|---|---|---|"""

SURVIVORS = """## Survivors

| place | kind | the code | the mutant | why no fast test notices it |
|---|---|---|---|---|"""
