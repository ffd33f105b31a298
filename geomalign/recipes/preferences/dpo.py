"""DPO and its nearest relatives: a logistic or squared loss of a margin between two responses."""

from __future__ import annotations

from geomalign._util import check
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
from geomalign.recipes.shared import LENGTHS, check_smoothing, logistic
from geomalign.sampling import Label, PolicyWeight
from geomalign.unit import MeanSequence, Pair, Sequence

__all__ = ["cdpo", "chi_po", "dpo", "dpo_norm", "f_dpo", "ipo", "robust_dpo", "simpo", "wpo"]


def dpo(beta: float = 0.1, label_smoothing: float = 0.0) -> Objective:
    """Direct preference optimisation: −(1−ε) log σ(βu) − ε log σ(−βu),  u = Δ_chosen − Δ_rejected.

    Args:
        beta: inverse temperature, > 0, per nat.
        label_smoothing: ε in [0, 0.5), the probability that a label is wrong (cDPO).

    Source: Rafailov et al. 2023 (arXiv 2305.18290) eq. 7; cDPO: Mitchell 2023.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.dpo(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # log 2 = 0.693 where the policy is the reference
    0.661
    """
    return logistic("dpo", Pair(of=Sequence()), beta, label_smoothing)


def ipo(tau: float = 0.1, normalize: str = "mean") -> Objective:
    """Identity preference optimisation: (u − 1/(2τ))²,  u = Δ_chosen − Δ_rejected.

    Args:
        tau: strength of the regularisation, > 0: the margin's target is 1/(2τ) nats.
        normalize: "mean" (Δ is an average over tokens, as practised: the target is in nats per token) or "sum"
            (published).

    Source: Azar et al. 2023 (arXiv 2310.12036) eq. 17.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.ipo(tau=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 1)  # (1/(2τ))² = 25 where the policy is the reference
    23.4
    """
    check.positive("ipo", tau=tau)
    return Objective(
        unit=Pair(of=check.choose("ipo", "normalize", normalize, LENGTHS)),
        chart=LogRatio(),
        sampling=Label(1 / tau),
        optimization=ChiSquare(2.0),
        offset=FenchelYoung(),
        anchor="reference",
    )


def simpo(beta: float = 2.0, gamma: float = 1.0) -> Objective:
    """SimPO, without a reference: −log σ(βm − γ),  m = log π(y⁺)/|y⁺| − log π(y⁻)/|y⁻|.

    Args:
        beta: reward scale, > 0.
        gamma: target reward margin, in rewards; the margin of m is γ/β.

    Source: Meng et al. 2024 (arXiv 2405.14734) eq. 6.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.simpo(beta=2.0, gamma=1.0)(ga.laws.sample_pairs())
    >>> outcome.u.detach()[:3]  # m − γ/β of three pairs, in nats per token
    tensor([-1.0773, -0.4713, -1.1963], dtype=torch.float64)
    """
    check.positive("simpo", beta=beta)
    check.finite("simpo", gamma=gamma)
    return Objective(
        unit=Pair(of=MeanSequence(), margin=gamma / beta),
        chart=LogRatio(),
        sampling=Label(beta),
        optimization=Logistic(beta),
        anchor=None,
    )


def chi_po(beta: float = 0.1) -> Objective:
    """χPO, DPO read in the dual coordinate of KL + χ²: −log σ(βu),  u = φ(t_chosen) − φ(t_rejected),  φ(t) = t + log t.

    The paper bounds βu to ±2R_max before the link; this is the form without that bound.

    Args:
        beta: inverse temperature, > 0.

    Source: Huang et al. 2024 (arXiv 2407.13399) Algorithm 1.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.chi_po(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # log 2 = 0.693 where the policy is the reference
    0.633
    """
    return logistic("chi_po", Pair(of=Sequence()), beta, chart=Dual(KullbackLeibler() + PearsonChiSquare()))


def cdpo(beta: float = 0.1, label_smoothing: float = 0.1) -> Objective:
    """Conservative DPO, whose labels are wrong with probability ε: −(1−ε) log σ(βu) − ε log σ(−βu), with the finite
    equilibrium βu* = logit(1−ε).

    Args:
        beta: inverse temperature, > 0, per nat.
        label_smoothing: ε in [0, 0.5).

    Source: Mitchell 2023, eq. 3.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.cdpo(label_smoothing=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # log 2 = 0.693 where the policy is the reference
    0.668
    """
    return dpo(beta, label_smoothing)


