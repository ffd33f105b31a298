"""README.md and docs/: every Python block runs, every command parses, every public name has an entry."""

import contextlib
import dataclasses
import doctest
import importlib
import io
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import api_pages
import pytest
import readme_table

import geomalign as ga
from geomalign import cli

ROOT = Path(__file__).parent.parent

EXAMPLE = re.compile(r"^\s*(>>> |```py)", flags=re.MULTILINE)

NAMES = {9: "nine", 10: "ten", 11: "eleven", 12: "twelve", 80: "eighty", 90: "ninety", 100: "hundred"}

MADE = {"_build", "api", "notebooks", "results"}


def documents() -> list[Path]:
    docs = [p for p in (ROOT / "docs").rglob("*.md") if p.relative_to(ROOT / "docs").parts[0] not in MADE]
    return [ROOT / "README.md", *sorted(docs)]


def blocks(path: Path, language: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every fenced block of a language."""
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        yield text[: found.start()].count("\n") + 1, found.group(1)


def shown_outputs(path: Path) -> dict[int, str]:
    """Line of a Python block → the text block right behind it, which is what the code prints."""
    text = path.read_text(encoding="utf-8")
    fences = list(re.finditer(r"^```(\w*)\n(.*?)^```\n", text, flags=re.MULTILINE | re.DOTALL))
    return {
        text[: code.start()].count("\n") + 1: output.group(2)
        for code, output in itertools.pairwise(fences)
        if (code.group(1), output.group(1)) == ("python", "text") and not text[code.end() : output.start()].strip()
    }


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def agree(shown: str, printed: str) -> bool:
    """Whether a page shows what its code prints: `...` stands for anything, and white space is one space."""
    return doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


@pytest.mark.float32
@pytest.mark.parametrize("path", [p for p in documents() if any(blocks(p, "python"))], ids=name)
def test_python_blocks_run_in_order(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__readme__"}
    shown = shown_outputs(path)
    for line, code in blocks(path, "python"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile("\n" * line + code, str(path), "exec"), names)
        if line in shown:
            assert agree(shown[line], printed.getvalue()), f"line {line} of {path.name} prints\n{printed.getvalue()}"
    if path.name == "README.md":
        assert names["logits"].softmax(1).diagonal().mean() > 0.5  # it learnt: one in ten by chance


@pytest.mark.parametrize("heading", ["An example", "Your own geometry"])
def test_examples_of_the_readme_are_short(heading: str) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(f"## {heading}")[1].split("\n## ")[0]
    code, *checks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 15
    assert all(line.startswith("ga.laws.check_") for check in checks for line in check.splitlines())


@pytest.mark.parametrize("path", documents(), ids=name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        made = (path.parent / target).parts[-2:-1] in {("api",), ("notebooks",), ("auto_gallery",)}  # by the docs build
        if "://" not in target and not made:
            assert (path.parent / target).exists(), target


def commands() -> list[tuple[str, str]]:
    found = []
    for path in documents():
        for language in ("console", "bash"):
            for _, text in blocks(path, language):
                lines = [line.removeprefix("$ ") for line in text.splitlines()]
                found += [(name(path), line) for line in lines if line.startswith("geomalign ")]
    return found


@pytest.mark.parametrize(("path", "line"), commands())
def test_commands_parse(path: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With --help behind them, all options are read and nothing is done."""
    words = shlex.split(line, comments=True)[1:]
    assert cli.main([*words, "--help"]) == 0, capsys.readouterr().out


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_numbers_of_the_readme_are_those_of_the_pages_that_it_points_to() -> None:
    readme, identify, parity, report = (
        " ".join((ROOT / path).read_text(encoding="utf-8").split())
        for path in ("README.md", "docs/identify/index.md", "docs/parity.md", "docs/results/report.md")
    )
    count = len(ga.recipes.names())
    assert f"some {NAMES[round(count - 7, -1)]} further" in readme, "beside the seven that the sentence names"
    (recovered,) = re.findall(rf"(\d+) of the {count} recipes of the catalogue", identify)
    assert f"The slots of {recovered} of the {count} recipes" in readme
    (compared, equal) = re.search(rf"(\d+) of {count} recipes have a reference .*?, (\d+) of them", parity).groups()  # type: ignore[union-attr]
    libraries = {entry.split()[0] for entry in re.findall(r"entry point: (.*?)\. Both", parity)[0].split(", ")}
    numbers = f"{compared} recipes were compared with the code of {NAMES[len(libraries)]} other"
    assert numbers in readme and f"{equal} equal one of them" in readme
    notebooks = list((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert f"{NAMES[len(notebooks)]} [notebooks]" in readme
    assert "187k-parameter" in readme and "with 186,528 parameters" in report
    assert "every objective stays at 4–6 %, from 4 %" in readme and "3.9% on level 6 (never seen)" in report
    tables = re.findall(r"level 6, % \| reward .*?(?=\| objective)", report)
    unseen = [re.findall(r"\| \w+ (?:\| [\d.]+ ± [\d.]+ ){2}\| ([\d.]+) ±", table) for table in tables]
    assert {round(float(x)) for found in unseen for x in found} == {4, 5, 6} and [*map(len, unseen)] == [4, 4]


def test_the_table_of_recipes_is_that_of_the_recipes() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_table.written(text) == text, "run python docs/readme_table.py"


def test_every_public_name_has_an_entry_with_a_docstring() -> None:
    written = "\n".join(api_pages.pages().values())
    names = api_pages.public_names()
    assert {"Objective", "Batch", "ChiSquare", "Escort", "metrics"} <= set(names)
    for public, value in names.items():
        assert re.search(rf"^::::\{{py:\w+\}} geomalign\.{public}(\(|$)", written, flags=re.MULTILINE), public
        assert isinstance(value, type) is False or value.__doc__, f"{public} has no docstring"
        assert not (value.__doc__ or "").startswith(f"{public}("), f"{public} has only the docstring dataclass made"


def test_every_recipe_is_on_the_recipes_page() -> None:
    page = api_pages.pages()["recipes.md"]
    for recipe in ga.recipes.names():
        if getattr(ga.recipes, recipe).__module__.startswith("geomalign.recipes"):
            assert f"geomalign.recipes.{recipe}(" in page


def written() -> list[Path]:
    """The documents, and the scripts that make or accompany them."""
    scripts = [p for folder in ("docs", "notebooks", "examples") for p in (ROOT / folder).glob("*.py")]
    return [*documents(), *sorted(scripts), *sorted((ROOT / "examples" / "verl").glob("*.*"))]


def dotted_names(text: str) -> set[str]:
    """`geomalign.x.y`, `ga.x.y`, and what is imported `from geomalign.x`, as dotted names; no names of files."""
    found = set(re.findall(r"(?<![\w./-])geomalign(?:\.[A-Za-z_]\w*)+(?![\w/-])", text))
    found |= {f"geomalign.{name}" for name in re.findall(r"(?<![\w.])ga\.([A-Za-z_][\w.]*\w)", text)}
    for module, names in re.findall(r"^\s*from (geomalign[\w.]*) import ([\w, ]+)$", text, flags=re.MULTILINE):
        found |= {f"{module}.{name.split()[0]}" for name in names.split(",") if name.strip()}
    return {name for name in found if name.rpartition(".")[2] not in {"yaml", "toml", "py"}}


def exists(dotted: str) -> bool:
    """Whether a dotted name leads to a module, an attribute or a field."""
    value: Any = ga
    parts = dotted.split(".")
    for count, part in enumerate(parts[1:], 2):
        if dataclasses.is_dataclass(value) and part in {field.name for field in dataclasses.fields(value)}:
            return True
        with contextlib.suppress(ImportError):
            importlib.import_module(".".join(parts[:count]))
        try:
            value = getattr(value, part)
        except AttributeError:
            return False
        except ModuleNotFoundError as missing:  # a class that extends one of a trainer that is not installed
            return not (missing.name or "").startswith("geomalign")
    return True


@pytest.mark.parametrize("path", [p for p in written() if dotted_names(p.read_text(encoding="utf-8"))], ids=name)
def test_names_in_the_documentation_exist(path: Path) -> None:
    assert not [dotted for dotted in sorted(dotted_names(path.read_text(encoding="utf-8"))) if not exists(dotted)]


def test_names_that_do_not_exist_are_found() -> None:
    text = "`geomalign.parity.run`, `ga.Leash(1)`, geomalign.yaml\nfrom geomalign.batch import Nobody, Batch\n"
    wrong = {dotted for dotted in dotted_names(text) if not exists(dotted)}
    assert wrong == {"geomalign.parity.run", "geomalign.Leash", "geomalign.batch.Nobody"}
    assert all(map(exists, ("geomalign.Batch.old", "geomalign.laws.compare_loss", "geomalign.cli.app")))


def test_every_public_name_has_an_example() -> None:
    """In the flat namespace, the slots, the recipes, and the public modules beside them."""
    found = dict(api_pages.public_names())
    for module in (*api_pages.SLOTS, "objective", "control", "analysis", *api_pages.BESIDE):
        found |= {f"{module}.{name}": value for name, value in api_pages.beside(module).items()}
    without = [name for name, value in found.items() if callable(value) and not EXAMPLE.search(value.__doc__ or "")]
    assert not without, f"an example that runs is missing: {without}"
