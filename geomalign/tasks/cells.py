"""What the cell of a table may hold: a text, messages of a chat, a truth value, a whole number.

A cell of another kind is refused, with its place and what it holds; none is turned into text by Python's `str`.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn

from geomalign._util.files import parsed

Message = Mapping[str, Any]
Messages = tuple[Message, ...]

#: Where a message holds what it asks tools for.
_CALLS = ("tool_calls", "function_call")
#: Names that other notations have for the roles of a chat; a template that does not know one drops or mislabels it.
_ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    **{role: role for role in ("user", "assistant", "system", "tool", "developer")},
}


def refuse(where: str, value: Any, expected: str) -> NoReturn:
    """Raise a ValueError that says where a cell is, what it holds and what it should hold.

    >>> refuse("row 2 of a.jsonl, column 'label'", "yes", "a label is true or false.")
    Traceback (most recent call last):
    ValueError: row 2 of a.jsonl, column 'label' holds the str 'yes'; a label is true or false.
    """
    shown = repr(value)
    shown = f"{shown[:80]}…" if len(shown) > 80 else shown
    raise ValueError(
        f"{where} holds {'nothing (null)' if value is None else f'the {type(value).__name__} {shown}'}; {expected}"
    )


def as_text(value: Any, where: str) -> str:
    """A cell as the text that a reader would write for it, empty where there is nothing.

    A number is written without exponent and without zeros behind its last digit, since a table holds 18.0 where
    another holds 18; a truth value and a list or object as JSON, a date as year-month-day. NaN counts as nothing, which
    is how tables of numbers mark a missing one.

    Raises:
        ValueError: the cell is of another type, infinite, or a text that is no Unicode.

    >>> as_text(18.0, ""), as_text(1e-05, ""), as_text(["a", 2], ""), as_text(None, "")
    ('18', '0.00001', '["a", 2]', '')
    """
    if value is None or (isinstance(value, (float, Decimal)) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return _unicode(value, where)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (float, Decimal)):
        return _digits(value, where)
    if type(value) is datetime.date:
        return value.isoformat()
    if isinstance(value, (list, Mapping)):
        return _json(value, where)
    return refuse(where, value, "a text, a number or a list is expected. Write it as the text that is meant.")


def texts(value: Any, where: str) -> tuple[str, ...]:
    """The items of a list of texts and numbers as texts; empty for every other cell.

    >>> texts(["7", 7.5], ""), texts("[0, 1]", ""), texts([[1]], "")
    (('7', '7.5'), (), ())
    """
    if not isinstance(value, list) or any(isinstance(item, (list, Mapping)) for item in value):
        return ()
    return tuple(as_text(item, where) for item in value)


def as_prompt(value: Any, where: str) -> str | Messages:
    """A cell that is a text or a list of messages, also as the JSON text of such a list.

    Raises:
        ValueError: it is neither; or it is the text that Python makes of a list of messages.

    >>> as_prompt("3+8?", ""), as_prompt('[{"role": "user", "content": "3+8?"}]', "")
    ('3+8?', ({'role': 'user', 'content': '3+8?'},))
    """
    if isinstance(value, str):
        return as_messages(found, where) if (found := _listed(value, where)) else _unicode(value, where)
    if isinstance(value, list):
        return as_messages(value, where)
    return refuse(where, value, "a text or a list of messages, each with a role and a content, is expected.")


def as_messages(value: Any, where: str) -> Messages:
    """A list of messages for a chat template, with all that they hold but nulls and empty lists of tool calls.

    A content that is a list of parts of text becomes these texts, one behind the other, as templates that know
    parts write them. A message that calls tools may have no content.

    Raises:
        ValueError: no list, an empty one, or one of something else; a role under a name that chat templates do not
            know; or a content that is no text.

    >>> as_messages([{"role": "user", "content": [{"type": "text", "text": "3+8?"}], "name": None}], "")
    ({'role': 'user', 'content': '3+8?'},)
    """
    if not isinstance(value, list) or not value:
        refuse(where, value, "a list of messages, each with a role and a content, is expected.")
    return tuple(_message(message, f"message {number} of {where}") for number, message in enumerate(value, 1))


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, Mapping):
        refuse(where, message, "this is no list of messages, each with a role and a content.")
    if "role" not in message and {"from", "value"} <= message.keys():
        refuse(where, message, "rename `from` and `value` to `role` and `content`, human to user and gpt to assistant.")
    found = {str(key): part for key, part in message.items() if part is not None}
    if not found.get("tool_calls", True):
        del found["tool_calls"]
    role = found.get("role")
    if not isinstance(role, str) or not role.strip():
        refuse(where, message, "this is no list of messages, each with a role and a content.")
    known = _ROLES.get(role.strip().casefold(), role)
    if known != role:
        refuse(f"the role of {where}", role, f"chat templates call it {known!r}.")
    if not isinstance(found.get("tool_calls", []), list):
        refuse(f"the tool_calls of {where}", found["tool_calls"], "a list of calls is expected.")
    calls = "tool_calls" in found or "function_call" in found
    found["content"] = _content(found.get("content"), calls, where)
    if len(found) > 2:
        _json(found, where)  # a template writes the rest, such as tool calls, as JSON
    return found


def _content(value: Any, calls: bool, where: str) -> str:
    if calls and not value:
        return ""
    if isinstance(value, str):
        return _unicode(value, where)
    where = f"the content of {where}"
    if not isinstance(value, list) or not value:
        refuse(where, value, "a text is expected. This is no list of messages, each with a role and a content.")
    for part in value:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            refuse(where, part, "parts of a content are {'type': 'text', 'text': …}; models here read text alone.")
    return _unicode("".join(part["text"] for part in value), where)


def spoken(messages: Sequence[Message]) -> str:
    """The contents of messages one after another, with the tool calls as JSON.

    >>> spoken([{"role": "user", "content": "3+8?"}, {"role": "assistant", "content": "11"}])
    '3+8?\\n\\n11'
    """
    parts = [
        part
        for message in messages
        for part in (message["content"], *(_json(message[key], "") for key in _CALLS if key in message))
    ]
    return "\n\n".join(part for part in parts if part)


def as_label(value: Any, where: str) -> bool:
    """A label as true or false: a truth value, 1 or 0, or one of these as text, as CSV files hold it.

    Raises:
        ValueError: it is anything else, such as "yes", 0.5 or nothing.

    >>> as_label("TRUE", ""), as_label(0.0, ""), as_label("1.0", "")
    (True, False, True)
    """
    known = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
    found = known.get(value.strip().casefold()) if isinstance(value, str) else None
    if isinstance(value, (bool, int, float, Decimal)) and value in (0, 1):
        found = bool(value)
    if found is None:
        refuse(where, value, "a label is true or false, 1 or 0.")
    return found


def as_integer(value: Any, where: str) -> int:
    """A whole number, also one that is written as 2.0 or as text.

    Raises:
        ValueError: it is anything else, such as 2.7 or "level 3".

    >>> as_integer("2", ""), as_integer(2.0, "")
    (2, 2)
    """
    try:
        number = Decimal(value.strip() if isinstance(value, str) else value)
        if not isinstance(value, bool) and number == int(number):
            return int(number)
    except (ArithmeticError, TypeError, ValueError):
        pass
    return refuse(where, value, "a whole number is expected; this is not an integer.")


def _listed(text: str, where: str) -> list[Any] | None:
    """The list of messages that a text is the JSON of; None for every other text."""
    if not text.lstrip().startswith("[") or not text.rstrip().endswith("]") or text.lstrip("[ \n\t")[:1] != "{":
        return None
    try:
        found = parsed(text)
    except ValueError:
        found = None
        if "'role'" in text or "'from'" in text:
            refuse(where, text, "this is what Python's str() makes of messages; save lists as JSON, or as parquet.")
    said = isinstance(found, list) and all(
        isinstance(item, Mapping) and ({"role", "content"} <= item.keys() or {"from", "value"} <= item.keys())
        for item in found
    )
    return found if said else None


def _digits(value: float | Decimal, where: str) -> str:
    if math.isinf(value):
        refuse(where, value, "a finite number is expected.")
    written = format(Decimal(repr(value)) if isinstance(value, float) else value, "f")
    written = written.rstrip("0").rstrip(".") if "." in written else written
    return "0" if written == "-0" else written


def _json(value: Any, where: str) -> str:
    def other(part: Any) -> str:
        return (
            as_text(part, where)
            if isinstance(part, (Decimal, datetime.date))
            else refuse(where, part, "JSON has no such value.")
        )

    try:
        return _unicode(json.dumps(value, ensure_ascii=False, allow_nan=False, default=other), where)
    except ValueError as error:
        if "JSON compliant" in str(error):
            refuse(where, value, "numbers in a list or an object are finite.")
        raise


def _unicode(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where} holds half a character, {text[error.start : error.end]!r} at {error.start}: a text was cut "
            "in the middle of a surrogate pair."
        ) from None
    return text
