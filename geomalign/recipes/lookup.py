"""From a name to an objective: the one resolver of the command line, of configuration files and of every adapter."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from geomalign._util.importing import imported, told
from geomalign._util.words import literal, named
from geomalign.objective import BaseObjective
from geomalign.recipes import distillation, plugins
from geomalign.recipes.preferences import dpo, likelihood, links, transport, unpaired
from geomalign.recipes.preferences import regression as margins
from geomalign.recipes.rewards import importance, opo, ppo, regression, reinforce

__all__ = ["builder", "get", "names"]

_MODULES = (
    reinforce,
    ppo,
    importance,
    opo,
    regression,
    dpo,
    links,
    margins,
    likelihood,
    unpaired,
    transport,
    distillation,
)
_RECIPES: dict[str, Callable[..., BaseObjective]] = {
    name: getattr(module, name) for module in _MODULES for name in module.__all__
}


def names() -> list[str]:
    """The names of the recipes of this library, sorted; `get` knows those of other packages too."""
    return sorted(_RECIPES)


def get(description: str, /, **hyperparameters: Any) -> BaseObjective:
    """The objective that a text describes.

    Args:
        description: the name of a recipe, of this library or of another package's entry point, or `module:attribute`:
            an objective, or a callable that returns one. Options may follow the name: `"opo mu=2 scaled=false"`.
        hyperparameters: the recipe's own; they win over those in the text. Numbers and truth values may be text, as
            configuration files hand them over; they are read as the recipe's signature says.

    Raises:
        ValueError: there is no such recipe, module or attribute; the recipe has no such hyper-parameter, or the value
            is of another type or out of range; what was found is no objective; the user's code raised. The message
            names what there is.

    >>> get("dpo", beta=0.05).optimization
    Logistic(beta=0.05)
    >>> get("opo mu=2 scaled=false").sampling.scaled
    False
    """
    name, options = named(description, where="the objective")
    options |= hyperparameters
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
        if ":" not in name:
            raise
        raise
    except Exception as error:
        said = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise ValueError(f"{name!r} could not be built with {said or 'no options'}: {told(error)}.") from error
    if not isinstance(built, BaseObjective):
        raise ValueError(
            f"{name} returned {type(built).__name__}, not an objective; it must return a geomalign objective."
        )
    return built


def builder(name: str) -> Callable[..., BaseObjective] | BaseObjective:
    """What stands behind a name alone: a recipe's function, or what `module:attribute` is.

    Raises:
        ValueError: there is none of this name, or it is neither an objective nor callable.
    """
    if ":" in name:
        found = imported(name)
        if not (isinstance(found, BaseObjective) or callable(found)):
            raise ValueError(
                f"{name} is {type(found).__name__}; it must be a geomalign objective or a callable that returns one."
            )
        return found
    recipe = _RECIPES.get(name) or plugins.recipe(name)
    if recipe is None:
        near = difflib.get_close_matches(name, _RECIPES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"there is no recipe {name!r}.{hint} There are: {', '.join(names())}; or name your own as "
            "my_module:my_name."
        )
    return recipe


def _typed(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with texts read as the signature says; a ValueError for those that it does not have."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a callable without a signature takes what it is given
        return dict(options)
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = sorted(set(options) - set(parameters))
    if unknown and not anything:
        takes = ", ".join(str(p) for p in parameters.values()) or "none"
        raise ValueError(
            f"the recipe {name!r} has no hyper-parameter {', '.join(map(repr, unknown))}; it takes: {takes}."
        )
    hints = _hints(function)
    return {key: _read(name, key, value, hints.get(key)) for key, value in options.items()}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations that do not resolve say nothing
        return {}


def _read(name: str, key: str, value: Any, hint: Any) -> Any:
    """A value as the hint wants it. Where nothing is known, true, false and none are never text."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if isinstance(value, str) and (str not in kinds or value.lower() in ("none", "null")):
        value = literal(value)
    plain = {bool, int, float, str, type(None)}
    if hint is None or not set(kinds) <= plain:
        return value
    right = (
        (value is None and type(None) in kinds)
        or (isinstance(value, bool) and bool in kinds)
        or (isinstance(value, (int, float)) and not isinstance(value, bool) and float in kinds)
        or (isinstance(value, int) and not isinstance(value, bool) and int in kinds)
        or (isinstance(value, str) and str in kinds)
    )
    if not right:
        wanted = " or ".join("none" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ValueError(f"{name}({key}={value!r}): expected {wanted}, got {type(value).__name__}.")
    return value
