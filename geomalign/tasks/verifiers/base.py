"""The contract of verifiers, and those that compare text: exact match and multiple choice."""

from __future__ import annotations

import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from geomalign.tasks.task import Problem


class Verifier(ABC):
    """Scores one response to one problem.

    >>> class Short(Verifier):
    ...     def __call__(self, response, problem):
    ...         return float(len(response) < 5)
    >>> Short()("11", Problem("3+8;", "11", 1))
    1.0
    """

    @abstractmethod
    def __call__(self, response: str, problem: Problem) -> float:
        """The reward of the response. An exception of any kind masks the response."""

    def prepare(self, problems: Sequence[Problem]) -> None:  # noqa: B027 (nothing to refuse is a fine default)
        """Called once, with all problems, before any response; refuses what could never be verified.

        Raises:
            ValueError: a problem lacks what the verifier needs.
        """


@dataclass(frozen=True)
class FromFunction(Verifier):
    """A function `(response, problem) -> float` as a verifier.

    >>> FromFunction(lambda response, problem: response == problem.answer)("11", Problem("3+8;", "11", 1))
    1.0
    """

    function: Callable[[str, Problem], float]

    def __call__(self, response: str, problem: Problem) -> float:
        return float(self.function(response, problem))


def extract(response: str, after: str) -> str | None:
    """The answer in a response: between its last `<answer>` tags, or else behind the last marker `after`.

    Without a marker to look for it is the whole response; None if the marker is missing.

    >>> extract("3 + 4 is 7 #### 7 ", "####"), extract("so <answer>7</answer>.", ""), extract("7", "####")
    ('7', '7', None)
    """
    tagged = re.findall(r"<answer>(.*?)</answer>", response, flags=re.DOTALL)
    if tagged:
        return str(tagged[-1]).strip()
    if after:
        return response.rpartition(after)[2].strip() if after in response else None
    return response.strip()


def conversation(prompt: str, system: str = "") -> tuple[Mapping[str, str], ...]:
    """A prompt as the messages of a chat.

    >>> conversation("3+8?")
    ({'role': 'user', 'content': '3+8?'},)
    """
    first = ({"role": "system", "content": system},) if system else ()
    return (*first, {"role": "user", "content": prompt})


def needs_answer(problems: Sequence[Problem], verifier: str) -> None:
    """Refuse problems without an answer, in the name of a verifier.

    >>> needs_answer([Problem("3+8;", "11", 1)], "exact")
    """
    lacking = next((problem for problem in problems if not problem.answer), None)
    if lacking is not None:
        raise ValueError(
            f"the verifier {verifier!r} needs the true answer, and the row of the prompt {lacking.prompt[:60]!r} has "
            f"none; its columns are {', '.join(lacking.row)}. Name the column: answer=…."
        )


# ---------------------------------------------------------------------- exact match


@dataclass(frozen=True)
class Exact(Verifier):
    """1 if the answer in the response is the true one, else 0.

    Both are normalised: Unicode NFKC, no surrounding or doubled white space, no final full stop, no commas between
    digits; and case is ignored. Where the true answer is a JSON list, any of its items is right.

    Args:
        after: see `extract`; in the true answer, too, only what follows it counts.
        case: whether upper and lower case differ.

    >>> Exact(after="####")("3 + 8 is #### 11.", Problem("3+8;", "11", 1))
    1.0
    """

    after: str = ""
    case: bool = False

    def __call__(self, response: str, problem: Problem) -> float:
        found = extract(response, self.after)
        if found is None:
            return 0.0
        return float(self._normal(found) in {self._normal(answer) for answer in self._accepted(problem)})

    def prepare(self, problems: Sequence[Problem]) -> None:
        needs_answer(problems, "exact")

    def _accepted(self, problem: Problem) -> list[str]:
        if problem.answer.startswith("["):
            try:
                return [str(item) for item in json.loads(problem.answer)]
            except json.JSONDecodeError:
                pass
        answer = extract(problem.answer, self.after)
        return [problem.answer if answer is None else answer]

    def _normal(self, text: str) -> str:
        text = " ".join(unicodedata.normalize("NFKC", text).split()).removesuffix(".")
        text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
        return text if self.case else text.casefold()


# ---------------------------------------------------------------------- multiple choice

_LETTER = r"\(?\b([A-Z])\b\)?"
_CHOSEN = (
    re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*" + _LETTER),
    re.compile(r"(?:answer|choice|option)\b[\s\W]{0,6}(?:is\b)?[\s\W]{0,6}" + _LETTER, flags=re.IGNORECASE),
    re.compile(r"^\s*\W*([A-Z])\W*\s*$", flags=re.MULTILINE),
    re.compile(r"^\s*\(?([A-Z])[).:]", flags=re.MULTILINE),
    re.compile(r"\(([A-Z])\)"),
)


@dataclass(frozen=True)
class MultipleChoice(Verifier):
    r"""1 if the response names the letter of the true choice, else 0.

    A letter is looked for in `<answer>` tags, in `\boxed{}`, behind "answer", "choice" or "option", alone on a line, as
    `B)` or `B.` at the start of a line, and in brackets, in this order; of several the last one counts.

    Args:
        after: see `extract`.
        choices: column with the texts of the choices (a list, or the hub's `{"text": …, "label": …}`); with it the true
            answer may be a text or an index from 0, and a response that is the text of a choice counts as its letter.

    >>> MultipleChoice()("A is close, but the answer is (B).", Problem("Which?", "B", 1))
    1.0
    """

    after: str = ""
    choices: str = "choices"

    def __call__(self, response: str, problem: Problem) -> float:
        found = extract(response, self.after)
        return float(found is not None and self._letter(found, problem) == self._true(problem))

    def prepare(self, problems: Sequence[Problem]) -> None:
        needs_answer(problems, "choice")
        for problem in problems:
            self._true(problem)

    def _texts(self, problem: Problem) -> list[str]:
        given = problem.row.get(self.choices) or []
        return [str(text) for text in (given["text"] if isinstance(given, Mapping) else given)]

    def _letter(self, text: str, problem: Problem) -> str:
        texts = [choice.casefold().strip() for choice in self._texts(problem)]
        if text.casefold().strip() in texts:
            return chr(ord("A") + texts.index(text.casefold().strip()))
        return next((found[-1].upper() for pattern in _CHOSEN if (found := pattern.findall(text))), "")

    def _true(self, problem: Problem) -> str:
        answer, texts = problem.answer.strip(), self._texts(problem)
        if texts and answer in texts:
            return chr(ord("A") + texts.index(answer))
        if answer.isdecimal() and (not texts or int(answer) < len(texts)):
            return chr(ord("A") + int(answer))
        letter = answer.strip("(). ").upper()
        if len(letter) == 1 and letter.isalpha():
            return letter
        raise ValueError(
            f"{problem.answer!r} is neither a letter, nor an index, nor one of the choices {texts}, of the prompt "
            f"{problem.prompt[:60]!r}."
        )
