"""Importance geometries: drives that follow the policy as it leaves the rollout policy. What they weigh by has no
gradient.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.batch import Batch, PreferenceBatch
from geomalign.locality import Locality
from geomalign.numerics import Interval
from geomalign.optimization import BregmanGeometry
from geomalign.sampling import Advantage, Label, SamplingGeometry

__all__ = ["Confidence", "DivergenceMask", "GammaImportance", "ImportanceRatio", "LeashedReward", "TaperedImportance"]


def _is_sampling(outer: SamplingGeometry, inner: object) -> None:
    if not isinstance(inner, SamplingGeometry):
        raise ValueError(
            f"{type(outer).__name__}(of={inner!r}): expected a SamplingGeometry instance such as GroupAdvantage()."
        )


def _is_cap(outer: SamplingGeometry, cap: float | None) -> None:
    if cap is not None and not cap > 0:
        raise ValueError(
            f"{type(outer).__name__}(cap={cap!r}): the bound of an importance weight is positive; None for no bound."
        )


def _responses(drive: Tensor, batch: Batch | PreferenceBatch, name: str, asked_by: str) -> Tensor:
    """log π − log π_name of whole responses, ready to weigh drives of responses or of their tokens."""
    rows = batch.rows
    total = (rows.log_probs("policy", asked_by) - rows.log_probs(name, asked_by)).detach().sum(-1)
    return total if drive.ndim == 1 else total[:, None]


def _as_drive(drive: Tensor, batch: Batch | PreferenceBatch, name: str, asked_by: str) -> Tensor:
    """log π_name in the shape of the drives: of tokens, or summed over responses."""
    tokens = batch.rows.log_probs(name, asked_by).detach()
    return tokens if drive.ndim == 2 else tokens.sum(-1)


@dataclasses.dataclass(frozen=True)
class TaperedImportance(SamplingGeometry):
    """g · sg[clip(π(y)/π_k(y), low, high)] with bounds by the sign of g: the ratio of whole responses, tapered.

    Args:
        of: the geometry whose drive is weighted.
        positive: (low, high) under a positive drive; (1, 1) weighs by one, as supervised learning on good responses
            does.
        negative: (low, high) under a negative drive; (0, 1) lets a response that was unlearnt be.

    Source: TOPR (arXiv 2503.14286), these defaults. (0, 1) twice is truncated importance sampling.
    """

    of: SamplingGeometry = Advantage()
    positive: tuple[float, float] = (1.0, 1.0)
    negative: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        for name in ("positive", "negative"):
            low, high = getattr(self, name)
            if not (0 <= low <= high < math.inf):
                raise ValueError(
                    f"TaperedImportance({name}={(low, high)!r}): finite bounds of a ratio, 0 ≤ low ≤ high."
                )

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.drive(batch)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        ratio = numerics.exp(_responses(drive, batch, "anchor", type(self).__name__))
        weight = torch.where(drive > 0, ratio.clamp(*self.positive), ratio.clamp(*self.negative))
        return self.of.reweight(drive, log_ratio, batch) * weight

    @property
    def locality(self) -> Locality:
        return max(Locality.SEQUENCE, self.of.locality)

    def latex(self) -> str:
        (a, b), (c, d) = self.positive, self.negative
        taper = (
            rf"\operatorname{{clip}}\left(\frac{{\pi}}{{\pi_k}}(y_i),[{a:g},{b:g}]_{{g>0}},[{c:g},{d:g}]_{{g<0}}\right)"
        )
        return rf"\operatorname{{sg}}\left[{taper}\right]\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class GammaImportance(SamplingGeometry):
    """g · sg[W(w)], W(w) = w^k e^{λ(1−w)} with w = π(y)/π_k(y) of the whole response, and k, λ by the sign of g.

    A gamma density's shape, one at w = 1: it grows like w^k below and falls exponentially above, without a bound where
    the gradient stops.

    Args:
        of: the geometry whose drive is weighted.
        positive: (k, λ) under a drive that is not negative.
        negative: (k, λ) under a negative drive.

    Source: VESPO (arXiv 2602.10693). Trainers clamp Δ of tokens to ±20 and log w to [log 1e-8, 20]; here only
    e^w is kept from overflowing.
    """

    of: SamplingGeometry = Advantage()
    positive: tuple[float, float] = (2.0, 3.0)
    negative: tuple[float, float] = (3.0, 2.0)

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        for name in ("positive", "negative"):
            k, rate = getattr(self, name)
            if not (k >= 0 and rate > 0):
                raise ValueError(f"GammaImportance({name}={(k, rate)!r}): a shape k ≥ 0 and a rate λ > 0.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.drive(batch)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        log_w = _responses(drive, batch, "anchor", type(self).__name__)

        def weight(k: float, rate: float) -> Tensor:
            return torch.exp(k * log_w - rate * torch.expm1(log_w.clamp(max=numerics.limit(log_w.dtype))))

        return self.of.reweight(drive, log_ratio, batch) * torch.where(
            drive >= 0, weight(*self.positive), weight(*self.negative)
        )

    @property
    def locality(self) -> Locality:
        return max(Locality.SEQUENCE, self.of.locality)

    def latex(self) -> str:
        return rf"\operatorname{{sg}}\left[w_i^{{k}}e^{{\lambda(1-w_i)}}\right]\left({self.of.latex()}\right)"


def _shift_of_mass(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (torch.exp(log_p) - torch.exp(log_q)).abs()


def _binary_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL of the event {this token, any other} under the anchor q from the policy p, KL(q‖p)."""
    floor = torch.finfo(log_p.dtype).tiny
    p_other, q_other = (-torch.expm1(x) for x in (log_p, log_q))
    other = torch.special.xlogy(q_other, q_other.clamp(min=floor)) - torch.special.xlogy(
        q_other, p_other.clamp(min=floor)
    )
    return torch.exp(log_q) * (log_q - log_p) + other


