"""Objectives as plain functions of tensors, for engines that know nothing of this library."""

from __future__ import annotations

import keyword
import operator
import re
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import pad

from geomalign._util.check import refuse, typed
from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.objective import BaseObjective, Objective, TermDrives
from geomalign.ops.graphs import plain_graph

__all__ = ["arguments", "drive_names", "export", "source"]

_RESPONSES = ("policy", "old", "reference", "behavior", "mask")
_OBSERVATIONS = ("observation_mask",)
_PAIRS = ("chosen", "rejected", "reference_chosen", "reference_rejected", "chosen_mask", "rejected_mask")
# Sizes that are equal while tracing are taken for one: these are unlike each other, and unlike 0 and 1.
_ROWS, _TOKENS = 6, 5


def export(objective: BaseObjective, dtype: torch.dtype = torch.float32) -> fx.GraphModule:
    """The objective as a function of tensors: (policy, old, …, mask, drive, counts) → (loss, ∂loss/∂log π).

    What is returned is a `torch.fx.GraphModule` that calls `torch` and holds no class of this library. It runs wherever
    torch is installed, and can be traced again, exported by `torch.export`, compiled, vmapped over a leading axis of
    batches, pickled, or printed by `source`. Its arguments are those of the following that the objective uses, in this
    order; `arguments` makes them from a batch:

    * of responses: `policy`, `old`, `reference`, `behavior`, `mask`, `(row, token)` as in a `Batch`; `drive`, `(row,)`,
      or also `(row, token)` where the events are tokens; `observation_mask` where a term predicts these tokens;
    * of pairs: `chosen`, `rejected`, `reference_chosen`, `reference_rejected`, `chosen_mask`, `rejected_mask`,
      `(pair, token)` as in a `PreferenceBatch`; `drive`, `(pair,)`;
    * `counts`, `(4,)`: tokens, sequences, pairs and rows of the whole batch, in the order of `Counts`.

    `drive` is what `objective.drive(whole_batch)` returns, computed before, because it needs whole groups of any size.
    A sum whose terms are driven in different ways, or have different events, has `drive_1`, `drive_2`, …, by the number
    of the term (`drive_names`). A constant drive is part of the function.

    The gradient is `(row, token)`. Of pairs there are two, in the chosen and in the rejected responses, which are
    padded to one length: the outputs are (loss, ∂loss/∂chosen, ∂loss/∂rejected). No output carries a graph: hand the
    gradient on by `policy.backward(gradient)` or in the engine's own way. A summed log-probability is a column,
    `(row, 1)`, where the unit is `Sequence()`.

    Args:
        objective: any, also a sum.
        dtype: that is computed in, float32 or float64; tensors of other types are converted. It is fixed because the
            largest log-ratio whose exponential is taken as it is belongs to the type.

    Raises:
        ValueError: a potential or a measure couples responses, whose ids and lengths no argument carries; or the
            objective decides by the values of tensors, which no trace can follow. (A slot of your own that decides by
            sizes is recorded as it decides at six rows of five tokens.)

    >>> import torch, geomalign as ga
    >>> function = ga.ops.export(ga.recipes.ppo())
    >>> old, mask, drive = torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([1.0, -1.0])
    >>> loss, gradient = function(policy=old, old=old, mask=mask, drive=drive, counts=torch.tensor([6, 2, 0, 2]))
    >>> gradient
    tensor([[-0.1667, -0.1667, -0.1667],
            [ 0.1667,  0.1667,  0.1667]])
    """
    typed("export", "objective", objective, BaseObjective, "A name becomes one by ga.recipes.get(name).")
    if dtype not in (torch.float32, torch.float64):
        refuse("export", "torch.float32 or torch.float64; tensors of other types are converted.", dtype=dtype)
    for _, term in objective.terms:
        if term.coupling is not None:
            raise ValueError(
                f"{term.coupling!r} couples the responses to one prompt, and an exported function has no argument "
                "that says which rows these are: evaluate the objective itself."
            )
        if term.measure.needs_lengths:
            raise ValueError(
                f"{term.measure!r} weighs a response by the lengths of others, and an exported function has no "
                "argument that holds these: evaluate the objective itself."
            )
    fields = _PAIRS if objective.paired else _RESPONSES + _OBSERVATIONS * objective.needs_observations
    drives = drive_names(objective)
    names = [*fields, *(name for name in drives if name is not None), "counts"]
    per_token = [term.unit.per_token and not objective.paired for term in objective.driven_terms]

    def evaluate(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        columns = {name: next(given) for name in fields}
        each = TermDrives(None if name is None else next(given) for name in drives)  # type: ignore[misc]
        drive: Any = each if len(drives) > 1 else next(iter(each))
        batch = PreferenceBatch(**columns) if objective.paired else Batch(**columns)
        counts = Counts(*next(given).unbind())
        with torch.no_grad():
            gradient = objective.gradient(batch, drive, counts)
            return objective(batch, drive, counts).loss, *(gradient if isinstance(gradient, tuple) else (gradient,))

    def prepare(position: int, argument: fx.Node) -> fx.Node:
        graph, name = argument.graph, argument.name
        if name == "counts":
            return argument
        if name.endswith("mask"):
            return graph.call_function(operator.ne, (argument, 0))
        if name.startswith("drive") and per_token[position - len(fields)]:
            column = graph.call_function(operator.getitem, (argument, (slice(None), None)))
            argument = graph.call_method("flatten", (column, 1))  # (row,) → (row, 1); (row, token) as it is
        # Tensors of this type are left alone, at no cost, and the outputs continue no graph of the caller's.
        return graph.call_method("to", (graph.call_method("detach", (argument,)), dtype))

    columns = [torch.zeros(_ROWS, _TOKENS, dtype=torch.bool if name.endswith("mask") else dtype) for name in fields]
    pulls = [torch.zeros(_drive_shape(term, objective.paired), dtype=dtype) for term in objective.driven_terms]
    try:
        pure = torch.func.functionalize(evaluate)  # operations in place become operations of their own
        traced = make_fx(pure, tracing_mode="symbolic")(*columns, *pulls, torch.ones(4, dtype=torch.int64))
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"this objective cannot be traced: {str(error).splitlines()[0]} Usually one of its slots asks for the "
            "value of a tensor (`if`, `.item()`, `float()`): write it with torch.where."
        ) from error
    return fx.GraphModule(traced, plain_graph(traced.graph, names, prepare), "Exported")


