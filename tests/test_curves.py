"""What identification is made of, by hand: curves on panels, tails, the derivatives of a loss, and named families."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign import divergences, optimization
from geomalign.analysis.asymptotics import Tail, _rounded, asymptote
from geomalign.analysis.identification import as_loss, families, identify
from geomalign.analysis.identification.compound import _between, named_parts
from geomalign.analysis.identification.curve import Curve, _kinks, resolve
from geomalign.analysis.identification.probing import Probe, arity, around, finite_domain, rounding_error, within
from geomalign.analysis.identification.report import Identification

F64 = torch.float64
NAN, INF = math.nan, math.inf


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


# ---- tails


@pytest.mark.parametrize(
    "tail, kind, saturates",
    [
        (Tail(0.0, 0.0, 2.0), "constant", False),
        (Tail(0.0, -1.0, 1.0), "decays as a power", True),
        (Tail(0.0, 0.5, 1.0), "grows as a power", False),
        (Tail(-1.0, 2.0, 3.0), "decays exponentially", True),
        (Tail(1.0, -2.0, 1.0), "grows exponentially", False),
        (Tail(INF, 0.0, 1.0), "grows faster than exponentially", False),
        (Tail(-INF, 0.0, 1.0), "decays faster than exponentially", True),
        (Tail(NAN, NAN, NAN), "undetermined", False),
        (Tail(0.0, 0.0, 1.0, onset=3.0), "zero", True),
    ],
)
def test_a_tail_in_words(tail: Tail, kind: str, saturates: bool) -> None:
    assert (tail.kind, tail.saturates) == (kind, saturates)


@pytest.mark.parametrize(
    "tail, text",
    [
        (Tail(0.0, 0.0, 1 / 3), "~ 0.3333"),
        (Tail(-1.0, 2.0, 3.0), "~ 3 e^{-|x|} |x|^2"),
        (Tail(1.0, -0.5, 3.0, uncertainty=0.9e-3), "~ 3 e^{|x|} |x|^-0.5"),
        (Tail(-1.2345678, 0.0, 1 / 3, uncertainty=1.1e-3), "≈ 0.33 e^{-1.2|x|}"),
        (Tail(0.0, 0.0, 0.0, onset=0.0), "identically zero"),
        (Tail(0.0, 0.0, 0.0, onset=2.0), "exactly zero beyond 2"),
        (Tail(0.0, 0.0, 1.0, onset=0.0), "exactly zero beyond 0"),
        (Tail(NAN, NAN, NAN), "undetermined"),
    ],
)
def test_a_tail_as_a_formula(tail: Tail, text: str) -> None:
    assert str(tail) == text


@pytest.mark.parametrize(
    "function, side, onset",
    [
        (lambda x: torch.relu(x + 5), -1, -5.0),
        (lambda x: torch.relu(0.3 - x), 1, 0.3),
        (lambda x: torch.where(x < 700.5, 1.0, 0.0), 1, 700.5),
        (lambda x: 0 * x, -1, 0.0),
    ],
)
def test_where_a_function_becomes_zero(function: Callable[[Tensor], Tensor], side: int, onset: float) -> None:
    tail = asymptote(function, side)
    assert tail.kind == "zero" and tail.onset == pytest.approx(onset, abs=1e-9)


def test_what_vanishes_beside_its_own_size_is_no_wall() -> None:
    """A wall of height 1e-9 beside a size of 1 is rounding; underflow is no wall either."""
    assert asymptote(lambda x: 1e-9 * (x < 3), 1, scale=1.0).onset is None
    assert asymptote(lambda x: 1e-9 * (x < 3), 1, scale=1e-4).onset == pytest.approx(3.0)
    assert asymptote(lambda x: torch.exp(-3 * x), 1).onset is None


def test_too_little_of_a_function_has_no_order() -> None:
    """Twelve samples, |x| = 1, 2^¼, …, 2^2¾ = 6.73, are the fewest."""
    assert asymptote(lambda x: torch.where(x < 6.5, x, INF), 1).kind == "undetermined"
    assert asymptote(lambda x: torch.where(x < 700.0, x, INF), 1).power == pytest.approx(1.0)


@pytest.mark.parametrize(
    "value, error, short",
    [
        (0.4999999999, 1e-12, 0.5),
        (0.26, 0.1, 0.3),
        (0.123456789, 0.0, 0.123456789),
        (0.9e-6, 1.0, 0.0),
        (-0.9e-6, 0.0, 0.0),
        (1.234, 1e-3, 1.23),
        (-1.234, 1e-2, -1.2),
        (2.04, 0.01, 2.0),
    ],
)
def test_a_number_is_as_short_as_its_error_allows(value: float, error: float, short: float) -> None:
    """Within ten times the error, at least 1e-9 and at most 0.05."""
    assert _rounded(value, error) == short


# ---- curves


RISING = Curve(tensor(-1.0, 0.0, 2.0), torch.tensor([[0.5, 0.5], [2.0, -1.0]], dtype=F64))
"""x + 1 on [−1, 0), then 3 − x on [0, 2]."""
STEPS = Curve(
    tensor(-2.0, -1.0, 0.0, 1.0, 3.0), torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]]).double()
)
"""1, 2, 3, 4 on panels that end at −1, 0 and 1."""


def test_a_curve_by_hand() -> None:
    x = tensor(-1.1, -1.0, -0.25, 0.0, 0.5, 2.0, 2.1)
    torch.testing.assert_close(RISING(x), tensor(NAN, 0.0, 0.75, 3.0, 2.5, 1.0, NAN), equal_nan=True)
    assert RISING.domain == ga.Interval(-1.0, 2.0)
    torch.testing.assert_close(torch.stack(RISING.ends()), torch.tensor([[0.0, 3.0], [1.0, 1.0]]))
    torch.testing.assert_close(torch.stack(RISING.sides()), torch.tensor([[1.0], [3.0]]))
    slope = RISING.derivative()
    torch.testing.assert_close(slope(tensor(-0.5, 1.0)), tensor(1.0, -1.0))


@pytest.mark.parametrize(
    "origin, expected",
    [
        (0.0, (-0.5, 0.0, 2.5, 4.0)),
        (-1.0, (0.0, 0.5, 3.0, 4.5)),
        (1.0, (-3.0, -2.5, 0.0, 1.5)),
        (7.0, (-4.5, -4.0, -1.5, 0.0)),
        (-7.0, (0.0, 0.5, 3.0, 4.5)),
    ],
)
def test_an_integral_is_zero_at_its_origin_which_is_moved_into_the_domain(
    origin: float, expected: tuple[float, ...]
) -> None:
    torch.testing.assert_close(RISING.integral(origin)(tensor(-1.0, 0.0, 1.0, 2.0)), tensor(*expected))


@pytest.mark.parametrize(
    "origin, expected", [(0.0, (-3.0, -2.0, 0.0, 1.5, 3.0, 11.0)), (-1.5, (-0.5, 0.5, 2.5, 4.0, 5.5, 13.5))]
)
def test_an_integral_adds_up_panels_on_both_sides(origin: float, expected: tuple[float, ...]) -> None:
    found = STEPS.integral(origin)
    torch.testing.assert_close(found(tensor(-2.0, -1.0, 0.0, 0.5, 1.0, 3.0)), tensor(*expected))


def test_the_inverse_of_a_curve_is_within_its_range() -> None:
    found = RISING.integral().inverse(tensor(-0.6, -0.5, 0.0, 2.5, 4.0, 4.1))
    torch.testing.assert_close(found, tensor(NAN, -1.0, 0.0, 1.0, 2.0, NAN), equal_nan=True, atol=1e-7, rtol=0)


def test_panels_lie_between_their_edges_and_resolve_every_function() -> None:
    found = resolve(lambda x: torch.stack([torch.sin(5 * x), x.exp()], -1), ga.Interval(-4.0, 3.0))
    assert bool((found.nodes > found.edges[:-1, None]).all() and (found.nodes < found.edges[1:, None]).all())
    assert found.domain == ga.Interval(-4.0, 3.0) and found.kinks == ()
    x = torch.linspace(-4.0, 3.0, 501, dtype=F64)
    sine, exponential = found.curves(found.values)
    torch.testing.assert_close(sine(x), torch.sin(5 * x), rtol=0, atol=1e-11)
    torch.testing.assert_close(exponential(x), x.exp(), rtol=1e-11, atol=0)
    rough = found.values + 1e-6 * (torch.arange(16) % 2)[:, None]
    assert float(found.last(rough[..., 0]).min()) > 1e-8 > float(found.last(found.values[..., 0]).max())


@pytest.mark.parametrize(
    "function, kinks",
    [
        (lambda x: torch.relu(x - 20.3), (20.3,)),
        (lambda x: torch.where(x > -15.7, 1.0, 0.0), (-15.7,)),
        (lambda x: torch.relu(x - 1.0) - torch.relu(x - 1.05), (1.0, 1.05)),
        (lambda x: x**7 * torch.sigmoid(4 * x), ()),
    ],
)
def test_the_kinks_of_a_function(function: Callable[[Tensor], Tensor], kinks: tuple[float, ...]) -> None:
    found = resolve(lambda x: function(x)[:, None], ga.Interval(-25.0, 30.0))
    assert found.kinks == pytest.approx(kinks, abs=1e-9)
    assert all(float((found.edges - kink).abs().min()) < 1e-12 for kink in found.kinks)


def test_a_run_of_narrow_panels_is_one_kink_at_its_narrowest() -> None:
    """Narrow is below 1e-6·(1 + |x|); the narrowest panels are those up to one and a half times the least."""
    widths = (1.0, 9e-7, 2e-7, 2e-7, 9e-7, 1.0, 3.1e-6, 1.0, 3.9e-6, 1.0)
    edges = torch.cumsum(tensor(0.0, *widths), 0)
    assert _kinks(edges) == pytest.approx((float(edges[3]), float(edges[8:10].mean())), abs=1e-12)
    assert _kinks(tensor(0.0, 1.0, 2.0)) == ()


def test_noise_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=r"not smooth between .* noise there"):
        resolve(lambda x: torch.rand(len(x), 1, generator=generator, dtype=F64), ga.Interval(-1.0, 1.0))


# ---- what is asked of a loss


@pytest.mark.parametrize("reduce", [lambda x: x, torch.sum, torch.mean], ids=["none", "sum", "mean"])
def test_the_derivatives_of_single_events(reduce: Callable[[Tensor], Tensor]) -> None:
    """ℓ = x²y³: 2xy³, 3x²y², and 6xy² mixed."""
    probe = Probe(lambda x, y: reduce(x**2 * y**3), 2)
    x, y = tensor(0.5, -2.0, 1.5), tensor(-1.0, 0.7, 2.0)
    torch.testing.assert_close(probe.value(x, y), x**2 * y**3)
    torch.testing.assert_close(probe.force(x, y), 2 * x * y**3)
    torch.testing.assert_close(probe.force(x, y, of=1), 3 * x**2 * y**2)
    for found, expected in zip(probe.forces(x, y), (2 * x * y**3, 3 * x**2 * y**2, 6 * x * y**2), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(probe.force_at(x, 2.0), 16 * x)
    torch.testing.assert_close(probe.grid(x, y), 2 * x[:, None] * y**3)


def test_a_loss_without_a_gradient_has_no_force() -> None:
    probe = Probe(lambda x: torch.full_like(x, 3.0), 1)
    assert probe.force(tensor(1.0, 2.0)).tolist() == [0.0, 0.0] and probe.value(tensor(1.0)).tolist() == [3.0]


def test_events_that_depend_on_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="couples samples"):
        Probe(lambda x: x - x.mean(), 1)
    with pytest.raises(ValueError, match=r"shape \(2,\) for inputs of shape \(5,\)"):
        Probe(lambda x: torch.stack([x.sum(), x.mean()])[: max(1, min(2, len(x)))], 1)


def test_the_rounding_of_a_force_is_that_of_its_type() -> None:
    def found(function: Callable[[Tensor], Tensor], low: float = -3.0, high: float = 3.0) -> float:
        return rounding_error(lambda x: function(x)[:, None].double(), ga.Interval(low, high))

    assert 1e-9 < found(lambda x: x.float().exp()) < 1e-6
    assert 0 < found(torch.exp) < 1e-15
    assert found(lambda x: torch.where(x > 1, x.float().exp(), x.exp())) < 1e-15  # the median of all places
    assert found(lambda x: x.float().exp(), 1.0, 3.0) > 1e-9
    assert found(lambda x: x.float().exp(), 0.1, 0.2) == 0.0  # no place inside


def test_a_domain_shrinks_to_what_is_finite_on_both_sides() -> None:
    probe = Probe(lambda x, a: -torch.log(1.95 - x) - a * torch.log(x + 1.05), 2)
    domain = finite_domain(probe, ga.Interval(-10.0, 10.0), lambda x: probe.force_at(x, 1.0)[:, None])
    assert domain.low == pytest.approx(-1.0, abs=1e-9) and domain.high == pytest.approx(1.9, abs=1e-9)
    with pytest.raises(ValueError, match="is not finite at a log-ratio of"):
        finite_domain(Probe(lambda x: (x - 0.5).log(), 1), ga.Interval(-1.0, 1.0), lambda x: x[:, None])
    value = Probe(lambda x: torch.where(x > 3.05, INF, x), 1)  # the value, and not the force
    assert finite_domain(value, ga.Interval(-10.0, 10.0), lambda x: x[:, None]).high == pytest.approx(3.0)


def test_the_run_around_a_place() -> None:
    good = torch.tensor([True, False, True, True, True, False, True])
    assert [around(good, home) for home in (0, 2, 4, 6)] == [(0, 1), (2, 5), (2, 5), (6, 7)]
    assert around(torch.ones(3, dtype=torch.bool), 1) == (0, 3)
    assert within(ga.Interval(-1.0, 30.0), 12.0) == ga.Interval(-1.0, 12.0)


def test_the_arguments_of_a_loss() -> None:
    assert arity(lambda x, y, z=1, *args, k=2, **kw: x) == 2
    assert arity(lambda x, /, *, key: x) == 1


# ---- names


CHARTS = [
    *(ga.LogRatio(), ga.Ratio(), ga.Power(-0.5), ga.Power(1.7), ga.Dual(ga.JensenShannon()), ga.Sigmoid(0.5, 0.4)),
    ga.Dual(1.0 * ga.KullbackLeibler() + 0.3 * ga.PearsonChiSquare()),
    ga.Dual(1.0 * ga.PearsonChiSquare() + 2.0 * divergences.NeymanChiSquare()),
]


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("chart", CHARTS, ids=repr)
def test_a_chart_is_named_by_its_slope_up_to_a_factor(chart: ga.Chart, scale: float) -> None:
    x = torch.linspace(-3.0, 4.0, 401, dtype=F64)
    slope = scale * chart.slope(x)
    found = families.chart(x, slope, 1e-8)
    assert found is not None and found.residual <= 1e-8
    torch.testing.assert_close(found.scale * found.member.slope(x), slope, rtol=1e-8, atol=0)
    assert type(found.member) is type(chart)
    if not isinstance(chart, ga.Dual):
        assert (found.member, found.scale) == (chart, scale)
    assert families.chart(x, slope * (1 + 1e-5 * torch.sin(7 * x)), 1e-8) is None


POTENTIALS = {
    "Flat": (ga.Flat(), ()),
    "ChiSquare": (ga.ChiSquare(2.0), ()),
    "KL": (ga.KL(0.3), ()),
    "ReverseKL": (ga.ReverseKL(0.3), ()),
    "AlphaDivergence": (ga.AlphaDivergence(1.5, 0.2), ()),
    "FDivergence": (0.7 * optimization.FDivergence(ga.JensenShannon()), ()),
    "Logistic": (ga.Logistic(1.5), ()),
    "a multiple of Logistic": (3.0 * ga.Logistic(0.5), ()),
    "Hinge": (ga.Hinge(0.8), (1.25,)),
    "SquaredHinge": (optimization.SquaredHinge(0.8), (1.25,)),
    "ChiSquare and ReverseKL": (ga.ChiSquare(2.0) + ga.ReverseKL(0.3), ()),
    "KL and ReverseKL": (ga.KL(0.5) + ga.ReverseKL(0.3), ()),
}


@pytest.mark.parametrize("offset", [0.0, -0.4, 1.3])
@pytest.mark.parametrize("name", POTENTIALS)
def test_a_potential_is_named_by_its_mirror_up_to_a_constant_force(name: str, offset: float) -> None:
    potential, kinks = POTENTIALS[name]
    u = torch.linspace(-0.95, 3.0, 401, dtype=F64)
    mirror = potential.mirror(u) + offset
    found = families.potential(u, mirror, 1e-8, core=u.abs() <= 1, kinks=kinks)
    assert found is not None and found.residual <= 1e-8 and found.scale == 1.0
    torch.testing.assert_close(found.member.mirror(u), mirror - found.offset, rtol=1e-7, atol=1e-8)
    assert found.member == potential or isinstance(potential, optimization.Scaled)
    assert found.offset == pytest.approx(offset, abs=1e-8) and found.shift == 0.0
    rough = mirror + 1e-5 * torch.sin(7 * u)
    assert families.potential(u, rough, 1e-8, core=u.abs() <= 1, kinks=kinks) is None


@pytest.mark.parametrize(
    "potential, shift, kink",
    [(ga.Logistic(1.5), 0.25, None), (ga.Hinge(0.8), 0.5, 1.75), (optimization.SquaredHinge(0.8), -0.5, 0.75)],
)
def test_a_link_may_be_shifted(potential: ga.OptimizationGeometry, shift: float, kink: float | None) -> None:
    u = torch.linspace(-3.0, 3.0, 401, dtype=F64)
    kinks = () if kink is None else (-5.0, kink, 5.0)  # of those at the ends or beyond none is taken
    found = families.potential(u, potential.mirror(u - shift), 1e-8, core=u.abs() <= 1, kinks=kinks)
    assert found is not None and (found.member, found.shift, found.offset) == (potential, pytest.approx(shift), 0.0)


def test_an_exponential_of_a_multiple_is_a_reverse_kl_of_the_multiple_where_the_chart_may_be_scaled() -> None:
    """φ'(u) = k·c·(1 − e^{−ku}): the chart ku, with ReverseKL(c)."""
    u = torch.linspace(-2.0, 3.0, 401, dtype=F64)
    mirror = -2.5 * 0.3 * torch.expm1(-2.5 * u)
    assert families.potential(u, mirror, 1e-8, core=u.abs() <= 1) is None
    found = families.potential(u, mirror, 1e-8, core=u.abs() <= 1, scalable=True)
    assert found is not None and (found.member, found.scale) == (ga.ReverseKL(0.3), 2.5)


