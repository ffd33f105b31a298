"""Where a recipe departs from its publication as printed, or from its authors' code: each departure as a figure."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch
from literal import BATCH, PAIRS, delta, groups, log_probs, rows
from torch import Tensor

import geomalign as ga

ROLLOUT = dataclasses.replace(BATCH, advantage=None)
ONE_TOKEN = ga.laws.sample_batch(rows=6, tokens=1, seed=5)


def slope(loss: Tensor, batch: ga.Batch | ga.PreferenceBatch) -> Tensor:
    """The gradient of a literal loss in the policy's log-probabilities, both sides of a pair after another."""
    inputs = [batch.policy] if isinstance(batch, ga.Batch) else [batch.chosen, batch.rejected]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, inputs)])


def ours(objective: ga.BaseObjective, batch: ga.Batch | ga.PreferenceBatch) -> Tensor:
    found = objective.gradient(batch)
    return torch.cat([g.flatten() for g in ((found,) if isinstance(found, Tensor) else found)])


def algorithm_1(alpha: float, mu: float, *, normalised: bool) -> Tensor:
    """Algorithm 1 of OPO: g = ω̃ − mean ω̃ of a prompt's responses, ω̃ = exp((1−α)A)·sg π_k^{−(1−α)}."""
    losses = []
    for members in groups():
        reward = BATCH.reward[members]
        anchor = torch.stack([log_probs(i, "old").sum() for i in members])
        weight = torch.exp((1 - alpha) * (reward - reward.mean() - anchor)).detach()
        weight = weight / weight.mean() if normalised else weight
        for i, g in zip(members, weight - weight.mean(), strict=True):
            x = delta(i).sum()
            losses.append(-g * x + mu / 2 * x**2)
    return slope(torch.stack(losses).mean(), BATCH)


def test_opo_is_algorithm_1_only_with_normalised_weights() -> None:
    with_factor = ga.Objective(
        unit=ga.Sequence(),
        chart=ga.LogRatio(),
        sampling=ga.Escort(0.4, inverse_probability=True),
        optimization=ga.ChiSquare(1.5),
    )
    torch.testing.assert_close(ours(with_factor, ROLLOUT), algorithm_1(0.4, 1.5, normalised=True))
    at_anchor = ours(ga.recipes.opo(alpha=0.4, mu=1e-9, normalize="sum"), ROLLOUT)
    printed = algorithm_1(0.4, 1e-9, normalised=False)
    assert float(at_anchor.norm() / printed.norm()) == pytest.approx(0.0275, abs=1e-3)


def test_best_of_k_is_one_kth_of_the_gradient_of_the_expected_best() -> None:
    """By enumeration of every group of k responses, at a policy over four outcomes."""
    logits = torch.tensor([0.3, -0.2, 0.5, 0.0], requires_grad=True)
    reward, k = torch.tensor([0.0, 1.0, 0.4, 2.0]), 3
    policy = logits.softmax(0)
    best, estimate = torch.zeros(()), torch.zeros(4)
    for drawn in itertools.product(range(4), repeat=k):
        y = torch.tensor(drawn)
        chance = policy[y].prod()
        best = best + chance * reward[y].max()
        batch = ga.Batch(policy.log()[y].detach()[:, None], None, reward=reward[y])
        gradient = ga.recipes.best_of_k().gradient(batch)[:, 0]
        score = torch.eye(4)[y] - policy.detach()
        estimate += chance.detach() * (gradient[:, None] * score).sum(0)
    (exact,) = torch.autograd.grad(best, logits)
    torch.testing.assert_close(-k * estimate, exact)


@pytest.mark.parametrize("log_ratio, share", [(math.log(9.0), 1.0), (math.log(15.0), 10 / 15), (4.0, 0.5)])
def test_dppos_cap_of_twenty_matters_above_a_ratio_of_ten(log_ratio: float, share: float) -> None:
    """A token that moves back from far out, which no mask stops: the advantage is negative."""
    policy = torch.tensor([[-1.0], [-1.0]])
    rollout = ga.Batch(policy, policy - log_ratio, reward=torch.tensor([0.0, 1.0]), group=torch.tensor([0, 0]))
    here, theirs = (ours(ga.recipes.dppo(cap=cap), rollout)[0] for cap in (20.0, 10.0))
    assert float(theirs / here) == pytest.approx(share)


