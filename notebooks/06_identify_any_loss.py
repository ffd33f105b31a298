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
# # 06 · What does this loss do, if all you have is its code?
#
# Somebody else's training script has a loss in it, without a name or a formula. Which coordinate does it read, what
# resists in it, where does it stop pulling? All of this can be computed from its values. A loss is a function of a
# log-ratio and an advantage, $\ell(\Delta, A)$. If it has the form $\varphi(u) - g\,u$, its mixed derivative is
# $\partial^2\ell/\partial A\,\partial\Delta = -g'(A)\,u'(\Delta)$, and integrating it gives the chart. Then
# $\varphi'(u)\,u' = \partial\ell/\partial\Delta + g\,u'$ gives the potential.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from IPython.display import Image, Markdown

import geomalign as ga
from geomalign import plotting
from geomalign.analysis.identification import as_loss

torch.set_default_dtype(torch.float64)
plt.rcParams.update(plotting.STYLE | {"figure.dpi": 100})

# %% [markdown]
# ## 1. A loss from a code base
#
# Imagine that you find this function in a training script, without a name or a comment.


# %%
def found_in_a_script(log_ratio, advantage):
    ratio = torch.exp(log_ratio)
    pg_loss1 = -advantage * ratio
    pg_loss2 = -advantage * torch.clamp(ratio, 0.8, 1.28)
    clipped = torch.maximum(pg_loss1, pg_loss2)
    pg_loss3 = -advantage * 3.0
    return torch.where(advantage < 0, torch.minimum(pg_loss3, clipped), clipped)


report = ga.identify(found_in_a_script)
print(report)

# %% [markdown]
# It is PPO's clip with DAPO's higher ceiling and a dual clip at 3: read off the function, to the digits of its
# constants. The report says that it is coupled, and where: beyond the walls, the potential depends on the sign of
# the advantage.


# %%
def show(report, title):
    with tempfile.TemporaryDirectory() as folder:
        return Image(plotting.identification(report, Path(folder) / "report.png", title=title).read_bytes(), width=1000)


show(report, "found in a script")

# %% [markdown]
# ## 2. A loss that nobody has named
#
# A Huber penalty on the log-ratio is in no catalogue. Its parts are found all the same; only the name is missing.


# %%
def huber(log_ratio, advantage):
    penalty = torch.where(log_ratio.abs() < 0.5, log_ratio**2, log_ratio.abs() - 0.25)
    return penalty - advantage * log_ratio


report = ga.identify(huber)
print(report)
show(report, "Huber penalty")

# %% [markdown]
# From the report one can compute with it. Where would an advantage of 0.3 take the policy, and where one of 1.5?

# %%
print("u* for a drive of 0.3:", float(report.equilibrium(0.3)), "  and of 1.5:", float(report.equilibrium(1.5)))
u = torch.linspace(-1, 1, 5)
print("curvature at", u.tolist(), ":", report.curvature(u).numpy().round(6))

# %% [markdown]
# It is a spring up to a drive of 1, and beyond that there is *nothing* that resists: an advantage that exceeds 1 has no
# equilibrium, and the loss is unbounded below. One would like to know that before training.
#
# ## 3. Preferences
#
# For losses of pairs the margin is the coordinate. Here are three links as their papers write them, without a word
# about geometry:

# %%
pairs = {
    "−log σ(0.1 m)": lambda m: -torch.nn.functional.logsigmoid(0.1 * m),
    "(m − 5)²": lambda m: (m - 5) ** 2,
    "relu(1 − 0.2 m)": lambda m: torch.relu(1 - 0.2 * m),
}
lines = ["| loss | recognised | target margin | saturates |", "|---|---|---|---|"]
for name, loss in pairs.items():
    r = ga.identify(loss)
    low, high = next(iter(r.saturation.values()))
    target, ends = float(r.equilibrium()), f"left: {low}, right: {high}".replace("|", "\\|")
    lines.append(f"| `{name}` | `{r.recognised.optimization!r}` | {target:.4g} | {ends} |")
Markdown("\n".join(lines))

# %% [markdown]
# ## 4. The library, seen by its own instrument
#
# Recipes are turned into black boxes and read back. The instrument does not know what they are made of.

# %%
lines = ["| recipe | chart found | potential found | decoupled | convex |", "|---|---|---|---|---|"]
for name in ("reinforce", "ppo", "gspo", "opo", "gopo", "mirror_descent", "dpo", "ipo", "slic", "chi_po"):
    objective = ga.recipes.get(name)
    (_, term), *_ = objective.terms
    loss = as_loss(objective)
    r = ga.identify(loss, kind="pair" if term.unit.paired else "advantage")
    found = r.recognised
    lines.append(f"| {name} | `{found.chart!r}` | `{found.optimization!r}` | {r.decoupled} | {r.convex} |")
Markdown("\n".join(lines))

# %% [markdown]
# Some losses are more than one potential in one chart. Of a pair's loss $a(\Delta^+)+b(\Delta^-)+h(u^+-u^-)$ the
# mixed derivative $\partial^2\ell/\partial\Delta^+\partial\Delta^-=-h''\,u'^+u'^-$ knows nothing of $a$ and $b$, so the
# terms come apart. And where a weight has no gradient, $\ell=\mathrm{sg}[w]\,E$, value over force is $E/E'$: the weight
# drops out, is divided off, and gets its own name.

# %%
lines = ["| recipe | part | potential | drive |", "|---|---|---|---|"]
for name in ("cpo", "apo_down", "exo", "nca"):
    for part in ga.identify(as_loss(ga.recipes.get(name)), kind="pair").recognised.parts:
        lines.append(f"| {name} | `{part.unit!r}` in `{part.chart!r}` | `{part.optimization!r}` | {part.drive:.4g} |")
for name in ("cispo", "vespo"):
    found = ga.identify(as_loss(ga.recipes.get(name)), kind="advantage").recognised
    lines.append(f"| {name} | `{found.chart!r}` | `{found.optimization!r}` | `{found.weight!r}` |")
Markdown("\n".join(lines))

# %% [markdown]
# ## 5. From the shell
#
#     geomalign identify my_module:my_loss --plot report.png
#
# does the same for a function in a file.
