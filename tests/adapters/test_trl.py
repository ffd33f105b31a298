"""A recipe through the adapter and TRL's own loss of the same name train the same weights.

Runs in an environment with TRL (tests/adapters/environments.sh builds one per release); skipped elsewhere.
"""

import dataclasses
import functools
import itertools
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import geomalign as ga

trl = pytest.importorskip("trl", reason="needs TRL: bash tests/adapters/environments.sh")
pytest.importorskip("datasets")

from . import trl_worker  # noqa: E402

pytestmark = [
    pytest.mark.float32,
    pytest.mark.filterwarnings("ignore"),  # of TRL, transformers and datasets about each other
]

ADVANTAGE = {"std_epsilon": 1e-4}  # TRL's
NESTED = {"loss_type": "grpo", "use_bias_correction_kl": False}


def matrix(accumulation: int, beta: float, iterations: int) -> dict[str, Any]:
    """GRPO at one corner of: gradient accumulation × a KL penalty to the reference × steps per rollout."""
    args = {"gradient_accumulation_steps": accumulation, "beta": beta, "num_iterations": iterations}
    return {"objective": ("grpo", ADVANTAGE | {"beta": beta}), "args": NESTED | args}


CORNERS = {
    f"grpo, accumulation {a}, beta {b:g}, {i} iterations": matrix(a, b, i)
    for a, b, i in itertools.product((1, 4), (0.0, 0.04), (1, 2))
}
ENGINE = {"num_iterations": 2, "gradient_accumulation_steps": 2}
TWICE = {"num_iterations": 2, "max_steps": 6}

GRPO: dict[str, dict[str, Any]] = CORNERS | {
    "dapo": {
        "objective": ("dapo", ADVANTAGE),
        "args": {"loss_type": "dapo", "epsilon_high": 0.28, "num_iterations": 2, "gradient_accumulation_steps": 4},
    },
    "dr_grpo": {
        "objective": ("dr_grpo", {"length": 8}),
        "args": {
            "loss_type": "dr_grpo",
            "scale_rewards": "none",
            "num_iterations": 2,
            "gradient_accumulation_steps": 4,
        },
    },
    "gspo": {
        "objective": ("gspo", ADVANTAGE | {"epsilon": 0.02, "epsilon_high": 0.03}),
        "args": {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon": 0.02,
            "epsilon_high": 0.03,
            "num_iterations": 2,
        },
    },
    "two rewards": {
        "objective": ("dapo", ADVANTAGE),
        "args": {"loss_type": "dapo", "epsilon_high": 0.28, "num_iterations": 2, "reward_weights": [0.7, 0.5]},
        "rewards": 2,
    },
    "three rewards, one asynchronous": {
        "objective": ("dapo", ADVANTAGE),
        "args": {"loss_type": "dapo", "epsilon_high": 0.28, "num_iterations": 2, "reward_weights": [0.7, 0.5, 0.2]},
        "rewards": 3,
    },
    "cispo": {
        "objective": ("cispo", ADVANTAGE | {"high": 1.1}),
        "args": {"loss_type": "cispo", "epsilon_high": 1.1, "num_iterations": 2, "gradient_accumulation_steps": 2},
    },
    "sapo": {
        "objective": ("sapo", ADVANTAGE),
        "args": {"loss_type": "sapo", "num_iterations": 2, "gradient_accumulation_steps": 2},
    },
    "engine, token_truncate": {
        "objective": ("grpo", ADVANTAGE),
        "args": NESTED | ENGINE | {"vllm_importance_sampling_mode": "token_truncate"},
        "engine": True,
    },
    "engine, sequence_mask, penalised": {
        "objective": ("grpo", ADVANTAGE | {"beta": 0.04}),
        "args": NESTED | ENGINE | {"vllm_importance_sampling_mode": "sequence_mask", "beta": 0.04},
        "engine": True,
    },
    "engine, gspo, sequence_truncate": {
        "objective": ("gspo", ADVANTAGE | {"epsilon": 0.02, "epsilon_high": 0.03}),
        "args": ENGINE
        | {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon": 0.02,
            "epsilon_high": 0.03,
            "vllm_importance_sampling_mode": "sequence_truncate",
        },
        "engine": True,
    },
    "high-entropy tokens": {
        "objective": ("dapo", ADVANTAGE),
        "args": {"loss_type": "dapo", "epsilon_high": 0.28, "num_iterations": 2, "top_entropy_quantile": 0.5},
    },
    "off-policy masked": {
        "objective": ("grpo", ADVANTAGE),
        "args": NESTED | {"num_iterations": 4, "off_policy_mask_threshold": 1e-4},
    },
    "adapter weights": {
        "objective": ("grpo", ADVANTAGE | {"beta": 0.04}),
        "args": NESTED | {"num_iterations": 2, "beta": 0.04},
        "peft": True,
    },
    # TRL's constants by name, and nothing set but the loss.
    "constants of grpo": {"objective": ("geomalign.adapters.trl.constants:grpo", {}), "args": NESTED | TWICE},
    "constants of dapo": {
        "objective": ("geomalign.adapters.trl.constants:dapo", {}),
        "args": {"loss_type": "dapo"} | TWICE,
    },
    "constants of gspo": {
        "objective": ("geomalign.adapters.trl.constants:gspo", {}),
        "args": {"loss_type": "grpo", "importance_sampling_level": "sequence"} | TWICE,
    },
    "constants of sapo": {
        "objective": ("geomalign.adapters.trl.constants:sapo", {}),
        "args": {"loss_type": "sapo"} | TWICE,
    },
}
if "entropy_coef" in trl.GRPOConfig.__dataclass_fields__:
    # Releases with an entropy bonus also count only the tokens in the loss, and rescale that count where one rollout
    # serves several optimiser steps; older ones divide by the truncated completions' tokens too.
    GRPO["truncated masked"] = {
        "objective": ("dapo", ADVANTAGE),
        "args": {
            "loss_type": "dapo",
            "epsilon_high": 0.28,
            "gradient_accumulation_steps": 4,
            "num_iterations": 2,
            "mask_truncated_completions": True,
            "max_completion_length": 12,
        },
    }
    GRPO["entropy bonus"] = {
        "objective": ("dapo", ADVANTAGE),
        "args": {
            "loss_type": "dapo",
            "epsilon_high": 0.28,
            "gradient_accumulation_steps": 2,
            "steps_per_generation": 4,
            "entropy_coef": 0.05,
        },
    }
