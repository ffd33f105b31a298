"""A lower bound on what a policy has gained over the one that sampled, from samples and without a model."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import positive, within
from geomalign.batch import Batch

__all__ = ["ImprovementBound", "improvement_bound"]


class ImprovementBound(NamedTuple):
    """A lower bound on J(π) − J(μ), the gain in mean reward of the current policy over the sampler; 0-dim tensors.

    Args:
        lower: the bound; vacuous where it is not positive.
        estimate: the mean that the bound subtracts the other two from.
        deviation: what the variance of the samples costs.
        range: what the range of the samples costs, which falls with their number and not with their variance.

    >>> import torch, geomalign as ga
    >>> same = torch.zeros(64, 1)
    >>> bound = ga.improvement_bound(ga.Batch(same, same, behavior=same, reward=torch.ones(64)))
    >>> bound.estimate, bool(bound.lower < 0)  # nothing was gained, and nothing is claimed
    (tensor(0.), True)
    """

    lower: Tensor
    estimate: Tensor
    deviation: Tensor
    range: Tensor


def improvement_bound(
    batch: Batch, *, lowest: float = 0.0, highest: float = 1.0, cap: float = 2.0, confidence: float = 0.95
) -> ImprovementBound:
    """A lower bound on J(π_θ) − J(μ) that holds with the given probability over the rollout.

    X = (min(w, cap) − 1)(r − lowest), w = π_θ(y)/μ(y), has an expectation of at most the gain, because r ≥ lowest and
    truncation only lowers w; with n responses and δ = 1 − confidence the empirical Bernstein inequality says

    gain ≥ mean X − √(2 var(X) log(2/δ)/n) − 7 cap (highest − lowest) log(2/δ)/(3(n − 1)).

    The responses have to be independent, and the policy must not depend on them: after training on a rollout, measure
    on another one. A bound from the rollout that was trained on would certify the overfit too.

    Args:
        batch: of responses with `behavior`, and a finite reward in [lowest, highest]; rows without either are left out.
        lowest: the least reward that there can be.
        highest: the largest.
        cap: of the importance weights, ≥ 1: a smaller one narrows the bound and lowers its centre.
        confidence: in (0, 1).

    Raises:
        ValueError: an argument out of its range, or a batch without `behavior` or `reward`.

    Source: Maurer & Pontil 2009, Theorem 4; truncated weights as in Thomas, Theocharous & Ghavamzadeh 2015. For
    bounds by the divergences of the next token (TRM, arXiv 2512.23075), see `surrogate_error`.

    >>> import torch, geomalign as ga
    >>> reward = torch.tensor([1.0, 0.0]).repeat(512)
    >>> policy = torch.where(reward > 0, 0.9, 0.1).log()[:, None]  # the sampler drew both responses equally often
    >>> batch = ga.Batch(policy, behavior=torch.full((1024, 1), 0.5).log(), reward=reward)
    >>> round(ga.improvement_bound(batch).lower.item(), 2)  # the gain is 0.4
    0.35
    """
    name = "improvement_bound"
    within(name, 0, 1, "a probability", ends="()", confidence=confidence)
    within(name, 1, math.inf, "the bound of an importance weight", ends="[)", cap=cap)
    positive(name, "the range of the reward, highest − lowest", range=highest - lowest)
    with torch.no_grad():
        reward = batch.per_response(batch.require("reward", name))
        log_ratio = (batch.log_probs("policy", name) - batch.log_probs("behavior", name)).sum(-1)
        valid = batch.judged
        gained = torch.where(valid, (numerics.exp(log_ratio).clamp(max=cap) - 1) * (reward - lowest), 0)
        count = valid.sum().to(gained.dtype)
        mean = gained.sum() / count.clamp(min=1)
        variance = torch.where(valid, (gained - mean) ** 2, 0).sum() / (count - 1).clamp(min=1)
        budget = math.log(2 / (1 - confidence))
        deviation = torch.sqrt(2 * variance * budget / count)
        width = 7 * cap * (highest - lowest) * budget / (3 * (count - 1))  # infinite for one response
        return ImprovementBound(mean - deviation - width, mean, deviation, width)
