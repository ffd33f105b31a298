"""A finished or running training, read off its log-probabilities and rewards."""

from geomalign.audit.diagnosis import Audit as Audit
from geomalign.audit.diagnosis import audit as audit
from geomalign.audit.dump import Rows as Rows
from geomalign.audit.dump import as_batch as as_batch
from geomalign.audit.dump import names as names
from geomalign.audit.dump import read as read
from geomalign.audit.dump import record as record
