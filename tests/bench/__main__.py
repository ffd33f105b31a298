"""Run the benchmark and make its page.

* `python -m tests.bench run [PART…] [--preset quick|short|full] [--out FILE]`: measure in the environment of
  `tests/bench/environments.sh` and write the records as JSON. `quick` takes seconds and says nothing about speed,
  `short` minutes, `full` half an hour. The exit status is 1 where methods disagree, where Dynamo compiles a function
  again for shapes that it knows, and where it gives up.
* `python -m tests.bench render FILE [--docs DIR]`: from the records make DIR/results/performance/.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

PARTS = ("objective", "projection", "head", "training")
PACKAGES = ("torch", "trl", "verl", "liger-kernel", "entmax", "transformers")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="measure")
    runner.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all")
    runner.add_argument("--preset", choices=("quick", "short", "full"), default="full")
    runner.add_argument("--out", type=Path, default=Path("build/bench/records.json"))
    renderer = commands.add_parser("render", help="make the page of the records")
    renderer.add_argument("file", type=Path)
    renderer.add_argument("--docs", type=Path, default=Path("docs"))
    for name in ("times", "memory"):  # what `run` starts in processes of their own
        child = commands.add_parser(name)
        child.add_argument("part", choices=PARTS)
        child.add_argument("preset")
        child.add_argument("threads", type=int)
        if name == "memory":
            child.add_argument("case")
            child.add_argument("method")
    given = parser.parse_args(arguments)
    if given.command == "render":
        from tests.bench import report

        report.write(json.loads(given.file.read_text(encoding="utf-8")), given.docs / "results" / "performance")
        return 0
    if given.command == "run":
        if unknown := set(given.parts) - set(PARTS):
            parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        lacking = [name for name in PACKAGES if _version(name) is None]
        if lacking and given.preset != "quick":
            parser.error(
                f"{', '.join(lacking)} cannot be imported, and a benchmark without its peers says nothing: run "
                "`bash tests/bench/environments.sh`, then .venv-bench/bin/python -m tests.bench run."
            )
        return run(given.parts or PARTS, given.preset, given.out)
    warnings.simplefilter("ignore")  # other libraries warn about each other
    import torch

    torch.set_num_threads(given.threads)
    if given.command == "times":
        return times(given.part, given.preset, given.threads)
    return memory(given.part, given.preset, given.case, given.method)


def run(parts: Any, preset: str, out: Path) -> int:
    """Every part in a process of its own, once with one thread and once with all, and every peak in one of its own."""
    began, records, failed = time.monotonic(), [], 0
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0]
    for part in parts:
        both = any(case.both for case in importlib.import_module(f"tests.bench.{part}").cases(preset))
        for threads in dict.fromkeys((1, cores) if both else (1,)):
            found, status = _child(threads, "times", part, preset, str(threads))
            records += found
            failed |= status
            for case in found:
                for method in case.pop("memory"):
                    one, status = _child(1, "memory", part, preset, "1", case["key"], method, fresh=True)
                    failed |= status
                    for measured in one:
                        case["methods"][method]["peak"] = measured
    machine = {
        "processor": _processor(),
        "cores": cores,
        "load": load,
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    whole = {"preset": preset, "machine": machine, "seconds": round(time.monotonic() - began), "records": records}
    out.write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{len(records)} cases in {whole['seconds']} s: {out}")
    return failed


def _child(threads: int, *arguments: str, fresh: bool = False) -> tuple[list[Any], int]:
    """What a process wrote as JSON, one line each, and whether it failed."""
    from tests.bench.measure import FRESH

    count = str(threads)
    environment = {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "HF_HUB_OFFLINE": "1"}
    environment |= {"TOKENIZERS_PARALLELISM": "0"} | (FRESH if fresh else {})
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench", *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = []
        for line in process.stdout:
            if line.startswith('{"part"') or line.strip().replace(".", "", 1).isdigit():
                found.append(json.loads(line))
            else:
                print(line, end="", flush=True)
    return found, int(process.returncode != 0)


def times(part: str, preset: str, threads: int) -> int:
    """Prints a record for every case of a part. Status 1: methods disagree."""
    import torch

    from tests.bench.measure import ALL, alternate, disagreement

    failed = 0
    for case in importlib.import_module(f"tests.bench.{part}").cases(preset):
        if threads > 1 and not case.both:
            continue
        torch.compiler.reset()  # a method's recompilations are its own, not those of the case before
        began = time.monotonic()
        differences: dict[str, float] = {}
        if case.timed is not None:
            measured = case.timed(**case.size)
        else:
            methods = case.make(**(case.warm or case.size))
            differences = disagreement(methods)
            if case.warm:
                methods = case.make(**case.size)
            measured = alternate(methods, case.seconds, case.rounds) if case.rounds[1] > 1 else {}
        record = {
            "part": part,
            "case": case.name,
            "key": case.key,
            "size": dict(case.size),
            "threads": threads,
            "per": case.per,
            "memory": [] if threads > 1 else list(measured) if case.memory == ALL else list(case.memory),
            "methods": {
                name: {clock: [_short(t) for t in series] for clock, series in measured.get(name, {}).items()}
                | ({"difference": _short(differences[name])} if name in differences else {})
                for name in measured or differences
            },
        }
        print(json.dumps(record), flush=True)
        print(f"{threads} threads, {case.key}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        for name, difference in differences.items():
            if not difference <= case.agree:
                print(f"{case.key}: {name} differs by {difference:.1e}, more than {case.agree:g}", file=sys.stderr)
                failed = 1
    return failed


def memory(part: str, preset: str, key: str, method: str) -> int:
    """Prints the peak of one method in MiB."""
    from tests.bench.measure import peak

    case = next(c for c in importlib.import_module(f"tests.bench.{part}").cases(preset) if c.key == key)
    call = case.make(**(case.warm or case.size))[method]
    call()  # libraries load, and what is compiled is compiled
    if case.warm:
        call = case.make(**case.size)[method]
    print(round(peak(call), 3))
    return 0


def _short(x: float) -> float:
    return float(f"{x:.4g}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
