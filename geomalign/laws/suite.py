"""Every law, stated: importing this module fills `LAWS`, which the modules of the slots write into."""

from __future__ import annotations

from typing import Any

from geomalign.chart import Chart
from geomalign.divergences import Divergence
from geomalign.laws.chart import check_chart
from geomalign.laws.checking import EXAMPLES, LAWS, Law, LawViolation, check
from geomalign.laws.comparison import Comparison, Verdict, compare
from geomalign.laws.conformance import LossReport, compare_loss
from geomalign.laws.divergence import check_divergence
from geomalign.laws.group import the_gap_of_a_group_is_a_fenchel_young_loss as _  # noqa: F401 (fills LAWS)
from geomalign.laws.measure import check_measure
from geomalign.laws.objective import (
    check_objective,
    gradient_is_the_derivative_of_the_loss,
    masked_tokens_are_absent,
    parts_add_up_to_the_whole,
)
from geomalign.laws.optimization import check_optimization
from geomalign.laws.samples import sample_batch, sample_mask, sample_pairs
from geomalign.laws.sampling import check_sampling
from geomalign.laws.unit import check_unit
from geomalign.measure import Measure
from geomalign.objective import SLOTS, BaseObjective
from geomalign.optimization import OptimizationGeometry
from geomalign.sampling import SamplingGeometry
from geomalign.unit import Unit

__all__ = [
    "LAWS",
    "Comparison",
    "Law",
    "LawViolation",
    "LossReport",
    "Verdict",
    "check_chart",
    "check_divergence",
    "check_geometry",
    "check_measure",
    "check_objective",
    "check_optimization",
    "check_sampling",
    "check_unit",
    "compare",
    "compare_loss",
    "gradient_is_the_derivative_of_the_loss",
    "masked_tokens_are_absent",
    "parts_add_up_to_the_whole",
    "sample_batch",
    "sample_mask",
    "sample_pairs",
]


def check_geometry(member: Any, examples: int = EXAMPLES) -> None:
    """Check all laws of the slot that `member` fills, as the test of a package that offers geometries. Of an objective
    the members that fill its slots are checked first.

    Args:
        member: an optimization or sampling geometry, chart, unit, measure, divergence or objective.
        examples: how many cases Hypothesis draws for each law, besides the fixed ones.

    Raises:
        LawViolation: it breaks a law; the message has the smallest case found and a remedy.
        TypeError: it fills no slot.

    >>> import torch, geomalign as ga
    >>> ga.laws.check_geometry(ga.ConvexPotential(lambda u: 4 * (torch.cosh(u) - 1)))
    """
    slot = next((slot for kind, slot in _SLOT_OF.items() if isinstance(member, kind)), None)
    if isinstance(member, BaseObjective):
        # What breaks a law of its slot is named before the objective that is made of it.
        for part in dict.fromkeys(getattr(term, name) for _, term in member.terms for name in SLOTS):
            check_geometry(part, examples)
    if slot is None:
        kinds = ", ".join(kind.__name__ for kind in _SLOT_OF)
        raise TypeError(f"{member!r} fills no slot: it is an instance of none of {kinds}. A class is called first.")
    check_optimization(member, examples) if slot == "optimization" else check(slot, member, examples)


_SLOT_OF: dict[type, str] = {
    OptimizationGeometry: "optimization",
    SamplingGeometry: "sampling",
    Chart: "chart",
    Unit: "unit",
    Measure: "measure",
    Divergence: "divergence",
    BaseObjective: "objective",
}
