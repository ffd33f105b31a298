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
# # 08 · Which claims of the papers do not hold?
#
# The view of this library comes from the OPO, GOPO and W-GOPO papers. Each of their claims was tried by
# enumeration. What holds is in notebooks 01 to 05 and in the table of theorems. This notebook has what did not hold
# as stated, each with the smallest counterexample and with what does hold. Every section is a test in
# `tests/theory/test_errata.py`, and an entry of `docs/errata.md`.

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


def one_group(log_prob, anchor=None, **more):
    """A batch of single-token responses to one prompt."""
    log_prob = torch.as_tensor(log_prob)
    return ga.Batch(log_prob[:, None], (log_prob if anchor is None else anchor)[:, None], **more)


def bounded(target):
    """GOPO's bounded projection of one group."""
    return ga.target_policy(target, ga.PearsonChiSquare()).fluctuation


# %% [markdown]
# ## 1. Whose gradient in the logit remains O(1)
#
# "OPO is the only objective whose gradient magnitude remains $O(1)$ throughout", says §6.3 of the toy figure, which
# differentiates with respect to a logit. There, the ratio form of OPO, which is what the $\chi^2$ argument is about,
# vanishes like $1-\sigma(z)$, at the rate of DPO with β = 1 (in general $\beta(1-\sigma)^\beta$). The log form does
# so on the rewarded answer. It keeps a gradient only through the *other* answer, while an unsure anchor still samples
# that one; once the anchor follows the policy, that is gone too. Notebook 03 §2 has the figure.

# %%
z = torch.linspace(0, 14, 8)
log_policy = torch.stack([torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)])
log_ratio, g = log_policy + math.log(2), torch.tensor([[1.0], [-1.0]]).expand(2, 8)
score = torch.stack([torch.sigmoid(-z), -torch.sigmoid(z)])
spring = ga.ChiSquare(0.5)
forms = {
    "ratio form": 0.5 * spring.force(log_ratio.expm1(), g) * log_ratio.exp() * score,
    "log form": 0.5 * spring.force(log_ratio, g) * score,
}
print("z               ", "  ".join(f"{float(x):8.0f}" for x in z))
for name, parts in forms.items():
    print(f"{name:16s}", "  ".join(f"{float(x.abs()):8.1e}" for x in parts.sum(0)))
print("  … rewarded only", "  ".join(f"{float(x.abs()):8.1e}" for x in forms["log form"][0])[1:])
print("log, anchor = π ", "  ".join(f"{float(x):8.1e}" for x in 2 * torch.sigmoid(z) * torch.sigmoid(-z)))
print("DPO             ", "  ".join(f"{float(x):8.1e}" for x in torch.sigmoid(-z)))

# %% [markdown]
# ## 2. A "strong suppressive force" on a ratio of zero
#
# The bounded projection gives catastrophic answers the target $\rho=0$. In $\rho$ the force is $\mu\rho$; the
# policy is trained through $\log\pi$, where it is $\mu\rho^2$. Under gradient flow the ratio falls like
# $1/\sqrt{2\mu\tau}$: slower and slower. The log form closes in on a target of $\Delta=-10$ exponentially fast. A force
# that "never vanishes away from equilibrium" is a statement about $\rho$ only.

# %%
steps, rate, mu = 4000, 0.05, 0.5
paths = {}
for name, chart in (("ratio form, target ρ = 0", ga.Ratio()), ("log form, target Δ = −10", ga.LogRatio())):
    x, path = torch.tensor(0.0), []
    drive = torch.tensor(-mu) if isinstance(chart, ga.Ratio) else torch.tensor(-10 * mu)
    for _ in range(steps):
        path.append(float(x.exp()))
        x = x - rate * ga.ChiSquare(mu).force(chart(x), drive) * chart.slope(x)
    paths[name] = path
figure, axis = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
for (name, path), colour in zip(paths.items(), (BLUE, GREEN)):
    axis.loglog(range(1, steps + 1), path, color=colour, label=name)
