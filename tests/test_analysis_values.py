"""Values of `geomalign.analysis` by hand, at its defaults and away from them, and what it says where it refuses."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign import analysis
from geomalign.analysis.asymptotics import Tail, _rounded, asymptote

NAN, INF = math.nan, math.inf


def square(chart: ga.Chart, mu: float = 1.0) -> ga.Objective:
    return ga.Objective(unit=ga.Sequence(), sampling=ga.Advantage(), chart=chart, optimization=ga.ChiSquare(mu))


# ---- descent


def test_the_curvature_is_taken_at_the_bounds_at_the_middle_and_at_an_equilibrium_between_them() -> None:
    """Of a logistic link it is σσ̄, largest at 0, which is one of the 4,097 points; of KL 1/(1 + u)."""
    link = analysis.contraction(ga.Logistic(1.0), 0.3, drive=0.7)
    edge = 1 / (2 + 2 * math.cosh(1.0))
    assert link.largest_rate == 8.0 and link.conditioning == pytest.approx(0.25 / edge, rel=1e-12)
    assert link.at_equilibrium == pytest.approx(1 - 0.3 * 0.7 * 0.3) and link.worst == pytest.approx(1 - 0.3 * edge)
    # The equilibrium e³ − 1 lies beyond the bounds and does not count; e^{1/5} − 1 lies between them.
    outside = analysis.contraction(ga.KL(1.0), 0.3, drive=3.0, low=-0.5)
    assert outside.conditioning == pytest.approx(4.0)
    assert outside.at_equilibrium == pytest.approx(1 - 0.3 * math.exp(-3))
    between = analysis.contraction(ga.Logistic(2.0), 0.3, drive=1.0, low=-3.0, high=2.0, points=2)
    assert between.largest_rate == pytest.approx(2.0)  # β²/4 at u* = 0, which neither bound has


@pytest.mark.parametrize("drive", [1.0, 2.0])
def test_without_an_equilibrium_there_is_no_last_factor(drive: float) -> None:
    assert math.isnan(analysis.contraction(ga.Logistic(1.0), 0.3, drive=drive).at_equilibrium)


def test_a_flat_potential_neither_contracts_nor_drives_apart() -> None:
    found = analysis.contraction(ga.Flat(), 0.3)
    assert (found.rate, found.worst, found.largest_rate, found.conditioning) == (0.3, 1.0, INF, INF)
    assert analysis.contraction(ga.KL(2.0), 0.25).at_equilibrium == pytest.approx(0.5), "without a drive, at u = 0"
    with pytest.raises(ValueError, match=r"contraction\(rate=-0.1\): the step size of descent must be positive"):
        analysis.contraction(ga.Flat(), -0.1)


def test_descent_against_a_drive() -> None:
    path = analysis.descend(ga.ChiSquare(2.0), torch.tensor([4.0, 0.5]), 0.25, 2, drive=1.0)
    torch.testing.assert_close(path, torch.tensor([[4.0, 0.5], [2.25, 0.5], [1.375, 0.5]]))
    assert analysis.descend(ga.ChiSquare(1.0), torch.tensor(4.0), 0.5, 2).tolist() == [4.0, 2.0, 1.0]


def test_a_constant_drive_needs_no_stiffness_whatever_an_impossible_outcome_has() -> None:
    prior = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]).log()
    found = analysis.positivity(
        torch.tensor([[1.0, 1.0, 5.0], [3.0, 1.0, 2.0]]), ga.PearsonChiSquare(), log_prior=prior
    )
    assert found.tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("anchor", [None, 1.5])
def test_the_tails_of_a_logit_are_those_beside_its_anchor(anchor: float | None) -> None:
    """The gradient of −log σ(z − z_k) falls off as −e^{z_k}·e^{−z}."""
    given = {} if anchor is None else {"anchor_logit": anchor}
    tails = analysis.saturation(ga.recipes.dpo(beta=1.0), 1.0, **given)
    assert set(tails) == {"u", "logit"}
    low, high = tails["logit"]
    assert (low.rate, low.power, low.coefficient) == (0.0, 0.0, pytest.approx(-1.0))
    assert (high.rate, high.power, high.coefficient) == (-1.0, 0.0, pytest.approx(-math.exp(anchor or 0.0), rel=1e-3))
    at = analysis.in_logit(ga.recipes.dpo(beta=1.0), torch.tensor(anchor or 0.0), 1.0, **given)
    assert float(at.gradient) == pytest.approx(-0.5) and float(at.curvature) == pytest.approx(0.25)


# ---- curvature in parameters


@pytest.mark.parametrize(
    ("diagonal", "rank", "conditioning", "rate"),
    [
        ((1.0, 0.9e-10), 1, 1.0, 2.0),
        ((1.0, 1.1e-10), 2, 1 / 1.1e-10, 2.0),
        ((4.0, -0.5), 2, INF, 0.5),
        ((-4.0, -0.5), 2, INF, INF),
        ((0.0, 0.0), 0, NAN, INF),
    ],
)
def test_the_spectrum_of_a_diagonal(diagonal: tuple[float, ...], rank: int, conditioning: float, rate: float) -> None:
    found = analysis.spectrum(torch.diag(torch.tensor(diagonal)))
    assert (found.rank, found.conditioning, found.largest_rate) == pytest.approx(
        (rank, conditioning, rate), nan_ok=True
    )
    assert found.eigenvalues.tolist() == pytest.approx(sorted(diagonal))


def test_a_spectrum_is_that_of_the_symmetric_part_within_a_tolerance() -> None:
    found = analysis.spectrum(torch.tensor([[2.0, 4.0], [0.0, 2.0]]))  # [[2, 2], [2, 2]]
    assert found.eigenvalues.tolist() == pytest.approx([0.0, 4.0]) and found.rank == 1
    assert analysis.spectrum(torch.diag(torch.tensor([1.0, 0.3])), tolerance=0.5).rank == 1


def test_contexts_of_a_fisher_matrix_weigh_the_same_unless_told() -> None:
    theta, vector = torch.tensor([0.3, -0.2]), torch.tensor([1.0, 2.0])

    def log_probs(z: Tensor) -> Tensor:
        return torch.log_softmax(torch.stack([z, 3 * z]), -1)

    equal = analysis.fisher(log_probs, theta, vector)
    torch.testing.assert_close(equal, analysis.fisher(log_probs, theta, vector, weights=torch.tensor([0.5, 0.5])))
    p, q = (torch.softmax(k * theta, -1) for k in (1, 3))
    expected = sum(k**2 * (torch.diag(x) - torch.outer(x, x)) / 2 for k, x in ((1, p), (3, q))) @ vector  # type: ignore
    torch.testing.assert_close(equal, expected)


def test_a_loss_that_does_not_depend_on_the_parameters_has_no_curvature() -> None:
    other, theta = torch.tensor([[0.3], [0.1]], requires_grad=True), torch.zeros(3)
    made = square(ga.LogRatio())
    found = analysis.hessian(made, lambda _: ga.Batch(other, torch.zeros(2, 1), advantage=torch.ones(2)), theta, theta)
    assert torch.equal(found, torch.zeros(3))


# ---- sensitivity


def test_a_derivative_is_of_four_central_differences_and_exact_up_to_the_eighth_power() -> None:
    seen: set[float] = set()

    def function(a: float, b: float) -> Tensor:
        seen.add(a)
        return torch.tensor(a**8 * b)

    found = analysis.cross_derivative(function, 0.7, 1.0, step=0.5)
    assert float(found) == pytest.approx(8 * 0.7**7, rel=1e-12)
    assert sorted(seen) == pytest.approx([0.7 + sign * h for sign, h in itertools.chain(
        ((-1, 0.5 / 2**k) for k in range(4)), ((1, 0.5 / 2**k) for k in (3, 2, 1, 0)))])  # fmt: skip
    seen.clear()
    analysis.cross_derivative(function, 0.7, 1.0)
    assert max(seen) == pytest.approx(0.71, rel=1e-12), "the default"
    ninth = analysis.cross_derivative(lambda a, b: torch.tensor(a**9 * b), 0.7, 1.0, step=0.5)
    assert abs(float(ninth) - 9 * 0.7**8) == pytest.approx(0.5**8 / 2**12, rel=1e-6)


@pytest.mark.parametrize(("value", "step", "widest"), [(2.0, 1e-2, 0.02), (-2.0, 0.1, 0.2), (0.0, 1e-2, 1e-5)])
def test_a_parameter_varies_by_a_share_of_its_size(value: float, step: float, widest: float) -> None:
    seen: list[tuple[float, float]] = []

    def recipe(shift: float, mu: float) -> ga.Objective:
        seen.append((shift, mu))
        return square(ga.LogRatio(), mu)

    batch = ga.Batch(torch.zeros(2, 1), torch.zeros(2, 1), advantage=torch.zeros(2))
    given = {} if step == 1e-2 else {"step": step}  # the default
    found = analysis.decoupling(recipe, batch, shift=value, mu=3.0, **given)
    assert max(abs(shift - value) for shift, _ in seen) == pytest.approx(widest, rel=1e-9)
    assert max(abs(mu - 3.0) for _, mu in seen) == pytest.approx(3 * step, rel=1e-9)
    assert {mu for shift, mu in seen if shift != value} == {3.0}, "one parameter varies at a time"
    assert found.scale == (1e-12, 3.0), "a drive that vanishes has the least size"
    assert set(found.drive) == set(found.curvature) == {"shift", "mu"}


def test_a_change_of_just_the_tolerance_moves_nothing() -> None:
    found = analysis.Decoupling({"a": torch.tensor([-0.5])}, {"a": torch.tensor([1.0])}, (1.0, 2.0))
    assert found.moves("a", tolerance=0.5) == (False, False) and found.moves("a", tolerance=0.49) == (True, True)


# ---- dynamics


def test_a_portrait_is_on_a_lattice_inside_an_equilateral_triangle() -> None:
    bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.3, -0.4]))
    made = square(ga.LogRatio())
    found = analysis.portrait(bandit, made, resolution=2)
    assert (4 * found.probabilities).tolist() == [[1, 1, 2], [1, 2, 1], [2, 1, 1]]
    top = math.sqrt(3) / 2
    torch.testing.assert_close(4 * found.plane, torch.tensor([[2.0, 2 * top], [2.5, top], [1.5, top]]))
    corners = analysis.dynamics.Portrait(torch.eye(3), torch.eye(3), torch.zeros(3))
    torch.testing.assert_close(corners.plane, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, top]]))
    torch.testing.assert_close(corners.arrows, corners.plane)
    assert len(analysis.portrait(bandit, made).loss) == 17 * 16 // 2  # sixteen points at each side


@pytest.mark.parametrize(
    "tree",
    [analysis.Tree.bandit(torch.zeros(2)), analysis.Tree.bandit(torch.zeros(4)), analysis.Tree(torch.zeros(9), 3)],
)
def test_a_portrait_is_of_three_responses_of_one_token(tree: analysis.Tree) -> None:
    with pytest.raises(ValueError, match=rf"this tree has {len(tree.reward)} responses of {tree.horizon}: use"):
        analysis.portrait(tree, square(ga.LogRatio()))


@pytest.mark.parametrize("of", [analysis.portrait, analysis.gradient_flow])
def test_an_unknown_metric_is_refused(of: Callable[..., Any]) -> None:
    given = {} if of is analysis.portrait else {"time": torch.tensor([0.0, 1.0])}
    with pytest.raises(ValueError, match=r"metric='natural' is unknown: choose one of 'euclidean', 'fisher'\."):
        of(analysis.Tree.bandit(torch.zeros(3)), square(ga.LogRatio()), metric="natural", **given)


def test_a_mirror_step_has_no_loss_and_counts_its_time() -> None:
    bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.0]))
    flow = analysis.mirror_descent(bandit, ga.KullbackLeibler(), 3)
    assert flow.time.tolist() == [0.0, 1.0, 2.0, 3.0] and flow.time.dtype == torch.float64
    assert flow.loss.shape == (4,) and bool(flow.loss.isnan().all())
    torch.testing.assert_close(flow.reward, flow.probabilities[:, 0])


def test_a_flow_is_euclidean_from_the_anchor_unless_told() -> None:
    tree, time = analysis.Tree(torch.tensor([1.0, 0.2, -0.5, 0.0]), 2), torch.tensor([0.0, 0.5])
    anchor = torch.tensor([[0.3, 0.0], [-0.2, 0.1], [0.5, 0.0]])
    made = square(ga.Ratio(), 2.0)
    flow = analysis.gradient_flow(tree, made, time, anchor=anchor)
    torch.testing.assert_close(flow.logits[0], anchor)
    named = analysis.gradient_flow(tree, made, time, anchor=anchor, start=anchor, metric="euclidean")
    assert torch.equal(flow.logits, named.logits)
    fisher = analysis.gradient_flow(tree, made, time, anchor=anchor, metric="fisher")
    assert float((fisher.logits - flow.logits).abs().max()) > 1e-3
    assert torch.equal(analysis.gradient_flow(tree, made, time).logits[0], tree.uniform())
    # At the start −∇L or −F⁺∇L.
    gradient, short = tree.gradient(made, anchor, anchor), torch.tensor([0.0, 1e-4])
    for metric, velocity in (("euclidean", -gradient), ("fisher", -tree.natural(anchor, gradient))):
        flow = analysis.gradient_flow(tree, made, short, anchor=anchor, metric=metric)
        torch.testing.assert_close((flow.logits[1] - flow.logits[0]) / 1e-4, velocity, rtol=1e-3, atol=1e-5)
    # The drive, held fixed, instead of the exact advantage.
    still = analysis.gradient_flow(tree, made, time, anchor=anchor, drive=torch.zeros(4))
    torch.testing.assert_close(still.logits[1], anchor)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the integrator at infinity
def test_a_flow_that_cannot_be_followed_is_told() -> None:
    """Without a potential the log-ratio falls at a rate that grows as 1/π."""
    bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.0]))
    free = ga.Objective(unit=ga.Sequence(), sampling=ga.Advantage(), optimization=ga.Flat())
    with pytest.raises(ValueError, match=r"could not be followed to time 100: .*A flow may reach a zero probability"):
        analysis.gradient_flow(bandit, free, torch.tensor([0.0, 100.0]), metric="fisher", tolerance=0.1)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-12, 1e-15])
def test_the_error_of_a_flow_is_within_its_tolerance(tolerance: float) -> None:
    """Of a linear reward the natural flow is replicator dynamics: two arms have the odds e^s."""
    bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.0]))
    linear = ga.Objective(unit=ga.Sequence(), sampling=ga.Advantage(), chart=ga.Ratio(), optimization=ga.Flat())
    flow = analysis.gradient_flow(bandit, linear, torch.tensor([0.0, 5.0]), metric="fisher", tolerance=tolerance)
    assert float(flow.probabilities[-1, 0]) == pytest.approx(1 / (1 + math.exp(-5.0)), abs=max(tolerance, 1e-12))


# ---- trees


@pytest.mark.parametrize(
    ("rewards", "actions", "horizon", "nodes"), [(2, 2, 1, 1), (8, 2, 3, 7), (9, 3, 2, 4), (5, 5, 1, 1)]
)
def test_the_size_of_a_tree(rewards: int, actions: int, horizon: int, nodes: int) -> None:
    tree = analysis.Tree(torch.zeros(rewards), actions)
    assert (tree.horizon, tree.nodes, tree.uniform().shape) == (horizon, nodes, (nodes, actions))
    assert tree.probabilities(tree.uniform()).tolist() == pytest.approx([1 / rewards] * rewards)
    assert tree.visits(tree.uniform()).tolist() == pytest.approx(
        [actions**-t for t in range(horizon) for _ in range(actions**t)]
    )


@pytest.mark.parametrize(("rewards", "actions"), [(1, 1), (2, 1), (0, 1), (1, 2), (3, 2), (6, 2), (9, 2), (4, 0)])
def test_a_tree_of_no_power_of_its_actions_is_refused(rewards: int, actions: int) -> None:
    with pytest.raises(ValueError, match=rf"Tree\(reward of shape \({rewards},\), actions={actions}\): responses"):
        analysis.Tree(torch.zeros(rewards), actions)


def test_a_drive_takes_the_place_of_the_exact_advantage() -> None:
    """E under the anchor of ½μu² − g·u, of Δ summed over tokens."""
    tree = analysis.Tree(torch.tensor([1.0, 0.2, -0.5, 0.0]), 2)
    anchor, logits = (
        torch.tensor([[0.3, 0.0], [-0.2, 0.1], [0.5, 0.0]]),
        torch.tensor([[0.1, 0.2], [0.0, 1.0], [0.4, 0.0]]),
    )
    prior, u = tree.probabilities(anchor), (tree.log_probs(logits) - tree.log_probs(anchor)).sum(-1)
    g = torch.tensor([0.5, -1.0, 2.0, 0.1])
    made = square(ga.LogRatio(), 2.0)
    assert float(tree.loss(made, logits, anchor, g)) == pytest.approx(float((prior * (u**2 - g * u)).sum()))
    exact = tree.reward - (prior * tree.reward).sum()
    torch.testing.assert_close(tree.advantage(anchor), exact)
    assert float(tree.loss(made, logits, anchor)) == pytest.approx(float((prior * (u**2 - exact * u)).sum()))
    whole = dataclasses.replace(made, offset=ga.FenchelYoung())  # the whole square
    assert float(tree.loss(whole, logits, anchor, g)) == pytest.approx(float((prior * (g - 2 * u) ** 2 / 4).sum()))
    both = tree.loss(3.0 * made + made, logits, anchor, g)
    assert float(both) == pytest.approx(4 * float((prior * (u**2 - g * u)).sum()))
    batch = tree.batch(logits, anchor)
    assert batch.reward is tree.reward and batch.old is batch.reference is batch.behavior
    torch.testing.assert_close(batch.policy, tree.log_probs(logits))
    torch.testing.assert_close(batch.old, tree.log_probs(anchor))


# ---- tails


@pytest.mark.parametrize(
    ("function", "side", "rate", "power", "coefficient"),
    [
        (lambda x: 5 * (x.abs() + 1) ** -2.5, -1, 0.0, -2.5, 5.0),
        (lambda x: -2 * torch.exp(0.25 * x) * (1 + 1 / (1 + x**2)), 1, 0.25, 0.0, -2.0),
        (lambda x: 7 * torch.exp(x), -1, -1.0, 0.0, 7.0),
        (lambda x: 1e-5 * torch.exp(-x) + 0 * x, 1, -1.0, 0.0, 1e-5),
        (lambda x: 3 + 4 / (1 + x**2), 1, 0.0, 0.0, 3.0),
        (lambda x: x**3 + x, -1, 0.0, 3.0, -1.0),
        (lambda x: x.abs() ** 0.5 * torch.exp(-0.5 * x.abs()), -1, -0.5, 0.5, 1.0),
    ],
)
def test_the_order_of_a_function(
    function: Callable[[Tensor], Tensor], side: int, rate: float, power: float, coefficient: float
) -> None:
    found = asymptote(function, side)
    assert (found.rate, found.power) == (pytest.approx(rate, abs=1e-6), pytest.approx(power, abs=1e-5))
    assert found.coefficient == pytest.approx(coefficient, rel=1e-3) and found.onset is None
    assert found.uncertainty < 1e-3


@pytest.mark.parametrize("uncertainty", [0.0, 0.9e-3, 1.1e-3])
def test_the_defaults_and_the_text_of_a_tail(uncertainty: float) -> None:
    assert (Tail(0.0, 1.0, 2.0).onset, Tail(0.0, 1.0, 2.0).uncertainty) == (None, 0.0)
    text = str(Tail(0.0, 1.23456789, 1 / 3, uncertainty=uncertainty))
    assert text == ("~ 0.3333 |x|^1.23457" if uncertainty < 1e-3 else "≈ 0.33 |x|^1.2")


def test_a_tail_is_read_from_quarter_octaves_up_to_a_million_and_its_size_from_around_the_origin() -> None:
    for side in (1, -1):
        seen: list[Tensor] = []

        def function(x: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(x)
            return x**2 + 1

        assert asymptote(function, side).power == 2.0
        torch.testing.assert_close(seen[0], side * 2.0 ** (torch.arange(81.0) / 4))
        torch.testing.assert_close(seen[1], torch.linspace(-1, 1, 33))


@pytest.mark.parametrize(
    ("function", "onset", "coefficient"),
    [
        (lambda x: 2.0 * (x < 1.1), 1.1, 2.0),  # one sample, at 1, is beside zero
        (lambda x: 2.0 * ((x > 0.7) & (x < 1.1)), 1.1, 2.0),
        (lambda x: -3.0 * (x < 9e5), 9e5, -3.0),  # all but the last sample
        (lambda x: torch.relu(0.4 - x), 0.4, 0.0),
        (lambda x: 0 * x, 0.0, 0.0),
    ],
)
def test_the_place_of_a_wall_and_the_last_value_before_it(
    function: Callable[[Tensor], Tensor], onset: float, coefficient: float
) -> None:
    found = asymptote(function, 1)
    assert (found.onset, found.coefficient) == (pytest.approx(onset, rel=1e-9), pytest.approx(coefficient))
    assert (found.rate, found.power) == (0.0, 0.0)


@pytest.mark.parametrize(("size", "wall"), [(0.99e4, True), (1.01e4, False)])
def test_a_wall_is_a_millionth_of_the_size_a_hundredth_before_it(size: float, wall: bool) -> None:
    assert (asymptote(lambda x: torch.relu(3 - x), 1, scale=size).onset is not None) is wall
    assert asymptote(lambda x: 1e-9 * (x < 1.1), 1, scale=1.0).onset is None


@pytest.mark.parametrize(
    ("size", "kind"),
    [(0.9e-290, "undetermined"), (1.1e-290, "constant"), (0.9e290, "constant"), (1.1e290, "undetermined")],
)
def test_numbers_near_the_ends_of_their_range_are_not_used(size: float, kind: str) -> None:
    assert asymptote(lambda x: torch.full_like(x, size), 1).kind == kind


def test_a_function_that_overflows_is_read_up_to_there() -> None:
    found = asymptote(lambda x: torch.exp(4 * x) * x, 1)
    assert (found.rate, found.power) == (4.0, 1.0)


def test_an_order_is_corrected_by_what_falls_off_as_an_inverse() -> None:
    found = asymptote(lambda x: x.sqrt() * torch.exp(-x / 2) * (1 + 3 / x), 1)
    assert (found.rate, found.power) == (-0.5, 0.5)
    assert found.coefficient == pytest.approx(1.0, rel=5e-4) and found.uncertainty < 1e-3


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(
    ("power", "sign", "rate"), [(1.3, -1, -INF), (1.5, 1, INF), (2.0, -1, -INF), (2.0, 1, INF), (1.27, -1, NAN)]
)
def test_a_rate_that_grows_by_a_twentieth_at_every_sample_is_infinite(
    power: float, sign: int, rate: float, side: int
) -> None:
    """Of e^{±|x|^p} by 2^{(p − 1)/4} from one quarter of an octave to the next."""
    found = asymptote(lambda x: torch.exp(sign * x.abs() ** power), side)
    assert found.rate == pytest.approx(rate, nan_ok=True)
    assert found.power == pytest.approx(0.0 if math.isinf(rate) else NAN, nan_ok=True)
    assert math.isnan(found.coefficient) and found.uncertainty > 0.1 and found.onset is None


@pytest.mark.parametrize(
    ("value", "error", "short"),
    [
        (2.06, 1.0, 2.1),
        (2.04, 1.0, 2.0),
        (0.1234567 + 1e-10, 0.0, 0.1234567 + 1e-10),
        (0.123456 + 1e-10, 0.0, 0.123456),
        (1.2e-6, 0.0, 1.2e-6),
        (0.123456 + 1.2e-9, 0.0, 0.123456 + 1.2e-9),
        (0.5105, 1e-3, 0.51),
    ],
)
def test_a_number_is_rounded_to_six_decimals_and_by_a_twentieth_at_most(
    value: float, error: float, short: float
) -> None:
    assert _rounded(value, error) == short


@pytest.mark.parametrize(("end", "order"), [(6.7, NAN), (6.8, 1.0)])
def test_twelve_samples_are_the_fewest(end: float, order: float) -> None:
    """The twelfth lies at 2^2¾ = 6.73."""
    assert asymptote(lambda x: torch.where(x < end, x, INF), 1).power == pytest.approx(order, nan_ok=True)
