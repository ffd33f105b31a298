"""What tests call inside the sandbox, where this file is read as text and is the module `__tests__`.

Only the standard library is imported. The program is the module `solution`, which is `__main__` too.
"""

import asyncio
import inspect
import math
import sys
import types
import unittest
from typing import Any


def candidate(entry: str) -> Any:
    """What the tests are about: an expression, or else the program's last public method or function."""
    names = vars(sys.modules["solution"])
    solution = names.get("Solution")
    if entry:
        try:
            return eval(entry, names)
        except NameError:
            if solution is None:
                raise
            return getattr(solution(), entry)
    if isinstance(solution, type):
        methods = [name for name, value in vars(solution).items() if _own(value)]
        if methods:
            return getattr(solution(), methods[-1])
    functions = [value for value in names.values() if _own(value)]
    if not functions:
        raise NameError("the program defines no function")
    return functions[-1]


def _own(value: Any) -> bool:
    return (
        isinstance(value, types.FunctionType)
        and value.__code__.co_filename == "program.py"
        and not value.__name__.startswith("_")
    )


def call(function: Any, *arguments: Any) -> None:
    """Call a test function, which may be a coroutine; it fails by raising, and by returning False."""
    found = function(*arguments)
    if inspect.iscoroutine(found):
        found = asyncio.run(found)
    if found is False:
        raise AssertionError("the test returned False")


def cases(kind: Any) -> None:
    """Run the tests of a class as unittest does, or as pytest does where it is no TestCase."""
    if issubclass(kind, unittest.TestCase):
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(kind)
        result = unittest.TestResult()
        suite.run(result)
        if not result.wasSuccessful() or result.testsRun <= len(result.skipped) + len(result.expectedFailures):
            raise AssertionError(f"{result}")
        return
    names = [name for name in dir(kind) if name.startswith("test") and callable(getattr(kind, name))]
    if not names:
        raise AssertionError(f"{kind} has no tests")
    for name in names:
        one = kind()
        getattr(one, "setup_method", lambda *_: None)(*[getattr(one, name)][: _takes(one)])
        call(getattr(one, name))


def _takes(one: Any) -> int:
    return len(inspect.signature(one.setup_method).parameters) if hasattr(one, "setup_method") else 0


def agree(entry: str, given: list[Any], wanted: Any, wrapped: bool) -> None:
    """Fail unless the candidate's value for the arguments is the wanted one.

    A tuple agrees with a list, and numbers agree within a relative 1e-9; `wrapped` says that `wanted` is a list of
    one item, the value.
    """
    found = candidate(entry)(*given)
    if not (_same(found, wanted) or (wrapped and _same(found, wanted[0]))):
        raise AssertionError(f"{found!r} is not {wanted!r}")


def _same(found: Any, wanted: Any) -> bool:
    # Types are compared as they are: an object of the program could call itself equal to everything.
    if type(found).__module__ == "numpy":
        found = found.tolist()
    if isinstance(wanted, list):
        return (
            type(found) in (list, tuple)
            and len(found) == len(wanted)
            and all(_same(a, b) for a, b in zip(found, wanted))
        )
    if isinstance(wanted, dict):
        if type(found) is not dict or len(found) != len(wanted):
            return False
        named = {str(key): value for key, value in found.items()}  # keys of JSON are texts
        return named.keys() == wanted.keys() and all(_same(named[key], wanted[key]) for key in wanted)
    if type(found) in (int, float) and type(wanted) in (int, float):
        try:
            return found == wanted or math.isclose(found, wanted, rel_tol=1e-9) or (found != found and wanted != wanted)
        except OverflowError:
            return False
    return type(found) is type(wanted) and bool(found == wanted)
