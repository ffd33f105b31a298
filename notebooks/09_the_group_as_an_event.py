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
# # 09 · Can the responses to one prompt teach each other without a baseline?
#
# GRPO samples several responses to a prompt and asks of each one whether it is better than the average of the others.
# The average is a baseline: without it, all responses to an easy prompt would be pushed up. It has to be subtracted,
# and often divided by a standard deviation, because every response is trained on its own.
#
# There is another way. The responses to one prompt can be *compared*: among these eight, how should the probability
# be shared? Then the group as a whole is one event, and what one response gains another one loses. This notebook asks
# what that buys, and measures what it does not.

# %%
# %matplotlib inline
import itertools
import math

import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign import analysis
from geomalign.optimization import GroupPotential, GroupReverseKL
from geomalign.plotting import DASHES, PALETTE, STYLE
from geomalign.sampling import GroupTarget

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
plt.rcParams.update(STYLE | {"figure.dpi": 100})
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK = PALETTE


def group(log_ratio, reward):
    """One prompt with its responses, of one token each, under a policy that moved by these log-ratios."""
    zero = torch.zeros(len(reward), 1)
    return ga.Batch(log_ratio[:, None], zero, reward=reward)


# %% [markdown]
# ## 1. A classification among the responses
#
# Let $u_i=\log\pi(y_i)-\log\pi_{\text{old}}(y_i)$ be how far each response has moved. Its softmax $p$ over the group
# is the policy, restricted to these responses and seen from where it was. The rewards say how it should be: $q$, the
# softmax of $r/\tau$. The loss is the cross-entropy, as in any classification, and its gradient is $p-q$.

# %%
reward = torch.tensor([1.0, 1.0, 0.8, 0.3, 0.2, 0.0, 0.0, -0.5])
u = (0.3 * torch.randn(8)).requires_grad_()
tau = 0.5
q = torch.softmax(reward / tau, 0)
cross_entropy = -(q * torch.log_softmax(u, 0)).sum()
(gradient,) = torch.autograd.grad(cross_entropy, u)
print("gradient          ", gradient.numpy().round(3))
print("p − q             ", (torch.softmax(u, 0) - q).detach().numpy().round(3))
print("its sum           ", f"{float(gradient.sum()):.1e}")
print("with rewards + 100", f"{float((torch.softmax((reward + 100) / tau, 0) - q).abs().max()):.1e}", "change of q")

# %% [markdown]
# Nothing was subtracted. The gradient sums to zero because both $p$ and $q$ sum to one, and a constant added to all
# rewards, or to all log-ratios, changes neither. In the library the same loss is LPO (arXiv 2605.06139):

# %%
objective = ga.recipes.lpo(tau=tau)
batch = group(u, reward)
outcome = objective(batch)
print("loss less KL(q‖p):   ", f"{float((outcome.loss - cross_entropy - (q * q.log()).sum()).detach()):.1e}")
print("gradient less (p − q):", f"{float((objective.gradient(batch)[:, 0] - gradient).abs().max()):.1e}")
print("drive n·q − 1:        ", outcome.drive.numpy().round(3))

# %% [markdown]
# It is the formula of the other notebooks. The drive is $g_i=nq_i-1$, how much more than its equal share a response
# should get. The potential is $\varphi(u)=\log\mathrm{mean}\,e^{u}-\bar u$, a convex function of *all* coordinates of
# the group. It does not contain the drive, so that what pulls and what resists are decoupled. Its gap to the
# conjugate is a Fenchel–Young loss: never negative, and zero at the target $u^*=\log q$, up to a constant.

# %%
potential = GroupPotential()
rest = potential.equilibrium(outcome.drive)
print("smallest gap of 1000 random groups:", end=" ")
print(f"{min(float(potential.gap(3 * torch.randn(8), outcome.drive).min()) for _ in range(1000)):.3f}")
print("gap at the target:                 ", f"{float(potential.gap(rest, outcome.drive).abs().max()):.1e}")
print("u* less log q, up to a constant:   ", f"{float((rest - q.log()).std()):.1e}")

# %% [markdown]
# ## 2. Which target? From softmax to sparsemax
#
# The softmax keeps a share for every response, also for the hopeless ones. The entropy in it can be exchanged, as in
# notebook 02. With the square $\tfrac12\|q\|^2$ in its place the target is the *sparsemax*, in which poor responses
# have a share of exactly zero; the powers between give the *entmax*.

