"""What users meet: bad input, extremes, half precision, compilation, metrics, drives and counts."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import members
import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import geomalign as ga
from geomalign.laws import sample_batch, sample_pairs
from geomalign.recipes import lookup

LOGP = torch.zeros(4, 3)


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: ga.Batch(torch.zeros(4, 3, 7), None), r"`policy` of Batch is \(4, 3, 7\).*gathered"),
        (lambda: ga.Batch(torch.zeros(4, 3, dtype=torch.long), None), "Token ids were probably passed"),
        (
            lambda: ga.Batch(LOGP, torch.zeros(4, 2)),
            r"`old` of Batch is \(4, 2\) but `policy` is \(4, 3\).*shifted by one",
        ),
        (lambda: ga.Batch(LOGP, LOGP, torch.ones(4, 4)), r"`mask` of Batch is \(4, 4\)"),
        (lambda: ga.Batch(LOGP, LOGP, reward=torch.zeros(2, 2)), r"`reward` of Batch is \(2, 2\) but there are 4 rows"),
        (lambda: ga.Batch(LOGP, LOGP, group=torch.zeros(4)), r"`group` of Batch has dtype torch.float.*\.long\(\)"),
        (lambda: ga.Batch(LOGP, LOGP, group=torch.zeros(3, dtype=torch.long)), r"`group` of Batch is \(3,\)"),
        (lambda: ga.PreferenceBatch(LOGP, torch.zeros(3, 3)), r"`rejected` is \(3, 3\)"),
        (lambda: ga.PreferenceBatch(LOGP, LOGP, LOGP), "Only one of `reference_chosen` and `reference_rejected`"),
        (lambda: ga.recipes.get("grpoo"), "no recipe 'grpoo'. Did you mean 'grpo'"),
        (lambda: ga.recipes.get("opo", beta=0.1), "no hyper-parameter 'beta'; it takes: alpha"),
        (lambda: ga.recipes.opo(alpha=1.2), r"Escort\(alpha=1.2\): a number in \[0, 1\]"),
        (lambda: ga.recipes.opo(mu=0.0), r"ChiSquare\(mu=0.0\).*positive"),
        (lambda: ga.recipes.opo(mu=-1.0), "positive"),
        (lambda: ga.recipes.opo(form="exp"), "'log', 'ratio'"),
        (lambda: ga.recipes.dpo(label_smoothing=0.5), r"\[0, 0.5\)"),
        (lambda: ga.recipes.ipo(normalize="tokens"), "'mean', 'sum'"),
        (lambda: ga.recipes.grpo(scale_rewards="std"), "'none', 'group', 'batch'"),
        (lambda: ga.Clip(low=-0.1), r"Clip\(low=-0.1, high=0.2\).*≥ 0"),
        (lambda: ga.Clip(dual=1.1), r"must exceed 1 \+ high"),
        (lambda: ga.FixedBudget(0), "positive"),
        (lambda: ga.Power(0), r"use LogRatio\(\)"),
        (lambda: ga.Pair(of=ga.Token()), "whole responses"),  # type: ignore[arg-type]
        (lambda: ga.ConvexPotential(lambda u: u.sum()), "elementwise"),
        (
            lambda: ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), optimization=ga.ChiSquare),  # type: ignore[arg-type]
            r"an OptimizationGeometry\. Did you mean optimization=ChiSquare\(…\)",
        ),
        (
            lambda: ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), optimization=torch.cosh),  # type: ignore[arg-type]
            r"Did you mean ga\.ConvexPotential\(…\)\?",
        ),
        (lambda: type("Mine", (ga.PairUnit,), {"combine": abs})(), "Mine.*needs a field `of`"),
        (lambda: dataclasses.make_dataclass("Mine", [], bases=(ga.Pair.__base__,))(), "Mine.*needs a field `of`"),
        (
            lambda: ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), optimization=ga.Flat(), anchor="behavior"),
            '"old" .the policy that sampled',
        ),
        (lambda: ga.recipes.grpo()(ga.Batch(LOGP, LOGP)), "needs `reward`, which this Batch lacks"),
        (lambda: ga.recipes.grpo()(ga.Batch(LOGP, reward=LOGP[:, 0])), "needs `old`"),
        (lambda: ga.recipes.grpo(beta=0.1)(ga.Batch(LOGP, LOGP, reward=LOGP[:, 0])), "needs `reference`.*beta=0"),
        (lambda: ga.recipes.dpo()(ga.PreferenceBatch(LOGP, LOGP)), "needs `reference`"),
        (lambda: ga.recipes.dpo()(ga.Batch(LOGP, LOGP)), "pass a PreferenceBatch"),
        (lambda: ga.recipes.gspo()(ga.Batch(LOGP[:, 0], LOGP[:, 0], reward=LOGP[:, 0])), "needs the single tokens"),
        (
            lambda: ga.recipes.ppo()(ga.Batch(LOGP, LOGP), drive=torch.zeros(3)),
            r"`drive` is \(3,\) but the batch has 4 rows",
        ),
        (lambda: ga.recipes.gspo()(ga.Batch(LOGP, LOGP), drive=LOGP), "takes one number per response"),
        (
            lambda: ga.Batch(LOGP, LOGP, reward=LOGP[:, 0] > 0),
            r"`reward` of Batch has dtype torch.bool.*2.0 \* reward - 1",
        ),
        (
            lambda: ga.PreferenceBatch(LOGP, LOGP, margin=LOGP[:, 0] > 0),
            "`margin` of PreferenceBatch has dtype torch.bool",
        ),
        (
            lambda: ga.recipes.kto()(ga.PreferenceBatch(LOGP, LOGP, LOGP, LOGP), drive=LOGP),
            r"`drive` is \(4, 3\).*expected \(4, 2\)",
        ),
        (
            lambda: ga.recipes.gmpo()(ga.Batch(LOGP, LOGP), drive=LOGP[:, 0]),
            "the terms of this sum are driven in 2 ways.*one drive per term",
        ),
        (lambda: math.nan * ga.recipes.grpo(), "coefficient of a sum of objectives is nan"),
    ],
)
def test_bad_input_is_told_what_was_seen_and_what_to_do(make: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()  # type: ignore[operator]


TRUTHS: list[tuple[Callable[..., object], str]] = [
    (lambda x: ga.Escort(0.4, scaled=x), r"Escort\(scaled="),
    (lambda x: ga.Escort(0.4, inverse_probability=x), r"Escort\(inverse_probability="),
    (lambda x: ga.EscortESS(0.4, scaled=x), r"EscortESS\(scaled="),
    (lambda x: ga.TrustRegion(chi2=0.1, bounded=x), r"TrustRegion\(bounded="),
    (lambda x: ga.TruncatedImportance(ga.Advantage(), sequence=x), r"TruncatedImportance\(sequence="),
    (lambda x: ga.ImportanceWeighted(ga.ChiSquare(), differentiate_weight=x), "differentiate_weight="),
    (lambda x: ga.recipes.opo(scaled=x), r"Escort\(scaled="),
    (lambda x: ga.recipes.opo_ess(scaled=x), r"EscortESS\(scaled="),
    (lambda x: ga.recipes.gopo(bounded=x), r"gopo\(bounded="),
    (lambda x: ga.recipes.w_gopo(bounded=x), r"w_gopo\(bounded="),
]


@pytest.mark.parametrize("make, owner", TRUTHS, ids=[owner for _, owner in TRUTHS])
def test_a_text_is_no_truth_value(make: Callable[..., object], owner: str) -> None:
    for value in ("false", None, 1):
        with pytest.raises(ValueError, match=rf"{owner}{value!r}\): True or False\."):
            make(value)
    make(True), make(False)


def _numeric() -> list[tuple[type, Any, str]]:
    """Every field of a member that is a number, or two."""
    found = {type(member): member for slot in members.SLOTS.values() for member in slot}
    return [
        (kind, member, field.name)
        for kind, member in found.items()
        for field in (dataclasses.fields(member) if dataclasses.is_dataclass(member) else ())
        if "float" in str(field.type) and kind.__name__ not in ("Scaled", "WeightedSum")
    ]


@pytest.mark.parametrize("kind, member, field", _numeric(), ids=lambda x: getattr(x, "__name__", None) or str(x)[:40])
def test_a_text_is_no_number(kind: type, member: Any, field: str) -> None:
    for value in ("x", ["x"], ("x", "y")):
        with pytest.raises(ValueError, match=rf"{kind.__name__}.*{field}"):
            dataclasses.replace(member, **{field: value})


@pytest.mark.parametrize("name", lookup.names())
def test_a_text_is_no_number_of_a_recipe(name: str) -> None:
    recipe = lookup.builder(name)
    for key, parameter in inspect.signature(recipe).parameters.items():
        if "float" in str(parameter.annotation):
            with pytest.raises(ValueError, match="="):
                recipe(**{key: "x"})  # type: ignore[operator]


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: ga.recipes.grpo(beta=-0.1), r"grpo\(beta=-0.1\): a number ≥ 0"),
        (lambda: ga.recipes.grpo(beta=math.nan), r"grpo\(beta=nan\)"),
        (lambda: ga.recipes.orpo(lambda_=-1.0), r"orpo\(lambda_=-1.0\)"),
        (lambda: ga.recipes.cpo(alpha=-1.0), r"cpo\(alpha=-1.0\)"),
        (lambda: ga.recipes.ppo(epsilon=None, dual_clip=3.0), "epsilon=None is no clip at all"),
        (lambda: ga.recipes.ipo(tau=0), r"ipo\(tau=0\): a positive number"),
        (lambda: ga.recipes.simpo(beta=0), r"simpo\(beta=0\): a positive number"),
        (lambda: ga.recipes.simpo(gamma=math.nan), r"simpo\(gamma=nan\)"),
        (lambda: ga.recipes.bco(beta=0), r"bco\(beta=0\)"),
        (lambda: ga.recipes.bco(delta=math.nan), r"bco\(delta=nan\)"),
        (lambda: ga.recipes.sppo(beta=0), r"sppo\(beta=0\)"),
        (lambda: ga.recipes.wpo(beta=0), r"wpo\(beta=0\)"),
        (lambda: ga.recipes.rebel(eta=0), r"rebel\(eta=0\)"),
        (lambda: ga.recipes.rpo(eta=-1.0, distance="squared"), r"rpo\(eta=-1.0\)"),
        (lambda: ga.recipes.cfpo(epsilon=0), r"cfpo\(epsilon=0\)"),
        (lambda: ga.recipes.w_gopo(mu=0), r"w_gopo\(mu=0\)"),
        (lambda: ga.recipes.alpha_po(alpha=0), "in the limit the loss is simpo"),
        (lambda: ga.recipes.alpha_po(beta=0), r"alpha_po\(beta=0\)"),
        (lambda: ga.recipes.kto(reference_point=-1.0), r"kto\(reference_point=-1.0\)"),
        (
            lambda: ga.recipes.dppo(cap=0),
            r"DivergenceMask\(cap=0\): a positive number, the bound",
        ),
        (lambda: ga.ImportanceRatio(cap=-1.0), r"ImportanceRatio\(cap=-1.0\)"),
        (lambda: ga.GroupAdvantage(epsilon=math.nan), r"GroupAdvantage\(epsilon=nan\)"),
        (lambda: ga.LogRatio(math.inf), r"LogRatio\(scale=inf\)"),
        (lambda: ga.Power(math.nan), r"Power\(power=nan\)"),
        (lambda: ga.Sigmoid(1.0, math.nan), r"Sigmoid\(shift=nan\)"),
        (lambda: ga.Label(math.nan), r"Label\(strength=nan\)"),
        (lambda: ga.Margin(math.nan), r"Margin\(scale=nan\)"),
        (lambda: ga.SoftLabel(scale=-1.0), r"SoftLabel\(scale=-1.0\)"),
        (lambda: ga.PreferenceProbability(beta=math.inf), r"PreferenceProbability\(beta=inf\)"),
        (lambda: ga.FixedBudget(math.inf), r"FixedBudget\(length=inf\)"),
        (lambda: ga.AlphaDivergence(math.nan), r"AlphaDivergence\(order=nan\)"),
        (lambda: ga.Escort(torch.ones(2)), r"Escort\(alpha=tensor\(\[1., 1.\]\)\): a number"),  # type: ignore[arg-type]
        (lambda: ga.recipes.gdpo(weights=2.0), r"weights=2.0\): a tuple of numbers"),  # type: ignore[arg-type]
    ],
)
def test_a_hyper_parameter_out_of_range_is_refused_at_construction(make: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("name", ["cispo", "gppo", "ce_gppo", "bapo", "aspo", "rec"])
def test_an_importance_weight_needs_the_policy_that_sampled(name: str) -> None:
    """Without an anchor the ratio is that from π_old; where this is missing, log π is no log-ratio."""
    batch = ga.laws.sample_batch()
    objective, lacking = getattr(ga.recipes, name)(), dataclasses.replace(batch, old=None)
    with pytest.raises(ValueError, match="needs `old`, which this Batch lacks"):
        objective(lacking)
    within = ga.Objective(
        unit=ga.Token(),
        sampling=ga.sampling.ProbabilityWeighted(ga.sampling.SignalScale(objective.sampling)),
        optimization=ga.Flat(),
        anchor=None,
    )
    assert within.sampling.needs_ratio is (name != "rec")  # which reads both policies from the batch
    with pytest.raises(ValueError, match="needs `old`, which this Batch lacks"):
        within.plain(lacking)
    assert not ga.recipes.dft().sampling.needs_ratio and ga.recipes.dft()(lacking).loss > 0


def test_a_weight_of_pairs_refuses_single_responses() -> None:
    wrong = ga.Objective(unit=ga.Token(), sampling=ga.sampling.PolicyWeight(), optimization=ga.Flat(), anchor=None)
    with pytest.raises(ValueError, match=r"PolicyWeight weighs pairs.*of a Batch: pass a PreferenceBatch"):
        wrong(ga.laws.sample_batch())


def test_what_is_no_tensor_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="`reward` of Batch is list"):
        ga.Batch(LOGP, LOGP, reward=[1.0, 2.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Batch or a PreferenceBatch, not on dict"):
        ga.recipes.ppo()({})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`drive` is list.*torch.as_tensor"):
        ga.recipes.ppo()(ga.Batch(LOGP, LOGP), drive=[1.0, 2.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [sample_batch(3), sample_pairs(3)], ids=["rows", "pairs"])
def test_one_row_of_a_batch_is_a_batch_of_one_row(batch: ga.Batch | ga.PreferenceBatch) -> None:
    field = "policy" if isinstance(batch, ga.Batch) else "chosen"
    for index in (-1, 2, torch.tensor(2), numpy.int64(-1)):
        torch.testing.assert_close(getattr(batch[index], field), getattr(batch, field)[2:])
    assert [part.size for part in batch] == [1, 1, 1]  # type: ignore[union-attr]
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"no row {index} in a .*Batch of 3"):
            batch[index]


def test_counts_are_made_by_a_batch() -> None:
    with pytest.raises(TypeError, match=r"`counts` is int, not geomalign Counts: pass whole_batch\.counts\(\)"):
        ga.recipes.grpo()(sample_batch(), counts=8)  # type: ignore[arg-type]


def test_a_drive_that_nothing_balances_is_announced() -> None:
    with pytest.warns(ga.UnboundedLossWarning, match=r"outside \[0, 0.1\]"):
        ga.Objective(unit=ga.Pair(), sampling=ga.Label(0.2), optimization=ga.Logistic(0.1))


@pytest.mark.parametrize("name", ["grpo", "gspo", "rloo", "dr_grpo", "gopo", "opo", "mirror_descent"])
def test_a_group_of_one_or_of_equal_rewards_has_exactly_no_drive(name: str) -> None:
    policy = -torch.rand(6, 4)
    rewards, groups = torch.tensor([0.3, 0.3, 0.3, 1.7, -0.1, 0.2]), torch.tensor([4, 4, 4, 0, 7, 7])
    batch = ga.Batch(policy.requires_grad_(), policy.detach() - 0.1, reward=rewards, group=groups)
    drive = ga.recipes.get(name).drive(batch)
    assert drive[:4].abs().max() == 0 and drive[4:].abs().min() > 0


@pytest.mark.parametrize(
    "sampling",
    [
        ga.GroupAdvantage(),
        ga.GroupAdvantage(baseline="leave_one_out"),
        ga.GroupAdvantage(scale="group", epsilon=0.0),
        ga.GroupAdvantage(baseline="batch", scale="batch", epsilon=0.0),
        ga.sampling.LengthWeightedBaseline(),
        ga.Whitened(),
    ],
    ids=repr,
)
def test_equal_rewards_leave_no_rounding_to_be_normalised(sampling: ga.SamplingGeometry) -> None:
    # A float32 mean of eight rewards of 0.7 is not 0.7; divided by its own deviation the difference is of order one.
    for reward in (0.1, 0.7, 1e4 + 0.1):
        for rows in range(2, 17):
            policy = torch.zeros(rows, 2, dtype=torch.float32)
            batch = ga.Batch(policy, policy, reward=torch.full((rows,), reward, dtype=torch.float32))
            assert (sampling.drive(batch) == 0).all(), (reward, rows)


def test_half_precision_is_computed_in_float32() -> None:
    batch = sample_batch(dtype=torch.bfloat16)
    for name in ("grpo", "opo", "gspo"):
        outcome = ga.recipes.get(name)(batch)
        wide = ga.recipes.get(name)(dataclasses.replace(batch, policy=batch.policy.float()))
        assert outcome.loss.dtype == torch.float32
        torch.testing.assert_close(outcome.loss, wide.loss)
        (gradient,) = torch.autograd.grad(outcome.loss, batch.policy)
        assert gradient.dtype == torch.bfloat16 and torch.isfinite(gradient).all()


@given(log_ratio=st.floats(-1e4, 1e4), advantage=st.floats(-10, 10))
def test_ppo_is_right_far_beyond_its_walls(log_ratio: float, advantage: float) -> None:
    """At any log-ratio in float32 the clipped value is −A(1 ± ε) to rounding: no difference of large numbers."""
    policy = torch.tensor([[log_ratio]], dtype=torch.float32)
    batch = ga.Batch(policy, torch.zeros_like(policy), advantage=torch.tensor([advantage], dtype=torch.float32))
    loss = ga.recipes.ppo()(batch).loss.item()
    t = math.exp(min(log_ratio, 30.0)) * (1 + max(log_ratio - 30.0, 0.0))
    expected = -min(t * advantage, min(max(t, 0.8), 1.2) * advantage)
    assert math.isclose(loss, expected, rel_tol=1e-5, abs_tol=1e-6)


def test_saturation_keeps_a_slope() -> None:
    x = torch.tensor([1e4, -1e4], dtype=torch.float32, requires_grad=True)
    value = ga.ChiSquare(1.0).value(ga.Ratio()(x))
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all() and gradient[0] > 0


def test_a_satisfied_preference_keeps_its_gradient_in_float32() -> None:
    """softplus(βu) − βu cancels at βu > 17 in float32; −log σ(βu) does not."""
    u = torch.tensor([30.0], dtype=torch.float32, requires_grad=True)
    energy = ga.Logistic(1.0).energy(u, torch.ones(1, dtype=torch.float32))
    (gradient,) = torch.autograd.grad(energy.sum(), u)
    assert math.isclose(gradient.item(), -math.exp(-30), rel_tol=1e-4)
    assert math.isclose(ga.Logistic(1.0).force(u, torch.ones(1)).item(), -math.exp(-30), rel_tol=1e-4)


def test_k3_does_not_vanish_by_rounding() -> None:
    u = torch.tensor([1e-4], dtype=torch.float32)
    assert math.isclose(ga.ReverseKL(1.0).value(u).item(), 5e-9, rel_tol=1e-3)
    assert math.isclose(ga.KL(1.0).value(u).item(), 5e-9, rel_tol=1e-3)


def test_sums_stand_in_for_tokens_where_only_sums_are_needed() -> None:
    batch = sample_batch()
    kept = batch.support.any(-1)
    sums = ga.Batch(
        *(torch.where(batch.support, x, 0).sum(-1)[kept] for x in (batch.policy, batch.old)),
        reward=batch.reward[kept],
        group=batch.group[kept],
    )
    whole = dataclasses.replace(batch, advantage=None)
    objective = ga.recipes.opo(normalize="sum")
    torch.testing.assert_close(objective(sums).loss, objective(whole).loss)
    assert objective.gradient(sums).shape == sums.policy.shape
    pairs = sample_pairs()
    drop = slice(0, 5)
    summed = ga.PreferenceBatch(
        *(
            torch.where(mask, x, 0).sum(-1)[drop]
            for x, mask in (
                (pairs.chosen, pairs.chosen_mask),
                (pairs.rejected, pairs.rejected_mask),
                (pairs.reference_chosen, pairs.chosen_mask),
                (pairs.reference_rejected, pairs.rejected_mask),
            )
        )
    )
    torch.testing.assert_close(ga.recipes.dpo()(summed).loss, ga.recipes.dpo()(pairs).loss)


def test_a_token_reward_is_summed_over_its_response() -> None:
    batch = sample_batch()
    tokens = torch.randn(batch.policy.shape)
    summed = torch.where(batch.support, tokens, 0).sum(-1)
    a = dataclasses.replace(batch, reward=torch.where(batch.support, tokens, math.nan))
    b = dataclasses.replace(batch, reward=summed)
    torch.testing.assert_close(ga.recipes.grpo().drive(a), ga.recipes.grpo().drive(b))


def test_the_escort_approaches_the_advantage_and_the_target() -> None:
    batch = sample_batch()
    centred = ga.Escort(alpha=1.0, scaled=True).drive(batch)
    near = ga.Escort(alpha=1 - 1e-9, scaled=True).drive(batch)
    torch.testing.assert_close(near, centred, rtol=1e-7, atol=1e-9)
    single = dataclasses.replace(batch, advantage=batch.advantage.float(), policy=batch.policy.float().detach())
    near32 = ga.Escort(alpha=1 - 1e-6, scaled=True).drive(single)
    torch.testing.assert_close(near32.double(), centred, rtol=1e-4, atol=1e-5)
    everywhere = ga.Escort(alpha=1.0).drive(batch)
    assert torch.equal(everywhere, torch.zeros_like(everywhere))


def test_metrics_are_the_quantities_they_name() -> None:
    batch = sample_batch()
    metrics = ga.metrics(ga.recipes.ppo()(batch))
    assert all(value.ndim == 0 and not value.requires_grad for value in metrics.values())
    kept = batch.support
    delta = (batch.policy - batch.old).detach()[kept]
    t = torch.exp(delta)
    expected = {
        "ratio_mean": t.mean(),
        "ratio_max": t.max(),
        "chi2": ((t - 1) ** 2).mean(),
        "kl": (t * delta - t + 1).mean(),
        "kl_reverse": (t - 1 - delta).mean(),
        "ess": t.sum() ** 2 / (len(t) * (t**2).sum()),
        "log_ratio_abs": delta.abs().mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value)
    advantage = batch.advantage[:, None].expand_as(batch.policy)[kept]
    outside = ((advantage > 0) & (t > 1.2)) | ((advantage < 0) & (t < 0.8))
    torch.testing.assert_close(metrics["clip_fraction"], outside.double().mean())


def test_metrics_see_that_no_geometry_can_act_on_policy() -> None:
    policy = -torch.rand(4, 3)
    batch = ga.Batch(policy.requires_grad_(), policy.detach(), reward=torch.tensor([1.0, 0.0, 1.0, 0.0]))
    metrics = ga.metrics(ga.recipes.opo()(batch))
    assert metrics["inactive"] == 1 and metrics["chi2"] == 0 and metrics["ess"] == 1
    # With Δ ≡ 0 the gradient is −E[g ∇log π], whatever the potential and the chart.
    drive = ga.recipes.opo().drive(batch)
    laws = [
        ga.Objective(unit=ga.Token(), chart=chart, sampling=ga.Advantage(), optimization=geometry).gradient(
            batch, drive=drive
        )
        for chart in (ga.LogRatio(), ga.Ratio())
        for geometry in (ga.ChiSquare(3.0), ga.KL(2.0), ga.Clip(), ga.Flat())
    ]
    assert all(torch.allclose(law, laws[0], atol=1e-15) for law in laws)


def test_outcome_gap_is_zero_exactly_at_equilibrium() -> None:
    drive = torch.tensor([0.3, -0.2, 0.1])
    objective = ga.recipes.opo(mu=2.0)
    at = (drive / 2.0)[:, None].expand(3, 4)
    batch = ga.Batch(at.clone().requires_grad_(), torch.zeros(3, 4))
    outcome = objective(batch, drive=drive)
    assert outcome.gap.abs().max() < 1e-16 and outcome.force.abs().max() < 1e-16
    away = objective(ga.Batch(at + 0.1, torch.zeros(3, 4)), drive=drive)
    assert (away.gap > 1e-3).all()


@pytest.mark.filterwarnings("ignore::geomalign.UnboundedLossWarning")
@pytest.mark.parametrize("name", ga.recipes.names())
def test_a_batch_without_rows_has_no_loss(name: str) -> None:
    objective = ga.recipes.get(name)
    none, rows = torch.zeros(0, 3), torch.zeros(0)
    batch: ga.Batch | ga.PreferenceBatch = ga.Batch(
        none, none, reward=rows, reference=none, group=rows.long(), behavior=none
    )
    if objective.needs_observations:
        batch = dataclasses.replace(batch, mask=none, observation_mask=none)
    if objective.paired:
        batch = ga.PreferenceBatch(none, none, none, none, margin=rows)
    assert objective(batch).loss == 0


COMPILED = r"""
import torch, geomalign as ga
from geomalign.laws import sample_batch, sample_pairs
torch.set_num_threads(1)
for name in {names}:
    torch._dynamo.reset()
    objective = ga.recipes.get(name)
    batch = sample_pairs() if any(t.unit.paired for _, t in objective.terms) else sample_batch()
    inputs = [batch.chosen, batch.rejected] if batch.paired else [batch.policy]
    compiled = torch.compile(lambda b: objective(b).loss, fullgraph=True, backend="aot_eager")
    found, plain = compiled(batch), objective.plain(batch).loss
    assert torch.allclose(found, plain, rtol=1e-12, atol=1e-14), name
    options = dict(allow_unused=True, materialize_grads=True)
    for one, other in zip(torch.autograd.grad(found, inputs, **options), torch.autograd.grad(plain, inputs, **options)):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-13), name
