"""Exactness across processes: the group statistics, drives and normalisers of the batch that all ranks hold together.

An optimiser step over many ranks equals that of one process over all their rows, also with groups split over ranks:

```python
drive = distributed.drive(objective, rollout)                   # once per rollout: statistics of all ranks' groups
counts = distributed.counts(rollout)                            # what the whole batch holds
for rows in micro_batches:
    outcome = objective(score(rows), drive=drive[rows], counts=counts)
    (outcome.loss * distributed.world_size()).backward()        # DDP and FSDP average over ranks, but parts must add up
```

Without an initialised process group every function here is the identity, so that one code path serves one process and
many. All ranks must call in the same order; a rank may hold no row or no valid token. When a rank dies, the next call
of the others raises `RankLost`.
"""

from geomalign.distributed.gathering import Gathered as Gathered
from geomalign.distributed.gathering import counts as counts
from geomalign.distributed.gathering import drive as drive
from geomalign.distributed.gathering import gather as gather
from geomalign.distributed.ranks import RankLost as RankLost
from geomalign.distributed.ranks import everyone as everyone
from geomalign.distributed.ranks import joined as joined
from geomalign.distributed.ranks import largest as largest
from geomalign.distributed.ranks import launched as launched
from geomalign.distributed.ranks import on_first as on_first
from geomalign.distributed.ranks import rank as rank
from geomalign.distributed.ranks import share as share
from geomalign.distributed.ranks import sum_gradients as sum_gradients
from geomalign.distributed.ranks import summed as summed
from geomalign.distributed.ranks import world_size as world_size