# %%
members = {"softmax": ga.KullbackLeibler(), "1.5-entmax": ga.CressieRead(1.5), "sparsemax": ga.PearsonChiSquare()}
figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained", width_ratios=[1.5, 1, 1])
at_anchor, places = group(torch.zeros(8), reward), torch.arange(8)
for k, (name, divergence) in enumerate(members.items()):
    share = (1 + GroupTarget(divergence=divergence, temperature=0.5).drive(at_anchor)) / 8
    axes[0].bar(places + 0.27 * (k - 1), share, 0.25, color=PALETTE[k], label=name)
axes[0].set_xticks(places, [f"{r:g}".replace("-", "−") for r in reward.tolist()])
axes[0].set(title="target shares at τ = 0.5", xlabel="reward of the response", ylabel="share q")
axes[0].legend(frameon=False)
s = torch.linspace(-3, 3, 300)
for k, (name, divergence) in enumerate(members.items()):
    # Two responses at ±s/2; and the force on a third one far below both, when its target is zero too.
    pair = torch.stack([s / 2, -s / 2], -1)
    axes[1].plot(s, (1 + GroupPotential(divergence).mirror(pair)[:, 0]) / 2, color=PALETTE[k], ls=DASHES[k])
    three = torch.stack([torch.zeros_like(s), torch.zeros_like(s), s - 3], -1)
    force = GroupPotential(divergence).force(three, torch.tensor([0.5, 0.5, -1.0]))[:, 2]
    axes[2].plot(s - 3, force, color=PALETTE[k], ls=DASHES[k], label=name)
axes[1].set(title="two responses: share of the first", xlabel="u₁ − u₂", ylabel="p₁")
axes[2].set(title="force on a third one with target zero", xlabel="u₃, below the other two", ylabel="n(p₃ − q₃)")
axes[2].legend(frameon=False)
plt.show()

# %% [markdown]
# The right panel is the practical difference. Softmax pushes a rejected response down for ever, with a force that
# fades. Sparsemax and entmax stop when the response has left the support: it is far enough below, and gets no
# gradient at all. `ga.recipes.sparse_lpo` is LPO with these.

# %% [markdown]
# ## 3. Close to the anchor it is GRPO without its scale
#
# On the first step after a rollout nothing has moved, $u=0$ and $p=1/n$. For a large temperature
# $q_i\approx\frac1n\big(1+\frac{r_i-\bar r}{\tau}\big)$, so the gradient is $-\frac{r_i-\bar r}{n\tau}$: the mean
# reward appears as a baseline by itself. Swap the arguments of the KL, and it is exact for every $\tau$.

# %%
taus = torch.logspace(-0.5, 3, 30)
first_order = -(reward - reward.mean()) / 8
errors = {
    direction: [
        float((t * ga.recipes.lpo(float(t), direction).gradient(at_anchor)[:, 0] - first_order).abs().max())
        for t in taus
    ]
    for direction in ("forward", "reverse")
}
figure, axes = plt.subplots(1, 2, figsize=(11, 3.3), layout="constrained")
axes[0].loglog(taus, errors["forward"], color=BLUE, label="KL(q‖p), forward")
axes[0].loglog(taus, torch.tensor(errors["reverse"]).clamp(min=1e-17), color=ORANGE, ls="--", label="KL(p‖q), reverse")
axes[0].loglog(taus, 0.1 / taus, color=BLACK, lw=0.8, ls=":", label="slope −1")
axes[0].set(title="τ·gradient less the policy gradient", xlabel="temperature τ", ylabel="largest difference")
axes[0].legend(frameon=False)
spread = torch.tensor([0.01, 0.1, 1.0, 10.0])
for name, color, dash in (("lpo", BLUE, "-"), ("dr_grpo", GREEN, DASHES[2]), ("grpo", ORANGE, DASHES[1])):
    size = [float(ga.recipes.get(name).gradient(group(torch.zeros(8), x * reward)).norm()) for x in spread]
    size = torch.tensor(size) / size[1]
    axes[1].loglog(spread, size, color=color, ls=dash, marker="o", ms=3.5, label=name)
axes[1].set(title="size of the first step, relative to that at 0.1", xlabel="scale of the rewards", ylabel="|gradient|")
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# Right: GRPO divides by the standard deviation and takes a step of the same size for any scale of the rewards, also
# where they differ by noise only. LPO's step grows with the scale, as that of Dr. GRPO does, and then levels off: a
# target on the simplex cannot ask for more than everything.

