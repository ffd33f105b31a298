"""Divergences: one convex function each, and everything that follows from it.

A separable Bregman divergence taken in the ratio t = p/q is an f-divergence, D(p || q) = E_q[psi(t)], with
psi(1) = psi'(1) = 0. Every member gives its generator psi, the mirror psi' (its dual coordinate), the curvature psi'',
the conjugate psi* and the inverse mirror (psi*)', both over t >= 0, and the same read in the log-ratio, where they stay
finite at +-1e4 nats (the saturation law of ``numerics``). Positive multiples and sums are divergences again.
"""

from geomalign.divergences.divergence import Divergence, Scaled, Solved, Sum
from geomalign.divergences.mixture import JensenShannon, SkewJensenShannon
from geomalign.divergences.power import (
    CressieRead,
    ItakuraSaito,
    KullbackLeibler,
    NeymanChiSquare,
    PearsonChiSquare,
    PowerDivergence,
    Renyi,
    ReverseKullbackLeibler,
    SquaredHellinger,
    power_divergence,
)
from geomalign.divergences.variation import TotalVariation

__all__ = [
    "CressieRead",
    "Divergence",
    "ItakuraSaito",
    "JensenShannon",
    "KullbackLeibler",
    "NeymanChiSquare",
    "PearsonChiSquare",
    "PowerDivergence",
    "Renyi",
    "ReverseKullbackLeibler",
    "Scaled",
    "SkewJensenShannon",
    "Solved",
    "SquaredHellinger",
    "Sum",
    "TotalVariation",
    "power_divergence",
]
