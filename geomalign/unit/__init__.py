"""The unit slot: what one event is. A unit maps the log-ratios of tokens to those of events, linearly in most cases."""

from geomalign.unit.base import *
from geomalign.unit.observation import *
from geomalign.unit.pair import *
from geomalign.unit.response import *
