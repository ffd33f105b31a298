"""Advantages: drives made from the rewards of the responses to one prompt, by a baseline and a scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import non_negative, one_of, positive
from geomalign._util.groups import Groups
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.base import SamplingGeometry, rewards, signal

__all__ = ["Advantage", "GroupAdvantage", "LengthWeightedBaseline", "LogMeanExpBaseline"]


@dataclasses.dataclass(frozen=True)
class Advantage(SamplingGeometry):
    """g = A: the batch's `advantage` as it is given, or its `reward` where it has none.

    Shape: `(row,)`, or `(row, token)` for units of tokens.

    >>> import torch, geomalign as ga
    >>> ga.Advantage().drive(ga.Batch(torch.zeros(2, 3), None, advantage=torch.tensor([0.5, -0.5])))
    tensor([ 0.5000, -0.5000])
    """

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, given = signal(self, batch)
        keep = batch.support & batch.judged[:, None] if given.ndim == 2 else batch.judged
        return torch.where(keep, given, 0).to(batch.dtype)

    def latex(self) -> str:
        return r"A_i"


def _no_baseline(reward: Tensor, groups: Groups, everyone: Groups) -> Tensor:
    return torch.where(groups.valid, reward, 0)


def _group_baseline(reward: Tensor, groups: Groups, everyone: Groups) -> Tensor:
    return groups.centred(reward)


def _leave_one_out(reward: Tensor, groups: Groups, everyone: Groups) -> Tensor:
    count = groups.count(reward.dtype)
    return groups.centred(reward) * count / (count - 1).clamp(min=1)


def _batch_baseline(reward: Tensor, groups: Groups, everyone: Groups) -> Tensor:
    return everyone.centred(reward)


_BASELINES: dict[str, tuple[Callable[[Tensor, Groups, Groups], Tensor], str]] = {
    "none": (_no_baseline, "r_i"),
    "group": (_group_baseline, r"r_i-\operatorname{mean}_{G}(r)"),
    "leave_one_out": (_leave_one_out, r"r_i-\operatorname{mean}_{G\setminus i}(r)"),
    "batch": (_batch_baseline, r"r_i-\operatorname{mean}(r)"),
}


_SCALES: dict[str, tuple[Callable[[Groups, Groups], Groups | None], str]] = {
    "none": (lambda groups, everyone: None, ""),
    "group": (lambda groups, everyone: groups, r"\operatorname{std}_{G}(r)"),
    "batch": (lambda groups, everyone: everyone, r"\operatorname{std}(r)"),
}


@dataclasses.dataclass(frozen=True)
class GroupAdvantage(SamplingGeometry):
    """g = (r − baseline)/(scale + epsilon): the advantage of a response over the other responses to its prompt.

    Centring is the projection onto the fluctuations that conserve probability; the division by a standard deviation is
    no part of it. A group of one row, or of equal rewards, has a drive of exactly zero.

    Args:
        baseline: "group" (the group's mean; GRPO), "leave_one_out" (the mean of the others; RLOO), "batch" (the mean
            of all rows), or "none".
        scale: "none" (Dr. GRPO), "group" (the group's standard deviation; GRPO), or "batch" (the standard deviation of
            all centred rewards; REINFORCE++).
        ddof: 1 for the unbiased variance (TRL, verl), 0 for the biased one.
        epsilon: ≥ 0, added to the standard deviation. The published formula has none; TRL adds 1e-4, verl 1e-6.

    Raises:
        ValueError: an unknown baseline or scale, a ddof other than 0 and 1, or a negative epsilon.

    Source: Shao et al. 2024 (DeepSeekMath, arXiv 2402.03300) §4.1; Ahmadian et al. 2024 (RLOO, arXiv 2402.14740) eq. 6.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(4, 1), None, reward=torch.tensor([1.0, 0.0, 0.0, 1.0]))
    >>> ga.GroupAdvantage().drive(batch)
    tensor([ 0.5000, -0.5000, -0.5000,  0.5000])
    """

    baseline: str = "group"
    scale: str = "none"
    ddof: int = 1
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        one_of(self, "baseline", self.baseline, _BASELINES)
        one_of(self, "scale", self.scale, _SCALES)
        one_of(self, "ddof", self.ddof, (0, 1))
        non_negative(self, "added to a standard deviation", epsilon=self.epsilon)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = rewards(self, batch)
        groups = batch.groups()
        everyone = Groups(None, groups.valid)
        centred = _BASELINES[self.baseline][0](reward, groups, everyone)
        pool = _SCALES[self.scale][0](groups, everyone)
        if pool is None:
            return centred
        # REINFORCE++ divides by the deviation of what is scaled, so of the rewards that are already centred.
        spread = pool.centred(centred if self.scale == "batch" else reward)
        variance = pool.sum(spread**2) / (pool.count(reward.dtype) - self.ddof).clamp(min=1)
        scale = torch.sqrt(variance) + self.epsilon
        return torch.where(variance > 0, centred / torch.where(scale > 0, scale, 1), 0)

    def latex(self) -> str:
        numerator, scale = _BASELINES[self.baseline][1], _SCALES[self.scale][1]
        bottom = f"{scale}+{numerics.latex(self.epsilon)}" if self.epsilon else scale
        return rf"\frac{{{numerator}}}{{{bottom}}}" if scale else numerator


@dataclasses.dataclass(frozen=True)
class LengthWeightedBaseline(SamplingGeometry):
    """g = r − Σ_j |y_j| r_j / Σ_j |y_j|: the reward over the group's mean weighted by the lengths of its responses.

    This baseline has the least variance if the squared norm of a response's score grows in proportion to its length.

    Source: OPO, "On-Policy RL with Optimal reward baseline" (arXiv 2505.23585). A group of one row has zero drive here;
    verl's `opo` leaves it its reward.

    >>> import torch, geomalign as ga
    >>> mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    >>> batch = ga.Batch(torch.zeros(2, 3), None, mask, reward=torch.tensor([1.0, 0.0]))
    >>> ga.sampling.LengthWeightedBaseline().drive(batch)
    tensor([ 0.2500, -0.7500])
    """

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = rewards(self, batch)
        groups = batch.groups()
        length = batch.support.sum(-1).to(reward.dtype)
        below = reward - groups.max(reward)
        baseline = groups.sum(length * below) / groups.sum(length).clamp(min=1)
        return torch.where(groups.valid, below - baseline, 0)

    def latex(self) -> str:
        return r"r_i-\frac{\sum_{j\in G}|y_j|\,r_j}{\sum_{j\in G}|y_j|}"


@dataclasses.dataclass(frozen=True)
class LogMeanExpBaseline(SamplingGeometry):
    """g = r − V*, V* = β₁ log mean_G exp(r/β₁): the advantage over the optimal value of the KL-regularised problem.

    The baseline lies between the group's mean (β₁ → ∞) and its maximum (β₁ → 0). The drives of a group do not sum to
    zero, as centred ones do: instead exp(g/β₁) has mean one.

    Args:
        temperature: β₁, positive, in units of the reward.

    Raises:
        ValueError: a temperature that is not positive.

    Source: A*-PO (arXiv 2505.20686). There V* comes from responses of the reference policy drawn before training; here
    it comes from the group.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 1), None, reward=torch.tensor([1.0, 0.0]))
    >>> drive = ga.sampling.LogMeanExpBaseline(0.5).drive(batch)
    >>> round(torch.exp(drive / 0.5).mean().item(), 4)
    1.0
    """

    temperature: float = 0.5

    def __post_init__(self) -> None:
        positive(self, "β₁ in units of the reward", temperature=self.temperature)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = rewards(self, batch)
        groups = batch.groups()
        below = torch.where(groups.valid, (reward - groups.max(reward)) / self.temperature, 0)
        value = groups.max(reward) + self.temperature * torch.log1p(groups.mean(torch.expm1(below)))
        return torch.where(groups.valid, reward - value, 0)

    def latex(self) -> str:
        return rf"r_i-{self.temperature:g}\log\operatorname{{mean}}_G e^{{r/{self.temperature:g}}}"
