"""Each core recipe equals its published formula, written out literally, in value and gradient."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

import geomalign as ga
from geomalign.laws import sample_batch, sample_pairs

BATCH, PAIRS = sample_batch(rows=16, tokens=7, seed=11), sample_pairs(pairs=8, seed=12)
Literal = Callable[[], Tensor]


def group_table() -> list[list[int]]:
    """Rows of each group that have tokens, by a plain loop."""
    kept = BATCH.support.any(-1)
    groups: dict[int, list[int]] = {}
    for row, key in enumerate(BATCH.group.tolist()):
        if kept[row]:
            groups.setdefault(key, []).append(row)
    return list(groups.values())


def rows() -> list[int]:
    return [i for i in range(BATCH.size) if BATCH.support[i].any()]


def tokens(i: int) -> list[int]:
    return BATCH.support[i].nonzero().flatten().tolist()


def advantage(*, std: bool = False, epsilon: float = 1e-6) -> dict[int, Tensor]:
    result = {}
    for members in group_table():
        reward = BATCH.reward[members]
        for i in members:
            centred = BATCH.reward[i] - reward.mean()
            if len(members) == 1:
                result[i] = torch.zeros(())
            else:
                result[i] = centred / (reward.std() + epsilon) if std else centred
    return result


def log_ratio(i: int, against: Tensor | None = None) -> Tensor:
    anchor = BATCH.old if against is None else against
    return torch.stack([BATCH.policy[i, t] - anchor[i, t] for t in tokens(i)])


def clipped(t: Tensor, a: Tensor, low: float, high: float) -> Tensor:
    return -torch.minimum(t * a, t.clamp(1 - low, 1 + high) * a)


def k3(i: int) -> Tensor:
    difference = -log_ratio(i, BATCH.reference)
    return torch.exp(difference) - difference - 1


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def log_prob(i: int) -> Tensor:
    return torch.stack([BATCH.policy[i, t] for t in tokens(i)]).sum()


def literal_rloo() -> Tensor:
    losses = []
    for members in group_table():
        for i in members:
            others = [BATCH.reward[j] for j in members if j != i]
            a = BATCH.reward[i] - torch.stack(others).mean() if others else torch.zeros(())
            losses.append(-a * log_prob(i))
    return mean(losses)


def literal_ppo(*, dual: float | None = None) -> Tensor:
    losses = []
    for i in rows():
        for x in log_ratio(i):
            loss = clipped(torch.exp(x), BATCH.advantage[i], 0.2, 0.2)
            if dual is not None and BATCH.advantage[i] < 0:
                loss = torch.minimum(loss, -dual * BATCH.advantage[i])
            losses.append(loss)
    return mean(losses)


def literal_ppo_kl(beta: float, *, clip: bool) -> Tensor:
    losses = []
    for i in rows():
        for x in log_ratio(i):
            t, a = torch.exp(x), BATCH.advantage[i]
            surrogate = clipped(t, a, 0.2, 0.2) if clip else -t * a
            losses.append(surrogate + beta * (t * torch.log(t) - t + 1))
    return mean(losses)


def literal_grpo(beta: float = 0.0) -> Tensor:
    a = advantage(std=True)
    terms = [clipped(torch.exp(log_ratio(i)), a[i], 0.2, 0.2) + beta * k3(i) for i in rows()]
    return mean([term.mean() for term in terms])


def literal_grpo_batch() -> Tensor:
    a = advantage()
    std = torch.stack(list(a.values())).std() + 1e-6
    return mean([clipped(torch.exp(log_ratio(i)), a[i] / std, 0.2, 0.2).mean() for i in rows()])


def literal_dr_grpo() -> Tensor:
    a = advantage()
    return mean([clipped(torch.exp(log_ratio(i)), a[i], 0.2, 0.2).sum() / 256 for i in rows()])


def literal_dapo() -> Tensor:
    a = advantage(std=True)
    return torch.cat([clipped(torch.exp(log_ratio(i)), a[i], 0.2, 0.28) for i in rows()]).mean()


def literal_gspo() -> Tensor:
    a = advantage(std=True)
    return mean([clipped(torch.exp(log_ratio(i).mean()), a[i], 3e-4, 4e-4) for i in rows()])


def escort(alpha: float) -> dict[int, Tensor]:
    result = {}
    for members in group_table():
        weight = torch.exp((1 - alpha) * BATCH.advantage[members])
        for i, w in zip(members, weight / weight.mean(), strict=True):
            result[i] = w
    return result


def literal_opo(form: str, normalize: str) -> Tensor:
    losses, weight = [], escort(0.4)
    for i in rows():
        delta = log_ratio(i).mean() if normalize == "mean" else log_ratio(i).sum()
        u = delta if form == "log" else torch.exp(delta) - 1
        losses.append(0.5 * u**2 - (weight[i] - 1) * u)
    return mean(losses)


def bisected(a: list[Tensor], mu: float) -> Tensor:
    """GOPO's own way: λ by bisection."""
    g = torch.stack(a)
    low, high = g.min() - mu * len(a) - 10, g.max() + 10
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if ((g - middle) / mu).clamp(min=-1).sum() > 0 else (low, middle)
    return ((g - low) / mu).clamp(min=-1)


