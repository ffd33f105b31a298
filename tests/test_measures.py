"""Measures that compare responses: prompts, lengths and preferences, written out with plain loops."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from test_slot_values import close
from torch import Tensor

import geomalign as ga
from geomalign import laws

BATCH = laws.sample_batch(rows=16, tokens=7, seed=11)
MASK = BATCH.support
LENGTH = [int(n) for n in MASK.sum(-1)]
GROUP = [int(g) for g in BATCH.group]  # type: ignore[union-attr]
ROWS = [i for i in range(16) if LENGTH[i]]


def weights(measure: ga.Measure, batch: ga.Batch = BATCH, unit: ga.Unit | None = None) -> Tensor:
    """The weights that an objective with this measure has, after `closed_form` and the plain formula agree on them."""
    unit = ga.Token() if unit is None else unit
    objective = ga.Objective(
        unit=unit, chart=ga.Ratio(), sampling=ga.GroupAdvantage(), optimization=ga.ChiSquare(), measure=measure
    )
    torch.testing.assert_close(objective(batch).loss, objective.plain(batch).loss)
    return objective(batch).weights


def per_token(weight: dict[int, float]) -> Tensor:
    """`(row, token)` from a weight for each token of a row."""
    found = torch.zeros(MASK.shape, dtype=torch.float64)
    for i, w in weight.items():
        found[i, MASK[i]] = w
    return found


def members(i: int) -> list[int]:
    return [j for j in ROWS if GROUP[j] == GROUP[i]]


def test_the_prompt_mean_is_a_token_mean_per_prompt_and_a_mean_over_prompts() -> None:
    prompts = len({GROUP[i] for i in ROWS})
    literal = {i: 1 / (prompts * sum(LENGTH[j] for j in members(i))) for i in ROWS}
    torch.testing.assert_close(weights(ga.PromptMean()), per_token(literal))
    responses = torch.zeros(16, dtype=torch.float64)
    for i in ROWS:
        responses[i] = 1 / (prompts * len(members(i)))
    torch.testing.assert_close(weights(ga.PromptMean(), unit=ga.MeanSequence()), responses)


def test_the_prompt_mean_of_skyrls_test() -> None:
    """Four sequences of two prompts with losses 1 to 8, of which one is masked: (2 + 6.5)/2 = 4.25."""
    mask = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    batch = ga.Batch(torch.zeros(4, 2), None, mask, group=2)
    counts = batch.counts()
    found = ga.PromptMean().among(batch, counts).weights(mask, counts.tokens.float(), counts.sequences.float())
    loss = (found * torch.arange(1.0, 9.0).view(4, 2)).sum()
    assert loss.item() == pytest.approx(4.25)


def test_a_prompt_without_tokens_is_not_counted() -> None:
    """Its rows are absent, wherever they stand."""
    empty = dataclasses.replace(BATCH[:3], mask=torch.zeros(3, 7, dtype=torch.bool), group=torch.tensor([77, 77, 78]))
    fields = [f.name for f in dataclasses.fields(ga.Batch) if getattr(BATCH, f.name) is not None]
    both = ga.Batch(**{f: torch.cat([getattr(empty, f), getattr(BATCH, f)]) for f in fields})
    for measure in (ga.PromptMean(), ga.measure.LengthPower(0.5, 7), ga.measure.LengthPreference(-3.0)):
        torch.testing.assert_close(weights(measure, both)[3:], weights(measure))


@pytest.mark.parametrize("alpha", [0.75, 1.0, -0.5])
def test_length_power(alpha: float) -> None:
    total = sum(LENGTH[i] ** -alpha for i in ROWS)
    found = weights(ga.measure.LengthPower(alpha, 7))
    torch.testing.assert_close(found, per_token({i: LENGTH[i] ** -alpha / total / 7 for i in ROWS}))


def test_length_power_lies_between_a_fixed_budget_and_the_nested_mean() -> None:
    torch.testing.assert_close(weights(ga.measure.LengthPower(0.0, 7)), weights(ga.FixedBudget(7)))
    harmonic = len(ROWS) / sum(1 / LENGTH[i] for i in ROWS)
    torch.testing.assert_close(weights(ga.measure.LengthPower(1.0, 7)), harmonic / 7 * weights(ga.NestedMean()))


def test_length_power_one_has_the_smallest_variance_where_that_of_a_sum_is_its_length() -> None:
    """Of all weights x that sum to one, and of the powers among them: Var = Σ x² |y|."""

    def variance(alpha: float) -> float:
        x = torch.stack([weights(ga.measure.LengthPower(alpha, 1))[i].max() for i in ROWS])
        assert float(x.sum()) == pytest.approx(1)
        return float((x**2 * torch.tensor([LENGTH[i] for i in ROWS])).sum())

    assert variance(1.0) == pytest.approx(1 / sum(1 / LENGTH[i] for i in ROWS))
    assert all(variance(1.0) < variance(alpha) for alpha in (0.0, 0.75, 1.25))


def literal_preference(power: float | Tensor, spread: float) -> dict[int, Tensor]:
    """f of every response: G softmax(h^λ)."""
    found = {}
    for i in ROWS:
        lengths = torch.tensor([LENGTH[j] for j in members(i)], dtype=torch.float64)
        deviation = lengths.std(correction=0)
        z = (lengths - lengths.mean()) / deviation if deviation > 0 else torch.zeros_like(lengths)
        found[i] = len(lengths) * torch.softmax((1 + spread * z) ** power, 0)[members(i).index(i)]
    return found


@pytest.mark.parametrize(("power", "spread"), [(-2.0, 1 / 9), (3.0, 0.3), (1.0, 1 / 9)])
def test_length_preference(power: float, spread: float) -> None:
    found = weights(ga.measure.LengthPreference(power, spread))
    expected = {i: float(f) / sum(LENGTH) for i, f in literal_preference(power, spread).items()}
    torch.testing.assert_close(found, per_token(expected))


@pytest.mark.parametrize("preference", [2.0, -0.05])
def test_a_length_far_below_the_mean_counts_a_millionth(preference: float) -> None:
    """Lengths 1 and 3 stand one deviation from their mean: h = 1 ± 2, and what is negative becomes 1e-6."""
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]]).bool()
    rows = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), mask, group=torch.zeros(2, dtype=torch.long))
    h = [1e-6**preference, 3.0**preference]
    share = 1 / (1 + math.exp(h[1] - h[0]))
    of = ga.measure.LengthPreference(preference, spread=2.0).among(rows, rows.counts())
    found = of.weights(mask, torch.tensor(4.0), torch.tensor(2.0))
    close(found[:, 0], [2 * share / 4, 2 * (1 - share) / 4])


def test_no_preference_is_the_pooled_mean() -> None:
    torch.testing.assert_close(weights(ga.measure.LengthPreference(0.0)), weights(ga.PooledMean()))


def test_the_preference_is_learnt_through_the_plain_formula() -> None:
    """The gradient in λ is that of the formula written out; the one in the policy is untouched by it."""
    power = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    learnt, fixed = ga.recipes.lambda_grpo(power), ga.recipes.lambda_grpo(-2.0)
    found = torch.autograd.grad(learnt.plain(BATCH).loss, power)[0]
    surrogate = fixed(BATCH).terms[0]
    losses = surrogate.potential - surrogate.drive * surrogate.u
    offset = ga.Surrogate()(surrogate.optimization, surrogate.drive)
    totals = torch.where(MASK, losses + offset, 0).sum(-1).detach()
    value = sum(f * totals[i] for i, f in literal_preference(power, 1 / 9).items()) / sum(LENGTH)
    expected = torch.autograd.grad(value, power)[0]  # type: ignore[arg-type]
    assert abs(float(expected)) > 1e-5
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(learnt.gradient(BATCH), fixed.gradient(BATCH))


def test_extreme_powers_of_the_length_are_finite() -> None:
    mask = torch.arange(4000) < torch.tensor([1, 10, 4000])[:, None]
    batch = ga.Batch(torch.zeros(3, 4000), None, mask)
    counts = batch.counts()
    for measure in (ga.measure.LengthPower(8.0, 4000), ga.measure.LengthPreference(-30.0)):
        found = measure.among(batch, counts).weights(mask, counts.tokens.float(), counts.sequences.float())
        assert torch.isfinite(found).all() and (found >= 0).all() and float(found.max()) > 0


@pytest.mark.parametrize("measure", [ga.PromptMean(), ga.measure.LengthPower(1.0, 7)], ids=str)
def test_counts_without_lengths_are_refused(measure: ga.Measure) -> None:
    objective = dataclasses.replace(ga.recipes.grpo(), measure=measure)
    for counts in (BATCH.counts() + BATCH.counts(), ga.Counts(*BATCH.counts().astuple())):
        with pytest.raises(ValueError, match=r"lengths of the whole batch, which these counts lack.*whole_batch"):
            objective(BATCH, counts=counts)
    with pytest.raises(ValueError, match="counts of pairs"):  # whose parts number their prompts anew
        objective(laws.sample_pairs(), drive=torch.ones(6, 2))
    alone = objective(BATCH, counts=sum([BATCH.counts()]))  # type: ignore[arg-type]
    torch.testing.assert_close(alone.loss, objective(BATCH).loss)


def test_prompts_are_known_of_both_or_of_neither() -> None:
    objective = dataclasses.replace(ga.recipes.ppo(), measure=ga.PromptMean())
    one = dataclasses.replace(BATCH, group=None)
    with pytest.raises(ValueError, match="known of these rows alone"):
        objective(BATCH, counts=one.counts())
    with pytest.raises(ValueError, match="known of the whole batch alone"):
        objective(one, counts=BATCH.counts())
    torch.testing.assert_close(objective(one).weights, weights(ga.PooledMean()))


def test_what_has_no_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="weighs a response by its length, and a pair has two"):
        dataclasses.replace(ga.recipes.dpo(), measure=ga.PromptMean())
    with pytest.raises(ValueError, match="exported function has no argument that holds these"):
        ga.ops.export(ga.recipes.delta_l())
    with pytest.raises(ValueError, match="a number or a 0-dim floating-point tensor"):
        ga.measure.LengthPreference(torch.zeros(2))
    with pytest.raises(ValueError, match="length"):
        ga.measure.LengthPower(1.0, 0.0)
    with pytest.raises(ValueError, match="alpha"):
        ga.measure.LengthPower(math.inf, 1.0)


@pytest.mark.parametrize("name", ["delta_l", "lambda_grpo"])
def test_hosts_that_pass_no_lengths_refuse_them(name: str) -> None:
    from geomalign.adapters import hosted
    from geomalign.adapters.trl.arguments import resolved
    from geomalign.adapters.verl.losses import why_not

    objective = ga.recipes.get(name)
    for refusal in (lambda: resolved(objective, paired=False), lambda: hosted.note(objective, "slime")):
        with pytest.raises(ValueError, match="weighs a response by the lengths of others"):
            refusal()
    assert why_not(objective)


def test_fused_heads_evaluate_it_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its gradient at a token needs other rows' lengths, so that no tile of six tokens is a part."""
    monkeypatch.setattr("geomalign.ops.head.kept_rows", lambda *_: 6)
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in ((16, 7, 4), (9, 4))
    )
    targets = torch.randint(9, (16, 7), generator=generator)
    log_probs = (hidden @ weight.T).log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    batch = dataclasses.replace(BATCH, policy=log_probs, old=log_probs.detach() - 0.1)
    objective = dataclasses.replace(ga.recipes.grpo(), measure=ga.PromptMean())
    fused, plain = ga.ops.fused_objective(objective, hidden, weight, targets, batch).loss, objective.plain(batch).loss
    torch.testing.assert_close(fused, plain)
    gradients = (torch.autograd.grad(loss, (hidden, weight)) for loss in (fused, plain))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs)
