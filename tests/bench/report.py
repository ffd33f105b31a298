"""The page of the benchmark, with its figures: made of the records and nothing else."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.targets import TARGETS, Records, extra, faster

__all__ = ["markdown", "write"]

_TITLES = {
    "objective": ("Objective and gradient on log-probabilities", "token"),
    "projection": ("Target policies of groups", "outcome"),
    "head": ("The language-model head", "token"),
    "training": ("A training step", "step"),
}
_FIGURES = {
    "objective": "![Nanoseconds per token against the number of tokens](tokens.png)",
    "projection": "![Nanoseconds per outcome against the size of a group](groups.png)",
    "head": "![Microseconds per token against the vocabulary, and extra memory](vocabulary.png)",
}
_NOTES = {
    "quick": "This was `--preset quick`, whose sizes say nothing about speed.",
    "short": "This was `--preset short`: few rounds, and 512 instead of 4096 tokens where V = 131072.",
    "full": "",
}
_TEXTS = {
    "objective": """One objective, value and gradient in all log-probabilities, responses of 2048 tokens with ragged
masks of int64, drives and advantages computed before. "TRL's formula" is what its trainer differentiates, written out
without its metrics; "with its metrics" is the trainer's own `_compute_loss`, and verl's own `vanilla` policy loss, both
called as `make parity` calls them. Compiled functions are compiled by inductor, one graph per shape; the benchmark
fails if there are more, or if Dynamo gives up.""",
    "projection": """Every group is a row. The bisection takes 40 halvings, as published; where the gradient is wanted
it is followed by one step in closed form, without which it has none. `entmax_bisect` and `entmax15` are of the package
`entmax`.""",
    "head": """Forward and backward, through one objective (`grpo`), from hidden states to their gradient and that of
the weight; all methods return the same gradients. TRL's, Liger's and torch's functions are called through
`ga.ops.fused_log_probs(backend=…)`, which adds a check of the tokens. No position is masked.""",
    "training": """One update per rollout, from the same weights, AdamW, no checkpoints, evaluations or gradient
checkpointing in either. Our step is taken between two of TRL's, in a callback of its trainer.""",
}


def write(whole: dict[str, Any], folder: Path) -> None:
    """records.json, index.md and the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    (folder / "records.json").write_text(text.replace('{"part"', '\n{"part"') + "\n", encoding="utf-8")
    (folder / "index.md").write_text(markdown(whole), encoding="utf-8")
    figures(whole["records"], folder)


def markdown(whole: dict[str, Any]) -> str:
    """The page docs/results/performance/index.md."""
    machine, records = whole["machine"], Records(whole["records"])
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    found = [(target, target.find(records)) for target in TARGETS]
    known = [(target, figure) for target, figure in found if figure is not None]
    met = sum(target.met(figure) for target, figure in known)
    lines = [
        f"""# Performance

<!-- Made by `make bench` (python -m tests.bench render); do not edit. -->

Measured on {machine["cores"]} cores of {machine["processor"]}, load {machine["load"]:.1f} when the run began, in
{whole["seconds"] / 60:.0f} minutes, with Python {machine["python"]}, {packages}. Everything is float32 on the CPU.
{_NOTES[whole["preset"]]}

Methods that are compared run in one process and take turns, in an order that is reversed every other round. A ratio is
the median of the ratios of the rounds, with their quartiles in brackets; on one thread it is of the CPU time of the
process, on several of the wall clock, because CPU time counts threads that wait. Extra memory is what the resident set
grows by at most during one evaluation, results included, in a fresh process whose allocator returns what is freed.
Before anything is timed, the gradients of all methods are compared; the run fails where they differ.

**{met} of {len(known)} targets are met.**

