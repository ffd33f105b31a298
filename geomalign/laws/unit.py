"""Laws of units."""

from __future__ import annotations

import torch

from geomalign.laws.cases import BATCHES, MASKS, Drawn
from geomalign.laws.checking import EXAMPLES, check, equal, gradient_of, holds, law
from geomalign.unit import Unit


def check_unit(unit: Unit, examples: int = EXAMPLES) -> None:
    """Check all laws of a `Unit`; arguments and `LawViolation` as of `check_optimization`.

    >>> import geomalign as ga
    >>> ga.laws.check_unit(ga.MeanSequence())
    """
    check("unit", unit, examples)


@law("unit", MASKS)
def spread_is_the_adjoint_of_reduce(unit: Unit, case: Drawn) -> None:
    """spread is the transposed derivative of reduce on ragged masks, and masked tokens get exactly nothing."""
    generator, mask = torch.Generator().manual_seed(case.seed), case()
    x = torch.where(mask, torch.randn(mask.shape, generator=generator, dtype=torch.float64), 0)
    y = torch.randn(unit.reduce(x, mask).shape, generator=generator, dtype=torch.float64)
    spread = unit.spread(y, mask, x)
    by_autograd = torch.where(mask, gradient_of(lambda tokens: unit.reduce(tokens, mask) * y, x), 0)
    remedy = "spread(y, mask, x) must be the gradient of Σ y·reduce(x, mask) with respect to x."
    equal(spread, by_autograd, "spread is not the adjoint of reduce", remedy)
    outside = torch.where(mask, 0, spread)
    holds(outside == 0, "spread gives a masked token a gradient", "Multiply by the mask.", spread=outside)


@law("unit", MASKS)
def split_is_the_adjoint_of_combine(unit: Unit, case: Drawn) -> None:
    """split is the transposed derivative of combine."""
    generator, mask = torch.Generator().manual_seed(case.seed), case()
    shape = unit.reduce(torch.zeros(mask.shape, dtype=torch.float64), mask).shape
    u = torch.randn(shape, generator=generator, dtype=torch.float64)
    e = torch.randn(unit.combine(u).shape, generator=generator, dtype=torch.float64)
    by_autograd = gradient_of(lambda x: unit.combine(x) * e, u)
    remedy = "split(e, u) must be the gradient of Σ e·combine(u) with respect to u."
    equal(unit.split(e, u), by_autograd, "split is not the adjoint of combine", remedy)


@law("unit", BATCHES)
def events_are_counted_as_they_are_supported(unit: Unit, case: Drawn) -> None:
    """`events(counts)` counts the true entries of `support`, and the rows that hold one."""
    batch = case()
    support = unit.support(batch.rows.support)
    events, rows = unit.events(batch.counts())
    holding = support.any(-1).sum() if support.ndim == 2 else support.sum()
    remedy = "events(counts) must give the sum of support, and the number of its rows with a true entry."
    equal(events.double(), support.sum().double(), "events(counts) does not count the events of support", remedy)
    equal(rows.double(), holding.double(), "events(counts) does not count the rows of support", remedy)
