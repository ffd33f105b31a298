"""Rewards and log-probabilities that are not finite: which rows and tokens they take with them, and who says so."""

from __future__ import annotations

import dataclasses
import warnings
from types import SimpleNamespace
from typing import Any

import members
import pytest
import torch

import geomalign as ga
from geomalign.laws import sample_batch, sample_pairs

NAN, INF = float("nan"), float("inf")
ON_REWARDS = {name: made for name, made in members.recipes().items() if not made.paired and made.driven}


@pytest.mark.parametrize("name", sorted(ON_REWARDS))
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_reward_that_is_not_finite_costs_its_own_row_alone(name: str, value: float) -> None:
    """One rule for every recipe: its drive is zero, and the others' is that of a rollout without it."""
    objective, batch = ON_REWARDS[name], sample_batch()
    lost = torch.arange(batch.size) == 2
    field = "reward" if name != "ppo" else "advantage"
    batch = dataclasses.replace(batch, advantage=None if field == "reward" else batch.advantage)
    spoiled = dataclasses.replace(batch, **{field: torch.where(lost, value, getattr(batch, field))})
    drives = [(term.drive(spoiled), term.drive(batch[~lost])) for term in objective.driven_terms]
    outcome = objective(spoiled)
    assert torch.isfinite(outcome.loss) and torch.isfinite(objective.gradient(spoiled)).all()
    for drive, expected in drives:
        torch.testing.assert_close(drive[~lost], expected)
    sampling = objective.driven_terms[0].sampling
    reads_rewards = not isinstance(getattr(sampling, "of", sampling), (ga.ImportanceRatio, ga.sampling.TeacherRatio))
    assert not reads_rewards or (drives[0][0][lost] == 0).all()


BROKEN = {
    "nan": {"old": (1, 2, NAN)},
    "an impossible token": {"behavior": (1, 2, -INF)},
    "all three": {"old": (0, 0, NAN), "reference": (1, 2, INF), "behavior": (4, 0, NAN)},
}


def broken(batch: ga.Batch, places: dict[str, tuple[int, int, float]]) -> tuple[ga.Batch, torch.Tensor]:
    """The batch with values put in, and the mask of what they leave."""
    mask, changed = batch.support.clone(), {}
    for name, (row, token, value) in places.items():
        assert mask[row, token]
        changed[name] = getattr(batch, name).clone()
        changed[name][row, token] = value
        mask[row, token] = False
    return dataclasses.replace(batch, **changed), mask


@pytest.mark.parametrize("places", BROKEN.values(), ids=list(BROKEN))
@pytest.mark.parametrize("name", ["grpo", "gspo", "opo", "cispo", "dapo", "grpo beta=0.04"])
def test_a_token_without_a_log_probability_is_absent(name: str, places: dict[str, Any]) -> None:
    """In loss, gradient, drive and metrics: all are those of the batch in which it is masked."""
    objective, clean = ga.recipes.get(name), sample_batch()
    spoiled, mask = broken(clean, places)
    expected = dataclasses.replace(clean, mask=mask)
    found, report = ga.drop_nonfinite(spoiled)
    torch.testing.assert_close(objective(found).loss, objective(expected).loss)
    torch.testing.assert_close(objective.gradient(found), objective.gradient(expected))
    torch.testing.assert_close(ga.metrics(objective(found)), ga.metrics(objective(expected)), equal_nan=True)
    assert int(report.metrics()["nonfinite_tokens"]) == len(places)


def test_a_row_without_log_probabilities_leaves_its_group() -> None:
    batch = sample_batch()
    lost = torch.arange(batch.size) == 1
    behavior = torch.where(lost[:, None], NAN, batch.behavior)
    found, report = ga.drop_nonfinite(dataclasses.replace(batch, behavior=behavior))
    drive = ga.GroupAdvantage(scale="group").drive(found)
    torch.testing.assert_close(drive[~lost], ga.GroupAdvantage(scale="group").drive(batch[~lost]))
    assert drive[lost] == 0 and not found.support[lost].any()
    with pytest.warns(ga.NonFiniteWarning, match=r"not finite: 5 of 32 tokens, .*\(`behavior` of row 1\)"):
        report.warn()


