"""One optimizer step on a loss that arrives in parts, and what it tells of the geometry."""

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

#: Below this log-ratio of every token, in nats, an update is the on-policy gradient, which all geometries share.
INACTIVE = 1e-4


@dataclasses.dataclass(frozen=True)
class Update:
    """What one optimizer step saw: its loss, its gradient norm before clipping, and whether it was left out."""

    loss: float
    norm: float
    skipped: bool


def update(
    losses: Iterable[Tensor],
    optimizer: torch.optim.Optimizer,
    parameters: Seq[torch.nn.Parameter],
    clip_norm: float,
    timed: Callable[[str], contextlib.AbstractContextManager[None]] = lambda part: contextlib.nullcontext(),
) -> Update:
    """One optimizer step on a loss that arrives in parts, one micro-batch after another, on every rank its own.

    The parts add up to the loss exactly, because each was weighted by the whole minibatch's total. A loss or gradient
    that is not finite leaves weights and optimizer as they were. A rank without rows has no part to give, and takes
    part in the sum. The host waits for the device once.

    Args:
        clip_norm: largest gradient norm; 0 does not clip.
        timed: of a run, which counts the time of a block.
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
    return Update(loss, norm, not good)


def update_metrics(
    updates: list[Update], largest: list[Tensor], at_anchor: Outcome, after: Outcome, rows: Batch | None = None
) -> dict[str, float]:
    """The metrics of a step's updates.

    `kl`, `chi2` and `ess` of whole responses and `token_kl` are estimates from samples of the anchor, those trained on;
    `inactive` is the share of updates at Δ = 0 if the geometry of the objective's first term has no force there.
    Of a sum of objectives, `drive_std`, `stiffness`, `clip_fraction` and `gap` are those of its first term.

    Args:
        largest: largest |Δ| of a token in every update.
        at_anchor: the objective on all data of the step with the policy that sampled it.
        after: the same with the log-probabilities that the last pass over the data saw.
        rows: the data with those log-probabilities; has an anchor, which sampled them. None where it did not.
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
    if rows is not None:
        policy, old = (rows.log_probs(name, "the trainer").sum(-1, keepdim=True) for name in ("policy", "old"))
        of_responses = log_ratio_metrics(policy - old, rows.support.any(-1, keepdim=True))
        values |= {name: of_responses[name] for name in ("kl", "chi2", "ess")} | {"token_kl": now["kl"]}
    line = dict(zip(values, torch.stack([value.to(span) for value in values.values()]).tolist()))
    kept = [entry for entry in updates if not entry.skipped] or updates
    line["loss"] = sum(entry.loss for entry in kept) / len(kept)
    line["grad_norm"] = sum(entry.norm for entry in kept) / len(kept)
    line["grad_norm_max"] = max(entry.norm for entry in kept)
    line["skipped"] = float(len(updates) - sum(not entry.skipped for entry in updates))
    if line["drive_range"] > 0:
        line["grad_per_range"] = line["grad_norm"] / line["drive_range"]
    return {key: value for key, value in line.items() if math.isfinite(value)}


def _acts_at_anchor(outcome: TermOutcome) -> Tensor:
    """Whether the geometry tells events apart where the policy is the one that sampled them: it does where it measures
    from another one.
    """
    geometry, u, g = outcome.objective.optimization, outcome.u, outcome.drive
    unmoved = geometry.force(torch.zeros_like(u), g)
    moved = torch.where(outcome.support, geometry.force(u, g) - unmoved, 0).abs()
    return (moved > INACTIVE * torch.where(outcome.support, unmoved, 0).abs().amax()).any()


def largest_log_ratio(outcome: Outcome) -> Tensor:
    """Largest |Δ| of a token from the policy that sampled it; infinite where that policy is not known."""
    if outcome.token_log_ratio is None:
        return outcome.loss.new_full((), math.inf)
    return torch.where(outcome.mask, outcome.token_log_ratio.abs(), 0).amax()
