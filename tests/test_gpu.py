"""Ready for accelerators: nothing in an objective waits for the device. What runs on one is in test_device.py."""

from __future__ import annotations

import dataclasses
import warnings
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
