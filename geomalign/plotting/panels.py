"""The figures of which the report of a comparison is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geomalign.plotting.style import INK, MUTED, canvas, label_right, looks, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curves(
    path: str | Path,
    names: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[tuple[str, str]],
    data: Mapping[tuple[str, str, int], tuple[np.ndarray, np.ndarray]],
    *,
    xlabel: str = "iteration",
) -> Path:
    """Draws small multiples: one row per quantity, one column per step size, one line per objective (mean and range).

    Args:
        path: where to write.
        names: of the objectives.
        columns: titles of the columns.
        rows: (title, scale) of each quantity, scale "linear", "log" or "share" (linear, 0 to 1).
        data: (name, column, row) → (x of shape (S,), y of shape (seeds, S), NaN where not measured).
        xlabel: below the last row.

    Returns:
        `path`.

    >>> import tempfile, numpy as np
    >>> from geomalign import plotting
    >>> data = {("opo", "1e-4", 0): (np.arange(3), np.array([[0.1, 0.4, 0.5]]))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plotting.curves(f"{folder}/c.png", ["opo"], ["1e-4"], [("reward", "share")], data)
    >>> figure.name
    'c.png'
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
    """The values that can be drawn: a logarithmic axis has no place for zero, nor for its rounding below 1e-12."""
    return np.where(y > 1e-12, y, np.nan) if scale == "log" else y


def _log_axis(axis: Axes) -> None:
    """Readable ticks: round numbers within half a decade, 1, 2, 5 within one and a half, powers of ten beyond."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if axis.get_lines():
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        if high / low < 1.2:
            axis.set_ylim(low := low / 2, high := high * 2)
        narrow = high / low < 300
        axis.yaxis.set_major_locator(
            MaxNLocator(5)
            if high / low < 3
            else LogLocator(subs=(1, 2, 5) if high / low < 30 else (1, 3) if narrow else (1,), numticks=7)
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
    """Draws the main figure: final accuracy by step size, one panel per distribution, with intervals and seeds.

    Args:
        path: where to write.
        names: of the objectives.
        rates: the step sizes, as they are written.
        panels: (title, accuracy before training or None).
        data: (name, rate, panel) → (mean, half-width of the interval or NaN, the seeds' values).

    Returns:
        `path`.

    >>> import tempfile, numpy as np
    >>> from geomalign import plotting
    >>> data = {("opo", "1e-4", 0): (0.5, 0.2, np.array([0.4, 0.6]))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plotting.step_sizes(f"{folder}/s.png", ["opo"], ["1e-4"], [("trained", 0.1)], data)
    >>> figure.name
    's.png'
    """
    look = looks(names)
    width = max(5.2 if len(panels) < 3 else 4.2, 1.6 + 1.5 * len(rates))
    with canvas(1, len(panels), panel=(width, 4.4), sharey=True) as (figure, axes):
        gap = min(0.16, 0.64 / max(1, len(names)))
        offsets = (np.arange(len(names)) - (len(names) - 1) / 2) * gap
        for p, (title, base) in enumerate(panels):
            axis = axes[0, p]
            if base is not None:
                axis.axhline(base, color=MUTED, lw=1, ls=(0, (2, 2)), zorder=1)
                title += f"\ndashed: before training, {base:.0%}"
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
    """Draws where the wall time of a run goes: one bar per objective, one piece per phase, and tokens per second.

    Args:
        path: where to write.
        names: of the objectives.
        phases: of an iteration, at most five, in the order of the pieces.
        seconds: (name, phase) → mean wall seconds over runs.
        speed: by name, tokens per second; NaN is left out.

    Returns:
        `path`.

    >>> import tempfile
    >>> from geomalign import plotting
    >>> seconds = {("opo", "generate"): 8.0, ("opo", "step"): 4.0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plotting.time_split(f"{folder}/t.png", ["opo"], ["generate", "step"], seconds, {"opo": 950.0})
    >>> figure.name
    't.png'
    """
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
        axis.set_xlabel("wall seconds per run, mean over runs")
        return save(figure, path)
