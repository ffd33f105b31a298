"""Regressions, discriminations and distillations of groups: equal to their published formulas, written out with plain
loops; the theorems that link them; hostile batches.
"""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from literal import BATCH, BINARY, PAIRS, agree, delta, groups, log_probs, mean, pairs, rows, token_mean

import geomalign as ga

NAMES = ["gvpo", "pmd", "disco", "disco tau=none", "amir_grpo", "amir_grpo reference=true margin=0.5", "nft"]
NAMES += ["f_grpo", "f_grpo divergence=kl", "f_grpo divergence=hellinger beta=1"]
NAMES += ["nft weighting=grpo epsilon=0.3", "on_policy_distillation", "opd"]


@pytest.mark.parametrize("beta, anchor", [(0.1, "old"), (0.7, "reference")])
def test_gvpo(beta: float, anchor: str) -> None:
    def literal() -> torch.Tensor:
        values = []
        for members in groups():
            implicit = [beta * delta(i, anchor).sum() for i in members]
            for i in range(len(members)):
                actual = BATCH.reward[members[i]] - BATCH.reward[members].mean()
                residual = actual - (implicit[i] - mean(implicit))
                values.append(len(members) / max(len(members) - 1, 1) * 0.5 * residual**2)
        return mean(values)

    agree(ga.recipes.gvpo(beta, anchor=anchor), literal, BATCH)


def test_gvpo_is_the_regression_of_every_pair() -> None:
    """Pairwise OPMD: Σ over the pairs of a group of the squared difference is n(n − 1) times its unbiased variance."""
    tau = 0.3

    def literal() -> torch.Tensor:
        total = BATCH.policy.sum() * 0
        for members in groups():
            residual = [BATCH.reward[i] - tau * delta(i).sum() for i in members]
            n = len(members)
            for i in range(n):
                for j in range(i):
                    total = total + 0.5 * (residual[i] - residual[j]) ** 2 / (n - 1)
        return total / len(rows())

    agree(ga.recipes.gvpo(tau), literal, BATCH)


def test_a_shift_of_a_group_is_nothing_to_gvpo() -> None:
    """Adding a constant of the prompt to the rewards, or to the log-ratios, changes neither value nor gradient."""
    objective, shift = ga.recipes.gvpo(), torch.tensor([3.0, -7.0, 0.4, 11.0])[BATCH.group % 4]
    moved = dataclasses.replace(BATCH, reward=BATCH.reward + shift)
    torch.testing.assert_close(objective(moved).loss, objective(BATCH).loss)
    torch.testing.assert_close(objective.gradient(moved), objective.gradient(BATCH))
    first = torch.zeros_like(BATCH.policy)
    first[torch.arange(BATCH.size), BATCH.mask.long().argmax(1)] = shift
    moved = dataclasses.replace(BATCH, policy=(BATCH.policy + first).detach().requires_grad_())
    torch.testing.assert_close(objective(moved).loss, objective(BATCH).loss)


def test_gvpo_on_policy_has_the_gradient_of_rloo() -> None:
    batch = dataclasses.replace(BATCH, old=BATCH.policy.detach())
    found = ga.recipes.gvpo(beta=0.3).gradient(batch)
    torch.testing.assert_close(found, 0.3 * ga.recipes.rloo().gradient(batch))


def test_the_variance_is_the_potential_of_pearson_while_no_density_is_negative() -> None:
    u, n = 0.3 * torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 5
    variance = ga.optimization.GroupVariance(0.7 * (n - 1) / n)
    pearson = ga.GroupPotential(ga.PearsonChiSquare(), 1 / 0.7)
    for name in ("value", "mirror", "curvature"):
        torch.testing.assert_close(getattr(variance, name)(u), getattr(pearson, name)(u))


