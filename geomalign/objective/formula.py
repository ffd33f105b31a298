"""The formula L = E_measure[ potential(u, drive) − drive · u ]: five slots, the anchor of u and an offset."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from geomalign._util.check import a, refuse
from geomalign._util.types import Locality
from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.chart import Chart, LogRatio
from geomalign.measure import Measure, PooledMean
from geomalign.objective.algebra import BaseObjective
from geomalign.objective.offset import NoOffset, Offset
from geomalign.objective.outcome import Outcome, PairGradient, TermDrives, TermOutcome, UnboundedLossWarning
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


class _Events(NamedTuple):
    """What the loss and its gradient both need: the rows, their tokens, and what belongs to every event."""

    rows: Batch
    mask: Tensor
    log_ratio: Tensor
    support: Tensor
    u: Tensor
    drive: Tensor
    weights: Tensor


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
        drive, allowed = self.sampling.drive_range, self.optimization.conjugate_domain
        if not self.sampling.driven and not allowed.low <= drive.low <= allowed.high:
            warnings.warn(
                f"the drive {drive.low:g} of {self.sampling!r} lies outside [{allowed.low:g}, {allowed.high:g}], the "
                f"drives that {self.optimization!r} can balance: this loss is unbounded below, so training has no "
                "end point. Choose a smaller drive or a stiffer potential.",
                UnboundedLossWarning,
                stacklevel=3,
            )

    @property
    def terms(self) -> tuple[tuple[float, Objective], ...]:
        return ((1.0, self),)

    @property
    def own_locality(self) -> Locality:
        """What must be known before the gradient at one token is, for this term alone."""
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
        """The Δ that importance weights are made of: from the anchor, or from the old policy where there is none."""
        if self.anchor is not None or rows.old is None:
            return log_ratio
        return self.unit.reduce(rows.log_probs("policy", "reweight") - rows.log_probs("old", "reweight"), mask)

    def _per_row(self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None) -> Tensor:
        """The drive as given or computed, with one entry per row of `batch.rows` (per pair for a paired unit)."""
        if drive is None:
            g = self.drive(batch)
        elif isinstance(drive, TermDrives):
            raise ValueError(
                f"`drive` holds the drives of {len(drive)} terms, but this objective has one; compute it with this "
                "objective's drive(batch)."
            )
        elif not isinstance(drive, Tensor):
            raise TypeError(
                f"`drive` is {type(drive).__name__}, not a torch.Tensor: pass this objective's drive(batch), or "
                "torch.as_tensor of numbers of your own, one per row."
            )
        else:
            g = drive.detach()
        if g.shape[:1] != (batch.size,):
            raise ValueError(
                f"`drive` is {tuple(g.shape)} but the batch has {batch.size} {'pairs' if batch.paired else 'rows'}: "
                "pass the entries of the whole rollout's drive that belong to these rows, drive[rows]."
            )
        if self.unit.paired or not batch.paired:
            return g
        if g.shape != (batch.size, 2):
            raise ValueError(
                f"`drive` is {tuple(g.shape)}, but {self.unit!r} sees {batch.size} pairs as single responses: "
                f"expected {(batch.size, 2)}, the chosen and the rejected one's."
            )
        return torch.cat([g[:, 0], g[:, 1]])

    def _per_event(self, g: Tensor, support: Tensor, dtype: torch.dtype) -> Tensor:
        """The drive of rows or of tokens in the shape of the events, zero where there is none."""
        if g.ndim < support.ndim:
            g = g[:, None].expand(support.shape)
        if g.shape != support.shape:
            raise ValueError(
                f"`drive` is {tuple(g.shape)} but the events of {self.unit!r} are {tuple(support.shape)}. "
                "A drive per token needs unit=Token(); a unit of responses takes one number per response."
            )
        return torch.where(support, g.to(dtype), 0)

    def _events(
        self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None, counts: Counts | None
    ) -> _Events:
        self._check(batch)
        rows = batch.rows
        mask = rows.support
        log_ratio = self.unit.reduce(self._log_ratios(rows), mask)
        support = self.unit.support(mask)
        u = torch.where(support, self.unit.combine(self.chart(log_ratio)) - self.unit.shift(rows), 0)
        compared = self.unit.combine(self._from_rollout(rows, log_ratio, mask)).detach()
        g = self._per_event(self._per_row(batch, drive), support, compared.dtype)
        g = self.sampling.reweight(g, compared, batch).detach()
        counts = batch.counts() if counts is None else counts
        if not isinstance(counts, Counts):
            raise TypeError(
                f"`counts` is {type(counts).__name__}, not geomalign Counts: pass whole_batch.counts(), or the sum "
                "of its parts' counts."
            )
        events, in_rows = self.unit.events(counts)
        weights = self.measure.weights(support, events.to(u.dtype), in_rows.to(u.dtype))
        return _Events(rows, mask, log_ratio, support, u, g, weights)

    def __call__(
        self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None = None, counts: Counts | None = None
    ) -> Outcome:
        rows, mask, log_ratio, support, u, g, weights = self._events(batch, drive, counts)
        value = self.optimization.energy(u, g) + self.offset(self.optimization, g)
        loss = (weights * torch.where(support, value, 0)).sum()
        token_log_ratio = None
        if rows.old is not None:
            token_log_ratio = (rows.log_probs("policy", "metrics") - rows.log_probs("old", "metrics")).detach()
        term = TermOutcome(loss, u, g, weights, support, log_ratio, self)
        return Outcome(loss, (term,), token_log_ratio, mask)

    def gradient(
        self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None = None, counts: Counts | None = None
    ) -> Tensor | PairGradient:
        with torch.no_grad():
            rows, mask, log_ratio, support, u, g, weights = self._events(batch, drive, counts)
            force = weights * torch.where(support, self.optimization.force(u, g), 0)
            gradient = self.unit.split(force, self.chart(log_ratio)) * self.chart.slope(log_ratio)
            tokens = self.unit.spread(gradient, mask, self._log_ratios(rows))
        return _like_batch(tokens, batch)

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


def _like_batch(tokens: Tensor, batch: Batch | PreferenceBatch) -> Tensor | PairGradient:
    """The gradient per token of `batch.rows` in the shapes of the batch's own log-probabilities."""
    if isinstance(batch, Batch):
        return tokens[:, 0] if batch.summed else tokens
    chosen, rejected = tokens.chunk(2)
    if batch.summed:
        return PairGradient(chosen[:, 0], rejected[:, 0])
    return PairGradient(chosen[:, : batch.chosen.shape[1]], rejected[:, : batch.rejected.shape[1]])
