"""Squares and distances between an implicit and an explicit reward: equal to their published formulas, written out."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from literal import BATCH, PAIRS, Both, agree, delta, groups, mean, pairs, rows

import geomalign as ga


def over_pairs(value: Callable[[Both], torch.Tensor]) -> Callable[[], torch.Tensor]:
    return lambda: mean([value(p) for p in pairs()])


def test_dro() -> None:
    agree(
        ga.recipes.dro(0.7),
        lambda: mean([0.5 * (BATCH.advantage[i] - 0.7 * delta(i, "reference").sum()) ** 2 for i in rows()]),
        BATCH,
    )


def test_dro_is_mirror_descent_towards_the_reference() -> None:
    """τ times OPO's log form with stiffness τ: the square completed."""
    batch = dataclasses.replace(BATCH, old=BATCH.reference)
    plain = ga.Objective(
        unit=ga.Sequence(), chart=ga.LogRatio(), sampling=ga.Advantage(), optimization=ga.ChiSquare(0.7)
    )
    torch.testing.assert_close(ga.recipes.dro(0.7).gradient(batch), 0.7 * plain.gradient(batch))


def test_a2po_given_the_optimal_value() -> None:
    agree(
        ga.recipes.a2po(0.3),
        lambda: mean([(0.3 * delta(i, "reference").sum() - BATCH.advantage[i]) ** 2 for i in rows()]),
        BATCH,
    )


def test_a2po_with_the_value_from_the_group() -> None:
    def literal() -> torch.Tensor:
        values = []
        for members in groups():
            v = 0.5 * torch.log(torch.exp(BATCH.reward[members] / 0.5).mean())
            values += [(0.3 * delta(i, "reference").sum() - (BATCH.reward[i] - v)) ** 2 for i in members]
        return mean(values)

    agree(ga.recipes.a2po(0.3, beta1=0.5), literal, BATCH)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_rebel(eta: float) -> None:
    agree(
        ga.recipes.rebel(eta),
        over_pairs(lambda p: ((p.chosen.delta - p.rejected.delta) / eta - p.margin) ** 2),
        PAIRS,
    )


def bernoulli_kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))


DISTANCES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "squared": lambda implicit, explicit: (implicit - explicit) ** 2,
    "backward_kl": lambda implicit, explicit: bernoulli_kl(torch.sigmoid(explicit), torch.sigmoid(implicit)),
    "forward_kl": lambda implicit, explicit: bernoulli_kl(torch.sigmoid(implicit), torch.sigmoid(explicit)),
}


@pytest.mark.parametrize("distance", DISTANCES)
def test_rpo(distance: str) -> None:
    agree(
        ga.recipes.rpo(0.3, 1.4, distance),
        over_pairs(lambda p: DISTANCES[distance](0.3 * (p.chosen.delta - p.rejected.delta), 1.4 * p.margin)),
        PAIRS,
    )


def test_rpo_rests_where_the_margins_agree() -> None:
    """All three distances are Fenchel–Young losses that vanish at βu = ηδ."""
    margin = torch.tensor([0.7, -1.2])
    u = margin.reshape(2, 1) * 1.4 / 0.3
    zero = torch.zeros(2, 1)
    for distance in DISTANCES:
        loss = ga.recipes.rpo(0.3, 1.4, distance)(ga.PreferenceBatch(u, zero, zero, zero, margin=margin)).loss
        assert loss.abs() < 1e-14
    with pytest.raises(ValueError, match="backward_kl"):
        ga.recipes.rpo(distance="cubic")


def test_exo_is_rpo_with_a_constant_margin() -> None:
    import math

    exo, margin = ga.recipes.exo(0.3, 0.01), torch.full((PAIRS.size,), math.log(0.99 / 0.01))
    rpo = ga.recipes.rpo(0.3, 1.0, "forward_kl")
    torch.testing.assert_close(exo(PAIRS).loss, rpo(dataclasses.replace(PAIRS, margin=margin)).loss)


def test_a_missing_margin_is_named() -> None:
    with pytest.raises(ValueError, match="difference of the two responses' rewards"):
        ga.recipes.rebel()(dataclasses.replace(PAIRS, margin=None))
