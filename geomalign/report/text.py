"""The Markdown of a report. Sentences that compare are computed, and stated where an interval carries them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from geomalign import plotting
from geomalign.report.results import ACCURACIES, Results
from geomalign.report.statistics import LEVEL, Difference, differences, interval, paired

INACTIVE = 0.5  # above this share of updates at Δ ≈ 0, a comparison of geometries compares little


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
        "with five slots filled, up to terms without a gradient:",
        _slots(results),
        _controllers(results),
        _tuning(results),
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
        ("controller", "Controller"),
        ("pairs", "Pairs"),
    ):
        if name in figures:
            blocks += [f"## {title}", *_figure(figures, name)]
    blocks += ["## Time", *_figure(figures, "time"), *_time_table(results), "## Data", _data(results)]
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
    base, environment = results.base, results.summary.get("environment") or {}
    sizes = {
        "objective": len(results.labels),
        "step size": len(results.rates),
        "seed": len(results.seeds),
    }
    possible = max(math.prod(sizes.values()), len(results.planned))
    counted = f"{len(results.runs)} of {possible}" if len(results.runs) < possible else str(possible)
    grid = " × ".join(_count(number, what) for what, number in sizes.items())
    parts = [
        f"{counted} run{'s' * (possible > 1)}: {grid}, {_length(results)} each, on a decoder of "
        f"{run.get('parameters', 0):,} parameters" + (", all from one base." if len(results.runs) > 1 else ".")
    ]
    before = [f"{base[key]:.1%} on {results.tier_names(key)}" for key in ACCURACIES if base.get(key) is not None]
    if before:
        parts.append(f"Before training, its greedy accuracy is {', '.join(before)}.")
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


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _length(results: Results) -> str:
    """How long the runs are; one whose pairs are sampled has as many steps as it found pairs for."""
    steps: dict[str, list[int]] = {}
    for run in results.runs:
        kind = "optimizer step" if run.summary.get("mode") == "offline" else "iteration"
        steps.setdefault(kind, []).append(int(run.summary.get("iterations") or 0))
    return " or ".join(
        _count(low, kind) if low == high else f"{low} to {high} {kind}s"
        for kind, (low, high) in ((kind, (min(found), max(found))) for kind, found in steps.items())
    )


def _warnings(results: Results) -> list[str]:
    lines = []
    failed = results.summary.get("failed") or {}
    for name, message in failed.items():
        lines.append(f"run {name} failed and is not in any number below: {message}")
    unfinished = [
        name for name in results.planned if name not in failed and name not in {r.summary["name"] for r in results.runs}
    ]
    if unfinished:
        lines.append(f"the comparison is unfinished, without {_join(unfinished)}.")
    missing = [
        f"{label} at {plotting.step_size(rate)}"
        for label in results.labels
        for rate in results.rates
        if {run.seed for run in results.of(label, rate)} != set(results.seeds)
    ]
    if missing:
        lines.append("seeds are missing for " + ", ".join(missing) + "; those means are over fewer runs.")
    told: set[str] = set()  # runs whose inactive geometry is warned of
    for label in results.labels:
        shares = np.array([run.final("inactive") for run in results.of(label)])
        shares = shares[np.isfinite(shares)]
        if len(shares) and shares.mean() > INACTIVE:
            told |= {run.summary["name"] for run in results.of(label)}
            lines.append(
                f"geometry inactive: {shares.mean():.0%} of the updates of {label} in the last 10 steps of its runs "
                "were made at Δ ≈ 0, where the gradient is −E[g ∇log π] whatever the geometry. Raise the step size or "
                "the number of updates a rollout before reading geometry into its numbers."
            )
        for quantity, text in (
            ("skipped", "updates were skipped because the loss or its gradient was not finite"),
            ("masked", "samples got no reward and were masked"),
        ):
            count = sum(int(run.summary.get(quantity) or 0) for run in results.of(label))
            if count:
                lines.append(f"{label}: {count} {text}.")
    for message in dict.fromkeys(results.summary.get("warnings") or []):
        if message.split(":")[0] not in told or "geometry inactive" not in message:
            lines.append(message)
    return (
        ["\n".join(f"> **Warning.** {line[0].upper()}{line[1:]}\n>" for line in lines).removesuffix("\n>")]
        if lines
        else []
    )


def _findings(results: Results) -> list[str]:
    """Sentences that the intervals carry."""
    n = len(results.seeds)
    keys = [k for k in ACCURACIES if any(math.isfinite(run.final(k)) for run in results.runs)]
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
    if found:
        lines.append(
            f"Objectives are compared at equal step sizes and paired by seed, with Student's t ({n} seeds, "
            f"{len(found)} comparisons). Intervals span seeds; they know nothing of other bases and other evaluation "
            "prompts. "
            + (
                "After Holm's correction for their number, these differences hold at the 5 % level:"
                if sure
                else "**After Holm's correction for their number, no difference holds at the 5 % level.**"
            )
        )
        if sure:
            lines.append(_difference_table(results, sure, adjusted=True))
        if loose:
            by_chance = (1 - LEVEL) * len(found)
            lines.append(
                f"Taken one by one, {'these further' if sure else 'these'} intervals exclude zero; about "
                f"{by_chance:.1g} of {len(found)} would do so by chance alone, so they are leads and not results:"
            )
            lines.append(_difference_table(results, loose, adjusted=False))
    elif len(results.labels) > 1:
        lines.append("No two objectives share two seeds at one step size, so none are compared.")
    if len(results.rates) > 1:
        lines.append(_step_size_sentence(results, keys[0]))
    return lines or ["One objective at one step size: there is nothing to compare."]


def _difference_table(results: Results, found: Sequence[Difference], adjusted: bool) -> str:
    rows = []
    for d in sorted(found, key=lambda d: (d.rate, d.key, -abs(d.mean))):
        above, below, gap = (d.a, d.b, d.mean) if d.mean > 0 else (d.b, d.a, -d.mean)
        p = (f"{d.adjusted:.2g}",) if adjusted else ()
        rows.append(
            (
                plotting.step_size(d.rate),
                results.tier_names(d.key),
                above,
                below,
                f"{100 * gap:.1f} ± {100 * d.half:.1f}",
                *p,
            )
        )
    header = ("step size", "on", "higher", "lower", f"difference in points, {LEVEL:.0%} interval")
    return _table((*header, "adjusted p") if adjusted else header, rows)


def _step_size_sentence(results: Results, key: str) -> str:
    small, large = results.rates[0], results.rates[-1]
    parts = []
    for label in results.labels:
        if change := paired(results.by_seed(label, large, key), results.by_seed(label, small, key)):
            mean, half, _ = change
            spread = f"± {100 * half:.1f}" if math.isfinite(half) else "on every seed, which gives no interval"
            zero = " (includes zero)" if math.isfinite(half) and abs(mean) <= half else ""
            parts.append(f"{label} {100 * mean:+.1f} {spread}{zero}")
    if not parts:
        return ""
    return (
        f"From step size {plotting.step_size(small)} to {plotting.step_size(large)}, the accuracy on "
        f"{results.tier_names(key)} changes by (points, paired by seed, 95 % intervals, each taken alone): "
        + "; ".join(parts)
        + "."
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
                    str(term.get("anchor")).lower(),
                )
            )
    return _table(header, rows)


def _controllers(results: Results) -> str:
    found = {label: results.of(label)[0].summary.get("controller") for label in results.labels}
    told = "; ".join(f"of {label} by `{controller}`" for label, controller in found.items() if controller)
    return f"The drive is divided by a stiffness μ that a controller sets before every rollout: {told}." if told else ""


def _tuning(results: Results) -> str:
    choices = (results.summary.get("config") or {}).get("objectives") or []
    told = [(choice.get("label") or choice["name"], choice["tuning"]) for choice in choices if choice.get("tuning")]
    if not told:
        return ""
    return "How their settings were found: " + "; ".join(f"{name}: {tuning}" for name, tuning in told) + "."


def _code(value: Any) -> str:
    return f"`{value}`" if value else ""


_SYMBOLS = (
    ("r_i", "r_i the reward of response i"),
    ("A_i", "A_i the reward of response i"),
    (r"\pi_k", "π_k the rollout policy"),
    (r"\pi_{\mathrm{ref}}", "π_ref the policy that training began with"),
    ("y_i^+", "y⁺ the preferred response of a pair"),
    ("_{G}", "G the responses to one prompt"),
    ("_G(", "mean_G(·) of the numerator over the responses to one prompt"),
    ("_B", "B all of a rollout"),
    (")_+", "x₊ = max(x, 0)"),
)


def _formulas(results: Results) -> list[str]:
    formulas = [(label, results.of(label)[0].summary.get("latex")) for label in results.labels]
    if not any(latex for _, latex in formulas):
        return []
    used = [meaning for symbol, meaning in _SYMBOLS if any(symbol in str(latex) for _, latex in formulas)]
    legend = f"As formulas, with {_join(used)}:" if used else "As formulas:"
    return [legend, *(f"{label}:\n\n$$\n{latex}\n$$" for label, latex in formulas if latex)]


Column = tuple[str, str, Callable[[float], str]]


def _percent(x: float) -> str:
    return f"{100 * x:.1f}"


def _number(x: float) -> str:
    return f"{x:.3g}" if abs(x) < 1000 else f"{x:.2e}"


_TABLES: tuple[tuple[Column, ...], ...] = (
    (
        ("tiers", "", _percent),
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
    "grad_per_range": "*grad / range*: gradient norm per unit of drive range",
    "kl": "KL(π‖π_old), χ²(π‖π_old) and effective sample size (a share) are of whole responses, estimated on those "
    "trained on as the last pass sees them, which tends to overstate the distance",
    "clip_fraction": "*off*: share of events that the geometry switches off",
    "stiffness": "*μ/sd(g)*: scale-free stiffness at the anchor",
    "inactive": "*Δ≈0*: share of updates where no geometry can act",
}


def _final_note(results: Results) -> str:
    spread = f"mean ± half-width of the {LEVEL:.0%} interval over seeds" if len(results.seeds) > 1 else "one seed"
    measured = {key for run in results.runs for key, value in run.summary["final"].items() if value is not None}
    legend = [text for key, text in _LEGEND.items() if key in measured]
    return (
        f"{spread[0].upper()}{spread[1:]}. Accuracies and what is held out are of the last evaluation, the rest means "
        "over the last 10 steps. " + "; ".join(legend) + "." * bool(legend)
    ).rstrip()


def _final_tables(results: Results) -> list[str]:
    tiers: list[Column] = [(f"accuracy/{tier}", f"tier {tier}, %", _percent) for tier in results.tiers]
    tiers = tiers or [(key, f"{told}, %", _percent) for key, (_, told) in ACCURACIES.items()]
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


def _time_table(results: Results) -> list[str]:
    rows = []
    for label in results.labels:
        runs = results.of(label)
        times = [run.summary.get("time") or {} for run in runs]
        if not any(times):
            return []

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
    return [
        _table(
            ("seconds a run", "generation", "scoring", "update", "evaluation", "total", "CPU", "tokens/s"),
            rows,
            right=True,
        ),
        "*scoring*: rewards, the rollout's log-probabilities and the drive; *total*: all steps and evaluations, "
        "without loading, saving and making pairs; *CPU*: of the run's process in that time. Runs of a comparison may "
        "share the machine.",
    ]


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
