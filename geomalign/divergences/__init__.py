"""f-divergences, and what follows from each: target policies, trust regions, estimates."""

from geomalign.divergences.base import *
from geomalign.divergences.estimate import *
from geomalign.divergences.mixture import *
from geomalign.divergences.power import *
from geomalign.divergences.target import *
from geomalign.divergences.trust_region import *
from geomalign.divergences.variation import *
