"""The k1, k2 and k3 estimators of verl, OpenRLHF and torchrl."""

from __future__ import annotations

import torch

from geomalign.optimization import BregmanGeometry, ChiSquare, Linear, ReverseKL, StraightThrough
from tests.parity.case import Case
from tests.parity.cases.common import CONSTANT, DIFFERENT, KnownDeviations, k_kl_penalty

__all__ = ["KL_PENALTIES"]

_K3_BOUND = (
    "bounds the value of a token at 10, without gradient beyond: where the policy is furthest from "
    "the reference, the KL penalty has no gradient."
)
_K3_VALUE = "bounds the reported value of a token at 10; the gradient is k2's and untouched."
_BOUND: KnownDeviations = {"wide": (DIFFERENT, _K3_BOUND), "far": (DIFFERENT, _K3_BOUND)}
_SHOWN: KnownDeviations = {"wide": (CONSTANT, _K3_VALUE), "far": (CONSTANT, _K3_VALUE)}
_FAR: KnownDeviations = {"far": (DIFFERENT, _K3_BOUND)}
_K: list[tuple[str, BregmanGeometry, str, KnownDeviations, KnownDeviations | None]] = [
    ("k1 KL penalty", Linear(), "k1", {}, _FAR),
    ("k2 KL penalty", ChiSquare(), "k2", {}, _FAR),
    ("k3 KL penalty", ReverseKL(), "k3", _BOUND, _BOUND),
    ("k1 with the gradient of k2", StraightThrough(Linear(), ChiSquare()), "k1+", {}, None),
    ("k3 with the gradient of k2", StraightThrough(ReverseKL(), ChiSquare()), "k3+", _SHOWN, None),
]
KL_PENALTIES = [
    *(
        Case(
            label,
            "verl",
            "kl_penalty",
            {},
            {"kl_loss_type": kind},
            known_deviations=deviations,
            build=lambda g=g: k_kl_penalty(g),  # type: ignore[misc]
        )
        for label, g, kind, deviations, _ in _K
    ),
    *(
        Case(
            label,
            "openrlhf",
            "compute_approx_kl",
            {},
            {"kl_estimator": kind},
            known_deviations=deviations,
            build=lambda g=g: k_kl_penalty(g),  # type: ignore[misc]
            dtype=torch.float32,
        )
        for label, g, kind, _, deviations in _K
        if deviations is not None
    ),
    Case(
        "k3 KL penalty",
        "torchrl",
        "GRPOLoss",
        {},
        {"kl_penalty": True, "kl_to_ref_coeff": 1.0},
        expect=DIFFERENT,
        why="averages over all positions, padding included: the KL penalty weakens with the padded width of the batch.",
        build=lambda: k_kl_penalty(ReverseKL()),
    ),
]
