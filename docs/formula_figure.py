"""The picture of the formula in README.md: what pulls, what resists, where they balance.

    python docs/formula_figure.py

writes docs/figures/formula.png. Every curve is evaluated from the library's own geometries.
"""

from __future__ import annotations

from pathlib import Path

import torch

import geomalign as ga
from geomalign.plotting.style import DASHES, INK, MUTED, PALETTE, canvas, save

BLUE, ORANGE, GREEN, PINK = PALETTE[:4]


def pulls(axis) -> None:  # type: ignore[no-untyped-def]
    """The drive of eight responses to one prompt, by three sampling geometries."""
    reward = torch.tensor([0.0, 0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0], dtype=torch.float64)
    batch = ga.Batch(torch.zeros(8, 1, dtype=torch.float64), None, reward=reward)
    members = {
        "Escort(0.4)": ga.Escort(alpha=0.4, temperature=0.25),
        "GroupAdvantage": ga.GroupAdvantage(),
        "Advantage": ga.Advantage(),
    }
    for k, (name, geometry) in enumerate(members.items()):
        axis.plot(reward, geometry.drive(batch), marker="o", ms=3.5, color=PALETTE[k], ls=DASHES[k], label=name)
    axis.axhline(0, color=MUTED, lw=0.8)
    axis.set(title="sampling: what pulls", xlabel="reward of the response", ylabel="drive $g$")
    axis.legend(frameon=False, fontsize=8)


def resists(axis) -> None:  # type: ignore[no-untyped-def]
    """The mirror φ' of four optimization geometries."""
    u = torch.linspace(-2.2, 2.2, 401, dtype=torch.float64)
    members = {
        "ChiSquare": ga.ChiSquare(),
        "KL": ga.KL(),
        "Logistic": ga.Logistic(beta=1.0),
        "Clip": ga.Clip(low=0.8, high=0.8),
    }
    for k, (name, geometry) in enumerate(members.items()):
        inside = u[(u > geometry.domain.low) & (u < geometry.domain.high)]
        axis.plot(inside, geometry.mirror(inside, torch.ones_like(inside)), color=PALETTE[k], ls=DASHES[k], label=name)
    axis.set(title="optimization: what resists", xlabel="coordinate $u$", ylabel=r"$\varphi'(u)$, at drive 1")
    axis.set_ylim(-2.4, 2.4)
    axis.legend(frameon=False, fontsize=8)


def balances(axis) -> None:  # type: ignore[no-untyped-def]
    """The energy of one event under two drives and two stiffnesses."""
    u = torch.linspace(-1.6, 3.2, 401, dtype=torch.float64)
    for color, mu in ((BLUE, 1.0), (ORANGE, 2.0)):
        geometry = ga.ChiSquare(mu)
        for style, drive in (("-", 2.0), (DASHES[1], -1.0)):
            g = torch.tensor(drive, dtype=torch.float64)
            axis.plot(
                u, geometry.energy(u, g.expand_as(u)), color=color, ls=style, label=rf"$\mu={mu:g},\ g={drive:g}$"
            )
            rest = geometry.equilibrium(g)
            axis.plot(rest, geometry.energy(rest, g), "o", color=color, ms=5)
    axis.axhline(0, color=MUTED, lw=0.8)
    axis.set(title="where they balance: $u^*=(\\varphi')^{-1}(g)$", xlabel="coordinate $u$")
    axis.set_ylabel(r"energy $\varphi(u)-g\,u$")
    axis.set_ylim(-2.4, 6.2)
    axis.legend(frameon=True, framealpha=1.0, edgecolor="none", fontsize=8, ncols=2, loc="upper center")


def main(path: Path) -> None:
    with canvas(1, 3, panel=(3.6, 2.6)) as (figure, axes):
        figure.set_layout_engine("constrained", rect=(0, 0, 1, 0.82))
        for axis, draw in zip(axes.flat, (pulls, resists, balances), strict=True):
            draw(axis)
        parts = (
            (r"$\mathcal{L}(\theta)\;=\;$", INK, 0.205),
            (r"$\mathrm{E}_{\,\mathrm{measure}}$", PINK, 0.279),
            (r"$[$", INK, 0.354),
            (r"$\varphi(\,u\,)$", ORANGE, 0.363),
            (r"$-$", INK, 0.4135),
            (r"$g\;u$", BLUE, 0.4335),
            (r"$]$", INK, 0.463),
            (r"$u\;=\;\mathrm{chart}\,(\,\mathrm{unit}\,(\,\log\pi_\theta-\log\pi_{\mathrm{anchor}}))$", GREEN, 0.525),
        )
        for text, color, x in parts:
            figure.text(x, 0.925, text, color=color, fontsize=16, ha="left", va="center")
        save(figure, path)


if __name__ == "__main__":
    main(Path(__file__).parent / "figures" / "formula.png")
