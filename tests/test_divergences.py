"""Divergences and the numerics below them: closed forms against mpmath, identities by Hypothesis, limits, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable

import members
import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from torch import Tensor

import geomalign as ga
from geomalign._util import numerics

STRICT: list[ga.Divergence] = [
    ga.KullbackLeibler(),
    ga.ReverseKullbackLeibler(),
    ga.PearsonChiSquare(),
    ga.NeymanChiSquare(),
    ga.SquaredHellinger(),
    ga.CressieRead(1.5),
    ga.CressieRead(3.0),
    ga.CressieRead(-0.7),
    ga.CressieRead(1 + 1e-9),
    ga.CressieRead(1e-9),
    ga.JensenShannon(),
    2.5 * ga.JensenShannon(),
    ga.divergences.SkewJensenShannon(0.1),
    ga.divergences.SkewJensenShannon(0.9),
    ga.KullbackLeibler() + ga.PearsonChiSquare(),
    0.3 * ga.NeymanChiSquare() + 2.0 * ga.CressieRead(1.5),
]
EVERY = [*STRICT, ga.TotalVariation(), 0.5 * ga.TotalVariation() + ga.PearsonChiSquare()]
strict = pytest.mark.parametrize("d", STRICT, ids=repr)
every = pytest.mark.parametrize("d", EVERY, ids=repr)


def vectors(low: float, high: float) -> st.SearchStrategy[Tensor]:
    """Many points per example: the identities are elementwise."""
    points = st.floats(low, high, allow_subnormal=False)
    return st.lists(points, min_size=12, max_size=12).map(torch.tensor)


log_ratios = vectors(-6.0, 6.0)
few = settings(max_examples=8)


def tensor(*x: float) -> Tensor:
    return torch.tensor(x)


def skew(beta: str) -> Callable[[mpmath.mpf], mpmath.mpf]:
    """ψ of the generalised Jensen–Shannon divergence in the precision of mpmath, the share β as a float has it."""
    b = mpmath.mpf(float(beta))

    def psi(t):
        m = b + (1 - b) * t
        return (1 - b) * t * mpmath.log(t / m) - b * mpmath.log(m)

    return psi


def close(a: Tensor, b: Tensor, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


# --- against arbitrary precision


def alpha(a: float) -> mpmath.mpf:
    """ψ of the power family in 60 digits."""

    def psi(t):
        if a == 1:
            return t * mpmath.log(t) - t + 1
        if a == 0:
            return -mpmath.log(t) + t - 1
        return (t**a - a * t + a - 1) / (mpmath.mpf(a) * (a - 1))

    return psi


PRECISE = [
    (ga.KullbackLeibler(), alpha(1)),
    (ga.ReverseKullbackLeibler(), alpha(0)),
    (ga.PearsonChiSquare(), lambda t: (t - 1) ** 2 / 2),
    (ga.NeymanChiSquare(), lambda t: (t - 1) ** 2 / (2 * t)),
    (ga.SquaredHellinger(), lambda t: 2 * (mpmath.sqrt(t) - 1) ** 2),
    (ga.CressieRead(3.0), alpha(3)),
    (ga.CressieRead(0.3), alpha(mpmath.mpf(0.3))),
    (ga.CressieRead(1 + 1e-9), alpha(mpmath.mpf(1 + 1e-9))),
    (ga.JensenShannon(), lambda t: t * mpmath.log(t) - (1 + t) * mpmath.log((1 + t) / 2)),
    *((ga.divergences.SkewJensenShannon(float(b)), skew(b)) for b in ("0.1", "0.5", "0.9")),
]


@pytest.mark.parametrize("d, psi", PRECISE, ids=[repr(d) for d, _ in PRECISE])
@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 4e-14), (torch.float32, 2e-5)], ids=["float64", "float32"])
def test_values_are_accurate_to_rounding_near_the_anchor_too(d, psi, dtype, rtol):
    """The literal formulas lose every digit at Δ = 1e-4 in float32 and at 1e-9 in float64."""
    with mpmath.workdps(60):
        for x in (1e-9, -1e-9, 1e-4, -1e-4, 0.02, -0.2, 0.31, 0.9, -1.1, 3.0, -5.0):
            point = torch.tensor(x, dtype=dtype)
            t = mpmath.exp(mpmath.mpf(float(point)))
            exact = float(psi(t))
            assert abs(float(d.penalty(point)) / exact - 1) <= rtol, x
            assert abs(float(d.coordinate(point)) / float(mpmath.diff(psi, t)) - 1) <= rtol, x


@every
def test_extreme_log_ratios_are_finite_and_never_flat(d):
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([-1e4, 1e4], dtype=dtype, requires_grad=True)
        penalty = d.penalty(x)
        (slope,) = torch.autograd.grad(penalty.sum(), x)
        assert torch.isfinite(penalty).all() and torch.isfinite(slope).all()
        assert torch.isfinite(d.coordinate(x)).all() and torch.isfinite(d.slope(x)).all()
        assert slope[1] > 0  # far above the anchor the pull is alive


ANCHORED = [*EVERY, ga.divergences.SkewJensenShannon(0.01), ga.divergences.SkewJensenShannon(0.99)]


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-12), (torch.float32, 3e-4)], ids=["float64", "float32"])
@pytest.mark.parametrize("d", ANCHORED, ids=repr)
def test_autograd_is_the_closed_form_at_every_log_ratio(d, dtype, rtol):
    """From 1e-3 to 1e4 nats on both sides every value and derivative is a number, and where no exponential is continued
    by its tangent line ∂ψ/∂Δ = t·ψ'(t) and ∂ψ'/∂Δ = t·ψ''(t)."""
    size = torch.logspace(-3, 4, 211, dtype=torch.float64)
    x = torch.cat([-size.flip(0), size]).to(dtype).requires_grad_()
    penalty, coordinate = d.penalty(x), d.coordinate(x)
    (slope,) = torch.autograd.grad(penalty.sum(), x)
    (bend,) = torch.autograd.grad(coordinate.sum(), x) if coordinate.requires_grad else (torch.zeros_like(x),)
    point = x.detach()
    for value in (penalty, coordinate, slope, bend, d.slope(point)):
        assert torch.isfinite(value).all()
    plain = point.abs() < numerics.limit(dtype) / 4
    close(slope[plain], (point.exp() * d.coordinate(point))[plain], rtol=rtol, atol=0)
    if not isinstance(d, ga.TotalVariation):  # whose mirror jumps
        close(bend[plain], d.slope(point)[plain], rtol=rtol, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("d", ANCHORED, ids=repr)
def test_an_objective_made_of_a_divergence_has_a_gradient_at_every_log_ratio(d, dtype):
    """The potential ψ(1 + u) of a token's ratio: autograd equals the closed form and is a number to ±1e4 nats."""
    x = torch.cat([-torch.logspace(-2, 4, 40), torch.logspace(-2, 4, 40)]).to(dtype)[:, None].requires_grad_()
    objective = ga.Objective(
        unit=ga.Token(), chart=ga.Ratio(), sampling=ga.Label(0.0), optimization=ga.FDivergence(d), anchor="reference"
    )
    batch = ga.Batch(x, torch.zeros_like(x), reference=torch.zeros_like(x))
    (by_autograd,) = torch.autograd.grad(objective.plain(batch).loss, x)
    assert torch.isfinite(by_autograd).all()
    # At e^{L/2} the potential turns into its tangent line, and autograd may take either side's derivative.
    close(by_autograd, objective.gradient(batch).detach(), rtol=1e-9 if dtype == torch.float64 else 1e-3, atol=1e-30)


