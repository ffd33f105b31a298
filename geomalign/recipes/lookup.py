"""From a name to an objective: the one resolver of the command line, of configuration files and of every adapter."""

from __future__ import annotations

import difflib
import functools
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from geomalign._util.importing import imported, told
from geomalign._util.words import literal, named
from geomalign.objective import BaseObjective
from geomalign.recipes import plugins

__all__ = ["builder", "get", "names", "parameters"]

_ROOMS = tuple(f"geomalign.recipes.{room}" for room in ("rewards.", "preferences.", "distillation"))


@functools.cache
def _recipes() -> dict[str, Callable[..., BaseObjective]]:
    """The functions by name that `geomalign.recipes` imports from the modules above."""
    from geomalign import recipes

    functions = {name: value for name, value in vars(recipes).items() if inspect.isfunction(value)}
    return {name: function for name, function in sorted(functions.items()) if function.__module__.startswith(_ROOMS)}


def names() -> list[str]:
    """The names of the recipes of this library, sorted; `get` knows those of other packages too.

    >>> len(names()), names()[:3]
    (97, ['a2po', 'adpo', 'alpha_po'])
    """
    return list(_recipes())


def get(description: str, /, **hyperparameters: Any) -> BaseObjective:
    """The objective that a text describes.

    Args:
        description: the name of a recipe, of this library or of another package's entry point, or `module:attribute`:
            an objective, or a callable that returns one. Options may follow the name: `"opo mu=2 scaled=false"`.
        hyperparameters: the recipe's own; they win over those in the text. A value may be text, as some configuration
            files hand it over; it is read as the recipe's signature says. A list is read as a tuple.

    Raises:
        ValueError: there is no such recipe, module or attribute; the recipe has no such hyper-parameter, or the value
            is of another type or out of range; what was found is no objective; the user's code raised. The message
            names what there is.

    >>> get("dpo", beta=0.05).optimization
    Logistic(beta=0.05)
    >>> get("opo mu=2 scaled=false") == get("opo", mu="2", scaled="False")
    True
    """
    name, options = named(description, where="the objective")
    options |= {key.replace("-", "_"): value for key, value in hyperparameters.items()}
    found = builder(name)
    if isinstance(found, BaseObjective):
        if options:
            raise ValueError(
                f"{name} is an objective already, so it takes no options; it was given {', '.join(options)}. Name a "
                "function that builds it."
            )
        return found
    options = _typed(name, found, options)
    try:
        built = found(**options)
    except ValueError:
        raise
    except Exception as error:
        said = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise ValueError(f"{name!r} could not be built with {said or 'no options'}: {told(error)}.") from error
    if not isinstance(built, BaseObjective):
        raise ValueError(
            f"{name} returned {type(built).__name__}, not an objective; it must return a geomalign objective."
        )
    return built


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """The parameters of a recipe, with their annotations evaluated.

    >>> list(parameters("ipo")), parameters("ipo")["tau"].annotation
    (['tau', 'normalize'], <class 'float'>)
    """
    found = builder(name)
    return _parameters(found) if not isinstance(found, BaseObjective) else {}


def builder(name: str) -> Callable[..., BaseObjective] | BaseObjective:
    """What a name alone refers to: a recipe's function, or what `module:attribute` is.

    Raises:
        ValueError: there is none of this name, or it is neither an objective nor callable.

    >>> builder("dpo") is builder("geomalign.recipes:dpo")
    True
    """
    if ":" in name:
        found = imported(name)
        if not (isinstance(found, BaseObjective) or callable(found)):
            raise ValueError(
                f"{name} is {type(found).__name__}; it must be a geomalign objective or a callable that returns one."
            )
        return found
    recipe = _recipes().get(name) or plugins.recipe(name)
    if recipe is None:
        there = [*names(), *(other for other in plugins.recipes() if other not in names())]
        near = difflib.get_close_matches(name, there, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"there is no recipe {name!r}.{hint} There are: {', '.join(there)}; or name your own as my_module:my_name."
        )
    return recipe


def _typed(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with texts read as the signature says; a ValueError for those that it does not have."""
    try:
        parameters = _parameters(function)
    except (TypeError, ValueError):  # a callable without a signature takes what it is given
        return {key: _read(name, key, value, None) for key, value in options.items()}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = sorted(set(options) - set(parameters))
    if unknown and not anything:
        takes = ", ".join(map(str, parameters.values())) or "none"
        raise ValueError(
            f"the recipe {name!r} has no hyper-parameter {', '.join(map(repr, unknown))}; it takes: {takes}."
        )
    return {key: _read(name, key, value, _hint(parameters.get(key))) for key, value in options.items()}


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters, with annotations that are text evaluated where they can be."""
    try:
        return inspect.signature(function, eval_str=True).parameters
    except (TypeError, ValueError):
        raise
    except Exception:  # a name in an annotation that does not exist at run time
        return inspect.signature(function).parameters


def _hint(parameter: inspect.Parameter | None) -> Any:
    """The type that is asked for: the annotation, else the type of a default that is true or false; None: unknown."""
    if parameter is None:
        return None
    if parameter.annotation is not parameter.empty:
        return None if isinstance(parameter.annotation, str) else parameter.annotation
    return bool if isinstance(parameter.default, bool) else None


_NAMES: dict[Any, str] = {bool: "true or false", int: "an integer", float: "a number", str: "text", type(None): "none"}


def _read(name: str, key: str, value: Any, hint: Any) -> Any:
    """The value as the hinted type. Without a hint the texts true, false and none become values, and a list a tuple."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if value is None and str in kinds and type(None) not in kinds:
        value = "none"  # the word, as in scale_rewards=none, which the reader of texts took for the absence of a value
    elif isinstance(value, str) and (str not in kinds or (value.lower() in ("none", "null") and type(None) in kinds)):
        value = literal(value)
    kind = next((kind for kind in kinds if _fits(value, kind)), _NAMES)
    if kind is _NAMES:
        wanted = " or ".join(map(_called, kinds))
        value = list(value) if isinstance(value, tuple) else value
        raise ValueError(f"{name}({key}={value!r}): expected {wanted}, got {value!r}.")
    if not isinstance(value, (list, tuple)):
        return value
    args = typing.get_args(kind)
    each = args[:1] * len(value) if len(args) == 1 or args[1:] == (...,) else args or (None,) * len(value)
    items = [_read(name, key, item, of) for item, of in zip(value, each)]
    return items if list in (kind, typing.get_origin(kind)) else tuple(items)


def _called(kind: Any) -> str:
    """A kind in words: `tuple[float, float]` is a list of 2."""
    if (typing.get_origin(kind) or kind) in (tuple, list):
        args = typing.get_args(kind)
        return f"a list of {len(args)}" if len(args) > 1 and args[1] is not ... else "a list"
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind; true where the kind is no class that could be asked."""
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    if typing.get_origin(kind) in (tuple, list):
        args = typing.get_args(kind)
        any_length = typing.get_origin(kind) is list or args[1:] == (...,)
        return isinstance(value, (list, tuple)) and (any_length or len(args) == len(value))
    if kind in (tuple, list):
        return isinstance(value, (list, tuple))
    return not isinstance(kind, type) or kind is Any or isinstance(value, kind)
