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
# # 05 · How far may a step go, and how many samples should count?
#
# These are two questions that one can answer before training. The stiffness $\mu$ and the escort order $\alpha$,
# which the OPO paper leaves to be tuned and names as its limitation, are not of that kind: nobody knows what
# $\mu=1$ means for the next step. But each follows from an answer, in closed form or by a root of one variable.
# This notebook sets them from a radius and from an effective sample size.

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
# ## 1. What a radius promises
#
# $\chi^2\le\varepsilon$ bounds total variation by $\sqrt\varepsilon/2$, KL bounds it by $\sqrt{\mathrm{KL}/2}$
# (Pinsker): no event changes its probability by more. Below are two thousand random pairs of policies, with the bounds.

# %%
anchor = torch.softmax(1.5 * torch.randn(2000, 5), -1)
policy = torch.softmax(anchor.log() + torch.rand(2000, 1) * torch.randn(2000, 5), -1)
tv = 0.5 * (policy - anchor).abs().sum(-1)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained", sharey=True)
x = torch.logspace(-6, 1, 50)
chi2 = 2 * ga.PearsonChiSquare().value(policy.log(), anchor.log())
kl = ga.KullbackLeibler().value(policy.log(), anchor.log())
for axis, value, bound, name in ((axes[0], chi2, x.sqrt() / 2, "E[v²]"), (axes[1], kl, (x / 2).sqrt(), "KL(π‖π_k)")):
    axis.loglog(value, tv, ".", ms=2, color=BLUE)
    axis.loglog(x, bound, color=ORANGE, label="bound")
    axis.set(xlabel=name, ylim=(1e-4, 1))
axes[0].set_ylabel("total variation")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## 2. The stiffness from a radius
#
# $\max\langle g,v\rangle$ subject to $\mathbb E[v]=0$ and $\mathbb E[v^2]\le\varepsilon$ is solved by
# $v^*=(g-\mathbb E g)/\mu$ with
#
# $$ \mu = \|g-\mathbb E g\|\,/\sqrt\varepsilon . $$
#
# So the stiffness can be computed from the batch. The step then does not depend on the scale of the rewards, and
# a prompt on which all answers are equal simply has no step. For other divergences the same is one scalar root.

# %%
reward = torch.tensor([1.0, 0.9, 0.2, 0.0, 0.0, -0.4])
zeros = torch.zeros(6, 1)
print("reward scale     μ solved     E[v²]     KL(π*‖π_k) with kl=0.05")
for scale in (0.01, 1.0, 100.0):
    batch = ga.Batch(zeros, zeros, reward=scale * reward)
    groups = batch.groups()
    mu = ga.chi_square_stiffness(scale * reward, groups, 0.04)
    v = ga.TrustRegion(chi2=0.04).drive(batch)
    t = ga.TrustRegion(kl=0.05).drive(batch).exp()
    kl = ga.KullbackLeibler().generator(t).mean()
    print(f"{scale:12g}{float(mu):13.4f}{float((v**2).mean()):10.4f}{float(kl):14.4f}")

# %% [markdown]
# The figure shows, on the simplex, the policies that solve the problem for growing radii in three geometries. All start
# in the same direction and end at the best answer. The $\chi^2$ path is straight until it meets an edge, where one
# answer is given up, and follows that edge.


# %%
def corners(p):
    return p[..., 1] + 0.5 * p[..., 2], math.sqrt(3) / 2 * p[..., 2]


home, drive = torch.tensor([0.5, 0.35, 0.15]), torch.tensor([-0.6, 0.2, 1.0])
grid = torch.linspace(0.0005, 0.9995, 240)
p1, p2 = torch.meshgrid(grid, grid, indexing="ij")
simplex = torch.stack([1 - p1 - p2, p1, p2], -1)
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.4), layout="constrained")
families = {"χ²": ga.PearsonChiSquare(), "KL(π‖π_k)": ga.KullbackLeibler(), "KL(π_k‖π)": ga.ReverseKullbackLeibler()}
for axis, (name, divergence) in zip(axes, families.items()):
    value = divergence.value(simplex.clamp(min=1e-12).log(), home.log())
    x, y = corners(simplex)
    path = torch.stack(
        [ga.target_policy(drive * s, divergence, log_prior=home.log()).probability for s in torch.logspace(-2, 2, 200)]
    )
    spheres = [0.03, 0.12, 0.3, 0.6]
    axis.contour(
        x, y, torch.where(simplex[..., 0] <= 0, torch.nan, value), levels=spheres, colors=["#9ecae1"], linewidths=1
    )
    axis.plot(*corners(torch.eye(3)[[0, 1, 2, 0]]), color="k", lw=1)
    axis.plot(*corners(path), color=ORANGE, lw=2)
    reached = divergence.value(path.clamp(min=1e-300).log(), home.log())
    for radius in spheres:
        axis.plot(*corners(path[int((reached - radius).abs().argmin())]), "o", color=ORANGE, ms=5)
    axis.plot(*corners(home), "ko", ms=4)
    axis.set(title=name, aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 0.88))
    axis.axis("off")
plt.show()