# --- identities


@strict
@few
@given(x=log_ratios)
def test_the_log_ratio_forms_are_the_ratio_forms(d, x):
    t = x.exp()
    close(d.penalty(x), d.generator(t))
    close(d.coordinate(x), d.mirror(t))
    close(d.slope(x), t * d.curvature(t))


@strict
@few
@given(x=log_ratios)
def test_mirror_and_curvature_are_derivatives(d, x):
    t = x.exp().requires_grad_()
    (first,) = torch.autograd.grad(d.generator(t).sum(), t, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), t)
    close(first.detach(), d.mirror(t).detach(), rtol=1e-8)
    close(second, d.curvature(t).detach(), rtol=1e-8)


@strict
@few
@given(x=vectors(-2.5, 2.5))
def test_the_inverse_mirror_inverts_and_is_the_derivative_of_the_conjugate(d, x):
    t = x.exp()
    s = d.mirror(t).requires_grad_()
    close(d.inverse_mirror(s).detach(), t, rtol=1e-8)
    (slope,) = torch.autograd.grad(d.conjugate(s).sum(), s)
    close(slope, t, rtol=1e-8)
    close(d.conjugate(s).detach(), (s.detach() * t - d.generator(t)), rtol=1e-8, atol=1e-11)


@every
@few
@given(x=log_ratios, y=vectors(-1.5, 1.5))
def test_fenchel_young(d, x, y):
    """st ≤ ψ(t) + ψ*(s) for every t ≥ 0 and every s."""
    t, s = x.exp(), y
    assert bool((d.generator(t) + d.conjugate(s) - s * t >= -1e-12 * (1 + t)).all())


