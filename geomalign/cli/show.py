"""An objective as text: its formula, its slots, its geometry, and which hyper-parameter changes which slot."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from geomalign._util.words import short

if TYPE_CHECKING:
    from torch import Tensor

    from geomalign.objective import BaseObjective, Objective
    from geomalign.optimization import BregmanGeometry, OptimizationGeometry

STEP = 1.1  # factor by which a hyper-parameter is changed to see which slots it moves


def _grid(*header: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(header))
    for name in header:
        table.add_column(name, overflow="fold")
    return table


def _recipe(name: str) -> Callable[..., BaseObjective] | None:
    """The function behind a name; None where the name is that of an objective."""
    from geomalign.objective import BaseObjective
    from geomalign.recipes.lookup import builder

    found = builder(name)
    return None if isinstance(found, BaseObjective) else found


def _first_paragraph(name: str) -> str:
    return " ".join((inspect.getdoc(_recipe(name)) or "").split("\n\n")[0].split())


def _offered() -> dict[str, str]:
    """Every recipe's name and its title: that of another package is followed by the package."""
    from geomalign import recipes
    from geomalign.recipes import plugins

    ours = {name: name for name in recipes.names()}
    others = {p.name: f"{p.name} ({p.distribution})" for p in plugins.found() if not p.error}
    return ours | {name: title for name, title in others.items() if name not in ours}


def names_table() -> Table:
    """Every recipe, of this library and of other packages, with the first paragraph of its docstring.

    >>> from geomalign import recipes
    >>> names_table().row_count >= len(recipes.names())
    True
    """
    table = _grid("recipe", "loss")
    for name, title in _offered().items():
        table.add_row(Text(title), Text(_first_paragraph(name)))
    return table


def slots_table() -> Table:
    """Every recipe of the list with the slots that it fills at its defaults, one row per term.

    >>> [column.header for column in slots_table().columns][:3]
    ['recipe', 'unit', 'chart']
    """
    from geomalign import recipes
    from geomalign.objective import SLOTS, UnboundedLossWarning

    table = _grid("recipe", *SLOTS, "anchor", "decoupled")
    for name, title in _offered().items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnboundedLossWarning)
                objective = recipes.get(name)
        except ValueError:  # of another package; `geomalign show` says why
            table.add_row(Text(title), "cannot be built")
            continue
        for i, (coefficient, term) in enumerate(objective.terms):
            first = title if i == 0 else f"+ {coefficient:g} ×"
            cells = (Text(short(getattr(term, slot))) for slot in (*SLOTS, "anchor"))
            table.add_row(Text(first), *cells, "yes" if objective.decoupled else "no")
    return table


def description(name: str, objective: BaseObjective, hyper: Mapping[str, Any]) -> Table:
    """What is known of an objective without data, except its formula: slots, hyper-parameters and geometry.

    Args:
        name: a recipe or `module:attribute`.
        objective: the objective of that name.
        hyper: the hyper-parameters that it was built with, where they were not the defaults.

    >>> import geomalign as ga
    >>> description("opo", ga.recipes.opo(mu=2.0), {"mu": 2.0}).row_count > 10
    True
    """
    from geomalign.objective import SLOTS

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
    say("gradient", f"∂L/∂log π of a token: {_LOCALITY[objective.locality.name]}")
    for coefficient, term in objective.terms:
        say("", "")
        if len(objective.terms) > 1:
            say("term", f"{coefficient:g} ×")
        for slot in (*SLOTS, "anchor", "offset"):
            say(f"  {slot}", str(getattr(term, slot)))
        for key, value in (*_geometry(term), *_numbers(term)):
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
    """The hyper-parameters with their values, then the slots that each number changes when it is changed a little."""
    from geomalign import recipes
    from geomalign.objective import SLOTS

    recipe = _recipe(name)
    if recipe is None:
        return
    parameters = inspect.signature(recipe).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    values = {**defaults, **hyper}
    yield ", ".join(f"{key}={value!r}" for key, value in values.items()) or "none"
    here = recipes.get(name, **values)
    moves = []
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        there = _nudged(name, values, key)
        if there is None or len(here.terms) != len(there.terms):
            continue
        slots = [
            slot
            for slot in (*SLOTS, "anchor", "offset")
            if any(getattr(a, slot) != getattr(b, slot) for (_, a), (_, b) in zip(here.terms, there.terms))
        ]
        if [c for c, _ in here.terms] != [c for c, _ in there.terms]:
            slots.append("a coefficient")
        moves.append(f"{key} moves {' and '.join(slots) or 'nothing here'}")
    if moves:
        yield "; ".join(moves)


