"""Link functions of preference losses, as potentials of the margin or of the preference probability."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import check, numerics
from geomalign._util.types import Interval
from geomalign.optimization.base import STIFFNESS, BregmanGeometry, factor_latex, finite_on

__all__ = ["Indicator", "NegativeEntropy", "Hinge", "Logistic", "SquaredHinge"]


@dataclasses.dataclass(frozen=True)
class Logistic(BregmanGeometry):
    """φ(u) = softplus(βu): the link of DPO. With the drive β it is −log σ(βu).

    φ*(g) = −H(g/β), the negative entropy of a Bernoulli variable, for 0 ≤ g ≤ β; u* = logit(g/β)/β. Under a certain
    label (g = β or 0) u* is infinite, and the force vanishes exponentially on the way. β sets the drive and the
    curvature β²σ(βu)σ(−βu) at once.

    Args:
        beta: inverse temperature, positive.

    >>> import torch, geomalign as ga
    >>> ga.Logistic(0.5).energy(torch.tensor([2.0]), torch.tensor([0.5]))  # −log σ(1)
    tensor([0.3133])

    Source: Rafailov et al. 2023 (DPO, arXiv 2305.18290) eq. 7.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        check.positive(self, STIFFNESS, beta=self.beta)

    def value(self, u: Tensor) -> Tensor:
        return torch.nn.functional.softplus(self.beta * u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.beta * torch.sigmoid(self.beta * u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        x = self.beta * u
        return self.beta**2 * torch.sigmoid(x) * torch.sigmoid(-x)

    # softplus(x) − p x with p = g/β is −[p log σ(x) + (1−p) log σ(−x)]: no cancellation where the label is satisfied.
    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        x, p = self.beta * u, drive / self.beta
        logsigmoid = torch.nn.functional.logsigmoid
        return -p * logsigmoid(x) - (1 - p) * logsigmoid(-x)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        x = self.beta * u
        return (self.beta - drive) * torch.sigmoid(x) - drive * torch.sigmoid(-x)

    def conjugate(self, drive: Tensor) -> Tensor:
        p = (drive / self.beta).clamp(0, 1)
        return finite_on(self.conjugate_domain, drive, torch.xlogy(p, p) + torch.special.xlog1py(1 - p, -p))

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.logit((drive / self.beta).clamp(0, 1)) / self.beta

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(0.0, self.beta)

    def latex(self, u: str, drive: str) -> str:
        return rf"\log\left(1+e^{{{factor_latex(self.beta)}{u}}}\right)"


@dataclasses.dataclass(frozen=True)
class Hinge(BregmanGeometry):
    """φ(u) = max(1, βu): with the drive β the hinge loss max(0, 1 − βu). Piecewise linear with its kink at u* = 1/β.

    φ*(g) = g/β − 1 on [0, β].

    Args:
        beta: reciprocal of the margin, positive.

    >>> import torch, geomalign as ga
    >>> ga.Hinge(0.5).energy(torch.tensor([1.0, 4.0]), torch.tensor([0.5, 0.5]))
    tensor([0.5000, 0.0000])

    Source: Zhao et al. 2023 (SLiC-HF, arXiv 2305.10425) eq. 2 with δ = 1/β.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        check.positive(self, STIFFNESS, beta=self.beta)

    def value(self, u: Tensor) -> Tensor:
        return 1 + torch.relu(self.beta * u - 1)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.where(self.beta * u > 1, self.beta, torch.zeros_like(u))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        x, p = self.beta * u, drive / self.beta
        return p * torch.relu(1 - x) + (1 - p) * (1 + torch.relu(x - 1))

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        x = self.beta * u
        return torch.where(x > 1, self.beta - drive, torch.where(x < 1, -drive, 0))

    def conjugate(self, drive: Tensor) -> Tensor:
        return finite_on(self.conjugate_domain, drive, drive / self.beta - 1)

    def equilibrium(self, drive: Tensor) -> Tensor:
        kink = torch.full_like(drive, 1 / self.beta)
        return torch.where(drive > self.beta, math.inf, torch.where(drive < 0, -math.inf, kink))

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(0.0, self.beta)

    def latex(self, u: str, drive: str) -> str:
        return rf"\max\left(1,{factor_latex(self.beta)}{u}\right)"


@dataclasses.dataclass(frozen=True)
class SquaredHinge(BregmanGeometry):
    """φ(u) = max(0, 1 − βu)² + 2βu: with the drive 2β the truncated quadratic max(0, 1 − βu)².

    The curvature is 2β² up to u = 1/β and 0 beyond. u* = (g/2β)/β and φ*(g) = (g/2β)² − 1 for g ≤ 2β.

    Args:
        beta: reciprocal of the margin, positive.

    >>> import torch, geomalign as ga
    >>> ga.optimization.SquaredHinge(0.5).energy(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 1.0]))
    tensor([0.2500, 0.0000])

    Source: GPO (arXiv 2402.05749) table 1.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        check.positive(self, STIFFNESS, beta=self.beta)

    def value(self, u: Tensor) -> Tensor:
        return torch.relu(1 - self.beta * u) ** 2 + 2 * self.beta * u

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return 2 * self.beta * (self.beta * u).clamp(max=1)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.where(self.beta * u < 1, 2 * self.beta**2, torch.zeros_like(u))

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return torch.relu(1 - self.beta * u) ** 2 + (2 * self.beta - drive) * u

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        return 2 * self.beta - drive - 2 * self.beta * torch.relu(1 - self.beta * u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return finite_on(self.conjugate_domain, drive, (drive / (2 * self.beta)) ** 2 - 1)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive > 2 * self.beta, math.inf, drive / (2 * self.beta**2))

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(-math.inf, 2 * self.beta)

    def latex(self, u: str, drive: str) -> str:
        return rf"\left(1-{self.beta:g}\,{u}\right)_+^2+{2 * self.beta:g}\,{u}"


