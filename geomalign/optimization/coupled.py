"""Potentials that depend on the drive, or are not convex: none of them is decoupled from the sampling."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import check, numerics
from geomalign._util.types import Interval
from geomalign.optimization.base import BregmanGeometry, OptimizationGeometry, finite_on

__all__ = ["LogRatioModulated", "Clip", "AdvantageScaled", "ImportanceWeighted", "SigmoidClip"]


@dataclasses.dataclass(frozen=True)
class Clip(OptimizationGeometry):
    """φ(u, g) = |g|·relu(sgn(g)·u − ε_sgn(g)): PPO's clip. Nothing resists until the drive has moved u by ε; from there
    on the resistance equals the drive.

    In the ratio chart the energy is −min(tA, clip(t, 1−low, 1+high)·A) up to the constant −A: −g·clip(u) with the bound
    on the side to which g pushes. The force is −g inside and 0 beyond. The potential depends on the drive's sign and
    size, so it is coupled and no `BregmanGeometry`.

    Args:
        low: how far u may fall under a negative drive, ≥ 0.
        high: how far u may rise under a positive drive, ≥ 0.
        dual: the dual (two-sided) clip: under a negative drive the loss is constant beyond the *ratio* t = dual
            (u = dual − 1) as well; greater than 1 + high. None: no such bound.

    >>> import torch, geomalign as ga
    >>> u = torch.tensor([-0.5, 0.0, 0.5])
    >>> ga.Clip(0.2, 0.2).force(u, torch.ones(3)), ga.Clip(0.2, 0.2).force(u, -torch.ones(3))
    (tensor([-1., -1.,  0.]), tensor([0., 1., 1.]))

    Source: Schulman et al. 2017 (PPO, arXiv 1707.06347) eq. 7; `low` ≠ `high`: DAPO (arXiv 2503.14476); dual: Ye
        et al. 2020 (arXiv 1912.09729) eq. 5.
    """

    low: float = 0.2
    high: float = 0.2
    dual: float | None = None

    def __post_init__(self) -> None:
        check.number(self, low=self.low, high=self.high, **({} if self.dual is None else {"dual": self.dual}))
        if not (self.low >= 0 and self.high >= 0):
            why = "distances from the anchor must be ≥ 0; low=0.2 bounds the ratio by 0.8."
            check.refuse(self, why, low=self.low, high=self.high)
        if self.dual is not None and not self.dual > 1 + self.high:
            why = f"a bound of the ratio must exceed 1 + high = {1 + self.high:g}; published values are 2 to 10."
            check.refuse(self, why, dual=self.dual)

    def _clipped(self, u: Tensor, drive: Tensor) -> Tensor:
        far = math.inf if self.dual is None else self.dual - 1
        return torch.where(drive >= 0, u.clamp(max=self.high), u.clamp(min=-self.low, max=far))

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return -drive * self._clipped(u, drive)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        far = math.inf if self.dual is None else self.dual - 1
        inside = torch.where(drive >= 0, u <= self.high, (-self.low <= u) & (u <= far))
        return torch.where(inside, -drive, 0)

    def energy_and_force(self, u: Tensor, drive: Tensor) -> tuple[Tensor, Tensor]:
        # Bounds in the shape of the drive, which is often one number per row, and no `where` over the tokens.
        far = math.inf if self.dual is None else self.dual - 1
        low = torch.where(drive >= 0, -math.inf, torch.full_like(drive, -self.low))
        high = torch.where(drive >= 0, self.high, torch.full_like(drive, far))
        clipped = torch.maximum(torch.minimum(u, high), low)
        if numerics.may_wait(u):
            return -drive * clipped, -drive * numerics.equal(clipped, u)
        # A compiler may compute u once for each use, unequal in the last bit: `clipped == u` would be false inside.
        return -drive * clipped, -drive * ((low <= u) & (u <= high)).to(u.dtype)

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
    """φ(u, g) = |g|·φ_of(u): the resistance grows with the drive, so the equilibrium depends on the drive's sign alone.

    A weight per event is the same thing: an energy that is multiplied as a whole (WPO). With ChiSquare(1/ε) in the
    ratio chart the equilibrium is u* = ±ε, where PPO has its walls (CFPO, SPO). Coupled: no `BregmanGeometry`.

    Args:
        of: a decoupled geometry; its drive is ±1.

    >>> import torch, geomalign as ga
    >>> ga.AdvantageScaled(ga.ChiSquare(5.0)).equilibrium(torch.tensor([-3.0, 0.1]))
    tensor([-0.2000,  0.2000])

    Source: SPO (arXiv 2401.16025); CFPO (arXiv 2601.22801).
    """

    of: BregmanGeometry

    def __post_init__(self) -> None:
        check.instance(self, "of", self.of, BregmanGeometry, "ChiSquare(5.0)")

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
    """φ(u, g) = g·u − g·(4/τ)σ(τu): a soft clip, in which the drive fades smoothly where PPO's clip cuts it off.

    The force is −4gσ(τu)σ(−τu): −g at the anchor, vanishing on both sides. So no equilibrium is finite, and φ is convex
    on one side only. Coupled.

    Args:
        positive: τ under a positive drive, > 0; the larger, the narrower the window.
        negative: τ under a drive that is not positive, > 0.

    >>> import torch, geomalign as ga
    >>> ga.optimization.SigmoidClip().force(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 1.0]))
    tensor([-1.0000, -0.1807])

    Source: SAPO (arXiv 2511.20347).
    """

    positive: float = 1.0
    negative: float = 1.05

    def __post_init__(self) -> None:
        check.positive(self, "an inverse width", positive=self.positive, negative=self.negative)

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
    """φ(u) = (1−s)·softplus(−βu) + s·e^{−βu} with s = σ(βu/τ): logistic for negative margins, exponential for positive
    ones. DiscoPOP's loss, found by a search over programs.

    It ignores the drive and is still no `BregmanGeometry`, because it is not convex: for τ = 0.05 it has a local
    minimum at βu = −0.119 and a local maximum at 0.072, between which a pair is pushed the wrong way; from τ = 0.2 on
    it decreases everywhere. Its drive is 0, for which its infimum is 0 at u → ∞; no other drive has one.

    Args:
        beta: inverse temperature, positive.
        tau: width of the transition, positive.

    >>> import torch, geomalign as ga
    >>> ga.optimization.LogRatioModulated(1.0).force(torch.tensor([-1.0, 0.0, 1.0]), torch.zeros(3))
    tensor([-0.7311,  0.7843, -0.3679])

    Source: DiscoPOP (arXiv 2406.08414) eq. 5.
    """

    beta: float = 0.1
    tau: float = 0.05

    def __post_init__(self) -> None:
        check.positive(self, beta=self.beta, tau=self.tau)

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
        return finite_on(self.conjugate_domain, drive, torch.zeros_like(drive))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.full_like(drive, math.inf)

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(0.0, 0.0)

    def latex(self, u: str, drive: str) -> str:
        x = rf"{self.beta:g}\,{u}"
        return rf"(1-s)\log\left(1+e^{{-{x}}}\right)+s\,e^{{-{x}}},\ s=\sigma\left({x}/{self.tau:g}\right)"


@dataclasses.dataclass(frozen=True)
class ImportanceWeighted(OptimizationGeometry):
    """energy = w·φ_of(u), where the weight w is the drive and depends on u itself: ∂energy/∂u = w(φ_of + φ_of').

    An importance-weighted estimate of E_π[φ_of(Δ)] from samples of another policy. The weight w = π/π_old depends on
    the policy as Δ does (∂w/∂Δ = w for the log-ratio of a token); with the product rule the gradient is that of the
    expectation. Coupled: the drive is a weight here and does not pull.

    Args:
        of: the geometry whose value is averaged.
        differentiate_weight: whether the gradient includes that of the weight; if not, ∂energy/∂u = w·φ_of'.

    >>> import torch, geomalign as ga
    >>> ga.ImportanceWeighted(ga.ChiSquare(1.0)).force(torch.tensor([2.0]), torch.tensor([0.5]))  # 0.5 (2²/2 + 2)
    tensor([2.])

    Source: DeepSeek-V3.2 (arXiv 2512.02556), "unbiased KL estimate".
    """

    of: BregmanGeometry
    differentiate_weight: bool = True

    def __post_init__(self) -> None:
        check.instance(self, "of", self.of, BregmanGeometry, "ReverseKL()")
        check.boolean(self, differentiate_weight=self.differentiate_weight)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        value = self.of.value(u)
        return drive * (value + self.differentiate_weight * value.detach() * (u - u.detach()))

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return drive * (self.of.mirror(u) + self.differentiate_weight * self.of.value(u))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return (self.of.curvature(u) + self.differentiate_weight * self.of.mirror(u)) * (0 if drive is None else drive)

    def conjugate(self, drive: Tensor) -> Tensor:
        return finite_on(self.conjugate_domain, drive, drive * self.of.conjugate(torch.zeros_like(drive)))

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
