"""Sampling geometries: which samples pull, and how hard. They make the drive g."""

from geomalign.sampling.advantage import *
from geomalign.sampling.base import *
from geomalign.sampling.escort import *
from geomalign.sampling.importance import *
from geomalign.sampling.label import *
from geomalign.sampling.mask import *
from geomalign.sampling.selection import *
from geomalign.sampling.transform import *
from geomalign.sampling.trust_region import *
