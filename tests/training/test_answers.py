"""Answers as tables and models of this field write them: numbers with units, boxes, choices in words."""

import contextlib
import time
from typing import Any

import pytest

from geomalign.tasks import Chain, Problem, score
from geomalign.tasks.verifiers import verifier


def right(name: str, answer: str, response: str, **row: Any) -> bool:
    asked = Problem("q", answer, 1, row=row)
    check = verifier(name)
    check.prepare([asked])
    return check(response, asked) == 1.0


@pytest.mark.parametrize(
    ("answer", "response", "expected"),
    [
        ("1234", r"The answer is \boxed{1\,234}.", True),
        ("15 cm^2", "15", True),
        ("15 cm²", r"\boxed{15}", True),
        ("5 m/s", r"\boxed{5}", True),
        ("5 m/s", "5 m/s", True),
        (r"\$18", r"\boxed{18}", True),
        ("$18", r"\$18", True),
        ("€5", "5", True),
        ("2^-3", r"\boxed{1/8}", True),
        ("10^-5", "0.00001", True),
        ("e^-1", r"\boxed{1/e}", True),
        ("2**3", "8", True),
        ("8", "**8**", True),
        ("3.0 x 10^8", "300000000", True),
        ("sin(x)", r"\boxed{\sin x}", True),
        ("10 million", "10", False),
        ("10 million", "10,000,000", True),
        ("2 dozen", "2", False),
        ("2 dozen", "24", True),
        ("6 xy", "6", False),
        ("2 pi", "2", False),
        ("3 squared", "3", False),
        ("3 apples", "3", True),
        ("1e-7", r"\boxed{3e-7}", False),
        ("0.0000001", "0.0000002", False),
        (r"6.63 \times 10^{-34}", r"\boxed{1.6\times 10^{-19}}", False),
        (r"6.63 \times 10^{-34}", "6.63e-34", True),
        ("1/3", "0.333333", True),
        ("1011_2", r"\boxed{1011_3}", False),
        ("1011_2", r"\boxed{1011_{2}}", True),
        ("1011_2", r"\boxed{1011}", True),
        ("8", r"First \boxed{7}. Wait, once more: \boxed{8}.", True),
        ("7", r"First \boxed{7}. Wait, once more: \boxed{8}.", False),
        ("1, 2", r"\boxed{1} and \boxed{2}", True),
        ("Monday", "Monday.", True),
        ("yes", "Yes", True),
    ],
)
def test_numbers_units_and_boxes(answer: str, response: str, expected: bool) -> None:
    assert right("math-verify", answer, response) is expected


CHOICES = {"text": ["ice", "steam", "rock", "dew"], "label": ["A", "B", "C", "D"]}


@pytest.mark.parametrize(
    "response",
    [
        *("c", "c)", "(c)", "Ｃ", "Answer：C", "Answer - C", "<answer>c</answer>", "Rock.", r"\boxed{\text{rock}}"),
        *("I think it's C", "Therefore, C is correct.", "C is the right answer.", "the letter C"),
        "(A) is wrong. (B) is wrong. (C) is right.",
    ],
)
def test_a_choice_in_words(response: str) -> None:
    assert right("choice", "C", response, choices=CHOICES)


@pytest.mark.parametrize(
    "response",
    [
        *("The answer cannot be C", "The answer can't be C.", "It cannot be C", "I know that it is not C"),
        *("The wrong answer is C, the right one is B.", "Answer: C? Wait, no. It is B.", "If C is correct, so is D."),
    ],
)
def test_a_choice_that_is_denied(response: str) -> None:
    assert not right("choice", "C", response, choices=CHOICES)


def test_an_index_that_is_the_text_of_another_choice() -> None:
    """MMLU's answers are indices, and some of its choices numbers."""
    row = {"choices": ["1", "2", "3", "0"]}
    with pytest.raises(ValueError, match="the text of one choice and the index of another"):
        right("choice", "1", "B", **row)
    indexed = verifier("choice", first=0)
    assert indexed("B", Problem("q", "1", 1, row=row)) == 1.0 and indexed("1", Problem("q", "1", 1, row=row)) == 0.0


@pytest.mark.parametrize("name", ["exact", "math-verify"])
def test_answers_with_their_working_need_a_marker(name: str) -> None:
    worked, bare = (Problem("q", answer, 1) for answer in ("48/2 = 24\n#### 24", "24"))
    with pytest.raises(ValueError, match="Say after='####'"):
        verifier(name).prepare([worked])
    with pytest.raises(ValueError, match="1 of 2 true answers hold the marker"):
        verifier(name, after="####").prepare([worked, bare])
    verifier(name, after="####").prepare([bare, bare])
    verifier(name, after="####").prepare([worked, worked])


def test_a_verifier_that_swallows_the_alarm_is_too_late() -> None:
    class Deaf(Chain):
        def reward(self, problem: Problem, response: str, ended: bool) -> float:
            with contextlib.suppress(BaseException):
                time.sleep(5)
            return 1.0

    told: list[str] = []
    found = score(Deaf(), [Problem("1+1;", "2", 1)], ["2"], [True], timeout=0.05, failed=told.append)
    assert found[0] != found[0] and "took longer" in told[0]


def test_a_postscript_may_stand_behind_other_words() -> None:
    row = {"instruction_id_list": ["detectable_content:postscript"], "kwargs": [{"postscript_marker": "P.S."}]}
    check = verifier("instructions")
    assert [check(text, Problem("q", "", 1, row=row)) for text in ("Bye. P.S. Come", "maps are")] == [1.0, 0.0]