@every
@few
@given(x=log_ratios)
def test_the_reverse_exchanges_the_arguments(d, x):
    t = x.exp()
    close(d.reverse.generator(t), t * d.generator(1 / t), rtol=1e-9)
    close(d.reverse.reverse.penalty(x), d.penalty(x))


@strict
def test_gradcheck_and_gradgradcheck_of_inverse_and_conjugate(d):
    high = min(d.mirror_range.high, 3.0)
    low = max(d.mirror_range.low, -3.0)
    s = (low + (high - low) * torch.tensor([0.25, 0.5, 0.75])).requires_grad_()
    for function in (d.inverse_mirror, d.conjugate):
        assert torch.autograd.gradcheck(function, s)
        assert torch.autograd.gradgradcheck(function, s)


@strict
def test_the_mirror_range_holds_the_mirror_and_ends_the_inverse(d):
    span = d.mirror_range
    s = d.coordinate(torch.tensor([-300.0, -1.0, 0.0, 1.0, 300.0]))
    assert bool(((s >= span.low) & (s <= span.high)).all())
    if math.isfinite(span.low):
        beyond = torch.tensor([span.low, span.low - 1.0])
        assert torch.equal(d.inverse_mirror(beyond), torch.zeros(2))
        close(d.conjugate(beyond), -d.generator(torch.zeros(2)))
    if math.isfinite(span.high):
        assert torch.isposinf(d.inverse_mirror(tensor(span.high + 0.1))).all()
        assert torch.isposinf(d.conjugate(tensor(span.high + 0.1))).all()


ENDS = [
    (ga.PearsonChiSquare(), -1.0, math.inf),
    (ga.NeymanChiSquare(), -math.inf, 0.5),
    (ga.SquaredHellinger(), -math.inf, 2.0),
    (ga.JensenShannon(), -math.inf, math.log(2)),
    (ga.divergences.SkewJensenShannon(0.1), -math.inf, -0.9 * math.log(0.9)),
    (ga.divergences.SkewJensenShannon(0.9), -math.inf, -0.1 * math.log(0.1)),
    (ga.TotalVariation(), -0.5, 0.5),
    (3.0 * ga.TotalVariation(), -1.5, 1.5),
]


@pytest.mark.parametrize("d, low, high", ENDS, ids=[repr(d) for d, *_ in ENDS])
def test_the_mirror_range_is_that_of_the_generators_slope(d, low, high):
    """ψ'(0) and ψ'(∞), each approached by the coordinate 250 nats out and not before."""
    assert (d.mirror_range.low, d.mirror_range.high) == (pytest.approx(low), pytest.approx(high))
    far = d.coordinate(tensor(-250.0, 250.0))
    if math.isfinite(low):
        close(far[0], torch.tensor(low), rtol=1e-6)
    if math.isfinite(high):
        close(far[1], torch.tensor(high), rtol=1e-6)


@pytest.mark.parametrize("order", [-1.0, -0.7, -3.0])
def test_the_conjugate_of_a_negative_order_is_finite_at_the_end_of_the_mirrors_range(order):
    """s·t − ψ(t) tends to −1/α as t → ∞ at s = ψ'(∞), and grows without bound beyond."""
    d = ga.CressieRead(order)
    end = d.mirror_range.high
    close(d.conjugate(tensor(end, end * (1 - 1e-13))), tensor(-1 / order, -1 / order), rtol=1e-4)
    assert torch.isposinf(d.conjugate(tensor(end + 1e-9))).all()
    assert torch.isposinf(ga.SquaredHellinger().conjugate(tensor(2.0))).all()


