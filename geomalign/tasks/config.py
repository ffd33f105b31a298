"""tasks.config"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geomalign._util.check import check, settle

#: What may stand before the colon of a task's name; anything else there is a module.
KINDS = ("reasoning_gym", "dataset", "preferences")


@dataclass(frozen=True)
class TaskConfig:
    """Which task, which tiers are trained and which are only evaluated.

    Args:
        name: `"chain"`; `"reasoning_gym:NAME"`; a file, or `"dataset:NAME"`; `"preferences:NAME"`; or
            `"my_module:MyTask"` for a task of one's own (see `geomalign.training.tasks.build`).
        options: keyword arguments of the task.
        train_tiers: tiers the reinforcement learning samples from, with equal probability; empty: 3 for chains, else 1.
        eval_tiers: tiers evaluated greedily; those not trained on are out of distribution; empty: 3, 4 and 6 for
            chains, else those trained on.
        eval_prompts: prompts a tier at the last evaluation. >= 1.
        eval_interim_prompts: prompts a tier at the earlier ones: the first of the same prompts. >= 1.
    """

    name: str = "chain"
    options: dict[str, Any] = field(default_factory=dict)
    train_tiers: tuple[int, ...] = ()
    eval_tiers: tuple[int, ...] = ()
    eval_prompts: int = 512
    eval_interim_prompts: int = 128

    def __post_init__(self) -> None:
        if not self.train_tiers:
            settle(self, train_tiers=(3,) if self._tiered else (1,))
        if not self.eval_tiers:
            settle(self, eval_tiers=(3, 4, 6) if self._tiered else self.train_tiers)
        check(
            set(self.train_tiers) <= set(self.eval_tiers),
            f"task.train_tiers {list(self.train_tiers)} must be among task.eval_tiers "
            f"{list(self.eval_tiers)}: accuracy in distribution is measured on the trained tiers.",
        )
        check(
            self.eval_prompts >= 1 and self.eval_interim_prompts >= 1,
            "task.eval_prompts and task.eval_interim_prompts must be >= 1.",
        )

    @property
    def _tiered(self) -> bool:
        """Whether the tiers that are not given are those of the chains, as for chains and tasks of one's own."""
        kind, colon, _ = self.name.partition(":")
        return self.name == "chain" or (bool(colon) and kind not in KINDS)
