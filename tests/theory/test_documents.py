"""The pages made from the tests, and the notebooks they point to."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate_theorems", ROOT / "docs" / "generate_theorems.py")
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["generate_theorems"] = module
    spec.loader.exec_module(module)
    return module


def test_the_table_of_theorems_and_the_errata_are_up_to_date(generator):
    """docs/theorems.md and docs/errata.md are what the docstrings say; an unknown notebook section is an error."""
    for path, text in generator.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"run python docs/generate_theorems.py: {path.name} is stale"


def test_every_erratum_has_a_section_of_its_notebook(generator):
    """The errata's sections are those of notebook 08, and each has an entry."""
    entries = generator.read(ROOT / "tests" / "theory" / "test_errata.py")
    assert {t.notebook[0] for t in entries} == {"08"}
    assert {t.notebook[1] for t in entries} == set(generator.SECTIONS) == set(generator.sections("08"))


def test_the_notebooks_are_executed_and_belong_to_their_scripts():
    """Every script has its notebook with the same cells, all executed, without an error, under one megabyte."""
    scripts = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
    assert len(scripts) == 11
    for script in scripts:
        path = script.with_suffix(".ipynb")
        assert path.stat().st_size < 1_000_000
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        written = script.read_text(encoding="utf-8")
        for magic in ("%matplotlib", "%pip"):
            written = written.replace(f"# {magic}", magic)
        for source in code:
            assert source in written, (
                f"run python notebooks/run.py {script.name[:2]}: a cell differs from {script.name}"
            )
        assert len(code) == sum(line.startswith("# %%") and "[markdown]" not in line for line in written.splitlines())
        for cell in cells:
            assert all(output["output_type"] != "error" for output in cell.get("outputs", []))
            skipped = "skip-execution" in cell["metadata"].get("tags", [])
            assert cell["cell_type"] != "code" or cell["execution_count"] or skipped


def test_every_notebook_opens_with_a_question():
    """The title asks, and prose stands before the first code."""
    for script in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py")):
        opening = script.read_text(encoding="utf-8").split("# %% [markdown]\n")[1].split("# %%")[0]
        title, *prose = opening.strip().splitlines()
        assert title.startswith("# # ") and title.endswith("?"), script.name
        assert sum(len(line.split()) for line in prose) >= 40, script.name
