"""Recipes whose events are single responses with a label, or the two sides of a pair by themselves."""

from __future__ import annotations

import math

from geomalign.advantages import Asymmetric
from geomalign.chart import LogOdds, LogRatio, Power, Sigmoid
from geomalign.constant import Completed
from geomalign.objective import BaseObjective, Combination, Objective
from geomalign.optimization import Box, ChiSquare, Logistic
from geomalign.recipes.reference import published
from geomalign.recipes.shared import LENGTHS, check_positive, check_weight, choose
from geomalign.sampling import Advantage, Label
from geomalign.unit import Chosen, MeanSequence, Offset, Pair, Preference, Rejected, ResponseUnit, Sequence

__all__ = ["alpha_po", "apo_down", "apo_zero", "bco", "cpo", "kto", "nca", "orpo", "sppo"]


def _likelihood(of: ResponseUnit) -> Objective:
    """−log π(y⁺): a log-probability is never positive, which bounds the loss."""
    return Objective(
        unit=Chosen(of), chart=LogRatio(), sampling=Label(1.0), optimization=Box(-math.inf, 0.0), anchor=None
    )


@published(
    title="Noise Contrastive Alignment of Language Models with Explicit Rewards",
    authors="Chen, Huayu and others",
    year=2024,
    arxiv="2402.05369",
    equation="the pairwise NCA loss of §4",
    loss="−log σ(βΔ⁺) − ½ log σ(−βΔ⁺) − ½ log σ(−βΔ⁻)",
    conventions=("two responses, hard labels: the limit of a low reward temperature",),
    departures={"TRL 1.16": "`nca_pair`, as published", "Liger 0.8": "as published"},
)
def nca(beta: float = 0.1) -> Combination:
    """−log σ(βΔ⁺) − ½ log σ(−βΔ⁺) − ½ log σ(−βΔ⁻): each response against the reference, with finite equilibrium βΔ⁺ =
    log 2.

    Args:
        beta: inverse temperature, positive.

    Source: Chen et al. 2024 (arXiv 2402.05369), pairs.
    """
    good = Objective(
        unit=Chosen(),
        chart=LogRatio(),
        sampling=Label(2 * beta / 3),
        optimization=Logistic(beta),
        anchor="reference",
    )
    poor = Objective(
        unit=Rejected(), chart=LogRatio(), sampling=Label(0.0), optimization=Logistic(beta), anchor="reference"
    )
    return 1.5 * good + 0.5 * poor


@published(
    title="Binary Classifier Optimization for Large Language Model Alignment",
    authors="Jung, Seungjae and others",
    year=2024,
    arxiv="2404.04656",
    equation="the BCO loss and its reward shift",
    loss="−log σ(βΔ⁺ − δ) − log σ(−(βΔ⁻ − δ)), δ = ½(E[βΔ⁺] + E[βΔ⁻])",
    conventions=("δ is a running mean, given as a number", "summed over the two responses of a pair"),
    departures={
        "TRL 1.16": "`bco_pair` leaves δ out",
        "the paper": "weights rejected responses by a density ratio of prompts where the two sets differ: not "
        "here, it needs a classifier",
    },
)
def bco(beta: float = 0.1, delta: float = 0.0) -> BaseObjective:
    """−log σ(βΔ⁺ − δ) − log σ(δ − βΔ⁻): a classifier of good and poor responses.

    Args:
        beta: inverse temperature, positive.
        delta: reward shift δ, the running mean of the two sides' mean rewards βΔ.

    Evaluated on a `PreferenceBatch`, or on a `Batch` with rewards +1 (good) and −1 (poor): then twice the mean over
    responses.

    Source: Jung et al. 2024 (arXiv 2404.04656).
    """
    check_positive("bco", beta=beta)
    return 2.0 * Objective(
        unit=Offset(Sequence(), delta / beta),
        chart=LogRatio(),
        sampling=Asymmetric(Advantage(), positive=beta, negative=0.0),
        optimization=Logistic(beta),
        anchor="reference",
    )


@published(
    title="Self-Play Preference Optimization for Language Model Alignment",
    authors="Wu, Yue and others",
    year=2024,
    arxiv="2405.00675",
    equation="4.7 with hard probabilities",
    loss="(Δ⁺ − 1/(2β))² + (Δ⁻ + 1/(2β))²",
    conventions=("β = 1/η; the winner's probability is 1, the loser's 0", "summed over the two responses of a pair"),
    departures={"TRL 1.16": "`sppo_hard`, this form; soft probabilities need a preference model"},
)
def sppo(beta: float = 1e-3) -> BaseObjective:
    """(Δ⁺ − 1/2β)² + (Δ⁻ + 1/2β)²: every response regressed on half its win rate's excess.

    Args:
        beta: 1/η of the paper, positive.

    Evaluated on a `PreferenceBatch`, or on a `Batch` with rewards ±1; rewards 2P − 1 give the soft form.

    Source: Wu et al. 2024 (arXiv 2405.00675) eq. 4.7.
    """
    check_positive("sppo", beta=beta)
    return 2.0 * Objective(
        unit=Sequence(),
        chart=LogRatio(),
        sampling=Asymmetric(Advantage(), positive=1 / beta, negative=1 / beta),
        optimization=ChiSquare(2.0),
        anchor="reference",
        constant=Completed(),
    )


