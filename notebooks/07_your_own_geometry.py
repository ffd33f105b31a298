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
# # 07 · How do I make an objective that does not exist yet?
#
# By a new value of one slot. Suppose that single answers with a wild reward should not be able to drag the policy
# away. A potential that is quadratic near the anchor, like $\chi^2$, and linear far from it would do: the
# **log-cosh**, which no recipe uses. This notebook goes from its formula to the laws that it has to obey, its
# closed form, and a bandit with heavy-tailed rewards that is trained with it.

# %%
# %matplotlib inline
import dataclasses
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
# ## 1. The quick way: a plain function
#
# `ConvexPotential` takes $\varphi$ as a function and finds the rest by differentiation and a root. That is good enough
# for trying things.

# %%
quick = ga.ConvexPotential(lambda u: torch.log(torch.cosh(u)))
print("φ'(1)  ", float(quick.mirror(torch.tensor(1.0))), " = tanh 1 =", math.tanh(1))
print("u*(0.6)", float(quick.equilibrium(torch.tensor(0.6))), " = artanh 0.6 =", math.atanh(0.6))

# %% [markdown]
# ## 2. The thorough way: a geometry with closed forms
#
# $$ \varphi(u) = \mu\,s^2\log\cosh(u/s),\quad \varphi' = \mu s\tanh(u/s),\quad \varphi'' = \mu/\cosh^2(u/s),
#    \quad u^* = s\,\mathrm{artanh}(g/\mu s). $$
#
# A frozen dataclass with the hyper-parameters, one method per line of the theory. The force is bounded by $\mu
# s$: drives beyond that have no equilibrium, and `conjugate_domain` says so.


# %%
@dataclasses.dataclass(frozen=True)
class LogCosh(ga.BregmanGeometry):
    """φ(u) = μ s² log cosh(u/s): stiffness μ at the anchor, a force of at most μs far from it."""

    mu: float = 1.0
    scale: float = 1.0

    def value(self, u):
        x = (u / self.scale).abs()
        return (
            self.mu * self.scale**2 * (x + torch.nn.functional.softplus(-2 * x) - math.log(2))
        )  # log cosh, without overflow

    def mirror(self, u, drive=None):
        return self.mu * self.scale * torch.tanh(u / self.scale)

    def curvature(self, u, drive=None):
        return self.mu / torch.cosh((u / self.scale).clamp(-300, 300)) ** 2

    def conjugate(self, drive):
        x = (drive / (self.mu * self.scale)).clamp(-1, 1)
        entropy = 0.5 * (torch.special.xlog1py(1 + x, x) + torch.special.xlog1py(1 - x, -x))
        inside = (drive >= self.conjugate_domain.low) & (drive <= self.conjugate_domain.high)
        return torch.where(inside, self.mu * self.scale**2 * entropy, math.inf)

    def equilibrium(self, drive):
        return self.scale * torch.atanh(drive / (self.mu * self.scale))

    @property
    def domain(self):
        return ga.Interval()

    @property
    def conjugate_domain(self):
        return ga.Interval(-self.mu * self.scale, self.mu * self.scale)

    def latex(self, u, drive):
        return rf"{self.mu:g}\cdot{self.scale:g}^2\log\cosh({u}/{self.scale:g})"


# %% [markdown]
# The laws ship with the package: convexity, derivatives, Fenchel–Young, equilibrium, decoupling, extremes. They
# take any member.

# %%
ga.laws.check_optimization(LogCosh(0.7, 0.5))
print(len(ga.laws.LAWS["optimization"]), "laws hold")


class Wrong(LogCosh):
    def equilibrium(self, drive):
        return drive / self.mu  # right for a spring, and near the anchor


try:
    ga.laws.check_optimization(Wrong(0.7, 0.5))
except ga.laws.LawViolation as violation:
    print("caught:", violation)

# %% [markdown]
# ## 3. An objective
#
# The new geometry goes in its slot. Unit, chart, drive and measure are what there is; micro-batches, the closed-form
# gradient and the metrics come with it.

# %%
robust = ga.Objective(
    unit=ga.Sequence(), chart=ga.LogRatio(), sampling=ga.GroupAdvantage(), optimization=LogCosh(mu=1.0, scale=0.5)
)
ga.laws.check_objective(robust)
log_prob = torch.randn(6, 1) - 2
batch = ga.Batch(log_prob + 0.4 * torch.randn(6, 1), log_prob, reward=torch.tensor([1.0, 0.2, -0.1, 0.4, 9.0, 0.0]))
values = {name: ga.metrics(robust(batch))[name].item() for name in ("loss", "force", "curvature", "kl")}
print({name: round(value, 4) for name, value in values.items()}, "  decoupled:", robust.decoupled)

# %% [markdown]
# Is it new? Ask the instrument of notebook 06, which sees only the function:

