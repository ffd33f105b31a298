"""Laws of objectives."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from geomalign._util.types import Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.laws.cases import BATCHES, Drawn
from geomalign.laws.checking import EXAMPLES, Cases, check, equal, holds, law
from geomalign.objective import BaseObjective, PairGradient


def check_objective(objective: BaseObjective, examples: int = EXAMPLES) -> None:
    """Check all laws of an objective; arguments and `LawViolation` as of `check_optimization`.

    >>> import geomalign as ga
    >>> ga.laws.check_objective(ga.recipes.dpo(beta=0.1), examples=5)
    """
    check("objective", objective, examples)


def _policies(batch: Batch | PreferenceBatch) -> list[str]:
    return ["policy"] if isinstance(batch, Batch) else ["chosen", "rejected"]


def _autograd(objective: BaseObjective, batch: Batch | PreferenceBatch, plain: bool = False) -> list[Tensor]:
    inputs = [getattr(batch, name) for name in _policies(batch)]
    loss = (objective.plain(batch) if plain else objective(batch)).loss
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, inputs, strict=True)]


def _closed(objective: BaseObjective, batch: Batch | PreferenceBatch, **given: Any) -> list[Tensor]:
    found = objective.gradient(batch, **given)
    return list(found) if isinstance(found, PairGradient) else [found]


_SLOTS = "Each slot's own laws (check_unit, check_chart, check_optimization, check_sampling) tell which part is wrong."


@law("objective", BATCHES)
def gradient_is_the_derivative_of_the_loss(objective: BaseObjective, case: Drawn) -> None:
    """`gradient` in closed form = autograd of the plain formula = the backward pass of the loss."""
    batch = case()
    what = "gradient(batch) is not the derivative of the loss"
    closed = _closed(objective, batch)
    for found, by_autograd in zip(closed, _autograd(objective, batch, plain=True), strict=True):
        equal(found, by_autograd, what, _SLOTS, atol=1e-12)
    for found, passed in zip(closed, _autograd(objective, batch), strict=True):
        equal(found, passed, "the backward pass does not return gradient(batch)", _SLOTS, atol=1e-14)


@law("objective", BATCHES)
def the_loss_is_the_formula(objective: BaseObjective, case: Drawn) -> None:
    """The loss that is evaluated in one pass, with or without a gradient, is that of the plain formula."""
    batch = case()
    plain = objective.plain(batch).loss
    remedy = "energy_and_force and value_and_slope must return what energy, force, the chart and its slope do."
    equal(objective(batch).loss, plain, "the loss is not that of the plain formula", remedy, atol=1e-13)
    with torch.no_grad():
        equal(objective(batch).loss, plain, "the loss without gradient is not that of the plain formula", remedy)


@law("objective", BATCHES)
def parts_add_up_to_the_whole(objective: BaseObjective, case: Drawn) -> None:
    """Losses and gradients of micro-batches, given the rollout's drive and counts, add up to those of the whole.

    Not of an objective whose locality is the batch: there a part is another problem.
    """
    if objective.locality is Locality.BATCH:
        return
    batch = case()
    drive, counts = objective.drive(batch), batch.counts()
    order = torch.randperm(batch.size, generator=torch.Generator().manual_seed(case.seed))
    parts = order.tensor_split((1, 4, 6))  # of six rows the last part is empty
    if objective.locality is Locality.GROUP and not batch.paired:  # parts of whole groups
        parts = tuple((batch.group == one).nonzero().flatten() for one in batch.group.unique())
    loss = sum(objective(batch[rows], drive=drive[rows], counts=counts).loss for rows in parts)
    remedy = "Weights must come from the counts that are passed in; otherwise state locality = Locality.BATCH."
    equal(torch.as_tensor(loss), objective(batch).loss, "the losses of micro-batches do not add up", remedy)
    whole = _closed(objective, batch)
    for rows in parts:
        part = _closed(objective, batch[rows], drive=drive[rows], counts=counts)
        for mine, all_rows in zip(part, whole, strict=True):
            equal(mine, all_rows[rows], "the gradient of a micro-batch is not that of the whole", remedy, atol=1e-12)


@law("objective", BATCHES)
def masked_tokens_are_absent(objective: BaseObjective, case: Drawn) -> None:
    """NaN at masked tokens changes neither the loss nor any gradient, and gets a gradient of exactly zero."""
    batch = case()
    masks = {"policy": "mask", "old": "mask", "reference": "mask", "behavior": "mask"} | {
        name: f"{name.removeprefix('reference_')}_mask"
        for name in ("chosen", "rejected", "reference_chosen", "reference_rejected")
    }
    there = {name: getattr(batch, name) for name in set(masks.values()) if hasattr(batch, name)}
    if isinstance(batch, Batch) and objective.needs_observations:
        there["mask"] = there["mask"] | batch.observed
    spoiled: dict[str, Any] = {}
    for field in dataclasses.fields(batch):
        if field.name in masks:
            value, mask = getattr(batch, field.name), there[masks[field.name]]
            spoiled[field.name] = torch.where(mask, value.detach(), float("nan")).requires_grad_(value.requires_grad)
    other = dataclasses.replace(batch, **spoiled)
    remedy = "Use torch.where(mask, …, 0): a product with the mask keeps NaN."
    equal(objective(other).loss, objective(batch).loss, "NaN at masked tokens changes the loss", remedy)
    for name, mine, clean in zip(
        _policies(batch), _autograd(objective, other), _autograd(objective, batch), strict=True
    ):
        equal(mine, clean, "NaN at masked tokens changes the gradient", remedy, atol=1e-14)
        outside = torch.where(there[masks[name]], 0, mine)
        holds(outside == 0, "a masked token has a gradient", remedy, gradient=outside)


@law("objective", BATCHES)
def rows_without_tokens_are_absent(objective: BaseObjective, case: Drawn) -> None:
    """A row without tokens, or a pair that lacks a response, changes neither the loss nor another row's gradient."""
    batch = case()
    filled = batch.rows.support.any(-1)
    kept = filled.view(-1, batch.size).all(0)
    drive = objective.drive(batch)
    rest = objective(batch[kept], drive=drive[kept]).loss
    remedy = "Average over the support only: support(mask) must be false there."
    equal(objective(batch, drive=drive).loss, rest, "a row without tokens changes the loss", remedy)
    found = _closed(objective, batch[kept], drive=drive[kept])
    for mine, all_rows in zip(found, _closed(objective, batch), strict=True):
        equal(all_rows[kept], mine, "a row without tokens changes the gradient of another", remedy, atol=1e-12)


