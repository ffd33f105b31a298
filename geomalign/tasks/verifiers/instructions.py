"""Instructions that a program can check, by the ids of IFEval (Zhou et al. 2023, arXiv:2311.07911).

Written from the paper's descriptions. Sentences are counted by their final punctuation instead of by a trained
splitter, and the two checks of case do not ask whether the language is English. `language:response_language` is
missing, because it needs a model that recognises languages.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomalign.tasks.rows import column
from geomalign.tasks.task import Problem
from geomalign.tasks.verifiers.base import Verifier

__all__ = ["CHECKS", "Instructions"]

Check = Callable[..., bool]


def _compare(count: int, relation: str | None, wanted: int) -> bool:
    """Whether `count` is "at least", "less than", "at most" or "exactly" `wanted`."""
    relations = {
        "at least": count >= wanted,
        "less than": count < wanted,
        "at most": count <= wanted,
        "exactly": count == wanted,
    }
    if relation not in relations:
        raise ValueError(f"the relation {relation!r} is none of {', '.join(relations)}.")
    return relations[relation]


def _count(pattern: str, text: str, flags: int = 0) -> int:
    return len(re.findall(pattern, text, flags))


def _begins(text: str, phrase: str) -> bool:
    return text.strip().casefold().startswith(phrase.strip().casefold())


def _sentences(text: str) -> int:
    parts = re.split(r"[.!?]+[\"')\]]*(?:\s+|$)", text)
    return sum(re.search(r"\w", part) is not None for part in parts)


def _paragraphs(text: str, num_paragraphs: int) -> bool:
    """Paragraphs are divided by `***`; an empty one is allowed at the ends only."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    parts = parts[not parts[0] : len(parts) - (not parts[-1] and len(parts) > 1)]
    return len(parts) == num_paragraphs and all(parts)