def test_nothing_resists_below_a_share_of_the_drive() -> None:
    u = torch.linspace(-2.0, 2.0, 101, dtype=F64)

    def found(force: Tensor, **size: float) -> families.Match | None:
        return families.potential(u, force, 1e-3, core=u.abs() <= 1, **size)

    assert getattr(found(0.9e-3 * u.sign()), "member", None) == ga.Flat()
    assert getattr(found(1.1e-3 * u.sign()), "member", None) != ga.Flat()
    assert getattr(found(1.1e-3 * u.sign(), drive_size=1.2), "member", None) == ga.Flat()
    assert getattr(found(4.0 + 1.1e-3 * u.sign()), "offset", None) == 4.0  # the force at the anchor is a size, too


def test_the_anchor_is_what_lies_within_one_nat() -> None:
    """A force that begins at |Δ| = 1, of 1.2 times the tolerance, is no rounding of the level that the anchor has."""
    x = torch.linspace(-3.0, 3.0, 601, dtype=F64)
    small, large = (torch.where(x.abs() > 1, size, 0.0) for size in (0.9e-3, 1.2e-3))
    assert _between(ga.LogRatio(), x, large, 1e-3) is None
    found = _between(ga.LogRatio(), x, small, 1e-3)
    assert found is not None and (found.unit, found.optimization, found.drive) == (ga.Pair(), ga.Flat(), 0.0)
    assert families.by_sign(x, large - 1, large + 1, 1e-3) is None
    chart, potential = families.by_sign(x, small - 1, small + 1, 1e-3) or (None, None)
    assert chart is not None and chart.member == ga.LogRatio()
    assert potential is not None and potential.member == ga.AdvantageScaled(ga.Flat())


