"""Radii, effective sample sizes and controllers: each solves what it says, agrees with the closed form, and resumes."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import geomalign as ga
from geomalign import laws
from geomalign.control import Geometric, controller_of

DIVERGENCES: list[ga.Divergence] = [
    ga.KullbackLeibler(),
    ga.ReverseKullbackLeibler(),
    ga.PearsonChiSquare(),
    ga.CressieRead(1.5),
    ga.CressieRead(3.0),
    ga.JensenShannon(),
    2.0 * ga.SquaredHellinger(),
    ga.KullbackLeibler() + ga.PearsonChiSquare(),
]
divergences = pytest.mark.parametrize("d", DIVERGENCES, ids=repr)
within = pytest.mark.parametrize("within", ["batch", "group"])


def batch(reward: Tensor, group: Tensor | None = None) -> ga.Batch:
    return ga.Batch(torch.zeros(reward.shape[0], 1), None, reward=reward, group=group)


def ragged() -> ga.Batch:
    """Groups of 1, 2, 5 and 8, one without a spread, shuffled, one row without a token."""
    ids = torch.tensor([0] + [1] * 2 + [2] * 5 + [3] * 8 + [4] * 4)
    reward = torch.randn(20)
    reward[ids == 4] = 0.3
    shuffle = torch.randperm(20)
    mask = torch.ones(20, 1, dtype=torch.bool)
    mask[7] = False
    return ga.Batch(torch.zeros(20, 1), None, mask=mask, reward=reward[shuffle], group=ids[shuffle])


def close(a: Tensor, b: Tensor, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


# --- trust regions


@divergences
@within
@pytest.mark.parametrize("radius", [1e-8, 1e-3, 0.05])
def test_the_target_is_a_policy_at_exactly_the_radius(d, within, radius):
    data = ragged()
    groups = data.groups()
    drive = ga.TrustRegion(divergence=d, radius=radius, within=within).drive(data)
    t = torch.where(groups.valid, d.inverse_mirror(drive), 0)
    divergence = torch.where(groups.valid, d.generator(t), 0)
    assert float((groups.mean(t) - 1)[groups.valid].abs().max()) <= 1e-11
    if within == "batch":
        close(divergence.sum() / groups.valid.sum(), torch.tensor(radius), rtol=1e-7)
    else:
        reward = torch.where(groups.valid, data.reward, 0)
        spread = groups.max(reward) + groups.max(-reward) > 0
        close(
            groups.mean(divergence)[spread & groups.valid],
            torch.tensor(radius).expand(int((spread & groups.valid).sum())),
            rtol=1e-7,
        )
    same = data.group == 4
    assert torch.equal(drive[same], torch.zeros(4)) and torch.equal(drive[~groups.valid], torch.zeros(1))


@divergences
def test_no_policy_within_the_radius_gains_more(d):
    """Against random policies scaled to the same radius: ⟨g, π*⟩ is the largest."""
    data = batch(torch.randn(6))
    g = data.reward - data.reward.mean()
    radius = 0.05
    best = d.inverse_mirror(ga.TrustRegion(divergence=d, radius=radius).drive(data))
    gained = (g * best).mean()
    for _ in range(15):
        direction = torch.randn(6) + g * torch.rand(())
        low, high = 0.0, 20.0
        for _ in range(45):
            middle = (low + high) / 2
            t = 6 * (middle * direction).softmax(-1)
            low, high = (middle, high) if float(d.generator(t).mean()) < radius else (low, middle)
        assert float((g * 6 * (low * direction).softmax(-1)).mean()) <= float(gained) + 1e-9


@within
@given(data=st.data())
@settings(max_examples=15)
def test_chi_square_is_in_closed_form(within, data):
    reward = torch.tensor(data.draw(st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=8, max_size=8)))
    epsilon = data.draw(st.sampled_from([1e-4, 0.01, 0.3]))
    ids = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    rollout = batch(reward, ids)
    groups = rollout.groups()
    centred = groups.centred(reward)
    drive = ga.TrustRegion(chi2=epsilon, within=within).drive(rollout)
    mu = ga.chi_square_stiffness(reward, groups, epsilon, within=within)
    spread = centred.square().mean() if within == "batch" else groups.mean(centred.square())
    close(mu, (spread / epsilon).sqrt())
    if float(spread.min()) > 1e-8:
        close(drive, centred / mu, rtol=1e-12)
        mean = drive.square().mean() if within == "batch" else groups.mean(drive.square())
        close(mean, torch.full_like(mean, epsilon))
        assert bool((drive >= -1).all()) == bool((mu >= -centred).all())  # positivity
        if bool((drive > -1).all()):
            close(ga.TrustRegion(chi2=epsilon, within=within, bounded=True).drive(rollout), drive, rtol=1e-6, atol=1e-9)


def test_a_bounded_chi_square_region_keeps_its_radius_where_the_closed_form_leaves_the_simplex():
    data = batch(torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, -1.0]))
    free, bounded = (ga.TrustRegion(chi2=0.21, bounded=b).drive(data) for b in (False, True))
    assert float(free.min()) < -1.0
    close(bounded.mean(), torch.tensor(0.0))
    assert float(bounded.min()) == -1.0
    close(bounded.square().mean(), torch.tensor(0.2), rtol=1e-6)  # all there is: the bad response is gone
    half = ga.TrustRegion(chi2=0.15, bounded=True).drive(data)
    close(half.square().mean(), torch.tensor(0.15))


def test_in_every_group_chi_square_divides_by_the_standard_deviation():
    """GRPO's normalisation is the trust region of radius one of every prompt by itself."""
    reward, ids = torch.randn(12), torch.arange(12) % 3
    data = batch(reward, ids)
    grpo = ga.GroupAdvantage(scale="group", ddof=0, epsilon=0.0).drive(data)
    close(ga.TrustRegion(chi2=1.0, within="group").drive(data), grpo)


