"""Drives and weights of the sampling slot by hand: metrics of disagreement, weights that are solved or measured,
baselines, selections, targets and trust regions, each away from its defaults and at its edges."""

from __future__ import annotations

import math

import pytest
import torch
from test_slot_values import close, column
from torch import Tensor

import geomalign as ga
from geomalign import sampling
from geomalign.sampling.mask import binary_kl

GROUPS = torch.tensor([0, 0, 1, 1])
A = ga.Advantage()


def rows(*reward: float, mask: list[list[int]] | None = None, **fields: Tensor) -> ga.Batch:
    """Two groups of two responses of two tokens."""
    zero = torch.zeros(4, 2)
    kept = torch.ones(4, 2) if mask is None else torch.tensor(mask)
    return ga.Batch(zero, zero, kept, reward=column(*reward), group=GROUPS, **fields)


# ---- metrics of disagreement

P, Q = (-0.5, -2.0), (-1.0, -1.25)  # log-probabilities of two tokens under the numerator and the denominator


def kl_of_one(p: float, q: float) -> float:
    """KL of the event {this token, any other}, q from p."""
    return q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))


def both_ways(log_p: float, log_q: float) -> float:
    p, q = math.exp(log_p), math.exp(log_q)
    return max(kl_of_one(p, q), kl_of_one(q, p))


METRICS = {  # metric -> of the two tokens, of the response
    "ratio": ((math.exp(0.5), math.exp(-0.75)), math.exp(-0.25)),
    "k1": ((-0.5, 0.75), 0.125),
    "k2": ((0.125, 0.28125), 0.203125),
    "k3": ((math.exp(0.5) - 1.5, math.exp(-0.75) - 0.25), (math.exp(0.5) + math.exp(-0.75) - 1.75) / 2),
    "tv": (
        (math.exp(-0.5) - math.exp(-1.0), math.exp(-2.0) - math.exp(-1.25)),
        (math.exp(-0.5) - math.exp(-1.0) + math.exp(-1.25) - math.exp(-2.0)) / 2,
    ),
    "binary_kl": ((both_ways(-0.5, -1.0), both_ways(-2.0, -1.25)), (both_ways(-0.5, -1) + both_ways(-2, -1.25)) / 2),
}


def disagreeing(**fields: Tensor) -> ga.Batch:
    """One response of the two tokens, and a third that is masked and disagrees most."""
    p, q = torch.tensor([[*P, -9.0]]), torch.tensor([[*Q, -0.1]])
    mask, one = torch.tensor([[1, 1, 0]]), torch.ones(1)
    given: dict[str, Tensor] = {"old": p, "behavior": q, "policy": torch.full_like(p, -3.0), "advantage": one, **fields}
    return ga.Batch(given["policy"], given["old"], mask, advantage=given["advantage"], behavior=given["behavior"])


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_of_disagreement_by_hand(metric: str) -> None:
    """What is dropped just below and kept just above its value is measured as that value, from both sides."""
    tokens, response = METRICS[metric]
    for at, value in enumerate(tokens):
        for bound, step in (("high", 1e-9), ("low", -1e-9)):
            kept, dropped = (
                ga.MaskedImportance(metric=metric, importance="none", **{bound: value + x}).drive(disagreeing())  # type: ignore[arg-type]
                for x in (step, -step)
            )
            assert (float(kept[0, at]), float(dropped[0, at])) == (1.0, 0.0)
    for level, high, low in (("sequence", response, response), ("max", max(tokens), min(tokens))):
        for bound, value, step in (("high", high, 1e-9), ("low", low, -1e-9)):
            kept, dropped = (
                ga.MaskedImportance(level=level, metric=metric, importance="none", **{bound: value + x}).drive(  # type: ignore[arg-type]
                    disagreeing()
                )
                for x in (step, -step)
            )
            assert kept.tolist() == [1.0] and dropped.tolist() == [0.0]


def test_a_metric_at_its_bound_is_kept() -> None:
    for metric, low, high in (("k1", -0.5, 0.75), ("k2", 0.125, 0.28125)):
        close(ga.MaskedImportance(metric=metric, low=low, importance="none").drive(disagreeing())[0, :2], [1.0, 1.0])
        close(ga.MaskedImportance(metric=metric, high=high, importance="none").drive(disagreeing())[0, :2], [1.0, 1.0])


@pytest.mark.parametrize(
    "importance, level, weight",
    [
        ("none", "token", [[1.0, 1.0]]),
        ("token", "token", [[math.exp(0.5), math.exp(-0.75)]]),
        ("sequence", "token", [[math.exp(-0.25), math.exp(-0.25)]]),
        ("none", "sequence", [1.0]),
        ("none", "max", [1.0]),
        ("sequence", "max", [math.exp(-0.25)]),
        ("token", "sequence", [[math.exp(0.5), math.exp(-0.75)]]),
        ("token", "max", [[math.exp(0.5), math.exp(-0.75)]]),
    ],
)
def test_an_importance_and_its_shape(importance: str, level: str, weight: list[float] | list[list[float]]) -> None:
    found = ga.MaskedImportance(high=9.0, level=level, importance=importance).drive(disagreeing())
    close(found[:, :2] if found.ndim == 2 else found, torch.tensor(weight))


def test_the_policies_that_are_compared() -> None:
    batch, one = disagreeing(), torch.ones(1)
    old = ga.MaskedImportance(high=99.0, level="max", importance="sequence")
    close(old.drive(batch), [math.exp(-0.25)])
    assert old.reweight(one, one, batch) is one
    for denominator, log_weight in (("behavior", -6 + 2.25), ("old", -6 + 2.5)):
        of = ga.MaskedImportance(
            high=99.0, level="max", importance="sequence", numerator="policy", denominator=denominator
        )
        close(of.drive(batch), [1.0])
        close(of.reweight(2 * one, one, batch), [2 * math.exp(log_weight)])
    summed = ga.Batch(column(-3.0), column(-2.5), advantage=one, behavior=column(-2.25))
    close(ga.MaskedImportance(high=2.0).drive(summed), [math.exp(-0.25)])


