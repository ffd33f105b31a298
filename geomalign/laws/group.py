"""Laws of the optimization geometries that couple the responses of a group."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util.types import Locality
from geomalign.batch import Batch
from geomalign.laws.checking import Cases, equal, gradient_of, holds, law
from geomalign.optimization import BregmanGeometry, OptimizationGeometry


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Responses to several prompts, in mixed order, with a last row that has no token: coordinates and drives."""

    rows: int
    seed: int = 0

    def __call__(self) -> tuple[Batch, Tensor, Tensor]:
        """Rows, coordinates and drives; the drives are targets on the simplex of each group, n·q − 1."""
        generator = torch.Generator().manual_seed(self.seed)
        u, scores = torch.randn(2, self.rows, generator=generator, dtype=torch.float64)
        group = torch.randint(3, (self.rows,), generator=generator)
        mask = torch.ones(self.rows, 1, dtype=torch.bool)
        mask[-1] = False
        batch = Batch(torch.zeros(self.rows, 1, dtype=torch.float64), None, mask, group=group)
        groups = batch.groups()
        weight = groups.keep(scores.exp())
        drive = weight / groups.mean(weight).clamp(min=1e-9) - 1
        return batch, groups.keep(u), groups.keep(drive)

    def __str__(self) -> str:
        return f"ga.laws.group.Ragged({self.rows}, seed={self.seed})()"


def _drawn(geometry: OptimizationGeometry):  # type: ignore[no-untyped-def]
    from hypothesis import strategies

    return strategies.builds(Ragged, strategies.integers(2, 9), strategies.integers(0, 99))


_RAGGED = Cases(lambda geometry: [Ragged(11)], _drawn)


@law("group", _RAGGED)
def the_force_is_the_derivative_of_the_energies(geometry: OptimizationGeometry, case: Ragged) -> None:
    """force = ∂Σ_rows energy/∂u and energy = φ − g·u; a decoupled one has energy_and_force and mirror − g too."""
    batch, u, g = case()
    bound = geometry.among(batch)
    energy, force = bound.energy_and_force(u, g)
    remedy = "Every row has the value of its group, whose derivative is the force divided by the size of the group."
    by_autograd = gradient_of(lambda x: bound.energy(x, g), u)
    equal(force, by_autograd, "force is not the derivative of energy", remedy, u=u, drive=g)
    equal(energy, bound.potential(u, g) - g * u, "energy is not potential − drive·u", remedy, u=u, drive=g)
    equal(force, bound.mirror(u, g) - g, "force is not mirror − drive", remedy, u=u, drive=g)
    if isinstance(geometry, BregmanGeometry):
        equal(bound.mirror(u, g), bound.mirror(u, 0 * g), "the drive changes the mirror", remedy, u=u, drive=g)


@law("group", _RAGGED)
def the_curvature_is_the_matrix_of_the_force(geometry: OptimizationGeometry, case: Ragged) -> None:
    """curvature is the diagonal of ∂force/∂u and curvature_along its product; the matrix is symmetric, of a decoupled
    geometry without negative eigenvalues.
    """
    batch, u, g = case()
    bound = geometry.among(batch)
    matrix = torch.func.jacrev(lambda x: bound.force(x, g))(u)
    direction = torch.linspace(-1, 2, len(u), dtype=torch.float64)
    remedy = "Differentiate force."
    equal(bound.curvature(u, g), matrix.diagonal(), "curvature is not the diagonal", remedy, u=u, drive=g)
    along = bound.curvature_along(u, g, direction)
    equal(along, matrix @ direction, "curvature_along is not the product with the matrix", remedy, u=u, drive=g)
    equal(matrix, matrix.T, "the matrix of second derivatives is not symmetric", remedy)
    if isinstance(geometry, BregmanGeometry):
        holds(torch.linalg.eigvalsh(matrix) >= -1e-9, "the potential is not convex", "It must be convex in all of u.")


@law("group", _RAGGED)
def groups_do_not_see_each_other(geometry: OptimizationGeometry, case: Ragged) -> None:
    """Each group by itself, as the last axis, in another order or with another anywhere, has the same values."""
    batch, u, g = case()
    names = ("energy", "force", "curvature", "gap")
    bound = geometry.among(batch)
    whole = {name: getattr(bound, name)(u, g) for name in names}
    whole["equilibrium"] = bound.equilibrium(g)
    there = batch.support.any(-1)
    remedy = "Sum over the groups of `among(rows)` only; rows without tokens are in none."
    for one in torch.as_tensor(batch.group).unique():
        mine = ((batch.group == one) & there).nonzero().flatten().flip(0)
        for name, found in whole.items():
            if len(mine):
                arguments = (g[mine],) if name == "equilibrium" else (u[mine], g[mine])
                equal(found[mine], getattr(geometry, name)(*arguments), f"{name} reads another group", remedy)
    for name in ("energy", "force", "curvature"):
        holds(whole[name][~there] == 0, f"{name} is not zero at a row without tokens", remedy)


@law("group", _RAGGED)
def the_gap_of_a_group_is_a_fenchel_young_loss(geometry: OptimizationGeometry, case: Ragged) -> None:
    """mean_G[φ + φ* − g·u] ≥ 0, and zero at the equilibrium where that is finite."""
    batch, u, g = case()
    bound = geometry.among(batch)
    gap = bound.gap(u, g)
    remedy = "conjugate(g) must be the largest value of mean_G[g·u] − φ(u)."
    holds(gap >= -1e-9, "the Fenchel–Young gap is negative", remedy, gap=gap, u=u, drive=g)
    rest = bound.equilibrium(g)
    if bool(torch.isfinite(rest).all()):
        gap = bound.gap(rest, g)
        equal(gap, torch.zeros_like(gap), "the gap at equilibrium is not zero", remedy, atol=1e-8, drive=g)


@law("group", Cases(lambda geometry: [Ragged(8)]))
def extremes_of_a_group_are_numbers(geometry: OptimizationGeometry, case: Ragged) -> None:
    """Coordinates of ±1e4, drives of one-hot targets, equal coordinates and groups of one are numbers in float32."""
    batch, u, g = case()
    bound, remedy = geometry.among(batch), "Subtract the largest exponent of the group."
    holds(geometry.locality == Locality.GROUP, f"its locality is {geometry.locality.name}", "It is GROUP.")
    groups = batch.groups()
    best = groups.keep((g == groups.max(g)).double())
    hot = groups.keep(best / groups.mean(best).clamp(min=1e-9) - 1)
    for name, x in (("±1e4", 1e4 * u.sign()), ("0", torch.zeros_like(u)), ("±80", 80 * u)):
        for drive in (g, hot):
            energy, force = bound.energy_and_force(x.float(), drive.float())
            curvature = bound.curvature(x.float(), drive.float())
            for what, value in (("energy", energy), ("force", force), ("curvature", curvature)):
                holds(torch.isfinite(value), f"the {what} at coordinates of {name} is not finite", remedy, u=x)
