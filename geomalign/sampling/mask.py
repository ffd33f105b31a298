"""A mask of tokens whose probability has already moved far."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import one_of, within
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.advantage import Advantage
from geomalign.sampling.base import Reweighting, SamplingGeometry, is_cap, is_sampling
from geomalign.sampling.importance import policy_and_old

__all__ = ["DivergenceMask"]


def _shift_of_mass(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (torch.exp(log_p) - torch.exp(log_q)).abs()


def binary_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(q‖p) of the event {this token, any other}, with q under π_old and p under the policy."""
    floor = torch.finfo(log_p.dtype).tiny
    p_other, q_other = (-torch.expm1(x) for x in (log_p, log_q))
    other = torch.special.xlogy(q_other, q_other.clamp(min=floor)) - torch.special.xlogy(
        q_other, p_other.clamp(min=floor)
    )
    return torch.exp(log_q) * (log_q - log_p) + other


_DIVERGENCES = {
    "tv": (_shift_of_mass, r"|\pi-\pi_k|"),
    "kl": (binary_kl, r"\mathrm{KL}_2(\pi_k\|\pi)"),
}


@dataclasses.dataclass(frozen=True)
class DivergenceMask(Reweighting):
    """g · sg[min(t, cap)], and 0 where the drive pushes a token further out whose binary divergence passed a threshold.

    PPO's clip judges by the ratio t, and so stops rare tokens early and common ones late. This mask judges by how much
    probability moved: |π − π_old| ("tv"), or KL(π_old‖π) of the event {this token, any other} ("kl").

    Args:
        of: the geometry whose drive is weighted.
        divergence: "tv" or "kl".
        low: threshold where the token lost probability and the drive is not positive, > 0.
        high: threshold where the token gained probability and the drive is positive, > 0.
        cap: upper bound of the importance weight, positive; None for no bound.

    Raises:
        ValueError: an unknown divergence, or a threshold or cap that is not positive.

    Source: DPPO (arXiv 2602.04879), the binary approximation; cap 20 as its code (and verl's) has it. verl adds 1e-8
    inside the KL's logarithms.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.tensor([-0.1, -6.0]), torch.tensor([-0.6, -8.0]), advantage=torch.ones(2))
    >>> sampling = ga.sampling.DivergenceMask()  # only the first token moved 0.2 of probability
    >>> sampling.reweight(sampling.drive(batch), batch.policy - batch.old, batch)
    tensor([0.0000, 7.3891])
    """

    of: SamplingGeometry = Advantage()
    divergence: str = "tv"
    low: float = 0.2
    high: float = 0.2
    cap: float | None = 20.0

    def __post_init__(self) -> None:
        is_sampling(self, self.of)
        one_of(self, "divergence", self.divergence, _DIVERGENCES)
        within(self, 0, math.inf, "a threshold of the divergence", ends="(]", low=self.low, high=self.high)
        is_cap(self, self.cap)

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        log_p, log_q = policy_and_old(drive, batch, self)
        delta = log_p - log_q
        moved = _DIVERGENCES[self.divergence][0](log_p, log_q)
        kept = torch.where(drive > 0, (moved <= self.high) | (delta <= 0), (moved <= self.low) | (delta >= 0))
        weight = torch.exp(delta.clamp(max=numerics.limit(delta.dtype) if self.cap is None else math.log(self.cap)))
        return torch.where(kept, weight, 0)

    def latex(self) -> str:
        cap = r"\infty" if self.cap is None else f"{self.cap:g}"
        mask = rf"1\left[{_DIVERGENCES[self.divergence][1]}\leq\delta\ \text{{or}}\ g(t-1)\leq 0\right]"
        return rf"\operatorname{{sg}}\left[\min(t,{cap})\,{mask}\right]\left({self.of.latex()}\right)"
