"""`pytest -m gpu`: what the tests know of a device. In the tiny setting the CPU stands for it, in some of them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from pathlib import Path

from tests.gpu.figures import TINY, Figures

OPTIONS = ["-q", "-m", "gpu", "-W", "default", "--tb=short", "-p", "no:cacheprovider"]
FEW = "dapo or gspo or slic or test_the_head or projections or learns"


def main(figures: Figures) -> None:
    command = [sys.executable, "-m", "pytest", "tests/test_device.py", *OPTIONS]
    if TINY:
        command += ["-k", FEW]
    elif importlib.util.find_spec("xdist"):
        command += ["-n", "4"]  # most of the time is tracing and compiling, on the host
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.xml")
        code = subprocess.run([*command, f"--junit-xml={path}"], check=False).returncode
        report(figures, path, code)


def report(figures: Figures, path: Path, code: int) -> None:
    """Counts, and one row for every test that failed."""
    outcomes = {"passed": 0, "skipped": 0, "failed": 0}
    for test in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        found = next((child for child in test if child.tag in ("failure", "error", "skipped")), None)
        outcome = "passed" if found is None else "skipped" if found.tag == "skipped" else "failed"
        outcomes[outcome] += 1
        if found is not None and outcome == "failed":
            figures.add(str(test.get("name")), "", error=str(found.get("message"))[:300], verdict="FAILED")
    for outcome in ("passed", "skipped"):
        figures.add("pytest -m gpu", outcome, value=outcomes[outcome])
    figures.check("pytest -m gpu", "failed", outcomes["failed"] if outcomes["passed"] else float("nan"), 0)
    figures.check("pytest -m gpu", "exit code", code, 0)


if __name__ == "__main__":
    Figures.stage(main)
