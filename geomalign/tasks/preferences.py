"""Preference data in TRL's formats: as pairs of responses, and as a task."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, NamedTuple

from geomalign.tasks.cells import Messages, as_label, as_prompt, refuse, spoken
from geomalign.tasks.rows import read, say
from geomalign.tasks.table import MAX_RESPONSE_LENGTH, template
from geomalign.tasks.task import Problem


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


class _Pair(NamedTuple):
    """A pair before it is known where its prompt ends; messages are tuples."""

    row: Mapping[str, Any]
    where: str
    prompt: str | Messages | None
    chosen: str | Messages
    rejected: str | Messages


def preferences(name: str, split: str = "train", subset: str | None = None) -> list[Preference]:
    """The pairs of a table in one of TRL's formats, standard (text) or conversational (lists of messages):

    * `prompt`, `chosen`, `rejected`;
    * `chosen`, `rejected`, where the prompt is what both begin with, without a space at its end, as in TRL;
    * `prompt`, `completion`, `label`: every response that is labelled true is paired with one to the same prompt that
      is labelled false, in order.

    Where the responses repeat the prompt it is taken out of them: a conversation that begins with the prompt's
    messages, or with a message of the user that is the prompt; texts, if all of the table do, and with a warning.
    Columns `tools` and `chat_template_kwargs` are handed to the chat template. Pairs of equal responses and labelled
    responses without a partner are left out, with a warning that counts them.

    Args:
        name, split, subset: see `geomalign.tasks.rows.read`.

    Raises:
        ValueError: the table is in none of the formats, a row lacks a column or has another type, a label is neither
            true nor false, or there is no pair. The message names file, row and column.

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
        explicit = any(row.get("prompt") is not None for row in rows)
        _complete(name, rows, ("prompt", "chosen", "rejected") if explicit else ("chosen", "rejected"))
        found = [_of_row(row, f"row {number} of {name}") for number, row in enumerate(rows, 1)]
    elif {"prompt", "completion", "label"} <= have:
        _complete(name, rows, ("prompt", "completion", "label"))
        found = _paired(name, rows)
    else:
        raise ValueError(
            f"{name} has the columns {', '.join(rows[0])}; preferences have prompt, chosen, rejected; or chosen, "
            "rejected, with the prompt in both; or prompt, completion, label."
        )
    found = _without_repeated_prompts(name, [_separated(pair) for pair in found])
    different = [pair for pair in found if pair.chosen != pair.rejected]
    pairs = [_preference(pair) for pair in different]
    if not pairs:
        raise ValueError(f"{name} has no prompt with both a preferred and another, different response.")
    _doubtful(name, different)
    if len(pairs) < len(found):
        say(f"{len(found) - len(pairs)} of {len(found)} pairs of {name} are left out: their responses are equal.")
    return pairs


def _doubtful(name: str, pairs: Sequence[_Pair]) -> None:
    """Warn of pairs that hold what a table of preferences rarely means."""
    for count, what in (
        (sum(not (pair.chosen and pair.rejected) for pair in pairs), "have an empty response"),
        (sum(_inverted(pair.row) for pair in pairs), "have a lower score_chosen than score_rejected"),
        (
            sum(
                any(part["role"] != "assistant" for side in pair[3:] if isinstance(side, tuple) for part in side)
                for pair in pairs
            ),
            "have responses with messages of others than the assistant, which are trained on as well",
        ),
    ):
        if count:
            say(f"{count} of {len(pairs)} pairs of {name} {what}.")


def _inverted(row: Mapping[str, Any]) -> bool:
    better, worse = row.get("score_chosen"), row.get("score_rejected")
    return isinstance(better, (int, float)) and isinstance(worse, (int, float)) and better < worse


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


def _of_row(row: Mapping[str, Any], where: str) -> _Pair:
    parts = {
        column: None if row.get(column) is None else as_prompt(row[column], f"{where}, column {column!r}")
        for column in ("prompt", "chosen", "rejected")
    }
    return _Pair(row, where, **parts)  # type: ignore[arg-type]


def _paired(name: str, rows: Sequence[Mapping[str, Any]]) -> list[_Pair]:
    sides: dict[str, tuple[list[Any], list[Any]]] = {}
    for number, row in enumerate(rows, 1):
        where = f"row {number} of {name}"
        asked, said = (as_prompt(row[column], f"{where}, column {column!r}") for column in ("prompt", "completion"))
        good = as_label(row["label"], f"{where}, column 'label'")
        sides.setdefault(json.dumps(asked), ([], []))[not good].append((row, where, asked, said))
    pairs = [
        _Pair(row, where, asked, better, worse)
        for both in sides.values()
        for (row, where, asked, better), (*_, worse) in zip(*both)
    ]
    if pairs and 2 * len(pairs) < len(rows):
        say(
            f"{len(rows) - 2 * len(pairs)} of {len(rows)} rows of {name} are left out: no response to the same prompt "
            "has the other label and is still without a partner."
        )
    return pairs


