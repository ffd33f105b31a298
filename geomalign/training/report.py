"""The report of a comparison: Markdown, figures, CSV and JSON lines, from the files that the runs left.

Every sentence that compares is computed: a difference is stated where its interval over seeds supports it.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geomalign import plotting

LEVEL = 0.95
INACTIVE = 0.5  # above this share of updates at Δ ≈ 0, a comparison of geometries compares little


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run: its summary and the line of every step."""

    summary: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]

    @property
    def label(self) -> str:
        return str(self.summary["label"])

    @property
    def rate(self) -> float:
        return float(self.summary["rate"])

    @property
    def seed(self) -> int:
        return int(self.summary["seed"])

    def final(self, key: str) -> float:
        value = self.summary["final"].get(key)
        return math.nan if value is None else float(value)


@dataclasses.dataclass(frozen=True)
class Results:
    """Everything a report is made of. Labels keep the order in which they were asked for."""

    runs: tuple[Run, ...]
    summary: Mapping[str, Any]

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(run.label for run in self.runs))

    @property
    def rates(self) -> list[float]:
        return sorted({run.rate for run in self.runs})

    @property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    @property
    def tiers(self) -> dict[str, str]:
        return dict(self.summary.get("tiers") or {})

    def of(self, label: str, rate: float | None = None) -> list[Run]:
        return sorted(
            (run for run in self.runs if run.label == label and rate in (None, run.rate)),
            key=lambda run: (run.rate, run.seed),
        )

    def finals(self, label: str, rate: float, key: str) -> np.ndarray:
        """The final values of a quantity, one a seed, without the runs that did not measure it."""
        values = np.array([run.final(key) for run in self.of(label, rate)])
        return values[np.isfinite(values)]

    def curve(self, label: str, rate: float, key: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps (S,), values (seeds, S)) of a quantity, NaN where a run did not measure it."""
        runs = self.of(label, rate)
        steps = sorted({int(line["step"]) for run in runs for line in run.steps})
        place = {step: i for i, step in enumerate(steps)}
        values = np.full((len(runs), len(steps)), np.nan)
        for row, run in zip(values, runs):
            for line in run.steps:
                if isinstance(line.get(key), (int, float)) and math.isfinite(line[key]):
                    row[place[int(line["step"])]] = line[key]
        return np.array(steps), values


def read(directory: str | Path) -> Results:
    """What a comparison or a single run left in its directory; of an unfinished comparison, the finished runs.

    Raises:
        ValueError: no run in it is finished.
    """
    directory = Path(directory)
    top = _json(directory / "summary.json")
    if (directory / "runs").is_dir():
        known = {run["name"]: run for run in top.get("runs", [])}
        order = {name: i for i, name in enumerate(known)}
        folders = sorted((path.parent for path in (directory / "runs").glob("*/summary.json")), key=lambda f: f.name)
        folders.sort(key=lambda folder: order.get(folder.name, len(order)))
    else:
        known, folders = {}, [directory] if top else []
        top = {"base": top.get("base"), "environment": _json(directory / "environment.json")}
    if not folders:
        raise ValueError(f"{directory} holds no finished run; let `geomalign compare --resume` finish one first.")
    runs = []
    for folder in folders:
        summary = {**_json(folder / "summary.json"), **known.get(folder.name, {})}
        summary.setdefault("label", str(summary["objective"]).replace(":", "."))
        runs.append(Run(summary, tuple(_lines(folder / "metrics.jsonl"))))
    return Results(tuple(runs), top)


def write(directory: str | Path) -> Path:
    """Write report.md, figures/, metrics.csv, metrics.jsonl and finals.csv into a directory of runs; returns report.md.

    Raises:
        ValueError: no run in the directory is finished.
    """
    directory = Path(directory)
    results = read(directory)
    _write_records(results, directory)
    figures = draw(results, directory / "figures")
    path = directory / "report.md"
    path.write_text(markdown(results, figures), encoding="utf-8")
    return path


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())


def _write_records(results: Results, directory: Path) -> None:
    tags = [
        {"run": run.summary["name"], "label": run.label, "rate": run.rate, "seed": run.seed} for run in results.runs
    ]
    records = [{**tag, **line} for tag, run in zip(tags, results.runs) for line in run.steps]
    with (directory / "metrics.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(record) + "\n" for record in records)
    _csv(directory / "metrics.csv", records)
    finals = [{**tag, **run.summary["final"], **_flat_time(run)} for tag, run in zip(tags, results.runs)]
    _csv(directory / "finals.csv", finals)


def _flat_time(run: Run) -> dict[str, float]:
    return {f"seconds/{phase}": seconds for phase, seconds in (run.summary.get("time") or {}).items()}


def _csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for record in records for key in record))
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns, restval="")
        writer.writeheader()
        writer.writerows(records)


# ----------------------------------------------------------------------------------------------------------- statistics


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of Student's 95 % interval; no width from fewer than two values.

    >>> interval(np.array([0.9, 1.0, 0.8]))
    (0.9, 0.24841377117503...)
    """
    from scipy import stats

    n = len(values)
    mean = float(np.mean(values)) if n else math.nan
    if n < 2:
        return mean, math.nan
    return mean, float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


