"""Verifiers by name: exact match, multiple choice, math-verify, instructions, and one's own."""

import math
import threading
from pathlib import Path
from typing import Any

import pytest

from geomalign.tasks import Problem, score
from geomalign.tasks.table import Dataset
from geomalign.tasks.verifiers import Exact, MultipleChoice, verifier
from geomalign.tasks.verifiers.base import FromFunction
from geomalign.tasks.verifiers.instructions import CHECKS, Instructions


def problem(answer: str = "", **row: Any) -> Problem:
    return Problem("p", answer, 1, (), row)


@pytest.mark.parametrize(
    "answer, response, options, right",
    [
        ("Paris", " paris. ", {}, True),
        ("Paris", "paris", {"case": True}, False),
        ("New York", "new\n york", {}, True),
        ("1,000", "1000", {}, True),
        ("1,2", "12", {}, False),
        ("ﬁn", "fin", {}, True),
        ("[0, 1]", "[0, 1]", {}, True),
        ("[0, 1]", "1", {}, False),
        ("[[1, 2], [3, 4]]", "[1, 2]", {}, False),
        ("[1,200]", "[1200]", {}, False),
        ("1,2,300", "12300", {}, False),
        ("-5", "−5", {}, True),
        ("−5", "–5.", {}, True),
        ("10²", "102", {}, False),
        ("x₂", "x2", {}, False),
        ("½", "12", {}, False),
        ("it's", "It’s", {}, True),
        ("[0, 1", "[0, 1", {}, True),
        ("7", "3 + 4 = 7", {}, False),
        ("7", "I think <answer> 7 </answer> is it", {}, True),
        ("7", "<answer>8</answer> no <answer>7</answer>", {}, True),
        ("so 3 + 4\n#### 7", "3 + 4 #### 7", {"after": "####"}, True),
        ("7", "7", {"after": "####"}, False),
        ("7", "#### 7 #### 8", {"after": "####"}, False),
    ],
)
def test_exact_match(answer: str, response: str, options: dict[str, Any], right: bool) -> None:
    assert verifier("exact", **options)(response, problem(answer)) == right


def test_only_a_list_of_the_table_holds_alternatives() -> None:
    accepted = Problem("p", '["colour", "color"]', 1, alternatives=("colour", "color"))
    assert Exact()("Color", accepted) == 1.0 == Exact()("colour.", accepted)
    assert Exact()('["colour", "color"]', accepted) == 0.0 == Exact()("Color", problem('["colour", "color"]'))
    for lacking in (problem("[]"), problem(" "), problem("."), Problem("p", '["a", ""]', 1, alternatives=("a", ""))):
        with pytest.raises(ValueError, match=r"needs the true answer|is empty, or an empty"):
            Exact().prepare([lacking])
    with pytest.raises(ValueError, match="nothing follows '####'"):
        Exact(after="####").prepare([problem("7 ####")])


@pytest.mark.parametrize(
    "response, letter",
    [
        ("B", "B"),
        ("(b)", "B"),
        ("The answer is (C).", "C"),
        ("Answer: D", "D"),
        ("A is tempting, but the correct option is B", "B"),
        (r"Thus \boxed{\text{C}}", "C"),
        ("A dog.", ""),
        ("C) because", "C"),
        ("<answer>A</answer>", "A"),
        ("It is (A) or rather (B)", "B"),
        ("five", "C"),
    ],
)
def test_multiple_choice(response: str, letter: str) -> None:
    for answer in "ABCD":
        row = problem(answer, choices=["three", "four", "five", "six"])
        assert MultipleChoice()(response, row) == (answer == letter), answer


def test_the_true_choice_in_every_form() -> None:
    choices = ["three", "four"]
    for answer in ("B", "1", "four", "(b)"):
        assert MultipleChoice()("B", problem(answer, choices=choices)) == 1.0
        assert MultipleChoice()("A", problem(answer, choices={"text": choices, "label": ["A", "B"]})) == 0.0
    for answer in ("5", "five", ""):
        with pytest.raises(ValueError, match=r"neither a letter|needs the true answer"):
            MultipleChoice().prepare([problem(answer, choices=choices)])


