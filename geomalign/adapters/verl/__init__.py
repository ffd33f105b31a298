"""verl: every recipe as a policy loss `geomalign/NAME`, every sampling geometry as an advantage estimator
`geomalign/NAME`.

```yaml
algorithm:
  adv_estimator: geomalign/opo
  hyperparameters: ${actor_rollout_ref.actor.policy_loss.hyperparameters}
actor_rollout_ref:
  actor:
    loss_agg_mode: seq-mean-token-mean
    policy_loss:
      _target_: geomalign.adapters.verl.GeometryLossConfig
      loss_mode: geomalign/opo
      hyperparameters: {alpha: 0.4, mu: 1.0}
```

An objective of your own, or a recipe of another package, is `geomalign/objective` with its name among the
hyper-parameters: `{objective: my_module:mine, mu: 1.0}`.

`import verl` loads the plugin through the entry-point group `verl.plugins`, in the driver and in every Ray worker. verl
hides plugins that fail to load, so check before a run, with the run's own overrides:
`python -m geomalign.adapters.verl OVERRIDE…`.

The sampling geometry makes the drive in the driver, where groups are whole; the optimization geometry sees only tensors
in the worker. So the two can be mixed: verl's own `grpo` estimator with `geomalign/opo`, or `geomalign/opo` with verl's
`vanilla`. The loss is averaged as `loss_agg_mode` says, over verl's global batch counts, by verl's own `agg_loss`: it
replaces the objective's measure.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from geomalign.adapters.verl.losses import estimator, policy_loss, register
from geomalign.adapters.verl.preflight import check
from geomalign.adapters.verl.text import configuration

__all__ = [
    "GeometryAlgoConfig",
    "GeometryLossConfig",
    "check",
    "configuration",
    "estimator",
    "policy_loss",
    "register",
]

_CONFIGS = ("GeometryLossConfig", "GeometryAlgoConfig")


@functools.cache
def _config_classes() -> dict[str, type]:
    from verl.trainer.config import AlgoConfig
    from verl.workers.config import PolicyLossConfig

    sections = ("actor_rollout_ref.actor.policy_loss", "algorithm")
    made = {}
    for name, base, section in zip(_CONFIGS, (PolicyLossConfig, AlgoConfig), sections):
        field: Any = ("hyperparameters", dict[str, Any], dataclasses.field(default_factory=dict))
        kind = dataclasses.make_dataclass(name, [field], bases=(base,), namespace={"__module__": __name__})
        kind.__doc__ = (
            f"verl's {base.__name__} with `hyperparameters` of the objective; name it as `_target_` of `{section}`."
        )
        made[name] = kind
    return made


def __getattr__(name: str) -> Any:
    # verl instantiates its configuration from import paths; the classes extend verl's own, so they exist where verl
    # does.
    if name in _CONFIGS:
        return _config_classes()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
