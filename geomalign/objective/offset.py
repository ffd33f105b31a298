"""What the published value of a loss adds to the energy: constants without gradient, and nothing else."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from geomalign.optimization import OptimizationGeometry

__all__ = ["FenchelYoung", "Offset", "NoOffset", "Surrogate"]


class Offset(ABC):
    """A function of the drive alone, by which a published value differs from φ(u, g) − g·u."""

    @abstractmethod
    def __call__(self, optimization: OptimizationGeometry, drive: Tensor) -> Tensor:
        """The constant of every event, in the shape of the drive."""

    @abstractmethod
    def latex(self, u: str, drive: str, potential: str) -> str:
        """The published value of one event."""


def _energy(u: str, drive: str, potential: str) -> str:
    if drive == "0":
        return potential
    return f"-{drive}\\,{u}" if potential == "0" else f"{potential}-{drive}\\,{u}"


@dataclasses.dataclass(frozen=True)
class NoOffset(Offset):
    """Nothing: the value is the energy φ(u, g) − g·u itself (REINFORCE, DPO, OPO)."""

    def __call__(self, optimization: OptimizationGeometry, drive: Tensor) -> Tensor:
        return torch.zeros_like(drive)

    def latex(self, u: str, drive: str, potential: str) -> str:
        return _energy(u, drive, potential)


@dataclasses.dataclass(frozen=True)
class Surrogate(Offset):
    """−g: in the ratio chart u = t − 1, so that the linear term reads −A·t, the importance-weighted surrogate (PPO
    and its kin).
    """

    def __call__(self, optimization: OptimizationGeometry, drive: Tensor) -> Tensor:
        return -drive

    def latex(self, u: str, drive: str, potential: str) -> str:
        return _energy(f"(1+{u})", drive, potential)


@dataclasses.dataclass(frozen=True)
class FenchelYoung(Offset):
    """φ*(g): the value is the Fenchel–Young loss, the completed square for χ². Never negative, zero at equilibrium
    (IPO).
    """

    def __call__(self, optimization: OptimizationGeometry, drive: Tensor) -> Tensor:
        return optimization.conjugate(drive)

    def latex(self, u: str, drive: str, potential: str) -> str:
        return _energy(u, drive, potential) + rf"+\varphi^*({drive})"
