"""Whose gradient a KL penalty has: by exact enumeration of a finite support, without sampling noise."""

import itertools
import warnings
from collections.abc import Callable

import pytest
import torch

import geomalign as ga
from geomalign.objective import ESTIMATORS, KL_PENALTIES, KLPenalty, kl_penalty

THETA = torch.tensor([0.3, -0.5, 0.9, 0.1, -1.2], dtype=torch.float64)
REFERENCE = torch.log_softmax(torch.tensor([-0.4, 0.2, 0.5, 1.0, -0.3], dtype=torch.float64), 0)
ROLLOUT = torch.log_softmax(torch.tensor([0.5, -0.2, 0.4, 0.3, -0.9], dtype=torch.float64), 0)


def expected(divergence: str, policy: torch.Tensor) -> torch.Tensor:
    """The divergences of the table, exactly."""
    pi, ref, old, delta = policy.exp(), REFERENCE.exp(), ROLLOUT.exp(), policy - REFERENCE
    table: dict[str, Callable[[], torch.Tensor]] = {
        "reverse": lambda: (pi * delta).sum(),
        "forward": lambda: (ref * -delta).sum(),
        "square": lambda: (pi * delta**2).sum() / 2,
        "rollout": lambda: (old * (ROLLOUT - policy)).sum(),
        "rollout_square": lambda: (old * delta**2).sum() / 2,
        "rollout_k3": lambda: (old * (torch.exp(-delta) + delta - 1)).sum(),
    }
    return table[divergence]()


def objective_of(entry: KLPenalty) -> ga.BaseObjective:
    if entry.use != "reward":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ga.UnboundedLossWarning)
            return kl_penalty(entry.estimator, entry.use)
    # A reward of zero, less the KL penalty, under the score function.
    sampling = ga.KLReward(ga.Advantage(), ESTIMATORS[entry.estimator], beta=1.0)
    return ga.Objective(unit=ga.Sequence(), chart=ga.LogRatio(), sampling=sampling, optimization=ga.Flat(), anchor=None)


def enumerate_loss(objective: ga.BaseObjective, policy: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """E_{y ~ samples} of the loss of the response y, every y once; the samples' probabilities have no gradient."""
    column = [x.reshape(-1, 1) for x in (policy, samples, REFERENCE)]
    total = torch.zeros((), dtype=policy.dtype)
    for y in range(len(policy)):
        p, anchor, reference = (x[y : y + 1] for x in column)
        batch = ga.Batch(p, anchor.detach(), reference=reference, advantage=torch.zeros(1, dtype=policy.dtype))
        total = total + samples[y].detach().exp() * objective(batch).loss
    return total


@pytest.mark.parametrize("entry", KL_PENALTIES, ids=lambda e: f"{e.estimator}-{e.use}-{e.samples}")
def test_whose_gradient_a_kl_penalty_has(entry: KLPenalty) -> None:
    theta = THETA.clone().requires_grad_()
    policy = torch.log_softmax(theta, 0)
    samples = policy if entry.samples == "policy" else ROLLOUT
    (mine,) = torch.autograd.grad(enumerate_loss(objective_of(entry), policy, samples), theta, retain_graph=True)
    theirs = torch.zeros_like(theta)
    for coefficient, divergence in entry.gradient:
        theirs = theirs + coefficient * torch.autograd.grad(expected(divergence, policy), theta, retain_graph=True)[0]
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-14)


def test_the_divergences_of_the_table_are_told_apart() -> None:
    """The test above can fail: no two of the gradients agree here, and none vanishes."""
    theta = THETA.clone().requires_grad_()
    policy = torch.log_softmax(theta, 0)
    names = ("reverse", "forward", "square", "rollout", "rollout_square", "rollout_k3")
    gradients = [torch.autograd.grad(expected(n, policy), theta, retain_graph=True)[0] for n in names]
    for a, b in itertools.combinations([*gradients, torch.zeros_like(theta)], 2):
        assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("use", ["plain", "straight_through"])
@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_have_the_value_of_the_reverse_divergence(estimator: str, use: str) -> None:
    policy = torch.log_softmax(THETA, 0)
    value = enumerate_loss(objective_of(KLPenalty(estimator, use, "policy", ())), policy, policy)
    torch.testing.assert_close(value, expected("reverse", policy))


