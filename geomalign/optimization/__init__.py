"""Optimization geometries: how deviation from the anchor is penalised. They are the potential φ."""

from geomalign.optimization.base import *
from geomalign.optimization.coupled import *
from geomalign.optimization.custom import *
from geomalign.optimization.f_divergence import *
from geomalign.optimization.links import *
from geomalign.optimization.penalties import *
