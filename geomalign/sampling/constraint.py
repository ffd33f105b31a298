"""Drives that act where a constraint on the whole batch is violated."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util.check import non_negative, positive
from geomalign._util.types import Interval, Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.base import SamplingGeometry

__all__ = ["KLViolation"]


@dataclasses.dataclass(frozen=True)
class KLViolation(SamplingGeometry):
    """g = sg[stiffness·max(K − limit, 0)] of every event, with K = −mean Δ over the events of the batch.

    K estimates KL(π_old‖π) of an event. Under `Flat()` the energy is −g·Δ, whose mean over the events has the gradient
    of the squared hinge (stiffness/2)·max(K − limit, 0)²: a constraint K ≤ limit, which costs nothing where it holds.

    K belongs to the whole batch, so that micro-batches and ranks, each of which sees a part, cannot be evaluated apart.

    Args:
        limit: δ, ≥ 0, in nats per event.
        stiffness: β, positive.

    Raises:
        ValueError: an argument out of its range.

    Source: DisCO (arXiv 2505.12366), δ = 1e-4 and β = 1e3 per token in its scripts.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.tensor([[-1.1], [-1.2]]), torch.tensor([[-1.0], [-1.0]]))  # K = 0.15
    >>> sampling = ga.sampling.KLViolation(limit=0.1, stiffness=10.0)
    >>> sampling.reweight(sampling.drive(batch)[:, None], batch.policy - batch.old, batch)
    tensor([[0.5000],
            [0.5000]])
    """

    limit: float = 1e-4
    stiffness: float = 1e3

    def __post_init__(self) -> None:
        non_negative(self, "a divergence per event", limit=self.limit)
        positive(self, "of the squared hinge", stiffness=self.stiffness)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        rows = batch.rows
        return torch.ones(batch.size, dtype=rows.dtype, device=rows.policy.device)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        support = batch.rows.support
        present = support if log_ratio.ndim == 2 else support.any(-1)
        mean = torch.where(present, log_ratio, 0).sum() / present.sum().clamp(min=1)
        return drive * (self.stiffness * torch.relu(-mean - self.limit))

    @property
    def locality(self) -> Locality:
        return Locality.BATCH

    @property
    def needs_ratio(self) -> bool:
        return True

    @property
    def drive_range(self) -> Interval:
        return Interval(0.0)

    def latex(self) -> str:
        violation = rf"\left(-\operatorname{{mean}}\Delta-{self.limit:g}\right)_+"
        return rf"\operatorname{{sg}}\left[{self.stiffness:g}\,{violation}\right]"