def drive_names(objective: BaseObjective) -> list[str | None]:
    """What an exported function calls the drive of each term: `drive` where all are one, None where it is constant.

    >>> import geomalign as ga
    >>> drive_names(ga.recipes.grpo(beta=0.04)), drive_names(ga.recipes.grpo() + ga.recipes.opo())
    (['drive', None], ['drive_1', 'drive_2'])
    """
    typed("drive_names", "objective", objective, BaseObjective, "A name becomes one by ga.recipes.get(name).")
    ways = [(term.sampling, term.unit.per_token, term.unit.paired) for term in objective.driven_terms]
    one = all(way == ways[0] for way in ways)
    return [
        None if not term.sampling.driven else "drive" if one else f"drive_{k}"
        for k, (_, term) in enumerate(objective.terms, 1)
    ]


def _drive_shape(term: Objective, paired: bool) -> tuple[int, ...]:
    if paired:
        return (_ROWS,) if term.unit.paired else (_ROWS, 2)
    return (_ROWS, _TOKENS) if term.unit.per_token else (_ROWS,)


def arguments(
    function: fx.GraphModule,
    objective: BaseObjective,
    batch: Batch | PreferenceBatch,
    drive: Tensor | TermDrives | None = None,
    counts: Counts | None = None,
) -> dict[str, Tensor]:
    """The keyword arguments of an exported function as a batch holds them.

    A mask that the batch lacks is all ones, and the two responses of pairs are padded to one length.

    Args:
        function: `export(objective)`.
        objective: that was exported.
        batch: of log-probabilities of tokens.
        drive: as in `objective(batch, drive, counts)`; None: computed from this batch, whose groups are then whole.
        counts: of the whole batch; None: this batch is the whole.

    Raises:
        ValueError: the batch lacks what the function needs.

    >>> import torch, geomalign as ga
    >>> objective, pairs = ga.recipes.dpo(), ga.PreferenceBatch(*torch.zeros(4, 2, 3))
    >>> function = ga.ops.export(objective)
    >>> loss, chosen, rejected = function(**ga.ops.arguments(function, objective, pairs))
    >>> chosen[0]
    tensor([-0.0250, -0.0250, -0.0250])
    """
    typed("arguments", "function", function, fx.GraphModule, "Pass what ga.ops.export returns.")
    typed("arguments", "objective", objective, BaseObjective, "A name becomes one by ga.recipes.get(name).")
    typed("arguments", "batch", batch, (Batch, PreferenceBatch), "Pass what the objective is evaluated on.")
    made: dict[str, Tensor | None] = {
        name: getattr(batch, name, None) for name in (*_RESPONSES, *_OBSERVATIONS, *_PAIRS)
    }
    if isinstance(batch, PreferenceBatch):
        width = max(batch.chosen.shape[1], batch.rejected.shape[1])
        made = {name: None if x is None else pad(x, (0, width - x.shape[1])) for name, x in made.items()}
        made["chosen_mask"], made["rejected_mask"] = batch.rows.support.chunk(2)
    else:
        made["mask"] = batch.support
    made["counts"] = torch.stack((batch.counts() if counts is None else counts).astuple())
    drive = objective.drive(batch) if drive is None else drive
    each = tuple(drive) if isinstance(drive, TermDrives) else [drive] * len(objective.terms)
    made |= {name: g for name, g in zip(drive_names(objective), each, strict=True) if name is not None}
    wanted = [str(node.target) for node in function.graph.nodes if node.op == "placeholder"]
    if lacking := [name for name in wanted if made.get(name) is None]:
        raise ValueError(
            f"the exported function needs {', '.join(lacking)}, which this {type(batch).__name__} lacks: pass the "
            "log-probabilities under that policy, or drop the term that measures from it."
        )
    return {name: x for name in wanted if (x := made[name]) is not None}


