"""Laws: how one is stated, on which cases it is tried, and how the smallest case that breaks it is found."""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

EXAMPLES = 10
"""Cases that Hypothesis draws for a law, besides the fixed ones."""

_SEARCHED = 500
"""Cases that are drawn to find the smallest that breaks a law once a fixed case has broken it."""


class LawViolation(AssertionError):
    """A member breaks a law of its slot. The message names the member, the law, the smallest case found, the numbers
    seen there, and a remedy.

    >>> import geomalign as ga
    >>> class Wrong(ga.ChiSquare):
    ...     def mirror(self, u, drive=None):
    ...         return 2 * u
    >>> try:
    ...     ga.laws.check_geometry(Wrong(1.0))
    ... except ga.laws.LawViolation as violation:
    ...     print(str(violation).splitlines()[-1])
    Smallest case: u = [0.0031], drive = [0.0031].
    """


class Cases(NamedTuple):
    """What a law is tried on: `fixed` gives the cases that every member meets, `drawn` a Hypothesis strategy."""

    fixed: Callable[[Any], Sequence[Any]]
    drawn: Callable[[Any], Any] | None = None


class Law:
    """A law of a slot: called with a member, it raises `LawViolation` if the member breaks it.

    It is tried on its fixed cases and on `examples` cases that Hypothesis draws, the same ones every time. The case
    that is reported is the smallest that Hypothesis finds.

    >>> import geomalign as ga
    >>> law = ga.laws.LAWS["optimization"][1]
    >>> law
    energy_is_potential_less_work
    >>> law(ga.ChiSquare(2.0), examples=3)
    """

    __name__: str

    def __init__(self, stated: Callable[[Any, Any], None], cases: Cases):
        functools.update_wrapper(self, stated)
        self.stated, self.cases = stated, cases

    def __repr__(self) -> str:
        return self.__name__

    def __call__(self, member: Any, examples: int = EXAMPLES) -> None:
        for case in self.cases.fixed(member):
            try:
                self.stated(member, case)
            except Exception as error:
                smaller = self._smallest(member, _SEARCHED)
                self._refuse(member, *(smaller or (case, error)))
        broken = self._smallest(member, examples)
        if broken:
            self._refuse(member, *broken)

    def _refuse(self, member: Any, case: Any, error: Exception) -> None:
        seen = str(error) if isinstance(error, LawViolation) else f"{type(error).__name__} was raised: {error}"
        name = re.sub(r"<[^ ]*?(\w+) object at 0x[0-9a-f]+>", r"\1", repr(member))  # of what is no dataclass
        name = name if len(name) <= 300 else f"{name[:297]}…"
        label = "Case" if self.cases.drawn is None else "Smallest case"
        raise LawViolation(f"{name} breaks the law {self.__name__}: {seen}\n{label}: {case}.") from error

    def _smallest(self, member: Any, examples: int) -> tuple[Any, Exception] | None:
        """The smallest of the drawn cases that breaks the law, and what it raises; None if none of them does."""
        if self.cases.drawn is None or not examples:
            return None
        # Here and not above: importing the package must not load Hypothesis.
        from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

        failing: list[tuple[Any, Exception]] = []

        def holds(case: Any) -> None:
            try:
                self.stated(member, case)
            except Exception as error:
                failing[:] = [(case, error)]  # Hypothesis runs the smallest case last
                raise

        quiet = settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=examples,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
            verbosity=Verbosity.quiet,
        )
        try:
            # The seed, of the law's name, makes the draws of every law its own and the same in every version.
            seed(zlib.crc32(self.__name__.encode()))(quiet(given(self.cases.drawn(member))(holds)))()
        except Exception:
            if not failing:  # the fault is not the member's
                raise
        return failing[0] if failing else None


LAWS: dict[str, list[Law]] = {
    slot: [] for slot in ("optimization", "group", "chart", "unit", "measure", "sampling", "divergence", "objective")
}
"""The laws of each slot, in the order in which they are checked."""


def law(slot: str, cases: Cases) -> Callable[[Callable[[Any, Any], None]], Law]:
    """A decorator that registers a function of a member and a case as a law of a slot."""

    def register(stated: Callable[[Any, Any], None]) -> Law:
        LAWS[slot].append(Law(stated, cases))
        return LAWS[slot][-1]

    return register


def check(slot: str, member: Any, examples: int) -> None:
    """Check a member against all laws of its slot."""
    for stated in LAWS[slot]:
        stated(member, examples)


def equal(
    left: Tensor, right: Tensor, what: str, remedy: str = "", *, rtol: float = 1e-9, atol: float = 1e-10, **at: Tensor
) -> None:
    """Raise a violation that quotes the first numbers that differ; equal infinities are equal, NaN never is.

    Args:
        left: what the member gives.
        right: what it should be.
        what: the fault in words.
        remedy: what to change, a sentence.
        rtol: relative tolerance.
        atol: absolute tolerance.
        at: the inputs, by name, of which the message quotes those at the difference.
    """
    left, right = torch.broadcast_tensors(left.detach().double(), right.detach().double())
    wrong = ~torch.isclose(left, right, rtol=rtol, atol=atol, equal_nan=False) & ~((left == right) & torch.isinf(left))
    if wrong.any():
        k = tuple(int(i) for i in wrong.nonzero()[0])
        place = _place(wrong, at) or (f" at index {k}" if k else "")
        raise LawViolation(f"{what}: {left[k].item():.9g} instead of {right[k].item():.9g}{place}. {remedy}".rstrip())


def holds(condition: Tensor | bool, what: str, remedy: str = "", **at: Tensor) -> None:
    """Raise a violation where the condition is false anywhere; the message quotes the numbers `at` that place."""
    condition = torch.as_tensor(condition)
    if not bool(condition.all()):
        raise LawViolation(f"{what}{_place(~condition, at)}. {remedy}".rstrip())


def _place(wrong: Tensor, at: dict[str, Tensor]) -> str:
    k = tuple(int(i) for i in wrong.nonzero()[0]) if wrong.ndim else ()
    seen = [f"{name} = {x.detach().expand(wrong.shape)[k].item():.6g}" for name, x in at.items()]
    return f" at {', '.join(seen)}" if seen else ""


def gradient_of(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """∂Σ function(x)/∂x by autograd; zero where the function does not depend on x."""
    x = x.detach().clone().requires_grad_()
    y = function(x).sum()
    if not y.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(y, x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient
