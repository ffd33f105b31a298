"""Prompts that leave the model no room for a response: found before the run, refused, or left out on demand."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

from geomalign.tasks import Dataset, Problem, Task, held_out
from geomalign.training.config.settings import TrainConfig
from geomalign.training.policy import Policy

UNTEMPLATED = (
    "the data are conversations, and the model has no chat template: messages are asked as plain text, one behind the "
    "other, without the roles that they are said in."
)
#: Draws of a task after which no prompt is expected to fit.
DRAWS = 1000


def fitting(task: Task, policy: Policy, config: TrainConfig, response: int, say: Callable[[str, str], None]) -> Task:
    """The task with prompts that fit: prompts that are trained on leave `response` tokens, held-out ones a single one.

    All prompts of a table are looked at; those of other tasks as they are drawn.

    Args:
        response: longest response to a prompt that is trained on; 0 where the run asks none of them.
        say: takes what was left out or changed: its kind, and a sentence.

    Returns:
        the task itself where `rl.long_prompts` is "refuse".

    Raises:
        ValueError: prompts of a table are too long and shall not be left out, or all of a level are; or a chat is asked
            for, and the model has no chat template.

    >>> from geomalign.training.policy import Placement, build
    >>> config = TrainConfig()
    >>> policy = build(config.model, "0123456789+=;", seed=0, placement=Placement())
    >>> task = Dataset({3: (Problem("1+2=", "3", 3),)}, {}, lambda response, problem: 1.0)
    >>> fitting(task, policy, config, response=32, say=print) is task
    True
    """
    drop = config.rl.long_prompts == "drop"
    if config.task.options.get("chat") and not policy.tokenizer.chat_template:
        raise ValueError(
            "the task has chat=true, but the model has no chat template, so its prompts would be asked as plain text. "
            "Take a model with one, set the tokenizer's chat_template and save it, or leave chat=true out."
        )

    def long(problems: Sequence[Problem]) -> list[int]:
        """The number of tokens of every problem that is too long, 0 for the others."""
        texts = [policy.ask(problem) for problem in problems]
        rooms = [policy.positions - (1 if held_out(problem) else response) + 1 for problem in problems]
        # A token is at least one byte of text, but for the few that a tokenizer adds.
        doubtful = [i for i, text in enumerate(texts) if len(text.encode(errors="replace")) + 8 > rooms[i]]
        found = [0] * len(problems)
        for i, tokens in zip(doubtful, policy.prompt_tokens([texts[i] for i in doubtful])):
            found[i] = len(tokens) if len(tokens) > rooms[i] else 0
        return found

    if not isinstance(task, Dataset):
        return _Fitting(task, lambda problem: not long([problem])[0]) if drop else task
    if not policy.tokenizer.chat_template and any(p.messages for part in task.levels.values() for p in part):
        say("chat", UNTEMPLATED)
    asked = {*(config.task.train_levels if response else ()), *config.task.eval_levels}
    lengths = {level: long(part) for level, part in task.levels.items() if level in asked}
    number, total = (sum(map(f, lengths.values())) for f in (_count, len))
    if not number:
        return task
    seen = (
        f"{number} of {total} prompts are too long: the longest has {max(map(max, lengths.values()))} tokens, and of "
        f"the model's {policy.positions} positions a response takes up to {max(response, 1)}"
    )
    if not drop:
        raise ValueError(
            f"{seen}. Leave them out with rl.long_prompts=drop, shorten them, lower max_new_tokens, or take a model "
            "with more positions."
        )
    kept = {
        level: tuple(problem for problem, length in zip(part, lengths.get(level, [0] * len(part))) if not length)
        for level, part in task.levels.items()
    }
    if empty := [str(level) for level, part in kept.items() if not part]:
        raise ValueError(f"{seen}; without them level {', '.join(empty)} has none left.")
    say("long", f"{seen}; they are left out.")
    return dataclasses.replace(task, levels=kept)


def _count(lengths: Sequence[int]) -> int:
    return sum(length > 0 for length in lengths)


@dataclasses.dataclass(frozen=True)
class _Fitting:
    """A task whose prompts that do not fit are drawn again."""

    task: Task
    fits: Callable[[Problem], bool]

    @property
    def alphabet(self) -> str:
        return self.task.alphabet

    def problem(self, level: int, rng: random.Random) -> Problem:
        for _ in range(DRAWS):
            found = self.task.problem(level, rng)
            if self.fits(found):
                return found
        raise ValueError(f"none of {DRAWS} prompts of level {level} leaves the model room for a response.")

    def demonstration(self, problem: Problem, rng: random.Random, noisy: bool) -> str:
        return self.task.demonstration(problem, rng, noisy)

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        return self.task.reward(problem, response, ended)

    def max_response_length(self, level: int) -> int:
        return self.task.max_response_length(level)
