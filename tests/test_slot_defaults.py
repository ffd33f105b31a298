"""What a class of a slot has where nothing is given."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch

import geomalign as ga
from geomalign import optimization, sampling

DEFAULTS = [
    (ga.Linear, "slope=1.0"),
    (ga.ChiSquare, "mu=1.0"),
    (ga.KL, "beta=1.0"),
    (ga.ReverseKL, "beta=1.0"),
    (ga.Logistic, "beta=1.0"),
    (ga.Hinge, "beta=1.0"),
    (optimization.SquaredHinge, "beta=1.0"),
    (ga.Indicator, "low=0.0, high=1.0"),
    (ga.Clip, "low=0.2, high=0.2, dual=None"),
    (optimization.SigmoidClip, "positive=1.0, negative=1.05"),
    (optimization.LogRatioModulated, "beta=0.1, tau=0.05"),
    (ga.GroupPotential, "divergence=KullbackLeibler(), temperature=1.0"),
    (optimization.GroupReverseKL, "temperature=1.0"),
    (optimization.GroupContrast, "temperature=1.0"),
    (optimization.GroupVariance, "mu=1.0"),
    (optimization.GroupPairs, "beta=1.0, margin=0.0"),
    (optimization.GroupDiscrimination, "temperature=None"),
    (optimization.ImplicitNegative, "floor=1.0, standardised=False"),
    (sampling.GradientPreservingClip, "of=Advantage(), low=0.2, high=0.2, beta_low=1.0, beta_high=1.0"),
    (sampling.FlippedImportance, "of=Advantage(), low=0.2, high=0.2, cap=3.0"),
    (sampling.RingMask, "of=Advantage(), low=0.2, high=0.2, outer_low=0.6, outer_high=2.0, importance=False"),
    (sampling.FutureKL, "of=Advantage(), halflife=32.0, bounds=(1.0, 1.2), cap=10.0, safety=4.0"),
    (sampling.BalancedClip, "of=Advantage(), low=(0.6, 0.9), high=(1.2, 3.0), step=0.05, target=0.5"),
    (sampling.GroupExpectation, "of=Advantage(), low=0.2, high=0.2"),
    (sampling.RelativeAdvantage, "epsilon=1e-06"),
    (sampling.ShiftedBaseline, f"of={ga.GroupAdvantage()!r}, shift=0.0"),
    (sampling.DecoupledAdvantage, "weights=None, ddof=1, epsilon=1e-06"),
    (sampling.DeviationScaled, f"of={ga.GroupAdvantage()!r}, ddof=1, epsilon=1e-06"),
    (sampling.ProbabilityWeighted, f"of={ga.Label()!r}, power=1.0, complement=0.0"),
    (sampling.ProbabilityGated, "of=Advantage(), scale=2.0, steepness=9.0, offset=0.25, low=1.0, high=1.4"),
    (ga.GroupAdvantage, "baseline='group', scale='none', ddof=1, epsilon=1e-06"),
    (sampling.LogMeanExpBaseline, "temperature=0.5"),
    (sampling.DivergenceMask, "of=Advantage(), divergence='tv', low=0.2, high=0.2, cap=20.0"),
    (sampling.ExponentialAdvantage, f"alpha=0.5, of={ga.GroupAdvantage()!r}, scale=1.0"),
    (ga.ExponentiatedAdvantage, "of=Advantage(), temperature=1.0, cap=20.0"),
    (sampling.GammaImportance, "of=Advantage(), positive=(2.0, 3.0), negative=(3.0, 2.0)"),
    (sampling.TaperedImportance, "of=Advantage(), positive=(1.0, 1.0), negative=(0.0, 1.0)"),
    (sampling.GroupTarget, f"of={ga.GroupAdvantage()!r}, divergence=KullbackLeibler(), temperature=1.0, prior=None"),
    (ga.ImportanceRatio, "cap=None"),
    (sampling.KLViolation, "limit=0.0001, stiffness=1000.0"),
    (ga.Label, "strength=1.0"),
    (ga.Margin, "scale=1.0"),
    (ga.SoftLabel, "strength=1.0, scale=1.0"),
    (sampling.MaxAtK, "scale='none', epsilon=1e-06"),
    (sampling.PassAtK, "k=4, threshold=0.5"),
    (sampling.PolicyWeight, f"of={ga.Label()!r}"),
    (sampling.SecondMomentMask, "of=Advantage(), threshold=0.04, importance='token'"),
    (sampling.SignLabel, f"of={ga.GroupAdvantage('none')!r}, mixed=False"),
    (ga.SignWeighted, "of=Advantage(), positive=1.0, negative=1.0"),
    (sampling.SignalScale, f"of={ga.GroupAdvantage()!r}"),
    (sampling.TeacherRatio, "current=False"),
    (ga.Whitened, "of=Advantage(), ddof=1, epsilon=1e-08"),
    (optimization.VariationalBound, "divergence='pearson', beta=1.0"),
    (ga.divergences.SkewJensenShannon, "weight=0.5"),
    (ga.LogRatio, "scale=1.0"),
    (ga.chart.Probability, "prior=0.5"),
    (ga.Sigmoid, "scale=1.0, shift=0.0"),
    (ga.unit.BroadcastSequence, "of=MeanSequence()"),
    (ga.unit.Chosen, "of=Sequence()"),
    (ga.unit.Rejected, "of=Sequence()"),
    (ga.unit.ClampedTokens, "of=MeanSequence(), low=None, high=None"),
    (ga.unit.Observation, "of=Token()"),
    (ga.Pair, "of=Sequence(), margin=0.0"),
    (ga.PreferenceProbability, "of=Sequence(), beta=1.0"),
    (ga.unit.QuantileMargin, "of=Sequence()"),
    (ga.unit.QuantilePair, "of=Sequence()"),
    (ga.unit.Shifted, "of=Sequence(), origin=0.0"),
]


@pytest.mark.parametrize("kind, fields", DEFAULTS, ids=lambda x: getattr(x, "__name__", ""))
def test_what_a_class_has_where_nothing_is_given(kind: type, fields: str) -> None:
    assert repr(kind()) == f"{kind.__name__}({fields})"


MASKED = "level='token', metric='ratio', sign_aware='no', importance='token', numerator='old', denominator='behavior'"
BESIDE: list[tuple[object, str]] = [
    (ga.ClippedImportance(ga.Advantage()), "of=Advantage(), low=None, high=None"),
    (sampling.EffectiveImportance(ga.Advantage()), "of=Advantage(), target=0.9, sequence=False"),
    (ga.TruncatedImportance(ga.Advantage()), "of=Advantage(), cap=2.0, sequence=False"),
    (ga.Escort(0.5), "alpha=0.5, temperature=1.0, scaled=False, inverse_probability=False"),
    (ga.EscortESS(0.5), "target=0.5, temperature=1.0, scaled=False, within='batch'"),
    (ga.MaskedImportance(high=2.0), f"of=Advantage(), low=None, high=2.0, {MASKED}"),
    (
        ga.TrustRegion(chi2=0.1),
        f"of={ga.GroupAdvantage()!r}, chi2=0.1, kl=None, divergence=None, radius=None, within='batch', bounded=False",
    ),
    (ga.AlphaDivergence(0.5), "order=0.5, mu=1.0"),
    (ga.FDivergence(ga.JensenShannon()), "of=JensenShannon(), mu=1.0"),
    (ga.ImportanceWeighted(ga.KL()), f"of={ga.KL()!r}, differentiate_weight=True"),
    (ga.measure.LengthPreference(2.0), f"preference=2.0, spread={1 / 9}"),
]
"""Those that need an argument."""


@pytest.mark.parametrize("made, fields", BESIDE, ids=[type(made).__name__ for made, _ in BESIDE])
def test_what_a_class_has_beside_an_argument(made: object, fields: str) -> None:
    assert repr(made) == f"{type(made).__name__}({fields})"


def test_no_class_with_a_default_is_missing() -> None:
    """`ConvexPotential` prints the ends of its domain only where they are given."""
    rooms = (ga.unit, ga.chart, ga.sampling, ga.optimization, ga.divergences, ga.measure)
    classes = {x for room in rooms for x in vars(room).values() if inspect.isclass(x) and dataclasses.is_dataclass(x)}
    having = {x for x in classes if any(f.default is not dataclasses.MISSING for f in dataclasses.fields(x))}
    assert having == {kind for kind, _ in DEFAULTS} | {type(made) for made, _ in BESIDE} | {ga.ConvexPotential}
    assert ga.ConvexPotential(torch.exp).domain == ga.Interval()


def test_defaults_beside_an_argument() -> None:
    assert ga.AlphaDivergence(0.5).mu == ga.FDivergence(ga.JensenShannon()).mu == 1.0
    assert ga.ImportanceWeighted(ga.ReverseKL()).differentiate_weight is True
    assert ga.measure.LengthPreference(2.0).spread == pytest.approx(1 / 9)
