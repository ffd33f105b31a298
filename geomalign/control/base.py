"""The contract of controllers: the stiffness of a rollout, what is observed, and what a checkpoint keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, overload

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.objective import BaseObjective, Objective, Outcome, TermDrives

__all__ = ["Controller"]


class Controller(ABC):
    """Sets the stiffness μ of a run, the factor by which potentials are multiplied, from one rollout to the next.

    Controllers are the only objects here that remember anything, so give every run its own. Equality and `repr` are
    those of the hyper-parameters; the memory is in `state_dict()`.

    >>> import torch, geomalign as ga
    >>> objective, controller = ga.recipes.opo(), ga.AdaptiveStiffness(target=0.02, initial=4.0)
    >>> batch = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    >>> drive = objective.drive(batch)
    >>> bool((controller.stiffen(objective, drive) == drive / 4).all())
    True
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    @abstractmethod
    def stiffness(self) -> Tensor:
        """μ of the coming rollout, a positive 0-dim tensor."""

    def check(self, objective: BaseObjective) -> None:  # noqa: B027 (a schedule measures nothing)
        """Raise a ValueError where the controller cannot measure this objective; by default it can."""

    @abstractmethod
    def observe(self, outcome: Outcome) -> None:
        """Take note of one evaluation that a gradient is computed on. Those of micro-batches and processes add up."""

    @abstractmethod
    def step(self) -> None:
        """End a rollout. Where no process has observed anything since the last call, nothing changes.

        Over several processes this is a collective call, which every process makes: also one that had no rows.
        """

    @abstractmethod
    def readings(self) -> dict[str, Tensor]:
        """What a log shows of the last rollout, 0-dim tensors, without communication."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to continue exactly, for a checkpoint."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""

    @overload
    def stiffen(self, objective: BaseObjective, drive: Tensor) -> Tensor: ...
    @overload
    def stiffen(self, objective: BaseObjective, drive: TermDrives) -> TermDrives: ...
    @overload
    def stiffen(self, objective: BaseObjective, drive: Tensor | TermDrives) -> Tensor | TermDrives: ...
    def stiffen(self, objective: BaseObjective, drive: Tensor | TermDrives) -> Tensor | TermDrives:
        """The drive g/μ, under which the objective acts as if its potential were μ times as stiff.

        φ(u) − (g/μ)·u is 1/μ times μφ(u) − g·u, so the learning rate keeps its meaning. Where the potential has a slope
        φ'(u₀) at the anchor (DPO's link), only the part of the drive in excess of it is divided:
        g → φ'(u₀) + (g − φ'(u₀))/μ. For DPO μ is then a smoothing of the label, whose probability becomes (1 + 1/μ)/2:
        the loss has a minimum for μ > 1 alone, so take `AdaptiveStiffness(…, low=1.0)`.

        Args:
            objective: that the drive is of.
            drive: `objective.drive(rollout)`, or one tensor of your own.

        Returns:
            A drive of the same kind and shapes.
        """
        mu = self.stiffness
        terms = tuple(term for _, term in objective.terms)
        if isinstance(drive, TermDrives):
            return TermDrives(_stiffened(g, mu.to(g), term) for g, term in zip(drive, terms, strict=True))
        # One tensor for a sum is the drive of the terms that samples drive.
        return _stiffened(drive, mu.to(drive), (objective.driven_terms or terms)[0])


def _stiffened(drive: Tensor, mu: Tensor, term: Objective) -> Tensor:
    """φ'(u₀) + (g − φ'(u₀))/μ, with u₀ the coordinate of an event whose policy equals its anchor."""
    if term.anchor is None:
        return drive / mu
    u = term.unit.combine(term.chart(drive.new_zeros(2 if term.unit.paired else 1)))
    rest = term.optimization.mirror(u.expand(drive.shape), drive)
    return rest + (drive - rest) / mu


def across_processes(x: Tensor) -> Tensor:
    """The sum over processes. They exchange pickles: one without rows holds its zeros on another device."""
    if distributed.world_size() == 1:
        return x
    return torch.stack(distributed.everyone(x.cpu())).sum(0).to(x.device)
