"""Many processes equal one: drives, losses, gradients and trained weights, with groups split unevenly over ranks."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from geomalign import distributed
from geomalign.batch import Batch, PreferenceBatch
from geomalign.chart import LogRatio, Ratio
from geomalign.control import AdaptiveStiffness, Annealed, Controller, Geometric
from geomalign.measure import NestedMean
from geomalign.objective import BaseObjective, Objective
from geomalign.optimization import ChiSquare
from geomalign.recipes import dapo, dpo, dr_grpo, gopo, grpo, gspo, ipo, opo, reinforce, rloo
from geomalign.sampling import EscortESS, GroupAdvantage, TrustRegion
from geomalign.unit import MeanSequence, Sequence, Token

OBJECTIVES: dict[str, Callable[[], BaseObjective]] = {
    "grpo": lambda: grpo(beta=0.04),
    "dapo": dapo,
    "dr_grpo": lambda: dr_grpo(length=7),
    "gspo": lambda: gspo(epsilon=0.2, epsilon_high=0.3),
    "opo": opo,
    "gopo": gopo,
    "rloo": rloo,
    "reinforce": reinforce,
    "trust region": lambda: Objective(
        unit=Sequence(), chart=Ratio(), sampling=TrustRegion(chi2=0.04), optimization=ChiSquare(1.0)
    ),
    "trust region of a group": lambda: Objective(
        unit=MeanSequence(), sampling=TrustRegion(kl=0.05, within="group"), optimization=ChiSquare(1.0)
    ),
    "sample size": lambda: Objective(unit=Sequence(), sampling=EscortESS(target=0.7), optimization=ChiSquare(1.0)),
    "batch-scaled": lambda: Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=GroupAdvantage(baseline="batch", scale="batch"),
        optimization=ChiSquare(2.0),
        measure=NestedMean(),
    ),
}
PAIRED: dict[str, Callable[[], BaseObjective]] = {"dpo": dpo, "ipo": ipo}
CONTROLLERS: dict[str, Callable[[], Controller]] = {
    "adaptive stiffness": lambda: AdaptiveStiffness(0.01, rate=1.0),
    "annealed": lambda: Annealed(Geometric(1.0, 9.0), rollouts=3),
}

ROWS, WIDTH, VOCABULARY = 11, 7, 5

# How the rows are dealt out; the second element of a case gives rows whose tokens are all masked.
SPLITS: dict[int, list[list[int]]] = {1: [[11]], 2: [[3, 8], [11, 0]], 4: [[3, 5, 2, 1], [4, 0, 6, 1]]}


def rollout() -> dict[str, Tensor]:
    """Eleven responses to four prompts, interleaved so that every split cuts through groups; row 3 is wholly masked."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([7, 3, 1, 0, 5, 2, 7, 4, 6, 1, 3])
    return {
        "tokens": torch.randint(VOCABULARY, (ROWS, WIDTH), generator=generator),
        "mask": torch.arange(WIDTH) < lengths[:, None],
        "reward": torch.randn(ROWS, generator=generator, dtype=torch.float64),
        "group": torch.tensor([7, 2, 7, 2, 0, 2, 7, 5, 0, 2, 0]),
    }


class Policy(nn.Module):
    """A bigram model: the smallest thing whose log-probabilities depend on its parameters and on the tokens before."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Embedding(VOCABULARY + 1, VOCABULARY, dtype=torch.float64)
        with torch.no_grad():
            self.logits.weight.copy_(
                torch.randn(VOCABULARY + 1, VOCABULARY, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            )

    def forward(self, tokens: Tensor) -> Tensor:
        before = torch.nn.functional.pad(tokens[:, :-1], (1, 0), value=VOCABULARY)
        return self.logits(before).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]


def train(
    objective: BaseObjective, rows: slice, micro_size: int, sharded: bool = False, controller: Controller | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Three optimiser steps on `rows` of the rollout: the drive, the first step's loss and the weights afterwards.

    Each step is a rollout to the controller. A rank without rows shows it nothing.
    """
    data = {name: x[rows] for name, x in rollout().items()}
    model: Any = Policy()
    anchor = model(data["tokens"]).detach()
    reference = anchor + 0.1 * torch.sin(torch.arange(WIDTH, dtype=torch.float64))
    if sharded:
        fully_shard(model, mesh=init_device_mesh("cpu", (distributed.world_size(),)))
    elif distributed.world_size() > 1:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)

    def batch(log_probs: Tensor, keep: slice) -> Batch:
        fields = {name: data[name][keep] for name in ("mask", "reward", "group")}
        return Batch(log_probs, anchor[keep], reference=reference[keep], **fields)

    whole = batch(anchor, slice(None))
    counts = distributed.counts(whole)
    micro = [slice(start, start + micro_size) for start in range(0, max(whole.size, 1), micro_size)]
    first = torch.zeros((), dtype=torch.float64)
    for step in range(3):
        optimizer.zero_grad()
        if step == 0 or controller is not None:
            drive = distributed.drive(objective, whole)
        if controller is not None:
            drive = controller.stiffen(objective, drive)
        for k, keep in enumerate(micro):
            last = k == len(micro) - 1
            # Ranks have different numbers of micro-batches; they meet once, in the last one.
            model.require_backward_grad_sync = last
            outcome = objective(batch(model(data["tokens"][keep]), keep), drive=drive[keep], counts=counts)
            if controller is not None and whole.size:
                controller.observe(outcome)
            (outcome.loss * distributed.world_size()).backward()
            first += outcome.loss.detach() if step == 0 else 0
        optimizer.step()
        if controller is not None:
            controller.step()
    if distributed.world_size() > 1:
        torch.distributed.all_reduce(first)
    drives = drive if isinstance(drive, Tensor) else torch.stack([g.expand(whole.size) for g in drive], -1)
    weights = [p.full_tensor() if sharded else p for p in model.parameters()]
    return drives, first, torch.cat([w.detach().flatten() for w in weights])


