"""MaskedImportance: each setting is the mask that its source computes, written out by loops over rows and tokens."""

import dataclasses
import math

import pytest
import torch
from literal import BATCH, advantages, agree, delta, log_probs, rows, token_mean

import geomalign as ga

# Engine and trainer disagree by a third of a nat; log-probabilities are negative.
ENGINE = dataclasses.replace(BATCH, behavior=-BATCH.behavior.abs() - 1e-3)


def ratio(i: int) -> torch.Tensor:
    """π_old/π_behavior of the tokens of row i."""
    return (log_probs(i, "old", ENGINE) - log_probs(i, "behavior", ENGINE)).exp()


def current(i: int) -> torch.Tensor:
    """π_θ/π_behavior of the tokens of row i, without gradient."""
    return (log_probs(i, "policy", ENGINE) - log_probs(i, "behavior", ENGINE)).exp().detach()


def weighed(weights: dict[int, torch.Tensor], **options: object) -> None:
    """MaskedImportance of these options in REINFORCE has the gradient of −w·A·log π, and drops some tokens, not all."""
    a = advantages()
    sampling = ga.MaskedImportance(ga.GroupAdvantage(), **options)  # type: ignore[arg-type]
    mine = ga.Objective(unit=ga.Token(), sampling=sampling, optimization=ga.Flat())

    def literal() -> torch.Tensor:
        return token_mean({i: -weights[i] * a[i] * delta(i, b=ENGINE) for i in rows()})

    agree(mine, literal, ENGINE)
    kept = torch.cat([(weights[i] != 0).expand(len(ratio(i))) for i in rows() if a[i] != 0])
    assert kept.any() and not kept.all()


def test_icepop() -> None:
    """k where k lies in [α, β] and 0 outside, of every token (Ring-1T)."""
    weighed({i: torch.where((ratio(i) >= 0.8) & (ratio(i) <= 1.5), ratio(i), 0.0) for i in rows()}, low=0.8, high=1.5)


def test_masked_importance_of_whole_responses() -> None:
    """The product of a response's ratios where it lies in the bounds: MIS by sequence, SkyRL's `product`."""
    options = {"level": "sequence", "importance": "sequence", "low": 0.5, "high": 2.0}
    weighed({i: ratio(i).prod() if 0.5 <= ratio(i).prod() <= 2.0 else torch.zeros(()) for i in rows()}, **options)


def test_the_geometric_mask_of_skyrl_and_verl() -> None:
    """Responses whose geometric mean of ratios is out of bounds are dropped; the others keep their token weights."""
    options = {"level": "sequence", "metric": "k1", "low": -math.log(1.1), "high": -math.log(0.9)}
    geometric = {i: ratio(i).prod() ** (1 / len(ratio(i))) for i in rows()}
    weighed({i: ratio(i) * (0.9 <= geometric[i] <= 1.1) for i in rows()}, **options)


def test_the_outlier_mask_of_skyrl() -> None:
    """Responses with any token out of bounds are dropped, and that is all."""
    options = {"level": "max", "importance": "none", "low": 0.6, "high": 2.0}
    weighed({i: torch.tensor(bool(((ratio(i) >= 0.6) & (ratio(i) <= 2.0)).all())).double() for i in rows()}, **options)


def test_the_sequence_mask_of_deepseek() -> None:
    """Responses with a negative advantage and (1/|o|)Σ log(π_behavior/π_θ) > δ are dropped."""
    a, drift = advantages(), {i: -current(i).log().mean() for i in rows()}
    kept = {i: torch.tensor(not (a[i] < 0 and drift[i] > 0.05)).double() for i in rows()}
    options = {"level": "sequence", "metric": "k1", "high": 0.05, "sign_aware": "negative"}
    weighed(kept, **options, numerator="policy", importance="none")


