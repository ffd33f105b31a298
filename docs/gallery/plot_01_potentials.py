"""
Potentials and their conjugates
===============================

What does it cost to leave the anchor, and how far does a drive get? The potential φ(u) answers the first question:
it is the cost of moving an event by u. Its slope φ'(u) is the force with which the event is held back. A drive g
pulls with a constant force, so the event comes to rest where φ'(u) = g. The conjugate φ*(g), the largest value of
g·u − φ(u), is what the drive gains by going there, and the slope of the conjugate is the resting place.

All four potentials have the same curvature at the anchor u = 0 and differ away from it. χ² is a spring. KL is read
in the coordinate π/π_k − 1, which ends at −1, and resists less and less the further an event grows. The reverse KL,
GRPO's penalty, resists a loss of probability exponentially and a gain with a force of at most one: a drive above
one has no resting place, and its conjugate is infinite. The logistic potential of DPO pushes back at the anchor
already, and its drive is a label between 0 and β = 2.
"""

import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign.plotting import DASHES, MUTED, PALETTE, STYLE

torch.set_default_dtype(torch.float64)
plt.rcParams.update(STYLE)

potentials = {
    "χ²": ga.ChiSquare(mu=1.0),
    "KL": ga.KL(beta=1.0),
    "reverse KL": ga.ReverseKL(beta=1.0),
    "logistic": ga.Logistic(beta=2.0),
}
u, g = torch.linspace(-2.5, 2.5, 501), torch.linspace(-2.2, 2.2, 441)
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.6), layout="constrained")
for (name, potential), color, dash in zip(potentials.items(), PALETTE, DASHES):
    inside = u[(u >= potential.domain.low) & (u <= potential.domain.high)]
    look = {"color": color, "ls": dash}
    axes[0].plot(inside, potential.value(inside), label=name, **look)
    axes[1].plot(inside, potential.mirror(inside), **look)
    conjugate = potential.conjugate(g)
    axes[2].plot(g, torch.where(conjugate.isinf(), torch.nan, conjugate), **look)

# The same resting place in all three panels: the slope of φ there is g, and so the slope of φ* at g is u.
drive = torch.tensor(0.8)
rest = potentials["χ²"].equilibrium(drive)
axes[0].plot(rest, potentials["χ²"].value(rest), "o", color=PALETTE[0])
axes[1].plot(rest, drive, "o", color=PALETTE[0])
axes[2].plot(drive, potentials["χ²"].conjugate(drive), "o", color=PALETTE[0])
axes[1].axhline(float(drive), color=MUTED, lw=0.8)
axes[1].annotate("drive g = 0.8", (-2.4, 0.8), (0, 4), textcoords="offset points", color=MUTED)

axes[0].set(title="potential φ(u): the cost", xlabel="coordinate u", ylabel="φ(u)", ylim=(-0.1, 3))
axes[1].set(title="mirror φ'(u): the force that holds back", xlabel="coordinate u", ylabel="φ'(u)", ylim=(-2.6, 2.6))
axes[2].set(title="conjugate φ*(g): what a drive gains", xlabel="drive g", ylabel="φ*(g)", ylim=(-1.1, 2.4))
axes[0].legend(frameon=False)
plt.show()
