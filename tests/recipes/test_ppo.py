"""BNPO, SAPO, CFPO, LUSPO, GMPO and the dual clip: equal to their published formulas, written out."""

import pytest
import torch
from literal import BATCH, advantages, agree, delta, mean, nested_mean, rows, token_mean

import geomalign as ga


def clipped(t: torch.Tensor, a: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return torch.minimum(t * a, t.clamp(1 - low, 1 + high) * a)


def test_bnpo() -> None:
    a = advantages(std=True, epsilon=1e-4)
    agree(
        ga.recipes.bnpo(epsilon=0.1),
        lambda: token_mean({i: -clipped(torch.exp(delta(i)), a[i], 0.1, 0.1) for i in rows()}),
        BATCH,
    )


@pytest.mark.parametrize(("tau_positive", "tau_negative"), [(1.0, 1.05), (0.5, 4.0)])
def test_sapo(tau_positive: float, tau_negative: float) -> None:
    a = advantages(std=True)

    def literal() -> torch.Tensor:
        values = {}
        for i in rows():
            tau = tau_positive if a[i] > 0 else tau_negative
            values[i] = -4 / tau * torch.sigmoid(tau * (torch.exp(delta(i)) - 1)) * a[i]
        return nested_mean(values)

    agree(ga.recipes.sapo(tau_positive, tau_negative), literal, BATCH)


@pytest.mark.parametrize("epsilon", [0.1, 0.2])
def test_cfpo(epsilon: float) -> None:
    a = advantages(std=True)

    def literal() -> torch.Tensor:
        values = {}
        for i in rows():
            t = torch.exp(delta(i))
            values[i] = -(t * a[i] - a[i].abs() / (2 * epsilon) * (t - 1) ** 2)
        return nested_mean(values)

    agree(ga.recipes.cfpo(epsilon), literal, BATCH)


def test_cfpo_has_its_equilibrium_where_ppo_has_its_wall() -> None:
    geometry, drive = ga.recipes.cfpo(0.2).terms[0][1].optimization, torch.tensor([-3.0, 0.1, 7.0])
    torch.testing.assert_close(geometry.equilibrium(drive), 0.2 * torch.sign(drive))
    assert torch.equal(ga.Clip(0.2, 0.2).equilibrium(drive), 0.2 * torch.sign(drive))


def test_luspo() -> None:
    a = advantages(std=True)

    def literal() -> torch.Tensor:
        values = []
        for i in rows():
            s = torch.exp(delta(i).mean())
            values.append(-len(delta(i)) * clipped(s, a[i], 0.02, 0.03))
        return mean(values)

    agree(ga.recipes.luspo(0.02, 0.03), literal, BATCH)


@pytest.mark.parametrize(("epsilon", "epsilon_high"), [(0.4, None), (0.1, 0.2)])
def test_gmpo(epsilon: float, epsilon_high: float | None) -> None:
    a = advantages(std=True)
    high = epsilon if epsilon_high is None else epsilon_high

    def literal() -> torch.Tensor:
        values = []
        for i in rows():
            d = delta(i)
            bounded = torch.where(
                a[i] > 0, torch.minimum(d, d.clamp(max=high)), torch.maximum(d, d.clamp(min=-epsilon))
            )
            values.append(-a[i] * torch.exp(bounded.mean()))
        return mean(values)

    agree(ga.recipes.gmpo(epsilon, epsilon_high), literal, BATCH)


def test_ppo_with_dual_clip() -> None:
    def literal() -> torch.Tensor:
        values = {}
        for i in rows():
            t, a = torch.exp(delta(i)), BATCH.advantage[i]
            inner = clipped(t, a, 0.05, 0.05)
            values[i] = -torch.where(a < 0, torch.maximum(inner, 1.2 * a), inner)
        return token_mean(values)

    agree(ga.recipes.ppo(epsilon=0.05, dual_clip=1.2), literal, BATCH)
