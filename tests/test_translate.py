"""Numbers of one objective in those of another: values computed by hand, and properties of every pair."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign import analysis, laws

TOKENS = 50
Made = Callable[[float], ga.BaseObjective]


def walk(rows: int = 400, tokens: int = TOKENS, sigma: float = 0.1) -> ga.Batch:
    """Responses whose tokens have moved independently of each other; every second one is right."""
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(rows, tokens, generator=generator, dtype=torch.float64) - 0.1
    moved = old + sigma * torch.randn(rows, tokens, generator=generator, dtype=torch.float64)
    reward = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(rows // 2)
    return ga.Batch(moved, old, reward=reward, advantage=2 * reward - 1, group=2)


def even_pairs(pairs: int = 4, tokens: int = 5) -> ga.PreferenceBatch:
    generator = torch.Generator().manual_seed(1)
    sides = [0.3 * torch.randn(pairs, tokens, generator=generator, dtype=torch.float64) for _ in range(2)]
    zeros = torch.zeros(pairs, tokens, dtype=torch.float64)
    return ga.PreferenceBatch(*sides, zeros, zeros, margin=torch.linspace(0.5, 2, pairs, dtype=torch.float64))


WALK, PAIRS = walk(rows=80), even_pairs()


def arcosh_radius(radius: float) -> float:
    """x of log-ratios ±x with this χ² radius: ½(e^x − 1)² + ½(e^{−x} − 1)² = 2c(c − 1), c = cosh x."""
    return math.acosh((1 + math.sqrt(1 + 2 * radius)) / 2)


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpos_beta_is_four_of_ipos_tau(beta: float) -> None:
    """DPO pulls with β/2 against a curvature of β²/4, so that it would reach 2/β nats; IPO's square rests at 1/(2τ)."""
    summed = analysis.translate(
        ga.recipes.dpo(beta=beta), lambda tau: ga.recipes.ipo(tau=tau, normalize="sum"), PAIRS, by="curvature"
    )
    assert summed.setting == pytest.approx(beta / 4)
    # IPO in means over tokens, as TRL has it: a mean moves by a fifth of what the sum over five tokens does.
    means = analysis.translate(ga.recipes.dpo(beta=beta), lambda tau: ga.recipes.ipo(tau=tau), PAIRS, by="curvature")
    assert means.setting == pytest.approx(beta * 5 / 4)
    assert summed.source.radius == math.inf and math.isfinite(summed.found.radius)


@pytest.mark.parametrize("epsilon", [0.1, 0.2])
def test_grpos_epsilon_in_opos_mu(epsilon: float) -> None:
    """Two responses are pulled at by ±a, and rest at ±a/μ; a clip rests at 1 ± ε, with the radius ε²."""
    found = analysis.translate(ga.recipes.grpo(epsilon=epsilon), lambda mu: ga.recipes.opo(mu=mu), WALK)
    a = float(ga.recipes.opo().drive(WALK).max())  # type: ignore[union-attr]
    assert found.source.radius == pytest.approx(epsilon**2) and found.source.curvature == 0
    assert found.setting == pytest.approx(a / arcosh_radius(epsilon**2))
    assert found.found.curvature == pytest.approx(1 / arcosh_radius(epsilon**2))


def test_ppos_epsilon_is_cfpos() -> None:
    """The square of CFPO rests where PPO's wall is."""
    assert analysis.translate(ga.recipes.grpo(epsilon=0.15), ga.recipes.cfpo, WALK).setting == pytest.approx(0.15)


def test_a_sum_over_tokens_is_held_by_the_lengths_part_of_a_means_mu() -> None:
    for by in ("curvature", "radius"):
        found = analysis.translate(
            ga.recipes.opo(mu=5.0), lambda mu: ga.recipes.opo(mu=mu, normalize="sum"), WALK, by=by
        )
        assert found.setting == pytest.approx(5.0 / TOKENS)


