"""What an objective returns: losses, drives and gradients as named records."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch
from geomalign.optimization import OptimizationGeometry

if TYPE_CHECKING:
    from geomalign.objective.formula import Objective

__all__ = ["Outcome", "PairGradient", "TermDrives", "TermOutcome"]


class PairGradient(NamedTuple):
    """The gradient ∂L/∂log π in both responses of every pair, each in the shape of its log-probabilities.

    Args:
        chosen: `(pair, token)`, or `(pair,)` where the batch holds sums.
        rejected: the same for the other response.

    >>> import torch, geomalign as ga
    >>> pairs = ga.PreferenceBatch(*torch.zeros(4, 1, 1))
    >>> ga.recipes.dpo(beta=0.1).gradient(pairs)
    PairGradient(chosen=tensor([[-0.0500]]), rejected=tensor([[0.0500]]))
    """

    chosen: Tensor
    rejected: Tensor


class TermDrives:
    """One drive tensor per term of a sum. Indexing selects the same rows in every term; iterating yields the terms.

    >>> import torch
    >>> TermDrives((torch.arange(3.0), torch.zeros(3)))[:2]
    TermDrives(tensor([0., 1.]), tensor([0., 0.]))
    """

    def __init__(self, drives: Iterable[Tensor]):
        self.drives = tuple(drives)

    def __getitem__(self, rows: Any) -> TermDrives:
        return TermDrives([drive[rows] for drive in self.drives])

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.drives)

    def __len__(self) -> int:
        return len(self.drives)

    def __repr__(self) -> str:
        return f"TermDrives({', '.join(map(repr, self.drives))})"


class Events(NamedTuple):
    """What the loss of one term and its gradient are made of: the rows, their tokens, and what belongs to every event.

    Args:
        rows: the responses.
        mask: `(row, token)` booleans.
        log_ratio: Δ reduced to responses or tokens.
        support: booleans in the shape of the events.
        u: coordinate, zero outside the support.
        drive: g, zero outside the support, without gradient.
        weights: what the loss is summed with, zero outside the support.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    >>> ga.recipes.opo().events(batch).weights
    tensor([0.5000, 0.5000])
    """

    rows: Batch
    mask: Tensor
    log_ratio: Tensor
    support: Tensor
    u: Tensor
    drive: Tensor
    weights: Tensor


class TermOutcome:
    """What one term of an objective saw, in the shape of its events: `(row, token)`, `(row,)` or `(pair,)`.

    An evaluation keeps none of these tensors: they are computed, without gradient, when the first of them is read.
    `objective.plain(batch)` has them with gradient.

    Args:
        objective: the term.
        loss: scalar, the published value of this term without its coefficient; with gradient where it is the only term.
        events: makes the tensors of the events.
        parts: makes them for some rows after others; None: all at once.

    Attributes:
        u: coordinate of every event, zero outside `support`.
        drive: g of every event, without gradient.
        weights: what the loss is summed with. They sum to one over the whole batch (for `FixedBudget`: over full rows).
        support: booleans, the events that exist.
        log_ratio: Δ from the objective's own anchor in nats, reduced to responses or tokens, before the chart.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    >>> ga.recipes.opo()(batch).terms[0].curvature
    tensor([1., 1.])
    """

    def __init__(
        self,
        objective: Objective,
        loss: Tensor,
        events: Callable[[], Events],
        parts: Callable[[], Iterable[Events]] | None = None,
    ):
        self.objective = objective
        self.loss = loss
        self._make = events
        self._parts = parts

    @functools.cached_property
    def _events(self) -> Events:
        return self._make()

    def parts(self) -> Iterable[Events]:
        """The tensors of the events for some rows after others, none of which is kept; all at once where they were."""
        return [self._events] if self._parts is None or "_events" in vars(self) else self._parts()

    @property
    def u(self) -> Tensor:
        """The coordinate of every event."""
        return self._events.u

    @property
    def drive(self) -> Tensor:
        """The drive g of every event."""
        return self._events.drive

    @property
    def weights(self) -> Tensor:
        """What the loss is summed with."""
        return self._events.weights

    @property
    def support(self) -> Tensor:
        """Booleans, the events that exist."""
        return self._events.support

    @property
    def log_ratio(self) -> Tensor:
        """Δ from the anchor, reduced to responses or tokens, before the chart."""
        return self._events.log_ratio

    @functools.cached_property
    def optimization(self) -> OptimizationGeometry:
        """The term's optimization geometry, as it acts on these events."""
        return self.objective.optimization.among(self._events.rows)

    @property
    def potential(self) -> Tensor:
        """φ(u, g) of every event."""
        return self._kept(self.optimization.potential(self.u, self.drive))

    @property
    def gap(self) -> Tensor:
        """φ(u, g) + φ*(g) − g·u ≥ 0 of every event: its distance from equilibrium, as a Fenchel–Young loss."""
        return self._kept(self.optimization.gap(self.u, self.drive))

    @property
    def force(self) -> Tensor:
        """∂φ/∂u − g of every event."""
        return self._kept(self.optimization.force(self.u, self.drive))

    @property
    def curvature(self) -> Tensor:
        """∂²φ/∂u² of every event."""
        return self._kept(self.optimization.curvature(self.u, self.drive))

    def _kept(self, x: Tensor) -> Tensor:
        return torch.where(self.support, x, 0)


