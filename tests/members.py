"""The members of every slot. A new class is tested by every law once it has a line here."""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

import geomalign as ga

NAMES: dict[str, Any] = {
    **{
        name: value
        for room in (ga.unit, ga.chart, ga.sampling, ga.optimization, ga.divergences, ga.measure)
        for name, value in vars(room).items()
    },
    **{name: getattr(ga, name) for name in ga.__all__},
    "inf": math.inf,
}
"""What the `repr` of a part is read with: the flat names, and those of every slot."""


def pseudo_huber(u: torch.Tensor) -> torch.Tensor:
    """A user's own potential: quadratic near the anchor, linear far from it."""
    return torch.sqrt(1 + u**2) - 1


def ident(member: object) -> str:
    """What a test is called by: the repr without addresses, so that parallel workers agree on it."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(member))[:100]


DIVERGENCES: list[ga.Divergence] = [
    ga.KullbackLeibler(),
    ga.ReverseKullbackLeibler(),
    ga.PearsonChiSquare(),
    ga.NeymanChiSquare(),
    ga.CressieRead(0.5),
    ga.CressieRead(1.5),
    ga.CressieRead(3.0),
    ga.JensenShannon(),
    ga.SquaredHellinger(),
    ga.TotalVariation(),
    ga.KullbackLeibler() + ga.PearsonChiSquare(),
    2.0 * ga.JensenShannon(),
]

BREGMAN: list[ga.BregmanGeometry] = [
    ga.ChiSquare(0.7),
    ga.KL(0.3),
    ga.ReverseKL(0.4),
    ga.AlphaDivergence(0.5),
    ga.AlphaDivergence(2.5, 0.5),
    ga.AlphaDivergence(-1.0),
    ga.FDivergence(ga.JensenShannon(), 0.8),
    ga.FDivergence(ga.KullbackLeibler() + ga.PearsonChiSquare()),
    ga.Logistic(0.8),
    ga.Hinge(0.5),
    ga.Flat(),
    ga.ConvexPotential(pseudo_huber),
    0.5 * ga.Logistic(1.0),
    ga.ChiSquare(1.0) + ga.ReverseKL(0.2),  # type: ignore[list-item]
    ga.Logistic(0.5) + ga.ChiSquare(0.1),  # type: ignore[list-item]
    ga.KL(0.1) + ga.ChiSquare(1.0),  # type: ignore[list-item]
]
COUPLED: list[ga.OptimizationGeometry] = [
    ga.Clip(),
    ga.Clip(0.2, 0.28),
    ga.Clip(0.1, 0.3, dual=3.0),
    ga.Clip() + ga.ChiSquare(0.3),
    ga.Clip() + ga.KL(0.1),
]
OPTIMIZATION = BREGMAN + COUPLED

CHARTS: list[ga.Chart] = [
    ga.LogRatio(),
    ga.LogRatio(2.0),
    ga.Ratio(),
    ga.Power(0.5),
    ga.Power(-0.5),
    ga.Power(2.0),
    ga.Dual(ga.JensenShannon()),
    ga.Dual(ga.ReverseKullbackLeibler()),
    ga.Dual(ga.KullbackLeibler() + ga.PearsonChiSquare()),
]

RESPONSE_UNITS: list[ga.Unit] = [ga.Token(), ga.Sequence(), ga.MeanSequence()]
UNITS: list[ga.Unit] = [*RESPONSE_UNITS, ga.Pair(), ga.Pair(of=ga.MeanSequence(), margin=0.5)]

MEASURES: list[ga.Measure] = [ga.PooledMean(), ga.NestedMean(), ga.FixedBudget(7)]
# They need the lengths of all rows, which an exported function and a host do not hold.
LENGTH_MEASURES: list[ga.Measure] = [
    ga.PromptMean(),
    ga.measure.LengthPower(0.75, 7),
    ga.measure.LengthPower(-0.5, 1),
    ga.measure.LengthPreference(-2.0),
    ga.measure.LengthPreference(0.0),
    ga.measure.LengthPreference(3.0, spread=0.3),
]

SAMPLING: list[ga.SamplingGeometry] = [
    ga.Advantage(),
    *(
        ga.GroupAdvantage(baseline=baseline, scale=scale)
        for baseline in ("none", "group", "leave_one_out", "batch")
        for scale in ("none", "group", "batch")
    ),
    ga.GroupAdvantage(scale="group", ddof=0, epsilon=0.0),
    ga.Escort(0.4),
    ga.Escort(0.0, temperature=0.5, scaled=True),
    ga.Escort(1.0, scaled=True),
    ga.Escort(0.999, scaled=True),
    ga.Escort(1.0, temperature=2.0, scaled=True),
    ga.Escort(0.7, temperature=0.3),
    ga.Escort(0.4, inverse_probability=True),
    ga.Label(0.3),
    ga.TruncatedImportance(ga.GroupAdvantage()),
    ga.TruncatedImportance(ga.Escort(0.5), sequence=True),
    ga.ClippedImportance(ga.GroupAdvantage(), high=1.2),
    ga.ClippedImportance(ga.Advantage(), low=0.5, high=2.0),
    ga.TruncatedImportance(ga.ClippedImportance(ga.GroupAdvantage(scale="group"), low=0.6, high=1.2), cap=1.1),
    ga.BoundedProjection(ga.GroupAdvantage(), 0.5),
]

# The catalogue's: each obeys the laws of its slot, and is crossed with a few of the other slots' members, not with all.
LATER_UNITS: list[ga.Unit] = [
    ga.unit.ClampedTokens(high=0.2),
    ga.unit.ClampedTokens(ga.Sequence(), low=-0.1),
    ga.unit.ClampedTokens(low=-0.1, high=0.4),
    ga.unit.BroadcastSequence(),
    ga.unit.BroadcastSequence(ga.Sequence()),
    ga.unit.Shifted(origin=0.5),
    ga.unit.Observation(),
    ga.unit.Observation(ga.MeanSequence()),
    ga.Chosen(),
    ga.Rejected(ga.MeanSequence()),
    ga.PreferenceProbability(beta=0.5),
    ga.unit.QuantilePair(),
    ga.unit.QuantileMargin(),
]
LATER_CHARTS: list[ga.Chart] = [ga.Sigmoid(0.5), ga.Sigmoid(1.0, 0.7), ga.chart.Probability(0.3)]
LATER_OPTIMIZATION: list[ga.OptimizationGeometry] = [
    ga.Indicator(),
    ga.Indicator(-math.inf, 0.0),
    ga.Indicator(-0.5, 0.5),
    ga.NegativeEntropy(),
    ga.optimization.SquaredHinge(0.5),
    ga.Linear(),
    ga.AdvantageScaled(ga.ChiSquare(5.0)),
    ga.AdvantageScaled(2 * ga.Logistic(0.5)),  # type: ignore[arg-type]
    ga.optimization.SigmoidClip(),
    ga.optimization.SigmoidClip(3.0, 0.5),
    ga.optimization.LogRatioModulated(1.0, 0.5),
    ga.optimization.ImplicitNegative(),
    ga.optimization.ImplicitNegative(0.2, standardised=True),
    ga.optimization.VariationalBound(),
    ga.optimization.VariationalBound("kl", 0.5),
    ga.optimization.VariationalBound("reverse_kl"),
    ga.optimization.VariationalBound("hellinger", 0.7),
    ga.optimization.VariationalBound("jensen_shannon"),
    ga.optimization.VariationalBound("total_variation"),
    ga.ImportanceWeighted(ga.ReverseKL()),
    ga.ImportanceWeighted(ga.ChiSquare(), differentiate_weight=False),
]
GROUP_OPTIMIZATION: list[ga.OptimizationGeometry] = [
    ga.GroupPotential(),
    ga.GroupPotential(ga.PearsonChiSquare(), 0.5),
    ga.GroupPotential(ga.CressieRead(1.5)),
    ga.GroupPotential(ga.JensenShannon(), 0.3),
    2.0 * ga.GroupPotential(ga.ReverseKullbackLeibler()),  # type: ignore[list-item]
    ga.optimization.GroupReverseKL(0.7),
    ga.optimization.GroupContrast(0.7),
    ga.optimization.PlackettLuce(),
    ga.optimization.GroupVariance(0.7),
    ga.optimization.GroupPairs(0.8),
    ga.optimization.GroupPairs(margin=0.5),
    ga.optimization.GroupDiscrimination(),
    ga.optimization.GroupDiscrimination(0.7),
]
"""Potentials that couple the responses to one prompt."""
LATER_SAMPLING: list[ga.SamplingGeometry] = [
    ga.SignWeighted(ga.GroupAdvantage(), 1.0, 0.5),
    ga.sampling.LengthWeightedBaseline(),
    ga.Whitened(),
    ga.Whitened(ga.GroupAdvantage(), ddof=0),
    ga.sampling.SignalScale(),
    ga.sampling.PassAtK(2),
    ga.sampling.MaxAtK(),
    ga.sampling.MaxAtK("group"),
    ga.BestOfN(),
    ga.ExponentiatedAdvantage(),
    ga.ExponentiatedAdvantage(cap=None),
    ga.ExponentiatedAdvantage(ga.GroupAdvantage(), 0.3, 2.0),
    ga.sampling.ExponentialAdvantage(),
    ga.sampling.LogMeanExpBaseline(),
    ga.sampling.TaperedImportance(),
    ga.sampling.TaperedImportance(ga.GroupAdvantage(), (0.8, 1.5), (0.1, 3.0)),
    ga.TruncatedImportance(ga.sampling.TaperedImportance(ga.GroupAdvantage()), sequence=True),
    ga.sampling.GammaImportance(ga.GroupAdvantage()),
    ga.sampling.DivergenceMask(ga.GroupAdvantage()),
    ga.sampling.DivergenceMask(ga.GroupAdvantage(), "kl"),
    ga.sampling.DivergenceMask(ga.GroupAdvantage(), low=0.02, high=0.2, cap=None),
    ga.sampling.DivergenceMask(ga.GroupAdvantage(), "kl", low=0.01, high=0.1, cap=1.2),
    ga.ImportanceRatio(),
    ga.ImportanceRatio(1.3),
    ga.MaskedImportance(ga.GroupAdvantage(), low=0.8, high=1.5),
    ga.MaskedImportance(ga.Advantage(), low=0.5, high=2.0, level="sequence", importance="sequence"),
    ga.MaskedImportance(ga.Advantage(), high=0.1, level="max", metric="k3", importance="none"),
    ga.MaskedImportance(ga.Escort(0.4), high=0.05, level="sequence", metric="k1", sign_aware="negative"),
    ga.MaskedImportance(ga.Advantage(), high=0.05, metric="binary_kl", importance="none"),
    ga.MaskedImportance(
        ga.TruncatedImportance(ga.Advantage()), -0.05, 0.05, metric="tv", sign_aware="outward", numerator="policy"
    ),
    ga.sampling.SecondMomentMask(ga.GroupAdvantage()),
    ga.sampling.EffectiveImportance(ga.GroupAdvantage(), 0.95),
    ga.sampling.EffectiveImportance(ga.Advantage(), 0.8, sequence=True),
    ga.sampling.OffPolicyBaseline(),
    ga.sampling.GradientPreservingClip(ga.GroupAdvantage(), 0.05, 0.1, beta_low=0.5),
    ga.sampling.FlippedImportance(ga.GroupAdvantage(), 0.05, 0.1, cap=1.2),
    ga.sampling.RingMask(ga.GroupAdvantage(), 0.05, 0.05, 0.1, 0.1),
    ga.sampling.RingMask(importance=True),
    ga.sampling.FutureKL(ga.TruncatedImportance(ga.Advantage()), 2.0, (0.8, 1.2), cap=1.2, safety=1.1),
    ga.sampling.BalancedClip(ga.GroupAdvantage(), (0.8, 0.95), (1.05, 1.3), target=0.6),
    ga.sampling.GroupExpectation(ga.GroupAdvantage()),
    ga.sampling.GroupExpectation(low=0.5, high=1.0),
    ga.sampling.RelativeAdvantage(),
    ga.sampling.RelativeAdvantage(epsilon=0.0),
    ga.sampling.ShiftedBaseline(shift=-0.1),
    ga.sampling.DecoupledAdvantage(),
    ga.sampling.DecoupledAdvantage((0.5,), ddof=0, epsilon=0.0),
    ga.sampling.DeviationScaled(),
    ga.sampling.DeviationScaled(ga.sampling.DecoupledAdvantage(), ddof=0, epsilon=0.0),
    ga.sampling.ProbabilityWeighted(),
    ga.sampling.ProbabilityWeighted(ga.GroupAdvantage(), 1.0, 1.0),
    ga.sampling.ProbabilityWeighted(ga.ClippedImportance(ga.Advantage(), high=1.2), 0.5, 2.0),
    ga.sampling.ProbabilityGated(ga.GroupAdvantage()),
    ga.KLReward(ga.GroupAdvantage(), ga.Linear()),
    ga.KLReward(ga.GroupAdvantage(), ga.ReverseKL(), unit="token"),
    ga.KLReward(ga.GroupAdvantage(), ga.ChiSquare(), unit="return"),
    ga.TrustRegion(kl=0.05),
    ga.TrustRegion(chi2=0.04, within="group"),
    ga.EscortESS(0.7),
    ga.sampling.GroupTarget(),
    ga.sampling.GroupTarget(ga.GroupAdvantage(scale="group"), ga.PearsonChiSquare(), 0.5, "mean"),
    ga.sampling.GroupTarget(temperature=0.5, prior="sum"),
    ga.sampling.SignLabel(),
    ga.sampling.SignLabel(mixed=True),
    ga.sampling.TeacherRatio(),
    ga.sampling.TeacherRatio(current=True),
    ga.sampling.KLViolation(limit=0.01),
    ga.EscortESS(0.9, temperature=0.3, scaled=True, within="group"),
]
PAIR_SAMPLING: list[ga.SamplingGeometry] = [ga.Margin(2.0), ga.SoftLabel(0.5), ga.sampling.PolicyWeight(ga.Label(0.3))]
LATER_DIVERGENCES: list[ga.Divergence] = [ga.divergences.SkewJensenShannon(weight) for weight in (0.1, 0.3, 0.5, 0.9)]

OFFSETS: list[ga.Offset] = [ga.NoOffset(), ga.Surrogate(), ga.FenchelYoung()]


SLOTS: dict[type, list[Any]] = {
    ga.Unit: UNITS + LATER_UNITS,
    ga.Chart: CHARTS + LATER_CHARTS,
    ga.SamplingGeometry: SAMPLING + LATER_SAMPLING,
    ga.OptimizationGeometry: OPTIMIZATION + LATER_OPTIMIZATION + GROUP_OPTIMIZATION,
    ga.Measure: MEASURES + LENGTH_MEASURES,
    ga.Offset: OFFSETS,
    ga.Divergence: DIVERGENCES + LATER_DIVERGENCES,
}
"""The members of every slot, by what they are instances of."""

APART: dict[str, str] = {
    "LogOdds": "a chart of log-probabilities, defined below 0 alone: tests/recipes/test_slots.py",
    "StraightThrough": "has the gradient of another potential, on purpose: tests/recipes/test_slots.py",
    "TabulatedChart": "is measured off a loss: tests/test_identify.py",
    "Moved": "likewise",
    "Margin": "a drive of pairs, while the laws speak of rows: test_a_later_member_composes",
    "SoftLabel": "likewise",
    "PolicyWeight": "likewise",
}
"""Classes that no law is run over -> why, and what tests them."""


def classes(kind: type) -> set[type]:
    """The concrete public classes of a slot in the package. What adapters make for their hosts is tested there."""
    found = {kind} | {c for sub in kind.__subclasses__() for c in classes(sub)}
    return {
        c
        for c in found
        if c.__module__.startswith("geomalign.") and not c.__module__.startswith("geomalign.adapters.")
        if not c.__name__.startswith("_") and not inspect.isabstract(c)
    }


def refuses(made: Callable[[], object], said: str) -> None:
    """A ValueError whose text begins with `said`: who refuses which value, and what it expects."""
    with pytest.raises(ValueError) as refused:
        made()
    assert str(refused.value)[: len(said)] == said


def coupled() -> list[str]:
    """The recipes of which a term couples the responses to one prompt, so that these are evaluated together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ga.UnboundedLossWarning)
        terms = {name: ga.recipes.get(name).terms for name in ga.recipes.names()}
    return [name for name, found in terms.items() if any(term.coupling is not None for _, term in found)]


def recipes() -> dict[str, ga.BaseObjective]:
    """Every recipe at its defaults, and at the settings that change its slots."""
    variants = {
        "grpo(beta)": ga.recipes.grpo(beta=0.04),
        "grpo(batch)": ga.recipes.grpo(scale_rewards="batch"),
        "ppo(beta)": ga.recipes.ppo(beta=0.1),
        "ppo(kl)": ga.recipes.ppo(epsilon=None, beta=0.1),
        "ppo(dual)": ga.recipes.ppo(dual_clip=3.0),
        "dpo(smooth)": ga.recipes.dpo(label_smoothing=0.1),
        "ipo(sum)": ga.recipes.ipo(normalize="sum"),
        "opo(ratio)": ga.recipes.opo(form="ratio"),
        "opo(sum)": ga.recipes.opo(normalize="sum"),
        "gopo(free)": ga.recipes.gopo(bounded=False),
    }
    with warnings.catch_warnings():
        # One published loss is unbounded below (robust DPO), and says so whenever it is made.
        warnings.simplefilter("ignore", ga.UnboundedLossWarning)
        return {name: ga.recipes.get(name) for name in ga.recipes.names()} | variants
