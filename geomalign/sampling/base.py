"""The contract of a sampling geometry, and the helpers that its members share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from geomalign._util.check import instance, positive
from geomalign._util.types import Interval, Locality
from geomalign.batch import Batch, PreferenceBatch

__all__ = ["SamplingGeometry"]


class SamplingGeometry(ABC):
    """Which samples dominate the gradient: the drive g of every event, in ∂L/∂u = φ'(u) − g.

    `drive` is computed once per rollout, because it needs whole groups. `reweight` is the part that depends on the
    policy in training, and is computed at every evaluation. No gradient flows through either.

    A geometry of one's own states `drive` alone; a `latex` of its own only improves the printed formula:

    >>> import torch, geomalign as ga
    >>> class Squashed(ga.SamplingGeometry):
    ...     def drive(self, batch):
    ...         reward = batch.per_response(batch.require("reward", "Squashed"))
    ...         return torch.tanh(batch.groups().centred(reward))
    >>> ga.laws.check_sampling(Squashed())
    """

    @abstractmethod
    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        """The drive of every row (or pair), `(row,)`, or of every token, `(row, token)`.

        It is called without gradient and with whole groups. What rows without tokens hold, even NaN, must not matter.
        """

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        """The drive at the current policy; by default the drive of the rollout.

        Args:
            drive: what `drive` returned for the rows of `batch`.
            log_ratio: Δ in the shape of the events, detached, measured from the objective's anchor; from π_old where
                the objective has no anchor. A batch without `old` is then refused if `needs_ratio`, else it is log π.
            batch: what is being evaluated, possibly only a part of the rollout.
        """
        return drive

    @property
    def locality(self) -> Locality:
        """What `reweight` needs to know of the current forward pass; by default nothing."""
        return Locality.ROLLOUT

    @property
    def reweights(self) -> bool:
        """Whether the current policy weighs the drive: whether `reweight` has anything to do."""
        return type(self).reweight is not SamplingGeometry.reweight

    @property
    def drive_range(self) -> Interval:
        """The interval in which the drive lies for all samples, as far as the hyper-parameters bound it."""
        return Interval(-math.inf, math.inf)

    @property
    def driven(self) -> bool:
        """Whether the drive depends on the samples. A constant label does not: its `drive_range` is one point."""
        return self.drive_range.low != self.drive_range.high

    @property
    def needs_reference(self) -> bool:
        """Whether the drive is made of the reference policy's log-probabilities, the batch's `reference`; by
        default, whether that of its `of` is."""
        of = getattr(self, "of", None)
        return isinstance(of, SamplingGeometry) and of.needs_reference

    @property
    def needs_ratio(self) -> bool:
        """Whether `reweight` reads a log-ratio from another policy; by default, whether that of `of` does."""
        of = getattr(self, "of", None)
        return isinstance(of, SamplingGeometry) and of.needs_ratio

    def solved_drive(self, ratio: Tensor) -> Tensor | None:
        """g(t*), the drive that is solved for a step to the ratio t*; by default None, as no step is promised."""
        return None

    def latex(self) -> str:
        """The drive as a formula; by default the name of the class."""
        return rf"\operatorname{{{type(self).__name__}}}_i"


class Transformed(SamplingGeometry):
    """The drive of another geometry `of`, changed once per rollout; what `of` weighs by the current policy stays.

    A member states `drive`: `Transformed(ClippedImportance(…))` is the changed drive times the clipped weight.

    >>> import dataclasses, torch, geomalign as ga
    >>> from geomalign.sampling.base import Transformed
    >>> @dataclasses.dataclass(frozen=True)
    ... class Halved(Transformed):
    ...     of: ga.SamplingGeometry = ga.Advantage()
    ...     def drive(self, batch):
    ...         return self.of.drive(batch) / 2
    >>> Halved(ga.ClippedImportance(ga.Advantage(), high=1.2)).locality.name
    'TOKEN'
    """

    of: SamplingGeometry

    def __post_init__(self) -> None:
        is_sampling(self, self.of)

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.reweight(drive, log_ratio, batch)

    @property
    def reweights(self) -> bool:
        return type(self).reweight is not Transformed.reweight or self.of.reweights

    @property
    def locality(self) -> Locality:
        return self.of.locality


class Reweighting(Transformed):
    """g · sg[w]: the drive of another geometry `of`, multiplied by a weight w of the current policy.

    A member states `weight`, in `reach` the locality of that weight, and `reads_ratio = False` where it needs no Δ.

    >>> import dataclasses, torch, geomalign as ga
    >>> from geomalign.sampling.base import Reweighting
    >>> @dataclasses.dataclass(frozen=True)
    ... class Trusting(Reweighting):
    ...     of: ga.SamplingGeometry = ga.Advantage()
    ...     def weight(self, drive, log_ratio, batch):
    ...         return torch.exp(-log_ratio.abs())
    >>> ga.laws.check_sampling(Trusting())
    """

    reach: ClassVar[Locality] = Locality.TOKEN
    reads_ratio: ClassVar[bool] = True

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.drive(batch)

    @abstractmethod
    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        """w in the shape of the drive; the arguments are those of `reweight`."""

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        return self.of.reweight(drive, log_ratio, batch) * self.weight(drive, log_ratio, batch)

    @property
    def locality(self) -> Locality:
        return max(self.reach, self.of.locality)

    @property
    def needs_ratio(self) -> bool:
        return self.reads_ratio or self.of.needs_ratio


def is_sampling(owner: object, of: object) -> None:
    """Raise a ValueError unless `of` is a sampling geometry.

    >>> is_sampling("SignalScale", "group")
    Traceback (most recent call last):
    ValueError: SignalScale(of='group'): expected a SamplingGeometry instance such as GroupAdvantage().
    """
    instance(owner, "of", of, SamplingGeometry, "GroupAdvantage()")


def is_cap(owner: object, cap: float | None) -> None:
    """Raise a ValueError unless `cap` bounds a weight from above: a positive number, or None.

    >>> is_cap("ImportanceRatio", None)
    """
    if cap is not None:
        positive(owner, "the bound of an importance weight; None for no bound", cap=cap)


def signal(owner: object, batch: Batch | PreferenceBatch) -> tuple[Batch, Tensor]:
    """The batch and its `advantage`, or its `reward` where it has none; an error names the geometry that asked.

    >>> import torch, geomalign as ga
    >>> signal(ga.Advantage(), ga.Batch(torch.zeros(2, 3), None, reward=torch.ones(2)))[1]
    tensor([1., 1.])
    """
    if isinstance(batch, Batch) and batch.advantage is not None:
        return batch, batch.advantage
    found = batch.require("reward", f"{type(owner).__name__}()")
    assert isinstance(batch, Batch)  # pairs have no reward: `require` has raised
    return batch, found


def rewards(owner: object, batch: Batch | PreferenceBatch) -> tuple[Batch, Tensor]:
    """The batch and its rewards per response, `(row,)`; an error names the geometry that asked.

    >>> import torch, geomalign as ga
    >>> rewards(ga.GroupAdvantage(), ga.Batch(torch.zeros(2, 3), None, reward=torch.ones(2, 3)))[1]
    tensor([3., 3.])
    """
    reward = batch.require("reward", type(owner).__name__)
    assert isinstance(batch, Batch)  # pairs have no reward: `require` has raised
    return batch, batch.per_response(reward)


def responses(owner: object, of: SamplingGeometry, batch: Batch | PreferenceBatch) -> tuple[Batch, Tensor]:
    """The batch and the drive of `of`, one per response, which `owner` averages over the responses to one prompt.

    Raises:
        ValueError: the drives are of pairs or of tokens.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 3), None, reward=torch.ones(2))
    >>> responses(ga.TrustRegion(chi2=0.1), ga.GroupAdvantage(), batch)[1]
    tensor([0., 0.])
    """
    drive = of.drive(batch)
    if drive.ndim != 1 or not isinstance(batch, Batch):
        events = "pairs" if isinstance(batch, PreferenceBatch) else f"tokens, {tuple(drive.shape)}"
        raise ValueError(
            f"{type(owner).__name__} needs one drive per response; {of!r} gave drives of {events}. It averages over "
            "the responses to one prompt, of which a pair shows only a difference and the state of a token one "
            "sample. For those use TrustRegion(chi2=…), which needs no such average."
        )
    return batch, drive
