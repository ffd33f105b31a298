"""How text becomes values: one reading of `name key=value …`, for command lines, configuration files and hosts."""

from __future__ import annotations

import contextlib
import json
import shlex
from typing import Any

__all__ = ["literal", "named"]

_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}


def literal(text: str) -> Any:
    """The number, truth value, list or text that a word stands for.

    >>> [literal(word) for word in ("3", "2e-4", "true", "none", "[1, 2]", "log")]
    [3, 0.0002, True, None, [1, 2], 'log']
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
        if len(text) > 1 and text[0] == text[-1] == "'":
            return text[1:-1]
    return text


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