@pytest.mark.parametrize("place", [1.0, 5.0])
def test_a_loss_that_is_flat_around_the_anchor_is_read(place: float) -> None:
    """Its size is that of its force further out."""
    hinge = identify(lambda m: torch.relu(m - place)).recognised
    assert (hinge.optimization, hinge.shift) == (ga.Hinge(1.0), pytest.approx(place - 1))
    square = identify(lambda m: torch.relu(m - place) ** 2)
    assert [kink.log_ratio for kink in square.kinks] == [pytest.approx(place, abs=1e-9)]
    torch.testing.assert_close(square.mirror(tensor(0.0, place + 2.0)), tensor(0.0, 4.0), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "value, relative, beside, short",
    [(0.1 + 1e-10, 1e-8, 0.0, 0.1), (1234.5678, 4e-3, 0.0, 1230.0), (1e-9, 1e-8, 0.09, 1e-9), (1e-9, 1e-8, 0.11, 0.0),
     (-0.30000001, 1e-6, 0.0, -0.3), (math.pi, 1e-300, 0.0, math.pi)],
)  # fmt: skip
def test_a_tidy_number(value: float, relative: float, beside: float, short: float) -> None:
    assert families.tidy(value, relative, beside=beside) == short


def test_amplitudes_obey_their_weights() -> None:
    """The mean weighted by w²: (1·1 + 4·6)/5."""
    one = torch.ones(2, dtype=F64)
    assert families.amplitudes([one], tensor(1.0, 6.0), tensor(1.0, 2.0)) == [pytest.approx(5.0)]


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_a_term_of_one_response_is_named_beside_one_that_feels_nothing(scale: float) -> None:
    """An error of 4e-9 of the chosen's force is within the tolerance, though the rejected response has no force."""
    loss = Probe(lambda c, r: -scale * (c + 4e-9 * torch.sin(c)) + 0 * r, 2)
    [part] = named_parts(loss, ga.Interval(-6.0, 6.0), 1e-8)
    assert (part.unit, part.optimization) == (ga.Chosen(), ga.Flat())
    assert part.drive == pytest.approx(scale, rel=1e-7)


