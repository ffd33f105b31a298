"""Every threshold decides where it says: just below it one thing is said, just above it the other."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign import analysis
from geomalign.analysis.asymptotics import asymptote
from geomalign.analysis.identification import identify
from geomalign.audit import audit, facts, findings, record
from geomalign.training import step as training_step

# ---- the advice of an audit

QUIET: dict[str, float] = {"tokens_at_the_anchor": 0.0}


def said(
    found: dict[str, float], objectives: dict[str, dict[str, float]] | None = None, mu: float | None = None
) -> str:
    return "\n".join(facts._advice(QUIET | found, objectives or {}, mu, 0.04))


@pytest.mark.parametrize(
    ("name", "silent", "loud", "words"),
    [
        ("tokens_at_the_anchor", 0.5, 0.51, "Geometry inactive: 51%"),
        ("responses_in_groups_of_equal_rewards", 0.3, 0.31, "31% of the responses are in groups of equal rewards"),
        ("sequence_ess", 0.3, 0.29, "an effective sample size of 29%"),
        ("engine_log_ratio_abs_max", 1.0, 1.1, "by up to 1.1 nats"),
    ],
)
def test_an_audit_speaks_beyond_a_threshold(name: str, silent: float, loud: float, words: str) -> None:
    assert said({name: silent}) == ""
    assert words in said({name: loud})


def test_an_audit_speaks_of_each_saturated_objective_and_of_stiffness() -> None:
    rows = {name: {"tokens_without_gradient": share} for name, share in (("a", 0.2), ("b", 0.21))}
    assert said({}, rows) == "b is saturated: 21% of the tokens with a drive have no gradient left."
    assert said({}, mu=2.5).startswith("Suggested stiffness: μ ≈ 2.5") and "E[u²] = 0.04" in said({}, mu=2.5)
    assert said({}, mu=0.0) == said({}, mu=math.inf) == said({}, mu=None) == ""


def dump(folder: Path, log_ratio: Tensor, **fields: Any) -> findings.Audit:
    """The audit of responses of one token at log-ratios from the policy that sampled."""
    old = torch.full((len(log_ratio), 1), -1.0)
    record(folder, ga.Batch(old + log_ratio[:, None], old, **fields))
    return audit(folder)


def test_a_token_is_at_the_anchor_below_a_millionth_of_a_nat(tmp_path: Path) -> None:
    found = dump(tmp_path, torch.tensor([0.9e-6, -0.9e-6, 0.0, 1.1e-6, -1.1e-6]))
    assert found.facts["tokens_at_the_anchor"] == pytest.approx(0.6)
    assert found.steps["share off the anchor"] == [pytest.approx(0.4)]


def test_a_quantile_is_read_from_the_lower_end(tmp_path: Path) -> None:
    """Of sizes 0.01, 0.02, …, 1 in any order and of both signs."""
    size = torch.arange(1, 101)[torch.randperm(100)] / 100
    found = dump(tmp_path, size * torch.where(torch.arange(100) % 2 == 0, 1, -1))
    assert found.facts["log_ratio_abs_quantile_0.5"] == pytest.approx(0.5, abs=0.011)
    assert found.facts["log_ratio_abs_quantile_0.99"] == pytest.approx(1.0, abs=0.011)
    assert found.facts["log_ratio_abs_max"] == pytest.approx(1.0)
    assert float(facts._quantile(torch.tensor([4.0, 1.0, 3.0, 2.0]), 0.25)) == 2.0
    assert float(facts._quantile(torch.tensor([4.0, 1.0]), 1.0)) == 4.0


def test_the_facts_of_rewards_by_hand(tmp_path: Path) -> None:
    reward, group = torch.tensor([1.0, 0.0, 1.0, 1.0, 5.0, 5.0]), torch.tensor([0, 0, 0, 1, 2, 2])
    found = dump(tmp_path, torch.zeros(6), reward=reward, group=group).facts
    assert found["prompts"] == 3 and found["reward_mean"] == pytest.approx(13 / 6)
    assert found["responses_in_groups_of_equal_rewards"] == pytest.approx(0.5)
    assert found["sd_of_centred_reward"] == pytest.approx(math.sqrt((1 / 9 + 4 / 9 + 1 / 9) / 6))
    weight = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64).mul(0.6).exp()
    share = float(weight.sum() ** 2 / (3 * (weight**2).sum()))
    assert found["escort_effective_sample_size_at_alpha_0.4"] == pytest.approx((3 * share + 3) / 6)
    drive = torch.cat([weight / weight.mean() - 1, torch.zeros(3)])
    assert found["sd_of_escort_drive_at_alpha_0.4"] == pytest.approx(float(drive.std(correction=0)))


@pytest.mark.parametrize(
    "value, text", [(0.1234, "0.123"), (3.0, "3"), (9.0, "9"), (10.0, "10"), (1234.0, "1,234"), (-20.0, "-20"),
                    (1234.5, "1.23e+03"), (math.nan, "–"), (math.inf, "–")],
)  # fmt: skip
def test_a_number_of_the_report(value: float, text: str) -> None:
    assert findings._number(value) == text


def test_the_course_of_an_audit_has_a_figure_for_every_rollout(tmp_path: Path) -> None:
    old = torch.full((2, 1), -1.0)
    for k, log_ratio in enumerate(([0.0, 0.0], [math.log(3.0), 0.0], [0.5, 1e-9])):
        reward = torch.tensor([1.0, float(k == 1)])
        record(
            tmp_path,
            ga.Batch(
                old + torch.tensor(log_ratio)[:, None], old, reward=reward, group=torch.zeros(2, dtype=torch.long)
            ),
            rollout=k,
            step=k,
        )
    steps = audit(tmp_path).steps
    third = (1 + math.exp(0.5)) ** 2 / (2 * (1 + math.e))
    assert steps["sequence ESS"] == pytest.approx([1.0, 16 / 20, third])
    assert steps["share off the anchor"] == [0.0, 0.5, 0.5]
    assert steps["share with a drive"] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "column", [{"reward": 1.0, "policy": [None], "old": [-1.0]}, {"policy": [None], "old": [None]}]
)
def test_a_dump_without_a_response_that_counts_is_refused(column: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(column) + "\n" + json.dumps(column) + "\n")
    with pytest.raises(ValueError, match=r"no response of .* has a token that counts: of 2"):
        audit(tmp_path)


@pytest.mark.parametrize(
    "values, ends", [((5.0, 5.0), (4.5, 5.5)), ((-1.0, 0.5, 1.0), (-1.0, 1.0)), ((2.0, 2.0 + 1e-7), (1.5, 2.5))]
)
def test_the_range_of_a_panel(values: tuple[float, ...], ends: tuple[float, float]) -> None:
    assert findings._wide(torch.tensor(values)) == pytest.approx(ends, abs=1e-6)


def test_the_figures_of_an_engine_by_hand(tmp_path: Path) -> None:
    """Ratios 2 and ½ in one response, 1 in the other; tokens of one response are not independent."""
    gap, mask = torch.tensor([[2.0, 0.5], [1.0, 9.0], [9.0, 9.0]]).log(), torch.tensor([[1, 1], [1, 0], [0, 0]]).bool()
    old = torch.full((3, 2), -3.0)
    record(tmp_path, ga.Batch(old, old, mask, reward=torch.tensor([1.0, 0.0, 0.0]), behavior=old - gap))
    found = audit(tmp_path).facts
    assert found["engine_log_ratio_abs_mean"] == pytest.approx(2 * math.log(2) / 3)
    assert found["engine_log_ratio_abs_max"] == pytest.approx(math.log(2))
    assert found["engine_ess"] == pytest.approx(3.5**2 / (3 * 5.25))
    assert found["engine_ratio_mean"] == pytest.approx((1.25 + 1) / 2)
    assert found["engine_ratio_error"] == pytest.approx(0.125)


@pytest.mark.parametrize(
    "mean, error, loud",
    [(0.989, 1e-3, True), (0.991, 1e-3, False), (0.95, 0.009, True), (0.95, 0.011, False), (1.2, 1e-3, False)],
)
def test_an_engine_truncates_beyond_a_hundredth_and_five_standard_errors(mean: float, error: float, loud: bool) -> None:
    found = said({"engine_ratio_mean": mean, "engine_ratio_error": error})
    assert (f"has the mean {mean:.3f} ± {error:.1g}" in found) is loud
    assert said({"engine_ratio_mean": 0.5}) == ""  # one response has no error
    assert said({"engine_ratio_mean": 0.5, "engine_ratio_error": 0.1}) == ""  # five times as much, and no more


def test_how_objectives_act_by_hand(tmp_path: Path) -> None:
    """Of ½μu² − gu under g = ½, ½, −½, the force is μu − g, and −g at the anchor; PPO's stands still beyond a wall."""
    mask, u = torch.tensor([[1, 1], [1, 0]]).bool(), torch.tensor([[0.3, -0.1], [0.05, 9.0]])
    old = torch.full((2, 2), -10.0)
    record(tmp_path, ga.Batch(old + u, old, mask, reward=torch.tensor([1.0, 0.0]), group=torch.zeros(2).long()))
    slots: dict[str, Any] = {
        "unit": ga.Token(),
        "sampling": ga.GroupAdvantage(scale="none"),
        "measure": ga.PooledMean(),
    }
    square = ga.Objective(optimization=ga.ChiSquare(2.0), **slots)
    clip = ga.Objective(chart=ga.Ratio(), optimization=ga.Clip(0.2, 0.2), **slots)
    found = audit(tmp_path, objectives={"square": square, "clip": clip}).objectives
    g = torch.tensor([0.5, 0.5, -0.5])
    force = 2 * torch.tensor([0.3, -0.1, 0.05]) - g
    assert found["square"]["gradient_against_at_anchor"] == pytest.approx(float(force.norm() / g.norm()))
    assert found["square"]["cosine_with_at_anchor"] == pytest.approx(
        float(-(force * g).sum() / force.norm() / g.norm())
    )
    assert found["square"]["stiffness_over_sd_of_drive"] == pytest.approx(2 / (math.sqrt(2) / 3))
    assert found["square"]["tokens_without_gradient"] == found["square"]["clipped"] == 0.0
    t = torch.tensor([0.0, math.exp(-0.1), math.exp(0.05)])  # the first token's ratio e^0.3 is beyond 1.2
    assert found["clip"]["tokens_without_gradient"] == found["clip"]["clipped"] == pytest.approx(1 / 3)
    assert found["clip"]["gradient_against_at_anchor"] == pytest.approx(float((g * t).norm() / g.norm()))


