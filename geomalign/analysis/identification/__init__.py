"""The geometry of any loss, read off its values: chart, potential, drive, and where the two are not independent.

For ℓ(Δ; A) = φ(u(Δ)) − g(A)·u(Δ) + const(A) the force F = ∂ℓ/∂Δ obeys ∂F/∂A = −g'(A)·u'(Δ): the mixed derivative is a
product. Its factor in Δ is the slope of the chart, and the rest of the force is the mirror φ'(u)u'. Where the mixed
derivative is no product, the potential depends on the drive, and the loss is coupled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomalign._util.types import Interval, Locality
from geomalign.analysis.identification.assembly import assemble
from geomalign.analysis.identification.charts import Moved, TabulatedChart
from geomalign.analysis.identification.probing import Loss, Probe, arity
from geomalign.analysis.identification.report import (
    Coupling,
    Identification,
    Kink,
    Part,
    Recognised,
    Region,
)
from geomalign.analysis.identification.separation import read
from geomalign.batch import Batch, PreferenceBatch
from geomalign.objective import BaseObjective, Objective, TermDrives

__all__ = [
    "Coupling",
    "Identification",
    "Kink",
    "Moved",
    "Part",
    "Recognised",
    "Region",
    "TabulatedChart",
    "as_loss",
    "identify",
]

_ARITY = {"advantage": 2, "margin": 1, "pair": 2}
_ADVANTAGES = (-2.0, -1.3, -1.0, -0.4, 0.0, 0.4, 1.0, 1.3, 2.0)


def identify(
    loss: Loss,
    *,
    kind: str | None = None,
    advantages: Sequence[float] = _ADVANTAGES,
    domain: tuple[float, float] = (-30.0, 30.0),
    tolerance: float = 1e-8,
) -> Identification:
    """Reads chart, potential, drive and coupling off a black-box loss.

    ∂²ℓ/∂A∂Δ = −g'(A) u'(Δ) is integrated for the chart; φ'(u) = (∂ℓ/∂Δ)/u' + g. Derivatives in Δ are automatic; all
    else is quadrature and differentiation of Legendre series on panels that resolve the force to rounding and end at
    its kinks. Where the force is affine in A, g is A itself. Three things cannot be read off a loss: how samples
    were weighted before (only g is seen), the unit (one event is seen), and how a factor or a linear term is shared
    between drive and potential.

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
    if kind not in _ARITY:
        raise ValueError(f"identify(kind={kind!r}): choose one of {', '.join(map(repr, _ARITY))}, or None.")
    if not domain[0] < 0 < domain[1]:
        raise ValueError(f"identify(domain={domain!r}) must be an interval around 0, the anchor, such as (-30, 30).")
    probe, probed = Probe(loss, _ARITY[kind]), torch.tensor(sorted(advantages), dtype=torch.float64)
    return assemble(probe, read(probe, kind, probed, Interval(*domain), tolerance))


def as_loss(objective: BaseObjective, *, log_prob: float = 0.0) -> Loss:
    """The value of an objective as the loss of one event, ℓ(Δ, drive), or of one pair, ℓ(Δ_chosen, Δ_rejected).

    Every row is one token. The drive is passed in, so the sampling geometry (group baselines, escort weights) stays
    outside; of a sum, a term whose sampling answers to one sign of the advantage alone gets that sign alone. A label
    keeps its own strength, and a pair's reward margin is 1. Of a potential that couples the responses of a group the
    event is two responses that stand opposite each other, at Δ and −Δ under drives g and −g.

    Args:
        objective: any. Give `kind="pair"` to `identify` where its unit is a pair.
        log_prob: log-probability of every event under all policies that log-ratios are measured from. It matters to
            objectives without a reference that are not linear in log π: log-odds need one below zero.

    Returns:
        a function of two float64 tensors `(n,)` whose value is the mean over the n events, or, where ranks in the batch
        couple events, each event's own.

    >>> import geomalign as ga
    >>> from geomalign.analysis.identification import as_loss
    >>> ga.identify(as_loss(ga.recipes.dpo(beta=0.5)), kind="pair").recognised.optimization
    Logistic(beta=0.5)
    """

    def pairs(chosen: Tensor, rejected: Tensor) -> Tensor:
        anchor = torch.full_like(chosen, log_prob)[:, None]
        policy = chosen[:, None] + log_prob, rejected[:, None] + log_prob
        outcome = objective.plain(PreferenceBatch(*policy, anchor, anchor, margin=torch.ones_like(chosen)))
        return outcome.loss / outcome.terms[0].weights.sum()

    def one(chosen: Tensor, rejected: Tensor) -> Tensor:
        return pairs(chosen[None], rejected[None])

    def event(log_ratio: Tensor, drive: Tensor) -> Tensor:
        anchor = torch.full_like(log_ratio, log_prob)[:, None]
        batch = Batch(log_ratio[:, None] + log_prob, anchor, reference=anchor, behavior=anchor, advantage=drive)
        pulls = drive if len(objective.terms) == 1 else TermDrives(_pull(o, batch, drive) for _, o in objective.terms)
        outcome = objective.plain(batch, drive=pulls)
        return outcome.loss / outcome.terms[0].weights.sum()

    def opposite(log_ratio: Tensor, drive: Tensor) -> Tensor:
        anchor = torch.full_like(log_ratio, log_prob)[:, None].repeat(2, 1)
        both, pulls = (torch.cat([x, -x]) for x in (log_ratio, drive))
        group = torch.arange(len(drive)).repeat(2)
        batch = Batch(both[:, None] + anchor, anchor, None, pulls, pulls, anchor, group, anchor)
        outcome = objective.plain(batch, drive=pulls)
        return outcome.loss / outcome.terms[0].weights.sum()

    if any(term.optimization.locality >= Locality.GROUP for _, term in objective.terms):
        return opposite
    if objective.paired:
        return torch.func.vmap(one) if objective.locality is Locality.BATCH else pairs
    return event


def _pull(term: Objective, batch: Batch, drive: Tensor) -> Tensor:
    """The drive where the term's sampling responds to its sign, or the term's own constant label."""
    if not term.sampling.driven:
        return term.drive(batch)
    zero = drive.new_zeros(2, 1)
    signs = drive.new_tensor([-1.0, 1.0])
    felt = term.drive(Batch(zero, zero, reference=zero, behavior=zero, advantage=signs, reward=signs)) != 0
    return torch.where(drive > 0, felt[1], felt[0]) * drive
