"""Recipes for sampled responses with rewards: policy-gradient methods and the two OPO forms."""

from __future__ import annotations

from geomalign.chart import Chart, LogRatio, Ratio
from geomalign.constant import Surrogate
from geomalign.measure import FixedBudget, NestedMean, PooledMean
from geomalign.objective import BaseObjective, Objective
from geomalign.optimization import KL, ChiSquare, Clip, Flat, ReverseKL
from geomalign.recipes.shared import LENGTHS, check_weight, choose
from geomalign.sampling import Advantage, BoundedProjection, Escort, GroupAdvantage, Label
from geomalign.unit import MeanSequence, Sequence, Token

__all__ = ["dapo", "dr_grpo", "gopo", "grpo", "gspo", "mirror_descent", "opo", "ppo", "reinforce", "rloo"]

_FORMS: dict[str, tuple[Chart, str]] = {"log": (LogRatio(), "mean"), "ratio": (Ratio(), "sum")}


def reinforce() -> Objective:
    """−A log π(y): the score-function gradient, nothing resists.

    Drive: the batch's `advantage`, or its `reward`. Source: Williams 1992.
    """
    return Objective(unit=Sequence(), chart=LogRatio(), sampling=Advantage(), optimization=Flat(), anchor=None)


def rloo() -> Objective:
    """REINFORCE with the mean reward of the *other* responses to the prompt as baseline.

    Source: Ahmadian et al. 2024 (arXiv 2402.14740) eq. 6, the sequence form without its KL reward.
    """
    return Objective(
        unit=Sequence(),
        chart=LogRatio(),
        sampling=GroupAdvantage(baseline="leave_one_out"),
        optimization=Flat(),
        anchor=None,
    )


def _leash() -> Objective:
    """The k3 estimate of KL(π‖π_ref) a token, to be weighted by β."""
    return Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=Label(0.0),
        optimization=ReverseKL(1.0),
        measure=NestedMean(),
        anchor="reference",
    )


def ppo(
    epsilon: float | None = 0.2, epsilon_high: float | None = None, beta: float = 0.0, dual_clip: float | None = None
) -> Objective:
    """−min(tA, clip(t, 1−ε, 1+ε_high)A) + β (t log t − t + 1), a token, averaged over all tokens.

    Args:
        epsilon: clip range below; None: no clip.
        epsilon_high: clip range above; `epsilon` where None.
        beta: strength of the KL penalty to the rollout policy, 0 for none. With epsilon=None the KL-penalty form
            of the paper.
        dual_clip: bound of the ratio under a negative advantage, such as 3.

    Drive: the batch's `advantage` `(row,)` or `(row, token)`, or its `reward`. The paper's penalty is the exact
        KL at every state; here it is
    the sampled, non-negative form t log t − t + 1, whose expectation under the rollout policy is KL(π‖π_old).

    Source: Schulman et al. 2017 (arXiv 1707.06347) eq. 7 and 8; dual clip: Ye et al. 2020 (arXiv 1912.09729) eq. 5.
    """
    if epsilon is None and (epsilon_high is not None or dual_clip is not None):
        raise ValueError(
            f"ppo(epsilon=None, epsilon_high={epsilon_high!r}, dual_clip={dual_clip!r}): epsilon=None is no clip at "
            "all, on neither side; give the three together."
        )
    optimization = (
        Flat() if epsilon is None else Clip(epsilon, epsilon if epsilon_high is None else epsilon_high, dual_clip)
    )
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=Advantage(),
        optimization=optimization + KL(beta) if beta else optimization,
        measure=PooledMean(),
        constant=Surrogate(),
    )


def grpo(
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    beta: float = 0.0,
    scale_rewards: str = "group",
    std_epsilon: float = 1e-6,
) -> BaseObjective:
    """(1/N) Σ_i (1/|y_i|) Σ_t [ −min(tA, clip(t)A) + β (e^{−Δ_ref} + Δ_ref − 1) ],  A = (r − mean)/std in the group.

    Args:
        epsilon: clip range below.
        epsilon_high: clip range above; `epsilon` where None.
        beta: strength of the k3 leash to the reference, ≥ 0; 0 (not the paper's 0.04, as trainers do today) needs no
            reference.
        scale_rewards: "group", "batch" or "none".
        std_epsilon: added to the standard deviation; 0 in the paper, 1e-4 in TRL.

    Source: Shao et al. 2024 (DeepSeekMath, arXiv 2402.03300) eq. 3–4.
    """
    check_weight("grpo", beta=beta)
    surrogate = Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale=scale_rewards, epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=NestedMean(),
        constant=Surrogate(),
    )
    return surrogate + beta * _leash() if beta else surrogate


