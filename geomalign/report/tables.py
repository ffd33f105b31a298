"""The tables of a report, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from geomalign import plotting
from geomalign.report.results import ACCURACIES, Results, is_graded
from geomalign.report.statistics import LEVEL, Difference, interval

Column = tuple[str, str, Callable[[float], str]]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: bool = False) -> str:
    """A table in Markdown.

    Args:
        right: align every column but the first to the right.

    >>> print(table(["objective", "KL"], [["opo", "0.1"]], right=True))
    | objective | KL |
    | --- | ---: |
    | opo | 0.1 |
    """
    rule = ["---", *(["---:" if right else "---"] * (len(header) - 1))]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (header, rule, *rows)
    )


def slots(results: Results) -> str:
    """What fills the slots of every objective, one row per term.

    >>> from geomalign.report.results import FinishedRun
    >>> run = FinishedRun({"label": "opo", "rate": 1e-4, "seed": 0, "slots": {"unit": "Token()"}}, ())
    >>> slots(Results((run,), {})).splitlines()[-1]
    '| opo | `Token()` |  |  |  |  | none |'
    """
    header = ("objective", "unit", "chart", "sampling (drive g)", "optimization (potential φ)", "measure", "anchor")
    rows = []
    for label in results.labels:
        summary = results.of(label)[0].summary
        terms = summary.get("terms") or [summary.get("slots") or {}]
        for i, term in enumerate(terms):
            coefficient = float(term.get("coefficient", 1.0))
            name = label if i == 0 else ""
            if len(terms) > 1:
                name += f" {'+ ' if i else ''}{coefficient:g}×" if coefficient != 1 or i else ""
            filled = (_code(term.get(slot)) for slot in ("unit", "chart", "sampling", "optimization", "measure"))
            rows.append((name, *filled, str(term.get("anchor")).lower()))
    return table(header, rows)


def _code(value: Any) -> str:
    return f"`{value}`" if value else ""


def difference_table(results: Results, found: Sequence[Difference], adjusted: bool) -> str:
    """Differences in percentage points.

    Args:
        adjusted: show p after Holm's correction.

    >>> from geomalign.report.results import FinishedRun
    >>> run = FinishedRun({"label": "opo", "rate": 1e-4, "seed": 0, "final": {}}, ())
    >>> found = Difference("opo", "grpo", 1e-4, "accuracy_in", mean=0.02, half=0.01, p=0.03)
    >>> difference_table(Results((run,), {}), [found], adjusted=False).splitlines()[-1]
    '| 1e-4 | the levels (trained on) | opo | grpo | 2.0 ± 1.0 |'
    """
    rows = []
    for d in sorted(found, key=lambda d: (d.rate, d.key, -abs(d.mean))):
        above, below, gap = (d.a, d.b, d.mean) if d.mean > 0 else (d.b, d.a, -d.mean)
        shown = f"{100 * gap:.1f} ± {100 * d.half:.1f}"
        row = (plotting.step_size(d.rate), results.level_names(d.key), above, below, shown)
        rows.append((*row, f"{d.adjusted:.2g}") if adjusted else row)
    header = ("step size", "on", "higher", "lower", f"difference in points, {LEVEL:.0%} interval")
    return table((*header, "adjusted p") if adjusted else header, rows)


def _percent(x: float) -> str:
    return f"{100 * x:.1f}"


def _number(x: float) -> str:
    return f"{x:.3g}" if abs(x) < 1000 else f"{x:.2e}"


_TABLES: tuple[tuple[Column, ...], ...] = (
    (
        ("levels", "", _percent),
        ("reward", "reward", _number),
        ("preference_accuracy", "ranked, %", _percent),
        ("preference_accuracy_held_out", "held out, %", _percent),
        ("margin", "margin", _number),
        ("entropy", "entropy", _number),
    ),
    (
        ("grad_norm", "grad norm", _number),
        ("grad_per_range", "grad / range", _number),
        ("kl", "KL", _number),
        ("chi2", "χ²", _number),
        ("ess", "ESS", _number),
        ("clip_fraction", "off, %", _percent),
        ("stiffness", "μ/sd(g)", _number),
        ("inactive", "Δ≈0, %", _percent),
    ),
)


_LEGEND = {
    "accuracy_in": "*level n, %*: the share of held-out prompts whose greedy response has a reward of at least 1; "
    "where rewards are graded, *level n, reward* is the mean reward of these responses",
    "grad_per_range": "*grad / range*: gradient norm per unit of drive range",
    "kl": "KL(π‖π_old), χ²(π‖π_old) and the effective sample size (a share) are of whole responses, estimated from the "
    "responses trained on as the last pass sees them, which tends to overstate the distance",
    "clip_fraction": "*off*: share of events that the geometry switches off",
    "stiffness": "*μ/sd(g)*: scale-free stiffness at the anchor",
    "inactive": "*Δ≈0*: share of updates where no potential can act",
}


def final_note(results: Results) -> str:
    """What the cells of the final tables mean.

    >>> from geomalign.report.results import FinishedRun
    >>> run = FinishedRun({"label": "opo", "rate": 1e-4, "seed": 0, "final": {}}, ())
    >>> final_note(Results((run,), {})).split(".")[0]
    'One seed'
    """
    spread = f"Mean ± half-width of the {LEVEL:.0%} interval over seeds" if len(results.seeds) > 1 else "One seed"
    measured = {key for run in results.runs for key, value in run.summary["final"].items() if value is not None}
    legend = [text for key, text in _LEGEND.items() if key in measured]
    return (
        f"{spread}. Accuracies and held-out metrics are those of the last evaluation; the other metrics are means over "
        "the last 10 steps. " + "; ".join(legend) + "." * bool(legend)
    ).rstrip()


def final_tables(results: Results) -> list[str]:
    """The final numbers: two tables per step size, without the columns that no run measured.

    >>> from geomalign.report.results import FinishedRun
    >>> run = FinishedRun({"label": "opo", "rate": 1e-4, "seed": 0, "final": {"kl": 0.1}}, ())
    >>> print(final_tables(Results((run,), {}))[1])
    | objective | KL |
    | --- | ---: |
    | opo | 0.1 |
    """
    levels: list[Column] = [(f"accuracy/{level}", f"level {level}, %", _percent) for level in results.levels]
    levels = levels or [(key, f"{told}, %", _percent) for key, (_, told) in ACCURACIES.items()]
    graded = [(key.replace("accuracy", "greedy_reward"), title) for key, title, _ in levels]
    levels += [(key, title.replace(", %", ", reward"), _number) for key, title in graded if is_graded(results, key)]
    blocks = []
    for rate in results.rates:
        blocks.append(f"Step size {plotting.step_size(rate)}:")
        for wanted in _TABLES:
            columns = [column for entry in wanted for column in (levels if entry[0] == "levels" else [entry])]
            columns = [column for column in columns if any(math.isfinite(run.final(column[0])) for run in results.runs)]
            rows = [(label, *_cells(results, label, rate, columns)) for label in results.labels]
            rows = [row for row in rows if any(row[1:])]
            if rows:
                blocks.append(table(("objective", *(title for _, title, _ in columns)), rows, right=True))
    return blocks


def _cells(results: Results, label: str, rate: float, columns: Sequence[Column]) -> list[str]:
    cells = []
    for key, _, show in columns:
        mean, half = interval(results.finals(label, rate, key))
        spread = f" ± {show(half)}" if math.isfinite(half) else ""
        cells.append(show(mean) + spread if math.isfinite(mean) else "")
    return cells


def time_table(results: Results) -> list[str]:
    """Where the time of a run went, on average over its seeds; nothing where it was not measured.

    >>> from geomalign.report.results import FinishedRun
    >>> run = FinishedRun({"label": "opo", "rate": 1e-4, "seed": 0, "time": {"update": 2.0, "total": 3.0}}, ())
    >>> time_table(Results((run,), {}))[0].splitlines()[-1]
    '| opo | 0.0 | 0.0 | 2.0 | 0.0 | 3.0 |  |  |'
    """
    phases = ("generation", "scoring", "update", "evaluation", "total")
    rows = []
    for label in results.labels:
        runs = results.of(label)
        times = [run.summary.get("time") or {} for run in runs]
        if not any(times):
            return []
        speed = np.mean([run.summary.get("tokens_per_second") or math.nan for run in runs])
        cpu = np.mean([run.summary.get("cpu_seconds") or math.nan for run in runs])
        seconds = (f"{np.mean([time.get(phase, 0.0) for time in times]):.1f}" for phase in phases)
        rows.append((label, *seconds, _finite(cpu, ".1f"), _finite(speed, ",.0f")))
    return [
        table(("seconds per run", *phases, "CPU", "tokens/s"), rows, right=True),
        "*scoring*: rewards, log-probabilities of the rollout, and the drive; *total*: all steps and evaluations, "
        "without loading, saving and making pairs; *CPU*: of the run's process in that time. Runs of a comparison may "
        "share the machine.",
    ]


def _finite(x: float, form: str) -> str:
    return f"{x:{form}}" if math.isfinite(x) else ""
