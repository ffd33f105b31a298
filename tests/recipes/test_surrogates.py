"""GPPO, CE-GPPO, BAPO, ASPO, GEPO, FIPO, decoupled PPO, prime-rl's IPO, OPMD, REC and sPPO, written out.

Where a recipe has another value than the published loss, its gradient is compared with that of the published form.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from literal import BATCH, advantages, agree, delta, groups, log_probs, mean, rows, token_mean, tokens

import geomalign as ga
from geomalign.training.from_rewards import _parts

Tensor = torch.Tensor
# Log-ratios of a standard deviation of 0.9 nats, so that tokens lie beyond every wall of the recipes' defaults.
_SPREAD = torch.randn(BATCH.policy.shape, generator=torch.Generator().manual_seed(37), dtype=torch.float64)
_POLICY = (BATCH.old + 0.9 * _SPREAD).clamp(max=-1e-3).detach().requires_grad_()
FAR = dataclasses.replace(BATCH, policy=_POLICY)
STALE = dataclasses.replace(FAR, behavior=(BATCH.old - 0.2 - 0.5 * _SPREAD.roll(1, 0)).clamp(max=-1e-3))


def gradient(literal: Callable[[], Tensor]) -> Tensor:
    return torch.autograd.grad(literal(), FAR.policy)[0]


def published(objective: ga.BaseObjective, literal: Callable[[], Tensor]) -> None:
    """The gradient is that of the published loss, which has another value."""
    expected = gradient(literal)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(objective.gradient(FAR), expected, rtol=1e-10, atol=1e-13)


def ratio(i: int) -> Tensor:
    return torch.exp(delta(i, b=FAR))


def weighted(weight: Callable[[int, Tensor, Tensor], Tensor], *, std: bool = True) -> Callable[[], Tensor]:
    """−mean over tokens of sg[weight] A log π."""
    a = advantages(std=std)
    return lambda: token_mean({i: -weight(i, a[i], ratio(i)).detach() * a[i] * log_probs(i, b=FAR) for i in rows()})


def test_the_batch_has_tokens_beyond_every_wall() -> None:
    a = advantages()
    good = torch.cat([ratio(i) for i in rows() if a[i] > 0]).detach()
    poor = torch.cat([ratio(i) for i in rows() if a[i] < 0]).detach()
    for t in (good, poor):
        assert (t < 0.4).any() and (t > 3).any() and ((t > 0.8) & (t < 1.2)).any()
        assert ((t < 0.8) & (t > 0.4)).any() and ((t > 1.28) & (t < 3)).any()


@pytest.mark.parametrize(("beta_low", "beta_high"), [(0.5, 1.0), (1.0, 0.25), (0.0, 2.0)])
def test_ce_gppo(beta_low: float, beta_high: float) -> None:
    def weight(i: int, a: Tensor, t: Tensor) -> Tensor:
        low, high = beta_low * 0.9, beta_high * 1.3
        return torch.where((t < 0.9) & (a < 0), low, torch.where((t > 1.3) & (a > 0), high, t))

    objective = ga.recipes.ce_gppo(0.1, 0.3, beta_low=beta_low, beta_high=beta_high)
    agree(objective, weighted(weight), FAR)
    a = advantages(std=True)

    def loss() -> Tensor:
        values = {}
        for i in rows():
            t = ratio(i)
            held = t / t.detach()
            below, above = beta_low * 0.9 * held, beta_high * 1.3 * held
            values[i] = -a[i] * torch.where(
                (t < 0.9) & (a[i] < 0), below, torch.where((t > 1.3) & (a[i] > 0), above, t)
            )
        return token_mean(values)

    published(objective, loss)


def test_gppo() -> None:
    def weight(i: int, a: Tensor, t: Tensor) -> Tensor:
        # max(−t A, −clip(t) A) with the gradient of t where it is clipped
        return torch.minimum(t * a, t.clamp(0.8, 1.28) * a) / torch.where(a == 0, 1, a)

    agree(ga.recipes.gppo(0.2, 0.28), weighted(weight), FAR)


def walls(low: tuple[float, float], high: tuple[float, float], target: float, step: float) -> tuple[float, float]:
    """The authors' search, one wall after the other."""
    a = advantages(std=True)

    def met(c_low: float, c_high: float) -> bool:
        positive = sum(float(a[i] * t.clamp(max=c_high)) for i in rows() for t in ratio(i).detach() if a[i] > 0)
        negative = sum(float(-a[i] * t.clamp(min=c_low)) for i in rows() for t in ratio(i).detach() if a[i] < 0)
        return positive >= target * (positive + negative)

    c_low, c_high = low[0], high[0]
    while not met(c_low, c_high) and c_low < low[1]:
        c_low = min(c_low + step, low[1])
    while not met(c_low, c_high) and c_high < high[1]:
        c_high = min(c_high + step, high[1])
    return c_low, c_high


