"""Groups of rows against plain loops in every layout, and numerical primitives by hand and at their bounds."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_slot_values import close, column
from torch import Tensor

import geomalign as ga
from geomalign._util import numerics
from geomalign._util.groups import Axis, Groups, PaddedGroups, Pool, mean_within

X = torch.tensor([1.0, -2.0, 5.0, 0.5, -3.0, 7.0], dtype=torch.float64)
IDS: dict[str, tuple[Tensor | int | None, list[int]]] = {
    "one": (None, [0] * 6),
    "by size": (2, [0, 0, 1, 1, 2, 2]),
    "of equal sizes in order": (torch.tensor([4, 4, 4, 6, 6, 6]), [0, 0, 0, 1, 1, 1]),
    "of equal sizes": (torch.tensor([6, 4, 6, 4, 6, 4]), [1, 0, 1, 0, 1, 0]),
    "in order": (torch.tensor([1, 1, 1, 2, 3, 3]), [0, 0, 0, 1, 2, 2]),
    "falling": (torch.tensor([9, 7, 4, 2, 1, 0]), [5, 4, 3, 2, 1, 0]),
    "ragged": (torch.tensor([3, 1, 3, -2, 1, 1]), [2, 1, 2, 0, 1, 1]),
}
VALID = {"all": [True] * 6, "some": [True, False, True, True, False, True], "none": [False] * 6}


def loop(ids: list[int], valid: list[bool], of: Callable[[list[float]], float], empty: float = 0.0) -> Tensor:
    """Of every row that is valid, a number of the values of its group's valid rows; `empty` elsewhere."""
    found = []
    for i in range(6):
        values = [float(X[j]) for j in range(6) if ids[j] == ids[i] and valid[j]]
        found.append(of(values) if valid[i] and values else empty)
    return column(*found)


@pytest.mark.parametrize("device", ["host", "accelerator"])
@pytest.mark.parametrize("kept", VALID)
@pytest.mark.parametrize("layout", IDS)
def test_groups_against_loops(layout: str, kept: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "accelerator":  # the path of a device whose values must not be looked at
        monkeypatch.setattr("geomalign._util.groups.may_wait", lambda x: False)
    (ids, segment), valid = IDS[layout], VALID[kept]
    spoiled = torch.where(torch.tensor(valid), X, math.nan)
    groups, padded = Groups(ids, torch.tensor(valid)), []
    assert groups.segment.tolist() == segment and groups.valid.tolist() == valid
    in_order = isinstance(ids, int) or ids is None or (device == "host" and layout.endswith("in order"))
    assert (groups.order is None) is in_order
    for pool in (groups, Groups(ids, torch.ones(6, dtype=torch.bool)).among(torch.tensor(valid))):
        close(pool.sum(spoiled), loop(segment, valid, sum))
        close(pool.collect(spoiled), loop(segment, valid, sum))
        close(pool.max(spoiled), loop(segment, valid, max))
        close(pool.mean(spoiled), loop(segment, valid, lambda v: sum(v) / len(v)))
        close(pool.keep(spoiled, 9.0), [float(x) if there else 9.0 for x, there in zip(X, valid, strict=True)])
        close(pool.keep(spoiled), torch.tensor(valid) * X)
        count = loop(segment, valid, len, 1.0)
        there = torch.tensor(valid)
        close(pool.count(torch.float64)[there], count[there])
        assert (pool.count(torch.float64) >= 1).all() and pool.count(torch.float32).dtype == torch.float32
        close(pool.centred(X), torch.where(there, X - loop(segment, valid, lambda v: sum(v) / len(v)), 0))
        close(pool.total(torch.where(there, X, 0))[there], loop(segment, valid, sum)[there])
        padded.append(pool.padded())
        if kept != "all":
            assert not pool.full
    if device == "host":  # a table of unequal groups has slots without a row
        assert groups.full is (kept == "all" and layout not in ("in order", "ragged")) and None not in padded
    if device == "accelerator":
        assert not groups.full and (groups.padded() is None) is not isinstance(ids, int)
        everyone = Groups(ids, torch.ones(6, dtype=torch.bool))
        close(everyone.sum(X), loop(segment, [True] * 6, sum))


@pytest.mark.parametrize("layout", IDS)
def test_the_rows_of_groups_are_the_lines_of_a_table(layout: str) -> None:
    ids, segment = IDS[layout]
    valid = torch.tensor(VALID["some"])
    for kept in (valid, torch.ones(6, dtype=torch.bool)):
        groups = Groups(ids, kept)
        table = groups.padded()
        assert table is not None
        dense, expected = table.dense(X), []
        assert (table.source is None) is (layout in ("one", "by size", "of equal sizes in order"))  # a view of the rows
        width = max(segment.count(s) for s in segment)
        for s in range(max(segment) + 1):
            rows = [float(X[i]) for i in range(6) if segment[i] == s]
            expected.append(rows + rows[:1] * (width - len(rows)))  # a slot without a row shows the group's first
        close(dense, torch.tensor(expected, dtype=torch.float64))
        close(table.rows(dense), X)
        close(table.rows(torch.arange(float(max(segment) + 1))[:, None]), [float(s) for s in segment])
        shown = [[bool(kept[i]) for i in range(6) if segment[i] == s] for s in range(max(segment) + 1)]
        assert table.axis.valid.tolist() == [line + [False] * (width - len(line)) for line in shown]
        if not isinstance(ids, int):
            assert groups.padded() is table  # made once


def test_one_large_group_does_not_pad_many_small_ones() -> None:
    """A table of up to four places a row and 1024 more: five groups, one of 1040 rows and four of one, are 5200."""
    for large, made in ((1040, True), (1041, False)):
        ids = torch.cat([torch.zeros(large, dtype=torch.long), torch.arange(1, 5)])
        groups = Groups(ids, torch.ones(large + 4, dtype=torch.bool))
        assert (PaddedGroups.of(groups) is not None) is made
        assert groups.count(torch.float64)[[0, -1]].tolist() == [large, 1] and not groups.full
        close(groups.max(torch.arange(float(large + 4)))[[0, -1]], [large - 1.0, large + 3.0])
    empty = Groups(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.bool))
    assert PaddedGroups.of(empty) is None and empty.sum(torch.zeros(0)).shape == (0,)
    assert Groups(None, torch.zeros(0, dtype=torch.bool)).segment.shape == (0,)


