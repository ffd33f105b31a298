"""What every class of the sampling slot says of itself: its locality, what it reads, the range of its drives, its
formula, and whom its constructor names when it refuses an argument."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import members
import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign import sampling
from geomalign._util.types import Interval, Locality

R, T, S, G, B = Locality.ROLLOUT, Locality.TOKEN, Locality.SEQUENCE, Locality.GROUP, Locality.BATCH
CISPO = ga.ClippedImportance(ga.Advantage(), high=1.2)
TEACHER = sampling.TeacherRatio()
Masked = ga.MaskedImportance
INF, NAN = math.inf, math.nan

SAID: list[tuple[ga.SamplingGeometry, Locality, str, tuple[float, float]]] = [
    # geometry, locality, what it does: (w)eighs by the policy, reads a (r)atio, reads the re(f)erence; range of drives
    (ga.Advantage(), R, "", (-INF, INF)),
    (ga.GroupAdvantage(), R, "", (-INF, INF)),
    (sampling.LengthWeightedBaseline(), R, "", (-INF, INF)),
    (sampling.LogMeanExpBaseline(), R, "", (-INF, INF)),
    (sampling.RelativeAdvantage(), R, "", (-INF, INF)),
    (sampling.ShiftedBaseline(), R, "", (-INF, INF)),
    (sampling.ShiftedBaseline(CISPO), T, "wr", (-INF, INF)),
    (sampling.DecoupledAdvantage(), R, "", (-INF, INF)),
    (sampling.DeviationScaled(), R, "", (-INF, INF)),
    (sampling.BalancedClip(), B, "wr", (-INF, INF)),
    (sampling.GroupExpectation(), G, "wr", (-INF, INF)),
    (sampling.GroupExpectation(sampling.BalancedClip()), B, "wr", (-INF, INF)),
    (sampling.KLViolation(), B, "wr", (0.0, INF)),
    (ga.Escort(0.5), R, "", (-INF, INF)),
    (ga.ExponentiatedAdvantage(), R, "", (0.0, 20.0)),
    (ga.ExponentiatedAdvantage(cap=None), R, "", (0.0, INF)),
    (ga.ExponentiatedAdvantage(CISPO, cap=3.0), T, "wr", (0.0, 3.0)),
    (sampling.ExponentialAdvantage(), R, "", (-INF, INF)),
    (ga.TruncatedImportance(ga.Advantage()), R, "", (-INF, INF)),
    (ga.TruncatedImportance(TEACHER), R, "f", (-INF, INF)),
    (ga.TruncatedImportance(CISPO), T, "wr", (-INF, INF)),
    (CISPO, T, "wr", (-INF, INF)),
    (ga.ClippedImportance(TEACHER), T, "wrf", (-INF, INF)),
    (sampling.TaperedImportance(), S, "wr", (-INF, INF)),
    (sampling.GammaImportance(), S, "wr", (-INF, INF)),
    (sampling.PolicyWeight(), G, "w", (-INF, INF)),
    (sampling.PolicyWeight(CISPO), G, "wr", (-INF, INF)),
    (ga.ImportanceRatio(), T, "w", (0.0, INF)),
    (ga.ImportanceRatio(1.5), T, "w", (0.0, 1.5)),
    (ga.Label(0.5), R, "", (0.5, 0.5)),
    (ga.Margin(), R, "", (-INF, INF)),
    (ga.SoftLabel(2.0), R, "", (0.0, 2.0)),
    (ga.SoftLabel(-2.0), R, "", (-2.0, 0.0)),
    (sampling.DivergenceMask(), T, "wr", (-INF, INF)),
    (Masked(high=2.0), R, "w", (-INF, INF)),
    (Masked(CISPO, high=2.0), T, "wr", (-INF, INF)),
    (Masked(high=2.0, importance="none", numerator="policy"), T, "w", (-INF, INF)),
    (Masked(high=2.0, importance="sequence", numerator="policy"), S, "w", (-INF, INF)),
    (Masked(high=2.0, level="sequence", importance="none", numerator="policy"), S, "w", (-INF, INF)),
    (Masked(high=2.0, level="max", numerator="policy"), S, "w", (-INF, INF)),
    (Masked(sampling.BalancedClip(), high=2.0, level="max", numerator="policy"), B, "wr", (-INF, INF)),
    (sampling.SecondMomentMask(), R, "", (-INF, INF)),
    (sampling.EffectiveImportance(ga.Advantage()), R, "", (-INF, INF)),
    (sampling.OffPolicyBaseline(), R, "", (-INF, INF)),
    (sampling.ProbabilityWeighted(), T, "w", (0.0, 1.0)),
    (sampling.ProbabilityWeighted(ga.Label(-0.5)), T, "w", (-0.5, 0.0)),
    (sampling.ProbabilityWeighted(TEACHER), T, "wf", (-INF, INF)),
    (sampling.ProbabilityGated(), T, "w", (-INF, INF)),
    (sampling.ProbabilityGated(CISPO), T, "wr", (-INF, INF)),
    (sampling.PassAtK(), R, "", (-INF, INF)),
    (sampling.MaxAtK(), R, "", (-INF, INF)),
    (ga.BestOfN(), R, "", (0.0, INF)),
    (sampling.GradientPreservingClip(), T, "wr", (-INF, INF)),
    (sampling.FlippedImportance(), T, "wr", (-INF, INF)),
    (sampling.RingMask(), T, "wr", (-INF, INF)),
    (sampling.FutureKL(), S, "wr", (-INF, INF)),
    (sampling.GroupTarget(), R, "", (-1.0, INF)),
    (sampling.SignLabel(), R, "", (-1.0, 1.0)),
    (TEACHER, R, "f", (-INF, INF)),
    (sampling.TeacherRatio(current=True), T, "wf", (-INF, INF)),
    (ga.BoundedProjection(ga.Advantage(), 1.0), R, "", (-INF, INF)),
    (ga.SignWeighted(), R, "", (-INF, INF)),
    (ga.SignWeighted(sampling.TeacherRatio(current=True)), T, "wf", (-INF, INF)),
    (ga.Whitened(), R, "", (-INF, INF)),
    (ga.Whitened(sampling.FutureKL()), S, "wr", (-INF, INF)),
    (sampling.SignalScale(), R, "", (-INF, INF)),
    (ga.TrustRegion(chi2=0.1), R, "", (-INF, INF)),
    (ga.TrustRegion(CISPO, kl=0.1), T, "wr", (-INF, INF)),
    (ga.EscortESS(0.5), R, "", (-INF, INF)),
]

CLASSES = {
    kind
    for kind in vars(sampling).values()
    if inspect.isclass(kind) and issubclass(kind, ga.SamplingGeometry) and not inspect.isabstract(kind)
}


def test_every_sampling_geometry_has_a_line_here() -> None:
    assert {type(of) for of, *_ in SAID} == CLASSES


@pytest.mark.parametrize("of, locality, reads, drives", SAID, ids=[members.ident(of) for of, *_ in SAID])
def test_what_a_sampling_geometry_says_of_itself(
    of: ga.SamplingGeometry, locality: Locality, reads: str, drives: tuple[float, float]
) -> None:
    assert of.locality is locality
    said = "w" * of.reweights + "r" * of.needs_ratio + "f" * of.needs_reference
    assert said == reads
    assert of.drive_range == Interval(*drives)


def test_whose_drive_does_not_depend_on_the_samples() -> None:
    """A constant label, also where the policy's probability weighs it; a range that is open on one side is none."""
    constant = {members.ident(of) for of, *_ in SAID if not of.driven}
    assert constant == {
        members.ident(of)
        for of in (ga.Label(0.5), sampling.ProbabilityWeighted(), sampling.ProbabilityWeighted(ga.Label(-0.5)))
    }