_DIVERGENCES = {
    "tv": (_shift_of_mass, r"|\pi-\pi_k|"),
    "kl": (_binary_kl, r"\mathrm{KL}_2(\pi_k\|\pi)"),
}


@dataclasses.dataclass(frozen=True)
class DivergenceMask(SamplingGeometry):
    """g · sg[min(t, cap)], but 0 where the drive pushes a token further out and its binary divergence has passed a
    threshold.

    PPO's clip judges by the ratio t, and so stops rare tokens early and common ones late; this mask judges by how much
    probability moved: |π − π_k| ("tv"), or KL(π_k‖π) of the event {this token, any other} ("kl").

    Args:
        of: the geometry whose drive is weighted.
        divergence: "tv" or "kl".
        low: threshold where the token lost probability under a drive that is not positive, > 0.
        high: threshold where it gained probability under a positive drive, > 0.
        cap: upper bound of the importance weight; None for none.

    Source: DPPO (arXiv 2602.04879), the binary approximation; cap 20 as its code (and verl's) has it. verl
    adds 1e-8 inside the KL's logarithms.
    """

    of: SamplingGeometry = Advantage()
    divergence: str = "tv"
    low: float = 0.2
    high: float = 0.2
    cap: float | None = 20.0

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        if self.divergence not in _DIVERGENCES:
            raise ValueError(
                f"DivergenceMask(divergence={self.divergence!r}): choose one of {', '.join(map(repr, _DIVERGENCES))}."
            )
        if not (self.low > 0 and self.high > 0):
            raise ValueError(
                f"DivergenceMask(low={self.low!r}, high={self.high!r}): thresholds of a divergence are positive."
            )
        _is_cap(self, self.cap)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.drive(batch)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        log_p, log_q = (_as_drive(drive, batch, name, type(self).__name__) for name in ("policy", "anchor"))
        delta = log_p - log_q
        moved = _DIVERGENCES[self.divergence][0](log_p, log_q)
        kept = torch.where(drive > 0, (moved <= self.high) | (delta <= 0), (moved <= self.low) | (delta >= 0))
        weight = torch.exp(delta.clamp(max=numerics.limit(delta.dtype) if self.cap is None else math.log(self.cap)))
        return self.of.reweight(drive, log_ratio, batch) * torch.where(kept, weight, 0)

    @property
    def locality(self) -> Locality:
        return max(Locality.TOKEN, self.of.locality)

    def latex(self) -> str:
        cap = r"\infty" if self.cap is None else f"{self.cap:g}"
        mask = rf"1\left[{_DIVERGENCES[self.divergence][1]}\leq\delta\ \text{{or}}\ g(t-1)\leq 0\right]"
        return rf"\operatorname{{sg}}\left[\min(t,{cap})\,{mask}\right]\left({self.of.latex()}\right)"


