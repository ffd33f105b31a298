"""Laws of units."""

from __future__ import annotations

import torch

from geomalign.laws.checking import check, equal, gradient_of, holds, law, ragged
from geomalign.laws.samples import sample_batch, sample_pairs
from geomalign.unit import Unit


def check_unit(unit: Unit) -> None:
    """All laws of a `Unit`. Raises `LawViolation`."""
    check("unit", unit)


@law("unit")
def spread_is_the_adjoint_of_reduce(unit: Unit) -> None:
    """spread is the transposed derivative of reduce on ragged masks, and masked tokens get exactly nothing."""
    generator = torch.Generator().manual_seed(0)
    mask = ragged(6, 5, generator)
    x = torch.where(mask, torch.randn(6, 5, generator=generator, dtype=torch.float64), 0)
    y = torch.randn(unit.reduce(x, mask).shape, generator=generator, dtype=torch.float64)
    spread = unit.spread(y, mask, x)
    by_autograd = torch.where(mask, gradient_of(lambda tokens: unit.reduce(tokens, mask) * y, x), 0)
    equal(spread, by_autograd, f"{unit!r}: spread is not the adjoint of reduce")
    holds(spread[~mask] == 0, f"{unit!r}: spread reaches masked tokens")


@law("unit")
def split_is_the_adjoint_of_combine(unit: Unit) -> None:
    """split is the transposed derivative of combine."""
    generator = torch.Generator().manual_seed(1)
    mask = ragged(6, 5, generator)
    shape = unit.reduce(torch.zeros(6, 5, dtype=torch.float64), mask).shape
    u = torch.randn(shape, generator=generator, dtype=torch.float64)
    e = torch.randn(unit.combine(u).shape, generator=generator, dtype=torch.float64)
    equal(
        unit.split(e, u),
        gradient_of(lambda x: unit.combine(x) * e, u),
        f"{unit!r}: split is not the adjoint of combine",
    )


@law("unit")
def events_are_counted_as_they_are_supported(unit: Unit) -> None:
    """`events(total)` counts the true entries of `support`, and the rows that hold one."""
    batch = sample_pairs() if unit.paired else sample_batch()
    support = unit.support(batch.rows.support)
    events, rows = unit.events(batch.counts())
    equal(events.double(), support.sum().double(), f"{unit!r}: events(total) does not count the support")
    holding = support.any(-1).sum() if support.ndim == 2 else support.sum()
    equal(rows.double(), holding.double(), f"{unit!r}: events(total) does not count the rows of the support")
