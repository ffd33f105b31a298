"""Checks of arguments and of the fields of a batch: what passes at each end of a range, and what an error says."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch

import geomalign as ga
from geomalign._util import check
from geomalign._util.types import Interval, Locality

INF, NAN = math.inf, math.nan
Check = Callable[..., None]
TWO = torch.ones(2)

RANGES: list[tuple[Check, tuple[Any, ...], tuple[Any, ...], str]] = [
    (check.positive, (1e-300, 1, 2.5, torch.tensor(1.0)), (0, -1, INF, NAN, "1", None, TWO), "a positive number"),
    (check.non_negative, (0, 0.0, 1e300), (-1e-300, INF, NAN, "x", TWO), "a number ≥ 0"),
    (check.finite, (0, -1e300, 1e300), (INF, -INF, NAN, None, "x", TWO), "a finite number"),
    (check.number, (0, INF, -INF), (NAN, None, "x", TWO), "a number"),
    (
        check.numbers,
        ((0, 1), [INF, -INF], (INF, INF)),
        (None, 1.0, (1,), (1, 2, 3), (NAN, 1), (1, NAN), {1, 2}, ("x", 1)),
        "two numbers",
    ),
    (check.boolean, (True, False), (0, 1, "false", None), "True or False"),
    (check.integer, (1, 2, numpy.int64(1)), (0, -1, 1.0, True, "1", None), "an integer ≥ 1"),
]


@pytest.mark.parametrize("check_, passes, refused, told", RANGES, ids=[told for *_, told in RANGES])
def test_a_check_passes_and_refuses(check_: Check, passes: Any, refused: Any, told: str) -> None:
    for value in passes:
        check_("Owner", value=value)
    for value in refused:
        with pytest.raises(ValueError, match=re.escape(f"Owner(value={value!r}): {told}.")):
            check_("Owner", value=value)


def test_a_check_of_several_values_names_the_one_that_fails_and_the_remedy() -> None:
    for checked, bad in ((check.positive, 0), (check.non_negative, -1), (check.finite, NAN), (check.number, NAN)):
        with pytest.raises(ValueError, match=rf"Owner\(two={bad!r}\): .*, the remedy\.$"):
            checked("Owner", "the remedy", one=1, two=bad, three=bad)
    with pytest.raises(ValueError, match=r"Owner\(two=4\): an integer ≥ 5, so many\.$"):
        check.integer("Owner", 5, "so many", one=5, two=4)
    with pytest.raises(ValueError, match=r"^Interval\(value=inf\): a finite number\.$"):  # of an instance, its class
        check.finite(Interval(), value=INF)


@pytest.mark.parametrize("ends", ["[]", "()", "[)", "(]"])
def test_the_ends_of_a_range_are_those_of_its_brackets(ends: str) -> None:
    within = functools.partial(check.within, "Owner", 0, 1, ends=ends)
    within(value=0.5)
    for value, allowed in ((0, ends[0] == "["), (1, ends[1] == "]"), (-0.1, False), (1.1, False), (NAN, False)):
        if allowed:
            within(value=value)
        else:
            with pytest.raises(
                ValueError, match=re.escape(f"Owner(value={value}): a number in {ends[0]}0, 1{ends[1]}.")
            ):
                within(value=value)
    for value in (0, 1):
        check.within("Owner", 0, 1, value=value)
    with pytest.raises(ValueError, match=r"a number in \[1, ∞\), a bound\."):
        check.within("Owner", 1, INF, "a bound", ends="[)", value=INF)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda x: ga.Pair(margin=x), "Pair(margin="),
        (lambda x: ga.unit.Shifted(origin=x), "Shifted(origin="),
        (lambda x: ga.Power(x), "Power(power="),
        (lambda x: ga.Sigmoid(shift=x), "Sigmoid(shift="),
        (lambda x: ga.measure.LengthPower(x, 1.0), "LengthPower(alpha="),
        (lambda x: ga.measure.LengthPreference(x), "LengthPreference(preference="),
        (lambda x: ga.LogRatio(x), "LogRatio(scale="),
        (lambda x: ga.FixedBudget(x), "FixedBudget(length="),
        (lambda x: ga.measure.LengthPreference(1.0, x), "LengthPreference(spread="),
        (lambda x: ga.PreferenceProbability(beta=x), "PreferenceProbability(beta="),
        (lambda x: ga.KLReward(ga.Advantage(), ga.Linear(), beta=x), "KLReward(beta="),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_an_infinite_argument_is_refused(make: Callable[[float], object], name: str) -> None:
    for value in (INF, -INF):
        with pytest.raises(ValueError, match=re.escape(f"{name}{value})")):
            make(value)


def test_one_of_several_options() -> None:
    check.one_of("Owner", "way", "b", iter(("a", "b")))
    with pytest.raises(ValueError, match=r"^Owner\(way='c'\): choose one of 'a', 'b'\.$"):
        check.one_of("Owner", "way", "c", iter(("a", "b")))
    with pytest.raises(ValueError, match=r"^Owner\(way='c'\): choose one of 'a'\.$"):
        check.choose("Owner", "way", "c", {"a": 1})
    with pytest.raises(ValueError, match=r"^KLReward\(unit='tokens'\): choose one of 'response', 'token', 'return'\.$"):
        ga.KLReward(ga.Advantage(), ga.Linear(), unit="tokens")


def test_an_instance_of_a_class() -> None:
    check.instance("Owner", "name", 1, int, "1")
    check.typed("f", "x", 1, (str, int), "")
    with pytest.raises(ValueError, match=r"^Owner\(name=1\.0\): expected an int instance such as 1\.$"):
        check.instance("Owner", "name", 1.0, int, "1")
    with pytest.raises(TypeError, match=r"^`x` of f is float, not a str or an int\. Remedy\.$"):
        check.typed("f", "x", 1.0, (str, int), "Remedy.")
    assert [check.a(word) for word in ("Apple", "egg", "Ion", "oak", "unit", "Unit", "Pair")] == [
        *("an Apple", "an egg", "an Ion", "an oak", "a unit", "a Unit", "a Pair"),
    ]


def test_an_interval() -> None:
    assert dataclasses.astuple(Interval()) == (-INF, INF) and Interval(1.0, 1.0).low == 1.0
    assert Interval(-1.0, 2.0).clamp(torch.tensor([-2.0, -1.0, 0.0, 2.0, 3.0])).tolist() == [-1, -1, 0, 2, 2]
    for low, high in ((1.0, 0.0), (NAN, 0.0), (0.0, NAN)):
        with pytest.raises(
            ValueError, match=rf"^Interval\(low={low}, high={high}\): the lower end must be ≤ the upper"
        ):
            Interval(low, high)


def test_localities_are_ordered_by_how_much_must_be_known() -> None:
    assert [(x.name, int(x)) for x in Locality] == [
        *(("ROLLOUT", 0), ("TOKEN", 1), ("SEQUENCE", 2), ("GROUP", 3), ("BATCH", 4)),
    ]


# ---- batches

ROWS = torch.zeros(4, 3)
ONE = ROWS[:, 0]
IDS = ONE.long()


def told(error: str, make: Callable[[], object], kind: type[Exception] = ValueError) -> None:
    with pytest.raises(kind, match="^" + re.escape(error)):
        make()


LIKE_POLICY = ("old", "reference", "behavior", "mask")


@pytest.mark.parametrize("name", LIKE_POLICY)
def test_a_field_of_tokens_has_the_shape_of_the_policy(name: str) -> None:
    wrong: dict[str, Any] = {name: [0.0]}
    told(f"`{name}` of Batch is (4, 2) but `policy` is (4, 3);", lambda: ga.Batch(ROWS, **{name: torch.zeros(4, 2)}))
    told(f"`{name}` of Batch is (4,) but `policy` is (4, 3);", lambda: ga.Batch(ROWS, **{name: ONE}))
    told(f"`{name}` of Batch is list, not a torch.Tensor.", lambda: ga.Batch(ROWS, **wrong), TypeError)
    ga.Batch(ROWS, **{name: ROWS}), ga.Batch(ONE, **{name: ONE})
    if name != "mask":
        told(f"`{name}` of Batch has dtype torch.int64; log-", lambda: ga.Batch(ROWS, **{name: ROWS.long()}))


def test_log_probabilities_have_one_axis_or_two() -> None:
    for shape in ((), (4, 3, 2)):
        told(f"`policy` of Batch is {shape}; log-probabilities are", functools.partial(ga.Batch, torch.zeros(shape)))
    told("`policy` of Batch is int, not a torch.Tensor.", lambda: ga.Batch(0), TypeError)  # type: ignore[arg-type]
    told("`policy` of Batch has dtype torch.int64;", lambda: ga.Batch(ROWS.long()))
    assert ga.Batch(ONE).summed and not ga.Batch(ROWS).summed


def test_observations_have_the_shape_of_the_policy_and_need_a_mask() -> None:
    told("`observation_mask` of Batch is given without `mask`", lambda: ga.Batch(ROWS, observation_mask=ROWS))
    told(
        "`observation_mask` of Batch is (4, 2) but `policy` is (4, 3)",
        lambda: ga.Batch(ROWS, mask=ROWS, observation_mask=ROWS[:, :2]),
    )
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    seen = torch.tensor([[0, 2, -1, 0], [1, 1, 1, 1], [1, 0, 0, 1]])
    batch = ga.Batch(torch.zeros(3, 4), mask=mask, observation_mask=seen)
    assert batch.observed.int().tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]]
    assert not ga.Batch(ROWS, mask=ROWS).observed.any() and ga.Batch(ROWS).observed.shape == (4, 3)
    sums = ga.Batch(torch.zeros(3), mask=torch.tensor([0, 1, 1]), observation_mask=torch.tensor([1, 1, 0]))
    assert sums.observed.shape == (3, 1) and not sums.observed.any()


@pytest.mark.parametrize("name", ["reward", "advantage"])
def test_a_number_per_row_or_per_token(name: str) -> None:
    make = lambda x: ga.Batch(ROWS, **{name: x})  # noqa: E731
    make(ONE), make(ROWS), make(IDS)
    told(f"`{name}` of Batch is (3,) but there are 4 rows; expected (4,) or (4, 3).", lambda: make(torch.zeros(3)))
    told(f"`{name}` of Batch is (4, 2) but there are 4 rows; expected (4,) or (4, 3).", lambda: make(ROWS[:, :2]))
    told(f"`{name}` of Batch is float, not a torch.Tensor.", lambda: make(1.0), TypeError)
    told(
        f"`{name}` of Batch is (3,) but there are 4 rows; expected (4,). A",
        lambda: ga.Batch(ONE, **{name: torch.zeros(3)}),
    )
    for dtype in (torch.bool, torch.complex64):
        wrong = f"`{name}` of Batch has dtype {dtype}; it holds numbers. Make 1 and 0 of true and false, `{name}.float"
        told(wrong, functools.partial(make, ONE.to(dtype)))


def test_several_rewards_are_columns() -> None:
    for shape in ((4,), (3, 2), (4, 0), (4, 2, 1)):
        wrong = (
            f"`rewards` of Batch is {shape} but there are 4 rows; expected (4, columns) with at least one column. For"
        )
        told(wrong, lambda shape=shape: ga.Batch(ROWS, rewards=torch.zeros(shape)))  # type: ignore[misc]
    told("`rewards` of Batch has dtype torch.bool; it holds numbers", lambda: ga.Batch(ROWS, rewards=ROWS > 0))
    told("`rewards` of Batch is list, not a", lambda: ga.Batch(ROWS, rewards=[1.0]), TypeError)  # type: ignore[arg-type]
    ga.Batch(ROWS, rewards=torch.zeros(4, 1)), ga.Batch(ROWS, rewards=torch.zeros(4, 5))


def test_a_group_is_an_id_per_row_or_a_size() -> None:
    told("`group` of Batch is (4, 3) but there are 4 rows; expected (4,). A", lambda: ga.Batch(ROWS, group=ROWS.long()))
    for dtype in (torch.bool, torch.complex64, torch.float64):
        wrong = (
            f"`group` of Batch has dtype {dtype}; it holds integer ids of the prompt that each row answers. Use `gro"
        )
        told(wrong, functools.partial(ga.Batch, ROWS, group=ONE.to(dtype)))
    told("`group` of Batch is str, not a torch.Tensor.", lambda: ga.Batch(ROWS, group="4"), TypeError)  # type: ignore[arg-type]
    for size in (0, 3, 8, -2, True):
        told(f"`group` of Batch is {size!r}, but there are 4 rows;", functools.partial(ga.Batch, ROWS, group=size))
    for size, prompts in ((1, [0, 1, 2, 3]), (2, [0, 0, 1, 1]), (4, [0, 0, 0, 0])):
        batch = ga.Batch(ROWS, group=size)
        assert batch.prompt is not None and batch.prompt.tolist() == prompts
        assert batch[1:].group.tolist() == prompts[1:]  # type: ignore[union-attr]
    assert ga.Batch(ROWS).prompt is None and ga.Batch(ROWS)[1:].group is None
    assert ga.Batch(ROWS, group=IDS).prompt is IDS


@pytest.mark.parametrize("name", ["chosen", "rejected"])
def test_the_fields_of_pairs_are_named(name: str) -> None:
    def make(**fields: Any) -> ga.PreferenceBatch:
        return ga.PreferenceBatch(**{"chosen": ROWS, "rejected": torch.zeros(4, 5), **fields})

    own = torch.zeros(4, 3 if name == "chosen" else 5)
    told(f"`{name}` of PreferenceBatch is list, not a torch.Tensor.", lambda: make(**{name: [1.0]}), TypeError)
    told(f"`{name}` of PreferenceBatch has dtype torch.int64;", lambda: make(**{name: own.long()}))
    told(f"`{name}` of PreferenceBatch is (4, 3, 2);", lambda: make(**{name: torch.zeros(4, 3, 2)}))
    for other in (f"{name}_mask", f"reference_{name}"):
        wrong = f"`{other}` of PreferenceBatch is (4, 4) but `{name}` is {tuple(own.shape)};"
        told(wrong, lambda other=other: make(**{other: torch.zeros(4, 4)}))  # type: ignore[misc]
        told(f"`{other}` of PreferenceBatch is int, not", functools.partial(make, **{other: 0}), TypeError)
    told(
        "Only one of `reference_chosen` and `reference_rejected` is given;", lambda: make(**{f"reference_{name}": own})
    )


def test_pairs_have_as_many_of_one_kind_as_of_the_other() -> None:
    for chosen, rejected in ((ROWS, ROWS[:3]), (ROWS[:3], ROWS), (ONE, ROWS), (ROWS, ONE)):
        wrong = f"`chosen` is {tuple(chosen.shape)} but `rejected` is {tuple(rejected.shape)}; row i of both"
        told(wrong, functools.partial(ga.PreferenceBatch, chosen, rejected))
    for margin in (ROWS, ONE[:3]):
        wrong = f"`margin` of PreferenceBatch is {tuple(margin.shape)} but there are 4 rows; expected (4,). A"
        told(wrong, functools.partial(ga.PreferenceBatch, ROWS, ROWS, margin=margin))
    told(
        "`margin` of PreferenceBatch has dtype torch.bool; it holds numbers",
        lambda: ga.PreferenceBatch(ROWS, ROWS, margin=ONE > 0),
    )
    assert ga.PreferenceBatch(ROWS, ROWS).paired and not ga.Batch(ROWS).paired
    assert ga.PreferenceBatch(ONE, ONE).summed and not ga.PreferenceBatch(ROWS, ROWS[:, :1]).summed


def test_pairs_have_a_margin_or_say_how_to_give_one() -> None:
    pairs = ga.PreferenceBatch(ROWS, ROWS, margin=ONE)
    assert pairs.require("margin", "Someone") is pairs.margin
    for name in ("reward", "advantage"):
        wrong = (
            f"Someone needs `{name}`, but this PreferenceBatch has only log-probabilities of pairs. Use sampling=Lab"
        )
        told(wrong, lambda name=name: pairs.require(name, "Someone"))  # type: ignore[misc]
    told(
        "Someone needs `margin`, but this PreferenceBatch has only log-probabilities of pairs. Pass the difference of",
        lambda: ga.PreferenceBatch(ROWS, ROWS).require("margin", "Someone"),
    )


def test_what_a_batch_lacks_is_named_beside_what_it_has() -> None:
    batch = ga.Batch(ROWS, reward=ONE, group=IDS)
    wrong = (
        "Someone needs `old`, which this Batch lacks (it has policy, reward, group). Pass the log-probabilities under"
    )
    told(wrong, lambda: batch.require("old", "Someone"))
    told("Someone needs `margin`, which this Batch lacks", lambda: batch.require("margin", "Someone"))
    assert batch.require("reward", "Someone") is batch.reward


def test_the_rows_of_pairs_by_hand() -> None:
    pairs = ga.PreferenceBatch(
        *(torch.tensor([[-1.0, -2.0], [-3.0, -4.0]]), torch.tensor([[-5.0], [-6.0]])),
        *(torch.tensor([[-1.5, -2.5], [-3.5, -4.5]]), torch.tensor([[-5.5], [-6.5]])),
        chosen_mask=torch.tensor([[2, 1], [0, 0]]),
    )
    rows = pairs.rows
    assert rows.policy.tolist() == [[-1, -2], [-3, -4], [-5, 0], [-6, 0]]
    assert rows.reference is not None and rows.reference.tolist() == [[-1.5, -2.5], [-3.5, -4.5], [-5.5, 0], [-6.5, 0]]
    assert rows.old is rows.reference
    assert rows.support.tolist() == [[True, True], [False, False], [True, False], [True, False]]
    assert rows.reward is not None and rows.reward.tolist() == [1, 1, -1, -1]
    assert isinstance(rows.group, torch.Tensor) and rows.group.tolist() == [0, 1, 0, 1]
    counts = pairs.counts()
    assert [int(x) for x in counts.astuple()] == [4, 3, 1, 4]
    assert counts.lengths is None and counts.prompts is None
    mirrored = ga.PreferenceBatch(pairs.rejected, pairs.chosen, rejected_mask=pairs.chosen_mask)
    assert mirrored.rows.support.tolist() == [[True, False], [True, False], [True, True], [False, False]]
    assert mirrored.rows.old is None and [int(x) for x in mirrored.counts().astuple()] == [4, 3, 1, 4]
    assert ga.PreferenceBatch(pairs.chosen, pairs.chosen).rows.mask is None
    unequal = ga.PreferenceBatch(pairs.chosen, pairs.rejected).rows.support
    assert unequal.int().tolist() == [[1, 1], [1, 1], [1, 0], [1, 0]]
    half = ga.PreferenceBatch(ROWS.bfloat16(), ROWS.bfloat16()).rows
    assert half.reward is not None and half.reward.dtype == torch.float32


def test_pairs_of_sums_by_hand() -> None:
    pairs = ga.PreferenceBatch(
        torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -4.0]), rejected_mask=torch.tensor([1, 0])
    )
    assert pairs.rows.policy.tolist() == [-1, -2, -3, -4] and pairs.size == 2
    assert pairs.rows.support.tolist() == [[True], [True], [True], [False]]
    assert [int(x) for x in pairs.counts().astuple()] == [3, 3, 1, 4]


def test_the_rows_of_a_batch_by_index() -> None:
    batch = ga.Batch(torch.arange(6.0).reshape(3, 2), group=torch.tensor([5, 6, 7]))
    for index, row in ((0, 0), (2, 2), (-1, 2), (-3, 0), (torch.tensor(1), 1), (numpy.int64(-2), 1)):
        part = batch[index]
        assert part.size == 1 and part.policy.tolist() == [[2.0 * row, 2.0 * row + 1]]
        assert isinstance(part.group, torch.Tensor) and part.group.tolist() == [5 + row]
    assert [batch[i].size for i in (slice(1, None), torch.tensor([0, 2]), torch.tensor([True, False, False]))] == [
        2,
        2,
        1,
    ]
    assert batch[torch.tensor([1])].size == 1 and batch[[0, 2]].policy[1, 0] == 4
    for index in (3, -4):
        told(f"there is no row {index} in a Batch of 3.", lambda index=index: batch[index], IndexError)  # type: ignore[misc]
    pairs = ga.PreferenceBatch(batch.policy, batch.policy)
    assert pairs[-3].chosen.tolist() == [[0.0, 1.0]]
    told("there is no row -4 in a PreferenceBatch of 3.", lambda: pairs[-4], IndexError)


def test_the_counts_of_a_batch_by_hand() -> None:
    mask = torch.tensor([[1, 1, 0], [0, 0, 0], [2, 0, 0]])
    batch = ga.Batch(torch.zeros(3, 3), mask=mask, group=torch.tensor([4, 4, 9]))
    counts = batch.counts()
    assert [int(x) for x in counts.astuple()] == [3, 2, 0, 3]
    assert counts.astuple() == (counts.tokens, counts.sequences, counts.pairs, counts.rows)
    assert counts.lengths is not None and counts.lengths.tolist() == [2, 0, 1]
    assert counts.prompts is batch.group
    total = sum([counts, counts])
    assert [int(x) for x in total.astuple()] == [6, 4, 0, 6]  # type: ignore[union-attr]
    assert total.lengths is None and total.prompts is None  # type: ignore[union-attr]
    assert sum([counts]) is counts
    for one, other in ((counts, 1), (1, counts)):
        told("unsupported operand type", functools.partial(operator.add, one, other), TypeError)


def test_what_a_batch_reads_where_there_are_no_tokens() -> None:
    mask = torch.tensor([[1, 0], [0, 0], [1, 1]])
    reward = torch.tensor([[1.0, NAN], [NAN, 7.0], [2.0, 3.0]])
    batch = ga.Batch(torch.full((3, 2), -1.0), mask=mask, reward=reward)
    assert batch.per_response(reward).tolist() == [1.0, 0.0, 5.0]
    assert batch.per_response(torch.tensor([4.0, NAN, 6.0])).tolist() == [4.0, 0.0, 6.0]
    assert batch.per_response(torch.tensor([4, 5, 6])).dtype == torch.float64
    assert batch.log_probs("policy", "a test").tolist() == [[-1, 0], [0, 0], [-1, -1]]
    assert batch.judged.tolist() == [True, False, True]
    many = dataclasses.replace(batch, rewards=torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, INF]]))
    assert many.judged.tolist() == [True, False, False]
    both = dataclasses.replace(batch, advantage=torch.tensor([NAN, 1.0, 1.0]))
    assert both.judged.tolist() == [False, False, True] and both.groups().valid.tolist() == both.judged.tolist()
