"""Closed forms of `geomalign.analysis` against autograd, dense linear algebra, enumeration and known solutions."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

import geomalign as ga
from geomalign import analysis

F64 = torch.float64


def objective(chart: ga.Chart, optimization: ga.OptimizationGeometry, **slots: object) -> ga.Objective:
    return ga.Objective(
        **{"unit": ga.Sequence(), "sampling": ga.Advantage(), "chart": chart, "optimization": optimization, **slots}
    )


CHARTS = [
    ga.LogRatio(), ga.LogRatio(2.0), ga.Ratio(), ga.Power(-0.7), ga.Dual(ga.JensenShannon()),
    ga.Dual(ga.KullbackLeibler() + ga.PearsonChiSquare()), ga.Sigmoid(0.5),
]  # fmt: skip
POTENTIALS = [ga.ChiSquare(0.7), ga.ReverseKL(0.3), ga.Logistic(1.3), ga.Flat(), ga.ChiSquare(1.0) + ga.ReverseKL(0.2)]
GRID = list(itertools.product(CHARTS, POTENTIALS))


def twice(function, x: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivative of an elementwise function by autograd."""
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    second = torch.autograd.grad(first.sum(), x)[0] if first.requires_grad else torch.zeros_like(x)
    return first.detach(), second


# ----------------------------------------------------------------------------------------------- coordinates


