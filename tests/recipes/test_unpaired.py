"""Losses of single responses with a label: equal to their published formulas, written out."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from literal import BATCH, PAIRS, WHOLE, Both, agree, delta, mean, pairs, rows
from torch.nn.functional import logsigmoid

import geomalign as ga

LABELLED = dataclasses.replace(BATCH, reward=torch.sign(BATCH.reward), advantage=None)


def over_pairs(value: Callable[[Both], torch.Tensor], batch: ga.PreferenceBatch = PAIRS) -> Callable[[], torch.Tensor]:
    return lambda: mean([value(p) for p in pairs(batch)])


def test_nca() -> None:
    def value(p: Both) -> torch.Tensor:
        w, l = 0.3 * p.chosen.delta, 0.3 * p.rejected.delta
        return -logsigmoid(w) - 0.5 * logsigmoid(-w) - 0.5 * logsigmoid(-l)

    agree(ga.recipes.nca(0.3), over_pairs(value), PAIRS)


def test_nca_settles() -> None:
    """The chosen response comes to rest at βΔ = log 2, where BCO's never does."""
    (_, chosen), _ = ga.recipes.nca(0.5).terms
    drive = torch.tensor([chosen.sampling.strength])
    torch.testing.assert_close(0.5 * chosen.optimization.equilibrium(drive), torch.log(torch.tensor([2.0])))


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_bco(shift: float) -> None:
    def value(p: Both) -> torch.Tensor:
        return -logsigmoid(0.3 * p.chosen.delta - shift) - logsigmoid(-(0.3 * p.rejected.delta - shift))

    agree(ga.recipes.bco(0.3, shift), over_pairs(value, WHOLE), WHOLE)


def test_bco_of_unpaired_responses() -> None:
    agree(
        ga.recipes.bco(0.3, 0.1),
        lambda: 2 * mean([-logsigmoid(LABELLED.reward[i] * (0.3 * delta(i, "reference").sum() - 0.1)) for i in rows()]),
        LABELLED,
    )


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_sppo(beta: float) -> None:
    def value(p: Both) -> torch.Tensor:
        return (p.chosen.delta - 0.5 / beta) ** 2 + (p.rejected.delta + 0.5 / beta) ** 2

    agree(ga.recipes.sppo(beta), over_pairs(value, WHOLE), WHOLE)


def test_sppo_of_soft_win_rates() -> None:
    """Rewards 2P − 1 give (Δ − (P − 1/2)/β)², the paper's equation 4.7."""
    chance = torch.sigmoid(BATCH.reward)
    batch = dataclasses.replace(BATCH, reward=2 * chance - 1, advantage=None)
    agree(
        ga.recipes.sppo(0.7),
        lambda: 2 * mean([(delta(i, "reference").sum() - (chance[i] - 0.5) / 0.7) ** 2 for i in rows()]),
        batch,
    )


def test_apo_zero() -> None:
    agree(
        ga.recipes.apo_zero(0.3),
        over_pairs(lambda p: 1 - torch.sigmoid(0.3 * p.chosen.delta) + torch.sigmoid(0.3 * p.rejected.delta), WHOLE),
        WHOLE,
    )


def test_apo_down() -> None:
    def value(p: Both) -> torch.Tensor:
        apart = torch.sigmoid(0.3 * (p.chosen.delta - p.rejected.delta))
        return torch.sigmoid(0.3 * p.chosen.delta) + 1 - apart

    agree(ga.recipes.apo_down(0.3), over_pairs(value), PAIRS)


def test_sigmoid_losses_are_fenchel_young_losses_of_a_bounded_coordinate() -> None:
    """APO and KTO are decoupled; their published value is the gap, zero only at the end of the coordinate."""
    for objective, batch in ((ga.recipes.apo_zero(), WHOLE), (ga.recipes.kto(), LABELLED)):
        assert objective.decoupled
        outcome = objective(batch)
        (coefficient, _), *_ = objective.terms
        torch.testing.assert_close(outcome.loss, coefficient * (outcome.weights * outcome.gap).sum())
        assert (outcome.gap[outcome.support] > 0).all()


@pytest.mark.parametrize(("desirable", "undesirable", "z"), [(1.0, 1.0, 0.0), (1.3, 0.7, 0.5)])
def test_kto(desirable: float, undesirable: float, z: float) -> None:
    def literal() -> torch.Tensor:
        values = []
        for i in rows():
            r = 0.4 * (delta(i, "reference").sum() - z)
            if LABELLED.reward[i] > 0:
                values.append(desirable * (1 - torch.sigmoid(r)))
            else:
                values.append(undesirable * (1 - torch.sigmoid(-r)))
        return mean(values)

    agree(ga.recipes.kto(0.4, desirable, undesirable, z), literal, LABELLED)


def test_kto_of_pairs_without_a_reference_point_is_half_of_apo_zero() -> None:
    for mine, theirs in zip(ga.recipes.kto(0.2).gradient(WHOLE), ga.recipes.apo_zero(0.2).gradient(WHOLE), strict=True):
        torch.testing.assert_close(2 * mine, theirs)


def test_orpo() -> None:
    def value(p: Both) -> torch.Tensor:
        w, l = p.chosen.policy.mean(), p.rejected.policy.mean()
        odds = torch.log(w.exp() / (1 - w.exp())) - torch.log(l.exp() / (1 - l.exp()))
        return -w - 0.2 * logsigmoid(odds)

    agree(ga.recipes.orpo(0.2), over_pairs(value), PAIRS)


@pytest.mark.parametrize("normalize", ["sum", "mean"])
def test_cpo(normalize: str) -> None:
    def value(p: Both) -> torch.Tensor:
        likelihood = p.chosen.policy.sum() if normalize == "sum" else p.chosen.policy.mean()
        return -logsigmoid(0.3 * (p.chosen.policy.sum() - p.rejected.policy.sum())) - 0.5 * likelihood

    agree(ga.recipes.cpo(0.3, 0.5, normalize), over_pairs(value), PAIRS)


@pytest.mark.parametrize("alpha", [0.25, -0.5, 1.0])
def test_alpha_po(alpha: float) -> None:
    def value(p: Both) -> torch.Tensor:
        reward = [(1 - torch.exp(side.policy.mean()) ** -alpha) / alpha for side in (p.chosen, p.rejected)]
        return -logsigmoid(2.0 * (reward[0] - reward[1]) - 0.6)

    agree(ga.recipes.alpha_po(alpha, 2.0, 0.6), over_pairs(value), PAIRS)


def test_alpha_po_tends_to_simpo() -> None:
    torch.testing.assert_close(
        ga.recipes.alpha_po(1e-7, 2.0, 0.6)(PAIRS).loss, ga.recipes.simpo(2.0, 0.6)(PAIRS).loss, rtol=1e-6, atol=0
    )
