"""Trust regions: the stiffness at which the best policy is as far from its anchor as it may be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.batch import Batch, Groups, PreferenceBatch
from geomalign.divergences import Divergence, KullbackLeibler, PearsonChiSquare
from geomalign.equilibrium import target_policy
from geomalign.sampling import GroupAdvantage, SamplingGeometry

Reduce = Callable[[Tensor], Tensor]
_STEEPEST = 50.0
_WITHIN = ("batch", "group")


class Mean:
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
    return (Mean(groups, within, reduce)(centred**2) / radius).sqrt()


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
    mean = Mean(groups, within, reduce)
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
    widest = torch.cat([-below, -below.new_ones(1)]).amax() if mean.pooled else groups.max(-below)
    steepest = _STEEPEST / widest.clamp(min=1.0)
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


def check_within(owner: object, within: str) -> None:
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


def responses(owner: object, of: SamplingGeometry, batch: Batch | PreferenceBatch) -> tuple[Batch, Tensor]:
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
        check_within(self, self.within)

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
        batch, drive = responses(self, self.of, batch)
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
