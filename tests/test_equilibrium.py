"""Target policies: against entmax, a convex solver and loops; conservation; implicit derivatives; ragged groups."""

from __future__ import annotations

import math

import entmax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor

import geomalign as ga

MEMBERS: list[ga.Divergence] = [
    ga.KullbackLeibler(),
    ga.ReverseKullbackLeibler(),
    ga.PearsonChiSquare(),
    ga.NeymanChiSquare(),
    ga.SquaredHellinger(),
    ga.CressieRead(1.5),
    ga.CressieRead(1.01),
    ga.CressieRead(3.0),
    ga.CressieRead(-0.7),
    ga.JensenShannon(),
    0.5 * ga.PearsonChiSquare(),
    2.0 * ga.CressieRead(1.5),
    ga.KullbackLeibler() + ga.PearsonChiSquare(),
]
members = pytest.mark.parametrize("d", MEMBERS, ids=repr)


def close(a: Tensor, b: Tensor, rtol: float = 1e-9, atol: float = 1e-11) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def vectors(size: int, low: float, high: float) -> st.SearchStrategy[Tensor]:
    points = st.floats(low, high, allow_subnormal=False)
    return st.lists(points, min_size=size, max_size=size).map(lambda x: torch.tensor(x, dtype=torch.float64))


def groups(*ids: int, valid: list[bool] | None = None) -> ga.Groups:
    rows = torch.tensor(ids)
    return ga.Groups(rows, torch.ones(len(ids), dtype=torch.bool) if valid is None else torch.tensor(valid))


# --- what it is


@members
@settings(max_examples=12)
@given(g=vectors(7, -4.0, 4.0), prior=vectors(7, -3.0, 3.0))
def test_the_target_balances_drive_and_divergence(d, g, prior):
    """ψ'(t) = g − λ where t > 0, g − λ ≤ ψ'(0) where t = 0, and Σ π_k t = 1."""
    target = ga.target_policy(g, d, log_prior=prior)
    s, t = g - target.multiplier, target.ratio
    free = t > 0
    close(d.mirror(t[free]), s[free], rtol=1e-7, atol=1e-9)
    assert bool((s[~free] <= d.mirror_range.low + 1e-9).all())
    assert float((target.probability.sum() - 1).abs()) <= 1e-12
    assert bool((t >= 0).all())


@pytest.mark.filterwarnings("ignore:Values in x were outside bounds:RuntimeWarning")  # SLSQP of scipy < 1.16
@members
def test_no_other_policy_does_better(d):
    """Against scipy's SLSQP on the constrained problem itself."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        g, prior = torch.randn(5, generator=generator), torch.randn(5, generator=generator)
        w = prior.softmax(-1)

        def loss(t, g=g, w=w):
            t = torch.as_tensor(t, dtype=torch.float64).requires_grad_()
            value = (w * (d.generator(t) - g * t)).sum()
            (slope,) = torch.autograd.grad(value, t)
            return float(value.detach()), slope.numpy()

        found = optimize.minimize(
            loss,
            torch.ones(5).numpy(),
            jac=True,
            bounds=[(1e-9, None)] * 5,
            constraints={"type": "eq", "fun": lambda t, w=w: w.numpy() @ t - 1, "jac": lambda t, w=w: w.numpy()},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        t = ga.target_policy(g, d, log_prior=prior).ratio
        assert loss(t.clamp(min=1e-9))[0] <= found.fun + 1e-8
        close(t, torch.as_tensor(found.x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("order", [1.1, 1.25, 1.5, 1.75, 2.0, 3.0])
@given(g=vectors(9, -6.0, 6.0))
@settings(max_examples=12)
def test_alpha_is_entmax_over_a_uniform_prior(order, g):
    """With π = t/n and the drive n^{α−1} g, Cressie–Read's target is entmax of (α−1)-scaled scores."""
    n = g.shape[0]
    d = ga.CressieRead(order)
    # entmax: p = [(α−1) z − τ]_+^{1/(α−1)}; ours: t = [1 + (α−1)(g − λ)]_+^{1/(α−1)} with p = t/n.
    scaled = g * n ** (order - 1.0)
    target = ga.target_policy(scaled, d).probability
    close(target, entmax.entmax_bisect(g, order, n_iter=200), rtol=1e-6, atol=1e-7)
    if order == 1.5:
        close(target, entmax.entmax15(g, dim=-1), rtol=1e-7, atol=1e-9)
    if order == 2.0:
        close(target, entmax.sparsemax(g, dim=-1), rtol=1e-9, atol=1e-12)


