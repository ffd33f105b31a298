"""The measure slot: what the loss is an average over. A measure is a set of weights of events."""

from geomalign.measure.base import FixedBudget as FixedBudget
from geomalign.measure.base import Measure as Measure
from geomalign.measure.base import NestedMean as NestedMean
from geomalign.measure.base import PooledMean as PooledMean
from geomalign.measure.lengths import LengthPower as LengthPower
from geomalign.measure.lengths import LengthPreference as LengthPreference
from geomalign.measure.lengths import LengthWeights as LengthWeights
from geomalign.measure.lengths import PromptMean as PromptMean

__all__ = [
    "FixedBudget",
    "LengthPower",
    "LengthPreference",
    "LengthWeights",
    "Measure",
    "NestedMean",
    "PooledMean",
    "PromptMean",
]
