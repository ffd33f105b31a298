"""Whether two hyper-parameters act on different things: cross-derivatives, measured."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch
from geomalign.objective import Objective


def derivative(function: Callable[[float], Tensor], at: float, step: float = 1e-2) -> Tensor:
    """d function/d at by central differences at four steps, extrapolated (Richardson): error O(step⁸) and
    rounding/step."""
    table = []
    for k in range(4):
        h = step / 2**k
        table.append((function(at + h) - function(at - h)) / (2 * h))
    for order in range(1, 4):
        table = [(4**order * b - a) / (4**order - 1) for a, b in itertools.pairwise(table)]
    return table[0]


def cross_derivative(
    function: Callable[[float, float], Tensor], first: float, second: float, *, step: float = 1e-2
) -> Tensor:
    """∂²/∂a∂b of a function of two hyper-parameters, by extrapolated central differences; any shape.

    Zero where one parameter does not change what the other does.

    Args:
        function: of two numbers, a tensor; defined `step` around them.
        first, second: where.
        step: of the widest difference.
    """
    return derivative(lambda a: derivative(lambda b: function(a, b), second, step), first, step)


@dataclasses.dataclass(frozen=True, eq=False)
class Decoupling:
    """What each hyper-parameter of an objective moves, on given events: the drive (first order), the curvature
    (second).

    Args:
        drive: by name, ∂g/∂parameter, in the shape of the drive.
        curvature: by name, ∂φ''(u, g)/∂parameter at fixed coordinates u, in the shape of the events.
        scale: sizes of drive and curvature that changes are compared with.
    """

    drive: dict[str, Tensor]
    curvature: dict[str, Tensor]
    scale: tuple[float, float]

    def moves(self, name: str, *, tolerance: float = 1e-7) -> tuple[bool, bool]:
        """Whether a parameter moves the drive, and whether it moves the curvature."""
        return (
            float(self.drive[name].abs().max()) > tolerance * self.scale[0],
            float(self.curvature[name].abs().max()) > tolerance * self.scale[1],
        )

    @property
    def decoupled(self) -> bool:
        """Whether no parameter moves both."""
        return not any(all(self.moves(name)) for name in self.drive)


def decoupling(
    recipe: Callable[..., Objective], batch: Batch | PreferenceBatch, *, step: float = 1e-2, **parameters: float
) -> Decoupling:
    """Measure which hyper-parameters of a recipe move the drive and which the curvature, on the events of a batch.

    OPO's α moves the drive alone and μ the curvature alone; DPO's β moves both at once. This is a statement about the
    chart: in the parameters of a policy, ∇²u carries the drive into the Hessian (see `in_logits`).

    Args:
        recipe: of numbers, giving an objective of one term: `ga.recipes.opo`.
        batch: with what the recipe's drive needs.
        step: of the widest difference; the parameters must be allowed to move by it.
        parameters: to vary, at their values.

    Raises:
        ValueError: no parameter is given.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> x = torch.linspace(-1.0, 1.0, 4, dtype=torch.float64)[:, None]
    >>> batch = ga.Batch(x, torch.zeros_like(x), reward=torch.tensor([1.0, 0.0, 0.5, 0.2], dtype=torch.float64))
    >>> found = analysis.decoupling(ga.recipes.opo, batch, alpha=0.4, mu=1.0)
    >>> found.moves("alpha"), found.moves("mu"), found.decoupled
    ((True, False), (False, True), True)
    """
    if not parameters:
        raise ValueError("decoupling(recipe, batch, …): name at least one parameter with its value, such as alpha=0.4.")

    def parts(**values: float) -> tuple[Tensor, Tensor]:
        objective = recipe(**values)
        with torch.no_grad():
            drive = objective.drive(batch)
            outcome = objective(batch, drive=drive)
            return drive, outcome.curvature

    drives, curvatures = {}, {}
    for name, value in parameters.items():

        def vary(x: float, which: int, name: str = name) -> Tensor:
            return parts(**{**parameters, name: x})[which]

        h = step * max(abs(value), 1e-3)
        drives[name] = derivative(lambda x: vary(x, 0), value, h)
        curvatures[name] = derivative(lambda x: vary(x, 1), value, h)
    drive, curvature = parts(**parameters)
    # A relative change: the sizes are those at the point, and at least tiny where one of them vanishes.
    sizes = tuple(float(x.abs().max().clamp(min=1e-12)) for x in (drive, curvature))
    return Decoupling(drives, curvatures, (sizes[0], sizes[1]))
