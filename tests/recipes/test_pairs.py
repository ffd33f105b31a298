"""Losses of the margin of a pair: equal to their published formulas, written out."""

import math
from collections.abc import Callable

import pytest
import torch
from literal import PAIRS, WHOLE, Both, agree, mean, pairs
from torch.nn.functional import logsigmoid, softplus

import geomalign as ga


def over_pairs(value: Callable[[Both], torch.Tensor]) -> Callable[[], torch.Tensor]:
    return lambda: mean([value(p) for p in pairs()])


def margin(p: Both) -> torch.Tensor:
    return p.chosen.delta - p.rejected.delta


def test_cdpo() -> None:
    def value(p: Both) -> torch.Tensor:
        u = 0.3 * margin(p)
        return -0.8 * logsigmoid(u) - 0.2 * logsigmoid(-u)

    agree(ga.recipes.cdpo(0.3, label_smoothing=0.2), over_pairs(value), PAIRS)


def test_robust_dpo() -> None:
    def value(p: Both) -> torch.Tensor:
        u = 0.3 * margin(p)
        return (-0.9 * logsigmoid(u) + 0.1 * logsigmoid(-u)) / (1 - 2 * 0.1)

    with pytest.warns(ga.UnboundedLossWarning, match="unbounded below"):
        objective = ga.recipes.robust_dpo(0.3, label_smoothing=0.1)
    agree(objective, over_pairs(value), PAIRS)


def test_robust_dpo_falls_without_end() -> None:
    with pytest.warns(ga.UnboundedLossWarning):
        objective = ga.recipes.robust_dpo(1.0, label_smoothing=0.1)
    losses = [
        objective(ga.PreferenceBatch(*(x.reshape(1, 1) for x in (m, -m, 0 * m, 0 * m)))).loss
        for m in torch.tensor([10.0, 100.0, 1000.0])
    ]
    assert losses[0] > losses[1] > losses[2] and losses[2] < -100


def test_robust_dpo_is_unbiased_under_label_noise() -> None:
    """The expectation over labels flipped with probability ε is DPO's loss without noise."""
    epsilon, u = 0.1, torch.linspace(-3, 3, 7)
    kept = (-(1 - epsilon) * logsigmoid(u) + epsilon * logsigmoid(-u)) / (1 - 2 * epsilon)
    flipped = (-(1 - epsilon) * logsigmoid(-u) + epsilon * logsigmoid(u)) / (1 - 2 * epsilon)
    torch.testing.assert_close((1 - epsilon) * kept + epsilon * flipped, -logsigmoid(u))


@pytest.mark.parametrize(("beta", "epsilon"), [(0.3, 1e-3), (1.0, 0.2)])
def test_exo(beta: float, epsilon: float) -> None:
    def value(p: Both) -> torch.Tensor:
        u = beta * margin(p)
        chosen = torch.sigmoid(u) * (logsigmoid(u) - math.log(1 - epsilon))
        return chosen + torch.sigmoid(-u) * (logsigmoid(-u) - math.log(epsilon))

    agree(ga.recipes.exo(beta, epsilon), over_pairs(value), PAIRS)


def test_exo_is_a_fenchel_young_loss() -> None:
    """Decoupled, convex in p = σ(βu), its value the gap: never negative, zero at p = 1 − ε."""
    objective = ga.recipes.exo(1.0, 0.2)
    assert objective.decoupled
    outcome = objective(PAIRS)
    torch.testing.assert_close(outcome.loss, (outcome.weights * outcome.gap).sum())
    geometry, drive = objective.terms[0][1].optimization, torch.tensor([math.log(0.8 / 0.2)])
    torch.testing.assert_close(geometry.equilibrium(drive), torch.tensor([0.8]))
    assert geometry.gap(torch.tensor([0.8]), drive).abs() < 1e-15 < geometry.gap(torch.tensor([0.7]), drive)


def test_exo_of_a_sure_label_is_refused() -> None:
    with pytest.raises(ValueError, match="sure label"):
        ga.recipes.exo(label_smoothing=0.0)


def test_dpo_norm() -> None:
    agree(
        ga.recipes.dpo_norm(5.0),
        over_pairs(lambda p: -logsigmoid(5.0 * (p.chosen.mean_delta - p.rejected.mean_delta))),
        PAIRS,
    )


COORDINATES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "reverse_kl": torch.log,
    "forward_kl": lambda t: 1 - 1 / t,
    "js": lambda t: torch.log(2 * t / (1 + t)),
    "alpha": lambda t: (1 - t**-0.3) / 0.3,
    "hellinger": lambda t: 2 * (1 - t**-0.5),
    "chi2": lambda t: t - 1,
}


@pytest.mark.parametrize("divergence", COORDINATES)
def test_f_dpo(divergence: str) -> None:
    score = COORDINATES[divergence]
    agree(
        ga.recipes.f_dpo(0.3, divergence, alpha=0.3),
        over_pairs(lambda p: -logsigmoid(0.3 * (score(p.chosen.delta.exp()) - score(p.rejected.delta.exp())))),
        PAIRS,
    )


def test_f_dpo_takes_any_divergence_and_names_those_it_knows() -> None:
    both = ga.KullbackLeibler() + ga.PearsonChiSquare()
    torch.testing.assert_close(ga.recipes.f_dpo(0.1, both).gradient(PAIRS), ga.recipes.chi_po(0.1).gradient(PAIRS))
    with pytest.raises(ValueError, match="forward_kl"):
        ga.recipes.f_dpo(divergence="renyi")


