"""Objectives by hand: sums and what they need, drives of every shape, tiles, metrics, errors, what is dropped."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_slot_values import close, column
from torch import Tensor

import geomalign as ga
from geomalign._util.types import Locality
from geomalign.laws import sample_batch, sample_pairs
from geomalign.objective import log_ratio_metrics, node
from geomalign.objective.offset import _energy

NAN, INF = math.nan, math.inf


def told(error: str, make: Callable[[], object], kind: type[Exception] = ValueError) -> None:
    with pytest.raises(kind, match=re.escape(error)):
        make()


def slope(objective: ga.BaseObjective, batch: ga.Batch, **parts: Any) -> Tensor:
    """The gradient in the policy's log-probabilities."""
    found = objective.gradient(batch, **parts)
    assert isinstance(found, Tensor)
    return found


# ---- the algebra


def square(mu: float = 1.0, **slots: Any) -> ga.Objective:
    """−g·u + μ/2 u² of tokens, with the advantage as the drive."""
    given = {"unit": ga.Token(), "sampling": ga.Advantage(), "optimization": ga.ChiSquare(mu), **slots}
    return ga.Objective(**given)


ROWS = ga.Batch(
    torch.tensor([[0.5, -1.0], [2.0, 0.0]], dtype=torch.float64),
    torch.zeros(2, 2, dtype=torch.float64),
    torch.tensor([[1, 1], [1, 0]]),
    advantage=torch.tensor([1.0, -0.5], dtype=torch.float64),
    reference=torch.ones(2, 2, dtype=torch.float64),
)


def test_a_sum_by_hand() -> None:
    """Σ over the tokens 0.5, −1 and 2 with drives 1, 1 and −½, under coefficients that are not one."""
    one, other = square(), square(3.0, anchor="reference", sampling=ga.Label(0.0))
    u = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    g = torch.tensor([1.0, 1.0, -0.5], dtype=torch.float64)
    losses = [(u**2 / 2 - g * u).mean(), (1.5 * (u - 1) ** 2).mean()]
    forces = [(u - g) / 3, (u - 1).abs() * torch.sign(u - 1)]
    for first, second in ((1, 0.5), (2.0, -1.0), (2, 1), (1, 1)):
        objective = first * one + second * other
        assert [c for c, _ in objective.terms] == [first, second]
        outcome, plain = objective(ROWS), objective.plain(ROWS)
        for found in (outcome, plain):
            close(found.loss, first * losses[0] + second * losses[1])
            for term, loss in zip(found.terms, losses, strict=True):
                close(term.loss, loss)
        gradient = slope(objective, ROWS)
        close(gradient[ROWS.support], first * forces[0] + second * forces[1])
        assert gradient[1, 1] == 0
    double = 2 * one
    close(double(ROWS).loss, 2 * losses[0]), close(double(ROWS).terms[0].loss, losses[0])
    policy = ROWS.policy.clone().requires_grad_()
    moving = dataclasses.replace(ROWS, policy=policy)
    assert one(moving).terms[0].loss.requires_grad and not double(moving).terms[0].loss.requires_grad
    assert not (one + one)(moving).terms[0].loss.requires_grad
    close(torch.autograd.grad(double(moving).loss, policy)[0][ROWS.support], 2 * forces[0])


def test_the_algebra_of_objectives() -> None:
    one = square()
    assert sum([one]) is one and len(sum([one, one]).terms) == 2  # type: ignore[union-attr]
    assert (one + (2 * one + one)).terms == ((1.0, one), (2.0, one), (1.0, one))
    assert ((one + one) * 3).terms == (3 * (one + one)).terms == ((3.0, one), (3.0, one))
    assert (2 * (3 * one)).terms == ((6.0, one),) and (-1 * one).terms == ((-1.0, one),)
    for add in (operator.add, operator.mul):
        told("unsupported operand", functools.partial(add, one, None), TypeError)
        told("unsupported operand", functools.partial(add, None, one), TypeError)
    told("unsupported operand", functools.partial(operator.add, 1, one), TypeError)
    for value in (NAN, INF, -INF):
        told(f"a coefficient of a sum of objectives is {value!r}; it must be", functools.partial(one.__mul__, value))


PAIRED = ga.recipes.dpo()
OBSERVED = square(unit=ga.unit.Observation(), sampling=ga.Label(0.0))
# objective, decoupled, paired, driven, needs_reference, needs_old, needs_observations, per_token, locality
FACTS: list[tuple[ga.BaseObjective, tuple[bool, ...], Locality]] = [
    (square(), (True, False, True, False, True, False, True), Locality.TOKEN),
    (square(anchor="reference"), (True, False, True, True, False, False, True), Locality.TOKEN),
    (square(anchor=None), (True, False, True, False, False, False, True), Locality.TOKEN),
    (square(optimization=ga.Clip()), (False, False, True, False, True, False, True), Locality.TOKEN),
    (square(optimization=ga.Flat()), (True, False, True, False, True, False, True), Locality.ROLLOUT),
    (square(optimization=ga.Flat(), chart=ga.Ratio()), (True, False, True, False, True, False, True), Locality.TOKEN),
    (
        square(optimization=ga.Flat(), unit=ga.unit.ClampedTokens(high=1.0)),
        (True, False, True, False, True, False, False),
        Locality.SEQUENCE,
    ),
    (
        square(optimization=ga.Flat(), unit=ga.Pair(), sampling=ga.Margin()),
        (True, True, True, False, True, False, False),
        Locality.GROUP,
    ),
    (
        square(sampling=ga.KLReward(ga.Advantage(), ga.Linear())),
        (True, False, True, True, True, False, True),
        Locality.TOKEN,
    ),
    (OBSERVED, (True, False, False, False, True, True, True), Locality.TOKEN),
    (PAIRED, (True, True, False, True, False, False, False), Locality.GROUP),
    (square() + PAIRED, (True, True, True, True, True, False, False), Locality.GROUP),
    (square() + square(optimization=ga.Clip()), (False, False, True, False, True, False, True), Locality.TOKEN),
    (square() + OBSERVED, (True, False, True, False, True, True, True), Locality.TOKEN),
    (square() + square(unit=ga.Sequence()), (True, False, True, False, True, False, False), Locality.SEQUENCE),
]


