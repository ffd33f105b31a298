"""The formula L = E_measure[ potential(u, drive) − drive · u ]: five slots, the anchor of u and an offset."""

from __future__ import annotations

import dataclasses
import inspect

import torch
from torch import Tensor

from geomalign._util.check import a, refuse
from geomalign._util.types import Locality
from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.chart import Chart, LogRatio
from geomalign.measure import Measure, PooledMean
from geomalign.objective import fit, node
from geomalign.objective.algebra import BaseObjective
from geomalign.objective.offset import NoOffset, Offset
from geomalign.objective.outcome import Events, Outcome, TermDrives, TermOutcome
from geomalign.optimization import OptimizationGeometry
from geomalign.sampling import SamplingGeometry
from geomalign.unit import Unit

__all__ = ["SLOTS", "Objective"]

SLOTS: dict[str, type] = {
    "unit": Unit,
    "chart": Chart,
    "sampling": SamplingGeometry,
    "optimization": OptimizationGeometry,
    "measure": Measure,
}
"""The five slots, each with the type that fills it."""

ANCHORS: dict[str | None, str | None] = {"old": r"\pi_k", "reference": r"\pi_{\mathrm{ref}}", None: None}
"""The policies that Δ can be measured from, each with its symbol."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective(BaseObjective):
    """One objective, or one term of a sum: a value for each of the five slots, an anchor and an offset.

    L(θ) = E_measure[ φ(u, g) − g·u + offset(g) ],   u = chart(unit(log π_θ − log π_anchor))

    Of a pair, u is the difference of its two responses' coordinates.

    Args:
        unit: what one event is: `Token()`, `Sequence()`, `MeanSequence()`, `Pair()`.
        chart: the coordinate in which the distance Δ from the anchor is read: `LogRatio()`, `Ratio()`, `Power(p)`,
            `Dual(divergence)`.
        sampling: what pulls, the drive g: `GroupAdvantage()`, `Escort(alpha)`, `Label()`.
        optimization: what resists, the potential φ: `ChiSquare(mu)`, `Logistic(beta)`, `Clip(low, high)`.
        measure: what is averaged over: `PooledMean()` over all events, `NestedMean()` over responses of the mean over
            their tokens, `FixedBudget(length)`.
        anchor: the policy that Δ is measured from: "old" (which sampled the rollout), "reference", or None (log π
            itself).
        offset: what the published value adds without gradient: `NoOffset()` nothing, `Surrogate()` −g,
            `FenchelYoung()` φ*(g).

    Raises:
        ValueError: a slot holds something else; the message says what it expects.

    Warns:
        UnboundedLossWarning: a constant drive lies outside the conjugate's domain (TRL's "robust" at its default), so
            that the loss has no minimum.
        RadiusWarning: the drive is solved for a step, and this potential in this chart makes another.

    Source: the Fenchel–Young form, Blondel, Martins & Niculae, JMLR 2020; the two geometries, OPO (arXiv 2601.12415).

    >>> import torch, geomalign as ga
    >>> opo = ga.Objective(
    ...     unit=ga.Sequence(), chart=ga.LogRatio(), sampling=ga.Escort(alpha=0.4), optimization=ga.ChiSquare(mu=1.0)
    ... )
    >>> policy = torch.zeros(4, 3, requires_grad=True)
    >>> outcome = opo(ga.Batch(policy, policy.detach(), reward=torch.tensor([1.0, 0.0, 0.0, 1.0])))
    >>> outcome.loss.backward()
    """

    unit: Unit
    chart: Chart = LogRatio()
    sampling: SamplingGeometry
    optimization: OptimizationGeometry
    measure: Measure = PooledMean()
    anchor: str | None = "old"
    offset: Offset = NoOffset()

    def __post_init__(self) -> None:
        for name, kind in {**SLOTS, "offset": Offset}.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                if inspect.isclass(value):
                    hint = f"Did you mean {name}={value.__name__}(…)?"
                elif kind is OptimizationGeometry and inspect.isroutine(value):
                    hint = "Did you mean ga.ConvexPotential(…)?"
                else:
                    hint = f"Pass an instance of {a(kind.__name__)}."
                refuse("Objective", f"this slot holds {a(kind.__name__)}. {hint}", **{name: value})
        if self.anchor not in ANCHORS:
            raise ValueError(
                f'Objective(anchor={self.anchor!r}): "old" (the policy that sampled), "reference", or None for no '
                "policy."
            )
        fit.check_together(self)

    @property
    def terms(self) -> tuple[tuple[float, Objective], ...]:
        return ((1.0, self),)

    @property
    def own_locality(self) -> Locality:
        """What must be known before the gradient at one token is, for this term alone."""
        if self.sampling.locality > Locality.ROLLOUT:  # a weight reads the log-ratio of the whole event
            return self.reach
        if self.optimization.constant_force and self.chart.linear and self.unit.linear and not self.unit.paired:
            return Locality.ROLLOUT
        return self.reach

    @property
    def reach(self) -> Locality:
        """What an event needs to know of the current forward pass beyond its own log-probabilities."""
        return max(self.unit.locality, self.sampling.locality, self.optimization.locality)

    @property
    def coupling(self) -> OptimizationGeometry | SamplingGeometry | None:
        """The slot value that couples the responses to one prompt, so that these are evaluated together; None if none
        does. A unit of pairs has its responses together in any case.
        """
        slots = () if self.unit.paired else (self.optimization, self.sampling)
        return next((value for value in slots if value.locality == Locality.GROUP), None)

    def check(self, batch: Batch | PreferenceBatch) -> None:
        """Raise unless this term can be evaluated on such a batch."""
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
        if self.unit.observes:
            batch.require("observation_mask", type(self.unit).__name__)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        self.check(batch)
        with torch.no_grad():
            if self.unit.paired or not batch.paired:
                return self.sampling.drive(self.unit.view(batch))
            chosen, rejected = self.sampling.drive(batch.rows).chunk(2)
            return torch.stack([chosen, rejected], dim=1)

    def _log_ratios(self, rows: Batch, mask: Tensor) -> Tensor:
        if self.anchor is None:
            return rows.log_probs("policy", "an Objective")
        anchor = rows.require(self.anchor, f"an Objective that measures from its {self.anchor} policy").detach()
        policy, anchor = (rows.tokens(x).to(rows.dtype) for x in (rows.policy, anchor))
        return torch.where(mask, policy - anchor, 0)

    def _chart(self, rows: Batch, mask: Tensor) -> Chart:
        """The chart at the events of these rows."""
        if not self.chart.needs_anchor:
            return self.chart
        assert self.anchor is not None, "refused at construction"
        return self.chart.among(self.unit.reduce(rows.log_probs(self.anchor, repr(self.chart)).detach(), mask))

    def _from_rollout(self, rows: Batch, log_ratio: Tensor, mask: Tensor) -> Tensor:
        """The Δ that importance weights are made of: from the anchor, or from the old policy where there is none."""
        if self.anchor is not None or (rows.old is None and not self.sampling.needs_ratio):
            return log_ratio
        policy, old = (rows.log_probs(name, type(self.sampling).__name__) for name in ("policy", "old"))
        return self.unit.reduce(policy - old, mask)

    def _per_row(self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None) -> Tensor:
        """The drive as given or computed, one entry per row or per pair of the batch."""
        if drive is None:
            return self.drive(batch)
        if isinstance(drive, TermDrives):
            raise ValueError(
                f"`drive` holds the drives of {len(drive)} terms, but this objective has one; compute it with this "
                "objective's drive(batch)."
            )
        if not isinstance(drive, Tensor):
            raise TypeError(
                f"`drive` is {type(drive).__name__}, not a torch.Tensor: pass this objective's drive(batch), or "
                "torch.as_tensor of numbers of your own, one per row."
            )
        if drive.shape[:1] != (batch.size,):
            raise ValueError(
                f"`drive` is {tuple(drive.shape)} but the batch has {batch.size} "
                f"{'pairs' if batch.paired else 'rows'}: pass the entries of the whole rollout's drive that belong to "
                "these rows, drive[rows]."
            )
        return drive.detach()

    def _drives(self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None) -> list[Tensor]:
        self.check(batch)
        return [self._per_row(batch, drive)]

    def _per_event(
        self, batch: Batch | PreferenceBatch, drive: Tensor, support: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """The drive of rows, tokens or pairs as that of the events, zero where there is none; and where there is one.

        Both have the shape of the events, or are one column where every token of a row has the row's drive.
        """
        if batch.paired and not self.unit.paired:
            if drive.shape != (batch.size, 2):
                raise ValueError(
                    f"`drive` is {tuple(drive.shape)}, but {self.unit!r} sees {batch.size} pairs as single responses: "
                    f"expected {(batch.size, 2)}, the chosen and the rejected one's."
                )
            drive = torch.cat([drive[:, 0], drive[:, 1]])
        if drive.ndim < support.ndim:
            drive, support = drive[:, None], _per_row(support)
        elif drive.shape != support.shape:
            raise ValueError(
                f"`drive` is {tuple(drive.shape)} but the events of {self.unit!r} are {tuple(support.shape)}. "
                "A drive per token needs unit=Token(); a unit of responses takes one number per response."
            )
        return torch.where(support, drive.to(dtype), 0), support

    def _weights(self, rows: Batch, support: Tensor, counts: Counts, dtype: torch.dtype) -> Tensor:
        events, sequences = self.unit.events(counts)
        return self.measure.among(rows, counts).weights(support, events.to(dtype), sequences.to(dtype))

    def _reweighted(
        self, batch: Batch | PreferenceBatch, g: Tensor, log_ratio: Tensor, mask: Tensor, support: Tensor
    ) -> Tensor:
        """The drive of events at the current policy."""
        if not self.sampling.reweights:
            return g
        compared = self.unit.combine(self._from_rollout(batch.rows, log_ratio, mask)).detach()
        return self.sampling.reweight(g.expand(support.shape), compared, batch).detach()

    def events(
        self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None = None, counts: Counts | None = None
    ) -> Events:
        """What the loss is made of, differentiable in the policy. Arguments and errors are those of the call."""
        self.check(batch)
        given, counts = self._per_row(batch, drive), node.counted(batch, counts)
        batch = self.unit.view(batch)
        rows = batch.rows
        mask = rows.support
        log_ratio = self.unit.reduce(self._log_ratios(rows, mask), mask)
        support = self.unit.support(mask)
        coordinate = self._chart(rows, mask)(log_ratio)
        u = torch.where(support, self.unit.combine(coordinate) - self.unit.shift(rows), 0)
        g, _ = self._per_event(batch, given, support, u.dtype)
        g = self._reweighted(batch, g, log_ratio, mask, support)
        g = torch.where(support, g, 0)
        return Events(rows, mask, log_ratio, support, u, g, self._weights(rows, support, counts, u.dtype))

    def plain(
        self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None = None, counts: Counts | None = None
    ) -> Outcome:
        events = self.events(batch, drive, counts)
        optimization = self.optimization.among(events.rows)
        value = optimization.energy(events.u, events.drive) + self.offset(optimization, events.drive)
        loss = (events.weights * torch.where(events.support, value, 0)).sum()
        return Outcome(loss, (TermOutcome(self, loss, lambda: events),), batch)

    def closed_form(
        self, batch: Batch | PreferenceBatch, drive: Tensor, counts: Counts, with_gradient: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """The loss and ∂loss/∂log π of every token of `batch.rows`, without autograd and in one pass.

        weight · (φ'(u) − g) · chart'(Δ) · unit', the chain rule through the slots. Nothing is checked here.
        """
        batch = self.unit.view(batch)
        rows = batch.rows
        mask = rows.support
        tokens = self._log_ratios(rows, mask)
        log_ratio = self.unit.reduce(tokens, mask)
        support = self.unit.support(mask)
        coordinate, slope = self._chart(rows, mask).value_and_slope(log_ratio)
        u = self.unit.combine(coordinate) - self.unit.shift(rows)
        if not self.unit.per_token:  # of a pair without a response u may be infinite; a masked token has Δ = 0
            u = torch.where(support, u, 0)
        g, present = self._per_event(batch, drive, support, u.dtype)
        g = self._reweighted(batch, g, log_ratio, mask, support)
        weights = self._weights(rows, support, counts, u.dtype)
        optimization = self.optimization.among(rows)
        energy, force = optimization.energy_and_force(u, g)
        # Where there is no event the drive is 0, at which the conjugate in an offset may be infinite.
        present = present if g.shape == present.shape else support
        value = energy + torch.where(present, self.offset(optimization, g), 0)
        loss = (weights * value).sum()
        if not with_gradient:
            return loss, None
        gradient = self.unit.split(weights * force, coordinate) * slope
        return loss, self.unit.spread(gradient, mask, tokens)

    def latex(self) -> str:
        tokens = self.unit.per_token
        event = "{i,t}" if tokens else "i"
        u, g = f"u_{event}", f"g_{event}"
        log_ratio = self.unit.latex(ANCHORS[self.anchor])
        drive = self.sampling.latex()
        # A constant drive of zero is left out of the formula.
        pulled = "0" if drive == "0" else g
        value = self.offset.latex(u, pulled, self.optimization.latex(u, g))
        lines = [rf"\mathcal{{L}}(\theta)={self.measure.latex(tokens)}\left[{value}\right]"]
        lines.append(self.unit.latex_event(u, self.chart.latex(log_ratio)))
        if pulled == g:
            lines.append(rf"{g}={drive}")
        return r",\quad ".join(lines)


def _per_row(support: Tensor) -> Tensor:
    """Which rows have a token, as one column. Compiled code asks every token instead, so that one loop is enough."""
    return support if torch.compiler.is_compiling() else (support.sum(-1, keepdim=True) > 0)
