"""Drives made from drives: projected, weighted by their sign, normalised over tokens, or rescaled."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import non_negative, one_of, positive
from geomalign._util.groups import Groups
from geomalign.batch import Batch, PreferenceBatch
from geomalign.divergences import PearsonChiSquare, target_policy
from geomalign.sampling.advantage import Advantage, GroupAdvantage
from geomalign.sampling.base import SamplingGeometry, Transformed, responses

__all__ = ["BoundedProjection", "SignWeighted", "SignalScale", "Whitened"]


@dataclasses.dataclass(frozen=True)
class BoundedProjection(Transformed):
    """g = mu · v*, v* = max(−1, (g₀ − λ)/mu): the drive whose target is the nearest density that is nowhere negative.

    With `ChiSquare(mu)` in the chart `Ratio()` the equilibrium is then v* itself, a probability: v* ≥ −1, and v* sums
    to 0 in the group.

    Args:
        of: the geometry whose drive g₀ is projected, one per response.
        mu: the stiffness of the potential that it is used with, positive.

    Raises:
        ValueError: mu is not positive; in `drive`, drives of tokens or pairs.

    Source: GOPO (arXiv 2602.21269), bounded Hilbert projection; solved exactly instead of by bisection.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(3, 1), None, advantage=torch.tensor([3.0, 0.0, -3.0]))
    >>> ga.BoundedProjection(ga.Advantage(), mu=1.0).drive(batch)
    tensor([ 2., -1., -1.])
    """

    of: SamplingGeometry
    mu: float

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "the stiffness of the potential", mu=self.mu)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, drive = responses(self, self.of, batch)
        groups = batch.groups()
        fluctuation = target_policy(drive, self.mu * PearsonChiSquare(), groups=groups).fluctuation
        # Where all drives of a group are equal the ratio is 1 only to rounding, and the drive must be exactly zero.
        moves = groups.valid & (groups.max(drive) + groups.max(-drive) > 0)
        return self.mu * torch.where(moves, fluctuation, 0)

    def latex(self) -> str:
        return rf"{self.mu:g}\max\left(-1,\frac{{{self.of.latex()}-\lambda}}{{{self.mu:g}}}\right)"


@dataclasses.dataclass(frozen=True)
class SignWeighted(Transformed):
    """g = positive·max(g₀, 0) − negative·max(−g₀, 0): a factor for each of the two signs of a drive.

    Args:
        of: the geometry whose drive g₀ is weighted.
        positive: factor of positive drives, ≥ 0.
        negative: factor of negative drives, ≥ 0. At 0 only the positive drives are kept.

    Raises:
        ValueError: a factor is negative.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 1), None, advantage=torch.tensor([2.0, -2.0]))
    >>> ga.SignWeighted(negative=0.5).drive(batch)
    tensor([ 2., -1.])
    """

    of: SamplingGeometry = Advantage()
    positive: float = 1.0
    negative: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        non_negative(self, "the weight of a sign", positive=self.positive, negative=self.negative)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        return drive * torch.where(drive > 0, self.positive, torch.full_like(drive, self.negative))

    def latex(self) -> str:
        if self.positive == self.negative:
            return rf"{self.positive:g}\left({self.of.latex()}\right)"
        return rf"{self.positive:g}\left({self.of.latex()}\right)_+-{self.negative:g}\left({self.of.latex()}\right)_-"


@dataclasses.dataclass(frozen=True)
class Whitened(Transformed):
    """g = (g₀ − mean)/√(variance + epsilon), with the moments taken over all *tokens* of the batch.

    A response counts by its length in both moments.

    Args:
        of: the geometry whose drive g₀ is normalised, `(row,)` or `(row, token)`.
        ddof: 1 for the unbiased variance of the tokens (verl), 0 for the biased one.
        epsilon: ≥ 0, added to the *variance*.

    Raises:
        ValueError: a ddof other than 0 and 1, or a negative epsilon.

    Source: REINFORCE++ (arXiv 2501.03262); verl's `masked_whiten`, which adds 1e-8 to the variance.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 4), None, advantage=torch.tensor([3.0, 1.0]))
    >>> ga.Whitened(ddof=0).drive(batch)
    tensor([ 1., -1.])
    """

    of: SamplingGeometry = Advantage()
    ddof: int = 1
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "ddof", self.ddof, (0, 1))
        non_negative(self, "added to a variance", epsilon=self.epsilon)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        rows = batch.rows
        support = rows.support & rows.judged[:, None]
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
        # All tokens of a response have the same value, so that their mean is that value.
        return white.sum(-1) / support.sum(-1).clamp(min=1)

    def latex(self) -> str:
        spread = rf"\operatorname{{var}}_{{i,t}}+{numerics.latex(self.epsilon)}"
        return rf"\frac{{{self.of.latex()}-\operatorname{{mean}}_{{i,t}}}}{{\sqrt{{{spread}}}}}"


@dataclasses.dataclass(frozen=True)
class SignalScale(Transformed):
    """g = g₀ · B/(B − M), with M of the B responses in groups whose drives are all zero.

    Groups of equal rewards have no drive but count in the mean over responses. The factor keeps them from shrinking
    the gradient of the others.

    Args:
        of: the geometry whose drive g₀ is scaled.

    Source: GPG (arXiv 2504.02546), α = B/(B − M). verl counts the responses with a non-zero *reward* instead.

    >>> import torch, geomalign as ga
    >>> group = torch.tensor([0, 0, 1, 1])
    >>> batch = ga.Batch(torch.zeros(4, 1), None, reward=torch.tensor([1.0, 0.0, 1.0, 1.0]), group=group)
    >>> ga.sampling.SignalScale().drive(batch)
    tensor([ 1., -1.,  0.,  0.])
    """

    of: SamplingGeometry = GroupAdvantage()

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