def test_where_a_token_clip_and_a_clip_of_means_disagree() -> None:
    """By the target the two have one ε. By the share that is clipped it shrinks as the noise of a mean, 1/√tokens, and
    what GSPO publishes, 3e-4, clips most of what moves this far.
    """
    grpo, gspo, batch = ga.recipes.grpo(epsilon=0.2), lambda epsilon: ga.recipes.gspo(epsilon, epsilon), walk()
    assert analysis.translate(grpo, gspo, batch, by="radius").setting == pytest.approx(0.2)
    found = analysis.translate(grpo, gspo, batch, by="clipped")
    assert found.setting == pytest.approx(0.2 / math.sqrt(TOKENS), rel=0.15)
    assert found.found.clipped == pytest.approx(found.source.clipped, abs=1 / batch.size)
    assert found.source.clipped < 0.05 < 0.4 < analysis.invariants(ga.recipes.gspo(), batch).clipped


def test_the_clipped_share_is_that_of_the_metrics() -> None:
    """Where something pulls at every event, the metric has the events without a gradient."""
    for name in ("grpo", "gspo", "dapo"):
        objective = ga.recipes.get(name)
        expected = ga.metrics(objective(WALK))["clip_fraction"]
        assert analysis.invariants(objective, WALK).clipped == pytest.approx(float(expected))


def test_invariants_of_a_square_scaled_by_the_pull_written_out() -> None:
    """CFPO on ragged rows: κ = |A|/ε, t* = 1 ± ε, and of the pull (1 − |t − 1|/ε) is left."""
    batch, epsilon = laws.sample_batch(rows=16, tokens=7, seed=11), 0.2
    a, pulls, left = ga.recipes.cfpo().drive(batch), [], []
    for i in range(16):
        kept = batch.support[i]
        if n := int(kept.sum()):
            pulls.append(float(a[i]))  # type: ignore[index]
            if pulls[-1]:
                t = torch.exp(batch.policy[i][kept].detach() - batch.old[i][kept])  # type: ignore[index]
                left.append(float((1 - math.copysign(1, pulls[-1]) * (t - 1) / epsilon).clamp(0, 1).sum() / n))
    g = torch.tensor(pulls, dtype=torch.float64)
    found = analysis.invariants(ga.recipes.cfpo(epsilon), batch)
    assert found.curvature == pytest.approx(float((g.abs() ** 3).mean() / (g**2).mean() ** 1.5) / epsilon)
    assert found.radius == pytest.approx(float((g != 0).double().mean()) * epsilon**2)
    assert found.clipped == pytest.approx(1 - sum(left) / len(left))


def test_a_wall_in_probability_is_wide_for_rare_tokens() -> None:
    """|π − π_k| = ε is |t − 1| = ε/π_k."""
    old = torch.tensor([[0.5], [0.5], [0.1], [0.1]], dtype=torch.float64).log()
    batch = ga.Batch(old, old, advantage=torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64))
    clip = ga.Objective(
        unit=ga.Token(), chart=ga.chart.Probability(), sampling=ga.Advantage(), optimization=ga.Clip(0.05, 0.05)
    )
    assert analysis.invariants(clip, batch).radius == pytest.approx((0.1**2 + 0.5**2) / 2)
    square = dataclasses.replace(clip, optimization=ga.ChiSquare(2.0))
    # In the log-ratio the pull is g·π_k and the curvature μ·π_k².
    bent, pull = 2.0 * (0.5**4 + 0.1**4) / 2, (0.5**2 + 0.1**2) / 2
    assert analysis.invariants(square, batch).curvature == pytest.approx(bent / pull**1.5)


def test_pairs_in_a_chart_that_bends() -> None:
    """t_w − t_l = 2 sinh(x/2) rests at margin/2, where x is the difference of the log-ratios."""
    square = ga.Objective(
        unit=ga.Pair(), chart=ga.Ratio(), sampling=ga.Margin(1.0), optimization=ga.ChiSquare(2.0), anchor="reference"
    )
    one = PAIRS[:1]
    summed = 2 * math.asinh(0.5 / 4)
    assert analysis.invariants(square, one).radius == pytest.approx(math.expm1(summed / 5) ** 2)


