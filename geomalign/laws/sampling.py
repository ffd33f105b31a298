"""Laws of sampling geometries."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util.types import Locality
from geomalign.batch import Batch
from geomalign.laws.cases import ROWS, Drawn
from geomalign.laws.checking import EXAMPLES, check, equal, holds, law
from geomalign.sampling import SamplingGeometry


def check_sampling(sampling: SamplingGeometry, examples: int = EXAMPLES) -> None:
    """Check all laws of a `SamplingGeometry`; arguments and `LawViolation` as of `check_optimization`.

    >>> import geomalign as ga
    >>> ga.laws.check_sampling(ga.GroupAdvantage(scale="none"))
    """
    check("sampling", sampling, examples)


def _drive(sampling: SamplingGeometry, batch: Batch) -> Tensor:
    return sampling.drive(batch).detach()


@law("sampling", ROWS)
def a_drive_is_finite_and_has_a_row_each(sampling: SamplingGeometry, case: Drawn) -> None:
    """One drive per row (or per token), finite."""
    batch = case()
    drive = _drive(sampling, batch)
    what = f"the drive has the shape {tuple(drive.shape)} for {batch.size} rows"
    holds(drive.shape[0] == batch.size, what, "Return (row,) or (row, token).")
    holds(torch.isfinite(drive), "a drive is not finite", "Clamp what is divided by or exponentiated.", drive=drive)


@law("sampling", ROWS)
def the_order_of_rows_does_not_matter(sampling: SamplingGeometry, case: Drawn) -> None:
    """Permuting the rows permutes the drive."""
    batch = case()
    order = torch.randperm(batch.size, generator=torch.Generator().manual_seed(3))
    remedy = "Gather by batch.group (ga.Groups), not by position."
    equal(_drive(sampling, batch[order]), _drive(sampling, batch)[order], "the drive depends on the row order", remedy)


@law("sampling", ROWS)
def rows_without_tokens_do_not_matter(sampling: SamplingGeometry, case: Drawn) -> None:
    """The fields of a row without tokens, even NaN, change no other row's drive."""
    batch = case()
    assert batch.reward is not None and batch.advantage is not None
    empty = ~batch.support.any(-1)
    spoiled = dataclasses.replace(
        batch,
        reward=torch.where(empty, float("nan"), batch.reward),
        advantage=torch.where(empty, float("nan"), batch.advantage),
    )
    what, remedy = "a row without tokens changes the drive of another", "Leave out rows where batch.support is empty."
    equal(_drive(sampling, spoiled)[~empty], _drive(sampling, batch)[~empty], what, remedy)


@law("sampling", ROWS)
def rows_whose_reward_is_not_finite_leave_their_group(sampling: SamplingGeometry, case: Drawn) -> None:
    """A row whose reward or advantage is NaN or infinite has a drive of zero, and the others that of a batch without
    it; unless the drive reads neither.
    """
    batch = case()
    assert batch.reward is not None and batch.advantage is not None
    other = dataclasses.replace(batch, reward=1 - 2 * batch.reward, advantage=1 - 2 * batch.advantage)
    if torch.equal(_drive(sampling, other), _drive(sampling, batch)):
        return
    lost = torch.arange(batch.size) % 3 == 1
    value = torch.tensor([float("nan"), float("inf"), -float("inf")], dtype=batch.reward.dtype)
    value = value[torch.arange(batch.size) // 3 % 3]
    for name in ("reward", "advantage"):
        spoiled = dataclasses.replace(batch, **{name: torch.where(lost, value, getattr(batch, name))})
        drive = _drive(sampling, spoiled)
        remedy = "Take the groups from batch.groups(), and give rows outside batch.judged a drive of zero."
        holds(drive[lost] == 0, f"a row whose {name} is not finite has a drive", remedy, drive=drive)
        what = f"a row whose {name} is not finite changes the drive of another"
        equal(drive[~lost], _drive(sampling, batch[~lost]), what, remedy)


@law("sampling", ROWS)
def equal_rewards_have_a_finite_drive(sampling: SamplingGeometry, case: Drawn) -> None:
    """Equal rewards, groups of one and rewards of 1e4 have a finite drive."""
    batch = case()
    same = torch.full((batch.size,), 0.7, dtype=torch.float64)
    large = 1e4 * batch.require("reward", "a law")
    for name, fields in (
        ("equal rewards", {"reward": same, "advantage": same}),
        ("groups of one response", {"group": torch.arange(batch.size)}),
        ("rewards of 1e4", {"reward": large, "advantage": 1e4 * same}),
    ):
        drive = _drive(sampling, dataclasses.replace(batch, **fields))
        remedy = "Add an epsilon to what is divided by, and clamp exponents."
        holds(torch.isfinite(drive), f"a drive is not finite for {name}", remedy, drive=drive)


@law("sampling", ROWS)
def the_drive_does_not_read_the_policy_in_training(sampling: SamplingGeometry, case: Drawn) -> None:
    """The drive is the same at another `policy`: it is computed once per rollout."""
    batch = case()
    other = dataclasses.replace(batch, policy=1.5 * batch.policy - 0.1)
    remedy = "It is computed once per rollout: override `reweight`, and state its `locality`."
    what = "the drive reads the policy in training"
    equal(_drive(sampling, other), _drive(sampling, batch), what, remedy)


@law("sampling", ROWS)
def reweighting_keeps_the_shape(sampling: SamplingGeometry, case: Drawn) -> None:
    """`reweight` maps drives to finite drives, and is the identity where its locality says that it needs nothing."""
    batch = case()
    drive = _drive(sampling, batch)
    extremes = torch.tensor([-1e4, -0.5, 0.0, 0.5, 1e4], dtype=torch.float64)
    log_ratio = extremes[torch.arange(drive.numel()) % 5].view(drive.shape)
    new = sampling.reweight(drive, log_ratio, batch)
    what = f"reweight gave the shape {tuple(new.shape)} for drives {tuple(drive.shape)}"
    holds(new.shape[0] == drive.shape[0], what, "Return one drive per row or per token.")
    remedy = "Clamp the log-ratio before exponentiating it."
    holds(torch.isfinite(new), "reweight is not finite at log-ratios of ±1e4 nats", remedy, drive=new)
    if sampling.locality is Locality.ROLLOUT:
        remedy = "State the locality of what it reads: Locality.TOKEN or Locality.SEQUENCE."
        equal(new, drive, "reweight uses the log-ratio, so the locality is not ROLLOUT", remedy)
