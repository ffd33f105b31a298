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
# # 04 · Where does an objective end, if it is trained to the end?
#
# A drive pulls on some answers, a potential resists, and the probabilities have to sum to one all the time. Which
# policy is the one at which all three balance? Over a finite set of answers it can be computed instead of trained.
# This notebook computes it for several divergences and for the drives of OPO and GOPO. It is also how the theory is
# tested: there is no sampling noise in it.

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
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK = PALETTE

# %% [markdown]
# ## 1. The update as a projection
#
# Fluctuations $v=\pi/\pi_k-1$ of normalised policies have $\mathbb E_{\pi_k}[v]=0$: they form a plane through the
# origin, orthogonal to the constant. The unconstrained target $g/\mu$ is not in the plane; its nearest point is,
# $v^* = (g-\mathbb E g)/\mu$. "Nearest" is meant in $L^2(\pi_k)$, so the picture is drawn in the coordinates
# $\sqrt{\pi_k}\,v$, in which that distance is the one of the paper it is printed on.

# %%
anchor, g, mu = torch.tensor([0.64, 0.36]), torch.tensor([0.9, 1.9]), 1.4
root = anchor.sqrt()
target, conserved = root * g / mu, root * (g - (anchor * g).sum()) / mu
figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
line = torch.tensor([[-1.75], [1.15]]) * torch.stack([root[1], -root[0]])
axis.plot(*line.T, color="#888888", lw=1, label="fluctuations that conserve probability")
inside = torch.tensor([1 / 0.64 - 1, -1.0]), torch.tensor([-1.0, 1 / 0.36 - 1])
axis.plot(*torch.stack([root * v for v in inside]).T, color=GREEN, lw=4, alpha=0.4, label="… and are policies, v ≥ −1")
for tip, colour, name, shift in ((target, ORANGE, "$g/\\mu$", (6, 2)), (conserved, BLUE, "$v^*$", (-22, -8))):
    axis.annotate("", tip.tolist(), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2})
    axis.annotate(name, tip.tolist(), shift, textcoords="offset points", color=colour, fontsize=13)
axis.plot(*torch.stack([target, conserved]).T, "k:", lw=1.2)
axis.annotate("$\\lambda/\\mu$", ((target + conserved) / 2).tolist(), (-26, 8), textcoords="offset points", fontsize=11)
axis.plot(0, 0, "ko", ms=4)
axis.set(aspect="equal", xlabel="$\\sqrt{\\pi_k}\\,v$ of answer 1", ylabel="$\\sqrt{\\pi_k}\\,v$ of answer 2")
axis.set(xlim=(-1.1, 1.4), ylim=(-0.95, 1.25))
axis.legend(frameon=False, fontsize=8.5, loc="lower left")
plt.show()

# %% [markdown]
# Projection with the exact shortfall of every other choice, $J(v^*)-J(v)=\tfrac\mu2\|v-v^*\|^2$:

# %%
anchor, g, mu = torch.softmax(torch.randn(6), 0), torch.randn(6), 0.8


def dot(x, y):
    return (anchor * x * y).sum()


def centred(x):
    return x - (anchor * x).sum()


best, other = centred(g) / mu, centred(torch.randn(6))
work = lambda v: dot(g, v) - mu / 2 * dot(v, v)  # noqa: E731
print("shortfall ", float(work(best) - work(other)), " = ", float(mu / 2 * dot(other - best, other - best)))

# %% [markdown]
# ## 2. Projection, mirror step, linear response
#
# The same $v^*$ comes from a mirror step with a Euclidean mirror map, and as the linear response of the Gibbs
# distribution: $\chi^2$ is what every divergence looks like to first order in $1/\mu$. The targets of all
# divergences leave the anchor along one tangent.

