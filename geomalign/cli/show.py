"""An objective as text: the formula, its slots, what its geometry does, and which hyper-parameter moves what."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from geomalign.objective import BaseObjective, Objective

SLOTS = ("unit", "chart", "sampling", "optimization", "measure", "anchor", "offset")
STEP = 1.1  # factor by which a hyper-parameter is changed to see which slots it moves


def short(part: object) -> str:
    """A slot's value as code, without the arguments that have their defaults.

    >>> from geomalign import Escort, LogRatio
    >>> short(LogRatio(scale=1.0)), short(Escort(alpha=0.4, temperature=2.0))
    ('LogRatio()', 'Escort(alpha=0.4, temperature=2.0)')
    """
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return str(part)
    if not dataclasses.fields(part) or not repr(part).startswith(f"{type(part).__name__}("):
        return repr(part)
    given = []
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if field.repr and (field.default is dataclasses.MISSING or value != field.default):
            given.append(f"{field.name}={short(value) if dataclasses.is_dataclass(value) else repr(value)}")
    return f"{type(part).__name__}({', '.join(given)})"


def _grid(*header: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(header))
    for name in header:
        table.add_column(name, overflow="fold")
    return table


def _recipe(name: str) -> Callable[..., BaseObjective] | None:
    from geomalign import recipes

    return getattr(recipes, name) if name in recipes.names() else None


def _first_paragraph(name: str) -> str:
    return " ".join((inspect.getdoc(_recipe(name)) or "").split("\n\n")[0].split())


def names_table() -> Table:
    """Every recipe with the first paragraph of what it says of itself."""
    from geomalign import recipes

    table = _grid("recipe", "loss")
    for name in recipes.names():
        table.add_row(name, Text(_first_paragraph(name)))
    return table


def slots_table() -> Table:
    """Every recipe with the slots that it fills at its defaults."""
    from geomalign import recipes
    from geomalign.objective import UnboundedLossWarning

    table = _grid("recipe", *SLOTS[:6], "decoupled")
    for name in recipes.names():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnboundedLossWarning)
            objective = recipes.get(name)
        for i, (coefficient, term) in enumerate(objective.terms):
            title = name if i == 0 else f"+ {coefficient:g} ×"
            cells = (Text(short(getattr(term, slot))) for slot in SLOTS[:6])
            table.add_row(title, *cells, "yes" if objective.decoupled else "no")
    return table


def description(name: str, objective: BaseObjective, hyper: Mapping[str, Any]) -> Table:
    """All that can be said of an objective without data, but its formula.

    Args:
        name: how it was asked for.
        objective: it.
        hyper: the hyper-parameters that it was built with, where they were not the defaults.
    """
    table = _grid()
    table.add_column(style="bold", no_wrap=True, min_width=15)
    table.add_column(overflow="fold")

    def say(key: str, value: str) -> None:
        table.add_row(key, Text(value))

    say("objective", name)
    if text := _first_paragraph(name):
        say("", text)
    for key, value in zip(("hyper-parameters", ""), _moved(name, hyper)):
        say(key, value)
    say("decoupled", _decoupled(objective))
    say("gradient law", f"∂L/∂log π of a token: {_LOCALITY[objective.locality.name]}")
    for coefficient, term in objective.terms:
        say("", "")
        if len(objective.terms) > 1:
            say("term", f"{coefficient:g} ×")
        for slot in SLOTS:
            say(f"  {slot}", str(getattr(term, slot)))
        for key, value in _geometry(term):
            say(f"  {key}", value)
    return table


_LOCALITY = {
    "ROLLOUT": "known before the forward pass",
    "TOKEN": "needs that token's log-probability",
    "SEQUENCE": "needs the whole response",
    "GROUP": "needs the responses that it is compared with",
    "BATCH": "needs the whole batch",
}


def _moved(name: str, hyper: Mapping[str, Any]) -> Iterator[str]:
    """The hyper-parameters with their values, then what each number moves, found by changing it a little."""
    recipe = _recipe(name)
    if recipe is None:
        return
    parameters = inspect.signature(recipe).parameters
    values = {key: hyper.get(key, parameter.default) for key, parameter in parameters.items()}
    yield ", ".join(f"{key}={value!r}" for key, value in values.items()) or "none"
    here = recipe(**values)
    moves = []
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        there = _nudged(recipe, values, key)
        if there is None:
            continue
        slots = [
            slot
            for slot in SLOTS
            if any(getattr(a, slot) != getattr(b, slot) for (_, a), (_, b) in zip(here.terms, there.terms))
        ]
        if [c for c, _ in here.terms] != [c for c, _ in there.terms]:
            slots.append("a coefficient")
        moves.append(f"{key} moves {' and '.join(slots) or 'nothing here'}")
    if moves:
        yield "; ".join(moves)


def _nudged(recipe: Callable[..., BaseObjective], values: Mapping[str, Any], key: str) -> BaseObjective | None:
    """The recipe with one number changed; None where no change is allowed."""
    value = values[key]
    for other in (value * STEP, value / STEP) if value else (0.01, -0.01):
        try:
            return recipe(**{**values, key: type(value)(other) if isinstance(value, float) else value + 1})
        except ValueError:
            continue
    return None


def _decoupled(objective: BaseObjective) -> str:
    from geomalign.optimization import BregmanGeometry

    coupled = [t.optimization for _, t in objective.terms if not isinstance(t.optimization, BregmanGeometry)]
    if not coupled:
        return "yes: ∂L/∂u = φ'(u) − g with a potential φ free of the drive g, so its curvature is free of g too"
    named = " and ".join(map(short, coupled))
    return f"no: {named} resists by the drive g, or not by a convex potential of the coordinate alone"


def _geometry(term: Objective) -> Iterator[tuple[str, str]]:
    """Curvature and equilibrium, measured at drives of −1 and 1, or at the one drive that the sampling gives."""
    import torch

    pulls, geometry = term.sampling.drive_range, term.optimization
    drives = torch.tensor([pulls.low] if pulls.low == pulls.high else [-1.0, 1.0], dtype=torch.float64)
    u = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64)
    values = torch.stack([geometry.curvature(u, g.expand_as(u)) for g in drives])
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9 * max(1.0, abs(high)):
        yield "curvature", f"φ'' = {high:.4g} for |u| ≤ 1/2" + ("" if term.decoupled else ", and walls where it clips")
    else:
        yield "curvature", f"φ''(0) = {float(values[-1][50]):.4g}; {low:.4g} to {high:.4g} for |u| ≤ 1/2"
    rest = geometry.equilibrium(drives)
    yield "equilibrium", ", ".join(f"u* = {float(r):.4g} at g = {float(g):.4g}" for g, r in zip(drives, rest))
    yield "balances", f"drives from {geometry.conjugate_domain.low:g} to {geometry.conjugate_domain.high:g}"
