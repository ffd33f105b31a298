"""Divergences estimated from samples: D(π‖π_k) from log-ratios of responses that π_k generated, with standard errors.

Every estimate averages over the last axis. From samples of π instead, negate the log-ratios and exchange the arguments:
`divergence_estimate(-log_ratio, divergence.reverse)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign.divergences.base import Divergence
from geomalign.divergences.power import KullbackLeibler, Renyi

__all__ = ["Estimate", "divergence_estimate", "effective_sample_size", "log_power_moment", "renyi_estimate"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """An estimate and how far it may be off.

    Args:
        value: `(...)`.
        standard_error: `(...)`, the standard deviation of `value` over samples, estimated from this one; nan for
            fewer than two.

    >>> import torch, geomalign as ga
    >>> ga.divergence_estimate(torch.tensor([0.1, -0.1]), ga.KullbackLeibler())
    Estimate(value=tensor(0.0050), standard_error=tensor(0.0003))
    """

    value: Tensor
    standard_error: Tensor


def _mean_and_error(x: Tensor, mask: Tensor) -> Estimate:
    count = mask.sum(-1).to(x.dtype)
    mean = torch.where(mask, x, 0).sum(-1) / count
    spread = torch.where(mask, x - mean.unsqueeze(-1), 0)
    # Divided by the largest deviation first: the square of a finite number may overflow.
    scale = spread.abs().amax(-1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1)
    square = (spread / scale).square().sum(-1)
    return Estimate(mean, scale.squeeze(-1) * (square / (count - 1) / count).sqrt())


def _valid(log_ratio: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    mask = torch.ones_like(log_ratio, dtype=torch.bool) if mask is None else mask.bool().expand_as(log_ratio)
    return torch.where(mask, log_ratio, 0), mask


def divergence_estimate(
    log_ratio: Tensor,
    divergence: Divergence,
    *,
    mask: Tensor | None = None,
    control: float = 0.0,
    self_normalised: bool = False,
) -> Estimate:
    """D_ψ(π‖π_k) from samples of π_k: D̂ = (1/n) Σ_i ψ(t_i) + c·(t_i − 1), with t_i = e^{Δ_i}.

    It is unbiased for every c, since E[t] = 1. At c = 0 each term is ≥ 0 (the "k3" form for KL(π_k‖π), whose naive form
    −Δ is c = −1). Self-normalised, t_i/mean(t) takes the place of t_i: the bias is O(1/n), an unknown constant in π or
    π_k drops out, and c with it. Its standard error is the delta method's. Log-ratios of ±1e4 stay finite.

    Args:
        log_ratio: `(..., n)` Δ_i = log π(y_i) − log π_k(y_i) in nats, y_i ~ π_k.
        divergence: with generator ψ.
        mask: `(..., n)` booleans, the samples that exist. None: all.
        control: c, the coefficient of the control variate.
        self_normalised: divide the ratios by their mean.

    Returns:
        `Estimate` in the shape `(...)`.

    >>> import torch, geomalign as ga
    >>> log_ratio = torch.tensor([0.2, -0.1, 0.0, -0.2])
    >>> ga.divergence_estimate(log_ratio, ga.ReverseKullbackLeibler()).value
    tensor(0.0112)

    Source: http://joschu.net/blog/kl-approx.html for the control variate; Owen, *Monte Carlo theory*, ch. 9 for the
        delta method.
    """
    log_ratio, mask = _valid(log_ratio, mask)
    if not self_normalised:
        return _mean_and_error(divergence.penalty(log_ratio) + control * numerics.expm1(log_ratio), mask)
    normalised = log_ratio - log_power_moment(log_ratio, 1.0, mask=mask).unsqueeze(-1)
    value = divergence.penalty(normalised)
    estimate = _mean_and_error(value, mask)
    # With D(m) = mean ψ(t/m): dD/dm = −mean(t ψ'(t)) at m = 1, and m moves with mean(t − 1).
    pull = _mean_and_error(_ratio_times_coordinate(divergence, normalised), mask).value
    influence = value - pull.unsqueeze(-1) * numerics.expm1(normalised)
    return Estimate(estimate.value, _mean_and_error(influence, mask).standard_error)


def _ratio_times_coordinate(divergence: Divergence, log_ratio: Tensor) -> Tensor:
    s = divergence.coordinate(log_ratio)
    return torch.where(log_ratio.isneginf(), 0, numerics.exp(log_ratio) * s)


def log_power_moment(log_ratio: Tensor, power: float, *, mask: Tensor | None = None) -> Tensor:
    """log mean(t^power) over the last axis, in log space, so that t^power may overflow.

    Args:
        log_ratio: `(..., n)` log t in nats.
        power: any number.
        mask: `(..., n)` booleans, the samples that exist. None: all.

    >>> log_power_moment(torch.tensor([1000.0, 1000.0]), 2.0)
    tensor(2000.)
    """
    log_ratio, mask = _valid(log_ratio, mask)
    exponent = torch.where(mask, power * log_ratio, -math.inf)
    return torch.logsumexp(exponent, -1) - mask.sum(-1).to(log_ratio.dtype).log()


def renyi_estimate(
    log_ratio: Tensor, divergence: Renyi, *, mask: Tensor | None = None, self_normalised: bool = False
) -> Estimate:
    """Rényi's R_α(π‖π_k) from samples of π_k: R̂_α = log(mean_i t_i^α)/(α−1), in log space.

    Self-normalised, α/(α−1)·log(mean_i t_i) is subtracted. The logarithm of a mean is biased, by
    −Var[t^α]/(2n(α−1)E[t^α]²) to first order: downwards for α > 1. The standard error is the delta method's. Without
    self-normalisation the estimate may be negative; with it, it is ≥ 0. At α = 1 it is the estimate of KL(π‖π_k).

    Args:
        log_ratio: `(..., n)` Δ_i = log π(y_i) − log π_k(y_i) in nats, y_i ~ π_k.
        divergence: `Renyi(order)`.
        mask: `(..., n)` booleans, the samples that exist. None: all.
        self_normalised: divide the ratios by their mean.

    Returns:
        `Estimate` in the shape `(...)`.

    >>> import torch, geomalign as ga
    >>> ga.renyi_estimate(torch.tensor([0.3, -0.3]), ga.Renyi(2.0), self_normalised=True).value
    tensor(0.0815)
    """
    order = divergence.order
    if order == 1.0:
        return divergence_estimate(log_ratio, KullbackLeibler(), mask=mask, self_normalised=self_normalised)
    log_ratio, mask = _valid(log_ratio, mask)
    moment = log_power_moment(log_ratio, order, mask=mask)
    influence = torch.exp(order * log_ratio - moment.unsqueeze(-1))
    if self_normalised:
        first = log_power_moment(log_ratio, 1.0, mask=mask)
        moment = moment - order * first
        influence = influence - order * torch.exp(log_ratio - first.unsqueeze(-1))
    error = _mean_and_error(influence, mask).standard_error / abs(order - 1.0)
    return Estimate(moment / (order - 1.0), error)


def effective_sample_size(log_weight: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Kish's effective sample size as a fraction, (Σw)²/(n Σw²) ∈ [1/n, 1], over the last axis; 1 for equal weights.

    It is e^{−R₂}, with R₂ the self-normalised estimate of Rényi's divergence of order 2, taken in log space.

    Args:
        log_weight: `(..., n)` log w.
        mask: `(..., n)` booleans, the samples that exist. None: all.

    >>> effective_sample_size(torch.tensor([0.0, 0.0, -1000.0, -1000.0]))
    tensor(0.5000)
    """
    return torch.exp(-renyi_estimate(log_weight, Renyi(2.0), mask=mask, self_normalised=True).value)