TO: dict[str, tuple[Made, float, ga.Batch | ga.PreferenceBatch]] = {
    "grpo": (lambda x: ga.recipes.grpo(epsilon=x), 0.2, WALK),
    "gspo": (lambda x: ga.recipes.gspo(x, x), 0.01, WALK),
    "cfpo": (ga.recipes.cfpo, 0.2, WALK),
    "opo": (lambda x: ga.recipes.opo(mu=x), 5.0, WALK),
    "opo ratio": (lambda x: ga.recipes.opo(mu=x, form="ratio"), 5.0, WALK),
    "ppo kl": (lambda x: ga.recipes.ppo(epsilon=None, beta=x), 3.0, WALK),
    "dpo": (lambda x: ga.recipes.dpo(beta=x), 0.1, PAIRS),
    "ipo": (lambda x: ga.recipes.ipo(tau=x), 0.3, PAIRS),
    "cdpo": (lambda x: ga.recipes.cdpo(beta=x), 0.2, PAIRS),
    "rebel": (lambda x: ga.recipes.rebel(eta=x), 2.0, PAIRS),
    "chi_po": (lambda x: ga.recipes.chi_po(beta=x), 0.1, PAIRS),
}


@pytest.mark.parametrize("by", ["curvature", "radius", "clipped"])
@pytest.mark.parametrize("name", TO)
def test_an_objective_in_its_own_number(name: str, by: str) -> None:
    """It comes back, to within one event where the share of events is what is compared."""
    make, setting, batch = TO[name]
    value = getattr(analysis.invariants(make(setting), batch), by)
    if not 0 < value < math.inf:
        with pytest.raises(ValueError, match="the objective's own is"):
            analysis.translate(make(setting), make, batch, by=by)
        return
    found = analysis.translate(make(setting), make, batch, by=by)
    stepped = by == "clipped" and name in ("grpo", "gspo")
    assert found.setting == pytest.approx(setting, rel=0.2 if stepped else 1e-6)
    assert getattr(found.found, by) == pytest.approx(value, rel=1e-6, abs=1 / WALK.size if stepped else 0)


@pytest.mark.parametrize("source", [name for name, made in TO.items() if made[2] is WALK])
@pytest.mark.parametrize("target", [name for name, made in TO.items() if made[2] is WALK])
def test_what_is_found_has_the_radius_of_what_was_given(source: str, target: str) -> None:
    (make, setting, batch), (to, _, _) = TO[source], TO[target]
    if (source, target) == ("ppo kl", "opo ratio"):  # of 50 tokens: what is pulled down goes to t = 0 before
        with pytest.raises(ValueError, match="over which the other one jumps at"):
            analysis.translate(make(setting), to, batch, by="radius")
        return
    found = analysis.translate(make(setting), to, batch, by="radius")
    assert found.found.radius == pytest.approx(found.source.radius, rel=1e-6)
    assert found.found == analysis.invariants(to(found.setting), batch)


@pytest.mark.parametrize("name", TO)
def test_a_multiple_of_a_loss_has_its_invariants(name: str) -> None:
    make, setting, batch = TO[name]
    one, many = analysis.invariants(make(setting), batch), analysis.invariants(7.0 * make(setting), batch)
    assert dataclasses.astuple(many) == pytest.approx(dataclasses.astuple(one))


@pytest.mark.parametrize("name", TO)
def test_rows_without_tokens_change_nothing(name: str) -> None:
    make, setting, batch = TO[name]
    masks = {"mask": None} if isinstance(batch, ga.Batch) else {"chosen_mask": None, "rejected_mask": None}

    def emptied(keep: Tensor) -> ga.Batch | ga.PreferenceBatch:
        return dataclasses.replace(batch, **{mask: keep[:, None].expand(-1, width(mask)) for mask in masks})

    def width(mask: str) -> int:
        return getattr(batch, "policy" if mask == "mask" else mask.removesuffix("_mask")).shape[1]

    half = batch.size // 2
    some = analysis.invariants(make(setting), emptied(torch.arange(batch.size) < half))
    assert dataclasses.astuple(some) == pytest.approx(
        dataclasses.astuple(analysis.invariants(make(setting), batch[:half]))
    )


