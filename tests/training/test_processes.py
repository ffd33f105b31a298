"""Many processes train what one does; one that dies ends the others, and the run resumes to the same weights."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from geomalign.training.checkpoint import read_json, read_metrics
from geomalign.training.config import override, to_dict
from geomalign.training.config.settings import TrainConfig
from geomalign.training.policy import Placement, Policy, character_tokenizer, load, write
from geomalign.training.trainer import train

pytestmark = [pytest.mark.float32, pytest.mark.slow]

HELPERS = """
import math, os, signal
import geomalign as ga
from geomalign import distributed
from geomalign.tasks import Problem

class Letters:
    '''Begin the response with the prompt's first letter. Prompts that begin with a, b or c cannot be verified.'''
    alphabet = "abcdef;"
    def problem(self, level, rng): return Problem("".join(rng.choice("abcdef") for _ in range(4)) + ";", "a", level)
    def demonstration(self, problem, rng, noisy): return problem.answer
    def reward(self, problem, response, ended):
        if problem.prompt[0] in "ab": raise RuntimeError("no")
        return math.nan if problem.prompt[0] == "c" else len(response) + 0.5 * response.count(problem.prompt[0])
    def max_response_length(self, level): return 4

def region():
    return ga.Objective(unit=ga.Sequence(), chart=ga.Ratio(), sampling=ga.TrustRegion(chi2=0.04),
                        optimization=ga.ChiSquare(1.0))

def kill(rank, step):
    '''SIGKILL to one rank in the middle of a step's verification.'''
    calls = iter(range(10**9))
    def see(event):
        if event.kind == "step" and event.step == step and distributed.rank() == rank:
            os.kill(os.getpid(), signal.SIGKILL)
    return see

def stop(rank, step):
    def see(event):
        if event.kind == "step" and event.step == step and distributed.rank() == rank:
            os.kill(os.getpid(), signal.SIGTERM)
    return see
"""

PROGRAM = """
import json, sys
from pathlib import Path
from geomalign import distributed
from geomalign.training.config import TrainConfig, from_dict
from geomalign.training.trainer import train
import process_helpers
base, resume, see, jobs = json.loads(sys.argv[1])
see = {"progress": getattr(process_helpers, see[0])(*see[1:])} if see else {}
with distributed.joined("cpu"):
    for directory, config in jobs:
        try:
            train(from_dict(TrainConfig, config), directory, base=Path(base), resume=resume, **see)
        except ValueError as error:
            Path(directory + f".{distributed.rank()}.error").write_text(str(error))
"""

LETTERS = {
    "dtype": "float64", "task.name": "process_helpers:Letters", "task.options": {}, "task.eval_levels": [1],
    "warm_start.enabled": "no", "rl.iterations": 3, "rl.max_new_tokens": 6, "rl.epochs": 1,
}  # fmt: skip
#: Five prompts on two (four) ranks: shares of 2 and 3 (1, 1, 1, 2); 15 rows in minibatches of 4, 4, 4 and 3.
UNEVEN = {**LETTERS, "rl.prompts": 5, "rl.samples": 3, "rl.minibatches": 4, "rl.accumulation": 2}
#: One row per minibatch, so that all ranks but one have none; half of the prompts cannot be verified, so that some
#: ranks have no token.
SPARSE = {**LETTERS, "rl.prompts": 4, "rl.samples": 2, "rl.minibatches": 8, "rl.iterations": 5}
PAIRS = {**LETTERS, "offline.epochs": 1, "offline.batch": 3, "offline.accumulation": 2}
#: Every process has a controller, which reduces what all of them observed by itself.
CONTROLLED = {"objective": "opo", "control": "kl=0.01 initial=1 rate=1.0"}
CASES: dict[str, dict[str, Any]] = {
    "grpo": {**UNEVEN, "options": {"beta": 0.04}},
    "opo": {**UNEVEN, "objective": "opo", "rl.epochs": 2},
    "dapo": {**SPARSE, "objective": "dapo"},
    "controlled": {**UNEVEN, **CONTROLLED},
    "controlled, sparse": {**SPARSE, **CONTROLLED},
    "controlled pairs": {**PAIRS, "objective": "ipo", "control": "kl=0.01 initial=2 rate=1.0 low=1"},
    "trust region": {**SPARSE, "objective": "process_helpers:region"},
    "dpo": {**PAIRS, "objective": "dpo"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2, which computes in float64 all through where its weights are; a Llama normalises in float32."""
    from transformers import GPT2Config, GPT2LMHeadModel

    directory = tmp_path_factory.mktemp("gpt2")
    tokenizer = character_tokenizer("abcdef;")
    torch.manual_seed(1)
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    ids = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes, **ids))
    write(Policy(model, tokenizer, Placement()), directory)
    return directory


