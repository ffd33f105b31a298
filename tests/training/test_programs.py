"""Which part of a response is the program, which tests judge it, and which tables are refused because none does."""

import json
import os
from typing import Any

import pytest

from geomalign.tasks import Problem
from geomalign.tasks.verifiers.programs import UnitTests, extract_code

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of processes are Unix's")

RIGHT, WRONG = "def f(x): return x * x", "def f(x): return 'nonsense'"
METHOD = "class Solution:\n    def f(self, x: List[int]): return {}"


def problem(**row: object) -> Problem:
    return Problem("p", "", 1, (), row)


def rewards(row: dict[str, Any], *responses: str, **options: Any) -> list[float]:
    verify, asked = UnitTests(seconds=5, **options), problem(**row)
    verify.prepare([asked])
    return [verify(response, asked) for response in responses]


# ---------------------------------------------------------------------- the program in a response


@pytest.mark.parametrize(
    "response",
    [
        f"```python\n{RIGHT}\n```\nOutput:\n```\n4\n```",
        f"```python\n{RIGHT}\n```\nRun it:\n```bash\npython a.py\n```",
        f"```python\n{RIGHT}\n```\nFor example:\n```python\nprint(f(2))\n```",
        f"```python\r\n{RIGHT}\r\n```",
        f"1. So:\n   ```python\n   {RIGHT}\n   ```",
        f"- ```python\n  {RIGHT}\n  ```",
        f'```python title="a.py"\n{RIGHT}\n```',
        f"```{{.python}}\n{RIGHT}\n```",
        f"~~~py\n{RIGHT}\n~~~",
        f"````\n{RIGHT}\n````",
        "```python\ndef f(x):\n    '''Use\n```\nf(2)\n```\n    '''\n    return x * x\n```",
        "```python\ndef f(x):\n    '''Use ```f(2)```'''\n    return x*x\n```",
        f"<think>```python\n{WRONG}\n```</think>\n```python\n{RIGHT}\n```",
        f"<answer>{RIGHT}</answer>",
        f"```python\n{WRONG}\n```\nNo, rather:\n```python\n{RIGHT}\n```",
        "```python\nimport math\ndef g(x): return x ** 2\n```\n```python\ndef f(x): return g(x)\n```",
        f"```python\n{RIGHT}\n```\n```python\n>>> f(2)\n4\n```",
        f"```python\n{RIGHT}",
        RIGHT,
        f"\ufeff{RIGHT}",
    ],
)
def test_the_program_in_a_response(response: str) -> None:
    names: dict[str, Any] = {}
    exec(extract_code(response, {"f"}), names)
    assert names["f"](3) == 9


def test_the_program_that_reads_is_not_its_example() -> None:
    program = "print(int(input()) ** 2)"
    shown = f"```python\n{program}\n```\nIt is the same as\n```python\nprint(3 ** 2)\n```\n```\n9\n```"
    assert extract_code(shown, reads=True) == program + "\n"
    assert extract_code("```\na\n```\n```py\nb\n```") == "b\n"
    assert extract_code("```python\nb = 1") == "b = 1"


# ---------------------------------------------------------------------- tests that judge


@pytest.mark.parametrize(
    "row",
    [
        {"tests": ["def test_a():\n    assert f(2) == 4"]},
        {"tests": ["def test_a():\n    return f(2) == 4"]},
        {"tests": ["def test_a():\n    f(2) == 4"]},
        {"tests": ["async def test_a():\n    assert f(2) == 4"]},
        {
            "tests": [
                "class TestF:\n    def setup_method(self): self.k = 4\n    def test_a(self): assert f(2) == self.k"
            ]
        },
        {"test": "from solution import f\ndef test_a():\n    assert f(2) == 4"},
        {"test": "def check(candidate):\n    assert candidate(2) == 4"},
        {"test": "def check(candidate):\n    assert candidate(2) == 4\ncheck(f)"},
        {"test": "def verify(candidate):\n    assert candidate(2) == 4", "entry_point": "f"},
        {"test": "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(2), 4)"},
        {
            "test": "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(2), 4)\n"
            "if __name__ == '__main__':\n    unittest.main()",
            "entry_point": "f",
        },
        {"test": "if __name__ == '__main__':\n    assert f(2) == 4"},
        {"tests": ["f(2) == 4"]},
        {"tests": ["not f(2) != 4"]},
        {"tests": ["isinstance(f(2), int)"]},
        {"tests": ["import math", "wanted = math.isqrt(16)", "assert f(2) == wanted"]},
        {"tests": ["assert callable(f)", "assert f(2) == 4"]},
        {"tests": ["try:\n    f('a')\nexcept TypeError:\n    pass\nelse:\n    raise ValueError"]},
        {"tests": ["assert f(2) == K"], "setup": "", "test_setup_code": "K = 4"},
        {"tests": ["assert f(2) == K"], "test_imports": ["from __future__ import annotations", "K = 4"]},
    ],
    ids=range(20),
)
def test_a_right_program_passes_and_a_wrong_one_does_not(row: dict[str, Any]) -> None:
    assert rewards(row, RIGHT, WRONG) == [1.0, 0.0]


