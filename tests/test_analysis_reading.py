"""How identification reads a loss, by hand and at every threshold: force, drive, coupling, and what gets a name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

import geomalign as ga
from geomalign import optimization, sampling
from geomalign.analysis.identification import Moved, TabulatedChart, families, identify
from geomalign.analysis.identification.compound import _between, _side, weighted_drive, weighted_pair
from geomalign.analysis.identification.curve import Curve, Resolved, _kinks, resolve
from geomalign.analysis.identification.probing import Probe, finite_domain, fresh
from geomalign.analysis.identification.report import Identification
from geomalign.analysis.identification.separation import Reading, _regions, read

F64 = torch.float64
Loss = Callable[..., Tensor]


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def driven(loss: Loss, *advantages: float, tolerance: float = 1e-8, high: float = 3.0) -> Reading:
    probed = tensor(*(advantages or (-1.0, 0.0, 1.0)))
    return read(Probe(loss, 2), "advantage", probed, ga.Interval(-3.0, high), tolerance)


# ---- the precision of a loss


def test_the_precision_of_a_loss_sets_what_can_be_told() -> None:
    """Of a loss in float64 the tolerance is as given; of float32 it is 1e4 times the rounding, noise twice."""
    exact = driven(lambda x, a: x**2 - a * x)
    assert (exact.tolerance, exact.rounding) == (1e-8, pytest.approx(2e-14))
    single = driven(lambda x, a: (x.float() ** 2 - a.float() * x.float().exp()).double())
    assert 1e-5 < single.tolerance < 1e-2
    assert single.rounding == pytest.approx(2e-4 * single.tolerance, rel=1e-9)


# ---- the drive


@pytest.mark.parametrize(("share", "moves"), [(0.4e-9, False), (1.1e-9, True), (1e-3, True)])
def test_an_advantage_that_moves_a_force_by_less_than_a_billionth_is_none(share: float, moves: bool) -> None:
    found = driven(lambda x, a: x - share * a * x, -2.0, 0.0, 2.0)
    assert found.driven is moves
    assert found.force.shape[-1] == (3 if moves else 1)


def test_an_advantage_that_moves_the_force_beside_the_anchor_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="the advantage does not move the loss at the anchor"):
        driven(lambda x, a: x - 0.6e-9 * a * x, -2.0, 0.0, 2.0)
    with pytest.raises(ValueError, match=r"identify\(advantages=\[-1.0, 1.0\]\): with fewer than three"):
        driven(lambda x, a: x - a * x, -1.0, 1.0)


@pytest.mark.parametrize(("bend", "affine"), [(0.99e-3, True), (1.02e-3, False)])
def test_a_drive_is_affine_within_the_tolerance(bend: float, affine: bool) -> None:
    """Of a + δa² the rates between −1, 0 and 1 are 1 − δ and 1 + δ; without the name the drive is that of the force."""
    found = driven(lambda x, a: -(a + bend * a**2) * x, tolerance=1e-3)
    assert found.affine is affine and found.base == 1
    expected = tensor(-1.0, 0.0, 1.0) if affine else tensor(bend - 1, 0.0, bend + 1)
    torch.testing.assert_close(found.drive, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.advantage, tensor(-1.0, 0.0, 1.0))


def test_the_base_is_the_advantage_nearest_to_zero() -> None:
    found = driven(lambda x, a: x**2 - a.exp() * x, -2.0, -0.5, 0.25, 3.0)
    assert found.base == 2
    torch.testing.assert_close(found.drive, tensor(-2.0, -0.5, 0.25, 3.0).exp() - math.exp(0.25), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.slope, torch.ones_like(found.slope), rtol=1e-9, atol=0)


# ---- the coupling of a driven loss


def stepped(jump: float) -> Loss:
    """u' = 1, but 1 + jump for positive advantages beyond Δ = 0.5."""
    return lambda x, a: -a * (x + torch.where(a > 0, jump, 0.0) * torch.relu(x - 0.5))


@pytest.mark.parametrize(("jump", "coupled"), [(0.99e-2, False), (1.03e-2, True), (-0.97e-2, False), (-1.01e-2, True)])
@pytest.mark.parametrize("size", [0.25, 1.0, 4.0])
def test_a_slope_that_differs_by_more_than_ten_tolerances_is_a_coupling(
    jump: float, coupled: bool, size: float
) -> None:
    found = driven(stepped(jump), -size, 0.0, size, tolerance=1e-3)
    assert found.coupling.coupled is coupled
    if not coupled:
        return
    [region] = found.coupling.regions
    assert region.log_ratio.low == pytest.approx(0.5, abs=1e-9) and region.log_ratio.high == 3.0
    # Of the two cells the one with less pull is coupled: it does not have the slope of the chart.
    assert region.advantage == (ga.Interval(-size, 0.0) if jump > 0 else ga.Interval(0.0, size))
    beyond = found.resolved.nodes > 0.5
    torch.testing.assert_close(found.slope[beyond], torch.full_like(found.slope[beyond], max(1.0, 1 + jump)))