# %%
divergences = {
    "χ²": ga.PearsonChiSquare(),
    "KL(π‖π_k)": ga.KullbackLeibler(),
    "KL(π_k‖π)": ga.ReverseKullbackLeibler(),
    "Hellinger": ga.SquaredHellinger(),
}
anchor, g = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([-1.0, 0.4, 1.6])
inverse = torch.linspace(1e-3, 2.5, 120)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.1), layout="constrained", sharex=True)
for (name, divergence), colour in zip(divergences.items(), PALETTE):
    path = torch.stack([ga.target_policy(g * x, divergence, log_prior=anchor.log()).probability for x in inverse])
    for i, axis in enumerate(axes):
        axis.plot(inverse, path[:, i], color=colour, label=name)
for i, axis in enumerate(axes):
    axis.axline((0, float(anchor[i])), slope=float(anchor[i] * (g - (anchor * g).sum())[i]), color="k", lw=0.7, ls=":")
    axis.set(title=f"answer {i + 1}, drive {float(g[i]):+.1f}", xlabel="1/μ", ylim=(-0.03, 1.03))
axes[0].set_ylabel("target probability")
axes[0].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## 3. Conservation, whatever the divergence
#
# One multiplier $\lambda$ makes the probabilities sum to one. It is solved for every divergence, over supports or
# over ragged groups of samples, and a constant added to the drive moves $\lambda$ and nothing else.

# %%
anchor, g = torch.softmax(2 * torch.randn(64), 0), 3 * torch.randn(64)
everything = {
    **divergences,
    "Jensen–Shannon": ga.JensenShannon(),
    "χ² + KL": ga.PearsonChiSquare() + ga.KullbackLeibler(),
}
print(f"{'':16s}{'|Σπ* − 1|':>12s}{'λ':>10s}{'λ after g + 7':>16s}{'zeros':>8s}")
for name, divergence in everything.items():
    one, two = (ga.target_policy(x, divergence, log_prior=anchor.log()) for x in (g, g + 7))
    error = abs(float(one.probability.sum()) - 1)
    zeros = int((one.ratio == 0).sum())
    print(f"{name:16s}{error:12.1e}{float(one.multiplier):10.4f}{float(two.multiplier):16.4f}{zeros:8d}")

# %% [markdown]
# ## 4. Exact sparsity
#
# With $t\ge0$ the $\chi^2$ target is $v^*=\max(-1,(g-\lambda)/\mu)$, the weighted projection onto the simplex:
# GOPO's bounded Hilbert projection. Think of water: answers are columns of height $g$, the level $\lambda-\mu$ is
# where the water stands, an answer above it gets probability in proportion to how far it rises above. Sorting
# finds the level exactly; there is nothing to iterate.

# %%
g = torch.tensor([1.3, 0.9, 0.2, -0.1, -0.9, -1.4])
mus = torch.linspace(0.05, 2.2, 300)
exact = ga.target_policy(g, 0.6 * ga.PearsonChiSquare())
figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.3), layout="constrained")
level = float(exact.multiplier - 0.6)
places = torch.arange(6)
axes[0].bar(places, g + 2, bottom=-2, color=["#9ecae1" if x > level else "#dddddd" for x in g], width=0.8)
axes[0].bar(places, (g - level).clamp(min=0), bottom=level, color=BLUE, width=0.8)
axes[0].axhline(level, color=ORANGE, lw=1.5)
axes[0].annotate("$\\lambda-\\mu$", (5.1, level), (0, 4), textcoords="offset points", color=ORANGE)
axes[0].set(title="water level at μ = 0.6", xlabel="answer", ylabel="drive g", ylim=(-2, 1.6))
for axis, divergence, name in ((axes[1], ga.PearsonChiSquare(), "χ²"), (axes[2], ga.KullbackLeibler(), "KL")):
    shares = torch.stack([ga.target_policy(g, float(m) * divergence).probability for m in mus])
    axis.stackplot(mus, shares.T, colors=[plt.cm.viridis(k / 5.5) for k in range(6)], lw=0)
    axis.set(title=f"target probabilities, {name}", xlabel="stiffness μ", ylim=(0, 1), xlim=(0.05, 2.2))
    axis.grid(False)