def test_what_is_masked_already_is_not_counted_and_nothing_is_said_of_it() -> None:
    batch = sample_batch()
    unseen = torch.where(batch.support, batch.old, NAN)
    found, report = ga.drop_nonfinite(dataclasses.replace(batch, old=unseen, mask=batch.mask.double()))
    assert torch.equal(found.support, batch.support) and report.message() == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.warn()


def test_rows_are_named_the_first_five() -> None:
    batch = dataclasses.replace(sample_batch(), reward=torch.full((8,), NAN, dtype=torch.float64))
    batch = dataclasses.replace(batch, reward=torch.where(torch.arange(8) == 6, 1.0, batch.reward))
    report = ga.drop_nonfinite(batch)[1]
    assert "(`reward` of rows 0, 1, 2, 3, 4 and 1 more)" in report.message()  # row 7 has no tokens
    assert int(report.metrics()["nonfinite_rewards"]) == 6


def test_nothing_left_is_a_failure() -> None:
    batch = dataclasses.replace(sample_batch(), old=torch.full((8, 6), NAN, dtype=torch.float64))
    with pytest.raises(ValueError, match="Nothing is left to learn from"):
        ga.drop_nonfinite(batch)[1].warn()
    ga.drop_nonfinite(batch[:0])[1].warn()  # an empty rollout had nothing to lose


def test_the_policy_in_training_stays_loud() -> None:
    batch = sample_batch()
    policy = batch.policy.detach().clone()
    policy[1, 0] = NAN
    found, report = ga.drop_nonfinite(dataclasses.replace(batch, policy=policy))
    assert report.message() == "" and not torch.isfinite(ga.recipes.opo()(found).loss)


def test_pairs() -> None:
    pairs = sample_pairs()
    margin, reference = pairs.margin.clone(), pairs.reference_rejected.clone()
    margin[0], reference[1, 0] = INF, NAN
    found, report = ga.drop_nonfinite(dataclasses.replace(pairs, margin=margin, reference_rejected=reference))
    assert not found.chosen_mask[0].any() and not found.rejected_mask[0].any()
    assert not found.rejected_mask[1, 0] and torch.equal(found.chosen_mask[1:], pairs.chosen_mask[1:])
    assert torch.isfinite(ga.recipes.dpo()(found).loss)
    assert {name: int(count.sum()) for name, count in report.values.items() if count.any()} == {
        "reference_rejected": 1,
        "margin": 1,
    }


def test_sums_over_responses() -> None:
    batch = ga.Batch(torch.zeros(3), torch.tensor([-1.0, NAN, -1.0]), reward=torch.tensor([1.0, 1.0, NAN]))
    found, report = ga.drop_nonfinite(batch)
    assert found.support[:, 0].tolist() == [True, False, False] and int(report.left) == 1


def test_a_reward_per_token_counts_where_it_is_not_masked() -> None:
    batch = sample_batch()
    reward = torch.where(batch.support, 0.1, NAN).double()
    assert ga.drop_nonfinite(dataclasses.replace(batch, reward=reward))[1].message() == ""
    reward[3, 0] = NAN
    found = dataclasses.replace(batch, reward=reward)
    assert found.judged.tolist() == [True] * 3 + [False] + [True] * 3 + [False]


def test_the_law_refuses_a_geometry_that_spreads_a_missing_reward() -> None:
    class Spread(ga.SamplingGeometry):
        def drive(self, batch: Any) -> torch.Tensor:
            valid = batch.support.any(-1)
            reward = torch.where(valid, batch.require("reward", "Spread"), 0)
            return torch.where(valid, reward - ga.Groups(batch.group, valid).mean(reward), 0)

    with pytest.raises(ga.laws.LawViolation, match="rows_whose_reward_is_not_finite_leave_their_group"):
        ga.laws.check_sampling(Spread())


def test_a_host_s_advantages_that_are_not_finite_drop_their_row() -> None:
    from geomalign.adapters import hosted

    batch, advantages = sample_batch(), torch.linspace(-1, 1, 8, dtype=torch.float64)
    spoiled = torch.where(torch.arange(8) == 2, NAN, advantages)
    drive = hosted.evaluate(ga.recipes.ppo(), batch, spoiled).drive
    expected = hosted.evaluate(ga.recipes.ppo(), batch, torch.where(torch.arange(8) == 2, 0, advantages)).drive
    torch.testing.assert_close(drive, expected)


