"""The parity table: which objective is compared with which method of another library, and what is expected.

A test runs every case whose library is installed and fails where the verdict is not the expected one. It fails too
where a library has mended what is written down here as a difference.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.parity.case import Case
from tests.parity.cases.areal import AREAL
from tests.parity.cases.kl_penalties import KL_PENALTIES
from tests.parity.cases.liger import LIGER
from tests.parity.cases.openrlhf import OPENRLHF
from tests.parity.cases.skyrl import SKYRL
from tests.parity.cases.swift import SWIFT
from tests.parity.cases.torchrl import TORCHRL
from tests.parity.cases.trinity import TRINITY
from tests.parity.cases.trl import TRL
from tests.parity.cases.verl import VERL

__all__ = ["CASES", "NO_IMPLEMENTATION"]

CASES: tuple[Case, ...] = tuple(
    TRL + VERL + KL_PENALTIES + AREAL + LIGER + OPENRLHF + SKYRL + SWIFT + TORCHRL + TRINITY
)
"""Every line of the table."""

_AUTHOR = "the author's code is no package; its variant differs from the paper (see the recipe)"
_FORK = "the authors' code is a fork of verl, no package; its function was compared by hand"
NO_IMPLEMENTATION: Mapping[str, str] = {
    "generalized_jsd": "TRL's GKD and Liger's JSD sum over the vocabulary; ours is the estimate from sampled tokens",
    "opo": _AUTHOR,
    "gopo": _AUTHOR,
    "w_gopo": _AUTHOR,
    "aspo": _FORK,
    "bapo": _FORK,
    "ce_gppo": _FORK,
    "gppo": _FORK,
    "gepo": "the authors' code is a trainer, no function; its lines were compared by hand",
    "prime_ipo": "prime-rl is no package of the index; `ipo_loss_fn` was compared by hand",
    "opo_ess": "ours",
    "opo_trust_region": "ours",
    "rpo": "NeMo-Aligner, which does not run on a CPU",
    "raft": "selection followed by supervised learning in every library; no loss of its own",
}
"""Recipes that none of the libraries implements → why, where there is more to say than that."""