@pytest.mark.parametrize("tokens, shown", [(20_000, 20_000), (25_000, 12_500), (60_001, 15_001)])
def test_a_figure_holds_at_most_twenty_thousand_tokens(
    tokens: int, shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero = torch.zeros(1, tokens)
    rows = facts.as_batch([{"policy": [0.0], "old": [0.0]}])._replace(batch=ga.Batch(zero - 1, zero - 1))
    monkeypatch.setattr(facts, "as_batch", lambda *given: rows)
    monkeypatch.setattr(facts, "load", lambda *given, **named: facts.Dump([], [], {}, []))
    assert audit("a.jsonl").log_ratio.numel() == shown


# ---- what an inactive geometry is


def test_a_step_is_inactive_below_a_ten_thousandth_of_a_nat() -> None:
    batch = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    outcome = ga.recipes.opo()(batch)
    steps = [training_step.OptimizerStep(1.0, 1.0, False)] * 4
    largest = [torch.tensor(x) for x in (0.0, 0.9e-4, 1.1e-4, 0.5)]
    found = training_step.step_metrics(steps, largest, outcome, outcome, batch)
    assert found["inactive"] == 0.5 and found["log_ratio_max"] == 0.5


def test_an_event_is_inactive_below_a_millionth() -> None:
    policy = torch.tensor([[0.0, 0.9e-6, -0.9e-6, 1.1e-6, -1.1e-6]])
    batch = ga.Batch(policy - 1, torch.full((1, 5), -1.0), advantage=torch.ones(1))
    objective = ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), optimization=ga.ChiSquare())
    assert float(ga.metrics(objective(batch))["inactive"]) == pytest.approx(0.6)


