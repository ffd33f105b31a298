"""How far the gradient law of an objective reaches."""

from __future__ import annotations

import enum

__all__ = ["Locality"]


class Locality(enum.IntEnum):
    """What must be known before ∂L/∂log π at one token is: the schedule of a fused evaluation follows from it.

    Ordered, so that the locality of a composition is the maximum of its parts.
    """

    KNOWN = 0
    """Nothing of the current forward pass: the law depends on the rollout alone (REINFORCE)."""
    TOKEN = 1
    """The token's own log-probability (PPO, GRPO, CISPO)."""
    SEQUENCE = 2
    """The log-probabilities of its response (GSPO, OPO)."""
    GROUP = 3
    """Those of the responses it is compared with (DPO: its pair)."""
    BATCH = 4
    """Those of the whole batch (AOT sorts it)."""
