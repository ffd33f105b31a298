"""What a stage found, on disk as soon as it is known; the clock; and the machine that it was found on."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["DEVICE", "TINY", "Figures", "machine", "paired"]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TINY = bool(os.environ.get("GPU_TINY"))


class Figures:
    """Rows of one stage, written to its file after every row, so that a stage that is ended keeps what it had.

    A check is of what must be right: one that fails makes the stage fail. A target is of speed or memory: the table
    says where it was missed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.rows = Path(path), list[dict[str, Any]]()

    def add(self, case: str, method: str, **values: Any) -> None:
        values = {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in values.items()}
        self.rows.append({"case": case, "method": method, **values})
        print(json.dumps(self.rows[-1]), flush=True)
        partial = self.path.with_suffix(".part")
        partial.write_text(json.dumps(self.rows))
        os.replace(partial, self.path)

    def check(self, case: str, what: str, value: float, most: float) -> None:
        """`value` ≤ `most`; NaN is not."""
        self.add(case, what, value=value, most=most, verdict="right" if value <= most else "WRONG")

    def target(
        self, case: str, what: str, value: float, *, least: float | None = None, most: float | None = None
    ) -> None:
        """`least` ≤ `value` ≤ `most`, on the accelerator that the target is of; elsewhere the value alone."""
        limits = {name: limit for name, limit in (("least", least), ("most", most)) if limit is not None}
        met = (least is None or value >= least) and (most is None or value <= most)
        verdict = {} if DEVICE == "cpu" else {"verdict": "met" if met else "MISSED"}
        self.add(case, what, value=value, **limits, **verdict)

    def failed(self, case: str, method: str, error: Exception) -> None:
        """A method that raised, as a row: the others go on. A package that is not installed is no failure."""
        verdict = {} if isinstance(error, ImportError) else {"verdict": "FAILED"}
        self.add(case, method, error=f"{type(error).__name__}: {error}"[:300], **verdict)

    def compare(
        self,
        case: str,
        make: Callable[[], Mapping[str, Callable[[], Any]]],
        seconds: float,
        kept: dict[str, Any] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Times and memory of methods that compute the same, as rows; those of them that ran.

        Args:
            make: the methods, by name.
            seconds: of all rounds.
            kept: where the methods are put.
        """
        try:
            methods = make()
        except Exception as error:
            self.failed(case, "", error)
            return {}
        if kept is not None:
            kept |= methods
        found = {}
        for name, row in paired(methods, seconds if not TINY else 0.0, 3 if not TINY else 1).items():
            if isinstance(row, Exception):
                self.failed(case, name, row)
            else:
                self.add(case, name, **row)
                found[name] = row
        return found

    @classmethod
    def stage(cls, main: Callable[[Figures], None], device: str = DEVICE) -> None:
        """The process of a stage: `python -m tests.gpu.STAGE PATH`. Tensors are made on the device unless `main` says.

        It ends with 1 where something was wrong, and with 75 where what it needs is not installed.
        """
        figures = cls(sys.argv[1])
        with torch.device(device):
            try:
                main(figures)
            except ModuleNotFoundError as error:
                if str(error.name).split(".")[0] in ("geomalign", "tests"):
                    raise
                figures.add(str(error), "")
                sys.exit(75)
        sys.exit(any(row.get("verdict") in ("WRONG", "FAILED") for row in figures.rows))


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def _elapsed(call: Callable[[], Any], repeats: int) -> float:
    """Milliseconds of one call, by events of the device's stream, or by this process's clock."""
    if DEVICE == "cuda":
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(repeats):
            call()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / repeats
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) * 1e3 / repeats


def _peak(call: Callable[[], Any]) -> float | None:
    """MiB that one call allocates on the device beyond what was there."""
    if DEVICE == "cpu":
        call()
        return None
    synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def paired(
    calls: Mapping[str, Callable[[], Any]], seconds: float = 1.0, least: int = 3, most: int = 30
) -> dict[str, dict[str, Any] | Exception]:
    """Times of calls that alternate, and the ratio of each one's time to the first one's in the same round.

    Args:
        calls: by name, each warmed up by two calls. One that raises is left out, and its exception is its result.
        seconds: of all rounds together; there are at least `least` and at most `most`.
    """
    found: dict[str, dict[str, Any] | Exception] = {}
    repeats, ready = {}, {}
    for name, call in calls.items():
        try:
            call()
            memory = _peak(call)
            once = _elapsed(call, 1)
        except Exception as error:
            if not isinstance(error, ImportError):
                traceback.print_exc()
            found[name] = error.with_traceback(None)  # which would keep the call's tensors
            continue
        finally:
            if DEVICE == "cuda":
                torch.cuda.empty_cache()
        ready[name], found[name] = call, {"peak_mib": memory}
        repeats[name] = max(1, min(100, int(2.0 / once)))
    times: dict[str, list[float]] = {name: [] for name in ready}
    end = time.monotonic() + seconds
    for k in range(most):
        if k >= least and time.monotonic() > end:
            break
        for name in ready if k % 2 else reversed(ready):
            times[name].append(_elapsed(ready[name], repeats[name]))
    first = next(iter(times.values()), [])
    for name, series in times.items():
        row = found[name]
        assert isinstance(row, dict)
        row |= {"ms": statistics.median(series), "rounds": len(series), "ms_low": min(series), "ms_high": max(series)}
        row["ratio"] = statistics.median(a / b for a, b in zip(first, series))
    return {name: found[name] for name in calls}


def machine() -> dict[str, Any]:
    """What the figures were found on."""

    def said(*command: str) -> str | None:
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    def version(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    found: dict[str, Any] = {
        "device": DEVICE,
        "name": platform.processor() or platform.machine(),
        "commit": said("git", "rev-parse", "HEAD"),
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    } | {name: version(name) for name in ("torch", "transformers", "triton", "trl", "liger-kernel", "datasets")}
    if DEVICE == "cuda":
        properties = torch.cuda.get_device_properties(0)
        driver = said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        found |= {
            "name": properties.name,
            "driver": driver.splitlines()[0] if driver else None,
            "cuda": torch.version.cuda,
            "memory_mib": properties.total_memory // 2**20,
            "multiprocessors": properties.multi_processor_count,
        }
    return found


if __name__ == "__main__":
    print(json.dumps(machine()))
