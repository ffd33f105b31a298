"""What an evaluation returns: terms, metrics of one term and of a sum, and errors that say where to look."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import geomalign as ga
from geomalign import laws
from geomalign.objective import gradient_at_anchor, log_ratio_metrics

OF_A_TERM = ("u", "drive", "weights", "support", "log_ratio", "objective", "potential", "gap", "force", "curvature")


def batch() -> ga.Batch:
    return laws.sample_batch(rows=8, tokens=4, seed=3)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0))


def test_the_terms_of_a_sum_are_those_evaluated_alone():
    data, objective = batch(), ga.recipes.grpo(beta=0.04)
    outcome = objective(data)
    assert len(outcome.terms) == len(objective.terms) == 2
    for (_, term), seen in zip(objective.terms, outcome.terms, strict=True):
        (alone,) = term(data).terms
        assert seen.objective == term
        for name in ("loss", *OF_A_TERM):
            if name != "objective":
                assert same(getattr(seen, name), getattr(alone, name)), name
    weighted = sum(c * seen.loss for (c, _), seen in zip(objective.terms, outcome.terms, strict=True))
    torch.testing.assert_close(outcome.loss, weighted)


def test_the_metrics_of_a_sum_are_those_of_its_terms_evaluated_alone():
    data, objective = batch(), ga.recipes.grpo(beta=0.04)
    found = ga.metrics(objective(data))
    of_the_policy = set(log_ratio_metrics(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)))
    shared = set(ga.metrics(ga.recipes.opo()(data))) - of_the_policy - {"loss"}
    assert {"gap", "force", "clip_fraction", "drive_ess"} <= shared
    for k, (_, term) in enumerate(objective.terms, 1):
        alone = ga.metrics(term(data))
        for name in ("loss", *shared):
            assert same(found[f"term{k}/{name}"], alone[name]), (k, name)
        for name in of_the_policy & set(alone):
            assert same(found[name], alone[name]) and f"term{k}/{name}" not in found
    assert not shared & set(found)
    torch.testing.assert_close(found["loss"], found["term1/loss"] + 0.04 * found["term2/loss"])


def test_one_term_has_its_metrics_under_plain_names():
    found = ga.metrics(ga.recipes.opo()(batch()))
    assert not [name for name in found if "/" in name]
    assert all(value.ndim == 0 and not value.requires_grad for value in found.values())


@pytest.mark.parametrize("name", OF_A_TERM)
def test_a_sum_has_no_tensor_of_a_single_term_and_says_where_they_are(name):
    outcome = ga.recipes.grpo(beta=0.04)(batch())
    with pytest.raises(AttributeError, match=rf"`{name}` belongs to one term.*sum of 2.*outcome\.terms\[k\]\.{name}"):
        getattr(outcome, name)
    one = ga.recipes.opo()(batch())
    assert getattr(one, name) is not None


def test_a_multiple_of_one_objective_keeps_its_terms_tensors():
    data = batch()
    double = (2 * ga.recipes.opo())(data)
    assert same(double.u, ga.recipes.opo()(data).u)
    torch.testing.assert_close(double.loss, 2 * ga.recipes.opo()(data).loss)


def test_the_metrics_of_a_ratio_without_tokens_are_those_of_equal_policies():
    nothing = log_ratio_metrics(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    equal = log_ratio_metrics(torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool))
    for name in ("ratio_min", "ratio_max", "kl", "kl_reverse", "chi2", "ess", "sequence_ess"):
        assert same(nothing[name], equal[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("pairs", [3, 7, 1000])
def test_pairs_under_one_label_have_no_scale_free_stiffness(pairs, dtype):
    """The deviation of equal numbers from their mean is rounding: μ/sd(g) of it would be 1e8 or more."""
    log_probs = torch.randn(4, pairs, 1, dtype=dtype)
    found = ga.metrics(ga.recipes.dpo(beta=0.1)(ga.PreferenceBatch(*log_probs)))
    assert found["drive_std"] == 0 and found["stiffness"].isnan()
    uneven = ga.recipes.rebel()(ga.PreferenceBatch(*log_probs, margin=torch.randn(pairs, dtype=dtype)))
    assert ga.metrics(uneven)["stiffness"] > 0


CHARTED = {
    ga.LogRatio(): 1.0,
    ga.Ratio(): 1.0,
    ga.LogRatio(2.0): 2.0,
    ga.Sigmoid(): 0.25,
    ga.Dual(ga.JensenShannon()): 0.5,
}


@pytest.mark.parametrize("chart", CHARTED, ids=repr)
def test_the_gradient_at_the_anchor_is_told_with_the_slope_of_the_chart(chart):
    rollout = batch()
    rollout = dataclasses.replace(rollout, old=rollout.policy.detach())
    plain = ga.Objective(unit=ga.Sequence(), sampling=ga.GroupAdvantage(), optimization=ga.ChiSquare(3.0))
    charted = dataclasses.replace(plain, chart=chart)
    slope = CHARTED[chart]
    torch.testing.assert_close(charted.gradient(rollout), slope * plain.gradient(rollout))
    told = (
        "−E[g ∇log π]"
        if slope == 1
        else f"−{slope:g}·E[g ∇log π], of which {slope:g} is the slope of the chart {chart!r}"
    )
    assert gradient_at_anchor(charted).startswith(told)
    assert gradient_at_anchor(charted + 0.1 * ga.kl_penalty("k3")).startswith("−c·E[g" if slope != 1 else "−E[g")