@pytest.mark.parametrize("normalizer", ["log_mean_exp", "mean"])
def test_pmd(normalizer: str) -> None:
    tau = 0.6

    def literal() -> torch.Tensor:
        values = []
        for members in groups():
            r = BATCH.reward[members]
            v = tau * torch.log(torch.exp(r / tau).mean()) if normalizer == "log_mean_exp" else r.mean()
            values += [(BATCH.reward[i] - v - tau * delta(i).sum()) ** 2 / (2 * tau) for i in members]
        return mean(values)

    agree(ga.recipes.pmd(tau, normalizer=normalizer), literal, BATCH)


def test_pmd_with_the_mean_has_the_gradient_of_mirror_descent() -> None:
    for tau in (0.2, 3.0):
        found = ga.recipes.pmd(tau, normalizer="mean").gradient(BATCH)
        torch.testing.assert_close(found, ga.recipes.mirror_descent(tau).gradient(BATCH))


def test_pmd_rests_at_the_optimal_policy() -> None:
    """At Δ = r/τ − log mean e^{r/τ}, the log-ratio of the Gibbs policy of the samples, the loss is zero."""
    reward, tau = torch.tensor([1.0, 0.0, 0.3], dtype=torch.float64), 0.5
    rest = (reward / tau).log_softmax(0) + math.log(3)
    batch = ga.Batch(rest[:, None], torch.zeros(3, 1, dtype=torch.float64), reward=reward)
    assert float(ga.recipes.pmd(tau)(batch).loss) < 1e-28


@pytest.mark.parametrize("tau", [0.2, 10.0, None])
@pytest.mark.parametrize("limit", [0.0, 10.0])
def test_disco(tau: float | None, limit: float) -> None:
    """KL is the mean over tokens, whose constraint is violated at the first limit and holds at the second."""
    old = BATCH.policy.detach() + torch.linspace(0.0, 0.5, BATCH.policy.numel()).view(BATCH.policy.shape)
    batch = dataclasses.replace(BATCH, old=old)

    def literal() -> torch.Tensor:
        values = []
        for members in groups(batch):
            right = [log_probs(i).mean() for i in members if batch.reward[i] > 0]
            wrong = [log_probs(i).mean() for i in members if batch.reward[i] <= 0]
            value = batch.policy.sum() * 0
            if right and wrong:
                poor = mean(wrong) if tau is None else tau * torch.log(mean([torch.exp(s / tau) for s in wrong]))
                value = poor - mean(right)
            values += [value] * len(members)
        divergence = -token_mean({i: delta(i, b=batch) for i in rows(batch)})
        return mean(values) + 7.0 * (divergence - limit).clamp(min=0).detach() * divergence

    agree(ga.recipes.disco(tau, limit, 7.0), literal, batch)
    violated = ga.recipes.disco(tau, limit, 7.0)(batch).terms[1].drive
    assert bool((violated > 0).any()) == (limit == 0)


def test_the_constraint_of_disco_has_the_gradient_of_a_squared_hinge() -> None:
    batch = dataclasses.replace(BATCH, old=BATCH.policy.detach() + 0.3)
    divergence = -token_mean({i: delta(i, b=batch) for i in rows(batch)})
    (hinge,) = torch.autograd.grad(0.5 * 7.0 * (divergence - 0.1) ** 2, batch.policy)
    constraint = ga.recipes.disco(None, 0.1, 7.0).terms[1][1]
    torch.testing.assert_close(constraint.gradient(batch), hinge)
    assert constraint.locality is ga.Locality.BATCH


@pytest.mark.parametrize("margin, reference", [(0.0, False), (0.5, True)])
def test_amir_grpo(margin: float, reference: bool) -> None:
    def literal() -> torch.Tensor:
        values = []
        for members in groups():
            u = {i: (delta(i, "reference") if reference else log_probs(i)).sum() for i in members}
            losses = [
                torch.nn.functional.softplus(-0.3 * (u[i] - u[j]))
                for i in members
                for j in members
                if BATCH.reward[i] - BATCH.reward[j] > margin
            ]
            values += [mean(losses) if losses else BATCH.policy.sum() * 0] * len(members)
        return ga.recipes.grpo().plain(BATCH).loss + 0.4 * mean(values)

    agree(ga.recipes.amir_grpo(0.4, 0.3, margin, reference=reference), literal, BATCH)