@law("objective", Cases(BATCHES.fixed))
def an_all_masked_batch_is_nothing(objective: BaseObjective, case: Drawn) -> None:
    """A batch without any token has the loss 0 and the gradient 0."""
    batch = case()
    masks = [field.name for field in dataclasses.fields(batch) if "mask" in field.name]
    empty = dataclasses.replace(batch, **{name: torch.zeros_like(getattr(batch, name)) for name in masks})
    remedy = "Clamp what is divided by at 1, and use torch.where for what is masked."
    equal(objective(empty).loss, torch.zeros(()), "an all-masked batch has a loss", remedy)
    for gradient in _autograd(objective, empty):
        holds(gradient == 0, "an all-masked batch has a gradient", remedy, gradient=gradient)


@law("objective", Cases(BATCHES.fixed))
def extremes_are_numbers(objective: BaseObjective, case: Drawn) -> None:
    """At log-ratios of ±1e4 in float32 and ±80 in bfloat16 loss and gradient are not NaN, and finite where they are
    so in float64 and the smaller type can hold them.
    """
    for dtype, size in ((torch.float32, 1e4), (torch.bfloat16, 80.0)):
        exact, found = _at_extremes(objective, case, torch.float64, size), _at_extremes(objective, case, dtype, size)
        for name, value in found.items():
            where = f"{name} at log-ratios of {size:g} in {dtype}"
            holds(~value.isnan(), f"{where} is NaN", "Write the potential so that no intermediate number overflows.")
            finite = exact[name].abs() < torch.finfo(dtype).max / 1e4
            holds(torch.isfinite(value) | ~finite, f"{where} is infinite, which {dtype} can hold", _SLOTS)


def _at_extremes(objective: BaseObjective, case: Drawn, dtype: torch.dtype, size: float) -> dict[str, Tensor]:
    """Loss and gradients where log-ratios are moved by ±`size`."""
    batch = case(dtype=dtype)
    drive = objective.drive(batch)
    signs = torch.tensor([1.0, -1.0, 0.0], dtype=dtype)
    moved: dict[str, Any] = {}
    for name in _policies(batch):
        x = getattr(batch, name).detach()
        moved[name] = (x + size * signs[torch.arange(x.shape[1]) % 3]).requires_grad_()
    loss = objective(dataclasses.replace(batch, **moved), drive=drive).loss
    gradients = torch.autograd.grad(loss, list(moved.values()), allow_unused=True)
    found = {f"the gradient in {name}": g for name, g in zip(moved, gradients, strict=True) if g is not None}
    return {"the loss": loss.detach(), **found}


@law("objective", BATCHES)
def the_locality_is_the_truth(objective: BaseObjective, case: Drawn) -> None:
    """The gradient at the first row's first token depends on no log-probability beyond its stated reach."""
    batch = case()
    drive = objective.drive(batch)
    name = _policies(batch)[0]

    def after(rows: slice | Tensor, tokens: slice) -> Tensor:
        x = getattr(batch, name).detach().clone()
        x[rows, tokens] -= 0.05
        return _closed(objective, dataclasses.replace(batch, **{name: x}), drive=drive)[0][0, 0]

    own, rest, all_of = slice(0, 1), slice(1, None), slice(None)
    others = rest if batch.paired or objective.locality < Locality.GROUP else batch.group != batch.group[0]
    here = after(slice(0), slice(0))
    for locality, moved, needs in (
        (Locality.ROLLOUT, (own, own), "its own log-probability"),
        (Locality.TOKEN, (own, rest), "the rest of its row"),
        (Locality.GROUP, (others, all_of), "rows that it is not compared with"),
    ):
        if objective.locality <= locality:
            what = f"the gradient at a token needs {needs}, but the locality is {objective.locality.name}"
            equal(after(*moved), here, what, "State the locality that the unit or sampling geometry really has.")
