"""Potentials of whole groups that know the drive: a reverse divergence, a classification, and a ranking."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util.check import positive
from geomalign._util.groups import Groups, Pool
from geomalign.optimization.base import factor_latex
from geomalign.optimization.group import GroupGeometry

__all__ = ["GroupContrast", "GroupReverseKL", "PlackettLuce"]

_TEMPERATURE = "in units of the coordinate"


@dataclasses.dataclass(frozen=True)
class GroupReverseKL(GroupGeometry):
    """The energy τ·KL(p‖q) of the policy p = softmax(u/τ) over a group from the target q that the drive states.

    energy = τ mean_G[t log(t/w)],   t = n·p,   w = n·q = 1 + g,   force_i = t_i(d_i − mean_G[t d]),   d = log(t/w)

    It is not convex in u: where p is small so is its gradient, whatever q is. At u = 0 the force on softmax(r/T)
    targets is exactly −(r − r̄)/T, that of a policy gradient. Targets below the rounding of 1 + g are taken for that
    rounding, 2e-16 in float64 and 1e-7 in float32, which bounds the energy; w is divided by its mean.

    Args:
        temperature: τ, positive, in units of u.

    Raises:
        ValueError: the temperature is not positive.

    Source: LPO (arXiv 2605.06139), its reverse projection.

    >>> import torch, geomalign as ga
    >>> target = torch.tensor([1.0, 0.0]).softmax(0)
    >>> ga.optimization.GroupReverseKL().force(torch.zeros(2), 2 * target - 1)
    tensor([-0.5000,  0.5000])
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        positive(self, _TEMPERATURE, temperature=self.temperature)

    def _densities(self, pool: Pool, u: Tensor, drive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """t, d = log(t/w) and its mean under t."""
        s = pool.keep(u / self.temperature)
        below = s - pool.max(s.detach())
        log_t = pool.keep(below - pool.mean(pool.keep(below.exp())).clamp(min=torch.finfo(u.dtype).tiny).log())
        w = pool.keep((1 + drive).clamp(min=torch.finfo(u.dtype).eps), 1.0)
        d = pool.keep(log_t - (w / pool.mean(w).clamp(min=torch.finfo(u.dtype).eps)).log())
        t = pool.keep(log_t.exp())
        return t, d, pool.mean(t * d)

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        return self._over(
            lambda pool, u, g: pool.keep((self.temperature * self._densities(pool, u, g)[2]).expand_as(u)), u, drive
        )

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
            t, d, mean = self._densities(pool, u, drive)
            return t * (d - mean)

        return self._over(of, u, drive)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
            t, d, mean = self._densities(pool, u, drive)
            share = t / pool.count(u.dtype)
            return t * ((1 - share) * (d - mean + 1) - share * (d - mean)) / self.temperature

        return self._over(of, u, torch.zeros_like(u) if drive is None else drive)

    def curvature_along(self, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
            t, d, mean = self._densities(pool, u, drive)
            moved = t * (direction - pool.mean(t * direction)) / self.temperature
            return moved * (d - mean + 1) - t * pool.mean(moved * d)

        return self._over(of, u, drive, direction)

    def conjugate(self, drive: Tensor) -> Tensor:
        return torch.zeros_like(drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        def of(pool: Pool, drive: Tensor) -> Tensor:
            w = (1 + drive).clamp(min=torch.finfo(drive.dtype).eps)
            return pool.centred(self.temperature * w.log())

        return self._over(of, drive)

    def latex(self, u: str, drive: str) -> str:
        over = "" if self.temperature == 1 else f"/{self.temperature:g}"
        policy = rf"\operatorname{{softmax}}_G({u}{over})"
        target = rf"\tfrac{{1+{drive}}}{{n}}"
        return rf"{factor_latex(self.temperature)}\operatorname{{KL}}\left({policy},{target}\right)+{drive}\,{u}"


@dataclasses.dataclass(frozen=True)
class GroupContrast(GroupGeometry):
    """The energy log(1 + Σ₊ e^{−u/τ}) + log(1 + Σ₋ e^{u/τ}): a group's responses are told apart as right and wrong.

    Σ₊ is over the responses of the group with a positive drive, Σ₋ over those with a negative one; the size of a drive
    does not matter. Every response is compared with the anchor, u = 0, and with the others of its own kind, so that the
    forces do not sum to zero: those of one kind together are at most n/τ. Convex in u, coupled to the sign of the
    drive, and least at infinity.

    Args:
        temperature: τ, positive, in units of u.

    Raises:
        ValueError: the temperature is not positive.

    Source: REAL (arXiv 2602.05630).

    >>> import torch, geomalign as ga
    >>> ga.optimization.GroupContrast().force(torch.zeros(3), torch.tensor([1.0, -1.0, -1.0]))
    tensor([-1.5000,  1.0000,  1.0000])
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        positive(self, _TEMPERATURE, temperature=self.temperature)

    def _kinds(self, pool: Pool, u: Tensor, drive: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of both kinds: which responses are of it, its logarithm, and each response's share of its sum."""
        kinds = []
        for sign in (1.0, -1.0):
            mine = (sign * drive > 0) & pool.valid
            x = torch.where(mine, -sign * u / self.temperature, -torch.inf)
            top = pool.max(x.detach()).clamp(min=0)
            part = torch.where(mine, (torch.where(mine, x, 0) - top).exp(), 0)
            total = torch.exp(-top) + pool.total(part)
            kinds.append((mine, top + total.log(), part / total))
        return kinds

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
            (_, right, _), (_, wrong, _) = self._kinds(pool, u, drive)
            return pool.keep((right + wrong).expand_as(u))

        return self._over(of, u, drive)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
            (_, _, right), (_, _, wrong) = self._kinds(pool, u, drive)
            return pool.count(u.dtype) * (wrong - right) / self.temperature

        return self._over(of, u, drive)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor) -> Tensor:
            (_, _, right), (_, _, wrong) = self._kinds(pool, u, drive)
            return pool.count(u.dtype) * (right * (1 - right) + wrong * (1 - wrong)) / self.temperature**2

        return self._over(of, u, torch.zeros_like(u) if drive is None else drive)

    def curvature_along(self, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
        def of(pool: Pool, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
            kinds = self._kinds(pool, u, drive)
            moved = sum(share * (direction - pool.total(share * pool.keep(direction))) for _, _, share in kinds)
            return pool.count(u.dtype) * moved / self.temperature**2

        return self._over(of, u, drive, direction)

    def conjugate(self, drive: Tensor) -> Tensor:
        return torch.zeros_like(drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, 0, drive.sign() * torch.inf)

    def latex(self, u: str, drive: str) -> str:
        over = "" if self.temperature == 1 else f"/{self.temperature:g}"
        signs = (("+", "-"), ("-", ""))
        kinds = (rf"\log\left(1+\sum_{{G_{sign}}}e^{{{minus}{u}{over}}}\right)" for sign, minus in signs)
        return "+".join(kinds) + rf"+{drive}\,{u}"


@dataclasses.dataclass(frozen=True)
class PlackettLuce(GroupGeometry):
    """The negative log-likelihood of the ranking of a group by its drives: Σ_k [log Σ_{j ≥ k} e^{u_(j)} − u_(k)].

    (1), …, (n) are the responses in the order of falling drives; equal drives keep the order of the rows. A ranking is
    drawn by choosing the best by a softmax, then the best of the rest, and so on: of two responses it is the logistic
    link of DPO. Convex in u, coupled to the order of the drives, and least at infinity.

    Source: Plackett 1975; as a loss of ranked responses, Rafailov et al. 2023 (DPO, arXiv 2305.18290) appendix A.3.

    >>> import torch, geomalign as ga
    >>> ga.optimization.PlackettLuce().energy(torch.zeros(3), torch.tensor([0.0, 2.0, 1.0]))  # log 3!
    tensor([1.7918, 1.7918, 1.7918])
    """

    def _ranked(self, u: Tensor, drive: Tensor) -> tuple[Tensor, Tensor]:
        """The order of all rows by group, in it by falling drive, and the group of every row so ordered. A row that is
        in no group has one of its own.
        """
        groups = self._groups
        if groups is None:
            segment = torch.arange(u[..., 0].numel(), device=u.device).repeat_interleave(u.shape[-1])
        else:
            assert isinstance(groups, Groups)
            alone = u.numel() + torch.arange(u.numel(), device=u.device)
            segment = torch.where(groups.valid, groups.segment, alone)
        order = torch.sort(drive.flatten(), descending=True, stable=True).indices
        order = order[torch.sort(segment[order], stable=True).indices]
        return order, segment[order]

    def _of(self, u: Tensor, drive: Tensor) -> _Ranking:
        u, drive = torch.broadcast_tensors(u, drive)
        if not u.ndim:
            u, drive = u[None], drive[None]
        return _Ranking(u, *self._ranked(u, drive))

    def energy(self, u: Tensor, drive: Tensor) -> Tensor:
        seen = self._of(u, drive)
        return seen.back(seen.total(seen.below - seen.u)).view_as(u)

    def force(self, u: Tensor, drive: Tensor) -> Tensor:
        seen = self._of(u, drive)
        return seen.back(seen.size * torch.expm1(seen.u + seen.above)).view_as(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        seen = self._of(u, torch.zeros_like(u) if drive is None else drive)
        squares, _ = _scan(-2 * seen.below, None, seen.segment, forward=True)
        chosen = torch.exp(seen.u + seen.above) - torch.exp(2 * seen.u + squares)
        return seen.back(seen.size * chosen.clamp(min=0)).view_as(u)

    def curvature_along(self, u: Tensor, drive: Tensor, direction: Tensor) -> Tensor:
        seen = self._of(u, drive)
        along = direction.flatten()[seen.order]
        _, mean = _scan(seen.u, along, seen.segment, forward=False)
        _, mean = _scan(-seen.below, mean, seen.segment, forward=True)
        assert mean is not None
        return seen.back(seen.size * torch.exp(seen.u + seen.above) * (along - mean)).view_as(u)

    def conjugate(self, drive: Tensor) -> Tensor:
        return torch.zeros_like(drive)

    def equilibrium(self, drive: Tensor) -> Tensor:
        return torch.where(drive == 0, 0, drive.sign() * torch.inf)

    def latex(self, u: str, drive: str) -> str:
        name = u.split("_")[0]
        ranks = rf"\sum_k\left[\log\sum_{{j\ge k}}e^{{{name}_{{(j)}}}}-{name}_{{(k)}}\right]"
        return rf"{ranks}+{drive}\,{u}"


class _Ranking:
    """Coordinates in the order of the ranks, with what is summed over the worse and over the better responses."""

    def __init__(self, u: Tensor, order: Tensor, segment: Tensor) -> None:
        self.order, self.segment, self.u = order, segment, u.flatten()[order]
        self.below, _ = _scan(self.u, None, segment, forward=False)
        self.above, _ = _scan(-self.below, None, segment, forward=True)
        self.index = torch.cumsum(torch.nn.functional.pad(segment.diff() != 0, (1, 0))[: len(segment)], 0)

    def total(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x).index_add(0, self.index, x)[self.index]

    @property
    def size(self) -> Tensor:
        return self.total(torch.ones_like(self.u))

    def back(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x).index_copy(0, self.order, x)


def _scan(x: Tensor, value: Tensor | None, segment: Tensor, *, forward: bool) -> tuple[Tensor, Tensor | None]:
    """log Σ e^x over the places up to each one (or from it on) in its segment, and the mean of `value` with these
    weights. By doubling, in log₂ steps, as a cumulative sum over all segments would lose the small ones.

    >>> _scan(torch.zeros(3), None, torch.tensor([0, 0, 1]), forward=False)[0]
    tensor([0.6931, 0.0000, 0.0000])
    """
    if forward:
        x, segment = x.flip(0), segment.flip(0)
        value = None if value is None else value.flip(0)
    step = 1
    while step < len(x):
        joined = segment[:-step] == segment[step:]
        other = torch.where(joined, x[step:], -torch.inf)
        both = torch.logaddexp(x[:-step], other)
        if value is not None:
            share = torch.exp(other - both)
            value = torch.cat([value[:-step] + share * (value[step:] - value[:-step]), value[-step:]])
        x, step = torch.cat([both, x[-step:]]), 2 * step
    if forward:
        x = x.flip(0)
        value = None if value is None else value.flip(0)
    return x, value