@pytest.mark.parametrize("objective, facts, locality", FACTS, ids=[str(k) for k in range(len(FACTS))])
def test_what_an_objective_needs(objective: ga.BaseObjective, facts: tuple[bool, ...], locality: Locality) -> None:
    found = (
        *(objective.decoupled, objective.paired, objective.driven, objective.needs_reference, objective.needs_old),
        *(objective.needs_observations, objective.per_token),
    )
    assert found == facts and objective.locality == locality
    assert objective.driven_terms == tuple(term for _, term in objective.terms if term.sampling.driven)
    assert all(term.terms == ((1.0, term),) for _, term in objective.terms)


def test_what_couples_the_responses_to_a_prompt() -> None:
    coupled = next(term for name in ga.recipes.names() for _, term in ga.recipes.get(name).terms if term.coupling)
    assert coupled.coupling.locality == Locality.GROUP  # type: ignore[union-attr]
    assert coupled.reach == Locality.GROUP and square().coupling is None and PAIRED.coupling is None


def test_a_drive_for_a_sum() -> None:
    label = square(sampling=ga.Label(0.25))
    objective = square() + 2 * label
    drive = objective.drive(ROWS)
    assert isinstance(drive, ga.TermDrives) and len(drive) == 2
    close(drive.drives[0], [1.0, -0.5]), close(drive.drives[1], [0.25, 0.25])
    own = column(3.0, 4.0)
    for found in (objective(ROWS, own), objective.plain(ROWS, own)):  # a label keeps its own
        close(found.terms[0].drive, [[3, 3], [4, 0]]), close(found.terms[1].drive, [[0.25, 0.25], [0.25, 0]])
    given = ga.TermDrives([own, 2 * own])
    for found in (objective(ROWS, given), objective.plain(ROWS, given)):
        close(found.terms[1].drive, [[6, 6], [8, 0]])
    assert [len(x) for x in given[:1]] == [1, 1] and repr(given[:1]).startswith("TermDrives(tensor([3.])")
    told("`drive` has 1 terms, the objective 2: compute", lambda: objective(ROWS, ga.TermDrives([own])))
    told("`drive` holds the drives of 2 terms, but this objective has one", lambda: square()(ROWS, given))
    two = square() + square(sampling=ga.GroupAdvantage())
    told("the terms of this sum are driven in 2 ways, Advantage(), GroupAdvantage(", lambda: two(ROWS, own))
    close((square() + square(2.0))(ROWS, own).terms[1].drive, [[3, 3], [4, 0]])


def test_the_shape_of_a_drive() -> None:
    told("`drive` is (3,) but the batch has 2 rows: pass", lambda: square()(ROWS, column(1.0, 2.0, 3.0)))
    told("`drive` is () but the batch has 2 rows: pass", lambda: square()(ROWS, torch.tensor(1.0)))
    told(
        "`drive` is (2, 3) but the events of Token() are (2, 2). A drive per", lambda: square()(ROWS, torch.ones(2, 3))
    )
    whole = square(unit=ga.Sequence())
    told("`drive` is (2, 2) but the events of Sequence() are (2,). A drive", lambda: whole(ROWS, torch.ones(2, 2)))
    told("`drive` is float, not a torch.Tensor: pass this", lambda: square()(ROWS, 1.0), TypeError)  # type: ignore[arg-type]
    pairs = sample_pairs(3)
    told("but the batch has 3 pairs: pass", lambda: PAIRED(pairs, torch.ones(2)))
    single = square(unit=ga.Sequence(), anchor="reference")
    told(
        "`drive` is (3,), but Sequence() sees 3 pairs as single responses: expected (3, 2), the chosen",
        lambda: single(pairs, torch.ones(3)),
    )
    found = single(pairs, torch.arange(1.0, 7.0).reshape(3, 2))
    close(found.drive, torch.where(found.support, column(1, 3, 5, 2, 4, 6), 0))
    per_token = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    close(square()(ROWS, per_token).drive, [[1, 2], [3, 0]])
    assert not square().plain(ROWS, per_token.requires_grad_()).loss.requires_grad


def test_what_an_objective_is_evaluated_on() -> None:
    told("evaluated on a Batch or a PreferenceBatch, not on str.", lambda: square()("x"), TypeError)  # type: ignore[arg-type]
    told("Pair(of=Sequence(), margin=0.0) compares pairs, but a Batch has single", lambda: PAIRED(ROWS))
    sums = ga.Batch(torch.zeros(2), torch.zeros(2))
    told("Token() needs the single tokens' log-probabilities, but the batch holds sums, (2,):", lambda: square()(sums))
    square(unit=ga.Sequence()).gradient(ROWS, torch.ones(2))
    told("needs `old`", lambda: square()(dataclasses.replace(ROWS, old=None)))
    told("an Objective that measures from its old policy needs", lambda: square()(dataclasses.replace(ROWS, old=None)))
    for anchor in ("behavior", "policy"):
        wrong = f'Objective(anchor={anchor!r}): "old" (the policy that sampled), "reference", or None'
        told(wrong, functools.partial(square, anchor=anchor))
    told("Objective(unit=3): this slot holds a Unit. Pass an instance of a Unit.", lambda: square(unit=3))
    told("this slot holds an OptimizationGeometry. Pass an instance of an Op", lambda: square(optimization=3))
    told("this slot holds a Chart. Pass an instance of a Chart.", lambda: square(chart=torch.cosh))
    told("this slot holds an Offset. Did you mean offset=Surrogate(…)?", lambda: square(offset=ga.Surrogate))
    told("`counts` is Batch, not geomalign Counts: pass whole", lambda: square()(ROWS, counts=ROWS), TypeError)  # type: ignore[arg-type]