@dataclasses.dataclass(frozen=True)
class Difference:
    """Two objectives at one step size on the seeds that both have: a − b, paired by seed."""

    a: str
    b: str
    rate: float
    key: str
    mean: float
    half: float
    p: float
    adjusted: float = math.nan

    @property
    def excludes_zero(self) -> bool:
        return abs(self.mean) > self.half


def differences(results: Results, keys: Sequence[str]) -> list[Difference]:
    """Every pair of objectives at every step size, with Holm's correction over all of them."""
    from scipy import stats

    found = []
    for key, rate, (a, b) in itertools.product(keys, results.rates, itertools.combinations(results.labels, 2)):
        left = {run.seed: run.final(key) for run in results.of(a, rate)}
        right = {run.seed: run.final(key) for run in results.of(b, rate)}
        gaps = np.array([left[s] - right[s] for s in sorted(left.keys() & right.keys())])
        gaps = gaps[np.isfinite(gaps)]
        if len(gaps) < 2:
            continue
        mean, half = interval(gaps)
        spread = np.std(gaps, ddof=1) / math.sqrt(len(gaps))
        p = 1.0 if mean == 0 else 0.0 if spread == 0 else float(2 * stats.t.sf(abs(mean) / spread, len(gaps) - 1))
        if spread == 0 and mean != 0:  # equal gaps on every seed: the sample says nothing about the spread
            half, p = math.inf, 1.0
        found.append(Difference(a, b, rate, key, mean, half, p))
    ranked = sorted(range(len(found)), key=lambda i: found[i].p)
    running = 0.0
    for place, i in enumerate(ranked):
        running = max(running, min(1.0, found[i].p * (len(found) - place)))
        found[i] = dataclasses.replace(found[i], adjusted=running)
    return found


# -------------------------------------------------------------------------------------------------------------- figures

Row = tuple[str, str, str]  # key of metrics.jsonl, title, scale

FIGURES: tuple[tuple[str, str, tuple[Row, ...]], ...] = (
    (
        "learning",
        "Learning curves. Reward of the sampled responses at every iteration, greedy accuracy where it was evaluated.",
        (
            ("reward", "mean reward of the rollout", "share"),
            ("accuracy_in", "accuracy, trained tier", "share"),
            ("accuracy_out", "accuracy, harder tiers", "share"),
        ),
    ),
    (
        "gradient",
        "Gradient before clipping. Its size follows the scale of each loss, so compare shapes, and the lower row, "
        "which divides by the "
        "range of the drive.",
        (("grad_norm", "gradient norm", "log"), ("grad_per_range", "gradient norm per unit of drive range", "log")),
    ),
    (
        "distance",
        "How far the policy moves from the rollout policy within one iteration, on whole responses, and what is left "
        "of its entropy.",
        (
            ("kl", "KL(π‖π_old), nats", "log"),
            ("chi2", "χ²(π‖π_old)", "log"),
            ("ess", "effective sample size / samples", "share"),
            ("entropy", "entropy, nats a token", "linear"),
        ),
    ),
    (
        "geometry",
        "What the geometry does: the share of events it switches off, its scale-free stiffness (mean curvature over "
        "the "
        "standard deviation of the drive; none is drawn where nothing curves, as between the walls of a clip), and the "
        "share of updates at Δ ≈ 0, where no geometry can act.",
        (
            ("clip_fraction", "share of events switched off", "linear"),
            ("stiffness", "stiffness μ/sd(g)", "log"),
            ("inactive", "share of updates at Δ ≈ 0", "share"),
        ),
    ),
    (
        "controller",
        "A solved stiffness at work: the divergence that the updates of a rollout saw over the controller's target (1: "
        "held), and the stiffness μ it answered with.",
        (
            ("controller_held", "measured divergence / target", "log"),
            ("controller_stiffness", "stiffness μ", "log"),
        ),
    ),
    (
        "pairs",
        "Pairs: share ranked rightly, and the mean margin.",
        (
            ("preference_accuracy", "share of pairs with a positive margin", "share"),
            ("margin", "mean margin", "linear"),
        ),
    ),
)


