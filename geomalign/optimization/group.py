"""Potentials of whole groups: convex functions of the coordinates of all responses to one prompt.

The events stay responses, one coordinate and one drive per row, and the potential of a group is stated as the mean over
its rows of a value that all of them share. So unit, chart, sampling, measure, outcome and every host keep their shapes,
and the formula needs no branch: it asks the optimization slot for the geometry `among(rows)`, which for a potential of
single events is that potential itself and here one that knows the groups. The other design, a unit whose events are
padded `(group, response)` tensors, would change the shape of the drive, of the outcome and of every count, would have
to wait for the device to learn the largest group, and would still need these potentials.

Written as a mean, a group's potential has the scale of an event's: with centred drives an objective of groups has at
the anchor the gradient that every other objective with the same drive has, and groups weigh by their responses. A mean
over prompts instead is the measure's affair. Measures must weigh the responses of one group equally, as all of this
package do.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.check import instance, positive
from geomalign._util.groups import Axis, Pool
from geomalign._util.types import Interval, Locality
from geomalign.batch import Batch
from geomalign.divergences import Divergence, KullbackLeibler
from geomalign.divergences.target import balance
from geomalign.optimization.base import BregmanGeometry, OptimizationGeometry, factor_latex

__all__ = ["GroupGeometry", "GroupPotential"]


class GroupGeometry(OptimizationGeometry):
    """An optimization geometry whose potential couples the responses to one prompt.

    Without a batch the last axis of the tensors is the group. `among(rows)` is the same geometry over the groups of a
    batch, ragged and in any order. `energy`, `potential`, `conjugate` and `gap` give every response its group's value
    per response, so that their mean over the group is that of the group; the sum of `energy` over the rows therefore
    has the derivative `force`. The curvature is a matrix: `curvature` is its diagonal, `curvature_along` its product
    with a direction.

    >>> import torch, geomalign as ga
    >>> potential = ga.GroupPotential()
    >>> u = torch.tensor([1.0, 0.0, 0.0])
    >>> round(potential.mirror(u).sum().item(), 6), potential.locality.name
    (0.0, 'GROUP')
    """

    _groups: Pool | None = None

    @property
    def locality(self) -> Locality:
        return Locality.GROUP

    def among(self, rows: Batch) -> GroupGeometry:
        bound = copy.copy(self)
        object.__setattr__(bound, "_groups", rows.groups())  # no field: what is equal stays equal
        return bound

    def _over(self, function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        """`function(pool, *rows)`, along a dense axis where the groups can be laid out without waiting."""
        if self._groups is None:
            if not rows[0].ndim:
                return self._over(function, *(x[None] for x in rows))[0]
            return function(Axis(rows[0].detach()), *torch.broadcast_tensors(*rows))
        padded = self._groups.padded()
        if padded is None:
            return function(self._groups, *rows)
        return padded.rows(function(padded.axis, *(padded.dense(x) for x in rows)))

    @abstractmethod
    def curvature_along(self, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
        """The derivative of the force along a direction: the product with the matrix of second derivatives."""

    def gap(self, u: Tensor, drive: Tensor) -> Tensor:
        """φ(u) + φ*(g) − ⟨g, u⟩ ≥ 0 of the group, at each of its responses."""
        energy = self.energy(u, drive)
        mean = self._over(lambda pool, x: pool.mean(x).expand_as(x), energy)
        return mean + self.conjugate(drive)

    @property
    def section(self) -> OptimizationGeometry:
        """The geometry of two responses that stand opposite each other, at u and −u under drives g and −g: a function
        of one number, which can be drawn and identified.
        """
        return _BregmanSection(self) if isinstance(self, BregmanGeometry) else _Section(self)


@dataclasses.dataclass(frozen=True)
class GroupPotential(GroupGeometry, BregmanGeometry):
    """The conjugate of a divergence from the uniform distribution over a group, decoupled from the drive.

    φ(u) = max over t ≥ 0 with mean_G t = 1 of mean_G[(t − 1)u − τψ(t)],   ∂φ/∂u_i = t_i − 1,   t = (ψ')⁻¹(u/τ − λ)

    t_i/n is the policy among the responses: the softmax of u/τ for KL (φ = τ log mean_G e^{u/τ} − ū), sparsemax for
    Pearson's χ², entmax for the powers between. With a drive g = n·q − 1 of a target q on the simplex the energy is up
    to a constant the Fenchel–Young loss Ω*(u/τ) − ⟨q, u/τ⟩ times τ, and its force n(p − q) sums to zero over the group:
    no baseline is needed. A sparse member gives no gradient to responses that are below the support of both p and q.
    The equilibrium τψ'(1 + g) is defined up to a common shift, which is taken such that its mean is zero.

    Densities have mean one, whatever the size of the group: α-entmax of scores s with weights that sum to one is the
    member with τ = n^{1−α}.

    Args:
        divergence: ψ, strictly convex.
        temperature: τ, positive, in units of u.

    Raises:
        ValueError: the divergence is none, or the temperature is not positive.

    Source: Blondel, Martins and Niculae, JMLR 2020; Martins and Astudillo 2016 (sparsemax, arXiv 1602.02068); Peters,
    Niculae and Martins 2019 (entmax, arXiv 1905.05702). As the loss of a group of responses: TPO (arXiv 2604.06159) and
    LPO (arXiv 2605.06139).

    >>> import torch, geomalign as ga
    >>> u, drive = torch.tensor([2.0, 0.0, -2.0]), torch.tensor([1.0, 0.0, -1.0])
    >>> ga.GroupPotential().force(u, drive)
    tensor([ 0.6004, -0.6481,  0.0476])
    >>> ga.GroupPotential(ga.PearsonChiSquare()).force(u, drive)
    tensor([ 0.5000, -0.5000,  0.0000])
    """

    divergence: Divergence = KullbackLeibler()
    temperature: float = 1.0

    def __post_init__(self) -> None:
        instance(self, "divergence", self.divergence, Divergence, "KullbackLeibler()")
        positive(self, "in units of the coordinate", temperature=self.temperature)

    def _balance(self, pool: Pool, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u/τ less its mean, the density t and the multiplier λ."""
        s = pool.centred(u / self.temperature)
        return s, *balance(s, None, pool, self.divergence)

    def value(self, u: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor) -> Tensor:
            s, _, multiplier = self._balance(pool, u)
            # As λ + E[ψ*(s − λ)], whose derivative is t − 1 without differentiating ψ at t = 0.
            free = multiplier + pool.mean(pool.keep(self.divergence.conjugate(s - multiplier)))
            return pool.keep((self.temperature * free).expand_as(u))

        return self._over(of, u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self._over(lambda pool, u: pool.keep(self._balance(pool, u)[1] - 1), u)

    def _softness(self, pool: Pool, u: Tensor) -> tuple[Tensor, Tensor]:
        """1/ψ''(t), zero where t is held at zero, and its share of the group's."""
        t = self._balance(pool, u)[1]
        free = t.sign()
        softness = pool.keep(free / self.divergence.curvature(t + (1 - free)))
        total = pool.total(softness)
        return softness, softness / torch.where(total > 0, total, 1)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        def of(pool: Pool, u: Tensor) -> Tensor:
            softness, share = self._softness(pool, u)
            return softness * (1 - share) / self.temperature

        return self._over(of, u)

    def curvature_along(self, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, direction: Tensor) -> Tensor:
            softness, share = self._softness(pool, u)
            return softness * (direction - pool.total(share * pool.keep(direction))) / self.temperature

        return self._over(of, u, direction)

    def _possible(self, pool: Pool, drive: Tensor) -> Tensor:
        """Whether 1 + g is a density, up to rounding."""
        slack = 64 * torch.finfo(drive.dtype).eps * (1 + pool.mean(pool.keep(drive.abs())))
        return (pool.mean(pool.keep(drive)).abs() <= slack) & (pool.max(pool.keep(-drive)) <= 1 + slack)

    def conjugate(self, drive: Tensor) -> Tensor:
        def of(pool: Pool, drive: Tensor) -> Tensor:
            psi = pool.keep(self.divergence.generator((1 + drive).clamp(min=0)))
            value = torch.where(self._possible(pool, drive), self.temperature * pool.mean(psi), torch.inf)
            return value.expand_as(drive)

        return self._over(of, drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        def of(pool: Pool, drive: Tensor) -> Tensor:
            u = self.temperature * self.divergence.mirror((1 + drive).clamp(min=0))
            finite = torch.isfinite(u)
            count = pool.sum(finite.to(u.dtype)).clamp(min=1)
            u = u - pool.sum(torch.where(finite, u, 0)) / count
            return pool.keep(torch.where(self._possible(pool, drive), u, drive.sign() * torch.inf))

        return self._over(of, drive)

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(-1.0)

    def latex(self, u: str, drive: str) -> str:
        tau = factor_latex(self.temperature)
        over = "" if self.temperature == 1 else f"/{self.temperature:g}"
        if self.divergence == KullbackLeibler():
            return rf"{tau}\log\operatorname{{mean}}_G e^{{{u}{over}}}-{u}"
        bound = r"\max_{\operatorname{mean}_G t=1}\operatorname{mean}_G"
        return rf"{bound}\left[(t-1)\,{u}-{tau}\left({self.divergence.latex()}\right)\right]"


class _Section(OptimizationGeometry):
    """A `GroupGeometry` at two opposite responses."""

    def __init__(self, of: GroupGeometry) -> None:
        self.of = of

    def __repr__(self) -> str:
        return f"{self.of!r} of two opposite responses"

    @staticmethod
    def _both(x: Tensor) -> Tensor:
        return torch.stack([x, -x], -1)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        u, drive = torch.broadcast_tensors(u, drive)
        return self.of.energy(self._both(u), self._both(drive))[..., 0]

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        u, drive = torch.broadcast_tensors(u, drive)
        force = self.of.force(self._both(u), self._both(drive))
        return (force[..., 0] - force[..., 1]) / 2

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        u, drive = torch.broadcast_tensors(u, torch.zeros_like(u) if drive is None else drive)
        along = self.of.curvature_along(self._both(u), self._both(drive), self._both(torch.ones_like(u)))
        return (along[..., 0] - along[..., 1]) / 2

    def conjugate(self, drive: Tensor) -> Tensor:
        return self.of.conjugate(self._both(drive))[..., 0]

    def equilibrium(self, drive: Tensor) -> Tensor:
        rest = self.of.equilibrium(self._both(drive))
        return (rest[..., 0] - rest[..., 1]) / 2

    @property
    def conjugate_domain(self) -> Interval:
        drives = self.of.conjugate_domain
        return Interval(max(drives.low, -drives.high), min(drives.high, -drives.low))

    def latex(self, u: str, drive: str) -> str:
        return self.of.latex(rf"(\pm {u})", rf"(\pm {drive})")


class _BregmanSection(_Section, BregmanGeometry):
    """A decoupled `GroupGeometry` at two opposite responses."""

    of: BregmanGeometry  # type: ignore[assignment]

    def value(self, u: Tensor) -> Tensor:
        return self.of.value(self._both(u))[..., 0]

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.of.mirror(self._both(u))[..., 0]
