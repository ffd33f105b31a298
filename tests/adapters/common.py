"""What the tests of adapters share: a batch as hosts have it, two formulas written out, and modules that stand in."""

import dataclasses
import sys
import types
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign.adapters.hosted import cut_groups
from geomalign.objective import UnboundedLossWarning

ROWS, TOKENS = 6, 9


@dataclasses.dataclass
class Rows:
    """A batch as hosts have it: per-token tensors, ragged masks, advantages equal along a response."""

    policy: Tensor
    old: Tensor
    reference: Tensor
    advantages: Tensor
    mask: Tensor


def clipped(policy: Tensor, rows: Rows) -> Tensor:
    """PPO's token losses, written out."""
    ratio = torch.exp(policy - rows.old)
    return -torch.min(ratio * rows.advantages, ratio.clamp(0.8, 1.2) * rows.advantages)


def opo(policy: Tensor, rows: Rows, mu: float) -> Tensor:
    """The log form's losses of responses, written out, with the host's advantage as drive."""
    u = ((policy - rows.old) * rows.mask).sum(1) / rows.mask.sum(1)
    return mu / 2 * u**2 - rows.advantages[:, 0] * u


def assert_same(ours: Tensor, theirs: Tensor, policy: Tensor) -> None:
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(x, policy, retain_graph=True)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    """A module of this name with these contents, and its packages."""
    parts = name.split(".")
    for k in range(1, len(parts) + 1):
        module = types.ModuleType(".".join(parts[:k]))
        module.__path__ = []  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for key, value in contents.items():
        setattr(sys.modules[name], key, value)


def single() -> list[str]:
    """Recipes of single responses without a reference, whose groups a host may cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnboundedLossWarning)  # of a recipe of pairs
        found = {name: ga.recipes.get(name) for name in ga.recipes.names()}
    return [
        name
        for name, objective in found.items()
        if not objective.paired and not objective.needs_reference and cut_groups(objective, "a host") is None
    ]
