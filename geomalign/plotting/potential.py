"""Potentials side by side: what it costs to leave the anchor, what holds back, what a drive gains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from geomalign.optimization import BregmanGeometry, OptimizationGeometry
from geomalign.plotting.style import DASHES, INK, MUTED, PALETTE, canvas, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def potentials(
    geometries: Mapping[str, OptimizationGeometry],
    path: str | Path,
    *,
    reach: float = 2.0,
    drive: float | None = None,
    title: str = "",
) -> Path:
    """Draws potentials φ(u), their mirrors φ'(u) and their conjugates φ*(g) = max_u [g u − φ(u)], each in a panel.

    A curve ends where its potential or its conjugate is infinite. A potential of a group is drawn as that of two
    opposite responses, at u and −u.

    Args:
        geometries: at most seven decoupled optimization geometries, by the name that the legend shows.
        path: where to write; the ending chooses the format.
        reach: largest |u| and |g| drawn, positive.
        drive: marked in all panels with the place u* where each potential balances it; None marks nothing.
        title: written above.

    Returns:
        `path`.

    Raises:
        ValueError: there is no geometry or there are more than seven, one of them is coupled to the drive, or the reach
            is not positive.

    >>> import tempfile, geomalign as ga
    >>> from geomalign import plotting
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plotting.potentials({"χ²": ga.ChiSquare(), "KL": ga.KL()}, f"{folder}/p.png", drive=0.5)
    >>> figure.name
    'p.png'
    """
    if not 0 < len(geometries) <= len(PALETTE):
        raise ValueError(f"potentials of {len(geometries)} geometries: one figure shows one to {len(PALETTE)} of them.")
    if not reach > 0:
        raise ValueError(f"potentials(reach={reach!r}): the largest |u| drawn must be positive, usually 1 to 3.")
    with canvas(1, 3, panel=(3.9, 3.5)) as (figure, axes):
        cost, force, gain = axes[0]
        for (name, geometry), color, dash in zip(geometries.items(), PALETTE, DASHES):
            section = geometry.section
            if not isinstance(section, BregmanGeometry):
                raise ValueError(
                    f"{name!r} is {geometry!r}, whose potential contains the drive, so that it has no one curve. "
                    "gradient_field draws an objective with it, at several drives."
                )
            look = {"color": color, "ls": dash}
            span = torch.linspace(-reach, reach, 801, dtype=torch.float64)
            u = span[(span >= section.domain.low) & (span <= section.domain.high)]
            conjugate = section.conjugate(span)
            cost.plot(u, section.value(u), label=name, **look)
            force.plot(u, section.mirror(u), **look)
            gain.plot(span, torch.where(conjugate.isfinite(), conjugate, torch.nan), **look)
            if drive is not None:
                g = torch.tensor(drive, dtype=torch.float64)
                rest = section.equilibrium(g)
                if rest.isfinite() and rest.abs() <= reach:
                    for axis, x, y in (
                        (cost, rest, section.value(rest)),
                        (force, rest, g),
                        (gain, g, section.conjugate(g)),
                    ):
                        axis.plot(x, y, "o", color=color, ms=5)
        if drive is not None:
            force.axhline(drive, color=MUTED, lw=0.8, zorder=1)
            gain.axvline(drive, color=MUTED, lw=0.8, zorder=1)
        cost.set(title=r"potential $\varphi(u)$: the cost", xlabel="coordinate $u$", ylabel=r"$\varphi(u)$")
        force.set(title=r"mirror $\varphi'(u)$: what holds back", xlabel="coordinate $u$", ylabel=r"$\varphi'(u)$")
        gain.set(title=r"conjugate $\varphi^*(g)$: what a drive gains", xlabel="drive $g$", ylabel=r"$\varphi^*(g)$")
        for axis in (cost, force, gain):
            axis.set_xlim(-reach, reach)
            _bound(axis, 1.6 * reach)
        cost.legend(frameon=False, labelcolor=INK)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        return save(figure, path)


def _bound(axis: Axes, limit: float) -> None:
    """Poles run out of the frame instead of flattening everything else."""
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, -limit), min(high, limit))
