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
# # 01 · What do PPO, DPO and OPO have in common?
#
# Their papers start from different ideas: a clipped ratio, a likelihood of preferences, a projection. Their losses
# look different, too. Yet all of them, and dozens of others, are the same expression with other parts:
#
# $$ \mathcal L(\theta) = \mathbb E_{\text{measure}}\big[\varphi(u) - g\,u\big],\qquad
#    u = \mathrm{chart}\big(\mathrm{unit}(\log\pi_\theta - \log\pi_k)\big) $$
#
# There are five slots to fill: a **unit** (what is one event?), a **chart** (in which coordinate is it read?), a
# **sampling geometry** (what pulls?), an **optimization geometry** (what resists?) and a **measure** (an average
# over what?). This notebook takes the formula apart, and shows what follows from it for every member at once.

# %%
# %matplotlib inline
import warnings

import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown, Math

import geomalign as ga
from geomalign.plotting import PALETTE, STYLE

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
plt.rcParams.update(STYLE | {"figure.dpi": 100})
BLUE, ORANGE, GREEN, PINK = PALETTE[:4]

# %% [markdown]
# ## 1. Five slots
#
# A recipe is a choice of parts, and prints as the formula a paper would print.

# %%
opo = ga.recipes.opo(alpha=0.4, mu=1.0)
spelled_out = ga.Objective(
    unit=ga.MeanSequence(), chart=ga.LogRatio(), sampling=ga.Escort(alpha=0.4), optimization=ga.ChiSquare(mu=1.0)
)
assert opo == spelled_out
Math(opo.latex())

# %% [markdown]
# The same objective with one slot exchanged is another published one, or one that nobody has published:

# %%
rows = []
for name in ("reinforce", "ppo", "grpo", "gspo", "opo", "gopo", "mirror_descent", "dpo", "ipo", "simpo", "chi_po"):
    (_, term), *more = ga.recipes.get(name).terms
    rows.append([name, term.unit, term.chart, term.sampling, term.optimization, term.measure])
table = "| recipe | unit | chart | sampling | optimization | measure |\n|---|---|---|---|---|---|\n"
Markdown(table + "\n".join("| " + " | ".join([r[0], *(f"`{x!r}`" for x in r[1:])]) + " |" for r in rows))

# %% [markdown]
# An objective is evaluated on a batch of log-probabilities. The result is a record, with every quantity of the
# formula in it.

# %%
policy = torch.log(torch.rand(4, 6) * 0.8 + 0.1).requires_grad_()
batch = ga.Batch(policy, policy.detach() + 0.1 * torch.randn(4, 6), reward=torch.tensor([1.0, 0.0, 0.0, 1.0]))
outcome = opo(batch)
print("loss   ", outcome.loss.item())
print("u      ", outcome.u.detach().numpy().round(3), "  coordinate of each response")
print("drive  ", outcome.drive.numpy().round(3), "  g: what pulls")
print("force  ", outcome.force.detach().numpy().round(3), "  φ'(u) − g")
print("gap    ", outcome.gap.detach().numpy().round(3), "  divergence from equilibrium, never negative")

# %% [markdown]
# ## 2. Every objective is a divergence from a target
#
# Draw a convex $\varphi$ and a line of slope $g$ through the origin. The largest distance between them is the conjugate
# $\varphi^*(g)$, reached at the target $u^*$ where $\varphi'(u^*) = g$. What is left between $\varphi(u) +
# \varphi^*(g)$ and the line is the **Fenchel–Young loss**:
#
# $$ \varphi(u) + \varphi^*(g) - g\,u \;=\; B_\varphi(u\,\|\,u^*)\;\ge 0 . $$
#
# So minimising $\varphi(u) - g\,u$ is minimising a divergence of where the policy is from where the drive wants it,
# and `outcome.gap` is that divergence. It is Bregman's where $\varphi'(u^*)=g$; at a wall, beyond which the drive
# pushes, it is larger. Nothing is lost by the constant $\varphi^*(g)$: it has no gradient.

# %%
u = torch.linspace(-0.97, 2.2, 400)
geometries = {
    "χ²": ga.ChiSquare(1.0),
    "KL": ga.KL(1.0),
    "k3 (reverse KL)": ga.ReverseKL(1.0),
    "logistic (DPO)": ga.Logistic(2.0),
}
figure, axes = plt.subplots(1, 4, figsize=(12, 3.1), layout="constrained")
for axis, (name, geometry) in zip(axes, geometries.items()):
    g = torch.tensor(1.6 if name.startswith("log") else 0.6)
    target, here = geometry.equilibrium(g), torch.tensor(1.7)
    tangent = g * u - geometry.conjugate(g)
    axis.plot(u, geometry.value(u), color=BLUE)
    axis.plot(u, tangent, color=ORANGE)
    axis.plot(target, geometry.value(target), "o", color="k", ms=4)
    axis.annotate("$u^*$", (float(target), float(geometry.value(target))), (4, -12), textcoords="offset points")
    top, bottom = float(geometry.value(here)), float(g * here - geometry.conjugate(g))
    axis.plot([here, here], [bottom, top], color=GREEN, lw=3, alpha=0.8)
    axis.annotate("gap", (1.7, (top + bottom) / 2), (5, -3), textcoords="offset points", color=GREEN)
    axis.set_title(name)
    axis.set_xlabel("$u$")
