"""Trinity-RFT: its policy losses."""

from __future__ import annotations

from typing import Any

from geomalign import recipes
from tests.parity.case import Case
from tests.parity.cases.common import CLAMPED, DIFFERENT, ROWS

__all__ = ["TRINITY"]

_OFF = {"clip_range": 0.2, "clip_ratio_c": 1e9}
_MEANS = {"loss_agg_mode": "seq-mean-token-mean"}
_RING = {"epsilon_low_prime": 0.6, "epsilon_high_prime": 2.0}
_IS = {"weight": "importance_sampling"}


def _rec(clip: str | None, **settings: Any) -> Case:
    mode = "none" if clip is None else clip.replace("_", "-")
    options = {"clip_mode": mode} | _RING | (_IS if settings.get("importance") else {})
    return Case("rec", "trinity", "rec", {"clip": clip, **settings}, options)


TRINITY = [
    Case("ppo", "trinity", "ppo", {}, _OFF, known_deviations=CLAMPED),
    Case("ppo", "trinity", "ppo", {"dual_clip": 3.0}, {"clip_range": 0.2}),
    Case("dapo", "trinity", "ppo", {}, _OFF | {"clip_range_high": 0.28}, known_deviations=CLAMPED),
    Case("grpo", "trinity", "ppo", {}, _OFF | _MEANS, known_deviations=CLAMPED | ROWS),
    Case("gspo", "trinity", "gspo", {}, {"clip_range_low": 3e-4, "clip_range_high": 4e-4}, known_deviations=ROWS),
    Case(
        "sapo",
        "trinity",
        "sapo",
        {},
        _MEANS,
        expect=DIFFERENT,
        why="has the gate itself as the weight of ∇log π, 2/τ at the anchor and rising with the ratio, where the "
        "gradient of the published objective has its derivative, which is 1 there and falls on both sides.",
    ),
    Case("cispo", "trinity", "cispo", {"high": 1.28}),
    Case(
        "topr",
        "trinity",
        "topr",
        expect=DIFFERENT,
        why="clips the ratio of every token, where the paper and ours clip that of the response; averages over tokens.",
    ),
    Case("opmd", "trinity", "opmd"),
    Case("softmax_ppo", "trinity", "sppo"),
    Case("dft", "trinity", "sft_is"),
    Case("chord_phi", "trinity", "sft_phi"),
    *(
        _rec(clip, importance=importance)
        for clip in ("one_side", "two_side", "ring", None)
        for importance in (False, True)
    ),
    Case(
        "ppo without a clip",
        "trinity",
        "importance_sampling",
        build=lambda: recipes.ppo(epsilon=None),
        known_deviations=CLAMPED,
    ),
]
"""Losses against recipes; the advantages are the recipe's own."""
