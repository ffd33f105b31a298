"""The settings of a task, and the types that all settings of this library are checked with."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from geomalign._util.check import check, settle

#: Names of the built-in kinds of tasks, which stand before the colon of a task's name; anything else there is a module.
KINDS = ("reasoning_gym", "dataset", "preferences")

#: No text becomes a number and no number a truth value; floats are finite; keys that no field has are refused.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Count = Annotated[int, Field(ge=1)]
Levels = Annotated[tuple[int, ...], Field(strict=False)]  # a list, as files have it, becomes a tuple


@dataclass(frozen=True, config=STRICT)
class TaskConfig:
    """Which task is learnt, which of its levels are trained on and which are only evaluated.

    Args:
        name: `"chain"`; `"reasoning_gym:NAME"`; a file, or `"dataset:NAME"`; `"preferences:NAME"`; or
            `"my_module:MyTask"` for a task of one's own (see `geomalign.tasks.build`).
        options: keyword arguments of the task.
        train_levels: levels that training samples from, with equal probability; empty: 3 for chains, else 1.
        eval_levels: levels evaluated greedily; those not trained on are out of distribution; empty: 3, 4 and 6 for
            chains, else those trained on.
        eval_prompts: prompts per level at the last evaluation. ≥ 1.
        eval_interim_prompts: prompts per level at the earlier ones: the first of the same prompts. ≥ 1.

    Raises:
        ValueError: a value is of another type or out of range, or a trained level is not evaluated.

    >>> TaskConfig(train_levels=(2,), eval_levels=(2, 3)).eval_levels
    (2, 3)
    """

    name: str = "chain"
    options: dict[str, Any] = field(default_factory=dict)
    train_levels: Levels = ()
    eval_levels: Levels = ()
    eval_prompts: Count = 512
    eval_interim_prompts: Count = 128

    def __post_init__(self) -> None:
        if not self.train_levels:
            settle(self, train_levels=(3,) if self._has_levels else (1,))
        if not self.eval_levels:
            settle(self, eval_levels=(3, 4, 6) if self._has_levels else self.train_levels)
        check(
            set(self.train_levels) <= set(self.eval_levels),
            f"train_levels {list(self.train_levels)} must be among task.eval_levels {list(self.eval_levels)}: accuracy "
            "in distribution is measured on the trained levels.",
        )

    @property
    def _has_levels(self) -> bool:
        """Whether the default levels are those of chains: for chains, and for tasks of one's own."""
        kind, colon, _ = self.name.partition(":")
        return self.name == "chain" or (bool(colon) and kind not in KINDS)
