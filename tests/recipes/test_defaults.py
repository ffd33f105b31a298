"""The defaults of recipes are the figures of their publications, where these have one. They are asserted here, apart
from the pages that are generated from them, with the behaviour that each of them has."""

from __future__ import annotations

import dataclasses
import inspect
import math
from typing import Any

import pytest
import torch

import geomalign as ga

STATED: dict[str, dict[str, Any]] = {
    # PPO, arXiv 1707.06347: ε = 0.2, and those who keep it.
    "ppo": {"epsilon": 0.2, "epsilon_high": None, "beta": 0.0, "dual_clip": None},
    "grpo": {"epsilon": 0.2, "epsilon_high": None, "beta": 0.0, "scale_rewards": "group", "std_epsilon": 1e-6},
    "dr_grpo": {"epsilon": 0.2, "epsilon_high": None, "length": 256},
    "bnpo": {"epsilon": 0.2, "epsilon_high": None, "std_epsilon": 1e-4},
    "reinforce_plus_plus": {"epsilon": 0.2, "epsilon_high": None, "beta": 0.0, "baseline": "none"},
    "pass_at_k": {"epsilon": 0.2, "epsilon_high": None, "k": 4},
    # DAPO, arXiv 2503.14476: ε_low = 0.2, ε_high = 0.28.
    "dapo": {"epsilon": 0.2, "epsilon_high": 0.28, "std_epsilon": 1e-6},
    # ΔL normalisation, arXiv 2509.07558: the authors' runs on CountDown. λ-GRPO, arXiv 2510.06870, learns λ.
    "delta_l": {"alpha": 1.0, "length": 256, "epsilon": 0.2, "epsilon_high": 0.3, "std_epsilon": 1e-6},
    "lambda_grpo": {"spread": 1 / 9, "epsilon": 0.2, "epsilon_high": None},
    # GSPO, arXiv 2507.18071: 3e-4 and 4e-4 of the length-normalised ratio.
    "gspo": {"epsilon": 3e-4, "epsilon_high": 4e-4, "std_epsilon": 1e-6},
    # LUSPO, arXiv 2602.05261 §5.1: 2e-3 and 2.5e-3.
    "luspo": {"epsilon": 2e-3, "epsilon_high": 2.5e-3, "std_epsilon": 1e-6},
    # GMPO, arXiv 2507.20673: the interval (e^{-0.4}, e^{0.4}) of a token's ratio.
    "gmpo": {"epsilon": 0.4, "epsilon_high": None, "std_epsilon": 1e-6},
    # CFPO and SPO: the minimum of the square lies where PPO's clip is, 0.2.
    "cfpo": {"epsilon": 0.2, "std_epsilon": 1e-6},
    # DPPO, arXiv 2602.04879: 0.15 for total variation; 20 is the cap of verl's function.
    "dppo": {"divergence": "tv", "delta": 0.15, "cap": 20.0},
    # SAPO, arXiv 2511.20347: τ_pos = 1.0, τ_neg = 1.05.
    "sapo": {"tau_positive": 1.0, "tau_negative": 1.05, "std_epsilon": 1e-6},
    # VESPO, arXiv 2602.10693: (k, λ) = (2, 3) and (3, 2).
    "vespo": {"positive": (2.0, 3.0), "negative": (3.0, 2.0), "std_epsilon": 1e-6},
    # GPPO in DAPO's walls; CE-GPPO, arXiv 2509.20712, β₁ = 0.5 with 1.5B parameters, β₂ = 1, walls at 0.2.
    "gppo": {"epsilon": 0.2, "epsilon_high": 0.28, "std_epsilon": 1e-6},
    "ce_gppo": {"epsilon": 0.2, "epsilon_high": None, "beta_low": 0.5, "beta_high": 1.0, "std_epsilon": 1e-6},
    # BAPO, arXiv 2510.18927: walls in [0.6, 0.9] and [1.2, 3.0], ρ₀ = 0.5.
    "bapo": {"low": (0.6, 0.9), "high": (1.2, 3.0), "target": 0.5, "step": 0.05, "std_epsilon": 1e-6},
    # ASPO, arXiv 2510.06062: walls at 0.2 of its script, the soft dual clip at 3.
    "aspo": {"epsilon": 0.2, "epsilon_high": None, "cap": 3.0, "std_epsilon": 1e-6},
    # GEPO, arXiv 2508.17850: TRL's clip.
    "gepo": {"epsilon": 0.2, "epsilon_high": None},
    # FIPO, arXiv 2603.19835: DAPO's walls, a half-life of 32 tokens, weights in [1, 1.2], a dual clip at 10.
    "fipo": {"epsilon": 0.2, "epsilon_high": 0.28, "halflife": 32.0, "bounds": (1.0, 1.2), "dual_clip": 10.0},
    # Decoupled PPO, arXiv 2110.00641 and 2505.24298: PPO's clip, no bound of the correction.
    "decoupled_ppo": {"epsilon": 0.2, "epsilon_high": None, "cap": None},
    # prime-rl's `IPOLossConfig`.
    "prime_ipo": {"threshold": 0.1, "beta": 1e-3},
    # REC, arXiv 2509.24203: walls at 0.2, outer ones at 0.6 below and 2 above.
    "rec": {"clip": "one_side", "epsilon": 0.2, "epsilon_high": None, "importance": False, "outer": (0.6, 2.0)},
    # Trinity-RFT's sPPO and OPMD.
    "softmax_ppo": {"epsilon": 0.3},
    "opmd": {"tau": 1.0, "baseline": "mean"},
    # AWR, arXiv 1910.00177: weights are cut off at 20.
    "awr": {"beta": 1.0, "cap": 20.0},
    # MaxRL's code adds 1e-6 to the mean; W-REINFORCE, arXiv 2506.01347: λ = 0.1; AsymRE, arXiv 2506.20520: δV = −0.1.
    "maxrl": {"epsilon": 1e-6},
    "w_reinforce": {"positive": 0.1, "negative": 1.0},
    "asymre": {"delta": -0.1},
    # ECHO, arXiv 2605.24517: λ = 0.05.
    "echo": {"lambda_": 0.05, "epsilon": 0.2, "epsilon_high": None},
    "gdpo": {"weights": None, "over": "responses", "epsilon": 0.2, "epsilon_high": None, "std_epsilon": 1e-6},
    # TR-GRPO, arXiv 2511.00066: weights between 1 and 1.4.
    "tr_grpo": {"epsilon": 0.2, "epsilon_high": None, "low": 1.0, "high": 1.4, "std_epsilon": 1e-6},
    # DPO, arXiv 2305.18290: β = 0.1, and those who keep it.
    **{name: {"beta": 0.1} for name in ("chi_po", "nca", "wpo", "apo_zero", "apo_down", "plackett_luce")},
    **{name: {"beta": 0.1} for name in ("gpo_exponential", "gpo_savage", "gpo_truncated_quadratic")},
    **{name: {"beta": 0.1, "label_smoothing": 0.0} for name in ("dpo", "aot", "aot_unpaired")},
    **{name: {"beta": 0.1, "label_smoothing": 0.1} for name in ("cdpo", "robust_dpo")},
    "f_dpo": {"beta": 0.1, "divergence": "forward_kl", "alpha": 0.5, "label_smoothing": 0.0},
    "kto": {"beta": 0.1, "desirable": 1.0, "undesirable": 1.0, "reference_point": 0.0},
    "bco": {"beta": 0.1, "delta": 0.0},
    "exo": {"beta": 0.1, "label_smoothing": 1e-3},
    "cpo": {"beta": 0.1, "alpha": 1.0, "normalize": "sum"},
    "rpo": {"beta": 0.1, "eta": 1.0, "distance": "backward_kl"},
    "dpo_norm": {"beta": 5.0, "label_smoothing": 0.0},
    "alpha_po": {"alpha": 0.25, "beta": 2.0, "gamma": 1.0},
    "ipo": {"tau": 0.1, "normalize": "mean"},
    # DiscoPOP, arXiv 2406.08414: β = 0.05 and τ = 0.05 in the loss that was found.
    "discopop": {"beta": 0.05, "tau": 0.05},
    # SimPO, arXiv 2405.14734: β = 2 and γ/β = 0.5.
    "simpo": {"beta": 2.0, "gamma": 1.0},
    "slic": {"beta": 1.0},
    "orpo": {"lambda_": 0.1},
    "generalized_jsd": {"beta": 0.5},
    # SPPO, arXiv 2405.00675: η = 1e3.
    "sppo": {"beta": 1e-3},
    # GVPO, arXiv 2504.19599: β = 0.1 in the authors' script for verl.
    "gvpo": {"beta": 0.1, "anchor": "old"},
    # Kimi k1.5, arXiv 2501.12599, states no τ: neutral.
    "pmd": {"tau": 1.0, "normalizer": "log_mean_exp"},
    # LPO, arXiv 2605.06139 eq. 3: log π is a mean over tokens. REAL's and InfoNCA's are the figures of their code.
    "lpo": {"tau": 1.0, "direction": "forward", "scale_rewards": "none", "normalize": "mean"},
    "real": {"tau": 0.5, "mixed": True},
    "info_nca": {"beta": 0.01, "alpha": 1e-4},
    # DisCO, arXiv 2505.12366: the scripts of its log-likelihood score.
    "disco": {"tau": 10.0, "delta": 1e-4, "beta": 1e3},
    # AMIR-GRPO, arXiv 2601.03661: the authors' command, but for its margin of 2 points of reward.
    "amir_grpo": {"lambda_": 0.01, "beta": 0.2, "margin": 0.0, "reference": False, "epsilon": 0.2},
    # NFT, arXiv 2505.18116: clamp_negative = 1 and normalize = 1 of the authors' script.
    "nft": {"epsilon": 1.0, "weighting": "dr_grpo"},
    # f-GRPO, arXiv 2602.05946: β of an exposition; the others GRPO's and the best of the paper's table.
    "f_grpo": {"divergence": "pearson", "beta": 0.1, "std_epsilon": 1e-6},
    # prime-rl's ref_kl loss: the constants of its code.
    "opd": {"delta": 0.2, "tau": 1e-3},
    # A*-PO, arXiv 2505.20686: β₂ = 1e-3 of the regression.
    "a2po": {"beta2": 1e-3, "beta1": None},
    "cispo": {"high": 5.0, "low": None, "std_epsilon": 1e-6},
    # The convention of OPO's paper, arXiv 2601.12415, and of GOPO's, arXiv 2602.21269.
    "opo": {"alpha": 0.4, "mu": 1.0, "form": "log", "normalize": None, "temperature": 1.0, "scaled": False},
    "gopo": {"mu": 0.5, "scale_rewards": "none", "bounded": True},
    "w_gopo": {"alpha": 0.5, "mu": 0.5, "scale": 1.0, "bounded": True},
    # Neutral: a loss that its source states with a free parameter, at one.
    "mirror_descent": {"tau": 1.0, "normalize": "sum"},
    "dro": {"tau": 1.0},
    "rebel": {"eta": 1.0},
    # This package's own, from docs/results/solved.
    "opo_ess": {"target": 0.5, "mu": 10.0, "temperature": 0.1, "scaled": False, "normalize": "mean"},
    "opo_trust_region": {"epsilon": 0.05, "geometry": "kl", "within": "batch", "normalize": "sum", "temperature": 0.1},
}