DPO: dict[str, dict[str, Any]] = {
    "dpo": {"objective": ("dpo", {"beta": 0.3}), "args": {"loss_type": ["sigmoid"]}},
    "dpo, accumulated": {
        "objective": ("dpo", {"beta": 0.3}),
        "args": {"loss_type": ["sigmoid"], "gradient_accumulation_steps": 4},
    },
    "slic": {"objective": ("slic", {"beta": 0.3}), "args": {"loss_type": ["hinge"]}},
    "precomputed": {
        "objective": ("dpo", {"beta": 0.3}),
        "args": {"loss_type": ["sigmoid"], "precompute_ref_log_probs": True},
    },
    "adapter weights": {"objective": ("dpo", {"beta": 0.3}), "args": {"loss_type": ["sigmoid"]}, "peft": True},
}


ADAPTIVE: dict[str, Any] = {"objective": ("mirror_descent", {}), "control": "kl=1e-3 rate=1.0"}
"""An objective whose KL divergence from the old policy a controller keeps at a target."""

SPLIT = [*CORNERS, "dapo", "gspo", "two rewards", "engine, sequence_mask, penalised"]


@functools.cache
def run(case: str) -> dict[str, Any]:
    """A run of the JSON case, once per session of pytest."""
    return trl_worker.run(json.loads(case))


def ours(kind: str, case: dict[str, Any]) -> dict[str, Any]:
    return run(json.dumps(case | {"trainer": kind, "ours": True}))


def theirs(kind: str, case: dict[str, Any]) -> dict[str, Any]:
    return run(json.dumps(case | {"trainer": kind, "ours": False}))