# ---- who is named in a refusal

INNER: dict[type, Callable[[Any], object]] = {
    ga.BoundedProjection: lambda of: ga.BoundedProjection(of, 1.0),
    ga.TrustRegion: lambda of: ga.TrustRegion(of, chi2=0.1),
    ga.MaskedImportance: lambda of: ga.MaskedImportance(of, high=2.0),
}
"""Those that need another argument beside `of`."""
WRAPPERS = sorted(
    (kind for kind in CLASSES if "of" in inspect.signature(kind).parameters), key=lambda kind: kind.__name__
)


@pytest.mark.parametrize("kind", WRAPPERS, ids=lambda kind: kind.__name__)
def test_the_owner_of_what_is_no_sampling_geometry_is_named(kind: Any) -> None:
    with pytest.raises(ValueError) as refused:
        INNER.get(kind, lambda of: kind(of=of))("group")
    expected = f"{kind.__name__}(of='group'): expected a SamplingGeometry instance such as GroupAdvantage()."
    assert str(refused.value) == expected


@pytest.mark.parametrize("kind", [sampling.GroupTarget, sampling.SignLabel])
def test_a_target_is_of_drives_that_are_made_once(kind: Any) -> None:
    with pytest.raises(ValueError) as refused:
        kind(of=CISPO)
    assert str(refused.value).startswith(f"{kind.__name__}(of={CISPO!r}): a target is made once per rollout")
    assert kind(of=ga.Escort(0.5)).of == ga.Escort(0.5)


