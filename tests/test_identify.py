"""The geometry read off a loss, against what its formula says."""

import dataclasses
import functools
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import identify_pages
import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

import geomalign as ga
from geomalign import recipes
from geomalign._util.types import Interval
from geomalign.analysis.asymptotics import asymptote
from geomalign.analysis.identification import Identification, Moved, as_loss, identify
from geomalign.analysis.identification.curve import resolve
from geomalign.recipes.rewards import groups

F64 = torch.float64


def ppo(low: float, high: float) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(log_ratio: Tensor, advantage: Tensor) -> Tensor:
        t = log_ratio.exp()
        return -torch.minimum(t * advantage, t.clamp(1 - low, 1 + high) * advantage)

    return loss


def dual_clip(log_ratio: Tensor, advantage: Tensor) -> Tensor:
    return torch.where(
        advantage < 0,
        torch.minimum(ppo(0.2, 0.2)(log_ratio, advantage), -3 * advantage),
        ppo(0.2, 0.2)(log_ratio, advantage),
    )


def k3(x: Tensor) -> Tensor:
    return torch.exp(-x) + x - 1


# (loss, chart, potential, drive, offset), every loss written as its paper has it.
DRIVEN = {
    "reinforce": (lambda x, a: -a * x, ga.LogRatio(), ga.Flat(), "A", "none"),
    "opo, ratio": (lambda x, a: 0.35 * x.expm1() ** 2 - a * x.expm1(), ga.Ratio(), ga.ChiSquare(0.7), "A", "none"),
    "opo, log": (lambda x, a: x**2 / 2 - a * x, ga.LogRatio(), ga.ChiSquare(1.0), "A", "none"),
    "opo's weights": (
        lambda x, a: x**2 / 2 - (0.6 * a).exp() * x, ga.LogRatio(), ga.ChiSquare(1.0), "exp(0.6 A)", "none",
    ),
    "mirror descent": (lambda x, a: (a - 2 * x) ** 2 / 4, ga.LogRatio(), ga.ChiSquare(2.0), "A", "fenchel_young"),
    "five times": (lambda x, a: 5 * (x.exp() ** 2 - a * x.exp()), ga.Ratio(), ga.ChiSquare(10.0), "5 A - 10", None),
    "ppo, KL penalty": (
        lambda x, a: -a * x.exp() + 0.1 * (x.exp() * (x - 1) + 1), ga.Ratio(), ga.KL(0.1), "A", "surrogate",
    ),
    "Box-Cox": (lambda x, a: -a * (torch.expm1(0.3 * x) / 0.3), ga.Power(0.3), ga.Flat(), "A", "none"),
    "reverse KL chart": (lambda x, a: a * torch.exp(-x) + k3(x), ga.Power(-1.0), None, "A", None),
    "Jensen-Shannon": (
        lambda x, a: -a * (x + math.log(2) - torch.nn.functional.softplus(x)),
        ga.Dual(ga.JensenShannon()), ga.Flat(), "A", "none",
    ),
    "chi-po's chart": (
        lambda x, a: -a * (x + x.expm1()),
        ga.Dual(ga.KullbackLeibler() + ga.PearsonChiSquare()), ga.Flat(), "A", "none",
    ),
    "kto": (
        lambda x, a: -a * torch.sigmoid(0.5 * x - 0.2), ga.Sigmoid(0.5, 0.4), ga.Flat(), "A", None,
    ),
    "alpha": (
        lambda x, a: -a * x.expm1() + 0.2 * (torch.expm1(1.5 * x) / 1.5 - x.expm1()) / 0.5,
        ga.Ratio(), ga.AlphaDivergence(1.5, 0.2), "A", "none",
    ),
    "two potentials": (
        lambda x, a: -a * x + x**2 + 0.3 * k3(x), ga.LogRatio(), ga.ChiSquare(2.0) + ga.ReverseKL(0.3), "A", "none",
    ),
    "no drive": (lambda x, a: 0.04 * k3(x) + 0 * a, ga.LogRatio(), ga.ReverseKL(0.04), "0", "none"),
    "ppo": (ppo(0.2, 0.2), ga.Ratio(), ga.Clip(0.2, 0.2), "A", "surrogate"),
    "dapo": (ppo(0.2, 0.28), ga.Ratio(), ga.Clip(0.2, 0.28), "A", "surrogate"),
    "gspo": (ppo(3e-4, 4e-4), ga.Ratio(), ga.Clip(3e-4, 4e-4), "A", "surrogate"),
    "dual clip": (dual_clip, ga.Ratio(), ga.Clip(0.2, 0.2, dual=3.0), "A", "surrogate"),
}  # fmt: skip

