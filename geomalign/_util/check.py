"""The validators with which constructors and recipes check their arguments; all write messages of one form."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, TypeVar

__all__ = [
    "a",
    "boolean",
    "check",
    "choose",
    "finite",
    "instance",
    "integer",
    "non_negative",
    "number",
    "numbers",
    "one_of",
    "positive",
    "refuse",
    "settle",
    "typed",
    "within",
]

Option = TypeVar("Option")


def check(condition: bool, message: str) -> None:
    """Raise a ValueError with this message unless the condition holds.

    >>> check(2 > 1, "2 must be greater than 1.")
    """
    if not condition:
        raise ValueError(message)


def refuse(owner: object, why: str, /, **values: object) -> NoReturn:
    """Raise the ValueError `Owner(name=value, …): why`, the form of every message of this module.

    Args:
        owner: what was called: a text, or an object that is named by its class.
        why: what was expected, with its range in figures, and the remedy; a whole sentence with its full stop.
        values: the arguments that are refused.

    >>> refuse("ppo", "low must be less than high.", low=1.2, high=0.8)
    Traceback (most recent call last):
    ValueError: ppo(low=1.2, high=0.8): low must be less than high.
    """
    name = owner if isinstance(owner, str) else type(owner).__name__
    raise ValueError(f"{name}({', '.join(f'{key}={value!r}' for key, value in values.items())}): {why}")


def positive(owner: object, what: str = "", /, **values: Any) -> None:
    """Raise a ValueError unless all values are finite numbers greater than 0.

    Args:
        owner: as in `refuse`.
        what: what the numbers are, or the remedy; it ends the message.

    >>> positive("Escort", "the temperature of the target policy", temperature=0)
    Traceback (most recent call last):
    ValueError: Escort(temperature=0): a positive number, the temperature of the target policy.
    """
    _all(owner, lambda x: 0 < x < math.inf, "a positive number", what, values)


def non_negative(owner: object, what: str = "", /, **values: Any) -> None:
    """Raise a ValueError unless all values are finite numbers that are 0 or greater; arguments as in `positive`.

    >>> non_negative("Whitened", epsilon=-1.0)
    Traceback (most recent call last):
    ValueError: Whitened(epsilon=-1.0): a number ≥ 0.
    """
    _all(owner, lambda x: 0 <= x < math.inf, "a number ≥ 0", what, values)


def finite(owner: object, what: str = "", /, **values: Any) -> None:
    """Raise a ValueError unless all values are finite numbers; arguments as in `positive`.

    >>> finite("Pair", margin=float("nan"))
    Traceback (most recent call last):
    ValueError: Pair(margin=nan): a finite number.
    """
    _all(owner, lambda x: -math.inf < x < math.inf, "a finite number", what, values)


def number(owner: object, what: str = "", /, **values: Any) -> None:
    """Raise a ValueError unless all values are numbers, infinities included; arguments as in `positive`.

    >>> number("Clip", low="x")
    Traceback (most recent call last):
    ValueError: Clip(low='x'): a number.
    """
    _all(owner, lambda x: x <= math.inf, "a number", what, values)


def numbers(owner: object, what: str = "", /, **values: Any) -> None:
    """Raise a ValueError unless every value is a tuple or list of two numbers; arguments as in `positive`.

    >>> numbers("TaperedImportance", "the bounds of a ratio", positive=None)
    Traceback (most recent call last):
    ValueError: TaperedImportance(positive=None): two numbers, the bounds of a ratio.
    """

    def two(x: Any) -> bool:
        return isinstance(x, (tuple, list)) and len(x) == 2 and all(part <= math.inf for part in x)

    _all(owner, two, "two numbers", what, values)


def boolean(owner: object, /, **values: Any) -> None:
    """Raise a ValueError unless all values are True or False: a text, even "false", would act as True.

    >>> boolean("Escort", scaled="false")
    Traceback (most recent call last):
    ValueError: Escort(scaled='false'): True or False.
    """
    _all(owner, lambda x: isinstance(x, bool), "True or False", "", values)


def integer(owner: object, low: int = 1, what: str = "", /, **values: Any) -> None:
    """Raise a ValueError unless all values are integers of at least `low`; other arguments as in `positive`.

    >>> integer("PassAtK", 1, "a number of responses", k=0)
    Traceback (most recent call last):
    ValueError: PassAtK(k=0): an integer ≥ 1, a number of responses.
    """
    _all(owner, lambda x: not isinstance(x, bool) and operator.index(x) >= low, f"an integer ≥ {low}", what, values)


def within(owner: object, low: float, high: float, what: str = "", /, *, ends: str = "[]", **values: Any) -> None:
    """Raise a ValueError unless all values lie between two bounds.

    Args:
        owner: as in `refuse`.
        low: the lower bound.
        high: the upper bound.
        what: what the numbers are, or the remedy; it ends the message.
        ends: "[]" if both bounds are allowed, "()" if neither is, "(]" and "[)" if one is.

    >>> within("dpo", 0, 0.5, "the probability that a label is wrong", ends="[)", label_smoothing=0.5)
    Traceback (most recent call last):
    ValueError: dpo(label_smoothing=0.5): a number in [0, 0.5), the probability that a label is wrong.
    """

    def inside(x: Any) -> bool:
        # By order, as a number that prints as a symbol equals no plain number.
        return (low < x or (ends[0] == "[" and low <= x)) and (x < high or (ends[1] == "]" and x <= high))

    interval = f"{ends[0]}{low:g}, {high:g}{ends[1]}".replace("inf", "∞")
    _all(owner, inside, f"a number in {interval}", what, values)


def one_of(owner: object, name: str, value: object, options: Iterable[object]) -> None:
    """Raise a ValueError that names all options unless the value is one of them.

    >>> one_of("MaxAtK", "scale", "batch", ("none", "group"))
    Traceback (most recent call last):
    ValueError: MaxAtK(scale='batch'): choose one of 'none', 'group'.
    """
    known = list(options)
    if value not in known:
        refuse(owner, f"choose one of {', '.join(map(repr, known))}.", **{name: value})


def choose(owner: object, name: str, value: str, options: Mapping[str, Option]) -> Option:
    """The option called `value`, or a ValueError that names all options.

    >>> choose("simpo", "normalize", "mean", {"mean": 1, "sum": 2})
    1
    """
    one_of(owner, name, value, options)
    return options[value]


def instance(owner: object, name: str, value: object, kind: type, example: str) -> None:
    """Raise a ValueError unless the value is an instance of `kind`, of which `example` is one as text.

    >>> instance("Pair", "of", "sequence", dict, "dict(a=1)")
    Traceback (most recent call last):
    ValueError: Pair(of='sequence'): expected a dict instance such as dict(a=1).
    """
    if not isinstance(value, kind):
        refuse(owner, f"expected {a(kind.__name__)} instance such as {example}.", **{name: value})


def typed(owner: str, name: str, value: object, kind: type | tuple[type, ...], remedy: str) -> None:
    """Raise a TypeError unless the value is of such a type; for values too large to be shown, which `instance` shows.

    Args:
        owner: the function that was called.
        name: of its argument.
        value: of the argument.
        kind: the type, or several of which one will do.
        remedy: what to pass instead; a whole sentence with its full stop.

    >>> typed("metrics", "outcome", 0.5, dict, "Pass what an objective returns.")
    Traceback (most recent call last):
    TypeError: `outcome` of metrics is float, not a dict. Pass what an objective returns.
    """
    if not isinstance(value, kind):
        kinds = " or ".join(a(one.__name__) for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise TypeError(f"`{name}` of {owner} is {type(value).__name__}, not {kinds}. {remedy}")


def a(word: str) -> str:
    """The word behind its indefinite article.

    >>> a("OptimizationGeometry"), a("Unit"), a("Chart")
    ('an OptimizationGeometry', 'a Unit', 'a Chart')
    """
    return f"an {word}" if word[0] in "AEIOaeio" else f"a {word}"


def settle(config: Any, **values: Any) -> None:
    """Give a frozen configuration the values that were left open, in its `__post_init__`.

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class Sizes:
    ...     hidden: int = 4
    ...     inner: int | None = None
    ...     def __post_init__(self):
    ...         settle(self, inner=4 * self.hidden)
    >>> Sizes().inner
    16
    """
    for name, value in values.items():
        object.__setattr__(config, name, value)


def _all(owner: object, test: Any, expected: str, what: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        try:
            passes = bool(test(value))
        # A text or None has no order, a float is no integer, and several numbers in a tensor or an array are not one.
        except (TypeError, ValueError, RuntimeError):
            passes = False
        if not passes:
            refuse(owner, f"{expected}{', ' if what else ''}{what}.", **{name: value})
