"""The parity table: which objective is compared with which method of which peer, and what is expected.

A test runs every line whose peer is installed and fails where the verdict is another one: also where a peer has mended
what is written down here as a difference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from geomalign import recipes
from geomalign.chart import LogRatio, Ratio
from geomalign.constant import Surrogate
from geomalign.importance import ImportanceRatio
from geomalign.measure import NestedMean, PooledMean
from geomalign.objective import BaseObjective, Objective
from geomalign.optimization import (
    BregmanGeometry,
    ChiSquare,
    Clip,
    Linear,
    Logistic,
    OptimizationGeometry,
    ReverseKL,
    Reweighted,
    StraightThrough,
)
from geomalign.parity.case import Case
from geomalign.parity.compare import Verdict
from geomalign.sampling import Advantage, GroupAdvantage, Label, TruncatedImportance
from geomalign.unit import Pair, Sequence, Token

__all__ = ["CASES", "NO_PEER"]

CONSTANT, PROPORTIONAL, DIFFERENT, REFUSED = Verdict.CONSTANT, Verdict.PROPORTIONAL, Verdict.DIFFERENT, Verdict.REFUSED
Edges = dict[str, tuple[Verdict, str]]

ROWS: Edges = {
    "empty": (
        PROPORTIONAL,
        "divides by all rows; a row without a token counts. Ours divides by the responses that exist.",
    )
}
RESPONSES: Edges = {
    "empty": (
        PROPORTIONAL,
        "counts a response without a token, as one with Δ = 0. Ours divides by the responses that exist.",
    )
}
PAIRS = "trains the other response of a pair that has lost one, and counts the pair. Ours leaves such a pair out."
HALF_PAIR: Edges = {"empty": (DIFFERENT, PAIRS)}
CLAMP = (
    "clamps Δ of a token to ±20 nats before the exponential, so that a token beyond has another value and no "
    "gradient at all."
)
CLAMPED: Edges = {"far": (DIFFERENT, CLAMP)}
_OLD = ("0.29", "1.6")
_NEW = ("1.16",)


def _grpo(loss_type: str, **options: Any) -> dict[str, Any]:
    return {"loss_type": loss_type, **options}


def _trl(objective: str, options: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> Case:
    return Case(objective, "trl", "GRPOTrainer", settings or {}, options, **more)


_SEQUENCE = {"importance_sampling_level": "sequence"}
TRL_ROLLOUTS = [
    _trl("grpo", _grpo("grpo"), edges=ROWS),
    _trl("grpo", _grpo("grpo", beta=0.04, use_bias_correction_kl=False), {"beta": 0.04}, edges=ROWS),
    _trl("grpo", _grpo("grpo", beta=0.04), {"beta": 0.04}, edges=ROWS, releases=_OLD),
    _trl(
        "grpo",
        _grpo("grpo", beta=0.04),
        {"beta": 0.04},
        expect=DIFFERENT,
        why="`use_bias_correction_kl` became true by default: the k3 leash is weighted with π/π_old, and the gradient "
        "passes through the weight.",
        releases=_NEW,
    ),
    _trl(
        "grpo with a k3 leash under π",
        _grpo("grpo", beta=0.04, use_bias_correction_kl=True),
        build=lambda: recipes.grpo() + 0.04 * _corrected_leash(),
        edges=ROWS,
    ),
    _trl(
        "grpo with truncated importance",
        _grpo("grpo", behavior=True),
        build=lambda: _truncated(recipes.grpo()),
        edges=ROWS,
    ),
    _trl("bnpo", _grpo("bnpo")),
    _trl("ppo", _grpo("bnpo")),
    _trl("ppo", _grpo("bnpo", delta=3.0), {"dual_clip": 3.0}),
    _trl("dapo", _grpo("dapo", epsilon_high=0.28)),
    _trl("dr_grpo", _grpo("dr_grpo", max_completion_length=256), edges=ROWS),
    _trl("dr_grpo", _grpo("dr_grpo"), edges=ROWS, releases=_OLD),
    _trl(
        "dr_grpo",
        _grpo("dr_grpo"),
        expect=PROPORTIONAL,
        why="the divisor is `max_completion_length`, whose default went from 256 to 512: half the loss at the same "
        "learning rate.",
        releases=_NEW,
    ),
    _trl("dr_grpo", _grpo("dr_grpo"), {"length": 512}, edges=ROWS, releases=_NEW),
    _trl("gspo", _grpo("grpo", epsilon=3e-4, epsilon_high=4e-4, **_SEQUENCE), edges=ROWS),
    _trl("luspo", _grpo("luspo", epsilon=2e-3, epsilon_high=2.5e-3, **_SEQUENCE), edges=ROWS),
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
    _trl("dr_grpo", _grpo("luspo"), {"length": 1}, edges=ROWS, releases=_NEW),
    _trl("sapo", _grpo("sapo"), edges=ROWS),
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
        edges={"far": (DIFFERENT, "clamps Δ of tokens to ±20 and log w to [−18.4, 20] inside the weight.")},
        releases=("1.6", "1.16"),
    ),
    Case(
        "gmpo",
        "trl",
        "GMPOTrainer",
        {},
        {"epsilon": 0.4},
        edges={"empty": (PROPORTIONAL, ROWS["empty"][1])},
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
    Case("PPO's clip of whole responses", "trl", "RLOOTrainer", build=lambda: _response_clip(), edges=ROWS),
    Case("a2po", "trl", "A2POTrainer", edges=RESPONSES, releases=_NEW),
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
_LOST: Edges = {"empty": (PROPORTIONAL, "counts a pair that has lost a response.")}
TRL_PAIRS = [
    Case("apo_down", "trl", "DPOTrainer", {}, {"loss_type": "apo_down"}, edges=_LOST),
    Case("dpo", "trl", "DPOTrainer", {}, {"label_smoothing": 0.1}, edges=HALF_PAIR),
    *(Case(o, "trl", "DPOTrainer", s, p, edges=HALF_PAIR) for o, s, p in _DPO_TYPES),
    *(Case(o, "trl", "DPOTrainer", s, p, edges=RESPONSES, pairs=True) for o, s, p in _SINGLE_TYPES),
    *(Case("f_dpo", "trl", "DPOTrainer", s, p, edges=HALF_PAIR) for s, p in _F),
    Case(
        "f_dpo",
        "trl",
        "DPOTrainer",
        {"divergence": "alpha", "alpha": 0.5},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.5},
        edges=HALF_PAIR,
        dtype=torch.float32,
    ),
    Case(
        "dpo_norm",
        "trl",
        "DPOTrainer",
        {"beta": 0.1},
        {"loss_type": "sigmoid_norm"},
        edges=HALF_PAIR,
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
        "nats a token.",
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
        edges=HALF_PAIR,
    ),
    Case(
        "alpha_po",
        "trl",
        "CPOTrainer",
        {},
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0, "alpha": 0.25},
        edges=HALF_PAIR,
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
    Case("kto", "trl", "KTOTrainer", pairs=True, edges=RESPONSES, releases=_NEW),
    Case(
        "kto",
        "trl",
        "KTOTrainer",
        {"desirable": 1.33, "undesirable": 0.5},
        {"desirable_weight": 1.33, "undesirable_weight": 0.5},
        pairs=True,
        edges=RESPONSES,
        releases=_NEW,
    ),
    Case(
        "cpo without its likelihood",
        "trl",
        "CPOTrainer",
        {},
        {"cpo_alpha": 0.0},
        edges=HALF_PAIR,
        build=lambda: _cpo_margin(),
    ),
]

_OFF = {"clip_ratio_c": 1e9}
_TIS = {"behavior": True, "loss_agg_mode": "seq-mean-token-mean"} | _OFF
_DUAL = "the dual clip is always on, at `clip_ratio_c` = 3: beyond it a negative advantage has no gradient."
_CAP = (
    "truncates the weight at `clip_ratio_c`, whose default in `ActorConfig` is 3: the function's own default of 20 "
    "is never reached."
)
_GROUP_OF_ONE = (
    "a prompt with one response keeps its whole reward as advantage. Ours is zero: there is nothing to compare with."
)
_EMPTY_GROUP = "a response without a token takes part in its group's mean and deviation. Ours is in no group."
_ESTIMATE: Edges = {"alone": (DIFFERENT, _GROUP_OF_ONE), "empty": (DIFFERENT, _EMPTY_GROUP)}


def _verl(
    objective: str, method: str, options: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any
) -> Case:
    return Case(objective, "verl", method, settings or {}, options, **more)


_SCORE = ("reinforce", "rloo", "remax", "optimal_baseline", "best_of_k")
VERL_LOSSES = [
    _verl("ppo", "vanilla", _OFF, edges=CLAMPED),
    _verl("ppo", "vanilla", {}, {"dual_clip": 3.0}),
    _verl("ppo", "vanilla", {}, edges={"wide": (DIFFERENT, _DUAL), "far": (DIFFERENT, _DUAL)}),
    _verl("grpo with truncated importance", "vanilla", _TIS, build=lambda: _truncated(recipes.grpo()), edges=CLAMPED),
    _verl("bnpo", "vanilla", _OFF, edges=CLAMPED),
    _verl("grpo", "vanilla", {"loss_agg_mode": "seq-mean-token-mean"} | _OFF, edges=CLAMPED),
    _verl("dapo", "vanilla", {"clip_ratio_high": 0.28} | _OFF, edges=CLAMPED),
    _verl(
        "dr_grpo",
        "vanilla",
        {"loss_agg_mode": "seq-mean-token-sum-norm", "loss_scale_factor": 256} | _OFF,
        edges=CLAMPED,
    ),
    _verl(
        "dr_grpo",
        "vanilla",
        {"loss_agg_mode": "seq-mean-token-sum-norm"} | _OFF,
        expect=PROPORTIONAL,
        why="without `loss_scale_factor` it divides by the padded width of the micro-batch, which changes from batch "
        "to batch.",
    ),
    _verl(
        "gspo",
        "gspo",
        {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4, "loss_agg_mode": "seq-mean-token-mean"},
        edges={"far": (DIFFERENT, "clamps the mean Δ of a response at 10 nats, without gradient beyond.")},
    ),
    _verl(
        "gspo",
        "gspo",
        {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4},
        expect=DIFFERENT,
        why="under the default `loss_agg_mode: token-mean` a response is weighted by its length; the paper's mean is "
        "over responses.",
    ),
    _verl("sapo", "sapo", {}),
    _verl("gpg", "gpg", {}),
    *(_verl(name, "gpg", {"loss_agg_mode": "seq-mean-token-sum"}) for name in _SCORE),
    _verl(
        "gmpo",
        "geo_mean",
        {"clip_ratio_low": 0.4, "clip_ratio_high": 0.4},
        edges={"empty": (PROPORTIONAL, ROWS["empty"][1])},
    ),
    _verl(
        "dppo",
        "dppo_tv",
        {"clip_ratio_low": 0.15, "clip_ratio_high": 0.15, "clip_ratio_c": 20.0},
    ),
    _verl("dppo", "dppo_tv", {"clip_ratio_low": 0.15, "clip_ratio_high": 0.15}, {"cap": 3.0}),
    _verl(
        "dppo",
        "dppo_kl",
        {"clip_ratio_low": 0.05, "clip_ratio_high": 0.05, "clip_ratio_c": 20.0},
        {"divergence": "kl", "delta": 0.05},
    ),
    _verl(
        "dppo",
        "dppo_tv",
        {"clip_ratio_low": 0.15, "clip_ratio_high": 0.15},
        edges={"wide": (DIFFERENT, _CAP), "far": (DIFFERENT, _CAP)},
    ),
    _verl("cispo", "cispo", {"clip_ratio_low": 0.2, "clip_ratio_high": 4.0}, {"high": 5.0, "low": 0.8}),
    _verl("cispo", "cispo", {}, {"high": 1.2, "low": 0.8}),
    _verl(
        "cispo",
        "cispo",
        {},
        expect=DIFFERENT,
        why="both bounds at 1 ± 0.2 by default; the paper has no lower bound in practice and a wide upper one.",
    ),
    _verl(
        "dro",
        "dro",
        {"policy_loss": {"dro_beta": 1.0}},
        expect=DIFFERENT,
        why="a square a token, measured from the rollout policy, without the learnt V(x): not the paper's square of a "
        "response's sum.",
    ),
    Case(
        "log-form χ² a token",
        "verl",
        "dro",
        {},
        {"policy_loss": {"dro_beta": 0.7}},
        expect=CONSTANT,
        why="−A log π where ours is −AΔ: they differ by A log π_old.",
        build=lambda: _chi_square(0.7),
    ),
]

_ACTIVE = (
    "scales by batch size over the number of non-zero rewards; the paper by the share of responses to prompts that "
    "were neither solved "
    "nor failed throughout. The two agree only by chance."
)
_TIED = (
    "sums in float32 and takes the variance as E[r²] − E[r]²: half the digits, and a group of equal rewards gets a "
    "small advantage "
    "instead of none."
)
VERL_ESTIMATORS = [
    _verl("grpo", "grpo", {}, edges=_ESTIMATE, estimator=True),
    _verl("grpo", "grpo_vectorized", {}, edges=_ESTIMATE | {"tied": (DIFFERENT, _TIED)}, estimator=True),
    _verl("dr_grpo", "grpo", {"norm_adv_by_std_in_grpo": False}, edges=_ESTIMATE, estimator=True),
    _verl("rloo", "rloo", {}, edges=_ESTIMATE, estimator=True),
    _verl("rloo", "rloo_vectorized", {}, edges={"empty": (DIFFERENT, _EMPTY_GROUP)}, estimator=True),
    _verl("optimal_baseline", "opo", {}, edges={"alone": (DIFFERENT, _GROUP_OF_ONE)}, estimator=True),
    _verl("reinforce_plus_plus", "reinforce_plus_plus", {}, estimator=True),
    _verl(
        "reinforce_plus_plus",
        "reinforce_plus_plus_baseline",
        {},
        {"baseline": "group"},
        edges=_ESTIMATE,
        estimator=True,
    ),
    _verl(
        "best_of_k",
        "grpo_passk",
        {"algo": {"norm_adv_by_std_in_grpo": False}},
        edges={"alone": (REFUSED, "raises for a prompt with one response.")},
        estimator=True,
    ),
    _verl("gpg", "gpg", {}, edges=_ESTIMATE | {"tied": (PROPORTIONAL, _ACTIVE)}, estimator=True),
    _verl(
        "opo",
        "opo",
        {},
        expect=DIFFERENT,
        why="another method of the same name: the length-weighted optimal reward baseline (arXiv 2505.23585), our "
        "`optimal_baseline`.",
        estimator=True,
    ),
]


def _truncated(objective: BaseObjective) -> Objective:
    """GRPO with the weight min(π_old/π_rollout, 2) of an engine whose probabilities differ from the trainer's."""
    assert isinstance(objective, Objective)
    return dataclasses.replace(objective, sampling=TruncatedImportance(objective.sampling, cap=2.0))


