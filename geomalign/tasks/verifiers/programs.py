"""Programs, verified by unit tests in a sandbox."""

from __future__ import annotations

import re
import textwrap
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from geomalign._util.files import parsed
from geomalign.tasks.cells import as_text
from geomalign.tasks.rows import column
from geomalign.tasks.task import Problem
from geomalign.tasks.verifiers import judging, sandbox
from geomalign.tasks.verifiers.base import Verifier
from geomalign.tasks.verifiers.fenced import extract_code as extract_code
from geomalign.tasks.verifiers.judging import Piece

TESTS = (
    "tests",
    "test_list",
    "test",
    "test_cases",
    "input_output",
    "public_test_cases",
    "answer",
    "reward_model.ground_truth",
)
SETUP = ("setup", "test_setup_code", "test_imports")
#: Where a table names the function under test, beside the tests themselves.
ENTRY = ("entry_point", "fn_name", "func_name", "function_name", "method_name", "metadata.func_name")
#: What programs for tests that call a function may use without importing it, as where such problems are published.
_PRELUDE = """from typing import *
from collections import *
from heapq import *
from bisect import *
from itertools import *
from functools import *
import collections, heapq, bisect, itertools, functools, math, operator, random, re, string, sys, typing
"""


@dataclass(frozen=True)
class _Tests:
    """The tests of a row: pieces of Python that run after the set-up and the program, or pairs of input and output."""

    pieces: tuple[Piece, ...] = ()
    setup: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    entry: str = ""

    @property
    def wanted(self) -> frozenset[str]:
        names = frozenset().union(*(piece.names for piece in self.pieces))
        return names | set(re.findall(r"\w+", self.entry))


