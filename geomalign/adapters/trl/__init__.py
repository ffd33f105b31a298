"""TRL: `GeometryGRPOTrainer(objective=…)` and `GeometryDPOTrainer(objective=…)`, drop-in for TRL's trainers.

```py
from geomalign.adapters.trl import GeometryGRPOTrainer

trainer = GeometryGRPOTrainer(model, reward_funcs, args=GRPOConfig(…), train_dataset=…, objective="opo alpha=0.4")
```

TRL generates, scores, logs and saves as always and even evaluates its own loss, for its metrics; the gradient is the
objective's. The drive is computed once per rollout, where the groups of all ranks are whole (TRL shuffles completions
before the loss), and the loss sees only tensors. An entropy bonus and a router loss, where TRL adds them, are kept.
"""

from __future__ import annotations

import functools
from typing import Any

from geomalign.adapters.trl.arguments import InactiveGeometryWarning, SupersededWarning, UnfitObjectiveWarning
from geomalign.adapters.trl.dpo import DPOGeometry
from geomalign.adapters.trl.grpo import GRPOGeometry
from geomalign.adapters.trl.text import configuration

__all__ = [
    "DPOGeometry",
    "GRPOGeometry",
    "GeometryDPOTrainer",
    "GeometryGRPOTrainer",
    "InactiveGeometryWarning",
    "SupersededWarning",
    "UnfitObjectiveWarning",
    "configuration",
]


@functools.cache
def _trainer(name: str) -> type:
    """The trainer class, made when TRL is first needed."""
    import trl

    mixin, host = {
        "GeometryGRPOTrainer": (GRPOGeometry, trl.GRPOTrainer),
        "GeometryDPOTrainer": (DPOGeometry, trl.DPOTrainer),
    }[name]
    return type(name, (mixin, host), {"__module__": __name__, "__doc__": mixin.__doc__})


def __getattr__(name: str) -> Any:
    if name in ("GeometryGRPOTrainer", "GeometryDPOTrainer"):
        return _trainer(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
