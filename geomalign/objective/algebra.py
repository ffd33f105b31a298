"""What all objectives have in common, and their algebra: sums and multiples."""

from __future__ import annotations

import dataclasses
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Locality
from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.objective import node
from geomalign.objective.outcome import Events, Outcome, PairGradient, TermDrives, TermOutcome
from geomalign.optimization import BregmanGeometry

if TYPE_CHECKING:
    from geomalign.objective.formula import Objective

__all__ = ["BaseObjective", "WeightedSum"]


class BaseObjective(ABC):
    """What an `Objective` of one term and a sum of them have in common. They add and take multiples.

    An objective is a pure function of its batch: evaluating it any number of times changes nothing.

    >>> import geomalign as ga
    >>> penalised = ga.recipes.grpo() + 0.04 * ga.kl_penalty("k3")
    >>> [coefficient for coefficient, term in penalised.terms]
    [1.0, 0.04]
    """

    @property
    @abstractmethod
    def terms(self) -> tuple[tuple[float, Objective], ...]:
        """The single-term objectives of the sum, each with its coefficient."""

    def __call__(
        self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None = None, counts: Counts | None = None
    ) -> Outcome:
        """Evaluate the loss and, in the same pass and in closed form, its gradient in the policy.

        The loss hangs on the policy's log-probabilities as one node that keeps one number per log-probability. It can
        be differentiated once; `plain` is the same formula under autograd.

        Args:
            batch: a `Batch`, or a `PreferenceBatch` where the unit is a pair.
            drive: of `drive(whole_batch)`, the rows of this batch. None: computed from this batch, whose groups must
                then be whole.
            counts: `whole_batch.counts()` of the batch of which this one is a part (a micro-batch, a rank's rows).
                None: this batch is the whole.

        Returns:
            `Outcome`. With the same `counts`, the losses and gradients of parts add up to those of the whole.

        Raises:
            ValueError: the batch lacks what a slot needs, or the drive does not have the shape of the batch.
            TypeError: an argument is of another type.
            RuntimeError: in the backward pass, a second derivative was asked for.
        """
        drives = self._drives(batch, drive)
        here = node.detached(batch)
        counts = node.counted(here, counts)
        wanted = node.differentiable(batch)
        with torch.no_grad():
            losses, gradients = node.evaluate(self.terms, here, drives, counts, wanted)
            (first, _), *rest = self.terms
            loss = losses[0] if first == 1 else first * losses[0]
            for (coefficient, _), other in zip(rest, losses[1:], strict=True):
                loss = loss + coefficient * other
        if gradients:
            loss = node.attach(loss, node.policies(batch), gradients)
        alone = len(losses) == 1 and first == 1
        terms = (
            TermOutcome(
                term,
                loss if alone else value,
                functools.partial(_events, term, here, drive, counts),
                functools.partial(_parts, term, here, drive, counts),
            )
            for (_, term), value, drive in zip(self.terms, losses, drives, strict=True)
        )
        return Outcome(loss, tuple(terms), here)

    @abstractmethod
    def plain(
        self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None = None, counts: Counts | None = None
    ) -> Outcome:
        """The same evaluation as a formula under autograd: slower and larger, and differentiable any number of times.

        The tensors of its terms carry gradients. Arguments and errors are those of the call.
        """

    @abstractmethod
    def drive(self, batch: Batch | PreferenceBatch) -> Tensor | TermDrives:
        """The drive of every row or pair, computed once per rollout from whole groups, without gradient.

        Returns:
            `(row,)`, `(row, token)` or `(pair,)`; `TermDrives` for a sum.
        """

    def gradient(
        self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None = None, counts: Counts | None = None
    ) -> Tensor | PairGradient:
        """∂loss/∂log π of every token in closed form, without autograd.

        weight · (φ'(u) − g) · chart'(Δ) · unit', the chain rule through the slots. Arguments are those of the call.

        Returns:
            `(row, token)`, in the shape of the batch's `policy`; `PairGradient` for a `PreferenceBatch`.
        """
        drives = self._drives(batch, drive)
        here = node.detached(batch)
        counts = node.counted(here, counts)
        with torch.no_grad():
            _, gradients = node.evaluate(self.terms, here, drives, counts)
        return gradients[0] if isinstance(batch, Batch) else PairGradient(*gradients)

    @abstractmethod
    def _drives(self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None) -> list[Tensor]:
        """The drive of every term, as given or computed, after the checks of the call's arguments."""

    @abstractmethod
    def latex(self) -> str:
        """The objective as the formula that a paper would print."""

    @property
    def locality(self) -> Locality:
        """What must be known before the gradient at one token can be computed; the most demanding term decides."""
        return max(term.own_locality for _, term in self.terms)

    @property
    def decoupled(self) -> bool:
        """Whether every potential is a `BregmanGeometry`: a function of the coordinate alone, free of the drive, so
        that the sampling and the optimization geometry are orthogonal.
        """
        return all(isinstance(term.optimization, BregmanGeometry) for _, term in self.terms)

    @property
    def paired(self) -> bool:
        """Whether any term compares pairs, so that the objective needs a `PreferenceBatch`."""
        return any(term.unit.paired for _, term in self.terms)

    @property
    def driven_terms(self) -> tuple[Objective, ...]:
        """The terms whose drive depends on the samples; a constant label is no such drive."""
        return tuple(term for _, term in self.terms if term.sampling.driven)

    @property
    def driven(self) -> bool:
        """Whether any term's drive depends on the samples."""
        return bool(self.driven_terms)

    @property
    def needs_reference(self) -> bool:
        """Whether any term measures from the reference policy, or has a drive that is made of it."""
        return any(term.anchor == "reference" or term.sampling.needs_reference for _, term in self.terms)

    @property
    def needs_old(self) -> bool:
        """Whether any term measures from the old policy, which sampled the rollout."""
        return any(term.anchor == "old" for _, term in self.terms)

    @property
    def needs_observations(self) -> bool:
        """Whether any term predicts what the environment wrote, so that the batch needs an `observation_mask`."""
        return any(term.unit.observes for _, term in self.terms)

    @property
    def per_token(self) -> bool:
        """Whether the events of every term are tokens."""
        return all(term.unit.per_token for _, term in self.terms)

    def __add__(self, other: BaseObjective) -> WeightedSum:
        if not isinstance(other, BaseObjective):
            return NotImplemented
        return WeightedSum(self.terms + other.terms)

    def __radd__(self, other: int) -> BaseObjective:
        return self if other == 0 else NotImplemented

    def __mul__(self, factor: float) -> WeightedSum:
        if not isinstance(factor, (int, float)):
            return NotImplemented
        return WeightedSum(tuple((factor * coefficient, objective) for coefficient, objective in self.terms))

    __rmul__ = __mul__


