"""The comparison itself: what it sees, what it does not, and how small it makes a case."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign.laws.batches import FAMILIES, GROUP_FAMILIES, PAIR_FAMILIES, pairs, rollouts
from geomalign.laws.comparison import Verdict, compare, minimal
from geomalign.laws.conformance import as_loss, compare_loss, with_advantage
from tests.parity.case import Case, run
from tests.parity.implementations import ReferenceImplementation


def clipped(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, epsilon: float = 0.2) -> Tensor:
    ratio = torch.exp(logps - old_logps)
    advantages = advantages[:, None]
    each = -torch.minimum(ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages)
    return torch.where(mask, each, 0).sum() / mask.sum()


def quadratic(batch: ga.Batch) -> Tensor:
    assert batch.old is not None
    return torch.where(batch.support, (batch.policy - batch.old) ** 2, 0).sum()


CHANGES = {
    "nothing": (lambda loss: loss, Verdict.EQUAL),
    "a constant": (lambda loss: lambda b: loss(b) + 1.5, Verdict.CONSTANT),
    "half": (lambda loss: lambda b: loss(b) / 2, Verdict.PROPORTIONAL),
    "one token": (lambda loss: lambda b: loss(b) + 1e-3 * b.policy[0, 0], Verdict.DIFFERENT),
    "no graph": (lambda loss: lambda b: loss(b).detach(), Verdict.DIFFERENT),
    "a padded token": (lambda loss: lambda b: loss(b) + 1e-3 * (b.policy * ~b.support).sum(), Verdict.DIFFERENT),
    "by the batch": (lambda loss: lambda b: loss(b) * b.policy.detach().abs().sum(), Verdict.DIFFERENT),
    "an error": (lambda loss: lambda b: 1 // 0, Verdict.REFUSED),
    "not a number": (lambda loss: lambda b: loss(b) * float("nan"), Verdict.DIFFERENT),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_kind_of_difference_has_its_verdict(change: str) -> None:
    alter, expected = CHANGES[change]
    found = compare(quadratic, alter(quadratic), FAMILIES["ragged"](torch.float64))  # type: ignore[arg-type]
    assert found.verdict is expected
    assert found.equal == (expected in (Verdict.EQUAL, Verdict.CONSTANT))
    if change == "half":
        assert found.factor == pytest.approx(0.5)
    if change == "one token":
        assert found.where == ("policy", "0", "0")


def test_a_difference_below_the_tolerance_is_none() -> None:
    def nearly(batch: Any) -> Tensor:
        return quadratic(batch) * (1 + 1e-8)

    batch = rollouts()
    assert compare(quadratic, nearly, batch, tolerance=1e-6).verdict is Verdict.EQUAL
    assert compare(quadratic, nearly, batch, tolerance=1e-9).verdict is Verdict.PROPORTIONAL


def test_the_minimal_case_is_one_token_where_one_token_is_to_blame() -> None:
    """A loss that is wrong for ratios above two and advantages below zero alone."""

    def wrong(batch: Any) -> Tensor:
        ratio = torch.exp(batch.policy - batch.old)
        bad = batch.support & (ratio > 2) & (batch.advantage[:, None] < 0)
        return as_loss(ga.recipes.bnpo())(batch) + torch.where(bad, ratio, 0).sum()

    ours = as_loss(ga.recipes.bnpo())
    batch = with_advantage(ga.recipes.bnpo(), rollouts(0, spread=1.5))
    small = minimal(lambda b: not compare(ours, wrong, b).equal, batch)
    assert isinstance(small, ga.Batch) and small.size == 1 and small.advantage is not None and small.old is not None
    assert small.advantage.item() < 0 and (torch.exp(small.policy - small.old) > 2).any()
    assert small.group is None and small.reference is None
    assert not compare(ours, wrong, small).equal


def test_there_is_no_minimal_case_of_two_equal_losses() -> None:
    with pytest.raises(ValueError, match="agree"):
        minimal(lambda b: not compare(quadratic, quadratic, b).equal, rollouts())


def test_the_batches_are_what_they_are_said_to_be() -> None:
    batch = rollouts()
    assert batch.size == 12 and batch.group is not None and sorted(torch.bincount(batch.group).tolist()) == [3, 4, 5]
    lengths = batch.support.sum(-1)
    assert lengths.min() >= 1 and lengths.max() == 7 and len(lengths.unique()) > 3
    (holes,) = FAMILIES["holes"](torch.float64)
    assert (~holes.support[:, 1] & holes.support[:, 2]).any()
    (empty,) = FAMILIES["empty"](torch.float64)
    assert (empty.support.sum(-1) == 0).sum() == 1
    (far,) = FAMILIES["far"](torch.float32)
    assert far.policy.dtype == torch.float32 and far.old is not None
    assert (far.policy - far.old).abs().max() == 25
    (alone,) = GROUP_FAMILIES["alone"](torch.float64)
    assert (torch.bincount(alone.group) == 1).sum() == 1  # type: ignore[arg-type]
    (lost,) = PAIR_FAMILIES["empty"](torch.float64)
    assert (lost.rejected_mask.sum(-1) == 0).sum() == 1  # type: ignore[union-attr]
    assert pairs(3).chosen_mask.sum(-1).unique().numel() > 1  # type: ignore[union-attr]


# ---- a user's own loss


def test_a_loss_of_ones_own_under_the_names_of_trainers() -> None:
    found = compare_loss(clipped, "bnpo")
    assert found.equal and set(found) == set(FAMILIES) and found.example == ""


def test_a_wrong_loss_is_shown_where_it_is_wrong() -> None:
    found = compare_loss(clipped, "bnpo", epsilon=0.3)
    assert not found.equal and found["ragged"].verdict is Verdict.DIFFERENT
    assert "policy" in found.example and "against bnpo(epsilon=0.3)" in str(found)


def test_a_loss_of_pairs() -> None:
    def mine(
        policy_chosen_logps: Tensor,
        policy_rejected_logps: Tensor,
        reference_chosen_logps: Tensor,
        reference_rejected_logps: Tensor,
        chosen_mask: Tensor,
        rejected_mask: Tensor,
        beta: float = 0.1,
    ) -> Tensor:
        chosen = torch.where(chosen_mask, policy_chosen_logps - reference_chosen_logps, 0).sum(-1)
        rejected = torch.where(rejected_mask, policy_rejected_logps - reference_rejected_logps, 0).sum(-1)
        return -torch.nn.functional.logsigmoid(beta * (chosen - rejected)).mean()

    found = compare_loss(mine, "dpo")
    assert found["ragged"].verdict is Verdict.EQUAL and found["empty"].verdict is Verdict.DIFFERENT


def test_a_loss_of_a_batch() -> None:
    objective = ga.recipes.opo(alpha=0.3)

    def mine(batch: ga.Batch) -> Tensor:
        return objective(batch).loss

    assert compare_loss(mine, "opo", alpha=0.3).equal
    assert not compare_loss(mine, "opo", alpha=0.6).equal


def test_a_parameter_that_nothing_goes_by_is_named() -> None:
    def mine(policy: Tensor, temperature: Tensor) -> Tensor:
        return policy.sum() * temperature

    with pytest.raises(ValueError, match="'temperature'"):
        compare_loss(mine, "grpo")


# ---- cases


class Mirror(ReferenceImplementation):
    """A reference implementation made of the library itself, with a known fault for `wrong`."""

    name = "trl"
    package = "torch"

    def loss(self, method: str, **options: Any) -> Any:
        exact = as_loss(ga.recipes.get(method, **options))
        return exact

    def estimator(self, method: str, **options: Any) -> Any:
        return lambda batch: ga.recipes.get(method).drive(batch)


def test_a_case_that_is_as_expected_has_no_unexpected_verdict() -> None:
    result = run(Case("grpo", "trl", "grpo"), Mirror())
    assert result.unexpected == [] and result.found["ragged"].verdict is Verdict.EQUAL


def test_a_case_that_is_not_as_expected_is_unexpected_and_has_its_smallest_batch() -> None:
    result = run(Case("grpo", "trl", "bnpo"), Mirror())
    assert any("expected 'equal'" in line for line in result.unexpected)
    assert "policy" in result.example


def test_an_implementation_that_mends_its_difference_is_unexpected_too() -> None:
    case = Case("grpo", "trl", "grpo", expect=Verdict.DIFFERENT, why="was wrong once")
    assert any("expected 'differs', found equal" in line for line in run(case, Mirror()).unexpected)


def test_estimators_are_compared_by_their_drives() -> None:
    assert run(Case("rloo", "trl", "rloo", estimator=True), Mirror()).unexpected == []
    assert run(Case("rloo", "trl", "dr_grpo", estimator=True), Mirror()).unexpected != []


def test_a_difference_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="why"):
        Case("grpo", "trl", "grpo", expect=Verdict.DIFFERENT)


def test_releases_are_matched_by_whole_numbers() -> None:
    case = dataclasses.replace(Case("grpo", "trl", "grpo"), releases=("1.1",))
    assert case.applies_to("1.1.0") and not case.applies_to("1.16.0")