# %% [markdown]
# ## 4. Where does it end?
#
# Three answers to one prompt, all of them in the group, a uniform old policy, and gradient flow of the exact loss in
# the logits. The policy itself should go to $q$, from every start.

# %%
rewards = torch.tensor([0.0, 0.5, 1.0])
bandit, triangle = analysis.Tree.bandit(rewards), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
starts = torch.tensor([[0.8, 0.1, 0.1], [0.08, 0.84, 0.08], [0.05, 0.1, 0.85], [1 / 3, 1 / 3, 1 / 3]])
flows = {
    "forward KL": (ga.recipes.lpo(0.4), ga.KullbackLeibler(), 0.4),
    "reverse KL": (ga.recipes.lpo(0.4, "reverse"), ga.KullbackLeibler(), 0.4),
    "sparsemax": (ga.recipes.sparse_lpo(0.4, 1.0, mapping="sparsemax"), ga.PearsonChiSquare(), 0.4),
}
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.4), layout="constrained")
for axis, (name, (recipe, divergence, t)) in zip(axes, flows.items()):
    drive = GroupTarget(divergence=divergence, temperature=t).drive(group(torch.zeros(3), rewards))
    for start in starts:
        path = analysis.gradient_flow(
            bandit, recipe, torch.linspace(0, 80, 160), start=start.log()[None], drive=drive, tolerance=1e-6
        )
        line = path.probabilities @ triangle
        axis.plot(*line.T, color=BLUE)
        axis.plot(*line[0], "o", color=BLUE, ms=3)
        axis.plot(*line[-1], "o", color=ORANGE, ms=6)
    axis.plot(*triangle[[0, 1, 2, 0]].T, color=BLACK, lw=1)
    axis.plot(*((1 + drive) / 3 @ triangle), "x", color=BLACK, ms=9, label="target q")
    for corner, text, shift in zip(triangle, ("r = 0", "r = ½", "r = 1"), ((0, -13), (0, -13), (0, 5))):
        axis.annotate(text, corner.tolist(), shift, textcoords="offset points", ha="center", fontsize=8.5)
    axis.set(title=name, aspect="equal", xlim=(-0.12, 1.12), ylim=(-0.12, 1.0))
    axis.axis("off")
    print(f"{name:12s} target {((1 + drive) / 3).numpy().round(3)}  reached {path.probabilities[-1].numpy().round(3)}")
axes[0].legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# The two KLs take different roads to the same policy. The sparse one does **not** reach its target: the target says
# zero for the worst answer, but the model is a softmax and cannot say zero. What reaches $q$ is the sparsemax of $u$.
# The flow stops as soon as the answer is below the support, and the model keeps sampling it. Sparsity is a
# statement about gradients, not about what is sampled.
#
# A prompt has more answers than a group has places. Does it matter which ones were drawn? With the softmax it does
# not: $u=r/\tau$ makes $p=q$ in *every* group at once, so that the Gibbs policy $\propto\pi_{\text{old}}e^{r/\tau}$
# minimises the loss of any groups whatsoever. Below, all groups of $n$ out of four answers, and the policy that
# minimises the exact expected loss over them.

# %%
four = torch.tensor([1.0, 0.6, 0.0, -0.7])


def minimiser(n, target, steps=1500):
    """The policy over four answers that minimises the expected loss over all groups of n; the old one is uniform."""
    groups = torch.tensor(list(itertools.product(range(4), repeat=n)))
    q = torch.stack([target(four[g]) for g in groups])
    logits = torch.zeros(4)
    for _ in range(steps):
        p = torch.softmax(logits[groups], 1)
        logits = logits - 2.0 * torch.zeros(4).index_add(0, groups.flatten(), (p - q).flatten()) / len(groups)
    return torch.softmax(logits, 0)


def standardised(r):
    return torch.softmax((r - r.mean()) / (r.std(correction=0) + 1e-6), 0)


def noisy(r):
    """The mean target when every reward is off by ±1, each with probability ½."""
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=len(r))))
    return torch.softmax(r + signs, 1).mean(0)


gibbs = torch.softmax(four, 0)
print("                        Gibbs policy", gibbs.numpy().round(3))
for title, target in (
    ("exact rewards", lambda r: torch.softmax(r, 0)),
    ("rewards ± 1", noisy),
    ("(r − r̄)/σ", standardised),
):
    for n in (2, 3, 4):
        found = minimiser(n, target)
        distance = float((found - gibbs).abs().sum() / 2)
        print(
            f"{title:14s} groups of {n}   policy {found.numpy().round(3)}   total variation from Gibbs {distance:.4f}"
        )

