"""`pytest -m gpu`: everything that the tests know of a device. In the tiny setting the CPU stands for it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from pathlib import Path

from tests.gpu.figures import TINY, Figures


def main(figures: Figures) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--tb=short", "-W", "default"]
        command += ["--durations=5", f"--junit-xml={report}", "tests/test_gpu.py"]
        code = subprocess.run([*command, *(["-k", "dapo or dpo or head or learns"] if TINY else [])], check=False).returncode
        suites = xml.etree.ElementTree.parse(report).getroot().iter("testsuite")
        counts = {name: 0 for name in ("tests", "skipped", "failures", "errors")}
        for suite in suites:
            counts = {name: counts[name] + int(suite.get(name, 0)) for name in counts}
    ran = counts["tests"] - counts["skipped"]
    figures.add("pytest -m gpu", "passed", value=ran - counts["failures"] - counts["errors"])
    figures.add("pytest -m gpu", "skipped", value=counts["skipped"])
    figures.check("pytest -m gpu", "failed", counts["failures"] + counts["errors"] if ran else float("nan"), 0)
    if code not in (0, 1):
        figures.check("pytest -m gpu", "exit code", code, 1)


if __name__ == "__main__":
    Figures.stage(main)
