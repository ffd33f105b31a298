"""What is solved or measured of importance weights: caps, effective shares, and the baseline that they call for."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import boolean, within
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.base import SamplingGeometry, Transformed, rewards

__all__ = ["EffectiveImportance", "OffPolicyBaseline", "effective_share", "unfiltered"]


def _log_weight(batch: Batch | PreferenceBatch, sequence: bool, owner: str, numerator: str) -> tuple[Tensor, Tensor]:
    """log(p/π_behavior) of tokens or, as one column, of responses; and which of them count."""
    rows = batch.rows
    judged = rows.judged[:, None]
    log_weight = (rows.log_probs(numerator, owner) - rows.log_probs("behavior", owner)).detach()
    if sequence or rows.summed:
        return log_weight.sum(-1, keepdim=True), judged
    return log_weight, rows.support & judged


def _share(weight: Tensor, valid: Tensor) -> Tensor:
    """(Σw)²/(n Σw²) of the weights that are valid; 1 where there are none."""
    weight = torch.where(valid, weight, 0)
    count = valid.sum().clamp(min=1)
    square = (weight**2).sum()
    return torch.where(square > 0, weight.sum() ** 2 / (count * torch.where(square > 0, square, 1)), 1)


def effective_share(batch: Batch, *, sequence: bool = True, numerator: str = "old") -> Tensor:
    """ESS/B, the effective share of the samples under their importance weights: (Σw)²/(B Σw²), a 0-dim tensor.

    VCPO scales the learning rate by its root, `lr · effective_share(batch).sqrt()`. A factor of the loss is not the
    same: Adam divides the gradient by its own size.

    Args:
        batch: a rollout with `behavior` and the numerator.
        sequence: whether w is of whole responses; else of tokens.
        numerator: the policy above `behavior`, "old" or "policy".

    Raises:
        ValueError: the batch lacks one of the two policies.

    Source: Kish 1965; VCPO (arXiv 2602.17616).

    >>> import torch, geomalign as ga
    >>> old, behavior = torch.tensor([[-1.0], [-1.0]]), torch.tensor([[-1.0], [-9.0]])
    >>> ga.sampling.effective_share(ga.Batch(old, old, behavior=behavior))  # one of the two has all the weight
    tensor(0.5003)
    """
    log_weight, valid = _log_weight(batch, sequence, "effective_share", numerator)
    return _share(torch.exp(log_weight - _largest(log_weight, valid)), valid)


def _largest(x: Tensor, valid: Tensor) -> Tensor:
    top = torch.where(valid, x, -torch.inf).amax() if x.numel() else x.new_zeros(())
    return torch.where(top > -torch.inf, top, 0)


@dataclasses.dataclass(frozen=True)
class EffectiveImportance(Transformed):
    """g · min(π_old/π_behavior, c), with the largest cap c at which the weights' effective share ESS/B is the target.

    The share of min(w, c) falls with c from 1 to that of w, so that c is the root of one scalar function. Where w
    itself meets the target nothing is truncated.

    Args:
        of: the geometry whose drive is weighted.
        target: ESS/B, in (0, 1).
        sequence: one weight per response, of the product of its tokens' ratios, instead of one per token.

    Raises:
        ValueError: a target outside (0, 1); in `drive`, a batch without `old` or `behavior`.

    Source: our own; truncation, Ionides 2008; the effective share, Kish 1965.

    >>> import torch, geomalign as ga
    >>> old, behavior = torch.full((4, 1), -1.0), torch.tensor([[-1.0], [-1.0], [-1.0], [-4.0]])
    >>> batch = ga.Batch(old, old, advantage=torch.ones(4), behavior=behavior)
    >>> weight = ga.sampling.EffectiveImportance(ga.Advantage(), target=0.8).drive(batch)
    >>> round((weight.sum() ** 2 / (4 * weight.square().sum())).item(), 4), weight[-1].item() < 3
    (0.8, True)
    """

    of: SamplingGeometry
    target: float = 0.9
    sequence: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 0, 1, "an effective share of the samples", ends="()", target=self.target)
        boolean(self, sequence=self.sequence)

    def log_cap(self, batch: Batch | PreferenceBatch) -> Tensor:
        """log c, a 0-dim tensor; that of the largest weight where nothing is truncated."""
        return self._solve(*_log_weight(batch, self.sequence, type(self).__name__, "old"))

    def _solve(self, log_weight: Tensor, valid: Tensor) -> Tensor:
        top = _largest(log_weight, valid)
        weight = torch.where(valid, torch.exp(log_weight - top), 0).double()
        target = torch.full((), -self.target, dtype=weight.dtype, device=weight.device)
        cap = numerics.solve_increasing(lambda c: -_share(weight.clamp(max=c), valid), target, 0.0, 1.0)
        return top + torch.where(_share(weight, valid) >= self.target, 0, cap.log()).to(top.dtype)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        log_weight, valid = _log_weight(batch, self.sequence, type(self).__name__, "old")
        weight = numerics.exp(torch.minimum(log_weight, self._solve(log_weight, valid)))
        if drive.ndim == 2:
            return drive * weight
        return drive * weight[:, 0] if weight.shape[1] == 1 else drive[:, None] * weight

    def latex(self) -> str:
        cap = rf"c:\ \mathrm{{ESS}}/B={self.target:g}"
        return rf"\min\left(\frac{{\pi_k}}{{\pi_b}},c\right)\left({self.of.latex()}\right),\ {cap}"


@dataclasses.dataclass(frozen=True)
class OffPolicyBaseline(SamplingGeometry):
    """g = r − Σ_j w_j²|y_j| r_j / Σ_j w_j²|y_j|, w = π_old/π_behavior of the response: the baseline of least variance.

    The estimate Σ w(r − b)∇log π has the second moment E[w²(r − b)²‖∇log π‖²], which is least at the average of the
    rewards weighted by w²‖∇log π‖². The squared norm is taken to grow in proportion to a response's length, as in
    `LengthWeightedBaseline`, which this is at w = 1. The weight w itself is not applied here: wrap the geometry in
    `TruncatedImportance` or `MaskedImportance`.

    Raises:
        ValueError: (in `drive`) a batch without `old`, `behavior` or `reward`.

    Source: OPOB of VCPO (arXiv 2602.17616), which measures the norms of the gradients where this takes the lengths.

    >>> import torch, geomalign as ga
    >>> old, behavior = torch.full((2, 1), -1.0), torch.tensor([[-1.0], [-2.0]])  # w = 1 and e
    >>> batch = ga.Batch(old, old, reward=torch.tensor([1.0, 0.0]), behavior=behavior)
    >>> ga.sampling.OffPolicyBaseline().drive(batch)  # b = 1/(1 + e²)
    tensor([ 0.8808, -0.1192])
    """

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = rewards(self, batch)
        groups = batch.groups()
        log_weight, _ = _log_weight(batch, True, type(self).__name__, "old")
        log_square = 2 * log_weight[:, 0]
        size = torch.exp(torch.where(groups.valid, log_square - groups.max(log_square), 0)) * batch.support.sum(-1)
        below = reward - groups.max(reward)
        total = groups.sum(size)
        baseline = groups.sum(size * below) / torch.where(total > 0, total, 1)
        return torch.where(groups.valid, below - baseline, 0)

    def latex(self) -> str:
        return r"r_i-\frac{\sum_{j\in G}w_j^2|y_j|\,r_j}{\sum_{j\in G}w_j^2|y_j|}"


def unfiltered(behavior: Tensor, kept_mass: Tensor) -> Tensor:
    """log-probabilities before top-p or top-k from those after it: log μ + log Z, with the mass Z that the filter kept.

    A sampler that truncates divides by the mass it kept, so that its log-probabilities are those of another policy: the
    mean of π/μ over its samples is then the mean of Z, and no longer 1. Pass the result as `behavior`.

    Args:
        behavior: `(row, token)` log-probabilities after the filter, in nats.
        kept_mass: `(row, token)` Z of every token, in (0, 1], as the engine reports it.

    >>> import torch, geomalign as ga
    >>> ga.sampling.unfiltered(torch.tensor([[-0.5]]), torch.tensor([[0.9]]))
    tensor([[-0.6054]])
    """
    return behavior + kept_mass.to(behavior.dtype).log()
