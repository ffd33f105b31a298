"""The objective's gradient made fast, and made to run on engines that know nothing of this library."""

from geomalign.ops.exported import *
from geomalign.ops.head import *
from geomalign.ops.language_model import *
from geomalign.ops.projection import *
from geomalign.ops.supervised import *
