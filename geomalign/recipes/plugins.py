"""Recipes of other packages, found by their entry points.

A package offers them in its pyproject.toml:

```toml
[project.entry-points."geomalign.recipes"]
my_method = "my_package.objectives:my_method"       # a function that returns an objective: ga.recipes.get("my_method")
```

One that cannot be loaded is reported, once as a warning and always in `report()`, and everything else goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import warnings
from typing import Any

__all__ = ["BrokenPluginWarning", "Plugin", "found", "recipe", "recipes", "report"]

_GROUP = "geomalign.recipes"


class BrokenPluginWarning(UserWarning):
    """An entry point of another package could not be loaded.

    >>> issubclass(BrokenPluginWarning, UserWarning)
    True
    """


@dataclasses.dataclass(frozen=True)
class Plugin:
    """One entry point of the group `geomalign.recipes`.

    Args:
        name: what it is called here.
        target: where it lives, `module:name`.
        distribution: the package that offers it, with its version.
        value: what was loaded; None if that failed.
        error: why it failed; empty if it did not.

    >>> Plugin("gentle", "other_package:gentle", "other-package 1.2").error
    ''
    """

    name: str
    target: str
    distribution: str
    value: Any = None
    error: str = ""


@functools.cache
def found() -> tuple[Plugin, ...]:
    """Every entry point of the group, loaded, in the order of names; searched once per process.

    Warns:
        BrokenPluginWarning: one fails to load, is not callable or takes another's name.

    >>> [plugin.name for plugin in found() if plugin.name == "no_such_method"]
    []
    """
    plugins: dict[str, Plugin] = {}
    points = importlib.metadata.entry_points(group=_GROUP)
    for point in sorted(points, key=lambda point: (point.name, point.value)):
        plugin = _load(point)
        taken = plugins.get(point.name)
        if taken is not None:
            error = f"the name is taken by {taken.target} of {taken.distribution}"
            plugin = dataclasses.replace(plugin, value=None, error=error)
        plugins[point.name if taken is None else point.value] = plugin
    for plugin in plugins.values():
        if plugin.error:
            warnings.warn(_describe(plugin), BrokenPluginWarning, stacklevel=3)
    return tuple(plugins.values())


def recipe(name: str) -> Any:
    """Another package's recipe of this name, or None.

    Raises:
        ValueError: there is one, but it could not be loaded.

    >>> recipe("no_such_method") is None
    True
    """
    for plugin in found():
        if plugin.name == name:
            if plugin.error:
                where = f"{name!r} of {plugin.distribution}"
                raise ValueError(f"the recipe {where} could not be loaded: {plugin.error} (it is {plugin.target}).")
            return plugin.value
    return None


def recipes() -> dict[str, Any]:
    """The recipes of other packages that could be loaded: name → function.

    >>> "no_such_method" in recipes()
    False
    """
    return {plugin.name: plugin.value for plugin in found() if not plugin.error}


def report() -> str:
    """What was found and what is broken, one line each.

    >>> "geomalign.recipes" in report() or "recipe" in report()
    True
    """
    lines = [_describe(plugin) for plugin in found()]
    return "\n".join(lines) if lines else f"no package offers entry points of the group {_GROUP}"


def _load(point: importlib.metadata.EntryPoint) -> Plugin:
    dist = point.dist
    plugin = Plugin(point.name, point.value, f"{dist.name} {dist.version}" if dist else "an unknown package")
    try:
        value = point.load()
    except Exception as error:  # no exception of another package may stop this one
        return dataclasses.replace(plugin, error=f"{type(error).__name__}: {error}")
    if not callable(value):
        return dataclasses.replace(plugin, error=f"it is {type(value).__name__}, not a function")
    return dataclasses.replace(plugin, value=value)


def _describe(plugin: Plugin) -> str:
    where = f"recipe {plugin.name!r} = {plugin.target} of {plugin.distribution}"
    return f"broken {where}: {plugin.error}" if plugin.error else where
