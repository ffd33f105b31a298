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

prime-rl calls the loss with one sequence at a time, divides the sum of its tokens' losses by the number of the whole
step's tokens, and computes advantages in its orchestrator: they are the drive, so choose the sampling geometry there
(`algo.type`, `grpo` for r − mean).
"""

from __future__ import annotations

from typing import Any

import torch

from geomalign.adapters import hosted
from geomalign.batch import Batch

__all__ = ["loss"]


def loss(inputs: Any, objective: str = "opo", **hyperparameters: Any) -> Any:
    """prime-rl's `LossFn`: `LossInputs` of one sequence → `LossOutputs`.

    An event that is a whole response counts once for each of its tokens, so that after prime-rl's division by tokens
    the weights of the step's responses sum to one: a mean weighted by length.

    Args:
        inputs: `trainer_logprobs`, `inference_logprobs`, `advantages`, `loss_mask` `(token,)`; `ref_logprobs` (earlier
            `teacher_logprobs`) and `loss_weights` where there are any.
        objective: a recipe; its hyper-parameters are the other arguments.
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
    chosen = hosted.objective_of(objective, tuple(sorted(hyperparameters.items())))
    outcome = hosted.evaluate(chosen, batch, inputs.advantages[None], weights)
    seen = hosted.found(outcome)
    del seen["geom/stiffness"]  # against the spread of the drive, of which one sequence has none
    return LossOutputs(loss=outcome.loss, metrics=seen)
