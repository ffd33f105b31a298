"""Install those carried wheels that this Python lacks:  python -m tests.gpu.wheels FOLDER TARGET

What is installed in that version or a newer one is left alone, and no index is asked.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.version import Version

NEEDED = {
    "everything": ("torch", "numpy", "lazy_loader"),
    "tests": ("pytest", "hypothesis", "scipy", "transformers"),
    "heads": ("triton", "trl", "liger-kernel"),
    "trainer": ("trl", "datasets", "accelerate", "pandas", "pyarrow", "dill", "multiprocess", "xxhash"),
    "training": ("transformers", "tokenizers", "pydantic", "typer", "rich", "matplotlib"),
}
"""Distributions by the stage that needs them."""


def installed(name: str) -> Version | None:
    try:
        return Version(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return None


def lacking(wheels: Iterable[Path]) -> list[Path]:
    """Those that are not installed, or only in an older version."""
    found = []
    for wheel in sorted(wheels):
        name, version, *_ = wheel.name.split("-")
        here = installed(name)
        if here is None or here < Version(version):
            found.append(wheel)
    return found


def install(folder: Path, target: Path) -> None:
    wheels = lacking(folder.glob("*.whl"))
    if wheels:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
        command += ["--no-deps", "--no-compile", "--no-cache-dir", "--target", str(target)]
        if subprocess.run([*command, *map(str, wheels)], check=False).returncode:
            # One wheel of another Python or platform stops all of them.
            for wheel in wheels:
                subprocess.run([*command, str(wheel)], check=False)
    sys.path.append(str(target))
    print("carried:", ", ".join("-".join(wheel.name.split("-")[:2]) for wheel in wheels) or "nothing that was lacking")
    for stage, names in NEEDED.items():
        missing = [name for name in names if installed(name) is None]
        if missing:
            print(f"{stage}: without {', '.join(missing)}")


if __name__ == "__main__":
    install(Path(sys.argv[1]), Path(sys.argv[2]))