@pytest.mark.parametrize(
    ("objective", "by", "message"),
    [
        (ga.recipes.grpo(), "curvature", "the objective's own is 0. At the anchor this potential does not resist"),
        (ga.recipes.sapo(), "radius", "the objective's own is inf. .* never balances the pull"),
        (ga.recipes.grpo(epsilon=3.0), "clipped", "the objective's own is 0. The policy has not moved"),
        (ga.recipes.grpo(), "size", "curvature"),
        (ga.recipes.grpo(beta=0.1) , "radius", "a sum of 2 terms; take one of objective.terms"),
        (ga.recipes.cispo(), "radius", "measured from an anchor by one log-ratio per event, .*anchor=None"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated(objective: ga.BaseObjective, by: str, message: str) -> None:
    batch = dataclasses.replace(WALK, reference=WALK.old)
    with pytest.raises(ValueError, match=message):
        analysis.translate(objective, lambda mu: ga.recipes.opo(mu=mu), batch, by=by)


def test_a_number_out_of_reach_says_what_can_be_reached() -> None:
    with pytest.raises(ValueError, match=r"has 0.04, and the other one has .* for numbers from 100 to 1000"):
        analysis.translate(ga.recipes.grpo(), lambda mu: ga.recipes.opo(mu=mu), WALK, low=100, high=1000)
    with pytest.raises(ValueError, match=r"has 0.\d+, and the other one has 0 to 0.0\d+ for numbers from 1e-06"):
        few = dataclasses.replace(WALK, policy=torch.where(torch.arange(TOKENS) < 2, WALK.policy, WALK.old))  # type: ignore
        analysis.translate(ga.recipes.gspo(), lambda e: ga.recipes.grpo(epsilon=e), few, by="clipped")
    with pytest.raises(ValueError, match="positive"):
        analysis.translate(ga.recipes.grpo(), lambda mu: ga.recipes.opo(mu=-mu), WALK)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 0.0}, r"translate\(low=0.0\): a positive number"),
        ({"high": math.inf}, r"translate\(high=inf\): a positive number"),
        ({"low": "1"}, r"translate\(low='1'\): a positive number"),
        ({"low": 10.0, "high": 1.0}, r"translate\(low=10.0, high=1.0\): the ends"),
        ({"to": "opo"}, r"translate\(to='opo'\): a function"),
    ],
)
def test_a_search_without_ends_or_function_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        analysis.translate(ga.recipes.grpo(), **{"to": lambda mu: ga.recipes.opo(mu=mu), "batch": WALK, **given})


def test_reach_is_that_of_one_term() -> None:
    with pytest.raises(TypeError, match="`objective` of reach is str"):
        analysis.reach("dpo")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a sum of 2 terms"):
        analysis.reach(ga.recipes.echo())  # type: ignore[arg-type]
    for drive in (0.0, -1.0, "a"):
        with pytest.raises(ValueError, match=r"reach\(drive=.*positive"):
            analysis.reach(ga.recipes.opo(), drive)  # type: ignore[arg-type]


