"""The defaults of recipes are the figures of their publications, where these have one. They are asserted here, apart
from the pages that are generated from them, with the behaviour that each of them has."""

from __future__ import annotations

import dataclasses
import inspect
import math
from typing import Any

import members
import pytest
import torch

import geomalign as ga
from geomalign.recipes import PUBLICATIONS
from geomalign.recipes.reference import Reference

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
    "lambda_grpo": {
        "preference": 1.0,
        "spread": 1 / 9,
        "epsilon": 0.2,
        "epsilon_high": None,
        "std_epsilon": 1e-6,
    },
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
    "fipo": {
        "epsilon": 0.2,
        "epsilon_high": 0.28,
        "halflife": 32.0,
        "bounds": (1.0, 1.2),
        "dual_clip": 10.0,
        "safety": 4.0,
        "std_epsilon": 1e-6,
    },
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
    # TPO, arXiv 2604.06159 appendix A: η = 1, of whole responses. ADPO, arXiv 2510.18913: the code of its author.
    "tpo": {"eta": 1.0, "normalize": "sum"},
    "adpo": {"tau": 0.8, "beta_reward": 0.5, "std_epsilon": 1e-8},
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
    "opo_trust_region": {
        "epsilon": 0.05,
        "geometry": "kl",
        "within": "batch",
        "normalize": "sum",
        "ess": None,
        "temperature": 0.1,
    },
    "sparse_lpo": {"tau": 1.0, "mu": 1.0, "mapping": "entmax", "normalize": "mean"},
}


@pytest.mark.parametrize("name", STATED)
def test_a_default_is_the_stated_figure(name: str) -> None:
    found = {
        key: parameter.default for key, parameter in inspect.signature(getattr(ga.recipes, name)).parameters.items()
    }
    assert found | STATED[name] == found


def test_no_default_of_a_recipe_is_missing() -> None:
    for name in PUBLICATIONS:
        assert set(inspect.signature(getattr(ga.recipes, name)).parameters) == set(STATED.get(name, ())), name


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


# ---- the bound above, where none is given

CLIPPED = [name for name, of in STATED.items() if "epsilon_high" in of]


def parts(name: str, **options: Any) -> Any:
    """The first term's sampling and optimization."""
    objective = getattr(ga.recipes, name)(**options)
    return objective.terms[0][1]


def bounds(name: str, **options: Any) -> tuple[float, float]:
    """The distances of both walls from the ratio 1, wherever a recipe keeps them."""
    if name == "gmpo":
        good, poor = (term for _, term in ga.recipes.gmpo(**options).terms)
        return -poor.unit.low, good.unit.high
    of = parts(name, **options)
    if name == "rec":
        return 1 - of.sampling.low, of.sampling.high - 1
    walls = of.optimization if isinstance(of.optimization, ga.Clip) else of.sampling
    return walls.low, walls.high


@pytest.mark.parametrize("name", CLIPPED)
def test_the_bound_above_is_the_one_below_only_where_none_is_given(name: str) -> None:
    default = STATED[name]["epsilon"], STATED[name]["epsilon_high"]
    assert bounds(name) == pytest.approx((default[0], default[0] if default[1] is None else default[1]))
    assert bounds(name, epsilon=0.125, epsilon_high=0.5) == pytest.approx((0.125, 0.5))
    assert bounds(name, epsilon=0.125, epsilon_high=0.0) == pytest.approx((0.125, 0.0))
    if default[1] is None or name == "delta_l":
        assert bounds(name, epsilon=0.125, epsilon_high=None) == pytest.approx((0.125, 0.125))


@pytest.mark.parametrize("name", [name for name, of in STATED.items() if "std_epsilon" in of])
def test_what_is_added_to_a_deviation_reaches_it(name: str) -> None:
    """Of the rewards 1 and 0 with the constant ½; a temperature that divides them is the recipe's own."""
    batch = ga.Batch(torch.zeros(2, 1), torch.zeros(2, 1), reward=torch.tensor([1.0, 0.0]))
    sampling = parts(name, std_epsilon=0.5).sampling
    if name == "gdpo":
        assert sampling.epsilon == sampling.of.epsilon == 0.5
        return
    while not isinstance(sampling, ga.GroupAdvantage):
        sampling = sampling.of
    assert float(sampling.drive(batch)[0]) == pytest.approx(0.5 / (math.sqrt(0.5) + 0.5)), name


# ---- where a keyword goes

KEYWORDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # recipe, what is given, and where it is found in the first term
    ("ppo", {"dual_clip": 3.0}, {"optimization.dual": 3.0}),
    ("dr_grpo", {"length": 64}, {"measure.length": 64}),
    ("pass_at_k", {"k": 2}, {"sampling.k": 2}),
    ("sapo", {"tau_positive": 2.0, "tau_negative": 3.0}, {"optimization.positive": 2.0, "optimization.negative": 3.0}),
    ("cfpo", {"epsilon": 0.25}, {"optimization.of.mu": 4.0}),
    ("cispo", {"high": 3.0, "low": 0.5}, {"sampling.high": 3.0, "sampling.low": 0.5}),
    (
        "dppo",
        {"divergence": "kl", "delta": 0.1, "cap": None},
        {"sampling.divergence": "kl", "sampling.low": 0.1, "sampling.high": 0.1, "sampling.cap": None},
    ),
    (
        "vespo",
        {"positive": (1.0, 2.0), "negative": (3.0, 4.0)},
        {"sampling.positive": (1.0, 2.0), "sampling.negative": (3.0, 4.0)},
    ),
    ("delta_l", {"alpha": 0.5, "length": 64}, {"measure.alpha": 0.5, "measure.length": 64}),
    ("lambda_grpo", {"preference": 2.0, "spread": 0.5}, {"measure.preference": 2.0, "measure.spread": 0.5}),
    ("decoupled_ppo", {"cap": 5.0}, {"sampling.low": 0.0, "sampling.high": 5.0, "sampling.numerator": "old"}),
    ("decoupled_ppo", {}, {"sampling.low": 0.0, "sampling.high": None, "sampling.importance": "token"}),
    ("prime_ipo", {"threshold": 0.25}, {"sampling.low": -0.25, "sampling.high": 0.25, "sampling.metric": "tv"}),
    ("rec", {"clip": None}, {"sampling.low": 0.0, "sampling.high": None, "sampling.sign_aware": "no"}),
    ("rec", {"clip": "two_side"}, {"sampling.sign_aware": "no", "sampling.importance": "none"}),
    ("rec", {"importance": True}, {"sampling.sign_aware": "outward", "sampling.importance": "token"}),
    (
        "rec",
        {"clip": "ring", "epsilon_high": 0.3, "outer": (0.5, 4.0), "importance": True},
        {"sampling.low": 0.2, "sampling.high": 0.3, "sampling.outer_low": 0.5, "sampling.outer_high": 4.0},
    ),
    ("softmax_ppo", {"epsilon": 1.0}, {"sampling.low": 0.5, "sampling.high": 2.0, "sampling.importance": "none"}),
    (
        "opo",
        {"alpha": 0.25, "mu": 2.0, "temperature": 3.0, "scaled": True},
        {
            "sampling.alpha": 0.25,
            "optimization.mu": 2.0,
            "sampling.temperature": 3.0,
            "sampling.scaled": True,
            "unit": ga.MeanSequence(),
            "chart": ga.LogRatio(),
        },
    ),
    ("opo", {"form": "ratio"}, {"unit": ga.Sequence(), "chart": ga.Ratio()}),
    ("opo", {"form": "ratio", "normalize": "mean"}, {"unit": ga.MeanSequence(), "chart": ga.Ratio()}),
    ("opo", {"normalize": "sum"}, {"unit": ga.Sequence(), "chart": ga.LogRatio()}),
    ("gopo", {"mu": 2.0, "scale_rewards": "group"}, {"sampling.mu": 2.0, "sampling.of.scale": "group"}),
    ("gopo", {"mu": 2.0, "bounded": False}, {"sampling.scale": "none", "optimization.mu": 2.0}),
    ("mirror_descent", {"tau": 2.0, "normalize": "mean"}, {"optimization.mu": 2.0, "unit": ga.MeanSequence()}),
    (
        "w_gopo",
        {"alpha": 0.25, "mu": 4.0, "scale": 3.0},
        {
            "sampling.mu": 2.0,
            "sampling.of.positive": 0.5,
            "sampling.of.negative": 0.5,
            "sampling.of.of.alpha": 0.25,
            "sampling.of.of.scale": 3.0,
            "optimization.mu": 2.0,
        },
    ),
    ("w_gopo", {"bounded": False}, {"sampling.positive": 4.0, "sampling.negative": 4.0}),
    (
        "opo_trust_region",
        {"epsilon": 0.25, "within": "group", "ess": 0.75, "temperature": 2.0},
        {
            "sampling.kl": 0.25,
            "sampling.chi2": None,
            "sampling.within": "group",
            "sampling.of.target": 0.75,
            "sampling.of.temperature": 2.0,
            "optimization.mu": 1.0,
            "chart": ga.LogRatio(),
        },
    ),
    (
        "opo_trust_region",
        {"epsilon": 0.25, "geometry": "chi2", "normalize": "mean"},
        {"sampling.chi2": 0.25, "sampling.kl": None, "chart": ga.Ratio(), "unit": ga.MeanSequence()},
    ),
    (
        "opo_ess",
        {"target": 0.25, "mu": 2.0, "temperature": 3.0, "scaled": True, "normalize": "sum"},
        {
            "sampling.target": 0.25,
            "sampling.temperature": 3.0,
            "sampling.scaled": True,
            "optimization.mu": 2.0,
            "unit": ga.Sequence(),
        },
    ),
    ("dro", {"tau": 2.0}, {"chart.scale": 2.0, "optimization.mu": 1.0, "anchor": "reference"}),
    ("a2po", {"beta2": 2.0, "beta1": 3.0}, {"chart.scale": 2.0, "sampling.temperature": 3.0}),
    ("a2po", {"beta2": 2.0}, {"chart.scale": 2.0, "sampling": ga.Advantage()}),
    ("gvpo", {"beta": 2.0, "anchor": "reference"}, {"chart.scale": 2.0, "anchor": "reference", "optimization.mu": 1.0}),
    ("gvpo", {}, {"anchor": "old", "sampling.baseline": "leave_one_out"}),
    ("pmd", {"tau": 2.0}, {"sampling.temperature": 2.0, "optimization.mu": 2.0}),
    ("pmd", {"tau": 2.0, "normalizer": "mean"}, {"sampling": ga.GroupAdvantage(), "optimization.mu": 2.0}),
    ("opmd", {"tau": 3.0, "baseline": "log_mean_exp"}, {"sampling.temperature": 3.0}),
    ("awr", {"beta": 2.0, "cap": 3.0}, {"sampling.temperature": 2.0, "sampling.cap": 3.0}),
    ("reinforce_plus_plus", {"baseline": "group"}, {"sampling.of.baseline": "group"}),
    ("reinforce_plus_plus", {"beta": 0.25}, {"sampling.of.beta": 0.25, "sampling.of.unit": "return"}),
    ("ce_gppo", {"beta_low": 0.25, "beta_high": 0.75}, {"sampling.beta_low": 0.25, "sampling.beta_high": 0.75}),
    ("gppo", {}, {"sampling.beta_low": 1.0, "sampling.beta_high": 1.0}),
    (
        "bapo",
        {"low": (0.5, 0.75), "high": (1.5, 2.0), "target": 0.25, "step": 0.125},
        {
            "sampling.low": (0.5, 0.75),
            "sampling.high": (1.5, 2.0),
            "sampling.target": 0.25,
            "sampling.step": 0.125,
        },
    ),
    ("aspo", {"cap": 4.0}, {"sampling.cap": 4.0}),
    (
        "fipo",
        {"halflife": 4.0, "bounds": (0.5, 1.5), "dual_clip": 3.0, "safety": 2.0},
        {
            "sampling.halflife": 4.0,
            "sampling.bounds": (0.5, 1.5),
            "sampling.cap": 3.0,
            "optimization.dual": 3.0,
            "sampling.safety": 2.0,
        },
    ),
    ("maxrl", {"epsilon": 0.25}, {"sampling.epsilon": 0.25}),
    ("w_reinforce", {"positive": 2.0, "negative": 3.0}, {"sampling.positive": 2.0, "sampling.negative": 3.0}),
    ("asymre", {"delta": 0.25}, {"sampling.shift": 0.25}),
    ("tr_grpo", {"low": 0.5, "high": 2.0}, {"sampling.low": 0.5, "sampling.high": 2.0, "sampling.scale": 2.0}),
    ("gdpo", {"weights": [1.0, 2.0], "over": "none"}, {"sampling.weights": (1.0, 2.0)}),
    ("gdpo", {"over": "tokens"}, {"sampling.of.weights": None, "sampling.epsilon": 1e-8}),
    (
        "disco",
        {"tau": 2.0, "delta": 0.25, "beta": 3.0},
        {"optimization.temperature": 2.0, "sampling.mixed": True, "anchor": None},
    ),
    ("nft", {"epsilon": 0.5}, {"optimization.floor": 0.5, "optimization.standardised": False}),
    (
        "nft",
        {"weighting": "grpo"},
        {"optimization.standardised": True, "sampling.ddof": 0, "sampling.scale": "group", "sampling.epsilon": 0.0},
    ),
    ("f_grpo", {"divergence": "kl", "beta": 2.0}, {"optimization.divergence": "kl", "optimization.beta": 2.0}),
    (
        "tpo",
        {"eta": 2.0, "normalize": "mean"},
        {"sampling.temperature": 2.0, "sampling.prior": "mean", "unit": ga.MeanSequence(), "sampling.of.ddof": 0},
    ),
    ("tpo", {}, {"sampling.of.scale": "group", "sampling.of.epsilon": 0.0, "sampling.prior": "sum"}),
    ("adpo", {}, {"sampling.of.scale": "group", "sampling.of.ddof": 1, "sampling.prior": None}),
    ("lpo", {"tau": 2.0, "scale_rewards": "batch"}, {"sampling.temperature": 2.0, "sampling.of.scale": "batch"}),
    (
        "sparse_lpo",
        {"tau": 2.0, "mu": 3.0, "normalize": "sum"},
        {
            "sampling.temperature": 2.0,
            "optimization.temperature": 3.0,
            "sampling.divergence": ga.CressieRead(1.5),
            "optimization.divergence": ga.CressieRead(1.5),
            "unit": ga.Sequence(),
        },
    ),
    (
        "sparse_lpo",
        {"mapping": "sparsemax"},
        {"sampling.divergence": ga.PearsonChiSquare(), "optimization.divergence": ga.PearsonChiSquare()},
    ),
    ("real", {"tau": 2.0, "mixed": False}, {"optimization.temperature": 2.0, "sampling.mixed": False}),
    ("info_nca", {"beta": 2.0, "alpha": 3.0}, {"chart.scale": 2.0, "sampling.temperature": 3.0}),
    ("adpo", {"tau": 4.0, "beta_reward": 3.0}, {"chart.scale": 0.25, "sampling.temperature": 3.0}),
    ("plackett_luce", {"beta": 2.0}, {"chart.scale": 2.0}),
    ("dpo", {"beta": 2.0, "label_smoothing": 0.25}, {"sampling.strength": 1.5, "optimization.beta": 2.0}),
    ("cdpo", {"beta": 2.0, "label_smoothing": 0.25}, {"sampling.strength": 1.5, "optimization.beta": 2.0}),
    ("robust_dpo", {"beta": 2.0, "label_smoothing": 0.25}, {"sampling.strength": 3.0, "optimization.beta": 2.0}),
    ("dpo_norm", {"beta": 2.0, "label_smoothing": 0.25}, {"sampling.strength": 1.5, "unit.of": ga.MeanSequence()}),
    ("ipo", {"tau": 0.25, "normalize": "sum"}, {"sampling.strength": 4.0, "unit.of": ga.Sequence()}),
    ("simpo", {"beta": 4.0, "gamma": 1.0}, {"unit.margin": 0.25, "sampling.strength": 4.0, "optimization.beta": 4.0}),
    (
        "alpha_po",
        {"alpha": 0.5, "beta": 4.0, "gamma": 1.0},
        {"unit.margin": 0.25, "chart.power": -0.5, "sampling.strength": 4.0},
    ),
    ("f_dpo", {"divergence": "alpha", "alpha": 0.25}, {"chart.divergence": ga.CressieRead(0.75)}),
    (
        "f_dpo",
        {"divergence": "chi2", "beta": 2.0},
        {"chart.divergence": ga.PearsonChiSquare(), "optimization.beta": 2.0},
    ),
    (
        "wpo",
        {"beta": 2.0},
        {"sampling.of.strength": 2.0, "optimization.of.factor": 0.5, "optimization.of.of.beta": 2.0},
    ),
    ("slic", {"beta": 2.0}, {"sampling.strength": 2.0, "optimization.beta": 2.0}),
    ("exo", {"beta": 2.0, "label_smoothing": 0.25}, {"unit.beta": 2.0, "sampling.strength": math.log(3)}),
    ("discopop", {"beta": 2.0, "tau": 3.0}, {"optimization.beta": 2.0, "optimization.tau": 3.0}),
    ("gpo_exponential", {"beta": 2.0}, {"chart.scale": 2.0, "sampling.strength": 1.0, "optimization.beta": 1.0}),
    ("gpo_truncated_quadratic", {"beta": 2.0}, {"sampling.strength": 4.0, "optimization.beta": 2.0}),
    ("gpo_savage", {"beta": 2.0}, {"unit.beta": 2.0, "sampling.strength": 2.0, "optimization.mu": 2.0}),
    ("rebel", {"eta": 4.0}, {"chart.scale": 0.25, "sampling.scale": 2.0, "optimization.mu": 2.0}),
    (
        "rpo",
        {"beta": 2.0, "eta": 3.0},
        {"sampling.strength": 2.0, "sampling.scale": 3.0, "optimization.beta": 2.0, "unit": ga.Pair()},
    ),
    ("rpo", {"beta": 2.0, "eta": 3.0, "distance": "squared"}, {"chart.scale": 2.0, "sampling.scale": 6.0}),
    ("rpo", {"beta": 2.0, "eta": 3.0, "distance": "forward_kl"}, {"unit.beta": 2.0, "sampling.scale": 3.0}),
    ("aot", {"beta": 2.0, "label_smoothing": 0.25}, {"sampling.strength": 1.5, "optimization.beta": 2.0}),
    ("aot_unpaired", {"beta": 2.0, "label_smoothing": 0.25}, {"sampling.strength": 1.5, "optimization.beta": 2.0}),
    ("nca", {"beta": 3.0}, {"sampling.strength": 2.0, "optimization.beta": 3.0}),
    ("bco", {"beta": 2.0, "delta": 1.0}, {"unit.origin": 0.5, "sampling.positive": 2.0, "sampling.negative": 0.0}),
    ("sppo", {"beta": 4.0}, {"sampling.positive": 0.25, "sampling.negative": 0.25, "optimization.mu": 2.0}),
    ("apo_zero", {"beta": 2.0}, {"chart.scale": 2.0, "optimization.low": -0.5, "optimization.high": 0.5}),
    ("apo_down", {"beta": 2.0}, {"chart.scale": 2.0, "sampling.strength": -1.0}),
    (
        "kto",
        {"beta": 2.0, "desirable": 3.0, "undesirable": 4.0, "reference_point": math.log(3) / 2},
        {
            "chart.scale": 2.0,
            "chart.shift": math.log(3) / 2,
            "sampling.positive": 3.0,
            "sampling.negative": 4.0,
            "optimization.low": -0.25,
            "optimization.high": 0.75,
        },
    ),
    ("generalized_jsd", {"beta": 0.25}, {"optimization.of.weight": 0.25, "anchor": "reference"}),
    ("opd", {"delta": 0.25}, {"sampling.low": -0.25, "sampling.high": None, "sampling.of.current": True}),
]


