"""recipes.preferences.links"""

from __future__ import annotations

import math

from geomalign.chart import LogRatio, Power
from geomalign.objective import FenchelYoung, Objective
from geomalign.optimization import (
    ChiSquare,
    Hinge,
    Logistic,
    LogRatioModulated,
    NegativeEntropy,
    ReverseKL,
    SquaredHinge,
)
from geomalign.recipes.shared import check_positive, check_smoothing
from geomalign.sampling import Label
from geomalign.unit import (
    MeanSequence,
    Pair,
    Preference,
    Sequence,
)

__all__ = ["alpha_po", "discopop", "exo", "gpo_exponential", "gpo_savage", "gpo_truncated_quadratic", "slic"]


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
        optimization=NegativeEntropy(),
        anchor="reference",
        offset=FenchelYoung(),
    )


def discopop(beta: float = 0.05, tau: float = 0.05) -> Objective:
    """(1−s)·(−log σ(βu)) + s·e^{−βu},  s = σ(βu/τ): the log-ratio modulated loss, found by a language model.

    Args:
        beta: inverse temperature, positive.
        tau: width of the modulation, positive.

    Source: Lu et al. 2024 (arXiv 2406.08414) eq. 5.
    """
    return Objective(
        unit=Pair(),
        chart=LogRatio(),
        sampling=Label(0.0),
        optimization=LogRatioModulated(beta, tau),
        anchor="reference",
    )


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
        offset=FenchelYoung(),
    )


def gpo_truncated_quadratic(beta: float = 0.1) -> Objective:
    """max(0, 1 − βu)²: the squared hinge. IPO's square below the margin, nothing above.

    Args:
        beta: reciprocal of the margin, positive.

    Source: Tang et al. 2024 (GPO, arXiv 2402.05749) table 1.
    """
    return Objective(
        unit=Pair(), chart=LogRatio(), sampling=Label(2 * beta), optimization=SquaredHinge(beta), anchor="reference"
    )


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
        offset=FenchelYoung(),
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
