"""The parity table: which objective is compared with which method of which peer, and what is expected.

A test runs every line whose peer is installed and fails where the verdict is another one: also where a peer has mended
what is written down here as a difference.
"""

from __future__ import annotations

from collections.abc import Mapping

from geomalign.parity.case import Case
from geomalign.parity.cases.leashes import LEASHES
from geomalign.parity.cases.liger import LIGER
from geomalign.parity.cases.openrlhf import OPENRLHF
from geomalign.parity.cases.torchrl import TORCHRL
from geomalign.parity.cases.trl import TRL
from geomalign.parity.cases.verl import VERL

__all__ = ["CASES", "NO_PEER"]

CASES: tuple[Case, ...] = tuple(TRL + VERL + LEASHES + LIGER + OPENRLHF + TORCHRL)
"""Every line of the table."""

_AUTHOR = "the author's code is no package; its variant differs from the paper (see the recipe)"
NO_PEER: Mapping[str, str] = {
    "generalized_jsd": "TRL's GKD and Liger's JSD sum over the vocabulary; ours is the estimate from sampled tokens",
    "opo": _AUTHOR,
    "gopo": _AUTHOR,
    "w_gopo": _AUTHOR,
    "opo_annealed": "ours",
    "opo_ess": "ours",
    "opo_held": "ours",
    "opo_trust_region": "ours",
    "rpo": "NeMo-Aligner, which does not run on a CPU",
    "raft": "selection followed by supervised learning in every library; no loss of its own",
}
"""Recipes that none of the peers implements -> why, where there is more to say than that."""
