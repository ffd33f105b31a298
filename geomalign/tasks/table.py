"""A table of prompts as a task, with a verifier that is chosen by name."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from geomalign._util.check import boolean, integer
from geomalign._util.files import parsed
from geomalign.tasks.cells import Messages, as_integer, as_messages, as_prompt, as_text, refuse, spoken, texts
from geomalign.tasks.rows import column, read, say
from geomalign.tasks.task import Problem
from geomalign.tasks.verifiers import verifier as named
from geomalign.tasks.verifiers.base import Verifier, conversation

PROMPTS = ("prompt", "question", "problem", "instruction", "text", "input", "messages")
ANSWERS = ("answer", "ground_truth", "reward_model.ground_truth", "target", "expected_answer", "final_answer", "label")
DEMONSTRATIONS = ("demonstration", "solution", "canonical_solution", "completion", "response", "code")
#: Columns that are guessed to be none of these where a table has all of them: it is one of labelled responses.
_LABELLED = {"completion", "label"}
#: What the library says to the chat template itself.
_TEMPLATE = {"reply", "conversation", "tokenize", "add_generation_prompt", "continue_final_message", "return_tensors"}
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
        prompt, answer, demonstration: columns; empty: the first one with a usual name, and a warning where there are
            several. A prompt is text or a list of messages; an assistant's message at its end is not asked, but is the
            demonstration, where no column is. An answer that is a list of texts or numbers has several right ones. A
            dotted name looks into a column. `tools` and `chat_template_kwargs` are handed to the chat template.
        level: column of the levels, whole numbers; empty: all rows are of level 1.
        chat: ask prompts that are text through the model's chat template; conversations always are.
        system: the system message of what is asked as a chat: texts where `chat` is on, and conversations, which have
            none of their own.
        unfinished: verify responses that were cut off, too.
        max_response_length: longest response in evaluation, in characters or tokens; 0: the longest demonstration or
            answer.
        **options: keyword arguments of the verifier.

    Raises:
        ValueError: a column is missing, a cell holds what it should not (file, row and column are named), or a row
            lacks what its verifier needs.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "sums.csv")
    ...     _ = file.write_text("question,answer\\n3+8,11")
    ...     load(str(file)).levels[1][0].prompt
    '3+8'
    """
    boolean("load", chat=chat, unfinished=unfinished)
    integer("load", 0, max_response_length=max_response_length)
    rows = read(name, split, subset)
    columns = {
        "prompt": _column(rows, "prompt", prompt, PROMPTS, name),
        "answer": _column(rows, "answer", answer, ANSWERS, name, needed=bool(answer)),
        "demonstration": _column(
            rows, "demonstration", demonstration, DEMONSTRATIONS, name, needed=bool(demonstration)
        ),
        "level": _column(rows, "level", level, (), name, needed=bool(level)),
    }
    check = named(verifier, **options)
    levels: dict[int, list[Problem]] = {}
    demonstrations: dict[str, str] = {}
    answered = 0
    for number, row in enumerate(rows, 1):
        cells = {part: _Cell(row, where, f"row {number} of {name}") for part, where in columns.items() if where}
        prompt_text, messages, last = _asked(cells["prompt"], chat, system)
        problem = _problem(prompt_text, messages, cells, row, f"row {number} of {name}")
        levels.setdefault(problem.level, []).append(problem)
        shown = cells["demonstration"].demonstration() if "demonstration" in cells else last
        if shown:
            demonstrations[problem.prompt] = shown
        answered += bool(last)
    if answered:
        say(
            f"{answered} of {len(rows)} conversations in the column {columns['prompt']!r} of {name} end with a "
            "message of the assistant: it was taken out of the prompt"
            + ("." if columns["demonstration"] else " and is the demonstration. The verifier does not see it.")
        )
    answers: dict[str, set[str]] = {}
    for part in levels.values():
        check.prepare(part)
        for problem in part:
            answers.setdefault(problem.prompt, set()).add(problem.answer)
    if several := sum(len(found) > 1 for found in answers.values()):
        say(
            f"{several} of {len(answers)} different prompts of {name} have several true answers, each in a row of its "
            "own, and the demonstration of the last. Is the question in another column? Say prompt=…."
        )
    return Dataset(
        {key: tuple(part) for key, part in levels.items()}, demonstrations, check, unfinished, max_response_length
    )


