"""The escort parameter from an effective sample size."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.batch import Batch, Groups, PreferenceBatch
from geomalign.sampling import Advantage, SamplingGeometry
from geomalign.trust_region.region import Mean, Reduce, check_within, responses


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
