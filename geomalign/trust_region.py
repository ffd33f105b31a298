r"""Solved instead of tuned: the stiffness from a trust region, α from an effective sample size, either held over a run.

`TrustRegion` and `EscortESS` are sampling geometries: pure, once a rollout, exact. They fix how far the *target* of a
step is. `Controlled` closes the loop: it measures how far the policy really moved and adapts the stiffness.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.batch import Batch, Groups, PreferenceBatch, Total
from geomalign.divergences import Divergence, KullbackLeibler, PearsonChiSquare
from geomalign.equilibrium import target_policy
from geomalign.objective import BaseObjective, Drives, Objective, Outcome, PairLaw
from geomalign.sampling import Advantage, GroupAdvantage, SamplingGeometry

__all__ = [
    "Annealed",
    "Controlled",
    "Controller",
    "CosineSchedule",
    "DualAscent",
    "EscortESS",
    "GeometricSchedule",
    "LinearSchedule",
    "Schedule",
    "TrustRegion",
    "chi_square_stiffness",
    "trust_region_target",
]

Reduce = Callable[[Tensor], Tensor]
_STEEPEST = 50.0
_WITHIN = ("batch", "group")


class _Mean:
    """A mean over the valid rows of the batch, `()`, or of each row's group, `(row,)`; over ranks with `reduce`."""

    def __init__(self, groups: Groups, within: str, reduce: Reduce | None):
        self.groups, self.pooled, self.reduce = groups, within == "batch", reduce or (lambda x: x)

    def __call__(self, x: Tensor) -> Tensor:
        if not self.pooled:
            return self.groups.mean(x)
        valid = self.groups.valid
        total = self.reduce(torch.stack([torch.where(valid, x, 0).sum(), valid.sum().to(x.dtype)]))
        return total[0] / total[1].clamp(min=1)


def chi_square_stiffness(
    drive: Tensor, groups: Groups, radius: float, *, within: str = "batch", reduce: Reduce | None = None
) -> Tensor:
    r"""μ = ‖g − E g‖/√ε, at which the step v* = (g − E g)/μ has exactly E[v*²] = ε.

    The multiplier of max ⟨g, v⟩ s.t. E[v] = 0, E[v²] ≤ ε. v* ≥ −1, so that it is a policy, iff μ ≥ E g − min g.

    Args:
        drive: `(row,)`.
        groups: over which E is taken: g is centred in every group.
        radius: ε, positive.
        within: "batch": one μ, with E[v²] = ε on average over all rows. "group": one μ a group.
        reduce: sums a tensor over processes (groups whole on each); one call, for within="batch".

    Returns:
        `()` or `(row,)`; 0 where the drive has no spread.
    """
    centred = groups.centred(drive)
    return (_Mean(groups, within, reduce)(centred**2) / radius).sqrt()