@pytest.mark.parametrize(
    "sign_aware, good, poor",
    [
        ("no", [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]),
        ("negative", [1.0, 1.0, 1.0], [0.0, -1.0, 0.0]),
        ("outward", [1.0, 1.0, 0.0], [0.0, -1.0, -1.0]),
    ],
)
@pytest.mark.parametrize("metric", ["ratio", "k1", "tv"])
def test_whose_drive_is_judged(metric: str, sign_aware: str, good: list[float], poor: list[float]) -> None:
    """Tokens that became less likely, stayed, and became more likely; outward is a good one that became more so."""
    q = torch.full((1, 3), -2.0)
    p = q + torch.tensor([[-1.0, 0.0, 1.0]])
    low, high = {"ratio": (0.5, 2.0), "k1": (-0.5, 0.5), "tv": (-0.05, 0.1)}[metric]
    of = ga.MaskedImportance(low=low, high=high, metric=metric, sign_aware=sign_aware, importance="none")
    for sign, expected in ((1.0, good), (-1.0, poor)):
        close(of.drive(ga.Batch(p, p, advantage=torch.full((1,), sign), behavior=q)), [expected])


def test_the_divergence_of_one_event_by_hand() -> None:
    p, q = column(0.25, 0.5, 1.0, 0.5), column(0.5, 0.25, 0.5, 1.0)
    found = binary_kl(p.log(), q.log())
    close(found[:2], [kl_of_one(0.25, 0.5), kl_of_one(0.5, 0.25)])
    assert float(found[2]) > 300, "the other tokens have become impossible"
    close(found[3:], [math.log(2)])


@pytest.mark.parametrize(
    "threshold, kept", [(0.0625, [1, 1, 0]), (0.0624, [1, 0, 0]), (0.4, [1, 1, 0]), (0.5, [1, 1, 1])]
)
def test_the_tokens_that_move_most_are_dropped_until_the_mean_square_is_met(threshold: float, kept: list[int]) -> None:
    """Squares 0.0001, 0.1249 and 1.375 of log t, whose means are 0.0001, 0.0625 and 0.5."""
    log_t = torch.tensor([[0.01, -math.sqrt(0.1249), math.sqrt(1.375), 5.0]])
    behavior, mask = torch.full((1, 4), -7.0), torch.tensor([[1, 1, 1, 0]])
    batch = ga.Batch(behavior, behavior + log_t, mask, advantage=column(2.0), behavior=behavior)
    expected = torch.tensor([[*kept, 0.0]])
    threshold += 1e-12
    close(sampling.SecondMomentMask(threshold=threshold, importance="none").drive(batch), 2 * expected)
    weight = log_t.exp()
    close(sampling.SecondMomentMask(threshold=threshold).drive(batch), 2 * expected * weight)
    product = float(weight[0, :3].prod())
    close(sampling.SecondMomentMask(A, threshold, "sequence").drive(batch), 2 * expected * product)


def test_at_the_threshold_itself_a_token_stays_and_rows_without_a_verdict_do_not_count() -> None:
    behavior = torch.full((2, 1), -3.0)
    batch = ga.Batch(
        behavior, behavior + torch.tensor([[0.25], [9.0]]), advantage=column(1, math.nan), behavior=behavior
    )
    of = sampling.SecondMomentMask(threshold=0.0625, importance="none")
    assert of.drive(batch)[0].tolist() == [1.0]
    per_token = ga.Batch(behavior, batch.old, advantage=torch.full((2, 1), 3.0), behavior=behavior)
    close(of.drive(per_token), [[3.0], [0.0]])


# ---- shares, caps and the baseline of weights


def weighed(*weights: list[float], **fields: Tensor) -> ga.Batch:
    """Responses whose tokens have these ratios π_old/π_behavior, and twice that of the policy."""
    log_weight = torch.tensor(weights).log()
    behavior = torch.full_like(log_weight, -9.0)
    old = behavior + log_weight
    return ga.Batch(old + math.log(2), old, behavior=behavior, **fields)


def test_the_effective_share_by_hand() -> None:
    batch = weighed([1.0, 2.0], [3.0, 2.0], reward=column(0.0, 1.0))  # of responses 2 and 6, of tokens 1, 2, 3, 2
    close(sampling.effective_share(batch), torch.tensor(64 / (2 * 40)))
    close(sampling.effective_share(batch, sequence=False), torch.tensor(64 / (4 * 18)))
    one = weighed([1.0, 2.0], [3.0, 2.0], mask=torch.tensor([[1, 1], [0, 1]]), reward=column(0.0, 1.0))
    close(sampling.effective_share(one), torch.tensor(1.0))
    close(sampling.effective_share(one, sequence=False), torch.tensor(25 / 27))
    close(sampling.effective_share(one, sequence=False, numerator="policy"), torch.tensor(25 / 27))
    assert one.old is not None
    shifted = ga.Batch(
        one.policy + torch.tensor([[0.0, math.log(4)], [0.0, 0.0]]), one.old, one.mask, behavior=one.behavior
    )
    close(
        sampling.effective_share(shifted, sequence=False, numerator="policy"), torch.tensor(11**2 / (3 * (1 + 64 + 4)))
    )
    close(sampling.effective_share(shifted, sequence=False), torch.tensor(25 / 27))
    unjudged = weighed([1.0], [3.0], reward=column(1.0, math.nan))
    close(sampling.effective_share(unjudged), torch.tensor(1.0))
    close(sampling.effective_share(weighed([1.0], reward=column(math.nan))), torch.tensor(1.0))
    assert sampling.effective_share(ga.Batch(torch.zeros(0, 1), torch.zeros(0, 1), behavior=torch.zeros(0, 1))) == 1


@pytest.mark.parametrize("sequence", [False, True])
def test_a_cap_that_is_solved_by_hand(sequence: bool) -> None:
    """Of the weights 1, 1, 1 and 9 under the cap c the share is (3 + c)²/(4(3 + c²)): it is 0.8 at c = 3.2686."""
    tokens = [[1.0], [1.0], [1.0], [9.0]]
    batch = weighed(*tokens, advantage=column(1.0, -1.0, 2.0, 3.0))
    of = sampling.EffectiveImportance(A, 0.8, sequence=sequence)
    cap = float(of.log_cap(batch).exp())
    assert (3 + cap) ** 2 / (4 * (3 + cap**2)) == pytest.approx(0.8, rel=1e-9) and 1 < cap < 9
    found = of.drive(batch)
    torch.testing.assert_close(found, column(1.0, -1.0, 2.0, 3 * cap))
    free = sampling.EffectiveImportance(A, 0.2, sequence=sequence)
    close(free.log_cap(batch), torch.tensor(math.log(9)))
    close(free.drive(batch), [1.0, -1.0, 2.0, 27.0])


