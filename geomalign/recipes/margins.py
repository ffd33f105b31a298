"""Recipes for pairs whose event is the margin: other links, other charts, weights, sorted margins."""

from __future__ import annotations

import math
from typing import Any

from geomalign.chart import Dual, LogRatio
from geomalign.constant import Completed
from geomalign.divergences import (
    CressieRead,
    Divergence,
    JensenShannon,
    KullbackLeibler,
    PearsonChiSquare,
    ReverseKullbackLeibler,
    SquaredHellinger,
)
from geomalign.importance import Confidence
from geomalign.objective import Objective
from geomalign.optimization import Blend, ChiSquare, Entropy, Logistic, Proportional, ReverseKL, SquaredHinge
from geomalign.recipes.preference import dpo
from geomalign.recipes.reference import published
from geomalign.recipes.shared import check_positive, check_smoothing, logistic
from geomalign.sampling import Label
from geomalign.unit import MeanSequence, Pair, Preference, SortedPair, TransportedPair

__all__ = [
    "aot",
    "aot_unpaired",
    "cdpo",
    "discopop",
    "dpo_norm",
    "exo",
    "f_dpo",
    "gpo_exponential",
    "gpo_savage",
    "gpo_truncated_quadratic",
    "robust_dpo",
    "wpo",
]


@published(
    title="A note on DPO with noisy preferences and relationship to IPO",
    authors="Mitchell, Eric",
    year=2023,
    arxiv=None,
    venue="https://ericmitchell.ai/cdpo.pdf",
    equation="3",
    loss="−(1−ε) log σ(βu) − ε log σ(−βu), u = Δ_chosen − Δ_rejected",
    departures={
        "TRL 1.16": "`label_smoothing` of the sigmoid loss is no longer used there; it is in `exo_pair`, `robust`, "
        "`aot`"
    },
)
def cdpo(beta: float = 0.1, label_smoothing: float = 0.1) -> Objective:
    """−(1−ε) log σ(βu) − ε log σ(−βu): DPO whose labels are wrong with probability ε. Its equilibrium is finite, βu* =
    logit(1−ε).

    Args:
        beta: inverse temperature, positive.
        label_smoothing: ε in [0, 0.5).

    Source: Mitchell 2023, eq. 3.
    """
    return dpo(beta, label_smoothing)


@published(
    title="Provably Robust DPO: Aligning Language Models with Noisy Feedback",
    authors="Chowdhury, Sayak Ray and Kini, Anush and Natarajan, Nagarajan",
    year=2024,
    arxiv="2403.00409",
    equation="the robust loss",
    loss="[−(1−ε) log σ(βu) + ε log σ(−βu)]/(1−2ε)",
    conventions=("unbiased for the loss without noise, and therefore not bounded below: the drive exceeds β",),
    departures={"TRL 1.16": "as published; unbounded below there too, without a warning"},
)
def robust_dpo(beta: float = 0.1, label_smoothing: float = 0.1) -> Objective:
    """[−(1−ε) log σ(βu) + ε log σ(−βu)]/(1−2ε): an unbiased estimate of DPO's loss under label noise.

    Args:
        beta: inverse temperature, positive.
        label_smoothing: ε in [0, 0.5), the rate of wrong labels. Above 0 an `UnboundedLossWarning` says that there is
            no minimum.

    Source: Chowdhury et al. 2024 (arXiv 2403.00409).
    """
    check_smoothing("robust_dpo", label_smoothing)
    return Objective(
        unit=Pair(),
        chart=LogRatio(),
        sampling=Label(beta * (1 - label_smoothing) / (1 - 2 * label_smoothing)),
        optimization=Logistic(beta),
        anchor="reference",
    )