def dr_grpo(epsilon: float = 0.2, epsilon_high: float | None = None, length: float = 256) -> Objective:
    """GRPO without its length and difficulty biases: a constant divisor a response, and A = r − mean.

    Args:
        epsilon: clip range below.
        epsilon_high: clip range above; `epsilon` where None.
        length: the generation limit in tokens, by which every response's sum is divided (256 is TRL's default limit).

    Source: Liu et al. 2025 (arXiv 2503.20783) §3.2.
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=FixedBudget(length),
        constant=Surrogate(),
    )


def dapo(epsilon: float = 0.2, epsilon_high: float = 0.28, std_epsilon: float = 1e-6) -> Objective:
    """(1/Σ|y_i|) Σ_i Σ_t −min(tA, clip(t, 1−ε, 1+ε_high)A),  A = (r − mean)/std: the loss of DAPO.

    Its dynamic sampling and overlong reward shaping act on the batch, not on the loss.

    Args:
        epsilon: clip range below.
        epsilon_high: clip range above.
        std_epsilon: added to the standard deviation; 0 in the paper.

    Source: Yu et al. 2025 (arXiv 2503.14476) eq. 8–9 and 12.
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon_high),
        measure=PooledMean(),
        constant=Surrogate(),
    )


def gspo(epsilon: float = 3e-4, epsilon_high: float = 4e-4, std_epsilon: float = 1e-6) -> Objective:
    """(1/N) Σ_i −min(s_i A_i, clip(s_i) A_i),  s_i = (π(y_i)/π_old(y_i))^{1/|y_i|}.

    Args:
        epsilon: clip range below, of the length-normalised ratio; the paper's 3e-4.
        epsilon_high: clip range above; the paper's 4e-4.
        std_epsilon: added to the standard deviation; 0 in the paper.

    Source: Zheng et al. 2025 (arXiv 2507.18071) eq. 5–7.
    """
    return Objective(
        unit=MeanSequence(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon_high),
        measure=PooledMean(),
        constant=Surrogate(),
    )


def opo(
    alpha: float = 0.4,
    mu: float = 1.0,
    form: str = "log",
    normalize: str | None = None,
    temperature: float = 1.0,
    scaled: bool = False,
) -> Objective:
    """(1/N) Σ_i [ (μ/2) u_i² − (ω̃_α − 1) u_i ],  ω̃_α ∝ exp((1−α)A/temperature) of mean one in the group.

    Args:
        alpha: escort parameter in [0, 1]; 1 is uniform, 0 target-driven.
        mu: stiffness, positive.
        form: "log", u = Δ, as trained; "ratio", u = t − 1, as derived.
        normalize: "mean" (Δ an average over the response's tokens) or "sum". None: "mean" for log, "sum" for ratio. μ
            means different things in the two: against a sum it is |y|² times as stiff.
        temperature: of the target.
        scaled: divide the drive by 1 − α, so that α → 1 is the centred advantage.

    Drive from the batch's `advantage` where there is one, else its `reward`.

    Source: Wang 2026 (OPO, arXiv 2601.12415), defaults of its experiments.
    """
    chart, length = choose("opo", "form", form, _FORMS)
    return Objective(
        unit=choose("opo", "normalize", normalize or length, LENGTHS),
        chart=chart,
        sampling=Escort(alpha, temperature, scaled=scaled),
        optimization=ChiSquare(mu),
    )


def gopo(mu: float = 0.5, scale_rewards: str = "none", bounded: bool = True) -> Objective:
    """(1/N) Σ_i [ (μ/2) v_i² − μ v*_i v_i ],  v* = max(−1, (A − λ)/μ) with Σ v* = 0 in the group.

    Args:
        mu: stiffness, positive.
        scale_rewards: "none", "group" or "batch": what A is divided by before the projection.
        bounded: whether the target is kept at v* ≥ −1; without, v* = A/μ.

    Source: GOPO (arXiv 2602.21269); the projection is solved exactly instead of by bisection.
    """
    advantage = GroupAdvantage(scale=scale_rewards)
    return Objective(
        unit=Sequence(),
        chart=Ratio(),
        sampling=BoundedProjection(advantage, mu) if bounded else advantage,
        optimization=ChiSquare(mu),
    )


def mirror_descent(tau: float = 1.0, normalize: str = "sum") -> Objective:
    """(1/N) Σ_i [ (τ/2) Δ_i² − (r_i − r̄) Δ_i ]: the log form of OPO with the plain advantage as drive.

    Args:
        tau: strength of the quadratic penalty, positive.
        normalize: "sum" (published) or "mean" over the response's tokens.

    Source: Kimi k1.5 (arXiv 2501.12599) §2.3.2; the constant of its squared form is not part of the value. Also
        MDPO, DRO.
    """
    return Objective(
        unit=choose("mirror_descent", "normalize", normalize, LENGTHS),
        chart=LogRatio(),
        sampling=GroupAdvantage(),
        optimization=ChiSquare(tau),
    )