| | against | target | measured | |
|---|---|---|---|---|""",
    ]
    lines += [
        f"| {t.what} | {t.against} | {t.wanted} | {t.shown(figure)} | {'met' if t.met(figure) else '**not met**'} |"
        for t, figure in known
    ]
    missed = [(t, figure) for t, figure in known if not t.met(figure) and t.bound]
    if missed:
        lines += ["", "What bounds those that are not met:", ""]
        lines += [f"* {bound}" for bound in dict.fromkeys(t.bound for t, _ in missed)]
    lines += ["", *_exact(records)]
    for part, (title, unit) in _TITLES.items():
        cases = [r for r in records if r["part"] == part and any("cpu" in m for m in r["methods"].values())]
        if cases:
            lines += ["", f"## {title}", "", _TEXTS[part], ""]
            lines += [_FIGURES[part], ""] if part in _FIGURES else []
            lines += [line for case in cases for line in (*_table(case, unit), "")]
    return "\n".join(lines).rstrip() + "\n"


def _exact(records: Records) -> list[str]:
    """The differences of gradients from those in float64."""
    lines = ["| gradient, relative to that in float64 | ‖difference‖ / ‖gradient‖ |", "|---|---|"]
    for case in records:
        if case["case"].startswith("gradient"):
            for name, method in list(case["methods"].items())[1:]:
                lines.append(f"| {case['case']}: {name} | {method['difference']:.1e} |")
    return lines if len(lines) > 2 else []


def _table(case: Any, unit: str) -> list[str]:
    clock = "cpu" if case["threads"] == 1 else "wall"
    size = ", ".join(f"{name} {value}" for name, value in case["size"].items())
    threads = "one thread" if case["threads"] == 1 else f"{case['threads']} threads"
    names = list(case["methods"])
    first = next((name for name in names if name.startswith("geomalign")), names[0])
    head = [f"time per {unit}", f"time relative to {first}"]
    peaks = any("peak" in method for method in case["methods"].values())
    rounds = len(case["methods"][first][clock])
    lines = [
        f"**{case['case']}**: {size}; {threads}, {rounds} rounds",
        "",
        f"| | {' | '.join(head)} |{' extra memory |' if peaks else ''}",
        "|---" * (3 + peaks) + "|",
    ]
    for name in names:
        seconds = statistics.median(case["methods"][name][clock]) / case["per"]
        ratio = str(faster(case, first, name)) if name != first else "1"
        peak = f" {extra(case, name):.1f} MiB |" if peaks and "peak" in case["methods"][name] else " |" * peaks
        lines.append(f"| {name} | {_time(seconds)} | {ratio} |{peak}")
    return lines


def _time(seconds: float) -> str:
    power = min(max(0, math.ceil(-math.log10(max(seconds, 1e-12)) / 3)), 3)
    return f"{seconds * 1000**power:.3g} {('s', 'ms', 'µs', 'ns')[power]}"


def figures(records: Sequence[Any], folder: Path) -> None:
    """Scaling in tokens, in the size of groups, and in the vocabulary, as far as there are records of it."""
    tokens = [r for r in records if r["case"] == "objective in tokens"]
    if tokens:
        _lines(folder / "tokens.png", [("dapo, value and gradient", tokens, "tokens")], "ns per token", 1e9)
    groups = [
        (title, [r for r in records if r["case"] == f"{case} in group size"], "outcomes of a group")
        for title, case in (("bounded projection", "bounded projection"), ("α-entmax, α = 1.5", "entmax 1.5"))
    ]
    if all(panel[1] for panel in groups):
        _lines(folder / "groups.png", groups, "ns per outcome", 1e9)
    heads = [r for r in records if r["case"] == "head" and r["threads"] == 1]
    if heads:
        few = min(r["size"]["tokens"] for r in heads)
        narrow = min(r["size"]["vocabulary"] for r in heads)
        panels = [
            (f"{few} tokens", [r for r in heads if r["size"]["tokens"] == few], "vocabulary"),
            (f"a vocabulary of {narrow}", [r for r in heads if r["size"]["vocabulary"] == narrow], "tokens "),
        ]
        _lines(folder / "vocabulary.png", panels, "µs per token", 1e6)


def _lines(path: Path, panels: Sequence[tuple[str, Sequence[Any], str]], label: str, scale: float) -> None:
    """Time per unit against a size, both logarithmic, one line per method."""
    from geomalign.plotting.style import canvas, looks, save

    names = list(dict.fromkeys(name for _, cases, _ in panels for case in cases for name in case["methods"]))
    look = looks(names)
    with canvas(1, len(panels), panel=(4.6, 3.6), sharey=True) as (figure, axes):
        for axis, (title, cases, variable) in zip(axes[0], panels):
            for name in names:
                points = sorted(
                    (_along(case, variable), statistics.median(case["methods"][name]["cpu"]) / case["per"] * scale)
                    for case in cases
                    if name in case["methods"]
                )
                if points:
                    axis.plot(*zip(*points), label=name, ms=4, **look[name])
            axis.set(title=title, xlabel=variable.strip(), xscale="log", yscale="log")
            axis.set_xscale("log", base=2)
        axes[0, 0].set_ylabel(label)
        handles = {h.get_label(): h for axis in axes[0] for h in axis.get_lines()}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        save(figure, path)


def _along(case: Any, variable: str) -> int:
    size = case["size"]
    return {
        "tokens": lambda: size["rows"] * size["tokens"],
        "tokens ": lambda: size["tokens"],
        "vocabulary": lambda: size["vocabulary"],
        "outcomes of a group": lambda: size["size"],
    }[variable]()