@pytest.mark.parametrize("chart, potential", GRID, ids=str)
def test_derivatives_in_every_coordinate(chart: ga.Chart, potential: ga.BregmanGeometry) -> None:
    x = torch.linspace(-2.5, 2.5, 21)
    g = torch.linspace(-1.0, 1.0, 21)
    found = analysis.coordinates(objective(chart, potential), x, g)

    def energy(u: Tensor) -> Tensor:
        return potential.value(u) - g * u

    for at, function, where in (
        (found.u, energy, chart(x)),
        (found.log_ratio, lambda x: energy(chart(x)), x),
        (found.ratio, lambda t: energy(chart(t.log())), x.exp()),
    ):
        first, second = twice(function, where)
        assert torch.allclose(at.gradient, first, rtol=1e-9, atol=1e-11)
        assert torch.allclose(at.curvature, second, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("chart, potential", GRID, ids=str)
def test_derivatives_in_a_logit(chart: ga.Chart, potential: ga.BregmanGeometry, paired: bool) -> None:
    z, z_k, g = torch.linspace(-3.0, 3.0, 13), 0.4, 0.8
    unit = ga.Pair(margin=0.3) if paired else ga.Sequence()
    found = analysis.in_logit(objective(chart, potential, unit=unit), z, g, anchor_logit=z_k)
    anchor = torch.tensor(z_k)

    def loss(z: Tensor) -> Tensor:
        u = chart(logsigmoid(z) - logsigmoid(anchor))
        if paired:
            u = u - chart(logsigmoid(-z) - logsigmoid(-anchor)) - 0.3
        return potential.value(u) - g * u

    first, second = twice(loss, z)
    assert torch.allclose(found.gradient, first, rtol=1e-9, atol=1e-11)
    assert torch.allclose(found.curvature, second, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("chart, potential", GRID, ids=str)
def test_derivatives_in_the_logits_of_a_softmax(chart: ga.Chart, potential: ga.BregmanGeometry) -> None:
    z, z_k = torch.tensor([0.3, -0.8, 1.1, 0.0]), torch.tensor([-0.2, 0.4, 0.0, 0.1])
    g = torch.tensor([1.0, -0.4, 0.2, -0.8])
    prior = torch.softmax(z_k, -1)

    def loss(z: Tensor) -> Tensor:
        u = chart(torch.log_softmax(z, -1) - torch.log_softmax(z_k, -1))
        return (prior * (potential.value(u) - g * u)).sum()

    found = analysis.in_logits(objective(chart, potential), z, g, anchor_logits=z_k)
    assert torch.allclose(found.loss, loss(z))
    assert torch.allclose(found.gradient, torch.func.grad(loss)(z), atol=1e-12)
    assert torch.allclose(found.hessian, torch.func.hessian(loss)(z), atol=1e-11)
    jacobian = torch.func.jacrev(lambda z: chart(torch.log_softmax(z, -1) - torch.log_softmax(z_k, -1)))(z)
    u = chart(torch.log_softmax(z, -1) - torch.log_softmax(z_k, -1))
    dense = jacobian.T @ torch.diag(prior * potential.curvature(u)) @ jacobian
    assert torch.allclose(found.gauss_newton, dense, atol=1e-12)


def test_pairs_are_not_single_responses() -> None:
    with pytest.raises(ValueError, match="compares pairs"):
        analysis.in_logits(ga.recipes.dpo(), torch.zeros(3), torch.zeros(3))


def test_figures_at_a_logit_of_twelve() -> None:
    """The gradients are 6.1e-6, 5.7e-6 and 6.1e-6 for a policy that begins at even odds, with a drive of 1.

    The setting is not published; the figures are those of μ = 0.5 (GOPO's), μ = 0.1 and β = 1.
    """
    z = torch.tensor(12.0)
    ratio = analysis.in_logit(ga.recipes.opo(form="ratio", mu=0.5), z, 1.0).gradient
    log = analysis.in_logit(ga.recipes.opo(mu=0.1), z, 1.0).gradient
    dpo = analysis.in_logit(ga.recipes.dpo(beta=1.0), z, 1.0).gradient
    assert [f"{abs(float(x)):.1e}" for x in (ratio, log, dpo)] == ["6.1e-06", "5.7e-06", "6.1e-06"]
    tail = 1 / (1 + math.exp(12))
    p = 1 - tail
    assert float(ratio) == pytest.approx((0.5 * (2 * p - 1) - 1) * 2 * p * tail, rel=1e-12)
    assert float(log) == pytest.approx((0.1 * math.log(2 * p) - 1) * tail, rel=1e-12)
    assert float(dpo) == pytest.approx(-tail, rel=1e-12)


@pytest.mark.parametrize(
    "made",
    [ga.recipes.opo(form="ratio", mu=0.5), ga.recipes.opo(mu=0.1), ga.recipes.dpo(beta=1.0)],
    ids=["v", "Δ", "dpo"],
)
def test_every_form_saturates_in_the_logit_like_dpo(made: ga.Objective) -> None:
    _, high = analysis.saturation(made, 1.0)["logit"]
    assert (high.rate, high.power) == (-1.0, 0.0)


def test_constant_curvature_is_of_the_chart_only() -> None:
    z = torch.linspace(-12.0, 12.0, 25)
    for form in ("ratio", "log"):
        made = ga.recipes.opo(form=form, mu=0.5)
        assert torch.equal(analysis.coordinates(made, z, 1.0).u.curvature, torch.full_like(z, 0.5))
        curvature = analysis.in_logit(made, z, 1.0).curvature
        assert float(curvature[-1].abs()) < 1e-4 < 1e-2 < float(curvature.abs().max())
    saturation = analysis.saturation(ga.recipes.opo(form="log", mu=0.5), 1.0)
    assert [t.power for t in saturation["u"]] == [1.0, 1.0] and not saturation["u"][1].saturates
    # In the ratio form an event that becomes impossible is pulled back with a force proportional to t.
    low, high = analysis.saturation(ga.recipes.opo(form="ratio", mu=0.5), 1.0)["log_ratio"]
    assert (low.rate, high.rate) == (-1.0, 2.0)


@pytest.mark.parametrize(
    "chart, unbounded",
    [(ga.LogRatio(0.1), True), (ga.LogRatio(1e-3), True), (ga.LogRatio(7.0), True), (ga.Ratio(), False),
     (ga.Power(-1.0), False), (ga.Sigmoid(0.5), False), (ga.Dual(ga.JensenShannon()), False)],
)  # fmt: skip
def test_the_ends_of_u_are_described_where_a_chart_reaches_them_at_any_scale(chart: ga.Chart, unbounded: bool) -> None:
    made = ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), chart=chart, optimization=ga.ChiSquare(2.0))
    assert ("u" in analysis.saturation(made, 1.0)) is unbounded


def test_the_margin_of_a_pair_does_not_saturate_under_chi_square() -> None:
    made = ga.recipes.ipo(tau=0.1, normalize="sum")
    for name in ("u", "logit"):
        assert [(t.rate, t.power) for t in analysis.saturation(made, 10.0)[name]] == [(0.0, 1.0), (0.0, 1.0)]
    z = torch.linspace(-40.0, 40.0, 9)
    assert torch.allclose(analysis.in_logit(made, z, 10.0).curvature, torch.full_like(z, 2.0), atol=1e-9)