def assert_same_training(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a["weights"].keys() == b["weights"].keys()
    for name, weight in a["weights"].items():
        torch.testing.assert_close(weight, b["weights"][name], atol=1e-6, rtol=0)
    assert a["events"] == b["events"] and a["events"][-1] == "end"
    moved = [(w - a["start"][n]).abs().max() for n, w in a["weights"].items() if n in a["start"]]
    assert not moved or max(moved) > 1e-3
    for mine, host in zip(a["log"], b["log"], strict=True):
        assert host.keys() <= mine.keys()
        if "grad_norm" in host:
            assert mine["grad_norm"] == pytest.approx(host["grad_norm"], abs=1e-5, rel=1e-4)
            assert any(name.startswith("geom/") for name in mine)
    assert {name for name in a["logged"] - b["logged"] if not name.startswith(("geom/", "eval_geom/"))} == set()


@pytest.mark.parametrize("name", GRPO)
def test_grpo_trains_the_same_weights(name: str) -> None:
    assert_same_training(ours("grpo", GRPO[name]), theirs("grpo", GRPO[name]))


def test_our_weights_of_an_engine_are_trls() -> None:
    """`ga.TruncatedImportance`, from the engine's log-probabilities, in the place of TRL's correction."""
    args = NESTED | ENGINE | {"vllm_importance_sampling_mode": "token_truncate"}
    case = {"objective": ("grpo", ADVANTAGE), "args": args, "engine": True}
    off = {"cap": 3.0, "ours_config": {"vllm_importance_sampling_correction": False}}
    mine, host = ours("grpo", case | off), theirs("grpo", case)
    unweighted = ours("grpo", case | {"ours_config": off["ours_config"]})
    for name, weight in mine["weights"].items():
        torch.testing.assert_close(weight, host["weights"][name], atol=1e-6, rtol=0)
    assert max((w - unweighted["weights"][n]).abs().max() for n, w in mine["weights"].items()) > 1e-3


def test_the_constants_of_the_papers_train_other_weights() -> None:
    mine = ours("grpo", GRPO["constants of dapo"] | {"objective": ("dapo", {})})
    host = theirs("grpo", GRPO["constants of dapo"])
    assert max((w - host["weights"][n]).abs().max() for n, w in mine["weights"].items()) > 1e-4


def test_the_standard_deviation_of_trl_pulls_alike_rewards_less() -> None:
    reward = torch.tensor([0.01, -0.01], dtype=torch.float64) / 2**0.5  # a standard deviation of 0.01
    batch = ga.Batch(torch.zeros(2, 1, dtype=torch.float64), reward=reward)
    papers, trls = (
        ga.recipes.get(name).terms[0][1].drive(batch) for name in ("grpo", "geomalign.adapters.trl.constants:grpo")
    )
    torch.testing.assert_close(trls / papers, torch.full_like(papers, 0.010001 / 0.0101), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", DPO)
def test_dpo_trains_the_same_weights(name: str) -> None:
    assert_same_training(ours("dpo", DPO[name]), theirs("dpo", DPO[name]))


def on_two_processes(cases: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The runs of all cases, on two gloo processes in one torchrun."""
    out = folder / "results.pt"
    script = Path(__file__).with_name("trl_worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [*command, json.dumps(cases), str(out)], env=environment, capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: list[dict[str, Any]] = torch.load(out, weights_only=False)
    return found


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Adapter and TRL on two gloo processes, all cases in one torchrun."""
    names = [*(("grpo", name) for name in SPLIT), ("dpo", "dpo"), ("dpo", "dpo, accumulated"), ("dpo", "slic")]
    cases: list[dict[str, Any]] = []
    for kind, name in names:
        case = {"grpo": GRPO, "dpo": DPO}[kind][name] | {"trainer": kind}
        if kind == "grpo":
            # Two rows per process and groups of four: every group is split across both.
            case = case | {"args": case["args"] | {"per_device_train_batch_size": 2}}
        cases += [case | {"ours": True}, case | {"ours": False}]
    results = on_two_processes(cases, tmp_path_factory.mktemp("two"))
    return {f"{kind}: {name}": (results[2 * k], results[2 * k + 1]) for k, (kind, name) in enumerate(names)}


ROLLOUTS = {"num_iterations": 2, "max_steps": 8, "per_device_train_batch_size": 2}


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Runs with a controller, which nobody told how many processes there are, at targets where no bound acts."""
    folder = tmp_path_factory.mktemp("controlled")
    saved = ROLLOUTS | {"save_strategy": "steps", "save_steps": 4, "output_dir": str(folder / "run")}
    recorded = str(folder / "rollouts")
    adaptive = ADAPTIVE | {"control": "kl=3 rate=1.0", "trainer": "grpo", "ours": True}
    pairs = {"objective": ("dpo", {"beta": 0.3}), "control": "kl=6 rate=0.5 low=1.0 initial=2.0", "trainer": "dpo"}
    region: dict[str, Any] = {"objective": ("tests.adapters.trl_worker:region", {}), "trainer": "dpo"}
    cases = [
        adaptive | {"args": ROLLOUTS, "ours_args": {"record": recorded}},
        adaptive | {"args": saved, "resume": 4},
        pairs | {"ours": True, "args": {"per_device_train_batch_size": 2, "max_steps": 4}},
        pairs
        | {"ours": True, "args": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "max_steps": 4}},
        region | {"ours": True, "args": {"per_device_train_batch_size": 2, "max_steps": 3}},
    ]
    names = ("straight", "resumed", "pairs", "pairs, accumulated", "region")
    found = dict(zip(names, on_two_processes(cases, folder), strict=True))
    one = pairs | {"args": {"per_device_train_batch_size": 4, "max_steps": 4}}
    alone = region | {"args": {"per_device_train_batch_size": 4, "max_steps": 3}}
    return found | {
        "rollouts": recorded,
        "pairs, one process": ours("dpo", one),
        "region, one process": ours("dpo", alone),
    }


def test_two_processes_set_the_stiffness_of_one(controlled: dict[str, Any]) -> None:
    """One process that is shown the rows of both, as they recorded them, arrives at the same μ, rollout by rollout."""
    rows, columns = ga.audit.read(controlled["rollouts"]), controlled["straight"]["log"]
    objective, one = ga.recipes.mirror_descent(), ga.AdaptiveStiffness(3, rate=1.0)
    expected = []
    for rollout in sorted({row["rollout"] for row in rows}):
        expected.append(float(one.stiffness))
        one.observe(objective(ga.audit.as_batch([row for row in rows if row["rollout"] == rollout]).batch))
        one.step()
        assert abs(one.readings()["over_target"] - 1) < 1
    assert len(rows) == 8 * 4 and len(expected) == 4
    assert len({round(mu, 6) for mu in expected}) == 4
    ranks = controlled["straight"]["stiffness"]
    assert ranks[0] == ranks[1] == pytest.approx(expected[-1], rel=1e-3)
    logged = [row["geom/controller/stiffness"] for row in columns if "geom/controller/stiffness" in row]
    assert logged[::2] == logged[1::2] == pytest.approx(expected, rel=1e-3)


def test_two_processes_continue_from_a_checkpoint(controlled: dict[str, Any]) -> None:
    """Each with what it alone had observed of the rollout that the checkpoint ended."""
    straight, resumed = controlled["straight"], controlled["resumed"]
    assert resumed["stiffness"] == straight["stiffness"]
    for name, weight in straight["weights"].items():
        torch.testing.assert_close(resumed["weights"][name], weight, atol=1e-6, rtol=0)


@pytest.mark.parametrize("split", ["pairs", "pairs, accumulated"])
def test_pairs_on_two_processes_set_the_stiffness_of_one(controlled: dict[str, Any], split: str) -> None:
    whole, parts = controlled["pairs, one process"], controlled[split]
    assert parts["stiffness"][0] == parts["stiffness"][1] == pytest.approx(whole["stiffness"][0], rel=1e-5)
    stiffness = [row["geom/controller/stiffness"] for row in whole["log"] if "geom/controller/stiffness" in row]
    assert len(set(stiffness)) > 2
    for name, weight in whole["weights"].items():
        torch.testing.assert_close(parts["weights"][name], weight, atol=1e-6, rtol=0)


def test_a_drive_of_all_pairs_is_that_of_one_process(controlled: dict[str, Any]) -> None:
    """`TrustRegion` solves one stiffness from all pairs of a step, whichever process holds them."""
    for name, weight in controlled["region, one process"]["weights"].items():
        torch.testing.assert_close(controlled["region"]["weights"][name], weight, atol=1e-6, rtol=0)


def test_a_description_is_its_objective() -> None:
    """`objective="grpo beta=0.04"` trains what `ga.recipes.grpo(beta=0.04)` does."""
    args = NESTED | {"num_iterations": 2, "beta": 0.04}
    described, made = (
        ours("grpo", {"objective": x, "args": args}) for x in ("grpo beta=0.04", ("grpo", {"beta": 0.04}))
    )
    for name, weight in made["weights"].items():
        torch.testing.assert_close(described["weights"][name], weight, atol=0, rtol=0)


@pytest.mark.parametrize(
    "name", [*(f"grpo: {name}" for name in SPLIT), "dpo: dpo", "dpo: dpo, accumulated", "dpo: slic"]
)
def test_two_processes_train_the_same_weights(two_processes: dict[str, Any], name: str) -> None:
    assert_same_training(*two_processes[name])


def test_an_uneven_last_micro_batch_is_part_of_the_mean() -> None:
    """Six pairs as 4 + 2 make the step of six at once, where TRL averages the two means."""
    case = {"objective": ("dpo", {"beta": 0.3}), "rows": 6}
    parts = ours("dpo", case | {"args": {"gradient_accumulation_steps": 2, "max_steps": 2}})
    whole = theirs("dpo", case | {"args": {"per_device_train_batch_size": 6, "max_steps": 2}})
    averaged = theirs("dpo", case | {"args": {"gradient_accumulation_steps": 2, "max_steps": 2}})
    for name, weight in parts["weights"].items():
        torch.testing.assert_close(weight, whole["weights"][name], atol=1e-6, rtol=0)
    assert max((w - averaged["weights"][n]).abs().max() for n, w in parts["weights"].items()) > 1e-5


def test_ipo_equals_trl_up_to_its_length() -> None:
    """TRL divides by the completion mask's length, which the recipe does too (`normalize="mean"`)."""
    case = {"objective": ("ipo", {"tau": 0.3}), "args": {"loss_type": ["ipo"]}}
    assert_same_training(ours("dpo", case), theirs("dpo", case))


@pytest.mark.parametrize("name", ["opo", "gopo", "mirror_descent", "rloo", "reinforce"])
def test_what_trl_has_not_trains_too(name: str) -> None:
    args = {"num_iterations": 2, "gradient_accumulation_steps": 2}
    result = ours("grpo", {"objective": (name, {}), "args": args})
    assert max((w - result["start"][n]).abs().max() for n, w in result["weights"].items()) > 1e-4
    assert all(torch.isfinite(w).all() for w in result["weights"].values())


def test_a_controlled_run_continues_from_a_checkpoint() -> None:
    """The multiplier is part of the run: without its state the second half would start from the first one's μ."""
    args = {"num_iterations": 2, "max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    case = ADAPTIVE | {"args": args}
    straight = ours("grpo", case)
    resumed = ours("grpo", case | {"resume": 4})
    for name, weight in straight["weights"].items():
        torch.testing.assert_close(resumed["weights"][name], weight, atol=1e-6, rtol=0)
    stiffness = [row["geom/controller/stiffness"] for row in straight["log"] if "geom/kl" in row]
    assert stiffness[0] == 1.0 and len(set(stiffness)) > 1


def test_evaluation_leaves_a_controller_alone() -> None:
    """Evaluating after every step, also in the middle of a rollout, changes neither μ nor the weights."""
    args = {"num_iterations": 2, "max_steps": 5}
    case = ADAPTIVE | {"args": args}
    plain, evaluated = ours("grpo", case), ours("grpo", case | {"evaluate_each_step": True})
    assert evaluated["events"].count("evaluate") == 5
    for name, weight in plain["weights"].items():
        torch.testing.assert_close(evaluated["weights"][name], weight, atol=0, rtol=0)
    stiffness = [row["geom/controller/stiffness"] for row in plain["log"] if "geom/kl" in row]
    seen = [row["eval_geom/controller/stiffness"] for row in evaluated["log"] if "eval_loss" in row]
    assert seen == stiffness and len(set(stiffness)) > 1


def test_a_controller_of_pairs_counts_optimiser_steps() -> None:
    """DPO with an annealed β: its steps, not its micro-batches and not its evaluations, and it survives a resume."""
    args = {"max_steps": 4, "gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": 2}
    case = {"objective": ("dpo", {"beta": 1.0}), "annealed": [2.0, 8.0, 4], "args": args}
    straight = ours("dpo", case)
    stiffness = [row["geom/controller/stiffness"] for row in straight["log"] if "geom/kl" in row or "loss" in row]
    assert stiffness == pytest.approx([2.0, 4.0, 6.0, 8.0])
    for changed in ({"resume": 2}, {"evaluate_each_step": True}):
        other = ours("dpo", case | changed)
        for name, weight in straight["weights"].items():
            torch.testing.assert_close(other["weights"][name], weight, atol=1e-6, rtol=0)


def test_a_checkpoint_without_the_controller_is_refused() -> None:
    args = {"max_steps": 4, "num_iterations": 2, "save_strategy": "steps", "save_steps": 2}
    case = ADAPTIVE | {"args": args, "resume": 2, "forget": True}
    with pytest.raises(ValueError, match=r"has no geometry\.pt: .* without a controller"):
        ours("grpo", case)


def test_a_checkpoint_of_a_controller_is_refused_without_one() -> None:
    args = {"max_steps": 4, "num_iterations": 2, "save_strategy": "steps", "save_steps": 2}
    with pytest.raises(ValueError, match="holds the state of a controller, and this trainer has none"):
        ours("grpo", ADAPTIVE | {"args": args, "resume": 2, "uncontrolled": True})


def test_trl_advantages_can_drive() -> None:
    """With `advantage="trl"` and the identity geometry, TRL's own scaling of several rewards is what pulls."""
    args = {"loss_type": "dapo", "num_iterations": 2, "scale_rewards": "batch"}
    case = {"objective": ("ppo", {}), "args": args, "rewards": 2}
    assert_same_training(ours("grpo", case | {"ours_args": {"advantage": "trl"}}), theirs("grpo", case))


def test_evaluation_reports_both() -> None:
    case = {"objective": ("grpo", ADVANTAGE), "args": NESTED | {"num_iterations": 2, "max_steps": 2}, "evaluate": True}
    mine, host = ours("grpo", case)["metrics"], theirs("grpo", case)["metrics"]
    assert host.keys() <= mine.keys()
    assert mine["eval_loss"] == pytest.approx(host["eval_loss"], abs=1e-5)
    case = {"objective": ("dpo", {"beta": 0.3}), "args": {"max_steps": 2}, "evaluate": True}
    mine, host = ours("dpo", case)["metrics"], theirs("dpo", case)["metrics"]
    assert mine["eval_loss"] == pytest.approx(host["eval_loss"], abs=1e-5)


def test_on_policy_single_steps_are_called_inactive() -> None:
    result = ours("grpo", {"objective": ("opo", {}), "args": {"max_steps": 2}})
    assert any(text.startswith("InactiveGeometryWarning: geometry inactive") for text in result["warnings"])
    assert result["log"][0]["geom/inactive"] == 1.0
    active = ours("grpo", GRPO["grpo, accumulation 1, beta 0, 2 iterations"])
    assert not any(text.startswith("InactiveGeometryWarning") for text in active["warnings"])
    assert active["log"][1]["geom/inactive"] < 1.0


UNFIT = "UnfitObjectiveWarning: the "


@pytest.mark.parametrize(
    ("kind", "case", "said"),
    [
        ("dpo", {"objective": ("grpo", {})}, "objective reads the rewards of sampled responses"),
        ("dpo", {"objective": ("reinforce", {})}, "objective reads the rewards of sampled responses"),
        ("dpo", {"objective": ("kto", {})}, None),
        ("dpo", {"objective": ("dpo", {}), "args": {"gradient_accumulation_steps": 2}}, None),
        ("dpo", {"objective": ("aot", {}), "args": {"gradient_accumulation_steps": 2}}, "objective sorts the pairs"),
        ("dpo", {"objective": ("aot", {})}, None),
        ("dpo", {"objective": (f"{__package__}.trl_worker:region", {})}, None),
        (
            "dpo",
            {"objective": (f"{__package__}.trl_worker:region", {}), "args": {"gradient_accumulation_steps": 2}},
            "drive of a pair depends on the other pairs",
        ),
        ("grpo", {"objective": ("ppo", {})}, "objective reads advantages, and TRL has rewards"),
        ("grpo", {"objective": ("remax", {})}, "objective reads advantages, and TRL has rewards"),
        ("grpo", {"objective": ("ppo", {}), "ours_args": {"advantage": "trl"}}, None),
        ("grpo", {"objective": ("grpo", {})}, None),
    ],
)
def test_an_objective_that_does_not_fit_is_warned_of(kind: str, case: dict[str, Any], said: str | None) -> None:
    case = case | {"args": case.get("args", {}) | {"max_steps": 1}}
    seen = [text for text in ours(kind, case)["warnings"] if text.startswith(UNFIT)]
    assert [text[len(UNFIT) :][: len(said or "")] for text in seen] == ([said] if said else [])


def test_what_nothing_drives_is_refused() -> None:
    for kind, said in (("grpo", "driven by rewards"), ("dpo", "which response is preferred")):
        with pytest.raises(ValueError, match=said):
            ours(kind, {"objective": ("generalized_jsd", {}), "args": {"beta": 0.1}})


def test_superseded_arguments_are_named() -> None:
    seen = ours("grpo", GRPO["grpo, accumulation 1, beta 0, 1 iterations"])["warnings"]
    assert any(text.startswith("SupersededWarning: loss_type='grpo'") for text in seen)


def config(**arguments: Any) -> Any:
    base = trl_worker.common("unused") | {"per_device_train_batch_size": 4, "num_generations": 4}
    return trl.GRPOConfig(**trl_worker.known(trl.GRPOConfig, base | arguments))


@pytest.mark.parametrize(
    ("objective", "arguments", "message"),
    [
        (ga.recipes.dpo(), {}, "compares pairs"),
        (ga.ChiSquare(1.0), {}, "is not an objective"),
        ("oppo", {}, "there is no recipe 'oppo'"),
        (ga.recipes.grpo(beta=0.04), {}, "non-zero beta|beta is not zero"),
        (ga.recipes.opo(), {"top_entropy_quantile": 0.5}, "drops single tokens"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(
    objective: Any, arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    from geomalign.adapters.trl import GeometryGRPOTrainer

    with pytest.raises(ValueError, match=message):
        GeometryGRPOTrainer(
            trl_worker.model(),
            trl_worker.reward,
            args=config(**arguments),
            train_dataset=trl_worker.Dataset.from_dict({"prompt": ["a b"] * 8}),
            processing_class=trl_worker.tokenizer(),
            objective=objective,
        )


@pytest.mark.parametrize(
    ("objective", "mode", "message"),
    [
        (ga.recipes.opo(), "token_truncate", "weighs single tokens, but an event of this objective"),
        (
            dataclasses.replace(ga.recipes.ppo(), sampling=ga.TruncatedImportance(ga.Advantage())),
            "sequence_mask",
            "turn one off",
        ),
    ],
    ids=["tokens of a response", "twice"],
)
def test_engine_weights_that_do_not_fit_are_refused(objective: Any, mode: str, message: str) -> None:
    from geomalign.adapters.trl.arguments import check_grpo

    with pytest.raises(ValueError, match=message):
        check_grpo(objective, config(use_vllm=True, vllm_importance_sampling_mode=mode), "objective")


def test_a_drive_of_rollout_log_probs_says_how_to_get_them() -> None:
    from geomalign.adapters.trl import GeometryGRPOTrainer

    objective = ga.Objective(
        unit=ga.Sequence(), sampling=ga.Escort(0.5, inverse_probability=True), optimization=ga.ChiSquare(1.0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = GeometryGRPOTrainer(
            trl_worker.model(),
            trl_worker.reward,
            args=config(max_steps=1),
            train_dataset=trl_worker.Dataset.from_dict({"prompt": ["a b"] * 8}),
            processing_class=trl_worker.tokenizer(),
            objective=objective,
        )
    with pytest.raises(ValueError, match="num_iterations > 1"):
        trainer.train()


def test_the_example_of_the_documentation_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block of docs/trainers/trl.md, as it stands there, on a CPU."""
    page = (Path(__file__).parents[2] / "docs" / "trainers" / "trl.md").read_text(encoding="utf-8")
    code = re.search(r"```py\n(.*?)```", page, flags=re.DOTALL)[1]
    small = (
        "use_cpu=True, bf16=False, report_to='none', save_strategy='no', max_steps=2, per_device_train_batch_size=4, "
    )
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "model": trl_worker.loaded(str(tmp_path)),
        "reward": trl_worker.reward,
        "dataset": trl_worker.Dataset.from_dict({"prompt": ["a b"] * 8}),
    }
    code = code.replace("GRPOConfig(output", f"GRPOConfig({small}output")
    trl_worker.tokenizer().save_pretrained(tmp_path / "model-0")
    exec(compile(code, "trl.md", "exec"), names)
    assert names["trainer"].state.global_step == 2


def test_rollouts_are_recorded_for_the_audit(tmp_path: Path) -> None:
    """Six steps on three rollouts: half of them at the anchor, as `num_iterations=2` makes it."""
    from geomalign.audit import audit

    args = NESTED | {"num_iterations": 2, "max_steps": 6}
    folder = str(tmp_path / "rollouts")
    ours("grpo", {"objective": ("grpo", ADVANTAGE), "args": args, "ours_args": {"record": folder}})
    found = audit(folder)
    assert (found.facts["responses"], found.facts["rollouts"]) == (24, 3)
    assert found.facts["tokens_at_the_anchor"] == pytest.approx(0.5, abs=0.05)
    assert found.objectives["grpo"]["gradient_against_at_anchor"] > 0
    engine = NESTED | {"num_iterations": 2, "max_steps": 2, "vllm_importance_sampling_mode": "token_truncate"}
    folder = str(tmp_path / "engine")
    ours("grpo", {"objective": ("grpo", ADVANTAGE), "args": engine, "engine": True, "ours_args": {"record": folder}})
    assert audit(folder).facts["engine_log_ratio_abs_mean"] > 0.1


def test_completions_of_trl_are_read_by_the_audit(tmp_path: Path) -> None:
    """`log_completions=True` under the adapter, as TRL writes it: two rollouts, each in the tables of its two steps."""
    pytest.importorskip("pyarrow")
    from geomalign.audit import audit

    args = NESTED | {"num_iterations": 2, "max_steps": 4, "log_completions": True, "output_dir": str(tmp_path)}
    case = {"objective": ("grpo", ADVANTAGE), "args": args, "rewards": 2}
    # Of one function: what TRL logs as `reward` is weighted in some releases and not in others.
    logged = [row["rewards/reward/mean"] for row in ours("grpo", case)["log"] if "rewards/reward/mean" in row]
    found = audit(tmp_path / "completions", rewards={"reward": 1.0})
    assert (found.facts["responses"], found.facts["rollouts"], len(logged)) == (8, 2, 2)
    assert found.facts["reward_mean"] == pytest.approx(sum(logged) / 2, abs=1e-6)
    assert audit(tmp_path / "completions").facts["reward_mean"] > found.facts["reward_mean"]
    assert not found.objectives and found.advice[0].startswith("No log-probabilities")


def test_engine_weights_multiply_the_drive() -> None:
    """What TRL multiplies a clipped loss by, the drive carries: the loss is homogeneous in it."""
    from geomalign.adapters.trl.grpo import _weighted

    drive, weight = torch.tensor([2.0, -1.0]), torch.tensor([[0.5], [2.0]])
    assert torch.equal(_weighted(drive, weight), torch.tensor([1.0, -2.0]))
    tokens = torch.tensor([[1.0, 0.0, 2.0], [1.0, 1.0, 0.5]])
    assert torch.equal(_weighted(drive, tokens), drive[:, None] * tokens)
    policy = torch.randn(2, 3)
    batch = ga.Batch(policy, policy + 0.4 * torch.randn(2, 3))
    loss = ga.recipes.ppo()
    weighted = loss(batch, drive=_weighted(drive, tokens)).loss
    ratio = torch.exp(batch.policy - batch.old)
    surrogate = -torch.min(ratio * drive[:, None], ratio.clamp(0.8, 1.2) * drive[:, None])
    torch.testing.assert_close(weighted, (tokens * surrogate).mean())
