"""The likelihood of failures under the policy that is left when the successes are taken out."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util import check, numerics
from geomalign._util.types import Interval
from geomalign.optimization.base import OptimizationGeometry

__all__ = ["ImplicitNegative"]


@dataclasses.dataclass(frozen=True)
class ImplicitNegative(OptimizationGeometry):
    """The energy −ω log t of a success, and −ω log[(1 − pt)/(1 − p)] of a failure, t = e^u, p the group's success rate.

    With π⁺ the policy in training, π_old = pπ⁺ + (1 − p)π⁻ defines a policy π⁻ of the failures, and (1 − pt)/(1 − p) is
    π⁻/π_old. The drive is the centred reward of 0 or 1: g = r − p with ω = 1 − p; or, `standardised`, g = (r − p)/σ
    with the population's σ and ω = ((1 − p)/p)^½. A failure's drive so tells its p, of which at most 0.98 is used. At
    the anchor the force is −g. Below the floor ε of (1 − pt)/(1 − p) the energy continues as its tangent in t, so that
    the force on a failure is |g|t/max((1 − pt)/(1 − p), ε). Convex in u, coupled to the drive, and least at ±∞.

    Args:
        floor: ε, in (0, 1]. At 1 a failure's force grows no faster than the ratio.
        standardised: whether the drives are divided by their group's standard deviation.

    Raises:
        ValueError: a floor outside (0, 1], or `standardised` is neither true nor false.

    Source: NFT (arXiv 2505.18116). Its code keeps the value constant below the floor, with the gradient of the tangent.

    >>> import torch, geomalign as ga
    >>> potential = ga.optimization.ImplicitNegative()  # p = 0.25
    >>> potential.force(torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([0.75, -0.25, -0.25]))
    tensor([-0.7500,  0.2500,  0.6796])
    """

    floor: float = 1.0
    standardised: bool = False

    def __post_init__(self) -> None:
        check.within(self, 0, 1, "the least share of a failure's probability", ends="(]", floor=self.floor)
        check.boolean(self, standardised=self.standardised)

    def _failure(self, drive: Tensor) -> tuple[Tensor, Tensor]:
        """The size of a failure's drive, zero of a success, and p/(1 − p)."""
        size = (-drive).clamp(min=0)
        rate = (size**2 / (1 + size**2) if self.standardised else size).clamp(max=0.98)
        return size, rate / (1 - rate)

    def _left(self, u: Tensor, odds: Tensor) -> Tensor:
        """(1 − pt)/(1 − p) = 1 − (t − 1)p/(1 − p)."""
        return 1 - odds * numerics.expm1(u)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        size, odds = self._failure(drive)
        left = self._left(u, odds)
        above = left.clamp(min=self.floor)
        failing = odds > 0
        weight = torch.where(failing, size / torch.where(failing, odds, 1), 0)
        # Not a second clamp, whose subgradient at the floor would count twice: at ε = 1 that is the anchor.
        return -drive.clamp(min=0) * u - weight * (above.log() + (left - above) / self.floor)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        size, odds = self._failure(drive)
        pull = size * numerics.exp_slope(u) / self._left(u, odds).clamp(min=self.floor)
        return pull - drive.clamp(min=0)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        size, odds = self._failure(torch.zeros_like(u) if drive is None else drive)
        left, slope = self._left(u, odds), numerics.exp_slope(u)
        above = left.clamp(min=self.floor)
        ratio = slope / above
        bent = torch.where(u <= numerics.limit(u.dtype), ratio, 0)
        return size * (bent + torch.where(left > self.floor, odds * ratio**2, 0))

    def conjugate(self, drive: Tensor) -> Tensor:
        size, odds = self._failure(drive)
        failing = odds > 0
        least = torch.where(failing, size / torch.where(failing, odds, 1), 0) * torch.log1p(odds)
        return torch.where(drive > 0, torch.inf, least)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, 0, drive.sign() * torch.inf)

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(high=0.0)

    def latex(self, u: str, drive: str) -> str:
        odds = rf"{drive}^2" if self.standardised else rf"\tfrac{{|{drive}|}}{{1-|{drive}|}}"
        left = rf"1-{odds}\left(e^{{{u}}}-1\right)"
        floor = rf"\max\left({left},{self.floor:g}\right)"
        return rf"-(-{drive})_+\,\left({odds}\right)^{{-1}}\log\,{floor}-(-{drive})_+\,{u}"
