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
# # 03 · Does the gradient vanish when the policy becomes sure?
#
# The OPO paper promises gradients that "do not saturate": its curvature is constant, so that the force grows
# linearly with the distance from the target, however sure the policy already is. That is true *in a coordinate*.
# This notebook shows in which one, and what is left of the promise in the coordinates in which the optimiser works.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign import analysis
from geomalign.plotting import PALETTE, STYLE

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
plt.rcParams.update(STYLE | {"figure.dpi": 100})
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK = PALETTE

# %% [markdown]
# ## 1. What constant curvature buys: one rate for everything
#
# Descend the energy of single answers *in the fluctuation* $v$. For $\chi^2$ the error obeys $v^+ - v^* =
# (1-\eta\mu)(v-v^*)$ exactly: all start points and all targets at the same rate. For KL the curvature is
# $\beta/(1+v)$, so the rate depends on where one is.

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained", sharey=True)
start = torch.tensor([-0.8, -0.4, 0.6, 2.0])
for axis, geometry in zip(axes, (ga.ChiSquare(1.0), ga.KL(1.0))):
    for k, g in enumerate((-1.2, 0.2, 1.0)):
        v, target = start.clone(), geometry.equilibrium(torch.tensor(g))
        errors = []
        for _ in range(40):
            errors.append((v - target).abs())
            v = v - 0.25 * geometry.force(v, torch.tensor(g))
        for i, e in enumerate(torch.stack(errors).T):
            axis.semilogy(e, color=PALETTE[k], lw=1, label=f"g = {g:g}" if i == 0 else None)
    axis.set(title=f"{type(geometry).__name__}: |v − v*| of 12 descents", xlabel="step (η = ¼)", ylim=(1e-6, 5))
axes[0].plot(range(40), [2.5 * 0.75**k for k in range(40)], "k:", lw=1, label="(1 − ημ)^k")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## 2. The toy figure, in three coordinates side by side
#
# A binary policy with one logit, $\pi = \sigma(z)$, anchored at $z=0$ where both answers have probability ½; the
# first answer is rewarded. Plot the size of the gradient against confidence. The paper shows one panel of this
# with several losses. Which coordinate the derivative is taken in decides what one sees, so here are three: the
# chart of each loss, the log-probability of the rewarded answer, and the logit, which is what a network's last
# layer produces.


# %%
def log_policy(z):
    """log-probabilities of the (rewarded, other) answer."""
    return torch.stack([torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)])


z = torch.linspace(0.01, 14, 400)
log_ratio = log_policy(z) - log_policy(torch.zeros(1))
g = torch.tensor([1.0, -1.0])[:, None]
mu = 0.5
losses = {
    "χ², ratio": (ga.Ratio(), ga.ChiSquare(mu), BLUE),
    "χ², log-ratio": (ga.LogRatio(), ga.ChiSquare(mu), GREEN),
    "KL penalty": (ga.Ratio(), ga.KL(mu), SKY),
    "PPO clip": (ga.Ratio(), ga.Clip(0.2, 0.2), ORANGE),
}
figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.7), layout="constrained")
for name, (chart, geometry, colour) in losses.items():
    u = chart(log_ratio)
    force = geometry.force(u, g.expand_as(u))  # in the chart, (rewarded, other)
    in_log = force * chart.slope(log_ratio)
    in_logit = (0.5 * in_log * torch.stack([torch.sigmoid(-z), -torch.sigmoid(z)])).sum(0)
    one_answer = 0.5 * in_log[0] * torch.sigmoid(-z)
    style = {"color": colour, "ls": (0, (4, 2)) if name == "KL penalty" else "-"}
    axes[0].plot(z, force[0].abs(), label=name, **style)
    axes[1].plot(z, in_log[0].abs(), **style)
    axes[2].semilogy(z, in_logit.abs().clamp(min=1e-12), **style)
    if name == "χ², log-ratio":
        axes[2].semilogy(z, one_answer.abs(), color=colour, ls=":", label="χ², log-ratio, rewarded answer only")
link = ga.Logistic(1.0)
for axis in axes:
    axis.plot(
        z, link.force(z, torch.ones_like(z)).abs(), color=BLACK, ls="--", label="DPO" if axis is axes[0] else None
    )
axes[2].semilogy(z, torch.sigmoid(-z), color="#bbbbbb", lw=3, zorder=0, label="1 − σ(z)")
axes[0].set(title="in the chart: φ'(u) − g", ylabel="|gradient|, rewarded answer")
axes[1].set(title="in log π of the rewarded answer")
axes[2].set(title="in the logit, both answers", ylim=(1e-7, 10))
for axis in axes:
    axis.set_xlabel("logit z")
axes[0].legend(frameon=False, fontsize=8)
axes[2].legend(frameon=False, fontsize=8, loc="lower left")
plt.show()