def source(function: fx.GraphModule, name: str = "loss_and_gradient") -> str:
    """An exported function as the text of a Python module that imports torch and nothing else.

    Args:
        function: of `export`.
        name: of the function in the text.

    Raises:
        ValueError: the objective holds tensors of its own, which a text cannot; or the name is none.

    >>> import geomalign as ga
    >>> print(ga.ops.source(ga.ops.export(ga.recipes.reinforce())).splitlines()[3])
    def loss_and_gradient(policy, mask, drive, counts):
    """
    typed("source", "function", function, fx.GraphModule, "Pass what ga.ops.export returns.")
    if not name.isidentifier() or keyword.iskeyword(name):
        refuse("source", "a name that Python allows for a function.", name=name)
    code = function.graph.python_code("self")
    own = [str(node.target) for node in function.graph.nodes if node.op == "get_attr"]
    if own:
        raise ValueError(
            f"this objective holds {len(own)} tensors of its own, which a text cannot: save the function with "
            "torch.export.save, or pickle it."
        )
    body = "\n".join(line.rstrip() for line in code.src.strip().splitlines())
    numbers = ["from math import inf, nan"] if re.search(r"\b(inf|nan)\b", body) else []
    return "\n".join(["import torch", *numbers, "", "", body.replace("def forward(self, ", f"def {name}(", 1), ""])
