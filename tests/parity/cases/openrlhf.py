"""OpenRLHF: `PolicyLoss` and `DPOLoss`."""

from __future__ import annotations

from geomalign import recipes
from tests.parity.case import Case
from tests.parity.cases.common import CLAMPED, DIFFERENT, HALF_PAIR, truncated

__all__ = ["OPENRLHF"]

OPENRLHF = [
    Case("ppo", "openrlhf", "PolicyLoss", known_deviations=CLAMPED),
    Case("ppo", "openrlhf", "PolicyLoss", {"dual_clip": 3.0}, {"dual_clip": 3.0}),
    Case("bnpo", "openrlhf", "PolicyLoss", known_deviations=CLAMPED),
    Case("grpo", "openrlhf", "PolicyLoss", {}, {"token_level_loss": False}, known_deviations=CLAMPED),
    Case("dapo", "openrlhf", "PolicyLoss", {}, {"clip_eps_high": 0.28}, known_deviations=CLAMPED),
    Case(
        "grpo with truncated importance",
        "openrlhf",
        "PolicyLoss",
        {},
        {
            "behavior": True,
            "token_level_loss": False,
            "is_correction_level": "token",
            "is_correction_mode": "clip",
            "is_correction_threshold": (0.0, 2.0),
        },
        known_deviations=CLAMPED,
        build=lambda: truncated(recipes.grpo()),
    ),
    Case(
        "gspo", "openrlhf", "PolicyLoss", {}, {"policy_loss_type": "gspo", "clip_eps_low": 3e-4, "clip_eps_high": 4e-4}
    ),
    Case("dpo", "openrlhf", "DPOLoss", {}, {"beta": 0.1}, known_deviations=HALF_PAIR),
    Case("cdpo", "openrlhf", "DPOLoss", {}, {"beta": 0.1, "label_smoothing": 0.1}, known_deviations=HALF_PAIR),
    Case("ipo", "openrlhf", "DPOLoss", {"normalize": "sum"}, {"beta": 0.1, "ipo": True}, known_deviations=HALF_PAIR),
    Case(
        "ipo",
        "openrlhf",
        "DPOLoss",
        {},
        {"beta": 0.1, "ipo": True},
        expect=DIFFERENT,
        why="the sum of Δ over a response, as in the paper; TRL and our default average it.",
    ),
]
