"""Liger: its chunked losses."""

from __future__ import annotations

from typing import Any

from tests.parity.case import Case
from tests.parity.cases.common import DIFFERENT, HALF_PAIR, LOST, REFUSED, RESPONSES, ROWS, SEQUENCE

__all__ = ["LIGER"]

_LIGER_GRPO = "LigerFusedLinearGRPOLoss"


def _liger(objective: str, options: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> Case:
    return Case(objective, "liger", _LIGER_GRPO, settings or {}, {"beta": 0.0} | options, **more)


_LIGER_DPO: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("dpo", {}, {}),
    ("slic", {"beta": 0.1}, {"loss_type": "hinge"}),
    ("exo", {}, {"loss_type": "exo_pair", "label_smoothing": 1e-3}),
    ("nca", {}, {"loss_type": "nca_pair"}),
    ("robust_dpo", {}, {"loss_type": "robust", "label_smoothing": 0.1}),
    ("discopop", {"beta": 0.1}, {"loss_type": "discopop"}),
]
_NAN = "the average over no token is 0/0: NaN in the loss and in every gradient."
LIGER = [
    _liger("grpo", {"loss_type": "grpo"}, known_deviations=ROWS),
    _liger("grpo", {"loss_type": "grpo", "beta": 0.04}, {"beta": 0.04}, known_deviations=ROWS),
    _liger("bnpo", {"loss_type": "bnpo"}),
    _liger("ppo", {"loss_type": "bnpo"}),
    _liger("ppo", {"loss_type": "bnpo", "delta": 3.0}, {"dual_clip": 3.0}),
    _liger("dapo", {"loss_type": "dapo", "epsilon_high": 0.28}),
    _liger("dr_grpo", {"loss_type": "dr_grpo", "max_completion_length": 256}, known_deviations=ROWS),
    _liger("gspo", {"loss_type": "grpo", "epsilon_low": 3e-4, "epsilon_high": 4e-4, **SEQUENCE}, known_deviations=ROWS),
    _liger(
        "luspo", {"loss_type": "luspo", "epsilon_low": 2e-3, "epsilon_high": 2.5e-3, **SEQUENCE}, known_deviations=ROWS
    ),
    _liger(
        "luspo",
        {"loss_type": "luspo", "epsilon_low": 2e-3, "epsilon_high": 2.5e-3},
        expect=DIFFERENT,
        why="the default `importance_sampling_level='token'` clips tokens and averages over padded positions without "
        "masking them.",
    ),
    _liger("sapo", {"loss_type": "sapo"}, known_deviations=ROWS),
    _liger("cispo", {"loss_type": "cispo", "epsilon_high": 5.0}),
    _liger(
        "cispo",
        {"loss_type": "cispo"},
        expect=DIFFERENT,
        why="as TRL: `epsilon_high` bounds the ratio itself and defaults to 0.2.",
    ),
    _liger(
        "vespo",
        {"loss_type": "vespo"},
        known_deviations={"far": (DIFFERENT, "clamps Δ of tokens to ±20 and log w to [−18.4, 20] inside the weight.")},
    ),
    _liger("cispo", {"loss_type": "cispo"}, {"high": 0.2}),
    *(Case(o, "liger", "LigerFusedLinearDPOLoss", s, p, known_deviations=HALF_PAIR) for o, s, p in _LIGER_DPO),
    Case(
        "bco", "liger", "LigerFusedLinearDPOLoss", {}, {"loss_type": "bco_pair"}, known_deviations=RESPONSES, pairs=True
    ),
    Case(
        "sppo",
        "liger",
        "LigerFusedLinearDPOLoss",
        {"beta": 0.1},
        {"loss_type": "sppo_hard"},
        known_deviations=RESPONSES,
        pairs=True,
    ),
    Case(
        "apo_zero",
        "liger",
        "LigerFusedLinearDPOLoss",
        {},
        {"loss_type": "apo_zero"},
        known_deviations=RESPONSES,
        pairs=True,
    ),
    Case("apo_down", "liger", "LigerFusedLinearDPOLoss", {}, {"loss_type": "apo_down"}, known_deviations=LOST),
    Case("kto", "liger", "LigerFusedLinearKTOLoss", known_deviations=RESPONSES, pairs=True),
    Case(
        "ipo",
        "liger",
        "LigerFusedLinearDPOLoss",
        {},
        {"loss_type": "ipo"},
        expect=REFUSED,
        why="not implemented there, and says so.",
    ),
    Case(
        "simpo",
        "liger",
        "LigerFusedLinearSimPOLoss",
        {},
        {"beta": 2.0, "gamma": 1.0, "compute_nll_loss": False},
        known_deviations={"empty": (DIFFERENT, _NAN)},
    ),
    Case(
        "cpo",
        "liger",
        "LigerFusedLinearCPOLoss",
        expect=DIFFERENT,
        why="averages −log π(y⁺) over all tokens of the batch, as TRL; the paper has the mean over responses of their "
        "sums.",
    ),
    Case(
        "orpo",
        "liger",
        "LigerFusedLinearORPOLoss",
        expect=DIFFERENT,
        why="averages −log π(y⁺) over all tokens of the batch instead of over each response first.",
    ),
]
