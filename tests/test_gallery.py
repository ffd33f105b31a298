"""docs/gallery: short programs whose pictures can be read; docs/periodic-table: the recipes, with filters."""

import ast
import itertools
import math
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import periodic_table_page
import pytest
import torch

import geomalign as ga

DOCS = Path(__file__).parent.parent / "docs"
SCRIPTS = sorted((DOCS / "gallery").glob("plot_*.py"))
PAGE = DOCS / "periodic-table" / "index.html"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_a_program_is_short_and_says_what_it_shows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    title, line, *prose = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    assert len(line) >= len(title) and set(line) == {"="}, "the title is underlined, as sphinx-gallery reads it"
    assert len(re.findall(r"[.?]\s", " ".join(prose) + " ")) >= 3
    assert 30 <= len(text.splitlines()) <= 80


# ---- The pictures.


def visible_texts(figure: Any) -> Iterator[tuple[str, Any]]:
    """(text, box in pixels) of what is written in a drawn figure; labels of ticks outside the frame are not drawn."""
    for axis in figure.axes:
        labels = []
        for side, (low, high) in ((axis.xaxis, sorted(axis.get_xlim())), (axis.yaxis, sorted(axis.get_ylim()))):
            if axis.axison:
                labels += [tick.label1 for tick in side.get_major_ticks() if low <= tick.get_loc() <= high]
                labels.append(side.label)
        legend = axis.get_legend()
        texts = [*axis.texts, axis.title, axis._left_title, *labels, *(legend.get_texts() if legend else [])]
        for text in texts:
            if text.get_visible() and text.get_text().strip():
                yield text.get_text(), text.get_window_extent()


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_a_picture_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its panels say what is drawn, and no two texts lie on each other or leave the picture."""
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(plt, "show", lambda: None)
    dtype = torch.get_default_dtype()
    try:
        with matplotlib.rc_context():
            runpy.run_path(str(path))
            figures = [plt.figure(number) for number in plt.get_fignums()]
            assert figures
            for figure in figures:
                figure.canvas.draw()
                for axis in figure.axes:
                    assert not axis.axison or axis.get_xlabel() or axis.get_title(loc="left") or axis.get_ylabel()
                found = list(visible_texts(figure))
                assert found
                for text, box in found:
                    assert box.x0 >= -1 and box.y0 >= -1, text
                    assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, text
                for (one, a), (other, b) in itertools.combinations(found, 2):
                    wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
                    assert min(wide, high) <= 3, f"{one!r} lies on {other!r}"
    finally:
        plt.close("all")
        torch.set_default_dtype(dtype)


# ---- What their texts say in numbers.


def test_the_potentials_of_the_first_program_have_one_curvature_at_the_anchor() -> None:
    zero = torch.zeros(1)
    for of in (ga.ChiSquare(1.0), ga.KL(1.0), ga.ReverseKL(1.0), ga.Logistic(2.0)):
        assert of.curvature(zero).item() == 1
    assert [of.mirror(zero).item() for of in (ga.ReverseKL(1.0), ga.Logistic(2.0))] == [0, 1]
    assert ga.Logistic(2.0).conjugate_domain == ga.Interval(0.0, 2.0)
    assert ga.ReverseKL(1.0).mirror(torch.tensor([1e3])).item() == 1


def test_saturation_in_the_chart_settles_at_a_half_or_two_thirds() -> None:
    """A probability of one half can double: t = 2."""
    log_two, drive = torch.tensor([2.0]).log(), torch.ones(1)
    force = {
        (type(chart), type(of)): -of.force(chart(log_two), drive).item()
        for chart, of in (
            (ga.Ratio(), ga.ChiSquare(0.5)),
            (ga.Ratio(), ga.KL(0.5)),
            (ga.LogRatio(), ga.ChiSquare(0.5)),
            (ga.Ratio(), ga.Clip(0.2, 0.2)),
        )
    }
    assert list(force.values()) == pytest.approx([0.5, 1 - math.log(2) / 2, 1 - math.log(2) / 2, 0.0])
    assert 1 - math.log(2) / 2 == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.parametrize(
    ("unit", "measure", "ratio"),
    [
        (ga.Token(), ga.PooledMean(), 1),
        (ga.Token(), ga.NestedMean(), 3),
        (ga.Token(), ga.FixedBudget(8), 1),
        (ga.Sequence(), ga.PooledMean(), 1),
        (ga.MeanSequence(), ga.PooledMean(), 3),
    ],
    ids=str,
)
def test_what_a_token_of_the_short_response_weighs(unit: ga.Unit, measure: ga.Measure, ratio: int) -> None:
    """Against one of the long response, which has three times as many tokens."""
    mask = torch.arange(12) < torch.tensor([4, 12])[:, None]
    batch = ga.Batch(torch.zeros(2, 12), torch.zeros(2, 12), mask, advantage=torch.tensor([1.0, -1.0]))
    objective = ga.Objective(unit=unit, sampling=ga.Advantage(), optimization=ga.Flat(), measure=measure)
    short, long = objective.gradient(batch)[:, 0].tolist()
    assert -short / long == pytest.approx(ratio) and (short < 0 < long)


# ---- The table.


def test_the_table_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == periodic_table_page.page(), "run `python docs/periodic_table_page.py`"


def test_the_table_needs_no_network_and_its_files_exist() -> None:
    for path in (PAGE, PAGE.parent / "style.css", PAGE.parent / "table.js"):
        text = re.sub(r'<script type="application/json".*?</script>', "", path.read_text(encoding="utf-8"), flags=re.S)
        assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:)?//", text), path
        for target in re.findall(r'(?:src|href)="([^"#:]+)"', text):
            assert (PAGE.parent / target).exists(), target


def test_every_recipe_is_once_in_the_table() -> None:
    tiles = re.findall(r'data-recipe="(\w+)"', PAGE.read_text(encoding="utf-8"))
    assert len(tiles) == len(set(tiles)) and {"ppo", "grpo", "dpo", "opo", "tpo"} <= set(tiles) <= set(
        ga.recipes.names()
    )


@pytest.fixture
def table() -> Iterator[Any]:
    """Opens the page; whatever it says on the console, or asks of a network, fails the test."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    said: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def opened(address: str = "", width: int = 1280) -> Any:
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
            page.on("requestfailed", lambda request: said.append(f"missing {request.url}"))
            page.goto(PAGE.as_uri() + address)
            page.wait_for_function("document.documentElement.dataset.drawn")
            return page

        yield opened
        browser.close()
    assert not said


