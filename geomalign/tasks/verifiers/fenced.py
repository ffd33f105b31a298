"""Which part of a response is the program."""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Collection
from dataclasses import dataclass

from geomalign.tasks.verifiers.base import extract

_OPENING = re.compile(r"^([ \t]*)(?:(?:[-*+]|\d+[.)])[ \t]+)?(`{3,}|~{3,})[ \t]*(?:\{[ \t]*\.?)?([\w+#-]*)[^`\n]*$")
#: A fence that opens behind words, which counts where none before it stands on a line of its own.
_INLINE = re.compile(r"^([^`\n]*\S)[ \t]*(```(?:python|py)\w*[ \t]*)$", flags=re.MULTILINE | re.IGNORECASE)
_PYTHON = ("python", "py", "python3", "py3", "python-3")
_READS = re.compile(r"\binput\s*\(|\bstdin\b|\bopen\s*\(\s*0\b")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
#: How many closing fences are tried for a block that holds fences itself.
_CLOSINGS = 4


@dataclass(frozen=True)
class _Block:
    label: str
    code: str
    tree: ast.Module | None

    @property
    def defined(self) -> set[str]:
        return bound(self.tree) if self.tree else set()

    @property
    def defines(self) -> bool:
        return self.tree is not None and any(isinstance(node, _DEFINITIONS) for node in self.tree.body)


def extract_code(response: str, wanted: Collection[str] = (), reads: bool = False) -> str:
    r"""The program in a response.

    It is a fenced block that is called Python, or else one without a name. Of several it is the last that defines what
    the tests ask for, that reads the standard input where the tests give one, or that defines a function or a class,
    in this order, and otherwise the last. What it lacks and an earlier block defines or imports is put before it.
    Reasoning that ends with `</think>` is not looked at. Without a block the program is what is between the last
    `<answer>` tags, or all of the response.

    Args:
        wanted: names that the tests ask for.
        reads: whether the tests give a standard input.

    >>> extract_code("Here:\n```python\nx = 1\n```\nIt prints:\n```\n1\n```")
    'x = 1\n'
    """
    text = response.replace("\r\n", "\n").lstrip("\ufeff").rpartition("</think>")[2]
    opening = _INLINE.search(text)
    if opening and not re.search(r"^[ \t]*(?:```|~~~)", text[: opening.start()], flags=re.MULTILINE):
        text = text[opening.start(2) :]
    found = _blocks(text)
    if not found:
        return extract(text, "") or "" if "<answer>" in text else text
    blocks = (
        [block for block in found if block.label in _PYTHON] or [block for block in found if not block.label] or found
    )
    blocks = [block for block in blocks if block.tree] or blocks
    ranks = (
        [block for block in blocks if block.defined & set(wanted)],
        [block for block in blocks if reads and _READS.search(block.code)],
        [block for block in blocks if block.defines],
        blocks,
    )
    chosen = next(rank for rank in ranks if rank)[-1]
    return _completed(chosen, blocks[: blocks.index(chosen)])


def parsed(code: str) -> ast.Module | None:
    """The syntax tree of a program; None if it has none.

    >>> parsed("x =") is None
    True
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def bound(tree: ast.AST) -> set[str]:
    """Every name that a program binds, wherever it does.

    >>> sorted(bound(ast.parse("import os.path as p\\ndef f(x): y = x")))
    ['f', 'p', 'x', 'y']
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, _DEFINITIONS):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names


def free(tree: ast.AST) -> set[str]:
    """Every name that a program reads without binding it; built-in names left out.

    >>> free(ast.parse("assert len(f(2)) == n"))  == {"f", "n"}
    True
    """
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return read - bound(tree) - set(dir(builtins))


def _completed(chosen: _Block, earlier: list[_Block]) -> str:
    code = chosen.code
    for block in reversed(earlier):
        tree = parsed(code)
        if tree is None or block.tree is None or not (free(tree) & block.defined):
            continue
        kept = (*_DEFINITIONS, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
        body: list[ast.stmt] = [node for node in block.tree.body if isinstance(node, kept)]
        code = f"{ast.unparse(ast.Module(body, []))}\n{code}"
    return code


def _blocks(text: str) -> list[_Block]:
    lines = text.split("\n")
    blocks: list[_Block] = []
    at = 0
    while at < len(lines):
        opening = _OPENING.match(lines[at])
        at += 1
        if opening is None:
            continue
        mark, label = opening[2], opening[3].lower()
        ends = [
            index
            for index in range(at, len(lines))
            if len(lines[index].strip()) >= len(mark) and not lines[index].strip().strip(mark[0])
        ]
        candidates = [(end, _block(lines[at:end], label, len(opening[1]), True)) for end in ends[:_CLOSINGS]]
        candidates = candidates or [(len(lines), _block(lines[at:], label, len(opening[1]), False))]
        # A fence inside the program, in a docstring, does not close it: with it alone the program has no syntax.
        end, block = next((found for found in candidates if found[1].tree), candidates[0])
        blocks.append(block)
        at = end + 1
    return blocks


def _block(lines: list[str], label: str, indent: int, closed: bool) -> _Block:
    code = "\n".join(line[indent:] if line[:indent].isspace() else line for line in lines) + ("\n" if closed else "")
    tree = parsed(code)
    if tree is None and (tree := parsed(textwrap.dedent(code))):
        code = textwrap.dedent(code)
    return _Block(label, code, tree)