def trust_region_target(
    drive: Tensor,
    groups: Groups,
    divergence: Divergence,
    radius: float,
    *,
    within: str = "batch",
    reduce: Reduce | None = None,
) -> Tensor:
    r"""ψ'(t*) of the best policy within D_ψ(π‖π_k) ≤ radius: (g − λ)/μ at the μ where the bound is met.

    .. math:: \max_\pi\ \langle g, \pi\rangle \quad\text{s.t.}\quad D_\psi(\pi\|\pi_k) \le \varepsilon

    D falls monotonically with μ; log D is nearly linear in log μ, so that a safeguarded Newton needs a few steps.
    Groups of n samples reach only D ≤ ψ(n)/n + (1 − 1/n)ψ(0) (KL: log n). A radius beyond that is met as far as a
    difference of 50 between the best and the worst dual coordinate goes.

    Args:
        drive: `(row,)`.
        groups: over which E_{π_k} is taken, each with its λ.
        divergence: strictly convex.
        radius: ε, positive.
        within: "batch": one μ, D = ε on average over rows. "group": one μ a group, D = ε in every group with a spread.
        reduce: sums a tensor over processes, for within="batch"; a few calls, the same number on every process.

    Returns:
        `(row,)` dual coordinates, zero where a group's drive has no spread; ψ'(0) where t* = 0.
    """
    wide = torch.where(groups.valid, drive, 0).double()
    below = torch.where(groups.valid, wide - groups.max(wide), 0)
    mean = _Mean(groups, within, reduce)
    # Scale-free: the spread in standard deviations of the pool.
    spread = mean(groups.centred(wide) ** 2).sqrt()
    below = below / torch.where(spread > 0, spread, 1)

    def coordinates(x: Tensor) -> tuple[Tensor, Tensor]:
        g = below * x.exp()
        target = target_policy(g, divergence, groups=groups)
        return target.ratio, torch.where(groups.valid, g - target.multiplier, 0)

    def log_divergence(x: Tensor) -> tuple[Tensor, Tensor]:
        t, _ = coordinates(x)
        alive = t > 0
        response = torch.where(alive, 1 / divergence.curvature(torch.where(alive, t, 1)), 0)
        tilted = groups.sum(response * below) / torch.where(groups.valid, groups.sum(response), 1)
        value = mean(divergence.generator(t)).clamp(min=torch.finfo(t.dtype).tiny)
        slope = mean(response * (below - tilted) ** 2) * (2 * x).exp()
        # Without a spread no stiffness changes anything: call it solved.
        return torch.where(spread > 0, value.log(), math.log(radius)), slope / value

    # ψ''(1) = 1 for a normalised divergence: D ≈ 1/(2μ²) for a small step of unit spread.
    one = torch.ones((), dtype=wide.dtype, device=wide.device)
    start = 0.5 * (2 * radius * divergence.curvature(one)).log()
    steepest = (
        _STEEPEST / (-below).amax().clamp(min=1.0) if mean.pooled else _STEEPEST / groups.max(-below).clamp(min=1.0)
    )
    x = numerics.solve_newton(
        log_divergence,
        torch.full_like(spread, math.log(radius)),
        -60.0,
        steepest.log(),
        start=start.expand_as(spread),
    )
    _, s = coordinates(x)
    low = divergence.mirror_range.low
    return torch.where(groups.valid & (below != groups.mean(below)), s.clamp(min=low), 0).to(drive.dtype)


def _check_within(owner: object, within: str) -> None:
    if within not in _WITHIN:
        raise ValueError(
            f"{type(owner).__name__}(within={within!r}): one for the whole batch, or one a group: {_WITHIN}."
        )


def _mean_square(drive: Tensor, support: Tensor, groups: Groups | None) -> Tensor:
    """Mean of g² over tokens, `(row, 1)` within groups, or over pairs; `()` over all of them without groups."""
    square, count = torch.where(support, drive, 0) ** 2, support.to(drive.dtype)
    if groups is None:
        return square.sum() / count.sum().clamp(min=1)
    return (groups.sum(square.sum(-1)) / groups.sum(count.sum(-1)).clamp(min=1))[:, None]


def _responses(owner: object, of: SamplingGeometry, batch: Batch | PreferenceBatch) -> tuple[Batch, Tensor]:
    drive = of.drive(batch)
    if drive.ndim != 1 or not isinstance(batch, Batch):
        events = "pairs" if isinstance(batch, PreferenceBatch) else f"tokens, {tuple(drive.shape)}"
        raise ValueError(
            f"{type(owner).__name__} needs one drive a response; {of!r} gave drives of {events}. Its multiplier is an "
            "average over responses to one prompt, of which a pair shows only a difference and a token's state one "
            "sample: for those use TrustRegion(chi2=…), which needs none."
        )
    return batch, drive


