"""Drives solved from a budget: a step of given divergence from the anchor, or weights of given effective size."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import boolean, one_of, positive, refuse, within
from geomalign._util.groups import Groups, mean_within
from geomalign.batch import Batch, PreferenceBatch
from geomalign.divergences import (
    Divergence,
    KullbackLeibler,
    PearsonChiSquare,
    chi_square_stiffness,
    trust_region_target,
)
from geomalign.sampling.advantage import GroupAdvantage
from geomalign.sampling.base import SamplingGeometry, Transformed, responses, signal

__all__ = ["EscortESS", "TrustRegion"]

_WITHIN = ("batch", "group")


def _mean_square(drive: Tensor, support: Tensor, groups: Groups | None) -> Tensor:
    """Mean of g² over tokens, `(row, 1)` within groups, or over pairs; `()` over all of them without groups."""
    square, count = torch.where(support, drive, 0) ** 2, support.to(drive.dtype)
    if groups is None:
        return square.sum() / count.sum().clamp(min=1)
    return (groups.sum(square.sum(-1)) / groups.sum(count.sum(-1)).clamp(min=1))[:, None]


@dataclasses.dataclass(frozen=True)
class TrustRegion(Transformed):
    """g = ψ'(t*), t* the best policy within a divergence of the anchor: the stiffness μ is solved, not tuned.

    Used with `ChiSquare(1.0)` in the divergence's own coordinate the equilibrium is t* itself; the chart is `Ratio()`
    for χ², `LogRatio()` for KL, `Dual(divergence)` for any other. With chi2 the drive has the closed form
    (g₀ − E g₀)/μ, μ = ‖g₀ − E g₀‖/√ε.

    For pairs and tokens only chi2 is defined. Pairs: ½E[m²] = E[v²] for the margin m = v − v' of two independent
    responses, so that the drive is g₀/μ, μ = ‖g₀‖/√(2ε). Tokens: the drive of a token is taken for an advantage, which
    has mean zero at its state, and is not centred; ε is the mean over tokens.

    The drive does not depend on the scale of g₀: rewards ten times as large give the same step. The radius bounds the
    target, not what the optimiser does in a finite number of steps; the controller `AdaptiveStiffness` measures that.

    Args:
        of: the geometry whose drive g₀ is followed.
        chi2: radius ε of E_{π_k}[(t−1)²] ≤ ε, positive.
        kl: radius of KL(π‖π_k) in nats, positive.
        divergence: any other divergence, given together with `radius`.
        radius: the radius of `divergence`, positive.
        within: "batch": one μ per rollout; the radius holds on average over its responses. "group": one μ per prompt
            (or pair), so that every prompt with a spread moves equally far. For chi2 that is GRPO's division by the
            standard deviation.
        bounded: for chi2, keep t* ≥ 0, by a root instead of the closed form. The other divergences always do.

    Raises:
        ValueError: not exactly one radius, or one that is not positive; in `drive`, tokens or pairs without chi2.

    Source: χ² trust-region duality of OPO (arXiv 2601.12415); KL: Peters et al. 2010 (REPS), Abdolmaleki et al. 2018
    (MPO).

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(4, 1), None, reward=torch.tensor([1.0, 0.0, 0.0, 0.0]))
    >>> drive = ga.TrustRegion(chi2=0.04).drive(batch)
    >>> round(drive.square().mean().item(), 4)
    0.04
    """

    of: SamplingGeometry = GroupAdvantage()
    _: dataclasses.KW_ONLY
    chi2: float | None = None
    kl: float | None = None
    divergence: Divergence | None = None
    radius: float | None = None
    within: str = "batch"
    bounded: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.divergence is None) != (self.radius is None):
            raise ValueError("TrustRegion: `divergence` and `radius` are given together.")
        radii = {name: getattr(self, name) for name in ("chi2", "kl", "radius")}
        given = {name: radius for name, radius in radii.items() if radius is not None}
        if len(given) != 1:
            refuse(self, "give exactly one radius.", **radii)
        positive(self, "the radius of a divergence", **given)
        boolean(self, bounded=self.bounded)
        one_of(self, "within", self.within, _WITHIN)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        if self.chi2 is not None and not self.bounded:
            drive = self.of.drive(batch)
            if not isinstance(batch, Batch):
                chosen, rejected = batch.rows.support.any(-1).chunk(2)
                pool = drive**2 if self.within == "group" else _mean_square(drive, chosen & rejected, None)
                return self._scaled(drive, pool / (2 * self.chi2))
            if drive.ndim == 2:
                pool_of = batch.groups() if self.within == "group" else None
                support = batch.support & batch.judged[:, None]
                return self._scaled(drive, _mean_square(drive, support, pool_of) / self.chi2)
        batch, drive = responses(self, self.of, batch)
        groups = batch.groups()
        if self.chi2 is not None and not self.bounded:
            mu = chi_square_stiffness(drive, groups, self.chi2, within=self.within)
            return torch.where(mu > 0, groups.centred(drive) / torch.where(mu > 0, mu, 1), 0)
        divergence, radius = self._region()
        return trust_region_target(drive, groups, divergence, radius, within=self.within)

    def solved_drive(self, ratio: Tensor) -> Tensor:
        return self._region()[0].mirror(ratio)

    @staticmethod
    def _scaled(drive: Tensor, square: Tensor) -> Tensor:
        return torch.where(square > 0, drive / torch.where(square > 0, square, 1).sqrt(), 0)

    def _region(self) -> tuple[Divergence, float]:
        if self.chi2 is not None:
            return PearsonChiSquare(), self.chi2 / 2
        if self.kl is not None:
            return KullbackLeibler(), self.kl
        assert self.divergence is not None and self.radius is not None
        return self.divergence, self.radius

    def latex(self) -> str:
        over = "G" if self.within == "group" else "B"
        if self.chi2 is not None and not self.bounded:
            norm = rf"\mu=\sqrt{{\operatorname{{mean}}_{over}(a^2)/{self.chi2:g}}},\ a={self.of.latex()}"
            return rf"\frac{{a_i-\operatorname{{mean}}_G(a)}}{{\mu}},\ {norm}"
        divergence, radius = self._region()
        bound = rf"\operatorname{{mean}}_{over}\left[{divergence.latex()}\right]={radius:g}"
        return rf"\frac{{a_i-\lambda}}{{\mu}},\ {bound},\ a={self.of.latex()}"


@dataclasses.dataclass(frozen=True)
class EscortESS(SamplingGeometry):
    """g = ω̃_α − 1 with α solved from the effective sample size of the escort weights ω̃_α ∝ e^{(1−α)A/temperature}.

    ESS = (Σω)²/(n Σω²) falls monotonically from 1 at α = 1, so that α is the root of one scalar function. Where the
    weights at α = 0 have a larger ESS than the target, α is 0. The paper tunes α; here it follows the rewards' scale.

    Args:
        target: the effective share of a group's samples, in (0, 1]. A target below (ties at the best)/n cannot be met.
        temperature: of the target policy, positive, in units of the advantage.
        scaled: divide by 1 − α, so that α changes the drive's shape and not its size.
        within: "batch": one α, at which the mean ESS of the groups (weighted by rows) is the target. "group": one α
            per group.

    Raises:
        ValueError: an argument out of its range; in `drive`, an advantage per token.

    Source: escort weights, OPO (arXiv 2601.12415); effective sample size, Kish 1965.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(4, 1), None, reward=torch.tensor([3.0, 2.0, 1.0, 0.0]))
    >>> weight = ga.EscortESS(target=0.7).drive(batch) + 1
    >>> round((1 / weight.square().mean()).item(), 4)
    0.7
    """

    target: float
    temperature: float = 1.0
    scaled: bool = False
    within: str = "batch"

    def __post_init__(self) -> None:
        within(self, 0, 1, "an effective share of the samples", ends="(]", target=self.target)
        positive(self, "the temperature of the target policy", temperature=self.temperature)
        boolean(self, scaled=self.scaled)
        one_of(self, "within", self.within, _WITHIN)

    def _solve(self, advantage: Tensor, groups: Groups) -> Tensor:
        below = torch.where(groups.valid, advantage.double() - groups.max(advantage.double()), 0) / self.temperature
        mean = mean_within(groups, self.within, None)

        def tilt(power: Tensor) -> tuple[Tensor, Tensor]:
            weight = torch.exp(power * below)
            total = groups.mean(weight)
            total = torch.where(total > 0, total, 1)
            return total, groups.mean(weight * below) / total

        def share(alpha: Tensor) -> tuple[Tensor, Tensor]:
            first, mean_once = tilt(1 - alpha)
            second, mean_twice = tilt(2 * (1 - alpha))
            ess = torch.where(groups.valid, first**2 / second, 0)
            return mean(ess), mean(2 * ess * (mean_twice - mean_once))

        zero = mean(torch.zeros_like(below))
        if self.target == 1:
            return zero + 1
        alpha = numerics.solve_newton(share, torch.full_like(zero, self.target), 0.0, 1.0, start=zero + 0.5)
        return torch.where(share(zero)[0] >= self.target, 0, alpha)

    def _advantage(self, batch: Batch | PreferenceBatch) -> tuple[Batch, Tensor]:
        batch, advantage = signal(self, batch)
        if batch.advantage is not None and advantage.ndim == 2:
            raise ValueError(
                f"{type(self).__name__} needs one advantage per response: `advantage` is {tuple(advantage.shape)}, one "
                "per token, and its sum over tokens is none of a response. Pass (row,) advantages, or the rewards."
            )
        return batch, batch.per_response(advantage)

    def alpha(self, batch: Batch | PreferenceBatch) -> Tensor:
        """The α that meets the target: `()`, or `(row,)` with within="group"."""
        batch, advantage = self._advantage(batch)
        return self._solve(advantage, batch.groups())

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, advantage = self._advantage(batch)
        groups = batch.groups()
        beta = (1 - self._solve(advantage, groups)).to(advantage.dtype)
        exponent = beta * (advantage - groups.max(advantage)) / self.temperature
        shift = torch.log1p(groups.mean(torch.expm1(torch.where(groups.valid, exponent, 0))))
        drive = torch.where(groups.valid, torch.expm1(exponent - shift), 0)
        if not self.scaled:
            return drive
        plain = groups.centred(advantage) / self.temperature
        return torch.where(beta > 0, drive / torch.where(beta > 0, beta, 1), plain)

    def latex(self) -> str:
        weight = rf"e^{{(1-\alpha)A_i/{self.temperature:g}}}"
        drive = rf"\frac{{{weight}}}{{\operatorname{{mean}}_G(\cdot)}}-1"
        drive = rf"\frac{{1}}{{1-\alpha}}\left({drive}\right)" if self.scaled else drive
        return rf"{drive},\ \alpha:\ \mathrm{{ESS}}={self.target:g}"
