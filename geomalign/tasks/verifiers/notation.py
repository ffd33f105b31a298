"""Numbers and formulas as math-verify reads them: Unicode's signs as LaTeX, and 1e-05 as a number."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

_SIGNS = {
    "−": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/",
    "⁄": "/", "∕": "/", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ",
    "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "∈": r"\in ", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "λ": r"\lambda ", "°": r"^\circ ", "ℝ": r"\mathbb{R}", "％": r"\%",
}  # fmt: skip
_E = re.compile(r"(?<![\w.\\])(\d+(?:\.\d*)?|\.\d+)[eE]([+-]?\d{1,4})(?![\w.^]|\.\d)")
#: Read as a number or as Euler's e minus another number.
_EULER = re.compile(r"(?<![\w.\\])(?!1e)\d+e-[1-9]\d*(?![\w.^])")
_DELIMITED = re.compile(r"\$|\\boxed|\\\(|\\\[")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_UNIT = re.compile(r"([-+]?(?:\d[\d,]*)(?:\.\d+)?)\s+[A-Za-z][A-Za-z. ]+")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")


def readings(text: str, answer: bool = False) -> list[str]:
    """The ways to read a text, as math-verify takes them; more than one where an e may be Euler's or a power of ten.

    Args:
        answer: whether it is a true answer, all of which is one formula; a number with a unit is also the number.

    >>> readings("It is −5."), readings("so 10⁻⁵"), readings("1e-05"), readings("2e-5")
    (['It is -5.'], ['so $10^{-5}$'], ['0.00001'], ['0.00002', '2e-5'])
    """
    found = _latex(text)
    ways = [_E.sub(_decimal, found), *([found] if _EULER.search(found) else [])]
    if not answer:
        return [way if _DELIMITED.search(way) else _delimited(way) for way in ways]
    ways = [way.replace(" ", "") if _GROUPED.fullmatch(way.strip()) else way for way in ways]
    return [*ways, *(unit[1] for way in ways if (unit := _UNIT.fullmatch(way.strip())))]


def _latex(text: str) -> str:
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(?<![\w)\]}\d\s])–(?=[\d.(\\])|(?<![\w)\]}\d])(?<=\s)–(?=[\d.(\\])|^–(?=[\d.(\\])", "-", text)
    parts: list[str] = []
    for char in text:
        kind, _, rest = unicodedata.decomposition(char).partition(" ")
        if kind in ("<super>", "<sub>"):
            mark, plain = "^" if kind == "<super>" else "_", _SIGNS.get(chr(int(rest, 16)), chr(int(rest, 16)))
            run = parts[-1] if parts and parts[-1][:2] == mark + "{" else ""
            parts[-1:] = [f"{run[:-1]}{plain}}}"] if run else [*parts[-1:], f"{mark}{{{plain}}}"]
        elif kind == "<fraction>" and "⁄" in (both := unicodedata.normalize("NFKC", char)) and both[-1] != "⁄":
            over, under = both.split("⁄")
            parts.append(rf"\frac{{{over}}}{{{under}}}")
        else:
            char = unicodedata.normalize("NFKC", char) if char not in _SIGNS else char
            parts += [_SIGNS.get(one, one) for one in char]
    written = re.sub(r"(?<![\w./])(\d+) (\d+)/(\d+)(?![\w/])", r"\1\\frac{\2}{\3}", "".join(parts))
    return re.sub(r"√\s*(\d+(?:\.\d+)?|[A-Za-z]|\(([^()]*)\))", lambda m: rf"\sqrt{{{m[2] or m[1]}}}", written)


def _decimal(match: re.Match[str]) -> str:
    number = Decimal(match[0])
    if abs(number.adjusted()) <= 40:
        return format(number, "f")
    return rf"{match[1]} \times 10^{{{int(match[2])}}}"


def _delimited(text: str) -> str:
    """Plain text with its formulas between dollar signs, without which math-verify looks for numbers alone."""
    whole = text.strip()
    if whole[:1] in ("[", "(", "{") and not _WORD.search(whole):
        return f"${whole.rstrip('.')}$"
    words = re.split(r"(\s+)", text)
    found, run = [], ""
    for word in [*words, "end"]:
        if not word.strip() or not _WORD.search(word):
            run += word
            continue
        found += [_wrapped(run), word]
        run = ""
    return "".join(found[:-1])


def _wrapped(run: str) -> str:
    if not re.search(r"\\|\^\{|_\{", run):
        return run
    inner = run.strip()
    bare = inner.rstrip(".,;:!?")
    return run.replace(inner, f"${bare}${inner[len(bare) :]}")
