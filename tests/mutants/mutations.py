"""The mutations: small semantic changes of a module, each found on its syntax tree and written into its text."""

from __future__ import annotations

import ast
import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path

FLIPS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
"""A comparison -> the one with the other boundary, then the opposite one."""

SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}

WORDS = {
    "low": "high",
    "high": "low",
    "min": "max",
    "max": "min",
    "amin": "amax",
    "amax": "amin",
    "minimum": "maximum",
    "maximum": "minimum",
    "any": "all",
    "all": "any",
    "below": "above",
    "above": "below",
    "chosen": "rejected",
    "rejected": "chosen",
    "positive": "negative",
    "negative": "positive",
    "ceil": "floor",
    "floor": "ceil",
}
"""Names that have an opposite: of attributes, of functions and methods that are called, and of keywords."""

AXES = {
    *(
        "sum",
        "mean",
        "any",
        "all",
        "amax",
        "amin",
        "argmax",
        "argmin",
        "unsqueeze",
        "squeeze",
        "softmax",
        "log_softmax",
    ),
    *("logsumexp", "cumsum", "flip", "size", "chunk", "expand", "view", "reshape", "flatten", "movedim", "transpose"),
    *("gather", "index_select", "stack", "cat"),
}

"""Functions and methods whose constant arguments are axes and shapes."""

TEXTS = {"latex", "latex_mirror", "__repr__", "__str__", "describe"}
"""Methods whose result is text to read; what they print is tested elsewhere and decides nothing."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change: `before`, at a line and column of a file below the repository, becomes `after`."""

    path: str
    line: int
    column: int
    end: tuple[int, int]
    kind: str
    before: str
    after: str
    context: str

    @property
    def name(self) -> str:
        return f"{self.path}:{self.line}:{self.column} {self.kind}: {self.before} → {self.after}"

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What identifies a mutant when lines above it have moved: its file, its line of code and the two texts."""
        return self.path, self.context, self.before, self.after

    def applied(self, text: str) -> str:
        lines = text.encode("utf-8").splitlines(keepends=True)  # columns of syntax trees count bytes
        first, last = self.line - 1, self.end[0] - 1
        head, tail = lines[first][: self.column], lines[last][self.end[1] :]
        lines[first : last + 1] = [head + self.after.encode("utf-8") + tail]
        return b"".join(lines).decode("utf-8")


def _annotations(tree: ast.Module) -> Iterator[ast.AST | None]:
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(annotation=annotation) | ast.arg(annotation=annotation):
                yield annotation
            case ast.FunctionDef(returns=returns):
                yield returns


def _skipped(tree: ast.Module) -> set[int]:
    """The nodes that are no code of the mathematics: annotations, decorators, messages, printed formulas, `__all__`."""
    roots: list[ast.AST | None] = [*_annotations(tree)]
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name, decorator_list=decorators):
                roots += [*decorators, *(node.body if name in TEXTS else ())]
            case ast.ClassDef(decorator_list=decorators, bases=bases):
                roots += [*decorators, *bases]
            case ast.Raise() | ast.Assert() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
                roots.append(node)
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                roots.append(node)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                roots.append(node)
            case ast.Call(func=ast.Attribute(attr="warn")):
                roots.append(node)
            case ast.Call(func=func, args=args, keywords=keywords) if _name(func) in ("isinstance", "cast", "TypeVar"):
                roots += [*args, *keywords]
            case ast.Call(func=func, args=args, keywords=keywords):
                # The axes: of two axes -1 is 1, and any other axis fails by its shape.
                roots += [k for k in keywords if k.arg in ("keepdim", "dim", "dtype", "device", "encoding", "strict")]
                roots += [a for a in args if isinstance(a, (ast.Constant, ast.UnaryOp))] if _name(func) in AXES else []
    return {id(inner) for root in roots if root is not None for inner in ast.walk(root)}


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.deepcopy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The kinds of change of one node, and what it becomes."""
    match node:
        case ast.Compare(ops=[op]):
            for number, flipped in enumerate(FLIPS[type(op)]):
                yield "comparison" if number or len(FLIPS[type(op)]) == 1 else "boundary", _with(node, ops=[flipped()])
        case ast.Compare(ops=ops):  # a chain: each of its boundaries
            for at, op in enumerate(ops):
                yield "boundary", _with(node, ops=[*ops[:at], FLIPS[type(op)][0](), *ops[at + 1 :]])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS and not _is_text(node):
            yield "operator", _with(node, op=SWAPS[type(op)]())
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            yield "not", operand
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield "sign", operand
        case ast.IfExp(body=body, orelse=orelse) if not (_is_text(body) or _is_text(orelse)):
            yield "branch", _with(node, body=orelse, orelse=body)
        case ast.Constant(value=bool(value)):
            yield "constant", _with(node, value=not value)
        case ast.Constant(value=int(value)):
            yield "constant", _with(node, value=value + 1)
        case ast.Constant(value=float(value)):
            yield "constant", _with(node, value=value * 1.5 if value else 1.0)
        case ast.Call(func=ast.Attribute(attr="where"), args=[condition, first, second]):
            yield "arguments", _with(node, args=[condition, second, first])
        case ast.Call(func=ast.Attribute(value=value, attr="clamp" | "clamp_min" | "clamp_max")):
            yield "clamp", value
        case ast.Call(func=func, args=[ast.AST() as first, ast.AST() as second, *rest]) if _swappable(
            func, first, second
        ):
            yield "arguments", _with(node, args=[second, first, *rest])
    if isinstance(node, ast.Call) and (opposite := WORDS.get(_name(node.func))):
        func = copy.deepcopy(node.func)
        setattr(func, "attr" if isinstance(func, ast.Attribute) else "id", opposite)
        yield "opposite", _with(node, func=func)
    if isinstance(node, ast.Call) and (named := [k.arg for k in node.keywords if k.arg in WORDS]):
        keywords = copy.deepcopy(node.keywords)
        for keyword in keywords:
            if keyword.arg in named:
                keyword.arg = WORDS[str(keyword.arg)]
        yield "opposite", _with(node, keywords=keywords)


