"""Bounds on how far the surrogate of policy gradients is from the gain in reward, by divergences of the next token."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from geomalign._util.check import finite, positive, typed

__all__ = ["SurrogateError", "surrogate_error"]


class SurrogateError(NamedTuple):
    """Five upper bounds on |J(π) − J(μ) − L|, each valid by itself; 0-dim tensors in units of the reward.

    L = E_μ[R Σ_t (π_t/μ_t − 1)] is the surrogate whose gradient the policy gradient with token ratios is. J(π) − J(μ) ≥
    L − min(bounds): an update is certified where L is larger than the least of them.

    Args:
        classical: T(T − 1)δ, with δ the largest KL(μ‖π) of a token and T the horizon (TRPO's).
        marginal: (4/3) T^{3/2} δ.
        mixed: 2T √(δ D), with D the KL(μ‖π) of whole responses.
        coupling: 4 Σ_t ε min(1, (t − 1)ε), with ε the largest total variation of a token.
        adaptive: 4 Σ_t D̄_t min(1, (T − t)ε, √((T − t)δ/2)), with D̄_t the mean total variation at token t.

    >>> import torch, geomalign as ga
    >>> bounds = ga.surrogate_error(torch.full((2, 100), 1e-6), torch.full((2, 100), 5e-4))
    >>> [round(float(x), 4) for x in bounds]
    [0.0099, 0.0013, 0.002, 0.0049, 0.0009]
    """

    classical: Tensor
    marginal: Tensor
    mixed: Tensor
    coupling: Tensor
    adaptive: Tensor

    @property
    def least(self) -> Tensor:
        """The least of them, 0-dim."""
        return torch.stack(tuple(self)).min()


def surrogate_error(
    kl: Tensor,
    tv: Tensor,
    mask: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    lowest: float = 0.0,
    highest: float = 1.0,
) -> SurrogateError:
    """Bounds on the error of the surrogate from the divergences of the next token along responses of the sampler μ.

    The largest divergences are taken over the contexts that are given. The bounds are theorems where these are all
    contexts that either policy can reach (an enumerated tree); from samples they are estimates that can be too small,
    because a worse context may not have been sampled. Per-token importance ratios do not do: a divergence of a context
    is a sum over the vocabulary, from the logits of both policies.

    Args:
        kl: `(response, token)` KL(μ‖π) of the next token's distributions, in nats, ≥ 0.
        tv: `(response, token)` total variation of the same distributions, ½ Σ_v |π − μ|, in [0, 1].
        mask: `(response, token)`; the tokens of the responses, by default all.
        weights: `(response,)` probabilities of the responses under μ where they are enumerated; None: equal weights.
        lowest: the least reward that there can be.
        highest: the largest.

    Raises:
        TypeError: something is no tensor.
        ValueError: shapes that differ, or an empty or infinite range of the reward.

    Source: Li et al. 2025 (TRM, arXiv 2512.23075), Theorems on the Pinsker-marginal, mixed, coupling and adaptive
    bounds; their error is that of J itself for rewards in [0, 1], here times the range of the reward.

    >>> import torch, geomalign as ga
    >>> logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    >>> mu, pi = logits.log_softmax(-1), (1.02 * logits).log_softmax(-1)
    >>> kl, tv = (mu.exp() * (mu - pi)).sum(-1), (mu.exp() - pi.exp()).abs().sum(-1) / 2
    >>> round(float(ga.surrogate_error(kl, tv).least), 4)
    0.0004
    """
    name = "surrogate_error"
    for key, x in (("kl", kl), ("tv", tv), ("mask", mask), ("weights", weights)):
        if x is not None or key in ("kl", "tv"):
            typed(name, key, x, Tensor, "Numbers that come from numpy or lists need torch.as_tensor.")
    finite(name, "a reward", lowest=lowest, highest=highest)
    positive(name, "the range of the reward, highest − lowest", range=highest - lowest)
    if kl.ndim != 2 or tv.shape != kl.shape or (mask is not None and mask.shape != kl.shape):
        shapes = ", ".join(
            f"{key} {tuple(x.shape)}" for key, x in (("kl", kl), ("tv", tv), ("mask", mask)) if x is not None
        )
        raise ValueError(f"{name}: expected one shape (response, token), got {shapes}.")
    if weights is not None and weights.shape != kl.shape[:1]:
        raise ValueError(f"{name}: weights of shape {tuple(weights.shape)} for {kl.shape[0]} responses.")
    with torch.no_grad():
        inside = torch.ones_like(kl, dtype=torch.bool) if mask is None else mask.bool()
        kl, tv = (torch.where(inside, x, 0).to(torch.promote_types(x.dtype, torch.float32)) for x in (kl, tv))
        share = kl.new_full(kl.shape[:1], 1 / max(1, len(kl))) if weights is None else weights.to(kl.dtype)
        kl, tv, inside = (torch.cat([x, x.new_zeros(1, x.shape[1])]) for x in (kl, tv, inside))  # so that none is empty
        share = torch.cat([share, share.new_zeros(1)])
        delta, epsilon = kl.max(), tv.max().clamp(max=1)
        used = inside.any(0)
        horizon = used.sum().to(kl.dtype)
        whole = (share * kl.sum(1)).sum()
        before = (used.cumsum(0) - 1).to(kl.dtype)  # t − 1 of the token t
        after = horizon - 1 - before  # T − t
        shift = torch.where(used, (before * epsilon).clamp(max=1), 0)
        future = torch.minimum(after * epsilon, torch.sqrt(after.clamp(min=0) * delta / 2)).clamp(0, 1)
        bounds = SurrogateError(
            classical=horizon * (horizon - 1) * delta,
            marginal=4 / 3 * horizon**1.5 * delta,
            mixed=2 * horizon * torch.sqrt(delta * whole),
            coupling=4 * epsilon * shift.sum(),
            adaptive=4 * ((share[:, None] * tv).sum(0) * future).sum(),
        )
        return SurrogateError(*((highest - lowest) * bound for bound in bounds))
