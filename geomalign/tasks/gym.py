"""Any task of the `reasoning_gym` package."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geomalign.tasks.task import Problem
from geomalign.tasks.verifiers.base import conversation, extract

if TYPE_CHECKING:
    from reasoning_gym.factory import ProceduralDataset

#: Problems to draw from, in every tier; few tasks generate all of them at once.
SIZE = 1_000_000


class Gym:
    """A task of `reasoning_gym`, verified by its own scorer.

    Tier 1 has the options as they are given. In tier t > 1 every quantity that the task's curriculum knows is at level
    t - 1; the options given keep their values.

    Args:
        name: of the task, such as `"chain_sum"`.
        after: a marker such as `"####"`; only what follows its last occurrence in a response is scored. A response with
            `<answer>…</answer>` is scored by what is between them in any case.
        chat: ask through the model's chat template.
        system: the system message, where `chat` is on.
        longest: most characters or tokens of a response when evaluating. >= 1.
        pool: problems to draw from, in every tier; a few tasks can make no more than some thousand. >= 16.
        **options: of the task's configuration, such as `min_terms=2`.

    Raises:
        ValueError: the package or the task is not there, or an option is not one of its.
    """

    def __init__(
        self,
        name: str,
        *,
        after: str = "",
        chat: bool = False,
        system: str = "",
        longest: int = 64,
        pool: int = SIZE,
        **options: Any,
    ) -> None:
        try:
            import reasoning_gym
        except ImportError:
            raise ValueError("reasoning_gym is not installed: pip install 'geomalign[tasks]'.") from None
        from reasoning_gym.factory import CURRICULA, DATASETS

        if name not in DATASETS:
            raise ValueError(f"reasoning_gym has no task {name!r}; it has {', '.join(sorted(DATASETS))}.")
        self.name, self.after, self.chat, self.system, self.pool = name, after, chat, system, pool
        self._longest, self._options = longest, options
        self._create, self._curricula = reasoning_gym.create_dataset, CURRICULA
        self._tiers: dict[int, ProceduralDataset] = {}
        self._tier(1)

    def _tier(self, tier: int) -> ProceduralDataset:
        if tier not in self._tiers:
            options = {"seed": tier, "size": self.pool, **self._levels(tier), **self._options}
            try:
                self._tiers[tier] = self._create(self.name, **options)
            except (TypeError, AssertionError, ValueError) as error:
                raise ValueError(
                    f"reasoning_gym:{self.name} could not be made in tier {tier} with {options}: {error}"
                ) from error
        return self._tiers[tier]

    def _levels(self, tier: int) -> dict[str, Any]:
        if tier == 1:
            return {}
        if tier < 1 or self.name not in self._curricula:
            raise ValueError(
                f"reasoning_gym:{self.name} has tier 1"
                + (", 2, …" if self.name in self._curricula else " only, for it has no curriculum")
                + f"; tier {tier} was asked for. See task.train_tiers and task.eval_tiers."
            )
        curriculum = self._curricula[self.name]()
        curriculum.set_global_level(tier - 1)
        chosen = vars(curriculum.generate_configuration())
        return {name: value for name, value in chosen.items() if name not in ("seed", "size")}

    @property
    def alphabet(self) -> str:
        rng = random.Random("alphabet")
        seen = "".join(problem.prompt + problem.answer for problem in (self.problem(1, rng) for _ in range(64)))
        return "".join(sorted({*seen, *string.printable}))

    def problem(self, tier: int, rng: random.Random) -> Problem:
        entry = self._tier(tier)[rng.randrange(self.pool)]
        prompt = entry["question"]
        messages = conversation(prompt, self.system) if self.chat else ()
        return Problem(prompt, str(entry["answer"]), tier, messages, entry)

    def demonstration(self, problem: Problem, rng: random.Random, lazy: bool) -> str:
        return f"{self.after}{problem.answer}"

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        answer = extract(response, self.after)
        if not ended or answer is None:
            return 0.0
        entry: Mapping[str, Any] = problem.row
        return float(self._tier(problem.tier).score_answer(answer, entry))

    def longest(self, tier: int) -> int:
        return self._longest
