"""The slot values that the catalogue brought: what is particular to each. Their laws run with all the others."""

import math

import pytest
import torch

import geomalign as ga
from geomalign import laws

GROUP = ga.GroupAdvantage()
STRAIGHT = ga.StraightThrough(ga.ReverseKL(), ga.ChiSquare())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ga.unit.ClampedTokens(low=0.1),
        lambda: ga.Chosen(of=ga.Token()),
        lambda: ga.Chosen(of=ga.unit.BroadcastSequence()),
        lambda: ga.PreferenceProbability(beta=0.0),
        lambda: ga.Sigmoid(scale=-1.0),
        lambda: ga.Indicator(1.0, 0.0),
        lambda: ga.Indicator(-math.inf, math.inf),
        lambda: ga.optimization.SquaredHinge(0.0),
        lambda: ga.Linear(-1.0),
        lambda: ga.AdvantageScaled(ga.Clip()),  # type: ignore[arg-type]
        lambda: ga.optimization.SigmoidClip(0.0),
        lambda: ga.optimization.LogRatioModulated(tau=0.0),
        lambda: ga.StraightThrough(ga.Clip(), ga.ChiSquare()),  # type: ignore[arg-type]
        lambda: ga.ImportanceWeighted(ga.Clip()),  # type: ignore[arg-type]
        lambda: ga.SignWeighted(GROUP, positive=-1.0),
        lambda: ga.Whitened(ddof=2),
        lambda: ga.sampling.PassAtK(0),
        lambda: ga.sampling.MaxAtK("batch"),
        lambda: ga.ExponentiatedAdvantage(temperature=0.0),
        lambda: ga.sampling.ExponentialAdvantage(1.5),
        lambda: ga.sampling.LogMeanExpBaseline(0.0),
        lambda: ga.sampling.TaperedImportance(positive=(1.0, 0.5)),
        lambda: ga.sampling.GammaImportance(positive=(1.0, 0.0)),
        lambda: ga.sampling.DivergenceMask(divergence="js"),
        lambda: ga.sampling.DivergenceMask(low=0.0),
        lambda: ga.KLReward(GROUP, ga.Linear(), beta=0.0),
        lambda: ga.KLReward(GROUP, ga.Linear(), unit="batch"),
        lambda: ga.divergences.SkewJensenShannon(1.0),
    ],
)
def test_wrong_hyper_parameters_are_named(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"\w+\(|needs|a share"):
        wrong()  # type: ignore[operator]


def test_log_odds() -> None:
    """logit(e^x) with its slope, finite for impossible and for sure responses."""
    x = torch.tensor([-700.0, -40.0, -3.0, -0.1, -1e-9], requires_grad=True)
    chart = ga.chart.LogOdds()
    p = x.detach().exp()
    torch.testing.assert_close(chart(x)[2:4], torch.logit(p[2:4]))
    (slope,) = torch.autograd.grad(chart(x).sum(), x)
    torch.testing.assert_close(chart.slope(x), slope)
    torch.testing.assert_close(chart.inverse(chart(x)), x, rtol=1e-6, atol=0)
    for dtype in (torch.float32, torch.float64):
        edge = torch.tensor([-1e4, 0.0, 1e4], dtype=dtype, requires_grad=True)
        value = chart(edge)
        assert torch.isfinite(value).all() and torch.isfinite(torch.autograd.grad(value.sum(), edge)[0]).all()


def test_straight_through_has_one_value_and_another_gradient() -> None:
    u = torch.linspace(-1, 1, 5, requires_grad=True)
    value = STRAIGHT.value(u)
    torch.testing.assert_close(value, ga.ReverseKL().value(u))
    torch.testing.assert_close(torch.autograd.grad(value.sum(), u)[0], ga.ChiSquare().mirror(u))
    torch.testing.assert_close(STRAIGHT.mirror(u), ga.ChiSquare().mirror(u))


def test_a_shared_response_counts_by_its_length() -> None:
    """Under a token mean every token of a response has the response's gradient, |y| times a plain mean's weight."""
    mask = torch.tensor([[True, True, True], [True, False, False]])
    policy = torch.zeros(2, 3, requires_grad=True)
    batch = ga.Batch(policy, policy.detach(), mask, advantage=torch.tensor([1.0, 1.0]))
    slots = {"chart": ga.Ratio(), "sampling": ga.Advantage(), "optimization": ga.Flat(), "measure": ga.FixedBudget(1)}
    shared = ga.Objective(unit=ga.unit.BroadcastSequence(), **slots).gradient(batch)  # type: ignore[arg-type]
    plain = ga.Objective(unit=ga.MeanSequence(), **slots).gradient(batch)  # type: ignore[arg-type]
    torch.testing.assert_close(shared, plain * mask.sum(-1, keepdim=True))


def test_importance_is_taken_against_the_old_policy_where_the_objective_has_no_anchor() -> None:
    """An objective of log π itself weighs by π/π_old, and has the gradient of one that measures from π_old."""
    batch = laws.sample_batch()
    weighed = ga.ClippedImportance(ga.Advantage(), high=1.1)
    gradients = [
        ga.Objective(
            unit=ga.Token(), chart=ga.LogRatio(), sampling=weighed, optimization=ga.Flat(), anchor=anchor
        ).gradient(batch)
        for anchor in ("old", None)
    ]
    torch.testing.assert_close(*gradients)


def test_advantage_scaled_grows_with_the_drive_and_keeps_its_equilibrium() -> None:
    geometry = ga.AdvantageScaled(ga.ChiSquare(5.0))
    u, drive = torch.tensor([0.1]), torch.tensor([2.0])
    torch.testing.assert_close(geometry.curvature(u, 2 * drive), 2 * geometry.curvature(u, drive))
    torch.testing.assert_close(geometry.equilibrium(2 * drive), geometry.equilibrium(drive))


def test_a_shifted_unit_is_as_linear_as_the_unit_that_is_shifted() -> None:
    """With a linear chart and no potential, clamped tokens still need the current log-probabilities."""
    clamped = ga.unit.Shifted(of=ga.unit.ClampedTokens(low=-0.1, high=0.1), origin=0.2)
    assert not clamped.linear and clamped.needs_tokens and ga.unit.Shifted().linear
    objective = ga.Objective(unit=clamped, sampling=ga.Advantage(), optimization=ga.Flat())
    assert objective.locality is ga.Locality.SEQUENCE
    batch = laws.sample_batch()
    (gradient,) = torch.autograd.grad(objective.plain(batch).loss, batch.policy)
    torch.testing.assert_close(objective.gradient(batch), gradient)
