"""A gradient of one potential under the value of another."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from geomalign.numerics import Interval
from geomalign.optimization.geometry import BregmanGeometry, intersection


@dataclasses.dataclass(frozen=True)
class StraightThrough(BregmanGeometry):
    """The value of one potential with the gradient of another: φ_value in the loss, φ'_gradient in the law.

    Which divergence a leash pulls by is decided by its gradient; its value is only reported. Everything but `value` and
    `energy` is `gradient`'s.

    Args:
        shown: the geometry that is reported, such as ReverseKL() (k3).
        gradient: the geometry that acts, such as ChiSquare() (k2).

    Source: the "k3+" option of trainers (verl `kl_penalty`), after Tang & Munos 2025 (arXiv 2506.09477).
    """

    shown: BregmanGeometry
    gradient: BregmanGeometry

    def __post_init__(self) -> None:
        for name in ("shown", "gradient"):
            if not isinstance(getattr(self, name), BregmanGeometry):
                raise ValueError(f"StraightThrough({name}=…): expected a BregmanGeometry instance such as ReverseKL().")

    def value(self, u: Tensor) -> Tensor:
        acting = self.gradient.value(u)
        return self.shown.value(u).detach() + acting - acting.detach()

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.gradient.mirror(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.gradient.curvature(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return self.gradient.conjugate(drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return self.gradient.equilibrium(drive)

    @property
    def domain(self) -> Interval:
        return intersection((self.shown, self.gradient))

    @property
    def drives(self) -> Interval:
        return self.gradient.drives

    def latex(self, u: str, drive: str) -> str:
        return rf"{self.shown.latex(u, drive)}\ \left[\nabla: {self.gradient.latex(u, drive)}\right]"