@dataclasses.dataclass(frozen=True)
class Confidence(SamplingGeometry):
    """g · sg[w(y⁺)·w(y⁻)], w(y) = π(y)^{1/|y|}: pairs count as much as the policy would say them itself.

    Args:
        of: the geometry whose drive is weighted, of pairs.

    Source: WPO (arXiv 2406.11827) eq. 2, without its alignment: that divides each token's probability by Σ_v π(v)²,
    which sampled log-probabilities do not hold (TRL takes it from the logits).
    """

    of: SamplingGeometry = Label()

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.drive(batch)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        rows = batch.rows
        mean = rows.log_probs("policy", type(self).__name__).detach().sum(-1) / rows.support.sum(-1).clamp(min=1)
        chosen, rejected = mean.chunk(2)
        return self.of.reweight(drive, log_ratio, batch) * torch.exp((chosen + rejected).clamp(max=0))

    @property
    def locality(self) -> Locality:
        return max(Locality.GROUP, self.of.locality)

    def latex(self) -> str:
        return rf"\operatorname{{sg}}\left[\pi(y^+)^{{1/|y^+|}}\pi(y^-)^{{1/|y^-|}}\right]{self.of.latex()}"


@dataclasses.dataclass(frozen=True)
class ImportanceRatio(SamplingGeometry):
    """g = sg[π/π_k] of every token: the weight that turns an average over the rollout into one over the policy. Not a
    pull; for `Reweighted`.

    Args:
        cap: upper bound of the weight; None for none.
    """

    cap: float | None = None

    def __post_init__(self) -> None:
        _is_cap(self, self.cap)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return torch.ones(batch.size, dtype=batch.rows.dtype, device=batch.rows.policy.device)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        log_p, log_q = (_as_drive(drive, batch, name, type(self).__name__) for name in ("policy", "anchor"))
        ratio = numerics.exp(log_p - log_q)
        return drive * (ratio if self.cap is None else ratio.clamp(max=self.cap))

    @property
    def locality(self) -> Locality:
        return Locality.TOKEN

    @property
    def range(self) -> Interval:
        return Interval(0.0, math.inf if self.cap is None else self.cap)

    def latex(self) -> str:
        return r"\operatorname{sg}\left[\pi_\theta/\pi_k\right]"


@dataclasses.dataclass(frozen=True)
class LeashedReward(SamplingGeometry):
    """g = g₀ − beta·φ(Δ_ref): the leash in the reward instead of in the loss, a token or a response.

    The rollout policy's own log-ratio to the reference is used, once for a rollout. Under the score function the
    gradient of E_π[φ(Δ_ref)] is then exact for φ = Δ (k1) and, with the reward-to-go, for any φ.

    Args:
        of: the geometry whose drive g₀ is leashed.
        leash: φ, such as Linear() (k1), ChiSquare() (k2), ReverseKL() (k3).
        beta: strength, positive.
        unit: "response": φ of the response's summed Δ_ref; "token": φ of every token's; "return": the sum of φ over
            this and all later tokens.

    Source: Ziegler et al. 2019 (arXiv 1909.08593) eq. 2; Tang & Munos 2025 (arXiv 2506.09477) §4 for the sum over later
    tokens.
    """

    of: SamplingGeometry
    leash: BregmanGeometry
    beta: float = 0.05
    unit: str = "response"

    def __post_init__(self) -> None:
        _is_sampling(self, self.of)
        if not isinstance(self.leash, BregmanGeometry):
            raise ValueError(
                f"LeashedReward(leash={self.leash!r}): expected a BregmanGeometry instance such as Linear()."
            )
        if not self.beta > 0:
            raise ValueError(
                f"LeashedReward(beta={self.beta!r}): a strength is positive; without a leash use its `of` alone."
            )
        if self.unit not in ("response", "token", "return"):
            raise ValueError(f"LeashedReward(unit={self.unit!r}): choose one of 'response', 'token', 'return'.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        rows = batch.rows
        delta = rows.log_probs("anchor", type(self).__name__) - rows.log_probs("reference", type(self).__name__)
        if self.unit == "response":
            penalty = torch.where(rows.support.any(-1), self.leash.value(delta.sum(-1)), 0)
            return drive - self.beta * (penalty if drive.ndim == 1 else penalty[:, None])
        penalty = torch.where(rows.support, self.leash.value(delta), 0)
        if self.unit == "return":
            penalty = penalty.flip(-1).cumsum(-1).flip(-1)
        return torch.where(rows.support, (drive if drive.ndim == 2 else drive[:, None]) - self.beta * penalty, 0)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.reweight(drive, log_ratio, batch)

    @property
    def locality(self) -> Locality:
        return self.of.locality

    def latex(self) -> str:
        return rf"{self.of.latex()}-{self.beta:g}\,\varphi\left(\Delta^{{\mathrm{{ref}}}}\right)"
