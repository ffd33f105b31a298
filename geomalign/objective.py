"""Objectives: five slots and one formula, L = E_measure[ potential(u, drive) − drive · u ]."""

from __future__ import annotations

import dataclasses
import inspect
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geomalign import numerics
from geomalign.batch import Batch, PreferenceBatch, Total
from geomalign.chart import Chart, LogRatio
from geomalign.constant import Constant, Energy
from geomalign.locality import Locality
from geomalign.measure import Measure, PooledMean
from geomalign.optimization import BregmanGeometry, OptimizationGeometry
from geomalign.sampling import SamplingGeometry
from geomalign.unit import Unit

__all__ = ["BaseObjective", "Combination", "Drives", "Objective", "Outcome", "PairLaw", "UnboundedLossWarning"]


class UnboundedLossWarning(UserWarning):
    """The drive lies outside the conjugate's domain: the loss has no minimum."""


class PairLaw(NamedTuple):
    """∂L/∂log π of both responses of a pair, each in the shape of its log-probabilities."""

    chosen: Tensor
    rejected: Tensor


class Drives(tuple[Tensor, ...]):
    """The drives of a sum of objectives, one a term. Indexing selects rows in all of them; iterating gives the
    terms' drives.
    """

    def __getitem__(self, rows: Any) -> Drives:  # type: ignore[override]
        return Drives(drive[rows] for drive in self)


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What one evaluation of an objective saw. Tensors in the shape of its events: `(row, token)`, `(row,)` or
    `(pair,)`.

    Args:
        loss: scalar, the published value, with gradient.
        u: coordinate of every event, zero outside `support`.
        drive: g of every event, no gradient.
        weights: what the loss is summed with; they sum to one over the whole batch (for `FixedBudget`: over full rows).
        support: booleans, the events that exist.
        log_ratio: Δ from the objective's own anchor, reduced to responses or tokens, before the chart.
        token_log_ratio: `(row, token)` log π_θ − log π_anchor of the rollout policy, detached; None where the
            batch has none.
        mask: `(row, token)` booleans.
        objective: the single-term objective that was evaluated; of a sum, the first term's.
        terms: of a sum, the outcomes of its terms.
    """

    loss: Tensor
    u: Tensor
    drive: Tensor
    weights: Tensor
    support: Tensor
    log_ratio: Tensor
    token_log_ratio: Tensor | None
    mask: Tensor
    objective: Objective
    terms: tuple[Outcome, ...] = ()

    @property
    def potential(self) -> Tensor:
        """φ(u, g) of every event."""
        return self._kept(self.objective.optimization.potential(self.u, self.drive))

    @property
    def gap(self) -> Tensor:
        """φ(u, g) + φ*(g) − g·u ≥ 0 of every event: how far it is from equilibrium, as a Fenchel–Young loss."""
        return self._kept(self.objective.optimization.gap(self.u, self.drive))

    @property
    def force(self) -> Tensor:
        """∂φ/∂u − g of every event."""
        return self._kept(self.objective.optimization.force(self.u, self.drive))

    @property
    def curvature(self) -> Tensor:
        """∂²φ/∂u² of every event."""
        return self._kept(self.objective.optimization.curvature(self.u, self.drive))

    def _kept(self, x: Tensor) -> Tensor:
        return torch.where(self.support, x, 0)


class BaseObjective(ABC):
    """What one objective and a sum of objectives have in common. Add them and multiply them by numbers."""

    @property
    @abstractmethod
    def terms(self) -> tuple[tuple[float, Objective], ...]:
        """The single-term objectives of the sum, each with its coefficient."""

    @abstractmethod
    def __call__(
        self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None = None, total: Total | None = None
    ) -> Outcome:
        """Evaluate the loss.

        Args:
            batch: a `Batch`, or a `PreferenceBatch` where the unit is a pair.
            drive: of `drive(whole_batch)`, the rows of this batch. None: computed from this batch, whose groups
                must be whole.
            total: of the whole batch (`whole_batch.total()`), of which this batch is a part. None: this batch is
                the whole.

        Returns:
            `Outcome`; with the same `total`, the losses and gradients of parts add up to those of the whole.

        Raises:
            ValueError: the batch lacks what a slot needs, or the drive is not in the shape of the batch.
        """

    @abstractmethod
    def drive(self, batch: Batch | PreferenceBatch) -> Tensor | Drives:
        """The drive of every row (pair), once for a rollout: `(row,)`, `(row, token)` or `(pair,)`; `Drives` of a
        sum. No gradient.
        """

    @abstractmethod
    def law(
        self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None = None, total: Total | None = None
    ) -> Tensor | PairLaw:
        """The gradient law ∂L/∂log π(token) in closed form, `(row, token)`, without autograd; `PairLaw` of a
        `PreferenceBatch`.

        weight · (mirror(u) − drive) · chart'(Δ) · unit', the chain rule through the slots. Arguments as for the call.
        """

    @abstractmethod
    def latex(self) -> str:
        """The objective as the formula a paper would print."""

    @property
    def locality(self) -> Locality:
        """What must be known before the law at one token is."""
        return max(objective._locality for _, objective in self.terms)

    @property
    def decoupled(self) -> bool:
        """Whether every potential is a `BregmanGeometry`, a convex function of the coordinate alone: none contains the
        drive, so sampling and optimization are orthogonal.
        """
        return all(isinstance(objective.optimization, BregmanGeometry) for _, objective in self.terms)

    def __add__(self, other: BaseObjective) -> Combination:
        if not isinstance(other, BaseObjective):
            return NotImplemented
        return Combination(self._summands() + other._summands())

    def __radd__(self, other: int) -> BaseObjective:
        return self if other == 0 else NotImplemented

    def __mul__(self, factor: float) -> Combination:
        if not isinstance(factor, (int, float)):
            return NotImplemented
        return Combination(tuple((factor * coefficient, objective) for coefficient, objective in self._summands()))

    def _summands(self) -> tuple[tuple[float, Objective], ...]:
        """The terms that it contributes to a sum; an error where its terms are not all there is to it."""
        return self.terms

    __rmul__ = __mul__


_SLOTS: dict[str, type] = {
    "unit": Unit,
    "chart": Chart,
    "sampling": SamplingGeometry,
    "optimization": OptimizationGeometry,
    "measure": Measure,
    "constant": Constant,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective(BaseObjective):
    """L(θ) = E_measure[ φ(u, g) − g·u ] + constant,   u = unit(log π_θ − log π_anchor, read through the chart).

    Args:
        unit: what one event is: `Token()`, `Sequence()`, `MeanSequence()`, `Pair()`.
        chart: the coordinate: `LogRatio()`, `Ratio()`, `Power(p)`, `Dual(divergence)`.
        sampling: what pulls: the drive g.
        optimization: what resists: the potential φ.
        measure: an average over what.
        anchor: the policy that Δ is measured from: "anchor" (rollout), "reference", or None (log π itself).
        constant: what the published value adds: `Energy()` nothing, `Surrogate()` −g, `Completed()` φ*(g).

    Raises:
        ValueError: a slot holds something else, with what was seen.

    Warns:
        UnboundedLossWarning: a constant drive outside the conjugate's domain (TRL's "robust"): the loss has no minimum.

    Source: the Fenchel–Young form, Blondel, Martins & Niculae, JMLR 2020; the two geometries, OPO (arXiv 2601.12415).

    >>> import torch, geomalign as ga
    >>> opo = ga.Objective(unit=ga.Sequence(), chart=ga.LogRatio(), sampling=ga.Escort(alpha=0.4),
    ... optimization=ga.ChiSquare(mu=1.0))
    >>> policy = torch.zeros(4, 3, requires_grad=True)
    >>> outcome = opo(ga.Batch(policy, policy.detach(), reward=torch.tensor([1.0, 0.0, 0.0, 1.0])))
    >>> outcome.loss.backward()
    """

    unit: Unit
    chart: Chart = LogRatio()
    sampling: SamplingGeometry
    optimization: OptimizationGeometry
    measure: Measure = PooledMean()
    anchor: str | None = "anchor"
    constant: Constant = Energy()

    def __post_init__(self) -> None:
        for name, kind in _SLOTS.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                hint = (
                    f"Did you mean {name}={value.__name__}(…)?"
                    if inspect.isclass(value)
                    else f"Pass an instance of a {kind.__name__}."
                )
                raise ValueError(f"Objective({name}={value!r}): this slot holds a {kind.__name__}. {hint}")
        if self.anchor not in ("anchor", "reference", None):
            raise ValueError(
                f'Objective(anchor={self.anchor!r}): "anchor" (the rollout policy), "reference", or None for no policy.'
            )
        low, high = self.sampling.range.low, self.sampling.range.high
        allowed = self.optimization.drives
        if low == high and not allowed.low <= low <= allowed.high:
            warnings.warn(
                f"the drive {low:g} of {self.sampling!r} lies outside [{allowed.low:g}, {allowed.high:g}], the "
                "drives that "
                f"{self.optimization!r} can balance: this loss is unbounded below and pushes for ever.",
                UnboundedLossWarning,
                stacklevel=3,
            )

    @property
    def terms(self) -> tuple[tuple[float, Objective], ...]:
        return ((1.0, self),)

    @property
    def _locality(self) -> Locality:
        if self.optimization.constant_force and self.chart.linear and self.unit.linear and not self.unit.paired:
            return self.sampling.locality
        return max(self.unit.locality, self.sampling.locality)

    def _check(self, batch: Batch | PreferenceBatch) -> None:
        if not isinstance(batch, (Batch, PreferenceBatch)):
            raise TypeError(
                f"an objective is evaluated on a Batch or a PreferenceBatch, not on {type(batch).__name__}."
            )
        if self.unit.paired and not batch.paired:
            raise ValueError(
                f"{self.unit!r} compares pairs, but a Batch has single responses: pass a PreferenceBatch(chosen, "
                "rejected, …)."
            )
        if self.unit.needs_tokens and batch.summed:
            raise ValueError(
                f"{self.unit!r} needs the single tokens' log-probabilities, but the batch holds sums, "
                f"{tuple(batch.rows.policy.shape)}: "
                "pass (row, token) log-probabilities with a mask, or use unit=Sequence()."
            )

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        self._check(batch)
        with torch.no_grad():
            if self.unit.paired or not batch.paired:
                return self.sampling.drive(batch)
            chosen, rejected = self.sampling.drive(batch.rows).chunk(2)
            return torch.stack([chosen, rejected], dim=1)

    def _log_ratios(self, rows: Batch) -> Tensor:
        policy = rows.log_probs("policy", "an Objective")
        if self.anchor is None:
            return policy
        return (
            policy - rows.log_probs(self.anchor, f"an Objective that measures from its {self.anchor} policy").detach()
        )

    def _from_rollout(self, rows: Batch, log_ratio: Tensor, mask: Tensor) -> Tensor:
        """Δ that importance weights are made of; an objective without an anchor weighs against the rollout policy."""
        if self.anchor is not None or rows.anchor is None:
            return log_ratio
        return self.unit.reduce(rows.log_probs("policy", "reweight") - rows.log_probs("anchor", "reweight"), mask)

    def _drive_of_events(
        self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None, support: Tensor, log_ratio: Tensor
    ) -> Tensor:
        if drive is None:
            g = self.drive(batch)
        elif isinstance(drive, Drives):
            raise ValueError(
                f"`drive` holds the drives of {len(drive)} terms, but this objective has one; compute it with this "
                "objective's drive(batch)."
            )
        elif not isinstance(drive, Tensor):
            raise TypeError(
                f"`drive` is {type(drive).__name__}, not a torch.Tensor: pass this objective's drive(batch), or "
                "torch.as_tensor of numbers of your own, one a row."
            )
        else:
            g = drive.detach()
        if g.shape[:1] != (batch.size,):
            raise ValueError(
                f"`drive` is {tuple(g.shape)} but the batch has {batch.size} {'pairs' if batch.paired else 'rows'}: "
                "pass the entries of the whole rollout's drive that belong to these rows, drive[rows]."
            )
        if batch.paired and not self.unit.paired:
            if g.shape != (batch.size, 2):
                raise ValueError(
                    f"`drive` is {tuple(g.shape)}, but {self.unit!r} sees {batch.size} pairs as single responses: "
                    f"expected {(batch.size, 2)}, the chosen and the rejected one's."
                )
            g = torch.cat([g[:, 0], g[:, 1]])
        if g.ndim < support.ndim:
            g = g[:, None].expand(support.shape)
        if g.shape != support.shape:
            raise ValueError(
                f"`drive` is {tuple(g.shape)} but the events of {self.unit!r} are {tuple(support.shape)}. "
                "A drive a token needs unit=Token(); a unit of responses takes one number a response."
            )
        g = torch.where(support, g.to(log_ratio.dtype), 0)
        return self.sampling.reweight(g, log_ratio.detach(), batch).detach()

    def _events(self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None, total: Total | None) -> _Events:
        self._check(batch)
        rows = batch.rows
        mask = rows.support
        log_ratio = self.unit.reduce(self._log_ratios(rows), mask)
        support = self.unit.support(mask)
        u = torch.where(support, self.unit.combine(self.chart(log_ratio)) - self.unit.shift(rows), 0)
        compared = self.unit.combine(self._from_rollout(rows, log_ratio, mask))
        g = self._drive_of_events(batch, drive, support, compared)
        total = batch.total() if total is None else total
        if not isinstance(total, Total):
            raise TypeError(
                f"`total` is {type(total).__name__}, not a geomalign Total: pass whole_batch.total(), or the sum "
                "of its parts' totals."
            )
        events, in_rows = self.unit.events(total)
        weights = self.measure.weights(support, events.to(u.dtype), in_rows.to(u.dtype))
        return _Events(rows, mask, log_ratio, support, u, g, weights)

    def __call__(
        self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None = None, total: Total | None = None
    ) -> Outcome:
        rows, mask, log_ratio, support, u, g, weights = self._events(batch, drive, total)
        value = self.optimization.energy(u, g) + self.constant(self.optimization, g)
        loss = (weights * torch.where(support, value, 0)).sum()
        token_log_ratio = None
        if rows.anchor is not None:
            token_log_ratio = (rows.log_probs("policy", "metrics") - rows.log_probs("anchor", "metrics")).detach()
        return Outcome(loss, u, g, weights, support, log_ratio, token_log_ratio, mask, self)

    def law(
        self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None = None, total: Total | None = None
    ) -> Tensor | PairLaw:
        with torch.no_grad():
            rows, mask, log_ratio, support, u, g, weights = self._events(batch, drive, total)
            coordinate = self.chart(log_ratio)
            force = weights * torch.where(support, self.optimization.force(u, g), 0)
            gradient = self.unit.split(force, coordinate) * self.chart.slope(log_ratio)
            tokens = self.unit.spread(gradient, mask, self._log_ratios(rows))
        return _as_law(tokens, batch)

    def latex(self) -> str:
        tokens = self.unit.per_token
        event = "{i,t}" if tokens else "i"
        u, g = f"u_{event}", f"g_{event}"
        against = {"anchor": r"\pi_k", "reference": r"\pi_{\mathrm{ref}}", None: None}[self.anchor]
        log_ratio = self.unit.latex(against)
        drive = self.sampling.latex()
        # A term that is not driven by the samples has no drive worth a name.
        pulled = "0" if drive == "0" else g
        value = self.constant.latex(u, pulled, self.optimization.latex(u, g))
        lines = [rf"\mathcal{{L}}(\theta)={self.measure.latex(tokens)}\left[{value}\right]"]
        lines.append(self.unit.latex_event(u, self.chart.latex(log_ratio)))
        if pulled == g:
            lines.append(rf"{g}={drive}")
        return r",\quad ".join(lines)


class _Events(NamedTuple):
    rows: Batch
    mask: Tensor
    log_ratio: Tensor
    support: Tensor
    u: Tensor
    drive: Tensor
    weights: Tensor


def _as_law(tokens: Tensor, batch: Batch | PreferenceBatch) -> Tensor | PairLaw:
    if isinstance(batch, Batch):
        return tokens[:, 0] if batch.summed else tokens
    chosen, rejected = tokens.chunk(2)
    if batch.summed:
        return PairLaw(chosen[:, 0], rejected[:, 0])
    return PairLaw(chosen[:, : batch.chosen.shape[1]], rejected[:, : batch.rejected.shape[1]])


@dataclasses.dataclass(frozen=True)
class Combination(BaseObjective):
    """Σ_k coefficient_k · L_k, each term with its own slots and anchor. Written `surrogate + 0.04 * leash`.

    Args:
        of: pairs of a coefficient and an `Objective`.
    """

    of: tuple[tuple[float, Objective], ...]

    def __post_init__(self) -> None:
        for coefficient, _ in self.of:
            if not math.isfinite(coefficient):
                raise ValueError(f"a coefficient of a sum of objectives is {coefficient!r}: a finite number.")

    @property
    def terms(self) -> tuple[tuple[float, Objective], ...]:
        return self.of

    def drive(self, batch: Batch | PreferenceBatch) -> Drives:
        return Drives(objective.drive(batch) for _, objective in self.of)

    def _drives(self, drive: Tensor | Drives | None) -> Iterator[Tensor | None]:
        if drive is None:
            return iter((None,) * len(self.of))
        if not isinstance(drive, Drives):
            # One drive for a sum pulls on the terms that are driven by the samples; a constant label keeps its own.
            driven = [o.sampling.range.low != o.sampling.range.high for _, o in self.of]
            ways = [o.sampling for (_, o), is_driven in zip(self.of, driven, strict=True) if is_driven]
            if any(way != ways[0] for way in ways):
                raise ValueError(
                    f"`drive` is one tensor, but the terms of this sum are driven in {len(ways)} ways, "
                    f"{', '.join(map(repr, ways))}: pass this objective's drive(batch), or Drives, one drive a term."
                )
            return iter(drive if is_driven else None for is_driven in driven)
        if len(drive) != len(self.of):
            raise ValueError(
                f"`drive` has {len(drive)} terms, the objective {len(self.of)}: compute it with this objective's "
                "drive(batch)."
            )
        return iter(drive)

    def __call__(
        self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None = None, total: Total | None = None
    ) -> Outcome:
        outcomes = tuple(o(batch, g, total) for (_, o), g in zip(self.of, self._drives(drive), strict=True))
        loss = sum(
            (c * x.loss for (c, _), x in zip(self.of[1:], outcomes[1:], strict=True)), self.of[0][0] * outcomes[0].loss
        )
        return dataclasses.replace(outcomes[0], loss=loss, terms=outcomes)

    def law(
        self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None = None, total: Total | None = None
    ) -> Tensor | PairLaw:
        laws = [(c, o.law(batch, g, total)) for (c, o), g in zip(self.of, self._drives(drive), strict=True)]
        if isinstance(batch, PreferenceBatch):
            return PairLaw(*(torch.stack([c * x[side] for c, x in laws]).sum(0) for side in (0, 1)))
        return torch.stack([c * x for c, x in laws if isinstance(x, Tensor)]).sum(0)

    def latex(self) -> str:
        names = [rf"\mathcal{{L}}_{{{k}}}" for k in range(1, len(self.of) + 1)]
        weighted = "+".join(
            name if c == 1 else rf"{numerics.latex(c)}\,{name}" for name, (c, _) in zip(names, self.of, strict=True)
        )
        parts = [o.latex().replace(r"\mathcal{L}", name, 1) for name, (_, o) in zip(names, self.of, strict=True)]
        return r";\quad ".join([rf"\mathcal{{L}}(\theta)={weighted}", *parts])
