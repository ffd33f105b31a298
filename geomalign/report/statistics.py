"""Student's intervals over seeds, and which differences between objectives are significant."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from geomalign.report.results import Results

LEVEL = 0.95
#: Below this, the spread of differences between shares is rounding.
ROUNDING = 1e-12


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of Student's 95 % interval.

    Args:
        values: `(seed,)`. Of fewer than two the half-width is NaN.

    >>> interval(np.array([0.9, 1.0, 0.8]))
    (0.9, 0.24841377117503...)
    """
    from scipy import stats

    mean = float(np.mean(values)) if len(values) else math.nan
    if len(values) < 2:
        return mean, math.nan
    return mean, float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))


def paired(left: Mapping[int, float], right: Mapping[int, float]) -> tuple[float, float, float] | None:
    """Student's t-test of left − right, paired by seed: mean, half-width of the interval, and p.

    A difference that is the same on every seed, up to rounding, gives no estimate of its spread: the half-width is
    infinite and p is 1.

    Args:
        left, right: values by seed. Seeds that one of them lacks are left out; with fewer than two common seeds the
            result is None.

    >>> paired({0: 0.9, 1: 0.5}, {0: 0.8, 1: 0.4})
    (0.1, inf, 1.0)
    """
    from scipy import stats

    gaps = np.array([left[seed] - right[seed] for seed in sorted(left.keys() & right.keys())])
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) < 2:
        return None
    mean, half = interval(gaps)
    if np.ptp(gaps) <= ROUNDING:
        return round(mean, 12), (0.0 if abs(mean) <= ROUNDING else math.inf), 1.0
    return mean, half, float(stats.ttest_1samp(gaps, 0.0).pvalue)


@dataclasses.dataclass(frozen=True)
class Difference:
    """Objective a minus objective b at one step size, paired by seed.

    Args:
        a, b: labels of the objectives.
        rate: step size.
        key: of the metric.
        mean, half, p: as `paired` returns them.
        adjusted: p after Holm's correction for the number of comparisons.

    >>> Difference("opo", "grpo", 5e-5, "accuracy_in", mean=0.02, half=0.01, p=0.03).excludes_zero
    True
    """

    a: str
    b: str
    rate: float
    key: str
    mean: float
    half: float
    p: float
    adjusted: float = math.nan

    @property
    def excludes_zero(self) -> bool:
        return abs(self.mean) > self.half


def differences(results: Results, keys: Sequence[str]) -> list[Difference]:
    """Every pair of objectives at every step size, with Holm's correction over all of them.

    Args:
        keys: of the metrics that are compared.

    Source: Holm 1979, *A simple sequentially rejective multiple test procedure*.

    >>> from geomalign.report.results import FinishedRun
    >>> finals = {("a", 0): 0.9, ("a", 1): 0.7, ("b", 0): 0.5, ("b", 1): 0.4}
    >>> summaries = [{"label": k, "rate": 1e-4, "seed": s, "final": {"reward": r}} for (k, s), r in finals.items()]
    >>> results = Results(tuple(FinishedRun(summary, ()) for summary in summaries), {})
    >>> [(round(d.mean, 3), d.adjusted == d.p) for d in differences(results, ["reward"])]
    [(0.35, True)]
    """
    found = []
    for key, rate, (a, b) in itertools.product(keys, results.rates, itertools.combinations(results.labels, 2)):
        if gap := paired(results.by_seed(a, rate, key), results.by_seed(b, rate, key)):
            found.append(Difference(a, b, rate, key, *gap))
    ranked = sorted(range(len(found)), key=lambda i: found[i].p)
    running = 0.0
    for place, i in enumerate(ranked):
        running = max(running, min(1.0, found[i].p * (len(found) - place)))
        found[i] = dataclasses.replace(found[i], adjusted=running)
    return found