def draw(results: Results, folder: Path) -> dict[str, tuple[str, str]]:
    """Draw every figure that the data has something for: name → (file, caption)."""
    drawn: dict[str, tuple[str, str]] = {}
    labels, rates = results.labels, results.rates
    base = results.summary.get("base") or {}
    data: dict[tuple[str, str, int], tuple[float, float, np.ndarray]] = {}
    panels: list[tuple[str, float | None]] = []
    for key, title in (
        ("accuracy_in", f"trained on: {_tiers(results, 'in')}"),
        ("accuracy_out", f"harder: {_tiers(results, 'out')}"),
    ):
        found = {(label, rate): results.finals(label, rate, key) for label in labels for rate in rates}
        if not any(len(values) for values in found.values()):
            continue
        for (label, rate), values in found.items():
            if len(values):
                data[label, plotting.step_size(rate), len(panels)] = (*interval(values), values)
        panels.append((title, base.get(key)))
    if panels:
        plotting.step_sizes(
            folder / "step-size.png", labels, [plotting.step_size(rate) for rate in rates], panels, data
        )
        drawn["step-size"] = ("figures/step-size.png", _main_caption(results))

    for name, caption, rows in FIGURES:
        lines = {}
        kept: list[tuple[str, str]] = []
        for key, title, scale in rows:
            measured = {(label, rate): results.curve(label, rate, key) for label in labels for rate in rates}
            if any(np.isfinite(y).any() for _, y in measured.values()):
                for (label, rate), curve in measured.items():
                    if curve[1].size:
                        lines[label, f"step size {plotting.step_size(rate)}", len(kept)] = curve
                kept.append((title, scale))
        if kept:
            plotting.curves(
                folder / f"{name}.png", labels, [f"step size {plotting.step_size(rate)}" for rate in rates], kept, lines
            )
            drawn[name] = (
                f"figures/{name}.png",
                caption + _line_caption(results),
            )

    phases = ("generation", "scoring", "update", "evaluation")
    seconds = {
        (label, phase): float(np.mean([(run.summary.get("time") or {}).get(phase, 0.0) for run in results.of(label)]))
        for label in labels
        for phase in phases
    }
    if sum(seconds.values()) > 0:
        speed = {
            label: float(np.mean([run.summary.get("tokens_per_second") or math.nan for run in results.of(label)]))
            for label in labels
        }
        plotting.time_split(folder / "time.png", labels, phases, seconds, speed)
        drawn["time"] = (
            "figures/time.png",
            "Wall time of a run by phase, and sampled tokens per second without evaluation.",
        )
    return drawn


def _tiers(results: Results, side: str) -> str:
    names = [tier for tier, kind in results.tiers.items() if (kind == "in") == (side == "in")]
    unseen = [tier for tier, kind in results.tiers.items() if kind == "unseen"]
    if not names:
        return "tiers of training" if side == "in" else "harder tiers"
    text = ("tier " if len(names) == 1 else "tiers ") + ", ".join(names)
    return text + (f" ({', '.join(unseen)} never seen)" if side == "out" and unseen else "")


def _line_caption(results: Results) -> str:
    if len(results.seeds) < 2:
        return ""
    return " Lines are means over seeds (geometric on a logarithmic axis), bands span all seeds."


def _main_caption(results: Results) -> str:
    n = len(results.seeds)
    if n < 2:
        return "Final greedy accuracy by step size. One seed, so no interval: nothing here is more than an observation."
    return (
        f"Final greedy accuracy by step size. Filled marks are means over {n} seeds, bars Student's {LEVEL:.0%} "
        "intervals "
        "(cut at 0 and 1), open circles the single seeds."
    )