def test_engine_weights_of_any_nesting_stay_where_a_host_makes_the_drive() -> None:
    from geomalign.adapters import hosted

    batch, advantages = sample_batch(), torch.linspace(-1, 1, 8, dtype=torch.float64)
    mask = ga.MaskedImportance(ga.TruncatedImportance(ga.GroupAdvantage()), low=0.5, high=1.5, importance="none")
    objective = ga.Objective(unit=ga.Token(), chart=ga.Ratio(), sampling=mask, optimization=ga.Clip())
    alone = dataclasses.replace(mask, of=ga.TruncatedImportance(ga.Advantage()))
    expected = alone.drive(dataclasses.replace(batch, advantage=advantages))
    found = hosted.evaluate(objective, batch, advantages).drive
    torch.testing.assert_close(found, torch.where(batch.support, expected, 0))
    assert (found != 0).any() and (found == 0)[batch.support].any()


class Trainer:
    """What TRL's trainer has that the drive of a rollout is made from."""

    accelerator = SimpleNamespace(process_index=0)
    model = SimpleNamespace(training=True)
    num_generations = 4
    reward_weights = torch.ones(1)
    controller = _geometry_record = None
    _geometry_advantage = "objective"
    _geometry_sum = ga.recipes.grpo() * 1.0

    def __init__(self, reward: torch.Tensor) -> None:
        self._geometry_seen = {"rewards": reward[:, None]}

    def _stiffened(self, drives: Any) -> Any:
        return drives


def trl_drive(old: torch.Tensor, reward: torch.Tensor) -> dict[str, torch.Tensor]:
    from geomalign.adapters.trl.grpo import GRPOGeometry

    output = {"completion_mask": torch.ones(8, 3), "old_per_token_logps": old}
    return GRPOGeometry._geometry_drive(Trainer(reward), output)


def test_trl_drops_and_counts_what_is_not_finite_once_per_rollout() -> None:
    reward = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5, INF, 0.0, 1.0])
    old = torch.full((8, 3), -1.0)
    old[0, 1], old[3] = NAN, -INF
    with pytest.warns(ga.NonFiniteWarning, match=r"7 of 24 tokens, .*`old` of rows 0, 3; `reward` of row 5"):
        found = trl_drive(old, reward)
    assert found["geometry_dropped"].sum(-1).tolist() == [1, 0, 0, 3, 0, 3, 0, 0]
    assert int(found["geometry_tokens"]) == 17 and int(found["geometry_sequences"]) == 6
    (drive,) = (found[name] for name in found if name.startswith("geometry_drive"))
    expected = ga.GroupAdvantage(scale="group")
    for group in ([0, 1, 2], [4, 6, 7]):
        alone = expected.drive(ga.Batch(torch.zeros(3, 1), reward=reward[group]))
        torch.testing.assert_close(drive[group].to(alone), alone)
    assert drive[[3, 5]].abs().sum() == 0
    assert "geometry_dropped" not in trl_drive(torch.full((8, 3), -1.0), reward.nan_to_num(posinf=0.0))


def test_trl_stops_where_nothing_is_left() -> None:
    with pytest.warns(ga.NonFiniteWarning), pytest.raises(ValueError, match="Nothing is left to learn from"):
        trl_drive(torch.full((8, 3), NAN), torch.zeros(8))


def test_the_three_policies_are_measured_two_by_two() -> None:
    batch = sample_batch()
    found = ga.policy_metrics(batch)
    assert {name.split("/")[0] for name in found} == {"old_behavior", "policy_old", "policy_behavior"}
    total = (batch.log_probs("policy", "") - batch.log_probs("behavior", "")).detach()
    torch.testing.assert_close(found["policy_behavior/chi2"], (total.exp() - 1)[batch.support].square().mean())
    assert set(ga.policy_metrics(dataclasses.replace(batch, old=None))) == {
        name for name in found if name.startswith("policy_behavior")
    }
