"""What every member of a slot obeys, as executable laws. Ours are tested with them, and so should yours be.

    ga.laws.check_optimization(MyGeometry(mu=0.5))

A law is a function of a member; it raises `LawViolation` with the numbers that break it. All of it is computed in
float64, except where a law speaks of float32. Each slot's laws have a module of their own here.
"""

from __future__ import annotations

from typing import Any

from geomalign.chart import Chart
from geomalign.divergences import Divergence
from geomalign.laws.chart import check_chart
from geomalign.laws.checking import LAWS, LawViolation, check
from geomalign.laws.divergence import check_divergence
from geomalign.laws.measure import check_measure
from geomalign.laws.objective import (
    check_objective,
    masked_tokens_are_absent,
    parts_add_up_to_the_whole,
    the_law_is_the_gradient,
)
from geomalign.laws.optimization import check_optimization
from geomalign.laws.samples import sample_batch, sample_pairs
from geomalign.laws.sampling import check_sampling
from geomalign.laws.unit import check_unit
from geomalign.measure import Measure
from geomalign.objective import BaseObjective
from geomalign.optimization import OptimizationGeometry
from geomalign.sampling import SamplingGeometry
from geomalign.unit import Unit

__all__ = [
    "LAWS",
    "LawViolation",
    "check_chart",
    "check_divergence",
    "check_geometry",
    "check_measure",
    "check_objective",
    "check_optimization",
    "check_sampling",
    "check_unit",
    "masked_tokens_are_absent",
    "parts_add_up_to_the_whole",
    "sample_batch",
    "sample_pairs",
    "the_law_is_the_gradient",
]


def check_geometry(member: Any) -> None:
    """All laws of whatever slot `member` fills: the test of a package that offers geometries. Raises `LawViolation`.

    Raises:
        TypeError: it fills no slot.
    """
    slot = next((slot for kind, slot in _SLOT_OF.items() if isinstance(member, kind)), None)
    if slot is None:
        kinds = ", ".join(kind.__name__ for kind in _SLOT_OF)
        raise TypeError(f"{member!r} fills no slot: it is an instance of none of {kinds}.")
    check(slot, member)


_SLOT_OF: dict[type, str] = {
    OptimizationGeometry: "optimization",
    SamplingGeometry: "sampling",
    Chart: "chart",
    Unit: "unit",
    Measure: "measure",
    Divergence: "divergence",
    BaseObjective: "objective",
}
