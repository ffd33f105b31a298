"""OpenRLHF: a `PolicyLoss` that minimises an objective, and a launcher that puts it into every Ray worker.

```bash
python -m geomalign.adapters.openrlhf "opo alpha=0.4 mu=1.0" -- --actor.model_name_or_path … # train_ppo_ray's arguments
```

OpenRLHF has no setting for its loss. The launcher starts Ray with a set-up hook that exchanges the class in the workers
and then runs `openrlhf.cli.train_ppo_ray` unchanged. Advantages are OpenRLHF's
(`--algo.advantage.estimator`) and are the drive; the reduction follows `actor.loss_agg_mode` and its global counts; its
KL and entropy terms stay its own.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from geomalign.adapters import hosted
from geomalign.batch import Batch
from geomalign.objective import BaseObjective

__all__ = ["PolicyLoss", "configuration", "install", "main"]

VARIABLE = "GEOMALIGN_OBJECTIVE"


class PolicyLoss(nn.Module):
    """An objective with the constructor and the call of OpenRLHF's `PolicyLoss`.

    Args:
        objective: an objective of single responses, or its description in one line; None: the environment variable
            GEOMALIGN_OBJECTIVE.
        token_level_loss: OpenRLHF's: divide by tokens, or average responses.
        options: OpenRLHF's other arguments; the clip range and `policy_loss_type` are the objective's affair, and a
            correction for the rollout engine must be "off" (use `ga.TruncatedImportance` with the log-probabilities).

    Raises:
        ValueError: `is_correction_level` is not "off", or what `recipes.get` raises.

    >>> PolicyLoss("opo alpha=0.5", token_level_loss=False).objective.sampling
    Escort(alpha=0.5, temperature=1.0, scaled=False, inverse_probability=False)
    """

    def __init__(self, objective: BaseObjective | str | None = None, token_level_loss: bool = True, **options: Any):
        super().__init__()
        if options.get("is_correction_level", "off") != "off":
            raise ValueError(
                f"is_correction_level={options['is_correction_level']!r} multiplies OpenRLHF's own token losses, which "
                "the objective replaces: set it to off."
            )
        objective = os.environ.get(VARIABLE, "opo") if objective is None else objective
        self.objective = hosted.objective_of(objective)
        self.token_level_loss = token_level_loss

    def forward(
        self,
        log_probs: Tensor,
        old_log_probs: Tensor,
        advantages: Tensor,
        action_mask: Tensor | None = None,
        rollout_log_probs: Tensor | None = None,
        **counts: Any,
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """`(row, token)` each → loss, clip fraction, approximate KL, and two entries of the correction that is off.

        Args:
            counts: OpenRLHF's `dp_size`, `batch_num_tokens`, `global_batch_size`, passed on to its `aggregate_loss`.
        """
        from openrlhf.models.loss import aggregate_loss

        batch = Batch(log_probs, old_log_probs, action_mask, behavior=rollout_log_probs)
        mask = batch.support.to(batch.dtype)
        reduce = lambda losses: aggregate_loss(losses, mask, token_level_loss=self.token_level_loss, **counts)  # noqa: E731
        outcome = hosted.evaluate(
            self.objective, batch, advantages, hosted.weights_of(reduce, batch.support, batch.dtype)
        )
        clipped = hosted.clip_fraction(hosted.host_metrics(outcome))
        return outcome.loss, clipped, hosted.approximate_kl(outcome), None, None


def install() -> None:
    """Put `PolicyLoss` in the place of OpenRLHF's, in this process; called in every Ray worker as it starts.

    ```py
    os.environ["GEOMALIGN_OBJECTIVE"] = "opo alpha=0.4"
    install()
    ```
    """
    for module in ("openrlhf.models", "openrlhf.models.loss"):
        setattr(importlib.import_module(module), "PolicyLoss", PolicyLoss)  # noqa: B010 (of a foreign module)


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The command with which OpenRLHF trains an objective.

    >>> from geomalign import recipes
    >>> print(configuration("opo", recipes.get("opo"), {}).splitlines()[1])
    python -m geomalign.adapters.openrlhf "opo" -- \\
    """
    note = hosted.note(objective, "OpenRLHF", reference=False)
    mode = "token-mean" if hosted.pooled(objective) else "seq-mean-token-mean"
    return (
        f"{note}\n"
        f"python -m geomalign.adapters.openrlhf {json.dumps(hosted.in_one_line(name, hyperparameters))} -- \\\n"
        f"    --actor.loss_agg_mode {mode} --algo.advantage.is_correction_level off \\\n"
        "    --actor.model_name_or_path MODEL --data.prompt_dataset DATA\n"
    )


def main(arguments: list[str]) -> None:
    """Run OpenRLHF's own PPO command with an objective as its policy loss.

    Args:
        arguments: the objective's description, "--", and the arguments of `openrlhf.cli.train_ppo_ray`.

    Raises:
        SystemExit: there is no "--" behind the first argument.
        ValueError: what `recipes.get` raises of the description.

    ```py
    main(["opo alpha=0.4", "--", "--actor.model_name_or_path", "Qwen/Qwen3-0.6B"])
    ```
    """
    if len(arguments) < 2 or arguments[1] != "--":
        raise SystemExit(
            f"usage: python -m {__spec__.name if __spec__ else __name__} OBJECTIVE -- ARGUMENTS of train_ppo_ray"
        )
    import runpy

    import ray

    hosted.objective_of(arguments[0])
    os.environ[VARIABLE] = arguments[0]
    hook = (
        f"{PolicyLoss.__module__}.install"
        if PolicyLoss.__module__ != "__main__"
        else "geomalign.adapters.openrlhf.install"
    )
    defaults = {"TOKENIZERS_PARALLELISM": "true", "NCCL_DEBUG": "WARN", "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1"}
    variables = {name: os.environ.get(name, value) for name, value in defaults.items()} | {VARIABLE: arguments[0]}
    ray.init(runtime_env={"env_vars": variables, "worker_process_setup_hook": hook})
    sys.argv = ["train_ppo_ray", *arguments[2:]]
    runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