# --------------------------------------------------------------------------------------------------- descent


@pytest.mark.parametrize("mu, rate, drive", [(0.5, 0.4, 1.0), (2.0, 0.9, -3.0), (2.0, 1.2, 0.5)])
def test_chi_square_contracts_at_one_rate_everywhere(mu: float, rate: float, drive: float) -> None:
    found = analysis.contraction(ga.ChiSquare(mu), rate, drive=drive, low=-50.0, high=50.0)
    assert found.worst == pytest.approx(abs(1 - rate * mu)) == found.at_equilibrium
    assert (found.largest_rate, found.conditioning) == (2 / mu, 1.0)
    path = analysis.descend(ga.ChiSquare(mu), torch.tensor([-2.0, 5.0]), rate, 8, drive=drive)
    distance = (path - drive / mu).abs()
    assert torch.allclose(distance[1:] / distance[:-1], torch.full((8, 2), abs(1 - rate * mu)), rtol=1e-9)


@pytest.mark.parametrize("potential, drive", [(ga.KL(0.5), 0.3), (ga.Logistic(1.5), 1.2), (ga.ReverseKL(0.8), 0.4)])
def test_elsewhere_the_rate_is_that_of_the_equilibrium(potential: ga.BregmanGeometry, drive: float) -> None:
    rate = 0.3
    found = analysis.contraction(potential, rate, drive=drive, low=-0.5, high=2.0)
    target = potential.equilibrium(torch.tensor(drive))
    path = analysis.descend(potential, target + torch.tensor([-1e-5, 1e-5]), rate, 1, drive=drive)
    factors = (path[1] - target).abs() / (path[0] - target).abs()
    assert torch.allclose(factors, torch.full((2,), found.at_equilibrium), rtol=1e-4)
    starts = torch.linspace(-0.5, 2.0, 400)
    step = analysis.descend(potential, starts, rate, 1, drive=drive)
    measured = (step[1].diff() / step[0].diff()).abs()
    assert float(measured.max()) <= found.worst * (1 + 1e-9)
    assert float(measured.max()) == pytest.approx(found.worst, rel=0.02)


def test_beyond_the_largest_rate_points_are_driven_apart() -> None:
    found = analysis.contraction(ga.Logistic(2.0), 0.5, drive=1.0, low=-3.0, high=3.0)
    at = torch.tensor([0.0, 1e-4])  # where the curvature β²/4 is largest
    assert found.largest_rate == pytest.approx(2.0)
    for factor, apart in ((0.99, False), (1.01, True)):
        step = analysis.descend(ga.Logistic(2.0), at, factor * found.largest_rate, 1, drive=1.0)
        assert bool(step[1].diff().abs() > step[0].diff().abs()) == apart
    assert analysis.contraction(ga.Flat(), 0.5).largest_rate == math.inf
    with pytest.raises(ValueError, match="positive"):
        analysis.contraction(ga.Flat(), 0.0)


@pytest.mark.parametrize(
    "divergence",
    [
        ga.PearsonChiSquare(),
        ga.CressieRead(1.5),
        ga.CressieRead(3.0),
        ga.KullbackLeibler() * 0.0001 + ga.PearsonChiSquare(),
    ],
    ids=str,
)
def test_positivity_threshold_by_enumeration(divergence: ga.Divergence) -> None:
    generator = torch.Generator().manual_seed(3)
    drive = torch.randn(5, 4, generator=generator, dtype=F64)
    prior = torch.randn(5, 4, generator=generator, dtype=F64).log_softmax(-1)
    threshold = analysis.positivity(drive, divergence, log_prior=prior)
    if math.isinf(divergence.mirror_range.low):
        assert threshold.tolist() == [0.0] * 5
        return
    for factor, positive in ((1.001, True), (0.999, False)):
        ratio = ga.target_policy(drive / (factor * threshold[:, None]), divergence, log_prior=prior).ratio
        assert ((ratio.amin(-1) > 0) == positive).all()