@divergences
@within
def test_the_scale_and_the_offset_of_rewards_drop_out(d, within):
    data = ragged()
    region = ga.TrustRegion(divergence=d, radius=0.02, within=within)
    scaled = dataclasses.replace(data, reward=100 * data.reward + 7)
    close(region.drive(data), region.drive(scaled), rtol=1e-7, atol=1e-10)


@divergences
@within
def test_a_radius_out_of_reach_gives_the_greedy_policy(d, within):
    """Four responses reach KL log 4 at most."""
    drive = ga.TrustRegion(divergence=d, radius=1e3, within=within).drive(batch(torch.tensor([1.0, 0.0, 0.2, -0.4])))
    assert bool(torch.isfinite(drive).all())
    t = d.inverse_mirror(drive)
    assert float(t[0]) > 3.7 and float(t[1:].max()) < 0.1


def test_with_its_own_coordinate_the_objectives_equilibrium_is_the_target_policy():
    data = batch(torch.randn(8))
    cases = [
        (ga.Ratio(), ga.TrustRegion(chi2=0.02), ga.ChiSquare(1.0)),
        (ga.LogRatio(), ga.TrustRegion(kl=0.02), ga.ChiSquare(1.0)),
        (ga.Dual(ga.JensenShannon()), ga.TrustRegion(divergence=ga.JensenShannon(), radius=0.02), ga.ChiSquare(1.0)),
        (ga.Ratio(), ga.TrustRegion(kl=0.02), ga.KL(1.0)),
    ]
    for chart, sampling, optimization in cases:
        objective = ga.Objective(unit=ga.Sequence(), chart=chart, sampling=sampling, optimization=optimization)
        u = optimization.equilibrium(objective.drive(data))
        t = chart.inverse(u).exp()
        close(t.mean(), torch.tensor(1.0))
        at_target = dataclasses.replace(data, policy=chart.inverse(u)[:, None], old=torch.zeros(8, 1))
        gradient = objective.gradient(at_target, drive=objective.drive(data))
        assert float(gradient.abs().max()) <= 1e-12


SOLVED = [ga.TrustRegion(chi2=0.02), ga.TrustRegion(chi2=0.02, bounded=True), ga.TrustRegion(kl=0.02)]


@pytest.mark.parametrize(
    "chart, sampling, optimization, made",
    [
        (ga.Ratio(), SOLVED[0], ga.ChiSquare(4.0), "u = 0.1, and ChiSquare(mu=4.0) in Ratio() makes one of 0.025"),
        (ga.LogRatio(), SOLVED[0], ga.ChiSquare(1.0), "u = 0.09531, and ChiSquare(mu=1.0) in LogRatio(scale=1.0)"),
        (ga.LogRatio(), SOLVED[1], ga.ChiSquare(1.0), "u = 0.09531, and"),
        (ga.Ratio(), SOLVED[2], ga.ChiSquare(1.0), "u = 0.1, and ChiSquare(mu=1.0) in Ratio() makes one of 0.09531,"),
        (ga.LogRatio(), SOLVED[2], ga.Flat(), "u = 0.09531, and Flat() in LogRatio(scale=1.0) makes one of inf"),
    ],
)
def test_a_potential_or_chart_that_makes_another_step_is_warned_of(chart, sampling, optimization, made):
    """The radius is that of ChiSquare(1.0) in the divergence's coordinate, or of what has the same equilibrium."""
    with pytest.warns(ga.RadiusWarning, match=re.escape(made)):
        ga.Objective(unit=ga.Sequence(), chart=chart, sampling=sampling, optimization=optimization)
    little = 0.1 * ga.JensenShannon()  # its dual coordinates end at 0.07
    region = ga.TrustRegion(divergence=little, radius=1e-3)
    ga.Objective(unit=ga.Sequence(), chart=ga.Dual(little), sampling=region, optimization=ga.ChiSquare(1.0))
    ga.Objective(unit=ga.Pair(), sampling=ga.TrustRegion(ga.Label(0.1), chi2=0.02), optimization=ga.ChiSquare(4.0))


