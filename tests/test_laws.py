"""Laws × members: a law is written once, in `geomalign.laws`, and runs over every member of its slot."""

from __future__ import annotations

import ast
import dataclasses
import functools
import math
import re
import warnings
from pathlib import Path
from typing import Any

import members
import pytest
import torch

import geomalign as ga
from geomalign import laws
from geomalign._util.words import short
from geomalign.recipes.catalogue import parts

RECIPES = members.recipes()
FEW = 2
"""Cases drawn for each law and member, besides the fixed ones. Crossed compositions meet the fixed ones only."""


@pytest.mark.parametrize("kind", members.SLOTS, ids=lambda kind: kind.__name__)
def test_every_class_of_a_slot_is_a_member(kind: type) -> None:
    """A new class that tests/members.py does not list is in no law's test: so this one fails."""
    listed = {part.__name__ for member in members.SLOTS[kind] for part in parts(member)}
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


@cross("optimization", [member.section for member in members.SLOTS[ga.OptimizationGeometry]])
def test_optimization(law: laws.Law, member: ga.OptimizationGeometry) -> None:
    law(member, FEW)


@cross("group", members.GROUP_OPTIMIZATION)
def test_groups(law: laws.Law, member: ga.OptimizationGeometry) -> None:
    law(member, FEW)


@cross("chart", members.SLOTS[ga.Chart])
def test_chart(law: laws.Law, member: ga.Chart) -> None:
    law(member, FEW)


@cross("unit", members.SLOTS[ga.Unit])
def test_unit(law: laws.Law, member: ga.Unit) -> None:
    law(member, FEW)


@cross("measure", members.SLOTS[ga.Measure])
def test_measure(law: laws.Law, member: ga.Measure) -> None:
    law(member, FEW)


@cross("sampling", members.SLOTS[ga.SamplingGeometry])
def test_sampling(law: laws.Law, member: ga.SamplingGeometry) -> None:
    law(member, FEW)


@cross("divergence", members.SLOTS[ga.Divergence])
def test_divergence(law: laws.Law, member: ga.Divergence) -> None:
    law(member, FEW)


@pytest.mark.parametrize("law", laws.LAWS["objective"], ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", RECIPES)
def test_recipe(law: laws.Law, name: str) -> None:
    law(RECIPES[name], 1)


@pytest.mark.parametrize("unit", members.RESPONSE_UNITS, ids=members.ident)
@pytest.mark.parametrize("chart", members.CHARTS, ids=members.ident)
@pytest.mark.parametrize("optimization", members.OPTIMIZATION, ids=members.ident)
def test_every_composition_has_its_law(unit: ga.Unit, chart: ga.Chart, optimization: ga.OptimizationGeometry) -> None:
    """Across the axes, also where nobody would go: the closed form is the gradient, and a masked NaN is absent."""
    objective = ga.Objective(unit=unit, chart=chart, sampling=ga.GroupAdvantage(), optimization=optimization)
    laws.gradient_is_the_derivative_of_the_loss(objective, 0)
    laws.masked_tokens_are_absent(objective, 0)


@pytest.mark.parametrize("sampling", members.SAMPLING, ids=members.ident)
@pytest.mark.parametrize("measure", members.SLOTS[ga.Measure], ids=members.ident)
def test_every_drive_and_measure_adds_up(sampling: ga.SamplingGeometry, measure: ga.Measure) -> None:
    objective = ga.Objective(
        unit=ga.Token(),
        chart=ga.Ratio(),
        sampling=sampling,
        optimization=ga.Clip(),
        measure=measure,
        offset=ga.Surrogate(),
    )
    laws.parts_add_up_to_the_whole(objective, 0)
    laws.gradient_is_the_derivative_of_the_loss(objective, 0)


@pytest.mark.parametrize("chart", members.CHARTS, ids=members.ident)
@pytest.mark.parametrize("optimization", members.BREGMAN, ids=members.ident)
def test_orthogonality(optimization: ga.BregmanGeometry, chart: ga.Chart) -> None:
    """∂L/∂u = w(mirror(u) − drive) with every sampling geometry, and ∂²L/∂u² = w·curvature(u), the same for all."""
    batch, curvatures = laws.sample_batch(), []
    for sampling in members.SAMPLING:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ga.UnboundedLossWarning)
            objective = ga.Objective(unit=ga.Token(), chart=chart, sampling=sampling, optimization=optimization)
        outcome = objective.plain(batch)
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