def test_the_rows_of_a_group_keep_their_order() -> None:
    ids = torch.arange(60) % 3  # more than a sort that does not keep the order leaves alone
    groups = Groups(ids, torch.ones(60, dtype=torch.bool))
    table = groups.padded()
    assert groups.order is not None and table is not None
    assert groups.order.tolist() == sorted(range(60), key=lambda i: i % 3)
    assert table.dense(torch.arange(60)).tolist() == [list(range(k, 60, 3)) for k in range(3)]


def test_the_last_axis_is_a_group() -> None:
    x = torch.tensor([[1.0, -2.0, 4.0], [-3.0, 5.0, -1.0]])
    some, every = Axis(torch.tensor([[True, True, False], [False, False, False]])), Axis(x)
    assert not some.full and every.full and every.valid.all() and some.shape == (2, 3)
    close(some.sum(x), [[-1.0], [0.0]]), close(every.sum(x), [[3.0], [1.0]])
    close(some.max(x), [[1.0], [0.0]]), close(every.max(x), [[4.0], [5.0]])
    close(some.count(torch.float64), [[2.0], [1.0]])
    assert every.count(torch.float64) == 3 and every.count(torch.float32).dtype == torch.float32
    close(some.mean(x), [[-0.5], [0.0]]), close(every.mean(x), [[1.0], [1 / 3]])
    close(some.centred(x), [[1.5, -1.5, 0.0], [0.0, 0.0, 0.0]])
    close(some.total(x), [[3.0], [1.0]])
    assert some.collect(x) is x and some.padded() is None
    possible = torch.tensor([[True, False, True], [True, True, False]])
    assert some.among(possible).valid.tolist() == [[True, False, False], [False] * 3]
    assert every.among(possible).valid.tolist() == possible.tolist()
    nothing = Axis(torch.zeros(2, 0))
    assert nothing.count(torch.float64) == 1 and nothing.sum(torch.zeros(2, 0)).tolist() == [[0.0], [0.0]]
    assert not Pool.full.fget(some)  # type: ignore[attr-defined]


def test_a_mean_of_the_batch_or_of_the_group() -> None:
    groups = Groups(torch.tensor([0, 0, 1, 1, 1, 1]), torch.tensor(VALID["some"]))
    assert float(mean_within(groups, "batch")(X)) == pytest.approx((1 + 5 + 0.5 + 7) / 4)
    close(mean_within(groups, "group")(X), [1, 0, 12.5 / 3, 12.5 / 3, 0, 12.5 / 3])
    assert float(mean_within(groups, "batch", lambda total: total + column(4.5, 2.0))(X)) == 3.0
    alone = Groups(None, torch.tensor([False, True, False, False, False, False]))
    assert float(mean_within(alone, "batch")(X)) == -2.0
    nobody = Groups(None, torch.zeros(6, dtype=torch.bool))
    assert float(mean_within(nobody, "batch")(X)) == 0.0