def test_reach_needs_no_batch() -> None:
    for made, curvature, target in (
        (ga.recipes.grpo(epsilon=0.2), math.inf, 0.2),
        (ga.recipes.cfpo(0.2), 0.2, 0.2),
        (ga.recipes.dpo(beta=0.1), 20.0, math.inf),
        (ga.recipes.ipo(tau=0.1), 5.0, math.expm1(5.0)),
        (ga.recipes.opo(mu=2.0), 0.5, math.sqrt(2 * math.cosh(0.5) * (math.cosh(0.5) - 1))),
    ):
        found = analysis.reach(made.terms[0][1])
        assert (found.curvature, found.target) == pytest.approx((curvature, target))
    assert analysis.reach(ga.recipes.opo(mu=2.0), drive=3.0).curvature == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("objective", "curvature", "target"),
    [
        (ga.recipes.grpo(epsilon=0.2), math.inf, 0.2),
        (ga.recipes.gspo(0.2, 0.2), math.inf, 0.2),
        (ga.recipes.cfpo(0.2), 0.2, 0.2),
        (ga.recipes.opo(mu=5), 0.2, math.sqrt(2 * math.cosh(0.2) * (math.cosh(0.2) - 1))),
        (ga.recipes.ppo(epsilon=None, beta=5), 0.2, math.sqrt(2 * math.cosh(0.2) * (math.cosh(0.2) - 1))),
        (ga.recipes.dpo(beta=10), 0.2, math.inf),
        (ga.recipes.cdpo(beta=8, label_smoothing=0.1), 0.2, math.expm1(math.log(0.9 / 0.1) / 8)),
        (ga.recipes.ipo(tau=2.5), 0.2, math.expm1(0.2)),
    ],
)
def test_the_numbers_of_the_table_have_one_reach(objective: ga.BaseObjective, curvature: float, target: float) -> None:
    """The column of docs/translating_numbers.md that has the reach of ε = 0.2, row by row."""
    found = analysis.reach(objective.terms[0][1])
    assert (found.curvature, found.target) == pytest.approx((curvature, target))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dpo", ["20 nats by the curvature at the anchor; nowhere a balance", "τ = 0.025 (IPO)"]),
        ("grpo", ["|t − 1| = 0.2 where it balances", "μ = 5.057 (χ² in the log-ratio)", "1,000 tokens ε = 0.0063"]),
        ("ipo", ["5 nats by the curvature", "β = 0.4 (DPO)"]),
    ],
)
def test_show_prints_them(name: str, words: list[str]) -> None:
    from rich.console import Console

    from geomalign.cli.show import description

    console = Console(width=250, record=True, quiet=False, file=__import__("io").StringIO())
    console.print(description(name, ga.recipes.get(name), {}))
    text = console.export_text()
    assert all(word in text for word in words), text


def at(*drive: float) -> ga.Batch:
    """Responses of one token that have not moved, under these drives."""
    zero = torch.zeros(len(drive), 1, dtype=torch.float64)
    return ga.Batch(zero - 1, zero - 1, advantage=torch.tensor(drive, dtype=torch.float64))


@pytest.mark.parametrize("optimization", [ga.ChiSquare(3.0), ga.ReverseKL(2.0), ga.Clip(0.1, 0.3)], ids=repr)
@pytest.mark.parametrize(
    "chart",
    [ga.LogRatio(), ga.LogRatio(2.0), ga.Ratio(), ga.Power(-0.7), ga.Sigmoid(0.5), ga.Sigmoid(2.0, 0.4)],
    ids=repr,
)
@pytest.mark.parametrize("drive", [1.0, 0.5])
def test_reach_is_what_the_invariants_are_of_one_token(
    chart: ga.Chart, optimization: ga.OptimizationGeometry, drive: float
) -> None:
    made = ga.Objective(unit=ga.Sequence(), sampling=ga.Advantage(), chart=chart, optimization=optimization)
    found, seen = analysis.reach(made, drive), analysis.invariants(made, at(drive, -drive))
    assert found.curvature == pytest.approx(1 / seen.curvature if seen.curvature else math.inf)
    assert found.target == pytest.approx(math.sqrt(seen.radius))


@pytest.mark.parametrize("chart", [ga.LogRatio(), ga.LogRatio(2.0), ga.Ratio(), ga.Sigmoid(0.5, 0.4)], ids=repr)
def test_reach_of_a_pair_begins_where_its_responses_are_equal(chart: ga.Chart) -> None:
    """A label of 0.3 against a square of 2: the force −0.3 in u, whatever the chart is at the anchor."""
    made = ga.Objective(
        unit=ga.Pair(), sampling=ga.Label(0.3), chart=chart, optimization=ga.ChiSquare(2.0), anchor="reference"
    )
    slope = float(chart.slope(torch.zeros((), dtype=torch.float64)))
    assert analysis.reach(made).curvature == pytest.approx(0.3 / 2.0 / slope)


def test_a_scale_of_the_log_ratio_divides_the_reach() -> None:
    """½μ(2Δ)² − 2gΔ bends by 4μ under a pull of 2g, and rests at g/(2μ)."""
    made = ga.Objective(
        unit=ga.Sequence(), sampling=ga.Advantage(), chart=ga.LogRatio(2.0), optimization=ga.ChiSquare(3.0)
    )
    found, rest = analysis.reach(made), [math.expm1(x) ** 2 for x in (1 / 6, -1 / 6)]
    assert (found.curvature, found.target) == pytest.approx((1 / 6, math.sqrt(sum(rest) / 2)))


