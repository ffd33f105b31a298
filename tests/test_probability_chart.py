"""The chart in probability, u = π − π_k: bound to the anchor, exact near it, finite far from it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign import laws
from geomalign.analysis.identification import as_loss

_SAMPLE = laws.sample_batch(rows=16, tokens=7, seed=11)
BATCH = dataclasses.replace(_SAMPLE, old=-_SAMPLE.old.abs() - 1e-3, reference=-_SAMPLE.reference.abs() - 1e-3)
MASK = BATCH.support
CHART = ga.chart.Probability()
UNITS = [
    ga.Token(),
    ga.Sequence(),
    ga.MeanSequence(),
    ga.unit.BroadcastSequence(),
    ga.unit.BroadcastSequence(ga.Sequence()),
]


def objective(unit: ga.Unit, **slots: object) -> ga.Objective:
    given = {"sampling": ga.GroupAdvantage(), "optimization": ga.ChiSquare(2.0), **slots}
    return ga.Objective(unit=unit, chart=CHART, **given)  # type: ignore[arg-type]


def literal(unit: ga.Unit, anchor: Tensor) -> Tensor:
    """Mean of (π − π_k)² − A(π − π_k) over the events, in plain loops."""
    drive, values = ga.GroupAdvantage().drive(BATCH), []
    for i in range(16):
        if not (kept := MASK[i]).any():
            continue
        x, a = BATCH.policy[i][kept], anchor[i][kept]
        if not isinstance(unit, ga.Token):
            whole = unit.of if isinstance(unit, ga.unit.BroadcastSequence) else unit
            x, a = (y.sum() if isinstance(whole, ga.Sequence) else y.mean() for y in (x, a))
        u = x.exp() - a.exp()
        values += [(u**2 - drive[i] * u).expand(int(kept.sum()) if unit.per_token else 1)]
    return torch.cat(values).mean()


@pytest.mark.parametrize("anchor", ["old", "reference"])
@pytest.mark.parametrize("unit", UNITS, ids=str)
def test_it_is_the_difference_of_probabilities(unit: ga.Unit, anchor: str) -> None:
    ours, expected = objective(unit, anchor=anchor), literal(unit, getattr(BATCH, anchor))
    gradient = torch.autograd.grad(expected, BATCH.policy)[0]
    for loss in (ours(BATCH).loss, ours.plain(BATCH).loss):
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(torch.autograd.grad(loss, BATCH.policy)[0], gradient)
    torch.testing.assert_close(ours.gradient(BATCH), gradient)


@pytest.mark.parametrize("unit", UNITS[:3], ids=str)
@pytest.mark.parametrize("law", laws.LAWS["objective"], ids=lambda law: law.__name__)
def test_laws(law: laws.Law, unit: ga.Unit) -> None:
    law(objective(unit), 0)


def test_pairs_have_the_difference_of_their_responses_probabilities() -> None:
    pairs = laws.sample_pairs()
    dpo = ga.Objective(unit=ga.Pair(), chart=CHART, sampling=ga.Label(), optimization=ga.Logistic(), anchor="reference")
    side = [
        torch.where(mask, x, 0).sum(-1).exp() - torch.where(mask, a, 0).sum(-1).exp()
        for x, a, mask in (
            (pairs.chosen, pairs.reference_chosen, pairs.chosen_mask),
            (pairs.rejected, pairs.reference_rejected, pairs.rejected_mask),
        )
    ]
    torch.testing.assert_close(dpo(pairs).u[:-1], (side[0] - side[1])[:-1])


def test_a_clip_bounds_what_a_token_brings_to_the_total_variation() -> None:
    """|π − π_k| ≤ ε is another rule than |t − 1| ≤ ε: a rare token moves on, a common one is held."""
    old = torch.tensor([[0.5], [0.5], [0.001], [0.001]], dtype=torch.float64).log()
    batch = ga.Batch((old + math.log(1.5)).requires_grad_(), old, advantage=torch.tensor([1.0, -1.0, 1.0, -1.0]))
    clip = ga.Objective(unit=ga.Token(), chart=CHART, sampling=ga.Advantage(), optimization=ga.Clip(0.1, 0.1))
    ppo = dataclasses.replace(clip, chart=ga.Ratio())
    assert (clip.gradient(batch)[:, 0] == 0).tolist() == [True, False, False, False]
    assert (ppo.gradient(batch)[:, 0] == 0).tolist() == [True, False, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_exact_near_the_anchor_and_finite_far_from_it(dtype: torch.dtype) -> None:
    """Also where the ratio overflows and the probabilities do not: π_k = e^{−200}, π = 1/2."""
    anchor = torch.tensor([-1e-3, -5.0, -80.0, -200.0], dtype=dtype)
    bound = CHART.among(anchor)
    tiny = torch.full_like(anchor, 1e-6)
    torch.testing.assert_close(bound(tiny), anchor.exp() * torch.expm1(tiny))
    to_half = math.log(0.5) - anchor
    torch.testing.assert_close(bound(to_half), 0.5 - anchor.exp(), rtol=1e-4, atol=0)
    torch.testing.assert_close(bound.slope(to_half), torch.full_like(anchor, 0.5), rtol=1e-4, atol=0)
    for x in (-1e4, -1.0, 0.0, 1.0, 1e4):
        moved = torch.full_like(anchor, x).requires_grad_()
        u = bound(moved)
        slope = torch.autograd.grad(u.sum(), moved)[0]
        assert torch.isfinite(u).all() and torch.isfinite(slope).all()
        torch.testing.assert_close(slope, bound.slope(moved.detach()), rtol=1e-5, atol=0)
    near = torch.tensor([-1e-3, -5.0, -20.0], dtype=dtype)
    half = torch.full_like(near, -0.7)
    torch.testing.assert_close(CHART.among(near).inverse(CHART.among(near)(half)), half)


def test_identify_sees_one_prior_and_calls_it_the_ratio() -> None:
    """u = π_k(t − 1): the square μ/2·u² is a χ² of stiffness μπ_k², for the prior it was asked about."""
    for prior in (0.25, 0.5):
        found = ga.identify(as_loss(objective(ga.Token()), log_prob=math.log(prior))).recognised
        assert found is not None and found.chart == ga.Ratio()
        assert found.optimization.mu == pytest.approx(2.0 * prior**2)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("unit", "formula"),
    [
        (ga.Token(), r"u_{i,t}=\pi_\theta(y_{i,t}\mid y_{i,<t})-\pi_{\mathrm{ref}}(y_{i,t}\mid y_{i,<t}),"),
        (ga.Sequence(), r"u_i=\pi_\theta(y_i)-\pi_{\mathrm{ref}}(y_i),"),
        (ga.MeanSequence(), r"u_i=\pi_\theta(y_i)^{1/|y_i|}-\pi_{\mathrm{ref}}(y_i)^{1/|y_i|},"),
    ],
)
def test_its_formula(unit: ga.Unit, formula: str) -> None:
    assert formula in objective(unit, anchor="reference").latex()
    assert CHART.latex(r"\Delta") == r"\pi_k\left(e^{\Delta}-1\right)"


def test_it_can_be_exported() -> None:
    ours = objective(ga.Token())
    function = ga.ops.export(ours, torch.float64)
    loss, gradient = function(**ga.ops.arguments(function, ours, BATCH))
    torch.testing.assert_close(loss, ours(BATCH).loss.detach())
    torch.testing.assert_close(gradient, ours.gradient(BATCH))


def test_what_has_no_anchor_to_read_is_refused() -> None:
    for slots in ({"anchor": None}, {"unit": ga.unit.ClampedTokens(high=0.2)}):
        with pytest.raises(ValueError, match="reads the anchor's log-probability, which needs an anchor and a unit"):
            dataclasses.replace(objective(ga.Token()), **slots)
    for prior in (0.0, 1.5):
        with pytest.raises(ValueError, match="the anchor's probability of an event"):
            ga.chart.Probability(prior)