def _separated(pair: _Pair) -> _Pair:
    """The pair with the prompt taken out of conversations that repeat it, or from what both responses begin with."""
    prompt, chosen, rejected, where = pair.prompt, pair.chosen, pair.rejected, pair.where
    if chosen == rejected:
        return pair
    if isinstance(chosen, str) or isinstance(rejected, str):
        if isinstance(chosen, tuple) or isinstance(rejected, tuple):
            raise ValueError(f"{where} has one response as text and one as messages; both are the one or the other.")
        if prompt is None:
            begin = "".join(_shared(chosen, rejected)).removesuffix(" ")
            return pair._replace(prompt=begin, chosen=chosen[len(begin) :], rejected=rejected[len(begin) :])
        if isinstance(prompt, str):
            if prompt and not prompt.strip():
                refuse(
                    f"{where}, column 'prompt'", prompt, "a prompt has at least one character that is not white space."
                )
            return pair
        chosen, rejected = ({"role": "assistant", "content": chosen},), ({"role": "assistant", "content": rejected},)
    else:
        shared = tuple(_shared(chosen, rejected))
        if prompt is not None and shared and shared[0]["role"] == "assistant":
            shared = ()  # the beginning of the responses
        if isinstance(prompt, str) and shared and not any(_asks(message, prompt) for message in shared):
            refuse(
                f"{where}, column 'prompt'",
                prompt,
                f"its responses begin with the messages {shared!r:.200}, which say otherwise.",
            )
        if prompt is None or (isinstance(prompt, str) and shared):
            prompt, repeated = shared, len(shared)
        else:
            prompt = ({"role": "user", "content": prompt},) if isinstance(prompt, str) else prompt
            repeated = len(prompt) if chosen[: len(prompt)] == prompt == rejected[: len(prompt)] else 0
        chosen, rejected = chosen[repeated:], rejected[repeated:]
    for column, said in (("chosen", chosen), ("rejected", rejected)):
        if not said or said[0]["role"] != "assistant" or said[-1]["role"] == "user":
            refuse(
                f"{where}, the response {column!r} behind its prompt",
                list(said),
                "it begins with a message of the assistant, and does not end with one of the user.",
            )
    if not prompt or prompt[-1]["role"] == "assistant":
        refuse(f"{where}, the prompt", list(prompt), "it is at least one message, and the last is not the assistant's.")
    return pair._replace(prompt=prompt, chosen=chosen, rejected=rejected)


def _shared(chosen: Sequence[Any], rejected: Sequence[Any]) -> list[Any]:
    return [one for one, _ in takewhile(lambda both: both[0] == both[1], zip(chosen, rejected))]


def _asks(message: Mapping[str, Any], prompt: str) -> bool:
    return bool(message["role"] == "user" and message["content"].strip() == prompt.strip())


def _without_repeated_prompts(name: str, pairs: list[_Pair]) -> list[_Pair]:
    """The pairs without the prompt in texts that all begin with it, where it does not end inside a word."""

    def repeats(pair: _Pair) -> bool:
        prompt, sides = pair.prompt, (pair.chosen, pair.rejected)
        return bool(prompt) and all(
            isinstance(prompt, str)
            and isinstance(side, str)
            and side.startswith(prompt)
            and not (prompt[-1].isalnum() and side[len(prompt) :][:1].isalnum())
            for side in sides
        )

    count = sum("prompt" in pair.row and repeats(pair) for pair in pairs)
    if pairs and count == len(pairs):
        say(
            f"all {count} pairs of {name} repeat their prompt at the beginning of both responses; it was taken out of "
            "them. If they are meant to repeat it, write one pair that does not."
        )
        return [
            pair._replace(
                chosen=pair.chosen[len(pair.prompt or "") :], rejected=pair.rejected[len(pair.prompt or "") :]
            )
            for pair in pairs
        ]
    if count > len(pairs) / 2:
        say(
            f"{count} of {len(pairs)} pairs of {name} repeat their prompt at the beginning of both responses; it stays "
            "there."
        )
    return pairs


def _preference(pair: _Pair) -> Preference:
    asked, chosen, rejected = (
        spoken(side) if isinstance(side, tuple) else str(side) for side in (pair.prompt, pair.chosen, pair.rejected)
    )
    messages, *said = (side if isinstance(side, tuple) else () for side in (pair.prompt, pair.chosen, pair.rejected))
    problem = Problem(asked, chosen, 1, messages, template=template(pair.row, pair.where))
    return Preference(problem, chosen, rejected, *said)


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
