"""Recipes with a quadratic potential, whose drive or stiffness is solved from the samples."""

from __future__ import annotations

from geomalign._util import check
from geomalign.chart import Chart, LogRatio, Ratio
from geomalign.objective import FenchelYoung, Objective
from geomalign.optimization import ChiSquare
from geomalign.recipes.shared import LENGTHS
from geomalign.sampling import (
    BoundedProjection,
    Escort,
    EscortESS,
    ExponentialAdvantage,
    GroupAdvantage,
    SignWeighted,
    TrustRegion,
)
from geomalign.unit import Sequence

__all__ = ["gopo", "mirror_descent", "opo", "opo_ess", "opo_trust_region", "w_gopo"]

_FORMS: dict[str, tuple[Chart, str]] = {"log": (LogRatio(), "mean"), "ratio": (Ratio(), "sum")}


def opo(
    alpha: float = 0.4,
    mu: float = 1.0,
    *,
    form: str = "log",
    normalize: str | None = None,
    temperature: float = 1.0,
    scaled: bool = False,
) -> Objective:
    """OPO, escort weights against a χ² potential: (1/N) Σ_i [ (μ/2) u_i² − (ω̃_α − 1) u_i ],  ω̃_α ∝
    exp((1−α)A/temperature) of mean one in the group.

    Args:
        alpha: escort parameter in [0, 1]; 1 is uniform, 0 target-driven.
        mu: stiffness, > 0.
        form: "log", u = Δ, as trained; "ratio", u = t − 1, as derived.
        normalize: "mean" (Δ is an average over the response's tokens) or "sum". None: "mean" for log, "sum" for ratio.
            Against a sum the same μ is |y|² times as stiff.
        temperature: of the target, > 0, in units of the advantage.
        scaled: divide the drive by 1 − α, so that α → 1 is the centred advantage.

    The drive comes from the batch's `advantage` where there is one, else its `reward`.

    Source: Wang 2026 (OPO, arXiv 2601.12415), the surrogate, with the defaults of its experiments. Algorithm 1 as
    printed takes ω̃ = exp((1−α)A)·sg π_k^{−(1−α)} of whole responses and does not divide it by its mean, so that its
    step grows with their improbability. `Escort(alpha, inverse_probability=True)` has the factor.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.opo(alpha=0.4, mu=1.0)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # three responses to one prompt, with the advantages −0.74, −0.03 and 0.81
    tensor([-0.4083, -0.0907,  0.4990], dtype=torch.float64)
    """
    chart, length = check.choose("opo", "form", form, _FORMS)
    return Objective(
        unit=check.choose("opo", "normalize", normalize or length, LENGTHS),
        chart=chart,
        sampling=Escort(alpha, temperature, scaled=scaled),
        optimization=ChiSquare(mu),
    )


def gopo(mu: float = 0.5, *, scale_rewards: str = "none", bounded: bool = True) -> Objective:
    """GOPO, a projected advantage against a χ² potential: (1/N) Σ_i [ (μ/2) v_i² − μ v*_i v_i ],  v* = max(−1, (A −
    λ)/μ) with Σ v* = 0 in the group.

    Args:
        mu: stiffness, > 0.
        scale_rewards: what A is divided by before the projection: "none", or the standard deviation of the "group" or
            "batch".
        bounded: whether the target is kept at v* ≥ −1; without, v* = A/μ.

    Source: GOPO (arXiv 2602.21269); the projection is solved exactly instead of by bisection. The author's code reads
    the log-ratio's mean over tokens, clamped at ±5; here it is that of the response.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.gopo(mu=0.5)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]] / 0.5  # v* of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.2639, -1.0000,  0.7361], dtype=torch.float64)
    """
    check.boolean("gopo", bounded=bounded)
    advantage = GroupAdvantage(scale=scale_rewards)
    return Objective(
        unit=Sequence(),
        chart=Ratio(),
        sampling=BoundedProjection(advantage, mu) if bounded else advantage,
        optimization=ChiSquare(mu),
    )


def mirror_descent(tau: float = 1.0, normalize: str = "sum") -> Objective:
    """The log form of OPO with the plain advantage as drive: (1/N) Σ_i [ (τ/2) Δ_i² − (r_i − r̄) Δ_i ].

    Args:
        tau: strength of the quadratic penalty, > 0.
        normalize: "sum" (published) or "mean" over the response's tokens.

    Source: Kimi k1.5 (arXiv 2501.12599) §2.3.2, without the constant of its squared form. Also MDPO, DRO.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.mirror_descent(tau=1.0)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.4707, -1.1775,  0.7068], dtype=torch.float64)
    """
    return Objective(
        unit=check.choose("mirror_descent", "normalize", normalize, LENGTHS),
        chart=LogRatio(),
        sampling=GroupAdvantage(),
        optimization=ChiSquare(tau),
    )