@published(
    title="Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification in Alignment",
    authors="D'Oosterlinck, Karel and others",
    year=2024,
    arxiv="2408.06266",
    equation="7",
    loss="−σ(βΔ⁺) + σ(βΔ⁻), up to the constant 1",
    conventions=("the value has the constant 1, as in trainers", "summed over the two responses of a pair"),
    departures={"TRL 1.16": "`apo_zero`; `apo_zero_unpaired` in its KTO trainer averages over responses"},
)
def apo_zero(beta: float = 0.1) -> BaseObjective:
    """1 − σ(βΔ⁺) + σ(βΔ⁻): the chosen response up, the rejected one down. Linear in the coordinate σ(βΔ): nothing
    resists but its end.

    Args:
        beta: inverse temperature, positive.

    Evaluated on a `PreferenceBatch`, or on a `Batch` with rewards ±1.

    Source: D'Oosterlinck et al. 2024 (arXiv 2408.06266) eq. 7.
    """
    return 2.0 * Objective(
        unit=Sequence(),
        chart=Sigmoid(beta),
        sampling=Advantage(),
        optimization=Box(-0.5, 0.5),
        anchor="reference",
        constant=Completed(),
    )


@published(
    title="Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification in Alignment",
    authors="D'Oosterlinck, Karel and others",
    year=2024,
    arxiv="2408.06266",
    equation="8",
    loss="σ(βΔ⁺) − σ(β(Δ⁺ − Δ⁻)), up to the constant 1",
    conventions=("the value has the constant 1, as in trainers",),
    departures={"TRL 1.16": "`apo_down`, as published"},
)
def apo_down(beta: float = 0.1) -> Combination:
    """σ(βΔ⁺) + 1 − σ(β(Δ⁺ − Δ⁻)): both responses down, the rejected one further.

    Args:
        beta: inverse temperature, positive.

    Source: D'Oosterlinck et al. 2024 (arXiv 2408.06266) eq. 8.
    """
    down = Objective(
        unit=Chosen(),
        chart=Sigmoid(beta),
        sampling=Label(-1.0),
        optimization=Box(-0.5, 0.5),
        anchor="reference",
        constant=Completed(),
    )
    apart = Objective(
        unit=Preference(beta=beta),
        chart=LogRatio(),
        sampling=Label(1.0),
        optimization=Box(0.0, 1.0),
        anchor="reference",
        constant=Completed(),
    )
    return down + apart


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


@published(
    title="KTO: Model Alignment as Prospect Theoretic Optimization",
    authors="Ethayarajh, Kawin and others",
    year=2024,
    arxiv="2402.01306",
    equation="7, as trainers count",
    loss="λ_D (1 − σ(β(Δ − z₀))) for desirable, λ_U (1 − σ(β(z₀ − Δ))) for undesirable responses",
    conventions=(
        "z₀ = max(0, mean Δ of mismatched prompts and responses), without gradient, given as a number",
        "the mean over all responses, desirable or not",
    ),
    departures={
        "TRL 1.16": "estimates z₀ from each batch's mismatched completions, over all processes, ≥ 0",
        "Liger 0.8": "without λ; z₀ is handed in, as here",
    },
)
def kto(beta: float = 0.1, desirable: float = 1.0, undesirable: float = 1.0, reference_point: float = 0.0) -> Objective:
    """λ(1 − σ(±β(Δ − z₀))): a value function with diminishing sensitivity on both sides of z₀.

    Args:
        beta: risk aversion, positive.
        desirable: λ_D, ≥ 0.
        undesirable: λ_U, ≥ 0.
        reference_point: z₀ ≥ 0, an estimate of KL(π‖π_ref) from mismatched prompts and responses. It is a number of the
            batch that the batch's own log-probabilities do not hold: `dataclasses.replace` or a new recipe a step.

    Drive: the sign of the batch's `reward`, +1 for desirable and −1 for undesirable responses (a `PreferenceBatch` has
    them).

    Source: Ethayarajh et al. 2024 (arXiv 2402.01306).
    """
    if not 0 <= reference_point < math.inf:
        raise ValueError(f"kto(reference_point={reference_point!r}): an estimate of a KL divergence, so not negative.")
    at_anchor = _sigmoid(-beta * reference_point)
    return Objective(
        unit=Sequence(),
        chart=Sigmoid(beta, reference_point),
        sampling=Asymmetric(Advantage(), positive=desirable, negative=undesirable),
        optimization=Box(-at_anchor, 1 - at_anchor),
        anchor="reference",
        constant=Completed(),
    )


