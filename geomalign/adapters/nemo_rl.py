"""NeMo-RL: a `LossFunction`.

```python
from geomalign.adapters.nemo_rl import GeometryLoss

(policy, policy_generation, …, loss_fn, …) = setup(config, …)      # as in examples/run_grpo.py
loss_fn = GeometryLoss("opo alpha=0.4 mu=1.0")                      # in the place of ClippedPGLossFn
grpo_train(policy, policy_generation, …, loss_fn, …)
```

NeMo-RL sums the losses of micro-batches and ranks, each divided by the counts of the global batch. These are the
`counts` of an objective, so the objective's own measure holds. NeMo-RL's advantages are the drive. It adds up metrics
as it does losses, so ours are multiplied by the micro-batch's share of the tokens (or responses).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geomalign.adapters import hosted
from geomalign.batch import Batch, Counts
from geomalign.objective import BaseObjective

__all__ = ["GeometryLoss", "configuration"]


class GeometryLoss:
    """An objective as NeMo-RL's `LossFunction` of log-probabilities.

    Args:
        objective: an objective of single responses, or its description in one line, "opo alpha=0.4".

    Raises:
        ValueError: what `recipes.get` raises.

    >>> GeometryLoss("opo alpha=0.5").objective.sampling
    Escort(alpha=0.5, temperature=1.0, scaled=False, inverse_probability=False)
    """

    def __init__(self, objective: BaseObjective | str):
        self.objective = hosted.objective_of(objective)

    @property
    def input_type(self) -> Any:
        """What the loss is computed from: log-probabilities."""
        from nemo_rl.algorithms.loss.interfaces import LossInputType

        return LossInputType.LOGPROB

    @property
    def loss_type(self) -> Any:
        """By which of the two global counts gradients are divided."""
        from nemo_rl.algorithms.loss.interfaces import LossType

        return LossType.TOKEN_LEVEL if hosted.pooled(self.objective) else LossType.SEQUENCE_LEVEL

    @property
    def metric_normalizations(self) -> dict[str, Any]:
        """Which metrics are not divided by the count that gradients are; empty for releases that do not ask."""
        from nemo_rl.algorithms.loss import interfaces

        kinds = getattr(interfaces, "MetricNormalizer", None)
        return {} if kinds is None else {"num_valid_samples": kinds.NONE}

    def __call__(
        self,
        next_token_logprobs: Tensor,
        data: Any,
        global_valid_seqs: Tensor,
        global_valid_toks: Tensor,
        **unused: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """The loss of a micro-batch, and metrics.

        Args:
            next_token_logprobs: `(row, token − 1)`; the other tensors of `data` start one token earlier.
            data: `prev_logprobs` (of a run that is forced to be on-policy there are none), `advantages`, `token_mask`
                `(row, token)`, `sample_mask` `(row,)`; `reference_policy_logprobs`, `generation_logprobs` and
                `curr_logprobs_keep_mask` `(row, token − 1)` where there are any.
            global_valid_seqs: responses of the global batch.
            global_valid_toks: their tokens.
        """
        mask = (data["token_mask"][:, 1:] * data["sample_mask"][:, None]) != 0
        if "curr_logprobs_keep_mask" in data:  # tokens that top-k or top-p filtering left without a log-probability
            mask = mask & (data["curr_logprobs_keep_mask"] != 0)

        def shifted(name: str) -> Tensor | None:
            return data[name][:, 1:] if name in data else None

        batch = Batch(
            next_token_logprobs,
            shifted("prev_logprobs") if "prev_logprobs" in data else next_token_logprobs.detach(),
            mask,
            reference=shifted("reference_policy_logprobs"),
            behavior=shifted("generation_logprobs"),
        )
        rows = torch.as_tensor(global_valid_seqs)
        counts = Counts(torch.as_tensor(global_valid_toks), rows, torch.zeros_like(rows), rows)
        outcome = hosted.evaluate(self.objective, batch, data["advantages"][:, 1:], counts=counts)
        share = mask.sum() / counts.tokens if hosted.pooled(self.objective) else mask.any(-1).sum() / counts.sequences
        seen = {"loss": outcome.loss, "num_valid_samples": data["sample_mask"].sum()}
        return outcome.loss, hosted.numbers(seen | hosted.host_metrics(outcome, share))


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The lines that change in NeMo-RL's script to train an objective.

    >>> from geomalign import recipes
    >>> print(configuration("opo", recipes.get("opo"), {}).splitlines()[-1])
    loss_fn = GeometryLoss("opo")
    """
    return (
        f"{hosted.note(objective, 'NeMo-RL')}\n"
        "# NeMo-RL: in a copy of examples/run_grpo.py, after setup(…) and before grpo_train(…)\n"
        "from geomalign.adapters.nemo_rl import GeometryLoss\n"
        "\n"
        f"loss_fn = GeometryLoss({json.dumps(hosted.in_one_line(name, hyperparameters))})\n"
    )