def test_positivity_of_chi_square_is_closed() -> None:
    drive = torch.tensor([[1.0, 0.0, -2.0], [4.0, 4.0, 4.0]])
    prior = torch.tensor([0.5, 0.3, 0.2]).log().expand(2, 3)
    expected = (prior.exp() * drive).sum(-1) - drive.amin(-1)
    assert torch.allclose(analysis.positivity(drive, ga.PearsonChiSquare(), log_prior=prior), expected)
    # An impossible outcome does not count.
    never = torch.tensor([0.5, 0.5, 0.0]).log()
    assert float(analysis.positivity(drive[0], ga.PearsonChiSquare(), log_prior=never)) == pytest.approx(0.5)


# ------------------------------------------------------------------------------------------------ decoupling


def rollout() -> ga.Batch:
    x = torch.tensor([[0.4], [-0.3], [0.1], [0.8]])
    return ga.Batch(x, torch.zeros_like(x), reward=torch.tensor([1.0, 0.2, 0.0, 0.6]), group=torch.tensor([0, 0, 1, 1]))


def test_alpha_moves_the_drive_and_mu_the_curvature() -> None:
    found = analysis.decoupling(ga.recipes.opo, rollout(), alpha=0.4, mu=1.0)
    assert found.moves("alpha") == (True, False)
    assert found.moves("mu") == (False, True)
    assert found.decoupled
    # The derivative itself: of exp((1−α)A)/mean − 1 in each group of two.
    reward = rollout().reward
    assert reward is not None

    def weight(alpha: float) -> Tensor:
        w = ((1 - alpha) * reward).exp().reshape(2, 2)
        return (w / w.mean(-1, keepdim=True) - 1).reshape(-1)

    w = weight(0.4) + 1
    mean = (w * reward).reshape(2, 2).mean(-1).repeat_interleave(2)
    assert torch.allclose(found.drive["alpha"], -w * (reward - mean), atol=1e-9)
    assert torch.allclose(found.curvature["mu"], torch.ones(4), atol=1e-9)


def test_beta_of_dpo_moves_both() -> None:
    batch = ga.PreferenceBatch(*(torch.randn(2, 3, 1)), *torch.zeros(2, 3, 1))
    found = analysis.decoupling(ga.recipes.dpo, batch, beta=0.5)
    assert found.moves("beta") == (True, True) and not found.decoupled
    m = batch.chosen[:, 0] - batch.rejected[:, 0]
    s = torch.sigmoid(0.5 * m)
    # ∂/∂β of β²σσ̄.
    assert torch.allclose(found.curvature["beta"], s * (1 - s) * (2 * 0.5 + 0.25 * m * (1 - 2 * s)), atol=1e-9)
    with pytest.raises(ValueError, match="at least one parameter"):
        analysis.decoupling(ga.recipes.dpo, batch)


def test_cross_derivative() -> None:
    x = torch.tensor([0.3, 1.0, 2.0])
    found = analysis.cross_derivative(lambda a, b: torch.sin(a * b * x) + a**3 + b, 0.7, 1.1)
    c = 0.77 * x
    assert torch.allclose(found, x * torch.cos(c) - c * x * torch.sin(c), atol=1e-9)
    assert float(analysis.cross_derivative(lambda a, b: x * a**2 + b, 0.7, 1.1).abs().max()) < 1e-9


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("chart", [ga.LogRatio(), ga.Ratio()], ids=["log", "ratio"])
def test_alpha_in_the_hessian_of_the_logits(chart: ga.Chart, centred: bool) -> None:
    """∂Hessian/∂α = −Σ π_k (∂g/∂α) ∇²u, though φ'' is free of α.

    In the log-ratio ∇²u is the same for all responses, so that a centred drive, and α with it, leaves the Hessian of a
    tabular softmax alone. In the ratio it does not.
    """
    z, reward = torch.tensor([0.5, -0.2, 0.0]), torch.tensor([1.0, 0.0, -0.5])
    made = objective(chart, ga.ChiSquare(1.0))

    def drive(alpha: float) -> Tensor:
        w = ((1 - alpha) * reward).exp()
        return w / w.mean() - 1 if centred else w

    def in_chart(alpha: float, mu: float) -> Tensor:
        x = torch.log_softmax(z, -1) + math.log(3)
        return analysis.coordinates(objective(chart, ga.ChiSquare(mu)), x, drive(alpha)).u.curvature

    assert float(analysis.cross_derivative(in_chart, 0.4, 1.0).abs().max()) == 0
    step = 1e-4
    moved = sum(s * analysis.in_logits(made, z, drive(0.4 + s * step)).hessian for s in (-1, 1)) / (2 * step)
    slope = (drive(0.4 + step) - drive(0.4 - step)) / (2 * step)
    second = torch.func.hessian(lambda z: (slope / 3 * chart(torch.log_softmax(z, -1) + math.log(3))).sum())(z)
    assert torch.allclose(moved, -second, atol=1e-8)
    assert (float(moved.abs().max()) < 1e-8) == (centred and chart == ga.LogRatio())