# ---- the report


DRIVES = {
    "A": (lambda x, a: x**2 - a * x, lambda a: a),
    "exp(0.5 A)": (lambda x, a: x**2 - (0.5 * a).exp() * x, lambda a: (0.5 * a).exp()),
    "2 exp(-0.5 A) + 1": (lambda x, a: x**2 - (2 * (-0.5 * a).exp() + 1) * x, lambda a: 2 * (-0.5 * a).exp() + 1),
    None: (lambda x, a: x**2 - torch.tanh(a) * x, torch.tanh),
}


@pytest.mark.parametrize("formula", DRIVES)
def test_the_drive_as_a_formula(formula: str | None) -> None:
    loss, drive = DRIVES[formula]
    report = identify(loss)
    assert report.drive_formula == formula
    expected = drive(report.advantage)
    torch.testing.assert_close(report.drive - report.drive[4], expected - expected[4], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "advantages, labels",
    [((-2.0, -0.5, 3.0), {-1.0, 1.0}), ((0.5, 1.0, 2.0), {1.0}), ((0.2, 0.5, 0.7), {0.7}), ((-1.0, 0.0, 0.5), {-1.0})],
)  # fmt: skip
def test_saturation_is_told_for_a_unit_of_advantage_that_was_spanned(
    advantages: tuple[float, ...], labels: set[float]
) -> None:
    assert set(identify(lambda x, a: x**2 / 2 - a * x, advantages=advantages).saturation) == labels


