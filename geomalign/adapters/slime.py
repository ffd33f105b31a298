"""slime: a custom loss by import path.

```bash
--loss-type custom_loss --custom-loss-function-path geomalign.adapters.slime.loss --custom-config-path geomalign.yaml
```

with `geomalign_objective: opo alpha=0.4 mu=1.0` in geomalign.yaml. Advantages are slime's
(`--advantage-estimator grpo`) and are the drive; the reduction is slime's reducer. A leash to the reference belongs to
the objective (`grpo beta=0.04`), not to `--use-kl-loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from geomalign.adapters import hosted
from geomalign.batch import Batch

__all__ = ["loss"]


def loss(
    args: Any, batch: dict[str, Any], logits: Tensor, sum_of_sample_mean: Callable[[Tensor], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """slime's custom loss: `(args, batch, logits, reducer)` → `(loss, metrics)`; slime rescales it for Megatron.

    Args:
        args: with `geomalign_objective` ("opo" if absent); an entropy bonus by `entropy_coef` as in slime's own loss.
        batch: lists with one `(token,)` tensor a response: `log_probs` (rollout policy), `advantages`, `loss_masks`,
            `ref_log_probs`.
        logits: of the packed micro-batch.
        sum_of_sample_mean: slime's reducer of one flat `(tokens,)` tensor.

    Raises:
        ValueError: a unit of whole responses under context parallelism, where a rank holds parts of them.
    """
    from slime.backends.megatron_utils.loss import get_log_probs_and_entropy

    objective = hosted.objective_of(getattr(args, "geomalign_objective", None) or "opo")
    if getattr(args, "context_parallel_size", 1) > 1 and not all(term.unit.per_token for _, term in objective.terms):
        raise ValueError(
            "an event of this objective is a whole response, but with context_parallel_size > 1 a rank holds parts of "
            "responses. Use a unit of tokens, or no context parallelism."
        )
    bonus = getattr(args, "entropy_coef", 0.0) or 0.0
    scored = get_log_probs_and_entropy(
        logits,
        args=args,
        unconcat_tokens=batch["unconcat_tokens"],
        total_lengths=batch["total_lengths"],
        response_lengths=batch["response_lengths"],
        with_entropy=bonus != 0,
        **({"max_seq_lens": batch["max_seq_lens"]} if batch.get("max_seq_lens") is not None else {}),
    )
    scored = scored[1] if isinstance(scored, tuple) else scored  # the first of the pair is Megatron's unused loss
    policy = scored["log_probs"]
    exists = _padded([torch.ones_like(x, dtype=torch.bool) for x in policy])
    # Under context parallelism the masks are of whole responses, and slime's reducer applies them itself.
    masks = batch["loss_masks"]
    whole = all(m.shape == x.shape for m, x in zip(masks, policy, strict=True))
    mask = exists & (_padded(masks) != 0) if whole else exists
    reference = batch.get("ref_log_probs")
    rows = Batch(
        _padded(policy), _padded(batch["log_probs"]), mask, reference=None if reference is None else _padded(reference)
    )
    weights = hosted.weights_of(lambda losses: sum_of_sample_mean(losses[exists]), exists, rows.dtype)
    outcome = hosted.evaluate(objective, rows, _padded(batch["advantages"]), weights)
    total = outcome.loss
    if bonus:
        total = total - bonus * sum_of_sample_mean(torch.cat(scored["entropy"]))
    return total, {"loss": total.detach(), **hosted.found(outcome)}


def _padded(rows: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(rows), batch_first=True)