@dataclasses.dataclass(frozen=True)
class WeightedSum(BaseObjective):
    """Σ_k c_k · L_k, each term with its own slots and anchor. Written `surrogate + 0.04 * penalty`.

    Args:
        of: pairs of a finite coefficient c_k and an `Objective`.

    Raises:
        ValueError: a coefficient is not finite.

    >>> import geomalign as ga
    >>> (2 * ga.recipes.opo()).terms[0][0]
    2.0
    """

    of: tuple[tuple[float, Objective], ...]

    def __post_init__(self) -> None:
        for coefficient, _ in self.of:
            if not math.isfinite(coefficient):
                raise ValueError(f"a coefficient of a sum of objectives is {coefficient!r}; it must be finite.")

    @property
    def terms(self) -> tuple[tuple[float, Objective], ...]:
        return self.of

    def drive(self, batch: Batch | PreferenceBatch) -> TermDrives:
        return TermDrives(objective.drive(batch) for _, objective in self.of)

    def _given(self, drive: Tensor | TermDrives | None) -> Iterator[Tensor | None]:
        if drive is None:
            return iter((None,) * len(self.of))
        if not isinstance(drive, TermDrives):
            # One tensor for a sum is the drive of the terms that samples drive; a constant label keeps its own.
            ways = [term.sampling for term in self.driven_terms]
            if any(way != ways[0] for way in ways):
                raise ValueError(
                    f"`drive` is one tensor, but the terms of this sum are driven in {len(ways)} ways, "
                    f"{', '.join(map(repr, ways))}: pass this objective's drive(batch), or TermDrives with one drive "
                    "per term."
                )
            return iter(drive if objective.sampling.driven else None for _, objective in self.of)
        if len(drive) != len(self.of):
            raise ValueError(
                f"`drive` has {len(drive)} terms, the objective {len(self.of)}: compute it with this objective's "
                "drive(batch)."
            )
        return iter(drive.drives)

    def _drives(self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None) -> list[Tensor]:
        return [o._drives(batch, g)[0] for (_, o), g in zip(self.of, self._given(drive), strict=True)]

    def plain(
        self, batch: Batch | PreferenceBatch, drive: Tensor | TermDrives | None = None, counts: Counts | None = None
    ) -> Outcome:
        terms = [o.plain(batch, g, counts).terms[0] for (_, o), g in zip(self.of, self._given(drive), strict=True)]
        loss = sum(
            (c * x.loss for (c, _), x in zip(self.of[1:], terms[1:], strict=True)), self.of[0][0] * terms[0].loss
        )
        return Outcome(loss, tuple(terms), batch)

    def latex(self) -> str:
        names = [rf"\mathcal{{L}}_{{{k}}}" for k in range(1, len(self.of) + 1)]
        weighted = "+".join(
            name if c == 1 else rf"{numerics.latex(c)}\,{name}" for name, (c, _) in zip(names, self.of, strict=True)
        )
        parts = [o.latex().replace(r"\mathcal{L}", name, 1) for name, (_, o) in zip(names, self.of, strict=True)]
        return r";\quad ".join([rf"\mathcal{{L}}(\theta)={weighted}", *parts])


def _events(term: Objective, batch: Batch | PreferenceBatch, drive: Tensor, counts: Counts) -> Events:
    with torch.no_grad():
        return term.events(batch, drive, counts)


def _parts(term: Objective, batch: Batch | PreferenceBatch, drive: Tensor, counts: Counts) -> Iterator[Events]:
    return (_events(term, batch[rows], drive[rows], counts) for rows in node.tiles(batch, term.terms))