def test_the_offset_is_added_to_the_value_and_to_no_gradient() -> None:
    u, g = column(0.5, -1.0, 2.0), column(1.0, 1.0, -0.5)
    energy = (u**2 - g * u).mean()  # of a stiffness of 2, whose conjugate is g²/4
    for offset, more in ((ga.NoOffset(), 0 * g), (ga.Surrogate(), -g), (ga.FenchelYoung(), g**2 / 4)):
        objective = square(2.0, offset=offset)
        for found in (objective(ROWS), objective.plain(ROWS)):
            close(found.loss, energy + more.mean())
        close(objective.gradient(ROWS), square(2.0).gradient(ROWS))
    assert _energy("u", "0", "p") == "p" and _energy("u", "g", "0") == r"-g\,u" and _energy("u", "g", "p") == r"p-g\,u"
    assert ga.FenchelYoung().latex("u", "g", "p") == r"p-g\,u+\varphi^*(g)"


def test_the_formula_of_an_objective() -> None:
    assert square().latex() == (
        r"\mathcal{L}(\theta)=\frac{1}{\sum_i|y_i|}\sum_i\sum_t\left["
        + ga.ChiSquare().latex("u_{i,t}", "g_{i,t}")
        + r"-g_{i,t}\,u_{i,t}\right],\quad u_{i,t}="
        + ga.Token().latex(r"\pi_k")
        + r",\quad g_{i,t}="
        + ga.Advantage().latex()
    )
    still = square(unit=ga.Sequence(), sampling=ga.Label(0.0), anchor=None).latex()
    assert still.endswith(r"u_i=\log\pi_\theta(y_i)") and "g_i" not in still
    both = (square() + 0.5 * square()).latex()
    assert both.startswith(r"\mathcal{L}(\theta)=\mathcal{L}_{1}+0.5\,\mathcal{L}_{2};\quad \mathcal{L}_{1}(\theta)=")


# ---- what fits together


