"""Laws of sampling geometries."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util.types import Locality
from geomalign.batch import Batch
from geomalign.laws.checking import check, equal, holds, law
from geomalign.laws.samples import sample_batch
from geomalign.sampling import SamplingGeometry


def check_sampling(sampling: SamplingGeometry) -> None:
    """All laws of a `SamplingGeometry`. Raises `LawViolation`."""
    check("sampling", sampling)


def _drive(sampling: SamplingGeometry, batch: Batch) -> Tensor:
    return sampling.drive(batch).detach()


@law("sampling")
def a_drive_is_finite_and_has_a_row_each(sampling: SamplingGeometry) -> None:
    """One drive a row (or a token), finite."""
    batch = sample_batch()
    drive = _drive(sampling, batch)
    holds(drive.shape[0] == batch.size, f"{sampling!r}: {tuple(drive.shape)} for {batch.size} rows")
    holds(torch.isfinite(drive), f"{sampling!r}: a drive is not finite")


@law("sampling")
def the_order_of_rows_does_not_matter(sampling: SamplingGeometry) -> None:
    """Permuting the rows permutes the drive."""
    batch = sample_batch()
    order = torch.randperm(batch.size, generator=torch.Generator().manual_seed(3))
    equal(
        _drive(sampling, batch[order]), _drive(sampling, batch)[order], f"{sampling!r}: the drive depends on the order"
    )


@law("sampling")
def rows_without_tokens_do_not_matter(sampling: SamplingGeometry) -> None:
    """What a row without tokens says (even NaN) changes no other row's drive."""
    batch = sample_batch()
    assert batch.reward is not None and batch.advantage is not None
    empty = ~batch.support.any(-1)
    spoiled = dataclasses.replace(
        batch,
        reward=torch.where(empty, float("nan"), batch.reward),
        advantage=torch.where(empty, float("nan"), batch.advantage),
    )
    equal(_drive(sampling, spoiled)[~empty], _drive(sampling, batch)[~empty], f"{sampling!r}: an empty row matters")


@law("sampling")
def a_constant_shift_of_rewards_in_equal_groups_is_finite(sampling: SamplingGeometry) -> None:
    """Equal rewards and groups of one have a finite drive."""
    batch = sample_batch()
    equal = torch.full((batch.size,), 0.7, dtype=torch.float64)
    alone = torch.arange(batch.size)
    for case in (
        dataclasses.replace(batch, reward=equal, advantage=equal),
        dataclasses.replace(batch, group=alone),
        dataclasses.replace(batch, reward=1e4 * batch.require("reward", "a law"), advantage=1e4 * equal),
    ):
        holds(torch.isfinite(_drive(sampling, case)), f"{sampling!r}: a drive is not finite")


@law("sampling")
def reweighting_keeps_the_shape(sampling: SamplingGeometry) -> None:
    """`reweight` maps drives to finite drives, and is the identity where its locality says that it needs nothing."""
    batch = sample_batch()
    drive = _drive(sampling, batch)
    extremes = torch.tensor([-1e4, -0.5, 0.0, 0.5, 1e4], dtype=torch.float64)
    log_ratio = extremes[torch.arange(drive.numel()) % 5].view(drive.shape)
    new = sampling.reweight(drive, log_ratio, batch)
    holds(new.shape[0] == drive.shape[0], f"{sampling!r}: reweight gave {tuple(new.shape)} for {tuple(drive.shape)}")
    holds(torch.isfinite(new), f"{sampling!r}: reweight is not finite at ±1e4 nats")
    if sampling.locality is Locality.ROLLOUT:
        equal(new, drive, f"{sampling!r}: reweight uses the log-ratio, so its locality is not ROLLOUT")