# (loss of a margin, potential, drive, shift, offset)
MARGINS = {
    "dpo": (lambda m: -logsigmoid(0.1 * m), ga.Logistic(0.1), 0.1, 0.0, "none"),
    "dpo, naive": (lambda m: -torch.log(torch.sigmoid(2 * m)), ga.Logistic(2.0), 2.0, 0.0, "none"),
    "cdpo": (lambda m: -0.9 * logsigmoid(0.1 * m) - 0.1 * logsigmoid(-0.1 * m), ga.Logistic(0.1), 0.09, 0.0, "none"),
    "robust": (
        lambda m: (-0.9 * logsigmoid(0.1 * m) + 0.1 * logsigmoid(-0.1 * m)) / 0.8,
        ga.Logistic(0.1), 0.1125, 0.0, "none",
    ),
    "three dpo": (lambda m: -3 * logsigmoid(0.1 * m), 3.0 * ga.Logistic(0.1), 0.3, 0.0, "none"),
    "ipo": (lambda m: (m - 1 / 0.2) ** 2, ga.ChiSquare(2.0), 10.0, 0.0, "fenchel_young"),
    "slic": (lambda m: torch.relu(1 - 0.05 * m), ga.Hinge(0.05), 0.05, 0.0, "none"),
    "squared hinge": (lambda m: torch.relu(1 - 0.1 * m) ** 2, ga.optimization.SquaredHinge(0.1), 0.2, 0.0, "none"),
    "simpo": (lambda m: -logsigmoid(2 * m - 0.5), ga.Logistic(2.0), 2.0, 0.25, None),
    "exponential": (lambda m: torch.exp(-m), ga.ReverseKL(1.0), 1.0, 0.0, "fenchel_young"),
}  # fmt: skip


@pytest.mark.parametrize("name", DRIVEN)
def test_names_the_slots_of_a_driven_loss(name: str) -> None:
    loss, chart, potential, drive, offset = DRIVEN[name]
    report = identify(loss)
    found = report.recognised
    assert found.chart == chart
    if potential is not None:
        assert found.optimization == potential
        assert found.penalty is None
    assert report.drive_formula == drive
    assert found.offset == offset or potential is None or offset is None
    assert report.decoupled is not isinstance(potential, ga.Clip)
    assert found.residual < 1e-7 and found.chart_residual < 1e-8
    assert report.conservative
    if not isinstance(potential, ga.Clip) or potential.dual is None:
        assert report.convex


@pytest.mark.parametrize("name", MARGINS)
def test_names_the_slots_of_a_margin_loss(name: str) -> None:
    loss, potential, drive, shift, offset = MARGINS[name]
    report = identify(loss)
    assert report.kind == "margin"
    assert report.recognised.optimization == potential
    assert report.recognised.shift == pytest.approx(shift, abs=1e-8)
    assert float(report.drive) == pytest.approx(drive, rel=1e-8)
    assert offset is None or report.recognised.offset == offset
    assert report.decoupled and report.convex


def test_curves_equal_their_formulas() -> None:
    report = identify(DRIVEN["ppo, KL penalty"][0])
    x = torch.linspace(-11.0, 11.0, 301, dtype=F64)
    assert torch.allclose(report.chart(x), x.expm1(), rtol=1e-9, atol=1e-12)
    assert torch.allclose(report.chart.slope(x), x.exp(), rtol=1e-10, atol=0)
    u = torch.linspace(-0.999, 50.0, 301, dtype=F64)
    t = 1 + u
    assert torch.allclose(report.chart.inverse(u), t.log(), atol=1e-11)
    assert torch.allclose(report.mirror(u), 0.1 * t.log(), atol=1e-10)
    assert torch.allclose(report.potential(u), 0.1 * (t * t.log() - u), atol=1e-9)
    assert torch.allclose(report.curvature(u), 0.1 / t, rtol=1e-7)


def test_coupled_curves_depend_on_the_advantage() -> None:
    report = identify(ppo(0.2, 0.28))
    u = torch.tensor([-0.5, -0.1, 0.1, 0.5], dtype=F64)
    for a, wall in ((1.0, lambda u: torch.relu(u - 0.28)), (-2.0, lambda u: 2 * torch.relu(-u - 0.2))):
        assert torch.allclose(report.potential(u, a), wall(u), atol=1e-10)
    with pytest.raises(ValueError, match="coupled"):
        report.potential(u)


@pytest.mark.parametrize("low, high", [(0.2, 0.2), (0.2, 0.28), (3e-4, 4e-4)])
def test_coupling_is_where_the_clip_is(low: float, high: float) -> None:
    report = identify(ppo(low, high))
    assert report.coupling.coupled and report.coupling.by_sign
    below, above = report.coupling.regions
    assert below.log_ratio.high == pytest.approx(math.log(1 - low), abs=1e-9)
    assert above.log_ratio.low == pytest.approx(math.log(1 + high), abs=1e-9)
    assert (below.log_ratio.low, above.log_ratio.high) == (-30.0, 30.0)
    assert (below.advantage, above.advantage) == (Interval(-2.0, 0.0), Interval(0.0, 2.0))
    kinks = {round(k.log_ratio, 8): k.jumps for k in report.kinks}
    up = kinks[round(math.log(1 + high), 8)]
    # At the upper wall the force of a positive advantage jumps by A(1 + high), that of a negative one does not.
    assert up == pytest.approx([max(a, 0.0) * (1 + high) for a in report.advantage.tolist()], rel=1e-6)