@pytest.mark.parametrize("advantages", [(-2.0, -1.0, 0.0, 1.0, 2.0), (-1.0, 0.0, 1.0)])
def test_a_coupling_by_sign_is_one_whose_slope_is_the_same_at_all_advantages_of_a_sign(
    advantages: tuple[float, ...],
) -> None:
    assert driven(stepped(0.5), *advantages).coupling.by_sign
    sized = driven(lambda x, a: -torch.where(x > 0.5, a.clamp(-1, 1), a) * x, *advantages)
    assert not sized.coupling.by_sign and sized.coupling.coupled is (len(advantages) == 5)
    assert not driven(lambda x, a: x**2 - a * x, *advantages).coupling.by_sign


def test_regions_are_of_panels_and_cells_that_are_coupled_alike_for_the_most_part() -> None:
    """Three panels of four nodes, four cells between five advantages; a panel of which half is coupled is not."""
    coupled, probed = torch.zeros(3, 4, 4, dtype=torch.bool), tensor(-2.0, -1.0, 0.0, 1.0, 2.0)
    coupled[0, :, 0] = coupled[0, :3, 1] = True
    coupled[1:, 1:, 3] = True
    coupled[2, :2, 1] = True
    resolved = Resolved(tensor(-2.0, -1.0, 1.0, 4.0), torch.zeros(3, 4, 5), ())
    low, high = _regions(resolved, coupled, probed)
    assert (low.log_ratio, low.advantage) == (ga.Interval(-2.0, -1.0), ga.Interval(-2.0, 0.0))
    assert (high.log_ratio, high.advantage) == (ga.Interval(-1.0, 4.0), ga.Interval(1.0, 2.0))
    assert _regions(resolved, torch.zeros_like(coupled), probed) == ()
    [whole] = _regions(resolved, torch.ones_like(coupled), probed)
    assert (whole.log_ratio, whole.advantage) == (ga.Interval(-2.0, 4.0), ga.Interval(-2.0, 2.0))


# ---- pairs


def paired(loss: Loss, tolerance: float = 1e-8) -> Reading:
    return read(Probe(loss, 2), "pair", tensor(0.0), ga.Interval(-3.0, 2.5), tolerance)


@pytest.mark.parametrize(("term", "coupled"), [(0.0198, False), (0.0203, True)])
@pytest.mark.parametrize("side", [0, 1])
def test_a_pair_whose_forces_balance_within_a_hundred_tolerances_is_no_coupling(
    term: float, coupled: bool, side: int
) -> None:
    """(m − 1)² and a term of one response: on the diagonal the forces −2 + δ and 2 do not cancel."""
    found = paired(lambda c, r: (c - r - 1) ** 2 - term * (r if side else -c), tolerance=1e-4)
    assert found.coupling.coupled is coupled


def test_the_slope_of_a_pair_is_that_along_the_diagonal() -> None:
    found = paired(lambda c, r: -logsigmoid(c.exp() - r.exp()))
    torch.testing.assert_close(found.slope, found.resolved.nodes.exp(), rtol=1e-9, atol=0)
    u = found.resolved.nodes.exp() - 1  # against an unmoved response
    expected = -torch.sigmoid(-u) * found.resolved.nodes.exp()
    torch.testing.assert_close(found.force[..., 0], expected, rtol=1e-8, atol=1e-12)
    assert not found.coupling.coupled and not found.driven and found.kind == "pair"
    # Where nothing pulls at equal log-ratios, the log-ratio is tried.
    flat = paired(lambda c, r: (c - r) ** 2)
    assert torch.equal(flat.slope, torch.ones_like(flat.slope)) and not flat.coupling.coupled
    assert paired(lambda c, r: (c.exp() - r.exp()) ** 2).coupling.coupled


# ---- names


@pytest.mark.parametrize(("high", "named"), [(0.049, False), (0.052, True)])
def test_nothing_is_named_on_less_than_a_tenth_of_a_nat(high: float, named: bool) -> None:
    report = identify(lambda x, a: x**2 - a * x, domain=(-0.05, high), advantages=(-1.0, 0.0, 1.0))
    assert (report.recognised.chart == ga.LogRatio()) is named


def test_a_name_holds_on_the_whole_domain_or_within_twelve_nats() -> None:
    log = identify(lambda x, a: x**2 - a * x, advantages=(-1.0, 0.0, 1.0)).recognised
    assert log.window == ga.Interval(-30.0, 30.0)
    ratio = identify(lambda x, a: x.expm1() ** 2 - a * x.expm1(), advantages=(-1.0, 0.0, 1.0)).recognised
    assert ratio.window == ga.Interval(-12.0, 12.0) and ratio.optimization == ga.ChiSquare(2.0)
    assert ratio.residual < 1e-8 and ratio.chart_residual < 1e-8