@given(g=vectors(6, -300.0, 300.0), prior=vectors(6, -5.0, 5.0))
def test_kl_is_the_gibbs_distribution(g, prior):
    close(ga.target_policy(g, ga.KullbackLeibler(), log_prior=prior).probability, (prior + g).softmax(-1), atol=1e-15)
    free = torch.logsumexp(prior.log_softmax(-1) + g, -1)
    close(ga.free_energy(g, ga.KullbackLeibler(), log_prior=prior), free)


@given(g=vectors(8, -5.0, 5.0), prior=vectors(8, -2.0, 2.0))
def test_chi_square_is_the_weighted_simplex_projection(g, prior):
    """Against the definition: the one threshold that conserves probability, found by trying every free set."""
    w = prior.softmax(-1)
    order = g.argsort(descending=True)
    for k in range(8, 0, -1):
        free = order[:k]
        level = ((w[free] * g[free]).sum() - 1) / w[free].sum()
        if bool((g[free] > level).all()):
            break
    expected = (g - level).clamp(min=0)
    target = ga.target_policy(g, ga.PearsonChiSquare(), log_prior=prior)
    close(target.ratio, expected, atol=1e-12)
    close(target.multiplier, level + 1, atol=1e-12)


def test_in_groups_the_fluctuation_of_chi_square_is_gopos_bounded_projection():
    """max(−1, (g − λ)/μ) with Σ v = 0 in each group, λ by bisection as in the paper; rows in no group read zero."""
    reward = torch.randn(24)
    ids, valid = torch.arange(24) % 4, torch.arange(24) != 5
    for mu in (0.1, 0.5, 3.0):
        target = ga.target_policy(reward, mu * ga.PearsonChiSquare(), groups=ga.Groups(ids, valid))
        assert float(target.fluctuation[5]) == 0.0 and float(target.ratio[5]) == 0.0
        for group in range(4):
            rows = (ids == group) & valid
            low, high = reward[rows].min() - 2 * mu, reward[rows].max() + 2 * mu
            for _ in range(200):
                level = (low + high) / 2
                v = ((reward[rows] - level) / mu).clamp(min=-1.0)
                low, high = (level, high) if v.sum() > 0 else (low, level)
            close(target.fluctuation[rows], v, atol=1e-12)


# --- conservation


@members
@pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=["float64", "float32"])
def test_probability_is_conserved_at_group_size_64(d, scale, dtype, bound):
    generator = torch.Generator().manual_seed(0)
    g = scale * torch.randn(32, 64, generator=generator, dtype=dtype)
    prior = torch.randn(32, 64, generator=generator, dtype=dtype)
    for log_prior in (None, prior):
        target = ga.target_policy(g, d, log_prior=log_prior)
        mass = (target.log_prior.double().exp() * target.ratio.double()).sum(-1)
        assert target.ratio.dtype == dtype
        assert float((mass - 1).abs().max()) <= bound
        assert bool((target.ratio >= 0).all())


@members
def test_float32_agrees_with_float64(d):
    g, prior = 2 * torch.randn(16, 64), torch.randn(16, 64)
    wide = ga.target_policy(g.float().double(), d, log_prior=prior.float().double())
    narrow = ga.target_policy(g.float(), d, log_prior=prior.float())
    torch.testing.assert_close(narrow.ratio.double(), wide.ratio, rtol=2e-4, atol=2e-5)


def test_a_rare_best_outcome_keeps_its_digits():
    """π_k = 1e-12 of the best: 1 − s = 1/t is lost in s = g − λ, and is not used."""
    log_prior = torch.tensor([math.log(1e-12), 0.0, 0.0])
    g = torch.tensor([50.0, 0.0, -1.0])
    for d in (ga.ReverseKullbackLeibler(), ga.NeymanChiSquare(), ga.JensenShannon()):
        target = ga.target_policy(g, d, log_prior=log_prior)
        t = target.ratio
        # From the best outcome's ratio the others follow, and with them the mass that is left for it.
        others = d.inverse_mirror(d.mirror(t[0]) + (g[1:] - g[0]))
        close(t[1:], others, rtol=1e-10)
        left = 1 - (target.log_prior[1:].exp() * others).sum()
        close(t[0] * target.log_prior[0].exp(), left, rtol=1e-9)


# --- shapes


