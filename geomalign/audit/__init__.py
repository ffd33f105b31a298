"""An audit of a finished or running training, read off the log-probabilities and rewards that it wrote down.

`geomalign audit FILE…` reads what `record` wrote (`record=` of the TRL adapter), TRL's `completions_*.parquet` and
verl's `rollout_data_dir` (rewards only, no log-probabilities), or any table with log-probabilities or rewards under one
of their usual names.
"""

from geomalign.audit.dump import names as names
from geomalign.audit.dump import read as read
from geomalign.audit.facts import audit as audit
from geomalign.audit.findings import Audit as Audit
from geomalign.audit.rows import Rows as Rows
from geomalign.audit.rows import as_batch as as_batch
from geomalign.audit.writing import record as record