@pytest.mark.parametrize(
    "response, letter",
    [
        ("The answer is a tough one.", None),
        ("My choice is a difficult decision, so I abstain.", None),
        ("The answer is a prime number.\nSo: D.", "D"),
        ("Answer: I think it is C", "C"),
        ("Answer: A dog would do.", None),
        ("The answer is A because it is.", "A"),
        ("answer: b", "B"),
        ("The answer is **B**.", "B"),
        ("The answer is B. Option A is wrong.", "B"),
        ("Option A is wrong, option C is right.", "C"),
        ("The answer is A or B.", None),
        ("A) is red\nB) is green\nC) is blue", None),
        ("A) red\nB) green\nTherefore B.", "B"),
        (r"\boxed{\textbf{(B)}}", "B"),
        (r"\boxed{A dog}", None),
        ("The answer is green.", "B"),
        ("I choose D", "D"),
        ("The answer is F.", None),
        ("I", None),
    ],
)
def test_an_article_is_no_choice(response: str, letter: str | None) -> None:
    for answer in "ABCD":
        row = problem(answer, choices=["red", "green", "blue", "grey"])
        assert MultipleChoice()(response, row) == (answer == letter), answer


def test_labels_are_those_of_the_row() -> None:
    texts = ["ice", "steam", "rock", "dew"]
    for labels, answer, right, wrong in [
        ("1234", "1", ["A", "1", "ice", "The answer is 1."], ["B", "2", "steam"]),
        ("1234", "4", ["D", "dew", "The answer is (4)"], ["C", "3"]),
        ("EFGH", "F", ["F", "steam", "The answer is F"], ["B", "E", "ice"]),
        ("ABCD", "2", ["C", "rock"], ["B", "steam"]),
    ]:
        row = problem(answer, choices={"text": texts, "label": list(labels)})
        MultipleChoice().prepare([row])
        assert [MultipleChoice()(said, row) for said in right] == [1.0] * len(right), (labels, answer)
        assert [MultipleChoice()(said, row) for said in wrong] == [0.0] * len(wrong), (labels, answer)
    assert MultipleChoice()("B", problem("steam", options={"A": "ice", "B": "steam"})) == 1.0
    assert MultipleChoice()("B", problem("1", options='["ice", "steam"]')) == 1.0
    assert MultipleChoice(first=1)("A", problem("1", options=["ice", "steam"])) == 1.0
    for verify, rows, message in [
        (MultipleChoice(), [problem("A", choices=["C", "A"])], "the label of one choice and the text of another"),
        (MultipleChoice(), [problem("7", choices={"text": texts, "label": list("1234")})], "neither a letter"),
        (MultipleChoice(), [problem("A", choices={"text": texts, "label": ["A"]})], "choices are a list of two"),
        (MultipleChoice(choices="answers"), [problem("A", choices=texts)], "no column 'answers' of choices"),
        (MultipleChoice(), [problem(str(1 + i % 3), choices=texts) for i in range(20)], "seem to count from 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            verify.prepare(rows)


# ---------------------------------------------------------------------- math-verify


@pytest.mark.parametrize(
    "answer, response, right",
    [
        ("1/2", r"so it is $\frac{2}{4}$", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"$x^2+2x+1$", r"\boxed{(x+1)^2}", True),
        ("7", r"first 8, then \boxed{7}", True),
        ("7", r"\boxed{8}", False),
        ("7", "nothing", False),
        (r"\{1, 2\}", r"\boxed{\{2, 1\}}", True),
    ],
)
def test_mathematical_answers_are_compared_by_value(answer: str, response: str, right: bool) -> None:
    pytest.importorskip("math_verify")
    assert verifier("math-verify")(response, problem(answer)) == right
    assert verifier("math-verify", after="####")(response, problem(f"first 3 #### {answer}")) == right


@pytest.mark.parametrize(
    "answer, response, right",
    [
        ("-5", "so it is −5.", True),
        ("5", "−5", False),
        ("−5", r"\boxed{-5}", True),
        ("1e-05", r"\boxed{10^{-5}}", True),
        ("0.00001", "1e-05", True),
        ("1e+22", r"\boxed{10^{22}}", True),
        ("2e-5", r"\boxed{2e-5}", True),
        ("2e-5", "0.00002", True),
        ("10^{-5}", "It is 10⁻⁵.", True),
        ("10", "It is 10⁻⁵.", False),
        ("300000", "It is 3 × 10⁵.", True),
        ("1½", "1.5", True),
        ("1", "1½", False),
        ("1 1/2", "1.5", True),
        ("[0, 1]", "[0, 1]", True),
        ("1", "[0, 1]", False),
        ("1 000", "1000", True),
        ("１２", "12", True),
        ("√2", r"\boxed{\sqrt{2}}", True),
        ("18 dollars", r"\boxed{18}", True),
    ],
)
def test_signs_and_powers_of_ten_are_what_they_say(answer: str, response: str, right: bool) -> None:
    pytest.importorskip("math_verify")
    assert verifier("math-verify")(response, problem(answer)) == right


def test_answers_that_mathematics_cannot_read_are_refused() -> None:
    pytest.importorskip("math_verify")
    verify = verifier("math-verify")
    assert verify("0.5", Problem("p", '["1/2", "2/4"]', 1, alternatives=("1/2", "2/4"))) == 1.0
    for answer, message in [
        ("$$", "cannot read the true answer"),
        ("1–4", "a range or a difference"),
        ("", "needs the"),
    ]:
        with pytest.raises(ValueError, match=message):
            verify.prepare([problem("7"), problem(answer)])


def test_mathematics_works_in_threads() -> None:
    pytest.importorskip("math_verify")
    verify, found = verifier("math-verify"), {}

    def ask(number: int) -> None:
        found[number] = verify(f"${number % 3}$", problem("1"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {number: float(number % 3 == 1) for number in range(9)}


def test_a_tower_of_powers_masks_its_own_sample_only() -> None:
    """It hangs inside one instruction of Python, where no signal is heard."""
    pytest.importorskip("math_verify")
    verify = verifier("math-verify", seconds=0.7)
    rows = [problem("7")] * 3
    responses = ["$7$", r"$3^{7^{9^{9^{9}}}}$", "$8$"]
    with pytest.raises(TimeoutError, match=r"within 0\.7 s"):
        verify(responses[1], rows[1])
    rewards = score(Dataset({1: tuple(rows)}, {}, verify), rows, responses, [True] * 3, timeout=30)
    assert rewards[::2] == [1.0, 0.0] and math.isnan(rewards[1])
    with pytest.raises(RuntimeError, match="cannot read the true answer"):
        verify("7", problem("$$"))


# ---------------------------------------------------------------------- instructions

FOLLOWED: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("keywords:existence", {"keywords": ["cat", "dog"]}, ["A Dog and a cat"], ["A dog", ""]),
    ("keywords:frequency", {"keyword": "ha", "frequency": 2, "relation": "at least"}, ["Ha ha"], ["ha"]),
    ("keywords:frequency", {"keyword": "ha", "frequency": 2, "relation": "less than"}, ["ha"], ["ha ha"]),
    ("keywords:forbidden_words", {"forbidden_words": ["no", "not"]}, ["nothing"], ["No.", "so not so"]),
    ("keywords:letter_frequency", {"letter": "a", "let_frequency": 3, "let_relation": "at least"}, ["bAnana"], ["an"]),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        ["One. Two?", 'He said "so!" Then 3.5 came.'],
        ["One 3.5 two", "Only…"],
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["two words"], ["it is three"]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, ["a\n***\nb"], ["a", "a\n***\n***\nb"]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "So"},
        ["a\n\nso it is", 'a\n\n"So, yes"'],
        ["so\n\na", "a\n\nsober", "a\n\nso\n\nso"],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] at [b]"], ["[a]", "[]  []"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["Yes.\nP.S. no", "a\n p. s. b"], ["Yes. Pest."]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["x\nP.P.S more"], ["x\nP.S. more"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n* b", "- a\n  - b"], ["* a", "**a**\n* b"]),
    ("detectable_format:constrained_response", {}, ["My answer is maybe."], ["Maybe."]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, ["*a* **b c**"], ["*a*", "* a\n* b"]),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        ["SECTION 1\na\nSECTION 2\nb"],
        ["SECTION 1 only"],
    ),
    ("detectable_format:json_format", {}, ['{"a": [1]}', '```json\n{"a": 1}\n```'], ["{a: 1}", 'so {"a": 1}']),
    ("detectable_format:title", {}, ["<<On it>>\ntext"], ["<<>>", "<On it>"]),
    ("combination:two_responses", {}, ["a ****** b"], ["a ****** a", "a", "a ****** b ****** c"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, ["say it. It."], ["It. Say it."]),
    ("startend:start_checker", {"start_phrase": "Dear"}, [" dear all"], ["all dear"]),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, ['So. "any questions?"'], ["Any questions? No."]),
    ("startend:quotation", {}, ['"so"'], ['"so', '"', "so"]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["GO ON then"],
        ["GO on"],
    ),
    ("change_case:english_capital", {}, ["GO ON 3!"], ["Go on", "3"]),
    ("change_case:english_lowercase", {}, ["go on!"], ["Go on"]),
    ("punctuation:no_comma", {}, ["go on"], ["go, on"]),
]


