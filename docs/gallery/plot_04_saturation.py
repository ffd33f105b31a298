"""
Saturation in three coordinates
===============================

Does the gradient of an objective vanish when the policy becomes sure? The answer depends on the coordinate in which
the gradient is taken. A policy over two answers has one logit z, the probability of the rewarded answer is σ(z),
and the anchor is at z = 0. The same four objectives are shown three times.

In the chart the forces of χ² and KL settle at a half or two thirds of what they were at the anchor, because the
probability of an answer can only double here. (The KL in the ratio and χ² in the log-ratio have the same force, β
log t: their lines coincide.) In log π the force is multiplied by the slope of the chart. In the logit, which is
what the last layer of a network moves, the ratio forms vanish about as fast as 1 − σ(z). The χ² potential in the
log-ratio does not: beyond its target, where the curve dips, it pulls back through the other answer, whose log-ratio
falls without bound.
"""

import math

import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign.plotting import DASHES, MUTED, PALETTE, STYLE

torch.set_default_dtype(torch.float64)
plt.rcParams.update(STYLE)

z = torch.linspace(0.01, 12, 400)
sure, unsure = torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)
log_ratio = torch.stack([sure, unsure]) + math.log(2)  # of the rewarded answer and of the other one
drive = torch.tensor([[1.0], [-1.0]]).expand_as(log_ratio)
by_logit = torch.stack([unsure.exp(), -sure.exp()])  # ∂ log π/∂z of both
members = {
    "χ², log-ratio": (ga.LogRatio(), ga.ChiSquare(0.5)),
    "χ², ratio": (ga.Ratio(), ga.ChiSquare(0.5)),
    "KL, ratio": (ga.Ratio(), ga.KL(0.5)),
    "PPO clip": (ga.Ratio(), ga.Clip(0.2, 0.2)),
}
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.7), layout="constrained")
for (name, (chart, geometry)), color, dash in zip(members.items(), PALETTE, DASHES):
    force = geometry.force(chart(log_ratio), drive)
    in_log = force * chart.slope(log_ratio)
    in_logit = (0.5 * in_log * by_logit).sum(0)  # both answers have probability ½ under the anchor
    for axis, y in zip(axes, (force[0], in_log[0], in_logit)):
        axis.plot(z, torch.where(y == 0, torch.nan, y.abs()), color=color, ls=dash, label=name)
axes[2].plot(z, torch.sigmoid(-z), color=MUTED, lw=4, alpha=0.35, label="1 − σ(z)")
axes[0].set(title="in the chart, rewarded answer", ylabel="size of the gradient", ylim=(0, 1.1))
axes[1].set(title="in log π, rewarded answer", ylim=(0, 1.5))
axes[2].set(title="in the logit, both answers", yscale="log", ylim=(1e-6, 30))
for axis in axes:
    axis.set_xlabel("logit z of the rewarded answer")
axes[0].annotate("the clip's force is zero\nbeyond its wall", (0.9, 0.06), (1.2, 0.1), color=PALETTE[3], fontsize=8.5)
axes[2].legend(frameon=False, fontsize=8.5, loc="lower left")
plt.show()
