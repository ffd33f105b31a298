"""The sampling slot: geometries that make the drive g, which says which samples pull on the policy and how hard."""

from geomalign.sampling.advantage import *
from geomalign.sampling.balance import *
from geomalign.sampling.base import *
from geomalign.sampling.baseline import *
from geomalign.sampling.constraint import *
from geomalign.sampling.escort import *
from geomalign.sampling.importance import *
from geomalign.sampling.label import *
from geomalign.sampling.mask import *
from geomalign.sampling.masked_importance import *
from geomalign.sampling.off_policy import *
from geomalign.sampling.probability import *
from geomalign.sampling.selection import *
from geomalign.sampling.surrogate import *
from geomalign.sampling.target import *
from geomalign.sampling.teacher import *
from geomalign.sampling.transform import *
from geomalign.sampling.trust_region import *
