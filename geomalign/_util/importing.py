"""Importing what a text names in the user's own code, with errors that say what went wrong there."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

__all__ = ["called", "imported", "told"]


def told(error: BaseException) -> str:
    """The text of an error that the user's code raised, with its place.

    >>> try:
    ...     1 / 0
    ... except ZeroDivisionError as error:
    ...     told(error)
    'ZeroDivisionError: division by zero (<doctest ...>, line 2)'
    """
    return f"{type(error).__name__}: {error} ({called(error)})"


def called(error: BaseException) -> str:
    """Where an error was raised; of `exit()`, which lies in Python's own file, where it was called.

    >>> try:
    ...     exit(0)
    ... except SystemExit as error:
    ...     called(error)
    '<doctest ...>, line 2'
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = next((frame for frame in reversed(frames) if "_sitebuiltins" not in frame.filename), frames[-1])
    return f"{place.filename}, line {place.lineno}"


def imported(name: str) -> Any:
    """The object that `"module:attribute"` names; modules of the working directory are found too.

    Raises:
        ValueError: there is no such module or attribute, or importing the module raised an error.

    >>> imported("math:sqrt")(4.0)
    2.0
    """
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name}: there is no module {error.name!r}, looked for from {here} and the installed packages."
        ) from error
    except (Exception, SystemExit) as error:  # any exception that the module raises, also by exit()
        raise ValueError(f"{name}: module {module!r} could not be imported: {told(error)}.") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f"{name}: module {module!r} has no {attribute!r}.") from None
    return found