@dataclasses.dataclass(frozen=True)
class TrustRegion(SamplingGeometry):
    r"""g = ψ'(t*), the best policy within a divergence of the anchor: μ is solved, not tuned.

    Used with `ChiSquare(1.0)` in the divergence's own coordinate the equilibrium is t* itself: `Ratio()` for χ²,
    `LogRatio()` for KL, `Dual(divergence)` for any other. With chi2 the drive is (g₀ − E g₀)/μ, μ = ‖g₀ − E g₀‖/√ε,
    in closed form.
    Of pairs and of tokens, chi2 alone is defined. Pairs: ½E[m²] = E[v²] for the margin m = v − v' of two independent
    responses, so that the drive is g₀/μ, μ = ‖g₀‖/√(2ε). Tokens: a drive a token is taken for an advantage, of mean
    zero at its state, and is not centred; ε is the mean over tokens.

    The drive is free of the scale of g₀: rewards ten times as large make the same step. What bounds the target is not
        a bound
    on what the optimizer does in a finite number of steps; that is measured by `Controlled`.

    Args:
        of: the geometry whose drive g₀ is followed.
        chi2: radius ε of E_{π_k}[(t−1)²] ≤ ε, positive.
        kl: radius of KL(π‖π_k) in nats, positive.
        divergence, radius: any other divergence and its radius.
        within: "batch": one μ a rollout, the radius holds on average over its responses. "group": one μ a prompt (or
            pair), so that every prompt with a spread moves equally far: for chi2, GRPO's division by the standard
            deviation.
        bounded: for chi2, keep t* ≥ 0 (a root instead of the closed form). The others always do.

    Raises:
        ValueError: not exactly one radius, or one that is not positive.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(4, 1), None, reward=torch.tensor([1.0, 0.0, 0.0, 0.0]))
    >>> drive = TrustRegion(chi2=0.04).drive(batch)
    >>> bool(torch.isclose(drive.square().mean(), torch.tensor(0.04)))
    True

    Source: χ² trust-region duality of OPO (arXiv 2601.12415); KL: Peters et al. 2010 (REPS), Abdolmaleki et al. 2018
        (MPO).
    """

    of: SamplingGeometry = GroupAdvantage()
    _: dataclasses.KW_ONLY
    chi2: float | None = None
    kl: float | None = None
    divergence: Divergence | None = None
    radius: float | None = None
    within: str = "batch"
    bounded: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.of, SamplingGeometry):
            raise ValueError(f"TrustRegion(of={self.of!r}): expected a SamplingGeometry such as GroupAdvantage().")
        if (self.divergence is None) != (self.radius is None):
            raise ValueError("TrustRegion: `divergence` and `radius` are given together.")
        radii = [r for r in (self.chi2, self.kl, self.radius) if r is not None]
        if len(radii) != 1 or not (0 < radii[0] < math.inf):
            raise ValueError(
                f"TrustRegion(chi2={self.chi2!r}, kl={self.kl!r}, radius={self.radius!r}): one radius, positive."
            )
        _check_within(self, self.within)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        if self.chi2 is not None and not self.bounded:
            drive = self.of.drive(batch)
            if not isinstance(batch, Batch):
                chosen, rejected = batch.rows.support.any(-1).chunk(2)
                pool = drive**2 if self.within == "group" else _mean_square(drive, chosen & rejected, None)
                return self._scaled(drive, pool / (2 * self.chi2))
            if drive.ndim == 2:
                pool_of = batch.groups() if self.within == "group" else None
                return self._scaled(drive, _mean_square(drive, batch.support, pool_of) / self.chi2)
        batch, drive = _responses(self, self.of, batch)
        groups = batch.groups()
        if self.chi2 is not None and not self.bounded:
            mu = chi_square_stiffness(drive, groups, self.chi2, within=self.within)
            return torch.where(mu > 0, groups.centred(drive) / torch.where(mu > 0, mu, 1), 0)
        divergence, radius = self._region()
        return trust_region_target(drive, groups, divergence, radius, within=self.within)

    @staticmethod
    def _scaled(drive: Tensor, square: Tensor) -> Tensor:
        return torch.where(square > 0, drive / torch.where(square > 0, square, 1).sqrt(), 0)

    def _region(self) -> tuple[Divergence, float]:
        if self.chi2 is not None:
            return PearsonChiSquare(), self.chi2 / 2
        if self.kl is not None:
            return KullbackLeibler(), self.kl
        assert self.divergence is not None and self.radius is not None
        return self.divergence, self.radius

    def latex(self) -> str:
        over = "G" if self.within == "group" else "B"
        if self.chi2 is not None and not self.bounded:
            norm = rf"\mu=\sqrt{{\operatorname{{mean}}_{over}(a^2)/{self.chi2:g}}},\ a={self.of.latex()}"
            return rf"\frac{{a_i-\operatorname{{mean}}_G(a)}}{{\mu}},\ {norm}"
        divergence, radius = self._region()
        bound = rf"\operatorname{{mean}}_{over}\left[{divergence.latex()}\right]={radius:g}"
        return rf"\frac{{a_i-\lambda}}{{\mu}},\ {bound},\ a={self.of.latex()}"


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
        _check_within(self, self.within)

    def _solve(self, advantage: Tensor, groups: Groups, reduce: Reduce | None = None) -> Tensor:
        below = torch.where(groups.valid, advantage.double() - groups.max(advantage.double()), 0) / self.temperature
        mean = _Mean(groups, self.within, reduce)

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
        batch, advantage = _responses(self, _Signal(), batch)
        return self._solve(advantage, batch.groups())

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, advantage = _responses(self, _Signal(), batch)
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


