"""On an accelerator everything is what it is on the host: `pytest -m gpu`, which tests/gpu/run.sh runs with the rest.

Skipped where there is none; with GPU_TINY set the CPU stands for it, so that the tests themselves are tested.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

import geomalign as ga
from geomalign.training.config.settings import ModelConfig
from geomalign.training.generation import log_probs, sample
from geomalign.training.policy import Placement, build
from tests.test_gpu import batch_for, on, recipe

# torch says of the mode that finds synchronisations that it does not find all.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:Synchronization debug mode")]


@pytest.fixture
def cuda() -> Iterator[str]:
    """The last device: not the default one where there are several. With GPU_TINY set the CPU stands for it."""
    if torch.cuda.is_available():
        yield f"cuda:{torch.cuda.device_count() - 1}"
    elif os.environ.get("GPU_TINY"):
        yield "cpu"
    else:
        pytest.skip("no CUDA device")


@contextlib.contextmanager
def without_waiting(device: str) -> Iterator[None]:
    """A synchronisation of the device, as the driver sees it, is an error."""
    if device == "cpu":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def leaves(batch: Any) -> list[Tensor]:
    return [x for x in vars(batch).values() if isinstance(x, Tensor) and x.requires_grad]


def evaluated(objective: ga.BaseObjective, batch: Any, drive: Any = None) -> list[Tensor]:
    """The loss and its gradients."""
    loss = objective(batch, drive=drive).loss
    return [loss.detach(), *torch.autograd.grad(loss, leaves(batch))]


def close(found: list[Tensor], expected: list[Tensor], **tolerance: Any) -> None:
    torch.testing.assert_close([x.cpu() for x in found], [x.cpu() for x in expected], **tolerance)


@pytest.mark.parametrize("name", ga.recipes.names())
def test_a_recipe_is_on_the_device_what_it_is_on_the_host(name: str, cuda: str) -> None:
    """Value and gradient in float64, and the gradient in closed form; without a synchronisation."""
    objective, results = recipe(name), []
    for device in ("cpu", cuda):
        batch = on(batch_for(objective), device)
        drive, counts = objective.drive(batch), batch.counts()
        with without_waiting(cuda):
            found = evaluated(objective, batch, drive)
            gradient = objective.gradient(batch, drive=drive, counts=counts)
            measured = ga.metrics(objective(batch, drive=drive))
        results.append([*found, *([gradient] if isinstance(gradient, Tensor) else gradient), *measured.values()])
    close(results[1], results[0], rtol=1e-9, atol=1e-12, equal_nan=True)  # metrics of what a batch has not are NaN


@pytest.mark.parametrize("name", ga.recipes.names())
def test_float32_and_autocast_on_the_device(name: str, cuda: str) -> None:
    """In float32 a recipe is what it is in float64 on the host, and autocast to bfloat16 around it changes nothing."""
    objective = recipe(name)
    exact = evaluated(objective, batch_for(objective))
    batch = on(batch_for(objective), cuda, torch.float32)
    plain = evaluated(objective, batch)
    close(plain, [x.float() for x in exact], rtol=2e-3, atol=2e-5)
    with torch.autocast(torch.device(cuda).type, torch.bfloat16):
        cast = evaluated(objective, batch)
    assert all(x.dtype == torch.float32 for x in cast)
    close(cast, plain, rtol=1e-5, atol=1e-7)  # sums over groups may be added in any order


@pytest.mark.parametrize("name", ga.recipes.names())
def test_an_exported_recipe_on_the_device(name: str, cuda: str) -> None:
    """The function of tensors is the objective there too, without a synchronisation."""
    objective = recipe(name)
    batch = on(batch_for(objective), cuda)
    if any(term.coupling is not None for _, term in objective.terms):
        with pytest.raises(ValueError, match="couples the responses to one prompt"):
            exported(objective, batch)
        return
    if any(term.measure.needs_lengths for _, term in objective.terms):
        with pytest.raises(ValueError, match="no argument that holds these"):
            exported(objective, batch)
        return
    function, given = exported(objective, batch)
    with without_waiting(cuda):
        found = function(**given)
    close(narrowed(found, batch), evaluated(objective, batch), rtol=1e-11, atol=1e-13)


def exported(objective: ga.BaseObjective, batch: Any) -> tuple[Any, dict[str, Tensor]]:
    """The function of tensors in float64, and its arguments."""
    function = ga.ops.export(objective, torch.float64)
    given = ga.ops.arguments(function, objective, batch)
    return function, {name: x.detach() for name, x in given.items()}


def narrowed(found: Any, batch: Any) -> list[Tensor]:
    """What the function returned, without the padding to the longer response of a pair."""
    return [found[0], *(x[:, : leaf.shape[1]] for x, leaf in zip(found[1:], leaves(batch), strict=True))]


COMPILED = ["dapo", "gspo", "opo", "dpo"]


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_objective_on_the_device(name: str, cuda: str) -> None:
    """One graph, of the objective and of its exported function, with the values of the plain call."""
    objective = recipe(name)
    batch = on(batch_for(objective), cuda)
    drive = objective.drive(batch)
    names = [key for key, x in vars(batch).items() if isinstance(x, Tensor) and x.requires_grad]
    options: dict[str, Any] = {"fullgraph": True, "backend": "aot_eager" if cuda == "cpu" else "inductor"}

    def loss(*policy: Tensor) -> Tensor:
        return objective(dataclasses.replace(batch, **dict(zip(names, policy))), drive=drive).loss

    expected = evaluated(objective, batch, drive)
    value = torch.compile(loss, **options)(*leaves(batch))
    close([value.detach(), *torch.autograd.grad(value, leaves(batch))], expected, rtol=1e-9, atol=1e-12)
    function, given = exported(objective, batch)
    found = torch.compile(function, **options)(**given)
    close(narrowed(found, batch), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [(64, 8), (100, 40), (3, 300)], ids=str)
def test_projections_on_the_device(size: tuple[int, int], cuda: str) -> None:
    """Values and derivatives of the host, without a synchronisation; the sum is zero to rounding."""
    drive, pull, valid = torch.randn(*size), torch.randn(*size), torch.rand(size) < 0.8
    for function in (ga.ops.project_bounded, ga.ops.entmax, lambda z, **options: ga.ops.entmax(z, 1.3, **options)):
        results = []
        for device in ("cpu", cuda):
            leaf, there, kept = drive.to(device, copy=True).requires_grad_(), pull.to(device), valid.to(device)
            with without_waiting(cuda):
                values = [function(leaf), function(leaf, valid=kept)]
                slopes = [torch.autograd.grad(x, leaf, there)[0] for x in values]
            results.append([x.detach() for x in values + slopes])
        close(results[1], results[0], rtol=1e-9, atol=1e-10)
    assert float(ga.ops.project_bounded(drive.to(cuda)).sum(-1).abs().max()) < 1e-12 * size[1]


VOCABULARY, HIDDEN = 1000, 32


def head_for(rows: Tensor, device: str, dtype: torch.dtype, frozen: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, a head and targets, the same numbers on every device, up to the type's rounding."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(*rows.shape, HIDDEN, generator=generator).to(device, dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator).div(HIDDEN**0.5).to(device, dtype)
    targets = torch.randint(VOCABULARY, rows.shape, generator=generator).to(device)
    return hidden, weight.requires_grad_(not frozen), targets


def all_logits(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return linear(hidden, weight).log_softmax(-1).gather(-1, targets[..., None])[..., 0]


HEADS = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Relative error of gradients, by type. Log-probabilities are summed in float32, also of bfloat16 numbers."""


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("dtype", HEADS, ids=str)
def test_the_head_on_the_device(dtype: torch.dtype, frozen: bool, cuda: str) -> None:
    """Log-probabilities and gradients of masked rows are those of all logits in float64 of the same numbers."""
    mask = torch.rand(37, 50) < 0.6
    hidden, weight, targets = head_for(mask, cuda, dtype, frozen)
    pull = torch.randn(mask.shape) * mask
    exact = [x.detach().cpu().double().requires_grad_(x.requires_grad) for x in (hidden, weight)]
    expected = all_logits(exact[0], exact[1], targets.cpu()) * mask
    found = ga.ops.fused_log_probs(hidden, weight, targets, mask=mask.to(cuda))
    close([found.detach().double()], [expected.detach()], rtol=0.0, atol=1e-11 if dtype == torch.float64 else 2e-5)
    slopes = [
        torch.autograd.grad((x * pull.to(x)).sum(), [y for y in at if y.requires_grad])
        for x, at in ((found, (hidden, weight)), (expected, exact))
    ]
    for a, b in zip(*slopes, strict=True):
        assert a.dtype == dtype
        assert float((a.cpu().double() - b).norm() / b.norm()) < HEADS[dtype]