@published(
    title="Towards Efficient Exact Optimization of Language Model Alignment",
    authors="Ji, Haozhe and others",
    year=2024,
    arxiv="2402.00856",
    equation="16",
    loss="σ(βu) log(σ(βu)/(1−ε)) + σ(−βu) log(σ(−βu)/ε), u = Δ_chosen − Δ_rejected",
    conventions=("ε > 0: a sure label has infinite reverse KL", "β here is the paper's β_π with β_r = 1"),
    departures={"TRL 1.16": "`exo_pair`, as published", "Liger 0.8": "as published; refuses ε = 0"},
)
def exo(beta: float = 0.1, label_smoothing: float = 1e-3) -> Objective:
    """KL(σ(βu) ‖ 1−ε) of two Bernoullis: DPO with the two arguments of its KL exchanged.

    Not convex in the margin. In the coordinate p = σ(βu) it is convex, a Fenchel–Young loss of the negative entropy
    with the label's log-odds as drive.

    Args:
        beta: inverse temperature, positive.
        label_smoothing: ε in (0, 0.5).

    Source: Ji et al. 2024 (arXiv 2402.00856) eq. 16, pairs with hard labels.
    """
    check_smoothing("exo", label_smoothing)
    if label_smoothing == 0:
        raise ValueError("exo(label_smoothing=0): the reverse KL from a sure label is infinite; the paper takes 1e-3.")
    return Objective(
        unit=Preference(beta=beta),
        chart=LogRatio(),
        sampling=Label(math.log1p(-label_smoothing) - math.log(label_smoothing)),
        optimization=Entropy(),
        anchor="reference",
        constant=Completed(),
    )


@published(
    title="Tulu 3: Pushing Frontiers in Open Language Model Post-Training",
    authors="Lambert, Nathan and others",
    year=2024,
    arxiv="2411.15124",
    equation="length-normalised DPO",
    loss="−log σ(β(Δ_chosen/|y⁺| − Δ_rejected/|y⁻|))",
    conventions=("β is about 5, not 0.1: the margin is a difference of averages",),
    departures={"TRL 1.16": "`sigmoid_norm`, with β = 0.1 by default", "open-instruct": "`dpo_norm`, the origin"},
)
def dpo_norm(beta: float = 5.0, label_smoothing: float = 0.0) -> Objective:
    """−(1−ε) log σ(βu) − ε log σ(−βu),  u a difference of log-ratios a token.

    Args:
        beta: inverse temperature, positive, per nat a token.
        label_smoothing: ε in [0, 0.5).

    Source: Lambert et al. 2024 (Tülu 3, arXiv 2411.15124).
    """
    return logistic("dpo_norm", Pair(of=MeanSequence()), beta, label_smoothing)


_F_DIVERGENCES: dict[str, Divergence] = {
    "reverse_kl": KullbackLeibler(),
    "forward_kl": ReverseKullbackLeibler(),
    "js": JensenShannon(),
    "hellinger": SquaredHellinger(),
    "chi2": PearsonChiSquare(),
}


@published(
    title="Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence Constraints",
    authors="Wang, Chaoqi and others",
    year=2023,
    arxiv="2309.16240",
    equation="table 1",
    loss="−log σ(β(f'(t_chosen) − f'(t_rejected))), t = π/π_ref of a response",
    conventions=(
        "forward KL: f' = −1/t, mass-covering; JS: f' = log(2t/(1+t)); α: f' = (1 − t^−α)/α, α in (0, 1)",
        "scales of f do not matter beyond β; Hellinger here is 2(√t − 1)², χ² is (t − 1)²/2",
    ),
    departures={
        "TRL 1.16": "`f_alpha_divergence_coef` is the order 1 − α: α = 1 there is reverse KL, here α → 0; clamps "
        "the exponent at 80",
    },
)
def f_dpo(
    beta: float = 0.1, divergence: str | Divergence = "forward_kl", alpha: float = 0.5, label_smoothing: float = 0.0
) -> Objective:
    """−log σ(βu),  u = ψ'(t_chosen) − ψ'(t_rejected): DPO in the dual coordinate of another divergence.

    Args:
        beta: inverse temperature, positive.
        divergence: "reverse_kl" (DPO), "forward_kl", "js", "hellinger", "chi2", "alpha", or any `Divergence`.
        alpha: of "alpha" alone, in the paper's convention: ψ' = (1 − t^−α)/α, between reverse KL (α → 0) and forward KL
            (α = 1).
        label_smoothing: ε in [0, 0.5).

    Source: Wang et al. 2023 (arXiv 2309.16240) table 1.
    """
    named = _F_DIVERGENCES | {"alpha": CressieRead(1 - alpha)}
    if isinstance(divergence, str) and divergence not in named:
        raise ValueError(
            f"f_dpo(divergence={divergence!r}): choose one of {', '.join(map(repr, named))}, or a Divergence."
        )
    chart = Dual(named[divergence] if isinstance(divergence, str) else divergence)
    return logistic("f_dpo", Pair(), beta, label_smoothing, chart)