class Schedule(ABC):
    """A positive number as a function of the progress of a run, 0 at its start and 1 at its end."""

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """The value at `progress` in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class LinearSchedule(Schedule):
    """start + (stop − start)·progress."""

    start: float
    stop: float

    def __call__(self, progress: float) -> float:
        return self.start + (self.stop - self.start) * progress


@dataclasses.dataclass(frozen=True)
class CosineSchedule(Schedule):
    """Half a cosine from start to stop: slow at both ends."""

    start: float
    stop: float

    def __call__(self, progress: float) -> float:
        return self.stop + (self.start - self.stop) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclasses.dataclass(frozen=True)
class GeometricSchedule(Schedule):
    """start^{1−progress} · stop^{progress}: equal factors in equal times; start and stop positive."""

    start: float
    stop: float

    def __call__(self, progress: float) -> float:
        return math.exp((1.0 - progress) * math.log(self.start) + progress * math.log(self.stop))


class Controller(ABC):
    """Sets the stiffness μ of a run from what it sees; the only objects here that remember anything.

    Equality and `repr` are those of the hyper-parameters, as for every other part; the memory is in `state_dict()`.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    @abstractmethod
    def stiffness(self) -> Tensor:
        """μ for the coming rollout, a positive 0-dim tensor."""

    @abstractmethod
    def observe(self, outcome: Outcome) -> None:
        """Take note of one evaluation (of a micro-batch: they add up)."""

    @abstractmethod
    def advance(self) -> None:
        """A rollout has ended and another begins. Without observations since the last call nothing changes."""

    @abstractmethod
    def readings(self) -> dict[str, Tensor]:
        """What a log shows, 0-dim tensors."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything a run needs to continue exactly, for a checkpoint."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""


class Annealed(Controller):
    """μ from a schedule, over a number of rollouts; constant after them.

    Args:
        schedule: of positive values.
        rollouts: how many the schedule spans, at least 1.
    """

    def __init__(self, schedule: Schedule, rollouts: int):
        if rollouts < 1 or not (schedule(0.0) > 0 and schedule(1.0) > 0):
            raise ValueError(f"Annealed({schedule!r}, {rollouts}): positive stiffness over at least one rollout.")
        self.schedule, self.rollouts = schedule, rollouts
        self._done, self._seen = 0, False

    def __repr__(self) -> str:
        return f"Annealed({self.schedule!r}, {self.rollouts})"

    @property
    def stiffness(self) -> Tensor:
        last = max(self.rollouts - 1, 1)
        return torch.tensor(self.schedule(min(self._done / last, 1.0)), dtype=torch.float64)

    def observe(self, outcome: Outcome) -> None:
        self._seen = True

    def advance(self) -> None:
        self._done, self._seen = self._done + self._seen, False

    def readings(self) -> dict[str, Tensor]:
        return {"stiffness": self.stiffness}

    def state_dict(self) -> dict[str, Any]:
        return {"done": self._done, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._done, self._seen = int(state["done"]), bool(state["seen"])


class DualAscent(Controller):
    r"""Keeps a measured divergence at its target by ascent on the multiplier of the constraint.

    .. math:: \log\mu \leftarrow \log\mu + \mathrm{rate}\cdot
              \mathrm{clip}\!\left(\frac{\hat D}{\varepsilon} - 1,\ -1,\ 1\right)

    D̂ is the mean of ψ(e^Δ) over all events that a gradient was computed on since the last rollout: of the policy in
    training against the anchor, at the objective's unit, the first update (where it is 0) included. With one update a
    rollout there is nothing to measure, and μ falls to its lower bound. Of pairs both responses count, as two samples
    of the anchor. The clip makes one rollout change μ by at
    most a factor e^{rate}.

    Args:
        target: ε of D̂, positive.
        divergence: ψ.
        rate: step of log μ a rollout, positive.
        initial: μ to begin with.
        low, high: bounds of μ.
        reduce: sums a tensor over processes, `distributed.summed`; one call a rollout and one for `readings`, on every
            rank. None: one process.
    """

    def __init__(
        self,
        target: float,
        divergence: Divergence = KullbackLeibler(),  # noqa: B008 (frozen)
        *,
        rate: float = 0.2,
        initial: float = 1.0,
        low: float = 1e-4,
        high: float = 1e4,
        reduce: Reduce | None = None,
    ):
        for name, value in (("target", target), ("rate", rate), ("low", low)):
            if not value > 0:
                raise ValueError(f"DualAscent({name}={value!r}): positive.")
        if not low <= initial <= high:
            raise ValueError(f"DualAscent(initial={initial!r}): between low={low:g} and high={high:g}.")
        self.target, self.divergence, self.rate, self.initial, self.low, self.high = (
            target,
            divergence,
            rate,
            initial,
            low,
            high,
        )
        self._reduce = reduce or (lambda x: x)
        self._log_mu = torch.tensor(math.log(initial), dtype=torch.float64)
        self._sum = torch.zeros(2, dtype=torch.float64)
        self._measured = torch.tensor(math.nan, dtype=torch.float64)

    def __repr__(self) -> str:
        given = f"{self.target!r}, {self.divergence!r}, rate={self.rate!r}, initial={self.initial!r}"
        return f"DualAscent({given}, low={self.low!r}, high={self.high!r})"

    @property
    def stiffness(self) -> Tensor:
        return self._log_mu.exp()

    def observe(self, outcome: Outcome) -> None:
        with torch.no_grad():
            log_ratio = outcome.log_ratio.detach()
            support = outcome.support
            if outcome.objective.anchor is None:
                raise ValueError(
                    "DualAscent measures how far the policy is from an anchor; this objective reads log π itself "
                    "(anchor=None), which is no distance."
                )
            if outcome.objective.unit.paired:
                support = torch.cat([support, support])
            value = torch.where(support, self.divergence.penalty(torch.where(support, log_ratio, 0)), 0)
            seen = torch.stack([value.double().sum(), support.sum().double()])
            self._sum = self._sum.to(seen.device) + seen

    def advance(self) -> None:
        total, count = self._reduce(self._sum).unbind()
        measured = total / count.clamp(min=1)
        step = self.rate * (measured / self.target - 1.0).clamp(-1.0, 1.0)
        log_mu = self._log_mu.to(step.device)
        moved = (log_mu + step).clamp(math.log(self.low), math.log(self.high))
        self._log_mu = torch.where(count > 0, moved, log_mu)
        self._measured = torch.where(count > 0, measured, self._measured.to(step.device))
        self._sum = torch.zeros_like(self._sum)

    def readings(self) -> dict[str, Tensor]:
        """`divergence`: D̂ since the last rollout began; `held`: D̂/target; `stiffness`: the μ it was run with."""
        total, count = self._reduce(self._sum).unbind()
        now = torch.where(count > 0, total / count.clamp(min=1), self._measured.to(total.device))
        return {"divergence": now, "held": now / self.target, "stiffness": self.stiffness}

    def state_dict(self) -> dict[str, Any]:
        return {"log_mu": self._log_mu.cpu(), "sum": self._sum.cpu(), "measured": self._measured.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._log_mu, self._sum, self._measured = state["log_mu"], state["sum"], state["measured"]


@dataclasses.dataclass(frozen=True)
class Controlled(BaseObjective):
    """An objective whose stiffness a controller sets: φ(u) − (g/μ)·u, which is 1/μ times μφ(u) − g·u.

    The potential counts from the anchor: where its mirror there is not zero, g is measured from that,
    g → φ'(u₀) + (g − φ'(u₀))/μ. Of DPO's link it makes μ a smoothing of the label, whose probability becomes
    (1 + 1/μ)/2: the loss has a minimum for μ > 1 alone, so take `DualAscent(…, low=1.0)`.

    `drive(batch)` begins a rollout: the controller takes in what it saw in the last one, and the drive is divided by
    its μ. Evaluations with gradient are shown to the controller; those without (metrics, laws) are not. Everything
    else is the objective's own, so it trains, composes and reports as any other. Save `controller.state_dict()` with
    the run.

    Args:
        of: the objective, at stiffness 1.
        controller: its state belongs to one run: give every run its own.
    """

    of: BaseObjective
    controller: Controller

    @property
    def terms(self) -> tuple[tuple[float, Objective], ...]:
        return self.of.terms

    def _summands(self) -> tuple[tuple[float, Objective], ...]:
        raise ValueError(
            "Controlled is no term of a sum, whose parts know no controller: use Controlled(a + b, controller)."
        )

    def _stiffened(self, drive: Tensor | Drives) -> Tensor | Drives:
        mu = self.controller.stiffness
        terms = [term for _, term in self.of.terms]
        if isinstance(drive, Drives):
            return Drives(_stiffened(g, mu.to(g), term) for g, term in zip(drive, terms, strict=True))
        return _stiffened(drive, mu.to(drive), terms[0])

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor | Drives:
        self.controller.advance()
        return self._stiffened(self.of.drive(batch))

    def __call__(
        self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None = None, total: Total | None = None
    ) -> Outcome:
        outcome = self.of(batch, self._stiffened(self.of.drive(batch)) if drive is None else drive, total)
        if outcome.loss.requires_grad:
            self.controller.observe(outcome)
        return outcome

    def law(
        self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None = None, total: Total | None = None
    ) -> Tensor | PairLaw:
        return self.of.law(batch, self._stiffened(self.of.drive(batch)) if drive is None else drive, total)

    def latex(self) -> str:
        return rf"{self.of.latex()},\quad g\to g/\mu"


def _stiffened(drive: Tensor, mu: Tensor, term: Objective) -> Tensor:
    """φ'(u₀) + (g − φ'(u₀))/μ, u₀ the coordinate of an event whose policy is its anchor."""
    if term.anchor is None:
        return drive / mu
    u = term.unit.combine(term.chart(drive.new_zeros(2 if term.unit.paired else 1)))
    rest = term.optimization.mirror(u.expand(drive.shape), drive)
    return rest + (drive - rest) / mu
