"""Any task of the `reasoning_gym` package."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geomalign._util.check import boolean
from geomalign.tasks.cells import as_text
from geomalign.tasks.task import Problem
from geomalign.tasks.verifiers.base import conversation, extract

if TYPE_CHECKING:
    from reasoning_gym.factory import ProceduralDataset

#: Problems to draw from, per level. Most tasks make each when it is asked for, so that a large number costs nothing.
SIZE = 1_000_000


class Gym:
    """A task of the package `reasoning_gym`, verified by its own scorer.

    Level 1 has the options as they are given. At level t > 1 every quantity of the task's curriculum is at the
    curriculum's level t − 1; the options given keep their values.

    Args:
        name: of the task, such as `"chain_sum"`.
        after: a marker such as `"####"`; only what follows its last occurrence in a response is scored. In a response
            with `<answer>…</answer>` what is between the tags is scored in any case.
        chat: ask through the model's chat template.
        system: the system message, where `chat` is on.
        max_response_length: longest response in evaluation, in characters or tokens. ≥ 1.
        pool: problems to draw from, per level; a few tasks can make no more than some thousand. ≥ 16.
        **options: of the task's configuration, such as `min_terms=2`.

    Raises:
        ValueError: the package is not installed, or it has no such task, option or level.

    >>> Gym("chain_sum", max_terms=3).problem(1, random.Random(0)).prompt  # doctest: +SKIP
    'State the final answer to the following arithmetic problem: 3478 + 8220 - 3969 ='
    """

    def __init__(
        self,
        name: str,
        *,
        after: str = "",
        chat: bool = False,
        system: str = "",
        max_response_length: int = 64,
        pool: int = SIZE,
        **options: Any,
    ) -> None:
        try:
            import reasoning_gym
        except ImportError:
            raise ValueError("reasoning_gym is not installed: pip install 'geomalign[tasks]'.") from None
        from reasoning_gym.factory import CURRICULA, DATASETS

        boolean("Gym", chat=chat)
        if name not in DATASETS:
            raise ValueError(f"reasoning_gym has no task {name!r}; it has {', '.join(sorted(DATASETS))}.")
        self.name, self.after, self.chat, self.system, self.pool = name, after, chat, system, pool
        self._max_response_length, self._options = max_response_length, options
        self._create, self._curricula = reasoning_gym.create_dataset, CURRICULA
        self._levels: dict[int, ProceduralDataset] = {}
        self._level(1)

    def _level(self, level: int) -> ProceduralDataset:
        if level not in self._levels:
            options = {"seed": level, "size": self.pool, **self._settings(level), **self._options}
            try:
                self._levels[level] = self._create(self.name, **options)
            except (TypeError, AssertionError, ValueError) as error:
                raise ValueError(
                    f"reasoning_gym:{self.name} could not be made in level {level} with {options}: {error}"
                ) from error
        return self._levels[level]

    def _settings(self, level: int) -> dict[str, Any]:
        if level == 1:
            return {}
        if level < 1 or self.name not in self._curricula:
            raise ValueError(
                f"reasoning_gym:{self.name} has level 1"
                + (", 2, …" if self.name in self._curricula else " only, for it has no curriculum")
                + f"; level {level} was asked for. See task.train_levels and task.eval_levels."
            )
        curriculum = self._curricula[self.name]()
        curriculum.set_global_level(level - 1)
        harder = vars(curriculum.generate_configuration())
        return {name: value for name, value in harder.items() if name not in ("seed", "size")}

    @property
    def alphabet(self) -> str:
        rng = random.Random("alphabet")
        seen = "".join(problem.prompt + problem.answer for problem in (self.problem(1, rng) for _ in range(64)))
        return "".join(sorted({*seen, *string.printable}))

    def problem(self, level: int, rng: random.Random) -> Problem:
        entry = self._level(level)[rng.randrange(self.pool)]
        prompt = entry["question"]
        messages = conversation(prompt, self.system) if self.chat else ()
        # A few tasks have no answer of their own, as many are right: their scorer judges what a response says.
        answer = as_text(entry["answer"], f"the answer of reasoning_gym:{self.name}")
        return Problem(prompt, answer, level, messages, entry)

    def demonstration(self, problem: Problem, rng: random.Random, noisy: bool) -> str:
        if not problem.answer:
            raise ValueError(
                f"reasoning_gym:{self.name} has no answers that a warm start could learn from: start from a trained "
                "model (--model PATH), or leave the warm start out (warm_start.enabled=no)."
            )
        return f"{self.after}{problem.answer}"

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        answer = extract(response, self.after)
        if not ended or answer is None:
            return 0.0
        entry: Mapping[str, Any] = problem.row
        return float(self._level(problem.level).score_answer(answer, entry))

    def max_response_length(self, level: int) -> int:
        return self._max_response_length
