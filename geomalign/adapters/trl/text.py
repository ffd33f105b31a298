"""The script with which TRL trains an objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geomalign.objective import BaseObjective

__all__ = ["configuration"]


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The script with which TRL trains an objective; see `geomalign.adapters.export.configuration`.

    >>> from geomalign import recipes
    >>> text = configuration("opo", recipes.get("opo mu=2"), {"mu": 2})
    >>> print(*[line for line in text.splitlines() if "objective=" in line])
        objective=ga.recipes.get('opo', mu=2),
    """
    paired = objective.paired
    kind = "DPO" if paired else "GRPO"
    call = ", ".join([repr(name), *(f"{key}={value!r}" for key, value in hyperparameters.items())])
    folder = repr(f"runs/{name.replace(':', '-')}")
    lines = [
        "from datasets import load_dataset",
        f"from trl import {kind}Config",
        "",
        "import geomalign as ga",
        f"from geomalign.adapters.trl import Geometry{kind}Trainer",
        "",
        'MODEL = "Qwen/Qwen3-0.6B"',
    ]
    if paired:
        lines += [
            'DATA = "preferences.jsonl"  # prompt, chosen, rejected',
            "",
            f"args = DPOConfig(output_dir={folder}, per_device_train_batch_size=8, learning_rate=5e-7)",
        ]
    else:
        lines += [
            'DATA = "prompts.jsonl"  # prompt, answer',
            "",
            "",
            "def correct(completions, answer, **columns):",
            "    return [float(a in c) for c, a in zip(completions, answer)]",
            "",
            "",
            "args = GRPOConfig(",
            f"    output_dir={folder},",
            "    num_generations=8,",
            "    num_iterations=2,  # steps per rollout: at the first the policy is the old one, and no geometry acts",
        ]
        if objective.needs_reference:
            lines.append(
                "    beta=0.04,  # not zero, so that TRL scores the reference; the strength is the objective's"
            )
        lines.append(")")
    lines += [
        f"trainer = Geometry{kind}Trainer(",
        "    MODEL,",
        *([] if paired else ["    reward_funcs=correct,"]),
        "    args=args,",
        '    train_dataset=load_dataset("json", data_files=DATA, split="train"),',
        f"    objective=ga.recipes.get({call}),",
        ")",
        "trainer.train()",
    ]
    return "\n".join(lines) + "\n"