def _nudged(name: str, values: Mapping[str, Any], key: str) -> BaseObjective | None:
    """The recipe with one number changed a little, up or down; None where both are refused."""
    from geomalign import recipes

    value = values[key]
    for other in (value * STEP, value / STEP) if value else (0.01, -0.01):
        with contextlib.suppress(ValueError):
            return recipes.get(name, **{**values, key: other if isinstance(value, float) else value + 1})
    return None


def _decoupled(objective: BaseObjective) -> str:
    from geomalign.optimization import BregmanGeometry

    coupled = [t.optimization for _, t in objective.terms if not isinstance(t.optimization, BregmanGeometry)]
    if not coupled:
        return "yes: ∂L/∂u = φ'(u) − g, and neither the potential φ nor its curvature depends on the drive g"
    named = " and ".join(map(short, coupled))
    return f"no: the resistance of {named} depends on the drive g, or is not that of a convex potential of u alone"


def _geometry(term: Objective) -> Iterator[tuple[str, str]]:
    """Curvature and equilibrium at drives of −1 and 1, or at the only drive that the sampling can give."""
    import torch

    from geomalign.optimization import BregmanGeometry

    pulls, geometry = term.sampling.drive_range, term.optimization.section
    drives = torch.tensor([pulls.low] if pulls.low == pulls.high else [-1.0, 1.0], dtype=torch.float64)
    u = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64)
    values = torch.stack([geometry.curvature(u, g.expand_as(u)) for g in drives])
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9 * max(1.0, abs(high)):
        yield "curvature", f"φ'' = {high:.4g} for |u| ≤ 1/2" + _walls(geometry, drives)
    else:
        at_anchor = float(values[-1][50])
        at_anchor = at_anchor if abs(at_anchor) > 1e-12 * max(abs(low), abs(high)) else 0.0
        yield "curvature", f"φ''(0) = {at_anchor:.4g}; {low:.4g} to {high:.4g} for |u| ≤ 1/2" + _walls(geometry, drives)
    if isinstance(geometry, BregmanGeometry) and (bent := _bent_back(geometry)) is not None:
        yield "convex", f"no: φ' falls at u = {bent:.3g}, so that what follows from a convex potential does not hold"
        found = [f"φ' = {g:.4g} at u = {_reached(geometry, g):.4g}" for g in drives.tolist()]
        yield "equilibrium", f"none is stated; nearest to the anchor {', '.join(found)}"
        return
    rest = geometry.equilibrium(drives)
    yield "equilibrium", ", ".join(f"u* = {float(r):.4g} at g = {float(g):.4g}" for g, r in zip(drives, rest))
    yield "balances", f"drives from {geometry.conjugate_domain.low:g} to {geometry.conjugate_domain.high:g}"


