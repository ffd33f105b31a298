"""Numbers that are printed as symbols, so that a formula has a paper's letters where an objective has their values."""

from __future__ import annotations

from typing import Any

__all__ = ["Symbol"]


class Symbol(float):
    r"""A number that formats as LaTeX; sums, products and quotients of it do too.

    It equals no plain number, so that a formula that leaves out a factor of 1 keeps a symbol of the value 1.

    Args:
        value: the number.
        text: how it is written.

    >>> alpha, tau = Symbol(0.5, r"\alpha"), Symbol(1.0, r"\tau")
    >>> f"{1 - alpha:g}", f"{1 / tau:g}", f"{2 * alpha * tau:g}", float(1 - alpha), tau == 1
    ('\\left(1-\\alpha\\right)', '\\tfrac{1}{\\tau}', '2\\,\\alpha\\,\\tau', 0.5, False)
    """

    text: str

    def __new__(cls, value: float, text: str) -> Symbol:
        made = super().__new__(cls, value)
        made.text = text
        return made

    def __format__(self, spec: str) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Symbol({float(self)!r}, {self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Symbol) and other.text == self.text and float(other) == float(self)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((float(self), self.text))

    def __neg__(self) -> Symbol:
        return Symbol(-float(self), f"-{self.text}")

    def __add__(self, other: Any) -> Any:
        return _sum(self, other, 1)

    def __radd__(self, other: Any) -> Any:
        return _sum(other, self, 1)

    def __sub__(self, other: Any) -> Any:
        return _sum(self, other, -1)

    def __rsub__(self, other: Any) -> Any:
        return _sum(other, self, -1)

    def __mul__(self, other: Any) -> Any:
        return _product(self, other)

    def __rmul__(self, other: Any) -> Any:
        return _product(other, self)

    def __truediv__(self, other: Any) -> Any:
        return _quotient(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _quotient(other, self)


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, (int, float)) for value in values)


def _text(value: float) -> str:
    return f"{value:g}"


def _sum(a: Any, b: Any, sign: int) -> Any:
    if not _numbers(a, b):
        return NotImplemented
    if float(b) == 0 and not isinstance(b, Symbol):
        return a
    if float(a) == 0 and not isinstance(a, Symbol):
        return b if sign > 0 else -b
    plus = "+" if sign > 0 else "-"
    return Symbol(float(a) + sign * float(b), rf"\left({_text(a)}{plus}{_text(b)}\right)")


def _product(a: Any, b: Any) -> Any:
    if not _numbers(a, b):
        return NotImplemented
    for factor, other in ((a, b), (b, a)):
        if not isinstance(factor, Symbol) and float(factor) in (0.0, 1.0):
            return other if factor else 0.0
    return Symbol(float(a) * float(b), rf"{_text(a)}\,{_text(b)}")


def _quotient(a: Any, b: Any) -> Any:
    if not _numbers(a, b):
        return NotImplemented
    if not isinstance(b, Symbol) and float(b) == 1:
        return a
    if not isinstance(a, Symbol) and float(a) == 0:
        return 0.0
    return Symbol(float(a) / float(b), rf"\tfrac{{{_text(a)}}}{{{_text(b)}}}")