def _column(
    rows: Sequence[Mapping[str, Any]], part: str, chosen: str, known: tuple[str, ...], name: str, needed: bool = True
) -> str:
    """The column of a part: the one that was chosen, or the first with a usual name in which any row has something."""
    names = [chosen] if chosen else [one for one in known if not (one in _LABELLED and rows[0].keys() >= _LABELLED)]
    of = [f"row {number} of {name}" for number in range(1, len(rows) + 1)]
    found = [one for one in names if any(_Cell(row, one, place).value is not None for row, place in zip(rows, of))]
    if chosen and not found and any(chosen in row for row in rows):
        raise ValueError(f"the column {chosen} of {name} holds nothing in any row.")
    if needed and not found:
        raise ValueError(
            f"{name} has no column {chosen or ' or '.join(known)}; it has {', '.join(rows[0])}. Name it, such as "
            "prompt=question or answer=reward_model.ground_truth."
        )
    if known is PROMPTS and not chosen and {"instruction", "input"} <= set(found) and found[0] == "instruction":
        row = next((row for row in rows if column(row, "instruction") and column(row, "input")), None)
        if row is not None:
            refuse(
                f"beside 'instruction', the column 'input' of {name}",
                row["input"],
                "write both into one column, or say prompt=….",
            )
    if len(found) > 1 and known is not DEMONSTRATIONS:
        say(
            f"{name} has several columns with a usual name of the {part}: {', '.join(found)}. The first is taken; say "
            f"{part}=… for another."
        )
    return found[0] if found else ""


@dataclass(frozen=True)
class _Cell:
    """A cell of a row, by the name of its column."""

    row: Mapping[str, Any]
    name: str
    of: str

    @property
    def where(self) -> str:
        return f"{self.of}, column {self.name!r}"

    @property
    def value(self) -> Any:
        try:
            return column(self.row, self.name)
        except ValueError as error:
            raise ValueError(f"{self.of}: {error}") from None

    def demonstration(self) -> str:
        value = self.value
        messages = (
            isinstance(value, list) and value and all(isinstance(part, Mapping) and "role" in part for part in value)
        )
        return spoken(as_messages(value, self.where)) if messages else as_text(value, self.where)


def _asked(cell: _Cell, chat: bool, system: str) -> tuple[str, Messages, str]:
    """The prompt as text and as messages, and the answer of the assistant, where a conversation ends with one."""
    value = cell.value
    asked, last = as_prompt(value, cell.where), ""
    if isinstance(asked, str):
        if not asked.strip():
            refuse(cell.where, value, "a prompt has at least one character that is not white space.")
        return asked, conversation(asked, system) if chat else (), ""
    if asked[-1]["role"] == "assistant":
        asked, last = asked[:-1], spoken(asked[-1:])
    if not asked or asked[-1]["role"] == "assistant":
        refuse(cell.where, value, "a conversation that is a prompt ends with a message that the assistant answers.")
    if system and asked[0]["role"] == "system":
        raise ValueError(f"system={system!r} was given, but {cell.where} has a system message of its own.")
    return spoken(asked), (*conversation("", system)[:-1], *asked), last


def _problem(
    prompt: str, messages: Messages, cells: Mapping[str, _Cell], row: Mapping[str, Any], where: str
) -> Problem:
    answer = cells.get("answer")
    return Problem(
        prompt,
        as_text(answer.value, answer.where) if answer else "",
        as_integer(cells["level"].value, cells["level"].where) if "level" in cells else 1,
        messages,
        row,
        texts(answer.value, answer.where) if answer else (),
        template(row, where) if messages else {},
    )


def template(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a row hands to the chat template beside the messages, under the names that TRL gives its columns.

    >>> template({"tools": '[{"type": "function"}]', "chat_template_kwargs": {"enable_thinking": False}}, "")
    {'enable_thinking': False, 'tools': [{'type': 'function'}]}
    """
    found: dict[str, Any] = {}
    for name, kind in (("chat_template_kwargs", Mapping), ("tools", list)):
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            try:
                value = parsed(value)
            except ValueError:
                value = row[name]
        if not value:
            continue
        if not isinstance(value, kind):
            refuse(
                f"{where}, column {name!r}",
                value,
                f"{'an object' if kind is Mapping else 'a list of objects'} is expected.",
            )
        found |= value if isinstance(value, Mapping) else {name: value}
    if found.keys() & _TEMPLATE:
        refuse(f"{where}, column 'chat_template_kwargs'", found, f"{', '.join(sorted(_TEMPLATE))} are not the table's.")
    return found
