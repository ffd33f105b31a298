"""Drives that compare rewards with their group in another way than by one difference."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import finite, non_negative, one_of, refuse
from geomalign._util.groups import Groups
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.advantage import GroupAdvantage
from geomalign.sampling.base import SamplingGeometry, Transformed, responses, rewards

__all__ = ["DecoupledAdvantage", "DeviationScaled", "RelativeAdvantage", "ShiftedBaseline"]


@dataclasses.dataclass(frozen=True)
class RelativeAdvantage(SamplingGeometry):
    """g = (r − r̄)/(r̄ + epsilon), with the mean r̄ of the group: the advantage as a share of the mean reward.

    Of rewards of 0 or 1 it lies in [−1, n − 1] for a group of n. A group whose mean reward is not positive has a drive
    of zero, and so has a group of one response or of equal rewards.

    Args:
        epsilon: ≥ 0, added to the mean.

    Raises:
        ValueError: a negative epsilon.

    Source: MaxRL (arXiv 2602.02710); epsilon = 1e-6 in its code, which leaves a group of one r/epsilon. prime-rl adds
    nothing and, as here, leaves groups whose mean is not positive out.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(4, 1), None, reward=torch.tensor([1.0, 0.0, 0.0, 0.0]))
    >>> ga.sampling.RelativeAdvantage(epsilon=0.0).drive(batch)
    tensor([ 3., -1., -1., -1.])
    """

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        non_negative(self, "added to a mean reward", epsilon=self.epsilon)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = rewards(self, batch)
        groups = batch.groups()
        mean = groups.mean(reward)
        return torch.where(mean > 0, groups.centred(reward) / torch.where(mean > 0, mean + self.epsilon, 1), 0)

    def latex(self) -> str:
        mean = r"\operatorname{mean}_{G}(r)"
        return rf"\frac{{r_i-{mean}}}{{{mean}+{numerics.latex(self.epsilon)}}}"


@dataclasses.dataclass(frozen=True)
class ShiftedBaseline(Transformed):
    """g = g₀ − shift: the drive of another geometry over a baseline that is raised by `shift`.

    A lowered baseline lets all responses of a group pull up, also where their rewards are equal.

    Args:
        of: the geometry whose drive g₀ is shifted, one per response.
        shift: a finite number in units of the drive; negative lowers the baseline.

    Raises:
        ValueError: a shift that is not finite; in `drive`, drives of tokens or pairs.

    Source: AsymRE (arXiv 2506.20520), where it is called δV.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 1), None, reward=torch.tensor([1.0, 0.0]))
    >>> ga.sampling.ShiftedBaseline(shift=-0.1).drive(batch)
    tensor([ 0.6000, -0.4000])
    """

    of: SamplingGeometry = GroupAdvantage()
    shift: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "in units of the drive", shift=self.shift)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, drive = responses(self, self.of, batch)
        return torch.where(batch.groups().valid, drive - self.shift, 0)

    def latex(self) -> str:
        return rf"{self.of.latex()}-\left({self.shift:g}\right)"


@dataclasses.dataclass(frozen=True)
class DecoupledAdvantage(SamplingGeometry):
    """g = Σ_k w_k (r_k − mean_G(r_k))/(std_G(r_k) + epsilon): several rewards, each normalised in the group by itself.

    Normalising their sum instead gives responses with different rewards of the same sum the same advantage, and leaves
    a reward of a small scale without influence. The rewards are the columns of the batch's `rewards`; where it has
    none, its `reward` is the only column. A reward that is equal in the whole group contributes exactly zero.

    Args:
        weights: w_k, finite numbers, one per reward; None for 1 each.
        ddof: 1 for the unbiased variance, 0 for the biased one.
        epsilon: ≥ 0, added to the standard deviation.

    Raises:
        ValueError: an argument is out of its range; in `drive`, a number of weights that is not that of the rewards.

    Source: GDPO (arXiv 2601.05242), before its normalisation over the batch, which `DeviationScaled` adds.

    >>> import torch, geomalign as ga
    >>> rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    >>> batch = ga.Batch(torch.zeros(4, 1), None, rewards=rewards)
    >>> ga.sampling.DecoupledAdvantage((1.0, 0.5)).drive(batch)
    tensor([ 1.2500,  0.2500, -0.7500, -0.7500])
    """

    weights: tuple[float, ...] | None = None
    ddof: int = 1
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if self.weights is not None and not isinstance(self.weights, tuple):
            refuse(self, "a tuple of numbers, one per reward, or None.", weights=self.weights)
        finite(self, "the weight of a reward", **{f"weights[{k}]": w for k, w in enumerate(self.weights or ())})
        one_of(self, "ddof", self.ddof, (0, 1))
        non_negative(self, "added to a standard deviation", epsilon=self.epsilon)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        if isinstance(batch, Batch) and batch.rewards is not None:
            columns = batch.rewards.to(batch.dtype)
        else:
            batch, reward = rewards(self, batch)
            columns = reward[:, None]
        count = columns.shape[1]
        weights = (1.0,) * count if self.weights is None else self.weights
        if len(weights) != count:
            refuse(self, f"the batch has {count} rewards per response: give as many weights.", weights=self.weights)
        one = GroupAdvantage(scale="group", ddof=self.ddof, epsilon=self.epsilon)
        scores = [one.drive(dataclasses.replace(batch, reward=column)) for column in columns.unbind(-1)]
        return (torch.stack(scores, -1) * scores[0].new_tensor(weights)).sum(-1)

    def latex(self) -> str:
        score = r"\frac{r_{ik}-\operatorname{mean}_{G}(r_k)}{\operatorname{std}_{G}(r_k)"
        return rf"\sum_k w_k{score}+{numerics.latex(self.epsilon)}}}"


@dataclasses.dataclass(frozen=True)
class DeviationScaled(Transformed):
    """g = g₀/(std(g₀) + epsilon), with the standard deviation over all responses of the batch.

    Their mean is not subtracted: where the drives of every group sum to zero it is zero, and a group without a
    difference keeps a drive of exactly zero. `Whitened` subtracts it, and counts a response by its length.

    Args:
        of: the geometry whose drive g₀ is scaled, one per response.
        ddof: 1 for the unbiased variance, 0 for the biased one.
        epsilon: ≥ 0, added to the standard deviation.

    Raises:
        ValueError: an argument is out of its range; in `drive`, drives of tokens or pairs.

    Source: GDPO (arXiv 2601.05242).

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(3, 1), None, reward=torch.tensor([3.0, 0.0, -3.0]))
    >>> ga.sampling.DeviationScaled(epsilon=0.0).drive(batch)
    tensor([ 1.,  0., -1.])
    """

    of: SamplingGeometry = GroupAdvantage()
    ddof: int = 1
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "ddof", self.ddof, (0, 1))
        non_negative(self, "added to a standard deviation", epsilon=self.epsilon)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, drive = responses(self, self.of, batch)
        everyone = Groups(None, batch.groups().valid)
        count = everyone.valid.sum().to(drive.dtype)
        variance = (everyone.centred(drive) ** 2).sum() / (count - self.ddof).clamp(min=1)
        return torch.where(variance > 0, drive / torch.where(variance > 0, variance.sqrt() + self.epsilon, 1), 0)

    def latex(self) -> str:
        return rf"\frac{{{self.of.latex()}}}{{\operatorname{{std}}_i+{numerics.latex(self.epsilon)}}}"
