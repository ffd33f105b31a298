"""Recipes whose stiffness or sampling parameter is solved instead of tuned."""

from __future__ import annotations

from geomalign.chart import LogRatio, Ratio
from geomalign.divergences import KullbackLeibler
from geomalign.objective import Objective
from geomalign.optimization import ChiSquare
from geomalign.recipes.shared import LENGTHS, choose
from geomalign.sampling import GroupAdvantage
from geomalign.trust_region import Annealed, Controlled, DualAscent, EscortESS, GeometricSchedule, TrustRegion

__all__ = ["opo_annealed", "opo_ess", "opo_held", "opo_trust_region"]


def opo_trust_region(
    epsilon: float = 0.05,
    geometry: str = "kl",
    within: str = "batch",
    normalize: str = "sum",
    ess: float | None = None,
    temperature: float = 0.1,
) -> Objective:
    """(1/N) Σ_i [ u_i²/2 − u*_i u_i ],  u* the best step within a radius ε of the rollout policy.

    OPO without μ: it is the multiplier of the constraint, solved for every rollout. The scale of the rewards drops out.

    Args:
        epsilon: the radius, positive: of KL(π*‖π_k) in nats, or of E[(t−1)²].
        geometry: "kl": u = Δ, u* = (A − λ)/μ, the Gibbs policy. "chi2": u = t − 1, u* = (A − Ā)/μ with
            μ = ‖A − Ā‖/√ε.
        within: "batch": one μ, the radius holds on average over responses. "group": one μ a prompt.
        normalize: "sum": t is the response's probability ratio, and the equilibrium exactly the target policy. "mean":
            the geometric mean of its tokens' ratios takes its place.
        ess: solve α too: follow the escort weights of this effective sample size, in (0, 1], instead of r − mean.
        temperature: of the escort's target policy at α = 0, in units of the reward.

    Source: the duality of OPO (arXiv 2601.12415); for KL, REPS (Peters et al. 2010).
    """
    regions = {
        "kl": (LogRatio(), {"kl": epsilon}),
        "chi2": (Ratio(), {"chi2": epsilon}),
    }
    chart, radius = choose("opo_trust_region", "geometry", geometry, regions)
    drive = GroupAdvantage() if ess is None else EscortESS(ess, temperature)
    return Objective(
        unit=choose("opo_trust_region", "normalize", normalize, LENGTHS),
        chart=chart,
        sampling=TrustRegion(drive, within=within, **radius),  # type: ignore[arg-type]
        optimization=ChiSquare(1.0),
    )


def opo_ess(
    target: float = 0.5, mu: float = 10.0, temperature: float = 0.1, scaled: bool = False, normalize: str = "mean"
) -> Objective:
    """OPO's log form with α solved, for every rollout, from the effective sample size of its escort weights.

    Args:
        target: effective share of the samples, in (0, 1]. It fixes the drive's variance, 1/target − 1.
        mu: stiffness, positive. `opo_trust_region(ess=…)` solves it as well.
        temperature: of the target policy at α = 0, in units of the reward: how far α can go.
        scaled: divide the drive by 1 − α.
        normalize: "mean" over the response's tokens, or "sum".

    Source: OPO (arXiv 2601.12415), with the effective sample size of Kish 1965.
    """
    return Objective(
        unit=choose("opo_ess", "normalize", normalize, LENGTHS),
        chart=LogRatio(),
        sampling=EscortESS(target, temperature, scaled=scaled),
        optimization=ChiSquare(mu),
    )


def _plain(normalize: str, recipe: str) -> Objective:
    return Objective(
        unit=choose(recipe, "normalize", normalize, LENGTHS),
        chart=LogRatio(),
        sampling=GroupAdvantage(),
        optimization=ChiSquare(1.0),
    )


def opo_held(target: float = 0.02, rate: float = 0.2, mu: float = 1.0, normalize: str = "sum") -> Controlled:
    """OPO's log form whose μ follows the measured KL: dual ascent keeps the policy, not its target, at the radius.

    Args:
        target: of the KL(π‖π_k) that the updates of a rollout see on average, in nats (a response, or with
            normalize="mean" a token).
        rate: of dual ascent; one rollout changes μ by at most e^{rate}.
        mu: the stiffness to begin with.
        normalize: "sum" or "mean" over the response's tokens.

    Every call makes a controller of its own: one objective a run.
    """
    controller = DualAscent(target, KullbackLeibler(), rate=rate, initial=mu)
    return Controlled(_plain(normalize, "opo_held"), controller)


def opo_annealed(start: float = 1.0, stop: float = 10.0, rollouts: int = 100, normalize: str = "sum") -> Controlled:
    """OPO's log form whose μ goes geometrically from start to stop over a number of rollouts.

    Args:
        start, stop: stiffness at the first and the last rollout, positive.
        rollouts: how many, at least 1.
        normalize: "sum" or "mean" over the response's tokens.
    """
    return Controlled(_plain(normalize, "opo_annealed"), Annealed(GeometricSchedule(start, stop), rollouts))
