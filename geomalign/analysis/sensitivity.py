"""How the drive and the curvature of an objective depend on its hyper-parameters, by differences."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch
from geomalign.objective import Objective


def _derivative(function: Callable[[float], Tensor], at: float, step: float) -> Tensor:
    """Richardson's extrapolation of central differences at four steps: error O(step⁸) and rounding/step."""
    steps = [step / 2**k for k in range(4)]
    table = [(function(at + h) - function(at - h)) / (2 * h) for h in steps]
    for order in range(1, 4):
        table = [(4**order * b - a) / (4**order - 1) for a, b in itertools.pairwise(table)]
    return table[0]


def cross_derivative(
    function: Callable[[float, float], Tensor], first: float, second: float, *, step: float = 1e-2
) -> Tensor:
    """∂²f/∂a∂b of a function of two hyper-parameters, by extrapolated central differences.

    It is zero where one parameter does not change what the other does.

    Args:
        function: of two numbers, a tensor of any shape; defined within `step` around them.
        first, second: the values a and b at which it is differentiated.
        step: of the widest difference, positive.

    >>> import torch
    >>> from geomalign import analysis
    >>> x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    >>> analysis.cross_derivative(lambda a, b: a**2 * b * x + b**3, 0.5, 1.0).round(decimals=6)
    tensor([1., 2.], dtype=torch.float64)
    """
    return _derivative(lambda a: _derivative(lambda b: function(a, b), second, step), first, step)


@dataclasses.dataclass(frozen=True, eq=False)
class Decoupling:
    """Derivatives of the drive and of the curvature of given events in every hyper-parameter of an objective.

    Args:
        drive: by name, ∂g/∂parameter, in the shape of the drive.
        curvature: by name, ∂φ''(u, g)/∂parameter at fixed coordinates u, in the shape of the events.
        scale: sizes of drive and curvature that changes are compared with.

    >>> import torch
    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> Decoupling({"alpha": one, "mu": zero}, {"alpha": zero, "mu": one}, (1.0, 1.0)).decoupled
    True
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
    """Measures which hyper-parameters of a recipe move the drive and which the curvature, on the events of a batch.

    OPO's α moves the drive alone and μ the curvature alone; DPO's β moves both at once. The curvature is that in the
    chart: in the parameters of a policy, ∇²u carries the drive into the Hessian (see `in_logits`).

    Args:
        recipe: of numbers, giving an objective of one term: `ga.recipes.opo`.
        batch: with what the recipe's drive needs.
        step: of the widest difference, relative to a parameter's size, which must allow it.
        parameters: by name, the values around which they vary.

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
        drives[name] = _derivative(lambda x: vary(x, 0), value, h)
        curvatures[name] = _derivative(lambda x: vary(x, 1), value, h)
    drive, curvature = parts(**parameters)
    # Changes are compared with the sizes at the point; the bound keeps the comparison defined where one vanishes.
    sizes = tuple(float(x.abs().max().clamp(min=1e-12)) for x in (drive, curvature))
    return Decoupling(drives, curvatures, (sizes[0], sizes[1]))