def test_processes_agree_by_summing_moments():
    """Two processes with whole groups each, `reduce` standing for the all-reduce of both: the drive of one process."""
    data = ragged()
    ids = [
        data.group.unsqueeze(0).eq(torch.tensor(k).unsqueeze(1)).any(0).nonzero().flatten() for k in ([0, 1, 2], [3, 4])
    ]
    whole = data.groups()
    for d in (ga.KullbackLeibler(), ga.JensenShannon()):
        expected = ga.trust_region_target(data.reward, whole, d, 0.03)
        # Both halves are run in lockstep: each call's contribution of the other process is replayed.
        import threading

        barrier, slots, results = threading.Barrier(2), [None, None], [None, None]

        def process(rank, d=d, barrier=barrier, slots=slots, results=results):
            torch.set_default_dtype(torch.float64)

            def reduce(x):
                slots[rank] = x.clone()
                barrier.wait(timeout=60)
                counts = slots[0] + slots[1]
                barrier.wait(timeout=60)
                return counts

            part = data[ids[rank]]
            results[rank] = ga.trust_region_target(part.reward, part.groups(), d, 0.03, reduce=reduce)

        threads = [threading.Thread(target=process, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
        for rank in (0, 1):
            close(results[rank], expected[ids[rank]], rtol=1e-8, atol=1e-11)
    squares = [
        torch.stack([data[i].groups().centred(data[i].reward).square().sum(), data[i].groups().valid.sum()])
        for i in ids
    ]
    other = iter([squares[1]])
    mu = ga.chi_square_stiffness(data[ids[0]].reward, data[ids[0]].groups(), 0.1, reduce=lambda x: x + next(other))
    close(mu, ga.chi_square_stiffness(data.reward, whole, 0.1))


@pytest.mark.float32
def test_float32_meets_the_radius_too():
    for region in (ga.TrustRegion(kl=1e-4), ga.TrustRegion(chi2=2e-4)):
        drive = region.drive(batch(torch.randn(64) * 1e-3 + 5.0, torch.arange(64) % 8))
        assert drive.dtype == torch.float32
        value = drive.double().square().mean() if region.chi2 else (drive.double().exp() * drive.double()).mean()
        assert abs(float(value) / (region.chi2 or region.kl) - 1) <= 1e-2


def test_regions_that_make_no_sense_are_refused():
    for wrong in (
        lambda: ga.TrustRegion(),
        lambda: ga.TrustRegion(chi2=0.1, kl=0.1),
        lambda: ga.TrustRegion(kl=0.0),
        lambda: ga.TrustRegion(kl=math.inf),
        lambda: ga.TrustRegion(radius=0.1),
        lambda: ga.TrustRegion(divergence=ga.KullbackLeibler()),
        lambda: ga.TrustRegion(kl=0.1, within="row"),
        lambda: ga.TrustRegion(ga.KullbackLeibler(), kl=0.1),
        lambda: ga.EscortESS(0.0),
        lambda: ga.EscortESS(1.5),
        lambda: ga.EscortESS(0.5, temperature=0.0),
    ):
        with pytest.raises(ValueError):
            wrong()
    tokens = ga.Batch(torch.zeros(2, 3), None, advantage=torch.randn(2, 3))
    with pytest.raises(ValueError, match="one drive per response"):
        ga.TrustRegion(ga.Advantage(), kl=0.1).drive(tokens)


# --- effective sample size


@within
@pytest.mark.parametrize("target", [0.3, 0.6, 0.9, 0.999])
def test_alpha_meets_the_effective_sample_size(within, target):
    rollout = ga.Batch(torch.zeros(32, 1), None, reward=torch.randn(32), group=torch.arange(32) % 4)
    sampling = ga.EscortESS(target, temperature=0.05, within=within)
    groups, weight = rollout.groups(), sampling.drive(rollout) + 1
    share = groups.mean(weight) ** 2 / groups.mean(weight**2)
    close(
        share.mean() if within == "batch" else share,
        torch.tensor(target).expand(() if within == "batch" else (32,)),
        rtol=1e-8,
    )
    close(groups.mean(weight), torch.ones(32))
    alpha = sampling.alpha(rollout)
    assert bool(((alpha > 0) & (alpha < 1)).all())
    if within == "batch":
        close(ga.Escort(float(alpha), 0.05).drive(rollout), weight - 1, rtol=1e-7, atol=1e-10)
        scaled = dataclasses.replace(sampling, scaled=True)
        close(ga.Escort(float(alpha), 0.05, scaled=True).drive(rollout), scaled.drive(rollout), rtol=1e-7, atol=1e-10)


def test_a_lower_target_is_a_lower_alpha():
    rollout = batch(torch.randn(16))
    alphas = [float(ga.EscortESS(target, 0.1).alpha(rollout)) for target in (0.2, 0.4, 0.6, 0.8, 1.0)]
    assert alphas == sorted(alphas) and alphas[-1] == 1.0 and len(set(alphas)) == 5


def test_where_the_target_is_out_of_reach_alpha_is_zero():
    """Two of four tie at the best: less than half of the samples cannot carry the weight."""
    rollout = batch(torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert float(ga.EscortESS(0.3, temperature=0.01).alpha(rollout)) == 0.0
    assert float(ga.EscortESS(0.5, temperature=10.0).alpha(rollout)) == 0.0  # hot: even α = 0 is nearly uniform
    close(ga.EscortESS(0.9, scaled=True).drive(batch(torch.ones(4))), torch.zeros(4))
    close(ga.EscortESS(1.0, temperature=0.5, scaled=True).drive(rollout), torch.tensor([1.0, 1.0, -1.0, -1.0]))


# --- controllers


def test_the_geometric_schedule_goes_from_start_to_stop_in_equal_factors():
    schedule = Geometric(1.0, 9.0)
    values = [schedule(k / 10) for k in range(11)]
    assert values[0] == pytest.approx(1.0) and values[-1] == pytest.approx(9.0) and values == sorted(values)
    assert values[5] == pytest.approx(3.0)
    factors = [after / before for before, after in itertools.pairwise(values)]
    assert factors == pytest.approx([factors[0]] * 10)


def plain() -> ga.Objective:
    return ga.Objective(
        unit=ga.Sequence(), chart=ga.LogRatio(), sampling=ga.GroupAdvantage(), optimization=ga.ChiSquare(1.0)
    )


def adaptive(target: float = 1e-3, initial: float = 1.0) -> ga.AdaptiveStiffness:
    return ga.AdaptiveStiffness(target, ga.KullbackLeibler(), rate=0.3, initial=initial)


def annealed() -> ga.Annealed:
    return ga.Annealed(Geometric(1.0, 16.0), rollouts=5)


controllers = pytest.mark.parametrize("build", [adaptive, annealed])


def train(controller: ga.Controller, rollouts: int, *, logits: Tensor | None = None, start: int = 0):
    """Five arms whose rewards change with every rollout, eight steps each: all rollouts' readings, and the logits."""
    objective = plain()
    logits = torch.zeros(5) if logits is None else logits.clone()
    logits.requires_grad_()
    readings = []
    for step in range(start, rollouts):
        generator = torch.Generator().manual_seed(step)
        reward = torch.randn(5, generator=generator)
        draws = torch.multinomial(logits.detach().softmax(-1), 64, replacement=True, generator=generator)
        log_prob = logits.log_softmax(-1)[draws]
        data = ga.Batch(log_prob, log_prob.detach(), reward=reward[draws])
        drive = controller.stiffen(objective, objective.drive(data))
        for _ in range(8):
            outcome = objective(dataclasses.replace(data, policy=logits.log_softmax(-1)[draws]), drive=drive)
            controller.observe(outcome)
            (slope,) = torch.autograd.grad(outcome.loss, logits)
            with torch.no_grad():
                logits -= 0.5 * slope
        controller.step()
        readings.append({name: float(x) for name, x in controller.readings().items()})
    return readings, logits.detach()


@pytest.mark.parametrize("initial", [1.0, 300.0])
def test_adaptive_stiffness_holds_the_measured_divergence_at_its_target(initial):
    """From a stiffness that is far too small, and from one that is far too large."""
    readings, _ = train(adaptive(initial=initial), 60)
    late = [of["over_target"] for of in readings[30:]]
    assert 0.6 <= sum(late) / len(late) <= 1.6
    assert not 0.2 <= readings[0]["over_target"] <= 5.0
    assert readings[0]["stiffness"] == pytest.approx(initial)
    for before, after in itertools.pairwise(readings):
        assert abs(math.log(after["stiffness"] / before["stiffness"])) <= 0.3 + 1e-12


@controllers
def test_a_restored_controller_continues_exactly(build):
    whole, end = train(build(), 12)
    first, second = build(), build()
    _, logits = train(first, 5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    rest, again = train(second, 12, logits=logits, start=5)
    assert rest == whole[5:] and torch.equal(again, end)


@controllers
def test_a_controller_is_restored_in_the_middle_of_a_rollout_too(build):
    data, objective = laws.sample_batch(rows=12, tokens=4, seed=2), plain()
    whole, first, second = build(), build(), build()
    halves, counts = torch.arange(12).chunk(2), data.counts()
    for k, rows in enumerate(halves):
        outcome = objective(data[rows], drive=objective.drive(data)[rows], counts=counts)
        whole.observe(outcome)
        (second if k else first).observe(outcome)
        if k == 0:
            second.load_state_dict(first.state_dict())
    whole.step()
    second.step()
    assert torch.equal(whole.stiffness, second.stiffness) and float(whole.stiffness) != 1.0
    assert {name: float(x) for name, x in whole.readings().items()} == {
        name: float(x) for name, x in second.readings().items()
    }


def test_micro_batches_show_the_controller_the_whole_batch():
    data, objective = laws.sample_batch(rows=12, tokens=4, seed=2), plain()
    readings = []
    for parts in ([torch.arange(12)], list(torch.arange(12).split(5))):
        controller = adaptive()
        drive, counts = controller.stiffen(objective, objective.drive(data)), data.counts()
        for rows in parts:
            controller.observe(objective(data[rows], drive=drive[rows], counts=counts))
        controller.step()
        readings.append(controller.readings()["divergence"])
    close(readings[0], readings[1])
    delta = torch.where(data.support, data.policy - data.old, 0).sum(-1)[data.support.any(-1)].detach()
    close(readings[0], ga.KullbackLeibler().penalty(delta).mean())


@controllers
def test_nothing_observed_changes_nothing(build):
    data, objective, controller = laws.sample_batch(rows=8, tokens=3, seed=4), plain(), build()
    before, fresh = controller.stiffness, controller.state_dict()
    for _ in range(3):
        controller.step()
    assert torch.equal(controller.stiffness, before) and same_state(controller.state_dict(), fresh)
    controller.observe(objective(data))
    controller.step()
    assert not torch.equal(controller.stiffness, before)
    seen, shown = controller.state_dict(), controller.readings()
    controller.step()
    assert same_state(controller.state_dict(), seen)
    assert all(torch.equal(x, shown[name]) for name, x in controller.readings().items())
    assert float(shown["stiffness"]) == pytest.approx(float(before))  # of the rollout that has ended


def same_state(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(torch.as_tensor(x), torch.as_tensor(other[name]), rtol=0, atol=0, equal_nan=True)
        for name, x in one.items()
    )


@pytest.mark.parametrize("name", ["opo", "grpo beta=0.04", "dpo", "mirror_descent"])
def test_an_objective_is_pure(name):
    """Evaluated five times, in every way, it gives the same numbers to the bit: nothing in it remembers."""
    objective = ga.recipes.get(name)
    data = laws.sample_pairs(pairs=4, seed=2) if objective.paired else laws.sample_batch(rows=8, tokens=3, seed=4)

    def values() -> list[Tensor]:
        outcome, drive, gradient = objective(data), objective.drive(data), objective.gradient(data)
        drives = tuple(drive) if isinstance(drive, ga.TermDrives) else (drive,)
        sides = gradient if isinstance(gradient, tuple) else (gradient,)
        terms = [x for term in outcome.terms for x in (term.loss, term.u, term.drive, term.weights)]
        return [x.detach() for x in (outcome.loss, *drives, *sides, *terms, *ga.metrics(outcome).values())]

    first = values()
    for _ in range(4):
        again = values()
    assert all(torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)) for a, b in zip(first, again, strict=True))


def test_the_stiffness_divides_the_drive():
    data, objective = laws.sample_batch(rows=8, tokens=3, seed=4), plain()
    drive = adaptive(initial=4.0).stiffen(objective, objective.drive(data))
    close(4 * drive, objective.drive(data))
    stiff = dataclasses.replace(objective, optimization=ga.ChiSquare(4.0))
    close(4 * objective(data, drive=drive).loss, stiff(data).loss)


def test_an_annealed_stiffness_follows_its_schedule_and_resumes():
    data, objective = laws.sample_batch(rows=8, tokens=3, seed=4), plain()
    controller, seen = annealed(), []
    for step in range(7):
        if step == 3:
            restored = annealed()
            restored.load_state_dict(controller.state_dict())
            controller = restored
        seen.append(float(controller.stiffness))
        controller.observe(objective(data, drive=controller.stiffen(objective, objective.drive(data))))
        controller.step()
        assert float(controller.readings()["stiffness"]) == seen[-1]
    assert seen == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0])