axes[0].set_ylabel("$\\varphi(u)$ and its tangent of slope $g$")
plt.show()

# %% [markdown]
# For a random policy and a random drive, the two sides of the identity agree to rounding:

# %%
x = 2.5 * torch.rand(1000) - 0.9
for name, geometry in geometries.items():
    target = 2.5 * torch.rand(1000) - 0.9
    g = geometry.mirror(target)
    bregman = geometry.value(x) - geometry.value(target) - g * (x - target)
    print(
        f"{name:18s} |gap − Bregman| ≤ {float((geometry.gap(x, g) - bregman).abs().max()):.1e},"
        f"  smallest gap {float(bregman.min()):.1e}"
    )

# %% [markdown]
# ## 3. The gradient in closed form
#
# The gradient is known without differentiating anything,
#
# $$ \frac{\partial\mathcal L}{\partial\log\pi(y_{i,t})} = \text{weight}
#    \cdot\big(\varphi'(u) - g\big)\cdot\mathrm{chart}'(\Delta)\cdot\mathrm{unit}' , $$
#
# so it is part of the object, and autograd is its test. Below, both for GRPO on a batch that has moved: the clip
# shows as tokens without a gradient, the length normalisation as rows of different strength.

# %%
rows, tokens = 6, 14
lengths = torch.tensor([14, 9, 12, 5, 14, 7])
mask = torch.arange(tokens) < lengths[:, None]
anchor = torch.log(torch.rand(rows, tokens) * 0.8 + 0.1)
policy = (anchor + 0.22 * torch.randn(rows, tokens)).requires_grad_()
batch = ga.Batch(policy, anchor, mask, reward=torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0]))
gradients = {}
for name in ("grpo", "opo"):
    objective = ga.recipes.get(name)
    gradients[name] = objective.gradient(batch)
    (by_autograd,) = torch.autograd.grad(objective.plain(batch).loss, policy)
    print(name, "largest difference from autograd:", float((gradients[name] - by_autograd).abs().max()))

figure, axes = plt.subplots(1, 2, figsize=(11, 2.6), layout="constrained")
for axis, (name, gradient) in zip(axes, gradients.items()):
    bound = float(gradient.abs().max())
    image = axis.imshow(torch.where(mask, gradient, torch.nan), cmap="RdBu", vmin=-bound, vmax=bound, aspect="auto")
    axis.set(title=f"{name}: ∂loss/∂log π of every token", xlabel="token", ylabel="response")
    axis.grid(False)
    figure.colorbar(image, ax=axis)
plt.show()

# %% [markdown]
# ## 4. Decoupling is a property of the potential
#
# If $\varphi$ does not contain $g$, then $\partial^2\text{energy}/\partial u\,\partial g = -1$ everywhere: the
# drive shifts the force and does nothing else. Curves of the force for different drives are then the same curve,
# moved. For the clip they are not: the potential's walls stand where the drive's sign says. `isinstance(geometry,
# ga.BregmanGeometry)` is that statement.

# %%
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.1), layout="constrained", sharey=True)
u = torch.linspace(-0.6, 0.8, 600)
for axis, geometry in zip(axes, (ga.ChiSquare(1.0), ga.KL(1.0), ga.Clip(0.2, 0.2))):
    for k, g in enumerate((-0.8, -0.4, 0.0, 0.4, 0.8)):
        force = geometry.force(u, torch.full_like(u, g))
        axis.plot(u, force, color=plt.cm.coolwarm(k / 4), label=f"g = {g:g}")
    decoupled = isinstance(geometry, ga.BregmanGeometry)
    axis.set(title=f"{type(geometry).__name__}: {'decoupled' if decoupled else 'coupled'}", xlabel="$u$")
axes[0].set_ylabel("force $\\varphi'(u)-g$")
axes[-1].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## 5. The catalogue, by type
#
# Whether a published method is decoupled is computed from its parts: every potential must be a convex function of the
# coordinate alone. (DiscoPOP's does not contain the drive either, but is not convex, and is listed with the coupled.
# One published loss, TRL's "robust", has a label that its potential cannot balance; the library warns, and here the
# warning is silenced.)

# %%
warnings.simplefilter("ignore", ga.UnboundedLossWarning)
groups = {True: [], False: []}
for name in ga.recipes.names():
    groups[ga.recipes.get(name).decoupled].append(name)
Markdown(
    f"**decoupled** ({len(groups[True])}): {', '.join(groups[True])}\n\n"
    f"**coupled** ({len(groups[False])}): {', '.join(groups[False])}"
)