A = ga.Advantage()
BOUNDS = "bounds of a ratio, 0 ≤ low ≤ high < ∞."
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: ga.GroupAdvantage("mean"), "GroupAdvantage(baseline='mean'): choose one of 'none', 'group',"),
    (lambda: ga.GroupAdvantage(scale="std"), "GroupAdvantage(scale='std'): choose one of 'none', 'group', 'batch'."),
    (lambda: ga.GroupAdvantage(ddof=2), "GroupAdvantage(ddof=2): choose one of 0, 1."),
    (lambda: ga.GroupAdvantage(epsilon=-1e-9), "GroupAdvantage(epsilon=-1e-09): a number ≥ 0, added to a standard"),
    (lambda: sampling.LogMeanExpBaseline(0.0), "LogMeanExpBaseline(temperature=0.0): a positive number, β₁ in units"),
    (lambda: sampling.RelativeAdvantage(-1.0), "RelativeAdvantage(epsilon=-1.0): a number ≥ 0, added to a mean reward"),
    (lambda: sampling.ShiftedBaseline(shift=INF), "ShiftedBaseline(shift=inf): a finite number, in units of the drive"),
    (lambda: sampling.DecoupledAdvantage([1.0]), "DecoupledAdvantage(weights=[1.0]): a tuple of numbers, one per"),  # type: ignore[arg-type]
    (lambda: sampling.DecoupledAdvantage((1.0, NAN)), "DecoupledAdvantage(weights[1]=nan): a finite number, the w"),
    (lambda: sampling.DecoupledAdvantage(ddof=2), "DecoupledAdvantage(ddof=2): choose one of 0, 1."),
    (lambda: sampling.DecoupledAdvantage(epsilon=-1.0), "DecoupledAdvantage(epsilon=-1.0): a number ≥ 0, added to"),
    (lambda: sampling.DeviationScaled(ddof=2), "DeviationScaled(ddof=2): choose one of 0, 1."),
    (lambda: sampling.DeviationScaled(epsilon=-1.0), "DeviationScaled(epsilon=-1.0): a number ≥ 0, added to"),
    (lambda: sampling.BalancedClip(low=0.6), "BalancedClip(low=0.6): two numbers, the first and the last place of"),  # type: ignore[arg-type]
    (lambda: sampling.BalancedClip(high=1.2), "BalancedClip(high=1.2): two numbers, the first and the last place of"),  # type: ignore[arg-type]
    (lambda: sampling.BalancedClip(low=(0.9, 0.6)), "BalancedClip(low=(0.9, 0.6), high=(1.2, 3.0)): ratios, 0 ≤ low"),
    (lambda: sampling.BalancedClip(low=(-0.1, 0.6)), "BalancedClip(low=(-0.1, 0.6), high=(1.2, 3.0)): ratios"),
    (lambda: sampling.BalancedClip(low=(0.6, 1.1)), "BalancedClip(low=(0.6, 1.1), high=(1.2, 3.0)): ratios"),
    (lambda: sampling.BalancedClip(high=(0.9, 2.0)), "BalancedClip(low=(0.6, 0.9), high=(0.9, 2.0)): ratios"),
    (lambda: sampling.BalancedClip(high=(3.0, 2.0)), "BalancedClip(low=(0.6, 0.9), high=(3.0, 2.0)): ratios"),
    (lambda: sampling.BalancedClip(high=(3.0, INF)), "BalancedClip(low=(0.6, 0.9), high=(3.0, inf)): ratios"),
    (lambda: sampling.BalancedClip(step=0.0), "BalancedClip(step=0.0): a positive number, the step of a wall"),
    (lambda: sampling.BalancedClip(target=1.1), "BalancedClip(target=1.1): a number in [0, 1], a share of the"),
    (lambda: sampling.BalancedClip(target=-0.1), "BalancedClip(target=-0.1): a number in [0, 1]"),
    (lambda: sampling.GroupExpectation(low=1.0), "GroupExpectation(low=1.0): a number in [0, 1), the distance of"),
    (lambda: sampling.GroupExpectation(low=-0.1), "GroupExpectation(low=-0.1): a number in [0, 1)"),
    (lambda: sampling.GroupExpectation(high=-0.1), "GroupExpectation(high=-0.1): a number ≥ 0, the distance of a wall"),
    (lambda: sampling.KLViolation(limit=-1.0), "KLViolation(limit=-1.0): a number ≥ 0, a divergence per event"),
    (lambda: sampling.KLViolation(stiffness=0.0), "KLViolation(stiffness=0.0): a positive number, of the squared"),
    (lambda: ga.Escort(1.1), "Escort(alpha=1.1): a number in [0, 1], 1 is uniform and 0 target-driven"),
    (lambda: ga.Escort(-0.1), "Escort(alpha=-0.1): a number in [0, 1]"),
    (lambda: ga.Escort(0.5, 0.0), "Escort(temperature=0.0): a positive number, the temperature of the target policy"),
    (lambda: ga.Escort(0.5, scaled=1), "Escort(scaled=1): True or False."),  # type: ignore[arg-type]
    (lambda: ga.Escort(0.5, inverse_probability="no"), "Escort(inverse_probability='no'): True or False."),  # type: ignore[arg-type]
    (lambda: ga.ExponentiatedAdvantage(temperature=0.0), "ExponentiatedAdvantage(temperature=0.0): a positive number"),
    (lambda: ga.ExponentiatedAdvantage(cap=0.0), "ExponentiatedAdvantage(cap=0.0): a positive number, the bound of an"),
    (lambda: sampling.ExponentialAdvantage(1.1), "ExponentialAdvantage(alpha=1.1): a number in [0, 1], the share of"),
    (lambda: sampling.ExponentialAdvantage(-0.1), "ExponentialAdvantage(alpha=-0.1): a number in [0, 1]"),
    (lambda: sampling.ExponentialAdvantage(scale=0.0), "ExponentialAdvantage(scale=0.0): a positive number, the size"),
    (lambda: ga.TruncatedImportance(A, 0.0), "TruncatedImportance(cap=0.0): a positive number, the bound of an"),
    (lambda: ga.TruncatedImportance(A, sequence=1), "TruncatedImportance(sequence=1): True or False."),  # type: ignore[arg-type]
    (lambda: ga.ClippedImportance(A, 1.0, 1.0), "ClippedImportance(low=1.0, high=1.0): bounds of a ratio, 0 ≤ low < h"),
    (lambda: ga.ClippedImportance(A, -0.1), "ClippedImportance(low=-0.1, high=None): bounds of a ratio"),
    (lambda: ga.ClippedImportance(A, high=0.0), "ClippedImportance(low=None, high=0.0): bounds of a ratio"),
    (lambda: sampling.TaperedImportance(positive=(2.0, 1.0)), f"TaperedImportance(positive=(2.0, 1.0)): {BOUNDS}"),
    (lambda: sampling.TaperedImportance(positive=(-1.0, 1.0)), f"TaperedImportance(positive=(-1.0, 1.0)): {BOUNDS}"),
    (lambda: sampling.TaperedImportance(negative=(0.0, INF)), f"TaperedImportance(negative=(0.0, inf)): {BOUNDS}"),
    (lambda: sampling.TaperedImportance(negative=1.0), "TaperedImportance(negative=1.0): two numbers, the bounds"),  # type: ignore[arg-type]
    (lambda: sampling.GammaImportance(positive=(-1.0, 1.0)), "GammaImportance(positive=(-1.0, 1.0)): a shape k ≥ 0"),
    (lambda: sampling.GammaImportance(negative=(1.0, 0.0)), "GammaImportance(negative=(1.0, 0.0)): a shape k ≥ 0"),
    (lambda: sampling.GammaImportance(negative=None), "GammaImportance(negative=None): two numbers, a shape k and a"),  # type: ignore[arg-type]
    (lambda: ga.ImportanceRatio(0.0), "ImportanceRatio(cap=0.0): a positive number, the bound of an importance weight"),
    (lambda: ga.Label(INF), "Label(strength=inf): a finite number."),
    (lambda: ga.Margin(NAN), "Margin(scale=nan): a finite number, in drives per reward."),
    (lambda: ga.SoftLabel(INF), "SoftLabel(strength=inf): a finite number."),
    (lambda: ga.SoftLabel(scale=0.0), "SoftLabel(scale=0.0): a positive number, in log-odds per reward."),
    (lambda: sampling.DivergenceMask(divergence="js"), "DivergenceMask(divergence='js'): choose one of 'tv', 'kl'."),
    (lambda: sampling.DivergenceMask(low=0.0), "DivergenceMask(low=0.0): a number in (0, ∞], a threshold of the"),
    (lambda: sampling.DivergenceMask(high=0.0), "DivergenceMask(high=0.0): a number in (0, ∞], a threshold of the"),
    (lambda: sampling.DivergenceMask(cap=0.0), "DivergenceMask(cap=0.0): a positive number, the bound of an"),
    (lambda: Masked(high=2.0, level="row"), "MaskedImportance(level='row'): choose one of 'token', 'sequence', 'max'."),
    (lambda: Masked(high=2.0, metric="kl"), "MaskedImportance(metric='kl'): choose one of 'ratio', 'k1', 'k2', 'k3',"),
    (lambda: Masked(high=2.0, sign_aware="yes"), "MaskedImportance(sign_aware='yes'): choose one of 'no', 'negative',"),
    (lambda: Masked(high=2.0, importance="row"), "MaskedImportance(importance='row'): choose one of 'none', 'token',"),
    (lambda: Masked(high=2.0, numerator="new"), "MaskedImportance(numerator='new'): choose one of 'old', 'policy'."),
    (lambda: Masked(high=2.0, denominator="policy"), "MaskedImportance(denominator='policy'): choose one of 'behav"),
    (lambda: Masked(high="x"), "MaskedImportance(high='x'): a number, a bound of the metric, or None."),  # type: ignore[arg-type]
    (lambda: Masked(), "MaskedImportance(low=None, high=None): bounds of a metric, low < high, of which one may be"),
    (lambda: Masked(low=1.0, high=1.0), "MaskedImportance(low=1.0, high=1.0): bounds of a metric, low < high"),
    (lambda: Masked(high=2.0, denominator="old"), "MaskedImportance(numerator='old', denominator='old'): two differen"),
    (lambda: sampling.SecondMomentMask(threshold=0.0), "SecondMomentMask(threshold=0.0): a positive number, of a mean"),
    (lambda: sampling.SecondMomentMask(importance="x"), "SecondMomentMask(importance='x'): choose one of 'none',"),
    (lambda: sampling.EffectiveImportance(A, 1.0), "EffectiveImportance(target=1.0): a number in (0, 1), an effective"),
    (lambda: sampling.EffectiveImportance(A, 0.0), "EffectiveImportance(target=0.0): a number in (0, 1)"),
    (lambda: sampling.EffectiveImportance(A, sequence=1), "EffectiveImportance(sequence=1): True or False."),  # type: ignore[arg-type]
    (lambda: sampling.ProbabilityWeighted(power=-1.0), "ProbabilityWeighted(power=-1.0): a number ≥ 0, an exponent"),
    (lambda: sampling.ProbabilityWeighted(complement=-1.0), "ProbabilityWeighted(complement=-1.0): a number ≥ 0"),
    (lambda: sampling.ProbabilityGated(scale=0.0), "ProbabilityGated(scale=0.0): a positive number, of the logistic"),
    (lambda: sampling.ProbabilityGated(steepness=0.0), "ProbabilityGated(steepness=0.0): a positive number"),
    (lambda: sampling.ProbabilityGated(offset=NAN), "ProbabilityGated(offset=nan): a finite number, subtracted from"),
    (lambda: sampling.ProbabilityGated(low=2.0), "ProbabilityGated(low=2.0, high=1.4): bounds of a weight, 0 ≤ low"),
    (lambda: sampling.ProbabilityGated(low=-0.1), "ProbabilityGated(low=-0.1, high=1.4): bounds of a weight"),
    (lambda: sampling.ProbabilityGated(high=INF), "ProbabilityGated(low=1.0, high=inf): bounds of a weight"),
    (lambda: sampling.PassAtK(0), "PassAtK(k=0): an integer ≥ 1, a number of responses."),
    (lambda: sampling.PassAtK(threshold=NAN), "PassAtK(threshold=nan): a number, of a reward."),
    (lambda: sampling.MaxAtK("batch"), "MaxAtK(scale='batch'): choose one of 'none', 'group'."),
    (lambda: sampling.MaxAtK(epsilon=-1.0), "MaxAtK(epsilon=-1.0): a number ≥ 0, added to a standard deviation."),
    *[
        (lambda kind=kind, name=name, x=x: kind(**{name: x}), f"{kind.__name__}({name}={x}): a number {said}, the dist")  # type: ignore[misc]
        for kind in (sampling.GradientPreservingClip, sampling.FlippedImportance, sampling.RingMask)
        for name, x, said in (("low", 1.0, "in [0, 1)"), ("low", -0.1, "in [0, 1)"), ("high", -0.1, "≥ 0"))
    ],
    (lambda: sampling.GradientPreservingClip(beta_low=-1.0), "GradientPreservingClip(beta_low=-1.0): a number ≥ 0, a"),
    (lambda: sampling.GradientPreservingClip(beta_high=-1.0), "GradientPreservingClip(beta_high=-1.0): a number ≥ 0"),
    (lambda: sampling.FlippedImportance(cap=0.0), "FlippedImportance(cap=0.0): a positive number, the bound of a wei"),
    (lambda: sampling.RingMask(outer_low=1.1), "RingMask(outer_low=1.1): a number in [0, 1], the distance of the out"),
    (lambda: sampling.RingMask(outer_high=-1.0), "RingMask(outer_high=-1.0): a number ≥ 0, the distance of the outer"),
    (
        lambda: sampling.RingMask(high=0.3, outer_low=0.1),
        "RingMask(low=0.2, high=0.3, outer_low=0.1, outer_high=2.0): the outer walls lie beyond the inner ones",
    ),
    (
        lambda: sampling.RingMask(low=0.1, outer_high=0.15),
        "RingMask(low=0.1, high=0.2, outer_low=0.6, outer_high=0.15): the outer walls lie beyond the inner ones",
    ),
    (lambda: sampling.RingMask(importance=1), "RingMask(importance=1): True or False."),  # type: ignore[arg-type]
    (lambda: sampling.FutureKL(halflife=0.0), "FutureKL(halflife=0.0): a positive number, a number of tokens."),
    (lambda: sampling.FutureKL(cap=0.0), "FutureKL(cap=0.0): a positive number, a ratio."),
    (lambda: sampling.FutureKL(safety=0.0), "FutureKL(safety=0.0): a positive number, a ratio."),
    (lambda: sampling.FutureKL(bounds=1.0), "FutureKL(bounds=1.0): two numbers, the bounds of a weight."),  # type: ignore[arg-type]
    (lambda: sampling.FutureKL(bounds=(1.2, 1.0)), "FutureKL(bounds=(1.2, 1.0)): bounds of a weight, 0 ≤ low ≤ high"),
    (lambda: sampling.FutureKL(bounds=(-0.1, 1.0)), "FutureKL(bounds=(-0.1, 1.0)): bounds of a weight"),
    (lambda: sampling.FutureKL(bounds=(1.0, INF)), "FutureKL(bounds=(1.0, inf)): bounds of a weight"),
    (lambda: sampling.GroupTarget(divergence="kl"), "GroupTarget(divergence='kl'): expected a Divergence instance su"),  # type: ignore[arg-type]
    (lambda: sampling.GroupTarget(temperature=0.0), "GroupTarget(temperature=0.0): a positive number, in units of th"),
    (lambda: sampling.GroupTarget(prior="max"), "GroupTarget(prior='max'): choose one of None, 'sum', 'mean'."),
    (lambda: sampling.SignLabel(mixed=1), "SignLabel(mixed=1): True or False."),  # type: ignore[arg-type]
    (lambda: sampling.TeacherRatio(current=1), "TeacherRatio(current=1): True or False."),  # type: ignore[arg-type]
    (lambda: ga.BoundedProjection(A, 0.0), "BoundedProjection(mu=0.0): a positive number, the stiffness of the pote"),
    (lambda: ga.SignWeighted(positive=-1.0), "SignWeighted(positive=-1.0): a number ≥ 0, the weight of a sign."),
    (lambda: ga.SignWeighted(negative=-1.0), "SignWeighted(negative=-1.0): a number ≥ 0, the weight of a sign."),
    (lambda: ga.Whitened(ddof=2), "Whitened(ddof=2): choose one of 0, 1."),
    (lambda: ga.Whitened(epsilon=-1.0), "Whitened(epsilon=-1.0): a number ≥ 0, added to a variance."),
    (lambda: ga.TrustRegion(divergence=ga.JensenShannon()), "TrustRegion: `divergence` and `radius` are given tog"),
    (lambda: ga.TrustRegion(radius=0.1), "TrustRegion: `divergence` and `radius` are given together."),
    (lambda: ga.TrustRegion(), "TrustRegion(chi2=None, kl=None, radius=None): give exactly one radius."),
    (lambda: ga.TrustRegion(chi2=1.0, kl=2.0), "TrustRegion(chi2=1.0, kl=2.0, radius=None): give exactly one radius."),
    (lambda: ga.TrustRegion(kl=0.0), "TrustRegion(kl=0.0): a positive number, the radius of a divergence."),
    (lambda: ga.TrustRegion(chi2=1.0, bounded=1), "TrustRegion(bounded=1): True or False."),  # type: ignore[arg-type]
    (lambda: ga.TrustRegion(chi2=1.0, within="row"), "TrustRegion(within='row'): choose one of 'batch', 'group'."),
    (lambda: ga.EscortESS(0.0), "EscortESS(target=0.0): a number in (0, 1], an effective share of the samples."),
    (lambda: ga.EscortESS(1.1), "EscortESS(target=1.1): a number in (0, 1]"),
    (lambda: ga.EscortESS(0.5, 0.0), "EscortESS(temperature=0.0): a positive number, the temperature of the target"),
    (lambda: ga.EscortESS(0.5, scaled=1), "EscortESS(scaled=1): True or False."),  # type: ignore[arg-type]
    (lambda: ga.EscortESS(0.5, within="row"), "EscortESS(within='row'): choose one of 'batch', 'group'."),
]  # fmt: skip