def literal_gopo(*, bounded: bool) -> Tensor:
    a, losses = advantage(), {}
    for members in group_table():
        target = bisected([a[i] for i in members], 0.5) if bounded else torch.stack([a[i] for i in members]) / 0.5
        for i, v_star in zip(members, target, strict=True):
            v = torch.exp(log_ratio(i).sum()) - 1
            losses[i] = 0.25 * v**2 - 0.5 * v_star * v
    return mean(list(losses.values()))


def literal_mirror_descent() -> Tensor:
    a = advantage()
    return mean([0.5 * log_ratio(i).sum() ** 2 - a[i] * log_ratio(i).sum() for i in rows()])


def margins(
    *, normalize: bool = False, reference: bool = True, chart: Callable[[Tensor], Tensor] = lambda x: x
) -> list[Tensor]:
    result = []
    for p in range(PAIRS.size):
        sides = []
        for policy, ref, mask in (
            (PAIRS.chosen, PAIRS.reference_chosen, PAIRS.chosen_mask),
            (PAIRS.rejected, PAIRS.reference_rejected, PAIRS.rejected_mask),
        ):
            kept = mask[p].nonzero().flatten().tolist()
            ratios = [policy[p, t] - (ref[p, t] if reference else 0.0) for t in kept]
            if ratios:
                total = torch.stack(ratios).sum()
                sides.append(chart(total / len(kept) if normalize else total))
        if len(sides) == 2:
            result.append(sides[0] - sides[1])
    return result


def literal_dpo(epsilon: float = 0.0) -> Tensor:
    return mean([-(1 - epsilon) * logsigmoid(0.1 * m) - epsilon * logsigmoid(-0.1 * m) for m in margins()])


LITERALS: dict[str, tuple[ga.BaseObjective, Literal]] = {
    "reinforce": (ga.recipes.reinforce(), lambda: mean([-BATCH.advantage[i] * log_prob(i) for i in rows()])),
    "rloo": (ga.recipes.rloo(), literal_rloo),
    "ppo": (ga.recipes.ppo(), literal_ppo),
    "ppo dual": (ga.recipes.ppo(dual_clip=3.0), lambda: literal_ppo(dual=3.0)),
    "ppo clip and kl": (ga.recipes.ppo(beta=0.1), lambda: literal_ppo_kl(0.1, clip=True)),
    "ppo kl": (ga.recipes.ppo(epsilon=None, beta=0.1), lambda: literal_ppo_kl(0.1, clip=False)),
    "grpo": (ga.recipes.grpo(), literal_grpo),
    "grpo beta": (ga.recipes.grpo(beta=0.04), lambda: literal_grpo(0.04)),
    "grpo batch": (ga.recipes.grpo(scale_rewards="batch"), literal_grpo_batch),
    "dr_grpo": (ga.recipes.dr_grpo(), literal_dr_grpo),
    "dapo": (ga.recipes.dapo(), literal_dapo),
    "gspo": (ga.recipes.gspo(), literal_gspo),
    "opo": (ga.recipes.opo(), lambda: literal_opo("log", "mean")),
    "opo sum": (ga.recipes.opo(normalize="sum"), lambda: literal_opo("log", "sum")),
    "opo ratio": (ga.recipes.opo(form="ratio"), lambda: literal_opo("ratio", "sum")),
    "gopo": (ga.recipes.gopo(), lambda: literal_gopo(bounded=True)),
    "gopo free": (ga.recipes.gopo(bounded=False), lambda: literal_gopo(bounded=False)),
    "mirror_descent": (ga.recipes.mirror_descent(), literal_mirror_descent),
    "dpo": (ga.recipes.dpo(), literal_dpo),
    "dpo smooth": (ga.recipes.dpo(label_smoothing=0.2), lambda: literal_dpo(0.2)),
    "ipo": (ga.recipes.ipo(), lambda: mean([(m - 1 / 0.2) ** 2 for m in margins(normalize=True)])),
    "ipo sum": (ga.recipes.ipo(normalize="sum"), lambda: mean([(m - 1 / 0.2) ** 2 for m in margins()])),
    "slic": (ga.recipes.slic(), lambda: mean([relu(1 - m) for m in margins()])),
    "simpo": (
        ga.recipes.simpo(),
        lambda: mean([-logsigmoid(2.0 * m - 1.0) for m in margins(normalize=True, reference=False)]),
    ),
    "chi_po": (
        ga.recipes.chi_po(),
        lambda: mean([-logsigmoid(0.1 * m) for m in margins(chart=lambda x: torch.exp(x) + x)]),
    ),
}


