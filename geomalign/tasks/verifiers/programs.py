"""Programs, verified by unit tests in a sandbox."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from geomalign.tasks.rows import column, first
from geomalign.tasks.task import Problem
from geomalign.tasks.verifiers import sandbox
from geomalign.tasks.verifiers.base import Verifier

TESTS = ("tests", "test_list", "test", "test_cases", "input_output", "answer", "reward_model.ground_truth")
SETUP = ("setup", "test_setup_code", "test_imports")


@dataclass(frozen=True)
class UnitTests(Verifier):
    """1 if the program in a response passes all tests of its problem, else 0.

    The program is the last fenced block of the response, or all of it. The tests of a problem are

    * a list of pieces of Python such as `assert f(2) == 4`, each of which passes if it does not raise;
    * one piece of Python that defines `check(candidate)`, with the name of the function in a column `entry_point`;
    * or input and output: a list of `{"input": …, "output": …}`, or `{"inputs": […], "outputs": […]}`. The program is
      run once for each, and its standard output is compared line by line, without white space at the ends of lines.

    `geomalign.tasks.verifiers.sandbox` says what the sandbox keeps in bounds and what it does not.

    Args:
        tests: column of the tests; empty: the first known one.
        partial: reward the share of the tests that pass.
        continues: the response continues the prompt, as when the body of a function is to be written.
        packages: whether installed packages can be imported, or the standard library alone.
        seconds: for all tests of one response together. Below `rl.reward_timeout`, so that a program that hangs gets
            reward 0 instead of masking its response.
        memory, file, output: see `sandbox.Limits`.

    Raises:
        ValueError: programs cannot be run on this machine.

    >>> problem = Problem("Double x.", "", 1, row={"tests": ["assert double(2) == 4"]})
    >>> UnitTests()("def double(x): return 2 * x", problem)
    1.0
    """

    tests: str = ""
    partial: bool = False
    continues: bool = False
    packages: bool = False
    seconds: float = 3.0
    memory: int = 512
    file: int = 1
    output: int = 64

    def __post_init__(self) -> None:
        sandbox.available()

    @property
    def limits(self) -> sandbox.Limits:
        return sandbox.Limits(self.seconds, self.memory, self.file, self.output)

    def __call__(self, response: str, problem: Problem) -> float:
        program = (problem.prompt + response) if self.continues else extract_code(response)
        tests = self._tests(problem.row)
        if isinstance(tests[0], tuple):
            passed = self._by_output(program, tests)
        else:
            passed = self._by_asserts(program, tests, problem.row)
        return sum(passed) / len(tests) if self.partial else float(len(passed) == len(tests) and all(passed))

    def prepare(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            self._tests(problem.row)

    def _by_asserts(self, program: str, tests: Sequence[Any], row: Mapping[str, Any]) -> Sequence[bool]:
        before = column(row, first(row, SETUP)) or ""
        before = "\n".join(before) if isinstance(before, list) else before
        return sandbox.run(f"{before}\n{program}", tests, limits=self.limits, packages=self.packages).passed

    def _by_output(self, program: str, tests: Sequence[Any]) -> Sequence[bool]:
        passed: list[bool] = []
        end = time.monotonic() + self.seconds
        for given, wanted in tests:
            left = end - time.monotonic()
            if left <= 0:
                break
            limits = replace(self.limits, seconds=left)
            ran = sandbox.run(program, stdin=given, limits=limits, packages=self.packages)
            passed.append(ran.end == "finished" and _lines(ran.out) == _lines(wanted))
            if not (passed[-1] or self.partial):
                break
        return passed

    def _tests(self, row: Mapping[str, Any]) -> list[Any]:
        name = self.tests or first(row, TESTS)
        found = column(row, name)
        if isinstance(found, str) and found.lstrip()[:1] in ("[", "{"):
            found = json.loads(found)
        if isinstance(found, Mapping) and {"inputs", "outputs"} <= set(found):
            found = [{"input": i, "output": o} for i, o in zip(found["inputs"], found["outputs"])]
        if isinstance(found, str) and found.strip():
            entry = row.get("entry_point")
            return [f"{found}\ncheck({entry})" if entry else found]
        if isinstance(found, list) and found:
            if all(isinstance(test, str) for test in found):
                return found
            if all(isinstance(test, Mapping) and {"input", "output"} <= set(test) for test in found):
                return [(_text(test["input"]), _text(test["output"])) for test in found]
        raise ValueError(
            f"column {name!r} holds no tests ({str(found)[:80]!r}); the columns are {', '.join(row)}. Tests are a "
            "list of asserts, code that defines check(candidate), or input and output; name their column: tests=…."
        )


def extract_code(response: str) -> str:
    r"""The last fenced block of a response, or all of it.

    >>> extract_code("Here:\n```python\nx = 1\n```\nDone.")
    'x = 1\n'
    """
    blocks = re.findall(r"```[\w+-]*[ \t]*\n(.*?)(?:```|\Z)", response, flags=re.DOTALL)
    return str(blocks[-1]) if blocks else response


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def _text(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
