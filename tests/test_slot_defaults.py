"""What a class of a slot has where nothing is given."""

from __future__ import annotations

import pytest

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
]


@pytest.mark.parametrize("kind, fields", DEFAULTS, ids=lambda x: getattr(x, "__name__", ""))
def test_what_a_class_has_where_nothing_is_given(kind: type, fields: str) -> None:
    assert repr(kind()) == f"{kind.__name__}({fields})"


def test_defaults_beside_an_argument() -> None:
    assert ga.AlphaDivergence(0.5).mu == ga.FDivergence(ga.JensenShannon()).mu == 1.0
    assert ga.ImportanceWeighted(ga.ReverseKL()).differentiate_weight is True
    assert ga.measure.LengthPreference(2.0).spread == pytest.approx(1 / 9)