# %% [markdown]
# * **Chart.** The probability of the rewarded answer can only double, $v\le1$ and $\Delta\le\log2$, so the forces of
#   the springs and of KL settle at a half to two thirds of where they began: they neither saturate nor grow. The
#   clip's is zero behind its wall. Only DPO's coordinate is unbounded here, and its force decays.
# * **Logit.** The ratio form and DPO (of β = 1) vanish like $1-\sigma(z)$, and so does the log form on the rewarded
#   answer. The KL penalty passes its target at $z=2/\mu=4$ and vanishes like $z\,(1-\sigma(z))$. A softmax that is
#   sure of itself moves its probabilities little, whatever the loss says.
# * The one curve that grows is the log form's, through the *other* answer: its log-ratio falls without bound and
#   pulls back. That is a restoring force, away from confidence, and it exists only as long as an unsure anchor
#   still samples that answer.
#
# The claim that survives: for the **margin** of two log-ratios, which is unbounded, the quadratic's force is
# linear also in the logit, and DPO's is not. That is the difference between IPO and DPO.

# %%
z12 = torch.tensor(12.0)
print(f"1 − σ(12)                       {float(torch.sigmoid(-z12)):.1e}")
at = int((z - 12).abs().argmin())
for name, (chart, geometry, _) in losses.items():
    u = chart(log_ratio)
    gradient = 0.5 * geometry.force(u, g.expand_as(u)) * chart.slope(log_ratio)
    value = (gradient * torch.stack([torch.sigmoid(-z), -torch.sigmoid(z)])).sum(0)[at]
    print(f"|∂L/∂z| at z = 12, {name:14s} {float(value.abs()):.1e}")
print(f"|∂L/∂z| at z = 12, margin, χ²   {abs(float(ga.ChiSquare(mu).force(z12, torch.tensor(1.0)))):.1e}")
print(f"|∂L/∂z| at z = 12, margin, DPO  {abs(float(link.force(z12, torch.tensor(1.0)))):.1e}")

# %% [markdown]
# ## 3. The anchor follows the policy
#
# In practice the anchor is the policy that sampled, a step ago. Then $u\approx0$, every potential is flat, and
# the gradient in the logit is $-\pi(1-\pi)(g_1-g_2)$ for every member of the family: the policy gradient. Below, a
# bandit of two answers is trained on-policy, with a fresh anchor every $K$ gradient steps. With $K=1$ all stiffnesses
# give one curve, because the geometry was never seen.

# %%
figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.1), layout="constrained", sharey=True)
advantage = torch.tensor([1.0, -1.0])
for axis, reuse in zip(axes, (1, 4, 32)):
    for k, stiffness in enumerate((0.3, 1.0, 3.0)):
        for form, style in (("ratio", "-"), ("log", "--")):
            chart, geometry = (ga.Ratio() if form == "ratio" else ga.LogRatio()), ga.ChiSquare(stiffness)
            logit, curve = torch.tensor(-2.0), []
            for step in range(320):
                if step % reuse == 0:
                    before = log_policy(logit)
                logit.requires_grad_()
                energy = geometry.energy(chart(log_policy(logit) - before), advantage)
                (gradient,) = torch.autograd.grad((before.exp() * energy).sum(), logit)
                logit = (logit - 0.2 * gradient).detach()
                curve.append(float(torch.sigmoid(-logit)))
            axis.semilogy(curve, color=PALETTE[k], ls=style, lw=1.2, label=f"μ = {stiffness:g}, {form}")
    axis.set(title=f"{reuse} gradient step{'s' if reuse > 1 else ''} per anchor", xlabel="gradient step")
axes[0].set_ylabel("probability of the wrong answer")
axes[2].legend(frameon=False, fontsize=7.5)
plt.show()

# %% [markdown]
# ## 4. Ratio or log-ratio: how good is the surrogate?
#
# The derivation is in $v$, the code trains with $\Delta$. For $|\Delta|\le\delta$:
# $|v-\Delta|\le\tfrac12\delta^2e^\delta$ and $|v^2-\Delta^2|\le\delta^3e^{2\delta}$, for every $\delta$. But the
# *losses* differ at second order, because the linear term carries $-g\,(v-\Delta)\approx-\tfrac12 g\Delta^2$: as
# large as the penalty itself. Their curvatures at the anchor are $\mu$ and $\mu-g$.

