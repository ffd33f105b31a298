"""Figures: the gradient field of an objective, potentials with their conjugates, the table of the recipes, an
identified loss, the panels of the report.

Nothing is drawn outside of this package, which has one file per figure and one for their common style.
"""

from geomalign.plotting.field import gradient_field as gradient_field
from geomalign.plotting.identified import identification as identification
from geomalign.plotting.panels import curves as curves
from geomalign.plotting.panels import step_sizes as step_sizes
from geomalign.plotting.panels import time_split as time_split
from geomalign.plotting.potential import potentials as potentials
from geomalign.plotting.style import DASHES as DASHES
from geomalign.plotting.style import INK as INK
from geomalign.plotting.style import MARKERS as MARKERS
from geomalign.plotting.style import MUTED as MUTED
from geomalign.plotting.style import PALETTE as PALETTE
from geomalign.plotting.style import STYLE as STYLE
from geomalign.plotting.style import canvas as canvas
from geomalign.plotting.style import label_right as label_right
from geomalign.plotting.style import looks as looks
from geomalign.plotting.style import save as save
from geomalign.plotting.style import spread as spread
from geomalign.plotting.style import step_size as step_size
from geomalign.plotting.tiles import periodic_table as periodic_table
