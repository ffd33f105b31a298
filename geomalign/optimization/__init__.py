"""The optimization slot: geometries whose potential φ penalises deviation from the anchor."""

from geomalign.optimization.algebra import *
from geomalign.optimization.base import *
from geomalign.optimization.coupled import *
from geomalign.optimization.custom import *
from geomalign.optimization.f_divergence import *
from geomalign.optimization.group import *
from geomalign.optimization.links import *
from geomalign.optimization.listwise import *
from geomalign.optimization.negative import *
from geomalign.optimization.pairwise import *
from geomalign.optimization.penalties import *
from geomalign.optimization.variational import *
