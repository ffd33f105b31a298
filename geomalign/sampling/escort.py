"""Exponential weights of the advantage: the escort family between the anchor and the target policy, and relatives."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util.check import boolean, positive, within
from geomalign._util.types import Interval
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.advantage import Advantage, GroupAdvantage
from geomalign.sampling.base import SamplingGeometry, Transformed, is_cap, responses, signal

__all__ = ["Escort", "ExponentialAdvantage", "ExponentiatedAdvantage"]


@dataclasses.dataclass(frozen=True)
class Escort(SamplingGeometry):
    """g = ω̃_α − 1 with the α-escort weight ω̃_α ∝ exp((1−α) A/temperature), normalised to mean one in the group.

    ρ_α ∝ π_k^α P*^{1−α} is an e-geodesic from the target P* ∝ exp(A/temperature) (α = 0) to the anchor π_k (α = 1), and
    ω̃_α is its density under samples from π_k. A is the batch's `advantage`, or its `reward` where it has none.

    Args:
        alpha: in [0, 1]. At 1 the weights are uniform (zero drive, unless `scaled`), at 0 the target alone drives.
        temperature: of the target, positive, in units of the advantage.
        scaled: divide by 1 − α, so that α changes the shape of the drive and not its size. The limit α → 1 is then
            the centred A/temperature.
        inverse_probability: multiply the weight by sg[π_k^{−(1−α)}], the paper's factor, which takes P* for a density
            against the counting measure. For whole responses its logarithm is (1−α) times hundreds of nats, so that
            one response per group gets all the weight.

    Raises:
        ValueError: α outside [0, 1], or a temperature that is not positive.

    Source: OPO (arXiv 2601.12415) §3, in the paper's convention. The author's published code has α reversed, a softmax
    of mixed exponents, the drive summed over the group and scaled by 1/α, and clamped log-ratios.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 1), None, reward=torch.tensor([1.0, 0.0]))
    >>> ga.Escort(alpha=1.0, scaled=True).drive(batch)
    tensor([ 0.5000, -0.5000])
    """

    alpha: float
    temperature: float = 1.0
    scaled: bool = False
    inverse_probability: bool = False

    def __post_init__(self) -> None:
        convention = "1 is uniform and 0 target-driven (the author's code reverses it: pass 1 − α)"
        within(self, 0, 1, convention, alpha=self.alpha)
        positive(self, "the temperature of the target policy", temperature=self.temperature)
        boolean(self, scaled=self.scaled, inverse_probability=self.inverse_probability)

    def _exponent(self, batch: Batch | PreferenceBatch, power: float) -> tuple[Batch, Tensor]:
        """The batch and power·(A/temperature − log π_k) per response; − log π_k only with `inverse_probability`."""
        batch, advantage = signal(self, batch)
        exponent = power * batch.per_response(advantage) / self.temperature
        if self.inverse_probability:
            exponent = exponent - power * batch.log_probs("old", "Escort(inverse_probability=True)").sum(-1)
        return batch, exponent

    def log_weight(self, batch: Batch | PreferenceBatch) -> Tensor:
        """`(row,)`: log ω̃_α, whose exponentials have mean one over the rows of a group; zero at rows in no group."""
        batch, exponent = self._exponent(batch, 1 - self.alpha)
        groups = batch.groups()
        below = torch.where(groups.valid, exponent - groups.max(exponent), 0)
        # log1p and expm1 keep the relative accuracy of an exponent that vanishes with 1 − α.
        return torch.where(groups.valid, below - torch.log1p(groups.mean(torch.expm1(below))), 0)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        if self.scaled and self.alpha == 1:
            batch, exponent = self._exponent(batch, 1.0)
            return batch.groups().centred(exponent)
        drive = torch.expm1(self.log_weight(batch))
        return drive / (1 - self.alpha) if self.scaled else drive

    def latex(self) -> str:
        exponent = "A_i" if self.temperature == 1 else rf"A_i/{self.temperature:g}"
        power = f"{1 - self.alpha:g}"
        factor = rf"\,\pi_k(y_i)^{{-{power}}}" if self.inverse_probability else ""
        weight = rf"\exp\left({power}\,{exponent}\right){factor}"
        drive = rf"\frac{{{weight}}}{{\operatorname{{mean}}_G(\cdot)}}-1"
        if not self.scaled:
            return drive
        limit = rf"{exponent}-\operatorname{{mean}}_G({exponent})"
        return rf"\frac{{1}}{{{power}}}\left({drive}\right)" if self.alpha < 1 else limit


@dataclasses.dataclass(frozen=True)
class ExponentiatedAdvantage(Transformed):
    """g = min(exp(g₀/temperature), cap): the weight of advantage-weighted regression, never negative.

    The weight is neither normalised nor centred. `Escort(alpha=0)` is the same weight as a density under samples of the
    anchor.

    Args:
        of: the geometry whose drive g₀ is exponentiated.
        temperature: positive, in units of g₀.
        cap: upper bound of the weight, positive; None for no bound (but exp(60), which every dtype holds).

    Raises:
        ValueError: a temperature or a cap that is not positive.

    Source: Peng et al. 2019 (AWR, arXiv 1910.00177), cap 20 in its experiments.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 1), None, reward=torch.tensor([0.0, 9.0]))
    >>> ga.ExponentiatedAdvantage().drive(batch)
    tensor([ 1., 20.])
    """

    of: SamplingGeometry = Advantage()
    temperature: float = 1.0
    cap: float | None = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "in units of the drive", temperature=self.temperature)
        is_cap(self, self.cap)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        exponent = self.of.drive(batch) / self.temperature
        # Without a cap a bound of 60 nats keeps the weight finite: float32 and bfloat16 hold exp up to 88 nats.
        weight = torch.exp(exponent.clamp(max=60.0 if self.cap is None else math.log(self.cap)))
        rows = batch.rows
        return torch.where(rows.support & rows.judged[:, None] if weight.ndim == 2 else rows.judged, weight, 0)

    @property
    def drive_range(self) -> Interval:
        return Interval(0.0, math.inf if self.cap is None else self.cap)

    def latex(self) -> str:
        weight = rf"\exp\left(\left({self.of.latex()}\right)/{self.temperature:g}\right)"
        return weight if self.cap is None else rf"\min\left({weight},{self.cap:g}\right)"


@dataclasses.dataclass(frozen=True)
class ExponentialAdvantage(Transformed):
    """g = centred [(1−α)Ā + αĀe^Ā], Ā = centred [scale·tanh(g₀/scale)]: good responses pull harder than bad ones push.

    For small Ā the drive is Ā + αĀ² + …, of first order for every α: it does not vanish to second order for poor
    responses.

    Args:
        alpha: in [0, 1]; at 0 the drive is the squashed advantage itself. Above 1/(1 + e⁻²) = 0.881 it is not monotone
            in Ā.
        of: the geometry whose drive g₀ is squashed, one per response; that of W-GOPO is r − mean.
        scale: positive; |Ā| < 2·scale. A large scale does not squash, and with alpha=0 is GOPO.

    Raises:
        ValueError: α outside [0, 1], a scale that is not positive; in `drive`, drives of tokens or pairs.

    Source: W-GOPO (later than GOPO, arXiv 2602.21269), eq. 11 and Proposition 4.4 of the author's LaTeX.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 1), None, reward=torch.tensor([1.0, 0.0]))
    >>> ga.sampling.ExponentialAdvantage(alpha=0.0, scale=100.0).drive(batch)
    tensor([ 0.5000, -0.5000])
    """

    alpha: float = 0.5
    of: SamplingGeometry = GroupAdvantage()
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 0, 1, "the share of the exponential part", alpha=self.alpha)
        positive(self, "the size at which an advantage is squashed", scale=self.scale)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, drive = responses(self, self.of, batch)
        groups = batch.groups()
        squashed = groups.centred(self.scale * torch.tanh(drive / self.scale))
        return groups.centred((1 - self.alpha) * squashed + self.alpha * squashed * torch.exp(squashed))

    def latex(self) -> str:
        squashed = rf"\bar A=\operatorname{{centre}}_G\left[{self.scale:g}\tanh(a/{self.scale:g})\right]"
        mixed = rf"{1 - self.alpha:g}\,\bar A_i+{self.alpha:g}\,\bar A_i e^{{\bar A_i}}"
        return rf"\operatorname{{centre}}_G\left[{mixed}\right],\ {squashed},\ a={self.of.latex()}"
