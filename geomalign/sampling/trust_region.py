"""The escort parameter from an effective sample size."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.groups import Groups
from geomalign.batch import Batch, PreferenceBatch
from geomalign.divergences import (
    Divergence,
    KullbackLeibler,
    PearsonChiSquare,
    chi_square_stiffness,
    trust_region_target,
)
from geomalign.divergences.trust_region import Mean, Reduce
from geomalign.sampling.advantage import Advantage, GroupAdvantage
from geomalign.sampling.base import SamplingGeometry

__all__ = ["EscortESS", "TrustRegion"]

_WITHIN = ("batch", "group")


def check_within(owner: object, within: str) -> None:
    if within not in _WITHIN:
        raise ValueError(
            f"{type(owner).__name__}(within={within!r}): one for the whole batch, or one a group: {_WITHIN}."
        )


def _mean_square(drive: Tensor, support: Tensor, groups: Groups | None) -> Tensor:
    """Mean of g² over tokens, `(row, 1)` within groups, or over pairs; `()` over all of them without groups."""
    square, count = torch.where(support, drive, 0) ** 2, support.to(drive.dtype)
    if groups is None:
        return square.sum() / count.sum().clamp(min=1)
    return (groups.sum(square.sum(-1)) / groups.sum(count.sum(-1)).clamp(min=1))[:, None]


def responses(owner: object, of: SamplingGeometry, batch: Batch | PreferenceBatch) -> tuple[Batch, Tensor]:
    drive = of.drive(batch)
    if drive.ndim != 1 or not isinstance(batch, Batch):
        events = "pairs" if isinstance(batch, PreferenceBatch) else f"tokens, {tuple(drive.shape)}"
        raise ValueError(
            f"{type(owner).__name__} needs one drive a response; {of!r} gave drives of {events}. Its multiplier is an "
            "average over responses to one prompt, of which a pair shows only a difference and a token's state one "
            "sample: for those use TrustRegion(chi2=…), which needs none."
        )
    return batch, drive


@dataclasses.dataclass(frozen=True)
class TrustRegion(SamplingGeometry):
    r"""g = ψ'(t*), the best policy within a divergence of the anchor: μ is solved, not tuned.

    Used with `ChiSquare(1.0)` in the divergence's own coordinate the equilibrium is t* itself: `Ratio()` for χ²,
    `LogRatio()` for KL, `Dual(divergence)` for any other. With chi2 the drive is (g₀ − E g₀)/μ, μ = ‖g₀ − E g₀‖/√ε,
    in closed form.
    Of pairs and of tokens, chi2 alone is defined. Pairs: ½E[m²] = E[v²] for the margin m = v − v' of two independent
    responses, so that the drive is g₀/μ, μ = ‖g₀‖/√(2ε). Tokens: a drive a token is taken for an advantage, of mean
    zero at its state, and is not centred; ε is the mean over tokens.

    The drive is free of the scale of g₀: rewards ten times as large make the same step. What bounds the target is not
        a bound
    on what the optimizer does in a finite number of steps; that is measured by `Controlled`.

    Args:
        of: the geometry whose drive g₀ is followed.
        chi2: radius ε of E_{π_k}[(t−1)²] ≤ ε, positive.
        kl: radius of KL(π‖π_k) in nats, positive.
        divergence, radius: any other divergence and its radius.
        within: "batch": one μ a rollout, the radius holds on average over its responses. "group": one μ a prompt (or
            pair), so that every prompt with a spread moves equally far: for chi2, GRPO's division by the standard
            deviation.
        bounded: for chi2, keep t* ≥ 0 (a root instead of the closed form). The others always do.

    Raises:
        ValueError: not exactly one radius, or one that is not positive.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(4, 1), None, reward=torch.tensor([1.0, 0.0, 0.0, 0.0]))
    >>> drive = TrustRegion(chi2=0.04).drive(batch)
    >>> bool(torch.isclose(drive.square().mean(), torch.tensor(0.04)))
    True

    Source: χ² trust-region duality of OPO (arXiv 2601.12415); KL: Peters et al. 2010 (REPS), Abdolmaleki et al. 2018
        (MPO).
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
        if not isinstance(self.of, SamplingGeometry):
            raise ValueError(f"TrustRegion(of={self.of!r}): expected a SamplingGeometry such as GroupAdvantage().")
        if (self.divergence is None) != (self.radius is None):
            raise ValueError("TrustRegion: `divergence` and `radius` are given together.")
        radii = [r for r in (self.chi2, self.kl, self.radius) if r is not None]
        if len(radii) != 1 or not (0 < radii[0] < math.inf):
            raise ValueError(
                f"TrustRegion(chi2={self.chi2!r}, kl={self.kl!r}, radius={self.radius!r}): one radius, positive."
            )
        check_within(self, self.within)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        if self.chi2 is not None and not self.bounded:
            drive = self.of.drive(batch)
            if not isinstance(batch, Batch):
                chosen, rejected = batch.rows.support.any(-1).chunk(2)
                pool = drive**2 if self.within == "group" else _mean_square(drive, chosen & rejected, None)
                return self._scaled(drive, pool / (2 * self.chi2))
            if drive.ndim == 2:
                pool_of = batch.groups() if self.within == "group" else None
                return self._scaled(drive, _mean_square(drive, batch.support, pool_of) / self.chi2)
        batch, drive = responses(self, self.of, batch)
        groups = batch.groups()
        if self.chi2 is not None and not self.bounded:
            mu = chi_square_stiffness(drive, groups, self.chi2, within=self.within)
            return torch.where(mu > 0, groups.centred(drive) / torch.where(mu > 0, mu, 1), 0)
        divergence, radius = self._region()
        return trust_region_target(drive, groups, divergence, radius, within=self.within)

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
    r"""g = ω̃_α − 1 with α solved from the effective sample size of the escort weights ω̃_α ∝ e^{(1−α)A/temperature}.

    ESS = (Σω)²/(n Σω²) falls monotonically from 1 at α = 1, so α is one scalar root. Where even α = 0 leaves more
    than the target, α is 0. The paper tunes α; here it follows the rewards' scale.

    Args:
        target: effective share of a group's samples, in (0, 1]; below 1/n, or 1/(ties at the best), it cannot be met.
        temperature: of the target policy, positive, in units of the advantage.
        scaled: divide by 1 − α, so that α changes the drive's shape and not its size.
        within: "batch": one α, the average ESS of its groups (by rows) is the target. "group": one α a group.

    Source: escort weights, OPO (arXiv 2601.12415); effective sample size, Kish 1965.
    """

    target: float
    temperature: float = 1.0
    scaled: bool = False
    within: str = "batch"

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise ValueError(f"EscortESS(target={self.target!r}): an effective share of the samples, in (0, 1].")
        if not self.temperature > 0:
            raise ValueError(f"EscortESS(temperature={self.temperature!r}): a temperature is positive.")
        check_within(self, self.within)

    def _solve(self, advantage: Tensor, groups: Groups, reduce: Reduce | None = None) -> Tensor:
        below = torch.where(groups.valid, advantage.double() - groups.max(advantage.double()), 0) / self.temperature
        mean = Mean(groups, self.within, reduce)

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

    def alpha(self, batch: Batch | PreferenceBatch) -> Tensor:
        """The α that meets the target, `()` or one a row."""
        batch, advantage = responses(self, _Signal(), batch)
        return self._solve(advantage, batch.groups())

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, advantage = responses(self, _Signal(), batch)
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


@dataclasses.dataclass(frozen=True)
class _Signal(SamplingGeometry):
    """The advantage, or the reward, of whole responses."""

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        signal = Advantage().drive(batch)
        assert isinstance(batch, Batch)
        return batch.per_response(signal)

    def latex(self) -> str:
        return "A_i"
