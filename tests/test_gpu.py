"""Ready for accelerators: nothing in an objective waits for the device; and, where there is one, that it runs there."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import geomalign as ga
from geomalign.laws import sample_batch, sample_pairs
from geomalign.training.config.settings import ModelConfig
from geomalign.training.generation import log_probs, sample
from geomalign.training.policy import Placement, build

#: What makes the host wait for the device: a number read from it, a shape that depends on values.
WAITING = ("_local_scalar_dense", "is_nonzero", "aten.nonzero", "masked_select", "unique", "repeat_interleave.Tensor")
#: Solved by iteration: thousands of operations, each of which costs a millisecond on the meta device.
ITERATED = {"opo_ess", "opo_trust_region"}


class Watch(TorchDispatchMode):
    """Notes every operation that waits for the device or copies between it and the host."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(op)
        result = op(*args, **kwargs)
        masked = name.startswith(("aten.index.", "aten.index_put")) and any(
            x is not None and x.dtype == torch.bool for x in args[1]
        )
        if masked or any(word in name for word in WAITING):
            self.waits.append(name)
        if "copy" in name:
            devices = {x.device.type for x in (*args, result) if isinstance(x, Tensor)}
            if len(devices) > 1:
                self.waits.append(f"{name} {sorted(devices)}")
        return result


def recipe(name: str) -> ga.BaseObjective:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ga.UnboundedLossWarning)
        return ga.recipes.get(name)


def batch_for(objective: ga.BaseObjective) -> Any:
    return sample_pairs() if objective.paired else sample_batch()


def on(batch: Any, device: str, dtype: torch.dtype | None = None) -> Any:
    """The batch on a device, its log-probabilities leaves again."""

    def moved(x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        there = x.detach().to(device, dtype if x.is_floating_point() else None)
        return there.requires_grad_(x.requires_grad)

    return dataclasses.replace(batch, **{f.name: moved(getattr(batch, f.name)) for f in dataclasses.fields(batch)})


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in ITERATED else n for n in ga.recipes.names()],
)
def test_no_recipe_waits_for_the_device(name: str) -> None:
    """Drive, loss, backward pass, gradient and metrics on tensors that have no values and are on no default device.

    On the meta device `.item()`, `bool()` and shapes that depend on values raise, and so does an operation that mixes
    in a tensor made on the default device.
    """
    objective = recipe(name)
    batch = on(batch_for(objective), "meta")
    with Watch() as watch:
        counts = batch.counts()
        drive = objective.drive(batch)
    assert not watch.waits
    with Watch() as watch:
        outcome = objective(batch, drive=drive, counts=counts)
        outcome.loss.backward()
        objective.gradient(batch, drive=drive, counts=counts)
        measured = ga.metrics(outcome)
    assert not watch.waits
    leaves = [x for x in vars(batch).values() if isinstance(x, Tensor) and x.requires_grad]
    assert leaves and all(leaf.grad is not None and leaf.grad.device.type == "meta" for leaf in leaves)
    assert all(value.device.type == "meta" for value in measured.values())


def test_the_watch_sees_what_waits() -> None:
    x = torch.tensor([1.0, 2.0])
    for act in (lambda: x.sum().item(), lambda: bool((x > 1).any()), lambda: x[x > 1], lambda: x.nonzero()):
        with Watch() as watch:
            act()
        assert watch.waits
    with Watch() as watch:
        torch.tensor(1.0).to("meta")
    assert watch.waits
    with pytest.raises((RuntimeError, NotImplementedError)):
        float(on(sample_batch(), "meta").policy.sum())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_checkpointing_changes_memory_only(checkpointing: bool) -> None:
    """The same log-probabilities and gradients to the bit; activations of layers are not kept."""
    sizes = ModelConfig(hidden=32, layers=4, heads=2, intermediate=64)
    plain = build(sizes, "0123456789+-=;#", 0, Placement(dtype="float64"))
    other = build(sizes, "0123456789+-=;#", 0, Placement(dtype="float64", gradient_checkpointing=checkpointing))
    out = sample(plain, ["1+2;", "3-4+5;"], samples=4, max_new_tokens=8, generator=torch.Generator().manual_seed(0))
    kept, gradients, values = [], [], []
    for policy in (plain, other):
        saved: list[int] = []

        def pack(x: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            values.append(log_probs(policy, out))
        kept.append(sum(saved))
        values[-1].sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in policy.parameters if p.grad is not None]))
        assert not any(module.training for module in policy.model.modules())
    assert torch.equal(*values) and torch.equal(*gradients)
    assert kept[1] < 0.5 * kept[0] if checkpointing else kept[1] == kept[0]
    again = sample(other, ["1+2;", "3-4+5;"], samples=4, max_new_tokens=8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.response, out.response)


# ---------------------------------------------------------------------- with an accelerator

gpu = pytest.mark.gpu


@pytest.fixture
def cuda() -> Iterator[str]:
    """The last device: not the default one where there are several."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    yield f"cuda:{torch.cuda.device_count() - 1}"


@gpu
@pytest.mark.parametrize("name", ga.recipes.names())
def test_a_recipe_is_on_the_device_what_it_is_on_the_host(name: str, cuda: str) -> None:
    """Values, gradients and laws in float64; and without a synchronisation, as the driver sees it."""
    results = []
    for device in ("cpu", cuda):
        objective = recipe(name)
        batch = on(batch_for(objective), device)
        drive = objective.drive(batch)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            outcome = objective(batch, drive=drive)
            outcome.loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        leaves = [x for x in vars(batch).values() if isinstance(x, Tensor) and x.requires_grad]
        results.append([outcome.loss.detach().cpu(), *(leaf.grad.cpu() for leaf in leaves if leaf.grad is not None)])
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-12)


@gpu
@pytest.mark.parametrize("name", ["grpo", "dapo", "gspo", "opo", "gopo", "dpo", "ipo"])
def test_loss_and_backward_are_captured_in_a_graph(name: str, cuda: str) -> None:
    """A CUDA graph of loss and backward, replayed on other log-probabilities, gives what running them gives."""
    objective = recipe(name)
    batch = on(batch_for(objective), cuda)
    drive, counts = objective.drive(batch), batch.counts()
    leaves = [x for x in vars(batch).values() if isinstance(x, Tensor) and x.requires_grad]

    def step() -> Tensor:
        loss = objective(batch, drive=drive, counts=counts).loss
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
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
        held = [leaf.grad for leaf in leaves]
        with torch.no_grad():
            for leaf in leaves:
                leaf.add_(0.1 * torch.sin(torch.arange(leaf.numel(), device=cuda).view_as(leaf)))
        graph.replay()
        torch.cuda.synchronize()
        replayed = [captured.clone(), *(gradient.clone() for gradient in held if gradient is not None)]
        torch.testing.assert_close(replayed, [step(), *(leaf.grad for leaf in leaves)])


@gpu
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
        losses.append(float(outcome.loss))
    assert losses[-1] < losses[0]