@pytest.mark.parametrize("level", ["max", "sequence"])
def test_trust_region_masking(level: str) -> None:
    """Responses are dropped whose largest, or mean, t − 1 − log t of a token exceeds δ (TRM)."""
    k3 = {i: current(i) - 1 - current(i).log() for i in rows()}
    statistic = {i: k3[i].max() if level == "max" else k3[i].mean() for i in rows()}
    threshold = {"max": 0.1, "sequence": 0.04}[level]
    weights = {i: current(i) * (statistic[i] <= threshold) for i in rows()}
    weighed(weights, level=level, metric="k3", high=threshold, numerator="policy")


@pytest.mark.parametrize("outward", [True, False])
def test_the_masks_of_prime_rl(outward: bool) -> None:
    """Tokens whose probability moved by more than ε: in any direction (`ipo`), or in that of their advantage (DPPO)."""
    a, weights = advantages(), {}
    for i in rows():
        moved = (log_probs(i, "policy", ENGINE).exp() - log_probs(i, "behavior", ENGINE).exp()).detach()
        towards = (moved > 0.05) if a[i] > 0 else (moved < -0.05)
        weights[i] = torch.where(towards if outward else moved.abs() > 0.05, 0.0, current(i))
    options = {"metric": "tv", "low": -0.05, "high": 0.05, "sign_aware": "outward" if outward else "no"}
    weighed(weights, **options, numerator="policy")


def test_kpop() -> None:
    """Tokens are dropped of which the divergence of {token, other}, the larger of both directions, exceeds φ."""

    def larger(i: int) -> torch.Tensor:
        p, q = (log_probs(i, name, ENGINE).exp() for name in ("old", "behavior"))
        one = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        return torch.maximum(one, q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log())

    weights = {i: (larger(i) <= 0.02).double() for i in rows()}
    weighed(weights, metric="binary_kl", high=0.02, importance="none")


def test_the_second_moment_mask() -> None:
    """The largest log²t of the whole rollout go until the mean of the others is ≤ 0.04 (M2PO)."""
    tokens = sorted(float(x) for i in rows() for x in ratio(i).log() ** 2)
    while sum(tokens) / len(tokens) > 0.04:
        tokens.pop()
    a = advantages()
    sampling = ga.sampling.SecondMomentMask(ga.GroupAdvantage())
    mine = ga.Objective(unit=ga.Token(), sampling=sampling, optimization=ga.Flat())

    def literal() -> torch.Tensor:
        kept = {i: torch.where(ratio(i).log() ** 2 <= tokens[-1] + 1e-12, ratio(i), 0.0) for i in rows()}
        return token_mean({i: -kept[i] * a[i] * delta(i, b=ENGINE) for i in rows()})

    agree(mine, literal, ENGINE)
    assert 0 < len(tokens) < sum(len(ratio(i)) for i in rows())


@pytest.mark.parametrize("sequence", [False, True])
def test_the_solved_cap_meets_the_effective_share(sequence: bool) -> None:
    batch = dataclasses.replace(ENGINE, advantage=torch.ones(ENGINE.size, dtype=torch.float64))
    weight = ga.sampling.EffectiveImportance(ga.Advantage(), 0.9, sequence=sequence).drive(batch)
    weight = weight[batch.support.any(-1)] if sequence else weight[batch.support]
    torch.testing.assert_close(weight.sum() ** 2 / (len(weight) * (weight**2).sum()), torch.tensor(0.9).double())
    assert (weight == weight.max()).sum() > 1  # some are at the cap
    loose = ga.sampling.EffectiveImportance(ga.Advantage(), 0.01, sequence=sequence)
    free = ga.TruncatedImportance(ga.Advantage(), cap=1e9, sequence=sequence)
    torch.testing.assert_close(loose.drive(batch), free.drive(batch))


