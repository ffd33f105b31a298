"""What an installed wheel must do where nothing but its dependencies is; run by run.sh, away from the sources."""

import argparse
import compileall
import os
import subprocess
import sys
import tempfile
from pathlib import Path

#: CPU seconds that `import geomalign` may take beyond torch; the least of five processes. Names are imported when they
#: are first used, so a first recipe is timed besides.
IMPORT_SECONDS = 0.3
TIMED = """
import time, torch
began = time.process_time()
import geomalign
print(time.process_time() - began)
geomalign.recipes.get("opo"), geomalign.Batch
print(time.process_time() - began)
"""
ABSENT = "datasets trl verl peft wandb trackio tensorboard entmax pytest accelerate gymnasium"


def without_torch() -> None:
    """Every file compiles; settings and the help texts, which load no torch."""
    import geomalign

    package = Path(geomalign.__file__).parent
    assert "site-packages" in package.parts, f"geomalign was imported from {package}, not from the wheel"
    assert compileall.compile_dir(package, quiet=1, force=True), "a file does not compile"
    page = package / "_explorer"
    size = sum(file.stat().st_size for file in page.rglob("*") if file.is_file())
    assert (page / "index.html").is_file() and (page / "vendor" / "d3.LICENSE").is_file() and size < 2_000_000
    assert (package / "__init__.pyi").is_file() and (package / "py.typed").is_file()
    print(f"geomalign {geomalign.__version__}, {len(list(package.rglob('*.py')))} files, explorer {size / 1e6:.2f} MB")
    from geomalign.training.config import CompareConfig, load_config

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "comparison.toml"
        path.write_text('preset = "ci"\nobjectives = ["grpo", "opo mu=10 label=stiff"]\n[run.rl]\niterations = 3\n')
        config = load_config(path, CompareConfig)
    assert [choice.title for choice in config.objectives] == ["grpo", "stiff"] and config.run.rl.iterations == 3
    for words in (["--help"], ["train", "--help"]):
        done = subprocess.run([sys.executable, "-m", "geomalign", *words], capture_output=True, text=True)
        assert done.returncode == 0 and "Usage: geomalign" in done.stdout, done.stderr
    assert "torch" not in sys.modules


def with_torch(program: str) -> None:
    """The commands a new user types first, and a gradient; what they may not need is not there."""
    from importlib.util import find_spec

    found = [name for name in ABSENT.split() if find_spec(name)]
    assert not found, f"the environment is not bare: {found}"
    for words, expected in (
        (["list"], "opo"),
        (["show", "grpo"], "curvature"),
        (["explore", "opo", "--print"], "_explorer"),
    ):
        done = subprocess.run(
            [program, *words], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        assert done.returncode == 0 and expected in done.stdout, done.stdout + done.stderr
    import torch

    import geomalign as ga

    policy = torch.full((4, 3), -1.0, requires_grad=True)
    batch = ga.Batch(policy, policy.detach(), reward=torch.tensor([1.0, 0.0, 0.5, 0.0]), group=4)
    ga.recipes.opo()(batch).loss.backward()
    assert policy.grad is not None and bool(policy.grad.abs().sum() > 0)
    runs = [subprocess.check_output([sys.executable, "-c", TIMED], text=True).split() for _ in range(5)]
    seconds, used = (min(float(run[part]) for run in runs) for part in (0, 1))
    print(
        f"import geomalign: {seconds:.3f} s beyond torch (at most {IMPORT_SECONDS}); {used:.3f} s with a first recipe"
    )
    assert seconds < IMPORT_SECONDS, f"import geomalign takes {seconds:.3f} s beyond torch"


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--torch", metavar="PROGRAM", help="the installed program geomalign; torch is there too")
    given = arguments.parse_args()
    without_torch()
    if given.torch:
        with_torch(given.torch)
    print("1 passed, 0 failed")
