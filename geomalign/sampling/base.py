"""The contract of a sampling geometry: the drive of every event."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor

from geomalign._util.types import Interval, Locality
from geomalign.batch import Batch, PreferenceBatch

__all__ = ["SamplingGeometry"]


class SamplingGeometry(ABC):
    """Which samples dominate the gradient: the drive g of every event, ∂L/∂u = φ'(u) − g.

    `drive` needs whole groups, so it is computed once for a rollout; `reweight` is what depends on the policy as it
    trains, and happens at every evaluation. No gradient flows through either.
    """

    @abstractmethod
    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        """The drive of every row (or pair): `(row,)`, or `(row, token)`. Called without gradient, with whole groups."""

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        """The drive at the current policy: the drive itself here.

        `log_ratio` is Δ in the shape of the events, detached: from the objective's anchor, or from the rollout policy
        where the objective has no anchor and the batch has one. `batch` is what is being evaluated.
        """
        return drive

    @property
    def locality(self) -> Locality:
        """What of the current forward pass `reweight` needs: nothing here."""
        return Locality.ROLLOUT

    @property
    def drive_range(self) -> Interval:
        """Where the drive can lie, as far as the hyper-parameters tell."""
        return Interval(-math.inf, math.inf)

    @property
    def driven(self) -> bool:
        """Whether the drive depends on the samples. A constant label does not: its range is one point."""
        return self.drive_range.low != self.drive_range.high

    @abstractmethod
    def latex(self) -> str:
        """The drive as a formula."""


def _signal(batch: Batch | PreferenceBatch, asked_by: str) -> Tensor:
    """The advantage where there is one, else the reward."""
    if isinstance(batch, Batch) and batch.advantage is not None:
        return batch.advantage
    return batch.require("reward", asked_by)


def _check_inner(outer: SamplingGeometry, inner: object) -> None:
    if not isinstance(inner, SamplingGeometry):
        raise ValueError(
            f"{type(outer).__name__}(of={inner!r}): expected a SamplingGeometry instance such as GroupAdvantage()."
        )


def _rewards(batch: Batch | PreferenceBatch, asked_by: str) -> tuple[Batch, Tensor]:
    reward = batch.require("reward", asked_by)
    assert isinstance(batch, Batch)
    return batch, batch.per_response(reward)


def _is_sampling(outer: SamplingGeometry, inner: object) -> None:
    if not isinstance(inner, SamplingGeometry):
        raise ValueError(
            f"{type(outer).__name__}(of={inner!r}): expected a SamplingGeometry instance such as GroupAdvantage()."
        )
