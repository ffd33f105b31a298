"""Numbers and formulas as math-verify reads them: Unicode's signs as LaTeX, and 1e-05 as a number."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from itertools import pairwise

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
_LENGTH = r"(?:[kcm]?m|in|ft|yd|mi)"
#: A number and its unit: a word, which is not one of mathematics or letters that are multiplied; or a symbol.
_UNIT = re.compile(
    r"([-+]?\d[\d,]*(?:\.\d+)?)\s+(?:"
    rf"{_LENGTH}\^\{{?[23]\}}?|(?:{_LENGTH}|[km]?g|m?L|mol|J|N|W)/(?:s|h|hr|min|[kcm]?m|[km]?g|m?L|mol)(?:\^\{{?[23]\}}?)?|"
    r"(?:(?!squared|cubed|divided|sqrt|times|over|plus|minus|less|more|theta|alpha|beta|sinh|cosh|tanh)[A-Za-z]{4,}|"
    r"[ckmn]m|[km]g|m[lL]|d[lL]|oz|lbs?|ft|in|yd|mi|hrs?|min|sec|ms|mph|kph|k?Wh|[kMGT]B|men|day|year|mo|pm|am|gal|sq)"
    r"\.?(?: [A-Za-z. ]+)?)"
)
_LARGE = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_COUNTED = re.compile(rf"(?<![\w.,])(\d[\d,]*(?:\.\d+)?) ?({'|'.join(_LARGE)})\b")
#: What stands between boxes that hold parts of one answer.
_JOINED = re.compile(r"(?:[\s$,;.&]|\\text\{|\}|\\[,;: ()\[\]]|\\q?quad|and|or)*")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")


def readings(text: str, answer: bool = False) -> list[str]:
    """The ways to read a text, as math-verify takes them; more than one where an e may be Euler's or a power of ten.

    Args:
        answer: whether it is a true answer, all of which is one formula; a number with a unit is also the number.

    >>> readings("It is −5."), readings("so 10⁻⁵"), readings("1e-05"), readings("2e-5")
    (['It is -5.'], ['so $10^{-5}$'], ['0.00001'], ['0.00002', '2e-5'])
    """
    found = _latex(text if answer else _settled(text))
    ways = [_E.sub(_decimal, found), *([found] if _EULER.search(found) else [])]
    if not answer:
        return [way if _DELIMITED.search(way) else _delimited(way) for way in ways]
    ways += [re.sub(r" b_\{\d+\}", "", way) for way in ways if " b_{" in way]
    ways = [way.replace(" ", "") if _GROUPED.fullmatch(way.strip()) else way for way in ways]
    return [*ways, *(unit[1] for way in ways if (unit := _UNIT.fullmatch(way.strip())))]


def _settled(text: str) -> str:
    """The response from its last box on, or from the first of several that hold parts of one answer; without boxes all
    of it. Of boxes with other words between them the last corrects the others.
    """
    boxes: list[tuple[int, int]] = []
    for start in (match.start() for match in re.finditer(r"\\boxed\s*\{", text)):
        if boxes and start < boxes[-1][1]:
            continue  # a box in a box
        depth, end = 0, len(text)
        for mark in re.finditer(r"(?<!\\)[{}]", text[start:]):
            depth += 1 if mark[0] == "{" else -1
            if not depth:
                end = start + mark.end()
                break
        boxes.append((start, end))
    cuts = [start for (_, end), (start, _) in pairwise(boxes) if not _JOINED.fullmatch(text[end:start])]
    return "$" + text[cuts[-1] :].replace("$", "") + "$" if cuts else text


def _latex(text: str) -> str:
    text = re.sub(r"(?<=\d)(?:[\u00a0\u2009\u202f]|\\[,!;:])(?=\d{3}(?!\d))|\\\$|[£€¥₹]", "", text)
    text = _COUNTED.sub(lambda m: format(Decimal(m[1].replace(",", "")) * _LARGE[m[2]], "f"), text)
    text = re.sub(r"(?<=[\w)}])\^([-+−]\d+|[-+−]?[A-Za-z]\b)", r"^{\1}", text)
    # 2**3 is a power, and **5** is bold.
    text = re.sub(r"(?<=[\w)])(?<![A-Za-z]{2})\*\*([-+]?\d+)(?![\d*])", r"^{\1}", text)
    text = re.sub(r"(?<=\d)\s*x\s*(?=10\s*\^)", r" \\times ", text)
    text = re.sub(r"(?<![\\A-Za-z])(?=(?:sin|cos|tan|ln|log|exp)\()", r"\\", text)
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
    # The base of a number is kept as a factor, since math-verify takes 12_3 for 12.
    written = re.sub(r"(?<![\w.}])(\d+)_(?:\{(\d{1,2})\}|(\d{1,2})(?!\d))", r"\1 b_{\2\3}", written)
    return re.sub(
        r"(?:√|(?<![\\A-Za-z])sqrt(?=\())\s*(\d+(?:\.\d+)?|[A-Za-z]|\(([^()]*)\))",
        lambda m: rf"\sqrt{{{m[2] or m[1]}}}",
        written,
    )


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
