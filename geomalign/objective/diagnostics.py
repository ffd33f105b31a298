"""Diagnostics of an evaluation, as 0-dim tensors: nothing here waits for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign.batch import Batch
from geomalign.objective import node
from geomalign.objective.algebra import BaseObjective
from geomalign.objective.outcome import Events, Outcome, TermOutcome
from geomalign.optimization import OptimizationGeometry

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
        rows = outcome.batch.rows
        if rows.old is not None:
            result |= _apart(rows, "policy", "old")
    return result


def _of_term(term: TermOutcome) -> dict[str, Tensor]:
    # One pass over parts that fit a CPU's cache: a temporary of the whole batch costs more than what is computed in it.
    parts = [_sums_of_events(term.objective.optimization.among(part.rows), part) for part in term.parts()]
    count, total, size, square, spread, clipped, inactive, weight, *weighted = torch.stack(parts).unbind(1)
    mean = total / count.clamp(min=1)
    count, size, square, weight = (x.sum() for x in (count, size, square, weight))
    tiny, some = torch.finfo(weight.dtype).tiny, count.clamp(min=1)
    drive_mean = total.sum() / some
    # The squared deviations within the parts, and those of the parts' means.
    drive_std = torch.sqrt((spread.sum() + (torch.stack(parts)[:, 0] * (mean - drive_mean) ** 2).sum()) / some)
    # The mean of equal numbers is off by rounding, and their deviation from it is no spread.
    drive_std = torch.where(drive_std > 32 * torch.finfo(weight.dtype).eps * size / some, drive_std, 0)
    gap, curvature, at_anchor, force = (x.sum() / weight.clamp(min=tiny) for x in weighted)
    return {
        "drive_mean": drive_mean,
        "drive_std": drive_std,
        "drive_ess": size**2 / (some * square).clamp(min=tiny),
        "gap": gap,
        "curvature": curvature,
        "stiffness": torch.where(drive_std > 0, at_anchor / drive_std, float("nan")),
        "force": force,
        "clip_fraction": clipped.sum() / some,
        "inactive": inactive.sum() / some,
    }


def _sums_of_events(optimization: OptimizationGeometry, part: Events) -> Tensor:
    """What the metrics of a term are made of, summed over some events."""
    support, g, u, weights = part.support, part.drive, part.u, part.weights
    force = torch.where(support, optimization.force(u, g), 0)
    count, total, size = support.sum().to(u.dtype), g.sum(), g.abs()

    def weighted(x: Tensor) -> Tensor:
        return (torch.where(support, x, 0) * weights).sum()

    found = (
        count,
        total,
        size.sum(),
        (size * size).sum(),
        (torch.where(support, g - total / count.clamp(min=1), 0) ** 2).sum(),
        ((g != 0) & (force == 0)).sum(),
        (support & (u.abs() < 1e-6)).sum(),
        weights.sum(),
        weighted(optimization.gap(u, g)),
        weighted(optimization.curvature(u, g)),
        weighted(optimization.curvature(torch.zeros_like(u), g)),
        (force.abs() * weights).sum(),
    )
    return torch.stack([x.to(u.dtype) for x in found])


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
    return _of_log_ratios((log_ratio[rows], mask[rows]) for rows in node.slices(log_ratio, *log_ratio.shape))


def _of_log_ratios(parts: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """`log_ratio_metrics` of rows that come in parts, each the log-ratios and the mask of some."""
    sums, sequences = zip(*(_sums_of_tokens(*part) for part in parts), strict=True)
    count, v, size, kl, kl_reverse, chi2, lowest, highest, log_sum, log_square = torch.stack(sums).unbind(1)
    count, sequence = count.sum(), torch.cat(sequences)
    some, empty = count.clamp(min=1), count == 0
    return {
        "ratio_mean": 1 + v.sum() / some,
        "ratio_min": torch.where(empty, 1, numerics.exp(lowest.min())),
        "ratio_max": torch.where(empty, 1, numerics.exp(highest.max())),
        "log_ratio_abs": size.sum() / some,
        "kl": kl.sum() / some,
        "kl_reverse": kl_reverse.sum() / some,
        "chi2": chi2.sum() / some,
        "ess": _ess(log_sum.logsumexp(0), log_square.logsumexp(0), count),
        "sequence_ess": _ess(sequence.logsumexp(0), (2 * sequence).logsumexp(0), (sequence > -_INFINITY).sum()),
    }


def _sums_of_tokens(log_ratio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What the metrics of log-ratios are made of, summed over some rows; and the rows' own log-ratios, −∞ of none."""
    x, bound = torch.where(mask, log_ratio, 0), numerics.limit(log_ratio.dtype)
    inside = x.clamp(max=bound)
    v = torch.expm1(inside).add_(x - inside, alpha=math.exp(bound))  # e^x − 1, as `numerics.expm1` continues it
    small = numerics.is_small(x)
    remainder = torch.where(small, numerics.power_remainder(torch.where(small, x, 0), 0.0), v - x)
    end = x.new_full((1,), _INFINITY)  # so that there are extremes where there is not even a masked token
    kept = torch.cat([torch.where(mask, x, -_INFINITY).flatten(), -end])
    lowest = torch.cat([torch.where(mask, x, _INFINITY).flatten(), end]).min()
    highest = kept.max()
    shift = highest.clamp(min=torch.finfo(x.dtype).min)  # nothing minus nothing is no number
    weight = kept.sub_(shift).exp_()
    found = (
        mask.sum(),
        v.sum(),
        x.abs().sum(),
        ((v + 1).mul_(x) - v).sum(),
        remainder.sum(),
        (v * v).sum(),
        lowest,
        highest,
        shift + weight.sum().log(),
        2 * shift + weight.square_().sum().log(),
    )
    sequence = torch.where(mask.any(-1), x.sum(-1), -_INFINITY)
    return torch.stack([y.to(x.dtype) for y in found]), sequence


def _apart(batch: Batch, upper: str, lower: str) -> dict[str, Tensor]:
    """`log_ratio_metrics` of two policies of a batch."""

    def between(rows: slice) -> tuple[Tensor, Tensor]:
        part = batch[rows]
        over, under = (part.tokens(getattr(part, name)).detach().to(part.dtype) for name in (upper, lower))
        return over - under, part.support

    return _of_log_ratios(between(rows) for rows in node.slices(batch.policy, batch.size, batch.policy[:1].numel()))


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
                found = _apart(batch, upper, lower)
                result |= {f"{upper}_{lower}/{name}": value for name, value in found.items()}
    return result


def _ess(log_sum: Tensor, log_square: Tensor, count: Tensor) -> Tensor:
    """(Σw)²/(n Σw²) of n weights, from log Σw and log Σw²; 1 where there is none."""
    return torch.where(count == 0, 1, torch.exp(2 * log_sum - log_square) / count.clamp(min=1))