def found(of: Any, path: str) -> Any:
    for name in path.split("."):
        of = getattr(of, name)
    return of


@pytest.mark.filterwarnings("ignore::geomalign.UnboundedLossWarning")
@pytest.mark.parametrize("name, given, there", KEYWORDS, ids=[f"{name}-{','.join(x)}" for name, x, _ in KEYWORDS])
def test_where_a_keyword_goes(name: str, given: dict[str, Any], there: dict[str, Any]) -> None:
    of = parts(name, **given)
    for path, expected in there.items():
        value = found(of, path)
        assert value == (pytest.approx(expected, rel=1e-12) if isinstance(expected, float) else expected), path


WEIGHTS: list[tuple[str, dict[str, Any], list[float]]] = [
    # recipe, what is given, and the weights of its terms
    ("grpo", {"beta": 0.25}, [1.0, 0.25]),
    ("grpo", {}, [1.0]),
    ("amir_grpo", {"lambda_": 0.25}, [1.0, 0.25]),
    ("disco", {}, [1.0, 1.0]),
    ("f_grpo", {"beta": 3.0}, [0.75]),
    ("opmd", {"tau": 3.0}, [0.25]),
    ("prime_ipo", {"beta": 0.25}, [1.0, 0.25]),
    ("prime_ipo", {"beta": 0.0}, [1.0]),
    ("opd", {"tau": 0.25}, [1.0, 0.25]),
    ("echo", {"lambda_": 0.25}, [1.0, 0.25]),
    ("a2po", {}, [2.0]),
    ("gmpo", {}, [1.0, 1.0]),
    ("orpo", {"lambda_": 0.25}, [1.0, 0.25]),
    ("cpo", {"alpha": 0.25}, [1.0, 0.25]),
    ("nca", {}, [1.5, 0.5]),
    ("bco", {}, [2.0]),
    ("sppo", {}, [2.0]),
    ("apo_zero", {}, [2.0]),
    ("apo_down", {}, [1.0, 1.0]),
]


