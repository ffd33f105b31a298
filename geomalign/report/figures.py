"""The figures of a report, each drawn when the runs measured something for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geomalign import plotting
from geomalign.report.results import ACCURACIES, GRADED, Results, is_graded
from geomalign.report.statistics import LEVEL, interval

Row = tuple[str, str, str]  # key of metrics.jsonl, title, scale

FIGURES: tuple[tuple[str, str, tuple[Row, ...]], ...] = (
    (
        "learning",
        "Learning curves: mean reward of the responses sampled in an iteration, and where it was evaluated greedy "
        "accuracy, the share of held-out prompts whose greedy response has a reward of at least 1.",
        (
            ("reward", "mean reward of the rollout", "share"),
            *((key, f"accuracy, levels {told}", "share") for key, (_, told) in ACCURACIES.items()),
            *((GRADED[key], f"greedy reward, levels {told}", "linear") for key, (_, told) in ACCURACIES.items()),
        ),
    ),
    (
        "gradient",
        "Gradient before clipping, mean over the updates of a step. Its size follows the scale of each loss: compare "
        "shapes, and the lower row, which divides by the range of the drive.",
        (("grad_norm", "gradient norm", "log"), ("grad_per_range", "gradient norm per unit of drive range", "log")),
    ),
    (
        "distance",
        "Distance of the policy from the old policy, which sampled the rollout, as the last pass over the rollout sees "
        "it (before the last updates), and entropy of the policy. Divergences are those of whole responses, estimated "
        "from the responses trained on, which tends to overstate them; where χ² is near 1 or above, a few responses "
        "dominate the estimate.",
        (
            ("kl", "KL(π‖π_old), nats", "log"),
            ("chi2", "χ²(π‖π_old)", "log"),
            ("ess", "effective sample size / samples", "share"),
            ("entropy", "entropy, nats per token", "linear"),
        ),
    ),
    (
        "geometry",
        "Effect of the geometry: the share of events that it switches off, its scale-free stiffness (mean curvature "
        "over the standard deviation of the drive, both at the anchor; not drawn where the curvature is 0, as inside a "
        "clip range), and the share of updates at Δ ≈ 0, where no potential can act.",
        (
            ("clip_fraction", "share of events switched off", "linear"),
            ("stiffness", "stiffness μ/sd(g)", "log"),
            ("inactive", "share of updates at Δ ≈ 0", "share"),
        ),
    ),
    (
        "controller",
        "Adaptive stiffness: divergence measured over the updates of a rollout, divided by the controller's target "
        "(1: on target), and the stiffness μ of those updates.",
        (
            ("controller_over_target", "measured divergence / target", "log"),
            ("controller_stiffness", "stiffness μ", "log"),
        ),
    ),
    (
        "pairs",
        "Pairs: share ranked correctly, and mean margin.",
        (
            ("preference_accuracy", "share of pairs with a positive margin", "share"),
            ("preference_accuracy_held_out", "the same, of held-out pairs", "share"),
            ("margin", "mean margin", "linear"),
        ),
    ),
)


def draw(results: Results, folder: Path, formats: Sequence[str] = ("png",)) -> dict[str, tuple[str, str]]:
    """Draw every figure that the runs measured something for.

    Args:
        folder: of the files.
        formats: endings of the files, one figure each.

    Returns:
        name → (file relative to the report, in the first format; caption).

    >>> from geomalign.report.results import FinishedRun
    >>> run = FinishedRun({"label": "opo", "rate": 1e-4, "seed": 0, "final": {}}, ())
    >>> draw(Results((run,), {}), Path("figures"))  # the run measured nothing
    {}
    """
    for ending in formats:
        drawn = {"step-size": _step_sizes(results, folder / f"step-size.{ending}")}
        for name, caption, rows in FIGURES:
            drawn[name] = _curves(results, folder / f"{name}.{ending}", caption, rows)
        drawn["time"] = _time(results, folder / f"time.{ending}")
    return {name: (f"figures/{name}.{formats[0]}", caption) for name, caption in drawn.items() if caption}


def _step_sizes(results: Results, path: Path) -> str:
    """Final accuracy by step size; returns the caption, empty where nothing was drawn."""
    labels, rates = results.labels, [plotting.step_size(rate) for rate in results.rates]
    data: dict[tuple[str, str, int], tuple[float, float, np.ndarray]] = {}
    panels: list[tuple[str, float | None]] = []
    for key in ACCURACIES:
        found = {
            (label, plotting.step_size(rate), len(panels)): results.finals(label, rate, key)
            for label in labels
            for rate in results.rates
        }
        if any(len(values) for values in found.values()):
            data |= {place: (*interval(values), values) for place, values in found.items() if len(values)}
            panels.append((results.level_names(key), results.base.get(key)))
    if not panels:
        return ""
    plotting.step_sizes(path, labels, rates, panels, data)
    n = len(results.seeds)
    if n < 2:
        return "Final greedy accuracy by step size. There is one seed, so there are no intervals."
    return (
        f"Final greedy accuracy by step size. Filled marks are means over {n} seeds, bars Student's {LEVEL:.0%} "
        "intervals (cut at 0 and 1), open circles the single seeds."
    )


def _curves(results: Results, path: Path, caption: str, rows: tuple[Row, ...]) -> str:
    """Curves over the steps of a run; returns the caption, empty where nothing was drawn."""
    lines = {}
    kept: list[tuple[str, str]] = []
    for key, title, scale in rows:
        measured = {
            (label, rate): results.curve(label, rate, key) for label in results.labels for rate in results.rates
        }
        if key in GRADED.values() and not is_graded(results, key):
            continue
        if any(np.isfinite(y).any() for _, y in measured.values()):
            for (label, rate), curve in measured.items():
                if curve[1].size:
                    lines[label, f"step size {plotting.step_size(rate)}", len(kept)] = curve
            kept.append((title, scale))
    if not kept:
        return ""
    plotting.curves(
        path,
        results.labels,
        [f"step size {plotting.step_size(rate)}" for rate in results.rates],
        kept,
        lines,
        xlabel="optimiser step" if results.offline else "iteration",
    )
    if path.stem == "learning":
        caption += _evaluated(results)
    if len(results.seeds) > 1:
        caption += " Lines are means over seeds (geometric on a logarithmic axis), bands span all seeds."
    return caption


def _time(results: Results, path: Path) -> str:
    """Wall time by phase; returns the caption, empty where nothing was drawn."""
    labels, phases = results.labels, ("generation", "scoring", "update", "evaluation")
    seconds = {
        (label, phase): float(np.mean([(run.summary.get("time") or {}).get(phase, 0.0) for run in results.of(label)]))
        for label in labels
        for phase in phases
    }
    if not sum(seconds.values()) > 0:
        return ""
    speed = {
        label: float(np.mean([run.summary.get("tokens_per_second") or math.nan for run in results.of(label)]))
        for label in labels
    }
    plotting.time_split(path, labels, phases, seconds, speed)
    sampled = np.isfinite([*speed.values()]).any()
    more = ", and sampled tokens per second without evaluation." if sampled else "."
    return "Wall time of the steps of a run by phase" + more


def _evaluated(results: Results) -> str:
    task = results.setting.get("task") or {}
    last, interim = task.get("eval_prompts"), task.get("eval_interim_prompts")
    if not last or not interim:
        return ""
    first = f", and on the first {interim} of them in between" if interim < last else ""
    return f" Accuracy is on {last} prompts per level before training and at the end{first}."
