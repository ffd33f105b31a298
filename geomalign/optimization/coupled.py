"""Geometries that know the drive, or are not convex: nothing here is orthogonal to the sampling."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval
from geomalign.optimization.base import BregmanGeometry, OptimizationGeometry, positive, within

__all__ = ["LogRatioModulated", "Clip", "AdvantageScaled", "ImportanceWeighted", "SigmoidClip"]


@dataclasses.dataclass(frozen=True)
class Clip(OptimizationGeometry):
    """φ(u, g) = |g|·relu(sgn(g)·u − ε_sgn(g)): free until the drive has moved u by ε, then exactly as strong as the
    drive.

    In the ratio chart −min(tA, clip(t, 1−low, 1+high)·A) up to the constant −A. It needs the drive's sign and size:
    coupled, and no `BregmanGeometry`. Its energy is −g·clip(u) with the bound on the side that g pushes to; the force
    is −g inside, 0 beyond.

    Args:
        low: how far u may fall under a negative drive, ≥ 0.
        high: how far u may rise under a positive drive, ≥ 0.
        dual: bound t ≤ dual of the *ratio* (u ≤ dual − 1) under a negative drive as well, beyond which the loss
            is constant:
            the dual clip, also called two-sided. None: none.

    Source: Schulman et al. 2017 (PPO, arXiv 1707.06347) eq. 7; `low` ≠ `high`: DAPO (arXiv 2503.14476); dual: Ye
        et al. 2020 (arXiv 1912.09729) eq. 5.
    """

    low: float = 0.2
    high: float = 0.2
    dual: float | None = None

    def __post_init__(self) -> None:
        if not (self.low >= 0 and self.high >= 0):
            raise ValueError(
                f"Clip(low={self.low!r}, high={self.high!r}): distances from the anchor, so not negative; low=0.2 "
                "bounds the ratio by 0.8."
            )
        if self.dual is not None and not self.dual > 1 + self.high:
            raise ValueError(
                f"Clip(dual={self.dual!r}): a bound of the ratio beyond 1 + high = {1 + self.high:g}; published "
                "values are 2 to 10."
            )

    def _clipped(self, u: Tensor, drive: Tensor) -> Tensor:
        far = math.inf if self.dual is None else self.dual - 1
        return torch.where(drive >= 0, u.clamp(max=self.high), u.clamp(min=-self.low, max=far))

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return -drive * self._clipped(u, drive)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return torch.where(self._clipped(u, drive) == u, -drive, 0)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return self.high * torch.relu(drive) + self.low * torch.relu(-drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return self.high * (drive > 0).to(drive.dtype) - self.low * (drive < 0).to(drive.dtype)

    def latex(self, u: str, drive: str) -> str:
        if self.low == self.high and self.dual is None:
            return rf"|{drive}|\left(\operatorname{{sgn}}({drive})\,{u}-{self.high:g}\right)_+"
        up, down = rf"({drive})_+\left({u}-{self.high:g}\right)_+", rf"(-{drive})_+\left(-{u}-{self.low:g}\right)_+"
        far = "" if self.dual is None else rf"-(-{drive})_+\left({u}-{self.dual - 1:g}\right)_+"
        return f"{up}+{down}{far}"


@dataclasses.dataclass(frozen=True)
class AdvantageScaled(OptimizationGeometry):
    """φ(u, g) = |g|·φ_of(u), pulled by g: the resistance grows with the drive, so the drive's size moves no
    equilibrium, only its sign does.

    A per-event weight is the same thing: an energy that is multiplied as a whole (WPO). With ChiSquare(1/ε) in the
    ratio chart it puts the equilibrium at u* = ±ε, where PPO has its walls (CFPO, SPO). Coupled: no `BregmanGeometry`.

    Args:
        of: a decoupled geometry, met with the drive ±1.

    Source: SPO (arXiv 2401.16025); CFPO (arXiv 2601.22801).
    """

    of: BregmanGeometry

    def __post_init__(self) -> None:
        if not isinstance(self.of, BregmanGeometry):
            raise ValueError(
                f"AdvantageScaled(of={self.of!r}): expected a BregmanGeometry instance such as ChiSquare(5.0)."
            )

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return drive.abs() * self.of.energy(u, torch.sign(drive))

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return drive.abs() * self.of.force(u, torch.sign(drive))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.of.curvature(u) * (0 if drive is None else drive.abs())

    def conjugate(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, 0, drive.abs() * self.of.conjugate(torch.sign(drive)))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return self.of.equilibrium(torch.sign(drive))

    @property
    def domain(self) -> Interval:
        return self.of.domain

    @property
    def conjugate_domain(self) -> Interval:
        signs = self.of.conjugate_domain
        return Interval(-math.inf if signs.low <= -1 else 0.0, math.inf if signs.high >= 1 else 0.0)

    def latex(self, u: str, drive: str) -> str:
        return rf"|{drive}|\left[{self.of.latex(u, drive)}\right]"


@dataclasses.dataclass(frozen=True)
class SigmoidClip(OptimizationGeometry):
    """φ(u, g) = g·u − g·(4/τ)σ(τu) with τ by the sign of g: the drive fades as a sigmoid's slope where a clip would cut
    it.

    The force is −4gσ(τu)σ(−τu): −g at the anchor, vanishing on both sides; so u never settles, and φ is convex on one
    side only. Coupled.

    Args:
        positive: τ under a positive drive, > 0; the larger, the narrower the gate.
        negative: τ under a drive that is not positive.

    Source: SAPO (arXiv 2511.20347).
    """

    positive: float = 1.0
    negative: float = 1.05

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            positive(self, name)

    def _temperature(self, drive: Tensor) -> Tensor:
        return torch.where(drive > 0, self.positive, torch.full_like(drive, self.negative))

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        tau = self._temperature(drive)
        return -drive * 4 / tau * torch.sigmoid(tau * u)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        x = self._temperature(drive) * u
        return -4 * drive * torch.sigmoid(x) * torch.sigmoid(-x)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        if drive is None:
            return torch.zeros_like(u)
        tau = self._temperature(drive)
        x = tau * u
        return 4 * drive * tau * torch.sigmoid(x) * torch.sigmoid(-x) * torch.tanh(x / 2)

    def conjugate(self, drive: Tensor) -> Tensor:
        return torch.relu(drive) * 4 / self.positive

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, torch.zeros_like(drive), torch.sign(drive) * math.inf)

    def latex(self, u: str, drive: str) -> str:
        return rf"{drive}\left({u}-\frac{{4}}{{\tau}}\sigma\left(\tau {u}\right)\right)"


@dataclasses.dataclass(frozen=True)
class LogRatioModulated(OptimizationGeometry):
    """φ(u) = (1−s)·softplus(−βu) + s·e^{−βu} with s = σ(βu/τ): logistic on the wrong side of the margin, exponential on
    the right one.

    Found by search over programs. It ignores the drive and is still no `BregmanGeometry`, because it is not convex: for
    τ = 0.05 it has a local minimum at βu = −0.119 and a local maximum at 0.072, between which a pair is pushed the
    wrong way; from τ = 0.2 on it falls everywhere. It is met with the drive 0, where its infimum is 0 at u → ∞; no
    other drive is balanced.

    Args:
        beta: inverse temperature, positive.
        tau: width of the transition, positive.

    Source: DiscoPOP (arXiv 2406.08414) eq. 5.
    """

    beta: float = 0.1
    tau: float = 0.05

    def __post_init__(self) -> None:
        for name in ("beta", "tau"):
            positive(self, name)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        x = self.beta * u
        exponential = torch.exp((-x).clamp(max=numerics.limit(u.dtype)))
        weight = torch.nn.functional.softplus
        return torch.sigmoid(-x / self.tau) * weight(-x) + torch.sigmoid(x / self.tau) * exponential - drive * u

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        x = self.beta * u
        right, wrong = torch.sigmoid(x / self.tau), torch.sigmoid(-x / self.tau)
        exponential = torch.exp((-x).clamp(max=numerics.limit(u.dtype)))
        inside = torch.where(-x <= numerics.limit(u.dtype), exponential, 0)
        exchange = right * wrong / self.tau * (exponential - torch.nn.functional.softplus(-x))
        return self.beta * (exchange - wrong * torch.sigmoid(-x) - right * inside) - drive

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.func.grad(lambda at: self.force(at, torch.zeros_like(at)).sum())(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return within(self.conjugate_domain, drive, torch.zeros_like(drive))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.full_like(drive, math.inf)

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(0.0, 0.0)

    def latex(self, u: str, drive: str) -> str:
        x = rf"{self.beta:g}{u}"
        return rf"(1-s)\log\left(1+e^{{-{x}}}\right)+s\,e^{{-{x}}},\ s=\sigma\left({x}/{self.tau:g}\right)"


@dataclasses.dataclass(frozen=True)
class ImportanceWeighted(OptimizationGeometry):
    """energy = w·φ_of(u) whose weight w is the drive and moves with u: ∂energy/∂u = w(φ_of + φ_of').

    An importance-weighted estimate of E_π[φ_of(Δ)] from samples of another policy. The weight w = π/π_old depends on
    the policy as much as Δ does (∂w/∂Δ = w for the log-ratio of a token), and the product rule is what makes the
    gradient that of the expectation. Coupled: the drive is a weight here and not a pull.

    Args:
        of: the geometry whose value is averaged.
        differentiate_weight: whether the gradient passes through the weight. Without, ∂energy/∂u = w·φ_of'.

    Source: DeepSeek-V3.2 (arXiv 2512.02556), "unbiased KL estimate".
    """

    of: BregmanGeometry
    differentiate_weight: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.of, BregmanGeometry):
            raise ValueError(
                f"ImportanceWeighted(of={self.of!r}): expected a BregmanGeometry instance such as ReverseKL()."
            )

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        value = self.of.value(u)
        return drive * (value + self.differentiate_weight * value.detach() * (u - u.detach()))

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return drive * (self.of.mirror(u) + self.differentiate_weight * self.of.value(u))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return (self.of.curvature(u) + self.differentiate_weight * self.of.mirror(u)) * (0 if drive is None else drive)

    def conjugate(self, drive: Tensor) -> Tensor:
        return drive * self.of.conjugate(torch.zeros_like(drive))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return self.of.equilibrium(torch.zeros_like(drive))

    @property
    def domain(self) -> Interval:
        return self.of.domain

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(0.0, math.inf)

    def latex(self, u: str, drive: str) -> str:
        return rf"{drive}\left[{self.of.latex(u, drive)}+{u}\right]"