@published(
    title="WPO: Enhancing RLHF with Weighted Preference Optimization",
    authors="Zhou, Wenxuan and others",
    year=2024,
    arxiv="2406.11827",
    equation="2",
    loss="−(1/P) Σ sg[w(y⁺) w(y⁻)] log σ(βu), w(y) = π(y)^{1/|y|}",
    conventions=("without weight alignment, which needs Σ_v π(v)² of every step",),
    departures={
        "TRL 1.16": "with sampled alignment, from the logits; of a pair, the product of the two weights",
        "open-instruct": "exp of the two *sums* of log-probabilities, clamped at 1, with a gradient; "
        "sums (pair,) meet a mask (pair, token) where averages are meant, which fits one pair at a time",
    },
)
def wpo(beta: float = 0.1) -> Objective:
    """−sg[w⁺w⁻] log σ(βu): DPO with pairs weighted by how likely the policy is to say them itself.

    Args:
        beta: inverse temperature, positive.

    Source: Zhou et al. 2024 (arXiv 2406.11827) eq. 2.
    """
    check_positive("wpo", beta=beta)
    return Objective(
        unit=Pair(),
        chart=LogRatio(),
        sampling=Confidence(Label(beta)),
        optimization=Proportional((1 / beta) * Logistic(beta)),  # type: ignore[arg-type]
        anchor="reference",
    )


@published(
    title="Distributional Preference Alignment of LLMs via Optimal Transport",
    authors="Melnyk, Igor and others",
    year=2024,
    arxiv="2406.05882",
    equation="the paired loss",
    loss="−(1/P) Σ_k log σ(β(m_(k) − m^ref_(k))), m = log π(y⁺) − log π(y⁻), both sorted over the batch",
    conventions=("the batch is the sample: ranks are taken within it",),
    departures={"TRL 1.16": "`aot`, as published, with label smoothing; sorts within a process, not over all of them"},
)
def aot(beta: float = 0.1, label_smoothing: float = 0.0) -> Objective:
    """−log σ(βu_k),  u_k the k-th largest margin of the policy less the k-th largest of the reference.

    Args:
        beta: inverse temperature, positive.
        label_smoothing: ε in [0, 0.5).

    Micro-batches do not add up to the whole batch, since ranks belong to one batch.

    Source: Melnyk et al. 2024 (arXiv 2406.05882), paired.
    """
    return logistic("aot", TransportedPair(), beta, label_smoothing)


@published(
    title="Distributional Preference Alignment of LLMs via Optimal Transport",
    authors="Melnyk, Igor and others",
    year=2024,
    arxiv="2406.05882",
    equation="the unpaired loss",
    loss="−(1/P) Σ_k log σ(β(Δ⁺_(k) − Δ⁻_(k))), chosen and rejected log-ratios each sorted over the batch",
    conventions=("chosen and rejected need not belong to one prompt",),
    departures={"TRL 1.16": "`aot_unpaired`, as published, with label smoothing"},
)
def aot_unpaired(beta: float = 0.1, label_smoothing: float = 0.0) -> Objective:
    """−log σ(βu_k),  u_k the k-th largest Δ of the chosen responses less the k-th largest of the rejected ones.

    Args:
        beta: inverse temperature, positive.
        label_smoothing: ε in [0, 0.5).

    Micro-batches do not add up to the whole batch, since ranks belong to one batch.

    Source: Melnyk et al. 2024 (arXiv 2406.05882), unpaired.
    """
    return logistic("aot_unpaired", SortedPair(), beta, label_smoothing)