def lines(report: Identification) -> list[str]:
    return [" ".join(line.split()) for line in report.summary().splitlines()]


def test_the_lines_of_a_driven_loss() -> None:
    """½u² − A·u in u = Δ: the equilibrium under A = ±1 is ±1."""
    found = lines(identify(lambda x, a: x**2 / 2 - a * x))
    assert found[0] == "ℓ(Δ, A)" and found[3] == "drive A" and found[4] == "convex yes"
    assert found[1].endswith("u from -30 to 30 on Δ from -30 to 30")
    assert found[5:9] == [
        "curvature 1 at the anchor",
        "equilibrium u* = -1 at A = -1 (g = -1)",
        "equilibrium u* = 1 at A = 1 (g = 1)",
        "coupling none: the potential does not depend on the drive",
    ]
    assert not any(line.startswith(("kink", "stop", "offset", "part", "weight")) for line in found)


def test_the_lines_of_a_margin() -> None:
    """SimPO: −log σ(2m − ½) has no equilibrium, and a value that is not that of its energy."""
    found = lines(identify(lambda m: -torch.nn.functional.logsigmoid(2 * m - 0.5)))
    assert found[0] == "ℓ(margin)" and found[2].startswith("potential Logistic(beta=2.0), shifted by 0.25 (residual")
    assert "equilibrium none: pushed to Δ → +∞ (g = 2)" in found
    away = lines(identify(lambda m: torch.nn.functional.softplus(2 * m)))
    assert "equilibrium none: pushed to Δ → −∞ (g = 0)" in away