def quiet(make: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make()


def test_slots_that_contradict_each_other_are_refused() -> None:
    coupled = ga.recipes.get("gvpo").terms[0][1].optimization
    square(unit=ga.Sequence(), optimization=coupled)
    for unit in (ga.Token(), ga.Pair()):
        wrong = (
            f"Objective(unit={unit!r}, optimization={coupled!r}): this potential couples the responses to one prompt"
        )
        told(wrong, functools.partial(square, unit=unit, optimization=coupled))
    chart, clamped = ga.chart.Probability(), ga.unit.ClampedTokens(high=0.5)
    for slots in ({"anchor": None}, {"unit": clamped}):
        told("this chart reads the anchor's log-probability", functools.partial(square, chart=chart, **slots))
        square(**slots)
    square(chart=chart)
    told("weighs a response by its length, and a pair", lambda: square(unit=ga.Pair(), measure=ga.PromptMean()))
    square(measure=ga.PromptMean())


def test_a_label_is_warned_of_beyond_what_the_potential_balances() -> None:
    make = lambda g: ga.Objective(unit=ga.Pair(), sampling=ga.Label(g), optimization=ga.Logistic(0.1))  # noqa: E731
    for g in (0.0, 0.05, 0.1):
        quiet(functools.partial(make, g))
    quiet(lambda: square(optimization=ga.Flat()))  # whose drive is that of the samples
    for g in (-0.01, 0.11):
        words = rf"the drive {g} of Label\(strength={g}\) lies outside \[0, 0.1\], the drives that Logistic"
        with pytest.warns(ga.UnboundedLossWarning, match=words):
            make(g)


def test_a_step_of_another_radius_is_warned_of() -> None:
    made = functools.partial(square, unit=ga.Sequence())
    step, other = ga.TrustRegion(kl=0.05), ga.TrustRegion(chi2=0.1)
    quiet(lambda: made(sampling=step)), quiet(lambda: made(sampling=other, chart=ga.Ratio()))
    quiet(lambda: made(4.0))
    quiet(lambda: square(4.0, unit=ga.Pair(), sampling=step))
    words = (
        r"At the ratio 1\.1 this step is u = 0\.09531, and ChiSquare\(mu=4\.0\) in LogRatio\(.*\) makes one of 0\.0238"
    )
    with pytest.warns(ga.RadiusWarning, match=words):
        made(4.0, sampling=step)
    words = r"this step is u = 0\.1, and ChiSquare\(mu=1\.0\) in Ratio\(\) makes one of 0\.09531,"
    with pytest.warns(ga.RadiusWarning, match=words):
        made(sampling=step, chart=ga.Ratio())
    with pytest.warns(ga.RadiusWarning, match="TrustRegion"):
        made(1 + 3e-6, sampling=step)
    quiet(lambda: made(1 + 5e-7, sampling=step))


# ---- parts of a batch


def test_a_tile_holds_so_many_rows_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert node.TILE == 131072
    like, threads = torch.zeros(1), torch.get_num_threads()
    monkeypatch.setattr(node, "TILE", 12)
    for rows, width, expected in (
        (5, 6 * threads, [(0, 2), (2, 4), (4, 5)]),
        (4, 6 * threads, [(0, 2), (2, 4)]),
        (3, 100 * threads, [(0, 1), (1, 2), (2, 3)]),
        (2, 0, [(0, 2)]),
        (0, 6, [(0, 0)]),
        (12 * threads + 1, 1, [(0, 12 * threads), (12 * threads, 12 * threads + 1)]),
    ):
        assert node.slices(like, rows, width) == [slice(*ends) for ends in expected]
    assert node.slices(like.to("meta"), 5, 6) == [slice(0, 5)]
    batch, pairs = ga.Batch(torch.zeros(4, 6 * threads)), ga.PreferenceBatch(*torch.zeros(2, 3, 6 * threads))
    assert [part.stop for part in node.tiles(batch, square().terms)] == [2, 4]
    assert [part.stop for part in node.tiles(batch, square(unit=ga.Sequence()).terms)] == [2, 4]
    assert [part.stop for part in node.tiles(pairs, PAIRED.terms)] == [1, 2, 3]  # both responses of each
    assert [part.stop for part in node.tiles(ga.Batch(torch.zeros(0, 6)), square().terms)] == [0]
    lengths = dataclasses.replace(square(), measure=ga.PromptMean())
    for terms in (lengths.terms, (square() + lengths).terms, (lengths + square()).terms):
        assert node.tiles(batch, terms) == [slice(0, 4)]
    ranked = next(term for _, term in ga.recipes.get("aot").terms)
    assert node.tiles(pairs, ranked.terms) == [slice(0, 3)]


def test_a_batch_is_evaluated_and_read_in_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    batch, evaluate, seen = sample_batch(rows=4, tokens=6), node._evaluate, list[int]()

    def counted(terms: Any, part: ga.Batch, *rest: Any) -> Any:
        seen.append(part.size)
        return evaluate(terms, part, *rest)

    monkeypatch.setattr(node, "_evaluate", counted)
    for rows, expected in ((4, [4]), (3, [3, 1]), (2, [2, 2]), (1, [1, 1, 1, 1])):
        monkeypatch.setattr(node, "TILE", 6 * rows)
        seen.clear()
        (term,) = square()(batch).terms
        assert seen == expected == [part.u.shape[0] for part in term.parts()]
        close(torch.cat([part.u for part in term.parts()]), term.u)
        assert [part.u.shape[0] for part in term.parts()] == [4]  # it is kept once it has been read whole
    (plain,) = square().plain(batch).terms
    assert [part.u.shape[0] for part in plain.parts()] == [4]


def test_what_the_node_keeps_of_a_batch() -> None:
    pairs = sample_pairs(3)
    assert node.policies(pairs) == (pairs.chosen, pairs.rejected)
    alone = node.detached(pairs)
    assert torch.equal(alone.chosen, pairs.chosen) and torch.equal(alone.rejected, pairs.rejected)
    assert not alone.chosen.requires_grad and not alone.rejected.requires_grad
    assert node.detached(ROWS).mask.dtype == torch.bool and node.detached(ga.Batch(torch.zeros(2, 3))).mask is None
    moving = torch.zeros(2, 3).requires_grad_()
    for chosen, rejected in ((moving, torch.zeros(2, 3)), (torch.zeros(2, 3), moving)):
        assert node.differentiable(ga.PreferenceBatch(chosen, rejected))
    with torch.no_grad():
        assert not node.differentiable(ga.Batch(moving))


def test_a_gradient_has_the_shape_of_what_was_given() -> None:
    chosen, rejected = torch.zeros(2, 3), torch.zeros(2, 5)
    for pairs in (
        ga.PreferenceBatch(chosen, rejected),
        ga.PreferenceBatch(rejected, chosen),
        ga.PreferenceBatch(chosen[:, 0], rejected[:, 0]),
    ):
        objective = ga.Objective(unit=ga.Pair(), sampling=ga.Label(), optimization=ga.Logistic(), anchor=None)
        found = objective.gradient(pairs)
        assert isinstance(found, ga.PairGradient)
        torch.testing.assert_close(found.chosen, torch.full(pairs.chosen.shape, -0.25))
        torch.testing.assert_close(found.rejected, torch.full(pairs.rejected.shape, 0.25))
        asymmetric = dataclasses.replace(objective, unit=ga.Chosen()).gradient(pairs)
        assert isinstance(asymmetric, ga.PairGradient) and (asymmetric.rejected == 0).all()
        moving = dataclasses.replace(pairs, chosen=pairs.chosen.clone().requires_grad_())
        (one,) = torch.autograd.grad(objective(moving).loss, moving.chosen)
        torch.testing.assert_close(one, found.chosen)


def test_a_loss_maps_over_batches_and_keeps_its_gradient() -> None:
    policy, old = torch.tensor([[[0.5, -1.0]], [[2.0, 0.0]]]).requires_grad_(), torch.zeros(2, 1, 2)
    drive = torch.tensor([[1.0], [-0.5]])
    every = torch.func.vmap(lambda p, q, g: square()(ga.Batch(p, q), g).loss)(policy, old, drive)
    close(every.detach(), [0.25 * 1.25 + 0.25, 0.25 * 4 + 0.5])
    close(torch.autograd.grad(every.sum(), policy)[0], [[[-0.25, -1.0]], [[1.25, 0.25]]])
    summed = lambda p: torch.func.vmap(lambda x, q, g: square()(ga.Batch(x, q), g).loss)(p, old, drive).sum()  # noqa: E731
    told("Differentiate objective.plain(batch).loss", lambda: torch.func.grad(summed)(policy.detach()), RuntimeError)


def test_the_closed_form_has_a_gradient_unless_told_otherwise() -> None:
    term, counts = square(), ROWS.counts()
    assert ROWS.advantage is not None
    loss, gradient = term.closed_form(ROWS, ROWS.advantage, counts)
    close(loss, term(ROWS).loss)
    assert gradient is not None and torch.equal(gradient, slope(term, ROWS))
    assert term.closed_form(ROWS, ROWS.advantage, counts, False)[1] is None
    assert node.evaluate(term.terms, ROWS, [ROWS.advantage], counts, False)[1] == ()


# ---- metrics


def test_the_metrics_of_a_term_by_hand() -> None:
    """Drives 1, 1 and −½ at coordinates ½, −1 and 2 under μ = 2, of weights ⅓; a fourth token is masked."""
    found = ga.metrics(square(2.0)(ROWS))
    u, g = column(0.5, -1.0, 2.0), column(1.0, 1.0, -0.5)
    expected = {
        "loss": float((u**2 - g * u).mean()),
        "drive_mean": 0.5,
        "drive_std": math.sqrt(0.5),
        "drive_ess": 2.5**2 / (3 * 2.25),
        "gap": float((u**2 - g * u + g**2 / 4).mean()),
        "curvature": 2.0,
        "stiffness": 2 / math.sqrt(0.5),
        "force": (0 + 3 + 4.5) / 3,
        "clip_fraction": 1 / 3,  # the first stands at its equilibrium
        "inactive": 0.0,
    }
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected)
    assert {"ratio_mean", "kl", "sequence_ess"} <= set(found)
    lacking = ga.metrics(square(anchor="reference")(dataclasses.replace(ROWS, old=None)))
    assert set(expected) == set(lacking)


