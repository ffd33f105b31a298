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
# # 00 · How far should a reward move a model?
#
# A language model can answer a question in many ways, each with some probability. A person or a program looks at
# answers and gives each one a number, its *reward*. Training makes the answers with a high reward more likely. But
# how much more likely, and where should it stop? If it never stops, the model will give one single answer for ever,
# even where the reward was wrong about it. If it stops too early, it has learnt nothing.
#
# This notebook answers the question for a model with five answers, in plain PyTorch. It needs no prior reading, and
# it does not import the library: everything that geomalign is built on fits in a few lines, and all of them are
# here. It takes ten minutes to read, and seconds to run.
#
# Four words are used in all that follows.
#
# * The **policy** $\pi_\theta(y)$ is the model: the probability that it gives to an answer $y$.
# * The **anchor** $\pi_k$ is the policy that produced the answers, before the training step.
# * The **drive** $g$ says what *pulls*: how strongly an answer should become more likely, or less likely.
# * The **potential** $\varphi$ says what *resists*: what it costs to move an answer's probability away from the
#   anchor's.
#
# Together they are one formula. PPO, GRPO, DPO, IPO, OPO and dozens of other methods are choices of its parts:
#
# $$ \mathcal L(\theta) = \mathbb E\big[\varphi(u) - g\,u\big],
#    \qquad u = \text{how far the policy has moved an answer, in some coordinate.} $$

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6b6b6b"
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd",
                     "axes.titlelocation": "left", "font.size": 9.5, "figure.dpi": 100})  # fmt: skip

# %% [markdown]
# ## 1. Five answers
#
# A prompt has five possible answers. The anchor policy prefers the second one, and the fourth one has the highest
# reward. With so few answers every expectation is a sum over five terms, so that nothing below is sampled and nothing
# is noisy. The *advantage* of an answer is its reward less the mean reward of the anchor: positive if the answer is
# better than what the anchor gives on average.

# %%
anchor = torch.tensor([0.30, 0.35, 0.20, 0.10, 0.05])
reward = torch.tensor([0.2, 0.0, 0.6, 1.0, -0.4])
advantage = reward - (anchor * reward).sum()  # better or worse than the anchor does on average
advantage

# %% [markdown]
# How far has a policy moved an answer? Two coordinates are natural, the **log-ratio** $\Delta = \log\pi - \log\pi_k$
# and the **fluctuation** $v = \pi/\pi_k - 1$, by how many per cent the probability has changed. They agree near 0
# and differ far from it. Take $v$, and the simplest thing that can resist, a spring of stiffness $\mu$:
#
# $$ \mathcal L = \mathbb E_{\pi_k}\big[\tfrac{\mu}{2} v^2 - g\,v\big],\qquad g = \text{advantage}. $$
#
# Completing the square says where this ends without any training: every answer wants to be at $v^* = g/\mu$.


# %%
def spring(v, g, mu=1.5):
    return mu / 2 * v**2 - g * v


def train(energy, steps=4000, rate=0.5):
    """Gradient descent on the logits of a softmax policy; returns the probabilities on the way."""
    logits = anchor.log().clone().requires_grad_()
    path = []
    for _ in range(steps):
        policy = torch.softmax(logits, 0)
        path.append(policy.detach())
        loss = (anchor * energy(policy / anchor - 1, advantage)).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - rate * gradient).detach().requires_grad_()
    return torch.stack(path)


path = train(spring)
closed_form = anchor * (1 + advantage / 1.5)
print("trained     ", path[-1].numpy().round(4))
print("closed form ", closed_form.numpy().round(4), " sums to", float(closed_form.sum()))

# %% [markdown]
# The trained policy and the closed form are the same policy, and this is a first answer to the question: the reward
# moves an answer by its advantage, divided by the stiffness. Two things are worth noticing.
#
# * The closed form sums to one *because the advantage is centred*, $\mathbb E_{\pi_k}[g] = 0$. Subtracting the
#   mean reward is exactly what keeps probability conserved.
# * The gradient descent never saw the formula $v^* = g/\mu$, it followed forces: $\varphi'(v) - g$.

# %% [markdown]
# ## 2. What pulls and what resists
#
# There is a picture behind the formula. Each answer is a ball in a bowl, the potential $\varphi$, and the bowl is
# tilted by the drive $g$. The ball rolls to where $\varphi'(u) = g$. Another drive tilts the same bowl more or less,
# and another potential is another bowl.
#
# Three of them are drawn below. The first is the spring. The second is the KL divergence, the usual measure of how far
# one distribution is from another, which resists less and less the further an answer grows. The third is the clip of
# PPO: once the ratio $t=\pi/\pi_k$ of a good answer exceeds $1+\varepsilon$, or that of a bad one falls below
# $1-\varepsilon$, nothing more is gained.


# %%
def kl(v, g, beta=1.5):  # β·KL(π‖π_k), per answer
    return beta * ((1 + v) * torch.log1p(v) - v) - g * v


def clip(v, g, epsilon=0.2):  # PPO: −min(t·g, clip(t)·g), without its constant −g
    t = 1 + v
    return -torch.minimum(t * g, t.clamp(1 - epsilon, 1 + epsilon) * g) + g


