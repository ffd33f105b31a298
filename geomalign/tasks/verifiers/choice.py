"""Multiple choice: which of the labels a response settles on."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomalign._util.files import parsed
from geomalign.tasks.cells import as_text
from geomalign.tasks.rows import column
from geomalign.tasks.task import Problem
from geomalign.tasks.verifiers.base import Verifier, extract, needs_answer, plain

_COLUMNS = ("choices", "options")
#: Numeric answers without labels of a table that has at least this many, none of them 0, count from 1.
_TELLING = 20
_OPEN, _CLOSE = r"[\s*_\"'({\[]*(?:\\\w+\{\s*\(?\s*)?", r"(?![\w+])(?!['’]\w)"
#: A letter alone; not the article or the pronoun that begins a phrase, and not one of several that are offered.
_LABEL = (
    r"(?:(?P<upper>[A-Z]|\d{1,2})" + _CLOSE + r"|(?P<lower>[a-z])(?=[)\]}*_.\"']*\s*$))"
    r"(?!(?<=[AI])[ \t]+(?!because|since|as\b|for\b|which|due|and not)[a-z])"
    r"(?!\)?\?)(?![)\]*]*\s*(?:or|and|/|,|&)\s*\(?(?:[A-Z]|\d{1,2})\b)"
)
_NOT = r"(?![)\]*.:]*\s*(?:is|was|isn't|are)\s*(?:not|n't|wrong|incorrect|false|out\b|tempting|close))"
#: Of each way of naming a choice the last one counts; the ways are tried in this order.
_CHOSEN = tuple(
    re.compile(pattern, flags=re.MULTILINE)
    for pattern in (
        r"\\boxed\{" + _OPEN + r"(?P<upper>[A-Z]|\d{1,2})(?=\s*[)}\].:,])(?P<lower>)",
        r"(?<!wrong )(?<!incorrect )(?i:answer|choice|option)(?:\s+(?i:is|was|would be|must be)\b|\s*[:=]|\s+-)"
        r"(?:\s*(?i:option|choice)\b)?\s*[:=]?" + _OPEN + _LABEL,
        r"(?:^|\n)[\s\W]*(?P<upper>[A-Z]|\d{1,2})\W*$(?P<lower>)",
        r"(?:[:=]|'s|(?<!not )(?<!n't )(?<!not really )"
        r"\b(?i:is|be|so|thus|hence|therefore|choose|pick|select|chose|with|answer|option|choice|letter))"
        + _OPEN
        + r"(?P<upper>[A-Z]|\d{1,2})(?P<lower>)[)\]*_\"'}.!]*\s*$",
        r"\b(?i:answer|choice|option|choose|pick|select)\b" + _OPEN + _LABEL + _NOT,
        r"(?:^|[\s(*])(?<!if )(?<!whether )(?P<upper>[A-Z]|\d{1,2})(?P<lower>)[)*.]*\s+(?:is|was)\s+(?:the\s+)?"
        r"(?i:correct|right|true|best)\b",
    )
)
_LISTED = (re.compile(r"^\s*\(?([A-Z])[).:]", flags=re.MULTILINE), re.compile(r"\(([A-Z])\)"))
_BOXED = re.compile(r"\\boxed\{\s*(?:\\\w+\{)?([^{}]*)\}")
_SETTLED = re.compile(r"(?i:answer|choice|option)(?:\s+(?i:is)\b|\s*:)[\s:*_\"']*([^\n]+)$", flags=re.MULTILINE)


@dataclass(frozen=True)
class MultipleChoice(Verifier):
    r"""1 if the response names the label of the true choice, else 0.

    A label is looked for in `<answer>` tags, in `\boxed{}`, behind "answer is", "choice:" or the like, alone on a line,
    at the end of a line behind ":" or "so", behind "option", as `B)` or `B.` at the start of a line, and in brackets,
    in this order; of several the last one counts, but lines that begin with different labels list the choices. The
    article in "the answer is a …" and labels that the row does not have are none.

    Args:
        after: see `extract`.
        choices: column with the choices: a list of texts, the hub's `{"text": …, "label": …}`, or `{label: text}`;
            empty: `choices` or `options`, where there is one. With it the true answer may be a label, a text, or an
            index, and a response that is the text of a choice counts as its label. Labels that are not letters can
            also be named by the letters in their place.
        first: the index of the first choice, where answers are indices and no texts; None: they may be either, and
            indices count from 0; what could be both, or seems to count from 1, is refused.

    >>> MultipleChoice()("A is close, but the answer is (B).", Problem("Which?", "B", 1))
    1.0
    """

    after: str = ""
    choices: str = ""
    first: int | None = None

    def __call__(self, response: str, problem: Problem) -> float:
        found = extract(response, self.after)
        if found is None:
            return 0.0
        labels, texts = self._offered(problem)
        true, said = self._true(problem), _said(found, labels, [_bare(text) for text in texts])
        same = texts and said is not None and plain(texts[said]) == plain(texts[true])
        return float(said is not None and (said == true or bool(same)))

    def prepare(self, problems: Sequence[Problem]) -> None:
        needs_answer(problems, "choice")
        indices = []
        for problem in problems:
            self._true(problem)
            labels, texts = self._offered(problem)
            answer = problem.answer.strip()
            if answer.isdecimal() and answer not in labels and answer not in texts:
                indices.append(int(answer))
        if self.first is None and len(indices) >= _TELLING and 0 not in indices:
            raise ValueError(
                f"the answers of {len(indices)} rows are indices, and none is 0: they seem to count from 1. Say "
                "first=1, or first=0 if they count from 0."
            )

    def _offered(self, problem: Problem) -> tuple[list[str], list[str]]:
        """The labels, and the texts of the choices; without a column all letters, and no texts."""
        name = self.choices or next((one for one in _COLUMNS if problem.row.get(one) is not None), "")
        given: Any = column(problem.row, name) if name else None
        if given is None:
            if self.choices:
                raise ValueError(
                    f"there is no column {self.choices!r} of choices; the columns are {', '.join(problem.row)}."
                )
            return _letters(26), []
        if isinstance(given, str) and given.lstrip()[:1] in ("[", "{"):
            given = parsed(given)
        labels: Any = None
        if isinstance(given, Mapping):
            if "text" in given:
                given, labels = given["text"], given.get("label")
            else:
                given, labels = list(given.values()), list(given)
        if not isinstance(given, list) or len(given) < 2 or (labels is not None and len(labels) != len(given)):
            raise ValueError(
                f"the column {name!r} holds {str(given)[:80]!r} with the labels {labels!r}; choices are a list of two "
                'texts or more, {"text": […], "label": […]}, or {label: text}.'
            )
        texts = [as_text(text, f"column {name!r}") for text in given]
        return ([str(label).strip() for label in labels] if labels is not None else _letters(len(texts))), texts

    def _true(self, problem: Problem) -> int:
        labels, texts = self._offered(problem)
        answer = problem.answer.strip()
        bare = answer.strip("(). ")
        by_label = next((index for index, label in enumerate(labels) if label.upper() == bare.upper()), None)
        by_text = texts.index(answer) if answer in texts else None
        if by_label is not None and by_text is not None and by_label != by_text:
            raise ValueError(
                f"the true answer {answer!r} of the prompt {problem.prompt[:60]!r} is the label of one choice and the "
                f"text of another: {dict(zip(labels, texts))}. Give the choices labels that are no texts of theirs."
            )
        index = int(answer) - (self.first or 0) if answer.isdecimal() and _lettered(labels) else -1
        if by_text is not None and 0 <= index < len(labels) and index != by_text:
            if self.first is not None:
                return index
            raise ValueError(
                f"the true answer {answer!r} of the prompt {problem.prompt[:60]!r} is the text of one choice and the "
                f"index of another: {texts}. Say first=0 if answers are indices from 0; or write letters."
            )
        if by_label is not None or by_text is not None:
            return by_label if by_label is not None else by_text  # type: ignore[return-value]
        if 0 <= index < len(labels):
            return index
        raise ValueError(
            f"{problem.answer!r} is neither a letter, nor an index, nor one of the choices {texts} with the labels "
            f"{labels}, of the prompt {problem.prompt[:60]!r}."
        )


def _letters(count: int) -> list[str]:
    return [chr(ord("A") + index) for index in range(count)]


def _lettered(labels: Sequence[str]) -> bool:
    return list(labels) == _letters(len(labels))


def _bare(text: str) -> str:
    """A text without case and the marks around it."""
    return plain(text).casefold().strip(" *_\"'").rstrip(".!").rstrip(" *_\"'") or plain(text).casefold()


def _said(text: str, labels: Sequence[str], texts: Sequence[str]) -> int | None:
    """The position of the choice that a response settles on."""
    text = unicodedata.normalize("NFKC", text)
    whole = _bare(text)
    if whole in texts:
        return texts.index(whole)
    places = {label.upper(): index for index, label in enumerate(labels)}
    if not any(label.isalpha() for label in labels):  # 1, 2, 3 can be named by the letters in their place
        places = {**dict(zip(_letters(len(labels)), range(len(labels)))), **places}
    if (lone := whole.strip("()[]{}.:").upper()) in places:
        return places[lone]
    for pattern, phrases in zip(_CHOSEN[:2], (_BOXED, _SETTLED)):
        if (found := _last(pattern, text, places)) is not None:
            return found
        if named := [phrase for phrase in map(_bare, phrases.findall(text)) if phrase in texts]:
            return texts.index(named[-1])
    for pattern in _CHOSEN[2:]:
        if (found := _last(pattern, text, places)) is not None:
            return found
    starts, brackets = ([label for label in pattern.findall(text) if label in places] for pattern in _LISTED)
    if len(set(starts)) == 1:
        return places[starts[0]]
    return places[brackets[-1]] if brackets and not starts else None


def _last(pattern: re.Pattern[str], text: str, places: Mapping[str, int]) -> int | None:
    named = [(match["upper"] or match["lower"] or "").upper() for match in pattern.finditer(text)]
    known = [places[name] for name in named if name in places]
    return known[-1] if known else None