def pairs(rows: slice) -> tuple[PreferenceBatch, Tensor]:
    generator = torch.Generator().manual_seed(2)
    chosen, rejected = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    mask = torch.arange(4) < torch.tensor([4, 2, 0, 1, 3, 4])[:, None]
    policy = chosen[rows].clone().requires_grad_()
    return PreferenceBatch(
        policy, rejected[rows], 0.5 * chosen[rows], 0.5 * rejected[rows], mask[rows], mask[rows]
    ), policy


def sorted_gap(batch: Batch) -> Tensor:
    """A loss that needs the whole batch: it pairs sorted rows."""
    values = torch.where(batch.support, batch.policy, 0).sum(-1).sort().values
    return (values[1:] * values[:-1]).sum()


def work(rank: int, splits: list[list[int]], folder: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    size = len(splits[0])
    if size > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    results: dict[Any, Any] = {}
    for k, split in enumerate(splits):
        rows = slice(sum(split[:rank]), sum(split[: rank + 1]))
        for name, build in OBJECTIVES.items():
            results[name, k] = train(build(), rows, micro_size=2)
        for name, make in CONTROLLERS.items():
            controller = make()
            results[name, k] = train(opo(), rows, micro_size=2, controller=controller)
            results[name, "readings", k] = {"next": controller.stiffness, **controller.readings()}
        if size > 1:
            # Every forward pass gathers parameters, so all ranks make the same number of them: one.
            results["sharded", k] = train(gopo(), rows, micro_size=ROWS, sharded=True)
        data = rollout()
        policy = data["reward"][rows, None].expand(-1, WIDTH).clone().requires_grad_()
        whole = distributed.gather(Batch(policy, None, data["mask"][rows], group=data["group"][rows])).batch
        loss = sorted_gap(whole)
        loss.backward()
        results["sorted", k] = (loss.detach(), policy.grad)
        local = distributed.gather(
            Batch(policy, None, data["mask"][rows], group=torch.zeros(policy.shape[0], dtype=torch.long)),
            local_groups=True,
        )
        results["local", k] = local.batch.group
    for name, build in PAIRED.items():
        rows = slice(6 * rank // size, 6 * (rank + 1) // size)
        batch, policy = pairs(rows)
        loss = build()(batch, drive=distributed.drive(build(), batch), counts=distributed.counts(batch)).loss
        loss.backward()
        results[name] = (loss.detach(), policy.grad)
    if size > 1:
        try:
            x = torch.zeros(2, 3)
            distributed.gather(Batch(x, None, reward=x[:, 0] if rank else None))
            results["error"] = "none"
        except ValueError as error:
            results["error"] = str(error)
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    torch.save(results, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module", params=[1, 2, pytest.param(4, marks=pytest.mark.slow)])
def runs(request: pytest.FixtureRequest) -> tuple[int, list[dict[Any, Any]]]:
    """What every rank saw, for one world size."""
    size = request.param
    with tempfile.TemporaryDirectory() as folder:
        if size == 1:
            before = torch.get_default_dtype()
            work(0, SPLITS[1], folder)
            torch.set_default_dtype(before)
        else:
            torch.multiprocessing.spawn(work, (SPLITS[size], folder), nprocs=size)
        return size, [torch.load(Path(folder) / f"{rank}.pt") for rank in range(size)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_processes_equal_one(runs: tuple[int, list[dict[Any, Any]]], name: str) -> None:
    size, ranks = runs
    drive, loss, weights = train(OBJECTIVES[name](), slice(None), micro_size=ROWS)
    for k in range(len(SPLITS[size])):
        torch.testing.assert_close(torch.cat([seen[name, k][0] for seen in ranks]), drive, atol=1e-12, rtol=0)
        for seen in ranks:
            torch.testing.assert_close(seen[name, k][1], loss, atol=1e-12, rtol=0)
            torch.testing.assert_close(seen[name, k][2], weights, atol=1e-9, rtol=0)
    assert weights.std() > 0 and drive.abs().sum() > 0


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller_reaches_the_stiffness_of_one_process(runs: tuple[int, list[dict[Any, Any]]], name: str) -> None:
    """By itself, on every rank, also on one that has no rows and observes nothing."""
    size, ranks = runs
    controller = CONTROLLERS[name]()
    drive, loss, weights = train(opo(), slice(None), micro_size=ROWS, controller=controller)
    readings = {"next": controller.stiffness, **controller.readings()}
    for k in range(len(SPLITS[size])):
        torch.testing.assert_close(torch.cat([seen[name, k][0] for seen in ranks]), drive, atol=1e-12, rtol=0)
        for seen in ranks:
            torch.testing.assert_close(seen[name, k][1], loss, atol=1e-12, rtol=0)
            torch.testing.assert_close(seen[name, k][2], weights, atol=1e-9, rtol=0)
            torch.testing.assert_close(seen[name, "readings", k], readings, atol=1e-12, rtol=1e-12)
            assert all(torch.equal(x, ranks[0][name, "readings", k][of]) for of, x in seen[name, "readings", k].items())
    assert float(controller.stiffness) != 1.0 and weights.std() > 0


def test_sharded_parameters_train_the_same_weights(runs: tuple[int, list[dict[Any, Any]]]) -> None:
    """FSDP averages gradients as DDP does."""
    size, ranks = runs
    _, loss, weights = train(gopo(), slice(None), micro_size=ROWS)
    for k in range(len(SPLITS[size]) if size > 1 else 0):
        for seen in ranks:
            torch.testing.assert_close(seen["sharded", k][1], loss, atol=1e-12, rtol=0)
            torch.testing.assert_close(seen["sharded", k][2], weights, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", PAIRED)
def test_pairs_add_up(runs: tuple[int, list[dict[Any, Any]]], name: str) -> None:
    _, ranks = runs
    batch, policy = pairs(slice(None))
    loss = PAIRED[name]()(batch).loss
    loss.backward()
    torch.testing.assert_close(sum(seen[name][0] for seen in ranks), loss.detach())
    torch.testing.assert_close(torch.cat([seen[name][1] for seen in ranks]), policy.grad)


def test_a_loss_of_the_whole_batch_has_its_gradient_on_every_rank(runs: tuple[int, list[dict[Any, Any]]]) -> None:
    size, ranks = runs
    data = rollout()
    policy = data["reward"][:, None].expand(-1, WIDTH).clone().requires_grad_()
    loss = sorted_gap(Batch(policy, None, data["mask"]))
    loss.backward()
    for k in range(len(SPLITS[size])):
        assert all(torch.equal(seen["sorted", k][0], loss.detach()) for seen in ranks)
        torch.testing.assert_close(torch.cat([seen["sorted", k][1] for seen in ranks]), policy.grad)


def test_local_group_ids_are_told_apart(runs: tuple[int, list[dict[Any, Any]]]) -> None:
    size, ranks = runs
    for k, split in enumerate(SPLITS[size]):
        nonempty = sum(rows > 0 for rows in split)
        assert all(len(seen["local", k].unique()) == (nonempty if size > 1 else 1) for seen in ranks)


def test_ranks_that_differ_say_so_instead_of_waiting(runs: tuple[int, list[dict[Any, Any]]]) -> None:
    size, ranks = runs
    if size == 1:
        pytest.skip("one rank agrees with itself")
    for seen in ranks:
        assert "`reward` differs between ranks (rank 0: absent, rank 1: 1-dimensional torch.float64" in seen["error"]


def test_without_a_process_group_nothing_changes() -> None:
    data = rollout()
    batch = Batch(torch.randn(ROWS, WIDTH), None, data["mask"], reward=data["reward"], group=data["group"])
    whole, rows = distributed.gather(batch)
    assert (distributed.world_size(), distributed.rank(), rows) == (1, 0, slice(0, ROWS))
    assert whole.policy is batch.policy
    assert all(
        torch.equal(a, b) for a, b in zip(distributed.counts(batch).astuple(), batch.counts().astuple(), strict=True)
    )