def test_the_metrics_of_a_term_by_its_measure_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    weighed = square(2.0, measure=ga.NestedMean())
    found = ga.metrics(weighed(ROWS))
    assert float(found["force"]) == pytest.approx((0 + 3) / 4 + 4.5 / 2) and float(found["drive_mean"]) == 0.5
    half = ga.metrics(square(2.0, measure=ga.FixedBudget(4))(ROWS))  # whose weights do not sum to one
    assert float(half["force"]) == pytest.approx(2.5) and float(half["curvature"]) == pytest.approx(2.0)
    batch = sample_batch(rows=9, tokens=4, seed=5)
    whole = ga.metrics(weighed(batch))
    monkeypatch.setattr(node, "TILE", 8)
    parts = ga.metrics(weighed(batch))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, equal_nan=True)


def test_the_metrics_of_one_event_and_of_a_curvature_that_bends() -> None:
    found = ga.metrics(square(2.0)(ROWS[1]))
    expected = {"drive_mean": -0.5, "drive_std": 0.0, "drive_ess": 1.0, "gap": 5.0625, "curvature": 2.0, "force": 4.5}
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected)
    bent = ga.metrics(square(optimization=ga.ReverseKL())(ROWS))  # φ'' = e^{−u}, 1 at the anchor
    assert float(bent["curvature"]) == pytest.approx((math.exp(-0.5) + math.e + math.exp(-2)) / 3)
    assert float(bent["stiffness"]) == pytest.approx(1 / math.sqrt(0.5))
    forces = [abs(1 - math.exp(-u) - g) for u, g in ((0.5, 1), (-1, 1), (2, -0.5))]
    assert float(bent["force"]) == pytest.approx(sum(forces) / 3)


def test_metrics_of_events_that_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = ga.Batch(torch.zeros(3, 1), torch.zeros(3, 1), advantage=column(1.0, 2.0, 6.0))
    monkeypatch.setattr(node, "TILE", 1)
    found = ga.metrics(square()(batch))
    assert float(found["drive_mean"]) == pytest.approx(3.0)
    assert float(found["drive_std"]) == pytest.approx(math.sqrt((4 + 1 + 9) / 3))


def test_what_counts_as_inactive_clipped_and_spread() -> None:
    policy = torch.tensor([[0.9e-6, -0.9e-6, 1e-6, 0.0]])
    batch = ga.Batch(policy, torch.zeros(1, 4), torch.tensor([[1, 1, 1, 0]]), advantage=torch.ones(1))
    found = ga.metrics(square()(batch))
    assert float(found["inactive"]) == pytest.approx(2 / 3) and found["stiffness"].isnan() and found["drive_std"] == 0
    nothing = ga.metrics(
        square()(ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3), advantage=torch.ones(2)))
    )
    for name in ("drive_mean", "drive_std", "drive_ess", "gap", "curvature", "force", "clip_fraction", "inactive"):
        assert nothing[name] == 0, name
    still = ga.metrics(square()(dataclasses.replace(batch, advantage=torch.zeros(1))))
    assert still["drive_ess"] == 0 and still["clip_fraction"] == 0
    uneven = ga.Batch(torch.zeros(2, 1), torch.zeros(2, 1), advantage=torch.tensor([1.0, 1 + 1e-12]))
    assert float(ga.metrics(square()(uneven))["drive_std"]) == pytest.approx(5e-13, rel=1e-2)
    clipped = ga.metrics(
        square(optimization=ga.Clip())(dataclasses.replace(uneven, policy=torch.tensor([[1.0], [0.0]])))
    )
    assert float(clipped["clip_fraction"]) == 0.5


def test_the_metrics_of_a_log_ratio_by_hand() -> None:
    x = torch.tensor([[0.5, -1.0, 9.0], [9.0, 9.0, 9.0], [2.0, 0.25, 1e-5]])
    mask = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1]]).bool()
    found = log_ratio_metrics(torch.where(mask, x, 0), mask)
    d = x[mask]
    t = d.exp()
    sums = column(-0.5, 2.25001).exp()
    expected = {
        "ratio_mean": t.mean(),
        "ratio_min": t.min(),
        "ratio_max": t.max(),
        "log_ratio_abs": d.abs().mean(),
        "kl": (t * d - t + 1).mean(),
        "kl_reverse": (t - 1 - d).mean(),
        "chi2": ((t - 1) ** 2).mean(),
        "ess": t.sum() ** 2 / (5 * (t**2).sum()),
        "sequence_ess": sums.sum() ** 2 / (2 * (sums**2).sum()),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=0)