@pytest.mark.parametrize("target", [0.2, 0.355, 0.37, 0.5])
def test_bapo(target: float) -> None:
    low, high = walls((0.6, 0.9), (1.2, 3.0), target, 0.05)
    a = advantages(std=True)
    objective = ga.recipes.bapo(target=target)

    def weight(i: int, a: Tensor, t: Tensor) -> Tensor:
        return torch.where(t <= high if a > 0 else t >= low, t, 0)

    agree(objective, weighted(weight), FAR)

    def loss() -> Tensor:
        values = {}
        for i in rows():
            t = ratio(i)
            values[i] = -torch.minimum(t * a[i], t.clamp(low, high) * a[i])
        return token_mean(values)

    published(objective, loss)


def test_the_walls_of_bapo_move_as_far_as_they_must() -> None:
    found = [walls((0.6, 0.9), (1.2, 3.0), target, 0.05) for target in (0.2, 0.355, 0.37, 0.5)]
    assert found[0] == (0.6, 1.2) and found[-1] == (0.9, 3.0)
    assert any(low == 0.9 and 1.2 < high < 3.0 for low, high in found), found
    sampling = ga.recipes.bapo(target=0.2).sampling
    drive = sampling.drive(FAR)[:, None].expand(FAR.policy.shape)
    log_ratio = (FAR.policy - FAR.old).detach()
    for target, expected in zip((0.2, 0.355, 0.37, 0.5), found, strict=True):
        ours = dataclasses.replace(sampling, target=target).walls(drive, log_ratio, FAR)
        torch.testing.assert_close(torch.stack(ours), torch.tensor(expected, dtype=torch.float64))


