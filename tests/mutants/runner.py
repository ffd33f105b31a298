"""Applies one mutant at a time to a private copy of the tree, and runs the fast tests that cover it until one fails."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import math
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.mutants import report, targets
from tests.mutants.known import KNOWN, SLOW
from tests.mutants.mutations import Mutant, mutants

LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "runs", "build", "*_cache", "__pycache__", "_build", ".hypothesis")
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    "TOKENIZERS_PARALLELISM": "false",
}
LIMIT = 240.0
"""Seconds of processor time after which a mutant counts as noticed: its tests take under 80 without it."""
PATIENCE = 5
"""So many times as long is waited for a process, on a machine that does other things, too."""


@contextlib.contextmanager
def private_copy(root: Path) -> Iterator[Path]:
    """A copy of the tree that is deleted in the end; nothing is ever written into the tree itself."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copied = Path(folder) / "tree"
        shutil.copytree(root, copied, ignore=LEFT_OUT)
        yield copied


def preload() -> None:
    """Import what the tests need and this library is no part of, once, before processes are forked from this one."""
    os.environ.update(SETTINGS)
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import scipy.optimize
    import scipy.stats  # noqa: F401
    import torch

    torch.set_num_threads(1)


def verdict(tree: Path, files: list[str], limit: float = LIMIT, options: tuple[str, ...] = ("-x",)) -> tuple[str, str]:
    """What a forked process says of the tests in a copy of the tree: "survived", or "killed" and by which tests.

    A collection that fails is a kill, and so is a run that does not end within `limit` seconds of processor time.
    """
    output = tree.parent / "output.txt"
    process = os.fork()
    if process == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 5))
        _tests(tree, [*options, *files], output)
    deadline = time.monotonic() + PATIENCE * limit
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # also what a test has left running
    if not done:
        os.waitpid(process, 0)
        return "killed", f"no end within {PATIENCE * limit:.0f} s"
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return "killed", f"no end within {limit:.0f} s of processor time"
    if code == 0:
        return "survived", ""
    said = output.read_text(encoding="utf-8", errors="replace")
    if code == 5 and not files[0].startswith("geomalign/"):  # a module may be without examples
        raise RuntimeError(f"no test was collected from {files}; see targets.py.")
    if code == 5:
        return "survived", ""
    failed = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE)
    return "killed", "\n".join(failed) or f"exit status {code}"