# ---- numerics


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 300.0), (torch.float32, 30.0), (torch.float16, 10.0)])
def test_an_exponential_is_continued_by_its_tangent(dtype: torch.dtype, bound: float) -> None:
    assert numerics.limit(dtype) == bound and numerics.limit(torch.bfloat16) == 30.0
    if dtype == torch.float16:
        return
    top = math.exp(bound)
    x = torch.tensor([-2.0, 0.0, 1.0, bound, bound + 1, bound + 3], dtype=dtype)
    values = [math.exp(-2), 1, math.e, top, 2 * top, 4 * top]
    slopes = torch.tensor([math.exp(-2), 1, math.e, top, top, top], dtype=dtype)
    less_one = torch.tensor([math.expm1(-2), 0, math.e - 1, *values[3:]], dtype=dtype)
    exact = functools.partial(torch.testing.assert_close, rtol=64 * torch.finfo(dtype).eps, atol=0.0)
    exact(numerics.exp(x), torch.tensor(values, dtype=dtype))
    exact(numerics.exp_slope(x), slopes)
    exact(numerics.expm1(x), less_one)
    for one, other in zip(numerics.expm1_and_slope(x), (less_one, slopes), strict=True):
        exact(one, other)
    for function in (numerics.exp, numerics.expm1):
        moving = x.clone().requires_grad_()
        exact(torch.autograd.grad(function(moving).sum(), moving)[0], slopes)
    for power, expected in ((0.0, x), (0.5, 2 * numerics.expm1(0.5 * x)), (-1.0, -numerics.expm1(-x))):
        torch.testing.assert_close(numerics.box_cox(x, power), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [-1.5, 0.0, 0.5, 1.0, 2.0, 3.0])
def test_the_remainder_of_a_power(order: float, dtype: torch.dtype) -> None:
    """Against its series in exact sums of 40 terms, on both sides of zero and near the end of its range."""
    for x in (-0.29, -1e-3, 1e-6, 0.1, 0.29):
        at = x / max(1.0, abs(order))
        terms = [sum(order**j for j in range(k - 1)) * at**k / math.factorial(k) for k in range(2, 40)]
        found = numerics.power_remainder(torch.tensor(at, dtype=dtype), order)
        assert float(found) == pytest.approx(math.fsum(terms), rel=4 * torch.finfo(dtype).eps)
    assert numerics.power_remainder(torch.zeros(2, dtype=dtype), order).tolist() == [0, 0]
    edge = 0.3 / max(1.0, abs(order))
    ends = torch.tensor([-1.01, -0.99, 0.0, 0.99, 1.01], dtype=dtype) * edge
    assert numerics.is_small(ends, order).tolist() == [False, True, True, True, False]


def test_remainders_on_both_sides_of_their_series() -> None:
    x = column(-5.0, -0.31, -0.29, -1e-4, 0.0, 1e-4, 0.29, 0.31, 5.0)
    expected = [math.fsum(v**k / math.factorial(k) for k in range(2, 60)) for v in x.tolist()]
    torch.testing.assert_close(numerics.expm1_remainder(x), column(*expected), rtol=1e-14, atol=0)
    assert float(numerics.expm1_remainder(column(310.0))) == pytest.approx(11 * math.exp(300.0))
    v = column(-1.0, -0.9, -0.26, -0.25, -1e-4, 0.0, 1e-4, 0.34, 0.36, 4.0)
    found = numerics.log1p_remainder(v)
    for at, value in zip(v.tolist()[1:], found.tolist()[1:], strict=True):
        direct = (1 + at) * math.log1p(at) - at
        series = math.fsum((-at) ** k / (k * (k - 1)) for k in range(2, 90)) if abs(at) < 0.5 else direct
        assert value == pytest.approx(series, rel=1e-13)
    assert float(found[0]) == 1 and float(found[5]) == 0
    assert (numerics.is_small(x) == (x.abs() < 0.3)).all() and not numerics.is_small(column(0.3)).any()


def test_numbers_in_formulas() -> None:
    for x, text in (
        (math.inf, r"\infty"),
        (-math.inf, r"-\infty"),
        (0.25, "0.25"),
        (1e-6, "10^{-6}"),
        (3e-6, r"3\cdot 10^{-6}"),
        (-1e10, r"-1\cdot 10^{10}"),
        (0.0, "0"),
    ):
        assert numerics.latex(x) == text


def test_equality_is_a_number() -> None:
    x, y = column(1.0, 2.0, math.nan), column(1.0, 3.0, math.nan)
    found = numerics.equal(x, y)
    assert found.tolist() == [1, 0, 0] and found.dtype == torch.float64
    mapped = torch.func.vmap(numerics.equal)(x.float()[None], y.float()[None])
    assert mapped.tolist() == [[1, 0, 0]] and mapped.dtype == torch.float32
    assert numerics.may_wait(x) and not numerics.may_wait(torch.nn.Parameter(x))
    seen = []
    torch.func.vmap(lambda row: seen.append(numerics.may_wait(row)) or row)(x[None])  # type: ignore[func-returns-value]
    assert seen == [False]


