"""`geomalign train --preset gpu` for two minutes, and its learning curve.

The warm start is shorter than the preset's, so that reinforcement learning begins within the first of them.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.gpu.figures import DEVICE, TINY, Figures

SECONDS = 300.0 if TINY else 120.0
PRESET, CHANGES = (
    ("ci", "iterations=2 prompts=2 eval_prompts=8 eval_interim_prompts=8 steps=10 noisy_steps=2")
    if TINY
    else ("gpu", "eval_every=10 eval_prompts=256 steps=1000")
)
TABLES = {"steps": "warm_start", "noisy_steps": "warm_start", "eval_prompts": "task", "eval_interim_prompts": "task"}
"""Of a setting, where it is not that of the loop."""


def main(figures: Figures) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "geomalign", "train", "--objective", "opo", "--preset", PRESET]
        command += ["--device", DEVICE, "--out", f"{folder}/run"]
        for change in CHANGES.split():
            command += ["--set", f"{TABLES.get(change.split('=')[0], 'rl')}.{change}"]
        began = time.monotonic()
        process = subprocess.Popen(command)
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # it stops after the step, and saves
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        took = time.monotonic() - began
        curve = [
            json.loads(line) for path in Path(folder).rglob("metrics.jsonl") for line in path.read_text().splitlines()
        ]
    report(figures, curve, took)


def report(figures: Figures, curve: list[dict[str, Any]], took: float) -> None:
    """The curve as rows, its ends as checks."""
    case = "geomalign train, opo"
    figures.add(case, "seconds", value=took)
    figures.check(case, "steps missing of two", 2 - max((row["step"] for row in curve), default=0), 0)
    for row in curve:
        kept = {key: x for key, x in row.items() if isinstance(x, (int, float))}
        figures.add(
            case, f"step {row['step']}", value=row.get("reward", row.get("accuracy_in", float("nan"))), curve=kept
        )


if __name__ == "__main__":
    Figures.stage(main, device="cpu")
