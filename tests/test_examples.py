"""The example loops learn, on one process and on two, and are as short as they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES = {"grpo.py": 60, "dpo.py": 40}


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
#: With --cpu, or without --multi_gpu where there is no GPU, accelerate silently starts one process.
ACCELERATE = [
    *["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", "2"],
    *["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"],
]


def run(example: str, *arguments: str, processes: int = 1, launcher: list[str] = TORCHRUN) -> str:
    pytest.importorskip("accelerate")
    script = str(ROOT / "examples" / example)
    launch = launcher if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *launch, script, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("example", LINES)
def test_a_loop_fits_on_a_page(example: str) -> None:
    assert len((ROOT / "examples" / example).read_text(encoding="utf-8").splitlines()) <= LINES[example]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("objective", ["grpo", "opo"])
def test_the_rl_loop_learns(objective: str, processes: int) -> None:
    rewards = [float(x) for x in re.findall(r"reward ([\d.]+)", run("grpo.py", objective, processes=processes))]
    assert len(rewards) == 4
    assert rewards[-1] > 0.6 > 3 * 0.1  # one word in ten by chance


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("objective", ["dpo", "chi_po"])
def test_the_preference_loop_learns(objective: str, processes: int) -> None:
    seen = re.findall(r"loss ([\d.]+), accuracy ([\d.]+)", run("dpo.py", objective, processes=processes))
    losses = [float(loss) for loss, _ in seen]
    assert losses[0] > losses[-1] and losses[-1] < 0.6 and float(seen[-1][1]) > 0.95


@pytest.mark.slow
def test_accelerate_launches_what_torchrun_does() -> None:
    """Two processes under either launcher print the same rewards."""
    outputs = [run("grpo.py", "opo", processes=2, launcher=launcher) for launcher in (TORCHRUN, ACCELERATE)]
    assert re.findall(r"reward [\d.]+", outputs[0]) == re.findall(r"reward [\d.]+", outputs[1])
    assert len(re.findall(r"reward", outputs[0])) == 4
    assert run("grpo.py", "opo") != outputs[0], "one process has half the prompts"