# -------------------------------------------------------------------------------------------------- networks


class Policy(torch.nn.Module):
    """Three actions in four contexts; `scale` of the last layer, 0 for the uniform policy."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
        with torch.no_grad():
            for p in self.layers[2].parameters():
                p.mul_(scale)

    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.layers(x), -1)


CONTEXTS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, -0.5], [-1.0, 0.3]], dtype=F64)


def problem(scale: float):
    call, theta = analysis.flatten(Policy(scale))

    def batch_of(theta: Tensor) -> ga.Batch:
        policy = call(theta, CONTEXTS).reshape(-1, 1)  # every action of every context: an expectation under uniform π_k
        anchor = torch.full_like(policy, -math.log(3))
        return ga.Batch(policy, anchor, advantage=torch.linspace(-1, 1, 12), group=torch.arange(12) // 3)

    return call, theta, batch_of


@pytest.mark.parametrize("made", [
    ga.recipes.mirror_descent(tau=0.8), objective(ga.Ratio(), ga.ChiSquare(0.5)), objective(ga.Ratio(), ga.KL(0.3)),
    objective(ga.Ratio(), ga.ChiSquare(0.5)) + 0.3 * objective(ga.LogRatio(), ga.ReverseKL(), sampling=ga.Label(0.0)),
], ids=["log", "ratio", "kl", "sum"])  # fmt: skip
def test_products_equal_dense_matrices(made: ga.BaseObjective) -> None:
    _, theta, batch_of = problem(1.0)
    drive = torch.linspace(1, -1, 12)

    def loss(theta: Tensor) -> Tensor:
        return made.plain(batch_of(theta), drive=drive).loss

    h = analysis.matrix(lambda v: analysis.hessian(made, batch_of, theta, v, drive=drive), theta)
    assert torch.allclose(h, torch.autograd.functional.hessian(loss, theta), atol=1e-11)
    g = analysis.matrix(lambda v: analysis.gauss_newton(made, batch_of, theta, v, drive=drive), theta)
    dense = torch.zeros_like(g)
    for coefficient, term in made.terms:
        outcome = term(batch_of(theta), drive=drive)
        jacobian = torch.autograd.functional.jacobian(
            lambda t, term=term: term.plain(batch_of(t), drive=drive).u, theta
        )
        dense += coefficient * jacobian.T @ torch.diag(outcome.weights * outcome.curvature) @ jacobian
    assert torch.allclose(g, dense, atol=1e-12)
    assert analysis.spectrum(g).eigenvalues.min() > -1e-12


def test_the_drive_is_all_that_tells_hessian_from_gauss_newton() -> None:
    """H − G is affine in the drive, −Σ w·g·∇²u, and G does not see it."""
    made = objective(ga.Ratio(), ga.ChiSquare(0.5))
    _, theta, batch_of = problem(1.0)
    v = torch.linspace(-1, 1, len(theta))
    drives = [torch.zeros(12), torch.linspace(1, -1, 12), 2 * torch.linspace(1, -1, 12)]
    g = [analysis.gauss_newton(made, batch_of, theta, v, drive=d) for d in drives]
    h = [analysis.hessian(made, batch_of, theta, v, drive=d) for d in drives]
    assert torch.equal(g[0], g[1]) and torch.equal(g[0], g[2])
    assert float((h[1] - h[0]).abs().max()) > 1e-3
    assert torch.allclose(h[2] - h[0], 2 * (h[1] - h[0]), atol=1e-12)


def test_fisher_by_enumeration() -> None:
    call, theta, _ = problem(1.0)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1])
    f = analysis.matrix(lambda v: analysis.fisher(lambda t: call(t, CONTEXTS), theta, v, weights=weights), theta)
    jacobian = torch.autograd.functional.jacobian(lambda t: call(t, CONTEXTS), theta)
    pi = call(theta, CONTEXTS).exp().detach()
    dense = torch.einsum("c,ca,cai,caj->ij", weights, pi, jacobian, jacobian)
    assert torch.allclose(f, dense, atol=1e-12)


@pytest.mark.parametrize("chart", [ga.LogRatio(), ga.Ratio()], ids=["log", "ratio"])
def test_at_the_anchor_gauss_newton_of_chi_square_is_mu_times_fisher(chart: ga.Chart) -> None:
    call, theta, batch_of = problem(0.0)
    made = objective(chart, ga.ChiSquare(0.7))
    g = analysis.matrix(
        lambda v: analysis.gauss_newton(made, batch_of, theta, v, drive=torch.linspace(0, 1, 12)), theta
    )
    f = analysis.matrix(lambda v: analysis.fisher(lambda t: call(t, CONTEXTS), theta, v), theta)
    assert torch.allclose(g, 0.7 * f, atol=1e-14) and float(f.abs().max()) > 1e-2


def test_spectrum() -> None:
    q = torch.linalg.qr(torch.randn(4, 4)).Q
    found = analysis.spectrum(q @ torch.diag(torch.tensor([0.0, 0.5, 1.0, 4.0])) @ q.T)
    assert (found.rank, found.conditioning, found.largest_rate) == (3, pytest.approx(8.0), pytest.approx(0.5))
    assert analysis.spectrum(torch.diag(torch.tensor([-1.0, 2.0]))).conditioning == math.inf
    assert analysis.spectrum(torch.zeros(2, 2)).rank == 0


# ---------------------------------------------------------------------------------------------------- trees


def tree(actions: int = 3, horizon: int = 3) -> tuple[ga.analysis.Tree, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(actions + 10 * horizon)
    made = analysis.Tree(torch.randn(actions**horizon, generator=generator, dtype=F64), actions)
    shape = (made.nodes, actions)
    return made, *(torch.randn(2, *shape, generator=generator, dtype=F64) * 0.7)


def test_responses_are_enumerated_in_order() -> None:
    made, logits, _ = tree(2, 3)
    assert (made.horizon, made.nodes) == (3, 7)
    log_pi = torch.log_softmax(logits, -1)
    node = {(): 0, (0,): 1, (1,): 2, (0, 0): 3, (0, 1): 4, (1, 0): 5, (1, 1): 6}
    expected = [[log_pi[node[y[:t]], y[t]] for t in range(3)] for y in itertools.product(range(2), repeat=3)]
    assert torch.equal(made.log_probs(logits), torch.tensor(expected))
    assert float(made.probabilities(logits).sum()) == pytest.approx(1.0)
    assert torch.allclose(made.logits_of(made.probabilities(logits)), log_pi)
    visits = [made.probabilities(logits).reshape(2**t, -1).sum(-1) for t in range(3)]
    assert torch.allclose(made.visits(logits), torch.cat(visits))


def test_trees_that_are_none() -> None:
    with pytest.raises(ValueError, match="actions \\*\\* T"):
        analysis.Tree(torch.zeros(5), 2)
    with pytest.raises(ValueError, match="at least 2"):
        analysis.Tree(torch.zeros(1), 1)


@pytest.mark.parametrize("unit", [ga.Token(), ga.Sequence(), ga.MeanSequence()], ids=str)
def test_expected_loss_by_hand(unit: ga.Unit) -> None:
    made, logits, anchor = tree()
    g = made.advantage(anchor)
    prior = made.probabilities(anchor)
    assert float((prior * g).sum()) == pytest.approx(0.0, abs=1e-15)
    x = made.log_probs(logits) - made.log_probs(anchor)
    events = {ga.Token(): x, ga.Sequence(): x.sum(-1, keepdim=True), ga.MeanSequence(): x.mean(-1, keepdim=True)}[unit]
    expected = (prior[:, None] * (0.3 * events.expm1() ** 2 - g[:, None] * events.expm1())).sum() / events.shape[1]
    found = made.loss(objective(ga.Ratio(), ga.ChiSquare(0.6), unit=unit), logits, anchor)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_expected_loss_of_pairs_by_hand() -> None:
    made, logits, anchor = tree(3, 1)
    prior = made.probabilities(anchor)
    x = (made.log_probs(logits) - made.log_probs(anchor))[:, 0]
    total = mass = 0.0
    for i, j in itertools.permutations(range(3), 2):
        weight = float(prior[i] * prior[j] * torch.sigmoid(made.reward[i] - made.reward[j]))
        total += weight * float(-logsigmoid(0.5 * (x[i] - x[j])))
        mass += weight
    assert float(made.loss(ga.recipes.dpo(beta=0.5), logits, anchor)) == pytest.approx(total / mass, rel=1e-12)


def test_natural_gradient_solves_the_fisher_system() -> None:
    made, logits, anchor = tree()
    gradient = made.gradient(objective(ga.Ratio(), ga.ChiSquare(0.6)), logits, anchor)
    natural = made.natural(logits, gradient)

    def all_log_probs(flat: Tensor) -> Tensor:
        return made.log_probs(flat.reshape(logits.shape)).sum(-1)[None]

    f = analysis.matrix(lambda v: analysis.fisher(all_log_probs, logits.reshape(-1), v), logits.reshape(-1))
    assert torch.allclose(natural.reshape(-1), torch.linalg.pinv(f, rtol=1e-12) @ gradient.reshape(-1), atol=1e-8)


# ------------------------------------------------------------------------------------------------- dynamics


def linear() -> ga.Objective:
    """E_{π_k}[−A t]: the expected reward itself, with the sign turned."""
    return objective(ga.Ratio(), ga.Flat())


def test_natural_flow_of_a_linear_reward_is_replicator_dynamics() -> None:
    made, start, anchor = tree(2, 3)
    time = torch.tensor([0.0, 0.3, 1.0, 4.0])
    flow = analysis.gradient_flow(made, linear(), time, start=start, anchor=anchor, metric="fisher")
    expected = made.probabilities(start) * (time[:, None] * made.reward).exp()
    assert torch.allclose(flow.probabilities, expected / expected.sum(-1, keepdim=True), atol=1e-8)
    assert (flow.reward.diff() > 0).all()


def test_flow_in_the_logits_of_two_arms_is_solved_implicitly() -> None:
    """ż = 2(r₁ − r₂)σσ̄ for the difference of the logits, so e^z − e^{−z} + 2z = 2(r₁ − r₂)s from even odds."""
    bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.2]))
    time = torch.tensor([0.0, 1.0, 10.0, 200.0])
    flow = analysis.gradient_flow(bandit, linear(), time)
    z = flow.logits[:, 0, 0] - flow.logits[:, 0, 1]
    assert torch.allclose(z.exp() - (-z).exp() + 2 * z, 2 * 0.8 * time, rtol=1e-8, atol=1e-8)
    # The plateau of softmax policy gradient: the loss falls as 1/s, not exponentially.
    assert float(1 - flow.probabilities[-1, 0]) == pytest.approx(1 / (2 * 0.8 * 200), rel=0.1)


@pytest.mark.parametrize("metric", ["euclidean", "fisher"])
def test_the_flow_ends_at_the_equilibrium(metric: str) -> None:
    made, _, anchor = tree(3, 1)
    mu = 3.0
    flow = analysis.gradient_flow(
        made, objective(ga.Ratio(), ga.ChiSquare(mu)), torch.tensor([0.0, 1.0, 60.0]), anchor=anchor, metric=metric
    )
    target = ga.target_policy(made.reward / mu, ga.PearsonChiSquare(), log_prior=made.log_probs(anchor)[:, 0])
    assert (target.ratio > 0).all()
    assert torch.allclose(flow.probabilities[-1], target.probability, atol=1e-6)
    assert (flow.loss.diff() < 0).all()


def test_dpo_flows_to_the_gibbs_policy() -> None:
    """Its implicit reward: with preferences of Bradley and Terry, β(Δ_i − Δ_j) → r_i − r_j."""
    made, _, anchor = tree(3, 1)
    beta = 2.0
    flow = analysis.gradient_flow(made, ga.recipes.dpo(beta=beta), torch.tensor([0.0, 150.0]), anchor=anchor)
    expected = torch.softmax(made.log_probs(anchor)[:, 0] + made.reward / beta, -1)
    assert torch.allclose(flow.probabilities[-1], expected, atol=1e-6)


def test_mirror_descent_with_kl_is_exponentiated_gradient() -> None:
    made, start, _ = tree(2, 3)
    flow = analysis.mirror_descent(made, 0.5 * ga.KullbackLeibler(), 4, start=start)
    expected = made.probabilities(start) * (torch.arange(5.0)[:, None] * made.reward / 0.5).exp()
    assert torch.allclose(flow.probabilities, expected / expected.sum(-1, keepdim=True), atol=1e-12)
    still = analysis.mirror_descent(made, 0.5 * ga.KullbackLeibler(), 3, start=start, moving=False)
    assert torch.allclose(still.probabilities[1:], flow.probabilities[1].expand(3, 8), atol=1e-14)


def test_a_mirror_step_over_responses_is_soft_optimality_at_every_token() -> None:
    """The KL step's policy at a prefix is π_k softmax of V(child)/β, V(node) = β log Σ_a π_k(a) e^{V(child)/β}."""
    made, start, _ = tree(3, 2)
    beta = 0.7
    stepped = analysis.mirror_descent(made, beta * ga.KullbackLeibler(), 1, start=start).logits[1]
    log_pi = torch.log_softmax(start, -1)
    leaves = made.reward.reshape(3, 3) / beta
    values = torch.logsumexp(log_pi[1:] + leaves, -1)
    expected = torch.cat([torch.log_softmax(log_pi[0] + values, -1)[None], torch.log_softmax(log_pi[1:] + leaves, -1)])
    assert torch.allclose(torch.log_softmax(stepped, -1), expected, atol=1e-12)


