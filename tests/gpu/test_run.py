"""tests/gpu/run.sh's own machinery: budgets, failures that stop nothing else, what is kept, the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.gpu import figures, trainer, training, wheels
from tests.gpu import tests as stage_of_tests
from tests.gpu.stages import Stage, run, table

ROW = (
    'import json, sys; json.dump([{"case": "c", "method": "m", "ms": 1.5, "peak_mib": 7.0}], open(sys.argv[1], "w"))\n'
)


def stage(name: str, code: str, seconds: float = 20.0) -> Stage:
    return Stage(name, [sys.executable, "-c", textwrap.dedent(code)], seconds)


def test_a_stage_that_fails_or_hangs_stops_no_other_and_keeps_its_figures(tmp_path: Path) -> None:
    child = "import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    stages = [
        stage("raises", ROW + "print('before'); raise RuntimeError('boom')"),
        stage("hangs", ROW + child, 2.0),
        stage("lacks", "raise SystemExit(75)"),
        stage("works", ROW),
    ]
    began = time.monotonic()
    results = run(stages, tmp_path, {"name": "card", "driver": None}, time.monotonic() + 60)
    assert time.monotonic() - began < 30
    found = results["stages"]
    assert [x["status"] for x in found.values()] == ["failed", "timed out", "skipped", "passed"]
    assert [len(x["rows"]) for x in found.values()] == [1, 1, 0, 1]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert "boom" in (tmp_path / "log.txt").read_text()
    printed = table(results)
    assert "1.5 ms" in printed and "7 MiB" in printed and "timed out" in printed and printed.endswith("name card")


def test_no_stage_has_more_than_what_is_left(tmp_path: Path) -> None:
    long = stage("long", "import time; time.sleep(60)", 60.0)
    results = run([long, long], tmp_path, {}, time.monotonic() + 1.5)
    (found,) = results["stages"].values()
    assert found["status"] == "timed out" and found["seconds"] == 0.0  # the second of that name had nothing left


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("figures.check('c', 'w', 0.5, 1.0)", 0),
        ("figures.check('c', 'w', 1.5, 1.0)", 1),
        ("figures.check('c', 'w', float('nan'), 1.0)", 1),
        ("figures.target('c', 'w', 0.1, least=1.0)", 0),
        ("figures.compare('c', lambda: {'good': lambda: 1, 'bad': lambda: 1 / 0}, 0.0)", 1),
        ("figures.compare('c', lambda: {'good': lambda: 1, 'absent': lambda: __import__('absent')}, 0.0)", 0),
        ("import absent", 75),
        ("import geomalign.absent", 1),
    ],
)
def test_how_a_stage_ends(body: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["stage", str(path)])
    try:
        with pytest.raises(SystemExit) as ended:
            figures.Figures.stage(lambda figures: exec(body, {"figures": figures}), "cpu")
        assert int(ended.value.code or 0) == code
    except ModuleNotFoundError:
        assert code == 1  # ours: the interpreter ends with 1
    if path.exists():
        json.loads(path.read_text(), parse_constant=pytest.fail)  # no NaN in the file


def test_times_are_paired_and_an_exception_is_a_result() -> None:
    found = figures.paired(
        {"short": lambda: time.sleep(0.002), "long": lambda: time.sleep(0.01), "bad": lambda: 1 / 0}, 0.1
    )
    short, long = found["short"], found["long"]
    assert isinstance(found["bad"], ZeroDivisionError) and isinstance(short, dict) and isinstance(long, dict)
    assert short["ratio"] == 1.0 and long["ratio"] < 0.6 and long["ms"] >= 10 and long["rounds"] >= 3


def test_wheels_that_are_installed_are_left_alone(tmp_path: Path) -> None:
    names = ("not_there_at_all-1.0-py3-none-any.whl", "pytest-0.1-py3-none-any.whl", "pytest-99-py3-none-any.whl")
    assert [x.name for x in wheels.lacking(tmp_path / name for name in names)] == [names[0], names[2]]


def test_runs_that_differ_are_wrong(tmp_path: Path) -> None:
    """The comparison of two trainers notices a loss, a gradient and weights that differ."""
    import torch

    def ran(loss: float, weight: float) -> dict[str, object]:
        log = [{"loss": loss, "grad_norm": 1.0 + loss}] * 2
        return {"log": log, "weights": {"w": torch.tensor([weight])}, "start": {"w": torch.zeros(1)}}

    for other, wrong in ((ran(0.1, 1.0), 0), (ran(0.2, 1.0), 4), (ran(0.1, 1.1), 1)):
        compared = figures.Figures(tmp_path / "figures.json")
        trainer.compare(compared, ran(0.1, 1.0), other)
        assert sum(row.get("verdict") == "WRONG" for row in compared.rows) == wrong


def test_what_pytest_found_is_read(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(
        "import pytest\ndef test_good(): pass\ndef test_bad(): assert 1 == 2\n@pytest.mark.skip\ndef test_no(): pass\n"
    )
    path, options = tmp_path / "report.xml", ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", str(file), *options, f"--junit-xml={path}"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for select, wrong in (("good or bad or no", 3), ("good", 0), ("no", 1)):
        done = subprocess.run([*command, "-k", select], capture_output=True, check=False, env=environment)
        found = figures.Figures(tmp_path / "figures.json")
        stage_of_tests.report(found, path, done.returncode)
        assert sum(row.get("verdict") in ("WRONG", "FAILED") for row in found.rows) == wrong, found.rows


def test_a_run_without_a_step_is_wrong(tmp_path: Path) -> None:
    for curve, wrong in (([], 1), ([{"step": 0}, {"step": 1}], 1), ([{"step": k, "reward": 0.5} for k in range(3)], 0)):
        found = figures.Figures(tmp_path / "figures.json")
        training.report(found, curve, 1.0)
        assert sum(row.get("verdict") == "WRONG" for row in found.rows) == wrong


def test_the_command_refuses_a_machine_without_a_gpu(tmp_path: Path) -> None:
    if figures.DEVICE == "cuda":
        pytest.skip("there is one")
    command = [sys.executable, "-m", "tests.gpu", "--only", "projections"]
    done = subprocess.run(
        command, env={**os.environ, "OUT": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "--tiny" in done.stderr


@pytest.mark.slow
def test_the_tests_of_a_device_hold_on_the_cpu() -> None:
    """All of them, so that a GPU is not the first to run them; but for CUDA graphs."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/test_device.py"]
    environment = {**os.environ, "GPU_TINY": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    if figures.DEVICE == "cpu":
        assert "CUDA graphs need CUDA" in done.stdout and "no CUDA device" not in done.stdout
