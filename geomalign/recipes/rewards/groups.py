"""Recipes whose potential couples the responses to one prompt: a target on their simplex, a classification, a ranking.

In a group of n responses p_i ∝ e^{u_i} and q_i are a policy and a target that sum to one. An average over responses of
n(p_i − q_i) is the average over prompts of p − q where all groups have one size; else a prompt counts by its responses.
"""

from __future__ import annotations

from geomalign._util import check
from geomalign.chart import LogRatio
from geomalign.divergences import CressieRead, Divergence, PearsonChiSquare
from geomalign.objective import BaseObjective, FenchelYoung, Objective
from geomalign.optimization import GroupPotential, OptimizationGeometry
from geomalign.optimization.listwise import GroupContrast, GroupReverseKL, PlackettLuce
from geomalign.recipes.shared import LENGTHS
from geomalign.sampling import GroupAdvantage, GroupTarget, SignLabel
from geomalign.unit import MeanSequence, Sequence

__all__ = ["adpo", "info_nca", "lpo", "plackett_luce", "real", "sparse_lpo", "tpo"]


def tpo(eta: float = 1.0, *, normalize: str = "sum") -> Objective:
    """Target Policy Optimization: (1/N) Σ_G n KL(q‖p),  p = softmax(log π) and q ∝ π_old e^{z/η} in the group, z = (r −
    r̄)/σ with the population's σ.

    Args:
        eta: temperature of the target, > 0.
        normalize: "sum": log π of whole responses (published), of which a softmax is close to one-hot. "mean": averages
            over their tokens.

    Source: Kaddour 2026 (TPO, arXiv 2604.06159) eq. 1–3 and appendix A, η = 1. Its value is KL(q‖p), that of the
    published cross-entropy less the entropy of q.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.tpo(normalize="mean")(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # n·q − 1 of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([-0.2157, -0.7396,  0.9553], dtype=torch.float64)
    """
    unit = check.choose("tpo", "normalize", normalize, LENGTHS)
    return Objective(
        unit=unit,
        chart=LogRatio(),
        sampling=GroupTarget(GroupAdvantage(scale="group", ddof=0, epsilon=0.0), temperature=eta, prior=normalize),
        optimization=GroupPotential(),
        anchor=None,
        offset=FenchelYoung(),
    )


_DIRECTIONS: dict[str, tuple[OptimizationGeometry, FenchelYoung]] = {
    "forward": (GroupPotential(), FenchelYoung()),
    "reverse": (GroupReverseKL(), FenchelYoung()),
}


def lpo(
    tau: float = 1.0, direction: str = "forward", *, scale_rewards: str = "none", normalize: str = "mean"
) -> Objective:
    """Listwise Policy Optimization, a projection on the simplex of the responses to one prompt: (1/N) Σ_G n KL(w‖p) or
    (1/N) Σ_G n KL(p‖w),  p = softmax(Δ), w = softmax(A/τ) in the group.

    Args:
        tau: temperature of the target, > 0, in units of the advantage.
        direction: "forward": KL(w‖p), whose gradient n(p − w) is bounded. "reverse": KL(p‖w), not convex in Δ.
        scale_rewards: what A = r − r̄ is divided by: "none" (the target of Dr. GRPO), or the standard deviation of the
            "group" (that of GRPO) or "batch".
        normalize: "mean": Δ is an average over the response's tokens (published); "sum": that of whole responses.

    At the anchor the forward gradient is that of GRPO to first order in 1/τ, the reverse one exactly.

    Source: Qu et al. 2026 (LPO, arXiv 2605.06139) eq. 3, 4, 8, 10 and 11, on policy, where the pre-update policy is the
    one that sampled.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.lpo(tau=0.5)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # n·w − 1 of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.1362, -0.9579,  0.8217], dtype=torch.float64)
    """
    optimization, offset = check.choose("lpo", "direction", direction, _DIRECTIONS)
    return Objective(
        unit=check.choose("lpo", "normalize", normalize, LENGTHS),
        chart=LogRatio(),
        sampling=GroupTarget(GroupAdvantage(scale=scale_rewards), temperature=tau),
        optimization=optimization,
        offset=offset,
    )


_ORDERS: dict[str, Divergence] = {"sparsemax": PearsonChiSquare(), "entmax": CressieRead(1.5)}


def sparse_lpo(tau: float = 1.0, mu: float = 1.0, *, mapping: str = "entmax", normalize: str = "mean") -> Objective:
    """LPO with a sparse target and a sparse policy over the group: (1/N) Σ_G n μ[Ω(q) + Ω*(Δ/μ)] − ⟨q, Δ⟩, q the
    sparsemax or entmax of (r − r̄)/τ.

    Responses below the support of both get no gradient at all. With the KL in the place of Ω it is LPO's forward
    projection.

    Args:
        tau: temperature of the target, > 0, in units of the reward: at "sparsemax" poor responses have no
            target.
        mu: temperature of the policy over the group, > 0, in nats.
        mapping: "entmax" (of order 1.5, smooth) or "sparsemax" (piecewise linear).
        normalize: "sum" or "mean" of Δ over the response's tokens.

    Source: this library's, from LPO (arXiv 2605.06139) and Fenchel–Young losses (Blondel, Martins and Niculae 2020).

    >>> import geomalign as ga
    >>> outcome = ga.recipes.sparse_lpo(mapping="sparsemax")(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # n·q − 1 of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.3820, -1.0000,  0.6180], dtype=torch.float64)
    """
    divergence = check.choose("sparse_lpo", "mapping", mapping, _ORDERS)
    return Objective(
        unit=check.choose("sparse_lpo", "normalize", normalize, LENGTHS),
        chart=LogRatio(),
        sampling=GroupTarget(divergence=divergence, temperature=tau),
        optimization=GroupPotential(divergence, mu),
        offset=FenchelYoung(),
    )