# %%
loss = lambda log_ratio, advantage: LogCosh(1.0, 0.5).energy(log_ratio, advantage)  # noqa: E731
report = ga.identify(loss)
u = torch.linspace(-1.0, 1.0, 5)
print("recognised:", report.recognised.optimization, "  chart:", report.recognised.chart, "  convex:", report.convex)
print("curvature error:", float((report.curvature(u) - LogCosh(1.0, 0.5).curvature(u)).abs().max()))

# %% [markdown]
# It is not new. $\log\cosh x = \mathrm{softplus}(2x) - x - \log2$, so this is DPO's logistic potential with the
# origin of the drive moved to the middle of its range: a robust regression is a classification of "more" against
# "less" with soft labels. The formula does not show that, and the geometry does.
#
# ## 4. A trained bandit
#
# Sixteen contexts, eight arms, and rewards with heavy tails: one in twenty is off by ±15. The drive is a squashed
# advantage, so that it is one that the log-cosh can balance; then also the others get it, and what is compared is
# the potential alone. Four gradient steps per rollout of six samples per context, five seeds.

# %%
contexts, arms, rollouts = 16, 8, 80
quality = torch.rand(contexts, arms)
best = quality.amax(1).mean()


@dataclasses.dataclass(frozen=True)
class Squashed(ga.SamplingGeometry):
    """g = bound·tanh(A/bound): an advantage that never exceeds `bound`."""

    bound: float

    def drive(self, batch):
        advantage = ga.GroupAdvantage().drive(batch)
        return self.bound * torch.tanh(advantage / self.bound)

    def latex(self):
        return r"b\tanh(A_i/b)"


def run(sampling, optimization, seed, chart=ga.LogRatio()):  # noqa: B008
    """Regret of the policy, and its largest |Δ| within a rollout, of every rollout."""
    objective = ga.Objective(unit=ga.Sequence(), chart=chart, sampling=sampling, optimization=optimization)
    generator = torch.Generator().manual_seed(seed)
    logits, regret, moved = torch.zeros(contexts, arms), [], []
    group = torch.arange(contexts).repeat_interleave(6)
    for _ in range(rollouts):
        before = torch.log_softmax(logits, 1)
        arm = torch.multinomial(before.exp().repeat_interleave(6, 0), 1, generator=generator)
        reward = quality[group].gather(1, arm)[:, 0]
        outlier = torch.rand(reward.shape, generator=generator) < 0.05
        sign = torch.where(torch.rand(reward.shape, generator=generator) < 0.5, 1.0, -1.0)
        reward = reward + 0.1 * torch.randn(reward.shape, generator=generator) + 15 * sign * outlier
        anchor = before[group].gather(1, arm)
        drive = None
        for _ in range(4):
            logits = logits.detach().requires_grad_()
            policy = torch.log_softmax(logits, 1)[group].gather(1, arm)
            batch = ga.Batch(policy, anchor, reward=reward, group=group)
            drive = objective.drive(batch) if drive is None else drive
            (gradient,) = torch.autograd.grad(objective(batch, drive=drive).loss, logits)
            logits = logits - 8.0 * gradient
        moved.append(float((policy - anchor).detach().abs().max()))
        regret.append(float(best - (logits.detach().softmax(1) * quality).sum(1).mean()))
    return regret, moved


members = {
    "χ², raw advantage": (ga.GroupAdvantage(), ga.ChiSquare(1.0), ORANGE),
    "χ², squashed drive": (Squashed(0.45), ga.ChiSquare(1.0), GREEN),
    "log-cosh, squashed drive": (Squashed(0.45), LogCosh(1.0, 0.5), BLUE),
    "clip, squashed drive": (Squashed(0.45), ga.Clip(0.2, 0.2), PINK),
}
figure, axes = plt.subplots(1, 2, figsize=(11.5, 3.5), layout="constrained")
for name, (sampling, optimization, colour) in members.items():
    chart = ga.Ratio() if isinstance(optimization, ga.Clip) else ga.LogRatio()
    runs = torch.tensor([run(sampling, optimization, seed, chart) for seed in range(5)])
    mean, error = runs.mean(0), runs.std(0) / math.sqrt(5)
    for axis, m, e in zip(axes, mean, error):
        axis.plot(m, color=colour, label=name)
        axis.fill_between(range(rollouts), m - e, m + e, color=colour, alpha=0.2, lw=0)
    print(f"{name:26s} regret at the end {float(mean[0, -10:].mean()):.4f} ± {float(error[0, -10:].mean()):.4f}")
axes[0].set(title="regret of the policy", xlabel="rollout", ylim=(0, None))
axes[1].set(title="largest |Δ| in a rollout", xlabel="rollout", yscale="log")
axes[0].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## 5. What made the difference
#
# The picture answers the question that one should ask of any new objective: is it the drive or the potential?
# Here taming the *drive* is what protects from outliers. Given that, the spring and the log-cosh cannot be told
# apart, as notebook 03 said they must while the policy stays near its anchor; the clip is faster because inside its
# walls nothing resists. Two slots, two answers: that is what the separation is for.
