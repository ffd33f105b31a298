"""Stages one after another, each in a process of its own with a time budget, and the table of what they found."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Stage", "run", "table"]

BAD = ("failed", "timed out")


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command, to which the path of its figures is appended.

    Args:
        name: in the table.
        command: of a process that ends with 0 where nothing was wrong, and with 75 where something that it needs is not
            installed.
        seconds: after which it is ended. What it has written by then is kept.
    """

    name: str
    command: Sequence[str]
    seconds: float


def run(stages: Sequence[Stage], out: Path, machine: Mapping[str, Any], end: float) -> dict[str, Any]:
    """All stages, whatever happens to one; results.json is written after each.

    Args:
        out: folder of results.json and log.txt.
        machine: what they run on, for results.json.
        end: of all, on `time.monotonic`'s clock; a stage has no more than what is left.
    """
    results: dict[str, Any] = {"machine": dict(machine), "stages": {}}
    with open(out / "log.txt", "w+", encoding="utf-8") as log:
        for stage in stages:
            start = log.tell()
            results["stages"][stage.name] = found = _one(stage, log, min(stage.seconds, end - time.monotonic()))
            print(f"{stage.name}: {found['status']} in {found['seconds']:.0f} s", flush=True)
            (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            if found["status"] in BAD:
                log.flush()
                lines = (out / "log.txt").read_bytes()[start:].decode("utf-8", "replace").splitlines()
                print(*("    " + line[:200] for line in lines[-15:]), sep="\n", flush=True)
    return results


def _one(stage: Stage, log: Any, seconds: float) -> dict[str, Any]:
    began = time.monotonic()
    if seconds < 1:
        return {"status": "timed out", "seconds": 0.0, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder, "figures.json")
        command = [*stage.command, str(figures)]
        log.write(f"\n==== {stage.name}: {shlex.join(command)}\n")
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(seconds)
            status = {0: "passed", 75: "skipped"}.get(code, "failed")
        except subprocess.TimeoutExpired:
            status = "timed out"
        finally:
            _end(process)
        rows = json.loads(figures.read_text()) if figures.exists() else []
    return {"status": status, "seconds": round(time.monotonic() - began, 1), "rows": rows}


def _end(process: subprocess.Popen[Any]) -> None:
    """End the process and what it started, which is in its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGTERM:
            time.sleep(0.2)
    process.wait()


def table(results: Mapping[str, Any]) -> str:
    """Every row in one line. The speed is relative to the first method of the case."""
    lines = [("stage", "case", "method", "figure", "speed", "peak", "")]
    for name, stage in results["stages"].items():
        lines.append((name, "", "", "", "", "", f"{stage['status']}, {stage['seconds']:.0f} s"))
        lines += [("", row["case"], row["method"], *_cells(row)) for row in stage["rows"]]
    widths = [max(len(line[k]) for line in lines) for k in range(7)]
    body = "\n".join("  ".join(x.ljust(n) for x, n in zip(line, widths)).rstrip() for line in lines)
    said = ", ".join(f"{key} {value}" for key, value in results["machine"].items() if value is not None)
    return f"{body}\n{said}"


def _cells(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    if "error" in row:
        return "", "", "", " ".join(filter(None, (row.get("verdict"), row["error"][:60])))
    limits = [f"{sign} {row[key]:g}" for key, sign in (("least", "≥"), ("most", "≤")) if key in row]
    value = f"{row['ms']:.4g} ms" if "ms" in row else "" if row.get("value") is None else f"{row['value']:.4g}"
    ratio = f"{row['ratio']:.2f}×" if "ratio" in row else ""
    memory = f"{row['peak_mib']:.0f} MiB" if row.get("peak_mib") is not None else ""
    return value, ratio, memory, " ".join([*limits, str(row.get("verdict", ""))]).strip()
