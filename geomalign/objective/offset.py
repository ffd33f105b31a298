"""Offsets without gradient, which make the value of an objective equal to the published one."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from geomalign.optimization import OptimizationGeometry

__all__ = ["FenchelYoung", "Offset", "NoOffset", "Surrogate"]


class Offset(ABC):
    """A function of the drive alone, by which a published value differs from the energy φ(u, g) − g·u.

    It changes no gradient, and so no training: it serves comparisons with published code.

    >>> import torch, geomalign as ga
    >>> [offset(ga.ChiSquare(2.0), torch.tensor([2.0])) for offset in (NoOffset(), Surrogate(), FenchelYoung())]
    [tensor([0.]), tensor([-2.]), tensor([1.])]
    """

    @abstractmethod
    def __call__(self, optimization: OptimizationGeometry, drive: Tensor) -> Tensor:
        """The offset of every event, in the shape of the drive."""

    @abstractmethod
    def latex(self, u: str, drive: str, potential: str) -> str:
        """The published value of one event."""


def _energy(u: str, drive: str, potential: str) -> str:
    if drive == "0":
        return potential
    return f"-{drive}\\,{u}" if potential == "0" else f"{potential}-{drive}\\,{u}"


@dataclasses.dataclass(frozen=True)
class NoOffset(Offset):
    r"""No offset: the value is the energy φ(u, g) − g·u itself (REINFORCE, DPO, OPO).

    >>> print(NoOffset().latex("u", "g", "u^2"))
    u^2-g\,u
    """

    def __call__(self, optimization: OptimizationGeometry, drive: Tensor) -> Tensor:
        return torch.zeros_like(drive)

    def latex(self, u: str, drive: str, potential: str) -> str:
        return _energy(u, drive, potential)


@dataclasses.dataclass(frozen=True)
class Surrogate(Offset):
    r"""−g: in the ratio chart u = t − 1 the linear term then reads −A·t, the importance-weighted surrogate of PPO.

    >>> print(Surrogate().latex("u", "g", "u^2"))
    u^2-g\,(1+u)
    """

    def __call__(self, optimization: OptimizationGeometry, drive: Tensor) -> Tensor:
        return -drive

    def latex(self, u: str, drive: str, potential: str) -> str:
        return _energy(f"(1+{u})", drive, potential)


@dataclasses.dataclass(frozen=True)
class FenchelYoung(Offset):
    """φ*(g): the value is the Fenchel–Young loss, never negative and zero at equilibrium; the square of IPO.

    >>> import torch, geomalign as ga
    >>> ga.recipes.ipo(tau=0.5).offset
    FenchelYoung()
    """

    def __call__(self, optimization: OptimizationGeometry, drive: Tensor) -> Tensor:
        return optimization.conjugate(drive)

    def latex(self, u: str, drive: str, potential: str) -> str:
        return _energy(u, drive, potential) + rf"+\varphi^*({drive})"