def test_the_metrics_of_a_term_by_hand() -> None:
    """Two rows, of two tokens and of one; the third row has none."""
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    policy = torch.tensor([[0.3, -0.1], [0.05, 9.0], [9.0, 9.0]]) - 10
    batch = ga.Batch(policy, torch.full((3, 2), -10.0), mask, advantage=torch.tensor([1.0, -0.5, 7.0]))
    found = ga.metrics(ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), optimization=ga.ChiSquare(2.0))(batch))
    g, u = torch.tensor([1.0, 1.0, -0.5]), torch.tensor([0.3, -0.1, 0.05])
    expected = {
        "drive_mean": g.mean(),
        "drive_std": g.std(correction=0),
        "drive_ess": g.abs().sum() ** 2 / (3 * (g**2).sum()),
        "curvature": torch.tensor(2.0),
        "stiffness": 2.0 / g.std(correction=0),
        "force": (2 * u - g).abs().mean(),
        "gap": (u**2 + g**2 / 4 - g * u).mean(),
        "clip_fraction": torch.tensor(0.0),
        "log_ratio_abs": u.abs().mean(),
        "ratio_min": u.exp().min(),
        "ratio_max": u.exp().max(),
        "ratio_mean": u.exp().mean(),
        "kl": (u.exp() * u - u.exp() + 1).mean(),
        "kl_reverse": (u.exp() - 1 - u).mean(),
        "chi2": ((u.exp() - 1) ** 2).mean(),
        "ess": u.exp().sum() ** 2 / (3 * (2 * u).exp().sum()),
        "sequence_ess": (math.exp(0.2) + math.exp(0.05)) ** 2 / (2 * torch.tensor([0.4, 0.1]).exp().sum()),
    }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