tau = torch.arange(1, steps + 1) * rate
axis.loglog(range(1, steps + 1), (1 + 2 * mu * tau) ** -0.5, color=BLACK, ls=":", label="1/√(1 + 2μτ)")
axis.set(title="probability ratio of an answer to be given up", xlabel="gradient step in log π", ylim=(1e-5, 2))
axis.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## 3. What governs the one update of Algorithm 1
#
# The loop of Algorithm 1 of both papers sets the anchor to the policy before its one step. At the anchor all
# potentials are flat: the step is $-u'(0)\,g\nabla\log\pi$ for every $\mu$ and every potential, and of the chart it
# has the slope there, which is 1 for $\Delta$ and $t-1$, 2 for $2\Delta$ and ¼ for $\sigma(\Delta)$. The potential
# acts from the second update under one anchor on (notebook 03 §3), as under the mini-batch anchoring of OPO's §8.

# %%
log_prob = torch.tensor([-1.0, -2.0, -0.5, -3.0])
batch = one_group(log_prob, reward=torch.tensor([1.0, 0.0, 0.5, -1.0]))
for optimization in (ga.Flat(), ga.ChiSquare(0.01), ga.ChiSquare(100.0), ga.KL(5.0)):
    for chart in (ga.LogRatio(), ga.Ratio(), ga.LogRatio(2.0), ga.Sigmoid()):
        o = ga.Objective(unit=ga.Sequence(), chart=chart, sampling=ga.GroupAdvantage(), optimization=optimization)
        print(f"{optimization!r:18s}{chart!r:32s}", o.gradient(batch)[:, 0].numpy())

# %% [markdown]
# ## 4. Three descriptions of other methods
#
# * *The Hessian of KL "in log-ratio coordinates scales as σ(m)(1−σ(m))".* That is the curvature of DPO's
#   logistic link. KL's own is $1/t$ in the ratio, and $t(1+\Delta)$ in the log-ratio, where it grows.
# * *|∇ℓ| of DPO is βσ(m)(1 − σ(m)) ≤ β/4 and vanishes as |m| → ∞.* It is $\beta\sigma(-\beta m)$: up to
#   $\beta$, and full strength on wrongly ordered pairs.
# * *Clipping has "zero-gradient plateaus wherever |ρ_θ − 1| > ε".* On one side only: a policy that moved the wrong
#   way feels all of it.

# %%
figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.0), layout="constrained")
m = torch.linspace(-4, 4, 300)
sigma = torch.sigmoid(m)
axes[0].plot(m, sigma * (1 - sigma), color=ORANGE, label="σ(1 − σ): claim, DPO's link")
axes[0].plot(m, m.exp() * (1 + m), color=BLUE, label="KL penalty, in Δ")
axes[0].plot(m, (-m).exp(), color=SKY, label="KL penalty, in t − 1")
axes[0].set(title="curvature", xlabel="log-ratio", ylim=(-0.5, 4))
axes[1].plot(2 * m, torch.sigmoid(2 * m) * torch.sigmoid(-2 * m), color=ORANGE, label="the claim, β = 1")
axes[1].plot(2 * m, torch.sigmoid(-2 * m), color=BLUE, label="DPO's gradient")
axes[1].set(title="|gradient| of DPO", xlabel="margin")
rho = torch.linspace(0, 2, 400)
for a, colour in ((1.0, BLUE), (-1.0, PINK)):
    axes[2].plot(
        rho, ga.Clip(0.2, 0.2).force(rho - 1, torch.full_like(rho, a)).abs(), color=colour, label=f"A = {a:+.0f}"
    )
axes[2].set(title="|gradient| of the clip", xlabel="ρ")
for axis in axes:
    axis.legend(frameon=False, fontsize=8, loc="center right")
plt.show()