# %% [markdown]
# With exact rewards every size of group has the Gibbs policy as its minimiser. Two common things break that.
#
# * **Noise in the rewards** enters an exponential. The mean of the targets is not the target of the mean, and the
#   policy comes out flatter than it should. (A policy gradient, linear in the rewards, has no such bias.)
# * **Dividing by the group's standard deviation**, as TPO does, gives every group a temperature of its own. No policy
#   is the target of all groups, and where it ends depends on the size of the groups.

# %% [markdown]
# ## 5. Does it saturate?
#
# A policy is sure of the wrong response, $u=(s,0,0)$, and 96 % of the target are the second one's. How strong are the
# force and the curvature, as $s$ grows? Both are measured in $u$, which here is the logit.

# %%
s = torch.linspace(0, 14, 57)
wrong = torch.stack([s, 0 * s, 0 * s], -1)
wanted = 3 * torch.tensor([0.02, 0.96, 0.02]) - 1
candidates = {
    "softmax, KL(q‖p)": GroupPotential(),
    "softmax, KL(p‖q)": GroupReverseKL(),
    "sparsemax": GroupPotential(ga.PearsonChiSquare()),
}
figure, axes = plt.subplots(1, 2, figsize=(11, 3.3), layout="constrained")
print("|force| and |Hessian| at s =      0                4                8               12")
for (name, geometry), color, dash in zip(candidates.items(), PALETTE, DASHES):
    force = torch.stack([geometry.force(x, wanted) for x in wrong]).norm(dim=1) / 3
    hessian = (
        torch.stack(
            [torch.linalg.matrix_norm(torch.func.jacrev(lambda v: geometry.force(v, wanted))(x), 2) for x in wrong]  # noqa: B023
        )
        / 3
    )
    axes[0].semilogy(s, force.clamp(min=1e-9), color=color, ls=dash, label=name)
    axes[1].semilogy(s, hessian.clamp(min=1e-9), color=color, ls=dash)
    print(f"{name:18s}", "  ".join(f"{float(force[i]):8.1e} {float(hessian[i]):7.0e}" for i in (0, 16, 32, 48)))
spring = torch.stack([ga.ChiSquare(1.0).force(x, wanted) for x in wrong]).norm(dim=1) / 3
axes[0].semilogy(s, spring, color=PINK, ls=DASHES[3], label="χ² of single responses")
axes[1].semilogy(s, torch.full_like(s, 1 / 3), color=PINK, ls=DASHES[3])
axes[0].set(title="force on the group", xlabel="s: how sure of the wrong response", ylabel="|force|/n", ylim=(1e-6, 30))
axes[1].set(title="curvature, largest eigenvalue", xlabel="s", ylabel="|Hessian|/n", ylim=(1e-6, 3))
axes[0].legend(frameon=False, loc="lower left")
plt.show()

# %% [markdown]
# The forward KL keeps its full force, however sure the policy is of the wrong response: the way back is a straight
# line. Its curvature dies out like $e^{-s}$, and that of sparsemax is exactly zero beyond the edge of its support.
# Neither has the constant curvature of χ², whose force grows with the distance. The reverse KL loses its force as
# well, because it cannot see a response to which the policy gives nothing. "Does not saturate" is true of the forward
# force, on the wrong side, and of nothing else here.

# %% [markdown]
# ## 6. Does it learn?
#
# Five objectives are trained on sixteen prompts with eight answers each, by six responses per prompt and four gradient
# steps per rollout. Each is scaled such that its first gradient is as long as that of the policy gradient with the
# group's mean as a baseline, so that what differs is the direction and what happens later. This is done without and
# with noise in the rewards, for eight seeds.

# %%
prompts, answers, size, rollouts, seeds = 16, 8, 6, 60, 8
rows = torch.arange(prompts).repeat_interleave(size)
baseline = ga.Objective(unit=ga.Sequence(), chart=ga.LogRatio(), sampling=ga.GroupAdvantage(), optimization=ga.Flat())


