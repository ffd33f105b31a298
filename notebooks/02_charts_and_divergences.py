# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Ratio or log-ratio: how should the distance from the anchor be read?
#
# PPO reads how far the policy has moved as a ratio, and DPO reads it as a log-ratio. Does it matter, and are there
# other choices? There are as many as there are $f$-divergences: each of them brings a coordinate of its own, the
# derivative $\psi'(t)$ of its generator at $t = \pi/\pi_k$. The ratio belongs to $\chi^2$ and the log-ratio to KL.

# %%
# %matplotlib inline
import math

import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign.plotting import PALETTE, STYLE

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
plt.rcParams.update(STYLE | {"figure.dpi": 100})

# %% [markdown]
# ## 1. Generator, chart, step
#
# Three faces of one object: what a deviation costs, in which coordinate it is read, and where a drive takes the
# policy, $\psi'(t^*) = g - \lambda$. A *log-ratio* is KL's coordinate, a *ratio* is $\chi^2$'s.

# %%
divergences = {
    "KL(π‖π_k)": ga.KullbackLeibler(),
    "KL(π_k‖π)": ga.ReverseKullbackLeibler(),
    "Pearson χ²": ga.PearsonChiSquare(),
    "Hellinger": ga.SquaredHellinger(),
    "Jensen–Shannon": ga.JensenShannon(),
    "KL + χ² (χPO)": ga.KullbackLeibler() + ga.PearsonChiSquare(),
}
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
t, log_ratio, s = torch.linspace(1e-3, 3, 500), torch.linspace(-3, 2, 500), torch.linspace(-2.5, 2.5, 800)
for (name, divergence), colour in zip(divergences.items(), PALETTE):
    axes[0].plot(t, divergence.generator(t), color=colour, label=name)
    axes[1].plot(log_ratio, divergence.coordinate(log_ratio), color=colour)
    reached = s[s < divergence.mirror_range.high]
    axes[2].plot(reached, divergence.inverse_mirror(reached), color=colour)
axes[0].set(title="cost ψ(t)", xlabel="ratio t", ylim=(-0.05, 3), xlim=(0, 3))
axes[1].set(title="chart ψ'(e^Δ)", xlabel="log-ratio Δ", ylim=(-4, 4))
axes[2].set(title="target t* of a drive", xlabel="drive g − λ", ylim=(-0.1, 5))
axes[0].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# Read the right panel from left to right. For a strongly negative drive $\chi^2$ reaches zero *exactly*, KL
# leaves an exponentially small probability, and reverse KL one that falls only like $1/|g-\lambda|$. For a positive
# drive the order turns around: reverse KL, Hellinger and Jensen–Shannon have coordinates that are bounded above, so
# there are values of $g-\lambda$ without a target: a wall in the drive instead of in the ratio.
#
# In the chart of its own divergence, the gradient of a spring is a straight line, and the closed-form step is
# linear. That is all that "linear gradient dynamics in ratio coordinates" means, and it holds for every pair of a
# divergence and its chart.

# %% [markdown]
# ## 2. One family, one geometry near the anchor
#
# The Box–Cox coordinates $(t^p-1)/p$ run from the log-ratio ($p\to0$) to the ratio ($p=1$) and beyond. Near the
# anchor they are the same to first order, and all divergences are the same to second order: $D_\psi \approx
# \tfrac12\psi''(1)\,\mathbb E[\Delta^2]$, Fisher's geometry. Which divergence one chooses matters exactly as far
# as the policy moves.

# %%
anchor, direction = torch.softmax(torch.randn(6), 0), torch.randn(6)
scales = torch.logspace(-4, 0.5, 40)
figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
for k, power in enumerate((-1.0, -0.5, 1e-9, 0.5, 1.0)):
    chart = ga.LogRatio() if power == 1e-9 else ga.Power(power)
    label = "log-ratio (p → 0)" if power == 1e-9 else f"p = {power:g}" + (": ratio" if power == 1 else "")
    axes[0].plot(log_ratio, chart(log_ratio), color=plt.cm.viridis(k / 4.5), label=label)