def test_a_weight_meets_drives_of_responses_and_of_tokens() -> None:
    batch = weighed([1.0, 2.0], [2.0, 1.0], advantage=column(1.0, -3.0))
    close(sampling.EffectiveImportance(A, 0.1).drive(batch), [[1.0, 2.0], [-6.0, -3.0]])
    close(sampling.EffectiveImportance(A, 0.1, sequence=True).drive(batch), [2.0, -6.0])
    per_token = weighed([1.0, 2.0], [2.0, 1.0], advantage=torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    close(sampling.EffectiveImportance(A, 0.1).drive(per_token), [[1.0, 4.0], [6.0, 4.0]])
    close(sampling.EffectiveImportance(A, 0.1, sequence=True).drive(per_token), [[2.0, 4.0], [6.0, 8.0]])


def test_a_share_that_is_the_target_itself_truncates_nothing() -> None:
    batch = weighed([1.0], [3.0], advantage=column(1.0, 1.0))  # (1 + 3)²/(2·10) = 0.8
    close(sampling.EffectiveImportance(A, 0.8).drive(batch), [1.0, 3.0])


def test_the_baseline_of_least_variance_by_hand() -> None:
    """Weighted by w²|y|: 4·2 and 1·1 in the first group, of which a third row without tokens is no part."""
    mask = torch.tensor([[1, 1], [1, 0], [0, 0], [1, 1]])
    batch = weighed([1.0, 2.0], [1.0, 9.0], [5.0, 5.0], [3.0, 3.0], mask=mask, reward=column(3.0, 0.0, 7.0, 5.0))
    batch = ga.Batch(
        batch.policy, batch.old, mask, reward=batch.reward, behavior=batch.behavior, group=torch.tensor([0, 0, 0, 1])
    )
    close(sampling.OffPolicyBaseline().drive(batch), [3 - 8 / 3, -8 / 3, 0.0, 0.0])


def test_the_mass_that_a_filter_kept_is_put_back() -> None:
    behavior = torch.tensor([[-0.5, -1.0]])
    close(sampling.unfiltered(behavior, torch.tensor([[0.5, 1.0]])), [[-0.5 - math.log(2), -1.0]])


# ---- baselines and scales of groups


@pytest.mark.parametrize(
    "baseline, expected",
    [
        ("none", [4.0, 0.0, 1.0, 1.0]),
        ("group", [2.0, -2.0, 0.0, 0.0]),
        ("leave_one_out", [4.0, -4.0, 0.0, 0.0]),
        ("batch", [2.5, -1.5, -0.5, -0.5]),
    ],
)
@pytest.mark.parametrize("ddof", [0, 1])
def test_a_baseline_and_a_scale_by_hand(baseline: str, expected: list[float], ddof: int) -> None:
    batch = rows(4, 0, 1, 1)
    close(ga.GroupAdvantage(baseline).drive(batch), expected)
    spread = math.sqrt(8 / (2 - ddof))
    within = [x / (spread + 0.5) for x in expected[:2]] + [0.0, 0.0]
    close(ga.GroupAdvantage(baseline, "group", ddof, 0.5).drive(batch), within)
    mean = sum(expected) / 4
    deviation = math.sqrt(sum((x - mean) ** 2 for x in expected) / (4 - ddof))
    close(ga.GroupAdvantage(baseline, "batch", ddof, 0.5).drive(batch), [x / (deviation + 0.5) for x in expected])


def test_a_group_of_one_and_a_row_without_a_verdict_have_no_drive() -> None:
    batch = ga.Batch(torch.zeros(3, 1), None, reward=column(2.0, 1.0, math.nan), group=torch.tensor([0, 1, 1]))
    for baseline in ("group", "leave_one_out"):
        for scale in ("none", "group"):
            close(ga.GroupAdvantage(baseline, scale, epsilon=0.0).drive(batch), [0.0, 0.0, 0.0])
    close(ga.GroupAdvantage("none").drive(batch), [2.0, 1.0, 0.0])
    close(ga.Advantage().drive(batch), [2.0, 1.0, 0.0])
    close(sampling.LengthWeightedBaseline().drive(batch), [0.0, 0.0, 0.0])
    close(sampling.LogMeanExpBaseline().drive(batch), [0.0, 0.0, 0.0])
    for of in (sampling.MaxAtK(), sampling.PassAtK(1), sampling.GroupTarget(), sampling.SignLabel(mixed=True)):
        close(of.drive(batch), [0.0, 0.0, 0.0])
    close(sampling.SignLabel().drive(batch), [1.0, 1.0, 0.0])
    close(ga.BestOfN().drive(batch), [1.0, 1.0, 0.0])


def test_an_advantage_goes_before_a_reward_and_has_its_own_mask() -> None:
    batch = rows(1, 2, 3, 4, advantage=column(5, 6, math.nan, 8))
    close(ga.Advantage().drive(batch), [5.0, 6.0, 0.0, 8.0])
    mask = [[1, 1], [1, 0], [0, 0], [1, 1]]
    per_token = rows(1, 2, 3, 4, mask=mask, advantage=torch.arange(8.0).view(4, 2))
    close(ga.Advantage().drive(per_token), [[0, 1], [2, 0], [0, 0], [6, 7]])
    close(ga.ExponentiatedAdvantage(cap=None).drive(per_token)[1:3], [[math.exp(2), 0.0], [0.0, 0.0]])


def test_a_mean_by_lengths_by_hand() -> None:
    batch = rows(3, 0, 1, 5, mask=[[1, 1], [1, 0], [0, 0], [1, 1]])
    close(sampling.LengthWeightedBaseline().drive(batch), [1.0, -2.0, 0.0, 0.0])


def test_a_share_of_a_mean_that_is_not_positive_is_zero() -> None:
    close(sampling.RelativeAdvantage(0.0).drive(rows(1, -1, 3, 1)), [0.0, 0.0, 0.5, -0.5])
    close(sampling.RelativeAdvantage(1.0).drive(rows(-1, -3, 3, 1)), [0.0, 0.0, 1 / 3, -1 / 3])


def test_rewards_that_are_normalised_by_themselves() -> None:
    batch = ga.Batch(torch.zeros(2, 1), None, rewards=torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    spread = [math.sqrt(2), math.sqrt(0.5)]
    for weights, (a, b) in ((None, (1.0, 1.0)), ((1.0, 3.0), (1.0, 3.0)), ((-2.0, 0.0), (-2.0, 0.0))):
        expected = a / (spread[0] + 0.5) - b * 0.5 / (spread[1] + 0.5)
        close(sampling.DecoupledAdvantage(weights, epsilon=0.5).drive(batch), [expected, -expected])
    with pytest.raises(ValueError, match=r"^DecoupledAdvantage\(weights=\(1.0,\)\): the batch has 2 rewards per resp"):
        sampling.DecoupledAdvantage((1.0,)).drive(batch)
    with pytest.raises(ValueError, match=r"the batch has 1 rewards per response"):
        sampling.DecoupledAdvantage((1.0, 2.0)).drive(rows(1, 2, 3, 4))


def test_tokens_are_whitened_by_length() -> None:
    """Of 4, 0, 1 and 1 with 2, 1, 0 and 1 tokens: the values 4, 4, 0, 1 have the mean 9/4."""
    mask = [[1, 1], [1, 0], [0, 0], [1, 0]]
    values, mean = [4.0, 4.0, 0.0, 1.0], 2.25
    for ddof in (0, 1):
        variance = sum((x - mean) ** 2 for x in values) / (4 - ddof)
        white = [(x - mean) / math.sqrt(variance + 0.5) for x in (4.0, 0.0, 1.0)]
        found = ga.Whitened(ddof=ddof, epsilon=0.5).drive(rows(4, 0, 9, 1, mask=mask))
        close(found, [white[0], white[1], 0.0, white[2]])
        tokens = torch.tensor([[4.0, 4.0], [0.0, 9.0], [9.0, 9.0], [1.0, 9.0]])
        found = ga.Whitened(ddof=ddof, epsilon=0.5).drive(rows(0, 0, 0, 0, mask=mask, advantage=tokens))
        close(found, [[white[0]] * 2, [white[1], 0.0], [0.0, 0.0], [white[2], 0.0]])
    close(ga.Whitened(epsilon=0.0).drive(rows(2, 2, 2, 2)), [0.0] * 4)
    assert ga.Whitened(epsilon=0.0).drive(ga.Batch(torch.zeros(1, 1), None, reward=column(3.0))).tolist() == [0.0]


def test_groups_without_a_drive_make_the_others_larger() -> None:
    close(sampling.SignalScale().drive(rows(1, 0, 2, 2)), [1.0, -1.0, 0.0, 0.0])
    close(sampling.SignalScale().drive(rows(1, 0, 2, 4)), [0.5, -0.5, -1.0, 1.0])
    close(sampling.SignalScale(A).drive(rows(0, 0, 0, -3, mask=[[1, 1], [1, 1], [0, 0], [1, 1]])), [0, 0, 0, -9])
    tokens = torch.tensor([[1.0, -1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    close(sampling.SignalScale(A).drive(rows(0, 0, 0, 0, advantage=tokens)), 2 * tokens)
    close(sampling.SignalScale().drive(rows(1, 1, 2, 2)), [0.0] * 4)


def test_a_squared_hinge_on_the_divergence_of_the_batch() -> None:
    """K = −mean Δ over tokens that exist, 0.25 of the three here; below the limit nothing pulls."""
    log_ratio, one = torch.tensor([[-0.25, -0.5], [0.0, -9.0]]), torch.ones(2, 2)
    batch = ga.Batch(log_ratio - 1, torch.full((2, 2), -1.0), torch.tensor([[1, 1], [1, 0]]))
    of = sampling.KLViolation(limit=0.125, stiffness=4.0)
    close(of.drive(batch), [1.0, 1.0])
    close(of.reweight(2 * one, log_ratio, batch), torch.full((2, 2), 1.0))
    close(of.reweight(one, -log_ratio, batch), torch.zeros(2, 2))
    assert sampling.KLViolation(limit=0.25).reweight(one, log_ratio, batch).tolist() == [[0.0, 0.0]] * 2
    close(of.reweight(torch.ones(2), column(-0.5, -0.75), batch), [2.0, 2.0])
    half = ga.Batch(torch.zeros(2, 1), None, torch.tensor([[1], [0]]))
    close(of.reweight(torch.ones(2), column(-0.5, -9.0), half), [1.5, 1.5])
    pairs = ga.PreferenceBatch(torch.zeros(3, 1), torch.zeros(3, 1))
    close(of.drive(pairs), [1.0] * 3)


# ---- selections


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_the_best_of_k_draws_by_hand(k: int) -> None:
    """One success among four: R̄ = k/4, and a failure is judged by the draws that hold it."""
    batch = ga.Batch(torch.zeros(4, 1), None, reward=column(1.0, 0.0, 0.0, 0.0))
    rate = k / 4
    if k >= 4:
        close(sampling.PassAtK(k).drive(batch), [0.0] * 4)
        return
    sigma, mine = math.sqrt(rate * (1 - rate)), math.comb(2, k - 1) / math.comb(3, k - 1)
    close(sampling.PassAtK(k).drive(batch), [(1 - rate) / sigma, *[(1 - rate - mine) / sigma] * 3])


def test_the_gain_of_the_best_over_the_second_by_hand() -> None:
    batch = rows(5, 3, 2, 2)
    close(sampling.MaxAtK().drive(batch), [2.0, 0.0, 0.0, 0.0])
    close(sampling.MaxAtK("group", epsilon=0.0).drive(batch), [math.sqrt(2), 0.0, 0.0, 0.0])
    unbiased = ga.Batch(torch.zeros(3, 1), None, reward=column(3.0, 0.0, 0.0))
    close(sampling.MaxAtK("group", epsilon=0.5).drive(unbiased), [3 / (math.sqrt(3) + 0.5), 0.0, 0.0])
    close(ga.BestOfN().drive(rows(0, 3, 2, 2)), [0.0, 2.0, 2.0, 0.0])


def test_escort_weights_by_hand() -> None:
    """Two rewards that differ by 2: with α = ½ the weights are those of a difference of 1."""
    batch, up = rows(2, 0, 1, 1), math.tanh(0.5)
    close(ga.Escort(0.5).drive(batch), [up, -up, 0.0, 0.0])
    close(ga.Escort(0.5, scaled=True).drive(batch), [2 * up, -2 * up, 0.0, 0.0])
    close(ga.Escort(0.5, 0.5).drive(batch), [math.tanh(1), -math.tanh(1), 0.0, 0.0])
    close(ga.Escort(1.0, 0.5, scaled=True).drive(batch), [2.0, -2.0, 0.0, 0.0])
    close(ga.Escort(1.0).drive(batch), [0.0] * 4)
    close(ga.Escort(0.5).log_weight(batch), [math.log1p(up), math.log1p(-up), 0.0, 0.0])
    close(ga.ExponentiatedAdvantage(A, 0.5, 9.0).drive(batch), [9.0, 1.0, math.exp(2), math.exp(2)])
    close(ga.ExponentiatedAdvantage(A, 4.0, None).drive(batch)[:2], [math.exp(0.5), 1.0])
    value = 0.5 * math.log((math.exp(4) + 1) / 2)
    close(sampling.LogMeanExpBaseline(0.5).drive(batch), [2 - value, -value, 0.0, 0.0])
    x = 2 * math.tanh(0.5)
    mixed = x * (0.75 + 0.25 * math.cosh(x))
    close(sampling.ExponentialAdvantage(0.25, A, 2.0).drive(rows(1, -1, 2, 2)), [mixed, -mixed, 0.0, 0.0])


def test_a_ring_and_what_keeps_its_pull_by_hand() -> None:
    """Ratios of ¼, 1 and 4 between walls at ½ and 2, with the weight t."""
    steps, old = torch.tensor([[0.25, 1.0, 4.0]]).log(), torch.full((1, 3), -9.0)
    batch, up = ga.Batch(old + steps, old), torch.ones(1, 3)
    ring = sampling.RingMask(A, 0.5, 1.0, 0.5, 2.0, importance=True)
    close(ring.weight(up, steps, batch), [[0.25, 1.0, 0.0]])
    close(ring.weight(-up, steps, batch), [[0.0, 1.0, 4.0]])
    close(ring.weight(0 * up, steps, batch), [[0.0, 1.0, 0.0]])
    kept = sampling.GradientPreservingClip(A, 0.5, 1.0, 0.5, 0.25)
    close(kept.weight(up, steps, batch), [[0.25, 1.0, 0.5]])
    close(kept.weight(-up, steps, batch), [[0.25, 1.0, 4.0]])
    close(kept.weight(0 * up, steps, batch), [[0.25, 1.0, 4.0]])
    flipped = sampling.FlippedImportance(A, 0.5, 1.0, 3.0)
    close(flipped.weight(up, steps, batch), [[3.0, 1.0, 0.0]])
    close(flipped.weight(-up, steps, batch), [[0.0, 1.0, 3.0]])


def test_truncated_weights_by_hand() -> None:
    batch = weighed([1.0, 2.0], [4.0, 0.5], advantage=column(1.0, -2.0))
    close(ga.TruncatedImportance(A, 3.0).drive(batch), [[1.0, 2.0], [-6.0, -1.0]])
    close(ga.TruncatedImportance(A, 1.5, sequence=True).drive(batch), [1.5, -3.0])
    per_token = weighed([1.0, 2.0], [4.0, 0.5], advantage=torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    close(ga.TruncatedImportance(A, 3.0).drive(per_token), [[1.0, 4.0], [9.0, 2.0]])
    summed = ga.Batch(column(-3.0), column(-3.0), advantage=column(2.0), behavior=column(-3.0 - math.log(2)))
    close(ga.TruncatedImportance(A, 3.0).drive(summed), [4.0])


def test_a_group_smaller_than_a_draw_or_of_one_kind_has_no_drive() -> None:
    batch = rows(1, 0, 1, 1)
    close(sampling.PassAtK(2).drive(batch), [0.0] * 4)
    close(sampling.PassAtK(3).drive(batch), [0.0] * 4)
    close(sampling.PassAtK(1).drive(batch), [1.0, -1.0, 0.0, 0.0])


# ---- targets


def test_a_target_by_hand() -> None:
    batch = rows(2, 0, 1, 1)
    share = 2 / (1 + math.exp(-2 / 0.5)) - 1
    close(sampling.GroupTarget(temperature=0.5).drive(batch), [share, -share, 0.0, 0.0])
    sparse = sampling.GroupTarget(divergence=ga.PearsonChiSquare(), temperature=4.0)
    close(sparse.drive(batch), [0.25, -0.25, 0.0, 0.0])
    old = torch.tensor([[-1.0, -2.0], [-1.0, -9.0], [-1.0, -1.0], [-2.0, -1.0]])
    with_prior = ga.Batch(old, old, torch.tensor([[1, 1], [1, 0], [1, 1], [1, 1]]), reward=batch.reward, group=GROUPS)
    for prior, (first, second) in (("sum", (-3.0 + 1.0, -2.0 + 3.0)), ("mean", (-1.5 + 1.0, -1.0 + 1.5))):
        found = sampling.GroupTarget(prior=prior).drive(with_prior)
        a, b = math.tanh((2 + first) / 2), math.tanh(second / 2)
        close(found, [a, -a, b, -b])
    close(sampling.GroupTarget(prior="sum").drive(ga.Batch(old, old, torch.tensor([[1, 1], [0, 0], [1, 1], [0, 0]]),
                                                           reward=batch.reward, group=GROUPS)), [0.0] * 4)  # fmt: skip


def test_verdicts_by_hand() -> None:
    batch = rows(1, 0, 1, 2)
    close(sampling.SignLabel().drive(batch), [1.0, -1.0, 1.0, 1.0])
    close(sampling.SignLabel(mixed=True).drive(batch), [1.0, -1.0, 0.0, 0.0])
    close(sampling.SignLabel(ga.GroupAdvantage()).drive(batch), [1.0, -1.0, -1.0, 1.0])


def test_a_teacher_by_hand() -> None:
    old, teacher, step = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-0.5, -4.0]]), torch.tensor([[0.25, -0.5]])
    batch = ga.Batch(old + step, old, reference=teacher)
    for current, expected in ((False, [[0.5, -2.0]]), (True, [[0.25, -1.5]])):
        of = sampling.TeacherRatio(current=current)
        close(of.reweight(of.drive(batch), step, batch), expected)


def test_the_nearest_density_by_hand() -> None:
    batch = ga.Batch(torch.zeros(3, 1), None, advantage=column(3.0, 0.0, -3.0))
    close(ga.BoundedProjection(A, 2.0).drive(batch), [2.5, -0.5, -2.0])
    close(ga.BoundedProjection(A, 9.0).drive(batch), [3.0, 0.0, -3.0])
    level = ga.Batch(torch.zeros(3, 1), None, advantage=column(0.1, 0.1, 0.1))
    assert ga.BoundedProjection(A, 2.0).drive(level).tolist() == [0.0] * 3


# ---- budgets: trust regions and effective sizes


def test_a_trust_region_of_responses_by_hand() -> None:
    """The centred drives 2, −2, 0, 0 have the mean square 2 in the batch, and 4 and 0 in the groups."""
    batch = rows(4, 0, 1, 1)
    close(ga.TrustRegion(chi2=0.5).drive(batch), [1.0, -1.0, 0.0, 0.0])
    close(ga.TrustRegion(chi2=0.25, within="group").drive(batch), [0.5, -0.5, 0.0, 0.0])
    close(ga.TrustRegion(A, chi2=0.5).drive(batch), [1.0, -1.0, 0.0, 0.0])
    close(ga.TrustRegion(chi2=0.5).drive(rows(1, 1, 2, 2)), [0.0] * 4)


def test_a_bounded_trust_region_and_that_of_half_the_divergence_are_the_closed_form() -> None:
    """Pearson's divergence is half of χ², so that its radius is half of ε; at ε = 4 the policy is at its bound."""
    batch = rows(4, 0, 1, 1)
    plain = ga.TrustRegion(chi2=0.5).drive(batch)
    for same in (
        ga.TrustRegion(chi2=0.5, bounded=True),
        ga.TrustRegion(divergence=ga.PearsonChiSquare(), radius=0.25),
    ):
        torch.testing.assert_close(same.drive(batch), plain, rtol=1e-9, atol=1e-9)
    far = ga.TrustRegion(chi2=4.0, within="group")
    close(far.drive(batch), [2.0, -2.0, 0.0, 0.0])
    bounded = ga.TrustRegion(chi2=4.0, within="group", bounded=True).drive(batch)
    assert bounded.min() == -1.0 and bounded[2:].tolist() == [0.0, 0.0]


def test_a_trust_region_in_nats_by_hand() -> None:
    """Of two responses with log t = ±, the KL of the shares p and 1 − p from ½ is the radius."""
    log_t = ga.TrustRegion(kl=0.1).drive(rows(1, 0, 1, 0))
    p = float(log_t[0].exp()) / 2
    assert p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)) == pytest.approx(0.1, rel=1e-6)
    assert float(log_t[1].exp()) / 2 == pytest.approx(1 - p)
    assert log_t[2:].tolist() == pytest.approx(log_t[:2].tolist())


def test_a_trust_region_of_tokens_and_of_pairs_by_hand() -> None:
    """Nothing is centred. What a token or a pair that does not exist holds is not counted, and pulls by nothing."""
    tokens, mask = torch.tensor([[3.0, 4.0], [0.0, 99.0], [99.0, 99.0], [1.0, 0.0]]), [[1, 1], [1, 0], [0, 0], [1, 1]]
    batch = rows(0, 0, 0, 0, mask=mask, advantage=tokens)
    kept = tokens * torch.tensor(mask)
    close(ga.TrustRegion(A, chi2=0.04).drive(batch), kept / math.sqrt(26 / 5 / 0.04))
    scale = torch.tensor([25 / 3, 25 / 3, 1.0, 0.5])[:, None]
    close(ga.TrustRegion(A, chi2=0.04, within="group").drive(batch), kept / (scale / 0.04).sqrt())
    zero, seen = torch.zeros(3, 1), torch.tensor([[1], [1], [0]])
    for margin, drive in (((3.0, -4.0, 9.0), (3.0, -4.0, 9.0)), ((0.0, 0.0, 9.0), (0.0, 0.0, 0.0))):
        pairs = ga.PreferenceBatch(zero, zero, chosen_mask=seen, rejected_mask=torch.ones(3, 1), margin=column(*margin))
        found = ga.TrustRegion(ga.Margin(), chi2=0.02).drive(pairs)
        close(found, [x / math.sqrt(12.5 / 0.04) for x in drive])
        found = ga.TrustRegion(ga.Margin(), chi2=0.02, within="group").drive(pairs)
        close(found, [math.copysign(0.2, x) if x else 0.0 for x in margin])


def test_the_drive_that_a_trust_region_solves() -> None:
    """g of a step to t*: ψ'(t*), which is t* − 1 for χ², bounded or not; others say nothing."""
    ratio = column(0.25, 2.25)
    for of, drive in (
        (ga.TrustRegion(chi2=0.1), [-0.75, 1.25]),
        (ga.TrustRegion(chi2=0.1, bounded=True), [-0.75, 1.25]),
        (ga.TrustRegion(kl=0.1), [math.log(0.25), math.log(2.25)]),
        (ga.TrustRegion(divergence=ga.SquaredHellinger(), radius=0.1), [-2.0, 2 / 3]),
    ):
        close(of.solved_drive(ratio), drive)
    assert ga.Advantage().solved_drive(ratio) is None


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("within", ["batch", "group"])
def test_an_effective_size_by_hand(scaled: bool, within: str) -> None:
    """Two rewards that differ by 2 have the weights 1 and e^{−2β}, here at β = 0.25."""
    x = math.exp(-0.5)
    target, batch = (1 + x) ** 2 / (2 * (1 + x * x)), rows(2, 0, 3, 1)
    of = ga.EscortESS(target, scaled=scaled, within=within)
    torch.testing.assert_close(of.alpha(batch), torch.tensor(0.75).expand(() if within == "batch" else (4,)))
    drive = 2 / (1 + x) - 1
    torch.testing.assert_close(of.drive(batch), column(drive, -drive, drive, -drive) / (0.25 if scaled else 1.0))
    cooled = ga.EscortESS(target, 2.0, scaled=scaled, within=within)
    torch.testing.assert_close(cooled.alpha(batch), torch.tensor(0.5).expand(() if within == "batch" else (4,)))


def test_the_ends_of_an_effective_size() -> None:
    """At the target 1 all weights are equal; one that the target policy itself exceeds leaves α at 0."""
    batch = rows(2, 0, 3, 1)
    for within in ("batch", "group"):
        one, low = ga.EscortESS(1.0, within=within), ga.EscortESS(0.1, within=within)
        assert set(one.alpha(batch).flatten().tolist()) == {1.0} and set(low.alpha(batch).flatten().tolist()) == {0.0}
        assert one.drive(batch).tolist() == [0.0] * 4
        close(ga.EscortESS(1.0, 2.0, scaled=True, within=within).drive(batch), [0.5, -0.5, 0.5, -0.5])
        close(low.drive(batch), [math.tanh(1), -math.tanh(1)] * 2)
        plain = ga.EscortESS(0.7, within=within)
        for shift in (-5000.0, 5000.0):
            close(plain.drive(rows(2 + shift, shift, 3 + shift, 1 + shift)), plain.drive(batch))
    per_prompt = ga.EscortESS(0.9, within="group").alpha(rows(4, 0, 1, 1))
    assert per_prompt[0] == per_prompt[1] > 0 and per_prompt[2] == per_prompt[3] == 0


def test_the_mean_effective_size_of_the_groups_is_the_target() -> None:
    """A group of two and one of four, which counts twice."""
    reward, group = column(2, 0, 3, 1, 1, 0), torch.tensor([0, 0, 1, 1, 1, 1])
    batch = ga.Batch(torch.zeros(6, 1), None, reward=reward, group=group)
    alpha = float(ga.EscortESS(0.7).alpha(batch))
    weight = torch.exp((1 - alpha) * reward)
    shares = [float(w.sum() ** 2 / (len(w) * (w * w).sum())) for w in (weight[:2], weight[2:])]
    assert (2 * shares[0] + 4 * shares[1]) / 6 == pytest.approx(0.7, rel=1e-9) and shares[0] != shares[1]


# ---- weights of the ratio


def test_the_expectation_of_a_group_by_hand() -> None:
    """Geometric means ½ and ¼ of the first group, whose expectation is (¼ + 1/16)/(¾) = 5/12; 1 of the second."""
    half, quarter = math.log(0.5), math.log(0.25)
    old = torch.tensor([[half, half], [quarter, 0.0], [0.0, 0.0], [-9.0, -9.0]])
    mask = torch.tensor([[1, 1], [1, 0], [1, 1], [0, 0]])
    batch = ga.Batch(old, old, mask, reward=column(1, 1, 1, 1), group=GROUPS)
    of = sampling.GroupExpectation(low=0.9, high=9.0)
    step, up = column(0.0, math.log(2), 0.0, 0.0), torch.ones(4)
    close(of.weight(up, step, batch)[:3], [1.2, 1.2, 1.0])
    close(of.weight(up[:, None].expand(4, 2), step[:, None].expand(4, 2), batch)[:3], [[1.2] * 2, [1.2] * 2, [1.0] * 2])
    tight = sampling.GroupExpectation(low=0.1, high=0.1)
    close(tight.weight(up, step, batch)[:3], [0.0, 0.0, 1.0])
    close(tight.weight(-up, step, batch)[:3], [1.2, 1.2, 1.0])
    close(tight.weight(-up, column(0.0, 0.0, 0.0, 0.0), batch)[:3], [1.2, 0.0, 1.0])


def test_walls_are_moved_by_what_exists() -> None:
    """A good token at ½ against poor ones at 2: c_low cannot help, c_high does not; what is masked does not count."""
    log_ratio = torch.tensor([[math.log(0.5), 5.0], [math.log(0.7), 5.0]])
    drive, mask = torch.tensor([[1.0, 9.0], [-1.0, -9.0]]), torch.tensor([[1, 0], [1, 0]])
    batch = ga.Batch(log_ratio - 9, torch.full((2, 2), -9.0), mask, advantage=column(1, -1))
    of = sampling.BalancedClip(low=(0.6, 0.9), high=(1.2, 3.0), step=0.1, target=0.4)
    # P = 0.5, N = max(0.7, c_low): the share 0.5/1.2 = 0.42 is above 0.4 at once.
    assert [float(x) for x in of.walls(drive, log_ratio, batch)] == pytest.approx([0.6, 1.2])
    none = sampling.BalancedClip(low=(0.6, 0.9), high=(1.2, 3.0), step=0.1, target=0.42)
    assert [float(x) for x in none.walls(drive, log_ratio, batch)] == pytest.approx([0.9, 3.0])
    # A good response at 4 and a poor one at 1: P = c_high against N = 1, met at ρ = 0.6 from c_high = 1.5 on.
    rows_of = ga.Batch(torch.zeros(3, 1), torch.zeros(3, 1), torch.tensor([[1], [1], [0]]))
    steps = column(math.log(4), 0.0, 5.0)
    of = sampling.BalancedClip(low=(0.6, 0.9), high=(1.2, 3.0), step=0.1, target=0.6 - 1e-9)
    walls = of.walls(column(1.0, -1.0, 9.0), steps, rows_of)
    assert [float(x) for x in walls] == pytest.approx([0.9, 1.5])
    close(of.weight(column(1.0, -1.0, 9.0), steps, rows_of), [0.0, 1.0, 0.0])
    two = ga.Batch(torch.zeros(2, 2), torch.zeros(2, 2), torch.tensor([[1, 0], [1, 1]]))
    walls = of.walls(column(1.0, -1.0), steps[:2], two)
    assert [float(x) for x in walls] == pytest.approx([0.9, 1.5]), "a response with a masked token exists"
    # Steps of 0.2 reach the last places, 0.9 and 3, in shorter ones: low has 3 walls, high 10.
    wide = sampling.BalancedClip(low=(0.6, 0.9), high=(1.2, 3.0), step=0.2, target=1.0)
    assert [float(x) for x in wide.walls(column(1.0, -1.0), steps[:2], two)] == pytest.approx([0.9, 3.0])
    third = sampling.BalancedClip(low=(0.6, 0.9), high=(1.0, 3.0), step=0.7, target=0.7)
    assert [float(x) for x in third.walls(column(1.0, -1.0), steps[:2], two)] == pytest.approx([0.9, 2.4])


def test_what_follows_a_token_by_hand() -> None:
    """γ = 2^{−1/2} over six tokens of 0.1 each, F_t = 0.1(1 + γ + γ² + …)."""
    gamma, step = 2**-0.5, torch.full((1, 6), 0.1)
    of = sampling.FutureKL(halflife=2.0, bounds=(0.5, 9.0))
    expected = [math.exp(0.1 * sum(gamma**k for k in range(6 - t))) for t in range(6)]
    close(of.weight(torch.ones(1, 6), step, rows(1, 1, 1, 1)), [expected])
    short = sampling.FutureKL(halflife=2.0, bounds=(0.5, 1.2)).weight(torch.ones(1, 6), step, rows(1, 1, 1, 1))
    close(short, [[min(x, 1.2) for x in expected]])
    low = sampling.FutureKL(halflife=2.0, bounds=(0.95, 1.2)).weight(torch.ones(1, 6), -step, rows(1, 1, 1, 1))
    close(low, [[max(1 / x, 0.95) for x in expected]])
    none = sampling.FutureKL(bounds=(0.0, 0.0)).weight(torch.ones(1, 2), torch.ones(1, 2), rows(1, 1, 1, 1))
    close(none, [[0.0, 0.0]])


def test_a_pair_weighs_by_its_mean_probabilities() -> None:
    """Means −1 and −1.5 over the tokens that exist; a weight is at most one."""
    chosen, rejected = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), torch.tensor([[-1.5, -9.0], [0.5, -9.0]])
    pairs = ga.PreferenceBatch(
        chosen, rejected, chosen_mask=torch.ones(2, 2), rejected_mask=torch.tensor([[1, 0], [1, 0]])
    )
    close(sampling.PolicyWeight().weight(torch.ones(2), torch.ones(2), pairs), [math.exp(-2.5), 1.0])


