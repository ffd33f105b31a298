"""The figure of an identified loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from geomalign.plotting.style import MUTED, PALETTE, canvas, diverging, label_right, save

if TYPE_CHECKING:
    from geomalign.analysis.identification import Identification


def identification(report: Identification, path: str | Path, *, reach: float | None = None, title: str = "") -> Path:
    """Draws the geometry that was read off a loss: its force, its chart beside the two common ones, its curvature.

    Args:
        report: what `identify` returned.
        path: where to write; the ending chooses the format.
        reach: largest |log-ratio| drawn, in nats, positive. None: 1.5, of margins until a link of this label is flat.
        title: written above.

    Returns:
        `path`.

    >>> import tempfile, geomalign as ga
    >>> from geomalign import plotting
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plotting.identification(ga.identify(lambda margin: (margin - 1) ** 2), f"{folder}/ipo.png")
    >>> figure.name
    'ipo.png'
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
        shades = diverging(len(shown)) if len(shown) in (1, 5) else [PALETTE[k % 7] for k in range(len(shown))]
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