@pytest.mark.parametrize("name, given, weights", WEIGHTS, ids=[f"{name}-{','.join(x)}" for name, x, _ in WEIGHTS])
def test_the_weights_of_terms(name: str, given: dict[str, Any], weights: list[float]) -> None:
    assert [weight for weight, _ in getattr(ga.recipes, name)(**given).terms] == weights


def test_keywords_of_later_terms() -> None:
    violation = ga.recipes.disco(delta=0.25, beta=3.0).terms[1][1].sampling
    assert (violation.limit, violation.stiffness) == (0.25, 3.0)
    pairs = ga.recipes.amir_grpo(beta=2.0, margin=0.5, reference=True, epsilon=0.125)
    assert (pairs.terms[1][1].optimization.beta, pairs.terms[1][1].optimization.margin) == (2.0, 0.5)
    assert pairs.terms[1][1].anchor == "reference" and ga.recipes.amir_grpo().terms[1][1].anchor is None
    assert pairs.terms[0][1] == ga.recipes.grpo(0.125)
    ppo = ga.recipes.ppo(0.125, beta=0.25).optimization
    assert ppo == ga.Clip(0.125, 0.125) + ga.KL(0.25) and ga.recipes.ppo().optimization == ga.Clip(0.2, 0.2)
    assert ga.recipes.ppo(None).optimization == ga.Flat()
    assert ga.recipes.ppo(None, beta=0.25).optimization == ga.Flat() + ga.KL(0.25)
    good, poor = (term.sampling for _, term in ga.recipes.gmpo().terms)
    assert (good.positive, good.negative, poor.positive, poor.negative) == (1.0, 0.0, 0.0, 1.0)
    rejected = ga.recipes.nca(3.0).terms[1][1]
    assert (rejected.sampling.strength, rejected.optimization.beta) == (0.0, 3.0)
    apart = ga.recipes.apo_down(3.0).terms[1][1]
    assert (apart.unit.beta, apart.sampling.strength) == (3.0, 1.0)
    assert (apart.optimization.low, apart.optimization.high) == (0.0, 1.0)
    assert [term.unit.of for _, term in ga.recipes.cpo(normalize="mean").terms] == [ga.Sequence(), ga.MeanSequence()]
    assert [term.unit.of for _, term in ga.recipes.cpo().terms] == [ga.Sequence()] * 2
    likelihood = ga.recipes.orpo().terms[0][1]
    assert likelihood.unit.of == ga.MeanSequence() and likelihood.sampling == ga.Label(1.0)
    assert likelihood.optimization == ga.Indicator(-math.inf, 0.0)
    assert ga.recipes.cpo(beta=3.0).terms[0][1].sampling == ga.Label(3.0)
    assert ga.recipes.cpo(beta=3.0).terms[0][1].optimization == ga.Logistic(3.0)
    odds = ga.recipes.orpo().terms[1][1]
    assert (odds.unit.of, odds.sampling, odds.optimization) == (ga.MeanSequence(), ga.Label(1.0), ga.Logistic(1.0))


