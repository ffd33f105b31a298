"""
Measures: what does a token weigh?
==================================

Two responses, one of 4 tokens and one of 12, have equal drives of opposite sign. How much does one token of each
count? That is decided by the measure and by the unit. Where all tokens are averaged at once (DAPO), the long
response has three times the weight of the short one. Where each response is averaged first (GRPO), a token of the
short one weighs three times as much. A fixed budget (Dr. GRPO) divides by a constant, so that the total depends on
the lengths in the batch. Where the event is a whole response, a sum of log-ratios gives every token the weight of
its response, and a mean of log-ratios divides it by the length.

The height of a box is the gradient that one token gets at the anchor, and its area is that of the whole response.
Each panel has a scale of its own. Under a mean within the response a wrong answer is the cheaper per token, the
longer it is.
"""

import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign.plotting import PALETTE, STYLE

torch.set_default_dtype(torch.float64)
plt.rcParams.update(STYLE)

lengths = torch.tensor([4, 12])
mask = torch.arange(12) < lengths[:, None]
log_prob = torch.full((2, 12), -1.0)
batch = ga.Batch(log_prob, log_prob, mask, advantage=torch.tensor([1.0, -1.0]))
members = {
    "Token,\nPooledMean\n(DAPO)": (ga.Token(), ga.PooledMean()),
    "Token,\nNestedMean\n(GRPO)": (ga.Token(), ga.NestedMean()),
    "Token,\nFixedBudget(12)\n(Dr. GRPO)": (ga.Token(), ga.FixedBudget(12)),
    "Sequence,\nPooledMean\n(REINFORCE)": (ga.Sequence(), ga.PooledMean()),
    "MeanSequence,\nPooledMean\n(GSPO, OPO)": (ga.MeanSequence(), ga.PooledMean()),
}
figure, axes = plt.subplots(1, 5, figsize=(12.5, 3.6), layout="constrained", sharex=True)
for axis, (name, (unit, measure)) in zip(axes, members.items()):
    objective = ga.Objective(
        unit=unit, chart=ga.LogRatio(), sampling=ga.Advantage(), optimization=ga.Flat(), measure=measure
    )
    weight = -objective.gradient(batch)
    start = 0.0
    for row, color, hatch in ((0, PALETTE[0], ""), (1, PALETTE[1], "///")):
        n = int(lengths[row])
        x, height = (start + torch.arange(n)).numpy(), weight[row, :n].numpy()
        axis.bar(x, height, 1.0, align="edge", color=color, edgecolor="white", hatch=hatch)
        total = float(weight[row].sum())
        text = f"{n} tokens\nsum {total:+.3g}".replace("-", "−")
        bottom = float(weight[row, 0])
        axis.annotate(text, (start + n / 2, bottom), (0, 4 if row == 0 else -4), textcoords="offset points",
                      ha="center", va="bottom" if row == 0 else "top", fontsize=8.5)  # fmt: skip
        start += n + 1
    reach = 1.7 * float(weight.abs().max())
    axis.set(title=name, xlabel="tokens of the two responses", ylim=(-reach, reach), xlim=(-3.5, 19), xticks=[])
    axis.axhline(0, color="k", lw=0.8)
axes[0].set_ylabel("ascent on log π of one token")
plt.show()
