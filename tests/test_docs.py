"""The pages: formulas set without a network, in their column; every entry once; what they name exists."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import api_pages
import katex_math
import pytest
import test_explorer
import torch
import why_figures

import geomalign as ga

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MADE = {"_build", "api", "notebooks", "auto_gallery"}
REST = re.compile(r":(?:\w+:)?\w+:`|^\s*\.\. \w+::|(?<!`)``(?!`)", flags=re.MULTILINE)
chromium = test_explorer.chromium


def pages() -> list[Path]:
    return [p for p in sorted(DOCS.rglob("*.md")) if p.relative_to(DOCS).parts[0] not in MADE]


def toctree_entries(path: Path) -> list[str]:
    """The documents that a page's toctrees name, relative to docs/."""
    found = []
    for body in re.findall(r"^```\{toctree\}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S):
        lines = [line.strip() for line in body.splitlines() if line.strip() and not line.startswith(":")]
        names = [re.sub(r".*<(.*)>$", r"\1", line) for line in lines]
        found += [str((path.parent / name).relative_to(DOCS)) for name in names]
    return found


def test_no_page_stands_in_the_sidebar_twice() -> None:
    entries = Counter(entry for path in pages() for entry in toctree_entries(path))
    assert {"start", "why-one-formula", "catalogue/recipes", "trainers/trl"} <= set(entries)
    assert not [entry for entry, count in entries.items() if count > 1 or "*" in entry]


def test_no_page_has_restructured_text_in_it() -> None:
    texts = {str(path): path.read_text(encoding="utf-8") for path in pages()} | api_pages.pages()
    assert not {name: REST.findall(text)[:3] for name, text in texts.items() if REST.search(text)}
    assert REST.search("see :func:`metrics`") and REST.search("``metrics``") and REST.search("\n.. math::\n")


def test_the_numbers_that_symptoms_name_are_logged() -> None:
    """Every name in the column "look at first" is a metric, of one of the three functions that make them."""
    old = torch.zeros(4, 3)
    batch = ga.Batch(old, old, reward=torch.tensor([1.0, 0, 0, 1]), behavior=old)
    known = {*ga.metrics(ga.recipes.grpo()(batch)), *ga.policy_metrics(batch), *ga.drop_nonfinite(batch)[1].metrics()}
    table = (DOCS / "symptoms.md").read_text(encoding="utf-8").split("|---|---|---|\n")[1].split("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[2])}
    assert len(named) > 8 and named - known == {"outcome.weights"}
    assert ga.recipes.grpo()(batch).weights is not None


def test_the_extras_that_start_names_exist() -> None:
    written = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = set(re.findall(r"^(\w+) = \[", written.split("[project.optional-dependencies]")[1], flags=re.MULTILINE))
    table = (DOCS / "start.md").read_text(encoding="utf-8").split("|---|---|\n")[1].split("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert {"trl", "data"} <= named <= extras


def test_citing_says_what_the_citation_file_says() -> None:
    page, file = ((path).read_text(encoding="utf-8") for path in (DOCS / "citing.md", ROOT / "CITATION.cff"))
    assert f"version = {{{ga.__version__}}}" in page and f"version: {ga.__version__}\n" in file
    assert "license = {Apache-2.0}" in page and "license: Apache-2.0" in file


@pytest.mark.slow
def test_figures_of_why_one_formula_are_made_by_a_command(tmp_path: Path) -> None:
    why_figures.main(tmp_path)
    shown = re.findall(r"\(figures/(why-[\w-]+\.png)\)", (DOCS / "why-one-formula.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(path.name for path in tmp_path.iterdir())
    assert "docs/why_figures.py" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("tex", "clauses"),
    [
        (r"a=\left[b+\left[c\right]\right],\quad d=1;\quad e", [r"a=\Bigl[b+\left[c\right]\Bigr],", " d=1;", " e"]),
        (r"\left(a,\quad b\right),\qquad c", [r"\left(a,\quad b\right),", " c"]),
        (r"\frac{a,\quad b}{2}", [r"\frac{a,\quad b}{2}"]),
        (r"\left\lbrace a\right\rbrace", [r"\left\lbrace a\right\rbrace"]),
    ],
)
def test_long_formulas_break_between_clauses_and_within_brackets(tex: str, clauses: list[str]) -> None:
    assert katex_math.clauses(katex_math.breakable(tex)) == clauses


# ---- As built, in a browser.


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """The pages as `make docs` builds them. One test reads them: a build takes most of a minute."""
    for package in ("sphinx", "sphinx_gallery"):
        pytest.importorskip(package, reason="what builds the pages is not installed: pip install -e '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return tmp_path


LOOK = """() => {
  const column = document.querySelector("article").getBoundingClientRect().right + 2;
  const scrolls = ".math, .table-wrapper, .highlight, .cell_output, .genindextable";
  return {
    unset: [...document.querySelectorAll(".tex")].filter((n) => !n.querySelector(".katex")).length,
    wrong: [...document.querySelectorAll(".katex-error")].map((n) => n.textContent),
    sideways: document.documentElement.scrollWidth - innerWidth,
    outside: [...document.querySelectorAll("article :is(code, p, img, span.tex, div.math)")]
      .filter((n) => !n.parentElement.closest(scrolls) && n.getBoundingClientRect().right > column)
      .map((n) => n.textContent.slice(0, 60)),
  };
}"""


@test_explorer.browser_test
def test_built_pages_set_their_formulas_and_stay_in_their_column(built: Path, chromium: Any) -> None:
    """At the width of a desk and of a telephone, from files, without a network and without a word on the console."""
    files = [path for path in sorted(built.rglob("*.html")) if "formulas.js" in path.read_text(encoding="utf-8")]
    assert len(files) > 60
    for width in (1280, 390):
        said: list[str] = []
        context = chromium.new_context(viewport={"width": width, "height": 900})
        page = context.new_page()
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("request", lambda asked, said=said: asked.url.startswith(("file:", "data:")) or said.append(asked.url))
        page.on("requestfailed", lambda asked, said=said: said.append(f"missing {asked.url}"))
        for file in files:
            page.goto(file.as_uri())
            page.wait_for_function("document.documentElement.dataset.formulas === 'set'")
            seen = page.evaluate(LOOK)
            assert seen == {"unset": 0, "wrong": [], "sideways": 0, "outside": []}, (width, file.relative_to(built))
            assert not said, (width, file.relative_to(built))
        context.close()
    tree = (
        (built / "index.html").read_text(encoding="utf-8").split('<div class="sidebar-tree">')[1].split("</aside>")[0]
    )
    links = re.findall(r'<a class="reference internal" href="([^"]+)"', tree)
    assert len(links) > 40
    assert not [link for link, count in Counter(links).items() if count > 1]
