"""
Fields of the force
===================

Where does an objective push an event, for every log-ratio that it may have and every drive? Each picture is one
pair of a chart and a potential. Orange raises the log-probability of the event, purple lowers it, and white leaves
it alone. On the black line pull and resistance balance: with a drive of this height an event comes to rest at this
log-ratio.

The line is a property of the decoupled objectives, whose potential does not contain the drive. PPO's clip has none:
beyond a wall, whose side depends on the sign of the drive, the force is zero (hatched), whatever the log-ratio.
Without a potential the push never ends.
"""

import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign.plotting import STYLE

torch.set_default_dtype(torch.float64)
plt.rcParams.update(STYLE)

members = {
    "χ² in the log-ratio (OPO)": (ga.LogRatio(), ga.ChiSquare(1.0)),
    "χ² in the ratio (GOPO)": (ga.Ratio(), ga.ChiSquare(1.0)),
    "KL in the ratio": (ga.Ratio(), ga.KL(1.0)),
    "reverse KL in the log-ratio": (ga.LogRatio(), ga.ReverseKL(1.0)),
    "PPO's clip, ε = 0.2": (ga.Ratio(), ga.Clip(0.2, 0.2)),
    "no potential (REINFORCE)": (ga.LogRatio(), ga.Flat()),
}
log_ratio, drive = torch.linspace(-1.2, 1.2, 241), torch.linspace(-1, 1, 201)
x, y = log_ratio.numpy(), drive.numpy()
figure, axes = plt.subplots(2, 3, figsize=(11, 6.2), layout="constrained", sharex=True, sharey=True)
for axis, (name, (chart, geometry)) in zip(axes.flat, members.items()):
    u = chart(log_ratio).expand(len(drive), -1)
    g = drive[:, None].expand_as(u)
    push = (-geometry.force(u, g) * chart.slope(log_ratio)).numpy()
    image = axis.pcolormesh(x, y, push, cmap="PuOr_r", vmin=-2, vmax=2, shading="nearest", rasterized=True)
    if geometry == ga.Clip(0.2, 0.2):
        axis.contourf(x, y, (push == 0) & (g != 0).numpy(), [0.5, 1.5], colors="none", hatches=["////"])
    elif geometry != ga.Flat():
        axis.contour(x, y, push, [0.0], colors="k", linewidths=1.3)
    axis.set_title(name)
    axis.grid(False)
for axis in axes[-1]:
    axis.set_xlabel("log-ratio Δ")
for axis in axes[:, 0]:
    axis.set_ylabel("drive g")
figure.colorbar(image, ax=axes, label="push on log π", extend="both", shrink=0.8)
plt.show()