def _numbers(term: Objective) -> Iterator[tuple[str, str]]:
    """How far a pull of one carries an event, and the numbers of other objectives that carry it as far."""
    import math

    from geomalign import analysis

    found, pulls = analysis.reach(term), term.sampling.drive_range
    bent, rest = (x if 0 < x < math.inf else None for x in (found.curvature, found.target))
    if bent is None and rest is None:
        return
    event = "a pair" if term.unit.paired else "a token" if term.unit.per_token else "a response, as its unit reads it,"
    at = f"g = {pulls.low:g}" if pulls.low == pulls.high else "g = ±1"
    by = [f"{bent:.4g} nats by the curvature at the anchor"] if bent else ["no resistance at the anchor"]
    by.append(f"|t − 1| = {rest:.4g} where it balances the pull" if rest else "nowhere a balance")
    yield "reach", f"of {event} at {at}: {'; '.join(by)}"
    if term.unit.paired:
        near = bent or math.log1p(rest or 0.0)
        yield "in other numbers", f"β = {2 / near:.4g} (DPO), τ = {1 / (2 * near):.4g} (IPO)"
        return
    # The χ² radius of log-ratios ±x is 2c(c − 1) with c = cosh x.
    far = math.cosh(min(bent or 0.0, 300.0))
    wide = rest or math.sqrt(2 * far * (far - 1))
    near = bent or math.acosh((1 + math.sqrt(1 + 2 * wide**2)) / 2)
    said = f"ε = {wide:.4g} (a clip of the ratio), μ = {1 / near:.4g} (χ² in the log-ratio)"
    if term.unit.per_token:
        said += f"; of the mean over 1,000 tokens ε = {wide / math.sqrt(1000):.2g} by the scale of its noise"
    yield "in other numbers", said


def _walls(geometry: OptimizationGeometry, drives: Tensor) -> str:
    """Where the force jumps for |u| ≤ 1/2, which no second derivative shows: at the walls of a clip."""
    import torch

    u = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64)
    found = {}
    for g in drives:
        force = geometry.force(u, g.expand_as(u))
        smooth = geometry.curvature(u, g.expand_as(u)).abs()
        jump = force.diff().abs() - 2 * torch.maximum(smooth[1:], smooth[:-1]) * u.diff() > 1e-6 * (1 + g.abs())
        for k in jump.nonzero().flatten().tolist():
            below, above = float(u[k]), float(u[k + 1])
            for _ in range(50):  # the jump is on one side of the middle or on the other
                middle = (below + above) / 2
                here = geometry.force(torch.tensor(middle, dtype=torch.float64), g)
                moved = (here - force[k]).abs() > (here - force[k + 1]).abs()
                below, above = (below, middle) if moved else (middle, above)
            found[f"u = {above:.4g}"] = f" (g = {float(g):g})"
    if not found:
        return ""
    places = ", ".join(place + (drive if len(drives) > 1 else "") for place, drive in found.items())
    return f", except at a wall, where φ' jumps: {places}"


def _reach(geometry: OptimizationGeometry) -> Tensor:
    """Coordinates of the domain from the anchor outwards, dense near it and up to |u| = 100."""
    import torch

    side = torch.logspace(-3, 2, 251, dtype=torch.float64)
    u = torch.cat([-side.flip(0), torch.zeros(1, dtype=torch.float64), side])
    return u[(u > geometry.domain.low) & (u < geometry.domain.high)]


def _bent_back(geometry: BregmanGeometry) -> float | None:
    """The first coordinate beyond which the mirror falls, by more than rounding; None of a convex potential."""
    u = _reach(geometry)
    mirror = geometry.mirror(u)
    falls = mirror.diff() < -1e-9 * (1 + mirror[1:].abs())
    places = u[1:][falls]
    return float(places[places.abs().argmin()]) if len(places) else None


def _reached(geometry: BregmanGeometry, drive: float) -> float:
    """The coordinate nearest to the anchor at which the mirror is closest to a drive."""
    import torch
    from scipy.optimize import minimize_scalar

    def miss(u: float) -> float:
        return abs(float(geometry.mirror(torch.tensor(u, dtype=torch.float64))) - drive)

    u = _reach(geometry)
    misses = [miss(x) for x in u.tolist()]
    k = min(range(len(misses)), key=lambda k: (round(misses[k], 3), abs(float(u[k]))))
    ends = float(u[max(k - 1, 0)]), float(u[min(k + 1, len(u) - 1)])
    return float(minimize_scalar(miss, bounds=ends, method="bounded", options={"xatol": 1e-9}).x)
