"""Laws of objectives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomalign._util.types import Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.laws.checking import check, equal, holds, law
from geomalign.laws.samples import sample_batch, sample_pairs
from geomalign.objective import BaseObjective, PairGradient


def check_objective(objective: BaseObjective) -> None:
    """All laws of an objective. Raises `LawViolation`."""
    check("objective", objective)


def _sample(objective: BaseObjective, **options: Any) -> Batch | PreferenceBatch:
    paired = objective.paired
    return sample_pairs(**options) if paired else sample_batch(**options)


def _policies(batch: Batch | PreferenceBatch) -> list[str]:
    return ["policy"] if isinstance(batch, Batch) else ["chosen", "rejected"]


def _gradients(objective: BaseObjective, batch: Batch | PreferenceBatch) -> list[Tensor]:
    inputs = [getattr(batch, name) for name in _policies(batch)]
    gradients = torch.autograd.grad(objective(batch).loss, inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, inputs, strict=True)]


def _laws(objective: BaseObjective, batch: Batch | PreferenceBatch) -> list[Tensor]:
    found = objective.gradient(batch)
    return list(found) if isinstance(found, PairGradient) else [found]


@law("objective")
def the_law_is_the_gradient(objective: BaseObjective) -> None:
    """`law` in closed form = autograd of the loss."""
    batch = _sample(objective)
    for closed, gradient in zip(_laws(objective, batch), _gradients(objective, batch), strict=True):
        equal(closed, gradient, f"{type(objective).__name__}: the law is not the gradient of the loss", atol=1e-12)


@law("objective")
def parts_add_up_to_the_whole(objective: BaseObjective) -> None:
    """Losses and laws of micro-batches, given the rollout's drive and counts, add up to those of the whole.

    Not of an objective whose locality is the batch: there a part is another problem.
    """
    if objective.locality is Locality.BATCH:
        return
    batch = _sample(objective)
    drive, counts = objective.drive(batch), batch.counts()
    splits = [torch.tensor([2]), torch.tensor([5, 0, 1]), torch.arange(6, batch.size), torch.tensor([3, 4])]
    loss = sum(objective(batch[i], drive=drive[i], counts=counts).loss for i in splits)
    equal(torch.as_tensor(loss), objective(batch).loss, "the losses of micro-batches do not add up to the whole")
    whole = _laws(objective, batch)
    for i in splits:
        part = objective.gradient(batch[i], drive=drive[i], counts=counts)
        for mine, all_rows in zip(part if isinstance(part, PairGradient) else [part], whole, strict=True):
            equal(mine, all_rows[i], "the law of a micro-batch is not that of the whole", atol=1e-12)


@law("objective")
def masked_tokens_are_absent(objective: BaseObjective) -> None:
    """NaN at masked tokens changes neither the loss nor any gradient, and gets a gradient of exactly zero."""
    batch = _sample(objective)
    masks = {"policy": "mask", "old": "mask", "reference": "mask", "behavior": "mask"} | {
        name: f"{name.removeprefix('reference_')}_mask"
        for name in ("chosen", "rejected", "reference_chosen", "reference_rejected")
    }
    spoiled: dict[str, Any] = {}
    for field in dataclasses.fields(batch):
        if field.name in masks:
            value, mask = getattr(batch, field.name), getattr(batch, masks[field.name])
            spoiled[field.name] = torch.where(mask, value.detach(), float("nan")).requires_grad_(value.requires_grad)
    other = dataclasses.replace(batch, **spoiled)
    equal(objective(other).loss, objective(batch).loss, "a masked NaN changes the loss")
    for name, mine, clean in zip(
        _policies(batch), _gradients(objective, other), _gradients(objective, batch), strict=True
    ):
        equal(mine, clean, "a masked NaN changes the gradient", atol=1e-14)
        holds(mine[~getattr(batch, masks[name])] == 0, "a masked token has a gradient")


@law("objective")
def rows_without_tokens_are_absent(objective: BaseObjective) -> None:
    """A row without tokens, or a pair that lacks a response, changes neither the loss nor another row's law."""
    batch = _sample(objective)
    held = batch.rows.support.any(-1)
    kept = held.view(-1, batch.size).all(0)
    drive = objective.drive(batch)
    rest = objective(batch[kept], drive=drive[kept]).loss
    equal(objective(batch, drive=drive).loss, rest, "a row without tokens changes the loss")
    found = objective.gradient(batch[kept], drive=drive[kept])
    for mine, all_rows in zip(
        found if isinstance(found, PairGradient) else [found], _laws(objective, batch), strict=True
    ):
        equal(mine, all_rows[kept], "a row without tokens changes the law of another", atol=1e-12)


@law("objective")
def extremes_are_finite(objective: BaseObjective) -> None:
    """Log-ratios of ±1e4 in float32 and ±80 in bfloat16, an all-masked batch: value and gradient are finite."""
    for dtype, size in ((torch.float32, 1e4), (torch.bfloat16, 80.0)):
        batch = _sample(objective, dtype=dtype)
        drive = objective.drive(batch)
        signs = torch.tensor([1.0, -1.0, 0.0], dtype=dtype)
        shifted: dict[str, Any] = {}
        for name in _policies(batch):
            x = getattr(batch, name).detach()
            shifted[name] = (x + size * signs[torch.arange(x.shape[1]) % 3]).requires_grad_()
        other = dataclasses.replace(batch, **shifted)
        loss = objective(other, drive=drive).loss
        holds(torch.isfinite(loss), f"the loss is not finite at log-ratios of {size:g} in {dtype}")
        for x, g in zip(
            shifted.values(), torch.autograd.grad(loss, list(shifted.values()), allow_unused=True), strict=True
        ):
            holds(
                g is None or torch.isfinite(g),
                f"a gradient is not finite at log-ratios of {size:g} in {dtype}, {x.shape}",
            )
    batch = _sample(objective)
    empty: dict[str, Any] = {
        f.name: torch.zeros_like(getattr(batch, f.name)) for f in dataclasses.fields(batch) if "mask" in f.name
    }
    empty_batch = dataclasses.replace(batch, **empty)
    equal(objective(empty_batch).loss, torch.zeros(()), "an all-masked batch has a loss")
    for gradient in _gradients(objective, empty_batch):
        holds(gradient == 0, "an all-masked batch has a gradient")


@law("objective")
def the_locality_is_the_truth(objective: BaseObjective) -> None:
    """The law at the first row's first token does not change with a log-probability beyond its stated reach."""
    batch = _sample(objective)
    drive = objective.drive(batch)
    name = _policies(batch)[0]

    def law_after(change: Callable[[Tensor], None]) -> Tensor:
        x = getattr(batch, name).detach().clone()
        change(x)
        found = objective.gradient(dataclasses.replace(batch, **{name: x}), drive=drive)
        return (found[0] if isinstance(found, PairGradient) else found)[0, 0]

    def own(x: Tensor) -> None:
        x[0, 0] -= 0.05

    def row(x: Tensor) -> None:
        x[0, 1:] -= 0.05

    def others(x: Tensor) -> None:
        x[1:] -= 0.05

    here = law_after(lambda x: None)
    if objective.locality < Locality.TOKEN:
        equal(law_after(own), here, "the law needs its own log-probability: its locality is not ROLLOUT")
    if objective.locality < Locality.SEQUENCE:
        equal(law_after(row), here, "the law needs the rest of its row: its locality is not TOKEN")
    if objective.locality < Locality.BATCH:
        equal(law_after(others), here, "the law needs other rows: its locality is BATCH")