def test_any_function_of_the_progress_is_a_schedule():
    controller = ga.Annealed(lambda progress: 1.0 + 2.0 * progress, rollouts=3)
    outcome, seen = plain()(laws.sample_batch(rows=8, tokens=3, seed=4)), []
    for _ in range(4):
        seen.append(float(controller.stiffness))
        controller.observe(outcome)
        controller.step()
    assert seen == [1.0, 2.0, 3.0, 3.0]


def test_the_stiffness_of_a_sum_divides_every_drive_and_the_first_term_is_measured():
    both = plain() + 0.1 * ga.recipes.mirror_descent()
    controller = ga.AdaptiveStiffness(0.1, initial=2.0)
    data = laws.sample_batch(rows=8, tokens=3, seed=4)
    drive = controller.stiffen(both, both.drive(data))
    assert isinstance(drive, ga.TermDrives)
    for mine, of in zip(drive, both.drive(data)):
        close(2 * mine, of)
    alone = ga.AdaptiveStiffness(0.1, initial=2.0)
    for one, objective in ((controller, both), (alone, plain())):
        one.observe(objective(data))
        one.step()
    assert torch.equal(controller.readings()["divergence"], alone.readings()["divergence"])


def test_one_drive_for_a_sum_is_stiffened_as_that_of_its_driven_term():
    """The first term's label has no drive; its potential's slope at the anchor must not enter."""
    with pytest.warns(ga.UnboundedLossWarning):
        penalised = 0.1 * ga.kl_penalty("k1") + plain()
    data = laws.sample_batch(rows=8, tokens=3, seed=4)
    drive = plain().drive(data)
    close(4 * adaptive(initial=4.0).stiffen(penalised, drive), drive)


