"""The geometry of any loss, read off its values: chart, potential, drive, and where the two are not independent.

For ℓ(Δ; A) = φ(u(Δ)) − g(A)·u(Δ) + const(A) the force F = ∂ℓ/∂Δ obeys ∂F/∂A = −g'(A)·u'(Δ): the mixed derivative is a
product. Its Δ-factor is the slope of the chart, what is left of the force the mirror φ'(u)u'. Where the mixed
derivative is no product, the potential knows the drive: the loss is coupled there. Nothing of this needs the loss's
formula.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch
from geomalign.identify.law import Law, Loss, arity
from geomalign.identify.naming import report_of
from geomalign.identify.reading import read_advantage, read_margin, read_pair
from geomalign.identify.report import Coupling, Identification, Kink, Recognised, Region, TabulatedChart
from geomalign.numerics import Interval
from geomalign.objective import BaseObjective

__all__ = ["Coupling", "Identification", "Kink", "Recognised", "Region", "TabulatedChart", "as_loss", "identify"]


_KINDS = ("advantage", "margin", "pair")


_ADVANTAGES = (-2.0, -1.3, -1.0, -0.4, 0.0, 0.4, 1.0, 1.3, 2.0)


def identify(
    loss: Loss,
    *,
    kind: str | None = None,
    advantages: Sequence[float] = _ADVANTAGES,
    domain: tuple[float, float] = (-30.0, 30.0),
    tolerance: float = 1e-8,
) -> Identification:
    """Read chart, potential, drive and coupling off a black-box loss.

    ∂²ℓ/∂A∂Δ = −g'(A) u'(Δ) is integrated for the chart; φ'(u) = (∂ℓ/∂Δ)/u' + g. Derivatives in Δ are automatic, all
    else is quadrature and differentiation of piecewise Legendre series on panels that resolve the force to rounding,
    split at its kinks. g is A itself where the force is affine in A. What cannot be known: how samples were weighted
    before (only g is seen), the unit (one event is seen), and a factor or a linear term shared between drive and
    potential, which no loss determines.

    Args:
        loss: of float64 tensors `(n,)`, elementwise, or their sum or mean, differentiable in the first. For losses that
            also need masks or lengths, wrap them.
        kind: "advantage" for ℓ(log_ratio, advantage), "margin" for ℓ(margin), "pair" for ℓ(log_ratio_chosen,
            log_ratio_rejected). None: "margin" for one required argument, "advantage" for two.
        advantages: to probe, at least three, of both signs where the loss is used with both.
        domain: log-ratios to resolve, containing 0. It shrinks to where the loss is finite.
        tolerance: largest relative residual of a named match. Raised to 1e4 times the loss's own rounding error if that
            is more.

    Returns:
        `Identification`.

    Raises:
        ValueError: the loss couples samples, is not finite at the anchor, or `kind` is unknown.

    Source: the formula, Blondel, Martins & Niculae, JMLR 2020; inverting it is this library's.

    >>> import torch, geomalign as ga
    >>> report = ga.identify(lambda log_ratio, advantage: (log_ratio.exp() - 1) ** 2 - advantage * log_ratio.exp())
    >>> report.recognised.chart, report.recognised.optimization, report.decoupled
    (Ratio(), ChiSquare(mu=2.0), True)
    """
    if kind is None:
        kind = "margin" if arity(loss) == 1 else "advantage"
    if kind not in _KINDS:
        raise ValueError(f"identify(kind={kind!r}): choose one of {', '.join(map(repr, _KINDS))}.")
    if not domain[0] < 0 < domain[1]:
        raise ValueError(f"identify(domain={domain!r}): an interval around 0, the anchor.")
    law = Law(loss, 1 if kind == "margin" else 2)
    reader = {"advantage": read_advantage, "margin": read_margin, "pair": read_pair}[kind]
    probes = torch.tensor(sorted(advantages), dtype=torch.float64)
    return report_of(law, reader(law, probes, Interval(*domain), tolerance))


def as_loss(objective: BaseObjective) -> Loss:
    """An objective as the loss of one event: ℓ(Δ, drive), or of a pair ℓ(Δ_chosen, Δ_rejected), by its published value
    alone.

    Every row is one token, measured from a policy with log-probability 0. The drive is passed in, so the sampling
    geometry (group baselines, escort weights) stays outside; a label keeps its own strength, and a pair's reward margin
    is 1.

    Args:
        objective: any. Give `kind="pair"` to `identify` where its unit is a pair.

    Returns:
        a function of two float64 tensors `(n,)` whose value is the mean over the n events.
    """
    paired = any(term.unit.paired for _, term in objective.terms)

    def pair(chosen: Tensor, rejected: Tensor) -> Tensor:
        zero = torch.zeros_like(chosen)[:, None]
        batch = PreferenceBatch(chosen[:, None], rejected[:, None], zero, zero, margin=torch.ones_like(chosen))
        outcome = objective(batch)
        return outcome.loss / outcome.weights.sum()

    def event(log_ratio: Tensor, drive: Tensor) -> Tensor:
        zero = torch.zeros_like(log_ratio)[:, None]
        batch = Batch(log_ratio[:, None], zero, reference=zero, behavior=zero, advantage=drive)
        outcome = objective(batch, drive=drive)
        return outcome.loss / outcome.weights.sum()

    return pair if paired else event
