"""The catalogue's pages are those of the code, and nothing in it is without a source or a test."""

import itertools
import re
from pathlib import Path

import catalogue_pages
import catalogue_remarks
import pybtex
import pybtex.database
import pytest
import yaml

import geomalign as ga
from geomalign.recipes import PUBLICATIONS
from geomalign.recipes import catalogue as table
from geomalign.recipes.rewards import opo as solved

ROOT = Path(__file__).parent.parent.parent
PAGES = catalogue_pages.pages()


@pytest.mark.parametrize("name", ga.recipes.names())
def test_every_recipe_has_a_publication(name: str) -> None:
    reference = PUBLICATIONS[name]
    assert reference.title and reference.loss and 1990 < reference.year < 2030
    assert reference.arxiv is None or re.fullmatch(r"\d{4}\.\d{4,5}", reference.arxiv)
    assert reference.arxiv or reference.venue, "a source that can be found"
    assert reference.arxiv is None or abs(int("20" + reference.arxiv[:2]) - reference.year) <= 0


def test_every_publication_belongs_to_a_recipe() -> None:
    assert set(PUBLICATIONS) == set(ga.recipes.names())


# Those of `solved` are this library's own, and tested with the theory of what they solve.
@pytest.mark.parametrize("name", [n for n in ga.recipes.names() if n not in solved.__all__])
def test_every_recipe_is_compared_with_its_formula(name: str) -> None:
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    pattern = re.compile(rf"""recipes\.{name}\(|["']{name}["']""")
    assert any(pattern.search(text) for text in tests)


@pytest.mark.parametrize("page", PAGES)
def test_the_committed_pages_are_generated(page: str) -> None:
    committed = (ROOT / "docs" / "catalogue" / page).read_text(encoding="utf-8")
    assert committed == PAGES[page], "run python docs/catalogue_pages.py"


def test_tables_are_well_formed() -> None:
    for name, page in PAGES.items():
        lines = page.splitlines()
        for above, line in itertools.pairwise(lines):
            if above.startswith("|") and line.startswith("|"):
                cells = [len(re.findall(r"(?<!\\)\|", row)) for row in (above, line)]
                assert cells[0] == cells[1], f"{name}: {line}"


def test_bibtex_has_each_publication_once() -> None:
    keys = re.findall(r"@misc\{([^,]+),", table.bibtex())
    assert len(keys) == len(set(keys)) and {r.key for r in PUBLICATIONS.values()} == set(keys)
    for reference in PUBLICATIONS.values():
        twins = {r.title for r in PUBLICATIONS.values() if r.key == reference.key}
        assert len(twins) == 1, f"two publications share the key {reference.key}"


@pytest.mark.parametrize("reference", {r.key: r for r in PUBLICATIONS.values()}.values(), ids=lambda r: r.key)
def test_bibtex_compiles_every_publication(reference: ga.recipes.Reference) -> None:
    """A brace, an apostrophe or a backslash ends a key for bibtex and biber; special characters end a line of LaTeX."""
    assert re.fullmatch("[a-z]+[0-9]{4}[a-z0-9]+", reference.key)
    entry = reference.bibtex()
    assert entry.isascii() and "\\" not in entry.split(",")[0]
    title = next(line for line in entry.splitlines() if line.startswith("  title"))
    assert not re.search(r"(?<!\\)[#$%&_]", title)
    compiled = pybtex.format_from_string(entry, "plain", output_backend="latex")
    assert rf"\bibitem[1]{{{reference.key}}}" in compiled and str(reference.year) in compiled
    assert any(word in compiled for word in reference.title.split())
    found = pybtex.database.parse_string(entry, "bibtex").entries[reference.key]
    assert found.persons["author"][0].last_names and found.fields["title"].startswith("{")


def test_names_are_printed_as_they_are_read() -> None:
    assert PUBLICATIONS["cfpo"].source == "Çağatan 2026" and PUBLICATIONS["apo_zero"].source == "D'Oosterlinck 2024"
    assert PUBLICATIONS["cfpo"].key == "cagatan2026clippingfree"


def test_the_citation_file_cites_the_package() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software" and cited["message"]
    assert cited["title"] == "geomalign" and cited["version"] == ga.__version__ and cited["license"] == "Apache-2.0"
    assert all(author.get("name") or author.get("family-names") for author in cited["authors"])
    for reference in cited["references"]:
        assert {"type", "title", "authors", "year"} <= reference.keys()
        number = next(i["value"] for i in reference["identifiers"] if i["type"] == "other").removeprefix("arXiv:")
        known = next(r for r in PUBLICATIONS.values() if r.arxiv == number)
        assert (reference["title"], reference["year"]) == (known.title, known.year)


def test_homonyms_name_recipes_that_exist() -> None:
    for name, here, _ in catalogue_remarks.HOMONYMS:
        for recipe in re.findall(r"^`(\w+)`:", here):
            assert recipe in ga.recipes.names() or recipe in dir(ga), f"{name}: {recipe}"


def test_own_parts_are_counted_from_the_slots() -> None:
    own = table.own_parts()
    assert own["grpo"] == own["dpo"] == set() and own["sapo"] == {"SigmoidClip"}
    assert f"{sum(1 for parts in own.values() if not parts)} of them" in PAGES["index.md"]


def test_the_periodic_table_holds_every_recipe_once() -> None:
    cells = table.periodic_table()
    assert sorted(tile.name for tiles in cells.values() for tile in tiles) == ga.recipes.names()
    places = {tile.name: place for place, tiles in cells.items() for tile in tiles}
    assert places["dpo"] == ("the label of a pair", "a logistic link") == places["wpo"]
    assert places["grpo"] == ("the group's rewards", "a wall") and places["gopo"][1] == "a square"
    assert {t.event for t in cells["the group's rewards", "a wall"]} == {"token", "response"}
    assert not any(t.decoupled for t in cells["the group's rewards", "a wall"])


def test_a_class_of_no_kind_is_named() -> None:
    with pytest.raises(ValueError, match="AdvantageScaled of ChiSquare is of no kind"):
        table._kind(table.PULLS, ga.AdvantageScaled(ga.ChiSquare(1.0)))
