"""recipes.preferences.dpo"""

from __future__ import annotations

from geomalign.chart import Dual, LogRatio
from geomalign.divergences import (
    CressieRead,
    Divergence,
    JensenShannon,
    KullbackLeibler,
    PearsonChiSquare,
    ReverseKullbackLeibler,
    SquaredHellinger,
)
from geomalign.objective import FenchelYoung, Objective
from geomalign.optimization import AdvantageScaled, ChiSquare, Logistic
from geomalign.recipes.shared import LENGTHS, check_positive, check_smoothing, choose, logistic
from geomalign.sampling import Label, PolicyWeight
from geomalign.unit import MeanSequence, Pair, Sequence

__all__ = ["cdpo", "chi_po", "dpo", "dpo_norm", "f_dpo", "ipo", "robust_dpo", "simpo", "wpo"]


def dpo(beta: float = 0.1, label_smoothing: float = 0.0) -> Objective:
    """−(1−ε) log σ(βu) − ε log σ(−βu),  u = Δ_chosen − Δ_rejected.

    Args:
        beta: inverse temperature, positive.
        label_smoothing: ε in [0, 0.5), the chance that a label is wrong (cDPO).

    Source: Rafailov et al. 2023 (arXiv 2305.18290) eq. 7; cDPO: Mitchell 2023.
    """
    return logistic("dpo", Pair(of=Sequence()), beta, label_smoothing)


def ipo(tau: float = 0.1, normalize: str = "mean") -> Objective:
    """(u − 1/(2τ))²,  u = Δ_chosen − Δ_rejected.

    Args:
        tau: regularisation, positive: the margin's target is 1/(2τ) nats.
        normalize: "mean" (Δ an average over tokens, as practised: the target is nats a token), "sum" (as published).

    Source: Azar et al. 2023 (arXiv 2310.12036) eq. 17.
    """
    check_positive("ipo", tau=tau)
    return Objective(
        unit=Pair(of=choose("ipo", "normalize", normalize, LENGTHS)),
        chart=LogRatio(),
        sampling=Label(1 / tau),
        optimization=ChiSquare(2.0),
        offset=FenchelYoung(),
        anchor="reference",
    )


def simpo(beta: float = 2.0, gamma: float = 1.0) -> Objective:
    """−log σ(βm − γ),  m = log π(y⁺)/|y⁺| − log π(y⁻)/|y⁻|, without a reference.

    Args:
        beta: reward scale, positive.
        gamma: target reward margin, in rewards; the margin of m is γ/β.

    Source: Meng et al. 2024 (arXiv 2405.14734) eq. 6.
    """
    check_positive("simpo", beta=beta)
    return Objective(
        unit=Pair(of=MeanSequence(), margin=gamma / beta),
        chart=LogRatio(),
        sampling=Label(beta),
        optimization=Logistic(beta),
        anchor=None,
    )


def chi_po(beta: float = 0.1) -> Objective:
    """−log σ(βu),  u = φ(t_chosen) − φ(t_rejected),  φ(t) = t + log t: DPO read in the dual coordinate of KL + χ².

    Args:
        beta: inverse temperature, positive.

    The paper bounds βu to ±2R_max before the link; this is the form without that bound.

    Source: Huang et al. 2024 (arXiv 2407.13399) Algorithm 1.
    """
    return logistic("chi_po", Pair(of=Sequence()), beta, chart=Dual(KullbackLeibler() + PearsonChiSquare()))


def cdpo(beta: float = 0.1, label_smoothing: float = 0.1) -> Objective:
    """−(1−ε) log σ(βu) − ε log σ(−βu): DPO whose labels are wrong with probability ε. Its equilibrium is finite, βu* =
    logit(1−ε).

    Args:
        beta: inverse temperature, positive.
        label_smoothing: ε in [0, 0.5).

    Source: Mitchell 2023, eq. 3.
    """
    return dpo(beta, label_smoothing)


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
        sampling=PolicyWeight(Label(beta)),
        optimization=AdvantageScaled((1 / beta) * Logistic(beta)),  # type: ignore[arg-type]
        anchor="reference",
    )
