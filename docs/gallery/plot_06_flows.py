"""
Gradient flows on the simplex
=============================

Where does an objective take a policy if there is no sampling noise? A prompt with three answers has a policy that
is a point of a triangle. The anchor is uniform (+), and the rewards are 0, ½ and 1. The curves follow the gradient
of the exact expected loss in the logits from three starting points. The background is the speed of the policy.

χ² and KL each end in one policy from everywhere. PPO's clip stops at its walls, wherever it meets them, and leaves
a policy that starts far away where it is. Without a potential every start ends at the best answer alone. DPO with
noisy preferences (a pair is labelled by a logistic model of its rewards) ends where its margins have the odds of
the labels. The group potential of LPO ends at the softmax of the rewards, as KL does, by a loss of the three
answers at once.
"""

import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign import analysis
from geomalign.plotting import PALETTE, STYLE

torch.set_default_dtype(torch.float64)
plt.rcParams.update(STYLE)
corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
bandit = analysis.Tree.bandit(torch.tensor([0.0, 0.5, 1.0]))


def of(chart, geometry):
    return ga.Objective(unit=ga.Sequence(), chart=chart, sampling=ga.GroupAdvantage(), optimization=geometry)


target = 3 * torch.softmax(bandit.reward / 0.5, 0) - 1  # what LPO's drive is at τ = ½
objectives = {
    "χ², ratio": (of(ga.Ratio(), ga.ChiSquare(0.8)), None),
    "KL, ratio": (of(ga.Ratio(), ga.KL(0.5)), None),
    "PPO clip": (of(ga.Ratio(), ga.Clip(0.2, 0.2)), None),
    "REINFORCE": (of(ga.LogRatio(), ga.Flat()), None),
    "DPO, β = 1": (ga.recipes.dpo(beta=1.0), None),
    "LPO, τ = ½": (ga.recipes.lpo(tau=0.5), target),
}
starts = torch.tensor([[0.8, 0.1, 0.1], [0.08, 0.84, 0.08], [0.06, 0.14, 0.8]])
figure, axes = plt.subplots(2, 3, figsize=(10.5, 6.4), layout="constrained")
for axis, (name, (objective, drive)) in zip(axes.flat, objectives.items()):
    field = analysis.portrait(bandit, objective, drive=drive, resolution=14)
    speed = field.arrows.norm(dim=1)
    tint = axis.tricontourf(*field.plane.T, speed, levels=torch.linspace(0, 0.3, 13), cmap="Greys")
    for start in starts:
        path = analysis.gradient_flow(
            bandit, objective, torch.linspace(0, 40, 150), start=start.log()[None], drive=drive, tolerance=1e-4
        )
        line = path.probabilities @ corners
        axis.plot(*line.T, color=PALETTE[0])
        axis.plot(*line[0], "o", color=PALETTE[0], ms=3)
        axis.plot(*line[-1], "o", color=PALETTE[1], ms=6)
    axis.plot(*corners[[0, 1, 2, 0]].T, color="k", lw=1)
    axis.plot(*corners.mean(0), "k+", ms=9)
    for corner, text, shift in zip(corners, ("r = 0", "r = ½", "r = 1"), ((0, -13), (0, -13), (0, 5))):
        axis.annotate(text, corner.tolist(), shift, textcoords="offset points", ha="center", fontsize=8.5)
    axis.set(title=name, aspect="equal", xlim=(-0.12, 1.12), ylim=(-0.12, 0.98))
    axis.axis("off")
figure.colorbar(tint, ax=axes, label="speed of the policy, per unit of time", shrink=0.7)
plt.show()
