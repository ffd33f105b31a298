"""docs/explorer: its data are current, and in Chromium its numbers are torch's, its grips move, its Python runs."""

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import explorer_data
import pytest
import torch

import geomalign as ga

PAGE = Path(__file__).parent.parent / "docs" / "explorer" / "index.html"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browser_test(test: Callable[..., None]) -> Callable[..., None]:
    """A test that opens the page: about a second each, so they run with the slow ones."""
    return pytest.mark.browser(pytest.mark.slow(test))


@pytest.fixture(scope="module")
def fresh() -> dict[str, Any]:
    return explorer_data.data()


def test_data_are_current(fresh: dict[str, Any]) -> None:
    assert explorer_data.same(explorer_data.read(), fresh), "run `python docs/explorer_data.py`"


def test_a_changed_number_is_not_current(fresh: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(fresh))
    changed["recipes"]["opo"]["reference"][0]["energy"][0] += 1e-9
    assert not explorer_data.same(changed, fresh)


def test_the_well_known_methods_are_shown(fresh: dict[str, Any]) -> None:
    known = {"ppo", "grpo", "dr_grpo", "dapo", "gspo", "cispo", "gopo", "opo", "dpo", "ipo", "simpo", "slic", "chi_po"}
    assert known <= fresh["recipes"].keys()
    assert not set(fresh["left_out"]) & fresh["recipes"].keys()


def test_the_page_needs_no_network() -> None:
    for path in PAGE.parent.rglob("*"):
        if path.suffix in {".html", ".css"} or (path.suffix == ".js" and path.parent == PAGE.parent):
            assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:)?//", path.read_text(encoding="utf-8")), path
    assert {"d3.LICENSE", "katex.LICENSE"} <= {path.name for path in (PAGE.parent / "vendor").iterdir()}


# ---- In a browser.

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Open]:
    """Opens the page at an address; whatever it says on the console, or asks of a network, fails the test."""
    said: list[str] = []
    contexts: list[Any] = []

    def opened(address: str = "", width: int = 1280, **options: Any) -> Any:
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
        page.on("requestfailed", lambda request: said.append(f"missing {request.url}"))
        page.goto(PAGE.as_uri() + address)
        page.wait_for_function("document.documentElement.dataset.drawn > 0")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not said


def settle(page: Any, action: str) -> None:
    """Run a statement in the page and wait until the figures show it."""
    page.evaluate(
        f"new Promise((done) => {{ {action}; requestAnimationFrame(() => requestAnimationFrame(() => done(0))); }})"
    )


def shapes(page: Any, figure: str) -> str:
    """Everything that a figure draws, its grips aside."""
    return str(page.eval_on_selector(f"[data-figure='{figure}'] svg .curves", "node => node.innerHTML"))


def drag(page: Any, grip: str, dx: float, dy: float) -> None:
    handle = page.locator(f"[data-handle='{grip}'] .grip")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx / 2, y + dy / 2)
    page.mouse.move(x + dx, y + dy)
    page.mouse.up()
    settle(page, "")


def number(page: Any, name: str) -> float:
    return float(page.get_attribute(f"output[data-name='{name}']", "data-value"))


@browser_test
def test_numbers_equal_those_of_torch(visit: Open, fresh: dict[str, Any]) -> None:
    page = visit()
    found = page.evaluate("data => GA.compare(data)", fresh)
    assert found["count"] > 4000
    assert found["worst"] <= 1e-12, found["where"]
    fresh = json.loads(json.dumps(fresh))
    fresh["targets"][0]["probability"][0] += 1e-9
    assert page.evaluate("data => GA.compare(data)", fresh)["worst"] > 1e-10


