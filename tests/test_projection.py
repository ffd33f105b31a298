"""Projections and entmax along an axis and in groups: against peers, hostile drives, derivatives, devices."""

from __future__ import annotations

from typing import Any

import entmax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import geomalign as ga
from geomalign._util import groups as groups_module
from geomalign._util.groups import Axis, PaddedGroups
from geomalign.divergences import simplex
from geomalign.ops import entmax as our_entmax
from geomalign.ops import project_bounded
from tests.test_gpu import Watch

ORDERS = [1.0, 1.05, 1.3, 1.5, 1.9, 2.0, 3.0]
SIZES = [(64, 8), (1024, 16), (512, 64)]


def bisected(drive: Tensor, mu: float = 1.0, steps: int = 200) -> Tensor:
    """The paper's own way: halve the bracket of λ, n as many times as the digits ask for."""
    low = drive.amin(-1, keepdim=True) - mu * drive.shape[-1]
    high = drive.amax(-1, keepdim=True) + mu
    for _ in range(steps):
        level = (low + high) / 2
        positive = ((drive - level) / mu).clamp(min=-1).sum(-1, keepdim=True) > 0
        low, high = torch.where(positive, level, low), torch.where(positive, high, level)
    return ((drive - (low + high) / 2) / mu).clamp(min=-1)


def close(a: Tensor, b: Tensor, atol: float = 1e-12, rtol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=rtol)


def drives(size: int) -> st.SearchStrategy[Tensor]:
    point = st.floats(-30, 30, allow_subnormal=False)
    return st.lists(point, min_size=size, max_size=size).map(torch.tensor)


def chain(size: int, mu: float = 1.0) -> Tensor:
    """The worst for Michelot's algorithm: every step binds one more outcome, until the digits are used up."""
    level, gap, values = -float(size), 0.5, []
    for k in range(size, 1, -1):
        values.append(level - gap)
        level += gap / (k - 1)
        gap = 0.9 * gap / (k - 1)
    values.append(0.0)
    return mu * torch.tensor(values)


# --- what they are


@given(drive=drives(7), mu=st.sampled_from([0.1, 0.5, 3.0]))
@settings(max_examples=40)
def test_the_bounded_projection_is_what_bisection_approaches(drive: Tensor, mu: float) -> None:
    close(project_bounded(drive, mu), bisected(drive, mu), atol=1e-10)


@pytest.mark.parametrize("alpha", ORDERS)
@given(scores=drives(7))
@settings(max_examples=15)
def test_entmax_is_entmax(alpha: float, scores: Tensor) -> None:
    expected = scores.softmax(-1) if alpha == 1.0 else entmax.entmax_bisect(scores, alpha, n_iter=200)
    close(our_entmax(scores, alpha), expected, atol=1e-8, rtol=1e-6)


def test_entmax_ends_at_softmax_and_at_sparsemax() -> None:
    scores = torch.randn(50, 9)
    close(our_entmax(scores, 1 + 1e-7), scores.softmax(-1), atol=1e-6)
    close(our_entmax(scores, 2.0), entmax.sparsemax(scores, -1))
    close(our_entmax(scores), entmax.entmax15(scores, -1))


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-13), (torch.float32, 2e-5)], ids=str)
@pytest.mark.parametrize("scale", [0.01, 1.0, 1e4])
def test_probability_is_conserved(shape: tuple[int, int], dtype: torch.dtype, bound: float, scale: float) -> None:
    drive = scale * torch.randn(shape, dtype=dtype)
    v = project_bounded(drive, 0.5)
    assert v.dtype == dtype and bool((v >= -1).all())
    assert float(v.double().sum(-1).abs().max()) <= bound
    close(v.double(), bisected(drive.double(), 0.5), atol=1e-11 if dtype == torch.float64 else 1e-5 * (1 + scale))
    for alpha in (1.3, 1.5):
        p = our_entmax(drive, alpha)
        assert bool((p >= 0).all()) and float((p.double().sum(-1) - 1).abs().max()) <= bound


def test_sorting_and_iterating_agree() -> None:
    """One problem is sorted, many at once are iterated."""
    drive = 3 * torch.randn(1100, 9)
    together = project_bounded(drive)
    close(together[:3], project_bounded(drive[:3]))
    masked = torch.rand(1100, 9) < 0.7
    many, few = (project_bounded(drive[:k], valid=masked[:k]) for k in (1100, 3))
    close(many[:3], few)


# --- hostile drives