@pytest.mark.parametrize(("share", "tolerance", "conservative"), [
    (2.5e-6, 1e-8, True), (2.75e-6, 1e-8, False), (2.5e-5, 1e-5, True), (2.75e-5, 1e-5, False),
])  # fmt: skip
def test_a_value_may_differ_from_the_work_by_a_millionth_or_the_tolerance(
    share: float, tolerance: float, conservative: bool
) -> None:
    """½x² + 2x − 0 and sg[δx²]: at −1.7 the gap is 2.89 δ, beside sizes of value and work of 3.78 each at 1.4."""

    def loss(x: Tensor, a: Tensor) -> Tensor:
        return x**2 / 2 - a * x + share * x.detach() ** 2

    report = identify(loss, advantages=(-2.0, 0.0, 2.0), domain=(-3.0, 3.0), tolerance=tolerance)
    assert report.conservative is conservative


def test_unseen_points_are_those_of_the_golden_ratio() -> None:
    golden = (5**0.5 - 1) / 2
    found = fresh(ga.Interval(-1.0, 3.0), 7)
    assert found.shape == (256,) and found.dtype == F64
    assert found.tolist() == pytest.approx([-1 + 4 * ((7 * ((k * golden) % 1)) % 1) for k in range(1, 257)], abs=1e-9)


# ---- the report


def report_of(loss: Loss, **given: Any) -> Identification:
    return identify(loss, **{"advantages": (-1.0, 0.0, 1.0), "domain": (-3.0, 3.0), **given})


def test_what_a_report_holds() -> None:
    report = report_of(lambda x, a: x**2 - a * x)
    assert (report.kind, report.tolerance, report.drive_formula) == ("advantage", 1e-8, "A")
    assert report.log_ratio.shape == report.force.shape[:1] and report.force.shape[1] == 3
    torch.testing.assert_close(report.force, 2 * report.log_ratio[:, None] - tensor(-1.0, 0.0, 1.0))
    assert report.chart.domain == ga.Interval(-3.0, 3.0)
    assert report.chart.range.low == pytest.approx(-3.0) and report.chart.range.high == pytest.approx(3.0)
    assert report.chart.increasing and report.decoupled and report.kinks == ()
    assert repr(report) == report.summary() == str(report)


@pytest.mark.parametrize("drive", [5.9, -5.9, 6.1, -6.1])
def test_an_equilibrium_beyond_the_domain_is_at_infinity(drive: float) -> None:
    found = float(report_of(lambda x, a: x**2 - a * x).equilibrium(drive))
    assert found == (pytest.approx(drive / 2) if abs(drive) < 6 else math.copysign(math.inf, drive))


@pytest.mark.parametrize(("excess", "fine"), [(0.99e-7, True), (1.02e-7, False)])
def test_a_batch_is_the_sum_of_its_events_within_rounding(excess: float, fine: bool) -> None:
    def loss(x: Tensor) -> Tensor:
        return 0.0 * x.sum() + (excess if len(x) > 1 else 0.0)

    if fine:
        assert Probe(loss, 1).reduction
        return
    with pytest.raises(ValueError, match="couples samples"):
        Probe(loss, 1)


# ---- curves and fits


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_panels_do_not_depend_on_the_unit_of_a_function(size: float) -> None:
    """Rounded to 1e-16 beside a size of one, which is coarse where the exponential has decayed."""

    def function(x: Tensor) -> Tensor:
        return ((x.exp() + 1) - 1)[:, None]

    one = resolve(function, ga.Interval(-30.0, 3.0))
    other = resolve(lambda x: size * function(x), ga.Interval(-30.0, 3.0))
    assert torch.equal(one.edges, other.edges) and one.kinks == other.kinks == ()
    nearby = resolve(lambda x: size * torch.relu(x - 20.3)[:, None], ga.Interval(-25.0, 30.0))
    assert nearby.kinks == pytest.approx((20.3,), abs=1e-9)


def test_the_ends_of_a_curve_are_in_its_range() -> None:
    rising = Curve(tensor(-1.0, 0.0, 2.0), torch.tensor([[0.5, 0.25], [2.0, 1.25]], dtype=F64))
    (left, right), ends = rising.ends(), tensor(-1.0, 2.0)
    torch.testing.assert_close(rising.inverse(torch.stack([left[0], right[-1]])), ends, rtol=0, atol=1e-9)
    assert rising.inverse(tensor(float(left[0]) - 1e-9, float(right[-1]) + 1e-9)).isnan().all()
    assert rising(ends).isfinite().all() and rising(tensor(-1.0 - 1e-9, 2.0 + 1e-9)).isnan().all()


def test_a_column_of_zeros_has_no_amplitude() -> None:
    x = torch.linspace(0.0, 1.0, 9, dtype=F64)
    assert families.amplitudes([x, 0 * x], 3 * x, torch.ones_like(x)) == pytest.approx([3.0, 0.0])