# ---- who is named in a refusal

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("ppo", {"epsilon": None, "dual_clip": 3.0}, "ppo(epsilon=None, epsilon_high=None, dual_clip=3.0): epsilon=None i"),
    ("ppo", {"epsilon": None, "epsilon_high": 0.2}, "ppo(epsilon=None, epsilon_high=0.2, dual_clip=None): epsilon=No"),
    ("grpo", {"beta": -1.0}, "grpo(beta=-1.0): a number ≥ 0."),
    ("cfpo", {"epsilon": 0.0}, "cfpo(epsilon=0.0): a positive number."),
    ("amir_grpo", {"lambda_": -1.0}, "amir_grpo(lambda_=-1.0): a number ≥ 0."),
    ("amir_grpo", {"reference": 1}, "amir_grpo(reference=1): True or False."),
    ("nft", {"weighting": "none"}, "nft(weighting='none'): choose one of 'dr_grpo', 'grpo'."),
    ("tpo", {"normalize": "max"}, "tpo(normalize='max'): choose one of 'mean', 'sum'."),
    ("lpo", {"direction": "both"}, "lpo(direction='both'): choose one of 'forward', 'reverse'."),
    ("lpo", {"normalize": "max"}, "lpo(normalize='max'): choose one of 'mean', 'sum'."),
    ("sparse_lpo", {"mapping": "max"}, "sparse_lpo(mapping='max'): choose one of 'sparsemax', 'entmax'."),
    ("sparse_lpo", {"normalize": "max"}, "sparse_lpo(normalize='max'): choose one of 'mean', 'sum'."),
    ("adpo", {"tau": 0.0}, "adpo(tau=0.0): a positive number, a temperature in nats."),
    ("decoupled_ppo", {"cap": 0.0}, "decoupled_ppo(cap=0.0): a positive number, a bound of π_old/π_behavior, or None."),
    ("opmd", {"tau": 0.0}, "opmd(tau=0.0): a positive number, a strength of regularisation."),
    ("opmd", {"baseline": "none"}, "opmd(baseline='none'): choose one of 'mean', 'log_mean_exp'."),
    ("prime_ipo", {"threshold": 0.0}, "prime_ipo(threshold=0.0): a positive number, of a probability."),
    ("prime_ipo", {"beta": -1.0}, "prime_ipo(beta=-1.0): a number ≥ 0."),
    ("rec", {"epsilon": 1.0}, "rec(epsilon=1.0): a number in [0, 1), the distance of a wall from the ratio 1."),
    ("rec", {"epsilon": -0.1}, "rec(epsilon=-0.1): a number in [0, 1)"),
    ("rec", {"epsilon": 0.0}, "rec(epsilon=0.0, epsilon_high=None): no ratio lies between its walls."),
    ("rec", {"epsilon_high": -0.1}, "rec(epsilon_high=-0.1): a number ≥ 0, the distance of a wall from the ratio 1."),
    ("rec", {"clip": "both"}, "rec(clip='both'): choose one of 'one_side', 'two_side', 'ring', None."),
    ("rec", {"importance": 1}, "rec(importance=1): True or False."),
    ("rec", {"outer": 1.0}, "rec(outer=1.0): two numbers, the distances of the outer walls below and above."),
    ("softmax_ppo", {"epsilon": 0.0}, "softmax_ppo(epsilon=0.0): a positive number."),
    ("opo", {"form": "dual"}, "opo(form='dual'): choose one of 'log', 'ratio'."),
    ("opo", {"normalize": "max"}, "opo(normalize='max'): choose one of 'mean', 'sum'."),
    ("gopo", {"bounded": 1}, "gopo(bounded=1): True or False."),
    ("mirror_descent", {"normalize": "max"}, "mirror_descent(normalize='max'): choose one of 'mean', 'sum'."),
    ("w_gopo", {"mu": 0.0}, "w_gopo(mu=0.0): a positive number."),
    ("w_gopo", {"bounded": 1}, "w_gopo(bounded=1): True or False."),
    ("opo_trust_region", {"temperature": "x"}, "opo_trust_region(temperature='x'): a number."),
    ("opo_trust_region", {"geometry": "tv"}, "opo_trust_region(geometry='tv'): choose one of 'kl', 'chi2'."),
    ("opo_trust_region", {"normalize": "max"}, "opo_trust_region(normalize='max'): choose one of 'mean', 'sum'."),
    ("opo_ess", {"normalize": "max"}, "opo_ess(normalize='max'): choose one of 'mean', 'sum'."),
    ("gvpo", {"anchor": "none"}, "gvpo(anchor='none'): choose one of 'old', 'reference'."),
    ("pmd", {"tau": 0.0}, "pmd(tau=0.0): a positive number."),
    ("pmd", {"normalizer": "max"}, "pmd(normalizer='max'): choose one of 'log_mean_exp', 'mean'."),
    ("echo", {"lambda_": -1.0}, "echo(lambda_=-1.0): a number ≥ 0"),
    ("gdpo", {"over": "groups"}, "gdpo(over='groups'): choose one of 'responses', 'tokens', 'none'."),
    ("ipo", {"tau": 0.0}, "ipo(tau=0.0): a positive number."),
    ("ipo", {"normalize": "max"}, "ipo(normalize='max'): choose one of 'mean', 'sum'."),
    ("simpo", {"beta": 0.0}, "simpo(beta=0.0): a positive number."),
    ("simpo", {"gamma": math.inf}, "simpo(gamma=inf): a finite number."),
    ("robust_dpo", {"beta": "x"}, "robust_dpo(beta='x'): a number."),
    *[
        (
            name,
            {"label_smoothing": x},
            f"{name}(label_smoothing={x}): a number in [0, 0.5), the probability that a label",
        )
        for name in ("dpo", "robust_dpo", "dpo_norm", "f_dpo", "exo", "aot", "aot_unpaired")
        for x in (0.5, -0.1)
    ],
    ("exo", {"label_smoothing": 0}, "exo(label_smoothing=0): the reverse KL from a sure label is infinite; the paper"),
    ("f_dpo", {"alpha": math.inf}, "f_dpo(alpha=inf): a finite number."),
    ("f_dpo", {"divergence": "kl"}, "f_dpo(divergence='kl'): choose one of 'reverse_kl', 'forward_kl', 'js', 'hellin"),
    ("wpo", {"beta": 0.0}, "wpo(beta=0.0): a positive number."),
    ("orpo", {"lambda_": -1.0}, "orpo(lambda_=-1.0): a number ≥ 0."),
    ("cpo", {"alpha": -1.0}, "cpo(alpha=-1.0): a number ≥ 0."),
    ("cpo", {"normalize": "max"}, "cpo(normalize='max'): choose one of 'mean', 'sum'."),
    ("alpha_po", {"beta": 0.0}, "alpha_po(beta=0.0): a positive number."),
    ("alpha_po", {"alpha": math.inf}, "alpha_po(alpha=inf): a finite number."),
    ("alpha_po", {"gamma": math.inf}, "alpha_po(gamma=inf): a finite number."),
    ("alpha_po", {"alpha": 0}, "alpha_po(alpha=0): α is not zero; in the limit the loss is simpo(beta, gamma)."),
    ("rebel", {"eta": 0.0}, "rebel(eta=0.0): a positive number."),
    ("rpo", {"beta": 0.0}, "rpo(beta=0.0): a positive number."),
    ("rpo", {"eta": 0.0}, "rpo(eta=0.0): a positive number."),
    ("rpo", {"distance": "kl"}, "rpo(distance='kl'): choose one of 'squared', 'backward_kl', 'forward_kl'."),
    ("nca", {"beta": "x"}, "nca(beta='x'): a number."),
    ("bco", {"beta": 0.0}, "bco(beta=0.0): a positive number."),
    ("bco", {"delta": math.inf}, "bco(delta=inf): a finite number."),
    ("sppo", {"beta": 0.0}, "sppo(beta=0.0): a positive number."),
    ("kto", {"beta": "x"}, "kto(beta='x'): a number."),
    ("kto", {"reference_point": -1.0}, "kto(reference_point=-1.0): a number ≥ 0, an estimate of a KL divergence."),
    ("opd", {"delta": 0.0}, "opd(delta=0.0): a number in (0, 1], a fall of a probability."),
    ("opd", {"delta": 1.1}, "opd(delta=1.1): a number in (0, 1]"),
    ("opd", {"tau": -1.0}, "opd(tau=-1.0): a number ≥ 0."),
]