def test_mirror_descent_with_chi_square_reaches_the_best_response_in_finite_time() -> None:
    bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.5, 0.0]))
    flow = analysis.mirror_descent(bandit, 0.4 * ga.PearsonChiSquare(), 6)
    assert torch.allclose(flow.probabilities.sum(-1), torch.ones(7))
    assert flow.probabilities[-1].tolist() == [1.0, 0.0, 0.0]
    assert (flow.reward.diff() >= 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "fisher"])
def test_a_portrait_is_the_flow_at_its_first_instant(metric: str) -> None:
    bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.3, -0.4]))
    made = objective(ga.Ratio(), ga.ChiSquare(0.8))
    found = analysis.portrait(bandit, made, metric=metric, resolution=4)
    assert torch.allclose(found.velocity.sum(-1), torch.zeros(len(found.velocity)), atol=1e-14)
    for k in (0, 5, len(found.velocity) - 1):
        h = 1e-4
        flow = analysis.gradient_flow(
            bandit, made, torch.tensor([0.0, h, 2 * h]), start=found.probabilities[k].log()[None],
            anchor=bandit.uniform(), metric=metric, tolerance=1e-13,
        )  # fmt: skip
        p = flow.probabilities
        assert torch.allclose(found.velocity[k], (-3 * p[0] + 4 * p[1] - p[2]) / (2 * h), atol=1e-6)
        assert float(found.loss[k]) == pytest.approx(float(flow.loss[0]))
    assert found.plane.shape == found.arrows.shape == (len(found.loss), 2)


def test_the_portrait_of_a_linear_reward_is_the_replicator_field() -> None:
    bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.3, -0.4]))
    found = analysis.portrait(bandit, linear(), metric="fisher", resolution=5)
    p, r = found.probabilities, bandit.reward
    assert torch.allclose(found.velocity, p * (r - (p @ r)[:, None]), atol=1e-12)


def test_a_portrait_vanishes_at_the_equilibrium() -> None:
    bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.3, -0.4]))
    made = objective(ga.Ratio(), ga.ChiSquare(3.0))
    target = ga.target_policy(bandit.reward / 3.0, ga.PearsonChiSquare()).probability
    gradient = bandit.gradient(made, target.log()[None], bandit.uniform())
    assert float(gradient.abs().max()) < 1e-15


def test_refusals() -> None:
    bandit = analysis.Tree.bandit(torch.zeros(3))
    with pytest.raises(ValueError, match="choose one of"):
        analysis.gradient_flow(bandit, linear(), torch.tensor([0.0, 1.0]), metric="hyperbolic")
    with pytest.raises(ValueError, match="simplex of three"):
        analysis.portrait(analysis.Tree.bandit(torch.zeros(4)), linear())
