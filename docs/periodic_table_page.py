"""The recipes as a page with filters: `python docs/periodic_table_page.py` writes docs/periodic-table/index.html.

The table is plain HTML, and docs/periodic-table/table.js filters it. Formulas are set by the explorer's KaTeX.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import explorer_data

from geomalign.chart import Chart
from geomalign.measure import Measure
from geomalign.optimization import OptimizationGeometry
from geomalign.recipes.catalogue import PULLS, RESISTS, Entry, Tile, entries, parts, periodic_table
from geomalign.sampling import SamplingGeometry
from geomalign.unit import Unit

PAGE = Path(__file__).parent / "periodic-table" / "index.html"
SLOTS: dict[str, type] = {
    "unit": Unit,
    "chart": Chart,
    "sampling": SamplingGeometry,
    "optimization": OptimizationGeometry,
    "measure": Measure,
}
EVENTS = ("token", "response", "pair", "group")


def data() -> dict[str, Any]:
    """Of every recipe what the page shows: parts by slot, the classes to filter by, formula, source."""
    tiles = {tile.name: tile for cell in periodic_table().values() for tile in cell}
    return {entry.name: _recipe(entry, tiles[entry.name]) for entry in entries()}


def _recipe(entry: Entry, tile: Tile) -> dict[str, Any]:
    terms = [term for _, term in entry.terms]
    classes = {
        slot: sorted({part.__name__ for term in terms for part in parts(getattr(term, slot)) if issubclass(part, base)})
        for slot, base in SLOTS.items()
    }
    return {
        "call": entry.signature,
        "title": entry.reference.title,
        "source": entry.source,
        "url": entry.reference.url,
        "event": tile.event,
        "decoupled": "yes" if tile.decoupled else "no",
        "classes": classes,
        "terms": [
            [f"{coefficient:g}", *(repr(getattr(term, slot)) for slot in SLOTS)] for coefficient, term in entry.terms
        ],
        "latex": entry.formula,
        "explorer": explorer_data.shown(entry.objective),
    }


def page() -> str:
    """The HTML of the table, with the data of `data` in it."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in RESISTS)
    cells = periodic_table()
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row)}</th>'
        + "".join(_cell(column, cells.get((row, column), [])) for column in RESISTS)
        + "</tr>"
        for row in PULLS
    )
    recipes = json.dumps(data(), ensure_ascii=False, indent=0).replace("</", "<\\/")
    text = (PAGE.parent / "template.html").read_text(encoding="utf-8")
    for name, value in {"head": head, "rows": rows, "recipes": recipes, "filters": _filters()}.items():
        text = text.replace(f"<!-- {name} -->", value)
    return text


def _cell(column: str, tiles: list[Tile]) -> str:
    buttons = "".join(
        f'<button type="button" class="tile {tile.event}{"" if tile.decoupled else " coupled"}"'
        f' data-recipe="{tile.name}" aria-pressed="false"><b>{tile.name.replace("_", "_<wbr>")}</b>'
        f"<small>{escape(tile.source)}</small><small>{tile.event}</small></button>"
        for tile in tiles
    )
    return f'<td data-column="{escape(column)}">{buttons}</td>'


def _filters() -> str:
    """One menu per slot, the event and the decoupling; the script fills in what can be chosen."""
    names = (*SLOTS, "event", "decoupled")
    return "\n".join(
        f'<label>{name} <select name="{name}"><option value="">any</option></select></label>' for name in names
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