@pytest.mark.parametrize("name, given, said", REFUSED, ids=[said.split(":")[0] for *_, said in REFUSED])
def test_an_argument_of_a_recipe_is_refused_in_its_name(name: str, given: dict[str, Any], said: str) -> None:
    members.refuses(lambda: getattr(ga.recipes, name)(**given), said)


@pytest.mark.filterwarnings("ignore::geomalign.UnboundedLossWarning")
@pytest.mark.parametrize(
    "name, given",
    [
        ("grpo", {"beta": 0.0}),
        ("amir_grpo", {"lambda_": 0.0}),
        ("rec", {"epsilon": 0.0, "epsilon_high": 0.1}),
        ("rec", {"clip": None, "epsilon": 0.0}),
        ("rec", {"epsilon": 0.1, "epsilon_high": 0.0}),
        ("rec", {"clip": None}),
        ("opd", {"delta": 1.0, "tau": 0.0}),
        ("prime_ipo", {"beta": 0.0}),
        ("echo", {"lambda_": 0.0}),
        ("orpo", {"lambda_": 0.0}),
        ("cpo", {"alpha": 0.0}),
        ("kto", {"desirable": 0.0, "undesirable": 0.0}),
        ("simpo", {"gamma": -1.0}),
        ("f_dpo", {"divergence": "alpha", "alpha": 0.0}),
    ],
)
def test_ends_of_ranges_are_allowed(name: str, given: dict[str, Any]) -> None:
    assert getattr(ga.recipes, name)(**given)


# ---- publications


def test_how_a_reference_is_printed() -> None:
    made = {"year": 2024, "arxiv": "2401.00001", "equation": "eq. 1", "loss": "L"}
    one = Reference("The Big & 5% Idea", r"{\"O}zg{\"u}r, Ay{\c{s}}e and others", **made)  # type: ignore[arg-type]
    assert (one.source, one.key, one.url) == ("Özgür 2024", "ozgur2024big", "https://arxiv.org/abs/2401.00001")
    assert r"title = {{The Big \& 5\% Idea}}" in one.bibtex() and "archivePrefix = {arXiv}" in one.bibtex()
    other = Reference("A note on the art", "O'Neil, Al", 2020, None, "", "", venue="https://example.org/x")
    assert (other.key, other.url) == ("oneil2020note", "")
    assert "url = {https://example.org/x}" in other.bibtex() and "eprint" not in other.bibtex()
    third = Reference("An art", "Wu, B and Xu, C", 2021, None, "", "", venue="A workshop")
    assert "howpublished = {A workshop}" in third.bibtex() and third.source == "Wu 2021"