@pytest.mark.parametrize("made, said", REFUSED, ids=[said.split(":")[0] for _, said in REFUSED])
def test_an_argument_out_of_its_range_is_refused(made: Callable[[], object], said: str) -> None:
    members.refuses(made, said)


@pytest.mark.parametrize(
    "made",
    [
        lambda: ga.GroupAdvantage(epsilon=0.0),
        lambda: sampling.RelativeAdvantage(0.0),
        lambda: sampling.DecoupledAdvantage(epsilon=0.0),
        lambda: sampling.DeviationScaled(epsilon=0.0),
        lambda: ga.Whitened(epsilon=0.0),
        lambda: sampling.MaxAtK(epsilon=0.0),
        lambda: sampling.BalancedClip(low=(0.0, 0.0), high=(1.0, 1.0), target=0.0),
        lambda: sampling.BalancedClip(low=(1.0, 1.0), target=1.0),
        lambda: sampling.GroupExpectation(low=0.0, high=0.0),
        lambda: sampling.KLViolation(limit=0.0),
        lambda: ga.Escort(0.0),
        lambda: ga.Escort(1.0),
        lambda: sampling.ExponentialAdvantage(0.0),
        lambda: sampling.ExponentialAdvantage(1.0),
        lambda: ga.ClippedImportance(A, 0.0),
        lambda: ga.ClippedImportance(A, high=0.1),
        lambda: sampling.TaperedImportance(positive=(0.0, 0.0)),
        lambda: sampling.GammaImportance(positive=(0.0, 1.0)),
        lambda: sampling.DivergenceMask(low=INF, high=INF),
        lambda: sampling.ProbabilityWeighted(power=0.0, complement=0.0),
        lambda: sampling.ProbabilityGated(low=0.0, high=0.0),
        lambda: sampling.GradientPreservingClip(low=0.0, high=0.0, beta_low=0.0, beta_high=0.0),
        lambda: sampling.FlippedImportance(low=0.0, high=0.0),
        lambda: sampling.RingMask(low=0.2, high=0.2, outer_low=0.2, outer_high=0.2),
        lambda: sampling.RingMask(low=0.0, high=0.0, outer_low=1.0, outer_high=0.0),
        lambda: sampling.FutureKL(bounds=(0.0, 0.0)),
        lambda: ga.SignWeighted(positive=0.0, negative=0.0),
        lambda: ga.EscortESS(1.0),
        lambda: sampling.PassAtK(1),
    ],
)
def test_ends_of_ranges_are_allowed(made: Callable[[], object]) -> None:
    assert made()