def test_controllers_are_equal_by_their_hyper_parameters():
    assert adaptive() == adaptive() and hash(adaptive()) == hash(adaptive()) and adaptive() != adaptive(0.5)
    names = {"Geometric": Geometric, **{name: getattr(ga, name) for name in dir(ga)}}
    for controller in (adaptive(initial=3.0), annealed()):
        assert eval(repr(controller), names) == controller
    assert controller_of("kl=1e-3 rate=0.3") == ga.AdaptiveStiffness(1e-3, rate=0.3)
    assert controller_of("chi2=0.05 low=1") == ga.AdaptiveStiffness(0.05, ga.PearsonChiSquare(), low=1)
    assert controller_of("anneal=1:16 rollouts=5") == annealed()


def test_controllers_refuse_nonsense():
    for wrong in (
        lambda: ga.AdaptiveStiffness(0.0),
        lambda: ga.AdaptiveStiffness(0.1, rate=0.0),
        lambda: ga.AdaptiveStiffness(0.1, initial=1e9),
        lambda: ga.Annealed(lambda progress: 1.0 - 2.0 * progress, 5),
        lambda: ga.Annealed(Geometric(1.0, 2.0), 0),
        lambda: Geometric(1.0, 0.0),
        lambda: controller_of("kl"),
        lambda: controller_of("kl=0.1 chi2=0.1"),
        lambda: controller_of("rate=0.1"),
        lambda: controller_of("kl=0.1 speed=2"),
        lambda: controller_of("kl=-0.1"),
        lambda: controller_of("anneal=1 rollouts=5"),
        lambda: controller_of("anneal=1:10"),
    ):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(ValueError, match="no distance"):
        adaptive().observe(ga.recipes.simpo()(laws.sample_pairs(pairs=3, seed=1)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no word"),
        ("anneal=1", "anneal=1: a start and an end, as in anneal=1:10."),
        ("anneal=1:x rollouts=5", "anneal=1:x: a start and an end, as in anneal=1:10."),
        ("anneal=1:10", "anneal=1:10: over how many rollouts, as in anneal=1:10 rollouts=100."),
        ("anneal=1:10 rollouts=0", "Annealed(rollouts=0): an integer ≥ 1, the number of rollouts that the schedule"),
        ("foo=1", "'foo' is no controller; there are kl, chi2 and anneal, as in"),
        ("kl=1 chi2=1", "kl and chi2 are 2 controllers, and a run has one"),
        ("kl=0.02 rat=1", "'rat' is no option of kl, which takes rate, initial, low, high."),
        ("kl=-1", "AdaptiveStiffness(target=-1): a positive number."),
    ],
)
def test_a_controller_that_is_refused_is_told_in_words(text, said):
    with pytest.raises(ValueError) as refused:
        controller_of(text)
    message = str(refused.value)
    assert message.startswith(f"control {text!r}: {said}") and ".;" not in message and "__init__" not in message


