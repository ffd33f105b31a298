"""What a geometry does to learning: derivatives in every coordinate, saturation, contraction, conditioning, exact
dynamics, and the geometry of a loss of which only the values are known (`identification`).

Everything is computed in closed form or by enumeration; nothing is sampled.
"""

from geomalign.analysis.derivatives import (
    Coordinates,
    Derivatives,
    Softmax,
    coordinates,
    in_logit,
    in_logits,
    saturation,
)
from geomalign.analysis.descent import Contraction, contraction, descend, positivity
from geomalign.analysis.dynamics import Flow, Portrait, gradient_flow, mirror_descent, portrait
from geomalign.analysis.finite import Tree
from geomalign.analysis.products import Spectrum, fisher, flatten, gauss_newton, hessian, matrix, spectrum
from geomalign.analysis.sensitivity import Decoupling, cross_derivative, decoupling
from geomalign.analysis.translation import Invariants, Reach, Translation, invariants, reach, translate

__all__ = [
    "Contraction",
    "Coordinates",
    "Decoupling",
    "Derivatives",
    "Flow",
    "Invariants",
    "Portrait",
    "Reach",
    "Softmax",
    "Spectrum",
    "Translation",
    "Tree",
    "contraction",
    "coordinates",
    "cross_derivative",
    "decoupling",
    "descend",
    "fisher",
    "flatten",
    "gauss_newton",
    "gradient_flow",
    "hessian",
    "in_logit",
    "in_logits",
    "invariants",
    "matrix",
    "mirror_descent",
    "portrait",
    "positivity",
    "reach",
    "saturation",
    "spectrum",
    "translate",
]