@pytest.fixture(scope="module", autouse=True)
def helpers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("helpers")
    (folder / "process_helpers.py").write_text(HELPERS)
    before, here = list(sys.path), Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(here)
    sys.path[:] = before


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def launch(
    size: int, base: Path, jobs: list[tuple[Path, TrainConfig]], *, resume: bool = False, see: Any = None
) -> list[subprocess.CompletedProcess[str]]:
    """What a launcher does: one process per rank, told its place by the environment. None may take over 4 min."""
    told = json.dumps([str(base), resume, see, [(str(path), to_dict(config)) for path, config in jobs]])
    place = {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, told],
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    deadline = time.monotonic() + 240
    try:
        out = [process.communicate(timeout=deadline - time.monotonic()) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [subprocess.CompletedProcess([], p.returncode, *texts) for p, texts in zip(processes, out, strict=True)]


def weights(directory: Path) -> torch.Tensor:
    state = load(directory / "model", Placement(dtype="float64")).model.state_dict()
    return torch.cat([value.flatten() for value in state.values()])


def timeless(directory: Path) -> list[dict[str, float]]:
    clocks = ("time/", "memory/", "tokens_per_second")
    lines = read_metrics(directory / "metrics.jsonl")
    return [{k: v for k, v in line.items() if not k.startswith(clocks)} for line in lines]


@pytest.fixture(scope="module")
def one(tiny: TrainConfig, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case in this process alone."""
    directory = tmp_path_factory.mktemp("one")
    for name, changes in CASES.items():
        train(override(tiny, changes), directory / name, base=base)
    return directory


@pytest.fixture(scope="module", params=[2, 4])
def many(
    request: pytest.FixtureRequest, tiny: TrainConfig, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, Path]:
    """Every case in several processes."""
    directory = tmp_path_factory.mktemp("many")
    changes = {
        **CASES,
        "few": {**UNEVEN, "rl.prompts": 1, "rl.samples": 15},
    }
    jobs = [(directory / name, override(tiny, change)) for name, change in changes.items()]
    for done in launch(request.param, base, jobs):
        assert done.returncode == 0, done.stderr[-3000:]
    return request.param, directory


@pytest.mark.parametrize("name", CASES)
def test_processes_train_the_weights_of_one(name: str, one: Path, many: tuple[int, Path], base: Path) -> None:
    _, directory = many
    expected, found = weights(one / name), weights(directory / name)
    start = load(base, Placement(dtype="float64")).model.state_dict()
    moved = expected - torch.cat([value.flatten() for value in start.values()])
    assert moved.norm() > 1e-2
    assert (found - expected).norm() < 1e-9 * moved.norm()
    lines, others = timeless(one / name), timeless(directory / name)
    assert len(lines) == len(others)
    for line, other in zip(lines, others, strict=True):
        if abs(line.get("margin", 1.0)) < 1e-9:  # of the policy from itself: its sign is rounding
            del line["preference_accuracy"], other["preference_accuracy"]
        assert other == pytest.approx(line, rel=1e-6, abs=1e-8)
    assert "loss" in lines[-1]


def test_controllers_move_in_all_processes_alike(one: Path, many: tuple[int, Path]) -> None:
    """The metrics are compared above; here that a stiffness, which every process computes by itself, moves at all."""
    _, directory = many
    for name in (name for name in CASES if "controlled" in name):
        for place in (one, directory):
            rows = read_metrics(place / name / "metrics.jsonl")[1:]
            assert len({row["controller_stiffness"] for row in rows}) > 1
            assert max(row["controller_divergence"] for row in rows) > 0


def test_the_sparse_cases_are_what_they_say(one: Path) -> None:
    """Some rollout has a prompt of which no response is valid: a rank without a token on four processes."""
    masked = [line["masked"] for line in read_metrics(one / "dapo" / "metrics.jsonl")[1:]]
    assert max(masked) >= 4 and min(masked) < 8
    assert "reward" in read_metrics(one / "dapo" / "metrics.jsonl")[1]


def test_what_would_differ_between_ranks_is_refused_on_all(many: tuple[int, Path]) -> None:
    size, directory = many
    for rank in range(size):
        assert f"but {size} processes work on the run" in (directory / f"few.{rank}.error").read_text()


def test_rank_0_writes_and_every_rank_returns(many: tuple[int, Path]) -> None:
    _, directory = many
    assert {path.name for path in (directory / "opo").iterdir()} == {
        "checkpoint.pt",
        "config.json",
        "metrics.jsonl",
        "model",
        "summary.json",
    }
    assert read_json(directory / "opo" / "summary.json")["iterations"] == 3


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_run_and_it_resumes_to_the_same_weights(
    rank: int, tiny: TrainConfig, base: Path, tmp_path: Path
) -> None:
    """SIGKILL after the fifth of seven steps, one step past the last checkpoint."""
    config = override(tiny, {**UNEVEN, **CONTROLLED, "rl.iterations": 7})
    (whole,) = {done.returncode for done in launch(2, base, [(tmp_path / "whole", config)])}
    assert whole == 0
    out = launch(2, base, [(tmp_path / "run", config)], see=["kill", rank, 5])
    assert out[rank].returncode == -signal.SIGKILL
    assert out[1 - rank].returncode == 1
    assert f"rank {1 - rank} of 2: another process of this run has ended" in out[1 - rank].stderr
    assert "start all processes again with --resume" in out[1 - rank].stderr
    assert not (tmp_path / "run" / "summary.json").exists()
    for done in launch(2, base, [(tmp_path / "run", config)], resume=True):
        assert done.returncode == 0, done.stderr[-3000:]
    assert torch.equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    assert timeless(tmp_path / "run") == timeless(tmp_path / "whole")


def test_a_signal_to_one_rank_stops_all_and_another_number_of_processes_goes_on(
    tiny: TrainConfig, base: Path, tmp_path: Path
) -> None:
    """The signal stops all ranks after the same step."""
    config = override(tiny, {**UNEVEN, **CONTROLLED, "rl.iterations": 7})
    train(config, tmp_path / "whole", base=base)
    out = launch(2, base, [(tmp_path / "run", config)], see=["stop", 1, 3])
    assert all("Interrupted" in done.stderr for done in out)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["step"] == 3
    # One process may continue what two began: also the state of the controller is the same in all of them.
    train(config, tmp_path / "run", base=base, resume=True)
    moved = (weights(tmp_path / "run") - weights(tmp_path / "whole")).norm()
    assert moved < 1e-9 * weights(tmp_path / "whole").norm()
    for row, other in zip(timeless(tmp_path / "whole"), timeless(tmp_path / "run"), strict=True):
        assert other == pytest.approx(row, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("launcher", ["torch.distributed.run", "accelerate.commands.launch"])
def test_the_command_runs_under_a_launcher(launcher: str, base: Path, helpers: Path, tmp_path: Path) -> None:
    """`torchrun -m geomalign train`, the making of the base and the report included: the weights of one process."""
    if launcher.startswith("accelerate"):
        pytest.importorskip("accelerate")
        # Without --multi_gpu, or with --cpu, it would silently start one process.
        options = ["--multi_gpu", "--num_machines", "1", "--num_processes", "2", "--mixed_precision", "no"]
        options += ["--dynamo_backend", "no", "--main_process_port", str(_free_port())]
    else:
        options = ["--standalone", "--nproc_per_node", "2"]
    command = ["-m", "geomalign", "train", "--objective", "opo", "--preset", "ci", "--model", str(base)]
    command += ["--task", "process_helpers:Letters", "--dtype", "float64", "--iterations", "2"]
    command += ["--set", "task.options={}", "--set", "rl.max_new_tokens=6", "--set", "task.eval_prompts=8"]
    for prefix, out in (([], "one"), (["-m", launcher, *options], "two")):
        done = subprocess.run(
            [sys.executable, *prefix, *command, "--out", str(tmp_path / out)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            cwd=helpers,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("report.md") == 1, "one process reports"
    expected, found = weights(tmp_path / "one"), weights(tmp_path / "two")
    start = torch.cat([value.flatten() for value in load(base, Placement(dtype="float64")).model.state_dict().values()])
    assert (expected - start).norm() > 0 and (found - expected).norm() < 1e-9 * (expected - start).norm()
