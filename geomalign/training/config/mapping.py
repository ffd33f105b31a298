"""Settings as mappings, TOML files and dotted flags, and back."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from geomalign.training.config.comparison import CompareConfig
from geomalign.training.config.presets import preset

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

C = TypeVar("C")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain dictionaries and lists, ready for JSON.

    >>> to_dict(preset("ci"))["rates"]
    [0.0001]
    """
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def from_dict(kind: type[C], mapping: Mapping[str, Any]) -> C:
    """The configuration that `to_dict` wrote; what the mapping does not say has its default.

    Raises:
        ValueError: for keys that the configuration does not have, and values of another type or out of range. Every one
            is named by its dotted key, with what was seen and what it may be.

    >>> from_dict(CompareConfig, {"seeds": [4], "run": {"rl": {"iterations": 5}}}).run.rl.iterations
    5
    """
    # Read as JSON, where lists stand for tuples and objects for dataclasses, and nothing else is converted.
    text = json.dumps(mapping, default=lambda value: vars(value) if dataclasses.is_dataclass(value) else str(value))
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A tuple with an item that was refused is too short as well, which helps nobody.
        inside = {one["loc"][:end] for one in found for end in range(len(one["loc"]))}
        told = (_told(kind, one) for one in found if one["type"] != "too_short" or one["loc"] not in inside)
        raise ValueError("\n".join(told)) from None


def _told(kind: type, error: Mapping[str, Any]) -> str:
    """One finding of pydantic as a sentence that begins with the dotted setting."""
    place: Sequence[str | int] = error["loc"]
    at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    match error["type"]:
        case "unexpected_keyword_argument":
            *tables, key = place
            for part in tables:
                kind = typing.get_args(kind)[0] if isinstance(part, int) else typing.get_type_hints(kind)[part]
            names = [field.name for field in dataclasses.fields(kind)]
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f" Did you mean {at.removesuffix(str(key))}{near[0]}?" if near else ""
            return f"{at} is not a setting of {kind.__name__}; it has {', '.join(names)}.{hint}"
        case "value_error":  # of a check in these classes, whose message may begin with a setting inside its table
            said = str(error["ctx"]["error"])
            return said if said.startswith("an objective") else f"{at}{'.' if at else ''}{said}"
        case "missing":
            return f"{at} is missing: {error['input']!r} is too short."
    said = error["msg"].replace("Input should", "it should").replace("an object", "a table").replace("array", "list")
    return f"{at} is {error['input']!r}; {said}."


def load_config(path: str | Path, kind: type[C]) -> C:
    """A configuration from a TOML file; what the file does not say has its default.

    A comparison may begin with `preset = "ci"`; then what the file does not say is as in that preset.

    Raises:
        ValueError: if the file cannot be read, is not TOML, or has a key or a value that the configuration cannot have.

    >>> from geomalign.training import TrainConfig
    >>> load_config("nowhere.toml", TrainConfig)
    Traceback (most recent call last):
    ValueError: the configuration file nowhere.toml could not be read (from ...): No such file or directory.
    """
    try:
        mapping = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"the configuration file {path} could not be read (from {Path.cwd()}): {error.strerror}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    try:
        if kind is CompareConfig and "preset" in mapping:
            return typing.cast(C, override(preset(mapping.pop("preset")), dict(flat(mapping))))
        return from_dict(kind, mapping)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def flat(mapping: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of nested tables with dotted keys; options are one setting, replaced as a whole.

    >>> dict(flat({"rate": 0.1, "task": {"options": {"largest": 1}}}))
    {'rate': 0.1, 'task.options': {'largest': 1}}
    """
    for key, value in mapping.items():
        if isinstance(value, Mapping) and key != "options":
            yield from flat(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def override(config: C, settings: Mapping[str, Any]) -> C:
    """The configuration with some settings replaced; keys are dotted.

    Raises:
        ValueError: as `from_dict`.

    >>> from geomalign.training import TrainConfig
    >>> override(TrainConfig(), {"rl.iterations": 5, "rate": 1e-4}).rl.iterations
    5
    """
    merged = to_dict(config)
    for key, value in settings.items():
        *path, last = key.split(".")
        table = merged
        for part in path:
            if not isinstance(table.get(part), dict):  # `from_dict` refuses what should have been no table
                table[part] = {}
            table = table[part]
        table[last] = value
    return from_dict(type(config), merged)


def digest(*parts: Any) -> str:
    """Eight hexadecimal digits that change when any of the plain values does.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2})
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
