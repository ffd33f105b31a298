"""Formulas of the pages, set by the KaTeX that the explorer has beside it: no network, no second copy.

Sphinx writes the TeX of a formula into the page, and `_static/formulas.js` sets it in the reader's browser.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.util.math import get_node_equation_number

# Relative to `_static`, where Sphinx looks for scripts: the build puts the explorer beside the pages.
VENDOR = "../explorer/vendor/katex.min"


def breakable(tex: str) -> str:
    r"""The outermost \left[ … \right] as brackets of one size, for KaTeX breaks a line between these only."""
    open_as: list[str] = []

    def sized(found: re.Match[str]) -> str:
        side, delimiter = found.groups()
        if side == "left":
            open_as.append("Big" if delimiter == "[" and not open_as else "")
        size = open_as[-1] if side == "left" else open_as.pop()
        return rf"\{size}{side[0]}{delimiter}" if size else found.group()

    return re.sub(r"\\(left|right)(?![a-zA-Z])(\\?.)", sized, tex)


def clauses(tex: str) -> list[str]:
    r"""What \quad or \qquad separates after a comma or semicolon, outside of braces, brackets and environments."""
    found: list[str] = []
    for part in re.split(r"(?<=[,;])\s*\\q{1,2}uad(?![a-zA-Z])", tex):
        opened = "" if not found else found[-1]
        if any(len(re.findall(a, opened)) != len(re.findall(b, opened)) for a, b in _PAIRS):
            found[-1] += rf"\quad{part}"
        else:
            found.append(part)
    return found


_PAIRS = ((r"(?<!\\){", r"(?<!\\)}"), (r"\\left\b", r"\\right\b"), (r"\\begin\b", r"\\end\b"))


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(writer.starttag(node, "span", "", CLASS="math notranslate nohighlight tex"))
    writer.body.append(f"{writer.encode(node.astext())}</span>")
    raise nodes.SkipNode


def _display(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(writer.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node.get("number"):
        writer.body.append(f'<span class="eqno">({get_node_equation_number(writer, node)})</span>')
    tex = node.astext().strip()
    if "\\\\" in tex and not node.get("no-wrap", node.get("nowrap", False)):
        tex = rf"\begin{{split}}{tex}\end{{split}}"  # a line break outside of an environment
    if r"\begin" not in tex:
        tex = breakable(tex)
    parts = "\n".join(f'<span class="tex">{writer.encode(part)}</span>' for part in clauses(tex))
    writer.body.append(f"{parts}</div>\n")
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("katex", (_inline, None), (_display, None))
    app.add_css_file(f"{VENDOR}.css")
    app.add_css_file("pages.css")
    app.add_js_file(f"{VENDOR}.js")
    app.add_js_file("formulas.js")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
