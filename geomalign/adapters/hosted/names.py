"""The objective that a host's configuration names, and the line of text that names it."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geomalign import recipes
from geomalign._util.words import spelled
from geomalign.objective import BaseObjective

__all__ = ["hashable", "in_one_line", "objective_of"]


def objective_of(objective: BaseObjective | str, hyperparameters: Iterable[tuple[str, Any]] = ()) -> BaseObjective:
    """An objective as it is, or the one that a text describes, kept for the next call: a host asks at every step.

    Args:
        objective: it; or a recipe or `module:attribute`, with options behind it.
        hyperparameters: further options of a text.

    Raises:
        ValueError: as `recipes.get`.

    >>> objective_of("opo alpha=0.5 mu=2").sampling
    Escort(alpha=0.5, temperature=1.0, scaled=False, inverse_probability=False)
    """
    if not isinstance(objective, str):
        return objective
    # 1, 1.0 and True are one key to a dictionary and three values of an option, and a list is no key at all.
    return _kept(objective, tuple((key, hashable(value), repr(value)) for key, value in sorted(hyperparameters)))


@functools.lru_cache(maxsize=64)
def _kept(description: str, hyperparameters: tuple[tuple[str, Any, str], ...]) -> BaseObjective:
    return recipes.get(description, **{key: value for key, value, _ in hyperparameters})


def hashable(value: Any) -> Any:
    """Lists of a configuration as tuples, which is how `recipes.get` reads them too.

    >>> hashable([2, [3, 4]])
    (2, (3, 4))
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(hashable(item) for item in value)
    return value


def in_one_line(name: str, hyperparameters: Mapping[str, Any]) -> str:
    """A name and its hyper-parameters as the one line that `objective_of` reads.

    >>> in_one_line("opo", {"alpha": 0.4, "normalize": "mean"})
    'opo alpha=0.4 normalize=mean'
    """
    return " ".join([name, *(shlex.quote(f"{key}={spelled(value)}") for key, value in hyperparameters.items())])
