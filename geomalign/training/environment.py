"""Versions and machine: where the numbers of a run come from."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any


def environment() -> dict[str, Any]:
    """Versions, platform and processor: where the numbers come from.

    >>> environment()["python"] == platform.python_version()
    True
    """
    versions = {}
    for package in ("geomalign", "torch", "transformers", "tokenizers", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {
        "python": platform.python_version(),
        **versions,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "processor": processor,
    }
