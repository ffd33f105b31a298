"""sampling.transform"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.groups import Groups
from geomalign.batch import Batch, PreferenceBatch
from geomalign.divergences import bounded_projection
from geomalign.sampling.advantage import Advantage, GroupAdvantage
from geomalign.sampling.base import SamplingGeometry, _check_inner, _is_sampling

__all__ = ["SignalScale", "SignWeighted", "BoundedProjection", "Whitened"]


@dataclasses.dataclass(frozen=True)
class BoundedProjection(SamplingGeometry):
    """g = mu · v*, v* = max(−1, (g₀ − λ)/mu): the drive whose target is the nearest density that is nowhere negative.

    With `ChiSquare(mu)` in the ratio chart the equilibrium is then v* itself, a probability: v* ≥ −1 and Σ v* = 0 in
    the group.

    Args:
        of: the geometry whose drive g₀ is projected.
        mu: the stiffness of the potential it is used with, positive.

    Source: GOPO (arXiv 2602.21269), bounded Hilbert projection; solved exactly by sorting instead of bisection.
    """

    of: SamplingGeometry
    mu: float

    def __post_init__(self) -> None:
        _check_inner(self, self.of)
        if not self.mu > 0:
            raise ValueError(f"BoundedProjection(mu={self.mu!r}): a stiffness is positive.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        if drive.ndim != 1 or not isinstance(batch, Batch):
            raise ValueError(f"BoundedProjection needs one drive a response; {self.of!r} gave {tuple(drive.shape)}.")
        return self.mu * bounded_projection(drive / self.mu, batch.groups())

    def latex(self) -> str:
        return rf"{self.mu:g}\max\left(-1,\frac{{{self.of.latex()}-\lambda}}{{{self.mu:g}}}\right)"


@dataclasses.dataclass(frozen=True)
class SignWeighted(SamplingGeometry):
    """g = positive·max(g₀, 0) − negative·max(−g₀, 0): the two signs of a drive weighted apart. `negative=0` keeps the
    positive part alone.

    Args:
        of: the geometry whose drive g₀ is weighted.
        positive: factor of positive drives, ≥ 0.
        negative: factor of negative drives, ≥ 0.
    """

    of: SamplingGeometry = Advantage()
    positive: float = 1.0
    negative: float = 1.0

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        for name in ("positive", "negative"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"SignWeighted({name}={getattr(self, name)!r}): a weight, so not negative.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        return drive * torch.where(drive > 0, self.positive, torch.full_like(drive, self.negative))

    def latex(self) -> str:
        if self.positive == self.negative:
            return rf"{self.positive:g}\left({self.of.latex()}\right)"
        return rf"{self.positive:g}\left({self.of.latex()}\right)_+-{self.negative:g}\left({self.of.latex()}\right)_-"


@dataclasses.dataclass(frozen=True)
class Whitened(SamplingGeometry):
    """g = (g₀ − mean)/std over all *tokens* of the batch: a response counts by its length in both moments.

    Args:
        of: the geometry whose drive g₀ is normalised, `(row,)` or `(row, token)`.
        ddof: 1 for the unbiased variance of the tokens (verl), 0 for the biased one.
        epsilon: added to the *variance*, ≥ 0.

    Source: REINFORCE++ (arXiv 2501.03262); verl's `masked_whiten`, which adds 1e-8 to the variance.
    """

    of: SamplingGeometry = Advantage()
    ddof: int = 1
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        if self.ddof not in (0, 1):
            raise ValueError(f"Whitened(ddof={self.ddof!r}): 0 (biased) or 1 (unbiased variance).")
        if not self.epsilon >= 0:
            raise ValueError(f"Whitened(epsilon={self.epsilon!r}): added to a variance, so not negative.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        support = batch.rows.support
        tokens = Groups(None, support.flatten())
        centred = tokens.centred((drive if drive.ndim == 2 else drive[:, None]).expand(support.shape).flatten())
        centred = centred.view(support.shape)
        count = support.sum().to(drive.dtype)
        variance = (centred**2).sum() / (count - self.ddof).clamp(min=1)
        white = torch.where(
            variance > 0, centred * torch.rsqrt(variance.clamp(min=torch.finfo(drive.dtype).tiny) + self.epsilon), 0
        )
        if drive.ndim == 2:
            return white
        # Every token of a response has the same value: read it off at any of them.
        return white.sum(-1) / support.sum(-1).clamp(min=1)

    def latex(self) -> str:
        spread = rf"\operatorname{{var}}_{{i,t}}+{numerics.latex(self.epsilon)}"
        return rf"\frac{{{self.of.latex()}-\operatorname{{mean}}_{{i,t}}}}{{\sqrt{{{spread}}}}}"


@dataclasses.dataclass(frozen=True)
class SignalScale(SamplingGeometry):
    """g = g₀ · (responses)/(responses in groups with any drive): what equal rewards take from the average is given
    back.

    Args:
        of: the geometry whose drive g₀ is scaled.

    Source: GPG (arXiv 2504.02546), α = B/(B − M) with M responses in groups that were solved or failed
    throughout. verl counts the responses with a non-zero *reward* instead.
    """

    of: SamplingGeometry = GroupAdvantage()

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        assert isinstance(batch, Batch)
        groups = batch.groups()
        moving = drive if drive.ndim == 1 else drive.abs().sum(-1)
        active = groups.max(moving.abs()) > 0
        factor = groups.valid.sum() / (active & groups.valid).sum().clamp(min=1)
        return drive * factor.to(drive.dtype)

    def latex(self) -> str:
        return rf"\frac{{B}}{{B-M}}\left({self.of.latex()}\right)"
