"""Settings as mappings, TOML files and dotted flags, and back."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from geomalign._util.check import check
from geomalign.training.config.presets import preset
from geomalign.training.config.settings import Choice, CompareConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

C = TypeVar("C")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain dictionaries and lists, ready for JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def from_dict(kind: type[C], mapping: Mapping[str, Any], at: str = "") -> C:
    """The configuration that `to_dict` wrote.

    Raises:
        ValueError: for a key the configuration does not have, or a value of another type; both are named.
    """
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in mapping:
        near = difflib.get_close_matches(key, names, n=1)
        hint = f" Did you mean {at}{near[0]}?" if near else ""
        check(key in names, f"{at}{key} is not a setting of {kind.__name__}; it has {', '.join(names)}.{hint}")
    return kind(**{key: _convert(hints[key], value, f"{at}{key}") for key, value in mapping.items()})


def _convert(hint: Any, value: Any, at: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if hint is Choice and isinstance(value, str):
            return Choice(value)
        check(isinstance(value, Mapping), f"{at} is {value!r}; it is a table of settings.")
        return from_dict(hint, value, f"{at}.")
    if origin is tuple:
        check(isinstance(value, (list, tuple)), f"{at} is {value!r}; it is a list.")
        if len(args) == 2 and args[1] is not Ellipsis:
            check(len(value) == len(args), f"{at} has {len(value)} values; it takes {len(args)}.")
        return tuple(_convert(args[0], item, f"{at}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        check(isinstance(value, Mapping), f"{at} is {value!r}; it is a table.")
        return dict(value)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert(next(arg for arg in args if arg is not type(None)), value, at)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    check(
        isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool),
        f"{at} is {value!r}; it is of type {hint.__name__}.",
    )
    return value


def load_config(path: str | Path, kind: type[C]) -> C:
    """A configuration from a TOML file; what the file does not say keeps its default.

    Raises:
        ValueError: if the file cannot be read, is not TOML, or has a key or a type that the configuration has not.
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
        base = preset(mapping.pop("preset")) if kind is CompareConfig and "preset" in mapping else None
        return from_dict(kind, mapping) if base is None else override(base, _flatten(mapping))  # type: ignore[return-value]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _flatten(mapping: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and key != "options":
            flat.update(_flatten(value, f"{at}{key}."))
        else:
            flat[f"{at}{key}"] = value
    return flat


def override(config: C, settings: Mapping[str, Any]) -> C:
    """The configuration with some settings replaced; keys are dotted.

    Example:
        >>> from geomalign.training import TrainConfig
        >>> override(TrainConfig(), {"rl.iterations": 5, "rate": 1e-4}).rl.iterations
        5

    Raises:
        ValueError: for a key the configuration does not have.
    """
    merged = to_dict(config)
    for key, value in settings.items():
        *path, last = key.split(".")
        table = merged
        for part in path:
            tables = [name for name, value in table.items() if isinstance(value, dict)]
            check(
                part in tables,
                f"{key} is not a setting of {type(config).__name__}: it has no table {part!r}, but "
                f"{', '.join(tables) or 'none'}.",
            )
            table = table[part]
        table[last] = value
    return from_dict(type(config), merged)


def digest(*parts: Any) -> str:
    """Eight hexadecimal digits that change when any of the plain values does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