def robust_dpo(beta: float = 0.1, label_smoothing: float = 0.1) -> Objective:
    """An unbiased estimate of DPO's loss under label noise: [−(1−ε) log σ(βu) + ε log σ(−βu)]/(1−2ε).

    Args:
        beta: inverse temperature, > 0, per nat.
        label_smoothing: ε in [0, 0.5), the rate of wrong labels. Above 0 an `UnboundedLossWarning` says that there is
            no minimum.

    Source: Chowdhury et al. 2024 (arXiv 2403.00409).

    >>> import geomalign as ga
    >>> ga.recipes.robust_dpo(label_smoothing=0.0) == ga.recipes.dpo()  # without noise
    True
    """
    check.number("robust_dpo", beta=beta)
    check_smoothing("robust_dpo", label_smoothing)
    return Objective(
        unit=Pair(),
        chart=LogRatio(),
        sampling=Label(beta * (1 - label_smoothing) / (1 - 2 * label_smoothing)),
        optimization=Logistic(beta),
        anchor="reference",
    )


def dpo_norm(beta: float = 5.0, label_smoothing: float = 0.0) -> Objective:
    """Length-normalised DPO: −(1−ε) log σ(βu) − ε log σ(−βu),  u a difference of log-ratios per token.

    Args:
        beta: inverse temperature, > 0, per nat per token.
        label_smoothing: ε in [0, 0.5).

    Source: Lambert et al. 2024 (Tülu 3, arXiv 2411.15124).

    >>> import geomalign as ga
    >>> outcome = ga.recipes.dpo_norm(beta=5.0)(ga.laws.sample_pairs())
    >>> outcome.u.detach()[:3]  # of three pairs, in nats per token
    tensor([ 0.0368,  0.3961, -0.0837], dtype=torch.float64)
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
    beta: float = 0.1, divergence: str | Divergence = "forward_kl", *, alpha: float = 0.5, label_smoothing: float = 0.0
) -> Objective:
    """DPO in the dual coordinate of another divergence: −log σ(βu),  u = ψ'(t_chosen) − ψ'(t_rejected).

    Args:
        beta: inverse temperature, > 0.
        divergence: "reverse_kl" (DPO), "forward_kl", "js", "hellinger", "chi2", "alpha", or any `Divergence`.
        alpha: of "alpha" alone, in the paper's convention: ψ' = (1 − t^−α)/α, between reverse KL (α → 0) and forward KL
            (α = 1).
        label_smoothing: ε in [0, 0.5).

    Source: Wang et al. 2023 (arXiv 2309.16240) table 1.

    >>> import geomalign as ga
    >>> js, dpo = (ga.recipes.f_dpo(divergence=name)(ga.laws.sample_pairs()) for name in ("js", "reverse_kl"))
    >>> [round(outcome.loss.item(), 3) for outcome in (js, dpo)]
    [0.675, 0.661]
    """
    check.finite("f_dpo", alpha=alpha)
    named: dict[str, Divergence] = _F_DIVERGENCES | {"alpha": CressieRead(1 - alpha)}
    if isinstance(divergence, str):
        divergence = check.choose("f_dpo", "divergence", divergence, named)
    chart = Dual(divergence)
    return logistic("f_dpo", Pair(), beta, label_smoothing, chart)


def wpo(beta: float = 0.1) -> Objective:
    """Weighted preference optimisation: −sg[w⁺w⁻] log σ(βu),  w = π(y)^{1/|y|} of the two responses.

    Args:
        beta: inverse temperature, > 0, per nat.

    Source: Zhou et al. 2024 (arXiv 2406.11827) eq. 2.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.wpo(beta=0.1)(ga.laws.sample_pairs())
    >>> outcome.drive[:3] / 0.1  # the weights w⁺w⁻ of three pairs
    tensor([0.0612, 0.0813, 0.1910], dtype=torch.float64)
    """
    check.positive("wpo", beta=beta)
    return Objective(
        unit=Pair(),
        chart=LogRatio(),
        sampling=PolicyWeight(Label(beta)),
        optimization=AdvantageScaled((1 / beta) * Logistic(beta)),  # type: ignore[arg-type]
        anchor="reference",
    )
