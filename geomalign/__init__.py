"""geomalign: LLM alignment objectives as geometry.

L(θ) = E_measure[ potential(u, drive) − drive · u ]: a sampling geometry makes the drive, an optimization geometry the
potential, and every published objective is a choice of the two, of a unit, a chart and a measure.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geomalign.api import *

__version__ = "0.1.0"

# The public names are listed in geomalign/api.py. They are loaded, and torch with them, when one of them is used,
# so that `geomalign --help` answers at once. Where a function has the name of its module, the name is the function's.
_FUNCTIONS = ("metrics", "identify")


def _load() -> dict[str, Any]:
    public = {name: value for name, value in vars(importlib.import_module("geomalign.api")).items() if name[0] != "_"}
    globals().update(public)
    return public


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_load())
    if not name.startswith("_"):
        if name not in _FUNCTIONS and importlib.util.find_spec(f"geomalign.{name}"):
            return importlib.import_module(f"geomalign.{name}")
        public = _load()
        if name in public:
            return public[name]
    raise AttributeError(f"module 'geomalign' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *vars(importlib.import_module("geomalign.api"))})


class _Package(types.ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _FUNCTIONS and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