# ---- decoupling, and what a name needs


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_a_parameter_moves_what_changes_by_more_than_the_tolerance(scale: float) -> None:
    def found(drive: float, curvature: float, **tolerance: float) -> tuple[bool, bool]:
        parts = ({"a": torch.tensor([0.0, drive])}, {"a": torch.tensor([curvature, 0.0])})
        return analysis.Decoupling(*parts, (scale, 2 * scale)).moves("a", **tolerance)

    at = 1e-7 * scale
    assert found(0.9 * at, 1.8 * at) == (False, False)
    assert found(-1.1 * at, 1.8 * at) == (True, False)
    assert found(0.9 * at, -2.2 * at) == (False, True)
    assert found(0.9e3 * at, 2.2e3 * at, tolerance=1e-4) == (False, True)


def test_one_parameter_that_moves_both_is_enough_to_couple() -> None:
    one, zero = torch.ones(1), torch.zeros(1)
    assert analysis.Decoupling({"a": one, "b": zero}, {"a": zero, "b": one}, (1.0, 1.0)).decoupled
    assert not analysis.Decoupling({"a": zero, "b": one}, {"a": one, "b": one}, (1.0, 1.0)).decoupled


def test_the_sizes_that_changes_are_compared_with() -> None:
    batch = ga.laws.sample_batch()
    found = analysis.decoupling(ga.recipes.opo, batch, alpha=0.4, mu=3.0)
    largest = float(ga.recipes.opo(alpha=0.4, mu=3.0).drive(batch).abs().max())
    assert found.scale == (pytest.approx(largest), pytest.approx(3.0))
    torch.testing.assert_close(found.curvature["mu"], batch.support.any(-1).double(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("error, named", [(1e-11, True), (1e-6, False)])
@pytest.mark.parametrize("kind", ["margin", "advantage"])
def test_a_potential_is_named_within_the_tolerance(kind: str, error: float, named: bool) -> None:
    if kind == "margin":
        found = identify(lambda m: torch.nn.functional.softplus(-m) + error * torch.sin(m))
        assert (isinstance(found.recognised.optimization, ga.Logistic)) is named
    else:
        found = identify(lambda x, a: x**2 + error * torch.sin(3 * x) - a * x)
        assert (isinstance(found.recognised.optimization, ga.ChiSquare)) is named


@pytest.mark.parametrize("error, coupled", [(1e-11, False), (1e-3, True)])
def test_a_coupling_is_what_is_no_product_beyond_the_tolerance(error: float, coupled: bool) -> None:
    found = identify(lambda x, a: x**2 - a * x + error * torch.relu(a * x) ** 2)
    assert bool(found.coupling.regions) is coupled


def test_an_order_has_the_sign_that_it_has_far_out() -> None:
    assert str(asymptote(lambda x: x - 20, 1)) == "~ 1 |x|^1"
    assert str(asymptote(lambda x: -3 * x - 200, -1)) == "~ 3 |x|^1"


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_unit_of_a_loss_does_not_matter(scale: float) -> None:
    found = identify(lambda x, a: scale * (3 * x**2 / 2 - a * x))
    assert isinstance(found.recognised.optimization, ga.ChiSquare) and found.decoupled
    assert found.recognised.optimization.mu == pytest.approx(3 * scale)