def _first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs are divided by an empty line."""
    parts = [part.strip() for part in re.split(r"\n\n", text) if part.strip()]
    if len(parts) != num_paragraphs or nth_paragraph > num_paragraphs:
        return False
    word = re.match(r"[\"'*_(]*([\w-]*)", parts[nth_paragraph - 1])
    return word is not None and word[1].casefold() == first_word.casefold()


def _postscript(text: str, postscript_marker: str = "P.S.") -> bool:
    letters = r"\s?".join(re.escape(letter) + r"\.?" for letter in postscript_marker if letter.isalnum())
    return re.search(rf"(?<!\S){letters}.*$", text, flags=re.IGNORECASE | re.MULTILINE) is not None


def _highlighted(text: str, num_highlights: int) -> bool:
    found = re.findall(r"\*\*([^\n*]+)\*\*|\*([^\n*]+)\*", text)
    return sum(bool("".join(pair).strip()) for pair in found) >= num_highlights


def _json_format(text: str) -> bool:
    fenced = re.fullmatch(r"```(?:json)?\s*\n?(.*?)\s*```", text.strip(), flags=re.DOTALL | re.IGNORECASE)
    try:
        json.loads(fenced[1] if fenced else text)
    except ValueError:
        return False
    return True


def _two_responses(text: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    whole = [part for part in parts if part]
    return len(whole) == 2 and all(parts[1:-1]) and whole[0] != whole[1]


#: Every instruction by its id, as a function of the response and of IFEval's arguments; `startend:start_checker` is an
#: addition of this library.
CHECKS: Mapping[str, Check] = {
    "keywords:existence": lambda r, keywords: all(word.casefold() in r.casefold() for word in keywords),
    "keywords:frequency": lambda r, keyword, frequency, relation="at least": _compare(
        r.casefold().count(keyword.casefold()), relation, frequency
    ),
    "keywords:forbidden_words": lambda r, forbidden_words: (
        not any(_count(rf"(?<!\w){re.escape(word)}(?!\w)", r, re.IGNORECASE) for word in forbidden_words)
    ),
    "keywords:letter_frequency": lambda r, letter, let_frequency, let_relation="at least": _compare(
        r.casefold().count(letter.casefold()), let_relation, let_frequency
    ),
    "length_constraints:number_sentences": lambda r, num_sentences, relation="at least": _compare(
        _sentences(r), relation, num_sentences
    ),
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": lambda r, num_words, relation="at least": _compare(
        _count(r"\w+", r), relation, num_words
    ),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda r, num_placeholders: (
        _count(r"\[[^\[\]]+\]", r) >= num_placeholders
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": lambda r, num_bullets: (
        _count(r"^[ \t]*(?:\*(?!\*)|-)\s*\S", r, re.MULTILINE) == num_bullets
    ),
    "detectable_format:constrained_response": lambda r: any(
        f"My answer is {word}." in r for word in ("yes", "no", "maybe")
    ),
    "detectable_format:number_highlighted_sections": _highlighted,
    "detectable_format:multiple_sections": lambda r, section_spliter, num_sections: (
        _count(rf"{re.escape(section_spliter.strip())}\s?\d+", r) >= num_sections
    ),
    "detectable_format:json_format": _json_format,
    "detectable_format:title": lambda r: _count(r"<<[^\n<>]*\w[^\n<>]*>>", r) > 0,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": lambda r, prompt_to_repeat: _begins(r, prompt_to_repeat),
    "startend:start_checker": lambda r, start_phrase: _begins(r, start_phrase),
    "startend:end_checker": lambda r, end_phrase: (
        r.strip().strip('"').casefold().endswith(end_phrase.strip().casefold())
    ),
    "startend:quotation": lambda r: len(r.strip()) > 1 and r.strip()[0] == r.strip()[-1] == '"',
    "change_case:capital_word_frequency": lambda r, capital_frequency, capital_relation="at least": _compare(
        sum(word.isupper() for word in re.findall(r"[\w'-]+", r)), capital_relation, capital_frequency
    ),
    "change_case:english_capital": str.isupper,
    "change_case:english_lowercase": str.islower,
    "punctuation:no_comma": lambda r: "," not in r,
}


@dataclass(frozen=True)
class Instructions(Verifier):
    """1 if a response follows all instructions of its prompt, else 0; an empty response follows none.

    A row has IFEval's columns: `instruction_id_list`, a list of ids, and `kwargs`, a list of as many objects with their
    arguments, in which null means absent.

    Args:
        ids, kwargs: names of the columns.
        partial: reward the share of the instructions that are followed.
        loose: also try the response without its first line, its last line, both, and without asterisks.

    >>> row = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    >>> Instructions()("No commas here.", Problem("Say it.", "", 1, row=row))
    1.0
    """

    ids: str = "instruction_id_list"
    kwargs: str = "kwargs"
    partial: bool = False
    loose: bool = False

    def __call__(self, response: str, problem: Problem) -> float:
        texts = _variants(response) if self.loose else [response]
        followed = [
            any(bool(text.strip()) and check(text, **arguments) for text in texts)
            for check, arguments in self._instructions(problem.row)
        ]
        return sum(followed) / len(followed) if self.partial else float(all(followed))

    def prepare(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            for check, arguments in self._instructions(problem.row):
                check("A first try.", **arguments)  # which raises for a relation that is not known

    def _instructions(self, row: Mapping[str, Any]) -> list[tuple[Check, dict[str, Any]]]:
        names, given = _list(column(row, self.ids), self.ids), _list(column(row, self.kwargs), self.kwargs)
        given = given or [{}] * len(names)
        if not names or len(given) != len(names):
            raise ValueError(
                f"a row has {len(names)} instructions in {self.ids!r} and {len(given)} objects in {self.kwargs!r}; "
                "there is at least one instruction, and one object for each."
            )
        return [_instruction(str(name), arguments or {}) for name, arguments in zip(names, given)]


def _instruction(name: str, given: Mapping[str, Any]) -> tuple[Check, dict[str, Any]]:
    if name not in CHECKS:
        raise ValueError(f"there is no check for the instruction {name!r}; there are {', '.join(CHECKS)}.")
    if not isinstance(given, Mapping):
        raise ValueError(f"the arguments of the instruction {name!r} are {given!r}; an object is expected.")
    arguments = {key: value for key, value in given.items() if value is not None}
    try:
        inspect.signature(CHECKS[name]).bind("", **arguments)
    except TypeError as error:
        raise ValueError(f"the instruction {name!r} cannot be checked with {arguments}: {error}.") from None
    return CHECKS[name], {key: _argument(name, key, value) for key, value in arguments.items()}


def _argument(name: str, key: str, value: Any) -> Any:
    """An argument of the kind that its name asks for; what every response would follow is refused."""
    if key in ("keywords", "forbidden_words"):
        if isinstance(value, list) and value and all(isinstance(word, str) and word.strip() for word in value):
            return value
        expected = "a list of words, at least one"
    elif key.startswith(("num_", "nth_")) or key.endswith("frequency"):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value) and value >= 0:
            if value > 0 or key in ("num_bullets", "num_sentences", "num_words") or key.endswith("frequency"):
                return int(value)
        expected = "a whole number, at least 1"
    elif isinstance(value, str) and value.strip() and (key != "letter" or len(value) == 1):
        return value
    else:
        expected = "one letter" if key == "letter" else "a text that is not empty"
    raise ValueError(f"the argument {key} of the instruction {name!r} is {value!r}; {expected} is expected.")


def _list(value: Any, name: str) -> list[Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = value
    if found is not None and not isinstance(found, list):
        raise ValueError(
            f"column {name!r} holds {str(value)[:80]!r}; a list is expected, one item for each instruction."
        )
    return list(found) if found is not None else []


def _variants(response: str) -> list[str]:
    lines = response.split("\n")
    cut = ["\n".join(part).strip() for part in (lines, lines[1:], lines[:-1], lines[1:-1])]
    return [*cut, *(text.replace("*", "") for text in cut)]
