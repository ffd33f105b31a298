"""A table of prompts as a task, verified by name."""

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
#: Longest response where a table does not say; of preferences, the most.
LONGEST = 256


@dataclass(frozen=True)
class Dataset:
    """Problems drawn from a table.

    A careful demonstration is the column of demonstrations, a lazy one the bare answer; where a row has only one of
    them it is both.

    Args:
        tiers: the problems of every tier.
        demonstrations: a response to every problem that has one, by prompt.
        verify: scores a response.
        unfinished: whether responses without an end token are verified; otherwise their reward is 0.
        longest_response: most characters or tokens of a response when evaluating; 0: the longest demonstration.
    """

    tiers: Mapping[int, tuple[Problem, ...]]
    demonstrations: Mapping[str, str]
    verify: Verifier
    unfinished: bool = False
    longest_response: int = 0

    @cached_property
    def alphabet(self) -> str:
        texts = [problem.prompt + problem.answer for part in self.tiers.values() for problem in part]
        return "".join(sorted(set("".join([*texts, *self.demonstrations.values()]))))

    def problem(self, tier: int, rng: random.Random) -> Problem:
        if tier not in self.tiers:
            raise ValueError(
                f"the table has no tier {tier}; it has {', '.join(map(str, sorted(self.tiers)))}. "
                "See task.train_tiers, task.eval_tiers and warm_start.tiers."
            )
        return rng.choice(self.tiers[tier])

    def demonstration(self, problem: Problem, rng: random.Random, lazy: bool) -> str:
        careful = self.demonstrations.get(problem.prompt) or problem.answer
        if not careful:
            raise ValueError(
                f"the prompt {problem.prompt[:60]!r} has neither a demonstration nor an answer, so there is nothing "
                "to learn "
                "from before rewards come: start from a trained model (--model PATH), name the column "
                "(demonstration=…), or "
                "leave the warm start out (warm_start.enabled=no)."
            )
        return problem.answer or careful if lazy else careful

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        return self.verify(response, problem) if ended or self.unfinished else 0.0

    @cached_property
    def _longest(self) -> int:
        answers = (problem.answer for part in self.tiers.values() for problem in part)
        known = max(map(len, [*answers, *self.demonstrations.values()]), default=0)
        return known + 1 if known else LONGEST

    def longest(self, tier: int) -> int:
        return self.longest_response or self._longest


def load(
    name: str,
    *,
    verifier: str = "exact",
    prompt: str = "",
    answer: str = "",
    demonstration: str = "",
    tier: str = "",
    chat: bool = False,
    system: str = "",
    split: str = "train",
    subset: str | None = None,
    unfinished: bool = False,
    longest: int = 0,
    **options: Any,
) -> Dataset:
    """A table as a task.

    Args:
        name: see `geomalign.training.tasks.rows.read`.
        verifier: see `geomalign.training.tasks.verifiers.verifier`.
        prompt, answer, demonstration: columns; empty: the first known one. A prompt is text or a list of messages. A
            dotted name looks into a column.
        tier: column of the tiers, integers; empty: all rows are of tier 1.
        chat: ask texts through the model's chat template; conversations always are.
        system: the system message, where `chat` is on.
        split, subset: see `read`.
        unfinished: verify responses that were cut off, too.
        longest: most characters or tokens of a response when evaluating; 0: the longest demonstration or answer.
        **options: keyword arguments of the verifier.

    Raises:
        ValueError: a column is missing, or a row is not as its verifier needs it.
    """
    rows = read(name, split, subset)
    columns = {
        "prompt": _column(rows, prompt, PROMPTS, name),
        "answer": _column(rows, answer, ANSWERS, name, needed=bool(answer)),
        "demonstration": _column(rows, demonstration, DEMONSTRATIONS, name, needed=bool(demonstration)),
        "tier": _column(rows, tier, (), name, needed=bool(tier)),
    }
    check = named(verifier, **options)
    tiers: dict[int, list[Problem]] = {}
    demonstrations: dict[str, str] = {}
    for row in rows:
        found = {part: column(row, where) for part, where in columns.items() if where}
        problem = _problem(row, found, chat, system)
        tiers.setdefault(problem.tier, []).append(problem)
        if found.get("demonstration"):
            demonstrations[problem.prompt] = text(found["demonstration"])
    for part in tiers.values():
        check.prepare(part)
    return Dataset({key: tuple(part) for key, part in tiers.items()}, demonstrations, check, unfinished, longest)


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
        tier = int(found.get("tier", 1))
    except (TypeError, ValueError):
        raise ValueError(f"the tier {found['tier']!r} of a row is no integer.") from None
    return Problem(text(asked), text(found.get("answer")), tier, messages, row)


def text(value: Any) -> str:
    """A cell as text: messages one after another, other lists and objects as JSON, nothing as nothing."""
    if value is None:
        return ""
    if isinstance(value, list) and value and all(isinstance(m, Mapping) and "content" in m for m in value):
        return "\n\n".join(str(message["content"]) for message in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
