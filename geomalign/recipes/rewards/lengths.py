"""Recipes that differ from GRPO in how much a response weighs by its length."""

from __future__ import annotations

from torch import Tensor

from geomalign.chart import Ratio
from geomalign.measure import LengthPower, LengthPreference
from geomalign.objective import Objective, Surrogate
from geomalign.optimization import Clip
from geomalign.sampling import GroupAdvantage
from geomalign.unit import Token

__all__ = ["delta_l", "lambda_grpo"]


def delta_l(
    alpha: float = 1.0,
    length: float = 256,
    epsilon: float = 0.2,
    epsilon_high: float | None = 0.3,
    std_epsilon: float = 1e-6,
) -> Objective:
    """ΔL normalisation (VL Norm) of GRPO: (1/L) Σ_i x_i Σ_t −min(tA, clip(t)A),  x_i = |y_i|^{−α} / Σ_j |y_j|^{−α} over
    the batch,  A = (r − mean)/std.

    Args:
        alpha: α; 1 has the smallest variance where that of a response's gradient grows as its length, and is what the
            authors run on CountDown, with 0.75 on mathematics. 0 is Dr. GRPO with a divided advantage.
        length: L, the generation limit in tokens, > 0 (256 is TRL's default limit).
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0; `epsilon` where None. 0.3 in the authors' runs.
        std_epsilon: added to the standard deviation, ≥ 0.

    The weights belong to all responses of the batch: see `LengthWeights` for micro-batches and processes.

    Source: He et al. 2025 (arXiv 2509.07558), by the authors' code, whose dual clip at a ratio of 3 is left out.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.delta_l(length=6)(ga.laws.sample_batch())
    >>> outcome.weights.sum(-1)[:3]  # α = 1: responses of 3, 5 and 5 tokens weigh the same
    tensor([0.0943, 0.0943, 0.0943], dtype=torch.float64)
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=LengthPower(alpha, length),
        offset=Surrogate(),
    )


def lambda_grpo(
    preference: float | Tensor = 1.0,
    spread: float = 1 / 9,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    std_epsilon: float = 1e-6,
) -> Objective:
    """λ-GRPO: (1/Σ|y_i|) Σ_i f_i Σ_t −min(tA, clip(t)A),  f = G softmax(h^λ) in the group, h = 1 + r z of the
    standardised length z,  A = (r − mean)/std.

    Args:
        preference: λ, which the paper learns; a number (1 is ours) or a 0-dim tensor. λ > 0 prefers long responses, 0
            is DAPO's token mean. `LengthPreference` says where its gradient is.
        spread: r, > 0.
        epsilon: clip range below, ≥ 0.
        epsilon_high: clip range above, ≥ 0; `epsilon` where None.
        std_epsilon: added to the standard deviation, ≥ 0.

    The weights belong to whole groups: see `LengthWeights` for micro-batches and processes.

    Source: Wang et al. 2025 (arXiv 2510.06870), by summaries of the paper and an implementation that is not the
    authors'.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.lambda_grpo(preference=-4.0)(ga.laws.sample_batch())
    >>> outcome.weights[[0, 2, 6], 0] * 32  # f of three responses of 3, 5 and 6 tokens to one prompt
    tensor([1.8227, 0.6622, 0.5151], dtype=torch.float64)
    """
    return Objective(
        unit=Token(),
        chart=Ratio(),
        sampling=GroupAdvantage(scale="group", epsilon=std_epsilon),
        optimization=Clip(epsilon, epsilon if epsilon_high is None else epsilon_high),
        measure=LengthPreference(preference, spread),
        offset=Surrogate(),
    )
