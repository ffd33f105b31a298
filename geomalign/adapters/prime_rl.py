"""prime-rl: a custom loss by import path.

```toml
[trainer.loss]
type = "custom"
import_path = "geomalign.adapters.prime_rl.loss"

[trainer.loss.kwargs]
objective = "opo"
alpha = 0.4
mu = 1.0
```

prime-rl calls the loss with one sequence at a time and divides the sum of its tokens' losses by the number of tokens
of the whole step. It computes advantages in its orchestrator: they are the drive, so the sampling geometry is chosen
there (`algo.type`, `grpo` for r − mean).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from geomalign.adapters import hosted
from geomalign.batch import Batch
from geomalign.objective import BaseObjective

__all__ = ["configuration", "loss"]


def loss(inputs: Any, objective: str = "opo", **hyperparameters: Any) -> Any:
    """prime-rl's `LossFn`: `LossInputs` of one sequence → `LossOutputs`.

    An event that is a whole response counts once for each of its tokens, so that after prime-rl's division by tokens
    the weights of the step's responses sum to one: a mean weighted by length.

    Args:
        inputs: `trainer_logprobs`, `inference_logprobs`, `advantages`, `loss_mask` `(token,)`; `ref_logprobs` (earlier
            `teacher_logprobs`) and `loss_weights` where there are any.
        objective: a recipe or `module:attribute`; its hyper-parameters are the other arguments.

    Raises:
        ValueError: what `recipes.get` raises; an objective of pairs; a term from a reference that was not scored.

    ```py
    outputs = loss(inputs, objective="opo", alpha=0.4)  # prime-rl calls it, as the configuration above names it
    outputs.loss.backward()
    ```
    """
    from prime_rl.trainer.rl.loss import LossOutputs

    mask = inputs.loss_mask[None]
    reference = next(
        (x for name in ("ref_logprobs", "teacher_logprobs") if (x := getattr(inputs, name, None)) is not None), None
    )
    batch = Batch(
        inputs.trainer_logprobs[None],
        inputs.inference_logprobs[None],
        mask,
        reference=None if reference is None else reference[None],
    )
    given = getattr(inputs, "loss_weights", None)
    weights = mask.to(batch.dtype) if given is None else torch.where(mask, given[None].to(batch.dtype), 0)
    chosen = hosted.objective_of(objective, hyperparameters.items())
    outcome = hosted.evaluate(chosen, batch, inputs.advantages[None], weights)
    seen = hosted.host_metrics(outcome)
    # Stiffness is relative to the spread of the drive over sequences, and this is one sequence.
    seen.pop("geom/stiffness", None)
    return LossOutputs(loss=outcome.loss, metrics=seen)


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The TOML with which prime-rl trains an objective; see `geomalign.adapters.export.configuration`.

    >>> from geomalign import recipes
    >>> print(configuration("opo", recipes.get("opo"), {}).splitlines()[-1])
    objective = "opo"
    """
    lines = [
        hosted.note(objective, "prime-rl", reference=False),
        "[orchestrator.train.algo]",
        'type = "grpo"                # r − mean of the group',
        "",
        "[trainer.loss]",
        'type = "custom"',
        'import_path = "geomalign.adapters.prime_rl.loss"',
        "",
        "[trainer.loss.kwargs]",
        f"objective = {json.dumps(name)}",
        # TOML has no null; the word is read as the absence of a value.
        *(f"{key} = {json.dumps('none' if value is None else value)}" for key, value in hyperparameters.items()),
    ]
    return "\n".join(lines) + "\n"
