"""Exact projections onto {v ≥ −1, Σ v = 0} within groups, by sorting."""

from __future__ import annotations

import torch
from torch import Tensor

from geomalign.batch import Groups

__all__ = ["bounded_projection"]


def bounded_projection(target: Tensor, groups: Groups) -> Tensor:
    """The bounded Hilbert projection of GOPO, exactly: argmin_v Σ (v − target)² s.t. Σ v = 0 and v ≥ −1, in each group.

    v* = max(−1, target − λ) with the λ at which v* sums to zero: with x = v + 1 the projection onto a simplex of
    total G,
    solved by sorting in O(rows · log rows) for all groups at once (Held, Wolfe & Crowder 1974), without bisection.
    Sums are taken in float64. GOPO (arXiv 2602.21269) bisects on λ; this is the point it converges to.

    `target_policy(g, mu * PearsonChiSquare(), groups=groups)` is the same point with any prior, differentiable in g and
    with its multiplier, in the layer above the objectives. A drive has no gradient and is computed below them, which is
    what this is for; a test holds the two together.

    Args:
        target: `(row,)`, (g − E g)/μ or g/μ: a constant a group is projected out.
        groups: the rows' groups; rows in no group read zero.

    >>> import torch
    >>> from geomalign.batch import Groups
    >>> v = bounded_projection(torch.tensor([3.0, 0.0, -3.0]), Groups(None, torch.ones(3, dtype=torch.bool)))
    >>> v
    tensor([ 2., -1., -1.])
    """
    wide = groups.centred(target.double())
    rows = wide.shape[0]
    if rows == 0:
        return target
    # Rows in no group sort last in their segment: they never enter a prefix of valid rows.
    key = torch.where(groups.valid, wide, float("-inf"))
    by_value = torch.argsort(key, descending=True, stable=True)
    order = by_value[torch.argsort(groups.segment[by_value], stable=True)]
    segment, value, valid = groups.segment[order], wide[order], groups.valid[order]
    position = torch.arange(rows, device=wide.device)
    start = torch.full((rows,), rows, device=wide.device).scatter_reduce(0, segment, position, "amin")[segment]
    rank = (position - start + 1).to(wide.dtype)
    running = torch.cumsum(torch.where(valid, value, 0), 0)
    before = running[start] - torch.where(valid, value, 0)[start]
    count = groups.count(wide.dtype)[order]
    # With the k largest free: Σ_free (value − λ) = G − ... ⇒ λ_k = (Σ_free value + k − G)/k; the largest k with
    # value_k > λ_k − 1 is the answer.
    threshold = (running - before + rank - count) / rank
    free = valid & (value - threshold > -1)
    size = torch.zeros(rows, dtype=wide.dtype, device=wide.device).index_add(0, segment, free.to(wide.dtype))
    last = (start + size[segment].long().clamp(min=1) - 1).clamp(max=rows - 1)
    v = torch.where(valid, torch.clamp(value - threshold[last], min=-1.0), 0)
    return torch.zeros_like(wide).scatter(0, order, v).to(target.dtype)