def curved(mu: float) -> ga.BaseObjective:
    return ga.recipes.opo(mu=mu)


def test_of_several_numbers_the_smallest_is_found() -> None:
    """μ = 5 at x = 0.01 and at x = 10."""

    def bent(x: float) -> ga.BaseObjective:
        place = math.log10(x)
        return curved(5 * math.exp((place + 2) * (place - 1) / 5))

    assert analysis.translate(curved(5.0), bent, WALK, by="curvature").setting == pytest.approx(0.01)
    assert analysis.translate(curved(5.0), bent, WALK, by="curvature", low=0.02).setting == pytest.approx(10)


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(5.1, 50.0, False), (0.1, 4.9, False), (1.0, 7.0, True), (5.0, 7.0, True), (1.0, 5.0, True), (4.9, 5.1, True)],
)
def test_the_search_is_from_one_end_to_the_other(low: float, high: float, found: bool) -> None:
    def searched() -> float:
        return analysis.translate(curved(5.0), curved, WALK, by="curvature", low=low, high=high).setting

    if found:
        assert searched() == pytest.approx(5.0, rel=1e-9)
        return
    one = analysis.invariants(curved(1.0), WALK).curvature
    reached = rf"has {5 * one:.4g}, and the other one has {low * one:.4g} to {high * one:.4g}"
    with pytest.raises(ValueError, match=rf"{reached} for numbers from {low:g} to {high:g}\."):
        searched()


def test_numbers_that_the_other_objective_refuses_are_passed_over() -> None:
    """Here half of the search and its middle; where it refuses all of them the middle one is shown."""
    shifted = analysis.translate(curved(5.0), lambda x: curved(x - 1), WALK, by="curvature")
    assert shifted.setting == pytest.approx(6.0, rel=1e-9)
    assert shifted.found.curvature == pytest.approx(shifted.source.curvature)
    assert shifted.objective == curved(shifted.setting - 1)
    with pytest.raises(ValueError, match=r"ChiSquare\(mu=-0\.1000000"):
        analysis.translate(curved(5.0), lambda x: curved(-x), WALK)
    with pytest.raises(ValueError, match=r"translate\(low=5.0, high=5.0\): the ends of the search, low < high\."):
        analysis.translate(curved(5.0), curved, WALK, low=5.0, high=5.0)


def test_a_share_of_all_or_of_nothing_is_no_measure() -> None:
    """Both tokens are beyond their walls, or at the anchor; or one of two is."""
    batch = at(1.0, -1.0)
    gone = dataclasses.replace(batch, policy=batch.policy + torch.tensor([[0.5], [-0.5]], dtype=torch.float64))
    half = dataclasses.replace(batch, policy=batch.policy + torch.tensor([[0.5], [0.5]], dtype=torch.float64))
    clip = ga.recipes.ppo(epsilon=0.2)
    assert [analysis.invariants(clip, b).clipped for b in (batch, gone, half)] == [0.0, 1.0, 0.5]
    for b, share in ((batch, 0), (gone, 1)):
        with pytest.raises(
            ValueError, match=rf"translate\(by='clipped'\): the objective's own is {share}\. The policy"
        ):
            analysis.translate(clip, ga.recipes.ppo, b, by="clipped")
    assert [analysis.invariants(clip, at(0.0, 0.0)).radius, analysis.invariants(clip, at(0.0, 1.0)).radius] == (
        pytest.approx([0.0, 0.02])
    )
    still = dataclasses.replace(at(0.0, 1.0, 1.0, 0.0), policy=torch.tensor([[-0.5], [-0.5], [-1.0], [-2.0]]))
    assert analysis.invariants(clip, still).clipped == 0.5, "of the two events that something pulls at"
    square = ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), optimization=ga.ChiSquare(2.0))
    moved = dataclasses.replace(at(0.0, 1.0), policy=torch.tensor([[-0.5], [-0.75]], dtype=torch.float64))
    assert analysis.invariants(square, moved).clipped == pytest.approx(0.5), "2·¼ of the pull of 1 is gone"
    for name in ("curvature", "clipped"):
        assert math.isnan(getattr(analysis.invariants(clip, at(0.0, 0.0)), name)), "nothing pulls"


