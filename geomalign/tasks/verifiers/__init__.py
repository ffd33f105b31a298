"""Verifiers, which give a response its reward, by name."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from geomalign._util.importing import imported
from geomalign.tasks.verifiers.base import Exact, FromFunction, Verifier
from geomalign.tasks.verifiers.choice import MultipleChoice
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
        if dataclasses.is_dataclass(kind) and issubclass(kind, Verifier):
            _fits(kind, options)
        made = functools.partial(found, **options) if kind is None else kind(**options)
        signature = _signature(found if kind is None else made)
        if signature is not None:
            signature.bind("response", "problem", **(options if kind is None else {}))
    except TypeError as error:
        raise ValueError(
            f"verifier {name!r} could not be built with {options}: {error}. A verifier takes a response and its "
            "Problem, and the options by their names."
        ) from error
    return made if isinstance(made, Verifier) else FromFunction(made)


def _signature(called: Any) -> inspect.Signature | None:
    """The arguments of a verifier; None of what Python cannot look into, such as functions in C."""
    if not callable(called):
        raise TypeError(f"a {type(called).__name__} cannot be called")
    try:
        return inspect.signature(called)
    except ValueError:
        return None


def _fits(kind: Any, options: Mapping[str, Any]) -> None:
    """Refuse options of another type than a dataclass declares: the text "false" would count as true."""
    types = get_type_hints(kind)
    for option, value in options.items():
        wanted = get_args(types.get(option)) or (types.get(option),)
        if option in types and not (type(value) in wanted or (float in wanted and type(value) is int)):
            names = " or ".join(getattr(one, "__name__", str(one)) for one in wanted)
            raise TypeError(f"{option}={value!r} is of the type {type(value).__name__}; {names} is expected")


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