def _tests(tree: Path, arguments: list[str], output: Path) -> None:
    """Run pytest in this process, with its output to a file, and leave with its exit status."""
    code = 70
    try:
        sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for given, stream in ((nothing, 0), (sink, 1), (sink, 2)):
            os.dup2(given, stream)
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)
        sys.path[:] = [str(tree), *(p for p in sys.path if p not in ("", str(targets.ROOT)))]
        for name in [n for n in sys.modules if n.split(".")[0] in ("tests", "geomalign")]:
            del sys.modules[name]
        import pytest

        # pytest would import a file by itself, beside the module of the package, and its classes would exist twice.
        for file in [argument.split("::")[0] for argument in arguments if argument.startswith("geomalign/")]:
            importlib.import_module(file.removesuffix(".py").replace("/", "."))
        common = ["-q", "-n", "0", "-p", "no:cacheprovider", "--tb=no", "--durations=0", "--doctest-modules"]
        common += ["-W", "ignore:Module already imported"]  # of the plugin that the package is, too
        code = int(pytest.main([*common, "-m", "not slow and not gpu", *arguments]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def apply(tree: Path, path: str, text: str) -> None:
    """Write a module, and see to it that no compiled file of another text is taken for it."""
    file = tree / path
    file.write_text(text, encoding="utf-8")
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()


class Judge:
    """Gives verdicts on mutants in one copy of the tree.

    The first time that a test fails it is run alone, with the mutant and without: one that fails in the company of
    others only, or without any mutant, is left out from then on.
    """

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.trusted: dict[str, bool] = {}
        said, by = verdict(tree, ["tests/test_outcome.py"])
        if said != "survived":
            raise RuntimeError(f"tests do not run in a copy of the tree, or fail there without any mutant: {by}.")

    def __call__(self, mutant: Mutant) -> tuple[str, str]:
        """The verdict; the copy is afterwards as it was."""
        tests = [file for file in targets.tests(mutant.path) if (self.tree / file.split("::")[0]).exists()]
        text = (self.tree / mutant.path).read_text(encoding="utf-8")
        # The module's examples in a process of their own: the classes that they define are no members of the package.
        for files in ([mutant.path], tests):
            said, by = self._judged(mutant, text, files)
            if said == "killed":
                break
        return said, by

    def _judged(self, mutant: Mutant, text: str, files: list[str]) -> tuple[str, str]:
        while True:
            left_out = [f"--deselect={test}" for test, trusted in self.trusted.items() if not trusted]
            try:
                apply(self.tree, mutant.path, mutant.applied(text))
                said, by = verdict(self.tree, files, options=("-x", *left_out))
                known = said == "survived" or by in self.trusted
                alone = known or "::" not in by or verdict(self.tree, [by])[0] == "killed"
            finally:
                apply(self.tree, mutant.path, text)
            if said == "killed" and "::" not in by:  # what is imported or collected failed, or nothing came to an end
                clean = verdict(self.tree, files, options=(*left_out, "--collect-only"))
                if clean[0] != "survived":
                    raise RuntimeError(f"{files} cannot be collected without any mutant: {clean[1]}.")
            elif not known:
                self.trusted[by] = alone and verdict(self.tree, [by])[0] == "survived"
                if not self.trusted[by]:
                    print(f"left out, as it fails without the mutant or not alone: {by}", flush=True)
            if said == "survived" or self.trusted.get(by, True):
                return said, by


def run(root: Path, drawn: list[tuple[str, Mutant]], out: Path, seed: int = 0) -> None:
    """Judge the mutants that the record does not have yet; `seed` is written down with each."""
    records: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    known = {_key(record) for record in records}
    preload()
    with private_copy(root) as tree:
        judge = Judge(tree)
        for package, mutant in drawn:
            record = {"package": package, "seed": seed, **dataclasses.asdict(mutant), "end": list(mutant.end)}
            if _key(record) not in known:
                records.append(_judged(judge, record, mutant))
                _write(out, records)


def again(root: Path, out: Path) -> None:
    """Judge the survivors of a record, but equivalent ones, against the tests as they are now; what the code no longer
    has is gone."""
    records: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    explained = report.reasons()
    survivors = [
        at
        for at, record in enumerate(records)
        if record["verdict"] == "survived" and not explained.get(report.key(record), {}).get("equivalent")
    ]
    preload()
    with private_copy(root) as tree:
        judge = Judge(tree)
        for at in survivors:
            record = records[at]
            there = (root / record["path"]).exists()
            same = [m for m in mutants(root, record["path"]) if m.key == report.key(record)] if there else []
            if same:
                mutant = min(same, key=lambda m: (abs(m.line - record["line"]), abs(m.column - record["column"])))
                moved = record | dataclasses.asdict(mutant) | {"end": list(mutant.end), "again": True}
                records[at] = _judged(judge, moved, mutant)
            else:
                records[at] = record | {"verdict": "gone"}
            _write(out, records)


def known(root: Path) -> int:
    """Run the list of known.py, each entry against the one test file that is there for it; the number that survive."""
    survivors = 0
    preload()
    with private_copy(root) as tree:
        for test in dict.fromkeys(test for test, *_ in KNOWN):
            said, by = verdict(tree, [test])
            if said != "survived":
                raise RuntimeError(f"{test} fails without any mutant: {by}.")
        for test, module, before, after in KNOWN:
            path = f"geomalign/{module}"
            text = (tree / path).read_text(encoding="utf-8")
            if before not in text:
                print(f"gone     {path}: {before.strip()}; bring known.py up to date", flush=True)
                continue
            apply(tree, path, text.replace(before, after, 1))
            said, by = verdict(tree, [test])
            apply(tree, path, text)
            survivors += said == "survived"
            print(f"{said:8} {path}: {before.strip()} → {after.strip()}  {by}", flush=True)
    return survivors


def slow(root: Path) -> int:
    """Whether each of the slowest tests earns its time: it notices its wrong line, and no other test of its file does.

    Returns:
        The number of those that do not.
    """
    idle = 0
    preload()
    with private_copy(root) as tree:
        for test, module, before, after in SLOW:
            path = f"geomalign/{module}"
            text = (tree / path).read_text(encoding="utf-8")
            if before not in text:
                raise RuntimeError(f"{path} no longer has {before.strip()!r}; bring known.py up to date.")
            apply(tree, path, text.replace(before, after, 1))
            itself = verdict(tree, [test])[0]
            others = verdict(tree, [test.split("::")[0]], options=("-x", f"--deselect={test}"))
            apply(tree, path, text)
            idle += not (itself == "killed" and others[0] == "survived")
            print(f"{itself:8} by {test}; by others of its file: {others[0]} {others[1]}", flush=True)
    return idle


def _judged(judge: Judge, record: dict[str, Any], mutant: Mutant) -> dict[str, Any]:
    started = time.monotonic()
    said, by = judge(mutant)
    seconds = round(time.monotonic() - started, 1)
    print(f"{said:8} {seconds:6.1f} s  {mutant.name}  {by}", flush=True)
    return record | {"verdict": said, "by": by, "seconds": seconds}


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    return (*report.key(record), record["line"], record["column"])


def _write(out: Path, records: list[dict[str, Any]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
