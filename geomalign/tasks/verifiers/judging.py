"""Pieces of Python that are tests, and whether they can judge.

A test that only defines functions, or that writes a comparison without `assert`, does not raise whatever the program
does. Here test functions and test classes are called, comparisons become assertions, and what still passes for a
program that is nonsense is refused.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from geomalign.tasks.verifiers import sandbox
from geomalign.tasks.verifiers.fenced import free

#: Calls whose value is the test.
_PREDICATES = {"all", "any", "isinstance", "issubclass", "callable", "hasattr", "isclose", "allclose", "array_equal"}
_SETTING_UP = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Pass)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Piece:
    """A piece of tests as it runs in the sandbox.

    Args:
        source: the code, with assertions for comparisons and calls of what it defines.
        counts: whether it is a test; otherwise it is what tests need, such as an import.
        names: what it reads and does not define.

    >>> piece("f(2) == 4").source
    'assert f(2) == 4'
    """

    source: str
    counts: bool = True
    names: frozenset[str] = frozenset()


def piece(source: str, entry: str = "", packages: bool = False) -> Piece:
    """Read a piece of tests.

    Args:
        source: Python code.
        entry: an expression for the function under test; empty: the last that the program defines.
        packages: whether installed packages can be imported.

    Raises:
        ValueError: it is no Python, imports what there is not, ends the process, or defines a test function with
            arguments that nobody gives.

    >>> piece("def check(candidate): assert candidate(2) == 4", "f").source.splitlines()[-1]
    "__import__('__tests__').call(check, __import__('__tests__').candidate('f'))"
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source.lstrip("\ufeff"))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"the test {source[:80]!r} is no Python: {error}.") from None
    importable(tree, packages)
    tree = ast.fix_missing_locations(_Assertions().visit(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("exit", "quit", "sys.exit", "os._exit"):
            raise ValueError(
                f"the test {source[:80]!r} ends the process by {ast.unparse(node)}; let it assert instead."
            )
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    calls = [line for node in tree.body if (line := _called(node, called, entry))]
    counts = bool(calls) or not all(_sets_up(node) for node in tree.body)
    asked = free(ast.parse(entry)) if entry else set()
    return Piece("\n".join([ast.unparse(tree), *calls]), counts, frozenset(free(tree) | asked))


def importable(tree: ast.Module, packages: bool) -> None:
    """Refuse imports at the top of tests or of their set-up that fail for every program.

    Raises:
        ValueError: a module is neither in the standard library nor, with `packages`, installed.

    >>> importable(ast.parse("import math"), packages=False)
    """
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "."]
        for name in (full.partition(".")[0] for full in names):
            known = name in sys.stdlib_module_names or name in ("solution", "__main__")
            if not (known or (packages and name and importlib.util.find_spec(name))):
                raise ValueError(
                    f"the tests import {name!r}, which the sandbox does not have, so every program would fail. "
                    "Install it and say packages=true; the program itself is the module 'solution'."
                )


def blind(rows: Sequence[tuple[Sequence[str], Sequence[Piece]]], limits: sandbox.Limits, packages: bool) -> list[str]:
    """For every row the first of its tests that nonsense passes, or the empty text.

    Every row is tried with programs in which whatever the tests ask for is a function that returns nonsense: a value
    that equals nothing, one that is false and equals everything, and None. A piece that all of them pass is blind. Of a
    row in which others judge, a blind assertion such as `assert callable(f)` is let be.

    >>> blind([([], [piece("print(f(2))")]), ([], [piece("f(2) == 4")])], sandbox.Limits(), False)
    ['print(f(2))', '']
    """
    found: list[str] = []
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        job = [
            {
                "setup": list(setup),
                "pieces": [p.source for p in pieces],
                "names": sorted(set().union(*(p.names for p in pieces))),
            }
            for setup, pieces in part
        ]
        generous = sandbox.Limits(seconds=60.0, memory=max(limits.memory, 1024), file=limits.file, output=1 << 14)
        ran = sandbox.run(probe(), stdin=json.dumps(job), limits=generous, packages=packages, helpers=harness())
        passed = json.loads(ran.out) if ran.end == "finished" else [[False] * len(pieces) for _, pieces in part]
        found += [_first_blind(pieces, flags) for (_, pieces), flags in zip(part, passed)]
    return found


def _first_blind(pieces: Sequence[Piece], passed: Sequence[bool]) -> str:
    counted = [(p.source, flag) for p, flag in zip(pieces, passed) if p.counts]
    judged = any(not flag for _, flag in counted)
    lacking = (source for source, flag in counted if flag and not (judged and "assert" in source))
    return next(lacking, "" if counted else "\n".join(p.source for p in pieces) or "no code at all")


@cache
def harness() -> str:
    """The text of the module that tests call."""
    return Path(__file__).with_name("harness.py").read_text(encoding="utf-8")


@cache
def probe() -> str:
    """The text of the program that tries tests on nonsense."""
    return Path(__file__).with_name("nonsense.py").read_text(encoding="utf-8")


class _Assertions(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        if any(_runs_all(part) for part in ast.walk(node)):
            return ast.Pass()
        return ast.Assert(test=node.value) if _is_condition(node.value) else node


def _runs_all(node: ast.AST) -> bool:
    """Whether this is `unittest.main()` or the like, which finds no tests in the sandbox and ends the process."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("unittest.main", "pytest.main")


def _is_condition(node: ast.expr) -> bool:
    if isinstance(node, ast.BoolOp):
        return all(map(_is_condition, node.values))
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name in _PREDICATES
    return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def _sets_up(node: ast.stmt) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text or isinstance(node, (*_SETTING_UP, *_FUNCTIONS, ast.ClassDef))


def _called(node: ast.stmt, called: set[str], entry: str) -> str:
    """The line that runs what a statement defines, if that is a test."""
    tests = "__import__('__tests__')"
    if isinstance(node, ast.ClassDef):
        bases = [ast.unparse(base) for base in node.bases]
        own = node.name.startswith("Test") or any(base.endswith("TestCase") for base in bases)
        return f"{tests}.cases({node.name})" if own else ""
    if not isinstance(node, _FUNCTIONS) or node.name in called:
        return ""
    arguments = node.args.posonlyargs + node.args.args
    needed = [argument.arg for argument in arguments[: len(arguments) - len(node.args.defaults)]]
    if not (node.name.startswith("test") or node.name == "check" or needed == ["candidate"]):
        return ""
    if not needed:
        return f"{tests}.call({node.name})"
    if len(needed) == 1 and (node.name == "check" or needed == ["candidate"]):
        return f"{tests}.call({node.name}, {tests}.candidate({entry!r}))"
    raise ValueError(
        f"the test function {node.name} takes {', '.join(needed)}, which nobody gives: fixtures and parameters of "
        "pytest are not known here. Write the values into the test."
    )


def literal(value: object) -> str:
    """A value of JSON as Python source; a text of 4,000 digits and more is an integer that Python did not read.

    >>> literal([1, None, float("inf")])
    '[1, None, float("inf")]'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{str(key)!r}: {literal(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, str) and len(value) >= 4000 and value.lstrip("-").isdecimal():
        return value
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return f'float("{value}")'
    return repr(value)