# %% [markdown]
# ## 5. What is decoupled from what
#
# * *The separation is "not attainable under KL-based objectives".* It is: $\beta\,\mathrm{KL}-\langle g,v\rangle$ has
#   the Hessian $\beta/(1+v)$, free of $g$. What $\chi^2$ adds is a curvature that does not move with $v$. What
#   couples is the clip.
# * *"Changing μ alters curvature without reshaping the target."* The drive is free of $\mu$ and the curvature is
#   free of $\alpha$, but the target $g_\alpha/\mu$ contains both; once $t\ge0$ binds even its direction moves
#   with $\mu$.
# * *The advantage weighting "does not alter the optimization landscape curvature".* In the chart. In $\Delta$ the
#   ratio form has $\mu-g$ at the anchor, in θ also $-g\,\nabla^2u$.

# %%
reward = torch.tensor([2.0, 0.0, -1.0])
batch = one_group(torch.zeros(3), reward=reward)
v = torch.tensor([-0.5, 0.0, 1.0])
mixed = torch.func.vmap(torch.func.grad(lambda g, x: ga.KL(1.0).force(x, g)))(torch.zeros(3), v)
print("KL: derivative of the force in g", mixed.numpy(), " curvature", ga.KL(1.0).curvature(v).numpy(), "whatever g is")
for alpha in (0.2, 0.8):
    g = ga.Escort(alpha).drive(batch)
    radius = [f"E[v*²] = {float((g / mu).square().mean()):.3f} at μ = {mu:g}" for mu in (1.0, 2.0)]
    print(f"α = {alpha}: drive {g.numpy().round(3)},", ", ".join(radius))
directions = [bounded(reward / mu) for mu in (4.0, 0.5)]
print("cosine of the bounded targets at μ = 4 and 0.5:", float(torch.nn.functional.cosine_similarity(*directions, 0)))
energy = lambda x, g: ga.ChiSquare(1.0).energy(ga.Ratio()(x), g)  # noqa: E731
second = torch.func.grad(torch.func.grad(energy))
print(
    "curvature in Δ at the anchor for g = −½, 0, ½:",
    [float(second(torch.zeros(()), torch.tensor(g))) for g in (-0.5, 0.0, 0.5)],
)

# %% [markdown]
# ## 6. Statements that need their metric
#
# That the Hessian is μI, that the rate is |1 − ημ| and that OPO is "the unique quadratic proximal response" are true in
# $L^2(\pi_k)$. Along the ordinary
# gradient an outcome contracts at $1-\eta\mu\pi_k(y)$: rare ones hardly move. And in the reweighted inner product
# that the OPO paper itself introduces, the same construction gives another, equally quadratic, conserving
# response. (Also a factor: the multiplier of $\mathbb E[v^2]\le\varepsilon$ is $\mu/2$, not $\mu$, and the
# dissipation is $\tfrac\mu2\chi^2$, not $\tfrac12\chi^2$.)

# %%
anchor, weight = torch.tensor([0.9, 0.09, 0.01]), torch.tensor([0.5, 1.0, 3.0])
v = torch.zeros(3)
target = weight - (anchor * weight).sum()
print("left of the way after 20 steps, η = ½, ordinary gradient:", ((1 - 0.5 * anchor) ** 20).numpy().round(4))
print("                                        L²(π_k) gradient:", (torch.full((3,), 0.5) ** 20).numpy())
lam = 1 / (anchor / weight).sum()
for name, x in (("L²(π_k)", target), ("reweighted by ω̃", 1 - lam / weight)):
    print(f"response in {name:16s}", x.numpy().round(3), " E[v] =", round(float((anchor * x).sum()), 12))

