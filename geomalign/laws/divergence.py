"""Laws of divergences."""

from __future__ import annotations

import torch

from geomalign.divergences import Divergence, TotalVariation
from geomalign.laws.checking import POINTS, check, equal, gradient_of, holds, law


def check_divergence(divergence: Divergence) -> None:
    """All laws of a `Divergence`. Raises `LawViolation`."""
    check("divergence", divergence)


_RATIOS = torch.exp(POINTS)


@law("divergence")
def a_divergence_vanishes_at_one(divergence: Divergence) -> None:
    """ψ(1) = ψ'(1) = 0 and ψ ≥ 0."""
    one = torch.ones(1, dtype=torch.float64)
    equal(divergence.generator(one), torch.zeros(1), f"{divergence!r}: ψ(1)")
    equal(divergence.mirror(one), torch.zeros(1), f"{divergence!r}: ψ'(1)")
    holds(divergence.generator(_RATIOS) >= 0, f"{divergence!r}: ψ is negative somewhere")


@law("divergence")
def mirror_and_curvature_are_derivatives(divergence: Divergence) -> None:
    """ψ' and ψ'' by autograd."""
    equal(divergence.mirror(_RATIOS), gradient_of(divergence.generator, _RATIOS), f"{divergence!r}: mirror", atol=1e-8)
    equal(
        divergence.curvature(_RATIOS), gradient_of(divergence.mirror, _RATIOS), f"{divergence!r}: curvature", atol=1e-8
    )


@law("divergence")
def the_log_ratio_forms_agree(divergence: Divergence) -> None:
    """penalty, coordinate and slope are ψ, ψ' and tψ'' read in log t."""
    x = POINTS
    equal(divergence.penalty(x), divergence.generator(_RATIOS), f"{divergence!r}: penalty", rtol=1e-6, atol=1e-8)
    equal(divergence.coordinate(x), divergence.mirror(_RATIOS), f"{divergence!r}: coordinate", rtol=1e-6, atol=1e-7)
    equal(divergence.slope(x), _RATIOS * divergence.curvature(_RATIOS), f"{divergence!r}: slope", rtol=1e-6, atol=1e-7)


@law("divergence")
def the_conjugate_is_the_conjugate(divergence: Divergence) -> None:
    """inverse_mirror(ψ'(t)) = t and ψ*(ψ'(t)) = tψ'(t) − ψ(t), where ψ is strictly convex."""
    if isinstance(divergence, TotalVariation):
        return
    s = divergence.mirror(_RATIOS)
    equal(divergence.inverse_mirror(s), _RATIOS, f"{divergence!r}: inverse_mirror ∘ mirror", rtol=1e-6, atol=1e-7)
    young = _RATIOS * s - divergence.generator(_RATIOS)
    equal(divergence.conjugate(s), young, f"{divergence!r}: Young's equality", rtol=1e-6, atol=1e-7)
