"""verl: `POLICY_LOSS_REGISTRY` and the advantage estimators."""

from __future__ import annotations

from typing import Any

import torch

from geomalign import recipes
from tests.parity.case import Case
from tests.parity.cases.common import (
    CLAMPED,
    CONSTANT,
    DIFFERENT,
    PROPORTIONAL,
    REFUSED,
    ROWS,
    KnownDeviations,
    chi_square,
    decoupled,
    truncated,
)

__all__ = ["VERL"]

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
_ESTIMATE: KnownDeviations = {"alone": (DIFFERENT, _GROUP_OF_ONE), "empty": (DIFFERENT, _EMPTY_GROUP)}


def _verl(
    objective: str, method: str, options: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any
) -> Case:
    return Case(objective, "verl", method, settings or {}, options, **more)


_SCORE = ("reinforce", "rloo", "remax", "optimal_baseline", "best_of_k")
VERL_LOSSES = [
    _verl("ppo", "vanilla", _OFF, known_deviations=CLAMPED),
    _verl("ppo", "vanilla", {}, {"dual_clip": 3.0}),
    _verl("ppo", "vanilla", {}, known_deviations={"wide": (DIFFERENT, _DUAL), "far": (DIFFERENT, _DUAL)}),
    _verl(
        "grpo with truncated importance",
        "vanilla",
        _TIS,
        build=lambda: truncated(recipes.grpo()),
        known_deviations=CLAMPED,
    ),
    _verl("bnpo", "vanilla", _OFF, known_deviations=CLAMPED),
    _verl("grpo", "vanilla", {"loss_agg_mode": "seq-mean-token-mean"} | _OFF, known_deviations=CLAMPED),
    _verl("dapo", "vanilla", {"clip_ratio_high": 0.28} | _OFF, known_deviations=CLAMPED),
    _verl(
        "dr_grpo",
        "vanilla",
        {"loss_agg_mode": "seq-mean-token-sum-norm", "loss_scale_factor": 256} | _OFF,
        known_deviations=CLAMPED,
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
        known_deviations={"far": (DIFFERENT, "clamps the mean Δ of a response at 10 nats, without gradient beyond.")},
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
        known_deviations={"empty": (PROPORTIONAL, ROWS["empty"][1])},
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
        known_deviations={"wide": (DIFFERENT, _CAP), "far": (DIFFERENT, _CAP)},
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
        why="a square per token, measured from the old policy, without the learnt V(x): not the paper's square of a "
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
        build=lambda: chi_square(0.7),
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
    _verl("grpo", "grpo", {}, known_deviations=_ESTIMATE, estimator=True),
    _verl("grpo", "grpo_vectorized", {}, known_deviations=_ESTIMATE | {"tied": (DIFFERENT, _TIED)}, estimator=True),
    _verl("dr_grpo", "grpo", {"norm_adv_by_std_in_grpo": False}, known_deviations=_ESTIMATE, estimator=True),
    _verl("rloo", "rloo", {}, known_deviations=_ESTIMATE, estimator=True),
    _verl("rloo", "rloo_vectorized", {}, known_deviations={"empty": (DIFFERENT, _EMPTY_GROUP)}, estimator=True),
    _verl("optimal_baseline", "opo", {}, known_deviations={"alone": (DIFFERENT, _GROUP_OF_ONE)}, estimator=True),
    _verl("reinforce_plus_plus", "reinforce_plus_plus", {}, estimator=True),
    _verl(
        "reinforce_plus_plus",
        "reinforce_plus_plus_baseline",
        {},
        {"baseline": "group"},
        known_deviations=_ESTIMATE,
        estimator=True,
    ),
    _verl(
        "best_of_k",
        "grpo_passk",
        {"algo": {"norm_adv_by_std_in_grpo": False}},
        known_deviations={"alone": (REFUSED, "raises for a prompt with one response.")},
        estimator=True,
    ),
    _verl("gpg", "gpg", {}, known_deviations=_ESTIMATE | {"tied": (PROPORTIONAL, _ACTIVE)}, estimator=True),
    _verl("gdpo", "gdpo", {}, {"over": "tokens"}, known_deviations=_ESTIMATE, estimator=True),
    _verl(
        "gdpo of several rewards",
        "gdpo",
        {"several": True},
        build=decoupled,
        known_deviations=_ESTIMATE,
        estimator=True,
        dtype=torch.float32,
    ),
    _verl(
        "gdpo of several weighted rewards",
        "gdpo",
        {"several": True, "algo": {"gdpo_reward_weights": [1.0, 0.5, 0.25]}},
        build=lambda: decoupled((1.0, 0.5, 0.25)),
        known_deviations=_ESTIMATE,
        estimator=True,
        dtype=torch.float32,
    ),
    _verl(
        "gdpo",
        "gdpo",
        {},
        expect=DIFFERENT,
        why="divides by the deviation over the tokens of the batch, in which a response counts by its length, and "
        "subtracts their mean; our default is the deviation over responses.",
        estimator=True,
    ),
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

VERL = VERL_LOSSES + VERL_ESTIMATORS