# %% [markdown]
# ## 7. Scale, centring and the batch mean
#
# * *"Any overall scale factor in ω̃_α cancels in the centered field".* A shift cancels, a factor multiplies the step.
#   As $\tilde\omega\propto e^{(1-\alpha)A}$, a reward baseline off by one multiplies OPO's update by $e^{1-\alpha}$.
#   The library's `Escort` has weights of mean one, which removes it.
# * *"z-score normalization as a conservation-law projection"* (abstract of v3 to v5). Centring is; dividing by the
#   standard deviation is not even linear. The author's later text says so.
# * *"rather than a variance-reduction heuristic"*: it is both. A softmax policy conserves probability by itself, so
#   with exact expectations centring changes nothing of the ratio form; with samples it changes the variance. Of the log
#   form, a constant $c$ in the drive adds $c\,\mathrm{KL}(\pi_k\|\pi)$ to the loss.
# * *"the batch itself provides an unbiased estimate"*: not with the batch's own mean. A drive that is linear in the
#   reward shrinks by $(N-1)/N$ and the penalty does not: with six rollouts one trains at $6/5$ of the μ that is
#   written. OPO's escort weight is not linear, and its factor is another one for each outcome. Below, by enumerating
#   every batch.

# %%
anchor, advantage = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, 0.2, -1.0])
exact = anchor * (advantage - (anchor * advantage).sum())
print(f"{'N':>3s}{'expected drive / exact drive':>32s}{'leave-one-out':>18s}{'(N − 1)/N':>12s}")
for size in (2, 3, 4, 6):
    batches = torch.cartesian_prod(*[torch.arange(3)] * size).reshape(-1, size)
    chance = anchor[batches].prod(1, keepdim=True)
    drives = advantage[batches] - advantage[batches].mean(1, keepdim=True)
    ratios = []
    for factor in (1.0, size / (size - 1)):
        expected = torch.zeros(3).index_add(0, batches.flatten(), (chance * factor * drives / size).flatten())
        ratios.append(float(expected[0] / exact[0]))
    print(f"{size:3d}{ratios[0]:32.6f}{ratios[1]:18.6f}{(size - 1) / size:12.6f}")
print("\nvariance of the two-armed score-function estimate, rewards 10 and 11:")
for name, r in (("raw", torch.tensor([10.0, 11.0])), ("centred", torch.tensor([-0.5, 0.5]))):
    estimate = r * torch.tensor([-0.5, 0.5])
    print(f"  {name:8s} mean {float(estimate.mean()):.3f}, variance {float(estimate.var(unbiased=False)):.3f}")

# %% [markdown]
# ## 8. The escort weight
#
# * *The inverse-probability factor "is absorbed by the sampling measure".* The weight $\rho_\alpha/\pi_k$ has
#   used the sampling measure already. Without the factor the target is $\pi_k e^A$ instead of $e^A$: a good
#   choice, the one of RLHF, but another geodesic.
# * *With it* (Algorithm 1) a response's weight has the factor $e^{(1-\alpha)\cdot\text{hundreds of nats}}$. One
#   response, the longest, gets everything.
# * *α → 1, "recovering supervised fine-tuning–like uniform weighting".* A constant weight is centred away: the drive is
#   zero. (Scaled, it is the advantage.)
# * GOPO quotes OPO's escort as $(\pi/\pi_k)^\alpha A$ with $\alpha=0$ the plain advantage; OPO's has it at
#   $\alpha\to1$; W-GOPO's is a third.

# %%
log_prob = -torch.tensor([80.0, 88.0, 95.0, 100.0, 108.0, 120.0])
batch = one_group(log_prob, reward=torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0]))
for factor in (False, True):
    weight = 1 + ga.Escort(0.4, inverse_probability=factor).drive(batch)
    ess = float(weight.sum() ** 2 / (weight**2).sum())
    print(f"inverse probability {factor!s:6s} weights {weight.numpy().round(3)}  effective sample size {ess:.2f}")
print(
    "drive at α = 1:",
    ga.Escort(1.0).drive(batch).numpy(),
    "  scaled:",
    ga.Escort(1.0, scaled=True).drive(batch).numpy().round(3),
)

