"""Laws × members: a law is written once, in `geomalign.laws`, and runs over every member of its slot."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import members
import pytest
import torch

import geomalign as ga
from geomalign import laws

RECIPES = members.recipes()


def cross(slot: str, of: list[Any]) -> Any:
    cases = [(law, member) for law in laws.LAWS[slot] for member in of]
    return pytest.mark.parametrize(
        "law, member", cases, ids=[f"{law.__name__}-{members.ident(member)}" for law, member in cases]
    )


@cross("optimization", members.OPTIMIZATION)
def test_optimization(law: Callable[[Any], None], member: ga.OptimizationGeometry) -> None:
    law(member)


@cross("chart", members.CHARTS)
def test_chart(law: Callable[[Any], None], member: ga.Chart) -> None:
    law(member)


@cross("unit", members.UNITS)
def test_unit(law: Callable[[Any], None], member: ga.Unit) -> None:
    law(member)


@cross("measure", members.MEASURES)
def test_measure(law: Callable[[Any], None], member: ga.Measure) -> None:
    law(member)


@cross("sampling", members.SAMPLING)
def test_sampling(law: Callable[[Any], None], member: ga.SamplingGeometry) -> None:
    law(member)


@cross("divergence", members.DIVERGENCES)
def test_divergence(law: Callable[[Any], None], member: ga.Divergence) -> None:
    law(member)


@pytest.mark.parametrize("law", laws.LAWS["objective"], ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", RECIPES)
def test_recipe(law: Callable[[Any], None], name: str) -> None:
    law(RECIPES[name])


@pytest.mark.parametrize("unit", members.RESPONSE_UNITS, ids=members.ident)
@pytest.mark.parametrize("chart", members.CHARTS, ids=members.ident)
@pytest.mark.parametrize("optimization", members.OPTIMIZATION, ids=members.ident)
def test_every_composition_has_its_law(unit: ga.Unit, chart: ga.Chart, optimization: ga.OptimizationGeometry) -> None:
    """Across the axes, also where nobody would go: the closed form is the gradient, and a masked NaN is absent."""
    objective = ga.Objective(unit=unit, chart=chart, sampling=ga.GroupAdvantage(), optimization=optimization)
    laws.the_law_is_the_gradient(objective)
    laws.masked_tokens_are_absent(objective)


@pytest.mark.parametrize("sampling", members.SAMPLING, ids=members.ident)
@pytest.mark.parametrize("measure", members.MEASURES, ids=members.ident)
def test_every_drive_and_measure_adds_up(sampling: ga.SamplingGeometry, measure: ga.Measure) -> None:
    objective = ga.Objective(
        unit=ga.Token(),
        chart=ga.Ratio(),
        sampling=sampling,
        optimization=ga.Clip(),
        measure=measure,
        constant=ga.Surrogate(),
    )
    laws.parts_add_up_to_the_whole(objective)
    laws.the_law_is_the_gradient(objective)


@pytest.mark.parametrize("chart", members.CHARTS, ids=members.ident)
@pytest.mark.parametrize("optimization", members.BREGMAN, ids=members.ident)
def test_orthogonality(optimization: ga.BregmanGeometry, chart: ga.Chart) -> None:
    """∂L/∂u = w(mirror(u) − drive) with every sampling geometry, and ∂²L/∂u² = w·curvature(u), the same for all."""
    batch, curvatures = laws.sample_batch(), []
    for sampling in members.SAMPLING:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ga.UnboundedLossWarning)
            objective = ga.Objective(unit=ga.Token(), chart=chart, sampling=sampling, optimization=optimization)
        outcome = objective(batch)
        first = torch.autograd.grad(outcome.loss, outcome.u, create_graph=True)[0]
        expected = outcome.weights * (optimization.mirror(outcome.u) - outcome.drive)
        torch.testing.assert_close(first, torch.where(outcome.support, expected, 0), rtol=1e-9, atol=1e-11)
        second = torch.zeros_like(first)
        if first.requires_grad:
            second = torch.autograd.grad(first.sum(), outcome.u, allow_unused=True, materialize_grads=True)[0]
        torch.testing.assert_close(second, outcome.weights * outcome.curvature, rtol=1e-8, atol=1e-10)
        curvatures.append(outcome.curvature)
    assert all(torch.equal(curvature, curvatures[0]) for curvature in curvatures)


EVERYTHING: list[Any] = [
    *members.OPTIMIZATION,
    *members.CHARTS,
    *members.UNITS,
    *members.MEASURES,
    *members.SAMPLING,
    *members.DIVERGENCES,
    *members.CONSTANTS,
    *RECIPES.values(),
]


# A plain function has no repr that evaluates.
@pytest.mark.parametrize("member", [m for m in EVERYTHING if "function=<" not in repr(m)], ids=members.ident)
def test_repr_round_trips(member: Any) -> None:
    names = {name: getattr(ga, name) for name in dir(ga)} | {"inf": math.inf}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ga.UnboundedLossWarning)
        again = eval(repr(member), names)
    assert again == member and hash(again) == hash(member)


class Broken(ga.BregmanGeometry):
    """A geometry with the wrong mirror, to see the laws bite."""

    def value(self, u: torch.Tensor) -> torch.Tensor:
        return u**2

    def mirror(self, u: torch.Tensor, drive: torch.Tensor | None = None) -> torch.Tensor:
        return u

    def curvature(self, u: torch.Tensor, drive: torch.Tensor | None = None) -> torch.Tensor:
        return torch.ones_like(u)

    def conjugate(self, drive: torch.Tensor) -> torch.Tensor:
        return drive**2 / 4

    def equilibrium(self, drive: torch.Tensor) -> torch.Tensor:
        return drive / 2

    @property
    def domain(self) -> ga.Interval:
        return ga.Interval()

    @property
    def drives(self) -> ga.Interval:
        return ga.Interval()

    def latex(self, u: str, drive: str) -> str:
        return f"{u}^2"


def test_a_wrong_mirror_is_caught() -> None:
    with pytest.raises(laws.LawViolation, match="force is not the derivative of energy"):
        laws.check_optimization(Broken())


def test_a_wrong_locality_is_caught() -> None:
    class Liar(ga.MeanSequence):
        @property
        def locality(self) -> ga.Locality:
            return ga.Locality.TOKEN

    objective = ga.Objective(unit=Liar(), chart=ga.Ratio(), sampling=ga.Advantage(), optimization=ga.ChiSquare())
    with pytest.raises(laws.LawViolation, match="rest of its row"):
        laws.check_objective(objective)
