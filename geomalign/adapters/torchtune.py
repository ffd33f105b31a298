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

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geomalign.adapters import hosted
from geomalign.batch import Batch, PreferenceBatch
from geomalign.objective import BaseObjective

__all__ = ["PPOLoss", "PreferenceLoss", "configuration"]


class PreferenceLoss(nn.Module):
    """An objective of pairs with torchtune's DPO signature.

    torchtune hands over sums over responses, so a unit that divides by lengths (`ipo`, `simpo`) is refused with the
    reason; with sums pass `normalize="sum"` to `ipo`.

    Args:
        objective: an objective, or its description, with hyper-parameters as the other arguments.

    Raises:
        ValueError: what `recipes.get` raises; when called, a unit that needs the single tokens.

    >>> import torch
    >>> losses, chosen, rejected = PreferenceLoss("dpo", beta=0.1)(*torch.zeros(4, 2))
    >>> losses
    tensor([0.6931, 0.6931])
    """

    def __init__(self, objective: BaseObjective | str = "dpo", **hyperparameters: Any):
        super().__init__()
        self.objective = hosted.objective_of(objective, hyperparameters.items())

    def forward(
        self,
        policy_chosen_logps: Tensor,
        policy_rejected_logps: Tensor,
        reference_chosen_logps: Tensor,
        reference_rejected_logps: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`(pair,)` each → losses, chosen and rejected rewards (drive · chart(Δ); β Δ for DPO), `(pair,)` each.

        All losses are the batch's mean, as torchtune's recipes take the mean of them. Of a sum the rewards are those of
        its first term.
        """
        batch = PreferenceBatch(
            policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps
        )
        outcome = self.objective(batch)
        first = outcome.terms[0]
        chosen, rejected = first.objective.chart(first.log_ratio.detach()).chunk(2)
        drive = first.drive if first.drive.shape == chosen.shape else torch.ones_like(chosen)
        return outcome.loss.expand(batch.size), drive * chosen, drive * rejected


class PPOLoss(nn.Module):
    """An objective of tokens or responses with torchtune's PPO signature; the value loss stays torchtune's.

    Args:
        objective: an objective, or its description, with hyper-parameters as the other arguments.
        value_clip_range: torchtune's.
        value_coeff: torchtune's.

    Raises:
        ValueError: what `recipes.get` raises; when called, an objective of pairs.

    ```py
    loss, policy_loss, value_loss, ratios, clipped = PPOLoss("ppo", epsilon=0.1)(
        old, policy, advantages, old_values, values, returns, mask, mask
    )
    ```
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

        self.objective = hosted.objective_of(objective, hyperparameters.items())
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
        return loss, outcome.loss.detach(), value, ratio, hosted.clip_fraction(hosted.host_metrics(outcome))


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The YAML with which torchtune trains an objective.

    >>> from geomalign import recipes
    >>> print(configuration("chi_po", recipes.get("chi_po"), {}).splitlines()[-1])
      objective: chi_po
    """
    note = []
    component, config = "PreferenceLoss", "full_dpo_distributed"
    if not objective.paired:
        note = [hosted.note(objective, "torchtune", reference=False)]
        component, config = "PPOLoss", "ppo_full_finetune_single_device"
    elif any(term.unit.needs_tokens for _, term in objective.terms):
        raise ValueError(f"torchtune hands over sums over responses, but {name} divides by their lengths.")
    lines = [
        *note,
        f"# torchtune: tune run {config} --config …, with",
        "loss:",
        f"  _component_: geomalign.adapters.torchtune.{component}",
        f"  objective: {name}",
        *(f"  {key}: {json.dumps(value)}" for key, value in hyperparameters.items()),
    ]
    return "\n".join(lines) + "\n"