def test_exos_authors_have_a_drive_of_ten() -> None:
    pairs = dataclasses.replace(
        PAIRS,
        chosen=PAIRS.reference_chosen.clone().requires_grad_(),
        rejected=PAIRS.reference_rejected.clone().requires_grad_(),
    )
    theirs = []
    for k in range(pairs.size):
        both = [(getattr(pairs, s) - getattr(pairs, f"reference_{s}"))[k] for s in ("chosen", "rejected")]
        masks = pairs.chosen_mask[k], pairs.rejected_mask[k]
        x = 0.1 * torch.stack([torch.where(m, d, 0).sum() for m, d in zip(masks, both, strict=True)])
        log_p = torch.log_softmax(x, 0)
        theirs.append((log_p.exp() * (log_p - torch.tensor([0.0, -10.0]))).sum())
    kept = pairs.chosen_mask.any(-1) & pairs.rejected_mask.any(-1)
    theirs = slope(torch.stack(theirs)[kept].mean(), pairs)
    mine = ours(ga.recipes.exo(beta=0.1, label_smoothing=1e-3), pairs)
    torch.testing.assert_close(mine, math.log(0.999 / 0.001) / 10 * theirs)
    assert math.log(0.999 / 0.001) / 10 == pytest.approx(0.69, abs=1e-3)


def _margins(pairs: ga.PreferenceBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Both log-ratios of the pairs that have two responses, and which those are."""
    both = []
    for side in ("chosen", "rejected"):
        mask = getattr(pairs, f"{side}_mask")
        both.append(torch.where(mask, getattr(pairs, side) - getattr(pairs, f"reference_{side}"), 0).sum(-1))
    return both[0], both[1], pairs.chosen_mask.any(-1) & pairs.rejected_mask.any(-1)


def test_sppos_and_rebels_authors_scale_the_loss() -> None:
    chosen, rejected, kept = _margins(PAIRS)
    pairs, beta, eta = PAIRS[kept.nonzero().flatten()], 0.1, 0.3
    halved = 0.5 * ((chosen - 0.5 / beta) ** 2 + (rejected + 0.5 / beta) ** 2)[kept].mean()
    torch.testing.assert_close(ga.recipes.sppo(beta)(pairs).loss, 2 * halved)
    scaled = (chosen - rejected - eta * PAIRS.margin)[kept].square().mean()
    torch.testing.assert_close(eta**2 * ga.recipes.rebel(eta)(pairs).loss, scaled)


def test_remaxs_authors_count_a_token_by_its_responses_length() -> None:
    batch = dataclasses.replace(BATCH, advantage=BATCH.reward - 0.5)
    per_token = torch.stack([-batch.advantage[i] * log_probs(i).mean() for i in rows()]).mean()
    lengths = BATCH.mask.sum(-1).clamp(min=1)
    mine = ga.recipes.remax().gradient(batch)
    torch.testing.assert_close((mine / lengths[:, None]).flatten(), slope(per_token, BATCH))


def test_topr_weighs_a_response_and_not_its_tokens() -> None:
    """Two tokens with the ratios 2 and ¼: the response's ratio is ½, of which ROLL's clipped tokens have 1 and ¼."""
    policy = torch.tensor([[math.log(2.0), -math.log(4.0)]])
    batch = ga.Batch(policy, torch.zeros(1, 2), advantage=torch.tensor([-1.0]))
    torch.testing.assert_close(ga.recipes.topr().gradient(batch), torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize("name, factor", [("gopo", 1.0), ("w_gopo", 4.0)])
def test_the_authors_gopo_reads_a_clamped_log_ratio_per_token(name: str, factor: float) -> None:
    """½μ(e^x − 1 − v*)², x the mean of Δ over tokens, clamped at ±5: on single tokens within the clamp the same loss
    (2/μ times it for W-GOPO), and no gradient beyond."""
    mu, recipe = 0.5, ga.recipes.get(name, mu=0.5)
    within = dataclasses.replace(ONE_TOKEN, old=ONE_TOKEN.policy.detach() - 0.3)
    beyond = dataclasses.replace(ONE_TOKEN, old=ONE_TOKEN.policy.detach() + 6.0)
    for batch, share in ((within, factor), (beyond, math.inf)):
        target = 1 + recipe.drive(batch) / recipe.terms[0][1].optimization.mu
        x = (batch.policy - batch.old).squeeze(1).clamp(-5, 5)
        support = batch.mask.any(-1)
        theirs = slope((mu / 2 * (x.exp() - target).square())[support].mean(), batch)
        mine = ours(recipe, batch)
        if math.isfinite(share):
            torch.testing.assert_close(mine, share * theirs)
        else:
            assert not theirs.any() and mine.abs().max() > 0