def test_ordered_pairs_of_two_responses_are_dpo() -> None:
    whole = PAIRS[PAIRS.rows.support.any(-1).view(2, -1).all(0).nonzero().flatten()]
    two = ga.Objective(
        unit=ga.Sequence(),
        sampling=ga.Advantage(),
        optimization=ga.optimization.GroupPairs(0.3),
        anchor="reference",
    )
    assert len(pairs(whole)) == whole.size
    torch.testing.assert_close(two(whole).loss, ga.recipes.dpo(beta=0.3)(whole).loss)
    for mine, theirs in zip(two.gradient(whole), ga.recipes.dpo(beta=0.3).gradient(whole), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_ordered_pairs_without_a_dense_layout_are_the_same() -> None:
    """Where one large group would pad many small ones, or a device be waited for, rows are compared by their ids."""
    generator = torch.Generator().manual_seed(0)
    u, g = torch.randn(2, 9, generator=generator, dtype=torch.float64)
    batch = ga.Batch(u[:, None], u[:, None], reward=g, group=torch.tensor([2, 0, 2, 1, 0, 2, 2, 1, 0]))
    for potential in (ga.optimization.GroupPairs(0.8), ga.optimization.GroupDiscrimination(0.7)):
        bound = potential.among(batch)
        dense = [bound.energy(u, g), bound.force(u, g), bound.curvature_along(u, g, g)]
        loose = potential.among(batch)
        loose._groups._padded = (None,)  # type: ignore[union-attr]
        for mine, theirs in zip(dense, (loose.energy(u, g), loose.force(u, g), loose.curvature_along(u, g, g))):
            torch.testing.assert_close(mine, theirs)


def _nft(epsilon: float, weighting: str, batch: ga.Batch) -> Callable[[], torch.Tensor]:
    def literal() -> torch.Tensor:
        values = {}
        for members in groups(batch):
            p = batch.reward[members].mean()
            omega = 1 - p if weighting == "dr_grpo" else torch.sqrt((1 - p) / p)
            for i in members:
                t = torch.exp(delta(i, b=batch))
                if p in (0, 1):
                    values[i] = 0 * t
                elif batch.reward[i] == 1:
                    values[i] = -omega * torch.log(t)
                else:
                    left = (1 - p * t) / (1 - p)
                    floor = left.detach().clamp(min=epsilon)
                    values[i] = -omega * (floor.log() + (left - floor) / floor)
        return token_mean(values)

    return literal


@pytest.mark.parametrize("weighting", ["dr_grpo", "grpo"])
@pytest.mark.parametrize("epsilon", [1.0, 0.3])
def test_nft(epsilon: float, weighting: str) -> None:
    """With the gradient of the authors' clamp, which keeps that of what it clamps; its value is the tangent's here."""
    agree(ga.recipes.nft(epsilon, weighting=weighting), _nft(epsilon, weighting, BINARY), BINARY)


@pytest.mark.parametrize("weighting, scale", [("dr_grpo", "none"), ("grpo", "group")])
def test_nft_on_policy_is_the_policy_gradient(weighting: str, scale: str) -> None:
    """The theorem of its §4: on policy NFT has the gradient of Dr. GRPO or GRPO, with the population's deviation."""
    batch = dataclasses.replace(BINARY, old=BINARY.policy.detach())
    score = ga.Objective(
        unit=ga.Token(),
        sampling=ga.GroupAdvantage(scale=scale, ddof=0, epsilon=0.0),
        optimization=ga.Flat(),
    )
    torch.testing.assert_close(ga.recipes.nft(weighting=weighting).gradient(batch), score.gradient(batch))


CRITICS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]] = {
    "kl": (lambda v: v, lambda s: torch.exp(s - 1)),
    "reverse_kl": (lambda v: -torch.exp(-v), lambda s: -1 - torch.log(-s)),
    "pearson": (lambda v: v, lambda s: s + s**2 / 4),
    "hellinger": (lambda v: 1 - torch.exp(-v), lambda s: s / (1 - s)),
    "jensen_shannon": (lambda v: math.log(2) - torch.log(1 + torch.exp(-v)), lambda s: -torch.log(2 - torch.exp(s))),
    "total_variation": (lambda v: 0.5 * torch.tanh(v), lambda s: s),
}
"""The rows of f-GAN's tables 1, 2 and 6: the output activation and the conjugate, literally."""


