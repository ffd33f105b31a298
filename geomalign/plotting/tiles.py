"""The figure of the periodic table of the recipes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geomalign.plotting.style import INK, MUTED, canvas, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from geomalign.recipes.catalogue import Tile

_EVENTS = {"token": "#cfe3f1", "response": "#cdebdf", "pair": "#f7dcc9", "group": "#e6d9f2"}


def periodic_table(path: str | Path) -> Path:
    """Draws the recipes as tiles: rows say what pulls, columns what resists, colours what one event is.

    A tile with a dashed edge is not decoupled.

    Args:
        path: where to write; the ending chooses the format.

    Returns:
        `path`.

    >>> import tempfile
    >>> from geomalign import plotting
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plotting.periodic_table(f"{folder}/table.png")
    >>> figure.name
    'table.png'
    """
    from geomalign.recipes.catalogue import PULLS, RESISTS
    from geomalign.recipes.catalogue import periodic_table as cells_of

    cells = cells_of()
    # Three lines of tiles at most, so that no cell is much taller than the others.
    widths = {column: -(-max(len(cells.get((row, column), ())) for row in PULLS) // 3) for column in RESISTS}
    heights = {row: max(-(-len(cells.get((row, column), ())) // widths[column]) for column in RESISTS) for row in PULLS}
    left = dict(zip(widths, np.cumsum([0.0] + [w + 0.14 for w in widths.values()])))
    top = dict(zip(heights, np.cumsum([0.0] + [h + 0.2 for h in heights.values()])))
    width, height = sum(widths.values()) + 0.14 * (len(widths) - 1), sum(heights.values()) + 0.2 * (len(heights) - 1)
    with canvas(1, 1, panel=(0.8 * (width + 1.5), 0.46 * (height + 1.7))) as (figure, axes):
        axis = axes[0, 0]
        axis.set(xlim=(-1.5, width), ylim=(height + 0.5, -1.2))
        axis.axis("off")
        for column, x in left.items():
            axis.text(x + widths[column] / 2, -0.25, column, ha="center", fontsize=9.5, weight="bold")
        axis.text(-0.12, -0.25, "resists:", ha="right", fontsize=9, color=MUTED)
        axis.text(-0.12, -0.75, "The recipes by what pulls and what resists", fontsize=11, weight="bold")
        for row, y in top.items():
            words = "\n".join(textwrap.wrap(row, 13))
            axis.text(-0.12, y + heights[row] / 2, words, ha="right", va="center", fontsize=9, weight="bold")
            for column, x in left.items():
                _cell(axis, cells.get((row, column), ()), (x, y), widths[column], heights[row])
        for k, (event, color) in enumerate(_EVENTS.items()):
            _tile(axis, (2 * k, height + 0.14), 0.24, 0.3, color, "-")
            axis.text(2 * k + 0.32, height + 0.31, f"event: a {event}", va="center", fontsize=8.5)
        _tile(axis, (2 * len(_EVENTS), height + 0.14), 0.24, 0.3, "#ffffff", (0, (2, 1)))
        axis.text(
            2 * len(_EVENTS) + 0.32,
            height + 0.31,
            "not decoupled: resists by the pull, or not convexly",
            va="center",
            fontsize=8.5,
        )
        return save(figure, path)


def _cell(axis: Axes, tiles: Sequence[Tile], corner: tuple[float, float], columns: int, rows: int) -> None:
    """The tiles of one cell, line by line; an empty cell is drawn as a faint rectangle."""
    from matplotlib.patches import Rectangle

    x, y = corner
    if not tiles:
        axis.add_patch(Rectangle((x + 0.03, y + 0.04), columns - 0.06, rows - 0.08, facecolor="#f6f6f6", linewidth=0))
    for k, tile in enumerate(tiles):
        at = (x + k % columns + 0.03, y + k // columns + 0.04)
        _tile(axis, at, 0.94, 0.92, _EVENTS[tile.event], "-" if tile.decoupled else (0, (2, 1)))
        lines = [line.replace(" ", "_") for line in textwrap.wrap(tile.name.replace("_", " "), 13)]
        _fitted(axis, (at[0] + 0.47, at[1] + 0.37), "_\n".join(lines), 7.2, 11.5)
        _fitted(axis, (at[0] + 0.47, at[1] + 0.78), tile.source, 5.6, 15, color=MUTED)


def _fitted(axis: Axes, at: tuple[float, float], text: str, size: float, letters: float, **options: Any) -> None:
    """Centred text, smaller where a line has more letters than fit into a tile."""
    size *= min(1.0, letters / max(map(len, text.split("\n"))))
    axis.text(*at, text, ha="center", va="center", fontsize=size, linespacing=0.95, **options)


def _tile(axis: Axes, corner: tuple[float, float], width: float, height: float, color: str, edge: Any) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle(corner, width, height, facecolor=color, edgecolor=INK, linewidth=0.7, linestyle=edge))
