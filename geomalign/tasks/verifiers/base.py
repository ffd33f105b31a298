"""The contract of verifiers, and the one that compares texts."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from geomalign.tasks.task import Problem

#: Other signs for minus and for quotation marks. Superscripts and fractions are kept as they are: 10² is not 102.
_SIGNS = str.maketrans({**dict.fromkeys("−‐‑‒–﹣－", "-"), **dict.fromkeys("‘’ʼ", "'"), **dict.fromkeys("“”", '"')})


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
        reward = self.function(response, problem)
        if reward is None or isinstance(reward, (str, bytes)):
            raise TypeError(f"the verifier returned {reward!r} (a {type(reward).__name__}); a reward is a number.")
        return float(reward)


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


def needs_answer(problems: Sequence[Problem], verifier: str, after: str | None = None) -> None:
    """Refuse problems without an answer, in the name of a verifier; and with `after`, see `extract`, tables whose
    answers are worked out before GSM8K's `####` where nobody says so, or of which only some hold the marker.

    >>> needs_answer([Problem("3+8;", "11", 1)], "exact")
    """
    lacking = next((problem for problem in problems if problem.answer.strip() in ("", "[]", "{}")), None)
    if lacking is not None:
        raise ValueError(
            f"the verifier {verifier!r} needs the true answer, and the row of the prompt {lacking.prompt[:60]!r} has "
            f"none; its columns are {', '.join(lacking.row)}. Name the column: answer=…."
        )
    if after is None:
        return
    count = sum((after or "####") in problem.answer for problem in problems)
    if count and not after:
        raise ValueError(
            f"{count} of {len(problems)} true answers hold '####', behind which GSM8K has the answer, and no response "
            "repeats what is before it. Say after='####'."
        )
    if 0 < count < len(problems):
        without = next(problem for problem in problems if after not in problem.answer)
        raise ValueError(
            f"{count} of {len(problems)} true answers hold the marker {after!r}, but not {without.answer[:60]!r} of "
            f"the prompt {without.prompt[:60]!r}. Write it into all of them, or into none."
        )


# ---------------------------------------------------------------------- exact match


def plain(text: str) -> str:
    """A text in one way of writing: Unicode's compatible characters and signs for minus, single white space.

    >>> plain("ﬁn  −5"), plain("10²")
    ('fin -5', '10²')
    """
    kept = "".join(
        char
        if unicodedata.decomposition(char).startswith(("<super>", "<sub>", "<fraction>"))
        else unicodedata.normalize("NFKC", char)
        for char in unicodedata.normalize("NFC", text)
    )
    return " ".join(kept.translate(_SIGNS).split())


@dataclass(frozen=True)
class Exact(Verifier):
    """1 if the answer in the response is the true one, else 0.

    Both are normalised: Unicode's compatible characters (but 10² is not 102), signs for minus, no surrounding or
    doubled white space, no final full stop, no commas that group digits by three, except in brackets; and case is
    ignored. Where the table's answer is a list, any of its items is right; a text such as "[0, 1]" is one answer.

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
        needs_answer(problems, "exact", self.after)
        for problem in problems:
            if not all(map(self._normal, self._accepted(problem))):
                raise ValueError(
                    f"the true answer {problem.answer!r} of the prompt {problem.prompt[:60]!r} is empty, or an "
                    f"empty list or item, or nothing follows {self.after!r} in it: an empty response would be right."
                )

    def _accepted(self, problem: Problem) -> list[str]:
        answers = problem.alternatives or (problem.answer,)
        found = [(answer, extract(answer, self.after)) for answer in answers]
        return [answer if inner is None else inner for answer, inner in found]

    def _normal(self, text: str) -> str:
        text = plain(text).removesuffix(".")
        if not re.search(r"[\[({]", text):
            text = re.sub(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])", lambda number: number[0].replace(",", ""), text)
        return text if self.case else text.casefold()