def test_weights_of_whole_responses_reach_their_tokens() -> None:
    """The product of the ratios of tokens, 2 · ½ · 4; the log-ratio that is handed over is not read."""
    step = torch.tensor([[2.0, 0.5], [4.0, 1.0]]).log()
    batch = ga.Batch(step - 3, torch.full((2, 2), -3.0))
    tapered = sampling.TaperedImportance(positive=(0.0, 3.0), negative=(0.0, 2.0))
    ones = torch.ones(2, 2)
    close(tapered.weight(ones, 9 * ones, batch), [[1.0, 1.0], [3.0, 3.0]])
    close(tapered.weight(-ones[:, 0], 9 * ones[:, 0], batch), [1.0, 2.0])
    close(tapered.weight(0 * ones[:, 0], 9 * ones[:, 0], batch), [1.0, 2.0])
    gamma = sampling.GammaImportance(positive=(1.0, 1.0), negative=(0.0, 1.0))
    close(gamma.weight(ones[:, 0], 9 * ones[:, 0], batch), [1.0, 4 * math.exp(-3)])
    close(gamma.weight(0 * ones[:, 0], 9 * ones[:, 0], batch), [1.0, 4 * math.exp(-3)])
    close(gamma.weight(-ones[:, 0], 9 * ones[:, 0], batch), [1.0, math.exp(-3)])
    ratio = ga.ImportanceRatio(3.0)
    close(ratio.reweight(2 * ones, 9 * ones, batch), [[4.0, 1.0], [6.0, 2.0]])
    close(ratio.reweight(2 * ones[:, 0], 9 * ones[:, 0], batch), [2.0, 6.0])
    assert ga.ImportanceRatio().reweight(ones, ones, batch)[1, 0] == pytest.approx(4.0)


