"""The gradient field of an objective: how it pushes an event at every log-ratio and drive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from geomalign.objective import BaseObjective, Objective
from geomalign.optimization import BregmanGeometry
from geomalign.plotting.style import INK, MUTED, PALETTE, canvas, diverging, label_right, save


def gradient_field(objective: BaseObjective, path: str | Path, *, reach: float | None = None, title: str = "") -> Path:
    """Draws how an objective pushes: force on the log-ratio, field over (log-ratio, drive), and curvature.

    The left panel shows −∂ℓ/∂Δ = slope(Δ)·(g − ∂φ/∂u) for drives from −1 to 1, or for the one drive there is: the
    direction of ascent that one event adds to its log-probability. The middle panel shows the same for every drive; the
    black line is the equilibrium of a decoupled objective, and hatched is where a drive exists and no push. The right
    panel shows ∂²φ/∂u². For pairs the coordinate is the margin u itself. There is one row per term, times the term's
    coefficient.

    Args:
        objective: any objective or sum.
        path: where to write; the ending chooses the format.
        reach: largest |log-ratio| (of pairs: |margin|) drawn, positive. None: a little beyond the equilibria.
        title: written above; the objective's name, usually.

    Returns:
        `path`.

    Raises:
        ValueError: the reach is not positive.

    >>> import tempfile, geomalign as ga
    >>> from geomalign import plotting
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plotting.gradient_field(ga.recipes.get("opo"), f"{folder}/opo.png", title="opo")
    >>> figure.name
    'opo.png'
    """
    if reach is not None and not reach > 0:
        raise ValueError(
            f"gradient_field(reach={reach!r}): the largest |log-ratio| drawn must be positive; None chooses it."
        )
    terms = objective.terms
    with canvas(len(terms), 3, panel=(3.9, 3.1)) as (figure, axes):
        for row, (coefficient, term) in zip(axes, terms):
            _field_row(row, coefficient, term, reach)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        return save(figure, path, few_colors=False)


def _coordinate(term: Objective, x: torch.Tensor) -> torch.Tensor:
    return x if term.unit.paired else term.chart(x)


def _reach(term: Objective, drives: torch.Tensor) -> float:
    """A little beyond the equilibria of the drives, at most 1.5 nats; of pairs without any, where the link is flat."""
    rest = term.optimization.section.equilibrium(drives)
    paired = term.unit.paired
    rest = rest if paired else term.chart.inverse(rest)
    rest = rest[torch.isfinite(rest)].abs()
    far = float(rest.max()) if len(rest) else 0.0
    if paired:
        return 2 * far if far else 6 / max(float(drives.abs().max()), 1e-9)
    return min(1.5, 2.5 * far) if far else 1.5


def _field_row(row: np.ndarray, coefficient: float, term: Objective, reach: float | None) -> None:
    paired = term.unit.paired
    geometry, pulls = term.optimization, term.sampling.drive_range
    fixed = None if term.sampling.driven else pulls.low
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
    shades = diverging(len(drives))
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
