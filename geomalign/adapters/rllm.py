"""rLLM: a loss of its unified trainer, which runs the same function under verl, Tinker and Fireworks.

```yaml
algorithm:
  loss_fn: geomalign
  loss_params: {objective: opo alpha=0.4 mu=1.0}
  loss_agg_mode: seq-mean-token-mean
```

rLLM finds the loss by the entry-point group `rllm.losses`, which the installed package fills. Advantages are rLLM's
(`algorithm.adv_estimator`) and are the drive; the reduction is the one that its backend puts into the context.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from geomalign.adapters import hosted
from geomalign.batch import Batch
from geomalign.objective import BaseObjective

__all__ = ["NAME", "configuration", "loss"]

NAME = "geomalign"
"""rLLM's name of the loss. verl's registry must not have it: there rLLM would take verl's function instead."""


def loss(context: Any) -> tuple[Tensor, dict[str, float]]:
    """rLLM's call: a `LossContext` → the loss, and metrics as numbers.

    Args:
        context: `logp_curr`, `logp_old`, `advantages`, `action_mask`, `(row, token)` or, where the backend loops over
            responses, `(token,)`; `logp_ref` and `logp_rollout` or None; `aggregate(losses, mask)`, a linear reduction;
            `params` with the objective's description as `objective`.

    Raises:
        ValueError: `params` has no `objective`; what `recipes.get` raises; a term from a reference that is not there.

    ```py
    total, seen = loss(context)  # rLLM calls it, as the configuration above names it
    ```
    """
    if "objective" not in context.params:
        raise ValueError(
            "algorithm.loss_params has no `objective`: name a recipe or module:attribute there, as in {objective: opo "
            "alpha=0.4 mu=1.0}."
        )
    one = context.logp_curr.ndim == 1

    def rows(x: Any) -> Any:
        return x[None] if one and x is not None else x

    batch = Batch(
        rows(context.logp_curr),
        rows(context.logp_old),
        rows(context.action_mask),
        reference=rows(context.logp_ref),
        behavior=rows(context.logp_rollout),
    )

    def reduce(losses: Tensor) -> Tensor:
        reduced: Tensor = context.aggregate(losses[0] if one else losses, context.action_mask)
        return reduced

    weights = hosted.weights_of(reduce, batch.support, batch.dtype)
    objective = hosted.objective_of(context.params["objective"])
    outcome = hosted.evaluate(objective, batch, rows(context.advantages), weights)
    # Managed backends average what single responses report, of which some need not be finite.
    return outcome.loss, hosted.numbers(hosted.host_metrics(outcome, weights.new_ones(())))


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The YAML with which rLLM trains an objective.

    >>> from geomalign import recipes
    >>> print(configuration("opo", recipes.get("opo"), {}).splitlines()[-2])
      loss_params: {objective: "opo"}
    """
    mode = "token-mean" if hosted.pooled(objective) else "seq-mean-token-mean"
    return (
        f"{hosted.note(objective, 'rLLM')}\n"
        "algorithm:\n"
        f"  loss_fn: {NAME}\n"
        f"  loss_params: {{objective: {json.dumps(hosted.in_one_line(name, hyperparameters))}}}\n"
        f"  loss_agg_mode: {mode}\n"
    )