@pytest.mark.parametrize("name", STATED)
def test_a_default_is_the_stated_figure(name: str) -> None:
    found = {
        key: parameter.default for key, parameter in inspect.signature(getattr(ga.recipes, name)).parameters.items()
    }
    assert found | STATED[name] == found


def rows(*ratio: float, old: float = 0.2) -> ga.Batch:
    """Two responses to a prompt for every ratio, of one token each, right and wrong."""
    moved = torch.tensor(ratio).log().repeat_interleave(2)[:, None]
    before = torch.full_like(moved, math.log(old))
    reward, group = torch.tensor([1.0, 0.0]).repeat(len(ratio)), torch.arange(len(ratio)).repeat_interleave(2)
    return ga.Batch(before + moved, before, reward=reward, group=group)


def force(name: str, batch: ga.Batch) -> list[float]:
    """∂loss/∂u of every response, in multiples of its drive and of its weight: −1 where nothing resists."""
    outcome = ga.recipes.get(name)(batch)
    return (outcome.terms[0].force / outcome.drive.abs()).flatten().round(decimals=6).tolist()


@pytest.mark.parametrize(
    "name, low, high",
    [("ppo", 0.2, 0.2), ("grpo", 0.2, 0.2), ("dr_grpo", 0.2, 0.2), ("bnpo", 0.2, 0.2), ("dapo", 0.2, 0.28),
     ("gspo", 3e-4, 4e-4), ("luspo", 2e-3, 2.5e-3), ("delta_l", 0.2, 0.3), ("lambda_grpo", 0.2, 0.2)],
)  # fmt: skip
def test_where_the_published_clip_is(name: str, low: float, high: float) -> None:
    """The right response is let go above 1 + ε_high, the wrong one below 1 − ε_low."""
    margin = 0.01
    batch = rows(1 - low * (1 + margin), 1 - low * (1 - margin), 1 + high * (1 - margin), 1 + high * (1 + margin))
    if name == "ppo":
        batch = ga.Batch(batch.policy, batch.old, advantage=2 * batch.require("reward", "a test") - 1)
    right, wrong = force(name, batch)[0::2], force(name, batch)[1::2]
    assert right == [-1, -1, -1, 0] and wrong == [0, 1, 1, 1]