@pytest.mark.parametrize(
    "tests, message",
    [
        (["# f(2) == 4"], "cannot judge"),
        (["f(2)"], "cannot judge"),
        (["print(f(2))"], "cannot judge"),
        (["pass"], "cannot judge"),
        (["assert True"], "cannot judge"),
        (["import math"], "cannot judge"),
        (["assert (f(2) == 4, 'wrong')"], "cannot judge"),
        (["try:\n    assert f(2) == 4\nexcept Exception:\n    print('failed')"], "cannot judge"),
        (["def helper():\n    assert f(2) == 4"], "cannot judge"),
        (["def test_a():\n    yield f(2) == 4"], "cannot judge"),
        (["def test_a():\n    def inner():\n        assert f(2) == 4"], "cannot judge"),
        (["for x in []:\n    assert f(x) == 4"], "cannot judge"),
        (["def check(candidate):\n    candidate(2) is None"], None),
        (["assert f(2) == 4", "print(f(3))"], r"cannot judge.*print\(f\(3\)\)"),
        (["f(2) = 4"], "is no Python"),
        (["import numpy\nassert f(2) == 4"], "import 'numpy', which the sandbox does not have"),
        (["from main import f\nassert f(2) == 4"], "import 'main'"),
        (["import sys\nsys.exit(f(2) != 4)"], "ends the process"),
        (["def test_a(tmp_path):\n    assert f(2) == 4"], r"takes tmp_path, which nobody gives"),
        ({"inputs": ["2", "3"], "outputs": ["4"]}, "2 inputs and 1 outputs"),
        ({"inputs": ["2"], "outputs": ["4", "9"]}, "1 inputs and 2 outputs"),
        ({"inputs": ["2"], "outputs": [""]}, "every output that it holds is empty"),
        ({"inputs": ["2"], "outputs": [None]}, "output holds 'None'"),
        ({"inputs": [[[1, 2], 3]], "outputs": [["4"]]}, "Tests that call a function name it"),
        ([{"input": "2", "output": "4", "testtype": "functional"}, {"input": "2", "output": "4"}], "of one kind"),
        ([{"input": "2", "output": "4", "testtype": "interactive"}], "of one kind that is known"),
        ("[oops", "begins like JSON, and is none"),
    ],
    ids=range(27),
)
def test_tests_that_cannot_judge_are_refused(tests: Any, message: str | None) -> None:
    if message is None:  # what None alone would pass judges
        UnitTests().prepare([problem(tests=tests)])
        return
    with pytest.raises(ValueError, match=f"(?s){message}"):
        UnitTests().prepare([problem(tests=["assert f(2) == 4"]), problem(tests=tests)])


def test_what_only_sets_up_earns_nothing() -> None:
    row = {"tests": ["import math", "K = 4", "assert f(2) == K", "assert f(3) == 9"]}
    assert rewards(row, RIGHT, "def f(x): return 4", WRONG, partial=True) == [1.0, 0.5, 0.0]


# ---------------------------------------------------------------------- calls of a function


@pytest.mark.parametrize(
    "row",
    [
        {"input_output": json.dumps({"fn_name": "f", "inputs": [[[2]], [[3]]], "outputs": [4, 9]})},
        {"input_output": json.dumps({"fn_name": "f", "inputs": [[[2]], [[3]]], "outputs": [[4], [9]]})},
        {"tests": json.dumps([{"input": "[2]", "output": "4", "testtype": "functional"}])},
        {
            "public_test_cases": json.dumps([{"input": "[2]", "output": "4", "testtype": "functional"}]),
            "metadata": '{"func_name": "f"}',
        },
        {"tests": [{"fn_name": "f", "input": [[2]], "output": 4, "type": "function_call"}]},
    ],
    ids=range(5),
)
def test_tests_that_call_a_function(row: dict[str, Any]) -> None:
    methods = METHOD.format("x[0] ** 2"), METHOD.format("[4, 9]")
    functions = "def g(x): return x\ndef f(x): return g(x[0]) ** 2", "def f(x): return 5"
    liar = "class Any:\n    def __eq__(self, other): return True\ndef f(x): return Any()"
    assert rewards(row, methods[0], functions[0], methods[1], functions[1], liar) == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_values_of_calls_are_compared_by_kind() -> None:
    def reward(wanted: Any, value: str) -> float:
        row = {"tests": {"fn_name": "f", "inputs": [[1], [2]], "outputs": [wanted, wanted]}}
        return rewards(row, f"def f(x): return {value}")[0]

    assert reward([1, 2], "(1, 2)") == 1.0 == reward({"1": [0.3]}, "{1: [0.1 + 0.2]}") == reward(None, "None")
    assert reward([1, 2], "[2, 1]") == 0.0 == reward("4", "4") == reward(True, "1") == reward([0, 1], "0")
    assert reward(int("9" * 400), "int('9' * 400)") == 1.0


