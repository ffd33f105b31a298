"""Recipes for preference pairs. The margin of a pair is the only event; labels drive it."""

from __future__ import annotations

from geomalign.chart import Dual, LogRatio
from geomalign.constant import Completed
from geomalign.divergences import KullbackLeibler, PearsonChiSquare
from geomalign.objective import Objective
from geomalign.optimization import ChiSquare, Hinge, Logistic
from geomalign.recipes.shared import LENGTHS, check_positive, choose, logistic
from geomalign.sampling import Label
from geomalign.unit import MeanSequence, Pair, Sequence

__all__ = ["chi_po", "dpo", "ipo", "simpo", "slic"]


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
        constant=Completed(),
        anchor="reference",
    )


def slic(beta: float = 1.0) -> Objective:
    """max(0, 1 − βu),  u = Δ_chosen − Δ_rejected.

    Args:
        beta: reciprocal of the margin δ, positive; δ = 1 in the paper.

    The paper's margin is of log π without a reference; with the reference it is the normalised hinge of RSO and of
    trainers.

    Source: Zhao et al. 2023 (SLiC-HF, arXiv 2305.10425) eq. 2; Liu et al. 2023 (RSO, arXiv 2309.06657) eq. 9.
    """
    return Objective(
        unit=Pair(of=Sequence()), chart=LogRatio(), sampling=Label(beta), optimization=Hinge(beta), anchor="reference"
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