def real(tau: float = 0.5, *, mixed: bool = True) -> Objective:
    """REAL, rewards as labels: (1/N) Σ_G n [log(1 + Σ₊ e^{−Δ̄/τ}) + log(1 + Σ₋ e^{Δ̄/τ})], Δ̄ the mean log-ratio, the
    sums over the group's responses with r > 0 and with r ≤ 0.

    Args:
        tau: temperature, > 0, in nats per token.
        mixed: whether a group of one kind is left out, as in the authors' code; else it has the gradient of its kind.

    Source: Zhai et al. 2026 (REAL, arXiv 2602.05630), with the figures of its code. ms-swift labels by the sign of the
    advantage.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.real()(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # the labels of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 1., -1.,  1.], dtype=torch.float64)
    """
    return Objective(
        unit=MeanSequence(), chart=LogRatio(), sampling=SignLabel(mixed=mixed), optimization=GroupContrast(tau)
    )


def info_nca(beta: float = 0.01, alpha: float = 1e-4) -> Objective:
    """InfoNCA, a noise-contrastive loss of graded responses: (1/N) Σ_G n KL(q‖p),  p = softmax(βΔ_ref), q =
    softmax(r/α) in the group.

    Args:
        beta: scale of the log-ratio, > 0.
        alpha: temperature of the rewards, > 0, in their units; at the default the target is one-hot, up to ties.

    Of two responses and α → 0 it is DPO.

    Source: Chen et al. 2024 (InfoNCA, arXiv 2402.05369), as in the authors' code, with its β and its α, whose
    reciprocal, says that code, is the paper's. The code adds 0.01 to the first response's reward, so that ties are
    broken.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.info_nca(beta=0.1, alpha=1.0)(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # n·q − 1 of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.2202, -0.7653,  0.5451], dtype=torch.float64)
    """
    return Objective(
        unit=Sequence(),
        chart=LogRatio(scale=beta),
        sampling=GroupTarget(temperature=alpha),
        optimization=GroupPotential(),
        anchor="reference",
        offset=FenchelYoung(),
    )


def adpo(tau: float = 0.8, beta_reward: float = 0.5, *, std_epsilon: float = 1e-8) -> Objective:
    """Anchored Direct Preference Optimization, listwise: (1/N) Σ_G n KL(q‖p),  p = softmax(Δ/τ), q = softmax(z/β_r) in
    the group, z = (r − r̄)/std.

    Args:
        tau: temperature of the policy over the group, > 0, in nats.
        beta_reward: temperature of the target, > 0.
        std_epsilon: added to the standard deviation, ≥ 0.

    Source: Wang 2025 (ADPO, arXiv 2510.18913), as in the author's code for verl, with its adaptive temperature off and
    on policy, where the anchor is π_old.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.adpo()(ga.laws.sample_batch())
    >>> outcome.drive[[0, 2, 6]]  # n·q − 1 of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.1432, -0.9539,  0.8107], dtype=torch.float64)
    """
    check.positive("adpo", "a temperature in nats", tau=tau)
    return Objective(
        unit=Sequence(),
        chart=LogRatio(scale=1 / tau),
        sampling=GroupTarget(GroupAdvantage(scale="group", epsilon=std_epsilon), temperature=beta_reward),
        optimization=GroupPotential(),
        offset=FenchelYoung(),
    )


def plackett_luce(beta: float = 0.1) -> BaseObjective:
    """DPO for rankings: −(1/N) Σ_G n log Π_k [e^{βΔ_(k)} / Σ_{j ≥ k} e^{βΔ_(j)}], (1), …, (n) the responses of a group
    in the order of falling rewards, Δ from the reference.

    Args:
        beta: scale of the log-ratio, > 0.

    Of two responses it is DPO. Equal rewards keep the order of the rows.

    Source: Rafailov et al. 2023 (DPO, arXiv 2305.18290) appendix A.3.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.plackett_luce()(ga.laws.sample_batch())
    >>> outcome.force[[0, 2, 6]]  # 3 ∂/∂(βΔ) of three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([-0.5653,  2.5054, -1.9401], dtype=torch.float64)
    """
    return Objective(
        unit=Sequence(),
        chart=LogRatio(scale=beta),
        sampling=GroupAdvantage(),
        optimization=PlackettLuce(),
        anchor="reference",
    )
