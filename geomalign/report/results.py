"""The files of a comparison or a run, read back, and written as flat CSV and JSON lines."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """One finished run.

    Args:
        summary: of `summary.json`.
        steps: the rows of `metrics.jsonl`.

    >>> FinishedRun({"label": "opo", "rate": 1e-4, "seed": 0, "final": {"reward": 0.5}}, ()).final("reward")
    0.5
    """

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
        """The final value of a metric; NaN where the run did not measure it."""
        value = self.summary["final"].get(key)
        return math.nan if value is None else float(value)


#: Every accuracy: over which kind of levels it is the mean, and when the run saw those.
ACCURACIES = {
    "accuracy_in": ("in", "trained on"),
    "accuracy_out": ("harder", "only in the warm start"),
    "accuracy_unseen": ("unseen", "never seen"),
}
#: The mean reward of the responses that an accuracy is of.
GRADED = {key: key.replace("accuracy", "greedy_reward") for key in ACCURACIES}
#: What is known of the unseen levels where training began with a given model, which may have seen them.
UNTRAINED = "not trained on here"


@dataclasses.dataclass(frozen=True)
class Results:
    """Everything that a report is made of. Labels keep the order in which they were asked for.

    Args:
        runs: that are finished.
        summary: of the comparison; empty where none was written.

    >>> summaries = [{"label": "opo", "rate": 1e-4, "seed": s, "final": {"reward": s / 2}} for s in (0, 1)]
    >>> results = Results(tuple(FinishedRun(summary, ()) for summary in summaries), {})
    >>> results.seeds, results.finals("opo", 1e-4, "reward")
    ([0, 1], array([0. , 0.5]))
    """

    runs: tuple[FinishedRun, ...]
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
    def levels(self) -> dict[str, str]:
        return dict(self.summary.get("levels") or self.runs[0].summary.get("levels") or {})

    @property
    def base(self) -> dict[str, Any]:
        """What was measured of the model that the runs began with."""
        return dict(self.summary.get("base") or self.runs[0].summary.get("base") or {})

    @property
    def offline(self) -> bool:
        """Whether all runs learned from pairs, whose steps are optimiser steps."""
        return all(run.summary.get("mode") == "offline" for run in self.runs)

    @property
    def setting(self) -> Mapping[str, Any]:
        """The configuration that all runs share; empty where none was kept."""
        return (self.summary.get("config") or {}).get("run") or {}

    @property
    def planned(self) -> list[str]:
        """Names of the runs of the comparison, finished or not; of a single run and where no plan was kept, none."""
        plan = self.summary.get("config") or {}
        return [
            f"{choice.get('label') or choice['name'].replace(':', '.')}-r{rate:g}-s{seed}"
            for choice in plan.get("objectives") or ()
            for rate in plan.get("rates") or ()
            for seed in plan.get("seeds") or ()
        ]

    def level_names(self, key: str) -> str:
        """The levels whose mean an accuracy is, in words.

        Args:
            key: of `ACCURACIES`.
        """
        kind, told = ACCURACIES[key]
        if kind == "unseen" and (self.setting.get("model") or {}).get("path"):
            told = UNTRAINED
        names = [level for level, found in self.levels.items() if found == kind]
        text = ("level " if len(names) == 1 else "levels ") + ", ".join(names) if names else "the levels"
        return f"{text} ({told})"

    def of(self, label: str, rate: float | None = None) -> list[FinishedRun]:
        """The runs of an objective, at one step size or at all, by step size and seed."""
        return sorted(
            (run for run in self.runs if run.label == label and rate in (None, run.rate)),
            key=lambda run: (run.rate, run.seed),
        )

    def finals(self, label: str, rate: float, key: str) -> np.ndarray:
        """`(seed,)` final values of a metric, without the runs that did not measure it."""
        values = np.array([run.final(key) for run in self.of(label, rate)])
        return values[np.isfinite(values)]

    def by_seed(self, label: str, rate: float, key: str) -> dict[int, float]:
        """The final value of a metric by seed; NaN where a run did not measure it."""
        return {run.seed: run.final(key) for run in self.of(label, rate)}

    def curve(self, label: str, rate: float, key: str) -> tuple[np.ndarray, np.ndarray]:
        """`(step,)` numbers of steps and `(seed, step)` values of a metric; NaN where a run did not measure it."""
        runs = self.of(label, rate)
        steps = sorted({int(found["step"]) for run in runs for found in run.steps})
        place = {step: i for i, step in enumerate(steps)}
        values = np.full((len(runs), len(steps)), np.nan)
        for row, run in zip(values, runs):
            for found in run.steps:
                if isinstance(found.get(key), (int, float)) and math.isfinite(found[key]):
                    row[place[int(found["step"])]] = found[key]
        return np.array(steps), values


def is_graded(results: Results, key: str) -> bool:
    """Whether a mean reward of greedy responses says more than their accuracy: not every reward is 0 or 1.

    >>> run = FinishedRun({"final": {"accuracy/3": 0.5, "greedy_reward/3": 0.75}}, ())
    >>> is_graded(Results((run,), {}), "greedy_reward/3")
    True
    """
    accuracy = key.replace("greedy_reward", "accuracy")
    return any(abs(run.final(key) - run.final(accuracy)) > 1e-9 for run in results.runs)


def read(directory: str | Path) -> Results:
    """Read the directory of a comparison or of a single run; of an unfinished comparison, the finished runs.

    Raises:
        ValueError: no run in it is finished.

    >>> read("nowhere")
    Traceback (most recent call last):
    ...
    ValueError: nowhere holds no finished run; let `geomalign compare --resume` finish one first.
    """
    directory = Path(directory)
    top, plan = _json(directory / "summary.json"), _json(directory / "config.json")
    if (directory / "runs").is_dir():
        known = {run["name"]: run for run in top.get("runs", [])}
        order = {name: i for i, name in enumerate(known)}
        folders = sorted((path.parent for path in (directory / "runs").glob("*/summary.json")), key=lambda f: f.name)
        folders.sort(key=lambda folder: order.get(folder.name, len(order)))
    else:
        known, folders = {}, [directory] if top else []
        top, plan = {}, {"run": plan}
    top = {"config": plan, "environment": _json(directory / "environment.json"), **top}
    if not folders:
        raise ValueError(f"{directory} holds no finished run; let `geomalign compare --resume` finish one first.")
    runs = []
    for folder in folders:
        summary = {**_json(folder / "summary.json"), **known.get(folder.name, {})}
        summary.setdefault("label", str(summary["objective"]).replace(":", "."))
        runs.append(FinishedRun(summary, tuple(_rows(folder / "metrics.jsonl"))))
    return Results(tuple(runs), top)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())


def write_records(results: Results, directory: Path) -> None:
    """Write metrics.jsonl, metrics.csv (every step of every run) and finals.csv (the final numbers of every run).

    The metrics.jsonl of a single run stays: it is the run's own, and its checkpoint says where to go on in it.

    >>> import tempfile
    >>> summary = {"name": "opo-s0", "label": "opo", "rate": 1e-4, "seed": 0, "final": {"reward": 0.5}}
    >>> place = Path(tempfile.mkdtemp())
    >>> write_records(Results((FinishedRun(summary, ()),), {}), place)
    >>> (place / "finals.csv").read_text().splitlines()
    ['run,label,rate,seed,reward', 'opo-s0,opo,0.0001,0,0.5']
    """
    tags = [
        {"run": run.summary["name"], "label": run.label, "rate": run.rate, "seed": run.seed} for run in results.runs
    ]
    records = [{**tag, **row} for tag, run in zip(tags, results.runs) for row in run.steps]
    if (directory / "runs").is_dir():
        with (directory / "metrics.jsonl").open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(record) + "\n" for record in records)
    _csv(directory / "metrics.csv", records)
    finals = [{**tag, **run.summary["final"], **_flat_time(run)} for tag, run in zip(tags, results.runs)]
    _csv(directory / "finals.csv", finals)


def _flat_time(run: FinishedRun) -> dict[str, float]:
    return {f"seconds/{phase}": seconds for phase, seconds in (run.summary.get("time") or {}).items()}


def _csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for record in records for key in record))
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns, restval="")
        writer.writeheader()
        writer.writerows(records)