@dataclass(frozen=True)
class UnitTests(Verifier):
    """1 if the program in a response passes all tests of its problem, else 0.

    `geomalign.tasks.verifiers.fenced.extract_code` says which part of a response is the program. Its tests are

    * pieces of Python, a list or one text: asserts such as `assert f(2) == 4`, for which a comparison alone counts
      too; functions `test_…` and classes of tests, which are called as pytest and unittest call them; or
      `check(candidate)`. The program is the module `solution`, and its main guard does not run;
    * calls of a function: `{"fn_name": …, "inputs": […], "outputs": […]}`, or a list of `{"input", "output"}` whose
      `testtype` is `functional` or whose `type` is `function_call`;
    * or input and output: a list of `{"input": …, "output": …}`, or `{"inputs": […], "outputs": […]}`. The program is
      run once for each, and its standard output is compared line by line, without white space at the ends of lines.

    The function under test is named in the tests or in a column such as `entry_point`; otherwise it is the last that
    the program defines, or the last public method of its class `Solution`.
    `geomalign.tasks.verifiers.sandbox` says what the sandbox keeps in bounds and what it does not.

    Args:
        tests: column of the tests; empty: the first known one.
        partial: reward the share of the tests that pass.
        continues: the response continues the prompt, as when the body of a function is to be written; a fenced block
            may hold the body or all of the function.
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
        tests = self._tests(problem.row)
        if self.continues:
            program = _continued(problem.prompt, response)
        else:
            program = extract_code(response, tests.wanted, reads=bool(tests.pairs))
        passed = self._by_output(program, tests.pairs) if tests.pairs else self._by_pieces(program, tests)
        count = len(tests.pairs) or sum(piece.counts for piece in tests.pieces)
        return sum(passed) / count if self.partial else float(len(passed) == count and all(passed))

    def prepare(self, problems: Sequence[Problem]) -> None:
        """Refuse rows whose tests cannot be read, or cannot tell a program from nonsense."""
        found = [(problem, self._tests(problem.row)) for problem in problems]
        python = [(problem, tests) for problem, tests in found if tests.pieces]
        lacking = judging.blind([(tests.setup, tests.pieces) for _, tests in python], self.limits, self.packages)
        for (problem, _), source in zip(python, lacking):
            if source:
                raise ValueError(
                    f"the tests of the prompt {problem.prompt[:60]!r} cannot judge: whatever the program does, it "
                    f"passes {source[:200]!r}. Tests assert something about the program's values."
                )

    def _by_pieces(self, program: str, tests: _Tests) -> Sequence[bool]:
        sources = [piece.source for piece in tests.pieces]
        passed = sandbox.run(
            program,
            sources,
            limits=self.limits,
            packages=self.packages,
            setup=tests.setup,
            helpers=judging.harness() if any("__tests__" in source for source in sources) else "",
        ).passed
        return [flag for flag, piece in zip(passed, tests.pieces) if piece.counts]

    def _by_output(self, program: str, tests: Sequence[tuple[str, str]]) -> Sequence[bool]:
        passed: list[bool] = []
        end = time.monotonic() + self.seconds
        for given, wanted in tests:
            left = end - time.monotonic()
            if left <= 0:
                break
            limits = replace(self.limits, seconds=left, output=max(self.output, len(wanted.encode()) // 512))
            ran = sandbox.run(program, stdin=given, limits=limits, packages=self.packages)
            passed.append(ran.end == "finished" and _lines(ran.out) == _lines(wanted))
            if not (passed[-1] or self.partial):
                break
        return passed

    def _tests(self, row: Mapping[str, Any]) -> _Tests:
        name = self.tests or next((one for one in TESTS if column(row, one) is not None), "")
        try:
            return self._read(row, _cell(column(row, name)))
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from None

    def _read(self, row: Mapping[str, Any], found: Any) -> _Tests:
        entry = next((str(value) for name in ENTRY if (value := column(row, name))), "")
        if isinstance(found, Mapping):
            entry = str(found.get("fn_name") or found.get("func_name") or entry)
            called = bool(found.get("fn_name") or found.get("func_name"))
            found = _zipped(found, called)
        if isinstance(found, str) and found.strip():
            found = [found]
        if isinstance(found, list) and found:
            if all(isinstance(test, str) for test in found):
                setup = self._setup(row)
                return _Tests(tuple(judging.piece(test, entry, self.packages) for test in found), setup, entry=entry)
            if all(isinstance(test, Mapping) and {"input", "output"} <= set(test) for test in found):
                return _of_pairs(found, entry)
        raise ValueError(
            f"it holds no tests ({str(found)[:80]!r}); the columns are {', '.join(row)}. Tests are a list of asserts, "
            "code that defines check(candidate) or functions test_…, or input and output; name their column: tests=…."
        )

    def _setup(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        pieces: list[str] = []
        for name in SETUP:
            cell = _cell(column(row, name)) or []
            pieces += cell if isinstance(cell, list) else [cell]
        for text in pieces:
            if not isinstance(text, str):
                raise ValueError(f"the set-up of the tests holds {text!r}; it is Python, a text or a list of texts.")
            judging.piece(text, packages=self.packages)
        return tuple(pieces)


def _cell(found: Any) -> Any:
    """The tests in a cell, which may be the JSON text of a list or an object."""
    if isinstance(found, str) and found.lstrip()[:1] in ("[", "{"):
        try:
            return parsed(found)
        except ValueError as error:
            raise ValueError(f"it begins like JSON, and is none: {error}: {found[:80]!r}.") from None
    return found


def _zipped(found: Mapping[str, Any], called: bool) -> Any:
    """Tests given as one list of inputs and one of outputs, or as one test."""
    for given, wanted in (("inputs", "outputs"), ("input", "output")):
        if not {given, wanted} <= set(found):
            continue
        both = (found[given], found[wanted])
        if not all(isinstance(part, list) for part in both):
            return [{**found, "input": both[0], "output": both[1]}]
        if len(both[0]) != len(both[1]):
            raise ValueError(f"it holds {len(both[0])} inputs and {len(both[1])} outputs; each input has one output.")
        kind = (
            {"testtype": "functional"} if called else {key: found[key] for key in ("type", "testtype") if key in found}
        )
        return [{"input": i, "output": o, **kind} for i, o in zip(*both)]
    return found


def _of_pairs(found: Sequence[Mapping[str, Any]], entry: str) -> _Tests:
    kinds = {str(test.get("testtype") or test.get("type") or "stdin") for test in found}
    calls = {kind for kind in kinds if kind in ("functional", "function_call")}
    if (calls and calls != kinds) or kinds - calls - {"stdin", "stdin_stdout"}:
        raise ValueError(
            f"its tests are of the kinds {', '.join(sorted(kinds))}; a row has tests of one kind that is known."
        )
    if not calls:
        pairs = tuple((_text(test["input"] or "", "input"), _text(test["output"], "output")) for test in found)
        if not any(wanted.strip() for _, wanted in pairs):
            raise ValueError("every output that it holds is empty, so that every program that prints nothing passes.")
        return _Tests(pairs=pairs)
    entry = next((str(name) for test in found for key in ("fn_name", "func_name") if (name := test.get(key))), entry)
    given = [_arguments(test["input"]) for test in found]
    # Where the arguments are JSON text, so is the value.
    wanted = [_cell_value(test["output"]) if isinstance(test["input"], str) else test["output"] for test in found]
    # Some tables put every value into a list of its own; that can be seen only where all of them are such lists.
    wrapped = all(isinstance(value, list) and len(value) == 1 for value in wanted)
    pieces = tuple(
        Piece(f"__import__('__tests__').agree({entry!r}, {judging.literal(i)}, {judging.literal(o)}, {wrapped})")
        for i, o in zip(given, wanted)
    )
    return _Tests(pieces, (_PRELUDE,), entry=entry)


def _arguments(given: Any) -> list[Any]:
    """The arguments of a call: a list, or a text with the JSON of one argument per line."""
    if isinstance(given, list):
        return given
    if isinstance(given, str):
        return [_cell_value(line) for line in given.splitlines() if line.strip()]
    raise ValueError(
        f"the input of a call is {given!r}; it is a list of arguments, or a text with one per line as JSON."
    )


def _cell_value(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parsed(value)
    except ValueError:
        return value


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in textwrap.dedent("\n".join(text.rstrip().splitlines()).lstrip("\n")).splitlines()]


def _continued(prompt: str, response: str) -> str:
    """A prompt with its continuation: the response as it is, or its fenced block, the body or all of a function."""
    if not re.search(r"```|~~~", response):
        return prompt + response
    code = extract_code(response)
    ways = (f"{prompt}{code}", f"{prompt.rstrip()}\n{code}", f"{prompt}{textwrap.indent(code, '    ')}", code)
    return next((way for way in ways if _compiles(way)), ways[0])


def _compiles(code: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(code, "program.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


def _text(value: Any, what: str) -> str:
    """Standard input or output as text; a list holds its lines."""
    if isinstance(value, list):
        if any(isinstance(line, (list, Mapping)) or line is None for line in value):
            raise ValueError(
                f"an {what} holds {str(value)[:80]!r}; a standard {what} is a text or a list of lines. "
                "Tests that call a function name it in fn_name."
            )
        return "\n".join(_text(line, what) for line in value)
    if value is None or isinstance(value, Mapping):
        raise ValueError(f"an {what} holds {str(value)[:80]!r}; a standard {what} is a text or a list of lines.")
    return str(value) if isinstance(value, (bool, int, float)) else as_text(value, what)
