"""One optimiser step on a loss that arrives in parts, and the metrics of the steps on one rollout."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.batch import Batch
from geomalign.objective import Outcome, TermOutcome, log_ratio_metrics
from geomalign.objective import metrics as diagnostics

#: Below this log-ratio of every token, in nats, a step follows the on-policy gradient, which all geometries share.
INACTIVE = 1e-4


@dataclasses.dataclass(frozen=True)
class OptimizerStep:
    """What one optimiser step saw.

    Args:
        loss: of the whole minibatch, over all processes.
        norm: of the gradient before clipping.
        skipped: whether loss or gradient was not finite, so that weights and optimiser stayed as they were.

    >>> OptimizerStep(loss=0.5, norm=1.2, skipped=False).skipped
    False
    """

    loss: float
    norm: float
    skipped: bool


def optimizer_step(
    losses: Iterable[Tensor],
    optimizer: torch.optim.Optimizer,
    parameters: Seq[torch.nn.Parameter],
    clip_norm: float,
    timed: Callable[[str], contextlib.AbstractContextManager[None]] = lambda part: contextlib.nullcontext(),
) -> OptimizerStep:
    """One optimiser step on a loss that arrives in parts, one micro-batch after another, on every process its own.

    The parts add up to the loss exactly, because each was weighted by the counts of the whole minibatch. A loss or
    gradient that is not finite leaves weights and optimiser as they were. A process without rows gives no part, and
    takes part in the sum. The host waits for the device once.

    Args:
        clip_norm: largest gradient norm; 0 does not clip.
        timed: of a run, which counts the time of a block.

    >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> optimizer_step([(weight**2).sum() / 2], torch.optim.SGD([weight], lr=1.0), [weight], clip_norm=1.0)
    OptimizerStep(loss=12.5, norm=5.0, skipped=False)
    """
    optimizer.zero_grad(set_to_none=True)
    value = torch.zeros_like(parameters[0].detach().sum())
    for part in losses:
        with timed("backward"):
            part.backward()
        value = value + part.detach()
    with timed("backward"):
        distributed.sum_gradients(parameters)
    found = torch.nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf)
    loss, norm = torch.stack([distributed.summed(value), found.to(value)]).tolist()
    good = math.isfinite(norm) and math.isfinite(loss)
    if good:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return OptimizerStep(loss, norm, not good)


def step_metrics(
    steps: list[OptimizerStep], largest: list[Tensor], at_anchor: Outcome, after: Outcome, data: Batch | None = None
) -> dict[str, float]:
    """The metrics of the optimiser steps on one rollout, or of one step on pairs.

    `kl`, `chi2` and `ess` of whole responses and `token_kl` are estimated from the very samples that were trained on.
    `inactive` is the share of steps at Δ = 0, if the geometry of the objective's first term has no force there. For a
    sum of objectives, `drive_std`, `stiffness`, `clip_fraction` and `gap` are those of its first term.

    Args:
        largest: largest |Δ| of a token in every step.
        at_anchor: the objective on all data with the policy that sampled them.
        after: the same with the log-probabilities that the last pass over the data saw.
        data: the data with those log-probabilities and with `old`, of the policy that sampled them; None where no
            policy is known to have sampled them.

    >>> import geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    >>> outcome = ga.recipes.opo()(batch)
    >>> found = step_metrics([OptimizerStep(0.5, 1.2, False)], [largest_log_ratio(outcome)], outcome, outcome, batch)
    >>> found["loss"], found["grad_norm"], found["inactive"], found["ess"]
    (0.5, 1.2, 1.0, 1.0)
    """
    before, now = diagnostics(at_anchor), diagnostics(after)
    prefix = "" if len(at_anchor.terms) == 1 else "term1/"
    first = at_anchor.terms[0]
    drive = first.drive[first.support]
    span = drive.max() - drive.min() if drive.numel() else at_anchor.loss.new_zeros(())
    moved = torch.stack(largest)
    values = {
        "drive_range": span,
        "drive_std": before[f"{prefix}drive_std"],
        "stiffness": before[f"{prefix}stiffness"],
        "clip_fraction": now[f"{prefix}clip_fraction"],
        "gap": now[f"{prefix}gap"],
        "log_ratio_max": moved[-1],
        "inactive": torch.where(_acts_at_anchor(first), 0, (moved < INACTIVE).to(span).mean()),
    }
    if data is not None:
        policy, old = (data.log_probs(name, "the trainer").sum(-1, keepdim=True) for name in ("policy", "old"))
        of_responses = log_ratio_metrics(policy - old, data.support.any(-1, keepdim=True))
        values |= {name: of_responses[name] for name in ("kl", "chi2", "ess")} | {"token_kl": now["kl"]}
    row = dict(zip(values, torch.stack([value.to(span) for value in values.values()]).tolist()))
    kept = [step for step in steps if not step.skipped] or steps
    row["loss"] = sum(step.loss for step in kept) / len(kept)
    row["grad_norm"] = sum(step.norm for step in kept) / len(kept)
    row["grad_norm_max"] = max(step.norm for step in kept)
    row["skipped"] = float(sum(step.skipped for step in steps))
    if row["drive_range"] > 0:
        row["grad_per_range"] = row["grad_norm"] / row["drive_range"]
    return {key: value for key, value in row.items() if math.isfinite(value)}


def _acts_at_anchor(outcome: TermOutcome) -> Tensor:
    """Whether the geometry has a force of its own where the policy is the one that sampled the events: it has one where
    it measures from another policy.
    """
    geometry, u, g = outcome.objective.optimization, outcome.u, outcome.drive
    unmoved = geometry.force(torch.zeros_like(u), g)
    moved = torch.where(outcome.support, geometry.force(u, g) - unmoved, 0).abs()
    return (moved > INACTIVE * torch.where(outcome.support, unmoved, 0).abs().amax()).any()


def largest_log_ratio(outcome: Outcome) -> Tensor:
    """Largest |Δ| of a token from the policy that sampled it; infinite where that policy is not known.

    >>> import geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 3), torch.full((2, 3), 0.5), reward=torch.tensor([1.0, 0.0]))
    >>> largest_log_ratio(ga.recipes.opo()(batch))
    tensor(0.5000)
    """
    if outcome.token_log_ratio is None:
        return outcome.loss.new_full((), math.inf)
    return torch.where(outcome.mask, outcome.token_log_ratio.abs(), 0).amax()
