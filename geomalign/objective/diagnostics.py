"""Diagnostics of an evaluation, as 0-dim tensors: nothing here waits for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign.batch import Batch
from geomalign.objective.algebra import BaseObjective
from geomalign.objective.outcome import Outcome, TermOutcome

__all__ = ["gradient_at_anchor", "log_ratio_metrics", "metrics", "policy_metrics"]

_INFINITY = float("inf")


def metrics(outcome: Outcome) -> dict[str, Tensor]:
    """What an evaluation says about the geometry. All values are 0-dim tensors on the loss's device.

    `loss` is the objective's. Of its events, averaged with the objective's own measure:

    * `drive_mean`, `drive_std` (their plain mean and spread), `drive_ess` (effective share of events that carry the
      drive, (Σ|g|)²/(n Σg²)),
    * `gap` (mean Fenchel–Young loss, infinite if unbounded), `curvature` (mean φ''), `force` (mean |φ' − g|),
    * `stiffness` (curvature at the anchor over sd(g), the scale-free strength; NaN without spread, as of pairs under
      one label),
    * `clip_fraction` (share of events with a drive and no force), `inactive` (share with |u| < 1e-6, where no potential
      with φ'(0) = 0 can act, and of the chart only its slope; see `gradient_at_anchor`).

    These belong to a term. For a sum of objectives each appears once per term, as `term1/gap`, `term2/gap`, …, with
    the term's own `term1/loss` without its coefficient. What `log_ratio_metrics` says of the policy against the old
    one is added where the batch has `old`.

    Args:
        outcome: of an objective, of one term or of a sum.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    >>> found = ga.metrics(ga.recipes.opo()(batch))
    >>> found["inactive"], found["kl"]
    (tensor(1.), tensor(0.))
    """
    with torch.no_grad():
        result = {"loss": outcome.loss.detach()}
        if len(outcome.terms) == 1:
            result |= _of_term(outcome.terms[0])
        else:
            for k, term in enumerate(outcome.terms, 1):
                found = {"loss": term.loss.detach(), **_of_term(term)}
                result |= {f"term{k}/{name}": value for name, value in found.items()}
        if outcome.token_log_ratio is not None:
            result |= log_ratio_metrics(outcome.token_log_ratio, outcome.mask)
    return result


def _of_term(term: TermOutcome) -> dict[str, Tensor]:
    support, g, u, weights = term.support, term.drive, term.u, term.weights
    tiny = torch.finfo(u.dtype).tiny

    def mean(x: Tensor) -> Tensor:
        return (x * weights).sum() / weights.sum().clamp(min=tiny)

    count = support.sum().clamp(min=1).to(u.dtype)
    drive_mean = torch.where(support, g, 0).sum() / count
    drive_std = torch.sqrt(torch.where(support, (g - drive_mean) ** 2, 0).sum() / count)
    at_anchor = term.optimization.curvature(torch.zeros_like(u), g)
    force, absolute = term.force, torch.where(support, g.abs(), 0)
    # The mean of equal numbers is off by rounding, and their deviation from it is no spread.
    drive_std = torch.where(drive_std > 32 * torch.finfo(u.dtype).eps * absolute.sum() / count, drive_std, 0)
    return {
        "drive_mean": drive_mean,
        "drive_std": drive_std,
        "drive_ess": absolute.sum() ** 2 / (count * (absolute**2).sum()).clamp(min=tiny),
        "gap": mean(term.gap),
        "curvature": mean(term.curvature),
        "stiffness": torch.where(drive_std > 0, mean(at_anchor) / drive_std, float("nan")),
        "force": mean(force.abs()),
        "clip_fraction": (support & (g != 0) & (force == 0)).sum() / count,
        "inactive": (support & (u.abs() < 1e-6)).sum() / count,
    }


def gradient_at_anchor(objective: BaseObjective) -> str:
    """The gradient where the policy is the one that sampled, as text. No potential with φ'(0) = 0 acts there; the slope
    of the chart does.

    >>> import dataclasses, geomalign as ga
    >>> gradient_at_anchor(ga.recipes.opo())
    '−E[g ∇log π]'
    >>> gradient_at_anchor(dataclasses.replace(ga.recipes.opo(), chart=ga.LogRatio(2.0)))
    '−2·E[g ∇log π], of which 2 is the slope of the chart LogRatio(scale=2.0) at the anchor'
    """
    charts = {term.chart for _, term in objective.terms if term.anchor == "old"}
    slopes = {chart: float(chart.slope(torch.zeros((), dtype=torch.float64))) for chart in charts}
    bent = {chart: slope for chart, slope in slopes.items() if slope != 1}
    if not bent:
        return "−E[g ∇log π]"
    factor = f"{next(iter(bent.values())):g}" if len(objective.terms) == 1 else "c"
    told = " and ".join(f"{slope:g} is the slope of the chart {chart!r}" for chart, slope in bent.items())
    return f"−{factor}·E[g ∇log π], of which {told} at the anchor"


def log_ratio_metrics(log_ratio: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """How far one policy is from the one that sampled, estimated from the sampled tokens' log-ratios.

    With t = e^Δ, under samples of the policy that Δ is measured from: `ratio_mean`, `ratio_min`, `ratio_max` of t;
    `log_ratio_abs`, the mean |Δ| in nats; `kl`, E[t log t − t + 1], an estimate of KL(π‖π_old); `kl_reverse`,
    E[t − 1 − log t], of KL(π_old‖π); `chi2`, E[(t−1)²], of χ²(π‖π_old); `ess`, the effective sample size
    (Σt)²/(n Σt²) of the token weights, and `sequence_ess`, the same of whole responses' ratios.

    Args:
        log_ratio: `(row, token)` Δ = log π − log π_old in nats; zero where masked.
        mask: `(row, token)` booleans, the tokens that exist.

    Returns:
        0-dim tensors. Without any token the ratios are 1 and the estimates 0.

    >>> import torch
    >>> found = log_ratio_metrics(torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool))
    >>> found["ratio_max"], found["chi2"]
    (tensor(1.), tensor(0.))
    """
    count = mask.sum().clamp(min=1).to(log_ratio.dtype)
    t = numerics.exp(log_ratio)
    v = numerics.expm1(log_ratio)

    def mean(x: Tensor) -> Tensor:
        return torch.where(mask, x, 0).sum() / count

    bound = t.new_full((1,), _INFINITY)  # so that there are extremes where there is not even a masked token
    empty = ~mask.any()
    sequence = torch.where(mask.any(-1), log_ratio.sum(-1), -_INFINITY)
    return {
        "ratio_mean": mean(t),
        "ratio_min": torch.where(empty, 1, torch.cat([torch.where(mask, t, _INFINITY).flatten(), bound]).min()),
        "ratio_max": torch.where(empty, 1, torch.cat([torch.where(mask, t, -_INFINITY).flatten(), -bound]).max()),
        "log_ratio_abs": mean(log_ratio.abs()),
        "kl": mean(t * log_ratio - v),
        "kl_reverse": mean(numerics.expm1_remainder(log_ratio)),
        "chi2": mean(v**2),
        "ess": _ess(torch.where(mask, log_ratio, -_INFINITY).flatten()),
        "sequence_ess": _ess(sequence),
    }


def policy_metrics(batch: Batch) -> dict[str, Tensor]:
    """`log_ratio_metrics` of every two of the three policies that a batch holds: the sampler, the old, the current.

    `old_behavior/…` is the mismatch of engine and trainer, `policy_old/…` the update, `policy_behavior/…` both. If the
    engine samples from all tokens, `old_behavior/ratio_mean` is 1 up to noise; if it truncates (top-p, top-k) and
    reports log-probabilities after that, it is the mean mass that the engine kept.

    Args:
        batch: of single responses; the pairs of which it lacks a policy are left out.

    Returns:
        0-dim tensors.

    >>> import torch, geomalign as ga
    >>> old = torch.full((2, 3), -1.0)
    >>> found = ga.policy_metrics(ga.Batch(old, old, behavior=old + 0.1))  # e^0.1 = 1/0.905
    >>> found["old_behavior/ratio_mean"], "policy_behavior/ess" in found
    (tensor(0.9048), True)
    """
    result: dict[str, Tensor] = {}
    with torch.no_grad():
        for upper, lower in (("old", "behavior"), ("policy", "old"), ("policy", "behavior")):
            if getattr(batch, upper) is not None and getattr(batch, lower) is not None:
                log_ratio = batch.log_probs(upper, "policy_metrics") - batch.log_probs(lower, "policy_metrics")
                found = log_ratio_metrics(log_ratio, batch.support)
                result |= {f"{upper}_{lower}/{name}": value for name, value in found.items()}
    return result


def _ess(log_weight: Tensor) -> Tensor:
    """(Σw)²/(n Σw²) of weights given by their logarithms, over the finite ones."""
    kept = log_weight > -_INFINITY
    count = kept.sum().clamp(min=1).to(log_weight.dtype)
    ess = torch.exp(2 * torch.logsumexp(log_weight, 0) - torch.logsumexp(2 * log_weight, 0)) / count
    return torch.where(kept.any(), ess, torch.ones_like(ess))