def test_the_metrics_of_log_ratios_that_overflow_or_hardly_move() -> None:
    far = torch.tensor([[301.0, -400.0]], dtype=torch.float64)
    found = log_ratio_metrics(far, torch.ones(1, 2, dtype=torch.bool))
    top = 2 * math.exp(300.0)
    assert float(found["ratio_max"]) == pytest.approx(top) and float(found["ratio_mean"]) == pytest.approx(top / 2)
    assert float(found["ratio_min"]) == pytest.approx(math.exp(-400), abs=1e-300)
    assert float(found["ess"]) == pytest.approx(0.5) and float(found["sequence_ess"]) == pytest.approx(1.0)
    near = log_ratio_metrics(torch.full((2, 2), 1e-9), torch.ones(2, 2, dtype=torch.bool))
    assert float(near["kl_reverse"]) == pytest.approx(5e-19) and float(near["chi2"]) == pytest.approx(1e-18)
    below = log_ratio_metrics(torch.full((2, 2), -2.0), torch.ones(2, 2, dtype=torch.bool))
    assert float(below["ratio_max"]) == float(below["ratio_min"]) == pytest.approx(math.exp(-2))
    assert [float(below[name]) for name in ("ess", "sequence_ess")] == pytest.approx([1.0, 1.0])
    one = log_ratio_metrics(torch.tensor([[0.5, 0.0]]), torch.tensor([[True, False]]))
    t = math.exp(0.5)
    for name, value in (("ratio_mean", t), ("chi2", (t - 1) ** 2), ("kl", t / 2 - t + 1), ("kl_reverse", t - 1.5)):
        assert float(one[name]) == pytest.approx(value)
    assert [float(one[name]) for name in ("log_ratio_abs", "ess", "sequence_ess")] == pytest.approx([0.5, 1, 1])
    nothing = log_ratio_metrics(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    ones = dict.fromkeys(("ratio_mean", "ratio_min", "ratio_max", "ess", "sequence_ess"), 1.0)
    zeros = dict.fromkeys(("log_ratio_abs", "kl", "kl_reverse", "chi2"), 0.0)
    assert {name: float(x) for name, x in nothing.items()} == ones | zeros


def test_policies_are_compared_from_the_upper_to_the_lower() -> None:
    batch = dataclasses.replace(ROWS, behavior=torch.full((2, 2), -0.25))
    found = ga.policy_metrics(batch)
    means = {"old_behavior": [0.25] * 3, "policy_old": [0.5, -1, 2], "policy_behavior": [0.75, -0.75, 2.25]}
    for name, moved in means.items():
        assert float(found[f"{name}/ratio_mean"]) == pytest.approx(sum(map(math.exp, moved)) / 3)
    assert len(found) == 27 and ga.policy_metrics(ga.Batch(torch.zeros(2, 2))) == {}
    assert set(ga.policy_metrics(ROWS)) == {name for name in found if name.startswith("policy_old")}


# ---- certificates


def test_an_improvement_bound_at_its_defaults() -> None:
    """Rewards in [0, 1], a cap of 2 on the weights, and a probability of 0.95."""
    policy, reward = torch.tensor([1.0, 3.0, -1.0]).log()[:, None].nan_to_num(), torch.tensor([1.0, 0.5, 0.25])
    policy[2] = math.log(0.5)
    bound = ga.improvement_bound(ga.Batch(policy, behavior=torch.zeros(3, 1), reward=reward))
    x = column(0.0, 0.5, -0.125)
    assert float(bound.estimate) == pytest.approx(0.125)
    assert float(bound.deviation) == pytest.approx(math.sqrt(2 * float(x.var()) * math.log(40) / 3))
    assert float(bound.range) == pytest.approx(7 * 2 * math.log(40) / 6)
    assert float(bound.lower) == pytest.approx(float(bound.estimate - bound.deviation - bound.range))
    alone = ga.improvement_bound(ga.Batch(policy[1:2], behavior=torch.zeros(1, 1), reward=reward[1:2]))
    assert (float(alone.estimate), float(alone.deviation), float(alone.range)) == (0.5, 0.0, INF)
    pair = ga.improvement_bound(ga.Batch(policy[:2], behavior=torch.zeros(2, 1), reward=reward[:2]))
    assert float(pair.deviation) == pytest.approx(math.sqrt(float(x[:2].var()) * math.log(40)))
    nobody = ga.improvement_bound(ga.Batch(policy, behavior=policy, reward=torch.full((3,), NAN)))
    assert nobody.estimate == 0 and not nobody.lower > 0
    ga.improvement_bound(ga.Batch(policy, behavior=policy, reward=reward), cap=1.0)


@pytest.mark.parametrize(
    "options", [{"confidence": 0.0}, {"cap": INF}, {"cap": 0.99}, {"highest": 0.0}, {"highest": INF}]
)
def test_what_an_improvement_bound_refuses(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"improvement_bound.*{'range' if name == 'highest' else name}"):
        ga.improvement_bound(ga.Batch(torch.zeros(2, 1), behavior=torch.zeros(2, 1), reward=torch.ones(2)), **options)


def test_the_bounds_of_the_surrogate_at_their_defaults() -> None:
    kl, tv = torch.tensor([[0.02, 0.01], [0.0, 0.08]]), torch.tensor([[0.1, 0.05], [0.0, 0.2]])
    found = ga.surrogate_error(kl, tv)
    rest = min(0.2, math.sqrt(0.08 / 2))
    expected = [2 * 0.08, 4 / 3 * 2**1.5 * 0.08, 4 * math.sqrt(0.08 * 0.055), 4 * 0.2 * 0.2, 4 * 0.05 * rest]
    assert [float(x) for x in found] == pytest.approx(expected)
    skewed = ga.surrogate_error(kl, tv, weights=torch.tensor([0.75, 0.25]))
    assert float(skewed.mixed) == pytest.approx(4 * math.sqrt(0.08 * (0.75 * 0.03 + 0.25 * 0.08)))
    assert float(skewed.adaptive) == pytest.approx(4 * 0.075 * rest)
    wide = ga.surrogate_error(kl * 100, torch.tensor([[1.5, 0.9], [0.9, 0.9]]))  # a variation is at most one
    assert float(wide.coupling) == pytest.approx(4.0) and float(wide.adaptive) == pytest.approx(4 * 1.2)
    far = ga.surrogate_error(torch.full((1, 3), 8.0), torch.ones(1, 3))  # and so is what is still to come
    assert float(far.adaptive) == float(far.coupling) == pytest.approx(4 * (1 + 1 + 0))
    half = ga.surrogate_error(kl.half(), tv.half())
    assert half.classical.dtype == torch.float32
    assert [float(x) for x in ga.surrogate_error(torch.zeros(0, 2), torch.zeros(0, 2))] == [0.0] * 5
    long = ga.surrogate_error(torch.full((1, 40), 1e-3), torch.full((1, 40), 0.1))
    assert float(long.coupling) == pytest.approx(4 * 0.1 * sum(min(1, 0.1 * t) for t in range(40)))
    ahead = [min(1, 0.1 * s, math.sqrt(s * 1e-3 / 2)) for s in range(40)]
    assert float(long.adaptive) == pytest.approx(4 * 0.1 * sum(ahead))
    gap = ga.surrogate_error(torch.full((1, 3), 0.1), torch.full((1, 3), 0.1), torch.tensor([[1, 0, 1]]))
    assert float(gap.coupling) == pytest.approx(4 * 0.1 * 0.1) and float(gap.classical) == pytest.approx(0.2)
    for options, named in (
        ({"lowest": INF}, "lowest=inf"),
        ({"highest": NAN}, "highest=nan"),
        ({"highest": 0.0}, "range"),
    ):
        with pytest.raises(ValueError, match=rf"surrogate_error\(.*{named}"):
            ga.surrogate_error(kl, tv, **options)  # type: ignore[arg-type]
    for wrong in ((kl[0], tv[0]), (kl, tv, torch.ones(2, 3))):
        told(
            "surrogate_error: expected one shape (response, token), got kl",
            functools.partial(ga.surrogate_error, *wrong),
        )
    told(
        "surrogate_error: weights of shape (3,) for 2 responses.",
        lambda: ga.surrogate_error(kl, tv, weights=torch.ones(3)),
    )


# ---- KL in the reward


@pytest.mark.parametrize("beta", [0.05, 2.0])
def test_a_kl_penalty_in_the_reward_by_hand(beta: float) -> None:
    """Δ_ref is 1, 2 and −1, −1 on two rows, of which the last token is masked, and 5 on one without a reward."""
    mask = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 1]])
    old = torch.tensor([[1.0, 2.0, 7.0], [-1.0, -1.0, 7.0], [5.0, 5.0, 5.0]])
    batch = ga.Batch(
        *(torch.zeros(3, 3), old, mask),
        reward=torch.tensor([1.0, 1.0, NAN]),
        advantage=torch.tensor([10.0, 20.0, 30.0]),
        reference=torch.zeros(3, 3),
    )
    options: dict[str, Any] = {} if beta == 0.05 else {"beta": beta}
    made = functools.partial(ga.KLReward, ga.Advantage(), ga.ChiSquare(), **options)
    drive = ga.Advantage().drive(batch)
    base = drive if drive.ndim == 2 else drive[:, None]
    close(made().drive(batch), drive - beta * column(4.5, 2.0, 0.0))
    tokens = torch.tensor([[0.5, 2.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    close(made(unit="token").drive(batch), torch.where(mask > 0, base - beta * tokens, 0))
    later = torch.tensor([[2.5, 2.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    close(made(unit="return").drive(batch), torch.where(mask > 0, base - beta * later, 0))
    spread = dataclasses.replace(batch, advantage=torch.arange(9.0).reshape(3, 3))
    per_token = ga.Advantage().drive(spread)
    assert per_token.ndim == 2
    close(made().drive(spread), per_token - beta * column(4.5, 2.0, 0.0)[:, None])
    close(made(unit="token").drive(spread), torch.where(mask > 0, per_token - beta * tokens, 0))
    assert made().needs_reference and made().unit == "response" and f"-{beta:g}\\," in made().latex()
    told("KLReward needs `reference`", lambda: made().drive(dataclasses.replace(batch, reference=None)))
    told("KLReward(penalty=0.1): expected a BregmanGeometry", lambda: ga.KLReward(ga.Advantage(), 0.1))  # type: ignore[arg-type]


def test_a_kl_penalty_at_its_defaults() -> None:
    penalty = ga.kl_penalty()
    assert (penalty.unit, penalty.measure, penalty.anchor) == (ga.Token(), ga.NestedMean(), "reference")
    assert (penalty.sampling, penalty.optimization, penalty.chart) == (ga.Label(0.0), ga.ReverseKL(), ga.LogRatio())
    own = ga.kl_penalty("k2", unit=ga.Sequence(), measure=ga.PooledMean())
    assert (own.unit, own.measure, own.optimization) == (ga.Sequence(), ga.PooledMean(), ga.ChiSquare())
    capped = ga.kl_penalty("k3", "weighted", cap=2.0)
    assert capped.sampling == ga.ImportanceRatio(2.0)
    assert not capped.optimization.differentiate_weight  # type: ignore[attr-defined]
    corrected = ga.kl_penalty("k3", "corrected").optimization
    assert corrected.differentiate_weight  # type: ignore[attr-defined]
    assert ga.kl_penalty("k3", "corrected").sampling == ga.ImportanceRatio(None)
    unbiased = ga.kl_penalty("k3", "unbiased").optimization
    assert not unbiased.differentiate_weight  # type: ignore[attr-defined]
    told("kl_penalty(estimator='k4'): choose one of 'k1', 'k2', 'k3'.", lambda: ga.kl_penalty("k4"))
    told("kl_penalty(use='loss'): choose one of 'plain', 'straight_through'", lambda: ga.kl_penalty("k3", "loss"))


# ---- what is not finite


def test_what_is_not_finite_is_counted_where_it_stands() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]])
    old = torch.tensor([[NAN, 0, INF], [0, 0, NAN], [0, NAN, 0], [NAN] * 3])
    behavior = torch.tensor([[NAN, 0, 0], [0, -INF, 0], [0, 0, 0], [0, 0, 0]])
    advantage = torch.tensor([[0, 0, 0], [0, 0, NAN], [0, 0, 0], [NAN, 0, 0]])
    rewards = torch.tensor([[0, 0], [0, 0], [0, NAN], [NAN, NAN]])
    batch = ga.Batch(torch.zeros(4, 3), old, mask, advantage=advantage, behavior=behavior, rewards=rewards)
    found, report = ga.drop_nonfinite(batch)
    assert found.support.int().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert {name: count.tolist() for name, count in report.values.items()} == {
        "old": [2, 0, 0, 0],
        "behavior": [1, 1, 0, 0],
        "rewards": [0, 0, 1, 0],
        "advantage": [0, 0, 0, 0],
    }
    assert (int(report.tokens), int(report.left)) == (6, 2)
    assert {name: int(x) for name, x in report.metrics().items()} == {"nonfinite_tokens": 4, "nonfinite_rewards": 1}
    assert report.message() == (
        "not finite: 4 of 6 tokens, left out of loss, gradient, drive and metrics (`old` of row 0; `behavior` of rows "
        "0, 1; `rewards` of row 2). Rollout engines return such log-probabilities where they could not score a token; "
        "a reward that is not finite comes from the reward function."
    )


def test_rows_of_several_rewards_are_counted_once() -> None:
    reward, advantage = torch.tensor([NAN, 0.0, INF, 0.0]), torch.tensor([NAN, 0.0, 0.0, -INF])
    report = ga.drop_nonfinite(ga.Batch(torch.zeros(4, 1), reward=reward, advantage=advantage))[1]
    assert int(report.metrics()["nonfinite_rewards"]) == 3 and int(report.left) == 1
    none = ga.drop_nonfinite(ga.Batch(torch.zeros(4, 1), torch.zeros(4, 1)))[1]
    ga.drop_nonfinite(ga.Batch(torch.zeros(0, 1)))[1].refuse_nothing_left("an empty rollout had nothing to lose")
    assert int(none.metrics()["nonfinite_rewards"]) == 0 and none.message() == "" and list(none.values) == ["old"]


def test_rows_are_listed_up_to_five() -> None:
    for rows, listed in (
        (1, "row 0"),
        (2, "rows 0, 1"),
        (5, "rows 0, 1, 2, 3, 4"),
        (7, "rows 0, 1, 2, 3, 4 and 2 more"),
    ):
        reward = torch.where(torch.arange(8) < rows, NAN, 1.0)
        assert f"(`reward` of {listed})" in ga.drop_nonfinite(ga.Batch(torch.zeros(8, 1), reward=reward))[1].message()


def test_one_token_that_is_left_is_enough_and_one_that_is_lost_is_a_failure() -> None:
    with pytest.warns(ga.NonFiniteWarning, match="1 of 2 tokens"):
        ga.drop_nonfinite(ga.Batch(torch.zeros(1, 2), torch.tensor([[0.0, NAN]])))[1].warn()
    told(
        "Nothing is left to learn from: a policy, the engine or the reward failed.",
        ga.drop_nonfinite(ga.Batch(torch.zeros(1, 1), torch.tensor([[NAN]])))[1].warn,
    )


def test_pairs_lose_both_responses_by_their_margin_and_a_token_by_itself() -> None:
    for summed in (False, True):
        shape = (3,) if summed else (3, 2)
        chosen_mask = torch.ones(shape)
        rejected_mask = torch.ones(shape)
        rejected_mask[1] = 0
        reference = torch.zeros(shape)
        reference[2, ...] = NAN
        pairs = ga.PreferenceBatch(
            *(torch.zeros(shape), torch.zeros(shape), torch.zeros(shape), reference, chosen_mask, rejected_mask),
            margin=torch.tensor([0.0, NAN, 0.0]),
        )
        found, report = ga.drop_nonfinite(pairs)
        width = 1 if summed else 2
        assert report.values["margin"].tolist() == [0, 1, 0]
        assert report.values["reference_rejected"].tolist() == [0, 0, width]
        assert report.values["reference_chosen"].tolist() == [0, 0, 0]
        assert found.rows.support.any(-1).tolist() == [True, False, True, True, False, False]
        assert (int(report.tokens), int(report.left)) == (5 * width, 3 * width)
    half_there = dataclasses.replace(pairs, chosen_mask=torch.zeros(3))
    assert ga.drop_nonfinite(half_there)[1].values["margin"].tolist() == [0, 0, 0]


# ---- outcomes


def test_an_outcome_by_hand() -> None:
    outcome = square(2.0)(ROWS)
    close(outcome.u, [[0.5, -1], [2, 0]]), close(outcome.drive, [[1, 1], [-0.5, 0]])
    close(outcome.weights, [[1 / 3, 1 / 3], [1 / 3, 0]])
    assert outcome.support.int().tolist() == outcome.mask.int().tolist() == [[1, 1], [1, 0]]
    close(outcome.potential, [[0.25, 1], [4, 0]]), close(outcome.force, [[0, -3], [4.5, 0]])
    close(outcome.curvature, [[2, 2], [2, 0]]), close(outcome.gap, [[0, 2.25], [5.0625, 0]])
    close(outcome.log_ratio, [[0.5, -1], [2, 0]])
    assert outcome.objective == square(2.0) and outcome.token_log_ratio is not None
    close(outcome.token_log_ratio, [[0.5, -1], [2, 0]])
    moved = square()(dataclasses.replace(ROWS, old=torch.full((2, 2), 0.25)))
    assert moved.token_log_ratio is not None and not moved.token_log_ratio.requires_grad
    close(moved.token_log_ratio, [[0.25, -1.25], [1.75, 0]]), close(moved.u, [[0.25, -1.25], [1.75, 0]])
    far = square(anchor="reference")(dataclasses.replace(ROWS, old=None))
    assert far.token_log_ratio is None
    close(far.u, [[-0.5, -2], [1, 0]])
    (term,) = outcome.terms
    assert [part.u.shape for part in term.parts()] == [(2, 2)]  # which were read before
    doubled = square(2.0, chart=ga.LogRatio(2.0))(ROWS)
    close(doubled.log_ratio, [[0.5, -1], [2, 0]]), close(doubled.u, [[1, -2], [4, 0]])


def test_parts_of_a_batch_add_up_under_the_counts_of_the_whole() -> None:
    objective, counts = square(measure=ga.NestedMean()), ROWS.counts()
    parts = [objective(ROWS[i], counts=counts) for i in (0, 1)]
    close(parts[0].loss + parts[1].loss, objective(ROWS).loss)
    plain = [objective.plain(ROWS[i], counts=counts).loss for i in (0, 1)]
    close(plain[0], parts[0].loss), close(plain[1], parts[1].loss)
    gradient = torch.cat([slope(objective, ROWS[i], counts=counts) for i in (0, 1)])
    close(gradient, slope(objective, ROWS))
    both: Tensor = (objective + objective)(ROWS[0], counts=counts).loss
    close(both, 2 * parts[0].loss)