def test_the_lines_of_kinks_and_of_couplings() -> None:
    bend = lines(identify(lambda m: torch.relu(1 - 0.5 * m) ** 2))
    assert "kink bend at Δ = 2 (t = 7.38906)" in bend
    jump = lines(identify(lambda m: torch.relu(1 - 0.5 * m)))
    assert "kink jump at Δ = 2 (t = 7.38906)" in jump and "offset" not in " ".join(jump)
    size = lines(identify(lambda x, a: -torch.where(x > 0.5, a.clamp(-1, 1), a) * x))
    assert "coupling through the size of the advantage" in size and "0.5 < Δ < 30, 1 < A < 2" in size
    weight = lines(identify(lambda x, a: -a * x.exp().clamp(max=5.0).detach() * x))
    assert "stop-gradient the value is not the integral of the force" in weight
    assert any(line.startswith("weight ClippedImportance") for line in weight)
    pair = lines(identify(lambda c, r: (c - 1) ** 2 + 0.5 * r**2, kind="pair", domain=(-6.0, 6.0)))
    assert pair[0] == "ℓ(Δ⁺, Δ⁻)" and "potential that of its parts" in pair
    assert "coupling not a function of u(Δ⁺) − u(Δ⁻) for any chart u" in pair
    assert sum(line.startswith("part ") for line in pair) == 2