@dataclasses.dataclass(frozen=True)
class NegativeEntropy(BregmanGeometry):
    """φ(u) = u log u + (1−u) log(1−u), u in [0, 1]: the negative entropy of a preference probability.

    u* = σ(g), φ*(g) = softplus(g); energy + φ*(g) is KL(u ‖ σ(g)), the reverse Bernoulli KL of EXO. It is the conjugate
    of `Logistic(1)`: coordinate and drive exchange their parts. Within ε (the dtype's rounding error) of 0 and 1 it is
    continued by its tangent line.

    >>> import torch, geomalign as ga
    >>> ga.NegativeEntropy().equilibrium(torch.tensor([0.0, 2.0]))
    tensor([0.5000, 0.8808])

    Source: EXO (arXiv 2402.00856) eq. 16; RPO (arXiv 2502.00203).
    """

    def _inside(self, u: Tensor) -> Tensor:
        margin = torch.finfo(u.dtype).eps
        return u.clamp(min=margin, max=1 - margin)

    def value(self, u: Tensor) -> Tensor:
        p = self._inside(u)
        return torch.xlogy(p, p) + torch.special.xlog1py(1 - p, -p) + torch.logit(p) * (u - p)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.logit(self._inside(u))

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        p = self._inside(u)
        return torch.where(p == u, 1 / (p * (1 - p)), 0)

    def conjugate(self, drive: Tensor) -> Tensor:
        return torch.nn.functional.softplus(drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.sigmoid(drive)

    @property
    def domain(self) -> Interval:
        return Interval(0.0, 1.0)

    def latex(self, u: str, drive: str) -> str:
        return rf"{u}\log {u}+(1-{u})\log(1-{u})"


@dataclasses.dataclass(frozen=True)
class Indicator(BregmanGeometry):
    """φ(u) = 0 on [low, high], infinite outside: the indicator function of an interval.

    For coordinates that cannot leave the interval (of the chart `Sigmoid`, the unit `PreferenceProbability`, a
    log-probability) it changes neither value nor gradient; it makes the conjugate finite, φ*(g) = max(g·low, g·high). A
    loss that is linear in such a coordinate is then a Fenchel–Young loss: those of APO and KTO are energy + φ*.

    Args:
        low: lower end of the interval; -inf if only the other side is bounded.
        high: upper end; inf if only the other side is bounded.

    >>> import torch, geomalign as ga
    >>> ga.Indicator(-1.0, 2.0).conjugate(torch.tensor([-3.0, 3.0]))
    tensor([3., 6.])
    """

    low: float = 0.0
    high: float = 1.0
    constant_force = True

    def __post_init__(self) -> None:
        check.number(self, low=self.low, high=self.high)
        if not self.low < self.high or (math.isinf(self.low) and math.isinf(self.high)):
            why = "an interval needs low < high, one of them finite; for the whole line use Flat()."
            check.refuse(self, why, low=self.low, high=self.high)

    def value(self, u: Tensor) -> Tensor:
        return torch.zeros_like(u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return torch.zeros_like(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        bound = torch.where(drive > 0, self.high, torch.full_like(drive, self.low))
        return torch.where(drive == 0, 0, drive * bound)

    def equilibrium(self, drive: Tensor) -> Tensor:
        inside = min(max(0.0, self.low), self.high)
        return torch.where(drive > 0, self.high, torch.where(drive < 0, self.low, torch.full_like(drive, inside)))

    @property
    def domain(self) -> Interval:
        return Interval(self.low, self.high)

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(0.0 if math.isinf(self.low) else -math.inf, 0.0 if math.isinf(self.high) else math.inf)

    def latex(self, u: str, drive: str) -> str:
        low, high = (numerics.latex(float(f"{x:.3g}")) for x in (self.low, self.high))
        return rf"\iota_{{[{low},{high}]}}\left({u}\right)"
