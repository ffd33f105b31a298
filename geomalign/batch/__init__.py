"""What an objective is evaluated on: log-probabilities of sampled tokens, and what is known about the rows.

This is the only place that validates tensors (by the checks of `_util/tensors.py`); everything above it trusts them.
"""

from geomalign.batch.counts import Counts as Counts
from geomalign.batch.fields import as_mask as as_mask
from geomalign.batch.pairs import PreferenceBatch as PreferenceBatch
from geomalign.batch.responses import Batch as Batch

__all__ = ["Batch", "Counts", "PreferenceBatch"]
