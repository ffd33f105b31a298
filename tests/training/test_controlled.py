"""Objectives that remember: their controller is logged, checkpointed and one a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import geomalign as ga
from geomalign import recipes
from geomalign.training.checkpoint import read_metrics
from geomalign.training.config.settings import TrainConfig
from geomalign.training.events import Event
from geomalign.training.trainer import train

SHARED = ga.recipes.opo_held()


class Crash(Exception):
    pass


def crash_at(step: int):
    def progress(event: Event) -> None:
        if event.kind == "step" and event.step == step:
            raise Crash

    return progress


@pytest.mark.float32
def test_a_controlled_run_resumes_to_the_same_bits(tiny: TrainConfig, base: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(tiny, objective="opo_held", options={"target": 0.01, "mu": 1.0})
    train(config, tmp_path / "whole", base=base)
    with pytest.raises(Crash):
        train(config, tmp_path / "part", base=base, progress=crash_at(5))
    train(config, tmp_path / "part", base=base, resume=True)
    untimed, clocks = [], ("time/", "memory/", "tokens_per_second")
    for name in ("whole", "part"):
        lines = read_metrics(tmp_path / name / "metrics.jsonl")
        untimed.append([{k: v for k, v in x.items() if not k.startswith(clocks)} for x in lines])
    assert untimed[0] == untimed[1]
    stiffness = [line["controller_stiffness"] for line in untimed[0] if line["step"] > 0]
    assert len(stiffness) == 7 and len(set(stiffness)) > 3 and stiffness[0] == 1.0
    held = [line["controller_held"] for line in untimed[0] if line["step"] > 0]
    # μ answers what was measured one rollout before: it rises above the target and falls below it.
    for before, after, share in zip(stiffness, stiffness[1:], held):
        assert (after > before) == (share > 1)


def test_a_shared_controller_is_refused() -> None:
    with pytest.raises(ValueError, match="one run"):
        recipes.get(f"{__name__}:SHARED")
    assert isinstance(recipes.get("opo_held"), ga.Controlled)
    assert recipes.get("opo_held").controller is not recipes.get("opo_held").controller  # type: ignore[attr-defined]
    assert torch.equal(SHARED.controller.stiffness, torch.ones(()))