threshold = float(g.mean() - g.min())
axes[1].axvline(threshold, color="w", ls="--", lw=1.2)
axes[1].annotate("μ = E g − min g", (threshold, 0.03), (-84, 0), textcoords="offset points", color="w", fontsize=8)
plt.show()

# %% [markdown]
# Right of the dashed line no probability is cut and $\lambda=\mathbb E g$; left of it answers are given up one
# after the other. That line is the positivity condition, an *if and only if*. KL's target (right) never gives an
# answer up.
#
# ## 5. Gibbs, and what DPO calls an implicit reward
#
# For KL the target is $\pi^*\propto\pi_k e^{g/\beta}$. Read in KL's own coordinate it is the drive, up to
# $\lambda$: $\beta\log(\pi^*/\pi_k) = g-\lambda$. That is DPO's implicit reward, and every divergence has one, in
# its own chart: $f$-DPO.

# %%
prior, beta = torch.log_softmax(torch.randn(6), 0), 0.5
for name, divergence in everything.items():
    target = ga.target_policy(g, beta * divergence, log_prior=prior)
    alive = target.ratio > 0
    implicit = beta * ga.Dual(divergence)(target.ratio.clamp(min=1e-300).log()) + target.multiplier
    print(f"{name:16s} β·chart(log π*/π_k) + λ − g, largest: {float((implicit - g)[alive].abs().max()):.1e}")
drive = g.clone().requires_grad_()
value = ga.free_energy(drive, beta * ga.KullbackLeibler(), log_prior=prior)
(gradient,) = torch.autograd.grad(value, drive)
gibbs = torch.softmax(prior + g / beta, 0)
print("\ngradient of the free energy − Gibbs:", float((gradient - gibbs).abs().max()))

# %% [markdown]
# A preference is a drive with a finite strength. Its target exists if the potential can balance it: IPO's
# parabola can, at a margin of $1/2\tau$; DPO's logistic has slope $\beta$ only at infinity.

# %%
m = torch.linspace(-4, 16, 300)
figure, axis = plt.subplots(figsize=(6.4, 2.9), layout="constrained")
for name, colour in (("ipo", BLUE), ("dpo", ORANGE), ("slic", GREEN)):
    objective = ga.recipes.get(name, **({"tau": 0.1} if name == "ipo" else {"beta": 0.2} if name == "slic" else {}))
    strength = objective.sampling.strength
    energy = objective.optimization.gap(m, torch.full_like(m, strength))
    axis.plot(m, energy / float(energy[0]), color=colour, label=name)
axis.set(title="distance from the target, relative to m = −4", xlabel="margin m (nats)")
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 6. The escort family
#
# OPO's drive is a member of a family of distributions between the target $P^*\propto\pi_k e^A$ and the anchor,
# $\rho_\alpha\propto\pi_k^\alpha P^{*\,1-\alpha}$: a geodesic in which *log*-probabilities move on a straight
# line. The weight of a sample is $\tilde\omega_\alpha=\rho_\alpha/\pi_k\propto e^{(1-\alpha)A}$, and its centred
# value is the drive.


# %%
def corners(p):
    return p[..., 1] + 0.5 * p[..., 2], math.sqrt(3) / 2 * p[..., 2]


start, advantage = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([-1.5, 0.5, 3.2])
end = torch.softmax(start.log() + advantage, 0)
alphas = torch.linspace(0, 1, 60)
escorts = torch.stack([torch.softmax(a * start.log() + (1 - a) * end.log(), 0) for a in alphas])
mixtures = alphas[:, None] * start + (1 - alphas[:, None]) * end
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained", gridspec_kw={"width_ratios": [1, 1.5]})
axes[0].plot(*corners(torch.eye(3)[[0, 1, 2, 0]]), color="k", lw=1)
axes[0].plot(*corners(escorts), color=BLUE, lw=2, label="escorts: e-geodesic")
axes[0].plot(*corners(mixtures), color="#999999", ls="--", label="mixtures")
for p, name, shift in ((start, "$\\pi_k$ (α = 1)", (-4, -14)), (end, "$P^*$ (α = 0)", (8, 2))):
    axes[0].plot(*corners(p), "o", color=ORANGE, ms=5)
    axes[0].annotate(name, [float(x) for x in corners(p)], shift, textcoords="offset points", fontsize=9)
