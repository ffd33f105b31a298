"""Objectives: five slots and one formula, L = E_measure[potential(u, drive) − drive·u]."""

from geomalign.objective.algebra import *
from geomalign.objective.certificate import *
from geomalign.objective.diagnostics import *
from geomalign.objective.fit import *
from geomalign.objective.formula import *
from geomalign.objective.kl import *
from geomalign.objective.offset import *
from geomalign.objective.outcome import *
from geomalign.objective.surrogate_error import *