# --- pairs and tokens


def test_an_effective_sample_size_refuses_what_is_no_response():
    """A token's advantage broadcast over a response of 100 tokens would weigh it by e^{100 A}."""
    for per_token in (torch.ones(2, 3), torch.zeros(2, 1)):
        rollout = ga.Batch(torch.zeros_like(per_token), None, advantage=per_token)
        for asked in (ga.EscortESS(0.5).drive, ga.EscortESS(0.5).alpha):
            with pytest.raises(ValueError, match=r"one advantage per response.*one per token"):
                asked(rollout)
    with pytest.raises(ValueError, match="reward"):
        ga.EscortESS(0.5).drive(laws.sample_pairs(pairs=3, seed=1))


@given(reward=st.lists(st.integers(-9, 9), min_size=2, max_size=6), radius=st.floats(0.01, 2.0))
def test_pairs_of_independent_responses_have_the_responses_stiffness(reward, radius):
    """½E[(v − v')²] = E[v²] over all ordered pairs; the margin's trust region is that of the responses, μ and all."""
    assume(len(set(reward)) > 1)
    r = torch.tensor(reward, dtype=torch.float64)
    n = len(r)
    responses = ga.Batch(torch.zeros(n, 1), None, reward=r)
    v = ga.TrustRegion(chi2=radius).drive(responses)
    margins = (r[:, None] - r[None, :]).reshape(-1)
    pairs = ga.PreferenceBatch(torch.zeros(n * n, 1), torch.zeros(n * n, 1), margin=margins)
    m = ga.TrustRegion(ga.Margin(), chi2=radius).drive(pairs)
    close(m, (v[:, None] - v[None, :]).reshape(-1), rtol=1e-8, atol=1e-9)
    close(0.5 * m.square().mean(), torch.tensor(radius), rtol=1e-8)
    each = ga.TrustRegion(ga.Margin(), chi2=radius, within="group").drive(pairs)
    close(each, torch.sign(margins) * math.sqrt(2 * radius), rtol=1e-8)