def test_a_weight_without_a_cap_is_finite_far_out() -> None:
    far, old = torch.full((1, 1), 1000.0), torch.full((1, 1), -1.0)
    batch, up = ga.Batch(old + far, old, advantage=column(-1.0)), -torch.ones(1, 1)
    assert float(ga.ClippedImportance(A).weight(up, far, batch)) == pytest.approx(math.exp(60))
    assert float(ga.ClippedImportance(A, high=math.exp(70)).weight(up, far, batch)) == pytest.approx(math.exp(60))
    assert float(sampling.DivergenceMask(cap=None).weight(up, far, batch)) == pytest.approx(math.exp(300))
    close(sampling.DivergenceMask().weight(up, far, batch), [[20.0]])
    far_reward = ga.Batch(torch.zeros(1, 1), None, reward=column(1000.0))
    assert ga.ExponentiatedAdvantage(cap=None).drive(far_reward).tolist() == [pytest.approx(math.exp(60))]


def test_a_mask_keeps_what_comes_back_however_far_it_is() -> None:
    """At its threshold itself, |π − π_old| = ¼, a token is kept; a token that has not moved is kept by every bound."""
    log_p, log_q = torch.tensor([[0.5, 0.25, 0.5]]).log(), torch.tensor([[0.25, 0.5, 0.5]]).log()
    batch = ga.Batch(log_p, log_q)
    for bound, up, down in ((0.25, [2.0, 0.5, 1.0], [2.0, 0.5, 1.0]), (0.2, [0, 0.5, 1.0], [2.0, 0, 1.0])):
        of = sampling.DivergenceMask(low=bound, high=bound)
        close(of.weight(torch.ones(1, 3), log_p - log_q, batch), [up])
        close(of.weight(-torch.ones(1, 3), log_p - log_q, batch), [down])
        close(of.weight(torch.zeros(1, 3), log_p - log_q, batch), [down])