axes[0].set(aspect="equal")
axes[0].axis("off")
axes[0].legend(frameon=False, fontsize=8, loc="upper left")
axes[1].plot(alphas, escorts.log() - escorts.log().mean(1, keepdim=True))
axes[1].set(title="log ρ_α without its normaliser: straight lines", xlabel="α")
plt.show()

# %% [markdown]
# ## 7. Both ends of α
#
# As $\alpha\to1$ the weight becomes constant and the drive *vanishes*: not supervised fine-tuning, but no
# training at all. Divided by $1-\alpha$ it becomes the plain centred advantage instead, so that the policy
# gradient is the member $\alpha=1$ of the scaled family. Without that scaling α changes the size of the step
# together with its shape.

# %%
reward = torch.tensor([1.0, 0.6, 0.3, 0.0, -0.5, -1.5])
zeros = torch.zeros(6, 1)
batch = ga.Batch(zeros, zeros, reward=reward)
figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained", sharex=True)
alphas = torch.linspace(0, 1, 101)
for axis, scaled in zip(axes, (False, True)):
    drives = torch.stack([ga.Escort(float(a), temperature=0.7, scaled=scaled).drive(batch) for a in alphas])
    for i in range(6):
        axis.plot(alphas, drives[:, i], color=plt.cm.coolwarm(1 - i / 5))
    axis.set(title="scaled by 1/(1 − α)" if scaled else "as published", xlabel="α", ylabel="drive")
axes[1].plot([1] * 6, (reward - reward.mean()) / 0.7, "ko", ms=4, label="(A − mean)/temperature")
for i in range(6):
    axes[0].annotate(f"r = {float(reward[i]):g}", (0, float(ga.Escort(0.0, 0.7).drive(batch)[i])), (-46, -3),
                     textcoords="offset points", fontsize=8)  # fmt: skip
axes[0].set_xlim(-0.2, 1.04)
axes[1].legend(frameon=False, fontsize=8, loc="lower left")
plt.show()

# %% [markdown]
# ## 8. W-GOPO, and its way back to GOPO
#
# W-GOPO squashes rewards with a tanh, mixes in $Ae^A$ and solves for $\lambda$. With $\alpha=0$ and no squashing
# its target is GOPO's. Its weight is not always increasing: for $\alpha>1/(1+e^{-2})\approx0.88$ very poor
# answers are pushed *less* than poor ones (notebook 08 §11).

# %%
w_gopo, gopo = ga.recipes.w_gopo(alpha=0.0, mu=0.5, scale=1e6), ga.recipes.gopo(mu=0.5)
targets = [recipe.optimization.equilibrium(recipe.drive(batch)) for recipe in (w_gopo, gopo)]
print("W-GOPO(α = 0, c → ∞) − GOPO, largest difference of targets:", float((targets[0] - targets[1]).abs().max()))
print("target probabilities relative to the anchor:", (1 + targets[1]).numpy().round(3))

a = torch.linspace(-4, 2, 300)
figure, axis = plt.subplots(figsize=(6.2, 3.0), layout="constrained")
for k, alpha in enumerate((0.0, 0.5, 0.88, 1.0)):
    axis.plot(a, (1 - alpha) * a + alpha * a * a.exp(), color=PALETTE[k], label=f"α = {alpha:g}")
axis.plot(-1, -math.exp(-1), "ko", ms=4)
axis.set(title="W-GOPO's weight of an advantage", xlabel="squashed advantage Ā", ylim=(-4, 6))
axis.legend(frameon=False)
plt.show()