def test_pairs_chosen_for_their_difference_are_not_independent():
    """The best and the worst of three with v = ±1, over all triples: the figure stands in docs/theory.md."""
    triples = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])])
    margin = triples.max(1).values - triples.min(1).values
    assert float(0.5 * margin.square().mean() / triples.square().mean()) == 1.5


def test_a_label_of_one_strength_in_a_trust_region_is_ipo():
    """ChiSquare(1) under the label of a radius ε has IPO's target 1/(2τ) at √(2ε)."""
    pairs = laws.sample_pairs(pairs=4, seed=2)
    valid = torch.stack(pairs.rows.support.any(-1).chunk(2)).all(0)
    g = ga.TrustRegion(ga.Label(0.1), chi2=0.02).drive(pairs)[valid]
    close(ga.ChiSquare(1.0).equilibrium(g), torch.full_like(g, 0.2))
    ipo = ga.recipes.ipo(tau=2.5)
    close(ipo.optimization.equilibrium(ipo.drive(pairs)[valid]), torch.full_like(g, 0.2))


def test_a_drive_per_token_has_its_radius_per_token():
    batch = laws.sample_batch(rows=8, tokens=4, seed=3)
    batch = dataclasses.replace(batch, advantage=torch.randn(8, 4), reward=None)
    inside = batch.support
    for scale in (1.0, 100.0):
        scaled = dataclasses.replace(batch, advantage=scale * batch.advantage)
        g = ga.TrustRegion(ga.Advantage(), chi2=0.04).drive(scaled)
        close(g[inside].square().mean(), torch.tensor(0.04))
    ratio = g[inside] / batch.advantage[inside]
    close(ratio, ratio[0].expand_as(ratio))
    by_prompt = ga.TrustRegion(ga.Advantage(), chi2=0.04, within="group").drive(batch)
    for prompt in batch.group.unique():
        rows = (batch.group == prompt)[:, None] & inside
        if rows.any():
            close(by_prompt[rows].square().mean(), torch.tensor(0.04))


def test_what_needs_a_multiplier_over_responses_says_so():
    pairs = laws.sample_pairs(pairs=3, seed=1)
    for sampling in (ga.TrustRegion(ga.Margin(), kl=0.1), ga.TrustRegion(ga.Margin(), chi2=0.1, bounded=True)):
        with pytest.raises(ValueError, match=r"one drive per response.*only a difference"):
            sampling.drive(pairs)