# ------------------------------------------------------------------------------------------------------------- the text


def markdown(results: Results, figures: Mapping[str, tuple[str, str]]) -> str:
    """The report as Markdown; `figures` as `draw` returned them."""
    blocks = [
        f"# Comparison of {_join(results.labels)}"
        if len(results.labels) > 1
        else f"# Training with {results.labels[0]}",
        _setting(results),
        *_warnings(results),
        "## Findings",
        *_findings(results),
        *_figure(figures, "step-size"),
        "## Objectives",
        "Every objective is the same formula, L = E_measure[ φ(u, g) − g·u ] with u = chart(log π_θ − log π_anchor), "
        "with five slots filled:",
        _slots(results),
        *_formulas(results),
        "## Final numbers",
        _final_note(results),
        *_final_tables(results),
    ]
    for name, title in (
        ("learning", "Learning"),
        ("gradient", "Gradients"),
        ("distance", "Distance from the rollout policy"),
        ("geometry", "Geometry"),
        ("pairs", "Pairs"),
    ):
        if name in figures:
            blocks += [f"## {title}", *_figure(figures, name)]
    blocks += ["## Time", *_figure(figures, "time"), _time_table(results), "## Data", _data(results)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _figure(figures: Mapping[str, tuple[str, str]], name: str) -> list[str]:
    if name not in figures:
        return []
    file, caption = figures[name]
    return [f"![{caption}]({file})", f"*{caption}*"]


def _setting(results: Results) -> str:
    run = results.runs[0].summary
    base = results.summary.get("base") or run.get("base") or {}
    environment = results.summary.get("environment") or {}
    steps = "optimizer steps" if all(r.summary.get("mode") == "offline" for r in results.runs) else "iterations"
    parts = [
        f"{len(results.runs)} runs: {len(results.labels)} objective{'s' * (len(results.labels) > 1)} × "
        f"{len(results.rates)} step size{'s' * (len(results.rates) > 1)} × {len(results.seeds)} "
        f"seed{'s' * (len(results.seeds) > 1)}, "
        f"{run.get('iterations', '?')} {steps} each, on a decoder of {run.get('parameters', 0):,} parameters, all "
        "from one base."
    ]
    if math.isfinite(base.get("accuracy_in") or math.nan):
        parts.append(
            f"Before training, its greedy accuracy is {base['accuracy_in']:.1%} on {_tiers(results, 'in')}"
            + (
                f" and {base['accuracy_out']:.1%} on {_tiers(results, 'out')}."
                if base.get("accuracy_out") is not None
                else "."
            )
        )
    kinds = {"in": "trained on", "harder": "only in the warm start", "unseen": "in neither"}
    if results.tiers:
        parts.append(
            "Tiers: " + ", ".join(f"{tier} ({kinds.get(kind, kind)})" for tier, kind in results.tiers.items()) + "."
        )
    if results.summary.get("seconds"):
        parts.append(f"Wall time of the whole comparison: {_duration(results.summary['seconds'])}.")
    named = [
        f"{name} {environment[name]}"
        for name in ("python", "torch", "transformers", "geomalign")
        if environment.get(name)
    ]
    machine = [str(environment[name]) for name in ("processor", "device") if environment.get(name)]
    if environment.get("cores"):
        machine.append(f"{environment['cores']} cores")
    if named:
        parts.append("Made with " + ", ".join(named) + (f" on {', '.join(machine)}." if machine else "."))
    return " ".join(parts)


def _warnings(results: Results) -> list[str]:
    lines = []
    for name, message in (results.summary.get("failed") or {}).items():
        lines.append(f"run {name} failed and is not in any number below: {message}")
    missing = [
        f"{label} at {plotting.step_size(rate)}"
        for label in results.labels
        for rate in results.rates
        if {run.seed for run in results.of(label, rate)} != set(results.seeds)
    ]
    if missing:
        lines.append("seeds are missing for " + ", ".join(missing) + "; those means are over fewer runs.")
    for label in results.labels:
        shares = np.array([run.final("inactive") for run in results.of(label)])
        shares = shares[np.isfinite(shares)]
        if len(shares) and shares.mean() > INACTIVE:
            lines.append(
                f"geometry inactive: {shares.mean():.0%} of the updates of {label} were made at Δ ≈ 0, where the "
                "gradient is −E[g ∇log π] whatever "
                "the geometry. Raise the step size or the number of updates a rollout before reading geometry into "
                "its numbers."
            )
        for quantity, text in (
            ("skipped", "updates were skipped because the loss or its gradient was not finite"),
            ("masked", "samples got no reward and were masked"),
        ):
            count = sum(int(run.summary.get(quantity) or 0) for run in results.of(label))
            if count:
                lines.append(f"{label}: {count} {text}.")
    known = {line.split(":")[0] for line in lines}
    for message in dict.fromkeys(results.summary.get("warnings") or []):
        if str(message).split(":")[0] not in known or "inactive" not in str(message):
            lines.append(str(message))
    return (
        ["\n".join(f"> **Warning.** {line[0].upper()}{line[1:]}\n>" for line in lines).removesuffix("\n>")]
        if lines
        else []
    )


_NAMES = {"accuracy_in": "the trained tier", "accuracy_out": "the harder tiers"}


def _findings(results: Results) -> list[str]:
    """Sentences that the intervals carry."""
    n = len(results.seeds)
    keys = [k for k in _NAMES if any(math.isfinite(run.final(k)) for run in results.runs)]
    if not keys:
        return ["No accuracy was measured."]
    if n < 2:
        return [
            "There is one seed, so no interval and no claim: the numbers below describe these runs and nothing else."
        ]
    found = differences(results, keys)
    sure = [d for d in found if d.adjusted < 1 - LEVEL]
    loose = [d for d in found if d.excludes_zero and d not in sure]
    lines = []
    if len(results.labels) > 1:
        lines.append(
            f"Objectives are compared at equal step sizes and paired by seed ({n} seeds, {len(found)} comparisons). "
            + (
                "After Holm's correction for their number, these differences hold at the 5 % level:"
                if sure
                else "**After Holm's correction for their number, no difference holds at the 5 % level.**"
            )
        )
        if sure:
            lines.append(_difference_table(sure, adjusted=True))
        if loose:
            by_chance = (1 - LEVEL) * len(found)
            lines.append(
                f"Taken one by one, {'these further' if sure else 'these'} intervals exclude zero; about "
                f"{by_chance:.1g} of {len(found)} would do so by chance alone, so they are leads and not results:"
            )
            lines.append(_difference_table(loose, adjusted=False))
    if len(results.rates) > 1:
        lines.append(_step_size_sentence(results, keys[0]))
    return lines


def _difference_table(found: Sequence[Difference], adjusted: bool) -> str:
    rows = []
    for d in sorted(found, key=lambda d: (d.rate, d.key, -abs(d.mean))):
        above, below, gap = (d.a, d.b, d.mean) if d.mean > 0 else (d.b, d.a, -d.mean)
        p = (f"{d.adjusted:.2g}",) if adjusted else ()
        rows.append(
            (plotting.step_size(d.rate), _NAMES[d.key], above, below, f"{100 * gap:.1f} ± {100 * d.half:.1f}", *p)
        )
    header = ("step size", "on", "higher", "lower", f"difference in points, {LEVEL:.0%} interval")
    return _table((*header, "adjusted p") if adjusted else header, rows)


def _step_size_sentence(results: Results, key: str) -> str:
    small, large = results.rates[0], results.rates[-1]
    parts = []
    for label in results.labels:
        a = {run.seed: run.final(key) for run in results.of(label, small)}
        b = {run.seed: run.final(key) for run in results.of(label, large)}
        change = np.array([b[s] - a[s] for s in sorted(a.keys() & b.keys())])
        change = change[np.isfinite(change)]
        if len(change) >= 2:
            mean, half = interval(change)
            parts.append(
                f"{label} {100 * mean:+.1f} ± {100 * half:.1f}" + ("" if abs(mean) > half else " (includes zero)")
            )
    if not parts:
        return ""
    return (
        f"From step size {plotting.step_size(small)} to {plotting.step_size(large)}, the accuracy on {_NAMES[key]} "
        "changes by (points, paired by seed, 95 % intervals): " + "; ".join(parts) + "."
    )


def _slots(results: Results) -> str:
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
            rows.append(
                (
                    name,
                    *(_code(term.get(slot)) for slot in ("unit", "chart", "sampling", "optimization", "measure")),
                    str(term.get("anchor") or "none"),
                )
            )
    return _table(header, rows)


def _code(value: Any) -> str:
    return f"`{value}`" if value else ""


def _formulas(results: Results) -> list[str]:
    formulas = [(label, results.of(label)[0].summary.get("latex")) for label in results.labels]
    if not any(latex for _, latex in formulas):
        return []
    return ["As formulas:", *(f"{label}:\n\n$$\n{latex}\n$$" for label, latex in formulas if latex)]


Column = tuple[str, str, Callable[[float], str]]


def _percent(x: float) -> str:
    return f"{100 * x:.1f}"


def _number(x: float) -> str:
    return f"{x:.3g}" if abs(x) < 1000 else f"{x:.2e}"


_TABLES: tuple[tuple[Column, ...], ...] = (
    (
        ("accuracy_in", "in, %", _percent),
        ("accuracy_out", "harder, %", _percent),
        ("tiers", "", _percent),
        ("reward", "reward", _number),
        ("preference_accuracy", "ranked, %", _percent),
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


def _final_note(results: Results) -> str:
    spread = f"mean ± half-width of the {LEVEL:.0%} interval over seeds" if len(results.seeds) > 1 else "one seed"
    return (
        f"{spread[0].upper()}{spread[1:]}. Accuracies are of the last evaluation, the rest means over the last 10 "
        "steps. *grad / range*: gradient norm per "
        "unit of drive range; *off*: share of events that the geometry switches off; *μ/sd(g)*: scale-free "
        "stiffness; *Δ≈0*: share of updates where "
        "no geometry can act; KL, χ² and effective sample size are of whole responses against the rollout policy."
    )


def _final_tables(results: Results) -> list[str]:
    trained = list(results.tiers.values()).count("in")
    tiers: list[Column] = [
        (f"accuracy/{tier}", f"tier {tier}, %", _percent)
        for tier, kind in results.tiers.items()
        if kind != "in" or trained > 1  # a single trained tier is the column "in"
    ]
    blocks = []
    for rate in results.rates:
        blocks.append(f"Step size {plotting.step_size(rate)}:")
        for wanted in _TABLES:
            columns = [column for entry in wanted for column in (tiers if entry[0] == "tiers" else [entry])]
            columns = [column for column in columns if any(math.isfinite(run.final(column[0])) for run in results.runs)]
            rows = []
            for label in results.labels:
                cells = []
                for key, _, show in columns:
                    mean, half = interval(results.finals(label, rate, key))
                    cells.append(
                        ""
                        if not math.isfinite(mean)
                        else show(mean) + (f" ± {show(half)}" if math.isfinite(half) else "")
                    )
                if any(cells):
                    rows.append((label, *cells))
            if rows:
                blocks.append(_table(("objective", *(title for _, title, _ in columns)), rows, right=True))
    return blocks


def _time_table(results: Results) -> str:
    rows = []
    for label in results.labels:
        runs = results.of(label)
        times = [run.summary.get("time") or {} for run in runs]
        if not any(times):
            return ""

        def mean(phase: str, times: list[dict[str, float]] = times) -> str:
            return f"{np.mean([t.get(phase, 0.0) for t in times]):.1f}"

        speed = np.mean([run.summary.get("tokens_per_second") or math.nan for run in runs])
        cpu = np.mean([run.summary.get("cpu_seconds") or math.nan for run in runs])
        rows.append(
            (
                label,
                *(mean(p) for p in ("generation", "scoring", "update", "evaluation", "total")),
                f"{cpu:.1f}" if math.isfinite(cpu) else "",
                f"{speed:,.0f}" if math.isfinite(speed) else "",
            )
        )
    return _table(
        ("seconds a run", "generation", "scoring", "update", "evaluation", "total", "CPU", "tokens/s"), rows, right=True
    )


def _data(results: Results) -> str:
    folder = "The folder of each run holds" if len(results.runs) > 1 else "The run's folder holds"
    return (
        "[finals.csv](finals.csv): the last numbers of every run. [metrics.csv](metrics.csv) and "
        "[metrics.jsonl](metrics.jsonl): every step of every run. "
        f"{folder} its configuration, its metrics and the trained model, which "
        "`AutoModelForCausalLM.from_pretrained` loads."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], right: bool = False) -> str:
    rule = ["---", *(["---:" if right else "---"] * (len(header) - 1))]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (header, rule, *rows)
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