class Outcome:
    """What one evaluation of an objective, of a single term or of a sum, returns.

    An objective of one term has its term's tensors as properties: `outcome.u` is `outcome.terms[0].u`. A sum has no
    single `u` or `drive`; asking for one is an error that says so.

    Args:
        loss: scalar, the published value, with gradient.
        terms: one `TermOutcome` per term of the objective, in its order.
        batch: what was evaluated; its log-probabilities are read without gradient.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    >>> outcome = ga.recipes.opo()(batch)
    >>> outcome.u.shape, len(outcome.terms)
    (torch.Size([2]), 1)
    """

    def __init__(self, loss: Tensor, terms: tuple[TermOutcome, ...], batch: Batch | PreferenceBatch):
        self.loss = loss
        self.terms = terms
        self.batch = batch

    @functools.cached_property
    def mask(self) -> Tensor:
        """`(row, token)` booleans, the tokens that exist."""
        return self.batch.rows.support

    @functools.cached_property
    def token_log_ratio(self) -> Tensor | None:
        """`(row, token)` log π_θ − log π_old, without gradient; None where the batch has no `old`."""
        rows = self.batch.rows
        if rows.old is None:
            return None
        return (rows.log_probs("policy", "metrics") - rows.log_probs("old", "metrics")).detach()

    @property
    def u(self) -> Tensor:
        """The coordinate of every event."""
        return self._term("u").u

    @property
    def drive(self) -> Tensor:
        """The drive g of every event."""
        return self._term("drive").drive

    @property
    def weights(self) -> Tensor:
        """What the loss is summed with."""
        return self._term("weights").weights

    @property
    def support(self) -> Tensor:
        """Booleans, the events that exist."""
        return self._term("support").support

    @property
    def log_ratio(self) -> Tensor:
        """Δ from the anchor, reduced to responses or tokens, before the chart."""
        return self._term("log_ratio").log_ratio

    @property
    def objective(self) -> Objective:
        """The objective that was evaluated."""
        return self._term("objective").objective

    @property
    def potential(self) -> Tensor:
        """φ(u, g) of every event."""
        return self._term("potential").potential

    @property
    def gap(self) -> Tensor:
        """The Fenchel–Young loss of every event."""
        return self._term("gap").gap

    @property
    def force(self) -> Tensor:
        """∂φ/∂u − g of every event."""
        return self._term("force").force

    @property
    def curvature(self) -> Tensor:
        """∂²φ/∂u² of every event."""
        return self._term("curvature").curvature

    def _term(self, name: str) -> TermOutcome:
        if len(self.terms) != 1:
            raise AttributeError(
                f"`{name}` belongs to one term, and this outcome is of a sum of {len(self.terms)}: read "
                f"`outcome.terms[k].{name}`."
            )
        return self.terms[0]