@pytest.mark.parametrize("use", ["weighted", "corrected", "unbiased"])
def test_a_weighted_kl_penalty_has_its_value_under_the_policy(use: str) -> None:
    policy = torch.log_softmax(THETA, 0)
    value = enumerate_loss(kl_penalty("k3", use), policy, ROLLOUT)
    torch.testing.assert_close(value, expected("reverse", policy))


def test_kl_penalties_know_their_own_gradient() -> None:
    batch = ga.laws.sample_batch()
    for entry in KL_PENALTIES:
        objective = objective_of(entry)
        (gradient,) = torch.autograd.grad(objective.plain(batch).loss, batch.policy)
        torch.testing.assert_close(objective.gradient(batch), gradient, rtol=1e-10, atol=1e-13)


def test_k1_as_a_loss_says_that_it_leads_nowhere() -> None:
    with pytest.warns(ga.UnboundedLossWarning, match="unbounded below"):
        kl_penalty("k1")


def test_the_kl_penalty_of_grpo_is_k3_in_the_loss() -> None:
    batch = ga.laws.sample_batch()
    spelled_out = ga.recipes.grpo() + 0.04 * kl_penalty("k3")
    torch.testing.assert_close(spelled_out(batch).loss, ga.recipes.grpo(beta=0.04)(batch).loss)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="k1"):
        kl_penalty("k4")
    with pytest.raises(ValueError, match="straight_through"):
        kl_penalty("k3", "magic")


class Tree:
    """Responses of two tokens from a vocabulary of three: a policy whose second step depends on the first."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.theta = torch.randn(4, 3, generator=generator, dtype=torch.float64).requires_grad_()
        self.reference = torch.log_softmax(torch.randn(4, 3, generator=generator, dtype=torch.float64), -1)
        self.policy = torch.log_softmax(self.theta, -1)
        self.paths = list(itertools.product(range(3), repeat=2))

    def tokens(self, table: torch.Tensor) -> torch.Tensor:
        """`(path, token)` log-probabilities."""
        return torch.stack([torch.stack([table[0, a], table[1 + a, b]]) for a, b in self.paths])

    def divergence(self) -> torch.Tensor:
        """KL(π‖π_ref) of whole responses."""
        p, q = self.tokens(self.policy).sum(-1), self.tokens(self.reference).sum(-1)
        return (p.exp() * (p - q)).sum()

    def gradient(self, objective: ga.BaseObjective) -> torch.Tensor:
        policy, reference = self.tokens(self.policy), self.tokens(self.reference)
        total = torch.zeros((), dtype=policy.dtype)
        for y in range(len(self.paths)):
            p, q = policy[y : y + 1], reference[y : y + 1]
            batch = ga.Batch(p, p.detach(), reference=q, advantage=torch.zeros(1, dtype=p.dtype))
            total = total + p.detach().sum().exp() * objective(batch).loss
        return torch.autograd.grad(total, self.theta, retain_graph=True)[0]


def test_of_whole_responses_a_sum_of_token_kl_penalties_misses_what_comes_after() -> None:
    """k2 a token pulls by each step's own divergence; k2 of the response, or k1 in the return, by that of all of it."""
    tree = Tree()
    (exact,) = torch.autograd.grad(tree.divergence(), tree.theta, retain_graph=True)
    per_token = kl_penalty("k2", unit=ga.Token(), measure=ga.FixedBudget(1))
    whole = kl_penalty("k2", unit=ga.Sequence(), measure=ga.PooledMean())
    rewarded = ga.Objective(
        unit=ga.Token(),
        chart=ga.LogRatio(),
        sampling=ga.KLReward(ga.Advantage(), ga.Linear(), beta=1.0, unit="return"),
        optimization=ga.Flat(),
        measure=ga.FixedBudget(1),
        anchor=None,
    )
    torch.testing.assert_close(tree.gradient(whole), exact)
    torch.testing.assert_close(tree.gradient(rewarded), exact)
    missing = tree.gradient(per_token) - exact
    assert missing[0].abs().max() > 1e-2
    torch.testing.assert_close(missing[1:], torch.zeros_like(missing[1:]), atol=1e-12, rtol=0)
