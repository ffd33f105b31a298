"""
Escort weights on a simplex
===========================

How many of the samples should count? OPO weighs a response with advantage A by exp((1 − α)A), normalised over the
group. At α = 1 all responses weigh the same; at α = 0 the weights are those of the Gibbs distribution, in which a
good response may count for all others. The drive is the weight, relative to the mean weight, less one.

Left: the distributions between an anchor (α = 1) and its Gibbs distribution (α = 0). They are a straight line in
log-probabilities and a curve in probabilities, unlike the mixtures of the two. Right: the weights of six responses
with the rewards shown, and the share of them that is effectively used, (Σw)²/(n Σw²). `EscortESS` solves for the α
at which that share is a given one, here one half.
"""

import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign.plotting import MUTED, PALETTE, STYLE

torch.set_default_dtype(torch.float64)
plt.rcParams.update(STYLE)
corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])

anchor, advantage = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([-1.5, 0.5, 3.2])
alphas = torch.linspace(0, 1, 101)
escorts = torch.softmax(anchor.log() + (1 - alphas[:, None]) * advantage, 1)
mixtures = alphas[:, None] * anchor + (1 - alphas[:, None]) * escorts[0]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.9), layout="constrained", width_ratios=[1, 1.6])
left.plot(*corners[[0, 1, 2, 0]].T, color="k", lw=1)
left.plot(*(mixtures @ corners).T, color=MUTED, ls="--", label="mixtures")
left.plot(*(escorts @ corners).T, color=PALETTE[0], lw=2.2, label="escorts")
for alpha, name, shift in ((0.0, "0", (-3, 7)), (0.25, "", (0, 0)), (0.5, "½", (7, -4)), (1.0, "α = 1", (7, -4))):
    point = torch.softmax(anchor.log() + (1 - alpha) * advantage, 0) @ corners
    left.plot(*point, "o", color=PALETTE[0], ms=4)
    left.annotate(name, point.tolist(), shift, textcoords="offset points", fontsize=8.5)
for corner, name, shift in zip(corners, ("A = −1.5", "A = 0.5", "A = 3.2"), ((0, -14), (0, -14), (0, 6))):
    left.annotate(name, corner.tolist(), shift, textcoords="offset points", ha="center")
left.set(aspect="equal", xlim=(-0.15, 1.15), ylim=(-0.1, 1.0), title="between anchor and Gibbs distribution")
left.axis("off")
left.legend(frameon=False, loc="upper left")

reward = torch.tensor([1.0, 0.6, 0.3, 0.0, -0.5, -1.5])
batch = ga.Batch(torch.zeros(6, 1), None, reward=reward)
weights = 1 + torch.stack([ga.Escort(alpha=float(alpha), temperature=0.5).drive(batch) for alpha in alphas])
shades = plt.cm.cividis(torch.linspace(0.8, 0.0, 6).numpy())
for y, color, r in zip(weights.T, shades, reward.tolist()):
    right.plot(alphas, y, color=color)
    text = f"r = {r:g}".replace("-", "−")
    right.annotate(text, (0, float(y[0])), (-6, -3), textcoords="offset points", ha="right", fontsize=8, color=color)
share = weights.sum(1) ** 2 / (weights**2).sum(1) / 6
solved = float(ga.EscortESS(0.5, temperature=0.5).alpha(batch))
right.plot(alphas, share, color=PALETTE[1], ls="--", label="effective share of the samples")
right.plot(solved, 0.5, "o", color=PALETTE[1], label=f"share ½ at α = {solved:.2f}")
right.set(
    title="weights of six responses",
    xlabel="order α",
    ylabel="weight over mean weight",
    xlim=(-0.13, 1),
    ylim=(-0.1, 3.4),
)
right.legend(frameon=False)
plt.show()