@pytest.mark.parametrize("name", ga.recipes.names())
def test_a_recipe_through_the_head_on_the_device(name: str, cuda: str) -> None:
    """In float64 the fused objective there is the plain formula of all logits here, value and gradient."""
    objective = recipe(name)
    batch = batch_for(objective)
    host = head_for(batch.rows.policy, "cpu", torch.float64)
    log_probs = all_logits(*host)
    if batch.paired:
        chosen, rejected = log_probs.chunk(2)
        widths = batch.chosen.shape[1], batch.rejected.shape[1]
        placed = {"chosen": chosen[:, : widths[0]], "rejected": rejected[:, : widths[1]]}
    else:
        placed = {"policy": log_probs}
    expected = objective.plain(dataclasses.replace(batch, **placed)).loss
    hidden, weight, targets = head_for(batch.rows.policy, cuda, torch.float64)
    found = ga.ops.fused_objective(objective, hidden, weight, targets, on(batch, cuda)).loss
    results = [
        [loss.detach(), *torch.autograd.grad(loss, at)]
        for loss, at in ((found, (hidden, weight)), (expected, host[:2]))
    ]
    close(*results, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", ["grpo", "dapo", "gspo", "opo", "gopo", "dpo", "ipo"])
def test_loss_and_backward_are_captured_in_a_graph(name: str, cuda: str) -> None:
    """A CUDA graph of loss and backward, replayed on other log-probabilities, gives what running them gives."""
    if cuda == "cpu":
        pytest.skip("CUDA graphs need CUDA")
    objective = recipe(name)
    batch = on(batch_for(objective), cuda)
    drive, counts = objective.drive(batch), batch.counts()
    policy = leaves(batch)

    def step() -> Tensor:
        loss = objective(batch, drive=drive, counts=counts).loss
        for leaf, gradient in zip(policy, torch.autograd.grad(loss, policy), strict=True):
            leaf.grad = gradient
        return loss.detach()

    with torch.cuda.device(cuda):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        held = [leaf.grad for leaf in policy]
        with torch.no_grad():
            for leaf in policy:
                leaf.add_(0.1 * torch.sin(torch.arange(leaf.numel(), device=cuda).view_as(leaf)))
        graph.replay()
        torch.cuda.synchronize()
        replayed = [captured.clone(), *(gradient.clone() for gradient in held if gradient is not None)]
        torch.testing.assert_close(replayed, [step(), *(leaf.grad for leaf in policy)])


@pytest.mark.float32
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_policy_samples_and_learns_on_the_device(dtype: str, cuda: str) -> None:
    """The log-probabilities of the step are the sampler's; the loss is float32; the step goes downhill."""
    sizes = ModelConfig(hidden=64, layers=2, heads=2, intermediate=128)
    policy = build(sizes, "0123456789+-=;#", 0, Placement(cuda, dtype, gradient_checkpointing=True))
    generator = policy.placement.generator(0)
    out = sample(policy, ["1+2;", "3-4+5;"], samples=8, max_new_tokens=8, generator=generator)
    anchor = log_probs(policy, out).detach()
    torch.testing.assert_close(anchor, out.log_prob, atol=2e-2 if dtype == "bfloat16" else 1e-4, rtol=1e-2)
    reward = (out.response == policy.end).any(-1).float() + out.mask.sum(-1) / 8
    group = torch.arange(16, device=cuda) // 8
    objective = recipe("opo")
    optimizer = torch.optim.AdamW(policy.parameters, lr=1e-3, fused=True)
    losses = []
    for _ in range(10):
        outcome = objective(ga.Batch(log_probs(policy, out), anchor, out.mask, reward=reward, group=group))
        assert outcome.loss.dtype == torch.float32 and outcome.loss.device == torch.device(cuda)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        losses.append(float(outcome.loss.detach()))
    assert losses[-1] < losses[0]
