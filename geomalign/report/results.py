"""What a comparison or a run left on disk, read back; and the same as flat CSV and JSON lines."""

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


#: Every accuracy: of which kind of tier it is the mean, and what the run knows of those.
ACCURACIES = {
    "accuracy_in": ("in", "trained on"),
    "accuracy_out": ("harder", "only in the warm start"),
    "accuracy_unseen": ("unseen", "never seen"),
}
#: What is known of the unseen tiers where training began with a given model.
UNTRAINED = "not trained on here"


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
        return dict(self.summary.get("tiers") or self.runs[0].summary.get("tiers") or {})

    @property
    def base(self) -> dict[str, Any]:
        """What was measured of the model that the runs began with."""
        return dict(self.summary.get("base") or self.runs[0].summary.get("base") or {})

    @property
    def offline(self) -> bool:
        """Whether all runs learned from pairs, whose steps are optimizer steps."""
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

    def tier_names(self, key: str) -> str:
        """The tiers whose mean an accuracy is, in words.

        Args:
            key: of `ACCURACIES`.
        """
        kind, told = ACCURACIES[key]
        if kind == "unseen" and (self.setting.get("model") or {}).get("path"):
            told = UNTRAINED
        names = [tier for tier, found in self.tiers.items() if found == kind]
        text = ("tier " if len(names) == 1 else "tiers ") + ", ".join(names) if names else "the tiers"
        return f"{text} ({told})"

    def of(self, label: str, rate: float | None = None) -> list[Run]:
        return sorted(
            (run for run in self.runs if run.label == label and rate in (None, run.rate)),
            key=lambda run: (run.rate, run.seed),
        )

    def finals(self, label: str, rate: float, key: str) -> np.ndarray:
        """The final values of a quantity, one a seed, without the runs that did not measure it."""
        values = np.array([run.final(key) for run in self.of(label, rate)])
        return values[np.isfinite(values)]

    def by_seed(self, label: str, rate: float, key: str) -> dict[int, float]:
        """The final value of a quantity by seed, NaN of a run that did not measure it."""
        return {run.seed: run.final(key) for run in self.of(label, rate)}

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
        runs.append(Run(summary, tuple(_lines(folder / "metrics.jsonl"))))
    return Results(tuple(runs), top)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())


def write_records(results: Results, directory: Path) -> None:
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
