"""A traced graph as plain torch calls: what a compiler recorded, written as a person would write it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["plain_graph"]

_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "bitwise_and": operator.and_,
    "bitwise_not": operator.invert,
    "bitwise_or": operator.or_,
    "div": operator.truediv,
    "eq": operator.eq,
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
    "mul": operator.mul,
    "ne": operator.ne,
    "neg": operator.neg,
    "sub": operator.sub,
}
_METHODS = {"_to_copy": "to", "expand": "expand", "repeat": "repeat", "sym_size": "size", "view": "reshape"}
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1}
_FILLED = (torch.ops.aten.full_like.default, torch.ops.aten.zeros_like.default)
_LIBRARIES = (torch, torch.special, torch.nn.functional)
# How a tensor lies in memory is for the one who runs the graph to decide.
_LAYOUT = frozenset({"layout", "memory_format", "non_blocking", "pin_memory"})
_END = 2**63 - 1


def plain_graph(
    traced: fx.Graph, names: Sequence[str], prepare: Callable[[int, fx.Node], fx.Node] | None = None
) -> fx.Graph:
    """The graph that `make_fx` recorded as calls of `torch`, without repetitions and without what nothing uses.

    No gradient is recorded (`detach` is left out), and constants lie on the device of the first argument.

    Args:
        traced: of a function of tensors that returns one or a flat tuple of them.
        names: what its arguments are called in the new graph, in their order; equal names become one argument. An
            argument that nothing uses is left out.
        prepare: (position, argument) → the node that stands for it in what follows, with calls of its own before.

    >>> from torch.fx.experimental.proxy_tensor import make_fx
    >>> traced = make_fx(lambda x: torch.where(x > 0, x.detach() * 2, 0) + (x > 0))(torch.ones(3))
    >>> print(fx.GraphModule({}, plain_graph(traced.graph, ["x"])).code.strip())
    def forward(self, x):
        gt = x > 0
        mul = x * 2;  x = None
        where = torch.where(gt, mul, 0);  mul = None
        add = where + gt;  where = gt = None
        return add
    """
    return _Plain(names, prepare or (lambda position, argument: argument)).of(traced)


class _Plain:
    """A graph in the making, and what each node of the traced graph has become in it."""

    def __init__(self, names: Sequence[str], prepare: Callable[[int, fx.Node], fx.Node]):
        self.graph = fx.Graph()
        self.arguments = {name: self.graph.placeholder(name) for name in dict.fromkeys(names)}
        self.prepared = [prepare(position, self.arguments[name]) for position, name in enumerate(names)]
        self.became: dict[fx.Node, Any] = {}
        self.seen: dict[Any, fx.Node] = {}

    def of(self, traced: fx.Graph) -> fx.Graph:
        prepared = iter(self.prepared)
        for node in traced.nodes:
            if node.op == "placeholder":
                self.became[node] = next(prepared)
                continue
            args, kwargs = (fx.node.map_arg(x, self.became.__getitem__) for x in (node.args, node.kwargs))
            if node.op == "output":
                self.graph.output(tuple(args[0]) if isinstance(args[0], (list, tuple)) else args[0])
            elif isinstance(node.target, torch._ops.OpOverload):
                self.became[node] = self.called(node, list(args), dict(kwargs))
            elif node.target is operator.getitem and isinstance(args[0], tuple):
                self.became[node] = args[0][args[1]]
            else:
                self.became[node] = self.once(node.op, node.target, args, kwargs)
        self.graph.eliminate_dead_code()
        for argument in self.arguments.values():
            if not argument.users:
                self.graph.erase_node(argument)
        self.graph.lint()
        return self.graph

    def once(self, op: str, target: Any, args: Sequence[Any], kwargs: dict[str, Any] | None = None) -> fx.Node:
        """The node of this call, which is made at its first occurrence. All calls are pure."""
        kwargs = kwargs or {}
        key = (op, target, _frozen(tuple(args)), _frozen(kwargs))
        if key not in self.seen:
            self.seen[key] = self.graph.create_node(op, target, tuple(args), kwargs)
        return self.seen[key]

    def called(self, node: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """What a call of ATen is in the words of `torch`; the call itself where it has none."""
        name = node.target._schema.name.removeprefix("aten::").removeprefix("special_")  # type: ignore[union-attr]
        kwargs = {key: value for key, value in kwargs.items() if key not in _LAYOUT}
        if "device" in kwargs:
            kwargs["device"] = self.once("call_function", getattr, (next(iter(self.arguments.values())), "device"))
        if name == "sub" and args[0] is args[1]:
            return 0.0  # x − sg[x], which only passes a gradient on
        if name == "constant_pad_nd" and all(type(size) is int and size == 0 for size in args[1]):
            return args[0]
        if name in ("detach", "alias") or (name in _NEUTRAL and _is_neutral(node, _NEUTRAL[name])):
            return args[0]
        if name == "where":
            kept = [_scalar(x, other) for x, other in zip(node.args[1:], node.args[:0:-1], strict=True)]
            args[1:] = [x if scalar is None else scalar for x, scalar in zip(args[1:], kept, strict=True)]
        if name == "slice":
            dim, start, end, step = (args[1:] + [0, 0, _END, 1][len(args) - 1 :])[:4]
            if (start, end, step) == (0, _END, 1):
                return args[0]
            index = [slice(None)] * (dim % node.meta["val"].ndim)
            index.append(slice(start or None, None if end == _END else end, step))
            return self.once("call_function", operator.getitem, (args[0], tuple(index)))
        if name == "index":
            chosen = tuple(slice(None) if x is None else x for x in args[1])
            return self.once("call_function", operator.getitem, (args[0], chosen))
        if name == "split" and isinstance(args[1], fx.Node) and len(node.meta["val"]) == 2:
            # `chunk(2)` was recorded with the size of a part, from which no reader can tell the number of parts.
            return self.once("call_function", torch.tensor_split, (args[0], 2, *args[2:]))
        if name == "log_sigmoid_forward":  # a pair, of which only the value is ever used without a gradient
            return self.once("call_function", torch.nn.functional.logsigmoid, args), None
        if name in _METHODS:
            return self.once("call_method", _METHODS[name], args, kwargs)
        if name in _OPERATORS and not kwargs:
            return self.once("call_function", _OPERATORS[name], args)
        found = next((getattr(library, name) for library in _LIBRARIES if hasattr(library, name)), node.target)
        return self.once("call_function", found, args, kwargs)


def _frozen(x: Any) -> Any:
    """A hashable key that tells apart 1, 1.0 and True."""
    if isinstance(x, (tuple, list)):
        return tuple(map(_frozen, x))
    if isinstance(x, dict):
        return tuple((key, _frozen(value)) for key, value in x.items())
    if isinstance(x, slice):
        return "slice", _frozen((x.start, x.stop, x.step))
    return x if isinstance(x, fx.Node) else (type(x), x)


def _is_neutral(node: fx.Node, number: int) -> bool:
    """Whether the second argument is this number everywhere, and the result is of the type and shape of the first."""
    first, second, *rest = node.args
    if isinstance(second, fx.Node) and second.target in _FILLED:
        second = second.args[1] if len(second.args) > 1 else 0
    if isinstance(second, fx.Node) or second != number or rest or node.kwargs:
        return False
    before, after = (x.meta.get("val") if isinstance(x, fx.Node) else None for x in (first, node))
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return False
    return before.dtype == after.dtype and before.shape == after.shape


def _scalar(x: Any, other: Any) -> Any:
    """The number that a branch of `where` is, if the other branch is a tensor whose type decides."""
    constant = lambda y: isinstance(y, fx.Node) and y.target is torch.ops.aten.scalar_tensor.default  # noqa: E731
    return x.args[0] if constant(x) and not constant(other) else None