@pytest.mark.parametrize("copies", [1, 5000], ids=["sorted", "iterated"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_hostile_drives(copies: int, dtype: torch.dtype) -> None:
    def both(*values: float) -> tuple[Tensor, Tensor]:
        drive = torch.tensor(values, dtype=dtype).expand(copies, len(values))
        return project_bounded(drive)[-1], our_entmax(drive)[-1]

    for alone in (0.0, 1e4, -1e4):
        v, p = both(alone)
        assert torch.equal(v, torch.zeros_like(v)) and torch.equal(p, torch.ones_like(p))
    for same in (0.3, -1e4, 1e30):
        v, p = both(same, same, same)
        assert torch.equal(v, torch.zeros_like(v))
        close(p, torch.full_like(p, 1 / 3), atol=1e-6)
    v, p = both(1e4, -1e4, -1e4, 0.0)  # one takes all there is
    assert v.tolist() == [3.0, -1.0, -1.0, -1.0] and p.tolist() == [1.0, 0.0, 0.0, 0.0]
    v, p = both(1e4, 1e4, -1e4, -1e4)
    assert v.tolist() == [1.0, 1.0, -1.0, -1.0] and p.tolist() == [0.5, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("copies", [1, 3000], ids=["sorted", "iterated"])
def test_what_is_absent_has_no_influence(copies: int) -> None:
    drive = torch.randn(copies, 6)
    valid = torch.rand(copies, 6) < 0.6
    valid[0] = False
    broken = torch.where(valid, drive, torch.nan)
    for function in (project_bounded, our_entmax):
        out = function(broken, valid=valid)
        assert torch.equal(out[~valid], torch.zeros(int((~valid).sum())))
        close(out, function(drive, valid=valid))
        row = copies - 1
        close(out[row][valid[row]], function(drive[row][valid[row]]) if valid[row].any() else torch.zeros(0))
        close(function(drive, valid=torch.ones_like(valid)), function(drive))
    assert project_bounded(torch.zeros(0, 4)).shape == (0, 4)


# --- derivatives


@pytest.mark.parametrize("alpha", ORDERS)
def test_gradcheck_of_entmax(alpha: float) -> None:
    scores = torch.tensor([[0.3, -0.8, 1.1, 0.05], [0.9, 0.2, -3.7, -0.3]], requires_grad=True)
    valid = torch.tensor([[True] * 4, [True, True, True, False]])
    assert torch.autograd.gradcheck(lambda z: our_entmax(z, alpha, valid=valid), (scores,))
    assert torch.autograd.gradgradcheck(lambda z: our_entmax(z, alpha), (scores,), atol=1e-4)


@pytest.mark.parametrize("copies", [1, 1100], ids=["sorted", "iterated"])
def test_the_projections_derivative_is_that_of_its_free_set(copies: int) -> None:
    drive = torch.tensor([2.0, 1.5, -9.0, 1.8]).expand(copies, 4).clone().requires_grad_()
    pull = torch.randn(copies, 4)
    (found,) = torch.autograd.grad(project_bounded(drive, 0.5), drive, pull, create_graph=True)
    free = torch.tensor([1.0, 1.0, 0.0, 1.0])
    close(found, 2 * free * (pull - (pull * free).sum(-1, keepdim=True) / 3))
    one = drive[:1].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: project_bounded(x, 0.5), (one,))
    assert torch.autograd.gradgradcheck(lambda x: project_bounded(x, 0.5), (one,))


# --- groups of rows


@given(data=st.data())
@settings(max_examples=25)
def test_groups_are_summed_alike_whether_they_are_padded_or_not(data: Any) -> None:
    size = data.draw(st.integers(1, 12))
    ids = torch.tensor(data.draw(st.lists(st.integers(-2, 3), min_size=size, max_size=size)))
    valid = torch.tensor(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    x = torch.tensor(data.draw(st.lists(st.floats(-5, 5), min_size=size, max_size=size)))
    groups = ga.Groups(ids, valid)
    assert PaddedGroups.of(groups) is not None
    x = torch.where(valid, x, torch.nan)
    for row in range(size):
        mine = x[(ids == ids[row]) & valid] if valid[row] else torch.zeros(0)
        close(groups.sum(x)[row], mine.sum())
        close(groups.max(x)[row], mine.max() if mine.numel() else torch.tensor(0.0))
        close(groups.count(x.dtype)[row], torch.tensor(float(max(mine.numel(), 1)))) if valid[row] else None
        close(groups.mean(x)[row], mine.mean() if mine.numel() else torch.tensor(0.0))


def test_the_largest_of_infinite_values_is_infinite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero is only said of a group of nobody."""
    valid = torch.tensor([True, True, True, False])
    for waits in (True, False):
        monkeypatch.setattr(groups_module, "may_wait", lambda x, waits=waits: waits)
        groups = ga.Groups(torch.tensor([3, 1, 3, 2]), valid)
        assert groups.max(torch.tensor([-torch.inf, 2.0, -torch.inf, 5.0])).tolist() == [-torch.inf, 2, -torch.inf, 0]


def test_one_large_group_does_not_pad_many_small_ones() -> None:
    ids = torch.cat([torch.zeros(1000, dtype=torch.long), torch.arange(1, 2000)])
    groups = ga.Groups(ids, torch.ones(2999, dtype=torch.bool))
    assert groups.padded() is None
    drive = torch.randn(2999)
    v = ga.target_policy(drive, ga.PearsonChiSquare(), groups=groups).fluctuation
    close(v[:1000], project_bounded(drive[:1000]))
    assert torch.equal(v[1000:], torch.zeros(1999))


# --- devices


@pytest.mark.parametrize("alpha", [1.0, 1.3, 1.5, 2.0])
def test_a_fixed_number_of_steps_is_enough(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ragged, weighted and hostile groups: what a device gets that is not waited for is what the host gets."""
    d = ga.CressieRead(alpha)
    ids = torch.randint(5, (90,))
    valid = torch.rand(90) < 0.8
    drive = torch.cat([5 * torch.randn(40), chain(16), -(1.5 ** torch.arange(34.0))])
    prior = torch.randn(90)
    dense = torch.stack([chain(24), -(1.5 ** torch.arange(24.0)), 20 * torch.randn(24)])
    cases: list[tuple[Any, ...]] = [(drive, None, ids), (drive, prior, ids), (dense, None, None), (dense, dense, None)]

    def solve() -> list[Tensor]:
        out = []
        for g, log_prior, group in cases:
            pool = None if group is None else ga.Groups(group, valid)
            target = ga.target_policy(g, d, log_prior=log_prior, groups=pool)
            out += [target.ratio, target.multiplier]
        return out

    host = solve()
    for module in (simplex, groups_module):
        monkeypatch.setattr(module, "may_wait", lambda x: False)
    for there, here in zip(solve(), host, strict=True):
        close(there, here, atol=1e-10)


@pytest.mark.parametrize("divergence", [ga.PearsonChiSquare(), ga.CressieRead(1.3), ga.CressieRead(1.5)], ids=repr)
def test_nothing_waits_for_the_device(divergence: ga.Divergence) -> None:
    drive = torch.zeros(4, 3, device="meta", requires_grad=True)
    valid = torch.ones(4, 3, device="meta", dtype=torch.bool)
    with Watch() as watch:
        groups = ga.Groups(torch.zeros(12, device="meta", dtype=torch.long), valid.flatten())
        total = ga.target_policy(drive.flatten(), divergence, groups=groups).ratio.sum()
        total = total + ga.target_policy(drive, divergence).ratio.sum()
        total = total + project_bounded(drive).sum() + project_bounded(drive, valid=valid).sum()
        total = total + our_entmax(drive).sum() + our_entmax(drive, 1.3, valid=valid).sum()
        total.backward()
    assert not watch.waits and drive.grad is not None and drive.grad.device.type == "meta"


@pytest.mark.parametrize("function", [project_bounded, our_entmax])
def test_compiled_without_a_graph_break(function: Any) -> None:
    drive = torch.randn(5, 8, requires_grad=True)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    out, expected = compiled(drive), function(drive)
    close(out, expected)
    pull = torch.randn(5, 8)
    close(*(torch.autograd.grad(x, drive, pull)[0] for x in (out, expected)))


def test_what_makes_no_sense_is_refused() -> None:
    drive = torch.zeros(2, 3)
    for wrong in (
        lambda: project_bounded(drive, 0.0),
        lambda: project_bounded(torch.zeros(2, dtype=torch.long)),
        lambda: project_bounded(drive, valid=torch.ones(3, dtype=torch.bool)),
        lambda: project_bounded(drive, valid=torch.ones(2, 3)),
        lambda: our_entmax(drive, 0.5),
        lambda: our_entmax(torch.tensor(1.0)),
    ):
        with pytest.raises(ValueError, match=r"project_bounded|entmax"):
            wrong()
    assert Axis(torch.ones(2, dtype=torch.bool)).padded() is None


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0])
def test_transforms_of_functions(alpha: float) -> None:
    """vmap, jacrev and vmap of grad are the loops and the autograd that they stand for."""
    drive = torch.randn(3, 5)
    function = lambda z: our_entmax(z, alpha)  # noqa: E731
    loss = lambda z: function(z).square().sum()  # noqa: E731
    close(torch.vmap(function)(drive), function(drive))
    close(torch.func.jacrev(function)(drive[0]), torch.autograd.functional.jacobian(function, drive[0]))
    leaf = drive.clone().requires_grad_()
    close(torch.vmap(torch.func.grad(loss))(drive), torch.autograd.grad(loss(leaf), leaf)[0])
