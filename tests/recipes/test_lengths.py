"""ΔL normalisation and λ-GRPO: equal to their formulas, written out."""

import dataclasses

import pytest
import torch
from literal import BATCH, advantages, agree, delta, groups, rows, tokens

import geomalign as ga


def clipped(low: float, high: float) -> dict[int, torch.Tensor]:
    """Σ_t −min(tA, clip(t)A) of every response."""
    a, found = advantages(std=True), {}
    for i in rows():
        t = torch.exp(delta(i))
        found[i] = -torch.minimum(t * a[i], t.clamp(1 - low, 1 + high) * a[i]).sum()
    return found


@pytest.mark.parametrize(("alpha", "length"), [(1.0, 20), (0.75, 7)])
def test_delta_l(alpha: float, length: int) -> None:
    def literal() -> torch.Tensor:
        power = {i: len(tokens(i)) ** -alpha for i in rows()}
        return sum(power[i] / sum(power.values()) * x for i, x in clipped(0.2, 0.3).items()) / length  # type: ignore

    objective = ga.recipes.delta_l(alpha, length)
    agree(objective, literal, BATCH)


@pytest.mark.parametrize("power", [1.0, -4.0])
def test_lambda_grpo(power: float) -> None:
    def literal() -> torch.Tensor:
        losses, total = clipped(0.2, 0.2), torch.zeros((), dtype=torch.float64)
        for group in groups():
            length = torch.tensor([len(tokens(i)) for i in group], dtype=torch.float64)
            deviation = length.std(correction=0)
            z = (length - length.mean()) / (deviation if deviation > 0 else 1)
            f = len(group) * torch.softmax((1 + z / 9) ** power, 0)
            total = total + sum(f[k] * losses[i] for k, i in enumerate(group))
        return total / sum(len(tokens(i)) for i in rows())

    objective = ga.recipes.lambda_grpo(power)
    agree(objective, literal, BATCH)


def test_without_a_preference_it_is_the_token_mean_and_without_a_power_the_fixed_budget() -> None:
    preference, power = ga.recipes.lambda_grpo(0.0), ga.recipes.delta_l(0.0, 7, 0.2, 0.28)
    torch.testing.assert_close(preference.gradient(BATCH), ga.recipes.dapo(0.2, 0.2).gradient(BATCH))
    fixed = dataclasses.replace(ga.recipes.dapo(0.2, 0.28), measure=ga.FixedBudget(7))
    torch.testing.assert_close(power.gradient(BATCH), fixed.gradient(BATCH))