@pytest.mark.filterwarnings("ignore::geomalign.RadiusWarning")
@pytest.mark.parametrize("member", LATER, ids=members.ident)
def test_a_later_member_composes(member: Any) -> None:
    """In a plain objective, in place of the part that fills its slot: the closed form is the gradient, parts add up."""
    slots: dict[str, Any] = {"unit": ga.Sequence(), "sampling": ga.GroupAdvantage(), "optimization": ga.Logistic()}
    if member in members.PAIR_SAMPLING:
        slots["unit"] = ga.Pair()
    elif isinstance(member, ga.SamplingGeometry) and member.drive(laws.sample_batch()).ndim == 2:
        slots["unit"] = ga.Token()
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
    laws.gradient_is_the_derivative_of_the_loss(objective, 0)
    laws.masked_tokens_are_absent(objective, 0)
    laws.parts_add_up_to_the_whole(objective, 0)


EVERYTHING: list[Any] = [
    *(member for slot in members.SLOTS.values() for member in slot),
    *members.PAIR_SAMPLING,
    ga.chart.LogOdds(),
    ga.StraightThrough(ga.ReverseKL(), ga.ChiSquare()),
    *RECIPES.values(),
]


# A plain function has no repr that evaluates.
@pytest.mark.parametrize("member", [m for m in EVERYTHING if "ConvexPotential(" not in repr(m)], ids=members.ident)
def test_repr_round_trips(member: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ga.UnboundedLossWarning)
        again = eval(repr(member), members.NAMES)
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


# ---- saturation: stricter than the law that anybody's potential must meet


