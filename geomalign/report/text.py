"""The text of a report. Comparative statements are computed from intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from geomalign import plotting
from geomalign.report import tables
from geomalign.report.results import ACCURACIES, Results
from geomalign.report.statistics import LEVEL, differences, paired

INACTIVE = 0.5  # Above this share of updates at Δ ≈ 0, a report warns that its objectives hardly differ in geometry.

_SECTIONS = (
    ("learning", "Learning"),
    ("gradient", "Gradients"),
    ("distance", "Distance from the old policy"),
    ("geometry", "Geometry"),
    ("controller", "Controller"),
    ("pairs", "Pairs"),
)


def markdown(results: Results, figures: Mapping[str, tuple[str, str]]) -> str:
    """The report as Markdown.

    Args:
        figures: file and caption by name, as `draw` returned them.

    >>> from geomalign.report.results import FinishedRun
    >>> run = FinishedRun({"name": "a", "label": "a", "rate": 1e-4, "seed": 0, "final": {"reward": 0.5}}, ())
    >>> print(markdown(Results((run,), {}), {}).splitlines()[0])
    # Training with a
    """
    one = len(results.labels) == 1
    blocks = [
        f"# Training with {results.labels[0]}" if one else f"# Comparison of {_join(results.labels)}",
        _setting(results),
        *_warnings(results),
        "## Findings",
        *_findings(results),
        *_figure(figures, "step-size"),
        "## Objectives",
        "Every objective is the formula L = E_measure[ φ(u, g) − g·u ], with u = chart(unit(log π_θ − log "
        "π_anchor)). Its five slots are filled as follows; terms without a gradient are left out:",
        tables.slots(results),
        _controllers(results),
        _tuning(results),
        *_formulas(results),
        "## Final numbers",
        tables.final_note(results),
        *tables.final_tables(results),
    ]
    for name, title in _SECTIONS:
        if name in figures:
            blocks += [f"## {title}", *_figure(figures, name)]
    blocks += ["## Time", *_figure(figures, "time"), *tables.time_table(results), "## Data", _data(results)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _figure(figures: Mapping[str, tuple[str, str]], name: str) -> list[str]:
    if name not in figures:
        return []
    file, caption = figures[name]
    return [f"![{caption}]({file})", f"*{caption}*"]


def _setting(results: Results) -> str:
    run, base = results.runs[0].summary, results.base
    sizes = {"objective": len(results.labels), "step size": len(results.rates), "seed": len(results.seeds)}
    possible = max(math.prod(sizes.values()), len(results.planned))
    counted = f"{len(results.runs)} of {possible}" if len(results.runs) < possible else str(possible)
    grid = " × ".join(_count(number, what) for what, number in sizes.items())
    shared = " All runs begin with the same base." if len(results.runs) > 1 else ""
    parts = [
        f"{counted} run{'s' * (possible > 1)}: {grid}, {_length(results)} each. The model is a decoder with "
        f"{run.get('parameters', 0):,} parameters.{shared}"
    ]
    before = [f"{base[key]:.1%} on {results.level_names(key)}" for key in ACCURACIES if base.get(key) is not None]
    if before:
        parts.append(f"Before training, its greedy accuracy (rewards of at least 1) is {', '.join(before)}.")
    if results.summary.get("seconds"):
        parts.append(f"Wall time of the whole comparison: {_duration(results.summary['seconds'])}.")
    return " ".join([*parts, _machine(results)]).rstrip()


def _machine(results: Results) -> str:
    """With which versions and on which machine the runs were made."""
    environment = results.summary.get("environment") or {}
    packages = ("python", "torch", "transformers", "geomalign")
    named = [f"{name} {environment[name]}" for name in packages if environment.get(name)]
    machine = [str(environment[name]) for name in ("processor", "device") if environment.get(name)]
    if environment.get("cores"):
        machine.append(f"{environment['cores']} cores")
    if not named:
        return ""
    return "Made with " + ", ".join(named) + (f" on {', '.join(machine)}." if machine else ".")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _length(results: Results) -> str:
    """How long the runs are; a run whose pairs are sampled has as many steps as it found pairs for."""
    steps: dict[str, list[int]] = {}
    for run in results.runs:
        kind = "optimiser step" if run.summary.get("mode") == "offline" else "iteration"
        steps.setdefault(kind, []).append(int(run.summary.get("iterations") or 0))
    return " or ".join(
        _count(low, kind) if low == high else f"{low} to {high} {kind}s"
        for kind, (low, high) in ((kind, (min(found), max(found))) for kind, found in steps.items())
    )


def _warnings(results: Results) -> list[str]:
    lines = [*_missing(results), *_measured_warnings(results)]
    quoted = "\n".join(f"> **Warning.** {line[0].upper()}{line[1:]}\n>" for line in lines)
    return [quoted.removesuffix("\n>")] if lines else []


def _missing(results: Results) -> list[str]:
    """Runs that failed or are not finished, and means that lack seeds for it."""
    failed = results.summary.get("failed") or {}
    lines = [f"run {name} failed and is not in the numbers below: {message}" for name, message in failed.items()]
    finished = {run.summary["name"] for run in results.runs}
    unfinished = [name for name in results.planned if name not in failed and name not in finished]
    if unfinished:
        lines.append(f"the comparison is unfinished; it lacks {_join(unfinished)}.")
    missing = [
        f"{label} at {plotting.step_size(rate)}"
        for label in results.labels
        for rate in results.rates
        if {run.seed for run in results.of(label, rate)} != set(results.seeds)
    ]
    if missing:
        lines.append("seeds are missing for " + ", ".join(missing) + "; their means are over fewer runs.")
    return lines


def _measured_warnings(results: Results) -> list[str]:
    """What the runs measured that makes their numbers doubtful, and their own warnings, each once."""
    lines = []
    warned: set[str] = set()  # names of the runs whose inactive geometry is warned of
    for label in results.labels:
        runs = results.of(label)
        shares = np.array([run.final("inactive") for run in runs])
        shares = shares[np.isfinite(shares)]
        if len(shares) and shares.mean() > INACTIVE:
            warned |= {run.summary["name"] for run in runs}
            lines.append(
                f"geometry inactive: {shares.mean():.0%} of the updates of {label} in the last 10 steps of its runs "
                "were made at Δ ≈ 0, where the gradient is −c·E[g ∇log π], c the slope of the chart there, whatever "
                "the potential. Take a larger step size or more updates per rollout before you attribute differences "
                "to the geometry."
            )
        for quantity, text in (
            ("skipped", "updates were skipped because the loss or its gradient was not finite"),
            ("masked", "samples got no reward and were masked"),
        ):
            count = sum(int(run.summary.get(quantity) or 0) for run in runs)
            if count:
                lines.append(f"{label}: {count} {text}.")
    for message in dict.fromkeys(results.summary.get("warnings") or []):
        if message.split(":")[0] not in warned or "geometry inactive" not in message:
            lines.append(message)
    return lines


def _findings(results: Results) -> list[str]:
    """The comparative statements of the report."""
    n = len(results.seeds)
    keys = [k for k in ACCURACIES if any(math.isfinite(run.final(k)) for run in results.runs)]
    if not keys:
        return ["No accuracy was measured."]
    if n < 2:
        return ["There is one seed, so there are no intervals: the numbers below describe these runs and no others."]
    found = differences(results, keys)
    sure = [d for d in found if d.adjusted < 1 - LEVEL]
    loose = [d for d in found if d.excludes_zero and d not in sure]
    lines = []
    if found:
        lines.append(
            "Objectives are compared at equal step sizes and paired by seed, with Student's t-test "
            f"({n} seeds, {len(found)} comparisons). The intervals cover the variation over seeds, and not that over "
            "bases or evaluation prompts. "
            + (
                "After Holm's correction for their number, these differences are significant at the 5 % level:"
                if sure
                else "**After Holm's correction for their number, no difference is significant at the 5 % level.**"
            )
        )
        if sure:
            lines.append(tables.difference_table(results, sure, adjusted=True))
        if loose:
            lines.append(
                f"Without the correction, {'these further' if sure else 'these'} intervals exclude zero. About "
                f"{(1 - LEVEL) * len(found):.1g} of {len(found)} would do so by chance alone, so they are hypotheses "
                "and not results:"
            )
            lines.append(tables.difference_table(results, loose, adjusted=False))
    elif len(results.labels) > 1:
        lines.append("No two objectives share two seeds at one step size, so none are compared.")
    if len(results.rates) > 1:
        lines.append(_step_size_sentence(results, keys[0]))
    return lines or ["There is one objective at one step size, so there is nothing to compare."]


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
        f"{results.level_names(key)} changes by so many points (paired by seed, 95 % intervals without correction): "
        + "; ".join(parts)
        + "."
    )


def _controllers(results: Results) -> str:
    found = {label: results.of(label)[0].summary.get("controller") for label in results.labels}
    told = "; ".join(f"`{controller}` for {label}" for label, controller in found.items() if controller)
    return f"A controller sets a stiffness μ before every rollout, by which the drive is divided: {told}." * bool(told)


def _tuning(results: Results) -> str:
    choices = (results.summary.get("config") or {}).get("objectives") or []
    told = [(choice.get("label") or choice["name"], choice["tuning"]) for choice in choices if choice.get("tuning")]
    if not told:
        return ""
    return "How their options were chosen: " + "; ".join(f"{name}: {tuning}" for name, tuning in told) + "."


_SYMBOLS = (
    ("r_i", "r_i the reward of response i"),
    ("A_i", "A_i the reward of response i"),
    (r"\pi_k", "π_k the policy that sampled the rollout"),
    (r"\pi_{\mathrm{ref}}", "π_ref the policy that training began with"),
    ("y_i^+", "y⁺ the preferred response of a pair"),
    ("_{G}", "G the responses to one prompt"),
    ("_G(", "mean_G(·) of the numerator over the responses to one prompt"),
    ("_B", "B the whole rollout"),
    (")_+", "x₊ = max(x, 0)"),
)


def _formulas(results: Results) -> list[str]:
    formulas = [(label, results.of(label)[0].summary.get("latex")) for label in results.labels]
    if not any(latex for _, latex in formulas):
        return []
    used = [meaning for symbol, meaning in _SYMBOLS if any(symbol in str(latex) for _, latex in formulas)]
    legend = f"As formulas, with {_join(used)}:" if used else "As formulas:"
    return [legend, *(f"{label}:\n\n$$\n{latex}\n$$" for label, latex in formulas if latex)]


def _data(results: Results) -> str:
    folder = "The folder of each run holds" if len(results.runs) > 1 else "The run's folder holds"
    return (
        "[finals.csv](finals.csv): the final numbers of every run. [metrics.csv](metrics.csv) and "
        "[metrics.jsonl](metrics.jsonl): every step of every run. "
        f"{folder} its configuration, its metrics and the trained model, which "
        "`AutoModelForCausalLM.from_pretrained` loads."
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