@pytest.mark.parametrize("mu", [1.0, 2.0, 5.0])
def test_the_stiffness_of_dpo_is_the_smoothing_of_its_label(mu):
    pairs = laws.sample_pairs(pairs=5, seed=1)
    controller = ga.AdaptiveStiffness(0.1, initial=mu, low=1.0)
    dpo, smooth, ipo = ga.recipes.dpo(beta=0.3), ga.recipes.cdpo(0.3, (1 - 1 / mu) / 2), ga.recipes.ipo()
    close(dpo(pairs, drive=controller.stiffen(dpo, dpo.drive(pairs))).loss, smooth(pairs).loss)
    close(controller.stiffen(ipo, ipo.drive(pairs)), ipo.drive(pairs) / mu)


def test_the_divergence_of_pairs_stays_at_its_target():
    """Pairs of independent responses to one prompt, labelled by reward: both are samples of the anchor."""
    reward = torch.linspace(0.0, 1.0, 6)
    first, second = (side.reshape(-1) for side in torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij"))
    better = reward[first] >= reward[second]
    chosen, rejected = torch.where(better, first, second), torch.where(better, second, first)
    before = torch.full((6,), 1 / 6).log()
    logits = torch.zeros(6, requires_grad=True)
    controller = ga.AdaptiveStiffness(0.05, ga.ReverseKullbackLeibler(), rate=0.3, low=1.0)
    objective = ga.recipes.dpo(beta=1.0)
    for _ in range(150):
        reference = before[chosen][:, None], before[rejected][:, None]
        drive = None
        for _ in range(4):
            policy = logits.log_softmax(0)
            batch = ga.PreferenceBatch(policy[chosen][:, None], policy[rejected][:, None], *reference)
            drive = controller.stiffen(objective, objective.drive(batch)) if drive is None else drive
            outcome = objective(batch, drive=drive)
            controller.observe(outcome)
            (gradient,) = torch.autograd.grad(outcome.loss, logits)
            logits = (logits - 0.5 * gradient).detach().requires_grad_()
        controller.step()
    divergence = ga.ReverseKullbackLeibler().value(logits.detach().log_softmax(0), before)
    assert float(divergence) == pytest.approx(0.05, rel=0.1)
    assert float(controller.stiffness) > 1.1


def test_nothing_is_left_to_tune():
    """α from an effective sample size and μ from a radius, for rewards of any scale."""
    rollout = ga.Batch(torch.zeros(32, 1), None, reward=torch.randn(32), group=torch.arange(32) % 4)
    objective = ga.recipes.opo_trust_region(epsilon=0.02, geometry="chi2", ess=0.6)
    drive = objective.drive(rollout)
    close(drive.square().mean(), torch.tensor(0.02))
    weight = ga.EscortESS(0.6, 0.1).drive(rollout)
    close((1 / (1 + rollout.groups().mean(weight**2))).mean(), torch.tensor(0.6), rtol=1e-8)
    close(drive / drive[0], weight / weight[0], rtol=1e-8)


@pytest.mark.parametrize(
    "recipe",
    [
        ga.recipes.opo_trust_region(),
        ga.recipes.opo_trust_region(geometry="chi2", within="group"),
        ga.recipes.opo_trust_region(ess=0.5),
        ga.recipes.opo_ess(),
    ],
    ids=lambda recipe: repr(recipe)[:90],
)
def test_the_solved_recipes_obey_the_laws_of_objectives(recipe):
    for law in laws.LAWS["objective"]:
        law(recipe)


SAMPLING = [
    ga.TrustRegion(chi2=0.1),
    ga.TrustRegion(ga.GroupAdvantage(scale="group"), kl=0.02, within="group"),
    ga.TrustRegion(chi2=0.3, bounded=True),
    ga.TrustRegion(divergence=2.0 * ga.JensenShannon(), radius=0.01),
    ga.TrustRegion(ga.EscortESS(0.5, 0.1), kl=0.05),
    ga.EscortESS(0.5),
    ga.EscortESS(0.8, 0.1, scaled=True, within="group"),
]


@pytest.mark.parametrize("sampling", SAMPLING, ids=repr)
def test_the_sampling_geometries_obey_the_laws_of_their_slot(sampling):
    for law in laws.LAWS["sampling"]:
        law(sampling)
    names = {name: getattr(ga, name) for name in dir(ga)}
    assert eval(repr(sampling), names) == sampling and sampling.latex()