@every
def test_repr_evaluates_to_an_equal_divergence(d):
    assert eval(repr(d), members.NAMES) == d
    assert d.latex()


@every
def test_every_method_keeps_the_dtype_and_its_precision(d):
    """Under either default type: a constant of the wrong type would widen float32 or round float64."""
    before = torch.get_default_dtype()
    methods = [d.generator, d.mirror, d.curvature, d.penalty, d.coordinate, d.slope, d.conjugate]
    if not isinstance(d, ga.TotalVariation):
        methods.append(d.inverse_mirror)
    points = [0.0, 0.3, 1.0, 2.5]
    try:
        for dtype in (torch.float32, torch.float64):
            results = []
            for default in (torch.float32, torch.float64):
                torch.set_default_dtype(default)
                results.append([method(torch.tensor(points, dtype=dtype)) for method in methods])
            for one, other in zip(*results):
                assert one.dtype == other.dtype == dtype
                assert torch.equal(one, other)
    finally:
        torch.set_default_dtype(before)


# --- a divergence of one's own


def own(function: Callable[[Tensor], Tensor]) -> ga.Divergence:
    """A divergence that states its generator and nothing else."""
    return type("Own", (ga.Divergence,), {"generator": lambda self, t: function(t)})()


TWINS = [
    (ga.KullbackLeibler(), lambda t: torch.xlogy(t, t) - t + 1),
    (ga.ReverseKullbackLeibler(), lambda t: -t.log() + t - 1),
    (ga.PearsonChiSquare(), lambda t: (t - 1) ** 2 / 2),
    (ga.NeymanChiSquare(), lambda t: (t - 1) ** 2 / (2 * t)),
    (ga.SquaredHellinger(), lambda t: 2 * (t.sqrt() - 1) ** 2),
    (ga.CressieRead(3.0), lambda t: (t**3 - 3 * t + 2) / 6),
    (ga.JensenShannon(), lambda t: torch.xlogy(t, t) - (1 + t) * ((1 + t) / 2).log()),
]
twins = pytest.mark.parametrize("d, function", TWINS, ids=[repr(d) for d, _ in TWINS])


@twins
def test_all_of_a_divergence_follows_from_its_generator(d, function):
    """The derived methods against the closed forms of a member with the same ψ."""
    mine, x = own(function), torch.linspace(-6.0, 6.0, 25)
    ga.laws.check_divergence(mine)
    s = d.coordinate(torch.linspace(-2.5, 2.5, 11))
    for name, at in (("penalty", x), ("coordinate", x), ("slope", x), ("inverse_mirror", s), ("conjugate", s)):
        close(getattr(mine, name)(at), getattr(d, name)(at), rtol=1e-8, atol=1e-11)
    close(mine.reverse.penalty(x), d.reverse.penalty(x), atol=1e-11)
    assert mine.reverse.reverse is mine and repr(mine.reverse).endswith(".reverse") and mine.latex()
    for end in ("low", "high"):
        assert getattr(mine.mirror_range, end) == pytest.approx(getattr(d.mirror_range, end), abs=1e-9)
    outside = torch.tensor([-1e3, 1e3])
    close(mine.inverse_mirror(outside), d.inverse_mirror(outside))
    close(mine.conjugate(outside), d.conjugate(outside))
    g, prior = torch.randn(4, 6), torch.randn(4, 6)
    close(ga.target_policy(g, mine, log_prior=prior).ratio, ga.target_policy(g, d, log_prior=prior).ratio)
    close(mine.value(g.log_softmax(-1), prior.log_softmax(-1)), d.value(g.log_softmax(-1), prior.log_softmax(-1)))


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3])
@twins
def test_the_range_of_the_mirror_of_ones_own_does_not_depend_on_the_unit(d, function, scale):
    """A small multiple of log t has no bound either."""
    found, expected = own(lambda t: scale * function(t)).mirror_range, d.mirror_range
    assert (found.low, found.high) == pytest.approx((scale * expected.low, scale * expected.high), rel=1e-9)


