"""sampling.advantage"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.groups import Groups
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.base import SamplingGeometry, _rewards, _signal

__all__ = ["Advantage", "GroupAdvantage", "LengthWeightedBaseline", "LogMeanExpBaseline"]


@dataclasses.dataclass(frozen=True)
class Advantage(SamplingGeometry):
    """g = A, as given: the batch's `advantage`, or its `reward` where it has none. The identity geometry.

    Shape: `(row,)`, or `(row, token)` with a unit of tokens.
    """

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        signal = _signal(batch, "Advantage()")
        assert isinstance(batch, Batch)
        keep = batch.support if signal.ndim == 2 else batch.support.any(-1)
        return torch.where(keep, signal, 0).to(batch.dtype)

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
    """g = (r − baseline)/(scale + epsilon), the advantage made from the rewards of the responses to one prompt.

    Centring is the projection onto fluctuations that conserve probability; dividing by the standard deviation is
    not part of it. A group of one, or of equal rewards, has exactly zero drive.

    Args:
        baseline: "group" (its mean; GRPO), "leave_one_out" (the mean of the others; RLOO), "batch" (the mean of
            all), "none".
        scale: "none" (Dr. GRPO), "group" (its standard deviation; GRPO), "batch" (that of all centred rewards;
            REINFORCE++).
        ddof: 1 for the unbiased variance (TRL, verl), 0 for the biased one.
        epsilon: added to the standard deviation, ≥ 0. The published formula has none; TRL adds 1e-4, verl 1e-6.

    Source: Shao et al. 2024 (DeepSeekMath, arXiv 2402.03300) §4.1; Ahmadian et al. 2024 (RLOO, arXiv 2402.14740) eq. 6.
    """

    baseline: str = "group"
    scale: str = "none"
    ddof: int = 1
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        for name, value, options in (("baseline", self.baseline, _BASELINES), ("scale", self.scale, _SCALES)):
            if value not in options:
                raise ValueError(f"GroupAdvantage({name}={value!r}): choose one of {', '.join(map(repr, options))}.")
        if self.ddof not in (0, 1):
            raise ValueError(f"GroupAdvantage(ddof={self.ddof!r}): 0 (biased) or 1 (unbiased variance).")
        if not 0 <= self.epsilon < math.inf:
            raise ValueError(
                f"GroupAdvantage(epsilon={self.epsilon!r}): added to a standard deviation, so not negative."
            )

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        reward = batch.require("reward", "GroupAdvantage")
        assert isinstance(batch, Batch)
        reward = batch.per_response(reward)
        groups = batch.groups()
        everyone = Groups(None, groups.valid)
        centred = _BASELINES[self.baseline][0](reward, groups, everyone)
        pool = _SCALES[self.scale][0](groups, everyone)
        if pool is None:
            return centred
        # REINFORCE++: the batch's deviation is that of what is scaled, so of the already centred rewards.
        spread = pool.centred(centred if self.scale == "batch" else reward)
        variance = pool.sum(spread**2) / (pool.count(reward.dtype) - self.ddof).clamp(min=1)
        scale = torch.sqrt(variance) + self.epsilon
        return torch.where(variance > 0, centred / torch.where(scale > 0, scale, 1), 0)

    def latex(self) -> str:
        numerator, scale = _BASELINES[self.baseline][1], _SCALES[self.scale][1]
        return rf"\frac{{{numerator}}}{{{scale}+{numerics.latex(self.epsilon)}}}" if scale else numerator


@dataclasses.dataclass(frozen=True)
class LengthWeightedBaseline(SamplingGeometry):
    """g = r − Σ_j |y_j| r_j / Σ_j |y_j| over the group: the baseline of least variance if a response's squared score
    grows with its length.

    Source: OPO, "On-Policy RL with Optimal reward baseline" (arXiv 2505.23585). A group of one has zero drive;
    verl's `opo` leaves it its reward.
    """

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = _rewards(batch, type(self).__name__)
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

    Between r − mean r (β₁ → ∞) and r − max r (β₁ → 0). Unlike a centred drive it does not sum to zero over the group:
    exp(g/β₁) has mean one.

    Args:
        temperature: β₁, positive.

    Source: A*-PO (arXiv 2505.20686). There V* comes from responses of the reference drawn before training; here
    from the group.
    """

    temperature: float = 0.5

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"LogMeanExpBaseline(temperature={self.temperature!r}): a temperature is positive.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = _rewards(batch, type(self).__name__)
        groups = batch.groups()
        below = torch.where(groups.valid, (reward - groups.max(reward)) / self.temperature, 0)
        value = groups.max(reward) + self.temperature * torch.log1p(groups.mean(torch.expm1(below)))
        return torch.where(groups.valid, reward - value, 0)

    def latex(self) -> str:
        return rf"r_i-{self.temperature:g}\log\operatorname{{mean}}_G e^{{r/{self.temperature:g}}}"