# %% [markdown]
# ## 9. The log-ratio surrogate
#
# *The difference of the losses "scales as O(E[Δ_θ³])".* The coordinate bounds of the lemma are right (and need no
# $\delta<1$), the conclusion is not: the linear term differs by $-\tfrac12g\Delta^2$, as large as the penalty, for a
# drive that does not shrink with $\Delta$ (it is third order for $g=c\mu\Delta$, and fourth at equilibrium). That the
# two are "identical on the feasible set" holds for $v$; a normalised policy has $\mathbb
# E[\Delta]=-\mathrm{KL}(\pi_k\|\pi)<0$, so a constant in the drive matters in the log form, and its pointwise target
# $\Delta=g/\mu$ sums to more than one. Figure: notebook 03 §4.

# %%
for delta in (1e-1, 1e-2, 1e-3):
    x, g = torch.tensor(delta), torch.tensor(0.5)
    difference = ga.ChiSquare(1.0).energy(x.expm1(), g) - ga.ChiSquare(1.0).energy(x, g)
    print(f"Δ = {delta:5g}: difference of the losses / Δ² = {float(difference / x**2):+.4f}")
anchor = torch.tensor([0.5, 0.3, 0.2])
for scale in (0.5, 1.0, 2.0):
    g = scale * (torch.tensor([1.0, 0.2, -1.0]) - (anchor * torch.tensor([1.0, 0.2, -1.0])).sum())
    print(f"log form's target for drives of size {scale:g}: total probability {float((anchor * g.exp()).sum()):.3f}")

# %% [markdown]
# ## 10. Constraints
#
# * *"clipping v\* to [−1+ε, +∞)"* creates probability. The bounded projection has another λ; it is exact, and
#   idempotent.
# * *"more total probability than available—a physically impossible target"*: a zero mean over a *group of
#   samples* is neither necessary nor sufficient for a normalised policy: answers outside the group pay.
# * *χ²'s cost remains finite as π → 0, which "thus helps maintain entropy".* The other way round. A finite cost of
#   finite slope there permits exact zeros, the papers' own exact sparsity; costs that diverge, or are infinitely
#   steep, keep all answers alive.

# %%
target = torch.tensor([1.5, 0.5, -2.0])
print("clamped  ", target.clamp(min=-1).numpy(), " sum", float(target.clamp(min=-1).sum()))
print("projected", bounded(target).numpy(), " sum", float(bounded(target).sum()))
anchor, policy = torch.tensor([0.4, 0.3, 0.3]), torch.tensor([0.5, 0.4, 0.1])
print("a valid policy whose sampled answers 1 and 2 have v =", (policy / anchor - 1)[:2].numpy().round(3))

strength = torch.linspace(0, 2.5, 100)
prior = torch.tensor([0.25] * 4)
figure, axis = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
members = {"χ²": ga.PearsonChiSquare(), "KL(π‖π_k)": ga.KullbackLeibler(), "KL(π_k‖π)": ga.ReverseKullbackLeibler()}
for (name, divergence), colour in zip(members.items(), PALETTE):
    targets = [
        ga.target_policy(s * torch.tensor([1.0, 0.9, -0.8, -1.1]), divergence, log_prior=prior.log()) for s in strength
    ]
    floor = [float(x.probability.min()) for x in targets]
    axis.plot(strength, floor, color=colour, label=name)
axis.set(title="least probability of the target", xlabel="strength of the drive, 1/μ", ylim=(-0.01, 0.26))
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 11. W-GOPO
#
# * *O(Ā²) at α > 0: "superlinear suppression for degenerate batches".* $(1-\alpha)A+\alpha Ae^A=A+\alpha A^2+\dots$ is
#   $O(\bar A)$ for every α, and the second-order term *adds*.
# * *Escort weights "restore absolute quality awareness".* They start from $r-\bar r$: the paper's own poor and
#   excellent groups have the same drive. So do OPO's. To tell them apart takes a baseline from outside the group.
# * *It "recovers the standard GOPO loss".* The same minimum of a loss $2/\mu$ times as large. Its Hessian is $2/G$
#   for every μ: the stiffness has become a scale of the drive, the coupling that the series of papers set out to
#   remove.
# * *α = 1, "the strongest peak-seeking in the family".* For $\alpha>1/(1+e^{-2})=0.881$ the weight is not monotone:
#   with eight rewards of 1, one of −1 and one of −12, it is the −1 whose target is zero, and the catastrophic answer
#   survives.