axes[0].set(title="Box–Cox charts", xlabel="log-ratio Δ", ylabel="u", ylim=(-4, 4))
axes[0].legend(frameon=False, fontsize=8)
for (name, divergence), colour in zip(divergences.items(), PALETTE):
    relative = []
    for scale in scales:
        policy = torch.log_softmax(anchor.log() + scale * direction, 0)
        half = 0.5 * (anchor * (policy - anchor.log()) ** 2).sum() * divergence.curvature(torch.tensor(1.0))
        relative.append(float((divergence.value(policy, anchor.log()) / half - 1).abs()))
    axes[1].loglog(scales, relative, color=colour, label=name)
axes[1].loglog(scales, scales, color="k", lw=0.8, ls=":", label="slope 1")
axes[1].set(title="relative distance from ½ψ''(1)·E[Δ²]", xlabel="size of the step in the logits", ylim=(1e-6, 30))
axes[1].legend(frameon=False, fontsize=7.5)
plt.show()

# %% [markdown]
# ## 3. Balls that are not round
#
# Below are the sets of policies within a given divergence of the anchor, on the simplex of three answers. A $\chi^2$
# ball is an ellipse and may leave the simplex through an edge; a reverse-KL ball never touches one. Convergence proofs
# of mirror descent rest on the law of cosines of these geometries,
# $B(x\|z) = B(x\|y) + B(y\|z) + \langle\varphi'(y)-\varphi'(z),\,x-y\rangle$.


# %%
def corners(p):
    """Barycentric to plane coordinates."""
    return p[..., 1] + 0.5 * p[..., 2], math.sqrt(3) / 2 * p[..., 2]


grid = torch.linspace(0.0005, 0.9995, 260)
p1, p2 = torch.meshgrid(grid, grid, indexing="ij")
simplex = torch.stack([1 - p1 - p2, p1, p2], -1)
outside = simplex[..., 0] <= 0
home = torch.tensor([0.5, 0.35, 0.15])
figure, axes = plt.subplots(1, 4, figsize=(11.5, 2.9), layout="constrained")
for axis, name in zip(axes, ("KL(π‖π_k)", "KL(π_k‖π)", "Pearson χ²", "Hellinger")):
    value = divergences[name].value(simplex.clamp(min=1e-12).log(), home.log())
    x, y = corners(simplex)
    levels = [0.02, 0.08, 0.18, 0.32, 0.5]
    axis.contour(x, y, torch.where(outside, torch.nan, value), levels=levels, colors=[PALETTE[0]], linewidths=1.2)
    axis.plot(*corners(torch.eye(3)[[0, 1, 2, 0]]), color="k", lw=1)
    axis.plot(*corners(home), "o", color=PALETTE[1], ms=4)
    axis.set(title=name, aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 0.88))
    axis.axis("off")
plt.show()

# %%
for name in ("KL", "ChiSquare", "ReverseKL"):
    geometry = getattr(ga, name)(1.0)
    x, y, z = 2 * torch.rand(3, 1000) - 0.8
    bregman = lambda a, b: geometry.value(a) - geometry.value(b) - geometry.mirror(b) * (a - b)  # noqa: B023, E731
    right = bregman(x, y) + bregman(y, z) + (geometry.mirror(y) - geometry.mirror(z)) * (x - y)
    print(f"{name:10s} three-point identity holds to {float((bregman(x, z) - right).abs().max()):.1e}")

# %% [markdown]
# ## 4. What a zero costs
#
# Whether a target policy may give up an answer altogether is decided at $t = 0$: by the cost $\psi(0)$ and by its
# slope $\psi'(0)$. Exact zeros need a finite slope: an infinite slope prevents them even where the cost is finite, and
# an infinite cost has an infinite slope.

# %%
zero = torch.tensor(0.0)
print(f"{'divergence':18s}{'cost ψ(0)':>12s}   slope ψ'(0)   the target of a hopeless answer (g = −20, others 0)")
for name, divergence in divergences.items():
    target = ga.target_policy(torch.tensor([-20.0, 0.0, 0.0, 0.0]), divergence).probability[0]
    cost, slope = float(divergence.generator(zero)), divergence.mirror_range.low
    print(f"{name:18s}{cost:12.3g}{slope:14.3g}   {float(target):.3g}")
