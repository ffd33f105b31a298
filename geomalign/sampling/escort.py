"""sampling.escort"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.advantage import Advantage, GroupAdvantage
from geomalign.sampling.base import SamplingGeometry, _is_sampling, _signal

__all__ = ["ExponentiatedAdvantage", "Escort", "ExponentialAdvantage"]


@dataclasses.dataclass(frozen=True)
class Escort(SamplingGeometry):
    """g = ω̃_α − 1 with the α-escort weight ω̃_α ∝ exp((1−α) A/temperature), normalised to mean one in the group.

    ρ_α ∝ π_k^α P*^{1−α} is an e-geodesic from the target P* ∝ exp(A/temperature) (α = 0) to the anchor π_k (α = 1), and
    ω̃_α its density under samples from π_k. Evaluated in log space, accurate also for α → 1, and never overflows.

    Args:
        alpha: in [0, 1]. 1 is uniform (zero drive, unless `scaled`), 0 driven by the target alone.
        temperature: of the target, positive, in units of the advantage.
        scaled: divide by 1 − α, so that α changes the shape of the drive and not its size: α → 1 is then the
            centred A/temperature.
        inverse_probability: multiply the weight by sg[π_k^{−(1−α)}], the paper's factor that takes P* for its density
            against the counting measure. For whole responses its logarithm is (1−α) times hundreds of nats: one
            response a group gets all the weight.

    Reads the batch's `advantage` where there is one, else its `reward`.

    Raises:
        ValueError: α outside [0, 1], or a temperature that is not positive.

    Source: OPO (arXiv 2601.12415) §3, in the paper's convention. The author's published code has α reversed, a
        softmax of mixed exponents, the
    drive summed over the group and scaled by 1/α, and clamped log-ratios.

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
        if not 0 <= self.alpha <= 1:
            raise ValueError(
                f"Escort(alpha={self.alpha!r}): α lies in [0, 1]; 1 is uniform weight, 0 target-driven (the "
                "paper's convention; "
                "the author's code reverses it: pass 1 − α)."
            )
        if not self.temperature > 0:
            raise ValueError(f"Escort(temperature={self.temperature!r}): the target's temperature is positive.")

    def log_weight(self, batch: Batch | PreferenceBatch) -> Tensor:
        """`(row,)`: log ω̃_α, whose exponentials have mean one over the rows of a group; zero at rows in no group."""
        advantage = _signal(batch, "Escort")
        assert isinstance(batch, Batch)
        exponent = (1 - self.alpha) * batch.per_response(advantage) / self.temperature
        if self.inverse_probability:
            exponent = exponent - (1 - self.alpha) * batch.log_probs("old", "Escort(inverse_probability=True)").sum(-1)
        groups = batch.groups()
        below = torch.where(groups.valid, exponent - groups.max(exponent), 0)
        # log1p and expm1 keep the relative accuracy of an exponent that vanishes with 1 − α.
        return torch.where(groups.valid, below - torch.log1p(groups.mean(torch.expm1(below))), 0)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        if self.scaled and self.alpha == 1:
            advantage = _signal(batch, "Escort")
            assert isinstance(batch, Batch)
            exponent = batch.per_response(advantage) / self.temperature
            if self.inverse_probability:
                exponent = exponent - batch.log_probs("old", "Escort(inverse_probability=True)").sum(-1)
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
class ExponentiatedAdvantage(SamplingGeometry):
    """g = min(exp(g₀/temperature), cap): the weight of advantage-weighted regression, never negative.

    Not normalised and not centred: for the weight as a density under samples of the anchor use `Escort(alpha=0)`.

    Args:
        of: the geometry whose drive g₀ is exponentiated.
        temperature: positive, in units of g₀.
        cap: upper bound of the weight; None for none.

    Source: Peng et al. 2019 (AWR, arXiv 1910.00177), cap 20 in its experiments.
    """

    of: SamplingGeometry = Advantage()
    temperature: float = 1.0
    cap: float | None = 20.0

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        if not self.temperature > 0:
            raise ValueError(f"ExponentiatedAdvantage(temperature={self.temperature!r}): a temperature is positive.")
        if self.cap is not None and not self.cap > 0:
            raise ValueError(
                f"ExponentiatedAdvantage(cap={self.cap!r}): the bound of a weight is positive; None for no bound."
            )

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        exponent = self.of.drive(batch) / self.temperature
        # Without a cap, the library's own bound keeps the weight finite in every dtype.
        weight = torch.exp(exponent.clamp(max=60.0 if self.cap is None else math.log(self.cap)))
        support = batch.rows.support
        return torch.where(support if weight.ndim == 2 else support.any(-1), weight, 0)

    @property
    def drive_range(self) -> Interval:
        return Interval(0.0, math.inf if self.cap is None else self.cap)

    def latex(self) -> str:
        weight = rf"\exp\left(\left({self.of.latex()}\right)/{self.temperature:g}\right)"
        return weight if self.cap is None else rf"\min\left({weight},{self.cap:g}\right)"


@dataclasses.dataclass(frozen=True)
class ExponentialAdvantage(SamplingGeometry):
    """g = centred [(1−α)Ā + αĀe^Ā], Ā = centred [scale·tanh(g₀/scale)]: good responses pull more than poor ones push
    (W-GOPO).

    Args:
        alpha: in [0, 1]; 0 is the squashed advantage itself. Above 1/(1 + e⁻²) = 0.881 it is not monotone in Ā.
        of: the geometry whose drive g₀ is squashed; W-GOPO's is r − mean.
        scale: positive; |Ā| < 2·scale. Large ones do not squash, and with alpha=0 leave GOPO.

    For small Ā the drive is Ā + αĀ² + …, of first order for every α: it does not vanish to second order for poor
    responses.

    Source: W-GOPO (later than GOPO, arXiv 2602.21269) eq. 9 and Proposition 4.5.
    """

    alpha: float = 0.5
    of: SamplingGeometry = GroupAdvantage()
    scale: float = 1.0

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"ExponentialAdvantage(alpha={self.alpha!r}): a mixing weight in [0, 1].")
        if not self.scale > 0:
            raise ValueError(
                f"ExponentialAdvantage(scale={self.scale!r}): the size of an advantage that is squashed, positive."
            )

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        if drive.ndim != 1 or not isinstance(batch, Batch):
            raise ValueError(f"Excited needs one drive a response; {self.of!r} gave {tuple(drive.shape)}.")
        groups = batch.groups()
        squashed = groups.centred(self.scale * torch.tanh(drive / self.scale))
        return groups.centred((1 - self.alpha) * squashed + self.alpha * squashed * torch.exp(squashed))

    def latex(self) -> str:
        squashed = rf"\bar A=\operatorname{{centre}}_G\left[{self.scale:g}\tanh(a/{self.scale:g})\right]"
        mixed = rf"{1 - self.alpha:g}\,\bar A_i+{self.alpha:g}\,\bar A_i e^{{\bar A_i}}"
        return rf"\operatorname{{centre}}_G\left[{mixed}\right],\ {squashed},\ a={self.of.latex()}"
