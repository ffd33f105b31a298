"""The slot values that the catalogue brought: every law of their slot, and what is particular to each."""

import math

import pytest
import torch

import geomalign as ga
from geomalign import laws

GROUP = ga.GroupAdvantage()
UNITS: list[ga.Unit] = [
    ga.Clamped(high=0.2),
    ga.Clamped(ga.Sequence(), low=-0.1),
    ga.Shared(),
    ga.Shared(ga.Sequence()),
    ga.Offset(origin=0.5),
    ga.Chosen(),
    ga.Rejected(ga.MeanSequence()),
    ga.Preference(beta=0.5),
    ga.SortedPair(),
    ga.TransportedPair(),
]
CHARTS: list[ga.Chart] = [ga.Sigmoid(0.5), ga.Sigmoid(1.0, 0.7)]
OPTIMIZATION: list[ga.OptimizationGeometry] = [
    ga.Box(),
    ga.Box(-math.inf, 0.0),
    ga.Box(-0.5, 0.5),
    ga.Entropy(),
    ga.SquaredHinge(0.5),
    ga.Linear(),
    ga.Proportional(ga.ChiSquare(5.0)),
    ga.Proportional(2 * ga.Logistic(0.5)),  # type: ignore[arg-type]
    ga.SoftGate(),
    ga.Blend(1.0, 0.5),
    ga.Reweighted(ga.ReverseKL()),
    ga.Reweighted(ga.ChiSquare(), through=False),
]
SAMPLING: list[ga.SamplingGeometry] = [
    ga.Asymmetric(GROUP, 1.0, 0.5),
    ga.LengthBaseline(),
    ga.Whitened(),
    ga.Whitened(GROUP, ddof=0),
    ga.ActiveScale(),
    ga.PassAtK(2),
    ga.BestMargin(),
    ga.BestMargin("group"),
    ga.BestOfN(),
    ga.Boltzmann(),
    ga.Boltzmann(cap=None),
    ga.Excited(),
    ga.SoftBaseline(),
    ga.TaperedImportance(),
    ga.GammaImportance(GROUP),
    ga.DivergenceMask(GROUP),
    ga.DivergenceMask(GROUP, "kl"),
    ga.ImportanceRatio(),
    ga.LeashedReward(GROUP, ga.Linear()),
    ga.LeashedReward(GROUP, ga.ReverseKL(), unit="token"),
    ga.LeashedReward(GROUP, ga.ChiSquare(), unit="return"),
]
DIVERGENCES: list[ga.Divergence] = [ga.SkewJensenShannon(0.3), ga.SkewJensenShannon(0.5)]


def short(member: object) -> str:
    return repr(member)[:60]


@pytest.mark.parametrize("unit", UNITS, ids=short)
def test_units(unit: ga.Unit) -> None:
    laws.check_unit(unit)


@pytest.mark.parametrize("chart", CHARTS, ids=short)
def test_charts(chart: ga.Chart) -> None:
    laws.check_chart(chart)


@pytest.mark.parametrize("geometry", OPTIMIZATION, ids=short)
def test_optimization(geometry: ga.OptimizationGeometry) -> None:
    laws.check_optimization(geometry)


@pytest.mark.parametrize("sampling", SAMPLING, ids=short)
def test_sampling(sampling: ga.SamplingGeometry) -> None:
    laws.check_sampling(sampling)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=short)
def test_divergences(divergence: ga.Divergence) -> None:
    laws.check_divergence(divergence)


STRAIGHT = ga.StraightThrough(ga.ReverseKL(), ga.ChiSquare())