@published(
    title="Discovering Preference Optimization Algorithms with and for Large Language Models",
    authors="Lu, Chris and others",
    year=2024,
    arxiv="2406.08414",
    equation="5",
    loss="(1−s)·(−log σ(βu)) + s·e^{−βu}, s = σ(βu/τ)",
    conventions=("β = 0.05 in the paper's runs", "neither convex nor monotone in u"),
    departures={"TRL 1.16": "`discopop`, as published, with β = 0.1 by default"},
)
def discopop(beta: float = 0.05, tau: float = 0.05) -> Objective:
    """(1−s)·(−log σ(βu)) + s·e^{−βu},  s = σ(βu/τ): the log-ratio modulated loss, found by a language model.

    Args:
        beta: inverse temperature, positive.
        tau: width of the modulation, positive.

    Source: Lu et al. 2024 (arXiv 2406.08414) eq. 5.
    """
    return Objective(
        unit=Pair(), chart=LogRatio(), sampling=Label(0.0), optimization=Blend(beta, tau), anchor="reference"
    )


_GPO: dict[str, Any] = {
    "title": "Generalized Preference Optimization: A Unified Approach to Offline Alignment",
    "authors": "Tang, Yunhao and others",
    "year": 2024,
    "arxiv": "2402.05749",
    "equation": "table 1",
}


@published(**_GPO, loss="e^{−βu}, u = Δ_chosen − Δ_rejected", conventions=("f(x) = e^{−x} at x = βu",))
def gpo_exponential(beta: float = 0.1) -> Objective:
    """e^{−βu}: the exponential loss of AdaBoost as a preference loss. It is the k3 potential with the drive at the end
    of its range.

    Args:
        beta: inverse temperature, positive.

    Source: Tang et al. 2024 (GPO, arXiv 2402.05749) table 1.
    """
    return Objective(
        unit=Pair(),
        chart=LogRatio(scale=beta),
        sampling=Label(1.0),
        optimization=ReverseKL(1.0),
        anchor="reference",
        constant=Completed(),
    )


@published(**_GPO, loss="max(0, 1 − βu)², u = Δ_chosen − Δ_rejected", conventions=("f(x) = max(0, 1−x)² at x = βu",))
def gpo_truncated_quadratic(beta: float = 0.1) -> Objective:
    """max(0, 1 − βu)²: the squared hinge. IPO's square below the margin, nothing above.

    Args:
        beta: reciprocal of the margin, positive.

    Source: Tang et al. 2024 (GPO, arXiv 2402.05749) table 1.
    """
    return Objective(
        unit=Pair(), chart=LogRatio(), sampling=Label(2 * beta), optimization=SquaredHinge(beta), anchor="reference"
    )


@published(**_GPO, loss="1/(1 + e^{βu})², u = Δ_chosen − Δ_rejected", conventions=("f(x) = 1/(1+e^x)² at x = βu",))
def gpo_savage(beta: float = 0.1) -> Objective:
    """(1 − σ(βu))²: Savage's loss, the Brier score of the preference probability. Not convex in u, a plain square in
    σ(βu).

    Args:
        beta: inverse temperature, positive.

    Source: Tang et al. 2024 (GPO, arXiv 2402.05749) table 1.
    """
    return Objective(
        unit=Preference(beta=beta),
        chart=LogRatio(),
        sampling=Label(2.0),
        optimization=ChiSquare(2.0),
        anchor="reference",
        constant=Completed(),
    )