def shown(page: Any) -> set[str]:
    return {tile.get_attribute("data-recipe") for tile in page.locator(".tile:visible").all()}


@pytest.mark.slow
@pytest.mark.browser
def test_filters_keep_the_recipes_that_have_the_parts(table: Any) -> None:
    page, recipes = table(), periodic_table_page.data()
    everything = shown(page)
    page.select_option("select[name=unit]", "MeanSequence")
    page.select_option("select[name=chart]", "LogRatio")
    expected = {
        n
        for n in everything
        if "MeanSequence" in recipes[n]["classes"]["unit"] and "LogRatio" in recipes[n]["classes"]["chart"]
    }
    assert shown(page) == expected and {"opo", "ipo"} <= expected < everything
    again = table("#" + page.url.split("#")[1])  # the address holds the filters
    assert shown(again) == expected
    page.click("button[type=reset]")
    page.wait_for_function("!location.hash")
    assert shown(page) == everything
    page.fill("input[name=name]", "rafailov")
    assert "dpo" in shown(page) and "grpo" not in shown(page)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_table_is_used_by_keyboard_and_fits_a_phone(table: Any, width: int) -> None:
    page = table("", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    focused = "document.activeElement.dataset.recipe"
    page.focus(".tile[data-recipe=grpo]")
    page.keyboard.press("ArrowDown")
    other = page.evaluate(focused)
    assert other not in (None, "grpo")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) not in (None, other)
    page.focus(".tile[data-recipe=opo]")
    page.keyboard.press("Enter")
    assert page.inner_text("#detail h2") == "opo" and page.locator("#detail .katex").count()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    links = [link.get_attribute("href") for link in page.locator("#detail a").all()]
    assert "../catalogue/recipes.md#opo" in links and "../explorer/index.html#recipe=opo" in links
    page.keyboard.press("Escape")
    assert page.locator("#detail").is_hidden() and page.evaluate(focused) == "opo"
    unnamed = (
        "[...document.querySelectorAll('select, input')].filter(node => !node.labels.length).map(node => node.name)"
    )
    assert page.evaluate(unnamed) == []


@pytest.mark.slow
@pytest.mark.browser
def test_every_formula_of_the_table_is_set(table: Any) -> None:
    page = table()
    assert "grpo" in shown(page)
    for recipe in sorted(shown(page)):
        page.evaluate("name => { location.hash = `recipe=${name}`; }", recipe)
        page.wait_for_function("name => document.querySelector('#detail h2')?.textContent === name", arg=recipe)
        assert page.locator("#detail .katex-error").count() == 0, recipe
        assert page.locator("#detail .katex").count() == 1, recipe