@pytest.mark.parametrize("geometry", members.OPTIMIZATION + members.LATER_OPTIMIZATION, ids=members.ident)
def test_our_geometries_are_finite_far_from_the_anchor(geometry: ga.OptimizationGeometry) -> None:
    """In float32 at coordinates up to 1e4, and at those of a ratio of 1e4 nats."""
    u = torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4, math.exp(30.0) * 1e4], dtype=torch.float32)
    u = u[u >= geometry.domain.low][:, None].expand(-1, 3).contiguous().requires_grad_()
    g = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float32).expand_as(u).contiguous()
    energy = geometry.energy(u, g)
    (gradient,) = torch.autograd.grad(energy.sum(), u)
    for value in (energy, gradient, geometry.force(u, g), geometry.curvature(u, g)):
        assert torch.isfinite(value).all(), u[~torch.isfinite(value)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", RECIPES)
def test_our_recipes_are_finite_far_from_the_anchor(name: str, dtype: torch.dtype) -> None:
    """Loss and gradient at log-ratios of ±1e4 in float32 and ±80 in bfloat16."""
    objective, size = RECIPES[name], 1e4 if dtype is torch.float32 else 80.0
    batch = (laws.sample_pairs if objective.paired else laws.sample_batch)(dtype=dtype)
    drive = objective.drive(batch)
    moved = {}
    for field in ("chosen", "rejected") if objective.paired else ("policy",):
        x = getattr(batch, field).detach()
        signs = torch.tensor([1.0, -1.0, 0.0], dtype=dtype)[torch.arange(x.shape[1]) % 3]
        moved[field] = (x + size * signs).requires_grad_()
    loss = objective(dataclasses.replace(batch, **moved), drive=drive).loss
    gradients = torch.autograd.grad(loss, list(moved.values()), allow_unused=True)
    assert all(torch.isfinite(x).all() for x in (loss, *gradients) if x is not None)


# ---- the laws bite, and say where


class Broken(ga.ChiSquare):
    """A geometry with the wrong mirror."""

    def mirror(self, u: torch.Tensor, drive: torch.Tensor | None = None) -> torch.Tensor:
        return 2 * u


class Kinked(ga.ChiSquare):
    """Wrong from u = 1 on, and at drives that no fixed case has."""

    def curvature(self, u: torch.Tensor, drive: torch.Tensor | None = None) -> torch.Tensor:
        return torch.where(u > 1, 2 * self.mu, torch.full_like(u, self.mu))


class Doubled(ga.Sequence):
    """A unit whose gradient counts every response's second token twice."""

    def spread(self, gradient: torch.Tensor, mask: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        spread = super().spread(gradient, mask, tokens)
        return torch.cat([spread[:, :1], 2 * spread[:, 1:2], spread[:, 2:]], dim=1)


@dataclasses.dataclass(frozen=True)
class First(ga.SamplingGeometry):
    """A drive that compares with the first row of the batch, whatever its group."""

    def drive(self, batch: ga.Batch | ga.PreferenceBatch) -> torch.Tensor:
        reward = batch.rows.per_response(batch.rows.require("reward", "First"))
        return reward - reward[0]

    @property
    def locality(self) -> ga.Locality:
        return ga.Locality.ROLLOUT

    def latex(self) -> str:
        return "r_i-r_1"


class Shortened(ga.PooledMean):
    """A measure that forgets to clamp the count."""

    def weights(self, support: torch.Tensor, events: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return support / support.sum()


WRONG: dict[str, tuple[Any, str, str, str]] = {
    "a mirror": (
        Broken(1.0),
        r"Broken\(mu=1.0\) breaks the law force_is_the_derivative_of_energy",
        r"mirror\(u\) must be the derivative of value\(u\)",
        "u = [0.0031], drive = [0.0031].",
    ),
    "a curvature beyond 1": (
        Kinked(1.0),
        r"curvature_is_the_derivative_of_mirror: .*2 instead of 1 at u = 1.0031",
        r"curvature\(u\) must be the derivative of mirror\(u\)",
        "u = [1.0031], drive = [0.0031].",
    ),
    "a unit": (
        Doubled(),
        "spread_is_the_adjoint_of_reduce",
        r"at index \(0, 1\). spread\(y, mask, x\) must be the gradient",
        "ga.laws.sample_mask(2, 2, seed=1).",
    ),
    "a drive": (
        First(),
        "the_order_of_rows_does_not_matter",
        r"Gather by batch.group \(ga.Groups\), not by position",
        "ga.laws.sample_batch(3, 1, seed=0).",
    ),
    "a measure": (
        Shortened(),
        "weights_of_parts_are_those_of_the_whole",
        "Use the counts that are passed in",
        "ga.laws.sample_mask(2, 1, seed=0).",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_member_is_caught_with_the_smallest_case(name: str) -> None:
    member, law, remedy, case = WRONG[name]
    with pytest.raises(laws.LawViolation, match=law) as caught:
        laws.check_geometry(member)
    assert re.search(remedy, str(caught.value))
    assert str(caught.value).endswith(f"\nSmallest case: {case}")
    assert isinstance(caught.value.__cause__, laws.LawViolation), "what the smallest case raised is kept"


class FlatAtOne(ga.Divergence):
    """(t − 1)² − log(1 + (t − 1)²), of fourth order at one."""

    def generator(self, t: torch.Tensor) -> torch.Tensor:
        return (t - 1) ** 2 - torch.log1p((t - 1) ** 2)


def test_a_divergence_without_curvature_at_the_anchor_is_refused() -> None:
    with pytest.raises(laws.LawViolation, match=r"a_divergence_resists_at_one.*flat at t = 1.*no gradient"):
        laws.check_divergence(FlatAtOne())


def test_a_case_that_only_hypothesis_draws_is_found() -> None:
    """Wrong for batches of more than eight rows, which the fixed cases do not have."""

    class Large(ga.Advantage):
        def drive(self, batch: ga.Batch | ga.PreferenceBatch) -> torch.Tensor:
            return super().drive(batch) if batch.size <= 8 else torch.full((batch.size,), math.nan)

    for law in laws.LAWS["sampling"]:
        law(Large(), 0)
    with pytest.raises(laws.LawViolation, match="a drive is not finite at drive = nan") as caught:
        laws.check_sampling(Large())
    assert str(caught.value).endswith("Smallest case: ga.laws.sample_batch(9, 1, seed=0).")


def test_what_a_member_raises_is_a_violation_with_its_cause() -> None:
    class Raises(ga.ChiSquare):
        def conjugate(self, drive: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError("later")

    with pytest.raises(laws.LawViolation, match="NotImplementedError was raised: later") as caught:
        laws.check_geometry(Raises())
    assert isinstance(caught.value.__cause__, NotImplementedError)


def test_a_drive_that_reads_the_policy_is_caught() -> None:
    class Eager(ga.SamplingGeometry):
        def drive(self, batch: ga.Batch | ga.PreferenceBatch) -> torch.Tensor:
            return batch.rows.log_probs("policy", "Eager").sum(-1)

    with pytest.raises(laws.LawViolation, match=r"^Eager breaks .*_policy_in_training.*override `reweight`"):
        laws.check_geometry(Eager())


class Short(ga.BregmanGeometry):
    """A mirror without the drive that the contract hands it."""

    def value(self, u: torch.Tensor) -> torch.Tensor:
        return u**2 / 2

    def mirror(self, u: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return u

    def curvature(self, u: torch.Tensor, drive: torch.Tensor | None = None) -> torch.Tensor:
        return torch.ones_like(u)

    def latex(self, u: str, drive: str) -> str:
        return f"{u}^2/2"


class Plain(ga.ChiSquare):
    """A curvature that is a number."""

    def curvature(self, u: torch.Tensor, drive: torch.Tensor | None = None) -> torch.Tensor:
        return 1.0  # type: ignore[return-value]


@pytest.mark.parametrize(
    "member, seen", [(Short(), r"^Short breaks .*mirror\(u\) takes no drive"), (Plain(), "curvature returned 1.0,")]
)
def test_methods_of_another_form_are_told_the_contract(member: ga.BregmanGeometry, seen: str) -> None:
    with pytest.raises(laws.LawViolation, match=rf"{seen}.*take \(u, drive=None\) and return tensors"):
        laws.check_geometry(member)


def test_laws_and_plain_functions_are_printed_by_name() -> None:
    assert repr(laws.LAWS["sampling"][0]) == "a_drive_is_finite_and_has_a_row_each"
    of = f"{members.pseudo_huber.__module__}.pseudo_huber"
    assert repr(ga.ConvexPotential(members.pseudo_huber)) == f"ConvexPotential({of})"
    assert repr(ga.ConvexPotential(members.pseudo_huber, low=-1.0)) == f"ConvexPotential({of}, low=-1.0)"
    assert repr(ga.ConvexPotential(functools.partial(members.pseudo_huber))) == "ConvexPotential(functools.partial)"
    assert short(ga.ConvexPotential(members.pseudo_huber)) == f"ConvexPotential({of})"


def test_laws_are_the_same_every_time() -> None:
    seen: list[list[Any]] = []
    for _ in range(2):
        cases: list[Any] = []
        laws.Law(lambda member, case, into=cases: into.append(case), laws.LAWS["sampling"][0].cases)(None)  # type: ignore[misc]
        seen.append(cases)
    assert seen[0] == seen[1] and len(seen[0]) > 5


@pytest.mark.parametrize("path", sorted(Path(laws.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_hypothesis_is_imported_when_a_law_runs(path: Path) -> None:
    """And not with the package, which it would make slower to start."""
    outside = [
        node for node in ast.parse(path.read_text(encoding="utf-8")).body if not isinstance(node, ast.FunctionDef)
    ]
    assert not any(
        "hypothesis" in ast.unparse(node) for node in outside if isinstance(node, (ast.Import, ast.ImportFrom))
    )


def test_a_potential_that_overflows_inside_is_told_what_to_do() -> None:
    naive = ga.ConvexPotential(lambda u: torch.log(torch.cosh(u)))
    with pytest.raises(laws.LawViolation, match=r"in float32.*no intermediate number overflows"):
        laws.check_geometry(naive)


def test_a_potential_that_float32_could_hold_must_be_finite() -> None:
    class Halved(ga.ChiSquare):
        def value(self, u: torch.Tensor) -> torch.Tensor:
            return (u**4).sqrt() * self.mu / 2  # u⁴ overflows at 1e17, u² does not

    with pytest.raises(laws.LawViolation, match="infinite in float32, which can hold it"):
        laws.check_geometry(Halved())


def test_a_wrong_locality_is_caught() -> None:
    class Liar(ga.MeanSequence):
        @property
        def locality(self) -> ga.Locality:
            return ga.Locality.TOKEN

    objective = ga.Objective(unit=Liar(), chart=ga.Ratio(), sampling=ga.Advantage(), optimization=ga.ChiSquare())
    with pytest.raises(laws.LawViolation, match="rest of its row"):
        laws.check_objective(objective)


def test_an_objective_with_a_potential_that_grows_like_cosh_obeys_the_laws() -> None:
    stiff = ga.ConvexPotential(lambda u: 4 * (torch.cosh(u) - 1))
    laws.check_geometry(ga.Objective(unit=ga.Sequence(), sampling=ga.GroupAdvantage(), optimization=stiff), 3)


WRAPPERS = {
    type(member): member
    for member in (*members.SAMPLING, *members.LATER_SAMPLING, *members.PAIR_SAMPLING)
    if any(field.name == "of" for field in dataclasses.fields(member))
    and not isinstance(member, ga.sampling.PolicyWeight)
}


@pytest.mark.parametrize("kind", WRAPPERS, ids=lambda kind: kind.__name__)
def test_what_a_geometry_weighs_by_the_policy_survives_every_change_of_its_drive(kind: type) -> None:
    """A clip inside any other sampling geometry acts, and is told in the locality; or it is refused."""
    member = WRAPPERS[kind]
    if kind in (ga.sampling.GroupTarget, ga.sampling.SignLabel):
        with pytest.raises(ValueError, match=f"{kind.__name__}.*made once per rollout"):
            dataclasses.replace(member, of=ga.ClippedImportance(member.of, high=1.2))
        return
    inside = dataclasses.replace(member, of=ga.ClippedImportance(member.of, high=1.2))
    batch = laws.sample_batch()
    drive, log_ratio = torch.ones(batch.policy.shape), torch.full(batch.policy.shape, 0.5)
    assert inside.locality >= ga.Locality.TOKEN
    torch.testing.assert_close(inside.reweight(drive, log_ratio, batch), 1.2 * member.reweight(drive, log_ratio, batch))
