"""Target policies of groups on the device, against the published bisection and, where installed, entmax."""

from __future__ import annotations

from functools import partial

import torch

import geomalign as ga
from tests.bench import projection
from tests.gpu.figures import TINY, Figures

SHAPES = ((8, 4),) if TINY else projection.SHAPES


def main(figures: Figures) -> None:
    for groups, size in SHAPES:
        case = f"{groups}×{size}"
        for name, methods in (
            ("bounded projection", projection.projection),
            ("its gradient", projection.derivative),
            ("entmax 1.5", partial(projection.entmax, 1.5)),
        ):
            figures.compare(f"{name}, {case}", partial(methods, groups, size), 0.5)
        drive = torch.randn(groups, size)
        for dtype, most in ((torch.float32, 2e-5), (torch.float64, 1e-13)):
            off = ga.ops.project_bounded(drive.to(dtype), projection.MU).double().sum(-1).abs().max()
            figures.check(f"bounded projection, {case}", f"|Σ v|, {str(dtype)[6:]}", float(off), most)


if __name__ == "__main__":
    Figures.stage(main)
