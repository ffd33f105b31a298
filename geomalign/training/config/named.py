"""What a configuration names: an objective, or anything in a module of the user's."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomalign.training.config.settings import check

if TYPE_CHECKING:
    from geomalign.objective import BaseObjective


def objective(name: str, **options: Any) -> BaseObjective:
    """The objective that a configuration names.

    Args:
        name: a recipe's name, or `"my_module:my_objective"`: an objective, or a callable that returns one.
        **options: hyper-parameters, handed to the recipe or the callable.

    Raises:
        ValueError: for an unknown recipe, module or attribute, options it does not take, an attribute that is no
        objective, or whatever the module or the callable raises.
    """
    from geomalign import recipes
    from geomalign.objective import BaseObjective
    from geomalign.trust_region import Controlled

    if ":" not in name:
        return recipes.get(name, **options)
    found = imported(name)
    check(
        not isinstance(found, Controlled),
        f"{name} is a Controlled objective, whose memory belongs to one run: name a function that builds it.",
    )
    if isinstance(found, BaseObjective):
        check(
            not options,
            f"{name} is an objective already, so it takes no options; it was given {', '.join(options)}. "
            "Name a function that builds it.",
        )
        return found
    check(
        callable(found),
        f"{name} is a {type(found).__name__}; it must be a geomalign objective or a callable that returns one.",
    )
    try:
        built = found(**options)
    except Exception as error:
        raise ValueError(f"{name} could not be called with {options}: {_told(error)}.") from error
    check(
        isinstance(built, BaseObjective),
        f"{name} returned a {type(built).__name__}; it must return a geomalign objective.",
    )
    assert isinstance(built, BaseObjective)
    return built


def _told(error: Exception) -> str:
    """An error of the user's code, with its place."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"


def imported(name: str) -> Any:
    """What `"module:attribute"` names; modules of the working directory are found too."""
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
    except Exception as error:  # whatever the module does when it is imported
        raise ValueError(f"{name}: module {module!r} could not be imported: {_told(error)}.") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f"{name}: module {module!r} has no {attribute!r}.") from None
    return found
