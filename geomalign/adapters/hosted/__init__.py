"""What the adapters of trainers with a loss of their own share: their advantages as drive, their reduction as measure.

These trainers normalise rewards where groups are whole, hand the loss one advantage per token, and reduce the losses of
tokens in their own way. Here the advantage is the drive, and any linear reduction is a set of weights.
"""

from geomalign.adapters.hosted.evaluation import HostWeights as HostWeights
from geomalign.adapters.hosted.evaluation import drive_of as drive_of
from geomalign.adapters.hosted.evaluation import evaluate as evaluate
from geomalign.adapters.hosted.evaluation import outcomes as outcomes
from geomalign.adapters.hosted.evaluation import rollout as rollout
from geomalign.adapters.hosted.evaluation import weights_of as weights_of
from geomalign.adapters.hosted.metrics import approximate_kl as approximate_kl
from geomalign.adapters.hosted.metrics import clip_fraction as clip_fraction
from geomalign.adapters.hosted.metrics import host_metrics as host_metrics
from geomalign.adapters.hosted.metrics import numbers as numbers
from geomalign.adapters.hosted.names import hashable as hashable
from geomalign.adapters.hosted.names import in_one_line as in_one_line
from geomalign.adapters.hosted.names import objective_of as objective_of
from geomalign.adapters.hosted.notes import cut_groups as cut_groups
from geomalign.adapters.hosted.notes import note as note
from geomalign.adapters.hosted.notes import of_engine as of_engine
from geomalign.adapters.hosted.notes import of_tokens as of_tokens
from geomalign.adapters.hosted.notes import pooled as pooled
