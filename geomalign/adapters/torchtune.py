"""torchtune: loss modules by `_component_`, and the same modules for any loop with torchtune's signatures.

```yaml
loss:
  _component_: geomalign.adapters.torchtune.PreferenceLoss     # full_dpo_distributed, lora_dpo_…
  objective: chi_po
  beta: 0.1
```

```yaml
loss:
  _component_: geomalign.adapters.torchtune.PPOLoss            # ppo_full_finetune_single_device
  objective: ppo
  epsilon: 0.2
```
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geomalign.adapters import hosted
from geomalign.batch import Batch, PreferenceBatch
from geomalign.objective import BaseObjective

__all__ = ["PPOLoss", "PreferenceLoss"]


class PreferenceLoss(nn.Module):
    """An objective of pairs with torchtune's DPO signature.

    torchtune hands over sums over responses, so a unit that divides by lengths (`ipo`, `simpo`) is refused with the
    reason; with sums pass `normalize="sum"` to `ipo`.

    Args:
        objective: a recipe, with its hyper-parameters as the other arguments, or an objective.
    """

    def __init__(self, objective: BaseObjective | str = "dpo", **hyperparameters: Any):
        super().__init__()
        settings = tuple(sorted(hyperparameters.items()))
        self.objective = hosted.objective_of(objective, settings) if isinstance(objective, str) else objective

    def forward(
        self,
        policy_chosen_logps: Tensor,
        policy_rejected_logps: Tensor,
        reference_chosen_logps: Tensor,
        reference_rejected_logps: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`(pair,)` each → losses, chosen and rejected rewards (drive · chart(Δ); β Δ for DPO), `(pair,)` each.

        The losses are all the batch's mean, which is what the recipes take of them.
        """
        batch = PreferenceBatch(
            policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps
        )
        outcome = self.objective(batch)
        chart = outcome.objective.chart(outcome.log_ratio.detach())
        chosen, rejected = chart.chunk(2)
        drive = outcome.drive if outcome.drive.shape == chosen.shape else torch.ones_like(chosen)
        return outcome.loss.expand(batch.size), drive * chosen, drive * rejected


class PPOLoss(nn.Module):
    """An objective of tokens or responses with torchtune's PPO signature; the value loss stays torchtune's.

    Args:
        objective: a recipe, with its hyper-parameters as the other arguments, or an objective.
        value_clip_range: torchtune's.
        value_coeff: torchtune's.
    """

    def __init__(
        self,
        objective: BaseObjective | str = "ppo",
        value_clip_range: float = 0.2,
        value_coeff: float = 0.1,
        **hyperparameters: Any,
    ):
        super().__init__()
        from torchtune.rlhf.loss import PPOLoss as Host

        settings = tuple(sorted(hyperparameters.items()))
        self.objective = hosted.objective_of(objective, settings) if isinstance(objective, str) else objective
        self.host = Host(value_clip_range=value_clip_range, value_coeff=value_coeff)

    def forward(
        self,
        pi_old_logprobs: Tensor,
        pi_logprobs: Tensor,
        advantages: Tensor,
        phi_old_values: Tensor,
        phi_values: Tensor,
        returns: Tensor,
        padding_masks: Tensor | None = None,
        value_padding_masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """torchtune's tensors, masks true where tokens count → loss, policy loss, value loss, ratios, clip fraction."""
        batch = Batch(pi_logprobs, pi_old_logprobs, padding_masks)
        outcome = hosted.evaluate(self.objective, batch, advantages)
        theirs, surrogate, value, ratio, _ = self.host(
            pi_old_logprobs,
            pi_logprobs.detach(),
            advantages,
            phi_old_values,
            phi_values,
            returns,
            padding_masks,
            value_padding_masks,
        )
        # Of a policy without gradient only the value term of torchtune's loss is left to differentiate.
        loss = outcome.loss + (theirs - surrogate)
        return loss, outcome.loss.detach(), value, ratio, hosted.clip_fraction(hosted.found(outcome))
