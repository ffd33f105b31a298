"""TRL: GRPOTrainer and its kin, DPOTrainer, and the pairwise losses of its experimental trainers."""

from __future__ import annotations

from typing import Any

import torch

from geomalign import recipes
from tests.parity.case import Case
from tests.parity.cases.common import (
    DIFFERENT,
    HALF_PAIR,
    LOST,
    PROPORTIONAL,
    RESPONSES,
    ROWS,
    SEQUENCE,
    corrected_kl_penalty,
    cpo_margin,
    response_clip,
    truncated,
)

__all__ = ["TRL"]

_OLD = ("0.29", "1.6")
_NEW = ("1.16",)


def _grpo(loss_type: str, **options: Any) -> dict[str, Any]:
    return {"loss_type": loss_type, **options}


def _trl(objective: str, options: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> Case:
    return Case(objective, "trl", "GRPOTrainer", settings or {}, options, **more)


TRL_ROLLOUTS = [
    _trl("grpo", _grpo("grpo"), known_deviations=ROWS),
    _trl("grpo", _grpo("grpo", beta=0.04, use_bias_correction_kl=False), {"beta": 0.04}, known_deviations=ROWS),
    _trl("grpo", _grpo("grpo", beta=0.04), {"beta": 0.04}, known_deviations=ROWS, releases=_OLD),
    _trl(
        "grpo",
        _grpo("grpo", beta=0.04),
        {"beta": 0.04},
        expect=DIFFERENT,
        why="`use_bias_correction_kl` became true by default: the k3 KL penalty is weighted with π/π_old, and the "
        "gradient "
        "passes through the weight.",
        releases=_NEW,
    ),
    _trl(
        "grpo with a k3 KL penalty under π",
        _grpo("grpo", beta=0.04, use_bias_correction_kl=True),
        build=lambda: recipes.grpo() + 0.04 * corrected_kl_penalty(),
        known_deviations=ROWS,
    ),
    _trl(
        "grpo with truncated importance",
        _grpo("grpo", behavior=True),
        build=lambda: truncated(recipes.grpo()),
        known_deviations=ROWS,
    ),
    _trl("bnpo", _grpo("bnpo")),
    _trl("ppo", _grpo("bnpo")),
    _trl("ppo", _grpo("bnpo", delta=3.0), {"dual_clip": 3.0}),
    _trl("dapo", _grpo("dapo", epsilon_high=0.28)),
    _trl("dr_grpo", _grpo("dr_grpo", max_completion_length=256), known_deviations=ROWS),
    _trl("dr_grpo", _grpo("dr_grpo"), known_deviations=ROWS, releases=_OLD),
    _trl(
        "dr_grpo",
        _grpo("dr_grpo"),
        expect=PROPORTIONAL,
        why="the divisor is `max_completion_length`, whose default went from 256 to 512: half the loss at the same "
        "learning rate.",
        releases=_NEW,
    ),
    _trl("dr_grpo", _grpo("dr_grpo"), {"length": 512}, known_deviations=ROWS, releases=_NEW),
    _trl("gspo", _grpo("grpo", epsilon=3e-4, epsilon_high=4e-4, **SEQUENCE), known_deviations=ROWS),
    _trl("luspo", _grpo("luspo", epsilon=2e-3, epsilon_high=2.5e-3, **SEQUENCE), known_deviations=ROWS),
    _trl(
        "luspo",
        _grpo("luspo", epsilon=2e-3, epsilon_high=2.5e-3),
        expect=DIFFERENT,
        why="the configuration's default `importance_sampling_level='token'` clips tokens; and the loss is weighted "
        "by the length without "
        "being masked, so that padding is trained on.",
        releases=_OLD,
    ),
    _trl(
        "luspo",
        _grpo("luspo", epsilon=2e-3, epsilon_high=2.5e-3),
        expect=DIFFERENT,
        why="the configuration's default `importance_sampling_level='token'` clips tokens and sums them: Dr. GRPO's "
        "sum, not LUSPO.",
        releases=_NEW,
    ),
    _trl("dr_grpo", _grpo("luspo"), {"length": 1}, known_deviations=ROWS, releases=_NEW),
    _trl("sapo", _grpo("sapo"), known_deviations=ROWS),
    _trl("cispo", _grpo("cispo", epsilon_high=5.0)),
    _trl(
        "cispo",
        _grpo("cispo"),
        expect=DIFFERENT,
        why="`epsilon_high` bounds the ratio itself and defaults to `epsilon` = 0.2, so every weight is 0.2 or less: "
        "a fifth of the gradient "
        "on policy, and no importance weighting.",
    ),
    _trl("cispo", _grpo("cispo"), {"high": 0.2}),
    _trl(
        "vespo",
        _grpo("vespo"),
        known_deviations={"far": (DIFFERENT, "clamps Δ of tokens to ±20 and log w to [−18.4, 20] inside the weight.")},
        releases=("1.6", "1.16"),
    ),
    Case(
        "gmpo",
        "trl",
        "GMPOTrainer",
        {},
        {"epsilon": 0.4},
        known_deviations={"empty": (PROPORTIONAL, ROWS["empty"][1])},
        releases=_NEW,
    ),
    Case(
        "rloo",
        "trl",
        "RLOOTrainer",
        expect=DIFFERENT,
        why="clips the importance ratio of whole responses at 1 ± 0.2; the published estimator has no ratio. On "
        "policy the gradients agree.",
    ),
    Case("PPO's clip of whole responses", "trl", "RLOOTrainer", build=lambda: response_clip(), known_deviations=ROWS),
    Case("a2po", "trl", "A2POTrainer", known_deviations=RESPONSES, releases=_NEW),
    Case("dft", "trl", "dft_loss", releases=_OLD),
]

_DPO_TYPES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("dpo", {}, {}),
    ("slic", {"beta": 0.1}, {"loss_type": "hinge"}),
    ("ipo", {}, {"loss_type": "ipo"}),
    ("exo", {}, {"loss_type": "exo_pair", "label_smoothing": 1e-3}),
    ("nca", {}, {"loss_type": "nca_pair"}),
    ("robust_dpo", {}, {"loss_type": "robust", "label_smoothing": 0.1}),
    ("aot", {}, {"loss_type": "aot"}),
    ("aot", {"label_smoothing": 0.1}, {"loss_type": "aot", "label_smoothing": 0.1}),
    ("aot_unpaired", {}, {"loss_type": "aot_unpaired"}),
    ("discopop", {"beta": 0.1}, {"loss_type": "discopop"}),
]
_SINGLE_TYPES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("bco", {}, {"loss_type": "bco_pair"}),
    ("sppo", {}, {"loss_type": "sppo_hard", "beta": 1e-3}),
    ("apo_zero", {}, {"loss_type": "apo_zero"}),
]
_F: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"divergence": "forward_kl"}, {"f_divergence_type": "forward_kl"}),
    ({"divergence": "js"}, {"f_divergence_type": "js_divergence"}),
]
TRL_PAIRS = [
    Case("apo_down", "trl", "DPOTrainer", {}, {"loss_type": "apo_down"}, known_deviations=LOST),
    Case("dpo", "trl", "DPOTrainer", {}, {"label_smoothing": 0.1}, known_deviations=HALF_PAIR),
    *(Case(o, "trl", "DPOTrainer", s, p, known_deviations=HALF_PAIR) for o, s, p in _DPO_TYPES),
    *(Case(o, "trl", "DPOTrainer", s, p, known_deviations=RESPONSES, pairs=True) for o, s, p in _SINGLE_TYPES),
    *(Case("f_dpo", "trl", "DPOTrainer", s, p, known_deviations=HALF_PAIR) for s, p in _F),
    Case(
        "f_dpo",
        "trl",
        "DPOTrainer",
        {"divergence": "alpha", "alpha": 0.5},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.5},
        known_deviations=HALF_PAIR,
        dtype=torch.float32,
    ),
    Case(
        "dpo_norm",
        "trl",
        "DPOTrainer",
        {"beta": 0.1},
        {"loss_type": "sigmoid_norm"},
        known_deviations=HALF_PAIR,
        releases=("1.6", "1.16"),
    ),
    Case(
        "cdpo",
        "trl",
        "DPOTrainer",
        {},
        {"label_smoothing": 0.1},
        expect=DIFFERENT,
        why="`label_smoothing` is not used by the default loss: this is plain DPO.",
    ),
    Case(
        "ipo",
        "trl",
        "DPOTrainer",
        {"normalize": "sum"},
        {"loss_type": "ipo"},
        expect=DIFFERENT,
        why="averages Δ over the tokens of a response, where the paper's formula has the sum: the target 1/(2τ) is "
        "in nats per token.",
    ),
    Case(
        "wpo",
        "trl",
        "DPOTrainer",
        {},
        {"use_weighting": True},
        expect=DIFFERENT,
        why="divides the probability of every token by Σ_v π(v)² (the paper's sampled alignment), which needs the "
        "whole vocabulary.",
    ),
    Case(
        "simpo",
        "trl",
        "CPOTrainer",
        {},
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0},
        known_deviations=HALF_PAIR,
    ),
    Case(
        "alpha_po",
        "trl",
        "CPOTrainer",
        {},
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0, "alpha": 0.25},
        known_deviations=HALF_PAIR,
    ),
    Case(
        "cpo",
        "trl",
        "CPOTrainer",
        expect=DIFFERENT,
        why="averages −log π(y⁺) over all tokens of the micro-batch; the paper has the mean over responses of their "
        "sums.",
    ),
    Case(
        "orpo",
        "trl",
        "ORPOTrainer",
        expect=DIFFERENT,
        why="averages −log π(y⁺) over all tokens of the micro-batch instead of over each response first, so long "
        "responses weigh more; "
        "and evaluates the odds in float32.",
    ),
    Case("kto", "trl", "KTOTrainer", pairs=True, known_deviations=RESPONSES, releases=_NEW),
    Case(
        "kto",
        "trl",
        "KTOTrainer",
        {"desirable": 1.33, "undesirable": 0.5},
        {"desirable_weight": 1.33, "undesirable_weight": 0.5},
        pairs=True,
        known_deviations=RESPONSES,
        releases=_NEW,
    ),
    Case(
        "cpo without its likelihood",
        "trl",
        "CPOTrainer",
        {},
        {"cpo_alpha": 0.0},
        known_deviations=HALF_PAIR,
        build=lambda: cpo_margin(),
    ),
]

TRL = TRL_ROLLOUTS + TRL_PAIRS
