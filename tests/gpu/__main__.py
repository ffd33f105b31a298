"""All stages:  python -m tests.gpu [--tiny] [--only STAGE …], as tests/gpu/run.sh calls it; figures go to $OUT."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.gpu.stages import BAD, Stage, run, table

SECONDS = {"tests": 110, "heads": 100, "objectives": 50, "projections": 15, "trainer": 95, "training": 150}
"""Of each stage. Together they are longer than the whole, because no stage is expected to need all of its own."""
WHOLE, WHOLE_TINY = 470, 600  # tiny takes 60 to 90 seconds, and longer where others use the cores


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/gpu/run.sh")
    parser.add_argument("--tiny", action="store_true", help="small sizes, which a CPU finishes in 90 seconds")
    parser.add_argument(
        "--only", nargs="+", choices=SECONDS, default=list(SECONDS), metavar="STAGE", help=", ".join(SECONDS)
    )
    parser.add_argument(
        "--started", type=float, default=time.time(), help="when the clock began, in seconds since 1970"
    )
    options = parser.parse_args()
    out = Path(os.environ.get("OUT", "gpu-results"))
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + (WHOLE_TINY if options.tiny else WHOLE) - (time.time() - options.started)
    if options.tiny:
        os.environ["GPU_TINY"] = "1"
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads wait for each other where cores are shared
    # In a process of its own, so that no context on the device outlives it.
    asked = subprocess.run([sys.executable, "-m", "tests.gpu.figures"], capture_output=True, text=True, check=True)
    machine = json.loads(asked.stdout)
    if machine["device"] == "cpu" and not options.tiny:
        print("There is no CUDA device here: tests/gpu/run.sh --tiny runs the same code on the CPU.", file=sys.stderr)
        return 2
    stages = [
        Stage(name, [sys.executable, "-m", f"tests.gpu.{name}"], SECONDS[name] * (4 if options.tiny else 1))
        for name in options.only
    ]
    results = run(stages, out, machine, end)
    print(table(results))
    return int(any(stage["status"] in BAD for stage in results["stages"].values()))


if __name__ == "__main__":
    sys.exit(main())