@members
def test_batches_masks_and_ragged_groups_are_the_same_problem(d):
    g, prior = torch.randn(3, 2, 6), torch.randn(3, 2, 6)
    prior[0, 1, 4:] = -math.inf
    g[0, 1, 5] = math.nan
    dense = ga.target_policy(g, d, log_prior=prior)
    assert dense.multiplier.shape == (3, 2)
    assert bool((dense.ratio[0, 1, 4:] == 0).all())
    alone = ga.target_policy(g[0, 1, :4], d, log_prior=prior[0, 1, :4])
    close(dense.ratio[0, 1, :4], alone.ratio)
    shuffle = torch.randperm(36)
    ids = torch.arange(6).repeat_interleave(6)[shuffle]
    valid = torch.isfinite(prior.flatten()[shuffle])
    rows = ga.target_policy(
        g.flatten()[shuffle],
        d,
        log_prior=torch.where(valid, prior.flatten()[shuffle], 5.0),
        groups=ga.Groups(ids, valid),
    )
    close(rows.ratio, dense.ratio.flatten()[shuffle], atol=1e-10)
    multiplier = dense.multiplier.flatten()[ids]
    close(rows.multiplier, torch.where(valid, multiplier, 0), atol=1e-9)


@members
def test_edge_groups(d):
    """A group of one, of equal drives, and of nobody."""
    pool = groups(5, 2, 2, 2, 9, valid=[True, True, True, True, False])
    g = torch.tensor([3.0, 0.7, 0.7, 0.7, math.nan])
    target = ga.target_policy(g, d, groups=pool)
    close(target.ratio, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]))
    close(target.multiplier, torch.tensor([3.0, 0.7, 0.7, 0.7, 0.0]))
    nobody = ga.target_policy(torch.zeros(2), d, groups=groups(0, 1, valid=[False, False]))
    assert torch.equal(nobody.ratio, torch.zeros(2))
    assert (
        ga.target_policy(torch.zeros(0), d, groups=ga.Groups(None, torch.zeros(0, dtype=torch.bool))).ratio.numel() == 0
    )


def test_total_variation_is_refused():
    with pytest.raises(ValueError, match="not strictly convex"):
        ga.target_policy(torch.randn(4), ga.TotalVariation())


# --- derivatives


@members
def test_gradcheck_and_gradgradcheck_over_a_support(d):
    g = torch.tensor([[0.3, -0.8, 1.1, 0.05], [0.9, 0.2, -1.7, -0.3]], requires_grad=True)
    prior = torch.tensor([[0.0, 0.4, -0.6, 0.2], [-0.3, 0.3, 0.1, 0.7]], requires_grad=True)

    def solve(g, prior):
        target = ga.target_policy(g, d, log_prior=prior)
        return target.ratio, target.multiplier, target.probability

    assert torch.autograd.gradcheck(solve, (g, prior))
    assert torch.autograd.gradgradcheck(solve, (g, prior), atol=1e-4)


@members
def test_gradcheck_in_ragged_groups(d):
    g = torch.tensor([0.3, -0.8, 1.1, 0.05, 0.9, -2.0], requires_grad=True)
    pool = groups(1, 0, 1, 1, 0, 7, valid=[True, True, True, True, True, False])

    def solve(g):
        target = ga.target_policy(g, d, groups=pool)
        return target.ratio, target.multiplier

    assert torch.autograd.gradcheck(solve, (g,))


def test_the_projections_derivative_is_that_of_its_free_set():
    g = torch.tensor([2.0, 1.5, -4.0, 1.8], requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda g: ga.target_policy(g, ga.PearsonChiSquare()).ratio, g)
    free = torch.tensor([1.0, 1.0, 0.0, 1.0])
    close(jacobian, torch.diag(free) - torch.outer(free, free) / 3)


@members
def test_the_gradient_of_the_free_energy_is_the_target_policy(d):
    g, prior = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6)
    energy = ga.free_energy(g, d, log_prior=prior)
    (gradient,) = torch.autograd.grad(energy.sum(), g, create_graph=True)
    target = ga.target_policy(g, d, log_prior=prior)
    close(gradient, target.probability, rtol=1e-7)
    reached = (target.probability * g).sum(-1) - (target.log_prior.exp() * d.generator(target.ratio)).sum(-1)
    close(energy, reached, rtol=1e-8)


@members
@given(g=vectors(5, -3.0, 3.0), shift=st.floats(-50.0, 50.0, allow_subnormal=False))
@settings(max_examples=10)
def test_a_constant_moves_the_multiplier_and_nothing_else(d, g, shift):
    one, other = ga.target_policy(g, d), ga.target_policy(g + shift, d)
    close(one.ratio, other.ratio, atol=1e-10, rtol=1e-8)
    close(other.multiplier - one.multiplier, torch.tensor(shift), atol=1e-9)