@pytest.mark.parametrize("of", families._DIVERGENCES[2:], ids=repr)
def test_a_sum_with_every_divergence_is_named(of: ga.Divergence) -> None:
    u = torch.linspace(-0.95, 3.0, 401, dtype=F64)
    potential = ga.ChiSquare(2.0) + 0.5 * optimization.FDivergence(of)
    mirror = potential.mirror(u) - 0.3
    found = families.potential(u, mirror, 1e-8, core=u.abs() <= 1)
    assert found is not None and found.offset == pytest.approx(-0.3, abs=1e-7)
    torch.testing.assert_close(found.member.mirror(u) + found.offset, mirror, rtol=1e-7, atol=1e-8)


# ---- drives


@pytest.mark.parametrize(
    ("constant", "shown"), [(0.0, ""), (2e-3, ""), (-2e-3, ""), (8e-3, " + 0.00"), (-8e-3, " - 0.00"), (1.0, " + 1")]
)
def test_a_constant_of_a_drive_is_shown_beyond_the_tolerance_of_its_factor(constant: float, shown: str) -> None:
    """0.004 of a factor of 4; the drive at the advantage nearest to zero is 0.89."""

    def loss(x: Tensor, a: Tensor) -> Tensor:
        return x**2 - (4 * (0.5 * a).exp() + constant) * x

    formula = report_of(loss, advantages=(-5.0, -4.0, -3.0), tolerance=1e-3).drive_formula
    assert formula is not None and formula.startswith(f"4 exp(0.5 A){shown}") and (shown or formula.endswith("A)"))


@pytest.mark.parametrize("scale", [3.0])
def test_the_drive_of_a_loss_without_a_name(scale: float) -> None:
    """Of a margin the force far below is drive; of an affine advantage nothing; of others what acts at the anchor."""
    margin = identify(lambda m: scale * (1.5 * torch.nn.functional.softplus(-m) + 0.5 * torch.sigmoid(m)))
    assert margin.recognised.optimization is None and float(margin.drive) == pytest.approx(1.5 * scale)
    assert float(margin.mirror(tensor(0.0))) == pytest.approx((1.5 - 0.625) * scale)
    rough = report_of(lambda x, a: scale * (torch.sin(3 * x) - a * x))
    assert rough.recognised.optimization is None
    assert rough.drive.tolist() == pytest.approx([-scale, 0.0, scale]) and rough.drive_formula == ("3 A")
    bent = report_of(lambda x, a: scale * (torch.sin(3 * x) - a.exp() * x), advantages=(-1.0, 0.0, 1.0))
    assert bent.recognised.optimization is None and float(bent.mirror(tensor(0.0))) == pytest.approx(0.0, abs=1e-9)
    assert bent.drive.tolist() == pytest.approx([scale * (math.exp(a) - 3) for a in (-1, 0, 1)])
    grown = identify(lambda m: scale * torch.sin(m), domain=(-3.0, 3.0))
    assert grown.recognised.optimization is None and float(grown.drive) == pytest.approx(-scale)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_values_of_the_smallest_and_of_the_largest_advantage_are_compared(sign: float) -> None:
    def loss(x: Tensor, a: Tensor) -> Tensor:
        return x**2 / 2 - a * x + torch.where(sign * a > 1.5, 1.0, 0.0) * x.detach() ** 2

    probed = (-2.0, -1.0, 0.0, 1.0, 2.0)
    assert not report_of(loss, advantages=probed).conservative
    assert report_of(loss, advantages=probed[1:-1]).conservative


@pytest.mark.parametrize(("bend", "named"), [(0.0, True), (5e-4, True), (1e-3, False)])
def test_a_drive_is_exponential_where_all_advantages_agree(bend: float, named: bool) -> None:
    report = report_of(
        lambda x, a: x**2 - ((0.5 * a).exp() + bend * a**3) * x, advantages=(-2.0, -1.0, 0.0, 1.0, 2.0), tolerance=1e-3
    )
    assert (report.drive_formula is not None) is named


# ---- weights


@pytest.mark.parametrize(
    ("positive", "negative"), [((0.5, 2.0), (1.0, 1.0)), ((1.0, 1.0), (0.0, 2.0)), ((0.5, 3.0), (0.25, 2.0))]
)
def test_a_weight_with_bounds_of_each_sign(positive: tuple[float, float], negative: tuple[float, float]) -> None:
    def loss(x: Tensor, a: Tensor) -> Tensor:
        return -a * torch.where(a > 0, x.exp().clamp(*positive), x.exp().clamp(*negative)).detach() * x

    report = identify(loss, domain=(-6.0, 6.0), advantages=(-1.0, 0.0, 1.0))
    assert report.recognised.weight == sampling.TaperedImportance(ga.Advantage(), positive, negative)
    assert report.recognised.chart == ga.LogRatio() and not report.conservative


# ---- the anchor