def test_bapo_does_not_wait_for_one_sign() -> None:
    """Without good tokens no share is reached, and without poor ones any share is: both end."""
    for advantage, expected in ((1.0, (0.6, 1.2)), (-1.0, (0.9, 3.0)), (0.0, (0.6, 1.2))):
        batch = dataclasses.replace(FAR, advantage=torch.full((FAR.size,), advantage, dtype=torch.float64))
        sampling = ga.sampling.BalancedClip()
        found = sampling.walls(sampling.drive(batch), torch.zeros(FAR.size, dtype=torch.float64), batch)
        torch.testing.assert_close(torch.stack(found), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("cap", [1.5, 3.0])
def test_aspo(cap: float) -> None:
    def weight(i: int, a: Tensor, t: Tensor) -> Tensor:
        if a > 0:
            return torch.where(t > 1.3, 0, (1 / t).clamp(max=cap))
        return torch.where(t < 0.9, 0, t.clamp(max=cap))

    objective = ga.recipes.aspo(0.1, 0.3, cap=cap)
    agree(objective, weighted(weight), FAR)
    a = advantages(std=True)

    def loss() -> Tensor:
        """The authors' code, by its cases."""
        values = {}
        for i in rows():
            t, log_pi = ratio(i), log_probs(i, b=FAR)
            if a[i] < 0:
                bounded = t.clamp(min=0.9)
                soft, hard = -a[i] * cap * log_pi, -a[i] * bounded
                values[i] = torch.where(bounded > cap, soft, hard)
            else:
                bounded = t.clamp(max=1.3)
                soft, hard = -a[i] * cap * log_pi, -a[i] * (bounded / bounded.detach()) / bounded.detach()
                values[i] = torch.where(1 / bounded > cap, soft, hard)
        return token_mean(values)

    published(objective, loss)


@pytest.mark.parametrize("epsilon", [0.2, 0.5])
def test_gepo(epsilon: float) -> None:
    a = advantages()

    def coefficient(i: int, members: list[int]) -> Tensor:
        q = {j: torch.exp(log_probs(j, "old").mean()) for j in members}
        expectation = sum(x * x for x in q.values()) / sum(q.values())
        return torch.exp(log_probs(i, b=FAR).mean()) / expectation

    def literal() -> Tensor:
        values = []
        for members in groups():
            for i in members:
                w = coefficient(i, members).detach()
                kept = w <= 1 + epsilon if a[i] > 0 else w >= 1 - epsilon
                values.append(-(w * kept) * a[i] * log_probs(i, b=FAR).mean())
        return mean(values)

    def loss() -> Tensor:
        values = []
        for members in groups():
            for i in members:
                w = coefficient(i, members)
                values.append(-torch.minimum(w * a[i], w.clamp(1 - epsilon, 1 + epsilon) * a[i]))
        return mean(values)

    agree(ga.recipes.gepo(epsilon), literal, FAR)
    published(ga.recipes.gepo(epsilon), loss)
    stopped = (ga.recipes.gepo(epsilon)(FAR).drive == 0)[[i for i in rows() if a[i] != 0]]
    assert stopped.any() and not stopped.all()


def test_hosts_that_cut_groups_refuse_gepo() -> None:
    assert ga.recipes.gepo().coupling == ga.recipes.gepo().sampling
    assert ga.recipes.bapo().coupling is None
    with pytest.raises(ValueError, match=r"GroupExpectation.*couples the responses to one prompt"):
        ga.ops.export(ga.recipes.gepo())


def test_the_trainer_cuts_no_group_of_gepo() -> None:
    run: Any = SimpleNamespace(objective=ga.recipes.gepo(), config=SimpleNamespace(rl=SimpleNamespace(samples=4)))
    parts = list(_parts(run, torch.arange(24), 3, torch.Generator().manual_seed(0)))
    assert len(parts) == 3 and sorted(torch.cat(parts).tolist()) == list(range(24))
    for part in parts:
        assert (torch.bincount(part // 4, minlength=6) % 4 == 0).all(), part


@pytest.mark.parametrize(
    ("bounds", "dual", "safety"), [((1.0, 1.2), 10.0, 4.0), ((0.8, 1.2), 2.0, 1.5), ((0.0, 5.0), 2.5, 1.2)]
)
def test_fipo(bounds: tuple[float, float], dual: float, safety: float) -> None:
    a = advantages(std=True)

    def literal() -> Tensor:
        values = {}
        for i in rows():
            places, t = tokens(i), ratio(i)
            log_t = torch.log(t).detach()
            weights = []
            for n, here in enumerate(places):
                later = [(places[k] - here, log_t[k]) for k in range(n, len(places)) if t[k] <= dual]
                future = sum((2 ** (-gap / 3.0) * d for gap, d in later), torch.zeros((), dtype=torch.float64))
                f = torch.exp(future).clamp(*bounds)
                weights.append(f.clamp(0.8, 1.0) if a[i] < 0 and t[n] > safety else f)
            g = torch.stack(weights) * a[i]
            loss = -torch.minimum(t * g, t.clamp(0.8, 1.28) * g)
            values[i] = torch.minimum(loss, -g * dual) if a[i] < 0 else loss
        return token_mean(values)

    objective = ga.recipes.fipo(halflife=3.0, bounds=bounds, dual_clip=dual, safety=safety)
    agree(objective, literal, FAR)


def test_the_discounted_sum_of_fipo_over_many_tokens() -> None:
    """Against the matrix of discounts, with a response much longer than the half-life and 2^{−t} underflowing."""
    generator = torch.Generator().manual_seed(3)
    old = -torch.rand(2, 1500, generator=generator, dtype=torch.float64) - 0.1
    moved = 0.1 * torch.randn(old.shape, generator=generator, dtype=torch.float64)
    batch = ga.Batch(old + moved, old, advantage=torch.ones(old.shape, dtype=torch.float64))
    distance = torch.arange(1500)[None] - torch.arange(1500)[:, None]
    for halflife in (0.5, 1.0, 37.0):
        discount = torch.where(distance >= 0, 2.0 ** (-distance.clamp(min=0).double() / halflife), 0)
        weight = torch.exp(moved @ discount.T)
        sampling = ga.sampling.FutureKL(halflife=halflife, bounds=(0.0, 1e9))
        torch.testing.assert_close(sampling.reweight(batch.advantage, moved, batch), weight, rtol=1e-12, atol=0)


def test_fipo_weighs_tokens_alone() -> None:
    objective = dataclasses.replace(ga.recipes.fipo(), unit=ga.MeanSequence())
    with pytest.raises(ValueError, match=r"FutureKL weighs tokens .* Use unit=Token\(\)"):
        objective(FAR)


@pytest.mark.parametrize("cap", [None, 1.4])
def test_decoupled_ppo(cap: float | None) -> None:
    def literal() -> Tensor:
        values = {}
        for i in rows():
            t, a = torch.exp(delta(i, b=STALE)), BATCH.advantage[i]
            weight = torch.exp(log_probs(i, "old", STALE) - log_probs(i, "behavior", STALE))
            weight = weight if cap is None else torch.where(weight <= cap, weight, 0)
            values[i] = -weight * torch.minimum(t * a, t.clamp(0.9, 1.1) * a)
        return token_mean(values)

    agree(ga.recipes.decoupled_ppo(0.1, cap=cap), literal, STALE)


def test_decoupled_ppo_asks_for_the_policy_that_sampled() -> None:
    with pytest.raises(ValueError, match="needs `behavior`"):
        ga.recipes.decoupled_ppo()(dataclasses.replace(FAR, behavior=None))


@pytest.mark.parametrize(("threshold", "beta"), [(0.05, 1e-3), (0.02, 0.0), (0.1, 0.5)])
def test_prime_ipo(threshold: float, beta: float) -> None:
    a = advantages()

    def literal() -> Tensor:
        values = {}
        for i in rows():
            t = ratio(i)
            moved = (log_probs(i, b=FAR).exp() - log_probs(i, "old").exp()).abs()
            values[i] = -(moved <= threshold).double() * a[i] * t + beta * torch.log(t) ** 2
        return token_mean(values)

    agree(ga.recipes.prime_ipo(threshold, beta), literal, FAR)


@pytest.mark.parametrize("importance", [False, True])
@pytest.mark.parametrize("clip", ["one_side", "two_side", "ring", None])
def test_rec(clip: str | None, importance: bool) -> None:
    def weight(i: int, a: Tensor, t: Tensor) -> Tensor:
        inside = (t >= 0.9) & (t <= 1.3)
        kept = {
            "one_side": t <= 1.3 if a > 0 else t >= 0.9,
            "two_side": inside,
            "ring": inside | (t <= 0.5 if a > 0 else t >= 2.5),
            None: torch.ones_like(t, dtype=torch.bool),
        }[clip]
        return torch.where(kept, t if importance else 1.0, 0)

    objective = ga.recipes.rec(clip, 0.1, 0.3, importance=importance, outer=(0.5, 1.5))
    agree(objective, weighted(weight, std=False), FAR)


def test_rec_with_importance_has_the_gradient_of_the_clip() -> None:
    clipped = dataclasses.replace(ga.recipes.dapo(0.2, 0.2), sampling=ga.GroupAdvantage())
    torch.testing.assert_close(ga.recipes.rec(importance=True).gradient(FAR), clipped.gradient(FAR))


@pytest.mark.parametrize("epsilon", [0.1, 0.3])
def test_softmax_ppo(epsilon: float) -> None:
    a = advantages()

    def literal() -> Tensor:
        values = {}
        for i in rows():
            t = ratio(i)
            inside = (t >= 1 / (1 + epsilon)) & (t <= 1 + epsilon)
            values[i] = -a[i] * torch.log(t) * inside
        return token_mean(values)

    def loss() -> Tensor:
        return token_mean({i: -a[i] * torch.log(ratio(i).clamp(1 / (1 + epsilon), 1 + epsilon)) for i in rows()})

    agree(ga.recipes.softmax_ppo(epsilon), literal, FAR)
    published(ga.recipes.softmax_ppo(epsilon), loss)


@pytest.mark.parametrize("baseline", ["mean", "log_mean_exp"])
def test_opmd(baseline: str) -> None:
    a = advantages()
    if baseline == "log_mean_exp":
        for members in groups():
            value = 3.0 * torch.log(torch.exp(BATCH.reward[members] / 3.0).mean())
            a |= {i: BATCH.reward[i] - value for i in members}
    objective = ga.recipes.opmd(3.0, baseline=baseline)
    agree(objective, lambda: token_mean({i: -a[i] * log_probs(i, b=FAR) / 4 for i in rows()}), FAR)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ga.sampling.GradientPreservingClip(low=1.0), r"low=1.0.*\[0, 1\)"),
        (lambda: ga.sampling.FlippedImportance(cap=0.0), "cap=0.0"),
        (lambda: ga.sampling.RingMask(low=0.5, outer_low=0.3), "outer walls lie beyond"),
        (lambda: ga.sampling.RingMask(importance="false"), "importance='false'"),
        (lambda: ga.sampling.FutureKL(bounds=(1.2, 1.0)), r"bounds=\(1.2, 1.0\)"),
        (lambda: ga.sampling.BalancedClip(low=(0.9, 0.6)), "the first not above the last"),
        (lambda: ga.sampling.BalancedClip(target=1.5), "target=1.5"),
        (lambda: ga.sampling.GroupExpectation(low=1.0), "low=1.0"),
        (lambda: ga.recipes.rec("both"), "'both'"),
        (lambda: ga.recipes.prime_ipo(threshold=0.0), "threshold=0.0"),
        (lambda: ga.recipes.softmax_ppo(0.0), "epsilon=0.0"),
    ],
)
def test_what_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
