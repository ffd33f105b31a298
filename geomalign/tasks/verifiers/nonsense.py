"""Tries tests on programs that are nonsense; run inside the sandbox, where this file is read as text.

Standard input holds rows of tests as JSON; standard output gets, for every piece of tests, whether all nonsense passed.
Only the standard library is imported.
"""

import builtins
import contextlib
import io
import json
import signal
import sys
import types
from typing import Any


class Nonsense:
    """A value that equals nothing or everything, and returns itself whatever is asked of it."""

    def __init__(self, agrees: bool) -> None:
        self.__dict__["agrees"] = agrees

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __eq__(self, other: object) -> bool:
        return bool(self.__dict__["agrees"])

    def __ne__(self, other: object) -> bool:
        return not self.__dict__["agrees"]

    def __bool__(self) -> bool:
        return not self.__dict__["agrees"]

    def __hash__(self) -> int:
        return 0


class Nothing(Nonsense):
    """A function, or a class of methods, that return None."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return None


class TooLong(BaseException):
    """A test took too long."""


def stop(number: int, frame: object) -> None:
    raise TooLong


def attempt(row: Any, of: Any) -> "list[bool]":
    module = types.ModuleType("__main__")
    names: Any = vars(module)
    names["__getattr__"] = of
    sys.modules["solution"] = sys.modules["__main__"] = module
    names["__value__"] = of("value")(0) if not isinstance(of("value"), Nothing) else None
    exec(compile("def anything(*args, **kwargs): return __value__", "program.py", "exec"), names)
    for name in row["names"]:
        names.setdefault(name, of(name))
    passed = []
    for number, source in enumerate([*row["setup"], *row["pieces"]]):
        signal.setitimer(signal.ITIMER_VIRTUAL, 1.0)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                exec(compile(source, "test.py", "exec", dont_inherit=True), names)
            found = True
        except BaseException:
            found = False
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        if number >= len(row["setup"]):
            passed.append(found)
    return passed


def nothing(name: str) -> Any:
    return Nonsense(True) if name[:1].isupper() else Nothing(True)


def main() -> None:
    signal.signal(signal.SIGVTALRM, stop)
    rows, found = json.load(sys.stdin), []
    own = sys.modules["__main__"]
    for row in rows:
        both = [attempt(row, lambda name, agrees=agrees: Nonsense(agrees)) for agrees in (False, True)]
        none = attempt(row, nothing) if any("None" in source for source in row["pieces"]) else None
        tried = [*both, *([none] if none else [])]
        found.append([all(flags) for flags in zip(*tried)])
    sys.modules["__main__"] = own
    builtins.print(json.dumps(found))


if __name__ == "__main__":
    main()
