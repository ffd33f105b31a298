"""Sampling geometries: what pulls an event, and how hard. They make the drive g, through which no gradient flows."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.batch import Batch, Groups, PreferenceBatch
from geomalign.locality import Locality
from geomalign.numerics import Interval
from geomalign.projection import bounded_projection

__all__ = [
    "Advantage",
    "BoundedProjection",
    "ClippedImportance",
    "Escort",
    "GroupAdvantage",
    "Label",
    "SamplingGeometry",
    "TruncatedImportance",
]


class SamplingGeometry(ABC):
    """Which samples dominate the gradient: the drive g of every event, ∂L/∂u = φ'(u) − g.

    `drive` needs whole groups, so it is computed once for a rollout; `reweight` is what depends on the policy as it
    trains, and happens at every evaluation. No gradient flows through either.
    """

    @abstractmethod
    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        """The drive of every row (or pair): `(row,)`, or `(row, token)`. Called without gradient, with whole groups."""

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        """The drive at the current policy: the drive itself here.

        `log_ratio` is Δ in the shape of the events, detached: from the objective's anchor, or from the rollout policy
        where the objective has no anchor and the batch has one. `batch` is what is being evaluated.
        """
        return drive

    @property
    def locality(self) -> Locality:
        """What of the current forward pass `reweight` needs: nothing here."""
        return Locality.KNOWN

    @property
    def range(self) -> Interval:
        """Where the drive can lie, as far as the hyper-parameters tell."""
        return Interval(-math.inf, math.inf)

    @abstractmethod
    def latex(self) -> str:
        """The drive as a formula."""


def _signal(batch: Batch | PreferenceBatch, asked_by: str) -> Tensor:
    """The advantage where there is one, else the reward."""
    if isinstance(batch, Batch) and batch.advantage is not None:
        return batch.advantage
    return batch.require("reward", asked_by)


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
            exponent = exponent - (1 - self.alpha) * batch.log_probs("anchor", "Escort(inverse_probability=True)").sum(
                -1
            )
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
                exponent = exponent - batch.log_probs("anchor", "Escort(inverse_probability=True)").sum(-1)
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
class Label(SamplingGeometry):
    """g = strength, the same for every event: a preference label, or 0 for a term that only pulls back.

    Args:
        strength: DPO's β (or β(1−ε) under label noise), IPO's 1/τ.
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise ValueError(f"Label(strength={self.strength!r}): a drive is a finite number.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        rows = batch if isinstance(batch, Batch) else batch.rows
        return torch.full((batch.size,), self.strength, dtype=rows.dtype, device=rows.policy.device)

    @property
    def range(self) -> Interval:
        return Interval(self.strength, self.strength)

    def latex(self) -> str:
        return f"{self.strength:g}"


@dataclasses.dataclass(frozen=True)
class TruncatedImportance(SamplingGeometry):
    """g · min(π_anchor/π_behavior, cap): corrects for a rollout engine whose probabilities differ from the trainer's.

    Args:
        of: the geometry whose drive is weighted.
        cap: upper bound of the importance weight, positive.
        sequence: one weight a response, of the product of its tokens' ratios, instead of one a token.

    Source: truncated importance sampling, Ionides 2008; for rollout engines Yao et al. 2025. TRL and verl use cap = 2.
    """

    of: SamplingGeometry
    cap: float = 2.0
    sequence: bool = False

    def __post_init__(self) -> None:
        _check_inner(self, self.of)
        if not self.cap > 0:
            raise ValueError(f"TruncatedImportance(cap={self.cap!r}): the bound of an importance weight is positive.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        rows = batch.rows
        log_weight = rows.log_probs("anchor", "TruncatedImportance") - rows.log_probs("behavior", "TruncatedImportance")
        if self.sequence or rows.summed:
            log_weight = log_weight.sum(-1)
        elif drive.ndim == 1:
            drive = drive[:, None]
        return drive * torch.exp(log_weight.clamp(max=math.log(self.cap)))

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.reweight(drive, log_ratio, batch)

    @property
    def locality(self) -> Locality:
        return self.of.locality

    def latex(self) -> str:
        return rf"\min\left(\frac{{\pi_k}}{{\pi_b}},{self.cap:g}\right)\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class ClippedImportance(SamplingGeometry):
    """g · sg[clip(t, low, high)]: an importance weight that is clipped where PPO would drop the gradient (CISPO).

    Args:
        of: the geometry whose drive is weighted.
        low: lower bound of the ratio t, ≥ 0; None for none.
        high: upper bound of the ratio t; None for none.

    Source: MiniMax-M1 (arXiv 2506.13585) eq. 4–5.
    """

    of: SamplingGeometry
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        _check_inner(self, self.of)
        low, high = self.low or 0.0, math.inf if self.high is None else self.high
        if not 0 <= low < high:
            raise ValueError(
                f"ClippedImportance(low={self.low!r}, high={self.high!r}): bounds of a ratio, 0 ≤ low < high."
            )

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.drive(batch)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        low = math.log(self.low) if self.low else -math.inf
        high = math.inf if self.high is None else math.log(self.high)
        bounded = log_ratio.clamp(max=min(high, 60.0)).clamp(min=low)
        return self.of.reweight(drive, log_ratio, batch) * torch.exp(bounded)

    @property
    def locality(self) -> Locality:
        return max(Locality.TOKEN, self.of.locality)

    def latex(self) -> str:
        low = "0" if self.low is None else f"{self.low:g}"
        high = r"\infty" if self.high is None else f"{self.high:g}"
        return rf"\operatorname{{sg}}\left[\operatorname{{clip}}(t,{low},{high})\right]\left({self.of.latex()}\right)"


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


def _check_inner(outer: SamplingGeometry, inner: object) -> None:
    if not isinstance(inner, SamplingGeometry):
        raise ValueError(
            f"{type(outer).__name__}(of={inner!r}): expected a SamplingGeometry instance such as GroupAdvantage()."
        )