@twins
def test_a_divergence_of_ones_own_is_differentiable_and_composes(d, function):
    mine = own(function)
    s = d.coordinate(torch.tensor([-0.9, 1.1])).requires_grad_()
    for derived in (mine.inverse_mirror, mine.conjugate):
        assert torch.autograd.gradcheck(derived, s) and torch.autograd.gradgradcheck(derived, s)
    ga.laws.check_divergence(2.0 * mine + ga.KullbackLeibler())
    assert mine + mine == 2.0 * mine


@twins
def test_a_divergence_of_ones_own_is_finite_at_extreme_log_ratios_and_keeps_the_dtype(d, function):
    mine = own(function)
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([-1e4, 0.5, 1e4], dtype=dtype, requires_grad=True)
        penalty = mine.penalty(x)
        (slope,) = torch.autograd.grad(penalty.sum(), x)
        for result in (penalty, slope, mine.coordinate(x), mine.slope(x)):
            assert result.dtype == dtype and torch.isfinite(result).all()
        assert slope[2] > 0


# --- limits and special cases


@pytest.mark.parametrize(
    "order, member",
    [
        (1.0, ga.KullbackLeibler()),
        (0.0, ga.ReverseKullbackLeibler()),
        (2.0, ga.PearsonChiSquare()),
        (-1.0, ga.NeymanChiSquare()),
        (0.5, ga.SquaredHellinger()),
    ],
    ids=repr,
)
def test_the_named_members_are_orders_of_cressie_and_read(order, member):
    t = torch.tensor([0.0, 0.01, 0.7, 1.0, 3.0, 40.0])
    s = torch.tensor([-0.9, -0.2, 0.0, 0.3])
    for one in (member, ga.CressieRead(order)):
        torch.testing.assert_close(one.generator(t), ga.CressieRead(order).generator(t), rtol=0, atol=0)
        torch.testing.assert_close(one.conjugate(s), ga.CressieRead(order).conjugate(s), rtol=0, atol=0)
    assert ga.CressieRead(order).reverse.generator(t)[3] == 0


@pytest.mark.parametrize("order", [0.0, 1.0])
def test_the_kl_limits_are_approached_linearly(order):
    """No cancellation on the way: the distance to the limit is of the order of the step, down to 1e-12."""
    t = torch.tensor([0.2, 0.9, 1.0001, 5.0])
    limit = ga.CressieRead(order)
    for step in (1e-3, 1e-6, 1e-9, 1e-12):
        near = ga.CressieRead(order + step)
        assert float((near.generator(t) / limit.generator(t) - 1).abs().max()) <= 2 * step + 1e-13


@few
@given(s=vectors(-30.0, 1e3), kl=st.sampled_from([1.0, 0.2]), chi=st.sampled_from([1.0, 3.0]))
def test_kl_plus_chi_square_is_inverted_by_lamberts_w(s, kl, chi):
    """a log t + b (t − 1) = s ⇒ t = (a/b) W(exp((s + b)/a) b/a)."""
    d = kl * ga.KullbackLeibler() + chi * ga.PearsonChiSquare()
    exact = kl / chi * special.wrightomega(((s + chi) / kl + math.log(chi / kl)).numpy()).real
    close(d.inverse_mirror(s), torch.as_tensor(exact), rtol=1e-10)


def test_sums_and_multiples_are_an_algebra():
    kl, chi = ga.KullbackLeibler(), ga.PearsonChiSquare()
    assert kl + kl == 2.0 * kl
    assert 1.0 * kl == kl and 2.0 * (0.5 * kl) == kl
    assert 2.0 * (kl + chi) == 2.0 * kl + 2.0 * chi
    assert (kl + chi) + kl == 2.0 * kl + chi
    assert repr(kl + 0.5 * chi) == "KullbackLeibler() + 0.5 * PearsonChiSquare()"
    for weight in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="finite weight > 0"):
            weight * kl
    with pytest.raises(TypeError):
        kl + 1.0


def test_cressie_read_refuses_what_is_no_order():
    for order in (math.inf, math.nan):
        with pytest.raises(ValueError, match="finite"):
            ga.CressieRead(order)
    with pytest.raises(ValueError, match="a number ≥ 0"):
        ga.Renyi(-0.5)


