"""The Jensen–Shannon divergences, from a mixture of the two policies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import number
from geomalign._util.types import Interval
from geomalign.divergences.base import Divergence

__all__ = ["JensenShannon", "SkewJensenShannon"]


class _FromLog(Divergence):
    """A divergence whose values are computed from log t."""

    def generator(self, t: Tensor) -> Tensor:
        log_t = t.clamp(min=torch.finfo(t.dtype).tiny).log()
        return torch.where(t >= 0, self.penalty(log_t), math.inf)

    def mirror(self, t: Tensor) -> Tensor:
        return self.coordinate(t.log())


@dataclass(frozen=True)
class JensenShannon(_FromLog):
    """ψ(t) = t log t − (1 + t) log((1 + t)/2): twice the Jensen–Shannon divergence. Its own reverse; ψ''(1) = 1/2.

    >>> JensenShannon().coordinate(torch.tensor([0.0, 50.0]))
    tensor([0.0000, 0.6931])
    """

    def curvature(self, t: Tensor) -> Tensor:
        return 1.0 / (t * (1.0 + t))

    def inverse_mirror(self, s: Tensor) -> Tensor:
        inside = s < math.log(2.0)
        safe = torch.where(inside, s, 0.0)
        return torch.where(inside, safe.exp() / (1.0 - safe.expm1()), math.inf)

    def conjugate(self, s: Tensor) -> Tensor:
        inside = s < math.log(2.0)
        return torch.where(inside, -torch.log1p(-torch.where(inside, s, 0.0).expm1()), math.inf)

    def penalty(self, log_ratio: Tensor) -> Tensor:
        small = log_ratio.abs() < 1.0
        x = 0.5 * torch.where(small, log_ratio, 0.0)
        near = 2.0 * x.exp() * (x * x.sinh() - 0.5 * x.cosh() * torch.log1p(x.sinh() ** 2))
        s = self.coordinate(log_ratio)
        below = torch.where(log_ratio < 0, log_ratio, 0.0)
        low = below.exp() * s - torch.log1p(0.5 * numerics.expm1(below))
        high = numerics.expm1(log_ratio) * torch.where(log_ratio > 0, s, 0.0) + (2.0 * s - log_ratio)
        return torch.where(small, near, torch.where(log_ratio > 0, high, low))

    def coordinate(self, log_ratio: Tensor) -> Tensor:
        negative = log_ratio < 0
        below = torch.where(negative, log_ratio, 0.0)
        above = torch.where(negative, 0.0, log_ratio)
        low = below - torch.log1p(0.5 * numerics.expm1(below))
        return torch.where(negative, low, 0.0 - torch.log1p(0.5 * numerics.expm1(-above)))  # a minus sign gives −0.0

    def slope(self, log_ratio: Tensor) -> Tensor:
        return torch.sigmoid(-log_ratio)

    @property
    def mirror_range(self) -> Interval:
        return Interval(-math.inf, math.log(2.0))

    @property
    def reverse(self) -> Divergence:
        return self

    def latex(self) -> str:
        return r"t \log t - (1 + t) \log\frac{1 + t}{2}"

    def latex_mirror(self, t: str) -> str:
        return rf"\log\frac{{2\,{t}}}{{1+{t}}}"


@dataclass(frozen=True)
class SkewJensenShannon(_FromLog):
    """The generalised Jensen–Shannon divergence β·KL(q‖m) + (1−β)·KL(p‖m) with the mixture m = βq + (1−β)p.

    ψ(t) = (1−β)·t·log(t/m) − β·log m,   ψ'(t) = (1−β)·log(t/m),   with m = β + (1−β)t

    At β = 1/2 it is half of `JensenShannon()`. Divided by β it tends to KL(q‖p) as β → 0, divided by 1 − β to KL(p‖q)
    as β → 1; without the division it tends to zero at both ends. ψ''(1) = β(1−β).

    Args:
        weight: β in (0, 1), the share of q. In distillation q is the teacher and p the student.

    Raises:
        ValueError: the weight is not inside (0, 1).

    >>> float(SkewJensenShannon(0.5).mirror(torch.tensor(1.0)))
    0.0

    Source: Agarwal et al., *On-Policy Distillation of Language Models* (GKD, arXiv 2306.13649) eq. 1.
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        number(self, "a share in (0, 1)", weight=self.weight)
        if not 0 < self.weight < 1:
            raise ValueError(
                f"SkewJensenShannon(weight={self.weight}): a share in (0, 1); the ends are KL(q‖p) and KL(p‖q), "
                "ReverseKullbackLeibler() and KullbackLeibler()."
            )

    def _below(self, log_ratio: Tensor) -> Tensor:
        """ψ(e^Δ) for log_ratio <= 0."""
        w, small = self.weight, log_ratio > -1.0
        v = torch.where(small, log_ratio, 0.0).expm1()
        m = 1.0 + (1.0 - w) * v
        # Near the anchor the halves of ψ cancel; each remainder, of t/m and of 1/m, is a positive number of order v².
        remainders = (1.0 - w) * numerics.log1p_remainder(w * v / m) + w * numerics.log1p_remainder((w - 1.0) * v / m)
        # Far below it t/m − 1 rounds to −1, where the derivative of a remainder is infinite: there ψ is as written.
        t = log_ratio.exp()
        log_m = (w + (1.0 - w) * t).log()
        return torch.where(small, m * remainders, (1.0 - w) * t * (log_ratio - log_m) - w * log_m)

    def curvature(self, t: Tensor) -> Tensor:
        return self.weight * (1.0 - self.weight) / (t * (self.weight + (1.0 - self.weight) * t))

    def _ratio(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """e^{s/(1−β)} and 1 − (1−β)e^{s/(1−β)}, at s below the range's end."""
        r = (s / (1.0 - self.weight)).exp()
        return r, 1.0 - (1.0 - self.weight) * r

    def inverse_mirror(self, s: Tensor) -> Tensor:
        inside = s < self.mirror_range.high
        r, rest = self._ratio(torch.where(inside, s, 0.0))
        return torch.where(inside, self.weight * r / rest, math.inf)

    def conjugate(self, s: Tensor) -> Tensor:
        inside = s < self.mirror_range.high
        _, rest = self._ratio(torch.where(inside, s, 0.0))
        return torch.where(inside, self.weight * (math.log(self.weight) - rest.log()), math.inf)

    def penalty(self, log_ratio: Tensor) -> Tensor:
        down = torch.where(log_ratio > 0, 0.0, log_ratio)
        up = torch.where(log_ratio > 0, log_ratio, 0.0)
        # Above the anchor ψ(t) = t·ψ◇(1/t), with the two distributions exchanged.
        over = numerics.exp(up) * SkewJensenShannon(1.0 - self.weight)._below(-up)
        return torch.where(log_ratio > 0, over, self._below(down))

    def coordinate(self, log_ratio: Tensor) -> Tensor:
        negative = log_ratio < 0
        below = torch.where(negative, log_ratio, 0.0)
        above = torch.where(negative, 0.0, log_ratio)
        low = below - torch.log1p((1.0 - self.weight) * numerics.expm1(below))
        high = 0.0 - torch.log1p(self.weight * numerics.expm1(-above))  # a minus sign gives −0.0
        return (1.0 - self.weight) * torch.where(negative, low, high)

    def slope(self, log_ratio: Tensor) -> Tensor:
        bias = math.log(self.weight) - math.log1p(-self.weight)
        return (1.0 - self.weight) * torch.sigmoid(bias - log_ratio)

    @property
    def mirror_range(self) -> Interval:
        return Interval(-math.inf, -(1.0 - self.weight) * math.log1p(-self.weight))

    @property
    def reverse(self) -> Divergence:
        return SkewJensenShannon(1.0 - self.weight)

    def latex(self) -> str:
        b = f"{self.weight:g}"
        value = "" if b == r"\beta" else rf",\ \beta = {b}"
        return rf"(1-\beta)\, t \log\frac{{t}}{{m}} - \beta \log m,\ m = \beta + (1-\beta) t{value}"

    def latex_mirror(self, t: str) -> str:
        q, p = f"{self.weight:g}", f"{1 - self.weight:g}"
        return rf"{p}\log\frac{{{t}}}{{{q}+{p}\,{t}}}"