@browser_test
def test_numbers_beside_the_figures_are_those_of_the_state(visit: Open) -> None:
    page = visit("#recipe=opo&d=0.3&g=1.5")
    u = torch.tensor(0.3)
    assert number(page, "energy") == pytest.approx(float(ga.ChiSquare().energy(u, torch.tensor(1.5))), abs=1e-12)
    assert number(page, "u*") == 1.5
    drive = ga.Escort(alpha=0.4).drive(ga.Batch(torch.zeros(3, 1), None, reward=torch.tensor([1.0, 0.6, 0.0])))
    assert [number(page, f"g{i}") for i in "₁₂₃"] == pytest.approx(drive.tolist(), abs=1e-12)
    assert number(page, "a token of 2") == pytest.approx(1 / 22, abs=1e-12)


GRIPS = [
    ("#recipe=opo", "stiffness", "potential", (0, -40)),
    ("#recipe=ppo", "high", "potential", (30, 0)),
    ("#recipe=ppo&g=-1", "low", "potential", (-10, 0)),
    ("#recipe=opo", "drive", "force", (0, -30)),
    ("#recipe=dpo", "drive", "force", (0, 30)),
    ("#recipe=opo", "delta", "force", (-40, 0)),
    ("#recipe=chi_po", "log-ratio", "pull", (40, 0)),
    ("#recipe=gopo", "policy", "simplex", (30, -30)),
    ("#recipe=opo&r=1,0.6,0,0.3,0.8", "policy", "simplex", (30, -30)),
    ("#recipe=opo", "reward-1", "simplex", (0, -60)),
    ("#a=ppo&b=cfpo", "overlay-delta", "overlay-pull", None),
    ("", "length-0", "measure", (80, 0)),
    ("", "w-3", "weights", (0, 40)),
    ("", "cap", "weights", (0, 40)),
]


@browser_test
@pytest.mark.parametrize(("address", "grip", "figure", "by"), GRIPS, ids=lambda x: x if isinstance(x, str) else "")
def test_dragging_a_grip_moves_the_curves(visit: Open, address: str, grip: str, figure: str, by: Any) -> None:
    page = visit(address)
    before, place = shapes(page, figure), page.url
    numbers = page.inner_text("[data-report='overlay']")
    drag(page, grip, *(by or (40, 0)))
    assert page.url != place
    if by is None:
        assert page.inner_text("[data-report='overlay']") != numbers
    else:
        assert shapes(page, figure) != before


@browser_test
def test_the_potential_goes_where_it_is_dragged(visit: Open) -> None:
    page = visit("#recipe=opo")
    before = page.evaluate("GA.state.optimization.args.mu")
    drag(page, "stiffness", 0, -30)
    after = page.evaluate("GA.state.optimization.args.mu")
    assert after > before == 1
    drag(page, "stiffness", 0, 60)
    assert page.evaluate("GA.state.optimization.args.mu") < after
    page = visit("#recipe=dpo")
    drag(page, "stiffness", 0, -20)
    assert page.evaluate("GA.state.sampling.args.strength === GA.state.optimization.args.beta")


@browser_test
@pytest.mark.parametrize("width", [1280, 390])
def test_every_grip_and_control_is_used_by_keyboard_and_named(visit: Open, width: int) -> None:
    page = visit("#recipe=ppo", width)
    for handle in page.locator("[data-handle]").all():
        grip = handle.get_attribute("data-handle")
        assert handle.get_attribute("aria-label")
        handle.focus()
        before = page.url
        page.keyboard.press("ArrowRight" if grip not in {"drive"} else "ArrowUp")
        settle(page, "")
        assert page.url != before, grip
        assert page.evaluate("document.activeElement.dataset.handle") == grip  # the focus survives the new drawing
    unnamed = "[...document.querySelectorAll('select, input')].filter(node => !node.labels.length).map(node => node.id)"
    assert page.evaluate(unnamed) == []
    page.focus("#n-optimization-high")
    page.keyboard.press("ArrowRight")
    settle(page, "")
    assert page.evaluate("GA.state.optimization.args.high") > 0.2
    assert page.evaluate("document.activeElement.id") == "n-optimization-high"


