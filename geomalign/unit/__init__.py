"""Units: what one event is. A unit is a map, linear in most cases, from the log-ratios of tokens to those of events."""

from geomalign.unit.pair import Chosen as Chosen
from geomalign.unit.pair import Pair as Pair
from geomalign.unit.pair import Preference as Preference
from geomalign.unit.pair import Rejected as Rejected
from geomalign.unit.pair import SortedPair as SortedPair
from geomalign.unit.pair import TransportedPair as TransportedPair
from geomalign.unit.protocol import PairUnit as PairUnit
from geomalign.unit.protocol import ResponseUnit as ResponseUnit
from geomalign.unit.protocol import Unit as Unit
from geomalign.unit.response import Clamped as Clamped
from geomalign.unit.response import MeanSequence as MeanSequence
from geomalign.unit.response import Offset as Offset
from geomalign.unit.response import Sequence as Sequence
from geomalign.unit.response import Shared as Shared
from geomalign.unit.response import Token as Token