def test_integers_of_thousands_of_digits() -> None:
    long = "9" * 5000
    assert rewards({"tests": f'[{{"input": 1, "output": {long}}}]'}, "print(10**5000 - 1)") == [1.0]
    row = {"tests": f'{{"fn_name": "f", "inputs": [[1]], "outputs": [{long}]}}'}
    assert rewards(row, "def f(x): return 10**5000 - 1", "def f(x): return 9") == [1.0, 0.0]


# ---------------------------------------------------------------------- how programs run


@pytest.mark.parametrize("end", ["", "exit()", "quit()", "exit(0)", "import sys; sys.exit()", "raise SystemExit"])
def test_a_program_may_end_itself(end: str) -> None:
    row = {"tests": [{"input": "3", "output": "9"}]}
    assert rewards(row, f"print(int(input()) ** 2)\n{end}", f"print(5)\n{end}") == [1.0, 0.0]
    assert rewards(row, "print(9)\nexit(1)") == [0.0]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\nclass P:\n    def __init__(s, x): s.x = x\n"
        "def f(x): return pickle.loads(pickle.dumps(P(x))).x ** 2",
        "from __future__ import annotations\nimport typing\nclass Q: pass\nclass P:\n    x: Q\n"
        "def f(x):\n    typing.get_type_hints(P)\n    return x * x",
        "import sys\ndef g(x): return x * x\ndef f(x): return getattr(sys.modules[__name__], 'g')(x)",
        f"{RIGHT}\nif __name__ == '__main__':\n    print(f(int(input())))",
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: 'int'\ndef f(x): return P(x).x ** 2",
        f"import os\nassert os.path.basename(__file__)\n{RIGHT}",
        f"'''Squares.'''\nfrom __future__ import annotations\n{RIGHT}",
    ],
    ids=["pickle", "hints", "modules", "guard", "dataclass", "file", "future"],
)
def test_a_program_is_a_module(code: str) -> None:
    assert rewards({"test_list": ["assert f(2) == 4"], "test_setup_code": "K = 4"}, code) == [1.0]


def test_a_main_guard_runs_where_input_is_given() -> None:
    guarded = "if __name__ == '__main__':\n    print(int(input()) ** 2)"
    assert rewards({"tests": {"input": ["3", "4"], "output": ["9", "16"]}}, guarded) == [1.0]


def test_a_program_that_exits_in_one_test_fails_that_one() -> None:
    row = {"tests": ["assert f(2) == 4", "assert f(3) == 9"]}
    exits = "def f(x):\n    if x == 2: exit(0)\n    return x * x"
    assert rewards(row, exits, partial=True) == [0.5]


SQUARE = "def f(x):\n    return x * x\n"
SIGNED = {"prompt": 'def f(x):\n    """The square."""\n', "test": "def check(candidate): assert candidate(3) == 9"}


@pytest.mark.parametrize("response", ["    return x * x\n", f"```python\n{SQUARE}```", "```\n    return x * x\n```"])
def test_a_prompt_is_continued_by_a_body_or_by_all_of_the_function(response: str) -> None:
    asked = Problem(str(SIGNED["prompt"]), "", 1, row={**SIGNED, "entry_point": "f"})
    assert UnitTests(continues=True)(response, asked) == 1.0
    assert UnitTests(continues=True)(response.replace("x * x", "5"), asked) == 0.0


def test_a_fence_may_open_behind_words() -> None:
    assert extract_code(f"Sure: ```python\n{SQUARE}```\nDone.") == SQUARE
    assert extract_code(f'```python\n{SQUARE}x = """\nIt is ```py\n"""\n```').startswith(SQUARE)


def test_long_outputs_and_indented_first_lines_are_compared() -> None:
    long = {"tests": [{"input": "3", "output": "\n".join(map(str, range(20_000)))}]}
    assert rewards(long, "for i in range(20000): print(i)", "print(1)") == [1.0, 0.0]
    pyramid = {"tests": [{"input": "3", "output": " *\n***"}]}
    assert rewards(pyramid, "print(' *'); print('***')", "print('*'); print('***')") == [1.0, 0.0]


def test_a_test_that_is_expected_to_fail_is_no_test() -> None:
    case = "import unittest\nclass T(unittest.TestCase):\n    @unittest.expectedFailure\n"
    case += "    def test(self): self.assertEqual(f(2), 4)"
    assert rewards({"tests": [case]}, "def f(x): return 5") == [0.0]
