"""Recipes that tell right responses from wrong ones: by their scores, in pairs, or by a policy of the failures."""

from __future__ import annotations

from geomalign._util import check
from geomalign.chart import LogRatio
from geomalign.measure import PooledMean, PromptMean
from geomalign.objective import BaseObjective, Objective
from geomalign.optimization import Flat, GroupDiscrimination, GroupPairs, ImplicitNegative, VariationalBound
from geomalign.recipes.rewards.ppo import grpo
from geomalign.sampling import GroupAdvantage, KLViolation, SignLabel
from geomalign.unit import MeanSequence, Sequence, Token

__all__ = ["amir_grpo", "disco", "f_grpo", "nft"]


def disco(tau: float | None = 10.0, delta: float = 1e-4, beta: float = 1e3) -> BaseObjective:
    """DisCO, scores of right and wrong responses under a constraint: (1/N) Σ_G n [τ log mean₋ e^{s/τ} − mean₊ s] +
    β/2·max(KL − δ, 0)²,  s the mean log π of a response's tokens, the means over its group's responses with r > 0 and
    with r ≤ 0.

    A group of one kind has no gradient in the first term. KL = −(1/Σ|y_i|) Σ_i Σ_t Δ estimates KL(π_old‖π) of a token;
    it belongs to the whole batch, whose parts cannot be evaluated apart. The value printed is [KL − δ]₊β·KL, without
    gradient through its first factor.

    Args:
        tau: temperature, > 0, in nats per token, at which wrong responses with a high score weigh more; None: all weigh
            the same (DisCO-b).
        delta: limit of the divergence, ≥ 0, in nats per token.
        beta: stiffness of the constraint, > 0.

    Source: Li et al. 2025 (DisCO, arXiv 2505.12366), with the log-likelihood as the score and the figures of its
    scripts. The likelihood ratio as the score is left out: a response's coordinate is read from its log-ratio, and the
    mean of ratios is no function of that.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.disco()(ga.laws.sample_batch())
    >>> outcome.terms[0].force[[0, 2, 6]]  # three responses to one prompt, with the rewards 0.70, −0.95 and 0.93
    tensor([-1.5000,  3.0000, -1.5000], dtype=torch.float64)
    """
    scores = Objective(
        unit=MeanSequence(),
        chart=LogRatio(),
        sampling=SignLabel(mixed=True),
        optimization=GroupDiscrimination(tau),
        anchor=None,
    )
    return scores + Objective(
        unit=Token(), chart=LogRatio(), sampling=KLViolation(delta, beta), optimization=Flat(), measure=PooledMean()
    )


def amir_grpo(
    lambda_: float = 0.01, beta: float = 0.2, margin: float = 0.0, *, reference: bool = False, epsilon: float = 0.2
) -> BaseObjective:
    """AMIR-GRPO, GRPO with DPO on the pairs of a group: L_GRPO − λ (1/N) Σ_G n mean log σ(β(u_i − u_j)) over the pairs
    with r_i − r_j > δ,  u = log π of whole responses, or their log-ratio from the reference.

    Args:
        lambda_: weight of the pairs, ≥ 0.
        beta: inverse temperature, > 0, per nat.
        margin: δ, by how much the rewards of a pair must differ, ≥ 0. The authors take 2 for their rewards of several
            points.
        reference: whether u is measured from the reference policy; the authors' command is without.
        epsilon: clip range of GRPO, ≥ 0.

    Source: Yari and Koto 2026 (AMIR-GRPO, arXiv 2601.03661) and its code, which averages over the pairs of the whole
    batch, where groups here weigh by their responses.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.amir_grpo()(ga.laws.sample_batch())
    >>> outcome.terms[1].force[[0, 2, 6]] / 0.2  # of responses with the rewards 0.70, −0.95 and 0.93
    tensor([ 0.0056,  1.1500, -1.1556], dtype=torch.float64)
    """
    check.non_negative("amir_grpo", lambda_=lambda_)
    check.boolean("amir_grpo", reference=reference)
    pairs = Objective(
        unit=Sequence(),
        chart=LogRatio(),
        sampling=GroupAdvantage(),
        optimization=GroupPairs(beta, margin),
        anchor="reference" if reference else None,
    )
    return grpo(epsilon) + lambda_ * pairs