def test_total_variation_says_that_it_has_no_inverse():
    for d in (ga.TotalVariation(), 2.0 * ga.TotalVariation()):
        with pytest.raises(ValueError, match="not strictly convex"):
            d.inverse_mirror(torch.zeros(1))
    s = torch.tensor([-1.0, -0.3, 0.4, 0.6])
    close(ga.TotalVariation().conjugate(s), torch.tensor([-0.5, -0.3, 0.4, math.inf]))


def test_with_total_variation_added_a_whole_interval_of_drives_stays_at_the_anchor():
    """ψ' jumps by one at t = 1; there t does not move, and its derivative is zero."""
    d = ga.TotalVariation() + ga.PearsonChiSquare()
    s = torch.tensor([-0.9, -0.4, 0.1, 0.3, 1.5], requires_grad=True)
    t = d.inverse_mirror(s)
    close(t.detach(), torch.tensor([0.6, 1.0, 1.0, 1.0, 2.0]))
    (slope,) = torch.autograd.grad(t.sum(), s)
    close(slope, torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0]))


# --- values over a finite support

P, Q = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.1, 0.3, 0.4, 0.2]], dtype=torch.float64)


@pytest.mark.parametrize(
    "d, exact",
    [
        (ga.KullbackLeibler(), torch.special.xlogy(P, P / Q).sum()),
        (ga.PearsonChiSquare(), ((P - Q) ** 2 / Q).sum() / 2),
        (ga.SquaredHellinger(), 2 * ((P.sqrt() - Q.sqrt()) ** 2).sum()),
        (ga.TotalVariation(), (P - Q).abs().sum() / 2),
        (
            ga.JensenShannon(),
            torch.special.xlogy(P, 2 * P / (P + Q)).sum() + torch.special.xlogy(Q, 2 * Q / (P + Q)).sum(),
        ),
        (ga.ReverseKullbackLeibler(), torch.tensor(math.inf, dtype=torch.float64)),
    ],
    ids=lambda x: repr(x) if isinstance(x, ga.Divergence) else "",
)
def test_the_value_is_the_textbooks(d, exact):
    close(d.value(P.log(), Q.log()), exact)
    close(d.reverse.value(Q.log(), P.log()), exact)


def test_the_value_is_exact_where_ratios_overflow():
    """p/q = e^{±800}: KL = 0.5 log 0.5 + 0.5 (log 0.5 + 800), not what a saturated ratio would give."""
    log_p = torch.tensor([0.5, 0.5]).log()
    log_q = torch.tensor([math.log1p(-0.0), math.log(0.5) - 700.0])
    close(ga.KullbackLeibler().value(log_p, log_q), 0.5 * log_p[0] + 0.5 * torch.tensor(700.0), rtol=1e-12)
    close(ga.ReverseKullbackLeibler().value(log_q, log_p), 0.5 * log_p[0] + 0.5 * torch.tensor(700.0), rtol=1e-12)
    close(ga.TotalVariation().value(log_p, log_q), torch.tensor(0.5))


@every
def test_the_value_is_differentiable_where_an_outcome_is_impossible(d):
    logits = torch.tensor([0.1, -0.4, 0.7], requires_grad=True)
    log_p = torch.cat([torch.log_softmax(logits, -1), torch.tensor([-math.inf])])
    log_q = torch.tensor([0.2, 0.3, 0.5, 0.0]).log()
    (gradient,) = torch.autograd.grad(d.value(log_p, log_q), logits)
    assert torch.isfinite(gradient).all() and bool((gradient != 0).any())


@pytest.mark.parametrize("order", [0.0, 0.3, 1.0, 1.5, 2.0, 5.0])
def test_renyi_is_a_monotone_transform_of_cressie_read(order):
    power = ga.CressieRead(order).value(P[:3].log(), Q[:3].log() - Q[:3].sum().log())
    close(
        power if order == 1 else torch.log1p(order * (order - 1) * power) / (order - 1),
        ga.Renyi(order).value(P[:3].log(), Q[:3].log() - Q[:3].sum().log()),
        atol=1e-10,
    )