v = torch.linspace(-0.95, 1.6, 400)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.1), layout="constrained", sharey=True)
for axis, energy, title in zip(
    axes, (spring, kl, clip), ("spring: $\\mu v^2/2$", "KL: $\\beta(t\\log t-t+1)$", "PPO's clip")
):
    for g, colour in ((-0.6, ORANGE), (0.0, GREY), (0.9, BLUE)):
        value = energy(v, torch.tensor(g))
        axis.plot(v, value, color=colour, label=f"drive g = {g:g}")
        if energy is not clip:
            low = int(value.argmin())
            axis.plot(v[low], value[low], "o", color=colour)
    axis.set_title(title)
    axis.set_xlabel("fluctuation $v=\\pi/\\pi_k-1$")
    axis.set_ylim(-0.75, 1.2)
axes[0].set_ylabel("energy $\\varphi(v)-g\\,v$")
axes[2].legend(frameon=False, loc="upper center")
plt.show()

# %% [markdown]
# Left and middle, the bowl is the same for every drive and only its tilt changes: **what pulls and what resists
# are decoupled**. Right, there is no bowl. The clip is a wall whose place depends on the sign of the drive, and
# without a drive nothing resists at all: PPO's two geometries are coupled. That difference is what the OPO paper
# calls *orthogonalization*, and in geomalign it is a type.

# %% [markdown]
# ## 3. Same drive, different resistance
#
# Now train the five answers with each of the three. The spring and KL go to different policies. The clip stops wherever
# it happens to be when all answers are past their walls.

# %%
runs = {"spring": train(spring), "KL": train(kl), "clip": train(clip, steps=400)}
gibbs = torch.softmax(anchor.log() + advantage / 1.5, 0)

figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained", gridspec_kw={"width_ratios": [1.25, 1]})
places = torch.arange(5)
axes[0].bar(places - 0.3, anchor, 0.19, color="#cccccc", label="anchor")
for k, (name, colour) in enumerate(zip(runs, (BLUE, GREEN, ORANGE))):
    axes[0].bar(places - 0.1 + 0.2 * k, runs[name][-1], 0.19, color=colour, label=name)
for k, exact in enumerate((closed_form, gibbs)):
    axes[0].plot(places - 0.1 + 0.2 * k, exact, "k_", ms=9, mew=1.6, label="closed form" if k else None)
axes[0].set_xticks(places, [f"answer {i + 1}\n$g={a:+.2f}$" for i, a in enumerate(advantage.tolist())])
axes[0].set_ylabel("probability")
axes[0].legend(frameon=False, ncols=2)
axes[0].set_title("where training ends")
for name, colour, exact in (("spring", BLUE, closed_form), ("KL", GREEN, gibbs)):
    axes[1].semilogy(
        (runs[name][:600] - exact).abs().amax(1), color=colour, label=f"{name}, distance from its closed form"
    )
axes[1].semilogy(
    (runs["clip"] - runs["clip"][-1]).abs().amax(1)[:-1], color=ORANGE, label="clip, distance from where it stopped"
)
axes[1].set_xlabel("gradient steps")
axes[1].set_xlim(0, 600)
axes[1].legend(frameon=False)
axes[1].set_title("how it gets there")
plt.show()

# %% [markdown]
# The two closed forms are those that everything else is built from.
#
# * The spring ends at $\pi^* = \pi_k\,(1 + g/\mu)$. The mean of $v^2$ is called the $\chi^2$ divergence, and this
#   policy is a *projection*.
# * KL ends at $\pi^* \propto \pi_k\,e^{g/\beta}$, the *Gibbs* distribution.

# %% [markdown]
# ## 4. The published objectives are choices of parts
#
# The formula is general enough to be other people's code. PPO trains on rewards, and DPO on pairs of answers of which a
# person preferred one. Below are their losses as they are published, and the same numbers from $\varphi(u) - g\,u$.
# For DPO the event is a pair, the coordinate is the difference of the two log-ratios, the drive is the strength $\beta$
# of the label, and the potential is $\log(1 + e^{\beta u})$.

# %%
ratio, a = torch.rand(6) * 2, torch.randn(6)
published_ppo = -torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a)
wall = torch.where(a > 0, 0.2, -0.2)
potential = a.abs() * torch.relu(torch.sign(a) * (ratio - 1 - wall))  # |A|·relu(sgn(A)·u − ε)
print("PPO, largest difference", float((potential - a * (ratio - 1) - a - published_ppo).abs().max()))

beta, margin = 0.1, 5 * torch.randn(6)
published_dpo = -torch.nn.functional.logsigmoid(beta * margin)
potential = torch.nn.functional.softplus(beta * margin)
print("DPO, largest difference", float((potential - beta * margin - published_dpo).abs().max()))

# %% [markdown]
# ## 5. Where to go from here
#
# The library makes each part an object, so that the parts can be exchanged, solved, tested and read off other people's
# losses. The other notebooks ask one question each:
#
# | | |
# |---|---|
# | 01 | What do PPO, DPO and OPO have in common? The formula and its five slots. |
# | 02 | Ratio or log-ratio? Charts are the dual coordinates of divergences. |
# | 03 | Does the gradient vanish when the policy becomes sure? Curvature and saturation. |
# | 04 | Where does an objective end? Drives, conservation, closed forms. |
# | 05 | How far may a step go, and how many samples should count? Solved instead of tuned. |
# | 06 | What does this loss do, if all you have is its code? |
# | 07 | How do I make an objective that does not exist yet? From a formula to a trained policy. |
# | 08 | Which claims of the papers do not hold? |
# | 09 | Can the responses to one prompt teach each other without a baseline? The group as an event. |
