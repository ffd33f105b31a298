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


@pytest.mark.parametrize("kind", members.SLOTS, ids=lambda kind: kind.__name__)
def test_every_class_of_a_slot_is_a_member(kind: type) -> None:
    """A new class that tests/members.py does not list is in no law's test: so this one fails."""
    listed = {part.__name__ for member in members.SLOTS[kind] for part in members.parts(member)}
    missing = {c.__name__ for c in members.classes(kind)} - listed - set(members.APART)
    assert not missing, f"list in tests/members.py: {sorted(missing)}"
    assert not listed & set(members.APART), "an exception that is none any more"


def test_the_search_for_members_finds_a_new_class() -> None:
    class New(ga.MeanSequence):
        pass

    assert New not in members.classes(ga.Unit), "a class of a test is not the package's"
    New.__module__ = "geomalign.new"
    assert New in members.classes(ga.Unit)
    New.__module__ = __name__


def cross(slot: str, of: list[Any]) -> Any:
    cases = [(law, member) for law in laws.LAWS[slot] for member in of]
    return pytest.mark.parametrize(
        "law, member", cases, ids=[f"{law.__name__}-{members.ident(member)}" for law, member in cases]
    )


@cross("optimization", members.SLOTS[ga.OptimizationGeometry])
def test_optimization(law: Callable[[Any], None], member: ga.OptimizationGeometry) -> None:
    law(member)


@cross("chart", members.SLOTS[ga.Chart])
def test_chart(law: Callable[[Any], None], member: ga.Chart) -> None:
    law(member)


@cross("unit", members.SLOTS[ga.Unit])
def test_unit(law: Callable[[Any], None], member: ga.Unit) -> None:
    law(member)


@cross("measure", members.SLOTS[ga.Measure])
def test_measure(law: Callable[[Any], None], member: ga.Measure) -> None:
    law(member)


@cross("sampling", members.SLOTS[ga.SamplingGeometry])
def test_sampling(law: Callable[[Any], None], member: ga.SamplingGeometry) -> None:
    law(member)


@cross("divergence", members.SLOTS[ga.Divergence])
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
        offset=ga.Surrogate(),
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


LATER = [
    *members.LATER_UNITS,
    *members.LATER_CHARTS,
    *members.LATER_SAMPLING,
    *members.PAIR_SAMPLING,
    *members.LATER_OPTIMIZATION,
]


@pytest.mark.parametrize("member", LATER, ids=members.ident)
def test_a_later_member_composes(member: Any) -> None:
    """In a plain objective, in place of the part that fills its slot: the closed form is the gradient, parts add up."""
    slots: dict[str, Any] = {"unit": ga.Sequence(), "sampling": ga.GroupAdvantage(), "optimization": ga.Logistic()}
    if getattr(member, "unit", None) in ("token", "return"):
        slots["unit"] = ga.Token()
    elif member in members.PAIR_SAMPLING:
        slots["unit"] = ga.Pair()
    elif isinstance(member, ga.Unit) and member.paired:
        slots["sampling"] = ga.Label(0.3)
    kinds = {
        "unit": ga.Unit,
        "chart": ga.Chart,
        "sampling": ga.SamplingGeometry,
        "optimization": ga.OptimizationGeometry,
    }
    slots[next(slot for slot, kind in kinds.items() if isinstance(member, kind))] = member
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ga.UnboundedLossWarning)
        objective = ga.Objective(**{"chart": ga.LogRatio()} | slots)
    laws.the_law_is_the_gradient(objective)
    laws.masked_tokens_are_absent(objective)
    laws.parts_add_up_to_the_whole(objective)


EVERYTHING: list[Any] = [
    *(member for slot in members.SLOTS.values() for member in slot),
    *members.PAIR_SAMPLING,
    ga.LogOdds(),
    ga.StraightThrough(ga.ReverseKL(), ga.ChiSquare()),
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


@pytest.mark.parametrize("member", [m for m in EVERYTHING if not isinstance(m, ga.BaseObjective)], ids=members.ident)
def test_latex_is_balanced(member: Any) -> None:
    arguments: dict[type, tuple[Any, ...]] = {
        ga.Unit: (None,),
        ga.Chart: ("x",),
        ga.OptimizationGeometry: ("u", "g"),
        ga.Measure: (True,),
        ga.Offset: ("u", "g", "f"),
    }
    text = member.latex(*next((given for kind, given in arguments.items() if isinstance(member, kind)), ()))
    assert text.count("{") == text.count("}") and text.count(r"\left") == text.count(r"\right")


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

    def latex(self, u: str, drive: str) -> str:
        return f"{u}^2"


class Minimal(ga.BregmanGeometry):
    """The least that a geometry must state: φ(u) = u²/2 + √(1 + u²)."""

    def value(self, u: torch.Tensor) -> torch.Tensor:
        return u**2 / 2 + torch.hypot(u, torch.ones_like(u))

    def mirror(self, u: torch.Tensor, drive: torch.Tensor | None = None) -> torch.Tensor:
        return u + u / torch.hypot(u, torch.ones_like(u))

    def curvature(self, u: torch.Tensor, drive: torch.Tensor | None = None) -> torch.Tensor:
        return 1 + torch.hypot(u, torch.ones_like(u)) ** -3

    def latex(self, u: str, drive: str) -> str:
        return rf"\frac{{1}}{{2}}{u}^2+\sqrt{{1+{u}^2}}"


def test_what_a_geometry_does_not_state_is_solved_for() -> None:
    laws.check_geometry(Minimal())
    u = torch.tensor([-1.0, 0.0, 2.0])
    drive = Minimal().mirror(u)
    torch.testing.assert_close(Minimal().equilibrium(drive), u)
    torch.testing.assert_close(Minimal().conjugate(drive), drive * u - Minimal().value(u))


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
