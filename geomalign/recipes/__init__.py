"""Published objectives as choices of slots. Each recipe is a function of a few lines; none has loss code of its own."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from geomalign import plugins
from geomalign.objective import BaseObjective
from geomalign.recipes import (
    advantages,
    core_references,
    distillation,
    importance,
    margins,
    policy,
    preference,
    regression,
    sides,
    solved,
    surrogates,
)
from geomalign.recipes.advantages import (
    awr,
    best_of_k,
    gpg,
    optimal_baseline,
    pass_at_k,
    raft,
    reinforce_plus_plus,
    remax,
    w_gopo,
)
from geomalign.recipes.distillation import generalized_jsd
from geomalign.recipes.importance import cispo, dppo, topr, vespo
from geomalign.recipes.margins import (
    aot,
    aot_unpaired,
    cdpo,
    discopop,
    dpo_norm,
    exo,
    f_dpo,
    gpo_exponential,
    gpo_savage,
    gpo_truncated_quadratic,
    robust_dpo,
    wpo,
)
from geomalign.recipes.policy import dapo, dr_grpo, gopo, grpo, gspo, mirror_descent, opo, ppo, reinforce, rloo
from geomalign.recipes.preference import chi_po, dpo, ipo, simpo, slic
from geomalign.recipes.reference import HOMONYMS, REFERENCES, Reference, published
from geomalign.recipes.regression import a2po, dro, rebel, rpo
from geomalign.recipes.sides import alpha_po, apo_down, apo_zero, bco, cpo, kto, nca, orpo, sppo
from geomalign.recipes.solved import opo_annealed, opo_ess, opo_held, opo_trust_region
from geomalign.recipes.surrogates import bnpo, cfpo, gmpo, luspo, sapo

_MODULES = (advantages, distillation, importance, margins, policy, preference, regression, sides, solved, surrogates)
_CATALOGUE: dict[str, Callable[..., BaseObjective]] = {
    name: getattr(module, name) for module in _MODULES for name in module.__all__
}

__all__ = [
    "a2po",
    "alpha_po",
    "aot",
    "aot_unpaired",
    "apo_down",
    "apo_zero",
    "awr",
    "bco",
    "best_of_k",
    "bnpo",
    "cdpo",
    "cfpo",
    "chi_po",
    "cispo",
    "cpo",
    "dapo",
    "discopop",
    "dpo",
    "dpo_norm",
    "dppo",
    "dr_grpo",
    "dro",
    "exo",
    "f_dpo",
    "generalized_jsd",
    "gmpo",
    "gopo",
    "gpg",
    "gpo_exponential",
    "gpo_savage",
    "gpo_truncated_quadratic",
    "grpo",
    "gspo",
    "ipo",
    "kto",
    "luspo",
    "mirror_descent",
    "nca",
    "opo",
    "opo_annealed",
    "opo_ess",
    "opo_held",
    "opo_trust_region",
    "optimal_baseline",
    "orpo",
    "pass_at_k",
    "ppo",
    "raft",
    "rebel",
    "reinforce",
    "reinforce_plus_plus",
    "remax",
    "rloo",
    "robust_dpo",
    "rpo",
    "sapo",
    "simpo",
    "slic",
    "sppo",
    "topr",
    "vespo",
    "w_gopo",
    "wpo",
]


def get(name: str, **hyperparameters: Any) -> BaseObjective:
    """The recipe called `name`, for configuration files.

    Args:
        name: one of `names()`, or of another package's recipes (`geomalign.plugins`).
        hyperparameters: the recipe's own.

    Raises:
        ValueError: no recipe of this name, or it has no such hyper-parameter; the message names those there are. Or
            a hyper-parameter is of another type. Or another package's recipe could not be loaded.

    >>> get("dpo", beta=0.05).optimization
    Logistic(beta=0.05)
    """
    recipe = _CATALOGUE.get(name) or plugins.recipe(name)
    if recipe is None:
        near = difflib.get_close_matches(name, _CATALOGUE, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no recipe {name!r}.{hint} There are: {', '.join(names())}.")
    accepted = inspect.signature(recipe).parameters
    unknown = sorted(set(hyperparameters) - set(accepted))
    if unknown:
        takes = ", ".join(str(p) for p in accepted.values()) or "none"
        raise ValueError(
            f"the recipe {name!r} has no hyper-parameter {', '.join(map(repr, unknown))}; it takes: {takes}."
        )
    try:
        objective = recipe(**hyperparameters)
    except TypeError as error:
        said = ", ".join(f"{key}={value!r}" for key, value in hyperparameters.items())
        raise ValueError(
            f"the recipe {name!r} could not be built with {said}: {error}. Is each of the type it takes: "
            f"{', '.join(map(str, accepted.values()))}?"
        ) from error
    if not isinstance(objective, BaseObjective):
        raise ValueError(
            f"the recipe {name!r} of another package returned {type(objective).__name__}, not an objective."
        )
    return objective


def names() -> list[str]:
    """The names of the recipes here; `get` knows those of other packages too."""
    return sorted(_CATALOGUE)