# %%
poor, good = torch.tensor([0.02, 0.05, 0.08, 0.03, 0.04, 0.06]), torch.tensor([0.62, 0.65, 0.68, 0.63, 0.64, 0.66])
for name, sampling in (
    ("W-GOPO", ga.sampling.ExponentialAdvantage(0.5)),
    ("group mean", ga.GroupAdvantage()),
    ("batch mean", ga.GroupAdvantage("batch")),
):
    both = one_group(torch.zeros(12), reward=torch.cat([poor, good]), group=torch.arange(12) // 6)
    g = sampling.drive(both)
    print(f"{name:12s} poor {g[:6].numpy().round(3)}   excellent {g[6:].numpy().round(3)}")

reward = torch.tensor([1.0] * 8 + [-1.0, -12.0])
g = ga.sampling.ExponentialAdvantage(1.0).drive(one_group(torch.zeros(10), reward=reward))
target = 1 + bounded(g / 0.64)
figure, axes = plt.subplots(1, 2, figsize=(11, 3.0), layout="constrained")
a = torch.logspace(-4, 0, 60)
for k, alpha in enumerate((0.0, 0.5, 1.0)):
    axes[0].loglog(a, (1 - alpha) * a + alpha * a * a.exp(), color=PALETTE[k], label=f"α = {alpha:g}")
axes[0].loglog(a, a**2, color=BLACK, ls=":", label="O(A²), as claimed")
axes[0].set(title="drive of a small advantage", xlabel="A")
axes[0].legend(frameon=False, fontsize=8)
axes[1].bar(range(10), target, color=[BLUE] * 8 + [PINK, ORANGE])
axes[1].set_xticks(range(10), [f"{float(r):g}" for r in reward])
axes[1].set(title="target ratio 1 + v*, W-GOPO at α = 1, c = 1, μ = 0.64", xlabel="reward")
for i in (8, 9):
    axes[1].annotate(f"{float(target[i]):.3f}", (i, float(target[i])), (0, 3), textcoords="offset points", ha="center")
plt.show()

# %% [markdown]
# ## 12. What survived
#
# The projection theorem and its bounded form, uniqueness and monotonicity of λ, exact sparsity, the positivity
# condition, the contraction rate and the χ² duality in their metric (and nowhere else: section 6), the
# total-variation bound, the coordinate bounds of the surrogate, the e-geodesic, the escort operator, conservation
# breakdown as an equality, the bisection's convergence and the squashing's properties. Several could be sharpened:
#
# * $\lambda^*\in[\bar g,\max g]$ instead of the bracket $[\min g-\mu G,\max g+\mu]$, and sorting finds it
#   exactly;
# * $|A_i|\le2c(1-1/G)$ instead of $2c$, and $v^*_i\le G-1$ whatever the rewards are;
# * the surrogate's coordinate bounds hold for every δ, not only for δ < 1.

# %%
g = torch.randn(1000, 8) * 3
g = g - g.mean(1, keepdim=True)
exact = torch.stack([bounded(x / 0.5) for x in g])
level = torch.where(exact > -1 + 1e-9, g - 0.5 * exact, -math.inf).amax(1)
width = (g.amax(1) - g.amin(1) + 0.5 * 9) / g.amax(1)
print(
    "λ* within [0, max g]:",
    bool(((level >= -1e-9) & (level <= g.amax(1))).all()),
    " its bracket is",
    round(float(width.mean()), 1),
    "times shorter",
)
print("largest v* of 8000:", float(exact.max()), "≤ G − 1 = 7;  largest |Σ v*|:", float(exact.sum(1).abs().max()))
