"""Gradient and curvature of one event's energy in the chart, the log-ratio, the ratio and the logits of a policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from geomalign.analysis.asymptotics import Tail, asymptote
from geomalign.chart import Chart
from geomalign.objective import Objective


@dataclasses.dataclass(frozen=True, eq=False)
class Derivatives:
    """∂ℓ/∂x and ∂²ℓ/∂x² of an event in one coordinate x.

    Args:
        gradient, curvature: in the shape of the coordinate.

    >>> import torch
    >>> Derivatives(torch.tensor(-1.0), torch.tensor(0.5)).curvature
    tensor(0.5000)
    """

    gradient: Tensor
    curvature: Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinates:
    """The derivatives of an event's energy in three coordinates.

    Args:
        u: in the objective's chart: φ' − g and φ''.
        log_ratio: in Δ.
        ratio: in t = e^Δ, or in v = t − 1, which has the same derivatives.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> analysis.coordinates(ga.recipes.opo(mu=2.0), torch.zeros(1), 1.0).log_ratio.gradient
    tensor([-1.])
    """

    u: Derivatives
    log_ratio: Derivatives
    ratio: Derivatives


def _bend(chart: Chart, log_ratio: Tensor) -> Tensor:
    """u''(Δ)."""
    if chart.linear:
        return torch.zeros_like(log_ratio)
    x = log_ratio.detach().clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(chart.slope(x).sum(), x, materialize_grads=True)[0]


def coordinates(objective: Objective, log_ratio: Tensor, drive: Tensor | float) -> Coordinates:
    """Gradient and curvature of one event's φ(u, g) − g·u in u, in Δ and in v = t − 1, in closed form.

    With f = φ' − g and κ = φ'': (f, κ) in u; (f u', κ u'² + f u'') in Δ; (ℓ_Δ/t, (ℓ_ΔΔ − ℓ_Δ)/t²) in v. The unit and
    the measure do not enter: an event is one Δ, and of a pair, whose other response stands still, that of the chosen
    one.

    Args:
        objective: one term.
        log_ratio: Δ, any shape.
        drive: g, broadcastable to it.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> opo = ga.recipes.opo(form="ratio", mu=2.0)
    >>> analysis.coordinates(opo, torch.tensor([-5.0, 0.0, 5.0]), 1.0).u.curvature
    tensor([2., 2., 2.])
    """
    x = log_ratio.detach()
    g = torch.as_tensor(drive, dtype=x.dtype).expand_as(x)
    u = objective.chart(x)
    f, k = objective.optimization.section.force(u, g), objective.optimization.section.curvature(u, g)
    slope = objective.chart.slope(x)
    in_log = Derivatives(f * slope, k * slope**2 + f * _bend(objective.chart, x))
    in_ratio = Derivatives(in_log.gradient * torch.exp(-x), (in_log.curvature - in_log.gradient) * torch.exp(-2 * x))
    return Coordinates(Derivatives(f, k), in_log, in_ratio)


def in_logit(
    objective: Objective, logit: Tensor, drive: Tensor | float, *, anchor_logit: Tensor | float = 0.0
) -> Derivatives:
    """Gradient and curvature in the logit z of a policy over two responses, π = σ(z), against an anchor σ(z_k).

    The event is the first response, Δ = log σ(z) − log σ(z_k); of an objective of pairs, the first preferred to the
    second, u = chart(Δ⁺) − chart(Δ⁻). As z → ∞ every chart of one response saturates with dΔ/dz = 1 − σ(z), whatever
    its potential; the difference of two log-ratios is z − z_k and does not.

    Args:
        objective: one term, of responses or of pairs.
        logit: z, any shape.
        drive: g, broadcastable to it.
        anchor_logit: z_k.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> z = torch.tensor(12.0, dtype=torch.float64)
    >>> float(analysis.in_logit(ga.recipes.dpo(beta=1.0), z, 1.0).gradient)
    -6.144...e-06
    """
    z = logit.detach()
    g = torch.as_tensor(drive, dtype=z.dtype).expand_as(z)
    z_k = torch.as_tensor(anchor_logit, dtype=z.dtype)
    chart, p, q = objective.chart, torch.sigmoid(z), torch.sigmoid(-z)

    def side(log_ratio: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        slope = chart.slope(log_ratio)
        return chart(log_ratio), slope * first, _bend(chart, log_ratio) * first**2 + slope * second

    u, du, ddu = side(logsigmoid(z) - logsigmoid(z_k), q, -p * q)
    if objective.unit.paired:
        w, dw, ddw = side(logsigmoid(-z) - logsigmoid(-z_k), -p, -p * q)
        u, du, ddu = u - w - objective.unit.margin, du - dw, ddu - ddw
    f, k = objective.optimization.section.force(u, g), objective.optimization.section.curvature(u, g)
    return Derivatives(f * du, k * du**2 + f * ddu)


@dataclasses.dataclass(frozen=True, eq=False)
class Softmax:
    """An expected loss over a finite support and its derivatives in the logits of a softmax policy.

    Args:
        loss: 0-dim.
        gradient: `(support,)`; its sum is zero, since a softmax does not see a common shift.
        hessian: `(support, support)`.
        gauss_newton: the part of the Hessian that is due to φ'' alone, positive semi-definite for a convex φ.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> found = analysis.in_logits(ga.recipes.opo(mu=2.0), torch.zeros(3), torch.tensor([1.0, 0.0, -1.0]))
    >>> found.gradient, found.hessian.shape
    (tensor([-0.3333,  0.0000,  0.3333]), torch.Size([3, 3]))
    """

    loss: Tensor
    gradient: Tensor
    hessian: Tensor
    gauss_newton: Tensor


def in_logits(objective: Objective, logits: Tensor, drive: Tensor, *, anchor_logits: Tensor | None = None) -> Softmax:
    """E_{π_k}[φ(u, g) − g·u] over a finite support, with gradient and Hessian in the logits of π, in closed form.

    ∂Δ_y/∂z = e_y − π. With q = π_k·ℓ_Δ and r = π_k·ℓ_ΔΔ: gradient q − π Σq, Hessian Σ_y r_y (e_y − π)(e_y − π)ᵀ −
    Σq·(diag π − ππᵀ). The drive is in the Hessian, through ∇²u, though it is not in φ''.

    Args:
        objective: one term of single responses.
        logits: `(support,)` of π.
        drive: `(support,)`.
        anchor_logits: of π_k; None: uniform.

    Raises:
        ValueError: the objective is one of pairs.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> analysis.in_logits(ga.recipes.opo(form="ratio", mu=3.0), torch.zeros(2), torch.zeros(2)).hessian
    tensor([[ 0.7500, -0.7500],
            [-0.7500,  0.7500]])
    """
    if objective.unit.paired:
        raise ValueError(f"in_logits is of single responses, but {objective.unit!r} compares pairs: use Tree.loss.")
    log_prob = torch.log_softmax(logits.detach(), -1)
    log_anchor = torch.log_softmax(torch.zeros_like(log_prob) if anchor_logits is None else anchor_logits.detach(), -1)
    x, prior, policy = log_prob - log_anchor, log_anchor.exp(), log_prob.exp()
    found = coordinates(objective, x, drive)
    u, slope = objective.chart(x), objective.chart.slope(x)
    value = objective.optimization.section.energy(u, torch.as_tensor(drive, dtype=x.dtype).expand_as(x))
    q = prior * found.log_ratio.gradient
    moved = torch.eye(len(x), dtype=x.dtype) - policy
    gauss_newton = moved.T @ ((prior * found.u.curvature * slope**2)[:, None] * moved)
    covariance = torch.diag(policy) - torch.outer(policy, policy)
    hessian = moved.T @ ((prior * found.log_ratio.curvature)[:, None] * moved) - q.sum() * covariance
    return Softmax((prior * value).sum(), q - policy * q.sum(), hessian, gauss_newton)


def saturation(objective: Objective, drive: float, *, anchor_logit: float = 0.0) -> dict[str, tuple[Tail, Tail]]:
    """How the gradient of an event behaves at both ends of every coordinate.

    Args:
        objective: one term.
        drive: g.
        anchor_logit: z_k.

    Returns:
        by coordinate, the `Tail`s at −∞ and +∞: "u", if the chart has no bound; "log_ratio", of single responses;
        "logit", of a policy over two responses.

    >>> import geomalign as ga
    >>> from geomalign import analysis
    >>> [str(tail) for tail in analysis.saturation(ga.recipes.dpo(beta=1.0), 1.0)["logit"]]
    ['~ -1', '~ -1 e^{-|x|}']
    """

    def both(gradient: Callable[[Tensor], Tensor]) -> tuple[Tail, Tail]:
        return asymptote(gradient, -1), asymptote(gradient, 1)

    def in_u(u: Tensor) -> Tensor:
        return objective.optimization.section.force(u, torch.full_like(u, drive))

    found = {}
    far, half = (objective.chart(x * torch.tensor([-1.0, 1.0], dtype=torch.float64)).abs() for x in (1e3, 500.0))
    if bool((far > 1.5 * half).all()):  # still growing, at the rate of a straight line or faster
        found["u"] = both(in_u)
    if not objective.unit.paired:
        found["log_ratio"] = both(lambda x: coordinates(objective, x, drive).log_ratio.gradient)
    found["logit"] = both(lambda z: in_logit(objective, z, drive, anchor_logit=anchor_logit).gradient)
    return found
