"""Install those carried wheels that this Python lacks:  python -m tests.gpu.wheels FOLDER TARGET

Nothing that is installed already is replaced, and no index is asked.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

NEEDED = {
    "everything": ("torch", "numpy", "lazy_loader"),
    "tests": ("pytest", "hypothesis", "scipy", "transformers"),
    "heads": ("triton", "trl", "liger-kernel"),
    "trainer": ("trl", "datasets", "accelerate", "pandas", "pyarrow", "dill", "multiprocess", "xxhash"),
    "training": ("transformers", "tokenizers", "pydantic", "typer", "rich", "matplotlib"),
}
"""Distributions by the stage that needs them."""


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def lacking(wheels: Iterable[Path]) -> list[Path]:
    """Those whose distribution is not installed."""
    return [wheel for wheel in sorted(wheels) if not installed(wheel.name.split("-")[0])]


def install(folder: Path, target: Path) -> None:
    wheels = lacking(folder.glob("*.whl"))
    if wheels:
        options = "--no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check -q --target".split()
        command = [sys.executable, "-m", "pip", "install", *options, str(target)]
        if subprocess.run([*command, *map(str, wheels)], check=False).returncode:
            # One wheel of another Python or platform stops all of them.
            for wheel in wheels:
                subprocess.run([*command, str(wheel)], check=False)
    sys.path.append(str(target))
    print("carried:", ", ".join("-".join(wheel.name.split("-")[:2]) for wheel in wheels) or "nothing that was lacking")
    for stage, names in NEEDED.items():
        missing = [name for name in names if not installed(name)]
        if missing:
            print(f"{stage}: without {', '.join(missing)}")


if __name__ == "__main__":
    install(Path(sys.argv[1]), Path(sys.argv[2]))