def test_labels_by_hand() -> None:
    pairs = ga.PreferenceBatch(torch.zeros(2, 1), torch.zeros(2, 1), margin=column(0.0, -2.0))
    close(ga.Label(-0.5).drive(pairs), [-0.5, -0.5])
    close(ga.Margin(-3.0).drive(pairs), [0.0, 6.0])
    close(ga.SoftLabel(2.0, 0.5).drive(pairs), [1.0, 2 / (1 + math.e)])


def test_a_sign_of_zero_and_what_a_shift_does_to_empty_rows() -> None:
    batch = rows(1, -2, 0, 5, mask=[[1, 1], [1, 1], [1, 1], [0, 0]])
    close(ga.SignWeighted(A, 2.0, 3.0).drive(batch), [2.0, -6.0, 0.0, 0.0])
    close(sampling.ShiftedBaseline(A, 0.5).drive(batch), [0.5, -2.5, -0.5, 0.0])
    for ddof in (0, 1):
        spread = math.sqrt((16 / 9 + 25 / 9 + 1 / 9) / (3 - ddof))
        found = sampling.DeviationScaled(A, ddof, 0.5).drive(batch)
        close(found, [x / (spread + 0.5) for x in (1, -2, 0, 0)])
    assert sampling.DeviationScaled(A, epsilon=0.0).drive(rows(3, 3, 3, 3)).tolist() == [0.0] * 4


def test_a_weight_without_an_upper_bound_stays_a_number_of_float32() -> None:
    """60 nats are the most that a ratio is raised to, where nothing bounds it before."""
    batch = ga.Batch(torch.zeros(1, 2), torch.zeros(1, 2), advantage=torch.ones(1))
    weight = ga.ClippedImportance(ga.Advantage(), low=0.5).weight
    seen = weight(torch.ones(1), torch.tensor([[59.0, 1e4]]), batch)
    torch.testing.assert_close(seen.log(), torch.tensor([[59.0, 60.0]]))
    assert weight(torch.ones(1), torch.tensor([[1e4]], dtype=torch.float32), batch).isfinite().all()
