"""Preference data in TRL's formats: as pairs of responses, and as a task."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

from geomalign.tasks.rows import read
from geomalign.tasks.table import MAX_RESPONSE_LENGTH, text
from geomalign.tasks.task import Problem

Messages = tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Preference:
    """Two responses to one prompt, the first preferred.

    Args:
        problem: the prompt, with the chosen response as its answer.
        chosen, rejected: the responses, as plain text.
        chosen_messages, rejected_messages: the responses as messages that follow those of the prompt; empty in the
            standard format.

    >>> Preference(Problem("3+8;", "11", 1), "11", "12").chosen
    '11'
    """

    problem: Problem
    chosen: str
    rejected: str
    chosen_messages: Messages = ()
    rejected_messages: Messages = ()


def preferences(name: str, split: str = "train", subset: str | None = None) -> list[Preference]:
    """The pairs of a table in one of TRL's formats, standard (text) or conversational (lists of messages):

    * `prompt`, `chosen`, `rejected`;
    * `chosen`, `rejected`, where the prompt is what both begin with, without a space at its end, as in TRL;
    * `prompt`, `completion`, `label`: every response that is labelled true is paired with one to the same prompt that
      is labelled false, in order.

    Args:
        name, split, subset: see `geomalign.tasks.rows.read`.

    Raises:
        ValueError: the table is in none of the formats, a row lacks a column or has another type, or there is no pair.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "pairs.jsonl")
    ...     _ = file.write_text('{"prompt": "3+8;", "chosen": "11", "rejected": "12"}')
    ...     preferences(str(file))[0].rejected
    '12'
    """
    rows = read(name, split, subset)
    have = set(rows[0])
    if {"chosen", "rejected"} <= have:
        _complete(name, rows, ("chosen", "rejected"))
        triples = [_triple(row) for row in rows]
    elif {"prompt", "completion", "label"} <= have:
        _complete(name, rows, ("prompt", "completion", "label"))
        triples = _paired(rows)
    else:
        raise ValueError(
            f"{name} has the columns {', '.join(rows[0])}; preferences have prompt, chosen, rejected; or chosen, "
            "rejected, with the prompt in both; or prompt, completion, label."
        )
    pairs = [_preference(*triple) for triple in triples if triple[1] != triple[2]]
    if not pairs:
        raise ValueError(f"{name} has no prompt with both a preferred and another, different response.")
    return pairs


def _complete(name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    for number, row in enumerate(rows, 1):
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise ValueError(
                f"row {number} of {name} has no {' and no '.join(missing)}; fill it, or leave the row out."
            )
        kinds = {type(row[column]).__name__ for column in columns if column in ("chosen", "rejected", "completion")}
        if len(kinds) > 1 or not kinds <= {"str", "list"}:
            raise ValueError(
                f"row {number} of {name} has responses of type {' and '.join(sorted(kinds))}; the responses of "
                "a row are all texts, or all lists of messages."
            )


def _triple(row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    chosen, rejected = row["chosen"], row["rejected"]
    if row.get("prompt") is not None:
        return row["prompt"], chosen, rejected
    if isinstance(chosen, str):
        shared = "".join(a for a, b in takewhile(lambda both: both[0] == both[1], zip(chosen, rejected)))
        length = len(shared.removesuffix(" "))
        return shared[:length], chosen[length:], rejected[length:]
    length = len(list(takewhile(lambda both: both[0] == both[1], zip(chosen, rejected))))
    return chosen[:length], chosen[length:], rejected[length:]


def _paired(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any, Any]]:
    sides: dict[str, tuple[Any, list[Any], list[Any]]] = {}
    for row in rows:
        _, wanted, unwanted = sides.setdefault(text(row["prompt"]), (row["prompt"], [], []))
        good = row["label"] in (True, "True", "true", "1")
        (wanted if good else unwanted).append(row["completion"])
    return [(prompt, *both) for prompt, wanted, unwanted in sides.values() for both in zip(wanted, unwanted)]


def _preference(prompt: Any, chosen: Any, rejected: Any) -> Preference:
    said = tuple(_messages(side) for side in (chosen, rejected))
    if isinstance(prompt, str) and any(said):
        prompt = [{"role": "user", "content": prompt}]
    problem = Problem(text(prompt), text(chosen), 1, _messages(prompt))
    return Preference(problem, text(chosen), text(rejected), *said)


def _messages(value: Any) -> Messages:
    if not isinstance(value, list):
        return ()
    try:
        return tuple({"role": str(message["role"]), "content": str(message["content"])} for message in value)
    except (TypeError, KeyError):
        raise ValueError(f"{str(value)[:80]} is no list of messages, each with a role and a content.") from None


@dataclass(frozen=True)
class Preferences:
    """The prompts of preference data as a task of one level, 1: the preferred response is the demonstration, and its
    exact text the answer.

    With it a small model can be taught from random weights; its accuracy is how often the greedy response is the
    preferred one.

    Args:
        pairs: the preferences.
        response_limit: longest response in evaluation, in characters or tokens; 0: the longest preferred one, up to
            256.

    >>> task = Preferences((Preference(Problem("3+8;", "11", 1), "11", "12"),))
    >>> task.max_response_length(1)
    3
    """

    pairs: tuple[Preference, ...]
    response_limit: int = 0

    @classmethod
    def read(
        cls, name: str, *, split: str = "train", subset: str | None = None, max_response_length: int = 0
    ) -> Preferences:
        """The task of a table that `preferences` reads."""
        return cls(tuple(preferences(name, split, subset)), max_response_length)

    @cached_property
    def alphabet(self) -> str:
        texts = (pair.problem.prompt + pair.chosen + pair.rejected for pair in self.pairs)
        return "".join(sorted(set("".join(texts))))

    def problem(self, level: int, rng: random.Random) -> Problem:
        if level != 1:
            raise ValueError(f"preference data have level 1 only; level {level} was asked for. See task.eval_levels.")
        return rng.choice(self.pairs).problem

    def demonstration(self, problem: Problem, rng: random.Random, noisy: bool) -> str:
        return problem.answer

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        return float(ended and response.strip() == problem.answer.strip())

    @cached_property
    def _limit(self) -> int:
        return min(max(len(pair.chosen) for pair in self.pairs) + 1, MAX_RESPONSE_LENGTH)

    def max_response_length(self, level: int) -> int:
        return self.response_limit or self._limit