def _corrected_leash() -> Objective:
    """E_π[k3] estimated under the rollout policy: the weight π/π_old with its gradient."""
    return Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=ImportanceRatio(),
        optimization=Reweighted(ReverseKL()),
        measure=NestedMean(),
        anchor="reference",
    )


def _response_clip() -> Objective:
    return Objective(
        unit=Sequence(),
        chart=Ratio(),
        sampling=GroupAdvantage(baseline="leave_one_out"),
        optimization=Clip(0.2, 0.2),
        constant=Surrogate(),
    )


def _cpo_margin() -> Objective:
    return Objective(unit=Pair(), chart=LogRatio(), sampling=Label(0.1), optimization=Logistic(0.1), anchor=None)


def _chi_square(mu: float) -> Objective:
    return Objective(
        unit=Token(), chart=LogRatio(), sampling=Advantage(), optimization=ChiSquare(mu), measure=PooledMean()
    )


def _leash(geometry: OptimizationGeometry, nested: bool = False) -> Objective:
    return Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=Label(0.0),
        optimization=geometry,
        measure=NestedMean() if nested else PooledMean(),
        anchor="reference",
    )


_K3_BOUND = (
    "bounds the value of a token at 10, without gradient beyond: where the policy has left the reference "
    "furthest, the leash lets go."
)
_K3_VALUE = "bounds the reported value of a token at 10; the gradient is k2's and untouched."
_BOUND: Edges = {"wide": (DIFFERENT, _K3_BOUND), "far": (DIFFERENT, _K3_BOUND)}
_SHOWN: Edges = {"wide": (CONSTANT, _K3_VALUE), "far": (CONSTANT, _K3_VALUE)}
_FAR: Edges = {"far": (DIFFERENT, _K3_BOUND)}
_K: list[tuple[str, BregmanGeometry, str, Edges, Edges | None]] = [
    ("k1 leash", Linear(), "k1", {}, _FAR),
    ("k2 leash", ChiSquare(), "k2", {}, _FAR),
    ("k3 leash", ReverseKL(), "k3", _BOUND, _BOUND),
    ("k1 with the gradient of k2", StraightThrough(Linear(), ChiSquare()), "k1+", {}, None),
    ("k3 with the gradient of k2", StraightThrough(ReverseKL(), ChiSquare()), "k3+", _SHOWN, None),
]
LEASHES = [
    *(
        Case(label, "verl", "kl_penalty", {}, {"kl_loss_type": kind}, edges=edges, build=lambda g=g: _leash(g))  # type: ignore[misc]
        for label, g, kind, edges, _ in _K
    ),
    *(
        Case(
            label,
            "openrlhf",
            "compute_approx_kl",
            {},
            {"kl_estimator": kind},
            edges=edges,
            build=lambda g=g: _leash(g),  # type: ignore[misc]
            dtype=torch.float32,
        )
        for label, g, kind, _, edges in _K
        if edges is not None
    ),
    Case(
        "k3 leash",
        "torchrl",
        "GRPOLoss",
        {},
        {"leash": True, "kl_to_ref_coeff": 1.0},
        expect=DIFFERENT,
        why="averages over all positions, padding included: the leash weakens with the padded width of the batch.",
        build=lambda: _leash(ReverseKL()),
    ),
]

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
    _liger("grpo", {"loss_type": "grpo"}, edges=ROWS),
    _liger("grpo", {"loss_type": "grpo", "beta": 0.04}, {"beta": 0.04}, edges=ROWS),
    _liger("bnpo", {"loss_type": "bnpo"}),
    _liger("ppo", {"loss_type": "bnpo"}),
    _liger("ppo", {"loss_type": "bnpo", "delta": 3.0}, {"dual_clip": 3.0}),
    _liger("dapo", {"loss_type": "dapo", "epsilon_high": 0.28}),
    _liger("dr_grpo", {"loss_type": "dr_grpo", "max_completion_length": 256}, edges=ROWS),
    _liger("gspo", {"loss_type": "grpo", "epsilon_low": 3e-4, "epsilon_high": 4e-4, **_SEQUENCE}, edges=ROWS),
    _liger("luspo", {"loss_type": "luspo", "epsilon_low": 2e-3, "epsilon_high": 2.5e-3, **_SEQUENCE}, edges=ROWS),
    _liger(
        "luspo",
        {"loss_type": "luspo", "epsilon_low": 2e-3, "epsilon_high": 2.5e-3},
        expect=DIFFERENT,
        why="the default `importance_sampling_level='token'` clips tokens and averages over padded positions without "
        "masking them.",
    ),
    _liger("sapo", {"loss_type": "sapo"}, edges=ROWS),
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
        edges={"far": (DIFFERENT, "clamps Δ of tokens to ±20 and log w to [−18.4, 20] inside the weight.")},
    ),
    _liger("cispo", {"loss_type": "cispo"}, {"high": 0.2}),
    *(Case(o, "liger", "LigerFusedLinearDPOLoss", s, p, edges=HALF_PAIR) for o, s, p in _LIGER_DPO),
    Case("bco", "liger", "LigerFusedLinearDPOLoss", {}, {"loss_type": "bco_pair"}, edges=RESPONSES, pairs=True),
    Case(
        "sppo",
        "liger",
        "LigerFusedLinearDPOLoss",
        {"beta": 0.1},
        {"loss_type": "sppo_hard"},
        edges=RESPONSES,
        pairs=True,
    ),
    Case("apo_zero", "liger", "LigerFusedLinearDPOLoss", {}, {"loss_type": "apo_zero"}, edges=RESPONSES, pairs=True),
    Case("apo_down", "liger", "LigerFusedLinearDPOLoss", {}, {"loss_type": "apo_down"}, edges=_LOST),
    Case("kto", "liger", "LigerFusedLinearKTOLoss", edges=RESPONSES, pairs=True),
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
        edges={"empty": (DIFFERENT, _NAN)},
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

