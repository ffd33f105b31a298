"""Potentials of whole groups that compare their responses in pairs: a variance, ordered pairs, right against wrong."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util.check import non_negative, positive
from geomalign._util.groups import Groups, Pool
from geomalign._util.types import Interval
from geomalign.optimization.base import STIFFNESS, BregmanGeometry, factor_latex
from geomalign.optimization.group import GroupGeometry

__all__ = ["GroupDiscrimination", "GroupPairs", "GroupVariance"]


@dataclasses.dataclass(frozen=True)
class GroupVariance(GroupGeometry, BregmanGeometry):
    """φ(u) = (μ/2) s²_G(u), the unbiased variance of a group's coordinates: only their differences are resisted.

    s²_G(u) = (1/(n−1)) Σ_i (u_i − ū)² = (1/(n(n−1))) Σ_{i<j} (u_i − u_j)²,   ∂φ/∂u_i = μ n/(n−1)·(u_i − ū)

    A common shift of a group's coordinates, such as the logarithm of the normaliser of an optimal policy, costs
    nothing. Drives of a group must sum to zero, else the energy is unbounded below. φ*(g) = (n−1)/(2μn)·mean_G g² and
    u* = (n−1)/(μn)·g. `GroupPotential(PearsonChiSquare(), 1/μ)` is μ/2 times the biased variance as long as its
    densities are positive. A group of one response has no potential.

    Args:
        mu: stiffness, positive.

    Raises:
        ValueError: mu is not positive.

    Source: GVPO (arXiv 2504.19599).

    >>> import torch, geomalign as ga
    >>> ga.optimization.GroupVariance().mirror(torch.tensor([3.0, 0.0, 0.0]))
    tensor([ 3.0000, -1.5000, -1.5000])
    """

    mu: float = 1.0

    def __post_init__(self) -> None:
        positive(self, STIFFNESS, mu=self.mu)

    def _spread(self, pool: Pool, u: Tensor) -> Tensor:
        """n/(n−1)·(u − ū), and zero in a group of one."""
        count = pool.count(u.dtype)
        return pool.centred(u) * (count / (count - 1).clamp(min=1))

    def value(self, u: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor) -> Tensor:
            variance = pool.mean(pool.centred(u) * self._spread(pool, u))
            return pool.keep((0.5 * self.mu * variance).expand_as(u))

        return self._over(of, u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self._over(lambda pool, u: self.mu * self._spread(pool, u), u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        def of(pool: Pool, u: Tensor) -> Tensor:
            several = (pool.count(u.dtype) > 1).to(u.dtype)
            return pool.keep((self.mu * several).expand_as(u))

        return self._over(of, u)

    def curvature_along(self, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
        return self.mirror(direction)

    def _possible(self, pool: Pool, drive: Tensor) -> Tensor:
        """Whether the drives sum to zero, up to rounding."""
        slack = 64 * torch.finfo(drive.dtype).eps * pool.mean(pool.keep(drive.abs()))
        return pool.mean(pool.keep(drive)).abs() <= slack

    def conjugate(self, drive: Tensor) -> Tensor:
        def of(pool: Pool, drive: Tensor) -> Tensor:
            count = pool.count(drive.dtype)
            square = pool.mean(pool.keep(drive) ** 2) * ((count - 1) / (2 * self.mu * count))
            return torch.where(self._possible(pool, drive), square, torch.inf).expand_as(drive)

        return self._over(of, drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        def of(pool: Pool, drive: Tensor) -> Tensor:
            count = pool.count(drive.dtype)
            rest = drive * ((count - 1) / (self.mu * count))
            return pool.keep(torch.where(self._possible(pool, drive), rest, drive.sign() * torch.inf))

        return self._over(of, drive)

    def latex(self, u: str, drive: str) -> str:
        half = r"\tfrac12\," if self.mu == 1 else rf"\tfrac{{{self.mu:g}}}{{2}}\,"
        return rf"{half}\operatorname{{var}}_G({u})"


@dataclasses.dataclass(frozen=True)
class GroupPairs(GroupGeometry):
    """The mean of −log σ(β(u_i − u_j)) over the pairs of a group with g_i − g_j > margin: DPO on every ordered pair.

    The sizes of the drives do not matter beyond their order, and equal drives make no pair. Every pair of a group
    weighs the same, and all together as much as the group has responses. Convex in u, coupled to the order of the
    drives, and least at infinity. It is evaluated on the n² differences of each group at once.

    Args:
        beta: inverse temperature, positive, in units of 1/u.
        margin: by how much the drives of a pair must differ, ≥ 0, in units of the drive.

    Raises:
        ValueError: beta is not positive, or the margin is negative.

    Source: AMIR-GRPO (arXiv 2601.03661).

    >>> import torch, geomalign as ga
    >>> ga.optimization.GroupPairs().force(torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]))  # two pairs
    tensor([-1.5000,  0.7500,  0.7500])
    """

    beta: float = 1.0
    margin: float = 0.0

    def __post_init__(self) -> None:
        positive(self, "an inverse temperature", beta=self.beta)
        non_negative(self, "a difference of drives", margin=self.margin)

    def _pairs(self, pool: Pool, u: Tensor, drive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """β(u_i − u_j), whether i is preferred to j, and 1/(number of pairs) of the group: (…, n, n) twice, (…, n)."""
        valid = pool.valid
        among = valid[..., :, None] & valid[..., None, :]
        if isinstance(pool, Groups):
            among = among & (pool.segment[:, None] == pool.segment[None, :])
        preferred = among & (drive[..., :, None] - drive[..., None, :] > self.margin)
        count = pool.total(preferred.sum(-1).to(u.dtype)).clamp(min=1)
        return self.beta * (u[..., :, None] - u[..., None, :]), preferred, 1 / count

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
            x, preferred, share = self._pairs(pool, u, drive)
            loss = torch.where(preferred, torch.nn.functional.softplus(-x), 0)
            return pool.keep((share * pool.total(loss.sum(-1))).expand_as(u))

        return self._over(of, u, drive)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
            x, preferred, share = self._pairs(pool, u, drive)
            pull = torch.where(preferred, torch.sigmoid(-x), 0)
            return self.beta * pool.count(u.dtype) * share * (pull.sum(-2) - pull.sum(-1))

        return self._over(of, u, drive)

    def _stiffness(self, pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
        """n/M·β²σσ' of every pair, in both orders."""
        x, preferred, share = self._pairs(pool, u, drive)
        each = torch.where(preferred | preferred.transpose(-1, -2), torch.sigmoid(x) * torch.sigmoid(-x), 0)
        return self.beta**2 * (pool.count(u.dtype) * share)[..., None] * each

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
            return self._stiffness(pool, u, drive).sum(-1)

        return self._over(of, u, torch.zeros_like(u) if drive is None else drive)

    def curvature_along(self, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
            stiffness = self._stiffness(pool, u, drive)
            return (stiffness * (direction[..., :, None] - direction[..., None, :])).sum(-1)

        return self._over(of, u, drive, direction)

    def conjugate(self, drive: Tensor) -> Tensor:
        return torch.zeros_like(drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, 0, drive.sign() * torch.inf)

    def latex(self, u: str, drive: str) -> str:
        name, g = u.split("_")[0], drive.split("_")[0]
        over = f">{self.margin:g}" if self.margin else ">0"
        each = rf"\log\left(1+e^{{-{factor_latex(self.beta)}({name}_j-{name}_k)}}\right)"
        return rf"\operatorname{{mean}}_{{G:\,{g}_j-{g}_k{over}}}{each}+{drive}\,{u}"


@dataclasses.dataclass(frozen=True)
class GroupDiscrimination(GroupGeometry):
    """The energy τ log mean₋ e^{u/τ} − mean₊ u: a group's right responses are scored above its wrong ones.

    mean₊ is over the responses of the group with a positive drive, mean₋ over those with a negative one; the size of a
    drive does not matter. It is the mean over all pairs of a right and a wrong response of u₋ − u₊, with the wrong
    responses weighed by a softmax: at τ → 0 the best scored of them alone, without temperature all alike. A group that
    lacks one of the two kinds has no energy. Convex in u, coupled to the sign of the drive, and unbounded below.

    Args:
        temperature: τ, positive, in units of u; None: all wrong responses weigh the same (τ → ∞).

    Raises:
        ValueError: the temperature is not positive.

    Source: DisCO (arXiv 2505.12366), and its basic form where the temperature is None.

    >>> import torch, geomalign as ga
    >>> u, drive = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, -1.0, -1.0])
    >>> ga.optimization.GroupDiscrimination(temperature=1.0).force(u, drive)
    tensor([-3.0000,  0.8068,  2.1932])
    """

    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None:
            positive(self, "in units of the coordinate, or None", temperature=self.temperature)

    def _kinds(self, pool: Pool, u: Tensor, drive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shares of the right responses in their mean and of the wrong ones in theirs, and τ log mean₋ e^{u/τ}; all
        zero in a group of one kind.
        """
        right, wrong = ((sign * drive > 0) & pool.valid for sign in (1.0, -1.0))
        counts = [pool.total(kind.to(u.dtype)) for kind in (right, wrong)]
        mixed = ((counts[0] > 0) & (counts[1] > 0)).to(u.dtype)
        of_right, of_wrong = (mixed * kind / n.clamp(min=1) for kind, n in zip((right, wrong), counts, strict=True))
        if self.temperature is None:
            return of_right, of_wrong, pool.total(of_wrong * pool.keep(u))
        x = u / self.temperature
        # The largest exponent of the wrong responses, shown to all of the group.
        top = torch.where(mixed > 0, pool.max(torch.where(wrong, x.detach(), -torch.inf)), 0)
        part = of_wrong * torch.exp(torch.where(of_wrong > 0, x - top, 0))
        total = pool.total(part)
        free = self.temperature * mixed * (top + torch.where(total > 0, total, 1).log())
        return of_right, part / torch.where(total > 0, total, 1), free

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
            right, _, free = self._kinds(pool, u, drive)
            return pool.keep((free - pool.total(right * pool.keep(u))).expand_as(u))

        return self._over(of, u, drive)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
            right, wrong, _ = self._kinds(pool, u, drive)
            return pool.count(u.dtype) * (wrong - right)

        return self._over(of, u, drive)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
            _, wrong, _ = self._kinds(pool, u, drive)
            return pool.count(u.dtype) * wrong * (1 - wrong) * self._sharpness

        return self._over(of, u, torch.zeros_like(u) if drive is None else drive)

    def curvature_along(self, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
            _, wrong, _ = self._kinds(pool, u, drive)
            mean = pool.total(wrong * pool.keep(direction))
            return pool.count(u.dtype) * wrong * (direction - mean) * self._sharpness

        return self._over(of, u, drive, direction)

    @property
    def _sharpness(self) -> float:
        return 0.0 if self.temperature is None else 1 / self.temperature

    def _mixed(self, pool: Pool, drive: Tensor) -> Tensor:
        right, _, _ = self._kinds(pool, torch.zeros_like(drive), drive)
        return (pool.total(right) > 0).expand_as(drive)

    def conjugate(self, drive: Tensor) -> Tensor:
        return self._over(lambda pool, g: torch.where(self._mixed(pool, g), torch.inf, torch.zeros_like(g)), drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        def of(pool: Pool, drive: Tensor) -> Tensor:
            return torch.where(self._mixed(pool, drive) & (drive != 0), drive.sign() * torch.inf, 0)

        return self._over(of, drive)

    @property
    def conjugate_domain(self) -> Interval:
        return Interval(0.0, 0.0)

    def latex(self, u: str, drive: str) -> str:
        name = u.split("_")[0]
        right = rf"\operatorname{{mean}}_{{G_+}}{name}"
        if self.temperature is None:
            return rf"\operatorname{{mean}}_{{G_-}}{name}-{right}+{drive}\,{u}"
        tau, over = factor_latex(self.temperature), "" if self.temperature == 1 else f"/{self.temperature:g}"
        return rf"{tau}\log\operatorname{{mean}}_{{G_-}}e^{{{name}{over}}}-{right}+{drive}\,{u}"