@pytest.mark.parametrize("metric", ["ratio", "k1", "k2", "k3", "tv", "binary_kl"])
@pytest.mark.parametrize("level", ["token", "sequence", "max"])
def test_outward_is_only_what_has_a_sign(metric: str, level: str) -> None:
    if metric in ("ratio", "k1") or (metric == "tv" and level != "sequence"):
        assert Masked(high=2.0, metric=metric, level=level, sign_aware="outward")
        return
    with pytest.raises(ValueError) as refused:
        Masked(high=2.0, metric=metric, level=level, sign_aware="outward")
    assert str(refused.value).startswith(
        f"MaskedImportance(metric='{metric}', level='{level}'): the metric has no sign"
    )
    for sign_aware in ("no", "negative"):
        assert Masked(high=2.0, metric=metric, level=level, sign_aware=sign_aware)


# ---- who is named when a batch lacks something

BARE = ga.Batch(torch.zeros(2, 3), None)
PAIRS = ga.PreferenceBatch(torch.zeros(2, 3), torch.zeros(2, 3))
ONES = torch.ones(2)
REWARDED = ga.Batch(torch.zeros(2, 3), None, reward=ONES)
OLD = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), reward=ONES)

LACKING: list[tuple[Callable[[], Tensor], str, str]] = [
    *[
        (lambda of=of: of.drive(BARE), name, "reward")  # type: ignore[misc]
        for of, name in (
            (ga.Advantage(), "Advantage()"),
            (ga.Escort(0.5), "Escort()"),
            (ga.EscortESS(0.5), "EscortESS()"),
            (ga.GroupAdvantage(), "GroupAdvantage"),
            (sampling.LengthWeightedBaseline(), "LengthWeightedBaseline"),
            (sampling.LogMeanExpBaseline(), "LogMeanExpBaseline"),
            (sampling.RelativeAdvantage(), "RelativeAdvantage"),
            (sampling.DecoupledAdvantage(), "DecoupledAdvantage"),
            (sampling.OffPolicyBaseline(), "OffPolicyBaseline"),
            (sampling.PassAtK(), "PassAtK"),
            (sampling.MaxAtK(), "MaxAtK"),
            (ga.BestOfN(), "BestOfN"),
        )
    ],
    *[
        (lambda of=of: of.drive(REWARDED), name, "old")  # type: ignore[misc]
        for of, name in (
            (ga.Escort(0.5, inverse_probability=True), "Escort(inverse_probability=True)"),
            (ga.TruncatedImportance(ga.Advantage()), "TruncatedImportance"),
            (Masked(high=2.0), "MaskedImportance"),
            (sampling.SecondMomentMask(), "SecondMomentMask"),
            (sampling.EffectiveImportance(ga.Advantage()), "EffectiveImportance"),
            (sampling.OffPolicyBaseline(), "OffPolicyBaseline"),
            (sampling.GroupTarget(prior="sum"), "GroupTarget(prior='sum')"),
            (sampling.GroupTarget(prior="mean"), "GroupTarget(prior='mean')"),
        )
    ],
    *[
        (lambda of=of: of.drive(OLD), name, "behavior")  # type: ignore[misc]
        for of, name in (
            (ga.TruncatedImportance(ga.Advantage()), "TruncatedImportance"),
            (Masked(high=2.0), "MaskedImportance"),
            (sampling.SecondMomentMask(), "SecondMomentMask"),
            (sampling.EffectiveImportance(ga.Advantage()), "EffectiveImportance"),
            (sampling.OffPolicyBaseline(), "OffPolicyBaseline"),
        )
    ],
    *[
        (lambda of=of: of.reweight(ONES, ONES, REWARDED), type(of).__name__, "old")  # type: ignore[misc]
        for of in (
            sampling.TaperedImportance(),
            sampling.GammaImportance(),
            ga.ImportanceRatio(),
            sampling.DivergenceMask(),
            sampling.GroupExpectation(),
        )
    ],
    (lambda: sampling.effective_share(BARE), "effective_share", "old"),
    (lambda: sampling.effective_share(OLD), "effective_share", "behavior"),
    (lambda: TEACHER.drive(OLD), "TeacherRatio", "reference"),
    (lambda: ga.Margin().drive(PAIRS), "Margin", "margin"),
    (lambda: ga.SoftLabel().drive(PAIRS), "SoftLabel", "margin"),
]


