"""Recipes that replace the logistic loss of the margin by another function."""

from __future__ import annotations

from geomalign._util import check
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
from geomalign.recipes.shared import check_smoothing, log_odds
from geomalign.sampling import Label
from geomalign.unit import (
    MeanSequence,
    Pair,
    PreferenceProbability,
    Sequence,
)

__all__ = ["alpha_po", "discopop", "exo", "gpo_exponential", "gpo_savage", "gpo_truncated_quadratic", "slic"]


def slic(beta: float = 1.0) -> Objective:
    """SLiC-HF, a hinge: max(0, 1 − βu),  u = Δ_chosen − Δ_rejected.

    The paper's margin is of log π without a reference; with the reference it is the normalised hinge of RSO and of
    trainers.

    Args:
        beta: reciprocal of the margin δ, > 0, per nat; δ = 1 in the paper.

    Source: Zhao et al. 2023 (SLiC-HF, arXiv 2305.10425) eq. 2; Liu et al. 2023 (RSO, arXiv 2309.06657) eq. 9.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.slic(beta=1.0)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # 1 where the policy is the reference
    0.796
    """
    return Objective(
        unit=Pair(of=Sequence()), chart=LogRatio(), sampling=Label(beta), optimization=Hinge(beta), anchor="reference"
    )


def exo(beta: float = 0.1, label_smoothing: float = 1e-3) -> Objective:
    """EXO, DPO with the two arguments of its KL exchanged: KL(σ(βu) ‖ 1−ε) of two Bernoulli distributions.

    It is not convex in the margin u. In the coordinate p = σ(βu) it is convex, a Fenchel–Young loss of the negative
    entropy with the label's log-odds as drive.

    Args:
        beta: inverse temperature, > 0, per nat.
        label_smoothing: ε in (0, 0.5).

    Source: Ji et al. 2024 (arXiv 2402.00856) eq. 16, pairs with hard labels. The authors' code has the drive 10, not
    log((1−ε)/ε) = 6.9: at the reference this gradient is 0.69 of theirs.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.exo(beta=0.1)(ga.laws.sample_pairs())
    >>> outcome.u.detach()[:3]  # the probabilities σ(βu) of three labels
    tensor([0.4859, 0.5528, 0.4900], dtype=torch.float64)
    """
    check_smoothing("exo", label_smoothing)
    if label_smoothing == 0:
        check.refuse("exo", "the reverse KL from a sure label is infinite; the paper takes 1e-3.", label_smoothing=0)
    return Objective(
        unit=PreferenceProbability(beta=beta),
        chart=LogRatio(),
        sampling=Label(log_odds(label_smoothing)),
        optimization=NegativeEntropy(),
        anchor="reference",
        offset=FenchelYoung(),
    )


def discopop(beta: float = 0.05, tau: float = 0.05) -> Objective:
    """DiscoPOP, the log-ratio modulated loss that a language model found: (1−s)·(−log σ(βu)) + s·e^{−βu},  s = σ(βu/τ).

    Args:
        beta: inverse temperature, > 0, per nat.
        tau: width of the modulation, > 0.

    Source: Lu et al. 2024 (arXiv 2406.08414) eq. 5.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.discopop(beta=0.05)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # (log 2 + 1)/2 = 0.847 where the policy is the reference
    0.848
    """
    return Objective(
        unit=Pair(),
        chart=LogRatio(),
        sampling=Label(0.0),
        optimization=LogRatioModulated(beta, tau),
        anchor="reference",
    )


def gpo_exponential(beta: float = 0.1) -> Objective:
    """The exponential loss of AdaBoost as a preference loss: e^{−βu}. It is the k3 potential with the drive at the end
    of its range.

    Args:
        beta: inverse temperature, > 0, per nat.

    Source: Tang et al. 2024 (GPO, arXiv 2402.05749) table 1.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.gpo_exponential(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # 1 where the policy is the reference
    0.94
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
    """The squared hinge as a preference loss: max(0, 1 − βu)². It is IPO's square below the margin 1/β and zero above
    it.

    Args:
        beta: reciprocal of the margin, > 0, per nat.

    Source: Tang et al. 2024 (GPO, arXiv 2402.05749) table 1.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.gpo_truncated_quadratic(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # 1 where the policy is the reference
    0.882
    """
    return Objective(
        unit=Pair(), chart=LogRatio(), sampling=Label(2 * beta), optimization=SquaredHinge(beta), anchor="reference"
    )


def gpo_savage(beta: float = 0.1) -> Objective:
    """Savage's loss, the Brier score of the preference probability: (1 − σ(βu))². It is a plain square in σ(βu), and
    not convex in u.

    Args:
        beta: inverse temperature, > 0, per nat.

    Source: Tang et al. 2024 (GPO, arXiv 2402.05749) table 1.

    >>> import geomalign as ga
    >>> outcome = ga.recipes.gpo_savage(beta=0.1)(ga.laws.sample_pairs())
    >>> round(outcome.loss.item(), 3)  # 0.25 where the policy is the reference
    0.234
    """
    return Objective(
        unit=PreferenceProbability(beta=beta),
        chart=LogRatio(),
        sampling=Label(2.0),
        optimization=ChiSquare(2.0),
        anchor="reference",
        offset=FenchelYoung(),
    )


def alpha_po(alpha: float = 0.25, beta: float = 2.0, gamma: float = 1.0) -> Objective:
    """AlphaPO, SimPO with another shape of the reward: −log σ(βu − γ),  u a difference of (1 − p^{−α})/α,  p the
    geometric mean of the response's token probabilities.

    Args:
        alpha: shape of the reward, not zero (zero is `simpo`).
        beta: reward scale, > 0; `simpo`'s default, as the paper tunes it for each model.
        gamma: target reward margin, in rewards; likewise.

    Source: Gupta et al. 2025 (arXiv 2501.03884).

    >>> import geomalign as ga
    >>> alpha, simpo = (recipe()(ga.laws.sample_pairs()) for recipe in (ga.recipes.alpha_po, ga.recipes.simpo))
    >>> [round(outcome.loss.item(), 3) for outcome in (alpha, simpo)]
    [1.855, 1.692]
    """
    check.positive("alpha_po", beta=beta)
    check.finite("alpha_po", alpha=alpha, gamma=gamma)
    if alpha == 0:
        check.refuse("alpha_po", "α is not zero; in the limit the loss is simpo(beta, gamma).", alpha=alpha)
    return Objective(
        unit=Pair(of=MeanSequence(), margin=gamma / beta),
        chart=Power(-alpha),
        sampling=Label(beta),
        optimization=Logistic(beta),
        anchor=None,
    )
