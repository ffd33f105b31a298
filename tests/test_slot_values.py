"""Slot values away from their defaults, against numbers worked out by hand: temperatures, caps, bounds that differ on
the two sides, ties, ends of ranges, and compositions that no recipe makes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import members
import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign import laws
from geomalign._util.types import Locality
from geomalign.recipes.catalogue import parts

GROUP = torch.tensor([0, 0, 0, 1, 1, 1])
REWARD = torch.tensor([3.0, 1.0, -1.0, 0.5, 0.25, 0.0], dtype=torch.float64)


def batch(reward: Tensor = REWARD, **fields: Tensor) -> ga.Batch:
    return ga.Batch(torch.zeros(6, 2), torch.zeros(6, 2), reward=reward, group=GROUP, **fields)


def moved(*log_ratio: float, drive: float | tuple[float, ...] = 1.0, old: float = -3.0) -> ga.Batch:
    """Responses of one token at log-ratios from the old policy, with an advantage."""
    policy = (torch.tensor(log_ratio) + old)[:, None]
    advantage = torch.tensor(drive).expand(len(log_ratio)).contiguous()
    return ga.Batch(policy, torch.full_like(policy, old), advantage=advantage)


def weights(sampling: ga.SamplingGeometry, rows: ga.Batch) -> Tensor:
    """What `reweight` multiplies the drives of the rollout with."""
    drive, log_ratio = sampling.drive(rows), (rows.policy - rows.require("old", "a test"))[:, 0]
    return sampling.reweight(drive, log_ratio, rows) / drive


def column(*x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor | list[float]) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=1e-9, atol=1e-12)


# ---- temperatures, scales and caps

HEATED: list[Callable[[float], ga.SamplingGeometry]] = [
    *(
        lambda t, a=alpha, s=scaled: ga.Escort(a, temperature=t, scaled=s)  # type: ignore[misc]
        for alpha in (0.0, 0.4, 1.0)
        for scaled in (False, True)
    ),
    *(lambda t, s=scaled: ga.EscortESS(0.7, temperature=t, scaled=s) for scaled in (False, True)),  # type: ignore[misc]
    lambda t: ga.EscortESS(0.9, temperature=t, within="group"),
    lambda t: ga.ExponentiatedAdvantage(ga.GroupAdvantage(), temperature=t, cap=3.0),
    lambda t: ga.ExponentiatedAdvantage(temperature=t, cap=None),
]


@pytest.mark.parametrize("made", HEATED, ids=lambda made: members.ident(made(1.0)))
@pytest.mark.parametrize("temperature", [0.2, 2.5])
def test_a_temperature_is_a_unit_of_the_reward(
    made: Callable[[float], ga.SamplingGeometry], temperature: float
) -> None:
    """At temperature T rewards are read as r/T."""
    close(made(temperature).drive(batch()), made(1.0).drive(batch(REWARD / temperature)))


@pytest.mark.parametrize("alpha, temperature", [(0.0, 0.5), (0.4, 2.0), (1.0, 0.5), (1.0, 2.0)])
@pytest.mark.parametrize("scaled", [False, True])
def test_escort_by_hand(alpha: float, temperature: float, scaled: bool) -> None:
    expected = []
    for rows in (range(3), range(3, 6)):
        tilted = [math.exp((1 - alpha) * float(REWARD[i]) / temperature) for i in rows]
        mean = sum(float(REWARD[i]) for i in rows) / 3
        for i, weight in zip(rows, tilted):
            plain = weight / (sum(tilted) / 3) - 1
            limit = (float(REWARD[i]) - mean) / temperature
            expected.append((limit if alpha == 1 else plain / (1 - alpha)) if scaled else plain)
    close(ga.Escort(alpha, temperature, scaled=scaled).drive(batch()), expected)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_the_paper_s_factor_is_the_inverse_probability(alpha: float) -> None:
    old = torch.tensor([-1.0, -2.0, -3.0, -1.0, -1.0, -4.0])[:, None]
    rows = ga.Batch(old, old, reward=REWARD, group=GROUP)
    density = torch.exp((1 - alpha) * (REWARD / 2.0 - old[:, 0])).view(2, 3)
    drive = ga.Escort(alpha, 2.0, inverse_probability=True).drive(rows)
    close(drive, (density / density.mean(1, keepdim=True) - 1).flatten())


@pytest.mark.parametrize("temperature", [0.25, 3.0])
def test_the_soft_baseline_is_the_mean_of_exponentials(temperature: float) -> None:
    value = temperature * torch.logsumexp(REWARD.view(2, 3) / temperature, 1) - temperature * math.log(3)
    close(ga.sampling.LogMeanExpBaseline(temperature).drive(batch()), REWARD - value.repeat_interleave(3))


@pytest.mark.parametrize("alpha, scale", [(0.25, 0.5), (1.0, 2.0)])
def test_the_exponential_advantage_by_hand(alpha: float, scale: float) -> None:
    def centred(x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True)

    squashed = centred(scale * torch.tanh(centred(REWARD.view(2, 3)) / scale))
    expected = centred((1 - alpha) * squashed + alpha * squashed * squashed.exp())
    close(ga.sampling.ExponentialAdvantage(alpha, scale=scale).drive(batch()), expected.flatten())


@pytest.mark.parametrize("cap", [0.5, 3.0])
def test_the_cap_of_an_exponential_weight(cap: float) -> None:
    drive = ga.ExponentiatedAdvantage(temperature=0.5, cap=cap).drive(batch())
    close(drive, torch.exp(2 * REWARD).clamp(max=cap))
    assert ga.ExponentiatedAdvantage(temperature=0.5, cap=cap).drive_range.high == cap


@pytest.mark.parametrize("low, high", [(None, 1.3), (0.7, None), (0.7, 1.3), (0.2, 4.0), (0.0, 1.0)])
def test_a_clipped_importance_weight_by_hand(low: float | None, high: float | None) -> None:
    ratio = [0.1, 0.5, 0.9, 1.0, 1.2, 2.0, 9.0]
    expected = [min(max(t, low or 0.0), math.inf if high is None else high) for t in ratio]
    close(weights(ga.ClippedImportance(ga.Advantage(), low, high), moved(*map(math.log, ratio))), expected)


@pytest.mark.parametrize("cap", [0.5, 1.5, 20.0, None])
def test_the_cap_of_an_importance_ratio(cap: float | None) -> None:
    ratio, sampling = [0.1, 1.0, 2.0, 9.0], ga.ImportanceRatio(cap)
    expected = [min(t, math.inf if cap is None else cap) for t in ratio]
    close(weights(sampling, moved(*map(math.log, ratio))), expected)
    assert (sampling.drive_range.low, sampling.drive_range.high) == (0.0, math.inf if cap is None else cap)


@pytest.mark.parametrize("cap", [0.5, 1.5, 4.0])
@pytest.mark.parametrize("sequence", [False, True])
def test_truncated_importance_by_hand(cap: float, sequence: bool) -> None:
    """Of each token, or of the product over the response; masked tokens count in neither."""
    old = torch.tensor([[-1.0, -2.0, -9.0], [-1.0, -3.0, -1.0]])
    behavior = torch.tensor([[-2.0, -1.5, 0.0], [-0.5, -5.0, -1.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rows = ga.Batch(old, old, mask, advantage=torch.tensor([2.0, -3.0]), behavior=behavior)
    log_weight = torch.where(mask, old - behavior, 0)
    expected = torch.exp(log_weight.sum(-1) if sequence else log_weight).clamp(max=cap)
    drive = ga.TruncatedImportance(ga.Advantage(), cap, sequence=sequence).drive(rows)
    close(drive, expected * (torch.tensor([2.0, -3.0]) if sequence else torch.tensor([[2.0], [-3.0]])))


@pytest.mark.parametrize("inner", [ga.ClippedImportance(ga.Advantage(), 0.5, 1.5), ga.sampling.TaperedImportance()])
@pytest.mark.parametrize("sequence", [False, True])
def test_a_weight_of_the_policy_inside_truncated_importance_is_applied(inner: ga.Reweighting, sequence: bool) -> None:
    """CISPO's weight, or TOPR's, on drives that were corrected for the rollout engine: both factors are there."""
    rows = moved(math.log(4.0), math.log(0.1), drive=(1.0, -1.0))
    rows = dataclasses.replace(rows, behavior=rows.old - math.log(1.25))
    outer = ga.TruncatedImportance(inner, 2.0, sequence=sequence)
    assert outer.locality is inner.locality and outer.locality is not ga.Locality.ROLLOUT
    objective = ga.Objective(unit=ga.Token(), sampling=outer, optimization=ga.Flat())
    plain = ga.Objective(unit=ga.Token(), sampling=inner, optimization=ga.Flat())
    close(objective(rows).drive, 1.25 * plain(rows).drive)
    assert plain(rows).drive.flatten().tolist() != [1.0, -1.0]


# ---- bounds that differ on the two sides


def test_a_tapered_weight_has_bounds_for_each_sign() -> None:
    sampling = ga.sampling.TaperedImportance(positive=(0.8, 1.5), negative=(0.1, 3.0))
    steps = [math.log(t) for t in (0.05, 0.5, 1.0, 2.0, 5.0)]
    close(weights(sampling, moved(*steps)), [0.8, 0.8, 1.0, 1.5, 1.5])
    close(weights(sampling, moved(*steps, drive=-1.0)), [0.1, 0.5, 1.0, 2.0, 3.0])


def test_a_gamma_weight_has_a_shape_and_a_rate_for_each_sign() -> None:
    sampling, ratio = (
        ga.sampling.GammaImportance(positive=(1.0, 0.5), negative=(2.0, 4.0)),
        torch.tensor([0.2, 1.0, 3.0]),
    )
    steps = ratio.log().tolist()
    close(weights(sampling, moved(*steps)), ratio * torch.exp(0.5 * (1 - ratio)))
    close(weights(sampling, moved(*steps, drive=-1.0)), ratio**2 * torch.exp(4 * (1 - ratio)))


def test_a_sign_has_its_factor() -> None:
    drive = ga.SignWeighted(ga.Advantage(), positive=2.0, negative=0.25).drive(batch())
    close(drive, torch.where(REWARD > 0, 2.0 * REWARD, 0.25 * REWARD))


@pytest.mark.parametrize("divergence", ["tv", "kl"])
@pytest.mark.parametrize("cap", [1.4, None])
def test_a_mask_has_a_threshold_for_each_side(divergence: str, cap: float | None) -> None:
    """Only what the drive pushes further out is dropped, above `high` where it gains and above `low` where it loses."""
    q, ps = 0.4, (0.05, 0.2, 0.35, 0.45, 0.6, 0.8)

    def size(p: float) -> float:
        if divergence == "tv":
            return abs(p - q)
        return q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))

    low, high = size(0.3), size(0.7)
    assert low < high
    sampling = ga.sampling.DivergenceMask(ga.Advantage(), divergence, low=low, high=high, cap=cap)
    steps = [math.log(p / q) for p in ps]
    for sign in (1.0, -1.0):
        expected = []
        for p in ps:
            out = size(p) > high and p > q if sign > 0 else size(p) > low and p < q
            expected.append(0.0 if out else min(p / q, math.inf if cap is None else cap))
        close(weights(sampling, moved(*steps, drive=sign, old=math.log(q))), expected)


def test_a_clip_has_a_wall_for_each_side() -> None:
    clip, up, down = ga.Clip(0.1, 0.5, dual=4.0), torch.ones(7), -torch.ones(7)
    u = torch.tensor([-0.3, -0.05, 0.3, 0.6, 2.9, 3.1, 9.0])
    close(clip.force(u, up), [-1, -1, -1, 0, 0, 0, 0])
    close(clip.force(u, down), [0, 1, 1, 1, 1, 0, 0])
    close(clip.energy(u, up), [0.3, 0.05, -0.3, -0.5, -0.5, -0.5, -0.5])
    close(clip.energy(u, down), [-0.1, -0.05, 0.3, 0.6, 2.9, 3.0, 3.0])
    close(clip.equilibrium(torch.tensor([-2.0, 0.0, 2.0])), [-0.1, 0.0, 0.5])
    close(clip.conjugate(torch.tensor([-2.0, 0.0, 2.0])), [0.2, 0.0, 1.0])


def test_a_soft_clip_has_a_width_for_each_side() -> None:
    soft, u = ga.optimization.SigmoidClip(positive=2.0, negative=0.5), torch.tensor([-3.0, 0.0, 0.7, 4.0])
    for g, tau in ((1.5, 2.0), (-1.5, 0.5), (0.0, 0.5)):
        drive, gate = torch.full((4,), g), torch.sigmoid(tau * u)
        close(soft.energy(u, drive), -4 * g / tau * gate)
        close(soft.force(u, drive), -4 * g * gate * (1 - gate))


def test_bounds_of_tokens_differ() -> None:
    unit, mask = ga.unit.ClampedTokens(low=-0.1, high=0.3), torch.ones(1, 4, dtype=torch.bool)
    given, cut = torch.tensor([[-1.0, -0.05, 0.2, 1.0]]), torch.tensor([[-0.1, -0.05, 0.2, 0.3]])
    close(unit.reduce(given, mask), unit.of.reduce(cut, mask))
    for low, high, cut in ((-0.1, None, [-0.1, -0.05, 0.2, 1.0]), (None, 0.3, [-1.0, -0.05, 0.2, 0.3])):
        close(ga.unit.ClampedTokens(low=low, high=high).reduce(given, mask), unit.of.reduce(torch.tensor([cut]), mask))


@pytest.mark.parametrize("unit", [ga.Token(), ga.MeanSequence(), ga.unit.ClampedTokens(), ga.unit.BroadcastSequence()])
def test_a_unit_of_tokens_refuses_sums_over_responses(unit: ga.Unit) -> None:
    summed = ga.Batch(torch.zeros(2), torch.zeros(2), advantage=torch.ones(2))
    objective = ga.Objective(unit=unit, sampling=ga.Advantage(), optimization=ga.Flat())
    with pytest.raises(ValueError, match="needs the single tokens"):
        objective(summed)


@pytest.mark.parametrize("geometry", [ga.ReverseKL(0.7), ga.optimization.LogRatioModulated(1.0, 0.5)])
def test_beyond_the_range_of_exponentials_a_potential_is_a_straight_line(geometry: ga.OptimizationGeometry) -> None:
    """The force is the same from there on, so the curvature is zero; the laws draw no coordinate so far out."""
    u, drive = torch.tensor([-2000.0, -1000.0]), torch.zeros(2)
    force = geometry.force(u, drive)
    assert force[0] == force[1] < 0
    close(geometry.curvature(u, drive), [0.0, 0.0])


@pytest.mark.parametrize(
    "unit, per_token",
    [
        (ga.Token(), True),
        (ga.unit.BroadcastSequence(), True),
        (ga.unit.Shifted(ga.Token(), 0.1), True),
        (ga.unit.Shifted(ga.Sequence(), 0.1), False),
        (ga.unit.ClampedTokens(), False),
        (ga.MeanSequence(), False),
        (ga.Pair(), False),
    ],
    ids=members.ident,
)
def test_whose_events_are_tokens(unit: ga.Unit, per_token: bool) -> None:
    sampling = ga.Label() if unit.paired else ga.Advantage()
    assert ga.Objective(unit=unit, sampling=sampling, optimization=ga.ChiSquare()).per_token is per_token


def test_a_unit_is_shifted_by_its_origin_and_by_default_by_nothing() -> None:
    rows = ga.Batch(torch.tensor([[-0.5, -2.0]]), torch.full((1, 2), -1.0), advantage=torch.ones(1))
    for unit, u in ((ga.unit.Shifted(), -0.5), (ga.unit.Shifted(origin=0.25), -0.75)):
        close(ga.Objective(unit=unit, sampling=ga.Advantage(), optimization=ga.ChiSquare())(rows).u, [u])


class Squashed(ga.ResponseUnit):
    """A unit of one's own that is not linear, and states `reduce` alone."""

    linear = False

    def reduce(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return torch.tanh(torch.where(mask, tokens, 0)).sum(-1)


def test_the_adjoint_of_a_unit_that_is_not_linear_is_taken_at_its_tokens() -> None:
    tokens, mask = torch.tensor([[0.5, -1.0, 7.0], [2.0, 0.0, 0.3]]), torch.tensor([[1, 1, 0], [1, 0, 1]]).bool()
    gradient = torch.tensor([1.0, -2.0])
    expected = torch.where(mask, gradient[:, None] * (1 - torch.tanh(tokens) ** 2), 0)
    close(Squashed().spread(gradient, mask, tokens), expected)


@pytest.mark.parametrize("name", ["low", "high"])
def test_a_bound_that_is_no_number_is_named(name: str) -> None:
    for made in (lambda **bound: ga.ClippedImportance(ga.Advantage(), **bound), ga.unit.ClampedTokens, ga.Clip):
        with pytest.raises(ValueError, match=rf"\({name}=nan"):
            made(**{name: math.nan})


def test_a_function_is_tried_inside_its_domain_alone() -> None:
    def inside(u: Tensor) -> Tensor:
        assert bool(((u >= -0.2) & (u <= 0.3)).all())
        return u**2

    assert ga.ConvexPotential(inside, low=-0.2, high=0.3).domain.high == 0.3


# ---- the least of the energy, for every drive


def of_groups(geometry: ga.OptimizationGeometry) -> bool:
    """Whether the coordinates of a group are coupled, so that there is no energy of one of them."""
    return any(issubclass(part, ga.GroupGeometry) for part in parts(geometry))


GAPS = [part for part in members.SLOTS[ga.OptimizationGeometry] if not of_groups(part)]
SIZES = torch.logspace(-6, 4, 400, dtype=torch.float64)
LINE = torch.cat([-SIZES.flip(0), torch.zeros(1, dtype=torch.float64), SIZES])


@pytest.mark.parametrize("geometry", GAPS, ids=members.ident)
@pytest.mark.parametrize("g", [-2.0, -1.0, -0.3, 0.0, 0.2, 0.5, 1.0, 2.0])
def test_the_conjugate_is_the_least_energy(geometry: ga.OptimizationGeometry, g: float) -> None:
    """On a line of coordinates from −1e4 to 1e4 the gap is nowhere negative. Where it is finite its infimum is zero, at
    a finite equilibrium or on the way to an infinite one; where it is not, the energy has no bound."""
    u = LINE.clamp(geometry.domain.low, geometry.domain.high)
    drive = torch.full_like(u, g)
    conjugate = geometry.conjugate(drive[:1])
    energy = geometry.energy(u, drive)
    if not torch.isfinite(conjugate):
        assert float(energy.min()) < -50 or not geometry.conjugate_domain.low <= g <= geometry.conjugate_domain.high
        return
    gap = energy + conjugate
    scale = 1e-9 * float(1 + energy[torch.isfinite(energy)].abs().max().clamp(max=1e3))
    assert float(gap.min()) >= -scale
    least = float(gap.min())
    equilibrium = geometry.equilibrium(drive[:1])
    if bool(torch.isfinite(equilibrium)):
        least = float(geometry.energy(equilibrium, drive[:1]) + conjugate)
    assert abs(least) < 2e-3


# ---- ties


def test_of_several_best_responses_the_first_is_taken() -> None:
    rows = batch(torch.tensor([1.0, 2.0, 2.0, 0.0, 0.0, 0.0]))
    close(ga.BestOfN().drive(rows), [0, 3, 0, 3, 0, 0])
    empty = dataclasses.replace(rows, mask=torch.tensor([1, 0, 1, 1, 1, 1])[:, None].expand(6, 2))
    close(ga.BestOfN().drive(empty), [0, 0, 2.5, 2.5, 0, 0])


def test_a_best_reward_that_is_reached_twice_has_no_drive() -> None:
    rows = batch(torch.tensor([2.0, 2.0, 1.0, 3.0, 1.0, 1.0]))
    close(ga.sampling.MaxAtK().drive(rows), [0, 0, 0, 2, 0, 0])
    spread = float(torch.tensor([3.0, 1.0, 1.0]).std())
    close(ga.sampling.MaxAtK("group", epsilon=0.5).drive(rows), [0, 0, 0, 2 / (spread + 0.5), 0, 0])


def test_a_reward_at_the_threshold_is_no_success() -> None:
    rows = batch(torch.tensor([0.5, 0.6, 0.5, 0.5, 0.5, 0.5]))
    drive = ga.sampling.PassAtK(1).drive(rows)
    assert float(drive[1]) > 0 and bool((drive[[0, 2]] < 0).all()) and bool((drive[3:] == 0).all())
    close(ga.sampling.PassAtK(1, threshold=0.4).drive(rows), [0] * 6)


# ---- the ends of divergences

EVERY = [
    *members.SLOTS[ga.Divergence],
    ga.divergences.SkewJensenShannon(0.1),
    0.5 * ga.TotalVariation() + ga.JensenShannon(),
]
every = pytest.mark.parametrize("divergence", EVERY, ids=repr)


@every
@pytest.mark.parametrize("exchanged", [False, True])
def test_the_range_of_the_mirror_is_where_the_mirror_goes(divergence: ga.Divergence, exchanged: bool) -> None:
    """ψ'(0) and ψ'(∞); and the latter is ψ(0) of the divergence with its arguments exchanged."""
    if exchanged:
        divergence = divergence.reverse
    ends = divergence.coordinate(torch.tensor([-700.0, 700.0])).tolist()
    for end, limit in zip(ends, (divergence.mirror_range.low, divergence.mirror_range.high)):
        assert end == pytest.approx(limit, abs=1e-9) if math.isfinite(limit) else abs(end) > 50
    at_zero = float(divergence.reverse.generator(torch.zeros(())))
    assert at_zero == pytest.approx(divergence.mirror_range.high, rel=1e-9) or at_zero > 1e100


@every
def test_impossible_outcomes(divergence: ga.Divergence) -> None:
    """What neither policy gives adds nothing; what one of them gives alone adds the limit of its term."""
    both = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    never = torch.full((1,), -math.inf)
    close(divergence.value(*(torch.cat([x, never]) for x in both)), divergence.value(*both))
    p, q = torch.tensor([0.4, 0.6, 0.0]), torch.tensor([0.3, 0.5, 0.2])
    t, psi_at_zero = (p / q)[:2], float(divergence.generator(torch.zeros(())))
    common = (q[:2] * divergence.generator(t)).sum()
    torch.testing.assert_close(divergence.value(p.log(), q.log()), common + 0.2 * psi_at_zero, rtol=1e-9, atol=1e-12)
    common = (p[:2] * divergence.generator(1 / t)).sum()
    expected = common + 0.2 * divergence.mirror_range.high
    torch.testing.assert_close(divergence.value(q.log(), p.log()), expected, rtol=1e-9, atol=1e-12)


def test_the_conjugate_beyond_the_range_is_infinite_and_at_its_end_is_not_jumped() -> None:
    for divergence in EVERY:
        high = divergence.mirror_range.high
        if math.isfinite(high):
            assert math.isinf(float(divergence.conjugate(torch.tensor(high + 1e-6))))
            assert math.isfinite(float(divergence.conjugate(torch.tensor(high - 1e-3))))


def test_total_variation_by_hand() -> None:
    tv = ga.TotalVariation()
    close(tv.conjugate(torch.tensor([-2.0, -0.5, 0.25, 0.5])), [-0.5, -0.5, 0.25, 0.5])
    assert math.isinf(float(tv.conjugate(torch.tensor(0.6))))
    close(tv.generator(torch.tensor([0.0, 1.0, 4.0])), [0.5, 0.0, 1.5])
    close(tv.mirror(torch.tensor([0.5, 1.0, 4.0])), [-0.5, 0.0, 0.5])
    close(tv.penalty(torch.tensor([-math.inf, 0.0, math.log(4.0)])), [0.5, 0.0, 1.5])
    assert (tv.mirror_range.low, tv.mirror_range.high) == (-0.5, 0.5) and tv.reverse == tv


@pytest.mark.parametrize("order", [0.3, 0.9, 1.0, 2.0])
@pytest.mark.parametrize("self_normalised", [False, True])
def test_a_standard_error_is_positive(order: float, self_normalised: bool) -> None:
    """Also of an order below one, where the logarithm of the moment is divided by a negative number."""
    log_ratio = torch.randn(5, 40)
    for mask in (None, torch.rand(5, 40) > 0.3):
        found = ga.renyi_estimate(log_ratio, ga.Renyi(order), mask=mask, self_normalised=self_normalised)
        assert bool((found.standard_error > 0).all())


# ---- counts


def test_counts_are_of_all_rows_of_rows_with_tokens_and_of_whole_pairs() -> None:
    mask = torch.tensor([[1, 1], [0, 0], [1, 0]])
    counts = ga.Batch(torch.zeros(3, 2), None, mask).counts()
    assert [int(x) for x in counts.astuple()] == [3, 2, 0, 3]
    assert [int(x) for x in (counts + counts).astuple()] == [6, 4, 0, 6]
    sides = torch.zeros(3, 2)
    of_pairs = ga.PreferenceBatch(sides, sides, chosen_mask=mask, rejected_mask=torch.ones(3, 2)).counts()
    assert [int(x) for x in of_pairs.astuple()] == [9, 5, 2, 6]


def test_where_there_is_no_event_everything_is_zero() -> None:
    mask = torch.tensor([[True, False], [False, False]])
    rows = ga.Batch(torch.full((2, 2), -0.5), torch.full((2, 2), -1.0), mask, advantage=torch.tensor([2.0, 3.0]))
    found = ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), optimization=ga.ChiSquare())(rows)
    for name, value in (("u", 0.5), ("drive", 2.0), ("weights", 1.0)):
        close(getattr(found, name), [[value, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize("zero", [0, 0.0])
def test_a_wall_may_stand_at_the_anchor(zero: float) -> None:
    """Bounds are ≥ 0 or ≤ 0 and may be zero; a bound on the ratio must lie beyond the wall."""
    u, up, down = torch.tensor([-0.1, 0.1]), torch.ones(2), -torch.ones(2)
    close(ga.Clip(low=zero, high=0.2).force(u, down), [0.0, 1.0])
    close(ga.Clip(low=0.2, high=zero).force(u, up), [-1.0, 0.0])
    tokens, mask = torch.tensor([[-1.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool)
    close(ga.unit.ClampedTokens(ga.Sequence(), low=zero).reduce(tokens, mask), [2.0])
    close(ga.unit.ClampedTokens(ga.Sequence(), high=zero).reduce(tokens, mask), [-1.0])
    with pytest.raises(ValueError, match="must exceed 1"):
        ga.Clip(0.2, 0.2, dual=1.2)


# ---- what a unit says of itself

T, S, G, B = Locality.TOKEN, Locality.SEQUENCE, Locality.GROUP, Locality.BATCH
UNITS = [  # locality, paired, per token, linear, needs tokens
    (ga.Token(), T, False, True, True, True),
    (ga.Sequence(), S, False, False, True, False),
    (ga.MeanSequence(), S, False, False, True, True),
    (ga.unit.ClampedTokens(), S, False, False, False, True),
    (ga.unit.ClampedTokens(ga.Sequence(), high=0.1), S, False, False, False, True),
    (ga.unit.BroadcastSequence(), S, False, True, True, True),
    (ga.unit.BroadcastSequence(ga.Sequence()), S, False, True, True, True),
    (ga.unit.Shifted(ga.Token(), 0.1), T, False, True, True, True),
    (ga.unit.Shifted(ga.Sequence(), 0.1), S, False, False, True, False),
    (ga.Pair(), G, True, False, True, False),
    (ga.Pair(ga.MeanSequence(), margin=0.3), G, True, False, True, True),
    (ga.Pair(ga.unit.ClampedTokens()), G, True, False, False, True),
    (ga.unit.Chosen(), S, True, False, True, False),
    (ga.unit.Rejected(ga.MeanSequence()), S, True, False, True, True),
    (ga.PreferenceProbability(), G, True, False, True, False),
    (ga.unit.QuantilePair(), B, True, False, True, False),
    (ga.unit.QuantileMargin(), B, True, False, True, False),
]


@pytest.mark.parametrize("unit, locality, paired, per_token, linear, needs_tokens", UNITS, ids=str)
def test_what_a_unit_says_of_itself(
    unit: ga.Unit, locality: Locality, paired: bool, per_token: bool, linear: bool, needs_tokens: bool
) -> None:
    said = (unit.locality, unit.paired, unit.per_token, unit.linear, unit.needs_tokens)
    assert said == (locality, paired, per_token, linear, needs_tokens)


@pytest.mark.parametrize("unit", [unit for unit, *_ in UNITS], ids=str)
def test_the_events_of_a_unit_are_counted(unit: ga.Unit) -> None:
    """Two of three rows have tokens, five in all; of six responses in pairs the last pair is not whole."""
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 0]]).bool()
    if unit.paired:
        zero = torch.zeros(3, 3)
        counts = ga.PreferenceBatch(zero, zero, chosen_mask=mask, rejected_mask=torch.ones_like(mask)).counts()
        assert [int(x) for x in unit.events(counts)] == [2, 2]
        assert unit.support(torch.cat([mask, torch.ones_like(mask)])).tolist() == [True, True, False]
    else:
        counts = ga.Batch(torch.zeros(3, 3), None, mask).counts()
        assert [int(x) for x in unit.events(counts)] == ([5, 2] if unit.per_token else [2, 2])
        assert torch.equal(unit.support(mask), mask if unit.per_token else torch.tensor([True, True, False]))


@pytest.mark.parametrize("unit, event", [(ga.unit.Chosen(), [1.0, -2.0]), (ga.unit.Rejected(), [0.5, 4.0])])
def test_a_side_of_a_pair_is_seen_and_moved_alone(unit: ga.Unit, event: list[float]) -> None:
    u, gradient = torch.tensor([1.0, -2.0, 0.5, 4.0]), torch.tensor([3.0, 5.0])
    close(unit.combine(u), event)
    close(unit.split(gradient, u), [3.0, 5.0, 0.0, 0.0] if event[0] == 1.0 else [0.0, 0.0, 3.0, 5.0])


def test_responses_of_equal_rank_are_compared_and_a_broken_pair_has_none() -> None:
    u, gradient = torch.tensor([5.0, 1.0, 3.0, 0.0, 2.0, -1.0]), torch.tensor([1.0, 2.0, 4.0])
    close(ga.unit.QuantilePair().combine(u), [5.0 - 2.0, 1.0 + 1.0, 3.0 - 0.0])
    close(ga.unit.QuantilePair().split(gradient, u), [1.0, 2.0, 4.0, -4.0, -1.0, -2.0])
    mask = torch.tensor([[1, 1], [1, 0], [1, 1], [1, 1], [1, 1], [0, 0]]).bool()
    close(ga.unit.QuantilePair().reduce(torch.ones(6, 2), mask), [2.0, 2.0, math.inf, 2.0, 2.0, math.inf])
    whole = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    close(ga.unit.QuantilePair().spread(torch.ones(6), mask), whole)


# ---- pairs


@pytest.mark.parametrize("name", ["policy_weight", "margins"])
def test_pairs_are_told_apart(name: str) -> None:
    """Chosen and rejected enter in their own places."""
    pairs = laws.sample_pairs(4, 3)
    if name == "policy_weight":
        sampling = ga.sampling.PolicyWeight()
        rows = pairs.rows
        mean = (rows.log_probs("policy", "a test").sum(-1) / rows.support.sum(-1).clamp(min=1)).view(2, 4)
        drive = sampling.reweight(torch.ones(4), torch.zeros(4), pairs)
        torch.testing.assert_close(drive, mean.sum(0).exp().detach())
    else:
        margin = torch.tensor([1.0, -2.0, 0.5, 0.0])
        rows = dataclasses.replace(pairs, margin=margin)
        close(ga.Margin(0.5).drive(rows), 0.5 * margin)
        close(ga.SoftLabel(-0.4, 3.0).drive(rows), -0.4 * torch.sigmoid(3 * margin))
        assert (ga.SoftLabel(-0.4).drive_range.low, ga.SoftLabel(-0.4).drive_range.high) == (-0.4, 0.0)


def test_pairs_without_a_margin_are_told_what_they_lack() -> None:
    pairs = laws.sample_pairs(2, 2)
    bare = dataclasses.replace(pairs, margin=None)
    with pytest.raises(ValueError, match=r"Margin needs `margin`.*Pass the difference of the two responses' rewards"):
        ga.Margin().drive(bare)
    with pytest.raises(ValueError, match=r"GroupAdvantage needs `reward`.*Use sampling=Label\(\)"):
        ga.GroupAdvantage().drive(bare)


def test_objectives_counts_and_nothing_else_can_be_summed() -> None:
    one, two = ga.recipes.opo(), ga.recipes.mirror_descent()
    assert sum([one, two]) == one + two
    counts = batch().counts()
    assert [int(x) for x in sum([counts, counts]).astuple()] == [2 * int(x) for x in counts.astuple()]  # type: ignore[union-attr]
    for part in (one, one + two, counts):
        with pytest.raises(TypeError, match="unsupported operand"):
            1 + part
