"""Advantage estimators: sampling geometries that turn the rewards of a prompt's responses into drives."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.batch import Batch, Groups, PreferenceBatch
from geomalign.numerics import Interval
from geomalign.sampling import Advantage, GroupAdvantage, SamplingGeometry

__all__ = [
    "ActiveScale",
    "Asymmetric",
    "BestMargin",
    "BestOfN",
    "Boltzmann",
    "Excited",
    "LengthBaseline",
    "Margin",
    "PassAtK",
    "SoftBaseline",
    "SoftLabel",
    "Whitened",
]


def _rewards(batch: Batch | PreferenceBatch, asked_by: str) -> tuple[Batch, Tensor]:
    reward = batch.require("reward", asked_by)
    assert isinstance(batch, Batch)
    return batch, batch.per_response(reward)


def _is_sampling(outer: SamplingGeometry, inner: object) -> None:
    if not isinstance(inner, SamplingGeometry):
        raise ValueError(
            f"{type(outer).__name__}(of={inner!r}): expected a SamplingGeometry instance such as GroupAdvantage()."
        )


@dataclasses.dataclass(frozen=True)
class Asymmetric(SamplingGeometry):
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
                raise ValueError(f"Asymmetric({name}={getattr(self, name)!r}): a weight, so not negative.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        return drive * torch.where(drive > 0, self.positive, torch.full_like(drive, self.negative))

    def latex(self) -> str:
        if self.positive == self.negative:
            return rf"{self.positive:g}\left({self.of.latex()}\right)"
        return rf"{self.positive:g}\left({self.of.latex()}\right)_+-{self.negative:g}\left({self.of.latex()}\right)_-"


@dataclasses.dataclass(frozen=True)
class LengthBaseline(SamplingGeometry):
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
class ActiveScale(SamplingGeometry):
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


@dataclasses.dataclass(frozen=True)
class PassAtK(SamplingGeometry):
    """The advantage of the best of k responses drawn from the group, in closed form for binary rewards.

    With N responses of which N⁻ fail, R̄ = 1 − C(N⁻, k)/C(N, k) is the chance that k of them hold a success and σ² =
    R̄(1 − R̄): g = (1 − R̄)/σ for a success, (1 − R̄ − C(N⁻−1, k−1)/C(N−1, k−1))/σ for a failure. k = 1 is the group's
    z-score (ddof=0).

    Args:
        k: how many responses are drawn, ≥ 1. A group smaller than k has zero drive, as has one without both outcomes
            among its draws.
        threshold: a reward above it is a success.

    Source: Pass@k Training (arXiv 2508.10751), analytical derivation.
    """

    k: int = 4
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"PassAtK(k={self.k!r}): a number of responses, an integer ≥ 1.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = _rewards(batch, type(self).__name__)
        groups = batch.groups()
        success = reward > self.threshold
        size = groups.sum(torch.ones_like(reward))
        failures = groups.sum((~success).to(reward.dtype))
        missed = _choose_ratio(failures, size, self.k)
        missed_with_me = _choose_ratio(failures - 1, size - 1, self.k - 1)
        sigma = torch.sqrt((missed * (1 - missed)).clamp(min=0))
        # missed = 1 − R̄, so both advantages are differences of two chances of drawing failures only.
        drive = torch.where(success, missed, missed - missed_with_me) / torch.where(sigma > 0, sigma, 1)
        return torch.where(groups.valid & (sigma > 0) & (size >= self.k), drive, 0)

    def latex(self) -> str:
        return rf"A_i^{{\mathrm{{pass@}}{self.k}}}"


def _choose_ratio(n: Tensor, total: Tensor, k: int) -> Tensor:
    """C(n, k)/C(total, k), as a product."""
    ratio = torch.ones_like(n)
    for j in range(k):
        ratio = ratio * (n - j).clamp(min=0) / (total - j).clamp(min=1)
    return ratio


@dataclasses.dataclass(frozen=True)
class BestMargin(SamplingGeometry):
    """g = r_best − r_second for the best response of the group and 0 for the others: what the maximum would lose
    without it.

    The leave-one-out advantage of the objective max_i r_i. A best reward reached twice has zero drive.

    Args:
        scale: "group" divides by the group's standard deviation (verl), "none" does not (the paper).
        epsilon: added to the standard deviation, ≥ 0.

    Source: Tang et al. 2025 (arXiv 2503.19595) §4; verl `grpo_passk`.
    """

    scale: str = "none"
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if self.scale not in ("none", "group"):
            raise ValueError(f"BestMargin(scale={self.scale!r}): choose one of 'none', 'group'.")
        if not self.epsilon >= 0:
            raise ValueError(f"BestMargin(epsilon={self.epsilon!r}): added to a standard deviation, so not negative.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = _rewards(batch, type(self).__name__)
        groups = batch.groups()
        best = groups.valid & (reward == groups.max(reward))
        alone = groups.sum(best.to(reward.dtype)) == 1
        below = torch.where(best, -math.inf, torch.where(groups.valid, reward, -math.inf))
        second = groups.max(below)
        drive = torch.where(best & alone & torch.isfinite(second), reward - second, 0)
        if self.scale == "none":
            return drive
        variance = groups.sum(groups.centred(reward) ** 2) / (groups.count(reward.dtype) - 1).clamp(min=1)
        scale = torch.sqrt(variance) + self.epsilon
        return drive / torch.where(scale > 0, scale, 1)

    def latex(self) -> str:
        drive = r"\left(r_i-\max_{j\neq i}r_j\right)_+"
        return (
            drive
            if self.scale == "none"
            else rf"{drive}/\left(\operatorname{{std}}_G(r)+{numerics.latex(self.epsilon)}\right)"
        )


@dataclasses.dataclass(frozen=True)
class BestOfN(SamplingGeometry):
    """g = N/(number selected) for the best response of every group, 0 for the others: the density of the selected
    responses among all.

    Its mean is one, so that an average over all responses is the average over the selected ones. The first of equals is
    taken.

    Source: RAFT (arXiv 2304.06767) Algorithm 1, best of K.
    """

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = _rewards(batch, type(self).__name__)
        groups = batch.groups()
        best = groups.valid & (reward == groups.max(reward))
        position = torch.arange(reward.shape[0], device=reward.device, dtype=reward.dtype)
        first = best & (position == -groups.max(torch.where(best, -position, -math.inf)))
        return first * (groups.valid.sum() / first.sum().clamp(min=1)).to(reward.dtype)

    @property
    def range(self) -> Interval:
        return Interval(0.0, math.inf)

    def latex(self) -> str:
        return r"\frac{N}{|\mathrm{selected}|}\,1\left[i=\arg\max_{G} r\right]"


@dataclasses.dataclass(frozen=True)
class Boltzmann(SamplingGeometry):
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
            raise ValueError(f"Boltzmann(temperature={self.temperature!r}): a temperature is positive.")
        if self.cap is not None and not self.cap > 0:
            raise ValueError(f"Boltzmann(cap={self.cap!r}): the bound of a weight is positive; None for no bound.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        exponent = self.of.drive(batch) / self.temperature
        # Without a cap, the library's own bound keeps the weight finite in every dtype.
        weight = torch.exp(exponent.clamp(max=60.0 if self.cap is None else math.log(self.cap)))
        support = batch.rows.support
        return torch.where(support if weight.ndim == 2 else support.any(-1), weight, 0)

    @property
    def range(self) -> Interval:
        return Interval(0.0, math.inf if self.cap is None else self.cap)

    def latex(self) -> str:
        weight = rf"\exp\left(\left({self.of.latex()}\right)/{self.temperature:g}\right)"
        return weight if self.cap is None else rf"\min\left({weight},{self.cap:g}\right)"


@dataclasses.dataclass(frozen=True)
class Excited(SamplingGeometry):
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
            raise ValueError(f"Excited(alpha={self.alpha!r}): a mixing weight in [0, 1].")
        if not self.scale > 0:
            raise ValueError(f"Excited(scale={self.scale!r}): the size of an advantage that is squashed, positive.")

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


@dataclasses.dataclass(frozen=True)
class SoftBaseline(SamplingGeometry):
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
            raise ValueError(f"SoftBaseline(temperature={self.temperature!r}): a temperature is positive.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, reward = _rewards(batch, type(self).__name__)
        groups = batch.groups()
        below = torch.where(groups.valid, (reward - groups.max(reward)) / self.temperature, 0)
        value = groups.max(reward) + self.temperature * torch.log1p(groups.mean(torch.expm1(below)))
        return torch.where(groups.valid, reward - value, 0)

    def latex(self) -> str:
        return rf"r_i-{self.temperature:g}\log\operatorname{{mean}}_G e^{{r/{self.temperature:g}}}"


@dataclasses.dataclass(frozen=True)
class Margin(SamplingGeometry):
    """g = scale·(r_chosen − r_rejected): a pair is pulled by as much as its responses differ in reward.

    Args:
        scale: in drives per reward.

    Reads the `margin` of a `PreferenceBatch`.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"Margin(scale={self.scale!r}): drives per reward, a finite number.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.scale * batch.require("margin", type(self).__name__).to(batch.rows.dtype)

    def latex(self) -> str:
        return rf"{self.scale:g}\left(r(y_i^+)-r(y_i^-)\right)"


@dataclasses.dataclass(frozen=True)
class SoftLabel(SamplingGeometry):
    """g = strength·σ(scale·(r_chosen − r_rejected)): the probability, by reward, that the chosen response is better.

    Args:
        strength: what a sure label would drive with, DPO's β.
        scale: rewards to log-odds, positive.

    Reads the `margin` of a `PreferenceBatch`.
    """

    strength: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strength) and 0 < self.scale < math.inf):
            raise ValueError(
                f"SoftLabel(strength={self.strength!r}, scale={self.scale!r}): a finite drive, and a positive scale of "
                "rewards."
            )

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.strength * torch.sigmoid(
            self.scale * batch.require("margin", type(self).__name__).to(batch.rows.dtype)
        )

    @property
    def range(self) -> Interval:
        return Interval(min(0.0, self.strength), max(0.0, self.strength))

    def latex(self) -> str:
        return rf"{self.strength:g}\,\sigma\left({self.scale:g}\left(r(y_i^+)-r(y_i^-)\right)\right)"
