"""Intervals over seeds, and which differences they carry."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from geomalign.training.report.results import Results

LEVEL = 0.95


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
    from scipy import stats

    found = []
    for key, rate, (a, b) in itertools.product(keys, results.rates, itertools.combinations(results.labels, 2)):
        left = {run.seed: run.final(key) for run in results.of(a, rate)}
        right = {run.seed: run.final(key) for run in results.of(b, rate)}
        gaps = np.array([left[s] - right[s] for s in sorted(left.keys() & right.keys())])
        gaps = gaps[np.isfinite(gaps)]
        if len(gaps) < 2:
            continue
        mean, half = interval(gaps)
        spread = np.std(gaps, ddof=1) / math.sqrt(len(gaps))
        p = 1.0 if mean == 0 else 0.0 if spread == 0 else float(2 * stats.t.sf(abs(mean) / spread, len(gaps) - 1))
        if spread == 0 and mean != 0:  # equal gaps on every seed: the sample says nothing about the spread
            half, p = math.inf, 1.0
        found.append(Difference(a, b, rate, key, mean, half, p))
    ranked = sorted(range(len(found)), key=lambda i: found[i].p)
    running = 0.0
    for place, i in enumerate(ranked):
        running = max(running, min(1.0, found[i].p * (len(found) - place)))
        found[i] = dataclasses.replace(found[i], adjusted=running)
    return found