def test_the_square_of_cfpo_has_its_minimum_at_the_clip_of_ppo() -> None:
    assert force("cfpo", rows(0.8, 1.0, 1.2)) == [-2, 0, -1, 1, 0, 2]


def test_dppo_drops_what_has_moved_by_its_threshold_and_caps_the_weight() -> None:
    """A token of probability 0.2 has moved by 0.15 at a ratio of 1 ± 0.75; one of 1e-4 has not at a ratio of 21."""
    outcome = ga.recipes.dppo()(rows(0.24, 0.26, 1.74, 1.76))
    kept = (outcome.drive != 0).flatten().tolist()
    assert kept[0::2] == [True, True, True, False] and kept[1::2] == [False, True, True, True]
    rare = ga.recipes.dppo()(rows(19.0, 21.0, old=1e-4)).drive.flatten()
    at_one = ga.recipes.dppo()(rows(1.0, 1.0, old=1e-4)).drive.flatten()
    torch.testing.assert_close(rare / at_one, torch.tensor([19.0, 19.0, 20.0, 20.0]))


def weights(name: str, batch: ga.Batch) -> list[float]:
    """The drive of every token in multiples of that at the ratio 1."""
    objective = ga.recipes.get(name)
    still = dataclasses.replace(batch, policy=batch.old)
    return (objective(batch).drive / objective(still).drive).flatten().round(decimals=4).tolist()