print("compiled")
"""


def compiles(names: list[str]) -> None:
    # In a process of its own: Dynamo's warnings and caches are not this suite's business.
    code = COMPILED.format(names=names)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}, check=False)
    assert done.stdout.strip().endswith("compiled"), done.stderr[-2000:]


def test_an_objective_compiles_without_graph_breaks() -> None:
    compiles(["gspo", "opo", "dpo"])  # and dapo in test_node.py


@pytest.mark.slow
def test_every_recipe_compiles_without_graph_breaks() -> None:
    compiles(ga.recipes.names())


class Cosh(ga.BregmanGeometry):
    """The user's own geometry of README: φ(u) = μ(cosh u − 1)."""

    def __init__(self, mu: float) -> None:
        self.mu = mu

    def value(self, u: Tensor) -> Tensor:
        return self.mu * (torch.cosh(u) - 1)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.mu * torch.sinh(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.mu * torch.cosh(u)

    def latex(self, u: str, drive: str) -> str:
        return rf"\mu(\cosh {u}-1)"


def test_a_geometry_of_ones_own_trains_to_its_equilibrium() -> None:
    objective = ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), optimization=Cosh(0.5))
    policy = torch.zeros(3, 1, requires_grad=True)
    advantage = torch.tensor([1.0, -0.5, 0.2])
    for _ in range(400):
        loss = objective(ga.Batch(policy, torch.zeros(3, 1), advantage=advantage)).loss
        policy = (policy - torch.autograd.grad(loss, policy)[0]).detach().requires_grad_()
    torch.testing.assert_close(policy[:, 0].detach(), torch.asinh(advantage / 0.5), rtol=1e-8, atol=1e-8)