@pytest.mark.parametrize("made, name, field", LACKING, ids=[f"{name}-{field}" for _, name, field in LACKING])
def test_who_asks_for_what_a_batch_lacks_is_named(made: Callable[[], Tensor], name: str, field: str) -> None:
    with pytest.raises(ValueError) as refused:
        made()
    assert name in str(refused.value) and f"`{field}`" in str(refused.value)


RESPONSES: list[ga.SamplingGeometry] = [
    sampling.ShiftedBaseline(A),
    sampling.DeviationScaled(A),
    sampling.ExponentialAdvantage(of=A),
    sampling.GroupTarget(A),
    sampling.SignLabel(A),
    ga.BoundedProjection(A, 1.0),
    ga.TrustRegion(A, kl=0.1),
]


@pytest.mark.parametrize("of", RESPONSES, ids=members.ident)
def test_who_needs_one_drive_per_response_is_named(of: ga.SamplingGeometry) -> None:
    with pytest.raises(ValueError) as refused:
        of.drive(ga.Batch(torch.zeros(2, 3), None, advantage=torch.ones(2, 3)))
    start = f"{type(of).__name__} needs one drive per response; {A!r} gave drives of tokens, (2, 3). It averages"
    assert str(refused.value).startswith(start)


def test_who_cannot_weigh_these_events_is_named() -> None:
    with pytest.raises(ValueError, match=r"^PolicyWeight weighs pairs, but the drive is \(2,\) for the 2 rows of a B"):
        sampling.PolicyWeight().weight(ONES, ONES, OLD)
    with pytest.raises(
        ValueError, match=r"^PolicyWeight weighs pairs, but the drive is \(3,\) for the 2 rows of a Pref"
    ):
        sampling.PolicyWeight().weight(torch.ones(3), torch.ones(3), PAIRS)
    with pytest.raises(ValueError, match=r"^GroupExpectation needs groups of single responses"):
        sampling.GroupExpectation().weight(ONES, ONES, PAIRS)
    with pytest.raises(ValueError, match=r"^MaskedImportance compares the policies of single responses"):
        Masked(ga.Label(), high=2.0).drive(PAIRS)
    with pytest.raises(ValueError, match=r"^FutureKL weighs tokens by the later tokens of their response"):
        sampling.FutureKL().weight(ONES, ONES, OLD)
    per_token = Masked(high=2.0, numerator="policy", denominator="old")
    with pytest.raises(ValueError) as refused:
        per_token.reweight(ONES, ONES, OLD)
    assert str(refused.value).startswith('MaskedImportance(level="token", importance="token") weighs tokens at every')


