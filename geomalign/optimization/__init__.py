"""Optimization geometries: what resists. A potential φ of the event's coordinate, whose second derivative is the
curvature."""

from geomalign.optimization.coupled import Blend, Clip, Proportional, Reweighted, SoftGate
from geomalign.optimization.geometry import BregmanGeometry, BregmanSum, CoupledSum, Multiple, OptimizationGeometry
from geomalign.optimization.links import Box, Entropy, Hinge, Logistic, SquaredHinge
from geomalign.optimization.penalties import KL, AlphaDivergence, ChiSquare, DivergenceGeometry, FDivergence, ReverseKL
from geomalign.optimization.plain import Flat, Generator, Linear
from geomalign.optimization.through import StraightThrough

__all__ = [
    "AlphaDivergence",
    "Blend",
    "Box",
    "BregmanGeometry",
    "BregmanSum",
    "ChiSquare",
    "Clip",
    "CoupledSum",
    "DivergenceGeometry",
    "Entropy",
    "FDivergence",
    "Flat",
    "Generator",
    "Hinge",
    "KL",
    "Linear",
    "Logistic",
    "Multiple",
    "OptimizationGeometry",
    "Proportional",
    "ReverseKL",
    "Reweighted",
    "SoftGate",
    "SquaredHinge",
    "StraightThrough",
]
