"""Objectives and their gradients on log-probabilities on the device, against TRL's formula; kernels and memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from tests.bench import objective
from tests.gpu.figures import DEVICE, TINY, Figures

SHAPES = ((16, 64),) if TINY else ((512, 2048), (4096, 2048))  # the first stays in an H100's cache, the second does not
RECIPES = ("dapo",) if TINY else tuple(objective.SETTINGS)
COMPILED = "geomalign, exported and compiled"


def main(figures: Figures) -> None:
    for peers in objective.SETTINGS.values():
        peers.pop("verl", None)  # its losses import what a machine without a network has not
    for name in RECIPES:
        for rows, tokens in SHAPES:
            case = f"{name}, {rows}×{tokens}"
            kept: dict[str, Callable[[], Any]] = {}
            found = figures.compare(case, partial(objective.methods, name, rows, tokens, metrics=False), 1.0, kept)
            if COMPILED not in found:
                continue
            for ours, peer in (("geomalign", "TRL's formula"), (COMPILED, "TRL's formula, compiled")):
                if peer in found:
                    figures.target(case, f"{peer} / {ours}", found[peer]["ms"] / found[ours]["ms"], least=1.0)
            if DEVICE == "cuda":
                one = rows * tokens * 4 / 2**20
                figures.target(case, "kernels, compiled", kernels(kept[COMPILED]), most=3)
                figures.target(case, "peak / [row, token], compiled", found[COMPILED]["peak_mib"] / one, most=1.1)
                figures.target(case, "peak / [row, token], eager", found["geomalign"]["peak_mib"] / one, most=4.0)


def kernels(call: Callable[[], Any]) -> int:
    """How many kernels one call launches, copies and fills among them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events())


if __name__ == "__main__":
    Figures.stage(main)