_WEIGHTS: dict[str, tuple[GroupAdvantage, bool]] = {
    "dr_grpo": (GroupAdvantage(), False),
    "grpo": (GroupAdvantage(scale="group", ddof=0, epsilon=0.0), True),
}


def nft(epsilon: float = 1.0, *, weighting: str = "dr_grpo") -> Objective:
    """Negative-aware fine-tuning, the likelihood of successes under the policy and of failures under the one that it
    leaves: −(1/Σ|y_i|) Σ_i Σ_t ω [r_i log t + (1 − r_i) log max((1 − pt)/(1 − p), ε)], p the group's success rate.

    On policy its gradient is that of the score function with the advantage ω(r − p)/(1 − p).

    Args:
        epsilon: ε, in (0, 1], the floor below which a failure's term goes on as its tangent.
        weighting: ω: "dr_grpo", 1 − p, whose advantage is r − p; "grpo", ((1 − p)/p)^½, whose advantage is (r − p)/σ.

    The rewards must be 0 or 1.

    Source: Chen et al. 2025 (NFT, arXiv 2505.18116), with the figures of its code, which sums over tokens, bounds p to
    [0.02, 0.98] and clamps Δ at 10 nats.

    >>> import dataclasses, geomalign as ga
    >>> batch = ga.laws.sample_batch()
    >>> batch = dataclasses.replace(batch, reward=(batch.reward > 0).double())
    >>> ga.recipes.nft().drive(batch)[[0, 2, 6]]  # r − p of three responses to one prompt: right, wrong, right
    tensor([ 0.3333, -0.6667,  0.3333], dtype=torch.float64)
    """
    sampling, standardised = check.choose("nft", "weighting", weighting, _WEIGHTS)
    return Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=sampling,
        optimization=ImplicitNegative(epsilon, standardised),
        measure=PooledMean(),
    )


def f_grpo(divergence: str = "pearson", beta: float = 0.1, std_epsilon: float = 1e-6) -> BaseObjective:
    """f-GRPO, a lower bound of an f-divergence between responses above and below their group's mean, the policy its
    critic: (1/P) Σ_p (1/Σ_i|y_i|) Σ_i Σ_t [−A₊ T(v) + A₋ ψ*(T(v))]/(1 + β⁻¹),  v = β log π/π_ref, A = A₊ − A₋.

    Args:
        divergence: whose bound it is; the table of T and ψ* is that of `geomalign.optimization.VariationalBound`.
        beta: scale of the critic, > 0.
        std_epsilon: added to the standard deviation of a group's rewards, ≥ 0.

    Source: Haldar et al. 2026 (f-GRPO, arXiv 2602.05946), its loss as an exposition quotes it. Unchecked: the weights
    w± that the paper has before T and ψ*, which are 1 here, and the default of β. Its code is said to add γ(log π −
    log π_old) to v.

    >>> import dataclasses, geomalign as ga
    >>> batch = ga.laws.sample_batch()
    >>> same = dataclasses.replace(batch, policy=batch.reference)  # where π is π_ref, the force is −βA, and 1/e of it
    >>> force = ga.recipes.f_grpo("kl", beta=0.5)(same).terms[0].force[[0, 2, 6], 0]
    >>> force / ga.GroupAdvantage(scale="group").drive(batch)[[0, 2, 6]]  # under a negative A
    tensor([-0.5000, -0.1839, -0.5000], dtype=torch.float64)
    """
    bound = Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=VariationalBound(divergence, beta),
        measure=PromptMean(),
        anchor="reference",
    )
    return beta / (1 + beta) * bound
