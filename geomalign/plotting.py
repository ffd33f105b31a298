"""Figures: the gradient field of an objective, and the panels that the report is made of. The only drawing code."""

from __future__ import annotations

import contextlib
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geomalign.objective import BaseObjective, Objective
from geomalign.optimization import BregmanGeometry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from geomalign.identify import Identification
    from geomalign.recipes.table import Tile

# Okabe & Ito's palette, which stays apart for colour-blind readers; markers and dashes tell them apart in print.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1.5, 1)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 2)))
INK, MUTED, FAINT = "#222222", "#6b6b6b", "#dddddd"

STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "lines.linewidth": 1.6,
    "figure.dpi": 144,
    "savefig.dpi": 144,
    "mathtext.fontset": "cm",
}


@contextlib.contextmanager
def canvas(
    rows: int, columns: int, *, panel: tuple[float, float], **options: Any
) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure of rows × columns panels, `panel` inches each, in the house style; no global state is touched."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(rc=STYLE):
        figure = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, **options)
        yield figure, axes


def save(figure: Figure, path: str | Path, *, few_colors: bool = True) -> Path:
    """Write the figure without what would make equal figures differ; a PNG of few colours in a palette, to be small."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None} if path.suffix == ".png" else None)
    if few_colors and path.suffix == ".png":
        from PIL import Image

        with Image.open(path) as image:
            small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
    return path


def step_size(rate: float) -> str:
    """A step size as people write it.

    >>> step_size(5e-05), step_size(0.0002), step_size(0.01)
    ('5e-5', '2e-4', '0.01')
    """
    if rate >= 1e-3:
        return f"{rate:g}"
    mantissa, exponent = f"{rate:.6e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dash of each name, by its place in the list."""
    return {
        name: {"color": PALETTE[i % 7], "marker": MARKERS[i % 7], "linestyle": DASHES[(i + i // 7) % 7]}
        for i, name in enumerate(names)
    }


def spread(values: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Positions in the order of `values`, near to them, `gap` apart and, if there is room, between `low` and `high`.

    >>> spread([0.5, 0.52, 0.9], 0.1)
    [0.46, 0.56, 0.9]
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    blocks: list[list[float]] = []  # centre, size
    for i in order:
        blocks.append([values[i], 1.0])
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < gap * (blocks[-1][1] + blocks[-2][1]) / 2:
            (c, n), (b, m) = blocks.pop(), blocks.pop()
            blocks.append([(b * m + c * n) / (m + n), m + n])
    places = [centre + gap * (k - (size - 1) / 2) for centre, size in blocks for k in range(int(size))]
    for k in range(len(places)):
        places[k] = max(places[k], low + k * gap)
    for k in reversed(range(len(places))):
        places[k] = min(places[k], high - (len(places) - 1 - k) * gap)
    out = [0.0] * len(values)
    for i, place in zip(order, places):
        out[i] = round(place, 12)
    return out


def label_right(
    axis: Axes, ends: Mapping[str, float], look: Mapping[str, Mapping[str, Any]], size: float = 9.0
) -> None:
    """Write each name beside the right end of its line, moved apart where lines end together."""
    ends = {name: y for name, y in ends.items() if math.isfinite(y)}
    if not ends:
        return
    heights = axis.transData.transform([(0.0, y) for y in ends.values()])[:, 1]
    bottom, top = axis.transAxes.transform([(0.0, 0.0), (0.0, 1.0)])[:, 1]
    places = [(min(max(h, bottom), top) - bottom) / (top - bottom) for h in heights]
    height = axis.get_window_extent().height / STYLE["figure.dpi"] * 72
    for name, place in zip(ends, spread(places, 1.25 * size / height, 0.02, 1.0)):
        axis.annotate(
            name,
            (1.0, place),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=look[name]["color"],
            annotation_clip=False,
        )


# ------------------------------------------------------------------------------------------------ gradient fields


def gradient_field(objective: BaseObjective, path: str | Path, *, reach: float | None = None, title: str = "") -> Path:
    """Draw how an objective pushes: force on the log-ratio, field over (log-ratio, drive), and curvature.

    Left, −∂ℓ/∂Δ = slope(Δ)·(g − ∂φ/∂u) for drives from −1 to 1, or for the one drive there is: the direction of
    ascent that one event adds to its log-probability. Middle, the same for every drive; the black line is the
    equilibrium of a decoupled objective, hatched is where a drive exists and no push. Right, ∂²φ/∂u². For pairs
    the coordinate is the margin u itself. One row a term; a term's coefficient is multiplied in.

    Args:
        objective: any objective or sum.
        path: where to write; the ending chooses the format.
        reach: largest |log-ratio| (of pairs: |margin|) drawn, positive. None: a little beyond the equilibria.
        title: written above; the objective's name, usually.

    Returns:
        `path`.
    """
    if reach is not None and not reach > 0:
        raise ValueError(
            f"gradient_field(reach={reach!r}): the largest |log-ratio| drawn is positive; None chooses it."
        )
    terms = objective.terms
    with canvas(len(terms), 3, panel=(3.9, 3.1)) as (figure, axes):
        for row, (coefficient, term) in zip(axes, terms):
            _field_row(row, coefficient, term, reach)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        return save(figure, path, few_colors=False)


def periodic_table(path: str | Path) -> Path:
    """The recipes as tiles: rows say what pulls, columns what resists; coloured by what one event is.

    A tile with a dashed edge is not decoupled.

    Args:
        path: of the figure; its suffix is the format.
    """
    from geomalign.recipes.table import PULLS, RESISTS
    from geomalign.recipes.table import periodic_table as cells_of

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
        _tile(axis, (6, height + 0.14), 0.24, 0.3, "#ffffff", (0, (2, 1)))
        axis.text(6.32, height + 0.31, "resistance depends on the pull (coupled)", va="center", fontsize=8.5)
        return save(figure, path)


_EVENTS = {"token": "#cfe3f1", "response": "#cdebdf", "pair": "#f7dcc9"}


def _cell(axis: Axes, tiles: Sequence[Tile], corner: tuple[float, float], columns: int, rows: int) -> None:
    """The tiles of one cell, line by line; an empty cell is a faint place."""
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


def _coordinate(term: Objective, x: torch.Tensor) -> torch.Tensor:
    return x if term.unit.paired else term.chart(x)


def _reach(term: Objective, drives: torch.Tensor) -> float:
    """A little beyond where the drives come to rest, at most 1.5 nats; of pairs without, where the link is flat."""
    rest = term.optimization.equilibrium(drives)
    paired = term.unit.paired
    rest = rest if paired else term.chart.inverse(rest)
    rest = rest[torch.isfinite(rest)].abs()
    far = float(rest.max()) if len(rest) else 0.0
    if paired:
        return 2 * far if far else 6 / max(float(drives.abs().max()), 1e-9)
    return min(1.5, 2.5 * far) if far else 1.5


def _field_row(row: np.ndarray, coefficient: float, term: Objective, reach: float | None) -> None:
    paired = term.unit.paired
    geometry, pulls = term.optimization, term.sampling.range
    fixed = pulls.low if pulls.low == pulls.high else None
    drives = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0] if fixed is None else [fixed], dtype=torch.float64)
    reach = _reach(term, drives) if reach is None else reach
    x = torch.linspace(-reach, reach, 401, dtype=torch.float64)
    u = _coordinate(term, x)
    slope = torch.ones_like(x) if paired else term.chart.slope(x)

    def push(drive: torch.Tensor) -> torch.Tensor:
        g = drive[:, None].expand(-1, len(x))
        return -coefficient * slope * geometry.force(u.expand(len(drive), -1), g)

    left, middle, right = row
    xs = x.numpy()
    name = r"margin $u$" if paired else r"log-ratio $\Delta=\log\pi_\theta/\pi_k$"
    shades = _diverging(len(drives))
    lines = push(drives).numpy()
    texts = [f"g = {float(g):g}".replace("-", "−") for g in drives]
    for y, color, bold in zip(lines, shades, drives.abs() == drives.abs().max()):
        left.plot(xs, y, color=color, lw=2 if bold else 1.3)
    left.axhline(0, color=MUTED, lw=0.8, zorder=1)
    left.set(xlabel=name, ylabel=r"$-\partial\ell/\partial u$" if paired else r"$-\partial\ell/\partial\Delta$")
    left.set_title("push on an event" + (f", times {coefficient:g}" if coefficient != 1 else ""))
    left.margins(x=0)
    left.figure.draw_without_rendering()
    ends = {text: float(y[-1]) for text, y in zip(texts, lines)}
    label_right(left, ends, {text: {"color": color} for text, color in zip(texts, shades)}, size=8)

    low, high = (-1.0, 1.0) if fixed is None else (min(fixed, 0.0), max(fixed, 0.0))
    if low == high:
        high = float(geometry.force(u, torch.zeros_like(u)).abs().max()) or 1.0
        low = -high
    levels = torch.linspace(low, high, 201, dtype=torch.float64)
    span, field = levels.numpy(), push(levels).numpy()
    limit = float(np.abs(field).max()) or 1.0
    middle.grid(False)
    mesh = middle.pcolormesh(
        xs, span, field, cmap="RdBu_r", vmin=-limit, vmax=limit, shading="nearest", rasterized=True
    )
    middle.figure.colorbar(mesh, ax=middle, pad=0.02, fraction=0.06).outline.set_visible(False)
    off = ((field == 0) & (span[:, None] != 0)).astype(float)
    if isinstance(geometry, BregmanGeometry) and field.min() < 0 < field.max():
        middle.contour(xs, span, field, levels=[0.0], colors=INK, linewidths=1.2)
        middle.set_title("push for every drive; line: equilibrium")
    elif off.mean() > 0.01:
        middle.contourf(xs, span, off, levels=[0.5, 1.5], colors="none", hatches=["////"])
        middle.set_title("push for every drive; hatched: switched off")
    else:
        middle.set_title("push for every drive")
    if fixed is not None:
        middle.axhline(fixed, color=INK, lw=1.2, ls=(0, (4, 3)))
    middle.set(xlabel=name, ylabel="drive $g$")
    for axis in row:
        axis.locator_params(axis="x", nbins=5)

    curvature = coefficient * geometry.curvature(u, drives[-1].expand_as(u)).numpy()
    right.plot(xs, curvature, color=PALETTE[0])
    right.margins(x=0)
    right.set(xlabel=name, ylabel=r"$\varphi''(u)$")
    right.set_title("curvature")
    if not curvature.any():
        right.set_ylim(-0.05, 1)
        right.annotate("zero wherever it exists", (0.5, 0.1), xycoords="axes fraction", ha="center", color=MUTED)
    else:
        right.set_ylim(min(0.0, 1.08 * float(curvature.min())), 1.08 * float(curvature.max()))


def _diverging(count: int) -> list[str]:
    """Blue for what is pushed down, grey, vermillion for what is pushed up."""
    return ["#0072B2", "#7fb2d6", "#8a8a8a", "#e8a06f", "#D55E00"] if count == 5 else ["#D55E00"] * count


# ---------------------------------------------------------------------------------------------------- identification


def identification(report: Identification, path: str | Path, *, reach: float | None = None, title: str = "") -> Path:
    """Draw the geometry that was read off a loss: its force, its chart beside the two common ones, its curvature.

    Args:
        report: of `identify`.
        path: where to write.
        reach: largest |log-ratio| drawn, in nats, positive. None: 1.5, of margins until a link of this label is flat.
        title: written above.

    Returns:
        `path`.
    """
    drives = report.advantage.tolist()
    if reach is None:
        strength = float(report.drive.abs().max())
        reach = 1.5 if report.kind == "advantage" else min(30.0, 6 / max(strength, 0.2))
    shown = [i for i, a in enumerate(drives) if len(drives) < 6 or a in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    name = r"margin $\Delta$" if report.kind == "margin" else r"log-ratio $\Delta=\log\pi_\theta/\pi_k$"
    inside = (report.log_ratio.abs() <= reach).numpy()
    x = report.log_ratio.numpy()[inside]
    with canvas(1, 3, panel=(3.9, 3.4)) as (figure, axes):
        left, middle, right = axes[0]
        shades = _diverging(len(shown)) if len(shown) in (1, 5) else [PALETTE[k % 7] for k in range(len(shown))]
        look, ends = {}, {}
        for i, color in zip(shown, shades):
            text = (f"A = {drives[i]:g}" if len(drives) > 1 else "label").replace("-", "−")
            y = -report.force[:, i].numpy()[inside]
            left.plot(x, y, color=color, lw=1.6)
            look[text], ends[text] = {"color": color}, float(y[-1])
        left.axhline(0, color=MUTED, lw=0.8, zorder=1)
        left.set(xlabel=name, ylabel=r"$-\partial\ell/\partial\Delta$")
        left.set_title("push on an event")
        left.margins(x=0)

        low, high = max(-reach, report.chart.domain.low), min(reach, report.chart.domain.high)
        grid = torch.linspace(low, high, 301, dtype=torch.float64)
        u = report.chart(grid)
        xs = grid.numpy()
        middle.plot(xs, xs, color=MUTED, lw=1, ls=(0, (4, 3)))
        middle.plot(xs, np.expm1(xs), color=MUTED, lw=1, ls=(0, (1, 2)))
        middle.plot(xs, u.numpy(), color=PALETTE[0], lw=2)
        middle.set(xlabel=name, ylabel="$u$", ylim=_around(u.numpy()))
        named = report.recognised.chart
        middle.set_title(f"chart: {named!r}" if named is not None else "chart (dashed: Δ, dotted: t − 1)")
        middle.margins(x=0)

        probed = [None] if report.decoupled else [a for a in drives if a in (-1.0, 1.0)] or drives[-1:]
        for advantage, color in zip(probed, (PALETTE[0], PALETTE[1])):
            curvature = report.curvature(u, advantage).numpy()
            label = "" if advantage is None else f"A = {advantage:g}".replace("-", "−")
            right.plot(xs, curvature, color=color, label=label)
        if len(probed) > 1:
            right.legend(frameon=False, fontsize=8.5)
        lines = [line.get_ydata() for line in right.get_lines()]
        right.set(xlabel=name, ylabel=r"$\varphi''(u)$", ylim=_around(np.concatenate(lines)))
        right.set_title("curvature, " + ("decoupled from the drive" if report.decoupled else "coupled to the drive"))
        right.margins(x=0)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        figure.draw_without_rendering()
        label_right(left, ends, look, size=8)
        return save(figure, path, few_colors=False)


def _around(y: np.ndarray) -> tuple[float, float]:
    """Limits that show zero and what most of the curve does; poles run out of the frame, rounding stays invisible."""
    y = y[np.isfinite(y)]
    low, high = np.percentile(y, [2, 98]) if len(y) else (0.0, 0.0)
    low, high = min(0.0, float(low)), max(0.0, float(high))
    if high - low < 1e-6:
        return -0.05, 1.0
    margin = 0.12 * (high - low)
    return (low - margin if low < -1e-6 * high else low), high + margin


# ----------------------------------------------------------------------------------------------- panels of the report


def curves(
    path: str | Path,
    names: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[tuple[str, str]],
    data: Mapping[tuple[str, str, int], tuple[np.ndarray, np.ndarray]],
    *,
    xlabel: str = "iteration",
) -> Path:
    """Small multiples: one row a quantity, one column a step size, one line an objective (mean; band: all seeds).

    Args:
        rows: (title, scale) of each quantity, scale "linear", "log" or "share" (linear, 0 to 1).
        data: (name, column, row) → (x of shape (S,), y of shape (seeds, S), NaN where not measured).
    """
    look = looks(names)
    with canvas(len(rows), len(columns), panel=(4.6, 2.25), sharex=True, sharey="row") as (figure, axes):
        for r, (title, scale) in enumerate(rows):
            for c, column in enumerate(columns):
                axis = axes[r, c]
                for name in names:
                    if (name, column, r) not in data:
                        continue
                    x, y = data[name, column, r]
                    y = _shown(y, scale)
                    seen = np.isfinite(y).any(axis=0)
                    if not seen.any():
                        continue
                    x, y = x[seen], y[:, seen]
                    axis.fill_between(x, np.nanmin(y, 0), np.nanmax(y, 0), color=look[name]["color"], alpha=0.13, lw=0)
                    sparse = {"marker": look[name]["marker"], "markersize": 4} if len(x) < 12 else {}
                    axis.plot(x, _mean(y, scale), color=look[name]["color"], ls=look[name]["linestyle"], **sparse)
                if scale == "log":
                    _log_axis(axis)
                if scale == "share":
                    axis.set_ylim(-0.03, 1.03)
                axis.margins(x=0.01)
                if r == 0:
                    axis.set_title(column, fontsize=10.5, fontweight="bold", pad=18)
                if c == 0:
                    axis.annotate(
                        title, (0, 1), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", fontsize=9.5
                    )
                if r == len(rows) - 1:
                    axis.set_xlabel(xlabel)
        figure.draw_without_rendering()
        for r, (_, scale) in enumerate(rows):
            ends = {}
            for name in names:
                x, y = data.get((name, columns[-1], r), (np.zeros(0), np.zeros((1, 0))))
                y = _shown(y, scale)
                seen = np.isfinite(y).any(axis=0)
                if seen.any():
                    ends[name] = float(_mean(y[:, seen], scale)[-1])
            label_right(axes[r, -1], ends, look)
        return save(figure, path)


def _mean(y: np.ndarray, scale: str) -> np.ndarray:
    """Over seeds; the geometric mean where the axis is logarithmic."""
    return np.exp(np.nanmean(np.log(y), axis=0)) if scale == "log" else np.nanmean(y, axis=0)


def _shown(y: np.ndarray, scale: str) -> np.ndarray:
    """On a logarithmic axis, zero and what is rounding of zero cannot be drawn."""
    return np.where(y > 1e-12, y, np.nan) if scale == "log" else y


def _log_axis(axis: Axes) -> None:
    """Ticks that can be read: 1, 2, 5 within a decade or two, powers of ten beyond."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if axis.get_lines():
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        if high / low < 1.2:
            axis.set_ylim(low := low / 2, high := high * 2)
        narrow = high / low < 300
        axis.yaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5) if high / low < 30 else (1, 3) if narrow else (1,), numticks=7)
        )
        axis.yaxis.set_minor_locator(NullLocator())
        if narrow:
            axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def step_sizes(
    path: str | Path,
    names: Sequence[str],
    rates: Sequence[str],
    panels: Sequence[tuple[str, float | None]],
    data: Mapping[tuple[str, str, int], tuple[float, float, np.ndarray]],
) -> Path:
    """The main figure: final accuracy by step size, one panel a distribution, with intervals and every seed's dot.

    Args:
        panels: (title, accuracy before training or None).
        data: (name, rate, panel) → (mean, half-width of the interval or NaN, the seeds' values).
    """
    look = looks(names)
    width = max(5.2, 1.6 + 1.5 * len(rates))
    with canvas(1, len(panels), panel=(width, 4.4), sharey=True) as (figure, axes):
        gap = min(0.16, 0.64 / max(1, len(names)))
        offsets = (np.arange(len(names)) - (len(names) - 1) / 2) * gap
        for p, (title, base) in enumerate(panels):
            axis = axes[0, p]
            if base is not None:
                axis.axhline(base, color=MUTED, lw=1, ls=(0, (2, 2)), zorder=1)
                title += f"; dashed: before training, {base:.0%}"
            for name, offset in zip(names, offsets):
                places = [i for i, rate in enumerate(rates) if (name, rate, p) in data]
                means = [data[name, rates[i], p][0] for i in places]
                color, marker = look[name]["color"], look[name]["marker"]
                axis.plot(np.array(places) + offset, means, color=color, lw=1.1, alpha=0.55, ls=look[name]["linestyle"])
                for i in places:
                    mean, half, seeds = data[name, rates[i], p]
                    if math.isfinite(half):
                        low, high = max(0.0, mean - half), min(1.0, mean + half)
                        axis.vlines(i + offset, low, high, color=color, lw=2.2, alpha=0.45)
                    if len(seeds) > 1:
                        beside = np.full(len(seeds), i + offset + 0.32 * gap)
                        axis.plot(beside, seeds, ls="", marker="o", ms=3.2, mfc="none", mec=color, mew=0.9)
                    axis.plot(i + offset, mean, marker=marker, ms=7.5, color=color, mec="white", mew=0.9, zorder=4)
            axis.set_xticks(range(len(rates)), rates)
            axis.set_xlim(-0.5, len(rates) - 0.5)
            axis.set_ylim(-0.02, 1.02)
            axis.grid(axis="x", visible=False)
            axis.set_yticks(np.linspace(0, 1, 6), [f"{v:.0%}" for v in np.linspace(0, 1, 6)])
            axis.set_title(title, pad=10)
            axis.set_xlabel("step size")
        axes[0, 0].set_ylabel("final greedy accuracy")
        figure.draw_without_rendering()
        for p in range(len(panels)):
            ends = {name: data[name, rates[-1], p][0] for name in names if (name, rates[-1], p) in data}
            label_right(axes[0, p], ends, look, size=10)
        return save(figure, path)


def time_split(
    path: str | Path,
    names: Sequence[str],
    phases: Sequence[str],
    seconds: Mapping[tuple[str, str], float],
    speed: Mapping[str, float],
) -> Path:
    """Where the wall time of a run goes: one bar an objective, one piece a phase, tokens per second beside it."""
    shades = ("#0072B2", "#56B4E9", "#E69F00", "#bbbbbb", "#e3e3e3")
    with canvas(1, 1, panel=(9.2, 1.15 + 0.42 * len(names))) as (figure, axes):
        axis = axes[0, 0]
        y = np.arange(len(names))[::-1]
        left = np.zeros(len(names))
        longest = max(sum(seconds.get((name, phase), 0.0) for phase in phases) for name in names) or 1.0
        for phase, shade in zip(phases, shades):
            width = np.array([seconds.get((name, phase), 0.0) for name in names])
            axis.barh(y, width, left=left, height=0.62, color=shade, edgecolor="white", lw=1, label=phase)
            for k in range(len(names)):
                if width[k] > 0.04 * longest:
                    ink = "white" if shade == "#0072B2" else INK
                    axis.text(
                        left[k] + width[k] / 2,
                        y[k],
                        f"{width[k]:.3g} s",
                        ha="center",
                        va="center",
                        fontsize=8,
                        color=ink,
                    )
            left += width
        axis.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=len(phases),
            frameon=False,
            fontsize=8.5,
            handlelength=1,
            borderpad=0.2,
        )
        for k, name in enumerate(names):
            if math.isfinite(speed.get(name, math.nan)):
                axis.text(left[k] + 0.01 * longest, y[k], f"{speed[name]:,.0f} tokens/s", va="center", fontsize=8.5)
        axis.set_yticks(y, names)
        axis.set_xlim(0, longest * 1.17)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("wall seconds a run, mean over runs")
        return save(figure, path)
