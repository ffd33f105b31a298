"""rLLM's loss, under the two ways in which its backends call one.

rLLM is on no package index and its losses are on its branches: `Context` and the two loops below stand in, written from
`rllm/trainer/algorithms/loss.py`, `rllm/trainer/tinker/custom_loss.py` and `rllm/trainer/verl/verl_backend.py` at
commit a5fa9aa1 (branch terminal-rl, August 2026).
"""

import dataclasses
import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters.common import ROWS, Rows, assert_same, clipped, opo, stand_in
from torch import Tensor

import geomalign as ga
from geomalign.adapters import rllm

try:
    import tomllib
except ImportError:
    import tomli as tomllib


@dataclasses.dataclass
class Context:
    """The fields of rLLM's `LossContext`."""

    logp_curr: Tensor
    logp_old: Tensor
    advantages: Tensor
    action_mask: Tensor
    obs_mask: Tensor
    aggregate: Callable[..., Tensor]
    logp_ref: Tensor | None = None
    logp_rollout: Tensor | None = None
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    backend: str = ""


def params(objective: str) -> dict[str, Any]:
    """What reaches a loss: rLLM's own settings, and `loss_params`."""
    return {"eps_clip": 0.1, "eps_clip_high": None, "kl_beta": 0.0, "clip_ratio_c": 20.0, "objective": objective}


def in_process(rows: Rows, objective: str, mode: str, **more: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Under verl: one call for the micro-batch, and verl's reductions."""
    mask = rows.mask.double()

    def aggregate(losses: Tensor, mask: Tensor, mode_: str | None = None) -> Tensor:
        if (mode_ or mode) == "token-mean":
            return (losses * mask).sum() / mask.sum()
        return ((losses * mask).sum(-1) / mask.sum(-1)).mean()

    context = Context(
        rows.policy, rows.old, rows.advantages, mask, 1 - mask, aggregate, params=params(objective), **more
    )
    return rllm.loss(context)


def managed(rows: Rows, objective: str, mode: str) -> tuple[Tensor, dict[str, float]]:
    """Under Tinker and Fireworks: one call per response, cut to its length, and the sum of all divided by a count."""
    total, seen = torch.zeros(()), {}
    for k in range(ROWS):
        width = int(rows.mask[k].sum()) + 2
        mask = rows.mask[k, :width].double()

        def aggregate(losses: Tensor, mask: Tensor, mode_: str | None = None) -> Tensor:
            total = (losses * mask).sum()
            return total / mask.sum().clamp(min=1) if (mode_ or mode) == "seq-mean-token-mean" else total

        cut = lambda x, k=k, width=width: x[k, :width]  # noqa: E731
        context = Context(
            cut(rows.policy),
            cut(rows.old),
            cut(rows.advantages),
            mask,
            1 - mask,
            aggregate,
            logp_rollout=cut(rows.old),
            params=params(objective),
        )
        loss, seen = rllm.loss(context)
        total = total + loss
    return total / (rows.mask.sum() if mode == "token-mean" else ROWS), seen


@pytest.mark.parametrize("run", [in_process, managed])
def test_rllm(run: Callable[..., Any], rows: Rows) -> None:
    ours, seen = run(rows, "ppo", "token-mean")  # rLLM's eps_clip of 0.1 plays no part
    assert_same(ours, clipped(rows.policy, rows)[rows.mask].mean(), rows.policy)
    assert all(isinstance(x, float) and math.isfinite(x) for x in seen.values()) and "geom/inactive" in seen
    ours, _ = run(rows, "opo mu=2", "seq-mean-token-mean")
    assert_same(ours, opo(rows.policy, rows, 2.0).mean(), rows.policy)
    lengths = rows.mask.sum(1)
    ours, _ = run(rows, "opo mu=2", "token-mean")  # a response counts once for each of its tokens
    assert_same(ours, (opo(rows.policy, rows, 2.0) * lengths).sum() / lengths.sum(), rows.policy)


def test_rllm_passes_the_reference(rows: Rows) -> None:
    ours, _ = in_process(rows, "grpo beta=0.1", "seq-mean-token-mean", logp_ref=rows.reference)
    k3 = torch.exp(rows.reference - rows.policy) - (rows.reference - rows.policy) - 1
    nested = ((clipped(rows.policy, rows) + 0.1 * k3) * rows.mask).sum(1) / rows.mask.sum(1)
    assert_same(ours, nested.mean(), rows.policy)
    with pytest.raises(ValueError, match="reference"):
        in_process(rows, "grpo beta=0.1", "seq-mean-token-mean")


def test_rllm_wants_an_objective(rows: Rows) -> None:
    mask = rows.mask.double()
    context = Context(rows.policy, rows.old, rows.advantages, mask, 1 - mask, torch.sum)
    with pytest.raises(ValueError, match="loss_params has no `objective`"):
        rllm.loss(context)


def test_rllm_finds_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point names a module that registers on import, under a name that verl's registry does not have."""
    registered: dict[str, Any] = {}
    stand_in(
        monkeypatch,
        "rllm.trainer.algorithms.loss",
        register_loss=lambda name: lambda function: registered.setdefault(name, function),
    )
    monkeypatch.delitem(sys.modules, "geomalign.adapters.rllm_plugin", raising=False)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    importlib.import_module(project["entry-points"]["rllm.losses"]["geomalign"])
    assert registered == {rllm.NAME: rllm.loss}
    assert not any(f"geomalign/{name}" == rllm.NAME for name in (*ga.recipes.names(), "objective"))
