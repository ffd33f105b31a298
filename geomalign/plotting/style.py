"""The style that all figures share: colours, canvas, labels beside lines, small and reproducible files."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, whose colours differ for colour-blind readers too; in print, markers and dashes differ.
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
    """A figure of rows × columns panels in the common style, and their axes; no global state of matplotlib changes.

    Args:
        rows, columns: how many panels.
        panel: width and height of each, in inches.
        options: of `Figure.subplots`, such as `sharey=True`.

    >>> from geomalign import plotting
    >>> with plotting.canvas(1, 2, panel=(3.0, 2.0)) as (figure, axes):
    ...     lines = axes[0, 0].plot([0, 1], [0, 1])
    >>> axes.shape
    (1, 2)
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(rc=STYLE):
        figure = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, **options)
        yield figure, axes


def save(figure: Figure, path: str | Path, *, few_colors: bool = True) -> Path:
    """Writes a figure without metadata that would make files of equal figures differ.

    Args:
        figure: from `canvas`.
        path: where to write; missing folders are made, and the ending chooses the format.
        few_colors: whether a PNG is reduced to 256 colours, which makes it small.

    Returns:
        `path`.

    >>> import tempfile
    >>> from geomalign import plotting
    >>> with tempfile.TemporaryDirectory() as folder, plotting.canvas(1, 1, panel=(2.0, 2.0)) as (figure, _):
    ...     plotting.save(figure, f"{folder}/new/empty.png").name
    'empty.png'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # What matplotlib would write of its version or of the date makes files of equal figures differ.
    stamp = {".png": "Software", ".pdf": "CreationDate", ".svg": "Date"}.get(path.suffix)
    figure.savefig(path, metadata={stamp: None} if stamp else None)
    if few_colors and path.suffix == ".png":
        from PIL import Image

        with Image.open(path) as image:
            small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
    return path


def step_size(rate: float) -> str:
    """A step size in the shortest usual notation.

    >>> step_size(5e-05), step_size(0.0002), step_size(0.01)
    ('5e-5', '2e-4', '0.01')
    """
    if rate >= 1e-3:
        return f"{rate:g}"
    mantissa, exponent = f"{rate:.6e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dash of each name, by its place in the list.

    >>> looks(["opo", "grpo"])["grpo"]["marker"]
    's'
    """
    return {
        name: {"color": PALETTE[i % 7], "marker": MARKERS[i % 7], "linestyle": DASHES[(i + i // 7) % 7]}
        for i, name in enumerate(names)
    }


def spread(values: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Positions in the order of `values`, near to them and at least `gap` apart, between `low` and `high` if they fit.

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
    """Writes each name beside the right end of its line, moved apart where lines end together.

    Args:
        axis: a panel that has been drawn, so that its size is known.
        ends: by name, the height at which its line ends; NaN is left out.
        look: by name, at least its "color".
        size: of the letters, in points.

    >>> from geomalign import plotting
    >>> with plotting.canvas(1, 1, panel=(2.0, 2.0)) as (figure, axes):
    ...     plotting.label_right(axes[0, 0], {"opo": 0.5, "grpo": 0.51}, plotting.looks(["opo", "grpo"]))
    >>> [text.get_text() for text in axes[0, 0].texts]
    ['opo', 'grpo']
    """
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


def diverging(count: int) -> list[str]:
    """Five colours from blue (pushed down) over grey to vermilion (pushed up); for another count, vermilion alone.

    >>> diverging(1)
    ['#D55E00']
    """
    return ["#0072B2", "#7fb2d6", "#8a8a8a", "#e8a06f", "#D55E00"] if count == 5 else ["#D55E00"] * count
