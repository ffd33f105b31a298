"""Tables as strangers have them: every cell is read as what it means, or refused with file, row and column."""

import csv
import datetime
import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from geomalign.tasks import Dataset, Gym, Preference, Problem, build, held_out, load
from geomalign.tasks.config import TaskConfig
from geomalign.tasks.preferences import preferences
from geomalign.tasks.rows import DataWarning, read
from geomalign.training.pair_tokens import tokenise_pairs
from geomalign.training.policy import Policy

Write = Callable[..., str]
CALL = [{"id": "1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}]


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes rows, or bytes as they are, into a file of the directory that the test runs in; returns its name."""
    monkeypatch.chdir(tmp_path)

    def table(content: list[dict[str, Any]] | str | bytes, name: str = "a.jsonl") -> str:
        if isinstance(content, list) and name.endswith(".parquet"):
            pyarrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            writer.write_table(pyarrow.Table.from_pylist(content), name)
            return name
        text = "\n".join(map(json.dumps, content)) if isinstance(content, list) else content
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return table


def of(name: str, **options: Any) -> list[Problem]:
    return list(load(name, **options).levels[1])


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "name, text", [("a.csv", "prompt,answer\nq,4\n"), ("a.jsonl", '{"prompt": "q", "answer": "4"}')]
)
def test_a_byte_order_mark_belongs_to_no_column(name: str, text: str, write: Write) -> None:
    assert read(write(b"\xef\xbb\xbf" + text.encode(), name)) == [{"prompt": "q", "answer": "4"}]
    assert read(write("\ufeff[" + '{"prompt": "q"}' + "]", "a.json")) == [{"prompt": "q"}]


def test_files_in_another_form_are_refused_with_their_line(write: Write) -> None:
    latin = '{"prompt": "a"}\n{"prompt": "café"}\n'
    for content, name, message in [
        (latin.encode("latin-1"), "a.jsonl", r"line 2 of a\.jsonl is not UTF-8: byte 0xe9\. .*Latin-1"),
        ("prompt,answer\ncafé,4\n".encode("latin-1"), "a.csv", r"line 2 of a\.csv is not UTF-8"),
        ("prompt,answer\nq,4\n".encode("utf-16"), "a.csv", r"line 1 of a\.csv is not UTF-8: .*UTF-16"),
        ("prompt;answer\nq;4\n", "a.csv", r"a\.csv has one column, 'prompt;answer': it is not separated by commas"),
        (
            "prompt,answer\nq,4\nr,5,6\n",
            "a.csv",
            r"row 2 of a\.csv \(line 3\) has 3 cells, and the header 2: prompt, answer",
        ),
        ("prompt,answer\nq\n", "a.csv", r"row 1 of a\.csv \(line 2\) has 1 cells"),
        ("prompt,prompt\nq,r\n", "a.csv", r"a\.csv has columns of the same name in its header"),
        ('prompt,answer\n"q,4\nr,5\n', "a.csv", r"of a\.csv is no CSV: unexpected end of data"),
        ("prompt\nq\0\n", "a.tsv", r"a\.tsv is none of \.jsonl, \.json, \.csv, \.parquet"),
        ('{"prompt": "q", "answer": ' + "[" * 100_000 + "}\n", "a.jsonl", r"line 1 of a\.jsonl is no JSON"),
    ]:
        with pytest.raises(ValueError, match=message):
            read(write(content, name))
    with pytest.raises(ValueError, match=r"there is no directory gsm8k .*are named OWNER/NAME"):
        read("gsm8k")  # at once, without asking a hub


def test_long_cells_and_long_numbers_are_read(write: Write) -> None:
    before = csv.field_size_limit()
    (problem,) = of(write("prompt,answer\n" + "x" * 200_000 + ",4\n", "a.csv"))
    assert len(problem.prompt) == 200_000 and csv.field_size_limit() == before
    (problem,) = of(write('{"prompt": "q", "answer": ' + "9" * 5000 + "}"))
    assert problem.answer == "9" * 5000
    row = json.dumps({"prompt": "q", "info": '{"answer": ' + "8" * 5000 + "}"})
    assert of(write(row), answer="info.answer")[0].answer == "8" * 5000


def test_the_index_that_pandas_writes_is_a_column(write: Write) -> None:
    assert read(write(",prompt\n0,q\n", "a.csv")) == [{"": "0", "prompt": "q"}]


# ---------------------------------------------------------------------- cells of a task


@pytest.mark.parametrize(
    "cell, answer",
    [
        (4, "4"),
        (18.0, "18"),
        (1e-05, "0.00001"),
        (1e22, "10000000000000000000000"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (-2.50, "-2.5"),
        (True, "true"),
        ("1e-05", "1e-05"),
        ("[0, 1]", "[0, 1]"),
        ([[1, 2], [3, 4]], "[[1, 2], [3, 4]]"),
        ({"x": 1}, '{"x": 1}'),
        ("007", "007"),
    ],
)
def test_an_answer_is_the_text_that_a_reader_would_write(cell: Any, answer: str, write: Write) -> None:
    (problem,) = of(write([{"prompt": "q", "answer": cell}]))
    assert problem.answer == answer and problem.alternatives == ()


def test_decimals_and_days_of_parquet(write: Write) -> None:
    rows = [
        {
            "prompt": "a",
            "price": Decimal("12.50"),
            "day": datetime.date(2024, 1, 5),
            "at": datetime.datetime(2024, 1, 5),
        },
        {
            "prompt": "b",
            "price": Decimal("7.00"),
            "day": datetime.date(2024, 2, 5),
            "at": datetime.datetime(2024, 1, 5),
        },
    ]
    name = write(rows, "a.parquet")
    assert [problem.answer for problem in of(name, answer="price")] == ["12.5", "7"]
    assert [problem.answer for problem in of(name, answer="day")] == ["2024-01-05", "2024-02-05"]
    with pytest.raises(ValueError, match=r"row 1 of a\.parquet, column 'at' holds the datetime .*Write it as the text"):
        of(name, answer="at")


def test_a_list_of_answers_is_told_from_a_text_that_looks_like_one(write: Write) -> None:
    name = write([{"prompt": "a", "answer": ["7", 7.0]}, {"prompt": "b", "answer": '["7", "8"]'}])
    lists, text = of(name)
    assert (lists.alternatives, text.alternatives) == (("7", "7"), ())


def test_cells_that_mean_nothing_are_refused(write: Write) -> None:
    table: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"prompt": None, "answer": "4"}, {}, r"row 2 of a\.jsonl, column 'prompt' holds nothing \(null\)"),
        ({"prompt": 5, "answer": "4"}, {}, r"column 'prompt' holds the int 5; a text or a list of messages"),
        ({"prompt": " ", "answer": "4"}, {}, r"column 'prompt' holds the str ' '; a prompt has at least one"),
        ({"prompt": [], "answer": "4"}, {}, r"column 'prompt' holds the list \[\]"),
        ({"prompt": ["q"], "answer": "4"}, {}, r"message 1 of row 2 of a\.jsonl, column 'prompt' holds the str 'q'"),
        ({"prompt": [{"from": "human", "value": "q"}], "answer": "4"}, {}, r"message 1 .*rename `from` and `value`"),
        (
            {"prompt": [{"role": "human", "content": "q"}], "answer": "4"},
            {},
            r"holds the str 'human'; .*call it 'user'",
        ),
        ({"prompt": [{"role": "User", "content": "q"}], "answer": "4"}, {}, r"holds the str 'User'; .*call it 'user'"),
        ({"prompt": [user(None)], "answer": "4"}, {}, r"the content of message 1 .*holds nothing"),
        ({"prompt": [user(5)], "answer": "4"}, {}, r"the content of message 1 .*holds the int 5"),
        ({"prompt": [user([])], "answer": "4"}, {}, r"the content of message 1 .*holds the list \[\]"),
        ({"prompt": [user(["q"])], "answer": "4"}, {}, r"the content of message 1 .*models here read text alone"),
        (
            {"prompt": [user([{"type": "image_url", "image_url": "x"}])], "answer": "4"},
            {},
            "models here read text alone",
        ),
        ({"prompt": [user("q"), assistant(None, tool_calls="f()")]}, {}, r"tool_calls of message 2 .*the str 'f\(\)'"),
        ({"prompt": str([user("q")]), "answer": "4"}, {}, r"what Python's str\(\) makes of messages"),
        ({"prompt": "q \ud83d", "answer": "4"}, {}, r"row 2 of a\.jsonl, column 'prompt' holds half a character"),
        ({"prompt": "q", "answer": float("inf")}, {}, r"row 2 of a\.jsonl, column 'answer' holds the float inf"),
        ({"prompt": "q", "answer": [1, float("nan")]}, {}, r"column 'answer' holds the list .* are finite"),
        (
            {"prompt": "q", "answer": "4", "n": 2.7},
            {"level": "n"},
            r"row 2 of a\.jsonl, column 'n' holds the float 2\.7",
        ),
        ({"prompt": "q", "answer": "4", "n": "Level 3"}, {"level": "n"}, "column 'n' holds the str 'Level 3'"),
        ({"prompt": "q", "answer": "4", "n": True}, {"level": "n"}, "column 'n' holds the bool True"),
        ({"prompt": "q", "answer": "4", "n": None}, {"level": "n"}, "column 'n' holds nothing"),
        ({"prompt": "q", "m": "{oops"}, {"answer": "m.x"}, r"row 2 of a\.jsonl: the column 'm\.x' looks into '\{oops'"),
        ({"prompt": [user("q")], "tools": "f"}, {}, r"row 2 of a\.jsonl, column 'tools' holds the str 'f'"),
        ({"prompt": [user("q")], "chat_template_kwargs": {"tokenize": True}}, {}, "tokenize are not the table's"),
        ({"prompt": [user("q")], "chat_template_kwargs": [1]}, {}, "column 'chat_template_kwargs' holds the list"),
    ]
    for row, options, message in table:
        first = {"prompt": "p", "answer": "4", "n": 1, "m": '{"x": 1}'}
        with pytest.raises(ValueError, match=message):
            load(write([first, row]), **options)


def test_levels_that_are_whole_however_they_are_written(write: Write) -> None:
    rows = [{"prompt": str(index), "answer": "4", "n": level} for index, level in enumerate((1, 2.0, "3", "4.0"))]
    assert sorted(load(write(rows), level="n").levels) == [1, 2, 3, 4]


@pytest.mark.parametrize("option", ["chat", "unfinished"])
def test_a_text_is_no_truth_value(option: str, write: Write) -> None:
    name = write([{"prompt": "q", "answer": "4"}])
    with pytest.raises(ValueError, match=rf"{option}='false'\): True or False"):
        load(name, **{option: "false"})


def test_a_number_that_is_missing_is_no_answer(write: Write) -> None:
    rows = [{"prompt": "a", "answer": 18.0}, {"prompt": "b", "answer": None}]
    with pytest.raises(ValueError, match="needs the true answer, and the row of the prompt 'b' has none"):
        load(write(rows, "a.parquet"))
    with pytest.raises(ValueError, match="needs the true answer"):
        load(write('{"prompt": "b", "answer": NaN}'))
    with pytest.raises(ValueError, match=r"row 1 of a\.csv, column 'prompt' holds nothing"):
        load(write("prompt,answer\n,4\nq,5\n", "a.csv"))


# ---------------------------------------------------------------------- columns of a task


def test_a_column_is_chosen_for_the_whole_table_and_said(write: Write) -> None:
    rows = [{"question": "a", "answer": None, "target": "5"}, {"question": "b", "answer": "4", "target": "5"}]
    several = pytest.warns(DataWarning, match="several columns with a usual name of the answer: answer, target")
    # the answer of the first row is missing, and `target` is not put in its place
    with several, pytest.raises(ValueError, match="the row of the prompt 'a' has none"):
        load(write(rows))
    with pytest.warns(DataWarning, match="several columns with a usual name of the prompt: prompt, question"):
        (problem,) = of(write([{"question": "no", "prompt": "yes", "answer": "4"}]))
    assert problem.prompt == "yes"
    (problem,) = of("a.jsonl", prompt="question")
    assert problem.prompt == "no"


def test_labelled_responses_are_neither_answers_nor_demonstrations(write: Write) -> None:
    """TRL's unpaired preferences: `label` says whether `completion` is good, not what the answer is."""
    name = write([{"prompt": "q", "completion": "bad", "label": False}])
    with pytest.raises(ValueError, match="needs the true answer, and the row of the prompt 'q' has none"):
        load(name)
    task = load(name, answer="label")
    assert task.levels[1][0].answer == "false" and not task.demonstrations
    assert of(write([{"text": "good film", "label": 1}]))[0].answer == "1"


def test_a_column_without_anything(write: Write) -> None:
    with pytest.raises(ValueError, match=r"the column n of a\.csv holds nothing in any row"):
        load(write("prompt, answer , n\nq,4,\n", "a.csv"), level="n")
    assert of("a.csv")[0].answer == "4"


def test_half_of_an_instruction_is_no_prompt(write: Write) -> None:
    rows = [{"instruction": "Add.", "input": "", "answer": "4"}, {"instruction": "Add.", "input": "2 2", "answer": "4"}]
    with pytest.raises(ValueError, match=r"beside 'instruction', the column 'input' of a\.jsonl holds the str '2 2'"):
        load(write(rows))
    with pytest.warns(DataWarning, match="prompt: instruction, input"):
        assert of(write(rows[:1]))[0].prompt == "Add."


def test_the_answer_inside_messages_is_not_asked(write: Write) -> None:
    rows = [{"messages": [user("2+2?"), assistant("4")], "answer": "4"}, {"messages": [user("3+3?")], "answer": "6"}]
    with pytest.warns(
        DataWarning, match="1 of 2 conversations in the column 'messages' of a.jsonl end with a message of"
    ):
        task = load(write(rows))
    one, two = task.levels[1]
    assert one.messages == (user("2+2?"),) and one.prompt == "2+2?" and two.messages == (user("3+3?"),)
    assert task.demonstration(one, random.Random(0), noisy=False) == "4"
    for messages in ([assistant("4")], [user("q"), assistant("4"), assistant("5")]):
        with pytest.raises(ValueError, match=r"row 1 of a\.jsonl, column 'messages' holds .* ends with a message that"):
            load(write([{"messages": messages, "answer": "4"}]))


def test_a_system_message_is_put_before_a_conversation_or_refused(write: Write) -> None:
    name = write([{"prompt": [user("2+2?")], "answer": "4"}])
    (problem,) = of(name, system="Sum.")
    assert problem.messages == ({"role": "system", "content": "Sum."}, user("2+2?")) and problem.prompt == "2+2?"
    own = [{"prompt": [{"role": "system", "content": "Be brief."}, user("2+2?")], "answer": "4"}]
    with pytest.raises(ValueError, match="has a system message of its own"):
        load(write(own), system="Sum.")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_messages_as_json_text_are_messages(name: str, write: Write) -> None:
    text = json.dumps([user("2+2?")])
    quoted = '"' + text.replace('"', '""') + '"'
    (problem,) = of(
        write(f"prompt,answer\n{quoted},4\n" if name == "a.csv" else [{"prompt": text, "answer": "4"}], name)
    )
    assert problem.messages == (user("2+2?"),)
    (problem,) = of(write([{"prompt": '[{"role": 1}] is what?', "answer": "4"}]))
    assert problem.messages == () and problem.prompt == '[{"role": 1}] is what?'


def test_tasks_of_reasoning_gym_without_an_answer_have_no_demonstration() -> None:
    pytest.importorskip("reasoning_gym")
    task = Gym("graph_color", pool=16)
    problem = task.problem(1, random.Random(0))
    assert problem.answer == ""
    with pytest.raises(ValueError, match="has no answers that a warm start could learn from"):
        task.demonstration(problem, random.Random(0), noisy=False)


# ---------------------------------------------------------------------- preferences, as tokens

TEMPLATE = (
    "{% for t in tools or [] %}<{{ t['name'] }}>{% endfor %}"
    "{% for m in messages %}[{{ m['role'][0] }}]{{ m['content'] }}"
    "{% for c in m.tool_calls %}({{ c['function']['name'] }}){% endfor %};{% endfor %}"
    "{% if add_generation_prompt %}[a]{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)


@pytest.fixture
def trained_on(write: Write) -> Callable[..., tuple[str, str, str]]:
    """The first pair's prompt, chosen and rejected response as the tokens that are trained on."""
    from geomalign.training import ModelConfig
    from geomalign.training.policy import Placement, build

    small = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)
    policy: Policy = build(small, "".join(map(chr, range(32, 127))) + "\n", 0, Placement())

    def read_back(content: Any, template: str | None = TEMPLATE, name: str = "a.jsonl") -> tuple[str, str, str]:
        policy.tokenizer.chat_template = template
        (chosen, rejected), _ = tokenise_pairs(policy, preferences(write(content, name)), 500)
        text = policy.tokenizer.decode
        sides = (text(side.response[0][side.mask[0]]) for side in (chosen, rejected))
        return (text(chosen.prompt[0][chosen.prompt_mask[0]]), *sides)  # type: ignore[return-value]

    return read_back


WEATHER = ("[u]Time?;[a]", "(get_time);", "No.;")
PAIRS: dict[str, tuple[list[dict[str, Any]], tuple[str, str, str]]] = {
    "a call with content null": (
        [{"prompt": [user("Time?")], "chosen": [assistant(None, tool_calls=CALL)], "rejected": [assistant("No.")]}],
        WEATHER,
    ),
    "a call without content": (
        [
            {
                "prompt": [user("Time?")],
                "chosen": [{"role": "assistant", "tool_calls": CALL}],
                "rejected": [assistant("No.")],
            }
        ],
        WEATHER,
    ),
    "nulls and empty lists, as Arrow writes them": (
        [
            {
                "prompt": [user("Time?", tool_calls=None, name=None)],
                "chosen": [assistant("", tool_calls=CALL)],
                "rejected": [assistant("No.", tool_calls=[])],
            }
        ],
        WEATHER,
    ),
    "a call and its result in the context": (
        [
            {
                "prompt": [user("Time?"), assistant(None, tool_calls=CALL), {"role": "tool", "content": "9"}],
                "chosen": [assistant("Nine.")],
                "rejected": [assistant("Ten.")],
            }
        ],
        ("[u]Time?;[a](get_time);[t]9;[a]", "Nine.;", "Ten.;"),
    ),
    "the tools themselves": (
        [
            {
                "prompt": [user("Time?")],
                "chosen": [assistant(None, tool_calls=CALL)],
                "rejected": [assistant("No.")],
                "tools": [{"name": "get_time"}],
            }
        ],
        ("<get_time>[u]Time?;[a]", "(get_time);", "No.;"),
    ),
    "parts of text": (
        [
            {
                "prompt": [user([{"type": "text", "text": "Ti"}, {"type": "text", "text": "me?"}])],
                "chosen": [assistant([{"type": "text", "text": "Nine."}])],
                "rejected": [assistant("Ten.")],
            }
        ],
        ("[u]Time?;[a]", "Nine.;", "Ten.;"),
    ),
    "the prompt as text beside conversations": (
        [{"prompt": "Time?", "chosen": [user("Time?"), assistant("9")], "rejected": [user("Time?"), assistant("8")]}],
        ("[u]Time?;[a]", "9;", "8;"),
    ),
    "the first question beside conversations of many turns": (
        [
            {
                "prompt": "Hi",
                "chosen": [user("Hi"), assistant("Hi."), user("Time?"), assistant("9")],
                "rejected": [user("Hi"), assistant("Hi."), user("Time?"), assistant("8")],
            }
        ],
        ("[u]Hi;[a]Hi.;[u]Time?;[a]", "9;", "8;"),
    ),
    "the prompt as messages beside conversations": (
        [
            {
                "prompt": [user("Time?")],
                "chosen": [user("Time?"), assistant("9")],
                "rejected": [user("Time?"), assistant("8")],
            }
        ],
        ("[u]Time?;[a]", "9;", "8;"),
    ),
    "labelled conversations that repeat the prompt": (
        [
            {"prompt": [user("Time?")], "completion": [user("Time?"), assistant(text)], "label": text == "9"}
            for text in ("9", "8")
        ],
        ("[u]Time?;[a]", "9;", "8;"),
    ),
    "a prompt as text and responses as messages": (
        [{"prompt": "Time?", "chosen": [assistant("9")], "rejected": [assistant("8")]}],
        ("[u]Time?;[a]", "9;", "8;"),
    ),
    "a prompt as messages and responses as texts": (
        [{"prompt": [user("Time?")], "chosen": "9", "rejected": "8"}],
        ("[u]Time?;[a]", "9;", "8;"),
    ),
    "everything as JSON text": (
        [
            {
                name: json.dumps(part)
                for name, part in (
                    ("prompt", [user("Time?")]),
                    ("chosen", [assistant("9")]),
                    ("rejected", [assistant("8")]),
                )
            }
        ],
        ("[u]Time?;[a]", "9;", "8;"),
    ),
}


@pytest.mark.float32
@pytest.mark.parametrize("kind", PAIRS)
def test_pairs_reach_the_template_whole(kind: str, trained_on: Any) -> None:
    rows, expected = PAIRS[kind]
    assert trained_on(rows) == expected
    if kind != "parts of text":  # a column of Arrow does not hold texts beside lists
        assert trained_on(rows, name="a.parquet") == expected


@pytest.mark.float32
@pytest.mark.parametrize(
    "template, pair", [(None, ("Time?", "9<end>", "8<end>")), (LLAMA2, ("[INST] Time? [/INST]", " 9</s>", " 8</s>"))]
)
def test_a_repeated_prompt_and_other_templates(template: str | None, pair: Any, trained_on: Any) -> None:
    assert trained_on(PAIRS["the prompt as text beside conversations"][0], template) == pair


@pytest.mark.float32
@pytest.mark.parametrize("true, false", [("TRUE", "FALSE"), ("1.0", "0.0"), ("true", "False"), ("1", "0")])
def test_labels_of_spreadsheets(true: str, false: str, trained_on: Any) -> None:
    text = f"prompt,completion,label\nq,good,{true}\nq,bad,{false}\n"
    assert trained_on(text, None, "a.csv") == ("q", "good<end>", "bad<end>")


@pytest.mark.parametrize("true, false", [(True, False), (1, 0), (1.0, 0.0), (Decimal(1), Decimal(0))])
def test_labels_that_are_numbers(true: Any, false: Any, write: Write) -> None:
    rows = [{"prompt": "q", "completion": text, "label": label} for text, label in (("bad", false), ("good", true))]
    (pair,) = preferences(write(rows, "a.parquet"))
    assert (pair.chosen, pair.rejected) == ("good", "bad")


@pytest.mark.parametrize("label", ["yes", "y", "good", "-1", -1, 2, 0.5, float("nan"), "", [True], "None"])
def test_labels_that_are_not_known_are_refused(label: Any, write: Write) -> None:
    rows = [{"prompt": "q", "completion": "good", "label": True}, {"prompt": "q", "completion": "bad", "label": label}]
    with pytest.raises(
        ValueError, match=r"row 2 of a\.jsonl, column 'label' holds .*; a label is true or false, 1 or 0"
    ):
        preferences(write(rows))


def test_a_label_that_is_missing_is_refused(write: Write) -> None:
    with pytest.raises(ValueError, match=r"row 2 of a\.csv has no label"):
        preferences(write("prompt,completion,label\nq,good,1.0\nq,bad,\n", "a.csv"))


@pytest.mark.parametrize(
    "row, message",
    [
        ({"prompt": None, "chosen": "a", "rejected": "b"}, r"row 2 of a\.jsonl has no prompt"),
        ({"prompt": 7, "chosen": "a", "rejected": "b"}, "column 'prompt' holds the int 7"),
        ({"prompt": ["q"], "chosen": "a", "rejected": "b"}, "column 'prompt' holds the str 'q'"),
        (
            {"prompt": "q", "chosen": [], "rejected": [assistant("b")]},
            r"row 2 of a\.jsonl, column 'chosen' holds the list",
        ),
        (
            {"prompt": "q", "chosen": [user("q")], "rejected": [assistant("b")]},
            "begins with a message of the assistant",
        ),
        (
            {"prompt": "q", "chosen": [user("q")], "rejected": [user("q"), assistant("b")]},
            "the response 'chosen' behind",
        ),
        (
            {"prompt": "Tea?", "chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]},
            r"row 2 of a\.jsonl, column 'prompt' holds the str 'Tea\?'; its responses begin with .*say otherwise",
        ),
        (
            {"prompt": [assistant("q")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
            "is not the assistant's",
        ),
        (
            {"prompt": "q", "chosen": [{"role": "gpt", "content": "a"}], "rejected": [assistant("b")]},
            "call it 'assistant'",
        ),
        (
            {"prompt": "q", "chosen": [assistant(None)], "rejected": [assistant("b")]},
            "the content of message 1 of row 2",
        ),
    ],
)
def test_pairs_that_are_none_are_refused(row: dict[str, Any], message: str, write: Write) -> None:
    with pytest.raises(ValueError, match=message):
        preferences(write([{"prompt": "p", "chosen": "a", "rejected": "b"}, row]))


def test_conversations_without_anything_in_common_have_no_prompt(write: Write) -> None:
    rows = [{"chosen": [assistant("a")], "rejected": [assistant("b")]}]
    with pytest.raises(ValueError, match=r"row 1 of a\.jsonl, the prompt holds the list \[\]"):
        preferences(write(rows))


def test_texts_that_all_repeat_their_prompt(write: Write) -> None:
    rows = [{"prompt": f"{i}+1=?", "chosen": f"{i}+1=? {i + 1}", "rejected": f"{i}+1=? 0"} for i in range(1, 4)]
    with pytest.warns(DataWarning, match="all 3 pairs of a.jsonl repeat their prompt"):
        first, *_ = preferences(write(rows))
    assert (first.problem.prompt, first.chosen, first.rejected) == ("1+1=?", " 2", " 0")
    with pytest.warns(DataWarning, match="3 of 4 pairs of a.jsonl repeat their prompt .* it stays there"):
        first, *_ = preferences(write([*rows, {"prompt": "So?", "chosen": "Yes", "rejected": "No"}]))
    assert first.chosen == "1+1=? 2"
    (pair,) = preferences(write([{"prompt": "ye", "chosen": "yes", "rejected": "yellow"}]))  # in the middle of a word
    assert pair.chosen == "yes"


def test_what_is_left_out_is_counted(write: Write) -> None:
    pairs = [{"prompt": "q", "chosen": "a", "rejected": b} for b in ("b", "a", "a")]
    with pytest.warns(DataWarning, match=r"2 of 3 pairs of a\.jsonl are left out: their responses are equal"):
        assert len(preferences(write(pairs))) == 1
    labels = [{"prompt": [user("q")], "completion": [assistant(x)], "label": x == "a"} for x in "abc"]
    with pytest.warns(DataWarning, match=r"1 of 3 rows of a\.jsonl are left out"):
        assert len(preferences(write(labels))) == 1


def test_prompts_are_the_same_where_their_messages_are(write: Write) -> None:
    """Two conversations with the same words in other roles are two prompts."""
    rows = [
        {"prompt": [user("a"), user("b")], "completion": "x", "label": True},
        {"prompt": [{"role": "system", "content": "a"}, user("b")], "completion": "y", "label": False},
    ]
    with pytest.raises(ValueError, match="no prompt with both"):
        preferences(write(rows))


def test_tool_calls_are_part_of_the_text_for_models_without_a_template(write: Write) -> None:
    rows = [{"prompt": [user("Time?")], "chosen": [assistant(None, tool_calls=CALL)], "rejected": [assistant("No.")]}]
    (pair,) = preferences(write(rows))
    assert isinstance(pair, Preference) and json.loads(pair.chosen) == CALL and pair.rejected == "No."


def test_what_is_read_can_be_held_out_and_built(write: Write) -> None:
    task = build(TaskConfig(write([{"prompt": "é", "answer": "4"}])))
    assert isinstance(task, Dataset) and held_out(task.levels[1][0]) in (True, False)


def test_two_values_under_one_name_are_refused(write: Write) -> None:
    write('{"prompt": "q", "answer": "1", "answer": "2"}', "a.jsonl")
    with pytest.raises(ValueError, match=r"line 1 of .*two values under the name 'answer'"):
        read("a.jsonl")


def test_single_precision_of_parquet_is_read_as_it_is_written(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"prompt": ["q", "r"], "answer": pyarrow.array([0.1, None], pyarrow.float32())})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert [row["answer"] for row in read(str(tmp_path / "a.parquet"))] == [0.1, None]


def test_one_prompt_with_several_answers_is_said(write: Write) -> None:
    write('{"prompt": "Solve.", "answer": "1"}\n{"prompt": "Solve.", "answer": "2"}', "a.jsonl")
    with pytest.warns(DataWarning, match="1 of 1 different prompts of a.jsonl have several true answers"):
        load("a.jsonl")
    with pytest.raises(ValueError, match="max_response_length"):
        load("a.jsonl", max_response_length=-5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": ""}, "1 of 1 pairs of p.jsonl have an empty response"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 3.0, "score_rejected": 7},
            "lower score_chosen",
        ),
        (
            {"prompt": "q", "chosen": [assistant("a"), user("z"), assistant("b")], "rejected": [assistant("c")]},
            "messages of others than the assistant",
        ),
    ],
)
def test_doubtful_pairs_are_counted(row: dict[str, Any], message: str, write: Write) -> None:
    write(json.dumps(row), "p.jsonl")
    with pytest.warns(DataWarning, match=message):
        preferences("p.jsonl")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "  ", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": [assistant("a"), user("thanks")], "rejected": [assistant("b")]},
    ],
)
def test_blank_prompts_and_responses_of_the_user_are_refused(row: dict[str, Any], write: Write) -> None:
    write(json.dumps(row), "p.jsonl")
    with pytest.raises(ValueError, match=r"row 1 of p\.jsonl"):
        preferences("p.jsonl")