OPENRLHF = [
    Case("ppo", "openrlhf", "PolicyLoss", edges=CLAMPED),
    Case("ppo", "openrlhf", "PolicyLoss", {"dual_clip": 3.0}, {"dual_clip": 3.0}),
    Case("bnpo", "openrlhf", "PolicyLoss", edges=CLAMPED),
    Case("grpo", "openrlhf", "PolicyLoss", {}, {"token_level_loss": False}, edges=CLAMPED),
    Case("dapo", "openrlhf", "PolicyLoss", {}, {"clip_eps_high": 0.28}, edges=CLAMPED),
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
        edges=CLAMPED,
        build=lambda: _truncated(recipes.grpo()),
    ),
    Case(
        "gspo", "openrlhf", "PolicyLoss", {}, {"policy_loss_type": "gspo", "clip_eps_low": 3e-4, "clip_eps_high": 4e-4}
    ),
    Case("dpo", "openrlhf", "DPOLoss", {}, {"beta": 0.1}, edges=HALF_PAIR),
    Case("cdpo", "openrlhf", "DPOLoss", {}, {"beta": 0.1, "label_smoothing": 0.1}, edges=HALF_PAIR),
    Case("ipo", "openrlhf", "DPOLoss", {"normalize": "sum"}, {"beta": 0.1, "ipo": True}, edges=HALF_PAIR),
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

TORCHRL = [
    Case("ppo", "torchrl", "GRPOLoss"),
    Case("bnpo", "torchrl", "GRPOLoss"),
    Case("grpo", "torchrl", "GRPOLoss", {}, {"aggregation": "prompt_mean"}, edges=ROWS),
    Case("dapo", "torchrl", "DAPO", {}, {"clip_epsilon": (0.2, 0.28)}),
    Case(
        "cispo",
        "torchrl",
        "CISPOLoss",
        {"high": 1.2, "low": 0.8},
        {"clip_epsilon": 0.2},
        expect=DIFFERENT,
        why="has neither the stop-gradient nor log π: −clip(t)·A, whose gradient is that of t·A inside the band and "
        "zero outside. "
        "Every token that CISPO exists to keep is dropped.",
    ),
]

CASES: tuple[Case, ...] = tuple(
    TRL_ROLLOUTS + TRL_PAIRS + VERL_LOSSES + VERL_ESTIMATORS + LEASHES + LIGER + OPENRLHF + TORCHRL
)
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