@pytest.mark.filterwarnings("ignore::geomalign.UnboundedLossWarning")
@pytest.mark.parametrize("device", ["cpu", "accelerator"])
@pytest.mark.parametrize("name", [name for name, recipe in members.recipes().items() if not recipe.paired])
def test_a_group_size_is_the_ids_of_groups_in_order(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "accelerator":  # the path of a device whose values must not be looked at
        monkeypatch.setattr("geomalign._util.groups.may_wait", lambda x: False)
    objective, batch = members.recipes()[name], sample_batch(rows=12, tokens=5, seed=4)
    with_ids = dataclasses.replace(batch, group=torch.arange(12) // 3)
    with_size = dataclasses.replace(batch, group=3)
    one, other = objective.drive(with_ids), objective.drive(with_size)
    for a, b in zip(*((x if isinstance(x, ga.TermDrives) else [x]) for x in (one, other)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(objective.gradient(with_ids), objective.gradient(with_size), rtol=1e-12, atol=1e-14)
    part = with_size[torch.tensor([0, 4, 5])]
    assert part.group is not None and part.group.tolist() == [0, 1, 1]


@pytest.mark.parametrize("size", [0, 5, -3, True])
def test_a_group_size_divides_the_rows(size: int) -> None:
    with pytest.raises(ValueError, match=r"12 rows.*size of every group"):
        ga.Batch(torch.zeros(12, 2), group=size)
