"""Scores to policies along the last axis of a tensor: the target policies of groups as plain functions."""

from __future__ import annotations

import torch
from torch import Tensor

from geomalign._util.check import positive, typed, within
from geomalign._util.groups import Axis
from geomalign.divergences import PearsonChiSquare, power_divergence
from geomalign.divergences.target import balance

__all__ = ["entmax", "project_bounded"]


def project_bounded(drive: Tensor, mu: float = 1.0, *, valid: Tensor | None = None) -> Tensor:
    """The nearest fluctuation that is a policy's: it conserves probability and takes no more than there is.

    v* = argmin over v ≥ −1 with Σ v = 0 of Σ (v − g/μ)²,   v*_i = max(−1, (g_i − λ)/μ)

    λ is exact, by sorting or by Newton's iteration (Michelot's algorithm), whichever is faster for the size, where GOPO
    bisects. The sum is zero to rounding in float32, and v* lies in [−1, n − 1] whatever the drives. The derivative is
    that of the outcomes with v* > −1, dv_i = (dg_i − mean dg)/μ with the mean over them, and is differentiable again.

    Args:
        drive: g, `(..., outcome)`: one problem for each slice of the last axis. Finite.
        mu: the stiffness μ, positive.
        valid: booleans in the shape of the drive: false where there is no outcome, where v* is 0 and g may be anything.
            None: all are there.

    Returns:
        v*, in the shape and dtype of the drive. On an accelerator nothing waits for its values.

    Raises:
        ValueError: mu is not positive, or the drive and `valid` do not fit.

    Source: GOPO (arXiv 2602.21269), bounded Hilbert projection. Sorting: Held, Wolfe and Crowder 1974; iteration:
        Michelot 1986.

    >>> import torch, geomalign as ga
    >>> ga.ops.project_bounded(torch.tensor([3.0, 0.0, -3.0]))
    tensor([ 2., -1., -1.])
    """
    positive("project_bounded", "the stiffness", mu=mu)
    axis = _axis("project_bounded", "drive", drive, valid)
    ratio, _ = balance(axis.keep(drive) / mu, None, axis, PearsonChiSquare())
    return axis.keep(ratio - 1.0)


def entmax(scores: Tensor, alpha: float = 1.5, *, valid: Tensor | None = None) -> Tensor:
    """α-entmax: a softmax that gives the worst scores probability zero, the proximal map of Tsallis' entropy.

    p = argmax over policies of ⟨p, z⟩ + H_α(p),   p_i = (max(0, (α − 1) z_i − τ))^{1/(α − 1)}

    α = 1 is the softmax, α = 2 the projection onto the simplex (sparsemax). Up to α = 2 the threshold τ is found by
    Newton's iteration in a norm of p, which needs four to eight steps; above by a safeguarded one. With s = p^{2−α}
    where p > 0, the derivative is dp = s·(dz − Σ s dz/Σ s), and is differentiable again.

    It is the target policy of the power divergence of order α with equal weights, for drives n^{α−1} z.

    Args:
        scores: z, `(..., outcome)`: one problem for each slice of the last axis. Finite.
        alpha: α ≥ 1.
        valid: booleans in the shape of the scores: false where there is no outcome, where p is 0 and z may be anything.
            None: all are there.

    Returns:
        p, in the shape and dtype of the scores; zeros where a slice has no outcome. On an accelerator nothing waits for
        its values.

    Raises:
        ValueError: alpha is below 1, or the scores and `valid` do not fit.

    Source: Peters, Niculae and Martins, *Sparse Sequence-to-Sequence Models*, ACL 2019; Blondel, Martins and Niculae,
        JMLR 2020.

    >>> import torch, geomalign as ga
    >>> ga.ops.entmax(torch.tensor([2.0, 1.0, -1.0]))
    tensor([0.8307, 0.1693, 0.0000])
    """
    within("entmax", 1.0, float("inf"), "the order; 1 is the softmax", ends="[)", alpha=alpha)
    axis = _axis("entmax", "scores", scores, valid)
    count = axis.count(scores.dtype)
    ratio, _ = balance(axis.keep(scores) * count ** (alpha - 1.0), None, axis, power_divergence(alpha))
    return ratio / count


def _axis(owner: str, name: str, x: Tensor, valid: Tensor | None) -> Axis:
    typed(owner, name, x, Tensor, "Numbers that come from numpy or lists need torch.as_tensor.")
    if not (x.is_floating_point() and x.ndim):
        raise ValueError(f"{owner}: `{name}` is {x.dtype} of shape {tuple(x.shape)}, expected floats (..., outcome).")
    if valid is None:
        return Axis(x.detach())
    if not (valid.shape == x.shape and valid.dtype == torch.bool):
        raise ValueError(
            f"{owner}: `valid` is {valid.dtype} of shape {tuple(valid.shape)}, expected booleans of the shape of "
            f"`{name}`, {tuple(x.shape)}."
        )
    return Axis(valid)
