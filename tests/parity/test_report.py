"""The committed report: made of the committed records, complete, and what a fresh run finds."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import geomalign as ga
from tests.parity import report
from tests.parity.case import Case
from tests.parity.cases import CASES, NO_IMPLEMENTATION
from tests.parity.implementations import IMPLEMENTATIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RECORDS: list[dict[str, Any]] = json.loads((DOCS / "parity" / "parity.json").read_text(encoding="utf-8"))
WANTED = ("trl-0.29", "trl-1.6", "trl-1.16", "verl", "liger", "openrlhf", "torchrl")
AGAIN = "run `make parity-report` and commit docs/parity.md and docs/parity/parity.json"


def verdicts(records: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("objective", "implementation", "version", "method", "options", "compared")
    return {json.dumps([r[name] for name in names]): (r["verdicts"], r["reasons"]) for r in records}


def test_the_page_is_made_of_the_records() -> None:
    assert (DOCS / "parity.md").read_text(encoding="utf-8") == report.markdown(RECORDS), AGAIN


def test_every_implementation_and_three_releases_of_trl_are_there() -> None:
    versions = {(r["implementation"], r["version"]) for r in RECORDS}
    assert {implementation for implementation, _ in versions} == set(IMPLEMENTATIONS)
    assert len({version for implementation, version in versions if implementation == "trl"}) >= 3


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.ours}-{case.implementation}-{case.theirs}")
def test_every_case_was_run(case: Case) -> None:
    options = json.loads(json.dumps(dict(case.options)))
    found = [
        r
        for r in RECORDS
        if (r["objective"], r["implementation"], r["method"], r["options"])
        == (case.ours, case.implementation, case.method, options)
        and (r["compared"] == "advantage") == case.estimator
        and case.applies_to(r["version"])
    ]
    assert found, AGAIN
    for r in found:
        for family, verdict in r["verdicts"].items():
            assert verdict == case.expected(family)[0].value, AGAIN


def test_every_difference_has_a_reason_and_an_example() -> None:
    for r in RECORDS:
        differing = [family for family, verdict in r["verdicts"].items() if verdict != "equal"]
        assert sorted(differing) == sorted(r["reasons"]) and all(r["reasons"].values())
        if {"differs", "proportional"} & set(r["verdicts"].values()):
            assert r["example"].count("against") >= 2


def test_recipes_without_an_implementation_are_recipes_without_one() -> None:
    equal = {r["objective"].split("(")[0] for r in RECORDS if r["verdicts"]["ragged"] == "equal"}
    assert not set(NO_IMPLEMENTATION) & equal
    assert set(NO_IMPLEMENTATION) <= set(ga.recipes.names())
    page = (DOCS / "parity.md").read_text(encoding="utf-8")
    for name in ga.recipes.names():
        assert f"`{name}`" in page or f"`{name}(" in page, f"{name}: {AGAIN}"


@pytest.mark.slow
@pytest.mark.parametrize("name", WANTED)
def test_a_fresh_run_finds_what_is_committed(name: str, tmp_path: Path) -> None:
    """Every case against the real package, in its own environment; a verdict that is not the expected one fails."""
    python = ROOT / f".venv-parity-{name}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"the environment is not built: bash tests/parity/environments.sh {name}")
    implementation = name.split("-")[0]
    out = tmp_path / "records.json"
    command = [
        str(python),
        "-W",
        "ignore",
        "-m",
        "tests.parity",
        "run",
        implementation,
        "--verdicts-only",
        "--out",
        str(out),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    found = verdicts(json.loads(out.read_text(encoding="utf-8")))
    version = json.loads(next(iter(found)))[2]
    committed = verdicts([r for r in RECORDS if (r["implementation"], r["version"]) == (implementation, version)])
    assert found == committed, AGAIN


@pytest.mark.slow
def test_the_verl_adapter_passes_its_tests_in_verls_environment() -> None:
    python = ROOT / ".venv-parity-verl" / "bin" / "python"
    if not python.exists():
        pytest.skip("the environment is not built: bash tests/parity/environments.sh verl")
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/adapters/test_verl.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout[-4000:] + done.stderr[-2000:]
