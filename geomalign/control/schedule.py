"""Stiffness from a schedule over the rollouts of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomalign._util.check import integer, positive
from geomalign.control.base import Controller, across_processes
from geomalign.objective import Outcome

__all__ = ["Annealed", "Geometric"]


class Annealed(Controller):
    """μ from a schedule over a number of rollouts, constant after them.

    Args:
        schedule: any function of the progress, 0 at the first and 1 at the last rollout, to a positive μ, such as
            `Geometric(1.0, 10.0)` or `lambda progress: 1 + 9 * progress`.
        rollouts: how many the schedule spans, at least 1.

    Raises:
        ValueError: there is no rollout, or μ is not positive at the first or the last.

    >>> float(Annealed(Geometric(1.0, 100.0), rollouts=3).stiffness)
    1.0
    """

    def __init__(self, schedule: Callable[[float], float], rollouts: int):
        integer("Annealed", 1, "the number of rollouts that the schedule spans", rollouts=rollouts)
        for name, progress in (("first", 0.0), ("last", 1.0)):
            positive(
                "Annealed", f"the stiffness of the {name} rollout", **{f"schedule({progress:g})": schedule(progress)}
            )
        self.schedule, self.rollouts = schedule, rollouts
        self._done, self._seen, self._used = 0, False, schedule(0.0)

    def __repr__(self) -> str:
        return f"Annealed({self.schedule!r}, {self.rollouts})"

    @property
    def stiffness(self) -> Tensor:
        last = max(self.rollouts - 1, 1)
        return torch.tensor(self.schedule(min(self._done / last, 1.0)), dtype=torch.float64)

    def observe(self, outcome: Outcome) -> None:
        self._seen = True

    def step(self) -> None:
        if across_processes(torch.tensor(float(self._seen))) > 0:
            self._used, self._done = float(self.stiffness), self._done + 1
        self._seen = False

    def readings(self) -> dict[str, Tensor]:
        """`stiffness`: the μ of the last rollout, or of the coming one before there was any."""
        return {"stiffness": torch.tensor(self._used, dtype=torch.float64)}

    def state_dict(self) -> dict[str, Any]:
        return {"done": self._done, "seen": self._seen, "used": self._used}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._done, self._seen, self._used = int(state["done"]), bool(state["seen"]), float(state["used"])


@dataclasses.dataclass(frozen=True)
class Geometric:
    """The schedule start·(stop/start)^progress, which moves by equal factors.

    Args:
        start: the value at progress 0, positive.
        stop: the value at progress 1, positive.

    Raises:
        ValueError: an end is not positive.

    >>> Geometric(1.0, 100.0)(0.5)
    10.0
    """

    start: float
    stop: float

    def __post_init__(self) -> None:
        positive(self, start=self.start, stop=self.stop)

    def __call__(self, progress: float) -> float:
        return float(self.start * (self.stop / self.start) ** progress)