@published(
    title="ORPO: Monolithic Preference Optimization without Reference Model",
    authors="Hong, Jiwoo and Lee, Noah and Thorne, James",
    year=2024,
    arxiv="2403.07691",
    equation="4–7",
    loss="−(1/|y⁺|) log π(y⁺) − λ log σ( logit p⁺ − logit p⁻ ), p = π(y)^{1/|y|}",
    conventions=("λ is TRL's `beta`", "both terms use the average log-probability a token"),
    departures={
        "TRL 1.16": "the likelihood covers prompt and response, and is averaged over all tokens of the micro-batch",
        "Liger 0.8": "the likelihood is averaged over all tokens of the batch",
    },
)
def orpo(lambda_: float = 0.1) -> Combination:
    """−log π(y⁺)/|y⁺| − λ log σ(u),  u the log odds ratio of the two responses' mean token probabilities.

    Args:
        lambda_: weight of the odds-ratio term, ≥ 0.

    Source: Hong et al. 2024 (arXiv 2403.07691) eq. 4–7.
    """
    check_weight("orpo", lambda_=lambda_)
    odds = Objective(
        unit=Pair(of=MeanSequence()),
        chart=LogOdds(),
        sampling=Label(1.0),
        optimization=Logistic(1.0),
        anchor=None,
    )
    return _likelihood(MeanSequence()) + lambda_ * odds


@published(
    title="Contrastive Preference Optimization: Pushing the Boundaries of LLM Performance in Machine Translation",
    authors="Xu, Haoran and others",
    year=2024,
    arxiv="2401.08417",
    equation="3",
    loss="−log σ(β log π(y⁺) − β log π(y⁻)) − log π(y⁺)",
    conventions=("sums over tokens in both terms",),
    departures={
        "TRL 1.16": "the likelihood is averaged over all tokens of the micro-batch, and weighted by `cpo_alpha`",
        "Liger 0.8": "as TRL",
    },
)
def cpo(beta: float = 0.1, alpha: float = 1.0, normalize: str = "sum") -> Combination:
    """−log σ(βu) − α log π(y⁺),  u = log π(y⁺) − log π(y⁻), without a reference.

    Args:
        beta: inverse temperature, positive.
        alpha: weight of the likelihood, ≥ 0; 1 in the paper.
        normalize: "sum" (published) or "mean": whether the likelihood is of the response or of its average token.

    Source: Xu et al. 2024 (arXiv 2401.08417) eq. 3.
    """
    check_weight("cpo", alpha=alpha)
    margin = Objective(unit=Pair(), chart=LogRatio(), sampling=Label(beta), optimization=Logistic(beta), anchor=None)
    return margin + alpha * _likelihood(choose("cpo", "normalize", normalize, LENGTHS))


@published(
    title="AlphaPO: Reward Shape Matters for LLM Alignment",
    authors="Gupta, Aman and others",
    year=2025,
    arxiv="2501.03884",
    equation="the AlphaPO reward and loss",
    loss="−log σ(β(r⁺ − r⁻) − γ), r = (1 − p^{−α})/α, p = π(y)^{1/|y|}",
    conventions=("length-normalised, as SimPO; α → 0 is SimPO",),
    departures={
        "TRL 1.16": "`CPOConfig(alpha=…)`: the transformation before any CPO loss; normalised only where the loss "
        "is `simpo` or `ipo`"
    },
)
def alpha_po(alpha: float = 0.25, beta: float = 2.0, gamma: float = 1.0) -> Objective:
    """−log σ(βu − γ),  u a difference of (1 − p^{−α})/α,  p the geometric mean of the response's token probabilities.

    Args:
        alpha: shape of the reward, not zero (zero is `simpo`).
        beta: reward scale, positive; `simpo`'s default, as the paper tunes it for each model.
        gamma: target reward margin, in rewards; likewise.

    Source: Gupta et al. 2025 (arXiv 2501.03884).
    """
    check_positive("alpha_po", beta=beta)
    if alpha == 0:
        raise ValueError("alpha_po(alpha=0): the limit is simpo(beta, gamma).")
    return Objective(
        unit=Pair(of=MeanSequence(), margin=gamma / beta),
        chart=Power(-alpha),
        sampling=Label(beta),
        optimization=Logistic(beta),
        anchor=None,
    )