# %% [markdown]
# ## 3. α from an effective sample size
#
# The escort weights $e^{(1-\alpha)A}$ concentrate on the best samples as $\alpha$ falls. How far is too far?
# Their effective sample size $(\sum\omega)^2/\sum\omega^2$ is monotone in $\alpha$, so the question "let about
# half of the samples count" has at most one answer, and it follows the scale of the rewards by itself. At the two
# smaller scales below it has none: even $\alpha=0$ leaves more than half, and $\alpha$ stays there (a lower
# temperature reaches further).

# %%
rewards = torch.randn(16)
alphas = torch.linspace(0, 1, 80)
zeros = torch.zeros(16, 1)
figure, axis = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
for scale, colour in ((0.5, SKY), (1.0, BLUE), (3.0, ORANGE)):
    batch = ga.Batch(zeros, zeros, reward=scale * rewards)
    weights = torch.stack([1 + ga.Escort(float(a)).drive(batch) for a in alphas])
    share = weights.sum(1) ** 2 / (weights**2).sum(1) / 16
    solved = float(ga.EscortESS(0.5).alpha(batch))
    axis.plot(alphas, share, color=colour, label=f"reward scale {scale:g}: α = {solved:.2f}")
    axis.plot(solved, float(torch.as_tensor(share[int((alphas - solved).abs().argmin())])), "o", color=colour)
axis.axhline(0.5, color=BLACK, lw=0.7, ls=":")
axis.set(title="effective share of the samples", xlabel="α", ylim=(0, 1.05))
axis.legend(frameon=False, fontsize=8.5)
plt.show()

# %% [markdown]
# ## 4. Holding the target over a run
#
# A radius bounds the *target* of a step. What the optimiser does in a few steps towards it is something else.
# `AdaptiveStiffness` measures how far the policy moved and adapts the stiffness by dual ascent. It stands outside of
# the objective, which stays a pure function. It is tried below on a contextual bandit with noisy rewards and a small
# network, for 40 rollouts with 8 gradient steps on each, at three learning rates.
# With a fixed stiffness the policy moves as far as the learning rate takes it; with the controller it finds the
# stiffness at which it moves by its target. (The target, 0.01, is for the average over a rollout's updates, the first
# of which has not moved at all. At the end of a rollout, which is what the left panel shows, the policy is further:
# after the first ten rollouts 0.015 to 0.03 on average, the more the lower the learning rate.)

# %%
contexts, arms = torch.randn(48, 4), 10
quality = torch.sigmoid(contexts @ torch.randn(4, arms))


def network():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 12), torch.nn.Tanh(), torch.nn.Linear(12, arms))


def train(objective, rate, controller=None, rollouts=40, updates=8):
    """Mean reward, and mean KL of the policy from the old policy, of every rollout."""
    model, generator = network(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    rewards, moved = [], []
    for _ in range(rollouts):
        with torch.no_grad():
            before = torch.log_softmax(model(contexts), -1).repeat_interleave(8, 0)
            arm = torch.multinomial(before.exp(), 1, generator=generator)
            mean = quality.repeat_interleave(8, 0).gather(1, arm)[:, 0]
            reward = mean + 0.3 * torch.randn(mean.shape, generator=generator)
        anchor, group = before.gather(1, arm), torch.arange(48).repeat_interleave(8)
        drive = None
        for _ in range(updates):
            log_policy = torch.log_softmax(model(contexts), -1).repeat_interleave(8, 0)
            batch = ga.Batch(log_policy.gather(1, arm), anchor, reward=reward, group=group)
            if drive is None:
                drive = objective.drive(batch)
                drive = drive if controller is None else controller.stiffen(objective, drive)
            outcome = objective(batch, drive=drive)
            if controller is not None:
                controller.observe(outcome)
            optimizer.zero_grad()
            outcome.loss.backward()
            optimizer.step()
        if controller is not None:
            controller.step()
        with torch.no_grad():
            after = torch.log_softmax(model(contexts), -1).repeat_interleave(8, 0)
            moved.append(float(ga.KullbackLeibler().value(after, before).mean()))
        rewards.append(float(mean.mean()))
    return rewards, moved


# The log-ratio form, driven by the advantage in units of its spread.
objective = ga.Objective(
    unit=ga.Sequence(), chart=ga.LogRatio(), sampling=ga.GroupAdvantage(scale="batch"), optimization=ga.ChiSquare(1.0)
)
figure, axes = plt.subplots(1, 2, figsize=(11.5, 3.4), layout="constrained")
for rate, colour in ((0.1, SKY), (0.4, BLUE), (1.6, ORANGE)):
    for name, controller, style in (("μ = 1", None, ":"), ("adaptive", ga.AdaptiveStiffness(0.01, rate=0.3), "-")):
        rewards, moved = train(objective, rate, controller)
        axes[0].semilogy(moved, color=colour, ls=style, lw=1.3, label=f"{name}, learning rate {rate:g}")
        axes[1].plot(rewards, color=colour, ls=style, lw=1.3)
axes[0].axhspan(0.01, 0.02, color="#cccccc", alpha=0.5, lw=0)
axes[0].set(title="KL that one rollout moved the policy", xlabel="rollout")
axes[1].set(title="mean reward", xlabel="rollout")
axes[0].legend(frameon=False, fontsize=7, ncols=2)
plt.show()
