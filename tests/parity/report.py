"""The parity report: results as JSON, one record per case and release, and the Markdown page made from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from geomalign import recipes
from geomalign.laws.comparison import Verdict
from tests.parity.case import Case, Result, call, run
from tests.parity.cases import CASES, NO_IMPLEMENTATION
from tests.parity.implementations import IMPLEMENTATIONS, unavailable

__all__ = ["fresh", "markdown", "merge", "record", "write"]

Record = dict[str, Any]

_TITLES = {
    "trl": "TRL",
    "verl": "verl",
    "areal": "AReaL",
    "liger": "Liger",
    "openrlhf": "OpenRLHF",
    "skyrl": "SkyRL",
    "swift": "ms-swift",
    "torchrl": "torchrl",
    "trinity": "Trinity-RFT",
}
_FAMILIES = {
    "wide": "tokens one or two nats from the anchor",
    "holes": "masked tokens inside responses",
    "empty": "a response without a token",
    "far": "a token 25 nats from the anchor",
    "alone": "a prompt with one response",
    "tied": "a prompt whose responses have equal rewards",
}


def record(result: Result) -> Record:
    """A result as JSON. Numbers are left to the example: only verdicts must be the same on every machine."""
    case = result.case
    return {
        "objective": case.ours,
        "implementation": case.implementation,
        "version": result.version,
        "method": case.method,
        "options": _plain(case.options),
        "compared": "advantage" if case.estimator else "loss and gradient",
        "verdicts": {family: comparison.verdict.value for family, comparison in result.found.items()},
        "reasons": {
            family: case.expected(family)[1]
            for family, comparison in result.found.items()
            if comparison.verdict is not Verdict.EQUAL
        },
        "example": result.example,
    }


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(options)))
    return plain


def fresh(
    cases: Iterable[Case] = CASES, implementations: Sequence[str] | None = None, examples: bool = True
) -> tuple[list[Record], list[str]]:
    """Run every case whose implementation is installed here.

    Args:
        cases: lines of the table.
        implementations: names of reference implementations; None: all that are installed.
        examples: with the smallest batches where they differ.

    Returns:
        The records, and every verdict that was not the expected one, as text.
    """
    records, unexpected = [], []
    for case in cases:
        implementation = IMPLEMENTATIONS[case.implementation]
        if (
            unavailable(implementation)
            or (implementations is not None and case.implementation not in implementations)
            or not case.applies_to(implementation.version)
        ):
            continue
        result = run(case, examples=examples)
        records.append(record(result))
        unexpected += result.unexpected
    return records, unexpected


def merge(*parts: Sequence[Record]) -> list[Record]:
    """Records of several environments as one list, in the order of the implementations and their releases."""
    order = {name: rank for rank, name in enumerate(IMPLEMENTATIONS)}
    unique = {
        json.dumps([r["objective"], r["implementation"], r["version"], r["method"], r["options"], r["compared"]]): r
        for p in parts
        for r in p
    }
    return sorted(unique.values(), key=lambda r: (order[r["implementation"]], _release(r["version"])))


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _columns(records: Sequence[Record]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for r in records:
        found.setdefault((r["implementation"], r["version"]))
    return list(found)


class _Notes:
    """Numbered footnotes; equal texts share a number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, text: str) -> str:
        return f"[^n{self.numbers.setdefault(text, len(self.numbers) + 1)}]"


def _name(objective: str) -> str:
    return objective.split("(")[0]


def _cell(found: Sequence[Record], notes: _Notes) -> str:
    """One objective under one release of an implementation: every method that was compared."""
    parts = []
    for r in found:
        verdict = r["verdicts"]["ragged"]
        marks = []
        if verdict != Verdict.EQUAL.value:
            marks.append(notes.mark(f"**{_written(r)}**, {verdict}: {r['reasons']['ragged']}"))
        for family, other in r["verdicts"].items():
            if family != "ragged" and other != verdict and family in r["reasons"]:
                marks.append(
                    notes.mark(f"{_heading(family)}{other}. {_TITLES[r['implementation']]}: {r['reasons'][family]}")
                )
        word = {"equal": "equal", "equal up to a constant": "equal*", "proportional": "×"}.get(verdict, verdict)
        parts.append(word + (" " + " ".join(dict.fromkeys(marks)) if marks else ""))
    return "; ".join(dict.fromkeys(parts))


def _written(r: Record) -> str:
    return f"`{call(r['method'], r['options'])}`"


def _table(records: Sequence[Record], columns: Sequence[tuple[str, str]], notes: _Notes) -> list[str]:
    rows: dict[str, dict[tuple[str, str], list[Record]]] = {}
    for r in records:
        rows.setdefault(r["objective"], {}).setdefault((r["implementation"], r["version"]), []).append(r)
    used = [c for c in columns if any(c in row for row in rows.values())]
    lines = [
        "| objective | "
        + " | ".join(f"{_TITLES[implementation]} {version}" for implementation, version in used)
        + " |",
        "|---" * (len(used) + 1) + "|",
    ]
    for objective in sorted(rows):
        cells = [_cell(rows[objective][c], notes) if c in rows[objective] else "" for c in used]
        lines.append(f"| `{objective}` | " + " | ".join(cells) + " |")
    return lines


