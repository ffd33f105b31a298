"""The figures of a report, each drawn when the runs measured something for it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from geomalign import plotting
from geomalign.report.results import ACCURACIES, Results
from geomalign.report.statistics import LEVEL, interval

Row = tuple[str, str, str]  # key of metrics.jsonl, title, scale

FIGURES: tuple[tuple[str, str, tuple[Row, ...]], ...] = (
    (
        "learning",
        "Learning curves: mean reward of the responses that an iteration sampled, greedy accuracy where it was "
        "evaluated.",
        (
            ("reward", "mean reward of the rollout", "share"),
            *((key, f"accuracy, tiers {told}", "share") for key, (_, told) in ACCURACIES.items()),
        ),
    ),
    (
        "gradient",
        "Gradient before clipping, mean over the updates of a step. Its size follows the scale of each loss, so "
        "compare shapes, and the lower row, which divides by the range of the drive.",
        (("grad_norm", "gradient norm", "log"), ("grad_per_range", "gradient norm per unit of drive range", "log")),
    ),
    (
        "distance",
        "How far the policy is from the rollout policy, as the last pass over a rollout sees it (without the updates "
        "still to come), and what is left of its entropy. Divergences are of whole responses, estimated on the very "
        "ones trained on, which tends to overstate them; where χ² is near 1 or above, a few responses make up the "
        "estimate.",
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
        "the standard deviation of the drive, both at the anchor; none is drawn where nothing curves, as between the "
        "walls of a clip), and the share of updates at Δ ≈ 0, where no geometry can act.",
        (
            ("clip_fraction", "share of events switched off", "linear"),
            ("stiffness", "stiffness μ/sd(g)", "log"),
            ("inactive", "share of updates at Δ ≈ 0", "share"),
        ),
    ),
    (
        "controller",
        "A solved stiffness at work: the divergence that the updates of a rollout saw over the controller's target (1: "
        "held), and the stiffness μ that it set for them.",
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
            ("preference_accuracy_held_out", "the same, of pairs held out", "share"),
            ("margin", "mean margin", "linear"),
        ),
    ),
)


def draw(results: Results, folder: Path) -> dict[str, tuple[str, str]]:
    """Draw every figure that the data has something for: name → (file, caption)."""
    drawn: dict[str, tuple[str, str]] = {}
    labels, rates = results.labels, results.rates
    base = results.base
    data: dict[tuple[str, str, int], tuple[float, float, np.ndarray]] = {}
    panels: list[tuple[str, float | None]] = []
    for key in ACCURACIES:
        found = {(label, rate): results.finals(label, rate, key) for label in labels for rate in rates}
        if not any(len(values) for values in found.values()):
            continue
        for (label, rate), values in found.items():
            if len(values):
                data[label, plotting.step_size(rate), len(panels)] = (*interval(values), values)
        panels.append((results.tier_names(key), base.get(key)))
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
                folder / f"{name}.png",
                labels,
                [f"step size {plotting.step_size(rate)}" for rate in rates],
                kept,
                lines,
                xlabel="optimizer step" if results.offline else "iteration",
            )
            if name == "learning":
                caption += _evaluated(results)
            drawn[name] = (f"figures/{name}.png", caption + _line_caption(results))

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
            "Wall time of the steps of a run by phase"
            + (", and sampled tokens per second without evaluation." if np.isfinite([*speed.values()]).any() else "."),
        )
    return drawn


def _evaluated(results: Results) -> str:
    task = results.setting.get("task") or {}
    last, interim = task.get("eval_prompts"), task.get("eval_interim_prompts")
    if not last or not interim:
        return ""
    first = f" and the first {interim} of them between" if interim < last else ""
    return f" Accuracy is on {last} prompts a tier before training and at the end{first}."


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
        "intervals (cut at 0 and 1), open circles the single seeds."
    )