def test_coupling_through_the_size_of_the_advantage() -> None:
    """|A| beyond 1 is felt as 1, but only where the ratio has grown: not a product of functions of A and Δ."""

    def loss(x: Tensor, a: Tensor) -> Tensor:
        return -torch.where(x > 0.5, a.clamp(-1, 1), a) * x

    report = identify(loss)
    assert not report.coupling.by_sign
    assert {(round(r.log_ratio.low, 8), r.advantage) for r in report.coupling.regions} == {
        (0.5, Interval(-2.0, -1.0)),
        (0.5, Interval(1.0, 2.0)),
    }


def test_a_smooth_function_of_the_advantage_is_not_a_coupling() -> None:
    report = identify(lambda x, a: x.expm1() ** 2 / 2 - torch.tanh(a) * x.expm1())
    assert report.decoupled
    assert report.recognised.chart == ga.Ratio() and report.recognised.optimization == ga.ChiSquare(1.0)
    assert report.drive_formula is None
    assert torch.allclose(report.drive, torch.tanh(report.advantage), atol=1e-10)


def test_a_detached_advantage_changes_nothing() -> None:
    loss = DRIVEN["ppo, KL penalty"][0]
    report = identify(lambda x, a: loss(x, a.detach()))
    assert report.recognised.optimization == ga.KL(0.1) and report.recognised.chart == ga.Ratio()
    x = torch.linspace(-25.0, 29.0, 101, dtype=F64)
    assert torch.allclose(report.chart.slope(x), x.exp(), rtol=1e-7)


@pytest.mark.parametrize("reduce", [torch.sum, torch.mean])
def test_reductions_do_not_matter(reduce: Callable[[Tensor], Tensor]) -> None:
    loss = DRIVEN["opo, ratio"][0]
    report = identify(lambda x, a: reduce(loss(x, a)))
    assert report.recognised.chart == ga.Ratio() and report.recognised.optimization == ga.ChiSquare(0.7)


def test_single_precision_raises_the_tolerance_and_says_so() -> None:
    report = identify(lambda x, a: DRIVEN["opo, ratio"][0](x.float(), a.float()))
    assert 1e-5 < report.tolerance < 1e-1
    assert report.recognised.chart == ga.Ratio()
    assert isinstance(report.recognised.optimization, ga.ChiSquare)
    assert report.recognised.optimization.mu == pytest.approx(0.7, rel=1e-4)


