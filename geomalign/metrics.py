"""Diagnostics of an evaluation, as 0-dim tensors: nothing here waits for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.objective import Outcome

__all__ = ["metrics"]


def _mean(x: Tensor, weights: Tensor) -> Tensor:
    return (x * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def metrics(outcome: Outcome) -> dict[str, Tensor]:
    """What an evaluation says about the geometry. All values are 0-dim tensors on the loss's device: stack and move
    them once a step.

    Of the objective's events, averaged with its own measure:

    * `loss`; `drive_mean`, `drive_std` (their plain mean and spread), `gap` (mean Fenchel–Young loss, inf if
    unbounded),
      `curvature` (mean φ''), `stiffness` (curvature at the anchor over sd(g): the scale-free strength, nan without
      spread),
      `force` (mean |φ' − g|), `clip_fraction` (events with a drive and no force), `inactive` (|u| < 1e-6: no geometry
      can act),
      `drive_ess` (effective share of events that carry the drive, (Σ|g|)²/(n Σg²)).

    Of the policy against the rollout policy, where the batch has an `anchor` (token averages under rollout samples,
    in nats):

    * `ratio_mean`, `ratio_min`, `ratio_max` of t = e^Δ; `log_ratio_abs` (mean |Δ|); `kl` (E[t log t − t + 1] →
    KL(π‖π_k)),
      `kl_reverse` (E[t − 1 − log t] → KL(π_k‖π)), `chi2` (E[(t−1)²] → χ²(π‖π_k)), `ess` (of the token weights,
      (Σt)²/(n Σt²)),
      `sequence_ess` (the same of whole responses' ratios).

    Args:
        outcome: of an objective; of a sum, the event metrics are those of its first term.
    """
    with torch.no_grad():
        support, g, u = outcome.support, outcome.drive, outcome.u
        geometry = outcome.objective.optimization
        count = support.sum().clamp(min=1).to(u.dtype)
        drive_mean = torch.where(support, g, 0).sum() / count
        drive_std = torch.sqrt(torch.where(support, (g - drive_mean) ** 2, 0).sum() / count)
        at_anchor = geometry.curvature(torch.zeros_like(u), g)
        force = outcome.force
        absolute = torch.where(support, g.abs(), 0)
        result = {
            "loss": outcome.loss.detach(),
            "drive_mean": drive_mean,
            "drive_std": drive_std,
            "drive_ess": absolute.sum() ** 2 / (count * (absolute**2).sum()).clamp(min=torch.finfo(u.dtype).tiny),
            "gap": _mean(outcome.gap, outcome.weights),
            "curvature": _mean(outcome.curvature, outcome.weights),
            "stiffness": torch.where(drive_std > 0, _mean(at_anchor, outcome.weights) / drive_std, float("nan")),
            "force": _mean(force.abs(), outcome.weights),
            "clip_fraction": (support & (g != 0) & (force == 0)).sum() / count,
            "inactive": (support & (u.abs() < 1e-6)).sum() / count,
        }
        if outcome.token_log_ratio is not None:
            result |= _against_rollout(outcome.token_log_ratio, outcome.mask)
    return result


def _against_rollout(log_ratio: Tensor, mask: Tensor) -> dict[str, Tensor]:
    count = mask.sum().clamp(min=1).to(log_ratio.dtype)
    t = numerics.exp(log_ratio)
    v = numerics.expm1(log_ratio)

    def mean(x: Tensor) -> Tensor:
        return torch.where(mask, x, 0).sum() / count

    infinity = float("inf")
    bound = t.new_full((1,), infinity)  # so that there are extremes where there is not even a masked token
    empty = ~mask.any()
    sequence = torch.where(mask.any(-1), log_ratio.sum(-1), -infinity)
    return {
        "ratio_mean": mean(t),
        "ratio_min": torch.where(empty, 1, torch.cat([torch.where(mask, t, infinity).flatten(), bound]).min()),
        "ratio_max": torch.where(empty, 1, torch.cat([torch.where(mask, t, -infinity).flatten(), -bound]).max()),
        "log_ratio_abs": mean(log_ratio.abs()),
        "kl": mean(t * log_ratio - v),
        "kl_reverse": mean(numerics.expm1_remainder(log_ratio)),
        "chi2": mean(v**2),
        "ess": _ess(torch.where(mask, log_ratio, -infinity).flatten()),
        "sequence_ess": _ess(sequence),
    }


def _ess(log_weight: Tensor) -> Tensor:
    """(Σw)²/(n Σw²) of weights given by their logarithms, over the finite ones."""
    kept = log_weight > float("-inf")
    count = kept.sum().clamp(min=1).to(log_weight.dtype)
    ess = torch.exp(2 * torch.logsumexp(log_weight, 0) - torch.logsumexp(2 * log_weight, 0)) / count
    return torch.where(kept.any(), ess, torch.ones_like(ess))
