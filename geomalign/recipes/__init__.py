"""Published objectives as choices of slots. Each recipe is a function of a few lines; none has loss code of its own."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from geomalign.objective import BaseObjective
from geomalign.recipes import policy, preference, solved
from geomalign.recipes.policy import dapo, dr_grpo, gopo, grpo, gspo, mirror_descent, opo, ppo, reinforce, rloo
from geomalign.recipes.preference import chi_po, dpo, ipo, simpo, slic
from geomalign.recipes.solved import opo_annealed, opo_ess, opo_held, opo_trust_region

_MODULES = (policy, preference, solved)
_CATALOGUE: dict[str, Callable[..., BaseObjective]] = {
    name: getattr(module, name) for module in _MODULES for name in module.__all__
}

__all__ = [
    "chi_po",
    "dapo",
    "dpo",
    "dr_grpo",
    "gopo",
    "grpo",
    "gspo",
    "ipo",
    "mirror_descent",
    "opo",
    "opo_annealed",
    "opo_ess",
    "opo_held",
    "opo_trust_region",
    "ppo",
    "reinforce",
    "rloo",
    "simpo",
    "slic",
]


def get(name: str, **hyperparameters: Any) -> BaseObjective:
    """The recipe called `name`, for configuration files.

    Args:
        name: one of `names()`.
        hyperparameters: the recipe's own.

    Raises:
        ValueError: no recipe of this name, or it has no such hyper-parameter; the message names those there are.

    >>> get("dpo", beta=0.05).optimization
    Logistic(beta=0.05)
    """
    if name not in _CATALOGUE:
        near = difflib.get_close_matches(name, _CATALOGUE, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no recipe {name!r}.{hint} There are: {', '.join(names())}.")
    recipe = _CATALOGUE[name]
    accepted = inspect.signature(recipe).parameters
    unknown = sorted(set(hyperparameters) - set(accepted))
    if unknown:
        takes = ", ".join(str(p) for p in accepted.values()) or "none"
        raise ValueError(
            f"the recipe {name!r} has no hyper-parameter {', '.join(map(repr, unknown))}; it takes: {takes}."
        )
    return recipe(**hyperparameters)


def names() -> list[str]:
    """The names that `get` knows."""
    return sorted(_CATALOGUE)