@pytest.mark.parametrize(("drives", "radius"), [((1.0,), 4.0), ((-1.0,), 1.0), ((1.0, -1.0), 2.5), ((-0.25,), 0.25)])
def test_a_target_of_no_probability_is_a_ratio_of_zero(drives: tuple[float, ...], radius: float) -> None:
    """¼(t − 1)² against g rests at t = 1 + 2g, or at 0 where that is negative."""
    made = ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), chart=ga.Ratio(), optimization=ga.ChiSquare(0.5))
    assert analysis.invariants(made, at(*drives)).radius == pytest.approx(radius)
    term = dataclasses.replace(made, sampling=ga.Label(drives[0]))
    if len(drives) == 1:
        assert analysis.reach(term).target == pytest.approx(math.sqrt(radius))


def test_a_coordinate_that_does_not_go_as_far_is_infinitely_far_in_the_direction_of_the_pull() -> None:
    """σ lies between 0 and 1: a square that rests at ±2 from ½ is left for Δ → ±∞, t → ∞ or 0."""
    made = ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), chart=ga.Sigmoid(1.0), optimization=ga.ChiSquare(0.5))
    assert analysis.invariants(made, at(1.0)).radius == math.inf
    assert analysis.invariants(made, at(-1.0)).radius == 1.0


@pytest.mark.parametrize("name", ["curvature", "radius", "clipped"])
def test_the_invariants_are_averages_whatever_the_weights_sum_to(name: str) -> None:
    batch = WALK[:8]
    for factory in (ga.recipes.opo, ga.recipes.grpo):
        made = factory().terms[0][1]
        found = [
            getattr(analysis.invariants(dataclasses.replace(made, measure=measure), batch), name)
            for measure in (ga.PooledMean(), ga.FixedBudget(7.0))
        ]
        assert found[1] == pytest.approx(found[0]) and math.isfinite(found[0])


@pytest.mark.parametrize("name", ["dpo", "ipo", "cdpo", "chi_po"])
def test_the_invariants_of_pairs_are_those_of_their_log_ratios(name: str) -> None:
    """References that differ between the two responses change nothing where the policy moves with them."""
    make, setting, _ = TO[name]
    chosen, rejected = torch.linspace(-2, -1, 20).reshape(4, 5), torch.linspace(-0.3, -3, 20).reshape(4, 5)
    shifted = ga.PreferenceBatch(
        PAIRS.chosen + chosen, PAIRS.rejected + rejected, chosen, rejected, margin=PAIRS.margin
    )
    expected = dataclasses.astuple(analysis.invariants(make(setting), PAIRS))
    assert dataclasses.astuple(analysis.invariants(make(setting), shifted)) == pytest.approx(expected)


def test_a_unit_that_is_measured_from_a_level_of_its_own() -> None:
    """u = Δ − 0.3 under u² − u: pulled with 1.6 at the anchor, it rests at Δ = 0.8."""
    unit = ga.unit.Shifted(of=ga.Token(), origin=0.3)
    made = ga.Objective(unit=unit, sampling=ga.Advantage(), optimization=ga.ChiSquare(2.0))
    found = analysis.invariants(made, at(1.0))
    assert (found.curvature, found.radius) == pytest.approx((2 / 1.6, math.expm1(0.8) ** 2))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_target_of_a_sum_over_tokens_is_shared_by_its_tokens(scale: float) -> None:
    """IPO's square rests at 1/(2τ) = 5, which the five tokens of a response share; in the chart 2Δ half is enough."""
    made = dataclasses.replace(ga.recipes.ipo(tau=0.1, normalize="sum").terms[0][1], chart=ga.LogRatio(scale))
    assert analysis.invariants(made, PAIRS).radius == pytest.approx(math.expm1(1 / scale) ** 2)