@pytest.mark.parametrize("name", LITERALS)
def test_a_recipe_equals_its_published_formula(name: str) -> None:
    objective, literal = LITERALS[name]
    paired = objective.paired
    batch = PAIRS if paired else BATCH
    inputs = [PAIRS.chosen, PAIRS.rejected] if paired else [BATCH.policy]
    mine, published = objective(batch).loss, literal()
    torch.testing.assert_close(mine, published, rtol=1e-10, atol=1e-10)
    for a, b in zip(torch.autograd.grad(mine, inputs), torch.autograd.grad(published, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


CORE = {"reinforce", "rloo", "ppo", "grpo", "dr_grpo", "dapo", "gspo", "opo", "gopo", "mirror_descent"}
CORE |= {"dpo", "ipo", "slic", "simpo", "chi_po"}


def test_every_core_recipe_has_its_formula_here() -> None:
    assert set(LITERALS) & set(ga.recipes.names()) >= CORE


def test_mirror_descent_is_opo_with_the_advantage_as_drive() -> None:
    batch = ga.Batch(BATCH.policy, BATCH.old, BATCH.mask, reward=BATCH.reward, group=BATCH.group)
    opo, descent = ga.recipes.opo(alpha=1.0, mu=0.7, scaled=True, normalize="sum"), ga.recipes.mirror_descent(tau=0.7)
    torch.testing.assert_close(opo(batch).loss, descent(batch).loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(opo.gradient(batch), descent.gradient(batch), rtol=1e-12, atol=1e-14)


def test_the_example_of_the_design_is_the_recipe() -> None:
    spelled = ga.Objective(
        unit=ga.MeanSequence(),
        chart=ga.LogRatio(),
        sampling=ga.Escort(alpha=0.4),
        optimization=ga.ChiSquare(mu=1.0),
        measure=ga.PooledMean(),
    )
    assert spelled == ga.recipes.opo(alpha=0.4, mu=1.0)


def test_a_drive_given_as_a_tensor_replaces_the_samples_and_leaves_the_kl_penalty_alone() -> None:
    """What trainers hold is an advantage: it drives the surrogate, not the term that only pulls back."""
    objective = ga.recipes.grpo(beta=0.04)
    a = advantage(std=True)
    drive = torch.stack([a.get(i, torch.zeros(())) for i in range(BATCH.size)])
    torch.testing.assert_close(objective(BATCH, drive=drive).loss, literal_grpo(0.04), rtol=1e-10, atol=1e-12)


def test_sums_and_multiples_are_those_of_the_losses() -> None:
    a, b = ga.recipes.grpo(), ga.recipes.opo()
    combined = 2.0 * a + 0.5 * (b + a)
    expected = 2.5 * a(BATCH).loss + 0.5 * b(BATCH).loss
    torch.testing.assert_close(combined(BATCH).loss, expected)
    torch.testing.assert_close(combined.gradient(BATCH), 2.5 * a.gradient(BATCH) + 0.5 * b.gradient(BATCH))
    assert combined.locality is ga.Locality.SEQUENCE and not combined.decoupled
    assert sum([a, b])(BATCH).loss == (a + b)(BATCH).loss


@pytest.mark.filterwarnings("ignore::geomalign.UnboundedLossWarning")
@pytest.mark.parametrize("name", ga.recipes.names())
def test_latex_prints_no_number_as_a_program_does(name: str) -> None:
    # 1e-06 reads as e − 6 in a formula.
    assert not re.search(r"\de[-+]\d|\binf\b|\)\+-\d|nan", ga.recipes.get(name).latex())


@pytest.mark.filterwarnings("ignore::geomalign.UnboundedLossWarning")
@pytest.mark.parametrize("name", ga.recipes.names())
def test_latex_is_balanced_and_names_the_loss(name: str) -> None:
    text = ga.recipes.get(name).latex()
    assert text.startswith(r"\mathcal{L}") and text.count("{") == text.count("}")
    assert text.count(r"\left") == text.count(r"\right")
