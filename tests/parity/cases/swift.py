"""ms-swift: the losses of its GRPO trainer."""

from __future__ import annotations

from tests.parity.case import Case
from tests.parity.cases.common import RESPONSES, ROWS

__all__ = ["SWIFT"]

SWIFT = [
    Case("real", "swift", "real", known_deviations=RESPONSES),
    Case("real", "swift", "real", {"tau": 0.1}, {"real_tau": 0.1}, known_deviations=RESPONSES),
    Case("fipo", "swift", "fipo", {}, {"delta": 10.0, "epsilon_high": 0.28}),
    Case("sapo", "swift", "sapo", known_deviations=ROWS),
    Case("cispo", "swift", "cispo", {}, {"epsilon_high": 5.0}),
    Case("dapo", "swift", "dapo", {}, {"epsilon_high": 0.28}),
    Case("grpo", "swift", "grpo", known_deviations=ROWS),
    Case("bnpo", "swift", "bnpo"),
    Case(
        "gspo",
        "swift",
        "grpo",
        {},
        {"importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
        known_deviations=ROWS,
    ),
]
"""Losses against recipes; the advantages are the recipe's own."""
