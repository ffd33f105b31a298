"""Recipes and geometries of other packages, found by their entry points.

A package offers them in its pyproject.toml:

```toml
[project.entry-points."geomalign.recipes"]
my_method = "my_package.objectives:my_method"       # a function that returns an objective: ga.recipes.get("my_method")

[project.entry-points."geomalign.geometries"]
Quartic = "my_package.geometries:Quartic"           # a class that fills a slot: ga.plugins.geometries()["Quartic"]
```

One that cannot be loaded is reported, once as a warning and always in `report()`, and everything else goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import warnings
from typing import Any

__all__ = ["BrokenPluginWarning", "Plugin", "found", "geometries", "recipe", "recipes", "report"]

_GROUPS = {"recipe": "geomalign.recipes", "geometry": "geomalign.geometries"}


class BrokenPluginWarning(UserWarning):
    """An entry point of another package could not be loaded."""


@dataclasses.dataclass(frozen=True)
class Plugin:
    """One entry point.

    Args:
        kind: "recipe" or "geometry".
        name: what it is called here.
        target: where it lives, `module:name`.
        distribution: the package that offers it, with its version.
        value: what was loaded; None if that failed.
        error: why it failed; empty if it did not.
    """

    kind: str
    name: str
    target: str
    distribution: str
    value: Any = None
    error: str = ""


@functools.cache
def found() -> tuple[Plugin, ...]:
    """Every entry point of the two groups, loaded, in the order of names; searched once a process.

    Warns:
        BrokenPluginWarning: one that fails to load, is not callable or takes another's name.
    """
    plugins: dict[tuple[str, str], Plugin] = {}
    for kind, group in _GROUPS.items():
        points = importlib.metadata.entry_points(group=group)
        for point in sorted(points, key=lambda point: (point.name, point.value)):
            plugin = _load(kind, point)
            taken = plugins.get((kind, point.name))
            if taken is not None:
                error = f"the name is taken by {taken.target} of {taken.distribution}"
                plugin = dataclasses.replace(plugin, value=None, error=error)
            plugins[kind, point.name if taken is None else point.value] = plugin
    for plugin in plugins.values():
        if plugin.error:
            warnings.warn(_describe(plugin), BrokenPluginWarning, stacklevel=3)
    return tuple(plugins.values())


def recipe(name: str) -> Any:
    """Another package's recipe of this name, or None.

    Raises:
        ValueError: there is one, but it could not be loaded.
    """
    for plugin in found():
        if (plugin.kind, plugin.name) == ("recipe", name):
            if plugin.error:
                where = f"{name!r} of {plugin.distribution}"
                raise ValueError(f"the recipe {where} could not be loaded: {plugin.error} (it is {plugin.target}).")
            return plugin.value
    return None


def recipes() -> dict[str, Any]:
    """The recipes of other packages that could be loaded: name → function."""
    return _working("recipe")


def geometries() -> dict[str, Any]:
    """The geometries of other packages that could be loaded: name → class."""
    return _working("geometry")


def report() -> str:
    """What was found and what is broken, a line each."""
    lines = [_describe(plugin) for plugin in found()]
    groups = " and ".join(_GROUPS.values())
    return "\n".join(lines) if lines else f"no package offers entry points of the groups {groups}"


def _working(kind: str) -> dict[str, Any]:
    return {plugin.name: plugin.value for plugin in found() if plugin.kind == kind and not plugin.error}


def _load(kind: str, point: importlib.metadata.EntryPoint) -> Plugin:
    dist = point.dist
    plugin = Plugin(kind, point.name, point.value, f"{dist.name} {dist.version}" if dist else "an unknown package")
    try:
        value = point.load()
    except Exception as error:  # whatever another package raises must not stop ours
        return dataclasses.replace(plugin, error=f"{type(error).__name__}: {error}")
    if not callable(value):
        return dataclasses.replace(plugin, error=f"it is {type(value).__name__}, not a function or class")
    return dataclasses.replace(plugin, value=value)


def _describe(plugin: Plugin) -> str:
    where = f"{plugin.kind} {plugin.name!r} = {plugin.target} of {plugin.distribution}"
    return f"broken {where}: {plugin.error}" if plugin.error else where
