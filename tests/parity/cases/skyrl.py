"""SkyRL: its policy losses."""

from __future__ import annotations

from tests.parity.case import Case
from tests.parity.cases.common import CLAMPED, CONSTANT, DIFFERENT, ROWS

__all__ = ["SKYRL"]

_MEANS = {"reduction": "sequence_mean"}

SKYRL = [
    Case("ppo", "skyrl", "regular", known_deviations=CLAMPED),
    Case("ppo", "skyrl", "dual_clip", {"dual_clip": 3.0}, {"clip_ratio_c": 3.0}),
    Case("dapo", "skyrl", "regular", {}, {"eps_clip_high": 0.28}, known_deviations=CLAMPED),
    Case("grpo", "skyrl", "regular", {}, _MEANS, known_deviations=CLAMPED | ROWS),
    Case(
        "gspo",
        "skyrl",
        "gspo",
        {},
        _MEANS | {"eps_clip_low": 3e-4, "eps_clip_high": 4e-4},
        known_deviations=ROWS | {"far": (DIFFERENT, "clamps the mean Δ of a response to at most 10 nats.")},
    ),
    Case("sapo", "skyrl", "sapo", {}, _MEANS, known_deviations=ROWS),
    Case("cispo", "skyrl", "cispo"),
    Case(
        "dppo",
        "skyrl",
        "dppo",
        {"delta": 0.2},
        {"dppo.delta_low": 0.2, "dppo.delta_high": 0.2},
        expect=CONSTANT,
        why="the value is −tA, ours −sg[t] A log π.",
        known_deviations=CLAMPED,
    ),
    Case("rec", "skyrl", "rollout_is", {"clip": "two_side", "importance": True}, {"behavior": True}),
]
"""Losses against recipes; the advantages are the recipe's own."""