@browser_test
def test_a_phone_shows_everything_in_its_width(visit: Open) -> None:
    page = visit("#recipe=chi_po&r=1,0.6,0,0.3,0.8", 390, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = "(selector) => [...document.querySelectorAll(selector)].map(n => n.getBoundingClientRect())"
    count = (
        f"([selector, right, height]) => ({boxes})(selector).filter(b => b.right > right || b.height < height).length"
    )
    assert page.evaluate(count, ["figure svg, select, input, .slot", 391, 0]) == 0
    assert page.evaluate(count, ["select, button, .slider input", 391, 43]) == 0  # large enough for a finger
    narrow = page.eval_on_selector("[data-figure='potential'] svg", "node => node.clientWidth")
    assert 300 < narrow <= 390


@browser_test
def test_every_recipe_is_drawn_and_named(visit: Open, fresh: dict[str, Any]) -> None:
    page = visit()
    for name in fresh["recipes"]:
        settle(page, f"GA.load('{name}'); GA.set({{a: '{name}'}})")
        assert page.evaluate("GA.names(GA.state).exact").count(name) == 1, name
        assert "NaN" not in page.evaluate("document.querySelector('#views').innerHTML"), name


@browser_test
def test_a_composition_has_its_name_or_the_nearest_one(visit: Open) -> None:
    page = visit("#recipe=opo")
    assert page.inner_text("#name").startswith("This is opo (")
    settle(page, "GA.setNumber('optimization', 'mu', 3)")
    assert "with other numbers" in page.inner_text("#name")
    settle(page, "GA.set({chart: GA.parse('Power(power=0.5)')})")
    assert "no name" in page.inner_text("#name") and "differs in chart" in page.inner_text("#name")


@browser_test
def test_the_address_holds_the_state(visit: Open) -> None:
    page = visit("#recipe=dapo&r=1,0.5,0.25,-1&l=4,20")
    drag(page, "cap", 0, 30)
    drag(page, "policy", 20, 10)
    again = visit("#" + page.url.split("#")[1])
    assert again.evaluate("GA.state") == page.evaluate("GA.state")
    settle(again, "location.hash = '#recipe=ipo'")
    again.wait_for_function("GA.state.unit.class === 'Pair'")
    odd = visit("#unit=Nothing()&chart=((&optimization=Label()&g=much&r=1&z=,&a=none&x=-1&l=9")
    assert odd.evaluate("GA.state") == visit().evaluate("GA.state")


STATES = [
    "",
    "#recipe=ppo&d=0.1",
    "#recipe=grpo&r=1,0.6,0,0.3,0.8",
    "#recipe=gopo",
    "#recipe=dpo&d=3",
    "#recipe=simpo",
    "#recipe=chi_po&d=-0.7",
    "#recipe=a2po",
    "#recipe=sapo&g=-1",
    "#recipe=kto",
    "#recipe=cispo",
    "#unit=Sequence()&chart=Power(power=0.5)&sampling=GroupAdvantage()&optimization=KL(beta=0.3)&measure=NestedMean()&r=1,0,0",
    "#recipe=cfpo&optimization=AdvantageScaled(of=ChiSquare(mu=3))&anchor=reference",
]


@browser_test
@pytest.mark.float32
@pytest.mark.parametrize("address", STATES)
def test_the_python_runs_and_prints_the_numbers_of_the_page(visit: Open, address: str) -> None:
    page = visit(address)
    code = page.inner_text("#python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "explorer", "exec"), {"__name__": "__explorer__"})
    u, energy, force, loss = map(float, printed.getvalue().split())
    here = page.evaluate("GA.event({...GA.state, coefficient: 1}).at(GA.state.d, GA.state.g)")
    assert [u, energy, force] == pytest.approx([here["u"], here["energy"], here["force"]], rel=1e-12, abs=1e-12)
    assert abs(loss) < 1e6


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@browser_test
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_text_have_contrast(visit: Open, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    read = "name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()"
    for ground in ("paper", "card"):
        for name in ("ink", "muted", "sampling", "optimization", "chart", "measure"):
            one, other = sorted((luminance(page.evaluate(read, ground)), luminance(page.evaluate(read, name))))
            assert (other + 0.05) / (one + 0.05) >= 4.5, (scheme, ground, name)
