"""torchrl: `GRPOLoss`, `DAPO` and `CISPOLoss`."""

from __future__ import annotations

from tests.parity.case import Case
from tests.parity.cases.common import DIFFERENT, ROWS

__all__ = ["TORCHRL"]

TORCHRL = [
    Case("ppo", "torchrl", "GRPOLoss"),
    Case("bnpo", "torchrl", "GRPOLoss"),
    Case("grpo", "torchrl", "GRPOLoss", {}, {"aggregation": "prompt_mean"}, known_deviations=ROWS),
    Case("dapo", "torchrl", "DAPO", {}, {"clip_epsilon": (0.2, 0.28)}),
    Case(
        "cispo",
        "torchrl",
        "CISPOLoss",
        {"high": 1.2, "low": 0.8},
        {"clip_epsilon": 0.2},
        expect=DIFFERENT,
        why="has neither the stop-gradient nor log π: −clip(t)·A, whose gradient is that of t·A inside the band and "
        "zero outside. "
        "Every token that CISPO exists to keep is dropped.",
    ),
]