@pytest.mark.parametrize(
    "member", [*UNITS, *CHARTS, *OPTIMIZATION, *SAMPLING, *DIVERGENCES, ga.LogOdds(), STRAIGHT], ids=short
)
def test_repr_and_latex(member: ga.Unit) -> None:
    again = eval(repr(member), {name: getattr(ga, name) for name in dir(ga)} | {"inf": math.inf})
    assert again == member and hash(again) == hash(member)
    arguments = {ga.Unit: (None,), ga.Chart: ("x",), ga.OptimizationGeometry: ("u", "g")}
    given = next((a for kind, a in arguments.items() if isinstance(member, kind)), ())
    text = member.latex(*given)  # type: ignore[arg-type]
    assert text.count("{") == text.count("}") and text.count(r"\left") == text.count(r"\right")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ga.Clamped(low=0.1),
        lambda: ga.Chosen(of=ga.Token()),
        lambda: ga.Chosen(of=ga.Shared()),
        lambda: ga.Preference(beta=0.0),
        lambda: ga.Sigmoid(scale=-1.0),
        lambda: ga.Box(1.0, 0.0),
        lambda: ga.Box(-math.inf, math.inf),
        lambda: ga.SquaredHinge(0.0),
        lambda: ga.Linear(-1.0),
        lambda: ga.Proportional(ga.Clip()),  # type: ignore[arg-type]
        lambda: ga.SoftGate(0.0),
        lambda: ga.Blend(tau=0.0),
        lambda: ga.StraightThrough(ga.Clip(), ga.ChiSquare()),  # type: ignore[arg-type]
        lambda: ga.Reweighted(ga.Clip()),  # type: ignore[arg-type]
        lambda: ga.Asymmetric(GROUP, positive=-1.0),
        lambda: ga.Whitened(ddof=2),
        lambda: ga.PassAtK(0),
        lambda: ga.BestMargin("batch"),
        lambda: ga.Boltzmann(temperature=0.0),
        lambda: ga.Excited(1.5),
        lambda: ga.SoftBaseline(0.0),
        lambda: ga.TaperedImportance(positive=(1.0, 0.5)),
        lambda: ga.GammaImportance(positive=(1.0, 0.0)),
        lambda: ga.DivergenceMask(divergence="js"),
        lambda: ga.DivergenceMask(low=0.0),
        lambda: ga.LeashedReward(GROUP, ga.Linear(), beta=0.0),
        lambda: ga.LeashedReward(GROUP, ga.Linear(), unit="batch"),
        lambda: ga.SkewJensenShannon(1.0),
    ],
)
def test_wrong_hyper_parameters_are_named(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"\w+\(|needs|a share"):
        wrong()  # type: ignore[operator]


def test_log_odds() -> None:
    """logit(e^x) with its slope, finite for impossible and for sure responses."""
    x = torch.tensor([-700.0, -40.0, -3.0, -0.1, -1e-9], requires_grad=True)
    chart = ga.LogOdds()
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
    shared = ga.Objective(unit=ga.Shared(), **slots).law(batch)  # type: ignore[arg-type]
    plain = ga.Objective(unit=ga.MeanSequence(), **slots).law(batch)  # type: ignore[arg-type]
    torch.testing.assert_close(shared, plain * mask.sum(-1, keepdim=True))


def test_importance_against_the_rollout_policy_where_the_objective_has_no_anchor() -> None:
    """An objective of log π itself weighs by π/π_old, and has the gradient of one that measures from π_old."""
    batch = laws.sample_batch()
    weighed = ga.ClippedImportance(ga.Advantage(), high=1.1)
    laws_of = [
        ga.Objective(unit=ga.Token(), chart=ga.LogRatio(), sampling=weighed, optimization=ga.Flat(), anchor=anchor).law(
            batch
        )
        for anchor in ("anchor", None)
    ]
    torch.testing.assert_close(*laws_of)


def test_proportional_follows_the_size_of_the_drive_and_not_its_equilibrium() -> None:
    geometry = ga.Proportional(ga.ChiSquare(5.0))
    u, drive = torch.tensor([0.1]), torch.tensor([2.0])
    torch.testing.assert_close(geometry.curvature(u, 2 * drive), 2 * geometry.curvature(u, drive))
    torch.testing.assert_close(geometry.equilibrium(2 * drive), geometry.equilibrium(drive))