def train(objective, noise, seed):
    """Regret of the policy after every rollout."""
    generator = torch.Generator().manual_seed(seed)
    quality = torch.rand(prompts, answers, generator=generator)
    logits, regret, scale = torch.zeros(prompts, answers), [], None
    for _ in range(rollouts):
        before = torch.log_softmax(logits, 1)
        chosen = torch.multinomial(before.exp()[rows], 1, generator=generator)
        reward = quality[rows].gather(1, chosen)[:, 0] + noise * torch.randn(len(rows), generator=generator)
        drive = None
        for _ in range(4):
            logits.requires_grad_()
            policy = torch.log_softmax(logits, 1)[rows].gather(1, chosen)
            batch = ga.Batch(policy, before[rows].gather(1, chosen), reward=reward, group=rows)
            drive = objective.drive(batch) if drive is None else drive
            if scale is None:
                scale = float(baseline.gradient(batch).norm() / objective.gradient(batch).norm())
            (gradient,) = torch.autograd.grad(objective(batch, drive=drive).loss, logits)
            logits = (logits - 8.0 * scale * gradient).detach()
        regret.append(float((quality.amax(1) - (logits.softmax(1) * quality).sum(1)).mean()))
    return regret


contestants = {
    "policy gradient": (baseline, BLACK, ":"),
    "grpo": (ga.recipes.grpo(), ORANGE, DASHES[1]),
    "lpo, τ = ½": (ga.recipes.lpo(0.5), BLUE, "-"),
    "lpo reverse, τ = ½": (ga.recipes.lpo(0.5, "reverse"), SKY, DASHES[2]),
    "sparse_lpo, τ = ½": (ga.recipes.sparse_lpo(0.5, mapping="sparsemax"), GREEN, DASHES[3]),
}
figure, axes = plt.subplots(1, 2, figsize=(11.5, 3.5), layout="constrained", sharey=True)
for axis, noise in zip(axes, (0.0, 0.5)):
    print(f"noise {noise:g}: regret after {rollouts} rollouts, with the 95 % interval of {seeds} seeds")
    for name, (recipe, color, dash) in contestants.items():
        runs = torch.tensor([train(recipe, noise, seed) for seed in range(seeds)])
        mean, error = runs.mean(0), 2.365 * runs.std(0) / math.sqrt(seeds)
        axis.plot(mean, color=color, ls=dash, label=name)
        axis.fill_between(range(rollouts), mean - error, mean + error, color=color, alpha=0.15, lw=0)
        print(f"    {name:20s} {float(mean[-1]):.3f} ± {float(error[-1]):.3f}")
    axis.set(title=f"rewards with noise {noise:g}", xlabel="rollout", ylim=(0, None))
axes[0].set_ylabel("regret of the policy")
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# No group loss is better here than the policy gradient with its baseline, and LPO's forward projection is behind it
# in both panels, without noise by more than the intervals. GRPO is the fastest without noise, since its division by
# the standard deviation keeps the steps long when the rewards of a group become alike; with noise it has lost that
# advantage. At this size the group as an event buys a simpler theory and not a better learner.

# %% [markdown]
# ## 7. The relatives
#
# Several published losses of a whole group are this formula with other parts. Which of them need no baseline, and
# which are decoupled, can be computed: the force of a group has to sum to zero, and a potential must not contain the
# drive.

# %%
random_group = group(0.5 * torch.randn(8), reward)
random_group = ga.Batch(random_group.policy, random_group.old, reward=reward, reference=random_group.old)
print(f"{'recipe':15s}{'sum of the forces':>18s}{'decoupled':>11s}   target")
for name in ("lpo", "tpo", "adpo", "info_nca", "sparse_lpo", "plackett_luce", "real"):
    recipe = ga.recipes.get(name)
    found = recipe(random_group)
    reached = bool(torch.isfinite(found.terms[0].optimization.equilibrium(found.drive)).all())
    total = abs(float(found.force.sum()))
    print(f"{name:15s}{total:18.1e}{recipe.decoupled!s:>11s}   {'finite' if reached else 'at infinity'}")

# %% [markdown]
# REAL (arXiv 2602.05630) classifies each response as right or wrong against a fixed zero, so its forces do not
# cancel. A ranking (Plackett–Luce) needs no baseline either, but has no resting place: it pushes the responses apart
# for ever, as DPO does with two.
#
# **So: can the responses teach each other without a baseline?** They can. The baseline is in the simplex: $p$ and $q$
# sum to one, and the mean reward comes out as the first-order term. What is gained is a target in closed form, which
# all groups agree on if the rewards are exact and not standardised, and a force that does not fade on the wrong side.
# What is not gained is a better policy gradient near the anchor, where the two are one.
