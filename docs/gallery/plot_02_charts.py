"""
Charts: in which coordinate is distance read?
=============================================

PPO measures how far a policy has moved by the ratio t = π/π_k, and DPO by the log-ratio Δ = log t. Both are charts:
they turn the log-ratio of an event into the coordinate u that the potential resists. All charts agree at the
anchor, where they have the value 0 and the slope 1. Away from it they disagree about what is far. An event that is
given up has an infinite distance in the log-ratio and a distance of one in the ratio.

The slope matters because the gradient that reaches log π is the force times the slope of the chart. In the ratio
this factor is t itself: an event that grows is moved more and more, and an event that is given up is hardly moved
at all. Every f-divergence has a chart of its own (`Dual`), in which its own closed-form step is a straight line.
The divergences are scaled here to the curvature of the KL.
"""

import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign.plotting import DASHES, PALETTE, STYLE, label_right

torch.set_default_dtype(torch.float64)
plt.rcParams.update(STYLE)

charts = {
    "Ratio": ga.Ratio(),
    "Power(½)": ga.Power(0.5),
    "LogRatio": ga.LogRatio(),
    "Dual(2·JS)": ga.Dual(2 * ga.JensenShannon()),
    "Dual(reverse KL)": ga.Dual(ga.ReverseKullbackLeibler()),
    "Dual(½(KL + χ²))": ga.Dual(0.5 * (ga.KullbackLeibler() + ga.PearsonChiSquare())),
}
log_ratio = torch.linspace(-2.0, 1.0, 301)
figure, axes = plt.subplots(1, 2, figsize=(11, 3.9), layout="constrained")
ends = [{}, {}]
for (name, chart), color, dash in zip(charts.items(), PALETTE, DASHES):
    curves = chart(log_ratio), chart.slope(log_ratio)
    for axis, y, end in zip(axes, curves, ends):
        axis.plot(log_ratio, y, color=color, ls=dash)
        end[name] = float(y[-1])
axes[0].set(title="coordinate u of an event", ylabel="u", ylim=(-3.2, 2.2))
axes[1].set(title="what one unit of force does to log π", ylabel="du/dΔ", ylim=(0, 3))
for axis in axes:
    axis.set(xlabel="log-ratio Δ = log π/π_k", xlim=(-2, 1))
figure.draw_without_rendering()
for axis, end in zip(axes, ends):
    label_right(axis, end, {name: {"color": color} for name, color in zip(charts, PALETTE)}, size=8)
plt.show()
