"""
Targets of a group: softmax, entmax, sparsemax
==============================================

A group potential looks at all responses to one prompt at once. Its policy over the group is a function of their
coordinates: the softmax for the KL divergence, the sparsemax for χ², and the entmax for the powers between. Rewards
are turned into a target for that policy by the same functions, at a temperature of their own.

Left: the target of six responses. Under softmax even the poorest response has a share, so that the policy is asked
to keep some of it. Under sparsemax the poor ones have a target of exactly zero. Right: the shares for every
temperature. All three agree where the temperature is high, with the first-order target 1/n + (r − r̄)/(nτ) drawn
dotted, and end at the best response where it is low.
"""

import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign.plotting import MUTED, PALETTE, STYLE

torch.set_default_dtype(torch.float64)
plt.rcParams.update(STYLE)

reward = torch.tensor([1.0, 0.8, 0.3, 0.0, -0.4, -0.9])
batch, n = ga.Batch(torch.zeros(6, 1), None, reward=reward), len(reward)
mappings = {"softmax": ga.KullbackLeibler(), "1.5-entmax": ga.CressieRead(1.5), "sparsemax": ga.PearsonChiSquare()}


def target(divergence, temperature):
    """q over the group, from the drive n·q − 1."""
    return (1 + ga.sampling.GroupTarget(divergence=divergence, temperature=temperature).drive(batch)) / n


figure, (bars, *panels) = plt.subplots(
    1, 4, figsize=(12.5, 3.5), layout="constrained", width_ratios=[1.5, 1, 1, 1], gridspec_kw={"wspace": 0.03}
)
places = torch.arange(n)
for k, (name, divergence) in enumerate(mappings.items()):
    q = target(divergence, 0.7)
    x = (places + 0.27 * (k - 1)).numpy()
    bars.bar(x, q.numpy(), 0.25, color=PALETTE[k], label=name)
    zero = (q == 0).numpy()
    bars.plot(x[zero], q[zero].numpy(), "v", color=PALETTE[k], ms=4, zorder=3)
bars.plot([], [], "v", color=MUTED, ms=4, ls="none", label="exactly zero")
bars.set_xticks(places, [f"{r:g}".replace("-", "−") for r in reward.tolist()])
bars.set(title="targets at temperature τ = 0.7", xlabel="reward of the response", ylabel="target share q")
bars.legend(frameon=False)

temperatures = torch.logspace(-1, 1.3, 120)
shades = [plt.cm.cividis(x) for x in torch.linspace(0.85, 0.0, n).tolist()]
for axis, (name, divergence) in zip(panels, mappings.items()):
    shares = torch.stack([target(divergence, float(t)) for t in temperatures])
    for i in range(n):
        first_order = (1 + (reward[i] - reward.mean()) / temperatures) / n
        axis.plot(temperatures, shares[:, i], color=shades[i], label=f"r = {float(reward[i]):g}".replace("-", "−"))
        axis.plot(temperatures, first_order, color=shades[i], ls=":", lw=1)
    axis.set(title=name, xlabel="temperature τ", xscale="log", ylim=(-0.03, 1.03), xlim=(0.1, 20))
panels[0].set_ylabel("target share q")
panels[2].legend(frameon=False, fontsize=8.5)
plt.show()