def test_renyi_stays_in_log_space():
    log_p, log_q = torch.tensor([0.0, -2000.0]), torch.tensor([-2000.0, 0.0])
    close(ga.Renyi(3.0).value(log_p, log_q), torch.tensor(2000.0))
    close(ga.Renyi(0.0).value(P.log(), Q.log()), -torch.tensor(0.8).log())


# --- numerics


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_saturation_is_the_tangent_line(dtype):
    bound = numerics.limit(dtype)
    x = torch.tensor([-1e4, 0.0, bound, bound + 1, 1e4], dtype=dtype, requires_grad=True)
    for function, offset in ((numerics.exp, 0.0), (numerics.expm1, 1.0)):
        y = function(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(slope, numerics.exp_slope(x).detach())
        top = torch.exp(torch.tensor(bound, dtype=dtype))
        torch.testing.assert_close(y[-1].detach(), top * (1 + 1e4 - bound) - offset)
        assert torch.isfinite(y.detach().float() ** 2).all() or dtype is torch.float64
    assert float(numerics.exp(torch.tensor(-math.inf))) == 0.0
    lowest = torch.tensor(-math.inf, requires_grad=True)
    assert float(torch.autograd.grad(numerics.expm1(lowest), lowest)[0]) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chart", [ga.Ratio(), ga.Power(2.0)], ids=repr)
def test_far_below_the_anchor_every_derivative_keeps_its_digits(chart, dtype):
    x = torch.tensor([-1.0, -20.0, -30.0, -40.0], dtype=dtype, requires_grad=True)
    expected = [n * (getattr(chart, "power", 1.0) * x.detach().double()).exp() for n in (1, 1)]
    expected[1] = expected[1] * getattr(chart, "power", 1.0)
    (once,) = torch.autograd.grad(chart(x).sum(), x, create_graph=True)
    (twice,) = torch.autograd.grad(once.sum(), x)
    for found, exact in ((once, expected[0]), (twice, expected[1])):
        torch.testing.assert_close(found.detach().double(), exact, rtol=50 * torch.finfo(dtype).eps, atol=0)
    each = torch.func.vmap(torch.func.grad(torch.func.grad(lambda at: chart(at))))(x.detach())
    assert torch.equal(each, twice)


def test_the_continued_exponential_is_differentiable_twice_and_compiles_whole():
    x = torch.tensor([-3.0, -0.5, 0.0, 1.5], requires_grad=True)
    assert torch.autograd.gradcheck(numerics.expm1, x) and torch.autograd.gradgradcheck(numerics.expm1, x)
    assert torch._dynamo.explain(numerics.expm1)(x).graph_break_count == 0
    whole = torch.compile(numerics.expm1, backend="aot_eager", fullgraph=True)
    far = torch.tensor([-60.0, -1.0], requires_grad=True)
    (slope,) = torch.autograd.grad(whole(far).sum(), far)
    torch.testing.assert_close(slope, far.detach().exp(), rtol=1e-14, atol=0)


@given(target=st.floats(-1e6, 1e6, allow_subnormal=False), newton=st.booleans())
def test_a_root_is_found_from_an_infinite_bracket(target, newton):
    cube = lambda x: x**3 + x  # noqa: E731
    slope = (lambda x: 3 * x**2 + 1) if newton else None
    x = numerics.solve_increasing(cube, tensor(target), derivative=slope)
    assert float((cube(x) - target).abs()) <= 1e-13 * (1 + abs(target))


def test_a_root_is_found_across_magnitudes_jumps_and_poles():
    x = numerics.solve_increasing(lambda x: x, torch.tensor([1e-300, -1e300, 0.0, 3.5]))
    assert torch.equal(x, torch.tensor([1e-300, -1e300, 0.0, 3.5]))
    jump = numerics.solve_increasing(lambda x: torch.sign(x - 0.7), torch.tensor([0.5]), 0.0, 1.0)
    close(jump, torch.tensor([0.7]))
    pole = numerics.solve_increasing(
        lambda x: 1 / (1 - x), torch.tensor([1e12]), 0.0, 1.0, derivative=lambda x: (1 - x) ** -2
    )
    close(1 - pole, torch.tensor([1e-12]), rtol=1e-4)
    above = numerics.solve_increasing(torch.tanh, torch.tensor([2.0]), -1.0, 5.0)
    close(above, torch.tensor([5.0]))