NEAR_MISSES = {
    "cubic": lambda x, a: x**2 / 2 + 1e-5 * x**3 - a * x,
    "quartic of a margin": lambda m: -logsigmoid(m) + 1e-6 * m**4,
    "kinked": lambda x, a: x**2 / 2 + 1e-4 * torch.relu(x - 1) ** 2 - a * x,
    "asymmetric": lambda x, a: torch.where(x > 0, 1.0001, 1.0) * x**2 / 2 - a * x,
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_a_near_miss_is_not_named(name: str) -> None:
    assert identify(NEAR_MISSES[name]).recognised.optimization is None


def test_the_tolerance_decides_and_the_residual_is_true() -> None:
    loss = lambda x, a: x**2 / 2 + 1e-5 * torch.sin(x) - a * x  # noqa: E731
    assert identify(loss).recognised.optimization is None
    report = identify(loss, tolerance=1e-3)
    assert isinstance(report.recognised.optimization, ga.ChiSquare)
    # What cos(x) adds to the force is 1e-5 at most; a fit may halve it but not hide it.
    assert 1e-6 < report.recognised.residual < 1e-4


def test_a_chart_near_another_is_not_taken_for_it() -> None:
    report = identify(lambda x, a: -a * torch.expm1(1.0001 * x) / 1.0001)
    assert report.recognised.chart == ga.Power(1.0001)
    report = identify(lambda x, a: -a * (x + 1e-4 * torch.sin(x)))
    assert report.recognised.chart is None


def test_a_clipped_importance_weight_betrays_its_stop_gradient() -> None:
    def cispo(x: Tensor, a: Tensor) -> Tensor:
        return -a * x.exp().clamp(max=5.0).detach() * x

    report = identify(cispo)
    assert not report.conservative
    assert report.recognised.chart == ga.LogRatio() and report.recognised.optimization == ga.Flat()
    assert report.recognised.weight == ga.ClippedImportance(ga.Advantage(), high=5.0)
    # By its force alone it is the ratio up to the cap, beyond which the chart goes on as a straight line.
    x = torch.tensor([2.0, 7.0], dtype=F64)
    assert torch.allclose(report.chart(x), 4 + 5 * (x - math.log(5.0)), atol=1e-9)


def test_k3_in_the_ratio_chart_is_not_convex_beyond_twice_the_anchor() -> None:
    """φ(u) = 1/t + log t − 1, φ'' = 2/t³ − 1/t²: positive up to t = 2 (an anchor that is also the old policy)."""
    report = identify(lambda x, a: -a * x.exp() + 0.1 * k3(x))
    assert report.convex is False
    assert report.recognised.optimization == ga.Flat()
    assert (report.recognised.penalty, report.recognised.penalty_chart) == (ga.ReverseKL(0.1), ga.LogRatio())
    t = torch.tensor([0.5, 1.9, 2.1, 5.0], dtype=F64)
    assert torch.allclose(report.curvature(t - 1), 0.1 * (2 / t**3 - 1 / t**2), rtol=1e-6)


def test_clip_and_kl_penalty_are_told_apart() -> None:
    report = identify(lambda x, a: ppo(0.2, 0.2)(x, a) + 0.04 * k3(x))
    found = report.recognised
    assert (found.chart, found.optimization, found.penalty, found.penalty_chart) == (
        ga.Ratio(), ga.Clip(0.2, 0.2), ga.ReverseKL(0.04), ga.LogRatio(),
    )  # fmt: skip


def test_a_chart_that_folds_is_no_chart() -> None:
    report = identify(lambda x, a: -a * torch.sin(x))
    assert report.convex is None and not report.chart.increasing
    assert report.recognised.chart is None


@pytest.mark.parametrize(
    "name, drives",
    [
        ("opo, ratio", (-0.6, 0.0, 1.0)),
        ("opo, log", (-1.0, 0.3)),
        ("ppo, KL penalty", (-0.5, 0.1)),
        ("alpha", (-0.3, 0.5)),
    ],
)
def test_equilibria_solve_the_mirror(name: str, drives: tuple[float, ...]) -> None:
    loss, _, potential, _, _ = DRIVEN[name]
    g = torch.tensor(drives, dtype=F64)
    assert torch.allclose(identify(loss).equilibrium(g), potential.equilibrium(g), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["cdpo", "ipo", "slic", "squared hinge"])
def test_equilibria_of_margins(name: str) -> None:
    loss, potential, drive, _, _ = MARGINS[name]
    expected = potential.equilibrium(torch.tensor(drive, dtype=F64))
    assert float(identify(loss).equilibrium()) == pytest.approx(float(expected), rel=1e-8)


def test_no_equilibrium_is_infinite() -> None:
    assert float(identify(MARGINS["dpo"][0]).equilibrium()) == math.inf
    assert identify(DRIVEN["reinforce"][0]).equilibrium(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [
        -math.inf,
        0.0,
        math.inf,
    ]
    # χ² in the ratio chart under a drive below −μ: the equilibrium would need a negative probability.
    assert float(identify(DRIVEN["opo, ratio"][0]).equilibrium(-0.71)) == -math.inf


def test_equilibrium_of_a_coupled_loss_is_its_wall() -> None:
    report = identify(ppo(0.2, 0.28))
    assert report.equilibrium(torch.tensor([-1.0, 0.0, 2.0])).tolist() == pytest.approx([-0.2, 0.0, 0.28], abs=1e-9)


def orders(report: Identification, advantage: float) -> list[tuple[float, float]]:
    return [(tail.rate, tail.power) for tail in report.saturation[advantage]]


def test_saturation_orders() -> None:
    assert orders(identify(DRIVEN["opo, ratio"][0]), 1.0) == [(-1.0, 0.0), (2.0, 0.0)]
    assert orders(identify(DRIVEN["opo, log"][0]), 1.0) == [(0.0, 1.0), (0.0, 1.0)]
    assert orders(identify(DRIVEN["ppo, KL penalty"][0]), 1.0) == [(-1.0, 1.0), (1.0, 1.0)]
    assert orders(identify(MARGINS["dpo"][0]), 0.1) == [(0.0, 0.0), (-0.1, 0.0)]
    assert orders(identify(MARGINS["ipo"][0]), 10.0) == [(0.0, 1.0), (0.0, 1.0)]
    low, high = identify(ppo(0.2, 0.28)).saturation[1.0]
    assert (low.rate, low.coefficient) == (-1.0, pytest.approx(-1.0))
    assert high.kind == "zero" and high.onset == pytest.approx(math.log(1.28), abs=1e-9)


def test_pairs_give_their_chart() -> None:
    def chi_po(chosen: Tensor, rejected: Tensor) -> Tensor:
        return -logsigmoid(0.1 * ((chosen + chosen.exp()) - (rejected + rejected.exp())))

    report = identify(chi_po, kind="pair")
    assert report.decoupled
    assert report.recognised.chart == ga.Dual(ga.KullbackLeibler() + ga.PearsonChiSquare())
    assert report.recognised.optimization == ga.Logistic(0.1) and float(report.drive) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "loss",
    [
        lambda c, r: -logsigmoid(0.1 * c) - logsigmoid(-0.1 * r),
        lambda c, r: -logsigmoid(0.1 * (c - r)) - 0.01 * c,
        lambda c, r: (c - r - 1) ** 2 + 0.1 * c * r,
    ],
    ids=["two responses apart", "a term of the chosen", "a product"],
)
def test_a_pair_loss_that_is_no_difference_of_charts_is_refused_a_name(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    report = identify(loss, kind="pair")
    assert report.coupling.coupled and report.recognised.chart is None and report.recognised.optimization is None


def test_refusals() -> None:
    with pytest.raises(ValueError, match="couples samples"):
        identify(lambda x, a: ((a - a.mean()) * x).mean())
    with pytest.raises(ValueError, match="not finite"):
        identify(lambda x, a: a * (x - 0.1).log())
    with pytest.raises(ValueError, match="choose one of"):
        identify(lambda x, a: a * x, kind="triple")
    with pytest.raises(ValueError, match="fewer than three"):
        identify(lambda x, a: a * x, advantages=(0.0, 1.0))
    with pytest.raises(ValueError, match="around 0"):
        identify(lambda x, a: a * x, domain=(1.0, 2.0))
    with pytest.raises(ValueError, match="does not move the loss at the anchor"):
        identify(lambda x, a: a * torch.relu(x - 1))


def test_the_domain_shrinks_to_where_the_loss_is_finite() -> None:
    report = identify(lambda x, a: -a * x - torch.log(3 - x))
    assert 2.0 < report.chart.domain.high <= 3.0 and report.chart.domain.low == -30.0


def test_the_report_reads() -> None:
    text = str(identify(ppo(0.2, 0.28)))
    for part in (
        "Ratio()",
        "Clip(low=0.2, high=0.28",
        "through the sign",
        "0.24686",
        "exactly zero beyond",
        "surrogate",
    ):
        assert part in text
    assert identify(ppo(0.2, 0.28)).summary() == text


# --------------------------------------------------------------------------------------------------- recipes


# Log-odds need a probability below one, and the domain must leave it there.
PROBED: dict[str, tuple[float, tuple[float, float]]] = {"orpo": (-4.0, (-8.0, 3.9))}
# Terms of the sum that the loss of one pair is, or a potential of the preference probability, or a blend of two links.
IN_PARTS = ["apo_down", "cpo", "discopop", "exo", "gpo_savage", "nca", "orpo"]
# A stop-gradient: what is read is the loss without its weight, and the weight.
WEIGHTED = ["cispo", "dppo", "topr", "vespo", "wpo"]
# Weighed by the probability of the token and not by its ratio, while one probability is probed.
BY_PROBABILITY = ["chord_phi", "dft", "tr_grpo"]
# Of two masks, while a loss of one token has one.
OBSERVING = ["echo"]
# Two terms, one for each sign of the advantage: of one token they are PPO's walls.
OF_ONE_TOKEN = ["gmpo"]
# Coefficient, scale of the chart and strength are not told apart by a loss: other names of the same geometry.
SAME_GEOMETRY = {
    "a2po": (ga.LogRatio(), ga.ChiSquare(2e-6)),
    "apo_zero": (ga.Sigmoid(0.1), ga.Flat()),
    "bco": (ga.LogRatio(), 2.0 * ga.Logistic(0.1)),
    "f_dpo": (ga.Power(-1.0), ga.Logistic(0.1)),
    "wpo": (ga.LogRatio(), ga.Logistic(0.1)),  # of a label of one strength, a factor |g| is a weight
    "generalized_jsd": (ga.Ratio(), ga.FDivergence(ga.JensenShannon(), 0.5)),
    "kto": (ga.Sigmoid(0.1), ga.Flat()),
    "sppo": (ga.LogRatio(), ga.ChiSquare(4.0)),
}


@functools.cache
def read(name: str) -> tuple[ga.BaseObjective, Identification]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ga.UnboundedLossWarning)
        objective = recipes.get(name)
        paired = objective.paired
        log_prob, domain = PROBED.get(name, (0.0, (-30.0, 30.0)))
        loss = as_loss(objective, log_prob=log_prob)
        return objective, identify(loss, kind="pair" if paired else "advantage", domain=domain)


# Of a group two opposite responses are probed: tests/recipes/test_groups.py.
IN_GROUPS = (*groups.__all__, "amir_grpo", "disco", "gvpo")
# A potential that no family of the recogniser holds, and a mask by the probability with a pull from the policy itself.
UNNAMED = ["f_grpo", "nft", "opd"]
# A stop-gradient weight or mask that differs beyond the recogniser's weights, or whose walls are those of a batch.
SURROGATES = ["aspo", "bapo", "ce_gppo", "fipo", "gepo", "gppo", "prime_ipo", "rec", "softmax_ppo"]
SEEN = (*IN_PARTS, *WEIGHTED, *BY_PROBABILITY, *OBSERVING, *OF_ONE_TOKEN, *UNNAMED, *SURROGATES, *IN_GROUPS)
PLAIN = [n for n in recipes.names() if n not in SEEN]


def test_the_page_tells_which_recipes_are_not_given_back() -> None:
    """Those that no test below compares with their slots, each for one reason; its numbers are those of these lists."""
    apart = [name for names in identify_pages.ELSEWHERE.values() for name in names]
    assert len(apart) == len(set(apart)) and set(apart) == {*SEEN} - {*IN_PARTS, *WEIGHTED}
    page = (identify_pages.HERE / "index.md").read_text(encoding="utf-8")
    own = len(PLAIN) + len(IN_PARTS) + len(WEIGHTED)
    assert f"{own} of the {len(recipes.names())} recipes" in page and f"The other {len(apart)} do not" in page
    assert f": {len(PLAIN)} one chart and one\npotential, {len(IN_PARTS)} a sum" in page
    assert f"probability, {len(WEIGHTED)} a\nweight without gradient" in page
    assert set(re.findall(r"`(\w+)`", page.split("own\nslots:\n\n")[1].split("\n\n")[0])) == set(apart)


@pytest.mark.parametrize("name", PLAIN)
def test_every_recipe_gives_back_its_own_slots(name: str) -> None:
    objective, report = read(name)
    ((_, term),) = objective.terms
    chart, optimization = SAME_GEOMETRY.get(name, (term.chart, term.optimization))
    assert report.recognised.chart == chart
    assert report.recognised.optimization == optimization
    assert report.recognised.residual < 1e-8
    assert report.decoupled == objective.decoupled
    if term.unit.paired:
        assert report.recognised.shift == pytest.approx(term.unit.margin)
        strength = float(term.drive(ga.PreferenceBatch(*torch.zeros(2, 1, 1), margin=torch.ones(1))).reshape(-1)[0])
        assert float(report.drive) == pytest.approx(strength, rel=1e-7)


@pytest.mark.parametrize("name", PLAIN)
def test_the_names_predict_the_gradient(name: str) -> None:
    """What was read off the loss's value, against the objective's gradient in closed form."""
    objective, report = read(name)
    found = report.recognised
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(200, generator=generator, dtype=F64) * 6 - 3
    zero = torch.zeros(200, 1, dtype=F64)
    assert found.chart is not None and found.optimization is not None
    if report.kind == "pair":
        batch = ga.PreferenceBatch(x[:, None], zero, zero, zero, margin=torch.ones(200, dtype=F64))
        gradient = objective.gradient(batch).chosen[:, 0]
        g = report.drive.expand(200)
    else:
        g = torch.randn(200, generator=generator, dtype=F64)
        single = ga.Batch(x[:, None], zero, reference=zero, behavior=zero, advantage=g)
        gradient = objective.gradient(single, drive=g)[:, 0]
    u = found.chart(x) - (found.chart(zero[:, 0]) if report.kind == "pair" else 0) - found.shift
    scale = report.drive[-1] / report.advantage[-1] if report.kind == "advantage" and report.advantage[-1] else 1.0
    force = found.optimization.force(u, g * scale if report.kind == "advantage" else g) * found.chart.slope(x)
    share = objective(batch).weights if report.kind == "pair" else objective(single, drive=g).weights
    assert torch.allclose(gradient / share.sum(), force / 200, rtol=1e-7, atol=1e-10)


def unbounded(optimization: ga.OptimizationGeometry) -> ga.OptimizationGeometry:
    """A box that its coordinate cannot leave is felt by no loss."""
    return ga.Flat() if isinstance(optimization, ga.Indicator) else optimization


@pytest.mark.parametrize("name", IN_PARTS)
def test_every_term_of_a_sum_gives_back_its_own_slots(name: str) -> None:
    objective, report = read(name)
    found = {type(part.unit): part for part in report.recognised.parts}
    assert len(found) == len(objective.terms)
    labels = ga.PreferenceBatch(*torch.zeros(2, 1, 1), margin=torch.ones(1))
    for factor, term in objective.terms:
        part = found[type(term.unit)]
        assert part.unit == dataclasses.replace(term.unit, of=ga.Sequence())
        assert part.chart == (Moved(term.chart, -4.0) if isinstance(term.chart, ga.chart.LogOdds) else term.chart)
        optimization = unbounded(term.optimization)
        assert part.optimization == (
            optimization if factor == 1 or optimization == ga.Flat() else factor * optimization  # type: ignore[comparison-overlap]
        )
        assert part.drive == pytest.approx(factor * float(term.drive(labels)), rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("name", IN_PARTS)
def test_the_parts_together_predict_the_gradient(name: str) -> None:
    objective, report = read(name)
    log_prob, (low, high) = PROBED.get(name, (0.0, (-6.0, 6.0)))
    x, y = low + (high - low) * torch.rand(2, 200, generator=torch.Generator().manual_seed(1), dtype=F64)
    anchor = torch.full((200, 1), log_prob, dtype=F64)
    batch = ga.PreferenceBatch(x[:, None] + log_prob, y[:, None] + log_prob, anchor, anchor)
    forces = [sum(sides) for sides in zip(*(part.forces(x, y) for part in report.recognised.parts), strict=True)]
    for gradient, force in zip(objective.gradient(batch), forces, strict=True):
        assert torch.allclose(200 * gradient[:, 0], force, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_weight_without_gradient_is_told_from_what_it_weighs(name: str) -> None:
    objective, report = read(name)
    ((_, term),) = objective.terms
    chart, optimization = SAME_GEOMETRY.get(name, (term.chart, term.optimization))
    found = report.recognised
    assert not report.conservative and found.residual < 1e-7
    assert (found.chart, found.optimization) == (chart, optimization)
    assert isinstance(term.sampling, type(found.weight))
    of = ga.Label(0.1) if report.kind == "pair" else ga.Advantage()
    assert found.weight == dataclasses.replace(term.sampling, of=of)


def test_tr_grpo_of_a_probable_token_is_the_clip_of_grpo() -> None:
    """Above a probability of a third the weight is constant, and what is read there is what it weighs."""
    objective, report = read("tr_grpo")
    ((_, term),) = objective.terms
    assert (report.recognised.chart, report.recognised.optimization) == (term.chart, term.optimization)
    assert report.recognised.weight is None and report.recognised.window.low > math.log(1 / 3) - 0.05


def test_a_mask_that_ends_the_weight_on_both_sides_is_no_error() -> None:
    """Far out the weight stands still at 0, which is no cap of a weight."""
    _, report = read("softmax_ppo")
    assert report.recognised.chart == ga.LogRatio()


def test_gmpo_of_one_token_is_a_clip_in_nats() -> None:
    _, report = read("gmpo")
    assert report.recognised.chart == ga.Ratio() and report.coupling.by_sign
    wall = report.recognised.optimization
    assert isinstance(wall, ga.Clip)
    assert (wall.low, wall.high) == (pytest.approx(-math.expm1(-0.4)), pytest.approx(math.expm1(0.4)))


SUMS = {
    "two squares": (lambda c, r: (c - 1) ** 2 + 0.5 * r**2, {ga.Chosen: (2.0, 2.0), ga.Rejected: (1.0, 0.0)}),
    "a product": (
        lambda c, r: (c - r - 1) ** 2 + 0.1 * c * r,
        {ga.Pair: (1.9, 2.0), ga.Chosen: (0.1, 0.0), ga.Rejected: (0.1, 0.0)},
    ),
    "in the ratio": (lambda c, r: (c.exp() - r.exp()) ** 2, {ga.Pair: (2.0, 0.0)}),
    "a term of the rejected": (lambda c, r: (c - r) ** 2 + 0.5 * r**2, {ga.Pair: (2.0, 0.0), ga.Rejected: (1.0, 0.0)}),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_over_both_responses_is_taken_apart(name: str) -> None:
    loss, expected = SUMS[name]
    parts = identify(loss, kind="pair", domain=(-6.0, 6.0)).recognised.parts
    found = {type(p.unit): p for p in parts}
    assert set(found) == set(expected)
    for unit, (mu, drive) in expected.items():
        assert found[unit].optimization == ga.ChiSquare(mu)
        assert found[unit].drive == pytest.approx(drive, abs=1e-9)


@pytest.mark.parametrize(
    "loss",
    [
        lambda c, r: (c - r) ** 2 + 1e-3 * c**2 * r,
        lambda c, r: -logsigmoid(0.1 * (c - r)) - 0.01 * c**3,
        lambda c, r: -logsigmoid(0.1 * (c - r)) + 1e-5 * (c - r) ** 4 - c,
    ],
    ids=["no sum", "a cubic side", "a near miss of a link"],
)
def test_a_sum_of_which_a_term_has_no_name_has_no_parts(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert identify(loss, kind="pair", domain=(-6.0, 6.0)).recognised.parts == ()


@pytest.mark.parametrize(
    "weight",
    [lambda t: 1 + torch.tanh(t), lambda t: t.clamp(max=5.0) + 1e-5 * t],
    ids=["no member", "a near miss of a clip"],
)
def test_a_weight_that_is_no_members_gets_no_name(weight: Callable[[Tensor], Tensor]) -> None:
    assert identify(lambda x, a: -a * weight(x.exp()).detach() * x).recognised.weight is None


def test_a_linear_term_of_a_pair_belongs_to_no_part_alone() -> None:
    """What no loss can tell: h(m) + c·m − c·Δ⁺ + c·Δ⁻ is h(m), whatever c."""
    c, r = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=F64)
    plain, moved = -logsigmoid(c - r), -logsigmoid(c - r) + 0.3 * (c - r) - 0.3 * c + 0.3 * r
    assert torch.allclose(plain, moved, atol=1e-14)


@pytest.mark.slow
def test_the_pages_say_what_the_recipes_do() -> None:
    script = Path(__file__).parent.parent / "docs" / "identify_pages.py"
    assert subprocess.run([sys.executable, str(script), "--check"], check=False).returncode == 0


# --------------------------------------------------------------------------------------------------- numerics


def test_panels_end_at_kinks_and_jumps() -> None:
    def f(x: Tensor) -> Tensor:
        return torch.stack([torch.where(x > math.log(1.2), 0.0, x.exp()), (x - 0.5).abs(), torch.relu(x + 7.3)], -1)

    found = resolve(f, Interval(-30.0, 30.0))
    assert found.kinks == pytest.approx([-7.3, math.log(1.2), 0.5], abs=1e-10)
    assert resolve(lambda x: torch.stack([x.exp(), torch.sigmoid(3 * x), x**5], -1), Interval(-30.0, 30.0)).kinks == ()


def test_quadrature_differentiation_and_inversion() -> None:
    found = resolve(lambda x: torch.stack([x.exp(), (x - 0.5).abs()], -1), Interval(-30.0, 30.0))
    x = torch.linspace(-29.9, 29.9, 997, dtype=F64)
    exponential = found.curve(found.values[..., 0])
    assert torch.allclose(exponential.integral()(x), x.expm1(), rtol=1e-9, atol=1e-13)
    assert torch.allclose(exponential.derivative()(x), x.exp(), rtol=1e-8)
    near = x[x.abs() < 9]
    assert torch.allclose(exponential.integral().inverse(near.expm1()), near, atol=1e-9)
    y = x - 0.5
    assert torch.allclose(found.curve(found.values[..., 1]).integral(0.5)(x), y * y.abs() / 2, atol=1e-9)
    assert exponential(torch.tensor([-31.0, 31.0])).isnan().all()


ASYMPTOTES = {
    "exponential": (lambda x: -0.3 * torch.exp(-2.5 * x), 1, -2.5, 0.0, -0.3),
    "exponential, slow": (lambda x: torch.sigmoid(-0.01 * x), 1, -0.01, 0.0, 1.0),
    "exponential, corrected": (lambda x: torch.sigmoid(-2 * x), 1, -2.0, 0.0, 1.0),
    "exponential times power": (lambda x: x**2 * torch.exp(-x), 1, -1.0, 2.0, 1.0),
    "growing": (lambda x: (x.exp() - 3) * x.exp(), 1, 2.0, 0.0, 1.0),
    "power": (lambda x: x / (1 + x**2), -1, 0.0, -1.0, -1.0),
    "root": (lambda x: (1 + x**2) ** 0.25, -1, 0.0, 0.5, 1.0),
    "line": (lambda x: 2 * x - 1.3, 1, 0.0, 1.0, 2.0),
    "constant": (lambda x: 0.04 * -torch.expm1(-x), 1, 0.0, 0.0, 0.04),
}


@pytest.mark.parametrize("name", ASYMPTOTES)
def test_asymptotes(name: str) -> None:
    f, side, rate, power, coefficient = ASYMPTOTES[name]
    tail = asymptote(f, side)
    assert (tail.rate, tail.power) == (pytest.approx(rate, abs=1e-9), pytest.approx(power, abs=1e-6))
    assert tail.coefficient == pytest.approx(coefficient, rel=1e-3)
    assert tail.saturates == (rate < 0 or (rate == 0 and power < 0))


def test_asymptotes_that_are_none() -> None:
    assert asymptote(lambda x: torch.exp(-(x**2)), 1).kind == "decays faster than exponentially"
    assert asymptote(lambda x: 0 * x, 1).kind == "zero"
    assert asymptote(lambda x: torch.relu(1 - x), 1).onset == pytest.approx(1.0)
    assert asymptote(torch.sin, 1).kind == "undetermined"


# ---------------------------------------------------------------------------------------------- other people's


def as_event(loss: Callable[[ga.Batch], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def event(log_ratio: Tensor, advantage: Tensor) -> Tensor:
        zero = torch.zeros_like(log_ratio)[:, None]
        return loss(ga.Batch(log_ratio[:, None], zero, torch.ones_like(zero), None, advantage, zero, None, zero))

    return event


@pytest.mark.parametrize(
    "options, optimization",
    [
        ({"loss_type": "grpo"}, ga.Clip(0.2, 0.2)),
        ({"loss_type": "dapo", "epsilon_high": 0.28}, ga.Clip(0.2, 0.28)),
        ({"loss_type": "bnpo", "delta": 3.0}, ga.Clip(0.2, 0.2, dual=3.0)),
    ],
)
def test_trl_grpo_as_a_black_box(options: dict[str, object], optimization: ga.OptimizationGeometry) -> None:
    pytest.importorskip("trl")
    from tests.parity.implementations.trl import TRL

    report = identify(as_event(TRL().loss("GRPOTrainer", **options)))
    assert report.recognised.chart == ga.Ratio()
    assert report.recognised.optimization == optimization
    assert report.recognised.offset == "surrogate"


@pytest.mark.parametrize(
    "loss_type, optimization",
    [("sigmoid", ga.Logistic(0.1)), ("ipo", ga.ChiSquare(2.0)), ("discopop", None), ("sppo_hard", None)],
)
def test_trl_dpo_as_a_black_box(loss_type: str, optimization: ga.OptimizationGeometry | None) -> None:
    pytest.importorskip("trl")
    from tests.parity.implementations.trl import TRL

    theirs = TRL().loss("DPOTrainer", loss_type=loss_type, beta=0.1)

    def pair(chosen: Tensor, rejected: Tensor) -> Tensor:
        anchor = torch.full_like(chosen, -4.0)[:, None]  # TRL may ask for probabilities, so log π stays below zero
        return theirs(ga.PreferenceBatch(chosen[:, None] - 4, rejected[:, None] - 4, anchor, anchor))

    report = identify(pair, kind="pair", domain=(-8.0, 3.9))
    assert report.recognised.optimization == optimization
    assert report.coupling.coupled == (loss_type == "sppo_hard")


@pytest.mark.parametrize("mode, clamp", [("vanilla", -20.0), ("gspo", 10.0)])
def test_verl_as_a_black_box(mode: str, clamp: float) -> None:
    pytest.importorskip("verl")
    from tests.parity.implementations.verl import Verl

    report = identify(as_event(Verl().loss(mode)))
    assert report.recognised.chart == ga.Ratio()
    assert isinstance(report.recognised.optimization, ga.Clip)
    assert (report.recognised.optimization.low, report.recognised.optimization.high) == (0.2, 0.2)
    # verl clamps log-ratios, and its gradient dies there: a kink that its formulas do not show.
    assert any(k.log_ratio == pytest.approx(clamp, abs=1e-8) for k in report.kinks)
