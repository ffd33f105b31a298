"""Which values of the slots fit together: what is refused when an objective is made, and what is warned of."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from geomalign._util.check import refuse
from geomalign._util.types import Locality

if TYPE_CHECKING:
    from geomalign.objective.formula import Objective

__all__ = ["RadiusWarning", "UnboundedLossWarning"]


class UnboundedLossWarning(UserWarning):
    """The drive lies outside the conjugate's domain, so that the loss has no minimum.

    >>> import warnings, geomalign as ga
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     penalty = ga.kl_penalty("k1")
    >>> caught[0].category.__name__
    'UnboundedLossWarning'
    """


class RadiusWarning(UserWarning):
    """The drive is solved for a step of a stated size, and the potential in its chart makes another.

    >>> import warnings, geomalign as ga
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     objective = ga.Objective(
    ...         unit=ga.Sequence(), sampling=ga.TrustRegion(kl=0.05), optimization=ga.ChiSquare(mu=4.0)
    ...     )
    >>> caught[0].category.__name__
    'RadiusWarning'
    """


def check_together(objective: Objective) -> None:
    """Raise where the slots of an objective contradict each other, and warn where they belie each other.

    >>> import geomalign as ga
    >>> check_together(ga.recipes.grpo())
    """
    unit, optimization = objective.unit, objective.optimization
    if optimization.locality >= Locality.GROUP and (unit.per_token or unit.paired):
        refuse(
            "Objective",
            "this potential couples the responses to one prompt, so that its unit is one of whole responses: "
            "MeanSequence() or Sequence().",
            unit=unit,
            optimization=optimization,
        )
    if objective.chart.needs_anchor and (objective.anchor is None or not unit.linear):
        refuse(
            "Objective",
            "this chart reads the anchor's log-probability, which needs an anchor and a unit that is linear in the "
            "log-probabilities, such as Token().",
            chart=objective.chart,
            anchor=objective.anchor,
            unit=unit,
        )
    if objective.measure.needs_lengths and unit.paired:
        refuse(
            "Objective",
            "this measure weighs a response by its length, and a pair has two: use PooledMean().",
            unit=unit,
            measure=objective.measure,
        )
    _warn_of_no_minimum(objective)
    _warn_of_another_step(objective)


def _warn_of_no_minimum(objective: Objective) -> None:
    drive, allowed = objective.sampling.drive_range, objective.optimization.conjugate_domain
    if not objective.sampling.driven and not allowed.low <= drive.low <= allowed.high:
        warnings.warn(
            f"the drive {drive.low:g} of {objective.sampling!r} lies outside [{allowed.low:g}, {allowed.high:g}], the "
            f"drives that {objective.optimization!r} can balance: this loss is unbounded below, so training has no "
            "end point. Choose a smaller drive or a stiffer potential.",
            UnboundedLossWarning,
            stacklevel=5,
        )


def _warn_of_another_step(objective: Objective) -> None:
    """Two ratios, one on each side of the anchor, tell whether the equilibrium is the step that is solved for."""
    ratios = torch.tensor([0.9, 1.1], dtype=torch.float64)
    drives = objective.sampling.solved_drive(ratios)
    if drives is None or objective.unit.paired:
        return
    with torch.no_grad():
        made = objective.optimization.equilibrium(drives)
        meant = objective.chart(ratios.log())
    if torch.allclose(made, meant, rtol=1e-6, atol=1e-9):
        return
    warnings.warn(
        f"{objective.sampling!r} solves the drive for a step that ChiSquare(1.0) makes in the divergence's own "
        "coordinate: Ratio() for chi2, LogRatio() for kl, Dual(divergence) for another. At the ratio 1.1 this step is "
        f"u = {float(meant[1]):.4g}, and {objective.optimization!r} in {objective.chart!r} makes one of "
        f"{float(made[1]):.4g}, so the policy moves by another radius.",
        RadiusWarning,
        stacklevel=5,
    )