def _groups_with(value: Callable[[float, torch.Tensor], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """The mean over prompts of the means over their tokens, of standardised rewards and reference log-ratios."""

    def literal() -> torch.Tensor:
        means = []
        for members in groups():
            reward = BATCH.reward[members]
            deviation = reward.std() if len(members) > 1 else torch.zeros(())
            advantage = (reward - reward.mean()) / (deviation + 1e-6)
            tokens = [value(a, delta(i, "reference")) for a, i in zip(advantage, members, strict=True)]
            means.append(torch.cat(tokens).mean())
        return mean(means)

    return literal


@pytest.mark.parametrize("beta", [0.1, 0.7])
@pytest.mark.parametrize("divergence", list(CRITICS))
def test_f_grpo(divergence: str, beta: float) -> None:
    """Equal in gradient, and in value but for the constant that f-GAN's generators of the two KLs bring."""
    critic, conjugate = CRITICS[divergence]
    constant = 1.0 if divergence == "reverse_kl" else 0.0

    def value(advantage: float, ratio: torch.Tensor) -> torch.Tensor:
        score = critic(beta * ratio)
        psi = score + constant if advantage > 0 else conjugate(score) + constant
        return -advantage / (1 + 1 / beta) * psi

    agree(ga.recipes.f_grpo(divergence, beta), _groups_with(value), BATCH)


def test_the_bound_of_f_grpo_is_the_divergence_at_its_best_critic() -> None:
    """E₊T − E₋ψ*(T) ≤ D(P⁺‖P⁻) for every policy, equal where T is ψ' of the ratio (total variation: in the limit)."""
    log_p, log_q = torch.randn(2, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64).log_softmax(-1)
    p, q, ratio = log_p.exp(), log_q.exp(), log_p - log_q
    t = ratio.exp()
    best = {
        "kl": (1 + ratio, (p * ratio).sum()),
        "reverse_kl": (ratio, -(q * ratio).sum()),
        "pearson": (2 * (t - 1), (q * (t - 1) ** 2).sum()),
        "hellinger": (ratio / 2, ((p.sqrt() - q.sqrt()) ** 2).sum()),
        "jensen_shannon": (ratio, (p * (2 * p / (p + q)).log() + q * (2 * q / (p + q)).log()).sum()),
        "total_variation": (40 * ratio.sign(), 0.5 * (p - q).abs().sum()),
    }
    for divergence, (critic, value) in best.items():
        potential = ga.optimization.VariationalBound(divergence, beta=0.5)

        def bound(v: torch.Tensor, potential: ga.OptimizationGeometry = potential) -> torch.Tensor:
            return -(potential.energy(v / 0.5, p) + potential.energy(v / 0.5, -q)).sum()

        torch.testing.assert_close(bound(critic), value, msg=divergence)
        for seed in range(20):
            v = 2 * torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            assert bound(v) <= value + 1e-12, divergence


@pytest.mark.parametrize(
    "divergence, of, critic",
    [
        ("kl", ga.KullbackLeibler(), lambda v: v - 1),
        ("reverse_kl", ga.ReverseKullbackLeibler(), lambda v: 1 - torch.exp(-v)),
        ("pearson", 2.0 * ga.PearsonChiSquare(), lambda v: v),
        ("hellinger", 0.5 * ga.SquaredHellinger(), lambda v: 1 - torch.exp(-v)),
        ("jensen_shannon", ga.JensenShannon(), lambda v: math.log(2) - torch.log1p(torch.exp(-v))),
        ("total_variation", ga.TotalVariation(), lambda v: torch.tanh(v) / 2),
    ],
)
def test_the_bound_of_f_grpo_is_made_of_the_conjugates_of_our_divergences(
    divergence: str, of: ga.Divergence, critic: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """−g₊T + g₋ψ*(T) with `Divergence.conjugate`, up to a constant; a pull up weighs (ψ*)'(T) times one down."""
    v, up = torch.linspace(-1.9, 3.0, 8), torch.ones(8)
    potential = ga.optimization.VariationalBound(divergence)
    for made, meant in (
        (potential.energy(v, up), -critic(v)),
        (potential.energy(v, -up), of.conjugate(critic(v))),
    ):
        torch.testing.assert_close(made - made[0], meant - meant[0])
    # Where it is kinked a dual coordinate between its two slopes belongs to the kink, t = 1, and is refused.
    ratio = torch.ones(8) if divergence == "total_variation" else of.inverse_mirror(critic(v))
    torch.testing.assert_close(potential.force(v, -up), -potential.force(v, up) * ratio)


def test_on_policy_distillation() -> None:
    def literal() -> torch.Tensor:
        values = {}
        for i in rows():
            reward = (log_probs(i, "reference") - log_probs(i, "old")).detach()
            values[i] = -reward * torch.exp(delta(i))
        return token_mean(values)

    agree(ga.recipes.on_policy_distillation(), literal, BATCH)


def test_distillation_has_the_gradient_of_the_reverse_divergence() -> None:
    """Every token of a vocabulary, as often as the policy takes it: the mean gradient is that of KL(π‖π_T)."""
    logits = torch.randn(6, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(6, generator=torch.Generator().manual_seed(4), dtype=torch.float64).log_softmax(0)
    policy = logits.log_softmax(0)
    (exact,) = torch.autograd.grad((policy.exp() * (policy - teacher)).sum(), logits, retain_graph=True)
    for objective in (ga.recipes.on_policy_distillation(), ga.recipes.opd(tau=0.0)):
        losses = [
            objective(ga.Batch(p.view(1, 1), p.detach().view(1, 1), reference=q.view(1, 1))).loss
            for p, q in zip(policy, teacher, strict=True)
        ]
        expected = (policy.detach().exp() * torch.stack(losses)).sum()
        torch.testing.assert_close(torch.autograd.grad(expected, logits, retain_graph=True)[0], exact)


def test_a_drive_that_is_made_of_the_reference_says_so() -> None:
    """A training loop and an adapter compute the reference where an objective needs it, and only there."""
    teacher = ga.sampling.TeacherRatio()
    assert ga.recipes.on_policy_distillation().needs_reference and ga.recipes.opd().needs_reference
    for sampling in (
        teacher,
        ga.SignWeighted(teacher),
        ga.sampling.SignLabel(teacher),
        ga.KLReward(ga.GroupAdvantage(), ga.Linear()),
    ):
        assert sampling.needs_reference
    assert not ga.SignWeighted(ga.GroupAdvantage()).needs_reference and not ga.recipes.grpo().needs_reference


def test_opd() -> None:
    old = (BATCH.old - BATCH.old.amin()).neg() * 0.3  # probable tokens, of which some fall by more than δ
    batch = dataclasses.replace(BATCH, old=old, policy=(old - 0.4 * BATCH.reference.abs()).detach().requires_grad_())

    def literal() -> torch.Tensor:
        values = {}
        for i in rows(batch):
            p, q = log_probs(i, b=batch), log_probs(i, "old", batch)
            kept = (torch.exp(p) - torch.exp(q) >= -0.2).detach()
            pull = (log_probs(i, "reference", batch) - p).detach()
            values[i] = -kept.double() * pull * torch.exp(p - q) + 1e-3 * (p - q) ** 2
        return token_mean(values)

    agree(ga.recipes.opd(), literal, batch)
    fallen = (torch.exp(batch.policy) - torch.exp(batch.old) < -0.2)[batch.mask]
    assert fallen.any() and not fallen.all()


def hostile(reward: list[float], moved: list[float], group: list[int], mask: list[int] | None = None) -> ga.Batch:
    zero = torch.full((len(reward), 1), -1.0)
    policy = (zero + torch.tensor(moved)[:, None]).requires_grad_()
    support = None if mask is None else torch.tensor(mask)[:, None]
    return ga.Batch(policy, zero, support, torch.tensor(reward), reference=zero - 0.5, group=torch.tensor(group))


@pytest.mark.float32
@pytest.mark.parametrize("name", NAMES)
def test_hostile_groups(name: str) -> None:
    """A group of one, equal rewards, an empty group, rewards and log-ratios of ±1e4, and a reward that is NaN."""
    objective, nan = ga.recipes.get(name), math.nan
    large = [1e4, -1e4, 0.0, 1e4, -1e4, 3.0]
    for batch in (
        hostile([1.0, 0.0, 1.0], [0.1, 0.2, 0.3], [0, 1, 2]),
        hostile([1.0] * 4, [0.3, -0.2, 0.0, 5.0], [0, 0, 1, 1]),
        hostile([0.0] * 4, large[:4], [0, 0, 1, 1]),
        hostile([1.0, 0.0, 1.0, 0.0], [0.1] * 4, [0, 0, 1, 1], [0, 0, 1, 1]),
        hostile([1.0, 0.0], [0.1, 0.2], [0, 0], [0, 0]),
        hostile([1e4, 0.0, -1e4, 1.0, 1.0, 1.0], large, [0, 0, 0, 1, 1, 1]),
        hostile([1.0, 0.0, 1.0, 0.0, 1.0, 0.0], large, [0, 0, 0, 1, 1, 1]),
        hostile([1.0, nan, 0.0, nan], [0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1]),
    ):
        outcome = objective(batch)
        outcome.loss.backward()
        assert torch.isfinite(outcome.loss) and torch.isfinite(batch.policy.grad).all(), batch
        lost = ~torch.isfinite(batch.reward)
        if "dist" not in name and name not in ("opd", "pmd") and "disco" not in name:  # those resist, or have a teacher
            assert not batch.policy.grad[lost].any()
        assert all(not value.isnan() for key, value in ga.metrics(outcome).items() if "stiffness" not in key)


@pytest.mark.parametrize("name", NAMES)
def test_rows_come_in_any_order(name: str) -> None:
    objective, batch = ga.recipes.get(name), BINARY
    order = torch.randperm(batch.size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(objective.gradient(batch[order]), objective.gradient(batch)[order])


def test_triple_preference_is_two_batches() -> None:
    """TPO (2405.16681): the margin of a pair, and the likelihood of a third, gold response in a batch of its own."""
    gold = ga.Objective(unit=ga.Token(), sampling=ga.Label(1.0), optimization=ga.Indicator(-math.inf, 0.0), anchor=None)
    beta, alpha = 0.3, 0.7
    found = ga.recipes.cpo(beta, alpha=0.0)(PAIRS).loss + alpha * gold(BATCH).loss
    margins = [p.chosen.policy.sum() - p.rejected.policy.sum() for p in pairs()]
    literal = mean([torch.nn.functional.softplus(-beta * m) for m in margins])
    literal = literal - alpha * token_mean({i: log_probs(i) for i in rows()})
    torch.testing.assert_close(found, literal)
    leaves = [PAIRS.chosen, PAIRS.rejected, BATCH.policy]
    for mine, theirs in zip(*(torch.autograd.grad(x, leaves) for x in (found, literal)), strict=True):
        torch.testing.assert_close(mine, theirs)