# %%
delta = torch.logspace(-3, 0.5, 60)
geometry = ga.ChiSquare(1.0)
figure, axes = plt.subplots(1, 2, figsize=(11, 3.3), layout="constrained")
axes[0].loglog(delta, (ga.Ratio()(delta) - delta).abs(), color=BLUE, label="|v − Δ|")
axes[0].loglog(delta, 0.5 * delta**2 * delta.exp(), color=BLUE, ls=":", label="½δ²e^δ")
axes[0].loglog(delta, (ga.Ratio()(delta) ** 2 - delta**2).abs(), color=ORANGE, label="|v² − Δ²|")
axes[0].loglog(delta, delta**3 * (2 * delta).exp(), color=ORANGE, ls=":", label="δ³e^{2δ}")
axes[0].set(title="coordinates: the stated bounds hold", xlabel="log-ratio Δ")
axes[0].legend(frameon=False, fontsize=8)
for drive, colour in ((0.5, PINK), (0.0, GREEN)):
    error = geometry.energy(ga.Ratio()(delta), torch.tensor(drive)) - geometry.energy(delta, torch.tensor(drive))
    axes[1].loglog(delta, error.abs(), color=colour, label=f"g = {drive:g}")
axes[1].loglog(delta, 0.25 * delta**2, color=PINK, ls=":", label="½gΔ²")
axes[1].loglog(delta, delta**3 / 2, color=GREEN, ls=":", label="½Δ³")
axes[1].set(title="losses: second order wherever there is a drive", xlabel="log-ratio Δ")
axes[1].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## 5. What this means for a choice
#
# * Curvature is a property of a coordinate. "Non-saturating" belongs to the chart; in the logits the ratio form, the
#   KL penalty and DPO all saturate as the policy becomes sure.
# * The geometry acts only on policies that have left the anchor: several updates per rollout, or a fixed
#   reference.
# * What differs between potentials is how they treat answers that moved *far*: a spring in $v$ pulls back with
#   $\mu v\,t$ in $\log\pi$, which grows like $t^2$ for answers that became much more likely and vanishes like $t$
#   for those that were given up.

# %%
x = torch.linspace(-5, 2.2, 300)
figure, axis = plt.subplots(figsize=(6.2, 3.2), layout="constrained")
for name, (chart, geometry, colour) in losses.items():
    u = chart(x)
    axis.plot(x, geometry.force(u, torch.full_like(u, -1.0)) * chart.slope(x), color=colour, label=name)
axis.set(title="force on log π of an answer with drive −1", xlabel="log-ratio Δ", ylabel="∂ℓ/∂log π", ylim=(-3, 6))
axis.axvline(0, color=BLACK, lw=0.6)
axis.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## 6. Phase portraits
#
# How does the exact expected loss move *every* policy over three answers, with the anchor held in the middle of the
# simplex? The arrows are the gradient flow in the logits, and the curves start from three policies. The springs in the
# ratio and in the log-ratio have one rest point, inside the simplex; the clip comes to rest on a whole region, or
# slides along a wall; REINFORCE rests in a corner only.

# %%
bandit = analysis.Tree.bandit(torch.tensor([0.0, 0.5, 1.0]))
portraits = {
    "χ², ratio": (ga.Ratio(), ga.ChiSquare(0.8)),
    "χ², log-ratio": (ga.LogRatio(), ga.ChiSquare(0.8)),
    "PPO clip": (ga.Ratio(), ga.Clip(0.2, 0.2)),
    "REINFORCE": (ga.Ratio(), ga.Flat()),
}
starts, time = torch.tensor([[0.8, 0.1, 0.1], [0.05, 0.15, 0.8], [0.45, 0.5, 0.05]]), torch.linspace(0, 40, 120)
triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
figure, axes = plt.subplots(1, 4, figsize=(13, 3.1), layout="constrained")
for axis, (name, (chart, geometry)) in zip(axes, portraits.items()):
    objective = ga.Objective(unit=ga.Sequence(), chart=chart, sampling=ga.GroupAdvantage(), optimization=geometry)
    field = analysis.portrait(bandit, objective, resolution=18)
    speed = field.arrows.norm(dim=1, keepdim=True)
    direction = torch.where(speed > 1e-6, field.arrows / speed.clamp(min=1e-9).sqrt(), 0)
    axis.quiver(*field.plane.T, *direction.T, color="#8aa9c4", width=0.006, scale=7, headwidth=4)
    for start in starts:
        path = analysis.gradient_flow(bandit, objective, time, start=start.log()[None], tolerance=1e-4)
        path = path.probabilities @ triangle
        axis.plot(*path.T, color=ORANGE, lw=1.3)
        axis.plot(*path[-1], "o", color=ORANGE, ms=4)
    axis.plot(*triangle[[0, 1, 2, 0]].T, color="k", lw=1)
    axis.plot(*triangle.mean(0), "k+", ms=7)
    for corner, label, shift in zip(triangle, ("r = 0", "r = ½", "r = 1"), ((-4, -11), (-20, -11), (8, -4))):
        axis.annotate(label, corner.tolist(), shift, textcoords="offset points", fontsize=8)
    axis.set(title=name, aspect="equal", xlim=(-0.06, 1.08), ylim=(-0.1, 0.92))
    axis.axis("off")
plt.show()