def test_the_effective_share_is_that_of_the_metrics() -> None:
    as_policy = dataclasses.replace(ENGINE, policy=ENGINE.old, old=ENGINE.behavior)
    found = ga.metrics(ga.recipes.grpo()(as_policy))
    torch.testing.assert_close(ga.sampling.effective_share(ENGINE), found["sequence_ess"])
    torch.testing.assert_close(ga.sampling.effective_share(ENGINE, sequence=False), found["ess"])


def test_the_off_policy_baseline_has_the_least_second_moment() -> None:
    """Σ w²|y|(r − b)² of a group is stationary in b; without a mismatch b is the length-weighted baseline."""
    sampling = ga.sampling.OffPolicyBaseline()
    drive = sampling.drive(ENGINE)
    for group in set(ENGINE.group.tolist()):
        members = [i for i in rows() if ENGINE.group[i] == group]
        slope = sum(ratio(i).prod() ** 2 * len(ratio(i)) * drive[i] for i in members)
        assert abs(float(slope)) < 1e-12 * sum(float(ratio(i).prod() ** 2 * len(ratio(i))) for i in members)
    on_policy = dataclasses.replace(ENGINE, behavior=ENGINE.old)
    torch.testing.assert_close(sampling.drive(on_policy), ga.sampling.LengthWeightedBaseline().drive(on_policy))


def test_a_filter_of_the_sampler_shows_as_the_mean_ratio_and_the_kept_mass_undoes_it() -> None:
    logits = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    full = logits.log_softmax(0)
    kept = full.exp().sort(descending=True).indices[:6]
    mass = full.exp()[kept].sum()
    filtered = torch.full_like(full, -math.inf)
    filtered[kept] = full[kept] - mass.log()
    sampled = torch.multinomial(filtered.exp(), 400, replacement=True, generator=torch.Generator().manual_seed(1))
    behavior = filtered[sampled][:, None]
    old = full[sampled][:, None]
    assert float((old - behavior).exp().mean()) == pytest.approx(float(mass))
    undone = ga.sampling.unfiltered(behavior, mass.expand(400, 1))
    torch.testing.assert_close(undone, old)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "low=None, high=None"),
        ({"low": 2.0, "high": 1.0}, "low < high"),
        ({"high": 1.0, "level": "row"}, "'token', 'sequence', 'max'"),
        ({"high": 1.0, "metric": "k9"}, "choose one of"),
        ({"high": 1.0, "metric": "k3", "sign_aware": "outward"}, "no bound lies outward"),
        ({"high": 1.0, "metric": "tv", "level": "sequence", "sign_aware": "outward"}, "no bound lies outward"),
        ({"high": 1.0, "numerator": "old", "denominator": "old"}, "two different policies"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ga.MaskedImportance(**options)  # type: ignore[arg-type]


def test_a_mask_of_tokens_at_every_evaluation_needs_a_unit_of_tokens() -> None:
    sampling = ga.MaskedImportance(ga.GroupAdvantage(), high=2.0, numerator="policy")
    mine = ga.Objective(unit=ga.Sequence(), sampling=sampling, optimization=ga.Flat())
    with pytest.raises(ValueError, match=r"events are responses. Use unit=Token\(\)"):
        mine(ENGINE)
    with pytest.raises(ValueError, match="is a PreferenceBatch"):
        ga.MaskedImportance(ga.Label(), high=2.0).drive(ga.laws.sample_pairs())


def test_outward_follows_the_sign_of_the_metric() -> None:
    """−log t falls where the ratio rises: the same tokens are dropped by either metric."""
    ratios = ga.MaskedImportance(ga.GroupAdvantage(), 0.8, 1.25, sign_aware="outward")
    logs = ga.MaskedImportance(ga.GroupAdvantage(), -math.log(1.25), -math.log(0.8), metric="k1", sign_aware="outward")
    torch.testing.assert_close(ratios.drive(ENGINE), logs.drive(ENGINE))
    assert (ratios.drive(ENGINE) != ga.MaskedImportance(ga.GroupAdvantage(), 0.8, 1.25).drive(ENGINE)).any()
