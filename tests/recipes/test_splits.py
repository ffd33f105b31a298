"""Micro-batches and processes: every recipe in float32, loss and gradient of the parts against the whole, to 1e-6.

Relative to the sizes of what is added, as rounding is: a loss whose terms cancel has the error of the terms.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
import warnings
from pathlib import Path
from typing import Any

import members
import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign import distributed
from geomalign.laws import sample_batch, sample_pairs

pytestmark = [
    pytest.mark.float32,
    pytest.mark.filterwarnings("ignore::geomalign.UnboundedLossWarning"),
]
TOLERANCE = 1e-6
SIZE = 24
# How many rows each micro-batch holds, or each process: one, some, none, all.
SPLITS = ([1] * SIZE, [SIZE], [5, 0, 11, 8], [23, 1], [2, 7, 1, 14])
RANKS = {2: [5, 19], 4: [9, 0, 4, 11]}
# The ranks of the margins, the walls of a clip and a constraint on a mean are those of one batch, so that its parts are
# other problems.
WHOLE = {"aot", "aot_unpaired", "bapo", "disco"}
# A term couples the responses to one prompt: parts are of whole groups.
GROUPS = set(members.coupled())


def batch_of(name: str) -> ga.Batch | ga.PreferenceBatch:
    """Ragged rows in float32, of groups that every split cuts through; binary rewards where the recipe needs them."""
    objective = ga.recipes.get(name)
    if objective.paired:
        return sample_pairs(SIZE, 6, seed=3, dtype=torch.float32)
    batch = sample_batch(SIZE, 6, seed=3, dtype=torch.float32)
    if name in GROUPS:  # nine groups of one to four rows, each in one piece
        group = batch.group + 10 * (torch.arange(SIZE) // 8)
        batch = dataclasses.replace(batch, group=group)[group.argsort(stable=True)]
    return dataclasses.replace(batch, reward=(batch.reward > 0).float()) if name == "pass_at_k" else batch


def leaves(batch: ga.Batch | ga.PreferenceBatch) -> list[str]:
    return ["policy"] if isinstance(batch, ga.Batch) else ["chosen", "rejected"]


def evaluate(
    objective: ga.BaseObjective, batch: Any, rows: slice, drive: Any, counts: ga.Counts
) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of some rows, as of the part of a batch that was never put together."""
    part = batch[rows]
    part = dataclasses.replace(part, **{x: getattr(part, x).detach().clone().requires_grad_() for x in leaves(part)})
    loss = objective(part, drive=drive[rows], counts=counts).loss
    inputs = [getattr(part, name) for name in leaves(part)]
    return loss.detach(), list(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))


def sections(sizes: list[int], name: str = "") -> list[slice]:
    """Consecutive rows of these sizes; of a recipe of groups the cuts are moved on to the ends of groups."""
    cuts = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
    if name in GROUPS:
        group = batch_of(name).group
        ends = [0, *((group[1:] != group[:-1]).nonzero().flatten() + 1).tolist(), SIZE]
        cuts = [min(end for end in ends if end >= cut) for cut in cuts]
    return [slice(*cut) for cut in itertools.pairwise(cuts)]


class Whole:
    """A recipe on the whole batch: loss and gradients, and the sizes of the terms that they are sums of."""

    def __init__(self, name: str) -> None:
        self.name, self.objective, self.batch = name, ga.recipes.get(name), batch_of(name)
        self.drive, self.counts = self.objective.drive(self.batch), self.batch.counts()
        self.loss, self.gradients = self.part(slice(None))
        outcome = self.objective(self.batch, drive=self.drive)
        self.scale, self.scales = 0.0, [0.0] * len(self.gradients)
        for (c, term), seen in zip(self.objective.terms, outcome.terms, strict=True):
            offset = term.offset(seen.optimization, seen.drive)
            sizes = (seen.potential.abs() + (seen.drive * seen.u).abs() + offset.abs()).detach()
            self.scale += abs(c) * float((seen.weights * sizes).sum())
            found = term.gradient(
                self.batch, drive=torch.where(seen.support, seen.drive, 0) if term.unit.paired else None
            )
            parts = found if isinstance(found, ga.PairGradient) else (found,)
            self.scales = [s + abs(c) * float(x.abs().max()) for s, x in zip(self.scales, parts, strict=True)]

    def part(self, rows: slice) -> tuple[Tensor, list[Tensor]]:
        return evaluate(self.objective, self.batch, rows, self.drive, self.counts)

    def is_sum_of(self, parts: list[tuple[Tensor, list[Tensor]]]) -> None:
        loss = sum(loss for loss, _ in parts)
        assert abs(float(loss - self.loss)) <= TOLERANCE * self.scale, f"the loss {loss} is not {self.loss}"
        for k, gradient in enumerate(self.gradients):
            error = (torch.cat([gradients[k] for _, gradients in parts]) - gradient).abs().max()
            assert error <= TOLERANCE * self.scales[k], f"the gradient differs by {error} of {gradient.abs().max()}"
            assert gradient.abs().max() > 0, "there is no gradient to compare"


@pytest.mark.parametrize("name", ga.recipes.names())
def test_micro_batches_of_any_split_add_up(name: str) -> None:
    whole = Whole(name)
    if name in WHOLE:
        assert whole.objective.locality is ga.Locality.BATCH
        with pytest.raises(AssertionError, match=r"the loss .* is not"):
            whole.is_sum_of([whole.part(rows) for rows in sections([5, 19])])
        return
    for sizes in SPLITS:
        whole.is_sum_of([whole.part(rows) for rows in sections(sizes, name)])


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_a_part_of_a_group_is_another_problem(name: str) -> None:
    whole = Whole(name)
    with pytest.raises(AssertionError, match=r"the (loss|gradient) .*"):
        whole.is_sum_of([whole.part(rows) for rows in sections([1] * SIZE)])


def work(rank: int, sizes: list[int], folder: str) -> None:
    """One process: of every recipe its own rows, with statistics and counts of all processes' rows."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ga.UnboundedLossWarning)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(sizes))
    results = {}
    for name in ga.recipes.names():
        if name not in WHOLE:
            objective = ga.recipes.get(name)
            mine = batch_of(name)[sections(sizes, name)[rank]]
            drive, counts = distributed.drive(objective, mine), distributed.counts(mine, lengths=True)
            results[name] = evaluate(objective, mine, slice(None), drive, counts)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    torch.save(results, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def processes(request: pytest.FixtureRequest) -> list[dict[str, tuple[Tensor, list[Tensor]]]]:
    """What every process of a group saw."""
    sizes = RANKS[request.param]
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (sizes, folder), nprocs=len(sizes))
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(len(sizes))]


@pytest.mark.parametrize("name", sorted(set(ga.recipes.names()) - WHOLE))
def test_processes_add_up(name: str, processes: list[dict[str, tuple[Tensor, list[Tensor]]]]) -> None:
    Whole(name).is_sum_of([seen[name] for seen in processes])
