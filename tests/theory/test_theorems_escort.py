"""The escort family: from the target to the anchor along an exponential geodesic."""

import torch
from finite import numbers, policies, problems, rows, vectors
from hypothesis import given
from hypothesis import strategies as st

import geomalign as ga

ALPHA = numbers(0.0, 1.0)


def escorts(problem, alpha):
    """ρ_α ∝ π_k^α P*^{1−α} with P* ∝ π_k e^A, by its definition."""
    target = torch.softmax(problem.anchor.log() + problem.drive, 0)
    return torch.softmax(alpha * problem.anchor.log() + (1 - alpha) * target.log(), 0)


@given(problem=problems(), alpha=ALPHA, other=ALPHA)
def test_escorts_are_an_e_geodesic(problem, alpha, other):
    """log ρ_α is affine in α up to its normaliser, from P* at α = 0 to π_k at α = 1.

    Source: OPO, Proposition 3.2; Amari 2016, §2.4
    Notebook: 04 §6
    """

    def natural(a):  # coordinates that forget the normaliser
        log = escorts(problem, a).log()
        return log - log.mean()

    line = alpha * natural(1.0) + (1 - alpha) * natural(0.0)
    torch.testing.assert_close(natural(alpha), line, rtol=1e-9, atol=1e-9)
    middle = 0.5 * (natural(alpha) + natural(other))
    torch.testing.assert_close(natural((alpha + other) / 2), middle, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(escorts(problem, 1.0), problem.anchor)


@given(problem=problems(), alpha=ALPHA)
def test_the_escort_weight_is_the_density_of_the_escort(problem, alpha):
    """ω̃_α = ρ_α/π_k: reweighting anchor samples by it gives the escort's expectations, and its mean is one.

    Source: OPO, Definition 3.1
    Notebook: 04 §6
    """
    weight = ((1 - alpha) * problem.drive).exp()
    weight = weight / problem.mean(weight)
    torch.testing.assert_close(problem.anchor * weight, escorts(problem, alpha), rtol=1e-9, atol=1e-12)


@given(reward=vectors(5), alpha=numbers(0.0, 0.99))
def test_the_drive_is_centred_and_does_not_see_a_shift(reward, alpha):
    """The library's drive ω̃_α − 1 sums to zero in the group and does not change with r → r + c.

    Source: OPO, eq. (8), with ω̃ of mean one
    Notebook: 04 §6
    """
    escort = ga.Escort(alpha)
    drives = [escort.drive(rows(torch.zeros(5), torch.zeros(5), reward=reward + c)) for c in (0.0, 3.0)]
    torch.testing.assert_close(drives[0].sum(), torch.tensor(0.0), rtol=0, atol=1e-12)
    torch.testing.assert_close(drives[0], drives[1], rtol=1e-9, atol=1e-10)
    weight = ((1 - alpha) * reward).exp()
    torch.testing.assert_close(drives[0], weight / weight.mean() - 1, rtol=1e-9, atol=1e-10)


@given(reward=vectors(5), gap=st.sampled_from([1e-2, 1e-4, 1e-6]))
def test_alpha_to_one_is_the_plain_advantage(reward, gap):
    """Scaled by 1/(1 − α) the drive tends to the centred advantage, at rate 1 − α; unscaled it tends to zero.

    Source: geomalign (scaled escort); OPO, §3.1 for the unscaled limit
    Notebook: 04 §7
    """
    batch = rows(torch.zeros(5), torch.zeros(5), reward=reward)
    centred = reward - reward.mean()
    error = (ga.Escort(1 - gap, scaled=True).drive(batch) - centred).abs().max()
    assert error <= gap * 40 + 1e-9
    assert ga.Escort(1 - gap).drive(batch).abs().max() <= 7 * gap
    torch.testing.assert_close(ga.Escort(1.0, scaled=True).drive(batch), centred)


@given(reward=vectors(5), temperature=st.sampled_from([0.5, 1.0, 2.0]))
def test_alpha_to_zero_is_the_targets_density(reward, temperature):
    """At α = 0 the weight is P*/π_k with P* ∝ π_k e^{A/β}; as β → 0 it becomes the group's best response alone.

    Source: OPO, §3.1
    Notebook: 04 §7
    """
    batch = rows(torch.zeros(5), torch.zeros(5), reward=reward)
    weight = 1 + ga.Escort(0.0, temperature).drive(batch)
    torch.testing.assert_close(weight, 5 * torch.softmax(reward / temperature, 0), rtol=1e-9, atol=1e-10)
    best = reward.clone()
    best[2] = reward.max() + 1
    cold = 1 + ga.Escort(0.0, 1e-3).drive(rows(torch.zeros(5), torch.zeros(5), reward=best))
    torch.testing.assert_close(cold, torch.tensor([0.0, 0.0, 5.0, 0.0, 0.0]))


@given(reward=vectors(6), first=ALPHA, second=ALPHA)
def test_the_effective_sample_size_grows_with_alpha(reward, first, second):
    """(Σω̃)²/Σω̃² is monotone in α, G at α = 1: α can be set from a target effective sample size by one scalar
    root.

    Source: geomalign; convexity of log Σ e^{cA} in c
    Notebook: 05 §3
    """
    batch = rows(torch.zeros(6), torch.zeros(6), reward=reward)

    def ess(alpha):
        weight = 1 + ga.Escort(alpha).drive(batch)
        return weight.sum() ** 2 / (weight**2).sum()

    low, high = sorted((first, second))
    assert ess(low) <= ess(high) + 1e-9
    torch.testing.assert_close(ess(1.0), torch.tensor(6.0))
    solved = ga.EscortESS(0.75)
    alpha = float(solved.alpha(batch))
    reached = ess(0.0) / 6 >= 0.75
    assert (alpha == 0) if reached else (ess(alpha) / 6 - 0.75).abs() <= 1e-6


@given(anchor=policies(4), advantage=vectors(4, -1.5, 1.5), gap=st.sampled_from([1e-3, 1e-5]))
def test_the_inverse_probability_factor_adds_the_entropy_direction(anchor, advantage, gap):
    """With the factor π_k^{−(1−α)} the scaled limit α → 1 is the centred A − log π_k: advantage plus an entropy
    bonus.

    Source: OPO, eq. (7); the limit is geomalign's
    Notebook: 04 §7
    """
    batch = rows(anchor.log(), anchor.log(), reward=advantage)
    drive = ga.Escort(1 - gap, scaled=True, inverse_probability=True).drive(batch)
    limit = advantage - anchor.log()
    assert (drive - (limit - limit.mean())).abs().max() <= 60 * gap


@given(reward=vectors(6, -2.0, 2.0), mu=st.sampled_from([0.5, 2.0, 6.0]))
def test_w_gopo_reduces_to_gopo(reward, mu):
    """At α = 0 and c → ∞ W-GOPO's target is GOPO's: A/μ while no response is cut, the bounded projection always.

    Source: W-GOPO, Theorem 5.2
    Notebook: 04 §8
    """
    w_gopo = ga.recipes.w_gopo(alpha=0.0, mu=mu, scale=1e6)
    gopo = ga.recipes.gopo(mu=mu)
    batch = rows(torch.zeros(6), torch.zeros(6), reward=reward)
    target = w_gopo.optimization.equilibrium(w_gopo.drive(batch))
    torch.testing.assert_close(gopo.optimization.equilibrium(gopo.drive(batch)), target, rtol=1e-8, atol=1e-8)
    squashed = ga.recipes.w_gopo(alpha=0.0, mu=mu, scale=0.1)
    assert squashed.optimization.equilibrium(squashed.drive(batch)).abs().max() <= max(1.0, 0.2 / mu)
    centred = (reward - reward.mean()) / mu
    if (centred > -1 + 1e-6).all():
        torch.testing.assert_close(target, centred, rtol=1e-8, atol=1e-8)