@pytest.mark.parametrize(
    "name, right, wrong",
    [
        ("gppo", [0.79, 0.81, 1.27, 1.28, 1.28], [0.8, 0.81, 1.27, 1.29, 4.0]),
        ("ce_gppo", [0.79, 0.81, 1.2, 1.2, 1.2], [0.4, 0.81, 1.27, 1.29, 4.0]),
        ("aspo", [1.2658, 1.2346, 0, 0, 0], [0, 0.81, 1.27, 1.29, 3.0]),
        ("rec", [1, 1, 0, 0, 0], [0, 1, 1, 1, 1]),
        ("rec clip=two_side", [0, 1, 0, 0, 0], [0, 1, 0, 0, 0]),
        ("rec clip=ring", [0, 1, 0, 0, 0], [0, 1, 0, 0, 1]),
        ("softmax_ppo", [1, 1, 1, 1, 0], [1, 1, 1, 1, 0]),
    ],
)
def test_where_the_walls_of_a_weight_are(name: str, right: list[float], wrong: list[float]) -> None:
    found = weights(name, rows(0.79, 0.81, 1.27, 1.29, 4.0))
    assert found[0::2] == pytest.approx(right, abs=1e-4) and found[1::2] == pytest.approx(wrong, abs=1e-4)


def test_the_walls_of_bapo_at_its_defaults() -> None:
    """Good tokens at 0.55 and poor ones at 4: c_low goes to 0.9 and c_high to 3, and the share is not met."""
    found = weights("bapo", rows(0.85, 0.95, 2.9, 3.1))
    assert found[0::2] == pytest.approx([0.85, 0.95, 2.9, 0], abs=1e-4)
    assert found[1::2] == pytest.approx([0, 0.95, 2.9, 3.1], abs=1e-4)


def test_the_weight_of_fipo_is_that_of_what_follows() -> None:
    old = torch.full((2, 33), -1.0)
    moved = torch.zeros(2, 33)
    moved[:, -1] = 0.1
    outcome = ga.recipes.fipo()(ga.Batch(old + moved, old, reward=torch.tensor([1.0, 0.0])))
    share = outcome.drive[0] / outcome.drive[0].min()
    assert float(share[-1]) == pytest.approx(math.exp(0.1) / math.exp(0.05), rel=1e-5)  # 32 tokens before: the half


def test_prime_ipo_stops_a_token_that_has_moved_by_a_tenth() -> None:
    drive = ga.recipes.prime_ipo()(rows(0.45, 0.55, 1.45, 1.55)).terms[0].drive.flatten()
    assert (drive != 0).tolist() == [False, False, True, True, True, True, False, False]


def test_the_published_deviation_has_its_constant() -> None:
    """Of rewards that differ by 1e-5 the constant is a visible part of the deviation, 1e-5/√2."""
    reward, spread = torch.tensor([1e-5, 0.0]), 1e-5 / math.sqrt(2)
    for name in ("grpo", "dapo", "gspo", "luspo", "gmpo", "cfpo", "sapo", "vespo", "cispo"):
        batch = ga.Batch(torch.zeros(2, 1), torch.zeros(2, 1), reward=reward)
        drive = ga.recipes.get(name).terms[0][1].sampling.drive(batch)
        assert float(drive[0]) == pytest.approx(0.5e-5 / (spread + 1e-6), rel=1e-4), name
