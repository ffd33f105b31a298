"""verl: every recipe as a policy loss `geomalign/NAME`, every sampling geometry as an advantage estimator
`geomalign/NAME`.

```yaml
algorithm:
  _target_: geomalign.adapters.verl.GeometryAlgoConfig
  adv_estimator: geomalign/opo
  hyperparameters: ${actor_rollout_ref.actor.policy_loss.hyperparameters}
  group_size: ${actor_rollout_ref.rollout.n}
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

from geomalign.adapters.verl.losses import PREFIX, estimator, policy_loss, register
from geomalign.adapters.verl.preflight import check
from geomalign.adapters.verl.text import configuration

__all__ = [
    "GeometryAlgoConfig",
    "GeometryDistillationLossConfig",
    "GeometryLossConfig",
    "check",
    "configuration",
    "estimator",
    "policy_loss",
    "register",
]

_CONFIGS = ("GeometryLossConfig", "GeometryAlgoConfig", "GeometryDistillationLossConfig")


@functools.cache
def _config_classes() -> dict[str, type]:
    from verl.trainer.config import AlgoConfig
    from verl.workers.config import DistillationLossConfig, PolicyLossConfig

    options: Any = ("hyperparameters", dict[str, Any], dataclasses.field(default_factory=dict))
    sessions: Any = ("group_size", int | None, None)
    sections: list[tuple[type, str, list[Any], dict[str, Any]]] = [
        (PolicyLossConfig, "actor_rollout_ref.actor.policy_loss", [options], {}),
        (AlgoConfig, "algorithm", [options, sessions], {}),
        (DistillationLossConfig, "distillation.distillation_loss", [options], {"__post_init__": _any_loss_of_ours}),
    ]
    made = {}
    for name, (base, section, fields, methods) in zip(_CONFIGS, sections):
        kind = dataclasses.make_dataclass(name, fields, bases=(base,), namespace={"__module__": __name__} | methods)
        kind.__doc__ = (
            f"verl's {base.__name__} with `hyperparameters` of the objective; name it as `_target_` of `{section}`."
        )
        made[name] = kind
    return made


def _any_loss_of_ours(config: Any) -> None:
    """verl's checks of a distillation's loss, which know `vanilla` alone because others would ask for more options."""
    mode = config.policy_loss_mode
    ours = mode.startswith(PREFIX)
    if ours:
        object.__setattr__(config, "policy_loss_mode", "vanilla")
    super(type(config), config).__post_init__()
    if ours:
        object.__setattr__(config, "policy_loss_mode", mode)


def __getattr__(name: str) -> Any:
    # verl instantiates its configuration from import paths; the classes extend verl's own, so they exist where verl
    # does.
    if name in _CONFIGS:
        return _config_classes()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