@pytest.mark.parametrize("device", ["host", "accelerator"])
@pytest.mark.parametrize("way", ["bisection", "newton", "newton from a start"])
def test_a_root_is_exact_to_the_last_number(way: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host the search ends when nothing moves; elsewhere it makes one evaluation for each bit."""
    if device == "accelerator":
        monkeypatch.setattr(numerics, "may_wait", lambda x: False)
    target, calls = column(-1e6, -8.0, -1e-9, 0.0, 27.0, 1e12), []

    def cube(x: Tensor) -> Tensor:
        calls.append(x)
        return x**3

    options: dict[str, Any] = {} if way == "bisection" else {"derivative": lambda x: 3 * x**2}
    if way == "newton from a start":
        options["start"] = column(1.0)
    found = numerics.solve_increasing(cube, target, **options)
    expected = column(-100.0, -2.0, -1e-3, 0.0, 3.0, 1e4)
    torch.testing.assert_close(found, expected, rtol=4e-16, atol=1e-100)
    assert len(calls) == 64 if device == "accelerator" else len(calls) <= 64
    if way == "newton from a start":
        assert (calls[0] == 1).all()
        close_by, few = column(3.1), len(calls)
        numerics.solve_increasing(cube, column(27.0), derivative=lambda x: 3 * x**2, start=close_by)
        assert device == "accelerator" or len(calls) - few <= 10


@pytest.mark.parametrize("derivative", [None, lambda x: 3 * x**2], ids=["bisection", "newton"])
def test_a_root_lies_inside_its_bracket(derivative: Callable[[Tensor], Tensor] | None) -> None:
    """Its ends are numbers or tensors; where a target lies beyond them, what is next to the end is the answer."""
    seen = []

    def cube(x: Tensor) -> Tensor:
        seen.append(x)
        return x**3

    for low, high in ((1.0, 2.0), (column(1.0), column(2.0))):
        found = numerics.solve_increasing(cube, column(0.5, 3.375, 8.5), low, high, derivative=derivative)
        torch.testing.assert_close(found, column(1.0, 1.5, 2.0), rtol=1e-15, atol=0)
    assert all(((x >= 1) & (x <= 2)).all() for x in seen)
    assert derivative is not None or all(((x > 1) & (x < 2)).all() for x in seen)
    outside = numerics.solve_increasing(cube, column(3.375), 1.0, 2.0, derivative=derivative, start=column(5.0))
    assert float(outside) == pytest.approx(1.5, rel=1e-15)
    jump = numerics.solve_increasing(lambda x: torch.where(x < 0.25, -1.0, 1.0), column(0.0))
    assert float(jump) == pytest.approx(0.25, rel=1e-15)


def test_the_middle_of_numbers_is_in_their_order() -> None:
    values = [-math.inf, -1e300, -2.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1e300, math.inf]
    keys = numerics._to_key(column(*values))
    assert all(a <= b for a, b in itertools.pairwise(keys.tolist()))
    back = numerics._from_key(keys, torch.float64)
    assert back.tolist() == values and not back.signbit()[4:].any()  # the two zeros are one
    assert numerics._middle(torch.tensor([-5, 3, -8]), torch.tensor([2, 3, -3])).tolist() == [-2, 3, -6]
    huge = torch.iinfo(torch.int64).max
    assert int(numerics._middle(torch.tensor(huge - 2), torch.tensor(huge))) == huge - 1


def test_an_inverse_has_derivatives_and_none_where_the_function_jumps() -> None:
    s = column(8.0, 27.0).requires_grad_()
    x = numerics.invert_increasing(lambda x: x**3, lambda x: 3 * x**2, s)
    (first,) = torch.autograd.grad(x.sum(), s, create_graph=True)
    close(first.detach(), [1 / 12, 1 / 27])
    bounded = numerics.invert_increasing(lambda x: x**3, lambda x: 3 * x**2, column(8.0), 0.0, 3.0)
    close(bounded, [2.0])
    step = column(0.5, 2.0).requires_grad_()
    jumped = numerics.invert_increasing(lambda x: x + (x > 0.25).double(), torch.ones_like, step)
    torch.testing.assert_close(jumped.detach(), column(0.25, 1.0), rtol=0, atol=1e-8)
    close(torch.autograd.grad(jumped.sum(), step)[0], [0.0, 1.0])


def test_groups_are_public() -> None:
    assert ga.Groups is Groups and not Groups(None, torch.tensor([True])).among(torch.tensor([False])).valid.any()