def uneven(x: Tensor) -> Tensor:
    """0 within one nat of the anchor, and beyond it 1.6e-3 and 0.2e-3 in turn: 0.9e-3 in the mean."""
    return torch.where(x.abs() > 1, 0.9e-3 + 0.7e-3 * (torch.arange(len(x)) % 2 * 2 - 1), 0.0)


def test_the_level_of_a_force_is_that_within_one_nat_of_the_anchor() -> None:
    """Beyond it the force differs by more than the tolerance from that level, though not from its mean there."""
    x = torch.linspace(-3.0, 3.0, 601, dtype=F64)
    assert _between(ga.LogRatio(), x, uneven(x), 1e-3) is None
    assert _between(ga.LogRatio(), x, uneven(x) / 2, 1e-3) is not None
    assert _side(ga.Chosen(), x, 1 + 0 * x, 1e-3) is not None
    flat = _side(ga.Chosen(), x, -2 - uneven(x), 1e-3)
    assert flat is not None and (flat.optimization, flat.chart, flat.drive) == (ga.Flat(), ga.LogRatio(), 2.0)
    rough = _side(ga.Chosen(), x, -1 - uneven(x), 1e-3)
    assert rough is None or rough.optimization != ga.Flat()
    assert families.by_sign(x, uneven(x) - 1, uneven(x) + 1, 1e-3) is None
    assert families.by_sign(x, uneven(x) / 2 - 1, uneven(x) / 2 + 1, 1e-3) is not None


# ---- names of a part, of a multiple, and between the advantages that were probed


@pytest.mark.parametrize("place", [0.5, -0.5, 1.5, -1.5])
@pytest.mark.parametrize("power", [1, 2])
def test_a_chart_that_is_broken_is_named_on_the_part_around_the_anchor(place: float, power: int) -> None:
    """Its slope jumps, or bends, at one place, beyond which it is no line."""

    def loss(x: Tensor, a: Tensor) -> Tensor:
        return x**2 / 2 - a * (x + place / abs(place) * torch.relu(x / place - 1) ** power)

    found = report_of(loss).recognised
    assert found.chart == ga.LogRatio() and found.chart_residual < 1e-8
    ends = (found.window.low, found.window.high)
    assert ends == pytest.approx((-3.0, place) if place > 0 else (place, 3.0), abs=1e-8)


@pytest.mark.parametrize(("bump", "named"), [(0.0, True), (5e-8, True), (5e-7, False), (1e-3, False)])
def test_a_name_predicts_the_force_between_the_advantages_that_were_probed(bump: float, named: bool) -> None:
    found = report_of(lambda x, a: x**2 / 2 - (a + bump * a * (a**2 - 1)) * x).recognised
    assert (found.optimization == ga.ChiSquare(1.0)) is named and (found.optimization is not None) is named
    assert found.chart == ga.LogRatio()


