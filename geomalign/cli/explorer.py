"""The explorer page: where it lies, and how it is opened at an objective."""

from __future__ import annotations

import html
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from geomalign.objective import BaseObjective

SLOTS = ("unit", "chart", "sampling", "optimization", "measure")


def page() -> Path:
    """The explorer's index.html: in the installed package, or in the repository that the package is run from.

    Raises:
        ValueError: it is in neither.

    >>> page().name
    'index.html'
    """
    package = Path(__file__).parents[1]
    places = (package / "_explorer", package.parent / "docs" / "explorer")
    found = next((place / "index.html" for place in places if (place / "index.html").is_file()), None)
    if found is None:
        raise ValueError(f"the explorer's page is neither in {places[0]} nor in {places[1]}; install geomalign again.")
    return found


def address(name: str = "", objective: BaseObjective | None = None) -> str:
    """The page's address, at the start or at an objective.

    Args:
        name: of the recipe, which names the objective where the page has it.
        objective: whose slots are shown.

    Raises:
        ValueError: the objective is a sum, or has a part that the page does not have.

    >>> address("opo").endswith("/index.html#recipe=opo")
    True
    >>> import geomalign as ga
    >>> address("opo", ga.recipes.opo(mu=10.0)).partition("optimization=")[2].partition("&")[0]
    'ChiSquare%28mu%3D10.0%29'
    """
    query = {"recipe": name} if name else {}
    if objective is not None:
        if len(objective.terms) > 1:
            raise ValueError(
                f"the explorer shows one term, and {name} is a sum of {len(objective.terms)}; `geomalign show {name} "
                "--plot FILE` draws all of them."
            )
        (coefficient, term), *_ = objective.terms
        code = "".join(file.read_text(encoding="utf-8") for file in sorted(page().parent.glob("*.js")))
        if missing := [part for slot in SLOTS if type(part := getattr(term, slot)).__name__ not in code]:
            raise ValueError(
                f"the explorer's page does not have {', '.join(map(repr, missing))}, of which {name} is made."
            )
        query |= {slot: repr(getattr(term, slot)) for slot in SLOTS}
        query |= {"anchor": str(term.anchor), "coefficient": f"{coefficient:g}"}
    return page().absolute().as_uri() + (f"#{urlencode(query)}" if query else "")


def open_page(link: str) -> bool:
    """Open an address in the browser; whether there was one to open it in.

    The desktop's own openers drop what stands behind # in the address of a file, so a page that leads there is opened.

    Args:
        link: as `address` returns it.
    """
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="geomalign-explorer-", suffix=".html", delete=False
    ) as file:
        file.write(
            f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={html.escape(link)}">'
        )
    return webbrowser.open(Path(file.name).as_uri())