def markdown(records: Sequence[Record]) -> str:
    """The page docs/parity.md, from the records and nothing else."""
    columns = _columns(records)
    losses = [r for r in records if r["compared"] != "advantage"]
    estimators = [r for r in records if r["compared"] == "advantage"]
    pairs = [r for r in losses if _of_pairs(r)]
    rollouts = [r for r in losses if not _of_pairs(r)]
    equal = [r for r in records if r["verdicts"]["ragged"] in (Verdict.EQUAL.value, Verdict.CONSTANT.value)]
    covered = {_name(r["objective"]) for r in records} & set(recipes.names()) - set(NO_IMPLEMENTATION)
    agreed = {_name(r["objective"]) for r in equal} & set(recipes.names())
    notes = _Notes()
    versions = ", ".join(f"{_TITLES[implementation]} {version}" for implementation, version in columns)
    head = f"""# Parity with other implementations

<!-- Made by `make parity-report` (python -m tests.parity render); do not edit. -->

Every line compares an objective of geomalign with a reference implementation, which is the code of another library
called through its own entry point: {versions}. Both see the same random ragged batches. The loss and its gradient
with respect to every token's log-probability, padding included, are compared to 1e-6 relative, since the libraries
add 1e-8 to the counts that they divide by; to 3e-5 for Liger, which computes in float32.

**{len(equal)} of {len(records)} comparisons are equal. {len(covered)} of {len(recipes.names())} recipes have a
reference implementation, {len(agreed)} of them one that is equal.** Every other line has its reason and the
smallest batch on which the two differ.

`equal`: value and gradient. `equal*`: the gradient; the values differ by a constant without gradient. `×`: the
gradient is ours times one factor. A number refers to a note. Notes also tell of known deviations on batches out of
the ordinary: {", ".join(sorted(_FAMILIES.values()))}.

How the reference implementations are called: TRL's trainers are made without their `__init__`, which needs a model
and a data set; they have the attributes that it derives from the real configuration, and log-probabilities in place
of a forward pass. OpenRLHF's loss modules are loaded without `openrlhf.models`, whose import needs flash-attn, and
with an empty module in place of deepspeed where there is none; those of Trinity-RFT and SkyRL likewise, without
what their packages import for servers. SkyRL's own reduction puts the weights into the advantages. Liger gets
hidden states of a vocabulary of two, torchrl's modules an actor that answers with the batch's log-probabilities;
verl is called as it is. Departures of open-instruct, NeMo-Aligner and ROLL, which the
[catalogue](catalogue/recipes.md) tells of, were read in their sources and are not run here.

Run it again with `make parity-report`; compare a loss of your own with
`geomalign parity my_module:my_loss --against grpo`.
"""
    lines = [head]
    for title, part in (
        ("Rollouts", rollouts),
        ("Pairs and labelled responses", pairs),
        ("Advantage estimators", estimators),
    ):
        lines += [f"## {title}", "", *_table(part, columns, notes), ""]
    lines += ["## Where they differ: minimal cases", "", *_examples(records)]
    lines += ["## Recipes without a reference implementation", "", *_without_implementation(covered), ""]
    lines += [f"[^n{number}]: {text}\n" for text, number in notes.numbers.items()]
    return "\n".join(lines).rstrip() + "\n"


_PAIRED = ("DPO", "CPO", "ORPO", "SimPO", "KTO")


def _of_pairs(r: Record) -> bool:
    return any(name in r["method"] and "GRPO" not in r["method"] for name in _PAIRED)


def _examples(records: Sequence[Record]) -> list[str]:
    lines, seen = [], set()
    # One case for every reason; of several releases of an implementation, the newest.
    for r in sorted(records, key=lambda r: _release(r["version"]), reverse=True):
        if not r["example"]:
            continue
        family = next(f for f, v in r["verdicts"].items() if v not in (Verdict.EQUAL.value, Verdict.CONSTANT.value))
        key = (r["implementation"], r["reasons"][family])
        if key in seen:
            continue
        seen.add(key)
        block = [
            f"### `{r['objective']}` and {_TITLES[r['implementation']]} {r['version']} {_written(r)}",
            "",
            _heading(family) + f"{r['verdicts'][family]}. {_TITLES[r['implementation']]}: {r['reasons'][family]}",
            "",
            "```text",
            *r["example"].splitlines(),
            "```",
            "",
        ]
        lines.append(block)
    return [line for block in lines for line in block]


def _heading(family: str) -> str:
    return "" if family == "ragged" else f"{_FAMILIES[family].capitalize()}: "


def _without_implementation(covered: set[str]) -> list[str]:
    lines = ["| recipe | why |", "|---|---|"]
    for name in recipes.names():
        if name not in covered:
            lines.append(f"| `{name}` | {NO_IMPLEMENTATION.get(name, 'none of these libraries implements it')} |")
    return lines


def write(records: Sequence[Record], folder: Path) -> None:
    """docs/parity.md and docs/parity/parity.json."""
    (folder / "parity").mkdir(parents=True, exist_ok=True)
    (folder / "parity" / "parity.json").write_text(
        json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / "parity.md").write_text(markdown(records), encoding="utf-8")
