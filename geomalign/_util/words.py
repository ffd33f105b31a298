"""Text as values and back: the one parser of `name key=value …` for command lines, configuration files and trainers."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import shlex
from typing import Any

__all__ = ["literal", "named", "short", "spelled"]

_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}


def literal(text: str) -> Any:
    """The number, truth value, list or text that a word stands for.

    >>> [literal(word) for word in ("3", "2e-4", "true", "none", "[1, 2]", "(1, 2)", "log", "'3'")]
    [3, 0.0002, True, None, [1, 2], (1, 2), 'log', '3']
    """
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        return float(text)
    if text.startswith(("[", "{", '"', "'", "(")):
        with contextlib.suppress(ValueError):
            return json.loads(text)
        with contextlib.suppress(ValueError, SyntaxError):
            return ast.literal_eval(text)
    return text


def spelled(value: Any) -> str:
    """The word that `literal` reads as this value: text that would read as something else is quoted.

    >>> [spelled(value) for value in (3, True, None, (2.0, 3.0), "log", "3")]
    ['3', 'true', 'none', '[2.0, 3.0]', 'log', '"3"']
    """
    if isinstance(value, str):
        return json.dumps(value) if literal(value) != value else value
    return "none" if value is None else json.dumps(value, default=str)


def named(
    text: str, *, where: str = "the description", example: str = "opo mu=10 alpha=0.4"
) -> tuple[str, dict[str, Any]]:
    """A name and the options behind it: `"opo mu=10 scaled=false"` is `("opo", {"mu": 10, "scaled": False})`.

    Words are split as a shell does, so a value with spaces is quoted. Dashes in the name of an option are underscores.

    Args:
        text: the name, then `key=value` words.
        where: what the text is, for error messages: a flag or a setting.
        example: a text that would be right, for error messages.

    Raises:
        ValueError: there is no name, quotes do not pair, or a word behind the name is not `key=value`.

    >>> named("opo mu=10 scaled=false")
    ('opo', {'mu': 10, 'scaled': False})
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{where} {text!r}: {error}; quotes come in pairs.") from None
    if not words:
        raise ValueError(f'{where} is empty; write a name and its options, such as "{example}".')
    options: dict[str, Any] = {}
    for word in words[1:]:
        key, given, value = word.partition("=")
        if not (given and key):
            raise ValueError(f'{where} {text!r}: {word!r} is not key=value, as in "{example}".')
        options[key.replace("-", "_")] = literal(value)
    return words[0], options


def short(part: object) -> str:
    """The value of a slot as code, without the arguments that have their defaults.

    >>> from geomalign import Escort, LogRatio
    >>> short(LogRatio(scale=1.0)), short(Escort(alpha=0.4, temperature=2.0))
    ('LogRatio()', 'Escort(alpha=0.4, temperature=2.0)')
    """
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return str(part)
    own = not part.__dataclass_params__.repr  # type: ignore[attr-defined]
    if own or not dataclasses.fields(part) or not repr(part).startswith(f"{type(part).__name__}("):
        return repr(part)
    given = []
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if field.repr and (field.default is dataclasses.MISSING or value != field.default):
            given.append(f"{field.name}={short(value) if dataclasses.is_dataclass(value) else repr(value)}")
    return f"{type(part).__name__}({', '.join(given)})"
