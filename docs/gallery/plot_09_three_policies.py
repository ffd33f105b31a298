"""
Three policies: cap, mask, effective sample size
================================================

What should be done with responses that the rollout engine sampled from another policy than the trainer's? Each
response has the importance weight π_old/μ, old policy over engine. A cap cuts long weights down and keeps the
response. A mask drops the response. Both change what is estimated, in exchange for weights of which more count.

A thousand responses whose log-weight is normal with a standard deviation of 0.5 stand for the mismatch of an
engine. Left: what each rule makes of a weight. Middle: the weights, sorted. Right: the effective share of the
responses, (Σw)²/(n Σw²), against the bias, which is the mean weight that is lost. `EffectiveImportance` solves for
the cap whose effective share is a given one.
"""

import matplotlib.pyplot as plt
import torch

import geomalign as ga
from geomalign.plotting import DASHES, MUTED, PALETTE, STYLE

torch.set_default_dtype(torch.float64)
plt.rcParams.update(STYLE)

count, spread = 1000, 0.5
log_weight = spread * torch.randn(count, generator=torch.Generator().manual_seed(0)) - spread**2 / 2
old = torch.full((count, 1), -1.0)
batch = ga.Batch(old, old, behavior=old - log_weight[:, None], advantage=torch.ones(count))


def weights(sampling, of=batch):
    """What multiplies an advantage of one."""
    return sampling.drive(of).reshape(count)


advantage = ga.Advantage()
rules = {
    "none": ga.TruncatedImportance(advantage, cap=1e9),
    "cap at 1.5": ga.TruncatedImportance(advantage, cap=1.5, sequence=True),
    "mask outside [½, 2]": ga.MaskedImportance(advantage, low=0.5, high=2.0, level="sequence", importance="sequence"),
}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11.5, 3.6), layout="constrained")
order = torch.argsort(log_weight)
for (name, rule), color, dash in zip(rules.items(), PALETTE, DASHES):
    w = weights(rule)
    left.plot(log_weight[order].exp(), w[order], color=color, ls=dash, label=name)
    middle.plot(torch.linspace(0, 1, count), w[order], color=color, ls=dash)


def share(w):
    return float(w.sum() ** 2 / (count * (w**2).sum()))


caps, bounds = torch.linspace(0.3, 4, 40), torch.linspace(1.05, 5, 40)
lines = {
    "cap": [ga.TruncatedImportance(advantage, cap=float(c), sequence=True) for c in caps],
    "mask [1/c, c]": [ga.MaskedImportance(advantage, 1 / float(c), float(c), "sequence", "ratio") for c in bounds],
}
plain = weights(rules["none"]).mean()
for (name, line), color, dash in zip(lines.items(), PALETTE[1:], DASHES[1:]):
    found = [weights(rule) for rule in line]
    right.plot(
        [float(1 - w.mean() / plain) for w in found], [share(w) for w in found], color=color, ls=dash, label=name
    )
solved = weights(ga.sampling.EffectiveImportance(advantage, target=0.9))
right.plot(float(1 - solved.mean() / plain), share(solved), "o", color=PALETTE[1], label="cap solved for 0.9")
right.axhline(share(weights(rules["none"])), color=MUTED, lw=0.8)
left.set(title="rule", xlabel="importance weight π_old/μ", ylabel="weight used", xlim=(0, 4), ylim=(-0.1, 4))
middle.set(title="weights of the responses", xlabel="share of responses, sorted", ylim=(-0.1, 4))
right.set(title="what is won and lost", xlabel="mean weight lost", ylabel="effective share", xlim=(-0.02, 0.8))
left.legend(frameon=False)
right.legend(frameon=False, loc="lower right")
plt.show()
