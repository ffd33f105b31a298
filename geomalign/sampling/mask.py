"""sampling.mask"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.advantage import Advantage
from geomalign.sampling.base import SamplingGeometry, _is_sampling
from geomalign.sampling.importance import _as_drive, _is_cap

__all__ = ["DivergenceMask"]


def _shift_of_mass(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (torch.exp(log_p) - torch.exp(log_q)).abs()


def _binary_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL of the event {this token, any other} under the anchor q from the policy p, KL(q‖p)."""
    floor = torch.finfo(log_p.dtype).tiny
    p_other, q_other = (-torch.expm1(x) for x in (log_p, log_q))
    other = torch.special.xlogy(q_other, q_other.clamp(min=floor)) - torch.special.xlogy(
        q_other, p_other.clamp(min=floor)
    )
    return torch.exp(log_q) * (log_q - log_p) + other


_DIVERGENCES = {
    "tv": (_shift_of_mass, r"|\pi-\pi_k|"),
    "kl": (_binary_kl, r"\mathrm{KL}_2(\pi_k\|\pi)"),
}


@dataclasses.dataclass(frozen=True)
class DivergenceMask(SamplingGeometry):
    """g · sg[min(t, cap)], but 0 where the drive pushes a token further out and its binary divergence has passed a
    threshold.

    PPO's clip judges by the ratio t, and so stops rare tokens early and common ones late; this mask judges by how much
    probability moved: |π − π_k| ("tv"), or KL(π_k‖π) of the event {this token, any other} ("kl").

    Args:
        of: the geometry whose drive is weighted.
        divergence: "tv" or "kl".
        low: threshold where the token lost probability under a drive that is not positive, > 0.
        high: threshold where it gained probability under a positive drive, > 0.
        cap: upper bound of the importance weight; None for none.

    Source: DPPO (arXiv 2602.04879), the binary approximation; cap 20 as its code (and verl's) has it. verl
    adds 1e-8 inside the KL's logarithms.
    """

    of: SamplingGeometry = Advantage()
    divergence: str = "tv"
    low: float = 0.2
    high: float = 0.2
    cap: float | None = 20.0

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        if self.divergence not in _DIVERGENCES:
            raise ValueError(
                f"DivergenceMask(divergence={self.divergence!r}): choose one of {', '.join(map(repr, _DIVERGENCES))}."
            )
        if not (self.low > 0 and self.high > 0):
            raise ValueError(
                f"DivergenceMask(low={self.low!r}, high={self.high!r}): thresholds of a divergence are positive."
            )
        _is_cap(self, self.cap)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.drive(batch)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        log_p, log_q = (_as_drive(drive, batch, name, type(self).__name__) for name in ("policy", "old"))
        delta = log_p - log_q
        moved = _DIVERGENCES[self.divergence][0](log_p, log_q)
        kept = torch.where(drive > 0, (moved <= self.high) | (delta <= 0), (moved <= self.low) | (delta >= 0))
        weight = torch.exp(delta.clamp(max=numerics.limit(delta.dtype) if self.cap is None else math.log(self.cap)))
        return self.of.reweight(drive, log_ratio, batch) * torch.where(kept, weight, 0)

    @property
    def locality(self) -> Locality:
        return max(Locality.TOKEN, self.of.locality)

    def latex(self) -> str:
        cap = r"\infty" if self.cap is None else f"{self.cap:g}"
        mask = rf"1\left[{_DIVERGENCES[self.divergence][1]}\leq\delta\ \text{{or}}\ g(t-1)\leq 0\right]"
        return rf"\operatorname{{sg}}\left[\min(t,{cap})\,{mask}\right]\left({self.of.latex()}\right)"