@pytest.mark.parametrize("offset, shown", [(0.0, False), (1.0, True)])
def test_the_line_of_an_offset(offset: float, shown: bool) -> None:
    """½(u − A)² = ½u² − A·u + ½A²: the Fenchel–Young loss of the square."""
    found = lines(identify(lambda x, a: x**2 / 2 - a * x + offset * a**2 / 2))
    assert ("offset fenchel_young" in found) is shown


def test_curvature_that_falls_back_is_not_convex_and_a_chart_that_turns_back_is_none() -> None:
    assert identify(lambda x, a: x**2 / 2 - 1e-3 * x**4 - a * x, domain=(-3.0, 3.0)).convex is True
    assert identify(lambda x, a: x**2 / 2 - 0.1 * x**4 - a * x, domain=(-3.0, 3.0)).convex is False
    folded = identify(lambda x, a: -a * torch.sin(x))
    assert folded.convex is None and "convex the chart is not monotone" in lines(folded)


@pytest.mark.parametrize(
    "advantage, weight, conservative",
    [(1.0, 1.0, True), (1.0, 1 + 1e-9, True), (1.0, 1.01, False)],
)
def test_a_value_that_is_the_integral_of_the_force_within_a_millionth(
    advantage: float, weight: float, conservative: bool
) -> None:
    def loss(x: Tensor, a: Tensor) -> Tensor:
        return x**2 / 2 - a * x + (weight - 1) * x.detach() ** 2 * a

    assert identify(loss).conservative is conservative


def test_a_coupled_loss_is_asked_for_an_advantage_that_was_probed() -> None:
    loss = as_loss(ga.recipes.ppo())
    report = identify(loss, advantages=(-1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"Choose one that was probed, \[-1.0, 0.0, 1.0\]"):
        report.curvature(tensor(0.0), 0.5)
    assert report.equilibrium(tensor(-1.0, 0.0, 1.0)).tolist() == pytest.approx([-0.2, 0.0, 0.2], abs=1e-9)


@pytest.mark.parametrize("drive, u", [(1.0, 0.5), (-1.0, -0.5), (0.0, 0.0), (2.0, 1.0), (0.3, 0.15)])
def test_the_equilibrium_under_drives_that_were_not_probed(drive: float, u: float) -> None:
    report = identify(lambda x, a: x**2 - a * x, advantages=(-1.0, 0.5, 1.5))
    assert float(report.equilibrium(drive)) == pytest.approx(u, abs=1e-9)
    assert float(report.mirror(tensor(u))) == pytest.approx(drive, abs=1e-8)
    assert float(report.potential(tensor(u))) == pytest.approx(u**2, abs=1e-8)
    assert float(report.curvature(tensor(u))) == pytest.approx(2.0, rel=1e-7)
