"""Laws of divergences."""

from __future__ import annotations

import torch

from geomalign.divergences import Divergence, TotalVariation
from geomalign.laws.cases import LINE, Points
from geomalign.laws.checking import EXAMPLES, check, equal, gradient_of, holds, law


def check_divergence(divergence: Divergence, examples: int = EXAMPLES) -> None:
    """Check all laws of a `Divergence`; arguments and `LawViolation` as of `check_optimization`.

    >>> import geomalign as ga
    >>> ga.laws.check_divergence(ga.JensenShannon())
    """
    check("divergence", divergence, examples)


@law("divergence", LINE)
def a_divergence_vanishes_at_one(divergence: Divergence, case: Points) -> None:
    """ψ(1) = ψ'(1) = 0 and ψ ≥ 0."""
    one, t = torch.ones(1, dtype=torch.float64), torch.exp(case.line())
    psi = divergence.generator(t)
    remedy = "Subtract ψ(1) + ψ'(1)(t − 1), which changes no divergence."
    equal(divergence.generator(one), torch.zeros(1), "ψ(1) is not 0", remedy)
    equal(divergence.mirror(one), torch.zeros(1), "ψ'(1) is not 0", remedy)
    holds(psi >= 0, "ψ is negative", "ψ must be convex.", generator=psi, t=t)


@law("divergence", LINE)
def a_divergence_resists_at_one(divergence: Divergence, case: Points) -> None:
    """Near t = 1 a divergence grows at least as a square: ψ(1 + h)/ψ(1 + 2h) → ¼, or ½ at a kink."""
    near, far = divergence.generator(1 + torch.tensor([1e-3, 2e-3], dtype=torch.float64))
    remedy = (
        "ψ''(1) is 0, so that the chart of this divergence has slope 0 at the anchor, and a loss in it has no gradient "
        "where training begins. Add a multiple of another divergence, such as KullbackLeibler()."
    )
    holds((near >= 0.2 * far)[None], "the generator is flat at t = 1", remedy, ratio=(near / far)[None])


@law("divergence", LINE)
def mirror_and_curvature_are_derivatives(divergence: Divergence, case: Points) -> None:
    """ψ' and ψ'' by autograd."""
    t = torch.exp(case.line())
    first, second = gradient_of(divergence.generator, t), gradient_of(divergence.mirror, t)
    for name, of, value, derivative in (
        ("mirror", "generator", divergence.mirror(t), first),
        ("curvature", "mirror", divergence.curvature(t), second),
    ):
        remedy = f"{name}(t) must be the derivative of {of}(t)."
        equal(value, derivative, f"{name} is not the derivative of {of}", remedy, atol=1e-8, t=t)


@law("divergence", LINE)
def the_log_ratio_forms_agree(divergence: Divergence, case: Points) -> None:
    """penalty, coordinate and slope are ψ, ψ' and tψ'' read in log t."""
    x = case.line()
    t = torch.exp(x)
    for name, value, expected, meant, atol in (
        ("penalty", divergence.penalty(x), divergence.generator(t), "generator(t)", 1e-8),
        ("coordinate", divergence.coordinate(x), divergence.mirror(t), "mirror(t)", 1e-7),
        ("slope", divergence.slope(x), t * divergence.curvature(t), "t·curvature(t)", 1e-7),
    ):
        remedy = f"{name}(x) must be {meant} at t = exp(x)."
        if value.isnan().any():
            remedy += " A NaN may come from an overflow: in float64 the generator is also differentiated at t = e^300."
        elif name == "slope" and (expected < -atol).any():
            remedy += " Here ψ'' is negative, and ψ must be convex."
        equal(value, expected, f"{name} is not {meant}", remedy, rtol=1e-6, atol=atol, log_ratio=x)


@law("divergence", LINE)
def the_conjugate_is_the_conjugate(divergence: Divergence, case: Points) -> None:
    """inverse_mirror(ψ'(t)) = t and ψ*(ψ'(t)) = tψ'(t) − ψ(t), where ψ is strictly convex."""
    if isinstance(divergence, TotalVariation):
        return
    t = torch.exp(case.line())
    s = divergence.mirror(t)
    what, remedy = "inverse_mirror(mirror(t)) is not t", "inverse_mirror must be the inverse function of mirror."
    equal(divergence.inverse_mirror(s), t, what, remedy, rtol=1e-6, atol=1e-7, t=t)
    what, remedy = (
        "conjugate(ψ'(t)) is not t·ψ'(t) − ψ(t)",
        "conjugate(s) must be the largest value of t·s − ψ(t).",
    )
    equal(divergence.conjugate(s), t * s - divergence.generator(t), what, remedy, rtol=1e-6, atol=1e-7, t=t)
