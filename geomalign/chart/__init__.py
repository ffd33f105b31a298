"""The chart slot: the coordinate in which the distance from the anchor is read, increasing in the log-ratio."""

from geomalign.chart.base import Chart as Chart
from geomalign.chart.base import Dual as Dual
from geomalign.chart.base import LogRatio as LogRatio
from geomalign.chart.base import Power as Power
from geomalign.chart.base import Ratio as Ratio
from geomalign.chart.probability import LogOdds as LogOdds
from geomalign.chart.probability import Probability as Probability
from geomalign.chart.probability import Sigmoid as Sigmoid

__all__ = ["Chart", "Dual", "LogOdds", "LogRatio", "Power", "Probability", "Ratio", "Sigmoid"]
