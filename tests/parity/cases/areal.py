"""AReaL: its policy losses."""

from __future__ import annotations

import dataclasses

from geomalign import recipes
from geomalign.measure import PooledMean
from tests.parity.case import Case

__all__ = ["AREAL"]

_CLIP = {"eps_clip": 0.2}

AREAL = [
    Case("decoupled_ppo", "areal", "ppo_actor", {}, _CLIP | {"decoupled": True}),
    Case("decoupled_ppo", "areal", "ppo_actor", {"cap": 1.1}, _CLIP | {"decoupled": True, "cap": 1.1}),
    Case("ppo", "areal", "ppo_actor", {"dual_clip": 3.0}, _CLIP | {"c_clip": 3.0}),
    Case("dapo", "areal", "ppo_actor", {}, _CLIP | {"eps_clip_higher": 0.28}),
    Case(
        "sapo over all tokens",
        "areal",
        "sapo",
        options={"tau_pos": 1.0, "tau_neg": 1.05},
        build=lambda: dataclasses.replace(recipes.sapo(), measure=PooledMean()),
    ),
]
"""Losses against recipes; the advantages are the recipe's own."""
