"""Units: what one event is. A unit is a map, linear in most cases, from the log-ratios of tokens to those of events."""

from geomalign.unit.base import *
from geomalign.unit.pair import *
from geomalign.unit.response import *