def w_gopo(alpha: float = 0.5, mu: float = 0.5, *, scale: float = 1.0, bounded: bool = True) -> Objective:
    """W-GOPO, the squared distance from a target that a squashed advantage Ā sets: (1/N) Σ_i (v_i − v*_i)², v* =
    max(−1, (g − λ)/μ) with Σ v* = 0 in the group, g = (1−α)Ā + αĀe^Ā centred.

    The curvature is 2 whatever μ is.

    Args:
        alpha: in [0, 1].
        mu: divides the target, > 0.
        scale: at which the advantage is squashed, scale·tanh((r − mean)/scale), > 0.
        bounded: whether the target is kept at v* ≥ −1.

    Source: W-GOPO, the later form of GOPO (arXiv 2602.21269), eq. 11 and 17–19 of the author's LaTeX. The author's code
    has μ/2 of this loss, and clamps a log-ratio per token at ±5.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.w_gopo(mu=0.5)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]] / 2  # v* of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.2213, -1.0000,  0.7787], dtype=torch.float64)
    """
    check.positive("w_gopo", mu=mu)
    check.boolean("w_gopo", bounded=bounded)
    doubled = SignWeighted(ExponentialAdvantage(alpha, scale=scale), positive=2 / mu, negative=2 / mu)
    return Objective(
        unit=Sequence(),
        chart=Ratio(),
        sampling=BoundedProjection(doubled, 2.0) if bounded else doubled,
        optimization=ChiSquare(2.0),
        offset=FenchelYoung(),
    )


def opo_trust_region(
    epsilon: float = 0.05,
    *,
    geometry: str = "kl",
    within: str = "batch",
    normalize: str = "sum",
    ess: float | None = None,
    temperature: float = 0.1,
) -> Objective:
    """OPO with μ solved: (1/N) Σ_i [ u_i²/2 − u*_i u_i ],  u* the best step within a radius ε of the old policy.

    μ is the multiplier of the constraint, solved for every rollout. The scale of the rewards drops out.

    Args:
        epsilon: the radius, > 0: of KL(π*‖π_k) in nats, or of E[(t−1)²].
        geometry: "kl": u = Δ, u* = (A − λ)/μ, the Gibbs policy. "chi2": u = t − 1, u* = (A − Ā)/μ with μ = ‖A − Ā‖/√ε.
        within: "batch": one μ, so that the radius holds on average over responses. "group": one μ per prompt.
        normalize: "sum": t is the response's probability ratio, and the equilibrium exactly the target policy. "mean":
            the geometric mean of its tokens' ratios takes its place.
        ess: solve α too: follow the escort weights of this effective sample size, in (0, 1], instead of r − mean.
        temperature: of the escort's target policy at α = 0, > 0, in units of the reward.

    Source: the duality of OPO (arXiv 2601.12415); for KL, REPS (Peters et al. 2010).

    >>> import geomalign as ga
    >>> outcome = ga.recipes.opo_trust_region(epsilon=0.05, geometry="chi2")(ga.laws.sample_batch())
    >>> round((outcome.drive[outcome.support] ** 2).mean().item(), 6)  # E[(t* − 1)²] is the radius
    0.05
    """
    check.number("opo_trust_region", temperature=temperature)
    regions = {
        "kl": (LogRatio(), {"kl": epsilon}),
        "chi2": (Ratio(), {"chi2": epsilon}),
    }
    chart, radius = check.choose("opo_trust_region", "geometry", geometry, regions)
    drive = GroupAdvantage() if ess is None else EscortESS(ess, temperature)
    return Objective(
        unit=check.choose("opo_trust_region", "normalize", normalize, LENGTHS),
        chart=chart,
        sampling=TrustRegion(drive, within=within, **radius),  # type: ignore[arg-type]
        optimization=ChiSquare(1.0),
    )


def opo_ess(
    target: float = 0.5, mu: float = 10.0, *, temperature: float = 0.1, scaled: bool = False, normalize: str = "mean"
) -> Objective:
    """OPO's log form with α solved, for every rollout, from the effective sample size of its escort weights: (1/N) Σ_i
    [ (μ/2) Δ_i² − (ω̃_α − 1) Δ_i ].

    Args:
        target: effective share of the samples, in (0, 1], an average over groups by rows. In one group it fixes the
            drive's variance, 1/target − 1.
        mu: stiffness, > 0. `opo_trust_region(ess=…)` solves it as well.
        temperature: of the target policy at α = 0, > 0, in units of the advantage: how far α can go.
        scaled: divide the drive by 1 − α.
        normalize: "mean" over the response's tokens, or "sum".

    Source: OPO (arXiv 2601.12415), with the effective sample size of Kish 1965.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.opo_ess(target=0.5)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]] + 1  # escort weights of responses with the advantages −0.74, −0.03 and 0.81
    tensor([0.0244, 0.2172, 2.7583], dtype=torch.float64)
    """
    return Objective(
        unit=check.choose("opo_ess", "normalize", normalize, LENGTHS),
        chart=LogRatio(),
        sampling=EscortESS(target, temperature, scaled=scaled),
        optimization=ChiSquare(mu),
    )