def test_wpo() -> None:
    def value(p: Both) -> torch.Tensor:
        weight = torch.exp(p.chosen.policy.mean() + p.rejected.policy.mean()).detach()
        return -weight * logsigmoid(0.3 * margin(p))

    agree(ga.recipes.wpo(0.3), over_pairs(value), PAIRS)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_aot(smoothing: float) -> None:
    def literal() -> torch.Tensor:
        ours = torch.stack([p.chosen.policy.sum() - p.rejected.policy.sum() for p in pairs(WHOLE)]).sort().values
        theirs = (
            torch.stack([p.chosen.reference.sum() - p.rejected.reference.sum() for p in pairs(WHOLE)]).sort().values
        )
        u = 0.3 * (ours - theirs)
        return (-(1 - smoothing) * logsigmoid(u) - smoothing * logsigmoid(-u)).mean()

    agree(ga.recipes.aot(0.3, smoothing), literal, WHOLE)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_aot_unpaired(smoothing: float) -> None:
    def literal() -> torch.Tensor:
        chosen = torch.stack([p.chosen.delta for p in pairs(WHOLE)]).sort().values
        rejected = torch.stack([p.rejected.delta for p in pairs(WHOLE)]).sort().values
        u = 0.3 * (chosen - rejected)
        return (-(1 - smoothing) * logsigmoid(u) - smoothing * logsigmoid(-u)).mean()

    agree(ga.recipes.aot_unpaired(0.3, smoothing), literal, WHOLE)


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_a_pair_that_lacks_a_response_has_no_rank(name: str) -> None:
    objective = ga.recipes.get(name)
    for seed in range(8):
        batch = ga.laws.sample_pairs(7, seed=seed)
        whole = batch.counts().pairs.item()
        kept = objective(batch[:whole]).loss
        for order in (torch.arange(7), torch.arange(7).flip(0), torch.randperm(7)):
            torch.testing.assert_close(objective(batch[order]).loss, kept)


def test_aot_does_not_depend_on_the_pairing() -> None:
    some = WHOLE
    order = torch.arange(some.size).flip(0)
    shuffled = ga.PreferenceBatch(
        some.chosen, some.rejected[order], some.reference_chosen, some.reference_rejected[order],
        some.chosen_mask, some.rejected_mask[order],
    )  # fmt: skip
    torch.testing.assert_close(ga.recipes.aot_unpaired()(some).loss, ga.recipes.aot_unpaired()(shuffled).loss)
    assert (ga.recipes.dpo(1.0)(some).loss - ga.recipes.dpo(1.0)(shuffled).loss).abs() > 1e-4


@pytest.mark.parametrize(("beta", "tau"), [(0.05, 0.05), (1.0, 0.5)])
def test_discopop(beta: float, tau: float) -> None:
    def value(p: Both) -> torch.Tensor:
        x = beta * margin(p)
        s = torch.sigmoid(x / tau)
        return (1 - s) * -logsigmoid(x) + s * torch.exp(-x)

    agree(ga.recipes.discopop(beta, tau), over_pairs(value), PAIRS)


def test_discopop_pushes_the_wrong_way_near_zero() -> None:
    """At τ = 0.05 a local minimum at βu = −0.119 and a local maximum at 0.072; at τ = 0.2 it falls everywhere."""
    x = torch.linspace(-1, 2, 30001)
    still = torch.zeros_like(x)
    force = ga.optimization.LogRatioModulated(1.0, 0.05).force(x, still)
    turns = x[1:][(force[1:] > 0) != (force[:-1] > 0)]
    torch.testing.assert_close(turns, torch.tensor([-0.1186, 0.0721]), atol=2e-4, rtol=0)
    assert (ga.optimization.LogRatioModulated(1.0, 0.2).force(x, still) < 0).all()


GPO: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gpo_exponential": lambda x: torch.exp(-x),
    "gpo_truncated_quadratic": lambda x: torch.relu(1 - x) ** 2,
    "gpo_savage": lambda x: 1 / (1 + torch.exp(x)) ** 2,
}


@pytest.mark.parametrize("beta", [0.3, 1.0])
@pytest.mark.parametrize("name", GPO)
def test_gpo(name: str, beta: float) -> None:
    agree(ga.recipes.get(name, beta=beta), over_pairs(lambda p: GPO[name](beta * margin(p))), PAIRS)


def test_savage_is_the_brier_score() -> None:
    outcome = ga.recipes.gpo_savage(1.0)(PAIRS)
    torch.testing.assert_close(outcome.loss, (outcome.weights * (1 - outcome.u) ** 2).sum())


def test_softplus_is_what_dpo_is_without_its_drive() -> None:
    """−log σ(x) = softplus(x) − x: the drive of the label is all that DPO adds to its potential."""
    x = torch.linspace(-4, 4, 9)
    torch.testing.assert_close(-logsigmoid(x), softplus(x) - x)


def test_open_instruct_weighs_by_sums_where_wpo_weighs_by_averages() -> None:
    """One pair of 2 and 3 tokens of probability 1/e: WPO weighs it by e⁻², open-instruct's average of a sum by e⁻⁵."""
    chosen, rejected = torch.full((1, 2), -1.0), torch.full((1, 3), -1.0)
    pair = ga.PreferenceBatch(chosen, rejected, chosen, rejected)
    recipe = ga.recipes.wpo(beta=0.1)
    torch.testing.assert_close(recipe(pair).loss, math.exp(-2) * torch.tensor(2.0).log())
    sums, masks = (chosen.sum(-1), rejected.sum(-1)), (torch.ones(1, 2), torch.ones(1, 3))
    meant = [(total * mask).sum(-1) / mask.sum(-1) for total, mask in zip(sums, masks, strict=True)]
    torch.testing.assert_close(torch.exp(meant[0] + meant[1]), torch.tensor([math.exp(-5)]))
