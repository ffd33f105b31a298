"""The configuration with which an objective runs in another trainer: `geomalign export trl opo --alpha 0.4`.

Every text is complete but for names of models and data, and says in comments what the trainer decides instead of the
objective. What a trainer cannot compute is refused with the reason and, where there is one, the way around it.
"""

from __future__ import annotations

import importlib
from typing import Any

from geomalign._util.words import named

__all__ = ["HOSTS", "configuration"]

HOSTS: dict[str, str] = {
    "trl": "geomalign.adapters.trl",
    "verl": "geomalign.adapters.verl",
    "prime-rl": "geomalign.adapters.prime_rl",
    "slime": "geomalign.adapters.slime",
    "openrlhf": "geomalign.adapters.openrlhf",
    "nemo-rl": "geomalign.adapters.nemo_rl",
    "torchtune": "geomalign.adapters.torchtune",
    "skyrl": "geomalign.adapters.skyrl",
    "rllm": "geomalign.adapters.rllm",
    "torchtitan": "geomalign.adapters.torchtitan",
    "tinker": "geomalign.adapters.tinker",
}
"""Trainer → the module of its adapter, whose `configuration(name, objective, hyperparameters)` writes the text."""


def configuration(host: str, description: str, /, **hyperparameters: Any) -> str:
    """The text with which an objective runs in another trainer.

    Args:
        host: one of `HOSTS`: "trl" (a script), "verl" (YAML on top of verl's own), "prime-rl" (TOML), "slime" (YAML and
            flags), "openrlhf" (a command), "nemo-rl" (the lines that change), "torchtune" (YAML), "skyrl" (a script),
            "rllm" (YAML), "torchtitan" (lines of its configuration), "tinker" (a loop).
        description: a recipe or `module:attribute`, with options behind it: "opo mu=2", "my_module:mine". The text
            names the module where the description does, so it must be importable where the trainer runs.
        hyperparameters: the recipe's; they win over the options in the description.

    Raises:
        ValueError: an unknown trainer, what `recipes.get` raises, or an objective that the trainer cannot compute.

    >>> print(configuration("prime-rl", "opo", alpha=0.5))
    # prime-rl makes the advantages: they are the drive, in the place of Escort(alpha=0.5).
    [orchestrator.train.algo]
    type = "grpo"                # r − mean of the group
    <BLANKLINE>
    [trainer.loss]
    type = "custom"
    import_path = "geomalign.adapters.prime_rl.loss"
    <BLANKLINE>
    [trainer.loss.kwargs]
    objective = "opo"
    alpha = 0.5
    <BLANKLINE>
    """
    from geomalign import recipes

    if host not in HOSTS:
        raise ValueError(f"there is no export to {host!r}; there are {', '.join(HOSTS)}.")
    name, options = named(description, where="the objective")
    options |= hyperparameters
    adapter = importlib.import_module(HOSTS[host])
    text: str = adapter.configuration(name, recipes.get(name, **options), options)
    return text
