"""A table of prompts as a task, with a verifier that is chosen by name."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from geomalign.tasks.rows import column, first, read
from geomalign.tasks.task import Problem
from geomalign.tasks.verifiers import verifier as named
from geomalign.tasks.verifiers.base import Verifier, conversation

PROMPTS = ("prompt", "question", "problem", "instruction", "text", "input", "messages")
ANSWERS = ("answer", "ground_truth", "reward_model.ground_truth", "target", "expected_answer", "final_answer", "label")
DEMONSTRATIONS = ("demonstration", "solution", "canonical_solution", "completion", "response", "code")
#: Longest response in evaluation where a table has neither answers nor demonstrations; the most for preferences.
MAX_RESPONSE_LENGTH = 256


@dataclass(frozen=True)
class Dataset:
    """Problems drawn from a table.

    The careful demonstration of a problem is that of its row, the noisy one the bare answer; where a row has only one
    of them it serves as both.

    Args:
        levels: the problems of every level.
        demonstrations: the demonstrations by prompt, for the problems that have one.
        verify: scores a response.
        unfinished: whether responses without an end token are verified; otherwise their reward is 0.
        response_limit: longest response in evaluation, in characters or tokens; 0: the longest demonstration or answer.

    >>> from geomalign.tasks import Exact
    >>> task = Dataset({1: (Problem("3+8;", "11", 1),)}, {}, Exact())
    >>> task.reward(task.problem(1, random.Random(0)), "11", ended=True)
    1.0
    """

    levels: Mapping[int, tuple[Problem, ...]]
    demonstrations: Mapping[str, str]
    verify: Verifier
    unfinished: bool = False
    response_limit: int = 0

    @cached_property
    def alphabet(self) -> str:
        texts = [problem.prompt + problem.answer for part in self.levels.values() for problem in part]
        return "".join(sorted(set("".join([*texts, *self.demonstrations.values()]))))

    def problem(self, level: int, rng: random.Random) -> Problem:
        if level not in self.levels:
            raise ValueError(
                f"the table has no level {level}; it has {', '.join(map(str, sorted(self.levels)))}. "
                "See task.train_levels, task.eval_levels and warm_start.levels."
            )
        return rng.choice(self.levels[level])

    def demonstration(self, problem: Problem, rng: random.Random, noisy: bool) -> str:
        careful = self.demonstrations.get(problem.prompt) or problem.answer
        if not careful:
            raise ValueError(
                f"the prompt {problem.prompt[:60]!r} has neither a demonstration nor an answer, so the warm start has "
                "nothing to learn from: start from a trained model (--model PATH), name the column (demonstration=…), "
                "or leave the warm start out (warm_start.enabled=no)."
            )
        return problem.answer or careful if noisy else careful

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        return self.verify(response, problem) if ended or self.unfinished else 0.0

    @cached_property
    def _limit(self) -> int:
        answers = (problem.answer for part in self.levels.values() for problem in part)
        known = max(map(len, [*answers, *self.demonstrations.values()]), default=0)
        return known + 1 if known else MAX_RESPONSE_LENGTH

    def max_response_length(self, level: int) -> int:
        return self.response_limit or self._limit


def load(
    name: str,
    *,
    verifier: str = "exact",
    prompt: str = "",
    answer: str = "",
    demonstration: str = "",
    level: str = "",
    chat: bool = False,
    system: str = "",
    split: str = "train",
    subset: str | None = None,
    unfinished: bool = False,
    max_response_length: int = 0,
    **options: Any,
) -> Dataset:
    """A table as a task.

    Args:
        name, split, subset: see `geomalign.tasks.rows.read`.
        verifier: see `geomalign.tasks.verifier`.
        prompt, answer, demonstration: columns; empty: the first one with a usual name. A prompt is text or a list of
            messages. A dotted name looks into a column.
        level: column of the levels, integers; empty: all rows are of level 1.
        chat: ask prompts that are text through the model's chat template; conversations always are.
        system: the system message, where `chat` is on.
        unfinished: verify responses that were cut off, too.
        max_response_length: longest response in evaluation, in characters or tokens; 0: the longest demonstration or
            answer.
        **options: keyword arguments of the verifier.

    Raises:
        ValueError: a column is missing, or a row lacks what its verifier needs.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "sums.csv")
    ...     _ = file.write_text("question,answer\\n3+8,11")
    ...     load(str(file)).levels[1][0].prompt
    '3+8'
    """
    rows = read(name, split, subset)
    columns = {
        "prompt": _column(rows, prompt, PROMPTS, name),
        "answer": _column(rows, answer, ANSWERS, name, needed=bool(answer)),
        "demonstration": _column(rows, demonstration, DEMONSTRATIONS, name, needed=bool(demonstration)),
        "level": _column(rows, level, (), name, needed=bool(level)),
    }
    check = named(verifier, **options)
    levels: dict[int, list[Problem]] = {}
    demonstrations: dict[str, str] = {}
    for row in rows:
        found = {part: column(row, where) for part, where in columns.items() if where}
        problem = _problem(row, found, chat, system)
        levels.setdefault(problem.level, []).append(problem)
        if found.get("demonstration"):
            demonstrations[problem.prompt] = text(found["demonstration"])
    for part in levels.values():
        check.prepare(part)
    return Dataset(
        {key: tuple(part) for key, part in levels.items()}, demonstrations, check, unfinished, max_response_length
    )


def _column(rows: list[dict[str, Any]], chosen: str, known: tuple[str, ...], name: str, needed: bool = True) -> str:
    found = chosen if chosen and column(rows[0], chosen) is not None else "" if chosen else first(rows[0], known)
    if needed and not found:
        raise ValueError(
            f"{name} has no column {chosen or ' or '.join(known)}; it has {', '.join(rows[0])}. Name it, such as "
            "prompt=question or answer=reward_model.ground_truth."
        )
    return found


def _problem(row: Mapping[str, Any], found: Mapping[str, Any], chat: bool, system: str) -> Problem:
    asked = found["prompt"]
    messages: tuple[Mapping[str, str], ...]
    if isinstance(asked, list):
        messages = tuple({"role": str(m["role"]), "content": str(m["content"])} for m in asked)
    else:
        messages = conversation(str(asked), system) if chat else ()
    try:
        level = int(found.get("level", 1))
    except (TypeError, ValueError):
        raise ValueError(f"the level {found['level']!r} of a row is not an integer.") from None
    return Problem(text(asked), text(found.get("answer")), level, messages, row)


def text(value: Any) -> str:
    """A cell as text: messages one after another, other lists and objects as JSON, None as the empty text.

    >>> text([{"role": "user", "content": "3+8"}]), text(["a"]), text(None)
    ('3+8', '["a"]', '')
    """
    if value is None:
        return ""
    if isinstance(value, list) and value and all(isinstance(m, Mapping) and "content" in m for m in value):
        return "\n\n".join(str(message["content"]) for message in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