@pytest.mark.parametrize(("name", "kwargs", "good", "bad"), FOLLOWED, ids=lambda x: x if isinstance(x, str) else "")
def test_instructions_followed_and_not(name: str, kwargs: dict[str, Any], good: list[str], bad: list[str]) -> None:
    every = {"num_words": None, "keyword": None, **kwargs}  # as in the published table, null where absent
    row = problem(instruction_id_list=[name], kwargs=[every])
    Instructions().prepare([row])
    assert [Instructions()(text, row) for text in good] == [1.0] * len(good)
    assert [Instructions()(text, row) for text in bad] == [0.0] * len(bad)


def test_every_instruction_is_tested() -> None:
    assert {name for name, *_ in FOLLOWED} == set(CHECKS)


def test_several_instructions_and_loose_reading() -> None:
    row = problem(
        instruction_id_list=["punctuation:no_comma", "change_case:english_lowercase"], kwargs='[{}, {"relation": null}]'
    )
    assert Instructions()("so Be it", row) == 0.0
    assert Instructions(partial=True)("so Be it", row) == 0.5
    assert Instructions()("Sure, here:\nso be it", row) == 0.0 < Instructions(loose=True)("Sure, here:\nso be it", row)
    for bad, message in [
        ({"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "de"}]}, "no check"),
        ({"instruction_id_list": ["length_constraints:number_words"], "kwargs": [{}]}, "cannot be checked"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"comma": 1}]}, "cannot be checked"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}, {}]}, "1 instructions"),
        ({}, "0 instructions"),
        (
            {
                "instruction_id_list": ["length_constraints:number_words"],
                "kwargs": [{"num_words": 3, "relation": "about"}],
            },
            "relation 'about'",
        ),
        ({"instruction_id_list": "punctuation:no_comma", "kwargs": [{}]}, "column 'instruction_id_list' holds 'punct"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": ["{}"]}, "an object is expected"),
        *(
            ({"instruction_id_list": [name], "kwargs": [arguments]}, f"the argument {next(iter(arguments))} of the")
            for name, arguments in [
                ("keywords:existence", {"keywords": "cat dog"}),
                ("keywords:existence", {"keywords": []}),
                ("keywords:forbidden_words", {"forbidden_words": [""]}),
                ("length_constraints:number_words", {"num_words": "3"}),
                ("length_constraints:number_words", {"num_words": 2.5}),
                ("detectable_content:number_placeholders", {"num_placeholders": 0}),
                ("startend:end_checker", {"end_phrase": " "}),
                ("combination:repeat_prompt", {"prompt_to_repeat": ""}),
                ("keywords:letter_frequency", {"letter": "ab", "let_frequency": 1}),
            ]
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            Instructions().prepare([problem(**bad)])


# ---------------------------------------------------------------------- by name


def test_verifiers_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_verifiers.py").write_text(
        "from geomalign.tasks import Verifier\n"
        "def short(response, problem, most=3): return len(response) <= most\n"
        "def broken(response, problem): raise KeyError('x')\n"
        "class Strict(Verifier):\n"
        "    def __call__(self, response, problem): return float(response == problem.answer)\n"
        "    def prepare(self, problems): raise ValueError('not these')\n"
        "number = 3\n"
        "def narrow(response): return 1.0\n"
        "def words(response, problem): return 'yes'\n"
        "class Odd:\n"
        "    def __init__(self, weight=1.0): pass\n"
        "    def __call__(self, response): return 1.0\n"
    )
    for verdict in ("yes", None):
        with pytest.raises(TypeError, match=r"returned .*; a reward is a number"):
            FromFunction(lambda response, problem, said=verdict: said)("a", problem())  # type: ignore[misc]
    assert verifier("my_verifiers:short", most=2)("abc", problem()) == 0.0
    assert verifier("my_verifiers:short")("abc", problem()) == 1.0
    with pytest.raises(ValueError, match="not these"):
        verifier("my_verifiers:Strict").prepare([])
    (reward,) = score(
        Dataset({1: (problem(),)}, {}, verifier("my_verifiers:broken")), [problem()], ["a"], [True], timeout=1
    )
    assert math.isnan(reward)
    for name, options, message in [
        ("my_verifiers:number", {}, "is a int"),
        ("my_verifiers:Strict", {"mode": 1}, "could not be built"),
        ("exacts", {}, "no verifier 'exacts'; there are exact"),
        ("exact", {"cases": 1}, "could not be built"),
        ("my_verifiers:short", {"mots": 2}, "unexpected keyword argument 'mots'"),
        ("my_verifiers:short", {"problem": 2}, "multiple values for argument 'problem'"),
        ("my_verifiers:narrow", {}, "too many positional arguments"),
        ("my_verifiers:Odd", {"wieght": 1}, "unexpected keyword argument 'wieght'"),
        ("my_verifiers:Odd", {}, "too many positional arguments"),
        ("exact", {"case": "false"}, "case='false' is of the type str; bool is expected"),
        ("code", {"seconds": "3"}, "seconds='3' is of the type str; float is expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            verifier(name, **options)
    with pytest.raises(ValueError, match="needs the true answer"):
        Exact().prepare([problem()])
