"""A controller from its description in one line."""

from __future__ import annotations

from typing import Any

from geomalign._util.check import check
from geomalign._util.words import literal
from geomalign.control.adaptive import AdaptiveStiffness
from geomalign.control.base import Controller
from geomalign.control.schedule import Annealed, Geometric
from geomalign.divergences import Divergence, KullbackLeibler, PearsonChiSquare

__all__ = ["controller_of"]

_DIVERGENCES: dict[str, Divergence] = {"kl": KullbackLeibler(), "chi2": PearsonChiSquare()}
_OPTIONS = dict.fromkeys(_DIVERGENCES, ("rate", "initial", "low", "high")) | {"anneal": ("rollouts",)}


def controller_of(description: str) -> Controller:
    """The controller that a text describes, for the command line and configuration files.

    Args:
        description: `"kl=0.02"` or `"chi2=0.05"`, an `AdaptiveStiffness` of that target, with `rate`, `initial`, `low`
            and `high` as further words; or `"anneal=1:10 rollouts=100"`, an `Annealed` of the geometric schedule from 1
            to 10.

    Raises:
        ValueError: a word is not key=value, a key is unknown, or a value is out of its range.

    >>> controller_of("kl=0.02 initial=2")
    AdaptiveStiffness(0.02, KullbackLeibler(), rate=0.2, initial=2, low=0.0001, high=10000.0)
    >>> controller_of("anneal=1:10 rollouts=100")
    Annealed(Geometric(start=1.0, stop=10.0), 100)
    """
    form = '"kl=0.02", "chi2=0.05 rate=0.1" or "anneal=1:10 rollouts=100"'
    at = f"control {description!r}: "
    given: dict[str, Any] = {}
    for word in description.split():
        key, equals, value = word.partition("=")
        check(bool(equals), f"{at}{word!r} is not key=value; write {form}.")
        given[key] = literal(value)
    kinds = [key for key in _OPTIONS if key in given]
    check(bool(given), f"{at}there is no word; write {form}.")
    check(bool(kinds), f"{at}{next(iter(given), '')!r} is no controller; there are kl, chi2 and anneal, as in {form}.")
    check(len(kinds) == 1, f"{at}{' and '.join(kinds)} are {len(kinds)} controllers, and a run has one; write {form}.")
    kind, options = kinds[0], _OPTIONS[kinds[0]]
    value = given.pop(kind)
    unknown = [key for key in given if key not in options]
    check(not unknown, f"{at}{', '.join(map(repr, unknown))} is no option of {kind}, which takes {', '.join(options)}.")
    try:
        if kind != "anneal":
            return AdaptiveStiffness(value, _DIVERGENCES[kind], **given)
        start, stop = _ends(str(value))
        check("rollouts" in given, f"anneal={value}: over how many rollouts, as in anneal={value} rollouts=100.")
        return Annealed(Geometric(start, stop), **given)
    except ValueError as error:
        raise ValueError(f"{at}{error}") from None


def _ends(text: str) -> tuple[float, float]:
    try:
        start, stop = map(float, text.split(":"))
    except ValueError:
        raise ValueError(f"anneal={text}: a start and an end, as in anneal=1:10.") from None
    return start, stop
