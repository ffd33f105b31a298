"""The pictures of docs/why-one-formula.md, from the library's own recipes and geometries.

    python docs/why_figures.py

writes docs/figures/why-*.png.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import geomalign as ga
from geomalign.plotting.style import DASHES, MUTED, PALETTE, canvas, save

BLUE, ORANGE, GREEN = PALETTE[:3]
CLIP, SPRING = ga.Clip(low=0.2, high=0.2), ga.ChiSquare(mu=2.0)
REWARD = torch.tensor([1.0, 0.6, 0.2, 0.0, -0.4], dtype=torch.float64)
"""Five answers, all equally likely under the anchor."""


def energy(geometry: ga.OptimizationGeometry, u: torch.Tensor, drive: float) -> torch.Tensor:
    return geometry.energy(u, torch.full_like(u, drive))


def force(geometry: ga.OptimizationGeometry, u: torch.Tensor, drive: float) -> torch.Tensor:
    return geometry.force(u, torch.full_like(u, drive))


def walls_and_springs(path: Path) -> None:
    """Energy and force of one event under PPO's clip and under OPO's spring, for three drives."""
    u = torch.linspace(-0.9, 0.9, 721, dtype=torch.float64)
    drives = ((1.0, BLUE, "-"), (0.0, MUTED, DASHES[2]), (-1.0, ORANGE, DASHES[1]))
    with canvas(2, 2, panel=(3.6, 2.3), sharex=True, sharey="row") as (figure, axes):
        for column, (name, geometry) in enumerate((("PPO: a wall", CLIP), ("OPO: a spring, μ = 2", SPRING))):
            for drive, color, dash in drives:
                axes[0, column].plot(u, energy(geometry, u, drive), color=color, ls=dash, label=f"drive g = {drive:g}")
                axes[1, column].plot(u, -force(geometry, u, drive), color=color, ls=dash)
                if geometry is SPRING:
                    rest = geometry.equilibrium(torch.tensor(drive, dtype=torch.float64))
                    axes[0, column].plot(rest, geometry.energy(rest, rest.new_tensor(drive)), "o", color=color, ms=5)
                    axes[1, column].plot(rest, 0, "o", color=color, ms=5)
            axes[0, column].set_title(name)
            axes[1, column].axhline(0, color=MUTED, lw=0.8)
            axes[1, column].set_xlabel("coordinate $u = t - 1$")
        axes[0, 0].set_ylabel(r"energy $\varphi(u)-g\,u$")
        axes[1, 0].set_ylabel(r"push $g-\varphi'(u)$")
        axes[0, 0].legend(frameon=False, fontsize=8)
        save(figure, path)


def four_points(path: Path) -> None:
    """The energies of PPO, OPO, DPO and IPO as published, each with its minimum where it has one."""
    t = torch.linspace(-0.9, 0.9, 721, dtype=torch.float64)
    margin = torch.linspace(-12.0, 32.0, 721, dtype=torch.float64)
    dpo, ipo = ga.recipes.dpo(beta=0.1), ga.recipes.ipo(tau=0.05, normalize="sum")
    panels = (
        ("PPO: responses, a wall", CLIP, t, 1.0, "u = t − 1"),
        ("OPO: responses, a spring", SPRING, t, 1.0, "u = t − 1"),
        ("DPO: pairs, a link that saturates", dpo.optimization, margin, 0.1, "margin of log-ratios, in nats"),
        ("IPO: pairs, a spring", ipo.optimization, margin, 1 / 0.05, "margin of log-ratios, in nats"),
    )
    with canvas(2, 2, panel=(3.6, 2.1)) as (figure, axes):
        for axis, (title, geometry, u, drive, label) in zip(axes.flat, panels, strict=True):
            axis.plot(u, energy(geometry, u, drive), color=BLUE)
            axis.plot(0, energy(geometry, u.new_zeros(()), drive), "|", color=ORANGE, ms=14, mew=2)
            rest = geometry.equilibrium(torch.tensor(drive, dtype=torch.float64))
            if rest.isfinite() and geometry is not CLIP:
                axis.plot(rest, energy(geometry, rest, drive), "o", color=BLUE, ms=6)
            axis.set(title=title, xlabel=label, xticks=(-0.5, 0, 0.5) if u is t else (-10, 0, 10, 20, 30))
        for axis in axes[:, 0]:
            axis.set_ylabel(r"energy $\varphi(u)-g\,u$")
        save(figure, path)


def trained(optimization: ga.OptimizationGeometry, rate: float, steps: int) -> torch.Tensor:
    """The probabilities of the five answers after gradient descent on exact expectations."""
    objective = ga.Objective(
        unit=ga.Sequence(), chart=ga.Ratio(), sampling=ga.GroupAdvantage(), optimization=optimization
    )
    logits = torch.zeros(5, 1, dtype=torch.float64, requires_grad=True)
    old = torch.full((5, 1), 0.2, dtype=torch.float64).log()
    for _ in range(steps):
        loss = objective(ga.Batch(logits.log_softmax(0), old, reward=REWARD)).loss
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - rate * gradient).detach().requires_grad_()
    return logits.detach().softmax(0)[:, 0]


def where_it_ends(path: Path) -> None:
    """Five answers, trained under the clip and under the spring with a small and a large step."""
    advantage = REWARD - REWARD.mean()
    closed = 0.2 * (1 + advantage / SPRING.mu)
    places = np.arange(5)
    with canvas(1, 2, panel=(4.0, 2.5), sharey=True) as (figure, axes):
        for axis, (name, geometry) in zip(axes.flat, (("PPO's clip", CLIP), ("OPO's spring", SPRING)), strict=True):
            for k, (rate, steps, color) in enumerate(((0.5, 400, BLUE), (3.0, 250, ORANGE))):
                ends = trained(geometry, rate, steps).tolist()
                axis.bar(places + 0.3 * k - 0.15, ends, 0.28, color=color, label=f"step {rate:g}")
            if geometry is SPRING:
                axis.plot(places, closed.tolist(), "k_", ms=24, mew=1.5, label="closed form")
            axis.axhline(0.2, color=MUTED, lw=0.8, ls=DASHES[2])
            axis.set_title(f"{name}: where training ends")
            axis.set_xticks(places, [f"$A$={a:+.2f}" for a in advantage.tolist()])
            axis.set_ylim(0, 0.42)
            axis.legend(frameon=False, fontsize=8, loc="upper right")
        axes[0, 0].set_ylabel("probability (dotted: anchor)")
        save(figure, path)


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    walls_and_springs(folder / "why-ppo-opo.png")
    four_points(folder / "why-four-points.png")
    where_it_ends(folder / "why-where-it-ends.png")


if __name__ == "__main__":
    main(Path(__file__).parent / "figures")
