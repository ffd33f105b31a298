"""Intervals over seeds, and which differences they carry."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from geomalign.report.results import Results

LEVEL = 0.95
#: Below this, a spread of shares is the rounding of their subtraction.
ROUNDING = 1e-12


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of Student's 95 % interval; no width from fewer than two values.

    >>> interval(np.array([0.9, 1.0, 0.8]))
    (0.9, 0.24841377117503...)
    """
    from scipy import stats

    n = len(values)
    mean = float(np.mean(values)) if n else math.nan
    if n < 2:
        return mean, math.nan
    return mean, float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def paired(left: Mapping[int, float], right: Mapping[int, float]) -> tuple[float, float, float] | None:
    """Mean of left − right over the seeds that both measured, half-width of its interval, p of Student's paired test;
    None of fewer than two.

    A difference that is the same on every seed, to rounding, says nothing about its spread: the interval is infinite
    and p is 1.

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
    spread = np.std(gaps, ddof=1) / math.sqrt(len(gaps))
    return mean, half, float(2 * stats.t.sf(abs(mean) / spread, len(gaps) - 1))


@dataclasses.dataclass(frozen=True)
class Difference:
    """Two objectives at one step size on the seeds that both have: a − b, paired by seed."""

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
    """Every pair of objectives at every step size, with Holm's correction over all of them."""
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