@pytest.mark.parametrize("rate", [0.4, 1.0, 2.5])
def test_an_exponential_of_a_margin_is_a_reverse_kl_of_a_multiple_of_the_log_ratio(rate: float) -> None:
    """c·e^{−km} has the force −c·e^{−u}·u' in u = km, so the drive c against φ' = c(1 − e^{−u})."""
    report = identify(lambda m: 0.3 * torch.exp(-rate * m), domain=(-6.0, 6.0))
    found = report.recognised
    assert found.optimization == ga.ReverseKL(0.3) and found.chart == ga.LogRatio(rate)
    assert float(report.drive) == pytest.approx(0.3, rel=1e-7) and found.residual < 1e-7
    torch.testing.assert_close(
        report.mirror(tensor(0.0, 0.5)), 0.3 * -torch.expm1(-tensor(0.0, 0.5)), rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("coordinate", [ga.Ratio(), ga.LogRatio()], ids=repr)
def test_the_sigmoids_of_both_signs(coordinate: ga.Chart) -> None:
    """SAPO's gates: the pull of each sign is 4σσ̄ of its own temperature, in the chart's coordinate."""
    x, gate = torch.linspace(-2.0, 1.5, 301, dtype=F64), optimization.SigmoidClip(1.0, 2.5)
    u, slope, one = coordinate(x), coordinate.slope(x), torch.ones_like(x)
    up, down = gate.force(u, one) * slope, gate.force(u, -one) * slope
    named, found = families.by_sign(x, up, down, 1e-8) or (None, None)
    assert named is not None and found is not None
    assert (named.member, found.member) == (coordinate, gate) and found.residual <= 1e-8
    assert families.by_sign(x, up * (1 + 1e-4 * torch.sin(5 * x)), down, 1e-8) is None


@pytest.mark.parametrize("chart", [ga.LogRatio(), ga.Ratio()], ids=repr)
@pytest.mark.parametrize(("power", "named"), [(1.0, True), (1.1, False)])
def test_the_weight_of_a_pair_is_that_of_its_policy(chart: ga.Chart, power: float, named: bool) -> None:
    """WPO's, the probability of both responses, at most 1, over a logistic link of any chart; a power of it is none."""

    def loss(c: Tensor, r: Tensor) -> Tensor:
        return (power * (c + r).clamp(max=0)).exp().detach() * -logsigmoid(0.5 * (chart(c) - chart(r)))

    found = weighted_pair(Probe(loss, 2), ga.Interval(-3.0, 2.0), 1e-8)
    assert (found is not None) is named
    if found is not None:
        assert (found.chart, found.optimization) == (chart, ga.Logistic(0.5)) and found.residual < 1e-7
        assert isinstance(found.weight, sampling.PolicyWeight) and found.weight.of == ga.Label(0.5)
        assert found.window == ga.Interval(-3.0, 2.0) and found.offset == "none"


def test_a_chart_that_is_moved_begins_at_zero() -> None:
    moved, x = Moved(ga.Ratio(), -0.5), tensor(-1.0, 0.0, 0.3)
    torch.testing.assert_close(moved(x), math.exp(-0.5) * torch.expm1(x))
    torch.testing.assert_close(moved.slope(x), (x - 0.5).exp())
    torch.testing.assert_close(moved.inverse(moved(x)), x)


@pytest.mark.parametrize(("excess", "named"), [(0.0, True), (0.11, True), (0.1117, False)])
@pytest.mark.parametrize("chart", [ga.LogRatio(), ga.Ratio()], ids=repr)
def test_a_weighted_pull_is_one_whose_value_over_force_is_that_of_a_chart(
    chart: ga.Chart, excess: float, named: bool
) -> None:
    """To a hundred tolerances: a value larger by ε differs by ε/(1 + ε)."""

    def loss(x: Tensor, a: Tensor) -> Tensor:
        u = chart(x)
        return -a * x.exp().clamp(max=5.0).detach() * (u + excess * u.detach())

    resolved = Resolved(tensor(-6.0, 6.0), torch.zeros(1), ())
    found = weighted_drive(Probe(loss, 2), tensor(-1.0, 0.0, 1.0), resolved, 1e-3)
    assert (found is not None) is named
    if found is not None:
        assert (found.chart, found.optimization, found.offset) == (chart, ga.Flat(), "none")
        assert found.weight == ga.ClippedImportance(ga.Advantage(), high=5.0)
        assert found.window == ga.Interval(-6.0, 6.0) and found.residual < 1e-8
    assert weighted_drive(Probe(loss, 2), tensor(0.0, 0.5, 1.0), resolved, 1e-3) is None, "of both signs"


@pytest.mark.parametrize(
    ("weight", "positive", "negative"),
    [
        (lambda t, a: t.clamp(min=0.25), (0.25, None), (0.25, None)),
        (lambda t, a: t.clamp(0.25, 4.0), (0.25, 4.0), (0.25, 4.0)),
        (lambda t, a: t.clamp(max=0.5), (None, 0.5), (None, 0.5)),
        (lambda t, a: t, (None, None), (None, None)),
    ],
)
def test_the_bounds_of_a_clipped_weight(
    weight: Loss, positive: tuple[float | None, float | None], negative: tuple[float | None, float | None]
) -> None:
    resolved = Resolved(tensor(-6.0, 6.0), torch.zeros(1), ())
    probe = Probe(lambda x, a: -a * weight(x.exp(), a).detach() * x, 2)
    found = weighted_drive(probe, tensor(-1.0, 1.0), resolved, 1e-8)
    assert found is not None and found.weight == ga.ClippedImportance(ga.Advantage(), *positive)


@pytest.mark.parametrize(
    ("positive", "negative"), [((2.0, 0.5), (1.0, 2.0)), ((0.0, 1.0), (1.5, 0.25)), ((0.5, 0.3), (0.0, 0.7))]
)
def test_a_weight_that_is_a_power_and_an_exponential_of_the_ratio(
    positive: tuple[float, float], negative: tuple[float, float]
) -> None:
    """VESPO's e^{kΔ − λ(t − 1)}, with a pair (k, λ) for either sign; k may be zero."""

    def loss(x: Tensor, a: Tensor) -> Tensor:
        k, decay = (torch.where(a > 0, *each) for each in zip(tensor(*positive), tensor(*negative), strict=True))
        return -a * (k * x - decay * x.expm1()).exp().detach() * x

    resolved = Resolved(tensor(-6.0, 6.0), torch.zeros(1), ())
    found = weighted_drive(Probe(loss, 2), tensor(-1.0, 1.0), resolved, 1e-8)
    assert found is not None and found.weight == sampling.GammaImportance(ga.Advantage(), positive, negative)


@pytest.mark.parametrize("kink", [0.0, 1.0])
def test_what_acts_at_the_anchor_is_read_a_thousandth_beside_a_kink_there(kink: float) -> None:
    found = driven(lambda x, a: x.expm1() ** 2 - a.exp() * (x.expm1() + kink * torch.relu(x)))
    expected = torch.expm1(tensor(-1.0, 0.0, 1.0)) * (math.exp(1e-3) + 1 if kink else 1)
    torch.testing.assert_close(found.drive, expected, rtol=1e-9, atol=1e-12)
    beyond = found.resolved.nodes > 0
    slope = (found.resolved.nodes.exp() + kink)[beyond] / (expected[2] / math.expm1(1.0))
    torch.testing.assert_close(found.slope[beyond], slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("place", [-0.9995, 0.9995, -0.9, 0.9])
def test_a_kink_beside_an_end_leaves_the_domain_whole(place: float) -> None:
    found = resolve(lambda x: (x.exp() + torch.relu(x - place))[:, None], ga.Interval(-1.0, 1.0))
    assert found.domain == ga.Interval(-1.0, 1.0) and found.kinks == pytest.approx((place,), abs=1e-9)
    assert bool((found.edges.diff() > 0).all())


def test_the_curves_of_a_report_in_the_ratio() -> None:
    """u² − A·u in u = t − 1."""
    report = report_of(lambda x, a: x.expm1() ** 2 - a * x.expm1())
    u = tensor(-0.5, 0.0, 0.25, 2.0)
    torch.testing.assert_close(report.potential(u), u**2, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(report.mirror(u), 2 * u, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(report.curvature(u), torch.full_like(u, 2.0), rtol=1e-7, atol=0)
    torch.testing.assert_close(report.equilibrium(tensor(-1.0, 0.5)), tensor(-0.5, 0.25), rtol=1e-8, atol=0)


@pytest.mark.parametrize(
    "potential", [ga.Logistic(1.5), ga.ReverseKL(0.3), ga.ChiSquare(2.0) + ga.ReverseKL(0.3)], ids=repr
)
@pytest.mark.parametrize("low", [-0.99, -1.5, -3.0])
def test_a_potential_is_named_on_both_sides_of_minus_one(potential: ga.BregmanGeometry, low: float) -> None:
    """Below it the potentials of a ratio are none."""
    u = torch.linspace(low, 3.0, 401, dtype=F64)
    found = families.potential(u, potential.mirror(u) + 0.2, 1e-8, core=u.abs() <= 1)
    assert found is not None and (found.member, found.offset) == (potential, pytest.approx(0.2, abs=1e-8))


@pytest.mark.parametrize(("beta", "tau"), [(0.3, 0.1), (0.1, 0.4)])
def test_a_blend_of_two_links_has_its_two_numbers_in_their_order(beta: float, tau: float) -> None:
    x, blend = torch.linspace(-6.0, 6.0, 241, dtype=F64), optimization.LogRatioModulated(beta, tau)
    found = _between(ga.LogRatio(), x, blend.force(x, torch.zeros_like(x)), 1e-8)
    assert found is not None and isinstance(found.optimization, optimization.LogRatioModulated)
    assert found.optimization == blend and found.unit == ga.Pair() and found.drive == 0.0


PROBABILITIES: dict[str, tuple[ga.OptimizationGeometry, Loss, float]] = {
    "flat": (ga.Flat(), lambda z: 0 * z, 1.0),
    "square": (ga.ChiSquare(0.7), lambda z: 0.7 * torch.sigmoid(z), 0.3),
    "entropy": (optimization.NegativeEntropy(), lambda z: z, 0.2),
    "twice the entropy": (2.0 * optimization.NegativeEntropy(), lambda z: 2 * z, -0.2),
}


@pytest.mark.parametrize("beta", [0.4, 1.6])
@pytest.mark.parametrize("name", PROBABILITIES)
def test_a_potential_of_the_preference_probability_is_named(name: str, beta: float) -> None:
    """With p = σ(βm) the force is (φ'(p) − g)·βp(1 − p)."""
    potential, mirror, drive = PROBABILITIES[name]
    x = torch.linspace(-6.0, 6.0, 241, dtype=F64)
    slope = beta * torch.sigmoid(beta * x) * torch.sigmoid(-beta * x)
    found = _between(ga.LogRatio(), x, (mirror(beta * x) - drive) * slope, 1e-8)
    assert found is not None and found.residual < 1e-8
    assert (found.unit, found.chart) == (ga.unit.PreferenceProbability(beta=beta), ga.LogRatio())
    assert found.optimization == potential and found.drive == pytest.approx(drive, rel=1e-7)
    rough = (mirror(beta * x) - drive) * slope * (1 + 1e-4 * torch.sin(3 * x))
    assert _between(ga.LogRatio(), x, 1e-3 * rough, 1e-8) is None


@pytest.mark.parametrize(("unit", "drive"), [(ga.Chosen(), 0.5), (ga.Rejected(), -0.5)])
@pytest.mark.parametrize(
    ("chart", "factor"), [(ga.LogRatio(), 1.0), (ga.Ratio(), 1.0), (ga.Ratio(), -1.0), (ga.Sigmoid(0.5), 2.0)]
)
def test_a_term_of_one_response_that_nothing_resists_is_a_pull_in_its_chart(
    unit: ga.Unit, drive: float, chart: ga.Chart, factor: float
) -> None:
    x = torch.linspace(-3.0, 3.0, 201, dtype=F64)
    found = _side(unit, x, -factor * drive * chart.slope(x), 1e-8)
    assert found is not None and (found.unit, found.chart, found.optimization) == (unit, chart, ga.Flat())
    assert found.drive == pytest.approx(factor * drive) and found.residual < 1e-8


def test_panels_that_end_beside_a_kink_end_at_it() -> None:
    """Where a first edge lies within a thousandth of a kink, it makes way, whatever other kinks there are."""
    first = [-1 + 2 * k / 31 + 2 / 31 / math.pi / 10 for k in range(1, 31)]
    place, other = first[20] + 2e-4, first[9] + 0.02
    found = resolve(lambda x: (torch.relu(x - place) - torch.relu(x - other))[:, None], ga.Interval(-1.0, 1.0))
    assert found.kinks == pytest.approx((other, place), abs=1e-9)
    assert float(found.edges.diff().min()) > 1e-3


@pytest.mark.parametrize(("last", "increasing"), [(0.5, True), (0.0, False), (-0.5, False)])
def test_a_chart_whose_slope_vanishes_is_not_increasing(last: float, increasing: bool) -> None:
    coefficients = torch.tensor([[1.0, 0.0], [last, 0.0]], dtype=F64)
    chart = TabulatedChart(Curve(tensor(-1.0, 0.0, 2.0), coefficients))
    assert chart.increasing is increasing
    assert (chart.range.low, chart.range.high) == pytest.approx(tuple(sorted((-1.0, 2 * last))))


def test_a_divergence_alone_is_named_alone() -> None:
    u = torch.linspace(-0.95, 3.0, 401, dtype=F64)
    potential = optimization.FDivergence(ga.JensenShannon(), 0.7)
    found = families.potential(u, potential.mirror(u) + 0.1, 1e-8, core=u.abs() <= 1)
    assert found is not None and found.member == potential


def test_the_residual_of_a_constant_force_is_relative_to_it() -> None:
    u = torch.linspace(-2.0, 2.0, 101, dtype=F64)
    found = families.potential(u, 4 + 1e-3 * u.sign(), 1e-3, core=u.abs() <= 1)
    assert found is not None and (found.member, found.offset) == (ga.Flat(), 4.0)
    assert found.residual == pytest.approx(2.5e-4, rel=1e-4)


def test_a_bend_has_no_jump_and_a_jump_is_that_of_its_advantage() -> None:
    bend = report_of(lambda x, a: x**2 / 2 + torch.relu(x - 1) ** 2 - a * x)
    [kink] = bend.kinks
    assert kink.log_ratio == pytest.approx(1.0, abs=1e-8) and kink.jumps == (0.0, 0.0, 0.0)
    jump = report_of(lambda x, a: x**2 / 2 - a * x - torch.relu(a) * 0.5 * torch.relu(x - 1))
    [kink] = jump.kinks
    assert kink.log_ratio == pytest.approx(1.0, abs=1e-8) and kink.jumps == pytest.approx((0.0, 0.0, -0.5), abs=1e-9)


def test_the_residual_of_a_potential_is_relative_to_its_force_and_that_at_the_anchor() -> None:
    """An error of 1e-4 beside the largest force within one nat, 2, where the force itself is zero."""
    u = torch.linspace(-2.0, 2.0, 101, dtype=F64)
    found = families.potential(u, 2 * u + 1e-4 * (torch.arange(101) % 2 * 2 - 1), 1e-3, core=u.abs() <= 1)
    assert (
        found is not None and isinstance(found.member, ga.ChiSquare) and found.member.mu == pytest.approx(2, rel=1e-3)
    )
    assert found.residual == pytest.approx(5e-5, rel=0.1)


def test_a_second_wall_within_a_factor_of_e_is_no_lower_one() -> None:
    def loss(x: Tensor, a: Tensor) -> Tensor:
        t = x.exp()
        clip = -torch.minimum(t * a, t.clamp(0.8, 1.2) * a)
        return torch.where(a < 0, torch.minimum(clip, -2 * a), clip)

    assert report_of(loss).recognised.optimization == ga.Clip(0.2, 0.2, dual=2.0)


def test_narrow_panels_on_both_sides_of_a_wide_one_are_two_kinks() -> None:
    edges = torch.cumsum(tensor(0.0, 1.0, 1e-7, 1.0, 1e-7, 1.0), 0)
    assert _kinks(edges) == pytest.approx((1.0, 2.0), abs=1e-6)


def test_every_force_must_be_finite() -> None:
    probe = Probe(lambda x, a: x**2 - a * x, 2)
    found = finite_domain(
        probe, ga.Interval(-10.0, 10.0), lambda x: torch.stack([x, torch.where(x > 2.05, math.inf, x)], -1)
    )
    assert (found.low, found.high) == (-10.0, pytest.approx(2.0))
