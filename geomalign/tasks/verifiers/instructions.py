"""Instructions that a program can check, by the ids of IFEval (Zhou et al. 2023, arXiv:2311.07911).

Written anew from the paper's descriptions. Two checks differ: sentences are counted by their final punctuation rather
than by a trained splitter, and the two checks of case do not ask whether the language is English.
`language:response_language` is not there, for it needs a model of languages.
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

Check = Callable[..., bool]


def compare(count: int, relation: str | None, wanted: int) -> bool:
    """`count` `"at least"`, `"less than"`, `"at most"` or `"exactly"` `wanted`.

    >>> compare(3, "at least", 3), compare(3, "less than", 3)
    (True, False)
    """
    relations = {
        "at least": count >= wanted,
        "less than": count < wanted,
        "at most": count <= wanted,
        "exactly": count == wanted,
    }
    if relation not in relations:
        raise ValueError(f"the relation {relation!r} is none of {', '.join(relations)}.")
    return relations[relation]


def _has(response: str, word: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", response, flags=re.IGNORECASE))


def existence(response: str, keywords: Sequence[str]) -> bool:
    return all(word.casefold() in response.casefold() for word in keywords)


def frequency(response: str, keyword: str, frequency: int, relation: str = "at least") -> bool:
    return compare(response.casefold().count(keyword.casefold()), relation, frequency)


def forbidden_words(response: str, forbidden_words: Sequence[str]) -> bool:
    return not any(_has(response, word) for word in forbidden_words)


def letter_frequency(response: str, letter: str, let_frequency: int, let_relation: str = "at least") -> bool:
    return compare(response.casefold().count(letter.casefold()), let_relation, let_frequency)


def number_sentences(response: str, num_sentences: int, relation: str = "at least") -> bool:
    sentences = [part for part in re.split(r"[.!?]+[\"')\]]*(?:\s+|$)", response) if re.search(r"\w", part)]
    return compare(len(sentences), relation, num_sentences)


def number_words(response: str, num_words: int, relation: str = "at least") -> bool:
    return compare(len(re.findall(r"\w+", response)), relation, num_words)


def number_paragraphs(response: str, num_paragraphs: int) -> bool:
    """Paragraphs are divided by `***`; an empty one is allowed at the ends only."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", response)]
    parts = parts[not parts[0] : len(parts) - (not parts[-1] and len(parts) > 1)]
    return len(parts) == num_paragraphs and all(parts)


def nth_paragraph_first_word(response: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs are divided by an empty line."""
    parts = [part.strip() for part in re.split(r"\n\n", response) if part.strip()]
    if len(parts) != num_paragraphs or nth_paragraph > num_paragraphs:
        return False
    word = re.match(r"[\"'*_(]*([\w-]*)", parts[nth_paragraph - 1])
    return word is not None and word[1].casefold() == first_word.casefold()


def number_placeholders(response: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[[^\[\]]+\]", response)) >= num_placeholders


def postscript(response: str, postscript_marker: str = "P.S.") -> bool:
    letters = r"\s?".join(re.escape(letter) + r"\.?" for letter in postscript_marker if letter.isalnum())
    return re.search(rf"^\s*{letters}.*$", response, flags=re.IGNORECASE | re.MULTILINE) is not None


def number_bullet_lists(response: str, num_bullets: int) -> bool:
    return len(re.findall(r"^[ \t]*(?:\*(?!\*)|-)\s*\S", response, flags=re.MULTILINE)) == num_bullets


def constrained_response(response: str) -> bool:
    return any(f"My answer is {word}." in response for word in ("yes", "no", "maybe"))


def number_highlighted_sections(response: str, num_highlights: int) -> bool:
    found = re.findall(r"\*\*([^\n*]+)\*\*|\*([^\n*]+)\*", response)
    return sum(bool("".join(pair).strip()) for pair in found) >= num_highlights


def multiple_sections(response: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", response)) >= num_sections


def json_format(response: str) -> bool:
    fenced = re.fullmatch(r"```(?:json)?\s*\n?(.*?)\s*```", response.strip(), flags=re.DOTALL | re.IGNORECASE)
    try:
        json.loads(fenced[1] if fenced else response)
    except ValueError:
        return False
    return True


def title(response: str) -> bool:
    return re.search(r"<<[^\n<>]*\w[^\n<>]*>>", response) is not None


def two_responses(response: str) -> bool:
    parts = [part.strip() for part in response.split("******")]
    whole = [part for part in parts if part]
    return len(whole) == 2 and all(parts[1:-1]) and whole[0] != whole[1]


def repeat_prompt(response: str, prompt_to_repeat: str) -> bool:
    return response.strip().casefold().startswith(prompt_to_repeat.strip().casefold())


def start_checker(response: str, start_phrase: str) -> bool:
    return response.strip().casefold().startswith(start_phrase.strip().casefold())


def end_checker(response: str, end_phrase: str) -> bool:
    return response.strip().strip('"').casefold().endswith(end_phrase.strip().casefold())


def quotation(response: str) -> bool:
    text = response.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def capital_word_frequency(response: str, capital_frequency: int, capital_relation: str = "at least") -> bool:
    words = [word for word in re.findall(r"[\w'-]+", response) if word.isupper()]
    return compare(len(words), capital_relation, capital_frequency)


def english_capital(response: str) -> bool:
    return response.isupper()


def english_lowercase(response: str) -> bool:
    return response.islower()


def no_comma(response: str) -> bool:
    return "," not in response


#: Every instruction by its id; `startend:start_checker` is ours.
CHECKS: Mapping[str, Check] = {
    "keywords:existence": existence,
    "keywords:frequency": frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:start_checker": start_checker,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
}


@dataclass(frozen=True)
class Instructions(Verifier):
    """1 if a response follows all instructions of its prompt, else 0; an empty response follows none.

    A row has IFEval's columns: `instruction_id_list`, a list of ids, and `kwargs`, a list of as many objects with their
    arguments, in which null means absent.

    Args:
        ids, kwargs: the columns.
        partial: reward the share of the instructions that are followed.
        loose: also try the response without its first line, its last line, both, and without asterisks.
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
                check("A first try.", **arguments)

    def _instructions(self, row: Mapping[str, Any]) -> list[tuple[Check, dict[str, Any]]]:
        names, given = _list(column(row, self.ids)), _list(column(row, self.kwargs))
        given = given or [{}] * len(names)
        if not names or len(given) != len(names):
            raise ValueError(
                f"a row has {len(names)} instructions in {self.ids!r} and {len(given)} objects in {self.kwargs!r}; "
                "there is "
                "at least one instruction, and one object for each."
            )
        return [_instruction(str(name), arguments or {}) for name, arguments in zip(names, given)]


def _instruction(name: str, given: Mapping[str, Any]) -> tuple[Check, dict[str, Any]]:
    if name not in CHECKS:
        raise ValueError(f"there is no check for the instruction {name!r}; there are {', '.join(CHECKS)}.")
    arguments = {key: value for key, value in given.items() if value is not None}
    try:
        inspect.signature(CHECKS[name]).bind("", **arguments)
    except TypeError as error:
        raise ValueError(f"the instruction {name!r} cannot be checked with {arguments}: {error}.") from None
    return CHECKS[name], arguments


def _list(value: Any) -> list[Any]:
    found = json.loads(value) if isinstance(value, str) else value
    return list(found) if found is not None else []


def _variants(response: str) -> list[str]:
    lines = response.split("\n")
    cut = ["\n".join(part).strip() for part in (lines, lines[1:], lines[:-1], lines[1:-1])]
    return [*cut, *(text.replace("*", "") for text in cut)]
