"""torchtitan's reinforcement learning (`experiments/rl`): a loss among its configurable components.

```python
from geomalign.adapters.torchtitan import GeometryLoss

trainer=PolicyTrainer.Config(
    loss=ChunkedLossWrapper.Config(num_chunks=8, loss_fn=GeometryLoss.Config(objective="cispo epsilon_high=5")), …
)
```

torchtitan packs several responses into a row and does not tell a loss where one ends, so an event is a token here: a
unit of whole responses is refused. Its advantages (r − mean of the group) are the drive, the policy that generated is
the old one, and the loss of a step is the mean over its tokens.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geomalign.adapters import hosted
from geomalign.batch import Batch
from geomalign.objective import BaseObjective

__all__ = ["configuration", "evaluate"]


def evaluate(
    objective: BaseObjective,
    log_probs: Tensor,
    generator_logprobs: Tensor,
    advantages: Tensor,
    loss_mask: Tensor,
    global_valid_tokens: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """An objective of tokens on a packed micro-batch, `(row, token)` each → the loss, and metrics that add up.

    Args:
        objective: of tokens.
        log_probs: of the policy.
        generator_logprobs: of the policy that generated; a token where they are not finite is dropped.
        advantages: zero where `loss_mask` is.
        loss_mask: true at tokens of responses.
        global_valid_tokens: tokens of the step over all micro-batches and ranks; None: a sum.

    >>> from geomalign import recipes
    >>> policy, old = torch.zeros(1, 3, requires_grad=True), torch.tensor([[0.0, float("nan"), 0.0]])
    >>> loss, seen = evaluate(recipes.get("ppo"), policy, old, torch.ones(1, 3), torch.ones(1, 3).bool(), 2)
    >>> loss.backward(); policy.grad
    tensor([[-0.5000,  0.0000, -0.5000]])
    """
    mask = loss_mask & torch.isfinite(generator_logprobs)
    old = torch.where(mask, generator_logprobs, 0).to(log_probs.dtype)
    weights = mask.to(log_probs.dtype) / max(global_valid_tokens or 1, 1)
    batch = Batch(log_probs, old, mask, behavior=old)
    outcome = hosted.evaluate(objective, batch, torch.where(mask, advantages, 0).to(log_probs.dtype), weights)
    seen = hosted.host_metrics(outcome, weights.sum())
    # The end of a name tells torchtitan how chunks and ranks are combined.
    return outcome.loss, {name if name.endswith("_mean") else f"{name}/mean": value for name, value in seen.items()}


@functools.cache
def _loss_class() -> type:
    from torchtitan.components.loss import BaseLoss, compute_logprobs

    class GeometryLoss(BaseLoss):
        """An objective of tokens as torchtitan's loss; `Config.objective` is its description in one line."""

        @dataclasses.dataclass(kw_only=True, slots=True)
        class Config(BaseLoss.Config):
            objective: str = "dapo"

        def __init__(self, config: Any, *, compile_config: Any = None):
            self.objective = hosted.objective_of(config.objective)
            _check(self.objective, config.objective)

        def __call__(
            self,
            logits: Tensor,
            labels: Tensor,
            global_valid_tokens: float | None = None,
            *,
            generator_logprobs: Tensor,
            advantages: Tensor,
            loss_mask: Tensor,
        ) -> tuple[Tensor, dict[str, Tensor]]:
            log_probs, entropy = compute_logprobs(logits, labels, return_entropy=True)
            loss, seen = evaluate(
                self.objective, log_probs, generator_logprobs, advantages, loss_mask, global_valid_tokens
            )
            kept = loss_mask & torch.isfinite(generator_logprobs)
            mean_entropy = torch.where(kept, entropy, 0).sum() / max(global_valid_tokens or 1, 1)
            return loss, {"loss/mean": loss.detach(), "trainer/entropy/mean": mean_entropy} | seen

    GeometryLoss.__module__, GeometryLoss.__qualname__ = __name__, "GeometryLoss"
    GeometryLoss.Config.__module__, GeometryLoss.Config.__qualname__ = __name__, "GeometryLoss.Config"
    return GeometryLoss


def __getattr__(name: str) -> Any:
    # The class extends torchtitan's own, so it exists where torchtitan does.
    if name == "GeometryLoss":
        return _loss_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _check(objective: BaseObjective, name: str) -> None:
    hosted.note(objective, "torchtitan", reference=False)
    if not hosted.of_tokens(objective):
        raise ValueError(
            f"{name} reads whole responses, but torchtitan packs several responses into a row and does not "
            "tell a loss where one ends. Use a recipe of tokens, such as ppo, dapo or cispo."
        )


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The lines of a torchtitan configuration that train an objective.

    >>> from geomalign import recipes
    >>> print(configuration("dapo", recipes.get("dapo"), {}).splitlines()[-1])
    loss = ChunkedLossWrapper.Config(num_chunks=8, loss_fn=GeometryLoss.Config(objective="dapo"))
    """
    _check(objective, name)
    line = json.dumps(hosted.in_one_line(name, hyperparameters))
    return (
        f"{hosted.note(objective, 'torchtitan', reference=False)}\n"
        "# torchtitan: in a function of experiments/rl/examples/…/config_registry.py: PolicyTrainer.Config(loss=loss)\n"
        "from geomalign.adapters.torchtitan import GeometryLoss\n"
        "from torchtitan.components.loss import ChunkedLossWrapper\n"
        "\n"
        f"loss = ChunkedLossWrapper.Config(num_chunks=8, loss_fn=GeometryLoss.Config(objective={line}))\n"
    )
