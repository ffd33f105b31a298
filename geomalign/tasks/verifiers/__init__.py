"""Verifiers, which give a response its reward, by name."""

from __future__ import annotations

import functools
from typing import Any

from geomalign._util.importing import imported
from geomalign.tasks.verifiers.base import Exact, FromFunction, MultipleChoice, Verifier
from geomalign.tasks.verifiers.instructions import Instructions
from geomalign.tasks.verifiers.mathematics import MathVerify
from geomalign.tasks.verifiers.programs import UnitTests


def verifier(name: str, **options: Any) -> Verifier:
    """The verifier of a name.

    Args:
        name: `exact`, `choice`, `math-verify`, `code`, `instructions`, or `my_module:my_verifier`: a function of a
            response and its `Problem`, or a `Verifier` class.
        **options: keyword arguments of the verifier.

    Raises:
        ValueError: there is no such verifier, it does not take the options, or it cannot work on this machine.

    >>> verifier("exact", after="####")
    Exact(after='####', case=False)
    """
    if ":" in name:
        found = imported(name)
        kind = found if isinstance(found, type) else None
        if kind is None and not callable(found):
            raise ValueError(f"verifier {name} is a {type(found).__name__}; it must be a function or a class.")
    else:
        found = kind = _known(name)
    try:
        made = functools.partial(found, **options) if kind is None else kind(**options)
    except TypeError as error:
        raise ValueError(f"verifier {name!r} could not be built with {options}: {error}") from error
    return made if isinstance(made, Verifier) else FromFunction(made)


def _known(name: str) -> type[Verifier]:
    known: dict[str, type[Verifier]] = {
        "exact": Exact,
        "choice": MultipleChoice,
        "math-verify": MathVerify,
        "code": UnitTests,
        "instructions": Instructions,
    }
    if name not in known:
        raise ValueError(f"there is no verifier {name!r}; there are {', '.join(known)}, and my_module:my_verifier.")
    return known[name]