def _swappable(func: ast.AST, first: ast.AST, second: ast.AST) -> bool:
    """Two arguments that are both plain names or attributes, of a function whose order matters."""
    plain = all(isinstance(x, (ast.Name, ast.Attribute)) for x in (first, second))
    commutes = {"min", "max", "minimum", "maximum", "isinstance", "broadcast_tensors", "getattr", "zip", "one_of"}
    return plain and _name(func) not in commutes and ast.dump(first) != ast.dump(second)


def _opposites(tree: ast.Module, skipped: set[int]) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """Attributes with an opposite that are read, such as `self.low`."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in called | skipped:
            if opposite := WORDS.get(node.attr):
                yield "opposite", node, _with(node, attr=opposite)


def _defaults(tree: ast.Module) -> set[int]:
    """The constants that are the default of a field or of an argument."""
    roots: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            roots += [part.value for part in node.body if isinstance(part, ast.AnnAssign)]
        elif isinstance(node, ast.FunctionDef):
            roots += [*node.args.defaults, *node.args.kw_defaults]
    return {id(inner) for root in roots if root is not None for inner in ast.walk(root)}


def _source(lines: list[bytes], node: ast.expr) -> str:
    """The text of an expression in one line; of its file, the lines as syntax trees count them, in bytes."""
    assert node.end_lineno is not None
    inside = lines[node.lineno - 1 : node.end_lineno]
    inside[-1] = inside[-1][: node.end_col_offset]
    inside[0] = inside[0][node.col_offset :]
    return " ".join(b" ".join(inside).decode("utf-8").split())


def mutants(root: Path, path: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    text = (root / path).read_text(encoding="utf-8")
    tree = ast.parse(text)
    skipped, defaults, lines = _skipped(tree), _defaults(tree), text.encode("utf-8").splitlines()
    found = [
        (kind, node, after) for node in ast.walk(tree) if id(node) not in skipped for kind, after in _changes(node)
    ]
    result = []
    for kind, node, after in [*found, *_opposites(tree, skipped)]:
        assert isinstance(node, ast.expr) and node.end_lineno is not None and node.end_col_offset is not None
        result.append(
            Mutant(
                path,
                node.lineno,
                node.col_offset,
                (node.end_lineno, node.end_col_offset),
                "default" if id(node) in defaults else kind,
                _source(lines, node),
                f"({ast.unparse(after)})" if not isinstance(after, ast.Constant) else ast.unparse(after),
                lines[node.lineno - 1].decode("utf-8").strip(),
            )
        )
    return sorted(set(result), key=lambda mutant: (mutant.line, mutant.column, mutant.kind, mutant.after))