# ---- signs and constants of printed formulas

FORMULAS = [
    (ga.GroupAdvantage("leave_one_out"), r"r_i-\operatorname{mean}_{G\setminus i}(r)"),
    (ga.GroupAdvantage("none", "batch", epsilon=0.0), r"\frac{r_i}{\operatorname{std}(r)}"),
    (ga.Escort(0.25, 2.0), r"\exp\left(0.75\,A_i/2\right)"),
    (ga.Escort(0.25, scaled=True), r"\frac{1}{0.75}\left("),
    (ga.Escort(1.0, 2.0, scaled=True), r"A_i/2-\operatorname{mean}_G(A_i/2)"),
    (ga.Escort(0.25, inverse_probability=True), r"\pi_k(y_i)^{-0.75}"),
    (sampling.GroupExpectation(low=0.25, high=0.5), r"1\left[w\leq 1.5\ (g>0),\ w\geq 0.75\ (g<0)\right]"),
    (sampling.FlippedImportance(low=0.25, high=0.5), r"1\left[t\leq 1.5\ (g>0),\ t\geq 0.75\ (g<0)\right]"),
    (sampling.GradientPreservingClip(A, 0.25, 0.5, 2.0, 3.0), r"2(0.75)_{g<0,\,t<0.75},\ 3(1.5)_{g>0,\,t>1.5}"),
    (sampling.RingMask(A, 0.25, 0.5, 0.5, 3.0), r"0.75\leq t\leq 1.5\ \text{or}\ t\leq 0.5\ (g>0),\ t\geq 4\ (g<0)"),
    (sampling.ExponentialAdvantage(0.25, scale=3.0), r"0.75\,\bar A_i+0.25\,\bar A_i e^{\bar A_i}"),
    (ga.SignWeighted(A, 2.0, 0.5), r"2\left(A_i\right)_+-0.5\left(A_i\right)_-"),
    (ga.SignWeighted(A, 2.0, 2.0), r"2\left(A_i\right)"),
    (sampling.ShiftedBaseline(A, 0.5), r"A_i-\left(0.5\right)"),
    (sampling.KLViolation(0.5, 4.0), r"\operatorname{sg}\left[4\,\left(-\operatorname{mean}\Delta-0.5\right)_+\right]"),
    (sampling.ProbabilityWeighted(A, 0.5, 2.0), r"\pi_\theta^{0.5}(1-\pi_\theta)^{2}"),
    (sampling.ProbabilityWeighted(A, 0.0, 0.0), r"\operatorname{sg}\left[1\right]\left(A_i\right)"),
    (sampling.GroupTarget(A, temperature=2.0, prior="mean"), r"\pi_k(y_i)^{1/|y_i|}\,\exp\left(\left(A_i\right)/2"),
    (ga.TrustRegion(A, chi2=0.25), r"\mu=\sqrt{\operatorname{mean}_B(a^2)/0.25}"),
    (ga.TrustRegion(A, kl=0.25, within="group"), r"\operatorname{mean}_G\left[t \log t - t + 1\right]=0.25"),
    (ga.TrustRegion(A, chi2=0.5, bounded=True), r"\operatorname{mean}_B\left[\tfrac12 (t - 1)^2\right]=0.25"),
]  # fmt: skip


@pytest.mark.parametrize("of, part", FORMULAS, ids=[members.ident(of) for of, _ in FORMULAS])
def test_constants_and_signs_of_a_formula(of: ga.SamplingGeometry, part: str) -> None:
    assert part in of.latex()
